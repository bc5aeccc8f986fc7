"""`points-grpc call`: one RPC from the shell, in JSON, for machines without grpcurl.

It goes through the Python client, so that writes get a request id and are repeated by the server's advice; a watch is
one attempt. Answers go to standard output, refusals to standard error, both as JSON that programs read. Exit codes: 0
answered, or watched for as long as it was told to; 1 refused or not answered; 2 misused.
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
from points_grpc.cli.typed import SECONDS

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, MethodDescriptor
    from google.protobuf.message import Message

    from points_grpc.client import PointsError


@click.command()
@click.argument("rpc")
@click.argument("request_json", metavar="[JSON]", default="{}")
@server_options
@click.option("--timeout", "timeout_s", default=10.0, show_default=True, type=SECONDS, help="Seconds.")
def call(
    rpc: str,
    request_json: str,
    server: Server,
    timeout_s: float,
) -> None:
    """Calls an RPC by its name, e.g. GetWallet, with a request in JSON; `-` reads it from standard input."""
    from points_grpc.client import PointsError  # noqa: PLC0415 - gRPC takes a while to import

    method = _method(rpc)
    request = _request(method.input_type, sys.stdin.read() if request_json == "-" else request_json)
    try:
        if method.server_streaming:
            _watch(server, method, request, timeout_s)
            return
        with server.client() as points:
            send: Callable[..., Message] = getattr(points, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
            _print(send(request, timeout_s=timeout_s))
    except PointsError as error:
        click.echo(json.dumps(_told(error), indent=2), err=True)
        sys.exit(1)


def _watch(server: Server, method: MethodDescriptor, request: Message, timeout_s: float) -> None:
    """Prints what a watch tells, until the time is up; raises as the client does if it ends in another way."""
    import grpc  # noqa: PLC0415
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    from points_grpc.client import Retries  # noqa: PLC0415
    from points_grpc.client.calls import Attempts, Credential, Method  # noqa: PLC0415

    answer_class = GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    attempts = Attempts(
        Method(path, answer_class, writes=False),
        request,
        credential=Credential(server.token, server.signing_secret),
        retries=Retries(attempts_max=1),
        timeout_s=timeout_s,
    )
    heard = False
    with server.channel() as channel:
        stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
        try:
            for raw in stream(attempts.raw, timeout=attempts.remaining_s(), metadata=attempts.metadata()):
                heard = True
                _print(answer_class.FromString(raw))
        except grpc.RpcError as error:
            if not (heard and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED):
                attempts.pause_s(error)  # which raises: there is no other attempt


def _print(answer: Message) -> None:
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415

    click.echo(MessageToJson(answer, preserving_proto_field_name=True))


def _method(rpc: str) -> MethodDescriptor:
    """The RPC that is named with or without its service."""
    found = _methods()
    service, _, name = rpc.rpartition("/")
    if name in found and service:
        own = found[name].containing_service.full_name
        if service.lstrip("/") not in {own, own.rpartition(".")[2]}:
            raise click.UsageError(f"{service} has no RPC {name}; it is {own}/{name}")
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3) or sorted(found)
        raise click.UsageError(f"there is no RPC {name}; there are {', '.join(near)}")
    return found[name]


def _methods() -> Mapping[str, MethodDescriptor]:
    """Every RPC by its name."""
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
    return {method.name: method for service in services for method in service.methods}


def _request(kind: Descriptor, text: str) -> Message:
    """A request from its JSON."""
    from google.protobuf.json_format import Parse, ParseError  # noqa: PLC0415
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    try:
        if not isinstance(json.loads(text), dict):
            raise click.UsageError(f"{kind.name}: a JSON object is wanted, with its fields: {{…}}")
    except ValueError as error:
        raise click.UsageError(f"{kind.name}: Failed to load JSON: {error}") from None
    try:
        return Parse(text, GetMessageClass(kind)())
    except ParseError as error:
        raise click.UsageError(f"{kind.name}: {error}") from None


def _told(error: PointsError) -> dict[str, object]:
    """What a call ended with, as a person and a program want to know it; empty parts are left out."""
    from points_grpc.client import NotAnswered, NotSent, Refused  # noqa: PLC0415

    told: dict[str, object] = {"grpc": error.grpc_code.name}
    if isinstance(error, NotAnswered | NotSent):
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
    told |= {
        "outcome_open": error.outcome_open,
        "request_id": error.request_id,
        "request_ids": list(error.request_ids),
    }
    return {key: value for key, value in told.items() if value not in ("", {}, [], False)}
