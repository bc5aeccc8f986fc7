"""Reads for answers: what is due and not booked yet is left out, pages go on where the last one ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from stores import (
    ANN,
    BEN,
    GOLD,
    NO_KEYS,
    NOW,
    ORG,
    OTHER_ORG,
    SILVER,
    Store,
    by_id,
    entry,
    lot,
    next_id,
    system_posting,
    wallet_posting,
)

from points_grpc.domain import events as ev
from points_grpc.domain.model import Account, Identifier, IdentifierType, Kind, Lot, Posting, Source, WalletKey
from points_grpc.domain.outcome import Balance
from points_grpc.domain.policy import OtpPolicy, Policy
from points_grpc.domain.snapshot import ANY_POINTS, Keys
from points_grpc.domain.views import WalletView
from points_grpc.storage import journal_pages

ANN_GOLD = WalletKey(ANN, GOLD)
BEN_GOLD = WalletKey(BEN, GOLD)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
BARRED = (int(Source.REGISTRATION),)


def view(store: Store, **later: float) -> WalletView:
    """Ann's wallet at a later time."""
    return store.queries.wallet(ORG, ANN_GOLD, BARRED, NOW + timedelta(**later))


def figures(found: WalletView) -> tuple[int, ...]:
    """Current, redeemable, transferable, promised, held."""
    one = found.balance
    return one.current, one.redeemable, one.transferable, one.promised, one.held


@pytest.fixture
def mixed(store: Store) -> Store:
    """Ann has plain, barred, promised and endless points."""
    store.issue(ANN, 100, expires_at=NOW + 2 * DAY)
    store.issue(ANN, 20, source=Source.REGISTRATION, expires_at=NOW + 3 * DAY)
    store.issue(ANN, 5, available_from=NOW + DAY, promised=True, expires_at=NOW + 2 * DAY)
    store.issue(ANN, 3, source=Source.REGISTRATION, expires_at=None)
    return store


def test_a_wallet_that_nothing_is_due_on(mixed: Store) -> None:
    """The stored totals."""
    found = view(mixed)

    assert found.balance == Balance(ANN, GOLD, 4, 128, 123, 100, 5, 0)
    assert (found.lifetime_earned, found.lifetime_received, found.lifetime_purchases) == (128, 0, 0)
    assert found.expiries == ((NOW + 2 * DAY, 105), (NOW + 3 * DAY, 20))
    assert found.read_at == NOW


def test_matured_points_are_redeemable_before_they_are_booked(mixed: Store) -> None:
    """From the instant on, not before."""
    due = mixed.load(Keys(customers=frozenset({ANN}))).wallets[ANN_GOLD].due_at

    assert due == NOW + DAY
    assert figures(mixed.queries.wallet(ORG, ANN_GOLD, BARRED, NOW + DAY - TICK)) == (128, 123, 100, 5, 0)
    assert figures(view(mixed, days=1)) == (128, 128, 105, 0, 0)


def test_expired_points_are_gone_before_they_are_booked(mixed: Store) -> None:
    """They are usable through the instant of their expiry."""
    assert figures(view(mixed, days=2)) == (128, 128, 105, 0, 0)
    assert figures(mixed.queries.wallet(ORG, ANN_GOLD, BARRED, NOW + 2 * DAY + TICK)) == (23, 23, 0, 0, 0)
    assert view(mixed, days=2, microseconds=1).expiries == ((NOW + 3 * DAY, 20),)
    assert figures(view(mixed, days=4)) == (3, 3, 0, 0, 0)
    assert view(mixed, days=4).balance.version == 4


def test_barred_sources_are_the_callers(mixed: Store) -> None:
    """None barred: all redeemable points can be transferred."""
    assert mixed.queries.wallet(ORG, ANN_GOLD, (), NOW).balance.transferable == 123
    assert mixed.queries.wallet(ORG, ANN_GOLD, (1, 5), NOW).balance.transferable == 0


def test_held_points_cannot_be_spent(mixed: Store) -> None:
    """They stay current."""
    mixed.tamper(
        f"UPDATE lots SET held = 7 WHERE points = 100 AND customer_id = {ANN}",
        f"UPDATE wallets SET held = 7 WHERE customer_id = {ANN} AND program_id = {GOLD}",
        f"UPDATE wallets SET buckets = REPLACE(buckets, '[105,5,0]', '[105,5,7]') WHERE customer_id = {ANN}",
    )

    assert figures(view(mixed)) == (128, 116, 93, 5, 7)
    assert figures(view(mixed, days=1)) == (128, 121, 98, 0, 7)


