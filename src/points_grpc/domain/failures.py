"""What a caller is told when the machinery failed: one kind of failure, the code of the caller's table.

Transfers answer from the transfer table, everything else from the points table. These are born outside the rules, in
the committer and the interceptor, but they are refusals like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from points_grpc import codes
from points_grpc.domain.outcome import Refused

TRANSFER_OPERATIONS = frozenset(
    {"TransferPoints", "CheckTransfer", "IssueTransferOtp", "ReverseTransfer", "BatchTransferPoints"}
)
"""The operations that answer from the transfer table."""

OVERLOAD_RETRY_S = 1.0
"""How long a shed caller should wait."""


class Failure(Enum):
    """The ways in which the machinery fails."""

    STORAGE_UNAVAILABLE = "the database could not be reached"
    STORAGE_FULL = "the disk is full"
    CONFLICT = "conflicts persisted through all retries"
    OUTCOME_UNKNOWN = "the connection was lost while committing"
    WRITE_FAILED = "the decision could not be written"
    INTERNAL = "an unexpected exception"
    OVERLOADED = "the queue is full or too old"
    SHUTTING_DOWN = "the server is draining"
    EXPIRED_IN_QUEUE = "the deadline passed before the command was taken"
    EXPIRED_UNKNOWN = "the deadline passed while the command was being written"


def refusal_of(failure: Failure, operation: str, metadata: Mapping[str, str] | None = None) -> Refused:
    """The refusal that a failure of an operation is answered with. `metadata`: the numbers of a failed redemption."""
    if failure is Failure.WRITE_FAILED and operation == "RedeemPoints":
        return Refused(codes.REDEMPTION_FAILED, metadata or {})
    shared = _OF_ALL.get(failure)
    if shared is not None:
        return shared
    return (_OF_TRANSFERS if operation in TRANSFER_OPERATIONS else _OF_OTHERS)[failure]


_NOT_WRITTEN = {"outcome": "NOT_WRITTEN"}
_UNKNOWN = {"outcome": "UNKNOWN"}

_OF_ALL = {
    Failure.STORAGE_FULL: Refused(codes.STORAGE_FULL, retry_after_s=OVERLOAD_RETRY_S, quota="storage"),
    Failure.EXPIRED_IN_QUEUE: Refused(codes.DEADLINE_EXCEEDED, _NOT_WRITTEN),
    Failure.EXPIRED_UNKNOWN: Refused(codes.DEADLINE_EXCEEDED, _UNKNOWN),
}

_OF_TRANSFERS = {
    Failure.STORAGE_UNAVAILABLE: Refused(codes.TRANSFER_STORAGE_UNAVAILABLE, retry_after_s=OVERLOAD_RETRY_S),
    Failure.CONFLICT: Refused(codes.TRANSFER_NOT_PROCESSED, _NOT_WRITTEN, retry_after_s=OVERLOAD_RETRY_S),
    Failure.OUTCOME_UNKNOWN: Refused(codes.TRANSFER_NOT_PROCESSED, _UNKNOWN),
    Failure.OVERLOADED: Refused(codes.TRANSFER_UNAVAILABLE, {"cause": "OVERLOADED"}, retry_after_s=OVERLOAD_RETRY_S),
    Failure.SHUTTING_DOWN: Refused(
        codes.TRANSFER_UNAVAILABLE, {"cause": "SHUTTING_DOWN"}, retry_after_s=OVERLOAD_RETRY_S
    ),
    Failure.WRITE_FAILED: Refused(codes.TRANSFER_PROCESSING_FAILED),
    Failure.INTERNAL: Refused(codes.TRANSFER_PROCESSING_FAILED),
}

_OF_OTHERS = {
    Failure.STORAGE_UNAVAILABLE: Refused(codes.STORAGE_UNAVAILABLE, retry_after_s=OVERLOAD_RETRY_S),
    Failure.CONFLICT: Refused(codes.CONFLICT, retry_after_s=OVERLOAD_RETRY_S),
    Failure.OUTCOME_UNKNOWN: Refused(codes.OUTCOME_UNKNOWN),
    Failure.OVERLOADED: Refused(codes.OVERLOADED, retry_after_s=OVERLOAD_RETRY_S),
    Failure.SHUTTING_DOWN: Refused(codes.SHUTTING_DOWN, _NOT_WRITTEN, retry_after_s=OVERLOAD_RETRY_S),
    Failure.WRITE_FAILED: Refused(codes.INTERNAL_FAILURE),
    Failure.INTERNAL: Refused(codes.INTERNAL_FAILURE),
}
