"""A backup of a database file, made beside the server that writes it. PostgreSQL brings its own tools.

The copy is one snapshot, as a reader sees it: whatever was committed before it began, and nothing else.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from points_grpc.storage.engine import Database
from points_grpc.storage.faults import DRIVER_ERRORS, translate


def back_up(database: Database, target: Path) -> int:
    """Copies the database into a file that is not there yet, checks the copy, and returns its size in bytes.

    Raises `ValueError` where that cannot be; what was copied by then is removed.
    """
    if database.path is None:
        raise ValueError("PostgreSQL is backed up with its own tools: docs/backup.md says how")
    if not database.path.exists():
        raise ValueError(f"there is no database {database.path}")
    if target.exists():
        raise ValueError(f"{target} exists already")
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with _removed_if_it_fails(partial):
            _copy(database.path, partial)
            os.rename(partial, target)
            _sync(target.parent)
        return target.stat().st_size
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    except OSError as error:
        raise ValueError(f"{target} cannot be written: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _removed_if_it_fails(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what went wrong before says more
            path.unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path) -> None:
    """Copies in one step: a copy in several starts anew whenever somebody writes between them."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=10)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        [(found,)] = copy.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise ValueError(f"the copy is damaged, and so may be the database: {found}")
    _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
