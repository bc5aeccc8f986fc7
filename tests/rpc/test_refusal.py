"""What a refusal looks like on the wire, for every code of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from points_grpc import codes
from points_grpc.codes import CATALOGUE, Code, GrpcCode, Retry, Table
from points_grpc.domain.outcome import FieldError, Refused, Warning
from points_grpc.rpc.call import Call
from points_grpc.rpc.quotas import quota_refused
from points_grpc.rpc.refusal import (
    RETRY_LATER_S,
    RETRY_WINDOW_S,
    STATUS_BYTES_MAX,
    is_open,
    pushback_ms,
    quota_status,
    refuse,
    status_of,
    warnings_status,
)
from points_grpc.v1 import common_pb2

ERRORS = [code for code in CATALOGUE if code.table not in (Table.SUCCESS, Table.WARNING)]
WARNINGS = [code for code in CATALOGUE if code.table is Table.WARNING]
TYPES: Mapping[str, type[Message]] = {
    message.DESCRIPTOR.full_name: message
    for message in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.QuotaFailure,
        error_details_pb2.RetryInfo,
        error_details_pb2.RequestInfo,
        common_pb2.StatusPayload,
    )
}


def details(status: status_pb2.Status) -> dict[str, Message]:
    """The details by type; each type stands there once."""
    found: dict[str, Message] = {}
    for detail in status.details:
        name = detail.type_url.removeprefix("type.googleapis.com/")
        assert name not in found
        found[name] = TYPES[name].FromString(detail.value)
    return found


def names(found: Mapping[str, Message]) -> set[str]:
    return {name.rpartition(".")[2] for name in found}


def refused(code: Code, **changes: object) -> Refused:
    values: dict[str, object] = {"metadata": {key: f"<{key}>" for key in code.metadata_keys}}
    return Refused(code, **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ERRORS, ids=lambda code: code.reason)
def test_every_code(code: Code) -> None:
    """Every code has its gRPC code, its text, the numbers behind it, and the details that belong to it."""
    status = status_of(refused(code, field="a.field"), request_id="r-1")
    found = details(status)
    info = found["google.rpc.ErrorInfo"]
    payload = found["points.v1.StatusPayload"]

    assert status.code == code.grpc
    assert "{" not in status.message
    assert status.ByteSize() <= STATUS_BYTES_MAX
    assert (info.reason, info.domain) == (code.reason, "points.v1")
    assert info.metadata == {**{key: f"<{key}>" for key in code.metadata_keys}, "request_id": "r-1"}
    [item] = payload.errors
    assert item.HasField("status")
    assert (item.status, item.code, item.reason, item.message, item.field) == (
        False,
        code.number,
        code.reason,
        status.message,
        "a.field",
    )
    assert set(item.metadata) == set(code.metadata_keys)
    expected = {"ErrorInfo", "StatusPayload", "RequestInfo"}
    expected |= {"BadRequest"} if code.grpc is GrpcCode.INVALID_ARGUMENT else set()
    expected |= {"PreconditionFailure"} if code.grpc is GrpcCode.FAILED_PRECONDITION else set()
    expected |= {"QuotaFailure"} if code.grpc is GrpcCode.RESOURCE_EXHAUSTED else set()
    later = (Retry.SAME_REQUEST_ID_LATER, Retry.NEW_REQUEST_ID_LATER)
    expected |= {"RetryInfo"} if code.retry in later else set()
    assert names(found) == expected


@pytest.mark.parametrize("code", ERRORS, ids=lambda code: code.reason)
def test_worst_case(code: Code) -> None:
    """Whatever a refusal holds, it has at most 4 KiB, at most 16 errors and warnings, and counts the rest."""
    long = "ü" * 5000
    error = FieldError(code, "a_long_name_of_a_field." * 4, "a long description " * 5, {"field": long})
    warning = Warning(codes.PENDING_EVENTS, dict.fromkeys(codes.PENDING_EVENTS.metadata_keys, long))
    for errors, warnings in ((300, 0), (0, 300), (300, 300), (1, 1), (16, 16), (17, 1)):
        status = status_of(
            Refused(
                code,
                dict.fromkeys(code.metadata_keys, long),
                field="f" * 100,
                errors=(error,) * errors,
                warnings=(warning,) * warnings,
                retry_after_s=86_400.0,
                quota="q" * 64,
            ),
            request_id="r" * 64,
            replayed=True,
        )
        payload = details(status)["points.v1.StatusPayload"]

        assert len(status.SerializeToString()) <= STATUS_BYTES_MAX
        assert 1 <= len(payload.errors) <= 16
        assert len(payload.warnings) <= 16
        assert len(payload.errors) + payload.errors_omitted == max(1, errors)


def test_malformed_fields() -> None:
    """Each malformed field is an error of the payload and a violation, the first one being the refusal's own."""
    code = codes.FIELD_INVALID
    errors = tuple(FieldError(code, name, f"{name} is due", {"field": name}) for name in ("points", "notes"))
    status = status_of(Refused(code, errors[0].metadata, field="points", errors=errors))
    found = details(status)

    violations = found["google.rpc.BadRequest"].field_violations
    items = found["points.v1.StatusPayload"].errors
    assert [(one.field, one.description) for one in violations] == [
        ("points", "points is due"),
        ("notes", "notes is due"),
    ]
    assert [(one.field, one.message) for one in items] == [
        ("points", "A field is invalid: points"),
        ("notes", "A field is invalid: notes"),
    ]


