"""Posts to a real gateway: what it can prove by the signature, what its answers mean, and what is never followed."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from points_grpc.delivery.webhook import Webhook, WebhookSender, body_of, signature
from points_grpc.domain.letters import Letter, Undelivered
from points_grpc.domain.model import Channel, OtpAction
from points_grpc.service.alarms import alarm
from relays import Gateway, authority, dripping, serving, silent
from running import free_port

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECRET = b"k" * 32
LETTER = Letter(7, 2**60, OtpAction.REDEMPTION, Channel.MOBILE, "+15550000011", "123456", "", "123456 für Ann", NOW)


def sender(url: str, *secrets: bytes, trusts: Path | None = None, timeout_s: float = 5.0) -> WebhookSender:
    """A sender to a gateway."""
    context = ssl.create_default_context(cafile=None if trusts is None else str(trusts))
    return WebhookSender(
        Webhook(url, secrets or (SECRET,), tls=context, timeout_s=timeout_s, now=lambda: NOW, alarm=alarm)
    )


def failure(sending: WebhookSender) -> tuple[str, bool, bool]:
    """Cause of the failure, whether it is final, and whether the gateway works."""
    with pytest.raises(Undelivered) as raised:
        sending.send(LETTER)
    return raised.value.cause, raised.value.final, raised.value.answered


def test_post_has_all_that_a_gateway_needs() -> None:
    """Number, text and code, ids as texts, a key by which it drops what it got before; the query of the address too."""
    with Gateway() as gateway:
        sender(gateway.url + "?route=7").send(LETTER)
    [post] = gateway.posts

    assert "/otp?route=7" == post.path
    assert ("application/json", f"7-{2**60}") == (post.headers["content-type"], post.headers["idempotency-key"])
    assert {
        "organization_id": "7",
        "message_id": str(2**60),
        "action": "REDEMPTION",
        "channel": "MOBILE",
        "to": "+15550000011",
        "subject": "",
        "text": "123456 für Ann",
        "code": "123456",
        "expires_at": "2026-03-01T12:00:00+00:00",
    } == json.loads(post.body)


def test_signature_proves_who_posted_what_and_when() -> None:
    """It is over timestamp and body, as the documentation says, by each of the secrets in force."""
    old, new = b"o" * 32, b"n" * 40
    with Gateway() as gateway:
        sender(gateway.url, new, old).send(LETTER)
    [post] = gateway.posts
    signed = post.headers["x-points-timestamp"].encode() + b"." + post.body
    expected = [f"v1={hmac.new(secret, signed, hashlib.sha256).hexdigest()}" for secret in (new, old)]

    assert str(int(NOW.timestamp())) == post.headers["x-points-timestamp"]
    assert expected == post.headers["x-points-signature"].split(", ")


def test_the_documented_example() -> None:
    """The example of docs/delivery.md is what the sender computes, and its body is one that it posts."""
    page = Path(__file__).parents[2] / "docs" / "delivery.md"
    example = page.read_text().partition("<!-- example: webhook -->\n```\n")[2].partition("\n```")[0]
    values = dict(line.split(maxsplit=1) for line in example.splitlines())
    body = values["body"].encode()

    assert values["signature"] == signature(values["secret"].encode(), values["timestamp"], body)
    assert json.loads(body_of(LETTER)).keys() == json.loads(body).keys()


@pytest.mark.parametrize(
    ("status", "final", "answered"),
    [
        (400, True, True),
        (410, True, True),
        (422, True, True),
        (401, False, False),
        (404, False, False),
        (429, False, True),
        (500, False, False),
        (503, False, False),
    ],
)
def test_answers_other_than_success_have_their_status_for_a_name(status: int, final: bool, answered: bool) -> None:
    """Those that speak against the letter end it; those that may pass let it wait."""
    with Gateway() as gateway:
        gateway.status = status

        assert (f"HTTP_{status}", final, answered) == failure(sender(gateway.url))


@pytest.mark.parametrize("status", [201, 202, 204])
def test_every_success_is_one(status: int) -> None:
    """Gateways differ in what they say."""
    with Gateway() as gateway:
        gateway.status = status
        sender(gateway.url).send(LETTER)

        assert 1 == len(gateway.posts)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirection_is_not_followed(status: int) -> None:
    """A code goes where the operator said, and nowhere else."""
    with Gateway() as gateway, Gateway() as elsewhere:
        gateway.status, gateway.headers = status, {"Location": elsewhere.url}
        found = failure(sender(gateway.url))

        assert (f"HTTP_{status}", False, False) == found
        assert [] == elsewhere.posts


def test_gateway_must_prove_who_it_is(tmp_path: Path) -> None:
    """By a certificate that is trusted, for its name."""
    trusted = authority(tmp_path)
    with Gateway(tls=serving(trusted)) as gateway:
        sender(gateway.url, trusts=trusted).send(LETTER)
        untrusted = failure(sender(gateway.url))
        misnamed = failure(sender(gateway.url.replace("localhost", "127.0.0.1"), trusts=trusted))

    assert ("TLS_CERTIFICATE", False, False) == untrusted == misnamed
    assert 1 == len(gateway.posts)


def test_gateway_that_is_away_or_silent_is_called_so() -> None:
    """Nothing waits longer than the time limit."""
    with silent() as port:
        assert ("TIMEOUT", False, False) == failure(sender(f"http://127.0.0.1:{port}/", timeout_s=0.2))
    assert ("CONNECTION", False, False) == failure(sender(f"http://127.0.0.1:{free_port()}/"))


def test_gateway_that_drips_is_cut_off() -> None:
    """A byte now and then does not hold a thread beyond the time limit."""
    with dripping(b"2", every_s=0.05) as port:
        assert ("TIMEOUT", False, False) == failure(sender(f"http://127.0.0.1:{port}/", timeout_s=0.3))


def test_gateway_that_drips_behind_its_status_has_said_what_counts() -> None:
    """It is cut off in the middle of its headers, and the letter is delivered."""
    with dripping(b"X-Drop: 1\r\n", answers=[b"HTTP/1.1 200 OK\r\n"], every_s=0.05) as port:
        sender(f"http://127.0.0.1:{port}/", timeout_s=0.3).send(LETTER)


@pytest.mark.parametrize("said", [b"123456 +15550000011\r\n\r\n", b""])
def test_answer_that_is_no_http_is_a_failure(said: bytes) -> None:
    """Whatever listens there, it did not say that it took the letter."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                while b"expires_at" not in connection.recv(65536):
                    pass
                connection.sendall(said)

        thread = Thread(target=serve)
        thread.start()
        cause, final, answered = failure(sender(f"http://127.0.0.1:{listening.getsockname()[1]}/"))
        thread.join()

    assert cause in {"HTTP_GARBLED", "CONNECTION"}
    assert (False, False) == (final, answered)
