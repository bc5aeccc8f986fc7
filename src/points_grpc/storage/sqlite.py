"""What holds for SQLite alone: how its connections are set up, how lists of keys are bound, how durable it is.

A second engine gets a sibling of this file with the same names. Nothing here knows a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.selectable import TableValuedAlias

from points_grpc.storage.driver import Cursor, Row

BEGIN_WRITE = "BEGIN IMMEDIATE"
BEGIN_READ = "BEGIN"

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for the write lock that another process holds (an admin command, a migration)."""

CACHE_KIB = 65_536
"""Page cache of a connection. The default of 2 MiB is smaller than the upper levels of a busy index."""

CHECKPOINT_PAGES = 8_000
"""How long the log grows before a commit copies it into the file: longer than the default of 1,000 pages, because the
same pages are written again and again, and are copied once."""

_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Durability:
    """What the writer's own connection says of itself."""

    journal_mode: str
    synchronous: str

    @property
    def survives_power_loss(self) -> bool:
        """Whether what was committed is still there after `kill -9` and after a power loss."""
        return self.journal_mode == "wal" and self.synchronous in {"FULL", "EXTRA"}


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
    else:
        cursor.execute("PRAGMA query_only = ON")
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


def bind_values(values: Sequence[int] | Sequence[str]) -> str:
    """A list of keys as one parameter, so that one prepared statement serves every number of them.

    Texts with a NUL are left out: nothing stored has one, and SQLite would cut them short.
    """
    bound = _encode(values).decode()
    if "\\u0000" in bound:
        bound = _encode([value for value in values if "\x00" not in str(value)]).decode()
    return bound


def bind_keys(keys: Sequence[Row]) -> str:
    """A list of composite keys as one parameter."""
    return _encode(keys).decode()


def each_value(name: str) -> Select[Any]:
    """The values of a list bound as `name`, for `column.in_(…)`."""
    values = func.json_each(_list_parameter(name)).table_valued("value", name=f"each_{name}")
    return select(values.c.value)


class EachKey:
    """The composite keys of a list bound as `name`, as a table to select from; `part(n)` is a key's n-th part."""

    def __init__(self, name: str) -> None:
        self.table: TableValuedAlias = func.json_each(_list_parameter(name)).table_valued(
            "key", "value", name=f"each_{name}"
        )
        self.number: ColumnElement[int] = self.table.c.key

    def part(self, number: int) -> ColumnElement[Any]:
        """The n-th part of the key, from 0."""
        return func.json_extract(self.table.c.value, literal_column(f"'$[{number}]'"))


def _list_parameter(name: str) -> BindParameter[str]:
    return bindparam(name, type_=Text)


@contextmanager
def sorting_on_disk(connection: Connection) -> Iterator[None]:
    """Lets long sorts go to temporary files, which `set_up` keeps in memory otherwise."""
    connection.exec_driver_sql("PRAGMA temp_store = FILE")
    try:
        yield
    finally:
        connection.exec_driver_sql("PRAGMA temp_store = MEMORY")


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
