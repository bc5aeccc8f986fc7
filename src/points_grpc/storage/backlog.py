"""What waits in the outbox of a database, for whoever watches over it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, literal_column, select

from points_grpc.storage.engine import Database
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import notices, outbox
from points_grpc.storage.statements import compiled
from points_grpc.storage.times import from_micros

_WANTED: list[ColumnElement[Any]] = [func.count(), func.min(outbox.c.created_at)]
_BACKLOG = compiled(select(*_WANTED).where(outbox.c.state == literal_column("'QUEUED'")))


_EVENTS = compiled(select(_WANTED[0]).select_from(notices).where(notices.c.state == literal_column("'QUEUED'")))


class Backlog(NamedTuple):
    """How many messages of all organisations wait, since when the oldest does, and how many business events."""

    messages: int
    since: datetime | None
    events: int


def read_backlog(database: Database) -> Backlog:
    """What waits now; raises the storage's conditions."""
    with reading(database) as driver:
        [(messages, since)] = driver.query(_BACKLOG, ())
        [(events,)] = driver.query(_EVENTS, ())
    return Backlog(messages, None if since is None else from_micros(since), events)
