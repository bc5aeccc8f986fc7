"""Erasures in the store, on every backend: after one, nothing anywhere says who the customer was.

Everything that a customer may leave is marked; the database is searched for the marks. A text that a new table keeps
about customers is found by `test_nothing_marked_is_left` as soon as `lived` leaves it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from executing import BEN, CID, GOLD, Bench, by_id, submission, template

from databases import NewDatabase, on_sqlite
from points_grpc import codes
from points_grpc.domain.commands import (
    AdjustPoints,
    AuthorizeRedemption,
    CaptureRedemption,
    CreateCustomer,
    EnrolCustomer,
    EraseCustomer,
    Expiry,
    IssuePoints,
    IssueRedemptionOtp,
    IssueTransferOtp,
    MergeCustomers,
    RecordMissedCall,
    RecordPurchase,
    RedeemPoints,
    ReturnedItem,
    ReturnTransaction,
    ReverseRedemption,
    ReverseTransfer,
    SetConfigKey,
    SetCustomerStatus,
    SetTransferLock,
    TransferPoints,
)
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED
from points_grpc.domain.model import FraudStatus, Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, ErasureResult, Refused, Settled
from points_grpc.domain.policy import OtpPolicy, OtpRequirement, Policy
from points_grpc.domain.views import PERSONAL_START, PersonalPlace, PersonalRecord, ReferredEntry
from points_grpc.storage.engine import Database
from points_grpc.storage.queries import SqlQueries
from points_grpc.storage.vacuuming import vacuum
from points_grpc.storage.verify import verify

ORG_ID = 1
EVE, EVA, NEW = 21, 22, 29
"""Eve, whom we knew as Eva too, asks to be forgotten."""

MARK = "quetzal"
MOBILES = {EVE: "+918123400021", EVA: "+918123400022"}
EMAIL = f"{MARK}@example.org"
LATE = ("given-back-late", "returned-late")
"""Requests that gave back what had expired by then."""

MARKS = (MARK, *MOBILES.values(), "81234", "*0021")


def person(who: int, **given: Any) -> CreateCustomer:
    """Somebody of whom every text is marked."""
    fields: dict[str, Any] = {
        "first_name": f"{MARK} first {who}",
        "last_name": f"{MARK} last {who}",
        "mobile": MOBILES[who],
        "email": f"{who}.{EMAIL}",
        "external_id": f"{MARK}-{who}",
        "locale": "qu",
    }
    return CreateCustomer(**{"customer_id": who, "program_ids": (GOLD,), "campaign_contact": False} | fields | given)


def erase(customer_id: int = EVE, *, forfeit_points: bool = True) -> EraseCustomer:
    """An erasure, for a reason that names nobody."""
    return EraseCustomer(by_id(customer_id), forfeit_points, "asked for in case 12")


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """Ben and Cid, who have points."""
    made = Bench(template(new_database(tmp_path)))
    made.make_program(GOLD, Policy(otp=OtpPolicy(transfer=OtpRequirement.OFF)))
    made.accept(SetConfigKey(MISSED_CALLS_ALLOWED, "true", ""))
    made.make_customer(BEN, points=500)
    made.make_customer(CID, points=500)
    yield made
    made.close()


def lived(bench: Bench) -> None:
    """All that Eve may leave: under request ids by the kind of what she did."""
    reason = f"{MARK} said so"
    bench.accept(person(EVE), "created")
    bench.accept(person(EVA), "created-too")
    bench.accept(EnrolCustomer(by_id(EVE), GOLD), "enrolled")
    given_back_too_late(bench)
    given_back_with_others(bench)
    bench.accept(SetCustomerStatus(by_id(EVE), FraudStatus.INTERNAL, None, reason), "status")
    bench.accept(SetTransferLock(by_id(EVE), None, reason), "lock")
    bench.issue(EVE, 1_000, notes=reason)
    bench.issue(EVA, 50, notes=reason)
    transferred = bench.accept(TransferPoints(40, GOLD, by_id(EVE), by_id(BEN), notes=reason), "transferred")
    bench.accept(TransferPoints(30, GOLD, by_id(BEN), by_id(EVE), notes=f"for {MARK}"), "received")
    bench.accept(ReverseTransfer(transferred.transfer_id, True, reason), "taken-back")
    bench.accept(RecordPurchase(by_id(EVE), GOLD, "B-1", 100), "bought")
    redeemed = RedeemPoints(by_id(EVE), GOLD, 20, transaction_number="B-1", external_reference="R-1", notes=reason)
    redemption = bench.accept(redeemed, "redeemed")
    item = ReturnedItem(redemption.redemption_id, 5, by_id(EVE))
    bench.accept(ReturnTransaction(by_id(EVE), "B-1", 100, (item,), notes=reason), "returned")
    hold = bench.accept(AuthorizeRedemption(RedeemPoints(by_id(EVE), GOLD, 10, notes=reason), 600), "held")
    bench.accept(CaptureRedemption(hold.hold_id, 5, notes=reason), "captured")
    for _ in range(2):
        bench.accept(RecordMissedCall(Identifier(IdentifierType.MOBILE, MOBILES[EVE]), None))
    bench.accept(RedeemPoints(by_id(EVE), GOLD, 1, missed_call=True), "proved")
    bench.accept(AdjustPoints(by_id(EVE), GOLD, 3, reason), "adjusted")
    bench.accept(MergeCustomers(by_id(EVA), by_id(EVE), reason), "merged")
    bench.accept(IssueRedemptionOtp(RedeemPoints(by_id(EVE), GOLD, 10)), "code-settled")
    bench.accept(IssueRedemptionOtp(RedeemPoints(by_id(EVE), GOLD, 10)), "code-replaced")
    bench.accept(IssueTransferOtp(TransferPoints(10, GOLD, by_id(EVE), by_id(BEN))), "code-queued")
    bench.refuse(TransferPoints(10**9, GOLD, by_id(EVE), by_id(BEN), notes=reason), "refused")


def given_back_too_late(bench: Bench) -> None:
    """What Eve had redeemed is given back once it has expired: when she asks, and with a bill that she returns."""
    bench.issue(EVE, 20, Expiry(at=bench.now + timedelta(days=1)))
    redemption = bench.accept(RedeemPoints(by_id(EVE), GOLD, 20), "redeemed-early")
    bench.pass_time(days=5)
    late = ReverseRedemption(by_id(EVE), redemption_id=redemption.redemption_id, points=12, notes=f"{MARK} called")
    bench.accept(late, "given-back-late")
    item = ReturnedItem(redemption.redemption_id, 3, by_id(EVE))
    bench.accept(ReturnTransaction(by_id(EVE), "B-0", 100, (item,), notes=f"{MOBILES[EVE]} called"), "returned-late")


def given_back_with_others(bench: Bench) -> None:
    """Returns with points of others: a bill of Ben's on which Eve and Cid redeemed, one of hers on which Ben did."""
    bench.issue(EVE, 20)
    hers, bens, cids = (
        bench.accept(RedeemPoints(by_id(one), GOLD, 2), f"redeemed-by-{one}") for one in (EVE, BEN, CID)
    )
    with_hers = (ReturnedItem(hers.redemption_id, 1, by_id(EVE)), ReturnedItem(cids.redemption_id, 1, by_id(CID)))
    bench.accept(ReturnTransaction(by_id(BEN), "B-2", 100, with_hers, f"{MARK} paid with hers"), "returned-by-ben")
    with_bens = (ReturnedItem(bens.redemption_id, 1, by_id(BEN)),)
    bench.accept(ReturnTransaction(by_id(EVE), "B-3", 100, with_bens, f"{MARK} paid with his"), "returned-by-eve")


