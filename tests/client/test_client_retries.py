"""When a call is sent again, and after how long: the table of the advice, without a network."""

from __future__ import annotations

from typing import Any

import pytest

from points_grpc import codes
from points_grpc.client import Retries
from points_grpc.client.decode import exception_of
from points_grpc.client.errors import NotAnswered, PointsError, Refusal, Silence
from points_grpc.client.retries import may_repeat, pause_s
from points_grpc.codes import CATALOGUE, Code, GrpcCode, Retry


def refused(code: Code, **given: Any) -> PointsError:
    """A refusal with a code."""
    return exception_of(Refusal(code.grpc, code.number, code.reason, code.message, {}, **given), "TransferPoints")


def silence(grpc: GrpcCode, attempts: int = 1) -> PointsError:
    """A call that ended without the service's word."""
    return NotAnswered(Silence(grpc, "", "id", wrote=True, attempts=attempts))


def longest(_: float, most: float) -> float:
    """A chance that always says the most."""
    return most


def shortest(least: float, _: float) -> float:
    """A chance that always says the least."""
    return least


def test_the_catalogue_decides() -> None:
    """What is sent again is what the catalogue advises so, save a stale revision, which has to be read first."""
    repeated = {code.reason for code in CATALOGUE if may_repeat(refused(code))}
    advised = {code.reason for code in CATALOGUE if code.retry is Retry.SAME_REQUEST_ID_LATER}

    assert repeated == advised - {"REVISION_CONFLICT"}


def test_every_unavailable_is_repeated() -> None:
    """UNAVAILABLE always means that nothing was written, also with a reason that this version does not know."""
    unknown = exception_of(Refusal(GrpcCode.UNAVAILABLE, 20_000, "FUTURE_REASON", "", {}), "TransferPoints")

    assert may_repeat(unknown)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (silence(GrpcCode.UNAVAILABLE), True),
        (silence(GrpcCode.CANCELLED), True),
        (silence(GrpcCode.DEADLINE_EXCEEDED), False),
        (silence(GrpcCode.RESOURCE_EXHAUSTED), False),
        (silence(GrpcCode.UNIMPLEMENTED), False),
        (refused(codes.RATE_LIMITED), False),
        (refused(codes.RATE_LIMITED, pushback_ms=200), True),
        (refused(codes.TRANSFER_LIMIT_EXCEEDED, retry_after_s=60.0), False),
        (refused(codes.OUTCOME_UNKNOWN), True),
        (refused(codes.OUTCOME_UNKNOWN, pushback_ms=-1), False),
        (refused(codes.OVERLOADED, pushback_ms=-1), False),
        (refused(codes.INTERNAL_FAILURE), True),
        (refused(codes.INTERNAL_FAILURE, attempts=2), False),
    ],
)
def test_what_is_repeated(error: PointsError, expected: bool) -> None:
    """A lost connection and a pushback are repeated; never what forbids it, and a bug once."""
    assert expected == may_repeat(error)


@pytest.mark.parametrize(
    ("attempts", "least", "most"), [(1, 0.05, 0.1), (2, 0.1, 0.2), (4, 0.4, 0.8), (7, 1.0, 2.0), (20, None, None)]
)
def test_pauses_double(attempts: int, least: float | None, most: float | None) -> None:
    """Pauses double up to the longest, between half and whole, until the attempts are used up."""
    error = silence(GrpcCode.UNAVAILABLE, attempts)

    assert (least, most) == (pause_s(Retries(), error, shortest), pause_s(Retries(), error, longest))


def test_pauses_of_callers_who_never_give_up() -> None:
    """After any number of attempts the pause is the longest, and no number too large to compute with."""
    error = silence(GrpcCode.UNAVAILABLE, 100_000)

    assert 2.0 == pause_s(Retries(attempts_max=1_000_000), error, longest)


def test_the_server_is_waited_for() -> None:
    """A pause that the server asks for is kept and never shortened; the trailer goes before RetryInfo."""
    told = refused(codes.OVERLOADED, retry_after_s=2.0)
    pushed = refused(codes.OVERLOADED, retry_after_s=2.0, pushback_ms=300)

    assert (2.0, 2.5) == (pause_s(Retries(), told, shortest), pause_s(Retries(), told, longest))
    assert (0.3, 0.375) == (pause_s(Retries(), pushed, shortest), pause_s(Retries(), pushed, longest))


def test_bounds_are_checked() -> None:
    """Retries without an attempt, or with a pause below zero, are a mistake of the program."""
    for wrong in ({"attempts_max": 0}, {"pause_min_s": 0.0}, {"pause_max_s": 0.01}):
        with pytest.raises(ValueError, match="Retries"):
            Retries(**wrong)
