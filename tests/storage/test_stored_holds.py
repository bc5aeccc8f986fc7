"""Holds and missed calls: written and read back, true at read time, and checked by verify."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from stores import ANN, BEN, GOLD, NOW, ORG, OTHER_ORG, Store, customer, entry, next_id, system_posting

from points_grpc.domain import events as ev
from points_grpc.domain.model import (
    Account,
    HeldLot,
    Hold,
    HoldState,
    Kind,
    Lot,
    MissedCall,
    Posting,
    RedeemedLot,
    Redemption,
    WalletKey,
)
from points_grpc.domain.policy import PointValue
from points_grpc.domain.snapshot import ANY_POINTS, Keys, Lookups
from points_grpc.service.ports import StorageConflict
from points_grpc.storage.verify import INVARIANTS, verify

WALLET = WalletKey(ANN, GOLD)
DEADLINE = NOW + timedelta(minutes=15)
INSTANT = timedelta(microseconds=1)
NAMED = Keys(customers=frozenset({ANN}))


def new_hold(lots: list[tuple[Lot, int]], **given: Any) -> Hold:
    """An open hold on lots."""
    number = next_id()
    values: dict[str, Any] = {
        "hold_id": f"h{number}",
        "transaction_id": number,
        "customer_id": ANN,
        "program_id": GOLD,
        "points": sum(points for _, points in lots),
        "state": HoldState.OPEN,
        "held_at": NOW,
        "expires_at": DEADLINE,
        "redemption_time": None,
        "transaction_number": None,
        "external_reference": None,
        "point_value": None,
        "policy_revision": 1,
        "captured": 0,
        "closed_at": None,
        "closing_transaction_id": None,
        "lots": tuple(HeldLot(lot.lot_id, lot.customer_id, lot.program_id, points) for lot, points in lots),
    }
    return Hold(**(values | given))


def booking(store: Store, hold: Hold, kind: Kind, *, sign: int, points: int = 0) -> ev.Booked:
    """A booking that holds or releases all of a hold; `points` of its first lot are redeemed."""
    wallet = store.load(NAMED).wallets[WALLET]
    postings = []
    for number, one in enumerate(hold.lots):
        taken = points if number == 0 else 0
        postings.append(
            Posting(
                Account.WALLET,
                ANN,
                GOLD,
                one.lot_id,
                -taken,
                wallet.version + 1,
                wallet.current - points,
                held=sign * one.points,
            )
        )
    if points:
        postings.append(system_posting(Account.REDEEMED, GOLD, points))
    transaction_id = hold.transaction_id if kind is Kind.HOLD else next_id()
    return ev.Booked(
        entry(kind, postings, customer_id=ANN, transaction_id=transaction_id, points=points or hold.points)
    )


def open_hold(store: Store, lots: list[tuple[Lot, int]], **given: Any) -> Hold:
    """Commits a hold."""
    hold = new_hold(lots, **given)
    store.apply([booking(store, hold, Kind.HOLD, sign=1), ev.HoldOpened(hold)], keys=keys_of(hold))
    return hold


def release(store: Store, hold: Hold) -> Hold:
    """Commits the release of a hold."""
    booked = booking(store, hold, Kind.RELEASE, sign=-1)
    closed = replace(hold, state=HoldState.RELEASED, closed_at=NOW, closing_transaction_id=booked.entry.transaction_id)
    store.apply([booked, ev.HoldClosed(closed)], keys=keys_of(hold))
    return closed


def capture(store: Store, hold: Hold, *, points: int) -> None:
    """Commits a capture of part of a hold's one lot."""
    booked = booking(store, hold, Kind.REDEMPTION, sign=-1, points=points)
    number = booked.entry.transaction_id
    closed = replace(hold, state=HoldState.CAPTURED, closed_at=NOW, closing_transaction_id=number, captured=points)
    lots = (RedeemedLot(hold.lots[0].lot_id, ANN, GOLD, points, 0),)
    made = Redemption(f"r{number}", number, ANN, GOLD, points, 0, NOW, None, None, None, None, lots)
    store.apply([booked, ev.HoldClosed(closed), ev.RedemptionMade(made)], keys=keys_of(hold))


