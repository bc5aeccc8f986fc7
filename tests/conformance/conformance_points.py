"""The rows of redemptions, reversals and issues: the points table, the warnings, and the one success."""

from __future__ import annotations

from typing import Any

from conformance_table import (
    BASE,
    PROGRAM,
    Do,
    Elapse,
    Row,
    Step,
    base,
    customer,
    end_program,
    group,
    issue,
    key,
    less,
    member,
    pause,
    program,
    purchase,
    redeem,
    reverse,
    status,
    wallet,
)

DAY_S = 86_400


def row(case: str, outcome: str, request: Any, *setup: Step, rpc: str = "RedeemPoints", **more: Any) -> Row:
    """A row that asks for a redemption."""
    return Row(case, outcome, rpc, request, setup, **more)


def reversal(case: str, outcome: str, request: Any, *setup: Step, **more: Any) -> Row:
    """A row that asks for a reversal."""
    return Row(case, outcome, "ReverseRedemption", request, setup, **more)


def redemption(**policy: Any) -> tuple[Step, ...]:
    """As `BASE`, with a redemption policy."""
    return base({"redemption": policy})


POINTS_801 = "801 INVALID_ARGUMENT INVALID_POINTS"
IDENTIFIER_802 = "802 INVALID_ARGUMENT INVALID_CUSTOMER_IDENTIFIER"
TIME_859 = "859 INVALID_ARGUMENT INVALID_REDEMPTION_TIME"
PROGRAM_895 = "895 FAILED_PRECONDITION PROGRAM_NOT_CONFIGURED"
POLICY_899 = "899 FAILED_PRECONDITION PROGRAM_CONFIGURATION_INVALID"
KEY_888 = "888 FAILED_PRECONDITION ORG_CONFIGURATION_INVALID"
OFF_827 = "827 FAILED_PRECONDITION REDEMPTION_DISABLED"
CATEGORY_826 = "826 FAILED_PRECONDITION INVALID_POINTS_CATEGORY"
NUMBER_811 = "811 INVALID_ARGUMENT INVALID_TRANSACTION_NUMBER"
UNKNOWN_816 = "816 NOT_FOUND CUSTOMER_NOT_IN_ORGANIZATION"
NOT_ENROLLED_881 = "881 FAILED_PRECONDITION CUSTOMER_NOT_ENROLLED"
FRAUD_809 = "809 FAILED_PRECONDITION CUSTOMER_FRAUD"
FRAUD_820 = "820 FAILED_PRECONDITION CUSTOMER_FRAUD_OPERATION_BLOCKED"
STATUS_3045 = "3045 FAILED_PRECONDITION CUSTOMER_STATUS_BLOCKS_REDEMPTION"
CODE_808 = "808 FAILED_PRECONDITION INVALID_VALIDATION_CODE"
PROOF_824 = "824 FAILED_PRECONDITION MOBILE_VALIDATION_REQUIRED"
PAUSED_898 = "898 UNAVAILABLE PAUSED"
KEY_901 = "901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID"
UNKNOWN_902 = "902 NOT_FOUND REDEMPTION_NOT_FOUND"
NOT_POSSIBLE_903 = "903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE"
UNKNOWN_8015 = "8015 NOT_FOUND CUSTOMER_NOT_FOUND"

ISSUE = {"customer_identifier": customer(1), "points": 5, "source": "LOYALTY_PLUS"}
ADJUST = {"customer_identifier": customer(1), "points": 5, "reason": "x"}
DEEDS = (("RedeemPoints", redeem()), ("IssuePoints", ISSUE), ("AdjustPoints", ADJUST))
"""What shares its first rules: a redemption, an issue, an adjustment."""

MERGE = {
    "victim_customer_identifier": customer(1),
    "survivor_customer_identifier": customer(2),
    "reason": "x",
}
RETURN = {"customer_identifier": customer(1), "transaction_number": "BILL-1"}
TRANSFER = {
    "points_to_be_transferred": 80,
    "from_customer_identifier": customer(1),
    "to_customer_identifier": customer(2),
}
MODULE_ON = key("ENABLE_CUSTOMER_STATUS_MODULE", "true")

