"""Business events over a real store: what is told of whom, in which order, and what becomes of what cannot be told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from test_outbox import RECEIVER, SENDER
from test_outbox import World as OutboxWorld

from databases import ATestsDatabase, NewDatabase
from points_grpc import codes
from points_grpc.domain.commands import (
    IssuePoints,
    MergeCustomers,
    RedeemPoints,
    SetConfigKey,
    Submission,
    TransferPoints,
)
from points_grpc.domain.configuration import PUBLISHED
from points_grpc.domain.letters import Undelivered
from points_grpc.domain.model import Channel, Notice, Source
from points_grpc.domain.outcome import Refused
from points_grpc.service.executor import Executor
from points_grpc.service.ids import IdSource
from points_grpc.service.publisher import Post, Publisher
from points_grpc.storage.business_events import Retries

Told = tuple[str, str, str]
"""Type, customer and points of an event."""


class PostOnDemand:
    """Takes events, and fails as often as it is told to for a customer."""

    def __init__(self) -> None:
        self.failures: dict[int, int] = {}
        self.failure: Exception = ConnectionError("nobody is there")
        self.taken: list[Notice] = []

    def send(self, notice: Notice) -> None:
        if self.failures.get(notice.customer_id, 0):
            self.failures[notice.customer_id] -= 1
            raise self.failure
        self.taken.append(notice)

    @property
    def bodies(self) -> list[dict[str, object]]:
        """What the events said."""
        return [json.loads(one.body) for one in self.taken]

    @property
    def told(self) -> list[Told]:
        """The same, short."""
        return [(str(one["type"]), str(one["customer_id"]), one["wallets"][0]["points"]) for one in self.bodies]  # type: ignore[index]


class Log:
    """Keeps what failed."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []

    def unpublished(self, event_id: int, error: str, *, given_up: bool) -> None:
        self.lines.append((error, given_up))

    def events_unreachable(self, error: str) -> None:
        self.lines.append((error, False))


class World(OutboxWorld):
    """The world of the outbox, whose executor queues events, and a publisher."""

    def __init__(self, on: ATestsDatabase) -> None:
        super().__init__(on)
        self.post = PostOnDemand()
        self.log = Log()
        self.executor = self.writes(publishes=True)

    def writes(self, *, publishes: bool) -> Executor:
        """An executor over the same store."""
        return Executor(
            self.repository,
            next_id=IdSource(1, lambda: int(self.now.timestamp() * 1000)),
            keyring=self.keyring,
            channels=frozenset(Channel),
            monotonic=lambda: self.now.timestamp(),  # noqa: PLW0108 - the clock moves
            publishes=publishes,
        )

    def wants(self, text: str) -> None:
        """Sets what the organisation wants to be told."""
        self.run(SetConfigKey(PUBLISHED, text, ""))

    def issue(self, points: int, to: object = SENDER) -> None:
        """Issues points, a moment later."""
        self.now += timedelta(milliseconds=1)
        self.run(IssuePoints(to, 1, points, Source.LOYALTY_PLUS))  # type: ignore[arg-type]

    def publisher(self, *, post: Post | None = None, submit: Callable[[Submission], None] | None = None) -> Publisher:
        """A publisher without a thread."""
        return Publisher(
            self.repository,
            post=post or self.post,
            submit=submit or self._submit,
            now=lambda: self.now,
            log=self.log,
            jitter=lambda: 1.0,
        )

    def waiting(self) -> list[tuple[str, int, str]]:
        """State, attempts and error of each event that is kept, oldest first."""
        rows = self.on.rows("SELECT state, attempts, last_error FROM notices ORDER BY created_at, event_id")
        return [(state, attempts, error) for state, attempts, error in rows]


@pytest.fixture
def world(new_database: NewDatabase, tmp_path: Path) -> Iterator[World]:
    made = World(new_database(tmp_path))
    yield made
    made.close()
    made.on.drop()


@pytest.mark.parametrize(
    ("text", "publishes"), [(None, True), ("false", True), ("points.redeemed", True), ("true", False)], ids=str
)
def test_nothing_is_queued_for_who_wants_nothing(world: World, text: str | None, publishes: bool) -> None:
    """Neither without the organisation's word nor without a webhook is there a row for an event."""
    if text is not None:
        world.wants(text)
    world.executor = world.writes(publishes=publishes)
    world.issue(10)

    assert [] == world.waiting()


