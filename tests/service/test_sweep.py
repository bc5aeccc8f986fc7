"""The sweep over a real database: it books what is true, in bounded runs, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from executing import ANN, BEN, GOLD, NOW, ORG_ID, Bench, template

from databases import NewDatabase
from points_grpc.domain.commands import Expiry, Submission
from points_grpc.domain.model import Kind, WalletKey
from points_grpc.service.sweep import COMMAND_CUSTOMERS_MAX, Sweep
from points_grpc.storage.queries import SqlQueries
from points_grpc.storage.verify import verify

DAY = timedelta(days=1)


class Reports:
    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []

    def swept(self, wallets: int, due: int) -> None:
        self.runs.append((wallets, due))

    def failed(self, error: str) -> None:
        raise AssertionError(error)


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """Ann and Ben: points that expire after a day, points that mature after two, points for ever."""
    made = Bench(template(new_database(tmp_path)))
    made.make_program()
    for customer_id in (ANN, BEN):
        made.make_customer(customer_id)
        made.issue(customer_id, 100, Expiry(at=NOW + DAY))
        made.issue(customer_id, 10, available_from=NOW + 2 * DAY)
        made.issue(customer_id, 1)
    yield made
    made.close()
    made.on.drop()


def sweep(
    bench: Bench, wallets_max: int = 1000, on_duty: Callable[[], bool] = lambda: True
) -> tuple[Sweep, Reports, list[Submission]]:
    """A sweep whose commands run at once."""
    reports, sent = Reports(), list[Submission]()

    def submit(one: Submission) -> None:
        sent.append(one)
        bench.settle(one)

    made = Sweep(
        bench.repository,
        submit=submit,
        now=lambda: bench.now,
        observer=reports,
        interval_s=1,
        wallets_max=wallets_max,
        on_duty=on_duty,
    )
    return made, reports, sent


def stored(bench: Bench) -> list[tuple[int, int, int]]:
    """Customer, current and promised points as stored."""
    return bench.rows("SELECT customer_id, current, promised FROM wallets ORDER BY customer_id")


def test_what_is_due_is_booked_once(bench: Bench) -> None:
    """Expiries and maturities of untouched wallets are booked, under no request id; a second run finds nothing."""
    bench.pass_time(days=3)
    queries = SqlQueries(bench.database)
    before = queries.wallet(ORG_ID, WalletKey(ANN, GOLD), (), bench.now)
    made, reports, _ = sweep(bench)
    made.run_once()
    made.run_once()
    after = queries.wallet(ORG_ID, WalletKey(ANN, GOLD), (), bench.now)

    assert [(2, 2), (2, 0)] == reports.runs
    assert [(ANN, 11, 0), (BEN, 11, 0)] == stored(bench)
    assert (before.balance.current, before.expiries) == (after.balance.current, after.expiries)
    query = "SELECT customer_id, points, request_id, actor FROM transactions WHERE kind = ? ORDER BY customer_id"
    assert [(ANN, 100, "", ""), (BEN, 100, "", "")] == bench.rows(query, int(Kind.EXPIRY))
    assert [] == bench.rows("SELECT request_id FROM requests WHERE operation = 'BookDue'")
    assert [] == verify(bench.database).differences


def test_nothing_is_due_at_the_instant_of_expiry(bench: Bench) -> None:
    """Points can be spent through their expiry, and are not booked before."""
    bench.pass_time(days=1)
    made, _, _ = sweep(bench)
    made.run_once()

    assert [(ANN, 111, 10), (BEN, 111, 10)] == stored(bench)


def test_runs_are_bounded_and_go_on(bench: Bench) -> None:
    """A run looks at so many wallets and no more; the next one goes on after them, and begins again at the end."""
    bench.pass_time(days=3)
    made, reports, _ = sweep(bench, wallets_max=1)
    for _ in range(4):
        made.run_once()

    assert [(1, 1), (1, 1), (0, 0), (1, 0)] == reports.runs


def test_who_is_not_on_duty_goes_no_further(bench: Bench) -> None:
    """A run ends before its next step when another server is on duty."""
    bench.pass_time(days=3)
    made, reports, sent = sweep(bench, on_duty=lambda: False)
    made.run_once()

    assert ([(0, 0)], []) == (reports.runs, sent)


def test_commands_are_small(bench: Bench) -> None:
    """Customers are booked a few at a time, so that others get their turn."""
    for customer_id in range(20, 45):
        bench.make_customer(customer_id)
        bench.issue(customer_id, 5, Expiry(at=NOW + DAY))
    bench.pass_time(days=3)
    made, reports, sent = sweep(bench)
    made.run_once()

    assert [(27, 27)] == reports.runs
    assert [COMMAND_CUSTOMERS_MAX, 7] == [len(one.command.customer_ids) for one in sent]
    assert [] == verify(bench.database).differences
