"""Several servers on one PostgreSQL: they share customers, survive the database, and write nothing once late."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from databases import PostgresDatabase
from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import catalog_service_pb2, issuance_service_pb2, points_service_pb2, wallet_service_pb2
from postgres_cluster import OwnCluster
from running import Caller, Details, RunningServer, refused

pytestmark = pytest.mark.ci  # it takes long

PROGRAM = 973
ANN, BEN = "565039505", "565039506"

_request_ids = itertools.count(1)


class Servers:
    """Servers with one file of keys, on one database of a cluster that a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = OwnCluster()
        self.on = PostgresDatabase(self.cluster, self.cluster.create())
        self.running: list[RunningServer] = []

    def start(self, *arguments: str) -> RunningServer:
        """Starts one more."""
        folder = self.folder / f"server-{len(self.running)}"
        folder.mkdir()
        shared = ("--keys-file", str(self.folder / "keys.json"))
        server = RunningServer(folder, *shared, *arguments, on=self.on)
        self.running.append(server)
        return server.start()

    def close(self) -> None:
        """Ends everything."""
        for one in self.running:
            one.close()
        self.cluster.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("servers"))
    made.start("--dev")
    made.start()
    yield made
    database = Database(made.on.url)
    assert [] == verify(database).differences
    database.close()
    made.close()


def callers(servers: Servers) -> list[Caller]:
    """One for each server, with the key of the first."""
    return [Caller(one.address, servers.running[0].token) for one in servers.running]


def issue(caller: Caller, points: int) -> None:
    fields = {"customerIdentifier": {"type": "ID", "value": ANN}, "points": points, "source": "LOYALTY_PLUS"}
    fields["requestId"] = f"issue-{next(_request_ids)}"
    caller.ask(caller.issuance.IssuePoints, issuance_service_pb2.IssuePointsRequest(), fields)


def current(caller: Caller, customer: str) -> int:
    fields = {"customerIdentifier": {"type": "ID", "value": customer}, "programId": PROGRAM}
    answer = caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), fields)
    return int(answer.wallet.current)


def test_servers_share_what_they_write(servers: Servers) -> None:
    """Each has a slot of its own, and sees what the other wrote at once."""
    first, second = callers(servers)
    before = current(first, ANN)
    issue(first, 30)
    issue(second, 12)

    assert before + 42 == current(first, ANN) == current(second, ANN)
    assert [(0,), (1,)] == servers.on.rows("SELECT slot FROM writer_slots ORDER BY slot")


def test_same_request_through_both_has_one_effect(servers: Servers) -> None:
    """The second server answers as the first did."""
    first, second = callers(servers)
    fields = {
        "pointsToBeTransferred": 7,
        "programId": PROGRAM,
        "fromCustomerIdentifier": {"type": "ID", "value": ANN},
        "toCustomerIdentifier": {"type": "ID", "value": BEN},
        "requestId": "through-both",
    }
    before = current(first, BEN)
    answers = [
        one.ask(one.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields)
        for one in (first, second)
    ]

    assert [False, True] == [one.replayed for one in answers]
    assert before + 7 == current(second, BEN)


def test_durability_is_told(servers: Servers) -> None:
    """What the writer's connection says of its commits."""
    [first, *_] = callers(servers)
    info = first.ask(first.catalog.GetServerInfo, catalog_service_pb2.GetServerInfoRequest(), {})

    assert ("postgresql", True) == (info.durability.backend, info.durability.durable)
    assert {"synchronous_commit": "on", "fsync": "on", "full_page_writes": "on"} == dict(info.durability.settings)


def test_servers_survive_the_database(servers: Servers) -> None:
    """It is killed and comes back: callers are told that nothing was written, and then go on, without a restart."""
    first, second = callers(servers)
    issue(first, 5)
    before = current(second, ANN)
    servers.cluster.kill()
    for one in (first, second):
        with refused() as found:
            issue(one, 1_000_000)
        assert grpc.StatusCode.UNAVAILABLE is found[0].code
    servers.cluster.start()
    started = time.monotonic()
    for one in (first, second):
        while time.monotonic() < started + 3:
            try:
                issue(one, 1)
                break
            except grpc.RpcError:
                time.sleep(0.02)

    assert before + 2 == current(first, ANN) == current(second, ANN)


def test_server_that_stood_still_writes_nothing(servers: Servers) -> None:
    """It is stopped past its lease, both processes of it, and another takes its slot: what it then does is refused."""
    late = servers.running[1]
    assert late.process is not None
    pids = (late.process.pid, late.writer_pid())
    found: list[Details] = []

    def issue_late() -> None:
        with refused() as refusals:
            issue(second, 1_000_000)
        found.extend(refusals)

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        servers.on.change("UPDATE writer_slots SET expires_at = 0 WHERE slot = 1")
        taker = servers.start()
    finally:
        os.kill(pids[0], signal.SIGCONT)
    first, second, third = callers(servers)
    before = current(first, ANN)
    waiting = threading.Thread(target=issue_late)
    waiting.start()
    time.sleep(0.3)  # it is on its way to the writer, which still believes that the slot is its own
    os.kill(pids[1], signal.SIGCONT)
    waiting.join()
    issue(third, 1)

    assert [grpc.StatusCode.UNAVAILABLE] == [one.code for one in found]
    assert before + 1 == current(first, ANN)
    assert [(1, 2)] == servers.on.rows("SELECT slot, epoch FROM writer_slots WHERE slot = 1")
    assert 0 == taker.stop()