SHAPE = (
    *(
        row(f"{rpc}: {case}", POINTS_801, {**fields, "points": points}, rpc=rpc, field="points")
        for rpc, fields in DEEDS
        for case, points in (("missing", 0), ("negative", -1), ("above 10^12", 10**12 + 1))
    ),
    *(
        row(
            f"{rpc}: {case}",
            IDENTIFIER_802,
            {**fields, "customer_identifier": identifier},
            rpc=rpc,
            field="customer_identifier." + what,
        )
        for rpc, fields in (
            *DEEDS,
            ("ReverseRedemption", {"redemption_id": "r1"}),
        )
        for case, what, identifier in (
            ("no type", "type", {"value": "1"}),
            ("type that the enum lacks", "type", {"type": 99, "value": "1"}),
            ("no value", "value", {"type": "MOBILE"}),
            ("malformed value", "value", {"type": "ID", "value": "one"}),
        )
    ),
    row("none", IDENTIFIER_802, redeem(customer_identifier=None), field="customer_identifier"),
    row(
        "in the future",
        TIME_859,
        redeem(redemption_time="$in:60"),
        metadata={"cause": "FUTURE"},
        field="redemption_time",
    ),
    row(
        "before enrolment",
        TIME_859,
        redeem(redemption_time="$ago:3600"),
        *BASE,
        metadata={"cause": "BEFORE_ENROLMENT"},
        field="redemption_time",
    ),
    row(
        "further back than the policy allows",
        TIME_859,
        redeem(redemption_time=f"$ago:{2 * DAY_S}"),
        *redemption(redemption_time_days=1),
        Elapse(3 * DAY_S),
        metadata={"cause": "TOO_EARLY"},
        field="redemption_time",
    ),
)

PROGRAMS = (
    *(
        row(f"{rpc}: {case}", PROGRAM_895, {**fields, "program_id": named}, *setup, rpc=rpc, field="program_id")
        for rpc, fields in DEEDS
        for case, named, setup in (
            ("no program", 0, ()),
            ("unknown program", 99, BASE),
            ("inactive", PROGRAM, (*BASE, end_program())),
            ("the default is inactive", 0, (*BASE, end_program())),
        )
    ),
    row(
        "unknown earning program",
        PROGRAM_895,
        {**ISSUE, "earning_program_id": 99},
        *BASE,
        rpc="IssuePoints",
        field="earning_program_id",
    ),
    *(
        row(
            f"{rpc}: minimum above maximum",
            POLICY_899,
            fields,
            *redemption(minimum_points=9, maximum_points=8)[:1],
            rpc=rpc,
            metadata={"fields": "redemption.minimum_points,redemption.maximum_points"},
        )
        for rpc, fields in DEEDS
    ),
    *(
        row(f"{rpc}: {name}", KEY_888, fields, *BASE, key(name, "perhaps"), rpc=rpc, metadata={"key": name})
        for rpc, fields, name in (
            ("RedeemPoints", redeem(), "ALLOW_POINTS_REDEMPTION"),
            ("RedeemPoints", redeem(), "ENABLE_CUSTOMER_STATUS_MODULE"),
            ("IssuePoints", ISSUE, "ALLOW_POINTS_TRANSFER"),
            ("AdjustPoints", ADJUST, "ALLOW_POINTS_TRANSFER"),
            ("MergeCustomers", MERGE, "ENABLE_CUSTOMER_STATUS_MODULE"),
            ("ReturnTransaction", RETURN, "ALLOW_POINTS_REDEMPTION"),
            ("ReverseRedemption", reverse(redemption_id="r1"), "Allow_points_redemption_reversal"),
        )
    ),
    row(
        "off for the organisation",
        OFF_827,
        redeem(),
        *BASE,
        key("ALLOW_POINTS_REDEMPTION", "false"),
        metadata={"cause": "ORGANISATION"},
    ),
    row("off for the program", OFF_827, redeem(), *redemption(enabled=False), metadata={"cause": "PROGRAM"}),
    row(
        "unknown",
        CATEGORY_826,
        redeem(category="Gifts"),
        *BASE,
        metadata={"cause": "UNKNOWN_CATEGORY"},
        field="category",
    ),
    *(
        row(
            f"unknown: {rpc}",
            CATEGORY_826,
            {**fields, "category": "Gifts"},
            *BASE,
            rpc=rpc,
            metadata={"cause": "UNKNOWN_CATEGORY"},
            field="category",
        )
        for rpc, fields in DEEDS[1:]
    ),
    row(
        "not redeemable",
        CATEGORY_826,
        redeem(category="Gifts"),
        *redemption(categories=[{"name": "Main", "redeemable": True}, {"name": "Gifts"}]),
        metadata={"cause": "CATEGORY_NOT_REDEEMABLE", "category": "Gifts"},
        field="category",
    ),
    row(
        "program in no group",
        CATEGORY_826,
        redeem(group_redemption=True),
        *BASE,
        metadata={"cause": "NO_GROUP"},
        field="group_redemption",
    ),
    row(
        "pooling off",
        CATEGORY_826,
        redeem(group_redemption=True),
        *BASE,
        group(PROGRAM),
        key("ENABLE_GROUP_PROGRAMS_REDEMPTION", "false"),
        metadata={"cause": "POOLING_OFF"},
        field="group_redemption",
    ),
    *(
        row(f"{rpc}: {case}", PAUSED_898, fields, *BASE, pause(number), rpc=rpc, metadata={"cause": cause})
        for rpc, fields in DEEDS
        for case, number, cause in (
            ("organisation paused", 0, "ORGANISATION_PAUSED"),
            ("program paused", PROGRAM, "PROGRAM_PAUSED"),
        )
    ),
    row(
        "pooled, and another program of the group paused",
        PAUSED_898,
        redeem(group_redemption=True),
        *BASE,
        program(11),
        group(PROGRAM, 11),
        pause(11),
        metadata={"cause": "PROGRAM_PAUSED"},
    ),
    row(
        "malformed, and the policy is strict",
        NUMBER_811,
        redeem(transaction_number="no number"),
        *redemption(transaction_number_strict=True),
        metadata={"cause": "MALFORMED"},
        field="transaction_number",
    ),
)

