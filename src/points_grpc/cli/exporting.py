"""`points-grpc export`: customers, balances, lots, wallets and transactions as CSV files.

What people see of it stands here: options, the bar, the summary. Exit codes: 0 FILE is there, whole; 1 not finished,
and FILE is as it was; 2 misused.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc.cli.calling import Server, server_options
from points_grpc.cli.databases import ID_MAX
from points_grpc.cli.printing import JSON, print_json
from points_grpc.cli.progress import told

if TYPE_CHECKING:
    from points_grpc.cli.export_run import Done, Plan

CALL_TIMEOUT_S = 30.0

_MOMENTS = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"])


@click.group("export")
def export() -> None:
    """Customers, balances, lots, wallets and transactions of the organisation as CSV files.

    For a manager. FILE is there when all of it is written; killed before, run it again. docs/import.md has the columns.
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of all kinds of export."""
    for option in (
        JSON,
        click.option(
            "--wait",
            "patience_s",
            type=click.FloatRange(0),
            default=300.0,
            help="Seconds to wait for a server that is away, before the export stops.",
        ),
        click.option("--force", is_flag=True, help="Replaces FILE if it is there."),
        server_options,
        click.argument("file", type=click.Path(path_type=Path, dir_okay=False)),
    ):
        command = option(command)
    return command


_PROGRAM = click.option("--program", "program_id", type=click.IntRange(1, ID_MAX), help="Only those in this program.")


@export.command()
@_options
@click.option(
    "--for-import",
    is_flag=True,
    help="The columns that `import customers` takes, without customers who were merged away, erased or deleted.",
)
def customers(*, for_import: bool, **options: object) -> None:
    """All customers, by id."""
    _export("customers", for_import=for_import, **options)  # type: ignore[arg-type]  # click has checked them


@export.command()
@_options
@_PROGRAM
def balances(program_id: int | None, **options: object) -> None:
    """What customers have, as `import balances` takes it: a row for each lot."""
    _export("balances", program_id=program_id, **options)  # type: ignore[arg-type]  # click has checked them


@export.command()
@_options
@_PROGRAM
def lots(program_id: int | None, **options: object) -> None:
    """All lots that have points left, by customer, program and spending order."""
    _export("lots", program_id=program_id, **options)  # type: ignore[arg-type]  # click has checked them


@export.command()
@_options
@_PROGRAM
def wallets(program_id: int | None, **options: object) -> None:
    """All wallets with their balances, by customer and program."""
    _export("wallets", program_id=program_id, **options)  # type: ignore[arg-type]  # click has checked them


@export.command()
@_options
@click.option("--since", type=_MOMENTS, help="Only those made at this time (UTC) or later.")
@click.option("--until", type=_MOMENTS, help="Only those made before this time (UTC).")
def transactions(since: datetime | None, until: datetime | None, **options: object) -> None:
    """The journal, newest first: a row for each transaction."""
    _export("transactions", since=since, until=until, **options)  # type: ignore[arg-type]  # click has checked them


def _export(
    kind: str,
    *,
    server: Server,
    file: Path,
    force: bool,
    patience_s: float,
    as_json: bool,
    program_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    for_import: bool = False,
) -> None:
    """Writes the file, and says what is in it."""
    from google.protobuf.timestamp_pb2 import Timestamp  # noqa: PLC0415 - takes a while to import

    from points_grpc.cli.export_rows import Kind  # noqa: PLC0415
    from points_grpc.cli.export_run import Plan  # noqa: PLC0415

    if str(file) == "-":
        raise click.UsageError("an export goes to a file, which is there whole or not at all: name one")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise click.UsageError(f"{file} is no regular file: name another one")
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there already; --force replaces it")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--until: after --since")

    def moment(at: datetime | None) -> Timestamp | None:
        found = Timestamp()
        if at is not None:
            found.FromDatetime(at.replace(tzinfo=UTC))
        return None if at is None else found

    plan = Plan(
        kind=Kind(kind),
        program_id=program_id or 0,
        since=moment(since),
        until=moment(until),
        for_import=for_import,
        patience_s=patience_s,
    )
    _summarise(plan, _run(plan, server, file, replaces=force), file, as_json=as_json)


def _run(plan: Plan, server: Server, path: Path, *, replaces: bool) -> Done:
    """Runs the export with a bar, or with lines where there is no terminal."""
    from points_grpc.cli.export_file import InUse, PartTable  # noqa: PLC0415 - gRPC takes a while to import
    from points_grpc.cli.export_rows import columns  # noqa: PLC0415
    from points_grpc.cli.export_run import Run  # noqa: PLC0415
    from points_grpc.cli.import_sending import Stopped  # noqa: PLC0415

    async def run() -> Done:
        async with server.asynchronous(CALL_TIMEOUT_S) as client:
            with told("export") as tell:
                return await Run(plan, file, client, _warn)(tell)

    try:
        file = PartTable(path, columns(plan.kind, for_import=plan.for_import), replaces=replaces)
    except InUse as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{path}: {os.strerror(error.errno or 0)}") from None
    try:
        return asyncio.run(run())
    except Stopped as stopped:
        then = "; run it again" if stopped.again else ""
        raise click.ClickException(f"{stopped}. {path} was not written{then}") from None
    except OSError as error:
        raise click.ClickException(f"{path}: {os.strerror(error.errno or 0)}. It was not written") from None
    finally:
        file.close()


def _warn(text: str) -> None:
    """A word on standard error, on a line of its own."""
    click.echo(f"\nexport: {text}" if sys.stderr.isatty() else f"export: {text}", err=True)


def _summarise(plan: Plan, done: Done, path: Path, *, as_json: bool) -> None:
    """Says what is in the file."""
    if as_json:
        print_json(
            {
                "kind": plan.kind.value,
                "file": str(path),
                "bytes": path.stat().st_size,
                "rows": done.rows,
                "left_out": done.left_out,
                "marked": done.marked,
                "seconds": round(done.seconds, 3),
                "rows_per_s": round(done.rows / max(done.seconds, 0.001)),
            }
        )
        return
    click.echo(f"{done.rows} {plan.kind} in {path}")
    if plan.for_import and done.left_out:
        click.echo(f"{done.left_out} who were merged away, erased or deleted are left out")
    if plan.for_import and done.marked:
        click.echo(f"{done.marked} have a fraud status, a label or a lock, which an import does not take over")
