"""Measures TransferPoints beside a bare server that does nothing, and settles the journal with what was acknowledged.

    scripts/bench                    the whole run, three to four minutes
    scripts/bench --quick            under a minute: shows that the bench works
    scripts/bench --json FILE        also writes every figure for programs
    scripts/bench --database postgresql    on a PostgreSQL of its own, with one and two workers and beside pgbench

Both servers stand side by side on this machine and get the same requests from the same generator over as many
connections, in turn, so that a ratio says something where the absolute figures drift. Nothing fails by a figure: the
bench fails if a call went wrong, or if the journal does not agree with what the callers were told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench_journal import Journal
from bench_load import Driver, Level, LoadFailedError, find_generator
from bench_machine import look_around
from bench_report import Result, render, write_json
from bench_servers import ServerFailedError, noop, service
from bench_world import MANY_LOTS_ID, NOOP, ONE_LOT_ID, Plan, World, in_turn, progress, settle

FULL = Plan(
    customers=10_000,
    lots=10_000,
    rounds=3,
    levels=(Level(1, 1, 2_000), Level(64, 8, 12_000), Level(256, 16, 12_000)),
    lot_levels=(Level(1, 1, 1_000), Level(64, 8, 5_000)),
    warm_up=Level(16, 4, 1_000),
)
QUICK = Plan(
    customers=1_000,
    lots=1_000,
    rounds=1,
    levels=(Level(1, 1, 300), Level(64, 8, 3_000), Level(256, 16, 3_000)),
    lot_levels=(Level(1, 1, 200), Level(64, 8, 1_000)),
    warm_up=Level(16, 4, 200),
)


def main() -> int:
    """Reads the flags, runs, reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few customers and calls, one round")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="which engine")
    parser.add_argument("--rounds", type=int, help="how many rounds to take the medians of")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure into a file")
    parser.add_argument("--ghz", type=Path, metavar="PATH", help="the ghz to use; else PATH, else built with Go")
    parser.add_argument("--callers", choices=("ghz", "python"), default="ghz", help="python: do without ghz")
    parser.add_argument("--directory", type=Path, help="where the temporary database lies")
    arguments = parser.parse_args()
    if arguments.database == "postgresql":
        return on_postgresql(arguments)
    plan = QUICK if arguments.quick else FULL
    rounds = arguments.rounds or plan.rounds
    try:
        with tempfile.TemporaryDirectory(prefix="points-bench-", dir=arguments.directory) as name:
            generator = find_generator(arguments.ghz, python=arguments.callers == "python")
            result = run(plan, rounds, Driver(generator, Path(name)), Path(name))
    except (LoadFailedError, ServerFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(render(result))
    if arguments.json:
        write_json(result, arguments.json)
    wrong = sum(sample.report.refused for sample in (*result.samples, *result.lot_samples))
    if wrong or not result.settlement.holds:
        print(f"bench: FAILED: {wrong} calls went wrong" if wrong else "bench: FAILED", file=sys.stderr)
        return 1
    print("bench: OK")
    return 0


def on_postgresql(arguments: argparse.Namespace) -> int:
    """The same on PostgreSQL."""
    import bench_postgres  # noqa: PLC0415 - its driver is an extra

    extent = bench_postgres.QUICK if arguments.quick else bench_postgres.FULL
    try:
        with tempfile.TemporaryDirectory(prefix="points-bench-", dir=arguments.directory) as name:
            generator = find_generator(arguments.ghz, python=arguments.callers == "python")
            driver = Driver(generator, Path(name))
            rounds = arguments.rounds or extent.plan.rounds
            result = bench_postgres.run(extent, rounds, driver, Path(name), arguments.directory)
    except (LoadFailedError, ServerFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(bench_postgres.render(result))
    if arguments.json:
        bench_postgres.write_json(result, arguments.json)
    if bench_postgres.wrong(result) or not result.settlement.holds:
        print(f"bench: FAILED: {bench_postgres.wrong(result)} calls went wrong", file=sys.stderr)
        return 1
    print("bench: OK")
    return 0


def run(plan: Plan, rounds: int, driver: Driver, folder: Path) -> Result:
    """The whole run, from two empty servers to a settled journal."""
    machine = look_around(folder)
    database = folder / "bench.db"
    with noop(folder) as yardstick, service(folder, database=database) as subject:
        world = World(plan, driver, folder)
        progress(f"{plan.customers:,} customers with points, and a wallet of {plan.lots:,} lots")
        world.seed(subject)
        journal = Journal(database)
        before, size = journal.totals(), journal.size_bytes()
        rows = world.write_once(subject, journal)
        for server in (yardstick, subject):
            world.warm_up(server)
        targets = {NOOP: yardstick, "service": subject}
        samples = [
            world.measure(number, level, target, targets[target], world.pairs(level))
            for number, level, target in in_turn(rounds, plan.levels, tuple(targets))
        ]
        wallets = {"one lot": ONE_LOT_ID, "many lots": MANY_LOTS_ID}
        lot_samples = [
            world.measure(number, level, target, subject, world.out_of(wallets[target], level))
            for number, level, target in in_turn(rounds, plan.lot_levels, tuple(wallets))
        ]
        transfers = journal.transfers(World.PREFIX)
        grown = (journal.size_bytes() - size) / max(transfers, 1)
        lots, memory_mib = journal.lots_of(MANY_LOTS_ID), subject.memory_mib()
        if lots < plan.lots:
            raise LoadFailedError(f"the wallet of many lots has {lots:,} left")
    return Result(
        quick=plan is QUICK,
        rounds=rounds,
        customers=plan.customers,
        lots=plan.lots,
        generator=driver.generator.name,
        machine=machine,
        samples=samples,
        lot_samples=lot_samples,
        rows=rows,
        bytes_per_transfer=grown,
        memory_mib=memory_mib,
        settlement=settle(world.sent, journal, before, f"sqlite:///{database}"),
    )


if __name__ == "__main__":
    sys.exit(main())
