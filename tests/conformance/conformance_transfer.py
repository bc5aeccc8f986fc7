"""The rows of transfers: the transfer table, and those of the points table that only transfers have."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from conformance_table import (
    BASE,
    PROGRAM,
    Do,
    Elapse,
    Expected,
    Playing,
    Row,
    Step,
    base,
    customer,
    end_program,
    group,
    issue,
    key,
    less,
    lot_points,
    member,
    pause,
    program,
    purchase,
    redeem,
    status,
    transfer,
    wallet,
)

FRAUD_KEY = "CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER"
ZONE = "Asia/Kolkata"


def row(case: str, outcome: str, request: Any, *setup: Step, rpc: str = "TransferPoints", **more: Any) -> Row:
    """A row that asks for a transfer."""
    return Row(case, outcome, rpc, request, setup, **more)


def day_after(days: int) -> Expected:
    """The start of a day of the program's time zone, so many days from today."""

    def found(playing: Playing) -> str:
        today = playing.started.astimezone(ZoneInfo(ZONE)).date()
        start = datetime.combine(today + timedelta(days=days), time.min, ZoneInfo(ZONE))
        return start.astimezone(ZoneInfo("UTC")).isoformat()

    return found


TYPE_8013 = "8013 INVALID_ARGUMENT TRANSFER_IDENTIFIER_TYPE_INVALID"
INVALID_434 = "434 INVALID_ARGUMENT TRANSFER_IDENTIFIER_INVALID"
POINTS_422 = "422 INVALID_ARGUMENT TRANSFER_POINTS_INVALID"
OTHER_887 = "887 INVALID_ARGUMENT TRANSFER_VALIDATION_FAILED"
PROGRAM_885 = "885 INVALID_ARGUMENT TRANSFER_INVALID_PROGRAM_ID"
POLICY_899 = "899 FAILED_PRECONDITION TRANSFER_PROGRAM_MISCONFIGURED"
KEY_888 = "888 FAILED_PRECONDITION TRANSFER_CONFIGURATION_INVALID"
OFF_818 = "818 FAILED_PRECONDITION TRANSFER_NOT_ALLOWED_FOR_PROGRAM"
GROUP_3316 = "3316 FAILED_PRECONDITION GROUP_TRANSFER_FOR_NON_GROUP"
UNKNOWN_8015 = "8015 NOT_FOUND TRANSFER_CUSTOMER_NOT_FOUND"
SAME_418 = "418 INVALID_ARGUMENT SAME_CUSTOMER"
NOT_ELIGIBLE_901 = "901 FAILED_PRECONDITION TRANSFER_CUSTOMER_NOT_ELIGIBLE"
FRAUD_412 = "412 FAILED_PRECONDITION FRAUD_CHECK_CONFIG_INVALID"
LOCKED_904 = "904 FAILED_PRECONDITION TRANSFER_LOCKED"
MULTIPLE_807 = "807 FAILED_PRECONDITION TRANSFER_POINTS_NOT_DIVISIBLE"
CONDITION_827 = "827 FAILED_PRECONDITION TRANSFER_CONDITIONS_NOT_MET"
DUPLICATE_902 = "902 ALREADY_EXISTS TRANSFER_DUPLICATE_REQUEST"
LIMIT_903 = "903 RESOURCE_EXHAUSTED TRANSFER_LIMIT_EXCEEDED"
CURRENT_817 = "817 FAILED_PRECONDITION TRANSFER_INSUFFICIENT_POINTS"
BARRED_416 = "416 FAILED_PRECONDITION POINTS_NOT_TRANSFERABLE"
CODE_808 = "808 FAILED_PRECONDITION INVALID_VALIDATION_CODE"
PAUSED_898 = "898 UNAVAILABLE TRANSFER_UNAVAILABLE"

