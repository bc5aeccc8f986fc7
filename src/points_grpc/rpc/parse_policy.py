"""Policy messages to typed policies: each field alone, an unset one gets the default that its proto comment gives.

Fields that contradict each other are well-formed: they are stored, and refused at use (899).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from points_grpc.domain.model import POINTS_MAX, Source
from points_grpc.domain.policy import (
    MAIN,
    MISSED_CALL_WINDOW_S_MAX,
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
from points_grpc.rpc.shape import Shape
from points_grpc.v1 import program_service_pb2

CATEGORIES_MAX = 100
CATEGORY_LENGTH_MAX = 64
VELOCITY_LIMITS_MAX = 16
DAYS_MAX = 36_500
RATIO_MAX = 10**9
DUPLICATE_WINDOW_S_MAX = 86_400

OTP_BOUNDS: Mapping[str, tuple[int, int]] = {
    "length": (4, 10),
    "validity_s": (30, 3_600),
    "attempts": (1, 10),
    "issues_per_window": (1, 100),
    "attempts_per_window": (1, 100),
    "window_s": (60, 86_400),
}
"""From what to what the numbers of a policy of codes may be, by field."""
MISSED_CALL_WINDOW_S_MIN = 30

_CURRENCY = re.compile(r"[A-Z]{3}")
_SOURCES = frozenset(Source)
_CHANNELS = frozenset({"MOBILE", "EMAIL"})


def policy(given: program_service_pb2.Policy, shape: Shape) -> Policy:
    """A policy; its revision is the server's to give."""
    return Policy(
        redemption=_redemption(given.redemption, shape),
        transfer=_transfer(given.transfer, shape),
        otp=_otp(given.otp, shape),
    )


def _redemption(given: program_service_pb2.RedemptionPolicy, shape: Shape) -> RedemptionPolicy:
    """How points are redeemed and given back."""
    at = "policy.redemption"
    return RedemptionPolicy(
        enabled=given.enabled if given.HasField("enabled") else True,
        minimum_points=shape.whole(f"{at}.minimum_points", given.minimum_points, 0, POINTS_MAX),
        maximum_points=shape.whole(f"{at}.maximum_points", given.maximum_points, 0, POINTS_MAX),
        multiple=shape.whole(f"{at}.multiple", given.multiple, 0, POINTS_MAX),
        required_balance=shape.whole(f"{at}.required_balance", given.required_balance, 0, POINTS_MAX),
        required_lifetime_points=shape.whole(
            f"{at}.required_lifetime_points", given.required_lifetime_points, 0, POINTS_MAX
        ),
        required_lifetime_purchases=shape.whole(
            f"{at}.required_lifetime_purchases", given.required_lifetime_purchases, 0, POINTS_MAX
        ),
        lifetime_includes_received=given.lifetime_includes_received,
        point_value=_point_value(given, shape),
        categories=_categories(given, shape),
        transaction_number_strict=given.transaction_number_strict,
        redemption_time_days=shape.whole(f"{at}.redemption_time_days", given.redemption_time_days, 0, DAYS_MAX) or 30,
        proof_required=given.proof_required,
        reversal_days=shape.whole(f"{at}.reversal_days", given.reversal_days, 0, DAYS_MAX),
        missed_call_window_s=_missed_call_window_s(given, shape),
    )


def _missed_call_window_s(given: program_service_pb2.RedemptionPolicy, shape: Shape) -> int:
    """How long a missed call can prove a redemption; 0 stands for the default."""
    if not given.missed_call_window_s:
        return RedemptionPolicy().missed_call_window_s
    at = "policy.redemption.missed_call_window_s"
    return shape.whole(at, given.missed_call_window_s, MISSED_CALL_WINDOW_S_MIN, MISSED_CALL_WINDOW_S_MAX)


def _point_value(given: program_service_pb2.RedemptionPolicy, shape: Shape) -> PointValue | None:
    """What a whole point is worth."""
    if not given.HasField("point_value"):
        return None
    at, value = "policy.redemption.point_value", given.point_value
    return PointValue(
        numerator=shape.whole(f"{at}.numerator", value.numerator, 1, RATIO_MAX),
        denominator=shape.whole(f"{at}.denominator", value.denominator, 1, RATIO_MAX),
        currency_code=shape.pattern(f"{at}.currency_code", value.currency_code, _CURRENCY, "an ISO 4217 code"),
    )


