"""The executor over a real database: request ids, windows of lots, cached configuration, key rotation, isolation."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from executing import ANN, BEN, CID, GOLD, ORG_ID, SEED, Bench, by_id, keys, submission, template
from msgspec.structs import replace

from databases import ATestsDatabase, NewDatabase
from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain.commands import (
    AcknowledgeMessages,
    CheckRedemption,
    CheckTransfer,
    Command,
    CreateCustomer,
    Expiry,
    IssuePoints,
    IssueRedemptionOtp,
    IssueTransferOtp,
    MergeCustomers,
    MessageResult,
    RedeemPoints,
    SetConfigKey,
    SetPause,
    SetPolicy,
    SetTransferLock,
    Submission,
    TransferPoints,
)
from points_grpc.domain.events import Booked, Event
from points_grpc.domain.model import Identifier, IdentifierType, OrgConfig, Source
from points_grpc.domain.otp import derive_code
from points_grpc.domain.outcome import Accepted, Refused, Settled
from points_grpc.domain.policy import Direction, OtpPolicy, Policy, TransferPolicy, VelocityLimit, Window
from points_grpc.service.executor import WINDOW_FIRST, Deferred
from points_grpc.service.meter import Meter
from points_grpc.service.ports import NotWritable, OutcomeUnknown, StorageUnavailable
from points_grpc.storage.load import WINDOW
from points_grpc.storage.verify import verify


@pytest.fixture(scope="session")
def world(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> ATestsDatabase:
    """A closed database: Ann with 1,000 points in gold, Ben and Cid with none."""
    bench = Bench(template(new_database(tmp_path_factory.mktemp("world"))))
    bench.make_program()
    bench.make_customer(ANN, points=1000)
    bench.make_customer(BEN)
    bench.make_customer(CID)
    bench.close()
    return bench.on


@pytest.fixture
def bench(world: ATestsDatabase) -> Iterator[Bench]:
    """A bench over a copy of the world; what it leaves must be sound."""
    opened = Bench.copied(world, first_id=2_000_000)
    yield opened
    assert [] == verify(opened.database).differences
    opened.close()
    opened.on.drop()


def transfer(points: int = 100, source: int = ANN, destination: int = BEN, **given: Any) -> TransferPoints:
    """A transfer from Ann to Ben in gold."""
    return TransferPoints(points, GOLD, by_id(source), by_id(destination), **given)


def redeem(points: int = 100, customer_id: int = ANN, **given: Any) -> RedeemPoints:
    """A redemption of Ann's in gold."""
    return RedeemPoints(by_id(customer_id), GOLD, points, **given)


def code_of(settled: Settled) -> Code:
    """The code of a refusal."""
    assert isinstance(settled.outcome, Refused), settled
    return settled.outcome.code


# -- request ids -------------------------------------------------------------------------------------------------------


def test_acceptance_is_replayed(bench: Bench) -> None:
    """The same request id with the same content gets the recorded answer, and nothing moves again."""
    first = bench.do(transfer(), "once")
    again = bench.do(transfer(), "once")

    assert (False, True) == (first.replayed, again.replayed)
    assert replace(first, replayed=True) == again
    assert (900, 100) == (bench.current(ANN), bench.current(BEN))


def test_refusal_is_replayed_whatever_happened_since(bench: Bench) -> None:
    """A recorded refusal is the answer for good, even once the balance would allow it."""
    first = bench.do(transfer(5000), "poor")
    bench.issue(ANN, 9000)
    again = bench.do(transfer(5000), "poor")

    assert codes.TRANSFER_INSUFFICIENT_POINTS is code_of(first)
    assert replace(first, replayed=True) == again


def test_replay_outlives_the_process(bench: Bench) -> None:
    """What another process recorded is replayed as well."""
    first = bench.do(transfer(), "once")
    bench.close()
    other = Bench(bench.on, first_id=3_000_000)
    again = other.do(transfer(), "once")
    other.close()

    assert replace(first, replayed=True) == again


def test_replay_shows_the_names_of_today(bench: Bench) -> None:
    """Names are no part of the recorded outcome: an answer given again has those that the customers have now."""
    bench.do(transfer(), "once")
    bench.change("UPDATE customers SET first_name = 'Anna' WHERE customer_id = ?", ANN)

    assert ["Anna", f"First{BEN}"] == [one.first_name for one in bench.do(transfer(), "once").parties]


def test_replay_shows_names_that_its_own_batch_wrote(bench: Bench) -> None:
    """A transfer to a customer who was created in the same batch, sent twice in it, shows both parties both times."""
    new = CreateCustomer(77, "Zoe", "", None, None, None, (GOLD,), campaign_contact=False)
    sent = submission(transfer(destination=77), "once")
    _, first, again = bench.settle(submission(new, "new"), sent, sent)

    assert ["First11", "Zoe"] == [one.first_name for one in again.parties]
    assert replace(first, replayed=True) == again


