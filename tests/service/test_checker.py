"""How checks gather: what waits of an organisation is decided together, each check is answered for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from executing import submission
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.commands import CheckTransfer, Submission, TransferPoints
from points_grpc.domain.model import Identifier, IdentifierType
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.service.checker import BATCH_MAX, Checker
from points_grpc.service.executor import Answer, Deferred
from points_grpc.service.ports import StorageUnavailable
from points_grpc.service.reads import ReadPool

IN_TIME, TOO_LATE = 10.0, 0.5
NOW = 1.0
LONG, BAD, DOWN = "long", "bad", "down"
"""Request ids of checks that want to be alone, that no batch survives, and that find the store away."""


def asked(request_id: str, org_id: int = 1) -> Submission:
    """A check."""
    ann, ben = (Identifier(IdentifierType.ID, one) for one in ("1", "2"))
    return replace(submission(CheckTransfer(TransferPoints(1, 1, ann, ben)), request_id), org_id=org_id)


def told(request_id: str) -> Settled:
    """Its answer."""
    return Settled(Refused(codes.SAME_CUSTOMER), request_id)


class Deciding:
    """Decides batches once it is let, and keeps who was in each."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.opened = threading.Event()

    def check(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """The answers."""
        names = [one.request_id for one in batch]
        self.batches.append(names)
        assert self.opened.wait(30)
        assert {org_id} == {one.org_id for one in batch}
        if BAD in names:
            raise ValueError(BAD)
        if DOWN in names:
            raise StorageUnavailable
        return [Deferred(alone=True) if one == LONG and names != [LONG] else told(one) for one in names]


Scene = Callable[[Checker, Deciding], Coroutine[Any, Any, Any]]


def play(scene: Scene) -> Any:
    """Runs a scene on a pool of three threads."""

    async def main() -> Any:
        pool, deciding = ReadPool(threads=3), Deciding()
        try:
            return await scene(Checker(pool, deciding, lambda: NOW), deciding)
        finally:
            deciding.opened.set()
            pool.close()

    return asyncio.run(main())


def checks(checker: Checker, *names: str, org_id: int = 1, deadline: float = IN_TIME) -> list[asyncio.Task[Settled]]:
    """Asks for several at once."""
    return [asyncio.ensure_future(checker.check(asked(one, org_id), deadline)) for one in names]


async def begun(deciding: Deciding, number: int) -> None:
    """Waits until so many batches began."""
    while len(deciding.batches) < number:
        await asyncio.sleep(0.001)


async def behind(checker: Checker, deciding: Deciding, *names: str) -> list[Any]:
    """The answers to checks that gathered behind another."""
    first = checks(checker, "first")
    await begun(deciding, 1)
    rest = checks(checker, *names)
    await asyncio.sleep(0)
    deciding.opened.set()
    await asyncio.gather(*first)
    return await asyncio.gather(*rest, return_exceptions=True)


def test_what_gathers_is_decided_together() -> None:
    """The first is decided at once and alone, whoever came meanwhile in one go, as far as a batch is large."""
    names = [str(one) for one in range(BATCH_MAX + 2)]

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        return await behind(checker, deciding, *names), deciding.batches

    answers, batches = play(scene)

    assert [told(one) for one in names] == answers
    assert [["first"], names[:BATCH_MAX], names[BATCH_MAX:]] == batches


def test_it_begins_again_when_nothing_waited() -> None:
    """After a pause the next check is decided like the first, and nothing is left of those before."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        deciding.opened.set()
        answers = [await checker.check(asked(one), IN_TIME) for one in ("a", "b")]
        await asyncio.sleep(0)
        return answers, deciding.batches, checker._waiting, checker._deciding

    assert ([told("a"), told("b")], [["a"], ["b"]], {}, set()) == play(scene)


def test_who_wants_to_be_alone_holds_up_nobody() -> None:
    """A check that is deferred is decided by itself afterwards."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        return await behind(checker, deciding, "a", LONG, "b"), deciding.batches

    answers, batches = play(scene)

    assert [told("a"), told(LONG), told("b")] == answers
    assert [["first"], ["a", LONG, "b"], [LONG]] == batches


def test_one_that_fails_fails_alone() -> None:
    """An exception that nobody foresaw is told to the one who caused it; its company is decided again."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        answers = await behind(checker, deciding, "a", BAD, "b")
        with pytest.raises(ValueError, match=BAD):
            await checker.check(asked(BAD), IN_TIME)
        return answers

    found = play(scene)

    assert [told("a"), told("b")] == [found[0], found[2]]
    assert isinstance(found[1], ValueError)


def test_a_store_that_is_away() -> None:
    """All of a batch are told."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        return await behind(checker, deciding, "a", DOWN)

    assert [codes.TRANSFER_STORAGE_UNAVAILABLE] * 2 == [one.outcome.code for one in play(scene)]


def test_what_expired_is_not_decided() -> None:
    """A check whose deadline passed while it waited is refused; where all have, nothing is read."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        deciding.opened.set()
        late = await asyncio.gather(*checks(checker, "late", deadline=TOO_LATE))
        both = checks(checker, "too late", deadline=TOO_LATE) + checks(checker, "in time")
        return [*late, *await asyncio.gather(*both)], deciding.batches

    (late, too_late, in_time), batches = play(scene)

    assert ["DEADLINE_EXCEEDED"] * 2 == [one.outcome.code.reason for one in (late, too_late)]
    assert told("in time") == in_time
    assert [["in time"]] == batches


def test_who_went_away_is_left_out() -> None:
    """A check that nobody waits for any more is not decided, and the others are."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        first = checks(checker, "first")
        await begun(deciding, 1)
        gone, *rest = checks(checker, "gone", "a", "b")
        await asyncio.sleep(0)
        gone.cancel()
        deciding.opened.set()
        await asyncio.gather(*first)
        return await asyncio.gather(*rest), deciding.batches

    assert ([told("a"), told("b")], [["first"], ["a", "b"]]) == play(scene)


def test_organisations_do_not_wait_for_each_other() -> None:
    """While one is decided, another is."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        one, other = checks(checker, "a"), checks(checker, "b", org_id=2)
        await begun(deciding, 2)
        deciding.opened.set()
        return await asyncio.gather(*one, *other)

    assert [told("a"), told("b")] == play(scene)


def test_the_loop_that_ends_leaves_nobody_waiting() -> None:
    """Where the deciding itself is cancelled, its callers are."""

    async def scene(checker: Checker, deciding: Deciding) -> Any:
        waiting = checks(checker, "a", "b")
        await begun(deciding, 1)
        for task in checker._deciding:
            task.cancel()
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [asyncio.CancelledError] * 2 == [type(one) for one in play(scene)]
