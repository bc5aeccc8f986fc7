"""Counts how often lone transfers make the database sync its files: a process of its own, so that nothing leaks.

`vfs` puts a layer of ours over SQLite's access to files and counts the calls of its xSync; `preload` counts the calls
of fsync and fdatasync themselves, in a shim that the linker loaded before the C library. Prints one line of JSON.

Usage: python count_syncs.py <database file> <synchronous> <transfers> <vfs|preload>
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SQLITE_OPEN_WAL = 0x00080000
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
static long syncs;
long points_syncs(void) { return __atomic_load_n(&syncs, __ATOMIC_SEQ_CST); }
static int counted(const char *name, int descriptor) {
    int (*original)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST);
    return original(descriptor);
}
int fsync(int descriptor) { return counted("fsync", descriptor); }
int fdatasync(int descriptor) { return counted("fdatasync", descriptor); }
"""
"""To be compiled into a shared library and named in LD_PRELOAD."""


def loaded_library() -> str | None:
    """The shared library of SQLite that this process runs; None if it is part of Python itself."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return next((line.split()[-1] for line in maps if "libsqlite3" in line), None)


# -- counting xSync ----------------------------------------------------------------------------------------------------

_Pointer = ctypes.c_void_p
_Open = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, _Pointer, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, as far as xOpen; what follows is copied and never looked at."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("size_of_file", ctypes.c_int),
        ("path_max", ctypes.c_int),
        ("next", _Pointer),
        ("name", ctypes.c_char_p),
        ("data", _Pointer),
        ("open", _Pointer),
        ("others", _Pointer * 14),
    ]


class _Methods(ctypes.Structure):
    """sqlite3_io_methods of version 3."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("close_read_write_truncate", _Pointer * 4),
        ("sync", _Pointer),
        ("others", _Pointer * 13),
    ]


class Syncs:
    """A layer over the default file access of SQLite that counts syncs of write-ahead logs and of other files."""

    def __init__(self, library: str) -> None:
        self._sqlite = ctypes.CDLL(library)
        self._sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._below = self._sqlite.sqlite3_vfs_find(None)
        self._open_below = _Open(self._below.contents.open)
        self._kept: dict[int, tuple[_Methods, Any, Any]] = {}
        self._logs: dict[int, bool] = {}
        self.of_logs = 0
        self.of_others = 0
        self._open = _Open(self._opened)
        self._layer = _Vfs.from_buffer_copy(self._below.contents)
        self._layer.name = b"counting"
        self._layer.open = ctypes.cast(self._open, _Pointer)
        failed = self._sqlite.sqlite3_vfs_register(ctypes.byref(self._layer), 1)
        assert not failed, failed

    def __call__(self) -> int:
        """How many syncs there were so far."""
        return self.of_logs + self.of_others

    def _opened(self, _vfs: int, name: int, file: int, flags: int, out: Any) -> int:
        result = self._open_below(ctypes.cast(self._below, _Pointer), name, file, flags, out)
        slot = _Pointer.from_address(file)
        if result == 0 and slot.value:
            self._logs[file] = bool(flags & SQLITE_OPEN_WAL)
            slot.value = self._counting(slot.value)
        return int(result)

    def _counting(self, methods: int) -> int:
        """The address of a copy of a table of methods whose sync counts."""
        if methods not in self._kept:
            below = _Methods.from_address(methods)
            copied = _Methods.from_buffer_copy(below)
            sync_below = _Sync(below.sync)

            def sync(file: int, flags: int) -> int:
                if self._logs.get(file):
                    self.of_logs += 1
                else:
                    self.of_others += 1
                return int(sync_below(file, flags))

            counting = _Sync(sync)
            copied.sync = ctypes.cast(counting, _Pointer)
            self._kept[methods] = (copied, counting, sync_below)
        return ctypes.addressof(self._kept[methods][0])


def counter(method: str) -> Callable[[], int]:
    """What counts syncs from here on; it must be made before a database is opened."""
    if method == "preload":
        shim = ctypes.CDLL(None)
        shim.points_syncs.restype = ctypes.c_long
        return lambda: int(shim.points_syncs())
    library = loaded_library()
    assert library is not None, "SQLite is no shared library here"
    return Syncs(library)


# -- lone transfers ----------------------------------------------------------------------------------------------------


async def run(path: Path, synchronous: str, transfers: int, syncs: Callable[[], int]) -> dict[str, Any]:
    """Transfers one by one from the committer to the disk, counting the syncs before each answer."""
    from points_grpc.service.executor import Executor
    from points_grpc.service.ids import IdSource
    from points_grpc.service.keyring import KEY_BYTES, Keyring
    from points_grpc.storage.accounts import Accounts
    from points_grpc.storage.engine import Database
    from points_grpc.storage.repository import SqlRepository
    from writing import writing

    seen: Counter[str] = Counter()
    database = Database(f"sqlite:///{path}", synchronous=synchronous)
    org_id = Accounts(database).create_org("org", "IN")
    repository = SqlRepository(database, durable=synchronous == "FULL", probe=lambda text: seen.update([text]))
    executor = Executor(
        repository,
        next_id=IdSource(0, lambda: time.time_ns() // 1_000_000),
        keyring=Keyring({"k1": bytes(KEY_BYTES)}, "k1"),
        channels=frozenset(),
        monotonic=time.monotonic,
    )
    async with writing(executor) as committer:
        counted = await _lone_transfers(committer, org_id, transfers, lambda: seen["COMMIT"], syncs)
    connection = repository._connection
    assert connection is not None
    pragmas = {}
    for name in ("journal_mode", "synchronous"):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {name}")
        [(pragmas[name],)] = cursor.fetchall()
    repository.close()
    database.close()
    return counted | pragmas | {"sqlite": sqlite3.sqlite_version}


async def _lone_transfers(
    committer: Any, org_id: int, transfers: int, commits: Callable[[], int], syncs: Callable[[], int]
) -> dict[str, Any]:
    """Sets a world up, then transfers: how many commits and syncs there were, and the fewest before an answer."""
    from points_grpc.domain import commands as cmd
    from points_grpc.domain.model import Identifier, IdentifierType, Source
    from points_grpc.domain.outcome import Accepted
    from points_grpc.domain.policy import Policy

    async def do(number: int, command: cmd.Command) -> None:
        sent = cmd.Submission(org_id, command, f"lone-{number}", True, {}, "till", b"")
        settled = await committer.submit(sent, time.monotonic() + 10)
        assert isinstance(settled.outcome, Accepted), settled

    ann, ben = (Identifier(IdentifierType.ID, number) for number in ("11", "12"))
    await do(-1, cmd.CreateProgram(1, "Gold", True, 0, "UTC", Policy()))
    for customer in (ann, ben):
        new = cmd.CreateCustomer(int(customer.value), "", "", None, None, None, (1,), campaign_contact=False)
        await do(-int(customer.value), new)
    await do(-2, cmd.IssuePoints(ann, 1, 1_000_000, Source.GOODWILL))
    commits_before, syncs_before = commits(), syncs()
    each = []
    for number in range(transfers):
        last = syncs()
        await do(number, cmd.TransferPoints(1, 1, ann, ben))
        each.append(syncs() - last)
    return {
        "commits": commits() - commits_before,
        "syncs": syncs() - syncs_before,
        "fewest_before_an_answer": min(each),
    }


if __name__ == "__main__":
    file, mode, count, way = sys.argv[1:]
    counting = counter(way)
    print(json.dumps(asyncio.run(run(Path(file), mode, int(count), counting))))