CUSTOMERS = (
    *(
        row(
            f"{rpc}: unknown",
            UNKNOWN_816,
            {**fields, "customer_identifier": customer(9)},
            *BASE,
            rpc=rpc,
            metadata={"party": "CUSTOMER"},
            field="customer_identifier.value",
        )
        for rpc, fields in DEEDS
    ),
    row(
        "contact of a campaign",
        "686 FAILED_PRECONDITION CAMPAIGN_USER_NOT_ENROLLED",
        redeem(),
        program(),
        Do("CreateCustomer", {"customer_id": 1, "campaign_contact": True}),
    ),
    *(
        row(
            f"{rpc}: not enrolled",
            NOT_ENROLLED_881,
            fields,
            program(),
            program(11),
            member(1, 11),
            rpc=rpc,
            metadata={"program_id": "10"},
        )
        for rpc, fields in DEEDS
    ),
    *(
        row(f"fraud status {mark}", FRAUD_809, redeem(), *BASE, status(1, fraud_status=mark))
        for mark in ("MARKED", "CONFIRMED", "RECONFIRMED")
    ),
    row(
        "on the issue of a code", FRAUD_820, redeem(), *BASE, status(1, fraud_status="MARKED"), rpc="IssueRedemptionOtp"
    ),
    reversal(
        "on a reversal",
        FRAUD_820,
        reverse(redemption_id="$redemption"),
        *BASE,
        Do("RedeemPoints", redeem(), {"redemption": "redemption_id"}),
        status(1, fraud_status="MARKED"),
    ),
    *(
        row(
            f"label {label}",
            STATUS_3045,
            redeem(),
            *BASE,
            MODULE_ON,
            status(1, status_label=label),
            metadata={"customer_id": "1"},
        )
        for label in ("FRAUD_SUSPECTED", "FRAUD_CONFIRMED", "SUSPENDED", "DELETED")
    ),
)

POOL: tuple[Step, ...] = (
    program(),
    program(11),
    group(10, 11),
    member(1, 10, 11),
    issue(1, 1000),
    issue(1, 400, program_id=11),
)

