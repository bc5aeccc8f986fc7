"""Statements run on a connection of the driver: rows in, rows out, errors in the service's words.

`Driver` is what loading, applying and reading know; `SqliteDriver` is SQLite's. Every engine has one of its own.

Hot statements do not pass through SQLAlchemy's `Connection`: it builds a description of the result at every execution,
28 microseconds a query when this was measured, against 2 to 8 for the query itself. SQLAlchemy writes their text
(`statements`) and keeps the connections (`engine`); this file hands the text to the connection's own cursor.

A driver gives up the interpreter at every step of a statement, which is every row, and under load the event loop takes
it each time. So many rows travel as one: read as one JSON value, inserted by statements of many rows. Updates by key
stay row by row: as one statement they cost more than they save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import msgspec
from sqlalchemy import ClauseElement

from points_grpc.storage.bundling import for_rows
from points_grpc.storage.faults import DRIVER_ERRORS, translate, translate_commit

_encode = msgspec.json.Encoder().encode
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
    `core`: what it was compiled from, for drivers of other engines, which compile it for themselves.
    """

    text: str
    names: tuple[str, ...]
    whole: str = ""
    inserts: bool = False
    core: ClauseElement | None = field(default=None, compare=False, repr=False)


class Answer(Protocol):
    """The rows that a query was asked for."""

    def rows(self) -> Sequence[Row]:
        """All of them; once what was asked together is at its end."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that are there already."""

    found: Sequence[Row]

    def rows(self) -> Sequence[Row]:
        """All of them."""
        return self.found


NOTHING = Found(())
"""The answer to what nobody had to be asked."""


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


class Driver(Protocol):
    """Runs statements on one connection, one transaction after the other; good for one thread at a time."""

    def begin(self) -> None:
        """Starts a transaction: one that writes, or one that reads a snapshot, whatever the connection is for.

        Where the database is elsewhere, it starts with the first statement and travels with it.
        """
        ...

    def bind_values(self, values: Sequence[int] | Sequence[str]) -> Value:
        """A list of keys as one parameter (`key_lists.among`)."""
        ...

    def bind_keys(self, keys: Sequence[Sequence[int]]) -> Value:
        """A list of composite keys as one parameter (`key_lists.EachKey`); at least one."""
        ...

    def query(self, statement: Statement, parameters: Sequence[Value]) -> Sequence[Row]:
        """Runs a query and returns all its rows."""
        ...

    def ask(self, statement: Statement, parameters: Sequence[Value]) -> Answer:
        """As `query`, for what can wait: within `together`, the rows are there at its end."""
        ...

    def change(self, statement: Statement, parameters: Sequence[Value]) -> int:
        """Runs a statement that changes rows and returns how many it changed."""
        ...

    def change_many(self, statement: Statement, rows: Sequence[Sequence[Value]]) -> int:
        """Runs a statement for each row of values and returns how many rows it changed in all."""
        ...

    def put(self, statement: Statement, rows: Sequence[Sequence[Value]], otherwise: Exception | None = None) -> None:
        """As `change_many`; raises `otherwise` if not exactly one row changed for each."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """What is asked and put within may travel together, in that order: one round trip, however much it is.

        What fails is raised at the end at the latest. What is queried within waits for its answer all the same.
        """
        ...

    def commit(self) -> None:
        """Commits; raises `OutcomeUnknown` where it cannot be known whether it did."""
        ...

    def rollback(self) -> None:
        """Rolls back. A connection that cannot even do that has nothing that could be kept."""
        ...


class SqliteDriver:
    """Runs statements on a connection to SQLite."""

    __slots__ = ("_begin", "_cursor", "_probe", "_transaction")

    def __init__(self, transaction: Transaction, cursor: Cursor, begin: str, probe: Probe | None = None) -> None:
        """`begin` starts a transaction, in the words of the engine."""
        self._transaction = transaction
        self._cursor = cursor
        self._begin = begin
        self._probe = probe

    def begin(self) -> None:
        """Starts a transaction."""
        self.run(self._begin, ())

    def bind_values(self, values: Sequence[int] | Sequence[str]) -> str:
        """A list of keys as one parameter.

        Texts with a NUL are left out: nothing stored has one, and SQLite would cut them short.
        """
        bound = _encode(values).decode()
        if "\\u0000" in bound:
            bound = _encode([value for value in values if "\x00" not in str(value)]).decode()
        return bound

    def bind_keys(self, keys: Sequence[Sequence[int]]) -> str:
        """A list of composite keys as one parameter."""
        return _encode(keys).decode()

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

    def ask(self, statement: Statement, parameters: Sequence[Value]) -> Answer:
        """As `query`: the database is in this process."""
        return Found(self.query(statement, parameters))

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

    def put(self, statement: Statement, rows: Sequence[Sequence[Value]], otherwise: Exception | None = None) -> None:
        """As `change_many`; raises `otherwise` if not exactly one row changed for each."""
        if self.change_many(statement, rows) != len(rows) and otherwise is not None:
            raise otherwise

    def together(self) -> AbstractContextManager[None]:
        """Changes nothing: the database is in this process."""
        return nullcontext()

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
