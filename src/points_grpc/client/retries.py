"""Whether a call is sent again, and after how long: by the server's advice, within bounds. Pure: no clock, no waiting.

A write is only ever repeated with the request id that it had (`calls` gives it one before the first attempt), so a
repetition can do nothing twice. What is left to the caller: everything that needs another request id or other content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from points_grpc import codes
from points_grpc.client.errors import NotAnswered, PointsError, Refused
from points_grpc.codes import GrpcCode, Retry

Chance = Callable[[float, float], float]
"""A random number between two others, as `random.uniform` makes it."""

_WITHOUT_ANSWER = frozenset({GrpcCode.UNAVAILABLE, GrpcCode.CANCELLED})
"""How a call ends whose connection, or whose server, went away. The caller's own cancelling never comes here."""

_NEEDS_ANOTHER_LOOK = frozenset({codes.REVISION_CONFLICT})
"""The advice is to read first: the same request would meet the same refusal."""

ATTEMPTS_AFTER_A_BUG = 2
"""INTERNAL: the catalogue advises to repeat it once."""

TOLD_SPREAD = 0.25
"""By how much of it a pause that the server asks for is lengthened at most, so that not all callers return at once."""

DOUBLINGS_MAX = 1000
"""How often a pause doubles at most: a float holds 2 to the power of 1023, and callers may try more often than that."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and with which pauses. Beside these the deadline of the call bounds everything.

    By default it is the deadline that ends the attempts of most calls: who allows 30 seconds wants to see a server come
    back that takes 20 to start.
    """

    attempts_max: int = 20
    pause_min_s: float = 0.1
    pause_max_s: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or not 0 < self.pause_min_s <= self.pause_max_s:
            raise ValueError("Retries: attempts_max from 1, 0 < pause_min_s <= pause_max_s")


NEVER = Retries(attempts_max=1)


def pause_s(retries: Retries, error: PointsError, chance: Chance, *, was_cut: bool = False) -> float | None:
    """How long to wait before another attempt; None for no other attempt. `was_cut`: a read, to be gone on with."""
    if error.attempts >= retries.attempts_max or not (was_cut or may_repeat(error)):
        return None
    doublings = min(error.attempts - 1, DOUBLINGS_MAX)
    backoff = min(retries.pause_max_s, retries.pause_min_s * 2**doublings)
    jittered = chance(backoff / 2, backoff)
    told = told_s(error)
    return jittered if told is None else max(jittered, chance(told, told * (1 + TOLD_SPREAD)))


def may_repeat(error: PointsError) -> bool:
    """Whether the same request with the same request id can help."""
    if isinstance(error, NotAnswered):
        return error.grpc_code in _WITHOUT_ANSWER
    if not isinstance(error, Refused):
        return False
    pushback = error.refusal.pushback_ms
    if (pushback is not None and pushback < 0) or error.code in _NEEDS_ANOTHER_LOOK:
        return False
    if error.grpc_code is GrpcCode.INTERNAL and error.attempts >= ATTEMPTS_AFTER_A_BUG:
        return False
    advised = error.code is not None and error.code.retry is Retry.SAME_REQUEST_ID_LATER
    return advised or pushback is not None or error.grpc_code is GrpcCode.UNAVAILABLE


def told_s(error: PointsError) -> float | None:
    """The pause that the server asks for; None if it asks for none."""
    if not isinstance(error, Refused):
        return None
    if error.refusal.pushback_ms is not None:
        return error.refusal.pushback_ms / 1000
    return error.retry_after_s
