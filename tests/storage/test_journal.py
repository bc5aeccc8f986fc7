"""The journal: positions without gaps in the order of events, and writers that lost their stream are fenced."""

from __future__ import annotations

import pytest
from stores import ANN, GOLD, NOTHING, ORG, OTHER_ORG, Store, entry, lot, system_posting, wallet_posting

from points_grpc.domain import events as ev
from points_grpc.domain.model import Account, JournalEntry, Kind, OrgConfig, WalletKey
from points_grpc.domain.snapshot import ANY_POINTS, Keys, Snapshot
from points_grpc.service.ports import StorageConflict, WriterFenced

ANN_GOLD = WalletKey(ANN, GOLD)
ANNS = Keys(customers=frozenset({ANN}))


def issue(store: Store, points: int = 5) -> JournalEntry:
    """A journal transaction that opens a lot for Ann."""
    wallet = store.load(ANNS).wallets[ANN_GOLD]
    opened = lot(ANN, points)
    return entry(
        Kind.ISSUE,
        (
            wallet_posting(opened, points, version=wallet.version + 1, balance=wallet.current + points),
            system_posting(Account.ISSUED, GOLD, -points),
        ),
        customer_id=ANN,
        transaction_id=opened.transaction_id,
        opened=(opened,),
        notes="naïve \U0001f600",
        transaction_number="bill-1",
    )


def positions(store: Store) -> list[tuple[int, int, int]]:
    """Transaction, stream and position of the journal, in order."""
    return store.rows(
        "SELECT transaction_id, stream, position FROM transactions WHERE org_id = ? ORDER BY position", ORG
    )


def test_positions_follow_the_order_of_events(store: Store) -> None:
    """Within a batch and from batch to batch, whatever the ids."""
    booked: list[int] = []
    for _ in range(3):
        first, second = (
            issue(store),
            entry(
                Kind.EXPIRY,
                (system_posting(Account.EXPIRED, GOLD, 1), system_posting(Account.ADJUSTED, GOLD, -1)),
                customer_id=ANN,
            ),
        )
        store.apply([ev.Booked(second), ev.Booked(first)])
        booked += [second.transaction_id, first.transaction_id]

    assert positions(store) == [(one, 0, position) for position, one in enumerate(booked, start=1)]
    assert store.rows("SELECT org_id, stream, position FROM journal_streams") == [(ORG, 0, 6)]


def test_streams_of_organisations_are_apart(store: Store) -> None:
    """Each starts at one."""
    store.apply([ev.Booked(issue(store))])
    other = entry(
        Kind.EXPIRY,
        (system_posting(Account.EXPIRED, GOLD, 1), system_posting(Account.ADJUSTED, GOLD, -1)),
        customer_id=ANN,
    )
    store.apply([ev.Booked(other)], org_id=OTHER_ORG)

    assert store.rows("SELECT org_id, position FROM journal_streams ORDER BY org_id") == [(ORG, 1), (OTHER_ORG, 1)]


def test_a_restarted_writer_goes_on(store: Store) -> None:
    """The position is read from the database, the epoch of the slot goes up."""
    store.apply([ev.Booked(issue(store))])
    epoch = store.repository.slot.epoch
    store.reopen()
    store.apply([ev.Booked(issue(store))])

    assert [position for _, _, position in positions(store)] == [1, 2]
    assert store.repository.slot.number == 0
    assert store.repository.slot.epoch == epoch + 1


def test_a_rolled_back_batch_leaves_no_gap(store: Store) -> None:
    """The position that it would have taken is taken by the next one."""
    store.apply([ev.Booked(issue(store))])
    with store.repository.write(ORG) as session:
        snapshot = Snapshot(session.load(ANNS, session.book(), NOTHING, {}), OrgConfig({}))
        snapshot.evolve([ev.Booked(issue(store))])
        session.apply(snapshot.changes, [], [])
    store.apply([ev.Booked(issue(store))])

    assert [position for _, _, position in positions(store)] == [1, 2]


def test_a_writer_that_lost_its_stream_is_fenced(store: Store) -> None:
    """Another one advanced it: nothing is written, then and ever after."""
    store.apply([ev.Booked(issue(store))])
    store.tamper("UPDATE journal_streams SET position = position + 1")
    before = store.counts()
    for _ in range(2):
        with pytest.raises(WriterFenced):
            store.apply([ev.Booked(issue(store))])

    assert before == store.counts()


def test_a_writer_whose_first_position_was_taken_is_fenced(store: Store) -> None:
    """The stream had no row when this writer looked."""
    with store.repository.write(ORG) as session:
        session.apply(Snapshot(session.load(ANNS, session.book(), NOTHING, {}), OrgConfig({})).changes, [], [])
        session.commit()
    store.tamper(f"INSERT INTO journal_streams (org_id, stream, position, hash) VALUES ({ORG}, 0, 1, '')")

    with pytest.raises(WriterFenced):
        store.apply([ev.Booked(issue(store))])


def test_a_batch_without_movements_does_not_touch_the_stream(store: Store) -> None:
    """Nor is it fenced."""
    store.apply([ev.Booked(issue(store))])
    store.tamper("UPDATE journal_streams SET position = position + 1")
    store.apply([ev.ConfigKeySet("X", "y")])

    assert store.repository.config(ORG).values["X"] == "y"


def test_a_wallet_changed_by_somebody_else_is_a_conflict(store: Store) -> None:
    """Its version is not what was loaded: nothing is written, and the batch may be run again."""
    before = store.counts()
    with store.repository.write(ORG) as session:
        snapshot = Snapshot(session.load(ANNS, session.book(), NOTHING, {}), OrgConfig({}))
        snapshot.evolve([ev.Booked(issue(store))])
        store.repository.connection().cursor().execute("UPDATE wallets SET version = 7")
        with pytest.raises(StorageConflict):
            session.apply(snapshot.changes, [], [])

    assert before == store.counts()
    store.apply([ev.Booked(issue(store))])


def test_a_lot_that_is_gone_is_a_conflict(store: Store) -> None:
    """A row that was loaded must be there."""
    issued = store.issue(ANN, 5)
    keys = Keys(customers=frozenset({ANN}), draws={ANN_GOLD: ANY_POINTS})
    spent = entry(
        Kind.REDEMPTION,
        (wallet_posting(issued, -5, version=2, balance=0), system_posting(Account.REDEEMED, GOLD, 5)),
        customer_id=ANN,
    )
    with store.repository.write(ORG) as session:
        snapshot = Snapshot(session.load(keys, session.book(), NOTHING, {}), OrgConfig({}))
        snapshot.evolve([ev.Booked(spent)])
        store.repository.connection().cursor().execute("DELETE FROM lots")
        with pytest.raises(StorageConflict):
            session.apply(snapshot.changes, [], [])


def test_a_duplicate_id_is_a_conflict(store: Store) -> None:
    """Two transactions under one id cannot be."""
    booked = issue(store)
    store.apply([ev.Booked(booked)])

    with pytest.raises(StorageConflict):
        store.apply([ev.Booked(entry(Kind.EXPIRY, (), customer_id=ANN, transaction_id=booked.transaction_id))])


def test_a_transaction_takes_one_batch(store: Store) -> None:
    """Applying twice is a bug."""
    with store.repository.write(ORG) as session:
        changes = Snapshot(session.load(ANNS, session.book(), NOTHING, {}), OrgConfig({})).changes
        session.apply(changes, [], [])
        with pytest.raises(RuntimeError):
            session.apply(changes, [], [])
