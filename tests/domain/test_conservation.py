"""Whatever happens in whatever order: no point is created, lost, or spent twice, and a check is what the deed does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from hypothesis import given, note, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from points_grpc.domain.commands import (
    AuthorizeRedemption,
    CaptureRedemption,
    CheckRedemption,
    CheckTransfer,
    Command,
    Expiry,
    RedeemPoints,
    ReleaseRedemption,
    TransferPoints,
)
from points_grpc.domain.events import Booked, DueMoved, HoldClosed, LotsMatured
from points_grpc.domain.model import Account, HoldState, Kind, Source
from points_grpc.domain.outcome import Accepted, Balance, Outcome, Refused
from points_grpc.domain.policy import Category, Direction, PointValue, VelocityLimit, Window
from points_grpc.domain.snapshot import due_at_of
from worlds import (
    ANN,
    BEN,
    BRONZE,
    CID,
    GOLD,
    SILVER,
    World,
    adjust,
    issue,
    merge,
    metals,
    redeem,
    reverse,
    take_back,
    transfer,
)

T = TypeVar("T")

CUSTOMERS = (ANN, BEN, CID)
DETERMINED = settings(max_examples=200, deadline=None, derandomize=True, database=None)
windows = st.integers(1, 4)


# -- what happens ----------------------------------------------------------------------------------------------------


class Choices:
    """Reads choices off a number, so that a step is one draw and shrinks as one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        self.number, index = divmod(self.number, len(options))
        return options[index]

    def maybe(self, options: Sequence[int]) -> int | None:
        """One of the options, or nothing."""
        return self.pick(options) if self.pick((False, True)) else None


class Shown:
    """Shows a command in full, should the test fail: commands hide what was said."""

    def __init__(self, command: Command) -> None:
        self.command = command

    def __repr__(self) -> str:
        return f"{type(self.command).__name__}({asdict(self.command)})"


PROGRAMS = (GOLD, GOLD, SILVER)
HOURS = (*range(72), -2, -1)
KINDS = (
    *("issue", "transfer", "transfer", "transfer", "redeem", "redeem", "reverse", "reverse", "pass", "pass"),
    *("adjust", "take_back", "take_back", "merge"),
    *("authorize", "authorize", "capture", "release"),
)
steps = st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=40)


def happen(world: World, step: int, number: int) -> Command | None:
    """What a step is, the n-th of a run: a command; or None, when it was time that passed."""
    choices = Choices(step)
    kind = choices.pick(KINDS)
    if kind == "pass":
        pass_time(world, choices)
        return None
    command = MAKERS[kind](world, choices, number)
    note(Shown(command))
    return command


def pass_time(world: World, choices: Choices) -> None:
    """Some hours pass, or all until something is due: to the instant or just past it."""
    due = [one.due_at for one in world.wallets.values() if one.due_at is not None and one.due_at >= world.now]
    later = world.now + timedelta(hours=choices.pick(range(30)))
    world.now = min(due) if due and choices.pick((0, 1)) == 0 else later
    world.pass_time(microseconds=choices.pick((0, 1)))


def an_issue(world: World, choices: Choices, number: int) -> Command:
    """Somebody gets points: of any source, promised or not, for a time or for ever."""
    return issue(
        choices.pick(range(1, 100)),
        choices.pick(CUSTOMERS),
        program_id=choices.pick(PROGRAMS),
        source=choices.pick(tuple(Source)),
        earning_program_id=choices.pick((0, GOLD, BRONZE)),
        category=choices.pick(("", "Main", "Gift", "Frozen")),
        available_from=in_hours(world, choices.maybe(HOURS)),
        expiry=Expiry(at=in_hours(world, choices.maybe(HOURS))),
        transaction_number=choices.pick(("", "B-1")),
    )


