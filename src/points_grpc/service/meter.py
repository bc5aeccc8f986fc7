"""What the writer counts while it works, and what of it travels to the server: a few numbers for each batch.

Counted is what was committed, so that a batch that is run again counts once. Nothing here names a customer, a program
or an organisation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from msgspec import Struct

from points_grpc import codes
from points_grpc.domain.events import Booked, Event, MessageQueued, MessageSettled, NoticeSettled, OtpSaved
from points_grpc.domain.model import Kind, OtpState
from points_grpc.domain.outcome import Refused, Settled

STATEMENT_CHARS_MAX = 400
"""How much of a statement's text a trace holds: which one it is can be seen from its beginning."""


class Counted(Struct, frozen=True, array_like=True):
    """What one batch came to.

    `commit_s`: what its commits took. `points`: what was booked, by kind of journal transaction; `otps`, `messages` and
    `notices`: what became of one-time codes, of what carries them, and of business events; `refused`: commands, by
    reason, what is answered again left out. `steps`, for traces alone: what began when, by the monotonic clock; each
    lasts until the next one begins.
    """

    commit_s: float = 0.0
    conflicts: int = 0
    deferred: int = 0
    points: dict[str, int] = {}
    otps: dict[str, int] = {}
    messages: dict[str, int] = {}
    refused: dict[str, int] = {}
    steps: list[tuple[float, str]] = []
    notices: dict[str, int] = {}


NOTHING = Counted()

_COUNTED = frozenset({MessageQueued, MessageSettled, NoticeSettled, OtpSaved})
_KINDS = max(Kind) + 1
"""Points are counted in a list, by the number of their kind: names are looked up once a batch."""


class _Tally:
    """What one transaction counts."""

    __slots__ = ("messages", "notices", "otps", "points", "refused")

    def __init__(self) -> None:
        self.points = [0] * _KINDS
        self.otps: dict[str, int] = {}
        self.messages: dict[str, int] = {}
        self.notices: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def count(self, event: Event) -> None:
        match event:
            case MessageQueued():
                _add(self.otps, "ISSUED")
            case MessageSettled():
                _add(self.messages, _fate(event))
            case NoticeSettled():
                _add(self.notices, _fate(event))
            case OtpSaved(otp=otp) if otp.state is OtpState.USED:
                _add(self.otps, "USED")
            case _:
                return

    def count_refusal(self, refused: Refused) -> None:
        _add(self.refused, refused.code.reason)
        if refused.code is codes.INVALID_VALIDATION_CODE:
            _add(self.otps, refused.metadata["otp_state"])

    def add(self, other: _Tally) -> None:
        self.points = [one + more for one, more in zip(self.points, other.points, strict=True)]
        for mine, theirs in (
            (self.otps, other.otps),
            (self.messages, other.messages),
            (self.notices, other.notices),
            (self.refused, other.refused),
        ):
            for name, count in theirs.items():
                _add(mine, name, count)


class Meter:
    """Counts for one batch after another; for the writer's thread alone.

    All that can fail is done by `count`, before the commit: a batch that failed after it would be taken for one that
    wrote nothing, and run again.
    """

    __slots__ = ("_commit_s", "_conflicts", "_done", "_staged", "_steps")

    def __init__(self) -> None:
        self._clear()

    def count(self, events: Iterable[Event], answers: Iterable[object]) -> None:
        """A transaction is about to be committed: what it changes, and what is answered."""
        tally = self._staged = _Tally()
        points = tally.points
        for event in events:
            # By type, as events have no subclasses: an isinstance that does not hold costs five times as much.
            kind = type(event)
            if kind is Booked:
                entry = cast("Booked", event).entry
                points[entry.kind] += entry.points
            elif kind in _COUNTED:
                tally.count(event)
        for answer in answers:
            if type(answer) is Settled and type(answer.outcome) is Refused and not answer.replayed:
                tally.count_refusal(answer.outcome)

    def committed(self, seconds: float) -> None:
        """The transaction that was counted last is committed."""
        self._commit_s += seconds
        self._done.append(self._staged)

    def conflicted(self) -> None:
        """A batch has to be run again."""
        self._conflicts += 1

    def step(self, at: float, name: str) -> None:
        """Something began that a trace shows."""
        self._steps.append((at, name[:STATEMENT_CHARS_MAX]))

    def take(self, *, deferred: int) -> Counted:
        """What was counted since this was last asked."""
        total = self._done[0] if self._done else _Tally()
        for more in self._done[1:]:
            total.add(more)
        points = total.points
        counted = Counted(
            self._commit_s,
            self._conflicts,
            deferred,
            {kind.name: points[kind] for kind in Kind if points[kind]} if any(points) else {},
            total.otps,
            total.messages,
            total.refused,
            self._steps,
            total.notices,
        )
        self._clear()
        return counted

    def _clear(self) -> None:
        self._commit_s = 0.0
        self._conflicts = 0
        self._staged = _Tally()
        self._done: list[_Tally] = []
        self._steps: list[tuple[float, str]] = []


def _fate(event: MessageSettled | NoticeSettled) -> str:
    if event.delivered:
        return "DELIVERED"
    return "GIVEN_UP" if event.retry_at is None else "RETRIED"


def _add(counts: dict[str, int], name: str, count: int = 1) -> None:
    counts[name] = counts.get(name, 0) + count
