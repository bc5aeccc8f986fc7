"""An organisation that asks at a rate of its own, whatever it is told; in a process of its own.

It begins once it is told to. At the end one line of JSON says how its calls ended: by status, reason, and which details
came with it. It makes its own frames (`grpc_wire`): a library's client takes as much of the machine as the server that
refuses it.

Usage: python loud_caller.py <address> <token> <program> <customer> <calls a second> <seconds>
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import uvloop
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc_wire import Call, Wire, details_of

from points_grpc.v1 import issuance_service_pb2

METHOD = "/points.v1.IssuanceService/IssuePoints"
CONNECTIONS = 16
"""Connections are spread over workers, not calls: with so many each worker has some."""

TIMEOUT_S = 120.0
TICK_S = 0.001


def told(status: str, trailers: bytes) -> str:
    """How a call ended, in a word for each thing that it says."""
    if status == "OK":
        return status
    details = details_of(trailers).details
    kinds = [detail.type_url.rpartition(".")[2] for detail in details]
    info = error_details_pb2.ErrorInfo()
    for detail in details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    wanted = [kind for kind in ("QuotaFailure", "RetryInfo") if kind in kinds]
    return " ".join([status, info.reason, *wanted])


async def ask(address: str, token: str, program: str, customer: str, rate: float, seconds: float) -> Counter[str]:
    """Issues points at a rate."""
    found: Counter[str] = Counter()
    loop, (host, _, port) = asyncio.get_running_loop(), address.rpartition(":")
    wires = [Wire(METHOD, address, token) for _ in range(CONNECTIONS)]
    for wire in wires:
        await loop.create_connection(lambda wire=wire: wire, host, int(port))
    await asyncio.gather(*(wire.ready for wire in wires))
    fields = {"customerIdentifier": {"type": "ID", "value": customer}, "programId": program}
    request = ParseDict(fields | {"points": "1", "source": "LOYALTY_PLUS"}, issuance_service_pb2.IssuePointsRequest())
    message = request.SerializeToString()

    def ended(_: Call, status: str, trailers: bytes) -> None:
        found[told(status, trailers)] += 1

    started, number, calls = time.monotonic(), 0, int(rate * seconds)
    while found.total() < calls:
        now = time.monotonic()
        while number < calls and started + number / rate <= now:
            wire = wires[number % CONNECTIONS]
            wire.add(Call(number, now, now + TIMEOUT_S, message, ended))
            wire.flush()
            number += 1
        for wire in wires:
            wire.expire()
        await asyncio.sleep(TICK_S)
    found["ms"] = int((time.monotonic() - started) * 1000)
    for wire in wires:
        wire.close()
    return found


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    address, token, program, customer, rate, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(ask(address, token, program, customer, float(rate), float(seconds)))), flush=True)