def test_duplicates_inside_one_batch_are_one_transfer(bench: Bench) -> None:
    """Of equal submissions in one batch the first is decided and the others are its replays."""
    answers = bench.settle(*[submission(transfer(), "once")] * 20)

    assert [False] + [True] * 19 == [one.replayed for one in answers]
    assert 1 == len({one.outcome for one in answers if isinstance(one.outcome, Accepted)} or {1})
    assert all(one.outcome == answers[0].outcome for one in answers)
    assert (900, 100) == (bench.current(ANN), bench.current(BEN))


def test_proof_by_call_of_a_customer_of_the_same_batch(bench: Bench) -> None:
    """Nobody called before being made; the batch does not fail for who asks."""
    bench.accept(SetConfigKey("ENABLE_MISSED_CALL_REDEMPTION", "true", "test"))
    new = CreateCustomer(77, "Zoe", "", "+919876540077", None, None, (GOLD,), campaign_contact=False)
    who = Identifier(IdentifierType.MOBILE, "+919876540077")
    issue = IssuePoints(customer=who, program_id=GOLD, points=100, source=Source.LOYALTY_PLUS)
    redemption = RedeemPoints(customer=who, program_id=GOLD, points=10, missed_call=True)
    created, issued, refused = bench.settle(submission(new, "c"), submission(issue, "i"), submission(redemption, "r"))

    assert [True, True] == [isinstance(one.outcome, Accepted) for one in (created, issued)]
    assert isinstance(refused.outcome, Refused)
    assert codes.MISSED_CALL_NOT_FOUND is refused.outcome.code


def test_reused_id_names_the_fields_that_differ(bench: Bench) -> None:
    """The same request id with other content is refused with the names of the fields and none of their values."""
    bench.do(transfer(), "once")
    reused = bench.do(transfer(777, notes="xyzzy"), "once")

    assert isinstance(reused.outcome, Refused)
    assert codes.TRANSFER_DUPLICATE_REQUEST is reused.outcome.code
    assert {"cause": "REQUEST_ID_REUSED", "fields": "notes,points"} == reused.outcome.metadata
    assert "xyzzy" not in repr(reused)
    assert not reused.replayed


def test_code_is_part_of_the_content(bench: Bench) -> None:
    """Another one-time code under the same request id is other content."""
    bench.do(transfer(), "once")
    reused = bench.do(transfer(code="123456"), "once")

    assert isinstance(reused.outcome, Refused)
    assert "code" == reused.outcome.metadata["fields"]


CODE = derive_code(SEED, OtpPolicy())
"""The code that is issued here."""

WRONG = CODE[:-1] + str((int(CODE[-1]) + 1) % 10)


@pytest.mark.parametrize(
    ("issue", "spend", "refused", "expected"),
    [
        (IssueTransferOtp(transfer(1000)), redeem(500), transfer(1000), codes.TRANSFER_INSUFFICIENT_POINTS),
        (IssueTransferOtp(transfer(500)), redeem(500), transfer(500, destination=CID), codes.INVALID_VALIDATION_CODE),
        (IssueTransferOtp(transfer(500)), redeem(500), redeem(500), codes.INVALID_VALIDATION_CODE),
        (IssueTransferOtp(transfer(500)), redeem(500), transfer(500, source=99), codes.TRANSFER_CUSTOMER_NOT_FOUND),
        (IssueRedemptionOtp(redeem(1000)), transfer(500), redeem(1000), codes.POINTS_EXCEED_CURRENT),
    ],
    ids=["balance", "bound to another", "for another action", "unknown customer", "redemption"],
)
def test_recorded_refusal_says_nothing_of_a_code(
    bench: Bench, issue: Command, spend: Command, refused: TransferPoints | RedeemPoints, expected: Code
) -> None:
    """A refusal that did not come from the digits is the answer to any other code, too: nobody learns the right one."""
    bench.accept(issue)
    bench.accept(spend)
    first = bench.do(replace(refused, code=CODE), "seen")
    answers = [bench.do(replace(refused, code=tried), "seen") for tried in (CODE, WRONG, "x")]
    changed = [bench.refuse(replace(refused, code=tried, notes="!"), "seen").metadata for tried in (CODE, WRONG)]

    assert expected is code_of(first)
    assert [replace(first, replayed=True)] * 3 == answers
    assert ["notes"] * 2 == [one["fields"] for one in changed]
    assert [(5,)] == bench.rows("SELECT attempts_left FROM otps")


@pytest.mark.parametrize("given", [WRONG, CODE])
def test_code_that_was_judged_is_compared(bench: Bench, given: str) -> None:
    """Where a code was wrong, or used up, another one under the same request id is other content: it is dead anyway."""
    bench.accept(IssueTransferOtp(transfer()))
    first = bench.do(transfer(code=given), "judged")
    reused = bench.refuse(transfer(code="000000"), "judged")

    assert (given == CODE) == isinstance(first.outcome, Accepted)
    assert {"cause": "REQUEST_ID_REUSED", "fields": "code"} == reused.metadata
    assert bench.do(transfer(code=given), "judged").replayed


