"""What went wrong in the database, in the service's words: the one place where driver errors are told apart.

Those of SQLite here, those of PostgreSQL in `postgres_faults`.

The texts of the driver stay behind, in the cause of the exception: they name tables and may name values.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from points_grpc.service.ports import KeyTaken, OutcomeUnknown, StorageConflict, StorageFull, StorageUnavailable
from points_grpc.storage import postgres_faults

DRIVER_ERRORS = (sqlite3.Error, DBAPIError, PoolTimeout)
"""What the drivers and the pool raise; everything else is a bug and passes. Those of psycopg come wrapped by
SQLAlchemy, or do not leave `postgres_driver`, so that it need not be installed."""

_UNAVAILABLE = {
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_INTERRUPT: "it was interrupted",
    sqlite3.SQLITE_IOERR: "input or output failed",
    sqlite3.SQLITE_NOTADB: "the file is no database",
    sqlite3.SQLITE_PERM: "it is not permitted",
    sqlite3.SQLITE_PROTOCOL: "its locks are not to be had",
    sqlite3.SQLITE_READONLY: "it is read-only",
}
"""What is wrong, in fixed words: no value is in them."""
_CONFLICT = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DUPLICATE = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


def translate(error: Exception) -> Exception:
    """The service's exception for a driver's; the error itself where it is a bug of ours (a failed CHECK, bad SQL)."""
    if isinstance(error, PoolTimeout):
        return StorageUnavailable("no connection of the readers' pool became free in time")
    original = error.orig if isinstance(error, DBAPIError) else error
    if type(original).__module__.partition(".")[0] == "psycopg":
        assert original is not None
        return postgres_faults.translate(original, getattr(original, "sqlstate", None)) or error
    extended = _code_of(error)
    if extended is None:
        return error
    if extended in _DUPLICATE:
        return KeyTaken("a row with this key exists already")
    primary = extended & 0xFF
    if primary in _CONFLICT:
        return StorageConflict("the database is locked by another writer")
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull("the disk of the database is full")
    if primary in _UNAVAILABLE:
        return StorageUnavailable(f"the database cannot be read or written: {_UNAVAILABLE[primary]}")
    return error


def translate_commit(error: Exception) -> Exception:
    """As `translate`, for a COMMIT: what is not certainly rolled back is unknown.

    SQLite leaves the transaction open, and thereby to be rolled back, when the lock was not to be had or the disk was
    full. After any other failure the frames of the commit may or may not have reached the disk.
    """
    translated = translate(error)
    if isinstance(translated, StorageConflict | StorageFull):
        return translated
    return OutcomeUnknown("the commit failed and may have taken place")


def _code_of(error: Exception) -> int | None:
    """SQLite's extended result code; None for errors that have none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    return code if isinstance(code, int) else None
