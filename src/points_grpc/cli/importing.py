"""`points-grpc import`: customers, points and opening balances from CSV files, each row exactly once.

What people see of it stands here: options, the bar, the summary. Exit codes: 0 every row is in, 1 not finished (run
it again), 2 misused, 3 finished and rows were refused (they are in the report).

What would do rows twice, or lose something, is refused before anything is sent: a file that changed, another name or
other defaults than before, a report or a progress in the place of something else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc.cli.calling import Server, server_options
from points_grpc.cli.databases import ID_MAX
from points_grpc.cli.printing import JSON, print_json
from points_grpc.cli.progress import told

if TYPE_CHECKING:
    from points_grpc.cli.import_file import CsvFile, Survey
    from points_grpc.cli.import_progress import Progress
    from points_grpc.cli.import_rows import Defaults, Kind
    from points_grpc.cli.import_run import Done, Plan, Tell

CALL_TIMEOUT_S = 30.0
REFUSED = 3
"""The exit code of an import that was finished and had rows refused."""

_SAFE = "Every row up to here has its outcome"

_TABS = {"tab", "\\t"}
"""How people write the delimiter that a shell makes hard to write."""

_SOURCES = click.Choice(["LOYALTY_PLUS", "ENGAGE_PLUS", "GOODWILL", "DATA_IMPORT", "REGISTRATION"])


@click.group("import")
def import_() -> None:
    """Customers, points and opening balances from CSV files: each row exactly once, however often it is run.

    The first line names the columns; docs/import.md has them all. Killed at any time, the same command goes on where it
    was. Refused rows are in a report beside the file.
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of all kinds of import."""
    for option in (
        JSON,
        click.option("--delimiter", default=",", help="Between the fields, e.g. ';' or tab."),
        click.option(
            "--wait",
            "patience_s",
            type=click.FloatRange(0),
            default=300.0,
            help="Seconds to wait for a server that is away, before the import stops.",
        ),
        click.option(
            "--refused-max",
            type=click.IntRange(0),
            default=1000,
            help="Stops when more rows than this were refused in a run.",
        ),
        click.option(
            "--report",
            "report_path",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Where refused rows go.  [default: FILE.refused.csv, with --dry-run FILE.check.csv]",
        ),
        click.option(
            "--resume-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Where the progress is kept; saves time only.  [default: FILE.progress.json]",
        ),
        click.option("--dry-run", is_flag=True, help="Judges every row and writes nothing."),
        click.option(
            "--name", help="Names the import: its rows are done once under this name.  [default: the file's digest]"
        ),
        click.option(
            "--program", "program_id", type=click.IntRange(1, ID_MAX), help="The program of rows that name none."
        ),
        server_options,
        click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False)),
    ):
        command = option(command)
    return command


@import_.command()
@_options
def customers(server: Server, file: Path, program_id: int | None, **options: object) -> None:
    """New customers.

    Columns: customer_id, external_id, mobile, email (each optional), first_name, last_name, programs (ids to enrol in,
    with spaces between), campaign_contact (yes or no), locale.
    """
    _import("customers", server, file, program_id, "", **options)  # type: ignore[arg-type]  # click has checked them


@import_.command()
@_options
@click.option("--source", type=_SOURCES, help="Where the points of rows come from that do not say.")
def points(server: Server, file: Path, program_id: int | None, source: str | None, **options: object) -> None:
    """Points to issue.

    Columns: one of customer_id, external_id, mobile, email; points; source; program_id; earning_program_id; category;
    expires; available_from; transaction_number; notes. `expires` is a day (2030-12-31), an instant
    (2030-12-31T23:59:59Z), "90 days", "12 months" or "never".
    """
    _import("points", server, file, program_id, source or "", **options)  # type: ignore[arg-type]  # click has checked


@import_.command()
@_options
@click.option("--source", type=_SOURCES, default="DATA_IMPORT", help="Of rows that do not say.")
def balances(server: Server, file: Path, program_id: int | None, source: str, **options: object) -> None:
    """Opening balances from an earlier system; one row for each customer and expiry.

    Columns: one of customer_id, external_id, mobile, email; balance; expires (required; "never" if it does not);
    available_from; program_id; earning_program_id; category; source; notes. A balance of 0 writes nothing.
    """
    _import("balances", server, file, program_id, source, **options)  # type: ignore[arg-type]  # click has checked them


def _import(
    kind: str,
    server: Server,
    path: Path,
    program_id: int | None,
    source: str,
    *,
    name: str | None,
    dry_run: bool,
    resume_file: Path | None,
    report_path: Path | None,
    refused_max: int,
    patience_s: float,
    delimiter: str,
    as_json: bool,
) -> None:
    """Reads the file once, then runs."""
    from points_grpc.cli.import_progress import is_as_left, load  # noqa: PLC0415 - gRPC takes a while to import
    from points_grpc.cli.import_rows import Defaults, Kind  # noqa: PLC0415
    from points_grpc.cli.import_run import Plan  # noqa: PLC0415

    progress_path = resume_file or path.with_name(f"{path.name}.progress.json")
    report_path = report_path or path.with_name(f"{path.name}.{'check' if dry_run else 'refused'}.csv")
    defaults = Defaults(program_id or 0, source)
    with _plain_errors(path):
        file, survey = _surveyed(Kind(kind), path, delimiter, defaults)
        _require_places(path, report_path, None if dry_run else progress_path)
    earlier = None if dry_run else load(progress_path)
    if earlier is not None:
        _require_the_same_import(path, report_path, earlier, survey, name, defaults)
        with _plain_errors(report_path):
            if not is_as_left(report_path, earlier):
                raise click.UsageError(
                    f"{report_path} has changed since it was written, and what was corrected there would be lost: "
                    f"import it, and move it away"
                )
    plan = Plan(
        kind=Kind(kind),
        name=name or survey.digest,
        defaults=defaults,
        progress_path=progress_path,
        refused_max=refused_max,
        patience_s=patience_s,
        dry_run=dry_run,
    )
    done = _run(plan, server, file, survey, report_path)
    _summarise(plan, done, report_path, as_json=as_json)
    if done.counts.refused:
        sys.exit(REFUSED)


def _surveyed(kind: Kind, path: Path, delimiter: str, defaults: Defaults) -> tuple[CsvFile, Survey]:
    """The file, open, and what is known of it; what would be wrong with every row is told once, before any is sent."""
    from points_grpc.cli.import_file import CsvFile, FileWrong  # noqa: PLC0415
    from points_grpc.cli.import_places import PlaceWrong, require_source  # noqa: PLC0415
    from points_grpc.cli.import_rows import Kind  # noqa: PLC0415

    between = "\t" if delimiter.lower() in _TABS else delimiter
    if len(between) != 1 or between in '"\r\n':
        raise click.UsageError("--delimiter: one character, or tab")
    try:
        require_source(path)
        file = CsvFile(path, between)
        click.get_current_context().call_on_close(file.close)
        survey = file.survey(kind)
    except (FileWrong, PlaceWrong) as error:
        raise click.UsageError(str(error)) from None
    if kind is Kind.POINTS and not defaults.source and "source" not in survey.columns:
        raise click.UsageError("points need a source: a column source, or --source")
    return file, survey


def _require_places(path: Path, report_path: Path, progress_path: Path | None) -> None:
    """Report and progress may be written where they are to be."""
    from points_grpc.cli.import_places import PlaceWrong, require_places  # noqa: PLC0415

    try:
        require_places(path, report_path, progress_path)
    except PlaceWrong as error:
        raise click.UsageError(str(error)) from None


def _require_the_same_import(
    path: Path, report_path: Path, earlier: Progress, survey: Survey, name: str | None, defaults: Defaults
) -> None:
    """What was imported before is gone on with, or another name says that all of it is to be done."""
    if name is None and earlier.digest != survey.digest:
        raise click.UsageError(
            f"{path} has changed since it was imported, and every row would be done again. Import a corrected report, "
            f"or a file of the new rows alone; or, if all of it is new, say --name"
        )
    if name is None and earlier.name != survey.digest:
        raise click.UsageError(
            f"{path} was imported with --name {earlier.name}, and every row would be done again without it. Say it to "
            f"go on; or, if all of it is to be done again, say another one"
        )
    if earlier.name != (name or survey.digest) or earlier.defaults == defaults or not earlier.counts.rows:
        return
    before, now = _told_defaults(earlier.defaults), _told_defaults(defaults)
    raise click.UsageError(
        f"{path} was imported with {before}, and with {now} the rows that were done would stay as they are. Say what "
        f"was said before to go on, import {report_path} for the refused rows alone, or say another --name to do all "
        f"of it again"
    )


def _told_defaults(defaults: Defaults) -> str:
    """The options that made them."""
    program = f"--program {defaults.program_id}" if defaults.program_id else "no --program"
    return f"{program} and " + (f"--source {defaults.source}" if defaults.source else "no --source")


@contextmanager
def _plain_errors(path: Path, then: str = "") -> Iterator[None]:
    """What ails a file is a sentence."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.ClickException(f"{error.filename or path}: {reason}{then}") from None


