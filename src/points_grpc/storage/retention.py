"""What may go once it is old, and its removal in small steps beside a serving process.

Only what no promise rests on: refusals that were recorded under a request id, messages that were settled, events that
were given up. Never an acceptance, never anything of the journal, of lots, redemptions, holds, bills and the audit log:
they are kept for ever (docs/retention.md says why of each). A write of its own, beside the committer, as that of
`accounts`: nothing that is decided reads these rows under a lock, and a row that is old never becomes young again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import Column, ColumnElement, Delete, Select, Table, bindparam, delete, func, literal_column, select

from points_grpc.service.ids import lowest_id
from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.reports import snapshot
from points_grpc.storage.schema import notices, orgs, outbox, requests
from points_grpc.storage.times import to_micros

STEP = 500
"""How many rows go in a transaction: a writer may have to wait for it. It stands in the text of the statements: of a
limit that is a parameter the planner thinks as of a tenth of the table."""

REFUSALS_KEPT_DAYS_MIN = 30
"""What is promised to callers: the outcome of a request id is known for that long, of an acceptance for ever."""


class Ages(Struct, frozen=True, kw_only=True):
    """From which age on rows may go, in days."""

    refusals: int = 90
    messages: int = 90
    events: int = 90

    def __post_init__(self) -> None:
        """Refuses what would break a promise."""
        if self.refusals < REFUSALS_KEPT_DAYS_MIN:
            raise ValueError(f"refusals are kept for {REFUSALS_KEPT_DAYS_MIN} days at least")
        if min(self.messages, self.events) < 1:
            raise ValueError("an age is one day at least")


class Aged(Struct, frozen=True):
    """Rows of an organisation that are old enough to go, or that went."""

    org_id: int
    what: str
    rows: int


class _Kind:
    """A kind of rows: where they are, and which of them may go once they are old."""

    def __init__(self, table: Table, key: Column[Any], order: Column[Any], *settled: ColumnElement[bool]) -> None:
        """`order`: what an index finds the oldest by. No row that is not `settled` goes."""
        old = [
            table.c.org_id == bindparam("org"),
            *settled,
            order < bindparam("oldest"),
            table.c.created_at < bindparam("before"),
        ]
        self.by_id = order is key
        self.count: Select[Any] = select(func.count()).select_from(table).where(*old)
        self.first: Select[Any] = select(key).where(*old).order_by(order).limit(literal_column(str(STEP)))
        self.remove: Delete = delete(table).where(
            table.c.org_id == bindparam("org"),
            *settled,
            table.c.created_at < bindparam("before"),
            key.in_(bindparam("keys", expanding=True)),
        )
        """Of keys that were read before: with a query in their place the planner may walk through the whole table. The
        age is asked again: a refusal that another run removed may have been recorded anew since."""


_KINDS = {
    "refusals": _Kind(
        requests, requests.c.request_id, requests.c.created_at, requests.c.accepted == literal_column("0")
    ),
    "messages": _Kind(outbox, outbox.c.message_id, outbox.c.message_id, outbox.c.state != literal_column("'QUEUED'")),
    "events": _Kind(notices, notices.c.event_id, notices.c.event_id, notices.c.state == literal_column("'DEAD'")),
}


def aged(database: Database, ages: Ages, now: datetime) -> list[Aged]:
    """What may go, counted; nothing goes."""
    return list(_each(database, ages, now, _count))


def remove(
    database: Database, ages: Ages, now: datetime, *, rest: Callable[[float], None] = time.sleep
) -> Iterator[Aged]:
    """Removes it, an organisation and a kind after the other; says what went. Cut short and run again, it goes on.

    `rest`: waits for so many seconds; after each step for as long as it took, so that a writer beside it gets its turn.
    """

    def all_of(database: Database, kind: _Kind, bound: dict[str, int]) -> int:
        removed = 0
        while True:
            started = time.monotonic()
            step = _remove(database, kind, bound)
            removed += step
            if step < STEP:
                return removed
            rest(time.monotonic() - started)

    yield from _each(database, ages, now, all_of)


def _each(
    database: Database, ages: Ages, now: datetime, do: Callable[[Database, _Kind, dict[str, int]], int]
) -> Iterator[Aged]:
    require_schema(database)
    try:
        with database.reader.connect() as connection:
            org_ids = connection.execute(select(orgs.c.org_id).order_by(orgs.c.org_id)).scalars().all()
        for org_id in org_ids:
            for what, days in (("refusals", ages.refusals), ("messages", ages.messages), ("events", ages.events)):
                kind = _KINDS[what]
                if rows := do(database, kind, {"org": org_id, **_before(kind, now - timedelta(days=days))}):
                    yield Aged(org_id, what, rows)
    except DRIVER_ERRORS as error:
        raise translate(error) from error


def _before(kind: _Kind, at: datetime) -> dict[str, int]:
    micros = to_micros(at)
    return {"before": micros, "oldest": lowest_id(micros // 1000) if kind.by_id else micros}


def _count(database: Database, kind: _Kind, bound: dict[str, int]) -> int:
    with snapshot(database) as connection:  # counting may take long
        return int(connection.execute(kind.count, bound).scalar_one())


def _remove(database: Database, kind: _Kind, bound: dict[str, int]) -> int:
    with database.writer.begin() as connection:
        keys = connection.execute(kind.first, bound).scalars().all()
        asked = {"org": bound["org"], "before": bound["before"], "keys": keys}
        return connection.execute(kind.remove, asked).rowcount if keys else 0
