"""The front door of the writer: submissions go out to its process, answers come back to whoever waits.

What may wait is bounded here. Which answers are certain is known here, too: what the writer marked as taken may have
been written although no answer came; what it did not mark is certainly not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from points_grpc.domain.commands import Submission
from points_grpc.domain.decide import ACKNOWLEDGEMENTS
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.service.frames import Answered, BugReport, Drain, DropWaiting, FromWriter, Garbled, Sent, Unable, Work
from points_grpc.service.link import Link
from points_grpc.service.meter import Counted
from points_grpc.service.ports import NotTaken
from points_grpc.service.writer import bug_report, refused


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait. Beyond `waiting_max` unanswered commands, or a queue of `age_max_s`, callers are shed.

    Those of organisations with at least their share of what waits: nobody is shed for what others send.
    """

    waiting_max: int = 8192
    age_max_s: float = 5.0


Waited = tuple[object, float]
"""What a traced call is traced by, and when it handed its command over."""


class _Caller(Protocol):
    """Whom to tell: the future of a single submission, or the place of an item in its call."""

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    def set_result(self, result: Settled, /) -> None:
        """Tells the answer."""
        ...


@dataclass(slots=True)
class _Unanswered:
    """A submission that the writer was sent, and whom to tell. `taken`: whether its mark was seen, or its answer.

    `waited`: what its call is traced by, where it is.
    """

    submission: Submission
    caller: _Caller
    taken: bool = False
    waited: Waited | None = None


class _Items:
    """The answers to items that were handed over together: one future for all of them."""

    __slots__ = ("answers", "future", "missing")

    def __init__(self, future: asyncio.Future[Sequence[Settled]], size: int) -> None:
        self.future = future
        self.missing = size
        self.answers: list[Settled | None] = [None] * size


class _Item:
    """The place of one item among those."""

    __slots__ = ("_items", "_place")

    def __init__(self, items: _Items, place: int) -> None:
        self._items = items
        self._place = place

    def done(self) -> bool:
        """Whether the caller went away."""
        return self._items.future.done()

    def set_result(self, result: Settled, /) -> None:
        """Keeps the answer; the last one tells them all."""
        items = self._items
        items.answers[self._place] = result
        items.missing -= 1
        if not items.missing:
            items.future.set_result([answer for answer in items.answers if answer is not None])


class Observer(Protocol):
    """Whom the committer tells what the writer did; for metrics and logs."""

    def batch(self, *, size: int, seconds: float, oldest_wait_s: float, counted: Counted) -> None:
        """A batch was run."""
        ...

    def bug(self, report: BugReport) -> None:
        """A command, or the writer itself, failed for a cause that nobody foresaw."""
        ...

    def unable(self, message: str) -> None:
        """The writer ends because it cannot go on; says why, in a sentence for the operator."""
        ...


class Tracer(Protocol):
    """Traces what the writer does for calls, where that is wanted."""

    def current(self) -> object | None:
        """What the present call is traced by; None if it is not."""
        ...

    def batch(self, waited: Sequence[Waited], answered: Answered, received_at: float) -> None:
        """A batch was answered for calls that are traced."""
        ...


