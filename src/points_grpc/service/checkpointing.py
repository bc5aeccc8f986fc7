"""Checkpoints of the journal by the server itself: one thread that signs where all streams stand, every so often.

Before it signs, it looks whether the journal still holds what the last checkpoints say: a journal that was rewritten or
cut is not vouched for, and that is told instead. Of all servers of a database the one on duty signs (`duty`). Nothing
here goes through the writer: where the disk of the checkpoints fails or hangs, checkpoints fail and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Protocol

from points_grpc.domain.checkpoint import Checkpoint, CheckpointHead, furthest

LOOK_S = 60.0
"""How often it is looked whether a checkpoint is due, at most: another server may have been on duty and made the last
one. After a failure, when the next attempt is."""

LOOKS = 10
"""So many looks there are in an interval, at least."""

_SECOND_US = 1_000_000

MADE, FAILED, CONTRADICTED = OUTCOMES = ("made", "failed", "contradicted")


class SignedHeads(Protocol):
    """What is read; blocking. Safe from any thread."""

    def heads(self) -> Sequence[CheckpointHead]:
        """The heads of all streams, in one snapshot."""
        ...

    def lacking(self, heads: Sequence[CheckpointHead]) -> Sequence[CheckpointHead]:
        """Those of the heads that the journal does not hold any more: no such position, or another hash there."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept: the newest one whose time has come, None if there is none; and those whose time has not.

    A clock that was ahead made these, or now one is behind. They do not count as made, and what they say holds.
    """

    last: Checkpoint | None
    ahead: Sequence[Checkpoint]


class Shelf(Protocol):
    """Where checkpoints are kept. Both raise `OSError`."""

    def kept(self, now_us: int) -> Kept:
        """Those by which the next one is judged. Only such whose signature is right."""
        ...

    def put(self, made: Checkpoint, signature: bytes) -> str:
        """Keeps one, whole or not at all, and so that a power cut does not take it; what it is called."""
        ...


class Observer(Protocol):
    """Whom it is told."""

    def made(self, name: str, streams: int, key_id: str) -> None:
        """A checkpoint was made."""
        ...

    def failed(self, error: str) -> None:
        """One was due, and could not be made."""
        ...

    def contradicted(self, head: CheckpointHead) -> None:
        """The journal does not hold what a checkpoint says of a stream: none was made."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How the checkpoints stand. Times in microseconds; `last` is None where there is none yet."""

    last: Checkpoint | None
    overdue_us: int


class Checkpointing:
    """Makes a checkpoint every so often until it is stopped. `standing` and `outcomes` may be asked from any thread."""

    def __init__(
        self,
        journal: SignedHeads,
        shelf: Shelf,
        *,
        sign: Callable[[int, Sequence[CheckpointHead]], tuple[Checkpoint, bytes]],
        now_us: Callable[[], int],
        observer: Observer,
        interval_s: float,
        on_duty: Callable[[], bool],
    ) -> None:
        """`now_us` is the time in microseconds since 1970; `on_duty` whether nobody else may be making them."""
        self._journal = journal
        self._shelf = shelf
        self._sign = sign
        self._now_us = now_us
        self._observer = observer
        self._interval_us = int(interval_s * _SECOND_US)
        self._pause_s = min(LOOK_S, interval_s / LOOKS)
        self._on_duty = on_duty
        self._started_at = now_us()
        self._last: Checkpoint | None = None
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._stop = Event()
        self._thread = Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Asks the thread to end, and waits for it; a disk that hangs is not waited for longer than that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def standing(self) -> Standing:
        """How they stand now. Only who is on duty knows of one that is overdue."""
        since = self._started_at if self._last is None else self._last.made_at
        overdue_us = self._now_us() - since - self._interval_us if self._on_duty() else 0
        return Standing(self._last, max(0, overdue_us))

    def look(self) -> bool:
        """Makes a checkpoint if one is due here; whether all went well."""
        try:
            kept = self._shelf.kept(self._now_us())
            self._last = kept.last
            if self._on_duty() and self._is_due():
                self._make(furthest([*kept.ahead, *([kept.last] if kept.last else [])]))
        except Exception as error:  # noqa: BLE001 - the thread must not end: the next look may find it mended
            self.outcomes[FAILED] += 1
            self._observer.failed(type(error).__name__)
            return False
        return True

    def _is_due(self) -> bool:
        """Whether the last one is old enough."""
        return self._last is None or self._now_us() - self._last.made_at >= self._interval_us

    def _make(self, vouched: Sequence[CheckpointHead]) -> None:
        heads = self._journal.heads()
        if vouched and (lacking := self._journal.lacking(vouched)):
            self.outcomes[CONTRADICTED] += 1
            self._observer.contradicted(lacking[0])
            return
        made, signature = self._sign(self._now_us(), heads)
        name = self._shelf.put(made, signature)
        self._last = made
        self.outcomes[MADE] += 1
        self._observer.made(name, len(heads), made.key_id)

    def _run(self) -> None:
        while True:
            self.look()
            if self._stop.wait(self._pause_s):
                return
