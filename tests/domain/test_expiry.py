"""What is due on a wallet: expiries and matured promises are booked when a write touches it, before all else."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from domain.defects import told
from points_grpc.domain.commands import Command, EnrolCustomer, Expiry, RecordPurchase
from points_grpc.domain.events import Booked, DueMoved, LotsMatured
from points_grpc.domain.model import Account, Kind, Posting
from points_grpc.domain.outcome import Accepted, Refused
from worlds import ANN, BEN, FIRST_ID, GOLD, NOW, SILVER, World, by_id, issue, metals, redeem, reverse, transfer

SOON, LATER = NOW + timedelta(days=1), NOW + timedelta(days=2)
INSTANT = timedelta(microseconds=1)


def booked(world: World) -> list[tuple[Kind, int, int]]:
    """The bookings of the last batch: kind, customer, points."""
    return [(one.entry.kind, one.entry.customer_id, one.entry.points) for one in world.events(Booked)]


class TestExpired:
    """Lots that expired."""

    def test_booking(self) -> None:
        """Expired lots go to "expired" in one booking of their own that nobody asked for, before the command's."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 20, expires_at=SOON + timedelta(hours=1))
        world.give(3, 10, expires_at=LATER)
        world.now = LATER - INSTANT

        result = world.accept(redeem(4))

        expiry, redemption = world.journal
        assert (Kind.EXPIRY, Kind.REDEMPTION) == (expiry.kind, redemption.kind)
        assert ("", "", "", 0) == (expiry.request_id, expiry.actor, expiry.notes, expiry.policy_revision)
        assert (ANN, GOLD, 50) == (expiry.customer_id, expiry.program_id, expiry.points)
        assert (
            Posting(Account.WALLET, ANN, GOLD, 1, -30, wallet_version=4, balance_after=30),
            Posting(Account.WALLET, ANN, GOLD, 2, -20, wallet_version=4, balance_after=10),
            Posting(Account.EXPIRED, 0, GOLD, 0, 50, 0, 0),
        ) == expiry.postings
        assert (world.balance(ANN),) == result.balances
        assert (5, 6) == (world.balance(ANN).version, world.balance(ANN).current)

    @pytest.mark.parametrize(
        ("now", "wanted"),
        [(SOON - INSTANT, []), (SOON, []), (SOON + INSTANT, [(Kind.EXPIRY, ANN, 30)])],
    )
    def test_instant(self, now: datetime, wanted: list[tuple[Kind, int, int]]) -> None:
        """A lot lives through its last instant."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.now = now

        world.decide(redeem(31))

        assert wanted == booked(world)

    @pytest.mark.parametrize(
        "command",
        [
            transfer(5),
            transfer(5, source=BEN, destination=ANN),
            redeem(5),
            issue(5),
            EnrolCustomer(by_id(ANN), SILVER),
            RecordPurchase(by_id(ANN), GOLD, "B-1", 700),
            reverse("r0"),
        ],
    )
    def test_touched_by(self, command: Command) -> None:
        """Any write on a customer books what is due, whether it is accepted or refused."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.now = LATER

        world.decide(command)

        assert (Kind.EXPIRY, ANN, 30) == booked(world)[0]
        assert 0 == world.remaining(ANN).get(1, 0)

    def test_refused(self) -> None:
        """A refusal leaves the booking, and is judged after it."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.now = LATER

        refused = world.refuse(redeem(30))

        assert {"points": "30", "current": "0", "short_by": "30"} == refused.metadata
        assert [Booked, DueMoved] == [type(event) for event in world.changes.events]

    def test_all_wallets(self) -> None:
        """All wallets of both parties are brought up to now, each by a booking of its own."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 20, program_id=SILVER, expires_at=SOON)
        world.give(3, 10, customer_id=BEN, expires_at=SOON)
        world.give(4, 100)
        world.now = LATER

        world.accept(transfer(100))

        assert [
            (Kind.EXPIRY, ANN, 30),
            (Kind.EXPIRY, ANN, 20),
            (Kind.EXPIRY, BEN, 10),
            (Kind.TRANSFER, ANN, 100),
        ] == booked(world)

    def test_once_in_a_batch(self) -> None:
        """The second command of a batch finds nothing due."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 30)
        world.now = LATER

        world.decide_batch([redeem(5), redeem(5)])

        assert [(Kind.EXPIRY, ANN, 30), (Kind.REDEMPTION, ANN, 5), (Kind.REDEMPTION, ANN, 5)] == booked(world)

    def test_more_than_was_loaded(self) -> None:
        """More expired lots than were loaded at first are booked all the same, and the first live one is found."""
        world = metals()
        for number in range(1, 101):
            world.give(number, 1, expires_at=SOON)
        world.give(101, 7, expires_at=LATER)
        world.now = LATER

        world.accept(issue(5))

        assert [(Kind.EXPIRY, ANN, 100), (Kind.ISSUE, ANN, 5)] == booked(world)
        assert LATER == world.wallet(ANN).due_at

    def test_nothing_due(self) -> None:
        """A wallet of which nothing is due is left alone."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 30, available_from=SOON)

        world.decide(redeem(5_000))

        assert [] == world.changes.events

    def test_held_and_unlimited_points_stay(self) -> None:
        """What never expires stays."""
        world = metals()
        world.give(1, 30)
        world.give(2, 30, expires_at=SOON)
        world.pass_time(days=40_000)

        world.decide(redeem(5_000))

        assert {1: 30} == world.remaining(ANN)
        assert None is world.wallet(ANN).due_at


