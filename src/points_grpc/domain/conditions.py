"""What a customer must have before redeeming anything: the conditions of the redemption policy.

Redemptions answer 804, 805 or 806; a program can tie transfers to the same conditions (827).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain.model import WalletKey
from points_grpc.domain.policy import RedemptionPolicy
from points_grpc.domain.snapshot import Snapshot


class UnmetCondition(NamedTuple):
    """A condition of the redemption policy that a customer does not meet."""

    name: str
    code: Code
    measure: str
    actual: int
    required: int


def unmet_condition(
    snapshot: Snapshot, wallets: Iterable[WalletKey], policy: RedemptionPolicy
) -> UnmetCondition | None:
    """The first of balance (804), lifetime points (805), lifetime purchases (806) that is below its threshold."""
    found = [wallet for key in wallets if (wallet := snapshot.wallet(key)) is not None]
    current = sum(wallet.current for wallet in found)
    if current < policy.required_balance:
        return UnmetCondition(
            "REQUIRED_BALANCE", codes.INSUFFICIENT_CURRENT_POINTS, "current", current, policy.required_balance
        )
    lifetime = sum(wallet.lifetime_earned for wallet in found)
    if policy.lifetime_includes_received:
        lifetime += sum(wallet.lifetime_received for wallet in found)
    if lifetime < policy.required_lifetime_points:
        return UnmetCondition(
            "REQUIRED_LIFETIME_POINTS",
            codes.INSUFFICIENT_LIFETIME_POINTS,
            "lifetime",
            lifetime,
            policy.required_lifetime_points,
        )
    purchases = sum(wallet.lifetime_purchases for wallet in found)
    if purchases < policy.required_lifetime_purchases:
        return UnmetCondition(
            "REQUIRED_LIFETIME_PURCHASES",
            codes.INSUFFICIENT_LIFETIME_PURCHASES,
            "purchases",
            purchases,
            policy.required_lifetime_purchases,
        )
    return None
