"""A host that misbehaves, for programs that a test starts: a disk that is full, a calendar clock that jumps.

`Bent` is a library that stands between a program and the C library, and a file by which the test steers it while the
program runs: neither is to be had without privileges otherwise. `SmallDisk` is a real disk, for who may mount one.
Steady clocks are left alone, as a jump of the calendar leaves them alone.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

COMPILER = shutil.which("cc")

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *steered; /* microseconds that the clock is ahead; whether the disk is full */
static const char *under;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("BENT_BY");
    under = getenv("BENT_UNDER");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) steered = found;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

static int64_t ahead(void) { return steered ? steered[0] : 0; }

int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(clock_gettime);
    int done = real(clock, at);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && ahead()) {
        int64_t micros = (int64_t) at->tv_sec * 1000000 + at->tv_nsec / 1000 + ahead();
        at->tv_sec = micros / 1000000;
        at->tv_nsec = micros % 1000000 * 1000 + at->tv_nsec % 1000;
    }
    return done;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void) zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static int is_full(int file, off_t end) { /* what is there may be written again; nothing may become longer */
    struct stat found;
    char link[40], path[4096];
    if (!steered || !steered[1] || !under) return 0;
    if (fstat(file, &found) || !S_ISREG(found.st_mode) || end <= found.st_size) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 0 && strncmp(path, under, strlen(under)) == 0;
}

static off_t total(const struct iovec *parts, int count) {
    off_t found = 0;
    for (int i = 0; i < count; i++) found += parts[i].iov_len;
    return found;
}

#define NO_ROOM(file, end) do { if (is_full(file, end)) { errno = ENOSPC; return -1; } } while (0)

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    NO_ROOM(file, at + (off_t) size);
    return real(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    NO_ROOM(file, at + (off_t) size);
    return real(file, data, size, at);
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    if (steered && steered[1]) NO_ROOM(file, lseek(file, 0, SEEK_CUR) + (off_t) size);
    return real(file, data, size);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    NO_ROOM(file, at + total(parts, count));
    return real(file, parts, count, at);
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at) {
    REAL(pwritev64);
    NO_ROOM(file, at + total(parts, count));
    return real(file, parts, count, at);
}

int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    NO_ROOM(file, size);
    return real(file, size);
}

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    NO_ROOM(file, size);
    return real(file, size);
}

int fallocate(int file, int mode, off_t at, off_t size) {
    REAL(fallocate);
    NO_ROOM(file, at + size);
    return real(file, mode, at, size);
}

int fallocate64(int file, int mode, off64_t at, off64_t size) {
    REAL(fallocate64);
    NO_ROOM(file, at + size);
    return real(file, mode, at, size);
}

int posix_fallocate(int file, off_t at, off_t size) {
    REAL(posix_fallocate);
    if (is_full(file, at + size)) return ENOSPC;
    return real(file, at, size);
}

int posix_fallocate64(int file, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    if (is_full(file, at + size)) return ENOSPC;
    return real(file, at, size);
}
"""

CLOCK_AT, FULL_AT = 0, 8
"""Where in the file stands what."""


class Bent:
    """The library, compiled, and the file by which it is steered. Other users may read both."""

    def __init__(self, under: Path | None = None) -> None:
        """`under`: the folder whose disk may be full."""
        assert COMPILER, "no C compiler (cc)"
        self.folder = Path(tempfile.mkdtemp(prefix="points-bent-"))
        self.folder.chmod(0o755)
        source, library = self.folder / "bent.c", self.folder / "bent.so"
        source.write_text(SOURCE)
        subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self._file = self.folder / "steered"
        self._file.write_bytes(bytes(16))
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "BENT_BY": str(self._file),
            "BENT_UNDER": f"{under or self.folder}/",
        }
        """For a program that is to be bent."""

    def jump(self, seconds: float) -> None:
        """Sets the calendar clock so far ahead of the true one; below zero: behind it."""
        self._steer(CLOCK_AT, int(seconds * 1_000_000))

    def fill(self) -> None:
        """From now on no file of the folder can become longer."""
        self._steer(FULL_AT, 1)

    def clear(self) -> None:
        """There is room again."""
        self._steer(FULL_AT, 0)

    def close(self) -> None:
        """Removes it; what runs with it may run on."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steer(self, at: int, value: int) -> None:
        with self._file.open("r+b") as file:
            file.seek(at)
            file.write(struct.pack("=q", value))


# -- disks -------------------------------------------------------------------------------------------------------------


class Disk(Protocol):
    """A disk that a test can fill. Who uses it starts with its environment."""

    folder: Path
    environment: Mapping[str, str]

    def fill(self) -> None:
        """Takes all the room that is left."""
        ...

    def clear(self) -> None:
        """Gives it back."""
        ...

    def close(self) -> None:
        """Removes it, when nobody uses it any more."""
        ...


class SmallDisk:
    """A real one, in memory, for who may mount."""

    environment: Mapping[str, str] = {}

    def __init__(self, size_mib: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="points-disk-"))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0755", "points-disk", self.folder]
        subprocess.run(mount, check=True, capture_output=True)
        self._ballast = self.folder / "ballast"

    def fill(self) -> None:
        """Writes until there is no room for another byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def clear(self) -> None:
        """Removes what was written."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmounts it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True, capture_output=True)
        self.folder.rmdir()


class BentDisk(Bent):
    """One that only looks full to who starts with its environment."""

    def __init__(self, size_mib: int) -> None:
        self._on = Path(tempfile.mkdtemp(prefix="points-disk-"))
        self._on.chmod(0o755)
        super().__init__(under=self._on)
        self.folder, self._own = self._on, self.folder

    def close(self) -> None:
        """Removes it with what is on it."""
        shutil.rmtree(self._own, ignore_errors=True)
        shutil.rmtree(self._on, ignore_errors=True)


def may_mount() -> bool:
    """Whether whoever runs the tests may mount a disk."""
    try:
        SmallDisk(1).close()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
