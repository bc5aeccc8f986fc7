"""Keeps a writer running: starts its process, gives it to the committer, and starts another when it dies.

While there is none, the committer refuses and the server's health says so. How a process is started is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from points_grpc.service.committer import Committer
from points_grpc.service.frames import BugReport, FromWriter, Hello, Setup, Unable
from points_grpc.service.link import Link, LinkEnded

START_MAX_S = 30.0
"""How long a writer may take until it says hello, its wait for the lease of the one before included."""

EXIT_MAX_S = 5.0
"""How long a process may take to end once its end of the link is closed; then it is killed."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 5.0
"""The pause before the next try, when writers do not start; it doubles."""


class CannotStart(RuntimeError):
    """The writer could not start; says why, in a sentence for the operator."""


class WriterProcess(Protocol):
    """A process that was started: our ends of its link, and its end."""

    pid: int
    stream: socket.socket
    marks: int

    def wait(self, timeout_s: float) -> int:
        """Waits until the process has ended, kills it if it has not by then, and returns its exit code. Blocks."""
        ...


class Observer(Protocol):
    """Whom the keeper tells."""

    def started(self, hello: Hello) -> None:
        """A writer is ready."""
        ...

    def lost(self) -> None:
        """The writer's end of the link is closed although nobody asked for that; nothing can be written for now."""
        ...

    def ended(self, *, pid: int, exit_code: int, understood: bool) -> None:
        """The process of that writer has ended; another one is being started."""
        ...

    def failed(self, message: str) -> None:
        """Another one could not be started; that is tried again."""
        ...


class Keeper:
    """The life of the writers of one server."""

    def __init__(
        self,
        launch: Callable[[], WriterProcess],
        setup: Setup,
        committer: Committer,
        observer: Observer,
        *,
        version: str,
    ) -> None:
        """`launch` starts a process and returns at once; `version` is what its hello must say."""
        self._launch = launch
        self._setup = setup
        self._committer = committer
        self._observer = observer
        self._version = version
        self._stopping = asyncio.Event()
        self._process: WriterProcess | None = None
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Hello:
        """Starts the first writer and watches over it from then on. Raises `CannotStart`."""
        hello = await self._begin()
        self._task = asyncio.create_task(self._watch(), name="keeper")
        return hello

    async def stop(self, timeout_s: float) -> None:
        """Drains the writer and waits until it has ended; one that takes too long is killed."""
        self._stopping.set()
        if self._task is None:
            return
        if self._link is None:
            self._task.cancel()  # It tries to start another one.
        try:
            await asyncio.wait_for(self._committer.drain(), timeout_s)
        except TimeoutError:
            if self._link is not None:
                self._link.close()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _begin(self) -> Hello:
        process = self._launch()
        link = Link(process.stream, process.marks)
        link.send(self._setup)
        try:
            first = await asyncio.wait_for(link.first(), START_MAX_S)
            message = self._objection(first)
        except TimeoutError:
            message = f"the writer did not say hello within {START_MAX_S:.0f} s"
        except LinkEnded:
            message = ""
        except asyncio.CancelledError:
            link.close()
            raise
        else:
            if isinstance(first, Hello) and not message:
                self._process, self._link = process, link
                self._committer.attach(link)
                self._observer.started(first)
                return first
        link.close()
        exit_code = await asyncio.to_thread(process.wait, EXIT_MAX_S)
        raise CannotStart(message or f"the writer ended with code {exit_code} before it said hello")

    def _objection(self, first: FromWriter) -> str:
        """Why a first message is no hello to go on from; empty if it is one."""
        match first:
            case Hello(version=version) if version == self._version:
                return ""
            case Hello(version=version):
                return f"version {version} was installed meanwhile: restart the server ({self._version})"
            case Unable(message=message):
                return message
            case BugReport(error=error, frames=frames):
                return f"the writer failed to start: {error} at {', '.join(frames[-3:])}"
            case _:
                return "the writer did not say hello"

    async def _watch(self) -> None:
        """Waits for the end of one writer after another; the last one is that which was drained."""
        while self._link is not None and self._process is not None:
            process, link = self._process, self._link
            await link.ended.wait()
            if not self._stopping.is_set():
                self._observer.lost()
            exit_code = await asyncio.to_thread(process.wait, EXIT_MAX_S)
            if self._stopping.is_set():
                return
            self._observer.ended(pid=process.pid, exit_code=exit_code, understood=link.is_understood)
            self._process = self._link = None
            await self._begin_again()

    async def _begin_again(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while not self._stopping.is_set():
            try:
                await self._begin()
                return
            except (CannotStart, OSError) as error:
                self._observer.failed(str(error))
            try:
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            except TimeoutError:
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
