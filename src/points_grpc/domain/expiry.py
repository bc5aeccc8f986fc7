"""What is due on a wallet: holds past their deadline, promised lots that matured and lots that expired are booked when
a write touches it.

Reads book nothing; they leave out what is due (`storage/queries.py`). A lot is usable while now <= expiry, a hold is
open while now <= deadline. The deadline of a hold is no later than any expiry of its lots, so that once overdue holds
are released, nothing that expires is held.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from points_grpc.domain.commands import BookDue
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked, DueMoved, Event, LotsMatured
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.model import Account, Hold, Kind, Lot, ProgramBook, Wallet
from points_grpc.domain.outcome import Accepted, Decision, DoneResult
from points_grpc.domain.snapshot import Directory, Keys, Snapshot, due_at_of


def book_due(snapshot: Snapshot, wallet: Wallet, next_id: Callable[[], int]) -> tuple[Event, ...]:
    """The events that bring a due wallet up to now; none for a wallet that is not due.

    A wallet that was not due when it was loaded got points of the last instant in this very batch: nothing of it is due
    yet, and what would tell the next instant was not loaded.
    """
    if wallet.due_at is None or wallet.due_at > snapshot.now or not snapshot.was_due(wallet.key):
        return ()
    events: list[Event] = []
    matured = tuple(
        lot.lot_id
        for lot in snapshot.promised_lots(wallet.key)
        if lot.available_from and lot.available_from <= snapshot.now
    )
    if matured:
        events.append(LotsMatured(wallet.key, matured))
    expired, next_expiry = _expired(snapshot, wallet)
    if expired:
        entry = EntryBuilder(snapshot)
        for lot in expired:
            entry.post(wallet.key, lot.lot_id, -lot.remaining)
        points = sum(lot.remaining for lot in expired)
        entry.system(Account.EXPIRED, wallet.program_id, points)
        events.append(
            Booked(
                entry.build(
                    transaction_id=next_id(),
                    kind=Kind.EXPIRY,
                    customer_id=wallet.customer_id,
                    program_id=wallet.program_id,
                    points=points,
                    context=None,
                )
            )
        )
    due_at = _next_due(snapshot, wallet, set(matured) | {lot.lot_id for lot in expired}, next_expiry)
    if due_at != wallet.due_at:
        events.append(DueMoved(wallet.key, due_at))
    return tuple(events)


def overdue_holds(snapshot: Snapshot, customer_id: int) -> list[Hold]:
    """The open holds of a customer whose deadline has passed: to be released before anything else is booked."""
    found = [hold for hold in snapshot.open_holds(customer_id) if hold.expires_at < snapshot.now]
    return sorted(found, key=lambda hold: (hold.expires_at, hold.transaction_id))


def sweep_keys(command: BookDue, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    """What a sweep needs loaded: the customers' wallets, of which those that are due come with their lots."""
    return Keys(customers=frozenset(command.customer_ids))


def decide_sweep(command: BookDue, context: Context, snapshot: Snapshot) -> Decision:  # noqa: ARG001 - one signature
    """Nothing more: what is due on a command's customers is booked before any command is decided."""
    return Decision(Accepted(DoneResult()))


def is_expired(lot: Lot, now: datetime) -> bool:
    """Whether the lot's points are gone."""
    return lot.expires_at is not None and lot.expires_at < now


def _expired(snapshot: Snapshot, wallet: Wallet) -> tuple[list[Lot], datetime | None]:
    expired: list[Lot] = []
    for lot in snapshot.lots_in_spending_order(wallet.key):
        if not is_expired(lot, snapshot.now):
            return expired, lot.expires_at
        expired.append(lot)
    return expired, None


def _next_due(snapshot: Snapshot, wallet: Wallet, done: set[int], next_expiry: datetime | None) -> datetime | None:
    ahead = [due for lot in snapshot.promised_lots(wallet.key) if lot.lot_id not in done and (due := due_at_of(lot))]
    if next_expiry is not None:
        ahead.append(next_expiry)
    if wallet.held:
        ahead += [hold.expires_at for hold in snapshot.open_holds(wallet.customer_id)]
    return min(ahead, default=None)