def keys_of(hold: Hold) -> Keys:
    """What is loaded to change a hold: its lots come along with the wallet."""
    return Keys(customers=frozenset({ANN}), draws={WALLET: ANY_POINTS}, holds=frozenset({hold.hold_id}))


def call(call_id: int, called_at: datetime = NOW, **given: Any) -> MissedCall:
    """A missed call of Ann's."""
    return replace(MissedCall(call_id, ANN, "+15550000011", called_at, NOW), **given)


class TestHolds:
    """Holds and their lots."""

    def test_there_and_back(self, store: Store) -> None:
        """A hold reads as it was written, lots in their order, when its customer is loaded or its id is named."""
        one, other = store.issue(ANN, 30), store.issue(ANN, 40)
        hold = open_hold(
            store,
            [(other, 10), (one, 20)],
            redemption_time=NOW - timedelta(days=1),
            transaction_number="B-1",
            external_reference="R-1",
            point_value=PointValue(25, 2, "INR"),
            policy_revision=7,
        )

        assert store.load(NAMED).holds == {hold.hold_id: hold}
        assert store.load(Keys(holds=frozenset({hold.hold_id}))).holds == {hold.hold_id: hold}
        assert store.resolve(Lookups(hold_ids=(hold.hold_id, "h0"))).holds == {hold.hold_id: ANN}
        assert store.resolve(Lookups(hold_ids=(hold.hold_id,)), org_id=OTHER_ORG).holds == {}

    def test_totals(self, store: Store) -> None:
        """Lots, totals and wallet hold what the postings say; the wallet is due when the hold ends."""
        lot = store.issue(ANN, 30)
        open_hold(store, [(lot, 20)])
        loaded = store.load(Keys(customers=frozenset({ANN}), draws={WALLET: ANY_POINTS}))

        assert [(30, 20)] == [(one.remaining, one.held) for one in loaded.lots[WALLET].lots]
        assert [20] == [one.held for one in loaded.buckets[WALLET].values()]
        wallet = loaded.wallets[WALLET]
        assert (2, 30, 20, DEADLINE) == (wallet.version, wallet.current, wallet.held, wallet.due_at)

    def test_closed(self, store: Store) -> None:
        """A hold that ended is loaded only if it is named."""
        hold = open_hold(store, [(store.issue(ANN, 30), 20)])
        closed = release(store, hold)

        assert store.load(NAMED).holds == {}
        assert store.load(Keys(holds=frozenset({hold.hold_id}))).holds == {hold.hold_id: closed}

    def test_closed_once(self, store: Store) -> None:
        """A hold that another writer ended is a conflict."""
        hold = open_hold(store, [(store.issue(ANN, 30), 20)])
        booked = booking(store, hold, Kind.RELEASE, sign=-1)
        closed = replace(hold, state=HoldState.RELEASED, closed_at=NOW, closing_transaction_id=1)
        store.tamper("UPDATE holds SET state = 'EXPIRED', closed_at = 1, closing_transaction_id = 1")

        with pytest.raises(StorageConflict):
            store.apply([booked, ev.HoldClosed(closed)], keys=keys_of(hold))

    def test_opened_and_closed_in_one_batch(self, store: Store) -> None:
        """A hold that ends in the batch that opened it is written as it ended."""
        lot = store.issue(ANN, 30)
        hold = new_hold([(lot, 20)])
        opening = booking(store, hold, Kind.HOLD, sign=1)
        posting = replace(opening.entry.postings[0], held=-20, wallet_version=3)
        closing = ev.Booked(entry(Kind.RELEASE, [posting], customer_id=ANN))
        closed = replace(
            hold, state=HoldState.RELEASED, closed_at=NOW, closing_transaction_id=closing.entry.transaction_id
        )
        events = [opening, ev.HoldOpened(hold), closing, ev.HoldClosed(closed)]
        store.apply(events, keys=keys_of(hold))

        assert store.load(Keys(holds=frozenset({hold.hold_id}))).holds == {hold.hold_id: closed}
        assert verify(store.database).differences == []

    def test_lots_of_overdue_and_named_holds(self, store: Store) -> None:
        """The lots of a hold are loaded where it is named, or where it is to be released."""
        lot = store.issue(ANN, 30)
        hold = open_hold(store, [(lot, 20)])

        assert store.load(NAMED).redeemed_lots == {}
        assert list(store.load(Keys(holds=frozenset({hold.hold_id}))).redeemed_lots) == [lot.lot_id]
        store.now = DEADLINE + INSTANT
        assert list(store.load(NAMED).redeemed_lots) == [lot.lot_id]

    def test_references(self, store: Store) -> None:
        """The reference of an open hold is taken until its deadline has passed."""
        hold = open_hold(store, [(store.issue(ANN, 30), 20)], external_reference="R-1")
        named = Keys(external_references=frozenset({"R-1", "R-2"}))
        taken = []
        for at in (NOW, DEADLINE, DEADLINE + INSTANT):
            store.now = at
            taken.append(store.load(named).held_references)

        assert taken == [{"R-1": hold.hold_id}, {"R-1": hold.hold_id}, {}]
        store.now = NOW
        release(store, hold)
        assert store.load(named).held_references == {}

    def test_nothing_is_read_where_nothing_is_held(self, store: Store) -> None:
        """A customer of whom nothing is held costs no statement."""
        store.issue(ANN, 30)
        store.statements.clear()
        store.load(NAMED)

        assert [text for text in store.statements if "hold" in text.replace("held", "")] == []


