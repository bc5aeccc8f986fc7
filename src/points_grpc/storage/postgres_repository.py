"""The store of the decision core on PostgreSQL, where others write at the same time: the sibling of `repository`.

What keeps writers apart are the customers' rows, locked in the order of their ids before anything that is decided upon
is read. What was resolved before the lock is compared after it, and a batch is run again where it does not hold any
more. The clock is the database's, read once, after the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import Select, bindparam, select

from points_grpc.domain import events as ev
from points_grpc.domain.model import ProgramBook
from points_grpc.domain.snapshot import Changes, Directory, Lookups
from points_grpc.service.ports import RequestRecord, SealedMessage, StorageConflict
from points_grpc.storage import rows
from points_grpc.storage.driver import Driver, Probe, Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.key_lists import among
from points_grpc.storage.load import WINDOW
from points_grpc.storage.postgres_driver import PostgresDriver
from points_grpc.storage.postgres_slots import NOW_MICROS, SlotLease
from points_grpc.storage.postgres_sql import on_postgres
from points_grpc.storage.repository import (
    Clock,
    SqlReadSession,
    SqlRepository,
    SqlSnapshots,
    SqlWriteSession,
    system_now,
)
from points_grpc.storage.schema import customers, orgs
from points_grpc.storage.slots import WriterLease
from points_grpc.storage.statements import columns
from points_grpc.storage.times import from_micros

_CLOCK = on_postgres(select(NOW_MICROS))

_BOOK_VERSION = on_postgres(
    select(orgs.c.book_version).where(orgs.c.org_id == bindparam("of_org")).with_for_update(key_share=True), "of_org"
)

_OF_ORGANISATION = (ev.ProgramSaved, ev.GroupSaved, ev.PolicySaved, ev.OrgPaused, ev.ConfigKeySet)
"""Events that change what no customer's lock keeps apart."""


def _locking(*, wait: bool) -> Statement:
    """Locks rows of customers in the order of their ids. References to them may be made meanwhile."""
    found: Select[tuple[object, ...]] = (
        select(*columns(customers, rows.CUSTOMER_COLUMNS))
        .where(customers.c.org_id == bindparam("of_org"), among(customers.c.customer_id, "ids"))
        .order_by(customers.c.customer_id)
        .with_for_update(key_share=True, skip_locked=not wait)
    )
    return on_postgres(found, "of_org", "ids")


_LOCK = {wait: _locking(wait=wait) for wait in (True, False)}


class PostgresWriteSession(SqlWriteSession):
    """One write transaction of one organisation, beside those of other processes."""

    __slots__ = ("_book_version", "_lease", "_lookups", "_resolved")

    def __init__(self, repository: PostgresRepository, driver: Driver, org_id: int, *, window: int, now: Clock) -> None:
        super().__init__(repository, driver, org_id, window=window, now=now)
        self._lease = repository.lease
        self._book_version = 0
        self._lookups = Lookups()
        self._resolved: Directory | None = None

    def __enter__(self) -> Self:
        try:
            super().__enter__()
        except StorageConflict:  # The connection was lost while nothing was written.
            self._drop_if_lost()
            raise
        try:
            self._lease.fence(self._driver)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._drop_if_lost()

    def book(self) -> ProgramBook:
        """The organisation's programs as of now."""
        found = super().book()
        self._book_version = found.version
        return found

    def resolve(self, lookups: Lookups) -> Directory:
        """Resolves what the commands name; `lock` looks whether it still holds."""
        self._lookups = lookups
        self._resolved = super().resolve(lookups)
        return self._resolved

    def lock(self, customer_ids: Sequence[int], *, wait: bool) -> frozenset[int]:
        """Locks the customers' rows. Raises `StorageConflict` if the names mean something else by now."""
        if not customer_ids:
            return frozenset()
        found = self._driver.query(_LOCK[wait], (self._org_id, self._driver.bind_values(customer_ids)))
        locked = [rows.customer(row) for row in found]
        if self._reader.replace_customers(locked):
            raise StorageConflict("a customer was changed by another writer")
        self._compare_names()
        return frozenset(customer_ids) if wait else frozenset(one.customer_id for one in locked)

    def _drop_if_lost(self) -> None:
        if isinstance(self._driver, PostgresDriver) and self._driver.lost:
            self._repository.drop_writer(self._org_id)

    def _compare_names(self) -> None:
        """References and bills may name more redemptions than before they were kept from changing, and more customers
        may have been merged.
        """
        asked = Lookups(
            external_references=self._lookups.external_references,
            transaction_numbers=self._lookups.transaction_numbers,
            identifiers=self._lookups.families,
            families=self._lookups.families,
        )
        before = self._resolved
        if before is None or not (asked.external_references or asked.transaction_numbers or asked.families):
            return
        after = super().resolve(asked)
        if before.families != after.families:
            raise StorageConflict("a customer was merged by another writer")
        if (before.by_external_reference, before.by_transaction_number) != (
            after.by_external_reference,
            after.by_transaction_number,
        ):
            raise StorageConflict("a redemption was made by another writer")

    def apply(self, changes: Changes, records: Sequence[RequestRecord], sealed: Sequence[SealedMessage]) -> None:
        """Writes what the batch changed; what belongs to the organisation, only if nobody changed it meanwhile."""
        if any(isinstance(event, _OF_ORGANISATION) for event in changes.events):
            [(version,)] = self._driver.query(_BOOK_VERSION, (self._org_id,))
            if version != self._book_version:
                raise StorageConflict("the programs were changed by another writer")
        super().apply(changes, records, sealed)


def _server_clock(driver: Driver) -> Clock:
    """The database's clock, read when it is asked."""
    return lambda: from_micros(driver.query(_CLOCK, ())[0][0])


class PostgresSnapshots(SqlSnapshots):
    """The reading side of the store, for processes that write nothing."""

    def _read_session(self, driver: Driver, org_id: int) -> SqlReadSession:
        return SqlReadSession(driver, org_id, books=self.books, window=self._window, now=_server_clock(driver))


class PostgresRepository(SqlRepository):
    """The store, one of several on the same database. Opening it takes a writer slot of its own."""

    lease: SlotLease

    def __init__(
        self,
        database: Database,
        *,
        now: Clock | None = None,
        window: int = WINDOW,
        durable: bool = True,
        probe: Probe | None = None,
    ) -> None:
        """Opens the store for writing. `now` stands for the database's clock, in tests."""
        self._clock = now
        super().__init__(database, now=now or system_now, window=window, durable=durable, probe=probe)

    def keep_lease(self) -> bool:
        """Renews the lease, whatever is written meanwhile; False if it was lost."""
        return self.lease.keep()

    def _take_lease(self) -> WriterLease:
        self.lease = SlotLease(self._database)
        return self.lease

    def _write_session(self, driver: Driver, org_id: int) -> SqlWriteSession:
        return PostgresWriteSession(self, driver, org_id, window=self._window, now=self._clock_of(driver))

    def _read_session(self, driver: Driver, org_id: int) -> SqlReadSession:
        return SqlReadSession(driver, org_id, books=self.books, window=self._window, now=self._clock_of(driver))

    def _clock_of(self, driver: Driver) -> Clock:
        """The clock of a session: the database's, asked once its customers are locked."""
        return self._clock or _server_clock(driver)
