"""The plots of a run: how much, how long, what of which process, and what growth does to it."""

from __future__ import annotations

from pathlib import Path

from bench_figures import BATCH, MANY_LOTS, NOOP, ONE_LOT, TRANSFER, Found, Result, Row, grown_rows, rows
from bench_svg import Bar, Range, Section, picture
from bench_table import figure, named

PROCESSES = ("server", "writer", "database", "generator")
OPERATION_COLOUR = {NOOP: 6, "check": 5, TRANSFER: 0, "redeem": 2, BATCH: 1}


def draw(result: Result, folder: Path) -> None:
    """Writes all plots."""
    note = f"{result.began}, {result.machine.cores} cores, load average {result.machine.load_before} at the start"
    if result.quick:
        note += "; a quick run, whose figures say little"
    every = [
        (found, [row for row in rows(found) if row.operation not in {ONE_LOT, MANY_LOTS}]) for found in result.found
    ]
    throughput = [
        Section(f"{found.engine}, {callers} callers" if callers > 1 else f"{found.engine}, a lone caller", bars)
        for found, shown in every
        for callers in sorted({row.callers for row in shown})
        if (bars := [_speed(row, found) for row in shown if row.callers == callers])
    ]
    latency = [
        Section(f"{found.engine}, {callers} callers" if callers > 1 else f"{found.engine}, a lone caller", ranges)
        for found, shown in every
        for callers in sorted({row.callers for row in shown})
        if (ranges := [_wait(row, found) for row in shown if row.callers == callers])
    ]
    cpu = [Section(found.engine, [_cpu(row, found) for row in shown if _is_shown(row)]) for found, shown in every]
    plots = {
        "throughput": picture("Calls a second; transfers a second in batches", throughput, note=note),
        "latency": picture(
            "How long a call takes, ms: median and slowest hundredth, logarithmic",
            latency,
            series=("p50", "p99"),
            note=note,
        ),
        "cpu": picture(
            "Where the CPU time of a call or of a transfer in a batch goes, µs", cpu, series=PROCESSES, note=note
        ),
    }
    if result.grown:
        plots["growth"] = picture("Transfers a second by lots in the database", _growth(result), note=note)
    for name, text in plots.items():
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")


def key(row: Row) -> str:
    """What a figure is of."""
    return f"{row.engine}/{row.server}/{row.operation}/{row.items}/{row.callers}"


def _speed(row: Row, found: Found) -> Bar:
    return Bar(named(row, found), [(OPERATION_COLOUR[row.operation], row.per_s)], figure(row.per_s), key(row))


def _wait(row: Row, found: Found) -> Range:
    return Range(named(row, found), row.p50_ms, row.p99_ms, f"{figure(row.p50_ms)} to {figure(row.p99_ms)}", key(row))


def _is_shown(row: Row) -> bool:
    """Without waiting for company, and with it."""
    return row.operation in {NOOP, TRANSFER, BATCH}


def _cpu(row: Row, found: Found) -> Bar:
    used = (row.server_cpu_us, row.writer_cpu_us, row.database_cpu_us, row.load_cpu_us)
    parts = [(number, amount) for number, amount in enumerate(used) if amount is not None]
    text = " + ".join(figure(amount) for _, amount in parts)
    return Bar(f"{named(row, found)}, {row.callers}", parts, text, key(row))


def _growth(result: Result) -> list[Section]:
    grown = grown_rows(result.grown)
    return [
        Section(
            f"{engine}, {callers} callers" if callers > 1 else f"{engine}, a lone caller",
            [
                Bar(
                    f"{row.lots:,} lots",
                    [(0, row.per_s)],
                    f"{figure(row.per_s)} ({row.noop} of the no-op)",
                    f"{engine}/{row.lots}/{callers}",
                )
                for row in grown
                if (row.engine, row.callers) == (engine, callers)
            ],
        )
        for engine, callers in dict.fromkeys((row.engine, row.callers) for row in grown)
    ]
