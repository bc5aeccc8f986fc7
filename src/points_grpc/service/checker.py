"""The front door of checks: what waits of one organisation is decided together, off the event loop.

While a batch is decided the next one gathers, as with the writer, so that many callers cost little more than a few and
one thread is busy with the checks of an organisation, not all of them. A lone caller never waits for others. What
expires in the queue is dropped. A check that has to look at many lots is decided alone, and holds up nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from points_grpc.domain.commands import Submission, operation_of
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Settled
from points_grpc.service.executor import Answer, Deferred
from points_grpc.service.ports import StorageUnavailable
from points_grpc.service.reads import ReadPool

BATCH_MAX = 64
"""How many checks are decided together at most."""


class Checking(Protocol):
    """What decides read-only commands; `checks.Checks` in the service."""

    def check(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """The decisions, in order, on one snapshot; of one that wants a batch of its own, that it does."""
        ...


@dataclass(slots=True, frozen=True)
class _Waiting:
    """A check that nobody decided yet, and whom to tell."""

    submission: Submission
    deadline: float
    answer: asyncio.Future[Answer]


class Checker:
    """Decides read-only commands on the read pool. To be used on the event loop."""

    def __init__(self, pool: ReadPool, checking: Checking, monotonic: Callable[[], float]) -> None:
        """`monotonic` is the clock of all deadlines."""
        self._pool = pool
        self._checking = checking
        self._monotonic = monotonic
        self._waiting: dict[int, list[_Waiting]] = {}
        self._deciding: set[asyncio.Task[None]] = set()

    async def check(self, submission: Submission, deadline: float) -> Settled:
        """The decision, or a refusal if the deadline passed in the queue or the store cannot be reached."""
        org_id, loop = submission.org_id, asyncio.get_running_loop()
        one = _Waiting(submission, deadline, loop.create_future())
        gathered = self._waiting.get(org_id)
        if gathered is not None:
            gathered.append(one)
        else:
            self._waiting[org_id] = [one]
            task = loop.create_task(self._decide_all(org_id))
            self._deciding.add(task)
            task.add_done_callback(self._deciding.discard)
        answer = await one.answer
        if isinstance(answer, Deferred):
            [answer] = await self._pool.run(self._decide, org_id, [one])
        assert isinstance(answer, Settled), "nothing else has to be loaded for a check that is alone"
        return answer

    async def _decide_all(self, org_id: int) -> None:
        """Decides what waits of an organisation, batch by batch, until nothing does."""
        gathered = self._waiting[org_id]
        batch: list[_Waiting] = []
        try:
            while gathered:
                batch = [one for one in gathered[:BATCH_MAX] if not one.answer.done()]
                del gathered[:BATCH_MAX]
                if batch:
                    await self._decide_together(org_id, batch)
        finally:
            del self._waiting[org_id]
            for one in (*batch, *gathered):  # Nobody is left where this ended by itself.
                one.answer.cancel()

    async def _decide_together(self, org_id: int, batch: Sequence[_Waiting]) -> None:
        """Decides a batch and tells the callers. Those who failed together are decided alone; a lone one is told."""
        answers: list[Answer]
        try:
            answers = await self._pool.run(self._decide, org_id, batch)
        except Exception as error:  # noqa: BLE001 - whoever caused it is told, when it is decided alone
            if len(batch) == 1 and not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            answers = [Deferred(alone=True)] * len(batch)
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    def _decide(self, org_id: int, batch: Sequence[_Waiting]) -> list[Answer]:
        """On a thread of the pool: an answer for each, in order."""
        now = self._monotonic()
        timely = [one.submission for one in batch if one.deadline > now]
        try:
            found = iter(self._checking.check(org_id, timely) if timely else ())
        except StorageUnavailable:
            found = iter([_refused(one, Failure.STORAGE_UNAVAILABLE) for one in timely])
        return [
            next(found) if one.deadline > now else _refused(one.submission, Failure.EXPIRED_IN_QUEUE) for one in batch
        ]


def _refused(submission: Submission, failure: Failure) -> Settled:
    return Settled(refusal_of(failure, operation_of(submission.command)), submission.request_id)
