"""`kill -9` of server, writer or both under 64 callers: what was acknowledged is there, once; what not, at most once.

Judged from the callers' own log, on a connection of its own, and then by sending every request again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import callers
import pytest
import shop
from callers import Line, Plan, read_log

from running import RunningServer

TASKS = 64
CUSTOMERS = 220
LOTS = (20_000, 20_000, 20_000, 20_000)
BETWEEN_KILLS = 120
"""How many transfers are acknowledged at least between two kills."""

Record = Callable[[str, object], None]

VICTIMS = ("both", "writer", "server")
"""Who is killed, in turn: the service as a whole, or one of its two processes."""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_ten_kills(tmp_path: Path, record_property: Record) -> None:
    """Ten kills at random moments: nothing that was acknowledged is lost, nothing is done twice."""
    kill_and_judge(tmp_path, record_property, kills=10)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_hundred_kills(tmp_path: Path, record_property: Record) -> None:
    """A hundred kills at random moments."""
    kill_and_judge(tmp_path, record_property, kills=100)


@pytest.mark.ci
def test_three_kills(tmp_path: Path, record_property: Record) -> None:
    """The same, short: each kind once."""
    kill_and_judge(tmp_path, record_property, kills=3)


def kill_and_judge(folder: Path, record: Record, *, kills: int) -> None:
    """Sets up, kills, judges, sends again, judges again."""
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}: POINTS_SEED={seed} repeats the requests and the pauses, though not the interleaving")
    server = RunningServer(folder)
    server.port = steady_port(random.Random())
    server.address = f"127.0.0.1:{server.port}"
    token = server.key(server.organisation())
    server.start()
    try:
        customers = shop.Shop(server, token)
        customers.add_customers(CUSTOMERS, LOTS)
        plan = Plan(
            server.address, token, shop.PROGRAM, str(folder / "load.log"), seed, customers.customers, tasks=TASKS
        )
        killed_at = load_and_kill(server, plan, kills, random.Random(seed))
        first = read_log(Path(plan.log))
        in_flight = [calls_in_flight(first, at) for at in killed_at]
        judge = shop.Judge(server.path)
        record_figures(record, first, judge.transfers(), killed_at)
        before = judge_acknowledged(judge, first, kills)
        again = send_again(plan, folder)
        transfers, sent = judge.transfers(), {line.request_id for line in first if line.event == "sent"}
        record("figure.unreconciled", len(sent ^ transfers.keys()) + len(shop.differences(server)))
        judge_again(judge, first, again, before)

        assert min(in_flight) >= 1, in_flight
        assert "verify: OK" == shop.verify(server)
        assert (customers.issued,) * 3 == judge.points()
        assert 0 == judge.below_zero()
        assert 0 == server.stop()
    finally:
        server.close()
    events = Counter(line.event for line in first)
    written = sum(line.request_id in before for line in first if line.event == "open")
    print(
        f"{len(killed_at)} kills; {events['sent']} sent, {events['acknowledged']} acknowledged, {events['open']} open,"
        f" {written} of them written; in flight at the kills: {in_flight}"
    )


def record_figures(record: Record, log: list[Line], journal: dict[str, list[int]], killed_at: list[int]) -> None:
    """The figures of a run, whatever they are: the judgement comes after."""
    promised = {line.request_id: line.fields["transfer_id"] for line in log if line.event == "acknowledged"}
    sent = {line.request_id: line.at for line in log if line.event == "sent"}
    answered = [(sent[line.request_id], line.at) for line in log if line.event == "acknowledged"]
    back_s = [
        (min((at for begun, at in answered if begun > killed), default=killed) - killed) / 1e9 for killed in killed_at
    ]
    record("figure.kills", len(killed_at))
    record("figure.acknowledged", len(promised))
    record("figure.acknowledged lost", sum(journal.get(one) != [done] for one, done in promised.items()))
    record("figure.doubled", sum(len(done) > 1 for done in journal.values()))
    record("figure.longest until a write was acknowledged after a kill, s", round(max(back_s), 2))


def steady_port(chance: random.Random) -> int:
    """A free port that the system gives to nobody else.

    While the server is down, a caller that reconnects to one of those could be given that very port for its own end: it
    would be connected to itself, and the server could not come back.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = chance.randrange(first_given // 2, first_given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


# -- the deed ----------------------------------------------------------------------------------------------------------


def load_and_kill(server: RunningServer, plan: Plan, kills: int, chance: random.Random) -> list[int]:
    """Lets the callers call, kills the server again and again; when, on the monotonic clock in nanoseconds."""
    log = Path(plan.log)
    log.touch()
    process = start_callers(plan, log.with_suffix(".plan"))
    killed_at: list[int] = []
    try:
        for number in range(kills):
            wait_for(process, log, acknowledged(log) + BETWEEN_KILLS)
            time.sleep(chance.uniform(0, 0.4))
            killed_at.append(time.monotonic_ns())
            kill(server, VICTIMS[number % len(VICTIMS)])
        wait_for(process, log, max(acknowledged(log) + BETWEEN_KILLS, 1000 if kills >= 10 else 0))
        process.send_signal(signal.SIGTERM)

        assert 0 == process.wait(timeout=40)
    finally:
        process.kill()
        process.wait()
    return killed_at


def kill(server: RunningServer, victim: str) -> None:
    """Kills, and sees to it that the service comes back; after the death of the writer alone it does so by itself."""
    if victim == "writer":
        server.kill_writer()
        return
    if victim == "both":
        server.kill_writer()
    server.kill()
    server.start()


def send_again(plan: Plan, folder: Path) -> list[Line]:
    """Sends every request of the first log once more; the log of that."""
    second = Plan(plan.address, plan.token, plan.program_id, str(folder / "again.log"), tasks=TASKS, earlier=plan.log)
    process = start_callers(second, folder / "again.plan")

    assert 0 == process.wait(timeout=600)
    return read_log(Path(second.log))


def start_callers(plan: Plan, path: Path) -> subprocess.Popen[bytes]:
    """Starts the process of the callers."""
    return subprocess.Popen([sys.executable, callers.__file__, str(plan.write(path))])


def acknowledged(log: Path) -> int:
    """How many transfers the log says were acknowledged so far."""
    return log.read_bytes().count(b'"event": "acknowledged"')


def wait_for(process: subprocess.Popen[bytes], log: Path, count: int) -> None:
    """Waits until so many transfers were acknowledged."""
    until = time.monotonic() + 60
    while acknowledged(log) < count:
        assert process.poll() is None, "the callers ended"
        assert time.monotonic() < until, f"only {acknowledged(log)} of {count} acknowledged"
        time.sleep(0.02)


# -- the judgement -----------------------------------------------------------------------------------------------------


def calls_in_flight(log: list[Line], at: int) -> int:
    """How many calls had been sent at an instant and were never answered: the kill took them."""
    sent = {line.request_id for line in log if line.event == "sent" and line.at < at}
    answered = {line.request_id for line in log if line.event != "sent" and line.at < at}
    came_later = {line.request_id for line in log if line.event == "acknowledged" and line.at >= at}
    return len(sent - answered - came_later)


def judge_acknowledged(judge: shop.Judge, log: list[Line], kills: int) -> dict[str, list[int]]:
    """Whether each acknowledged transfer is in the journal once, under its id; and no other more than once."""
    assert [] == [line for line in log if line.event == "surprise"][:3]
    journal = judge.transfers()
    promised = {line.request_id: line.fields["transfer_id"] for line in log if line.event == "acknowledged"}
    sent = {line.request_id for line in log if line.event == "sent"}

    assert len(promised) >= 1000 or kills < 10
    assert {} == {one: promised[one] for one in promised if journal.get(one) != [promised[one]]}, "lost or changed"
    assert [] == [one for one, ids in journal.items() if len(ids) > 1], "done twice"
    assert set() == set(journal) - sent, "done unasked"
    return journal


def judge_again(judge: shop.Judge, first: list[Line], again: list[Line], before: dict[str, list[int]]) -> None:
    """Whether what is sent again is replayed where it was written, and done once where it was not."""
    assert [] == [line for line in again if line.event not in {"sent", "acknowledged"}][:3]
    answers = {line.request_id: line for line in again if line.event == "acknowledged"}
    sent = {line.request_id for line in first if line.event == "sent"}
    after = judge.transfers()

    assert sent == set(answers)
    assert {one: [answers[one].fields["transfer_id"]] for one in sent} == after, "each request has one transfer"
    assert {} == {one: ids for one, ids in before.items() if after[one] != ids}, "written before, changed by a repeat"
    assert set(before) == {one for one in sent if answers[one].fields["replayed"]}