SHAPE = (
    row("no source", TYPE_8013, transfer(from_customer_identifier=None), field="from_customer_identifier"),
    row("no destination", TYPE_8013, transfer(to_customer_identifier=None), field="to_customer_identifier"),
    row(
        "source without type",
        TYPE_8013,
        transfer(from_customer_identifier={"value": "1"}),
        field="from_customer_identifier.type",
    ),
    row(
        "destination without type",
        TYPE_8013,
        transfer(to_customer_identifier={"value": "2"}),
        field="to_customer_identifier.type",
    ),
    *(
        row(
            f"{party}, {case}",
            INVALID_434,
            transfer(**{f"{party}_customer_identifier": identifier}),
            metadata={"field": type_name if what == "type" else value_name},
            field=f"{party}_customer_identifier.{what}",
        )
        for party, type_name, value_name in (
            ("from", "fromEntity.identifierType", "transferredBy.identifierValue"),
            ("to", "toEntity.identifierType", "toEntity.identifierValue"),
        )
        for case, what, identifier in (
            ("type that the enum lacks", "type", {"type": 99, "value": "1"}),
            ("value of another type", "type", {"type": "MOBILE", "value": "someone@example.com"}),
            ("no value", "value", {"type": "MOBILE"}),
            ("malformed value", "value", {"type": "EMAIL", "value": "nobody at all"}),
        )
    ),
    row("missing", POINTS_422, transfer(points_to_be_transferred=None), field="points_to_be_transferred"),
    row("negative", POINTS_422, transfer(-1), field="points_to_be_transferred"),
    row("above 10^12", POINTS_422, transfer(10**12 + 1), field="points_to_be_transferred"),
    row(
        "two spellings that differ", POINTS_422, transfer(1, points_tobe_transferred=2), field="points_tobe_transferred"
    ),
    row("notes too long", OTHER_887, transfer(notes="n" * 501), field="notes"),
    row("control character in notes", OTHER_887, transfer(notes="a\x00b"), field="notes"),
    row("request_id with a space", OTHER_887, transfer(request_id="two words"), field="request_id"),
    row("request_id too long", OTHER_887, transfer(request_id="r" * 65), field="request_id"),
    row("code too long", OTHER_887, transfer(code="1" * 33), field="code"),
    row("no protobuf message", OTHER_887, {}, raw=b"\xff\xff\xff", field="request"),
)