def marked(tables: Mapping[str, Sequence[Sequence[object]]]) -> set[str]:
    """The tables in which something is marked."""
    return {
        table for table, rows in tables.items() for row in rows if any(mark in str(row) for mark in (*MARKS, "'qu'"))
    }


def test_nothing_marked_is_left(bench: Bench) -> None:
    """Names, identifiers, addresses, notes, calls, reasons and recorded answers: of all that was there, nothing is."""
    lived(bench)
    before = marked(bench.tables())
    bench.accept(erase())

    assert {"customers", "transactions", "requests", "returns", "missed_calls", "outbox", "audit_events"} == before
    assert set() == marked(bench.tables())


def test_journal_stays_whole(bench: Bench) -> None:
    """The chain holds without the notes, and every balance is what the journal says."""
    lived(bench)
    before = bench.rows("SELECT transaction_id, points, hash, notes_hash FROM transactions ORDER BY transaction_id")
    bench.accept(erase())
    after = bench.rows("SELECT transaction_id, points, hash, notes_hash FROM transactions ORDER BY transaction_id")

    assert before == after[: len(before)]
    assert [] == verify(bench.database).differences
    assert 0 == bench.current(EVE)


def test_others_keep_what_is_theirs(bench: Bench) -> None:
    """Of others nothing goes but the notes of what they did with the customer."""
    lived(bench)
    bench.accept(TransferPoints(1, GOLD, by_id(BEN), by_id(CID), notes="among friends"), "theirs")
    redemption = bench.accept(RedeemPoints(by_id(CID), GOLD, 2))
    item = ReturnedItem(redemption.redemption_id, 1, by_id(CID))
    bench.accept(ReturnTransaction(by_id(BEN), "B-9", 100, (item,), notes="among friends"), "theirs-too")
    ours = "SELECT * FROM customers WHERE customer_id IN (?, ?) ORDER BY customer_id"
    before = (bench.rows(ours, BEN, CID), bench.current(BEN), bench.current(CID))
    bench.accept(erase())

    assert before == (bench.rows(ours, BEN, CID), bench.current(BEN), bench.current(CID))
    assert [("among friends",)] * 3 == bench.rows(
        "SELECT notes FROM transactions WHERE request_id IN (?, ?)"
        " UNION ALL SELECT notes FROM returns WHERE transaction_number = ?",
        *("theirs", "theirs-too", "B-9"),
    )


