"""The verifier finds one planted corruption for each invariant, names it, and finds nothing in a sound database.

The database is made by real commands, so that every kind of movement is in it; the corruptions are SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from test_stored_holds import CORRUPTIONS as CORRUPTIONS_OF_HOLDS

from databases import ATestsDatabase, named
from points_grpc.domain.commands import (
    AdjustPoints,
    AuthorizeRedemption,
    CaptureRedemption,
    Command,
    CreateCustomer,
    CreateProgram,
    CreateProgramGroup,
    Expiry,
    IssuePoints,
    IssueTransferOtp,
    MergeCustomers,
    RecordMissedCall,
    RecordPurchase,
    RedeemPoints,
    ReleaseRedemption,
    ReverseRedemption,
    ReverseTransfer,
    SetConfigKey,
    Submission,
    TransferPoints,
)
from points_grpc.domain.model import Channel, Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, HoldResult, RedemptionResult, Settled, TransferResult
from points_grpc.domain.policy import Policy
from points_grpc.service.executor import Executor
from points_grpc.service.keyring import KEY_BYTES, Keyring
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.opening import open_repository
from points_grpc.storage.verify import INVARIANTS, Chained, Report, verify

START = datetime(2026, 3, 15, 18, 0, tzinfo=UTC)  # half past eleven in the evening in Kolkata
ORG, QUIET_ORG = 1, 2
GOLD, SILVER = 1, 2
ANN, BEN, CID = 11, 12, 13
DAN, EVE = 14, 15


class World:
    """Runs commands on a database, at a time that passes."""

    def __init__(self, url: str) -> None:
        self.now = START
        self._numbers = count(1)
        self._ids = count(1_000)
        self._database = Database(url, synchronous="OFF")
        self._repository = open_repository(self._database, now=lambda: self.now, durable=False)
        self._executor = Executor(
            self._repository,
            next_id=lambda: next(self._ids),
            keyring=Keyring({"k1": b"k" * KEY_BYTES}, "k1"),
            channels=frozenset({Channel.MOBILE, Channel.EMAIL}),
            monotonic=lambda: 0.0,
        )

    def do(self, *commands: Command) -> list[object]:
        """Runs commands as one batch; all must be accepted."""
        batch = [
            Submission(ORG, one, f"request-{next(self._numbers)}", True, {"x": b"y"}, "till", bytes(32))
            for one in commands
        ]
        outcomes = [one.outcome for one in self._executor.run(ORG, batch) if isinstance(one, Settled)]
        assert all(isinstance(one, Accepted) for one in outcomes), outcomes
        return [one.result for one in outcomes if isinstance(one, Accepted)]

    def close(self) -> None:
        """Closes the database."""
        self._repository.close()
        self._database.close()


def who(customer_id: int) -> Identifier:
    """The identifier that is the customer's id."""
    return Identifier(IdentifierType.ID, str(customer_id))


def issue(customer_id: int, points: int, program_id: int = GOLD, **given: object) -> IssuePoints:
    """An issue."""
    values = {"source": Source.LOYALTY_PLUS} | given
    return IssuePoints(who(customer_id), program_id, points, **values)  # type: ignore[arg-type]


