"""Outcomes to answers: the whole answer of each RPC, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from test_parse import POLICY_READ
from wire_requests import policy

from points_grpc import codes
from points_grpc.domain import model as m
from points_grpc.domain import outcome as o
from points_grpc.domain.policy import Policy
from points_grpc.rpc import render
from points_grpc.rpc.render_policy import policy as render_policy

AT = datetime(2026, 3, 15, 12, 0, 0, 250_000, tzinfo=UTC)
LATER = datetime(2027, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)
BALANCES = (o.Balance(11, 973, 4, 100, 80, 70, 15, 5),)
SHARES = (o.ProgramShare(973, 600, 40), o.ProgramShare(974, 400, 0))
LOTS = (o.LotShare(7, 973, 600, LATER), o.LotShare(8, 974, 400, None))
CHALLENGE = o.Challenge("+91******4269", ("MOBILE",), LATER, 5)
WARNINGS = (o.Warning(codes.POINTS_NOT_ALLOCATED, {"points": "40"}),)
PARTIES = (o.Party(11, "Ada", "L", "crm-11"), o.Party(12, "Bob", "", ""))
LOT = m.Lot(
    lot_id=7,
    wallet=m.WalletKey(11, 973),
    bucket=m.BucketKey(974, m.Source.GOODWILL, "Main"),
    points=100,
    remaining=60,
    held=10,
    awarded_at=AT,
    available_from=LATER,
    promised=True,
    expires_at=LATER,
    parent_lot_id=3,
    root_lot_id=1,
    transaction_id=99,
)
CUSTOMER = m.Customer(
    customer_id=11,
    first_name="Ada",
    last_name="L",
    mobile="+919148574269",
    email="ada@shop.example",
    external_id="crm-11",
    campaign_contact=True,
    fraud_status=m.FraudStatus.MARKED,
    status_label=m.StatusLabel.SUSPENDED,
    transfers_locked_until=LATER,
    merged_into=12,
    created_at=AT,
    locale="pt-BR",
)
PROGRAM = m.Program(
    program_id=973,
    name="Gold",
    active=True,
    decimal_places=2,
    time_zone="Asia/Kolkata",
    group_id=5,
    paused=True,
    policy=msgspec.structs.replace(POLICY_READ, revision=9),
)

AT_JSON = "2026-03-15T12:00:00.250Z"
LATER_JSON = "2027-03-31T23:59:59.999999Z"
BALANCES_JSON = [
    {
        "customer_id": "11",
        "program_id": "973",
        "wallet_version": "4",
        "current": "100",
        "redeemable": "80",
        "transferable": "70",
        "promised": "15",
        "held": "5",
    }
]
SHARES_JSON = [
    {"program_id": "973", "deducted_points": "600", "program_current_points": "40"},
    {"program_id": "974", "deducted_points": "400"},
]
LOTS_JSON = [
    {"lot_id": "7", "earning_program_id": "973", "points": "600", "expires_at": LATER_JSON},
    {"lot_id": "8", "earning_program_id": "974", "points": "400"},
]
CHALLENGE_JSON = {
    "masked_target": "+91******4269",
    "channels": ["MOBILE"],
    "expires_at": LATER_JSON,
    "attempts_left": 5,
}
WARNINGS_JSON = [
    {
        "status": False,
        "code": 877,
        "reason": "POINTS_NOT_ALLOCATED",
        "message": "Unable to allocate points.",
        "metadata": {"points": "40"},
    }
]
OUTCOME_JSON = {
    "status": True,
    "code": 800,
    "reason": "POINTS_REDEEMED_OR_REDEEMABLE",
    "message": "Points redeemed successfully, points can be redeemed",
}
CUSTOMER_JSON = {
    "customer_id": "11",
    "first_name": "Ada",
    "last_name": "L",
    "identifiers": [
        {"type": "MOBILE", "value": "+919148574269"},
        {"type": "EMAIL", "value": "ada@shop.example"},
        {"type": "EXTERNAL_ID", "value": "crm-11"},
    ],
    "enrolled_program_ids": ["973", "974"],
    "campaign_contact": True,
    "fraud_status": "MARKED",
    "status_label": "SUSPENDED",
    "transfers_locked_until": LATER_JSON,
    "created_at": AT_JSON,
    "merged_into_customer_id": "12",
    "locale": "pt-BR",
}

TRANSFER = o.TransferResult(
    transfer_id=1_037_890,
    source_id=11,
    destination_id=12,
    program_id=973,
    points=1000,
    made_at=AT,
    notes="a note",
    shares=SHARES,
    balances=BALANCES,
)

ENDING = {"request_id": "r-1", "replayed": True}
PROGRAM_SHOWN = {
    "program_id": "973",
    "name": "Gold",
    "active": True,
    "default_program": True,
    "decimal_places": 2,
    "time_zone": "Asia/Kolkata",
    "program_group_id": "5",
    "paused": True,
    "policy_revision": "9",
}
"""The program as answers show it."""

ROWS: tuple[tuple[Callable[[o.Settled], Message], o.Result, dict[str, Any]], ...] = (
    (
        render.reverse_transfer,
        o.TransferReversalResult(1_037_890, 99, AT, 1000, 900, LOTS, 3, BALANCES),
        {
            "transfer_id": "1037890",
            "transaction_id": "99",
            "reversed_at": AT_JSON,
            "points_to_be_reversed": "1000",
            "points_reversed": "900",
            "points_short": "100",
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
        },
    ),
    (
        render.adjust_points,
        o.AdjustmentResult(99, 1000, SHARES, LOTS, 3, BALANCES),
        {
            "transaction_id": "99",
            "points": "1000",
            "breakup_by_earning_programs": SHARES_JSON,
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
        },
    ),
    (
        render.merge_customers,
        o.MergeResult(CUSTOMER, (973, 974), 12, 99, 1000, 2, BALANCES),
        {
            "survivor": CUSTOMER_JSON,
            "victim_customer_id": "12",
            "transaction_id": "99",
            "points_moved": "1000",
            "lots_moved": 2,
            "wallets": BALANCES_JSON,
        },
    ),
    (
        render.transfer_points,
        TRANSFER,
        {
            "data": [
                {
                    "to_entity_id": "12",
                    "to_entity_type": "CUSTOMER",
                    "from_entity_id": "11",
                    "from_entity_type": "CUSTOMER",
                    "points_transfer_date": AT_JSON,
                    "points_transferred": "1000",
                    "transfer_id": "1037890",
                    "transfer_type": "DEDUCTION",
                    "transferred_from": {
                        "user_id": "11",
                        "first_name": "Ada",
                        "last_name": "L",
                        "external_id": "crm-11",
                    },
                    "transferred_to": {"user_id": "12", "first_name": "Bob"},
                    "notes": "a note",
                    "program_name": "Gold",
                    "points_transfer_breakup_by_earning_programs": SHARES_JSON,
                }
            ],
            "warnings": WARNINGS_JSON,
            "wallets": BALANCES_JSON,
        },
    ),
    (
        render.check_transfer,
        o.CheckTransferResult(1000, SHARES, BALANCES, CHALLENGE, code_required=True),
        {
            "transferable": True,
            "points_to_be_transferred": "1000",
            "points_transfer_breakup_by_earning_programs": SHARES_JSON,
            "wallets_after": BALANCES_JSON,
            "otp": CHALLENGE_JSON,
            "warnings": WARNINGS_JSON,
            "code_required": True,
        },
    ),
    (render.issue_transfer_otp, o.IssueOtpResult(CHALLENGE), {"otp": CHALLENGE_JSON, "warnings": WARNINGS_JSON}),
    (
        render.check_redemption,
        o.CheckRedemptionResult(
            1000, o.MoneyValue("INR", 25_000), SHARES, LOTS, 3, BALANCES, None, proof_required=True
        ),
        {
            "outcome": OUTCOME_JSON,
            "points": "1000",
            "value": {"currency_code": "INR", "minor_units": "25000"},
            "breakup_by_earning_programs": SHARES_JSON,
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets_after": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "proof_required": True,
        },
    ),
    (render.issue_redemption_otp, o.IssueOtpResult(CHALLENGE), {"otp": CHALLENGE_JSON, "warnings": WARNINGS_JSON}),
    (
        render.redeem_points,
        o.RedemptionResult("r1a", 99, 11, 1000, None, AT, SHARES, LOTS, 3, BALANCES),
        {
            "outcome": OUTCOME_JSON,
            "redemption_id": "r1a",
            "points": "1000",
            "redeemed_at": AT_JSON,
            "breakup_by_earning_programs": SHARES_JSON,
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "transaction_id": "99",
        },
    ),
    (
        render.authorize_redemption,
        o.HoldResult("h1a", 99, 11, 1000, o.MoneyValue("INR", 25_000), LATER, LOTS, 3, BALANCES),
        {
            "hold_id": "h1a",
            "expires_at": LATER_JSON,
            "points": "1000",
            "value": {"currency_code": "INR", "minor_units": "25000"},
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "transaction_id": "99",
        },
    ),
    (
        render.capture_redemption,
        o.CaptureResult(o.RedemptionResult("r1a", 99, 11, 1000, None, AT, SHARES, LOTS, 3, BALANCES), 7),
        {
            "outcome": OUTCOME_JSON,
            "redemption_id": "r1a",
            "points": "1000",
            "redeemed_at": AT_JSON,
            "breakup_by_earning_programs": SHARES_JSON,
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "transaction_id": "99",
            "points_released": "7",
        },
    ),
    (
        render.release_redemption,
        o.ReleaseResult(99, 1000, BALANCES),
        {
            "points_released": "1000",
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "transaction_id": "99",
        },
    ),
    (
        render.reverse_redemption,
        o.ReversalResult(
            "v1a",
            99,
            AT,
            100,
            (o.ReversedShare("r1", credited=50, expired=10, left=5), o.ReversedShare("r2", 40, 0, 0)),
            LOTS,
            3,
            BALANCES,
        ),
        {
            "reversal_id": "v1a",
            "points_to_be_reversed": "100",
            "points_reversed": "100",
            "credited": "90",
            "expired": "10",
            "redemptions": [
                {
                    "redemption_id": "r1",
                    "points_reversed": "60",
                    "credited": "50",
                    "expired": "10",
                    "points_left": "5",
                },
                {"redemption_id": "r2", "points_reversed": "40", "credited": "40"},
            ],
            "lots": LOTS_JSON,
            "lots_omitted": 3,
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "transaction_id": "99",
            "reversed_at": AT_JSON,
        },
    ),
    (
        render.return_transaction,
        o.ReturnResult(
            AT,
            (
                o.ReturnedShare("r1", credited=50, expired=10, left=5, reversal_id="v1a", transaction_id=99),
                o.ReturnedShare("r2"),
            ),
            BALANCES,
        ),
        {
            "results": [
                {
                    "redemption_id": "r1",
                    "points_reversed": "60",
                    "credited": "50",
                    "expired": "10",
                    "points_left": "5",
                    "reversal_id": "v1a",
                    "transaction_id": "99",
                },
                {"redemption_id": "r2"},
            ],
            "points_reversed": "60",
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
            "returned_at": AT_JSON,
        },
    ),
    (
        render.issue_points,
        o.IssueResult(99, LOT, BALANCES),
        {
            "transaction_id": "99",
            "lot": {
                "lot_id": "7",
                "customer_id": "11",
                "program_id": "973",
                "earning_program_id": "974",
                "source": "GOODWILL",
                "category": "Main",
                "points": "100",
                "remaining": "60",
                "held": "10",
                "awarded_at": AT_JSON,
                "available_from": LATER_JSON,
                "expires_at": LATER_JSON,
                "parent_lot_id": "3",
                "root_lot_id": "1",
                "transaction_id": "99",
            },
            "wallets": BALANCES_JSON,
            "warnings": WARNINGS_JSON,
        },
    ),
    *(
        (renderer, o.CustomerResult(CUSTOMER, (973, 974)), {"customer": CUSTOMER_JSON})
        for renderer in (
            render.create_customer,
            render.enrol_customer,
            render.set_customer_status,
            render.set_transfer_lock,
        )
    ),
    (render.record_purchase, o.PurchaseResult(12_345), {"lifetime_purchases": "12345"}),
    (
        render.erase_customer,
        o.ErasureResult(11, (12, 13), AT, (99, 100), 130, True),
        {
            "customer_id": "11",
            "merged_customer_ids": ["12", "13"],
            "erased_at": AT_JSON,
            "transaction_ids": ["99", "100"],
            "points_forfeited": "130",
            "already_erased": True,
        },
    ),
    (render.record_missed_call, o.MissedCallResult(11, AT), {"customer_id": "11", "called_at": AT_JSON}),
    (
        render.create_program,
        o.ProgramResult(PROGRAM, default=True),
        {"program": PROGRAM_SHOWN},
    ),
    (render.create_program_group, o.GroupResult(5), {"program_group_id": "5"}),
    (render.set_config_key, o.DoneResult(), {}),
    (render.set_pause, o.DoneResult(), {}),
    (render.set_program_active, o.ProgramResult(PROGRAM, default=True), {"program": PROGRAM_SHOWN}),
)


@pytest.mark.parametrize(("renderer", "result", "expected"), ROWS, ids=[row[0].__name__ for row in ROWS])
def test_answers(renderer: Callable[[o.Settled], Message], result: o.Result, expected: dict[str, Any]) -> None:
    """An answer shows everything that its proto message has a field for."""
    settled = o.Settled(o.Accepted(result, WARNINGS), "r-1", replayed=True, parties=PARTIES, program_name="Gold")

    answer = renderer(settled)

    assert MessageToDict(answer, preserving_proto_field_name=True) == expected | ENDING


def test_policy_there_and_back() -> None:
    """A policy shows what was set; the revision and its time are the server's."""
    sent = policy()
    shown = render.set_policy(o.Settled(o.Accepted(o.PolicyResult(POLICY_READ, AT)), "r-1")).policy

    assert shown.revision == 1
    assert shown.created_at == render.timestamp(AT)
    sent.revision = shown.revision
    sent.created_at.CopyFrom(shown.created_at)
    assert shown == sent


