"""Times survive the trip to the database and back to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from points_grpc.storage.times import (
    NEVER,
    expiry_to_micros,
    from_micros,
    to_micros,
)

TIMES = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC),
    datetime(2255, 6, 5, 23, 47, 34, 740993, tzinfo=UTC),  # beyond 2^53 microseconds, where a float would round
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
]


@pytest.mark.parametrize("time", TIMES, ids=str)
def test_a_time_comes_back_exactly(time: datetime) -> None:
    """What is read is what was written."""
    assert time == from_micros(to_micros(time))


def test_a_time_of_another_zone_comes_back_in_utc() -> None:
    """The instant stays, the zone does not."""
    kathmandu = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))

    assert datetime(2026, 3, 1, 6, 15, tzinfo=UTC) == from_micros(to_micros(kathmandu))
    assert from_micros(to_micros(kathmandu)).utcoffset() == timedelta(0)


def test_what_never_expires_sorts_last() -> None:
    """`NEVER` is higher than any time."""
    assert expiry_to_micros(None) == NEVER
    assert to_micros(datetime.max.replace(tzinfo=UTC)) < NEVER