class Committer:
    """Takes submissions on the event loop and answers them there. Without a writer it refuses them at once."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        observer: Observer,
        limits: QueueLimits | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`monotonic` is the clock of all deadlines, and has to be the same in the writer's process."""
        self._monotonic = monotonic
        self._observer = observer
        self._limits = limits or QueueLimits()
        self._tracer = tracer
        self._link: Link | None = None
        self._unanswered: dict[int, _Unanswered] = {}
        self._waiting_of: Counter[int] = Counter()
        self._last_number = 0
        self._queue_age_s = 0.0
        self._draining = False

    @property
    def waiting(self) -> int:
        """How many submissions are not answered yet."""
        return len(self._unanswered)

    @property
    def queue_age_s(self) -> float:
        """How long the oldest of the last batch had waited; 0 if nothing waited behind it."""
        return self._queue_age_s

    def attach(self, link: Link) -> None:
        """Gives it a writer that is ready; the one before is gone."""
        assert self._link is None, "one writer at a time"
        self._link = link
        link.attach(self._received, self._lost)

    async def submit(self, submission: Submission, deadline: float) -> Settled:
        """Hands a submission over and waits for its answer. `deadline` is an instant of the monotonic clock."""
        is_own = isinstance(submission.command, ACKNOWLEDGEMENTS)
        if shed := self._closed() if is_own else self._sheds(submission.org_id, 1):
            return refused(submission, shed)
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        [waiting] = self._send((submission,), (future,), deadline)
        try:
            return await future
        except asyncio.CancelledError:
            if deadline <= self._monotonic() and not self._is_taken(waiting):
                raise NotTaken from None
            raise

    def refuses(self, org_id: int, items: int, operation: str) -> Refused | None:
        """Why a call with so many items is not taken: they count like single submissions, and it is shed whole."""
        shed = self._sheds(org_id, items)
        return refusal_of(shed, operation) if shed else None

    def submit_some(self, submissions: Sequence[Submission], deadline: float) -> asyncio.Future[Sequence[Settled]]:
        """Hands some items of one call over in one go, next to each other; an answer for each, in order.

        The call was admitted whole (`refuses`): they are taken unless the writer is gone or a drain has begun since.
        """
        future: asyncio.Future[Sequence[Settled]] = asyncio.get_running_loop().create_future()
        shed = self._closed()
        if shed:
            future.set_result([refused(one, shed) for one in submissions])
        elif not submissions:
            future.set_result(())
        else:
            items = _Items(future, len(submissions))
            self._send(submissions, [_Item(items, place) for place in range(len(submissions))], deadline)
        return future

    def drop_waiting(self) -> None:
        """Has the writer answer what still waits as not taken. What it has in hand is carried out and answered."""
        if self._link is not None:
            self._link.send(DropWaiting())

    async def drain(self) -> None:
        """Takes no more submissions and returns once the writer has answered all that wait, and ended."""
        self._draining = True
        if self._link is not None:
            link = self._link
            link.send(Drain())
            await link.ended.wait()

    def _closed(self) -> Failure | None:
        """Why nothing is taken any more, not even of a call that was admitted."""
        if self._draining:
            return Failure.SHUTTING_DOWN
        return Failure.STORAGE_UNAVAILABLE if self._link is None else None

    def _sheds(self, org_id: int, more: int) -> Failure | None:
        """Why so many more submissions of an organisation are not taken."""
        if closed := self._closed():
            return closed
        waiting, limits = len(self._unanswered), self._limits
        if waiting + more <= limits.waiting_max and self._queue_age_s <= limits.age_max_s:
            return None
        own = self._waiting_of[org_id]
        sharers = len(self._waiting_of) + (not own)
        fits = (own + more) * sharers <= limits.waiting_max
        is_prompt = self._queue_age_s <= limits.age_max_s or own * sharers < waiting
        return None if fits and is_prompt else Failure.OVERLOADED

    def _send(
        self, submissions: Sequence[Submission], callers: Sequence[_Caller], deadline: float
    ) -> list[_Unanswered]:
        assert self._link is not None, "attached"
        first = self._last_number + 1
        self._last_number += len(submissions)
        now = self._monotonic()
        self._link.send(Work([Sent(number, deadline, now, one) for number, one in enumerate(submissions, first)]))
        waiting = [_Unanswered(one, caller) for one, caller in zip(submissions, callers, strict=True)]
        if self._tracer is not None and (span := self._tracer.current()) is not None:
            for one in waiting:
                one.waited = (span, now)
        self._unanswered.update(enumerate(waiting, first))
        self._waiting_of[submissions[0].org_id] += len(submissions)
        return waiting

    def _forget(self, org_id: int) -> None:
        """Counts one less that waits."""
        self._waiting_of[org_id] -= 1
        if not self._waiting_of[org_id]:
            del self._waiting_of[org_id]

    def _is_taken(self, waiting: _Unanswered) -> bool:
        """Whether a submission whose deadline has passed may be, or may have been, executed.

        The writer marks what it takes before it looks at the clock, and CLOCK_MONOTONIC is one for the whole system. We
        looked at the clock first, and it was past the deadline. If the pipe holds no mark now, then the mark is written
        later, if ever; and the writer's look at the clock comes later still, sees a passed deadline, and drops it.
        """
        self._read_marks()
        return waiting.taken

    def _read_marks(self) -> None:
        if self._link is not None:
            for number in self._link.taken():
                waiting = self._unanswered.get(number)
                if waiting is not None:
                    waiting.taken = True

    # -- from the writer -----------------------------------------------------------------------------------------------

    def _received(self, message: FromWriter) -> None:
        match message:
            case Answered():
                self._settle(message)
            case BugReport():
                self._observer.bug(message)
            case Unable():
                self._observer.unable(message.message)
            case _:
                raise Garbled

    def _settle(self, answered: Answered) -> None:
        self._queue_age_s = answered.queue_age_s
        waited: list[Waited] = []
        for number, settled in answered.answers:
            one = self._unanswered.pop(number, None)
            if one is None:
                raise Garbled
            one.taken = True
            self._forget(one.submission.org_id)
            if one.waited is not None:
                waited.append(one.waited)
            if not one.caller.done():
                one.caller.set_result(settled)
        self._read_marks()  # So that the pipe never fills up; those of what was answered just now mean nothing more.
        try:
            self._tell(answered, waited)
        except Exception as error:  # noqa: BLE001 - who counts and traces must not keep the next answers from callers
            self._observer.bug(bug_report(error))

    def _tell(self, answered: Answered, waited: Sequence[Waited]) -> None:
        if self._tracer is not None and waited:
            self._tracer.batch(waited, answered, self._monotonic())
        self._observer.batch(
            size=answered.size,
            seconds=answered.seconds,
            oldest_wait_s=answered.oldest_wait_s,
            counted=answered.counted,
        )

    def _lost(self) -> None:
        """Answers for a writer that is gone. Its last marks were written before its end of the stream was closed."""
        self._read_marks()
        link, self._link = self._link, None
        assert link is not None, "attached"
        link.close()
        unanswered, self._unanswered = self._unanswered, {}
        self._waiting_of.clear()
        self._queue_age_s = 0.0
        for one in unanswered.values():
            one.taken = one.taken or not link.is_understood
            failure = Failure.OUTCOME_UNKNOWN if one.taken else Failure.STORAGE_UNAVAILABLE
            if not one.caller.done():
                one.caller.set_result(refused(one.submission, failure))
