"""Wallets as they stood and as they will stand, and the audit log, read from a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from executing import ANN, BEN, CID, GOLD, NOW, ORG_ID, Bench, by_id, template

from databases import NewDatabase
from points_grpc.domain.commands import Expiry, MergeCustomers, SetConfigKey, SetTransferLock, TransferPoints
from points_grpc.domain.model import Source, WalletKey
from points_grpc.domain.views import WalletView
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.queries import SqlQueries

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BARRED = (int(Source.REGISTRATION),)


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """
    Ann's days: 100 points for 5 days and 40 promised for 2 days at noon of day 0, 7 barred ones on day 1, 30 to Ben on
    day 3; nothing is touched again.
    """
    made = Bench(template(new_database(tmp_path)))
    made.make_program()
    made.make_customer(ANN)
    made.make_customer(BEN)
    made.issue(ANN, 100, Expiry(at=NOW + 5 * DAY))
    made.issue(ANN, 40, Expiry(at=NOW + 9 * DAY), available_from=NOW + 2 * DAY)
    made.pass_time(days=1)
    made.issue(ANN, 7, source=Source.REGISTRATION)
    made.pass_time(days=2)
    made.accept(TransferPoints(points=30, program_id=GOLD, source=by_id(ANN), destination=by_id(BEN)))
    yield made
    made.close()
    made.on.drop()


def as_of(bench: Bench, at: datetime, customer_id: int = ANN) -> WalletView:
    """A wallet at an instant of the past."""
    return SqlQueries(bench.database).wallet_as_of(ORG_ID, WalletKey(customer_id, GOLD), BARRED, at)


def figures(view: WalletView) -> tuple[int, int, int, int]:
    """Current, redeemable, transferable, promised."""
    one = view.balance
    return (one.current, one.redeemable, one.transferable, one.promised)


@pytest.mark.parametrize(
    ("after", "expected", "version"),
    [
        (-HOUR, (0, 0, 0, 0), 0),
        (timedelta(), (140, 100, 100, 40), 2),
        (DAY - HOUR, (140, 100, 100, 40), 2),
        (DAY, (147, 107, 100, 40), 3),
        (2 * DAY - HOUR, (147, 107, 100, 40), 3),
        (2 * DAY, (147, 147, 140, 0), 3),
        (3 * DAY, (117, 117, 110, 0), 4),
        (5 * DAY, (117, 117, 110, 0), 4),
        (5 * DAY + HOUR, (47, 47, 40, 0), 4),
        (9 * DAY + HOUR, (7, 7, 0, 0), 4),
    ],
)
@pytest.mark.parametrize("touched", [False, True], ids=["unbooked", "booked"])
def test_past(bench: Bench, after: timedelta, expected: tuple[int, ...], version: int, touched: bool) -> None:
    """Balances are those of the instant, whether or not what was due by then, or later, was booked."""
    bench.pass_time(days=20)
    if touched:
        bench.issue(ANN, 1)
    view = as_of(bench, NOW + after)

    assert (expected, version) == (figures(view), view.balance.version)
    assert NOW + after == view.read_at


def test_past_of_the_receiver(bench: Bench) -> None:
    """Lifetime figures and expiries are those of the instant; received points keep their expiry."""
    before, after = as_of(bench, NOW + 2 * DAY, BEN), as_of(bench, NOW + 3 * DAY, BEN)
    ann = as_of(bench, NOW + 3 * DAY)

    assert [(0, 0), (0, 30)] == [(one.lifetime_earned, one.lifetime_received) for one in (before, after)]
    assert [(), ((NOW + 5 * DAY, 30),)] == [before.expiries, after.expiries]
    assert (147, 0) == (ann.lifetime_earned, ann.lifetime_received)
    assert ((NOW + 5 * DAY, 70), (NOW + 9 * DAY, 40)) == ann.expiries


def test_past_of_a_survivor(bench: Bench) -> None:
    """From a merge on, lifetime figures hold those of the victim, and of who was merged into the victim before."""
    bench.make_customer(CID)
    bench.accept(MergeCustomers(by_id(ANN), by_id(BEN), "twice"))
    bench.pass_time(days=1)
    bench.issue(BEN, 5)
    bench.pass_time(days=1)
    bench.accept(MergeCustomers(by_id(BEN), by_id(CID), "thrice"))
    days = [(customer_id, NOW + day * DAY) for customer_id in (BEN, CID) for day in (2, 3, 4, 5)]
    found = [as_of(bench, at, customer_id) for customer_id, at in days]

    assert [(0, 0), (147, 30), (152, 30), (152, 30), (0, 0), (0, 0), (0, 0), (152, 30)] == [
        (one.lifetime_earned, one.lifetime_received) for one in found
    ]
    present = SqlQueries(bench.database).wallet(ORG_ID, WalletKey(CID, GOLD), BARRED, bench.now)
    assert (present.lifetime_earned, present.lifetime_received) == (152, 30)


def test_past_and_present_meet(bench: Bench) -> None:
    """A read of the past at this very instant is the read of the present."""
    key = WalletKey(ANN, GOLD)

    assert SqlQueries(bench.database).wallet(ORG_ID, key, BARRED, bench.now) == as_of(bench, bench.now)


@pytest.mark.parametrize(
    ("after", "expected"),
    [(5 * DAY, (117, 117, 110, 0)), (5 * DAY + HOUR, (47, 47, 40, 0)), (30 * DAY, (7, 7, 0, 0))],
)
def test_future(bench: Bench, after: timedelta, expected: tuple[int, ...]) -> None:
    """Balances ahead leave out what will have expired and count what will have matured, by what is known now."""
    view = SqlQueries(bench.database).wallet(ORG_ID, WalletKey(ANN, GOLD), BARRED, NOW + after)

    assert expected == figures(view)


def test_audit_log(bench: Bench) -> None:
    """Changes by the API and by the command line are lines of one log, newest first, by subject or all, in pages."""
    accounts = Accounts(bench.database, now=lambda: bench.now)
    accounts.create_key("k-1", ORG_ID, client="till", role="operator", secret_hash="0" * 64)
    accounts.revoke_key(ORG_ID, "k-1")
    queries = SqlQueries(bench.database)
    bench.accept(SetTransferLock(by_id(ANN), bench.now + DAY, "asked"))
    bench.accept(SetConfigKey("ALLOW_POINTS_TRANSFER", "false", "night"))
    found = queries.audit_events(ORG_ID, subject="", before=0, limit=50)
    key = queries.audit_events(ORG_ID, subject="key/k-1", before=0, limit=50)
    older = queries.audit_events(ORG_ID, subject="key/k-1", before=key[0].audit_id, limit=50)
    lock = next(one for one in found if one.action == "SetTransferLock")

    assert {"CreateOrganisation", "CreateProgram", "SetTransferLock", "SetConfigKey"} <= {one.action for one in found}
    assert ["RevokeKey", "CreateKey"] == [one.action for one in key]
    assert ["CreateKey"] == [one.action for one in older]
    assert ("till-1", f"customer/{ANN}", "asked", bench.now) == (lock.actor, lock.subject, lock.reason, lock.at)
    assert [one.audit_id for one in found] == sorted((one.audit_id for one in found), reverse=True)
    assert not any("0" * 64 in one.after for one in found)
