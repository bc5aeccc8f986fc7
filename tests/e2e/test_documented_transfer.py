"""The documented transfer page, word for word, against a real server over a loopback port."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import pytest

from points_grpc.v1 import customer_service_pb2, issuance_service_pb2, points_service_pb2, wallet_service_pb2
from running import Caller, RunningServer, refused

IDS = itertools.count(700_000_001)


def customer(caller: Caller, points: int = 0) -> str:
    """A new member of program 973 with some points; returns the id."""
    customer_id = str(next(IDS))
    caller.ask(
        caller.customers.CreateCustomer,
        customer_service_pb2.CreateCustomerRequest(),
        {"customerId": customer_id, "firstName": "Asha", "enrolledProgramIds": [973]},
    )
    if points:
        caller.ask(
            caller.issuance.IssuePoints,
            issuance_service_pb2.IssuePointsRequest(),
            {
                "customerIdentifier": {"type": "ID", "value": customer_id},
                "points": points,
                "source": "LOYALTY_PLUS",
            },
        )
    return customer_id


def transfer(caller: Caller, sender: str, receiver: str, **changes: Any) -> Any:
    """The documented request between two customers, with changes; None leaves a field out."""
    fields = {
        "pointsTobeTransferred": 1000,
        "groupProgramTransfer": False,
        "programId": 973,
        "fromCustomerIdentifier": {"type": "ID", "value": sender},
        "toCustomerIdentifier": {"type": "ID", "value": receiver},
        **changes,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    return caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields)


def current(caller: Caller, customer_id: str) -> int:
    """A customer's current points."""
    answer = caller.ask(
        caller.wallets.GetWallet,
        wallet_service_pb2.GetWalletRequest(),
        {"customerIdentifier": {"type": "ID", "value": customer_id}},
    )
    return int(answer.wallet.current)


@pytest.mark.parametrize("spelling", ["pointsTobeTransferred", "pointsToBeTransferred", "points_to_be_transferred"])
def test_documented_request_transfers(caller: Caller, spelling: str) -> None:
    """The documented request is accepted in either spelling and moves the points once."""
    sender, receiver = customer(caller, 8500), customer(caller)
    answer = transfer(caller, sender, receiver, **{"pointsTobeTransferred": None, spelling: 1000})

    assert 1 == len(answer.data)
    data = answer.data[0]
    assert (int(receiver), int(sender), 1000) == (data.to_entity_id, data.from_entity_id, data.points_transferred)
    assert "DocDemoDefaultProgram" == data.program_name
    breakup = data.points_transfer_breakup_by_earning_programs
    assert [(973, 1000, 7500)] == [(one.program_id, one.deducted_points, one.program_current_points) for one in breakup]
    assert (7500, 1000) == (current(caller, sender), current(caller, receiver))


@pytest.mark.parametrize(
    ("number", "field", "message", "changes"),
    [
        (
            422,
            "points_to_be_transferred",
            "pointsToBeTransferred value is invalid",
            {"pointsTobeTransferred": None},
        ),
        (
            434,
            "from_customer_identifier.value",
            "Invalid transferredBy.identifierValue set in the request payload",
            {"fromCustomerIdentifier": {"type": "MOBILE"}},
        ),
        (
            434,
            "from_customer_identifier.type",
            "Invalid fromEntity.identifierType set in the request payload",
            {"fromCustomerIdentifier": {"type": "MOBILE", "value": "someone@example.com"}},
        ),
    ],
)
def test_documented_mistakes(caller: Caller, number: int, field: str, message: str, changes: dict[str, Any]) -> None:
    """The three documented error samples are answered with their number, text and field."""
    with refused() as found:
        transfer(caller, customer(caller, 1000), customer(caller), **changes)

    error = found[0].payload.errors[0]
    assert grpc.StatusCode.INVALID_ARGUMENT is found[0].code
    assert (number, message, field) == (error.code, error.message, error.field)
    assert error.HasField("status")
    assert not error.status
    assert "points.v1" == found[0].info.domain


def test_same_request_id_is_one_transfer(caller: Caller) -> None:
    """The same request id with the same content gets the recorded answer and moves nothing again."""
    sender, receiver = customer(caller, 5000), customer(caller)
    first = transfer(caller, sender, receiver, requestId=f"once-{sender}")
    again = transfer(caller, sender, receiver, requestId=f"once-{sender}")

    assert (False, True) == (first.replayed, again.replayed)
    assert first.data[0] == again.data[0]
    assert list(first.wallets) == list(again.wallets)
    assert 4000 == current(caller, sender)