PROGRAM_ROWS = (
    row("negative", PROGRAM_885, transfer(program_id=-1), *BASE, metadata={"program_id": "-1"}, field="program_id"),
    row("unknown", PROGRAM_885, transfer(program_id=99), *BASE, metadata={"program_id": "99"}, field="program_id"),
    row(
        "inactive",
        PROGRAM_885,
        transfer(program_id=PROGRAM),
        *BASE,
        end_program(),
        metadata={"program_id": str(PROGRAM)},
        field="program_id",
    ),
    row(
        "none, and the default is inactive",
        PROGRAM_885,
        transfer(),
        *BASE,
        end_program(),
        metadata={"program_id": "0"},
        field="program_id",
    ),
    row("none, and no default", PROGRAM_885, transfer(), metadata={"program_id": "0"}, field="program_id"),
    row(
        "minimum above maximum",
        POLICY_899,
        transfer(),
        program(policy={"redemption": {"minimum_points": 9, "maximum_points": 8}}),
        metadata={"fields": "redemption.minimum_points,redemption.maximum_points"},
    ),
    row(
        "multiple above maximum",
        POLICY_899,
        transfer(),
        program(policy={"redemption": {"multiple": 9, "maximum_points": 8}}),
        metadata={"fields": "redemption.multiple,redemption.maximum_points"},
    ),
    row(
        "no redeemable category",
        POLICY_899,
        transfer(),
        program(policy={"redemption": {"categories": [{"name": "Gifts"}]}}),
        metadata={"fields": "redemption.categories"},
    ),
    row(
        "category named twice",
        POLICY_899,
        transfer(),
        program(policy={"redemption": {"categories": [{"name": "A", "redeemable": True}, {"name": "A"}]}}),
        metadata={"fields": "redemption.categories"},
    ),
    *(
        row(name, KEY_888, transfer(), *BASE, key(name, "perhaps"), metadata={"key": name})
        for name in (
            "ALLOW_POINTS_TRANSFER",
            "ALLOW_POINTS_REDEMPTION",
            "Allow_points_redemption_reversal",
            "ENABLE_GROUP_PROGRAMS_REDEMPTION",
            "ENABLE_CUSTOMER_STATUS_MODULE",
            "ENABLE_MISSED_CALL_REDEMPTION",
        )
    ),
    row(
        "off for the organisation",
        OFF_818,
        transfer(),
        *BASE,
        key("ALLOW_POINTS_TRANSFER", "false"),
        metadata={"cause": "ORGANISATION"},
    ),
    row(
        "off for the program",
        OFF_818,
        transfer(),
        *base({"transfer": {"enabled": False}}),
        metadata={"cause": "PROGRAM"},
    ),
    row(
        "program in no group",
        GROUP_3316,
        transfer(group_program_transfer=True),
        *BASE,
        metadata={"cause": "NO_GROUP"},
        field="group_program_transfer",
    ),
    row(
        "pooling off",
        GROUP_3316,
        transfer(group_program_transfer=True),
        *BASE,
        group(PROGRAM),
        key("ENABLE_GROUP_PROGRAMS_REDEMPTION", "false"),
        metadata={"cause": "POOLING_OFF"},
        field="group_program_transfer",
    ),
    row("organisation paused", PAUSED_898, transfer(), *BASE, pause(), metadata={"cause": "ORGANISATION_PAUSED"}),
    row("program paused", PAUSED_898, transfer(), *BASE, pause(PROGRAM), metadata={"cause": "PROGRAM_PAUSED"}),
    row(
        "pooled, and another program of the group paused",
        PAUSED_898,
        transfer(group_program_transfer=True),
        *BASE,
        program(11),
        group(PROGRAM, 11),
        pause(11),
        metadata={"cause": "PROGRAM_PAUSED"},
    ),
)