def a_transfer(world: World, choices: Choices, number: int) -> Command:
    """Somebody gives points to somebody, now and then to nobody else."""
    source = choices.pick(range(3))
    destination = (source + choices.pick((1, 2, 1, 2, 1, 2, 0))) % 3
    points, program_id, pooled = choices.pick(range(1, 30)), choices.pick(PROGRAMS), choices.pick((True, False))
    return transfer(points, CUSTOMERS[source], CUSTOMERS[destination], program_id=program_id, pooled=pooled)


def a_redemption(world: World, choices: Choices, number: int) -> Command:
    """Somebody redeems points, perhaps on a bill, under a reference that tells the step."""
    return redeem(
        choices.pick(range(1, 30)),
        choices.pick(CUSTOMERS),
        program_id=choices.pick(PROGRAMS),
        pooled=choices.pick((True, False)),
        category=choices.pick(("", "", "", "Gift")),
        transaction_number=choices.pick(("", "B-1", "B-2")),
        external_reference=f"R-{number}",
    )


def a_reversal(world: World, choices: Choices, number: int) -> Command:
    """Somebody wants back what was redeemed, by its reference or its bill; mostly whoever redeemed it."""
    points = choices.maybe(range(1, 20))
    stranger = choices.pick((False, False, False, False, False, True))
    made = choices.pick(list(world.redemptions.values()) or [None])
    customer_id = choices.pick(CUSTOMERS)
    if made is None:
        return reverse(customer_id=customer_id, points=points, transaction_number="B-1")
    owner = customer_id if stranger else made.customer_id
    if made.transaction_number and choices.pick((True, False)):
        return reverse(customer_id=owner, points=points, transaction_number=made.transaction_number)
    return reverse(customer_id=owner, points=points, external_reference=made.external_reference)


def an_adjustment(world: World, choices: Choices, number: int) -> Command:
    """Somebody's points are corrected downwards."""
    return adjust(
        choices.pick(range(1, 30)),
        choices.pick(CUSTOMERS),
        program_id=choices.pick(PROGRAMS),
        category=choices.pick(("", "", "Gift")),
    )


def a_taking_back(world: World, choices: Choices, number: int) -> Command:
    """A transfer is taken back, for the first time or again."""
    made = [one.transaction_id for one in world.journal if one.kind is Kind.TRANSFER]
    return take_back(choices.pick(made or [0]), partial=choices.pick((True, False)))


def a_merge(world: World, choices: Choices, number: int) -> Command:
    """Somebody turns out to be somebody else; seldom, or nobody would be left."""
    if choices.pick((True, True, True, False)):
        return merge(choices.pick(CUSTOMERS), 99)
    return merge(choices.pick(CUSTOMERS), choices.pick(CUSTOMERS))


def an_authorization(world: World, choices: Choices, number: int) -> Command:
    """Somebody holds points for a redemption, for an hour or for days."""
    command = a_redemption(world, choices, number)
    assert isinstance(command, RedeemPoints)
    return AuthorizeRedemption(command, choices.pick((3_600, 40 * 3_600, 2_592_000)))


def a_capture(world: World, choices: Choices, number: int) -> Command:
    """Somebody redeems what is held, or part of it, or more, or what is held no more."""
    hold = choices.pick([*world.holds.values(), None])
    return CaptureRedemption(hold.hold_id if hold else "h0", choices.maybe(range(1, 20)))


def a_release(world: World, choices: Choices, number: int) -> Command:
    """Somebody gives back what is held."""
    hold = choices.pick([*world.holds.values(), None])
    return ReleaseRedemption(hold.hold_id if hold else "h0")


MAKERS: dict[str, Callable[[World, Choices, int], Command]] = {
    "issue": an_issue,
    "transfer": a_transfer,
    "redeem": a_redemption,
    "reverse": a_reversal,
    "adjust": an_adjustment,
    "take_back": a_taking_back,
    "merge": a_merge,
    "authorize": an_authorization,
    "capture": a_capture,
    "release": a_release,
}