def _run(plan: Plan, server: Server, file: CsvFile, survey: Survey, report_path: Path) -> Done:
    """Runs the import with a bar, or with lines where there is no terminal."""
    from points_grpc.cli.import_progress import InUse, Report  # noqa: PLC0415
    from points_grpc.cli.import_run import Run  # noqa: PLC0415
    from points_grpc.cli.import_sending import Stopped  # noqa: PLC0415

    async def run(report: Report, tell: Tell) -> Done:
        async with server.asynchronous(CALL_TIMEOUT_S) as client:
            return await Run(plan, file, survey, report, client, _warn)(tell)

    try:
        with _plain_errors(report_path):
            report = Report(report_path, survey.columns)
    except InUse as error:
        raise click.ClickException(str(error)) from None
    try:
        with _plain_errors(report_path, f". {_SAFE}; run it again to go on"), told("import") as tell:
            return asyncio.run(
                run(
                    report,
                    lambda counts, skipped: tell(
                        counts.rows, survey.rows, before=skipped, more=f"{counts.refused} refused"
                    ),
                )
            )
    except Stopped as stopped:
        then = "; run it again to go on" if stopped.again else ""
        raise click.ClickException(f"{stopped}. {_SAFE}{then}") from None
    finally:
        with suppress(OSError):  # told above: what could not be written is not lost, its rows are sent again
            report.close()