@pytest.mark.parametrize(
    ("command", "expected"),
    [(redeem(), codes.REQUEST_ID_REUSED), (IssueTransferOtp(transfer()), codes.TRANSFER_DUPLICATE_REQUEST)],
)
def test_reused_id_of_another_operation_says_so(bench: Bench, command: Command, expected: Code) -> None:
    """Another operation under the same request id differs in its operation, whatever its fields are called."""
    bench.do(transfer(), "once")
    reused = bench.do(command, "once")

    assert isinstance(reused.outcome, Refused)
    assert expected is reused.outcome.code
    assert "operation" == reused.outcome.metadata["fields"]


def test_reused_id_inside_one_batch(bench: Bench) -> None:
    """Other content under an id that the same batch has just used is refused, and the first stands."""
    answers = bench.settle(submission(transfer(), "once"), submission(transfer(200), "once"))

    assert isinstance(answers[0].outcome, Accepted)
    assert codes.TRANSFER_DUPLICATE_REQUEST is code_of(answers[1])
    assert 900 == bench.current(ANN)


def test_malformed_command_settles_nothing(bench: Bench) -> None:
    """INVALID_ARGUMENT is not recorded: mended, the same request id is accepted."""
    first = bench.do(transfer(destination=ANN), "mended")

    assert codes.SAME_CUSTOMER is code_of(first)
    assert isinstance(bench.do(transfer(), "mended").outcome, Accepted)


def test_reuse_is_not_recorded(bench: Bench) -> None:
    """The refusal of a reused id does not replace what its first use came to."""
    bench.do(transfer(), "once")
    bench.do(transfer(200), "once")

    assert isinstance(bench.do(transfer(), "once").outcome, Accepted)


def test_scope_of_a_request_id_is_the_organisation(bench: Bench) -> None:
    """Another organisation's request id of the same text is another id."""
    bench.do(transfer(), "once")
    other = replace(submission(SetPause(0, True, "test"), "once"), org_id=ORG_ID + 1)
    bench.change(
        "INSERT INTO orgs VALUES (?, 'other', 'IN', NULL, 0, 1, 0)",
        ORG_ID + 1,
    )
    answer = bench.executor.run(ORG_ID + 1, [other])[0]

    assert isinstance(answer, Settled)
    assert isinstance(answer.outcome, Accepted)


def test_id_that_the_server_made_is_recorded_and_can_be_asked_for(bench: Bench) -> None:
    """A command without a request id is recorded under the one it was given, which the answer names."""
    answer = bench.do(transfer(), "made-by-server", given=False)

    assert "made-by-server" == answer.request_id
    assert [("TransferPoints",)] == bench.rows("SELECT operation FROM requests WHERE request_id = 'made-by-server'")
    assert bench.do(transfer(), "made-by-server").replayed


def test_transfers_count_on_after_merges(bench: Bench) -> None:
    """What was transferred counts against the limits of whoever lives on, however often they are merged."""
    bench.accept(transfer(100))
    bench.accept(MergeCustomers(by_id(ANN), by_id(BEN), "the same person"))
    bench.accept(transfer(50, source=BEN, destination=CID))
    bench.accept(MergeCustomers(by_id(BEN), by_id(CID), "the same person"))
    bench.make_customer(14)
    limit = VelocityLimit(Direction.OUT, Window.TODAY, points_max=200)
    bench.accept(SetPolicy(GOLD, Policy(transfer=TransferPolicy(velocity_limits=(limit,))), 0, "test"))
    refused = bench.refuse(transfer(51, source=CID, destination=14))

    assert ("150", "200") == (refused.metadata["used"], refused.metadata["limit"])
    assert isinstance(bench.do(transfer(50, source=CID, destination=14)).outcome, Accepted)


# -- what is recorded --------------------------------------------------------------------------------------------------


def paused(bench: Bench) -> Callable[[], None]:
    """Pauses the organisation; the way back."""
    bench.accept(SetPause(0, True, "test"))
    return lambda: bench.accept(SetPause(0, False, "test"))


def without_fraud_key(bench: Bench) -> Callable[[], None]:
    """Removes the key that says whether fraud is checked (412)."""
    bench.accept(SetConfigKey("CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER", None, "test"))
    return lambda: bench.accept(SetConfigKey("CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER", "true", "test"))


def with_bad_key(bench: Bench) -> Callable[[], None]:
    """Sets a switch to what no switch can be (888)."""
    bench.accept(SetConfigKey("ALLOW_POINTS_TRANSFER", "perhaps", "test"))
    return lambda: bench.accept(SetConfigKey("ALLOW_POINTS_TRANSFER", "true", "test"))


def with_contradiction(bench: Bench) -> Callable[[], None]:
    """Sets a policy that contradicts itself (899)."""
    policy = Policy()
    bench.accept(SetPolicy(GOLD, replace(policy, redemption=replace(policy.redemption, categories=())), 0, "test"))
    return lambda: bench.accept(SetPolicy(GOLD, policy, 0, "test"))


