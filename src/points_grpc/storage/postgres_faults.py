"""What went wrong in PostgreSQL, in the service's words, by SQLSTATE: what `faults` says of SQLite.

The texts of the server stay behind, in the cause of the exception: they name tables and may name values.
"""

from __future__ import annotations

from points_grpc.service.ports import KeyTaken, OutcomeUnknown, StorageConflict, StorageFull, StorageUnavailable

_CONFLICTS = {
    "40001": "another transaction came first",
    "40P01": "another transaction waited for this one, and this one for it",
    "55P03": "a lock was not to be had in time",
}
_FULL = frozenset({"53100"})
_UNAVAILABLE = frozenset(
    {
        "25006",  # read-only: a standby
        "25P03",  # idle in a transaction for too long
        "3D000",  # no such database
        "42501",  # not permitted
        "57014",  # took too long
        "58030",  # input or output failed
        "XX001",  # damaged data
        "XX002",  # a damaged index
    }
)
_UNAVAILABLE_CLASSES = ("08", "28", "53", "57P")
"""Connections, authorisation, resources, an operator's intervention."""


def translate(error: BaseException, sqlstate: str | None) -> Exception | None:
    """The service's exception; None where it is a bug of ours (a failed CHECK, bad SQL)."""
    if sqlstate is None:
        return StorageUnavailable("the database cannot be reached") if _is_operational(error) else None
    if sqlstate == "23505":
        return KeyTaken("a row with this key exists already")
    if sqlstate in _CONFLICTS:
        return StorageConflict(_CONFLICTS[sqlstate])
    if sqlstate in _FULL:
        return StorageFull("the disk of the database is full")
    if sqlstate in _UNAVAILABLE or sqlstate.startswith(_UNAVAILABLE_CLASSES):
        return StorageUnavailable("the database cannot be read or written")
    return None


def translate_commit(error: BaseException) -> Exception:
    """As `translate`, for a COMMIT: what is not certainly rolled back is unknown.

    An error that the server reports of the COMMIT itself means that it rolled back; a connection that ended may have
    ended before or after.
    """
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if sqlstate is not None and not sqlstate.startswith(("08", "57P", "58", "XX")) and sqlstate != "57014":
        return translate(error, sqlstate) or StorageConflict("the commit was refused")
    return OutcomeUnknown("the commit failed and may have taken place")


def _is_operational(error: BaseException) -> bool:
    """Whether the driver speaks of the connection: by name, so that the driver need not be installed."""
    return any(kind.__name__ in {"OperationalError", "InterfaceError"} for kind in type(error).__mro__)
