"""Looks at the files of an import before anything is sent: nothing of somebody else's is written over.

The file itself is read twice, so that it must stand on a disk. The report and the progress are written over again and
again: what stands in their places must be theirs, by its first bytes, or nothing.
"""

from __future__ import annotations

from pathlib import Path

from points_grpc.cli.import_progress import REPORT_BEGINS, beside, is_progress


class PlaceWrong(Exception):
    """A file is not where it should be, or something else is; says what to do."""


def require_source(path: Path) -> None:
    """Raises `PlaceWrong` unless a file can be read twice."""
    if not path.is_file():
        raise PlaceWrong(f"{path} is no regular file: an import reads it twice. Write it to a file, and import that")


def require_places(source: Path, report: Path, progress: Path | None) -> None:
    """Raises `PlaceWrong` where something else would be lost, `OSError` where nothing can be written.

    `progress` is None where none is kept.
    """
    _require_other(source, "the file to import", report, "--report")
    _require_ours(report, "--report", "is no report of refused rows", is_ours=_is_report(report))
    if progress is None:
        return
    _require_other(source, "the file to import", progress, "--resume-file")
    _require_other(report, "the report", progress, "--resume-file")
    _require_ours(progress, "--resume-file", "is no progress of an import", is_ours=is_progress(progress))
    try:
        probe = beside(progress)
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        error.filename = str(progress)
        raise


def _require_other(path: Path, what: str, other: Path, option: str) -> None:
    is_same = other.samefile(path) if other.exists() and path.exists() else other.resolve() == path.resolve()
    if is_same:
        raise PlaceWrong(f"{other} is {what}, and would be lost: name another file with {option}")


def _require_ours(path: Path, option: str, why_not: str, *, is_ours: bool) -> None:
    if not is_ours:
        raise PlaceWrong(f"{path} is there and {why_not}: move it away, or name another file with {option}")


def _is_report(path: Path) -> bool:
    """Whether a report may be put there: where one is, or an empty file, or nothing."""
    if not path.exists():
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(REPORT_BEGINS)) in {b"", REPORT_BEGINS}
