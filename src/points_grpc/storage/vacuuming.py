"""Rewrites a database without what was erased from it. For a quiet hour: PostgreSQL meanwhile goes on, SQLite does not.

What is erased is overwritten where it stood. But when SQLite splits a page, it may leave a copy of what moved in room
that it takes for free, and PostgreSQL keeps rows that were replaced: neither is found by its key any more.
"""

from __future__ import annotations

from contextlib import ExitStack, closing

from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.lease import FileLease, LeaseHeld

TABLES = (
    "customers",
    "transactions",
    "requests",
    "returns",
    "missed_calls",
    "otps",
    "otp_counters",
    "outbox",
    "audit_events",
)
"""What erasures change; tests/docs/test_people_page.py compares it with the page."""


def vacuum(database: Database) -> None:
    """Rewrites the database; raises `ValueError` where a server writes the file meanwhile."""
    require_schema(database)
    with ExitStack() as stack:
        if database.path is not None:
            try:
                stack.enter_context(closing(FileLease(database.path)))
            except LeaseHeld as error:
                raise ValueError(str(error)) from None
        errors: tuple[type[Exception], ...] = (*DRIVER_ERRORS, *database.backend.errors)
        engine = database.backend.migrator()
        stack.callback(engine.dispose)
        try:
            connection = stack.enter_context(closing(engine.raw_connection()))
            database.backend.vacuum(connection, TABLES)
        except errors as error:
            raise translate(error) from error
