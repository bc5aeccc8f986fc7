"""The servicers by themselves, under grpcio-testing: no port, no interceptor.

Its server runs plain functions only, so that an adapter of a few lines runs each coroutine; and it knows no
interceptor, so that the adapter leaves the call where the interceptor would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from test_parse import POLICY_READ
from test_refusal import details
from test_render import LATER, ROWS, TRANSFER
from wire_fakes import NOW, FakeLists, FakeReads, FakeSubmitter
from wire_requests import request

from points_grpc import codes
from points_grpc.codes import GrpcCode
from points_grpc.domain import outcome as o
from points_grpc.domain.commands import MAY_ISSUE_CODES, operation_of
from points_grpc.domain.otp import SEED_BYTES
from points_grpc.domain.outcome import Accepted, Refused, Warning
from points_grpc.rpc.answers import Answers
from points_grpc.rpc.call import CURRENT, Call, Caller, Role
from points_grpc.rpc.customer_service import CustomerServicer
from points_grpc.rpc.issuance_service import IssuanceServicer
from points_grpc.rpc.listings import Listings
from points_grpc.rpc.pages import Pages
from points_grpc.rpc.points_service import PointsServicer
from points_grpc.rpc.program_service import ProgramServicer
from points_grpc.rpc.serve import Desk
from points_grpc.rpc.server import SERVICES
from points_grpc.v1 import points_service_pb2

DESCRIPTORS = {service.name: service for service in SERVICES}
CALLER = Caller(org_id=1, client="till", key_id="k1", role=Role.ADMIN, default_region="IN")
DEADLINE = 99.0


class Adapter:
    """Runs the coroutines of a servicer, each as the interceptor would: with its call."""

    def __init__(self, servicer: object, calls: list[Call]) -> None:
        self._servicer = servicer
        self._calls = calls

    def __getattr__(self, name: str) -> Callable[[Message, grpc.ServicerContext], Message]:
        async def run(message: Message, context: grpc.ServicerContext) -> Any:
            call = Call(f"points.v1/{name}", name, caller=CALLER, deadline=DEADLINE, correlation_id="c-1")
            self._calls.append(call)
            CURRENT.set(call)
            return await getattr(self._servicer, name)(message, context)

        return lambda message, context: asyncio.run(run(message, context))


class Wire:
    """All servicers of commands, with a fake neighbour."""

    def __init__(self) -> None:
        self.submitter = FakeSubmitter()
        self.calls: list[Call] = []
        desk = Desk(self.submitter, self.submitter, lambda: NOW)
        pages = Pages(lambda: (b"k" * 16,))
        answers = Answers(FakeReads(), pages, lambda: NOW)
        listings = Listings(FakeReads(), FakeLists(), pages, lambda: NOW)
        servicers = {
            "PointsService": PointsServicer(desk),
            "IssuanceService": IssuanceServicer(desk),
            "CustomerService": CustomerServicer(desk, answers, listings),
            "ProgramService": ProgramServicer(desk, answers),
        }
        self._server = grpc_testing.server_from_dictionary(
            {DESCRIPTORS[name]: Adapter(servicer, self.calls) for name, servicer in servicers.items()},
            grpc_testing.strict_real_time(),
        )

    def __call__(self, message: Message) -> tuple[Any, dict[str, Any], grpc.StatusCode, str]:
        """Answer, trailers, code and details of the RPC that takes this request."""
        [method] = [
            method
            for service in SERVICES
            for method in service.methods
            if method.input_type.full_name == message.DESCRIPTOR.full_name
        ]
        answer, trailers, code, text = self._server.invoke_unary_unary(method, (), message, None).termination()
        return answer, dict(trailers or ()), code, text


OPERATIONS: dict[str, o.Result] = {row[0].__name__: row[1] for row in ROWS}
OPERATIONS["set_policy"] = o.PolicyResult(POLICY_READ, LATER)


@pytest.mark.parametrize("name", OPERATIONS)
def test_commands(name: str) -> None:
    """Every RPC that carries a command hands it over once, with who sent it and what it said, and answers."""
    wire = Wire()
    wire.submitter.outcome = Accepted(OPERATIONS[name])
    message: Any = request(name)

    answer, trailers, code, _ = wire(message)

    [(submission, deadline)] = wire.submitter.submitted
    assert code is grpc.StatusCode.OK
    assert answer.request_id == message.request_id
    assert "grpc-status-details-bin" not in trailers
    assert operation_of(submission.command).lower() == name.replace("_", "")
    assert (submission.org_id, submission.actor, deadline) == (1, "till", DEADLINE)
    assert (submission.request_id, submission.request_id_given) == (message.request_id, True)
    assert "request_id" not in submission.fingerprint
    assert len(submission.otp_seed) == (SEED_BYTES if isinstance(submission.command, MAY_ISSUE_CODES) else 0)
    assert wire.calls[0].submitted


@pytest.mark.parametrize("name", ["check_transfer", "check_redemption"])
def test_checks(name: str) -> None:
    """A check that issues no code goes to the checker; its answer has no request id."""
    wire = Wire()
    wire.submitter.outcome = Accepted(OPERATIONS[name])
    message: Any = request(name)
    message.issue_otp = False

    answer, _, code, _ = wire(message)

    assert code is grpc.StatusCode.OK
    assert answer.request_id == ""
    assert len(wire.submitter.checked) == 1
    assert wire.submitter.submitted == []
    assert not wire.calls[0].submitted


def test_malformed() -> None:
    """A malformed request is refused and handed to nobody; the answer is empty."""
    wire = Wire()

    answer, trailers, code, text = wire(points_service_pb2.TransferPointsRequest(request_id="r-1"))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "Invalid identifier type"
    assert answer == points_service_pb2.TransferPointsResponse()
    assert wire.submitter.submitted == []
    found = details(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))
    assert found["google.rpc.RequestInfo"].request_id == "r-1"
    assert wire.calls[0].grpc is GrpcCode.INVALID_ARGUMENT


def test_refusal() -> None:
    """A refusal is a status with details, and names the request id that the server made."""
    wire = Wire()
    wire.submitter.outcome = Refused(codes.TRANSFER_NOT_PROCESSED, {"outcome": "UNKNOWN"})
    message: Any = request("transfer_points")
    message.ClearField("request_id")

    _, trailers, code, _ = wire(message)

    made = wire.submitter.submitted[0][0].request_id
    found = details(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))
    assert code is grpc.StatusCode.ABORTED
    assert found["google.rpc.RequestInfo"].request_id == made
    assert trailers["grpc-retry-pushback-ms"] == "-1"
    assert trailers["x-correlation-id"] == "c-1"


def test_replayed_refusal() -> None:
    """A refusal that was recorded says that it is given again."""
    wire = Wire()
    wire.submitter.outcome, wire.submitter.replayed = Refused(codes.SOURCE_CUSTOMER_FRAUD), True

    _, trailers, _, _ = wire(request("transfer_points"))

    found = details(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))
    assert found["google.rpc.ErrorInfo"].metadata["replayed"] == "true"


def test_warnings() -> None:
    """The warnings of an acceptance stand in the answer and in the trailing status details."""
    wire = Wire()
    wire.submitter.outcome = Accepted(TRANSFER, (Warning(codes.POINTS_NOT_ALLOCATED, {"points": "4"}),))

    answer, trailers, code, _ = wire(request("transfer_points"))

    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert code is grpc.StatusCode.OK
    assert (status.code, status.message) == (0, "")
    assert list(details(status)["points.v1.StatusPayload"].warnings) == list(answer.warnings)
