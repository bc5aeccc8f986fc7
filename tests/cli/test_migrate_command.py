"""`points-grpc migrate` on both engines, and what commands say of a schema that they do not know."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from databases import ATestsDatabase, NewDatabase, SqliteFile
from points_grpc.storage import schema


def run(*arguments: str) -> tuple[int, str]:
    """Exit code, and all that was said."""
    command = [sys.executable, "-m", "points_grpc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.fixture
def empty(new_database: NewDatabase, tmp_path: Path) -> Iterator[ATestsDatabase]:
    """A database that has nothing yet."""
    made = new_database(tmp_path)
    yield made
    made.drop()


def by_hand(on: ATestsDatabase, sql: str) -> None:
    """Runs SQL as an administrator would."""
    with on.connection() as connection:
        if isinstance(on, SqliteFile):
            connection.executescript(sql)
        else:
            psycopg.ClientCursor(connection).execute(sql)


def test_status_and_up(empty: ATestsDatabase) -> None:
    """Status names both revisions and fails while they differ; up runs once and may be repeated."""
    found = [
        run("migrate", *command, "--database", empty.url) for command in (["status"], ["up"], ["status"], [], ["up"])
    ]
    there = f"schema revision {schema.REVISION}"

    assert (1, f"found none, needed {schema.REVISION}") == found[0]
    assert [(0, there), (0, f"found {schema.REVISION}, needed {schema.REVISION}")] == found[1:3]
    assert [(0, there)] * 2 == found[3:]


def test_the_sql_can_be_run_by_hand(empty: ATestsDatabase) -> None:
    """It leads to the same revision, and a server starts on it."""
    code, sql = run("migrate", "--database", empty.url, "sql")
    by_hand(empty, sql)

    assert 0 == code
    assert (0, f"found {schema.REVISION}, needed {schema.REVISION}") == run(
        "migrate", "status", "--database", empty.url
    )
    assert (0, "1") == run("orgs", "create", "Acme", "--region", "IN", "--database", empty.url)


@pytest.mark.ci
@pytest.mark.parametrize("revision", ["none", pytest.param("9999", marks=pytest.mark.long)])
def test_a_server_refuses_a_schema_that_it_does_not_know(empty: ATestsDatabase, tmp_path: Path, revision: str) -> None:
    """It does not become ready, and names the revision found and the one needed; so do the tools."""
    if revision != "none":
        run("migrate", "--database", empty.url)
        empty.change("UPDATE alembic_version SET version_num = ?", revision)
    ready, keys = tmp_path / "ready.json", tmp_path / "keys.json"
    flags = ("--port", "0", "--ready-file", str(ready), "--keys-file", str(keys))
    code, said = run("serve", "--database", empty.url, *flags)
    tool_code, tool_said = run("orgs", "list", "--database", empty.url)
    found = f"has schema revision {revision}, this program needs {schema.REVISION}"
    if revision == "none" and isinstance(empty, SqliteFile):
        found = f"there is no database {empty.path}, this program needs schema revision {schema.REVISION}"
    expected = f"{found}: migrate it"
    if revision != "none":
        expected = "use that version, or restore the backup made before the upgrade"
        migrate_code, migrate_said = run("migrate", "--database", empty.url)
        assert (1, True, 1) == (migrate_code, migrate_said.endswith(expected), len(migrate_said.splitlines()))
        assert (1, f"found 9999, needed {schema.REVISION}") == run("migrate", "status", "--database", empty.url)

    assert (1, 1) == (code, tool_code)
    assert said.splitlines()[-1].endswith(expected)
    assert tool_said.endswith(expected)
    assert not ready.exists()
    assert not keys.exists()


@pytest.mark.ci
def test_a_server_that_cannot_be_reached_is_said_so(postgresql_nowhere: str) -> None:
    """In a sentence, without the password."""
    for command in (["status"], ["up"]):
        code, said = run("migrate", *command, "--database", postgresql_nowhere)
        assert (1, True) == (code, said.endswith(": the database cannot be reached"))
        assert said.startswith("Error: postgresql+psycopg://points:********@/points?host=")
        assert "secret" not in said


@pytest.fixture
def postgresql_nowhere(tmp_path: Path) -> str:
    """A URL behind which there is nothing."""
    return f"postgresql+psycopg://points:secret@/points?host={tmp_path}"
