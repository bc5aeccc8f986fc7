"""Which lots an operation draws, in which order, and how many it may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import merge

from msgspec import Struct

from points_grpc.domain.model import Lot, WalletKey
from points_grpc.domain.outcome import LotShare
from points_grpc.domain.snapshot import Snapshot, spending_key

LOTS_PER_COMMAND_MAX = 10_000
"""A command that would draw more lots is refused: one transaction must stay bounded."""

LOTS_SHOWN_MAX = 100
"""Answers show so many lots and count the rest."""


class Draw(Struct, frozen=True):
    """Points to take from one lot."""

    lot: Lot
    points: int


class TooManyLots(Exception):
    """The points asked for lie in more than `LOTS_PER_COMMAND_MAX` lots; caught where the decision is dispatched."""


def draw(
    snapshot: Snapshot, wallets: Sequence[WalletKey], points: int, usable: Callable[[Lot], bool]
) -> tuple[Draw, ...]:
    """Takes points from usable lots in spending order over all wallets: earliest expiry, earlier award, lower id.

    The stored totals must have said that there are enough. What is promised or held cannot be drawn, nor what expired.
    """
    drawn: list[Draw] = []
    left = points
    for lot in _in_spending_order(snapshot, wallets):
        available = 0 if lot.promised else lot.remaining - lot.held
        if available <= 0 or not usable(lot):
            continue
        taken = min(available, left)
        drawn.append(Draw(lot, taken))
        left -= taken
        if not left:
            return tuple(drawn)
        if len(drawn) == LOTS_PER_COMMAND_MAX:
            raise TooManyLots
    raise AssertionError("stored totals promise more points than the lots hold")


def child_of(parent: Lot, wallet: WalletKey, points: int, *, lot_id: int, transaction_id: int) -> Lot:
    """A lot for points of another: origin, award time, promise and expiry are the parent's, and so is the root."""
    return Lot(
        lot_id=lot_id,
        wallet=wallet,
        bucket=parent.bucket,
        points=points,
        remaining=points,
        held=0,
        awarded_at=parent.awarded_at,
        available_from=parent.available_from if parent.promised else None,
        promised=parent.promised,
        expires_at=parent.expires_at,
        parent_lot_id=parent.lot_id,
        root_lot_id=parent.root_lot_id,
        transaction_id=transaction_id,
    )


def shown(shares: Iterable[LotShare]) -> tuple[tuple[LotShare, ...], int]:
    """The lots that an answer shows, and how many it leaves out."""
    all_shares = tuple(shares)
    return all_shares[:LOTS_SHOWN_MAX], max(0, len(all_shares) - LOTS_SHOWN_MAX)


def _in_spending_order(snapshot: Snapshot, wallets: Sequence[WalletKey]) -> Iterable[Lot]:
    if len(wallets) == 1:
        return snapshot.lots_in_spending_order(wallets[0])
    return merge(*(snapshot.lots_in_spending_order(wallet) for wallet in wallets), key=spending_key)
