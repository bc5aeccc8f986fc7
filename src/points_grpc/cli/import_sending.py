"""Sends rows to the server and learns what became of each.

A row is sent under one request id until it has its outcome, however often that takes: a row that was carried out
before is a replay. What the machinery says (overload, a restart, a lost answer) is waited out; what the rules say is
the row's outcome; what forbids the whole import (the key, the role) stops it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from points_grpc import codes
from points_grpc.cli.import_rows import CreateCustomer, IssuePoints, Request, RowWrong
from points_grpc.client import AsyncPointsClient, NotAnswered, PointsError, Refused, refused_by
from points_grpc.client.retries import told_s
from points_grpc.codes import Code, GrpcCode
from points_grpc.domain import outcome
from points_grpc.rpc.refusal import status_of
from points_grpc.v1 import issuance_service_pb2

Answer = TypeVar("Answer")

PAUSE_S = 0.5
"""Between attempts, unless the server asks for a longer pause."""

WARN_AFTER_S = 5.0
"""So long without an answer is worth a word."""

BUG_ATTEMPTS_MAX = 3
"""So often a row that fails with INTERNAL is sent, before that is its outcome: it must not hold up all others."""

_RULES = frozenset(
    {
        GrpcCode.INVALID_ARGUMENT,
        GrpcCode.NOT_FOUND,
        GrpcCode.ALREADY_EXISTS,
        GrpcCode.FAILED_PRECONDITION,
        GrpcCode.OUT_OF_RANGE,
    }
)
_FORBIDS = frozenset({GrpcCode.UNAUTHENTICATED, GrpcCode.PERMISSION_DENIED})


class Stopped(Exception):
    """It cannot go on; says why. What has its outcome is safe. `again`: the same command, run again, may go on."""

    def __init__(self, why: str, *, again: bool = True) -> None:
        """`why` is a sentence without its full stop, or with it."""
        super().__init__(why.rstrip("."))
        self.again = again


def forbidden(error: PointsError) -> Stopped:
    """What the key may not do, or what the rules refuse, is refused another time too."""
    return Stopped(told(error), again=error.grpc_code not in _FORBIDS | _RULES)


@dataclass(frozen=True, slots=True)
class Row:
    """A row to send; `request` is None where nothing is to be written, `wrong` where it could not be read."""

    number: int
    fields: tuple[str, ...]
    request: Request | None
    wrong: RowWrong | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: accepted, refused with number, reason and message, or nothing to do.

    `replayed`: it is recorded from an earlier attempt. `expired`: its points had expired on arrival (877).
    """

    accepted: bool = False
    replayed: bool = False
    expired: bool = False
    refused: tuple[int, str, str] | None = None


NOTHING = Outcome()
ACCEPTED = Outcome(accepted=True)


@dataclass(slots=True)
class Patience:
    """Waits for a server that is away, but not for ever. Mutable: it remembers when an answer came last."""

    seconds: float
    warn: Callable[[str], None]
    answered_at: float = field(default_factory=time.monotonic)
    warned: bool = False

    def answered(self) -> None:
        """Something got its outcome."""
        self.answered_at = time.monotonic()
        self.warned = False

    async def wait(self, error: PointsError) -> None:
        """Pauses, or stops the import."""
        silent_s = time.monotonic() - self.answered_at
        if silent_s > self.seconds:
            raise Stopped(f"nothing got an answer for {self.seconds:.0f} seconds; the last word was: {told(error)}")
        if silent_s > WARN_AFTER_S and not self.warned:
            self.warned = True
            self.warn(f"waiting for the server, {self.seconds:.0f} seconds at most: {told(error)}")
        await asyncio.sleep(_pause_s(error))


