"""What every call passes, over a real port: the order of refusals, deadlines, failures, the log and the metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from test_render import TRANSFER
from wire_requests import redeem_points, request, set_pause, transfer_points
from wire_server import OPERATOR, Seen, World, on_server, path_of

from points_grpc.domain.model import ProgramBook
from points_grpc.domain.outcome import Accepted
from points_grpc.rpc.call import Role
from points_grpc.rpc.interceptor import required_roles
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.server import SERVICES
from points_grpc.service.ports import (
    OutcomeUnknown,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
)
from points_grpc.v1 import catalog_service_pb2, program_service_pb2

BOOK = ProgramBook(
    org_id=1, version=1, default_region="IN", default_program_id=None, paused=False, programs={}, groups={}
)
NOBODY = ()
READER = (("authorization", "Bearer reader"),)
LARGE = tuple((f"x-{number}", "v" * 490) for number in range(8))
NOT_A_MESSAGE = b"\xff\xff\xff"


# -- the order

FULL = 0
"""No call at once is allowed."""

FREE = 100

ORDER = (
    # calls at once, draining, metadata, bytes of the request -> reason for a transfer, and for another RPC
    (FULL, True, LARGE, NOT_A_MESSAGE, "UNAUTHENTICATED", "UNAUTHENTICATED"),
    (FULL, True, (*READER, *LARGE), NOT_A_MESSAGE, "PERMISSION_DENIED", "PERMISSION_DENIED"),
    (FULL, True, (*OPERATOR, *LARGE), NOT_A_MESSAGE, "RATE_LIMITED", "RATE_LIMITED"),
    (FREE, True, (*OPERATOR, *LARGE), NOT_A_MESSAGE, "TRANSFER_VALIDATION_FAILED", "FIELD_INVALID"),
    (FREE, True, OPERATOR, NOT_A_MESSAGE, "TRANSFER_UNAVAILABLE", "SHUTTING_DOWN"),
    (FREE, False, OPERATOR, NOT_A_MESSAGE, "TRANSFER_VALIDATION_FAILED", "FIELD_INVALID"),
    (FREE, False, OPERATOR, b"", "TRANSFER_IDENTIFIER_TYPE_INVALID", "INVALID_POINTS"),
)


@pytest.mark.parametrize("row", ORDER, ids=lambda row: row[4])
def test_order(row: tuple[int, bool, Any, bytes, str, str]) -> None:
    """Identity, role, quotas, size of the metadata, draining, the request: each is looked at before what follows."""
    at_once, draining, metadata, raw, *reasons = row

    async def run(world: World) -> list[Seen]:
        world.server._gate.draining = draining
        world.server._gate._limits = Limits(metadata_bytes_max=4_000)  # less than the core lets through
        return [
            await world.call_raw(path_of(transfer_points()), raw, metadata),
            await world.call_raw(path_of(redeem_points()), raw, metadata),
        ]

    seen = on_server(run, Limits(org_calls_in_flight_max=at_once))

    assert [one.reason for one in seen] == reasons


def test_refused_calls_reach_nobody() -> None:
    """What is refused at the gate reaches no neighbour."""

    async def run(world: World) -> World:
        await world.call(transfer_points(), NOBODY)
        await world.call(transfer_points(), READER)
        world.server._gate.draining = True
        await world.call(transfer_points())
        return world

    world = on_server(run)

    assert world.submitter.submitted == []
    assert world.identity.asked == 3


def test_roles() -> None:
    """Each RPC takes the role that its proto names, and all above it."""
    roles = required_roles(SERVICES)

    async def run(world: World) -> dict[tuple[str, Role], bool]:
        world.submitter.error = StorageUnavailable()
        world.reads.error = world.journal.error = StorageUnavailable()
        found = {}
        for method in roles:
            for role in Role:
                metadata = (("authorization", f"Bearer {role.name}"),)
                seen = await world.call_raw(method, b"", metadata)
                found[method, role] = seen.code is not grpc.StatusCode.PERMISSION_DENIED
        return found

    found = on_server(run)

    assert found == {(method, role): role >= required for method, required in roles.items() for role in Role}
    assert roles["/points.v1.PointsService/TransferPoints"] is Role.OPERATOR
    assert roles["/points.v1.ProgramService/SetPause"] is Role.MANAGER
    assert len(roles) == sum(len(service.methods) for service in SERVICES)


def test_denied_says_which_role() -> None:
    """A caller who lacks the role is told which one it takes."""

    async def run(world: World) -> Seen:
        return await world.call(set_pause())

    assert on_server(run).metadata == {"required_role": "MANAGER"}


def test_method_without_role() -> None:
    """A method that declares no role keeps the server from starting."""
    file = descriptor_pb2.FileDescriptorProto(name="bad.proto", package="bad", syntax="proto3")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Bad")
    service.method.add(name="Open", input_type=".bad.Empty", output_type=".bad.Empty")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())

    with pytest.raises(ValueError, match=r"/bad\.Bad/Open does not declare"):
        required_roles([pool.FindServiceByName("bad.Bad")])


def test_unknown_method() -> None:
    """A method that nobody has is gRPC's to refuse, and is not remembered."""

    async def run(world: World) -> tuple[Seen, int]:
        seen = await world.call_raw("/points.v1.PointsService/Nothing", b"")
        return seen, len(world.server._gate._handlers)

    seen, remembered = on_server(run)

    assert seen.code is grpc.StatusCode.UNIMPLEMENTED
    assert remembered == 0