AMOUNTS = (
    row(
        "below",
        "821 FAILED_PRECONDITION BELOW_REDEMPTION_MINIMUM",
        redeem(99),
        *redemption(minimum_points=100),
        metadata={"points": "99", "minimum": "100"},
        field="points",
    ),
    row(
        "above",
        "819 FAILED_PRECONDITION ABOVE_REDEMPTION_LIMIT",
        redeem(101),
        *redemption(maximum_points=100),
        metadata={"points": "101", "maximum": "100"},
        field="points",
    ),
    row(
        "no multiple",
        "807 FAILED_PRECONDITION POINTS_NOT_MULTIPLE",
        redeem(120),
        *redemption(multiple=50),
        metadata={"points": "120", "multiple": "50"},
        field="points",
    ),
    row(
        "balance below the one required",
        "804 FAILED_PRECONDITION INSUFFICIENT_CURRENT_POINTS",
        redeem(1),
        *redemption(required_balance=1001),
        metadata={"current": wallet("wallet.current"), "required": "1001"},
    ),
    row(
        "earned",
        "805 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_POINTS",
        redeem(1),
        *redemption(required_lifetime_points=1001),
        metadata={"lifetime": wallet("lifetime_earned"), "required": "1001"},
    ),
    row(
        "received points do not count",
        "805 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_POINTS",
        redeem(1, customer_id=2),
        *redemption(required_lifetime_points=50),
        Do("TransferPoints", TRANSFER),
        metadata={"lifetime": wallet("lifetime_earned", 2), "required": "50"},
    ),
    row(
        "purchases below",
        "806 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_PURCHASES",
        redeem(1),
        *redemption(required_lifetime_purchases=701),
        purchase(1, "BILL-1", 700),
        metadata={"purchases": wallet("lifetime_purchases"), "required": "701"},
    ),
    row(
        "one wallet",
        "818 FAILED_PRECONDITION POINTS_EXCEED_CURRENT",
        redeem(1500),
        *BASE,
        metadata={
            "points": "1500",
            "current": wallet("wallet.current"),
            "short_by": less(1500, wallet("wallet.current")),
        },
    ),
    row(
        "an adjustment",
        "818 FAILED_PRECONDITION POINTS_EXCEED_CURRENT",
        {**ADJUST, "points": 1001},
        *BASE,
        rpc="AdjustPoints",
        metadata={
            "points": "1001",
            "current": wallet("wallet.current"),
            "short_by": less(1001, wallet("wallet.current")),
        },
        field="points",
    ),
    row(
        "an adjustment of held points",
        "813 FAILED_PRECONDITION INSUFFICIENT_REDEEMABLE_POINTS",
        {**ADJUST, "points": 901},
        *BASE,
        Do("AuthorizeRedemption", redeem()),
        rpc="AdjustPoints",
        metadata={
            "points": "901",
            "redeemable": wallet("wallet.redeemable"),
            "promised": wallet("wallet.promised"),
            "held": wallet("wallet.held"),
        },
    ),
    row(
        "the pool of a group",
        "803 FAILED_PRECONDITION POINTS_EXCEED_AVAILABLE",
        redeem(1500, group_redemption=True),
        *POOL,
        metadata={"points": "1500", "pool": "1400", "short_by": "100"},
    ),
    row(
        "promised",
        "813 FAILED_PRECONDITION INSUFFICIENT_REDEEMABLE_POINTS",
        redeem(1001),
        *BASE,
        issue(1, 70, available_from="$in:86400"),
        metadata={
            "points": "1001",
            "redeemable": wallet("wallet.redeemable"),
            "promised": wallet("wallet.promised"),
            "held": wallet("wallet.held"),
        },
    ),
    row(
        "held",
        "813 FAILED_PRECONDITION INSUFFICIENT_REDEEMABLE_POINTS",
        redeem(901),
        *BASE,
        Do("AuthorizeRedemption", redeem()),
        metadata={
            "points": "901",
            "redeemable": wallet("wallet.redeemable"),
            "promised": wallet("wallet.promised"),
            "held": wallet("wallet.held"),
        },
    ),
)

OTP = Do("IssueRedemptionOtp", redeem())


def otp_base(redemption_policy: Any = None, **otp: Any) -> tuple[Step, ...]:
    """A customer with points and a mobile number, and a policy for codes."""
    policy = {"otp": otp, "redemption": redemption_policy or {}}
    return (program(policy=policy), member(1, mobile=True), issue(1, 1000))