def test_no_wallet_is_all_zero(store: Store) -> None:
    """A customer who was never enrolled, a program that is not there, another organisation."""
    for org_id, key in ((ORG, WalletKey(ANN, 77)), (ORG, WalletKey(4711, GOLD)), (OTHER_ORG, ANN_GOLD)):
        found = store.queries.wallet(org_id, key, BARRED, NOW)

        assert found == WalletView(Balance(*key, 0, 0, 0, 0, 0, 0), 0, 0, 0, (), NOW)


def test_a_hundred_expiries_are_shown(store: Store) -> None:
    """The earliest."""
    for number in range(103):
        store.issue(ANN, 1, expires_at=NOW + DAY + timedelta(minutes=103 - number))
    found = view(store)

    assert len(found.expiries) == 100
    assert found.expiries[0] == (NOW + DAY + timedelta(minutes=1), 1)


def page(store: Store, *, after: Lot | None = None, limit: int = 100, spent: bool = False, **later: float) -> list[Lot]:
    """A page of Ann's lots."""
    now = NOW + timedelta(**later)
    return list(store.queries.lots(ORG, ANN_GOLD, include_spent=spent, after=after, limit=limit, now=now))


def test_lots_are_paged_in_spending_order(mixed: Store) -> None:
    """Each page goes on after the last lot of the one before."""
    every = page(mixed)
    assert [one.points for one in every] == [100, 5, 20, 3]

    found: list[Lot] = []
    while more := page(mixed, after=found[-1] if found else None, limit=1):
        found += more
    assert found == every


def test_lots_show_what_is_due_as_if_it_were_booked(mixed: Store) -> None:
    """Matured ones are not promised, expired ones are not there, or without points."""
    assert [one.promised for one in page(mixed)] == [False, True, False, False]
    assert [one.promised for one in page(mixed, days=1)] == [False] * 4
    assert [one.points for one in page(mixed, days=2)] == [100, 5, 20, 3]
    assert [one.points for one in page(mixed, days=2, microseconds=1)] == [20, 3]
    assert [one.remaining for one in page(mixed, days=2, microseconds=1, spent=True)] == [0, 0, 20, 3]
    assert page(mixed, after=page(mixed)[0], days=3, limit=1)[0].points == 20


def spend(store: Store, drawn: Lot, points: int, **given: object) -> int:
    """Redeems points of a lot of Ann."""
    wallet = store.load(Keys(customers=frozenset({ANN}))).wallets[drawn.wallet]
    booked = entry(
        Kind.REDEMPTION,
        (
            wallet_posting(drawn, -points, version=wallet.version + 1, balance=wallet.current - points),
            system_posting(Account.REDEEMED, drawn.program_id, points),
        ),
        customer_id=ANN,
        program_id=drawn.program_id,
        **given,
    )
    keys = Keys(customers=frozenset({ANN}), draws={drawn.wallet: ANY_POINTS})
    store.apply([ev.Booked(booked)], keys=keys)
    return booked.transaction_id


def test_spent_lots_are_shown_on_demand(mixed: Store) -> None:
    """At their place in the spending order."""
    first = page(mixed)[0]
    spend(mixed, first, 100)

    assert [one.remaining for one in page(mixed)] == [5, 20, 3]
    assert [one.remaining for one in page(mixed, spent=True)] == [0, 5, 20, 3]
    assert [one.remaining for one in page(mixed, spent=True, after=first, limit=2)] == [5, 20]
    assert page(mixed, spent=True)[0] == replace(first, remaining=0)


def test_transactions_are_paged_newest_first(store: Store) -> None:
    """With the postings of that customer alone, and their place in the journal."""
    gold, silver = store.issue(ANN, 10), store.issue(ANN, 20, program_id=SILVER)
    store.issue(BEN, 5)
    third = spend(store, gold, 4, notes="naïve", transaction_number="bill-1")
    queries = store.queries

    found = list(queries.transactions(ORG, ANN, program_id=0, before=0, limit=100)[0])
    assert [row.entry.transaction_id for row in found] == [third, silver.transaction_id, gold.transaction_id]
    assert [(row.stream, row.position) for row in found] == [(0, 4), (0, 2), (0, 1)]
    newest = found[0].entry
    assert newest.postings == (Posting(Account.WALLET, ANN, GOLD, gold.lot_id, -4, 2, 6),)
    assert (newest.kind, newest.notes, newest.transaction_number) == (Kind.REDEMPTION, "naïve", "bill-1")
    assert (newest.created_at, newest.opened, newest.counterparty_id) == (NOW, (), None)

    assert queries.transactions(ORG, ANN, program_id=0, before=third, limit=1) == (found[1:2], True)
    assert queries.transactions(ORG, ANN, program_id=GOLD, before=0, limit=2) == ([found[0], found[2]], False)
    assert list(queries.transactions(ORG, ANN, program_id=77, before=0, limit=9)[0]) == []
    assert list(queries.transactions(OTHER_ORG, ANN, program_id=0, before=0, limit=9)[0]) == []


