"""Strictly serial, shown from outside: the answers of a concurrent run, through kills, fit one order and real time."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from history import check
from shop import Shop, verify
from test_kill import steady_port
from tills import Tills

from databases import on_postgres
from postgres_cluster import Cluster
from running import RunningServer, children

CALLERS = 8
WALLETS = 5
LOTS = (60, 60, 60)
"""So few points that some are always asked for in vain."""

Record = Callable[[str, object], None]


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_answers_fit_one_order(tmp_path: Path, record_property: Record) -> None:
    """2,000 operations on SQLite, with the death of the writer in the middle."""
    run_and_judge(RunningServer(tmp_path), 2_000, ["writer"], record_property)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_answers_of_two_workers_fit_one_order(tmp_path: Path, postgres: Cluster, record_property: Record) -> None:
    """2,000 operations on PostgreSQL through two workers, with the death of a writer in the middle."""
    server = RunningServer(tmp_path, "--workers", "2", on=on_postgres(postgres)(tmp_path))
    run_and_judge(server, 2_000, ["writer of a worker"], record_property)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_answers_fit_one_order_for_long(tmp_path: Path, record_property: Record) -> None:
    """20,000 operations on SQLite, with six deaths of the writer, the server or both."""
    run_and_judge(RunningServer(tmp_path), 20_000, ["writer", "server", "both"] * 2, record_property)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_answers_of_two_workers_fit_one_order_for_long(
    tmp_path: Path, postgres: Cluster, record_property: Record
) -> None:
    """20,000 operations on PostgreSQL through two workers, with six deaths of a writer."""
    server = RunningServer(tmp_path, "--workers", "2", on=on_postgres(postgres)(tmp_path))
    run_and_judge(server, 20_000, ["writer of a worker"] * 6, record_property)


def run_and_judge(server: RunningServer, count: int, victims: list[str], record: Record) -> None:
    """Calls, kills in between, and judges the history of all of it."""
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}: POINTS_SEED={seed} repeats the requests, though not their order at the server")
    server.port = steady_port(random.Random())
    server.address = f"127.0.0.1:{server.port}"
    token = server.key(server.organisation())
    server.start()
    try:
        shop = Shop(server, token)
        wallets = shop.add_customers(WALLETS, LOTS)
        tills = Tills(server.address, token, wallets, callers=CALLERS, seed=seed)
        start, killed_at = asyncio.run(load(server, tills, count, victims))
        found = check(tills.operations, start)
        back_s = [
            (min((at for sent, at in tills.written if sent > killed), default=killed) - killed) / 1e9
            for killed in killed_at
        ]
        record("figure.operations", len(tills.operations))
        record("figure.kills", len(killed_at))
        record("figure.cycles and other violations", len(found))
        record("figure.longest until a write was acknowledged after a kill, s", round(max(back_s), 2))
        counts = ", ".join(f"{name} {number}" for name, number in sorted(tills.counts.items()))
        record("summary", f"{len(tills.operations)} operations, {len(killed_at)} kills, {counts}")

        assert [] == [str(one) for one in found[:5]]
        assert len(victims) == len(killed_at)
        assert tills.counts["open, sent again"] >= len(victims), "nobody noticed the kills"
        assert tills.counts["TransferPointsRequest refused"] > 0, "nobody asked for too much"
        assert "verify: OK" == verify(server)
        assert 0 == server.stop()
    finally:
        print("\n".join(line for line in server.errors().splitlines() if '"event":"call"' not in line)[-20_000:])
        server.close()
        if server.on.backend == "postgresql":
            server.on.drop()


async def load(
    server: RunningServer, tills: Tills, count: int, victims: list[str]
) -> tuple[dict[int, tuple[int, int]], list[int]]:
    """Runs the callers and kills at even distances; what was there at the beginning, and when was killed."""
    start = await tills.look()
    calling = asyncio.create_task(tills.run(count))
    killed_at: list[int] = []
    for number, victim in enumerate(victims, start=1):
        while len(tills.operations) < count * number // (len(victims) + 1) and not calling.done():
            await asyncio.sleep(0.005)
        if calling.done():
            break
        killed_at.append(time.monotonic_ns())
        await asyncio.to_thread(kill, server, victim)
    await calling
    await tills.look()

    assert all(earlier < later for earlier, later in pairwise(killed_at))
    return start, killed_at


def kill(server: RunningServer, victim: str) -> None:
    """Kills, and sees to it that the service comes back."""
    match victim:
        case "writer":
            server.kill_writer()
        case "writer of a worker":
            assert server.process is not None
            writers = [writer for worker in children(server.process.pid) for writer in children(worker)]
            os.kill(writers[0], 9)
        case _:
            if victim == "both":
                server.kill_writer()
            server.kill()
            server.start()
