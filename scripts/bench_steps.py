"""Where each microsecond of a transfer goes: the steps of server and writer with a stopwatch, in one process.

    python scripts/bench_steps.py                  a minute
    python scripts/bench_steps.py --write docs     puts table and picture into docs/performance.md, docs/performance/

Every step is taken many times in batches of 1, 32 and 256, and its lowest time is reported beside its median: CPU time,
and for what waits for the disk the time that passed. gRPC's own part is the CPU time of the no-op,
a server of its own. Then identity, log, metrics and the chain are left out one by one, in turn with nothing left out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import uvloop
from bench_figures import NOOP
from bench_load import Driver, Level, find_generator
from bench_machine import Machine, look_around
from bench_pipeline import DECODE, ENCODE, Pipeline, replaced
from bench_servers import noop
from bench_svg import Bar, Section, picture
from bench_table import figure, put_into
from bench_world import Population, World

from points_grpc.cli.collector import calm_collector
from points_grpc.domain.chain import START
from points_grpc.rpc import parse, render, serve
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.identity import Callers
from points_grpc.rpc.logs import JsonLog
from points_grpc.rpc.metrics import PrometheusMetrics
from points_grpc.rpc.quotas import Quotas
from points_grpc.rpc.signature import Signatures
from points_grpc.service import channel, executor, link
from points_grpc.service.keyring import Keyring
from points_grpc.service.meter import Meter
from points_grpc.storage import apply, collect
from points_grpc.storage.driver import SqliteDriver
from points_grpc.storage.load import Reader

GRPC, GATE, LINK, DECIDE, STORE = "gRPC", "server", "link", "writer", "SQLite"
GROUPS = (GRPC, GATE, LINK, DECIDE, STORE)
CHAIN = "chain of the journal"

STEPS: Mapping[str, tuple[str, Sequence[tuple[object, str]]]] = {
    "identity": (GATE, [(Callers, "authenticate")]),
    "quotas and signature": (
        GATE,
        [
            (Quotas, "await_request"),
            (Quotas, "got_request"),
            (Quotas, "enter"),
            (Quotas, "leave"),
            (Signatures, "judge"),
        ],
    ),
    "parse": (GATE, [(parse, "transfer_points")]),
    "fingerprint": (GATE, [(serve, "fingerprint")]),
    "render": (GATE, [(render, "transfer_points")]),
    "log": (GATE, [(JsonLog, "call")]),
    "metrics": (GATE, [(PrometheusMetrics, "observe"), (PrometheusMetrics, "batch"), (PrometheusMetrics, "add")]),
    "server's end of the link": (
        LINK,
        [(link, "encode_to_writer"), (link, "decode_from_writer"), (link.Link, "send"), (link.Link, "taken")],
    ),
    "writer's end of the link": (
        LINK,
        [(channel.Channel, "receive"), (channel.Channel, "mark"), (channel.Channel, "send")],
    ),
    "begin": (STORE, [(SqliteDriver, "begin")]),
    "resolve names": (DECIDE, [(executor, "lookups_of"), (Reader, "ask_names"), (Reader, "directory")]),
    "declare keys": (DECIDE, [(executor, "keys_of")]),
    "recall": (DECIDE, [(Reader, "ask_recorded"), (Reader, "records")]),
    "load": (DECIDE, [(Reader, "ask_keys"), (Reader, "loaded")]),
    "queries": (STORE, [(SqliteDriver, "query")]),
    "decide": (DECIDE, [(executor, "decide_one")]),
    "record": (DECIDE, [(Keyring, "fingerprint"), (executor, "settled")]),
    CHAIN: (DECIDE, [(collect, "encode"), (collect, "next_hash")]),
    "rows": (DECIDE, [(apply.Writer, "write"), (apply, "encode_outcome"), (apply, "encode_fingerprint")]),
    "inserts and updates": (STORE, [(SqliteDriver, "put")]),
    "count": (DECIDE, [(Meter, "count")]),
    "commit": (STORE, [(SqliteDriver, "commit")]),
    "the rest of the writer": (DECIDE, [(executor.Executor, "run")]),
}
"""Each step: whose it is, and what of the program is timed for it, without what is timed within."""

WAITING = frozenset({"begin", "commit"})
"""Steps that wait for a lock or for the disk: of those, time that passes is counted."""

CODEC, REST = "protobuf", "gate, committer, event loop"
GROUP_OF = {GRPC: GRPC, CODEC: GATE, REST: GATE, **{step: group for step, (group, _) in STEPS.items()}}


@dataclass(frozen=True, slots=True)
class Extent:
    """How much: batches of each size, and repetitions."""

    customers: int
    repetitions: Mapping[int, int]
    turns: int
    turn_size: int
    noop: Level


FULL = Extent(4_000, {1: 300, 32: 60, 256: 25}, 400, 16, Level(64, 8, 8_000))
TINY = Extent(600, {1: 5, 32: 3, 256: 2}, 3, 8, Level(8, 2, 80))


@dataclass(frozen=True, slots=True)
class Spread:
    """Microseconds of a transfer."""

    lowest: float
    median: float


@dataclass(frozen=True, slots=True)
class Saved:
    """Microseconds of a transfer: the median of all turns, and how far from it the true one may be (95 %)."""

    median: float
    off: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found: by the size of the batch and the step; and what leaving something out saves."""

    quick: bool
    began: str
    machine: Machine
    generator: str
    steps: Mapping[int, Mapping[str, Spread]]
    whole_us: Spread
    saved_us: Mapping[str, Saved]