def _warn(text: str) -> None:
    """A word on standard error, on a line of its own."""
    click.echo(f"\nimport: {text}" if sys.stderr.isatty() else f"import: {text}", err=True)


def _summarise(plan: Plan, done: Done, report_path: Path, *, as_json: bool) -> None:
    """Says what became of the rows."""
    counts = done.counts
    per_s = (counts.rows - done.skipped) / max(done.seconds, 0.001)
    if as_json:
        print_json(
            {
                "kind": plan.kind.value,
                "name": plan.name,
                "dry_run": plan.dry_run,
                "rows": counts.rows,
                "accepted": counts.accepted,
                "replayed": counts.replayed,
                "expired": counts.expired,
                "refused": counts.refused,
                "repeated": counts.repeated,
                "empty": counts.empty,
                "skipped": done.skipped,
                "seconds": round(done.seconds, 3),
                "rows_per_s": round(per_s),
                "report": str(report_path),
            }
        )
        return
    verb = "would be accepted" if plan.dry_run else "accepted"
    parts = [f"{counts.rows} rows: {counts.accepted} {verb}"]
    if counts.replayed:
        parts.append(f"{counts.replayed} of them earlier")
    if counts.expired:
        parts.append(f"{counts.expired} of them expired on arrival (877)")
    if counts.empty:
        parts.append(f"{counts.empty} with a balance of 0")
    parts.append(f"{counts.refused} refused")
    if counts.repeated:
        parts.append(f"{counts.repeated} of them earlier")
    click.echo(", ".join(parts))
    if counts.refused:
        click.echo(f"the refused rows are in {report_path}")
    if counts.repeated:
        click.echo(f"what was refused earlier stays so, whatever changed since: import {report_path} to try it again")
