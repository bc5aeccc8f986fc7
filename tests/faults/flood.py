"""An open-loop load in a process of its own: calls are sent when they are due, however many are still unanswered.

Each line of the log is a call that ended: when it was due, when it ended, and how. Answers are not parsed, so that the
generator takes less of a machine that it shares with the service.

Usage: python flood.py <file with the JSON of a `Flood`>
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import grpc.aio
import uvloop
from callers import RECONNECT

from points_grpc.v1 import common_pb2, points_service_pb2

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
        self._metadata = (("authorization", f"Bearer {flood.token}"),)
        self._ended: list[Ended] = []
        self._channels = [grpc.aio.insecure_channel(flood.address, RECONNECT) for _ in range(flood.channels)]
        method = "/points.v1.PointsService/TransferPoints"
        self._methods: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(method) for channel in self._channels
        ]

    async def run(self) -> None:
        """Sends all, waits for what is unanswered, and writes the log."""
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        await (self._open() if self._flood.rate else self._closed())
        lines = (json.dumps([one.number, one.due_at, one.sent_at, one.ended_at, one.status]) for one in self._ended)
        Path(self._flood.log).write_text("".join(f"{line}\n" for line in lines))
        for channel in self._channels:
            await channel.close()

    async def _open(self) -> None:
        began, number = time.monotonic(), 0
        under_way: set[asyncio.Task[None]] = set()
        while (at := time.monotonic() - began) < self._flood.seconds:
            while number < at * self._flood.rate:
                task = asyncio.create_task(self._call(number, began + number / self._flood.rate))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                number += 1
            await asyncio.sleep(TICK_S)
        if under_way:
            await asyncio.wait(under_way)

    async def _closed(self) -> None:
        until = time.monotonic() + self._flood.seconds
        numbers = iter(range(1_000_000_000))

        async def caller() -> None:
            while (now := time.monotonic()) < until:
                await self._call(next(numbers), now)

        await asyncio.gather(*(caller() for _ in range(self._flood.callers)))

    async def _call(self, number: int, due_at: float) -> None:
        status, sent_at = "OK", time.monotonic()
        try:
            await self._methods[number % len(self._methods)](
                self._request(number), metadata=self._metadata, timeout=self._flood.deadline_s
            )
        except grpc.aio.AioRpcError as error:
            status = error.code().name
        self._ended.append(Ended(number, due_at, sent_at, time.monotonic(), status))

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
    """Sends the flood that the file describes. Channels belong to the loop in which they are made."""
    await Sender(Flood(**json.loads(Path(sys.argv[1]).read_text()))).run()


if __name__ == "__main__":
    uvloop.run(main())