class Sender(Protocol):
    """Gives each row its outcome, in order."""

    async def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes of some rows."""
        ...


def told(error: PointsError) -> str:
    """An error in one sentence."""
    if isinstance(error, NotAnswered):
        return f"{error.grpc_code.name} {error.detail}".strip()
    return str(error)


def _pause_s(error: PointsError) -> float:
    """How long to wait before another attempt: as long as the server asks for, and not less than our own pause."""
    return max(PAUSE_S, told_s(error) or 0.0)


def outcome_of(error: Refused) -> Outcome:
    """A refusal as an outcome, with the fields that are malformed."""
    fields = "".join(f"; {one.field}: {one.description}" for one in error.violations)
    return Outcome(refused=(error.number, error.reason, f"{error.message}{fields}"), replayed=error.replayed)


def malformed(code: Code, field_name: str, expected: str) -> Outcome:
    """What the server would say of a malformed field."""
    return found_here(outcome.wrong_field(code, field_name, expected))


def found_here(refused: outcome.Refused) -> Outcome:
    """A refusal that was found out here, told as the server tells it."""
    error = refused_by(status_of(refused))
    assert error is not None, refused.code
    return outcome_of(error)


def known_outcome(row: Row) -> Outcome | None:
    """The outcome of a row that needs no server."""
    if row.wrong is not None:
        return malformed(row.wrong.code, row.wrong.field, row.wrong.expected)
    return NOTHING if row.request is None else None


async def settled(ask: Callable[[], Awaitable[Answer]], patience: Patience) -> Answer | Refused:
    """Calls until there is an answer, or a refusal by the rules."""
    bugs = 0
    while True:
        try:
            answer = await ask()
        except Refused as error:
            if error.grpc_code in _RULES:
                patience.answered()
                return error
            if error.grpc_code in _FORBIDS:
                raise forbidden(error) from None
            bugs += error.grpc_code is GrpcCode.INTERNAL
            if bugs >= BUG_ATTEMPTS_MAX:
                return error
            await patience.wait(error)
        except NotAnswered as error:
            if error.grpc_code in _FORBIDS:
                raise forbidden(error) from None
            await patience.wait(error)
        else:
            patience.answered()
            return answer


class Customers:
    """Creates customers, many calls at once."""

    def __init__(self, client: AsyncPointsClient, patience: Patience) -> None:
        """Uses a client that is open."""
        self._client = client
        self._patience = patience

    async def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """Each row is a call."""
        return list(await asyncio.gather(*map(self._one, rows)))

    async def _one(self, row: Row) -> Outcome:
        known = known_outcome(row)
        if known is not None:
            return known
        request = row.request
        assert isinstance(request, CreateCustomer)
        answer = await settled(lambda: self._client.create_customer(request), self._patience)
        return outcome_of(answer) if isinstance(answer, Refused) else Outcome(accepted=True, replayed=answer.replayed)


class Issues:
    """Issues points, a batch a call."""

    def __init__(self, client: AsyncPointsClient, patience: Patience) -> None:
        """Uses a client that is open."""
        self._client = client
        self._patience = patience

    async def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """The rows are sent together; those that the machinery failed are sent again."""
        found = {row.number: known for row in rows if (known := known_outcome(row)) is not None}
        bugs: dict[int, int] = {}
        open_rows = [row for row in rows if row.number not in found]
        while open_rows:
            last = await self._round(open_rows, found, bugs)
            left = [row for row in open_rows if row.number not in found]
            if len(left) < len(open_rows):
                self._patience.answered()
            if left and last is not None:
                await self._patience.wait(last)
            open_rows = left
        return [found[row.number] for row in rows]

    async def _round(self, rows: Sequence[Row], found: dict[int, Outcome], bugs: dict[int, int]) -> Refused | None:
        """Sends rows once and notes what has its outcome; the last of what the machinery said."""
        requests = [row.request for row in rows if isinstance(row.request, IssuePoints)]
        request = issuance_service_pb2.BatchIssuePointsRequest(requests=requests)
        answer = await settled(lambda: self._client.batch_issue_points(request), self._patience)
        if isinstance(answer, Refused):
            raise forbidden(answer)
        last = None
        for row, one in zip(rows, answer.outcomes, strict=True):
            if one.WhichOneof("outcome") == "response":
                expired = any(warning.code == codes.POINTS_NOT_ALLOCATED.number for warning in one.response.warnings)
                found[row.number] = Outcome(accepted=True, replayed=one.response.replayed, expired=expired)
                continue
            error = refused_by(one.status, "IssuePoints")
            if error is None:
                raise Stopped(f"row {row.number}: a status without a reason: {one.status.message}")
            bugs[row.number] = bugs.get(row.number, 0) + (error.grpc_code is GrpcCode.INTERNAL)
            if error.grpc_code in _RULES or bugs[row.number] >= BUG_ATTEMPTS_MAX:
                found[row.number] = outcome_of(error)
            elif error.grpc_code in _FORBIDS:
                raise forbidden(error)
            else:
                last = error
        return last
