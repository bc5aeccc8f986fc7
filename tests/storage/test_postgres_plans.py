"""How PostgreSQL runs each hot statement once tables have 10,000,000 rows, told by planted statistics.

A few thousand rows are there, so that columns have a distribution; then each table says that it has ten million. The
plans are those that the service's sessions prepare, on their settings (`storage/postgres.py`), and the same again where
reading a table whole is allowed: what is right only because it is forbidden to be wrong is found there. And all of that
once more with the journal in partitions. Rows have no meaning; constraints of rows are gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, SmallInteger, Table
from stores import fill

from databases import PostgresDatabase, on_postgres
from points_grpc.storage import exports, journal_pages, postgres_repository, queries, retention, watching
from points_grpc.storage import statements as sql
from points_grpc.storage.driver import Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.partitioning import TABLES, cut
from points_grpc.storage.postgres_sql import in_postgres
from points_grpc.storage.postgres_sql import on_postgres as as_statement
from points_grpc.storage.schema import metadata
from postgres_cluster import Cluster

ROWS = 2_000
CUSTOMERS = 400
ROWS_SAID = 10_000_000
BOUNDS = (700, 1_400)
"""Ids at which partitions begin."""

SMALL = {"orgs", "programs", "program_groups", "policies", "config_keys", "writer_slots", "journal_streams"}
"""Tables of an organisation as such, and of its writers."""

LARGE = set(metadata.tables) - SMALL

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": found
    for module in (sql, queries, watching, journal_pages, exports)
    for name, found in vars(module).items()
    if isinstance(found, Statement)
}
STATEMENTS |= {
    f"retention of {what}, {name}": as_statement(core, "org", "oldest", "before")
    for what, kind in retention._KINDS.items()
    for name, core in (("counted", kind.count), ("found", kind.first))
}
STATEMENTS |= {f"lock of customers, wait={wait}": found for wait, found in postgres_repository._LOCK.items()}

VALUES = {"org_id": "1", "program_id": "n % 3 + 1", "live": "1", "account": "1", "held": "0"}
"""What columns of that name have; others have numbers and texts that differ from row to row."""

POLLS = {"statements.DUE_ORGANISATIONS"}
"""What looks for everything that is queued, and may as well read its partial index from end to end."""

STATES = {"holds": "CASE WHEN n % 10 = 0 THEN 'OPEN' ELSE 'CAPTURED' END"}
QUEUED = "CASE WHEN n % 10 = 0 THEN 'QUEUED' ELSE 'DELIVERED' END"


def value(table: Table, column: Column[Any]) -> str:
    """What the n-th row has there, in SQL. Every second row has nothing where nothing may be."""
    found = f"'{column.name}-' || n"
    if column.name in VALUES:
        found = VALUES[column.name]
    elif column.name == "customer_id":
        found = "n" if column.primary_key else f"n % {CUSTOMERS} + 1"
    elif column.name == "state":
        found = STATES.get(table.name, QUEUED)
    elif isinstance(column.type, SmallInteger):
        found = "n % 2"
    elif isinstance(column.type, BigInteger | Integer):
        found = "n"
    elif isinstance(column.type, LargeBinary):
        found = "'\\x00'::bytea"
    return f"CASE WHEN n % 2 = 0 THEN {found} END" if column.nullable else found


@pytest.fixture(scope="module", params=["one table each", pytest.param("partitions", marks=pytest.mark.ci)])
def large(
    request: pytest.FixtureRequest, postgres: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresDatabase]:
    """A database whose tables say that they are large."""
    found = on_postgres(postgres)(tmp_path_factory.mktemp("unused"))
    assert isinstance(found, PostgresDatabase)
    fill(found)
    if request.param == "partitions":
        with closing(Database(found.url)) as database:
            for table, bound in ((table, bound) for table in TABLES for bound in BOUNDS):
                cut(database, table, bound)
    with found.connection() as connection:
        checks = connection.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND coninhcount = 0"
        ).fetchall()
        for table, constraint in checks:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
        connection.execute("SET session_replication_role = replica")  # no foreign keys either
        for name in sorted(LARGE):
            columns = ", ".join(value(metadata.tables[name], column) for column in metadata.tables[name].c)
            connection.execute(f"INSERT INTO {name} SELECT {columns} FROM generate_series(1, {ROWS}) AS n")
        connection.execute("ANALYZE")
        for name in relations(found):
            connection.execute(f"UPDATE pg_class SET reltuples = {ROWS_SAID} WHERE oid = '{name}'::regclass")
    yield found
    found.drop()


def relations(database: PostgresDatabase) -> dict[str, set[str]]:
    """The large tables, each partition as one, and their indexes."""
    found = database.rows(
        "SELECT pg_class.relname, indexes.relname FROM pg_class"
        " JOIN pg_index ON indrelid = pg_class.oid JOIN pg_class AS indexes ON indexes.oid = indexrelid"
        " WHERE pg_class.relnamespace = 'public'::regnamespace AND pg_class.relkind = 'r'"
    )
    of: dict[str, set[str]] = {}
    for table, index in found:
        if table not in SMALL | {"alembic_version"}:
            of.setdefault(table, set()).add(index)
    return of


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a plan."""
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)