def unreadable(bench: Bench) -> Callable[[], None]:
    """Configuration that cannot be read (413, 815)."""
    read = bench.repository.config
    bench.repository.config = lambda org_id: OrgConfig({}, available=False)  # type: ignore[method-assign]
    bench.pass_time(seconds=2)

    def mend() -> None:
        bench.repository.config = read  # type: ignore[method-assign]

    return mend


@pytest.mark.parametrize(
    ("trouble", "command", "expected"),
    [
        (paused, transfer(), codes.TRANSFER_UNAVAILABLE),
        (paused, redeem(), codes.PAUSED),
        (without_fraud_key, transfer(), codes.FRAUD_CHECK_CONFIG_INVALID),
        (with_bad_key, transfer(), codes.TRANSFER_CONFIGURATION_INVALID),
        (with_bad_key, redeem(), codes.ORG_CONFIGURATION_INVALID),
        (with_contradiction, transfer(), codes.TRANSFER_PROGRAM_MISCONFIGURED),
        (with_contradiction, redeem(), codes.PROGRAM_CONFIGURATION_INVALID),
        (unreadable, transfer(), codes.FRAUD_CHECK_CONFIG_UNAVAILABLE),
        (unreadable, redeem(), codes.STORAGE_UNAVAILABLE),
    ],
)
def test_id_of_a_refusal_that_is_not_recorded_is_free_again(
    bench: Bench, trouble: Callable[[Bench], Callable[[], None]], command: Command, expected: Code
) -> None:
    """UNAVAILABLE, and what an operator configured wrongly, never settle a request id: mended, it is accepted."""
    mend = trouble(bench)
    refused = bench.do(command, "again")
    mend()
    accepted = bench.do(command, "again")

    assert expected is code_of(refused)
    assert isinstance(accepted.outcome, Accepted)
    assert not accepted.replayed


def test_id_of_an_unrecorded_refusal_takes_any_content(bench: Bench) -> None:
    """A request id whose refusal was not recorded stands for nothing: other content, another operation may use it."""
    mend = paused(bench)
    bench.do(transfer(), "free")
    mend()

    assert isinstance(bench.do(redeem(), "free").outcome, Accepted)


def recorded_refusals() -> list[tuple[Command, Code]]:
    """A command for each kind of refusal that is recorded, and the code."""
    limited = VelocityLimit(Direction.OUT, Window.TODAY, points_max=100)
    return [
        (transfer(5000), codes.TRANSFER_INSUFFICIENT_POINTS),
        (transfer(destination=99), codes.TRANSFER_CUSTOMER_NOT_FOUND),
        (transfer(code="000000"), codes.INVALID_VALIDATION_CODE),
        (transfer(50), codes.TRANSFER_DUPLICATE_REQUEST),
        (transfer(100 + limited.points_max), codes.TRANSFER_LIMIT_EXCEEDED),
        (redeem(5000), codes.POINTS_EXCEED_CURRENT),
        (redeem(customer_id=99), codes.CUSTOMER_NOT_IN_ORGANIZATION),
    ]


@pytest.mark.parametrize(("command", "expected"), recorded_refusals())
def test_refusals_of_the_rules_are_recorded(bench: Bench, command: Command, expected: Code) -> None:
    """FAILED_PRECONDITION, NOT_FOUND, 902 of the duplicate window and 903 are outcomes of their request ids."""
    limit = VelocityLimit(Direction.OUT, Window.TODAY, points_max=180)
    policy = Policy(transfer=TransferPolicy(duplicate_window_s=60, velocity_limits=(limit,)))
    bench.accept(transfer(50))
    if expected in {codes.TRANSFER_DUPLICATE_REQUEST, codes.TRANSFER_LIMIT_EXCEEDED}:
        bench.accept(SetPolicy(GOLD, policy, 0, "test"))
    first = bench.do(command, "refused")
    bench.pass_time(days=2)
    bench.accept(SetPolicy(GOLD, Policy(), 0, "test"))
    again = bench.do(command, "refused")

    assert expected is code_of(first)
    assert replace(first, replayed=True) == again


def test_what_the_dispatcher_does_is_not_recorded(bench: Bench) -> None:
    """Commands of the server itself leave no request id behind."""
    bench.do(AcknowledgeMessages((MessageResult(1, ANN, True, "", None),)), "outbox", given=False)

    assert [] == bench.rows("SELECT * FROM requests WHERE request_id = 'outbox'")


def test_wrong_code_is_counted_although_the_command_is_refused(bench: Bench) -> None:
    """A refusal leaves its trace: the attempt is committed."""
    bench.accept(IssueTransferOtp(transfer()))
    states = [bench.refuse(transfer(code="12345")).metadata["attempts_left"] for _ in range(3)]

    assert ["4", "3", "2"] == states
    assert [(2, 3)] == bench.rows(
        "SELECT attempts_left, wrong_attempts FROM otps JOIN otp_counters USING (org_id, customer_id, action)"
    )


