"""Reads and checks off the event loop: a small pool of threads, each call on a read-only snapshot of its own.

They never wait behind the writer. What expires in the pool's queue is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import ParamSpec, Protocol, TypeVar

from points_grpc.domain.commands import Submission, operation_of
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.model import Customer, Identifier, Lot, ProgramBook, WalletKey
from points_grpc.domain.outcome import Party, Settled
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
from points_grpc.service.ports import Listings, Queries, RequestRecord, StorageUnavailable

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Checking(Protocol):
    """What decides a read-only command; `checks.Checks` in the service."""

    def check(self, submission: Submission) -> Settled:
        """The decision, on a snapshot of its own."""
        ...


class ReadPool:
    """Runs blocking reads on threads of its own."""

    def __init__(self, *, threads: int) -> None:
        """Takes the number of threads: at most so many reads run at once."""
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="reader")

    async def run(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Runs a blocking function and awaits its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Waits for the reads that run and ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Checker:
    """Decides read-only commands on the read pool."""

    def __init__(self, pool: ReadPool, checking: Checking, monotonic: Callable[[], float]) -> None:
        """`monotonic` is the clock of all deadlines."""
        self._pool = pool
        self._checking = checking
        self._monotonic = monotonic

    async def check(self, submission: Submission, deadline: float) -> Settled:
        """The decision, or a refusal if the deadline passed in the queue or the store cannot be reached."""
        return await self._pool.run(self._check, submission, deadline)

    def _check(self, submission: Submission, deadline: float) -> Settled:
        operation = operation_of(submission.command)
        if deadline <= self._monotonic():
            return Settled(refusal_of(Failure.EXPIRED_IN_QUEUE, operation), submission.request_id)
        try:
            return self._checking.check(submission)
        except StorageUnavailable:
            return Settled(refusal_of(Failure.STORAGE_UNAVAILABLE, operation), submission.request_id)


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
    ) -> Sequence[JournalRow]:
        """Journal transactions that touched a customer, newest first."""
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
