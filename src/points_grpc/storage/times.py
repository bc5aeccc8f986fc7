"""Times as the database holds them: microseconds since the epoch, UTC, in whole numbers and never in floats.

One representation on every engine, so that comparisons, indexes and orders mean the same everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

NEVER = 2**63 - 1
"""The expiry of what never expires: the highest number of a column, so that it sorts last in the spending order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CACHED_MAX = 16_384


def to_micros(time: datetime) -> int:
    """The whole microseconds from the epoch to an aware time."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@lru_cache(maxsize=_CACHED_MAX)
def from_micros(micros: int) -> datetime:
    """The time in UTC so many microseconds after the epoch. Cached: the same lots are read again and again."""
    return _EPOCH + timedelta(microseconds=micros)


def to_micros_or_none(time: datetime | None) -> int | None:
    """As `to_micros`; None stays None."""
    return None if time is None else to_micros(time)


def from_micros_or_none(micros: int | None) -> datetime | None:
    """As `from_micros`; None stays None."""
    return None if micros is None else from_micros(micros)


def expiry_to_micros(expires_at: datetime | None) -> int:
    """As `to_micros`; None, which means that the points never expire, becomes `NEVER`."""
    return NEVER if expires_at is None else to_micros(expires_at)