def test_many_malformed_fields() -> None:
    """Sixteen malformed fields are named and the rest is counted."""
    code = codes.FIELD_INVALID
    errors = tuple(FieldError(code, f"f{number}", "is due", {"field": f"f{number}"}) for number in range(20))
    found = details(status_of(Refused(code, errors[0].metadata, field="f0", errors=errors)))

    violations = found["google.rpc.BadRequest"].field_violations
    payload = found["points.v1.StatusPayload"]
    assert [one.field for one in violations] == [*(f"f{number}" for number in range(16)), ""]
    assert violations[16].description == "and 4 more"
    assert [one.field for one in payload.errors] == [f"f{number}" for number in range(16)]
    assert payload.errors_omitted == 4


def test_replayed() -> None:
    """A recorded refusal that is given again says so."""
    info = details(status_of(Refused(codes.SOURCE_CUSTOMER_FRAUD), request_id="r-1", replayed=True))[
        "google.rpc.ErrorInfo"
    ]

    assert info.metadata == {"request_id": "r-1", "replayed": "true"}


def test_without_request_id() -> None:
    """A question has no request id, and none is shown."""
    found = details(status_of(Refused(codes.CUSTOMER_NOT_FOUND)))

    assert names(found) == {"ErrorInfo", "StatusPayload"}
    assert "request_id" not in found["google.rpc.ErrorInfo"].metadata


def test_warning_of_a_refusal() -> None:
    """A refusal carries its warnings: 903 with 905."""
    refusal = Refused(codes.REVERSAL_NOT_POSSIBLE, {"cause": "DISABLED"}, warnings=(Warning(codes.REVERSAL_DISABLED),))
    payload = details(status_of(refusal))["points.v1.StatusPayload"]

    assert [(one.code, one.status) for one in payload.errors] == [(903, False)]
    assert [(one.code, one.status, one.message) for one in payload.warnings] == [
        (905, False, "points redemption reversal is disabled for the org.")
    ]


def test_precondition_names_nobody() -> None:
    """A precondition says whose state must change, never of which customer."""
    refusal = Refused(codes.MERGED_CUSTOMER, {"customer_id": "7", "survivor_id": "8"})
    [violation] = details(status_of(refusal))["google.rpc.PreconditionFailure"].violations

    assert (violation.type, violation.subject) == ("MERGED_CUSTOMER", "customer")
    for code, subject in ((codes.REDEMPTION_DISABLED, "program"), (codes.ORG_CONFIGURATION_INVALID, "organization")):
        [violation] = details(status_of(Refused(code)))["google.rpc.PreconditionFailure"].violations
        assert violation.subject == subject


