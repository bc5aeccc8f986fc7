"""Holds: what an authorisation keeps, what capture and release do with it once, and what a deadline means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from domain.defects import Defect, Scene, cases, in_world, names, pairs, spoiled
from points_grpc import codes
from points_grpc.domain.commands import CaptureRedemption, Command, ReleaseRedemption
from points_grpc.domain.configuration import REDEMPTIONS_ALLOWED
from points_grpc.domain.events import Booked, DueMoved, HoldClosed
from points_grpc.domain.model import (
    Account,
    FraudStatus,
    HeldLot,
    Hold,
    HoldState,
    Kind,
    Posting,
    RedeemedLot,
    Source,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, HoldResult, LotShare, MoneyValue, ProgramShare, Refused
from points_grpc.domain.policy import PointValue
from points_grpc.domain.snapshot import NotLoaded
from worlds import ANN, BEN, FIRST_ID, GOLD, NOW, SILVER, World, authorize, issue, metals, redeem, reverse, transfer

INSTANT = timedelta(microseconds=1)
DEADLINE = NOW + timedelta(seconds=900)
TOMORROW = NOW + timedelta(days=1)


def world_with_points() -> World:
    """Ann has 30 points that expire tomorrow, 40 later, and 50 for ever that cannot be transferred."""
    world = metals()
    world.change_redemption_policy(point_value=PointValue(25, 1, "INR"))
    world.give(1, 30, expires_at=TOMORROW)
    world.give(2, 40, expires_at=TOMORROW + timedelta(days=1))
    world.give(3, 50, source=Source.REGISTRATION)
    return world


def held(world: World, points: int = 50, **given: Any) -> Hold:
    """The hold of an authorisation that is accepted."""
    result = world.accept(authorize(points, **given))
    assert isinstance(result, HoldResult)
    return world.holds[result.hold_id]


def kept(world: World) -> dict[int, int]:
    """What is held of each lot of Ann's."""
    return {one.lot_id: one.held for one in world.lots.values() if one.held}


