"""What a call can raise: it was refused, or nobody answered. The classes of single codes derive from these.

Nothing here reads the wire (`decode` does) or decides about another attempt (`retries` does). Every exception can be
pickled: it is made of one frozen value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from points_grpc.codes import BY_REASON, OUTCOME_UNKNOWN, TRANSFER_LIMIT_EXCEEDED, Code, GrpcCode

_UNKNOWN_OUTCOME = "UNKNOWN"
_JUDGED = frozenset(
    {GrpcCode.INVALID_ARGUMENT, GrpcCode.NOT_FOUND, GrpcCode.ALREADY_EXISTS, GrpcCode.FAILED_PRECONDITION}
)
"""Refusals that come after the look for a recorded outcome: had an earlier attempt been carried out, its answer would
have come again."""


@dataclass(frozen=True, slots=True)
class StatusItem:
    """One coded outcome: a malformed field of a refusal, or a warning."""

    number: int
    reason: str
    message: str
    field: str
    metadata: Mapping[str, str]

    @property
    def code(self) -> Code | None:
        """Its row of the catalogue; None for a code that a newer server added."""
        return BY_REASON.get(self.reason)

    def whole(self, key: str) -> int | None:
        """A number of the metadata; None if it is not there."""
        return whole(self.metadata, key)

    def instant(self, key: str) -> datetime | None:
        """A time of the metadata; None if it is not there."""
        return instant(self.metadata, key)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field of the request."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal as it came over the wire.

    `pushback_ms` below zero forbids another attempt; `after_silence` says that an earlier attempt of the same write
    left its outcome open.
    """

    grpc: GrpcCode
    number: int
    reason: str
    message: str
    metadata: Mapping[str, str]
    errors: tuple[StatusItem, ...] = ()
    errors_omitted: int = 0
    warnings: tuple[StatusItem, ...] = ()
    violations: tuple[Violation, ...] = ()
    request_id: str = ""
    replayed: bool = False
    retry_after_s: float | None = None
    pushback_ms: int | None = None
    correlation_id: str = ""
    attempts: int = 1
    after_silence: bool = False
    request_ids: tuple[str, ...] = ()

    @property
    def leaves_open(self) -> bool:
        """Whether what was asked may have been carried out, by this attempt or by one before it."""
        if self.reason == OUTCOME_UNKNOWN.reason or self.metadata.get("outcome") == _UNKNOWN_OUTCOME:
            return True
        return self.after_silence and self.grpc not in _JUDGED and self.reason != TRANSFER_LIMIT_EXCEEDED.reason


@dataclass(frozen=True, slots=True)
class Silence:
    """A call that ended without the service's own word. `wrote` says that it may have written."""

    grpc: GrpcCode
    detail: str
    request_id: str
    wrote: bool
    attempts: int = 1
    request_ids: tuple[str, ...] = ()


class PointsError(Exception):
    """A call that did not succeed: `Refused`, `NotAnswered`, or `NotSent`.

    `outcome_open` says that what was asked may have been carried out all the same: then only the same request with the
    same `request_id` settles it, or `get_transaction`. A batch has none: `request_ids` are those of its items, in their
    order, whether the caller or the client made them. `attempts` counts how often the request was sent.
    """

    request_id: str
    request_ids: tuple[str, ...]
    attempts: int
    grpc_code: GrpcCode
    outcome_open: bool


class NotAnswered(PointsError):
    """No answer of the service: the connection failed, the deadline passed, or something between refused the call.

    A write may have been carried out all the same, unless the connection was never made: keep its `request_id`, or the
    `request_ids` of a batch.
    """

    def __init__(self, silence: Silence) -> None:
        super().__init__(silence)
        self.silence = silence
        self.grpc_code = silence.grpc
        self.detail = silence.detail
        self.request_id = silence.request_id
        self.request_ids = silence.request_ids
        self.attempts = silence.attempts
        self.outcome_open = silence.wrote

    def __str__(self) -> str:
        tried = "once" if self.attempts == 1 else f"{self.attempts} times"
        name = f" (request id {self.request_id})" if self.request_id else ""
        return f"{self.grpc_code.name}: {self.detail} (tried {tried}){name}"


class NotSent(PointsError):
    """The client could not send the call (again): it is closed, or the function for the token gave none or raised.

    `attempts` says how often it was sent before, and `outcome_open` whether one of these may have been carried out.
    """

    def __init__(self, silence: Silence) -> None:
        super().__init__(silence)
        self.silence = silence
        self.grpc_code = silence.grpc
        self.detail = silence.detail
        self.request_id = silence.request_id
        self.request_ids = silence.request_ids
        self.attempts = silence.attempts
        self.outcome_open = silence.wrote

    def __str__(self) -> str:
        return f"not sent: {self.detail}"


class Refused(PointsError):
    """The service refused the call. Base of all refusals, and the class of those that a newer server added.

    `code` is the row of the catalogue, None where this version does not know the reason. `metadata` holds the numbers
    behind the refusal as text; the classes of single codes have them as typed properties.
    """

    CODE: ClassVar[Code | None] = None

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal
        self.code = self.CODE or BY_REASON.get(refusal.reason)
        self.number = refusal.number
        self.reason = refusal.reason
        self.message = refusal.message
        self.metadata = refusal.metadata
        self.errors = refusal.errors
        self.warnings = refusal.warnings
        self.violations = refusal.violations
        self.grpc_code = refusal.grpc
        self.request_id = refusal.request_id
        self.request_ids = refusal.request_ids
        self.replayed = refusal.replayed
        self.retry_after_s = refusal.retry_after_s
        self.correlation_id = refusal.correlation_id
        self.attempts = refusal.attempts
        self.outcome_open = refusal.leaves_open

    def __str__(self) -> str:
        figures = "".join(f" {key}={value}" for key, value in sorted(self.metadata.items()))
        fields = "".join(f"; {one.field}: {one.description}" for one in self.violations)
        return f"{self.number} {self.reason}: {self.message}{figures}{fields}"


class PointsRefused(Refused):
    """A refusal from the points table."""


class TransferRefused(Refused):
    """A refusal from the transfer table."""


class ServiceRefused(Refused):
    """A refusal that the documented tables have no row for: who calls, how often, with which request id."""


def whole(metadata: Mapping[str, str], key: str) -> int | None:
    """A number of some metadata; None if there is none, or none that this version can read."""
    try:
        return int(metadata[key])
    except (KeyError, ValueError):
        return None


def instant(metadata: Mapping[str, str], key: str) -> datetime | None:
    """A time of some metadata, in UTC; None if there is none, or none that this version can read."""
    try:
        found = datetime.fromisoformat(metadata[key])
    except (KeyError, ValueError):
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
