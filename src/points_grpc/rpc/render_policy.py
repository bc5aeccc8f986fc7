"""Typed policies to policy messages: every field with the value in force, defaults included."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc.domain import policy as p
from points_grpc.v1 import common_pb2, program_service_pb2


def policy(given: p.Policy, created_at: Timestamp | None) -> program_service_pb2.Policy:
    """A policy and when it came into force."""
    return program_service_pb2.Policy(
        revision=given.revision,
        redemption=_redemption(given.redemption),
        transfer=_transfer(given.transfer),
        otp=_otp(given.otp),
        created_at=created_at,
    )


def _redemption(given: p.RedemptionPolicy) -> program_service_pb2.RedemptionPolicy:
    """How points are redeemed and given back."""
    value = given.point_value
    return program_service_pb2.RedemptionPolicy(
        enabled=given.enabled,
        minimum_points=given.minimum_points,
        maximum_points=given.maximum_points,
        multiple=given.multiple,
        required_balance=given.required_balance,
        required_lifetime_points=given.required_lifetime_points,
        required_lifetime_purchases=given.required_lifetime_purchases,
        lifetime_includes_received=given.lifetime_includes_received,
        point_value=None if value is None else _point_value(value),
        categories=[
            program_service_pb2.PointsCategory(name=one.name, redeemable=one.redeemable) for one in given.categories
        ],
        transaction_number_strict=given.transaction_number_strict,
        redemption_time_days=given.redemption_time_days,
        proof_required=given.proof_required,
        reversal_days=given.reversal_days,
        missed_call_window_s=given.missed_call_window_s,
    )


def _point_value(given: p.PointValue) -> program_service_pb2.PointValue:
    """What a whole point is worth."""
    return program_service_pb2.PointValue(
        numerator=given.numerator, denominator=given.denominator, currency_code=given.currency_code
    )


def _transfer(given: p.TransferPolicy) -> program_service_pb2.TransferPolicy:
    """How points are transferred."""
    return program_service_pb2.TransferPolicy(
        enabled=given.enabled,
        multiple=given.multiple,
        barred_sources=program_service_pb2.SourceList(
            sources=[common_pb2.Lot.Source.ValueType(one) for one in given.barred_sources]
        ),
        redemption_conditions=given.redemption_conditions,
        duplicate_window_s=given.duplicate_window_s,
        velocity_limits=[
            program_service_pb2.VelocityLimit(
                direction=program_service_pb2.VelocityLimit.Direction.ValueType(one.direction),
                window=program_service_pb2.VelocityLimit.Window.ValueType(one.window),
                points_max=one.points_max,
                transfers_max=one.transfers_max,
            )
            for one in given.velocity_limits
        ],
    )


def _otp(given: p.OtpPolicy) -> program_service_pb2.OtpPolicy:
    """How one-time codes are made and limited."""
    return program_service_pb2.OtpPolicy(
        transfer=program_service_pb2.OtpPolicy.Requirement.ValueType(given.transfer),
        length=given.length,
        alphabet=program_service_pb2.OtpPolicy.Alphabet.ValueType(given.alphabet),
        validity_s=given.validity_s,
        attempts=given.attempts,
        issues_per_window=given.issues_per_window,
        attempts_per_window=given.attempts_per_window,
        window_s=given.window_s,
        channels=given.channels,
    )