def live(world: World) -> None:
    """Some days in the life of an organisation."""
    for program_id, zone in ((GOLD, "UTC"), (SILVER, "Asia/Kolkata")):
        world.do(CreateProgram(program_id, f"P{program_id}", program_id == GOLD, 0, zone, Policy()))
    world.do(CreateProgramGroup(7, "Metals", (GOLD, SILVER), SILVER))
    world.do(
        *(
            CreateCustomer(one, "A", "B", f"+1555{one:07d}", None, None, (GOLD, SILVER), False)
            for one in (ANN, BEN, CID)
        )
    )
    world.do(
        issue(ANN, 100, expiry=Expiry(at=START + timedelta(days=2))),
        issue(ANN, 50, source=Source.REGISTRATION, transaction_number="bill-1"),
        issue(ANN, 40, SILVER, expiry=Expiry(at=START + timedelta(days=60))),
        issue(BEN, 30, available_from=START + timedelta(days=3)),
        issue(BEN, 20, available_from=START + timedelta(days=30)),
        issue(CID, 9, expiry=Expiry(at=START - timedelta(days=1))),
        issue(CID, 8, expiry=Expiry(at=START + timedelta(hours=1))),
        RecordPurchase(who(ANN), GOLD, "bill-1", 1_999),
        RecordPurchase(who(BEN), SILVER, "bill-2", 500),
    )
    world.do(
        TransferPoints(30, GOLD, who(ANN), who(BEN), notes="for tea \U0001f375"),
        TransferPoints(10, GOLD, who(BEN), who(CID)),
        TransferPoints(60, GOLD, who(ANN), who(BEN), pooled=True),
    )
    world.now += timedelta(hours=2)  # past midnight in Kolkata, and past Cid's eight points
    world.do(TransferPoints(5, SILVER, who(BEN), who(ANN)), TransferPoints(5, GOLD, who(BEN), who(CID)))
    [first] = world.do(RedeemPoints(who(ANN), GOLD, 20, transaction_number="bill-1", external_reference="x-1"))
    [second] = world.do(RedeemPoints(who(BEN), SILVER, 12))
    assert isinstance(first, RedemptionResult)
    assert isinstance(second, RedemptionResult)
    world.do(ReverseRedemption(who(ANN), redemption_id=first.redemption_id, points=5))
    world.do(ReverseRedemption(who(BEN), redemption_id=second.redemption_id, points=2))
    world.now += timedelta(days=3)  # Ann's hundred are gone, Ben's thirty have matured
    world.do(ReverseRedemption(who(ANN), redemption_id=first.redemption_id, points=10))
    world.do(issue(ANN, 1), issue(BEN, 1), issue(CID, 1))
    world.do(IssueTransferOtp(TransferPoints(1, GOLD, who(BEN), who(CID))))
    merge(world)
    hold(world)


def hold(world: World) -> None:
    """Eve's points are held: captured in part, released, forgotten, proved by a call, and still held."""
    held = [world.do(AuthorizeRedemption(RedeemPoints(who(EVE), GOLD, 5), 3_600))[0] for _ in range(3)]
    world.do(SetConfigKey("ENABLE_MISSED_CALL_REDEMPTION", "true", ""))
    calls = RecordMissedCall(Identifier(IdentifierType.MOBILE, f"+1555{EVE:07d}"))
    world.do(calls, calls)
    world.do(AuthorizeRedemption(RedeemPoints(who(EVE), GOLD, 2, missed_call=True), 86_400))
    captured, released, _ = (one.hold_id for one in held if isinstance(one, HoldResult))
    world.do(CaptureRedemption(captured, 3), ReleaseRedemption(released))
    world.do(RedeemPoints(who(EVE), GOLD, 1, missed_call=True))
    world.now += timedelta(hours=2)  # past the deadline of the third
    world.do(issue(EVE, 1))


def merge(world: World) -> None:
    """Dan turns out to be Eve, who then gets back what he redeemed; of her transfer, what is left is taken back."""
    for one, programs in ((DAN, (GOLD, SILVER)), (EVE, ())):
        world.do(CreateCustomer(one, "A", "B", f"+1555{one:07d}", None, None, programs, False))
    world.do(
        issue(DAN, 70),
        issue(CID, 9),
        issue(DAN, 6, SILVER, available_from=START + timedelta(days=40)),
        RecordPurchase(who(DAN), GOLD, "bill-3", 300),
        TransferPoints(4, GOLD, who(CID), who(DAN)),
        IssueTransferOtp(TransferPoints(1, GOLD, who(DAN), who(BEN))),
    )
    [redeemed] = world.do(RedeemPoints(who(DAN), GOLD, 20))
    assert isinstance(redeemed, RedemptionResult)
    world.do(MergeCustomers(who(DAN), who(EVE), "one person"))
    world.do(ReverseRedemption(who(EVE), redemption_id=redeemed.redemption_id, points=15))
    world.do(IssueTransferOtp(TransferPoints(30, GOLD, who(EVE), who(CID))))  # Dan's code is due for Eve
    [sent] = world.do(TransferPoints(30, GOLD, who(EVE), who(CID), code="000000"))
    assert isinstance(sent, TransferResult)
    world.do(AdjustPoints(who(EVE), GOLD, 3, "a mistake"), AdjustPoints(who(CID), GOLD, 2, "a mistake"))
    world.do(ReverseTransfer(sent.transfer_id, True, "a mistake"))


