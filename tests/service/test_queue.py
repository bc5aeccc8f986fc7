"""The queues of organisations: whose turn it is, what is a batch of its own, what was put off."""

from __future__ import annotations

from executing import by_id, submission

from points_grpc.domain.commands import AcknowledgeMessages, AcknowledgeNotices, RedeemPoints
from points_grpc.service.frames import Sent
from points_grpc.service.queue import Queue


def waiting(*names: str) -> Queue:
    """A queue in which redemptions of one organisation wait, by their request ids."""
    queue = Queue()
    redemption = RedeemPoints(by_id(1), 1, 1)
    queue.add([Sent(number, 1.0, 0.0, submission(redemption, name)) for number, name in enumerate(names)])
    return queue


def names_of(queue: Queue, batch_max: int) -> list[str]:
    """Takes a batch; the request ids in it."""
    return [one.submission.request_id for one in queue.take(batch_max)]


def test_what_is_put_back_comes_first_and_in_order() -> None:
    """Commands of an organisation keep their order, whatever of them was put off."""
    queue = waiting("a", "b", "c", "d")
    queue.put_back(queue.take(2))

    assert ["a", "b", "c", "d"] == names_of(queue, 10)


def test_what_is_put_back_is_served_although_nothing_else_waits() -> None:
    """An organisation whose last commands were put off has its turn again."""
    queue = waiting("a", "b")
    queue.put_back(queue.take(2))

    assert queue
    assert ["a", "b"] == names_of(queue, 10)
    assert not queue


def test_acknowledgements_go_first() -> None:
    """What became of messages is booked before what waits: messages of all organisations wait for it."""
    queue = waiting("a", "b")
    booked = [submission(AcknowledgeMessages(()), "messages"), submission(AcknowledgeNotices(()), "events")]
    queue.add([Sent(9, 1.0, 0.0, one) for one in booked])

    assert ["events", "messages", "a"] == names_of(queue, 3)
