"""Rule changes that can be planted in a test build, by name. Each breaks one promise of the contract, and only that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from msgspec.structs import replace


def spends_latest_expiry_first() -> None:
    """The spending order is turned round: what lives longest goes first."""
    from points_grpc.domain import lots

    def in_wrong_order(snapshot: Any, wallets: Any) -> Any:
        found = [lot for wallet in wallets for lot in snapshot.lots_in_spending_order(wallet)]
        return sorted(found, key=lots.spending_key, reverse=True)

    lots._in_spending_order = in_wrong_order


def forgets_wrong_codes() -> None:
    """A wrong code is refused, and the attempt is not counted."""
    from points_grpc.domain import otp

    counted = otp._wrong
    otp._wrong = lambda *given: otp.Proof(counted(*given).refused)


def lengthens_received_lots() -> None:
    """What is received by transfer lives a day longer than what was sent."""
    from points_grpc.domain import transfer

    honest = transfer.child_of

    def longer(*given: Any, **named: Any) -> Any:
        lot = honest(*given, **named)
        return lot if lot.expires_at is None else replace(lot, expires_at=lot.expires_at + timedelta(days=1))

    transfer.child_of = longer


def gives_back_to_the_wrong_lot() -> None:
    """A partial reversal credits the earliest-expiring lot first."""
    from points_grpc.domain import reversal

    honest = reversal.spending_key

    class Reversed:
        def __init__(self, key: Any) -> None:
            self.key = key

        def __lt__(self, other: Reversed) -> bool:
            return bool(other.key < self.key)

    reversal.spending_key = lambda lot: Reversed(honest(lot))


def checks_from_memory() -> None:
    """A check is answered as it was answered before, whatever happened since."""
    from points_grpc.service.checks import Checks

    honest, known = Checks.check, dict[Any, Any]()

    def remembered(self: Any, org_id: int, batch: Any) -> Any:
        answers = honest(self, org_id, batch)
        return [known.setdefault((org_id, one.command), answer) for one, answer in zip(batch, answers, strict=True)]

    Checks.check = remembered


def redeems_again_on_retry() -> None:
    """An accepted redemption is not recorded under its request id, so that a repetition redeems again."""
    from points_grpc.domain.outcome import Accepted, RedemptionResult
    from points_grpc.service import executor

    honest = executor._is_recorded

    def forgetful(submission: Any, outcome: Any) -> bool:
        redeemed = isinstance(outcome, Accepted) and isinstance(outcome.result, RedemptionResult)
        return honest(submission, outcome) and not redeemed

    executor._is_recorded = forgetful


def expires_an_instant_early() -> None:
    """Points are gone at their last instant, not after it."""
    from points_grpc.domain import expiry

    expiry.is_expired = lambda lot, now: lot.expires_at is not None and lot.expires_at <= now


PLANTS: dict[str, Callable[[], None]] = {
    "spending order": spends_latest_expiry_first,
    "attempt not counted": forgets_wrong_codes,
    "expiry of received lots": lengthens_received_lots,
    "partial reversal to the wrong lot": gives_back_to_the_wrong_lot,
    "stale check": checks_from_memory,
    "request id applied twice": redeems_again_on_retry,
    "expiry an instant early": expires_an_instant_early,
}


def install(name: str) -> None:
    """Plants a rule change, if one is named."""
    if name:
        PLANTS[name]()
