"""How codes and business events leave a server: from its settings to their senders, or a sentence why not.

Passwords and signing secrets come from files that their owner alone can read, never from the command line. What is
wrong with a setting, or the secret that it names, is `SettingWrong`; a file that cannot be read, another ValueError.
"""

from __future__ import annotations

import ipaddress
import ssl
import sys
import time
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit

from points_grpc.delivery.console import ConsoleSender
from points_grpc.delivery.smtp import Relay, Security, SmtpSender
from points_grpc.delivery.webhook import EventsWebhook, Webhook, WebhookSender
from points_grpc.domain.model import Channel
from points_grpc.service.alarms import alarm
from points_grpc.service.breaker import CircuitBreaker
from points_grpc.service.outbox import Sender
from points_grpc.service.ports import SettingWrong
from points_grpc.service.publisher import Post
from points_grpc.settings import Settings

SIGNING_SECRET_LENGTH_MIN = 32
SIGNING_SECRETS_MAX = 2


def senders_of(settings: Settings) -> dict[Channel, Sender]:
    """The sender of each channel that has one. E-mails go by SMTP and the rest by webhook, where these are set."""
    found: dict[Channel, Sender] = {}
    if settings.otp_sender == "console":
        found = dict.fromkeys(Channel, ConsoleSender(sys.stdout))
    if settings.smtp_host:
        found[Channel.EMAIL] = CircuitBreaker(_smtp(settings), monotonic=time.monotonic)
    if settings.otp_webhook_url:
        codes = WebhookSender(_webhook(settings, "otp_webhook", url=settings.otp_webhook_url))
        found[Channel.MOBILE] = CircuitBreaker(codes, monotonic=time.monotonic)
    return found


def post_of(settings: Settings) -> Post | None:
    """Where business events are posted, if anywhere."""
    if not settings.events_webhook_url:
        return None
    events = EventsWebhook(_webhook(settings, "events_webhook", url=settings.events_webhook_url))
    return CircuitBreaker(events, monotonic=time.monotonic)


def _smtp(settings: Settings) -> SmtpSender:
    security = Security(settings.smtp_security)
    if security is Security.NONE and not _is_loopback(settings.smtp_host):
        raise SettingWrong("smtp_security: none is for a relay on this host; others need starttls or tls")
    if "@" not in parseaddr(settings.smtp_from)[1]:
        raise SettingWrong("smtp_from: name the address that codes come from, as in Points <no-reply@example.com>")
    if bool(settings.smtp_user) != (settings.smtp_password_file is not None):
        raise SettingWrong("smtp_user and smtp_password_file go together")
    password = _lines("smtp_password_file", settings.smtp_password_file)[0] if settings.smtp_password_file else ""
    relay = Relay(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=security,
        sender=settings.smtp_from,
        user=settings.smtp_user,
        password=password,
        timeout_s=settings.otp_timeout_s,
    )
    return SmtpSender(relay, tls=_trust("smtp_ca_file", settings.smtp_ca_file), now=_now, alarm=alarm)


def _webhook(settings: Settings, name: str, *, url: str) -> Webhook:
    """A webhook by the beginning of its settings' names."""
    secret_file, ca_file = {
        "otp_webhook": (settings.otp_webhook_secret_file, settings.otp_webhook_ca_file),
        "events_webhook": (settings.events_webhook_secret_file, settings.events_webhook_ca_file),
    }[name]
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.fragment or not _is_plain(url):
        raise SettingWrong(f"{name}_url: an address like https://gateway.example.com/otp")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise SettingWrong(f"{name}_url: http is for a gateway on this host; others need https")
    if parts.username is not None or parts.password is not None:
        raise SettingWrong(f"{name}_url: no credentials in the address; the signature proves who posts")
    if secret_file is None:
        raise SettingWrong(f"{name}_secret_file: name the file with the secret that the gateway checks signatures by")
    secrets = _lines(f"{name}_secret_file", secret_file)
    if len(secrets) > SIGNING_SECRETS_MAX or any(len(one) < SIGNING_SECRET_LENGTH_MIN for one in secrets):
        raise SettingWrong(
            f"{name}_secret_file: one line, or {SIGNING_SECRETS_MAX} while the secret is replaced, "
            f"of at least {SIGNING_SECRET_LENGTH_MIN} characters"
        )
    return Webhook(
        url,
        [one.encode() for one in secrets],
        tls=_trust(f"{name}_ca_file", ca_file),
        timeout_s=settings.otp_timeout_s,
        now=_now,
        alarm=alarm,
    )


def _lines(setting: str, path: Path) -> list[str]:
    """The lines of a secret file, without the empty ones."""
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(f"{setting}: {path} can be read by others: chmod 600 it")
        found = [line for line in path.read_text().splitlines() if line]
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{setting}: {path} cannot be read") from None
    if not found:
        raise SettingWrong(f"{setting}: {path} is empty")
    return found


def _trust(setting: str, path: Path | None) -> ssl.SSLContext:
    """Trusts the authorities of this host, or those of the file alone."""
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
    except OSError:  # ssl.SSLError is one
        raise ValueError(f"{setting}: {path} holds no certificates that can be read") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_plain(url: str) -> bool:
    """Whether it can stand in a request as it is, and names a port if any that exists."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return False
    return url.isascii() and url.isprintable() and " " not in url and port != 0


def _now() -> datetime:
    return datetime.now(UTC)
