"""The pool of reads: organisations take turns, none has all threads, and what nobody waits for is stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from databases import on_sqlite
from points_grpc.service.ports import StorageUnavailable
from points_grpc.service.reads import ReadPool
from points_grpc.service.stopping import Stop, is_unwanted
from points_grpc.storage.driver import Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.repository import reading

LOUD, QUIET = 1, 2
ENDLESS = Statement("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n", ())


class Gate:
    """Reads that stand still until they are let go, and the order in which they began."""

    def __init__(self) -> None:
        self.began: list[tuple[int, str]] = []
        self.opened = threading.Event()

    def read(self, org_id: int, name: str) -> str:
        """A read."""
        self.began.append((org_id, name))
        assert self.opened.wait(30)
        return name


def play(scene: Callable[[ReadPool, Gate], Coroutine[Any, Any, Any]], *, threads: int) -> Any:
    """Runs a scene on a pool of its own."""

    async def main() -> Any:
        pool, gate = ReadPool(threads=threads), Gate()
        try:
            return await scene(pool, gate)
        finally:
            gate.opened.set()
            pool.close()

    return asyncio.run(main())


async def began(gate: Gate, number: int) -> None:
    """Waits until so many reads began."""
    while len(gate.began) < number:
        await asyncio.sleep(0.001)


def test_an_organisation_never_has_all_threads() -> None:
    """However much one asks, another is read for at once."""

    async def scene(pool: ReadPool, gate: Gate) -> list[tuple[int, str]]:
        loud = [asyncio.ensure_future(pool.run(gate.read, LOUD, str(one))) for one in range(9)]
        await began(gate, 2)
        quiet = asyncio.ensure_future(pool.run(gate.read, QUIET, "q"))
        await began(gate, 3)
        seen = list(gate.began)
        gate.opened.set()
        await asyncio.gather(quiet, *loud)
        return seen

    assert [(LOUD, "0"), (LOUD, "1"), (QUIET, "q")] == play(scene, threads=3)


def test_organisations_take_turns() -> None:
    """Each gets one of the threads that become free, in the order of its calls."""

    async def scene(pool: ReadPool, gate: Gate) -> list[tuple[int, str]]:
        reads = [asyncio.ensure_future(pool.run(gate.read, LOUD, str(one))) for one in range(4)]
        await began(gate, 1)
        reads += [asyncio.ensure_future(pool.run(gate.read, QUIET, one)) for one in ("q", "r")]
        await asyncio.sleep(0.01)
        gate.opened.set()
        await asyncio.gather(*reads)
        return gate.began

    assert [(1, "0"), (1, "1"), (2, "q"), (1, "2"), (2, "r"), (1, "3")] == play(scene, threads=1)


def test_whoever_stops_waiting_gives_up_his_turn() -> None:
    """What was not begun is never read, and its thread goes to the next."""

    async def scene(pool: ReadPool, gate: Gate) -> list[tuple[int, str]]:
        first = asyncio.ensure_future(pool.run(gate.read, LOUD, "first"))
        await began(gate, 1)
        gone = asyncio.ensure_future(pool.run(gate.read, LOUD, "gone"))
        last = asyncio.ensure_future(pool.run(gate.read, LOUD, "last"))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, last)
        return gate.began

    assert [(LOUD, "first"), (LOUD, "last")] == play(scene, threads=1)


def test_what_fails_gives_its_thread_back() -> None:
    """An error reaches who asked, and the next is read for."""

    async def scene(pool: ReadPool, gate: Gate) -> str:
        gate.opened.set()
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda org_id: org_id // 0, LOUD)
        return await pool.run(gate.read, LOUD, "next")

    assert "next" == play(scene, threads=1)


def test_a_read_learns_that_nobody_waits() -> None:
    """A read that runs can ask, and its thread is free once it ended."""

    async def scene(pool: ReadPool, gate: Gate) -> bool:
        learned = threading.Event()

        def read(_org_id: int) -> None:
            gate.began.append((LOUD, "it"))
            while not is_unwanted():
                gate.opened.wait(0.001)
            learned.set()

        call = asyncio.ensure_future(pool.run(read, LOUD))
        await began(gate, 1)
        call.cancel()
        gate.opened.set()
        return await pool.run(lambda _org_id: learned.wait(30) and not is_unwanted(), QUIET)

    assert play(scene, threads=1)


def test_sqlite_stops_what_nobody_waits_for(tmp_path: Path) -> None:
    """A query that would never end ends, and says that it did not get there."""
    database = Database(on_sqlite(tmp_path).url)
    stop = Stop()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    try:
        with stop.watched(), pytest.raises(StorageUnavailable), reading(database) as driver:
            driver.query(ENDLESS, ())
    finally:
        timer.join()
        database.close()
