"""Reads off the event loop: a small pool of threads, each call on a read-only snapshot of its own.

They never wait behind the writer, and what nobody waits for is stopped. Checks gather before they come here: `checker`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from points_grpc.domain.model import Customer, Identifier, Lot, ProgramBook, WalletKey
from points_grpc.domain.outcome import Party
from points_grpc.domain.policy import Policy
from points_grpc.domain.views import (
    AuditRow,
    JournalRow,
    Listed,
    ListedWallet,
    LotTrace,
    PersonalPlace,
    PersonalRecord,
    Position,
    TransferView,
    WalletView,
)
from points_grpc.service.ports import Listings, Queries, RequestRecord
from points_grpc.service.stopping import Stop

_P = ParamSpec("_P")
_R = TypeVar("_R")


NOBODY = 0
"""In place of an organisation, for reads that are made for several."""


class ReadPool:
    """Runs blocking reads on threads of its own. Organisations take turns, and none has all of the threads."""

    def __init__(self, *, threads: int) -> None:
        """Takes the number of threads: at most so many reads run at once, and of an organisation all but one."""
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="reader")
        self._free = threads
        self._free_of_one = max(1, threads - 1)
        self._running: Counter[int] = Counter()
        self._waiting: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()

    async def run(
        self, function: Callable[Concatenate[int, _P], _R], org_id: int, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Runs a blocking function of an organisation and awaits its result.

        Whoever stops waiting gives up his turn, and has a read that runs already stopped where the storage can do that.
        """
        loop = asyncio.get_running_loop()
        await self._turn(org_id, loop)
        stop = Stop()

        def read() -> _R:
            with stop.watched():
                return function(org_id, *args, **kwargs)

        try:
            reading = self._pool.submit(read)
        except BaseException:
            self._ended(org_id)
            raise
        reading.add_done_callback(lambda _: self._told(loop, org_id))
        try:
            return await asyncio.wrap_future(reading)
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """Waits for the reads that run and ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _turn(self, org_id: int, loop: asyncio.AbstractEventLoop) -> None:
        """Waits for a thread."""
        if self._free and not self._waiting and self._running[org_id] < self._free_of_one:
            self._take(org_id)
            return
        turn = loop.create_future()
        self._waiting.setdefault(org_id, deque()).append(turn)
        self._give_turns()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._ended(org_id)
            raise

    def _give_turns(self) -> None:
        """Gives free threads to who waits: an organisation after the other, and to each in the order of its calls."""
        while self._free and (org_id := self._next()) is not None:
            self._waiting[org_id].popleft().set_result(None)
            self._waiting.move_to_end(org_id)
            self._take(org_id)

    def _next(self) -> int | None:
        """The first organisation that waits and may run one more."""
        for org_id in tuple(self._waiting):
            turns = self._waiting[org_id]
            while turns and turns[0].done():
                turns.popleft()
            if not turns:
                del self._waiting[org_id]
            elif self._running[org_id] < self._free_of_one:
                return org_id
        return None

    def _take(self, org_id: int) -> None:
        self._running[org_id] += 1
        self._free -= 1

    def _told(self, loop: asyncio.AbstractEventLoop, org_id: int) -> None:
        """From the thread whose read is over; the loop may be closed by then."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._ended, org_id)

    def _ended(self, org_id: int) -> None:
        self._free += 1
        self._running[org_id] -= 1
        if not self._running[org_id]:
            del self._running[org_id]
        self._give_turns()