def test_same_request_id_with_other_content_names_the_fields(caller: Caller) -> None:
    """The same request id with other content is refused, naming the fields that differ and not their values."""
    sender, receiver = customer(caller, 5000), customer(caller)
    transfer(caller, sender, receiver, requestId=f"reused-{sender}")
    with refused() as found:
        transfer(caller, sender, receiver, requestId=f"reused-{sender}", pointsTobeTransferred=7, notes="x")

    assert (902, grpc.StatusCode.ALREADY_EXISTS) == (found[0].number, found[0].code)
    assert "REQUEST_ID_REUSED" == found[0].info.metadata["cause"]
    assert "notes,points_to_be_transferred" == found[0].info.metadata["fields"]


def test_refusal_is_replayed_whatever_happened_since(caller: Caller) -> None:
    """A recorded refusal is the answer to its request id for good, even after the balance would allow it."""
    sender, receiver = customer(caller, 10), customer(caller)
    answers = []
    for points in (0, 5000):
        if points:
            caller.ask(
                caller.issuance.IssuePoints,
                issuance_service_pb2.IssuePointsRequest(),
                {"customerIdentifier": {"type": "ID", "value": sender}, "points": points, "source": "GOODWILL"},
            )
        with refused() as found:
            transfer(caller, sender, receiver, requestId=f"refused-{sender}")
        answers.append(found[0])

    assert [817, 817] == [one.number for one in answers]
    assert "990" == answers[1].info.metadata["short_by"]
    assert ("true", "") == (answers[1].info.metadata["replayed"], answers[0].info.metadata["replayed"])


def test_code_reaches_the_console_and_opens_one_transfer(caller: Caller, server: RunningServer) -> None:
    """From the issue of a code on, a transfer needs it; a wrong one counts, the right one works once."""
    sender, receiver = customer(caller, 5000), customer(caller)
    mobile = f"98{sender[-8:]}"
    # A customer with a mobile number, so that the code has somewhere to go.
    caller.ask(
        caller.customers.CreateCustomer,
        customer_service_pb2.CreateCustomerRequest(),
        {
            "customerId": f"9{sender}",
            "identifiers": [{"type": "MOBILE", "value": mobile}],
            "enrolledProgramIds": [973],
        },
    )
    caller.ask(
        caller.issuance.IssuePoints,
        issuance_service_pb2.IssuePointsRequest(),
        {"customerIdentifier": {"type": "MOBILE", "value": mobile}, "points": 3000, "source": "LOYALTY_PLUS"},
    )
    check = caller.ask(
        caller.points.CheckTransfer,
        points_service_pb2.CheckTransferRequest(),
        {
            "pointsTobeTransferred": 1000,
            "fromCustomerIdentifier": {"type": "MOBILE", "value": mobile},
            "toCustomerIdentifier": {"type": "ID", "value": receiver},
            "issueOtp": True,
        },
    )
    assert check.transferable
    code = console_code(server, mobile)
    source = {"type": "MOBILE", "value": mobile}
    wrong = "0" * 6 if code != "0" * 6 else "1" * 6
    states = []
    for given in (None, wrong):
        with refused() as found:
            transfer(caller, sender, receiver, fromCustomerIdentifier=source, code=given)
        states.append((found[0].number, found[0].info.metadata["otp_state"], found[0].info.metadata["attempts_left"]))

    assert [(808, "MISSING", "5"), (808, "INVALID", "4")] == states
    assert (
        1000 == transfer(caller, sender, receiver, fromCustomerIdentifier=source, code=code).data[0].points_transferred
    )
    with refused() as found:
        transfer(caller, sender, receiver, fromCustomerIdentifier=source, code=code)
    assert (808, "INVALID") == (found[0].number, found[0].info.metadata["otp_state"])


def console_code(server: RunningServer, mobile: str) -> str:
    """The last code on the console for a mobile number."""
    import time

    for _ in range(200):
        lines = [line for line in server.output().splitlines() if mobile in line and "one-time code" in line]
        if lines:
            return lines[-1].rpartition(" ")[2]
        time.sleep(0.05)
    raise AssertionError("no code on the console")
