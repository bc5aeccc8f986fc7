"""What keeps a database in bounds runs while a server serves: no call fails, nothing is lost, the books stay right."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from shop import verify
from test_backup import Bank, points_grpc, recorded

from databases import NewDatabase, PostgresDatabase
from points_grpc.service.ids import lowest_id
from points_grpc.storage.engine import Database
from points_grpc.storage.partitioning import TABLES, cut
from points_grpc.storage.retention import STEP
from postgres_cluster import Cluster, OwnCluster

DAY_MS = 86_400_000


@pytest.mark.ci
def test_partitions_are_made_while_a_server_serves(tmp_path: Path, postgres: Cluster) -> None:
    """The first run waits for somebody who reads for long, and callers do not; every call is answered with OK."""
    on = PostgresDatabase(postgres, postgres.create())
    bank = Bank(tmp_path, on)

    def make(ahead: int) -> tuple[int, str]:
        return points_grpc("partitions", "make", "--ahead", str(ahead), "--database", on.url)

    with bank.load(), ThreadPoolExecutor(1) as aside:
        bank.wait_for(20)
        with on.connection() as reader:
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            before = reader.execute("SELECT COUNT(*) FROM postings").fetchall()
            first = aside.submit(make, 1)
            bank.wait_for(40)
            after = reader.execute("SELECT COUNT(*) FROM postings").fetchall()
            reader.execute("COMMIT")
        runs = [first.result()]
        for ahead in (3, 6):
            bank.wait_for(20)
            runs.append(make(ahead))
        bank.wait_for(20)
    books, code = verify(bank.server), bank.server.stop()
    again = make(6)
    parts = on.rows("SELECT relid::text FROM pg_partition_tree('transactions') WHERE isleaf")
    kept = recorded(on)
    on.drop()

    assert [0, 0, 0] == [code for code, _ in runs], runs
    assert (0, "partitions: OK") == again
    assert 7 <= len(parts) <= 8, parts
    assert before == after
    assert {f"bank-{number}" for number in range(len(bank.acknowledged))} == set(bank.acknowledged) == kept
    assert ("verify: OK", 0) == (books, code)


@pytest.mark.long
def test_old_rows_go_while_a_server_serves(tmp_path: Path, new_database: NewDatabase) -> None:
    """In several steps, beside a writer that commits all the time."""
    on = new_database(tmp_path)
    bank = Bank(tmp_path, on)
    refused = "INSERT INTO requests VALUES (1, ?, 'SetPause', 'k1', '{}', 0, '{}', NULL, ?, NULL)"
    on.change_all([(refused, (f"old-{number}", number)) for number in range(2 * STEP + 1)])
    with bank.load():
        bank.wait_for(20)
        code, said = points_grpc("retention", "--apply", "--database", on.url)
        bank.wait_for(20)
    books, stopped = verify(bank.server), bank.server.stop()
    left = on.rows("SELECT COUNT(*) FROM requests WHERE request_id LIKE ?", "old-%")
    kept = recorded(on)
    on.drop()

    assert (0, f"  1  refusals     {2 * STEP + 1}") == (code, said.splitlines()[-1])
    assert [(0,)] == left
    assert {f"bank-{number}" for number in range(len(bank.acknowledged))} == set(bank.acknowledged) == kept
    assert ("verify: OK", 0) == (books, stopped)


@pytest.fixture
def own_cluster() -> Iterator[OwnCluster]:
    """A server with a tablespace `slow`."""
    made = OwnCluster()
    folder = made.folder / "slow"
    folder.mkdir()
    shutil.chown(folder, made.data.owner(), made.data.group())
    with made.connection() as connection:
        connection.execute(f"CREATE TABLESPACE slow LOCATION '{folder}'")
    yield made
    made.close()


@pytest.mark.long
def test_a_partition_is_moved_while_a_server_serves(tmp_path: Path, own_cluster: OwnCluster) -> None:
    """The copy takes its place between two calls."""
    on = PostgresDatabase(own_cluster, own_cluster.create())
    bank = Bank(tmp_path, on)
    three_days_ago = lowest_id(int(time.time() * 1000) - 3 * DAY_MS)
    on.change("CREATE TABLE kept AS TABLE postings")
    for table in TABLES:  # as if what there is had been written four days ago
        shift = f"transaction_id = transaction_id - {4 * DAY_MS << 22}"
        on.change(f"UPDATE {table} SET {shift}")
    with closing(Database(on.url)) as database:
        for table in TABLES:
            cut(database, table, three_days_ago)
    with bank.load():
        bank.wait_for(20)
        moved = points_grpc("partitions", "move", "slow", "--older-than", "1", "--database", on.url)
        bank.wait_for(20)
    bank.server.stop()
    [(rows,)] = on.rows("SELECT COUNT(*) FROM postings_first")
    [(before,)] = on.rows("SELECT COUNT(*) FROM kept")
    kept = recorded(on)

    assert (0, "partitions: 2 moved") == (moved[0], moved[1].splitlines()[-1]), moved
    assert 0 < before == rows
    assert {f"bank-{number}" for number in range(len(bank.acknowledged))} == set(bank.acknowledged) == kept
