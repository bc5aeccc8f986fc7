"""What goes wrong in the database is told in the service's words, and leaves nothing half written."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psycopg
import pytest
from stores import ANN, BEN, GOLD, NO_KEYS, NOTHING, ORG, Store, customer, next_id, record

from points_grpc.domain import events as ev
from points_grpc.domain.model import OrgConfig, WalletKey
from points_grpc.domain.outcome import Accepted, DoneResult
from points_grpc.domain.snapshot import Keys, Snapshot
from points_grpc.service.ports import (
    KeyTaken,
    OutcomeUnknown,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
)
from points_grpc.storage import sqlite
from points_grpc.storage.engine import Database, NotDurable, require_durable
from points_grpc.storage.faults import translate, translate_commit
from points_grpc.storage.repository import SqlRepository

SECRET = "+1555CANARY"


def driver_error(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    """An error as the driver raises it, with a text that must not travel."""
    error = kind(f"something about {SECRET}")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, StorageConflict),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageConflict),
        (sqlite3.SQLITE_LOCKED, StorageConflict),
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_IOERR, StorageUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StorageUnavailable),
        (sqlite3.SQLITE_CORRUPT, StorageUnavailable),
        (sqlite3.SQLITE_NOTADB, StorageUnavailable),
        (sqlite3.SQLITE_READONLY, StorageUnavailable),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, KeyTaken),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, KeyTaken),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.OperationalError),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, sqlite3.OperationalError),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError),
    ],
)
def test_errors_of_a_statement(code: int, expected: type[Exception]) -> None:
    """Told apart by the result code; bugs of ours stay what they are."""
    found = translate(driver_error(code))

    assert type(found) is expected
    assert isinstance(found, sqlite3.Error) or SECRET not in str(found)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, StorageConflict),
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_IOERR, OutcomeUnknown),
        (sqlite3.SQLITE_IOERR_FSYNC, OutcomeUnknown),
        (sqlite3.SQLITE_CORRUPT, OutcomeUnknown),
        (sqlite3.SQLITE_ERROR, OutcomeUnknown),
    ],
)
def test_errors_of_a_commit(code: int, expected: type[Exception]) -> None:
    """Unknown unless it was certainly rolled back."""
    found = translate_commit(driver_error(code))

    assert type(found) is expected
    assert SECRET not in str(found)


def test_an_error_without_a_result_code_is_a_bug() -> None:
    """The driver was used wrongly."""
    error = sqlite3.ProgrammingError("closed")

    assert translate(error) is error


DISK_ERRORS = {
    "sqlite": lambda: driver_error(sqlite3.SQLITE_IOERR_FSYNC),
    "postgresql": lambda: psycopg.errors.IoError(f"something about {SECRET}"),
}


def add_customer(store: Store) -> int:
    """A batch that writes a customer, a wallet and a record."""
    new_id = next_id()
    store.apply(
        [
            ev.CustomerSaved(customer(new_id, f"N{new_id}"), created=True),
            ev.Enrolled(WalletKey(new_id, GOLD), store.now),
        ],
        records=[record(f"new-{new_id}", Accepted(DoneResult()))],
        keys=NO_KEYS,
    )
    return new_id


def add_customers(store: Store, number: int) -> None:
    """Batch after batch."""
    for _ in range(number):
        add_customer(store)


def test_a_taken_identifier_is_a_conflict(store: Store) -> None:
    """The decision missed it, another writer came first: nothing is written."""
    before = store.counts()
    same_mobile = customer(next_id(), "Dee", mobile=f"+1555{ANN:07d}")

    with pytest.raises(StorageConflict) as caught:
        store.apply([ev.CustomerSaved(same_mobile, created=True)], keys=NO_KEYS)

    assert "1555" not in str(caught.value)
    assert before == store.counts()


def test_a_broken_constraint_stays_a_bug(sqlite_store: Store) -> None:
    """A balance below zero is no conflict, and must not be run again."""
    broken = customer(BEN, "Ben", merged_into=BEN)

    with pytest.raises(sqlite3.IntegrityError):
        sqlite_store.apply([ev.CustomerSaved(broken, created=False)], keys=NO_KEYS)


def test_a_full_disk_writes_nothing_and_passes(sqlite_store: Store) -> None:
    """The batch fails as a whole; when there is space again, writing goes on without a restart."""
    before = sqlite_store.counts()
    # The limit is enforced when a page is allocated, whichever connection set it.
    cursor = sqlite_store.repository.connection().cursor()
    cursor.execute("PRAGMA page_count")
    pages = cursor.fetchone()[0]
    cursor.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull):
        add_customers(sqlite_store, 400)
    written = sqlite_store.counts()["customers"] - before["customers"]

    assert sqlite_store.counts()["wallets"] - before["wallets"] == written
    assert sqlite_store.counts()["requests"] - before["requests"] == written
    add_customer(sqlite_store)  # the connection was replaced, and with it the limit
    assert sqlite_store.counts()["customers"] - before["customers"] == written + 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections opened from here on wait a moment only for the write lock."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_is_a_conflict(empty_database: Path, tmp_path: Path) -> None:
    """Another process writes for longer than the timeout; afterwards all is well."""
    store = Store.copied(empty_database, tmp_path / "store.db")
    with store.connection() as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageConflict):
            add_customer(store)
        assert store.repository.config(ORG).available
    store.furnish()
    store.close()


def test_readers_see_what_was_committed_when_they_started(store: Store) -> None:
    """They are not blocked by the writer, nor is the writer by them."""
    with store.repository.read(ORG) as session:
        book = session.book()
        new_id = add_customer(store)
        keys = Keys(customers=frozenset({new_id}))
        assert session.load(keys, book, NOTHING, {}).customers == {}
    assert set(store.load(keys).customers) == {new_id}


def test_readers_cannot_write(sqlite_store: Store) -> None:
    """Their connections refuse it."""
    connection = sqlite_store.database.connect_reader()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.cursor().execute("DELETE FROM customers")
    connection.close()


def test_readers_of_many_threads_share_the_pool(store: Store) -> None:
    """More threads than connections wait for each other and all get their answer."""
    found: list[int] = []

    def read() -> None:
        for _ in range(20):
            found.append(len(store.load(Keys(customers=frozenset({ANN, BEN}))).customers))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [2] * 160


class Breaking:
    """Raises an error of the driver at one statement, once: the disk cannot be read or written."""

    def __init__(self, store: Store, at: str) -> None:
        self._at = at
        self._error: Exception | None = DISK_ERRORS[store.on.backend]()
        store.on_statement = self  # type: ignore[method-assign]

    def __call__(self, text: str) -> None:
        if self._error is not None and text.startswith(self._at):
            error, self._error = self._error, None
            raise error


def test_a_commit_that_failed_is_unknown_and_the_writer_recovers(store: Store) -> None:
    """The connection is replaced, the journal position read anew, and the next batch goes through."""
    store.issue(ANN, 5)
    connection = store.repository.connection()
    Breaking(store, "COMMIT")
    with pytest.raises(OutcomeUnknown):
        add_customer(store)
    store.issue(ANN, 5)

    assert store.repository.connection() is not connection
    assert store.rows("SELECT position FROM journal_streams") == [(2,)]


def test_a_lost_connection_is_replaced(store: Store) -> None:
    """Nothing was written; the next batch opens another."""
    before = store.counts()
    connection = store.repository.connection()
    Breaking(store, "INSERT INTO customers")
    with pytest.raises(StorageUnavailable):
        add_customer(store)
    assert before == store.counts()
    add_customer(store)

    assert store.repository.connection() is not connection


def test_a_connection_lost_before_it_began_is_replaced(store: Store) -> None:
    """The transaction did not even start."""
    connection = store.repository.connection()
    Breaking(store, "BEGIN")
    with pytest.raises(StorageUnavailable):
        add_customer(store)
    add_customer(store)

    assert store.repository.connection() is not connection


def test_unreadable_configuration_is_unavailable(store: Store) -> None:
    """It is told as such, not as an empty configuration."""
    Breaking(store, "SELECT config_keys")

    assert store.repository.config(ORG) == OrgConfig({}, available=False)
    assert store.repository.config(ORG).available


def test_a_running_transaction_is_not_closed_away(store: Store) -> None:
    """Closing a connection under a running statement would break SQLite: the writer has to end first."""
    with store.repository.write(ORG) as session:
        with pytest.raises(RuntimeError, match="end the writer"):
            store.repository.close()
        assert session.book().programs

    store.repository.close()
    store.open()


def statements_of_a_batch(store: Store) -> list[str]:
    """The statements of one batch, from the first to the commit."""
    store.statements.clear()
    add_customer(store)
    return list(store.statements)


def test_a_fault_at_any_statement_leaves_nothing(store: Store) -> None:
    """Each statement of a batch fails in turn; afterwards the tables are as they were."""
    statements = [text for text in statements_of_a_batch(store) if not text.startswith("BEGIN")]
    before = store.counts()
    for text in statements:
        Breaking(store, text)
        with pytest.raises((StorageUnavailable, OutcomeUnknown)):
            add_customer(store)

        assert before == store.counts(), text


CRASH = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[3])
    from stores import *
    from databases import named
    store = Store(named(sys.argv[1]), synchronous="FULL")
    def crash(text):
        if text == "COMMIT" and sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
    store.on_statement = crash
    new_id = 4711
    store.apply(
        [ev.CustomerSaved(customer(new_id, "New"), created=True), ev.Enrolled(WalletKey(new_id, 1), NOW)],
        keys=NO_KEYS,
    )
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def crashed(request: pytest.FixtureRequest, store: Store) -> Store:
    """The store after a process was killed before or after its commit."""
    store.close()
    source = Path(__file__).parents[2] / "src"
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), store.on.url, request.param, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": f"{source}:{Path(__file__).parents[1]}"},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    store.open()
    return store


@pytest.mark.parametrize("crashed", ["before"], indirect=True)
def test_a_process_killed_before_its_commit_wrote_nothing(crashed: Store) -> None:
    """Not even a part."""
    assert crashed.load(Keys(customers=frozenset({4711}))).customers == {}
    assert crashed.rows("SELECT COUNT(*) FROM wallets WHERE customer_id = 4711") == [(0,)]


@pytest.mark.parametrize("crashed", ["after"], indirect=True)
def test_a_process_killed_after_its_commit_wrote_everything(crashed: Store) -> None:
    """What was acknowledged is there."""
    loaded = crashed.load(Keys(customers=frozenset({4711})))

    assert set(loaded.customers) == {4711}
    assert set(loaded.wallets) == {WalletKey(4711, GOLD)}


def test_the_writer_says_how_durable_it_is(empty_database: Path, tmp_path: Path) -> None:
    """Read back from its own connection: WAL and FULL."""
    store = Store.copied(empty_database, tmp_path / "store.db", synchronous="FULL")

    assert store.repository.durability == sqlite.Durability("wal", "FULL")
    assert require_durable(store.database, store.repository.connection()).survives_power_loss
    store.close()


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_writer_that_may_lose_commits_is_refused(empty_database: Path, tmp_path: Path, synchronous: str) -> None:
    """Unless that was asked for."""
    store = Store.copied(empty_database, tmp_path / "store.db", synchronous=synchronous)
    assert store.repository.durability == sqlite.Durability("wal", synchronous)
    assert not store.repository.durability.survives_power_loss
    store.close()

    database = Database(f"sqlite:///{store.path}", synchronous=synchronous)
    with pytest.raises(NotDurable, match=f"synchronous={synchronous}"):
        SqlRepository(database)
    database.close()


@pytest.mark.parametrize(
    ("mode", "synchronous", "expected"),
    [
        ("wal", "FULL", True),
        ("wal", "EXTRA", True),
        ("delete", "FULL", False),
        ("wal", "NORMAL", False),
        ("memory", "OFF", False),
    ],
)
def test_what_survives_a_power_loss(mode: str, synchronous: str, *, expected: bool) -> None:
    """The journal mode that was measured, and a commit that waits for the disk."""
    assert sqlite.Durability(mode, synchronous).survives_power_loss is expected


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Told in the service's words."""
    path = tmp_path / "garbage.db"
    path.write_bytes(b"garbage" * 1_000)
    database = Database(f"sqlite:///{path}")

    with pytest.raises(StorageUnavailable):
        SqlRepository(database)
    with pytest.raises(StorageUnavailable):
        database.connect_writer()
    database.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql:///x"])
def test_only_database_files_are_served(url: str) -> None:
    """Readers and the writer share one file."""
    with pytest.raises(ValueError, match=r"file|unsupported"):
        Database(url)


def test_a_snapshot_survives_its_session(store: Store) -> None:
    """What was loaded is plain data."""
    with store.repository.read(ORG) as session:
        loaded = session.load(Keys(customers=frozenset({ANN})), session.book(), NOTHING, {})

    assert Snapshot(loaded, OrgConfig({})).customer(ANN).first_name == "Ann"
