"""What callers can ask for: one frozen value per operation, already well-formed and normalised.

A command holds what the caller said and nothing else; who said it, when, and under which request id stands in its
`Submission`. Program id 0 means the organisation's default program.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from msgspec import Struct

from points_grpc.domain.model import FraudStatus, Identifier, Source, StatusLabel
from points_grpc.domain.policy import Policy


class TransferPoints(Struct, frozen=True):
    """Move points from one customer to another; pooled: across the programs of the group."""

    points: int
    program_id: int
    source: Identifier
    destination: Identifier
    pooled: bool = False
    code: str = ""
    notes: str = ""

    def __repr__(self) -> str:
        """Shows neither identifiers nor codes: commands end up in tracebacks and test reports."""
        return "TransferPoints(…)"


class CheckTransfer(Struct, frozen=True):
    """Would the transfer be accepted? With `issue_otp` a write that sends a code; else read-only."""

    transfer: TransferPoints
    issue_otp: bool = False


class IssueTransferOtp(Struct, frozen=True):
    """Send a one-time code for the transfer to its source."""

    transfer: TransferPoints


class RedeemPoints(Struct, frozen=True):
    """Redeem points. `category` empty: every redeemable one. `missed_call`: proof by missed call was asked for."""

    customer: Identifier
    program_id: int
    points: int
    category: str = ""
    transaction_number: str = ""
    external_reference: str = ""
    code: str = ""
    missed_call: bool = False
    redemption_time: datetime | None = None
    pooled: bool = False
    notes: str = ""

    def __repr__(self) -> str:
        """Shows neither identifiers nor codes: commands end up in tracebacks and test reports."""
        return "RedeemPoints(…)"


class CheckRedemption(Struct, frozen=True):
    """Would the redemption be accepted? With `issue_otp` a write that sends a code; else read-only."""

    redemption: RedeemPoints
    issue_otp: bool = False


class IssueRedemptionOtp(Struct, frozen=True):
    """Send a validation code for the redemption to the customer."""

    redemption: RedeemPoints


class AuthorizeRedemption(Struct, frozen=True):
    """Hold the points as the redemption would take them, for `hold_s` seconds at most."""

    redemption: RedeemPoints
    hold_s: int


class CaptureRedemption(Struct, frozen=True):
    """Redeem what is held, or so many points of it; the rest is released. `points` None: all of it."""

    hold_id: str
    points: int | None = None
    notes: str = ""


class ReleaseRedemption(Struct, frozen=True):
    """Give everything back that is held."""

    hold_id: str
    notes: str = ""


class ReverseRedemption(Struct, frozen=True):
    """Give redeemed points back. Exactly one of the three keys is not empty; `points` None: all that is left."""

    customer: Identifier
    redemption_id: str = ""
    external_reference: str = ""
    transaction_number: str = ""
    points: int | None = None
    notes: str = ""


class ReverseTransfer(Struct, frozen=True):
    """Take a transfer back. `partial`: what the receiver still has will do, where that is not all."""

    transfer_id: int
    partial: bool
    reason: str


class ReturnedItem(Struct, frozen=True):
    """A redemption attached to a return, as the caller wrote it: malformed parts are warnings, not refusals.

    `customer` None: what was given is malformed; `points` None: all that is left.
    """

    redemption_id: str
    points: int | None
    customer: Identifier | None


class ReturnTransaction(Struct, frozen=True):
    """Book the return of a purchase, and give back the redemptions attached to it."""

    customer: Identifier
    transaction_number: str
    amount: int | None
    items: tuple[ReturnedItem, ...]
    notes: str = ""


class Expiry(Struct, frozen=True):
    """Until when issued points can be spent: at most one field is set; none: they never expire."""

    at: datetime | None = None
    on: date | None = None
    in_days: int | None = None
    in_months: int | None = None


class IssuePoints(Struct, frozen=True):
    """Open one lot of points. `earning_program_id` 0: the program itself; `category` empty: the policy's first."""

    customer: Identifier
    program_id: int
    points: int
    source: Source
    earning_program_id: int = 0
    category: str = ""
    available_from: datetime | None = None
    expiry: Expiry = Expiry()
    transaction_number: str = ""
    notes: str = ""


class AdjustPoints(Struct, frozen=True):
    """Take points away; `category` empty: of every category."""

    customer: Identifier
    program_id: int
    points: int
    reason: str
    category: str = ""


class CreateCustomer(Struct, frozen=True):
    """Create a customer; `customer_id` 0: the server chooses."""

    customer_id: int
    first_name: str
    last_name: str
    mobile: str | None
    email: str | None
    external_id: str | None
    program_ids: tuple[int, ...]
    campaign_contact: bool
    locale: str = ""


class EnrolCustomer(Struct, frozen=True):
    """Enrol a customer in a program."""

    customer: Identifier
    program_id: int


class SetCustomerStatus(Struct, frozen=True):
    """Set a customer's statuses; None keeps the present one."""

    customer: Identifier
    fraud_status: FraudStatus | None
    status_label: StatusLabel | None
    reason: str


