"""Well-formed requests, one for each RPC that carries a command, with every field set."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc.codes import Code
from points_grpc.rpc import parse
from points_grpc.rpc.parse import Asking, Reader
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
)

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
ASKING = Asking(default_region="IN", request_id_required=False, now=NOW)

MOBILE = common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.MOBILE, value="9148574269")
BY_ID = common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value="565039506")


def at(text: str) -> Timestamp:
    """A protobuf time."""
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


def check_transfer() -> points_service_pb2.CheckTransferRequest:
    return points_service_pb2.CheckTransferRequest(
        points_to_be_transferred=1000,
        program_id=973,
        from_customer_identifier=MOBILE,
        to_customer_identifier=BY_ID,
        group_program_transfer=True,
        issue_otp=True,
        notes="a note",
        request_id="check-1",
    )


def issue_transfer_otp() -> points_service_pb2.IssueTransferOtpRequest:
    return points_service_pb2.IssueTransferOtpRequest(
        points_to_be_transferred=1000,
        program_id=973,
        from_customer_identifier=MOBILE,
        to_customer_identifier=BY_ID,
        group_program_transfer=True,
        notes="a note",
        request_id="otp-1",
    )


def transfer_points() -> points_service_pb2.TransferPointsRequest:
    return points_service_pb2.TransferPointsRequest(
        points_to_be_transferred=1000,
        program_id=973,
        from_customer_identifier=MOBILE,
        to_customer_identifier=BY_ID,
        group_program_transfer=True,
        code="123456",
        notes="a note",
        request_id="transfer-1",
    )


def check_redemption() -> points_service_pb2.CheckRedemptionRequest:
    return points_service_pb2.CheckRedemptionRequest(
        customer_identifier=MOBILE,
        program_id=973,
        points=100,
        category="Main",
        transaction_number="BILL-1",
        redemption_time=at("2026-03-15T11:00:00Z"),
        group_redemption=True,
        issue_otp=True,
        request_id="check-2",
    )


def issue_redemption_otp() -> points_service_pb2.IssueRedemptionOtpRequest:
    return points_service_pb2.IssueRedemptionOtpRequest(
        customer_identifier=MOBILE,
        program_id=973,
        points=100,
        category="Main",
        group_redemption=True,
        request_id="otp-2",
    )


def redeem_points() -> points_service_pb2.RedeemPointsRequest:
    return points_service_pb2.RedeemPointsRequest(
        customer_identifier=MOBILE,
        program_id=973,
        points=100,
        category="Main",
        transaction_number="BILL-1",
        external_reference_number="till 7 / 42",
        validation_code="123456",
        validation_type=points_service_pb2.RedeemPointsRequest.OTP,
        redemption_time=at("2026-03-15T11:00:00.5Z"),
        group_redemption=True,
        notes="a note",
        request_id="redeem-1",
    )


def authorize_redemption() -> points_service_pb2.AuthorizeRedemptionRequest:
    return points_service_pb2.AuthorizeRedemptionRequest(
        customer_identifier=MOBILE,
        program_id=973,
        points=100,
        category="Main",
        transaction_number="BILL-1",
        external_reference_number="till 7 / 42",
        validation_type=points_service_pb2.RedeemPointsRequest.MISSED_CALL,
        redemption_time=at("2026-03-15T11:00:00.5Z"),
        group_redemption=True,
        notes="a note",
        request_id="hold-1",
        hold_s=3600,
    )


def capture_redemption() -> points_service_pb2.CaptureRedemptionRequest:
    return points_service_pb2.CaptureRedemptionRequest(
        hold_id="h1a2b3", points=50, notes="a note", request_id="capture-1"
    )


def release_redemption() -> points_service_pb2.ReleaseRedemptionRequest:
    return points_service_pb2.ReleaseRedemptionRequest(hold_id="h1a2b3", notes="a note", request_id="release-1")


def reverse_redemption() -> points_service_pb2.ReverseRedemptionRequest:
    return points_service_pb2.ReverseRedemptionRequest(
        redemption_id="r1a2b3",
        customer_identifier=MOBILE,
        points_to_be_reversed=50,
        notes="a note",
        request_id="reverse-1",
    )


def reverse_transfer() -> points_service_pb2.ReverseTransferRequest:
    return points_service_pb2.ReverseTransferRequest(
        transfer_id=1_037_890,
        shortfall=points_service_pb2.ReverseTransferRequest.UP_TO_AVAILABLE,
        reason="a reason",
        request_id="return-1",
    )


def return_transaction() -> points_service_pb2.ReturnTransactionRequest:
    item = points_service_pb2.ReturnTransactionRequest.Item
    return points_service_pb2.ReturnTransactionRequest(
        transaction_number="BILL-1",
        customer_identifier=MOBILE,
        amount_minor_units=4990,
        items=[
            item(redemption_id="r1a2b3", points_to_be_reversed=50),
            item(redemption_id="r1a2b4", customer_identifier=BY_ID),
        ],
        notes="a note",
        request_id="return-1",
    )


def adjust_points() -> issuance_service_pb2.AdjustPointsRequest:
    return issuance_service_pb2.AdjustPointsRequest(
        customer_identifier=MOBILE,
        program_id=973,
        points=100,
        category="Main",
        reason="a reason",
        request_id="adjust-1",
    )


def merge_customers() -> customer_service_pb2.MergeCustomersRequest:
    return customer_service_pb2.MergeCustomersRequest(
        victim_customer_identifier=MOBILE,
        survivor_customer_identifier=BY_ID,
        reason="a reason",
        request_id="merge-1",
    )


def issue_points() -> issuance_service_pb2.IssuePointsRequest:
    return issuance_service_pb2.IssuePointsRequest(
        customer_identifier=MOBILE,
        program_id=973,
        points=100,
        source=common_pb2.Lot.GOODWILL,
        earning_program_id=974,
        category="Main",
        available_from=at("2026-04-01T00:00:00Z"),
        expires_on="2027-03-31",
        transaction_number="BILL-1",
        notes="a note",
        request_id="issue-1",
    )


def create_customer() -> customer_service_pb2.CreateCustomerRequest:
    return customer_service_pb2.CreateCustomerRequest(
        customer_id=7,
        first_name="Madhurima",
        last_name="Basak",
        identifiers=[
            MOBILE,
            common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.EMAIL, value="M.Basak@Shop.Example"),
            common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.EXTERNAL_ID, value=" crm/7 "),
        ],
        enrolled_program_ids=[973, 974],
        campaign_contact=True,
        request_id="create-1",
        locale="zh-Hant-TW",
    )


def enrol_customer() -> customer_service_pb2.EnrolCustomerRequest:
    return customer_service_pb2.EnrolCustomerRequest(customer_identifier=MOBILE, program_id=973, request_id="enrol-1")


def set_customer_status() -> customer_service_pb2.SetCustomerStatusRequest:
    return customer_service_pb2.SetCustomerStatusRequest(
        customer_identifier=MOBILE,
        fraud_status=customer_service_pb2.Customer.MARKED,
        status_label=customer_service_pb2.Customer.SUSPENDED,
        reason="a reason",
        request_id="status-1",
    )


def set_transfer_lock() -> customer_service_pb2.SetTransferLockRequest:
    return customer_service_pb2.SetTransferLockRequest(
        customer_identifier=MOBILE, locked_until=at("2026-04-01T00:00:00Z"), reason="a reason", request_id="lock-1"
    )


def record_purchase() -> customer_service_pb2.RecordPurchaseRequest:
    return customer_service_pb2.RecordPurchaseRequest(
        customer_identifier=MOBILE,
        program_id=973,
        transaction_number="BILL-1",
        amount_minor_units=12_345,
        request_id="purchase-1",
    )


def record_missed_call() -> customer_service_pb2.RecordMissedCallRequest:
    return customer_service_pb2.RecordMissedCallRequest(
        mobile_number="9148574269", called_at=at("2026-03-15T11:00:00Z"), request_id="call-1"
    )


def erase_customer() -> customer_service_pb2.EraseCustomerRequest:
    return customer_service_pb2.EraseCustomerRequest(
        customer_identifier=MOBILE, forfeit_points=True, reason="a reason", request_id="erase-1"
    )


def policy() -> program_service_pb2.Policy:
    return program_service_pb2.Policy(
        revision=9,
        created_at=at("2026-01-01T00:00:00Z"),
        redemption=program_service_pb2.RedemptionPolicy(
            enabled=False,
            minimum_points=1,
            maximum_points=2,
            multiple=3,
            required_balance=4,
            required_lifetime_points=5,
            required_lifetime_purchases=6,
            lifetime_includes_received=True,
            point_value=program_service_pb2.PointValue(numerator=25, denominator=2, currency_code="INR"),
            categories=[program_service_pb2.PointsCategory(name="Promo", redeemable=False)],
            transaction_number_strict=True,
            redemption_time_days=7,
            proof_required=True,
            reversal_days=8,
            missed_call_window_s=90,
        ),
        transfer=program_service_pb2.TransferPolicy(
            enabled=False,
            multiple=10,
            barred_sources=program_service_pb2.SourceList(sources=[common_pb2.Lot.GOODWILL]),
            redemption_conditions=True,
            duplicate_window_s=60,
            velocity_limits=[
                program_service_pb2.VelocityLimit(
                    direction=program_service_pb2.VelocityLimit.OUT,
                    window=program_service_pb2.VelocityLimit.LAST_7_DAYS,
                    points_max=1000,
                    transfers_max=3,
                )
            ],
        ),
        otp=program_service_pb2.OtpPolicy(
            transfer=program_service_pb2.OtpPolicy.REQUIRED,
            length=8,
            alphabet=program_service_pb2.OtpPolicy.ALPHANUMERIC,
            validity_s=60,
            attempts=3,
            issues_per_window=4,
            attempts_per_window=9,
            window_s=600,
            channels=["EMAIL"],
        ),
    )


def create_program() -> program_service_pb2.CreateProgramRequest:
    return program_service_pb2.CreateProgramRequest(
        program_id=973,
        name="Gold",
        default_program=True,
        decimal_places=2,
        time_zone="Asia/Kolkata",
        policy=policy(),
        request_id="program-1",
    )


def create_program_group() -> program_service_pb2.CreateProgramGroupRequest:
    return program_service_pb2.CreateProgramGroupRequest(
        program_group_id=5, name="All", program_ids=[973, 974], default_program_id=974, request_id="group-1"
    )


def set_policy() -> program_service_pb2.SetPolicyRequest:
    return program_service_pb2.SetPolicyRequest(
        program_id=973, policy=policy(), expected_revision=3, reason="a reason", request_id="policy-1"
    )


def set_config_key() -> program_service_pb2.SetConfigKeyRequest:
    return program_service_pb2.SetConfigKeyRequest(
        key="ALLOW_POINTS_TRANSFER", value="true", reason="a reason", request_id="key-1"
    )


def set_pause() -> program_service_pb2.SetPauseRequest:
    return program_service_pb2.SetPauseRequest(program_id=973, paused=True, reason="a reason", request_id="pause-1")


def set_program_active() -> program_service_pb2.SetProgramActiveRequest:
    return program_service_pb2.SetProgramActiveRequest(
        program_id=973, active=True, reason="a reason", request_id="active-1"
    )


BUILDERS = (
    check_transfer,
    issue_transfer_otp,
    transfer_points,
    check_redemption,
    issue_redemption_otp,
    redeem_points,
    authorize_redemption,
    capture_redemption,
    release_redemption,
    reverse_redemption,
    reverse_transfer,
    return_transaction,
    issue_points,
    adjust_points,
    create_customer,
    enrol_customer,
    set_customer_status,
    set_transfer_lock,
    record_purchase,
    merge_customers,
    record_missed_call,
    erase_customer,
    create_program,
    create_program_group,
    set_policy,
    set_config_key,
    set_pause,
    set_program_active,
)


def reader(name: str) -> Reader:
    """The reader of an RPC by its name in parse."""
    found: Reader = getattr(parse, name)
    return found


def request(name: str) -> Message:
    """A well-formed request of an RPC by its name in parse."""
    return next(build() for build in BUILDERS if build.__name__ == name)


def may_answer(code: Code, operation: str) -> bool:
    """Whether the catalogue lists a code for an operation."""
    if f"!{operation}" in code.operations:
        return False
    return "*" in code.operations or operation in code.operations
