"""Broken machinery, told apart: what is broken is the database, the disk, the lock or the process, never our own code.

What was not written can be sent again: after each fault is mended the same request is accepted, once, and the books
are right.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
from conformance_expect import compare, compare_acceptance, raw_of, refusal
from conformance_failures import AGED, BUSY, DISK, FAILING_SENDER, FULL, ISSUE, LOCKED, PLANTED, QUOTAS, SENDERLESS
from conformance_player import Play, make_orgs
from conformance_table import Fault, Row, redeem

from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from running import Details, RunningServer

WALLET = {"customer_identifier": {"type": "ID", "value": "1"}}
Scene = tuple[RunningServer, dict[str, Play]]


@contextmanager
def scene(
    folder: Path,
    rows: Sequence[Row],
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    before: Callable[[RunningServer], None] = lambda server: None,
) -> Iterator[Scene]:
    """A server with an organisation for each row furnished as the setup says."""
    server = RunningServer(folder, *arguments, environment=environment)
    orgs = make_orgs(server, rows)
    before(server)
    server.start()
    with ExitStack() as stack:
        stack.callback(server.close)
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        plays = {row.name: Play(server, channel, org) for row, org in zip(rows, orgs, strict=True)}
        for row in rows:
            plays[row.name].do(row.setup)
        yield server, plays


def of(rows: Sequence[Row], fault: str) -> list[Row]:
    """The rows of a fault."""
    return [row for row in rows if Fault(fault) in row.setup]


def refused(row: Row, play: Play) -> Details:
    """The refusal of a row, compared with what the row says."""
    raw = raw_of(row, play)
    found = refusal(play, row, raw)
    compare(row, play, raw, found)
    return found


def accepted(row: Row, play: Play) -> bool:
    """The same request once more, accepted; whether it had been written before."""
    return bool(play.ask(row.rpc, row.request).replayed)


def books_are_right(server: RunningServer) -> None:
    """Recomputes everything from the journal."""
    database = Database(server.database)
    try:
        assert [] == verify(database).differences
    finally:
        database.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of the database, as another process would that writes."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


# -- the database

TRIGGERS = {
    # What the driver reports: a trigger's own refusal, a duplicate key, a counter that has come to its end.
    "WRITE_REFUSED": "SELECT RAISE(ABORT, 'planted')",
    "ROW_IN_THE_WAY": "INSERT INTO writer_slots SELECT * FROM writer_slots",
    "NO_ROOM_FOR_ROWS": "INSERT INTO planted (text) VALUES ('one more')",
    # No failure: a batch takes a second or more.
    "QUEUE_TOO_OLD": "SELECT count(*) FROM many AS one, many AS other WHERE one.n + other.n < 0",
    "LOCKED": "SELECT count(*) FROM many AS one, many AS other WHERE one.n + other.n < 0",
}


def plant(path: Path, org_id: int, fault: str) -> None:
    """Plants a trigger that works for one organisation."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS planted (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)")
        connection.execute(f"INSERT OR IGNORE INTO planted VALUES ({2**63 - 1}, 'the last one')")
        connection.execute(
            f"CREATE TRIGGER planted_{org_id} BEFORE INSERT ON transactions WHEN NEW.org_id = {org_id} "
            f"BEGIN {TRIGGERS[fault]}; END"
        )
        connection.commit()


def test_writing_fails(tmp_path: Path) -> None:
    """A write that the database refuses is told apart from a conflict and from a full store, and nothing is written."""
    with scene(tmp_path, PLANTED) as (server, plays):
        for row in PLANTED:
            play = plays[row.name]
            [fault] = [step.name for step in row.setup if isinstance(step, Fault)]
            plant(server.path, play.org_id, fault)
            refused(row, play)

            assert "1000" == play.read("GetWallet", WALLET, "wallet.current")
            with closing(sqlite3.connect(server.path, timeout=10)) as connection:
                connection.execute(f"DROP TRIGGER planted_{play.org_id}")
            assert not accepted(row, play)
        books_are_right(server)


@pytest.mark.ci
def test_another_process_holds_the_lock(tmp_path: Path) -> None:
    """A lock that outlasts the wait is a conflict, answered within the deadline, and nothing is written."""
    with scene(tmp_path, LOCKED) as (server, plays):
        [row] = LOCKED
        with locked(server.path):
            refused(row, plays[row.name])

        assert not accepted(row, plays[row.name])
        books_are_right(server)


def at_once(*calls: Callable[[], object]) -> None:
    """Makes calls at the same time; fails if one of them does."""
    failures: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# -- the disk


