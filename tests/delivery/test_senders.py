"""Senders from settings: which channel goes where, and what a server says that was told something it must not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from points_grpc.cli.senders import senders_of
from points_grpc.delivery.console import ConsoleSender
from points_grpc.domain.model import Channel
from points_grpc.service.breaker import CircuitBreaker
from points_grpc.settings import Settings

SMTP = {"smtp_host": "relay.example.com", "smtp_from": "no-reply@example.com"}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file with a secret, readable by its owner alone."""
    path = tmp_path / "secret"
    path.write_text("s" * 32 + "\n")
    path.chmod(0o600)
    return path


def settings(**given: Any) -> Settings:
    """Settings of a server."""
    return Settings.model_validate(given)


def refusal(**given: Any) -> str:
    """What a server with such settings says instead of starting."""
    with pytest.raises(ValueError, match=r":|together") as raised:
        senders_of(settings(**given))
    return str(raised.value)


def test_a_server_that_was_told_nothing_has_no_senders() -> None:
    """Then no code is issued (860), and none waits for a sender that never comes."""
    assert {} == senders_of(settings())


def test_each_channel_has_the_sender_that_was_set_for_it(secret: Path) -> None:
    """E-mails go to the relay and short messages to the gateway; the console takes the rest, if it was asked for."""
    webhook = {"otp_webhook_url": "https://gateway.example.com/otp", "otp_webhook_secret_file": secret}
    kinds = [
        {channel: type(one) for channel, one in senders_of(settings(**given)).items()}
        for given in (SMTP, webhook, SMTP | webhook, {"otp_sender": "console"}, SMTP | {"otp_sender": "console"})
    ]
    email, mobile = {Channel.EMAIL: CircuitBreaker}, {Channel.MOBILE: CircuitBreaker}
    console = dict.fromkeys(Channel, ConsoleSender)

    assert [email, mobile, email | mobile, console, console | email] == kinds


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.8.8.8"])
def test_plain_http_is_for_a_gateway_on_this_host(secret: Path, host: str) -> None:
    """Where nobody listens in."""
    url = f"http://{host}:8080/otp"

    assert [Channel.MOBILE] == list(senders_of(settings(otp_webhook_url=url, otp_webhook_secret_file=secret)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gateway.example.com/otp", "others need https"),
        ("http://localhost.example.com/otp", "others need https"),
        ("http://0x7f.1/otp", "others need https"),
        ("ftp://127.0.0.1/otp", "an address like"),
        ("nowhere.example.com/otp", "an address like"),
        ("https://gateway.example.com/a b", "an address like"),
        ("https://gateway.example.com/\r\nHost: x", "an address like"),
        ("https://gateway.example.com:99999/", "an address like"),
        ("https://gateway.example.com/#part", "an address like"),
        ("https://user:hidden@gateway.example.com/", "no credentials in the address"),
    ],
)
def test_addresses_of_gateways_that_are_refused(secret: Path, url: str, expected: str) -> None:
    """In words that say what to do, and do not repeat the address: it may hold a secret."""
    said = refusal(otp_webhook_url=url, otp_webhook_secret_file=secret)

    assert expected in said
    assert url not in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"smtp_security": "none"}, "is for a relay on this host"),
        ({"smtp_from": ""}, "name the address that codes come from"),
        ({"smtp_from": "Points"}, "name the address that codes come from"),
        ({"smtp_user": "points"}, "go together"),
        ({"smtp_ca_file": "/nonexistent.pem"}, "holds no certificates"),
        ({"smtp_user": "points", "smtp_password_file": "/nonexistent"}, "cannot be read"),
    ],
)
def test_settings_of_relays_that_are_refused(given: dict[str, str], expected: str) -> None:
    """Before the server starts, not when the first code is due."""
    assert expected in refusal(**(SMTP | given))


def test_secrets_that_others_can_read_are_refused(secret: Path) -> None:
    """As the file with the server's own keys is."""
    secret.chmod(0o640)

    assert "chmod 600" in refusal(**SMTP, smtp_user="points", smtp_password_file=secret)


@pytest.mark.parametrize("content", ["", "\n", "short\n", "\n".join("abc" * 32 for _ in range(3))])
def test_a_gateway_without_a_good_secret_is_refused(secret: Path, content: str) -> None:
    """A secret is long, and there are at most two."""
    secret.write_text(content)
    said = refusal(otp_webhook_url="https://gateway.example.com/", otp_webhook_secret_file=secret)

    assert "otp_webhook_secret_file" in said
    assert "short" not in said


def test_a_gateway_is_never_posted_to_unsigned() -> None:
    """It could not tell us from anybody else."""
    assert "name the file with the secret" in refusal(otp_webhook_url="https://gateway.example.com/")
