"""What reads show: wallets, pages of the journal, what became of a command, what is kept about a person. Data only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

from points_grpc.domain.model import Customer, JournalEntry, Kind, Lot, MissedCall, Purchase, Return, Wallet
from points_grpc.domain.outcome import Balance, ProgramShare

Item = TypeVar("Item")

Position = tuple[int, ...]
"""A place in a list of a whole organisation; empty for its beginning."""


class Listed(Struct, Generic[Item], frozen=True):
    """A page of a list of a whole organisation.

    `after` is where the next page goes on, None if there is none; `total` how many there are in all, if that was asked.
    """

    items: Sequence[Item]
    after: Position | None
    total: int


class ListedWallet(Struct, frozen=True):
    """A wallet among all of an organisation, as it stood when its page was read."""

    balance: Balance
    lifetime_earned: int
    lifetime_received: int
    lifetime_purchases: int
    enrolled_at: datetime | None


class WalletView(Struct, frozen=True):
    """A wallet as it stands at `read_at`; expired points are left out, booked or not.

    `expiries` holds the first 100 instants at which points expire, with how many.
    """

    balance: Balance
    lifetime_earned: int
    lifetime_received: int
    lifetime_purchases: int
    expiries: tuple[tuple[datetime, int], ...]
    read_at: datetime


class AuditRow(Struct, frozen=True):
    """A line of the audit log. `before` and `after` are JSON texts."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: str
    after: str
    reason: str


class JournalRow(Struct, frozen=True):
    """A journal transaction as it was written, with its place in the journal. `entry.opened` is left empty."""

    entry: JournalEntry
    stream: int
    position: int


class TransferView(Struct, frozen=True):
    """A transfer as one customer sees it: `given`, or received. `shares` are those of the answer when it was made."""

    transfer_id: int
    source_id: int
    destination_id: int
    program_id: int
    points: int
    made_at: datetime
    notes: str
    shares: tuple[ProgramShare, ...]
    given: bool


class TracedLot(Struct, frozen=True):
    """A lot, and what opened it when."""

    lot: Lot
    kind: Kind
    opened_at: datetime


class LotTrace(Struct, frozen=True):
    """Where a lot came from (nearest first) and what was drawn from it (generation by generation).

    `omitted` counts the lots that were left out, up to a limit.
    """

    lot: TracedLot
    ancestors: tuple[TracedLot, ...]
    descendants: tuple[TracedLot, ...]
    omitted: int


class EnrolledCustomer(Struct, frozen=True):
    """A customer with the programs of enrolment."""

    customer: Customer
    program_ids: tuple[int, ...]


class ReferredEntry(Struct, frozen=True):
    """A journal transaction with the caller's reference of the redemption or authorisation that it was; or empty."""

    row: JournalRow
    external_reference: str


class SentMessage(Struct, frozen=True):
    """A message of the outbox, without its code."""

    customer_id: int
    channel: str
    target: str
    state: str
    created_at: datetime


PersonalRecord = (
    EnrolledCustomer | Wallet | Lot | ReferredEntry | Purchase | Return | MissedCall | SentMessage | AuditRow
)
"""Something that is kept about a person."""


class PersonalPlace(NamedTuple):
    """Where reading what is kept about a person goes on: a kind of record, and the key of the last one of it."""

    section: int
    after: str


PERSONAL_START = PersonalPlace(0, "")
