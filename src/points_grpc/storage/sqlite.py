"""What holds for SQLite alone: how its connections are set up and what they begin with, how durable it is.

A second engine has siblings of this file (`postgres`). Nothing here knows a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection, QueuePool

from points_grpc.service.ports import SettingWrong
from points_grpc.service.stopping import is_unwanted
from points_grpc.storage.driver import Cursor, Probe, SqliteDriver

BEGIN_WRITE = "BEGIN IMMEDIATE"
BEGIN_READ = "BEGIN"

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for the write lock that another process holds (an admin command, a migration)."""

CACHE_KIB = 65_536
"""Page cache of a connection. The default of 2 MiB is smaller than the upper levels of a busy index."""

CHECKPOINT_PAGES = 32_000
"""How long the log grows before a commit copies it into the file, in pages of 4 KiB: longer than the default of 1,000,
because the same pages are written again and again, and are copied once."""

OVERWRITE_WAIT_MS = 250
"""How long what was erased waits for readers before it is tried again some seconds later."""

CACHED_STATEMENTS = 512
"""Prepared statements that a connection keeps: a few dozen texts, each for up to eight numbers of rows."""

READER_WAIT_S = 10.0
"""How long a read waits for a connection before it is told that there is none."""

STEPS_BETWEEN_LOOKS = 100_000
"""How many steps of SQLite's machine a read makes until it looks whether anybody waits for it still: milliseconds."""

_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


@dataclass(frozen=True, slots=True)
class Durability:
    """What the writer's own connection says of itself."""

    journal_mode: str
    synchronous: str

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that decide it."""
        return {"journal_mode": self.journal_mode, "synchronous": self.synchronous}

    @property
    def survives_power_loss(self) -> bool:
        """Whether what was committed is still there after `kill -9` and after a power loss."""
        return self.journal_mode == "wal" and self.synchronous in {"FULL", "EXTRA"}


class Sqlite:
    """SQLite over one database file (`backend.Backend`)."""

    name = "sqlite"
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, url: URL, *, synchronous: str = "FULL") -> None:
        """`synchronous` is for tests and imports that can be started over."""
        if url.database in {None, "", ":memory:"}:
            raise SettingWrong("the database must be a file: readers and the writer share it (sqlite:///points.db)")
        self.path = Path(url.database or "").absolute()
        self.place = str(self.path)
        self._url = url
        self._synchronous = synchronous

    def writer(self) -> Engine:
        """Opens connections that write."""
        return self._managed(
            create_engine(self._url, poolclass=NullPool, hide_parameters=True, connect_args=_CONNECT), writes=True
        )

    def reader(self, connections: int) -> Engine:
        """A pool of connections that read."""
        engine = create_engine(
            self._url,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=READER_WAIT_S,
            hide_parameters=True,
            connect_args=_CONNECT,
        )
        return self._managed(engine, writes=False)

    def driver(self, connection: PoolProxiedConnection, probe: Probe | None, *, writes: bool) -> SqliteDriver:
        """Runs statements on a connection."""
        return SqliteDriver(connection, connection.cursor(), BEGIN_WRITE if writes else BEGIN_READ, probe)

    def durability(self, connection: PoolProxiedConnection) -> Durability:
        """What the connection says of its commits."""
        return durability(connection.cursor())

    def overwrite(self, connection: PoolProxiedConnection) -> bool:
        """Copies the log into the file, whose pages are overwritten by that, and empties the log.

        Who reads an older state is waited for for a moment: readers end soon, and a backup does not hold up writes.
        """
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {OVERWRITE_WAIT_MS}")
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [(busy, _, _)] = cursor.fetchall()
        except sqlite3.Error:  # What is committed stays so; the disk may be full, and have room again later.
            return False
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            cursor.close()
        return not busy

    def vacuum(self, connection: PoolProxiedConnection, tables: Sequence[str]) -> None:  # noqa: ARG002 - one file
        """Writes the whole file anew; needs as much room again for as long."""
        with closing(connection.cursor()) as cursor:
            cursor.execute("VACUUM")
        if not self.overwrite(connection):
            raise ValueError(f"somebody reads {self.place}: the log has what was erased until that is over; try again")

    @contextmanager
    def long_reads(self, connection: Connection) -> Iterator[None]:
        """Lets long sorts go to temporary files, which `set_up` keeps in memory otherwise."""
        connection.exec_driver_sql("PRAGMA temp_store = FILE")
        try:
            yield
        finally:
            connection.exec_driver_sql("PRAGMA temp_store = MEMORY")

    def migrator(self) -> Engine:
        """Opens connections for migrations; makes the folder of the file, and none above it: that is a mistake."""
        self.path.parent.mkdir(exist_ok=True)
        return self.writer()

    def finish(self, connection: Connection) -> None:
        """Plants statistics."""
        plant_statistics(connection)

    def _managed(self, engine: Engine, *, writes: bool) -> Engine:
        """Sets connections up as they are opened, and begins the transactions that SQLAlchemy is asked for."""

        def connected(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
            set_up(connection, writes=writes, synchronous=self._synchronous)

        def begun(connection: Connection) -> None:
            connection.exec_driver_sql(BEGIN_WRITE if writes else BEGIN_READ)

        event.listen(engine, "connect", connected)
        event.listen(engine, "begin", begun)
        return engine


_CONNECT = {"check_same_thread": False, "cached_statements": CACHED_STATEMENTS}


def set_up(connection: sqlite3.Connection, *, writes: bool, synchronous: str = "FULL") -> None:
    """Prepares a new connection. Transactions are begun by us, never by the driver."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    cursor.execute("PRAGMA temp_store = MEMORY")
    if writes:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")  # What is erased (sealed codes) is overwritten.
    else:
        cursor.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(is_unwanted, STEPS_BETWEEN_LOOKS)
    cursor.close()