def test_transfer_is_told_of_both_sides(world: World) -> None:
    """Each event says what the journal says of one customer's wallets; what was published is kept no longer."""
    world.wants("true")
    world.run(TransferPoints(points=10, program_id=1, source=SENDER, destination=RECEIVER))
    queued = world.waiting()
    tried = world.publisher().publish_due()
    [(transaction_id,)] = world.on.rows("SELECT transaction_id FROM transactions WHERE kind = 2")
    of_sender, of_receiver = sorted(world.post.bodies, key=lambda one: str(one["customer_id"]))

    assert ([("QUEUED", 0, "")] * 2, 2, []) == (queued, tried, world.waiting())
    assert {
        "version": 1,
        "organization_id": str(world.org_id),
        "event_id": of_sender["event_id"],
        "type": "points.transferred",
        "occurred_at": "2026-01-01T00:00:00Z",
        "customer_id": "1",
        "counterparty_id": "2",
        "transaction_id": str(transaction_id),
        "request_id": f"r{world._count}",
        "wallets": [{"program_id": "1", "points": "-10", "held": "0", "balance": "990", "wallet_version": "2"}],
    } == of_sender
    assert ("2", "1") == (of_receiver["customer_id"], of_receiver["counterparty_id"])
    assert [{"program_id": "1", "points": "10", "held": "0", "balance": "10", "wallet_version": "1"}] == of_receiver[
        "wallets"
    ]


def test_only_what_is_wanted_is_told(world: World) -> None:
    """An organisation names the events that it wants, and is told of no others."""
    world.wants("points.redeemed, customer.merged")
    world.issue(5)
    world.now += timedelta(milliseconds=1)
    world.run(RedeemPoints(SENDER, 1, 10))
    world.now += timedelta(milliseconds=1)
    world.run(MergeCustomers(SENDER, RECEIVER, "the same person"))
    publisher = world.publisher()
    while publisher.publish_due():
        pass

    assert ("points.redeemed", "1", "-10") == world.post.told[0]
    assert {("customer.merged", "1", "-995"), ("customer.merged", "2", "995")} == set(world.post.told[1:])


def test_events_of_a_customer_keep_their_order(world: World) -> None:
    """What follows an event that failed waits for it; other customers do not."""
    world.wants("points.issued")
    for points in (1, 2):
        world.issue(points)
        world.issue(points, RECEIVER)
    world.post.failures[1] = 1
    publisher = world.publisher()
    counts = [publisher.publish_due(), publisher.publish_due(), publisher.publish_due()]
    world.now += timedelta(seconds=1)
    counts += [publisher.publish_due(), publisher.publish_due()]

    assert [2, 1, 0, 1, 1] == counts
    assert [("1", "2"), ("2", "2"), ("1", "1"), ("2", "1")] == [(points, to) for _, to, points in world.post.told]
    assert [("ConnectionError", False)] == world.log.lines


def test_event_that_is_never_taken_is_given_up_and_kept(world: World) -> None:
    """After a day, with what it says; the next one is tried then."""
    world.wants("true")
    world.issue(1)
    world.issue(2)
    world.post.failures[1] = 10**6
    publisher = world.publisher()
    begun, tries = world.now, 0
    while ("DEAD" not in {state for state, _, _ in world.waiting()}) and world.now < begun + timedelta(days=2):
        tries += publisher.publish_due()
        world.now += timedelta(minutes=5)
    world.post.failures.clear()
    publisher.publish_due()

    assert timedelta(hours=23) < world.now - begun < timedelta(hours=25)
    assert [("DEAD", tries, "ConnectionError")] == world.waiting()
    assert [("points.issued", "1", "2")] == world.post.told
    assert b'"points": "1"' in bytes(world.on.rows("SELECT body FROM notices")[0][0])


def test_event_that_is_refused_for_good_is_given_up_at_once(world: World) -> None:
    """To try again would be of no use."""
    world.wants("true")
    world.issue(1)
    world.post.failures[1], world.post.failure = 1, Undelivered("HTTP_422", final=True, answered=True)
    world.publisher().publish_due()

    assert ([("DEAD", 1, "HTTP_422")], [("HTTP_422", True)]) == (world.waiting(), world.log.lines)


