"""The rows of broken machinery. What breaks, and how, is in test_failures.py; here it has a name."""

from __future__ import annotations

from typing import Any

from conformance_table import BASE, Do, Fault, Row, customer, issue, member, program, redeem, transfer

ISSUE = {"customer_identifier": customer(1), "points": 5, "source": "GOODWILL"}


def row(fault: str, code: str, rpc: str, request: Any, case: str = "", **metadata: str) -> Row:
    """A row whose setup ends with a fault."""
    named = f"{rpc}: {fault.lower().replace('_', ' ')}{case}"
    return Row(named, code, rpc, {**request, "request_id": f"conformance-{rpc}"}, (*BASE, Fault(fault)), metadata)


CONFLICT_886 = "886 ABORTED CONFLICT"
NOT_PROCESSED_896 = "896 ABORTED TRANSFER_NOT_PROCESSED"
UNAVAILABLE_898 = "898 UNAVAILABLE TRANSFER_UNAVAILABLE"
FULL_10016 = "10016 RESOURCE_EXHAUSTED STORAGE_FULL"
DEADLINE_10011 = "10011 DEADLINE_EXCEEDED DEADLINE_EXCEEDED"
STORAGE_815 = "815 UNAVAILABLE STORAGE_UNAVAILABLE"
STORAGE_886 = "886 UNAVAILABLE TRANSFER_STORAGE_UNAVAILABLE"
NO_OTP_860 = "860 FAILED_PRECONDITION OTP_NOT_ISSUED"

PLANTED = (
    row("WRITE_REFUSED", "817 INTERNAL REDEMPTION_FAILED", "RedeemPoints", redeem(), points="100", current="1000"),
    row("WRITE_REFUSED", "804 INTERNAL TRANSFER_PROCESSING_FAILED", "TransferPoints", transfer()),
    row("WRITE_REFUSED", "889 INTERNAL INTERNAL_FAILURE", "IssuePoints", ISSUE),
    row("ROW_IN_THE_WAY", CONFLICT_886, "RedeemPoints", redeem()),
    row("ROW_IN_THE_WAY", NOT_PROCESSED_896, "TransferPoints", transfer(), outcome="NOT_WRITTEN"),
    row("NO_ROOM_FOR_ROWS", FULL_10016, "RedeemPoints", redeem()),
    row("NO_ROOM_FOR_ROWS", FULL_10016, "TransferPoints", transfer()),
)
"""Triggers in the database, for one organisation each: writing fails as the driver says."""

LOCKED = (row("LOCKED", NOT_PROCESSED_896, "TransferPoints", transfer(), outcome="NOT_WRITTEN"),)
"""Another process holds the lock of the database."""

DISK = (
    row("COMMIT_FAILS", "887 ABORTED OUTCOME_UNKNOWN", "RedeemPoints", redeem()),
    row("COMMIT_FAILS", NOT_PROCESSED_896, "TransferPoints", transfer(), outcome="UNKNOWN"),
    row("UNREACHABLE", STORAGE_815, "RedeemPoints", redeem()),
    row("UNREACHABLE", STORAGE_886, "TransferPoints", transfer()),
    row(
        "CONFIGURATION_DAMAGED",
        "413 UNAVAILABLE FRAUD_CHECK_CONFIG_UNAVAILABLE",
        "TransferPoints",
        transfer(),
        key="CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER",
    ),
    row("CONFIGURATION_DAMAGED", STORAGE_815, "RedeemPoints", redeem()),
)
"""The disk: writing to it fails, its folder is gone, one of its pages is damaged."""

FULL = (row("DISK_FULL", FULL_10016, "IssuePoints", {**ISSUE, "notes": "n" * 500}),)
"""A disk of a few megabytes."""

BUSY = (
    row("WAITING", DEADLINE_10011, "IssuePoints", ISSUE, " in the hands of the writer", outcome="UNKNOWN"),
    row("WAITING", DEADLINE_10011, "IssuePoints", ISSUE | {"points": 6}, " in the queue", outcome="NOT_WRITTEN"),
    row("QUEUE_FULL", "894 UNAVAILABLE OVERLOADED", "RedeemPoints", redeem()),
    row("QUEUE_FULL", UNAVAILABLE_898, "TransferPoints", transfer(), cause="OVERLOADED"),
    row("DRAINING", "896 UNAVAILABLE SHUTTING_DOWN", "RedeemPoints", redeem(), outcome="NOT_WRITTEN"),
    row("DRAINING", UNAVAILABLE_898, "TransferPoints", transfer(), cause="SHUTTING_DOWN"),
)
"""The writer is held up, the queue runs full, and SIGTERM comes."""


