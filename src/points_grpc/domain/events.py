"""What a decision leaves behind. Events are facts for the snapshot to evolve by and for the storage to write.

They are applied in order and hold final values where a row is replaced, differences where totals are raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from msgspec import Struct

from points_grpc.domain.model import (
    Customer,
    Hold,
    JournalEntry,
    Message,
    MissedCall,
    Notice,
    Otp,
    OtpAction,
    OtpCounter,
    Program,
    ProgramGroup,
    Purchase,
    Redemption,
    Return,
    WalletKey,
)
from points_grpc.domain.policy import Direction, Policy


class Booked(Struct, frozen=True):
    """A journal transaction: moves the points of its postings, opens its lots, raises the wallets' versions."""

    entry: JournalEntry


class LotsMatured(Struct, frozen=True):
    """Promised lots became available."""

    wallet: WalletKey
    lot_ids: tuple[int, ...]


class DueMoved(Struct, frozen=True):
    """The wallet's `due_at` was computed anew after a booking."""

    wallet: WalletKey
    due_at: datetime | None


class LifetimeRaised(Struct, frozen=True):
    """A wallet's lifetime figures rose; nothing lowers them."""

    wallet: WalletKey
    earned: int = 0
    received: int = 0
    purchases: int = 0


class VelocityCounted(Struct, frozen=True):
    """A transfer counts against the limits of a customer in a program on a day of the program's time zone."""

    wallet: WalletKey
    direction: Direction
    day: date
    points: int


class VelocityUnited(Struct, frozen=True):
    """What counts against the limits of a customer in a program from here on: points and transfers of each day."""

    wallet: WalletKey
    days: Mapping[tuple[Direction, date], tuple[int, int]]


class RedemptionMade(Struct, frozen=True):
    """A redemption was made."""

    redemption: Redemption


class RedemptionReversed(Struct, frozen=True):
    """Parts of a redemption were given back: points by lot, credited or expired; the redemption as it is now."""

    redemption: Redemption
    lots: tuple[tuple[int, int], ...]


class HoldOpened(Struct, frozen=True):
    """Points are held; the booking that holds them stands beside this."""

    hold: Hold


class HoldClosed(Struct, frozen=True):
    """A hold was captured or released, by an order or by its deadline: the hold as it is now."""

    hold: Hold


class MissedCallRecorded(Struct, frozen=True):
    """A customer called."""

    call: MissedCall


class MissedCallUsed(Struct, frozen=True):
    """A missed call proved something: the call as it is now."""

    call: MissedCall


class OtpSaved(Struct, frozen=True):
    """A one-time code was issued or changed: replaces the row of its (customer, action, program)."""

    otp: Otp


class OtpCounterSaved(Struct, frozen=True):
    """The counters of a (customer, action) changed: replaces the row."""

    counter: OtpCounter


class MessageQueued(Struct, frozen=True):
    """A message to a customer entered the outbox."""

    message: Message


class MessagesCancelled(Struct, frozen=True):
    """Undelivered codes of a (customer, action) will not be sent any more: a newer code replaces them."""

    customer_id: int
    action: OtpAction


class MessageSettled(Struct, frozen=True):
    """The dispatcher delivered a message, failed for good (`retry_at` None), or will try again."""

    message_id: int
    customer_id: int
    delivered: bool
    error: str
    retry_at: datetime | None


class NoticeQueued(Struct, frozen=True):
    """A business event is to be published."""

    notice: Notice


class NoticeSettled(Struct, frozen=True):
    """A business event was published, given up (`retry_at` None), or will be tried again."""

    event_id: int
    delivered: bool
    error: str
    retry_at: datetime | None


class CustomerSaved(Struct, frozen=True):
    """A customer was created or changed: replaces the row."""

    customer: Customer
    created: bool


class CustomersErased(Struct, frozen=True):
    """Who these customers were is gone, wherever it is kept: addresses of messages, notes, calls, recorded answers."""

    customer_ids: tuple[int, ...]


class Enrolled(Struct, frozen=True):
    """A customer was enrolled in a program: the wallet exists from here on."""

    wallet: WalletKey
    at: datetime


class PurchaseRecorded(Struct, frozen=True):
    """A bill became known."""

    purchase: Purchase


class ReturnBooked(Struct, frozen=True):
    """A purchase was returned."""

    returned: Return


class ProgramSaved(Struct, frozen=True):
    """A program was created or changed, its policy apart: replaces the row."""

    program: Program
    default: bool


class GroupSaved(Struct, frozen=True):
    """A group of programs was created."""

    group: ProgramGroup


class PolicySaved(Struct, frozen=True):
    """A new revision of a program's policy came into force."""

    program_id: int
    policy: Policy
    created_at: datetime
    actor: str
    reason: str


class ConfigKeySet(Struct, frozen=True):
    """A configuration key was set, or removed (None)."""

    key: str
    value: str | None


class OrgPaused(Struct, frozen=True):
    """The organisation's points operations were paused or resumed."""

    paused: bool


class Audited(Struct, frozen=True):
    """Who changed what, from what to what, and why: a line of the audit log. Values as JSON texts, no secrets."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: str
    after: str
    reason: str


Event = (
    Booked
    | LotsMatured
    | DueMoved
    | LifetimeRaised
    | VelocityCounted
    | VelocityUnited
    | RedemptionMade
    | RedemptionReversed
    | HoldOpened
    | HoldClosed
    | MissedCallRecorded
    | MissedCallUsed
    | OtpSaved
    | OtpCounterSaved
    | MessageQueued
    | MessagesCancelled
    | MessageSettled
    | NoticeQueued
    | NoticeSettled
    | CustomerSaved
    | CustomersErased
    | Enrolled
    | PurchaseRecorded
    | ReturnBooked
    | ProgramSaved
    | GroupSaved
    | PolicySaved
    | ConfigKeySet
    | OrgPaused
    | Audited
)