PARTIES = (
    row(
        "unknown source",
        UNKNOWN_8015,
        transfer(source=8),
        *BASE,
        metadata={"party": "SOURCE"},
        field="from_customer_identifier.value",
    ),
    row(
        "unknown destination",
        UNKNOWN_8015,
        transfer(destination=9),
        *BASE,
        metadata={"party": "DESTINATION"},
        field="to_customer_identifier.value",
    ),
    row("the same id twice", SAME_418, transfer(destination=1), *BASE, field="to_customer_identifier"),
    row(
        "two names of one customer",
        SAME_418,
        transfer(to_customer_identifier={"type": "MOBILE", "value": "$mobile:1"}),
        program(),
        member(1, mobile=True),
        field="to_customer_identifier",
    ),
    row(
        "source not enrolled",
        NOT_ELIGIBLE_901,
        transfer(),
        program(),
        program(11),
        member(1, 11),
        member(2),
        metadata={"party": "SOURCE", "cause": "NOT_ENROLLED"},
    ),
    row(
        "destination not enrolled",
        NOT_ELIGIBLE_901,
        transfer(),
        program(),
        program(11),
        member(1),
        member(2, 11),
        metadata={"party": "DESTINATION", "cause": "NOT_ENROLLED"},
    ),
    row(
        "pooled, source in no program of the group",
        NOT_ELIGIBLE_901,
        transfer(group_program_transfer=True),
        program(),
        program(11),
        program(12),
        group(10, 11),
        member(1, 12),
        member(2),
        metadata={"party": "SOURCE", "cause": "NOT_ENROLLED"},
    ),
    row(
        "pooled, destination not in the default program of the group",
        NOT_ELIGIBLE_901,
        transfer(group_program_transfer=True),
        program(),
        program(11),
        group(10, 11),
        member(1),
        member(2, 11),
        metadata={"party": "DESTINATION", "cause": "NOT_ENROLLED"},
    ),
    *(
        row(
            f"{name} {label}",
            NOT_ELIGIBLE_901,
            transfer(),
            *BASE,
            key("ENABLE_CUSTOMER_STATUS_MODULE", "true"),
            status(number, status_label=label),
            metadata={"party": name, "cause": "STATUS_LABEL"},
        )
        for number, name in ((1, "SOURCE"), (2, "DESTINATION"))
        for label in ("SUSPENDED", "DELETED")
    ),
    row("unset", FRAUD_412, transfer(), *BASE, key(FRAUD_KEY, None), metadata={"key": FRAUD_KEY, "value": "UNSET"}),
    row(
        "neither true nor false",
        FRAUD_412,
        transfer(),
        *BASE,
        key(FRAUD_KEY, "yes"),
        metadata={"key": FRAUD_KEY, "value": "INVALID"},
    ),
    *(
        row(f"{way}: {case}", outcome, transfer(), *BASE, *(status(number, **mark) for number in frauds), *switch)
        for way, mark, switch in (
            ("fraud status MARKED", {"fraud_status": "MARKED"}, ()),
            ("fraud status CONFIRMED", {"fraud_status": "CONFIRMED"}, ()),
            ("fraud status RECONFIRMED", {"fraud_status": "RECONFIRMED"}, ()),
            (
                "label FRAUD_CONFIRMED",
                {"status_label": "FRAUD_CONFIRMED"},
                (key("ENABLE_CUSTOMER_STATUS_MODULE", "true"),),
            ),
        )
        for case, outcome, frauds in (
            ("destination", "414 FAILED_PRECONDITION DESTINATION_CUSTOMER_FRAUD", (2,)),
            ("source", "415 FAILED_PRECONDITION SOURCE_CUSTOMER_FRAUD", (1,)),
            ("both", "417 FAILED_PRECONDITION FRAUD_CUSTOMER_EXISTS", (1, 2)),
        )
    ),
    row(
        "by an operator",
        LOCKED_904,
        transfer(),
        *BASE,
        Do(
            "SetTransferLock",
            {"customer_identifier": customer(1), "locked_until": "2099-01-02T03:04:05Z", "reason": "test"},
        ),
        metadata={"locked_until": "2099-01-02T03:04:05+00:00", "cause": "OPERATOR"},
    ),
)

MOBILE_BASE: tuple[Step, ...] = (member(1, mobile=True), member(2), issue(1, 1000))
OTP = Do("IssueTransferOtp", transfer())


def otp_base(**otp: Any) -> tuple[Step, ...]:
    """As `BASE`, with a mobile number for codes and a policy for them."""
    return (program(policy={"otp": otp}), *MOBILE_BASE)


def wrong(**changes: Any) -> Do:
    """A transfer with a wrong code."""
    return Do("TransferPoints", transfer(code="$wrong:1", **changes), refused="INVALID_VALIDATION_CODE")


def not_proven(case: str, request: Any, *setup: Step, state: str, left: int) -> Row:
    """A row of 808."""
    return row(case, CODE_808, request, *setup, metadata={"otp_state": state, "attempts_left": str(left)})