class Stopwatch:
    """Times functions that call each other, on one thread; what is timed within another is not the other's.

    Counted is the thread's CPU time, so that it does not matter who else has the core meanwhile; of what waits (for the
    disk), the time that passed. What the watch takes itself is taken off: at each call so much between its two looks at
    the clock, and so much around them.
    """

    def __init__(self) -> None:
        """Finds out first what it takes itself."""
        self.spent_ns: dict[str, float] = defaultdict(float)
        self.outside_cpu_ns = 0.0
        self._costs_ns = (0.0, 0.0)
        self._within: list[float] = [0.0]
        self._costs_ns = self._look_at_itself()
        self.reset()

    def reset(self) -> None:
        """Starts again. `outside_cpu_ns` is CPU time that is in no step: the watch's own, less what only waited."""
        self.spent_ns.clear()
        self.outside_cpu_ns = 0.0

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a stopwatch."""
        clock, spent, within = time.thread_time_ns, self.spent_ns, self._within
        inside, outside = self._costs_ns

        def run(*given: Any, **named: Any) -> Any:
            within.append(0.0)
            started = clock()
            try:
                return function(*given, **named)
            finally:
                took = clock() - started
                spent[step] += took - within.pop() - inside
                within[-1] += took + outside
                self.outside_cpu_ns += inside + outside

        return run

    def timed_waiting(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same for a function that waits."""
        run = self.timed(step, function)

        def wait(*given: Any, **named: Any) -> Any:
            started, cpu = time.perf_counter_ns(), time.thread_time_ns()
            try:
                return run(*given, **named)
            finally:
                waited = (time.perf_counter_ns() - started) - (time.thread_time_ns() - cpu)
                self.spent_ns[step] += waited
                self.outside_cpu_ns -= waited

        return wait

    def _look_at_itself(self) -> tuple[float, float]:
        """What a call of nothing takes between the looks at the clock, and around them: the lowest of many."""
        run, calls = self.timed("", lambda: None), 200
        found = []
        for _ in range(100):
            self.spent_ns.clear()
            started = time.thread_time_ns()
            for _ in range(calls):
                run()
            whole = (time.thread_time_ns() - started) / calls
            inside = self.spent_ns[""] / calls
            found.append((inside, whole - inside))
        return min(found, key=sum)


