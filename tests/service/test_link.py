"""What callers are told when the writer stalls, dies or talks nonsense. The test plays the writer by hand."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from points_grpc import codes
from points_grpc.domain.commands import IssuePoints, Submission, TransferPoints
from points_grpc.domain.model import Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, DoneResult, Refused, Settled
from points_grpc.service.channel import Channel, ServerGone
from points_grpc.service.committer import Committer, QueueLimits
from points_grpc.service.frames import Answered, Drain, DropWaiting, Sent, Work
from points_grpc.service.link import Link
from points_grpc.service.ports import NotTaken
from writing import Silent

ALICE = Identifier(IdentifierType.ID, "1")
BOB = Identifier(IdentifierType.ID, "2")
LONG_S = 10.0


def transfer(request_id: str, notes: str = "") -> Submission:
    """A transfer on its way."""
    return Submission(1, TransferPoints(1, 1, ALICE, BOB, notes=notes), request_id, True, {}, "till", b"")


def issue(request_id: str) -> Submission:
    """An issue on its way."""
    return Submission(1, IssuePoints(ALICE, 1, 1, Source.GOODWILL), request_id, True, {}, "till", b"")


class World:
    """A committer and the other end of its link."""

    def __init__(self, limits: QueueLimits | None) -> None:
        ours, theirs = socket.socketpair()
        marks, self.marks = os.pipe()
        self.stream = theirs
        self.writer = Channel(theirs, self.marks)
        self.link = Link(ours, marks)
        self.committer = Committer(monotonic=time.monotonic, observer=Silent(), limits=limits)
        self.committer.attach(self.link)

    def submit(self, one: Submission, deadline_s: float = LONG_S) -> asyncio.Task[Settled]:
        """Hands a submission over."""
        return asyncio.ensure_future(self.committer.submit(one, time.monotonic() + deadline_s))

    async def arrived(self) -> list[Sent]:
        """What has arrived at the writer, once the loop has had a turn or two."""
        await asyncio.sleep(0.01)
        return [one for work in self.writer.receive(block=False) if isinstance(work, Work) for one in work.items]

    async def receive(self, count: int) -> list[Sent]:
        """So many submissions as they arrive."""
        found: list[Sent] = []
        while len(found) < count:
            found += await self.arrived()
        return found

    def answer(self, *found: Sent) -> None:
        """Accepts submissions."""
        answers = [(one.number, Settled(Accepted(DoneResult()), one.submission.request_id)) for one in found]
        self.writer.send(Answered(answers, len(answers), 0.0, 0.0, 0.0))


def play(scene: Callable[[World], Awaitable[Any]], limits: QueueLimits | None = None) -> Any:
    """Runs a scene."""

    async def main() -> Any:
        world = World(limits)
        try:
            return await scene(world)
        finally:
            world.writer.close()
            await world.link.ended.wait()

    return asyncio.run(main())


def code_of(settled: Settled) -> tuple[codes.Code, dict[str, str]]:
    """What a refused caller was told."""
    assert isinstance(settled.outcome, Refused)
    return settled.outcome.code, dict(settled.outcome.metadata)


def test_a_dead_writer_leaves_open_what_it_took_and_nothing_else() -> None:
    """What was marked may be written; what was not marked is certainly not, and what was answered is answered."""

    async def scene(world: World) -> list[Settled]:
        tasks = [world.submit(one) for one in (transfer("answered"), transfer("taken"), issue("taken too"))]
        found = await world.receive(3)
        tasks += [world.submit(one) for one in (transfer("waits"), issue("waits too"))]
        found += await world.receive(2)
        world.writer.mark(one.number for one in found[:3])
        world.answer(found[0])
        world.stream.shutdown(socket.SHUT_RDWR)
        return list(await asyncio.gather(*tasks))

    answered, *others = play(scene)

    assert isinstance(answered.outcome, Accepted)
    assert [
        (codes.TRANSFER_NOT_PROCESSED, {"outcome": "UNKNOWN"}),
        (codes.OUTCOME_UNKNOWN, {}),
        (codes.TRANSFER_STORAGE_UNAVAILABLE, {}),
        (codes.STORAGE_UNAVAILABLE, {}),
    ] == [code_of(one) for one in others]


def test_a_writer_that_dies_with_its_inbox_full_has_still_said_what_it_took() -> None:
    """Unread input makes the end of a socket an error; what the dead wrote before it is read all the same."""

    async def scene(world: World) -> list[Settled]:
        tasks = [world.submit(transfer("a"))]
        found = await world.receive(1)
        tasks += [world.submit(transfer("b"))]
        await asyncio.sleep(0.01)  # it lies in the writer's socket, unread
        world.writer.mark([found[0].number])
        world.answer(*found)
        world.stream.close()
        return list(await asyncio.gather(*tasks))

    first, second = play_dead(scene)

    assert isinstance(first.outcome, Accepted)
    assert codes.TRANSFER_STORAGE_UNAVAILABLE is code_of(second)[0]


def play_dead(scene: Callable[[World], Awaitable[Any]]) -> Any:
    """Runs a scene whose writer closes its stream itself."""

    async def main() -> Any:
        world = World(None)
        answer = await scene(world)
        os.close(world.marks)
        return answer

    return asyncio.run(main())


def test_without_a_writer_everything_is_refused_at_once() -> None:
    """Until another one is attached: certainly not written, and with a time to come back."""

    async def scene(world: World) -> tuple[Settled, Any, Any]:
        world.stream.shutdown(socket.SHUT_RDWR)
        await world.link.ended.wait()
        whole = world.committer.refuses(1, 2, "BatchIssuePoints")
        return await world.submit(transfer("a")), whole, await world.committer.submit_some([issue("b")], 0.0)

    one, whole, [item] = play(scene)

    assert codes.TRANSFER_STORAGE_UNAVAILABLE is code_of(one)[0]
    assert one.outcome.retry_after_s
    assert codes.STORAGE_UNAVAILABLE is whole.code
    assert codes.STORAGE_UNAVAILABLE is code_of(item)[0]


def test_nonsense_leaves_everything_open() -> None:
    """A writer that is not understood is given up, and nothing is said for certain of what it was sent."""

    async def scene(world: World) -> tuple[Settled, bool]:
        task = world.submit(transfer("a"))
        await world.receive(1)
        world.stream.sendall(b"\0\0\0\1\xc1")
        return await task, world.link.is_understood

    settled, understood = play(scene)

    assert (codes.TRANSFER_NOT_PROCESSED, {"outcome": "UNKNOWN"}) == code_of(settled)
    assert not understood


def test_a_stalled_writer_holds_nobody_beyond_the_deadline() -> None:
    """Whoever gives up after the deadline learns from the marks, unread until then, whether it may be written."""

    async def scene(world: World) -> list[type[BaseException]]:
        tasks = [world.submit(transfer(one), 0.05) for one in ("taken", "waits")]
        found = await world.receive(2)
        world.writer.mark([found[0].number])
        await asyncio.sleep(0.06)
        ended = []
        for task in tasks:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                ended.append(type(error))
        return ended

    assert [asyncio.CancelledError, NotTaken] == play(scene)


def test_what_the_socket_does_not_take_waits_in_order() -> None:
    """A writer that reads nothing for a while blocks nobody, and gets everything in order once it reads again."""

    async def scene(world: World) -> tuple[list[str], list[str]]:
        names = [f"{number}" for number in range(400)]
        tasks = [world.submit(transfer(name, notes="x" * 4096)) for name in names]
        await asyncio.sleep(0.01)
        found = await world.receive(len(names))
        world.answer(*found)
        await asyncio.gather(*tasks)
        return names, [one.submission.request_id for one in found]

    sent, received = play(scene)

    assert sent == received


def test_a_queue_that_grew_old_sheds() -> None:
    """The writer says how long the oldest of a batch waited while more waits still."""

    async def scene(world: World) -> tuple[Settled, Settled]:
        tasks = [world.submit(issue("a")), world.submit(issue("b"))]
        found = await world.receive(2)
        world.writer.send(Answered([], 1, 0.0, 6.0, 6.0))
        await asyncio.sleep(0.01)
        shed = await world.submit(issue("c"))
        world.answer(*found)
        await asyncio.gather(*tasks)
        task = world.submit(issue("d"))
        world.answer(*await world.receive(1))
        return shed, await task

    shed, later = play(scene, QueueLimits(age_max_s=5.0))

    assert codes.OVERLOADED is code_of(shed)[0]
    assert isinstance(later.outcome, Accepted)


def test_a_drain_comes_after_everything_that_was_sent() -> None:
    """The writer is told to end in a frame, behind what was handed over."""

    async def scene(world: World) -> list[type[object]]:
        task = world.submit(issue("a"))
        await asyncio.sleep(0)
        draining = asyncio.ensure_future(world.committer.drain())
        await asyncio.sleep(0.01)
        found = world.writer.receive(block=False)
        assert isinstance(found[0], Work)
        world.answer(*found[0].items)
        world.stream.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(task, draining)
        return [type(one) for one in found]

    assert [Work, Drain] == play(scene)


def test_the_writer_is_asked_to_drop_what_waits() -> None:
    """Behind what was handed over, and without closing the door; where there is no writer, nothing waits."""

    async def scene(world: World) -> list[type[object]]:
        tasks = [world.submit(issue("a"))]
        await asyncio.sleep(0)
        world.committer.drop_waiting()
        tasks.append(world.submit(issue("b")))
        await asyncio.sleep(0.01)
        found = world.writer.receive(block=False)
        world.stream.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*tasks)
        world.committer.drop_waiting()
        return [type(one) for one in found]

    assert [Work, DropWaiting, Work] == play(scene)


def test_a_writer_whose_server_is_gone_runs_nothing_more() -> None:
    """Its marks cannot be read by anybody: what it would run now nobody could be told of."""

    async def scene(world: World) -> None:
        task = world.submit(issue("a"))
        [one] = await world.receive(1)
        world.link.close()
        with pytest.raises(ServerGone):
            world.writer.mark([one.number])
        with pytest.raises(ServerGone):
            world.writer.receive(block=True)
        await task

    play(scene)
