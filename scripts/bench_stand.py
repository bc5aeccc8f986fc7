"""What a run needs of an engine, and SQLite's; PostgreSQL's is `bench_postgres.py`, whose driver is an extra."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_journal import Journal, Rows
from bench_servers import Server, service
from bench_world import Books, World

CACHE_KIB = 1_000_000
"""For rows that are copied behind the service's back."""


@dataclass(frozen=True, slots=True)
class Stand:
    """An engine with its servers, the first of which gets every operation.

    `change` runs statements on the database behind the service's back, each in a transaction of its own, and `tidy_up`
    does what the engine would do some time after them: writes all to the disk, and looks through the tables; `numbers`
    is a table of the numbers from one to another, and `scattered` a text for a number, in the engine's words.
    `write_once` shows what a transfer writes, where that can be seen; `log_bytes` is the log beside the tables, where
    there is one.
    """

    engine: str
    version: str
    servers: Mapping[str, Server]
    books: Books
    url: str
    change: Callable[[list[str]], None]
    tidy_up: Callable[[], None]
    numbers: Callable[[int, int], str]
    scattered: Callable[[str], str]
    write_once: Callable[[World, Server], Mapping[str, Rows]] = lambda _world, _server: {}
    log_bytes: Callable[[], int] | None = None
    make_tpcb: Callable[[int], None] | None = None
    tpcb_per_s: Callable[[int], float] | None = None


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Stand]:
    """One server on a file."""
    database = folder / "bench.db"
    journal = Journal(database)

    def change(statements: list[str]) -> None:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            for statement in statements:
                connection.execute(statement)

    def tidy_up() -> None:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.sync()

    with service(folder, database=database) as server:
        yield Stand(
            engine="SQLite",
            version=sqlite3.sqlite_version,
            servers={"1 worker": server},
            books=journal,
            url=f"sqlite:///{database}",
            change=change,
            tidy_up=tidy_up,
            numbers=_numbers,
            scattered=lambda _: "lower(hex(randomblob(16)))",
            write_once=lambda world, on: world.write_once(on, journal),
        )


def _numbers(first: int, last: int) -> str:
    return (
        f"(WITH RECURSIVE counted(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM counted WHERE n < {last})"  # noqa: S608 - numbers
        " SELECT n FROM counted)"
    )
