"""What a customer has: the figures of a wallet that rules judge and answers show, derived from stored totals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from points_grpc.domain.lots import Draw
from points_grpc.domain.model import BucketKey, WalletKey
from points_grpc.domain.outcome import Balance, ProgramShare
from points_grpc.domain.snapshot import Snapshot


class Holdings(Struct, frozen=True):
    """Points over one or more wallets: what is current, and how it divides."""

    current: int
    promised: int
    held: int

    @property
    def redeemable(self) -> int:
        """What can be spent now."""
        return self.current - self.promised - self.held


def holdings(snapshot: Snapshot, wallets: Iterable[WalletKey], categories: frozenset[str] | None = None) -> Holdings:
    """The points of wallets, of some categories or of all."""
    current = promised = held = 0
    for wallet in wallets:
        for key, (bucket_points, bucket_promised, bucket_held) in snapshot.buckets(wallet).items():
            if categories is None or key.category in categories:
                current += bucket_points
                promised += bucket_promised
                held += bucket_held
    return Holdings(current, promised, held)


def transferable(snapshot: Snapshot, wallets: Iterable[WalletKey], barred_sources: Sequence[int]) -> int:
    """The points of wallets that could be transferred now."""
    free = 0
    for wallet in wallets:
        for key, bucket in snapshot.buckets(wallet).items():
            if key.source not in barred_sources:
                points, promised, held = bucket
                free += points - promised - held
    return free


def balance_after(
    snapshot: Snapshot,
    key: WalletKey,
    *,
    version: int,
    changes: Sequence[tuple[BucketKey, int]] = (),
    promised: int = 0,
    held: Sequence[tuple[BucketKey, int]] = (),
) -> Balance:
    """A wallet with changes of its buckets applied; `promised` of them become available later.

    `held`: changes of what is held in its buckets.
    """
    wallet = snapshot.wallet(key)
    assert wallet is not None, "a balance needs a wallet"
    barred = barred_sources(snapshot, key)
    current = wallet.current
    free = transferable(snapshot, (key,), barred)
    for bucket_key, points in changes:
        current += points
        if bucket_key.source not in barred:
            free += points - promised
    for bucket_key, points in held:
        if bucket_key.source not in barred:
            free -= points
    promised_after = wallet.promised + promised
    held_after = wallet.held + sum(points for _, points in held)
    return Balance(
        customer_id=key.customer_id,
        program_id=key.program_id,
        version=version,
        current=current,
        redeemable=current - promised_after - held_after,
        transferable=free,
        promised=promised_after,
        held=held_after,
    )


def barred_sources(snapshot: Snapshot, key: WalletKey) -> Sequence[int]:
    """The sources whose points the policy of the wallet's program lets nobody transfer."""
    program = snapshot.book.programs.get(key.program_id)
    return program.policy.transfer.barred_sources if program else ()


def program_shares(snapshot: Snapshot, draws: Sequence[Draw], customer_id: int) -> tuple[ProgramShare, ...]:
    """What draws take from a customer by earning program, and what is left of those points in all of their wallets."""
    deducted: dict[int, int] = {}
    for one in draws:
        deducted[one.lot.earning_program_id] = deducted.get(one.lot.earning_program_id, 0) + one.points
    held_before: dict[int, int] = {}
    for wallet in snapshot.wallets_of(customer_id):
        for key, bucket in snapshot.buckets(wallet).items():
            held_before[key.earning_program_id] = held_before.get(key.earning_program_id, 0) + bucket.points
    return tuple(
        ProgramShare(program_id, points, held_before[program_id] - points) for program_id, points in deducted.items()
    )
