"""Recorded outcomes read back exactly as they were decided, for every type of result."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from stores import ANN, BEN, GOLD, NOW, customer, lot

from points_grpc import codes
from points_grpc.domain import outcome as out
from points_grpc.domain.model import Program
from points_grpc.domain.outcome import RESULT_TYPES, Accepted, FieldError, Outcome, Refused, Result, Warning
from points_grpc.domain.policy import (
    Alphabet,
    Category,
    Direction,
    OtpPolicy,
    OtpRequirement,
    PointValue,
    Policy,
    RedemptionPolicy,
    TransferPolicy,
    VelocityLimit,
    Window,
)
from points_grpc.storage.codec import (
    decode_fingerprint,
    decode_outcome,
    decode_policy,
    encode_fingerprint,
    encode_outcome,
    encode_policy,
)

BIG = 2**63 - 1
POLICY = Policy(
    revision=7,
    redemption=RedemptionPolicy(
        enabled=False,
        minimum_points=1,
        maximum_points=BIG,
        point_value=PointValue(1, 3, "INR"),
        categories=(Category("Main"), Category("Ünïcode \U0001f600 'quoted'", redeemable=False)),
    ),
    transfer=TransferPolicy(
        barred_sources=(),
        duplicate_window_s=60,
        velocity_limits=(VelocityLimit(Direction.IN, Window.LAST_30_DAYS, 5, 6),),
    ),
    otp=OtpPolicy(transfer=OtpRequirement.OFF, alphabet=Alphabet.ALPHANUMERIC, channels=("EMAIL",)),
)
PROGRAM = Program(GOLD, "Gold", True, 2, "Asia/Kolkata", None, False, POLICY)
BALANCE = out.Balance(ANN, GOLD, 3, BIG, 5, 4, 3, 2)
SHARE = out.ProgramShare(GOLD, 10, 0)
LOT_SHARES = (out.LotShare(1, GOLD, 5, None), out.LotShare(2, GOLD, 5, NOW + timedelta(microseconds=1)))
CHALLENGE = out.Challenge("******78", ("MOBILE", "EMAIL"), NOW, 5)

RESULTS: dict[str, list[Result]] = {
    "TransferPoints": [out.TransferResult(1, ANN, BEN, GOLD, 10, NOW, 'té\n"x"', (SHARE,), (BALANCE, BALANCE))],
    "CheckTransfer": [
        out.CheckTransferResult(10, (SHARE,), (BALANCE,), CHALLENGE, True),
        out.CheckTransferResult(10, (), (), None, False),
    ],
    "IssueTransferOtp": [out.IssueOtpResult(CHALLENGE)],
    "RedeemPoints": [
        out.RedemptionResult("r1", 9, ANN, 10, out.MoneyValue("USD", 333), NOW, (SHARE,), LOT_SHARES, 3, (BALANCE,)),
        out.RedemptionResult("r1", 9, ANN, 10, None, NOW, (), (), 0, ()),
    ],
    "CheckRedemption": [out.CheckRedemptionResult(10, None, (SHARE,), LOT_SHARES, 0, (BALANCE,), None, True)],
    "IssueRedemptionOtp": [out.IssueOtpResult(CHALLENGE)],
    "AuthorizeRedemption": [
        out.HoldResult("h1", 9, ANN, 10, out.MoneyValue("USD", 333), NOW, LOT_SHARES, 3, (BALANCE,)),
        out.HoldResult("h1", 9, ANN, 10, None, NOW, (), 0, ()),
    ],
    "CaptureRedemption": [
        out.CaptureResult(
            out.RedemptionResult("r1", 9, ANN, 10, None, NOW, (SHARE,), LOT_SHARES, 3, (BALANCE,)), released=4
        )
    ],
    "ReleaseRedemption": [out.ReleaseResult(9, 10, (BALANCE,))],
    "ReverseRedemption": [
        out.ReversalResult("v1", 9, NOW, 10, (out.ReversedShare("r1", 5, 3, 2),), LOT_SHARES, 0, (BALANCE,))
    ],
    "ReturnTransaction": [out.ReturnResult(NOW, (out.ReturnedShare("r1", 5, 3, 2, "v1", 9),), (BALANCE,))],
    "IssuePoints": [out.IssueResult(9, lot(ANN, 5, expires_at=None, available_from=NOW, promised=True), (BALANCE,))],
    "ReverseTransfer": [out.TransferReversalResult(7, 9, NOW, 10, 6, LOT_SHARES, 1, (BALANCE, BALANCE))],
    "AdjustPoints": [out.AdjustmentResult(9, 10, (SHARE,), LOT_SHARES, 0, (BALANCE,))],
    "MergeCustomers": [
        out.MergeResult(customer(BEN), (GOLD, 2), ANN, 9, 10, 2, (BALANCE,)),
        out.MergeResult(customer(BEN), (), ANN, None, 0, 0, ()),
    ],
    "CreateCustomer": [out.CustomerResult(customer(ANN, merged_into=BEN, transfers_locked_until=NOW), (GOLD, 2))],
    "EnrolCustomer": [out.CustomerResult(customer(ANN, mobile=None), ())],
    "SetCustomerStatus": [out.CustomerResult(customer(ANN), (GOLD,))],
    "SetTransferLock": [out.CustomerResult(customer(ANN), (GOLD,))],
    "RecordPurchase": [out.PurchaseResult(BIG)],
    "RecordMissedCall": [out.MissedCallResult(ANN, NOW)],
    "EraseCustomer": [
        out.ErasureResult(ANN, (BEN,), NOW, (9,), BIG, False),
        out.ErasureResult(ANN, (), NOW, (), 0, True),
    ],
    "CreateProgram": [out.ProgramResult(PROGRAM, True)],
    "CreateProgramGroup": [out.GroupResult(3)],
    "SetPolicy": [out.PolicyResult(POLICY, NOW)],
    "SetConfigKey": [out.DoneResult()],
    "SetPause": [out.DoneResult()],
    "SetProgramActive": [out.ProgramResult(PROGRAM, False)],
    "AcknowledgeMessages": [out.DoneResult()],
    "AcknowledgeNotices": [out.DoneResult()],
    "BookDue": [out.DoneResult()],
}
WARNINGS = (
    Warning(codes.REDEEMABLE_BUT_OTP_NOT_ISSUED, {"cause": "ISSUE_LIMIT"}),
    Warning(codes.POINTS_NOT_ALLOCATED, {"points": "5"}, "points"),
)
REFUSALS = [
    Refused(codes.TRANSFER_CUSTOMER_NOT_FOUND),
    Refused(
        codes.TRANSFER_LIMIT_EXCEEDED,
        {"limit": "10", "window": "TODAY"},
        field="points",
        errors=(FieldError(codes.FIELD_INVALID, "a.b[0]", "says what", {"maximum": "64"}),),
        warnings=WARNINGS,
        retry_after_s=0.1 + 0.2,
        quota="transfer_points_out_today",
    ),
]


def round_trip(outcome: Outcome, operation: str) -> Outcome:
    """Through the text and back."""
    return decode_outcome(encode_outcome(outcome), operation=operation, accepted=isinstance(outcome, Accepted))


def test_every_operation_has_a_row() -> None:
    """A new operation needs a result in `RESULTS`."""
    assert set(RESULT_TYPES) == set(RESULTS)
    assert all(isinstance(one, RESULT_TYPES[name]) for name, results in RESULTS.items() for one in results)


@pytest.mark.parametrize(("operation", "result"), [(name, one) for name, results in RESULTS.items() for one in results])
def test_an_acceptance_comes_back_exactly(operation: str, result: Result) -> None:
    """Values, types and None are what they were."""
    for accepted in (Accepted(result), Accepted(result, WARNINGS, BIG)):
        assert accepted == round_trip(accepted, operation)
        assert type(result) is type(round_trip(accepted, operation).result)  # type: ignore[union-attr]


@pytest.mark.parametrize("refused", REFUSALS, ids=lambda refused: refused.code.reason)
def test_a_refusal_comes_back_exactly(refused: Refused) -> None:
    """Codes are the very instances of the catalogue, floats are equal to the last bit."""
    found = round_trip(refused, "TransferPoints")

    assert refused == found
    assert isinstance(found, Refused)
    assert refused.code is found.code


@pytest.mark.parametrize("code", codes.CATALOGUE, ids=lambda code: code.reason)
def test_every_code_is_kept_by_its_reason(code: codes.Code) -> None:
    """The reason finds the one instance again."""
    found = round_trip(Refused(code), "RedeemPoints")

    assert isinstance(found, Refused)
    assert code is found.code


def test_a_policy_comes_back_exactly() -> None:
    """Nested rules, enums and tuples."""
    assert POLICY == decode_policy(encode_policy(POLICY))
    assert Policy() == decode_policy(encode_policy(Policy()))


def test_a_policy_of_an_older_program_gets_defaults() -> None:
    """Fields that it was written without are there all the same."""
    assert Policy(revision=3) == decode_policy('{"revision":3}')


def test_a_fingerprint_comes_back_exactly() -> None:
    """Names and hashes."""
    fingerprint = {"points": "00ff", "from_customer_identifier": "12"}

    assert fingerprint == decode_fingerprint(encode_fingerprint(fingerprint))


def test_times_are_kept_to_the_microsecond_in_utc() -> None:
    """No float comes near a time."""
    at = datetime(2255, 6, 5, 23, 47, 34, 740993, tzinfo=UTC)
    found = round_trip(Accepted(out.PolicyResult(Policy(), at)), "SetPolicy")

    assert Accepted(out.PolicyResult(Policy(), at)) == found
