"""A backup of a database file, made beside the server that writes it. PostgreSQL brings its own tools.

The copy is one snapshot, as a reader sees it: whatever was committed before it began, and nothing else.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from points_grpc.storage.engine import Database
from points_grpc.storage.faults import DRIVER_ERRORS, translate


def source_of(database: Database) -> Path:
    """The file of a database that can be copied. Raises `ValueError`."""
    if database.path is None:
        raise ValueError("PostgreSQL is backed up with its own tools: docs/backup.md says how")
    if not database.path.exists():
        raise ValueError(f"there is no database {database.path}")
    return database.path


def copy_checked(source: Path, target: Path) -> None:
    """Copies a database file into one that is there and empty, and checks the copy; it is to be synced.

    Raises `ValueError` where the copy is damaged. In one step: a copy in several starts anew whenever somebody writes
    between them.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=10)) as original,
            closing(sqlite3.connect(target)) as copy,
        ):
            original.backup(copy)
            [(found,)] = copy.execute("PRAGMA quick_check(1)").fetchall()
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    if found != "ok":
        raise ValueError(f"the copy is damaged, and so may be the database: {found}")
