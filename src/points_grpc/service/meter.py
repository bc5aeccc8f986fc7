"""What the writer counts while it works, and what of it travels to the server: a few numbers for each batch.

Counted is what was committed, so that a batch that is run again counts once. Nothing here names a customer, a program
or an organisation.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from points_grpc import codes
from points_grpc.domain.events import Booked, Event, MessageQueued, MessageSettled, OtpSaved
from points_grpc.domain.model import OtpState
from points_grpc.domain.outcome import Refused, Settled

STATEMENT_CHARS_MAX = 400
"""How much of a statement's text a trace holds: which one it is can be seen from its beginning."""


class Counted(Struct, frozen=True, array_like=True):
    """What one batch came to.

    `commit_s`: what its commits took. `points`: what was booked, by kind of journal transaction; `otps` and `messages`:
    what became of one-time codes and of what carries them; `refused`: commands, by reason, what is answered again left
    out. `steps`, for traces alone: what began when, by the monotonic clock; each lasts until the next one begins.
    """

    commit_s: float = 0.0
    conflicts: int = 0
    deferred: int = 0
    points: dict[str, int] = {}
    otps: dict[str, int] = {}
    messages: dict[str, int] = {}
    refused: dict[str, int] = {}
    steps: list[tuple[float, str]] = []


NOTHING = Counted()


class Meter:
    """Counts for one batch after another; for the writer's thread alone."""

    __slots__ = ("_commit_s", "_conflicts", "_messages", "_otps", "_points", "_refused", "_steps")

    def __init__(self) -> None:
        self._clear()

    def committed(self, seconds: float, events: Iterable[Event], answers: Iterable[object]) -> None:
        """A transaction was committed: what it changed, and what was answered."""
        self._commit_s += seconds
        for event in events:
            if isinstance(event, Booked):
                _add(self._points, event.entry.kind.name, event.entry.points)
            elif isinstance(event, MessageQueued):
                _add(self._otps, "ISSUED")
            elif isinstance(event, OtpSaved) and event.otp.state is OtpState.USED:
                _add(self._otps, "USED")
            elif isinstance(event, MessageSettled):
                _add(self._messages, _fate(event))
        for answer in answers:
            if not isinstance(answer, Settled) or answer.replayed or not isinstance(answer.outcome, Refused):
                continue
            code = answer.outcome.code
            _add(self._refused, code.reason)
            if code is codes.INVALID_VALIDATION_CODE:
                _add(self._otps, answer.outcome.metadata["otp_state"])

    def conflicted(self) -> None:
        """A batch has to be run again."""
        self._conflicts += 1

    def step(self, at: float, name: str) -> None:
        """Something began that a trace shows."""
        self._steps.append((at, name[:STATEMENT_CHARS_MAX]))

    def take(self, *, deferred: int) -> Counted:
        """What was counted since this was last asked."""
        counted = Counted(
            self._commit_s,
            self._conflicts,
            deferred,
            self._points,
            self._otps,
            self._messages,
            self._refused,
            self._steps,
        )
        self._clear()
        return counted

    def _clear(self) -> None:
        self._commit_s = 0.0
        self._conflicts = 0
        self._points: dict[str, int] = {}
        self._otps: dict[str, int] = {}
        self._messages: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._steps: list[tuple[float, str]] = []


def _fate(event: MessageSettled) -> str:
    if event.delivered:
        return "DELIVERED"
    return "GIVEN_UP" if event.retry_at is None else "RETRIED"


def _add(counts: dict[str, int], name: str, more: int = 1) -> None:
    counts[name] = counts.get(name, 0) + more
