"""The form of a request: reads its fields one by one and collects every one that is malformed.

Rules of this file: a malformed field never stops the reading, so that all are reported together; what is read in its
place is a harmless stand-in that goes no further. The first error in the family's documented order is the refusal's own
code. A description says what is expected and never repeats the input.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain.identifiers import VALUE_LENGTH_MAX, fits_another_kind, has_control_characters, normalise
from points_grpc.domain.model import POINTS_MAX, Identifier, IdentifierType
from points_grpc.domain.outcome import FieldError, Refused
from points_grpc.v1 import common_pb2

REQUEST_ID_LENGTH_MAX = 64
"""The most characters of a request id."""

NOTES_LENGTH_MAX = 500
"""The most characters of a note or a reason."""

CODE_LENGTH_MAX = 32
"""The most characters of a one-time code as a caller may type it; codes themselves have at most 10."""

INT64_MAX = 2**63 - 1
"""The largest id."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MIN = -62_135_596_800  # 0001-01-01T00:00:00Z
_SECONDS_MAX = 253_402_300_799  # 9999-12-31T23:59:59Z
_KINDS: Mapping[int, IdentifierType] = {kind.value: kind for kind in IdentifierType}
_NOBODY = Identifier(IdentifierType.ID, "")


@dataclass(frozen=True, slots=True)
class Family:
    """How a family of operations answers for malformed fields.

    `order` is the documented order of its shape rules; `other` is the code of a field that has none of its own.
    """

    order: tuple[Code, ...]
    other: Code
    identifier: Code
    points: Code

    def rank(self, error: FieldError) -> int:
        """Where an error stands in the order."""
        return self.order.index(error.code)


TRANSFER = Family(
    order=(
        codes.TRANSFER_IDENTIFIER_TYPE_INVALID,
        codes.TRANSFER_IDENTIFIER_INVALID,
        codes.TRANSFER_POINTS_INVALID,
        codes.TRANSFER_VALIDATION_FAILED,
        codes.REQUEST_ID_REQUIRED,
    ),
    other=codes.TRANSFER_VALIDATION_FAILED,
    identifier=codes.TRANSFER_IDENTIFIER_INVALID,
    points=codes.TRANSFER_POINTS_INVALID,
)
REDEMPTION = Family(
    order=(
        codes.INVALID_POINTS,
        codes.INVALID_CUSTOMER_IDENTIFIER,
        codes.INVALID_REDEMPTION_TIME,
        codes.FIELD_INVALID,
        codes.REQUEST_ID_REQUIRED,
    ),
    other=codes.FIELD_INVALID,
    identifier=codes.INVALID_CUSTOMER_IDENTIFIER,
    points=codes.INVALID_POINTS,
)
ISSUE = REDEMPTION
REVERSAL = Family(
    order=(
        codes.INVALID_POINTS_OR_REDEMPTION_ID,
        codes.INVALID_CUSTOMER_IDENTIFIER,
        codes.FIELD_INVALID,
        codes.REQUEST_ID_REQUIRED,
    ),
    other=codes.FIELD_INVALID,
    identifier=codes.INVALID_CUSTOMER_IDENTIFIER,
    points=codes.INVALID_POINTS_OR_REDEMPTION_ID,
)
SERVICE = Family(
    order=(codes.FIELD_INVALID, codes.REQUEST_ID_REQUIRED, codes.PAGE_TOKEN_INVALID),
    other=codes.FIELD_INVALID,
    identifier=codes.FIELD_INVALID,
    points=codes.FIELD_INVALID,
)


@dataclass(frozen=True, slots=True)
class PartyNames:
    """The names under which the documented texts know the two fields of a party's identifier."""

    type_name: str
    value_name: str


SOURCE_NAMES = PartyNames("fromEntity.identifierType", "transferredBy.identifierValue")
"""Odd: the documented examples name the source's value after another field of another request."""

DESTINATION_NAMES = PartyNames("toEntity.identifierType", "toEntity.identifierValue")