class TestAuthorisation:
    """Points are held as a redemption would take them."""

    def test_answer(self) -> None:
        """It tells the hold, its deadline, its worth and lots, and the wallet as it leaves it."""
        world = world_with_points()

        result = world.accept(authorize(50))

        assert (
            HoldResult(
                hold_id="hrt",
                transaction_id=FIRST_ID + 1,
                customer_id=ANN,
                points=50,
                value=MoneyValue("INR", 1_250),
                expires_at=DEADLINE,
                lots=(LotShare(1, GOLD, 30, TOMORROW), LotShare(2, GOLD, 20, TOMORROW + timedelta(days=1))),
                lots_omitted=0,
                balances=(world.balance(ANN),),
            )
            == result
        )
        balance = world.balance(ANN)
        assert (4, 120, 70, 20, 50) == (
            balance.version,
            balance.current,
            balance.redeemable,
            balance.transferable,
            balance.held,
        )

    def test_booking(self) -> None:
        """The booking moves no points, says what is held of each lot, and raises the version of the wallet once."""
        world = world_with_points()

        world.accept(authorize(50, notes="table 7"))

        [entry] = world.journal
        assert (Kind.HOLD, 50, "table 7", 3) == (entry.kind, entry.points, entry.notes, entry.policy_revision)
        assert (
            Posting(Account.WALLET, ANN, GOLD, 1, 0, wallet_version=4, balance_after=120, held=30),
            Posting(Account.WALLET, ANN, GOLD, 2, 0, wallet_version=4, balance_after=120, held=20),
        ) == entry.postings

    def test_hold(self) -> None:
        """The hold keeps what the capture will need."""
        world = world_with_points()
        at = NOW - timedelta(hours=1)

        hold = held(world, 50, transaction_number="B-1", external_reference="R-1", redemption_time=at)

        assert (HoldState.OPEN, NOW, DEADLINE, 3) == (hold.state, hold.held_at, hold.expires_at, hold.policy_revision)
        assert ("B-1", "R-1", at) == (hold.transaction_number, hold.external_reference, hold.redemption_time)
        assert (HeldLot(1, ANN, GOLD, 30), HeldLot(2, ANN, GOLD, 20)) == hold.lots
        assert PointValue(25, 1, "INR") == hold.point_value

    @pytest.mark.parametrize(
        ("hold_s", "wanted"),
        [(60, NOW + timedelta(seconds=60)), (86_400, TOMORROW), (86_401, TOMORROW), (2_592_000, TOMORROW)],
    )
    def test_deadline(self, hold_s: int, wanted: Any) -> None:
        """The deadline is never later than the first expiry of the lots drawn, and the wallet is due by then."""
        world = world_with_points()

        assert wanted == held(world, hold_s=hold_s).expires_at
        assert wanted == world.wallet(ANN).due_at

    def test_deadline_of_lots_that_never_expire(self) -> None:
        """Lots that never expire set no limit."""
        world = metals()
        world.give(1, 50)

        assert NOW + timedelta(days=30) == held(world, hold_s=2_592_000).expires_at

    def test_held_points_cannot_be_spent(self) -> None:
        """What is held can be neither redeemed, transferred, nor held again; the rest can."""
        world = world_with_points()
        held(world, 100)

        codes_of = [world.refuse(one).code for one in (redeem(21), transfer(21), authorize(21))]

        assert [
            codes.INSUFFICIENT_REDEEMABLE_POINTS,
            codes.POINTS_NOT_TRANSFERABLE,
            codes.INSUFFICIENT_REDEEMABLE_POINTS,
        ] == codes_of
        world.accept(redeem(20))
        assert {1: 30, 2: 40, 3: 30} == kept(world) == world.remaining(ANN)

    def test_pooled(self) -> None:
        """A pooled hold keeps points across the programs of the group; each wallet is touched once."""
        world = metals()
        world.give(1, 30, program_id=SILVER, expires_at=TOMORROW)
        world.give(2, 30)

        hold = held(world, 50, pooled=True)

        assert [(1, SILVER, 30), (2, GOLD, 20)] == [(one.lot_id, one.program_id, one.points) for one in hold.lots]
        assert [DEADLINE] * 2 == [world.wallet(ANN, one).due_at for one in (GOLD, SILVER)]
        assert [30, 20] == [world.balance(ANN, one).held for one in (SILVER, GOLD)]

    def test_reference_is_kept(self) -> None:
        """While a hold is open nothing else can take its reference; afterwards it is free, unless it was captured."""
        world = world_with_points()
        world.give(9, 50, customer_id=BEN)
        hold = held(world, 10, external_reference="R-1")
        again = redeem(5, BEN, external_reference="R-1")

        assert codes.EXTERNAL_REFERENCE_REUSED is world.refuse(again).code
        assert codes.EXTERNAL_REFERENCE_REUSED is world.refuse(authorize(5, BEN, external_reference="R-1")).code
        world.accept(ReleaseRedemption(hold.hold_id))
        other = held(world, 10, external_reference="R-1")
        world.accept(CaptureRedemption(other.hold_id))
        assert codes.EXTERNAL_REFERENCE_REUSED is world.refuse(again).code

    def test_reference_of_an_overdue_hold_is_free(self) -> None:
        """A hold past its deadline keeps no reference, whoever asks."""
        world = world_with_points()
        world.give(9, 50, customer_id=BEN)
        held(world, 10, external_reference="R-1")
        world.now = DEADLINE + INSTANT

        world.accept(redeem(5, BEN, external_reference="R-1"))

    def test_in_one_batch(self) -> None:
        """Commands of a batch see the holds before them."""
        world = world_with_points()

        outcomes = world.decide_batch([authorize(100), authorize(21), authorize(20)])

        assert [True, False, True] == [isinstance(one, Accepted) for one in outcomes]