def of_nobody(function: Callable[_P, _R]) -> Callable[Concatenate[int, _P], _R]:
    """A read that names its organisations otherwise, as the pool runs it."""

    def reading(_org_id: int, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(*args, **kwargs)

    return reading


class PooledQueries:
    """The storage's queries (`ports.Queries`, where each is explained), awaited on the read pool."""

    def __init__(self, pool: ReadPool, queries: Queries) -> None:
        """Takes the pool and the blocking queries."""
        self._run = pool.run
        self._queries = queries

    async def program_book(self, org_id: int) -> ProgramBook:
        """The organisation's programs."""
        return await self._run(self._queries.program_book, org_id)

    async def customer(self, org_id: int, identifier: Identifier) -> tuple[Customer, tuple[int, ...]] | None:
        """A customer with the programs of enrolment."""
        return await self._run(self._queries.customer, org_id, identifier)

    async def wallet(self, org_id: int, key: WalletKey, barred_sources: Collection[int], now: datetime) -> WalletView:
        """A wallet as it stands."""
        return await self._run(self._queries.wallet, org_id, key, barred_sources, now)

    async def wallet_as_of(
        self, org_id: int, key: WalletKey, barred_sources: Collection[int], at: datetime
    ) -> WalletView:
        """A wallet as it stood at an instant in the past."""
        return await self._run(self._queries.wallet_as_of, org_id, key, barred_sources, at)

    async def audit_events(self, org_id: int, *, subject: str, before: int, limit: int) -> Sequence[AuditRow]:
        """The audit log, newest first."""
        return await self._run(self._queries.audit_events, org_id, subject=subject, before=before, limit=limit)

    async def lots(
        self, org_id: int, key: WalletKey, *, include_spent: bool, after: Lot | None, limit: int, now: datetime
    ) -> Sequence[Lot]:
        """Lots in spending order."""
        return await self._run(
            self._queries.lots, org_id, key, include_spent=include_spent, after=after, limit=limit, now=now
        )

    async def transactions(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> tuple[Sequence[JournalRow], bool]:
        """Journal transactions that touched a customer, newest first, and whether there are more."""
        return await self._run(
            self._queries.transactions, org_id, customer_id, program_id=program_id, before=before, limit=limit
        )

    async def transfers(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> Sequence[TransferView]:
        """The transfers of a customer, newest first."""
        return await self._run(
            self._queries.transfers, org_id, customer_id, program_id=program_id, before=before, limit=limit
        )

    async def trace(self, org_id: int, lot_id: int, *, limit: int, now: datetime) -> LotTrace | None:
        """Where a lot came from and what was drawn from it."""
        return await self._run(self._queries.trace, org_id, lot_id, limit=limit, now=now)

    async def transaction(self, org_id: int, transaction_id: int) -> JournalRow | None:
        """A journal transaction with all postings."""
        return await self._run(self._queries.transaction, org_id, transaction_id)

    async def request(self, org_id: int, request_id: str) -> RequestRecord | None:
        """The recorded outcome of a request id."""
        return await self._run(self._queries.request, org_id, request_id)

    async def policy(self, org_id: int, program_id: int, revision: int) -> tuple[Policy, datetime] | None:
        """A revision of a program's policy and when it came into force."""
        return await self._run(self._queries.policy, org_id, program_id, revision)

    async def config_values(self, org_id: int) -> Mapping[str, str]:
        """The configuration keys of the organisation."""
        return await self._run(self._queries.config_values, org_id)

    async def parties(self, org_id: int, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers."""
        return await self._run(self._queries.parties, org_id, customer_ids)

    async def personal_records(
        self, org_id: int, customer_id: int, place: PersonalPlace, limit: int
    ) -> tuple[Sequence[PersonalRecord], PersonalPlace | None]:
        """What is kept about a person."""
        return await self._run(self._queries.personal_records, org_id, customer_id, place, limit)


class PooledListings:
    """The storage's lists (`ports.Listings`, where each is explained), awaited on the read pool."""

    def __init__(self, pool: ReadPool, listings: Listings) -> None:
        """Takes the pool and the blocking lists."""
        self._run = pool.run
        self._listings = listings

    async def customers(
        self, org_id: int, *, after: Position, limit: int, count: bool
    ) -> Listed[tuple[Customer, tuple[int, ...]]]:
        """Customers by id."""
        return await self._run(self._listings.customers, org_id, after=after, limit=limit, count=count)

    async def wallets(
        self,
        org_id: int,
        *,
        program_id: int,
        after: Position,
        limit: int,
        count: bool,
        now: datetime,
    ) -> Listed[ListedWallet]:
        """Wallets by customer and program."""
        return await self._run(
            self._listings.wallets,
            org_id,
            program_id=program_id,
            after=after,
            limit=limit,
            count=count,
            now=now,
        )

    async def live_lots(
        self, org_id: int, *, program_id: int, after: Position, limit: int, count: bool, now: datetime
    ) -> Listed[Lot]:
        """Lots with points left."""
        return await self._run(
            self._listings.live_lots, org_id, program_id=program_id, after=after, limit=limit, count=count, now=now
        )

    async def journal(
        self, org_id: int, *, since: datetime | None, until: datetime | None, after: Position, limit: int, count: bool
    ) -> Listed[JournalRow]:
        """The journal."""
        return await self._run(
            self._listings.journal, org_id, since=since, until=until, after=after, limit=limit, count=count
        )
