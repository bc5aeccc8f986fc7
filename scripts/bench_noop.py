"""
The yardstick of scripts/bench: a bare grpc.aio server that answers every TransferPoints alike and does nothing.

It has what the real service cannot do without (the loop, the messages, the server's options, which are those of the
service) and nothing else: no interceptors, no parsing, no storage. The answer is as long as a real one, and is written
out anew for every call.

    python scripts/bench_noop.py --ready-file FILE

writes {"address": ..., "pid": ...} into FILE when it serves, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any, cast

import grpc
import uvloop

from points_grpc.rpc.limits import Limits
from points_grpc.rpc.server import channel_options
from points_grpc.v1 import common_pb2, points_service_pb2

SENT_AT_S = 1_763_758_800
"""A time like any other: what counts is that it is as long as today's."""


class Noop:
    """Answers TransferPoints with the same transfer every time. All other methods are unknown to it."""

    def __init__(self) -> None:
        self._answer = answer()

    async def transfer_points(
        self,
        request: points_service_pb2.TransferPointsRequest,  # noqa: ARG002 - it arrives parsed, and that is all
        context: object,  # noqa: ARG002
    ) -> points_service_pb2.TransferPointsResponse:
        """The fixed answer."""
        return self._answer

    def handlers(self) -> grpc.GenericRpcHandler:
        """What the server calls: as the generated code does it, for one method."""
        handler = grpc.unary_unary_rpc_method_handler(
            cast("Any", self.transfer_points),  # the stubs know handlers of the synchronous server only
            request_deserializer=points_service_pb2.TransferPointsRequest.FromString,
            response_serializer=points_service_pb2.TransferPointsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("points.v1.PointsService", {"TransferPoints": handler})


def answer() -> points_service_pb2.TransferPointsResponse:
    """What the service says to a transfer of the bench, with every field set that it sets."""
    transfer = points_service_pb2.PointsTransfer(
        to_entity_id=1_009_999,
        to_entity_type=points_service_pb2.PointsTransfer.CUSTOMER,
        from_entity_id=1_000_001,
        from_entity_type=points_service_pb2.PointsTransfer.CUSTOMER,
        points_transferred=3,
        transfer_id=7_397_812_345_678_901_234,
        transfer_type=points_service_pb2.PointsTransfer.DEDUCTION,
        transferred_from=points_service_pb2.PointsTransfer.Party(user_id=1_000_001, first_name="Bench", last_name="1"),
        transferred_to=points_service_pb2.PointsTransfer.Party(user_id=1_009_999, first_name="Bench", last_name="9999"),
        program_name="DocDemoDefaultProgram",
        points_transfer_breakup_by_earning_programs=[
            common_pb2.EarningProgramBreakup(program_id=973, deducted_points=3, program_current_points=999_997)
        ],
    )
    transfer.points_transfer_date.FromNanoseconds(SENT_AT_S * 10**9 + 123_456_000)
    wallets = [
        common_pb2.WalletBalance(
            customer_id=customer_id,
            program_id=973,
            wallet_version=12,
            current=999_997,
            redeemable=999_997,
            transferable=999_997,
        )
        for customer_id in (1_000_001, 1_009_999)
    ]
    return points_service_pb2.TransferPointsResponse(
        data=[transfer], request_id="bench-4f1c9a0b7d2e5f8840a1c36b", wallets=wallets
    )


async def serve(ready_file: Path) -> None:
    """Serves on a free loopback port until SIGTERM."""
    limits = Limits()
    server = grpc.aio.server(options=channel_options(limits), maximum_concurrent_rpcs=limits.concurrent_calls_max)
    server.add_generic_rpc_handlers((Noop().handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    unfinished = ready_file.with_suffix(".part")
    unfinished.write_text(json.dumps({"address": f"127.0.0.1:{port}", "pid": os.getpid()}), encoding="utf-8")
    unfinished.replace(ready_file)
    await stopping.wait()
    await server.stop(grace=1)


def main() -> None:
    """Reads the flags and serves."""
    parser = argparse.ArgumentParser(description="A bare server that answers every TransferPoints alike.")
    parser.add_argument("--ready-file", type=Path, required=True)
    uvloop.run(serve(parser.parse_args().ready_file))


if __name__ == "__main__":
    main()