def test_quota() -> None:
    """A quota that is used up is named with its figures."""
    metadata = {
        "limit": "1000",
        "used": "990",
        "window": "TODAY",
        "direction": "OUT",
        "resets_at": "2026-03-16T00:00:00Z",
    }
    refusal = Refused(codes.TRANSFER_LIMIT_EXCEEDED, metadata, quota="transfer_points_out_today", retry_after_s=3600.25)
    found = details(status_of(refusal))
    [violation] = found["google.rpc.QuotaFailure"].violations
    delay = found["google.rpc.RetryInfo"].retry_delay

    assert (violation.subject, violation.description) == (
        "transfer_points_out_today",
        "limit 1000, used 990, resets_at 2026-03-16T00:00:00Z",
    )
    assert (delay.seconds, delay.nanos) == (3600, 250_000_000)


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        (Refused(codes.OVERLOADED), RETRY_LATER_S),
        (Refused(codes.OVERLOADED, retry_after_s=0.2), 0.2),
        (Refused(codes.STORAGE_FULL), RETRY_WINDOW_S),
    ],
)
def test_retry_delay(refusal: Refused, seconds: float) -> None:
    """A refusal that time cures always says how long to wait."""
    delay = details(status_of(refusal))["google.rpc.RetryInfo"].retry_delay

    assert delay.seconds + delay.nanos / 1e9 == seconds


def test_no_time_helps() -> None:
    """A code that tells when its limit resets, and does not, says that no time will: there is nothing to wait for."""
    metadata = {"limit": "10", "used": "0", "window": "LAST_30_DAYS", "direction": "OUT"}
    found = details(status_of(Refused(codes.TRANSFER_LIMIT_EXCEEDED, metadata, quota="transfer_points")))

    assert "google.rpc.RetryInfo" not in found
    assert "limit 10, used 0" == found["google.rpc.QuotaFailure"].violations[0].description


UNKNOWN = {"outcome": "UNKNOWN"}
NOT_WRITTEN = {"outcome": "NOT_WRITTEN"}


@pytest.mark.parametrize(
    ("refusal", "given", "left_open", "pushback"),
    [
        # The outcome is open, and the request id is the server's own.
        (Refused(codes.OUTCOME_UNKNOWN), False, False, -1),
        (Refused(codes.TRANSFER_NOT_PROCESSED, UNKNOWN), False, False, -1),
        (Refused(codes.DEADLINE_EXCEEDED, UNKNOWN), False, False, -1),
        (Refused(codes.INTERNAL_FAILURE), False, True, -1),
        # It is open, and the caller's own request id settles it.
        (Refused(codes.OUTCOME_UNKNOWN), True, False, None),
        (Refused(codes.TRANSFER_NOT_PROCESSED, UNKNOWN), True, False, None),
        (Refused(codes.DEADLINE_EXCEEDED, UNKNOWN), True, False, None),
        (Refused(codes.INTERNAL_FAILURE), True, True, None),
        # Nothing was written.
        (Refused(codes.TRANSFER_NOT_PROCESSED, NOT_WRITTEN), False, False, None),
        (Refused(codes.DEADLINE_EXCEEDED, NOT_WRITTEN), False, False, None),
        (Refused(codes.OVERLOADED), False, False, None),
        (Refused(codes.OVERLOADED, retry_after_s=0.0301), False, False, 31),
        (Refused(codes.TRANSFER_UNAVAILABLE, retry_after_s=1.0), True, False, 1000),
        (Refused(codes.RATE_LIMITED, retry_after_s=0.0), True, False, 1),
        # The refusal is recorded: the same request is only told the same again.
        (Refused(codes.TRANSFER_LIMIT_EXCEEDED, retry_after_s=60.0), True, False, None),
        (Refused(codes.SOURCE_CUSTOMER_FRAUD), True, False, None),
    ],
)
def test_pushback(refusal: Refused, *, given: bool, left_open: bool, pushback: int | None) -> None:
    """The client library's own retries are stopped where they could do a deed twice, and delayed where they help."""
    assert pushback_ms(refusal, request_id_given=given, left_open=left_open) == pushback


