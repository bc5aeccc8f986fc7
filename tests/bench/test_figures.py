"""What the bench makes of its samples: a journal that does not agree is noticed, ratios are those of a round, and a run
that is long enough is held against the goals.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_figures import BATCH, NOOP, TRANSFER, Counted, Found, Result, Sample, Settlement, rows
from bench_journal import Totals
from bench_load import Level, Report
from bench_machine import Demand, Machine, demand, withheld_since
from bench_table import table

BEFORE, AFTER = Totals(1_000, 1_000, 1_000, 1_000), Totals(990, 990, 990, 990)
AGREED = Settlement(Counted(100, 98, 2, 99), Counted(10, 10, 0, 10), 0, BEFORE, AFTER, "OK", verified=True)


def test_a_journal_that_has_what_was_acknowledged_agrees() -> None:
    """Calls whose outcome is open may stand in the journal or not; every redemption took one point."""
    assert AGREED.holds


@pytest.mark.parametrize(
    "wrong",
    [
        {"transfers": Counted(100, 98, 2, 97)},
        {"transfers": Counted(100, 98, 2, 101)},
        {"redemptions": Counted(10, 10, 0, 9)},
        {"lopsided": 1},
        {"before": replace(BEFORE, lots=999)},
        {"after": replace(AFTER, postings=991)},
        {"after": BEFORE},
        {"verified": False},
    ],
    ids=["lost", "doubled", "redemption lost", "lopsided", "lots before", "postings after", "points", "verify"],
)
def test_a_journal_that_does_not_agree_is_noticed(wrong: dict[str, object]) -> None:
    """One thing that is not as the callers know it is enough."""
    assert not replace(AGREED, **wrong).holds  # type: ignore[arg-type]


def sample(number: int, operation: str, per_s: float, callers: int = 64) -> Sample:
    """A run of one operation."""
    report = Report(per_s, 2.0, 4.0, 100, {"OK": 100}, {}, 50.0)
    items = 500 if operation == BATCH else 1
    name = NOOP if operation == NOOP else "1 worker"
    return Sample(number, Level(callers, 8, 100), operation, name, items, report, 300.0, 200.0, None)


FOUND = Found(
    engine="SQLite",
    version="3",
    servers=["1 worker"],
    samples=[
        *(sample(0, *one) for one in ((NOOP, 1_000), (TRANSFER, 700), (NOOP, 500, 1), (BATCH, 2, 4))),
        *(sample(1, *one) for one in ((NOOP, 2_000), (TRANSFER, 1_000), (NOOP, 500, 1), (BATCH, 4, 4))),
        *(sample(2, *one) for one in ((NOOP, 4_000), (TRANSFER, 3_600), (NOOP, 500, 1), (BATCH, 6, 4))),
    ],
    tpcb_per_s=[],
    rows={},
    bytes_per_customer=1.0,
    bytes_per_write=1.0,
    log_bytes_per_write=None,
    memory_mib=None,
    settlement=AGREED,
)


def test_ratios_are_those_within_a_round() -> None:
    """The machine drifts: each round has its own yardstick, and a batch is held against a lone caller of it."""
    found = {row.operation: row for row in rows(FOUND) if row.operation in {TRANSFER, BATCH}}

    assert "0.70 (0.50 to 0.90)" == str(found[TRANSFER].noop)
    assert "4.00 (2.00 to 6.00)" == str(found[BATCH].noop)
    assert 2_000 == found[BATCH].per_s


@pytest.mark.parametrize(("quick", "goals"), [(False, 2), (True, 0)])
def test_goals_are_named_where_a_run_is_long_enough(quick: bool, goals: int) -> None:
    """A goal is reached or missed by the median; a quick run says nothing of goals."""
    machine = Machine("a processor", 2, "Linux", 0.1, "ext4", 0.2, "Python")
    result = Result(quick, "today", 1.0, 0.2, 0.25, 0, 3, 100, 100, "ghz", machine, [FOUND], [])

    assert goals == table(result).count(", reached")
    assert 0 == table(result).count(", missed")


def test_what_the_host_withheld() -> None:
    """The share is that of the time asked for since then; where nothing tells, there is none."""
    now = demand()

    assert now is None or withheld_since(Demand(now.given - 30_000, now.withheld - 10_000)) == pytest.approx(
        0.25, abs=0.05
    )
    assert withheld_since(None) is None