def not_proven(case: str, request: Any, *setup: Step, state: str, left: int) -> Row:
    """A row of 808."""
    return row(case, CODE_808, request, *setup, metadata={"otp_state": state, "attempts_left": str(left)})


def proven(code: str, points: int = 100, **changes: Any) -> Any:
    """A redemption with a code."""
    return redeem(points, validation_code=code, **changes)


PROOFS = (
    not_proven("redemption: wrong", proven("$wrong:1"), *otp_base(), OTP, state="INVALID", left=4),
    not_proven("redemption: none issued", proven("123456"), *otp_base(), state="NOT_ISSUED", left=0),
    not_proven(
        "redemption: used",
        proven("$code:1"),
        *otp_base(),
        OTP,
        Do("RedeemPoints", proven("$code:1")),
        state="INVALID",
        left=0,
    ),
    not_proven("redemption: expired", proven("$code:1"), *otp_base(), OTP, Elapse(301), state="INVALID", left=0),
    not_proven(
        "redemption: exhausted",
        proven("$code:1"),
        *otp_base(attempts=1),
        OTP,
        Do("RedeemPoints", proven("$wrong:1"), refused="INVALID_VALIDATION_CODE"),
        state="INVALID",
        left=0,
    ),
    not_proven("redemption: for fewer points", proven("$code:1", 101), *otp_base(), OTP, state="MISMATCH", left=5),
    not_proven(
        "redemption: for another category",
        proven("$code:1", category="Main"),
        *otp_base(),
        OTP,
        state="MISMATCH",
        left=5,
    ),
    row(
        "redemption",
        "10009 RESOURCE_EXHAUSTED OTP_ATTEMPT_LIMIT",
        proven("$code:1"),
        *otp_base(attempts_per_window=1),
        OTP,
        Do("RedeemPoints", proven("$wrong:1"), refused="INVALID_VALIDATION_CODE"),
        metadata={"limit": "1", "used": "1", "resets_at": lambda playing: playing.read("", {}, "otp_window_ends")},
    ),
    row(
        "redemption",
        "10008 RESOURCE_EXHAUSTED OTP_ISSUE_LIMIT",
        redeem(),
        *otp_base(issues_per_window=1),
        OTP,
        rpc="IssueRedemptionOtp",
        metadata={"limit": "1", "used": "1", "resets_at": lambda playing: playing.read("", {}, "otp_window_ends")},
    ),
    row(
        "neither came",
        PROOF_824,
        redeem(),
        *redemption(proof_required=True),
        metadata={"cause": "MISSING"},
        field="validation_code",
    ),
    row(
        "both came",
        PROOF_824,
        proven("123456", validation_type="MISSED_CALL"),
        program(),
        member(1, mobile=True),
        issue(1, 1000),
        key("ENABLE_MISSED_CALL_REDEMPTION", "true"),
        Do("RecordMissedCall", {"mobile_number": "$mobile:1"}),
        metadata={"cause": "BOTH"},
        field="validation_type",
    ),
    row(
        "unset",
        "823 FAILED_PRECONDITION MISSED_CALL_DISABLED",
        redeem(validation_type="MISSED_CALL"),
        *BASE,
        field="validation_type",
    ),
    row(
        "off",
        "823 FAILED_PRECONDITION MISSED_CALL_DISABLED",
        redeem(validation_type="MISSED_CALL"),
        *BASE,
        key("ENABLE_MISSED_CALL_REDEMPTION", "false"),
        field="validation_type",
    ),
    row(
        "the call is too long ago",
        "822 FAILED_PRECONDITION MISSED_CALL_NOT_FOUND",
        redeem(validation_type="MISSED_CALL"),
        program(),
        member(1, mobile=True),
        issue(1, 1000),
        key("ENABLE_MISSED_CALL_REDEMPTION", "true"),
        Do("RecordMissedCall", {"mobile_number": "$mobile:1"}),
        Elapse(301),
        metadata={"window_s": "300"},
        field="validation_type",
    ),
    row(
        "another number called",
        "822 FAILED_PRECONDITION MISSED_CALL_NOT_FOUND",
        redeem(validation_type="MISSED_CALL"),
        program(),
        member(1, mobile=True),
        member(2, mobile=True),
        issue(1, 1000),
        key("ENABLE_MISSED_CALL_REDEMPTION", "true"),
        Do("RecordMissedCall", {"mobile_number": "$mobile:2"}),
        metadata={"window_s": "300"},
        field="validation_type",
    ),
    *(
        row(
            f"{rpc}: nobody called",
            "822 FAILED_PRECONDITION MISSED_CALL_NOT_FOUND",
            redeem(validation_type="MISSED_CALL"),
            *BASE,
            key("ENABLE_MISSED_CALL_REDEMPTION", "true"),
            rpc=rpc,
            metadata={"window_s": "300"},
            field="validation_type",
        )
        for rpc in ("RedeemPoints", "AuthorizeRedemption")
    ),
    row(
        "one call proves one redemption",
        "822 FAILED_PRECONDITION MISSED_CALL_NOT_FOUND",
        redeem(validation_type="MISSED_CALL"),
        program(),
        member(1, mobile=True),
        issue(1, 1000),
        key("ENABLE_MISSED_CALL_REDEMPTION", "true"),
        Do("RecordMissedCall", {"mobile_number": "$mobile:1"}),
        Do("RedeemPoints", redeem(validation_type="MISSED_CALL")),
        metadata={"window_s": "300"},
        field="validation_type",
    ),
    row(
        "redemption: no address",
        "860 FAILED_PRECONDITION OTP_NOT_ISSUED",
        redeem(),
        *BASE,
        rpc="IssueRedemptionOtp",
        metadata={"cause": "NO_CHANNEL"},
    ),
)

