"""What is left of each rate: for one process in its memory, for the workers of a supervisor in memory that they share.

One number for each rate, the instant until which all that was let in keeps it busy (`quotas` has the rule). Workers
share a table of such numbers: a rate's row is looked up once, by a hash of its name, then read and written in place.
There is no lock around that: who stands between reading and writing, which are next to each other, when another one
writes, undoes what the other one let in at that moment. By that a quota is exceeded now and then, by a call; nobody
waits for a worker that stands still, and a rate that is not used costs nobody anything.

Rows are found by open addressing and never emptied; one whose rate is idle may be given to another rate. They are given
under a lock of the file, which the system releases when its holder dies. A rate for which there is no row left is
counted by each process for itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import tempfile
from typing import Protocol

RateKey = tuple[int, str, str]
"""Whose rate it is: organisation, client (empty for that of the organisation), and the name of the quota."""

RATES_MAX = 10_000
"""From so many on, the idle ones are forgotten: an issuer of tokens may name any number of clients."""

ROWS = 131_072
"""Rates that workers share, 2 MiB: some that are busy at once find no row only far above half of that."""

PROBES_MAX = 64
"""How far from its hash a row may be."""

_ROW = 2
"""Numbers in a row: the hash of a rate, 0 in a row that was never used; and until when it is busy, in ns."""

_NUMBER_BYTES = 8


class Rates(Protocol):
    """Until when rates are busy, by the steady clock that all processes of a host share."""

    def busy_until(self, key: RateKey, now: int) -> int:
        """The instant, which may be past."""
        ...

    def use(self, key: RateKey, cost: int, now: int) -> None:
        """Keeps a rate busy for so much longer."""
        ...


class OwnRates:
    """The rates of a process that shares them with nobody."""

    def __init__(self) -> None:
        self._busy_until: dict[RateKey, int] = {}
        self._most = RATES_MAX

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._busy_until)

    def busy_until(self, key: RateKey, now: int) -> int:  # noqa: ARG002 - as `Rates` has it
        """The instant; 0 of a rate that is not known."""
        return self._busy_until.get(key, 0)

    def use(self, key: RateKey, cost: int, now: int) -> None:
        """Keeps a rate busy for so much longer."""
        if len(self._busy_until) >= self._most:
            self._busy_until = {one: until for one, until in self._busy_until.items() if until > now}
            self._most = max(RATES_MAX, 2 * len(self._busy_until))
        self._busy_until[key] = max(self._busy_until.get(key, 0), now) + cost


class SharedRates:
    """The rates of one of several workers. Used by its event loop alone."""

    def __init__(self, descriptor: int) -> None:
        """Takes over a file of `new_table`."""
        size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._numbers = memoryview(mmap.mmap(descriptor, size)).cast("q")
        self._rows = size // (_ROW * _NUMBER_BYTES)
        self._places: dict[RateKey, tuple[int, int]] = {}
        self._without_row = OwnRates()

    def busy_until(self, key: RateKey, now: int) -> int:
        """The instant, as all workers left it."""
        at = self._place(key, now)
        return self._numbers[at + 1] if at >= 0 else self._without_row.busy_until(key, now)

    def use(self, key: RateKey, cost: int, now: int) -> None:
        """Keeps a rate busy for so much longer, for all workers."""
        at = self._place(key, now)
        if at < 0:
            self._without_row.use(key, cost, now)
            return
        numbers = self._numbers
        until = numbers[at + 1]  # read again, at the last moment
        numbers[at + 1] = (until if until > now else now) + cost

    def _place(self, key: RateKey, now: int) -> int:
        """Where the row of a rate begins; below 0 if there is none for it."""
        place = self._places.get(key)
        if place is not None and self._numbers[place[0]] == place[1]:
            return place[0]
        if len(self._places) >= RATES_MAX:
            self._places.clear()
        name = _hash(key)
        at, is_its_own = self._look(name, now)
        if at >= 0 and not is_its_own:
            at = self._take(name, now)
        if at >= 0:
            self._places[key] = (at, name)
        return at

    def _look(self, name: int, now: int) -> tuple[int, bool]:
        """The row of a name and True; or one that it may have, below 0 if there is none, and False."""
        free, numbers = -1, self._numbers
        for step in range(PROBES_MAX):
            at = (name + step) % self._rows * _ROW
            if numbers[at] == name:
                return at, True
            if numbers[at] == 0:
                return at if free < 0 else free, False
            if free < 0 and numbers[at + 1] <= now:
                free = at
        return free, False

    def _take(self, name: int, now: int) -> int:
        """Takes a row for a name, unless another worker did meanwhile."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            at, is_its_own = self._look(name, now)
            if at >= 0 and not is_its_own:
                self._numbers[at] = name
                self._numbers[at + 1] = 0
            return at
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def new_table(rows: int = ROWS) -> int:
    """Makes a table for workers to share; a descriptor of it, which they are started with."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("points-grpc rates")
    else:  # where there are no files in memory, one without a name
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, rows * _ROW * _NUMBER_BYTES)
    return descriptor


def _hash(key: RateKey) -> int:
    """The name of a rate in the table; never 0."""
    org_id, client, quota = key
    content = f"{org_id} {quota} {client}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=_NUMBER_BYTES).digest(), "little", signed=True) or 1
