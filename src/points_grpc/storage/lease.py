"""The writer's lease on a database file: one server per file, told by a lock of the operating system.

The lock lies on `<database>.lock` and ends with the process, however it ends. Tools that only append rows nobody else
numbers (accounts, migrations) do not take it; SQLite's own lock keeps their transactions apart.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path


class LeaseHeld(RuntimeError):
    """Another server holds the database file."""


class FileLease:
    """Holds the lock file of a database until closed."""

    def __init__(self, database: Path) -> None:
        """Takes the lock at once, or raises `LeaseHeld` naming the holder."""
        path = database.with_name(f"{database.name}.lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 200).decode("utf-8", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LeaseHeld(f"another server ({holder}) serves {database}; stop it first") from None
        except OSError:
            os.close(self._descriptor)
            raise
        self.holder = f"pid {os.getpid()} on {socket.gethostname()}"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{self.holder}\n".encode(), 0)

    def close(self) -> None:
        """Gives the lock back. The file stays: removing it would let two holders lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
