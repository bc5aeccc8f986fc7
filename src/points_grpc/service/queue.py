"""What waits for the writer: a queue per organisation, organisations taking turns. No clock, no input, no output.

A batch is of one organisation. A command that changes what others are judged by, or that needs many lots, is a batch of
its own; commands of an organisation keep their order, but for acknowledgements, which go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from points_grpc.domain.commands import Submission
from points_grpc.domain.decide import ACKNOWLEDGEMENTS, EXCLUSIVE
from points_grpc.service.frames import Sent


@dataclass(slots=True)
class Waiting:
    """A submission in the queue. `alone`: it was tried and needs a batch of its own."""

    number: int
    deadline: float
    enqueued_at: float
    submission: Submission
    alone: bool = False


class Queue:
    """The queues of all organisations."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[Waiting]] = {}
        self._turns: deque[int] = deque()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._turns)

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(one) for one in self._queues.values())

    @property
    def organisations(self) -> int:
        """Of how many organisations something waits."""
        return len(self._turns)

    def add(self, items: Iterable[Sent]) -> None:
        """Queues submissions in order, acknowledgements before what waits."""
        for one in items:
            waiting = Waiting(one.number, one.deadline, one.enqueued_at, one.submission)
            queue = self._queue(one.submission.org_id)
            if isinstance(one.submission.command, ACKNOWLEDGEMENTS):
                queue.appendleft(waiting)
            else:
                queue.append(waiting)

    def take(self, batch_max: int) -> list[Waiting]:
        """The next batch of the organisation whose turn it is; it goes to the end of the turns if more of it waits."""
        org_id = self._turns.popleft()
        queue = self._queues[org_id]
        batch: list[Waiting] = []
        while queue and len(batch) < batch_max:
            one = queue[0]
            by_itself = one.alone or isinstance(one.submission.command, EXCLUSIVE)
            if batch and by_itself:
                break
            batch.append(queue.popleft())
            if by_itself:
                break
        if queue:
            self._turns.append(org_id)
        else:
            del self._queues[org_id]
        return batch

    def take_all(self) -> list[Waiting]:
        """Everything that waits."""
        waiting = [one for queue in self._queues.values() for one in queue]
        self._queues.clear()
        self._turns.clear()
        return waiting

    def put_back(self, deferred: Sequence[Waiting]) -> None:
        """Puts what was taken and not decided back to the head of its queue, in order."""
        for one in reversed(deferred):
            self._queue(one.submission.org_id).appendleft(one)

    def _queue(self, org_id: int) -> deque[Waiting]:
        queue = self._queues.get(org_id)
        if queue is None:
            queue = self._queues[org_id] = deque()
            self._turns.append(org_id)
        return queue