def test_delivered_before_it_was_replaced_stays_delivered(bench: Bench) -> None:
    """In one batch as one by one: a message that was booked as delivered is not cancelled by a later code."""
    bench.accept(IssueTransferOtp(transfer()))
    [message] = bench.repository.due_messages(bench.now, 10)
    done = AcknowledgeMessages((MessageResult(message.message_id, ANN, True, "", None),))
    bench.settle(submission(done, "done"), submission(IssueTransferOtp(transfer()), "newer"))

    assert [("DELIVERED",), ("QUEUED",)] == bench.rows("SELECT state FROM outbox ORDER BY message_id")


# -- windows of lots ---------------------------------------------------------------------------------------------------


def many_lots(bench: Bench, customer_id: int, count: int) -> None:
    """Lots of one point each."""
    one = IssuePoints(by_id(customer_id), GOLD, 1, Source.GOODWILL)
    for start in range(0, count, 1000):
        batch = [submission(one, f"lots-{number}", given=False) for number in range(start, min(start + 1000, count))]
        bench.settle(*batch)


def test_first_window_is_what_the_storage_loads() -> None:
    """The executor widens from the window that the storage starts with: two numbers that must be one."""
    assert WINDOW_FIRST == WINDOW


def test_long_window_is_loaded_for_a_lone_command(bench: Bench) -> None:
    """A transfer over 700 lots of one point each is decided, alone in its batch."""
    many_lots(bench, BEN, 1000)
    loads = bench.loads
    result = bench.accept(transfer(700, BEN, CID))

    assert 700 == result.points
    assert (300, 700) == (bench.current(BEN), bench.current(CID))
    assert [(700,)] == bench.rows("SELECT count(*) FROM lots WHERE customer_id = ? AND remaining = 1", CID)
    assert 1 < bench.loads - loads <= 6  # each window is four times the last


def test_long_window_in_company_is_deferred(bench: Bench) -> None:
    """In company such a command is set aside for a batch of its own, and what came after it stays after it."""
    many_lots(bench, BEN, 1000)
    batch = [submission(transfer(10), "a"), submission(transfer(700, BEN, CID), "big"), submission(transfer(20), "c")]
    answers = bench.run(batch)

    assert [False, True, True] == [isinstance(one, Deferred) for one in answers]
    assert [Deferred(alone=True), Deferred(alone=False)] == answers[1:]
    assert (990, 1000 + 10, 0) == (bench.current(ANN), bench.current(BEN), bench.current(CID))
    assert isinstance(bench.settle(batch[1])[0].outcome, Accepted)
    assert 700 == bench.current(CID)


def test_medium_window_is_loaded_for_the_whole_batch(bench: Bench) -> None:
    """A command over 100 lots keeps its place: the batch is loaded again with a longer window, nobody is set aside."""
    many_lots(bench, BEN, 1000)
    batch = [submission(transfer(60, BEN, CID), name) for name in ("a", "b")]
    answers = bench.settle(*batch)

    assert all(isinstance(one.outcome, Accepted) for one in answers)
    assert 120 == bench.current(CID)


def test_all_short_windows_are_learnt_at_once(bench: Bench) -> None:
    """A batch of which each command needs more lots of a wallet of its own is loaded again once, not once for each."""
    new = [CreateCustomer(one, "", "", None, None, None, (GOLD,), campaign_contact=False) for one in range(100, 140)]
    bench.settle(*[submission(one, f"new-{one.customer_id}") for one in new])
    for number in range(20):
        lots = [IssuePoints(by_id(one.customer_id), GOLD, 1, Source.GOODWILL) for one in new]
        bench.settle(*[submission(one, f"lot-{number}-{place}") for place, one in enumerate(lots)])
    loads = bench.loads
    bench.settle(*[submission(transfer(20, one.customer_id), f"out-{one.customer_id}") for one in new])

    assert 20 * 40 == bench.current(BEN)
    assert bench.loads - loads <= 3


def test_commands_on_one_long_wallet_are_deferred_one_by_one(bench: Bench) -> None:
    """Many commands that each need many lots of one wallet are all set aside, after a few loads of the batch."""
    many_lots(bench, BEN, 1000)
    batch = [submission(transfer(300, BEN, CID), f"many-{number}") for number in range(5)]
    loads = bench.loads
    answers = bench.run(batch)

    assert [Deferred(alone=True)] * 5 == answers
    assert bench.loads - loads <= 5
    assert 0 == bench.current(CID)
    outcomes = [bench.settle(one)[0].outcome for one in batch]
    assert [True, True, True, False, False] == [isinstance(one, Accepted) for one in outcomes]


def test_over_ten_thousand_lots_is_refused(bench: Bench) -> None:
    """What would draw more than 10,000 lots is refused with 10015, and that is recorded; 10,000 are drawn."""
    many_lots(bench, BEN, 10_002)
    first, again = bench.do(transfer(10_001, BEN, CID), "huge"), bench.do(transfer(10_001, BEN, CID), "huge")

    assert codes.TOO_MANY_LOTS is code_of(first)
    assert (True, first.outcome) == (again.replayed, again.outcome)
    assert codes.TOO_MANY_LOTS is code_of(bench.do(redeem(10_001, BEN)))
    assert 10_002 == bench.current(BEN)
    assert 10_000 == bench.accept(redeem(10_000, BEN)).points
    assert 2 == bench.current(BEN)


