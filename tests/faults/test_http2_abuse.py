"""Abuse below gRPC: floods of frames, calls that never end and messages that explode, from who has no credential.

Whatever it is, the server lives, its memory stays bounded for so many connections, and every call of somebody else is
answered, rightly. What it does to how long these calls take is measured by the long form and not asserted here: the
abuser has as many cores as the server.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from generators import Generator, waits
from http2_abuser import FLOODS, HOLDS
from neighbour import Neighbour
from shop import FIRST_CUSTOMER, Shop

from running import RunningServer, children

ABUSER = Path(__file__).with_name("http2_abuser.py")
WAYS = (*FLOODS, *HOLDS)
GROWTH_BYTES_MAX = 256 * 2**20
"""How much the server's processes may grow under any of it, at their largest: heads that never end take most, some 50
MiB for each connection, however long they go on (decision 175)."""

LONG_S = 5.0
ROUNDS = 2
WITH_CREDENTIAL = frozenset({"gzip_bomb", "oversized_metadata"})
"""What is sent by who has a credential: without one, nothing is read of a request."""


class Memory(threading.Thread):
    """Watches how large the processes of a server become, together."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        assert server.process is not None
        self._pids = [server.process.pid, *children(server.process.pid)]
        self._stopped = threading.Event()
        self.before = self.most = self.now()

    def now(self) -> int:
        """How large they are."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids)
        return pages * os.sysconf("SC_PAGE_SIZE")

    def run(self) -> None:
        while not self._stopped.wait(0.02):
            self.most = max(self.most, self.now())

    def stop(self) -> int:
        """By how much they had grown when they were largest."""
        self._stopped.set()
        self.join()
        return self.most - self.before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that is used to calls."""
    running = RunningServer(tmp_path_factory.mktemp("abuse"), environment={"POINTS_GRPC_LOG_CALLS": "false"})
    token = running.key(running.organisation())
    running.start()
    running.token = token
    try:
        Shop(running, token).add_customers(len(WAYS) * 2)
        yield running
    finally:
        running.close()


def abuser(server: RunningServer, way: str, seconds: float, *, yields: bool = False) -> Generator:
    """Who will abuse the server."""
    token = [server.token] if way in WITH_CREDENTIAL else []
    return Generator(ABUSER, way, server.port, seconds, *token, yields=yields)


@pytest.mark.ci
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "way", [pytest.param(one, marks=[pytest.mark.long] if place > 4 else []) for place, one in enumerate(WAYS)]
)
def test_somebody_else_is_served(server: RunningServer, way: str, record_property: Callable[..., None]) -> None:
    """While one is abusing the server, another one's calls are answered, rightly, and memory is bounded."""
    neighbour, memory = Neighbour(server, server.token, FIRST_CUSTOMER + WAYS.index(way)), Memory(server)
    neighbour.issue()
    memory.start()
    neighbour.start()
    told = abuser(server, way, 1.0).run()
    issued = neighbour.count
    neighbour.stop()
    grown = memory.stop()
    record_property(
        "summary",
        f"{way}: {told}, {issued} calls beside it, {neighbour.repeated} sent again, grown by {grown >> 20} MiB",
    )

    assert [] == neighbour.wrong
    assert issued > 0 < told["connections"]
    assert is_alive(server)
    assert grown < GROWTH_BYTES_MAX


@pytest.mark.long
@pytest.mark.timeout(900)
def test_how_long_somebody_else_waits(server: RunningServer, record_property: Callable[..., None]) -> None:
    """The same for longer; the 99th percentile of the other's calls under each way is told beside the quiet one.

    And beside that under a decoy; how much of its abuse the abuser got done is told, too.
    """
    neighbour = Neighbour(server, server.token, FIRST_CUSTOMER + len(WAYS))
    neighbour.start()
    too_large = []
    for way in WAYS:
        before, memory = (neighbour.count, neighbour.repeated), Memory(server)
        memory.start()
        make = functools.partial(abuser, server, way, LONG_S, yields=True)
        found = waits(neighbour, make, rounds=ROUNDS, seconds=LONG_S)
        grown, octets = memory.stop(), sum(one["octets"] for one in found.told)
        if grown >= GROWTH_BYTES_MAX:
            too_large.append((way, grown))
        sent = ", ".join(f"{sum(one[name] for one in found.told)} {name}" for name in ("connections", "frames"))
        calls, again = neighbour.count - before[0], neighbour.repeated - before[1]
        record_property(
            "summary",
            f"{way}: {found}; {sent}, {octets >> 20} MiB; of {calls} calls, {again} sent again;"
            f" grown by {grown >> 20} MiB at most",
        )
        record_property(f"figure.p99 under {way}, times", round(found.times, 1))
        record_property(f"figure.p99 beside a decoy of {way}, times", round(found.times_of_decoy, 1))
    neighbour.stop()

    assert [] == neighbour.wrong
    assert is_alive(server)
    assert [] == too_large


def is_alive(server: RunningServer) -> bool:
    """Whether it is the process that was started."""
    return server.process is not None and server.process.poll() is None
