"""The file that a command makes: there whole, or not at all.

What is written goes into `FILE.part`, which takes the name FILE when all of it is on the disk. What a kill leaves
behind is the part alone, and the next run begins it anew.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO


class InUse(Exception):
    """Another process writes this file."""


class PartFile:
    """A file on its way. Locked while it is open, so that two exports do not write into each other."""

    def __init__(self, path: Path) -> None:
        """Begins it. Raises `InUse`."""
        self.path = path
        self._whole = False
        self._part = path.with_name(f"{path.name}.part")
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InUse(f"another export writes {self._part}") from None
        self._file.truncate(0)

    def write(self, data: bytes) -> None:
        """Adds what comes next."""
        self._file.write(data)

    def finish(self) -> None:
        """Has it on the disk, under its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self.path)
        self._whole = True
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Closes it; a part that is not whole is left nowhere."""
        if not self._whole:
            self._part.unlink(missing_ok=True)
        self._file.close()


class PartTable(PartFile):
    """A CSV file on its way."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Begins it, with the names of the columns. Raises `InUse`."""
        super().__init__(path)
        self.add([columns])

    def add(self, rows: Iterable[Sequence[str | int]]) -> None:
        """Adds rows."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.write(text.getvalue().encode())