def test_check_sees_long_windows_too(bench: Bench) -> None:
    """A check is decided on as many lots as the deed, and writes nothing."""
    many_lots(bench, BEN, 1000)
    before = bench.tables()
    answer = bench.check(submission(CheckTransfer(transfer(700, BEN, CID)), "check"))

    assert isinstance(answer.outcome, Accepted)
    assert before == bench.tables()


def test_checks_together_are_those_one_by_one(bench: Bench) -> None:
    """Checks that are decided on one snapshot come to what each comes to alone, and see nothing of each other."""
    many_lots(bench, BEN, 100)
    bench.issue(ANN, 50, Expiry(at=bench.now + timedelta(hours=1)))
    bench.pass_time(hours=2)
    deeds = [transfer(1000), transfer(1050), transfer(600), transfer(90, BEN, CID), transfer(5, CID, ANN)]
    deeds += [transfer(1, ANN, 99), transfer(0), transfer(1000, ANN, CID)]
    batch = [submission(CheckTransfer(one), f"check-{place}") for place, one in enumerate(deeds)]
    batch += [submission(CheckRedemption(redeem(one, BEN)), f"redeem-{one}") for one in (1, 100, 101)]
    before = bench.tables()
    answers = bench.checks(*batch)

    assert [bench.check(one) for one in batch] == answers
    assert {True, False} == {isinstance(one.outcome, Accepted) for one in answers if isinstance(one, Settled)}
    assert before == bench.tables()


def test_check_of_a_long_wallet_wants_to_be_alone(bench: Bench) -> None:
    """A check that has to look at many lots is deferred; its company is answered after a few loads."""
    many_lots(bench, BEN, 1000)
    long = [submission(CheckTransfer(transfer(700, BEN, CID)), f"long-{number}") for number in range(3)]
    short = submission(CheckTransfer(transfer(1)), "short")
    loads = bench.loads
    answers = bench.checks(long[0], short, *long[1:])

    assert [Deferred(alone=True), bench.check(short), Deferred(alone=True), Deferred(alone=True)] == answers
    assert bench.loads - loads <= 6
    assert isinstance(bench.check(long[0]).outcome, Accepted)


# -- what is due -------------------------------------------------------------------------------------------------------


def test_due_expiry_is_booked_in_the_same_commit(bench: Bench) -> None:
    """Touching a wallet in a write books what expired, in the transaction of the command that touched it."""
    bench.issue(ANN, 50, Expiry(at=bench.now + timedelta(hours=1)))
    bench.pass_time(hours=2)
    commits: list[str] = []
    bench.probe(lambda text: commits.append(text) if text == "COMMIT" else None)
    bench.accept(transfer(1000))

    assert ["COMMIT"] == commits
    assert [(5, 50), (2, 1000)] == bench.rows("SELECT kind, points FROM transactions WHERE kind <> 1 ORDER BY position")
    assert (0, 1000) == (bench.current(ANN), bench.current(BEN))


def test_due_expiry_is_booked_although_the_command_is_refused(bench: Bench) -> None:
    """A refused command touches the wallet as well: the expiry stays booked."""
    bench.issue(ANN, 50, Expiry(at=bench.now + timedelta(hours=1)))
    bench.pass_time(hours=2)
    refused = bench.refuse(transfer(1020))

    assert "20" == refused.metadata["short_by"]
    assert 1000 == bench.current(ANN)


def test_points_are_usable_through_their_last_instant(bench: Bench) -> None:
    """At the very instant of the expiry the points still count; a microsecond later they are gone."""
    bench.issue(ANN, 50, Expiry(at=bench.now + timedelta(hours=1)))
    bench.pass_time(hours=1)
    last = bench.do(transfer(1050, destination=CID), "last")
    bench.do(transfer(1050, CID, ANN), "back")
    bench.pass_time(microseconds=1)

    assert isinstance(last.outcome, Accepted)
    assert "50" == bench.refuse(transfer(1050)).metadata["short_by"]


def test_points_that_expire_at_this_instant_and_another_command(bench: Bench) -> None:
    """A wallet that becomes due by its own batch is left for the next one."""
    now = Expiry(at=bench.now)
    issue = IssuePoints(by_id(CID), GOLD, 5, Source.GOODWILL, expiry=now)
    bench.settle(*[submission(issue, name) for name in "abc"])

    assert 15 == bench.current(CID)
    bench.pass_time(microseconds=1)
    bench.refuse(transfer(1, CID, ANN))
    assert 0 == bench.current(CID)


