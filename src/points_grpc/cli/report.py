"""The reports on the command line: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from points_grpc.cli.databases import ID_MAX, require_org
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.setting_options import database_option

if TYPE_CHECKING:
    from points_grpc.storage.engine import Database

DATABASE = database_option
ORG = click.option("--org", "org_id", type=click.IntRange(1, ID_MAX), help="Only this organisation.")


DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group()
def report() -> None:
    """Figures for finance, from the journal alone; also beside a serving process."""


@report.command()
@DATABASE
@ORG
@JSON
@click.option("--as-of", "day", type=DAY, help="The day at whose end it is counted.  [default: today in UTC]")
def liability(database: str, org_id: int | None, *, as_json: bool, day: datetime | None) -> None:
    """What is outstanding, promised, held, expiring and broken, by program and source."""
    from points_grpc.storage import reports  # noqa: PLC0415 - SQLAlchemy takes a while to import

    as_of = (day or datetime.now(UTC)).date()
    with opened_database(database, org_id) as opened:
        found = reports.liability(opened, as_of, org_id=org_id or 0)
    if as_json:
        print_json({"as_of": as_of, "programs": found})
        return
    names = ("org", "program", "source", "outstanding", "promised", "held", "breakage", "expiring")
    print_table(
        names,
        [
            (
                one.org_id,
                one.program_id,
                one.source or "-",
                one.outstanding,
                one.promised,
                one.held,
                one.breakage,
                ", ".join(f"{month}: {points}" for month, points in one.expiring.items()),
            )
            for one in found
        ],
    )


@report.command()
@DATABASE
@ORG
@JSON
@click.option("--from", "first", type=DAY, help="The first day.  [default: --to]")
@click.option("--to", "last", type=DAY, help="The last day.  [default: today in UTC]")
def daily(database: str, org_id: int | None, *, as_json: bool, first: datetime | None, last: datetime | None) -> None:
    """What moved on each day, by program; closing is what was outstanding in its wallets at the end."""
    from points_grpc.storage import reports  # noqa: PLC0415 - SQLAlchemy takes a while to import

    last_day = (last or datetime.now(UTC)).date()
    first_day = first.date() if first else last_day
    if first_day > last_day:
        raise click.UsageError("--from is after --to")
    with opened_database(database, org_id) as opened:
        found = reports.daily(opened, first_day, last_day, org_id=org_id or 0)
    if as_json:
        print_json({"from": first_day, "to": last_day, "days": found})
        return
    names = ("day", "org", "program", "issued", "redeemed", "expired", "adjusted", "clearing", "closing")
    print_table(
        names,
        [
            (
                one.day,
                one.org_id,
                one.program_id,
                one.issued,
                one.redeemed,
                one.expired,
                one.adjusted,
                one.clearing,
                one.closing,
            )
            for one in found
        ],
    )


@contextmanager
def opened_database(database: str, org_id: int | None = None) -> Iterator[Database]:
    """A database of the schema of this version, which has the organisation if one is named."""
    from points_grpc.storage.accounts import Accounts  # noqa: PLC0415 - as below
    from points_grpc.storage.engine import Database, require_schema  # noqa: PLC0415 - SQLAlchemy takes a while

    opened = Database(database)
    try:
        require_schema(opened)
        if org_id is not None:
            require_org(Accounts(opened), org_id)
        yield opened
    finally:
        opened.close()
