"""Missed calls go again: what proved nothing after a day, what proved something after 400 days, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from executing import ANN, BEN, GOLD, NOW, Bench, by_id, template

from databases import NewDatabase
from points_grpc.domain.commands import RecordMissedCall, RedeemPoints, SetConfigKey
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED
from points_grpc.domain.model import Identifier, IdentifierType
from points_grpc.storage.apply import CALLS_KEPT_DAYS, CALLS_PURGED_PER_CALL
from points_grpc.storage.times import to_micros
from points_grpc.storage.verify import verify


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """Ann and Ben, redemptions by missed calls allowed."""
    made = Bench(template(new_database(tmp_path)))
    made.make_program()
    made.make_customer(ANN, points=100)
    made.make_customer(BEN, points=100)
    made.accept(SetConfigKey(MISSED_CALLS_ALLOWED, "true", ""))
    yield made
    made.close()


def call(bench: Bench, customer_id: int) -> None:
    """A call from the customer's number, now."""
    bench.accept(RecordMissedCall(Identifier(IdentifierType.MOBILE, f"+9198765400{customer_id}"), None))


def redeem(bench: Bench, customer_id: int) -> None:
    """A redemption that a missed call proves."""
    bench.accept(RedeemPoints(by_id(customer_id), GOLD, 1, missed_call=True))


def calls(bench: Bench) -> list[tuple[int, int, bool]]:
    """Whose calls are kept: the customer, days since the first one, whether it proved something."""
    query = "SELECT customer_id, called_at, used_by IS NOT NULL FROM missed_calls ORDER BY call_id"
    found = bench.rows(query)
    return [(customer_id, (at - to_micros(NOW)) // 86_400_000_000, bool(used)) for customer_id, at, used in found]


def test_useless_calls_go_with_the_next_one(bench: Bench) -> None:
    """A call that can prove nothing any more is gone once its customer calls again; a used one and others' stay."""
    call(bench, ANN)
    redeem(bench, ANN)
    for customer_id in (ANN, ANN, BEN):
        call(bench, customer_id)
    bench.pass_time(days=1)
    call(bench, ANN)
    within = calls(bench)
    bench.pass_time(seconds=1)
    call(bench, ANN)

    assert [(ANN, 0, True), (ANN, 0, False), (ANN, 0, False), (BEN, 0, False), (ANN, 1, False)] == within
    assert [(ANN, 0, True), (BEN, 0, False), (ANN, 1, False), (ANN, 1, False)] == calls(bench)
    assert [] == verify(bench.database).differences


def test_old_calls_go_a_few_at_a_time(bench: Bench) -> None:
    """Of calls older than 400 days, used or not, each new call takes a few away, the oldest first."""
    for _ in range(CALLS_PURGED_PER_CALL + 1):
        call(bench, ANN)
        redeem(bench, ANN)
    bench.pass_time(days=CALLS_KEPT_DAYS)
    call(bench, BEN)
    at_the_end = len(calls(bench))
    bench.pass_time(seconds=1)
    call(bench, BEN)
    left = calls(bench)
    call(bench, BEN)

    assert CALLS_PURGED_PER_CALL + 2 == at_the_end
    assert [(ANN, 0, True), *2 * [(BEN, CALLS_KEPT_DAYS, False)]] == left
    assert 3 * [(BEN, CALLS_KEPT_DAYS, False)] == calls(bench)
    assert [] == verify(bench.database).differences
