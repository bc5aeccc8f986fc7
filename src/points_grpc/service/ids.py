"""How the server makes ids: 41 bits of milliseconds, 10 of writer slot, 12 of sequence, rising within a process.

Two processes never make the same id because no two hold the same slot. If the clock stands still or goes back, ids go
on from the last one; also where another process made that under the same slot, whose clock was ahead.
"""

from __future__ import annotations

from collections.abc import Callable

EPOCH_MS = 1_735_689_600_000
"""2025-01-01T00:00:00Z: ids count milliseconds from here, until the year 2094."""

AFTER_MS = 1_000
"""How far behind the last transaction of its slot another process goes on: what came with that transaction has higher
ids, of the same instant or hardly later ones."""

ID_MAX = 2**63 - 1

_SEQUENCE_BITS = 12
_SLOT_BITS = 10
_SEQUENCE_MASK = (1 << _SEQUENCE_BITS) - 1
_SHIFT = _SLOT_BITS + _SEQUENCE_BITS


def lowest_id(at_ms: int) -> int:
    """What ids made at a time, in milliseconds since 1970 by the clock of whoever makes them, are no lower than."""
    return min(max(0, at_ms - EPOCH_MS) << _SHIFT, ID_MAX)


def made_at_ms(number: int) -> int:
    """When an id was made, in milliseconds since 1970 by the clock of who made it."""
    return (number >> _SHIFT) + EPOCH_MS


class IdSource:
    """Makes ids for one writer slot. For one thread at a time: the writer's."""

    def __init__(self, slot: int, now_ms: Callable[[], int], *, after: int = 0) -> None:
        """Takes the slot (0 to 1023) and a clock in milliseconds since 1970. `after` is the id of the last transaction
        that was made under the slot; 0 if there is none.
        """
        if not 0 <= slot < 1 << _SLOT_BITS:
            raise ValueError("a slot is a number from 0 to 1023")
        self._slot = slot << _SEQUENCE_BITS
        self._now_ms = now_ms
        self._last = ((after >> _SHIFT) + AFTER_MS) << _SEQUENCE_BITS if after else 0

    def __call__(self) -> int:
        """The next id."""
        tick = (self._now_ms() - EPOCH_MS) << _SEQUENCE_BITS
        last = self._last + 1
        last = max(last, tick)
        self._last = last
        return (last >> _SEQUENCE_BITS << _SHIFT) | self._slot | (last & _SEQUENCE_MASK)
