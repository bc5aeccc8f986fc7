"""`points-grpc wallet show` and `points-grpc trace`: what a customer has, and where points came from and went.

They ask a running server, as any client may who has the role of a reader. `--json` prints the answers as the wire has
them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from points_grpc.cli.calling import Server, server_options
from points_grpc.cli.databases import ID_MAX
from points_grpc.cli.printing import JSON, print_json, print_table

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from points_grpc.client import PointsClient
    from points_grpc.v1 import common_pb2, wallet_service_pb2

LOTS_SHOWN = 100
TRANSACTIONS_SHOWN = 10

_PLAIN = {ord("└"): "`", ord("├"): "|", ord("│"): "|", ord("─"): "-", ord("…"): "..."}
"""What a tree is drawn with where the terminal has no lines."""

TYPES = click.Choice(["ID", "MOBILE", "EXTERNAL_ID", "EMAIL"], case_sensitive=False)


@click.group()
def wallet() -> None:
    """What customers have."""


@wallet.command()
@click.argument("customer")
@click.option("--type", "kind", type=TYPES, default="ID", help="How the customer is named.")
@click.option(
    "--program", "program_id", type=click.IntRange(1, ID_MAX), help="The program.  [default: the organisation's]"
)
@JSON
@server_options
def show(server: Server, customer: str, kind: str, program_id: int | None, *, as_json: bool) -> None:
    """The wallet of a customer: balances, the next lots in spending order, the latest transactions."""
    from points_grpc.v1 import common_pb2, program_service_pb2, wallet_service_pb2  # noqa: PLC0415 - gRPC takes a while

    who = common_pb2.CustomerIdentifier(
        type=common_pb2.CustomerIdentifier.Type.Value(kind.upper()),
        value=customer,
    )
    program = program_id or 0
    with answered(server) as points:
        found = points.get_wallet(wallet_service_pb2.GetWalletRequest(customer_identifier=who, program_id=program))
        program = found.wallet.program_id
        named = points.get_program(program_service_pb2.GetProgramRequest(program_id=program)).program
        lots = points.list_lots(
            wallet_service_pb2.ListLotsRequest(customer_identifier=who, program_id=program, page_size=LOTS_SHOWN)
        )
        transactions = points.list_transactions(
            wallet_service_pb2.ListTransactionsRequest(
                customer_identifier=who, program_id=program, page_size=TRANSACTIONS_SHOWN
            )
        )
    if as_json:
        _print_messages(
            {"wallet": [found], "lots": lots.lots, "transactions": transactions.transactions}, single={"wallet"}
        )
        return
    balance = found.wallet
    click.echo(
        f"customer {balance.customer_id} in {named.name} ({balance.program_id}), version {balance.wallet_version}"
    )
    places = named.decimal_places
    figures = (
        ("current", balance.current),
        ("redeemable", balance.redeemable),
        ("transferable", balance.transferable),
        ("promised", balance.promised),
        ("held", balance.held),
        ("earned in all", found.lifetime_earned),
        ("received in all", found.lifetime_received),
    )
    click.echo()
    width = max(len(_amount(points, places)) for _, points in figures)
    for name, points_of_name in figures:
        click.echo(f"  {name:<16}{_amount(points_of_name, places):>{width}}")
    _print_lots(lots, places)
    _print_transactions(transactions, balance.customer_id, places)


@click.command()
@click.argument("lot_id", metavar="LOT", type=click.IntRange(1, ID_MAX))
@click.option("--lots-max", type=click.IntRange(1, 1000), default=1000, help="Lots at most, the nearest ones.")
@JSON
@server_options
def trace(server: Server, lot_id: int, lots_max: int, *, as_json: bool) -> None:
    """Where the points of a lot came from, and where they went: a tree from the issue to the last holder."""
    from points_grpc.v1 import program_service_pb2, wallet_service_pb2  # noqa: PLC0415 - gRPC takes a while to import

    with answered(server) as points:
        found = points.trace_lot(wallet_service_pb2.TraceLotRequest(lot_id=lot_id, lots_max=lots_max))
        program_id = found.lot.lot.program_id
        named = points.get_program(program_service_pb2.GetProgramRequest(program_id=program_id)).program
    if as_json:
        _print_messages({"trace": [found]}, single={"trace"})
        return
    lines = "\n".join(tree(found, places=named.decimal_places))  # the same in all programs of a group
    click.echo(lines if _can_be_shown(lines) else lines.translate(_PLAIN))
    if found.omitted:
        click.echo(f"{found.omitted} more lots are left out, the farthest ones")


def tree(found: wallet_service_pb2.TraceLotResponse, *, places: int = 0) -> Iterator[str]:
    """The lines of a trace: its ancestors from the issue down, the lot itself, marked, and what was drawn from it."""
    nodes = [*reversed(found.ancestors), found.lot, *found.descendants]
    drawn: dict[int, list[wallet_service_pb2.TraceLotResponse.Node]] = {}
    for node in nodes[1:]:
        drawn.setdefault(node.lot.parent_lot_id, []).append(node)
    if nodes[0].lot.parent_lot_id:
        yield "… (farther ancestors are left out)"
    stack = [(nodes[0], "", "")]
    while stack:
        node, branch, beneath = stack.pop()
        yield f"{branch}{_node(node, places)}{'  <-- this lot' if node.lot.lot_id == found.lot.lot.lot_id else ''}"
        children = drawn.get(node.lot.lot_id, [])
        for place, child in reversed(list(enumerate(children))):
            is_last = place == len(children) - 1
            stack.append((child, beneath + ("└─ " if is_last else "├─ "), beneath + ("   " if is_last else "│  ")))


def _node(node: wallet_service_pb2.TraceLotResponse.Node, places: int) -> str:
    """A lot of a trace, in a line."""
    from points_grpc.v1 import common_pb2, wallet_service_pb2  # noqa: PLC0415 - gRPC takes a while to import

    lot = node.lot
    kind = wallet_service_pb2.JournalTransaction.Kind.Name(node.kind).lower().replace("_", " ")
    origin = f", {common_pb2.Lot.Source.Name(lot.source)}" if not lot.parent_lot_id else ""
    points = _amount(lot.points, places)
    return (
        f"lot {lot.lot_id}: {kind} of {points} to customer {lot.customer_id}, {_minute(node.opened_at)}{origin}; "
        f"{_amount(lot.remaining, places)} left"
    )


def _print_lots(page: wallet_service_pb2.ListLotsResponse, places: int) -> None:
    """The lots in spending order."""
    from points_grpc.v1 import common_pb2  # noqa: PLC0415 - gRPC takes a while to import

    click.echo()
    if not page.lots:
        click.echo("no lots")
        return
    reserved = [_reserved(lot, places) for lot in page.lots]
    names = ("lot", "left", "of", "source", "category", "awarded", "expires")
    print_table(
        (*names, "not yet to spend") if any(reserved) else names,
        [
            (
                lot.lot_id,
                _amount(lot.remaining, places),
                _amount(lot.points, places),
                common_pb2.Lot.Source.Name(lot.source),
                lot.category,
                _minute(lot.awarded_at),
                _minute(lot.expires_at) if lot.HasField("expires_at") else "never",
                *([why] if any(reserved) else []),
            )
            for lot, why in zip(page.lots, reserved, strict=True)
        ],
    )
    if page.next_page_token:
        click.echo(f"more lots follow: the first {LOTS_SHOWN} are shown")


def _reserved(lot: common_pb2.Lot, places: int) -> str:
    """What of a lot cannot be spent now, and why; empty if all of it can."""
    if lot.HasField("available_from"):
        return f"promised until {_minute(lot.available_from)}"
    return f"{_amount(lot.held, places)} held" if lot.held else ""


def _print_transactions(page: wallet_service_pb2.ListTransactionsResponse, customer_id: int, places: int) -> None:
    """The latest transactions, newest first, with what they changed for the customer."""
    from points_grpc.v1 import wallet_service_pb2  # noqa: PLC0415 - gRPC takes a while to import

    click.echo()
    if not page.transactions:
        click.echo("no transactions")
        return
    rows = []
    for one in page.transactions:
        ours = [posting for posting in one.postings if posting.customer_id == customer_id]
        change = sum(posting.points for posting in ours)
        balance = _amount(ours[-1].balance_after, places) if ours else "-"
        kind = wallet_service_pb2.JournalTransaction.Kind.Name(one.kind)
        rows.append((one.transaction_id, _minute(one.created_at), kind, _amount(change, places), balance, one.actor))
    print_table(("transaction", "time", "kind", "change", "balance", "client"), rows)


@contextmanager
def answered(server: Server) -> Iterator[PointsClient]:
    """A client; what is refused or not answered is a sentence, and exit code 1."""
    from points_grpc.client import NotAnswered, PointsError  # noqa: PLC0415 - gRPC takes a while to import

    with server.client() as points:
        try:
            yield points
        except NotAnswered as error:
            raise click.ClickException(f"no answer: {error.grpc_code.name} {error.detail}") from None
        except PointsError as error:
            raise click.ClickException(str(error)) from None


def _print_messages(groups: Mapping[str, Sequence[Message]], *, single: set[str]) -> None:
    """Messages in one JSON document, as the standard mapping has them."""
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - gRPC takes a while to import

    document: dict[str, object] = {}
    for name, messages in groups.items():
        told = [
            MessageToDict(one, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            for one in messages
        ]
        document[name] = told[0] if name in single else told
    print_json(document)


def _amount(points: int, places: int) -> str:
    """Points as a person reads them: with the program's decimal places."""
    if not places:
        return str(points)
    whole, part = divmod(abs(points), 10**places)
    return f"{'-' if points < 0 else ''}{whole}.{part:0{places}}"


def _can_be_shown(text: str) -> bool:
    """Whether standard output has the characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _minute(stamp: Timestamp) -> str:
    """An instant in UTC, to the minute."""
    moment: datetime = stamp.ToDatetime()
    return f"{moment:%Y-%m-%d %H:%M}"
