"""Business events as operators see them: how many wait, which were given up and why, and having these sent again.

Beside a serving process: reads in one snapshot, writes in short transactions, each with its line of the audit log.
Nothing is posted here: what is to be sent again waits for the publisher like any other event.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select, update

from points_grpc.domain.configuration import PUBLISHED
from points_grpc.domain.event_names import EVENT_NAMES
from points_grpc.domain.model import Kind, OrgConfig
from points_grpc.domain.notices import wanted
from points_grpc.storage.audit_log import AuditLog, transaction
from points_grpc.storage.engine import Database
from points_grpc.storage.reports import snapshot
from points_grpc.storage.schema import config_keys, notices
from points_grpc.storage.times import from_micros, from_micros_or_none, to_micros

LISTED_MAX = 1000
"""How many are listed at once, unless told otherwise."""

RETRIED_AT_ONCE = 500
"""How many are queued again in a transaction: other writers of a file wait for it."""

_GIVEN_UP = notices.c.state == "DEAD"


class EventCounts(Struct, frozen=True):
    """Events of an organisation. `retrying` are those of `queued` that failed before; `dead` were given up."""

    org_id: int
    queued: int
    retrying: int
    dead: int
    oldest_queued_at: datetime | None
    oldest_dead_at: datetime | None


class GivenUp(Struct, frozen=True):
    """An event that was given up."""

    event_id: int
    customer_id: int
    type: str
    occurred_at: datetime
    attempts: int
    last_error: str


class Retried(Struct, frozen=True):
    """Those that are queued again, oldest first, and those that were left because nobody wants them any more."""

    event_ids: tuple[int, ...]
    unwanted: int


def event_counts(database: Database, *, org_id: int = 0) -> list[EventCounts]:
    """How many there are, by organisation. `org_id` 0: of all organisations."""

    def count(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    queued = notices.c.state == "QUEUED"
    query = (
        select(
            notices.c.org_id,
            count(queued),
            count(queued & (notices.c.attempts > 0)),
            count(_GIVEN_UP),
            func.min(case((queued, notices.c.created_at))),
            func.min(case((_GIVEN_UP, notices.c.created_at))),
        )
        .group_by(notices.c.org_id)
        .order_by(notices.c.org_id)
    )
    if org_id:
        query = query.where(notices.c.org_id == org_id)
    with snapshot(database) as connection:
        return [
            EventCounts(org, waiting, retrying, dead, from_micros_or_none(queued_at), from_micros_or_none(dead_at))
            for org, waiting, retrying, dead, queued_at, dead_at in connection.execute(query)
        ]


def given_up(database: Database, org_id: int, limit: int = LISTED_MAX) -> list[GivenUp]:
    """The events of an organisation that were given up, oldest first: the order in which they are sent again."""
    query = (
        select(
            notices.c.event_id,
            notices.c.customer_id,
            notices.c.kind,
            notices.c.created_at,
            notices.c.attempts,
            notices.c.last_error,
        )
        .where(notices.c.org_id == org_id, _GIVEN_UP)
        .order_by(notices.c.created_at, notices.c.event_id)
        .limit(limit)
    )
    with snapshot(database) as connection:
        return [
            GivenUp(event_id, customer_id, EVENT_NAMES[Kind(kind)], from_micros(created_at), attempts, error)
            for event_id, customer_id, kind, created_at, attempts, error in connection.execute(query)
        ]


def event_body(database: Database, org_id: int, event_id: int) -> bytes | None:
    """What an event says that waits or was given up; None if there is none such."""
    query = select(notices.c.body).where(notices.c.org_id == org_id, notices.c.event_id == event_id)
    with snapshot(database) as connection:
        found = connection.execute(query).scalar()
    return None if found is None else bytes(found)


class Retries:
    """Has events sent again that were given up."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._now = now
        self._audit = AuditLog(now=now)

    def retry(self, org_id: int, event_ids: Collection[int]) -> Retried:
        """These, as far as they were given up."""
        with transaction(self._database.writer) as connection:
            chosen = connection.execute(_candidates(org_id).where(notices.c.event_id.in_(event_ids))).all()
            return self._queue(connection, org_id, [(event_id, kind) for event_id, kind, _ in chosen])

    def retry_all(self, org_id: int) -> Retried:
        """All that are given up now, each once: what fails again meanwhile is not taken up a second time.

        The oldest first, in several transactions, so that no event of a customer overtakes an older one of these.
        """
        queued: list[int] = []
        unwanted, after, last = 0, (0, 0), self._last(org_id)
        while after < last:
            with transaction(self._database.writer) as connection:
                chosen = connection.execute(
                    _candidates(org_id).where(_follows(*after), ~_follows(*last)).limit(RETRIED_AT_ONCE)
                ).all()
                if not chosen:
                    break
                done = self._queue(connection, org_id, [(event_id, kind) for event_id, kind, _ in chosen])
            after = (chosen[-1].created_at, chosen[-1].event_id)
            queued += done.event_ids
            unwanted += done.unwanted
        return Retried(tuple(queued), unwanted)

    def _queue(self, connection: Connection, org_id: int, chosen: Sequence[tuple[int, int]]) -> Retried:
        """Queues events again, with all their tries ahead of them. Of the unwanted the publisher would make nothing."""
        kinds = wanted(_config(connection, org_id))
        event_ids = tuple(event_id for event_id, kind in chosen if kinds is None or Kind(kind) in kinds)
        if event_ids:
            now = to_micros(self._now())
            connection.execute(
                update(notices)
                .where(notices.c.org_id == org_id, notices.c.event_id.in_(event_ids), _GIVEN_UP)
                .values(state="QUEUED", attempts=0, tried_since=now, next_attempt_at=now, last_error="")
            )
            after = {"events": len(event_ids), "first": str(event_ids[0]), "last": str(event_ids[-1])}
            self._audit.note(connection, org_id, "RetryEvents", "events", after=after)
        return Retried(event_ids, len(chosen) - len(event_ids))

    def _last(self, org_id: int) -> tuple[int, int]:
        """The place of the newest that is given up now."""
        newest = (
            select(notices.c.created_at, notices.c.event_id)
            .where(notices.c.org_id == org_id, _GIVEN_UP)
            .order_by(notices.c.created_at.desc(), notices.c.event_id.desc())
            .limit(1)
        )
        with snapshot(self._database) as connection:
            found = connection.execute(newest).first()
        return (0, 0) if found is None else (found.created_at, found.event_id)


def _candidates(org_id: int) -> Select[Any]:
    return (
        select(notices.c.event_id, notices.c.kind, notices.c.created_at)
        .where(notices.c.org_id == org_id, _GIVEN_UP)
        .order_by(notices.c.created_at, notices.c.event_id)
    )


def _follows(created_at: int, event_id: int) -> ColumnElement[bool]:
    return or_(
        notices.c.created_at > created_at,
        and_(notices.c.created_at == created_at, notices.c.event_id > event_id),
    )


def _config(connection: Connection, org_id: int) -> OrgConfig:
    """As much of the configuration as says what the organisation wants."""
    query = select(config_keys.c.name, config_keys.c.value).where(
        config_keys.c.org_id == org_id, config_keys.c.name == PUBLISHED
    )
    return OrgConfig({row.name: row.value for row in connection.execute(query)})
