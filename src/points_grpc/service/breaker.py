"""A circuit breaker: a sender that failed several times in a row is left alone for a while, then tried by one message.

While the other side is down, its messages fail at once instead of waiting for a time limit each, so that the threads
of the dispatcher stay free for the other senders. A refusal of one letter is an answer, and no failure.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar

from points_grpc.domain.letters import Undelivered

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)

FAILURES_MAX = 5
REST_S = 10.0
OPEN = "CIRCUIT_OPEN"


class Sender(Protocol[Item_contra]):
    """Hands over one thing, or raises."""

    def send(self, item: Item_contra, /) -> None:
        """Returns once it was handed over."""
        ...


class CircuitBreaker(Generic[Item]):
    """A sender around a sender."""

    def __init__(
        self,
        sender: Sender[Item],
        *,
        monotonic: Callable[[], float],
        failures_max: int = FAILURES_MAX,
        rest_s: float = REST_S,
    ) -> None:
        """Opens after `failures_max` failures in a row, for `rest_s` at a time."""
        self._sender = sender
        self._monotonic = monotonic
        self._failures_max = failures_max
        self._rest_s = rest_s
        self._lock = Lock()
        self._failures = 0
        self._rests_until = 0.0

    def send(self, letter: Item) -> None:
        """Sends through the sender, or fails with CIRCUIT_OPEN."""
        self._enter()
        try:
            self._sender.send(letter)
        except Undelivered as error:
            self._leave(failed=not error.answered)
            raise
        except Exception:
            self._leave(failed=True)
            raise
        self._leave(failed=False)

    def _enter(self) -> None:
        with self._lock:
            if self._failures < self._failures_max:
                return
            if self._monotonic() < self._rests_until:
                raise Undelivered(OPEN)
            self._rests_until = self._monotonic() + self._rest_s  # This one tries; the others rest on.

    def _leave(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            if failed:
                self._rests_until = self._monotonic() + self._rest_s
