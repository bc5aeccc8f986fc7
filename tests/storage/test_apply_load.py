"""What is applied is what is loaded afterwards: for every kind of event, and for the rows that they replace.

The snapshot that evolved in memory is the expectation; the load from the database in a new transaction is the fact.
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from msgspec.structs import replace
from stores import (
    ANN,
    BEN,
    GOLD,
    NO_KEYS,
    NOTHING,
    NOW,
    ORG,
    OTHER_ORG,
    SILVER,
    Store,
    by_id,
    customer,
    entry,
    lot,
    new_program,
    next_id,
    system_posting,
    wallet_posting,
)

from points_grpc.domain import events as ev
from points_grpc.domain.model import (
    Account,
    Bucket,
    BucketKey,
    FraudStatus,
    Kind,
    Lot,
    OrgConfig,
    Otp,
    OtpAction,
    OtpCounter,
    OtpState,
    ProgramGroup,
    Purchase,
    RedeemedLot,
    Redemption,
    Source,
    StatusLabel,
    WalletKey,
)
from points_grpc.domain.policy import Direction, OtpPolicy, Policy, RedemptionPolicy
from points_grpc.domain.snapshot import ANY_POINTS, DuplicateKey, Keys, Lookups, Snapshot
from points_grpc.storage.collect import COLLECT, WALLET_EVENTS
from points_grpc.storage.wallet_texts import ENTRIES_MAX

ANN_GOLD = WalletKey(ANN, GOLD)
BEN_GOLD = WalletKey(BEN, GOLD)
BOTH = Keys(customers=frozenset({ANN, BEN}), draws=dict.fromkeys((ANN_GOLD, BEN_GOLD), ANY_POINTS))


def test_every_event_is_taken_care_of() -> None:
    """A new kind of event is either collected or in the final rows of wallets and lots."""
    kinds = set(ev.Event.__args__)

    assert kinds == COLLECT.keys() | WALLET_EVENTS


def test_a_customer_is_created_and_changed(store: Store) -> None:
    """Every field, each identifier free to be absent."""
    new_id = next_id()
    created = customer(new_id, "Dee", email=None, external_id=None, campaign_contact=True)
    store.apply([ev.CustomerSaved(created, created=True)], keys=NO_KEYS)

    assert store.load(Keys(customers=frozenset({new_id}))).customers == {new_id: created}

    changed = replace(
        created,
        last_name="Roe",
        mobile=None,
        email="dee@example.org",
        fraud_status=FraudStatus.CONFIRMED,
        status_label=StatusLabel.SUSPENDED,
        transfers_locked_until=NOW + timedelta(microseconds=1),
        merged_into=ANN,
        campaign_contact=False,
    )
    store.apply([ev.CustomerSaved(changed, created=False)], keys=NO_KEYS)

    assert store.load(Keys(customers=frozenset({new_id}))).customers == {new_id: changed}


def test_a_customer_created_and_changed_in_one_batch_is_written_once(store: Store) -> None:
    """The row is as it is at the end."""
    new_id = next_id()
    created = customer(new_id, "Dee")
    changed = replace(created, last_name="Roe")
    store.apply([ev.CustomerSaved(created, created=True), ev.CustomerSaved(changed, created=False)], keys=NO_KEYS)

    assert store.load(Keys(customers=frozenset({new_id}))).customers[new_id] == changed


def test_an_enrolment_opens_a_wallet(store: Store) -> None:
    """The wallet is there with all at zero."""
    new_id = next_id()
    key = WalletKey(new_id, GOLD)
    snapshot = store.apply(
        [ev.CustomerSaved(customer(new_id, "Dee"), created=True), ev.Enrolled(key, NOW)], keys=NO_KEYS
    )

    assert store.load(Keys(customers=frozenset({new_id}))).wallets == {key: snapshot.wallet(key)}


def test_a_wallet_can_be_enrolled_later(store: Store) -> None:
    """Enrolment is one field of the wallet, changed where it is there."""
    store.tamper(f"UPDATE wallets SET enrolled_at = NULL WHERE customer_id = {ANN}")
    store.apply([ev.Enrolled(ANN_GOLD, NOW)])
    wallets = store.load(Keys(customers=frozenset({ANN}))).wallets

    assert wallets[ANN_GOLD].enrolled_at == NOW
    assert wallets[WalletKey(ANN, SILVER)].enrolled_at is None


def test_an_issue_is_booked(store: Store) -> None:
    """Wallet, totals and the lot are as the snapshot had them."""
    issued = store.issue(
        ANN,
        70,
        source=Source.DATA_IMPORT,
        category="Bonus",
        available_from=NOW + timedelta(days=1),
        promised=True,
        expires_at=None,
    )
    loaded = store.load(BOTH)

    assert loaded.lots[ANN_GOLD].lots == (issued,)
    assert loaded.lots[ANN_GOLD].complete
    assert loaded.buckets[ANN_GOLD] == {BucketKey(GOLD, Source.DATA_IMPORT, "Bonus"): Bucket(70, 70, 0)}
    assert not any(buckets for key, buckets in loaded.buckets.items() if key != ANN_GOLD)
    wallet = loaded.wallets[ANN_GOLD]
    assert (wallet.version, wallet.current, wallet.promised, wallet.lifetime_earned) == (1, 70, 70, 70)
    assert wallet.due_at == issued.available_from


def test_a_promised_lot_matures(store: Store) -> None:
    """It leaves the promised lots and the promised totals."""
    issued = store.issue(ANN, 70, available_from=NOW, promised=True)
    store.now = NOW
    snapshot = store.apply([ev.LotsMatured(ANN_GOLD, (issued.lot_id,)), ev.DueMoved(ANN_GOLD, issued.expires_at)])
    loaded = store.load(BOTH)

    assert loaded.lots[ANN_GOLD].lots == (replace(issued, promised=False),)
    assert loaded.wallets[ANN_GOLD] == snapshot.wallet(ANN_GOLD)
    assert loaded.buckets[ANN_GOLD] == snapshot.buckets(ANN_GOLD)
    assert loaded.promised == {}


def test_a_due_wallet_brings_its_lots_and_all_promised_ones(store: Store) -> None:
    """Whatever the window: the promised lots of a due wallet come whole, those of others not at all."""
    promised = [
        store.issue(ANN, 5, available_from=NOW + timedelta(hours=n), promised=True, expires_at=None)
        for n in range(1, 8)
    ]
    store.issue(BEN, 5, available_from=NOW + timedelta(days=2), promised=True)
    store.issue(ANN, 5, program_id=SILVER)
    store.now = NOW + timedelta(hours=1)
    loaded = store.load(Keys(customers=frozenset({ANN, BEN})))

    assert loaded.now == store.now
    assert set(loaded.lots) == {ANN_GOLD}
    assert len(loaded.lots[ANN_GOLD].lots) == 4
    assert not loaded.lots[ANN_GOLD].complete
    assert set(loaded.promised) == {ANN_GOLD}
    assert set(loaded.promised[ANN_GOLD]) == set(promised)


def test_promised_lots_without_points_stay_behind(store: Store) -> None:
    """What expired or moved away before its time came is over: it would make its wallet due for ever."""
    store.issue(ANN, 5, available_from=NOW + timedelta(days=99), promised=True, remaining=0)
    left = store.issue(ANN, 5, available_from=NOW + timedelta(hours=1), promised=True)
    store.now = NOW + timedelta(hours=1)

    assert {ANN_GOLD: (left,)} == store.load(Keys(customers=frozenset({ANN}))).promised


def test_nothing_is_due_a_microsecond_earlier(store: Store) -> None:
    """`due_at` <= now is the rule, to the microsecond."""
    issued = store.issue(ANN, 5, available_from=NOW + timedelta(hours=1), promised=True)
    assert issued.available_from is not None
    store.now = issued.available_from - timedelta(microseconds=1)

    assert store.load(Keys(customers=frozenset({ANN}))).lots == {}


def transferred(store: Store, drawn: Lot, points: int) -> tuple[list[ev.Event], Lot]:
    """The events of a transfer from Ann to Ben."""
    received = lot(BEN, points, awarded_at=drawn.awarded_at, parent_lot_id=drawn.lot_id, root_lot_id=drawn.root_lot_id)
    wallets = store.load(BOTH).wallets
    source, destination = wallets[ANN_GOLD], wallets[BEN_GOLD]
    booked = entry(
        Kind.TRANSFER,
        (
            wallet_posting(drawn, -points, version=source.version + 1, balance=source.current - points),
            wallet_posting(received, points, version=destination.version + 1, balance=destination.current + points),
        ),
        customer_id=ANN,
        counterparty_id=BEN,
        transaction_id=received.transaction_id,
        opened=(received,),
    )
    day = NOW.date()
    return [
        ev.Booked(booked),
        ev.LifetimeRaised(BEN_GOLD, received=points),
        ev.VelocityCounted(ANN_GOLD, Direction.OUT, day, points),
        ev.VelocityCounted(BEN_GOLD, Direction.IN, day, points),
    ], received


def test_a_transfer_is_booked(store: Store) -> None:
    """Two wallets, two totals, two lots, two counts, one transaction."""
    drawn = store.issue(ANN, 70)
    before = store.counts()
    events, received = transferred(store, drawn, 30)
    snapshot = store.apply(events, keys=BOTH)
    loaded = store.load(
        replace(
            BOTH,
            velocity=frozenset({ANN_GOLD, BEN_GOLD}),
            duplicates=frozenset({(DuplicateKey(ANN, BEN, GOLD, 30), 60), (DuplicateKey(BEN, ANN, GOLD, 30), 60)}),
        )
    )

    for key in (ANN_GOLD, BEN_GOLD):
        assert loaded.wallets[key] == snapshot.wallet(key)
        assert loaded.buckets[key] == snapshot.buckets(key)
    assert loaded.lots[ANN_GOLD].lots == (replace(drawn, remaining=40),)
    assert loaded.lots[BEN_GOLD].lots == (received,)
    assert loaded.velocity == {
        ANN_GOLD: {(Direction.OUT, NOW.date()): (30, 1)},
        BEN_GOLD: {(Direction.IN, NOW.date()): (30, 1)},
    }
    assert loaded.recent_transfers == {DuplicateKey(ANN, BEN, GOLD, 30): NOW}
    added = {table: now - before[table] for table, now in store.counts().items() if now != before[table]}
    assert added == {"lots": 1, "transactions": 1, "postings": 2}


def test_a_transfer_writes_at_most_eight_rows_beside_the_stream(store: Store) -> None:
    """The budget: rows inserted or updated, the journal stream (one a batch) apart."""
    store.issue(BEN, 1)
    events, _ = transferred(store, store.issue(ANN, 70), 30)
    with store.repository.write(ORG) as session:
        snapshot = Snapshot(session.load(BOTH, session.book(), NOTHING, {}), OrgConfig({}))
        snapshot.evolve(events)
        before = store.rows_written()
        session.apply(snapshot.changes, [], [])
        written = store.rows_written() - before
        session.commit()

    requests, stream = 1, 1
    assert written - stream + requests <= 8


def test_equal_transfers_are_found_within_their_window_only(store: Store) -> None:
    """The last one counts, and only if it is not older than the window."""
    drawn = store.issue(ANN, 70)
    store.apply(transferred(store, drawn, 30)[0], keys=BOTH)
    key = DuplicateKey(ANN, BEN, GOLD, 30)

    def found(window_s: int) -> object:
        return store.load(replace(BOTH, duplicates=frozenset({(key, window_s)}))).recent_transfers.get(key)

    store.now = NOW + timedelta(seconds=60)
    assert found(60) == NOW
    assert found(59) is None
    for other in (key._replace(points=31), key._replace(program_id=SILVER), key._replace(destination_id=13)):
        assert store.load(replace(BOTH, duplicates=frozenset({(other, 600)}))).recent_transfers == {}


def test_counts_of_a_day_add_up(store: Store) -> None:
    """Within a batch and over batches; days and directions apart."""
    day = NOW.date()
    for _ in range(2):
        store.apply(
            [
                ev.VelocityCounted(ANN_GOLD, Direction.OUT, day, 5),
                ev.VelocityCounted(ANN_GOLD, Direction.OUT, day, 7),
                ev.VelocityCounted(ANN_GOLD, Direction.IN, day, 1),
                ev.VelocityCounted(ANN_GOLD, Direction.OUT, day - timedelta(days=1), 2),
            ]
        )
    loaded = store.load(replace(BOTH, velocity=frozenset({ANN_GOLD, BEN_GOLD})))

    assert loaded.velocity == {
        ANN_GOLD: {
            (Direction.OUT, day): (24, 4),
            (Direction.IN, day): (2, 2),
            (Direction.OUT, day - timedelta(days=1)): (4, 2),
        }
    }


def test_thirty_days_of_counts_are_kept(store: Store) -> None:
    """As far back as the longest window reaches in any time zone, in both directions; and not for ever."""
    both = (Direction.OUT, Direction.IN)
    for ago in range(100, -2, -1):
        day = NOW.date() - timedelta(days=ago)
        store.apply([ev.VelocityCounted(ANN_GOLD, direction, day, 5) for direction in both])
    loaded = store.load(replace(BOTH, velocity=frozenset({ANN_GOLD}))).velocity[ANN_GOLD]

    kept = {(direction, NOW.date() - timedelta(days=ago)) for direction in both for ago in range(-1, 31)}
    assert kept <= set(loaded)
    assert len(loaded) <= ENTRIES_MAX
    assert all(type(day) is date for _, day in loaded)


def redeemed(store: Store, drawn: Lot, points: int, redemption_id: str = "r1", **given: object) -> list[ev.Event]:
    """The events of a redemption by Ann."""
    wallet = store.load(BOTH).wallets[ANN_GOLD]
    booked = entry(
        Kind.REDEMPTION,
        (
            wallet_posting(drawn, -points, version=wallet.version + 1, balance=wallet.current - points),
            system_posting(Account.REDEEMED, GOLD, points),
        ),
        customer_id=ANN,
    )
    made = Redemption(
        redemption_id=redemption_id,
        transaction_id=booked.transaction_id,
        customer_id=ANN,
        program_id=GOLD,
        points=points,
        reversed=0,
        redeemed_at=NOW,
        redemption_time=NOW - timedelta(days=1),
        transaction_number="bill-1",
        external_reference=f"ext-{redemption_id}",
        last_reversed_at=None,
        lots=(RedeemedLot(drawn.lot_id, ANN, GOLD, points, 0),),
    )
    return [ev.Booked(booked), ev.RedemptionMade(replace(made, **given))]


def given_back(one: Redemption, points: int) -> ev.RedemptionReversed:
    """The event that points of a redemption of one lot were given back."""
    part = replace(one.lots[0], reversed=one.lots[0].reversed + points)
    after = replace(one, reversed=one.reversed + points, last_reversed_at=NOW, lots=(part, *one.lots[1:]))
    return ev.RedemptionReversed(after, ((part.lot_id, points),))


def test_a_redemption_is_found_by_all_its_names(store: Store) -> None:
    """By id, external reference and bill; with its lots as they are now."""
    drawn = store.issue(ANN, 70)
    events = redeemed(store, drawn, 30)
    store.apply(events, keys=BOTH)
    made = events[1].redemption  # type: ignore[union-attr]
    directory = store.resolve(
        Lookups(
            redemption_ids=("r1", "none"), external_references=("ext-r1", "no"), transaction_numbers=("bill-1", "no")
        )
    )

    assert directory.redemptions == {"r1": ANN}
    assert directory.by_external_reference == {"ext-r1": "r1"}
    assert directory.by_transaction_number == {"bill-1": ("r1",)}
    loaded = store.load(
        replace(BOTH, redemptions=frozenset({"r1", "none"}), external_references=frozenset({"ext-r1", "no"}))
    )
    assert loaded.redemptions == {"r1": made}
    assert loaded.redeemed_lots == {drawn.lot_id: replace(drawn, remaining=40)}
    assert loaded.external_references == {"ext-r1": "r1"}


def test_redemptions_of_a_bill_come_oldest_first(store: Store) -> None:
    """In the order of their transactions."""
    drawn = store.issue(ANN, 70)
    for redemption_id in ("rb", "ra", "rc"):
        store.apply(redeemed(store, drawn, 10, redemption_id), keys=BOTH)
        drawn = replace(drawn, remaining=drawn.remaining - 10)
    directory = store.resolve(Lookups(transaction_numbers=("bill-1",)))

    assert directory.by_transaction_number == {"bill-1": ("rb", "ra", "rc")}
    assert directory.redemptions == {"ra": ANN, "rb": ANN, "rc": ANN}


def test_a_redemption_is_given_back_in_parts(store: Store) -> None:
    """Its totals and those of the lot follow, over batches."""
    drawn = store.issue(ANN, 70)
    store.apply(redeemed(store, drawn, 30), keys=BOTH)
    keys = replace(BOTH, redemptions=frozenset({"r1"}))
    for points in (10, 5):
        one = store.load(keys).redemptions["r1"]
        store.apply([given_back(one, points)], keys=keys)
    found = store.load(keys).redemptions["r1"]

    assert (found.reversed, found.last_reversed_at) == (15, NOW)
    assert [part.reversed for part in found.lots] == [15]


def test_a_redemption_made_and_given_back_in_one_batch_is_written_once(store: Store) -> None:
    """The rows are as they are at the end."""
    drawn = store.issue(ANN, 70)
    events = redeemed(store, drawn, 30, transaction_number=None, external_reference=None, redemption_time=None)
    back = given_back(events[1].redemption, 10)  # type: ignore[union-attr]
    store.apply([*events, back], keys=BOTH)

    assert store.load(replace(BOTH, redemptions=frozenset({"r1"}))).redemptions == {"r1": back.redemption}


def otp(action: OtpAction = OtpAction.TRANSFER, program_id: int = GOLD, **given: object) -> Otp:
    """A code of Ann."""
    code = Otp(
        otp_id=next_id(),
        customer_id=ANN,
        action=action,
        program_id=program_id,
        counterparty_id=BEN,
        points_max=50,
        category="Main",
        pooled=True,
        code_hash="00ff",
        key_id="k1",
        state=OtpState.LIVE,
        attempts_left=5,
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
        due_until=None,
    )
    return replace(code, **given)


def test_codes_and_counters_are_replaced(store: Store) -> None:
    """One row for each (customer, action, program), and one counter for each (customer, action)."""
    keys = replace(BOTH, otps=frozenset({(ANN, OtpAction.TRANSFER), (ANN, OtpAction.REDEMPTION)}))
    first = otp(counterparty_id=None, due_until=NOW)
    silver = otp(program_id=SILVER, state=OtpState.REPLACED)
    redemption = otp(OtpAction.REDEMPTION)
    store.apply([*(ev.OtpSaved(one) for one in (first, silver, redemption))], keys=keys)
    counter = OtpCounter(ANN, OtpAction.TRANSFER, NOW, NOW + timedelta(minutes=15), 1, 2)
    store.apply([ev.OtpCounterSaved(counter)], keys=keys)

    second = otp(state=OtpState.USED, attempts_left=0)
    later = OtpCounter(ANN, OtpAction.TRANSFER, NOW + timedelta(minutes=1), NOW + timedelta(hours=1), 3, 4)
    store.apply([ev.OtpSaved(otp()), ev.OtpSaved(second), ev.OtpCounterSaved(later)], keys=keys)
    loaded = store.load(keys)

    assert set(loaded.otps[ANN, OtpAction.TRANSFER]) == {second, silver}
    assert loaded.otps[ANN, OtpAction.REDEMPTION] == (redemption,)
    assert loaded.otp_counters == {(ANN, OtpAction.TRANSFER): later}


def test_a_bill_is_recorded_and_completed(store: Store) -> None:
    """An issue names it without an amount; the purchase brings the amount."""
    keys = replace(BOTH, transaction_numbers=frozenset({"bill-9", "none"}))
    named = Purchase("bill-9", ANN, GOLD, None)
    store.apply([ev.PurchaseRecorded(named)])
    assert store.load(keys).purchases == {"bill-9": named}

    paid = replace(named, amount=1999)
    store.apply([ev.PurchaseRecorded(paid), ev.LifetimeRaised(ANN_GOLD, purchases=1999)])
    loaded = store.load(keys)

    assert loaded.purchases == {"bill-9": paid}
    assert loaded.wallets[ANN_GOLD].lifetime_purchases == 1999


def test_programs_policies_and_groups_make_the_book(bare: Store) -> None:
    """What is saved is what the next transaction reads, at a higher version."""
    with bare.repository.read(ORG) as session:
        empty = session.book()
    policy = Policy(redemption=RedemptionPolicy(minimum_points=5))
    bare.apply(
        [*new_program(GOLD, default=True, time_zone="Asia/Kolkata"), *new_program(SILVER, policy=policy)], keys=NO_KEYS
    )
    with bare.repository.read(ORG) as session:
        first = session.book()

    assert (empty.programs, empty.default_program_id, empty.default_region) == ({}, None, "US")
    assert first.version > empty.version
    assert first.default_program_id == GOLD
    assert first.programs[GOLD].time_zone == "Asia/Kolkata"
    assert first.programs[SILVER].policy == policy

    second = Policy(revision=2, otp=OtpPolicy(length=8))
    group = ProgramGroup(7, "Metals", SILVER, (GOLD, SILVER))
    members = [replace(one, group_id=7) for one in first.programs.values()]
    bare.apply(
        [
            ev.PolicySaved(GOLD, second, NOW, "root", "stricter"),
            ev.GroupSaved(group),
            *(ev.ProgramSaved(one, one.program_id == GOLD) for one in members),
            ev.OrgPaused(True),
        ],
        keys=NO_KEYS,
    )
    with bare.repository.read(ORG) as session:
        found = session.book()

    assert found.version > first.version
    assert found.groups == {7: group}
    assert found.paused
    assert found.programs == {
        one.program_id: replace(one, policy=second if one.program_id == GOLD else policy) for one in members
    }


def test_a_book_is_read_whole_only_when_its_version_is_new(store: Store) -> None:
    """A version that is known costs one row."""
    with store.repository.read(ORG) as session:
        first = session.book()
    store.statements.clear()
    with store.repository.read(ORG) as session:
        assert session.book() is first
    assert [text for text in store.statements if "FROM programs" in text] == []


def test_a_book_that_was_rolled_back_is_forgotten(store: Store) -> None:
    """What a failed transaction read of its own changes is never served."""
    with store.repository.write(ORG) as session:
        snapshot = Snapshot(session.load(NO_KEYS, session.book(), NOTHING, {}), OrgConfig({}))
        snapshot.evolve([ev.OrgPaused(True)])
        session.apply(snapshot.changes, [], [])
        assert session.book().paused
    store.apply(new_program(99), keys=NO_KEYS)  # takes the very version that was rolled back
    with store.repository.read(ORG) as session:
        found = session.book()

    assert not found.paused
    assert 99 in found.programs


def test_configuration_keys_are_raw_text(store: Store) -> None:
    """Set, changed, removed; a new organisation has the documented ones."""
    assert store.repository.config(ORG).values["CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER"] == "true"

    store.apply([ev.ConfigKeySet("ODD", " Yes\n"), ev.ConfigKeySet("ALLOW_POINTS_TRANSFER", None)], keys=NO_KEYS)
    store.apply([ev.ConfigKeySet("ODD", "no")], keys=NO_KEYS)
    config = store.repository.config(ORG)

    assert config.available
    assert config.values["ODD"] == "no"
    assert "ALLOW_POINTS_TRANSFER" not in config.values
    assert "ODD" not in store.repository.config(OTHER_ORG).values


def test_the_audit_log_keeps_what_it_is_told(store: Store) -> None:
    """A row for each change."""
    store.apply([ev.Audited(5, NOW, "root", "SetPause", "org", "false", "true", "storm")], keys=NO_KEYS)

    [row] = store.rows(
        "SELECT org_id, audit_id, actor, action, subject, before, after, reason FROM audit_events WHERE audit_id = 5"
    )
    assert row == (ORG, 5, "root", "SetPause", "org", "false", "true", "storm")


def test_organisations_are_strangers(store: Store) -> None:
    """The same ids in another organisation are other rows, or none."""
    store.issue(ANN, 70)

    assert store.resolve(Lookups(identifiers=(by_id(ANN),)), org_id=OTHER_ORG).customers == {}
    loaded = store.load(replace(BOTH, redemptions=frozenset({"r1"})), org_id=OTHER_ORG)
    assert (loaded.customers, loaded.wallets, loaded.buckets, loaded.lots) == ({}, {}, {}, {})
    store.apply([ev.CustomerSaved(customer(ANN, "Zoe"), created=True)], keys=NO_KEYS, org_id=OTHER_ORG)
    assert store.load(BOTH).customers[ANN].first_name == "Ann"


def test_an_unknown_organisation_is_a_bug(store: Store) -> None:
    """Callers are known before they get here."""
    with pytest.raises(LookupError), store.repository.read(77) as session:
        session.book()