def test_repeated_requests(bench: Bench) -> None:
    """A request that is repeated has the outcome that it had, with the same numbers and without the person, each time
    the same.
    """
    lived(bench)
    again = [
        submission(person(EVE), "created"),
        submission(SetTransferLock(by_id(EVE), None, f"{MARK} said so"), "lock"),
        submission(TransferPoints(40, GOLD, by_id(EVE), by_id(BEN), notes=f"{MARK} said so"), "transferred"),
        submission(MergeCustomers(by_id(EVA), by_id(EVE), f"{MARK} said so"), "merged"),
        submission(IssueTransferOtp(TransferPoints(10, GOLD, by_id(EVE), by_id(BEN))), "code-queued"),
        submission(TransferPoints(10**9, GOLD, by_id(EVE), by_id(BEN), notes=f"{MARK} said so"), "refused"),
    ]
    told = bench.settle(*again)
    bench.accept(erase())
    first, second = bench.settle(*again), bench.settle(*again)

    assert first == second
    assert [True] * len(again) == [one.replayed for one in first]
    assert [_numbers(one) for one in told] == [_numbers(one) for one in first]
    assert not re.search("|".join(re.escape(one) for one in MARKS), repr(first))


def _numbers(settled: Settled) -> tuple[object, ...]:
    """What of an answer says nothing of a person."""
    outcome = settled.outcome
    if isinstance(outcome, Refused):
        return (outcome.code, outcome.metadata)
    return (type(outcome.result), outcome.transaction_id, getattr(outcome.result, "balances", None))


def test_request_id_is_still_taken(bench: Bench) -> None:
    """Other content under an old request id is noticed as before: the keyed hashes stay."""
    lived(bench)
    bench.accept(erase())

    assert codes.REQUEST_ID_REUSED is bench.refuse(person(EVE, first_name="another"), "created").code