def test_promised_points_are_not_forgotten_by_a_wallet_that_its_own_batch_made_due(bench: Bench) -> None:
    """Points promised for later become available on time, although points of the last instant came and went before."""
    bench.issue(ANN, 500, available_from=bench.now + timedelta(hours=1))
    last = IssuePoints(by_id(ANN), GOLD, 5, Source.GOODWILL, expiry=Expiry(at=bench.now))
    bench.settle(submission(last, "last"), submission(transfer(5), "a"), submission(transfer(5), "b"))
    bench.pass_time(hours=2)

    assert 1400 == bench.accept(transfer(1400)).points


def test_promised_points_and_points_that_expired_on_arrival(bench: Bench) -> None:
    """Points promised for later become available on time, although others expired on arrival in the batch of a draw."""
    bench.issue(ANN, 500, available_from=bench.now + timedelta(hours=1))
    late = IssuePoints(by_id(ANN), GOLD, 5, Source.GOODWILL, expiry=Expiry(at=bench.now - timedelta(seconds=1)))
    bench.settle(submission(late, "late"), submission(transfer(5), "a"))
    refused = bench.refuse(transfer(1400))
    bench.pass_time(hours=2)

    assert codes.POINTS_NOT_TRANSFERABLE is refused.code
    assert 1400 == bench.accept(transfer(1400)).points


# -- configuration and keys --------------------------------------------------------------------------------------------


def test_configuration_is_cached_for_less_than_a_second(bench: Bench) -> None:
    """A key that another process changed is judged by within a second, and not read again before."""
    bench.do(transfer(1))
    bench.change("UPDATE config_keys SET value = 'false' WHERE name = 'ALLOW_POINTS_TRANSFER'")
    bench.pass_time(milliseconds=999)
    cached = bench.do(transfer(1))
    bench.pass_time(milliseconds=1)
    fresh = bench.do(transfer(1))

    assert isinstance(cached.outcome, Accepted)
    assert codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM is code_of(fresh)


def test_own_change_of_configuration_holds_at_once(bench: Bench) -> None:
    """A key set through this process is judged by from the next batch on."""
    bench.do(transfer(1))
    bench.accept(SetConfigKey("ALLOW_POINTS_TRANSFER", "false", "test"))

    assert codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM is bench.refuse(transfer(1)).code


def test_own_change_of_policy_holds_at_once(bench: Bench) -> None:
    """A policy set through this process is judged by from the next batch on, and its revision is stored."""
    bench.do(transfer(1), "before")
    bench.accept(SetPolicy(GOLD, Policy(transfer=TransferPolicy(multiple=10)), 0, "test"))
    bench.do(transfer(10), "after")

    assert codes.TRANSFER_POINTS_NOT_DIVISIBLE is bench.refuse(transfer(1)).code
    assert [("before", 1), ("after", 2)] == bench.rows(
        "SELECT request_id, policy_revision FROM transactions WHERE kind = 2 ORDER BY position"
    )


def test_rotated_keys_still_know_old_content(bench: Bench) -> None:
    """After a rotation the same content is a replay, and other content is named, while the old key is at hand."""
    bench.do(transfer(), "old")
    bench.rekey("k1", "k2")
    bench.do(transfer(1), "new")

    assert bench.do(transfer(), "old").replayed
    assert "points" == bench.refuse(transfer(7), "old").metadata["fields"]
    assert [("k1",), ("k2",)] == bench.rows(
        "SELECT key_id FROM requests WHERE request_id IN ('old', 'new') ORDER BY request_id DESC"
    )


def test_without_the_old_key_set_fields_are_compared(bench: Bench) -> None:
    """Once the key is gone, which fields are set is all that can tell contents apart."""
    bench.do(transfer(), "old")
    bench.rekey("k2")
    more = submission(transfer(), "old")
    more = replace(more, fingerprint={**more.fingerprint, "extra": b"1"})
    reused = bench.settle(more)[0]

    assert bench.do(transfer(7), "old").replayed
    assert isinstance(reused.outcome, Refused)
    assert "extra" == reused.outcome.metadata["fields"]


def test_rotated_keys_still_accept_codes_on_their_way(bench: Bench) -> None:
    """A code that was issued under the old key opens its transfer after a rotation."""
    bench.accept(IssueTransferOtp(transfer()))
    [message] = bench.repository.due_messages(bench.now, 10)
    bench.rekey("k1", "k2")
    code = bench.keyring.open(message.key_id, message.sealed)

    assert 100 == bench.accept(transfer(code=code)).points


def test_contents_are_kept_as_keyed_hashes(bench: Bench) -> None:
    """Neither codes nor notes nor identifiers of a request stand in what is kept of its content."""
    bench.do(transfer(code="987123", notes="a secret note"), "hashed")
    [(fingerprint,)] = bench.rows("SELECT fingerprint FROM requests WHERE request_id = 'hashed'")

    assert all(text not in fingerprint for text in ("987123", "secret", str(ANN)))
    assert keys("k1").fingerprint(submission(transfer(), "x").fingerprint) is not None


# -- isolation ---------------------------------------------------------------------------------------------------------


