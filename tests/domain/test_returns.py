"""Returns of purchases: what refuses the return, and what of its items is a warning instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain.commands import ReturnedItem, ReturnTransaction
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED, REVERSALS_ALLOWED
from points_grpc.domain.model import FraudStatus, Kind, Purchase
from points_grpc.domain.outcome import Accepted, Refused, ReturnedShare, ReturnResult
from points_grpc.domain.redemption import redemption_id_of
from worlds import ANN, BEN, CID, FIRST_ID, NOW, UNKNOWN, World, by_id, merge, metals, redeem

REDEMPTION = redemption_id_of(FIRST_ID + 1)
"""The id that the first redemption of a world gets."""


def world() -> World:
    """Ann redeemed 50 of her 80 points, of two lots."""
    found = metals()
    found.give(1, 30, expires_at=NOW + timedelta(days=10))
    found.give(2, 50, expires_at=NOW + timedelta(days=20))
    found.accept(redeem(50))
    return found


def item(redemption_id: str = REDEMPTION, points: int | None = None, customer_id: int = ANN) -> ReturnedItem:
    """A redemption attached to a return."""
    return ReturnedItem(redemption_id, points, by_id(customer_id))


def bring_back(*items: ReturnedItem, **given: Any) -> ReturnTransaction:
    """A return of Ann's on the bill B-1."""
    fields: dict[str, Any] = {"customer": by_id(ANN), "transaction_number": "B-1", "amount": None}
    return ReturnTransaction(items=items, **fields | given)


def redeemed_by(at: World, customer_id: int) -> None:
    """The customer redeems on the bill B-1, which is known from nothing else."""
    at.give(100 + customer_id, 10, customer_id=customer_id)
    at.accept(redeem(10, customer_id=customer_id, transaction_number="B-1"))


def accepted(at: World, command: ReturnTransaction) -> tuple[Accepted, ReturnResult]:
    """The acceptance and its result."""
    outcome = at.decide(command)

    assert isinstance(outcome, Accepted), outcome
    assert isinstance(outcome.result, ReturnResult)
    return outcome, outcome.result


def test_items_are_reversed_in_order() -> None:
    """Each item sees its predecessors; the last one gets what is left, each in a journal transaction of its own."""
    at = world()
    outcome, result = accepted(at, bring_back(item(points=20), item()))

    assert [(20, 30), (30, 0)] == [(share.credited, share.left) for share in result.shares]
    assert () == outcome.warnings
    assert 80 == at.wallet(ANN).current
    assert [20, 30] == [entry.points for entry in at.journal if entry.kind is Kind.REVERSAL]
    assert result.balances == (at.balance(ANN),)
    assert (50, ANN) == (at.returns["B-1"].points, at.returns["B-1"].customer_id)


def test_return_without_items() -> None:
    """A purchase can be returned with nothing to give back."""
    at = world()
    outcome, result = accepted(at, bring_back(amount=700))

    assert ((), ()) == (outcome.warnings, result.shares)
    assert (700, 0) == (at.returns["B-1"].amount, at.returns["B-1"].points)


