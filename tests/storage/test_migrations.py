"""Migrations lead to exactly the schema that the code was written for."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from stores import Store

from points_grpc.storage import migrate, schema
from points_grpc.storage.engine import Database, SchemaMismatch, require_schema
from points_grpc.storage.repository import SqlRepository


def definitions(path: Path) -> dict[str, set[str]]:
    """Each table and index by name, as the set of its parts: their order may differ, nothing else may."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {
        name: {" ".join(part.split()) for part in re.split(r",\s*\n|\(\n|\n\)", sql)}
        for name, sql in found
        if not name.startswith(("sqlite_", "alembic_"))
    }


def test_the_migrated_schema_is_that_of_the_code(empty_database: Path, tmp_path: Path) -> None:
    """Tables, columns, constraints and indexes are those of schema.py."""
    path = tmp_path / "created.db"
    engine = create_engine(f"sqlite:///{path}")
    schema.metadata.create_all(engine)
    engine.dispose()

    assert definitions(path) == definitions(empty_database)


def test_the_code_names_the_newest_revision() -> None:
    """A server compares without importing alembic."""
    assert migrate.head() == schema.REVISION


def test_upgrade_says_where_it_got(tmp_path: Path) -> None:
    """A fresh file has no revision, then the newest; upgrading again changes nothing."""
    url = f"sqlite:///{tmp_path / 'below' / 'new.db'}"

    assert migrate.upgrade(url) == schema.REVISION
    assert migrate.current(url) == schema.REVISION
    assert migrate.upgrade(url) == schema.REVISION


def test_the_sql_of_the_migrations_can_be_read() -> None:
    """For those who run it by hand."""
    sql = migrate.sql("sqlite:///unused.db")

    assert all(f"CREATE TABLE {table} " in sql for table in schema.metadata.tables)


def test_a_database_without_the_schema_is_refused(tmp_path: Path) -> None:
    """The error names the revision that is missing."""
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")

    with pytest.raises(SchemaMismatch, match=schema.REVISION):
        require_schema(database)
    with pytest.raises(SchemaMismatch):
        SqlRepository(database)

    database.close()


def test_a_database_of_a_newer_program_is_refused(bare: Store) -> None:
    """An older program never writes to a schema that it does not know."""
    bare.tamper("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaMismatch, match=f"revision 9999, which this program does not know.*{schema.REVISION}"):
        require_schema(bare.database)
    with pytest.raises(SchemaMismatch, match="use that version, or restore the backup made before the upgrade"):
        migrate.upgrade(bare.on.url)


def test_the_revisions_that_lead_here_are_known() -> None:
    """Without alembic: whoever adds a migration names the one before it."""
    folder = Path(migrate.__file__).parent / "migrations"
    found = {one.revision for one in ScriptDirectory(str(folder)).walk_revisions()}

    assert {schema.REVISION, *schema.EARLIER_REVISIONS} == found


def test_primary_keys_start_with_the_organisation() -> None:
    """Only what is looked up before the organisation is known stands apart."""
    first = {name: next(iter(table.primary_key)).name for name, table in schema.metadata.tables.items()}

    assert {"api_keys", "client_certificates", "writer_slots"} == {
        name for name, column in first.items() if column != "org_id"
    }


def test_statistics_are_planted(empty_database: Path) -> None:
    """Every index has a row that says how little the organisation alone narrows down."""
    connection = sqlite3.connect(empty_database)
    planted = dict(connection.execute("SELECT idx, stat FROM sqlite_stat1").fetchall())
    connection.close()

    assert planted["lots"] == "1000000 1000000 1"
    assert planted["ix_lots_spending"].startswith("100000 100000 ")
    assert {index.name for table in schema.metadata.tables.values() for index in table.indexes} <= planted.keys()
