"""The facts of the machine that a figure is worth nothing without."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

FSYNCS = 50
PAGE = b"\x5a" * 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run took place."""

    processor: str
    cores: int
    system: str
    load_before: float
    filesystem: str
    fsync_ms: float
    software: str


def look_around(folder: Path) -> Machine:
    """The facts of this machine, and of the disk under `folder`."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "uvloop"))
    return Machine(
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        load_before=round(os.getloadavg()[0], 2),
        filesystem=filesystem(folder),
        fsync_ms=fsync_ms(folder),
        software=f"{platform.python_implementation()} {platform.python_version()}, {packages}, "
        f"SQLite {sqlite3.sqlite_version}",
    )


@dataclass(frozen=True, slots=True)
class Demand:
    """Processor time since the machine started, in ticks: what its processes got, and what its host gave to others."""

    given: int
    withheld: int


def demand() -> Demand | None:
    """What /proc/stat tells of it; None where there is none."""
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal, *_ = map(int, first.split()[1:])
    return Demand(user + nice + system + irq + softirq, steal)


def withheld_since(before: Demand | None) -> float | None:
    """The share of the processor time asked for since then that a host did not give: what steal is to busy time."""
    now = demand()
    if before is None or now is None:
        return None
    given, withheld = now.given - before.given, now.withheld - before.withheld
    return withheld / max(given + withheld, 1)


def processor() -> str:
    """The processor's name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def filesystem(folder: Path) -> str:
    """The kind of filesystem under a folder: on tmpfs, an fsync costs nothing and proves nothing."""
    mounts = sorted(_mounts(), key=lambda mount: len(mount[0].parts), reverse=True)
    resolved = folder.resolve()
    for point, kind in mounts:
        if resolved.is_relative_to(point):
            return kind
    return "unknown"


def _mounts() -> Iterator[tuple[Path, str]]:
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, point, kind, *_ = line.split()
        yield Path(point), kind


def fsync_ms(folder: Path) -> float:
    """How long the disk takes to say that a page is safe: the median of a few."""
    path = folder / "fsync.probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(PAGE)
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return round(1000 * median(times), 3)
