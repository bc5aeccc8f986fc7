"""The sender of e-mails: hands a letter to an SMTP relay, over TLS unless the relay is on this host.

A connection for each letter: the sender keeps nothing between letters, so that threads may share it and no connection
is ever found dead. What the relay says is told by its number alone, since its text may repeat the address.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from enum import StrEnum

from msgspec import Struct

from points_grpc.delivery.connection import Alarm, Line, conversation
from points_grpc.domain.letters import Letter, Undelivered

CLOSING = 421
"""A relay that goes down says this to whatever it is asked."""


class Security(StrEnum):
    """How the way to the relay is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Relay(Struct, frozen=True):
    """Where e-mails are handed over. Without a user nobody logs in."""

    host: str
    port: int
    security: Security
    sender: str
    user: str
    password: str
    timeout_s: float

    def __repr__(self) -> str:
        """Shows no credentials."""
        return f"Relay({self.host}:{self.port})"


class SmtpSender:
    """Sends letters through a relay."""

    def __init__(self, relay: Relay, *, tls: ssl.SSLContext, now: Callable[[], datetime], alarm: Alarm) -> None:
        """`tls` decides whose certificates are trusted, `alarm` ends a conversation that takes too long."""
        self._relay = relay
        self._tls = tls
        self._now = now
        self._alarm = alarm
        self._from = parseaddr(relay.sender)[1]
        self._domain = self._from.rpartition("@")[2]

    def send(self, letter: Letter) -> None:
        """Returns once the relay took the letter; raises `Undelivered`."""
        mail = self._mail(letter)
        with conversation(self._relay.timeout_s, self._alarm) as line:
            try:
                self._hand_over(line, mail, letter.target)
            except smtplib.SMTPException as error:
                raise _refusal(error) from None

    def _hand_over(self, line: Line, mail: EmailMessage, target: str) -> None:
        session = self._session(line)
        try:
            session.send_message(mail, self._from, [target])
        except smtplib.SMTPNotSupportedError:
            raise Undelivered("SMTP_ADDRESS_NOT_OFFERED", final=True) from None
        finally:
            with suppress(OSError):  # What became of the letter is known by now. SMTP's exceptions are among them.
                session.quit()
            session.close()

    def _session(self, line: Line) -> smtplib.SMTP:
        """A connection to the relay, protected and logged in."""
        relay = self._relay
        tls = self._tls if relay.security is Security.TLS else None
        session = _Session(line, tls, relay.host, relay.port, self._domain, timeout=relay.timeout_s)
        try:
            if relay.security is Security.STARTTLS:
                session.starttls(context=self._tls)  # Raises if the relay does not offer it.
            if relay.user:
                session.login(relay.user, relay.password)
        except BaseException:
            session.close()
            raise
        return session

    def _mail(self, letter: Letter) -> EmailMessage:
        """The letter as an e-mail. The same letter has the same Message-ID, however often it is sent."""
        mail = EmailMessage()
        try:
            mail["From"] = self._relay.sender
            mail["To"] = letter.target
            mail["Subject"] = letter.subject
            mail["Date"] = format_datetime(self._now())
            mail["Message-ID"] = f"<points.{letter.org_id}.{letter.message_id}@{self._domain}>"
            mail["Auto-Submitted"] = "auto-generated"
            mail.set_content(letter.text)
        except (ValueError, MessageError):
            raise Undelivered("UNADDRESSABLE", final=True) from None
        return mail


class _Session(smtplib.SMTP):
    """A session over a line of ours, with TLS from the first byte where it is given. It connects when it is made."""

    def __init__(
        self, line: Line, tls: ssl.SSLContext | None, host: str, port: int, domain: str, *, timeout: float
    ) -> None:
        self._line = line
        self._tls = tls
        super().__init__(host, port, domain, timeout)

    def connect(
        self,
        host: str = "",
        port: int = 0,
        source_address: object = None,  # noqa: ARG002 - as inherited; nobody gives one
    ) -> tuple[int, bytes]:
        """Connects and reads the greeting, as the inherited one does."""
        connected = self._line.connect(host, port)
        self.sock = self._tls.wrap_socket(connected, server_hostname=host) if self._tls else connected
        self.file = None
        return self.getreply()


def _refusal(error: smtplib.SMTPException) -> Undelivered:
    """What a relay said, by its number. It may refuse this receiver or this text: for good, or for now."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        [(number, _)] = error.recipients.values()
        return Undelivered(f"SMTP_RECIPIENT_{number}", final=_is_final(number), answered=number != CLOSING)
    if isinstance(error, smtplib.SMTPDataError):
        number = error.smtp_code
        return Undelivered(f"SMTP_DATA_{number}", final=_is_final(number), answered=number != CLOSING)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Undelivered(f"SMTP_LOGIN_{error.smtp_code}")
    if isinstance(error, smtplib.SMTPSenderRefused):
        return Undelivered(f"SMTP_SENDER_{error.smtp_code}")
    if isinstance(error, smtplib.SMTPResponseException):
        return Undelivered(f"SMTP_{error.smtp_code}")
    if isinstance(error.__context__, TimeoutError):
        return Undelivered("TIMEOUT")
    return Undelivered("SMTP_NOT_OFFERED" if isinstance(error, smtplib.SMTPNotSupportedError) else "SMTP_DISCONNECTED")


def _is_final(number: int) -> bool:
    return 500 <= number < 600
