"""Group commit: the writer takes what waits of one organisation, decides and commits it at once, and answers.

One thread, which has its process to itself in the service. While a batch runs, the next one gathers in the socket; on
the heels of a batch of several, short rests let it grow (`_Gathering`). A lone caller never waits for others. Expired
in the queue: dropped, nothing written. Taken: executed, whatever the caller does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from points_grpc.domain.commands import RedeemPoints, Submission, operation_of
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Accepted, Outcome, RedemptionResult, Settled
from points_grpc.service.channel import Channel, ServerGone
from points_grpc.service.executor import Answer, Deferred
from points_grpc.service.frames import Answered, BugReport, Drain, DropWaiting, Garbled, Work
from points_grpc.service.meter import Meter
from points_grpc.service.ports import (
    NotWritable,
    OutcomeUnknown,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
    WriterFenced,
)
from points_grpc.service.queue import Queue, Waiting

CONFLICT_RETRIES = 5
"""How often a batch is run again after a conflict before its callers are told."""

CONFLICT_MAX_S = 4.0
"""For how long. A lock that another process holds is waited for about as long, and once is enough: waiting for it again
and again would outlive every deadline, and callers would be told that the outcome is open although it is not."""

LEASE_RENEWED_S = 15.0
"""How often the lease of the writer slot is renewed, also while nothing is written: several times in its life."""

GATHER_FROM = 4
"""A batch as large as this says that many call at once, and that the next ones are on their way."""

GATHER_S_MAX = 0.008
"""How long a batch gathers at most."""

GATHER_SHARE = 0.6
"""How much of the last batch is company enough: the other callers are on their way meanwhile, and server and writer
both have something to do. To wait for all of them leaves one of the two idle."""

GATHER_STEP_S = 0.0005
"""How often a batch that gathers looks who has come."""

_FAILURES = {
    OutcomeUnknown: Failure.OUTCOME_UNKNOWN,
    StorageFull: Failure.STORAGE_FULL,
    StorageUnavailable: Failure.STORAGE_UNAVAILABLE,
}
"""What callers are told of a store that failed a batch for certain, or without saying."""


class BatchRunner(Protocol):
    """What decides and commits a batch; `executor.Executor` in the service."""

    def run(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """One answer per submission, in order."""
        ...


class _Gathering:
    """How long the next batch waits for company: as long as the last one took, for a good part of those it had.

    A batch costs as much as two commands before its first, and what callers send after an answer comes in trickles:
    taken as it comes, batches stay small, the writer busies a core with them, and callers wait longer than this rest.
    """

    __slots__ = ("_ended_at", "_seconds", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._seconds = 0.0
        self._ended_at = 0.0

    def ran(self, size: int, *, started_at: float, ended_at: float) -> None:
        """A batch was run."""
        self._size = size
        self._seconds = ended_at - started_at
        self._ended_at = ended_at

    def until(self, now: float) -> float:
        """Until when to wait for more, from now on."""
        after_a_crowd = self._size >= GATHER_FROM and now - self._ended_at < GATHER_S_MAX
        return now + min(self._seconds, GATHER_S_MAX) if after_a_crowd else now

    def is_enough(self, arrived: int) -> bool:
        """Whether so many need not wait for more."""
        return arrived >= self._size * GATHER_SHARE


class Writer:
    """Serves a channel until it is drained or its other end is gone."""

    def __init__(
        self,
        runner: BatchRunner,
        channel: Channel,
        *,
        monotonic: Callable[[], float],
        pause: Callable[[int], None],
        sleep: Callable[[float], None],
        batch_max: int,
        keep_lease: Callable[[], bool] = lambda: True,
        renewed_s: float = LEASE_RENEWED_S,
        meter: Meter | None = None,
    ) -> None:
        """`pause` waits before the n-th retry after a conflict; `monotonic` is the clock of all deadlines, and `sleep`
        lets so many seconds of it pass.

        `keep_lease` renews the right to write and says whether it was still there. `meter` is the runner's, too.
        """
        self._runner = runner
        self._channel = channel
        self._monotonic = monotonic
        self._pause = pause
        self._sleep = sleep
        self._batch_max = batch_max
        self._queue = Queue()
        self._gathering = _Gathering()
        self._keep_lease = keep_lease
        self._renewed_s = renewed_s
        self._renew_at = monotonic() + renewed_s
        self._meter = meter or Meter()
        self._fruitless = 0
        self._fenced: WriterFenced | None = None
        channel.wake_after(renewed_s)

    def serve(self) -> None:
        """Returns once all that waited was answered after a drain, or at once when the server is gone.

        What was not taken when the server went is dropped: nobody is left to answer, and nothing was written. Raises
        `WriterFenced` if another writer has our slot: nothing can be written any more, and another process must start.
        """
        is_draining = False
        try:
            while self._queue or not is_draining:
                is_first = not self._queue
                is_draining |= self._receive(block=is_first)
                if is_first and self._queue and not is_draining:
                    is_draining = self._gather()
                self._renew()
                if self._queue:
                    self._serve_batch(self._queue.take(self._batch_max))
        except ServerGone:
            return

    def _gather(self) -> bool:
        """Lets the next batch grow; whether there was a drain."""
        now = self._monotonic()
        until = self._gathering.until(now)
        is_draining = False
        while now < until and not is_draining and not self._gathering.is_enough(len(self._queue)):
            self._sleep(min(GATHER_STEP_S, until - now))
            is_draining = self._receive(block=False)
            now = self._monotonic()
        return is_draining

    def _receive(self, *, block: bool) -> bool:
        """Queues what has arrived; whether there was a drain."""
        is_draining = False
        for message in self._channel.receive(block=block):
            match message:
                case Work():
                    self._queue.add(message.items)
                case Drain():
                    is_draining = True
                case DropWaiting():
                    self._drop_waiting()
                case _:
                    raise Garbled
        return is_draining

    def _drop_waiting(self) -> None:
        """Answers what waits without looking at it. What was put off is among that: nothing of it was written."""
        answers = [(one.number, refused(one.submission, Failure.SHUTTING_DOWN)) for one in self._queue.take_all()]
        self._channel.send(Answered(answers, size=0, seconds=0.0, oldest_wait_s=0.0, queue_age_s=0.0))

    def _renew(self) -> None:
        """Renews the lease when it is time. A database that is away or full is asked again next time: a lease outlasts
        that.
        """
        now = self._monotonic()
        if now < self._renew_at:
            return
        self._renew_at = now + self._renewed_s
        try:
            kept = self._keep_lease()
        except (StorageConflict, StorageFull, StorageUnavailable):
            return
        if not kept:
            raise WriterFenced("the lease of the writer slot was lost")

    def _serve_batch(self, taken: Sequence[Waiting]) -> None:
        # First the marks, then the clock: a server that finds no mark after a deadline knows that it is seen here.
        self._channel.mark(one.number for one in taken)
        started = self._monotonic()
        batch = [one for one in taken if one.deadline > started]
        answers = [
            (one.number, refused(one.submission, Failure.EXPIRED_IN_QUEUE)) for one in taken if one.deadline <= started
        ]
        deferred: list[Waiting] = []
        if batch:
            found = self._run(batch[0].submission.org_id, [one.submission for one in batch])
            for one, answer in zip(batch, found, strict=True):
                if isinstance(answer, Deferred):
                    one.alone = one.alone or answer.alone
                    deferred.append(one)
                else:
                    answers.append((one.number, answer))
            self._queue.put_back(deferred)
        ended = self._monotonic()
        self._gathering.ran(len(batch), started_at=started, ended_at=ended)
        oldest_wait_s = started - taken[0].enqueued_at
        self._channel.send(
            Answered(
                answers,
                size=len(batch),
                seconds=ended - started,
                oldest_wait_s=oldest_wait_s,
                queue_age_s=oldest_wait_s if self._queue else 0.0,
                counted=self._meter.take(deferred=len(deferred)),
            )
        )
        if self._fenced is not None:
            raise self._fenced
        self._rest(fruitless=bool(deferred) and not answers)

    def _rest(self, *, fruitless: bool) -> None:
        """Waits a moment once all organisations in turn were put off: others have their customers for as long."""
        self._fruitless = self._fruitless + 1 if fruitless else 0
        if self._fruitless and self._fruitless >= self._queue.organisations:
            self._fruitless = 0
            self._pause(0)

    def _run(self, org_id: int, batch: list[Submission]) -> list[Answer]:
        """Runs a batch; conflicts run it again, anything else that fails it as a whole runs its commands one by one."""
        give_up_at = self._monotonic() + CONFLICT_MAX_S
        for attempt in range(CONFLICT_RETRIES + 1):
            try:
                return self._runner.run(org_id, batch)
            except StorageConflict:
                self._meter.conflicted()
                if self._monotonic() >= give_up_at:
                    return _all(batch, Failure.CONFLICT)
                if attempt < CONFLICT_RETRIES:
                    self._pause(attempt)
            except WriterFenced as error:  # Commands of the batch that ran before this one keep their answers.
                self._fenced = error
                return _all(batch, Failure.STORAGE_UNAVAILABLE)
            except (OutcomeUnknown, StorageFull, StorageUnavailable) as error:
                return _all(batch, _FAILURES[type(error)])
            except Exception as error:  # noqa: BLE001 - the last resort: one command must not fail its neighbours
                if len(batch) == 1:
                    self._channel.send(bug_report(error.__cause__ or error, batch[0]))
                    return [refused(batch[0], Failure.WRITE_FAILED, _decided(error))]
                break
        if len(batch) == 1:
            return _all(batch, Failure.CONFLICT)
        return [answer for one in batch for answer in self._run(org_id, [one])]


def refused(submission: Submission, failure: Failure, decided: Outcome | None = None) -> Settled:
    """The answer to a submission that the machinery failed.

    `decided`: what could not be written; the balance behind a failed redemption is known from it.
    """
    command = submission.command
    metadata: dict[str, str] = {}
    if isinstance(command, RedeemPoints):
        metadata["points"] = str(command.points)
    if isinstance(decided, Accepted) and isinstance(decided.result, RedemptionResult):
        left = sum(balance.current for balance in decided.result.balances)
        metadata["current"] = str(left + decided.result.points)
    return Settled(refusal_of(failure, operation_of(command), metadata), submission.request_id)


def bug_report(error: BaseException, submission: Submission | None = None) -> BugReport:
    """The kind of an error and where it was raised."""
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    report = BugReport(type(error).__name__, tuple(frames))
    if submission is None:
        return report
    return BugReport(report.error, report.frames, operation_of(submission.command), submission.request_id)


def _decided(error: Exception) -> Outcome | None:
    """What had been decided of the one command that could not be written."""
    return error.outcomes[0] if isinstance(error, NotWritable) and error.outcomes else None


def _all(batch: list[Submission], failure: Failure) -> list[Answer]:
    return [refused(one, failure) for one in batch]
