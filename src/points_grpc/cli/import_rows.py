"""Rows of a CSV file as requests: which columns each kind of import has, and how a field is read.

Reading judges only what keeps a field out of its request (a word where a number belongs); everything else is the
server's to judge. What is wrong is told with the code that the server has for it, and stops no other row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc import codes
from points_grpc.cli.spreadsheets import as_written
from points_grpc.codes import Code
from points_grpc.domain.model import POINTS_MAX
from points_grpc.v1 import common_pb2, customer_service_pb2, issuance_service_pb2

IssuePoints = issuance_service_pb2.IssuePointsRequest
CreateCustomer = customer_service_pb2.CreateCustomerRequest
Request = IssuePoints | CreateCustomer

REPORT_COLUMNS = ("row", "code", "reason", "message")
"""What a report of refused rows has before the columns of its file; a corrected report is a file to import."""

_IDENTIFIERS: Mapping[str, common_pb2.CustomerIdentifier.Type.ValueType] = {
    "customer_id": common_pb2.CustomerIdentifier.ID,
    "mobile": common_pb2.CustomerIdentifier.MOBILE,
    "email": common_pb2.CustomerIdentifier.EMAIL,
    "external_id": common_pb2.CustomerIdentifier.EXTERNAL_ID,
}
_SHARED = ("program_id", "earning_program_id", "category", "expires", "notes")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AHEAD = re.compile(r"([0-9]{1,6}) ?(d|days?|m|months?)")
_YES_OR_NO = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}


class Kind(StrEnum):
    """What a file holds."""

    CUSTOMERS = "customers"
    POINTS = "points"
    BALANCES = "balances"


COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    Kind.CUSTOMERS: (*_IDENTIFIERS, "first_name", "last_name", "programs", "campaign_contact", "locale"),
    Kind.POINTS: (*_IDENTIFIERS, "points", "source", *_SHARED, "available_from", "transaction_number"),
    Kind.BALANCES: (*_IDENTIFIERS, "balance", "source", *_SHARED, "available_from"),
}
REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    Kind.CUSTOMERS: (),
    Kind.POINTS: ("points",),
    Kind.BALANCES: ("balance", "expires"),
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What stands for a row that does not say: part of its content, as if it stood there."""

    program_id: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class RowWrong(Exception):
    """A field that cannot be put into its request."""

    code: Code
    field: str
    expected: str


def request_of(kind: Kind, columns: Sequence[str], fields: Sequence[str], defaults: Defaults) -> Request | None:
    """The request of a row, without its request id; None for an opening balance of 0. Raises `RowWrong`."""
    if len(fields) != len(columns):
        raise RowWrong(codes.FIELD_INVALID, "row", f"{len(columns)} fields, as the first line has")
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        raise RowWrong(codes.FIELD_INVALID, "row", "text in UTF-8") from None
    row = {column: as_written(field.strip()) for column, field in zip(columns, fields, strict=True)}
    if kind is Kind.CUSTOMERS:
        return _customer(row, defaults)
    return _issue(row, defaults, opening=kind is Kind.BALANCES)


def _customer(row: Mapping[str, str], defaults: Defaults) -> CreateCustomer:
    """A new customer."""
    named = re.split(r"[ ;]+", row.get("programs", ""))
    program_ids = [_whole("programs", one) for one in named if one]
    if not program_ids and defaults.program_id:
        program_ids = [defaults.program_id]
    contact = _YES_OR_NO.get(row.get("campaign_contact", "").lower())
    if contact is None:
        raise RowWrong(codes.FIELD_INVALID, "campaign_contact", "yes or no")
    return CreateCustomer(
        customer_id=_whole("customer_id", row.get("customer_id", "")),
        first_name=row.get("first_name", ""),
        last_name=row.get("last_name", ""),
        identifiers=[
            common_pb2.CustomerIdentifier(type=kind, value=row[column])
            for column, kind in _IDENTIFIERS.items()
            if column != "customer_id" and row.get(column)
        ],
        enrolled_program_ids=program_ids,
        campaign_contact=contact,
        locale=row.get("locale", ""),
    )


def _issue(row: Mapping[str, str], defaults: Defaults, *, opening: bool) -> IssuePoints | None:
    """Points to issue; an opening balance says when it expires, and is from an earlier system unless it says else."""
    column = "balance" if opening else "points"
    points = _whole(column, row[column], code=codes.INVALID_POINTS, required=True)
    if opening and not 0 <= points <= POINTS_MAX:
        raise RowWrong(codes.INVALID_POINTS, column, f"from 0 to {POINTS_MAX}")
    if opening and points == 0:
        return None
    expires = row.get("expires", "")
    if opening and not expires:
        raise RowWrong(codes.FIELD_INVALID, "expires", 'required for an opening balance; "never" if it does not')
    request = IssuePoints(
        customer_identifier=_who(row),
        program_id=_whole("program_id", row.get("program_id", "")) or defaults.program_id,
        points=points,
        source=_source(row.get("source", "") or defaults.source or ("DATA_IMPORT" if opening else "")),
        earning_program_id=_whole("earning_program_id", row.get("earning_program_id", "")),
        category=row.get("category", ""),
        transaction_number=row.get("transaction_number", ""),
        notes=row.get("notes", ""),
    )
    if row.get("available_from"):
        request.available_from.CopyFrom(_instant("available_from", row["available_from"]))
    _set_expiry(request, expires)
    return request


def _who(row: Mapping[str, str]) -> common_pb2.CustomerIdentifier:
    """The customer of a row, by the one column that names it."""
    given = [(kind, row[column]) for column, kind in _IDENTIFIERS.items() if row.get(column)]
    if len(given) != 1:
        raise RowWrong(codes.INVALID_CUSTOMER_IDENTIFIER, "customer_identifier", f"one of {', '.join(_IDENTIFIERS)}")
    [(kind, value)] = given
    return common_pb2.CustomerIdentifier(type=kind, value=value)


def _set_expiry(request: IssuePoints, text: str) -> None:
    """never, a day, an instant, or days or months ahead; nothing leaves it unset."""
    ahead = _AHEAD.fullmatch(text)
    if text == "never":
        request.never_expires = True
    elif ahead and ahead[2].startswith("d"):
        request.expires_in_days = int(ahead[1])
    elif ahead:
        request.expires_in_months = int(ahead[1])
    elif _DAY.fullmatch(text):
        request.expires_on = text
    elif text:
        request.expires_at.CopyFrom(_instant("expires", text))


def _instant(field: str, text: str) -> Timestamp:
    """A time as RFC 3339 has it."""
    found = Timestamp()
    try:
        found.FromJsonString(text)
    except ValueError:
        others = ", a day, days or months ahead, never" if field == "expires" else ""
        raise RowWrong(codes.FIELD_INVALID, field, f"a time such as 2030-12-31T23:59:59Z{others}") from None
    return found


def _source(name: str) -> common_pb2.Lot.Source.ValueType:
    """Where points come from, by its name."""
    try:
        return common_pb2.Lot.Source.Value(name.upper() or "SOURCE_UNSPECIFIED")
    except ValueError:
        known = ", ".join(common_pb2.Lot.Source.keys()[1:])
        raise RowWrong(codes.FIELD_INVALID, "source", f"one of {known}") from None


def _whole(field: str, text: str, *, code: Code = codes.FIELD_INVALID, required: bool = False) -> int:
    """A whole number without separators; 0 for none."""
    if not text and not required:
        return 0
    if not _WHOLE.fullmatch(text):
        raise RowWrong(code, field, "a whole number in digits")
    return int(text)
