"""The writer's lease on a database file: one server per file, told by a lock of the operating system.

The lock lies on `<database>.lock` and ends with the process, however it ends. Tools that only append rows nobody else
numbers (accounts, migrations) do not take it; SQLite's own lock keeps their transactions apart.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from points_grpc.service.ports import StorageFull, StorageUnavailable

RETRY_S = 0.02
"""How often a lease that another holds is tried again."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system says when there is no room."""


class LeaseHeld(RuntimeError):
    """Another server holds the database file."""


class FileLease:
    """Holds the lock file of a database until closed."""

    def __init__(self, database: Path, *, wait_s: float = 0.0) -> None:
        """Takes the lock, waiting so long for a holder that is about to end, or raises `LeaseHeld` naming it."""
        real = database.resolve()  # one lock for one file, by whatever links it is reached
        path = real.with_name(f"{real.name}.lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StorageUnavailable(
                f"{path}, which says who serves the database, cannot be opened: {reason}"
            ) from error
        try:
            self._lock(time.monotonic() + wait_s)
        except BlockingIOError:
            holder = os.read(self._descriptor, 200).decode("utf-8", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LeaseHeld(f"another server ({holder}) serves {database}; stop it first") from None
        except OSError:
            os.close(self._descriptor)
            raise
        self.holder = f"pid {os.getpid()} on {socket.gethostname()}"
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{self.holder}\n".encode(), 0)
        except OSError as error:
            self.close()
            if error.errno in FULL:
                raise StorageFull("the disk of the database is full") from error
            raise

    def _lock(self, until: float) -> None:
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
            time.sleep(RETRY_S)

    def close(self) -> None:
        """Gives the lock back. The file stays: removing it would let two holders lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