@pytest.mark.ci
def test_the_disk(tmp_path: Path) -> None:
    """A commit that fails is open, a store out of reach is not, an unreadable configuration is 413; all mend."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with scene(folder, DISK) as (server, plays):
        pid = server.writer_pid()
        # Writing beyond a size of zero fails (EFBIG), by a limit that anybody may set for a process of their own.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for row in of(DISK, "COMMIT_FAILS"):
            refused(row, plays[row.name])
        # The failed commit closed the writer's connection; with the folder gone, no other can be opened.
        folder.rename(tmp_path / "gone")
        for row in of(DISK, "UNREACHABLE"):
            refused(row, plays[row.name])
        (tmp_path / "gone").rename(folder)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for row in of(DISK, "COMMIT_FAILS") + of(DISK, "UNREACHABLE"):
            assert not accepted(row, plays[row.name])
        with damaged(server.path, "config_keys"):
            for row in of(DISK, "CONFIGURATION_DAMAGED"):
                refused(row, plays[row.name])
        for row in of(DISK, "CONFIGURATION_DAMAGED"):
            assert not accepted(row, plays[row.name])
        books_are_right(server)


@contextmanager
def damaged(path: Path, table: str) -> Iterator[None]:
    """Damages the first page of a table in the file, and puts it back."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        assert (0, 0, 0) == connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    at = (page - 1) * size
    with path.open("r+b", buffering=0) as file:
        whole = os.pread(file.fileno(), size, at)
        os.pwrite(file.fileno(), b"\xff" * size, at)
        time.sleep(1.1)  # a configuration that was read counts for a second
        try:
            yield
        finally:
            os.pwrite(file.fileno(), whole, at)


MOUNTED = 'mount -t tmpfs -o size=2m tmpfs "$1" && cp -p "$2"/points.db* "$1" && shift 2 && exec "$@"'


def namespaces() -> list[str] | None:
    """How a process gets a file system of its own here; None if it does not."""
    for prefix in (["unshare", "-m"], ["unshare", "-rm"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
        ):
            return prefix
    return None


def test_the_disk_is_full(tmp_path: Path) -> None:
    """On a disk of two megabytes the store fills up: the refusal says so, and what was acknowledged is there."""
    namespace = namespaces()
    if namespace is None:
        pytest.skip("no mount namespace for this user; test_writing_fails has the driver say the same")

    def on_a_small_disk(server: RunningServer) -> None:
        disk = tmp_path / "small"
        disk.mkdir()
        server.serves = f"sqlite:///{disk / server.path.name}"
        server.prefix = (*namespace, "sh", "-c", MOUNTED, "sh", str(disk), str(tmp_path))

    [row] = FULL
    with scene(tmp_path, FULL, before=on_a_small_disk) as (_, plays):
        play = plays[row.name]
        acknowledged = 1000
        for number in range(20_000):
            try:
                play.ask(row.rpc, {**row.request, "request_id": f"fills-{number}"})
            except grpc.RpcError:
                break
            acknowledged += 5
        refused(row, play)

        assert str(acknowledged) == play.read("GetWallet", WALLET, "wallet.current")


# -- the queue and the process


@pytest.mark.ci
def test_held_up_and_stopped(tmp_path: Path) -> None:
    """While the writer is held up, what it holds is open and what waits is not; a full queue and a drain say so."""
    settings = {"POINTS_GRPC_WAITING_MAX": "4", "POINTS_GRPC_DEADLINE_DEFAULT_S": "1"}
    with scene(tmp_path, BUSY, environment=settings) as (server, plays):
        assert server.process is not None
        taken, queued = of(BUSY, "WAITING")
        for row in (taken, queued):
            plays[row.name].timeout_s = None  # the server's own second
        done: list[object] = []

        def waits(play: Play) -> None:
            done.append(play.ask("IssuePoints", {**taken.request, "request_id": "waits"}))

        with locked(server.path):
            at_once(
                partial(refused, taken, plays[taken.name]),
                partial(later, 0.2, partial(refused, queued, plays[queued.name])),
            )
            waiting = [threading.Thread(target=waits, args=(plays[row.name],)) for row in of(BUSY, "DRAINING")]
            for thread in waiting:
                thread.start()
            time.sleep(0.2)
            for row in of(BUSY, "QUEUE_FULL"):
                refused(row, plays[row.name])
            server.process.send_signal(signal.SIGTERM)
            until(lambda: '"draining"' in server.errors())
            for row in of(BUSY, "DRAINING"):
                refused(row, plays[row.name])
        for thread in waiting:
            thread.join()

        assert 2 == len(done)
        assert 0 == server.process.wait(timeout=20)
        server.start()
        again = [accepted(row, plays[row.name]) for row in BUSY]
        assert [True, False, False, False, False, False] == again
        books_are_right(server)


@pytest.mark.ci
def test_the_queue_is_too_old(tmp_path: Path) -> None:
    """While what is taken from the queue has waited for too long, those of whom more waits are shed: there is room."""
    settings = {"POINTS_GRPC_QUEUE_AGE_MAX_S": "0.3"}
    with scene(tmp_path, (*AGED, *LOCKED), environment=settings) as (server, plays):
        with closing(sqlite3.connect(server.path, timeout=10)) as connection:
            connection.execute("CREATE TABLE many (n INTEGER)")
            numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 4000)"
            connection.execute(f"{numbers} INSERT INTO many SELECT n FROM n")
            connection.commit()
        for row in (*AGED, *LOCKED):
            [fault] = [step.name for step in row.setup if isinstance(step, Fault)]
            plant(server.path, plays[row.name].org_id, fault)
        [other] = [plays[row.name] for row in LOCKED]
        for row in AGED:
            own, done = plays[row.name], list[object]()
            # A batch each: theirs waits for our first, and our second is still to come then, the last that waits.
            slow = [
                threading.Thread(target=lambda play=play, done=done: done.append(play.ask("IssuePoints", ISSUE)))
                for play in (own, other, own)
            ]
            for thread in slow:
                thread.start()
                time.sleep(0.1)
            until(lambda done=done: len(done) == 2)
            refused(row, own)
            for thread in slow:
                thread.join()

            assert 3 == len(done)
        with closing(sqlite3.connect(server.path, timeout=10)) as connection:
            for play in plays.values():
                connection.execute(f"DROP TRIGGER planted_{play.org_id}")
        assert [False, False] == [accepted(row, plays[row.name]) for row in AGED]
        books_are_right(server)