class TestReads:
    """What wallets and lots show: a deadline is true when it is read."""

    @pytest.mark.parametrize(("at", "held"), [(DEADLINE, 20), (DEADLINE + INSTANT, 0)])
    def test_wallet(self, store: Store, at: datetime, held: int) -> None:
        """A hold past its deadline counts as released, although nothing was booked."""
        open_hold(store, [(store.issue(ANN, 30), 20)])

        view = store.queries.wallet(ORG, WALLET, (), at).balance

        assert (2, 30, 30 - held, 30 - held, held) == (
            view.version,
            view.current,
            view.redeemable,
            view.transferable,
            view.held,
        )

    @pytest.mark.parametrize(("at", "held"), [(DEADLINE, [20, 0, 15]), (DEADLINE + INSTANT, [0, 0, 5])])
    @pytest.mark.parametrize("include_spent", [False, True])
    def test_lots(self, store: Store, at: datetime, held: list[int], *, include_spent: bool) -> None:
        """Lots show what is held of them by holds that are open."""
        one, _, other = store.issue(ANN, 30), store.issue(ANN, 5), store.issue(ANN, 40)
        open_hold(store, [(one, 20), (other, 10)])
        open_hold(store, [(other, 5)], expires_at=DEADLINE + timedelta(days=1))

        lots = store.queries.lots(ORG, WALLET, include_spent=include_spent, after=None, limit=9, now=at)

        assert held == [lot.held for lot in lots]

    def test_wallet_with_an_expired_lot(self, store: Store) -> None:
        """A hold that ended with its lot takes nothing from what is held of others."""
        one = store.issue(ANN, 30, expires_at=DEADLINE)
        other = store.issue(ANN, 40)
        open_hold(store, [(one, 20), (other, 10)])
        open_hold(store, [(other, 5)], expires_at=DEADLINE + timedelta(days=1))

        view = store.queries.wallet(ORG, WALLET, (), DEADLINE + INSTANT).balance

        assert (40, 35, 5) == (view.current, view.redeemable, view.held)

    def test_journal(self, store: Store) -> None:
        """The journal shows what was held."""
        hold = open_hold(store, [(store.issue(ANN, 30), 20)])

        row = store.queries.transaction(ORG, hold.transaction_id)

        assert row is not None
        assert [(0, 20)] == [(one.points, one.held) for one in row.entry.postings]


