"""The circuit breaker: when it opens, that it asks nobody while it rests, and how it closes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from points_grpc.domain.letters import Letter, Undelivered
from points_grpc.domain.model import Channel, OtpAction
from points_grpc.service.breaker import FAILURES_MAX, OPEN, REST_S, CircuitBreaker

LETTER = Letter(1, 2, OtpAction.TRANSFER, Channel.EMAIL, "a@b", "1", "", "", datetime(2026, 1, 1, tzinfo=UTC))


class Gateway:
    """A sender that does what it is told, behind a breaker whose clock the test moves."""

    def __init__(self) -> None:
        self.failure: Exception | None = ConnectionError()
        self.asked = 0
        self.now = 100.0
        self.breaker = CircuitBreaker(self, monotonic=lambda: self.now)

    def send(self, letter: Letter) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure

    def outcomes(self, count: int) -> list[str]:
        """What becomes of so many letters."""
        return [self._outcome() for _ in range(count)]

    def _outcome(self) -> str:
        try:
            self.breaker.send(LETTER)
        except Undelivered as error:
            return error.cause
        except ConnectionError:
            return "down"
        return "sent"


def test_it_opens_after_failures_in_a_row_and_asks_nobody_while_it_rests() -> None:
    """What fails at once costs no time limit."""
    gateway = Gateway()

    assert ["down"] * FAILURES_MAX + [OPEN] * 3 == gateway.outcomes(FAILURES_MAX + 3)
    assert FAILURES_MAX == gateway.asked


def test_one_letter_tries_after_the_rest_while_the_others_rest_on() -> None:
    """If that one fails, another rest begins; if it gets through, all do."""
    gateway = Gateway()
    gateway.outcomes(FAILURES_MAX)
    gateway.now += REST_S
    assert ["down", OPEN, OPEN] == gateway.outcomes(3)
    gateway.now += REST_S
    gateway.failure = None

    assert ["sent"] * 3 == gateway.outcomes(3)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Undelivered("SMTP_550", final=True), FAILURES_MAX + 3),
        (Undelivered("HTTP_429", answered=True), FAILURES_MAX + 3),
        (Undelivered("HTTP_503"), FAILURES_MAX),
    ],
)
def test_a_refusal_of_one_letter_is_an_answer(failure: Undelivered, expected: int) -> None:
    """However many receivers do not exist: the gateway works."""
    gateway = Gateway()
    gateway.failure = failure
    gateway.outcomes(FAILURES_MAX + 3)

    assert expected == gateway.asked


def test_only_failures_in_a_row_count() -> None:
    """One success in between begins anew."""
    gateway = Gateway()
    gateway.outcomes(FAILURES_MAX - 1)
    gateway.failure = None
    gateway.outcomes(1)
    gateway.failure = ConnectionError()

    assert ["down"] * (FAILURES_MAX - 1) == gateway.outcomes(FAILURES_MAX - 1)
