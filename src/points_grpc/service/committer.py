"""Group commit: callers wait in a queue per organisation, one writer thread takes what is there and commits it at once.

No timer is needed: while a batch commits, the next one gathers. A lone caller is a batch of one and waits for nobody.
Organisations take turns. Expired in the queue: dropped, nothing written. Taken: executed, whatever the caller does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from points_grpc.domain.commands import RedeemPoints, Submission, operation_of
from points_grpc.domain.decide import EXCLUSIVE
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Accepted, Outcome, RedemptionResult, Refused, Settled
from points_grpc.service.executor import Answer, Deferred
from points_grpc.service.ports import (
    NotTaken,
    NotWritable,
    OutcomeUnknown,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
    WriterFenced,
)

CONFLICT_RETRIES = 5
"""How often a batch is run again after a conflict before its callers are told."""

CONFLICT_MAX_S = 4.0
"""For how long. A lock that another process holds is waited for about as long, and once is enough: waiting for it again
and again would outlive every deadline, and callers would be told that the outcome is open although it is not."""


_FAILURES = {
    OutcomeUnknown: Failure.OUTCOME_UNKNOWN,
    StorageFull: Failure.STORAGE_FULL,
    StorageUnavailable: Failure.STORAGE_UNAVAILABLE,
    WriterFenced: Failure.STORAGE_UNAVAILABLE,
}
"""What callers are told of a store that failed a batch for certain, or without saying."""


class BatchRunner(Protocol):
    """What decides and commits a batch; `executor.Executor` in the service."""

    def run(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """One answer per submission, in order."""
        ...


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait. `batch_max` commands share a commit; beyond `waiting_max` or `age_max_s` callers are shed."""

    batch_max: int = 256
    waiting_max: int = 8192
    age_max_s: float = 5.0