class TestCapture:
    """What is held is redeemed, once."""

    def test_whole(self) -> None:
        """All that is held becomes a redemption of the held lots in spending order."""
        world = world_with_points()
        hold = held(world, 50, transaction_number="B-1", external_reference="R-1")
        world.pass_time(minutes=5)

        result = world.accept(CaptureRedemption(hold.hold_id, notes="paid"))

        made = result.redemption
        assert (50, 0, MoneyValue("INR", 1_250), world.now) == (
            made.points,
            result.released,
            made.value,
            made.redeemed_at,
        )
        assert (ProgramShare(GOLD, 50, 70),) == made.shares
        assert (world.balance(ANN),) == made.balances
        redemption = world.redemptions[made.redemption_id]
        assert (RedeemedLot(1, ANN, GOLD, 30, 0), RedeemedLot(2, ANN, GOLD, 20, 0)) == redemption.lots
        assert ("B-1", "R-1") == (redemption.transaction_number, redemption.external_reference)
        assert {2: 20, 3: 50} == world.remaining(ANN)
        assert {} == kept(world)

    def test_booking(self) -> None:
        """Points of held lots go to "redeemed", and what is left over is released by the same transaction."""
        world = world_with_points()
        hold = held(world, 60)

        result = world.accept(CaptureRedemption(hold.hold_id, 40, "paid"))

        entry = world.journal[-1]
        assert (Kind.REDEMPTION, 40, "paid", 3) == (entry.kind, entry.points, entry.notes, entry.policy_revision)
        assert (
            Posting(Account.WALLET, ANN, GOLD, 1, -30, wallet_version=5, balance_after=90, held=-30),
            Posting(Account.WALLET, ANN, GOLD, 2, -10, wallet_version=5, balance_after=80, held=-30),
            Posting(Account.REDEEMED, 0, GOLD, 0, 40, 0, 0),
        ) == entry.postings
        assert 20 == result.released
        assert (world.balance(ANN),) == result.redemption.balances
        assert (5, 80, 80, 30) == (
            world.balance(ANN).version,
            world.balance(ANN).current,
            world.balance(ANN).redeemable,
            world.balance(ANN).transferable,
        )
        closed = world.holds[hold.hold_id]
        assert (HoldState.CAPTURED, 40, NOW, entry.transaction_id) == (
            closed.state,
            closed.captured,
            closed.closed_at,
            closed.closing_transaction_id,
        )

    def test_lots_that_are_only_released(self) -> None:
        """Lots that the capture does not reach are released and are none of the redemption's."""
        world = world_with_points()
        hold = held(world, 60)

        result = world.accept(CaptureRedemption(hold.hold_id, 10))

        assert (LotShare(1, GOLD, 10, TOMORROW),) == result.redemption.lots
        assert [RedeemedLot(1, ANN, GOLD, 10, 0)] == list(world.redemptions[result.redemption.redemption_id].lots)
        assert {1: 20, 2: 40, 3: 50} == world.remaining(ANN)
        assert {} == kept(world)

    def test_whatever_came_since(self) -> None:
        """Neither policy, configuration, fraud, nor the worth of a point are judged again."""
        world = world_with_points()
        hold = held(world, 50)
        world.change_redemption_policy(enabled=False, minimum_points=1_000, point_value=None, proof_required=True)
        world.config[REDEMPTIONS_ALLOWED] = "neither"
        world.change_customer(ANN, fraud_status=FraudStatus.CONFIRMED)
        world.leave(ANN)

        result = world.accept(CaptureRedemption(hold.hold_id))

        assert MoneyValue("INR", 1_250) == result.redemption.value
        assert 3 == world.journal[-1].policy_revision

    def test_of_exactly_these_lots(self) -> None:
        """Points that would go first and came later are left alone."""
        world = world_with_points()
        hold = held(world, 30)
        world.give(9, 100, expires_at=NOW + timedelta(minutes=10))

        world.accept(CaptureRedemption(hold.hold_id))

        assert {9: 100, 2: 40, 3: 50} == world.remaining(ANN)

    def test_pooled(self) -> None:
        """A pooled capture takes from each wallet what was held there."""
        world = metals()
        world.give(1, 30, program_id=SILVER, expires_at=TOMORROW)
        world.give(2, 30)
        hold = held(world, 50, pooled=True)

        result = world.accept(CaptureRedemption(hold.hold_id, 40))

        assert {SILVER: 30, GOLD: 10} == {
            one.program_id: one.points for one in world.journal[-1].postings if one.account is Account.REDEEMED
        }
        assert (world.balance(ANN, SILVER), world.balance(ANN, GOLD)) == result.redemption.balances

    def test_what_is_left_is_counted_everywhere(self) -> None:
        """What is left of points earned in a program counts in every wallet, as the redemption would have told."""
        world = world_with_points()
        world.give(9, 500, program_id=SILVER, earning_program_id=GOLD)
        wanted = redeem(50, pooled=True)
        told = world.ask(wanted)
        hold = held(world, 50, pooled=True)

        captured = world.accept(CaptureRedemption(hold.hold_id)).redemption

        assert isinstance(told, Accepted)
        assert (ProgramShare(GOLD, 50, 570),) == captured.shares == told.result.shares  # type: ignore[union-attr]

    def test_reversed_like_any_other(self) -> None:
        """What was captured can be reversed, by the id of the redemption or by the reference of the authorisation."""
        world = world_with_points()
        hold = held(world, 50, external_reference="R-1")
        redemption_id = world.accept(CaptureRedemption(hold.hold_id, 40)).redemption.redemption_id

        world.accept(reverse(redemption_id, points=15))
        world.accept(reverse(external_reference="R-1"))

        assert {1: 30, 2: 40, 3: 50} == world.remaining(ANN)
        assert codes.REDEMPTION_ALREADY_REVERSED is world.refuse(reverse(redemption_id)).code

    def test_in_the_last_instant(self) -> None:
        """A hold is open through its deadline."""
        world = world_with_points()
        hold = held(world, 50)
        world.now = DEADLINE

        world.accept(CaptureRedemption(hold.hold_id))


