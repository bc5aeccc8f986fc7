"""The dispatcher over a real outbox: delivery, retries, giving up, and what is left in the database afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest

from databases import ATestsDatabase, NewDatabase
from points_grpc.domain.commands import (
    Command,
    CreateCustomer,
    CreateProgram,
    IssuePoints,
    IssueRedemptionOtp,
    IssueTransferOtp,
    RedeemPoints,
    SetConfigKey,
    Submission,
    TransferPoints,
)
from points_grpc.domain.letters import Letter, Undelivered
from points_grpc.domain.model import Channel, Identifier, IdentifierType, OtpAction, Source
from points_grpc.domain.outcome import Accepted, Outcome
from points_grpc.domain.policy import Policy
from points_grpc.service.executor import Executor
from points_grpc.service.ids import IdSource
from points_grpc.service.keyring import Keyring
from points_grpc.service.outbox import ATTEMPTS_MAX, BACKOFF_MAX_S, LAST_BOOKINGS_MAX, PARALLEL, Dispatcher, Sender
from points_grpc.service.ports import StorageUnavailable
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
        self.failure: Exception = ConnectionError("the gateway is down")
        self.sent: list[Letter] = []
        self.after: Callable[[], None] = lambda: None

    def send(self, letter: Letter) -> None:
        if self.failures:
            self.failures -= 1
            raise self.failure
        self.sent.append(letter)
        self.after()


class Together:
    """A sender that hands nothing over before so many letters are under way at once."""

    def __init__(self, count: int) -> None:
        self.targets: set[str] = set()
        self._barrier = Barrier(count)

    def send(self, letter: Letter) -> None:
        self._barrier.wait(timeout=10)
        self.targets.add(letter.target)


class Reports:
    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []
        self.flaws: list[tuple[str, str]] = []

    def undelivered(self, message_id: int, error: str, *, given_up: bool) -> None:
        self.lines.append((error, given_up))

    def passed_over(self, org_id: int, key: str, flaw: str) -> None:
        self.flaws.append((key, flaw))

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
        self.jitter = 1.0
        self.furnish()

    def another_organisation(self) -> World:
        """The same again for another organisation, over the same store."""
        other = copy(self)
        other.org_id = Accounts(self.database).create_org("other", "IN")
        other.furnish()
        return other

    def furnish(self) -> None:
        """Makes the program and its customers."""
        self._count = 0
        self.run(CreateProgram(1, "Program", True, 0, "UTC", Policy()))
        self.run(CreateCustomer(1, "", "", MOBILE, None, None, (1,), False))
        self.run(CreateCustomer(2, "", "", None, None, None, (1,), False))
        self.run(IssuePoints(SENDER, 1, 1000, Source.LOYALTY_PLUS))

    def run(self, command: Command) -> None:
        """Runs a command that must be accepted."""
        outcome = self.ask(command)
        assert isinstance(outcome, Accepted), outcome

    def ask(self, command: Command) -> Outcome:
        """What comes of a command."""
        self._count += 1
        name = f"r{self._count}"
        seed = name.encode().ljust(32, b"-")
        (answer,) = self.executor.run(self.org_id, [Submission(self.org_id, command, name, True, {}, "test", seed)])
        return answer.outcome

    def issue_code(self) -> None:
        """Has a code sent to the sender."""
        self.run(IssueTransferOtp(TransferPoints(points=10, program_id=1, source=SENDER, destination=RECEIVER)))

    def dispatcher(
        self,
        senders: bool = True,
        sender: Sender | None = None,
        submit: Callable[[Submission], None] | None = None,
        parallel: int = PARALLEL,
    ) -> Dispatcher:
        """A dispatcher without a thread."""
        return Dispatcher(
            self.repository,
            keyring=self.keyring,
            senders={Channel.MOBILE: sender or self.sender} if senders else {},
            submit=submit or self._submit,
            now=lambda: self.now,
            failures=self.reports,
            jitter=lambda: self.jitter,
            parallel=parallel,
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
    assert [(Channel.MOBILE, MOBILE)] == [(one.channel, one.target) for one in world.sender.sent]
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
    tries = []
    for attempt in range(ATTEMPTS_MAX + 1):
        tries.append(dispatcher.dispatch_due())
        world.now += timedelta(seconds=min(BACKOFF_MAX_S, 2**attempt))

    assert [*[1] * ATTEMPTS_MAX, 0] == tries
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


def test_a_message_is_sent_after_its_key_was_rotated(world: World) -> None:
    """What the old key sealed opens while the dispatcher's keyring changes beneath it, and is delivered."""
    dispatcher = world.dispatcher()
    world.issue_code()
    world.keyring.take(Keyring({"k1": b"1" * 32, "k2": b"2" * 32}, "k2"))
    dispatcher.dispatch_due()

    assert [("DELIVERED", False)] == world.rows()


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
    code = world.sender.sent[0].code.encode()

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

    dispatcher = world.dispatcher(submit=submit)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            dispatcher.dispatch_due()
    dispatcher.dispatch_due()

    assert 1 == len(world.sender.sent)
    assert [("DELIVERED", False)] == world.rows()


