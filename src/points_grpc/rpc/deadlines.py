"""What ends calls at their deadline: one timer for all of them, since a timer for each costs more than all the rest.

What outlasts the grace of a server that stops is ended here, too. The caller's own deadline is the core's to keep. This
is for calls that came without one or with a very long one, and for servicers that would not come back.
"""

from __future__ import annotations

import asyncio
import time

from points_grpc.rpc.call import Call

TICK_S = 0.02
"""How often the calls are looked at. A call is ended up to so much early, never late."""


class Deadlines:
    """Ends calls: cancels their task, with `expired` set on a call whose deadline has come, and `cut_off` at a stop."""

    def __init__(self) -> None:
        """Starts without calls and without a timer."""
        self._tasks: dict[int, tuple[Call, asyncio.Task[object]]] = {}
        self._ticking = False

    def __len__(self) -> int:
        """How many calls are being served."""
        return len(self._tasks)

    def enter(self, call: Call) -> None:
        """Watches over the call that the present task serves."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is served by a task")
        self._tasks[id(call)] = (call, task)
        if not self._ticking:
            self._ticking = True
            task.get_loop().call_later(TICK_S, self._tick, task.get_loop())

    def leave(self, call: Call) -> None:
        """Lets go of a call."""
        del self._tasks[id(call)]

    def cut_off(self) -> None:
        """Ends all calls, for the server stops."""
        for call, task in self._tasks.values():
            if not (call.expired or call.cut_off):
                call.cut_off = True
                task.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends what is due. The timer rests while there are no calls."""
        due = time.monotonic() + TICK_S
        for call, task in self._tasks.values():
            if call.expires_at <= due and not (call.expired or call.cut_off):
                call.expired = True
                task.cancel()
        self._ticking = bool(self._tasks)
        if self._ticking:
            loop.call_later(TICK_S, self._tick, loop)
