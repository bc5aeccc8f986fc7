"""What holds for PostgreSQL alone: how its connections are set up, how durable it is. The sibling of `sqlite`.

The only module beside the driver's that imports psycopg, which is an extra: `engine` imports it when a URL asks for it.
Nothing here knows a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import Int8Dumper, IntLoader
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection, QueuePool

from points_grpc.masking import masked_url
from points_grpc.service.ports import SettingWrong
from points_grpc.storage.driver import Probe, Row
from points_grpc.storage.faults import translate
from points_grpc.storage.postgres_driver import PostgresDriver
from points_grpc.storage.postgres_sql import BigintArray

BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

STATEMENT_TIMEOUT_MS = 10_000
"""How long a statement may take: longer than any that a batch or an answer consists of."""

LOCK_TIMEOUT_MS = 4_000
"""How long a writer waits for a row that another one holds, before the batch is run again."""

IDLE_TIMEOUT_MS = 15_000
"""How long a transaction may stand still (a stopped process) before the server ends it and frees what it holds."""

LONG_IDLE_TIMEOUT_MS = 900_000
"""The same for a transaction that only reads, and computes between its statements: it keeps nobody from writing."""

READER_WAIT_S = 10.0
"""How long a read waits for a connection before it is told that there is none."""

PREPARED_MAX = 1_000
"""Statements that a connection keeps prepared; there are a few hundred texts."""

_CONNECTION = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "points-grpc",
}
"""A host that vanished is noticed within 25 seconds, where the server is reached by TCP."""

_PLANS = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}
"""Plans that stay good as tables grow: hot statements look rows up by an index, key by key, at any size of a table.

