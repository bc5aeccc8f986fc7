"""Returns in a real database: written once, read back, and compared with the journal by verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from executing import ANN, BEN, GOLD, Bench, by_id, template

from databases import NewDatabase
from points_grpc import codes
from points_grpc.domain.commands import RedeemPoints, ReturnedItem, ReturnTransaction
from points_grpc.storage.verify import verify


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """Ann with 100 points, of which she redeemed 60."""
    made = Bench(template(new_database(tmp_path)))
    made.make_program()
    made.make_customer(ANN, points=100)
    yield made
    made.close()
    made.on.drop()


def bring_back(bench: Bench, number: str = "B-1") -> ReturnTransaction:
    """A return of all that Ann redeemed, and of something unknown."""
    made = bench.accept(RedeemPoints(customer=by_id(ANN), program_id=GOLD, points=60))
    items = (ReturnedItem(made.redemption_id, 25, by_id(ANN)), ReturnedItem("r0", None, by_id(ANN)))
    return ReturnTransaction(by_id(ANN), number, 990, items, "broken")


def test_return_is_booked_once(bench: Bench) -> None:
    """A return is a row of its own; its request id replays it, another one on the same bill is refused."""
    command = bring_back(bench)
    first, again = bench.do(command, "return-1"), bench.do(command, "return-1")

    assert (False, True) == (first.replayed, again.replayed)
    assert first.outcome == again.outcome
    assert codes.RESOURCE_EXISTS is bench.refuse(command).code
    assert [("B-1", ANN, 990, 25, "return-1", "till-1", "broken")] == bench.rows(
        "SELECT transaction_number, customer_id, amount, points, request_id, actor, notes FROM returns"
    )
    assert 65 == bench.current(ANN)
    assert [] == verify(bench.database).differences


def test_bill_on_which_another_redeemed_is_not_returned(bench: Bench) -> None:
    """Ben cannot bring back a bill that is known from nothing but Ann's redemption, and Ann still can."""
    bench.make_customer(BEN)
    made = bench.accept(RedeemPoints(customer=by_id(ANN), program_id=GOLD, points=60, transaction_number="B-1"))
    items = (ReturnedItem(made.redemption_id, None, by_id(ANN)),)
    refused = bench.refuse(ReturnTransaction(by_id(BEN), "B-1", None, (), ""))
    bench.accept(ReturnTransaction(by_id(ANN), "B-1", None, items, ""))

    assert codes.RESOURCE_NOT_FOUND is refused.code
    assert 100 == bench.current(ANN)


def test_return_whose_points_are_not_those_of_its_reversals_is_found(bench: Bench) -> None:
    """verify names a return whose points do not agree with the journal."""
    bench.accept(bring_back(bench))
    bench.change("UPDATE returns SET points = points + 1")
    [found] = verify(bench.database).differences

    assert ("returned_points", "25", "26") == (found.invariant, found.expected, found.actual)