REDEEMED: tuple[Step, ...] = (
    *BASE,
    Do(
        "RedeemPoints",
        redeem(transaction_number="BILL-1", external_reference_number="REF-1"),
        {"redemption": "redemption_id"},
    ),
)
ALL_BACK = Do("ReverseRedemption", reverse(redemption_id="$redemption"), {"reversed_at": "reversed_at"})


def reversed_at(playing: Any) -> str:
    """When the last reversal was booked, as its own answer said."""
    return str(playing.read("", {}, "reversed_at"))


REVERSALS = (
    *(
        reversal(case, KEY_901, reverse(**fields), field=field)
        for case, fields, field in (
            ("no key", {}, "redemption_id"),
            ("two keys", {"redemption_id": "r1", "transaction_number": "BILL-1"}, "redemption_id"),
            ("redemption id too long", {"redemption_id": "r" * 33}, "redemption_id"),
            ("no points", {"redemption_id": "r1", "points_to_be_reversed": 0}, "points_to_be_reversed"),
            ("negative points", {"redemption_id": "r1", "points_to_be_reversed": -1}, "points_to_be_reversed"),
        )
    ),
    reversal("unknown redemption id", UNKNOWN_902, reverse(redemption_id="r1"), *BASE, field="redemption_id"),
    reversal(
        "unknown external reference",
        UNKNOWN_902,
        reverse(external_reference_number="REF-9"),
        *BASE,
        field="external_reference_number",
    ),
    reversal(
        "unknown on reversal",
        NUMBER_811,
        reverse(transaction_number="BILL-9"),
        *BASE,
        metadata={"cause": "UNKNOWN"},
        field="transaction_number",
    ),
    *(
        reversal(
            f"known from {origin}",
            "814 NOT_FOUND NO_REDEMPTION_ON_TRANSACTION",
            reverse(transaction_number="BILL-1"),
            *BASE,
            step,
            field="transaction_number",
        )
        for origin, step in (
            ("a purchase", purchase(1, "BILL-1")),
            ("an issue", issue(1, 5, transaction_number="BILL-1")),
            ("a return", Do("ReturnTransaction", RETURN)),
        )
    ),
    reversal(
        "reversal",
        UNKNOWN_8015,
        reverse(9, redemption_id="$redemption"),
        *REDEEMED,
        metadata={"party": "CUSTOMER"},
        field="customer_identifier.value",
    ),
    reversal(
        "another customer",
        "904 INVALID_ARGUMENT INVALID_CUSTOMER_DETAILS",
        reverse(2, redemption_id="$redemption"),
        *REDEEMED,
        field="customer_identifier",
    ),
    reversal(
        "switched off",
        NOT_POSSIBLE_903,
        reverse(redemption_id="$redemption"),
        *REDEEMED,
        key("Allow_points_redemption_reversal", "false"),
        metadata={"cause": "REVERSAL_DISABLED"},
        warnings=("905 REVERSAL_DISABLED",),
    ),
    reversal(
        "older than the window",
        NOT_POSSIBLE_903,
        reverse(redemption_id="$redemption"),
        *redemption(reversal_days=1),
        REDEEMED[-1],
        Elapse(DAY_S + 60),
        metadata={"cause": "WINDOW_PASSED"},
    ),
    reversal(
        "by redemption id",
        "3802 FAILED_PRECONDITION REDEMPTION_ALREADY_REVERSED",
        reverse(redemption_id="$redemption"),
        *REDEEMED,
        ALL_BACK,
        metadata={"reversed_at": reversed_at},
    ),
    reversal(
        "by external reference",
        "3802 FAILED_PRECONDITION REDEMPTION_ALREADY_REVERSED",
        reverse(external_reference_number="REF-1"),
        *REDEEMED,
        ALL_BACK,
        metadata={"reversed_at": reversed_at},
    ),
    reversal(
        "by transaction number",
        "812 FAILED_PRECONDITION TRANSACTION_ALREADY_REVERSED",
        reverse(transaction_number="BILL-1"),
        *REDEEMED,
        ALL_BACK,
        metadata={"reversed_at": reversed_at},
    ),
    reversal(
        "more than is left",
        "810 FAILED_PRECONDITION REVERSAL_POINTS_MISMATCH",
        reverse(redemption_id="$redemption", points_to_be_reversed=71),
        *REDEEMED,
        Do(
            "ReverseRedemption",
            reverse(redemption_id="$redemption", points_to_be_reversed=30),
            {"left": "redemptions[0].points_left"},
        ),
        metadata={"points": "71", "reversible": lambda playing: playing.read("", {}, "left")},
        field="points_to_be_reversed",
    ),
    reversal(
        "organisation paused",
        PAUSED_898,
        reverse(redemption_id="$redemption"),
        *REDEEMED,
        pause(),
        metadata={"cause": "ORGANISATION_PAUSED"},
    ),
    reversal(
        "program paused",
        PAUSED_898,
        reverse(redemption_id="$redemption"),
        *REDEEMED,
        pause(PROGRAM),
        metadata={"cause": "PROGRAM_PAUSED"},
    ),
)

