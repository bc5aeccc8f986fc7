"""Requests to commands: what is well formed, and for each field what is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from wire_requests import ASKING, BUILDERS, BY_ID, MOBILE, at, may_answer, policy, reader, request

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain import commands as c
from points_grpc.domain import policy as p
from points_grpc.domain.model import FraudStatus, Identifier, IdentifierType, Source, StatusLabel
from points_grpc.domain.outcome import Refused
from points_grpc.rpc import parse
from points_grpc.v1 import common_pb2, issuance_service_pb2, points_service_pb2, program_service_pb2

MOBILE_READ = Identifier(IdentifierType.MOBILE, "+919148574269")
ID_READ = Identifier(IdentifierType.ID, "565039506")
TRANSFER_READ = c.TransferPoints(
    points=1000, program_id=973, source=MOBILE_READ, destination=ID_READ, pooled=True, code="", notes="a note"
)
REDEMPTION_READ = c.RedeemPoints(
    customer=MOBILE_READ, program_id=973, points=100, category="Main", code="", pooled=True
)
POLICY_READ = p.Policy(
    redemption=p.RedemptionPolicy(
        enabled=False,
        minimum_points=1,
        maximum_points=2,
        multiple=3,
        required_balance=4,
        required_lifetime_points=5,
        required_lifetime_purchases=6,
        lifetime_includes_received=True,
        point_value=p.PointValue(25, 2, "INR"),
        categories=(p.Category("Promo", redeemable=False),),
        transaction_number_strict=True,
        redemption_time_days=7,
        proof_required=True,
        reversal_days=8,
        missed_call_window_s=90,
    ),
    transfer=p.TransferPolicy(
        enabled=False,
        multiple=10,
        barred_sources=(3,),
        redemption_conditions=True,
        duplicate_window_s=60,
        velocity_limits=(p.VelocityLimit(p.Direction.OUT, p.Window.LAST_7_DAYS, 1000, 3),),
    ),
    otp=p.OtpPolicy(
        transfer=p.OtpRequirement.REQUIRED,
        length=8,
        alphabet=p.Alphabet.ALPHANUMERIC,
        validity_s=60,
        attempts=3,
        issues_per_window=4,
        attempts_per_window=9,
        window_s=600,
        channels=("EMAIL",),
    ),
)
COMMANDS: dict[str, c.Command] = {
    "check_transfer": c.CheckTransfer(TRANSFER_READ, issue_otp=True),
    "issue_transfer_otp": c.IssueTransferOtp(TRANSFER_READ),
    "transfer_points": msgspec.structs.replace(TRANSFER_READ, code="123456"),
    "check_redemption": c.CheckRedemption(
        msgspec.structs.replace(
            REDEMPTION_READ,
            transaction_number="BILL-1",
            redemption_time=datetime(2026, 3, 15, 11, tzinfo=UTC),
        ),
        issue_otp=True,
    ),
    "issue_redemption_otp": c.IssueRedemptionOtp(REDEMPTION_READ),
    "redeem_points": msgspec.structs.replace(
        REDEMPTION_READ,
        transaction_number="BILL-1",
        external_reference="till 7 / 42",
        code="123456",
        redemption_time=datetime(2026, 3, 15, 11, 0, 0, 500_000, tzinfo=UTC),
        notes="a note",
    ),
    "authorize_redemption": c.AuthorizeRedemption(
        msgspec.structs.replace(
            REDEMPTION_READ,
            transaction_number="BILL-1",
            external_reference="till 7 / 42",
            missed_call=True,
            redemption_time=datetime(2026, 3, 15, 11, 0, 0, 500_000, tzinfo=UTC),
            notes="a note",
        ),
        hold_s=3600,
    ),
    "capture_redemption": c.CaptureRedemption("h1a2b3", points=50, notes="a note"),
    "release_redemption": c.ReleaseRedemption("h1a2b3", notes="a note"),
    "reverse_redemption": c.ReverseRedemption(MOBILE_READ, redemption_id="r1a2b3", points=50, notes="a note"),
    "reverse_transfer": c.ReverseTransfer(1_037_890, partial=True, reason="a reason"),
    "adjust_points": c.AdjustPoints(MOBILE_READ, 973, 100, "a reason", "Main"),
    "merge_customers": c.MergeCustomers(MOBILE_READ, Identifier(IdentifierType.ID, "565039506"), "a reason"),
    "return_transaction": c.ReturnTransaction(
        customer=MOBILE_READ,
        transaction_number="BILL-1",
        amount=4990,
        items=(
            c.ReturnedItem("r1a2b3", 50, MOBILE_READ),
            c.ReturnedItem("r1a2b4", None, Identifier(IdentifierType.ID, "565039506")),
        ),
        notes="a note",
    ),
    "issue_points": c.IssuePoints(
        customer=MOBILE_READ,
        program_id=973,
        points=100,
        source=Source.GOODWILL,
        earning_program_id=974,
        category="Main",
        available_from=datetime(2026, 4, 1, tzinfo=UTC),
        expiry=c.Expiry(on=date(2027, 3, 31)),
        transaction_number="BILL-1",
        notes="a note",
    ),
    "create_customer": c.CreateCustomer(
        customer_id=7,
        first_name="Madhurima",
        last_name="Basak",
        mobile="+919148574269",
        email="M.Basak@shop.example",
        external_id=" crm/7 ",
        program_ids=(973, 974),
        campaign_contact=True,
        locale="zh-Hant-TW",
    ),
    "enrol_customer": c.EnrolCustomer(MOBILE_READ, 973),
    "set_customer_status": c.SetCustomerStatus(MOBILE_READ, FraudStatus.MARKED, StatusLabel.SUSPENDED, "a reason"),
    "set_transfer_lock": c.SetTransferLock(MOBILE_READ, datetime(2026, 4, 1, tzinfo=UTC), "a reason"),
    "record_purchase": c.RecordPurchase(MOBILE_READ, 973, "BILL-1", 12_345),
    "record_missed_call": c.RecordMissedCall(MOBILE_READ, datetime(2026, 3, 15, 11, tzinfo=UTC)),
    "erase_customer": c.EraseCustomer(MOBILE_READ, forfeit_points=True, reason="a reason"),
    "create_program": c.CreateProgram(
        program_id=973,
        name="Gold",
        default=True,
        decimal_places=2,
        time_zone="Asia/Kolkata",
        policy=POLICY_READ,
    ),
    "create_program_group": c.CreateProgramGroup(5, "All", (973, 974), 974),
    "set_policy": c.SetPolicy(973, POLICY_READ, 3, "a reason"),
    "set_config_key": c.SetConfigKey("ALLOW_POINTS_TRANSFER", "true", "a reason"),
    "set_pause": c.SetPause(973, paused=True, reason="a reason"),
    "set_program_active": c.SetProgramActive(973, active=True, reason="a reason"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_well_formed(name: str) -> None:
    """A well-formed request is the command that it says, under the request id that it gives."""
    asked = reader(name)(request(name), ASKING)

    assert asked.wants == COMMANDS[name]
    assert asked.request_id == request(name).request_id
    assert asked.request_id_given
    assert asked.writes


def test_every_command_has_a_reader() -> None:
    """Every RPC that carries a command is in the tables of this file."""
    readers = {name for name, value in vars(parse).items() if isinstance(value, parse.Reader)}

    assert readers == set(COMMANDS) == {build.__name__ for build in BUILDERS}


# -- one malformed field at a time


def setting(**values: Any) -> Callable[[Any], None]:
    """A change that sets fields."""

    def change(message: Any) -> None:
        for name, value in values.items():
            if isinstance(value, int | str | bool):
                setattr(message, name, value)
            elif isinstance(value, list):
                message.ClearField(name)
                getattr(message, name).extend(value)
            else:
                getattr(message, name).CopyFrom(value)

    return change


def within(path: str, **values: Any) -> Callable[[Any], None]:
    """A change that sets fields of a message inside, named with dots and indexes."""

    def change(message: Any) -> None:
        for part in path.split("."):
            message = message[int(part)] if part.isdigit() else getattr(message, part)
        setting(**values)(message)

    return change


def unset(name: str) -> Callable[[Any], None]:
    """A change that clears a field."""
    return lambda message: message.ClearField(name)


LONG = 501 * "x"
TOO_MANY = 10**12 + 1
NUL = "a\x00b"
UNREADABLE = Timestamp(seconds=253_402_300_800)
BAD_NANOS = Timestamp(seconds=1, nanos=-1)
POINTS_422 = codes.TRANSFER_POINTS_INVALID
OTHER_887 = codes.TRANSFER_VALIDATION_FAILED
POINTS_801 = codes.INVALID_POINTS
IDENTIFIER_802 = codes.INVALID_CUSTOMER_IDENTIFIER
TIME_859 = codes.INVALID_REDEMPTION_TIME
KEY_901 = codes.INVALID_POINTS_OR_REDEMPTION_ID
OTHER_10004 = codes.FIELD_INVALID

Row = tuple[str, Callable[[Any], None], Code, str]


def transfer_rows(name: str) -> list[Row]:
    """The fields that all three transfer requests have."""
    return [
        (name, setting(points_to_be_transferred=0), POINTS_422, "points_to_be_transferred"),
        (name, setting(points_to_be_transferred=-1), POINTS_422, "points_to_be_transferred"),
        (name, setting(points_to_be_transferred=TOO_MANY), POINTS_422, "points_to_be_transferred"),
        (name, setting(points_tobe_transferred=999), POINTS_422, "points_tobe_transferred"),
        (name, setting(notes=LONG), OTHER_887, "notes"),
        (name, setting(notes=NUL), OTHER_887, "notes"),
        (name, setting(request_id="with space"), OTHER_887, "request_id"),
        (name, setting(request_id="x" * 65), OTHER_887, "request_id"),
        (name, setting(request_id="ä"), OTHER_887, "request_id"),
        (name, setting(request_id="line\n"), OTHER_887, "request_id"),
    ]


def identifier_rows(name: str, code: Code, field: str = "customer_identifier") -> list[Row]:
    """A customer identifier anywhere but in a transfer."""
    return [
        (name, unset(field), code, field),
        (name, within(field, type=0), code, f"{field}.type"),
        (name, within(field, type=99), code, f"{field}.type"),
        (name, within(field, value=""), code, f"{field}.value"),
        (name, within(field, value="12345"), code, f"{field}.value"),
        (name, within(field, value="9" * 255), code, f"{field}.value"),
        (name, within(field, value="91485\x0074269"), code, f"{field}.value"),
    ]


def points_rows(name: str) -> list[Row]:
    """Points where they are redeemed or issued."""
    return [
        (name, setting(points=0), POINTS_801, "points"),
        (name, setting(points=-5), POINTS_801, "points"),
        (name, setting(points=TOO_MANY), POINTS_801, "points"),
    ]


def text_rows(name: str, field: str, length_max: int, code: Code = OTHER_10004) -> list[Row]:
    """A text of bounded length."""
    return [
        (name, setting(**{field: "x" * (length_max + 1)}), code, field),
        (name, setting(**{field: NUL}), code, field),
        (name, setting(**{field: "line\nline"}), code, field),
        (name, setting(**{field: "\x9b"}), code, field),
    ]


def request_id_rows(name: str) -> list[Row]:
    """The request id anywhere but in a transfer."""
    return [
        (name, setting(request_id="with space"), OTHER_10004, "request_id"),
        (name, setting(request_id="x" * 65), OTHER_10004, "request_id"),
    ]


def reason_rows(name: str) -> list[Row]:
    """A reason that is required."""
    return [
        *text_rows(name, "reason", 500),
        (name, setting(reason=""), OTHER_10004, "reason"),
        (name, setting(reason="   "), OTHER_10004, "reason"),
    ]


def policy_rows(name: str) -> list[Row]:
    """Every field of a policy that can be malformed."""
    rows: list[Row] = []
    for part, field, values in (
        ("redemption", "minimum_points", (-1, TOO_MANY)),
        ("redemption", "maximum_points", (-1, TOO_MANY)),
        ("redemption", "multiple", (-1, TOO_MANY)),
        ("redemption", "required_balance", (-1, TOO_MANY)),
        ("redemption", "required_lifetime_points", (-1, TOO_MANY)),
        ("redemption", "required_lifetime_purchases", (-1, TOO_MANY)),
        ("redemption", "redemption_time_days", (-1, 36_501)),
        ("redemption", "reversal_days", (-1, 36_501)),
        ("redemption", "missed_call_window_s", (-1, 29, 86_401)),
        ("redemption.point_value", "numerator", (0, 10**9 + 1)),
        ("redemption.point_value", "denominator", (0, 10**9 + 1)),
        ("redemption.point_value", "currency_code", ("inr", "RUPEE", "")),
        ("transfer", "multiple", (-1, TOO_MANY)),
        ("transfer", "duplicate_window_s", (-1, 86_401)),
        ("transfer", "velocity_limits", ([program_service_pb2.VelocityLimit()] * 17,)),
        ("otp", "transfer", (9,)),
        ("otp", "length", (3, 11, -1)),
        ("otp", "alphabet", (9,)),
        ("otp", "validity_s", (29, 3601)),
        ("otp", "attempts", (-1, 11)),
        ("otp", "issues_per_window", (-1, 101)),
        ("otp", "attempts_per_window", (-1, 101)),
        ("otp", "window_s", (59, 86_401)),
        ("otp", "channels", (["PIGEON"], ["EMAIL", "EMAIL"])),
    ):
        rows += [
            (name, within(f"policy.{part}", **{field: value}), OTHER_10004, f"policy.{part}.{field}")
            for value in values
        ]
    at_categories, at_limits = "policy.redemption.categories", "policy.transfer.velocity_limits"
    many = [program_service_pb2.PointsCategory(name=str(number)) for number in range(101)]
    return [
        *rows,
        (name, within("policy.redemption", categories=many), OTHER_10004, at_categories),
        (name, within(f"{at_categories}.0", name=""), OTHER_10004, f"{at_categories}[0].name"),
        (name, within(f"{at_categories}.0", name="x" * 65), OTHER_10004, f"{at_categories}[0].name"),
        (
            name,
            within("policy.transfer.barred_sources", sources=[0]),
            OTHER_10004,
            "policy.transfer.barred_sources",
        ),
        (name, within(f"{at_limits}.0", direction=0), OTHER_10004, f"{at_limits}[0].direction"),
        (name, within(f"{at_limits}.0", window=9), OTHER_10004, f"{at_limits}[0].window"),
        (name, within(f"{at_limits}.0", points_max=-1), OTHER_10004, f"{at_limits}[0].points_max"),
        (name, within(f"{at_limits}.0", transfers_max=-1), OTHER_10004, f"{at_limits}[0].transfers_max"),
    ]


ROWS: list[Row] = [
    *transfer_rows("check_transfer"),
    *transfer_rows("issue_transfer_otp"),
    *transfer_rows("transfer_points"),
    ("transfer_points", setting(code="1" * 33), OTHER_887, "code"),
    ("transfer_points", setting(code=NUL), OTHER_887, "code"),
    *identifier_rows("check_redemption", IDENTIFIER_802),
    *points_rows("check_redemption"),
    *text_rows("check_redemption", "category", 64),
    *request_id_rows("check_redemption"),
    ("check_redemption", setting(redemption_time=UNREADABLE), TIME_859, "redemption_time"),
    ("check_redemption", setting(redemption_time=at("2026-03-15T12:00:00.001Z")), TIME_859, "redemption_time"),
    *identifier_rows("issue_redemption_otp", IDENTIFIER_802),
    *points_rows("issue_redemption_otp"),
    *text_rows("issue_redemption_otp", "category", 64),
    *request_id_rows("issue_redemption_otp"),
    *identifier_rows("redeem_points", IDENTIFIER_802),
    *points_rows("redeem_points"),
    *text_rows("redeem_points", "category", 64),
    *text_rows("redeem_points", "external_reference_number", 128),
    *text_rows("redeem_points", "validation_code", 32),
    *text_rows("redeem_points", "notes", 500),
    *request_id_rows("redeem_points"),
    ("redeem_points", setting(validation_type=9), OTHER_10004, "validation_type"),
    ("redeem_points", setting(redemption_time=BAD_NANOS), TIME_859, "redemption_time"),
    ("redeem_points", setting(redemption_time=at("2026-03-15T12:00:01Z")), TIME_859, "redemption_time"),
    *identifier_rows("authorize_redemption", IDENTIFIER_802),
    *points_rows("authorize_redemption"),
    *text_rows("authorize_redemption", "category", 64),
    *text_rows("authorize_redemption", "external_reference_number", 128),
    *text_rows("authorize_redemption", "validation_code", 32),
    *text_rows("authorize_redemption", "notes", 500),
    *request_id_rows("authorize_redemption"),
    ("authorize_redemption", setting(validation_type=9), OTHER_10004, "validation_type"),
    ("authorize_redemption", setting(redemption_time=BAD_NANOS), TIME_859, "redemption_time"),
    *(("authorize_redemption", setting(hold_s=one), OTHER_10004, "hold_s") for one in (-1, 1, 59, 2_592_001)),
    *text_rows("capture_redemption", "hold_id", 32),
    *text_rows("capture_redemption", "notes", 500),
    *request_id_rows("capture_redemption"),
    ("capture_redemption", setting(hold_id=""), OTHER_10004, "hold_id"),
    *(("capture_redemption", setting(points=one), OTHER_10004, "points") for one in (-1, 0, TOO_MANY)),
    *text_rows("release_redemption", "hold_id", 32),
    *text_rows("release_redemption", "notes", 500),
    *request_id_rows("release_redemption"),
    ("release_redemption", setting(hold_id=""), OTHER_10004, "hold_id"),
    *identifier_rows("reverse_redemption", IDENTIFIER_802),
    *text_rows("reverse_redemption", "redemption_id", 32, KEY_901),
    *text_rows("reverse_redemption", "notes", 500),
    *request_id_rows("reverse_redemption"),
    ("reverse_redemption", setting(redemption_id=""), KEY_901, "redemption_id"),
    ("reverse_redemption", setting(external_reference_number="x"), KEY_901, "redemption_id"),
    ("reverse_redemption", setting(transaction_number="x"), KEY_901, "redemption_id"),
    (
        "reverse_redemption",
        setting(redemption_id="", external_reference_number="x" * 129),
        KEY_901,
        "external_reference_number",
    ),
    ("reverse_redemption", setting(redemption_id="", transaction_number="x" * 65), KEY_901, "transaction_number"),
    ("reverse_redemption", setting(points_to_be_reversed=0), KEY_901, "points_to_be_reversed"),
    ("reverse_redemption", setting(points_to_be_reversed=-1), KEY_901, "points_to_be_reversed"),
    ("reverse_transfer", setting(transfer_id=0), OTHER_887, "transfer_id"),
    ("reverse_transfer", setting(transfer_id=-1), OTHER_887, "transfer_id"),
    ("reverse_transfer", setting(shortfall=0), OTHER_887, "shortfall"),
    ("reverse_transfer", setting(shortfall=3), OTHER_887, "shortfall"),
    ("reverse_transfer", setting(reason=" "), OTHER_887, "reason"),
    ("reverse_transfer", setting(reason=LONG), OTHER_887, "reason"),
    ("reverse_transfer", setting(request_id="with space"), OTHER_887, "request_id"),
    *identifier_rows("adjust_points", IDENTIFIER_802),
    *points_rows("adjust_points"),
    *text_rows("adjust_points", "category", 64),
    *reason_rows("adjust_points"),
    *request_id_rows("adjust_points"),
    *identifier_rows("merge_customers", OTHER_10004, "victim_customer_identifier"),
    ("merge_customers", unset("survivor_customer_identifier"), OTHER_10004, "survivor_customer_identifier"),
    (
        "merge_customers",
        within("survivor_customer_identifier", value="x"),
        OTHER_10004,
        "survivor_customer_identifier.value",
    ),
    *reason_rows("merge_customers"),
    *request_id_rows("merge_customers"),
    *identifier_rows("return_transaction", IDENTIFIER_802),
    *text_rows("return_transaction", "notes", 500),
    *request_id_rows("return_transaction"),
    ("return_transaction", setting(transaction_number=""), OTHER_10004, "transaction_number"),
    ("return_transaction", setting(transaction_number="x" * 65), OTHER_10004, "transaction_number"),
    ("return_transaction", setting(transaction_number="a b"), OTHER_10004, "transaction_number"),
    ("return_transaction", setting(amount_minor_units=-1), OTHER_10004, "amount_minor_units"),
    ("return_transaction", setting(amount_minor_units=10**12 + 1), OTHER_10004, "amount_minor_units"),
    (
        "return_transaction",
        setting(items=[points_service_pb2.ReturnTransactionRequest.Item()] * 101),
        OTHER_10004,
        "items",
    ),
    *identifier_rows("issue_points", IDENTIFIER_802),
    *points_rows("issue_points"),
    *text_rows("issue_points", "category", 64),
    *text_rows("issue_points", "transaction_number", 64),
    ("issue_points", setting(transaction_number="a b <>"), OTHER_10004, "transaction_number"),
    ("issue_points", setting(transaction_number="B\u202e1"), OTHER_10004, "transaction_number"),
    *text_rows("issue_points", "notes", 500),
    *request_id_rows("issue_points"),
    ("issue_points", setting(source=0), OTHER_10004, "source"),
    ("issue_points", setting(source=6), OTHER_10004, "source"),
    ("issue_points", setting(available_from=UNREADABLE), OTHER_10004, "available_from"),
    ("issue_points", setting(expires_at=BAD_NANOS), OTHER_10004, "expires_at"),
    ("issue_points", setting(expires_on="20270331"), OTHER_10004, "expires_on"),
    ("issue_points", setting(expires_on="2027-02-30"), OTHER_10004, "expires_on"),
    ("issue_points", setting(expires_in_days=-1), OTHER_10004, "expires_in_days"),
    ("issue_points", setting(expires_in_days=36_501), OTHER_10004, "expires_in_days"),
    ("issue_points", setting(expires_in_months=1201), OTHER_10004, "expires_in_months"),
    ("issue_points", setting(never_expires=False), OTHER_10004, "never_expires"),
    *text_rows("create_customer", "first_name", 100),
    *text_rows("create_customer", "last_name", 100),
    *request_id_rows("create_customer"),
    *(
        ("create_customer", setting(locale=one), OTHER_10004, "locale")
        for one in ("PT", "pt_BR", "pt-br", "pt-BR-x-y", "p", "../de", "de-", "{{a}}", "pt-BR\n")
    ),
    ("create_customer", setting(customer_id=-1), OTHER_10004, "customer_id"),
    ("create_customer", setting(identifiers=[MOBILE] * 11), OTHER_10004, "identifiers"),
    ("create_customer", setting(identifiers=[MOBILE, BY_ID]), OTHER_10004, "identifiers[1].type"),
    ("create_customer", setting(identifiers=[MOBILE, MOBILE]), OTHER_10004, "identifiers[1].type"),
    ("create_customer", within("identifiers.1", value="x"), OTHER_10004, "identifiers[1].value"),
    ("create_customer", setting(enrolled_program_ids=[0]), OTHER_10004, "enrolled_program_ids"),
    ("create_customer", setting(enrolled_program_ids=list(range(1, 102))), OTHER_10004, "enrolled_program_ids"),
    *identifier_rows("enrol_customer", OTHER_10004),
    *request_id_rows("enrol_customer"),
    *identifier_rows("set_customer_status", OTHER_10004),
    *reason_rows("set_customer_status"),
    *request_id_rows("set_customer_status"),
    ("set_customer_status", setting(fraud_status=6), OTHER_10004, "fraud_status"),
    ("set_customer_status", setting(status_label=8), OTHER_10004, "status_label"),
    *identifier_rows("set_transfer_lock", OTHER_10004),
    *reason_rows("set_transfer_lock"),
    *request_id_rows("set_transfer_lock"),
    ("set_transfer_lock", setting(locked_until=UNREADABLE), OTHER_10004, "locked_until"),
    *identifier_rows("record_purchase", OTHER_10004),
    *text_rows("record_purchase", "transaction_number", 64),
    *request_id_rows("record_purchase"),
    ("record_purchase", setting(transaction_number=""), OTHER_10004, "transaction_number"),
    ("record_purchase", setting(transaction_number="with space"), OTHER_10004, "transaction_number"),
    ("record_purchase", setting(amount_minor_units=-1), OTHER_10004, "amount_minor_units"),
    ("record_purchase", setting(amount_minor_units=TOO_MANY), OTHER_10004, "amount_minor_units"),
    *request_id_rows("record_missed_call"),
    *(("record_missed_call", setting(mobile_number=one), OTHER_10004, "mobile_number") for one in ("", "12345", NUL)),
    ("record_missed_call", setting(called_at=UNREADABLE), OTHER_10004, "called_at"),
    ("record_missed_call", setting(called_at=at("2026-03-15T12:00:01Z")), OTHER_10004, "called_at"),
    *identifier_rows("erase_customer", OTHER_10004),
    *reason_rows("erase_customer"),
    *request_id_rows("erase_customer"),
    *text_rows("create_program", "name", 100),
    *request_id_rows("create_program"),
    *policy_rows("create_program"),
    ("create_program", setting(program_id=-1), OTHER_10004, "program_id"),
    ("create_program", setting(name=" "), OTHER_10004, "name"),
    ("create_program", setting(decimal_places=4), OTHER_10004, "decimal_places"),
    ("create_program", setting(decimal_places=-1), OTHER_10004, "decimal_places"),
    ("create_program", setting(time_zone="Mars/Olympus"), OTHER_10004, "time_zone"),
    ("create_program", setting(time_zone="../UTC"), OTHER_10004, "time_zone"),
    ("create_program", setting(time_zone="Asia"), OTHER_10004, "time_zone"),
    *text_rows("create_program_group", "name", 100),
    *request_id_rows("create_program_group"),
    ("create_program_group", setting(program_group_id=-1), OTHER_10004, "program_group_id"),
    ("create_program_group", setting(program_ids=[]), OTHER_10004, "program_ids"),
    ("create_program_group", setting(program_ids=[973, 973]), OTHER_10004, "program_ids"),
    ("create_program_group", setting(program_ids=[0, 973]), OTHER_10004, "program_ids"),
    ("create_program_group", setting(default_program_id=975), OTHER_10004, "default_program_id"),
    ("set_policy", unset("policy"), OTHER_10004, "policy"),
    *policy_rows("set_policy"),
    *text_rows("set_policy", "reason", 500),
    *request_id_rows("set_policy"),
    ("set_policy", setting(expected_revision=-1), OTHER_10004, "expected_revision"),
    ("set_config_key", setting(value="x" * 1001), OTHER_10004, "value"),
    ("set_config_key", setting(value=NUL), OTHER_10004, "value"),
    ("set_config_key", setting(value="line\rline"), OTHER_10004, "value"),
    ("set_config_key", setting(value="\x9b"), OTHER_10004, "value"),
    *text_rows("set_config_key", "reason", 500),
    *request_id_rows("set_config_key"),
    ("set_config_key", setting(key=""), OTHER_10004, "key"),
    ("set_config_key", setting(key="a-b"), OTHER_10004, "key"),
    ("set_config_key", setting(key="x" * 101), OTHER_10004, "key"),
    *reason_rows("set_pause"),
    *request_id_rows("set_pause"),
    *reason_rows("set_program_active"),
    *request_id_rows("set_program_active"),
]
"""RPC, what is done to its well-formed request, the code that answers, the field that it names."""

NEVER_MALFORMED = {
    # Whether there is such a program is a rule: 885, 895.
    "program_id",
    "earning_program_id",
    # Booleans have no malformed value.
    "group_program_transfer",
    "group_redemption",
    "issue_otp",
    "campaign_contact",
    "forfeit_points",
    "default_program",
    "paused",
    "active",
    # Malformed ones are the rules' to judge, as the policy says: 811 or 873.
    "check_redemption.transaction_number",
    "redeem_points.transaction_number",
    "authorize_redemption.transaction_number",
}


@pytest.mark.parametrize(
    ("name", "change", "code", "field"),
    ROWS,
    ids=[f"{number}-{row[0]}-{row[3]}" for number, row in enumerate(ROWS)],
)
def test_one_malformed_field(name: str, change: Callable[[Any], None], code: Code, field: str) -> None:
    """One malformed field is refused with its code, and named; nothing that was sent is repeated."""
    message = request(name)
    change(message)

    wants = reader(name)(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert (wants.code, wants.field) == (code, field)
    assert [(error.code, error.field) for error in wants.errors] == [(code, field)]
    assert may_answer(code, type(COMMANDS[name]).__name__)
    assert set(wants.metadata) <= set(code.metadata_keys)
    assert "{" not in code.text(wants.metadata)
    assert 0 < len(wants.errors[0].description) <= 90


def test_every_field_is_in_the_table() -> None:
    """Every field of every request is malformed in some row, or is known never to be."""
    tested = {f"{row[0]}.{row[3].split('.')[0].split('[')[0]}" for row in ROWS}
    identifiers = ("from_customer_identifier", "to_customer_identifier")  # below, for all three transfers
    missing = [
        f"{build.__name__}.{field.name}"
        for build in BUILDERS
        for field in build().DESCRIPTOR.fields
        if f"{build.__name__}.{field.name}" not in tested | NEVER_MALFORMED
        and field.name not in NEVER_MALFORMED
        and field.name not in identifiers
    ]

    assert missing == []


# -- the parties of a transfer

TYPE_8013 = codes.TRANSFER_IDENTIFIER_TYPE_INVALID
PARTY_434 = codes.TRANSFER_IDENTIFIER_INVALID
PARTIES = (
    ("from_customer_identifier", "fromEntity.identifierType", "transferredBy.identifierValue"),
    ("to_customer_identifier", "toEntity.identifierType", "toEntity.identifierValue"),
)
IDENTIFIER = common_pb2.CustomerIdentifier
PARTY_ROWS = (
    # type, value, code, wrong part
    (0, "9148574269", TYPE_8013, "type"),
    (99, "9148574269", PARTY_434, "type"),
    (IDENTIFIER.MOBILE, "", PARTY_434, "value"),
    (IDENTIFIER.MOBILE, "nobody", PARTY_434, "value"),
    (IDENTIFIER.MOBILE, "a@shop.example", PARTY_434, "type"),
    (IDENTIFIER.MOBILE, "12345", PARTY_434, "type"),
    (IDENTIFIER.MOBILE, "91485\x0074269", PARTY_434, "value"),
    (IDENTIFIER.ID, "0", PARTY_434, "value"),
    (IDENTIFIER.ID, "007", PARTY_434, "value"),
    (IDENTIFIER.ID, "9223372036854775808", PARTY_434, "value"),
    (IDENTIFIER.ID, "+919148574269", PARTY_434, "type"),
    (IDENTIFIER.ID, "a@shop.example", PARTY_434, "type"),
    (IDENTIFIER.EMAIL, "9148574269", PARTY_434, "type"),
    (IDENTIFIER.EMAIL, "a@@shop", PARTY_434, "value"),
    (IDENTIFIER.EMAIL, "a" * 250 + "@shop.example", PARTY_434, "value"),
    (IDENTIFIER.EXTERNAL_ID, "", PARTY_434, "value"),
    (IDENTIFIER.EXTERNAL_ID, "x" * 255, PARTY_434, "value"),
)


@pytest.mark.parametrize("name", ["check_transfer", "issue_transfer_otp", "transfer_points"])
@pytest.mark.parametrize("party", PARTIES, ids=["source", "destination"])
@pytest.mark.parametrize(("kind", "value", "code", "part"), PARTY_ROWS)
def test_party(name: str, party: tuple[str, str, str], kind: Any, value: str, code: Code, part: str) -> None:
    """A party's malformed identifier is 8013 or 434, and the message names the field as the documented one does."""
    field, type_name, value_name = party
    message = request(name)
    setting(**{field: IDENTIFIER(type=kind, value=value)})(message)

    wants = reader(name)(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert (wants.code, wants.field) == (code, f"{field}.{part}")
    documented = {"field": type_name if part == "type" else value_name}
    assert wants.metadata == (documented if code is PARTY_434 else {})


def test_party_missing() -> None:
    """A party that is missing altogether is 8013."""
    message = points_service_pb2.TransferPointsRequest(points_to_be_transferred=1, from_customer_identifier=MOBILE)

    wants = parse.transfer_points(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert [(error.code, error.field) for error in wants.errors] == [(TYPE_8013, "to_customer_identifier")]


# -- the documented requests and answers

DOCUMENTED = """{
   "pointsTobeTransferred":1000,
   "groupProgramTransfer": false,
   "programId": 973,
    "fromCustomerIdentifier": {"type": "MOBILE", "value": "9148574269"},
    "toCustomerIdentifier": {"type": "ID", "value": "565039506"}
}"""


def documented() -> points_service_pb2.TransferPointsRequest:
    return json_format.Parse(DOCUMENTED, points_service_pb2.TransferPointsRequest())


def test_documented_request() -> None:
    """The documented example, its boolean unquoted, is a well-formed request."""
    wants = parse.transfer_points(documented(), ASKING).wants

    assert wants == c.TransferPoints(points=1000, program_id=973, source=MOBILE_READ, destination=ID_READ)


@pytest.mark.parametrize(
    ("change", "number", "message"),
    [
        (unset("points_tobe_transferred"), 422, "pointsToBeTransferred value is invalid"),
        (
            within("from_customer_identifier", value=""),
            434,
            "Invalid transferredBy.identifierValue set in the request payload",
        ),
        (
            within("from_customer_identifier", type=17),
            434,
            "Invalid fromEntity.identifierType set in the request payload",
        ),
    ],
)
def test_documented_refusals(change: Callable[[Any], None], number: int, message: str) -> None:
    """The three wrong requests of the documented page have the documented answers."""
    sent = documented()
    change(sent)

    wants = parse.transfer_points(sent, ASKING).wants

    assert isinstance(wants, Refused)
    assert (wants.code.number, wants.code.text(wants.metadata)) == (number, message)


def test_both_spellings_of_points() -> None:
    """Both spellings of the points may be set if they are the same."""
    message = documented()
    message.points_to_be_transferred = 1000

    wants = parse.transfer_points(message, ASKING).wants

    assert isinstance(wants, c.TransferPoints)
    assert wants.points == 1000


# -- all malformed fields together


def test_all_fields_of_a_transfer() -> None:
    """All malformed fields are reported in the documented order: 8013, 434, 422, 887."""
    message = points_service_pb2.TransferPointsRequest(
        points_to_be_transferred=-1,
        from_customer_identifier=IDENTIFIER(type=IDENTIFIER.MOBILE, value="nobody"),
        to_customer_identifier=IDENTIFIER(type=IDENTIFIER.TYPE_UNSPECIFIED),
        code=NUL,
        notes=LONG,
        request_id=" ",
    )

    wants = parse.transfer_points(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert [(error.code.number, error.field) for error in wants.errors] == [
        (8013, "to_customer_identifier.type"),
        (434, "from_customer_identifier.value"),
        (434, "to_customer_identifier.value"),
        (422, "points_to_be_transferred"),
        (887, "code"),
        (887, "notes"),
        (887, "request_id"),
    ]
    assert wants.code is codes.TRANSFER_IDENTIFIER_TYPE_INVALID


def test_all_fields_of_a_redemption() -> None:
    """All malformed fields are reported in the documented order: 801, 802, 859, 10004."""
    message = points_service_pb2.RedeemPointsRequest(
        notes=LONG, redemption_time=at("2027-01-01T00:00:00Z"), validation_type=7, validation_code=NUL
    )

    wants = parse.redeem_points(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert [(error.code.number, error.field) for error in wants.errors] == [
        (801, "points"),
        (802, "customer_identifier"),
        (859, "redemption_time"),
        (10004, "validation_type"),
        (10004, "validation_code"),
        (10004, "notes"),
    ]
    assert wants.errors[2].metadata == {"cause": "FUTURE"}


def test_all_fields_of_a_reversal() -> None:
    """All malformed fields are reported in the documented order: 901, 802, 10004."""
    message = points_service_pb2.ReverseRedemptionRequest(points_to_be_reversed=0, notes=LONG)

    wants = parse.reverse_redemption(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert [(error.code.number, error.field) for error in wants.errors] == [
        (901, "redemption_id"),
        (901, "points_to_be_reversed"),
        (802, "customer_identifier"),
        (10004, "notes"),
    ]


def test_all_fields_of_an_issue() -> None:
    """All malformed fields are reported in the documented order: 801, 802, 10004."""
    message = issuance_service_pb2.IssuePointsRequest(expires_on="tomorrow", request_id="ü")

    wants = parse.issue_points(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert [(error.code.number, error.field) for error in wants.errors] == [
        (801, "points"),
        (802, "customer_identifier"),
        (10004, "source"),
        (10004, "expires_on"),
        (10004, "request_id"),
    ]


# -- request ids

REQUIRED = msgspec.structs.replace(ASKING, request_id_required=True)


def test_request_id_is_made() -> None:
    """A write without a request id gets one, a new one each time."""
    message = documented()

    asked = [parse.transfer_points(message, ASKING) for _ in range(2)]

    assert [len(one.request_id) for one in asked] == [32, 32]
    assert asked[0].request_id != asked[1].request_id
    assert not asked[0].request_id_given


@pytest.mark.parametrize("name", COMMANDS)
def test_request_id_is_mandatory(name: str) -> None:
    """Where the caller must give a request id, every write without one is refused with 10005."""
    message = request(name)
    message.ClearField("request_id")

    wants = reader(name)(message, REQUIRED).wants

    assert isinstance(wants, Refused)
    assert (wants.code, wants.field) == (codes.REQUEST_ID_REQUIRED, "request_id")


@pytest.mark.parametrize("name", ["check_transfer", "check_redemption"])
def test_check_writes_nothing(name: str) -> None:
    """A check without a code to issue is no write: it has no request id, and none is demanded."""
    message = request(name)
    message.issue_otp = False

    given = reader(name)(message, REQUIRED)
    message.ClearField("request_id")
    missing = reader(name)(message, REQUIRED)

    assert (given.writes, given.request_id) == (False, "")
    assert (missing.writes, missing.request_id) == (False, "")
    assert not isinstance(missing.wants, Refused)


# -- what is well formed in more than one way


@pytest.mark.parametrize(
    ("change", "expiry"),
    [
        (setting(expires_at=at("2027-01-01T00:00:00Z")), c.Expiry(at=datetime(2027, 1, 1, tzinfo=UTC))),
        (setting(expires_on="2028-02-29"), c.Expiry(on=date(2028, 2, 29))),
        (setting(expires_in_days=0), c.Expiry(in_days=0)),
        (setting(expires_in_months=1200), c.Expiry(in_months=1200)),
        (setting(never_expires=True), c.Expiry()),
        (unset("expires_on"), c.Expiry()),
    ],
)
def test_expiries(change: Callable[[Any], None], expiry: c.Expiry) -> None:
    """Issued points can be given an expiry in five ways, or none."""
    message = request("issue_points")
    change(message)

    wants = parse.issue_points(message, ASKING).wants

    assert isinstance(wants, c.IssuePoints)
    assert wants.expiry == expiry


def test_a_configuration_key_of_several_lines() -> None:
    """The text of an e-mail has them; what is stored is what was sent."""
    text = "Hello,\nyour code is {{ validation_code }}."
    sent = program_service_pb2.SetConfigKeyRequest(key="OTP_TRANSFER_EMAIL_TEXT", value=text)

    assert c.SetConfigKey("OTP_TRANSFER_EMAIL_TEXT", text, "") == reader("set_config_key")(sent, ASKING).wants


def test_empty_policy_has_the_defaults() -> None:
    """A policy without fields is the default policy."""
    message = program_service_pb2.SetPolicyRequest(policy=program_service_pb2.Policy())

    wants = parse.set_policy(message, ASKING).wants

    assert isinstance(wants, c.SetPolicy)
    assert wants.policy == p.Policy()


def test_empty_list_of_barred_sources() -> None:
    """A list of barred sources that is set and empty bars none."""
    given = policy()
    given.transfer.barred_sources.ClearField("sources")

    wants = parse.set_policy(program_service_pb2.SetPolicyRequest(policy=given), ASKING).wants

    assert isinstance(wants, c.SetPolicy)
    assert wants.policy.transfer.barred_sources == ()


def test_reversal_of_all_that_is_left() -> None:
    """Points that are unset mean all that is left, which is not the same as 0."""
    message = request("reverse_redemption")
    message.ClearField("points_to_be_reversed")

    wants = parse.reverse_redemption(message, ASKING).wants

    assert isinstance(wants, c.ReverseRedemption)
    assert wants.points is None


def test_malformed_transaction_number_is_left_to_the_rules() -> None:
    """A malformed bill of a redemption is not the form's business: the policy says whether it is refused."""
    message = request("redeem_points")
    message.transaction_number = NUL * 100

    wants = parse.redeem_points(message, ASKING).wants

    assert isinstance(wants, c.RedeemPoints)
    assert wants.transaction_number == NUL * 100


def test_edges_of_time() -> None:
    """The first and the last instant that a datetime can hold are well formed."""
    message = request("issue_points")
    message.available_from.CopyFrom(Timestamp(seconds=-62_135_596_800))
    message.expires_at.CopyFrom(Timestamp(seconds=253_402_300_799, nanos=999_999_999))

    wants = parse.issue_points(message, ASKING).wants

    assert isinstance(wants, c.IssuePoints)
    assert wants.available_from == datetime(1, 1, 1, tzinfo=UTC)
    assert wants.expiry.at == datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def test_missed_call() -> None:
    """Validation by missed call is passed on."""
    message = request("redeem_points")
    message.validation_type = points_service_pb2.RedeemPointsRequest.MISSED_CALL

    wants = parse.redeem_points(message, ASKING).wants

    assert isinstance(wants, c.RedeemPoints)
    assert wants.missed_call


def test_holds_by_default() -> None:
    """A hold of which nobody says how long it is to last is kept for 15 minutes."""
    message = request("authorize_redemption")
    message.hold_s = 0

    wants = parse.authorize_redemption(message, ASKING).wants

    assert isinstance(wants, c.AuthorizeRedemption)
    assert wants.hold_s == 900


def test_capture_of_all_that_is_held() -> None:
    """Points that are unset mean all that is held, which is not the same as 0."""
    message = request("capture_redemption")
    message.ClearField("points")

    wants = parse.capture_redemption(message, ASKING).wants

    assert isinstance(wants, c.CaptureRedemption)
    assert wants.points is None


def test_missed_call_just_now() -> None:
    """A call without a time came just now, by the clock of whoever decides."""
    message = request("record_missed_call")
    message.ClearField("called_at")

    wants = parse.record_missed_call(message, ASKING).wants

    assert wants == c.RecordMissedCall(MOBILE_READ, None)


def test_malformed_items_of_a_return_are_left_to_the_rules() -> None:
    """What is malformed in an item is a warning, not a refusal; the customer of the return is the default."""
    item = points_service_pb2.ReturnTransactionRequest.Item
    message = request("return_transaction")
    message.ClearField("items")
    message.items.extend(
        [item(redemption_id=NUL * 100, points_to_be_reversed=-1), item(customer_identifier={"value": "x"})]
    )

    wants = parse.return_transaction(message, ASKING).wants

    assert isinstance(wants, c.ReturnTransaction)
    assert wants.items == (c.ReturnedItem(NUL * 100, -1, MOBILE_READ), c.ReturnedItem("", None, None))


def test_all_fields_of_a_return() -> None:
    """All malformed fields are reported in order: 802, 10004."""
    item = points_service_pb2.ReturnTransactionRequest.Item
    message = points_service_pb2.ReturnTransactionRequest(items=[item()] * 101, amount_minor_units=-1, notes=LONG)

    wants = parse.return_transaction(message, ASKING).wants

    assert isinstance(wants, Refused)
    assert [(error.code.number, error.field) for error in wants.errors] == [
        (802, "customer_identifier"),
        (10004, "transaction_number"),
        (10004, "items"),
        (10004, "amount_minor_units"),
        (10004, "notes"),
    ]
