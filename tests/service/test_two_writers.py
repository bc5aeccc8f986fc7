"""Two processes write the same PostgreSQL: whatever their statements' order, it is as if one had come after the other.

Each writer is an executor with a slot, a connection and ids of its own, run as the committer does: a conflict runs a
batch again, what is deferred comes again. A gate stops one writer before a statement, until the other is done or waits.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from executing import GOLD, Bench, by_id, submission, template

from databases import PostgresDatabase, on_postgres
from points_grpc.domain.commands import (
    AuthorizeRedemption,
    CaptureRedemption,
    Command,
    EraseCustomer,
    IssueTransferOtp,
    MergeCustomers,
    RedeemPoints,
    ReleaseRedemption,
    ReverseRedemption,
    Submission,
    TransferPoints,
)
from points_grpc.domain.outcome import Accepted, Outcome, Settled
from points_grpc.domain.policy import OtpPolicy, OtpRequirement, Policy
from points_grpc.service.executor import PASSED_OVER_MAX, Answer, Deferred
from points_grpc.service.ports import StorageConflict
from points_grpc.storage.verify import verify
from postgres_cluster import Cluster

GATE_S = 0.3
"""How long a writer is held while the other may finish or has to wait for it."""

_customers = count(1_000, 10)
_request_ids = count(1)


class Writers:
    """Two benches on one database."""

    def __init__(self, on: PostgresDatabase) -> None:
        self.first = Bench(on, first_id=10_000_000)
        self.second = Bench(on, first_id=20_000_000)

    def close(self) -> None:
        self.first.close()
        self.second.close()


@pytest.fixture(scope="module")
def writers(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writers]:
    """Two writers on a database with a program."""
    made = Writers(template(on_postgres(postgres)(tmp_path_factory.mktemp("unused"))))
    made.first.make_program(GOLD, Policy(otp=OtpPolicy(transfer=OtpRequirement.OFF)))
    yield made
    assert [] == verify(made.first.database).differences
    made.close()


def settle(bench: Bench, batch: Sequence[Submission]) -> dict[str, list[Outcome]]:
    """Runs a batch as the committer would, until all is answered; the outcomes by request id."""
    waiting = deque(batch)
    found: dict[str, list[Outcome]] = {}
    for attempt in range(200):
        now = list(waiting)
        try:
            answers = bench.run(now)
        except StorageConflict:
            time.sleep(0.002 * min(attempt + 1, 10) * random.uniform(0.5, 1.5))
            continue
        waiting.clear()
        for one, answer in zip(now, answers, strict=True):
            if isinstance(answer, Deferred):
                waiting.append(one)
            else:
                assert isinstance(answer, Settled)
                found.setdefault(one.request_id, []).append(answer.outcome)
        if not waiting:
            return found
    raise AssertionError("conflicts without end")


# -- pairs of commands -------------------------------------------------------------------------------------------------

Pair = Callable[[Bench, int], tuple[Command, Command]]
"""Makes the world of a pair around a customer with 100 points, and its commands; customers are the next numbers."""


def redeem(customer_id: int, points: int) -> RedeemPoints:
    return RedeemPoints(by_id(customer_id), GOLD, points)


def send(source_id: int, destination_id: int, points: int, **given: str) -> TransferPoints:
    return TransferPoints(points, GOLD, by_id(source_id), by_id(destination_id), **given)


def erase(customer_id: int) -> EraseCustomer:
    return EraseCustomer(by_id(customer_id), True, "asked for")


def reversals(bench: Bench, one: int) -> tuple[Command, Command]:
    redemption_id = bench.accept(redeem(one, 70)).redemption_id
    again = ReverseRedemption(by_id(one), redemption_id=redemption_id, points=50)
    return again, again


def ends_of_a_hold(bench: Bench, one: int) -> tuple[Command, Command]:
    hold_id = bench.accept(AuthorizeRedemption(redeem(one, 80), 600)).hold_id
    return CaptureRedemption(hold_id, 60), ReleaseRedemption(hold_id)


def uses_of_a_code(bench: Bench, one: int) -> tuple[Command, Command]:
    bench.accept(IssueTransferOtp(send(one, one + 1, 30)))
    message = next(m for m in bench.repository.due_messages(bench.now, 1_000) if m.customer_id == one)
    code = bench.keyring.open(message.key_id, message.sealed)
    return send(one, one + 1, 20, code=code), send(one, one + 1, 20, code=code)


PAIRS: dict[str, Pair] = {
    "redeem and redeem": lambda _, one: (redeem(one, 60), redeem(one, 60)),
    "redeem and transfer out": lambda _, one: (redeem(one, 60), send(one, one + 1, 60)),
    "transfers that cross": lambda _, one: (send(one, one + 1, 60), send(one + 1, one, 60)),
    "reverse and reverse": reversals,
    "capture and release": ends_of_a_hold,
    "a code used twice": uses_of_a_code,
    "merge and transfer": lambda _, one: (
        MergeCustomers(by_id(one), by_id(one + 2), "one person"),
        send(one, one + 1, 40),
    ),
    "merge and transfer to the victim": lambda _, one: (
        MergeCustomers(by_id(one), by_id(one + 2), "one person"),
        send(one + 1, one, 40),
    ),
    "erasure and merge": lambda _, one: (erase(one), MergeCustomers(by_id(one + 1), by_id(one), "one person")),
    "merge and erasure": lambda _, one: (MergeCustomers(by_id(one + 1), by_id(one), "one person"), erase(one)),
    "erasure and transfer to who is erased": lambda _, one: (erase(one), send(one + 1, one, 40)),
    "erasure and erasure": lambda _, one: (erase(one), erase(one)),
}

Result = tuple[bool, bool, tuple[int, ...]]
"""Whether each was accepted, and what the customers have then, and whether they are erased."""


def prepared(writers: Writers, pair: Pair) -> tuple[int, Submission, Submission]:
    """Three customers, two of them with 100 points, and the commands of the pair."""
    bench = writers.first
    one = next(_customers)
    for customer_id, points in ((one, 100), (one + 1, 100), (one + 2, 0)):
        bench.make_customer(customer_id, points=points)
    commands = pair(bench, one)
    made = [submission(command, f"pair-{next(_request_ids)}") for command in commands]
    return one, made[0], made[1]


def result(writers: Writers, one: int, outcomes: Sequence[Outcome]) -> Result:
    accepted = [isinstance(outcome, Accepted) for outcome in outcomes]
    query = (
        "SELECT current, held, CASE WHEN erased_at IS NULL THEN 0 ELSE 1 END FROM wallets"
        " JOIN customers ON customers.org_id = wallets.org_id AND customers.customer_id = wallets.customer_id"
        " WHERE wallets.customer_id BETWEEN ? AND ? AND program_id = ? ORDER BY wallets.customer_id"
    )
    figures = [figure for row in writers.first.rows(query, one, one + 2, GOLD) for figure in row]
    return accepted[0], accepted[1], tuple(figures)


def serial(writers: Writers, pair: Pair, *, turned: bool) -> Result:
    """What the pair comes to, one after the other."""
    one, first, second = prepared(writers, pair)
    found: dict[str, list[Outcome]] = {}
    for command in (second, first) if turned else (first, second):
        found |= settle(writers.first, [command])
    return result(writers, one, [found[first.request_id][0], found[second.request_id][0]])


def gated(writers: Writers, pair: Pair, gate: str) -> Result:
    """What it comes to if the first writer stands before a statement while the second runs."""
    one, first, second = prepared(writers, pair)
    reached, opened = threading.Event(), threading.Event()
    found: dict[str, list[Outcome]] = {}

    def stand(text: str) -> None:
        if gate in text and not reached.is_set():
            reached.set()
            opened.wait(10)

    def run(bench: Bench, command: Submission) -> None:
        found.update(settle(bench, [command]))

    writers.first.probe(stand)
    holding = threading.Thread(target=run, args=(writers.first, first))
    holding.start()
    assert reached.wait(10), "the gate is not on the way"
    passing = threading.Thread(target=run, args=(writers.second, second))
    passing.start()
    passing.join(GATE_S)
    opened.set()
    for thread in (holding, passing):
        thread.join(30)
        assert not thread.is_alive()
    writers.first.probe(None)
    return result(writers, one, [found[first.request_id][0], found[second.request_id][0]])


GATES = ("FROM orgs", "FOR NO KEY UPDATE", "FROM requests", "INSERT INTO requests", "COMMIT")
"""Before names are resolved; before the lock; after it; before the last write; before the end."""


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", PAIRS)
def test_pair_is_as_if_one_came_after_the_other(writers: Writers, name: str, gate: str) -> None:
    """Accepted or not, and all balances, are those of one of the two orders."""
    orders = {serial(writers, PAIRS[name], turned=turned) for turned in (False, True)}

    assert gated(writers, PAIRS[name], gate) in orders


# -- the same command, again and again ---------------------------------------------------------------------------------


def sent_again(writers: Writers, number: int) -> None:
    """Commands each sent one to five times through two writers: each has one effect and one outcome."""
    chance = random.Random(number)
    customers = [next(_customers) for _ in range(20)]
    for customer_id in customers:
        writers.first.make_customer(customer_id, points=1_000)
    commands = [
        submission(send(*chance.sample(customers, 2), chance.randint(1, 60)), f"again-{next(_request_ids)}")
        for _ in range(number)
    ]
    sent = [one for one in commands for _ in range(chance.randint(1, 5))]
    chance.shuffle(sent)
    halves = (sent[::2], sent[1::2])
    found: list[dict[str, list[Outcome]]] = [{}, {}]

    def run(bench: Bench, half: Sequence[Submission], outcomes: dict[str, list[Outcome]]) -> None:
        for start in range(0, len(half), 32):
            for request_id, answers in settle(bench, half[start : start + 32]).items():
                outcomes.setdefault(request_id, []).extend(answers)

    threads = [
        threading.Thread(target=run, args=(bench, half, outcomes))
        for bench, half, outcomes in zip((writers.first, writers.second), halves, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(one.request_id for one in sent)
    booked = Counter(
        request_id
        for (request_id,) in writers.first.rows("SELECT request_id FROM transactions WHERE request_id LIKE 'again-%'")
    )
    for request_id, times in counts.items():
        answers = [one for half in found for one in half.get(request_id, [])]
        accepted = [one for one in answers if isinstance(one, Accepted)]

        assert times == len(answers)
        assert booked[request_id] == (1 if accepted else 0)
        assert all(one == accepted[0] for one in accepted)
        assert not accepted or len(accepted) == times
    total = sum(writers.first.current(one) for one in customers)
    assert 20 * 1_000 == total
    assert [] == verify(writers.first.database).differences


def test_who_is_passed_over_again_and_again_waits_in_the_end(writers: Writers) -> None:
    """A customer whom somebody else always has locked is passed over a few times; then the batch waits for the lock."""
    one = next(_customers)
    writers.first.make_customer(one, points=100)
    command = submission(redeem(one, 10), f"patient-{next(_request_ids)}")
    found: list[Answer] = []
    with writers.first.on.connection() as greedy:
        greedy.execute("BEGIN")
        greedy.execute(f"SELECT 1 FROM customers WHERE customer_id = {one} FOR UPDATE")
        passed_over = [writers.second.run([command]) for _ in range(PASSED_OVER_MAX)]
        waiting = threading.Thread(target=lambda: found.extend(writers.second.run([command])))
        waiting.start()
        until = time.monotonic() + 60
        while waiting.is_alive() and not waits_for_a_lock(writers) and time.monotonic() < until:
            time.sleep(0.01)
        greedy.execute("COMMIT")
    waiting.join(60)

    assert [[Deferred(alone=False)]] * PASSED_OVER_MAX == passed_over
    assert [Settled] == [type(answer) for answer in found]


def waits_for_a_lock(writers: Writers) -> bool:
    """Whether some connection to the database does."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    [(count,)] = writers.first.rows(query)
    return bool(count)


def test_command_sent_again_through_both_has_one_effect(writers: Writers) -> None:
    """Three hundred commands."""
    sent_again(writers, 300)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_thousand_commands_sent_again_have_one_effect_each(writers: Writers) -> None:
    """In batches of 32, as often as they come."""
    sent_again(writers, 10_000)
