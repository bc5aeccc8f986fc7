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
_UNAVAILABLE = {
    "25006": "it is read-only, as a standby is",
    "25P03": "a transaction stood still for too long",
    "3D000": "there is no database of this name",
    "42501": "it is not permitted",
    "57014": "it took too long",
    "58030": "input or output failed",
    "XX001": "it is damaged",
    "XX002": "it is damaged",
    "08": "the connection was lost",
    "28": "the user or the password was refused",
    "53": "the server has no room for more",
    "57P": "the server ends or starts",
}
"""What is wrong, by SQLSTATE or by its class, in fixed words: no value is in them."""


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
    for place in (sqlstate, sqlstate[:3], sqlstate[:2]):
        if place in _UNAVAILABLE:
            return StorageUnavailable(f"the database cannot be read or written: {_UNAVAILABLE[place]}")
    return None


def translate_commit(error: BaseException) -> Exception:
    """As `translate`, for a COMMIT: what is not certainly rolled back is unknown.

    An error that the server reports of the COMMIT itself means that it rolled back; a connection that ended may have
    ended before or after. So may a server that panics, whatever it says the cause was: the log may be full right behind
    a commit that is in it.
    """
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if _severity(error) == "PANIC":
        return OutcomeUnknown("the server failed at the commit, which may have taken place")
    if sqlstate is not None and not sqlstate.startswith(("08", "57P", "58", "XX")) and sqlstate != "57014":
        return translate(error, sqlstate) or StorageConflict("the commit was refused")
    return OutcomeUnknown("the commit failed and may have taken place")


def _severity(error: BaseException) -> str:
    """How bad the server says it is; empty where it is not the server that says so."""
    return getattr(getattr(error, "diag", None), "severity_nonlocalized", None) or ""


def _is_operational(error: BaseException) -> bool:
    """Whether the driver speaks of the connection: by name, so that the driver need not be installed."""
    return any(kind.__name__ in {"OperationalError", "InterfaceError"} for kind in type(error).__mro__)