def _categories(given: program_service_pb2.RedemptionPolicy, shape: Shape) -> tuple[Category, ...]:
    """The categories of points."""
    at = "policy.redemption.categories"
    if len(given.categories) > CATEGORIES_MAX:
        shape.wrong(at, f"at most {CATEGORIES_MAX} categories")
        return (Category(MAIN),)
    found = [
        Category(shape.text(f"{at}[{index}].name", one.name, CATEGORY_LENGTH_MAX, required=True), one.redeemable)
        for index, one in enumerate(given.categories)
    ]
    return tuple(found) or (Category(MAIN),)


def _transfer(given: program_service_pb2.TransferPolicy, shape: Shape) -> TransferPolicy:
    """How points are transferred."""
    at = "policy.transfer"
    barred: tuple[int, ...] = (Source.REGISTRATION.value,)
    if given.HasField("barred_sources"):
        barred = tuple(sorted(set(given.barred_sources.sources)))
        if not _SOURCES.issuperset(barred):
            shape.wrong(f"{at}.barred_sources", "sources of Lot.Source, none unspecified")
    return TransferPolicy(
        enabled=given.enabled if given.HasField("enabled") else True,
        multiple=shape.whole(f"{at}.multiple", given.multiple, 0, POINTS_MAX),
        barred_sources=barred,
        redemption_conditions=given.redemption_conditions,
        duplicate_window_s=shape.whole(f"{at}.duplicate_window_s", given.duplicate_window_s, 0, DUPLICATE_WINDOW_S_MAX),
        velocity_limits=_velocity_limits(given, shape),
    )


def _velocity_limits(given: program_service_pb2.TransferPolicy, shape: Shape) -> tuple[VelocityLimit, ...]:
    """The limits on what one customer transfers over time."""
    at = "policy.transfer.velocity_limits"
    if len(given.velocity_limits) > VELOCITY_LIMITS_MAX:
        shape.wrong(at, f"at most {VELOCITY_LIMITS_MAX} limits")
        return ()
    directions, windows = frozenset(Direction), frozenset(Window)
    found = []
    for index, one in enumerate(given.velocity_limits):
        direction = shape.member(f"{at}[{index}].direction", one.direction, directions, required=True)
        window = shape.member(f"{at}[{index}].window", one.window, windows, required=True)
        points_max = shape.whole(f"{at}[{index}].points_max", one.points_max, 0, POINTS_MAX)
        transfers_max = shape.whole(f"{at}[{index}].transfers_max", one.transfers_max, 0, POINTS_MAX)
        if direction in directions and window in windows:
            found.append(VelocityLimit(Direction(direction), Window(window), points_max, transfers_max))
    return tuple(found)


def _otp(given: program_service_pb2.OtpPolicy, shape: Shape) -> OtpPolicy:
    """How one-time codes are made and limited; 0 stands for the default."""
    at = "policy.otp"
    default = OtpPolicy()
    requirements, alphabets = frozenset(OtpRequirement), frozenset(Alphabet)
    transfer = shape.member(f"{at}.transfer", given.transfer, requirements)
    alphabet = shape.member(f"{at}.alphabet", given.alphabet, alphabets)

    def number(name: str, value: int) -> int:
        """A number within bounds, or 0 for the default."""
        return shape.whole(f"{at}.{name}", value, *OTP_BOUNDS[name]) if value else 0

    channels = tuple(given.channels)
    if not _CHANNELS.issuperset(channels) or len(set(channels)) != len(channels):
        shape.wrong(f"{at}.channels", "MOBILE and EMAIL, each at most once")
    return OtpPolicy(
        transfer=OtpRequirement(transfer) if transfer in requirements else default.transfer,
        length=number("length", given.length) or default.length,
        alphabet=Alphabet(alphabet) if alphabet in alphabets else default.alphabet,
        validity_s=number("validity_s", given.validity_s) or default.validity_s,
        attempts=number("attempts", given.attempts) or default.attempts,
        issues_per_window=number("issues_per_window", given.issues_per_window) or default.issues_per_window,
        attempts_per_window=number("attempts_per_window", given.attempts_per_window) or default.attempts_per_window,
        window_s=number("window_s", given.window_s) or default.window_s,
        channels=channels or default.channels,
    )
