"""The journal in partitions: made from tables that are in use, goes on by itself, and holds what it held before."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from stores import ANN, NOW, ORG, Store, fill

from databases import ATestsDatabase, PostgresDatabase, SqliteFile, on_postgres
from points_grpc.service.ids import lowest_id, made_at_ms
from points_grpc.service.ports import StorageConflict
from points_grpc.storage import partition_moving, partitioning
from points_grpc.storage.engine import Database
from points_grpc.storage.partition_moving import move_partitions
from points_grpc.storage.partitioning import TABLES, cut, make_partitions, partitions
from points_grpc.storage.verify import verify
from postgres_cluster import Cluster, OwnCluster

TODAY = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> PostgresDatabase:
    """A database with the schema and two organisations."""
    found = on_postgres(postgres)(tmp_path_factory.mktemp("unused"))
    fill(found)
    assert isinstance(found, PostgresDatabase)
    return found


@pytest.fixture
def store(filled: PostgresDatabase) -> Iterator[Store]:
    """A furnished store on a copy of it, with a lot."""
    made = Store(filled.copy())
    made.furnish()
    made.issue(ANN, 5)
    yield made
    made.close()
    made.on.drop()


def at(year: int, month: int, day: int) -> int:
    """The first id of a day."""
    return lowest_id(int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000))


def issue_at(store: Store, transaction_id: int) -> None:
    """A movement under an id."""
    store.issue(ANN, 1, transaction_id=transaction_id)


def where(store: Store, table: str = "transactions") -> dict[int, str]:
    """In which partition each transaction lies."""
    return dict(store.rows(f"SELECT transaction_id, tableoid::regclass::text FROM {table} ORDER BY 1"))


def left_behind(store: Store) -> list[str]:
    """Ends that were to be proved, and are still there."""
    found = store.rows("SELECT conname FROM pg_constraint WHERE conname LIKE ?", "until%")
    return [name for (name,) in found]


def make(store: Store, now: datetime, *, days: int = 30, ahead: int = 2) -> list[str]:
    """What was made."""
    told: list[str] = []
    make_partitions(store.database, now=now, days=days, ahead=ahead, tell=told.append)
    return told


def test_ids_tell_their_time() -> None:
    """To the millisecond."""
    assert 1_800_000_000_123 == made_at_ms(lowest_id(1_800_000_000_123))
    assert 1_800_000_000_123 == made_at_ms(lowest_id(1_800_000_000_124) - 1)


def test_what_is_there_becomes_the_first_partition(store: Store) -> None:
    """No row moves; what comes later lies in partitions of its time, and what comes after all of them in the last."""
    [(before,)] = store.rows("SELECT transaction_id FROM transactions")
    told = make(store, TODAY)
    for day in ((2027, 1, 1), (2027, 1, 2), (2030, 1, 1)):
        issue_at(store, at(*day))
    names = ["transactions_first", "transactions_first", "transactions_20270102", "transactions_20270201"]

    assert [
        "transactions: transactions_20270102 begins on 2027-01-02",
        "transactions: transactions_20270201 begins on 2027-02-01",
        "postings: postings_20270102 begins on 2027-01-02",
        "postings: postings_20270201 begins on 2027-02-01",
    ] == told
    assert dict(zip([before, at(2027, 1, 1), at(2027, 1, 2), at(2030, 1, 1)], names, strict=True)) == where(store)
    assert [name.replace("transactions", "postings") for name in names] == list(where(store, "postings").values())
    assert verify(store.database).sound


def test_made_again_it_goes_on(store: Store) -> None:
    """What is there stays; what is lacking ahead is made, also long after the last one began."""
    make(store, TODAY)
    again, later = make(store, TODAY), make(store, TODAY + timedelta(days=45))
    issue_at(store, at(2028, 5, 5))
    much_later = make(store, datetime(2028, 5, 6, tzinfo=UTC))
    issue_at(store, at(2028, 5, 7))
    found = partitions(store.database)

    assert [] == again
    assert ["transactions: transactions_20270303 begins on 2027-03-03"] == later[:1]
    assert 4 == len(later)
    assert [
        "transactions: transactions_20280625 begins on 2028-06-25",
        "transactions: transactions_20280725 begins on 2028-07-25",
    ] == much_later[:2]
    assert {"transactions_20270402"} == {where(store)[at(2028, 5, day)] for day in (5, 7)}
    assert [
        ("transactions_first", None, at(2027, 1, 2)),
        ("transactions_20270102", at(2027, 1, 2), at(2027, 2, 1)),
        ("transactions_20270201", at(2027, 2, 1), at(2027, 3, 3)),
        ("transactions_20270303", at(2027, 3, 3), at(2027, 4, 2)),
        ("transactions_20270402", at(2027, 4, 2), at(2028, 6, 25)),
        ("transactions_20280625", at(2028, 6, 25), at(2028, 7, 25)),
        ("transactions_20280725", at(2028, 7, 25), None),
    ] == [(one.name, one.from_id, one.until_id) for one in found if one.table == "transactions"]
    assert verify(store.database).sound


def test_a_run_that_was_killed_is_finished_by_the_next(store: Store) -> None:
    """Whether it had got to prove an end of the table, of another day or not, or had done one of the tables."""
    bound = at(2027, 1, 2)
    store.on.change(f"ALTER TABLE transactions ADD CONSTRAINT until_{bound} CHECK (transaction_id < {bound}) NOT VALID")
    store.on.change("ALTER TABLE postings ADD CONSTRAINT until_7 CHECK (transaction_id < 7) NOT VALID")
    make(store, TODAY)
    store.issue(ANN, 1)

    assert [] == left_behind(store)
    assert 3 * len(TABLES) == len(partitions(store.database))
    assert verify(store.database).sound


def test_rows_beyond_an_end_stop_it(store: Store) -> None:
    """It says so, changes nothing, and leaves nothing behind that a write could meet."""
    issue_at(store, at(2027, 1, 1))
    with pytest.raises(ValueError, match="transactions has rows beyond that end"):
        cut(store.database, "transactions", at(2026, 12, 1))
    issue_at(store, at(2027, 1, 3))
    cut(store.database, "transactions", at(2027, 2, 1))
    with pytest.raises(ValueError, match="has a partition from"):
        cut(store.database, "transactions", at(2027, 2, 1))

    assert [] == left_behind(store)
    assert {"transactions_first"} == set(where(store).values())


def test_who_stands_in_the_way_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for ever; then nothing has changed. Who reads on sees what was there when he began."""
    monkeypatch.setattr(partitioning, "PAUSE_S", 0.01)
    monkeypatch.setattr(partitioning, "LOCK_WAIT_MS", 20)
    with store.connection() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        before = connection.execute("SELECT COUNT(*) FROM postings").fetchall()
        monkeypatch.setattr(partitioning, "ATTEMPTS", 2)
        with pytest.raises(StorageConflict):
            cut(store.database, "postings", at(2027, 1, 2))
        monkeypatch.setattr(partitioning, "ATTEMPTS", 10_000)
        waiting = threading.Thread(target=cut, args=(store.database, "postings", at(2027, 1, 2)))
        waiting.start()
        store.issue(ANN, 1)
        after = connection.execute("SELECT COUNT(*) FROM postings").fetchall()
        connection.execute("COMMIT")
        waiting.join(60)

    assert before == after
    assert ["postings_first", "postings_20270102"] == [
        one.name for one in partitions(store.database) if one.table == "postings"
    ]