class TestMatured:
    """Promised lots whose time came."""

    @pytest.mark.parametrize(("now", "promised"), [(SOON - INSTANT, 30), (SOON, 0)])
    def test_instant(self, now: datetime, promised: int) -> None:
        """Promised points are there from the instant they were promised for."""
        world = metals()
        world.give(1, 30, available_from=SOON)
        world.now = now

        outcome = world.decide(redeem(30))

        assert (promised == 0) == isinstance(outcome, Accepted)
        assert promised == world.wallet(ANN).promised

    def test_event(self) -> None:
        """Maturing moves no points: the lot is marked, the totals are moved, and the version stays."""
        world = metals()
        world.give(1, 30, available_from=SOON)
        world.give(2, 20, available_from=LATER)
        world.now = SOON

        world.refuse(redeem(31))

        assert [LotsMatured((ANN, GOLD), (1,)), DueMoved((ANN, GOLD), LATER)] == world.changes.events  # type: ignore[arg-type]
        assert [(1, False), (2, True)] == [(one.lot_id, one.promised) for one in world.lots_of(ANN)]
        assert (2, 50, 20) == (world.wallet(ANN).version, world.wallet(ANN).current, world.wallet(ANN).promised)
        assert [(50, 20)] == [(one.points, one.promised) for one in world.buckets[ANN, GOLD].values()]  # type: ignore[index]

    def test_matured_and_expired(self) -> None:
        """A lot that matured and expired untouched does both, and leaves no promise behind."""
        world = metals()
        world.give(1, 30, available_from=SOON, expires_at=SOON + timedelta(hours=1))
        world.now = LATER

        world.refuse(redeem(1))

        assert [LotsMatured, Booked, DueMoved] == [type(event) for event in world.changes.events]
        assert (0, 0, None) == (world.wallet(ANN).current, world.wallet(ANN).promised, world.wallet(ANN).due_at)
        assert [(0, 0)] == [(one.points, one.promised) for one in world.buckets[ANN, GOLD].values()]  # type: ignore[index]

    def test_expired_before_it_matured(self) -> None:
        """A promise that outlives its points ends with them."""
        world = metals()
        world.give(1, 30, available_from=LATER, expires_at=SOON)
        world.now = SOON + INSTANT

        world.refuse(redeem(1))

        assert [Booked, DueMoved] == [type(event) for event in world.changes.events]
        assert (0, 0, None) == (world.wallet(ANN).current, world.wallet(ANN).promised, world.wallet(ANN).due_at)
        assert [(0, 0)] == [(one.points, one.promised) for one in world.buckets[ANN, GOLD].values()]  # type: ignore[index]

    def test_promised_lots_of_the_batch_mature_later(self) -> None:
        """Points promised in one batch are there in a later one."""
        world = metals()
        world.accept(issue(30, available_from=SOON))
        world.now = SOON

        assert isinstance(world.decide(redeem(30)), Accepted)