def test_a_page_ends_before_its_postings_are_too_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a page is asked for, it is one that a client takes; what has too many alone is shown alone."""
    monkeypatch.setattr(journal_pages, "PAGE_POSTINGS", 2)
    lots = [store.issue(ANN, 10) for _ in range(3)]
    ids = [one.transaction_id for one in reversed(lots)]

    page, more = store.queries.transactions(ORG, ANN, program_id=0, before=0, limit=100)
    rest, no_more = store.queries.transactions(ORG, ANN, program_id=0, before=ids[1], limit=100)

    assert (ids[:2], True) == ([one.entry.transaction_id for one in page], more)
    assert (ids[2:], False) == ([one.entry.transaction_id for one in rest], no_more)

    monkeypatch.setattr(journal_pages, "PAGE_POSTINGS", 0)
    alone, _ = store.queries.transactions(ORG, ANN, program_id=0, before=0, limit=100)

    assert ids[:1] == [one.entry.transaction_id for one in alone]


def test_a_transaction_is_shown_whole(store: Store) -> None:
    """With every posting, system accounts too, in their order."""
    gold = store.issue(ANN, 10)
    third = spend(store, gold, 4)
    found = store.queries.transaction(ORG, third)

    assert found is not None
    assert found.entry.postings == (
        Posting(Account.WALLET, ANN, GOLD, gold.lot_id, -4, 2, 6),
        Posting(Account.REDEEMED, 0, GOLD, 0, 4, 0, 0),
    )
    assert store.queries.transaction(ORG, 4711) is None
    assert store.queries.transaction(OTHER_ORG, third) is None


def test_a_customer_is_shown_with_enrolments(store: Store) -> None:
    """By any identifier; programs without enrolment are left out."""
    store.tamper(f"UPDATE wallets SET enrolled_at = NULL WHERE customer_id = {ANN} AND program_id = {SILVER}")
    by_mobile = Identifier(IdentifierType.MOBILE, f"+1555{ANN:07d}")
    found = store.queries.customer(ORG, by_mobile)

    assert found == store.queries.customer(ORG, by_id(ANN))
    assert found is not None
    assert found[0] == store.load(Keys(customers=frozenset({ANN}))).customers[ANN]
    assert found[1] == (GOLD,)
    assert store.queries.customer(ORG, by_id(4711)) is None
    assert store.queries.customer(OTHER_ORG, by_mobile) is None


def test_policies_are_shown_by_revision(store: Store) -> None:
    """Zero is the one in force; every older one stays."""
    later = NOW + DAY
    second = Policy(revision=2, otp=OtpPolicy(length=8))
    store.apply([ev.PolicySaved(GOLD, second, later, "root", "longer codes")], keys=NO_KEYS)
    queries = store.queries

    assert queries.policy(ORG, GOLD, 0) == (second, later)
    assert queries.policy(ORG, GOLD, 2) == (second, later)
    assert queries.policy(ORG, GOLD, 1) == (Policy(), NOW)
    assert queries.policy(ORG, GOLD, 3) is None
    assert queries.policy(ORG, 77, 0) is None
    assert queries.policy(OTHER_ORG, GOLD, 0) is None
    assert queries.program_book(ORG).programs[GOLD].policy == second


def test_lots_of_a_transfer_are_shown_to_their_owner(store: Store) -> None:
    """A lot stands in one wallet."""
    mine, theirs = store.issue(ANN, 10), store.issue(BEN, 20)

    assert page(store) == [mine]
    assert list(store.queries.lots(ORG, BEN_GOLD, include_spent=True, after=None, limit=9, now=NOW)) == [theirs]
    assert list(store.queries.lots(OTHER_ORG, BEN_GOLD, include_spent=True, after=None, limit=9, now=NOW)) == []
    assert list(store.queries.lots(ORG, WalletKey(BEN, SILVER), include_spent=True, after=None, limit=9, now=NOW)) == []


def test_lots_that_never_expire_are_paged_too(store: Store) -> None:
    """The last page goes on by award and id."""
    lots = [store.issue(ANN, 1, lot_id=next_id(), expires_at=None) for _ in range(3)]
    odd = lot(ANN, 1, lot_id=lots[0].lot_id, expires_at=None)

    assert page(store, after=odd) == lots[1:]
