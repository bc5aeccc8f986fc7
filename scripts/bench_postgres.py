"""The bench on PostgreSQL: one worker, two workers, batches, and pgbench's TPC-B on the same server in the same run.

    scripts/bench --database postgresql [--quick]

Everything is on one machine: database, service, no-op and generator. That two workers are no faster there than one says
nothing of more cores; the CPU time of each kind of process for a transfer does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psycopg
from bench_cluster import PGBENCH_CLIENTS, Cluster
from bench_journal import LOPSIDED, TOTALS, TRANSFER, Totals
from bench_load import Driver, Level
from bench_machine import Machine, look_around
from bench_report import Ratio, Sample, Settlement, calls_per_s, p50_ms, ratio, render_settlement
from bench_servers import Server, noop, served
from bench_world import NOOP, Plan, World, in_turn, progress, settle, transfer

from points_grpc.v1 import points_service_pb2

ONE, TWO = "1 worker", "2 workers"
ITEMS = 500
"""Transfers of a batch."""

_BUCKETS = (
    "SELECT sum((bucket.value #>> '{1,0}')::bigint)"
    " FROM wallets, jsonb_array_elements(wallets.buckets::jsonb) AS bucket (value)"
)
"""The points in a wallet's totals by origin."""

ONE_WORKER_GOAL = 0.35
TWO_WORKERS_GOAL = 1.0
BATCH_GOAL = 1.5


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of everything, beside what the bench on SQLite has too."""

    plan: Plan
    batches: Level
    scale: int
    tpcb_s: int


_LEVELS = ((1, 1, 1_000), (64, 8, 8_000), (256, 16, 8_000))
FULL = Extent(
    Plan(10_000, 1, 3, tuple(Level(*one) for one in _LEVELS), (), Level(16, 4, 1_000)), Level(4, 4, 40), 50, 10
)
QUICK = Extent(
    Plan(1_000, 1, 1, (Level(1, 1, 200), Level(64, 8, 1_500), Level(256, 16, 1_500)), (), Level(16, 4, 200)),
    Level(4, 4, 8),
    10,
    3,
)


@dataclass(frozen=True, slots=True)
class Result:
    """All that a run found."""

    quick: bool
    rounds: int
    customers: int
    generator: str
    postgres: str
    machine: Machine
    samples: Sequence[Sample]
    batches: Sequence[Sample]
    tpcb: Sequence[float]
    scale: int
    bytes_per_customer: float
    bytes_per_transfer: float
    log_bytes_per_transfer: float
    settlement: Settlement


class Journal:
    """What the database says, on a connection and with SQL of its own."""

    def __init__(self, cluster: Cluster) -> None:
        """Connects anew for each question."""
        self._conninfo = cluster.conninfo

    def transfers(self, prefix: str) -> int:
        """The transfers whose request ids start with `prefix`."""
        query = "SELECT count(*) FROM transactions WHERE kind = %s AND starts_with(request_id, %s)"
        return self._figures(query, TRANSFER, prefix)[0]

    def lopsided(self) -> int:
        """Transactions whose postings do not sum to zero."""
        return self._figures(LOPSIDED)[0]

    def totals(self) -> Totals:
        """The points of all wallets, counted in four ways."""
        return Totals(*self._figures(TOTALS.format(buckets=_BUCKETS)))

    def size_bytes(self) -> int:
        """The size of the database."""
        return self._figures("SELECT pg_database_size(current_database())")[0]

    def log_bytes(self) -> int:
        """How much was written into the log (WAL) since the cluster was made."""
        return self._figures("SELECT pg_current_wal_insert_lsn() - '0/0'")[0]

    def _figures(self, query: str, *values: object) -> list[int]:
        with psycopg.connect(self._conninfo) as connection:
            row = connection.execute(query.encode(), values or None).fetchone()
        return [int(figure or 0) for figure in row or ()]


class PostgresWorld(World):
    """The same customers and calls, and batches."""

    def measure_batches(self, number: int, level: Level, target: str, server: Server) -> Sample:
        """Batches of transfers; every figure is of a transfer, not of a call."""
        pairs = self.pairs(Level(level.callers, level.connections, level.calls * ITEMS))
        requests = [
            points_service_pb2.BatchTransferPointsRequest(
                requests=[transfer(pair, self.request_id()) for pair in pairs[start : start + ITEMS]]
            )
            for start in range(0, len(pairs), ITEMS)
        ]
        sample = self.measured(
            number,
            level,
            target,
            server,
            lambda: self.send(server, "PointsService/BatchTransferPoints", requests, level),
        )
        self.sent.calls += level.calls * ITEMS
        self.sent.acknowledged += sample.report.accepted * ITEMS
        self.sent.unknown += sample.report.refused * ITEMS
        return sample


def run(extent: Extent, rounds: int, driver: Driver, folder: Path, directory: Path | None) -> Result:
    """The whole run, from an empty cluster to a settled journal."""
    machine = look_around(folder)
    plan = extent.plan
    with Cluster(directory) as cluster, noop(folder) as yardstick, services(folder, cluster) as (one, two):
        world = PostgresWorld(plan, driver, folder)
        progress(f"{plan.customers:,} customers with points, and pgbench's tables at scale {extent.scale}")
        journal = Journal(cluster)
        empty = journal.size_bytes()
        world.seed(one)
        bytes_per_customer = (journal.size_bytes() - empty) / plan.customers
        cluster.make_tpcb(extent.scale)
        before = journal.totals()
        targets = {NOOP: yardstick, ONE: one, TWO: two}
        for server in targets.values():
            world.warm_up(server)
        cluster.run("psql", "-d", "points", "-qc", "CHECKPOINT")
        sizes, known = (journal.size_bytes(), journal.log_bytes()), journal.transfers(World.PREFIX)
        samples = [
            world.measure(number, level, target, targets[target], world.pairs(level))
            for number, level, target in in_turn(rounds, plan.levels, tuple(targets))
        ]
        grown = [
            after - before for after, before in zip((journal.size_bytes(), journal.log_bytes()), sizes, strict=True)
        ]
        written = max(journal.transfers(World.PREFIX) - known, 1)
        batches, tpcb = [], []
        for number in range(rounds):
            for target in (ONE, TWO) if number % 2 == 0 else (TWO, ONE):
                progress(f"round {number + 1} of {rounds}: batches of {ITEMS}, {target}")
                batches.append(world.measure_batches(number, extent.batches, target, targets[target]))
            progress(f"round {number + 1} of {rounds}: pgbench")
            tpcb.append(cluster.tpcb_per_s(extent.tpcb_s))
        return Result(
            quick=extent is QUICK,
            rounds=rounds,
            customers=plan.customers,
            generator=driver.generator.name,
            postgres=cluster.version(),
            machine=machine,
            samples=samples,
            batches=batches,
            tpcb=tpcb,
            scale=extent.scale,
            bytes_per_customer=bytes_per_customer,
            bytes_per_transfer=grown[0] / written,
            log_bytes_per_transfer=grown[1] / written,
            settlement=settle(world.sent, journal, before, cluster.url),
        )


@contextmanager
def services(folder: Path, cluster: Cluster) -> Iterator[tuple[Server, Server]]:
    """A server with one worker and one with two, on the same database, with the same keys."""
    keys = ("--keys-file", str(folder / "keys.json"))
    with served(folder, "one", cluster.url, ("--dev", *keys), database_cpu_s=cluster.cpu_s) as one:
        flags = ("--workers", "2", *keys)
        with served(folder, "two", cluster.url, flags, database_cpu_s=cluster.cpu_s, token=one.ready.token) as two:
            yield one, two


# For people


def render(result: Result) -> str:
    """The whole report as text."""
    machine = result.machine
    return "\n".join(
        [
            "TransferPoints on PostgreSQL beside a bare server that does nothing, and beside pgbench",
            "",
            f"  machine    {machine.cores} x {machine.processor}, {machine.system}",
            f"  load       {machine.load_before} before the start, of others",
            f"  software   {machine.software}, PostgreSQL {result.postgres}",
            f"  disk       {machine.filesystem}; it confirms a page in {machine.fsync_ms} ms",
            f"  service    synchronous_commit=on; keys, roles, log, metrics on; {result.customers:,} customers",
            f"  generator  {result.generator}; database, service, no-op and generator on this one machine",
            f"  rounds     {result.rounds}, all in turn; medians, ratios within a round (lowest to highest)",
            "",
            *_table(result),
            "",
            *_batches(result),
            "",
            f"  The database grew by {result.bytes_per_transfer:,.0f} bytes a transfer, indexes included,",
            f"  its log (WAL) by {result.log_bytes_per_transfer:,.0f} bytes, single calls alone;",
            f"  a customer with one lot took {result.bytes_per_customer:,.0f} bytes",
            "",
            *render_settlement(result.settlement),
            "",
            *_goals(result),
        ]
    )


def _table(result: Result) -> list[str]:
    head = f"  {'callers':>7} {'conns':>5}  {'':9} {'calls/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'errors':>6}"
    lines = [f"{head} {'CPU us a call: server':>22} {'writer':>6} {'database':>8} {'load':>6}"]
    for level in dict.fromkeys(sample.level for sample in result.samples):
        for target in (NOOP, ONE, TWO):
            runs = [one for one in result.samples if one.level == level and one.target == target]
            label = f"{level.callers:>7,} {level.connections:>5}" if target == NOOP else " " * 13
            lines.append(
                f"  {label}  {target:9} {median(map(calls_per_s, runs)):>8,.0f}"
                f" {median(map(p50_ms, runs)):>8.2f} {median(run.report.p99_ms for run in runs):>8.2f}"
                f" {sum(run.report.refused for run in runs):>6,}"
                f" {_cpu([run.server_cpu_us for run in runs]):>22} {_cpu([run.writer_cpu_us for run in runs]):>6}"
                f" {_cpu([run.database_cpu_us for run in runs]):>8}"
                f" {median(run.report.cpu_us_per_call for run in runs):>6,.0f}"
            )
        for above, below in ((ONE, NOOP), (TWO, ONE)):
            speed = ratio(result.samples, level.callers, above, below, calls_per_s)
            wait = ratio(result.samples, level.callers, above, below, p50_ms)
            lines.append(f"  {'':13}  {above} to {below}: calls/s {speed}, p50 {wait}")
    return lines


def _batches(result: Result) -> list[str]:
    level = result.batches[0].level
    lines = [
        f"  BatchTransferPoints, {ITEMS} a call, {level.callers} callers",
        f"  pgbench TPC-B, prepared, {PGBENCH_CLIENTS} clients, scale {result.scale}",
        "",
        f"  {'':9} {'a second':>9} {'p50 ms':>8} {'CPU us each: server':>20} {'writer':>6} {'database':>8} {'load':>6}",
    ]
    for target in (ONE, TWO):
        runs = [one for one in result.batches if one.target == target]
        lines.append(
            f"  {target:9} {median(map(items_per_s, runs)):>9,.0f} {median(map(p50_ms, runs)):>8.1f}"
            f" {_cpu([one.server_cpu_us for one in runs], ITEMS):>20}"
            f" {_cpu([one.writer_cpu_us for one in runs], ITEMS):>6}"
            f" {_cpu([one.database_cpu_us for one in runs], ITEMS):>8}"
            f" {median(one.report.cpu_us_per_call for one in runs) / ITEMS:>6,.0f}"
        )
    lines.append(f"  {'TPC-B':9} {median(result.tpcb):>9,.0f}")
    lines.append(f"  {ONE} to TPC-B: {batch_ratio(result, ONE)}; {TWO} to TPC-B: {batch_ratio(result, TWO)}")
    return lines


def _cpu(figures: Sequence[float | None], items: int = 1) -> str:
    known = [figure for figure in figures if figure is not None]
    return f"{median(known) / items:,.0f}" if known else "-"


def items_per_s(sample: Sample) -> float:
    """Transfers a second, of batches."""
    return sample.report.calls_per_s * ITEMS


def batch_ratio(result: Result, target: str) -> Ratio:
    """Transfers in batches by pgbench's transactions of the same round."""
    found = [items_per_s(one) / result.tpcb[one.round] for one in result.batches if one.target == target]
    return Ratio(median(found), min(found), max(found))


def _goals(result: Result) -> list[str]:
    if result.quick:
        return ["  A quick run: it shows that the bench works; its figures say little."]
    one = ratio(result.samples, 64, ONE, NOOP, calls_per_s)
    two = ratio(result.samples, 256, TWO, ONE, calls_per_s)
    batch = batch_ratio(result, ONE)
    rows = [
        (f"64 callers, one worker: at least {ONE_WORKER_GOAL} of the no-op's calls", one, ONE_WORKER_GOAL),
        (f"256 callers: two workers at least {TWO_WORKERS_GOAL:.0f} of one", two, TWO_WORKERS_GOAL),
        (f"batches: at least {BATCH_GOAL} of TPC-B's transactions", batch, BATCH_GOAL),
    ]
    return [
        "  Goals",
        *(
            f"    {text:60} {found!s:24} {'reached' if found.middle >= goal else 'MISSED'}"
            for text, found, goal in rows
        ),
    ]


def write_json(result: Result, path: Path) -> None:
    """All figures."""
    document = {**asdict(result), "settlement": {**asdict(result.settlement), "holds": result.settlement.holds}}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def wrong(result: Result) -> int:
    """Calls that did not end with OK."""
    return sum(sample.report.refused for sample in (*result.samples, *result.batches))
