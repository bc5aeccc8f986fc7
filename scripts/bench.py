"""Measures the service beside a bare server that does nothing, on both engines, and settles the journal afterwards.

    scripts/bench                          the whole run on both engines, about a quarter of an hour
    scripts/bench --quick                  about two minutes: shows that the bench works
    scripts/bench --database sqlite        one engine
    scripts/bench --growth 10000000        on to so many lots: about 2 GB for each million, and a minute or two;
                                           Ctrl-C goes on with the next engine, and what was measured counts
    scripts/bench --write docs             puts table and plots into docs/performance.md and docs/performance/
    scripts/bench --json FILE              writes every figure for programs

The servers stand side by side on this machine and get the same requests from the same generator over as many
connections, in turn, so that a ratio says something where the absolute figures drift. Nothing fails by a figure: the
bench fails if a call went wrong, or if the journal does not agree with what the callers were told.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import bench_plots
import bench_table
from bench_figures import (
    BATCH,
    CHECK,
    MANY_LOTS,
    NOOP,
    ONE_LOT,
    REDEEM,
    TRANSFER,
    Found,
    Grown,
    Result,
    Sample,
    write_json,
)
from bench_growth import grow
from bench_load import Driver, Level, LoadFailedError, find_generator
from bench_machine import demand, look_around, withheld_since
from bench_servers import Server, ServerFailedError, noop
from bench_stand import Stand, on_sqlite
from bench_world import FIRST_CUSTOMER_ID, Population, World, progress, settle


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. `batches`: of how many items, and at which level; `growth`: the numbers of lots at which
    transfers are measured again.
    """

    customers: int
    lots: int
    rounds: int
    levels: tuple[Level, ...]
    batches: tuple[tuple[int, Level], ...]
    lot_levels: tuple[Level, ...]
    warm_up: Level
    growth: tuple[int, ...]
    growth_levels: tuple[Level, ...]
    scale: int
    tpcb_s: int


