"""From the wire to exceptions and warnings: google.rpc.Status, its details, and the trailers of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from points_grpc.client.errors import (
    PointsRefused,
    Refusal,
    Refused,
    ServiceRefused,
    StatusItem,
    TransferRefused,
    Violation,
)
from points_grpc.client.refusals import BY_REASON
from points_grpc.codes import CATALOGUE, GrpcCode, Table
from points_grpc.v1 import common_pb2

DOMAIN = "points.v1"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
CORRELATION_KEY = "x-correlation-id"
SERVICE_NUMBERS_FROM = 10_000
"""Numbers from here up are of the service table: the documented ones are lower."""

Detail = TypeVar("Detail", bound=Message)

_BESIDE = frozenset({"request_id", "replayed"})
"""Keys of ErrorInfo.metadata that are not of the code."""

_NO_TRAILERS: Mapping[str, str | bytes] = {}
_TRANSFERS = frozenset(name for code in CATALOGUE if code.table is Table.TRANSFER for name in code.operations)


class Warned(Protocol):
    """An answer that can carry warnings."""

    @property
    def warnings(self) -> Iterable[common_pb2.StatusItem]:
        """The warnings as they came."""
        ...


def warnings_of(answer: Warned) -> tuple[StatusItem, ...]:
    """The warnings of an accepted call, with typed access to their numbers."""
    return tuple(map(_item, answer.warnings))


def refused_by(status: status_pb2.Status, operation: str = "") -> Refused | None:
    """The exception for a status in the outcomes of a batch; None if it is no refusal of the service."""
    refusal = refusal_of(status)
    return exception_of(refusal, operation) if refusal else None


def refusal_in(trailers: Mapping[str, str | bytes]) -> Refusal | None:
    """The refusal in the trailers of a call; None where the service did not speak."""
    raw = trailers.get(DETAILS_KEY)
    if not isinstance(raw, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None
    return refusal_of(status, trailers)


def exception_of(refusal: Refusal, operation: str) -> Refused:
    """The exception of a refusal. A reason that this version does not know gets the base of its table."""
    known = BY_REASON.get(refusal.reason)
    if known is not None:
        return known(refusal)
    if refusal.number >= SERVICE_NUMBERS_FROM:
        return ServiceRefused(refusal)
    if operation.removeprefix("Batch") in _TRANSFERS:
        return TransferRefused(refusal)
    return PointsRefused(refusal)


def refusal_of(status: status_pb2.Status, trailers: Mapping[str, str | bytes] = _NO_TRAILERS) -> Refusal | None:
    """A status of the service as a value; None if it names no reason of ours."""
    info = _detail(status, error_details_pb2.ErrorInfo)
    if info is None or info.domain != DOMAIN:
        return None
    payload = _detail(status, common_pb2.StatusPayload) or common_pb2.StatusPayload()
    bad_request = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    errors = tuple(map(_item, payload.errors))
    number = next((one.number for one in errors if one.reason == info.reason), 0)
    return Refusal(
        grpc=grpc_code(status.code),
        number=number,
        reason=info.reason,
        message=status.message,
        metadata={key: value for key, value in sorted(info.metadata.items()) if key not in _BESIDE},
        errors=errors,
        errors_omitted=payload.errors_omitted,
        warnings=tuple(map(_item, payload.warnings)),
        violations=tuple(Violation(one.field, one.description) for one in bad_request.field_violations)
        if bad_request
        else (),
        request_id=info.metadata.get("request_id", ""),
        replayed=info.metadata.get("replayed") == "true",
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        pushback_ms=_pushback_ms(trailers),
        correlation_id=_text(trailers.get(CORRELATION_KEY, "")),
    )


def grpc_code(number: int) -> GrpcCode:
    """A gRPC status code by its number; UNKNOWN for one that does not exist, as gRPC has it."""
    try:
        return GrpcCode(number)
    except ValueError:
        return GrpcCode.UNKNOWN


def _item(item: common_pb2.StatusItem) -> StatusItem:
    """One coded outcome."""
    return StatusItem(item.code, item.reason, item.message, item.field, dict(sorted(item.metadata.items())))


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    """The detail of a type; None if there is none."""
    for one in status.details:
        if one.Is(kind.DESCRIPTOR):
            try:
                return kind.FromString(one.value)
            except DecodeError:
                return None
    return None


def _pushback_ms(trailers: Mapping[str, str | bytes]) -> int | None:
    """What the server says about another attempt: never (below zero), or after so long.

    What cannot be read forbids one too, as the gRPC specification of retries has it.
    """
    if PUSHBACK_KEY not in trailers:
        return None
    try:
        return int(trailers[PUSHBACK_KEY])
    except ValueError:
        return -1


def _text(value: str | bytes) -> str:
    """A metadata value as text."""
    return value if isinstance(value, str) else value.decode(errors="replace")