def test_event_that_is_sent_again_comes_before_what_waits(world: World) -> None:
    """It keeps its place among the events of its customer, and what was given up together keeps its order."""
    world.wants("true")
    for points in (1, 2, 3):
        world.issue(points)
    world.post.failures[1], world.post.failure = 2, Undelivered("HTTP_422", final=True, answered=True)
    publisher = world.publisher()
    publisher.publish_due()
    publisher.publish_due()
    world.post.failures[1], world.post.failure = 1, ConnectionError("nobody is there")
    publisher.publish_due()
    world.now += timedelta(days=2)
    Retries(world.database, now=lambda: world.now).retry_all(world.org_id)
    while publisher.publish_due():
        pass

    assert [("points.issued", "1", str(points)) for points in (1, 2, 3)] == world.post.told
    assert [] == world.waiting()


def test_event_that_is_sent_again_is_tried_for_a_day(world: World) -> None:
    """From when it was sent again, however old it is; the pauses begin anew, too."""
    world.wants("true")
    world.issue(1)
    world.post.failures[1] = 10**6
    publisher = world.publisher()
    world.now += timedelta(days=2)
    publisher.publish_due()
    given_up = world.waiting()
    Retries(world.database, now=lambda: world.now).retry_all(world.org_id)
    begun, tried = world.now, []
    for after in (timedelta(), timedelta(seconds=1), timedelta(seconds=3), timedelta(hours=23), timedelta(days=1)):
        world.now = begun + after
        tried.append((publisher.publish_due(), world.waiting()[0][0]))

    assert [("DEAD", 1, "ConnectionError")] == given_up
    assert [(1, "QUEUED")] * 4 + [(1, "DEAD")] == tried


def test_event_whose_booking_failed_is_booked_and_not_posted_again(world: World) -> None:
    """While the writer is away, an event that was taken is not posted again and again."""
    world.wants("true")
    world.issue(1)
    bookings = iter([ConnectionError("full"), ConnectionError("full"), None])

    def submit(submission: Submission) -> None:
        if (error := next(bookings)) is not None:
            raise error
        world.executor.run(submission.org_id, [submission])

    publisher = world.publisher(submit=submit)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            publisher.publish_due()
    publisher.publish_due()

    assert (1, []) == (len(world.post.taken), world.waiting())


def test_booking_that_fails_keeps_no_other_organisation_waiting(world: World) -> None:
    """Its events are posted once, and those of others posted and booked, however often its booking fails."""
    other = world.another_organisation()
    for one in (world, other):
        one.wants("true")
        one.issue(1)

    def submit(submission: Submission) -> None:
        if submission.org_id == world.org_id:
            raise ConnectionError
        other.executor.run(submission.org_id, [submission])

    publisher = world.publisher(submit=submit)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            publisher.publish_due()
        other.issue(1)

    posted = [one.org_id for one in world.post.taken]
    assert (1, 3) == (posted.count(world.org_id), posted.count(other.org_id))
    assert [("QUEUED", 0, "")] * 2 == world.waiting()


def test_who_changed_their_mind_is_not_told(world: World) -> None:
    """What still waits of an organisation that wants no events any more is taken off the list."""
    world.wants("true")
    world.issue(1)
    world.wants("false")
    world.publisher().publish_due()

    assert ([], []) == (world.post.told, world.waiting())


def test_key_that_does_not_parse_loses_no_event(world: World) -> None:
    """Whoever mistypes the key gets no points operation (888), and what waited is told once the key is right again."""
    world.wants("true")
    world.issue(1)
    world.wants("points.isued")
    world.publisher().publish_due()
    waited = world.waiting()
    refused = world.ask(IssuePoints(SENDER, 1, 5, Source.LOYALTY_PLUS))
    world.wants("points.issued")
    world.now += timedelta(seconds=1)
    world.publisher().publish_due()

    assert [("QUEUED", 1, "CONFIGURATION_INVALID")] == waited
    assert isinstance(refused, Refused)
    assert (codes.ORG_CONFIGURATION_INVALID, {"key": PUBLISHED}) == (refused.code, refused.metadata)
    assert ([("points.issued", "1", "1")], []) == (world.post.told, world.waiting())


def test_no_code_waits_for_an_event(world: World) -> None:
    """While a post of an event hangs, codes of the same customer go out."""
    world.wants("true")
    world.issue(1)
    hangs, done = Event(), Event()

    class Hanging:
        def send(self, notice: Notice) -> None:
            hangs.set()
            assert done.wait(30)

    publisher = world.publisher(post=Hanging())
    publisher.start()
    assert hangs.wait(30)
    world.issue_code()
    sent = world.dispatcher().dispatch_due()
    done.set()
    publisher.stop(30)

    assert (1, [("DELIVERED", False)], []) == (sent, world.rows(), world.waiting())