SEEDING = Level(128, 8, 0)
GROWTH_FROM = 10_000
FULL = Plan(
    customers=10_000,
    lots=10_000,
    rounds=5,
    levels=(Level(1, 1, 1_000), Level(64, 8, 8_000), Level(256, 16, 8_000)),
    batches=((1_000, Level(1, 1, 10)), (500, Level(1, 1, 16)), (500, Level(4, 4, 40))),
    lot_levels=(Level(1, 1, 800), Level(64, 8, 4_000)),
    warm_up=Level(16, 4, 1_000),
    growth=(10_000, 100_000),
    growth_levels=(Level(1, 1, 600), Level(64, 8, 4_000)),
    scale=50,
    tpcb_s=10,
)
QUICK = Plan(
    customers=1_000,
    lots=1_000,
    rounds=1,
    levels=(Level(1, 1, 150), Level(64, 8, 1_000), Level(256, 16, 1_000)),
    batches=((250, Level(1, 1, 2)), (250, Level(4, 4, 8))),
    lot_levels=(Level(1, 1, 100),),
    warm_up=Level(16, 4, 200),
    growth=(),
    growth_levels=(Level(64, 8, 800),),
    scale=5,
    tpcb_s=2,
)
TINY = Plan(
    customers=100,
    lots=20,
    rounds=1,
    levels=(Level(1, 1, 10), Level(64, 4, 64)),
    batches=((20, Level(1, 1, 2)), (10, Level(1, 1, 2))),
    lot_levels=(Level(1, 1, 10),),
    warm_up=Level(4, 2, 8),
    growth=(100, 200),
    growth_levels=(Level(1, 1, 10),),
    scale=1,
    tpcb_s=1,
)
PLANS = {"full": FULL, "quick": QUICK, "tiny": TINY}
ENGINES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part of a run needs."""

    plan: Plan
    rounds: int
    driver: Driver
    folder: Path
    directory: Path | None

    @contextmanager
    def servers(self, engine: str, part: str) -> Iterator[tuple[Server, Stand]]:
        """The no-op and an engine, both anew for a part of the run; large databases make room for one another."""
        with (
            tempfile.TemporaryDirectory(prefix=f"{engine}-{part}-", dir=self.folder) as name,
            noop(folder := Path(name)) as yardstick,
        ):
            if engine == "sqlite":
                with on_sqlite(folder) as stand:
                    yield yardstick, stand
            else:
                from bench_postgres import on_postgresql  # noqa: PLC0415 - its driver is an extra

                with on_postgresql(folder, self.directory) as stand:
                    yield yardstick, stand


def main() -> int:
    """Reads the flags, runs, reports."""
    arguments = flags().parse_args()
    plan = PLANS["quick" if arguments.quick else arguments.extent]
    sizes = sizes_up_to(arguments.growth, plan)
    engines = [arguments.database] if arguments.database else ENGINES
    try:
        with tempfile.TemporaryDirectory(prefix="points-bench-", dir=arguments.directory) as name:
            generator = find_generator(arguments.ghz, python=arguments.callers == "python")
            driver = Driver(generator, Path(name))
            rounds = arguments.rounds or plan.rounds
            result = run(Bench(plan, rounds, driver, Path(name), arguments.directory), engines, sizes)
    except (LoadFailedError, ServerFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(bench_table.table(result))
    if arguments.json:
        write_json(result, arguments.json)
    if arguments.write:
        (arguments.write / "performance").mkdir(parents=True, exist_ok=True)
        bench_table.put_into(arguments.write / "performance.md", "scripts/bench", bench_table.table(result))
        bench_plots.draw(result, arguments.write / "performance")
    if not result.holds:
        print(f"bench: FAILED: {result.wrong} calls went wrong" if result.wrong else "bench: FAILED", file=sys.stderr)
        return 1
    print("bench: OK")
    return 0


def sizes_up_to(lots: int | None, plan: Plan) -> list[int]:
    """The sizes of the plan, and so many times ten of the last as are wanted."""
    sizes = list(plan.growth)
    while lots and (not sizes or sizes[-1] < lots):
        sizes.append(min(sizes[-1] * 10 if sizes else GROWTH_FROM, lots))
    return sizes


def flags() -> argparse.ArgumentParser:
    """What a run takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few customers and calls, one round")
    parser.add_argument("--extent", choices=tuple(PLANS), default="full", help="tiny: to test the bench itself")
    parser.add_argument("--database", choices=ENGINES, help="one engine alone")
    parser.add_argument("--rounds", type=int, help="how many rounds to take the medians of")
    parser.add_argument("--growth", type=int, metavar="LOTS", help="go on growing up to so many lots")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="put table and plots into this folder's page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure into a file")
    parser.add_argument("--ghz", type=Path, metavar="PATH", help="the ghz to use; else PATH, else built with Go")
    parser.add_argument("--callers", choices=("ghz", "python"), default="ghz", help="python: do without ghz")
    parser.add_argument("--directory", type=Path, help="where the temporary databases lie")
    return parser


def run(bench: Bench, engines: Sequence[str], sizes: Sequence[int]) -> Result:
    """The whole run, one engine after the other, each from empty servers to a settled journal."""
    machine, started, began, busy = look_around(bench.folder), time.monotonic(), datetime.now(UTC), demand()
    found = [measure(bench, engine) for engine in engines]
    grown = list(growth_until_stopped(bench, engines if sizes else (), sizes))
    return Result(
        quick=bench.plan is not FULL,
        began=f"{began:%Y-%m-%d %H:%M} UTC",
        minutes=(time.monotonic() - started) / 60,
        load_after=round(os.getloadavg()[0], 2),
        withheld=withheld_since(busy),
        niceness=os.nice(0),
        rounds=bench.rounds,
        customers=bench.plan.customers,
        lots=bench.plan.lots,
        generator=bench.driver.generator.name,
        machine=machine,
        found=found,
        grown=grown,
    )


