"""The writer's own loop: its lease, which it renews in silence and under load, and commands that others hold up.

What the server sends is there before the writer begins, so that everything happens in one thread and in one order.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest

from points_grpc import codes
from points_grpc.domain.commands import IssuePoints, Submission
from points_grpc.domain.model import Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, DoneResult, Refused, Settled
from points_grpc.service.channel import Channel
from points_grpc.service.executor import Answer, Deferred
from points_grpc.service.frames import (
    Answered,
    Drain,
    DropWaiting,
    Sent,
    ToWriter,
    Unframer,
    Work,
    decode_from_writer,
    encode_to_writer,
)
from points_grpc.service.ports import StorageConflict, StorageFull, StorageUnavailable, WriterFenced
from points_grpc.service.writer import GATHER_FROM, GATHER_S_MAX, GATHER_STEP_S, Writer

COMMAND = IssuePoints(Identifier(IdentifierType.ID, "1"), 1, 1, Source.GOODWILL)
SILENCE_S = 0.02

Behaviour = Callable[[int, Sequence[Submission]], list[Answer]]


def accept(_: int, batch: Sequence[Submission]) -> list[Answer]:
    """Accepts everything."""
    return [Settled(Accepted(DoneResult()), one.request_id) for one in batch]


class Server:
    """The server's end of a writer's link, and what the writer was seen to do."""

    def __init__(self) -> None:
        self.stream, theirs = socket.socketpair()
        self.marks, their_marks = os.pipe()
        self.channel: Channel | None = Channel(theirs, their_marks)
        self.numbers = count(1)
        self.pauses: list[int] = []
        self.monotonic: Callable[[], float] = time.monotonic
        self.rests: list[float] = []
        self.arrives_late: list[Sequence[str]] = []
        self.batches: list[tuple[int, list[str]]] = []
        self.behaviour: Behaviour = accept

    def run(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """Stands for the executor."""
        self.batches.append((org_id, [one.request_id for one in batch]))
        return self.behaviour(org_id, batch)

    def send(self, message: ToWriter) -> None:
        """Sends a message."""
        self.stream.sendall(encode_to_writer(message))

    def submit(self, *request_ids: str, org_id: int = 1) -> None:
        """Sends commands of one call."""
        until = time.monotonic() + 10
        ones = [Submission(org_id, COMMAND, one, True, {}, "till", b"") for one in request_ids]
        self.send(Work([Sent(next(self.numbers), until, 0.0, one) for one in ones]))

    def sleep(self, seconds: float) -> None:
        """Lets time pass, in which something may arrive."""
        self.rests.append(seconds)
        if isinstance(self.monotonic, Clock):
            self.monotonic.now += seconds
        if self.arrives_late:
            self.submit(*self.arrives_late.pop(0))

    def writer(
        self, *, keep_lease: Callable[[], bool] = lambda: True, renewed_s: float = 1000.0, batch_max: int = 2
    ) -> Writer:
        """A writer on the other end."""
        assert self.channel is not None, "not ended"
        return Writer(
            self,
            self.channel,
            monotonic=self.monotonic,
            pause=self.pauses.append,
            sleep=self.sleep,
            batch_max=batch_max,
            keep_lease=keep_lease,
            renewed_s=renewed_s,
        )

    def end(self) -> None:
        """Closes the writer's end, once."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def batches_told(self) -> list[Answered]:
        """What was told of each batch."""
        self.end()
        data = b"".join(iter(lambda: self.stream.recv(1 << 16), b""))
        found = [decode_from_writer(body) for body in Unframer().feed(data)]
        return [message for message in found if isinstance(message, Answered)]

    def answers(self) -> dict[str, str]:
        """What was answered: by request id, the reason of a refusal or OK."""
        settled = [one for told in self.batches_told() for _, one in told.answers]
        return {
            one.request_id: one.outcome.code.reason if isinstance(one.outcome, Refused) else "OK" for one in settled
        }


@pytest.fixture
def server() -> Iterator[Server]:
    """A link of its own."""
    made = Server()
    yield made
    made.end()
    made.stream.close()
    os.close(made.marks)


def test_lease_is_renewed_in_silence(server: Server) -> None:
    """While nothing comes, the writer wakes up to renew its lease; a database that is away or full is asked again."""
    asked: list[int] = []
    troubles = [StorageUnavailable("away"), StorageFull("no room")]

    def keep() -> bool:
        asked.append(len(asked))
        if troubles:
            raise troubles.pop()
        if len(asked) == 3:
            server.send(Drain())
        return True

    server.writer(keep_lease=keep, renewed_s=SILENCE_S).serve()

    assert [0, 1, 2] == asked[:3]


