"""The table of the bench, for people: Markdown for docs/performance.md that is printed at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench_figures import (
    BASE_LOTS,
    BATCH,
    CHECK,
    MANY_LOTS,
    NOOP,
    ONE_LOT,
    REDEEM,
    TRANSFER,
    Found,
    Grown,
    Ratio,
    Result,
    Row,
    Settlement,
    grown_rows,
    kept,
    ratio,
    rows,
)

NAMES = {
    NOOP: "no-op",
    CHECK: "CheckTransfer",
    TRANSFER: "TransferPoints",
    REDEEM: "RedeemPoints",
    BATCH: "BatchTransferPoints of",
    ONE_LOT: "TransferPoints, of one lot",
    MANY_LOTS: "TransferPoints, of many lots",
}
"""How operations are called."""

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"


def table(result: Result) -> str:
    """The whole report as Markdown."""
    parts = [_setting(result)]
    if result.quick:
        parts.append("**A quick run: it shows that the bench works; its figures say little.**")
    parts += [_engine(found, result.lots) for found in result.found]
    if result.grown:
        parts.append(_growth(result.grown))
    if not result.quick:
        parts.append("\n".join(["Goals, of this run:", "", *(f"- {goal}" for goal in _goals(result))]))
    return "\n\n".join(parts) + "\n"


def _setting(result: Result) -> str:
    machine = result.machine
    others = [f"{one.engine} {one.version}" for one in result.found if one.engine != SQLITE]
    withheld = result.withheld or 0.0
    stolen = f" Its host withheld {withheld:.0%} of the processor time asked for." if withheld >= 0.005 else ""
    stood_back = f" The run stood back for others (nice {result.niceness})." if result.niceness else ""
    return (
        f"Measured on {result.began} in {result.minutes:.0f} minutes by `./scripts/bench{' --quick' * result.quick}`:"
        f" {machine.cores} cores ({machine.processor}, {machine.system}), load average {machine.load_before} at the"
        f" start and {result.load_after} at the end, its own in it.{stolen}{stood_back}"
        f" {', '.join([machine.software, *others])};"
        f" {machine.filesystem}, which confirms a page in {machine.fsync_ms} ms. {result.generator};"
        " generator, service, database and no-op share the cores."
        f" {result.customers:,} customers, half of whom give to the others, every call another pair; rounds:"
        f" {result.rounds}, no-op and service in turn, medians, and ratios within a round (lowest to highest). A"
        " batch is counted by its transfers, and compared with a lone caller of the no-op. CPU is that of one item."
    )


def _engine(found: Found, lots: int) -> str:
    head = f"| {found.engine} | callers | a second | of the no-op | p50, ms | p99, ms | p50, times the no-op's"
    lines = [
        f"{head} | CPU, µs: server | writer | database | generator |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(row, found) for row in rows(found)),
    ]
    if found.tpcb_per_s:
        lines.append(f"| pgbench TPC-B | 32 | {figure(sum(found.tpcb_per_s) / len(found.tpcb_per_s))} |" + " |" * 8)
    lines.append("")
    if found.tpcb_per_s:
        shown = [
            f"of {row.items:,}, {row.callers} callers, {row.server}: {row.tpcb}" for row in rows(found) if row.tpcb
        ]
        lines.append(f"Transfers in batches by transactions of TPC-B: {'; '.join(shown)}.")
    if found.rows:
        total = sum(one.added + one.changed for one in found.rows.values())
        lines.append(f"A lone transfer writes {total} rows ({', '.join(found.rows)}).")
    logged = "" if found.log_bytes_per_write is None else f" and {found.log_bytes_per_write:,.0f} in the log"
    lines.append(
        f"A write takes {found.bytes_per_write:,.0f} bytes in tables and indexes{logged}, a customer with one lot"
        f" {found.bytes_per_customer:,.0f}."
    )
    if found.memory_mib is not None:
        lines.append(f'Server and writer hold {found.memory_mib:,.0f} MiB. "Many lots" are {lots:,} in one wallet.')
    return "\n".join([*lines, settled(found.settlement)])


def named(row: Row, found: Found) -> str:
    """What a row is of: the operation, the size of a batch, and the server where there are several."""
    size = f" {row.items:,}" if row.operation == BATCH else ""
    server = f", {row.server}" if len(found.servers) > 1 and row.operation != NOOP else ""
    return NAMES[row.operation] + size + server


def _line(row: Row, found: Found) -> str:
    cells = [
        named(row, found),
        f"{row.callers:,}",
        figure(row.per_s),
        "" if row.noop is None else str(row.noop),
        figure(row.p50_ms),
        figure(row.p99_ms),
        "" if row.p50_times is None else str(row.p50_times),
        *map(figure, (row.server_cpu_us, row.writer_cpu_us, row.database_cpu_us, row.load_cpu_us)),
    ]
    return f"| {' | '.join(cells)} |"


def figure(figure: float | None) -> str:
    """Three digits, and never a fraction of what is large."""
    if figure is None:
        return ""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def settled(settlement: Settlement) -> str:
    """Whether generator and journal agree."""
    transfers, redemptions = settlement.transfers, settlement.redemptions
    return (
        f"Of {transfers.sent:,} transfers {transfers.acknowledged:,} were acknowledged and {transfers.journal:,} stand"
        f" in the journal; of {redemptions.sent:,} redemptions {redemptions.acknowledged:,} and"
        f" {redemptions.journal:,}; {settlement.lopsided} transactions do not sum to zero; `verify`:"
        f" {settlement.verify}. {'All agree.' if settlement.holds else '**THEY DO NOT AGREE.**'}"
    )


def _growth(grown: Sequence[Grown]) -> str:
    head = "| engine | lots | size | callers | a second | of the no-op | p50, ms | p99, ms"
    lines = [
        "Growth: transfers among random customers with ten lots each, in a database of so many lots.",
        "",
        "![Transfers a second by the number of lots](performance/growth.svg)",
        "",
        f"{head} | CPU, µs: server | writer | database |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    sizes = {(one.engine, one.lots): one.size_bytes for one in grown}
    lines += [
        f"| {row.engine} | {row.lots:,} | {figure(sizes[row.engine, row.lots] / 1e6)} MB | {row.callers} |"
        f" {figure(row.per_s)} | {row.noop} | {figure(row.p50_ms)} | {figure(row.p99_ms)} |"
        f" {figure(row.server_cpu_us)} | {figure(row.writer_cpu_us)} | {figure(row.database_cpu_us)} |"
        for row in grown_rows(grown)
    ]
    return "\n".join(lines)


# The ratios that the service is built for. Nothing fails by them: machines differ and have moods.


def _goals(result: Result) -> Iterable[str]:
    for found in result.found:
        yield from _goals_on(found)
    for engine in dict.fromkeys(one.engine for one in result.grown):
        for callers in dict.fromkeys(row.callers for row in grown_rows(result.grown)):
            if compared := kept(result.grown, engine, callers):
                row, share = compared
                text = f"{engine}, {row.lots:,} lots, {callers} callers: at least 0.8 of the speed with {BASE_LOTS:,}"
                yield _goal(text, Ratio(share, share, share), at_least=0.8)


def _goals_on(found: Found) -> Iterable[str]:
    first = found.servers[0]
    here = [row for row in rows(found) if row.server == first]
    of = {row.callers: row for row in here if row.operation == TRANSFER}
    many, lone = of.get(64), of.get(1)
    batch = max((row for row in here if row.operation == BATCH), key=lambda row: row.per_s)
    least = {SQLITE: 0.6, POSTGRESQL: 0.45}[found.engine]
    if many and many.noop:
        yield _goal(f"{found.engine}, transfers, 64 callers: at least {least} of the no-op", many.noop, at_least=least)
    if found.engine == SQLITE:
        if lone and lone.p50_times:
            yield _goal("SQLite, a lone caller: p50 at most 4 times the no-op's", lone.p50_times, at_most=4)
        if batch.noop:
            yield _goal("SQLite, batches: at least 3 times a lone caller of the no-op", batch.noop, at_least=3)
    if batch.tpcb:
        yield _goal("PostgreSQL, batches: at least 2 times TPC-B", batch.tpcb, at_least=2)
    if len(found.servers) > 1:
        crowds = [each for each in found.samples if (each.operation, each.level.callers) == (TRANSFER, 256)]
        one, two = ([each for each in crowds if each.server == server] for server in found.servers[:2])
        if compared := ratio(two, one, lambda sample: sample.per_s):
            yield _goal("PostgreSQL, 256 callers: two workers at least as fast as one", compared, at_least=1)
    alone = [each for each in found.samples if each.level.callers == 1]
    many_lots, one_lot = ([each for each in alone if each.operation == kind] for kind in (MANY_LOTS, ONE_LOT))
    if compared := ratio(many_lots, one_lot, lambda sample: sample.report.p50_ms):
        yield _goal(f"{found.engine}, many lots: p50 at most 2 times that of one lot", compared, at_most=2)


def _goal(text: str, found: Ratio, *, at_least: float = 0.0, at_most: float = float("inf")) -> str:
    return f"{text}: {found}, {'reached' if at_least <= found.middle <= at_most else 'missed'}"


# The page


def put_into(page: Path, name: str, text: str) -> None:
    """Puts a text between the marks `<!-- name -->` and `<!-- end of name -->` of a page; a page is made if need be."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    old = page.read_text(encoding="utf-8") if page.exists() else f"# Performance\n\n{start}{end}"
    before, found, rest = old.partition(start)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise ValueError(f"{page} has no marks {start.strip()} and {end.strip()}")
    page.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
