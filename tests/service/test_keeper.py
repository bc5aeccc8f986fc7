"""The keeper: a writer that cannot start says why, one that dies is replaced, one that will not end is ended."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from points_grpc.service import keeper as keeper_module
from points_grpc.service.channel import Channel
from points_grpc.service.committer import Committer
from points_grpc.service.frames import BugReport, FromWriter, Hello, Setup, Unable
from points_grpc.service.keeper import CannotStart, Keeper
from writing import Silent

SETUP = Setup("sqlite:///points.db", "/keys", (), 256, 5.0)
HELLO = Hello("1.0", 42, 0, 1, "0001", "sqlite", {"synchronous": "FULL"}, durable=True)


DEAD = "dead"
SILENT = "silent"
Says = FromWriter | str


class Process:
    """A process that says one thing and then nothing; `channel` is its end."""

    pid = 42

    def __init__(self, says: Says) -> None:
        self.stream, theirs = socket.socketpair()
        self.marks, their_marks = os.pipe()
        self.channel = Channel(theirs, their_marks)
        self.waited_for = 0
        self.is_alive = True
        if says == DEAD:
            self.die()
        elif not isinstance(says, str):
            self.channel.send(says)

    def wait(self, timeout_s: float) -> int:
        self.waited_for += 1
        return 9

    def die(self) -> None:
        if self.is_alive:
            self.is_alive = False
            self.channel.close()


class Observer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, hello: Hello) -> None:
        self.told.append("started")

    def lost(self) -> None:
        self.told.append("lost")

    def ended(self, *, pid: int, exit_code: int, understood: bool) -> None:
        self.told.append(f"ended {pid} {exit_code} {understood}")

    def failed(self, message: str) -> None:
        self.told.append(f"failed: {message}")


def play(says: list[Says], scene: Callable[[Keeper, list[Process], Observer], Awaitable[Any]]) -> Any:
    """Runs a scene with a keeper whose processes say these things first, one after another."""

    async def main() -> Any:
        processes: list[Process] = []

        def launch() -> Process:
            processes.append(Process(says[len(processes)]))
            return processes[-1]

        observer = Observer()
        committer = Committer(monotonic=time.monotonic, observer=Silent())
        keeper = Keeper(launch, SETUP, committer, observer, version="1.0")
        try:
            return await scene(keeper, processes, observer)
        finally:
            for process in processes:
                process.die()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (Unable("another server (pid 1 on x) serves y; stop it first"), "another server .* stop it first"),
        (BugReport("KeyError", ("a.py:1 f",)), "KeyError at a.py:1 f"),
        (
            Hello("2.0", 42, 0, 1, "0001", "sqlite", {"synchronous": "FULL"}, durable=True),
            "version 2.0 was installed meanwhile",
        ),
        (DEAD, "ended with code 9 before it said hello"),
    ],
)
def test_a_writer_that_cannot_start_says_why(says: Says, message: str) -> None:
    """The operator gets a sentence, and no process is left behind."""

    async def scene(keeper: Keeper, processes: list[Process], observer: Observer) -> int:
        with pytest.raises(CannotStart, match=message):
            await keeper.start()
        await keeper.stop(1.0)
        return processes[0].waited_for

    assert 1 == play([says], scene)


def test_a_writer_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start takes only so long."""
    monkeypatch.setattr(keeper_module, "START_MAX_S", 0.05)

    async def scene(keeper: Keeper, processes: list[Process], observer: Observer) -> None:
        with pytest.raises(CannotStart, match="did not say hello within"):
            await keeper.start()

    play([SILENT], scene)


def test_a_writer_that_dies_is_replaced() -> None:
    """Again and again, and a start that fails is tried once more."""

    async def scene(keeper: Keeper, processes: list[Process], observer: Observer) -> list[str]:
        hello = await keeper.start()
        assert HELLO == hello
        processes[0].die()
        while observer.told.count("started") < 2:
            await asyncio.sleep(0.01)
        told = list(observer.told)
        stopping = asyncio.ensure_future(keeper.stop(1.0))
        await asyncio.sleep(0.02)
        processes[-1].die()
        await stopping
        assert told == observer.told
        return told

    assert ["started", "lost", "ended 42 9 True", "failed: busy", "started"] == play(
        [HELLO, Unable("busy"), HELLO], scene
    )


def test_a_writer_that_does_not_drain_is_ended() -> None:
    """A stop takes only so long, too: then the link is closed and the process ended."""

    async def scene(keeper: Keeper, processes: list[Process], observer: Observer) -> int:
        await keeper.start()
        await keeper.stop(0.05)
        return processes[0].waited_for

    assert 1 == play([HELLO], scene)


def test_a_stop_while_no_writer_starts_ends_the_tries() -> None:
    """A server that is told to stop does not wait for a writer that it would have to stop at once."""

    async def scene(keeper: Keeper, processes: list[Process], observer: Observer) -> None:
        await keeper.start()
        processes[0].die()
        while len(observer.told) < 5:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(keeper.stop(1.0), 2.0)

    play([HELLO, *[Unable("busy")] * 50], scene)
