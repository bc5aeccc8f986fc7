"""The store of the decision core: transactions for writing, snapshots for checking, and the outbox's due messages.

One `SqlRepository` lives in the writer's process. It holds the lease and the connection that writes; `write` is for
one thread alone. `SqlSnapshots`, its reading side, lives wherever something is read, and is safe from any thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from sqlalchemy.pool import PoolProxiedConnection

from points_grpc.domain.chain import SALT_BYTES, StreamHead
from points_grpc.domain.model import Notice, OrgConfig, ProgramBook, WalletKey
from points_grpc.domain.outcome import Party
from points_grpc.domain.snapshot import Changes, Directory, Keys, Loaded, Lookups
from points_grpc.service.ports import (
    DueWallet,
    OutcomeUnknown,
    RequestRecord,
    SealedMessage,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
    Taken,
)
from points_grpc.storage import rows
from points_grpc.storage import statements as sql
from points_grpc.storage.apply import Writer
from points_grpc.storage.backend import Durability
from points_grpc.storage.driver import NOTHING, Answer, Driver, Probe
from points_grpc.storage.engine import Database, require_durable
from points_grpc.storage.erasing import erase, erased_in
from points_grpc.storage.load import WINDOW, AskedNames, Books, Reader
from points_grpc.storage.slots import FileSlot, Slot, WriterLease
from points_grpc.storage.times import to_micros

Clock = Callable[[], datetime]

AskClock = Callable[[Driver], Clock]
"""Asks what the time is; once the answer is there, the clock that it returns says it."""


@dataclass(frozen=True, slots=True)
class Locking:
    """Customers that are to be locked, and what was asked with the lock."""

    customer_ids: Sequence[int]
    wait: bool
    asked: Answer = NOTHING
    names: AskedNames | None = None


def system_now() -> datetime:
    """The clock of this host."""
    return datetime.now(UTC)


def told_by(now: Clock) -> AskClock:
    """What a clock at hand says when it is asked."""

    def ask(_: Driver) -> Clock:
        read = now()
        return lambda: read

    return ask


class SqlReadSession:
    """One read-only snapshot of one organisation."""

    __slots__ = ("_books", "_clock", "_driver", "_org_id", "_reader")

    def __init__(self, driver: Driver, org_id: int, *, books: Books, window: int, clock: AskClock) -> None:
        self._driver = driver
        self._org_id = org_id
        self._books = books
        self._clock = clock
        self._reader = Reader(driver, org_id, window)

    def names(self, lookups: Lookups) -> tuple[ProgramBook, Directory]:
        """The organisation's programs as of this transaction, and what the commands name."""
        with self._driver.together():
            version = self._ask_version()
            asked = self._reader.ask_names(lookups)
        return self._book(version), self._reader.directory(asked)

    def book(self) -> ProgramBook:
        """The organisation's programs as of this transaction."""
        with self._driver.together():
            version = self._ask_version()
        return self._book(version)

    def resolve(self, lookups: Lookups) -> Directory:
        """Resolves what the commands name."""
        return self._reader.resolve(lookups)

    def load(self, keys: Keys, book: ProgramBook, directory: Directory, windows: Mapping[WalletKey, int]) -> Loaded:
        """Reads the clock, then everything declared."""
        with self._driver.together():
            now = self._clock(self._driver)
            asked = self._reader.ask_keys(keys, directory, windows)
        return self._reader.loaded(asked, book, now())

    def _ask_version(self) -> Answer:
        return self._books.ask(self._driver, self._org_id)

    def _book(self, version: Answer) -> ProgramBook:
        return self._books.book(self._driver, self._org_id, version)