def in_hours(world: World, ahead: int | None) -> datetime | None:
    """An instant so many hours ahead."""
    return None if ahead is None else world.now + timedelta(hours=ahead)


@cache
def began() -> World:
    """Three customers in two pooled programs, with some points, and limits that are reached now and then."""
    world = metals()
    world.enrol(CID, GOLD)
    world.change_program(SILVER, time_zone="Asia/Kolkata")
    for program_id in (GOLD, SILVER):
        world.change_redemption_policy(
            program_id,
            categories=(Category("Main"), Category("Gift"), Category("Frozen", redeemable=False)),
            point_value=PointValue(1, 3, "INR"),
            required_lifetime_points=10,
            reversal_days=4,
        )
        world.change_transfer_policy(
            program_id,
            velocity_limits=(
                VelocityLimit(Direction.OUT, Window.TODAY, points_max=40),
                VelocityLimit(Direction.IN, Window.LAST_7_DAYS, transfers_max=4),
            ),
            duplicate_window_s=3_600,
        )
    for customer_id, program_id in ((ANN, GOLD), (ANN, SILVER), (BEN, GOLD), (BEN, SILVER), (CID, GOLD)):
        for category, ahead in (("Main", None), ("Gift", 24), ("Main", 50)):
            until = Expiry(at=in_hours(world, ahead))
            world.accept(issue(20, customer_id, program_id=program_id, category=category, expiry=until))
    return world


def small_world(window: int, happened: Sequence[int] = ()) -> World:
    """The world that all runs begin with, some steps later; so many lots of a wallet are loaded at first."""
    world = began().copy()
    world.window = window
    for number, step in enumerate(happened):
        if command := happen(world, step, number):
            world.decide(command)
    return world


# -- what must hold --------------------------------------------------------------------------------------------------


def verify(world: World) -> None:
    """What holds of every world that began with nothing."""
    verify_postings(world)
    verify_wallets(world)
    verify_lots(world)
    verify_holds(world)
    for redemption in world.redemptions.values():
        assert redemption.points == sum(one.points for one in redemption.lots)
        assert redemption.reversed == sum(one.reversed for one in redemption.lots)
        assert all(0 <= one.reversed <= one.points for one in redemption.lots)


def verify_postings(world: World) -> None:
    """Postings sum to zero per program; what was issued is held by wallets, redeemed or expired."""
    accounts: Counter[Account] = Counter()
    for entry in world.journal:
        sums: Counter[int] = Counter()
        for posting in entry.postings:
            sums[posting.program_id] += posting.points
            accounts[posting.account] += posting.points
        assert not any(sums.values())
        assert (entry.actor == "") == (entry.request_id == "")
        assert (entry.actor == "") <= (entry.kind in {Kind.EXPIRY, Kind.RELEASE})
        assert (entry.kind is Kind.EXPIRY) <= (entry.actor == "")
    issued = sum(one.points for one in world.lots.values() if one.parent_lot_id is None)
    held = sum(one.current for one in world.wallets.values())
    redeemed = sum(one.points - one.reversed for one in world.redemptions.values())
    assert issued == -accounts[Account.ISSUED]
    assert held == accounts[Account.WALLET]
    assert redeemed == accounts[Account.REDEEMED]
    assert issued == held + redeemed + accounts[Account.EXPIRED] + accounts[Account.ADJUSTED]
    assert accounts[Account.EXPIRED] >= 0
    assert accounts[Account.ADJUSTED] >= 0
    assert accounts[Account.CLEARING] == 0


