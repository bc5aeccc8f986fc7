"""`points-grpc partitions`: the journal's tables in partitions by time, on PostgreSQL; beside servers that go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from points_grpc.cli.databases import plain_errors
from points_grpc.cli.printing import JSON, print_json, print_table
from points_grpc.cli.report import DATABASE, opened_database


@click.group()
def partitions() -> None:
    """The journal's tables in partitions by time; PostgreSQL only."""


@partitions.command()
@DATABASE
@click.option("--days", type=click.IntRange(1, 3660), default=30, help="How many days are in one that is made.")
@click.option("--ahead", type=click.IntRange(1, 100), default=3, help="How many to have ahead.")
def make(database: str, days: int, ahead: int) -> None:
    """Makes what is lacking ahead; the first run puts the tables that are there into partitions. Run it every day."""
    from points_grpc.storage.partitioning import make_partitions  # noqa: PLC0415 - SQLAlchemy takes a while to import

    with plain_errors(), opened_database(database) as opened:
        make_partitions(opened, now=datetime.now(UTC), days=days, ahead=ahead, tell=click.echo)
    click.echo("partitions: OK")


@partitions.command()
@DATABASE
@click.option("--older-than", "days", type=click.IntRange(1, 36_500), required=True, help="Days since they ended.")
@click.argument("tablespace")
def move(database: str, days: int, tablespace: str) -> None:
    """Moves old partitions, table and indexes, to TABLESPACE; needs room for a second copy of one of them."""
    from points_grpc.storage.partition_moving import move_partitions  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    with plain_errors(), opened_database(database) as opened:
        count = move_partitions(
            opened, ended_before=now - timedelta(days=days), now=now, tablespace=tablespace, tell=click.echo
        )
    click.echo(f"partitions: {count} moved")


@partitions.command("list")
@DATABASE
@JSON
def list_partitions(database: str, *, as_json: bool) -> None:
    """Lists the partitions of each table, or the table where it has none: since when, until when, how large."""
    from points_grpc.storage import partitioning  # noqa: PLC0415 - as above

    with plain_errors(), opened_database(database) as opened:
        found = partitioning.partitions(opened)
    if as_json:
        print_json({"partitions": found})
        return
    print_table(
        ("table", "partition", "from", "until", "rows", "bytes", "tablespace"),
        [
            (
                one.table,
                one.name,
                _day(one.begins_at),
                _day(one.ends_at),
                one.rows,
                one.size_bytes,
                one.tablespace,
            )
            for one in found
        ],
    )


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "-"
