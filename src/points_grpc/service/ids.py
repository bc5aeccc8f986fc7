"""How the server makes ids: 41 bits of milliseconds, 10 of writer slot, 12 of sequence, rising within a process.

Two processes never make the same id because no two hold the same slot. If the clock stands still or goes back, ids go
on from the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

EPOCH_MS = 1_735_689_600_000
"""2025-01-01T00:00:00Z: ids count milliseconds from here, until the year 2094."""

_SEQUENCE_BITS = 12
_SLOT_BITS = 10
_SEQUENCES = 1 << _SEQUENCE_BITS


class IdSource:
    """Makes ids for one writer slot. Safe from any thread."""

    def __init__(self, slot: int, now_ms: Callable[[], int]) -> None:
        """Takes the slot (0 to 1023) and a clock in milliseconds since 1970."""
        if not 0 <= slot < 1 << _SLOT_BITS:
            raise ValueError("a slot is a number from 0 to 1023")
        self._slot = slot << _SEQUENCE_BITS
        self._now_ms = now_ms
        self._last = 0
        self._lock = Lock()

    def __call__(self) -> int:
        """The next id."""
        with self._lock:
            tick = (self._now_ms() - EPOCH_MS) * _SEQUENCES
            self._last = last = max(tick, self._last + 1)
        milliseconds, sequence = divmod(last, _SEQUENCES)
        return (milliseconds << (_SLOT_BITS + _SEQUENCE_BITS)) | self._slot | sequence