@pytest.fixture(scope="session")
def lived(empty: ATestsDatabase) -> ATestsDatabase:
    """A database with some days of life in it."""
    found = empty.copy()
    world = World(found.url)
    live(world)
    world.close()
    return found


@pytest.fixture
def database(lived: ATestsDatabase) -> Iterator[Database]:
    """A copy of it."""
    with opened(lived.copy()) as found:
        yield found


@contextmanager
def opened(on: ATestsDatabase) -> Iterator[Database]:
    """The database, for as long as it is needed."""
    found = Database(on.url)
    yield found
    found.close()
    on.drop()


def corrupt(database: Database, *statements: str) -> None:
    """Changes rows in a way that no code of ours would."""
    named(database.url.render_as_string(hide_password=False)).tamper(*statements)


def test_a_sound_database_has_no_differences(database: Database) -> None:
    """And every invariant had something to check, so that silence means something."""
    report = verify(database)

    assert report.differences == []
    assert report.sound
    assert [name for name, number in report.checked.items() if not number and name not in ELSEWHERE] == []


ELSEWHERE = {"returned_points", "failed_messages"}
"""Invariants whose corruptions stand in tests/service, test_return_rows.py and test_failed_messages.py."""


def test_names_are_unique_and_each_has_a_corruption() -> None:
    """A new invariant needs a row in `CORRUPTIONS`, or among those of holds."""
    names = [name for one in INVARIANTS for name in one.names]

    assert len(names) == len(set(names))
    assert set(names) == CORRUPTIONS.keys() | CORRUPTIONS_OF_HOLDS.keys() | ELSEWHERE


ANN_GOLD = f"customer_id = {ANN} AND program_id = {GOLD}"
A_WALLET_POSTING = "account = 1 AND points < 0 AND seq = 1"
A_TRANSFER = "(SELECT MIN(transaction_id) FROM transactions WHERE kind = 2)"
A_REDEMPTION = "(SELECT MIN(transaction_id) FROM transactions WHERE kind = 3)"
A_MERGE = "(SELECT transaction_id FROM transactions WHERE kind = 6)"
AN_OPENED_LOT = "(SELECT MIN(lot_id) FROM lots WHERE parent_lot_id IS NOT NULL)"
AN_ISSUED_LOT = "(SELECT MIN(lot_id) FROM lots WHERE parent_lot_id IS NULL)"

