"""Documents as the database keeps them: outcomes, fingerprints and policies as JSON, exact in both directions.

A recorded outcome must read the same years later, so codes are kept by their reasons (which never change) and results
by the fields of their dataclasses in `domain.outcome`: a field added there needs a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import msgspec

from points_grpc.codes import BY_REASON
from points_grpc.domain.outcome import RESULT_TYPES, Accepted, FieldError, Outcome, Refused, Result, Warning
from points_grpc.domain.policy import PointValue, Policy


class _WarningText(msgspec.Struct, omit_defaults=True):
    code: str
    metadata: dict[str, str] = {}
    field: str = ""


class _ErrorText(msgspec.Struct, omit_defaults=True):
    code: str
    field: str
    description: str
    metadata: dict[str, str] = {}


class _AcceptedText(msgspec.Struct, omit_defaults=True):
    result: msgspec.Raw
    warnings: list[_WarningText] = []
    transaction_id: int | None = None


class _RefusedText(msgspec.Struct, omit_defaults=True):
    code: str
    metadata: dict[str, str] = {}
    field: str = ""
    errors: list[_ErrorText] = []
    warnings: list[_WarningText] = []
    retry_after_s: float | None = None
    quota: str = ""


_encoder = msgspec.json.Encoder()
_accepted = msgspec.json.Decoder(_AcceptedText)
_refused = msgspec.json.Decoder(_RefusedText)
_fingerprint = msgspec.json.Decoder(dict[str, str])
_point_value = msgspec.json.Decoder(PointValue)
_policy = msgspec.json.Decoder(Policy)


def encode_outcome(outcome: Outcome) -> str:
    """An outcome as JSON."""
    if isinstance(outcome, Accepted):
        return _encoder.encode(
            _AcceptedText(
                msgspec.Raw(_encoder.encode(outcome.result)), _warning_texts(outcome.warnings), outcome.transaction_id
            )
        ).decode()
    return _encoder.encode(
        _RefusedText(
            code=outcome.code.reason,
            metadata=dict(outcome.metadata),
            field=outcome.field,
            errors=[
                _ErrorText(error.code.reason, error.field, error.description, dict(error.metadata))
                for error in outcome.errors
            ],
            warnings=_warning_texts(outcome.warnings),
            retry_after_s=outcome.retry_after_s,
            quota=outcome.quota,
        )
    ).decode()


def decode_outcome(text: str, *, operation: str, accepted: bool) -> Outcome:
    """The outcome of an operation, read back."""
    if accepted:
        found = _accepted.decode(text)
        result = _result_decoder(operation).decode(found.result)
        return Accepted(result, _warnings(found.warnings), found.transaction_id)
    refused = _refused.decode(text)
    return Refused(
        code=BY_REASON[refused.code],
        metadata=refused.metadata,
        field=refused.field,
        errors=tuple(
            FieldError(BY_REASON[error.code], error.field, error.description, error.metadata)
            for error in refused.errors
        ),
        warnings=_warnings(refused.warnings),
        retry_after_s=refused.retry_after_s,
        quota=refused.quota,
    )


def encode_fingerprint(fingerprint: Mapping[str, str]) -> str:
    """The keyed hashes of a request's fields as JSON."""
    return _encoder.encode(dict(fingerprint)).decode()


def decode_fingerprint(text: str) -> Mapping[str, str]:
    """The keyed hashes of a request's fields."""
    return _fingerprint.decode(text)


def encode_policy(policy: Policy) -> str:
    """A policy as JSON."""
    return _encoder.encode(policy).decode()


def decode_policy(text: str) -> Policy:
    """A policy, read back; fields that it was written without have their defaults."""
    return _policy.decode(text)


def encode_point_value(value: PointValue) -> str:
    """The worth of a point as JSON."""
    return _encoder.encode(value).decode()


def decode_point_value(text: str) -> PointValue:
    """The worth of a point, read back."""
    return _point_value.decode(text)


@cache
def _result_decoder(operation: str) -> msgspec.json.Decoder[Result]:
    return msgspec.json.Decoder(RESULT_TYPES[operation])


def _warning_texts(warnings: tuple[Warning, ...]) -> list[_WarningText]:
    return [_WarningText(warning.code.reason, dict(warning.metadata), warning.field) for warning in warnings]


def _warnings(texts: list[_WarningText]) -> tuple[Warning, ...]:
    return tuple(Warning(BY_REASON[text.code], text.metadata, text.field) for text in texts)
