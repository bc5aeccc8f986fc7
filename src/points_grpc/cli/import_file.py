"""A CSV file, read twice in flat memory: once whole, for its digest and its form; then row by row from a place in it.

Rows are counted as a spreadsheet counts them: the first line, with the names of the columns, is row 1.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from points_grpc.cli.import_rows import COLUMNS, REPORT_COLUMNS, REQUIRED, Kind

_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BEGINNING_BYTES = 4096
_DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'", ",": ","}
"""What files have between their fields, and how `--delimiter` is told so in a shell."""


class FileWrong(Exception):
    """The file as a whole cannot be imported; says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row ends: its number, and the bytes up to there."""

    row: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it stands in the file."""

    fields: tuple[str, ...]
    end: Place


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a file that was read once: its columns, where their names end, and how many rows follow."""

    columns: tuple[str, ...]
    first: Place
    rows: int
    digest: str
    stamp: tuple[int, int]


class CsvFile:
    """An open file."""

    def __init__(self, path: Path, delimiter: str) -> None:
        """Opens it. Raises `OSError`."""
        self.path = path
        self._delimiter = delimiter
        self._file: BinaryIO = path.open("rb")

    def close(self) -> None:
        """Closes it."""
        self._file.close()

    def survey(self, kind: Kind) -> Survey:
        """Reads all of it. Raises `FileWrong`, so that nothing is sent of a file that has no form."""
        stamp = self.stamp()
        self._require_text()
        digest = hashlib.sha256()
        columns: tuple[str, ...] = ()
        first = Place()
        rows = 0
        for record in self._records(Place(), digest):
            if is_blank(record.fields, columns):
                continue
            if columns:
                rows += 1
                continue
            columns, first = tuple(name.strip().lower() for name in record.fields), record.end
            _require_columns(kind, columns)
        if not columns:
            raise FileWrong(f"{self.path} is empty: the first line names the columns")
        return Survey(columns, first, rows, digest.hexdigest(), stamp)

    def records(self, start: Place, columns: Sequence[str]) -> Iterator[Record]:
        """The rows from a place on; blank ones are counted and left out."""
        return (record for record in self._records(start) if not is_blank(record.fields, columns))

    def stamp(self) -> tuple[int, int]:
        """Changes when somebody writes to the file."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _require_text(self) -> None:
        self._file.seek(0)
        line = self._file.read(_BEGINNING_BYTES).partition(b"\n")[0]
        if line.startswith(_UTF_16) or b"\0" in line:
            raise FileWrong(f"{self.path} is not in UTF-8, it looks like UTF-16: save it as CSV in UTF-8")

    def _records(self, start: Place, digest: hashlib._Hash | None = None) -> Iterator[Record]:
        offset = start.offset

        def lines() -> Iterator[str]:
            nonlocal offset
            for line in self._file:
                if digest is not None:
                    digest.update(line)
                text = line.removeprefix(_BOM) if offset == 0 else line
                offset += len(line)
                yield text.decode("utf-8", "surrogateescape")

        self._file.seek(offset)
        row = start.row
        reader = csv.reader(lines(), delimiter=self._delimiter, strict=True)
        while True:
            row += 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                meant = "; or is the delimiter another one (--delimiter)?" if "expected after" in str(error) else ""
                raise FileWrong(f"{self.path}, row {row}: {error}{meant}") from None
            yield Record(tuple(fields), Place(row, offset))


def is_blank(fields: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a row says nothing: an empty line, or one of delimiters alone, as spreadsheets write below a table.

    What a report says about a row is not the row's.
    """
    if not any(fields):
        return True
    kept = (field for at, field in enumerate(fields) if at >= len(columns) or columns[at] not in REPORT_COLUMNS)
    return not any(field.strip() for field in kept)


def _require_columns(kind: Kind, columns: tuple[str, ...]) -> None:
    known = (*REPORT_COLUMNS, *COLUMNS[kind])
    for name in columns:
        if name not in known:
            _require_utf_8(name)
            if meant := _delimiter_between(name, known):
                raise FileWrong(f"there is no column {name!r} in {kind}; did you mean --delimiter {meant}?")
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise FileWrong(f"there is no column {name!r} in {kind}; {meant}there are {', '.join(COLUMNS[kind])}")
    if len(set(columns)) < len(columns):
        raise FileWrong("a column is named twice")
    missing = [name for name in REQUIRED[kind] if name not in columns]
    if missing:
        raise FileWrong(f"{kind} need a column {', '.join(missing)}")


def _require_utf_8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise FileWrong("the names of the columns are not in UTF-8: save it as CSV in UTF-8") from None


def _delimiter_between(name: str, known: Sequence[str]) -> str:
    """How to name the delimiter that makes columns of what was taken for one; nothing if none does."""
    for delimiter, spelled in _DELIMITERS.items():
        parts = [part.strip(' "') for part in name.split(delimiter)]
        if len(parts) > 1 and any(part in known for part in parts):
            return spelled
    return ""
