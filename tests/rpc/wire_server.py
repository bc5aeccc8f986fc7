"""A server on a real loopback port, with fake neighbours, and what a client sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from test_refusal import details
from wire_fakes import (
    NOW,
    FakeExported,
    FakeFacts,
    FakeIdentity,
    FakeJournal,
    FakeLists,
    FakeMetrics,
    FakeReads,
    FakeSubmitter,
    NullLog,
)

from points_grpc.rpc.interceptor import EXEMPT
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.ports import Tracer
from points_grpc.rpc.server import SERVICES, PointsServer, Wiring
from points_grpc.service.exporting import Exporting
from points_grpc.service.reads import ReadPool
from points_grpc.service.watching import Watching

Answer = TypeVar("Answer")
OPERATOR = (("authorization", "Bearer operator"),)


class World:
    """The server, its neighbours, and a channel to it."""

    def __init__(self, limits: Limits, exempt: tuple[str, ...], tracer: Tracer | None = None) -> None:
        self.submitter = FakeSubmitter()
        self.reads = FakeReads()
        self.lists = FakeLists()
        self.journal = FakeJournal()
        self.exported = FakeExported()
        self.pool = ReadPool(threads=2)
        self.identity = FakeIdentity()
        self.metrics = FakeMetrics()
        self.log = NullLog()
        self.server = PointsServer(
            Wiring(
                submitter=self.submitter,
                checker=self.submitter,
                reads=self.reads,
                lists=self.lists,
                watching=Watching(self.pool, self.journal, poll_s=limits.watch_poll_ms / 1000),
                exporting=Exporting(self.pool, self.exported),
                identity=self.identity,
                facts=FakeFacts(),
                log=self.log,
                token_keys=lambda: (b"k" * 16,),
                metrics=self.metrics,
                limits=limits,
                clock=lambda: NOW,
                exempt=exempt,
                tracer=tracer,
            )
        )
        self.port = self.server.bind("127.0.0.1:0")
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")

    async def call(self, message: Message, metadata: Any = OPERATOR, timeout: float | None = 10) -> Seen:
        """Calls the RPC that takes this request."""
        return await self.call_raw(path_of(message), message.SerializeToString(), metadata, timeout)

    async def call_raw(self, path: str, request: bytes, metadata: Any = OPERATOR, timeout: float | None = 10) -> Seen:
        """Calls a method with any bytes."""
        method = self.channel.unary_unary(path)
        call = method(request, metadata=metadata, timeout=timeout)
        code = await call.code()
        trailers = dict(await call.trailing_metadata() or ())
        answer = await call if code is grpc.StatusCode.OK else b""
        return Seen(code, await call.details(), trailers, answer)


class Seen:
    """What a client saw of a call."""

    def __init__(self, code: grpc.StatusCode, text: str | None, trailers: dict[str, Any], answer: bytes) -> None:
        self.code = code
        self.text = text
        self.trailers = trailers
        self.answer = answer

    @property
    def details(self) -> dict[str, Any]:
        """The details by type."""
        return details(status_pb2.Status.FromString(self.trailers["grpc-status-details-bin"]))

    @property
    def reason(self) -> str:
        """The reason of the refusal."""
        return str(self.details["google.rpc.ErrorInfo"].reason)

    @property
    def metadata(self) -> dict[str, str]:
        """The numbers behind the refusal."""
        return dict(self.details["google.rpc.ErrorInfo"].metadata)


def path_of(message: Message) -> str:
    """The path of the RPC that takes this request."""
    [path] = [
        f"/{service.full_name}/{method.name}"
        for service in SERVICES
        for method in service.methods
        if method.input_type.full_name == message.DESCRIPTOR.full_name
    ]
    return path


@asynccontextmanager
async def serving(
    limits: Limits | None = None, exempt: tuple[str, ...] = EXEMPT, tracer: Tracer | None = None
) -> AsyncIterator[World]:
    """A server that runs."""
    world = World(limits or Limits(), exempt, tracer)
    await world.server.start()
    try:
        yield world
    finally:
        await world.channel.close()
        await world.server.drain(0)
        world.pool.close()


def on_server(
    run: Callable[[World], Awaitable[Answer]],
    limits: Limits | None = None,
    exempt: tuple[str, ...] = EXEMPT,
    tracer: Tracer | None = None,
) -> Answer:
    """Runs a test against a server of its own."""

    async def main() -> Answer:
        async with serving(limits, exempt, tracer) as world:
            return await run(world)

    return asyncio.run(main())