def test_default_policy_shows_its_defaults() -> None:
    """A policy that leaves everything to the defaults shows the values in force."""
    shown = render_policy(Policy(), None)

    assert shown.redemption.enabled
    assert shown.transfer.enabled
    assert list(shown.transfer.barred_sources.sources) == [m.Source.REGISTRATION]
    assert (shown.otp.length, shown.otp.validity_s, list(shown.otp.channels)) == (6, 300, ["MOBILE", "EMAIL"])
    assert [one.name for one in shown.redemption.categories] == ["Main"]


def test_transferred_points_are_the_sum_of_what_was_deducted() -> None:
    """`points_transferred` is the sum of the breakup."""
    answer = render.transfer_points(o.Settled(o.Accepted(TRANSFER), "r-1"))

    [transfer] = answer.data
    breakup = transfer.points_transfer_breakup_by_earning_programs
    assert transfer.points_transferred == sum(one.deducted_points for one in breakup)
    assert len(answer.errors) == 0


def test_party_without_names() -> None:
    """A party whose names are not at hand is shown by its id."""
    answer = render.transfer_points(o.Settled(o.Accepted(TRANSFER), "r-1"))

    assert answer.data[0].transferred_to.user_id == 12


def test_points_that_are_available_show_no_time() -> None:
    """A lot whose promise is over does not show from when it is available."""
    shown = render.lot(msgspec.structs.replace(LOT, promised=False, expires_at=None))

    assert not shown.HasField("available_from")
    assert not shown.HasField("expires_at")


def test_result_of_another_operation() -> None:
    """A result that is not the operation's own is a bug and is never shown."""
    with pytest.raises(TypeError, match="TransferResult"):
        render.transfer_points(o.Settled(o.Accepted(o.DoneResult()), "r-1"))


def test_early_times() -> None:
    """Times before 1970 and the last instant of all keep their microseconds."""
    first = render.timestamp(datetime(1, 1, 1, tzinfo=UTC))
    last = render.timestamp(datetime.max.replace(tzinfo=UTC))

    assert (first.seconds, first.nanos) == (-62_135_596_800, 0)
    assert (last.seconds, last.nanos) == (253_402_300_799, 999_999_000)