class Fault(Exception):
    """What a planted fault raises."""


def statements_of(bench: Bench, batch: list[Submission]) -> list[str]:
    """The statements that a batch runs, from BEGIN to COMMIT."""
    seen: list[str] = []
    bench.probe(seen.append)
    bench.run(batch)
    bench.probe(None)
    return seen


@pytest.mark.parametrize("error", [Fault, StorageUnavailable])
def test_fault_at_any_statement_leaves_nothing(world: ATestsDatabase, error: type[Exception]) -> None:
    """Whatever statement fails, nothing of the batch is there, every request id is free, and the next run does it."""
    batch = [
        submission(transfer(), "a"),
        submission(redeem(10, external_reference="ref"), "b"),
        submission(IssueTransferOtp(transfer(5, ANN, CID)), "c"),
        submission(SetTransferLock(by_id(BEN), None, "test"), "d"),
    ]
    bench = Bench.copied(world, first_id=2_000_000)
    rehearsal = Bench.copied(world, first_id=2_000_000)
    for one in (bench, rehearsal):
        one.accept(redeem(1))  # From here on the configuration is cached: reading it is no part of the batch.
    before = bench.tables()
    count = len(statements_of(rehearsal, batch))
    rehearsal.close()
    for fatal in range(count):
        passed: list[str] = []

        def fail(text: str, fatal: int = fatal, passed: list[str] = passed) -> None:
            if len(passed) == fatal:
                raise error
            passed.append(text)

        bench.probe(fail)
        with pytest.raises((error, NotWritable)) as raised:
            bench.run(batch)
        bench.probe(None)
        assert isinstance(raised.value, error) or isinstance(raised.value.__cause__, error)

        assert before == bench.tables(), f"statement {fatal}"
    answers = bench.settle(*batch)
    bench.close()

    assert count > 20
    assert all(isinstance(one.outcome, Accepted) and not one.replayed for one in answers)


def test_commit_that_took_place_unheard_is_settled_by_its_request_ids(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit took place and its answer was lost: the outcome is unknown; the same ids tell it, and do no more."""
    batch = [
        submission(transfer(), "a"),
        submission(redeem(10, external_reference="ref"), "b"),
        submission(IssueTransferOtp(transfer(5, ANN, CID)), "c"),
        submission(SetTransferLock(by_id(BEN), None, "test"), "d"),
        submission(transfer(1_000_000), "e"),
    ]
    driver = type(bench.repository._writer_driver())
    commit = driver.commit

    def deaf(this: Any) -> None:
        commit(this)
        raise OutcomeUnknown("the connection was lost behind the commit")

    monkeypatch.setattr(driver, "commit", deaf)
    with pytest.raises(OutcomeUnknown):
        bench.run(batch)
    monkeypatch.undo()
    written = bench.tables()
    answers = bench.settle(*batch)

    assert [True] * 5 == [one.replayed for one in answers]
    assert [True] * 4 + [False] == [isinstance(one.outcome, Accepted) for one in answers]
    assert written == bench.tables()
    assert isinstance(bench.do(redeem(1), "f").outcome, Accepted)


FAULT = {
    "sqlite": "CREATE TRIGGER fault BEFORE INSERT ON redemptions BEGIN SELECT RAISE(ABORT, 'fault'); END",
    "postgresql": "ALTER TABLE redemptions ADD CONSTRAINT fault CHECK (points < 0) NOT VALID",
}
MENDED = {"sqlite": "DROP TRIGGER fault", "postgresql": "ALTER TABLE redemptions DROP CONSTRAINT fault"}


def test_constraint_of_the_database_fails_its_batch_alone(bench: Bench) -> None:
    """A row that the database refuses rolls back its batch, and later batches run as if it had never been."""
    bench.change(FAULT[bench.on.backend])
    with pytest.raises(NotWritable) as raised:
        bench.run([submission(transfer(), "a"), submission(redeem(), "b")])
    assert isinstance(raised.value.__cause__, (sqlite3.IntegrityError, psycopg.IntegrityError))
    after = bench.do(transfer(), "a")
    bench.change(MENDED[bench.on.backend])

    assert isinstance(after.outcome, Accepted)
    assert not after.replayed
    assert isinstance(bench.do(redeem(), "b").outcome, Accepted)
    assert (800, 100) == (bench.current(ANN), bench.current(BEN))


# -- counting ----------------------------------------------------------------------------------------------------------


def test_counting_that_fails_commits_nothing(world: ATestsDatabase) -> None:
    """A batch that fails is run again, command by command: so nothing of it may be written when its count fails."""

    class Failing(Meter):
        def count(self, events: Iterable[Event], answers: Iterable[object]) -> None:
            if any(isinstance(event, Booked) for event in events):
                raise ZeroDivisionError

    bench = Bench.copied(world, meter=Failing())
    with pytest.raises(NotWritable):
        bench.do(transfer(), "once")
    assert (1000, 0) == (bench.current(ANN), bench.current(BEN))
    bench.close()
    bench.on.drop()
