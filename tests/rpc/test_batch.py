"""Batches on the wire: an outcome for each item, in order; only the form of the call as a whole refuses the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from test_refusal import details
from test_render import ROWS, TRANSFER
from wire_requests import issue_points, redeem_points, transfer_points
from wire_server import Seen, World, on_server, path_of

from points_grpc import codes
from points_grpc.domain.outcome import Accepted, Outcome, Refused, Result, Warning
from points_grpc.v1 import issuance_service_pb2, points_service_pb2

RESULTS = {row[0].__name__: row[1] for row in ROWS}
REDEMPTION, ISSUE = RESULTS["redeem_points"], RESULTS["issue_points"]

BATCHES: dict[str, tuple[Callable[..., Any], Callable[[], Message], type[Any], Result, int]] = {
    "transfers": (
        points_service_pb2.BatchTransferPointsRequest,
        transfer_points,
        points_service_pb2.BatchTransferPointsResponse,
        TRANSFER,
        887,
    ),
    "redemptions": (
        points_service_pb2.BatchRedeemPointsRequest,
        redeem_points,
        points_service_pb2.BatchRedeemPointsResponse,
        REDEMPTION,
        10004,
    ),
    "issues": (
        issuance_service_pb2.BatchIssuePointsRequest,
        issue_points,
        issuance_service_pb2.BatchIssuePointsResponse,
        ISSUE,
        10004,
    ),
}


def batch(name: str, size: int) -> Any:
    """A batch of well-formed items, each with a request id of its own."""
    request, item, *_ = BATCHES[name]
    found = request()
    for number in range(size):
        one: Any = item()
        one.request_id = f"item-{number}"
        found.requests.append(one)
    return found


def answered(name: str, message: Message, outcome: Outcome) -> tuple[Seen, Any, list[str]]:
    """What a client sees, the answer taken apart, and the request ids that were handed over."""

    async def run(world: World) -> tuple[Seen, list[str]]:
        world.submitter.outcome = outcome
        seen = await world.call(message)
        return seen, [one.request_id for one, _ in world.submitter.submitted]

    seen, handed_over = on_server(run)
    return seen, BATCHES[name][2].FromString(seen.answer), handed_over


@pytest.mark.parametrize("name", BATCHES)
def test_items_are_answered_in_order(name: str) -> None:
    """Each item is a command under its own request id, and gets the answer of the single call."""
    seen, answer, handed_over = answered(name, batch(name, 3), Accepted(BATCHES[name][3]))

    assert grpc.StatusCode.OK is seen.code
    assert ["item-0", "item-1", "item-2"] == handed_over
    assert handed_over == [one.response.request_id for one in answer.outcomes]


@pytest.mark.parametrize("name", BATCHES)
def test_malformed_item_is_refused_alone(name: str) -> None:
    """A malformed item gets the status of the single call and is handed to nobody; its neighbours are carried out."""
    message = batch(name, 3)
    message.requests[1].notes = "x" * 501
    seen, answer, handed_over = answered(name, message, Accepted(BATCHES[name][3]))

    assert grpc.StatusCode.OK is seen.code
    assert ["item-0", "item-2"] == handed_over
    assert ["response", "status", "response"] == [one.WhichOneof("outcome") for one in answer.outcomes]
    status = answer.outcomes[1].status
    assert (3, "notes") == (status.code, details(status)["google.rpc.BadRequest"].field_violations[0].field)
    assert "item-1" == details(status)["google.rpc.RequestInfo"].request_id


def test_refused_item_has_the_status_of_the_single_call() -> None:
    """A refusal of a rule is a google.rpc.Status with the same details as the single call's."""
    refused = Refused(codes.TRANSFER_INSUFFICIENT_POINTS, {"points": "10", "current": "4", "short_by": "6"})
    _, answer, _ = answered("transfers", batch("transfers", 1), refused)

    async def single(world: World) -> Seen:
        world.submitter.outcome = refused
        message = transfer_points()
        message.request_id = "item-0"
        return await world.call(message)

    expected = on_server(single).details

    assert expected == details(answer.outcomes[0].status)


def test_warnings_of_items_stand_in_their_answers() -> None:
    """A warning belongs to its item: it stands in the item's answer and in no trailer."""
    warning = Warning(codes.POINTS_NOT_ALLOCATED, {"points": "4"})
    seen, answer, _ = answered("issues", batch("issues", 2), Accepted(ISSUE, (warning,)))

    assert [[877], [877]] == [[item.code for item in one.response.warnings] for one in answer.outcomes]
    assert "grpc-status-details-bin" not in seen.trailers


@pytest.mark.parametrize("size", [0, 1001])
@pytest.mark.parametrize("name", BATCHES)
def test_number_of_items(name: str, size: int) -> None:
    """A call without items, or with more than 1,000, is refused as a whole."""
    seen, _, handed_over = answered(name, batch(name, size), Accepted(BATCHES[name][3]))

    assert grpc.StatusCode.INVALID_ARGUMENT is seen.code
    assert BATCHES[name][4] == seen.details["points.v1.StatusPayload"].errors[0].code
    assert "requests" == seen.details["google.rpc.BadRequest"].field_violations[0].field
    assert [] == handed_over


def test_too_many_items_are_not_even_read() -> None:
    """More than 1,000 items are refused by their number before the message is read: here it could not be."""

    async def run(world: World) -> Seen:
        path = path_of(points_service_pb2.BatchTransferPointsRequest())
        return await world.call_raw(path, b"\x0a\x00" * 1001 + b"\xff")

    violations = on_server(run).details["google.rpc.BadRequest"].field_violations

    assert [("requests", "1 to 1000 items")] == [(one.field, one.description) for one in violations]


def test_thousand_items() -> None:
    """A call of 1,000 items is answered whole."""
    _, answer, handed_over = answered("transfers", batch("transfers", 1000), Accepted(TRANSFER))

    assert [f"item-{number}" for number in range(1000)] == handed_over
    assert handed_over == [one.response.request_id for one in answer.outcomes]


def test_shed_call_is_refused_whole() -> None:
    """A call that does not fit the queue is refused as a whole, with a time to come back."""

    async def run(world: World) -> Seen:
        world.submitter.shed = Refused(codes.TRANSFER_UNAVAILABLE, {"cause": "OVERLOADED"}, retry_after_s=1.0)
        return await world.call(batch("transfers", 2))

    seen = on_server(run)

    assert (grpc.StatusCode.UNAVAILABLE, "TRANSFER_UNAVAILABLE") == (seen.code, seen.reason)
    assert "1000" == seen.trailers["grpc-retry-pushback-ms"]


def test_items_are_handed_over_while_others_are_read() -> None:
    """A hundred at a time, in order, so that the writer works on the first before the last are read."""

    async def run(world: World) -> list[int]:
        sizes: list[int] = []
        submit_some = world.submitter.submit_some

        def seen(submissions: Any, deadline: float) -> Any:
            sizes.append(len(submissions))
            return submit_some(submissions, deadline)

        world.submitter.outcome = Accepted(TRANSFER)
        world.submitter.submit_some = seen  # type: ignore[method-assign]
        await world.call(batch("transfers", 250))
        return sizes

    assert [100, 100, 50] == on_server(run)
