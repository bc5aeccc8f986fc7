"""What the database file says: who was right about the number of transfers, and what a transfer writes.

Reads the tables by SQL, with code of its own and none of the service's: what is to be judged must not judge itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

TRANSFER_KIND, REDEMPTION_KIND = 2, 3
"""`transactions.kind` of what the bench writes."""

TOTALS = (
    "SELECT (SELECT sum(current) FROM wallets), {by_origin},"
    " (SELECT sum(remaining) FROM lots), (SELECT sum(points) FROM postings WHERE account = 1)"
)
"""The points of all wallets; account 1 is a wallet. `by_origin` adds up their lists, in the words of an engine."""

BY_ORIGIN = "(SELECT sum(json_extract(one.value, '$[1][0]')) FROM wallets, json_each(wallets.buckets) AS one)"
"""In the words of SQLite."""

LOPSIDED = (
    "SELECT count(*) FROM (SELECT 1 FROM postings GROUP BY org_id, transaction_id, program_id"
    " HAVING sum(points) <> 0) AS lopsided"
)
"""How many transactions do not sum to zero, on any engine."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The points of all wallets, counted in four ways that must agree."""

    wallets: int
    balances: int
    lots: int
    postings: int

    @property
    def agree(self) -> bool:
        """Whether the four say the same."""
        return len({self.wallets, self.balances, self.lots, self.postings}) == 1


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table that are new, and those that are not what they were."""

    added: int
    changed: int


class Journal:
    """The database file of the service, opened for reading only; the service may go on writing."""

    def __init__(self, database: Path) -> None:
        """Opens nothing yet."""
        self._database = database

    def count(self, kind: int, prefix: str) -> int:
        """The transactions of a kind whose request ids start with `prefix`: a transfer, both sides, is one."""
        rows = self._read(
            "SELECT count(*) FROM transactions WHERE kind = ? AND request_id >= ? AND request_id < ?",
            (kind, prefix, prefix + "\x7f"),
        )
        return int(rows[0][0])

    def lopsided(self) -> int:
        """Transactions whose postings do not sum to zero: there should be none."""
        rows = self._read(LOPSIDED)
        return int(rows[0][0])

    def totals(self) -> Totals:
        """The points of all wallets."""
        rows = self._read(TOTALS.format(by_origin=BY_ORIGIN))
        return Totals(*(int(number or 0) for number in rows[0]))

    def copy(self, to: Path) -> None:
        """Copies the database as it stands, into a file of its own."""
        to.unlink(missing_ok=True)
        with closing(self._open()) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)

    def since(self, earlier: Path) -> Mapping[str, Rows]:
        """What was written since the copy was made, by table: row by row, not by what anybody counted."""
        found = {}
        with closing(self._open()) as connection:
            connection.execute("ATTACH ? AS earlier", (f"file:{earlier}?mode=ro",))
            connection.execute("BEGIN")
            tables = connection.execute(
                "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
            ).fetchall()
            for (table,) in tables:
                [(now, before, differing)] = connection.execute(
                    f'SELECT (SELECT count(*) FROM main."{table}"), (SELECT count(*) FROM earlier."{table}"),'  # noqa: S608 - names from the file itself
                    f' (SELECT count(*) FROM (SELECT * FROM main."{table}" EXCEPT SELECT * FROM earlier."{table}"))'
                ).fetchall()
                if differing:
                    found[table] = Rows(added=now - before, changed=differing - (now - before))
        return found

    def size_bytes(self) -> int:
        """The size of the database in its file."""
        [(pages,)], [(size,)] = self._read("PRAGMA page_count"), self._read("PRAGMA page_size")
        return int(pages) * int(size)

    def _read(self, statement: str, parameters: tuple[int | str, ...] = ()) -> list[tuple[int, ...]]:
        with closing(self._open()) as connection:
            return connection.execute(statement, parameters).fetchall()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, isolation_level=None)
