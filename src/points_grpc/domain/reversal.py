"""Reversals: giving redeemed points back, whole or in part, to the lots they came from.

Rules of this file: the guards of `judge` stand in the documented order, one a line. Points go back to the lots drawn,
latest-expiring first; of several redemptions on a bill, newest first. What belongs to a lot that expired meanwhile is
reported and not credited (877): it is booked from "redeemed" to "expired". What belongs to a customer who was merged
away meanwhile opens a new lot of the survivor: the lot drawn is history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain import status
from points_grpc.domain.balances import balance_after
from points_grpc.domain.commands import ReverseRedemption
from points_grpc.domain.configuration import REVERSALS_ALLOWED, is_on
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked, RedemptionReversed
from points_grpc.domain.expiry import is_expired
from points_grpc.domain.first_guards import configuration_parses
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import child_of, shown
from points_grpc.domain.model import Account, BucketKey, Customer, Kind, Lot, ProgramBook, Redemption, WalletKey
from points_grpc.domain.outcome import (
    Accepted,
    Balance,
    Decision,
    LotShare,
    Refused,
    ReversalResult,
    ReversedShare,
    Warning,
)
from points_grpc.domain.redemption import redemption_id_of
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot, spending_key


def lookups(command: ReverseRedemption) -> Lookups:
    """What a reversal names."""
    return Lookups(
        identifiers=(command.customer,),
        redemption_ids=(command.redemption_id,) if command.redemption_id else (),
        external_references=(command.external_reference,) if command.external_reference else (),
        transaction_numbers=(command.transaction_number,) if command.transaction_number else (),
    )


def keys(command: ReverseRedemption, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    """What a reversal needs loaded. The redemption's customer comes along: another one named is refused (904)."""
    named = frozenset(_redemption_ids(command, directory))
    owners = directory.with_survivors(directory.redemptions[one] for one in named if one in directory.redemptions)
    customer_id = directory.customers.get(command.customer)
    numbers = frozenset({command.transaction_number} if command.transaction_number else ())
    return Keys(
        customers=owners | ({customer_id} if customer_id is not None else frozenset()),
        redemptions=named,
        external_references=frozenset({command.external_reference} if command.external_reference else ()),
        transaction_numbers=numbers,
        returns=numbers,
    )


def decide(command: ReverseRedemption, context: Context, snapshot: Snapshot) -> Decision:
    """Gives the points back, or says why not."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    asked = case.reversible if command.points is None else command.points
    plan = tuple(_plan(case, asked))
    program = snapshot.book.programs[case.redemptions[0].program_id]
    transaction_id = context.next_id()
    entry = EntryBuilder(snapshot)
    credited: dict[WalletKey, list[tuple[BucketKey, int]]] = {}
    given_back: list[LotShare] = []
    for one in plan:
        lot = one.lot
        if one.expired:
            entry.system(Account.EXPIRED, lot.program_id, one.points)
        elif lot.wallet == one.wallet:
            entry.post(lot.wallet, lot.lot_id, one.points)
        else:
            lot = child_of(lot, one.wallet, one.points, lot_id=context.next_id(), transaction_id=transaction_id)
            entry.open(lot)
        entry.system(Account.REDEEMED, lot.program_id, -one.points)
        if not one.expired:
            credited.setdefault(one.wallet, []).append((lot.bucket, one.points))
            given_back.append(LotShare(lot.lot_id, lot.earning_program_id, one.points, lot.expires_at))
    booked = entry.build(
        transaction_id=transaction_id,
        kind=Kind.REVERSAL,
        customer_id=case.survivor.customer_id,
        program_id=program.program_id,
        points=asked,
        context=context,
        notes=command.notes,
        policy_revision=program.policy.revision,
        transaction_number=command.transaction_number or None,
    )
    reversed_redemptions = [_reversed(redemption, plan, snapshot) for redemption in case.redemptions]
    lots, omitted = shown(given_back)
    result = ReversalResult(
        reversal_id=f"v{redemption_id_of(transaction_id)[1:]}",
        transaction_id=transaction_id,
        reversed_at=snapshot.now,
        asked=asked,
        redemptions=tuple(share for _, share in reversed_redemptions if share.credited or share.expired),
        lots=lots,
        lots_omitted=omitted,
        balances=_balances(case, entry, credited),
    )
    expired = sum(one.points for one in plan if one.expired)
    warnings = (Warning(codes.POINTS_NOT_ALLOCATED, {"points": str(expired)}),) if expired else ()
    events = [event for event, share in reversed_redemptions if share.credited or share.expired]
    return Decision(Accepted(result, warnings, transaction_id), (Booked(booked), *events))


# -- the case and its guards -----------------------------------------------------------------------------------------


class Case:
    """A reversal on its way through the guards. `redemptions`: those that its key names, newest first."""

    __slots__ = ("command", "config", "customer", "redemptions", "snapshot")

    def __init__(self, command: ReverseRedemption, snapshot: Snapshot) -> None:
        """Finds what the command names."""
        self.command = command
        self.snapshot = snapshot
        self.config = snapshot.config
        self.customer = snapshot.find(command.customer)
        self.redemptions = _find(command, snapshot)

    @property
    def owner(self) -> Customer:
        """The customer named; known once `customer_is_the_redeemer` has passed."""
        assert self.customer is not None
        return self.customer

    @property
    def survivor(self) -> Customer:
        """Who is credited: the customer named, or whoever that one was merged into."""
        return self.snapshot.survivor(self.owner.customer_id)

    @property
    def at_stake(self) -> Sequence[Redemption]:
        """The redemptions of which something is left to reverse; all of them, where nothing is."""
        return [one for one in self.redemptions if one.reversed < one.points] or self.redemptions

    @property
    def reversible(self) -> int:
        """What is left to reverse of the redemptions."""
        return sum(redemption.points - redemption.reversed for redemption in self.redemptions)


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the reversal, in the documented order."""
    return (
        operations_run(case)
        or configuration_parses(case)
        or reversals_are_allowed(case)
        or key_names_a_redemption(case)
        or customer_is_known(case)
        or customer_is_the_redeemer(case)
        or customer_is_no_fraud(case)
        or window_is_open(case)
        or something_is_left(case)
        or points_are_left(case)
    )


