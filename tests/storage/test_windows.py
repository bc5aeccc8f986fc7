"""Windows: the first lots of many wallets in spending order, in one statement that stops at the limit."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest
from msgspec.structs import replace
from stores import ANN, BEN, CID, GOLD, NOW, SILVER, Store, lot

from points_grpc.domain.model import Lot, Source, WalletKey
from points_grpc.domain.snapshot import ANY_POINTS, Keys, spending_key
from points_grpc.storage import statements as sql
from points_grpc.storage.driver import Statement
from points_grpc.storage.times import expiry_to_micros, to_micros

ANN_GOLD = WalletKey(ANN, GOLD)
BEN_GOLD = WalletKey(BEN, GOLD)


def put(store: Store, lots: list[Lot]) -> None:
    """Lots by themselves, without a journal."""
    rows = [
        (
            1,
            one.lot_id,
            one.customer_id,
            one.program_id,
            one.earning_program_id,
            int(one.source),
            one.category,
            one.points,
            one.remaining,
            one.held,
            1 if one.remaining else 0,
            to_micros(one.awarded_at),
            None if one.available_from is None else to_micros(one.available_from),
            one.promised,
            expiry_to_micros(one.expires_at),
            None,
            one.root_lot_id,
            one.transaction_id,
        )
        for one in lots
    ]
    with store.repository.write(1) as session:
        session._driver.change_many(sql.INSERT_LOT, rows)
        session.commit()


def random_lots(customer_id: int, number: int, rng: random.Random) -> list[Lot]:
    """Lots with many equal expiries and awards, some spent, some that never expire."""
    return [
        lot(
            customer_id,
            10,
            remaining=rng.choice((0, 1, 10)),
            expires_at=rng.choice((None, NOW + timedelta(days=rng.randrange(4)))),
            awarded_at=NOW - timedelta(days=rng.randrange(3)),
        )
        for _ in range(number)
    ]


def test_lots_come_in_spending_order(store: Store) -> None:
    """Earliest expiry, earlier award, lower id; never last; spent ones not at all."""
    rng = random.Random(5)
    lots = {customer_id: random_lots(customer_id, 40, rng) for customer_id in (ANN, BEN)}
    for one in lots.values():
        put(store, one)
    loaded = store.load(
        Keys(customers=frozenset({ANN, BEN}), draws=dict.fromkeys((ANN_GOLD, BEN_GOLD), ANY_POINTS)),
        windows={BEN_GOLD: 100},
    )

    expected = {
        key: sorted((one for one in lots[key.customer_id] if one.remaining), key=spending_key)
        for key in (ANN_GOLD, BEN_GOLD)
    }
    assert loaded.lots[ANN_GOLD].lots == tuple(expected[ANN_GOLD][:4])
    assert not loaded.lots[ANN_GOLD].complete
    assert loaded.lots[BEN_GOLD].lots == tuple(expected[BEN_GOLD])
    assert loaded.lots[BEN_GOLD].complete


def test_a_window_knows_whether_it_is_complete(store: Store) -> None:
    """One lot fewer, exactly as many, one more."""
    for number in (3, 4, 5):
        with store.connection() as connection:
            connection.execute("DELETE FROM lots")
        put(store, [lot(ANN, 10) for _ in range(number)])
        found = store.load(Keys(customers=frozenset({ANN}), draws={ANN_GOLD: ANY_POINTS})).lots[ANN_GOLD]

        assert (len(found.lots), found.complete) == (min(number, 4), number <= 4)


def test_few_lots_are_loaded_for_few_points(store: Store) -> None:
    """Three, if these hold what is drawn: no others are read, and the window says that it is not complete."""
    put(store, [lot(ANN, 10) for _ in range(5)])
    store.statements.clear()
    loaded = store.load(Keys(customers=frozenset({ANN}), draws={ANN_GOLD: 30})).lots[ANN_GOLD]

    assert (len(loaded.lots), loaded.complete) == (3, False)
    assert len([text for text in store.statements if "FROM lots" in text]) == 1

    loaded = store.load(Keys(customers=frozenset({ANN}), draws={ANN_GOLD: 31})).lots[ANN_GOLD]
    assert (len(loaded.lots), loaded.complete) == (4, False)


@pytest.mark.parametrize(
    "useless",
    [
        lot(ANN, 10, held=1),
        lot(ANN, 10, source=Source.REGISTRATION),
        lot(ANN, 10, promised=True, available_from=NOW + timedelta(days=1)),
        lot(ANN, 10, expires_at=NOW - timedelta(seconds=1)),
    ],
    ids=["held", "barred", "promised", "expired"],
)
def test_points_that_cannot_be_drawn_do_not_count(store: Store, useless: Lot) -> None:
    """One point fewer than is drawn in the first three lots: more are loaded at once."""
    put(store, [useless, *(lot(ANN, 10) for _ in range(4))])
    barred = frozenset({Source.REGISTRATION})
    loaded = store.load(Keys(customers=frozenset({ANN}), draws={ANN_GOLD: 30}, barred=barred)).lots[ANN_GOLD]

    assert (len(loaded.lots), loaded.complete) == (4, False)


def test_draws_of_a_batch_add_up() -> None:
    """Two commands on one wallet draw what both draw; what one passes over, nobody counts on."""
    one = Keys(draws={ANN_GOLD: 20}, barred=frozenset({5}))
    other = Keys(draws={ANN_GOLD: 10, BEN_GOLD: 7}, barred=frozenset({1}))

    assert Keys.union([one, other]) == Keys(draws={ANN_GOLD: 30, BEN_GOLD: 7}, barred=frozenset({1, 5}))


def test_a_drawn_wallet_without_lots_has_an_empty_window(store: Store) -> None:
    """Absent lots are loaded, and there are none; wallets that do not exist have no window."""
    keys = Keys(customers=frozenset({ANN}), draws=dict.fromkeys((ANN_GOLD, WalletKey(4711, GOLD)), ANY_POINTS))
    loaded = store.load(keys)

    assert set(loaded.lots) == {ANN_GOLD}
    assert (loaded.lots[ANN_GOLD].lots, loaded.lots[ANN_GOLD].complete) == ((), True)


def test_wallets_are_loaded_by_one_statement(store: Store) -> None:
    """However many; another size of window costs one more."""
    keys = Keys(
        customers=frozenset({ANN, BEN, CID}),
        draws={WalletKey(one, program): ANY_POINTS for one in (ANN, BEN, CID) for program in (GOLD, SILVER)},
    )
    store.statements.clear()
    store.load(keys)
    assert len([text for text in store.statements if "FROM lots" in text]) == 1

    store.statements.clear()
    store.load(keys, windows={ANN_GOLD: 9, BEN_GOLD: 9})
    assert len([text for text in store.statements if "FROM lots" in text]) == 2


def test_reading_stops_at_the_limit(sqlite_store: Store) -> None:
    """A hundred times as many lots cost no more steps of the database's machine."""

    def steps(statement: Statement) -> int:
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        with sqlite_store.connection() as connection:
            connection.set_progress_handler(count, 1)
            connection.execute(statement.text, (json.dumps([ANN_GOLD, BEN_GOLD]), 1, 1, 5)).fetchall()
        return counted

    put(sqlite_store, [lot(ANN, 10) for _ in range(20)] + [lot(BEN, 10) for _ in range(20)])
    few = steps(sql.FIRST_LOTS)
    put(sqlite_store, [lot(ANN, 10, expires_at=NOW + timedelta(minutes=n)) for n in range(2_000)])
    many = steps(sql.FIRST_LOTS)

    assert many <= few


def test_a_lot_is_loaded_whole(store: Store) -> None:
    """Held points and all."""
    put(store, [one := lot(ANN, 10, held=3)])
    found = store.load(Keys(customers=frozenset({ANN}), draws={ANN_GOLD: ANY_POINTS})).lots[ANN_GOLD].lots

    assert found == (replace(one),)
