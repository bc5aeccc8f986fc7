"""Backups that are made under load, and what is left after them: clean books, and commands that can be sent again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf.json_format import ParseDict
from shop import Shop, transfer_fields, verify

from databases import ATestsDatabase, PostgresDatabase, SqliteFile
from points_grpc.v1 import points_service_pb2
from postgres_cluster import OwnCluster
from running import Caller, RunningServer

CUSTOMERS = 20
POINTS = 100_000
TASKS = 4


class Bank:
    """A server with customers, and transfers between them that are sent one after the other, each under its own id."""

    def __init__(self, folder: Path, on: ATestsDatabase) -> None:
        self.folder = folder
        self.on = on
        self.server = self.serve(on)
        token = self.server.key(self.server.organisation())
        self.shop = Shop(self.server.start(), token)
        self.shop.add_customers(CUSTOMERS, lots=(POINTS,))
        self.acknowledged: list[str] = []
        self._numbers = iter(range(1_000_000))
        self._stopped = threading.Event()

    def serve(self, on: ATestsDatabase) -> RunningServer:
        """A server for a database, with the keys of all of them."""
        folder = self.folder / f"server-{time.time_ns()}"
        folder.mkdir()
        return RunningServer(folder, "--keys-file", str(self.folder / "keys.json"), on=on)

    @contextmanager
    def load(self) -> Iterator[None]:
        """Transfers from several threads, as long as it lasts."""
        threads = [threading.Thread(target=self._send) for _ in range(TASKS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join(30)

    def wait_for(self, count: int) -> None:
        """Until so many more transfers were acknowledged."""
        wanted, until = len(self.acknowledged) + count, time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < until, "the load stands still"
            time.sleep(0.01)

    def send(self, caller: Caller, request_id: str) -> Any:
        """A transfer whose parties and points follow from its id."""
        number = int(request_id.rpartition("-")[2])
        source, destination = (self.shop.customers[(number + step) % CUSTOMERS] for step in (0, 1 + number % 7))
        fields = transfer_fields(source, destination, 1 + number % 5, request_id)
        request = ParseDict(fields, points_service_pb2.TransferPointsRequest())
        return caller.points.TransferPoints(request, metadata=caller.metadata, timeout=30)

    def _send(self) -> None:
        caller = Caller(self.server.address, self.shop.token)
        while not self._stopped.is_set():
            request_id = f"bank-{next(self._numbers)}"
            self.send(caller, request_id)
            self.acknowledged.append(request_id)
        caller.close()


def balances(on: ATestsDatabase) -> list[Any]:
    return on.rows("SELECT customer_id, current FROM wallets ORDER BY customer_id")


def recorded(on: ATestsDatabase) -> set[str]:
    return {one for (one,) in on.rows("SELECT request_id FROM transactions WHERE request_id LIKE 'bank-%'")}


def judge(bank: Bank, restored: ATestsDatabase, acknowledged_before: list[str]) -> None:
    """The copy is whole; and after all commands were sent again under their ids it is as if nothing had been lost."""
    kept = recorded(restored)
    server = bank.serve(restored)
    books = verify(server)
    server.start()
    caller = Caller(server.address, bank.shop.token)
    replayed = {one for one in bank.acknowledged if bank.send(caller, one).replayed}
    caller.close()
    verified_again, code = verify(server), server.stop()

    assert set(acknowledged_before) <= kept < set(bank.acknowledged)
    assert ("verify: OK", "verify: OK", 0) == (books, verified_again, code)
    assert kept == replayed
    assert set(bank.acknowledged) == recorded(restored)
    assert balances(bank.on) == balances(restored)


def points_grpc(*arguments: str) -> tuple[int, str]:
    """Exit code, and what was said."""
    command = [sys.executable, "-m", "points_grpc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.ci
def test_sqlite_is_backed_up_while_it_is_served(tmp_path: Path) -> None:
    """The copy holds all that was acknowledged before it began; what is lost can be sent again."""
    bank = Bank(tmp_path, SqliteFile(tmp_path / "points.db"))
    with bank.load():
        bank.wait_for(50)
        before = list(bank.acknowledged)
        code, said = points_grpc("backup", str(tmp_path / "backup.db"), "--database", bank.on.url)
        bank.wait_for(50)
    bank.server.stop()
    mode = (tmp_path / "backup.db").stat().st_mode & 0o777
    judge(bank, SqliteFile(tmp_path / "backup.db"), before)

    assert (0, 0o600) == (code, mode)
    assert said.endswith("bytes")


@pytest.mark.ci
def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    """And is not made of a database that is not there, or of one that brings its own tools."""
    there = tmp_path / "there.db"
    there.write_text("mine")
    SqliteFile(tmp_path / "points.db").change("CREATE TABLE one (two INTEGER)")
    url, nothing = f"sqlite:///{tmp_path / 'points.db'}", f"sqlite:///{tmp_path / 'nothing.db'}"
    new = str(tmp_path / "new.db")

    assert (1, f"Error: {there} exists already") == points_grpc("backup", str(there), "--database", url)
    assert (1, f"Error: there is no database {tmp_path / 'nothing.db'}") == points_grpc(
        "backup", new, "--database", nothing
    )
    assert (1, "Error: PostgreSQL is backed up with its own tools: docs/backup.md says how") == points_grpc(
        "backup", new, "--database", "postgresql+psycopg://nobody@/nothing"
    )
    assert "mine" == there.read_text()


def test_a_name_with_signs_of_an_address(tmp_path: Path) -> None:
    """What means something in an address is part of the name in a path: it is this database that is copied."""
    named, other = tmp_path / "a%62#1.db", tmp_path / "ab"
    SqliteFile(named).change("CREATE TABLE one (two INTEGER)")
    SqliteFile(other).change("CREATE TABLE three (four INTEGER)")
    done = points_grpc("backup", str(tmp_path / "new.db"), "--database", f"sqlite:///{quote(str(named))}")

    assert done[0] == 0, done[1]
    assert [("one",)] == SqliteFile(tmp_path / "new.db").rows("SELECT name FROM sqlite_schema")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Path]:
    """A folder that the server may write to, whoever it runs as."""
    folder = Path("/tmp") / f"points-archive-{time.time_ns()}"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(archive: Path) -> Iterator[OwnCluster]:
    """A server that keeps its log, as one does for recovery to a point in time."""
    made = OwnCluster(archive_mode="on", archive_command=f"'cp %p {archive}/%f'", max_wal_senders="2")
    yield made
    made.close()


@pytest.mark.long
def test_postgresql_is_dumped_while_it_is_served(tmp_path: Path, cluster: OwnCluster, archive: Path) -> None:
    """pg_dump and pg_restore: the same."""
    on = PostgresDatabase(cluster, cluster.create())
    bank = Bank(tmp_path, on)
    with bank.load():
        bank.wait_for(50)
        before = list(bank.acknowledged)
        cluster.run("pg_dump", "--format=custom", f"--file={archive / 'points.dump'}", on.name)
        bank.wait_for(50)
    bank.server.stop()
    restored = PostgresDatabase(cluster, cluster.create("template0"))
    cluster.run("pg_restore", "--exit-on-error", f"--dbname={restored.name}", archive / "points.dump")
    judge(bank, restored, before)


@pytest.mark.ci
def test_postgresql_is_recovered_to_a_point_in_time(tmp_path: Path, cluster: OwnCluster, archive: Path) -> None:
    """A base backup and the log up to a moment: nothing after it is known, and all of it can be sent again."""
    on = PostgresDatabase(cluster, cluster.create())
    bank = Bank(tmp_path, on)
    with bank.load():
        bank.wait_for(30)
        cluster.run("pg_basebackup", f"--pgdata={archive / 'base'}", "--checkpoint=fast")
        bank.wait_for(30)
        before = list(bank.acknowledged)
        on.rows("SELECT pg_create_restore_point('the_moment')")
        bank.wait_for(30)
    bank.server.stop()
    [(last,)] = on.rows("SELECT pg_walfile_name(pg_switch_wal())")
    wait_until(lambda: on.rows("SELECT last_archived_wal >= ? FROM pg_stat_archiver", last) == [(True,)])
    (archive / "base" / "recovery.signal").touch()
    recovered = OwnCluster(
        restored_from=archive / "base",
        archive_mode="off",
        restore_command=f"'cp {archive}/%f %p'",
        recovery_target_name="'the_moment'",
        recovery_target_action="'promote'",
    )
    restored = PostgresDatabase(recovered, on.name)
    wait_until(lambda: restored.rows("SELECT pg_is_in_recovery()") == [(False,)])
    judge(bank, restored, before)
    recovered.close()


def wait_until(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.05)
