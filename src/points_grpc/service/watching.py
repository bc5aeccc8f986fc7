"""Watches: who follows the journal of an organisation or a wallet is woken when there is more, and reads it here.

One poll for all watches of the process, on the read pool and never through the writer: it asks how far the journals
are, and where one moved, how far its watched wallets are. It rests while nobody watches. That other processes write
makes no difference. Waking is a hint: those who are woken read for themselves, and meet whatever is wrong themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from points_grpc.domain.model import WalletKey
from points_grpc.domain.views import JournalRow
from points_grpc.service.reads import NOBODY, ReadPool, of_nobody

PAGE = 100
"""How many transactions are read at once for one watch: what a slow caller makes the server keep."""

PAGES_AT_ONCE = 1
"""How many watches of an organisation read at once: those that catch up must not take its other reads' turns."""

Wake = Callable[[], None]


class Gap(Exception):
    """What follows a place in the journal is not there, although more is."""


class Journal(Protocol):
    """What watches read; blocking. Safe from any thread."""

    def heads(self, org_ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        """The last position of each journal stream, by organisation."""
        ...

    def versions(self, wanted: Collection[tuple[int, WalletKey]]) -> Mapping[tuple[int, WalletKey], int]:
        """The versions of wallets, by organisation and wallet; 0 for one that is not there."""
        ...

    def after(
        self, org_id: int, places: Mapping[int, int], limit: int
    ) -> tuple[Mapping[int, int], Sequence[JournalRow]]:
        """The heads of the streams, and what follows a place in each, in order; so many in all at most."""
        ...

    def wallet_after(
        self, org_id: int, key: WalletKey, version: int, from_id: int, limit: int
    ) -> tuple[int, Sequence[JournalRow]]:
        """The version of a wallet, and what made those after a given one, without a gap; so many at most."""
        ...


@dataclass(slots=True)
class _Watched:
    """An organisation that is watched, as the poll saw it last. Mutable: the poll goes on from it."""

    heads: Mapping[int, int] = field(default_factory=dict)
    of_all: list[Wake] = field(default_factory=list)
    of_wallets: dict[WalletKey, list[Wake]] = field(default_factory=dict)
    versions: dict[WalletKey, int] = field(default_factory=dict)


class Watching:
    """Wakes who watches, and reads for them. One for a process; it is used by the event loop alone."""

    def __init__(self, pool: ReadPool, journal: Journal, *, poll_s: float) -> None:
        """Polls so often, and not at all while nobody watches."""
        self._run = pool.run
        self._heads = of_nobody(journal.heads)
        self._versions = of_nobody(journal.versions)
        self._journal = journal
        self._poll_s = poll_s
        self._watched: dict[int, _Watched] = {}
        self._reading: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._polling: asyncio.Task[None] | None = None

    @contextmanager
    def following(self, org_id: int, key: WalletKey | None, wake: Wake) -> Iterator[None]:
        """Wakes somebody whenever the journal moves, or the wallet, if one is named; now and then without a cause."""
        watched = self._watched.setdefault(org_id, _Watched())
        wakes = watched.of_all if key is None else watched.of_wallets.setdefault(key, [])
        wakes.append(wake)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name="watches")
        try:
            yield
        finally:
            wakes.remove(wake)
            if key is not None and not wakes:
                del watched.of_wallets[key]
                watched.versions.pop(key, None)
            if not watched.of_all and not watched.of_wallets:
                del self._watched[org_id]

    async def heads(self, org_id: int) -> Mapping[int, int]:
        """The last position of each journal stream of an organisation."""
        return (await self._run(self._heads, org_id, (org_id,)))[org_id]

    async def version(self, org_id: int, key: WalletKey) -> int:
        """The version of a wallet; 0 if it is not there."""
        return (await self._run(self._versions, org_id, ((org_id, key),)))[org_id, key]

    async def after(self, org_id: int, places: Mapping[int, int]) -> tuple[Sequence[JournalRow], bool]:
        """What follows a place in each stream, at most `PAGE`, and whether there is more; or raises `Gap`."""
        async with self._turn_of(org_id):
            heads, found = await self._run(self._journal.after, org_id, places, PAGE)
        reached = dict(places)
        for row in found:
            if row.position != reached.get(row.stream, 0) + 1:
                raise Gap
            reached[row.stream] = row.position
        is_behind = any(reached.get(stream, 0) < head for stream, head in heads.items())
        if is_behind and len(found) < PAGE:
            raise Gap
        return found, is_behind

    async def wallet_after(
        self, org_id: int, key: WalletKey, version: int, from_id: int
    ) -> tuple[Sequence[JournalRow], bool]:
        """What made the versions of a wallet after a given one, and whether there is more; or raises `Gap`.

        `from_id`: the transaction that made the given version, where that is known.
        """
        async with self._turn_of(org_id):
            head, found = await self._run(self._journal.wallet_after, org_id, key, version, from_id, PAGE)
        is_behind = head > version + len(found)
        if is_behind and not found:
            raise Gap
        return found, is_behind

    def _turn_of(self, org_id: int) -> asyncio.Semaphore:
        """Whose turn it is among the watches of an organisation: no other one's wait with them for its reads."""
        return self._reading.setdefault(org_id, asyncio.Semaphore(PAGES_AT_ONCE))

    # -- the poll

    async def _poll(self) -> None:
        """Looks again and again, until nobody watches."""
        while self._watched:
            await asyncio.sleep(self._poll_s)
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - who is woken reads for himself, and is told what is wrong
                for watched in self._watched.values():
                    _wake(watched.of_all)
                    for wakes in watched.of_wallets.values():
                        _wake(wakes)
        self._polling = None

    async def _look(self) -> None:
        """Wakes those for whom there is more."""
        heads = await self._run(self._heads, NOBODY, tuple(self._watched))
        moved = [
            (org_id, watched)
            for org_id, watched in self._watched.items()
            if org_id in heads and heads[org_id] != watched.heads
        ]
        for org_id, watched in moved:
            watched.heads = heads[org_id]
            _wake(watched.of_all)
        wanted = [(org_id, key) for org_id, watched in moved for key in watched.of_wallets]
        if not wanted:
            return
        versions = await self._run(self._versions, NOBODY, wanted)
        for (org_id, key), version in versions.items():
            now = self._watched.get(org_id)
            if now is not None and key in now.of_wallets and now.versions.get(key) != version:
                now.versions[key] = version
                _wake(now.of_wallets[key])


def _wake(wakes: Sequence[Wake]) -> None:
    for wake in wakes:
        wake()