CORRUPTIONS: dict[str, tuple[str, ...]] = {
    "transaction_sums": (f"UPDATE postings SET points = points + 1 WHERE transaction_id = {A_TRANSFER} AND seq = 1",),
    "transaction_postings": (f"DELETE FROM postings WHERE transaction_id = {A_REDEMPTION}",),
    "wallet_postings": (f"UPDATE wallets SET current = current + 1 WHERE {ANN_GOLD}",),
    "wallet_lots": (f"UPDATE wallets SET promised = promised + 1 WHERE {ANN_GOLD}",),
    "wallet_versions": (
        f"UPDATE postings SET wallet_version = wallet_version + 1 WHERE {ANN_GOLD} AND wallet_version > 2",
    ),
    "wallet_last_version": (f"UPDATE wallets SET version = version + 1 WHERE {ANN_GOLD}",),
    "wallet_chain": (f"UPDATE postings SET balance_after = balance_after + 1 WHERE {ANN_GOLD} AND wallet_version = 2",),
    "wallet_owners": (f"DELETE FROM wallets WHERE {ANN_GOLD}",),
    "wallet_due": (f"UPDATE wallets SET due_at = NULL WHERE customer_id = {ANN} AND program_id = {SILVER}",),
    "bucket_lots": (f"UPDATE wallets SET buckets = '[]' WHERE {ANN_GOLD}",),
    "lot_postings": (f"UPDATE lots SET remaining = remaining - 1 WHERE remaining > 0 AND customer_id = {CID}",),
    "lot_opening": (f"UPDATE lots SET points = points + 1 WHERE lot_id = {AN_OPENED_LOT}",),
    "lot_bounds": (f"UPDATE lots SET held = remaining + 1 WHERE lot_id = {AN_OPENED_LOT}",),
    "lot_roots": (f"UPDATE lots SET root_lot_id = root_lot_id + 1 WHERE lot_id = {AN_ISSUED_LOT}",),
    "lot_inheritance": (f"UPDATE lots SET expires_at = expires_at + 1 WHERE lot_id = {AN_OPENED_LOT}",),
    "lot_parents": (f"UPDATE lots SET points = points + 1 WHERE transaction_id = {A_MERGE}",),
    "lot_promises": (
        f"UPDATE lots SET available_from = available_from + 1 WHERE transaction_id = {A_MERGE} AND promised = 1",
    ),
    "merged_away": (f"UPDATE customers SET merged_into = {ANN} WHERE customer_id = {CID}",),
    "merge_survivors": (f"UPDATE customers SET merged_into = {DAN} WHERE customer_id = {EVE}",),
    "adjustments": ("UPDATE transactions SET points = points + 1 WHERE kind = 7",),
    "stream_positions": (
        "UPDATE transactions SET position = position + 1 WHERE position = (SELECT MAX(position) FROM transactions)",
    ),
    "stream_ends": ("UPDATE journal_streams SET position = position + 1",),
    "journal_chain": (f"UPDATE transactions SET actor = 'somebody else' WHERE transaction_id = {A_REDEMPTION}",),
    "journal_heads": ("UPDATE journal_streams SET hash = ''",),
    "notes_hashes": ("UPDATE transactions SET notes = 'something else' WHERE notes <> ''",),
    "redemption_lots": ("UPDATE redemptions SET reversed = reversed + 1 WHERE external_reference = 'x-1'",),
    "redemption_bounds": ("UPDATE redemptions SET reversed = points + 1 WHERE external_reference = 'x-1'",),
    "redemption_postings": ("UPDATE redemption_lots SET points = points + 1",),
    "redemption_owners": (f"UPDATE redemptions SET customer_id = {CID} WHERE external_reference = 'x-1'",),
    "reversal_postings": ("UPDATE redemption_lots SET reversed = reversed + 1",),
    "lifetime_earned": (f"UPDATE wallets SET lifetime_earned = lifetime_earned + 1 WHERE {ANN_GOLD}",),
    "lifetime_received": (f"UPDATE wallets SET lifetime_received = lifetime_received + 1 WHERE {ANN_GOLD}",),
    "lifetime_purchases": ("UPDATE purchases SET amount = amount + 1 WHERE transaction_number = 'bill-2'",),
    "velocity_days": (f"UPDATE wallets SET days = '[]' WHERE {ANN_GOLD}",),
    "request_transactions": (
        "UPDATE requests SET transaction_id = transaction_id + 1 WHERE operation = 'TransferPoints'",
    ),
    "transaction_requests": ("DELETE FROM requests WHERE operation = 'RedeemPoints'",),
    "live_codes": (
        (
            "INSERT INTO otps SELECT org_id, customer_id, action, program_id + 1, otp_id + 1, counterparty_id,"
            " points_max, category, pooled, code_hash, key_id, state, attempts_left, issued_at, expires_at, due_until"
            " FROM otps"
        ),
    ),
    "settled_messages": ("UPDATE outbox SET state = 'DELIVERED'",),
    "never_negative": (f"UPDATE wallets SET held = -1 WHERE {ANN_GOLD}",),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found_and_named(database: Database, name: str) -> None:
    """In the organisation where it is, with what was expected and what is there."""
    corrupt(database, *CORRUPTIONS[name])
    report = verify(database)

    found = {one.invariant: one for one in report.differences}
    assert name in found
    assert not report.sound
    assert {one.org_id for one in report.differences} == {ORG}
    assert found[name].expected != found[name].actual
    assert "{" not in found[name].subject


IN_THE_CHAIN = {
    "transactions": (
        *("kind", "created_at", "customer_id", "counterparty_id", "program_id", "points", "policy_revision"),
    ),
    "postings": ("customer_id", "program_id", "points", "wallet_version", "balance_after", "held"),
    "lots": (
        *("customer_id", "program_id", "earning_program_id", "source", "points", "awarded_at", "available_from"),
        *("expires_at", "parent_lot_id", "root_lot_id"),
    ),
}
"""Numbers that are hashed, of a transaction that opens a lot. Neither `remaining` nor what else changes is.

Where one has another stream or position, the gap that it leaves is found."""

TEXTS_IN_THE_CHAIN = (
    *(f"UPDATE transactions SET {one} = 'else'" for one in ("request_id", "actor", "transaction_number")),
    "UPDATE lots SET category = 'else'",
    "UPDATE transactions SET notes_hash = notes_salt",
    "DELETE FROM postings",
    "DELETE FROM lots",
)


def test_whatever_is_in_the_chain_cannot_be_changed_unseen(database: Database) -> None:
    """Each column, each by itself, at the transaction where it was changed."""
    changes = [
        f"UPDATE {table} SET {one} = COALESCE({one}, 0) - 1001"
        if one == "expires_at"
        else f"UPDATE {table} SET {one} = COALESCE({one}, 0) + 1001"
        for table, names in IN_THE_CHAIN.items()
        for one in names
    ]
    unseen = []
    for change in (*changes, *TEXTS_IN_THE_CHAIN):
        with database.writer.connect() as connection, connection.begin() as changed:
            if database.backend.name == "sqlite":
                connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            transaction_id = connection.execute(text(f"SELECT {A_TRANSFER}")).scalar_one()
            connection.execute(text(f"{change} WHERE transaction_id = {transaction_id}"))
            [(_, _, found), *_] = Chained().check(connection, ORG)
            if found is None or f"transaction {transaction_id}:" not in found.subject:
                unseen.append(change)
            changed.rollback()

    assert unseen == []


OWNED = {
    "redemption_owners": {
        "redemptions": ("customer_id", "program_id", "transaction_number"),
        "redemption_lots": ("customer_id", "program_id"),
    },
    "hold_owners": {
        "holds": ("customer_id", "program_id", "transaction_number"),
        "hold_lots": ("customer_id", "program_id"),
    },
}
"""What says whose points were redeemed or held, of which program and on which bill: the chain has it as well."""


@pytest.mark.parametrize("name", OWNED)
def test_whose_points_they_were_cannot_be_changed_unseen(database: Database, name: str) -> None:
    """Each column, each by itself, of any row: of a captured hold and of who was merged away, too."""
    [invariant] = [one for one in INVARIANTS if name in one.names]
    unseen = []
    for table, columns in OWNED[name].items():
        key = "redemption_id" if table.startswith("redemption") else "hold_id"
        with database.reader.connect() as connection:
            ids = connection.execute(text(f"SELECT DISTINCT {key} FROM {table}")).scalars().all()
        for column, one in product(columns, ids):
            value = "'else'" if column == "transaction_number" else f"{column} + 1"
            with database.writer.connect() as connection, connection.begin() as changed:
                connection.execute(text(f"UPDATE {table} SET {column} = {value} WHERE {key} = '{one}'"))
                [(_, _, found)] = invariant.check(connection, ORG)
                if found is None or one not in found.subject:
                    unseen.append((table, column, one))
                changed.rollback()

    assert unseen == []


def test_notes_can_be_erased(database: Database) -> None:
    """Text and salt are gone, the hash stays, and the chain holds."""
    corrupt(database, "UPDATE transactions SET notes = '', notes_salt = NULL WHERE notes <> ''")
    report = verify(database)

    assert report.differences == []
    assert report.checked["notes_hashes"] == 0


def test_a_note_without_its_salt_is_found(database: Database) -> None:
    """It could say anything."""
    corrupt(database, "UPDATE transactions SET notes_salt = NULL WHERE notes <> ''")

    assert {one.invariant for one in verify(database).differences} == {"notes_hashes"}


NO_LISTS = ("nothing", "{}", "[7]", "[[7, 7]]", "null", "7")
ODD_LISTS = {
    "days": ('[[[1, "9999-12-31"], [5, 1]]]', '[[[1, "1971-01-01"], [5, 1]]]', "[]", '[[["a"], ["b"]]]', *NO_LISTS),
    "buckets": ("[]", '[[[1, 1, ""], [5, 0, 0]]]', '[[["a"], ["b"]]]', *NO_LISTS),
}
"""Of a wallet that has entries in both."""


@pytest.mark.parametrize(("column", "invariant"), [("days", "velocity_days"), ("buckets", "bucket_lots")])
def test_odd_lists_in_a_wallet_are_found(lived: ATestsDatabase, column: str, invariant: str) -> None:
    """Entries too many, too few or wrong, and what is no list of them at all."""
    for odd in ODD_LISTS[column]:
        with opened(lived.copy()) as database:
            corrupt(database, f"UPDATE wallets SET {column} = '{odd}' WHERE {ANN_GOLD}")
            report = verify(database)

        assert {one.invariant for one in report.differences} == {invariant}, odd
        assert f"wallet {ANN}/{GOLD}" in report.differences[0].subject


def test_an_entry_that_stands_twice_is_found(lived: ATestsDatabase) -> None:
    """Even if both say the same."""
    for column, invariant in (("days", "velocity_days"), ("buckets", "bucket_lots")):
        with opened(lived.copy()) as database:
            twice = f"'[' || SUBSTR({column}, 2, LENGTH({column}) - 2) || ',' || SUBSTR({column}, 2)"
            corrupt(database, f"UPDATE wallets SET {column} = {twice} WHERE {ANN_GOLD}")
            report = verify(database)

        assert {one.invariant for one in report.differences} == {invariant}


def test_days_of_another_time_zone_are_found(lived: ATestsDatabase) -> None:
    """A day ends where the program's time zone says so."""
    with opened(lived.copy()) as database:
        corrupt(database, "UPDATE programs SET time_zone = 'UTC' WHERE program_id = 2")
        report = verify(database)

    assert {one.invariant for one in report.differences} == {"velocity_days"}


def test_the_first_difference_is_shown(database: Database) -> None:
    """One for each invariant, with both sides."""
    corrupt(database, f"UPDATE wallets SET lifetime_earned = lifetime_earned + 1 WHERE program_id = {GOLD}")
    [difference] = verify(database).differences

    assert difference.invariant == "lifetime_earned"
    assert difference.subject.startswith(f"wallet {ANN}/{GOLD}")
    assert int(difference.actual) == int(difference.expected) + 1


def test_opening_a_lot_is_found_without_looking_through_its_transaction(database: Database) -> None:
    """A transaction that opens 10,000 lots is read once, and not once for each of them."""
    [invariant] = [one for one in INVARIANTS if "lot_opening" in one.names]
    explain = "EXPLAIN QUERY PLAN" if database.backend.name == "sqlite" else "EXPLAIN"
    with database.reader.connect() as connection:
        seen: list[tuple[str, Any]] = []

        @event.listens_for(connection, "before_cursor_execute")
        def see(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            seen.append((statement, parameters))

        invariant.check(connection, ORG)
        statement, parameters = seen[-1]
        plan = [str(row) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)]

    assert plan
    assert [] == [line for line in plan if "CORRELATED" in line or "SubPlan" in line]


def test_organisations_are_checked_apart(database: Database) -> None:
    """Only those asked for."""
    corrupt(database, f"UPDATE wallets SET lifetime_earned = lifetime_earned + 1 WHERE {ANN_GOLD}")

    assert verify(database, [QUIET_ORG]).sound
    assert not verify(database, [QUIET_ORG, ORG]).sound
    assert set(verify(database, []).checked.values()) == {0}


def test_verifying_runs_beside_a_writer(database: Database) -> None:
    """It sees one snapshot: what is committed meanwhile is not half seen."""
    world = World(database.url.render_as_string(hide_password=False))
    world.now = START + timedelta(days=10)
    world._ids = count(5_000)
    world._numbers = count(5_000)
    before = verify(database)
    world.do(issue(CID, 5), TransferPoints(2, GOLD, who(CID), who(ANN)))
    after = verify(database)

    assert before.sound
    assert after.sound, after.differences
    assert after.checked["transaction_sums"] > before.checked["transaction_sums"]
    world.close()


def test_a_database_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """In the service's words."""
    path = tmp_path / "garbage.db"
    path.write_bytes(b"garbage" * 1_000)
    database = Database(f"sqlite:///{path}")

    with pytest.raises(Exception, match="cannot be read"):
        verify(database)
    database.close()


def test_organisations_are_made_by_accounts(empty: ATestsDatabase) -> None:
    """A database with nothing in it is sound."""
    with opened(empty.copy()) as database:
        report: Report = verify(database)

        assert len(Accounts(database).list_orgs()) == 2
        assert report.sound
        assert report.checked["stream_ends"] == 0
