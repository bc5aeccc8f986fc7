"""Holds: points that are kept for a redemption which was authorised, until it is captured, released, or overdue.

Rules of this file: an authorisation is judged as the redemption that it stands for (`redemption.judge`, the same
proof); capture and release judge nothing of that again, and their guards stand one a line. A hold moves no points: its
bookings say how much of each lot is held. A capture is a redemption of the held lots in spending order; what it leaves
is released by the same booking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain import redemption
from points_grpc.domain.balances import balance_after, program_shares
from points_grpc.domain.commands import AuthorizeRedemption, CaptureRedemption, ReleaseRedemption
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked, Event, HoldClosed, HoldOpened, RedemptionMade
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import Draw, shown
from points_grpc.domain.model import (
    Account,
    BucketKey,
    HeldLot,
    Hold,
    HoldState,
    JournalEntry,
    Kind,
    Lot,
    ProgramBook,
    RedeemedLot,
    Redemption,
    WalletKey,
)
from points_grpc.domain.outcome import (
    Accepted,
    Balance,
    CaptureResult,
    Decision,
    HoldResult,
    RedemptionResult,
    Refused,
    ReleaseResult,
    wrong_field,
)
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot

HOLD_S_MIN = 60
"""The shortest hold that can be asked for, in seconds."""

HOLD_S_MAX = 30 * 24 * 3_600
"""The longest hold that can be asked for, in seconds: 30 days."""

HOLD_S_DEFAULT = 900
"""How long a hold is kept if nobody says, in seconds."""

HoldOrder = CaptureRedemption | ReleaseRedemption


def lookups(command: HoldOrder) -> Lookups:
    """The hold."""
    return Lookups(hold_ids=(command.hold_id,))


def keys(command: HoldOrder, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    """The hold and its customer."""
    customer_id = directory.holds.get(command.hold_id)
    return Keys(
        customers=frozenset() if customer_id is None else frozenset({customer_id}), holds=frozenset({command.hold_id})
    )


# -- decisions -------------------------------------------------------------------------------------------------------


def decide_authorization(command: AuthorizeRedemption, context: Context, snapshot: Snapshot) -> Decision:
    """Holds the points, or says why the redemption would be refused."""
    case = redemption.Case(command.redemption, snapshot, fraud=codes.CUSTOMER_FRAUD)
    if refused := redemption.judge(case):
        return Decision(refused)
    proof = redemption.prove(case, context)
    if proof.refused:
        return Decision(proof.refused, proof.events)
    draws = redemption.plan_of(case).draws
    transaction_id = context.next_id()
    hold = _new_hold(case, draws, transaction_id, hold_s=command.hold_s)
    entry = _Changes(snapshot, ((one, 0, one.points) for one in draws)).build(
        hold,
        transaction_id=transaction_id,
        kind=Kind.HOLD,
        points=hold.points,
        context=context,
        notes=case.command.notes,
    )
    lots, omitted = shown(redemption.lot_shares(draws))
    result = HoldResult(
        hold_id=hold.hold_id,
        transaction_id=transaction_id,
        customer_id=hold.customer_id,
        points=hold.points,
        value=case.value,
        expires_at=hold.expires_at,
        lots=lots,
        lots_omitted=omitted,
        balances=entry.balances,
    )
    accepted = Accepted(result, redemption.warnings_of(case), transaction_id)
    used = redemption.used_call(case, transaction_id)
    return Decision(accepted, (*proof.events, *used, Booked(entry.booked), HoldOpened(hold)))


def decide_capture(command: CaptureRedemption, context: Context, snapshot: Snapshot) -> Decision:
    """Redeems what is held, or part of it, and releases the rest; or says why not."""
    case = Case(command, snapshot)
    if refused := judge_capture(case, command.points):
        return Decision(refused)
    hold = case.found
    points = hold.points if command.points is None else command.points
    taken = tuple(_taken(snapshot, hold, points))
    draws = tuple(Draw(one.lot, one.points) for one in taken if one.points)
    transaction_id = context.next_id()
    changes = _Changes(snapshot, ((Draw(one.lot, one.held), -one.points, -one.held) for one in taken))
    for one in draws:
        changes.entry.system(Account.REDEEMED, one.lot.program_id, one.points)
    entry = changes.build(
        hold, transaction_id=transaction_id, kind=Kind.REDEMPTION, points=points, context=context, notes=command.notes
    )
    made = _new_redemption(hold, draws, transaction_id, snapshot)
    lots, omitted = shown(redemption.lot_shares(draws))
    decimal_places = snapshot.book.programs[hold.program_id].decimal_places
    result = RedemptionResult(
        redemption_id=made.redemption_id,
        transaction_id=transaction_id,
        customer_id=hold.customer_id,
        points=points,
        value=redemption.value_of(points, hold.point_value, decimal_places),
        redeemed_at=snapshot.now,
        shares=program_shares(snapshot, draws, hold.customer_id),
        lots=lots,
        lots_omitted=omitted,
        balances=entry.balances,
    )
    closed = _closed(hold, HoldState.CAPTURED, snapshot, transaction_id, captured=points)
    accepted = Accepted(CaptureResult(result, hold.points - points), (), transaction_id)
    return Decision(accepted, (Booked(entry.booked), HoldClosed(closed), RedemptionMade(made)))


def decide_release(command: ReleaseRedemption, context: Context, snapshot: Snapshot) -> Decision:
    """Gives back everything that is held, or says why not."""
    case = Case(command, snapshot)
    if refused := judge_release(case):
        return Decision(refused)
    hold = case.found
    transaction_id = context.next_id()
    entry = _released(snapshot, hold, transaction_id, context=context, notes=command.notes)
    closed = _closed(hold, HoldState.RELEASED, snapshot, transaction_id)
    result = ReleaseResult(transaction_id, hold.points, entry.balances)
    return Decision(Accepted(result, (), transaction_id), (Booked(entry.booked), HoldClosed(closed)))


def end_overdue(snapshot: Snapshot, hold: Hold, next_id: Callable[[], int]) -> tuple[Event, ...]:
    """Books the release of a hold whose deadline has passed; nobody asked for it."""
    transaction_id = next_id()
    entry = _released(snapshot, hold, transaction_id, context=None)
    return (Booked(entry.booked), HoldClosed(_closed(hold, HoldState.EXPIRED, snapshot, transaction_id)))


# -- the case and its guards -----------------------------------------------------------------------------------------


class Case:
    """A capture or a release on its way through the guards. None: there is no such hold."""

    __slots__ = ("hold", "snapshot")

    def __init__(self, command: HoldOrder, snapshot: Snapshot) -> None:
        """Finds the hold. Holds past their deadline were released before (`expiry.overdue_holds`)."""
        self.snapshot = snapshot
        self.hold = snapshot.hold(command.hold_id)

    @property
    def found(self) -> Hold:
        """The hold; known once `hold_is_known` has passed."""
        assert self.hold is not None
        return self.hold


def judge_capture(case: Case, points: int | None) -> Refused | None:
    """The first rule that refuses a capture."""
    return judge_release(case) or points_are_held(case, points)


def judge_release(case: Case) -> Refused | None:
    """The first rule that refuses a release, and a capture before its points are looked at."""
    return (
        operations_run(case)  # one guard a line
        or hold_is_known(case)
        or customer_is_not_merged_away(case)
        or hold_is_open(case)
    )


def operations_run(case: Case) -> Refused | None:
    """898: an operator paused the organisation, the program of the hold, or one whose points it holds."""
    book, hold = case.snapshot.book, case.hold
    if book.paused:
        return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"})
    if hold is not None and book.is_paused((hold.program_id, *(one.program_id for one in hold.lots))):
        return Refused(codes.PAUSED, {"cause": "PROGRAM_PAUSED"})
    return None


def hold_is_known(case: Case) -> Refused | None:
    """10012: no such hold in the organisation."""
    return Refused(codes.RESOURCE_NOT_FOUND, {"resource": "hold"}, field="hold_id") if case.hold is None else None


def customer_is_not_merged_away(case: Case) -> Refused | None:
    """419: the customer of the hold was merged away."""
    customer = case.snapshot.customer(case.found.customer_id)
    if customer.merged_into is None:
        return None
    return Refused(
        codes.MERGED_CUSTOMER,
        {"customer_id": str(customer.customer_id), "survivor_id": str(customer.merged_into)},
    )


def hold_is_open(case: Case) -> Refused | None:
    """10017: captured, released, or past its deadline."""
    state = case.found.state
    return None if state is HoldState.OPEN else Refused(codes.HOLD_NOT_OPEN, {"state": state.value})


def points_are_held(case: Case, points: int | None) -> Refused | None:
    """10004: more is to be captured than is held."""
    if points is None or points <= case.found.points:
        return None
    return wrong_field(codes.FIELD_INVALID, "points", f"at most {case.found.points}: the hold keeps no more")


# -- what the deeds need ---------------------------------------------------------------------------------------------


def hold_id_of(transaction_id: int) -> str:
    """The opaque id of a hold: the id of the transaction that holds, in base 36."""
    return f"h{redemption.in_base_36(transaction_id)}"


class _Booked(Struct, frozen=True):
    """A booking, and the wallets as it leaves them."""

    booked: JournalEntry
    balances: tuple[Balance, ...]


class _Changes:
    """Changes of lots, what is left of each and what is held of it, on their way to one booking."""

    __slots__ = ("_held", "_points", "_snapshot", "entry")

    def __init__(self, snapshot: Snapshot, changes: Iterable[tuple[Draw, int, int]]) -> None:
        self._snapshot = snapshot
        self.entry = EntryBuilder(snapshot)
        self._points: dict[WalletKey, list[tuple[BucketKey, int]]] = {}
        self._held: dict[WalletKey, list[tuple[BucketKey, int]]] = {}
        for one, points, held in changes:
            self.entry.post(one.lot.wallet, one.lot.lot_id, points, held=held)
            self._points.setdefault(one.lot.wallet, []).append((one.lot.bucket, points))
            self._held.setdefault(one.lot.wallet, []).append((one.lot.bucket, held))

    def build(
        self, hold: Hold, *, transaction_id: int, kind: Kind, points: int, context: Context | None, notes: str
    ) -> _Booked:
        """The booking, under the policy that judged the authorisation."""
        balances = tuple(
            balance_after(
                self._snapshot,
                key,
                version=self.entry.version_after(key),
                changes=changes,
                held=self._held[key],
            )
            for key, changes in self._points.items()
        )
        booked = self.entry.build(
            transaction_id=transaction_id,
            kind=kind,
            customer_id=hold.customer_id,
            program_id=hold.program_id,
            points=points,
            context=context,
            notes=notes,
            policy_revision=hold.policy_revision,
            transaction_number=hold.transaction_number,
        )
        return _Booked(booked, balances)


class _Taken(Struct, frozen=True):
    """What a capture takes of a lot, of what is held of it."""

    lot: Lot
    points: int
    held: int


def _taken(snapshot: Snapshot, hold: Hold, points: int) -> Iterable[_Taken]:
    left = points
    for one in hold.lots:
        taken = min(one.points, left)
        left -= taken
        yield _Taken(snapshot.lot(one.lot_id), taken, one.points)


def _released(
    snapshot: Snapshot, hold: Hold, transaction_id: int, *, context: Context | None, notes: str = ""
) -> _Booked:
    changes = _Changes(snapshot, ((Draw(snapshot.lot(one.lot_id), one.points), 0, -one.points) for one in hold.lots))
    return changes.build(
        hold, transaction_id=transaction_id, kind=Kind.RELEASE, points=hold.points, context=context, notes=notes
    )


def _new_hold(case: redemption.Case, draws: tuple[Draw, ...], transaction_id: int, *, hold_s: int) -> Hold:
    """The hold; it ends with the lot that expires first, if that is before its time."""
    now, command = case.snapshot.now, case.command
    ends = [one.lot.expires_at for one in draws if one.lot.expires_at is not None]
    return Hold(
        hold_id=hold_id_of(transaction_id),
        transaction_id=transaction_id,
        customer_id=case.owner.customer_id,
        program_id=case.ruling.program_id,
        points=command.points,
        state=HoldState.OPEN,
        held_at=now,
        expires_at=min([now + timedelta(seconds=hold_s), *ends]),
        redemption_time=command.redemption_time,
        transaction_number=case.transaction_number,
        external_reference=command.external_reference or None,
        point_value=case.ruling.policy.redemption.point_value,
        policy_revision=case.ruling.policy.revision,
        captured=0,
        closed_at=None,
        closing_transaction_id=None,
        lots=tuple(HeldLot(one.lot.lot_id, one.lot.customer_id, one.lot.program_id, one.points) for one in draws),
    )


def _new_redemption(hold: Hold, draws: tuple[Draw, ...], transaction_id: int, snapshot: Snapshot) -> Redemption:
    return Redemption(
        redemption_id=redemption.redemption_id_of(transaction_id),
        transaction_id=transaction_id,
        customer_id=hold.customer_id,
        program_id=hold.program_id,
        points=sum(one.points for one in draws),
        reversed=0,
        redeemed_at=snapshot.now,
        redemption_time=hold.redemption_time,
        transaction_number=hold.transaction_number,
        external_reference=hold.external_reference,
        last_reversed_at=None,
        lots=tuple(
            RedeemedLot(one.lot.lot_id, one.lot.customer_id, one.lot.program_id, one.points, 0) for one in draws
        ),
    )


def _closed(hold: Hold, state: HoldState, snapshot: Snapshot, transaction_id: int, *, captured: int = 0) -> Hold:
    return replace(hold, state=state, closed_at=snapshot.now, closing_transaction_id=transaction_id, captured=captured)
