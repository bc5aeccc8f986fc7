"""Several servers on one PostgreSQL: one of them sends one-time codes; another goes on when it dies or stands still."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shop import Shop, transfer_fields

from databases import on_postgres
from points_grpc.v1 import points_service_pb2
from postgres_cluster import Cluster
from running import Caller, RunningServer

pytestmark = pytest.mark.ci  # it takes long

CODES = 60
TAKEN_OVER_S = 5.0
"""How soon the next server is on duty after the death of the one before: it tries every second."""

STOOD_STILL_S = 20.0
"""The same for one that was stopped: PostgreSQL ends its session after ten seconds of silence."""

_LINE = re.compile(r"one-time code for MOBILE (\S+): \S+")


class Servers:
    """Two servers on one database, with customers who have mobiles and a receiver."""

    def __init__(self, folder: Path, postgres: Cluster) -> None:
        self.on = on_postgres(postgres)(folder)
        self.running = [self._server(folder / name) for name in ("first", "second")]
        first, second = self.running
        token = first.key(first.organisation())
        self.shop = Shop(first.start(), token)
        second.start()
        self.receiver = self.shop.add_customers(1)[0]
        self.customers = self.shop.add_customers(CODES, lots=(100,), mobile="999")
        self.callers = [Caller(one.address, self.shop.token) for one in self.running]

    def _server(self, folder: Path) -> RunningServer:
        folder.mkdir()
        keys = ("--keys-file", str(folder.parent / "keys.json"), "--otp-sender", "console")
        return RunningServer(folder, *keys, on=self.on)

    def issue(self, customers: Sequence[int], callers: Sequence[Caller]) -> None:
        """Codes for all of them at once, through one server after the other."""

        def ask(number: int) -> None:
            caller = callers[number % len(callers)]
            fields = transfer_fields(customers[number], self.receiver, 10, f"code-{time.time_ns()}-{number}")
            caller.ask(caller.points.IssueTransferOtp, points_service_pb2.IssueTransferOtpRequest(), fields)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(len(customers))))

    def sent(self, server: RunningServer) -> Counter[str]:
        """To whom a server sent codes, and how often."""
        return Counter(_LINE.findall(server.output()))

    def wait_until_sent(self, count: int, timeout_s: float) -> Counter[str]:
        """Waits until so many codes were sent, and nothing is left to send; who got how many."""
        until = time.monotonic() + timeout_s
        while True:
            found = self.sent(self.running[0]) + self.sent(self.running[1])
            [(queued,)] = self.on.rows("SELECT COUNT(*) FROM outbox WHERE state = 'QUEUED'")
            if (found.total() >= count and queued == 0) or time.monotonic() > until:
                return found
            time.sleep(0.05)

    def on_duty(self) -> tuple[RunningServer, RunningServer]:
        """The server that is on duty, and the other one."""
        first, second = self.running
        return (first, second) if "duty_taken" in events(first) else (second, first)

    def close(self) -> None:
        for caller in self.callers:
            caller.close()
        for server in self.running:
            server.close()
        self.on.drop()


def events(server: RunningServer) -> list[str]:
    """What a server logged about duty, in order."""
    return [one["event"] for one in server.logged() if one["event"].startswith("duty_")]


@pytest.fixture
def servers(tmp_path: Path, postgres: Cluster) -> Iterator[Servers]:
    made = Servers(tmp_path, postgres)
    yield made
    made.close()


def test_a_code_is_sent_once_and_by_the_next_server_after_a_kill(servers: Servers) -> None:
    """While both live each code leaves once; after `kill -9` of the one on duty the other sends what comes."""
    before, after = servers.customers[: CODES // 2], servers.customers[CODES // 2 :]
    servers.issue(before, servers.callers)
    sent_by_one = servers.wait_until_sent(len(before), 10)
    on_duty, other = servers.on_duty()
    alone = servers.sent(on_duty)
    on_duty.kill()
    survivor = servers.callers[servers.running.index(other)]
    killed_at = time.monotonic()
    servers.issue(after, [survivor])
    sent_in_all = servers.wait_until_sent(CODES, 15)
    took_s = time.monotonic() - killed_at

    assert {1} == set(sent_by_one.values())
    assert (len(before), alone) == (len(sent_by_one), sent_by_one)
    assert (CODES, {1}) == (len(sent_in_all), set(sent_in_all.values()))
    assert ["duty_taken"] == events(other)
    assert took_s < TAKEN_OVER_S


def test_a_server_that_stops_gives_duty_back(servers: Servers) -> None:
    """The next one takes it within a second or two, and nothing is reported as lost."""
    servers.issue(servers.customers[:4], servers.callers)
    servers.wait_until_sent(4, 10)
    on_duty, other = servers.on_duty()
    code = on_duty.stop()
    until = time.monotonic() + TAKEN_OVER_S
    while not events(other) and time.monotonic() < until:
        time.sleep(0.05)

    assert (0, ["duty_taken"], ["duty_taken"]) == (code, events(on_duty), events(other))


@pytest.mark.long
def test_a_server_that_stands_still_loses_duty_and_knows_it(servers: Servers) -> None:
    """PostgreSQL ends the session of a server that was stopped; when it goes on it sends nothing."""
    servers.issue(servers.customers[:2], servers.callers)
    servers.wait_until_sent(2, 10)
    on_duty, other = servers.on_duty()
    assert on_duty.process is not None
    os.kill(on_duty.process.pid, signal.SIGSTOP)
    survivor = servers.callers[servers.running.index(other)]
    servers.issue(servers.customers[2:10], [survivor])
    servers.wait_until_sent(10, STOOD_STILL_S)
    sent = servers.sent(other)
    os.kill(on_duty.process.pid, signal.SIGCONT)
    servers.issue(servers.customers[10:20], [survivor])
    in_all = servers.wait_until_sent(20, 10)

    assert 8 == sent.total()
    assert (20, {1}) == (len(in_all), set(in_all.values()))
    assert 18 == servers.sent(other).total()
    assert ["duty_taken", "duty_lost"] == events(on_duty)