CODES = (
    not_proven(
        "transfer: due and missing, since one was issued", transfer(), *otp_base(), OTP, state="MISSING", left=5
    ),
    not_proven(
        "transfer: due and missing, always", transfer(), *otp_base(transfer="REQUIRED"), state="MISSING", left=0
    ),
    not_proven("transfer: wrong", transfer(code="$wrong:1"), *otp_base(), OTP, state="INVALID", left=4),
    not_proven("transfer: none issued", transfer(code="123456"), *otp_base(), state="NOT_ISSUED", left=0),
    not_proven(
        "transfer: used",
        transfer(code="$code:1"),
        *otp_base(),
        OTP,
        Do("TransferPoints", transfer(code="$code:1")),
        state="INVALID",
        left=0,
    ),
    not_proven("transfer: expired", transfer(code="$code:1"), *otp_base(), OTP, Elapse(301), state="INVALID", left=0),
    not_proven(
        "transfer: exhausted",
        transfer(code="$code:1"),
        *otp_base(attempts=1),
        OTP,
        wrong(),
        state="INVALID",
        left=0,
    ),
    not_proven(
        "transfer: for another receiver",
        transfer(destination=3, code="$code:1"),
        *otp_base(),
        member(3),
        OTP,
        state="MISMATCH",
        left=5,
    ),
    not_proven("transfer: for fewer points", transfer(101, code="$code:1"), *otp_base(), OTP, state="MISMATCH", left=5),
    not_proven(
        "transfer: for another program",
        transfer(program_id=11, code="$code:1"),
        program(),
        program(11),
        member(1, 10, 11, mobile=True),
        member(2, 10, 11),
        issue(1, 1000),
        issue(1, 1000, program_id=11),
        OTP,
        state="MISMATCH",
        left=5,
    ),
    row(
        "by wrong codes",
        LOCKED_904,
        transfer(),
        *otp_base(attempts_per_window=1),
        OTP,
        wrong(),
        metadata={"locked_until": lambda playing: playing.read("", {}, "otp_window_ends"), "cause": "WRONG_CODES"},
    ),
)


def limit(direction: str, window: str, **most: int) -> dict[str, Any]:
    """A policy with one velocity limit."""
    return {"transfer": {"velocity_limits": [{"direction": direction, "window": window, **most}]}}


