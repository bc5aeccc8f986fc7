"""Refusals born on the wire: what cannot be read, and which failure an exception comes to.

Their codes are the domain's to know (`domain.failures`, one table for transfers and one for the rest); no rule about
points belongs here.
"""

from __future__ import annotations

from points_grpc import codes
from points_grpc.domain.failures import TRANSFER_OPERATIONS, Failure
from points_grpc.domain.outcome import Refused, wrong_field
from points_grpc.service.ports import (
    OutcomeUnknown,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
    WriterFenced,
)


def malformed(field: str, expected: str, *, operation: str) -> Refused:
    """Refuses a request that cannot be read as a whole, or its metadata."""
    is_transfer = operation in TRANSFER_OPERATIONS
    return wrong_field(codes.TRANSFER_VALIDATION_FAILED if is_transfer else codes.FIELD_INVALID, field, expected)


def failure_of(error: Exception) -> Failure:
    """What an exception comes to; one that nobody foresaw is a bug (889, or 804 on transfers)."""
    match error:
        case StorageUnavailable() | WriterFenced():
            return Failure.STORAGE_UNAVAILABLE
        case StorageFull():
            return Failure.STORAGE_FULL
        case StorageConflict():
            return Failure.CONFLICT
        case OutcomeUnknown():
            return Failure.OUTCOME_UNKNOWN
        case _:
            return Failure.INTERNAL