def durability(cursor: Cursor) -> Durability:
    """Reads back from a connection what holds for its commits."""
    cursor.execute("PRAGMA journal_mode")
    [(journal_mode,)] = cursor.fetchall()
    cursor.execute("PRAGMA synchronous")
    [(synchronous,)] = cursor.fetchall()
    return Durability(str(journal_mode).lower(), _SYNCHRONOUS[int(synchronous)])


def new_dialect() -> SQLiteDialect_pysqlite:
    """The dialect that hot statements are compiled for: positional parameters."""
    return SQLiteDialect_pysqlite(paramstyle="qmark")


def new_insert(table: Table) -> Insert:
    """An INSERT that knows ON CONFLICT."""
    return insert(table)


PLANTED_ROWS = 1_000_000
"""How many rows the planner is told that a table has; a partial index has a tenth."""


def plant_statistics(connection: Connection) -> None:
    """Tells the planner what it would not guess: that the organisation alone narrows nothing down.

    Without statistics SQLite takes the first column of any key for one that leaves ten rows, and would search whole
    organisations by the primary key where a better index is at hand. Gathered statistics would change plans as tables
    grow. Planted ones say the same for ever: an organisation has all rows, each further column leaves few.
    """
    connection.exec_driver_sql("ANALYZE sqlite_schema")  # creates the table and gathers nothing
    connection.exec_driver_sql("DELETE FROM sqlite_stat1")
    tables = connection.exec_driver_sql(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).all()
    for table, without_rowid in tables:
        indexes = connection.exec_driver_sql(
            'SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (table,)
        ).all()
        for index, unique, origin, partial in indexes:
            names = connection.exec_driver_sql("SELECT name FROM pragma_index_info(?)", (index,)).scalars().all()
            known_as = table if origin == "pk" and without_rowid else index
            estimate = _estimate(names, unique=bool(unique), partial=bool(partial))
            connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", (table, known_as, estimate))


def _estimate(columns: Sequence[str], *, unique: bool, partial: bool) -> str:
    """How many rows an index has, and how many share its first column, its first two columns, and so on."""
    total = PLANTED_ROWS // 10 if partial else PLANTED_ROWS
    shared = [total]
    for place, column in enumerate(columns, start=1):
        if place == len(columns) and unique:
            shared.append(1)
        else:
            shared.append(total if column == "org_id" else max(2, 100 >> place))
    return " ".join(str(number) for number in shared)