class TestRelease:
    """What is held is given back."""

    def test_everything(self) -> None:
        """Everything is free again, and no point has moved."""
        world = world_with_points()
        hold = held(world, 50)

        result = world.accept(ReleaseRedemption(hold.hold_id, "left"))

        entry = world.journal[-1]
        assert (Kind.RELEASE, 50, "left", 50) == (entry.kind, entry.points, entry.notes, result.released)
        assert [(0, -30), (0, -20)] == [(one.points, one.held) for one in entry.postings]
        assert (world.balance(ANN),) == result.balances
        assert (5, 120, 120, 0) == (
            world.balance(ANN).version,
            world.balance(ANN).current,
            world.balance(ANN).redeemable,
            world.balance(ANN).held,
        )
        assert HoldState.RELEASED is world.holds[hold.hold_id].state


class TestDeadline:
    """A hold past its deadline counts as released."""

    def test_booked_on_touch(self) -> None:
        """The next write on the customer books the release, which nobody asked for, before it is judged."""
        world = world_with_points()
        hold = held(world, 120)
        world.now = DEADLINE + INSTANT

        world.accept(redeem(120))

        _, release, redemption = world.journal
        assert (Kind.RELEASE, Kind.REDEMPTION) == (release.kind, redemption.kind)
        assert ("", "", 120) == (release.request_id, release.actor, release.points)
        closed = world.holds[hold.hold_id]
        assert (HoldState.EXPIRED, release.transaction_id) == (closed.state, closed.closing_transaction_id)

    def test_not_before(self) -> None:
        """In the instant of the deadline the points are still held."""
        world = world_with_points()
        held(world, 120)
        world.now = DEADLINE

        assert codes.INSUFFICIENT_REDEEMABLE_POINTS is world.refuse(redeem(1)).code

    @pytest.mark.parametrize("order", [CaptureRedemption, ReleaseRedemption])
    def test_too_late(self, order: type[Any]) -> None:
        """Capture and release are refused, and the release by the deadline is booked all the same."""
        world = world_with_points()
        hold = held(world, 50)
        world.now = DEADLINE + INSTANT

        refused = world.refuse(order(hold.hold_id))

        assert (codes.HOLD_NOT_OPEN, {"state": "EXPIRED"}) == (refused.code, refused.metadata)
        assert [Booked, HoldClosed] == [type(event) for event in world.changes.events][:2]
        assert {} == kept(world)

    def test_then_its_lots_expire(self) -> None:
        """A hold that ends with a lot is released before the lot expires."""
        world = world_with_points()
        hold = held(world, 50, hold_s=2_592_000)
        world.now = TOMORROW + INSTANT

        world.refuse(redeem(500))

        assert [Kind.HOLD, Kind.RELEASE, Kind.EXPIRY] == [one.kind for one in world.journal]
        assert HoldState.EXPIRED is world.holds[hold.hold_id].state
        assert {2: 40, 3: 50} == world.remaining(ANN)

    def test_several(self) -> None:
        """Each overdue hold is released by a booking of its own, the earliest first; the others stay."""
        world = world_with_points()
        second = held(world, 10, hold_s=120)
        first = held(world, 10, hold_s=60)
        third = held(world, 10, hold_s=180)
        world.pass_time(seconds=121)

        world.refuse(redeem(500))

        states = [world.holds[one.hold_id].state for one in (first, second, third)]
        closings = [world.holds[one.hold_id].closing_transaction_id or 0 for one in (first, second)]
        assert [HoldState.EXPIRED, HoldState.EXPIRED, HoldState.OPEN] == states
        assert closings == sorted(closings)
        assert 10 == world.wallet(ANN).held
        assert [DueMoved(WalletKey(ANN, GOLD), third.expires_at)] == world.events(DueMoved)

    def test_due_at_after_a_booking(self) -> None:
        """The time of the next booking is the deadline of an open hold, if nothing is due before."""
        world = metals()
        world.give(1, 10, expires_at=NOW + timedelta(seconds=30))
        world.give(2, 50)
        held(world, 50, hold_s=600)
        world.pass_time(seconds=31)

        world.refuse(redeem(500))

        assert {2: 50} == world.remaining(ANN)

    def test_hold_of_expiring_points_in_their_last_instant(self) -> None:
        """Points can be held in their last instant; with other holds, the wallet stays due for the earliest."""
        world = metals()
        world.give(1, 10, expires_at=TOMORROW)
        world.give(2, 50)
        world.now = TOMORROW
        early = held(world, 5, hold_s=900)
        world.accept(issue(5))
        world.now = TOMORROW + INSTANT

        world.accept(issue(5))

        assert TOMORROW == early.expires_at
        assert HoldState.EXPIRED is world.holds[early.hold_id].state

    def test_pooled(self) -> None:
        """A pooled hold is released in all its wallets at once."""
        world = metals()
        world.give(1, 30, program_id=SILVER, expires_at=TOMORROW)
        world.give(2, 30)
        held(world, 50, pooled=True)
        world.now = DEADLINE + INSTANT

        world.accept(issue(1))

        assert [0, 0] == [world.wallet(ANN, one).held for one in (GOLD, SILVER)]
        assert [Kind.HOLD, Kind.RELEASE, Kind.ISSUE] == [one.kind for one in world.journal]


