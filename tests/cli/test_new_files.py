"""Files that commands make: whole or not there, over no other, and never two commands in one."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import closing
from pathlib import Path

import click
import pytest

from points_grpc.cli.export_file import InUse, PartFile, new_file


def test_there_once_it_is_whole(tmp_path: Path) -> None:
    """For its owner alone, and nothing beside it."""
    path = tmp_path / "new"
    with new_file(path) as out:
        out.write(b"all of it")
        before = path.exists()

    assert (False, b"all of it", 0o600) == (before, path.read_bytes(), path.stat().st_mode & 0o777)
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_over_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool) -> None:
    """Neither over one that came meanwhile, also where the file system has no links; unless it is meant to."""
    path = tmp_path / "new"
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", _refused)
    made = new_file(path)
    made.__enter__().write(b"theirs")
    path.write_text("mine")
    with pytest.raises(click.ClickException, match="file exists"):
        made.__exit__(None, None, None)
    kept = path.read_text()
    with closing(PartFile(path, replaces=True)) as replacing:
        replacing.write(b"meant")
        replacing.finish()
    path.rename(tmp_path / "other")
    with new_file(path) as again:
        again.write(b"again")

    assert ("mine", b"again") == (kept, path.read_bytes())
    assert ["new", "other"] == sorted(one.name for one in tmp_path.iterdir())


def _refused(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_one_command_at_a_time(tmp_path: Path) -> None:
    """The second is told, and spoils nothing."""
    path = tmp_path / "new"
    with new_file(path) as out:
        out.write(b"whole")
        with pytest.raises(click.ClickException, match="another command writes"), new_file(path):
            pass
        with pytest.raises(InUse):
            PartFile(path)

    assert b"whole" == path.read_bytes()


def test_the_name_was_given_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened the part of another, and locks it when that one is done, has its file in hand: it is let go of."""
    path = tmp_path / "new"
    first, lock = PartFile(path, replaces=True), fcntl.flock
    first.write(b"whole")

    def later(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        first.finish()
        first.close()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", later)
    with closing(PartFile(path, replaces=True)):
        kept = path.read_bytes()

    assert b"whole" == kept == path.read_bytes()


def test_what_a_kill_left_is_begun_anew(tmp_path: Path) -> None:
    """And what fails leaves nothing."""
    path, part = tmp_path / "new", tmp_path / "new.part"
    part.write_text("left by a kill" * 100)
    with new_file(path) as out:
        out.write(b"short")
    with closing(PartFile(tmp_path / "other")) as other:
        other.write(b"half")
    os.symlink(path, tmp_path / "linked.part")
    with pytest.raises(click.ClickException), new_file(tmp_path / "linked"):
        pass

    assert b"short" == path.read_bytes()
    assert ["linked.part", "new"] == sorted(one.name for one in tmp_path.iterdir())
