"""Rates that workers share: one figure for all of them, whoever is called, and what two processes make of a race."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from points_grpc.rpc import rates
from points_grpc.rpc.rates import OwnRates, RateKey, Rates, SharedRates, new_table

SECOND = 1_000_000_000
ORG: RateKey = (1, "", "org_calls_per_s")


@pytest.fixture
def table() -> Iterator[int]:
    """A small table."""
    made = new_table(rows=256)
    yield made
    os.close(made)


@pytest.mark.parametrize("shared", [False, True])
def test_a_rate_is_busy_for_what_it_is_used(table: int, shared: bool) -> None:
    """From now on if it was idle, behind what keeps it busy if not; another one is not touched."""
    kept: Rates = SharedRates(table) if shared else OwnRates()
    kept.use(ORG, 5, 100)
    kept.use(ORG, 5, 101)
    busy = [kept.busy_until(ORG, 101)]
    kept.use(ORG, 5, 200)
    busy += [kept.busy_until(ORG, 200), kept.busy_until((1, "till", "org_calls_per_s"), 200)]

    assert [110, 205, 0] == busy


def test_workers_use_the_same_rate(table: int) -> None:
    """What one lets in counts for the other, at once and in full; one alone has all of it."""
    one, two = SharedRates(table), SharedRates(table)
    for worker in (one, two, one, two):
        worker.use(ORG, SECOND, 0)

    assert [4 * SECOND] * 2 == [one.busy_until(ORG, 0), two.busy_until(ORG, 0)]


def test_a_worker_that_is_replaced_finds_what_was_used(table: int) -> None:
    """The table is the supervisor's, and outlives its workers."""
    SharedRates(table).use(ORG, SECOND, 0)

    assert SECOND == SharedRates(table).busy_until(ORG, 0)


def test_idle_rows_are_given_to_others(table: int) -> None:
    """However many rates there were, those that are busy keep their rows; who lost an idle one gets another."""
    one, two = SharedRates(table), SharedRates(table)
    busy: list[RateKey] = [(number, "", "org_calls_per_s") for number in range(20)]
    one.use((0, "idle", "reads"), 1, 0)
    for key in busy:
        one.use(key, 10**12, 0)
    for number in range(5_000):
        two.use((0, f"user-{number}", "reads"), 1, 10 * number)
    one.use((0, "idle", "reads"), 7, 60_000)

    assert [10**12] * 20 == [one.busy_until(key, 60_000) for key in busy]
    assert 60_007 == one.busy_until((0, "idle", "reads"), 60_000)
    assert 0 == len(one._without_row) + len(two._without_row)


def test_where_there_is_no_row_each_counts_for_itself(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full table lets nobody go uncounted."""
    monkeypatch.setattr(rates, "PROBES_MAX", 4)
    one, two = SharedRates(table), SharedRates(table)
    names: list[RateKey] = [(number, "", "org_calls_per_s") for number in range(2_000)]
    for key in names:
        one.use(key, SECOND, 0)
    left_out = next(key for key in names if two.busy_until(key, 0) == 0)
    two.use(left_out, 2 * SECOND, 0)

    assert {SECOND} == {one.busy_until(key, 0) for key in names}
    assert 2 * SECOND == two.busy_until(left_out, 0)


def test_places_are_bounded(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of the table is found again."""
    monkeypatch.setattr(rates, "RATES_MAX", 10)
    one = SharedRates(table)
    names: list[RateKey] = [(number, "", "org_calls_per_s") for number in range(100)]
    for key in names:
        one.use(key, SECOND, 0)

    assert {SECOND} == {one.busy_until(key, 0) for key in names}
    assert len(one._places) <= 10


RACER = """
import sys
from points_grpc.rpc.rates import SharedRates
shared, key = SharedRates(int(sys.argv[1])), (1, "", "org_calls_per_s")
print("ready", flush=True)
sys.stdin.read()
for _ in range(int(sys.argv[2])):
    shared.busy_until(key, 0)
    shared.use(key, 1, 0)
    sum(range(1000))
"""
USES = 50_000
LOST_SHARE_MAX = 0.05
"""Of uses with some 10 microseconds between them; a worker has some 250 or more from one call to the next."""


@pytest.mark.ci
def test_two_processes_that_race_lose_little(record_property: Callable[..., None]) -> None:
    """Far busier than workers ever are they undo each other now and then: little is lost, and nothing is made up."""
    table = new_table()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(table), str(USES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(table,),
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert "ready\n" == racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    for racer in racers:
        assert racer.stdout is not None
        racer.wait(timeout=60)
        racer.stdout.close()
    counted = SharedRates(table).busy_until(ORG, 0)
    os.close(table)
    record_property("summary", f"of {2 * USES} uses by two processes {2 * USES - counted} were lost")

    assert [0, 0] == [racer.returncode for racer in racers]
    assert 2 * USES * (1 - LOST_SHARE_MAX) <= counted <= 2 * USES
