"""A return over a loopback port: what can be given back is, and the rest is warnings of an OK answer."""

from __future__ import annotations

import grpc
from test_documented_transfer import current, customer

from points_grpc.v1 import customer_service_pb2, points_service_pb2, wallet_service_pb2
from running import Caller, refused


def test_return_gives_back_what_it_can(caller: Caller) -> None:
    """Each item has its result in order; the unknown one is warning 902 with its index; a second return is 10013."""
    ann = customer(caller, 100)
    identifier = {"type": "ID", "value": ann}
    redeemed = caller.ask(
        caller.points.RedeemPoints,
        points_service_pb2.RedeemPointsRequest(),
        {"customerIdentifier": identifier, "points": 60},
    )
    fields = {
        "transactionNumber": f"B-{ann}",
        "customerIdentifier": identifier,
        "amountMinorUnits": 4990,
        "items": [{"redemptionId": "r0"}, {"redemptionId": redeemed.redemption_id, "pointsToBeReversed": 40}],
        "requestId": f"return-{ann}",
    }
    request = points_service_pb2.ReturnTransactionRequest
    answer = caller.ask(caller.points.ReturnTransaction, request(), fields)
    again = caller.ask(caller.points.ReturnTransaction, request(), fields)
    became = caller.ask(
        caller.wallets.GetTransaction, wallet_service_pb2.GetTransactionRequest(), {"requestId": f"return-{ann}"}
    )
    with refused() as found:
        caller.ask(caller.points.ReturnTransaction, request(), {**fields, "requestId": f"another-{ann}"})

    assert [(0, 0), (40, 20)] == [(one.points_reversed, one.points_left) for one in answer.results]
    assert [(902, "0")] == [(one.code, one.metadata["index"]) for one in answer.warnings]
    assert (True, answer.results) == (again.replayed, again.results)
    assert (10013, grpc.StatusCode.ALREADY_EXISTS) == (found[0].number, found[0].code)
    assert 80 == current(caller, ann)
    assert (answer.results[1].transaction_id, 40) == (became.transaction.transaction_id, became.transaction.points)
    assert [] == list(became.further_transaction_ids)


def test_what_became_of_a_return(caller: Caller) -> None:
    """Every journal transaction of it is named; so is every one of an erasure."""
    ann = customer(caller, 100)
    identifier = {"type": "ID", "value": ann}
    redeemed = [
        caller.ask(
            caller.points.RedeemPoints,
            points_service_pb2.RedeemPointsRequest(),
            {"customerIdentifier": identifier, "points": points},
        ).redemption_id
        for points in (10, 20)
    ]
    fields = {
        "transactionNumber": f"T-{ann}",
        "customerIdentifier": identifier,
        "items": [{"redemptionId": one} for one in (redeemed[0], "r0", redeemed[1])],
        "requestId": f"three-{ann}",
    }
    answer = caller.ask(caller.points.ReturnTransaction, points_service_pb2.ReturnTransactionRequest(), fields)
    became = caller.ask(
        caller.wallets.GetTransaction, wallet_service_pb2.GetTransactionRequest(), {"requestId": f"three-{ann}"}
    )

    booked = [one.transaction_id for one in answer.results if one.transaction_id]
    assert 2 == len(booked)
    assert booked == [became.transaction.transaction_id, *became.further_transaction_ids]


def test_bill_of_one_who_was_merged_away(caller: Caller) -> None:
    """The survivor brings back what the victim bought; nobody else does."""
    ann, ben, cid = customer(caller, 100), customer(caller, 100), customer(caller, 100)
    number = f"merged-{ann}"
    by_id = {one: {"type": "ID", "value": one} for one in (ann, ben, cid)}
    caller.ask(
        caller.customers.RecordPurchase,
        customer_service_pb2.RecordPurchaseRequest(),
        {"customerIdentifier": by_id[ann], "transactionNumber": number, "amountMinorUnits": 500},
    )
    caller.ask(
        caller.customers.MergeCustomers,
        customer_service_pb2.MergeCustomersRequest(),
        {"victimCustomerIdentifier": by_id[ann], "survivorCustomerIdentifier": by_id[ben], "reason": "one person"},
    )
    request = points_service_pb2.ReturnTransactionRequest
    with refused() as found:
        fields = {"transactionNumber": number, "customerIdentifier": by_id[cid]}
        caller.ask(caller.points.ReturnTransaction, request(), fields)
    fields = {"transactionNumber": number, "customerIdentifier": by_id[ben], "requestId": f"return-{number}"}
    answer = caller.ask(caller.points.ReturnTransaction, request(), fields)

    assert (10012, grpc.StatusCode.NOT_FOUND) == (found[0].number, found[0].code)
    assert (False, []) == (answer.replayed, list(answer.results))
