"""How refusals, and the warnings of acceptances, meet gRPC: google.rpc.Status, its details, and the trailers.

Every refusal passes through `status_of`, wherever it was born. Rules of this file: each type of detail stands there at
most once; the whole is at most 4 KiB by construction (trailers above 8 KiB get lost); what a caller sent is never
echoed, no type of detail names a customer. Nothing here ends a call by raising: code, details and trailers are set and
the servicer returns, so that the same servicer runs on the real server and under grpcio-testing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from points_grpc import codes
from points_grpc.codes import CATALOGUE, Code, GrpcCode, Retry
from points_grpc.domain import outcome as o
from points_grpc.domain.outcome import FieldError, Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.status_items import bounded, message_of, status_item, warning_items
from points_grpc.v1 import common_pb2

DOMAIN = "points.v1"
STATUS_BYTES_MAX = 4096
"""The most bytes of an encoded google.rpc.Status."""

VIOLATIONS_MAX = 16
"""The most errors, violations and warnings of one status; further errors are counted."""

RETRY_LATER_S = 1.0
"""How long RetryInfo asks to wait where the same request may pass soon and nobody knows when."""

RETRY_WINDOW_S = 60.0
"""How long RetryInfo asks to wait where a window has to pass and nobody knows how much of it is left."""

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
CORRELATION_KEY = "x-correlation-id"

_UNKNOWN_OUTCOME = "UNKNOWN"
_ENVELOPE_BYTES = 64
"""What a detail takes around itself: its type URL, tags and length prefixes."""

_SLACK_BYTES = 64
"""Kept free for the growth of length prefixes and for the count of what was left out."""

_PROGRAM_STATE = frozenset(
    {
        codes.REDEMPTION_DISABLED,
        codes.PROGRAM_NOT_CONFIGURED,
        codes.PROGRAM_CONFIGURATION_INVALID,
        codes.INVALID_POINTS_CATEGORY,
        codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM,
        codes.TRANSFER_PROGRAM_MISCONFIGURED,
        codes.GROUP_TRANSFER_FOR_NON_GROUP,
    }
)
_ORGANISATION_STATE = frozenset(
    {
        codes.FRAUD_CHECK_CONFIG_INVALID,
        codes.ORG_CONFIGURATION_INVALID,
        codes.TRANSFER_CONFIGURATION_INVALID,
        codes.MISSED_CALL_DISABLED,
    }
)


class Context(Protocol):
    """What answering needs of a servicer context; the real one and that of grpcio-testing have it."""

    def set_code(self, code: grpc.StatusCode, /) -> None:
        """Sets the status code."""
        ...

    def set_details(self, details: str, /) -> None:
        """Sets the status message."""
        ...

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str | bytes], ...], /) -> None:
        """Sets the trailers."""
        ...


def refuse(context: Context, call: Call, refused: Refused, *, replayed: bool = False, left_open: bool = False) -> None:
    """Answers a call with a refusal. `left_open`: what became of the command is not known."""
    if refused.code is codes.RATE_LIMITED and not call.request_id:
        message, details = quota_status(refused)
    else:
        status = status_of(refused, request_id=call.request_id, replayed=replayed)
        message, details = status.message, status.SerializeToString()
    trailers: list[tuple[str, str | bytes]] = [(DETAILS_KEY, details)]
    pushback = pushback_ms(refused, request_id_given=call.request_id_given, left_open=left_open)
    if pushback is not None:
        trailers.append((PUSHBACK_KEY, str(pushback)))
    trailers.append((CORRELATION_KEY, call.correlation_id))
    call.grpc, call.code = refused.code.grpc, refused.code
    call.refused_for_good = not refused.recorded and refused.code.retry is not Retry.SAME_REQUEST_ID_LATER
    context.set_code(_STATUS_CODES[refused.code.grpc])
    context.set_details(message)
    context.set_trailing_metadata(tuple(trailers))


def warn(context: Context, warnings: tuple[o.Warning, ...]) -> None:
    """Repeats the warnings of an acceptance in its trailing status details."""
    context.set_trailing_metadata(((DETAILS_KEY, warnings_status(warnings).SerializeToString()),))


def status_of(refused: Refused, *, request_id: str = "", replayed: bool = False) -> status_pb2.Status:
    """A refusal as google.rpc.Status."""
    code = refused.code
    metadata = bounded(refused.metadata)
    message = message_of(code, metadata)
    payload = common_pb2.StatusPayload(errors=[status_item(code, metadata, refused.field)])
    bad_request = _bad_request(refused, message)

    around = [_packed(_ERROR_INFO, _error_info(code, metadata, request_id, replayed=replayed))]
    if code.grpc is GrpcCode.FAILED_PRECONDITION:
        around.append(_precondition_failure(code, message))
    if code.grpc is GrpcCode.RESOURCE_EXHAUSTED:
        around.append(_packed(_QUOTA_FAILURE, _quota_failure(refused, metadata, message)))
    if (delay := retry_delay_s(refused)) is not None:
        around.append(_retry_info(_milliseconds(delay)))
    if request_id:
        around.append(_packed(_REQUEST_INFO, error_details_pb2.RequestInfo(request_id=request_id)))

    if len(refused.errors) > 1 or refused.warnings:
        used = len(message.encode()) + sum(one.ByteSize() + 3 for one in around)
        used += sum(one.ByteSize() + _ENVELOPE_BYTES for one in (payload, bad_request) if one is not None)
        _fill(refused, payload, bad_request, room=STATUS_BYTES_MAX - _SLACK_BYTES - used)
    around.insert(1, _packed(_STATUS_PAYLOAD, payload))
    if bad_request is not None:
        around.insert(2, _packed(_BAD_REQUEST, bad_request))
    return status_pb2.Status(code=code.grpc, message=message, details=around)


def quota_status(refused: Refused) -> tuple[str, bytes]:
    """The message and the encoded status of a refusal by a quota, put together from what is remembered.

    Who is beyond a quota is refused as often as they ask: to build the same status again takes as long as the rest of
    what this program does for such a call. Further details are encoded behind those before them.
    """
    message, encoded = _without_delay(tuple(refused.metadata.items()))
    return message, encoded + _delay(_milliseconds(retry_delay_s(refused) or 0.0))


def warnings_status(warnings: tuple[o.Warning, ...]) -> status_pb2.Status:
    """The warnings of an acceptance as google.rpc.Status: code 0, no message."""
    payload = common_pb2.StatusPayload()
    _add_warnings(warnings, payload, room=STATUS_BYTES_MAX - _SLACK_BYTES - _ENVELOPE_BYTES)
    return status_pb2.Status(details=[_packed(_STATUS_PAYLOAD, payload)])


def pushback_ms(refused: Refused, *, request_id_given: bool, left_open: bool = False) -> int | None:
    """What the client library's own retries are told: never (-1), or after so many milliseconds.

    Where the outcome is open and the request id is not the caller's own, a blind repetition could do the deed twice.
    A recorded refusal is only replayed, so that no time is given for it.
    """
    if left_open or is_open(refused):
        return None if request_id_given else -1
    if refused.retry_after_s is not None and not refused.recorded:
        return max(1, math.ceil(refused.retry_after_s * 1000))
    return None


def is_open(refused: Refused) -> bool:
    """Whether the refusal says that nobody knows whether the command was carried out."""
    return refused.code is codes.OUTCOME_UNKNOWN or refused.metadata.get("outcome") == _UNKNOWN_OUTCOME


def retry_delay_s(refused: Refused) -> float | None:
    """How long RetryInfo asks to wait; None for no RetryInfo, also where a limit has no time at which it resets."""
    if refused.retry_after_s is not None:
        return refused.retry_after_s
    match refused.code.retry:
        case Retry.SAME_REQUEST_ID_LATER:
            return RETRY_LATER_S
        case Retry.NEW_REQUEST_ID_LATER:
            never_resets = "resets_at" in refused.code.metadata_keys and "resets_at" not in refused.metadata
            return None if never_resets else RETRY_WINDOW_S
        case _:
            return None


# -- the details


def _error_info(code: Code, metadata: Mapping[str, str], request_id: str, *, replayed: bool) -> Message:
    """The reason and the numbers behind it."""
    info = error_details_pb2.ErrorInfo(reason=code.reason, domain=DOMAIN, metadata=metadata)
    if request_id:
        info.metadata["request_id"] = request_id
    if replayed:
        info.metadata["replayed"] = "true"
    return info  # type: ignore[no-any-return]


def _bad_request(refused: Refused, message: str) -> Message | None:
    """The first malformed field; the others are filled in as far as there is room."""
    if refused.code.grpc is not GrpcCode.INVALID_ARGUMENT:
        return None
    if refused.errors:
        return error_details_pb2.BadRequest(field_violations=[_violation(refused.errors[0])])  # type: ignore[no-any-return]
    if refused.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=refused.field, description=message)
        return error_details_pb2.BadRequest(field_violations=[violation])  # type: ignore[no-any-return]
    return None


def _violation(error: FieldError) -> Message:
    """One malformed field."""
    return error_details_pb2.BadRequest.FieldViolation(  # type: ignore[no-any-return]
        field=error.field, description=error.description
    )


@lru_cache(maxsize=1024)
def _precondition_failure(code: Code, message: str) -> AnyMessage:
    """What must change first: the state of whom, never of which one. Remembered: most messages have no variables."""
    subject = "customer"
    if code in _PROGRAM_STATE:
        subject = "program"
    elif code in _ORGANISATION_STATE:
        subject = "organization"
    violation = error_details_pb2.PreconditionFailure.Violation(type=code.reason, subject=subject, description=message)
    return _packed(_PRECONDITION_FAILURE, error_details_pb2.PreconditionFailure(violations=[violation]))


def _quota_failure(refused: Refused, metadata: Mapping[str, str], message: str) -> Message:
    """Which limit is used up, and its figures."""
    figures = ", ".join(f"{key} {metadata[key]}" for key in ("limit", "used", "resets_at") if key in metadata)
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=refused.quota or metadata.get("quota", refused.code.reason), description=figures or message
    )
    return error_details_pb2.QuotaFailure(violations=[violation])  # type: ignore[no-any-return]


def _milliseconds(seconds: float) -> int:
    """How long to wait, to the millisecond and upwards."""
    return math.ceil(seconds * 1000)


@lru_cache(maxsize=1024)
def _retry_info(milliseconds: int) -> AnyMessage:
    """How long to wait. Remembered: most delays are the usual ones."""
    delay = Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
    return _packed(_RETRY_INFO, error_details_pb2.RetryInfo(retry_delay=delay))


@lru_cache(maxsize=64)
def _without_delay(metadata: tuple[tuple[str, str], ...]) -> tuple[str, bytes]:
    """Message and encoded status of a refusal by a quota, but for its RetryInfo: one for each quota and its size."""
    status = status_of(Refused(codes.RATE_LIMITED, dict(metadata), retry_after_s=0.0))
    assert status.details.pop().type_url == _RETRY_INFO, "it comes last"
    return status.message, status.SerializeToString()


@lru_cache(maxsize=4096)
def _delay(milliseconds: int) -> bytes:
    """A RetryInfo, encoded as the last detail of a status."""
    return status_pb2.Status(details=[_retry_info(milliseconds)]).SerializeToString()  # type: ignore[no-any-return]


# -- what has to fit into the room that is left


def _fill(refused: Refused, payload: common_pb2.StatusPayload, bad_request: Message | None, room: int) -> None:
    """Adds the further malformed fields, then the warnings, as far as they fit."""
    further = refused.errors[1:]
    fitting = 0
    for error in further[: VIOLATIONS_MAX - 1]:
        item = _further_item(error)
        violation = _violation(error)
        size = item.ByteSize() + violation.ByteSize() + 6
        if size > room:
            break
        room -= size
        fitting += 1
        payload.errors.append(item)
        if bad_request is not None:
            bad_request.field_violations.append(violation)  # type: ignore[attr-defined]
    if omitted := len(further) - fitting:
        payload.errors_omitted = omitted
        if bad_request is not None:
            bad_request.field_violations.add(description=f"and {omitted} more")  # type: ignore[attr-defined]
    _add_warnings(refused.warnings, payload, room)


def _further_item(error: FieldError) -> common_pb2.StatusItem:
    """A further malformed field. Without metadata: its field and message say the same, and room is short."""
    code = error.code
    return common_pb2.StatusItem(
        status=False,
        code=code.number,
        reason=code.reason,
        message=message_of(code, error.metadata),
        field=error.field,
    )


def _add_warnings(warnings: tuple[o.Warning, ...], payload: common_pb2.StatusPayload, room: int) -> None:
    """Adds warnings as far as they fit."""
    for item in warning_items(warnings[:VIOLATIONS_MAX]):
        size = item.ByteSize() + 3
        if size > room:
            return
        room -= size
        payload.warnings.append(item)


# -- encoding


def _url(message: type[Message]) -> str:
    """The type URL of a message type."""
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


_ERROR_INFO = _url(error_details_pb2.ErrorInfo)
_STATUS_PAYLOAD = _url(common_pb2.StatusPayload)
_BAD_REQUEST = _url(error_details_pb2.BadRequest)
_PRECONDITION_FAILURE = _url(error_details_pb2.PreconditionFailure)
_QUOTA_FAILURE = _url(error_details_pb2.QuotaFailure)
_RETRY_INFO = _url(error_details_pb2.RetryInfo)
_REQUEST_INFO = _url(error_details_pb2.RequestInfo)

_STATUS_CODES = {code.grpc: next(one for one in grpc.StatusCode if one.value[0] == code.grpc) for code in CATALOGUE}


def _packed(url: str, message: Message) -> AnyMessage:
    """A detail. `Any.Pack` would work out the type URL anew each time."""
    return AnyMessage(type_url=url, value=message.SerializeToString())
