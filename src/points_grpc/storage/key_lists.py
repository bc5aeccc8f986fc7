"""Lists of keys as one parameter, written the same for every engine and rendered in the words of each.

One parameter, so that one prepared statement serves every number of keys. SQLite takes the list as a JSON array,
PostgreSQL as an array; a driver's `bind_values` and `bind_keys` make them. Nothing here knows a table.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import NullType


class among(FunctionElement[Any]):  # noqa: N801 - reads as a function of SQL
    """Whether a column is one of the values of a list bound as `name`."""

    inherit_cache = True
    type = NullType()  # as a Boolean it would be compared with 1 on SQLite

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        super().__init__(column, bindparam(name))
        self.list_name = name
        self.of_numbers = not isinstance(column.type, Text)


class EachKey:
    """The composite keys of a list bound as `name`, as a table to select from; `part(n)` is a key's n-th part."""

    def __init__(self, name: str) -> None:
        self.table: TableValuedAlias = _each_key(name).table_valued("key", "value", name=f"each_{name}")
        self.number: ColumnElement[int] = self.table.c.key

    def part(self, number: int) -> ColumnElement[Any]:
        """The n-th part of the key, from 0; a number."""
        return _key_part(self.table.c.value, self.table.c.key, number)


class _each_key(FunctionElement[Any]):  # noqa: N801
    inherit_cache = True

    def __init__(self, name: str) -> None:
        super().__init__(bindparam(name))


class _key_part(FunctionElement[int]):  # noqa: N801
    inherit_cache = False
    type = BigInteger()

    def __init__(self, value: ColumnElement[Any], key: ColumnElement[int], number: int) -> None:
        super().__init__(value, key)
        self.number = number


# -- SQLite ------------------------------------------------------------------------------------------------------------


@compiles(among, "sqlite")
def _among_json(element: among, compiler: SQLCompiler, **given: Any) -> str:
    column, values = (compiler.process(one, **given) for one in element.clauses)
    each = f"each_{element.list_name}"
    return f"{column} IN (SELECT {each}.value FROM json_each({values}) AS {each})"  # noqa: S608 - names and parameters, no values


@compiles(_each_key, "sqlite")
def _each_json(element: _each_key, compiler: SQLCompiler, **given: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **given)})"


@compiles(_key_part, "sqlite")
def _json_part(element: _key_part, compiler: SQLCompiler, **given: Any) -> str:
    value, _ = (compiler.process(one, **given) for one in element.clauses)
    return f"json_extract({value}, '$[{element.number}]')"


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@compiles(among, "postgresql")
def _among_array(element: among, compiler: SQLCompiler, **given: Any) -> str:
    column, values = (compiler.process(one, **given) for one in element.clauses)
    return f"{column} = ANY (CAST({values} AS {'BIGINT' if element.of_numbers else 'TEXT'}[]))"


@compiles(_each_key, "postgresql")
def _each_array(element: _each_key, compiler: SQLCompiler, **given: Any) -> str:
    """Every row has the whole list as its value: it is the parameter itself, and a part is looked up in it."""
    keys = f"CAST({compiler.process(element.clauses, **given)} AS BIGINT[])"
    places = f"(SELECT {keys} AS keys) AS given, generate_subscripts(given.keys, 1) AS place"
    return f"(SELECT place - 1 AS key, given.keys AS value FROM {places})"  # noqa: S608 - as above


@compiles(_key_part, "postgresql")
def _array_part(element: _key_part, compiler: SQLCompiler, **given: Any) -> str:
    value, key = (compiler.process(one, **given) for one in element.clauses)
    return f"({value})[{key} + 1][{element.number + 1}]"