# -- the order of refusals -------------------------------------------------------------------------------------------


def scene() -> Scene:
    """Ann's 50 points are held, ten of them silver, and all of them are wanted."""
    world = world_with_points()
    world.give(4, 10, program_id=SILVER, expires_at=TOMORROW - timedelta(hours=1))
    return Scene(world, CaptureRedemption(held(world, 50, pooled=True).hold_id))


def ended(order: type[Any]) -> Any:
    """Ends the hold."""

    def spoil(at: Scene) -> None:
        at.world.accept(order(at.command.hold_id))

    return spoil


def asks_too_much(at: Scene) -> None:
    """Asks for more than is held."""
    at.command = replace(at.command, points=51)


def unknown(at: Scene) -> None:
    """Names no hold."""
    at.command = replace(at.command, hold_id="h0")


ORDERS: dict[type[Any], Any] = {
    CaptureRedemption: lambda command: command,
    ReleaseRedemption: lambda command: ReleaseRedemption(command.hold_id),
}
ENDS = ("captured", "released", "overdue")
DEFECTS = (
    Defect(
        "org-paused",
        codes.PAUSED,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
    ),
    Defect(
        "program-paused",
        codes.PAUSED,
        in_world(lambda one: one.change_program(paused=True)),
        {"cause": "PROGRAM_PAUSED"},
        excludes=names("unknown"),  # there is no program then
    ),
    Defect(
        "pool-paused",
        codes.PAUSED,
        in_world(lambda one: one.change_program(SILVER, paused=True)),
        {"cause": "PROGRAM_PAUSED"},
        excludes=names("unknown"),
    ),
    Defect("unknown", codes.RESOURCE_NOT_FOUND, unknown, {"resource": "hold"}, "hold_id"),
    Defect(
        "merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(ANN, merged_into=BEN)),
        {"customer_id": "11", "survivor_id": "12"},
    ),
    Defect("captured", codes.HOLD_NOT_OPEN, ended(CaptureRedemption), {"state": "CAPTURED"}, excludes=names(*ENDS)),
    Defect("released", codes.HOLD_NOT_OPEN, ended(ReleaseRedemption), {"state": "RELEASED"}, excludes=names(*ENDS)),
    Defect(
        "overdue",
        codes.HOLD_NOT_OPEN,
        in_world(lambda one: one.pass_time(seconds=901)),
        {"state": "EXPIRED"},
        excludes=names(*ENDS),
    ),
    Defect("too-much", codes.FIELD_INVALID, asks_too_much, {"field": "points"}, "points", only=(CaptureRedemption,)),
)