def quota_row(fault: str, rpc: str, request: Any, quota: str, limit: str, scope: str) -> Row:
    """A row of a quota that is used up."""
    numbers = {"quota": quota, "limit": limit, "scope": scope}
    named = f"{rpc}: {fault.lower().replace('_', ' ')}"
    return Row(named, "10003 RESOURCE_EXHAUSTED RATE_LIMITED", rpc, request, (*BASE, Fault(fault)), numbers)


ONE = {"customer_identifier": customer(1)}
AGED = (
    row("QUEUE_TOO_OLD", "894 UNAVAILABLE OVERLOADED", "RedeemPoints", redeem()),
    row("QUEUE_TOO_OLD", UNAVAILABLE_898, "TransferPoints", transfer(), cause="OVERLOADED"),
)
"""The queue has room, and what was taken from it last had waited for too long."""

QUOTAS = (
    quota_row("READS_USED_UP", "GetWallet", ONE, "client_reads_per_s", "2", "client"),
    quota_row("WRITES_USED_UP", "RedeemPoints", redeem(1), "client_writes_per_s", "2", "client"),
    quota_row("ORGANISATION_USED_UP", "GetWallet", ONE, "org_calls_per_s", "3", "organization"),
    quota_row("ALL_WATCHING", "WatchWallet", ONE, "org_watches_max", "1", "organization"),
    quota_row("IN_FLIGHT", "TransferPoints", transfer(), "org_calls_in_flight_max", "1", "organization"),
    quota_row(
        "IN_FLIGHT", "BatchRedeemPoints", {"requests": [redeem(1)] * 3}, "org_calls_in_flight_max", "1", "organization"
    ),
)
"""Small quotas, used up."""


def otp_row(outcome: str, rpc: str, request: Any) -> Row:
    """A row of a customer with a mobile number, on a server that has no sender."""
    setup = (program(), member(1, mobile=True), member(2), issue(1, 1000), Fault("NO_SENDER"))
    return Row(
        f"{rpc}: no sender", outcome, rpc, {**request, "request_id": "conformance"}, setup, {"cause": "NO_SENDER"}
    )


SENDERLESS = (
    otp_row(NO_OTP_860, "IssueTransferOtp", transfer()),
    otp_row(NO_OTP_860, "IssueRedemptionOtp", redeem()),
)
"""No sender is configured."""


def pending_row(case: str, rpc: str, request: Any, party: int = 1, action: str = "TRANSFER") -> Row:
    """A row of a customer to whom a code is on its way that cannot be delivered."""
    issued = (
        Do("IssueTransferOtp", transfer(source=party, destination=3 - party))
        if action == "TRANSFER"
        else Do("IssueRedemptionOtp", redeem(customer_id=party))
    )
    setup = (
        program(policy={"otp": {"transfer": "OFF"}, "redemption": WORTH}),
        member(1, mobile=True),
        member(2, mobile=True),
        issue(1, 1000),
        issue(2, 1000),
        issued,
        Fault("SENDER_FAILS"),
    )
    metadata = {
        "queue_size": "1",
        "failed_event": f"{action}_OTP",
        "failure_reason": "BrokenPipeError",
        "status_code": "0",
    }
    return Row(f"{rpc}: {case}", "900 OK PENDING_EVENTS", rpc, request, setup, metadata)


WORTH = {"point_value": {"numerator": 1, "denominator": 1, "currency_code": "INR"}}

FAILING_SENDER = (
    pending_row("a code for the source fails", "TransferPoints", transfer()),
    pending_row("a code for the receiver fails", "TransferPoints", transfer(), party=2),
    pending_row("a code for a redemption fails", "TransferPoints", transfer(), action="REDEMPTION"),
    pending_row("a code fails", "RedeemPoints", redeem()),
    pending_row("a code fails", "IssuePoints", ISSUE),
)
"""The sender of codes is there and fails: the console that it writes to is gone."""

ROWS = (*PLANTED, *LOCKED, *DISK, *FULL, *BUSY, *AGED, *QUOTAS, *SENDERLESS, *FAILING_SENDER)
