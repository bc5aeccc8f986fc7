"""Where an export writes, and whether another run is advised; the server of most of these tests is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.main import main

Command = Callable[..., Result]


def exported(*arguments: str) -> Result:
    """Runs `points-grpc export wallets` without a server."""
    nowhere = ("--address", "127.0.0.1:1", "--token", "pk_a_b", "--wait", "0")
    return CliRunner().invoke(main, ("export", "wallets", *arguments, *nowhere))


@pytest.mark.parametrize("options", [(), ("--force",)])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_what_is_no_regular_file_is_left(tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    """A symbolic link, a pipe or a device is neither replaced nor written through, with --force either."""
    path, target = tmp_path / "w.csv", tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    if kind == "link":
        target.write_text("theirs")
    before = path.lstat()
    done = exported(str(path), *options)

    assert (2, before.st_ino) == (done.exit_code, path.lstat().st_ino), done.output
    assert "w.csv is no regular file: name another one" in " ".join(done.output.split())
    assert kind != "link" or target.read_text() == "theirs"


def test_a_part_that_is_a_link_is_left(tmp_path: Path) -> None:
    """What FILE.part points to is not emptied."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "w.csv.part").symlink_to(tmp_path / "theirs")
    done = exported(str(tmp_path / "w.csv"))

    assert (1, "theirs") == (done.exit_code, (tmp_path / "theirs").read_text())
    assert (tmp_path / "w.csv.part").is_symlink()


def test_no_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export is whole or not there, which standard output cannot be; `-` is no name of a file."""
    monkeypatch.chdir(tmp_path)
    done = exported("-")

    assert (2, []) == (done.exit_code, list(tmp_path.iterdir()))
    assert "an export goes to a file" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "says", "again"),
    [
        (("--program", "9999"), "895", False),
        (("--token", "pk_a_b"), "UNAUTHENTICATED", False),
        (("--address", "127.0.0.1:1", "--wait", "0"), "nothing got an answer", True),
    ],
)
def test_whether_another_run_helps(command: Command, arguments: tuple[str, ...], says: str, again: bool) -> None:
    """Another run is advised where it can get further, and every sentence has one full stop."""
    done = command("export", "wallets", "w.csv", *arguments)
    told = " ".join(done.output.split())

    assert 1 == done.exit_code, told
    assert says in told
    assert told.endswith(". w.csv was not written" + ("; run it again" if again else ""))
    assert ".." not in told
