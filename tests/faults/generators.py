"""Load from processes of their own, and how long somebody else waits: in quiet, beside a decoy, beside the load.

A generator that shares a machine with the server takes its cores, which no caller over a network could. Where something
is measured, generators therefore get what nobody else wants of the processor: SCHED_IDLE, which gives way even to the
lowest priority, in a session of their own, since Linux may share the processor out by sessions first (autogroups), and
then what a generator takes is missing to the server of its session whatever their priorities. They are awake before the
measurement begins, and take turns with quiet, several times, so that what else the machine does falls on all alike. A
decoy, which calls nobody and computes in the same way, tells how much of what is left is the machine's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neighbour import Neighbour

READY = "ready"
DECOY = Path(__file__).with_name("decoy.py")


class Generator:
    """A process that waits for a word, makes load, and tells in one line of JSON what it did."""

    def __init__(self, script: Path, *arguments: object, yields: bool = False) -> None:
        """Starts it. `yields`: it gets what nobody else wants of the processor."""
        self._process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=yields,
        )
        if yields:
            _yield_the_processor(self._process.pid)
        assert self._process.stdout is not None
        assert f"{READY}\n" == self._process.stdout.readline()

    def run(self) -> dict[str, Any]:
        """Has it begin; returns what it tells in the end."""
        out, _ = self._process.communicate("go\n")
        assert 0 == self._process.returncode
        told: dict[str, Any] = json.loads(out)
        return told


def _yield_the_processor(pid: int) -> None:
    """Has a process that leads its session give way to all others."""
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text("19")


@dataclass
class Waits:
    """How long the calls of somebody else took, in seconds; and what the generators told."""

    quiet: list[float] = field(default_factory=list)
    decoy: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)

    @property
    def times(self) -> float:
        """How many times as long the 99th percentile is beside the load as in quiet."""
        return p99_ms(self.loaded) / p99_ms(self.quiet)

    @property
    def times_of_decoy(self) -> float:
        """The same beside the decoy."""
        return p99_ms(self.decoy) / p99_ms(self.quiet)

    def __str__(self) -> str:
        quiet, decoy, loaded = map(p99_ms, (self.quiet, self.decoy, self.loaded))
        return (
            f"p99 {quiet:.1f} ms quiet, {decoy:.1f} ms beside a decoy ({self.times_of_decoy:.1f} times),"
            f" {loaded:.1f} ms beside the load ({self.times:.1f} times)"
        )


def waits(neighbour: Neighbour, make: Callable[[], Generator], *, rounds: int, seconds: float) -> Waits:
    """Measures in turn: quiet, a decoy, the load."""
    found = Waits()
    for _ in range(rounds):
        decoy, load = Generator(DECOY, seconds, yields=True), make()
        neighbour.taken()
        time.sleep(seconds)
        found.quiet += neighbour.taken()
        decoy.run()
        found.decoy += neighbour.taken()
        found.told.append(load.run())
        found.loaded += neighbour.taken()
    return found


def p99_ms(times_s: list[float]) -> float:
    """What 99 of 100 calls took at most."""
    return sorted(times_s)[int(len(times_s) * 0.99)] * 1000