def test_open_outcomes() -> None:
    """An outcome is open where nobody knows it, and only there."""
    assert is_open(Refused(codes.OUTCOME_UNKNOWN))
    assert is_open(Refused(codes.TRANSFER_NOT_PROCESSED, UNKNOWN))
    assert not is_open(Refused(codes.TRANSFER_NOT_PROCESSED, NOT_WRITTEN))
    assert not is_open(Refused(codes.CONFLICT))


class Context:
    """A servicer context that remembers what was set."""

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self.trailers = dict(trailing_metadata)


@pytest.mark.parametrize("code", ERRORS, ids=lambda code: code.reason)
def test_refusing_a_call(code: Code) -> None:
    """A call is refused by setting code, text and trailers; the trailers stay below 8 KiB however encoded."""
    context, call = Context(), Call("points.v1.PointsService/RedeemPoints", "RedeemPoints")
    call.request_id, call.correlation_id = "r-1", "c-1"
    refuse(context, call, refused(code))

    assert context.code.value[0] == code.grpc
    assert context.details == code.text(refused(code).metadata)
    assert context.trailers["x-correlation-id"] == "c-1"
    encoded = context.trailers["grpc-status-details-bin"]
    assert isinstance(encoded, bytes)
    assert status_pb2.Status.FromString(encoded) == status_of(refused(code), request_id="r-1")
    assert len(encoded) * 4 / 3 + len(context.details) * 3 < 8192
    assert (call.grpc, call.code) == (code.grpc, code)


@pytest.mark.parametrize("count", [1, 16, 100])
def test_warnings_of_an_acceptance(count: int) -> None:
    """The warnings of an acceptance make a status with code 0 and no message."""
    warning = Warning(codes.POINTS_NOT_ALLOCATED, {"points": "40"}, "points")
    status = warnings_status((warning,) * count)
    payload = details(status)["points.v1.StatusPayload"]

    assert (status.code, status.message) == (0, "")
    assert len(status.SerializeToString()) <= STATUS_BYTES_MAX
    assert 0 < len(payload.warnings) <= 16
    assert not payload.errors
    item = payload.warnings[0]
    assert (item.code, item.reason, item.metadata, item.field) == (
        877,
        "POINTS_NOT_ALLOCATED",
        {"points": "40"},
        "points",
    )


@pytest.mark.parametrize("code", WARNINGS, ids=lambda code: code.reason)
def test_every_warning(code: Code) -> None:
    """Every warning can be shown, however long its values are."""
    metadata = dict.fromkeys(code.metadata_keys, "ü" * 10_000)

    assert warnings_status((Warning(code, metadata),) * 16).ByteSize() <= STATUS_BYTES_MAX


@pytest.mark.parametrize("seconds", [0.0004, 0.25, 59.9999])
@pytest.mark.parametrize(("quota", "limit"), [("org_calls_per_s", 8), ("client_reads_per_s", 20_000)])
def test_a_quota_is_told_as_any_refusal(quota: str, limit: int, seconds: float) -> None:
    """What is put together from what is remembered is what would be built anew."""
    beyond = quota_refused(quota, limit, "client", seconds)
    status = status_of(beyond)

    assert (status.message, status) == (quota_status(beyond)[0], status_pb2.Status.FromString(quota_status(beyond)[1]))
    assert {"ErrorInfo", "StatusPayload", "QuotaFailure", "RetryInfo"} == names(details(status))