def wrong(plan: dict[str, Any], large: dict[str, set[str]]) -> list[str]:
    """Steps that read a large table whole, or all that an organisation has of it."""
    found = []
    indexes = set().union(*large.values())
    for node in nodes(plan):
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in large:
            found.append(f"reads {node['Relation Name']} whole")
        if node.get("Index Name") in indexes:
            condition = re.sub(r"\b\w+\.", "", node.get("Index Cond", ""))
            compared = set(re.findall(r"\(?\b([a-z_]+)\b\)? (?:=|<|>|<=|>=) ", condition)) - {"org_id"}
            if not compared and "ROW(" not in condition:
                found.append(f"reads {node['Index Name']} by {condition or 'nothing'}")
    return found


def plans(database: PostgresDatabase, *settings: str) -> dict[str, list[str]]:
    """What is wrong with the plans of hot statements, prepared once for all parameters."""
    of = relations(database)
    opened = Database(database.url)
    connection = opened.connect_writer()
    cursor = connection.cursor()
    for setting in settings:
        cursor.execute(f"SET {setting}")
    found: dict[str, list[str]] = {}
    for name, statement in STATEMENTS.items():
        text = in_postgres(statement)
        places = ", ".join(["NULL"] * len(text.order))
        cursor.execute(f"PREPARE one AS {text.many or text.text}")
        cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE one{f'({places})' if places else ''}")
        [(explained,)] = cursor.fetchall()
        cursor.execute("DEALLOCATE one")
        plan = explained if isinstance(explained, list) else json.loads(explained)
        if steps := wrong(plan[0]["Plan"], of):
            found[name] = steps
    connection.close()
    opened.close()
    return found


def test_hot_statements_look_rows_up(large: PostgresDatabase) -> None:
    """By an index, and by more of it than the organisation."""
    assert {} == plans(large)


def test_hot_statements_look_rows_up_by_themselves(large: PostgresDatabase) -> None:
    """As the planner wants it, too: no index is missing that the settings of the service's sessions hide."""
    allowed = [f"{name} = on" for name in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")]
    found = plans(large, *allowed)

    assert {} == {name: steps for name, steps in found.items() if name not in POLLS}


@pytest.mark.parametrize(
    ("index", "name"),
    [("ix_lots_spending", "statements.FIRST_LOTS"), ("ix_postings_customer", "queries._VERSION_AS_OF")],
)
def test_a_missing_index_is_noticed(large: PostgresDatabase, index: str, name: str) -> None:
    """A statement that lost its index reads the table whole, or all of the organisation: these tests would say so."""
    without = large.copy()
    without.change(f"DROP INDEX {index}")
    found = plans(without)
    without.drop()

    assert name in found