def test_booking_that_a_drain_dropped_is_made_up_for(world: World) -> None:
    """A code that was sent while the server was told to stop is booked before it ends: no other sends it again."""
    world.issue_code()
    dropped = Event()

    def submit(submission: Submission) -> None:
        if not dropped.is_set():
            dropped.set()
            raise StorageUnavailable("SHUTTING_DOWN")
        world.executor.run(submission.org_id, [submission])

    dispatcher = world.dispatcher(submit=submit)
    dispatcher.start()
    assert dropped.wait(30)
    dispatcher.stop(30)

    assert 1 == len(world.sender.sent)
    assert [("DELIVERED", False)] == world.rows()


def test_stop_does_not_wait_for_a_writer_that_is_gone(world: World) -> None:
    """What cannot be booked is told, and is sent again by the next server: at least once."""
    world.issue_code()
    tried = Event()

    def submit(submission: Submission) -> None:
        tried.set()
        raise StorageUnavailable("STORAGE_UNAVAILABLE")

    dispatcher = world.dispatcher(submit=submit)
    dispatcher.start()
    assert tried.wait(30)
    dispatcher.stop(30)

    assert [("QUEUED", True)] == world.rows()
    assert [("StorageUnavailable", False)] * (1 + LAST_BOOKINGS_MAX) == world.reports.lines[: 1 + LAST_BOOKINGS_MAX]


def test_letter_has_the_organisations_words(world: World) -> None:
    """Its text goes out filled in; a flawed one is passed over, and named once."""
    world.run(SetConfigKey("OTP_TRANSFER_MOBILE_TEXT", "Acme: {{ validation_code }}, {{ valid_minutes }} min", ""))
    world.issue_code()
    dispatcher = world.dispatcher()
    dispatcher.dispatch_due()
    world.run(SetConfigKey("OTP_TRANSFER_MOBILE_TEXT", "no code", ""))
    for _ in range(2):
        world.issue_code()
        dispatcher.dispatch_due()
    own, *ours = world.sender.sent

    assert f"Acme: {own.code}, 5 min" == own.text
    assert all(one.text.startswith(f"{one.code} is your code for the transfer") for one in ours)
    assert [("OTP_TRANSFER_MOBILE_TEXT", "WITHOUT_CODE")] == world.reports.flaws


@pytest.mark.parametrize(("locale", "expected"), [("pt-BR", "pt"), ("de", "ours"), ("", "ours")])
def test_letter_is_in_the_customers_language(world: World, locale: str, expected: str) -> None:
    """Where the organisation has a text in it."""
    for key, said in {"OTP_TRANSFER_MOBILE_TEXT_pt": "pt", "OTP_TRANSFER_MOBILE_TEXT": "ours"}.items():
        world.run(SetConfigKey(key, said + " {{validation_code}}", ""))
    world.run(CreateCustomer(3, "", "", "+919148574270", None, None, (1,), False, locale))
    source = Identifier(IdentifierType.MOBILE, "+919148574270")
    world.run(IssuePoints(source, 1, 1000, Source.LOYALTY_PLUS))
    world.run(IssueTransferOtp(TransferPoints(points=10, program_id=1, source=source, destination=RECEIVER)))
    world.dispatcher().dispatch_due()
    [letter] = world.sender.sent

    assert f"{expected} {letter.code}" == letter.text


def test_message_that_will_never_be_taken_is_given_up_at_once(world: World) -> None:
    """A receiver that does not exist is not tried again, and its code is erased."""
    world.issue_code()
    world.sender.failures, world.sender.failure = 1, Undelivered("SMTP_RECIPIENT_550", final=True)
    world.dispatcher().dispatch_due()

    assert [("DEAD", False)] == world.rows()
    assert [("SMTP_RECIPIENT_550", True)] == world.reports.lines


