"""The committer: queues per organisation, batches, turns, deadlines, shedding, isolation of failures."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain.commands import (
    AcknowledgeMessages,
    Command,
    IssuePoints,
    RedeemPoints,
    SetPause,
    Submission,
    TransferPoints,
)
from points_grpc.domain.model import Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, DoneResult, Refused, Settled
from points_grpc.service import writer as writer_module
from points_grpc.service.committer import Committer, QueueLimits
from points_grpc.service.executor import Answer, Deferred
from points_grpc.service.frames import BugReport
from points_grpc.service.meter import Counted
from points_grpc.service.ports import NotTaken, OutcomeUnknown, StorageConflict, StorageFull, StorageUnavailable
from writing import writing

ALICE = Identifier(IdentifierType.ID, "1")
BOB = Identifier(IdentifierType.ID, "2")
TRANSFER = TransferPoints(points=1, program_id=1, source=ALICE, destination=BOB)
REDEEM = RedeemPoints(customer=ALICE, program_id=1, points=1)
ISSUE = IssuePoints(customer=ALICE, program_id=1, points=1, source=Source.GOODWILL)


def submission(request_id: str, command: Command = ISSUE, org_id: int = 1) -> Submission:
    """A submission that is told apart by its request id."""
    return Submission(org_id, command, request_id, True, {}, "client", b"")


def accepted(one: Submission) -> Settled:
    """The answer of a runner that accepts."""
    return Settled(Accepted(DoneResult()), one.request_id)


class Runner:
    """A runner whose first batch waits for `gate`, so that others gather behind it."""

    def __init__(self, behaviour: Callable[[int, Sequence[Submission]], list[Answer]] | None = None) -> None:
        self.gate = threading.Event()
        self.batches: list[tuple[int, list[str]]] = []
        self._behaviour = behaviour or (lambda _, batch: [accepted(one) for one in batch])

    def run(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        self.batches.append((org_id, [one.request_id for one in batch]))
        if batch[0].request_id == "gate":
            assert self.gate.wait(10)
            return [accepted(one) for one in batch]
        return self._behaviour(org_id, batch)


class Observer:
    def __init__(self) -> None:
        self.bugs: list[str] = []
        self.sizes: list[int] = []

    def batch(self, *, size: int, seconds: float, oldest_wait_s: float, counted: Counted) -> None:
        self.sizes.append(size)

    def bug(self, report: BugReport) -> None:
        self.bugs.append(report.request_id)

    def unable(self, message: str) -> None:
        raise AssertionError(message)


def play(
    runner: Runner,
    scene: Callable[[Committer], Coroutine[Any, Any, Any]],
    *,
    limits: QueueLimits | None = None,
    batch_max: int = 256,
    observer: Observer | None = None,
) -> Any:
    """Runs a scene on a committer of its own, with a real writer."""

    async def main() -> Any:
        async with writing(
            runner, observer=observer or Observer(), limits=limits, batch_max=batch_max, before_drain=runner.gate.set
        ) as committer:
            return await scene(committer)

    return asyncio.run(main())


async def gathered(
    committer: Committer, runner: Runner, submissions: Sequence[Submission], deadline_s: float = 10.0
) -> list[Settled]:
    """Submits while the writer is busy with a gate, then opens it."""
    gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
    while not runner.batches:
        await asyncio.sleep(0.001)
    tasks = [asyncio.ensure_future(committer.submit(one, time.monotonic() + deadline_s)) for one in submissions]
    await asyncio.sleep(0.02)
    runner.gate.set()
    await gate
    return list(await asyncio.gather(*tasks))


def test_lone_submission_is_a_batch_of_one() -> None:
    """A lone caller waits for nobody."""
    runner = Runner()
    play(runner, lambda committer: committer.submit(submission("a"), time.monotonic() + 1))

    assert [(1, ["a"])] == runner.batches


def test_what_gathers_shares_a_commit_in_order() -> None:
    """What arrives while a batch commits is the next batch, in order of arrival."""
    runner = Runner()
    play(runner, lambda committer: gathered(committer, runner, [submission(name) for name in "abc"]))

    assert (1, ["a", "b", "c"]) == runner.batches[1]


def test_organisations_take_turns() -> None:
    """A batch belongs to one organisation, and no organisation waits for all of another's queue."""
    runner = Runner()
    many = [submission(f"a{number}") for number in range(6)] + [submission("b", org_id=2)]
    play(runner, lambda committer: gathered(committer, runner, many), batch_max=2)

    assert 2 == runner.batches[2][0]


def test_batch_holds_at_most_batch_max() -> None:
    """No batch is larger than its limit."""
    runner = Runner()
    many = [submission(f"a{number}") for number in range(5)]
    play(runner, lambda committer: gathered(committer, runner, many), batch_max=2)

    assert [2, 2, 1] == [len(names) for _, names in runner.batches[1:]]


