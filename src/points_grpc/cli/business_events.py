"""Business events on the command line: how many wait, which were given up and why, and having these sent again."""

from __future__ import annotations

from datetime import datetime

import click

from points_grpc.cli.databases import ID_MAX, plain_errors
from points_grpc.cli.databases import ORG as REQUIRED_ORG
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.report import DATABASE, ORG, opened_database

EVENT_ID = click.IntRange(1, ID_MAX)


@click.group()
def events() -> None:
    """Business events on their way to a webhook; also beside a serving process."""


@events.command("list")
@DATABASE
@ORG
@JSON
def list_counts(database: str, org_id: int | None, *, as_json: bool) -> None:
    """Counts events that wait and that were given up, by organisation."""
    from points_grpc.storage import business_events  # noqa: PLC0415 - SQLAlchemy takes a while to import

    with opened_database(database, org_id) as opened:
        found = business_events.event_counts(opened, org_id=org_id or 0)
    if as_json:
        print_json({"organizations": found})
        return
    print_table(
        ("org", "queued", "retrying", "dead", "oldest queued", "oldest dead"),
        [
            (one.org_id, one.queued, one.retrying, one.dead, _time(one.oldest_queued_at), _time(one.oldest_dead_at))
            for one in found
        ],
    )


@events.command("dead")
@DATABASE
@REQUIRED_ORG
@JSON
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, help="At most so many.")
def list_dead(database: str, org_id: int, *, as_json: bool, limit: int) -> None:
    """Lists the events that were given up, oldest first, and what the last try of each failed of."""
    from points_grpc.storage import business_events  # noqa: PLC0415 - SQLAlchemy takes a while to import

    with opened_database(database, org_id) as opened:
        found = business_events.given_up(opened, org_id, limit)
    if as_json:
        print_json({"events": found})
        return
    print_table(
        ("event", "occurred at", "type", "customer", "attempts", "error"),
        [
            (one.event_id, _time(one.occurred_at), one.type, one.customer_id, one.attempts, one.last_error or "-")
            for one in found
        ],
    )


@events.command("show")
@DATABASE
@REQUIRED_ORG
@click.argument("event_id", type=EVENT_ID)
def show_event(database: str, org_id: int, event_id: int) -> None:
    """Prints what an event says that waits or was given up, as it is posted."""
    from points_grpc.storage import business_events  # noqa: PLC0415 - SQLAlchemy takes a while to import

    with opened_database(database, org_id) as opened:
        body = business_events.event_body(opened, org_id, event_id)
    if body is None:
        raise click.ClickException(f"organisation {org_id} has no event {event_id} that waits or was given up")
    click.echo(body.decode())


@events.command("retry")
@DATABASE
@REQUIRED_ORG
@JSON
@click.option("--all", "every", is_flag=True, help="All of the organisation that were given up.")
@click.argument("event_ids", type=EVENT_ID, nargs=-1)
def retry(database: str, org_id: int, event_ids: tuple[int, ...], *, every: bool, as_json: bool) -> None:
    """Has events sent again that were given up: those named, or all. They have all their tries ahead of them."""
    from points_grpc.storage.business_events import Retries  # noqa: PLC0415 - SQLAlchemy takes a while to import

    if every == bool(event_ids):
        raise click.UsageError("name events, or say --all")
    with plain_errors(), opened_database(database, org_id) as opened:
        retries = Retries(opened)
        done = retries.retry_all(org_id) if every else retries.retry(org_id, event_ids)
    missing = [] if every else sorted(set(event_ids) - set(done.event_ids))
    if as_json:
        print_json({"retried": done.event_ids, "unwanted": done.unwanted})
    else:
        click.echo(f"{len(done.event_ids)} are sent again")
    if done.unwanted:
        raise click.ClickException(f"{done.unwanted} were left: the organisation does not want them (PUBLISH_EVENTS)")
    if missing:
        raise click.ClickException(f"not given up, or not there: {', '.join(map(str, missing))}")


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "-"