class SqlWriteSession(SqlReadSession):
    """One write transaction of one organisation: its own context manager, rolled back unless it was committed."""

    __slots__ = ("_done", "_erases", "_repository", "_writer")

    def __init__(self, repository: SqlRepository, driver: Driver, org_id: int, *, window: int, clock: AskClock) -> None:
        super().__init__(driver, org_id, books=repository.books, window=window, clock=clock)
        self._repository = repository
        self._writer: Writer | None = None
        self._done = False
        self._erases = False

    def __enter__(self) -> Self:
        try:
            self._driver.begin()
        except StorageUnavailable:
            self._repository.drop_writer(self._org_id)
            raise
        self._repository.writing = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not self._done:
                self._done = True
                self._repository.roll_back(self._driver)
            if isinstance(error, StorageUnavailable | StorageFull | OutcomeUnknown):
                self._repository.drop_writer(self._org_id)
        finally:
            self._repository.writing = False

    def take(
        self,
        customer_ids: Sequence[int],
        request_ids: Collection[str],
        keys: Keys,
        book: ProgramBook,
        directory: Directory,
        *,
        wait: bool,
    ) -> Taken:
        """Locks, then recalls, then reads the clock, then loads: in this order, and in one go."""
        with self._driver.together():
            locking = self._ask_lock(customer_ids, wait=wait)
            recorded = self._reader.ask_recorded(request_ids)
            now = self._clock(self._driver)
            asked = self._reader.ask_keys(keys, directory, {})
        locked = self._locked(locking)
        return Taken(locked, self._reader.records(recorded), self._reader.loaded(asked, book, now()))

    def recorded(self, request_ids: Collection[str]) -> Mapping[str, RequestRecord]:
        """The outcomes already recorded."""
        return self._reader.recorded(request_ids)

    def lock(self, customer_ids: Sequence[int], *, wait: bool) -> frozenset[int]:
        """Locks customers, and looks whether what was resolved before still holds."""
        with self._driver.together():
            locking = self._ask_lock(customer_ids, wait=wait)
        return self._locked(locking)

    def parties(self, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers."""
        return self._reader.parties(customer_ids)

    def apply(self, changes: Changes, records: Sequence[RequestRecord], sealed: Sequence[SealedMessage]) -> None:
        """Writes what the batch changed. Once per transaction."""
        if self._writer is not None:
            raise RuntimeError("a transaction takes one batch")
        if customer_ids := erased_in(changes.events):
            erase(self._driver, self._org_id, customer_ids)
            self._erases = True
        head = self._repository.stream_head(self._driver, self._org_id)
        self._writer = Writer(
            self._driver, self._org_id, stream=self._repository.slot.number, head=head, salt=self._repository.salt
        )
        with self._driver.together():
            self._writer.write(changes, records, sealed)

    def commit(self) -> None:
        """Commits. Raises `OutcomeUnknown` if it cannot be known whether it did."""
        self._driver.commit()
        self._done = True
        if self._writer is not None:
            self._repository.stream_advanced(self._org_id, self._writer.head)
        if self._erases:
            self._repository.overwrite()

    def _book(self, version: Answer) -> ProgramBook:
        """As read. What this transaction changed itself is not remembered: it may fail."""
        return self._books.book(self._driver, self._org_id, version, keep=self._writer is None)

    def _ask_lock(self, customer_ids: Sequence[int], *, wait: bool) -> Locking:
        """Locks nothing: the transaction has the whole database to itself, so every customer is locked."""
        return Locking(customer_ids, wait)

    def _locked(self, locking: Locking) -> frozenset[int]:
        return frozenset(locking.customer_ids)


class SqlSnapshots:
    """The reading side of the store: `ports.Snapshots`. Needs no lease, and writes nothing."""

    def __init__(
        self, database: Database, *, now: Clock = system_now, window: int = WINDOW, probe: Probe | None = None
    ) -> None:
        """Takes the database, whose readers' pool is used."""
        self.books = Books()
        self._database = database
        self._now = now
        self._window = window
        self._probe = probe

    @contextmanager
    def read(self, org_id: int) -> Iterator[SqlReadSession]:
        """A read-only snapshot on a connection of the readers' pool."""
        with reading(self._database, self._probe) as driver:
            yield self._read_session(driver, org_id)

    def config(self, org_id: int) -> OrgConfig:
        """The organisation's configuration keys; unavailable if they cannot be read."""
        try:
            with reading(self._database, self._probe) as driver:
                return OrgConfig(dict(driver.query(sql.CONFIG, (org_id,))))
        except (StorageUnavailable, StorageConflict):
            return OrgConfig({}, available=False)

    def due_messages(self, now: datetime, limit: int) -> Sequence[SealedMessage]:
        """Messages due for delivery: of each customer and target the oldest alone, expired ones too.

        Each organisation has the same share, so that nobody waits for all that another one has queued.
        """
        due = to_micros(now)
        with reading(self._database, self._probe) as driver:
            found = driver.query(sql.DUE_ORGANISATIONS, (due, due, limit))
            share = limit // max(1, len(found))
            return [
                rows.message(row)
                for (org_id,) in found
                for row in driver.query(sql.DUE_MESSAGES, (org_id, due, due, share))
            ]

    def due_notices(self, now: datetime, limit: int) -> Sequence[Notice]:
        """Business events that are due, of each customer the oldest alone; shared among organisations as messages."""
        due = to_micros(now)
        with reading(self._database, self._probe) as driver:
            found = driver.query(sql.NOTICE_ORGANISATIONS, (due, limit))
            share = limit // max(1, len(found))
            return [
                rows.notice(row) for (org_id,) in found for row in driver.query(sql.DUE_NOTICES, (org_id, due, share))
            ]

    def wallets_after(self, last: DueWallet | None, now: datetime, limit: int) -> Sequence[DueWallet]:
        """The next wallets of all organisations, in the order of their keys."""
        after = (0, 0, 0) if last is None else (last.org_id, last.customer_id, last.program_id)
        due_before = to_micros(now)
        with reading(self._database, self._probe) as driver:
            return [
                DueWallet(org_id, customer_id, program_id, due_at is not None and due_at <= due_before)
                for org_id, customer_id, program_id, due_at in driver.query(sql.WALLETS_AFTER, (*after, limit))
            ]

    def _read_session(self, driver: Driver, org_id: int) -> SqlReadSession:
        return SqlReadSession(driver, org_id, books=self.books, window=self._window, clock=told_by(self._now))


class SqlRepository(SqlSnapshots):
    """The store: `ports.Repository`. Opening it takes the lease, checks schema and durability, and takes a writer slot.

    `writing` says that a transaction runs. `slot` is what was taken; `durability` is what the writer's own connection
    said of its commits when it was opened.
    """

    slot: Slot
    durability: Durability

    salt: Callable[[], bytes]
    """Fresh random bytes, to hash with what can be asked to be forgotten. Tests put others in their place."""

    def __init__(
        self,
        database: Database,
        *,
        now: Clock = system_now,
        window: int = WINDOW,
        durable: bool = True,
        probe: Probe | None = None,
        lease_wait_s: float = 0.0,
    ) -> None:
        """Opens the store for writing. `durable=False` serves a database that may lose commits in a power loss."""
        super().__init__(database, now=now, window=window, probe=probe)
        self.writing = False
        self.salt = lambda: secrets.token_bytes(SALT_BYTES)
        self._durable = durable
        self._lease_wait_s = lease_wait_s
        self._heads: dict[int, StreamHead | None] = {}
        self._to_overwrite = True  # who wrote before may have ended before it came to that
        self._connection: PoolProxiedConnection | None = None
        self._driver: Driver | None = None
        self._lease: WriterLease | None = None
        try:
            self._lease = self._take_lease()
            self.slot = self._lease.slot
            self._writer_driver()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the writer's connection and gives the lease back. The database's pool stays the caller's.

        The writer must have ended: SQLite breaks if a connection is closed under a running statement.
        """
        if self.writing:
            raise RuntimeError("a transaction is running: end the writer first")
        self._close_writer()
        if self._lease is not None:
            self._lease.close()

    @property
    def backend_name(self) -> str:
        """Which engine of databases it is."""
        return self._database.backend.name

    def keep_lease(self) -> bool:
        """Renews the lease, where it is one that ends by itself; False if it was lost. Called by the writer alone.

        What was erased and still stands in the files, because somebody was reading, is tried again here.
        """
        if self._to_overwrite:
            self.overwrite()
        return True

    def last_id(self) -> int:
        """The highest id of a journal transaction of our slot, whoever held it before us; 0 if there is none."""
        with reading(self._database, self._probe) as driver:
            [(found,)] = driver.query(sql.LAST_OF_STREAM, (self.slot.number,))
        return int(found or 0)

    def connection(self) -> PoolProxiedConnection:
        """The writer's own connection, for the writer and for what looks over its shoulder in tests."""
        self._writer_driver()
        assert self._connection is not None
        return self._connection

    def overwrite(self) -> None:
        """Makes what was erased leave the files of the database, where that is the writer's to do; or later, while
        somebody reads an older state. Called by the writer alone, between two transactions.
        """
        self._to_overwrite = not self._database.backend.overwrite(self.connection())

    def write(self, org_id: int) -> SqlWriteSession:
        """A write transaction. Called by the writer alone."""
        return self._write_session(self._writer_driver(), org_id)

    # -- what differs on other engines ---------------------------------------------------------------------------------

    def _take_lease(self) -> WriterLease:
        """The right to write, with the slot to write under; checks the schema."""
        return FileSlot(self._database, self._now(), wait_s=self._lease_wait_s)

    def _write_session(self, driver: Driver, org_id: int) -> SqlWriteSession:
        return SqlWriteSession(self, driver, org_id, window=self._window, clock=told_by(self._now))

    # -- what the write session asks back ------------------------------------------------------------------------------

    def stream_head(self, driver: Driver, org_id: int) -> StreamHead | None:
        """Where this process left its journal stream of the organisation; read once, then remembered."""
        if org_id not in self._heads:
            found = driver.query(sql.STREAM_HEAD, (org_id, self.slot.number))
            self._heads[org_id] = StreamHead(found[0][0], bytes(found[0][1])) if found else None
        return self._heads[org_id]

    def stream_advanced(self, org_id: int, head: StreamHead) -> None:
        """The commit that moved the stream took place."""
        if head.position:
            self._heads[org_id] = head

    def roll_back(self, driver: Driver) -> None:
        """Rolls back; a connection that cannot is replaced before the next write."""
        try:
            driver.rollback()
        except StorageUnavailable:
            self._close_writer()

    def drop_writer(self, org_id: int) -> None:
        """After a fault of the connection: opens another next time, and trusts no head that was remembered."""
        self._heads.pop(org_id, None)
        self._close_writer()

    def _writer_driver(self) -> Driver:
        if self._driver is None:
            self._connection = self._database.connect_writer()
            backend = self._database.backend
            if self._durable:
                self.durability = require_durable(self._database, self._connection)
            else:
                self.durability = backend.durability(self._connection)
            self._driver = backend.driver(self._connection, self._probe, writes=True)
        return self._driver

    def _close_writer(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
        self._connection = self._driver = None


@contextmanager
def reading(database: Database, probe: Probe | None = None) -> Iterator[Driver]:
    """A read-only transaction on a connection of the readers' pool; the pool rolls it back.

    A connection that failed is not given back: what it has cached of a damaged page would go on failing.
    """
    connection = database.connect_reader()
    try:
        driver = database.backend.driver(connection, probe, writes=False)
        driver.begin()
        yield driver
    except StorageUnavailable:
        connection.invalidate()
        raise
    finally:
        connection.close()
