"""`points-grpc call`: one RPC from the shell, in JSON, for machines without grpcurl.

It goes through the Python client, so that writes get a request id and are repeated by the server's advice. Answers go
to standard output, refusals to standard error, both as JSON that programs read. Exit codes: 0 answered, 1 refused or
not answered, 2 misused.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from points_grpc.cli.calling import Server, server_options

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from points_grpc.client import PointsError


@click.command()
@click.argument("rpc")
@click.argument("request_json", metavar="[JSON]", default="{}")
@server_options
@click.option("--timeout", "timeout_s", default=10.0, show_default=True, type=click.FloatRange(0.001), help="Seconds.")
def call(
    rpc: str,
    request_json: str,
    server: Server,
    timeout_s: float,
) -> None:
    """Calls an RPC by its name, e.g. GetWallet, with a request in JSON; `-` reads it from standard input."""
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415 - gRPC takes a while to import

    from points_grpc.client import PointsError  # noqa: PLC0415

    method, request_class = _method(rpc)
    request = _request(request_class, sys.stdin.read() if request_json == "-" else request_json)
    with server.client() as points:
        send: Callable[..., Message] = getattr(points, method)
        try:
            answer = send(request, timeout_s=timeout_s)
        except PointsError as error:
            click.echo(json.dumps(_told(error), indent=2), err=True)
            sys.exit(1)
    click.echo(MessageToJson(answer, preserving_proto_field_name=True))


def _method(rpc: str) -> tuple[str, type[Message]]:
    """The client's method for an RPC, named with or without its service, and the class of its request."""
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    found = {name: GetMessageClass(descriptor) for name, descriptor in _requests().items()}
    name = rpc.rpartition("/")[2]
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3) or sorted(found)
        raise click.UsageError(f"there is no RPC {name}; there are {', '.join(near)}")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), found[name]


def _requests() -> Mapping[str, Descriptor]:
    """The descriptor of the request of every RPC, by the name of the RPC."""
    from points_grpc.v1 import (  # noqa: PLC0415
        catalog_service_pb2,
        customer_service_pb2,
        issuance_service_pb2,
        points_service_pb2,
        program_service_pb2,
        wallet_service_pb2,
    )

    files = (
        points_service_pb2,
        issuance_service_pb2,
        wallet_service_pb2,
        customer_service_pb2,
        program_service_pb2,
        catalog_service_pb2,
    )
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    return {method.name: method.input_type for service in services for method in service.methods}


def _request(request_class: type[Message], text: str) -> Message:
    """A request from its JSON."""
    from google.protobuf.json_format import Parse, ParseError  # noqa: PLC0415

    try:
        return Parse(text, request_class())
    except ParseError as error:
        raise click.UsageError(f"{request_class.__name__}: {error}") from None


def _told(error: PointsError) -> dict[str, object]:
    """What a call ended with, as a person and a program want to know it; empty parts are left out."""
    from points_grpc.client import NotAnswered, Refused  # noqa: PLC0415

    told: dict[str, object] = {"grpc": error.grpc_code.name}
    if isinstance(error, NotAnswered):
        told["detail"] = error.detail
    if isinstance(error, Refused):
        told |= {
            "code": error.number,
            "reason": error.reason,
            "message": error.message,
            "metadata": dict(error.metadata),
            "violations": {one.field: one.description for one in error.violations},
            "warnings": [one.reason for one in error.warnings],
            "retry": error.code.retry.value if error.code else "",
            "replayed": error.replayed,
        }
    told |= {"outcome_open": error.outcome_open, "request_id": error.request_id}
    return {key: value for key, value in told.items() if value not in ("", {}, [], False)}
