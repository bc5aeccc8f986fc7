"""Holds and missed calls over a loopback port, and what happens when many want the same thing at once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)
from running import Caller, Details, RunningServer, refused

IDS = itertools.count(710_000_001)
CALLERS = 100


class Customer:
    """A new member of the default program with some points, and what can be done with them."""

    def __init__(self, caller: Caller, points: int) -> None:
        self.caller = caller
        self.number = str(next(IDS))
        self.mobile = f"97{self.number[-8:]}"
        self.identifier = {"type": "ID", "value": self.number}
        caller.ask(
            caller.customers.CreateCustomer,
            customer_service_pb2.CreateCustomerRequest(),
            {
                "customerId": self.number,
                "identifiers": [{"type": "MOBILE", "value": self.mobile}],
                "enrolledProgramIds": [973],
            },
        )
        caller.ask(
            caller.issuance.IssuePoints,
            issuance_service_pb2.IssuePointsRequest(),
            {"customerIdentifier": self.identifier, "points": points, "source": "LOYALTY_PLUS"},
        )

    def authorize(self, points: int, **given: Any) -> points_service_pb2.AuthorizeRedemptionResponse:
        """Holds points."""
        fields = {"customerIdentifier": self.identifier, "points": points, **given}
        answer: points_service_pb2.AuthorizeRedemptionResponse = self.caller.ask(
            self.caller.points.AuthorizeRedemption, points_service_pb2.AuthorizeRedemptionRequest(), fields
        )
        return answer

    def capture(self, hold_id: str, **given: Any) -> points_service_pb2.CaptureRedemptionResponse:
        """Captures a hold."""
        answer: points_service_pb2.CaptureRedemptionResponse = self.caller.ask(
            self.caller.points.CaptureRedemption,
            points_service_pb2.CaptureRedemptionRequest(),
            {"holdId": hold_id, **given},
        )
        return answer

    def release(self, hold_id: str) -> points_service_pb2.ReleaseRedemptionResponse:
        """Releases a hold."""
        answer: points_service_pb2.ReleaseRedemptionResponse = self.caller.ask(
            self.caller.points.ReleaseRedemption, points_service_pb2.ReleaseRedemptionRequest(), {"holdId": hold_id}
        )
        return answer

    def reverse(self, redemption_id: str) -> points_service_pb2.ReverseRedemptionResponse:
        """Reverses all of a redemption."""
        answer: points_service_pb2.ReverseRedemptionResponse = self.caller.ask(
            self.caller.points.ReverseRedemption,
            points_service_pb2.ReverseRedemptionRequest(),
            {"redemptionId": redemption_id, "customerIdentifier": self.identifier},
        )
        return answer

    def call(self) -> customer_service_pb2.RecordMissedCallResponse:
        """Calls from the registered mobile."""
        answer: customer_service_pb2.RecordMissedCallResponse = self.caller.ask(
            self.caller.customers.RecordMissedCall,
            customer_service_pb2.RecordMissedCallRequest(),
            {"mobileNumber": self.mobile},
        )
        return answer

    def wallet(self) -> common_pb2.WalletBalance:
        """The wallet as it stands."""
        answer: wallet_service_pb2.GetWalletResponse = self.caller.ask(
            self.caller.wallets.GetWallet,
            wallet_service_pb2.GetWalletRequest(),
            {"customerIdentifier": self.identifier},
        )
        return answer.wallet


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Starts all calls at once; the answer of each, or the details of its refusal."""

    def settled(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            return Details(error)

    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        return list(pool.map(settled, calls))


def told(outcomes: Sequence[Any]) -> Counter[str]:
    """How often each reason was given; what was accepted goes by the kind of its answer."""
    return Counter(one.info.reason if isinstance(one, Details) else type(one).__name__ for one in outcomes)


def test_hold_capture_and_reversal(caller: Caller) -> None:
    """Points are held, captured in part, the rest is free again, and the redemption can be reversed."""
    customer = Customer(caller, 1_000)

    hold = customer.authorize(600, holdS=3600, notes="table 7")
    while_held = customer.wallet()
    made = customer.capture(hold.hold_id, points=250)
    captured = customer.wallet()
    back = customer.reverse(made.redemption_id)

    assert (600, 3600) == (hold.points, hold.expires_at.seconds - _held_at(caller, hold))
    assert (1_000, 400, 600) == (while_held.current, while_held.redeemable, while_held.held)
    assert while_held == hold.wallets[0]
    assert (800, 250, 350) == (made.outcome.code, made.points, made.points_released)
    assert (750, 750, 0) == (captured.current, captured.redeemable, captured.held)
    assert captured == made.wallets[0]
    assert (250, 1_000) == (back.credited, customer.wallet().current)


def _held_at(caller: Caller, hold: points_service_pb2.AuthorizeRedemptionResponse) -> int:
    """When the hold was booked, in whole seconds."""
    row = caller.ask(
        caller.wallets.GetTransaction,
        wallet_service_pb2.GetTransactionRequest(),
        {"transactionId": hold.transaction_id},
    )
    assert wallet_service_pb2.JournalTransaction.HOLD == row.transaction.kind
    return int(row.transaction.created_at.seconds)


def test_refusals(caller: Caller) -> None:
    """A hold that is unknown, asked too much of, or not open any more is refused with its code and numbers."""
    customer = Customer(caller, 1_000)
    hold = customer.authorize(600)
    found = []
    for call in (
        lambda: customer.capture("h0"),
        lambda: customer.capture(hold.hold_id, points=601),
        lambda: customer.release(hold.hold_id) and customer.release(hold.hold_id),
        lambda: customer.capture(hold.hold_id),
    ):
        with refused() as details:
            call()
        found.append((details[0].number, details[0].code, details[0].payload.errors[0].field))
        last = details[0]

    assert [
        (10012, grpc.StatusCode.NOT_FOUND, "hold_id"),
        (10004, grpc.StatusCode.INVALID_ARGUMENT, "points"),
        (10017, grpc.StatusCode.FAILED_PRECONDITION, ""),
        (10017, grpc.StatusCode.FAILED_PRECONDITION, ""),
    ] == found
    assert "RELEASED" == last.info.metadata["state"]


def test_same_request_id_is_one_hold(caller: Caller) -> None:
    """A hold, and its capture, that are asked for again under their request ids are answered again."""
    customer = Customer(caller, 1_000)
    first, again = (customer.authorize(600, requestId=f"hold-{customer.number}") for _ in range(2))
    made, again_made = (customer.capture(first.hold_id, requestId=f"capture-{customer.number}") for _ in range(2))

    assert (first.hold_id, False, True) == (again.hold_id, first.replayed, again.replayed)
    assert (made.redemption_id, False, True) == (again_made.redemption_id, made.replayed, again_made.replayed)
    assert 400 == customer.wallet().current


@pytest.mark.parametrize("mixed", [False, True])
def test_one_capture_of_many(caller: Caller, server: RunningServer, *, mixed: bool) -> None:
    """Of 100 captures, or captures and releases, of one hold at once exactly one succeeds."""
    customer = Customer(caller, 1_000)
    hold_id = customer.authorize(600).hold_id

    outcomes = at_once(
        [
            (lambda: customer.release(hold_id)) if mixed and number % 2 else (lambda: customer.capture(hold_id))
            for number in range(CALLERS)
        ]
    )

    [winner] = [one for one in outcomes if not isinstance(one, Details)]
    assert Counter({type(winner).__name__: 1, "HOLD_NOT_OPEN": CALLERS - 1}) == told(outcomes)
    captured = isinstance(winner, points_service_pb2.CaptureRedemptionResponse)
    assert (400 if captured else 1_000, 0) == (customer.wallet().current, customer.wallet().held)
    assert {"CAPTURED" if captured else "RELEASED"} == {
        one.info.metadata["state"] for one in outcomes if isinstance(one, Details)
    }
    assert_sound(server)


def test_one_release_of_many(caller: Caller, server: RunningServer) -> None:
    """Of 100 releases of one hold at once exactly one succeeds."""
    customer = Customer(caller, 1_000)
    hold_id = customer.authorize(600).hold_id

    outcomes = at_once([lambda: customer.release(hold_id)] * CALLERS)

    assert Counter(ReleaseRedemptionResponse=1, HOLD_NOT_OPEN=CALLERS - 1) == told(outcomes)
    assert 1_000 == customer.wallet().redeemable
    assert_sound(server)


def test_one_reversal_of_many(caller: Caller, server: RunningServer) -> None:
    """Of 100 reversals of one redemption at once exactly one succeeds."""
    customer = Customer(caller, 1_000)
    redemption_id = customer.capture(customer.authorize(600).hold_id).redemption_id

    outcomes = at_once([lambda: customer.reverse(redemption_id)] * CALLERS)

    assert Counter(ReverseRedemptionResponse=1, REDEMPTION_ALREADY_REVERSED=CALLERS - 1) == told(outcomes)
    assert 1_000 == customer.wallet().current
    assert_sound(server)


def test_missed_call(caller: Caller, server: RunningServer) -> None:
    """A missed call proves one redemption or authorisation, where the organisation lets it."""
    customer = Customer(caller, 1_000)
    proof = {"validationType": "MISSED_CALL"}

    def refusal(**given: Any) -> tuple[int, dict[str, str]]:
        with refused() as details:
            customer.authorize(100, **(proof | given))
        return details[0].number, dict(details[0].info.metadata)

    assert 823 == refusal()[0]
    _switch(caller, "true")
    try:
        number, metadata = refusal()
        assert (822, "300") == (number, metadata["window_s"])
        assert int(customer.number) == customer.call().customer_id
        number, metadata = refusal(validationCode="123456")
        assert (824, "BOTH") == (number, metadata["cause"])
        customer.authorize(100, **proof)
        assert 822 == refusal()[0]
    finally:
        _switch(caller, None)
    assert_sound(server)


def test_missed_call_of_nobody(caller: Caller) -> None:
    """A call from a number that is nobody's is refused."""
    with refused() as found:
        caller.ask(
            caller.customers.RecordMissedCall,
            customer_service_pb2.RecordMissedCallRequest(),
            {"mobileNumber": "9100000000"},
        )

    assert (8015, "mobile_number") == (found[0].number, found[0].payload.errors[0].field)


def _switch(caller: Caller, value: str | None) -> None:
    """Sets the switch for missed calls, or removes it."""
    caller.ask(
        caller.programs.SetConfigKey,
        program_service_pb2.SetConfigKeyRequest(),
        {"key": "ENABLE_MISSED_CALL_REDEMPTION", "reason": "a test"} | ({"value": value} if value else {}),
    )


def assert_sound(server: RunningServer) -> None:
    """The whole database agrees with its journal."""
    database = Database(server.database)
    try:
        assert [] == verify(database).differences
    finally:
        database.close()