def test_erasure_is_repeated(bench: Bench) -> None:
    """Under its request id it has its recorded outcome; under another one nothing changes, and it says so."""
    lived(bench)
    done = bench.accept(erase(), "erased")
    before = bench.tables()
    again = bench.accept(erase(), "erased")
    elsewhere = bench.do(erase(), "erased-again").outcome

    assert done == again
    assert isinstance(elsewhere, Accepted)
    assert ErasureResult(EVE, (EVA,), bench.now, (), 0, True) == elsewhere.result
    assert {"requests"} == {name for name, rows in bench.tables().items() if rows != before[name]}


def test_somebody_else_with_the_same_number(bench: Bench) -> None:
    """The identifiers name somebody else from then on, to whom nothing of the past belongs."""
    lived(bench)
    bench.accept(erase())
    bench.accept(person(EVE, customer_id=NEW))
    bench.accept(
        IssuePoints(Identifier(IdentifierType.MOBILE, MOBILES[EVE]), GOLD, 7, Source.GOODWILL), "for-the-new-one"
    )
    bench.accept(erase())

    assert (7, 0) == (bench.current(NEW), bench.current(EVE))
    assert [(MOBILES[EVE],)] == bench.rows("SELECT mobile FROM customers WHERE customer_id = ?", NEW)
    assert [] == verify(bench.database).differences


def test_code_on_its_way(bench: Bench) -> None:
    """A message that waits is cancelled; what the dispatcher books of it later changes nothing."""
    lived(bench)
    bench.accept(erase())

    assert [] == bench.repository.due_messages(bench.now, 100)
    assert {("CANCELLED", "", True)} == set(bench.rows("SELECT state, target, sealed IS NULL FROM outbox"))
    assert ([(0,)], [(0,)]) == (
        bench.rows("SELECT COUNT(*) FROM otps"),
        bench.rows("SELECT COUNT(*) FROM otp_counters"),
    )


# -- what is handed out ------------------------------------------------------------------------------------------------


def handed_out(bench: Bench, customer_id: int, limit: int) -> list[PersonalRecord]:
    """All pages."""
    queries = SqlQueries(bench.database)
    found: list[PersonalRecord] = []
    place: PersonalPlace | None = PERSONAL_START
    while place is not None:
        page, place = queries.personal_records(ORG_ID, customer_id, place, limit)
        assert len(page) <= limit
        found += page
    return found


def test_all_is_handed_out(bench: Bench) -> None:
    """What is kept of both accounts of a person comes, each record once, in pages of any size."""
    lived(bench)
    everything = handed_out(bench, EVE, 200)
    kinds = [type(one).__name__ for one in everything]

    assert ["EnrolledCustomer", "Wallet", "Lot", "ReferredEntry", "Purchase", "Return"] == list(dict.fromkeys(kinds))[
        :6
    ]
    assert {"EnrolledCustomer": 2, "Wallet": 2, "Purchase": 1, "Return": 3, "MissedCall": 2, "SentMessage": 3} == {
        kind: kinds.count(kind)
        for kind in ("EnrolledCustomer", "Wallet", "Purchase", "Return", "MissedCall", "SentMessage")
    }
    assert 3 == kinds.count("AuditRow")  # status, lock and merge
    assert all(str(text) in repr(everything) for text in (*MOBILES.values(), f"21.{EMAIL}", "R-1", "B-1"))
    for limit in (1, 2, 7):
        assert everything == handed_out(bench, EVE, limit)


def test_every_transaction_is_handed_out(bench: Bench) -> None:
    """Newest first, each once, in pages of any size: those that moved no points of hers, but expired ones, too."""
    lived(bench)
    hers = bench.rows(
        "SELECT transaction_id FROM transactions WHERE customer_id IN (?, ?) OR counterparty_id IN (?, ?)"
        " ORDER BY transaction_id DESC",
        *(EVE, EVA) * 2,
    )
    late = bench.rows("SELECT transaction_id FROM transactions WHERE request_id IN (?, ?)", *LATE)

    assert 2 == len(late)
    assert set(late) <= set(hers)
    for limit in (1, 2, 3, 200):
        found = [one for one in handed_out(bench, EVE, limit) if isinstance(one, ReferredEntry)]
        assert hers == [(one.row.entry.transaction_id,) for one in found]
        assert {()} == {one.row.entry.postings for one in found if one.row.entry.request_id in LATE}