def main() -> int:
    """Reads the flags, measures, reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extent", choices=("full", "tiny"), default="full", help="tiny: to test the bench itself")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="put table and picture into this folder's page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure into a file")
    parser.add_argument("--callers", choices=("ghz", "python"), default="ghz", help="python: do without ghz")
    parser.add_argument("--directory", type=Path, help="where the temporary database lies")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="points-steps-", dir=arguments.directory) as name:
        extent = FULL if arguments.extent == "full" else TINY
        found = measure(extent, Path(name), python=arguments.callers == "python")
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    if arguments.write:
        (arguments.write / "performance").mkdir(parents=True, exist_ok=True)
        put_into(arguments.write / "performance.md", "scripts/bench_steps.py", table(found))
        (arguments.write / "performance" / "steps.svg").write_text(draw(found), encoding="utf-8")
    return 0


def measure(extent: Extent, folder: Path, *, python: bool) -> Found:
    """What gRPC takes, in a process of its own; then all the rest here."""
    machine, began = look_around(folder), datetime.now(UTC)
    generator = find_generator(None, python=python)
    with noop(folder) as server:
        world = World(Population(1, extent.customers), Driver(generator, folder), folder)
        samples = [world.measure(number, extent.noop, NOOP, NOOP, server) for number in range(3)]
    used = [sample.server_cpu_us for sample in samples if sample.server_cpu_us is not None]
    grpc_us = Spread(min(used), median(used)) if used else Spread(0.0, 0.0)
    steps, whole, saved = uvloop.run(in_process(extent, folder))
    return Found(
        quick=extent is TINY,
        began=f"{began:%Y-%m-%d %H:%M} UTC",
        machine=machine,
        generator=generator.name,
        steps={size: {GRPC: grpc_us, **by_step} for size, by_step in steps.items()},
        whole_us=whole,
        saved_us=saved,
    )


Steps = Mapping[int, Mapping[str, Spread]]


async def in_process(extent: Extent, folder: Path) -> tuple[Steps, Spread, Mapping[str, Saved]]:
    """The steps by the size of a batch, the whole without a stopwatch, and what leaving something out saves."""
    pipeline = Pipeline(folder, extent.customers)
    await pipeline.start()
    await pipeline.wrap(DECODE)
    calm_collector()
    for size in extent.repetitions:
        await pipeline.run(pipeline.requests(size), ENCODE)
    found = {size: await timed(pipeline, size, number) for size, number in extent.repetitions.items()}
    await pipeline.wrap(DECODE)
    whole, saved = await left_out(pipeline, extent.turn_size, extent.turns)
    await pipeline.close()
    return found, whole, saved


async def timed(pipeline: Pipeline, size: int, repetitions: int) -> Mapping[str, Spread]:
    """Each step of a batch of this size, in microseconds of a transfer."""
    watch = Stopwatch()
    changes = [
        (owner, name, (watch.timed_waiting if step in WAITING else watch.timed)(step, vars(owner)[name]))
        for step, (_, parts) in STEPS.items()
        for owner, name in parts
    ]
    decode, encode = watch.timed(CODEC, DECODE), watch.timed(CODEC, ENCODE)
    seen: dict[str, list[float]] = defaultdict(list)
    with replaced(*changes):
        await pipeline.wrap(decode)
        for _ in range(repetitions):
            requests = pipeline.requests(size)
            watch.reset()
            started = time.thread_time_ns()
            await pipeline.run(requests, encode)
            whole = time.thread_time_ns() - started
            for step in (CODEC, *STEPS):
                seen[step].append(watch.spent_ns[step] / 1_000 / size)
            seen[REST].append((whole - sum(watch.spent_ns.values()) - watch.outside_cpu_ns) / 1_000 / size)
    return {step: Spread(min(times), median(times)) for step, times in seen.items()}


async def left_out(pipeline: Pipeline, size: int, turns: int) -> tuple[Spread, Mapping[str, Saved]]:
    """CPU of a transfer with everything, and what is saved where one thing is left out, taken in turn."""
    caller = Caller(1, "bench", "bench", Role.OPERATOR, "IN")
    variants: Mapping[str, Sequence[tuple[object, str, object]]] = {
        "": (),
        "identity": [(Callers, "authenticate", lambda *_: caller)],
        "log": [(JsonLog, "call", _nothing)],
        "metrics": [(owner, name, _nothing) for owner, name in STEPS["metrics"][1]] + [(Meter, "count", _nothing)],
        CHAIN: [(collect, "encode", lambda *_: b""), (collect, "next_hash", lambda *_: START)],
    }
    used: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns):
        names = list(variants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with replaced(*variants[name]):
                requests = pipeline.requests(size)
                started = time.process_time_ns()
                await pipeline.run(requests, ENCODE)
                used[name].append((time.process_time_ns() - started) / 1_000 / size)
    whole = used.pop("")
    saved = {
        name: _saved([everything - less for everything, less in zip(whole, times, strict=True)])
        for name, times in used.items()
    }
    return Spread(min(whole), median(whole)), saved


def _saved(differences: Sequence[float]) -> Saved:
    """By the notch of a box plot: 1.57 times the middle half's width, by the root of the number."""
    low, _, high = quantiles(differences, n=4)
    return Saved(median(differences), 1.57 * (high - low) / math.sqrt(len(differences)))


