"""How the bench tells what it found: as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench_journal import Rows, Totals
from bench_load import Level, Report
from bench_machine import Machine


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one target."""

    round: int
    level: Level
    target: str
    report: Report
    server_cpu_us: float | None
    writer_cpu_us: float | None
    database_cpu_us: float | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How two targets compare, round by round: the median, and how far the rounds lie apart."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the generator was told, and what stands in the file."""

    sent: int
    acknowledged: int
    refused: int
    unknown: int
    journal: int
    lopsided: int
    before: Totals
    after: Totals
    verify: str
    verified: bool

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or made up. Calls with an open outcome may stand in the journal or not."""
        return (
            self.acknowledged <= self.journal <= self.acknowledged + self.unknown
            and self.lopsided == 0
            and self.before.agree
            and self.before == self.after
            and self.verified
        )


@dataclass(frozen=True, slots=True)
class Result:
    """All that a run of the bench found."""

    quick: bool
    rounds: int
    customers: int
    lots: int
    generator: str
    machine: Machine
    samples: Sequence[Sample]
    lot_samples: Sequence[Sample]
    rows: Mapping[str, Rows]
    bytes_per_transfer: float
    memory_mib: float | None
    settlement: Settlement


THROUGHPUT_GOAL = 0.45
LONE_P50_GOAL = 6.0
LOTS_P50_GOAL = 2.0


def ratio(samples: Iterable[Sample], callers: int, above: str, below: str, figure: Callable[[Sample], float]) -> Ratio:
    """One target's figure by another's, each round with its own yardstick, since the machine drifts."""
    by_round: dict[int, dict[str, float]] = {}
    for sample in samples:
        if sample.level.callers == callers:
            by_round.setdefault(sample.round, {})[sample.target] = figure(sample)
    ratios = [found[above] / found[below] for found in by_round.values() if found.get(below)]
    return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else Ratio(0.0, 0.0, 0.0)


def calls_per_s(sample: Sample) -> float:
    """A sample's throughput."""
    return sample.report.calls_per_s


def p50_ms(sample: Sample) -> float:
    """A sample's median latency."""
    return sample.report.p50_ms


# For people


def render(result: Result) -> str:
    """The whole report as text."""
    machine = result.machine
    parts = [
        "TransferPoints beside a bare server that does nothing",
        "",
        f"  machine    {machine.cores} x {machine.processor}, {machine.system}, load {machine.load_before} at start",
        f"  software   {machine.software}",
        f"  disk       {machine.filesystem}; it confirms a page in {machine.fsync_ms} ms",
        f"  service    SQLite, synchronous=FULL; keys, roles, log, metrics on; {result.customers:,} customers",
        f"  load       {result.generator}, on the same machine; every call another pair and another request id",
        f"  rounds     {result.rounds}, no-op and service in turn; medians, ratios within a round (lowest to highest)",
        "",
        *table(result.samples, "no-op", "service"),
        "",
        f"  The same, out of one wallet: one lot, and {result.lots:,} lots",
        "",
        *table(result.lot_samples, "one lot", "many lots"),
        "",
        *render_rows(result),
        "",
        *render_settlement(result.settlement),
        "",
        *render_goals(result),
    ]
    return "\n".join(parts)


def table(samples: Sequence[Sample], below: str, above: str) -> list[str]:
    """The figures of two targets at each level, and how they compare."""
    head = f"  {'callers':>7} {'conns':>5}  {'':9} {'calls/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'errors':>6}"
    lines = [f"{head} {'CPU us a call: server':>22} {'writer':>6} {'load':>6}"]
    for level in dict.fromkeys(sample.level for sample in samples):
        for target in (below, above):
            runs = [sample for sample in samples if sample.level == level and sample.target == target]
            label = f"{level.callers:>7,} {level.connections:>5}" if target == below else " " * 13
            server, writer = (
                [used for used in used_by if used is not None]
                for used_by in ([run.server_cpu_us for run in runs], [run.writer_cpu_us for run in runs])
            )
            lines.append(
                f"  {label}  {target:9} {median(map(calls_per_s, runs)):>9,.0f}"
                f" {median(map(p50_ms, runs)):>8.2f} {median(run.report.p99_ms for run in runs):>8.2f}"
                f" {sum(run.report.refused for run in runs):>6,}"
                f" {f'{median(server):,.0f}' if server else '-':>22}"
                f" {f'{median(writer):,.0f}' if writer else '-':>6}"
                f" {median(run.report.cpu_us_per_call for run in runs):>6,.0f}"
            )
        speed = ratio(samples, level.callers, above, below, calls_per_s)
        wait = ratio(samples, level.callers, above, below, p50_ms)
        lines.append(f"  {'':13}  {'ratio':9} calls/s {speed}, p50 {wait}")
    return lines