class TestMissedCalls:
    """Calls, and that they are used once."""

    def test_there_and_back(self, store: Store) -> None:
        """Unused calls of the last day are read; those that were used, or are older, are not."""
        day = timedelta(days=1)
        calls = [call(1), call(2, NOW - day), call(3, NOW - day - INSTANT), call(4), call(5, customer_id=BEN)]
        store.apply([ev.MissedCallRecorded(one) for one in calls])
        store.apply([ev.MissedCallUsed(replace(calls[3], used_by=9))])
        loaded = store.load(Keys(customers=frozenset({ANN}), missed_calls=frozenset({ANN})))

        assert [ANN] == list(loaded.missed_calls)
        assert calls[:2] == sorted(loaded.missed_calls[ANN], key=lambda one: one.call_id)

    def test_recorded_and_used_in_one_batch(self, store: Store) -> None:
        """A call that is used in the batch that recorded it is written as used."""
        store.apply([ev.MissedCallRecorded(call(1)), ev.MissedCallUsed(call(1, used_by=9))])

        assert [(1, 9)] == store.rows("SELECT call_id, used_by FROM missed_calls")


CORRUPTIONS = {
    "lot_held": ("UPDATE postings SET held = held + 1 WHERE held > 0",),
    "lot_holds": ("UPDATE hold_lots SET points = points - 1 WHERE points = 20",),
    "hold_lots": ("UPDATE holds SET points = points + 1 WHERE state = 'OPEN'",),
    "hold_postings": ("UPDATE holds SET closing_transaction_id = 7 WHERE state = 'RELEASED'",),
    "hold_captures": ("UPDATE holds SET captured = captured - 1 WHERE captured > 1",),
    "hold_owners": ("UPDATE holds SET customer_id = 12 WHERE state = 'OPEN'",),
    "hold_deadlines": ("UPDATE wallets SET due_at = due_at + 1 WHERE held > 0",),
    "used_calls": ("UPDATE missed_calls SET customer_id = 12 WHERE used_by IS NOT NULL",),
    "calls_used_once": ("UPDATE missed_calls SET used_by = (SELECT MAX(used_by) FROM missed_calls)",),
}


class TestVerify:
    """What verify knows of holds and calls."""

    @pytest.fixture
    def held(self, store: Store) -> Store:
        """One hold that is open, one that was released, one that was captured, and calls, one of them used."""
        store.apply([ev.CustomerSaved(customer(ANN), created=False)])
        lot = store.issue(ANN, 100)
        opened = open_hold(store, [(lot, 20)])
        release(store, open_hold(store, [(lot, 10)]))
        capture(store, open_hold(store, [(lot, 9)]), points=5)
        store.apply([ev.MissedCallRecorded(call(number)) for number in (1, 2)])
        store.apply([ev.MissedCallUsed(call(1, used_by=opened.transaction_id))])
        return store

    def test_sound(self, held: Store) -> None:
        """A sound database is found to be so."""
        assert verify(held.database).differences == []

    @pytest.mark.parametrize("name", CORRUPTIONS)
    def test_corruption(self, held: Store, name: str) -> None:
        """Each invariant finds the corruption that is made for it."""
        held.tamper(*CORRUPTIONS[name])

        assert name in {one.invariant for one in verify(held.database).differences}

    def test_outlives_a_lot(self, held: Store) -> None:
        """A hold that would outlive a lot is found."""
        held.tamper("UPDATE lots SET expires_at = 1")

        found = {one.invariant: one.actual for one in verify(held.database).differences}
        assert found["hold_deadlines"] == "outlives a lot"

    def test_every_invariant_has_a_corruption(self) -> None:
        """No invariant on holds or calls is untested."""
        names = {name for one in INVARIANTS for name in one.names}
        named = {name for name in names if "hold" in name or "held" in name or "call" in name}

        assert named == set(CORRUPTIONS)
