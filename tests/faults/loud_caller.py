"""An organisation that asks at a rate of its own, whatever it is told; in a process of its own.

It begins once it is told to. At the end one line of JSON says how its calls ended: by status, reason, and which details
came with it.

Usage: python loud_caller.py <address> <token> <program> <customer> <calls a second> <seconds>
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import grpc
import grpc.aio
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2

from points_grpc.v1 import issuance_service_pb2, issuance_service_pb2_grpc

CHANNELS = 16
"""Connections are spread over workers, not calls: with so many each worker has some."""

TIMEOUT_S = 120.0


def ended(error: grpc.aio.AioRpcError) -> str:
    """How a call ended, in a word for each thing that it says."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata()).get("grpc-status-details-bin", b""))
    kinds = [detail.type_url.rpartition(".")[2] for detail in status.details]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    wanted = [kind for kind in ("QuotaFailure", "RetryInfo") if kind in kinds]
    return " ".join([error.code().name, info.reason, *wanted])


async def ask(address: str, token: str, program: str, customer: str, rate: float, seconds: float) -> Counter[str]:
    """Issues points at a rate."""
    found: Counter[str] = Counter()
    channels = [grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(CHANNELS)]
    stubs = [issuance_service_pb2_grpc.IssuanceServiceStub(channel) for channel in channels]
    fields = {"customerIdentifier": {"type": "ID", "value": customer}, "programId": program}
    request = ParseDict(fields | {"points": "1", "source": "LOYALTY_PLUS"}, issuance_service_pb2.IssuePointsRequest())

    async def call(number: int) -> None:
        method = stubs[number % CHANNELS].IssuePoints
        try:
            await method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            found[ended(error)] += 1
        else:
            found["OK"] += 1

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            group.create_task(call(number))
            await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.monotonic()))
    found["ms"] = int((time.monotonic() - started) * 1000)
    for channel in channels:
        await channel.close()
    return found


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    address, token, program, customer, rate, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(ask(address, token, program, customer, float(rate), float(seconds)))), flush=True)