def render_rows(result: Result) -> list[str]:
    """What one transfer writes."""
    total = sum(rows.added + rows.changed for rows in result.rows.values())
    parts = [
        f"{table} " + " ".join(f"{sign}{count}" for sign, count in (("+", rows.added), ("~", rows.changed)) if count)
        for table, rows in result.rows.items()
    ]
    return [
        f"  A lone transfer writes {total} rows (+ new, ~ changed), seen in the file before and after one:",
        f"    {', '.join(parts)}",
        f"  Under load the file grew by {result.bytes_per_transfer:,.0f} bytes a transfer"
        + (f"; the server holds {result.memory_mib:,.0f} MiB of memory" if result.memory_mib is not None else ""),
    ]


def render_settlement(settlement: Settlement) -> list[str]:
    """Whether generator and journal agree."""
    before, after = settlement.before, settlement.after
    same = "as before" if before == after else f"but {before.wallets:,} before"
    calls = f"sent {settlement.sent:,}, acknowledged {settlement.acknowledged:,}, refused {settlement.refused:,}"
    points = f"wallets {after.wallets:,}, balances {after.balances:,}, lots {after.lots:,}, postings {after.postings:,}"
    return [
        "  Settled with the journal",
        f"    {calls}, outcome open {settlement.unknown:,}; transfers in the journal {settlement.journal:,}",
        f"    points by {points}: {same}; transactions that do not sum to zero: {settlement.lopsided}",
        f"    verify: {settlement.verify}",
        f"    {'agreed' if settlement.holds else 'DOES NOT AGREE'}",
    ]


def render_goals(result: Result) -> list[str]:
    """The ratios that the service is built for. Nothing fails by them: machines differ and have moods."""
    if result.quick:
        return ["  A quick run: it shows that the bench works; its figures say little."]
    speed = ratio(result.samples, 64, "service", "no-op", calls_per_s)
    wait = ratio(result.samples, 1, "service", "no-op", p50_ms)
    lots = ratio(result.lot_samples, 1, "many lots", "one lot", p50_ms)
    rows = [
        (f"64 callers: at least {THROUGHPUT_GOAL} of the no-op's calls", speed, speed.middle >= THROUGHPUT_GOAL),
        (f"a lone caller: p50 at most {LONE_P50_GOAL:.0f} times the no-op's", wait, wait.middle <= LONE_P50_GOAL),
        (f"{result.lots:,} lots: p50 at most {LOTS_P50_GOAL:.0f} times one lot's", lots, lots.middle <= LOTS_P50_GOAL),
    ]
    return ["  Goals", *(f"    {text:55} {found!s:24} {'reached' if met else 'MISSED'}" for text, found, met in rows)]


# For programs


def write_json(result: Result, path: Path) -> None:
    """All figures, the samples of each round among them, and the ratios that the table shows."""
    levels = [
        {
            **asdict(level),
            "targets": [below, above],
            "calls_per_s_ratio": asdict(ratio(samples, level.callers, above, below, calls_per_s)),
            "p50_ratio": asdict(ratio(samples, level.callers, above, below, p50_ms)),
        }
        for samples, below, above in (
            (result.samples, "no-op", "service"),
            (result.lot_samples, "one lot", "many lots"),
        )
        for level in dict.fromkeys(sample.level for sample in samples)
    ]
    settlement = {**asdict(result.settlement), "holds": result.settlement.holds}
    document = {**asdict(result), "levels": levels, "settlement": settlement}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
