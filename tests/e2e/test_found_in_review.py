"""What a review of the running service found, and must not come back."""

from __future__ import annotations

import itertools
from typing import Any

import grpc

from points_grpc.v1 import (
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)
from running import Caller, refused

IDS = itertools.count(800_000_001)


def member(caller: Caller, *programs: int, points: int = 0, mobile: str | None = None) -> dict[str, str]:
    """A new member of programs with points in the first one; returns the identifier."""
    identifier = {"type": "ID", "value": str(next(IDS))}
    caller.ask(
        caller.customers.CreateCustomer,
        customer_service_pb2.CreateCustomerRequest(),
        {
            "customerId": identifier["value"],
            "enrolledProgramIds": programs,
            "identifiers": [{"type": "MOBILE", "value": mobile}] if mobile else [],
        },
    )
    if points:
        caller.ask(
            caller.issuance.IssuePoints,
            issuance_service_pb2.IssuePointsRequest(),
            {"customerIdentifier": identifier, "programId": programs[0], "points": points, "source": "GOODWILL"},
        )
    return identifier


def program(caller: Caller, program_id: int, **policy: Any) -> int:
    """A new program."""
    caller.ask(
        caller.programs.CreateProgram,
        program_service_pb2.CreateProgramRequest(),
        {"programId": program_id, "name": f"Program {program_id}", "policy": policy},
    )
    return program_id


def test_worth_beyond_64_bits_is_refused_before_anything_is_written(caller: Caller) -> None:
    """A redemption whose worth no answer could carry is a configuration fault (899), and takes no points."""
    rich = {"pointValue": {"numerator": 10**9, "denominator": 1, "currencyCode": "INR"}}
    program_id = program(caller, 4101, redemption=rich)
    customer = member(caller, program_id, points=10**12)
    with refused() as found:
        caller.ask(
            caller.points.RedeemPoints,
            points_service_pb2.RedeemPointsRequest(),
            {"customerIdentifier": customer, "programId": program_id, "points": 10**12},
        )
    wallet = caller.ask(
        caller.wallets.GetWallet,
        wallet_service_pb2.GetWalletRequest(),
        {"customerIdentifier": customer, "programId": program_id},
    ).wallet

    assert (899, grpc.StatusCode.FAILED_PRECONDITION) == (found[0].number, found[0].code)
    assert 10**12 == wallet.current


def test_code_that_is_due_is_due_for_a_pooled_transfer_too(caller: Caller) -> None:
    """A code issued for one program of a group is due when a pooled transfer draws on that program."""
    first, second = program(caller, 4201), program(caller, 4202)
    caller.ask(
        caller.programs.CreateProgramGroup,
        program_service_pb2.CreateProgramGroupRequest(),
        {"name": "Group", "programIds": [first, second], "defaultProgramId": second},
    )
    sender = member(caller, first, second, points=1000, mobile="9198420142")
    receiver = member(caller, first, second)
    fields = {"pointsToBeTransferred": 10, "fromCustomerIdentifier": sender, "toCustomerIdentifier": receiver}
    caller.ask(
        caller.points.IssueTransferOtp,
        points_service_pb2.IssueTransferOtpRequest(),
        {**fields, "programId": first},
    )
    with refused() as found:
        caller.ask(
            caller.points.TransferPoints,
            points_service_pb2.TransferPointsRequest(),
            {**fields, "programId": second, "groupProgramTransfer": True},
        )

    assert (808, "MISSING") == (found[0].number, found[0].info.metadata["otp_state"])


def test_bill_of_two_customers_is_reversed_for_each(caller: Caller) -> None:
    """By transaction number a customer gets back what is theirs; a customer without a part of the bill gets 904."""
    customers = [member(caller, 973, points=100) for _ in range(2)]
    stranger = member(caller, 973)
    for customer in customers:
        caller.ask(
            caller.points.RedeemPoints,
            points_service_pb2.RedeemPointsRequest(),
            {"customerIdentifier": customer, "points": 60, "transactionNumber": "SHARED-BILL"},
        )
    with refused() as found:
        reverse(caller, stranger)

    assert 904 == found[0].number
    assert [60, 60] == [reverse(caller, customer).credited for customer in customers]


def reverse(caller: Caller, customer: dict[str, str]) -> Any:
    """Reverses all of a customer on the shared bill."""
    return caller.ask(
        caller.points.ReverseRedemption,
        points_service_pb2.ReverseRedemptionRequest(),
        {"customerIdentifier": customer, "transactionNumber": "SHARED-BILL"},
    )