def verify_wallets(world: World) -> None:
    """A wallet's totals are those of its lots and of its buckets, its version and balance those of its postings."""
    for key, wallet in world.wallets.items():
        lots = [one for one in world.lots.values() if one.wallet == key]
        buckets = world.buckets.get(key, {}).values()
        totals = (wallet.current, wallet.promised, wallet.held)
        assert totals == (
            sum(one.remaining for one in lots),
            sum(one.remaining for one in lots if one.promised),
            sum(one.held for one in lots),
        )
        assert totals == tuple(map(sum, zip(*buckets, strict=True))) or (totals == (0, 0, 0) and not buckets)
        assert min(*totals, *(min(one) for one in buckets), 0) == 0
        assert wallet.promised + wallet.held <= wallet.current
        touched = [
            [one for one in entry.postings if (one.customer_id, one.program_id) == key] for entry in world.journal
        ]
        versions = [{one.wallet_version for one in found} for found in touched if found]
        assert [{number} for number in range(1, wallet.version + 1)] == versions
        balance = 0
        for posting in (one for found in touched for one in found):
            balance += posting.points
            assert balance == posting.balance_after
            assert balance >= 0
        due = [at for one in lots if one.remaining and (at := due_at_of(one)) is not None]
        assert not due or (wallet.due_at is not None and wallet.due_at <= min(due))


def verify_lots(world: World) -> None:
    """A lot's rest is the sum of its postings; what it was drawn from is its twin in all but size and place."""
    moved: Counter[int] = Counter()
    for entry in world.journal:
        for posting in entry.postings:
            moved[posting.lot_id] += posting.points
    for one in world.lots.values():
        assert 0 <= one.remaining <= one.points
        assert one.remaining == moved[one.lot_id]
        if one.parent_lot_id is None:
            assert one.root_lot_id == one.lot_id
            continue
        parent = world.lots[one.parent_lot_id]
        assert (parent.earning_program_id, parent.source, parent.category, parent.awarded_at) == (
            one.earning_program_id,
            one.source,
            one.category,
            one.awarded_at,
        )
        assert (parent.expires_at, parent.root_lot_id) == (one.expires_at, one.root_lot_id)
        assert one.points <= parent.points


def verify_holds(world: World) -> None:
    """What is held of a lot is what open holds keep of it, and what its postings say; no hold outlives its lots."""
    kept: Counter[int] = Counter()
    for hold in world.holds.values():
        assert hold.points == sum(one.points for one in hold.lots)
        if hold.state is not HoldState.OPEN:
            continue
        for one in hold.lots:
            kept[one.lot_id] += one.points
            expires_at = world.lots[one.lot_id].expires_at
            assert expires_at is None or hold.expires_at <= expires_at
            due_at = world.wallets[one.wallet].due_at
            assert due_at is not None
            assert due_at <= hold.expires_at
    posted: Counter[int] = Counter()
    for posting in (one for entry in world.journal for one in entry.postings):
        posted[posting.lot_id] += posting.held
    for lot in world.lots.values():
        assert kept[lot.lot_id] == lot.held == posted[lot.lot_id]
    captured = sum(one.captured for one in world.holds.values())
    by_capture = {one.closing_transaction_id for one in world.holds.values() if one.state is HoldState.CAPTURED}
    assert captured == sum(one.points for one in world.redemptions.values() if one.transaction_id in by_capture)


def verify_step(before: World, after: World, outcome: Outcome) -> None:
    """What holds of every single step."""
    for key, wallet in before.wallets.items():
        now = after.wallets[key]
        assert now.lifetime_earned >= wallet.lifetime_earned
        assert now.lifetime_received >= wallet.lifetime_received
    if isinstance(outcome, Refused):
        left = {type(event) for event in after.changes.events}
        assert left <= {Booked, LotsMatured, DueMoved, HoldClosed}
        assert all(event.entry.kind in {Kind.EXPIRY, Kind.RELEASE} for event in after.events(Booked))
    for balance in balances_of(outcome):
        assert after.balance(balance.customer_id, balance.program_id) == balance