WARNED: tuple[tuple[str, ReturnedItem, Callable[[World], object], Code, str | None], ...] = (
    ("points-zero", item(points=0), id, codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID, "POINTS"),
    ("points-negative", item(points=-1), id, codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID, "POINTS"),
    ("no-redemption-id", item(""), id, codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID, "REDEMPTION_ID"),
    ("malformed-redemption-id", item("r 1"), id, codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID, "REDEMPTION_ID"),
    ("long-redemption-id", item("r" * 33), id, codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID, "REDEMPTION_ID"),
    ("odd-redemption-id", item("r\x00\u202e"), id, codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID, "REDEMPTION_ID"),
    ("unknown-redemption", item("r0"), id, codes.RETURN_REDEMPTION_NOT_FOUND, None),
    ("more-than-left", item(points=51), id, codes.RETURN_NOT_POSSIBLE, "REVERSAL_POINTS_MISMATCH"),
    (
        "fraud",
        item(),
        lambda at: at.change_customer(ANN, fraud_status=FraudStatus.CONFIRMED),
        codes.RETURN_NOT_POSSIBLE,
        "CUSTOMER_FRAUD_OPERATION_BLOCKED",
    ),
    (
        "window-passed",
        item(),
        lambda at: (at.change_redemption_policy(reversal_days=1), at.pass_time(days=2)),
        codes.RETURN_NOT_POSSIBLE,
        "WINDOW_PASSED",
    ),
    ("another-customer", item(customer_id=BEN), id, codes.RETURN_INVALID_CUSTOMER_DETAILS, None),
    ("unknown-customer", item(customer_id=99), id, codes.RETURN_INVALID_CUSTOMER_DETAILS, None),
    (
        "malformed-customer",
        ReturnedItem(REDEMPTION, None, None),
        id,
        codes.RETURN_INVALID_CUSTOMER_DETAILS,
        None,
    ),
    (
        "switched-off",
        item(),
        lambda at: at.config.update({REVERSALS_ALLOWED: "false"}),
        codes.REVERSAL_DISABLED,
        None,
    ),
)


@pytest.mark.parametrize(
    ("one", "prepare", "code", "cause"), [row[1:] for row in WARNED], ids=[row[0] for row in WARNED]
)
def test_item_that_cannot_be_reversed_is_a_warning(
    one: ReturnedItem, prepare: Callable[[World], object], code: Code, cause: str | None
) -> None:
    """The return is booked, nothing of the item is given back, and the warning names its index."""
    at = world()
    prepare(at)
    outcome, result = accepted(at, bring_back(item("r00"), one))
    warning = outcome.warnings[1]

    assert (code, "1", "items[1]") == (warning.code, warning.metadata["index"], warning.field)
    assert cause == warning.metadata.get("cause")
    assert ReturnedShare("" if cause == "REDEMPTION_ID" else one.redemption_id) == result.shares[1]
    assert 30 == at.wallet(ANN).current
    assert "B-1" in at.returns


def test_malformed_redemption_id_is_kept_nowhere() -> None:
    """Whatever the warning is for, a malformed id stands in no answer."""
    at = world()
    at.config.update({REVERSALS_ALLOWED: "false"})
    _, result = accepted(at, bring_back(item("r 1"), item("r" * 33), item("r" * 32)))

    assert ["", "", "r" * 32] == [share.redemption_id for share in result.shares]


def test_used_up_redemption_is_a_warning() -> None:
    """A second item on a redemption that the first one used up cannot be restored."""
    outcome, _ = accepted(world(), bring_back(item(), item()))

    assert [codes.RETURN_NOT_POSSIBLE] == [one.code for one in outcome.warnings]
    assert {"index": "1", "cause": "REDEMPTION_ALREADY_REVERSED"} == outcome.warnings[0].metadata


def test_expired_share_is_reported() -> None:
    """What belongs to a lot that expired meanwhile is reported with the item, and not credited."""
    at = world()
    at.pass_time(days=15)
    outcome, result = accepted(at, bring_back(item()))

    assert (20, 30) == (result.shares[0].credited, result.shares[0].expired)
    assert [(codes.POINTS_NOT_ALLOCATED, {"points": "30"}, "items[0]")] == [
        (one.code, one.metadata, one.field) for one in outcome.warnings
    ]


REFUSED: tuple[tuple[str, Callable[[World], object], dict[str, Any], Code, dict[str, str]], ...] = (
    ("paused", lambda at: setattr(at, "paused", True), {}, codes.PAUSED, {"cause": "ORGANISATION_PAUSED"}),
    ("config-unreadable", lambda at: setattr(at, "config_available", False), {}, codes.STORAGE_UNAVAILABLE, {}),
    (
        "key-does-not-parse",
        lambda at: at.config.update({MISSED_CALLS_ALLOWED: "maybe"}),
        {},
        codes.ORG_CONFIGURATION_INVALID,
        {"key": MISSED_CALLS_ALLOWED},
    ),
    ("customer-unknown", id, {"customer": UNKNOWN}, codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}),
    (
        "bill-of-another",
        lambda at: at.purchases.update({"B-1": Purchase("B-1", BEN, 1, 5)}),
        {},
        codes.RESOURCE_NOT_FOUND,
        {"resource": "Transaction"},
    ),
    (
        "redeemed-by-another",
        lambda at: redeemed_by(at, BEN),
        {},
        codes.RESOURCE_NOT_FOUND,
        {"resource": "Transaction"},
    ),
    ("returned", lambda at: at.accept(bring_back()), {}, codes.RESOURCE_EXISTS, {"resource": "Return"}),
)