class Shape:
    """Reads the fields of one request and collects what is malformed."""

    __slots__ = ("default_region", "errors", "family", "now")

    def __init__(self, family: Family, default_region: str, now: datetime) -> None:
        """Starts without errors. `now` judges times that may not lie in the future."""
        self.family = family
        self.default_region = default_region
        self.now = now
        self.errors: list[FieldError] = []

    def wrong(
        self, field: str, expected: str, *, code: Code | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Notes a malformed field."""
        code = code or self.family.other
        if metadata is None:
            metadata = {"field": field} if "field" in code.metadata_keys else {}
        self.errors.append(FieldError(code, field, expected, metadata))

    def refusal(self) -> Refused | None:
        """The refusal with all errors in the family's order; None if the request is well formed."""
        if not self.errors:
            return None
        errors = tuple(sorted(self.errors, key=self.family.rank))
        first = errors[0]
        return Refused(first.code, first.metadata, field=first.field, errors=errors)

    # -- fields that several requests have

    def request_id(self, value: str, *, required: bool) -> str:
        """A request id; empty if there is none or a malformed one."""
        if not value:
            if required:
                self.wrong("request_id", "required: make a UUID for each command", code=codes.REQUEST_ID_REQUIRED)
            return ""
        if _REQUEST_ID.fullmatch(value):
            return value
        self.wrong("request_id", "at most 64 visible ASCII characters, no spaces")
        return ""

    def text(self, field: str, value: str, length_max: int, *, required: bool = False, code: Code | None = None) -> str:
        """A text without control characters, of bounded length; with `required`, not blank."""
        if len(value) > length_max:
            self.wrong(field, f"at most {length_max} characters", code=code)
        elif has_control_characters(value):
            self.wrong(field, "no control characters", code=code)
        elif required and not value.strip():
            self.wrong(field, f"required, at most {length_max} characters", code=code)
        return value

    def pattern(self, field: str, value: str, allowed: re.Pattern[str], expected: str) -> str:
        """A text of a fixed form."""
        if not allowed.fullmatch(value):
            self.wrong(field, expected)
        return value

    def whole(self, field: str, value: int, low: int, high: int, *, code: Code | None = None) -> int:
        """A number within bounds."""
        if not low <= value <= high:
            self.wrong(field, f"from {low} to {high}" if high < INT64_MAX else f"from {low} up", code=code)
        return value

    def points(self, field: str, value: int) -> int:
        """An amount of points: 1 to 10^12 in the program's smallest unit."""
        return self.whole(field, value, 1, POINTS_MAX, code=self.family.points)

    def member(self, field: str, value: int, members: Collection[int], *, required: bool = False) -> int:
        """An enum value that the enum has; 0 where it may stay unset."""
        if value not in members and (required or value != 0):
            self.wrong(field, "one of the values of its enum, not unspecified" if required else "a value of its enum")
        return value

    def instant(
        self, field: str, value: Timestamp, *, code: Code | None = None, metadata: Mapping[str, str] | None = None
    ) -> datetime:
        """A time from year 1 to year 9999, to the microsecond."""
        if _SECONDS_MIN <= value.seconds <= _SECONDS_MAX and 0 <= value.nanos < 1_000_000_000:
            return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        self.wrong(field, "a time from year 1 to year 9999", code=code, metadata=metadata)
        return _EPOCH

    # -- identifiers

    def identifier(self, request: Message, field: str, given: common_pb2.CustomerIdentifier) -> Identifier:
        """A customer's identifier in its normal form, anywhere but in a transfer."""
        kind = _KINDS.get(given.type)
        if kind is not None:
            normal = normalise(kind, given.value, self.default_region)
            if normal is not None:
                return normal
        code = self.family.identifier
        if not request.HasField(field):
            self.wrong(field, "required", code=code)
        elif kind is None:
            self.wrong(f"{field}.type", "one of ID, MOBILE, EXTERNAL_ID, EMAIL", code=code)
        if kind is not None or (request.HasField(field) and not _could_be_a_value(given.value)):
            self.wrong(f"{field}.value", _expected_value(kind), code=code)
        return _NOBODY

    def party(
        self, request: Message, field: str, given: common_pb2.CustomerIdentifier, names: PartyNames
    ) -> Identifier:
        """A party of a transfer: 8013 if identifier or type is unspecified, 434 for the rest."""
        kind = _KINDS.get(given.type)
        if kind is not None:
            normal = normalise(kind, given.value, self.default_region)
            if normal is not None:
                return normal
            type_is_wrong = fits_another_kind(kind, given.value, self.default_region)
            self._party_field(field, names, kind=kind, type_is_wrong=type_is_wrong)
            return _NOBODY
        if given.type == 0:
            has_identifier = request.HasField(field)
            self.wrong(
                f"{field}.type" if has_identifier else field,
                "one of ID, MOBILE, EXTERNAL_ID, EMAIL" if has_identifier else "required",
                code=codes.TRANSFER_IDENTIFIER_TYPE_INVALID,
            )
            value_is_due = has_identifier
        else:
            self._party_field(field, names, kind=None, type_is_wrong=True)
            value_is_due = True
        if value_is_due and not _could_be_a_value(given.value):
            self._party_field(field, names, kind=None, type_is_wrong=False)
        return _NOBODY

    def _party_field(self, field: str, names: PartyNames, *, kind: IdentifierType | None, type_is_wrong: bool) -> None:
        """434 on the type or the value of a party's identifier."""
        self.wrong(
            f"{field}.type" if type_is_wrong else f"{field}.value",
            "the type that the value has" if type_is_wrong and kind else _expected(kind, type_is_wrong=type_is_wrong),
            code=codes.TRANSFER_IDENTIFIER_INVALID,
            metadata={"field": names.type_name if type_is_wrong else names.value_name},
        )


def _could_be_a_value(value: str) -> bool:
    """Whether a value could belong to some kind of identifier."""
    return 0 < len(value) <= VALUE_LENGTH_MAX and not has_control_characters(value)


def _expected(kind: IdentifierType | None, *, type_is_wrong: bool) -> str:
    """What an identifier's type or value should be."""
    return "one of ID, MOBILE, EXTERNAL_ID, EMAIL" if type_is_wrong else _expected_value(kind)


def _expected_value(kind: IdentifierType | None) -> str:
    """What an identifier's value should be."""
    match kind:
        case IdentifierType.ID:
            return "a customer id in decimal digits, from 1 up"
        case IdentifierType.MOBILE:
            return "a mobile number, with its country code or of the organisation's region"
        case IdentifierType.EMAIL:
            return "an e-mail address"
        case _:
            return f"1 to {VALUE_LENGTH_MAX} characters, no control characters"
