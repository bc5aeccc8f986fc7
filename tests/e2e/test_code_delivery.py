"""Codes of a real server through a real SMTP relay, whatever is killed on the way."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from databases import NewDatabase
from points_grpc.cli import keys_file
from points_grpc.service.keyring import UnknownKey
from points_grpc.service.outbox import PARALLEL
from points_grpc.v1 import (
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
)
from relays import HOST, Mail, Relay, authority, serving
from running import Caller, RunningServer

CUSTOMERS = 12
RECEIVER = {"type": "ID", "value": "999"}
ACTIONS = ("TRANSFER", "REDEMPTION")
SEALED = re.compile(rb"gAAAA[A-Za-z0-9_-]{60,}={0,2}")
"""What a message's ciphertext looks like."""

HEX = re.compile(rb"x((?:[0-9a-f]{2}){80,})")
"""What it looks like in rows of PostgreSQL."""


def until(reached: Callable[[], bool], within_s: float = 60.0) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class Shop:
    """A server with a relay, and customers with an e-mail address each and points."""

    def __init__(self, folder: Path, new_database: NewDatabase) -> None:
        trusted = authority(folder)
        password = folder / "password"
        password.write_text("s3cret\n")
        password.chmod(0o600)
        self.relay = Relay(tls=serving(trusted), user="points", password="s3cret")
        environment = {
            "POINTS_GRPC_SMTP_HOST": HOST,
            "POINTS_GRPC_SMTP_PORT": str(self.relay.port),
            "POINTS_GRPC_SMTP_FROM": "Points <no-reply@example.com>",
            "POINTS_GRPC_SMTP_USER": "points",
            "POINTS_GRPC_SMTP_PASSWORD_FILE": str(password),
            "POINTS_GRPC_SMTP_CA_FILE": str(trusted),
        }
        self.server = RunningServer(folder, environment=environment, on=new_database(folder))
        self.token = self.server.key(self.server.organisation())
        self.server.start()
        self.caller = Caller(self.server.address, self.token)
        self.mail_of = {f"c{number}@example.org": number for number in range(1, CUSTOMERS + 1)}

    def furnish(self) -> None:
        """Makes the program, whose codes cannot be mistaken for anything else, its texts and its customers."""
        otp = {"length": 10, "alphabet": "ALPHANUMERIC"}
        fields = {"programId": 1, "name": "Program", "policy": {"otp": otp}, "defaultProgram": True}
        self.caller.ask(self.caller.programs.CreateProgram, program_service_pb2.CreateProgramRequest(), fields)
        for action in ACTIONS:
            text = {"key": f"OTP_{action}_EMAIL_TEXT", "value": action + " {{ validation_code }}"}
            self.caller.ask(self.caller.programs.SetConfigKey, program_service_pb2.SetConfigKeyRequest(), text)
        for number, address in itertools.chain(
            ((number, address) for address, number in self.mail_of.items()), [(999, "receiver@example.org")]
        ):
            self.caller.ask(
                self.caller.customers.CreateCustomer,
                customer_service_pb2.CreateCustomerRequest(),
                {
                    "customerId": number,
                    "enrolledProgramIds": [1],
                    "identifiers": [{"type": "EMAIL", "value": address}],
                },
            )
            self.caller.ask(
                self.caller.issuance.IssuePoints,
                issuance_service_pb2.IssuePointsRequest(),
                {"customerIdentifier": {"type": "ID", "value": str(number)}, "points": 100, "source": "GOODWILL"},
            )

    def issue(self) -> None:
        """Has each customer sent a code for a transfer, and then one for a redemption."""
        for number in self.mail_of.values():
            who = {"type": "ID", "value": str(number)}
            self.caller.ask(
                self.caller.points.IssueTransferOtp,
                points_service_pb2.IssueTransferOtpRequest(),
                {"pointsToBeTransferred": 10, "fromCustomerIdentifier": who, "toCustomerIdentifier": RECEIVER},
            )
            self.caller.ask(
                self.caller.points.IssueRedemptionOtp,
                points_service_pb2.IssueRedemptionOtpRequest(),
                {"customerIdentifier": who, "points": 10},
            )

    def use(self, number: int, action: str, code: str) -> None:
        """Does with a code what it is for; refused unless it is the right one."""
        who = {"type": "ID", "value": str(number)}
        if action == "TRANSFER":
            self.caller.ask(
                self.caller.points.TransferPoints,
                points_service_pb2.TransferPointsRequest(),
                {
                    "pointsToBeTransferred": 10,
                    "fromCustomerIdentifier": who,
                    "toCustomerIdentifier": RECEIVER,
                    "code": code,
                },
            )
            return
        self.caller.ask(
            self.caller.points.RedeemPoints,
            points_service_pb2.RedeemPointsRequest(),
            {"customerIdentifier": who, "points": 10, "validationCode": code},
        )

    def codes(self) -> dict[tuple[int, str], str]:
        """The code that each customer got last for each action."""
        return {(self.mail_of[mail.to], action_of(mail)): mail.text.split()[1] for mail in self.relay.mails}

    def waiting(self) -> int:
        """How many messages are not settled yet."""
        return int(self.server.on.rows("SELECT COUNT(*) FROM outbox WHERE state = 'QUEUED'")[0][0])

    def readable(self) -> list[str]:
        """What can be read from the database with the server's keys: what was sealed and is still there."""
        keyring = keys_file.load_or_create(self.server.keys)
        content = self.server.on.content()
        content += b" ".join(bytes.fromhex(one.decode()) for one in HEX.findall(content))
        found = []
        for sealed in SEALED.findall(content):
            try:
                found.append(keyring.open(keyring.active, sealed))
            except UnknownKey:
                continue
        return found

    def close(self) -> None:
        """Ends everything."""
        self.caller.close()
        self.server.stop()
        self.server.on.drop()


