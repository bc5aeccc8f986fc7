"""Lists of a whole organisation: every row once over all pages, of that organisation alone, as reads of one show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TypeVar

import pytest
from stores import ANN, BEN, CID, GOLD, NOW, ORG, OTHER_ORG, SILVER, Store, by_id, entry, lot, wallet_posting

from points_grpc.domain import events as ev
from points_grpc.domain.model import Kind, Lot, Source, WalletKey
from points_grpc.domain.policy import Policy
from points_grpc.domain.views import Listed, ListedWallet, Position
from points_grpc.service.ids import IdSource, lowest_id
from points_grpc.storage.listings import SqlListings

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
Item = TypeVar("Item")


@pytest.fixture
def listings(store: Store) -> SqlListings:
    return SqlListings(store.database)


def pages(read: Callable[[Position], Listed[Item]]) -> list[list[Item]]:
    """The items of all pages, page by page."""
    found: list[list[Item]] = []
    after: Position = ()
    while True:
        page = read(after)
        found.append(list(page.items))
        if page.after is None:
            return found
        assert page.after != after
        after = page.after


def flat(found: Iterable[Iterable[Item]]) -> list[Item]:
    """The items of all pages."""
    return list(chain.from_iterable(found))


def all_wallets(
    listings: SqlListings, *, size: int = 2, program_id: int = 0, org_id: int = ORG, at: datetime = NOW
) -> list[list[ListedWallet]]:
    return pages(
        lambda after: listings.wallets(org_id, program_id=program_id, after=after, limit=size, count=False, now=at)
    )


def all_lots(
    listings: SqlListings, *, size: int = 2, program_id: int = 0, org_id: int = ORG, at: datetime = NOW
) -> list[list[Lot]]:
    return pages(
        lambda after: listings.live_lots(org_id, program_id=program_id, after=after, limit=size, count=False, now=at)
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_customers(store: Store, listings: SqlListings, size: int) -> None:
    """By id, with the programs of enrolment; another organisation has none of them."""
    found = pages(lambda after: listings.customers(ORG, after=after, limit=size, count=False))

    assert [store.queries.customer(ORG, by_id(one)) for one in (ANN, BEN, CID)] == flat(found)
    assert [len(page) for page in found] == [len(range(start, min(3, start + size))) for start in range(0, 3, size)]
    assert listings.customers(ORG, after=(), limit=1, count=True).total == 3
    assert listings.customers(OTHER_ORG, after=(), limit=1, count=True) == Listed([], None, 0)


def test_wallets_are_as_reads_of_one_show_them(store: Store, listings: SqlListings) -> None:
    """Also where points have expired or matured and it was not booked."""
    policy = Policy()
    store.issue(ANN, 100, expires_at=NOW + 2 * DAY)
    store.issue(ANN, 20, source=Source.REGISTRATION)
    store.issue(BEN, 5, available_from=NOW + DAY, promised=True)
    store.issue(CID, 7, program_id=SILVER)
    for at in (NOW, NOW + DAY, NOW + 3 * DAY):
        found = flat(all_wallets(listings, at=at))
        alone = [
            store.queries.wallet(ORG, WalletKey(one, program_id), policy.transfer.barred_sources, at)
            for one in (ANN, BEN, CID)
            for program_id in (GOLD, SILVER)
        ]

        assert [one.balance for one in alone] == [one.balance for one in found]
        assert [one.lifetime_earned for one in alone] == [one.lifetime_earned for one in found]
        assert {NOW} == {one.enrolled_at for one in found}


def test_wallets_of_a_program(store: Store, listings: SqlListings) -> None:
    """Pages look at all wallets, so that some show fewer; the total is that of the program."""
    found = all_wallets(listings, size=3, program_id=SILVER)

    assert [[ANN], [BEN, CID]] == [[one.balance.customer_id for one in page] for page in found]
    assert {SILVER} == {one.balance.program_id for page in found for one in page}
    totals = [
        listings.wallets(ORG, program_id=one, after=(), limit=1, count=True, now=NOW).total for one in (0, SILVER)
    ]
    assert [6, 3] == totals
    assert [[]] == all_wallets(listings, org_id=OTHER_ORG)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_live_lots(store: Store, listings: SqlListings, size: int) -> None:
    """By customer, program and spending order; what is spent or has expired is not there."""
    issued = [
        store.issue(BEN, 3, expires_at=NOW + DAY),
        store.issue(ANN, 4, expires_at=None),
        store.issue(ANN, 5, expires_at=NOW + 2 * DAY),
        store.issue(ANN, 6, program_id=SILVER, expires_at=NOW + HOUR),
        store.issue(ANN, 7, expires_at=NOW + 2 * DAY),
    ]
    places = [2, 4, 1, 3, 0]

    assert [issued[one] for one in places] == flat(all_lots(listings, size=size))
    assert [issued[one] for one in (2, 4, 1, 0)] == flat(all_lots(listings, size=size, at=NOW + 2 * HOUR))
    assert [issued[3]] == flat(all_lots(listings, size=size, program_id=SILVER))
    assert [[]] == all_lots(listings, org_id=OTHER_ORG)
    totals = [
        listings.live_lots(ORG, program_id=one, after=(), limit=1, count=True, now=NOW).total for one in (0, SILVER)
    ]
    assert [5, 1] == totals


def test_journal(store: Store, listings: SqlListings) -> None:
    """Highest id first, without postings, narrowed down by time; a time without entries has an empty page."""
    made = []
    now = NOW
    next_id = IdSource(0, lambda: int(now.timestamp() * 1000))
    for hours in range(6):
        now = NOW + hours * HOUR
        opened = lot(ANN, 5, lot_id=next_id(), transaction_id=next_id())
        booked = entry(
            Kind.ISSUE,
            (wallet_posting(opened, 5, version=hours + 1, balance=5 * hours + 5),),
            customer_id=ANN,
            transaction_id=opened.transaction_id,
            opened=(opened,),
            created_at=now,
        )
        store.apply([ev.Booked(booked)])
        made.append(booked.transaction_id)

    def ids(since: datetime | None, until: datetime | None, org_id: int = ORG) -> list[int]:
        found = pages(
            lambda after: listings.journal(org_id, since=since, until=until, after=after, limit=2, count=False)
        )
        assert all(row.entry.postings == () for page in found for row in page)
        return [row.entry.transaction_id for page in found for row in page]

    between = listings.journal(ORG, since=NOW + HOUR, until=NOW + 3 * HOUR, after=(), limit=1, count=True)
    whole = store.queries.transaction(ORG, made[5])
    [newest] = listings.journal(ORG, since=None, until=None, after=(), limit=1, count=False).items

    assert made[::-1] == ids(None, None)
    assert made[4:1:-1] == ids(NOW + 2 * HOUR, NOW + 5 * HOUR)
    assert made[:2:-1] == ids(NOW + 3 * HOUR, None)
    assert made[1::-1] == ids(None, NOW + 2 * HOUR)
    assert [] == ids(NOW + 9 * HOUR, NOW + 10 * HOUR) == ids(None, None, OTHER_ORG)
    assert 2 == between.total
    assert whole is not None
    assert (whole.entry.created_at, whole.position) == (newest.entry.created_at, newest.position)


def test_ids_tell_the_time_roughly() -> None:
    """What is made at a time has no lower id, whatever the slot; there are bounds at both ends."""
    at_ms = int(NOW.timestamp() * 1000)

    assert lowest_id(at_ms) == IdSource(0, lambda: at_ms)()
    assert lowest_id(at_ms) <= IdSource(1023, lambda: at_ms)() < lowest_id(at_ms + 1)
    assert (0, 2**63 - 1) == (lowest_id(-(10**15)), lowest_id(10**15))


def test_the_ends_of_time(listings: SqlListings) -> None:
    """A journal can be asked for from year 1 to year 9999."""
    ends = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    assert Listed([], None, 0) == listings.journal(ORG, since=ends[0], until=ends[1], after=(), limit=1, count=True)