@pytest.mark.parametrize(
    ("prepare", "changes", "code", "metadata"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_return_is_refused(
    prepare: Callable[[World], object], changes: dict[str, Any], code: Code, metadata: dict[str, str]
) -> None:
    """What refuses the return as a whole leaves the redemptions as they were."""
    at = world()
    prepare(at)
    refused = at.refuse(bring_back(item(), **changes))

    assert isinstance(refused, Refused)
    assert (code, metadata) == (refused.code, refused.metadata)
    assert 30 == at.wallet(ANN).current


def test_bill_of_one_who_was_merged_is_the_survivors() -> None:
    """Past entries are read through the survivor: either name brings the bill back, and a stranger's does not."""
    for named, code in ((BEN, None), (ANN, None), (CID, codes.RESOURCE_NOT_FOUND)):
        at = world()
        at.purchases["B-1"] = Purchase("B-1", ANN, 1, 5)
        at.accept(merge())
        outcome = at.decide(bring_back(item(customer_id=BEN), customer=by_id(named)))

        assert code is (outcome.code if isinstance(outcome, Refused) else None)
        assert (0 if code else 50) == at.wallet(BEN).current - 30


@pytest.mark.parametrize("bill", [None, Purchase("B-1", ANN, 1, 5)])
def test_bill_on_which_the_customer_redeemed(bill: Purchase | None) -> None:
    """Whoever redeemed on a bill that nobody recorded brings it back; a bill that is recorded is the buyer's alone."""
    at = world()
    redeemed_by(at, BEN)
    if bill is None:
        redeemed_by(at, ANN)
    else:
        at.purchases["B-1"] = bill

    assert isinstance(at.ask(bring_back()), Accepted)
    assert (bill is None) == isinstance(at.ask(bring_back(customer=by_id(BEN))), Accepted)
    assert codes.RESOURCE_NOT_FOUND is at.refuse(bring_back(customer=by_id(CID))).code


def test_redemptions_of_one_who_was_merged_are_the_survivors() -> None:
    """A bill on which only somebody redeemed who was merged away is brought back by either name, and by no other."""
    for named, code in ((BEN, None), (ANN, None), (CID, codes.RESOURCE_NOT_FOUND)):
        at = world()
        redeemed_by(at, ANN)
        at.accept(merge())
        outcome = at.decide(bring_back(customer=by_id(named)))

        assert code is (outcome.code if isinstance(outcome, Refused) else None)


def test_redemption_of_the_same_batch_counts() -> None:
    """A redemption just before says whose the bill is, in the same batch too."""
    at = world()
    _, refused = at.decide_batch([redeem(10, transaction_number="B-1"), bring_back(customer=by_id(BEN))])

    assert isinstance(refused, Refused)
    assert codes.RESOURCE_NOT_FOUND is refused.code


def test_bill_of_a_survivor_is_not_the_victims() -> None:
    """What the survivor bought is not brought back in the victim's name."""
    at = world()
    at.purchases["B-1"] = Purchase("B-1", BEN, 1, 5)
    at.accept(merge())

    assert codes.RESOURCE_NOT_FOUND is at.refuse(bring_back()).code


@pytest.mark.parametrize(("first", "then"), [(a, b) for a in range(len(REFUSED)) for b in range(a + 1, len(REFUSED))])
def test_first_rule_in_order_refuses(first: int, then: int) -> None:
    """Of two rules that refuse, the earlier one answers."""
    at = world()
    changes: dict[str, Any] = {}
    for place in (then, first):
        REFUSED[place][1](at)
        changes |= REFUSED[place][2]

    assert REFUSED[first][3] is at.refuse(bring_back(**changes)).code
