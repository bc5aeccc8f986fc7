"""What became of messages, for operators: counts, and the messages of one customer. Never a target or a code.

Reads only, in one snapshot: beside a serving process if need be.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import ColumnElement, case, func, select

from points_grpc.domain.model import OtpAction
from points_grpc.storage.engine import Database
from points_grpc.storage.reports import snapshot
from points_grpc.storage.schema import outbox
from points_grpc.storage.times import from_micros, from_micros_or_none, to_micros

MESSAGES_MAX = 1000


class Deliveries(Struct, frozen=True):
    """Messages of an organisation over a channel. `retrying` are those of `queued` that failed before."""

    org_id: int
    channel: str
    queued: int
    retrying: int
    delivered: int
    cancelled: int
    dead: int
    oldest_queued_at: datetime | None


class Delivery(Struct, frozen=True):
    """A message. `state` is QUEUED, DELIVERED, CANCELLED (replaced by a newer code) or DEAD (given up)."""

    message_id: int
    action: str
    channel: str
    state: str
    attempts: int
    last_error: str
    created_at: datetime


def deliveries(database: Database, since: datetime, *, org_id: int = 0) -> list[Deliveries]:
    """Counts of messages that were queued since, and of all that wait. `org_id` 0: of all organisations."""

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    queued = outbox.c.state == "QUEUED"
    query = (
        select(
            outbox.c.org_id,
            outbox.c.channel,
            count(queued),
            count(queued & (outbox.c.attempts > 0)),
            count(outbox.c.state == "DELIVERED"),
            count(outbox.c.state == "CANCELLED"),
            count(outbox.c.state == "DEAD"),
            func.min(case((queued, outbox.c.created_at))),
        )
        .where((outbox.c.created_at >= to_micros(since)) | queued)
        .group_by(outbox.c.org_id, outbox.c.channel)
        .order_by(outbox.c.org_id, outbox.c.channel)
    )
    if org_id:
        query = query.where(outbox.c.org_id == org_id)
    with snapshot(database) as connection:
        return [
            Deliveries(org, channel, waiting, retrying, delivered, cancelled, dead, from_micros_or_none(oldest))
            for org, channel, waiting, retrying, delivered, cancelled, dead, oldest in connection.execute(query)
        ]


def deliveries_to(database: Database, org_id: int, customer_id: int, limit: int = MESSAGES_MAX) -> list[Delivery]:
    """The messages of a customer, newest first."""
    query = (
        select(
            outbox.c.message_id,
            outbox.c.action,
            outbox.c.channel,
            outbox.c.state,
            outbox.c.attempts,
            outbox.c.last_error,
            outbox.c.created_at,
        )
        .where(outbox.c.org_id == org_id, outbox.c.customer_id == customer_id)
        .order_by(outbox.c.message_id.desc())
        .limit(limit)
    )
    with snapshot(database) as connection:
        return [
            Delivery(message_id, OtpAction(action).name, channel, state, attempts, error, from_micros(created_at))
            for message_id, action, channel, state, attempts, error, created_at in connection.execute(query)
        ]
