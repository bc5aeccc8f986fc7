"""Two servers on one PostgreSQL are restarted in rotation under load: no call of the shipped client fails."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from shop import PROGRAM, Shop

from databases import PostgresDatabase
from points_grpc.client import PointsClient, PointsError
from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import common_pb2, points_service_pb2
from postgres_cluster import Cluster
from running import RunningServer

TILLS = 8
CALLS_BETWEEN = 40
"""So many calls are answered between two restarts, at least."""

PATIENCE_S = 60.0


class Till(threading.Thread):
    """Transfers one point after another with the shipped client, which is told of both servers."""

    def __init__(self, address: str, token: str, source: int, destination: int) -> None:
        super().__init__(daemon=True)
        self._client = PointsClient(address, token, timeout_s=PATIENCE_S)
        self._source, self._destination = str(source), str(destination)
        self.ending = threading.Event()
        self.acknowledged: list[str] = []
        self.failed: list[PointsError] = []
        self.slowest_s = 0.0

    def run(self) -> None:
        with self._client as points:
            while not self.ending.is_set():
                request = self._request()
                started = time.monotonic()
                try:
                    points.transfer_points(request)
                except PointsError as error:
                    self.failed.append(error)
                else:
                    self.acknowledged.append(request.request_id)
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def _request(self) -> points_service_pb2.TransferPointsRequest:
        return points_service_pb2.TransferPointsRequest(
            points_to_be_transferred=1,
            program_id=PROGRAM,
            from_customer_identifier=identifier(self._source),
            to_customer_identifier=identifier(self._destination),
            request_id=uuid.uuid4().hex,
        )


def identifier(customer_id: str) -> common_pb2.CustomerIdentifier:
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=customer_id)


def restart_in_rotation(
    folder: Path, postgres: Cluster, restarts: int, record_property: Callable[[str, object], None]
) -> None:
    """Restarts two servers in turn while tills are at work, then settles what was acknowledged with the journal."""
    on = PostgresDatabase(postgres, postgres.create())
    keys = ("--keys-file", str(folder / "keys.json"))
    servers = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        servers.append(RunningServer(folder / name, *keys, on=on))
    token = servers[0].key(servers[0].organisation())
    with ExitStack() as ends:
        for server in servers:
            ends.callback(server.close)
            server.start()
        customers = Shop(servers[0], token).add_customers(TILLS, lots=[100_000])
        ports = [f"127.0.0.1:{server.port}" for server in servers]
        addresses = [f"ipv4:{','.join(ports)}", f"ipv4:{','.join(reversed(ports))}"]
        tills = [
            Till(addresses[place % 2], token, customers[place], customers[(place + 1) % TILLS])
            for place in range(TILLS)
        ]
        for till in tills:
            ends.callback(till.ending.set)
            till.start()
        wait_for_calls(tills, CALLS_BETWEEN)
        for number in range(restarts):
            server = servers[number % 2]
            assert 0 == server.stop(), server.errors()[-2000:]
            wait_for_calls(tills, CALLS_BETWEEN)  # by the other one
            server.start()
            wait_for_calls(tills, CALLS_BETWEEN)
        for till in tills:
            till.ending.set()
        for till in tills:
            till.join(PATIENCE_S)

        record_property("figure.restarts", restarts)
        record_property("figure.failed calls at restarts", sum(len(till.failed) for till in tills))

        assert [] == [str(error) for till in tills for error in till.failed]
        written = [one for (one,) in on.rows("SELECT request_id FROM transactions WHERE kind = 2")]
        acknowledged = [one for till in tills for one in till.acknowledged]
        assert sorted(acknowledged) == sorted(written)
        database = Database(on.url)
        ends.callback(database.close)
        assert [] == verify(database).differences
    slowest_s = max(till.slowest_s for till in tills)
    calls = f"{len(acknowledged)} calls, 0 failed, the slowest took {slowest_s:.1f} s"
    record_property("summary", f"rolling restart: {restarts} restarts, {calls}")


def wait_for_calls(tills: list[Till], more: int) -> None:
    """Until so many calls more were answered."""
    wanted = sum(len(till.acknowledged) for till in tills) + more
    until = time.monotonic() + PATIENCE_S
    while sum(len(till.acknowledged) for till in tills) < wanted:
        assert [] == [str(error) for till in tills for error in till.failed]
        assert time.monotonic() < until, "nobody is answered any more"
        time.sleep(0.02)


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_five_restarts(tmp_path: Path, postgres: Cluster, record_property: Callable[[str, object], None]) -> None:
    """The form for CI: no call fails, and each acknowledged transfer is in the journal once."""
    restart_in_rotation(tmp_path, postgres, 5, record_property)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_restarts(tmp_path: Path, postgres: Cluster, record_property: Callable[[str, object], None]) -> None:
    """The long form; POINTS_RESTARTS asks for another number."""
    restart_in_rotation(tmp_path, postgres, int(os.environ.get("POINTS_RESTARTS", "100")), record_property)
