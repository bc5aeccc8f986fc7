"""Two servers on one PostgreSQL, each with a writer of its own; and a writer that lost its slot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from databases import PostgresDatabase, on_postgres
from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import catalog_service_pb2, points_service_pb2, wallet_service_pb2
from postgres_cluster import Cluster
from running import Caller, RunningServer

BACK_S = 20.0
GIVER, TAKER = ({"type": "ID", "value": one} for one in ("565039505", "565039506"))


@pytest.fixture
def servers(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    """Two servers on one database, with one file of keys."""
    first = tmp_path_factory.mktemp("first")
    database = on_postgres(postgres)(first)
    started = [RunningServer(first, "--dev", on=database)]
    started[0].start()
    second = RunningServer(tmp_path_factory.mktemp("second"), "--keys-file", str(started[0].keys), on=database)
    started.append(second.start())
    yield started
    for one in started:
        one.close()
    database.drop()


def transfer(caller: Caller, request_id: str) -> Any:
    """Transfers a point; asks again while nothing can be written, which the request id makes harmless."""
    fields = {
        "pointsToBeTransferred": 1,
        "programId": 973,
        "fromCustomerIdentifier": GIVER,
        "toCustomerIdentifier": TAKER,
        "requestId": request_id,
    }
    until = time.monotonic() + BACK_S
    while True:
        try:
            return caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                raise
            time.sleep(0.05)


def left(caller: Caller) -> int:
    """What the giver still has."""
    answer = caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), {"customerIdentifier": GIVER})
    return int(answer.wallet.current)


@pytest.mark.ci
def test_two_servers_and_a_lost_slot(servers: list[RunningServer]) -> None:
    """Two servers write one database under slots of their own; one whose slot was taken starts another writer."""
    callers = [Caller(one.address, servers[0].token) for one in servers]
    before = left(callers[0])
    for number in range(6):
        transfer(callers[number % 2], f"both-{number}")
    between = [left(one) for one in callers]
    slots = [one.events("writer_started", least=1)[-1]["slot"] for one in servers]
    old_pid = servers[1].writer_pid()
    on = servers[0].on
    assert isinstance(on, PostgresDatabase)
    on.change("UPDATE writer_slots SET epoch = epoch + 1 WHERE slot = ?", slots[1])
    made = [transfer(callers[1], "after") for _ in range(2)]
    info = callers[1].ask(callers[1].catalog.GetServerInfo, catalog_service_pb2.GetServerInfoRequest(), {})
    told = servers[1].events("writer_unable", least=1)
    started = servers[1].events("writer_started", least=2)
    after = left(callers[0])
    for one in callers:
        one.close()
    codes = [one.stop() for one in servers]
    with_database = Database(on.url)
    report = verify(with_database)
    with_database.close()

    assert [0, 1] == sorted(slots)
    assert [before - 6] * 2 == between
    assert before - 7 == after
    assert made[0].data[0].transfer_id == made[1].data[0].transfer_id
    assert ["the lease of the writer slot was lost"] == [one["error"] for one in told]
    assert 2 == len(started)
    assert (slots[1], old_pid) != (started[1]["slot"], started[1]["pid"])
    assert "postgresql" == info.durability.backend
    assert [0, 0] == codes
    assert report.sound, report.differences
