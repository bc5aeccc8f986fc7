"""Databases for tests, on every backend: made, copied, looked into and tampered with in the same words.

A test that names no backend runs on all of them. What is special to one says so in its name and its fixture.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg
from sqlalchemy.engine import make_url

from postgres_cluster import Cluster

_numbers = count(1)


class ATestsDatabase(Protocol):
    """A database of a test's own."""

    backend: str
    url: str
    rows_written: str
    """A query: how many rows its connection wrote."""

    def copy(self) -> ATestsDatabase:
        """Another one with the same content; nobody may have this one open."""
        ...

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """Rows as another program sees them. Parameters are question marks."""
        ...

    def change(self, statement: str, *parameters: object) -> None:
        """Changes rows as another program would. Parameters are question marks."""
        ...

    def tamper(self, *statements: str) -> None:
        """Changes rows, whatever the constraints say; each statement must change something."""
        ...

    def connection(self) -> AbstractContextManager[Any]:
        """A connection of the driver, each statement committed by itself."""
        ...

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        ...

    def change_all(self, changes: Iterable[tuple[str, Sequence[object]]]) -> None:
        """As `change`, all in one transaction."""
        ...

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table."""
        ...

    def content(self) -> bytes:
        """Everything that it keeps."""
        ...

    def drop(self) -> None:
        """Removes it."""
        ...


class SqliteFile:
    """A database file."""

    backend = "sqlite"
    rows_written = "SELECT total_changes()"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def copy(self) -> SqliteFile:
        """A copy of the file beside it."""
        path = self.path.with_name(f"{self.path.stem}-{next(_numbers)}.db")
        shutil.copy(self.path, path)
        return SqliteFile(path)

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """Rows as another program sees them that opens the file."""
        with self.connection() as connection:
            return connection.execute(statement, parameters).fetchall()

    def change(self, statement: str, *parameters: object) -> None:
        """Changes rows as another program would."""
        with self.connection() as connection:
            connection.execute(statement, parameters)

    def tamper(self, *statements: str) -> None:
        """Changes rows, whatever the constraints say."""
        with self.connection() as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of the driver, each statement committed by itself."""
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        try:
            yield connection
        finally:
            connection.close()

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        tables = self.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {table: self.rows(f"SELECT COUNT(*) FROM {table}")[0][0] for (table,) in sorted(tables)}

    def change_all(self, changes: Iterable[tuple[str, Sequence[object]]]) -> None:
        """As `change`, all in one transaction."""
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, parameters in changes:
                connection.execute(statement, parameters)
            connection.execute("COMMIT")

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table."""
        with self.connection() as connection:
            return {table: connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in self.counts()}

    def content(self) -> bytes:
        """The bytes of the file and of its log."""
        return b"".join(path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*"))

    def drop(self) -> None:
        """Removes the file with what stands beside it."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()


class PostgresDatabase:
    """A database of a cluster."""

    backend = "postgresql"
    rows_written = "SELECT COALESCE(SUM(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_xact_user_tables"

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.url = cluster.database(name)

    def copy(self) -> PostgresDatabase:
        """A database made after this one."""
        return PostgresDatabase(self.cluster, self.cluster.create(self.name))

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """Rows as another program sees them."""
        with self.connection() as connection:
            return connection.execute(statement.replace("?", "%s"), parameters or None).fetchall()

    def change(self, statement: str, *parameters: object) -> None:
        """Changes rows as another program would."""
        with self.connection() as connection:
            connection.execute(statement.replace("?", "%s"), parameters or None)

    def tamper(self, *statements: str) -> None:
        """Changes rows; the constraints of rows are gone from then on."""
        with self.connection() as connection:
            checks = connection.execute(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid"
                " WHERE contype = 'c' AND relnamespace = 'public'::regnamespace AND coninhcount = 0"
            ).fetchall()
            for table, constraint in checks:
                connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
            connection.execute("SET session_replication_role = replica")  # no foreign keys either
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """A connection of the driver, each statement committed by itself."""
        with self.cluster.connection(self.name) as connection:
            yield connection

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with self.connection() as connection:
            names = self._names(connection)
            query = " UNION ALL ".join(f"SELECT '{table}', COUNT(*) FROM {table}" for table in names)
            return dict(connection.execute(query).fetchall())

    def _names(self, connection: psycopg.Connection) -> list[str]:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1"
        )
        return [table for (table,) in found.fetchall()]

    def change_all(self, changes: Iterable[tuple[str, Sequence[object]]]) -> None:
        """As `change`, all in one transaction."""
        with self.connection() as connection, connection.transaction():
            for statement, parameters in changes:
                connection.execute(statement.replace("?", "%s"), parameters or None)

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table."""
        with self.connection() as connection:
            return {table: connection.execute(f"TABLE {table}").fetchall() for table in self._names(connection)}

    def content(self) -> bytes:
        """The rows of all tables."""
        found: list[bytes] = []
        with self.connection() as connection:
            for table in self.counts():
                with connection.cursor().copy(f"COPY (TABLE {table}) TO STDOUT") as rows:
                    found += map(bytes, rows)
        return b"".join(found)

    def drop(self) -> None:
        """Removes it, whoever is connected."""
        self.cluster.drop(self.name)


def named(url: str) -> ATestsDatabase:
    """The database with a URL, for a process that was handed it."""
    parsed = make_url(url)
    assert parsed.database is not None
    if parsed.get_backend_name() == "sqlite":
        return SqliteFile(Path(parsed.database))
    return PostgresDatabase(Cluster(parsed), parsed.database)


NewDatabase = Callable[[Path], ATestsDatabase]
"""Makes an empty database, without the schema; files go to the folder."""


def on_sqlite(folder: Path) -> SqliteFile:
    """A file that does not exist yet."""
    return SqliteFile(folder / f"points-{next(_numbers)}.db")


def on_postgres(cluster: Cluster) -> NewDatabase:
    """Databases of a cluster."""
    return lambda _: PostgresDatabase(cluster, cluster.create())
