"""`points-grpc customers`: what is kept about a person, handed out or erased; and who was erased, to do it again.

`export` and `erase` ask a running server, as any client may who has the role (manager, admin). `erased` and `vacuum`
open the database: the one lists numbers and times, to be kept apart from it and applied again after a restore (`erase
--from`), the other rewrites it without what was erased. Exit codes: 0 done, 1 refused, not answered or not finished,
2 misused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from points_grpc.cli.calling import Server, server_options
from points_grpc.cli.databases import DATABASE, ORG, accounts_of, plain_errors, require_org
from points_grpc.cli.export_file import new_file
from points_grpc.cli.printing import JSON, print_json
from points_grpc.cli.showing import TYPES, answered

if TYPE_CHECKING:
    from points_grpc.client import PointsClient
    from points_grpc.v1 import common_pb2, customer_service_pb2

PAGE = 200
REASON_AGAIN = "erased before, applied again"
_KIND = click.option("--type", "kind", type=TYPES, default="ID", help="How the customer is named.")


@click.group()
def customers() -> None:
    """What is kept about a person: handed out, erased."""


@customers.command()
@click.argument("customer")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_KIND
@server_options
def export(server: Server, customer: str, file: Path, kind: str) -> None:
    """Writes all that is kept about CUSTOMER into FILE, a record a line in JSON; never over a file that is there."""
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415 - gRPC takes a while to import

    if file.exists():
        raise click.ClickException(f"{file} exists already")
    records = 0
    with answered(server) as points, new_file(file) as out:
        for record in _records(points, _identifier(customer, kind)):
            out.write(MessageToJson(record, preserving_proto_field_name=True, indent=None).encode() + b"\n")
            records += 1
    click.echo(f"{file}: {records} records")


@customers.command()
@click.argument("customer", required=False)
@_KIND
@click.option("--reason", help="Why, for the audit log; it stays, so it must not say who it was.")
@click.option("--forfeit-points", is_flag=True, help="Takes away the points that are left; else they are in the way.")
@click.option("--request-id", default="", help="Names the erasure; give the same one to repeat it.")
@click.option(
    "--from",
    "listed",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Erases again all of a list that `erased` wrote, points included.",
)
@server_options
def erase(
    server: Server,
    customer: str | None,
    kind: str,
    reason: str | None,
    *,
    forfeit_points: bool,
    request_id: str,
    listed: Path | None,
) -> None:
    """Erases who CUSTOMER is, with all who were merged into that one; the journal stays, under the bare number."""
    if (customer is None) == (listed is None):
        raise click.UsageError("name a customer, or give a list with --from")
    if listed is not None:
        _erase_again(server, _numbers(listed))
        return
    if not reason:
        raise click.UsageError("say why: --reason")
    from points_grpc.v1 import customer_service_pb2  # noqa: PLC0415 - gRPC takes a while to import

    assert customer is not None
    with answered(server) as points:
        done = points.erase_customer(
            customer_service_pb2.EraseCustomerRequest(
                customer_identifier=_identifier(customer, kind),
                forfeit_points=forfeit_points,
                reason=reason,
                request_id=request_id,
            )
        )
    if done.already_erased:
        click.echo(f"customer {done.customer_id} was erased before, at {done.erased_at.ToDatetime():%Y-%m-%d %H:%M}")
        return
    merged = "".join(f", and {one}, merged into that one" for one in done.merged_customer_ids)
    click.echo(f"erased customer {done.customer_id}{merged}; {done.points_forfeited} points forfeited")


@customers.command()
@DATABASE
@ORG
@JSON
def erased(database: str, org_id: int, *, as_json: bool) -> None:
    """Lists who was erased, by number: keep the list apart from the database, for `erase --from` after a restore.

    `erase --from` takes it as it is printed without --json.
    """
    from points_grpc.storage.engine import Database  # noqa: PLC0415 - SQLAlchemy takes a while to import
    from points_grpc.storage.personal import erased_customers  # noqa: PLC0415

    require_org(accounts_of(database), org_id)
    with plain_errors():
        opened = Database(database)
        click.get_current_context().call_on_close(opened.close)
        found = erased_customers(opened, org_id)
        if as_json:
            print_json({"erased": [{"customer_id": customer_id, "erased_at": at} for customer_id, at in found]})
            return
        for customer_id, at in found:
            click.echo(f"{customer_id}\t{at:%Y-%m-%dT%H:%M:%SZ}")


@customers.command()
@DATABASE
def vacuum(database: str) -> None:
    """Rewrites the database without what was erased: copies in unused room of SQLite, replaced rows of PostgreSQL.

    Stop the server of a SQLite database first; PostgreSQL goes on meanwhile.
    """
    from points_grpc.storage.engine import Database  # noqa: PLC0415 - SQLAlchemy takes a while to import
    from points_grpc.storage.vacuuming import vacuum as run  # noqa: PLC0415

    with plain_errors():
        opened = Database(database)
        click.get_current_context().call_on_close(opened.close)
        run(opened)
    click.echo("vacuumed")


def _records(points: PointsClient, who: common_pb2.CustomerIdentifier) -> Iterator[customer_service_pb2.CustomerRecord]:
    """All records, page by page."""
    from points_grpc.v1 import customer_service_pb2  # noqa: PLC0415 - gRPC takes a while to import

    token = ""
    while True:
        page = points.export_customer_data(
            customer_service_pb2.ExportCustomerDataRequest(customer_identifier=who, page_size=PAGE, page_token=token)
        )
        yield from page.records
        token = page.next_page_token
        if not token:
            return


def _erase_again(server: Server, numbers: list[int]) -> None:
    """Erases a list in its order; who is not in the restored database has nothing there to erase."""
    from points_grpc.client import Refused  # noqa: PLC0415 - gRPC takes a while to import
    from points_grpc.v1 import customer_service_pb2  # noqa: PLC0415

    erased_now, before, unknown = 0, 0, 0
    with answered(server) as points:
        for number in numbers:
            request = customer_service_pb2.EraseCustomerRequest(
                customer_identifier=_identifier(str(number), "ID"), forfeit_points=True, reason=REASON_AGAIN
            )
            try:
                done = points.erase_customer(request)
            except Refused as error:
                if error.reason != "CUSTOMER_NOT_FOUND":
                    click.echo(f"customer {number} was not erased", err=True)
                    raise
                unknown += 1
                continue
            before += done.already_erased
            erased_now += not done.already_erased
    click.echo(f"{erased_now} erased, {before} were already, {unknown} are not there")


def _numbers(listed: Path) -> list[int]:
    """The customers of a list: the first word of each line."""
    try:
        return [int(line.split()[0]) for line in listed.read_text().splitlines() if line.strip()]
    except ValueError:
        raise click.UsageError(f"{listed} is no list of customers: each line starts with a number") from None


def _identifier(customer: str, kind: str) -> common_pb2.CustomerIdentifier:
    """Names a customer."""
    from points_grpc.v1 import common_pb2  # noqa: PLC0415 - gRPC takes a while to import

    named = common_pb2.CustomerIdentifier.Type.Value(kind.upper())
    return common_pb2.CustomerIdentifier(type=named, value=customer)
