"""One server per database file: a second one refuses to start, and a dead one is no obstacle."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from stores import Store

from points_grpc.service.ports import StorageFull
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.lease import FileLease, LeaseHeld
from points_grpc.storage.repository import SqlRepository

HOLD = """
    import sys, time
    from points_grpc.storage.engine import Database
    from points_grpc.storage.repository import SqlRepository
    repository = SqlRepository(Database(sys.argv[1]))
    print(repository.slot.epoch, flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that serves the file."""
    source = Path(__file__).parents[2] / "src"
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), f"sqlite:///{path}"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )


def test_a_second_server_refuses_to_start(sqlite_store: Store) -> None:
    """The error says who has the file."""
    other = Database(f"sqlite:///{sqlite_store.path}")

    with pytest.raises(LeaseHeld, match=rf"pid {os.getpid()} .*points.*\.db"):
        SqlRepository(other)

    other.close()


def test_a_link_is_the_same_file(sqlite_store: Store) -> None:
    """By whatever name it is reached, one server has it."""
    link = sqlite_store.path.with_name("link.db")
    link.symlink_to(sqlite_store.path)
    other = Database(f"sqlite:///{link}")

    with pytest.raises(LeaseHeld):
        SqlRepository(other)

    other.close()


def test_a_closed_server_leaves_the_file_to_others(sqlite_store: Store) -> None:
    """The lease ends with the repository, and not before."""
    sqlite_store.repository.close()
    FileLease(sqlite_store.path).close()
    sqlite_store.open()


def test_a_server_that_fails_to_start_keeps_no_lease(tmp_path: Path) -> None:
    """A database without schema is refused; the next try is told the same, not that somebody has it."""
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="schema revision"):
            SqlRepository(database)

    database.close()


def test_a_full_disk_is_told_and_keeps_no_lease(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room for the name of the holder: a sentence for the operator, and the next try succeeds."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store.copied(empty_database, tmp_path / "store.db", synchronous="FULL")
    store.repository.close()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFull, match="disk of the database is full"):
        store.open()
    monkeypatch.undo()
    store.open()
    store.close()


@pytest.mark.ci
def test_a_killed_server_is_no_obstacle(empty_database: Path, tmp_path: Path) -> None:
    """The operating system takes the lease back; the slot's epoch goes up."""
    store = Store.copied(empty_database, tmp_path / "store.db", synchronous="FULL")
    store.repository.close()
    with holder(store.path) as process:
        assert process.stdout is not None
        epoch = int(process.stdout.readline())
        with pytest.raises(LeaseHeld, match=f"pid {process.pid}"):
            store.open()
        process.send_signal(signal.SIGKILL)
        process.wait()
    store.open()

    assert store.repository.slot.epoch == epoch + 1
    store.close()


def test_accounts_are_administered_beside_a_server(store: Store) -> None:
    """They need no lease."""
    database = Database(store.on.url)
    org_id = Accounts(database).create_org("three", "DE")

    assert store.queries.config_values(org_id)["ALLOW_POINTS_TRANSFER"] == "true"
    database.close()
