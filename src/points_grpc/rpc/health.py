"""Health of the server ("") and of each of its services, by the standard protocol (grpc.health.v1).

The servicer of the health package is not used: it lacks `List`, and its `Watch` streams keep a server from draining.
The protocol has no place for why a server does not serve; `Check` tells it in a trailer, in a word of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

NOT_READY_KEY = "points-not-ready"
"""The trailer that says why a server does not serve."""


class NotReady(StrEnum):
    """Why a server does not serve."""

    STARTING = "starting"
    NO_WRITER = "no_writer"
    STOPPING = "stopping"


class WatchContext(Protocol):
    """What the servicer needs of its context."""

    def set_code(self, code: grpc.StatusCode, /) -> None:
        """Sets the status code."""
        ...

    def set_trailing_metadata(self, trailers: tuple[tuple[str, str], ...], /) -> None:
        """Sets the trailers."""
        ...

    async def write(self, message: health_pb2.HealthCheckResponse, /) -> None:
        """Sends one answer of a stream."""
        ...


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # the package has no types
    """Tells whether the server serves. All its services share one state."""

    def __init__(self, services: Iterable[str]) -> None:
        """Starts as not serving: nobody should come before the server has started."""
        self._names = frozenset({"", *services})
        self._not_ready: NotReady | None = NotReady.STARTING
        self._is_over = False
        self._changed = asyncio.Event()

    @property
    def not_ready(self) -> NotReady | None:
        """Why the server does not serve; None if it does."""
        return self._not_ready

    def serve(self) -> None:
        """Says that the server serves; not once it stopped."""
        self._not_ready = NotReady.STOPPING if self._is_over else None
        self._tell()

    def suspend(self) -> None:
        """Says that the server does not serve for want of a writer; whoever watches goes on watching."""
        self._not_ready = NotReady.STOPPING if self._is_over else NotReady.NO_WRITER
        self._tell()

    def stop(self) -> None:
        """Says that the server serves no more, and ends all streams with that."""
        self._not_ready = NotReady.STOPPING
        self._is_over = True
        self._tell()

    async def Check(  # noqa: N802 - the method's name
        self, request: health_pb2.HealthCheckRequest, context: WatchContext
    ) -> health_pb2.HealthCheckResponse:
        """The health of one service; NOT_FOUND if there is no such service."""
        if request.service not in self._names:
            context.set_code(grpc.StatusCode.NOT_FOUND)
        if self._not_ready is not None:
            context.set_trailing_metadata(((NOT_READY_KEY, self._not_ready.value),))
        return self._state(request.service)

    async def List(  # noqa: N802 - the method's name
        self,
        request: health_pb2.HealthListRequest,  # noqa: ARG002 - it is empty
        context: WatchContext,  # noqa: ARG002 - nothing can go wrong
    ) -> health_pb2.HealthListResponse:
        """The health of the server and of each service."""
        return health_pb2.HealthListResponse(statuses={name: self._state(name) for name in sorted(self._names)})

    async def Watch(  # noqa: N802 - the method's name
        self, request: health_pb2.HealthCheckRequest, context: WatchContext
    ) -> None:
        """The health of one service now and whenever it changes, until the server stops."""
        told = None
        while True:
            changed, state = self._changed, self._state(request.service)
            if state != told:
                told = state
                await context.write(state)
            if self._is_over:
                return
            await changed.wait()

    def _state(self, name: str) -> health_pb2.HealthCheckResponse:
        """The health of a service; of one that is not there, that it is unknown."""
        states = health_pb2.HealthCheckResponse
        if name not in self._names:
            return states(status=states.SERVICE_UNKNOWN)
        return states(status=states.SERVING if self._not_ready is None else states.NOT_SERVING)

    def _tell(self) -> None:
        """Wakes all who watch."""
        self._changed.set()
        self._changed = asyncio.Event()