def test_what_is_handed_out_is_what_is_erased(bench: Bench) -> None:
    """After the erasure nothing of a person is handed out: what is found to hand out is found to erase."""
    lived(bench)
    before = repr(handed_out(bench, EVE, 100))
    bench.accept(erase())
    after = repr(handed_out(bench, EVE, 100))

    assert MARK in before
    assert not any(mark in after for mark in MARKS)


# -- the files of SQLite -----------------------------------------------------------------------------------------------


@pytest.mark.ci
def test_vacuum_leaves_nothing_at_all(tmp_path: Path) -> None:
    """Hundreds of erasures among thousands of customers whose pages were split: after a vacuum, nothing is anywhere."""
    bench = Bench(template(on_sqlite(tmp_path)))
    bench.make_program()
    chance = random.Random(5)
    numbers = chance.sample(range(1_000, 1_000_000), 2_000)
    marks = {number: [f"{chance.getrandbits(64):016x}" for _ in range(3)] for number in numbers}
    crowd = [
        submission(
            CreateCustomer(number, name, "L", None, f"{address}@example.com", external, (), False), f"crowd-{number}"
        )
        for number, (name, address, external) in marks.items()
    ]
    for start in range(0, len(crowd), 250):
        bench.settle(*crowd[start : start + 250])
    gone = chance.sample(numbers, 200)
    for number in gone:
        bench.accept(erase(number))
    before = bench.on.content()
    bench.close()
    database = Database(bench.on.url)
    vacuum(database)
    database.close()
    content = bench.on.content()

    assert sum(mark.encode() in before for number in gone for mark in marks[number]) <= 6  # copies, of 600 texts
    assert [] == [mark for number in gone for mark in marks[number] if mark.encode() in content]
    assert all(mark.encode() in content for number in set(numbers) - set(gone) for mark in marks[number])


def test_bytes_leave_the_files_of_sqlite(tmp_path: Path) -> None:
    """Neither the database's file nor its log has a byte of it when the answer comes."""
    bench = Bench(template(on_sqlite(tmp_path)))
    bench.make_program(GOLD, Policy(otp=OtpPolicy(transfer=OtpRequirement.OFF)))
    bench.make_customer(BEN, points=500)
    bench.make_customer(CID, points=500)
    bench.accept(SetConfigKey(MISSED_CALLS_ALLOWED, "true", ""))
    lived(bench)
    crowd = [
        submission(
            CreateCustomer(
                number,
                f"F{number}",
                f"L{number}",
                f"+9170000{number}",
                f"{number:x}@example.com",
                f"E{number:x}",
                (),
                False,
            ),
            f"crowd-{number}",
        )
        for number in range(10_000, 11_500)
    ]
    for start in range(0, len(crowd), 250):
        bench.settle(*crowd[start : start + 250])
    before = bench.on.content()
    bench.accept(erase())
    after = bench.on.content()
    bench.close()

    assert MARK.encode() in before
    assert [] == [mark for mark in (MARK, *MOBILES.values()) if mark.encode() in after]


def test_a_reader_in_the_way(tmp_path: Path) -> None:
    """Where somebody reads an older state, the bytes leave the log once that is over, without another write."""
    bench = Bench(template(on_sqlite(tmp_path)))
    bench.make_program()
    bench.accept(person(EVE))
    with bench.on.connection() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM customers").fetchall()
        bench.accept(erase())
        meanwhile = bench.on.content()
        reader.execute("COMMIT")
    kept = bench.repository.keep_lease()
    after = bench.on.content()
    bench.close()

    assert kept
    assert MARK.encode() in meanwhile
    assert MARK.encode() not in after


def test_vacuum_beside_others(bench: Bench) -> None:
    """A file that somebody serves is not vacuumed; PostgreSQL is, and goes on."""
    database = Database(bench.on.url)
    if bench.on.backend == "sqlite":
        with pytest.raises(ValueError, match="stop it first"):
            vacuum(database)
    else:
        vacuum(database)
    database.close()

    assert 500 == bench.current(BEN)
