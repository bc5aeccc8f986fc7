"""The keys file and `points-grpc secrets`: made, rotated, retired, followed by a process that serves."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from points_grpc.cli import keys_file
from points_grpc.cli.main import main
from points_grpc.cli.secret_keys import KEYS_MAX, STILL_USED_S
from points_grpc.cli.watched_keys import WatchedKeys
from points_grpc.storage import key_uses
from points_grpc.storage.migrate import upgrade

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keys file with one key, beside an empty database."""
    made = tmp_path / "points.db.keys.json"
    keys_file.load_or_create(made)
    return made


class Told:
    """Keeps what a log is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        """Something usual."""
        self.events.append(event)

    def error(self, event: str, **fields: object) -> None:
        """Something broken."""
        self.events.append(event)


class Clock:
    """Says what time it is."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def secrets(path: Path, *arguments: str) -> Result:
    """Runs a command beside the database of the file."""
    database = f"sqlite:///{path.parent / 'points.db'}"
    return CliRunner().invoke(main, ["secrets", *arguments, "--database", database], catch_exceptions=False)


def test_no_two_files_use_the_same_id(tmp_path: Path) -> None:
    """What a lost file made is not mistaken for what its successor did."""
    first, second = (keys_file.load_or_create(tmp_path / name) for name in ("a.json", "b.json"))

    assert first.active != second.active


def test_a_new_key_is_known_before_it_is_active(path: Path) -> None:
    """A key that is added is at hand at once, and makes new things from its time on."""
    before = keys_file.load(path)
    keys_file.save(path, before.with_new_key(SOON, NOW))

    found = keys_file.load(path)
    assert found.following is not None
    assert found.keyring_at(NOW).key_ids == {before.active, found.following.key_id}
    assert [before.active, found.following.key_id] == [found.active_at(NOW), found.active_at(SOON)]
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path.name] == [one.name for one in path.parent.iterdir()]


def test_a_process_follows_its_file(path: Path) -> None:
    """A keyring in use learns a new key when the file changes, and activates it when its time has come."""
    told, clock = Told(), Clock()
    keys = WatchedKeys(path, told, now=clock)
    old = keys.keyring.active
    keys_file.save(path, keys_file.load(path).with_new_key(SOON, NOW))
    keys.look()
    keys.look()

    assert (old, 2) == (keys.keyring.active, len(keys.keyring.key_ids))

    clock.now = SOON
    keys.look()

    assert old != keys.keyring.active
    assert ["keys_renewed", "keys_renewed"] == told.events


@pytest.mark.parametrize("damage", ["gone", "garbled", "readable"])
def test_a_process_never_goes_without_its_keys(path: Path, damage: str) -> None:
    """A file that is gone, garbled or readable by others is told once; what was read before stays in force."""
    told = Told()
    keys = WatchedKeys(path, told)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "garbled":
        path.write_text('{"active": "k1", "keys": {}}')
    else:
        path.write_bytes(whole + b" ")
        path.chmod(0o644)
    active = keys.keyring.active
    keys.look()
    keys.look()

    assert active == keys.keyring.active
    assert ["keys_not_renewed"] == told.events


def test_a_look_that_fails_ends_nothing(path: Path) -> None:
    """Whatever a look fails of, it is told and counted, and a key that is added later is taken over all the same."""
    told, clock, broken = Told(), Clock(), True

    def now() -> datetime:
        if broken:
            raise OverflowError
        return clock()

    broken = False
    keys = WatchedKeys(path, told, now=now, every_s=0.001)
    broken = True
    keys.start()
    until(lambda: keys.failures >= 2)
    broken = False
    keys_file.save(path, keys_file.load(path).with_new_key(SOON, NOW))
    until(lambda: len(keys.keyring.key_ids) == 2)
    keys.stop()

    assert ["keys_look_failed"] * keys.failures + ["keys_renewed"] == told.events


def test_a_log_that_fails_ends_nothing(path: Path) -> None:
    """Nor does a log that cannot be written."""

    class Full(Told):
        def error(self, event: str, **fields: object) -> None:
            raise OSError

        info = error

    clock = Clock()
    keys = WatchedKeys(path, Full(), now=clock, every_s=0.001)
    keys_file.save(path, keys_file.load(path).with_new_key(NOW, NOW))
    keys.start()
    until(lambda: keys.failures >= 1)
    keys_file.save(path, keys_file.load(path).with_new_key(NOW, NOW))
    until(lambda: len(keys.keyring.key_ids) == 3)
    keys.stop()

    assert {*keys_file.load(path).keys} == keys.keyring.key_ids


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that a thread does."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def test_rotate_and_list(path: Path) -> None:
    """A rotation says from when on the new key is used; the list says so too, and shows no key."""
    upgrade(f"sqlite:///{path.parent / 'points.db'}")
    old = keys_file.load(path).active
    said = secrets(path, "rotate", "--in", "3600")
    new = said.output.split()[0]
    listed = secrets(path, "list")
    content = json.loads(path.read_text())

    assert 0 == said.exit_code
    assert f"{new} makes what is new from" in said.output
    assert {old: "active", new: "from"} == {line.split()[0]: line.split()[1] for line in listed.output.splitlines()[1:]}
    assert not [key for key in content["keys"].values() if key in listed.output + said.output]
    assert {"active", "keys", "next"} == content.keys()


def test_one_rotation_at_a_time(path: Path) -> None:
    """While a key is still to follow, another one is refused; it may be retired, as nothing was made with it."""
    upgrade(f"sqlite:///{path.parent / 'points.db'}")
    new = secrets(path, "rotate").output.split()[0]
    again = secrets(path, "rotate")
    retired = secrets(path, "retire", new)

    assert (1, f"Error: {new} is to follow at") == (
        again.exit_code,
        again.output[: len(f"Error: {new} is to follow at")],
    )
    assert (0, f"retired {new}\n") == (retired.exit_code, retired.output)
    assert keys_file.load(path).following is None


