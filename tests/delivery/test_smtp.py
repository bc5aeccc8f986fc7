"""E-mails over a real SMTP relay: what arrives, what is never sent in the clear, and what failures are called."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from points_grpc.delivery import smtp
from points_grpc.delivery.smtp import Security, SmtpSender
from points_grpc.domain.letters import Letter, Undelivered
from points_grpc.domain.model import Channel, OtpAction
from points_grpc.service.alarms import alarm
from relays import HOST, Relay, authority, dripping, serving, silent
from running import free_port

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LETTER = Letter(
    7,
    4711,
    OtpAction.TRANSFER,
    Channel.EMAIL,
    "ann@example.org",
    "123456",
    "Code für Ann",
    "123456, fünf Minuten\n",
    NOW,
)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this host."""
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def relay(trusted: Path) -> Iterator[Relay]:
    """A relay that offers STARTTLS and asks for a login."""
    with Relay(tls=serving(trusted), user="points", password="s3cret") as running:
        yield running


def sender(port: int, trusts: Path | None = None, **given: object) -> SmtpSender:
    """A sender to a relay on this host."""
    values = {
        "host": HOST,
        "port": port,
        "security": Security.STARTTLS,
        "sender": "Points <no-reply@example.com>",
        "user": "points",
        "password": "s3cret",
        "timeout_s": 5.0,
    }
    context = ssl.create_default_context(cafile=None if trusts is None else str(trusts))
    return SmtpSender(smtp.Relay(**(values | given)), tls=context, now=lambda: NOW, alarm=alarm)  # type: ignore[arg-type]


def failure(sending: SmtpSender, letter: Letter = LETTER) -> tuple[str, bool, bool]:
    """Cause of the failure, whether it is final, and whether the relay works."""
    with pytest.raises(Undelivered) as raised:
        sending.send(letter)
    return raised.value.cause, raised.value.final, raised.value.answered


def test_letter_arrives_whole_over_a_protected_connection(relay: Relay, trusted: Path) -> None:
    """Sender, receiver, subject and text, with every letter of every alphabet, after STARTTLS and a login."""
    sender(relay.port, trusted).send(LETTER)
    [mail] = relay.mails

    assert ("ann@example.org", True, "points") == (mail.to, mail.protected, mail.user)
    assert "123456, fünf Minuten\n" == mail.text
    assert {
        "From": "Points <no-reply@example.com>",
        "To": "ann@example.org",
        "Subject": "Code für Ann",
        "Date": "Sun, 01 Mar 2026 12:00:00 +0000",
        "Message-ID": "<points.7.4711@example.com>",
        "Auto-Submitted": "auto-generated",
    }.items() <= dict(mail.message.items()).items()


def test_letter_that_is_sent_again_has_the_same_message_id(relay: Relay, trusted: Path) -> None:
    """By that a receiver who got it twice can tell; another letter has another."""
    sending = sender(relay.port, trusted)
    for letter in (LETTER, LETTER, replace(LETTER, message_id=4712)):
        sending.send(letter)
    first, again, other = (one.message["Message-ID"] for one in relay.mails)

    assert first == again != other


def test_letter_goes_over_tls_from_the_first_byte_where_that_is_set(trusted: Path) -> None:
    """The older way of port 465."""
    with Relay(tls=serving(trusted), implicit=True) as relay:
        sender(relay.port, trusted, security=Security.TLS, user="", password="").send(LETTER)

        assert 1 == len(relay.mails)


def test_letter_is_handed_over_in_the_clear_only_where_that_was_asked_for() -> None:
    """A relay without STARTTLS gets nothing, unless it is one on this host and the setting says so."""
    with Relay() as relay:
        strict = failure(sender(relay.port, user="", password=""))
        before = len(relay.mails)
        sender(relay.port, security=Security.NONE, user="", password="").send(LETTER)

        assert ("SMTP_NOT_OFFERED", False, False) == strict
        assert (0, 1) == (before, len(relay.mails))


