"""A CSV file, read twice in flat memory: once whole, for its digest and its form; then row by row from a place in it.

Rows are counted as a spreadsheet counts them: the first line, with the names of the columns, is row 1.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from points_grpc.cli.import_rows import COLUMNS, REPORT_COLUMNS, REQUIRED, Kind

_BOM = b"\xef\xbb\xbf"


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
    """What is known of a file that was read once: its columns, the end of the first row, and how many rows follow."""

    columns: tuple[str, ...]
    first: Place
    rows: int
    digest: str
    stamp: tuple[int, int]


class CsvFile:
    """An open file."""

    def __init__(self, path: Path, delimiter: str) -> None:
        """Opens it."""
        self.path = path
        self._delimiter = delimiter
        self._file: BinaryIO = path.open("rb")

    def close(self) -> None:
        """Closes it."""
        self._file.close()

    def survey(self, kind: Kind) -> Survey:
        """Reads all of it. Raises `FileWrong`, so that nothing is sent of a file that has no form."""
        stamp = self.stamp()
        digest = hashlib.sha256()
        header: Record | None = None
        rows = 0
        for record in self._records(Place(), digest):
            if header is None:
                header = record
            elif record.fields:
                rows += 1
        if header is None:
            raise FileWrong(f"{self.path} is empty: the first line names the columns")
        columns = tuple(name.strip().lower() for name in header.fields)
        _require_columns(kind, columns)
        return Survey(columns, header.end, rows, digest.hexdigest(), stamp)

    def records(self, start: Place) -> Iterator[Record]:
        """The rows from a place on; empty lines are counted and left out."""
        return (record for record in self._records(start) if record.fields)

    def stamp(self) -> tuple[int, int]:
        """Changes when somebody writes to the file."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

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
                raise FileWrong(f"{self.path}, row {row}: {error}") from None
            yield Record(tuple(fields), Place(row, offset))


def _require_columns(kind: Kind, columns: tuple[str, ...]) -> None:
    known = (*REPORT_COLUMNS, *COLUMNS[kind])
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise FileWrong(f"there is no column {name!r} in {kind}; {meant}there are {', '.join(COLUMNS[kind])}")
    if len(set(columns)) < len(columns):
        raise FileWrong("a column is named twice")
    missing = [name for name in REQUIRED[kind] if name not in columns]
    if missing:
        raise FileWrong(f"{kind} need a column {', '.join(missing)}")
