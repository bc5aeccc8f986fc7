"""The log: JSON lines through structlog, written without ever holding up the event loop.

A line is rendered at once and queued; the loop's executor writes what has gathered. The queue is bounded: when the
reader of the log stands still, lines are dropped and counted, and calls go on. Lines hold what the interceptor knows of
a call, never a payload, an identifier of a customer or a one-time code.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import IO, Any

import msgspec
import structlog

from points_grpc.masking import masked_id

LINES_MAX = 20_000
"""The most lines that wait to be written: some seconds of full load."""

FLUSH_S = 0.05
"""How long a line waits for others."""

WRITE_MAX = 4_096
"""What a pipe takes as a whole, whoever else writes into it (PIPE_BUF on Linux), in bytes."""


class LineSink:
    """Takes rendered lines and writes them in batches. Lines may come from any thread."""

    def __init__(
        self, stream: IO[bytes], *, lines_max: int = LINES_MAX, flush_s: float = FLUSH_S, shared: bool = False
    ) -> None:
        """Takes where to write; a line more than `lines_max` that waits is dropped.

        `shared`: other processes write there too, so that lines are written in pieces that nothing gets in between.
        """
        self._stream = stream
        self._lines_max = lines_max
        self._flush_s = flush_s
        self._write_max = WRITE_MAX if shared else 0
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From now on lines are written by the executor of this loop; with None, at once by whoever logs."""
        self._loop = loop
        self._scheduled = False

    def msg(self, line: bytes) -> None:
        """Takes one line."""
        if len(self._lines) >= self._lines_max:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._loop is None:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._wait, self._loop)

    debug = info = warning = error = critical = exception = log = msg

    def flush(self) -> None:
        """Writes what waits. To be called at the end too; two at once share the lines, and write whole ones."""
        lines = []
        try:
            while True:
                lines.append(self._lines.popleft())
        except IndexError:
            pass
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(msgspec.json.encode({"event": "log_lines_dropped", "count": dropped}))
        for piece in _pieces(lines, self._write_max):
            self._stream.write(b"\n".join(piece) + b"\n")
            self._stream.flush()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lets further lines gather."""
        loop.call_later(self._flush_s, self._hand_over, loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has the waiting lines written elsewhere, then looks again; writes them itself once the loop was given up."""
        if self._loop is not loop:
            self.flush()
            return
        loop.run_in_executor(None, self.flush).add_done_callback(lambda _: self._look_again(loop))

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Goes on if lines came meanwhile."""
        self._scheduled = bool(self._lines)
        if self._scheduled:
            self._wait(loop)


def _pieces(lines: list[bytes], bytes_max: int) -> list[list[bytes]]:
    """Lines that are written together: all, or as many as fit; a line that is longer stands alone."""
    if not bytes_max:
        return [lines] if lines else []
    pieces: list[list[bytes]] = []
    room = 0
    for line in lines:
        if len(line) >= room:
            pieces.append([])
            room = bytes_max
        pieces[-1].append(line)
        room -= len(line) + 1
    return pieces


class JsonLog:
    """The log of the server. Events pass through structlog; the line of a call, one each, takes a shorter way."""

    def __init__(self, sink: LineSink, *, calls: bool = True, worker: int = 0) -> None:
        """Takes where the lines go, whether each call has one, and the worker's number that each bears, unless 0."""
        self._sink = sink
        self._calls = calls
        self._worker = worker
        events: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            sink,
            processors=[_render],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            cache_logger_on_first_use=True,
        )
        self.events = events.bind(worker=worker) if worker else events

    def call(
        self,
        *,
        method: str,
        code: str,
        reason: str,
        ms: float,
        org: int,
        client: str,
        request_id: str,
        correlation_id: str,
        trace_id: str = "",
    ) -> None:
        """Writes the line of a call: 2 µs instead of the 10 that the way of events takes."""
        if self._calls:
            line = _CallLine(
                datetime.now(UTC),
                method,
                code,
                reason,
                ms,
                org,
                client,
                masked_id(request_id),
                masked_id(correlation_id),
                trace_id,
                self._worker,
            )
            self._sink.msg(_ENCODER.encode(line))

    def info(self, event: str, **fields: object) -> None:
        """Writes a line about something usual."""
        self.events.info(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Writes a line about something broken."""
        self.events.error(event, **fields)


def make_logger(sink: LineSink, *, calls: bool = True, worker: int = 0) -> JsonLog:
    """Makes the log of a server; with `calls` off, calls leave no lines and only events do.

    `worker` is the number of a server that is one of several on a port, and in all its lines; 0 for a server alone.
    """
    return JsonLog(sink, calls=calls, worker=worker)


class _CallLine(msgspec.Struct, tag_field="event", tag="call", frozen=True, gc=False, omit_defaults=True):
    """The line of a call; no trace is written where there is none, and no worker for a server alone."""

    time: datetime
    method: str
    code: str
    reason: str
    ms: float
    org: int
    client: str
    request_id: str
    correlation_id: str
    trace_id: str = ""
    worker: int = 0


_CHOSEN_BY_CALLERS = frozenset({"request_id", "correlation_id"})
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def _render(logger: object, level: str, fields: MutableMapping[str, Any]) -> bytes:  # noqa: ARG001 - structlog's call
    """Renders a line: event, time and level first."""
    line = {"event": fields.pop("event", ""), "time": datetime.now(UTC), "level": level}
    line.update(fields)
    for name in _CHOSEN_BY_CALLERS & line.keys():
        line[name] = masked_id(str(line[name]))
    return _ENCODER.encode(line)