def verify_parity(before: World, command: Command, outcome: Outcome) -> None:
    """A check refuses what the deed refuses, and plans what the deed does."""
    match command:
        case TransferPoints():
            checked = before.copy().decide(CheckTransfer(command))
        case RedeemPoints():
            checked = before.copy().decide(CheckRedemption(command))
        case AuthorizeRedemption():
            verify_authorization(before, command, outcome)
            return
        case _:
            return
    if isinstance(outcome, Refused):
        assert outcome == checked
        return
    assert isinstance(checked, Accepted)
    done: Any = outcome.result
    plan: Any = checked.result
    assert (done.points, done.shares, done.balances) == (plan.points, plan.shares, plan.balances_after)
    assert done.points == sum(one.deducted for one in done.shares)
    assert outcome.warnings == checked.warnings
    if isinstance(command, RedeemPoints):
        assert (done.value, done.lots, done.lots_omitted) == (plan.value, plan.lots, plan.lots_omitted)


def verify_authorization(before: World, command: AuthorizeRedemption, outcome: Outcome) -> None:
    """An authorisation is refused as the redemption is, and holds what it takes; its capture leaves what it leaves."""
    after = before.copy()
    redeemed = after.decide(command.redemption)
    if isinstance(outcome, Refused):
        assert outcome == redeemed
        return
    assert isinstance(redeemed, Accepted)
    held: Any = outcome.result
    made: Any = redeemed.result
    assert (held.points, held.value, held.lots) == (made.points, made.value, made.lots)
    captured = before.copy()
    captured.decide(command)
    captured.accept(CaptureRedemption(held.hold_id))
    left = {key: (one.current, one.held) for key, one in captured.wallets.items()}
    assert {key: (one.current, one.held) for key, one in after.wallets.items()} == left


def balances_of(outcome: Outcome) -> Sequence[Balance]:
    """The wallets that an answer shows."""
    return getattr(outcome.result, "balances", ()) if isinstance(outcome, Accepted) else ()


# -- the properties --------------------------------------------------------------------------------------------------


class TestProperties:
    """Random sequences over a small world."""

    @DETERMINED
    @given(steps, windows)
    def test_conservation_and_parity(self, happens: list[int], window: int) -> None:
        """After every step all points are accounted for, and each deed was what its check had said."""
        world = small_world(window)
        for number, step in enumerate(happens):
            command = happen(world, step, number)
            if command is None:
                continue
            before = world.copy()
            outcome = world.decide(command)
            verify(world)
            verify_step(before, world, outcome)
            verify_parity(before, command, outcome)

    @DETERMINED
    @given(steps, st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=12), windows)
    def test_batched_equals_one_by_one(self, happened: list[int], batch: list[int], window: int) -> None:
        """A batch has the outcomes that its commands have one by one, and leaves the same world."""
        world = small_world(window, happened)
        made = [happen(world, step, len(happened) + number) for number, step in enumerate(batch)]
        commands = [command for command in made if command is not None]
        together, apart = world.copy(), world.copy()

        outcomes = together.decide_batch(commands)

        assert [apart.decide(command) for command in commands] == outcomes
        assert state(apart) == state(together)
        verify(together)

    @DETERMINED
    @given(steps)
    def test_everything_expires(self, happened: list[int]) -> None:
        """In the end whatever can expire has expired, and what is left never does."""
        world = small_world(3, happened)
        world.pass_time(days=365)
        for customer_id in CUSTOMERS:
            world.decide(redeem(10**12, customer_id))

        verify(world)
        assert {None} >= {one.expires_at for one in world.lots.values() if one.remaining}
        assert [] == [one for one in world.lots.values() if one.promised and one.remaining]
        assert {None} >= {one.due_at for one in world.wallets.values()}


def state(world: World) -> dict[str, Any]:
    """What must not depend on how commands were batched: all but the time of the next booking."""
    return {
        "wallets": {key: replace(one, due_at=None) for key, one in world.wallets.items()},
        "buckets": {(key, at): one for key, found in world.buckets.items() for at, one in found.items() if any(one)},
        "lots": world.lots,
        "journal": world.journal,
        "redemptions": world.redemptions,
        "holds": world.holds,
        "purchases": world.purchases,
        "velocity": world.velocity,
    }