def action_of(mail: Mail) -> str:
    """What a mail's code is for."""
    return mail.text.split()[0]


@pytest.fixture
def shop(new_database_in_ci: NewDatabase, tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        made = Shop(tmp_path, new_database_in_ci)
        stack.callback(made.close)
        stack.enter_context(made.relay)
        made.furnish()
        yield made


@pytest.mark.ci
@pytest.mark.timeout(240)
def test_server_killed_while_it_sends_codes(shop: Shop) -> None:
    """Killed with mails on their way and started again: each code arrives, in order, and is then nowhere but there."""
    shop.relay.pause_s = 0.3
    shop.issue()
    until(lambda: len(shop.relay.mails) >= CUSTOMERS // 2)
    shop.server.kill()
    before = len(shop.relay.mails)
    waiting = shop.waiting()
    shop.relay.pause_s = 0.0
    shop.server.start()
    until(lambda: shop.waiting() == 0)

    assert 0 < waiting <= 2 * CUSTOMERS
    assert 2 * CUSTOMERS == len(shop.codes())
    assert before < len(shop.relay.mails)
    for address in shop.mail_of:
        arrived = [action_of(mail) for mail in shop.relay.mails if mail.to == address]
        assert sorted(arrived, key=ACTIONS.index) == arrived, address
    assert {("DELIVERED",)} == set(shop.server.on.rows("SELECT DISTINCT state FROM outbox"))
    for code in shop.codes().values():
        assert code.encode() not in shop.server.on.content()
    for (number, action), code in shop.codes().items():
        shop.use(number, action, code)
    assert 0 == shop.server.stop()
    assert [] == shop.readable()


@pytest.mark.long
def test_writer_killed_while_codes_are_sent(shop: Shop) -> None:
    """What cannot be booked for a while is not sent again and again."""
    shop.relay.pause_s = 0.1
    shop.issue()
    until(lambda: len(shop.relay.mails) >= CUSTOMERS // 2)
    shop.server.kill_writer()
    until(lambda: shop.waiting() == 0)

    assert 2 * CUSTOMERS == len(shop.relay.mails) == len(shop.codes())


@pytest.mark.ci
def test_relay_that_is_away_for_a_while(shop: Shop) -> None:
    """Codes wait for it; one that is replaced meanwhile is not sent, unless it was in the sender's hands."""
    shop.relay.rcpt = "451 later, ADDRESS"
    shop.issue()
    until(lambda: "SMTP_RECIPIENT_451" in shop.server.errors())
    replaced = set(shop.readable())
    shop.issue()
    time.sleep(2)  # a round that began with the old ones is over: what is in hand cannot be called back
    shop.relay.rcpt = "250 OK"
    until(lambda: shop.waiting() == 0)

    assert 2 * CUSTOMERS == len(replaced)
    assert replaced.isdisjoint(shop.codes().values())
    arrived = [mail.text.split()[1] for mail in shop.relay.mails]
    assert PARALLEL >= len(replaced.intersection(arrived))
    assert 2 * CUSTOMERS == len(set(arrived) - replaced)
    assert {("CANCELLED", 2 * CUSTOMERS), ("DELIVERED", 2 * CUSTOMERS)} == set(
        shop.server.on.rows("SELECT state, COUNT(*) FROM outbox GROUP BY state")
    )
    assert "example.org" not in shop.server.errors()


@pytest.mark.long
def test_server_told_to_stop_while_it_sends_codes(shop: Shop) -> None:
    """Mails in hand are finished and booked; the rest waits for the next server, and nothing is sent twice."""
    shop.relay.pause_s = 0.5
    shop.issue()
    until(lambda: len(shop.relay.mails) >= CUSTOMERS // 2)
    code = shop.server.stop()
    left = shop.waiting()
    shop.relay.pause_s = 0.0
    shop.server.start()
    until(lambda: shop.waiting() == 0)

    assert 0 == code
    assert 0 < left < 2 * CUSTOMERS
    assert 2 * CUSTOMERS == len(shop.relay.mails) == len(shop.codes())