VALUE = {"point_value": {"numerator": 25, "denominator": 1, "currency_code": "INR"}}
DONE_800 = "800 OK POINTS_REDEEMED_OR_REDEEMABLE"

SPENT: tuple[Step, ...] = (
    *redemption(**VALUE),
    Do("TransferPoints", TRANSFER, {"transfer": "data[0].transfer_id"}),
    Do("RedeemPoints", redeem(40, customer_id=2)),
)

ACCEPTED = (
    row("redeemed", DONE_800, redeem(), *redemption(**VALUE)),
    row("redeemable", DONE_800, redeem(), *redemption(**VALUE), rpc="CheckRedemption"),
    *(
        row(f"{rpc}: no ratio", "872 OK CURRENCY_RATIO_UNAVAILABLE", redeem(), *BASE, rpc=rpc)
        for rpc in ("RedeemPoints", "CheckRedemption", "AuthorizeRedemption")
    ),
    *(
        row(
            f"{rpc}: malformed, and the policy is lenient",
            "873 OK TRANSACTION_NUMBER_IGNORED",
            redeem(transaction_number="no number"),
            *redemption(**VALUE),
            rpc=rpc,
            field="transaction_number",
        )
        for rpc in ("RedeemPoints", "CheckRedemption", "AuthorizeRedemption")
    ),
    row(
        "check of a redemption: no address",
        "876 OK REDEEMABLE_BUT_OTP_NOT_ISSUED",
        redeem(issue_otp=True),
        *redemption(**VALUE),
        rpc="CheckRedemption",
        metadata={"cause": "NO_CHANNEL"},
    ),
    row(
        "check of a redemption: issue limit",
        "876 OK REDEEMABLE_BUT_OTP_NOT_ISSUED",
        redeem(issue_otp=True),
        *otp_base(VALUE, issues_per_window=1),
        OTP,
        rpc="CheckRedemption",
        metadata={"cause": "ISSUE_LIMIT"},
    ),
    row(
        "expired on arrival",
        "877 OK POINTS_NOT_ALLOCATED",
        {**ISSUE, "expires_at": "$ago:60"},
        *BASE,
        rpc="IssuePoints",
        metadata={"points": "5"},
    ),
    reversal(
        "expired since",
        "877 OK POINTS_NOT_ALLOCATED",
        reverse(redemption_id="$redemption"),
        program(),
        member(1),
        issue(1, 60, expires_at="$in:3600"),
        issue(1, 1000),
        Do("RedeemPoints", redeem(), {"redemption": "redemption_id"}),
        Elapse(7200),
        metadata={"points": "60"},
    ),
    Row(
        "an item of a return expired since",
        "877 OK POINTS_NOT_ALLOCATED",
        "ReturnTransaction",
        {**RETURN, "items": [{"redemption_id": "$redemption"}]},
        (
            program(),
            member(1),
            issue(1, 60, expires_at="$in:3600"),
            issue(1, 1000),
            Do("RedeemPoints", redeem(), {"redemption": "redemption_id"}),
            Elapse(7200),
        ),
        metadata={"points": "60"},
        field="items[0]",
    ),
    Row(
        "the receiver of a transfer spent part of it",
        "877 OK POINTS_NOT_ALLOCATED",
        "ReverseTransfer",
        {"transfer_id": "$transfer", "shortfall": "UP_TO_AVAILABLE", "reason": "x"},
        (*SPENT,),
        metadata={"points": "40"},
    ),
    reversal(
        "of an explicit reversal",
        "905 OK REVERSAL_DISABLED",
        reverse(transaction_number="BILL-1"),
        *REDEEMED,
        key("Allow_points_redemption_reversal", "false"),
    ),
)

