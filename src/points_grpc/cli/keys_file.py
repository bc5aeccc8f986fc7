"""The file with the secret keys: outside the database, readable by its owner alone, made when a server first needs it.

One key is active and makes new things; the others check what they made. A key that is added says from when on it is
active, so that every process knows it before any uses it. Ids are never used twice: what a lost file made is not
mistaken for what its successor did.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from points_grpc.service.keyring import KEY_BYTES, Keyring


@dataclass(frozen=True, slots=True)
class Following:
    """The key that will be the active one, and from when on."""

    key_id: str
    since: datetime


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What stands in the file."""

    active: str
    keys: dict[str, bytes]
    following: Following | None = None

    def active_at(self, now: datetime) -> str:
        """The key that makes new things at a time."""
        due = self.following is not None and self.following.since <= now
        return self.following.key_id if due and self.following else self.active

    def keyring_at(self, now: datetime) -> Keyring:
        """The keyring at a time."""
        return Keyring(self.keys, self.active_at(now))

    def with_new_key(self, since: datetime, now: datetime) -> Keys:
        """A new key, active from a time on. What was to follow must be active by now."""
        key_id = new_key_id()
        assert key_id not in self.keys, "random ids of 32 bits, among a handful"
        return Keys(
            self.active_at(now),
            {**self.keys, key_id: secrets.token_bytes(KEY_BYTES)},
            Following(key_id, since),
        )

    def without(self, key_id: str, now: datetime) -> Keys:
        """One key less; never the active one."""
        following = None if self.following and self.following.since <= now else self.following
        if following and following.key_id == key_id:
            following = None
        keys = {one: key for one, key in self.keys.items() if one != key_id}
        return replace(self, active=self.active_at(now), keys=keys, following=following)


def load_or_create(path: Path) -> Keyring:
    """The keyring of a file; a new file gets one random key and mode 0600."""
    return load(path, create=True).keyring_at(datetime.now(UTC))


def keyring_of(path: Path) -> Keyring:
    """The keyring of a file that is there: for whoever signs beside a server, which has to know the key."""
    if not path.exists():
        raise click.ClickException(
            f"the keys file {path} cannot be read: no such file or directory; a server makes it at its first start, "
            "and `points-grpc secrets create` before that"
        )
    return load(path).keyring_at(datetime.now(UTC))


def load(path: Path, *, create: bool = False) -> Keys:
    """What stands in a file; with `create`, a file that is not there is made, with one random key."""
    try:
        if create and not path.exists():
            _create(path)
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if mode & 0o077:
        raise click.ClickException(f"{path} can be read by others: chmod 600 it, or rotate its keys if they leaked")
    try:
        found = _parsed(content)
        found.keyring_at(datetime.now(UTC))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.ClickException(f"{path} is no keys file: it was not made by points-grpc, or is damaged") from None
    return found


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lets nobody else change a file meanwhile: what one adds between the other's reading and writing would be lost.

    Whoever only reads needs none of it.
    """
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def save(path: Path, keys: Keys) -> None:
    """Replaces a file as a whole: who reads it meanwhile has the one before or this one."""
    path = path.resolve()  # a link stays one
    beside = _beside(path)
    try:
        _write(beside, keys)
        beside.replace(path)
        _sync_folder(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise click.ClickException(f"the keys file {path} cannot be replaced: {reason}") from None


def new_key_id() -> str:
    """An id that no key had before."""
    return f"k{secrets.token_hex(4)}"


def _parsed(content: bytes) -> Keys:
    document = json.loads(content)
    keys = {key_id: base64.b64decode(text) for key_id, text in document["keys"].items()}
    following = document.get("next")
    if following is None:
        return Keys(document["active"], keys)
    since = datetime.fromisoformat(following["from"])
    if following["key"] not in keys or since.tzinfo is None:
        raise ValueError("the next key is not there, or not from a time in UTC on")
    return Keys(document["active"], keys, Following(following["key"], since))


def _create(path: Path) -> None:
    """Makes a file with one key, whole or not at all. Where another process was faster, its keys are as good."""
    path = path.resolve()
    beside, key_id = _beside(path), new_key_id()
    try:
        _write(beside, Keys(key_id, {key_id: secrets.token_bytes(KEY_BYTES)}))
        with suppress(FileExistsError):
            path.hardlink_to(beside)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path)


def _beside(path: Path) -> Path:
    """A name that nobody reads."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _sync_folder(path: Path) -> None:
    """Has the name of a file on the disk."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unreadable(path: Path, error: OSError) -> click.ClickException:
    reason = (error.strerror or str(error)).lower()
    return click.ClickException(f"the keys file {path} cannot be read or made: {reason}")


def _write(path: Path, keys: Keys) -> None:
    """Writes a file that is not there yet."""
    content: dict[str, object] = {
        "active": keys.active,
        "keys": {key_id: base64.b64encode(key).decode() for key_id, key in keys.keys.items()},
    }
    if keys.following:
        content["next"] = {"key": keys.following.key_id, "from": keys.following.since.isoformat()}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