def test_message_that_would_be_too_late_is_given_up(world: World) -> None:
    """No try is waited for that would come after the code has expired: the code is erased now."""
    world.issue_code()
    world.sender.failures = 1
    world.now += timedelta(minutes=5, seconds=-1)
    world.dispatcher().dispatch_due()

    assert [("DEAD", False)] == world.rows()


@pytest.mark.parametrize("part", [0.5, 0.75])
def test_pauses_double_and_are_shortened_by_jitter(world: World, part: float) -> None:
    """Many messages that failed together do not come back together."""
    world.issue_code()
    world.sender.failures, world.jitter = 3, part
    dispatcher = world.dispatcher()
    pauses = []
    while not world.sender.sent:
        before = world.now
        while not dispatcher.dispatch_due():
            world.now += timedelta(milliseconds=125)
        pauses.append((world.now - before).total_seconds())

    assert [0.0, 1 * part, 2 * part, 4 * part] == pytest.approx(pauses, abs=0.125)


def test_redemption_code_waits_for_the_transfer_code_before_it(world: World) -> None:
    """Of one customer and destination the second is never sent before the first, even if the first has to wait."""
    world.issue_code()
    world.run(IssueRedemptionOtp(RedeemPoints(SENDER, 1, 10)))
    world.sender.failures = 1
    dispatcher = world.dispatcher()
    counts = [dispatcher.dispatch_due(), dispatcher.dispatch_due()]
    world.now += timedelta(seconds=1)
    counts += [dispatcher.dispatch_due(), dispatcher.dispatch_due()]

    assert [1, 0, 1, 1] == counts
    assert [OtpAction.TRANSFER, OtpAction.REDEMPTION] == [one.action for one in world.sender.sent]


def test_slow_destination_keeps_nobody_waiting(world: World) -> None:
    """Messages of different customers are sent side by side: each of these waits for all the others to be under way."""
    mobiles = [f"+9191485742{number:02d}" for number in range(PARALLEL)]
    for number, mobile in enumerate(mobiles):
        world.run(CreateCustomer(10 + number, "", "", mobile, None, None, (1,), False))
        source = Identifier(IdentifierType.MOBILE, mobile)
        world.run(IssuePoints(source, 1, 1000, Source.LOYALTY_PLUS))
        world.run(IssueTransferOtp(TransferPoints(points=10, program_id=1, source=source, destination=RECEIVER)))
    together = Together(PARALLEL)
    world.dispatcher(sender=together).dispatch_due()

    assert set(mobiles) == together.targets
    assert [("DELIVERED", False)] * PARALLEL == world.rows()


def test_stop_leaves_what_was_not_begun_in_the_outbox(world: World) -> None:
    """A dispatcher that is told to stop finishes and books what is in hand, and begins nothing more."""
    world.issue_code()
    world.run(CreateCustomer(3, "", "", "+919148574270", None, None, (1,), False))
    source = Identifier(IdentifierType.MOBILE, "+919148574270")
    world.run(IssuePoints(source, 1, 1000, Source.LOYALTY_PLUS))
    world.run(IssueTransferOtp(TransferPoints(points=10, program_id=1, source=source, destination=RECEIVER)))
    dispatcher = world.dispatcher(parallel=1)
    world.sender.after = dispatcher._stop.set

    assert 1 == dispatcher.dispatch_due()
    assert [("DELIVERED", False), ("QUEUED", True)] == world.rows()


def test_booking_that_fails_keeps_no_other_organisation_waiting(world: World) -> None:
    """The rest of a round is booked all the same, and the failure is told."""
    other = world.another_organisation()
    world.issue_code()
    other.issue_code()

    def submit(submission: Submission) -> None:
        if submission.org_id == world.org_id:
            raise ConnectionError
        other.executor.run(submission.org_id, [submission])

    with pytest.raises(ConnectionError):
        world.dispatcher(submit=submit).dispatch_due()

    assert [("QUEUED", True), ("DELIVERED", False)] == world.rows()


def test_message_that_waits_for_another_takes_nobodys_turn(world: World) -> None:
    """A customer's second code waits for the first, which failed; meanwhile that organisation has nothing to send."""
    other = world.another_organisation()
    world.issue_code()
    world.run(IssueRedemptionOtp(RedeemPoints(SENDER, 1, 10)))
    world.sender.failures = 1
    world.dispatcher().dispatch_due()
    world.now += timedelta(milliseconds=1)
    other.issue_code()

    assert [other.org_id] == [one.org_id for one in world.repository.due_messages(world.now, 1)]
