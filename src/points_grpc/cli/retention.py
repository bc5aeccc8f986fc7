"""`points-grpc retention`: what is old and may go; only with --apply it does. Also beside a serving process."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from points_grpc.cli.databases import plain_errors
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.report import DATABASE, opened_database

_DAYS = click.IntRange(1, 36_500)


@click.command()
@DATABASE
@JSON
@click.option("--refusals-days", type=click.IntRange(30, 36_500), default=90, help="Age of recorded refusals.")
@click.option("--messages-days", type=_DAYS, default=90, help="Age of settled messages with one-time codes.")
@click.option("--events-days", type=_DAYS, default=90, help="Age of business events that were given up.")
@click.option("--apply", "is_applied", is_flag=True, help="Removes them; without it they are counted.")
def retention(
    database: str,
    *,
    as_json: bool,
    refusals_days: int,
    messages_days: int,
    events_days: int,
    is_applied: bool,
) -> None:
    """Counts rows that are old and may go, by organisation and kind; the journal never does."""
    from points_grpc.storage.retention import Ages, aged, remove  # noqa: PLC0415 - SQLAlchemy takes a while to import

    ages = Ages(refusals=refusals_days, messages=messages_days, events=events_days)
    with plain_errors(), opened_database(database) as opened:
        now = datetime.now(UTC)
        found = list(remove(opened, ages, now)) if is_applied else aged(opened, ages, now)
    if as_json:
        print_json({"removed" if is_applied else "may_go": found})
        return
    print_table(
        ("org", "what", "removed" if is_applied else "may go"), [(one.org_id, one.what, one.rows) for one in found]
    )