def operations_run(case: Case) -> Refused | None:
    """898: an operator paused the organisation, the program of the redemption, or one whose points it took."""
    book = case.snapshot.book
    if book.paused:
        return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"})
    for redemption in case.at_stake:
        if book.is_paused((redemption.program_id, *(one.program_id for one in redemption.lots))):
            return Refused(codes.PAUSED, {"cause": "PROGRAM_PAUSED"})
    return None


def reversals_are_allowed(case: Case) -> Refused | None:
    """903 with warning 905: reversal is switched off for the organisation."""
    if is_on(case.config, REVERSALS_ALLOWED):
        return None
    return Refused(
        codes.REVERSAL_NOT_POSSIBLE, {"cause": "REVERSAL_DISABLED"}, warnings=(Warning(codes.REVERSAL_DISABLED),)
    )


def key_names_a_redemption(case: Case) -> Refused | None:
    """902: no such redemption id or reference. 811, 814: unknown bill, or one without a redemption."""
    if case.redemptions:
        return None
    if number := case.command.transaction_number:
        if case.snapshot.purchase(number) is None and not case.snapshot.is_returned(number):
            return Refused(codes.INVALID_TRANSACTION_NUMBER, {"cause": "UNKNOWN"}, field="transaction_number")
        return Refused(codes.NO_REDEMPTION_ON_TRANSACTION, field="transaction_number")
    field = "redemption_id" if case.command.redemption_id else "external_reference_number"
    return Refused(codes.REDEMPTION_NOT_FOUND, field=field)


def customer_is_known(case: Case) -> Refused | None:
    """8015: no such customer in the organisation."""
    if case.customer is None:
        return Refused(codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}, field="customer_identifier.value")
    return None


def customer_is_the_redeemer(case: Case) -> Refused | None:
    """904: the customer named is neither that of the redemption nor one into whom that one was merged."""
    for redemption in case.redemptions:
        if all(one.customer_id != case.owner.customer_id for one in case.snapshot.lineage(redemption.customer_id)):
            return Refused(codes.INVALID_CUSTOMER_DETAILS, field="customer_identifier")
    return None


def customer_is_no_fraud(case: Case) -> Refused | None:
    """820: the customer is marked as a fraud, by fraud status or label."""
    if status.is_fraud(case.survivor, case.config) or status.label_bars(case.survivor, case.config):
        return Refused(codes.CUSTOMER_FRAUD_OPERATION_BLOCKED)
    return None


def window_is_open(case: Case) -> Refused | None:
    """903: the redemption is older than the reversal window of its program's policy."""
    for redemption in case.at_stake:
        days = case.snapshot.book.programs[redemption.program_id].policy.redemption.reversal_days
        if days and redemption.redeemed_at + timedelta(days=days) < case.snapshot.now:
            return Refused(codes.REVERSAL_NOT_POSSIBLE, {"cause": "WINDOW_PASSED"})
    return None


