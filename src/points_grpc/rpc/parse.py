"""Requests to commands: one reader per RPC that carries a command, in the order of the proto files.

A reader looks at the form of a request and at nothing else: whether a program or a customer exists is a rule, and lives
in the domain. Bounds are those that the proto comments state.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Generic, Protocol, TypeVar
from zoneinfo import available_timezones

from msgspec import Struct

from points_grpc import codes
from points_grpc.domain import commands as c
from points_grpc.domain.holds import HOLD_S_DEFAULT, HOLD_S_MAX, HOLD_S_MIN
from points_grpc.domain.identifiers import normalise
from points_grpc.domain.model import POINTS_MAX, FraudStatus, Identifier, IdentifierType, Source, StatusLabel
from points_grpc.domain.outcome import Refused
from points_grpc.domain.policy import Policy
from points_grpc.domain.references import TRANSACTION_NUMBER_MAX, is_transaction_number
from points_grpc.rpc.fingerprint import Content
from points_grpc.rpc.parse_policy import policy as read_policy
from points_grpc.rpc.shape import (
    CODE_LENGTH_MAX,
    DESTINATION_NAMES,
    INT64_MAX,
    ISSUE,
    NOTES_LENGTH_MAX,
    REDEMPTION,
    REVERSAL,
    SERVICE,
    SOURCE_NAMES,
    TRANSFER,
    Family,
    Shape,
)
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
)

CATEGORY_LENGTH_MAX = 64
NAME_LENGTH_MAX = 100
REDEMPTION_ID_LENGTH_MAX = 32
HOLD_ID_LENGTH_MAX = 32
EXTERNAL_REFERENCE_LENGTH_MAX = 128
CONFIG_VALUE_LENGTH_MAX = 1000
CONFIG_KEY_LENGTH_MAX = 100
DECIMAL_PLACES_MAX = 3
IDENTIFIERS_MAX = 10
ENROLMENTS_MAX = 100
GROUP_PROGRAMS_MAX = 1000
RETURNED_ITEMS_MAX = 100
EXPIRY_DAYS_MAX = 36_500
EXPIRY_MONTHS_MAX = 1200

_LOCALE = re.compile(r"([a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?)?")
_CONFIG_KEY = re.compile(rf"[A-Za-z0-9_]{{1,{CONFIG_KEY_LENGTH_MAX}}}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_GIVEN_KINDS: Mapping[int, IdentifierType] = {
    kind.value: kind for kind in (IdentifierType.MOBILE, IdentifierType.EXTERNAL_ID, IdentifierType.EMAIL)
}
_SOURCES = frozenset(Source)
_FRAUD_STATUSES = frozenset(FraudStatus)
_STATUS_LABELS = frozenset(StatusLabel)


class Asking(Struct, frozen=True):
    """What is known of a call beside its request."""

    default_region: str
    request_id_required: bool
    now: datetime


class Asked(Struct, frozen=True):
    """What a request asks for: a command, or why it is none.

    `request_id` is the one given, or one made here; empty for a check, which writes nothing.
    """

    wants: c.Command | Refused
    request_id: str
    request_id_given: bool
    writes: bool


class CommandRequest(Content, Protocol):
    """A request that carries a command: it has a request id."""

    @property
    def request_id(self) -> str:
        """Names the write; empty if the caller leaves that to the server."""
        ...


Request = TypeVar("Request", bound=CommandRequest)


@dataclass(frozen=True, slots=True)
class Reader(Generic[Request]):
    """Reads the requests of one RPC."""

    family: Family
    read: Callable[[Request, Shape], c.Command]

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """The command, or a refusal that names every malformed field."""
        shape = Shape(self.family, asking.default_region, asking.now)
        command = self.read(request, shape)
        writes = not isinstance(command, c.CheckTransfer | c.CheckRedemption) or command.issue_otp
        given = shape.request_id(request.request_id, required=writes and asking.request_id_required)
        request_id = (given or secrets.token_hex(16)) if writes else ""
        return Asked(shape.refusal() or command, request_id, bool(given), writes)


def reads(family: Family) -> Callable[[Callable[[Request, Shape], c.Command]], Reader[Request]]:
    """Makes a reader of a function that reads the requests of one RPC."""
    return lambda read: Reader(family, read)


# -- PointsService


@reads(TRANSFER)
def check_transfer(request: points_service_pb2.CheckTransferRequest, shape: Shape) -> c.CheckTransfer:
    """CheckTransfer."""
    return c.CheckTransfer(_transfer(request, shape, code=""), request.issue_otp)


@reads(TRANSFER)
def issue_transfer_otp(request: points_service_pb2.IssueTransferOtpRequest, shape: Shape) -> c.IssueTransferOtp:
    """IssueTransferOtp."""
    return c.IssueTransferOtp(_transfer(request, shape, code=""))


@reads(TRANSFER)
def transfer_points(request: points_service_pb2.TransferPointsRequest, shape: Shape) -> c.TransferPoints:
    """TransferPoints."""
    return _transfer(request, shape, code=shape.text("code", request.code, CODE_LENGTH_MAX))


@reads(REDEMPTION)
def check_redemption(request: points_service_pb2.CheckRedemptionRequest, shape: Shape) -> c.CheckRedemption:
    """CheckRedemption."""
    redemption = c.RedeemPoints(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        program_id=request.program_id,
        points=shape.points("points", request.points),
        category=shape.text("category", request.category, CATEGORY_LENGTH_MAX),
        transaction_number=request.transaction_number,  # a malformed one is the domain's to judge (811, 873)
        redemption_time=_redemption_time(request, shape),
        pooled=request.group_redemption,
    )
    return c.CheckRedemption(redemption, request.issue_otp)


@reads(REDEMPTION)
def issue_redemption_otp(request: points_service_pb2.IssueRedemptionOtpRequest, shape: Shape) -> c.IssueRedemptionOtp:
    """IssueRedemptionOtp."""
    return c.IssueRedemptionOtp(
        c.RedeemPoints(
            customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
            program_id=request.program_id,
            points=shape.points("points", request.points),
            category=shape.text("category", request.category, CATEGORY_LENGTH_MAX),
            pooled=request.group_redemption,
        )
    )


@reads(REDEMPTION)
def redeem_points(request: points_service_pb2.RedeemPointsRequest, shape: Shape) -> c.RedeemPoints:
    """RedeemPoints."""
    return _redemption(request, shape)


@reads(REDEMPTION)
def authorize_redemption(request: points_service_pb2.AuthorizeRedemptionRequest, shape: Shape) -> c.AuthorizeRedemption:
    """AuthorizeRedemption."""
    hold_s = shape.whole("hold_s", request.hold_s, HOLD_S_MIN, HOLD_S_MAX) if request.hold_s else HOLD_S_DEFAULT
    return c.AuthorizeRedemption(_redemption(request, shape), hold_s)


@reads(SERVICE)
def capture_redemption(request: points_service_pb2.CaptureRedemptionRequest, shape: Shape) -> c.CaptureRedemption:
    """CaptureRedemption: points that are unset mean all that is held."""
    return c.CaptureRedemption(
        hold_id=shape.text("hold_id", request.hold_id, HOLD_ID_LENGTH_MAX, required=True),
        points=shape.points("points", request.points) if request.HasField("points") else None,
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


@reads(SERVICE)
def release_redemption(request: points_service_pb2.ReleaseRedemptionRequest, shape: Shape) -> c.ReleaseRedemption:
    """ReleaseRedemption."""
    return c.ReleaseRedemption(
        hold_id=shape.text("hold_id", request.hold_id, HOLD_ID_LENGTH_MAX, required=True),
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


@reads(REVERSAL)
def reverse_redemption(request: points_service_pb2.ReverseRedemptionRequest, shape: Shape) -> c.ReverseRedemption:
    """ReverseRedemption: 901 for the key and the points."""
    code = codes.INVALID_POINTS_OR_REDEMPTION_ID
    keys = (
        ("redemption_id", request.redemption_id, REDEMPTION_ID_LENGTH_MAX),
        ("external_reference_number", request.external_reference_number, EXTERNAL_REFERENCE_LENGTH_MAX),
        ("transaction_number", request.transaction_number, TRANSACTION_NUMBER_MAX),
    )
    if sum(1 for _, value, _ in keys if value) != 1:
        expected = "exactly one of redemption_id, external_reference_number, transaction_number"
        shape.wrong("redemption_id", expected, code=code)
    for field, value, length_max in keys:
        shape.text(field, value, length_max, code=code)
    points = None
    if request.HasField("points_to_be_reversed"):
        points = shape.whole("points_to_be_reversed", request.points_to_be_reversed, 1, INT64_MAX, code=code)
    return c.ReverseRedemption(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        redemption_id=request.redemption_id,
        external_reference=request.external_reference_number,
        transaction_number=request.transaction_number,
        points=points,
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


@reads(TRANSFER)
def reverse_transfer(request: points_service_pb2.ReverseTransferRequest, shape: Shape) -> c.ReverseTransfer:
    """ReverseTransfer."""
    types = points_service_pb2.ReverseTransferRequest
    shortfall = shape.member("shortfall", request.shortfall, (types.FAIL, types.UP_TO_AVAILABLE), required=True)
    return c.ReverseTransfer(
        transfer_id=shape.whole("transfer_id", request.transfer_id, 1, INT64_MAX),
        partial=shortfall == types.UP_TO_AVAILABLE,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


@reads(REVERSAL)
def return_transaction(request: points_service_pb2.ReturnTransactionRequest, shape: Shape) -> c.ReturnTransaction:
    """ReturnTransaction: what is malformed in an item is a warning, and the domain's to give."""
    transaction_number = _transaction_number(request.transaction_number, shape)
    if len(request.items) > RETURNED_ITEMS_MAX:
        shape.wrong("items", f"at most {RETURNED_ITEMS_MAX} items")
    customer = shape.identifier(request, "customer_identifier", request.customer_identifier)
    amount = None
    if request.HasField("amount_minor_units"):
        amount = shape.whole("amount_minor_units", request.amount_minor_units, 0, POINTS_MAX)
    return c.ReturnTransaction(
        customer=customer,
        transaction_number=transaction_number,
        amount=amount,
        items=tuple(_returned_item(one, customer, shape) for one in request.items[:RETURNED_ITEMS_MAX]),
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


# -- IssuanceService


@reads(ISSUE)
def issue_points(request: issuance_service_pb2.IssuePointsRequest, shape: Shape) -> c.IssuePoints:
    """IssuePoints."""
    source = shape.member("source", request.source, _SOURCES, required=True)
    available_from = None
    if request.HasField("available_from"):
        available_from = shape.instant("available_from", request.available_from)
    return c.IssuePoints(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        program_id=request.program_id,
        points=shape.points("points", request.points),
        source=Source(source) if source in _SOURCES else Source.LOYALTY_PLUS,
        earning_program_id=request.earning_program_id,
        category=shape.text("category", request.category, CATEGORY_LENGTH_MAX),
        available_from=available_from,
        expiry=_expiry(request, shape),
        transaction_number=request.transaction_number and _transaction_number(request.transaction_number, shape),
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


@reads(ISSUE)
def adjust_points(request: issuance_service_pb2.AdjustPointsRequest, shape: Shape) -> c.AdjustPoints:
    """AdjustPoints."""
    return c.AdjustPoints(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        program_id=request.program_id,
        points=shape.points("points", request.points),
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
        category=shape.text("category", request.category, CATEGORY_LENGTH_MAX),
    )


# -- CustomerService


@reads(SERVICE)
def create_customer(request: customer_service_pb2.CreateCustomerRequest, shape: Shape) -> c.CreateCustomer:
    """CreateCustomer: at most one identifier of each kind; the id has a field of its own."""
    by_kind = _identifiers(request.identifiers, shape)
    program_ids = tuple(dict.fromkeys(request.enrolled_program_ids))
    if len(request.enrolled_program_ids) > ENROLMENTS_MAX:
        shape.wrong("enrolled_program_ids", f"at most {ENROLMENTS_MAX} programs")
    elif any(program_id < 1 for program_id in program_ids):
        shape.wrong("enrolled_program_ids", "program ids from 1 up")
    return c.CreateCustomer(
        customer_id=shape.whole("customer_id", request.customer_id, 0, INT64_MAX),
        first_name=shape.text("first_name", request.first_name, NAME_LENGTH_MAX),
        last_name=shape.text("last_name", request.last_name, NAME_LENGTH_MAX),
        mobile=by_kind.get(IdentifierType.MOBILE),
        email=by_kind.get(IdentifierType.EMAIL),
        external_id=by_kind.get(IdentifierType.EXTERNAL_ID),
        program_ids=program_ids,
        campaign_contact=request.campaign_contact,
        locale=shape.pattern("locale", request.locale, _LOCALE, 'a BCP 47 tag such as "pt-BR"'),
    )


@reads(SERVICE)
def enrol_customer(request: customer_service_pb2.EnrolCustomerRequest, shape: Shape) -> c.EnrolCustomer:
    """EnrolCustomer."""
    return c.EnrolCustomer(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        program_id=request.program_id,
    )


@reads(SERVICE)
def set_customer_status(request: customer_service_pb2.SetCustomerStatusRequest, shape: Shape) -> c.SetCustomerStatus:
    """SetCustomerStatus."""
    fraud_status = shape.member("fraud_status", request.fraud_status, _FRAUD_STATUSES)
    status_label = shape.member("status_label", request.status_label, _STATUS_LABELS)
    return c.SetCustomerStatus(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        fraud_status=FraudStatus(fraud_status) if fraud_status in _FRAUD_STATUSES else None,
        status_label=StatusLabel(status_label) if status_label in _STATUS_LABELS else None,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


@reads(SERVICE)
def set_transfer_lock(request: customer_service_pb2.SetTransferLockRequest, shape: Shape) -> c.SetTransferLock:
    """SetTransferLock: a time that is unset lifts the lock."""
    locked_until = shape.instant("locked_until", request.locked_until) if request.HasField("locked_until") else None
    return c.SetTransferLock(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        locked_until=locked_until,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


@reads(SERVICE)
def record_purchase(request: customer_service_pb2.RecordPurchaseRequest, shape: Shape) -> c.RecordPurchase:
    """RecordPurchase."""
    return c.RecordPurchase(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        program_id=request.program_id,
        transaction_number=_transaction_number(request.transaction_number, shape),
        amount=shape.whole("amount_minor_units", request.amount_minor_units, 0, POINTS_MAX),
    )


@reads(SERVICE)
def merge_customers(request: customer_service_pb2.MergeCustomersRequest, shape: Shape) -> c.MergeCustomers:
    """MergeCustomers."""
    victim, survivor = request.victim_customer_identifier, request.survivor_customer_identifier
    return c.MergeCustomers(
        victim=shape.identifier(request, "victim_customer_identifier", victim),
        survivor=shape.identifier(request, "survivor_customer_identifier", survivor),
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


@reads(SERVICE)
def record_missed_call(request: customer_service_pb2.RecordMissedCallRequest, shape: Shape) -> c.RecordMissedCall:
    """RecordMissedCall: a time that is unset is now."""
    customer = normalise(IdentifierType.MOBILE, request.mobile_number, shape.default_region)
    if customer is None:
        shape.wrong("mobile_number", "a mobile number, with its country code or of the organisation's region")
    called_at = shape.instant("called_at", request.called_at) if request.HasField("called_at") else None
    if called_at is not None and called_at > shape.now:
        shape.wrong("called_at", "not in the future")
    return c.RecordMissedCall(customer or Identifier(IdentifierType.MOBILE, ""), called_at)


@reads(SERVICE)
def erase_customer(request: customer_service_pb2.EraseCustomerRequest, shape: Shape) -> c.EraseCustomer:
    """EraseCustomer."""
    return c.EraseCustomer(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        forfeit_points=request.forfeit_points,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


# -- ProgramService


@reads(SERVICE)
def create_program(request: program_service_pb2.CreateProgramRequest, shape: Shape) -> c.CreateProgram:
    """CreateProgram."""
    return c.CreateProgram(
        program_id=shape.whole("program_id", request.program_id, 0, INT64_MAX),
        name=shape.text("name", request.name, NAME_LENGTH_MAX, required=True),
        default=request.default_program,
        decimal_places=shape.whole("decimal_places", request.decimal_places, 0, DECIMAL_PLACES_MAX),
        time_zone=_time_zone(request.time_zone, shape),
        policy=read_policy(request.policy, shape) if request.HasField("policy") else Policy(),
    )


@reads(SERVICE)
def create_program_group(request: program_service_pb2.CreateProgramGroupRequest, shape: Shape) -> c.CreateProgramGroup:
    """CreateProgramGroup."""
    program_ids = tuple(request.program_ids)
    if not 1 <= len(program_ids) <= GROUP_PROGRAMS_MAX:
        shape.wrong("program_ids", f"1 to {GROUP_PROGRAMS_MAX} programs")
    elif len(set(program_ids)) != len(program_ids) or min(program_ids) < 1:
        shape.wrong("program_ids", "different program ids from 1 up")
    elif request.default_program_id not in program_ids:
        shape.wrong("default_program_id", "one of program_ids")
    return c.CreateProgramGroup(
        group_id=shape.whole("program_group_id", request.program_group_id, 0, INT64_MAX),
        name=shape.text("name", request.name, NAME_LENGTH_MAX, required=True),
        program_ids=program_ids,
        default_program_id=request.default_program_id,
    )


@reads(SERVICE)
def set_policy(request: program_service_pb2.SetPolicyRequest, shape: Shape) -> c.SetPolicy:
    """SetPolicy: each field alone; contradictions are judged at use (899)."""
    if not request.HasField("policy"):
        shape.wrong("policy", "required")
    return c.SetPolicy(
        program_id=request.program_id,
        policy=read_policy(request.policy, shape),
        expected_revision=shape.whole("expected_revision", request.expected_revision, 0, INT64_MAX),
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX),
    )


@reads(SERVICE)
def set_config_key(request: program_service_pb2.SetConfigKeyRequest, shape: Shape) -> c.SetConfigKey:
    """SetConfigKey: raw text, judged at use. It may have several lines: the text of an e-mail does."""
    value = None
    if request.HasField("value"):
        shape.text("value", request.value.replace("\n", " "), CONFIG_VALUE_LENGTH_MAX)
        value = request.value
    return c.SetConfigKey(
        key=shape.pattern("key", request.key, _CONFIG_KEY, "1 to 100 letters, digits and underscores"),
        value=value,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX),
    )


@reads(SERVICE)
def set_pause(request: program_service_pb2.SetPauseRequest, shape: Shape) -> c.SetPause:
    """SetPause."""
    return c.SetPause(
        program_id=request.program_id,
        paused=request.paused,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


@reads(SERVICE)
def set_program_active(request: program_service_pb2.SetProgramActiveRequest, shape: Shape) -> c.SetProgramActive:
    """SetProgramActive."""
    return c.SetProgramActive(
        program_id=request.program_id,
        active=request.active,
        reason=shape.text("reason", request.reason, NOTES_LENGTH_MAX, required=True),
    )


# -- parts of requests

_TransferRequest = (
    points_service_pb2.CheckTransferRequest
    | points_service_pb2.IssueTransferOtpRequest
    | points_service_pb2.TransferPointsRequest
)


def _transfer(request: _TransferRequest, shape: Shape, *, code: str) -> c.TransferPoints:
    """What the three transfer requests share. The points have two documented spellings, of which one is enough."""
    points, other_spelling = request.points_to_be_transferred, request.points_tobe_transferred
    if points and other_spelling and points != other_spelling:
        shape.wrong(
            "points_tobe_transferred", "the same as points_to_be_transferred", code=codes.TRANSFER_POINTS_INVALID
        )
    return c.TransferPoints(
        points=shape.points("points_to_be_transferred", points or other_spelling),
        program_id=request.program_id,
        source=shape.party(request, "from_customer_identifier", request.from_customer_identifier, SOURCE_NAMES),
        destination=shape.party(request, "to_customer_identifier", request.to_customer_identifier, DESTINATION_NAMES),
        pooled=request.group_program_transfer,
        code=code,
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


def _redemption(
    request: points_service_pb2.RedeemPointsRequest | points_service_pb2.AuthorizeRedemptionRequest, shape: Shape
) -> c.RedeemPoints:
    """What a redemption and its authorisation share."""
    types = points_service_pb2.RedeemPointsRequest
    proof = shape.member("validation_type", request.validation_type, (types.OTP, types.MISSED_CALL))
    return c.RedeemPoints(
        customer=shape.identifier(request, "customer_identifier", request.customer_identifier),
        program_id=request.program_id,
        points=shape.points("points", request.points),
        category=shape.text("category", request.category, CATEGORY_LENGTH_MAX),
        transaction_number=request.transaction_number,  # a malformed one is the domain's to judge (811, 873)
        external_reference=shape.text(
            "external_reference_number", request.external_reference_number, EXTERNAL_REFERENCE_LENGTH_MAX
        ),
        code=shape.text("validation_code", request.validation_code, CODE_LENGTH_MAX),
        missed_call=proof == types.MISSED_CALL,
        redemption_time=_redemption_time(request, shape),
        pooled=request.group_redemption,
        notes=shape.text("notes", request.notes, NOTES_LENGTH_MAX),
    )


def _transaction_number(value: str, shape: Shape) -> str:
    """A bill's number, the same wherever a bill becomes known or is named as one."""
    if not is_transaction_number(value):
        shape.wrong("transaction_number", f"1 to {TRANSACTION_NUMBER_MAX} characters: letters, digits and -_./#")
    return value


def _returned_item(
    item: points_service_pb2.ReturnTransactionRequest.Item, customer: Identifier, shape: Shape
) -> c.ReturnedItem:
    """A redemption attached to a return; its customer is that of the return unless another is named."""
    named: Identifier | None = customer
    if item.HasField("customer_identifier"):
        own_shape = Shape(shape.family, shape.default_region, shape.now)
        named = own_shape.identifier(item, "customer_identifier", item.customer_identifier)
        named = None if own_shape.errors else named
    points = item.points_to_be_reversed if item.HasField("points_to_be_reversed") else None
    return c.ReturnedItem(item.redemption_id, points, named)


def _redemption_time(
    request: (
        points_service_pb2.CheckRedemptionRequest
        | points_service_pb2.RedeemPointsRequest
        | points_service_pb2.AuthorizeRedemptionRequest
    ),
    shape: Shape,
) -> datetime | None:
    """When the redemption took place for the caller: 859 if malformed or in the future."""
    if not request.HasField("redemption_time"):
        return None
    field, code = "redemption_time", codes.INVALID_REDEMPTION_TIME
    at = shape.instant(field, request.redemption_time, code=code, metadata={"cause": "MALFORMED"})
    if at > shape.now:
        shape.wrong(field, "not in the future", code=code, metadata={"cause": "FUTURE"})
    return at


def _expiry(request: issuance_service_pb2.IssuePointsRequest, shape: Shape) -> c.Expiry:
    """Until when issued points can be spent."""
    match request.WhichOneof("expiry"):
        case "expires_at":
            return c.Expiry(at=shape.instant("expires_at", request.expires_at))
        case "expires_on":
            return c.Expiry(on=_day("expires_on", request.expires_on, shape))
        case "expires_in_days":
            return c.Expiry(in_days=shape.whole("expires_in_days", request.expires_in_days, 0, EXPIRY_DAYS_MAX))
        case "expires_in_months":
            return c.Expiry(in_months=shape.whole("expires_in_months", request.expires_in_months, 0, EXPIRY_MONTHS_MAX))
        case "never_expires":
            if not request.never_expires:
                shape.wrong("never_expires", "true, or another kind of expiry")
    return c.Expiry()


def _day(field: str, value: str, shape: Shape) -> date | None:
    """A day of the calendar, as YYYY-MM-DD and in no other ISO 8601 form."""
    if _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    shape.wrong(field, "a day as YYYY-MM-DD")
    return None


def _identifiers(given: Sequence[common_pb2.CustomerIdentifier], shape: Shape) -> dict[IdentifierType, str]:
    """The identifiers of a new customer, by kind."""
    if len(given) > IDENTIFIERS_MAX:
        shape.wrong("identifiers", f"at most {IDENTIFIERS_MAX} identifiers")
        return {}
    found: dict[IdentifierType, str] = {}
    for index, one in enumerate(given):
        field = f"identifiers[{index}]"
        kind = _GIVEN_KINDS.get(one.type)
        if kind is None:
            shape.wrong(f"{field}.type", "one of MOBILE, EXTERNAL_ID, EMAIL")
            continue
        normal = normalise(kind, one.value, shape.default_region)
        if normal is None:
            shape.wrong(f"{field}.value", "well formed for its type")
        elif kind in found:
            shape.wrong(f"{field}.type", "at most one identifier of each type")
        else:
            found[kind] = normal.value
    return found


@cache
def _time_zones() -> frozenset[str]:
    """The IANA time zones; not those names that mean the host's own."""
    return frozenset(available_timezones()) - {"Factory", "localtime", "posixrules"}


def _time_zone(value: str, shape: Shape) -> str:
    """An IANA time zone; UTC if there is none."""
    if not value:
        return "UTC"
    if value in _time_zones():
        return value
    shape.wrong("time_zone", "an IANA time zone, such as Asia/Kolkata")
    return "UTC"
