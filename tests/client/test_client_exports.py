"""Exports through both clients: pieces that join to one file, however the calls are cut; what is not gone on with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from points_grpc.client import AsyncPointsClient, NotAnswered, PointsClient, Retries
from points_grpc.v1 import wallet_service_pb2 as pb

QUICK = Retries(attempts_max=3, pause_min_s=0.01, pause_max_s=0.02)
Script = Sequence[tuple[Sequence[pb.ExportJournalResponse], grpc.StatusCode]]
"""What each call is answered, and how it ends."""


def message(data: bytes, reached: int | None = None) -> pb.ExportJournalResponse:
    """A message; `reached` is a position of stream 0."""
    found = pb.ExportJournalResponse(data=data)
    if reached is not None:
        found.reached.CopyFrom(place(reached))
    return found


def place(position: int) -> pb.JournalPlace:
    """A position of stream 0; 0 for the beginning."""
    positions = [pb.JournalPlace.Position(position=position)] if position else []
    return pb.JournalPlace(positions=positions)


@contextmanager
def scripted(script: Script) -> Iterator[tuple[str, list[pb.ExportJournalRequest]]]:
    """A server that follows a script; its address, and what it was asked."""
    asked: list[pb.ExportJournalRequest] = []

    def serve(raw: bytes, context: Any) -> Iterator[bytes]:
        messages, code = script[min(len(asked), len(script) - 1)]
        asked.append(pb.ExportJournalRequest.FromString(raw))
        yield from (one.SerializeToString() for one in messages)
        context.set_code(code)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = grpc.unary_stream_rpc_method_handler(serve)
    handlers = grpc.method_handlers_generic_handler("points.v1.WalletService", {"ExportJournal": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}", asked
    finally:
        server.stop(0).wait()


def blocking(address: str, request: pb.ExportJournalRequest | None = None) -> list[pb.ExportJournalResponse]:
    """All pieces, as the blocking client gets them."""
    with PointsClient(address, "pk_a_b", retries=QUICK) as points:
        return list(points.export_journal(request))


def awaited(address: str, request: pb.ExportJournalRequest | None = None) -> list[pb.ExportJournalResponse]:
    """All pieces, as the other client gets them."""

    async def run() -> list[pb.ExportJournalResponse]:
        async with AsyncPointsClient(address, "pk_a_b", retries=QUICK) as points:
            return [one async for one in points.export_journal(request)]

    return asyncio.run(run())


CLIENTS = pytest.mark.parametrize("export", [blocking, awaited])
OK, AWAY, LATE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED


@CLIENTS
def test_cut_in_any_way(export: Any) -> None:
    """What was whole is not asked for again, half an entry is; a call that brought nothing is repeated, too."""
    script: Script = (
        ([], AWAY),
        ([message(b"head", 0), message(b"a", 1)], LATE),
        ([message(b"bb", 2), message(b"cc")], AWAY),
        ([], AWAY),
        ([message(b"cc"), message(b"c", 3)], OK),
    )
    with scripted(script) as (address, asked):
        found = export(address)

    assert [b"head", b"a", b"bb", b"ccc"] == [one.data for one in found]
    assert [place(one) for one in range(4)] == [one.reached for one in found]
    assert [None, None, place(1), place(2), place(2)] == [one.after if one.HasField("after") else None for one in asked]


@CLIENTS
def test_from_a_place(export: Any) -> None:
    """A place that the caller kept is where it begins, and the caller's request stays as it is."""
    request = pb.ExportJournalRequest(after=place(7))
    with scripted([([message(b"x", 8)], OK)]) as (address, asked):
        [found] = export(address, request)

    assert (message(b"x", 8), [pb.ExportJournalRequest(after=place(7))]) == (found, asked)
    assert pb.ExportJournalRequest(after=place(7)) == request


@CLIENTS
@pytest.mark.parametrize(("code", "calls"), [(AWAY, 3), (LATE, 1), (grpc.StatusCode.UNIMPLEMENTED, 1)])
def test_no_progress(export: Any, code: grpc.StatusCode, calls: int) -> None:
    """Calls that bring nothing end it as they end any other read."""
    with scripted([([], code)]) as (address, asked), pytest.raises(NotAnswered) as raised:
        export(address)

    assert (code.value[0], calls) == (raised.value.grpc_code, len(asked))


@pytest.mark.parametrize("fails", [False, True])
def test_an_export_that_is_left_early_ends_its_call(fails: bool) -> None:
    """Its place on the server is free at once, though the call's time is not up: for the next attempt of the caller."""
    ended = threading.Event()

    def serve(_: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        yield message(b"piece", 1).SerializeToString()
        ended.wait(20)

    async def leave(address: str) -> None:
        async with AsyncPointsClient(address, "pk_a_b") as points:
            pieces = points.export_journal(timeout_s=30)
            assert b"piece" == (await anext(pieces)).data
            if fails:
                with pytest.raises(OSError, match="full"):
                    await pieces.athrow(OSError("full"))
            else:
                await pieces.aclose()
            assert await asyncio.to_thread(ended.wait, 5)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = grpc.unary_stream_rpc_method_handler(serve)
    handlers = grpc.method_handlers_generic_handler("points.v1.WalletService", {"ExportJournal": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        asyncio.run(leave(f"localhost:{port}"))
    finally:
        ended.set()
        server.stop(0).wait()
