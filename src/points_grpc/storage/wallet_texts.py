"""The two lists in a wallet's row, as JSON that is read and written whole: totals by origin, and transfers by day.

Entries are pairs, in the order of their keys:
`[[earning program, source, category], [points, promised, held]]`; nothing for an origin of which nothing is left;
`[[direction, day], [points, transfers]]`, with the day in the program's time zone; old days are left out now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import msgspec

from points_grpc.domain.model import Bucket, BucketKey
from points_grpc.domain.policy import VELOCITY_DAYS_KEPT, Direction
from points_grpc.domain.snapshot import Velocity

EMPTY = "[]"

ENTRIES_MAX = 2 * (VELOCITY_DAYS_KEPT.days + 1)
"""Of days, until old ones are left out: both directions of all that are kept for certain."""

_encode = msgspec.json.Encoder().encode
_buckets = msgspec.json.Decoder(list[tuple[BucketKey, Bucket]]).decode
_days = msgspec.json.Decoder(list[tuple[tuple[Direction, date], tuple[int, int]]]).decode


def buckets(text: str) -> dict[BucketKey, Bucket]:
    """The totals by origin."""
    return dict(_buckets(text))


def velocity(text: str) -> dict[tuple[Direction, date], tuple[int, int]]:
    """The transfers by direction and day."""
    return dict(_days(text))


def encode_buckets(given: Mapping[BucketKey, Bucket]) -> str:
    """The totals by origin, as they are stored."""
    return _encode(sorted(one for one in given.items() if one[1].points)).decode()


def encode_velocity(given: Velocity) -> str:
    """The transfers by direction and day, as they are stored."""
    entries = sorted(given.items())
    if len(entries) > ENTRIES_MAX:
        kept_from = max(day for _, day in given) - VELOCITY_DAYS_KEPT
        entries = [one for one in entries if one[0][1] >= kept_from]
    return _encode(entries).decode()
