"""What reads show: wallets, pages of the journal, and what became of a command. Data only."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from points_grpc.domain.model import JournalEntry
from points_grpc.domain.outcome import Balance


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