def test_commands_that_change_the_rules_run_by_themselves() -> None:
    """A change of what others are judged by shares its batch with nobody, and keeps its place."""
    runner = Runner()
    many = [submission("a"), submission("pause", SetPause(0, True, "test")), submission("b")]
    play(runner, lambda committer: gathered(committer, runner, many))

    assert [["a"], ["pause"], ["b"]] == [names for _, names in runner.batches[1:]]


def test_expired_in_the_queue_is_dropped() -> None:
    """What expired while it waited is refused and never run."""
    runner = Runner()
    answers = play(runner, lambda committer: gathered(committer, runner, [submission("late")], deadline_s=0.01))

    assert ({"outcome": "NOT_WRITTEN"}, [["gate"]]) == (
        answers[0].outcome.metadata,
        [names for _, names in runner.batches],
    )


def test_full_queue_sheds() -> None:
    """Beyond the limit callers are refused at once, with a time to come back."""
    runner = Runner()

    async def scene(committer: Committer) -> Settled:
        gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        shed = await committer.submit(submission("shed"), time.monotonic() + 10)
        runner.gate.set()
        await gate
        return shed

    answer = play(runner, scene, limits=QueueLimits(waiting_max=1))

    assert codes.OVERLOADED is answer.outcome.code
    assert answer.outcome.retry_after_s


def test_acknowledgements_are_not_shed() -> None:
    """They are few and small, and messages of all organisations wait until they are booked."""
    runner = Runner()

    async def scene(committer: Committer) -> Settled:
        gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        own = submission("booked", AcknowledgeMessages(()))
        booked = asyncio.ensure_future(committer.submit(own, time.monotonic() + 10))
        await asyncio.sleep(0.02)
        runner.gate.set()
        await gate
        return await booked

    assert not isinstance(play(runner, scene, limits=QueueLimits(waiting_max=1)).outcome, Refused)