class TestDueAt:
    """The first instant at which something of a wallet is due."""

    @pytest.mark.parametrize(
        ("lots", "wanted"),
        [
            ([], None),
            ([(None, None)], None),
            ([(None, LATER)], LATER),
            ([(LATER, None)], LATER),
            ([(LATER, SOON + timedelta(hours=5))], SOON + timedelta(hours=5)),
            ([(LATER + INSTANT, None), (None, LATER)], LATER),
            ([(LATER, None), (None, LATER + INSTANT)], LATER),
        ],
    )
    def test_computed_anew(self, lots: list[tuple[datetime | None, datetime | None]], wanted: datetime | None) -> None:
        """After a booking it is the earliest expiry or maturity of the lots that are left."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        for lot_id, (available_from, expires_at) in enumerate(lots, 2):
            world.give(lot_id, 10, available_from=available_from, expires_at=expires_at)
        world.now = SOON + INSTANT

        world.refuse(redeem(5_000))

        assert wanted == world.wallet(ANN).due_at
        assert [DueMoved((ANN, GOLD), wanted)] == world.events(DueMoved)  # type: ignore[arg-type]

    def test_of_a_promise_that_expired(self) -> None:
        """A promise that ended with its points is due no more, in the batch that booked it neither."""
        world = metals()
        world.give(1, 30, available_from=LATER, expires_at=SOON)
        world.give(2, 30, expires_at=SOON + INSTANT)
        world.now = SOON + INSTANT

        world.decide_batch([redeem(5_000), redeem(5_000)])

        assert SOON + INSTANT == world.wallet(ANN).due_at

    def test_of_spent_lots(self) -> None:
        """A lot that was spent before it expired is due once more, and only moves the time."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 30, expires_at=LATER)
        world.accept(redeem(30))
        due_at = world.wallet(ANN).due_at
        world.now = SOON + INSTANT

        world.refuse(redeem(5_000))

        assert SOON == due_at
        assert [DueMoved((ANN, GOLD), LATER)] == world.changes.events  # type: ignore[arg-type]

    def test_in_its_last_instant(self) -> None:
        """At the instant of an expiry a wallet may be due, and nothing of it moves."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.now = SOON

        world.refuse(redeem(5_000))

        assert [] == world.changes.events
        assert SOON == world.wallet(ANN).due_at

    def test_received(self) -> None:
        """The receiver's wallet is due when what it received is; the sender's is never later than it should be."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 30, customer_id=BEN, expires_at=LATER)

        world.accept(transfer(30))

        assert SOON == world.wallet(BEN).due_at
        assert SOON == world.wallet(ANN).due_at

    def test_received_in_its_last_instant(self) -> None:
        """Points given in their last instant disturb no other command of the batch."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 30, customer_id=BEN)
        world.now = SOON

        outcomes = world.decide_batch([transfer(30), issue(5, customer_id=BEN), issue(5)])
        world.now = SOON + INSTANT
        refused = world.decide(redeem(36, customer_id=BEN))

        assert [True] * 3 == [isinstance(one, Accepted) for one in outcomes]
        assert isinstance(refused, Refused)
        assert "35" == refused.metadata["current"]

    def test_promise_beside_a_last_instant(self) -> None:
        """Points given and spent in their last instant do not hide a promise of the same wallet."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 30, customer_id=BEN, available_from=LATER)
        world.now = SOON

        world.decide_batch([transfer(30), redeem(30, customer_id=BEN), redeem(1, customer_id=BEN)])
        world.now = LATER

        assert isinstance(world.decide(redeem(30, customer_id=BEN)), Accepted)

    def test_issued(self) -> None:
        """An issue makes a wallet due no later than its lot."""
        world = metals()
        dues = []
        for expiry in (Expiry(), Expiry(at=LATER), Expiry(at=SOON), Expiry(at=LATER)):
            world.accept(issue(5, expiry=expiry))
            dues.append(world.wallet(ANN).due_at)

        assert [None, LATER, SOON, SOON] == dues

    def test_expiries_in_turn(self) -> None:
        """Lot after lot expires as time passes."""
        world = metals()
        for lot_id in (1, 2, 3):
            world.give(lot_id, lot_id, expires_at=NOW + timedelta(days=lot_id))
        left = []
        for _ in range(4):
            world.pass_time(days=1, microseconds=1)
            refused = world.decide(redeem(100))
            assert ("POINTS_EXCEED_CURRENT", None, None) == told(refused)
            left.append(world.wallet(ANN).current)

        assert [5, 3, 0, 0] == left
        assert FIRST_ID + 3 == world.last_id
