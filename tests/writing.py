"""A committer with a real writer behind it: the writer's loop in a thread of this process, over a link of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from threading import Thread

from points_grpc.service.channel import Channel
from points_grpc.service.committer import Committer, Observer, QueueLimits
from points_grpc.service.frames import BugReport
from points_grpc.service.link import Link
from points_grpc.service.meter import Counted
from points_grpc.service.writer import BatchRunner, Writer


class Silent:
    """An observer whom nothing interests."""

    def batch(self, *, size: int, seconds: float, oldest_wait_s: float, counted: Counted) -> None:
        """A batch was run."""

    def bug(self, report: BugReport) -> None:
        """A bug is what no test of this asks for."""
        raise AssertionError(report)

    def unable(self, message: str) -> None:
        """The writer ends for a cause that the test made, and its callers are told."""


def no_pause(attempt: int) -> None:
    """Runs a batch again at once."""


@contextlib.asynccontextmanager
async def writing(
    runner: BatchRunner,
    *,
    observer: Observer | None = None,
    limits: QueueLimits | None = None,
    batch_max: int = 256,
    before_drain: Callable[[], None] = lambda: None,
) -> AsyncIterator[Committer]:
    """A committer until the end of the block; then it is drained."""
    ours, theirs = socket.socketpair()
    marks, their_marks = os.pipe()
    channel = Channel(theirs, their_marks)
    writer = Writer(runner, channel, monotonic=time.monotonic, pause=no_pause, sleep=time.sleep, batch_max=batch_max)

    def serve() -> None:
        try:
            writer.serve()
        finally:
            channel.close()

    thread = Thread(target=serve, name="writer", daemon=True)
    committer = Committer(monotonic=time.monotonic, observer=observer or Silent(), limits=limits)
    committer.attach(Link(ours, marks))
    thread.start()
    try:
        yield committer
    finally:
        before_drain()
        await committer.drain()
        await asyncio.to_thread(thread.join)