def _nothing(*_: object, **__: object) -> None:
    """Does nothing."""


# For people


def _setting(found: Found) -> str:
    machine = found.machine
    return (
        f"Measured on {found.began} by `python scripts/bench_steps.py`, load average {machine.load_before} at the"
        f" start, {machine.software}, SQLite with `synchronous=FULL` on {machine.filesystem}"
        f" ({machine.fsync_ms} ms a page). Microseconds of a transfer in batches of"
        f" {', '.join(map(str, found.steps))}: the lowest of many, and the median; CPU time, but for"
        " begin and commit, which wait."
    )


def table(found: Found) -> str:
    """The steps as Markdown."""
    sizes = list(found.steps)
    lines = [
        _setting(found),
        "",
        f"| step | whose | {' | '.join(f'{size}: lowest | median' for size in sizes)} |",
        "|---|---|" + "---|---|" * len(sizes),
    ]
    for step in found.steps[sizes[0]]:
        cells = [f"{figure(one.lowest)} | {figure(one.median)}" for one in (found.steps[size][step] for size in sizes)]
        lines.append(f"| {step} | {GROUP_OF[step]} | {' | '.join(cells)} |")
    sums = [f"{figure(sum_of(found, size))} |" for size in sizes]
    lines.append(f"| all | | {' | '.join(sums)} |")
    saved = ", ".join(f"{name} {_told(one)} ({_share(found, one)})" for name, one in found.saved_us.items())
    whole = f"{figure(found.whole_us.median)} µs of CPU (median; lowest {figure(found.whole_us.lowest)})"
    lines += [
        "",
        f"Without gRPC a transfer takes {whole} in this process. Left out one by one saves, in µs (95 %): {saved}.",
    ]
    if found.quick:
        lines.append("**A tiny run: its figures say nothing.**")
    return "\n".join(lines) + "\n"


def sum_of(found: Found, size: int) -> float:
    """All steps together, each at its lowest."""
    return sum(one.lowest for one in found.steps[size].values())


def _told(saved: Saved) -> str:
    return f"{saved.median:.1f} ± {saved.off:.1f}"


def _share(found: Found, saved: Saved) -> str:
    return f"{100 * saved.median / found.whole_us.median:.1f} %"


def draw(found: Found) -> str:
    """The picture: whose time it is, by the size of the batch; the steps of the largest; what was left out."""
    largest = max(found.steps)
    whose = [
        Bar(
            f"batches of {size}" if size > 1 else "alone",
            [
                (number, sum(one.lowest for step, one in by_step.items() if GROUP_OF[step] == group))
                for number, group in enumerate(GROUPS)
            ],
            figure(sum_of(found, size)),
            f"all/{size}",
        )
        for size, by_step in found.steps.items()
    ]
    steps = [
        Bar(step, [(GROUPS.index(GROUP_OF[step]), one.lowest)], figure(one.lowest), f"{step}/{largest}")
        for step, one in found.steps[largest].items()
    ]
    saved = [
        Bar(name, [(5, max(one.median, 0.0))], f"{_told(one)} ({_share(found, one)})", f"saved/{name}")
        for name, one in found.saved_us.items()
    ]
    machine = found.machine
    note = f"{found.began}, {machine.cores} cores, load average {machine.load_before}; lowest of many, µs"
    return picture(
        "Where the microseconds of a transfer go",
        [
            Section("All, by the size of the batch", whose),
            Section(f"Step by step, in a batch of {largest}", steps),
            Section("Saved where it is left out", saved),
        ],
        series=GROUPS,
        note=note + ("; a tiny run" if found.quick else ""),
    )


if __name__ == "__main__":
    sys.exit(main())