def measure(bench: Bench, engine: str) -> Found:
    """Everything on one engine, beside the no-op."""
    plan = bench.plan
    with bench.servers(engine, "table") as (yardstick, stand):
        world = World(Population(FIRST_CUSTOMER_ID, plan.customers), bench.driver, bench.folder)
        first = next(iter(stand.servers.values()))
        progress(f"{stand.engine}: {plan.customers:,} customers with points, and a wallet of {plan.lots:,} lots")
        empty = stand.books.size_bytes()
        world.seed(first, SEEDING)
        per_customer = (stand.books.size_bytes() - empty) / plan.customers
        world.seed_lots(first, SEEDING, lots=plan.lots + plan.lots // 10)
        if stand.make_tpcb is not None:
            stand.make_tpcb(plan.scale)
        before = stand.books.totals()
        rows = stand.write_once(world, first)
        for server in (yardstick, *stand.servers.values()):
            world.warm_up(server, plan.warm_up)
        sizes, already = _sizes(stand), _writes(world)
        samples: list[Sample] = []
        tpcb: list[float] = []
        for number in range(bench.rounds):
            samples += a_round(bench, number, world, yardstick, stand)
            if stand.tpcb_per_s is not None:
                progress(f"round {number + 1} of {bench.rounds}: pgbench")
                tpcb.append(stand.tpcb_per_s(plan.tpcb_s))
        per_write = [
            (now - then) / max(_writes(world) - already, 1) for now, then in zip(_sizes(stand), sizes, strict=True)
        ]
        return Found(
            engine=stand.engine,
            version=stand.version,
            servers=list(stand.servers),
            samples=samples,
            tpcb_per_s=tpcb,
            rows=rows,
            bytes_per_customer=per_customer,
            bytes_per_write=per_write[0],
            log_bytes_per_write=per_write[1] if stand.log_bytes else None,
            memory_mib=first.memory_mib(),
            settlement=settle(world.sent, stand.books, before, stand.url),
        )


def a_round(bench: Bench, number: int, world: World, yardstick: Server, stand: Stand) -> Iterator[Sample]:
    """Everything once; what goes first changes from round to round."""
    for level, operation, name, items in steps(bench.plan, tuple(stand.servers), turned=number % 2 == 1):
        progress(f"round {number + 1} of {bench.rounds}: {stand.engine}, {level.callers} callers, {operation}, {name}")
        yield world.measure(number, level, operation, name, stand.servers.get(name, yardstick), items=items)


def steps(plan: Plan, servers: Sequence[str], *, turned: bool) -> Iterator[tuple[Level, str, str, int]]:
    """What is measured in a round, and with how many items a call: at each level the no-op, all operations on the first
    server, transfers on others; then batches, and transfers out of one wallet.
    """
    first, *others = servers
    for level in plan.levels:
        here = [(level, NOOP, NOOP, 1), *((level, one, first, 1) for one in (CHECK, TRANSFER, REDEEM))]
        here += [(level, TRANSFER, other, 1) for other in others]
        yield from reversed(here) if turned else here
    for items, level in plan.batches:
        yield from ((level, BATCH, server, items) for server in (reversed(servers) if turned else servers))
    for level in plan.lot_levels:
        lots = [(level, ONE_LOT, first, 1), (level, MANY_LOTS, first, 1)]
        yield from reversed(lots) if turned else lots


def growth_until_stopped(bench: Bench, engines: Sequence[str], sizes: Sequence[int]) -> Iterator[Grown]:
    """What was measured of growth until all was, or somebody had enough (Ctrl-C): large databases take long to make."""
    for engine in engines:
        try:
            yield from growth(bench, engine, sizes)
        except KeyboardInterrupt:
            progress(f"{engine}: stopped growing, what was measured counts")


def growth(bench: Bench, engine: str, sizes: Sequence[int]) -> Iterator[Grown]:
    """Transfers in a database that grows, on servers of their own."""
    with bench.servers(engine, "growth") as (yardstick, stand):
        plan = bench.plan
        yield from grow(stand, yardstick, sizes, plan.growth_levels, bench.driver, bench.folder, rounds=bench.rounds)


def _sizes(stand: Stand) -> tuple[int, int]:
    return stand.books.size_bytes(), stand.log_bytes() if stand.log_bytes else 0


def _writes(world: World) -> int:
    return world.sent.transfers.acknowledged + world.sent.redemptions.acknowledged


if __name__ == "__main__":
    sys.exit(main())