# -- deadlines


def test_deadline_is_passed_on() -> None:
    """A command is given up a little before its call's deadline, so that the answer still arrives."""

    async def run(world: World) -> list[float]:
        world.submitter.outcome = Accepted(TRANSFER)
        left = []
        for timeout in (5, None, 500):
            await world.call(transfer_points(), timeout=timeout)
            left.append(world.submitter.submitted[-1][1] - time.monotonic())
        return left

    own, default, longest = on_server(run)

    assert 3 < own < 5 < default < 10 < longest < 30


@pytest.mark.parametrize(
    ("message", "given", "outcome", "pushback"),
    [
        (transfer_points(), True, "UNKNOWN", None),
        (transfer_points(), False, "UNKNOWN", "-1"),
        (redeem_points(), False, "UNKNOWN", "-1"),
        (program_service_pb2.GetProgramRequest(), False, "NOT_WRITTEN", None),
    ],
    ids=["transfer", "transfer without id", "redemption", "read"],
)
def test_deadline_of_the_server(message: Any, *, given: bool, outcome: str, pushback: str | None) -> None:
    """A call without a deadline ends with the server's own; what was handed over is open."""
    if not given and hasattr(message, "request_id"):
        message = type(message).FromString(message.SerializeToString())
        message.ClearField("request_id")

    async def run(world: World) -> tuple[Seen, World, float]:
        world.submitter.wait_s = 60

        async def slow(org_id: int) -> ProgramBook:
            await asyncio.sleep(60)
            return BOOK

        world.reads.program_book = slow  # type: ignore[method-assign]
        started = time.monotonic()
        seen = await world.call(message, timeout=None)
        return seen, world, time.monotonic() - started

    seen, world, seconds = on_server(run, Limits(deadline_default_s=1))

    assert seen.reason == "DEADLINE_EXCEEDED"
    assert seen.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert seen.metadata["outcome"] == outcome
    assert seen.trailers.get("grpc-retry-pushback-ms") == pushback
    assert 0.9 < seconds < 30
    assert world.metrics.seen[-1][1:] == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


def test_caller_goes_away() -> None:
    """A call whose caller went away is cancelled, and the log says so."""

    async def run(world: World) -> World:
        world.submitter.wait_s = 60
        method = world.channel.unary_unary(path_of(transfer_points()))
        call = method(transfer_points().SerializeToString(), metadata=OPERATOR)
        while not world.submitter.submitted:
            await asyncio.sleep(0.01)
        call.cancel()
        while not world.log.calls:
            await asyncio.sleep(0.01)
        return world

    world = on_server(run)

    assert [line["code"] for line in world.log.calls] == ["CANCELLED"]
    assert world.submitter.cancelled == 1


def test_many_calls_at_once() -> None:
    """Deadlines of calls that run at once do not touch each other."""

    async def run(world: World) -> list[Seen]:
        world.submitter.outcome = Accepted(TRANSFER)
        world.submitter.wait_s = 0.2
        return await asyncio.gather(*(world.call(transfer_points(), timeout=None) for _ in range(50)))

    seen = on_server(run, Limits(deadline_default_s=5))  # less than their waits one after the other

    assert {one.code for one in seen} == {grpc.StatusCode.OK}


# -- failures

FAILURES: tuple[tuple[Callable[[], Exception], str, str], ...] = (
    (lambda: ValueError("customer +919148574269"), "TRANSFER_NOT_PROCESSED", "OUTCOME_UNKNOWN"),
    (lambda: TimeoutError("some pool"), "TRANSFER_NOT_PROCESSED", "OUTCOME_UNKNOWN"),
    (StorageUnavailable, "TRANSFER_STORAGE_UNAVAILABLE", "STORAGE_UNAVAILABLE"),
    (StorageFull, "STORAGE_FULL", "STORAGE_FULL"),
    (StorageConflict, "TRANSFER_NOT_PROCESSED", "CONFLICT"),
    (OutcomeUnknown, "TRANSFER_NOT_PROCESSED", "OUTCOME_UNKNOWN"),
)


