"""Health and reflection: methods that answer whoever asks, unless the deployment wants a credential there, too.

Who shows no credential can open any number of calls and let them stand. There are so many places for these calls, and
who comes when all are taken gets that of the oldest: a probe is over in a millisecond and always finds one.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from points_grpc import codes
from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.ports import Connection, Identity, Metadata
from points_grpc.rpc.refusal import Context, refuse

if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]


class GuestContext(Context, Connection, Protocol):
    """What is needed of a servicer context."""

    def invocation_metadata(self) -> Metadata | None:
        """The metadata of the call."""
        ...

    async def read(self) -> object:
        """The next message of the caller; EOF if there is none."""
        ...

    async def write(self, message: object, /) -> None:
        """Sends one answer of a stream."""
        ...

    async def abort(self, code: grpc.StatusCode, details: str, /) -> None:
        """Ends the call with a status; always raises."""
        ...


class Guests:
    """The places, and who has them."""

    def __init__(self, places: int, identity: Identity) -> None:
        self._places = places
        self._identity = identity
        self._seated: dict[asyncio.Task[object], bool] = {}

    def wrapped(self, handler: Handler, *, is_open: bool) -> Handler:
        """A handler that takes a place, and asks for a credential of any role unless it is open.

        All take a stream of requests: so nothing is waited for before a call has its place.
        """
        inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_stream

        async def answered(requests: object, context: GuestContext) -> object:
            if not is_open and self._is_nobody(context):
                return None
            request = requests if handler.request_streaming else await context.read()
            if request is grpc.aio.EOF:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call without a request")
            return await _answered(inner, request, context)

        async def seated(requests: object, context: GuestContext) -> object:
            try:
                with self._seat():
                    return await answered(requests, context)
            except _Displaced:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls without a credential")
            return None

        make: Any = grpc.stream_unary_rpc_method_handler
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler
        guarded: Handler = make(seated, handler.request_deserializer, handler.response_serializer)
        return guarded

    def _is_nobody(self, context: GuestContext) -> bool:
        """Refuses a call without a credential."""
        if self._identity.authenticate(context.invocation_metadata() or (), context) is not None:
            return False
        refuse(context, Call("", ""), Refused(codes.UNAUTHENTICATED))
        return True

    @contextmanager
    def _seat(self) -> Iterator[None]:
        """A place for the present task, for the block; raises `_Displaced` in it once somebody newer takes it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is served by a task")
        if len(self._seated) >= self._places:
            self._displace()
        self._seated[task] = False
        try:
            yield
        except asyncio.CancelledError:
            if not self._seated[task] or task.uncancel():
                raise  # the caller went away
            raise _Displaced from None
        finally:
            del self._seated[task]

    def _displace(self) -> None:
        """Ends the oldest call that is not ending."""
        oldest = next((task for task, is_displaced in self._seated.items() if not is_displaced), None)
        if oldest is not None:
            self._seated[oldest] = True
            oldest.cancel()


class _Displaced(Exception):
    """Somebody newer has the place."""


async def _answered(inner: Any, request: object, context: GuestContext) -> object:  # methods of other people's packages
    """The answer of a method, however it gives its answers."""
    if not inspect.isasyncgenfunction(inner):
        return await inner(request, context)  # a stream's method writes its answers itself
    async for answer in inner(request, context):
        await context.write(answer)
    return None
