"""An open-loop load in a process of its own: calls are sent when they are due, however many are still unanswered.

Each line of the log is a call that ended: when it was due, when it ended, and how. It speaks HTTP/2 by itself
(`grpc_wire`), so that the generator takes little of a machine that it shares with the service.

Usage: python flood.py <file with the JSON of a `Flood`>
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from grpc_wire import Call, Wire

from points_grpc.v1 import common_pb2, points_service_pb2

METHOD = "/points.v1.PointsService/TransferPoints"

TICK_S = 0.01
"""How often due calls are sent."""


@dataclass(frozen=True, slots=True)
class Flood:
    """So many calls a second for so long. With a rate of 0: `callers`, each with one call after the other."""

    address: str
    token: str
    program_id: int
    customers: Sequence[int]
    log: str
    name: str
    seconds: float
    rate: float = 0.0
    callers: int = 64
    channels: int = 32
    """So many connections that hardly a call waits in the client: what is measured is how the service queues."""
    deadline_s: float = 2.0

    def write(self, path: Path) -> Path:
        """Writes it to a file."""
        path.write_text(json.dumps(asdict(self)))
        return path


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that ended. Instants are those of the monotonic clock; `status` is the name of a gRPC status."""

    number: int
    due_at: float
    sent_at: float
    ended_at: float
    status: str


def read_ended(path: Path) -> list[Ended]:
    """What a flood wrote down."""
    return [Ended(*json.loads(line)) for line in path.read_text().splitlines()]


class Sender:
    """The calls of a flood."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._chance = random.Random(flood.name)
        self._lines: list[str] = []
        self._wires: list[Wire] = []
        self._under_way = 0
        self._next = 0

    async def run(self) -> None:
        """Sends all, waits for what is unanswered, and writes the log."""
        loop, (host, _, port) = asyncio.get_running_loop(), self._flood.address.rpartition(":")
        for _ in range(self._flood.channels):
            wire = Wire(METHOD, self._flood.address, self._flood.token)
            await loop.create_connection(lambda wire=wire: wire, host, int(port))
            self._wires.append(wire)
        await asyncio.gather(*(wire.ready for wire in self._wires))
        await (self._open() if self._flood.rate else self._closed())
        while self._under_way:
            await self._tick()
        Path(self._flood.log).write_text("".join(self._lines))
        for wire in self._wires:
            wire.close()

    async def _open(self) -> None:
        began, rate = time.monotonic(), self._flood.rate
        while (at := time.monotonic() - began) < self._flood.seconds:
            while self._next < at * rate:
                self._call(began + self._next / rate, self._ended)
            await self._tick()

    async def _closed(self) -> None:
        until = time.monotonic() + self._flood.seconds

        def again(call: Call, status: str, trailers: bytes) -> None:
            self._ended(call, status, trailers)
            if time.monotonic() < until:
                begin()

        def begin() -> None:
            self._call(time.monotonic(), again).flush()

        for _ in range(self._flood.callers):
            begin()
        while time.monotonic() < until:
            await self._tick()

    async def _tick(self) -> None:
        """Sends what is due, takes back what is too late, and lets answers come in."""
        for wire in self._wires:
            wire.expire()
        await asyncio.sleep(TICK_S)

    def _call(self, due_at: float, ended: Callable[[Call, str, bytes], None]) -> Wire:
        """Hands a call over, to the connection that is returned; the deadline counts from then on, as in a library."""
        number, self._next = self._next, self._next + 1
        self._under_way += 1
        deadline = time.monotonic() + self._flood.deadline_s
        wire = self._wires[number % len(self._wires)]
        wire.add(Call(number, due_at, deadline, self._request(number), ended))
        return wire

    def _ended(self, call: Call, status: str, _: bytes) -> None:
        self._under_way -= 1
        handed_over = call.deadline - self._flood.deadline_s
        line = [call.number, call.due_at, handed_over, time.monotonic(), status]
        self._lines.append(f"{json.dumps(line)}\n")

    def _request(self, number: int) -> bytes:
        source, destination = self._chance.sample(self._flood.customers, 2)
        by_id = common_pb2.CustomerIdentifier.ID
        return points_service_pb2.TransferPointsRequest(
            points_to_be_transferred=1,
            program_id=self._flood.program_id,
            from_customer_identifier=common_pb2.CustomerIdentifier(type=by_id, value=str(source)),
            to_customer_identifier=common_pb2.CustomerIdentifier(type=by_id, value=str(destination)),
            request_id=f"{self._flood.name}-{number}",
        ).SerializeToString()


async def main() -> None:
    """Sends the flood that the file describes."""
    await Sender(Flood(**json.loads(Path(sys.argv[1]).read_text()))).run()


if __name__ == "__main__":
    uvloop.run(main())
