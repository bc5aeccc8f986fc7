"""Exports: pages of the journal, read for whoever asks, on the read pool and never through the writer.

An export can be as long as the journal, and nobody waits for it as for a wallet at a till. So all exports of a process
share one place in the pool, page by page in turn, and rest after each page for as long as it took: together they use at
most half the time of one reader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from points_grpc.domain.checkpoint import CheckpointHead
from points_grpc.service.reads import ReadPool


class ExportedRecord(NamedTuple):
    """An entry as an export has it, and its position in its stream."""

    position: int
    data: bytes


class ExportedJournal(Protocol):
    """What exports read; blocking. Safe from any thread."""

    def heads(self, org_id: int) -> Sequence[CheckpointHead]:
        """The heads of an organisation's streams, in one snapshot."""
        ...

    def page(self, org_id: int, stream: int, *, after: int, until: int) -> Sequence[ExportedRecord]:
        """The next entries of a stream after a position and up to another; none where there are none."""
        ...


class Exporting:
    """Reads for exports. One for a process; it is used by the event loop alone."""

    def __init__(self, pool: ReadPool, journal: ExportedJournal) -> None:
        """Takes where reads run, and what is read."""
        self._run = pool.run
        self._journal = journal
        self._turn = asyncio.Semaphore(1)

    async def heads(self, org_id: int) -> Mapping[int, int]:
        """The last position of each stream of an organisation, in one snapshot."""
        return {one.stream: one.position for one in await self._run(self._journal.heads, org_id)}

    async def page(self, org_id: int, stream: int, *, after: int, until: int) -> Sequence[ExportedRecord]:
        """The next entries of a stream after a position and up to another; none where there are none."""
        async with self._turn:
            started = time.monotonic()
            found = await self._run(self._journal.page, org_id, stream, after=after, until=until)
            await asyncio.sleep(time.monotonic() - started)
        return found
