"""The bench's stand on PostgreSQL: a cluster of its own, a server with one worker and one with two on one database.

Everything is on one machine: database, service, no-op and generator. That two workers are no faster there than one says
nothing of more cores; the CPU time of each kind of process for a transfer does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, LiteralString

import psycopg
from bench_cluster import Cluster
from bench_journal import LOPSIDED, TOTALS, Totals
from bench_servers import served
from bench_stand import Stand

BY_ORIGIN = "(SELECT sum((one->1->>0)::bigint) FROM wallets, jsonb_array_elements(wallets.buckets::jsonb) AS one)"
"""The totals in the lists of wallets, in the words of PostgreSQL."""


class Journal:
    """What the database says, on a connection and with SQL of its own."""

    def __init__(self, cluster: Cluster) -> None:
        """Connects anew for each question."""
        self._conninfo = cluster.conninfo

    def count(self, kind: int, prefix: str) -> int:
        """The transactions of a kind whose request ids start with `prefix`."""
        query = "SELECT count(*) FROM transactions WHERE kind = %s AND starts_with(request_id, %s)"
        return self._figures(query, kind, prefix)[0]

    def lopsided(self) -> int:
        """Transactions whose postings do not sum to zero."""
        return self._figures(LOPSIDED)[0]

    def totals(self) -> Totals:
        """The points of all wallets, counted in four ways."""
        return Totals(*self._figures(TOTALS.format(by_origin=BY_ORIGIN)))

    def size_bytes(self) -> int:
        """The size of the database."""
        return self._figures("SELECT pg_database_size(current_database())")[0]

    def log_bytes(self) -> int:
        """How much was written into the log (WAL) since the cluster was made."""
        return self._figures("SELECT pg_current_wal_insert_lsn() - '0/0'")[0]

    def change(self, statements: list[str]) -> None:
        """Runs statements, each in a transaction of its own; that foreign keys hold is not looked at.

        Until `tidy_up` pages are not written whole into the log: there is nothing yet that must survive.
        """
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            self._write_whole_pages(connection, "off")
            connection.execute("SET synchronous_commit = off")
            connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement)

    def tidy_up(self) -> None:
        """What autovacuum and the checkpointer would have done before long."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            self._write_whole_pages(connection, "on")
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    @staticmethod
    def _write_whole_pages(connection: psycopg.Connection, switch: Literal["on", "off"]) -> None:
        connection.execute(f"ALTER SYSTEM SET full_page_writes = {switch}")
        connection.execute("SELECT pg_reload_conf()")

    def _figures(self, query: LiteralString, *values: object) -> list[int]:
        with psycopg.connect(self._conninfo) as connection:
            row = connection.execute(query, values or None).fetchone()
        return [int(figure or 0) for figure in row or ()]


@contextmanager
def on_postgresql(folder: Path, directory: Path | None) -> Iterator[Stand]:
    """A server with one worker and one with two, on the same database, with the same keys."""
    keys = ("--keys-file", str(folder / "keys.json"))
    with Cluster(directory) as cluster:
        journal = Journal(cluster)
        with served(folder, "one", cluster.url, ("--dev", *keys), database_cpu_s=cluster.cpu_s) as one:
            flags, token = ("--workers", "2", *keys), one.ready.token
            with served(folder, "two", cluster.url, flags, database_cpu_s=cluster.cpu_s, token=token) as two:
                yield Stand(
                    engine="PostgreSQL",
                    version=cluster.version(),
                    servers={"1 worker": one, "2 workers": two},
                    books=journal,
                    url=cluster.url,
                    change=journal.change,
                    tidy_up=journal.tidy_up,
                    numbers=lambda first, last: f"(SELECT generate_series({first}, {last}) AS n)",
                    scattered=lambda number: f"md5(({number})::text)",
                    log_bytes=journal.log_bytes,
                    make_tpcb=cluster.make_tpcb,
                    tpcb_per_s=cluster.tpcb_per_s,
                )
