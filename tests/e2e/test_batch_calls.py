"""Batches against a real server over a loopback port: order, independence, replay item by item."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from test_documented_transfer import current, customer

from points_grpc.v1 import common_pb2, issuance_service_pb2, points_service_pb2
from running import Caller, refused


def by_id(customer_id: str) -> dict[str, str]:
    """The identifier that is the customer's id."""
    return {"type": "ID", "value": customer_id}


def transfer(sender: str, receiver: str, points: int, request_id: str) -> dict[str, Any]:
    """An item of a batch of transfers."""
    return {
        "points_to_be_transferred": points,
        "from_customer_identifier": by_id(sender),
        "to_customer_identifier": by_id(receiver),
        "request_id": request_id,
    }


def transfers(caller: Caller, *items: dict[str, Any]) -> Any:
    """Calls BatchTransferPoints."""
    request = points_service_pb2.BatchTransferPointsRequest()
    return caller.ask(caller.points.BatchTransferPoints, request, {"requests": items}, timeout_s=30)


def number_of(status: Any) -> int:
    """The documented number in a status."""
    [packed] = [one for one in status.details if one.Is(common_pb2.StatusPayload.DESCRIPTOR)]
    payload = common_pb2.StatusPayload()
    packed.Unpack(payload)
    return payload.errors[0].code


def test_each_item_sees_its_predecessors_and_no_refusal_affects_another(caller: Caller) -> None:
    """Points that an item moved are there for the next one; what is refused or malformed leaves the others alone."""
    ann, ben, cid = customer(caller, 100), customer(caller), customer(caller)
    answer = transfers(
        caller,
        transfer(ben, cid, 60, f"early-{ann}"),
        transfer(ann, ben, 100, f"first-{ann}"),
        transfer(ben, cid, 0, f"malformed-{ann}"),
        transfer(ben, cid, 60, f"second-{ann}"),
    )

    assert ["status", "response", "status", "response"] == [one.WhichOneof("outcome") for one in answer.outcomes]
    assert [817, 422] == [number_of(answer.outcomes[place].status) for place in (0, 2)]
    assert [f"first-{ann}", f"second-{ann}"] == [answer.outcomes[place].response.request_id for place in (1, 3)]
    assert [0, 40, 60] == [current(caller, one) for one in (ann, ben, cid)]


def test_items_are_replayed_one_by_one(caller: Caller) -> None:
    """A batch that is sent again answers as before and moves nothing; a single call replays an item of it."""
    ann, ben = customer(caller, 100), customer(caller)
    items = [transfer(ann, ben, 30, f"{ann}-{number}") for number in range(4)]
    first, again = transfers(caller, *items), transfers(caller, *items, items[0])
    request = points_service_pb2.TransferPointsRequest()
    single = caller.ask(caller.points.TransferPoints, request, items[0])

    assert [True] * 3 == [one.HasField("response") for one in first.outcomes[:3]]
    assert [True] * 3 == [one.response.replayed for one in again.outcomes[:3]]
    assert [817, 817] == [number_of(one.outcomes[3].status) for one in (first, again)]
    assert [first.outcomes[0].response.data[0]] * 2 == [again.outcomes[4].response.data[0], single.data[0]]
    assert [10, 90] == [current(caller, one) for one in (ann, ben)]


def test_thousand_issues_then_redemptions(caller: Caller) -> None:
    """Issues and redemptions come in batches too, up to 1,000 of them in one call."""
    ann = customer(caller)
    issue = {"customer_identifier": by_id(ann), "points": 1, "source": "GOODWILL", "expires_in_days": 30}
    issues = {"requests": [{**issue, "request_id": f"issue-{ann}-{number}"} for number in range(1000)]}
    issued = caller.ask(
        caller.issuance.BatchIssuePoints, issuance_service_pb2.BatchIssuePointsRequest(), issues, timeout_s=30
    )
    redeem = {"customer_identifier": by_id(ann), "points": 400}
    redemptions = {"requests": [{**redeem, "request_id": f"redeem-{ann}-{number}"} for number in range(3)]}
    redeemed = caller.ask(
        caller.points.BatchRedeemPoints, points_service_pb2.BatchRedeemPointsRequest(), redemptions, timeout_s=30
    )

    assert 1000 == sum(one.HasField("response") for one in issued.outcomes)
    assert ["response", "response", "status"] == [one.WhichOneof("outcome") for one in redeemed.outcomes]
    assert 818 == number_of(redeemed.outcomes[2].status)
    assert 200 == current(caller, ann)


def test_call_without_items_is_refused(caller: Caller) -> None:
    """No item at all is a mistake of the call."""
    with refused() as found:
        transfers(caller)

    assert (887, grpc.StatusCode.INVALID_ARGUMENT) == (found[0].number, found[0].code)


def test_example_of_the_single_call_is_an_item(caller: Caller) -> None:
    """The JSON of a single request, in its documented spelling, is the JSON of an item."""
    request = ParseDict(
        {"requests": [{"pointsTobeTransferred": 5, "fromCustomerIdentifier": {"type": "MOBILE", "value": "1"}}]},
        points_service_pb2.BatchTransferPointsRequest(),
    )

    assert 5 == request.requests[0].points_tobe_transferred
