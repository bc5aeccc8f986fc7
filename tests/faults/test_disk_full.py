"""The disk of the database fills up under load: refusals that say so, nothing lost, and no restart afterwards."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import pytest
from bent import COMPILER, BentDisk, Disk, SmallDisk, may_mount
from loads import Record, judge, load, until
from psycopg import sql
from shop import PROGRAM, Shop

from databases import ATestsDatabase, PostgresDatabase, SqliteFile
from points_grpc.storage.migrate import upgrade
from points_grpc.v1 import wallet_service_pb2
from postgres_cluster import OwnCluster
from running import Caller, RunningServer

DISKS: Mapping[str, Callable[[int], Disk]] = {
    **({"mounted": SmallDisk} if may_mount() else {}),
    **({"bent": BentDisk} if COMPILER else {}),
}
"""What can be filled here: a disk of our own, for who may mount one; else what looks like one to the service. The short
form takes the first."""

SIZE_MIB = 128
CUSTOMERS = 60
LOTS = (20_000, 20_000)
BEFORE, AFTER = 200, 200
REFUSED = 40
"""How many calls are told of the full disk, at least."""

FULL = {"RESOURCE_EXHAUSTED"}

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.long] if place else []) for place, name in enumerate(DISKS)]
)
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk that is not full yet."""
    made = DISKS[request.param](SIZE_MIB)
    yield made
    made.close()


def started(folder: Path, on: ATestsDatabase, environment: Mapping[str, str]) -> tuple[RunningServer, Shop]:
    """A server on a database, and customers with points."""
    server = RunningServer(folder, environment={**os.environ, **environment}, on=on)
    token = server.key(server.organisation())
    shop = Shop(server.start(), token)
    shop.add_customers(CUSTOMERS, LOTS)
    return server, shop


def is_read(server: RunningServer, shop: Shop) -> bool:
    """Whether a wallet can be read."""
    caller = Caller(server.address, shop.token)
    fields = {"customerIdentifier": {"type": "ID", "value": str(shop.customers[0])}, "programId": str(PROGRAM)}
    try:
        answer = caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), fields)
        return bool(answer.wallet.wallet_version)
    except grpc.RpcError:
        return False
    finally:
        caller.close()


def was_unable(server: RunningServer) -> set[str]:
    """Why writers could not start. One may: its lease is small, and fits where a commit was cut that was too large."""
    return {one["error"] for one in server.events("writer_not_started")}


def has_another_writer(server: RunningServer) -> bool:
    """Whether a second writer has started."""
    return len(server.events("writer_started")) > 1


def test_there_is_a_disk_that_can_be_filled() -> None:
    """By a mount or by a compiler."""
    assert DISKS


@pytest.mark.parametrize(
    "kills", [pytest.param(False, marks=pytest.mark.long, id="alone"), pytest.param(True, id="and the writer dies")]
)
def test_sqlite(disk: Disk, tmp_path: Path, record_property: Record, kills: bool) -> None:
    """Callers are told that storage is full; reads go on, and so do writes once there is room, whoever died by then."""
    server, shop = started(tmp_path, SqliteFile(disk.folder / "points.db"), disk.environment)
    try:
        work = load(server, shop, seed=random.randrange(10**9), refusals=FULL)
        with work.running() as wait:
            wait(BEFORE)
            disk.fill()
            was_told = until(lambda: work.told("RESOURCE_EXHAUSTED") >= REFUSED)
            reads = is_read(server, shop)
            if kills:
                server.kill_writer()
                assert until(lambda: bool(was_unable(server) or has_another_writer(server)))
            acknowledged_while_full = work.acknowledged
            disk.clear()
            wait(AFTER)
        unable = was_unable(server)
        judge(server, shop, work, server.on, record_property)
        record_property("figure.told that the disk is full", work.told("RESOURCE_EXHAUSTED"))

        assert was_told
        assert reads
        assert acknowledged_while_full >= BEFORE
        assert unable <= {"the disk of the database is full"}
        assert kills or not unable
        assert kills == has_another_writer(server)
        assert [] == server.events("bug")
        assert 0 == server.stop()
    finally:
        server.close()


@pytest.mark.long
def test_postgresql(disk: Disk, tmp_path: Path, record_property: Record) -> None:
    """The same where the tables of PostgreSQL have no room."""
    cluster = OwnCluster(environment=disk.environment)
    try:
        server, shop = started(tmp_path, on_a_disk(cluster, disk.folder), {})
        try:
            work = load(server, shop, seed=random.randrange(10**9), refusals=FULL)
            with work.running() as wait:
                wait(BEFORE)
                disk.fill()
                was_told = until(lambda: work.told("RESOURCE_EXHAUSTED") >= REFUSED)
                reads = is_read(server, shop)
                disk.clear()
                wait(AFTER)
            judge(server, shop, work, server.on, record_property)
            record_property("figure.told that the disk is full", work.told("RESOURCE_EXHAUSTED"))

            assert was_told
            assert reads
            assert 0 == server.stop()
        finally:
            server.close()
    finally:
        cluster.close()


def on_a_disk(cluster: OwnCluster, folder: Path) -> PostgresDatabase:
    """A database whose tables are in a folder, as their log is not."""
    place = folder / "tables"
    place.mkdir()
    os.chown(place, cluster.data.stat().st_uid, -1)
    name = "points_on_a_small_disk"
    with cluster.connection() as connection:
        connection.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(place))))
        connection.execute(sql.SQL("CREATE DATABASE {} TABLESPACE small").format(sql.Identifier(name)))
    database = PostgresDatabase(cluster, name)
    upgrade(database.url)
    return database
