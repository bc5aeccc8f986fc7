"""The dispatcher over a real outbox: delivery, retries, giving up, and what is left in the database afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from databases import ATestsDatabase, NewDatabase
from points_grpc.domain.commands import (
    Command,
    CreateCustomer,
    CreateProgram,
    IssuePoints,
    IssueTransferOtp,
    Submission,
    TransferPoints,
)
from points_grpc.domain.model import Channel, Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted
from points_grpc.domain.policy import Policy
from points_grpc.service.executor import Executor
from points_grpc.service.ids import IdSource
from points_grpc.service.keyring import Keyring
from points_grpc.service.outbox import ATTEMPTS_MAX, Dispatcher
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.migrate import upgrade
from points_grpc.storage.opening import open_repository

MOBILE = "+919148574269"
SENDER = Identifier(IdentifierType.MOBILE, MOBILE)
RECEIVER = Identifier(IdentifierType.ID, "2")


class SenderOnDemand:
    """A sender that fails as often as it is told to."""

    def __init__(self) -> None:
        self.failures = 0
        self.sent: list[tuple[Channel, str, str]] = []

    def send(self, channel: Channel, target: str, code: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the gateway is down")
        self.sent.append((channel, target, code))


class Reports:
    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []

    def undelivered(self, message_id: int, error: str, *, given_up: bool) -> None:
        self.lines.append((error, given_up))

    def unreachable(self, error: str) -> None:
        self.lines.append((error, False))


class World:
    """A program, two customers, an executor and a dispatcher that share a clock which the test moves."""

    def __init__(self, on: ATestsDatabase) -> None:
        self.on = on
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.duty: Iterator[bool] = iter(())
        upgrade(on.url)
        self.database = Database(on.url)
        self.org_id = Accounts(self.database).create_org("org", "IN")
        self.repository = open_repository(self.database, now=lambda: self.now)
        self.keyring = Keyring({"k1": b"1" * 32}, "k1")
        self.executor = Executor(
            self.repository,
            next_id=IdSource(0, lambda: int(self.now.timestamp() * 1000)),
            keyring=self.keyring,
            channels=frozenset(Channel),
            monotonic=lambda: self.now.timestamp(),  # noqa: PLW0108 - the clock moves
        )
        self.sender = SenderOnDemand()
        self.reports = Reports()
        self._count = 0
        self.run(CreateProgram(1, "Program", True, 0, "UTC", Policy()))
        self.run(CreateCustomer(1, "", "", MOBILE, None, None, (1,), False))
        self.run(CreateCustomer(2, "", "", None, None, None, (1,), False))
        self.run(IssuePoints(SENDER, 1, 1000, Source.LOYALTY_PLUS))

    def run(self, command: Command) -> None:
        """Runs a command that must be accepted."""
        self._count += 1
        name = f"r{self._count}"
        seed = name.encode().ljust(32, b"-")
        (answer,) = self.executor.run(self.org_id, [Submission(self.org_id, command, name, True, {}, "test", seed)])
        assert isinstance(answer.outcome, Accepted), answer

    def issue_code(self) -> None:
        """Has a code sent to the sender."""
        self.run(IssueTransferOtp(TransferPoints(points=10, program_id=1, source=SENDER, destination=RECEIVER)))

    def dispatcher(self, senders: bool = True) -> Dispatcher:
        """A dispatcher without a thread."""
        return Dispatcher(
            self.repository,
            keyring=self.keyring,
            senders={Channel.MOBILE: self.sender} if senders else {},
            submit=self._submit,
            now=lambda: self.now,
            failures=self.reports,
            on_duty=lambda: next(self.duty, True),
        )

    def rows(self) -> list[tuple[str, bool]]:
        """State of each message, oldest first, and whether ciphertext is left."""
        found = self.on.rows("SELECT state, sealed FROM outbox ORDER BY message_id")
        return [(state, bool(sealed)) for state, sealed in found]

    def close(self) -> None:
        self.repository.close()
        self.database.close()

    def _submit(self, submission: Submission) -> None:
        self.executor.run(submission.org_id, [submission])


@pytest.fixture
def world(new_database: NewDatabase, tmp_path: Path) -> Iterator[World]:
    made = World(new_database(tmp_path))
    yield made
    made.close()
    made.on.drop()


def test_message_is_sent_once_and_leaves_no_ciphertext(world: World) -> None:
    """A delivered message is not sent again, and its code is gone from the database."""
    world.issue_code()
    dispatcher = world.dispatcher()

    assert [1, 0] == [dispatcher.dispatch_due(), dispatcher.dispatch_due()]
    assert [(Channel.MOBILE, MOBILE)] == [one[:2] for one in world.sender.sent]
    assert [("DELIVERED", False)] == world.rows()


def test_who_is_not_on_duty_sends_nothing(world: World) -> None:
    """Another server does; also where duty is lost before the message in hand."""
    world.issue_code()
    world.duty = iter((False, True, False))
    dispatcher = world.dispatcher()
    dispatcher.dispatch_due()
    dispatcher.dispatch_due()
    sent_before, rows_before = list(world.sender.sent), world.rows()
    dispatcher.dispatch_due()

    assert ([], [("QUEUED", True)]) == (sent_before, rows_before)
    assert 1 == len(world.sender.sent)


def test_failed_message_waits_and_is_sent_later(world: World) -> None:
    """A sender that fails leaves the message in the queue; it is tried again after a pause, not before."""
    world.issue_code()
    world.sender.failures = 1
    dispatcher = world.dispatcher()
    tries = [dispatcher.dispatch_due(), dispatcher.dispatch_due()]
    world.now += timedelta(seconds=2)
    tries.append(dispatcher.dispatch_due())

    assert [1, 0, 1] == tries
    assert [("DELIVERED", False)] == world.rows()
    assert [("ConnectionError", False)] == world.reports.lines


def test_message_that_fails_too_often_is_given_up(world: World) -> None:
    """After the last try the message is dead and its ciphertext erased."""
    world.issue_code()
    world.sender.failures = ATTEMPTS_MAX
    dispatcher = world.dispatcher()
    for _ in range(ATTEMPTS_MAX + 1):
        dispatcher.dispatch_due()
        world.now += timedelta(seconds=35)

    assert [("DEAD", False)] == world.rows()
    assert ("ConnectionError", True) == world.reports.lines[-1]


def _expired(world: World) -> None:
    world.now += timedelta(minutes=6)


def _no_sender(world: World) -> None:
    world.sender = None  # type: ignore[assignment]


def _lost_key(world: World) -> None:
    world.keyring = Keyring({"k2": b"2" * 32}, "k2")


@pytest.mark.parametrize(
    ("mishap", "expected"), [(_expired, "EXPIRED"), (_no_sender, "NO_SENDER"), (_lost_key, "KEY_LOST")]
)
def test_hopeless_message_is_given_up_at_once(world: World, mishap: Callable[[World], None], expected: str) -> None:
    """An expired code, a channel without sender and a lost key end a message, each under its name."""
    world.issue_code()
    mishap(world)
    world.dispatcher(senders=world.sender is not None).dispatch_due()

    assert [("DEAD", False)] == world.rows()
    assert [(expected, True)] == world.reports.lines


def test_newer_code_cancels_the_older_message(world: World) -> None:
    """A code that was replaced before it was sent is never sent."""
    world.issue_code()
    world.issue_code()
    world.dispatcher().dispatch_due()

    assert [("CANCELLED", False), ("DELIVERED", False)] == world.rows()
    assert 1 == len(world.sender.sent)


def test_no_code_is_readable_in_the_database(world: World) -> None:
    """Neither before nor after delivery do the bytes of the database contain the code."""
    world.issue_code()
    before = world.on.content()
    world.dispatcher().dispatch_due()
    after = world.on.content()
    code = world.sender.sent[0][2].encode()

    assert code not in before
    assert code not in after


def test_message_whose_booking_failed_is_booked_and_not_sent_again(world: World) -> None:
    """While the outbox cannot be booked, a code that was sent is not sent again and again."""
    world.issue_code()
    bookings = iter([ConnectionError("the queue is full"), ConnectionError("the queue is full"), None])

    def submit(submission: Submission) -> None:
        if (error := next(bookings)) is not None:
            raise error
        world.executor.run(submission.org_id, [submission])

    dispatcher = Dispatcher(
        world.repository,
        keyring=world.keyring,
        senders={Channel.MOBILE: world.sender},
        submit=submit,
        now=lambda: world.now,
        failures=world.reports,
    )
    for _ in range(2):
        with pytest.raises(ConnectionError):
            dispatcher.dispatch_due()
    dispatcher.dispatch_due()

    assert 1 == len(world.sender.sent)
    assert [("DELIVERED", False)] == world.rows()
