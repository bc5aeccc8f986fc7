"""A client that is set to sign, from its creation on the command line to a transfer over a loopback port."""

from __future__ import annotations

import time
from typing import Any

import grpc
from click.testing import CliRunner
from google.protobuf.json_format import ParseDict

from points_grpc.cli.main import main
from points_grpc.rpc.signature import signature_of
from points_grpc.v1 import points_service_pb2
from running import Caller, Details, RunningServer

METHOD = "points.v1.PointsService/TransferPoints"


def created(server: RunningServer, *flags: str) -> list[str]:
    """What `keys create` prints for a key of the demonstration organisation."""
    arguments = ["keys", "create", "--database", server.database, "--org", "1", "--client", "signer", *flags]
    arguments += ["--keys-file", str(server.keys)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert 0 == done.exit_code
    return done.output.split()


def wait_until_known(caller: Caller) -> None:
    """Waits until the server has read the key."""
    until = time.monotonic() + 10
    while True:
        try:
            caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), {})
        except grpc.RpcError as error:
            if Details(error).info.reason != "UNAUTHENTICATED":
                return
        assert time.monotonic() < until
        time.sleep(0.1)


def test_signed_transfer(server: RunningServer) -> None:
    """A key created with --signed moves points only with a signature by the secret that was printed once."""
    token, secret = created(server, "--signed")
    caller = Caller(server.address, token)
    wait_until_known(caller)
    fields: dict[str, Any] = {
        "pointsToBeTransferred": 1,
        "fromCustomerIdentifier": {"type": "ID", "value": "565039505"},
        "toCustomerIdentifier": {"type": "ID", "value": "565039506"},
        "requestId": "signed-1",
    }
    raw = ParseDict(fields, points_service_pb2.TransferPointsRequest()).SerializeToString()
    now = str(int(time.time()))
    send = caller.channel.unary_unary(
        f"/{METHOD}", response_deserializer=points_service_pb2.TransferPointsResponse.FromString
    )
    signature = (
        ("x-points-key-id", token.split("_")[1]),
        ("x-points-timestamp", now),
        ("x-points-signature", signature_of(secret.encode(), METHOD, now, raw)),
    )
    codes = []
    for metadata in (caller.metadata, (*caller.metadata, *signature), (*caller.metadata, *signature)):
        try:
            codes.append(send(raw, metadata=metadata, timeout=10).replayed)
        except grpc.RpcError as error:
            codes.append(Details(error).number)
    caller.close()

    assert [825, False, True] == codes
    written = server.on.content()
    assert secret.encode() not in written
    assert bytes.fromhex(secret) not in written


def test_request_id_demanded(server: RunningServer) -> None:
    """A key created with --require-request-id writes nothing without one."""
    [token] = created(server, "--require-request-id")
    caller = Caller(server.address, token)
    wait_until_known(caller)
    try:
        caller.ask(caller.points.RedeemPoints, points_service_pb2.RedeemPointsRequest(), {})
        raise AssertionError
    except grpc.RpcError as error:
        found = Details(error)
    caller.close()

    assert 10005 in [one.code for one in found.payload.errors]
