"""More calls than the service can carry, sent whether or not the last ones were answered: what is still done of them.

Capacity is found first, then the service is offered multiples of it. The long form tells figures and judges none that
depends on the machine; the generator shares it with the service, so that what it takes is missing there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import flood
import pytest
from flood import Ended, Flood, read_ended
from loads import Record, booked
from prometheus_client.parser import text_string_to_metric_families
from shop import PROGRAM, Shop, verify

from running import RunningServer, children, free_port

CUSTOMERS = 400
LOTS = (1_000_000, 1_000_000)

FACTORS = (1.3, 2.0, 5.0)
"""How many times what the service can carry it is offered."""

NORMAL = 0.5
"""What it is offered afterwards: the load of an ordinary day."""

MEMORY_EVERY_S = 0.2
GRACE_S = 120.0
"""How much longer than its calls a flood may take to end."""

WINDOW_S, GOOD = 0.5, 0.95
"""It is normal again from the first window on in which so many calls succeed."""

SECONDS = float(os.environ.get("POINTS_OVERLOAD_S", "20"))
"""How long each part of the long form lasts."""

MAY_BE = {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED"}
"""What may become of a call: done, shed with the advice to come again, or too late (open where it was in hand). The
service ends a call at its deadline, too: if it is the first to notice, the caller sees a cancelled one."""

NEVER_WRITTEN = {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}


@dataclass(slots=True)
class Part:
    """A part of a run: what was offered for how long, and what became of it."""

    name: str
    seconds: float
    calls: list[Ended]
    memory_mib: list[float]
    """What server and writer had in memory, seen at even distances."""

    in_server: Counter[float]
    """How many transfers took no longer in the server than so many seconds, the bounds of its own histogram."""

    @property
    def offered_per_s(self) -> float:
        """Calls that were sent, a second."""
        return len(self.calls) / self.seconds

    @property
    def done_per_s(self) -> float:
        """Calls that were accepted while it lasted, a second."""
        until = min(one.due_at for one in self.calls) + self.seconds
        return sum(one.status == "OK" and one.ended_at <= until for one in self.calls) / self.seconds

    def latency_ms(self, percent: int) -> float:
        """How long the accepted calls took from when they were due."""
        took = sorted(one.ended_at - one.due_at for one in self.calls if one.status == "OK")
        return 1_000 * took[min(len(took) - 1, len(took) * percent // 100)] if took else 0.0

    def in_server_ms(self, percent: int) -> float:
        """How long calls took once the server had taken them, spread evenly between the bounds of its histogram."""
        wanted, below, bound_below = max(self.in_server.values()) * percent / 100, 0, 0.0
        for bound, so_far in sorted(self.in_server.items()):
            if so_far >= wanted and so_far > below:
                return 1_000 * (bound_below + (bound - bound_below) * (wanted - below) / (so_far - below))
            below, bound_below = so_far, bound
        return 0.0

    def late_ms(self) -> float:
        """By how much calls were sent later than they were due: where it is much, the generator was measured."""
        late = sorted(one.sent_at - one.due_at for one in self.calls)
        return 1_000 * late[len(late) // 2]

    def grown_mib(self) -> float:
        """By how much the memory grew after the first half: what waits is bounded, so that it has grown by then."""
        half = len(self.memory_mib) // 2
        return max(self.memory_mib[half:]) - max(self.memory_mib[: half + 1])

    def normal_after_s(self) -> float:
        """How long after its beginning the calls succeed again; as long as it lasted where they do not."""
        began = min(one.due_at for one in self.calls)
        windows: dict[int, list[bool]] = {}
        for one in self.calls:
            windows.setdefault(int((one.due_at - began) / WINDOW_S), []).append(one.status == "OK")
        for number, found in sorted(windows.items()):
            if sum(found) >= GOOD * len(found):
                return number * WINDOW_S
        return self.seconds

    def told(self) -> str:
        """The part in a line."""
        statuses = ", ".join(
            f"{name} {count}" for name, count in Counter(one.status for one in self.calls).most_common()
        )
        return (
            f"{self.name}: offered {self.offered_per_s:.0f} a second, done {self.done_per_s:.0f},"
            f" p50 {self.latency_ms(50):.0f} ms, p99 {self.latency_ms(99):.0f} ms, in the server"
            f" {self.in_server_ms(50):.0f} and {self.in_server_ms(99):.0f} ms, sent late by"
            f" {self.late_ms():.0f} ms in the median; {statuses}"
        )


class Overload:
    """A server, and floods of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics_port = free_port()
        self.server = RunningServer(folder, "--metrics-port", str(self.metrics_port))
        token = self.server.key(self.server.organisation())
        self.shop = Shop(self.server.start(), token)
        self.shop.add_customers(CUSTOMERS, LOTS)
        self.parts: list[Part] = []

    def part(self, name: str, *, seconds: float, rate: float = 0.0) -> Part:
        """Runs a flood to its end."""
        log = self.folder / f"{name}.log"
        given = Flood(
            self.server.address, self.shop.token, PROGRAM, self.shop.customers, str(log), name, seconds, rate
        ).write(self.folder / f"{name}.flood")
        memory: list[float] = []
        before = self.transfer_times()
        with subprocess.Popen([sys.executable, flood.__file__, str(given)]) as process:
            until = time.monotonic() + seconds + GRACE_S
            while process.poll() is None:
                if time.monotonic() > until:
                    process.kill()
                memory.append(self.memory_mib())
                time.sleep(MEMORY_EVERY_S)
        assert 0 == process.returncode
        took = self.transfer_times()
        took.subtract(before)
        self.parts.append(Part(name, seconds, read_ended(log), memory, took))
        return self.parts[-1]

    def transfer_times(self) -> Counter[float]:
        """The histogram that the service keeps of transfers: how many took no longer than each bound."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            text = answer.read().decode()
        return Counter(
            {
                float(one.labels["le"]): int(one.value)
                for family in text_string_to_metric_families(text)
                for one in family.samples
                if one.name == "points_grpc_call_seconds_bucket"
                and one.labels["method"].endswith("/TransferPoints")
                and one.labels["le"] != "+Inf"  # No call takes longer than the largest bound.
            }
        )

    def memory_mib(self) -> float:
        """What server and writer have in memory."""
        assert self.server.process is not None
        pids = (self.server.process.pid, *children(self.server.process.pid))
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def judge(self, record: Record) -> None:
        """Everything that was acknowledged is there once, nothing that was shed is, and the books are clean."""
        journal = booked(self.server.on)
        said = {f"{part.name}-{one.number}": one.status for part in self.parts for one in part.calls}
        acknowledged = {name for name, status in said.items() if status == "OK"}
        shed = {name for name, status in said.items() if status in NEVER_WRITTEN}
        [(points,)] = self.server.on.rows("SELECT SUM(current) FROM wallets")
        record("figure.acknowledged", len(acknowledged))
        record("figure.acknowledged lost", len(acknowledged - journal.keys()))
        record("figure.doubled", sum(len(ids) > 1 for ids in journal.values()))
        record("figure.unreconciled", len(shed & journal.keys()) + len(journal.keys() - said.keys()))

        assert set(said.values()) <= MAY_BE, Counter(said.values())
        assert acknowledged <= journal.keys()
        assert set() == shed & journal.keys(), "written although shed"
        assert journal.keys() <= said.keys()
        assert {1} == {len(ids) for ids in journal.values()}
        assert self.shop.issued == points
        assert "verify: OK" == verify(self.server)


def overload(folder: Path, record: Record, *, seconds: float, factors: Sequence[float]) -> None:
    """Finds the capacity, offers multiples of it, each followed by an ordinary load, and judges what was written."""
    run = Overload(folder)
    try:
        run.part("warm-up", seconds=min(2.0, seconds))
        capacity = run.part("capacity", seconds=seconds)
        peak, normal = capacity.done_per_s, capacity.latency_ms(99)
        record("summary", run.parts[-1].told())
        record("figure.overload: peak, a second", round(peak))
        for factor in factors:
            before = run.memory_mib()
            pressed = run.part(f"times-{factor:g}", seconds=seconds, rate=factor * peak)
            after = run.memory_mib()
            ordinary = run.part(f"after-{factor:g}", seconds=seconds, rate=NORMAL * peak)
            record("summary", pressed.told())
            record("summary", f"memory {before:.0f} MiB before, {after:.0f} after; {ordinary.told()}")
            at = f"overload: at {factor:g} times"
            record(f"figure.{at}, offered a second", round(pressed.offered_per_s))
            record(f"figure.{at}, done of the peak, percent", round(100 * pressed.done_per_s / peak))
            record(f"figure.{at}, memory more, MiB", round(after - before, 1))
            record(f"figure.{at}, of that in the second half, MiB", round(pressed.grown_mib(), 1))
            record(f"figure.{at}, p99 of the normal one", round(pressed.latency_ms(99) / normal, 1))
            record(
                f"figure.{at}, p99 in the server of the normal one",
                round(pressed.in_server_ms(99) / capacity.in_server_ms(99), 1),
            )
            record(f"figure.{at}, normal again after, s", ordinary.normal_after_s())

            assert any(one.status == "OK" for one in ordinary.calls), "it did not come back"
        run.judge(record)

        assert 0 == run.server.stop()
    finally:
        run.server.close()


@pytest.mark.ci
def test_overload_for_a_moment(tmp_path: Path, record_property: Record) -> None:
    """Five times too many calls for a second: each is done or refused as documented, and what was said is true."""
    overload(tmp_path, record_property, seconds=1.0, factors=(5.0,))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_overload(tmp_path: Path, record_property: Record) -> None:
    """1.3, 2 and 5 times too many calls."""
    overload(tmp_path, record_property, seconds=SECONDS, factors=FACTORS)
