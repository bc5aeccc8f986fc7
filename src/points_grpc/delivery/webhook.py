"""What posts to a gateway, short messages and business events: signed JSON over HTTPS, and nothing followed.

The gateway proves to itself who posts and when by the signature over timestamp and body; it drops what it got before by
the idempotency key. Of its answer the status is read, and nothing else.
"""

from __future__ import annotations

import hmac
import http.client
import json
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from points_grpc.delivery.connection import Alarm, Line, conversation
from points_grpc.domain.letters import Letter, Undelivered
from points_grpc.domain.model import Notice

FINAL = frozenset({400, 410, 413, 422})
"""By these a gateway says that it will never take this letter. Others may pass: a key is mended, a rest is over."""

ANSWERED = frozenset({429}) | FINAL
"""Statuses that say nothing bad about the gateway."""


class Webhook:
    """One address, and how it knows who posts there."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[bytes],
        *,
        tls: ssl.SSLContext,
        timeout_s: float,
        now: Callable[[], datetime],
        alarm: Alarm,
    ) -> None:
        """Signs with each of the secrets, so that the gateway can be given a new one while it knows the old."""
        parts = urlsplit(url)
        self._https = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secrets = tuple(secrets)
        self._tls = tls
        self._timeout_s = timeout_s
        self._now = now
        self._alarm = alarm

    def post(self, body: bytes, idempotency_key: str) -> None:
        """Returns once the gateway took what it says, which it tells by a status 2xx; raises `Undelivered`."""
        timestamp = str(int(self._now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
            "User-Agent": "points-grpc",
            "X-Points-Timestamp": timestamp,
            "X-Points-Signature": ", ".join(signature(secret, timestamp, body) for secret in self._secrets),
        }
        with conversation(self._timeout_s, self._alarm) as line:
            status = self._post(line, body, headers)
        if not 200 <= status < 300:
            raise Undelivered(f"HTTP_{status}", final=status in FINAL, answered=status in ANSWERED)

    def _post(self, line: Line, body: bytes, headers: dict[str, str]) -> int:
        connection = _Connection(line, self._tls if self._https else None, self._host, self._port)
        try:
            connection.request("POST", self._path, body, headers)
            return connection.getresponse().status
        except http.client.HTTPException:
            raise Undelivered("HTTP_GARBLED") from None
        finally:
            connection.close()


class WebhookSender:
    """Posts letters to a webhook."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def send(self, letter: Letter) -> None:
        """Returns once the gateway took the letter; raises `Undelivered`."""
        self._webhook.post(body_of(letter), f"{letter.org_id}-{letter.message_id}")


class EventsWebhook:
    """Posts business events to a webhook, as they were queued."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def send(self, notice: Notice) -> None:
        """Returns once the other side took the event; raises `Undelivered`."""
        self._webhook.post(notice.body, f"{notice.org_id}-{notice.event_id}")


class _Connection(http.client.HTTPConnection):
    """HTTP over a line of ours, with TLS where it is given."""

    def __init__(self, line: Line, tls: ssl.SSLContext | None, host: str, port: int | None) -> None:
        super().__init__(host, port or (http.client.HTTP_PORT if tls is None else http.client.HTTPS_PORT))
        self._line = line
        self._tls = tls
        if tls is not None:
            self.default_port = http.client.HTTPS_PORT  # so that the host is named without it

    def connect(self) -> None:
        """Connects, as the inherited ones do."""
        connected = self._line.connect(self.host, self.port)
        self.sock = self._tls.wrap_socket(connected, server_hostname=self.host) if self._tls else connected


def body_of(letter: Letter) -> bytes:
    """The letter as the gateway gets it: ids as texts, since JSON's numbers end at 2^53."""
    return json.dumps(
        {
            "organization_id": str(letter.org_id),
            "message_id": str(letter.message_id),
            "action": letter.action.name,
            "channel": letter.channel.value,
            "to": letter.target,
            "subject": letter.subject,
            "text": letter.text,
            "code": letter.code,
            "expires_at": letter.expires_at.isoformat(),
        },
        ensure_ascii=False,
    ).encode()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`v1=` and the HMAC-SHA256 of timestamp, a dot and the body, in hex."""
    return "v1=" + hmac.digest(secret, timestamp.encode() + b"." + body, "sha256").hex()