def test_relay_that_cannot_prove_who_it_is_gets_nothing(relay: Relay, trusted: Path, tmp_path: Path) -> None:
    """A certificate that nobody vouches for, one of another authority, or one for another name."""
    expected = ("TLS_CERTIFICATE", False, False)

    assert expected == failure(sender(relay.port))
    assert expected == failure(sender(relay.port, authority(tmp_path)))
    assert expected == failure(sender(relay.port, trusted, host="127.0.0.1"))
    assert [] == relay.mails


def test_wrong_password_is_no_fault_of_the_letter(relay: Relay, trusted: Path) -> None:
    """It stays, to be sent when the password is mended."""
    assert ("SMTP_LOGIN_535", False, False) == failure(sender(relay.port, trusted, password="wrong"))


@pytest.mark.parametrize(
    ("rcpt", "data", "expected"),
    [
        ("550 no such user ADDRESS", "250 OK", ("SMTP_RECIPIENT_550", True, True)),
        ("450 come back later, ADDRESS", "250 OK", ("SMTP_RECIPIENT_450", False, True)),
        ("250 OK", "554 we do not like CONTENT", ("SMTP_DATA_554", True, True)),
        ("250 OK", "451 try again: CONTENT", ("SMTP_DATA_451", False, True)),
        ("421 closing", "250 OK", ("SMTP_RECIPIENT_421", False, False)),
        ("250 OK", "421 closing", ("SMTP_DATA_421", False, False)),
    ],
)
def test_refusals_of_a_relay_are_told_by_number(
    relay: Relay, trusted: Path, rcpt: str, data: str, expected: tuple[str, bool, bool]
) -> None:
    """5xx is for good and 4xx for now; neither speaks against the relay, but for 421, and no word of it is repeated."""
    relay.rcpt, relay.data = rcpt, data

    assert expected == failure(sender(relay.port, trusted))


def test_relay_that_is_away_or_silent_is_called_so(trusted: Path) -> None:
    """Nothing waits longer than the time limit."""
    with silent() as port:
        assert ("TIMEOUT", False, False) == failure(sender(port, trusted, timeout_s=0.2))
    assert ("CONNECTION", False, False) == failure(sender(free_port(), trusted))


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
def test_relay_that_drips_is_cut_off(security: Security) -> None:
    """A byte now and then does not hold a thread beyond the time limit: neither lines nor a handshake without end."""
    drops = b"220-\r\n" if security is Security.STARTTLS else b"\x16\x03\x01\x3f\xff" + b"\x00"
    with dripping(drops, every_s=0.05) as port:
        assert ("TIMEOUT", False, False) == failure(sender(port, security=security, timeout_s=0.3))


def test_relay_that_drips_after_it_took_a_letter_has_taken_it() -> None:
    """What became of the letter is known by then; the farewell is cut short."""
    taken = [b"220 hello\r\n", b"250 hello\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go on\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                said = connection.makefile("rb")
                for answer in taken:
                    connection.sendall(answer)
                    said.readline()
                while said.readline() != b".\r\n":
                    pass
                connection.sendall(b"250 OK\r\n")
                while True:
                    connection.sendall(b"221-\r\n")
                    time.sleep(0.01)

        thread = Thread(target=serve)
        thread.start()
        sender(listening.getsockname()[1], security=Security.NONE, user="", timeout_s=0.5).send(LETTER)
        thread.join()


@pytest.mark.parametrize("fields", [{"subject": "a\r\nBcc: all@example.org"}, {"target": "ann@example.org\r\nX: y"}])
def test_nothing_gets_into_the_head_of_a_mail_by_a_line_feed(fields: dict[str, str]) -> None:
    """Whoever could set a text or a target adds no header; the relay is not even asked."""
    assert ("UNADDRESSABLE", True, True) == failure(sender(free_port()), replace(LETTER, **fields))


def test_relay_shows_no_credentials(trusted: Path) -> None:
    """Neither user nor password are in what a log would get."""
    shown = repr(smtp.Relay("h", 25, Security.TLS, "s", "points", "s3cret", 1.0))

    assert "Relay(h:25)" == shown