class _Caller(Protocol):
    """Whom to tell: the future of a single submission, or the place of an item in its call."""

    def done(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    def set_result(self, result: Settled, /) -> None:
        """Tells the answer."""
        ...


@dataclass(slots=True)
class _Waiting:
    """A submission in the queue and whom to tell."""

    submission: Submission
    deadline: float
    enqueued_at: float
    caller: _Caller
    alone: bool = False
    taken: bool = False


class _Items:
    """The answers of one call with several items: one future for all of them."""

    __slots__ = ("answers", "future", "missing")

    def __init__(self, future: asyncio.Future[None], size: int) -> None:
        self.future = future
        self.missing = size
        self.answers: list[Settled | None] = [None] * size


class _Item:
    """The place of one item in its call."""

    __slots__ = ("_items", "_place")

    def __init__(self, items: _Items, place: int) -> None:
        self._items = items
        self._place = place

    def done(self) -> bool:
        """Whether the caller went away."""
        return self._items.future.done()

    def set_result(self, result: Settled, /) -> None:
        """Keeps the answer; the last one answers the call."""
        items = self._items
        items.answers[self._place] = result
        items.missing -= 1
        if not items.missing:
            items.future.set_result(None)


class Observer(Protocol):
    """Whom the committer tells what it did; for metrics and logs."""

    def batch(self, *, size: int, seconds: float, oldest_wait_s: float) -> None:
        """A batch was run."""
        ...

    def bug(self, submission: Submission, error: BaseException) -> None:
        """A command failed for a cause that nobody foresaw."""
        ...


class Committer:
    """Takes submissions from the event loop and answers them from the writer thread."""

    def __init__(
        self,
        runner: BatchRunner,
        *,
        monotonic: Callable[[], float],
        observer: Observer,
        pause: Callable[[int], None],
        limits: QueueLimits | None = None,
    ) -> None:
        """`pause` waits before the n-th retry after a conflict; `monotonic` is the clock of all deadlines."""
        self._runner = runner
        self._monotonic = monotonic
        self._observer = observer
        self._pause = pause
        self._limits = limits or QueueLimits()
        self._inbox: SimpleQueue[Sequence[_Waiting] | None] = SimpleQueue()
        self._queues: dict[int, deque[_Waiting]] = {}
        self._turns: deque[int] = deque()
        self._waiting = 0
        self._oldest_wait_s = 0.0
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._write, name="writer", daemon=True)

    def start(self) -> None:
        """Starts the writer thread; to be called on the event loop that submits."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def submit(self, submission: Submission, deadline: float) -> Settled:
        """Queues a submission and waits for its answer. `deadline` is an instant of the monotonic clock."""
        if shed := self._sheds(1):
            return self._refused(submission, shed)
        assert self._loop is not None, "started"
        future: asyncio.Future[Settled] = self._loop.create_future()
        self._waiting += 1
        waiting = _Waiting(submission, deadline, self._monotonic(), future)
        self._inbox.put((waiting,))
        try:
            return await future
        except asyncio.CancelledError:
            # Past its deadline: `_take` would drop it from now on, since it marks first and looks at the clock then.
            if not waiting.taken and deadline <= self._monotonic():
                raise NotTaken from None
            raise

    async def submit_many(self, submissions: Sequence[Submission], deadline: float) -> Sequence[Settled] | Refused:
        """Queues the items of one call in one go, next to each other; an answer for each, in order.

        Items count like single submissions: a call that does not fit the queue is shed whole, and nothing was written.
        """
        if not submissions:
            return ()
        if shed := self._sheds(len(submissions)):
            return refusal_of(shed, operation_of(submissions[0].command))
        assert self._loop is not None, "started"
        future: asyncio.Future[None] = self._loop.create_future()
        items = _Items(future, len(submissions))
        now = self._monotonic()
        self._waiting += len(submissions)
        self._inbox.put([_Waiting(one, deadline, now, _Item(items, place)) for place, one in enumerate(submissions)])
        await future
        return [answer for answer in items.answers if answer is not None]

    async def drain(self) -> None:
        """Takes no more submissions, answers all that wait, and ends the writer thread."""
        self._draining = True
        self._inbox.put(None)
        while self._thread.is_alive():
            await asyncio.sleep(0.005)

    def _sheds(self, more: int) -> Failure | None:
        """Why so many more submissions are not taken."""
        if self._draining:
            return Failure.SHUTTING_DOWN
        if self._waiting + more > self._limits.waiting_max or self._oldest_wait_s > self._limits.age_max_s:
            return Failure.OVERLOADED
        return None

    # -- on the writer thread ----------------------------------------------------------------------------------------

    def _write(self) -> None:
        open_ = True
        while open_ or self._turns:
            open_ = self._gather(block=open_ and not self._turns) and open_
            if self._turns:
                self._serve(self._turns.popleft())

    def _gather(self, *, block: bool) -> bool:
        """Moves what arrived into the queues of the organisations; False once the end was reached."""
        try:
            arrived = self._inbox.get(block=block)
            while True:
                if arrived is None:
                    return False
                self._enqueue(arrived)
                arrived = self._inbox.get_nowait()
        except Empty:
            return True

    def _enqueue(self, arrived: Sequence[_Waiting]) -> None:
        """Queues what arrived in one go; a call is of one organisation."""
        org_id = arrived[0].submission.org_id
        queue = self._queues.get(org_id)
        if queue is None:
            queue = self._queues[org_id] = deque()
            self._turns.append(org_id)
        queue.extend(arrived)

    def _serve(self, org_id: int) -> None:
        queue = self._queues[org_id]
        batch, answered = self._take(queue)
        if batch:
            started = self._monotonic()
            answers = self._run(org_id, [one.submission for one in batch])
            ended = self._monotonic()
            oldest_wait_s = started - batch[0].enqueued_at
            self._observer.batch(size=len(batch), seconds=ended - started, oldest_wait_s=oldest_wait_s)
            self._oldest_wait_s = oldest_wait_s
            for one, answer in zip(reversed(batch), reversed(answers), strict=True):
                if isinstance(answer, Deferred):
                    one.alone = answer.alone
                    queue.appendleft(one)
                else:
                    answered.append((one, answer))
        if queue:
            self._turns.append(org_id)
        else:
            del self._queues[org_id]
            self._oldest_wait_s = 0.0 if not self._turns else self._oldest_wait_s
        assert self._loop is not None, "started"
        self._loop.call_soon_threadsafe(self._settle, answered)

    def _take(self, queue: deque[_Waiting]) -> tuple[list[_Waiting], list[tuple[_Waiting, Settled]]]:
        """The next batch of an organisation, and the answers to what expired while it waited."""
        batch: list[_Waiting] = []
        expired: list[tuple[_Waiting, Settled]] = []
        while queue and len(batch) < self._limits.batch_max:
            one = queue[0]
            by_itself = one.alone or isinstance(one.submission.command, EXCLUSIVE)
            if batch and by_itself:
                break
            queue.popleft()
            one.taken = True
            if one.deadline <= self._monotonic():
                expired.append((one, self._refused(one.submission, Failure.EXPIRED_IN_QUEUE)))
                continue
            batch.append(one)
            if by_itself:
                break
        return batch, expired

    def _run(self, org_id: int, batch: list[Submission]) -> list[Answer]:
        """Runs a batch; conflicts run it again, anything else that fails it as a whole runs its commands one by one."""
        give_up_at = self._monotonic() + CONFLICT_MAX_S
        for attempt in range(CONFLICT_RETRIES + 1):
            try:
                return self._runner.run(org_id, batch)
            except StorageConflict:
                if self._monotonic() >= give_up_at:
                    return self._all(batch, Failure.CONFLICT)
                if attempt < CONFLICT_RETRIES:
                    self._pause(attempt)
            except (OutcomeUnknown, StorageFull, StorageUnavailable, WriterFenced) as error:
                return self._all(batch, _FAILURES[type(error)])
            except Exception as error:  # noqa: BLE001 - the last resort: one command must not fail its neighbours
                if len(batch) == 1:
                    self._observer.bug(batch[0], error.__cause__ or error)
                    return [self._refused(batch[0], Failure.WRITE_FAILED, _decided(error))]
                break
        if len(batch) == 1:
            return self._all(batch, Failure.CONFLICT)
        return [answer for one in batch for answer in self._run(org_id, [one])]

    def _all(self, batch: list[Submission], failure: Failure) -> list[Answer]:
        return [self._refused(one, failure) for one in batch]

    @staticmethod
    def _refused(submission: Submission, failure: Failure, decided: Outcome | None = None) -> Settled:
        """`decided`: what could not be written; the balance behind a failed redemption is known from it."""
        command = submission.command
        metadata: dict[str, str] = {}
        if isinstance(command, RedeemPoints):
            metadata["points"] = str(command.points)
        if isinstance(decided, Accepted) and isinstance(decided.result, RedemptionResult):
            left = sum(balance.current for balance in decided.result.balances)
            metadata["current"] = str(left + decided.result.points)
        return Settled(refusal_of(failure, operation_of(command), metadata), submission.request_id)

    # -- back on the event loop --------------------------------------------------------------------------------------

    def _settle(self, answered: list[tuple[_Waiting, Settled]]) -> None:
        self._waiting -= len(answered)
        for one, settled in answered:
            if not one.caller.done():
                one.caller.set_result(settled)


def _decided(error: Exception) -> Outcome | None:
    """What had been decided of the one command that could not be written."""
    return error.outcomes[0] if isinstance(error, NotWritable) and error.outcomes else None