Left alone, the planner reads a small table whole, rightly, and a plan that was prepared then would do so for ever.
"""


@dataclass(frozen=True, slots=True)
class Durability:
    """What the writer's own connection says of itself."""

    synchronous_commit: str
    fsync: str
    full_page_writes: str

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that decide it."""
        return {
            "synchronous_commit": self.synchronous_commit,
            "fsync": self.fsync,
            "full_page_writes": self.full_page_writes,
        }

    @property
    def survives_power_loss(self) -> bool:
        """Whether what was committed is still there after `kill -9` and after a power loss.

        Every other value of `synchronous_commit` than "off" waits for the disk of the server itself.
        """
        return self.synchronous_commit != "off" and self.fsync == "on" and self.full_page_writes == "on"


class Postgres:
    """PostgreSQL on a server (`backend.Backend`)."""

    name = "postgresql"
    errors: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, url: URL) -> None:
        """Takes `postgresql+psycopg://…`."""
        if url.get_driver_name() != "psycopg":
            raise SettingWrong("PostgreSQL is reached through psycopg: postgresql+psycopg://…")
        if unknown := sorted(url.query.keys() - _parameters()):
            raise SettingWrong(f"the URL of the database has parameters that libpq does not know: {', '.join(unknown)}")
        self.place = masked_url(url.render_as_string(hide_password=False))
        self._url = url

    def writer(self) -> Engine:
        """Opens connections that write."""
        return _managed(self._engine(poolclass=NullPool, timeout_ms=STATEMENT_TIMEOUT_MS))

    def reader(self, connections: int) -> Engine:
        """A pool of connections that read; one that was lost while it was idle is replaced."""
        engine = self._engine(
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=READER_WAIT_S,
            pool_pre_ping=True,
            timeout_ms=STATEMENT_TIMEOUT_MS,
            more={"default_transaction_isolation": "repeatable read"},
        )
        event.listen(engine, "connect", _set_reading)
        return _managed(engine)

    def migrator(self) -> Engine:
        """Opens connections for migrations, which may take long."""
        return _managed(self._engine(poolclass=NullPool, timeout_ms=0))

    def driver(self, connection: PoolProxiedConnection, probe: Probe | None, *, writes: bool) -> PostgresDriver:
        """Runs statements on a connection."""
        opened = cast("psycopg.Connection[Row]", connection.driver_connection)
        return PostgresDriver(opened, BEGIN_WRITE if writes else "", probe, writes=writes)

    def overwrite(self, connection: PoolProxiedConnection) -> bool:  # noqa: ARG002 - what the protocol asks
        """Nothing: what was replaced leaves the tables with the next VACUUM, and the log as it is kept."""
        return True

    def vacuum(self, connection: PoolProxiedConnection, tables: Sequence[str]) -> None:
        """Removes rows that were replaced; what is read or written meanwhile goes on."""
        opened = cast("psycopg.Connection[Row]", connection.driver_connection)
        opened.autocommit = True
        with opened.cursor() as cursor:
            cursor.execute(f"VACUUM {', '.join(tables)}".encode())

    def durability(self, connection: PoolProxiedConnection) -> Durability:
        """What the connection says of its commits."""
        settings = ("synchronous_commit", "fsync", "full_page_writes")
        shown = ", ".join(f"current_setting('{name}')" for name in settings)
        try:
            cursor = connection.cursor()
            cursor.execute(f"SELECT {shown}")
            [found] = cursor.fetchall()
            connection.rollback()
        except psycopg.Error as error:
            raise translate(error) from error
        return Durability(*map(str, found))

    @contextmanager
    def long_reads(self, connection: Connection) -> Iterator[None]:
        """Lets the statements of the transaction, and who computes between them, take their time; tables are read and
        joined whole.

        Never row by row: on tables that nobody analysed yet the planner takes that for cheap, by an index of which the
        organisation alone is known.
        """
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            connection.exec_driver_sql(f"SET LOCAL {setting} = on")
        connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {LONG_IDLE_TIMEOUT_MS}")
        yield

    def finish(self, connection: Connection) -> None:
        """Nothing: migrations say everything."""

    def _engine(self, *, timeout_ms: int, more: Mapping[str, str] | None = None, **given: Any) -> Engine:
        settings = {
            **_PLANS,
            "plan_cache_mode": "force_generic_plan",
            "statement_timeout": str(timeout_ms),
            "lock_timeout": str(LOCK_TIMEOUT_MS),
            "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
            "timezone": "UTC",
            **(more or {}),
        }
        options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
        return create_engine(
            self._url,
            hide_parameters=True,
            use_native_hstore=False,
            connect_args={**_CONNECTION, "options": options},
            **given,
        )


class _BigintArrayDumper(Dumper):
    """Sends an array that is in the server's form already."""

    format = Format.BINARY
    oid = psycopg.postgres.types["int8"].array_oid

    def dump(self, obj: BigintArray) -> bytes:
        """As it is."""
        return obj


def _parameters() -> set[str]:
    """What a connection can be told by its URL; psycopg would refuse anything else as a mistake of the program."""
    return {one.keyword.decode() for one in psycopg.pq.Conninfo.get_defaults()}


def _managed(engine: Engine) -> Engine:
    event.listen(engine, "connect", _set_up)
    return engine


def _set_reading(connection: psycopg.Connection[Row], _entry: ConnectionPoolEntry) -> None:
    """Makes every transaction of a connection read-only. Not by an option of the session: where a URL names several
    hosts and asks for `target_session_attrs=read-write`, no session of that kind would be one.
    """
    connection.read_only = True


def _set_up(connection: psycopg.Connection[Row], _entry: ConnectionPoolEntry) -> None:
    """Binds numbers in one width, so that a text is prepared once, and texts as what the statement takes them for.

    Sums of numbers are numbers: PostgreSQL makes decimals of them.
    """
    connection.prepared_max = PREPARED_MAX
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(str, StrDumperUnknown)
    connection.adapters.register_dumper(BigintArray, _BigintArrayDumper)
    connection.adapters.register_loader("numeric", IntLoader)
