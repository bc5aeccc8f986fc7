"""Transfers taken back: what the receiver still has of a transfer returns to the sender.

Rules of this file: the guards of `judge` stand one a line. What came with the transfer is what its lots still hold, and
what merges and reversals of redemptions made of them since; what was spent, moved on, held or lost to expiry is short.
Codes are those of the transfer table.
"""

from __future__ import annotations

from collections.abc import Iterable

from points_grpc import codes
from points_grpc.domain.balances import balance_after
from points_grpc.domain.commands import ReverseTransfer
from points_grpc.domain.configuration import first_invalid
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked
from points_grpc.domain.expiry import is_expired
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX, Draw, TooManyLots, child_of, shown
from points_grpc.domain.model import Account, BucketKey, Customer, Kind, Lot, MadeTransfer, ProgramBook, WalletKey
from points_grpc.domain.outcome import Accepted, Decision, LotShare, Refused, TransferReversalResult, Warning
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot, spending_key


def lookups(command: ReverseTransfer) -> Lookups:
    """What a reversal names."""
    return Lookups(transfer_ids=(command.transfer_id,))


def keys(command: ReverseTransfer, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    """What a reversal needs loaded: both parties, and whoever they were merged into."""
    made = directory.transfers.get(command.transfer_id)
    parties = () if made is None else (made.source_id, made.destination_id)
    return Keys(customers=directory.with_survivors(parties), transfers=frozenset({command.transfer_id}))


def decide(command: ReverseTransfer, context: Context, snapshot: Snapshot) -> Decision:
    """Takes the transfer back, or says why not."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    transaction_id = context.next_id()
    entry = EntryBuilder(snapshot)
    changes: dict[WalletKey, list[tuple[BucketKey, int]]] = {}
    for one in case.draws:
        entry.post(one.lot.wallet, one.lot.lot_id, -one.points)
        changes.setdefault(one.lot.wallet, []).append((one.lot.bucket, -one.points))
    shares = []
    for one in case.draws:
        credited = WalletKey(case.sender.customer_id, case.drawn_in[one.lot.lot_id])
        lot = child_of(one.lot, credited, one.points, lot_id=context.next_id(), transaction_id=transaction_id)
        entry.open(lot)
        if lot.program_id != one.lot.program_id:
            entry.system(Account.CLEARING, one.lot.program_id, one.points)
            entry.system(Account.CLEARING, lot.program_id, -one.points)
        changes.setdefault(credited, []).append((one.lot.bucket, one.points))
        shares.append(LotShare(lot.lot_id, lot.earning_program_id, lot.points, lot.expires_at))
    booked = entry.build(
        transaction_id=transaction_id,
        kind=Kind.TRANSFER_REVERSAL,
        customer_id=case.receiver.customer_id,
        counterparty_id=case.sender.customer_id,
        program_id=case.transfer.program_id,
        points=case.available,
        context=context,
        notes=command.reason,
        policy_revision=snapshot.book.programs[case.transfer.program_id].policy.revision,
    )
    lots, omitted = shown(shares)
    result = TransferReversalResult(
        transfer_id=command.transfer_id,
        transaction_id=transaction_id,
        reversed_at=snapshot.now,
        asked=case.outstanding,
        moved=case.available,
        lots=lots,
        lots_omitted=omitted,
        balances=tuple(
            balance_after(snapshot, key, version=entry.version_after(key), changes=changed)
            for key, changed in changes.items()
        ),
    )
    short = case.outstanding - case.available
    warnings = (Warning(codes.POINTS_NOT_ALLOCATED, {"points": str(short)}),) if short else ()
    return Decision(Accepted(result, warnings, transaction_id), (Booked(booked),))


class Case:
    """A reversal on its way through the guards. `drawn_in`: the program of the wallet that each lot came from."""

    __slots__ = ("available", "command", "config", "drawn_in", "draws", "found", "outstanding", "snapshot")

    def __init__(self, command: ReverseTransfer, snapshot: Snapshot) -> None:
        """Finds the transfer, and what is left of it."""
        self.command = command
        self.snapshot = snapshot
        self.config = snapshot.config
        self.found = snapshot.transfer(command.transfer_id)
        self.drawn_in: dict[int, int] = {}
        self.draws: tuple[Draw, ...] = ()
        self.outstanding = 0
        if self.found is not None:
            came, returned = _came_with(snapshot, self.found, self.drawn_in)
            self.draws = tuple(_left(snapshot, came))
            self.outstanding = self.found.points - returned
        self.available = sum(one.points for one in self.draws)

    @property
    def transfer(self) -> MadeTransfer:
        """The transfer; known once `transfer_is_known` has passed."""
        assert self.found is not None
        return self.found

    @property
    def sender(self) -> Customer:
        """Who gave and gets back: the sender, or whoever that one was merged into."""
        return self.snapshot.survivor(self.transfer.source_id)

    @property
    def receiver(self) -> Customer:
        """Who received and gives back: the receiver, or whoever that one was merged into."""
        return self.snapshot.survivor(self.transfer.destination_id)


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the reversal, in the order of the rules of transfers."""
    return (
        operations_run(case)
        or configuration_parses(case)
        or transfer_is_known(case)
        or sender_is_known(case)
        or customers_differ(case)
        or points_are_there(case)
    )


def operations_run(case: Case) -> Refused | None:
    """898: an operator paused the organisation, the program of the transfer, or one that points leave or go back to."""
    book, made = case.snapshot.book, case.found
    if book.paused:
        return Refused(codes.TRANSFER_UNAVAILABLE, {"cause": "ORGANISATION_PAUSED"})
    moved = [program_id for one in case.draws for program_id in (one.lot.program_id, case.drawn_in[one.lot.lot_id])]
    if made is not None and book.is_paused((made.program_id, *moved)):
        return Refused(codes.TRANSFER_UNAVAILABLE, {"cause": "PROGRAM_PAUSED"})
    return None


def configuration_parses(case: Case) -> Refused | None:
    """886: the configuration could not be read. 888: a key other than the fraud key does not parse."""
    if not case.config.available:
        return Refused(codes.TRANSFER_STORAGE_UNAVAILABLE)
    if key := first_invalid(case.config):
        return Refused(codes.TRANSFER_CONFIGURATION_INVALID, {"key": key})
    return None


def transfer_is_known(case: Case) -> Refused | None:
    """10012: no such transfer in the organisation."""
    if case.found is None:
        return Refused(codes.RESOURCE_NOT_FOUND, {"resource": "Transfer"}, field="transfer_id")
    return None


def sender_is_known(case: Case) -> Refused | None:
    """8015: who would get the points back was erased."""
    if case.sender.erased_at is not None:
        return Refused(codes.TRANSFER_CUSTOMER_NOT_FOUND, {"party": "SOURCE"}, field="transfer_id")
    return None


def customers_differ(case: Case) -> Refused | None:
    """418: sender and receiver were merged into one since, who has the points already."""
    if case.sender.customer_id == case.receiver.customer_id:
        return Refused(codes.SAME_CUSTOMER, field="transfer_id")
    return None


def points_are_there(case: Case) -> Refused | None:
    """817: the receiver has less than is asked back, and that will not do; or has nothing of it."""
    if case.available and (case.available == case.outstanding or case.command.partial):
        return None
    return Refused(
        codes.TRANSFER_INSUFFICIENT_POINTS,
        {
            "points": str(case.outstanding),
            "current": str(case.available),
            "short_by": str(case.outstanding - case.available),
        },
    )


# -- what the guards and the deed need -------------------------------------------------------------------------------


def _came_with(snapshot: Snapshot, made: MadeTransfer, drawn_in: dict[int, int]) -> tuple[list[Lot], int]:
    """The lots that came with a transfer, and what of it was taken back before; notes where each was drawn."""
    came: list[Lot] = []
    returned = 0
    for lot in snapshot.lots_of_transfer(made.transfer_id):
        assert lot.parent_lot_id is not None, "a transfer draws what it opens"
        drawn_in[lot.lot_id] = snapshot.lot(lot.parent_lot_id).program_id
        came.append(lot)
    for lot in came:  # which grows on the way
        for child, kind in snapshot.offspring(lot.lot_id):
            if kind is Kind.TRANSFER_REVERSAL:
                returned += child.points
                continue
            drawn_in[child.lot_id] = drawn_in[lot.lot_id]
            came.append(child)
    return came, returned


def _left(snapshot: Snapshot, came: Iterable[Lot]) -> Iterable[Draw]:
    """What can be taken back of lots, in spending order."""
    found = 0
    for lot in sorted(came, key=spending_key):
        points = lot.remaining - lot.held
        if not points or is_expired(lot, snapshot.now):
            continue
        found += 1
        if found > LOTS_PER_COMMAND_MAX:
            raise TooManyLots
        yield Draw(lot, points)
