"""What goes wrong while a command works is a sentence, whichever command it is."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.main import main
from points_grpc.storage import sqlite
from points_grpc.storage.migrate import upgrade

DATABASE = "sqlite:///points.db"


def run(command: str, database: str = DATABASE) -> Result:
    return CliRunner().invoke(main, [*command.split(), "--database", database])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are run: a database with an organisation, a key and a certificate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    upgrade(DATABASE)
    run("orgs create Acme --region IN")
    run("certificates create --org 1 --client till till.ours")
    return tmp_path


@pytest.fixture
def locked(folder: Path) -> Iterator[None]:
    """Somebody else writes all the time."""
    other = sqlite3.connect(folder / "points.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


WRITING = (
    "orgs create Beta --region IN",
    "keys create --org 1 --client till",
    "keys revoke --org 1 pk",
    "certificates create --org 1 --client till other.ours",
    "certificates revoke --org 1 till.ours",
    "tokens revoke --org 1 app",
)


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("command", WRITING)
def test_a_locked_database_is_told(command: str) -> None:
    """By every command that writes."""
    done = run(command)

    assert (1, "Error: the database is locked by another writer\n") == (done.exit_code, done.output)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["orgs list", "report daily", "verify", "migrate status", "retention"])
def test_a_driver_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """With what installs it."""
    monkeypatch.delitem(sys.modules, "points_grpc.storage.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = run(command, "postgresql+psycopg://db/points")

    assert 1 == done.exit_code
    assert "Error: PostgreSQL takes a driver: pip install 'points-grpc[postgres]'\n" == done.output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["orgs list", "report daily", "verify", "migrate", "retention", "backup copy.db"])
@pytest.mark.parametrize(
    "url", ["points.db", "postgresql+psycopg://db:port/points", "postgresql+psycopg://db/points?bogus=1", "mysql://db"]
)
def test_a_url_that_is_none_is_a_misuse(command: str, url: str) -> None:
    """Of every command, without repeating it."""
    done = run(command, url)

    assert (2, False) == (done.exit_code, url in done.output), done.output


@pytest.mark.parametrize(
    ("file", "reason"), [("nope/copy.db", "no such file or directory"), ("in/c", "not a directory")]
)
def test_a_backup_that_cannot_be_written(folder: Path, file: str, reason: str) -> None:
    """Names the file and the reason."""
    (folder / "in").write_text("a file stands where the folder should be")
    done = run(f"backup {file}")

    assert (1, f"Error: {file} cannot be written: {reason}\n") == (done.exit_code, done.output)


def test_a_backup_of_a_damaged_database(folder: Path) -> None:
    """Is told, and leaves nothing: neither a copy nor a part of one."""
    path = folder / "points.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orgs'").fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    done = run("backup copy.db")

    assert (1, "damaged" in done.output) == (done.exit_code, True), done.output
    assert [] == list(folder.glob("copy.db*"))


@pytest.mark.parametrize("command", ["orgs list", "verify", "report daily", "migrate", "migrate status"])
def test_what_is_no_database_is_named(folder: Path, command: str) -> None:
    """With its file and the cause."""
    (folder / "text.db").write_bytes(b"no database" * 1000)
    done = run(command, "sqlite:///text.db")
    told = f"Error: {folder}/text.db: the database cannot be read or written: the file is no database\n"

    assert (1, told) == (done.exit_code, done.output)
