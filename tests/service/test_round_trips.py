"""How often a batch waits for PostgreSQL, counted by the server's "ready": a number, however fast the machine is.

Names and programs; lock, request ids, clock and state; what is written; the commit. What follows from answers (what is
due, open holds, windows of equal transfers) is asked in one more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from executing import ANN, BEN, CID, GOLD, Bench, by_id, submission, template

from databases import ATestsDatabase, on_postgres
from points_grpc.domain.commands import Command, Expiry, RedeemPoints, Submission, TransferPoints
from points_grpc.domain.model import Identifier, IdentifierType
from points_grpc.domain.outcome import Accepted, Settled
from points_grpc.domain.policy import OtpPolicy, OtpRequirement, Policy, TransferPolicy
from postgres_cluster import Cluster

PLAIN, WATCHED = GOLD, GOLD + 1
"""A program as it is unless told otherwise, and one that refuses equal transfers."""


@pytest.fixture(scope="module")
def world(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ATestsDatabase:
    """Two programs, and three customers with points in both."""
    made = template(on_postgres(postgres)(tmp_path_factory.mktemp("unused")))
    bench = Bench(made)
    otp = OtpPolicy(transfer=OtpRequirement.OFF)
    bench.make_program(PLAIN)
    bench.make_program(WATCHED, Policy(otp=otp, transfer=TransferPolicy(duplicate_window_s=60)))
    for customer_id in (ANN, BEN, CID):
        bench.make_customer(customer_id, PLAIN, WATCHED, points=100_000)
        bench.issue(customer_id, 100_000, program_id=WATCHED)
    bench.close()
    return made


@pytest.fixture
def bench(world: ATestsDatabase) -> Iterator[Bench]:
    """An executor that has written before: statements are prepared, programs and stream known."""
    made = Bench.copied(world, first_id=2_000_000)
    for number in range(3):
        made.accept(transfer(number))
        made.accept(transfer(number, WATCHED))
    yield made
    made.close()
    made.on.drop()


def transfer(number: int, program_id: int = PLAIN) -> TransferPoints:
    """A transfer unlike the others, by three kinds of identifiers."""
    kinds = (
        lambda one: Identifier(IdentifierType.MOBILE, f"+9198765400{one}"),
        lambda one: Identifier(IdentifierType.EXTERNAL_ID, f"X-{one}"),
        by_id,
    )
    source, destination = ((ANN, BEN), (BEN, CID), (CID, ANN))[number % 3]
    kind, other = kinds[number % 3], kinds[(number + 1) % 3]
    return TransferPoints(number + 1, program_id, kind(source), other(destination))


def redemption(number: int) -> RedeemPoints:
    """A redemption with a reference and a bill of its own."""
    return RedeemPoints(
        by_id(ANN), PLAIN, number + 1, external_reference=f"ref-{number}", transaction_number=f"bill-{number}"
    )


def round_trips(bench: Bench, batch: Sequence[Submission]) -> int:
    """How often the writer's connection was answered to the end while the batch ran; all of it is accepted."""
    connection = bench.repository.connection().driver_connection.pgconn
    with tempfile.NamedTemporaryFile() as trace:
        connection.trace(trace.fileno())
        answers = bench.run(batch)
        connection.untrace()
        said = Path(trace.name).read_text(encoding="utf-8", errors="replace")

    assert all(isinstance(one, Settled) and isinstance(one.outcome, Accepted) for one in answers), answers
    return said.count("ReadyForQuery")


def many(make: Callable[[int], Command], number: int) -> list[Submission]:
    """Commands under request ids of their own."""
    return [submission(make(one + 10), f"many-{one}") for one in range(number)]


@pytest.mark.parametrize("size", [1, 24, 200])
def test_a_batch_of_transfers_waits_four_times(bench: Bench, size: int) -> None:
    """However large it is."""
    assert 4 == round_trips(bench, many(transfer, size))


def test_a_batch_sent_again_waits_four_times(bench: Bench) -> None:
    """Names, what was recorded, the names of today for the answers, the commit."""
    batch = many(transfer, 24)
    for _ in range(2):  # written, and answered again once, which prepares the statement of the names
        bench.run(batch)

    assert 4 == round_trips(bench, batch)


def test_windows_of_equal_transfers_take_one_more(bench: Bench) -> None:
    """They end at the instant that is read after the lock."""
    assert 5 == round_trips(bench, many(lambda number: transfer(number, WATCHED), 24))


def test_a_batch_of_redemptions_waits_five_times(bench: Bench) -> None:
    """References that open holds keep are asked for once the clock is known."""
    assert 5 == round_trips(bench, many(redemption, 24))


def test_what_is_due_takes_one_more(bench: Bench) -> None:
    """Promised lots of wallets of which something expired meanwhile, asked for all at once."""
    for customer_id in (ANN, BEN, CID):
        bench.issue(customer_id, 10, Expiry(at=bench.now + timedelta(days=1)))
    bench.pass_time(days=2)

    assert 5 == round_trips(bench, many(transfer, 24))
