"""Pages of watches: one at a time within an organisation, and none waits for another organisation's reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Mapping, Sequence

from points_grpc.domain.model import WalletKey
from points_grpc.domain.views import JournalRow
from points_grpc.service.reads import ReadPool
from points_grpc.service.watching import Watching

LOUD, QUIET = 1, 2


class EmptyJournal:
    """A journal without transactions, which knows how many read it at once."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reading = self.most = 0

    def heads(self, org_ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        return {one: {} for one in org_ids}

    def versions(self, wanted: Collection[tuple[int, WalletKey]]) -> Mapping[tuple[int, WalletKey], int]:
        return dict.fromkeys(wanted, 0)

    def after(
        self, org_id: int, places: Mapping[int, int], limit: int
    ) -> tuple[Mapping[int, int], Sequence[JournalRow]]:
        self.reading += 1
        self.most = max(self.most, self.reading)
        assert org_id == QUIET or self.opened.wait(30)
        self.reading -= 1
        return {}, ()

    def wallet_after(
        self, org_id: int, key: WalletKey, version: int, from_id: int, limit: int
    ) -> tuple[int, Sequence[JournalRow]]:
        return version, ()


def test_pages_wait_for_no_other_organisation() -> None:
    """One organisation's page waits behind its own reads; another's is read meanwhile."""

    async def scene() -> tuple[bool, int]:
        journal, pool = EmptyJournal(), ReadPool(threads=4)
        watching = Watching(pool, journal, poll_s=60)
        loud = [asyncio.ensure_future(watching.after(LOUD, {})) for _ in range(2)]
        while not journal.reading:
            await asyncio.sleep(0.001)
        try:
            await asyncio.wait_for(watching.after(QUIET, {}), 10)
            waited = not any(one.done() for one in loud)
            most = journal.most
        finally:
            journal.opened.set()
            await asyncio.gather(*loud)
            pool.close()
        return waited, most

    assert (True, 2) == asyncio.run(scene())
