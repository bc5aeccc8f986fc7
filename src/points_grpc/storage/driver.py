"""Statements run on a connection of the driver: rows in, rows out, errors in the service's words.

Hot statements do not pass through SQLAlchemy's `Connection`: it builds a description of the result at every execution,
28 microseconds a query when this was measured, against 2 to 8 for the query itself. SQLAlchemy writes their text
(`statements`) and keeps the connections (`engine`); this file hands the text to the connection's own cursor.

A driver gives up the interpreter at every step of a statement, which is every row, and under load the event loop takes
it each time. So many rows travel as one: read as one JSON value, inserted by statements of many rows. Updates by key
stay row by row: as one statement they cost more than they save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import msgspec

from points_grpc.storage.bundling import for_rows
from points_grpc.storage.faults import DRIVER_ERRORS, translate, translate_commit

_DECODE_ROWS = msgspec.json.Decoder(list[tuple[Any, ...]]).decode

ROWS_PER_STATEMENT_MAX = 128
"""Rows of one statement: a power of two, so that few texts serve every number; far below the limit of parameters."""

Value = int | str | bytes | None
"""What is bound to a parameter."""

Row = tuple[Any, ...]
"""What a driver hands over: it has no static types. `rows` turns each into typed data."""

Probe = Callable[[str], None]
"""Sees the text of each statement before it runs; what it raises stands for a fault of the database."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A text for the driver, and the names of its parameters in the order in which their values are bound.

    `whole`: the same query with all rows as one JSON value; empty for what is not a query of many rows on the hot path.
    `inserts`: it inserts values, so that one statement can insert many rows.
    """

    text: str
    names: tuple[str, ...]
    whole: str = ""
    inserts: bool = False


class Cursor(Protocol):
    """What is used of a driver's cursor (PEP 249)."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed."""
        ...

    def execute(self, text: str, parameters: Sequence[Value] = ..., /) -> object:
        """Runs a statement."""
        ...

    def executemany(self, text: str, rows: Sequence[Sequence[Value]], /) -> object:
        """Runs a statement once for each row of values."""
        ...

    def fetchall(self) -> Sequence[Any]:
        """The rows of the last statement."""
        ...


class Transaction(Protocol):
    """What is used of a pooled connection, beside its cursor."""

    def commit(self) -> None:
        """Commits."""
        ...

    def rollback(self) -> None:
        """Rolls back."""
        ...


class Driver:
    """Runs statements on one connection."""

    __slots__ = ("_cursor", "_probe", "_transaction")

    def __init__(self, transaction: Transaction, cursor: Cursor, probe: Probe | None = None) -> None:
        self._transaction = transaction
        self._cursor = cursor
        self._probe = probe

    def begin(self, text: str) -> None:
        """Starts a transaction with the words of the engine."""
        self.run(text, ())

    def run(self, text: str, parameters: Sequence[Value]) -> None:
        """Runs a statement for its effect."""
        try:
            if self._probe is not None:
                self._probe(text)
            self._cursor.execute(text, parameters)
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def query(self, statement: Statement, parameters: Sequence[Value]) -> Sequence[Row]:
        """Runs a query and returns all its rows."""
        try:
            if self._probe is not None:
                self._probe(statement.text)
            if statement.whole:
                self._cursor.execute(statement.whole, parameters)
                return _DECODE_ROWS(self._cursor.fetchall()[0][0])
            self._cursor.execute(statement.text, parameters)
            return self._cursor.fetchall()
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def change(self, statement: Statement, parameters: Sequence[Value]) -> int:
        """Runs a statement that changes rows and returns how many it changed."""
        try:
            if self._probe is not None:
                self._probe(statement.text)
            self._cursor.execute(statement.text, parameters)
            return self._cursor.rowcount
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def change_many(self, statement: Statement, rows: Sequence[Sequence[Value]]) -> int:
        """Runs a statement for each row of values and returns how many rows it changed in all."""
        try:
            if self._probe is not None:
                self._probe(statement.text)
            if not statement.inserts:
                self._cursor.executemany(statement.text, rows)
                return self._cursor.rowcount
            changed = 0
            for size, chunk in _chunks(rows):
                self._cursor.execute(for_rows(statement.text, size), chunk)
                changed += self._cursor.rowcount
            return changed
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def commit(self) -> None:
        """Commits; raises `OutcomeUnknown` where it cannot be known whether it did."""
        try:
            if self._probe is not None:
                self._probe("COMMIT")
            self._transaction.commit()
        except DRIVER_ERRORS as error:
            raise translate_commit(error) from error

    def rollback(self) -> None:
        """Rolls back. A connection that cannot even do that has nothing that could be kept."""
        try:
            self._transaction.rollback()
        except DRIVER_ERRORS as error:
            raise translate(error) from error


def _chunks(rows: Sequence[Sequence[Value]]) -> Iterator[tuple[int, list[Value]]]:
    """The rows in order, in chunks whose sizes are powers of two, each with its values in one list."""
    start = 0
    while left := len(rows) - start:
        size = min(ROWS_PER_STATEMENT_MAX, 1 << (left.bit_length() - 1))
        yield size, list(chain.from_iterable(rows[start : start + size]))
        start += size
