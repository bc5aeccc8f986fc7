"""The store of the decision core on PostgreSQL, where others write at the same time: the sibling of `repository`.

What keeps writers apart are the customers' rows, locked in the order of their ids before anything that is decided upon
is read. What was resolved before the lock is compared after it, and a batch is run again where it does not hold any
more. The clock is the database's, read once, after the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from sqlalchemy import Select, bindparam, select

from points_grpc.domain import events as ev
from points_grpc.domain.model import ProgramBook
from points_grpc.domain.snapshot import Changes, Directory, Lookups
from points_grpc.service.ports import RequestRecord, SealedMessage, StorageConflict
from points_grpc.storage import rows
from points_grpc.storage.driver import Answer, Driver, Probe, Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.key_lists import among
from points_grpc.storage.load import WINDOW, AskedNames
from points_grpc.storage.postgres_driver import PostgresDriver
from points_grpc.storage.postgres_slots import NOW_MICROS, SlotLease
from points_grpc.storage.postgres_sql import on_postgres
from points_grpc.storage.repository import (
    AskClock,
    Clock,
    Locking,
    SqlReadSession,
    SqlRepository,
    SqlSnapshots,
    SqlWriteSession,
    system_now,
    told_by,
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

    __slots__ = ("_book_version", "_fence", "_lease", "_lookups", "_resolved")

    def __init__(
        self, repository: PostgresRepository, driver: Driver, org_id: int, *, window: int, clock: AskClock
    ) -> None:
        super().__init__(repository, driver, org_id, window=window, clock=clock)
        self._lease = repository.lease
        self._fence: Answer | None = None
        self._book_version = 0
        self._lookups = Lookups()
        self._resolved: Directory | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._drop_if_lost()

    def names(self, lookups: Lookups) -> tuple[ProgramBook, Directory]:
        """Resolves what the commands name; the lock looks whether it still holds."""
        self._lookups = lookups
        book, self._resolved = super().names(lookups)
        return book, self._resolved

    def resolve(self, lookups: Lookups) -> Directory:
        """As `names`, without the programs."""
        self._lookups = lookups
        self._resolved = super().resolve(lookups)
        return self._resolved

    def _ask_version(self) -> Answer:
        """Every batch asks for its programs, and with them whether it may write: what comes first is what fences."""
        self._fence = self._lease.ask(self._driver)
        return super()._ask_version()

    def _book(self, version: Answer) -> ProgramBook:
        assert self._fence is not None
        self._lease.fence(self._driver, self._fence)
        found = super()._book(version)
        self._book_version = found.version
        return found

    def _ask_lock(self, customer_ids: Sequence[int], *, wait: bool) -> Locking:
        """Locks the customers' rows, and asks once more for redemptions by names that may have come to mean more."""
        if not customer_ids:
            return Locking(customer_ids, wait)
        asked = self._driver.ask(_LOCK[wait], (self._org_id, self._driver.bind_values(customer_ids)))
        return Locking(customer_ids, wait, asked, self._ask_names_again())

    def _locked(self, locking: Locking) -> frozenset[int]:
        """The customers that are locked. Raises `StorageConflict` if the names mean something else by now."""
        if not locking.customer_ids:
            return frozenset()
        locked = [rows.customer(row) for row in locking.asked.rows()]
        if self._reader.replace_customers(locked):
            raise StorageConflict("a customer was changed by another writer")
        if locking.names is not None:
            self._compare_names(locking.names)
        return frozenset(locking.customer_ids) if locking.wait else frozenset(one.customer_id for one in locked)

    def apply(self, changes: Changes, records: Sequence[RequestRecord], sealed: Sequence[SealedMessage]) -> None:
        """Writes what the batch changed; what belongs to the organisation, only if nobody changed it meanwhile."""
        if self._fence is None:
            self._lease.fence(self._driver, self._lease.ask(self._driver))
        if any(isinstance(event, _OF_ORGANISATION) for event in changes.events):
            [(version,)] = self._driver.query(_BOOK_VERSION, (self._org_id,))
            if version != self._book_version:
                raise StorageConflict("the programs were changed by another writer")
        super().apply(changes, records, sealed)

    def _drop_if_lost(self) -> None:
        if isinstance(self._driver, PostgresDriver) and self._driver.lost:
            self._repository.drop_writer(self._org_id)

    def _ask_names_again(self) -> AskedNames | None:
        """References and bills may name more redemptions than before they were kept from changing, and more customers
        may have been merged.
        """
        asked = Lookups(
            external_references=self._lookups.external_references,
            transaction_numbers=self._lookups.transaction_numbers,
            identifiers=self._lookups.families,
            families=self._lookups.families,
        )
        if self._resolved is None or not (asked.external_references or asked.transaction_numbers or asked.families):
            return None
        return self._reader.ask_names(asked)

    def _compare_names(self, asked: AskedNames) -> None:
        before, after = self._resolved, self._reader.directory(asked)
        assert before is not None
        if before.families != after.families:
            raise StorageConflict("a customer was merged by another writer")
        if (before.by_external_reference, before.by_transaction_number) != (
            after.by_external_reference,
            after.by_transaction_number,
        ):
            raise StorageConflict("a redemption was made by another writer")


def _server_clock(driver: Driver) -> Clock:
    """Asks the database's clock."""
    asked = driver.ask(_CLOCK, ())
    return lambda: from_micros(asked.rows()[0][0])


class PostgresSnapshots(SqlSnapshots):
    """The reading side of the store, for processes that write nothing."""

    def _read_session(self, driver: Driver, org_id: int) -> SqlReadSession:
        return SqlReadSession(driver, org_id, books=self.books, window=self._window, clock=_server_clock)


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
        self._clock = _server_clock if now is None else told_by(now)
        super().__init__(database, now=now or system_now, window=window, durable=durable, probe=probe)

    def keep_lease(self) -> bool:
        """Renews the lease, whatever is written meanwhile; False if it was lost."""
        return self.lease.keep()

    def _take_lease(self) -> WriterLease:
        self.lease = SlotLease(self._database)
        return self.lease

    def _write_session(self, driver: Driver, org_id: int) -> SqlWriteSession:
        return PostgresWriteSession(self, driver, org_id, window=self._window, clock=self._clock)

    def _read_session(self, driver: Driver, org_id: int) -> SqlReadSession:
        return SqlReadSession(driver, org_id, books=self.books, window=self._window, clock=self._clock)
