"""
The load generator of scripts/bench where ghz is not at hand: callers on grpc.aio, in a process of their own.

Takes ghz's flags as far as the bench needs them, and reports in ghz's words, so that the bench drives either alike. It
is the slower of the two: on two cores it takes more of the machine than it leaves to a fast server, and so flatters
whatever is measured beside a faster thing. The bench says so in its output.

Requests are sent as the bytes that the file holds, and answers are counted and not parsed: a generator needs no more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import uvloop

PERCENTILES = (10, 25, 50, 75, 90, 95, 99)
CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
"""One connection per channel; by default, channels to the same address share one."""

Metadata = Sequence[tuple[str, str]]


class Tally:
    """What came back: how long each answered call took, and how the calls ended."""

    def __init__(self) -> None:
        self.latencies_ns: list[int] = []
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def report(self, total_ns: int) -> dict[str, object]:
        """The tally as ghz writes it."""
        ordered = sorted(self.latencies_ns)
        count = self.statuses.total()
        return {
            "count": count,
            "total": total_ns,
            "rps": count / (total_ns / 1e9),
            "average": sum(ordered) // max(len(ordered), 1),
            "statusCodeDistribution": dict(self.statuses),
            "errorDistribution": dict(self.errors),
            "latencyDistribution": [
                {"percentage": percentage, "latency": ordered[min(len(ordered) * percentage // 100, len(ordered) - 1)]}
                for percentage in PERCENTILES
                if ordered
            ],
        }


async def call_all(arguments: argparse.Namespace, requests: Sequence[bytes], metadata: Metadata) -> dict[str, object]:
    """Sends `total` requests, each caller the next one as soon as its last is answered."""
    channels = [grpc.aio.insecure_channel(arguments.host, CHANNEL_OPTIONS) for _ in range(arguments.connections)]
    await asyncio.gather(*(asyncio.wait_for(channel.channel_ready(), 10) for channel in channels))
    service, _, method = arguments.call.rpartition("/")
    methods: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
        channel.unary_unary(f"/{service}/{method}") for channel in channels
    ]
    tally = Tally()
    turns = iter(range(arguments.total))
    started = time.perf_counter_ns()
    await asyncio.gather(
        *(
            call_in_turn(methods[caller % len(methods)], requests, metadata, turns=turns, tally=tally)
            for caller in range(arguments.concurrency)
        )
    )
    total_ns = time.perf_counter_ns() - started
    await asyncio.gather(*(channel.close() for channel in channels))
    return tally.report(total_ns)


async def call_in_turn(
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes],
    requests: Sequence[bytes],
    metadata: Metadata,
    *,
    turns: Iterator[int],
    tally: Tally,
) -> None:
    """One caller: takes turns until there are none left."""
    for turn in turns:
        started = time.perf_counter_ns()
        try:
            await method(requests[turn % len(requests)], metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            tally.statuses[error.code().name] += 1
            tally.errors[f"{error.code().name}: {error.details()}"] += 1
        else:
            tally.statuses["OK"] += 1
            tally.latencies_ns.append(time.perf_counter_ns() - started)


def read_requests(path: Path) -> list[bytes]:
    """Reads messages of protobuf, each after its length."""
    data = path.read_bytes()
    requests: list[bytes] = []
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        requests.append(data[at : at + length])
        at += length
    return requests


def main() -> None:
    """Reads ghz's flags, sends, and writes the report."""
    parser = argparse.ArgumentParser(description="Sends requests from a file and reports like ghz.")
    parser.add_argument("--call", required=True)
    parser.add_argument("--binary-file", type=Path, required=True)
    parser.add_argument("--metadata-file", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--total", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("host")
    arguments = parser.parse_args()
    requests = read_requests(arguments.binary_file)
    metadata = tuple(json.loads(arguments.metadata_file.read_text(encoding="utf-8")).items())
    report = uvloop.run(call_all(arguments, requests, metadata))
    arguments.output.write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
