"""Transfers under load on any database, while a test lets something go wrong, and the judgement afterwards.

The callers are a process of their own (`callers.py`), and what their log says was acknowledged is what must be there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from callers import Line, Plan, read_log
from shop import PROGRAM, Shop, differences, verify
from test_kill import acknowledged, send_again, start_callers, wait_for

from databases import ATestsDatabase
from running import RunningServer

Record = Callable[[str, object], None]

TASKS = 16
PATIENCE_S = 60.0


def until(is_true: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    """Waits until something is true; says whether it became so."""
    end = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@dataclass(slots=True)
class Load:
    """Callers at work; `wait` lets them go on until so many more transfers were acknowledged."""

    plan: Plan
    process_log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.process_log = Path(self.plan.log)

    @property
    def acknowledged(self) -> int:
        """How many so far."""
        return acknowledged(self.process_log)

    def told(self, code: str) -> int:
        """How many calls ended with a status so far."""
        return sum(line.fields.get("code") == code for line in read_log(self.process_log))

    def again(self, folder: Path) -> list[Line]:
        """Sends everything once more, under the same request ids."""
        return send_again(self.plan, folder)

    @contextmanager
    def running(self) -> Iterator[Callable[[int], None]]:
        """Starts the callers, and ends them; gives what waits for so many more to be acknowledged."""
        self.process_log.touch()
        process = start_callers(self.plan, self.process_log.with_suffix(".plan"))
        try:
            yield lambda more: wait_for(process, self.process_log, self.acknowledged + more)
            process.terminate()

            assert 0 == process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()


def load(server: RunningServer, shop: Shop, *, seed: int, refusals: Collection[str] = (), tasks: int = TASKS) -> Load:
    """A load on all customers of a shop; `refusals` are statuses to be expected beside those of a dying server."""
    log = str(server.folder / "load.log")
    return Load(
        Plan(
            server.address,
            shop.token,
            PROGRAM,
            log,
            seed,
            shop.customers,
            tasks=tasks,
            refusals=tuple(sorted(refusals)),
        )
    )


def booked(on: ATestsDatabase) -> dict[str, list[int]]:
    """The transfer ids that the journal holds for each request id."""
    found: dict[str, list[int]] = {}
    for request_id, transfer_id in on.rows("SELECT request_id, transaction_id FROM transactions WHERE kind = 2"):
        found.setdefault(request_id, []).append(transfer_id)
    return found


def lost(log: list[Line], journal: dict[str, list[int]]) -> list[str]:
    """What was acknowledged, and is not in the journal once under its id."""
    promised = {line.request_id: line.fields["transfer_id"] for line in log if line.event == "acknowledged"}
    return [one for one, transfer_id in promised.items() if journal.get(one) != [transfer_id]]


def certainly_not_written(log: list[Line]) -> set[str]:
    """What the service refused with a status that says that nothing was written."""
    sure = {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    return {line.request_id for line in log if line.event == "open" and line.fields["code"] in sure}


def judge(server: RunningServer, shop: Shop, work: Load, on: ATestsDatabase, record: Record) -> None:
    """Nothing acknowledged is lost, nothing refused is there, and all of it is there once after it was sent again.

    `server` must serve, and `on` be what it serves.
    """
    log, before = read_log(work.process_log), booked(on)
    sent = {line.request_id for line in log if line.event == "sent"}
    refused = certainly_not_written(log)
    told = work.again(server.folder)
    after = booked(on)
    answers = {line.request_id: line.fields["transfer_id"] for line in told if line.event == "acknowledged"}
    [(points,)] = on.rows("SELECT SUM(current) FROM wallets")
    record("figure.acknowledged", sum(line.event == "acknowledged" for line in log))
    record("figure.acknowledged lost", len(lost(log, before)))
    record("figure.doubled", sum(len(ids) > 1 for ids in after.values()))
    record("figure.unreconciled", len(refused & before.keys()) + len(sent ^ after.keys()) + len(differences(server)))

    assert [] == [line for line in log if line.event == "surprise"][:3]
    assert [] == lost(log, before)[:3]
    assert set() == refused & before.keys(), "written although refused"
    assert {one: [transfer_id] for one, transfer_id in answers.items()} == after
    assert sent == after.keys()
    assert {} == {one: ids for one, ids in before.items() if after[one] != ids}, "written before, changed by a repeat"
    assert shop.issued == points
    assert "verify: OK" == verify(server)
