"""The outbox on the command line: what became of one-time codes on their way. Never a code, a number or an address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from points_grpc.cli.databases import ID_MAX
from points_grpc.cli.databases import ORG as REQUIRED_ORG
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.report import DATABASE, ORG, opened_database


@click.group()
def outbox() -> None:
    """One-time codes on their way to customers; also beside a serving process."""


@outbox.command("list")
@DATABASE
@ORG
@JSON
@click.option("--hours", type=click.IntRange(1, 24 * 366), default=24, help="Counts what was queued since, and waits.")
def list_counts(database: str, org_id: int | None, *, as_json: bool, hours: int) -> None:
    """Counts messages by organisation, channel and state."""
    from points_grpc.storage import deliveries  # noqa: PLC0415 - SQLAlchemy takes a while to import

    with opened_database(database, org_id) as opened:
        found = deliveries.deliveries(opened, datetime.now(UTC) - timedelta(hours=hours), org_id=org_id or 0)
    if as_json:
        print_json({"hours": hours, "channels": found})
        return
    names = ("org", "channel", "queued", "retrying", "delivered", "cancelled", "dead", "oldest queued")
    print_table(
        names,
        [
            (
                one.org_id,
                one.channel,
                one.queued,
                one.retrying,
                one.delivered,
                one.cancelled,
                one.dead,
                _time(one.oldest_queued_at),
            )
            for one in found
        ],
    )


@outbox.command("show")
@DATABASE
@JSON
@REQUIRED_ORG
@click.argument("customer_id", type=click.IntRange(1, ID_MAX))
def show_customer(database: str, org_id: int, customer_id: int, *, as_json: bool) -> None:
    """Lists the messages of a customer, newest first: what each was for, and what became of it."""
    from points_grpc.storage import deliveries  # noqa: PLC0415 - SQLAlchemy takes a while to import

    with opened_database(database, org_id) as opened:
        found = deliveries.deliveries_to(opened, org_id, customer_id)
    if as_json:
        print_json({"messages": found})
        return
    names = ("message", "queued at", "action", "channel", "state", "attempts", "error")
    print_table(
        names,
        [
            (
                one.message_id,
                _time(one.created_at),
                one.action,
                one.channel,
                one.state,
                one.attempts,
                one.last_error or "-",
            )
            for one in found
        ],
    )


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "-"
