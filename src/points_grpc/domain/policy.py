"""Typed policies of a program, their defaults, and which fields of a policy contradict each other.

A policy is judged at use: a write checks each field alone, `contradictions` names what cannot hold together (899).
"""

from __future__ import annotations

from datetime import timedelta
from enum import IntEnum
from functools import cached_property

from msgspec import Struct, field

MAIN = "Main"
"""The category that every program has until its policy names others."""


MISSED_CALL_WINDOW_S_MAX = 86_400
"""The longest time, in seconds, for which a missed call can prove a redemption: older ones are never read."""


class Direction(IntEnum):
    """Which way a velocity limit counts."""

    OUT = 1
    IN = 2


class Window(IntEnum):
    """Over what time a velocity limit counts, in days of the program's time zone."""

    TODAY = 1
    LAST_7_DAYS = 2
    LAST_30_DAYS = 3

    @property
    def days(self) -> int:
        """The length of the window in days, today included."""
        return {Window.TODAY: 1, Window.LAST_7_DAYS: 7, Window.LAST_30_DAYS: 30}[self]


VELOCITY_DAYS_KEPT = timedelta(days=31)
"""How far before the last day with a transfer days are kept for certain: what the longest velocity limit looks at, and
one more for a program that changes its time zone."""


class OtpRequirement(IntEnum):
    """When a transfer needs a one-time code."""

    REQUIRED = 1
    IF_ISSUED = 2
    OFF = 3


class Alphabet(IntEnum):
    """What one-time codes are made of."""

    NUMERIC = 1
    ALPHANUMERIC = 2


class Category(Struct, frozen=True):
    """A category of points."""

    name: str
    redeemable: bool = True


class PointValue(Struct, frozen=True):
    """What points are worth: numerator minor units of the currency per denominator whole points."""

    numerator: int
    denominator: int
    currency_code: str


class VelocityLimit(Struct, frozen=True):
    """The most that one customer transfers over a window; 0 for no limit."""

    direction: Direction
    window: Window
    points_max: int = 0
    transfers_max: int = 0


class RedemptionPolicy(Struct, frozen=True):
    """How points are redeemed and given back. 0 stands for "no such limit"."""

    enabled: bool = True
    minimum_points: int = 0
    maximum_points: int = 0
    multiple: int = 0
    required_balance: int = 0
    required_lifetime_points: int = 0
    required_lifetime_purchases: int = 0
    lifetime_includes_received: bool = False
    point_value: PointValue | None = None
    categories: tuple[Category, ...] = (Category(MAIN),)
    transaction_number_strict: bool = False
    redemption_time_days: int = 30
    proof_required: bool = False
    reversal_days: int = 0
    missed_call_window_s: int = 300

    def redeemable_categories(self) -> frozenset[str]:
        """The names of the categories whose points can be redeemed."""
        return frozenset(category.name for category in self.categories if category.redeemable)

    @property
    def every_category_is_redeemable(self) -> bool:
        """Whether no points are kept from redemptions by their category."""
        return all(category.redeemable for category in self.categories)

    def has_category(self, name: str) -> bool:
        """Whether the program knows the category."""
        return any(category.name == name for category in self.categories)


class TransferPolicy(Struct, frozen=True):
    """How points are transferred. `barred_sources` holds numbers of `model.Source`; REGISTRATION by default."""

    enabled: bool = True
    multiple: int = 0
    barred_sources: tuple[int, ...] = (5,)
    redemption_conditions: bool = False
    duplicate_window_s: int = 0
    velocity_limits: tuple[VelocityLimit, ...] = ()


class OtpPolicy(Struct, frozen=True):
    """How one-time codes are made and limited. Times in seconds."""

    transfer: OtpRequirement = OtpRequirement.IF_ISSUED
    length: int = 6
    alphabet: Alphabet = Alphabet.NUMERIC
    validity_s: int = 300
    attempts: int = 5
    issues_per_window: int = 5
    attempts_per_window: int = 15
    window_s: int = 900
    channels: tuple[str, ...] = ("MOBILE", "EMAIL")


class Policy(Struct, frozen=True, dict=True):
    """The rules of a program; `revision` counts its versions from 1."""

    revision: int = 1
    redemption: RedemptionPolicy = field(default_factory=RedemptionPolicy)
    transfer: TransferPolicy = field(default_factory=TransferPolicy)
    otp: OtpPolicy = field(default_factory=OtpPolicy)

    @cached_property
    def contradictions(self) -> tuple[str, ...]:
        """The fields that cannot hold together, as dotted names; empty for a sound policy."""
        redemption = self.redemption
        found: list[str] = []
        if redemption.maximum_points and redemption.minimum_points > redemption.maximum_points:
            found += ["redemption.minimum_points", "redemption.maximum_points"]
        if redemption.maximum_points and redemption.multiple > redemption.maximum_points:
            found += ["redemption.multiple", "redemption.maximum_points"]
        if not redemption.redeemable_categories():
            found.append("redemption.categories")
        if len({category.name for category in redemption.categories}) != len(redemption.categories):
            found.append("redemption.categories")
        return tuple(dict.fromkeys(found))