def test_lease_is_renewed_between_batches(server: Server) -> None:
    """A queue that never gets empty does not keep the lease from being renewed."""
    asked: list[int] = []

    def slow(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        time.sleep(SILENCE_S)
        return accept(org_id, batch)

    def keep() -> bool:
        asked.append(len(server.batches))
        return True

    server.behaviour = slow
    server.submit(*"abcdef")
    server.send(Drain())
    server.writer(keep_lease=keep, renewed_s=SILENCE_S).serve()

    assert [1, 2] == asked
    assert 3 == len(server.batches)


def test_lost_lease_ends_the_writer(server: Server) -> None:
    """Who finds out in silence that its slot is another's serves no more, and runs nothing that comes then."""
    server.submit("late")
    writer = server.writer(keep_lease=lambda: False, renewed_s=0.001)
    time.sleep(0.01)
    with pytest.raises(WriterFenced):
        writer.serve()

    assert [] == server.batches
    assert {} == server.answers()


def test_fenced_batch_is_answered_before_the_writer_ends(server: Server) -> None:
    """The batch that finds the slot taken is told that nothing was written; what waits is never taken."""

    def fenced(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        raise WriterFenced("the lease of the writer slot was lost")

    server.behaviour = fenced
    server.submit("a", "b", "c")
    with pytest.raises(WriterFenced):
        server.writer().serve()
    taken = os.read(server.marks, 100)

    assert dict.fromkeys("ab", codes.STORAGE_UNAVAILABLE.reason) == server.answers()
    assert 2 * 8 == len(taken)


def test_command_that_was_written_before_the_slot_was_lost_keeps_its_answer(server: Server) -> None:
    """Where the commands of a batch run one by one, only those that were fenced are told that nothing was written."""

    def one_by_one(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        if len(batch) > 1:
            raise RuntimeError("one of them cannot be written")
        if batch[0].request_id == "b":
            raise WriterFenced("the lease of the writer slot was lost")
        return accept(org_id, batch)

    server.behaviour = one_by_one
    server.submit("a", "b")
    with pytest.raises(WriterFenced):
        server.writer().serve()

    assert {"a": "OK", "b": codes.STORAGE_UNAVAILABLE.reason} == server.answers()


def test_organisation_that_is_held_up_lets_others_pass(server: Server) -> None:
    """Commands whose customers another process has locked are put off, in order; other organisations go on."""

    def held_up_once(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        if org_id == 1 and len(server.batches) == 1:
            return [Deferred(alone=False) for _ in batch]
        return accept(org_id, batch)

    server.behaviour = held_up_once
    server.submit("a", "b", "c")
    server.submit("x", org_id=2)
    server.send(Drain())
    server.writer().serve()

    assert [(1, ["a", "b"]), (2, ["x"]), (1, ["a", "b"]), (1, ["c"])] == server.batches
    assert [] == server.pauses
    assert dict.fromkeys("abcx", "OK") == server.answers()


@pytest.mark.parametrize("organisations", [1, 3])
def test_writer_rests_when_everybody_is_held_up(server: Server, organisations: int) -> None:
    """Once every organisation in turn was put off, the writer waits a moment before it asks for the locks again."""

    def held_up(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        if len(server.batches) <= 2 * organisations:
            return [Deferred(alone=False) for _ in batch]
        return accept(org_id, batch)

    server.behaviour = held_up
    for org_id in range(organisations):
        server.submit(f"of-{org_id}", org_id=org_id)
    server.send(Drain())
    server.writer().serve()

    assert [0, 0] == server.pauses
    assert 3 * organisations == len(server.batches)


def test_alone_stays_alone(server: Server) -> None:
    """A command that needs a batch of its own is still alone after it was held up."""
    answers = {1: [Settled(Accepted(DoneResult()), "a"), Deferred(alone=True)], 2: [Deferred(alone=False)]}

    def behave(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        return list(answers.get(len(server.batches), accept(org_id, batch)))

    server.behaviour = behave
    server.submit("a", "b", "c")
    server.send(Drain())
    server.writer().serve()

    assert [["a", "b"], ["b"], ["b"], ["c"]] == [request_ids for _, request_ids in server.batches]


def test_what_waits_is_dropped_where_the_server_says_so(server: Server) -> None:
    """The batch in hand is answered as it came out; what waits or was put off is not written, and what follows is.

    What follows is sent behind the word to drop, however soon: a timer would now and then send it before.
    """

    def stops_meanwhile(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        if len(server.batches) == 1:
            server.send(DropWaiting())
            server.submit("later")
            server.send(Drain())
            return [*accept(org_id, batch[:1]), Deferred(alone=False)]
        return accept(org_id, batch)

    server.behaviour = stops_meanwhile
    server.submit("in hand", "put off", "waits")
    server.submit("of another", org_id=2)
    server.writer().serve()

    assert [(1, ["in hand", "put off"]), (1, ["later"])] == server.batches
    dropped = dict.fromkeys(("put off", "waits", "of another"), codes.SHUTTING_DOWN.reason)
    assert {"in hand": "OK", "later": "OK", **dropped} == server.answers()


def test_silence_does_not_cut_a_message(server: Server) -> None:
    """A message whose parts are far apart in time is one message."""
    drain = encode_to_writer(Drain())
    server.submit("a")
    server.stream.sendall(drain[:3])
    late = threading.Timer(3 * SILENCE_S, lambda: server.stream.sendall(drain[3:]))
    late.start()
    server.writer(renewed_s=SILENCE_S).serve()
    late.join()

    assert [(1, ["a"])] == server.batches
    assert {"a": "OK"} == server.answers()


class Clock:
    """A steady clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(server: Server) -> Clock:
    """The clock of the writer."""
    made = Clock()
    server.monotonic = made
    return made


def batch_sizes(server: Server) -> list[int]:
    """How large the batches were."""
    return [len(request_ids) for _, request_ids in server.batches]


@pytest.mark.parametrize(("took", "expected"), [(0.002, 0.002), (1.0, GATHER_S_MAX)])
def test_batch_after_a_crowd_gathers(server: Server, clock: Clock, took: float, expected: float) -> None:
    """What comes on the heels of a large batch waits for company, as long as that batch took at most."""

    def crowd(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        clock.now += took
        if len(server.batches) == 1:
            server.submit("x")
        else:
            server.send(Drain())
        return accept(org_id, batch)

    server.behaviour = crowd
    server.arrives_late = ["y"]
    server.submit(*"abcdef")
    server.writer(batch_max=6).serve()

    assert [6, 2] == batch_sizes(server)
    assert expected == pytest.approx(sum(server.rests))
    assert max(server.rests) <= GATHER_STEP_S


@pytest.mark.parametrize(
    ("there", "late", "rests"), [("uvwx", [], 0), ("uv", ["wx", "yz"], 1), ("u", ["v", "", "wx"], 3)]
)
def test_batch_gathers_no_longer_than_until_most_are_there(
    server: Server, clock: Clock, there: str, late: list[str], rests: int
) -> None:
    """Three fifths of those that the last batch had are enough: the others are on their way meanwhile."""

    def crowd(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        clock.now += 1.0
        if len(server.batches) == 1:
            server.submit(*there)
        else:
            server.send(Drain())
        return accept(org_id, batch)

    server.behaviour = crowd
    server.arrives_late = list(late)
    server.submit(*"abcdef")
    server.writer(batch_max=6).serve()

    assert [6, 4] == batch_sizes(server)
    assert [GATHER_STEP_S] * rests == server.rests


@pytest.mark.parametrize("before", [1, GATHER_FROM - 1])
def test_few_callers_never_wait_for_others(server: Server, clock: Clock, before: int) -> None:
    """After a batch of one, or of few, the next command is taken as it comes."""

    def follow(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        clock.now += 1.0
        if len(server.batches) == 1:
            server.submit("x")
        else:
            server.send(Drain())
        return accept(org_id, batch)

    server.behaviour = follow
    server.submit(*"abc"[:before])
    server.writer(batch_max=6).serve()

    assert [before, 1] == batch_sizes(server)
    assert [] == server.rests


def test_silence_ends_a_crowd(server: Server, clock: Clock) -> None:
    """Who comes a while after a large batch is a lone caller."""

    def crowd(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        clock.now += 1.0
        if len(server.batches) == 1:

            def come_late() -> None:
                clock.now += GATHER_S_MAX
                server.submit("x")

            threading.Timer(SILENCE_S, come_late).start()
        else:
            server.send(Drain())
        return accept(org_id, batch)

    server.behaviour = crowd
    server.submit(*"abcdef")
    server.writer(batch_max=6).serve()

    assert [6, 1] == batch_sizes(server)
    assert [] == server.rests


def test_drain_gathers_nothing(server: Server, clock: Clock) -> None:
    """Once nothing comes any more, nothing is waited for."""

    def crowd(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        clock.now += 1.0
        if len(server.batches) == 1:
            server.submit("x")
            server.send(Drain())
        return accept(org_id, batch)

    server.behaviour = crowd
    server.submit(*"abcdef")
    server.writer(batch_max=6).serve()

    assert [6, 1] == batch_sizes(server)
    assert [] == server.rests


def test_what_is_put_off_and_run_again_is_counted(server: Server) -> None:
    """A conflict and a command that others hold up travel with the batch that they happened to."""
    behaviours: Iterator[Behaviour] = iter((conflict, defer, accept))

    def behave(org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        return next(behaviours)(org_id, batch)

    server.behaviour = behave
    server.submit("a")
    server.send(Drain())
    server.writer().serve()

    assert [(1, 1), (0, 0)] == [(one.counted.conflicts, one.counted.deferred) for one in server.batches_told()]


def conflict(_: int, batch: Sequence[Submission]) -> list[Answer]:
    """Another process was in the way."""
    raise StorageConflict


def defer(_: int, batch: Sequence[Submission]) -> list[Answer]:
    """Others have the customers."""
    return [Deferred(alone=False) for _ in batch]
