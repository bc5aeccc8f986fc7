"""How far an import came, in a file beside the CSV; and the report of refused rows, which belongs to it.

The file of the progress saves time and decides nothing: it is believed only if it is of the same import of the same
bytes, if the report is there, and if the server has the rows that it names as witnesses. Else the import starts from
its first row, and what was done before is replayed under its request ids.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from points_grpc.cli.import_file import Place
from points_grpc.cli.import_rows import REPORT_COLUMNS, Defaults
from points_grpc.cli.spreadsheets import neutral

_FORM = 2

REPORT_BEGINS = ",".join(REPORT_COLUMNS).encode()
"""What every report begins with."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows so far; `replayed` of `accepted`, and `repeated` of `refused`, had it before this run.

    Points of `expired` of `accepted` had expired on arrival.
    """

    accepted: int = 0
    replayed: int = 0
    expired: int = 0
    refused: int = 0
    repeated: int = 0
    empty: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.accepted + self.refused + self.empty

    def of_an_earlier_run(self) -> Counts:
        """The same, once another run goes on with them."""
        return replace(self, replayed=self.accepted, repeated=self.refused)


@dataclass(frozen=True, slots=True)
class Progress:
    """Every row up to `place` has its outcome. `witnesses` are accepted rows, the last ones before it.

    `name` and `defaults` are what the import was told: what the outcomes are worth for another run. `report_digest` is
    that of the report's first `report_bytes`.
    """

    import_id: str
    digest: str
    place: Place
    counts: Counts = Counts()
    report_bytes: int = 0
    witnesses: tuple[int, ...] = ()
    finished: bool = False
    name: str = ""
    defaults: Defaults = field(default_factory=Defaults)
    report_digest: str = ""


def load(path: Path) -> Progress | None:
    """What the file says; None if there is none that can be read whole."""
    try:
        wrapped = json.loads(path.read_bytes())
        said = wrapped["progress"]
        if wrapped["form"] != _FORM or wrapped["sha256"] != _digest(said):
            return None
        place, counts, witnesses = Place(**said["place"]), Counts(**said["counts"]), tuple(said["witnesses"])
        defaults = Defaults(**said["defaults"])
        return Progress(**{**said, "place": place, "counts": counts, "witnesses": witnesses, "defaults": defaults})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_progress(path: Path) -> bool:
    """Whether a progress may be put there: where one is, of whatever form, or an empty file, or nothing."""
    if not path.exists():
        return True
    if not path.is_file():
        return False
    raw = path.read_bytes()
    try:
        return not raw or {"form", "progress", "sha256"} == set(json.loads(raw))
    except (ValueError, TypeError):
        return False


def is_as_left(report: Path, progress: Progress) -> bool:
    """Whether a report is as far as the progress goes what was written; or is not there, or has no rows.

    A run that begins anew and is killed at once leaves one without rows.
    """
    if not progress.report_bytes or not report.exists():
        return True
    with report.open("rb") as file:
        said = file.read(progress.report_bytes)
    return b"\n" not in said.rstrip(b"\n") or hashlib.sha256(said).hexdigest() == progress.report_digest


def beside(path: Path) -> Path:
    """Where a progress is written before it takes its place."""
    return path.with_name(f"{path.name}.{os.getpid()}.new")


def save(path: Path, progress: Progress) -> None:
    """Replaces the file, whole: a kill leaves the old one or the new one."""
    said = asdict(progress)
    new = beside(path)
    with new.open("w") as file:
        json.dump({"form": _FORM, "progress": said, "sha256": _digest(said)}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _digest(said: object) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class InUse(Exception):
    """Another process writes this report."""


class Report:
    """The report of refused rows, in the order of the file. Locked while it is open: an import runs once at a time."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Opens it and leaves what it holds. Raises `InUse`."""
        self.path = path
        self._columns = [name not in REPORT_COLUMNS for name in columns]
        self._names = [name for name, kept in zip(columns, self._columns, strict=True) if kept]
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InUse(f"another import writes {path}") from None
        self.bytes = self._file.seek(0, os.SEEK_END)
        self._sum = hashlib.sha256()

    def close(self) -> None:
        """Closes and unlocks it."""
        self._file.close()

    def start(self) -> None:
        """Forgets what it holds."""
        self.go_on(0)
        self._write([(*REPORT_COLUMNS, *self._names)])

    def go_on(self, size: int) -> None:
        """Forgets what lies beyond a size: rows that will be sent again."""
        self._file.truncate(size)
        self._file.seek(0)
        self._sum = hashlib.sha256(self._file.read())
        self.bytes = size

    def digest(self) -> str:
        """The digest of all of it."""
        return self._sum.hexdigest()

    def add(self, row: int, code: tuple[int, str, str], fields: Sequence[str]) -> None:
        """Notes a refused row as it stood in the file, to be corrected and imported: fields beyond the columns too."""
        number, reason, message = code
        kept = [text for text, kept in zip(fields, self._columns, strict=False) if kept]
        kept += fields[len(self._columns) :]
        self._write([(str(row), str(number), reason, neutral(message), *map(neutral, kept))])

    def flush(self) -> None:
        """Has it on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write(self, rows: Iterable[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        raw = text.getvalue().encode("utf-8", "surrogateescape")  # as import_file decodes: the same bytes again
        self._file.write(raw)
        self._sum.update(raw)
        self.bytes += len(raw)


def after(progress: Progress, place: Place, counts: Counts, *, report: Report, witness: int, kept: int) -> Progress:
    """The progress once some more rows have their outcome; `witness` 0 if none of them was accepted."""
    return replace(
        progress,
        place=place,
        counts=counts,
        report_bytes=report.bytes,
        report_digest=report.digest(),
        witnesses=(*progress.witnesses, witness)[-kept:] if witness else progress.witnesses,
    )