RETURNS = tuple(
    Row(
        case,
        f"{number} OK {reason}",
        "ReturnTransaction",
        {"customer_identifier": customer(1), "transaction_number": "BILL-1", "items": [item]},
        (*REDEEMED, *setup),
        metadata={"index": "0", **metadata},
        field="items[0]",
    )
    for case, number, reason, item, setup, metadata in (
        (
            "points",
            901,
            "RETURN_INVALID_POINTS_OR_REDEMPTION_ID",
            {"redemption_id": "$redemption", "points_to_be_reversed": 0},
            (),
            {"cause": "POINTS"},
        ),
        ("id", 901, "RETURN_INVALID_POINTS_OR_REDEMPTION_ID", {"redemption_id": "-"}, (), {"cause": "REDEMPTION_ID"}),
        ("unknown", 902, "RETURN_REDEMPTION_NOT_FOUND", {"redemption_id": "r0"}, (), {}),
        (
            "nothing left",
            903,
            "RETURN_NOT_POSSIBLE",
            {"redemption_id": "$redemption"},
            (ALL_BACK,),
            {"cause": "REDEMPTION_ALREADY_REVERSED"},
        ),
        (
            "another customer",
            904,
            "RETURN_INVALID_CUSTOMER_DETAILS",
            {"redemption_id": "$redemption", "customer_identifier": customer(2)},
            (),
            {},
        ),
        (
            "an unknown customer",
            904,
            "RETURN_INVALID_CUSTOMER_DETAILS",
            {"redemption_id": "$redemption", "customer_identifier": customer(9)},
            (),
            {},
        ),
        (
            "more than is left",
            903,
            "RETURN_NOT_POSSIBLE",
            {"redemption_id": "$redemption", "points_to_be_reversed": 101},
            (),
            {"cause": "REVERSAL_POINTS_MISMATCH"},
        ),
        (
            "a return is booked without it",
            905,
            "REVERSAL_DISABLED",
            {"redemption_id": "$redemption"},
            (key("Allow_points_redemption_reversal", "false"),),
            {},
        ),
    )
)

ROWS = (*RETURNS, *SHAPE, *PROGRAMS, *CUSTOMERS, *AMOUNTS, *PROOFS, *REVERSALS, *ACCEPTED)