def test_full_queue_of_one_organisation_sheds_no_other() -> None:
    """Who has less than a share of what waits is not shed for what another sends; who has more is."""
    runner = Runner()

    async def scene(committer: Committer) -> Any:
        gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        while not runner.batches:
            await asyncio.sleep(0.001)
        many = [asyncio.ensure_future(committer.submit(submission(f"a{n}"), time.monotonic() + 10)) for n in range(4)]
        await asyncio.sleep(0.02)
        other = asyncio.ensure_future(committer.submit(submission("b", org_id=2), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        over = await committer.submit(submission("b2", org_id=2), time.monotonic() + 10)
        runner.gate.set()
        await gate
        return await asyncio.gather(*many), await other, over

    many, other, over = play(runner, scene, limits=QueueLimits(waiting_max=3))

    assert [False, False, True, True] == [isinstance(one.outcome, Refused) for one in many]
    assert not isinstance(other.outcome, Refused)
    assert codes.OVERLOADED is over.outcome.code


def test_old_queue_of_one_organisation_sheds_no_other() -> None:
    """What waits for long is shed by whom it belongs to."""

    def slow(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        time.sleep(0.1)
        return [accepted(one) for one in batch]

    runner = Runner(slow)

    async def scene(committer: Committer) -> Any:
        many = [asyncio.ensure_future(committer.submit(submission(f"a{n}"), time.monotonic() + 10)) for n in range(9)]
        while committer.queue_age_s <= 0.05:
            await asyncio.sleep(0.001)
        own, other = await asyncio.gather(
            committer.submit(submission("more"), time.monotonic() + 10),
            committer.submit(submission("b", org_id=2), time.monotonic() + 10),
        )
        await asyncio.gather(*many)
        return own, other

    own, other = play(runner, scene, limits=QueueLimits(age_max_s=0.05), batch_max=1)

    assert codes.OVERLOADED is own.outcome.code
    assert not isinstance(other.outcome, Refused)


def test_draining_refuses_new_and_answers_old() -> None:
    """Drain answers all that waits and refuses what comes after."""
    runner = Runner()

    async def scene(committer: Committer) -> tuple[Settled, Settled]:
        old = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        draining = asyncio.ensure_future(committer.drain())
        await asyncio.sleep(0.02)
        new = await committer.submit(submission("new"), time.monotonic() + 10)
        runner.gate.set()
        await draining
        return await old, new

    old, new = play(runner, scene)

    assert isinstance(old.outcome, Accepted)
    assert codes.SHUTTING_DOWN is new.outcome.code


def test_deferred_goes_back_to_the_head_and_runs_alone() -> None:
    """A command that needs a batch of its own gets one, before those that came after it."""
    seen: list[str] = []

    def defer_once(_: int, batch: Sequence[Submission]) -> list[Answer]:
        seen.append(",".join(one.request_id for one in batch))
        return [Deferred(alone=True) if one.request_id == "big" and len(batch) > 1 else accepted(one) for one in batch]

    runner = Runner(defer_once)
    many = [submission(name) for name in ("a", "big", "c")]
    play(runner, lambda committer: gathered(committer, runner, many))

    assert ["a,big,c", "big"] == seen


def test_one_bug_does_not_fail_its_neighbours() -> None:
    """A batch that fails as a whole is run one by one; only the culprit is refused, and the bug is reported."""

    def fail(_: int, batch: Sequence[Submission]) -> list[Answer]:
        if any(one.request_id == "bad" for one in batch):
            raise RuntimeError("a bug")
        return [accepted(one) for one in batch]

    runner, observer = Runner(fail), Observer()
    many = [submission("a"), submission("bad", TRANSFER), submission("c")]
    answers = play(runner, lambda committer: gathered(committer, runner, many), observer=observer)

    assert [True, False, True] == [isinstance(one.outcome, Accepted) for one in answers]
    assert ["bad"] == observer.bugs


@pytest.mark.parametrize(
    ("error", "command", "expected"),
    [
        (StorageConflict(), TRANSFER, codes.TRANSFER_NOT_PROCESSED),
        (StorageConflict(), REDEEM, codes.CONFLICT),
        (OutcomeUnknown(), TRANSFER, codes.TRANSFER_NOT_PROCESSED),
        (OutcomeUnknown(), REDEEM, codes.OUTCOME_UNKNOWN),
        (StorageUnavailable(), TRANSFER, codes.TRANSFER_STORAGE_UNAVAILABLE),
        (StorageUnavailable(), REDEEM, codes.STORAGE_UNAVAILABLE),
        (StorageFull(), TRANSFER, codes.STORAGE_FULL),
        (RuntimeError("bug"), TRANSFER, codes.TRANSFER_PROCESSING_FAILED),
        (RuntimeError("bug"), REDEEM, codes.REDEMPTION_FAILED),
        (RuntimeError("bug"), ISSUE, codes.INTERNAL_FAILURE),
    ],
)
def test_failures_of_the_store_have_codes_of_their_own(error: Exception, command: Command, expected: Code) -> None:
    """Each failure is told apart, in the table of the operation."""

    def fail(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        raise error

    answer = play(Runner(fail), lambda committer: committer.submit(submission("a", command), time.monotonic() + 1))

    assert isinstance(answer.outcome, Refused)
    assert expected is answer.outcome.code


def test_an_observer_that_fails_keeps_nobody_from_an_answer() -> None:
    """What counts batches stands behind the answers: its bug is reported, and the batches after it are answered."""

    class Failing(Observer):
        def batch(self, *, size: int, seconds: float, oldest_wait_s: float, counted: Counted) -> None:
            raise ZeroDivisionError

        def bug(self, report: BugReport) -> None:
            self.bugs.append(report.error)

    runner, observer = Runner(), Failing()
    batch = [submission("a", org_id=1), submission("b", org_id=2), submission("c", org_id=3)]
    answers = play(runner, lambda committer: gathered(committer, runner, batch), observer=observer)
    assert ["a", "b", "c"] == [one.request_id for one in answers]
    assert ["ZeroDivisionError"] * 4 == observer.bugs


def test_outcome_unknown_is_never_run_again() -> None:
    """If the connection died while committing, nothing is rerun."""

    def fail(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        raise OutcomeUnknown

    runner = Runner(fail)
    play(runner, lambda committer: gathered(committer, runner, [submission("a"), submission("b")]))

    assert [["a", "b"]] == [names for _, names in runner.batches[1:]]


def test_conflict_is_run_again() -> None:
    """A conflict that passes is never seen by the caller."""
    tries: list[int] = []

    def conflict_twice(_: int, batch: Sequence[Submission]) -> list[Answer]:
        tries.append(len(batch))
        if len(tries) < 3:
            raise StorageConflict
        return [accepted(one) for one in batch]

    answer = play(Runner(conflict_twice), lambda committer: committer.submit(submission("a"), time.monotonic() + 1))

    assert isinstance(answer.outcome, Accepted)


def test_cancelled_caller_does_not_upset_its_batch() -> None:
    """A caller who goes away leaves the others of the batch alone."""
    runner = Runner()

    async def scene(committer: Committer) -> Settled:
        gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        gone = asyncio.ensure_future(committer.submit(submission("gone"), time.monotonic() + 10))
        stays = asyncio.ensure_future(committer.submit(submission("stays"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        gone.cancel()
        runner.gate.set()
        await gate
        return await stays

    assert isinstance(play(runner, scene).outcome, Accepted)


def test_what_still_waits_at_its_deadline_is_known_to_be_dropped() -> None:
    """A caller who gives up after the deadline is told whether the command still waited: then it is never executed."""
    runner = Runner()

    async def scene(committer: Committer) -> tuple[list[type[BaseException]], list[tuple[int, list[str]]]]:
        now = time.monotonic()
        tasks = [asyncio.ensure_future(committer.submit(submission("gate"), now + 0.05))]
        while not runner.batches:
            await asyncio.sleep(0.001)
        tasks += [asyncio.ensure_future(committer.submit(submission(name), now + 0.05)) for name in "ab"]
        tasks += [asyncio.ensure_future(committer.submit(submission("later"), now + 10))]
        await asyncio.sleep(0.1)
        ended = []
        for task in tasks:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                ended.append(type(error))
        runner.gate.set()
        await committer.submit(submission("after"), time.monotonic() + 10)
        return ended, runner.batches

    ended, batches = play(runner, scene)

    assert [asyncio.CancelledError, NotTaken, NotTaken, asyncio.CancelledError] == ended
    executed = [name for _, batch in batches for name in batch]
    assert ["gate", "later", "after"] == executed


def test_a_conflict_that_lasts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conflict that took its time (a lock that another process holds) is not waited for once more."""
    monkeypatch.setattr(writer_module, "CONFLICT_MAX_S", 0.01)

    def held(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        time.sleep(0.02)
        raise StorageConflict

    runner = Runner(held)
    settled = play(runner, lambda committer: committer.submit(submission("a"), time.monotonic() + 1))

    assert codes.CONFLICT is settled.outcome.code
    assert 1 == len(runner.batches)


def items(*names: str) -> list[Submission]:
    """The items of one call."""
    return [submission(name) for name in names]


def test_items_of_a_call_keep_together_and_in_order() -> None:
    """The items of one call share commits as far as they fit, in order, and are answered together and in order."""
    runner = Runner()

    async def scene(committer: Committer) -> Any:
        gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        first = asyncio.ensure_future(committer.submit_some(items("a", "b", "c"), time.monotonic() + 10))
        second = asyncio.ensure_future(committer.submit(submission("d"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        runner.gate.set()
        await asyncio.gather(gate, second)
        return await first

    answers = play(runner, scene, batch_max=2)

    assert [["a", "b"], ["c", "d"]] == [names for _, names in runner.batches[1:]]
    assert ["a", "b", "c"] == [one.request_id for one in answers]


def test_call_that_does_not_fit_is_shed_whole() -> None:
    """Admission counts items: a call with one item too many is refused as a whole and nothing of it runs."""
    runner = Runner()

    async def scene(committer: Committer) -> Any:
        fits = asyncio.ensure_future(committer.submit_some(items("gate", "b"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        shed = committer.refuses(1, 2, "BatchTransferPoints")
        runner.gate.set()
        return shed, await fits, await committer.submit_some(items("e", "f", "g"), time.monotonic() + 10)

    shed, fits, again = play(runner, scene, limits=QueueLimits(waiting_max=3))

    assert isinstance(shed, Refused)
    assert codes.TRANSFER_UNAVAILABLE is shed.code
    assert (2, 3) == (len(fits), len(again))
    assert ["gate", "b", "e", "f", "g"] == [name for _, names in runner.batches for name in names]


def test_expired_items_are_dropped_one_by_one() -> None:
    """Where the deadline passes between two commits of a call, the items not taken yet say that nothing was written."""

    def slow(_: int, batch: Sequence[Submission]) -> list[Answer]:
        time.sleep(0.05)
        return [accepted(one) for one in batch]

    runner = Runner(slow)
    answers = play(
        runner,
        lambda committer: committer.submit_some(items("a", "b", "c"), time.monotonic() + 0.03),
        batch_max=2,
    )

    assert [True, True, False] == [isinstance(one.outcome, Accepted) for one in answers]
    assert (codes.DEADLINE_EXCEEDED, {"outcome": "NOT_WRITTEN"}) == (
        answers[2].outcome.code,
        answers[2].outcome.metadata,
    )


def test_caller_of_several_items_who_goes_away_upsets_nobody() -> None:
    """A call that is cancelled while its items wait leaves the others of the batch alone; its items are carried out."""
    runner = Runner()

    async def scene(committer: Committer) -> Settled:
        gate = asyncio.ensure_future(committer.submit(submission("gate"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        gone = asyncio.ensure_future(committer.submit_some(items("a", "b"), time.monotonic() + 10))
        stays = asyncio.ensure_future(committer.submit(submission("c"), time.monotonic() + 10))
        await asyncio.sleep(0.02)
        gone.cancel()
        runner.gate.set()
        await gate
        return await stays

    assert "c" == play(runner, scene).request_id
    assert ["gate", "a", "b", "c"] == [name for _, names in runner.batches for name in names]
