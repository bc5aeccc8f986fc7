"""The supervisor with workers that do as they are told: pauses that grow, ends that are told, nobody left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import fake_worker
import pytest

from points_grpc.cli import supervisor
from points_grpc.service.keeper import CannotStart
from points_grpc.settings import Settings

WAIT_S = 20.0


class Run:
    """A run of the supervisor in this process, its log, and what it announced."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "MODULE", "fake_worker")
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._log = ""
        self.ready = folder / "ready.json"
        self.given = {
            "database": "postgresql+psycopg://nobody@nowhere/nothing",
            "keys_file": folder / "keys.json",
            "ready_file": self.ready,
            "port": 0,
            "workers": 2,
            "drain_s": 0,
        }

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What was logged so far under this event."""
        self._log += self._capsys.readouterr().err
        found = [json.loads(line) for line in self._log.splitlines()]
        return [one for one in found if one["event"] == event]

    def supervise(self, behaviour: str, is_enough: Callable[[], bool], *, dev: bool = False) -> None:
        """Runs it until something is the case, and then tells it to stop."""
        self._monkeypatch.setenv(fake_worker.BEHAVIOUR, behaviour)

        async def main() -> None:
            running = asyncio.create_task(supervisor.supervise(Settings(**self.given), self.given, dev=dev))  # type: ignore[arg-type]
            for _ in range(int(WAIT_S / 0.02)):
                if running.done() or is_enough():
                    break
                await asyncio.sleep(0.02)
            if not running.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, WAIT_S)

        asyncio.run(main())

    def is_gone(self, pid: int) -> bool:
        """Whether a process has ended."""
        return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


def test_it_announces_all_and_drains_all(run: Run) -> None:
    """The ready file names the workers; the first one alone makes the world of development."""
    run.supervise("stays", run.ready.exists, dev=True)
    ready = json.loads(run.ready.read_text())
    started = {one["worker"]: one["pid"] for one in run.lines("worker_started")}

    assert {1, 2} == set(started)
    assert [started[1], started[2]] == [one["pid"] for one in ready["workers"]]
    assert (os.getpid(), "token") == (ready["pid"], ready["token"])
    assert all(run.is_gone(pid) for pid in started.values())


def test_a_worker_that_dies_again_and_again_is_replaced_ever_more_slowly(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause doubles; the other worker is left alone."""
    monkeypatch.setattr(supervisor, "PAUSE_FIRST_S", 0.1)
    run.supervise("1=stays,2=dies", lambda: len(run.lines("worker_ended")) >= 4)
    told = [one for event in ("worker_ended", "worker_started") for one in run.lines(event) if one["worker"] == 2]
    told.sort(key=lambda one: one["time"])
    times = [datetime.fromisoformat(one["time"]) for one in told]
    pauses = [
        (second - first).total_seconds()
        for (first, second), line in zip(pairwise(times), told, strict=False)
        if line["event"] == "worker_ended"
    ]

    assert {fake_worker.DIES_WITH} == {one["exit_code"] for one in run.lines("worker_ended")}
    assert all(pause >= expected for pause, expected in zip(pauses, (0.1, 0.2, 0.4), strict=False)), pauses
    assert 1 == len([one for one in run.lines("worker_started") if one["worker"] == 1])


def test_a_worker_that_does_not_end_is_killed_and_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code of the whole says that not everything was drained."""
    monkeypatch.setattr(supervisor, "STOP_MAX_S", 0.5)
    with pytest.raises(CannotStart, match="not all workers were drained: worker 2 ended with code -9"):
        run.supervise("1=stays,2=stubborn", run.ready.exists)

    assert [2] == [one["worker"] for one in run.lines("worker_killed")]


def test_a_worker_that_cannot_start_ends_all(run: Run) -> None:
    """At the start, with its own sentence."""
    with pytest.raises(CannotStart, match="there is no moon tonight"):
        run.supervise("1=stays,2=unable", lambda: False)
    [first] = run.lines("worker_started")

    assert run.is_gone(first["pid"])
    assert not run.ready.exists()


def test_it_can_be_stopped_while_it_starts(run: Run) -> None:
    """A worker that does not come up holds up nobody who wants to end."""
    run.supervise("1=stays,2=silent", lambda: bool(run.lines("worker_started")))

    assert not run.ready.exists()
    assert 1 == len(run.lines("stopped"))


def test_metrics_ports_must_fit(run: Run) -> None:
    """They follow one another, and there are 65,535."""
    run.given["metrics_port"] = 65_535
    with pytest.raises(ValueError, match="metrics ports"):
        run.supervise("stays", lambda: False)
