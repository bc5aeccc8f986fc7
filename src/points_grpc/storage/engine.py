"""The connections of a database: one that writes, kept open, and a pool that reads; and whether it can be served.

The scheme of the URL says which engine of databases it is; `backend.Backend` says what each brings.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import PoolProxiedConnection

from points_grpc.service.ports import SettingWrong, StorageUnavailable
from points_grpc.storage import schema
from points_grpc.storage.backend import Backend, Durability
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.sqlite import Sqlite

READERS_MAX = 8
"""Connections of the readers' pool; a read beyond that waits for one."""


_SUPPORTED = "supported are sqlite:///<file> and postgresql+psycopg://…"


class NotDurable(RuntimeError):
    """The writer's connection does not keep what it commits through a power loss."""


class SchemaMismatch(RuntimeError):
    """The database holds another revision of the schema than this program was written for."""


class Database:
    """A database with its engines. Safe to share between threads, except for what the writer is given.

    `path` is the database's file, if it is one.
    """

    def __init__(self, url: str, *, readers: int = READERS_MAX, synchronous: str = "FULL") -> None:
        """Opens nothing yet. `synchronous` is for tests and imports that can be started over; SQLite alone knows it."""
        self.url = _url(url)
        self.backend = _backend(self.url, synchronous)
        self.path = self.backend.path if isinstance(self.backend, Sqlite) else None
        self.writer = self.backend.writer()
        self.reader = self.backend.reader(readers)

    def connect_writer(self) -> PoolProxiedConnection:
        """A new connection that writes."""
        return self._connect(self.writer)

    def connect_reader(self) -> PoolProxiedConnection:
        """A connection of the readers' pool; closing it gives it back."""
        return self._connect(self.reader)

    def close(self) -> None:
        """Closes what is idle; nothing may be running."""
        self.reader.dispose()
        self.writer.dispose()

    def _connect(self, engine: Engine) -> PoolProxiedConnection:
        errors: tuple[type[Exception], ...] = (*DRIVER_ERRORS, *self.backend.errors)
        try:
            return engine.raw_connection()
        except errors as error:
            translated = translate(error)
            if translated is error:
                raise StorageUnavailable("the database cannot be opened") from error
            raise translated from error


def is_there(database: Database) -> bool:
    """Whether there is anything to open. SQLite would make an empty file at a place that was mistyped."""
    return database.path is None or database.path.exists()


def require_durable(database: Database, connection: PoolProxiedConnection) -> Durability:
    """What holds for the commits of a connection; raises `NotDurable` where one would not survive a power loss."""
    found = database.backend.durability(connection)
    if not found.survives_power_loss:
        raise NotDurable(", ".join(f"{name}={value}" for name, value in found.settings.items()))
    return found


def schema_revision(connection: Connection) -> str | None:
    """The revision that migrations left in the database; None if none ever ran."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def require_schema(database: Database) -> None:
    """Raises `SchemaMismatch` unless the database has the schema of this program. Makes no database."""
    if not is_there(database):
        raise SchemaMismatch(
            f"there is no database {database.backend.place}, this program needs schema revision {schema.REVISION}: "
            "migrate it"
        )
    try:
        with database.reader.connect() as connection:
            found = schema_revision(connection)
    except DRIVER_ERRORS as error:
        raise named(database, translate(error)) from error
    require_known(database, found)
    if found != schema.REVISION:
        place = database.backend.place
        raise SchemaMismatch(
            f"{place} has schema revision {found or 'none'}, this program needs {schema.REVISION}: migrate it"
        )


def named(database: Database, error: Exception) -> Exception:
    """The same condition of storage, told with the place: whoever opens a database asks for one of many."""
    return StorageUnavailable(f"{database.backend.place}: {error}") if isinstance(error, StorageUnavailable) else error


def require_known(database: Database, found: str | None) -> None:
    """Raises `SchemaMismatch` where a newer program wrote the database: no migration leads back from there."""
    if found not in {None, schema.REVISION, *schema.EARLIER_REVISIONS}:
        raise SchemaMismatch(
            f"{database.backend.place} has schema revision {found}, which this program does not know (it needs "
            f"{schema.REVISION}): a newer version wrote it; use that version, or restore the backup made before the "
            "upgrade"
        )


def _url(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):  # It is not repeated: there may be a password in it. A port may be no number.
        raise SettingWrong(f"that is no URL of a database; {_SUPPORTED}") from None


def _backend(url: URL, synchronous: str) -> Backend:
    name = url.get_backend_name()
    if name == "sqlite":
        return Sqlite(url, synchronous=synchronous)
    if name == "postgresql":
        return _postgres()(url)
    raise SettingWrong(f"unsupported database: {name}; {_SUPPORTED}")


def _postgres() -> Callable[[URL], Backend]:
    try:
        from points_grpc.storage.postgres import Postgres  # noqa: PLC0415 - its driver is an extra
    except ImportError as error:
        if not (error.name or "psycopg").startswith("psycopg"):  # a driver without its library names nothing
            raise
        raise StorageUnavailable("PostgreSQL takes a driver: pip install 'points-grpc[postgres]'") from error
    return Postgres