AMOUNTS = (
    row(
        "not a whole number of points",
        MULTIPLE_807,
        transfer(150),
        *base(decimal_places=2),
        metadata={"points": "150", "multiple": "100"},
    ),
    row(
        "no multiple",
        MULTIPLE_807,
        transfer(120),
        *base({"transfer": {"multiple": 50}}),
        metadata={"points": "120", "multiple": "50"},
    ),
    *(
        row(
            name,
            CONDITION_827,
            transfer(),
            *base({"transfer": {"redemption_conditions": True}, "redemption": {name.lower(): most}}),
            purchase(1, "BILL-1", 700),
            metadata={"cause": name, "actual": actual, "required": str(most)},
        )
        for name, most, actual in (
            ("REQUIRED_BALANCE", 1001, wallet("wallet.current")),
            ("REQUIRED_LIFETIME_POINTS", 1002, wallet("lifetime_earned")),
            ("REQUIRED_LIFETIME_PURCHASES", 701, wallet("lifetime_purchases")),
        )
    ),
    row(
        "request id with other content",
        DUPLICATE_902,
        transfer(99, notes="x", request_id="again"),
        *BASE,
        Do("TransferPoints", transfer(request_id="again")),
        metadata={"cause": "REQUEST_ID_REUSED", "fields": "notes,points_to_be_transferred"},
        field="request_id",
    ),
    row(
        "request id of another operation",
        DUPLICATE_902,
        transfer(request_id="again"),
        *BASE,
        Do("RedeemPoints", redeem(request_id="again")),
        metadata={"cause": "REQUEST_ID_REUSED", "fields": "operation"},
        field="request_id",
    ),
    row(
        "equal transfer within the window",
        DUPLICATE_902,
        transfer(),
        *base({"transfer": {"duplicate_window_s": 60}}),
        Do("TransferPoints", transfer()),
        metadata={"cause": "DUPLICATE_WINDOW"},
    ),
    *(
        row(
            f"{measure} {direction} {window}",
            LIMIT_903,
            transfer(),
            *base(limit(direction, window, **{measure: most}), time_zone=ZONE),
            *((member(3), issue(3, 500)) if direction == "IN" else ()),
            Do("TransferPoints", transfer(60, source=3 if direction == "IN" else 1)),
            metadata={
                "limit": str(most),
                "used": "60" if measure == "points_max" else "1",
                "window": window,
                "direction": direction,
                "resets_at": day_after(days),
            },
        )
        for direction in ("OUT", "IN")
        for window, days in (("TODAY", 1), ("LAST_7_DAYS", 7), ("LAST_30_DAYS", 30))
        for measure, most in (("points_max", 159), ("transfers_max", 1))
    ),
    row(
        "one wallet",
        CURRENT_817,
        transfer(1500),
        *BASE,
        metadata={
            "points": "1500",
            "current": wallet("wallet.current"),
            "short_by": less(1500, wallet("wallet.current")),
        },
    ),
    row(
        "the pool of a group",
        CURRENT_817,
        transfer(1500, group_program_transfer=True),
        program(),
        program(11),
        group(10, 11),
        member(1, 10, 11),
        member(2),
        issue(1, 1000),
        issue(1, 400, program_id=11),
        metadata={"points": "1500", "current": "1400", "short_by": "100"},
    ),
    Row(
        "taken back, and spent",
        CURRENT_817,
        "ReverseTransfer",
        {"transfer_id": "$transfer", "shortfall": "FAIL", "reason": "x"},
        (
            *base({"redemption": {}}),
            Do("TransferPoints", transfer(80), {"transfer": "data[0].transfer_id"}),
            Do("RedeemPoints", redeem(30, customer_id=2)),
        ),
        metadata={
            "points": "80",
            "current": wallet("wallet.current", 2),
            "short_by": less(80, wallet("wallet.current", 2)),
        },
    ),
    row(
        "barred source",
        BARRED_416,
        transfer(1001),
        *BASE,
        issue(1, 70, "REGISTRATION"),
        metadata={
            "points": "1001",
            "transferable": wallet("wallet.transferable"),
            "barred": lot_points("REGISTRATION"),
            "promised": wallet("wallet.promised"),
            "held": wallet("wallet.held"),
        },
    ),
    row(
        "promised",
        BARRED_416,
        transfer(1001),
        *BASE,
        issue(1, 70, available_from="$in:86400"),
        metadata={
            "points": "1001",
            "transferable": wallet("wallet.transferable"),
            "barred": "0",
            "promised": wallet("wallet.promised"),
            "held": wallet("wallet.held"),
        },
    ),
    row(
        "held",
        BARRED_416,
        transfer(901),
        *BASE,
        Do("AuthorizeRedemption", redeem()),
        metadata={
            "points": "901",
            "transferable": wallet("wallet.transferable"),
            "barred": "0",
            "promised": wallet("wallet.promised"),
            "held": wallet("wallet.held"),
        },
    ),
)

OTP_ISSUE = (
    row(
        "transfer: no address",
        "860 FAILED_PRECONDITION OTP_NOT_ISSUED",
        transfer(),
        *BASE,
        rpc="IssueTransferOtp",
        metadata={"cause": "NO_CHANNEL"},
    ),
    row(
        "transfer",
        "10008 RESOURCE_EXHAUSTED OTP_ISSUE_LIMIT",
        transfer(),
        *otp_base(issues_per_window=1),
        OTP,
        rpc="IssueTransferOtp",
        metadata={
            "limit": "1",
            "used": "1",
            "resets_at": lambda playing: playing.read("", {}, "otp_window_ends"),
        },
    ),
    row(
        "check of a transfer: no address",
        "876 OK REDEEMABLE_BUT_OTP_NOT_ISSUED",
        transfer(issue_otp=True),
        *BASE,
        rpc="CheckTransfer",
        metadata={"cause": "NO_CHANNEL"},
    ),
    row(
        "check of a transfer: issue limit",
        "876 OK REDEEMABLE_BUT_OTP_NOT_ISSUED",
        transfer(issue_otp=True),
        *otp_base(issues_per_window=1),
        OTP,
        rpc="CheckTransfer",
        metadata={"cause": "ISSUE_LIMIT"},
    ),
)

ROWS = (*SHAPE, *PROGRAM_ROWS, *PARTIES, *CODES, *AMOUNTS, *OTP_ISSUE)