def test_one_at_a_time(store: Store) -> None:
    """A second run is told of the first."""
    with store.connection() as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", partitioning.LOCK)
        with pytest.raises(ValueError, match="somebody else"):
            make(store, TODAY)


def test_keys_hold_over_partitions(store: Store) -> None:
    """An id is there once; a place in a stream once in each partition, and `verify` finds it in two."""
    make(store, TODAY)
    issue_at(store, at(2027, 1, 3))
    copied = "INSERT INTO transactions SELECT org_id, {}, stream, position, kind, created_at, customer_id,"
    copied += " counterparty_id, program_id, points, request_id, actor, notes, policy_revision, transaction_number,"
    copied += f" hash, notes_hash, notes_salt FROM transactions WHERE transaction_id = {at(2027, 1, 3)}"
    for number in (at(2027, 1, 3), at(2027, 1, 4)):
        with pytest.raises(psycopg.errors.UniqueViolation):
            store.on.change(copied.format(number))
    sound = verify(store.database).sound
    store.on.change(copied.format(at(2027, 2, 3)))
    found = {one.invariant for one in verify(store.database).differences}

    assert sound
    assert {"stream_positions", "stream_ends"} <= found


def test_owner_and_grants_stay(store: Store) -> None:
    """Who could write the tables still can, and needs nothing more."""
    with store.connection() as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE teller; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        connection.execute("GRANT SELECT, INSERT ON transactions, postings TO teller")
    make(store, TODAY)
    with store.connection() as connection:
        connection.execute("SET ROLE teller")
        read = connection.execute("SELECT COUNT(*) FROM postings").fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM postings")
    store.on.change("DROP OWNED BY teller")
    owners = store.rows("SELECT DISTINCT relowner FROM pg_class WHERE relname LIKE ?", "%transactions%")

    assert [(2,)] == read
    assert 1 == len(owners)


