"""Statements run on a connection of psycopg: the sibling of `driver.SqliteDriver`.

Every statement is prepared once, and its text serves any number of rows (`postgres_sql`). What is asked or put together
travels in one pipeline, and the start of a transaction with its first statement. A connection that is lost
before the commit has written nothing: a writer is told of a conflict, so that the whole transaction is run again on a
new one; a reader, that the database is unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import pq
from psycopg.errors import Diagnostic

from points_grpc.service.ports import OutcomeUnknown, StorageConflict, StorageUnavailable
from points_grpc.storage.driver import Answer, Probe, Row, Statement, Value
from points_grpc.storage.faults import translate
from points_grpc.storage.postgres_faults import translate_commit
from points_grpc.storage.postgres_sql import in_postgres, numbers, texts, tuples

_Cursor = psycopg.RawCursor[Row]
_Waiting = tuple[_Cursor, int, Exception | None]
"""A statement on its way: its cursor, how many rows it must change, and what is raised otherwise."""


_ENDS_THE_SESSION = frozenset({"FATAL", "PANIC"})
"""Severities after which the server closes the connection: the error may be read before the socket shows it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query on its way, or back."""

    cursor: _Cursor

    def rows(self) -> Sequence[Row]:
        """All its rows."""
        return self.cursor.fetchall()


class PostgresDriver:
    """Runs statements on a connection to PostgreSQL."""

    __slots__ = (
        "_begin",
        "_connection",
        "_cursor",
        "_ended",
        "_pipeline",
        "_probe",
        "_to_begin",
        "_waiting",
        "_warned",
        "_writes",
    )

    def __init__(
        self, connection: psycopg.Connection[Row], begin: str, probe: Probe | None = None, *, writes: bool
    ) -> None:
        """`begin` starts a transaction. A connection that writes is the driver's own: it begins and commits itself.

        One that reads begins by itself, with its first statement.
        """
        self._connection = connection
        self._cursor = psycopg.RawCursor(connection)
        self._begin = begin
        self._probe = probe
        self._writes = writes
        self._pipeline: ExitStack | None = None
        self._waiting: list[_Waiting] = []
        self._to_begin = False
        self._ended = False
        self._warned = False
        if writes:
            connection.autocommit = True
            connection.add_notice_handler(self._notice)

    @property
    def lost(self) -> bool:
        """Whether the connection can be used no more, as far as the server said or the socket shows."""
        return self._ended or self._connection.closed or self._connection.pgconn.status != pq.ConnStatus.OK

    def begin(self) -> None:
        """Starts a transaction, with the next statement."""
        self._to_begin = self._writes

    def bind_values(self, values: Sequence[int] | Sequence[str]) -> str:
        """A list of keys as one parameter. Texts with a NUL are left out: nothing stored has one."""
        if values and isinstance(values[0], str):
            return texts([value for value in values if "\0" not in str(value)])
        return numbers(values)

    def bind_keys(self, keys: Sequence[Sequence[int]]) -> str:
        """A list of composite keys as one parameter."""
        return tuples(keys)

    def query(self, statement: Statement, parameters: Sequence[Value]) -> Sequence[Row]:
        """Runs a query and returns all its rows."""
        found = in_postgres(statement)
        self._execute(found.text, found.bind(parameters))
        return self._cursor.fetchall()

    def ask(self, statement: Statement, parameters: Sequence[Value]) -> Answer:
        """As `query`; within `together`, it is sent and not waited for."""
        found = in_postgres(statement)
        return _Asked(self._execute(found.text, found.bind(parameters), cursor=self._next_cursor()))

    def change(self, statement: Statement, parameters: Sequence[Value]) -> int:
        """Runs a statement that changes rows and returns how many it changed."""
        found = in_postgres(statement)
        self._execute(found.text, found.bind(parameters))
        return self._cursor.rowcount

    def change_many(self, statement: Statement, rows: Sequence[Sequence[Value]]) -> int:
        """Runs a statement for all rows of values at once and returns how many rows it changed in all."""
        found = in_postgres(statement)
        self._execute(found.many, found.bind_many(rows))
        return self._cursor.rowcount

    def put(self, statement: Statement, rows: Sequence[Sequence[Value]], otherwise: Exception | None = None) -> None:
        """As `change_many`; raises `otherwise` if not exactly one row changed for each: at once, or with the others."""
        if self._pipeline is None:
            if self.change_many(statement, rows) != len(rows) and otherwise is not None:
                raise otherwise
            return
        found = in_postgres(statement)
        cursor = self._execute(found.many, found.bind_many(rows), cursor=self._next_cursor())
        self._waiting.append((cursor, len(rows), otherwise))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Sends what is asked and put within without waiting for answers, and looks at all of them at the end."""
        if self._pipeline is not None:
            raise RuntimeError("what travels together does so in one go")
        self._waiting = []
        try:
            with ExitStack() as self._pipeline:  # entered by the first statement, if there is one
                yield
        except psycopg.Error as error:
            raise self._translated(error) from error
        finally:
            self._pipeline = None
        for cursor, expected, otherwise in self._waiting:
            if otherwise is not None and cursor.rowcount != expected:
                raise otherwise

    def commit(self) -> None:
        """Commits; raises `OutcomeUnknown` where it cannot be known whether it did, or whether the standby has it."""
        if self._to_begin:  # Nothing was asked and nothing written.
            self._to_begin = False
            return
        self._warned = False
        try:
            if self._probe is not None:
                self._probe("COMMIT")
            self._cursor.execute("COMMIT", prepare=False)
        except psycopg.Error as error:
            raise translate_commit(error) from error
        if self._cursor.statusmessage != "COMMIT":
            raise StorageConflict("the transaction had failed before, and was rolled back")
        if self._warned:
            raise OutcomeUnknown("the server warned at the commit: a standby may not have it")

    def rollback(self) -> None:
        """Rolls back. A connection that cannot even do that has nothing that could be kept."""
        if self._to_begin:
            self._to_begin = False
            return
        try:
            self._cursor.execute("ROLLBACK", prepare=False)
        except psycopg.Error as error:
            raise StorageUnavailable("the connection was lost") from error

    def _next_cursor(self) -> _Cursor:
        """A cursor for a statement that waits with others, or alone."""
        return psycopg.RawCursor(self._connection)

    def _execute(
        self, text: str, parameters: Sequence[Value], *, prepare: bool = True, cursor: _Cursor | None = None
    ) -> _Cursor:
        if self._to_begin:
            self._to_begin = False
            self._execute(self._begin, (), prepare=False, cursor=None if cursor is None else self._next_cursor())
        try:
            if self._probe is not None:
                self._probe(text)
            if self._pipeline is not None and not self._connection.pgconn.pipeline_status:
                self._pipeline.enter_context(self._connection.pipeline())
            return (cursor or self._cursor).execute(cast("Any", text), parameters, prepare=prepare)
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: psycopg.Error) -> Exception:
        translated = translate(error)
        self._ended = self._ended or error.diag.severity_nonlocalized in _ENDS_THE_SESSION
        if self._writes and self.lost:
            return StorageConflict("the connection was lost before the commit")
        return translated

    def _notice(self, notice: Diagnostic) -> None:
        self._warned = self._warned or notice.severity_nonlocalized == "WARNING"
