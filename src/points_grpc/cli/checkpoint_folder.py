"""The folder that a server puts its checkpoints into: a file for each, named by its time, none ever changed or removed.

A file is there whole or not at all, whenever a process is killed or the power goes: it is written under a name that
nobody reads, forced to the disk, and renamed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from points_grpc.domain.checkpoint import Checkpoint, NoCheckpoint, from_text, to_text
from points_grpc.service.checkpointing import Kept
from points_grpc.service.keyring import is_signed

PREFIX, SUFFIX = "journal-", ".json"

_UNFINISHED = f".{PREFIX}"


class CheckpointFolder:
    """A folder of checkpoints (`service.checkpointing.Shelf`). Used by one thread."""

    def __init__(self, folder: Path, unreadable: Callable[[str], None] = lambda _: None) -> None:
        """Looks at nothing yet. `unreadable` is told, once, which file is no checkpoint, or was changed."""
        self._folder = folder
        self._unreadable = unreadable
        self._told: set[str] = set()
        self._read: dict[str, Checkpoint] = {}

    def kept(self, now_us: int) -> Kept:
        """The newest one by its name whose time has come, and those whose time has not. Raises `OSError`."""
        with os.scandir(self._folder) as entries:
            names = [one.name for one in entries if one.name.startswith(PREFIX) and one.name.endswith(SUFFIX)]
        last: Checkpoint | None = None
        read: dict[str, Checkpoint] = {}
        for name in sorted(names, reverse=True):
            found = self._read.get(name) or _read(self._folder / name)
            if found is None:
                if name not in self._told:
                    self._told.add(name)
                    self._unreadable(name)
                continue
            read[name] = found
            if found.made_at <= now_us:
                last = found
                break
        self._read = read
        return Kept(last, [one for one in read.values() if one is not last])

    def put(self, made: Checkpoint, signature: bytes) -> str:
        """Keeps one, whole or not at all; its name. Raises `OSError`."""
        at = datetime.fromtimestamp(made.made_at / 1_000_000, UTC)
        name = f"{PREFIX}{at:%Y%m%dT%H%M%S}.{made.made_at % 1_000_000:06}Z{SUFFIX}"
        beside = self._folder / f".{name}.{secrets.token_hex(4)}"
        try:
            with beside.open("x") as file:
                file.write(to_text(made, signature))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._folder / name)
        except OSError:
            with suppress(OSError):  # the one before is what is told
                beside.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._remove_unfinished()
        return name

    def _remove_unfinished(self) -> None:
        """Removes what processes left that were killed while they wrote; nobody else writes meanwhile."""
        for one in self._folder.glob(f"{_UNFINISHED}*"):
            one.unlink(missing_ok=True)


def _read(file: Path) -> Checkpoint | None:
    """The checkpoint in a file; None if there is none, or it was changed. Raises `OSError`."""
    try:
        made, signature = from_text(file.read_text(encoding="utf-8"))
    except (NoCheckpoint, UnicodeDecodeError):
        return None
    return made if is_signed(made, signature) else None