def test_two_changes_wait_for_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one adds while another is between reading and writing would be lost, in use or not."""
    upgrade(f"sqlite:///{path.parent / 'points.db'}")
    old = keys_file.load(path).active
    secrets(path, "rotate", "--in", "0")
    rotation = threading.Thread(target=secrets, args=(path, "rotate", "--in", "0"))
    with keys_file.alone(path):
        rotation.start()
        time.sleep(0.3)
        meanwhile = len(keys_file.load(path).keys)
    rotation.join(30)
    both = len(keys_file.load(path).keys)
    held = []

    def looked_up(*_: object) -> dict[str, object]:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(True)
        os.close(folder)
        return {}

    monkeypatch.setattr(key_uses, "key_uses", looked_up)
    retired = secrets(path, "retire", "--lose", old)

    assert (2, 3) == (meanwhile, both)
    assert (0, [True]) == (retired.exit_code, held), retired.output


def test_a_link_stays_one(path: Path) -> None:
    """The file behind it is changed, which others may know by another name."""
    link = path.parent / "link.json"
    link.symlink_to(path.name)
    done = CliRunner().invoke(main, ["secrets", "rotate", "--keys-file", str(link)], catch_exceptions=False)

    assert (0, True, 2) == (done.exit_code, link.is_symlink(), len(keys_file.load(path).keys))


def test_a_file_that_cannot_be_made_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full nothing is left that a later start would take for a damaged file."""
    path = tmp_path / "keys.json"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(click.ClickException, match="no space left"):
            keys_file.load(path, create=True)

    assert [] == list(tmp_path.iterdir())
    assert keys_file.load(path, create=True).active


def test_who_makes_it_second_takes_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that start together have the same keys, and never read a file that is half there."""
    path = tmp_path / "keys.json"
    write, first = keys_file._write, []

    def slower(beside: Path, keys: keys_file.Keys) -> None:
        write(beside, keys)
        assert not path.exists()
        with monkeypatch.context() as faster:
            faster.setattr(keys_file, "_write", write)
            first.append(keys_file.load(path, create=True).active)

    monkeypatch.setattr(keys_file, "_write", slower)
    second = keys_file.load(path, create=True).active

    assert ([second], [path]) == (first, list(tmp_path.iterdir()))


def test_what_is_not_retired(path: Path) -> None:
    """Neither the active key nor one that is not there."""
    active = keys_file.load(path).active

    assert f"Error: {active} is active: rotate first\n" == secrets(path, "retire", active).output
    assert f"Error: there is no key k9 in {path}\n" == secrets(path, "retire", "k9").output


def test_an_old_key_is_retired(path: Path) -> None:
    """A moment after a rotation the old key can go, if nothing depends on it; the new one stays active.

    Not sooner: processes that have not looked yet make things with it, which nobody could count.
    """
    upgrade(f"sqlite:///{path.parent / 'points.db'}")
    old = keys_file.load(path).active
    new = secrets(path, "rotate", "--in", "0").output.split()[0]
    too_early = secrets(path, "retire", old)
    a_while_ago = datetime.now(UTC) - timedelta(seconds=STILL_USED_S)
    keys_file.save(path, replace(keys_file.load(path), following=keys_file.Following(new, a_while_ago)))
    public = keys_file.load(path).keyring_at(datetime.now(UTC)).checkpoint_keys()[old].hex()
    retired = secrets(path, "retire", old)

    told = f"retired {old}\ncheckpoints that it signed are proved with --public-key {public}: keep it\n"
    assert (1, True) == (too_early.exit_code, f"{old} was active a moment ago: retire it after" in too_early.output)
    assert (0, told) == (retired.exit_code, retired.output)
    assert {new} == keys_file.load_or_create(path).key_ids


def test_keys_are_bounded(path: Path) -> None:
    """A file holds so many keys and no more."""
    for _ in range(KEYS_MAX - 1):
        assert 0 == secrets(path, "rotate", "--in", "0").exit_code
    refused = secrets(path, "rotate", "--in", "0")

    assert (1, True) == (refused.exit_code, refused.output.startswith(f"Error: the file has {KEYS_MAX} keys"))


@pytest.mark.parametrize(
    "following",
    [{"key": "k9", "from": NOW.isoformat()}, {"key": "k1", "from": "2026-11-22T12:00:00"}, {"key": "k1"}, "k1"],
    ids=["not there", "no zone", "no time", "text"],
)
def test_a_next_key_that_is_none(path: Path, following: object) -> None:
    """A file whose next key is not there, or has no time in UTC, is no keys file."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "keys": {"k1": "A" * 43 + "="}, "active": "k1", "next": following}))

    with pytest.raises(click.ClickException, match="is no keys file"):
        keys_file.load(path)


def test_the_file_is_made_alone(tmp_path: Path) -> None:
    """`create` makes a keys file, for its owner alone, and nothing beside it; never over one that is there."""
    path = tmp_path / "keys.json"
    arguments = ["secrets", "create", "--keys-file", str(path)]
    made, again = CliRunner().invoke(main, arguments), CliRunner().invoke(main, arguments)

    assert (0, f"{path}: {keys_file.load(path).active}\n") == (made.exit_code, made.output)
    assert (1, f"Error: {path} is there already\n") == (again.exit_code, again.output)
    assert ["keys.json"] == [one.name for one in tmp_path.iterdir()]
