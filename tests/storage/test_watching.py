"""Reads for watches: what follows a place in the journal, of streams of several writers, and what is missing."""

from __future__ import annotations

import pytest
from stores import ANN, BEN, GOLD, ORG, OTHER_ORG, SILVER, Store

from points_grpc.domain.model import WalletKey
from points_grpc.domain.views import JournalRow
from points_grpc.storage.watching import SqlJournal

ANN_GOLD = WalletKey(ANN, GOLD)
JOURNAL = ("transactions", "postings", "lots")


@pytest.fixture
def journal(store: Store) -> SqlJournal:
    """Six issues to Ann and Ben, in two programs."""
    for number in range(3):
        store.issue(ANN, 100 + number)
        store.issue(BEN, 10)
        store.issue(ANN, 1, program_id=SILVER)
    return SqlJournal(store.database)


def move(store: Store, position: int, *, stream: int, to: int, transaction_id: int = 0) -> None:
    """Makes another writer the author of a transaction, and its id what that one's clock said."""
    [(old,)] = store.rows("SELECT transaction_id FROM transactions WHERE stream = 0 AND position = ?", position)
    new = transaction_id or old
    store.tamper(
        *(f"UPDATE {table} SET transaction_id = {new} WHERE transaction_id = {old}" for table in JOURNAL),
        f"UPDATE transactions SET stream = {stream}, position = {to} WHERE transaction_id = {new}",
        f"INSERT INTO journal_streams (org_id, stream, position, hash) VALUES ({ORG}, {stream}, {to}, '')"
        " ON CONFLICT (org_id, stream) DO UPDATE SET position = excluded.position",
    )


def places(rows: list[JournalRow]) -> list[tuple[int, int]]:
    """Stream and position of rows."""
    return [(row.stream, row.position) for row in rows]


def versions(rows: list[JournalRow], key: WalletKey = ANN_GOLD) -> list[int]:
    """The versions that rows make of a wallet; their postings are of no other."""
    assert {(one.customer_id, one.program_id) for row in rows for one in row.entry.postings} <= {tuple(key)}
    return [row.entry.postings[0].wallet_version for row in rows]


def test_heads(store: Store, journal: SqlJournal) -> None:
    """Each organisation has streams of its own; one that never wrote has none."""
    move(store, 9, stream=7, to=1)

    assert {ORG: {0: 9, 7: 1}, OTHER_ORG: {}} == journal.heads([ORG, OTHER_ORG])


def test_after(store: Store, journal: SqlJournal) -> None:
    """What follows a place in each stream, with all postings, and no more than asked for."""
    move(store, 9, stream=7, to=1)
    heads, found = journal.after(ORG, {0: 6}, 100)
    limited = journal.after(ORG, {0: 6}, 2)[1]

    assert {0: 9, 7: 1} == heads
    assert [(0, 7), (0, 8), (7, 1)] == places(found)
    assert [(0, 7), (0, 8)] == places(limited)
    assert [(102, ANN), (-102, 0)] == [(one.points, one.customer_id) for one in found[0].entry.postings]
    assert ({0: 9, 7: 1}, []) == journal.after(ORG, {0: 9, 7: 1}, 100)
    assert ({}, []) == journal.after(OTHER_ORG, {}, 100)


def test_wallet_after(journal: SqlJournal) -> None:
    """What made the versions of one wallet after a given one, from wherever it is looked for, page by page."""
    head, found = journal.wallet_after(ORG, ANN_GOLD, 0, 0, 100)
    first = found[0].entry.transaction_id

    assert (3, [1, 2, 3]) == (head, versions(found))
    assert [100, 101, 102] == [row.entry.points for row in found]
    assert [2, 3] == versions(journal.wallet_after(ORG, ANN_GOLD, 1, 0, 100)[1])
    assert [2, 3] == versions(journal.wallet_after(ORG, ANN_GOLD, 1, first, 100)[1])
    assert [2] == versions(journal.wallet_after(ORG, ANN_GOLD, 1, first, 1)[1])
    assert (3, []) == journal.wallet_after(ORG, ANN_GOLD, 3, 0, 100)
    assert (0, []) == journal.wallet_after(ORG, WalletKey(77, GOLD), 0, 0, 100)
    assert (0, []) == journal.wallet_after(OTHER_ORG, ANN_GOLD, 0, 0, 100)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_clocks_that_differ(store: Store, journal: SqlJournal, limit: int) -> None:
    """Versions are told in their order although the ids of another writer, whose clock is late, are not in it."""
    move(store, 4, stream=7, to=1, transaction_id=5)  # Ann's second version
    found: list[JournalRow] = []
    while len(found) < 3:
        last = found[-1].entry.transaction_id if found else 0
        page = journal.wallet_after(ORG, ANN_GOLD, len(found), last, limit)[1]
        assert page
        found += page

    assert [1, 2, 3] == versions(found)
    assert [(0, 1), (7, 1), (0, 7)] == places(found)


def test_missing(store: Store, journal: SqlJournal) -> None:
    """What was taken out of the journal is not passed over: what follows it is not told."""
    [(gone,)] = store.rows("SELECT transaction_id FROM transactions WHERE stream = 0 AND position = 4")
    store.tamper(
        f"DELETE FROM postings WHERE transaction_id = {gone}",
        f"DELETE FROM transactions WHERE transaction_id = {gone}",
    )

    assert [1] == versions(journal.wallet_after(ORG, ANN_GOLD, 0, 0, 100)[1])
    assert (3, []) == journal.wallet_after(ORG, ANN_GOLD, 1, 0, 100)
    assert [3] == versions(journal.wallet_after(ORG, ANN_GOLD, 2, 0, 100)[1])
    assert [(0, 5)] == places(journal.after(ORG, {0: 3}, 1)[1])


def test_versions(journal: SqlJournal) -> None:
    """The versions of wallets of several organisations; 0 for those that are not there."""
    wanted = [(ORG, ANN_GOLD), (ORG, WalletKey(BEN, SILVER)), (OTHER_ORG, ANN_GOLD)]

    assert [3, 0, 0] == list(journal.versions(wanted).values())
