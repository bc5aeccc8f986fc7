"""The connections of a database: one that writes, kept open, and a pool that reads; and whose turn it is to write.

Transactions are begun here by hand: IMMEDIATE for writing, so that two writers queue instead of failing half way, and
deferred for reading, so that a reader sees one snapshot and blocks nobody.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection, QueuePool

from points_grpc.service.ports import StorageUnavailable
from points_grpc.storage import schema, sqlite
from points_grpc.storage.driver import Driver, Probe
from points_grpc.storage.faults import DRIVER_ERRORS, translate

READERS_MAX = 8
"""Connections of the readers' pool; a read beyond that waits for one."""

CACHED_STATEMENTS = 512
"""Prepared statements that a connection keeps: a few dozen texts, each for up to eight numbers of rows."""

READER_WAIT_S = 10.0
"""How long a read waits for a connection before it is told that there is none."""


class NotDurable(RuntimeError):
    """The writer's connection does not keep what it commits through a power loss."""


class SchemaMismatch(RuntimeError):
    """The database holds another revision of the schema than this program was written for."""


class Database:
    """A database file with its engines. Safe to share between threads, except for what the writer is given."""

    def __init__(self, url: str, *, readers: int = READERS_MAX, synchronous: str = "FULL") -> None:
        """Opens nothing yet. `synchronous` is for tests and imports that can be started over."""
        parsed = _checked(url)
        self.path = Path(parsed.database or "").absolute()
        self.url = parsed
        self.writer = create_engine(
            parsed,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "cached_statements": CACHED_STATEMENTS},
        )
        self.reader = create_engine(
            parsed,
            poolclass=QueuePool,
            pool_size=readers,
            max_overflow=0,
            pool_timeout=READER_WAIT_S,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "cached_statements": CACHED_STATEMENTS},
        )
        _manage(self.writer, writes=True, synchronous=synchronous)
        _manage(self.reader, writes=False, synchronous=synchronous)

    def connect_writer(self) -> PoolProxiedConnection:
        """A new connection that writes."""
        return _connect(self.writer)

    def connect_reader(self) -> PoolProxiedConnection:
        """A connection of the readers' pool; closing it gives it back."""
        return _connect(self.reader)

    def close(self) -> None:
        """Closes what is idle; nothing may be running."""
        self.reader.dispose()
        self.writer.dispose()


def driver_of(connection: PoolProxiedConnection, probe: Probe | None = None) -> Driver:
    """Runs statements on a pooled connection."""
    return Driver(connection, connection.cursor(), probe)


def durability(connection: PoolProxiedConnection) -> sqlite.Durability:
    """What holds for the commits of a connection, read back from that connection."""
    return sqlite.durability(connection.cursor())


def require_durable(connection: PoolProxiedConnection) -> sqlite.Durability:
    """As `durability`; raises `NotDurable` where a commit would not survive a power loss."""
    found = durability(connection)
    if not found.survives_power_loss:
        raise NotDurable(f"journal_mode={found.journal_mode}, synchronous={found.synchronous}")
    return found


def schema_revision(connection: Connection) -> str | None:
    """The revision that migrations left in the database; None if none ever ran."""
    known = connection.execute(
        select(text("name")).select_from(text("sqlite_master")).where(text("name = 'alembic_version'"))
    ).first()
    if known is None:
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def require_schema(database: Database) -> None:
    """Raises `SchemaMismatch` unless the database has the schema of this program."""
    try:
        with database.reader.connect() as connection:
            found = schema_revision(connection)
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    if found != schema.REVISION:
        raise SchemaMismatch(
            f"{database.path} has schema revision {found or 'none'}, this program needs {schema.REVISION}: migrate it"
        )


def _checked(url: str) -> URL:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise ValueError(f"unsupported database: {parsed.get_backend_name()}; only sqlite:///<file> is")
    if parsed.database in {None, "", ":memory:"}:
        raise ValueError("the database must be a file: readers and the writer share it (sqlite:///points.db)")
    return parsed


def _manage(engine: Engine, *, writes: bool, synchronous: str) -> None:
    """Sets connections up as they are opened, and begins the transactions that SQLAlchemy is asked for."""

    def connected(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        sqlite.set_up(connection, writes=writes, synchronous=synchronous)

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(sqlite.BEGIN_WRITE if writes else sqlite.BEGIN_READ)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _connect(engine: Engine) -> PoolProxiedConnection:
    try:
        return engine.raw_connection()
    except DRIVER_ERRORS as error:
        translated = translate(error)
        if translated is error:
            raise StorageUnavailable("the database cannot be opened") from error
        raise translated from error