def something_is_left(case: Case) -> Refused | None:
    """3802: nothing is left to reverse; 812 where the bill was named."""
    if case.reversible:
        return None
    last = max((one.last_reversed_at for one in case.redemptions if one.last_reversed_at), default=None)
    metadata = {"reversed_at": last.isoformat() if last else ""}
    by_number = bool(case.command.transaction_number)
    return Refused(codes.TRANSACTION_ALREADY_REVERSED if by_number else codes.REDEMPTION_ALREADY_REVERSED, metadata)


def points_are_left(case: Case) -> Refused | None:
    """810: more is asked back than is left."""
    points = case.command.points
    if points is None or points <= case.reversible:
        return None
    return Refused(
        codes.REVERSAL_POINTS_MISMATCH,
        {"points": str(points), "reversible": str(case.reversible)},
        field="points_to_be_reversed",
    )


# -- what the guards and the deed need -------------------------------------------------------------------------------


class _Back(Struct, frozen=True):
    """Points to give back to a lot; expired ones are not credited. `wallet`: the lot's, or that of the survivor."""

    redemption_id: str
    lot: Lot
    wallet: WalletKey
    points: int
    expired: bool


def _redemption_ids(command: ReverseRedemption, directory: Directory) -> Sequence[str]:
    if command.redemption_id:
        return (command.redemption_id,)
    if command.external_reference:
        found = directory.by_external_reference.get(command.external_reference)
        return () if found is None else (found,)
    return directory.by_transaction_number.get(command.transaction_number, ())


def _find(command: ReverseRedemption, snapshot: Snapshot) -> tuple[Redemption, ...]:
    if command.redemption_id:
        ids: Sequence[str] = (command.redemption_id,)
    elif command.external_reference:
        found = snapshot.redemption_by_external_reference(command.external_reference)
        ids = () if found is None else (found,)
    else:
        ids = snapshot.redemptions_by_transaction_number(command.transaction_number)
    redemptions = [redemption for one in ids if (redemption := snapshot.redemption(one)) is not None]
    customer = snapshot.find(command.customer)
    if command.transaction_number and customer is not None:
        # Several customers may have redeemed on one bill: each gets back what is theirs, by merges too.
        own = [one for one in redemptions if snapshot.speaks_for(customer.customer_id, one.customer_id)]
        redemptions = own or redemptions
    return tuple(sorted(redemptions, key=lambda one: (one.redeemed_at, one.transaction_id), reverse=True))


def _plan(case: Case, asked: int) -> Iterable[_Back]:
    left = asked
    for redemption in case.redemptions:
        taken = [(case.snapshot.lot(one.lot_id), one) for one in redemption.lots if one.points > one.reversed]
        taken.sort(key=lambda pair: spending_key(pair[0]), reverse=True)
        for lot, one in taken:
            if not left:
                return
            points = min(one.points - one.reversed, left)
            left -= points
            wallet = _wallet_now(case.snapshot, lot.wallet)
            yield _Back(redemption.redemption_id, lot, wallet, points, is_expired(lot, case.snapshot.now))


def _wallet_now(snapshot: Snapshot, key: WalletKey) -> WalletKey:
    """Where the points of a wallet are now: there, or with whoever its customer was merged into."""
    return WalletKey(snapshot.survivor(key.customer_id).customer_id, key.program_id)


def _reversed(
    redemption: Redemption, plan: Sequence[_Back], snapshot: Snapshot
) -> tuple[RedemptionReversed, ReversedShare]:
    by_lot = {one.lot.lot_id: one.points for one in plan if one.redemption_id == redemption.redemption_id}
    expired = sum(one.points for one in plan if one.redemption_id == redemption.redemption_id and one.expired)
    total = sum(by_lot.values())
    after = replace(
        redemption,
        reversed=redemption.reversed + total,
        last_reversed_at=snapshot.now if total else redemption.last_reversed_at,
        lots=tuple(replace(one, reversed=one.reversed + by_lot.get(one.lot_id, 0)) for one in redemption.lots),
    )
    share = ReversedShare(redemption.redemption_id, total - expired, expired, after.points - after.reversed)
    return RedemptionReversed(after, tuple(by_lot.items())), share


def _balances(
    case: Case, entry: EntryBuilder, credited: dict[WalletKey, list[tuple[BucketKey, int]]]
) -> tuple[Balance, ...]:
    """The wallets as the reversal leaves them; one in which all shares expired keeps its version."""
    touched = dict.fromkeys(
        _wallet_now(case.snapshot, WalletKey(lot.customer_id, lot.program_id))
        for redemption in case.redemptions
        for lot in redemption.lots
    )
    balances = []
    for key in touched:
        wallet = case.snapshot.wallet(key)
        assert wallet is not None, "a redemption drew on a wallet"
        version = entry.version_after(key) if key in credited else wallet.version
        balances.append(balance_after(case.snapshot, key, version=version, changes=credited.get(key, ())))
    return tuple(balances)
