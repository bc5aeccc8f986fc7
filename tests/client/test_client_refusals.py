"""Refusals as exceptions: one class for each code, typed numbers, and what a newer server may say."""

from __future__ import annotations

import inspect
import pickle
from datetime import UTC, datetime

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2

from points_grpc import codes
from points_grpc.client import (
    NotAnswered,
    PointsRefused,
    Refused,
    ServiceRefused,
    TransferRefused,
    refusals,
    refused_by,
)
from points_grpc.client.decode import exception_of, refusal_in
from points_grpc.client.errors import Refusal, Silence
from points_grpc.codes import CATALOGUE, GrpcCode, Table
from points_grpc.domain import outcome as o
from points_grpc.rpc.refusal import DETAILS_KEY, status_of

BASES = {Table.POINTS: PointsRefused, Table.TRANSFER: TransferRefused, Table.SERVICE: ServiceRefused}


def test_every_code_has_its_class() -> None:
    """Each code that can refuse a call has one class, under the base of its table, with a property for each key."""
    for code in CATALOGUE:
        if code.table not in BASES:
            assert code.reason not in refusals.BY_REASON
            continue
        kind = refusals.BY_REASON[code.reason]

        assert code is kind.CODE
        assert kind.__bases__ == (BASES[code.table],)
        assert set(code.metadata_keys) == {name for name, _ in inspect.getmembers(kind, _is_property)}
    assert len({kind.__name__ for kind in refusals.BY_REASON.values()}) == len(refusals.BY_REASON)


def _is_property(member: object) -> bool:
    return isinstance(member, property)


@pytest.mark.parametrize("code", [code for code in CATALOGUE if code.table in BASES], ids=lambda code: code.reason)
def test_from_the_wire_and_back(code: codes.Code) -> None:
    """What the server says of any code arrives as its class, with number, reason, message, metadata; and pickles."""
    metadata = dict.fromkeys(code.metadata_keys, "7")
    status = status_of(o.Refused(code, metadata, field="points"), request_id="id-1", replayed=True)
    refused = refused_by(status)

    assert refused is not None
    for one in (refused, pickle.loads(pickle.dumps(refused))):
        assert type(one) is refusals.BY_REASON[code.reason]
        assert (code, code.number, code.reason, code.grpc) == (one.code, one.number, one.reason, one.grpc_code)
        assert (code.text(metadata), metadata) == (one.message, one.metadata)
        assert ("id-1", True, "points") == (one.request_id, one.replayed, one.errors[0].field)
        assert f"{code.number} {code.reason}" in str(one)


def test_numbers_and_times_are_typed() -> None:
    """Numbers are int, times aware datetimes in UTC, what is absent or unreadable None."""
    metadata = {"limit": "500", "used": "450", "resets_at": "2026-03-16T00:00:00+05:30", "window": "TODAY"}
    refused = refused_by(status_of(o.Refused(codes.TRANSFER_LIMIT_EXCEEDED, metadata)))

    assert isinstance(refused, refusals.TransferLimitExceeded)
    assert (500, 450, "TODAY", None) == (refused.limit, refused.used, refused.window, refused.direction)
    assert datetime(2026, 3, 15, 18, 30, tzinfo=UTC) == refused.resets_at

    odd = refused_by(status_of(o.Refused(codes.TRANSFER_LIMIT_EXCEEDED, {"limit": "many", "resets_at": "soon"})))
    assert isinstance(odd, refusals.TransferLimitExceeded)
    assert (None, None) == (odd.limit, odd.resets_at)


def test_all_malformed_fields_and_the_warnings() -> None:
    """A refusal for its shape names every field, and carries the warnings that came with it."""
    errors = tuple(o.FieldError(codes.TRANSFER_VALIDATION_FAILED, name, "shorter") for name in ("notes", "request_id"))
    warning = o.Warning(codes.POINTS_NOT_ALLOCATED, {"points": "12"})
    refused = refused_by(
        status_of(
            o.Refused(codes.TRANSFER_VALIDATION_FAILED, field="notes", errors=errors, warnings=(warning,)),
        )
    )

    assert refused is not None
    assert ["notes", "request_id"] == [one.field for one in refused.violations]
    assert [(877, 12)] == [(one.number, one.whole("points")) for one in refused.warnings]
    assert codes.POINTS_NOT_ALLOCATED is refused.warnings[0].code


@pytest.mark.parametrize(
    ("number", "operation", "expected"),
    [
        (10_999, "TransferPoints", ServiceRefused),
        (999, "TransferPoints", TransferRefused),
        (999, "BatchTransferPoints", TransferRefused),
        (999, "RedeemPoints", PointsRefused),
    ],
)
def test_codes_of_a_newer_server(number: int, operation: str, expected: type[Refused]) -> None:
    """A reason that this version does not know is the base of the table that the operation answers from."""
    refused = exception_of(
        Refusal(GrpcCode.FAILED_PRECONDITION, number, "FUTURE_REASON", "text", {"key": "1"}), operation
    )

    assert expected is type(refused)
    assert (None, "FUTURE_REASON", {"key": "1"}) == (refused.code, refused.reason, refused.metadata)


@pytest.mark.parametrize(
    ("first_open", "code", "metadata", "expected"),
    [
        (False, codes.OUTCOME_UNKNOWN, {}, True),
        (False, codes.TRANSFER_NOT_PROCESSED, {"outcome": "UNKNOWN"}, True),
        (False, codes.TRANSFER_NOT_PROCESSED, {"outcome": "NOT_WRITTEN"}, False),
        (False, codes.OVERLOADED, {}, False),
        (True, codes.OVERLOADED, {}, True),
        (True, codes.UNAUTHENTICATED, {}, True),
        (True, codes.TRANSFER_INSUFFICIENT_POINTS, {}, False),
        (True, codes.TRANSFER_LIMIT_EXCEEDED, {}, False),
        (True, codes.RATE_LIMITED, {}, True),
    ],
)
def test_whether_the_outcome_is_open(
    first_open: bool, code: codes.Code, metadata: dict[str, str], expected: bool
) -> None:
    """A refusal closes what an earlier attempt left open only if it came after the look for a recorded outcome."""
    refusal = Refusal(code.grpc, code.number, code.reason, code.message, metadata, after_silence=first_open)

    assert expected == exception_of(refusal, "TransferPoints").outcome_open


def test_silence_can_be_pickled() -> None:
    """Nobody's answer is an exception that says what was tried, and travels between processes."""
    silence = NotAnswered(Silence(GrpcCode.UNAVAILABLE, "refused", "id-1", wrote=True, attempts=3))
    again = pickle.loads(pickle.dumps(silence))

    assert "UNAVAILABLE: refused (tried 3 times) (request id id-1)" == str(again)
    assert again.outcome_open


def test_foreign_details_are_no_refusal() -> None:
    """Details that are not ours, or broken, are not taken for a word of the service."""
    broken = status_pb2.Status(code=14, details=[AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo")])

    assert refusal_in({DETAILS_KEY: b"\xff\xff"}) is None
    assert refusal_in({DETAILS_KEY: broken.SerializeToString()}) is None
    assert refusal_in({}) is None