def later(seconds: float, call: Callable[[], object]) -> None:
    """Makes a call after a while."""
    time.sleep(seconds)
    call()


def until(holds: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- the quotas

SMALL = {
    "POINTS_GRPC_CLIENT_READS_PER_S": "2",
    "POINTS_GRPC_CLIENT_WRITES_PER_S": "2",
    "POINTS_GRPC_ORG_CALLS_PER_S": "3",
    "POINTS_GRPC_QUOTA_BURST_MS": "10000",
    "POINTS_GRPC_ORG_WATCHES_MAX": "1",
    "POINTS_GRPC_ORG_CALLS_IN_FLIGHT_MAX": "1",
}
USES_UP = {
    "READS_USED_UP": (),
    "WRITES_USED_UP": (),
    "ORGANISATION_USED_UP": (("RedeemPoints", redeem(1)),) * 18,
}
"""What is called before the row's own request is repeated until it is refused: what is left of ten seconds at once. So
many writes that the reads of one client are not used up first, however slow the machine."""


def test_quotas(tmp_path: Path) -> None:
    """A quota that is used up is named, and lets the same call in once the time that it asks for has passed."""
    with scene(tmp_path, QUOTAS, environment=SMALL) as (server, plays):
        for fault, before in USES_UP.items():
            [row] = of(QUOTAS, fault)
            play = plays[row.name]
            for rpc, request in before:
                play.ask(rpc, request)
            with pytest.raises(grpc.RpcError):
                ask_often(play, row)
            found = refused(row, play)
            pause_ms = int(found.trailers["grpc-retry-pushback-ms"])
            time.sleep(pause_ms / 1000)

            assert 0 < pause_ms <= 1000
            assert play.ask(row.rpc, row.request)
        [row] = of(QUOTAS, "ALL_WATCHING")
        play = plays[row.name]
        watching = play.watch(
            row.rpc, play.request(row.rpc, row.request).SerializeToString(), play.headers("admin", "", b"")
        )
        assert next(watching)
        refused(row, play)
        watching.cancel()
        for row in of(QUOTAS, "IN_FLIGHT"):
            play = plays[row.name]
            done: list[object] = []
            with locked(server.path):
                waiting = threading.Thread(
                    target=lambda play=play, done=done: done.append(play.ask("IssuePoints", ISSUE))
                )
                waiting.start()
                time.sleep(1)
                refused(row, play)
            waiting.join()

            assert 1 == len(done)


def ask_often(play: Play, row: Row) -> None:
    """Asks more often than any of these quotas allows."""
    for _ in range(200):
        play.ask(row.rpc, row.request)


# -- the senders


def test_no_sender(tmp_path: Path) -> None:
    """Where no sender is configured, a code cannot be issued to a customer who could be reached."""
    with scene(tmp_path, SENDERLESS) as (_, plays):
        for row in SENDERLESS:
            refused(row, plays[row.name])


@pytest.mark.ci
def test_failing_sender(tmp_path: Path) -> None:
    """While the oldest message of a party fails, every write on it is done and warns."""

    def whose_console_goes_away(server: RunningServer) -> None:
        console = tmp_path / "console"
        os.mkfifo(console)
        # Whoever reads it leaves after the first line, which says where the server serves.
        server.prefix = ("sh", "-c", 'head -n 1 < "$0" > /dev/null & exec "$@" > "$0"', str(console))

    arguments = ("--otp-sender", "console")
    with scene(tmp_path, FAILING_SENDER, arguments=arguments, before=whose_console_goes_away) as (server, plays):
        with closing(sqlite3.connect(server.path, timeout=10)) as connection:
            failing = "SELECT count(DISTINCT org_id) FROM customers WHERE messages_failed"
            until(lambda: connection.execute(failing).fetchone() == (len(FAILING_SENDER),))
        for row in FAILING_SENDER:
            compare_acceptance(row, plays[row.name])
