"""The calls that stream answers: kept in sight, so that a drain or a credential that is revoked ends them too.

An ordinary call is admitted once and is over within seconds. A watch lasts for as long as its caller likes, so that it
is asked again and again whether it may. One timer for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call

TICK_S = 1.0
"""How often the calls are looked at: with the age of the keys, within the 5 s in which a revocation is in force."""


class Streams:
    """Ends calls that stream: tells them why and wakes them; they end by themselves."""

    def __init__(self) -> None:
        """Starts without calls and without a timer."""
        self._calls: dict[int, tuple[Call, Callable[[], Refused | None]]] = {}
        self._is_over = False
        self._ticking = False

    def enter(self, call: Call, judge: Callable[[], Refused | None]) -> None:
        """Watches over a call; `judge` says whether its caller may still ask."""
        call.woken = asyncio.Event()
        self._calls[id(call)] = (call, judge)
        if self._is_over:
            self._end(call)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def leave(self, call: Call) -> None:
        """Lets go of a call."""
        del self._calls[id(call)]

    def drain(self) -> None:
        """Ends all calls, and those that still come."""
        self._is_over = True
        for call, _ in self._calls.values():
            self._end(call)

    @staticmethod
    def _end(call: Call) -> None:
        call.end(refusal_of(Failure.SHUTTING_DOWN, call.operation))

    def _tick(self) -> None:
        """Ends the calls of those who may not ask any more. The timer rests while there are no calls."""
        for call, judge in self._calls.values():
            if refused := judge():
                call.end(refused)
        self._ticking = bool(self._calls)
        if self._ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
