"""Messages that fail, in a real database: the flag of the customer, the warning, and what verify says of both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from executing import ANN, BEN, GOLD, NOW, Bench, by_id, submission, template

from databases import NewDatabase
from points_grpc.domain.commands import AcknowledgeMessages, IssueTransferOtp, MessageResult, TransferPoints
from points_grpc.domain.outcome import Accepted, Settled
from points_grpc.domain.policy import OtpPolicy, OtpRequirement, Policy
from points_grpc.storage.verify import verify

TRANSFER = TransferPoints(points=10, program_id=GOLD, source=by_id(ANN), destination=by_id(BEN))
RETRY_AT = NOW + timedelta(seconds=1)


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """Ann with points and a code on its way, which no transfer needs."""
    made = Bench(template(new_database(tmp_path)))
    made.make_program(policy=Policy(otp=OtpPolicy(transfer=OtpRequirement.OFF)))
    made.make_customer(ANN, points=100)
    made.make_customer(BEN)
    made.accept(IssueTransferOtp(TRANSFER))
    yield made
    made.close()
    made.on.drop()


def tried(bench: Bench, *, delivered: bool) -> AcknowledgeMessages:
    """What became of the message."""
    [(message_id,)] = bench.rows("SELECT message_id FROM outbox")
    error, retry_at = ("", None) if delivered else ("Timeout", RETRY_AT)
    return AcknowledgeMessages((MessageResult(message_id, ANN, delivered, error, retry_at),))


def flags(bench: Bench) -> dict[int, int]:
    """The flags of the customers."""
    return dict(bench.rows("SELECT customer_id, messages_failed FROM customers"))


def pending(settled: Settled) -> list[dict[str, str]]:
    """The metadata of the warnings."""
    assert isinstance(settled.outcome, Accepted), settled.outcome
    return [dict(one.metadata) for one in settled.outcome.warnings]


EXPECTED = {"queue_size": "1", "failed_event": "TRANSFER_OTP", "failure_reason": "Timeout", "status_code": "0"}


def test_failure_warns_until_it_is_settled(bench: Bench) -> None:
    """From the first failed attempt to the delivery every write on the customer warns; verify agrees all along."""
    before = bench.do(TRANSFER)
    bench.accept(tried(bench, delivered=False), given=False)
    failed, flagged, sound = bench.do(TRANSFER), flags(bench), verify(bench.database).differences
    bench.accept(tried(bench, delivered=True), given=False)
    after = bench.do(TRANSFER)

    assert [[], [EXPECTED], []] == [pending(one) for one in (before, failed, after)]
    assert ({ANN: 1, BEN: 0}, {ANN: 0, BEN: 0}) == (flagged, flags(bench))
    assert [[], []] == [sound, verify(bench.database).differences]


def test_failure_and_write_in_one_batch(bench: Bench) -> None:
    """A write that shares its batch with the failure sees it."""
    _, settled = bench.settle(
        submission(tried(bench, delivered=False), "ack", given=False), submission(TRANSFER, "transfer")
    )

    assert [EXPECTED] == pending(settled)


def test_replaced_message_is_gone(bench: Bench) -> None:
    """A newer code replaces the one that failed, and with it the cause of the warning."""
    bench.accept(tried(bench, delivered=False), given=False)
    again = bench.do(IssueTransferOtp(TRANSFER))

    assert [] == pending(again)
    assert {ANN: 0, BEN: 0} == flags(bench)


def test_flag_that_is_wrong_is_found(bench: Bench) -> None:
    """verify names a customer whose flag does not agree with the outbox."""
    bench.change("UPDATE customers SET messages_failed = 1 WHERE customer_id = ?", BEN)
    [found] = verify(bench.database).differences

    assert ("failed_messages", "0", "1") == (found.invariant, found.expected, found.actual)
