"""The file that a command makes: there whole, or not at all.

What is written goes into `FILE.part`, which takes the name FILE when all of it is on the disk. What a kill leaves
behind is the part alone, and the next run begins it anew.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import click


class InUse(Exception):
    """Another process writes this file."""


class PartFile:
    """A file on its way. Locked while it is open, so that two commands do not write into each other."""

    def __init__(self, path: Path, *, replaces: bool = False) -> None:
        """Begins it; unless it `replaces` a file, none that has the name by then is written over. Raises `InUse`."""
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self._replaces = replaces
        self._whole = False
        self._file = _locked(self.part)
        self._file.truncate(0)

    def write(self, data: bytes) -> None:
        """Adds what comes next."""
        self._file.write(data)

    def finish(self) -> None:
        """Has it on the disk, under its name. Raises `FileExistsError`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._replaces:
            self.part.replace(self.path)
        else:
            _name(self.part, self.path)
        self._whole = True
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Closes it; a part that is not whole is left nowhere."""
        if not self._whole:
            self.part.unlink(missing_ok=True)
        self._file.close()


@contextmanager
def new_file(path: Path) -> Iterator[PartFile]:
    """A file that is there once all of it is written, and over no other; what ails it is a sentence."""
    try:
        with closing(PartFile(path)) as out:
            yield out
            out.finish()
    except InUse as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


def _locked(part: Path) -> BinaryIO:
    """Opens a part for this process alone; again, if whoever had it gave it its name in between. Raises `InUse`."""
    while True:
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(part, file):
                return file
        except BlockingIOError:
            file.close()
            raise InUse(f"another command writes {part}") from None
        file.close()


def _is_still(part: Path, file: BinaryIO) -> bool:
    """Whether an open file still has the name that it was opened by."""
    try:
        return os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _name(part: Path, path: Path) -> None:
    """Gives a part its name, if nothing else has it. Raises `FileExistsError`."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: a moment remains in which another may come
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        part.rename(path)
    else:
        part.unlink()


class PartTable(PartFile):
    """A CSV file on its way."""

    def __init__(self, path: Path, columns: Sequence[str], *, replaces: bool) -> None:
        """Begins it, with the names of the columns. Raises `InUse`."""
        super().__init__(path, replaces=replaces)
        self.add([columns])

    def add(self, rows: Iterable[Sequence[str | int]]) -> None:
        """Adds rows."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.write(text.getvalue().encode())