def test_the_newest_are_found_without_the_oldest(store: Store) -> None:
    """A customer's page is read from the newest partition on, and goes no further back than it must."""
    make(store, TODAY)
    for day in range(2, 32):
        issue_at(store, at(2027, 1, day))
    with closing(Database(store.on.url)) as database, closing(database.connect_reader()) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT transaction_id FROM postings"
            f" WHERE org_id = {ORG} AND customer_id = {ANN} AND customer_id IS NOT NULL AND transaction_id < {2**62}"
            " ORDER BY transaction_id DESC LIMIT 10"
        )
        plan = [line for (line,) in cursor.fetchall()]
        connection.rollback()

    assert [] == [line for line in plan if "Sort" in line or "Merge" in line], plan
    assert any("on postings_first" in line and "never executed" in line for line in plan), plan


@pytest.fixture
def own_cluster() -> Iterator[OwnCluster]:
    """A server with a folder of its own."""
    made = OwnCluster()
    yield made
    made.close()


@pytest.fixture
def slow(own_cluster: OwnCluster, tmp_path: Path) -> Iterator[Store]:
    """A furnished store with a lot and three partitions of each table, and a tablespace of that name."""
    folder = own_cluster.folder / "slow"
    folder.mkdir()
    shutil.chown(folder, own_cluster.data.owner(), own_cluster.data.group())
    made = Store(fill(on_postgres(own_cluster)(tmp_path)))
    made.on.change(f"CREATE TABLESPACE slow LOCATION '{folder}'")
    made.furnish()
    made.issue(ANN, 5)
    make(made, TODAY)
    yield made
    made.close()


def indexes(store: Store) -> list[str]:
    """Of all tables, and of what they are parts."""
    return sorted(
        f"{row}"
        for row in store.rows(
            "SELECT indexdef, inhparent::regclass::text FROM pg_indexes"
            " LEFT JOIN pg_inherits ON inhrelid = indexname::regclass WHERE schemaname = 'public'"
        )
    )


def move(store: Store, now: datetime, tell: Callable[[str], None] = lambda _: None) -> int:
    """Moves what ended ten days ago."""
    return move_partitions(store.database, ended_before=now - timedelta(days=10), now=now, tablespace="slow", tell=tell)


