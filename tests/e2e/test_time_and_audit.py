"""Wallets through time and the audit log, over a loopback port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from test_documented_transfer import customer, transfer

from points_grpc.v1 import customer_service_pb2, points_service_pb2, program_service_pb2, wallet_service_pb2
from running import Caller, refused


def wallet(caller: Caller, customer_id: str, at: datetime) -> Any:
    """A customer's wallet at an instant."""
    fields = {"customerIdentifier": {"type": "ID", "value": customer_id}, "readTime": at.isoformat()}
    return caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), fields)


def test_wallet_before_and_after_a_transfer(caller: Caller) -> None:
    """The same wallet reads as it stood before a transfer, and as it will stand."""
    ann, ben = customer(caller, 500), customer(caller)
    moved_at = transfer(caller, ann, ben, pointsTobeTransferred=200).data[0].points_transfer_date.ToDatetime(UTC)
    before, after = wallet(caller, ann, moved_at - timedelta(microseconds=1)), wallet(caller, ann, moved_at)
    later = wallet(caller, ann, moved_at + timedelta(days=3650))

    assert [500, 300, 300] == [one.wallet.current for one in (before, after, later)]
    assert moved_at + timedelta(days=3650) == later.read_time.ToDatetime(UTC)


def test_what_was_held_then(caller: Caller) -> None:
    """Held points are held from the hold to its deadline or its end, whenever it is read."""
    ann = customer(caller, 500)
    fields = {"customerIdentifier": {"type": "ID", "value": ann}, "points": 200}
    request = points_service_pb2.AuthorizeRedemptionRequest()
    made = caller.ask(caller.points.AuthorizeRedemption, request, fields)
    held_at = wallet(caller, ann, datetime.now(UTC)).read_time.ToDatetime(UTC)
    deadline = made.expires_at.ToDatetime(UTC)
    release = points_service_pb2.ReleaseRedemptionRequest()
    before = wallet(caller, ann, deadline), wallet(caller, ann, deadline + timedelta(microseconds=1))
    caller.ask(caller.points.ReleaseRedemption, release, {"holdId": made.hold_id})
    read = [*before, wallet(caller, ann, held_at), wallet(caller, ann, datetime.now(UTC))]

    assert [200, 0, 200, 0] == [one.wallet.held for one in read]
    assert [300, 500, 300, 500] == [one.wallet.redeemable for one in read]
    assert [300, 500, 300, 500] == [one.wallet.transferable for one in read]


def test_changes_are_in_the_audit_log(caller: Caller) -> None:
    """A lock is found by its subject, with who and why; pages go on from the newest to the oldest."""
    ann = customer(caller)
    lock = {
        "customerIdentifier": {"type": "ID", "value": ann},
        "lockedUntil": "2100-01-01T00:00:00Z",
        "reason": "lost phone",
    }
    caller.ask(caller.customers.SetTransferLock, customer_service_pb2.SetTransferLockRequest(), lock)
    request = program_service_pb2.ListAuditEventsRequest
    answer = caller.ask(caller.programs.ListAuditEvents, request(), {"subject": f"customer/{ann}"})
    first = caller.ask(caller.programs.ListAuditEvents, request(), {"pageSize": 1})
    second = caller.ask(caller.programs.ListAuditEvents, request(), {"pageSize": 1, "pageToken": first.next_page_token})

    assert [("SetTransferLock", "dev", "lost phone")] == [
        (one.action, one.actor, one.reason) for one in answer.audit_events
    ]
    assert first.audit_events[0].audit_id > second.audit_events[0].audit_id
    with refused() as found:
        caller.ask(caller.programs.ListAuditEvents, request(), {"pageToken": "x"})
    assert (10007, grpc.StatusCode.INVALID_ARGUMENT) == (found[0].number, found[0].code)