class SetTransferLock(Struct, frozen=True):
    """Lock a customer's outgoing transfers until a time; None lifts the lock."""

    customer: Identifier
    locked_until: datetime | None
    reason: str


class RecordPurchase(Struct, frozen=True):
    """Record a bill and what was paid on it, in minor units of money."""

    customer: Identifier
    program_id: int
    transaction_number: str
    amount: int


class MergeCustomers(Struct, frozen=True):
    """Merge a customer, the victim, into another."""

    victim: Identifier
    survivor: Identifier
    reason: str


class RecordMissedCall(Struct, frozen=True):
    """Record a call from a customer's mobile number, which proves one redemption; `called_at` None: just now."""

    customer: Identifier
    called_at: datetime | None = None

    def __repr__(self) -> str:
        """Shows no number: commands end up in tracebacks and test reports."""
        return "RecordMissedCall(…)"


class EraseCustomer(Struct, frozen=True):
    """Erase who a customer is. `forfeit_points`: what is left in the wallets goes; else it is in the way."""

    customer: Identifier
    forfeit_points: bool
    reason: str

    def __repr__(self) -> str:
        """Shows no identifier: commands end up in tracebacks and test reports."""
        return "EraseCustomer(…)"


class CreateProgram(Struct, frozen=True):
    """Create a program; `program_id` 0: the server chooses."""

    program_id: int
    name: str
    default: bool
    decimal_places: int
    time_zone: str
    policy: Policy


class CreateProgramGroup(Struct, frozen=True):
    """Create a group of programs; `group_id` 0: the server chooses."""

    group_id: int
    name: str
    program_ids: tuple[int, ...]
    default_program_id: int


class SetPolicy(Struct, frozen=True):
    """Replace a program's policy; `expected_revision` 0: whatever is in force."""

    program_id: int
    policy: Policy
    expected_revision: int
    reason: str


class SetConfigKey(Struct, frozen=True):
    """Set a configuration key of the organisation to a raw text; None removes it."""

    key: str
    value: str | None
    reason: str


class SetPause(Struct, frozen=True):
    """Pause or resume points operations of a program, or with `program_id` 0 of the organisation."""

    program_id: int
    paused: bool
    reason: str


class SetProgramActive(Struct, frozen=True):
    """End a program, or take it up again; with `program_id` 0 the default one."""

    program_id: int
    active: bool
    reason: str


class MessageResult(Struct, frozen=True):
    """What the dispatcher did with one outbox message."""

    message_id: int
    customer_id: int
    delivered: bool
    error: str
    retry_at: datetime | None


class AcknowledgeMessages(Struct, frozen=True):
    """Book what became of outbox messages; comes from the dispatcher, never from a caller."""

    results: tuple[MessageResult, ...]


class NoticeResult(Struct, frozen=True):
    """What the publisher did with one business event."""

    event_id: int
    delivered: bool
    error: str
    retry_at: datetime | None


class AcknowledgeNotices(Struct, frozen=True):
    """Book what became of business events; comes from the publisher, never from a caller."""

    results: tuple[NoticeResult, ...]


class BookDue(Struct, frozen=True):
    """Book what is due on the wallets of customers; comes from the sweep, never from a caller."""

    customer_ids: tuple[int, ...]


Command = (
    TransferPoints
    | CheckTransfer
    | IssueTransferOtp
    | RedeemPoints
    | CheckRedemption
    | IssueRedemptionOtp
    | AuthorizeRedemption
    | CaptureRedemption
    | ReleaseRedemption
    | ReverseRedemption
    | ReverseTransfer
    | ReturnTransaction
    | IssuePoints
    | AdjustPoints
    | CreateCustomer
    | EnrolCustomer
    | SetCustomerStatus
    | SetTransferLock
    | RecordPurchase
    | MergeCustomers
    | RecordMissedCall
    | EraseCustomer
    | CreateProgram
    | CreateProgramGroup
    | SetPolicy
    | SetConfigKey
    | SetPause
    | SetProgramActive
    | AcknowledgeMessages
    | AcknowledgeNotices
    | BookDue
)


MAY_ISSUE_CODES = (CheckTransfer, IssueTransferOtp, CheckRedemption, IssueRedemptionOtp)
"""The commands that may issue a one-time code."""


def operation_of(command: Command) -> str:
    """The name of the operation, as in the protobuf: the class name."""
    return type(command).__name__


class Submission(Struct, frozen=True):
    """A command on its way: who sent it, under which request id, and what it said.

    `fingerprint` maps each set field of the request to its canonical bytes: the content that a request id stands for.
    `otp_seed` is 32 random bytes from which a one-time code would be derived, so that deciding stays pure; empty for a
    command that is none of `MAY_ISSUE_CODES`.
    """

    org_id: int
    command: Command
    request_id: str
    request_id_given: bool
    fingerprint: Mapping[str, bytes]
    actor: str
    otp_seed: bytes

    def __repr__(self) -> str:
        """Shows who and what, and nothing that was said."""
        return f"Submission({operation_of(self.command)}, {self.request_id})"