@pytest.mark.ci
def test_old_partitions_on_a_slower_disk(slow: Store, own_cluster: OwnCluster, tmp_path: Path) -> None:
    """Those whose time is over, with indexes, once; all is as it was, in a dump and its restore as well."""
    issue_at(slow, at(2027, 1, 3))
    before, rows = indexes(slow), [where(slow), where(slow, "postings")]
    counts = [move(slow, day) for day in (TODAY, datetime(2027, 1, 13, tzinfo=UTC), datetime(2027, 1, 14, tzinfo=UTC))]
    issue_at(slow, at(2026, 12, 1))
    found, after, rows_after = partitions(slow.database), indexes(slow), [where(slow), where(slow, "postings")]
    elsewhere = slow.rows(
        "SELECT relname FROM pg_class JOIN pg_tablespace ON pg_tablespace.oid = reltablespace"
        " WHERE spcname = 'slow' AND relkind = 'i' AND relname NOT LIKE 'pg_toast%' ORDER BY 1"
    )
    sound = verify(slow.database).sound
    restored = dumped(own_cluster, slow.on, tmp_path / "points.dump")
    with closing(Database(restored.url)) as database:
        found_again, sound_again = partitions(database), verify(database).sound

    assert [0, 2, 0] == counts
    assert ["transactions_first", "postings_first"] == [one.name for one in found if one.tablespace == "slow"]
    assert 6 == len(elsewhere), elsewhere
    assert before == after
    assert rows == [{k: v for k, v in one.items() if k != at(2026, 12, 1)} for one in rows_after]
    assert [(one.name, one.until_id) for one in found] == [(one.name, one.until_id) for one in found_again]
    assert (True, True) == (sound, sound_again)


@pytest.mark.ci
def test_the_tablespace_of_the_database(slow: Store, own_cluster: OwnCluster) -> None:
    """What names no tablespace lies in that of the database, wherever that is."""
    assert isinstance(slow.on, PostgresDatabase)
    name, later = f"{slow.on.name}_slow", datetime(2027, 6, 1, tzinfo=UTC)
    slow.close()
    with own_cluster.connection() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {slow.on.name} TABLESPACE slow")
    with closing(Database(own_cluster.database(name))) as database:
        places = {one.tablespace for one in partitions(database)}
        stay = move_partitions(database, ended_before=later, now=later, tablespace="slow")
        away = move_partitions(database, ended_before=later, now=later, tablespace="pg_default")
        again = move_partitions(database, ended_before=later, now=later, tablespace="pg_default")

    assert ({"slow"}, 0, 4, 0) == (places, stay, away, again)


@pytest.mark.ci
def test_what_changes_while_it_is_copied(slow: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes that are erased meanwhile are so in the copy; what a killed run left is removed, and nothing is left."""

    def left() -> list[str]:
        return [name for name in slow.counts() if name.endswith(("_copy", "_changes"))]

    noted = "UPDATE transactions SET notes = ?, notes_salt = ?, notes_hash = ? WHERE notes = ?"
    slow.on.change(noted, "secret", b"salt", b"hash", "")
    later = datetime(2027, 6, 1, tzinfo=UTC)

    def killed(_: str) -> None:
        raise InterruptedError

    def erase(_: str) -> None:
        slow.on.change("UPDATE transactions SET notes = '', notes_salt = NULL")

    with pytest.raises(InterruptedError):
        move(slow, later, killed)
    left_by_failure = left()
    with monkeypatch.context() as patched:
        patched.setattr(partition_moving, "_forget", lambda *_: None)
        with pytest.raises(InterruptedError):
            move(slow, later, killed)
    left_by_kill = left()
    while_left = slow.rows("SELECT notes FROM transactions")
    count = move(slow, later, erase)
    triggers = slow.rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")

    assert [("secret",)] == while_left
    assert 4 == count
    assert [("", None)] == slow.rows("SELECT notes, notes_salt FROM transactions")
    assert ([], ["transactions_first_changes", "transactions_first_copy"]) == (left_by_failure, left_by_kill)
    assert ([], []) == (left(), triggers)
    with pytest.raises(ValueError, match="no tablespace fast"):
        move_partitions(slow.database, ended_before=later, now=later, tablespace="fast")


def dumped(cluster: OwnCluster, on: ATestsDatabase, file: Path) -> PostgresDatabase:
    """The database, from a dump of it."""
    assert isinstance(on, PostgresDatabase)
    restored = PostgresDatabase(cluster, cluster.create("template0"))
    cluster.run("pg_dump", "--format=custom", f"--file={file}", on.name)
    cluster.run("pg_restore", "--exit-on-error", f"--dbname={restored.name}", file)
    return restored


def test_sqlite_is_one_file(empty_file: SqliteFile) -> None:
    """And is told so."""
    with closing(Database(empty_file.url)) as database, pytest.raises(ValueError, match="for PostgreSQL"):
        make_partitions(database, now=NOW, days=30, ahead=1)
