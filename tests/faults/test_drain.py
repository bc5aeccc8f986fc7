"""SIGTERM under load: whoever has a call in flight is told what became of it, by a status that the tables know."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from shop import Judge, Shop, transfer_fields, verify

from points_grpc.v1 import points_service_pb2 as pb
from running import Caller, Details, RunningServer

CALLERS = 64
CHANNELS = 8
CALLS_BEFORE = 500
GRACE_S = 0.3


class Till(threading.Thread):
    """Transfers one point after another, each with a request id of its own, until it is told anything but OK."""

    def __init__(self, number: int, caller: Caller, customers: list[int]) -> None:
        super().__init__(daemon=True)
        self._caller = caller
        self._number = number
        self._source, self._destination = customers[number], customers[(number + 1) % CALLERS]
        self.acknowledged: list[str] = []
        self.last = ""
        self.told: Details | None = None

    def run(self) -> None:
        while self.told is None:
            self.last = f"till-{self._number}-{len(self.acknowledged)}"
            try:
                self.transfer(self.last)
            except grpc.RpcError as error:
                self.told = Details(error)
            else:
                self.acknowledged.append(self.last)

    def transfer(self, request_id: str) -> pb.TransferPointsResponse:
        """Transfers one point."""
        fields = transfer_fields(self._source, self._destination, 1, request_id)
        request = ParseDict(fields, pb.TransferPointsRequest())
        points = self._caller.points
        answer: pb.TransferPointsResponse = points.TransferPoints(request, metadata=self._caller.metadata, timeout=20)
        return answer

    @property
    def heard(self) -> tuple[grpc.StatusCode, int, str]:
        """Status, number and cause or outcome of what ended it; number 0 where there were no details."""
        assert self.told is not None, "ended"
        metadata = self.told.info.metadata
        number = self.told.number if self.told.payload.errors else 0
        return self.told.code, number, metadata.get("cause") or metadata.get("outcome", "")


@contextmanager
def open_tills(folder: Path, **environment: str) -> Iterator[tuple[RunningServer, list[Till]]]:
    """A server and as many tills as there are callers, on some channels."""
    server = RunningServer(folder, environment=environment)
    token = server.key(server.organisation())
    callers: list[Caller] = []
    try:
        server.start()
        customers = Shop(server, token).add_customers(CALLERS, lots=[100_000])
        callers += [Caller(server.address, token) for _ in range(CHANNELS)]
        yield server, [Till(number, callers[number % CHANNELS], customers) for number in range(CALLERS)]
    finally:
        for caller in callers:
            caller.close()
        server.close()


def settle(server: RunningServer, tills: list[Till]) -> list[bool]:
    """Starts the server again and sends the last request of each till once more; whether it had been carried out."""
    server.start()
    return [till.transfer(till.last).replayed for till in tills]


@pytest.mark.ci
def test_every_call_in_flight_is_told(tmp_path: Path) -> None:
    """Each of 64 callers at work gets OK until it is told that the server stops, and nothing of that was written."""
    with open_tills(tmp_path) as (server, tills):
        for till in tills:
            till.start()
        while sum(len(till.acknowledged) for till in tills) < CALLS_BEFORE:
            time.sleep(0.01)
        exit_code = server.stop()
        for till in tills:
            till.join(30)
        written = Judge(server.path).transfers()
        replayed = settle(server, tills)

        assert 0 == exit_code
        assert {(grpc.StatusCode.UNAVAILABLE, 898, "SHUTTING_DOWN")} == {till.heard for till in tills}
        assert {one: 1 for till in tills for one in till.acknowledged} == {
            request_id: len(ids) for request_id, ids in written.items()
        }
        assert [False] * CALLERS == replayed
        assert "verify: OK" == verify(server)


@pytest.mark.ci
def test_what_outlasts_the_grace_is_open(tmp_path: Path) -> None:
    """While the writer stands still, callers are told within seconds that only the request id settles it."""
    with open_tills(tmp_path, POINTS_GRPC_DRAIN_S=str(GRACE_S)) as (server, tills):
        assert server.process is not None
        writer = server.writer_pid()
        os.kill(writer, signal.SIGSTOP)
        try:
            for till in tills:
                till.start()
            time.sleep(0.5)
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            for till in tills:
                till.join(30)
            took_s = time.monotonic() - started
        finally:
            os.kill(writer, signal.SIGCONT)
        exit_code = server.process.wait(30)
        before = Judge(server.path).transfers()
        replayed = settle(server, tills)
        after = Judge(server.path).transfers()

        assert 0 == exit_code
        assert {(grpc.StatusCode.ABORTED, 896, "UNKNOWN")} == {till.heard for till in tills}
        assert GRACE_S < took_s < GRACE_S + 3
        assert [till.last in before for till in tills] == replayed
        assert {till.last: 1 for till in tills} == {request_id: len(ids) for request_id, ids in after.items()}
        assert "verify: OK" == verify(server)