class TestRefusals:
    """Capture and release: each cause by itself, and all of them in order."""

    @pytest.mark.parametrize("order", ORDERS)
    def test_accepted(self, order: type[Any]) -> None:
        """Without a defect the order is accepted."""
        assert isinstance(spoiled(scene(), (), ORDERS[order]), Accepted)

    @pytest.mark.parametrize(
        ("order", "defect"),
        [pytest.param(*case, id=f"{case[0].__name__}-{case[1].name}") for case in cases(DEFECTS, ORDERS)],
    )
    def test_row(self, order: type[Any], defect: Defect) -> None:
        """A single defect is refused with its code, its numbers and the field to blame."""
        outcome = spoiled(scene(), [defect], ORDERS[order])

        assert isinstance(outcome, Refused)
        assert (defect.code, defect.metadata, defect.field) == (outcome.code, outcome.metadata, outcome.field)
        assert set() == outcome.metadata.keys() - set(defect.code.metadata_keys)
        assert "*" in defect.code.operations or order.__name__ in defect.code.operations

    @pytest.mark.parametrize("order", ORDERS)
    def test_pairs(self, order: type[Any]) -> None:
        """Of any two defects, the earlier one is refused; the world is spoiled in the other direction."""
        for earlier, later in pairs(DEFECTS, order):
            outcome = spoiled(scene(), [later, earlier], ORDERS[order])

            assert isinstance(outcome, Refused)
            assert earlier.code is outcome.code, f"{earlier.name} before {later.name}"

    def test_too_much(self) -> None:
        """Who asks for more than is held is told how much that is."""
        outcome = spoiled(scene(), [one for one in DEFECTS if one.name == "too-much"], ORDERS[CaptureRedemption])

        assert isinstance(outcome, Refused)
        assert [("points", "at most 50: the hold keeps no more")] == [
            (one.field, one.description) for one in outcome.errors
        ]

    @pytest.mark.parametrize("order", ORDERS)
    def test_paused_elsewhere(self, order: type[Any]) -> None:
        """A pause of a program of the group of which nothing is held is nobody's business."""
        world = world_with_points()
        hold = held(world, 50, pooled=True)
        world.change_program(SILVER, paused=True)

        world.accept(order(hold.hold_id))

    def test_once(self) -> None:
        """Of several orders in one batch the first is accepted, and none after it."""
        world = world_with_points()
        hold_id = held(world, 50).hold_id
        orders: list[Command] = [ReleaseRedemption(hold_id), CaptureRedemption(hold_id), ReleaseRedemption(hold_id)]

        outcomes = world.decide_batch(orders)

        assert [True, False, False] == [isinstance(one, Accepted) for one in outcomes]


class TestSnapshot:
    """What was not declared shouts."""

    def test_not_loaded(self) -> None:
        """A hold, the holds of a customer, or calls that nobody declared are no absent ones."""
        world = world_with_points()
        snapshot, _ = world.snapshot([ReleaseRedemption("h0")])

        assert None is snapshot.hold("h0")
        with pytest.raises(NotLoaded):
            snapshot.hold("h1")
        with pytest.raises(NotLoaded):
            snapshot.open_holds(ANN)
        with pytest.raises(NotLoaded):
            snapshot.unused_call(world.customers[ANN], since=NOW)
