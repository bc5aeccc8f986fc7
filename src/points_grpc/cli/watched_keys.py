"""The keyring of a process, kept as new as the keys file: keys are rotated while it serves.

The file is looked at every second, in a thread. One that cannot be used is told once, and what was read before stays in
force: a process never goes without its keys. A look that fails for a cause that nobody foresaw is told, counted and
repeated: without the thread a process would not learn of a rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

import click

from points_grpc.cli import keys_file
from points_grpc.service.keyring import Keyring

LOOKED_AT_EVERY_S = 1.0

_Stamp = tuple[int, int, int]
"""What changes when the file is replaced: time, size and inode."""


class KeysLog(Protocol):
    """What is told about the keys."""

    def info(self, event: str, **fields: object) -> None:
        """They changed."""
        ...

    def error(self, event: str, **fields: object) -> None:
        """They cannot be read."""
        ...


class NoKeysLog:
    """Tells nobody: of the two processes of a server one is enough."""

    def info(self, event: str, **fields: object) -> None:
        """Nothing."""

    def error(self, event: str, **fields: object) -> None:
        """Nothing."""


class WatchedKeys:
    """A keyring, and the file that it follows."""

    def __init__(
        self,
        path: Path,
        log: KeysLog,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        every_s: float = LOOKED_AT_EVERY_S,
    ) -> None:
        """Reads the file, and makes it where there is none; raises `click.ClickException` if it cannot be used."""
        self.failures = 0
        self._path = path
        self._log = log
        self._now = now
        self._every_s = every_s
        self._seen = self._stamp()  # before it is read: what replaces it meanwhile is seen as new
        self._keys = keys_file.load(path, create=True)
        self.keyring: Keyring = self._keys.keyring_at(now())
        self._stop = Event()
        self._thread = Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """Starts to follow the file."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Takes over what has changed: the file, or which of its keys is due."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp  # a bad file is told once; whatever mends it changes the stamp
            try:
                self._keys = keys_file.load(self._path)
            except click.ClickException as error:
                self._log.error("keys_not_renewed", error=error.message)
        current = self._keys.keyring_at(self._now())
        if (current.active, current.key_ids) != (self.keyring.active, self.keyring.key_ids):
            self.keyring.take(current)
            self._log.info("keys_renewed", active=current.active, keys=sorted(current.key_ids))

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - without this thread no key is ever renewed
                self._failed(type(error).__name__)

    def _failed(self, error: str) -> None:
        """Counts a look that failed and tells of it; the next one reads the file again, whatever was seen of it."""
        self.failures += 1
        self._seen = None
        with suppress(Exception):  # it may be the log that fails; what was counted stays to be told
            self._log.error("keys_look_failed", error=error, failures=self.failures)

    def _stamp(self) -> _Stamp | None:
        """Tells one file from the next; none if it is missing."""
        try:
            found = self._path.stat()
        except OSError:
            return None  # reading will say what is wrong
        return found.st_mtime_ns, found.st_size, found.st_ino
