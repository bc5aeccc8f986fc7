"""The audit log, as tools write it that run beside a serving process: in the transaction of what they change.

The service writes its own lines with its batches (`apply`); ids of tools are of a slot that no writer takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select

from points_grpc.service.ids import IdSource
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.schema import audit_events
from points_grpc.storage.times import to_micros

ACTOR = "cli"
"""Who administers, for the audit log."""

TOOLS_SLOT = 1023
"""The slot of ids made beside the writers: no writer takes the last one."""


class AuditLog:
    """Appends lines to the audit log."""

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._next_id = IdSource(TOOLS_SLOT, lambda: int(now().timestamp() * 1000))

    def note(
        self, connection: Connection, org_id: int, action: str, subject: str, *, after: Mapping[str, object]
    ) -> None:
        """Adds a line, in the transaction of the change."""
        audit_id = self._next_id()
        taken = select(audit_events.c.audit_id).where(audit_events.c.org_id == org_id)
        while connection.execute(taken.where(audit_events.c.audit_id == audit_id)).first():
            audit_id = self._next_id()
        connection.execute(
            insert(audit_events).values(
                org_id=org_id,
                audit_id=audit_id,
                at=to_micros(self._now()),
                actor=ACTOR,
                action=action,
                subject=subject,
                before="null",
                after=json.dumps(after),
                reason="",
            )
        )


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction of a tool; raises the storage's conditions."""
    try:
        with engine.begin() as connection:
            yield connection
    except DRIVER_ERRORS as error:
        raise translate(error) from error
