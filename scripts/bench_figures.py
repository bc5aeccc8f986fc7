"""What a run of the bench found: samples, ratios, settlements, and the whole as JSON. It makes no text for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench_journal import Rows, Totals
from bench_load import Level, Report
from bench_machine import Machine

NOOP, CHECK, TRANSFER, REDEEM, BATCH = "no-op", "check", "transfer", "redeem", "batch"
"""What is measured. A batch is counted by its transfers."""

BASE_LOTS = 100_000
"""Those of 10,000 customers, with which larger databases are compared."""

ONE_LOT, MANY_LOTS = "one lot", "many lots"
"""Transfers out of one wallet, beside the others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one operation on one server. CPU times are of one item: a call, or a transfer of a batch."""

    round: int
    level: Level
    operation: str
    server: str
    items: int
    report: Report
    server_cpu_us: float | None
    writer_cpu_us: float | None
    database_cpu_us: float | None

    @property
    def per_s(self) -> float:
        """Items a second."""
        return self.report.calls_per_s * self.items

    @property
    def load_cpu_us(self) -> float:
        """What the generator took for an item."""
        return self.report.cpu_us_per_call / self.items


@dataclass(frozen=True, slots=True)
class Ratio:
    """How two things compare, round by round: the median, and how far the rounds lie apart."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        spread = "" if self.low == self.high else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.middle:.2f}{spread}"


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls of one kind: what the callers know, and what stands in the journal."""

    sent: int
    acknowledged: int
    unknown: int
    journal: int

    @property
    def agrees(self) -> bool:
        """Whether none was lost or doubled. Those whose outcome is open may stand in the journal or not."""
        return self.acknowledged <= self.journal <= self.acknowledged + self.unknown


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the generator was told, and what stands in the database. Each redemption took one point."""

    transfers: Counted
    redemptions: Counted
    lopsided: int
    before: Totals
    after: Totals
    verify: str
    verified: bool

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or made up."""
        return (
            self.transfers.agrees
            and self.redemptions.agrees
            and self.lopsided == 0
            and self.before.agree
            and self.after.agree
            and self.after.wallets == self.before.wallets - self.redemptions.journal
            and self.verified
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What one engine showed. The no-op was measured beside it, in the same rounds.

    `rows`: what a lone transfer writes, by table, where it was looked at. `bytes_per_customer` (with one lot) and
    `bytes_per_write` are of tables and indexes, `log_bytes_per_write` of the log that is beside them, if there is one.
    """

    engine: str
    version: str
    servers: Sequence[str]
    samples: Sequence[Sample]
    tpcb_per_s: Sequence[float]
    rows: Mapping[str, Rows]
    bytes_per_customer: float
    bytes_per_write: float
    log_bytes_per_write: float | None
    memory_mib: float | None
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Grown:
    """What transfers did in a database of so many lots, a tenth as many customers among them."""

    engine: str
    lots: int
    size_bytes: int
    seeding_s: float
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Result:
    """All that a run found. `niceness` is how far it stood back for others (0: not at all, 19: as far as can be);
    `withheld`, the share of the processor time asked for that the host of a virtual machine gave to others.
    """

    quick: bool
    began: str
    minutes: float
    load_after: float
    withheld: float | None
    niceness: int
    rounds: int
    customers: int
    lots: int
    generator: str
    machine: Machine
    found: Sequence[Found]
    grown: Sequence[Grown]

    @property
    def wrong(self) -> int:
        """Calls that did not end with OK."""
        samples = [sample for found in self.found for sample in found.samples]
        samples += [sample for grown in self.grown for sample in grown.samples]
        return sum(sample.report.refused for sample in samples)

    @property
    def holds(self) -> bool:
        """Whether every call was answered with OK, and all journals agree."""
        return not self.wrong and all(one.settlement.holds for one in self.found)


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of all rounds of one operation on one server at one level; ratios are those within a round.

    `noop` is the ratio to as many callers of the no-op, or to a lone one for a batch; `tpcb` that of transfers in
    batches to pgbench's transactions.
    """

    engine: str
    server: str
    operation: str
    items: int
    callers: int
    per_s: float
    p50_ms: float
    p99_ms: float
    noop: Ratio | None
    p50_times: Ratio | None
    tpcb: Ratio | None
    server_cpu_us: float | None
    writer_cpu_us: float | None
    database_cpu_us: float | None
    load_cpu_us: float


def rows(found: Found) -> list[Row]:
    """One for each server, operation, size of a batch and level, in the order in which they were measured first."""
    groups: dict[tuple[str, str, int, int], list[Sample]] = {}
    for sample in found.samples:
        groups.setdefault((sample.server, sample.operation, sample.items, sample.level.callers), []).append(sample)
    return [_row(found, samples) for samples in groups.values()]


def _row(found: Found, samples: Sequence[Sample]) -> Row:
    one = samples[0]
    below = [
        sample
        for sample in found.samples
        if sample.operation == NOOP and sample.level.callers == (1 if one.operation == BATCH else one.level.callers)
    ]
    is_batch, is_noop = one.operation == BATCH, one.operation == NOOP
    tpcb = dict(enumerate(found.tpcb_per_s)) if is_batch else {}
    return Row(
        engine=found.engine,
        server=one.server,
        operation=one.operation,
        items=one.items,
        callers=one.level.callers,
        per_s=median(sample.per_s for sample in samples),
        p50_ms=median(sample.report.p50_ms for sample in samples),
        p99_ms=median(sample.report.p99_ms for sample in samples),
        noop=None if is_noop else ratio(samples, below, lambda sample: sample.per_s),
        p50_times=None if is_noop or is_batch else ratio(samples, below, lambda sample: sample.report.p50_ms),
        tpcb=_ratio([sample.per_s / tpcb[sample.round] for sample in samples if sample.round in tpcb]),
        server_cpu_us=_median(sample.server_cpu_us for sample in samples),
        writer_cpu_us=_median(sample.writer_cpu_us for sample in samples),
        database_cpu_us=_median(sample.database_cpu_us for sample in samples),
        load_cpu_us=median(sample.load_cpu_us for sample in samples),
    )


def ratio(above: Iterable[Sample], below: Iterable[Sample], figure: Callable[[Sample], float]) -> Ratio | None:
    """Samples by the yardstick of their own round, since the machine drifts."""
    yardsticks = {sample.round: figure(sample) for sample in below}
    return _ratio([figure(one) / yardsticks[one.round] for one in above if yardsticks.get(one.round)])


def _ratio(ratios: Sequence[float]) -> Ratio | None:
    return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None


def _median(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return median(known) if known else None


def document(result: Result) -> dict[str, object]:
    """Everything, with the rows that table and plots show."""
    return {
        **asdict(result),
        "rows": [asdict(row) for found in result.found for row in rows(found)],
        "grown_rows": [asdict(row) for row in grown_rows(result.grown)],
        "holds": result.holds,
    }


@dataclass(frozen=True, slots=True)
class GrownRow:
    """Growth at one size and one number of callers: the medians of all rounds."""

    engine: str
    lots: int
    callers: int
    per_s: float
    p50_ms: float
    p99_ms: float
    noop: Ratio | None
    server_cpu_us: float | None
    writer_cpu_us: float | None
    database_cpu_us: float | None


def grown_rows(grown: Iterable[Grown]) -> list[GrownRow]:
    """The transfers of each size, beside the no-op that was measured with them."""
    return [_grown_row(one, level) for one in grown for level in dict.fromkeys(each.level for each in one.samples)]


def _grown_row(grown: Grown, level: Level) -> GrownRow:
    here = [sample for sample in grown.samples if sample.level == level]
    samples = [sample for sample in here if sample.operation == TRANSFER]
    below = [sample for sample in here if sample.operation == NOOP]
    return GrownRow(
        engine=grown.engine,
        lots=grown.lots,
        callers=level.callers,
        per_s=median(sample.per_s for sample in samples),
        p50_ms=median(sample.report.p50_ms for sample in samples),
        p99_ms=median(sample.report.p99_ms for sample in samples),
        noop=ratio(samples, below, lambda sample: sample.per_s),
        server_cpu_us=_median(sample.server_cpu_us for sample in samples),
        writer_cpu_us=_median(sample.writer_cpu_us for sample in samples),
        database_cpu_us=_median(sample.database_cpu_us for sample in samples),
    )


def kept(grown: Sequence[Grown], engine: str, callers: int) -> tuple[GrownRow, float] | None:
    """The largest database of an engine, and its speed by that of one with 10,000 customers, both by the no-op's."""
    rows = [row for row in grown_rows(grown) if (row.engine, row.callers) == (engine, callers) and row.noop]
    base = next((row for row in rows if row.lots == BASE_LOTS), None)
    if base is None or base is rows[-1] or base.noop is None or rows[-1].noop is None:
        return None
    return rows[-1], rows[-1].noop.middle / base.noop.middle


def write_json(result: Result, path: Path) -> None:
    """All figures, for programs."""
    path.write_text(json.dumps(document(result), indent=2) + "\n", encoding="utf-8")
