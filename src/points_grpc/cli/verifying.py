"""`points-grpc verify`: every balance recomputed from the journal, or an export proved; how far it is, what differs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc.cli.databases import DATABASE, plain_errors
from points_grpc.cli.journal import prove
from points_grpc.cli.printing import JSON, print_json

if TYPE_CHECKING:
    from points_grpc.storage.verify import Report

LINE_EVERY_S = 5.0
"""How often is told how far it is. Millions of postings take minutes."""

_READ = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@DATABASE
@JSON
@click.option("--export", "export_file", type=_READ, help="Proves an exported journal instead; opens no database.")
@click.option("--checkpoint", "checkpoint_file", type=_READ, help="The signed checkpoint to prove it with.")
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    help="The key that must have signed it, in hex, as `journal keys` prints it; several: one of them.",
)
def verify(
    database: str,
    export_file: Path | None,
    checkpoint_file: Path | None,
    public_keys: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Recomputes every balance from the journal, also beside a serving process; names the first differences.

    How far it is stands on standard error, every few seconds.
    """
    if (export_file is None) != (checkpoint_file is None):
        raise click.UsageError("--export and --checkpoint go together")
    if export_file is not None and checkpoint_file is not None:
        if as_json:
            raise click.UsageError("--json is for a database: a proof of an export is for people")
        prove(export_file, checkpoint_file, public_keys)
        return
    report = _verified(database)
    if as_json:
        print_json({"sound": report.sound, "checked": report.checked, "differences": report.differences})
    else:
        _print(report)
    if not report.sound:
        raise click.ClickException(f"{len(report.differences)} of {len(report.checked)} invariants do not hold")


def telling(monotonic: Callable[[], float]) -> Callable[[str, int, int], None]:
    """Tells how far it is: what is looked at, and of how many looks this is which; not more often than every 5 s."""
    started = told_at = monotonic()

    def tell(what: str, number: int, total: int) -> None:
        nonlocal told_at
        now = monotonic()
        if now - told_at < LINE_EVERY_S:
            return
        told_at = now
        passed_s = round(now - started)
        click.echo(f"verify: {number} of {total}, {what}, {passed_s // 60}:{passed_s % 60:02} so far", err=True)

    return tell


def _verified(database: str) -> Report:
    from points_grpc.storage.engine import Database, require_schema  # noqa: PLC0415 - SQLAlchemy takes a while
    from points_grpc.storage.verify import verify as run  # noqa: PLC0415

    with plain_errors():
        opened = Database(database)
        click.get_current_context().call_on_close(opened.close)
        require_schema(opened)
        return run(opened, tell=telling(time.monotonic))


def _print(report: Report) -> None:
    for invariant, count in report.checked.items():
        click.echo(f"{invariant}: {count} checked")
    for one in report.differences:
        click.echo(
            f"DIFFERENCE {one.invariant}: organisation {one.org_id}, {one.subject}: "
            f"expected {one.expected}, found {one.actual}"
        )
    if report.sound:
        click.echo("verify: OK")
