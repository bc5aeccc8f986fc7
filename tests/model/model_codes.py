"""Which coded outcomes the random commands must reach, and why the others are left to other tests."""

from __future__ import annotations

from points_grpc.v1 import codes_pb2

HITS_MIN = 10
"""How often the long form must reach each outcome."""

SHAPE = "a malformed field: tests/conformance/test_malformed.py spoils every field of every request"
STORAGE = "broken storage: tests/conformance/test_failures.py breaks it"
MACHINERY = "the state of the process, not of the points: tests/conformance and tests/rpc"
CALLER = "who calls, not what is called: tests/conformance and tests/rpc/test_identity.py"
PAGES = "reads of lists: tests/rpc/test_pages.py"

LEFT_OUT = {
    "FRAUD_CHECK_CONFIG_UNAVAILABLE": STORAGE,
    "STORAGE_UNAVAILABLE": STORAGE,
    "CONFLICT": STORAGE,
    "OUTCOME_UNKNOWN": STORAGE,
    "INTERNAL_FAILURE": STORAGE,
    "REDEMPTION_FAILED": STORAGE,
    "STORAGE_FULL": STORAGE,
    "TRANSFER_PROCESSING_FAILED": STORAGE,
    "TRANSFER_STORAGE_UNAVAILABLE": STORAGE,
    "TRANSFER_NOT_PROCESSED": STORAGE,
    "INVALID_CUSTOMER_IDENTIFIER": SHAPE,
    "TRANSFER_IDENTIFIER_INVALID": SHAPE,
    "TRANSFER_IDENTIFIER_TYPE_INVALID": SHAPE,
    "TRANSFER_VALIDATION_FAILED": SHAPE,
    "OVERLOADED": MACHINERY,
    "SHUTTING_DOWN": MACHINERY,
    "RATE_LIMITED": MACHINERY,
    "DEADLINE_EXCEEDED": MACHINERY,
    "PENDING_EVENTS": "senders that fail: tests/conformance and tests/service/test_outbox.py",
    "CLIENT_SIGNATURE_REQUIRED": CALLER,
    "UNAUTHENTICATED": CALLER,
    "PERMISSION_DENIED": CALLER,
    "REQUEST_ID_REQUIRED": CALLER,
    "PAGE_TOKEN_INVALID": PAGES,
    "WATCH_POSITION_LOST": PAGES,
    "REVISION_CONFLICT": "administration alone: tests/conformance",
    "TOO_MANY_LOTS": "10,000 lots: tests/conformance",
    "POINTS_REMAIN": "erasure is none of the commands: tests/conformance and tests/domain/test_erasure.py",
}
"""Outcomes that the commands cannot reach, each with its reason."""

REASONS = frozenset(
    value.name.removeprefix(prefix)
    for enum, prefix in (
        (codes_pb2.PointsErrorCode.DESCRIPTOR, "POINTS_ERROR_CODE_"),
        (codes_pb2.TransferErrorCode.DESCRIPTOR, "TRANSFER_ERROR_CODE_"),
        (codes_pb2.WarningCode.DESCRIPTOR, "WARNING_CODE_"),
        (codes_pb2.SuccessCode.DESCRIPTOR, "SUCCESS_CODE_"),
        (codes_pb2.ServiceErrorCode.DESCRIPTOR, "SERVICE_ERROR_CODE_"),
    )
    for value in enum.values
    if value.number
)
"""Every outcome of the catalogue."""

REACHED = REASONS - LEFT_OUT.keys()
"""The outcomes that the commands reach."""
