"""Statements in the words of PostgreSQL: compiled from the same Core statements, many rows as arrays.

An INSERT or UPDATE of one row becomes one of many: its parameters become arrays, one for each column, and `unnest`
makes rows of them. So every statement has one text, whatever the size of the batch, and is prepared once. Arrays travel
as their literals, which the interpreter writes much faster than a driver adapts lists; those of large numbers, which
most columns are, travel as the server sends them: neither side has to spell. Only texts are rewritten here, all of
them written by SQLAlchemy; values are always bound.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ClauseElement, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from points_grpc.storage.driver import Statement, Value

_dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

_PLACEHOLDER = re.compile(r"\$(\d+)(?:::\w+)?")
_VALUES = re.compile(r"VALUES \(.*?\)(?= ON CONFLICT|$)", re.DOTALL)

Column = Sequence[Value]


class BigintArray(bytes):
    """An array of BIGINT as the server sends it; what it is bound as is set up with the connection (`postgres`)."""


@dataclass(frozen=True, slots=True)
class PostgresText:
    """A statement for the driver. `order`: which of the caller's parameters each `$n` is.

    `many`: the same for many rows, each parameter the array of a column; `arrays` writes these. Empty for queries and
    for what chooses its rows by a query or a list of its own.
    """

    text: str
    order: tuple[int, ...]
    many: str
    arrays: tuple[Callable[[Column], str | BigintArray], ...]

    def bind(self, parameters: Sequence[Value]) -> list[Value]:
        """The caller's parameters in the order of the placeholders."""
        return [parameters[place] for place in self.order]

    def bind_many(self, rows: Sequence[Sequence[Value]]) -> list[str | BigintArray]:
        """The columns of the caller's rows, as arrays in the order of the placeholders."""
        columns = list(zip(*rows, strict=True))
        return [array(columns[place]) for array, place in zip(self.arrays, self.order, strict=True)]


@cache
def in_postgres(statement: Statement) -> PostgresText:
    """The statement as PostgreSQL takes it; compiled when it is first used."""
    assert statement.core is not None, statement.text
    found = _compiled(statement.core)
    names = list(found.positiontup or ())
    if set(names) != set(statement.names):
        raise AssertionError(f"parameters are named {statement.names}, the statement binds {names}: {found}")
    order = tuple(statement.names.index(name) for name in names)
    text = str(found)
    if text.startswith(("SELECT", "WITH")) or _is_nested(text) or " = ANY (" in text:
        return PostgresText(text, order, "", ())
    types = [_type_of(found.binds[name].type) for name in names]
    arrays = tuple(_ARRAYS[name] for name in types)
    return PostgresText(text, order, _of_many(text, types), arrays)


def on_postgres(core: ClauseElement, *names: str) -> Statement:
    """A statement that other engines have no use for."""
    return Statement(str(_compiled(core)), names, core=core)


def _compiled(core: ClauseElement) -> SQLCompiler:
    found = core.compile(dialect=_dialect)
    assert isinstance(found, SQLCompiler)
    return found


def _is_nested(text: str) -> bool:
    """Whether the last condition is that of a query within."""
    _, _, condition = text.rpartition(" WHERE ")
    return condition.count("(") < condition.count(")")


def _of_many(text: str, types: Sequence[str]) -> str:
    """A statement of one row as one of many."""
    unnest = f"unnest({', '.join(f'CAST(${place} AS {name}[])' for place, name in enumerate(types, start=1))})"
    if text.startswith("INSERT"):
        return _VALUES.sub(lambda _: f"SELECT * FROM {unnest}", text, count=1)  # noqa: S608 - no values
    head, where, condition = text.rpartition(" WHERE ")
    joined = "USING" if text.startswith("DELETE") else "FROM"
    parts = ", ".join(f"p{place}" for place in range(1, len(types) + 1))
    head, condition = (_PLACEHOLDER.sub(r"given.p\1", part) for part in (head, condition))
    return f"{head} {joined} {unnest} AS given({parts}){where}{condition}"


def _type_of(kind: TypeEngine[Any]) -> str:
    for known, name in _TYPES:
        if isinstance(kind, known):
            return name
    raise AssertionError(f"no array of {kind!r}")


_TYPES: Sequence[tuple[type[TypeEngine[Any]], str]] = (
    (BigInteger, "BIGINT"),
    (SmallInteger, "SMALLINT"),
    (Integer, "INTEGER"),
    (Text, "TEXT"),
    (LargeBinary, "BYTEA"),
)

# -- arrays ------------------------------------------------------------------------------------------------------------

BIGINT_OID = 20
_BIGINT_BYTES = 8
_HEAD = struct.Struct(">iiIii")
"""Dimensions, whether there are nulls, the type of the elements; how many, and the number of the first."""
_ELEMENT = struct.Struct(">iq")
_NULL = struct.pack(">i", -1)


def bigints(values: Column) -> BigintArray:
    """An array of numbers, of flags as numbers, and of nulls: each with its length before it."""
    count = len(values)
    if None in values:
        elements = [_NULL if one is None else _ELEMENT.pack(_BIGINT_BYTES, one) for one in values]
        return BigintArray(_HEAD.pack(1, 1, BIGINT_OID, count, 1) + b"".join(elements))
    flat: list[Value] = [_BIGINT_BYTES] * (2 * count)
    flat[1::2] = values
    return BigintArray(_HEAD.pack(1, 0, BIGINT_OID, count, 1) + struct.pack(">" + "iq" * count, *flat))


def numbers(values: Column) -> str:
    """An array of numbers, of flags as numbers, and of nulls."""
    literal = f"{{{str(list(values))[1:-1]}}}"
    if "e" in literal:  # None, True or False; numbers have no letters
        literal = literal.replace("None", "NULL").replace("True", "1").replace("False", "0")
    return literal


def texts(values: Column) -> str:
    """An array of texts and nulls."""
    given = ["\0" if value is None else str(value) for value in values]
    joined = "\1".join(given)
    if joined.count("\1") != len(given) - 1 or joined.count("\0") != sum(value is None for value in values):
        return "{" + ",".join(map(_quoted, values)) + "}"
    joined = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\1", '","')
    return f'{{"{joined}"}}'.replace('"\0"', "NULL")


def _quoted(value: Value) -> str:
    """One text; the rare way, for texts with control characters."""
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def octets(values: Column) -> str:
    """An array of byte strings and nulls."""
    parts = (
        "NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values if not isinstance(value, int | str)
    )
    return f"{{{','.join(parts)}}}"


def tuples(keys: Sequence[Sequence[int]]) -> str:
    """A two-dimensional array of numbers."""
    return f"{{{','.join(map(numbers, keys))}}}"


_ARRAYS: dict[str, Callable[[Column], str | BigintArray]] = {
    "BIGINT": bigints,
    "INTEGER": numbers,
    "SMALLINT": numbers,
    "TEXT": texts,
    "BYTEA": octets,
}
