"""Callers in a process of their own, with a log of their own: what they say was acknowledged is what must be there.

`load`: many tasks send transfers, each under a new request id, until SIGTERM; what the server's death leaves open stays
open. `again`: sends every request of an earlier log once more, as it was. Log: JSON lines, each written with one system
call before anything else happens; `at` is the monotonic clock, which all processes of a machine share.

Usage: python callers.py <file with the JSON of a `Plan`>
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from points_grpc.v1 import common_pb2, points_service_pb2, points_service_pb2_grpc

OPEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED}
"""What a caller may see of a service that dies; ABORTED (896 UNKNOWN) where only its writer did. Anything else but OK
is a surprise."""

PAUSE_S = 0.1
"""How long a caller waits after such an answer, so that not thousands of requests are left open."""

RECONNECT = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
]
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `earlier` is the log whose requests are sent again; empty: new ones between the customers."""

    address: str
    token: str
    program_id: int
    log: str
    seed: int = 0
    customers: Sequence[int] = ()
    points_max: int = 50
    tasks: int = 64
    channels: int = 4
    earlier: str = ""
    refusals: Sequence[str] = ()
    """Further statuses that this load has to expect: the service says that nothing was written."""

    def write(self, path: Path) -> Path:
        """Writes the plan to a file."""
        path.write_text(json.dumps(asdict(self)))
        return path


@dataclass(frozen=True, slots=True)
class Transfer:
    """A request, as the log keeps it."""

    request_id: str
    source: int
    destination: int
    points: int


class Log:
    """Appends lines; a line that was written has left the process."""

    def __init__(self, path: str, refusals: Sequence[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._refusals = refusals

    def sent(self, one: Transfer) -> None:
        """A request is about to be sent."""
        self._write({"event": "sent", **asdict(one)})

    def acknowledged(self, request_id: str, transfer_id: int, *, replayed: bool) -> None:
        """An OK answer came."""
        self._write(
            {"event": "acknowledged", "request_id": request_id, "transfer_id": transfer_id, "replayed": replayed}
        )

    def failed(self, request_id: str, error: grpc.aio.AioRpcError) -> None:
        """Another answer came, or none: `open` if the server died or said no for now, else `surprise`."""
        event = "open" if error.code() in OPEN or error.code().name in self._refusals else "surprise"
        self._write({"event": event, "request_id": request_id, "code": error.code().name, "text": error.details()})

    def _write(self, fields: dict[str, Any]) -> None:
        os.write(self._file, json.dumps({"at": time.monotonic_ns(), **fields}).encode() + b"\n")


class Callers:
    """The tasks of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._log = Log(plan.log, plan.refusals)
        self._metadata = (("authorization", f"Bearer {plan.token}"),)
        self._stopped = False
        self._requests = self._again() if plan.earlier else self._new()

    async def run(self) -> None:
        """Sends until there is nothing left to send, or SIGTERM comes."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        channels = [grpc.aio.insecure_channel(self._plan.address, RECONNECT) for _ in range(self._plan.channels)]
        mine = itertools.cycle(channels)
        await asyncio.gather(*(self._send_all(next(mine)) for _ in range(self._plan.tasks)))
        for channel in channels:
            await channel.close()

    def _stop(self) -> None:
        self._stopped = True

    async def _send_all(self, channel: grpc.aio.Channel) -> None:
        stub = points_service_pb2_grpc.PointsServiceStub(channel)
        for one in self._requests:
            request = self._request(one)
            self._log.sent(one)
            try:
                answer = await stub.TransferPoints(request, metadata=self._metadata, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                self._log.failed(one.request_id, error)
                await self._ready(channel)
            else:
                self._log.acknowledged(one.request_id, answer.data[0].transfer_id, replayed=answer.replayed)
            if self._stopped:
                return

    async def _ready(self, channel: grpc.aio.Channel) -> None:
        """Waits a little, and until a dead server is back."""
        await asyncio.sleep(PAUSE_S)
        while not self._stopped:
            try:
                await asyncio.wait_for(channel.channel_ready(), 0.2)
                return
            except TimeoutError:
                continue

    def _request(self, one: Transfer) -> points_service_pb2.TransferPointsRequest:
        by_id = common_pb2.CustomerIdentifier.ID
        return points_service_pb2.TransferPointsRequest(
            points_to_be_transferred=one.points,
            program_id=self._plan.program_id,
            from_customer_identifier=common_pb2.CustomerIdentifier(type=by_id, value=str(one.source)),
            to_customer_identifier=common_pb2.CustomerIdentifier(type=by_id, value=str(one.destination)),
            request_id=one.request_id,
        )

    def _new(self) -> Iterator[Transfer]:
        chance = random.Random(self._plan.seed)
        for number in itertools.count():
            source, destination = chance.sample(self._plan.customers, 2)
            yield Transfer(
                f"call-{self._plan.seed}-{number}", source, destination, chance.randint(1, self._plan.points_max)
            )

    def _again(self) -> Iterator[Transfer]:
        yield from [line.transfer for line in read_log(Path(self._plan.earlier)) if line.event == "sent"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log."""

    at: int
    event: str
    request_id: str
    fields: dict[str, Any]

    @property
    def transfer(self) -> Transfer:
        """The request of a `sent` line."""
        return Transfer(self.request_id, *(self.fields[name] for name in ("source", "destination", "points")))


def read_log(path: Path) -> list[Line]:
    """The whole lines of a log."""
    lines = path.read_bytes().split(b"\n")[:-1]
    found = (json.loads(line) for line in lines)
    return [Line(one.pop("at"), one.pop("event"), one.pop("request_id"), one) for one in found]


if __name__ == "__main__":
    asyncio.run(Callers(Plan(**json.loads(Path(sys.argv[1]).read_text()))).run())