@pytest.mark.parametrize(("make", "transfer", "other"), FAILURES)
def test_failures(make: Callable[[], Exception], transfer: str, other: str) -> None:
    """An exception becomes a refusal of the operation's table; nothing of it is on the wire."""

    async def run(world: World) -> tuple[list[Seen], World]:
        world.submitter.error = make()
        return [await world.call(transfer_points()), await world.call(redeem_points())], world

    seen, world = on_server(run)

    assert [one.reason for one in seen] == [transfer, other]
    assert "+91" not in str([one.trailers for one in seen]) + str([one.text for one in seen])
    bugs = [fields for event, fields in world.log.errors if event == "call_failed"]
    assert len(bugs) == (2 if isinstance(make(), ValueError | TimeoutError) else 0)
    for fields in bugs:
        assert "+91" not in json.dumps(fields)
        assert fields["error"] in ("ValueError", "TimeoutError")
        assert "wire_fakes.py" in str(fields["frames"])


def test_bug_after_the_commit() -> None:
    """A bug in the answer of a command that was carried out never says that it was rolled back: the outcome is open."""

    async def run(world: World) -> Seen:
        message = transfer_points()
        message.ClearField("request_id")
        return await world.call(message)  # the fake answers with the result of another operation

    seen = on_server(run)

    assert seen.reason == "TRANSFER_NOT_PROCESSED"
    assert seen.trailers["grpc-retry-pushback-ms"] == "-1"


# -- what is left behind


def test_log_and_metrics() -> None:
    """Each call is counted and leaves one line, without anything of its content."""

    async def run(world: World) -> World:
        world.submitter.outcome = Accepted(TRANSFER)
        await world.call(transfer_points(), (*OPERATOR, ("x-correlation-id", "corr-7")))
        await world.call_raw(path_of(redeem_points()), b"")
        await world.call(transfer_points(), NOBODY)
        return world

    world = on_server(run)

    transfer, redemption, stranger = world.log.calls
    assert transfer.pop("ms") >= 0
    assert transfer == {
        "method": "points.v1.PointsService/TransferPoints",
        "code": "OK",
        "reason": "",
        "org": 1,
        "client": "till",
        "request_id": "transfer-1",
        "correlation_id": "corr-7",
        "trace_id": "",
    }
    assert (redemption["code"], redemption["reason"]) == ("INVALID_ARGUMENT", "INVALID_POINTS")
    assert len(redemption["correlation_id"]) == 16
    assert (stranger["org"], stranger["client"], stranger["reason"]) == (0, "", "UNAUTHENTICATED")
    assert world.metrics.seen == [
        ("points.v1.PointsService/TransferPoints", "OK", ""),
        ("points.v1.PointsService/RedeemPoints", "INVALID_ARGUMENT", "INVALID_POINTS"),
        ("points.v1.PointsService/TransferPoints", "UNAUTHENTICATED", "UNAUTHENTICATED"),
    ]


@pytest.mark.parametrize("sent", ["x" * 129, "two words", ""])
def test_odd_correlation_ids(sent: str) -> None:
    """A correlation id that is none is replaced, and the refusal names the one in the log."""

    async def run(world: World) -> tuple[Seen, World]:
        return await world.call_raw(path_of(redeem_points()), b"", (*OPERATOR, ("x-correlation-id", sent))), world

    seen, world = on_server(run)

    assert len(world.log.calls[0]["correlation_id"]) == 16
    assert seen.trailers["x-correlation-id"] == world.log.calls[0]["correlation_id"]


def test_request_id_made_here_is_logged() -> None:
    """The request id that the server made is in the answer, in the log and with the command."""

    async def run(world: World) -> tuple[Seen, World]:
        world.submitter.outcome = Accepted(TRANSFER)
        message: Any = request("transfer_points")
        message.ClearField("request_id")
        return await world.call(message), world

    seen, world = on_server(run)

    made = world.submitter.submitted[0][0].request_id
    assert world.log.calls[0]["request_id"] == made
    assert made.encode() in seen.answer


def test_request_id_of_the_caller_is_mandatory() -> None:
    """Where the caller's settings demand a request id, a write without one is refused."""

    async def run(world: World) -> Seen:
        world.identity.request_id_required = True
        message: Any = request("redeem_points")
        message.ClearField("request_id")
        return await world.call(message)

    assert on_server(run).reason == "REQUEST_ID_REQUIRED"


def test_every_question_reaches_its_answer() -> None:
    """Every RPC that only reads is served."""
    questions: tuple[Message, ...] = (
        catalog_service_pb2.ListCodesRequest(),
        catalog_service_pb2.GetServerInfoRequest(),
        program_service_pb2.ListProgramsRequest(),
        program_service_pb2.ListConfigKeysRequest(),
    )

    async def run(world: World) -> list[Seen]:
        world.reads.book = BOOK
        return [await world.call(one, (("authorization", "Bearer manager"),)) for one in questions]

    assert {one.code for one in on_server(run)} == {grpc.StatusCode.OK}
