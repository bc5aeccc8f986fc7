"""Nothing of somebody else's is written over by an import, and what cannot be read or written is a sentence.

All of it is told before anything is sent: the server of these tests is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.import_file import Place
from points_grpc.cli.import_progress import Progress, Report, is_as_left, load, save
from points_grpc.cli.main import main

POINTS = "customer_id,points,source\n1,5,GOODWILL\n"
Import = Callable[..., Result]


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """Runs `points-grpc import points` with a good file p.csv in the folder of the test, and no server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text(POINTS)
    nowhere = ("--address", "127.0.0.1:1", "--token", "pk_a_b", "--wait", "0")
    return lambda *arguments: CliRunner().invoke(main, ("import", "points", *nowhere, *(arguments or ("p.csv",))))


def told(done: Result) -> str:
    """What was printed, on one line."""
    return " ".join(done.output.split())


@pytest.mark.parametrize("option", ["--report", "--resume-file"])
@pytest.mark.parametrize("name", ["p.csv", "./p.csv", "link.csv", "hard.csv"])
def test_the_file_itself_is_not_written_over(points: Import, tmp_path: Path, option: str, name: str) -> None:
    """The report and the progress are other files than the one to import, by whatever name."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "p.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "p.csv")
    done = points("p.csv", option, name)

    assert (2, POINTS) == (done.exit_code, (tmp_path / "p.csv").read_text())
    assert f"is the file to import, and would be lost: name another file with {option}" in told(done)


def test_report_and_progress_are_two_files(points: Import, tmp_path: Path) -> None:
    """One name for both is refused, also where neither is there."""
    done = points("p.csv", "--report", "x", "--resume-file", "./x")

    assert (2, ["p.csv"]) == (done.exit_code, sorted(one.name for one in tmp_path.iterdir()))
    assert "x is the report, and would be lost" in told(done)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--report", "salary,name\n1,Asha\n"),
        ("--report", '{"form":2}'),
        ("--resume-file", "salary,name\n1,Asha\n"),
        ("--resume-file", '{"form":2}'),
        ("--resume-file", "[1]"),
        ("--resume-file", "7"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_what_is_none_of_ours_stays(points: Import, tmp_path: Path, option: str, text: str, is_named: bool) -> None:
    """A file of another kind in the place of the report or the progress is left as it is, at their usual names too."""
    usual = "p.csv.refused.csv" if option == "--report" else "p.csv.progress.json"
    other = tmp_path / ("other" if is_named else usual)
    other.write_text(text)
    done = points("p.csv", option, "other") if is_named else points()

    assert (2, text) == (done.exit_code, other.read_text())
    assert "move it away" in told(done)


@pytest.mark.parametrize("option", ["--report", "--resume-file"])
def test_no_devices(points: Import, tmp_path: Path, option: str) -> None:
    """A pipe is no place for a report or a progress."""
    os.mkfifo(tmp_path / "pipe")
    done = points("p.csv", option, "pipe")

    assert 2 == done.exit_code, done.output
    assert (tmp_path / "pipe").is_fifo()


def test_our_own_are_gone_on_with(points: Import, tmp_path: Path) -> None:
    """Empty files, and what an import wrote, are taken."""
    (tmp_path / "p.csv.refused.csv").touch()
    (tmp_path / "p.csv.progress.json").touch()
    first, again = points(), points()

    assert (1, 1) == (first.exit_code, again.exit_code)
    assert "nothing got an answer" in told(first)
    assert told(first) == told(again)
    assert "row,code,reason,message,customer_id,points,source\n" == (tmp_path / "p.csv.refused.csv").read_text()


@pytest.mark.parametrize("option", ["--report", "--resume-file"])
def test_a_folder_that_is_not_there(points: Import, tmp_path: Path, option: str) -> None:
    """It is told in a sentence, before anything is sent."""
    done = points("p.csv", option, "nowhere/x")

    assert (1, True) == (done.exit_code, isinstance(done.exception, SystemExit))
    assert "nowhere/x: no such file or directory" in told(done)
    assert "nothing got an answer" not in told(done)


def test_a_pipe_cannot_be_read_twice(points: Import, tmp_path: Path) -> None:
    """A file is read twice; what can be read once alone is refused."""
    os.mkfifo(tmp_path / "pipe.csv")
    done = points("pipe.csv")

    assert (2, True) == (done.exit_code, isinstance(done.exception, SystemExit))
    assert "is no regular file: an import reads it twice" in told(done)


def test_a_full_disk(points: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is a sentence, and no stack trace."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = points()

    assert (1, True) == (done.exit_code, isinstance(done.exception, SystemExit))
    assert "p.csv.refused.csv: no space left on device. Every row up to here has its outcome" in told(done)


def test_rows_come_back_as_they_stood(tmp_path: Path) -> None:
    """A refused row is in the report with the bytes and the fields that it had: those beyond the columns, too."""
    report = Report(tmp_path / "r.csv", ("row", "mobile", "first_name"))
    report.start()
    report.add(2, (1, "A", "b"), ("9", "12", b"Jos\xe9".decode("utf-8", "surrogateescape")))
    report.add(3, (1, "A", "b"), ("9", "12", "Asha", "surplus", "=more"))
    report.add(4, (1, "A", "b"), ("9", "12"))
    report.close()
    lines = (tmp_path / "r.csv").read_bytes().splitlines()

    assert [
        b"row,code,reason,message,mobile,first_name",
        b"2,1,A,b,12,Jos\xe9",
        b"3,1,A,b,12,Asha,surplus,'=more",
        b"4,1,A,b,12",
    ] == lines


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (None, True),
        (b"", True),
        (b"row,code,reason,message,mobile\n", True),
        (b"row,code,reason,message,mobile\n2,1,A,b,12\n", True),
        (b"row,code,reason,message,mobile\n2,1,A,b,12\n3,1,A,b,13\n", True),
        (b"row,code,reason,message,mobile\n2,1,A,b,13\n", False),
        (b"row,code,reason,message,mobile\n2,1,A,b,1\n", False),
    ],
)
def test_what_a_report_may_have_become(tmp_path: Path, left: bytes | None, expected: bool) -> None:
    """As it was written, with more rows after a kill, or begun anew; anything else is somebody's correction."""
    path = tmp_path / "r.csv"
    report = Report(path, ("mobile",))
    report.start()
    report.add(2, (1, "A", "b"), ("12",))
    report.close()
    progress = Progress("i", "d", Place(), report_bytes=report.bytes, report_digest=report.digest())
    path.unlink()
    if left is not None:
        path.write_bytes(left)

    assert expected is is_as_left(path, progress)


def test_a_progress_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With what the import was told."""
    written = Progress("i", "d", Place(3, 40), witnesses=(2, 3), name="march")
    save(tmp_path / "p", written)

    assert written == load(tmp_path / "p")
