"""Redemptions: the order of the rules, one row for each cause of refusal, and what an accepted redemption does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from domain.defects import (
    Defect,
    Scene,
    Spoil,
    cases,
    counted,
    excluded,
    expected,
    frauds,
    has_only,
    in_command,
    in_config,
    in_order,
    in_world,
    labelled,
    listed,
    names,
    pairs,
    spoiled,
    suffixes,
    told,
)
from points_grpc import codes
from points_grpc.domain.commands import (
    AuthorizeRedemption,
    CheckRedemption,
    Command,
    IssueRedemptionOtp,
    RedeemPoints,
)
from points_grpc.domain.configuration import (
    DEFAULTS,
    MISSED_CALLS_ALLOWED,
    POOLING_ALLOWED,
    PUBLISHED,
    REDEMPTIONS_ALLOWED,
    REVERSALS_ALLOWED,
    STATUS_MODULE,
)
from points_grpc.domain.model import (
    Account,
    FraudStatus,
    Kind,
    MissedCall,
    OtpAction,
    Posting,
    RedeemedLot,
    Redemption,
    StatusLabel,
)
from points_grpc.domain.outcome import (
    Accepted,
    CheckRedemptionResult,
    LotShare,
    MoneyValue,
    ProgramShare,
    RedemptionResult,
    Refused,
)
from points_grpc.domain.policy import Category, PointValue
from worlds import (
    ANN,
    BEN,
    BRONZE,
    CID,
    ENROLLED_AT,
    FIRST_ID,
    GOLD,
    NOW,
    SILVER,
    UNKNOWN,
    World,
    by_id,
    metals,
    redeem,
)

CONTRACT = (
    "program (895, 899, 888, 827, 826) → transaction number (811, 873) → customer (816, 419, 686, 881, 859 too early) "
    "→ fraud (809 or 820 with the status module off, 3045 with it on) → amount (821, 819, 807) → thresholds (804, 805, "
    "806) → balance (818 or pooled 803, 813) → proof (823, 822, 824, 808)"
)
"""The contract's "Order of rules" for redemptions, to the letter, from the program on; the shape is judged before."""

WARNINGS = {873}
"""Numbers in the contract's line that refuse nothing."""

OPERATIONS: dict[type[Any], Callable[[RedeemPoints], Command]] = {
    RedeemPoints: lambda command: command,
    AuthorizeRedemption: lambda command: AuthorizeRedemption(command, 900),
    CheckRedemption: CheckRedemption,
    IssueRedemptionOtp: IssueRedemptionOtp,
}
DEED = (RedeemPoints, AuthorizeRedemption)
OTP_ISSUE = (IssueRedemptionOtp,)
TOMORROW = NOW + timedelta(days=1)


# -- the table -------------------------------------------------------------------------------------------------------


def scene() -> Scene:
    """Ann has 60 points that expire in ten days and 40 that never do, and redeems 50 of them: accepted."""
    world = metals()
    world.change_redemption_policy(
        categories=(Category("Main"), Category("Gift"), Category("Frozen", redeemable=False)),
        point_value=PointValue(25, 1, "INR"),
    )
    world.give(1, 60, expires_at=NOW + timedelta(days=10))
    world.give(2, 40)
    return Scene(world, redeem(50))


def program_missing(at: Scene) -> None:
    """Names no program, and there is no default one."""
    at.command = replace(at.command, program_id=0)
    at.world.default_program_id = None


def pool_paused(at: Scene) -> None:
    """Pools points with those of a program that is paused, and is not the one named."""
    at.command = replace(at.command, pooled=True)
    at.world.change_program(SILVER, paused=True)


def pooled_without_group(at: Scene) -> None:
    """Pools the points of a program outside any group."""
    at.command = replace(at.command, pooled=True)
    at.world.change_program(group_id=None)


def pooling_off(at: Scene) -> None:
    """Pools points in an organisation that does not."""
    at.command = replace(at.command, pooled=True)
    at.world.config[POOLING_ALLOWED] = "false"


def malformed_number(at: Scene) -> None:
    """Names a bill that cannot be one, where the policy is strict."""
    at.command = replace(at.command, transaction_number="no bill")
    at.world.change_redemption_policy(transaction_number_strict=True)


def reference_used(at: Scene) -> None:
    """Gives an external reference that another redemption has."""
    at.command = replace(at.command, external_reference="R-1")
    at.world.redemptions["r0"] = Redemption("r0", 5, BEN, GOLD, 1, 0, NOW, None, None, "R-1", None, ())


def not_enrolled(at: Scene) -> None:
    """Ann left gold, and all that is pooled with it."""
    at.world.leave(ANN)
    at.world.leave(ANN, SILVER)


def too_few_in_pool(at: Scene) -> None:
    """Asks the whole group for more than it has."""
    at.command = replace(at.command, pooled=True)
    has_only(40)(at)


def all_held(at: Scene) -> None:
    """Holds all that Ann has."""
    found = at.world.lots_of(ANN)
    at.world.take_all()
    for one in found:
        at.world.give(one.lot_id, one.remaining, held=one.remaining)


def pool_needs_proof(at: Scene) -> None:
    """Pools points with those of a program that demands a proof, and is not the one named."""
    at.command = replace(at.command, pooled=True)
    at.world.change_redemption_policy(SILVER, proof_required=True)


def missed_call(text: str, **given: Any) -> Spoil:
    """Asks for proof by missed call, with the key set to a text."""

    def spoil(at: Scene) -> None:
        at.world.config[MISSED_CALLS_ALLOWED] = text
        at.command = replace(at.command, missed_call=True, **given)

    return spoil


def called_with_code(at: Scene) -> None:
    """Asks for proof by missed call, which came, with a code beside it."""
    missed_call("true", code="123456")(at)
    at.world.missed_calls[5] = MissedCall(5, ANN, at.world.customers[ANN].mobile or "", NOW, NOW)


def too_many_wrong(at: Scene) -> None:
    """Tries a code after too many wrong ones."""
    counted(OtpAction.REDEMPTION, wrong_attempts=15)(at)
    at.command = replace(at.command, code="123456")


NO_PROGRAM = names("program-unknown", "program-negative", "program-missing")
WINDOW = {"resets_at": "2026-03-15T12:14:00+00:00"}

DEFECTS = (
    Defect(
        "org-paused",
        codes.PAUSED,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
        ours=True,
    ),
    Defect(
        "program-paused",
        codes.PAUSED,
        in_world(lambda one: one.change_program(paused=True)),
        {"cause": "PROGRAM_PAUSED"},
        excludes=NO_PROGRAM,  # what is not there is not paused
        ours=True,
    ),
    Defect(
        "pool-paused",
        codes.PAUSED,
        pool_paused,
        {"cause": "PROGRAM_PAUSED"},
        excludes=NO_PROGRAM | names("no-group"),
        ours=True,
    ),
    Defect("program-unknown", codes.PROGRAM_NOT_CONFIGURED, in_command(program_id=77), {}, "program_id"),
    Defect("program-negative", codes.PROGRAM_NOT_CONFIGURED, in_command(program_id=-1), {}, "program_id"),
    Defect("program-missing", codes.PROGRAM_NOT_CONFIGURED, program_missing, {}, "program_id"),
    Defect(
        "program-inactive",
        codes.PROGRAM_NOT_CONFIGURED,
        in_world(lambda one: one.change_program(active=False)),
        {},
        "program_id",
    ),
    Defect(
        "policy-contradicts-itself",
        codes.PROGRAM_CONFIGURATION_INVALID,
        in_world(lambda one: one.change_redemption_policy(minimum_points=10, maximum_points=5)),
        {"fields": "redemption.minimum_points,redemption.maximum_points"},
        excludes=names("below-minimum", "above-maximum"),  # each says what the two are
    ),
    Defect(
        "config-unreadable",
        codes.STORAGE_UNAVAILABLE,
        in_world(lambda one: setattr(one, "config_available", False)),
        ours=True,
    ),
    Defect(
        "key-does-not-parse",
        codes.ORG_CONFIGURATION_INVALID,
        in_config(REVERSALS_ALLOWED, "maybe"),
        {"key": REVERSALS_ALLOWED},
    ),
    Defect(
        "off-for-org",
        codes.REDEMPTION_DISABLED,
        in_config(REDEMPTIONS_ALLOWED, "false"),
        {"cause": "ORGANISATION"},
    ),
    Defect(
        "off-for-program",
        codes.REDEMPTION_DISABLED,
        in_world(lambda one: one.change_redemption_policy(enabled=False)),
        {"cause": "PROGRAM"},
    ),
    Defect(
        "category-unknown",
        codes.INVALID_POINTS_CATEGORY,
        in_command(category="Nope"),
        {"cause": "UNKNOWN_CATEGORY"},
        "category",
        excludes=names("category-not-redeemable"),
    ),
    Defect(
        "category-not-redeemable",
        codes.INVALID_POINTS_CATEGORY,
        in_command(category="Frozen"),
        {"cause": "CATEGORY_NOT_REDEEMABLE", "category": "Frozen"},
        "category",
    ),
    Defect(
        "no-group",
        codes.INVALID_POINTS_CATEGORY,
        pooled_without_group,
        {"cause": "NO_GROUP"},
        "group_redemption",
    ),
    Defect(
        "pooling-off",
        codes.INVALID_POINTS_CATEGORY,
        pooling_off,
        {"cause": "POOLING_OFF"},
        "group_redemption",
    ),
    Defect(
        "number-malformed",
        codes.INVALID_TRANSACTION_NUMBER,
        malformed_number,
        {"cause": "MALFORMED"},
        "transaction_number",
    ),
    Defect(
        "reference-used",
        codes.EXTERNAL_REFERENCE_REUSED,
        reference_used,
        {},
        "external_reference_number",
        ours=True,
    ),
    Defect(
        "customer-unknown",
        codes.CUSTOMER_NOT_IN_ORGANIZATION,
        in_command(customer=UNKNOWN),
        {"party": "CUSTOMER"},
        "customer_identifier.value",
    ),
    Defect(
        "customer-merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(ANN, merged_into=CID)),
        {"customer_id": "11", "survivor_id": "13"},
    ),
    Defect(
        "campaign-contact",
        codes.CAMPAIGN_USER_NOT_ENROLLED,
        in_world(lambda one: one.change_customer(ANN, campaign_contact=True)),
    ),
    Defect("not-enrolled", codes.CUSTOMER_NOT_ENROLLED, not_enrolled, {"program_id": "1"}),
    Defect(
        "before-enrolment",
        codes.INVALID_REDEMPTION_TIME,
        in_command(redemption_time=ENROLLED_AT - timedelta(microseconds=1)),
        {"cause": "BEFORE_ENROLMENT"},
        "redemption_time",
        excludes=names("too-long-ago"),
    ),
    Defect(
        "too-long-ago",
        codes.INVALID_REDEMPTION_TIME,
        in_command(redemption_time=NOW - timedelta(days=30, microseconds=1)),
        {"cause": "TOO_EARLY"},
        "redemption_time",
    ),
    Defect(
        "fraud",
        codes.CUSTOMER_FRAUD,
        frauds(ANN),
        only=(RedeemPoints, CheckRedemption),
        excludes=names("label-fraud", "label-suspended"),  # the status module is off or on
    ),
    Defect(
        "fraud-asks-for-code",
        codes.CUSTOMER_FRAUD_OPERATION_BLOCKED,
        frauds(ANN),
        only=OTP_ISSUE,
        excludes=names("label-fraud", "label-suspended"),
    ),
    Defect(
        "label-fraud",
        codes.CUSTOMER_STATUS_BLOCKS_REDEMPTION,
        labelled(ANN, StatusLabel.FRAUD_CONFIRMED),
        {"customer_id": "11"},
    ),
    Defect(
        "label-suspended",
        codes.CUSTOMER_STATUS_BLOCKS_REDEMPTION,
        labelled(ANN, StatusLabel.SUSPENDED),
        {"customer_id": "11"},
    ),
    Defect(
        "below-minimum",
        codes.BELOW_REDEMPTION_MINIMUM,
        in_world(lambda one: one.change_redemption_policy(minimum_points=51)),
        {"points": "50", "minimum": "51"},
        "points",
        excludes=names("above-maximum"),  # a policy that has both contradicts itself
    ),
    Defect(
        "above-maximum",
        codes.ABOVE_REDEMPTION_LIMIT,
        in_world(lambda one: one.change_redemption_policy(maximum_points=49)),
        {"points": "50", "maximum": "49"},
        "points",
    ),
    Defect(
        "not-a-multiple",
        codes.POINTS_NOT_MULTIPLE,
        in_world(lambda one: one.change_redemption_policy(multiple=7)),
        {"points": "50", "multiple": "7"},
        "points",
    ),
    Defect(
        "balance-too-low",
        codes.INSUFFICIENT_CURRENT_POINTS,
        in_world(lambda one: one.change_redemption_policy(required_balance=1_000)),
        {"current": "100", "required": "1000"},
    ),
    Defect(
        "lifetime-points-too-low",
        codes.INSUFFICIENT_LIFETIME_POINTS,
        in_world(lambda one: one.change_redemption_policy(required_lifetime_points=1_000)),
        {"lifetime": "100", "required": "1000"},
    ),
    Defect(
        "lifetime-purchases-too-low",
        codes.INSUFFICIENT_LIFETIME_PURCHASES,
        in_world(lambda one: one.change_redemption_policy(required_lifetime_purchases=1)),
        {"purchases": "0", "required": "1"},
    ),
    Defect(
        "too-few-points",
        codes.POINTS_EXCEED_CURRENT,
        has_only(40),
        {"points": "50", "current": "40", "short_by": "10"},
        excludes=names("too-few-in-pool"),
    ),
    Defect(
        "too-few-in-pool",
        codes.POINTS_EXCEED_AVAILABLE,
        too_few_in_pool,
        {"points": "50", "pool": "40", "short_by": "10"},
    ),
    Defect(
        "held",
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        all_held,
        {"points": "50", "redeemable": "0", "promised": "0", "held": "100"},
        excludes=names("promised"),  # each says what Ann has
    ),
    Defect(
        "promised",
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        has_only(70, available_from=TOMORROW),
        {"points": "50", "redeemable": "0", "promised": "70", "held": "0"},
        excludes=names("too-few-points", "too-few-in-pool"),
    ),
    Defect(
        "missed-calls-off",
        codes.MISSED_CALL_DISABLED,
        missed_call("false"),
        {},
        "validation_type",
        only=DEED,
        excludes=names("missed-call-not-found", "proof-twice"),  # missed calls are off or on
    ),
    Defect(
        "missed-call-not-found",
        codes.MISSED_CALL_NOT_FOUND,
        missed_call("true"),
        {"window_s": "300"},
        "validation_type",
        only=DEED,
        excludes=names("proof-twice"),  # there a call came
    ),
    Defect(
        "proof-twice",
        codes.MOBILE_VALIDATION_REQUIRED,
        called_with_code,
        {"cause": "BOTH"},
        "validation_type",
        only=DEED,
        excludes=names("proof-missing"),
    ),
    Defect(
        "proof-missing",
        codes.MOBILE_VALIDATION_REQUIRED,
        in_world(lambda one: one.change_redemption_policy(proof_required=True)),
        {"cause": "MISSING"},
        "validation_code",
        only=DEED,
        excludes=names("too-many-wrong-codes", "code-never-issued"),  # there a code came
    ),
    Defect(
        "proof-missing-in-pool",
        codes.MOBILE_VALIDATION_REQUIRED,
        pool_needs_proof,
        {"cause": "MISSING"},
        "validation_code",
        only=DEED,
        excludes=names("too-few-points", "too-many-wrong-codes", "code-never-issued"),  # pooled it is 803
    ),
    Defect(
        "too-many-wrong-codes",
        codes.OTP_ATTEMPT_LIMIT,
        too_many_wrong,
        {"limit": "15", "used": "15", **WINDOW},
        only=DEED,
        ours=True,
    ),
    Defect(
        "code-never-issued",
        codes.INVALID_VALIDATION_CODE,
        in_command(code="123456"),
        {"otp_state": "NOT_ISSUED", "attempts_left": "0"},
        only=DEED,
    ),
    Defect(
        "too-many-codes",
        codes.OTP_ISSUE_LIMIT,
        counted(OtpAction.REDEMPTION, issues=5),
        {"limit": "5", "used": "5", **WINDOW},
        only=OTP_ISSUE,
        ours=True,
    ),
    Defect(
        "no-channel",
        codes.OTP_NOT_ISSUED,
        in_world(lambda one: one.change_customer(ANN, mobile=None, email=None)),
        {"cause": "NO_CHANNEL"},
        only=OTP_ISSUE,
        ours=True,
    ),
    Defect(
        "no-sender",
        codes.OTP_NOT_ISSUED,
        in_world(lambda one: setattr(one, "channels", frozenset())),
        {"cause": "NO_SENDER"},
        only=OTP_ISSUE,
        ours=True,
    ),
)

CASES = [pytest.param(*case, id=f"{case[0].__name__}-{case[1].name}") for case in cases(DEFECTS, OPERATIONS)]


class TestRefusals:
    """Each cause of refusal by itself, and all of them in order."""

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_accepted(self, operation: type[Any]) -> None:
        """Without a defect the operation is accepted."""
        assert isinstance(spoiled(scene(), (), OPERATIONS[operation]), Accepted)

    @pytest.mark.parametrize(("operation", "defect"), CASES)
    def test_row(self, operation: type[Any], defect: Defect) -> None:
        """A single defect is refused with its code, its numbers and the field to blame."""
        outcome = spoiled(scene(), [defect], OPERATIONS[operation])

        assert isinstance(outcome, Refused)
        assert defect.code is outcome.code
        assert defect.metadata == outcome.metadata
        assert defect.field == outcome.field

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_metadata(self, defect: Defect) -> None:
        """Metadata has the keys that the catalogue lists and no others, and every variable of the message."""
        assert set() == defect.metadata.keys() - set(defect.code.metadata_keys)
        assert set() == set(re.findall(r"{(\w+)}", defect.code.message)) - defect.metadata.keys()

    def test_table_is_the_contract(self) -> None:
        """The table has the codes of the contract in its order, after the pause."""
        assert [number for number in listed(CONTRACT) if number not in WARNINGS] == in_order(DEFECTS)
        assert ["PAUSED"] * 3 == [one.code.reason for one in DEFECTS[:3]]

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_pairs(self, operation: type[Any]) -> None:
        """Of any two defects, the one that the contract lists earlier is refused."""
        for earlier, later in pairs(DEFECTS, operation):
            outcome = spoiled(scene(), [earlier, later], OPERATIONS[operation])

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_suffixes(self, operation: type[Any]) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, operation):
            outcome = spoiled(scene(), together, OPERATIONS[operation])

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"

    def test_consecutive_codes_meet(self) -> None:
        """Any two consecutive codes of the contract are proved on a world that has both, but for alternatives."""
        alternatives = {(809, 820), (820, 3045), (821, 819), (818, 803), (823, 822)}
        met = {
            (one.code.number, other.code.number) for operation in OPERATIONS for one, other in pairs(DEFECTS, operation)
        }
        order = in_order(DEFECTS)
        apart = {pair for pair in pairwise(order) if pair not in met}

        assert apart <= alternatives

    @pytest.mark.parametrize("defect", [one for one in DEFECTS if one.meets(CheckRedemption)], ids=lambda one: one.name)
    def test_check_refuses_alike(self, defect: Defect) -> None:
        """A check refuses what the deed refuses, with the same status."""
        at = scene()
        defect.spoil(at)

        assert at.world.ask(at.command) == at.world.ask(CheckRedemption(at.command))

    @pytest.mark.parametrize("key", [*DEFAULTS, PUBLISHED])
    def test_every_key_must_parse(self, key: str) -> None:
        """888 names whichever key of the organisation, the fraud key of transfers apart, does not parse."""
        at = scene()
        at.world.config[key] = ""

        refused = at.world.refuse(at.command)

        assert codes.ORG_CONFIGURATION_INVALID is refused.code
        assert {"key": key} == refused.metadata

    def test_fraud_key_of_transfers(self) -> None:
        """The fraud key of transfers, set or not, means nothing to redemptions."""
        at = scene()
        at.world.config.clear()
        at.world.change_customer(ANN, fraud_status=FraudStatus.CONFIRMED)

        assert codes.CUSTOMER_FRAUD is at.world.refuse(at.command).code

    def test_exclusions_are_few(self) -> None:
        """Nearly every two defects were put into one world."""
        apart = [one for i, first in enumerate(DEFECTS) for one in DEFECTS[i + 1 :] if excluded(first, one)]

        assert len(apart) < 30


class TestStatuses:
    """Whom a fraud status or a label bars."""

    @pytest.mark.parametrize(
        ("status", "refused"),
        [
            (FraudStatus.NOT_FRAUD, False),
            (FraudStatus.MARKED, True),
            (FraudStatus.CONFIRMED, True),
            (FraudStatus.RECONFIRMED, True),
            (FraudStatus.INTERNAL, False),
        ],
    )
    def test_fraud_statuses(self, status: FraudStatus, refused: bool) -> None:
        """With the status module off, marked, confirmed and reconfirmed frauds are barred."""
        at = scene()
        at.world.change_customer(ANN, fraud_status=status)

        assert refused == isinstance(at.world.decide(at.command), Refused)

    @pytest.mark.parametrize(
        ("label", "refused"),
        [
            (StatusLabel.ACTIVE, False),
            (StatusLabel.SUSPENDED, True),
            (StatusLabel.FRAUD_SUSPECTED, True),
            (StatusLabel.FRAUD_CONFIRMED, True),
            (StatusLabel.INTERNAL_USER, False),
            (StatusLabel.DELETED, True),
            (StatusLabel.PENDING_DELETION, False),
        ],
    )
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_labels(self, label: StatusLabel, refused: bool, operation: type[Any]) -> None:
        """With the module on, labels replace the fraud status, and all that bar answer 3045 to every operation."""
        at = scene()
        labelled(ANN, label)(at)
        at.world.change_customer(ANN, fraud_status=FraudStatus.MARKED)

        outcome = at.world.decide(OPERATIONS[operation](at.command))

        assert (codes.CUSTOMER_STATUS_BLOCKS_REDEMPTION if refused else None) == getattr(outcome, "code", None)

    def test_labels_with_the_module_off(self) -> None:
        """With the module off, no label bars anybody."""
        at = scene()
        at.world.change_customer(ANN, status_label=StatusLabel.DELETED)

        assert STATUS_MODULE not in at.world.config
        assert isinstance(at.world.decide(at.command), Accepted)


class TestLimits:
    """The settings of a redemption policy, just kept and just not."""

    @pytest.mark.parametrize(
        "settings",
        [
            {"minimum_points": 50},
            {"maximum_points": 50},
            {"minimum_points": 50, "maximum_points": 50},
            {"multiple": 50},
            {"multiple": 25},
            {"required_balance": 100},
            {"required_lifetime_points": 100},
            {"required_lifetime_purchases": 700},
        ],
    )
    def test_just_kept(self, settings: dict[str, int]) -> None:
        """What reaches a limit exactly is accepted."""
        at = scene()
        key = (ANN, GOLD)
        at.world.wallets[key] = replace(at.world.wallets[key], lifetime_purchases=700)  # type: ignore[index]
        at.world.change_redemption_policy(**settings)

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_required_balance_asks_for_the_balance(self) -> None:
        """The required balance counts however few points are asked for, promised and held ones included."""
        at = scene()
        at.world.give(3, 10, available_from=TOMORROW)
        at.world.change_redemption_policy(required_balance=110)
        enough = at.world.ask(redeem(1))
        at.world.change_redemption_policy(required_balance=111)

        assert isinstance(enough, Accepted)
        assert {"current": "110", "required": "111"} == at.world.refuse(redeem(1)).metadata

    def test_spent_points_count_for_life(self) -> None:
        """What was redeemed still counts as lifetime points."""
        at = scene()
        at.world.change_redemption_policy(required_lifetime_points=100)
        at.world.accept(redeem(90))

        assert isinstance(at.world.decide(redeem(10)), Accepted)

    def test_received_points(self) -> None:
        """Received points count as lifetime points only if the policy includes them."""
        at = scene()
        key = (ANN, GOLD)
        at.world.wallets[key] = replace(at.world.wallets[key], lifetime_received=5)  # type: ignore[index]
        at.world.change_redemption_policy(required_lifetime_points=105)
        without = at.world.ask(at.command)
        at.world.change_redemption_policy(lifetime_includes_received=True)

        assert ("INSUFFICIENT_LIFETIME_POINTS", None, None) == told(without)
        assert isinstance(at.world.decide(at.command), Accepted)

    @pytest.mark.parametrize(
        ("at_time", "accepted"),
        [
            (NOW, True),
            (NOW - timedelta(days=30), True),
            (NOW - timedelta(days=30, microseconds=1), False),
        ],
    )
    def test_redemption_time(self, at_time: datetime, accepted: bool) -> None:
        """A redemption time may lie back as far as the policy allows."""
        at = scene()

        outcome = at.world.decide(replace(at.command, redemption_time=at_time))

        assert accepted == isinstance(outcome, Accepted)

    @pytest.mark.parametrize(("before", "accepted"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
    def test_redemption_time_and_enrolment(self, before: timedelta, accepted: bool) -> None:
        """A redemption time may be the instant of enrolment, and none before it."""
        at = scene()
        at.world.change_redemption_policy(redemption_time_days=365)

        outcome = at.world.decide(replace(at.command, redemption_time=ENROLLED_AT - before))

        assert accepted == isinstance(outcome, Accepted)

    def test_redemption_time_is_recorded_only(self) -> None:
        """The redemption time is recorded; the redemption itself happens now."""
        at = scene()
        yesterday = NOW - timedelta(days=1)

        result = at.world.accept(replace(at.command, redemption_time=yesterday))

        made = at.world.redemptions[result.redemption_id]
        assert (NOW, NOW, yesterday) == (result.redeemed_at, made.redeemed_at, made.redemption_time)


class TestDeed:
    """What an accepted redemption does."""

    def test_spending_order(self) -> None:
        """Points are drawn by expiry, then award, then id; points that never expire go last."""
        world = metals()
        early, late = NOW + timedelta(days=5), NOW + timedelta(days=6)
        world.give(1, 10)
        world.give(2, 10, expires_at=late)
        world.give(3, 10, expires_at=early, awarded_at=NOW - timedelta(days=1))
        world.give(4, 10, expires_at=early, awarded_at=NOW - timedelta(days=2))
        world.give(6, 10, expires_at=late, awarded_at=NOW - timedelta(days=10))
        world.give(5, 10, expires_at=late, awarded_at=NOW - timedelta(days=10))

        result = world.accept(redeem(55))

        assert [(4, 10), (3, 10), (2, 10), (5, 10), (6, 10), (1, 5)] == [
            (one.lot_id, one.points) for one in result.lots
        ]
        assert {1: 5} == world.remaining(ANN)

    def test_answer(self) -> None:
        """The answer says what was taken from where, what it is worth, and how the wallet stands."""
        world = metals()
        world.change_redemption_policy(point_value=PointValue(25, 1, "INR"))
        soon = NOW + timedelta(days=10)
        world.give(1, 60, earning_program_id=BRONZE, expires_at=soon)
        world.give(2, 40)

        outcome = world.decide(redeem(75, program_id=0, external_reference="R-1", transaction_number="B/1"))

        assert (
            Accepted(
                RedemptionResult(
                    redemption_id=outcome.result.redemption_id,  # type: ignore[union-attr]
                    transaction_id=FIRST_ID + 1,
                    customer_id=ANN,
                    points=75,
                    value=MoneyValue("INR", 1_875),
                    redeemed_at=NOW,
                    shares=(ProgramShare(BRONZE, 60, 0), ProgramShare(GOLD, 15, 25)),
                    lots=(LotShare(1, BRONZE, 60, soon), LotShare(2, GOLD, 15, None)),
                    lots_omitted=0,
                    balances=(world.balance(ANN),),
                ),
                (),
                FIRST_ID + 1,
            )
            == outcome
        )

    def test_record(self) -> None:
        """The redemption is kept with its keys and with what it took from each lot."""
        world = metals()
        world.give(1, 60, expires_at=NOW + timedelta(days=10))
        world.give(2, 40)

        result = world.accept(redeem(75, external_reference="R-1", transaction_number="B/1"))

        assert {
            result.redemption_id: Redemption(
                redemption_id=result.redemption_id,
                transaction_id=result.transaction_id,
                customer_id=ANN,
                program_id=GOLD,
                points=75,
                reversed=0,
                redeemed_at=NOW,
                redemption_time=None,
                transaction_number="B/1",
                external_reference="R-1",
                last_reversed_at=None,
                lots=(RedeemedLot(1, ANN, GOLD, 60, 0), RedeemedLot(2, ANN, GOLD, 15, 0)),
            )
        } == world.redemptions

    def test_journal(self) -> None:
        """Points go from the wallet's lots to "redeemed"; the booking names who asked, why, under which policy."""
        world = metals()
        world.give(1, 60, expires_at=NOW + timedelta(days=10))
        world.give(2, 40)

        world.accept(redeem(75, notes="a cup", transaction_number="B/1"))

        [entry] = world.journal
        assert (Kind.REDEMPTION, ANN, None, GOLD, 75) == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
        )
        assert ("request-1", "till-1", "a cup", 3, "B/1") == (
            entry.request_id,
            entry.actor,
            entry.notes,
            entry.policy_revision,
            entry.transaction_number,
        )
        assert (
            Posting(Account.WALLET, ANN, GOLD, 1, -60, wallet_version=3, balance_after=40),
            Posting(Account.WALLET, ANN, GOLD, 2, -15, wallet_version=3, balance_after=25),
            Posting(Account.REDEEMED, 0, GOLD, 0, 75, 0, 0),
        ) == entry.postings

    def test_lifetime(self) -> None:
        """Nothing lowers lifetime figures."""
        world = metals()
        world.give(1, 100)

        world.accept(redeem(100))

        assert 100 == world.wallet(ANN).lifetime_earned

    @pytest.mark.parametrize(
        ("category", "taken"),
        [("", {1: 10, 3: 10, 4: 5}), ("Gift", {3: 10, 5: 15}), ("Main", {1: 10, 4: 15})],
    )
    def test_categories(self, category: str, taken: dict[int, int]) -> None:
        """Without a category every redeemable one is drawn, with one only that one; others are left alone."""
        at = scene()
        at.world.take_all()
        for lot_id, name, days in ((1, "Main", 1), (2, "Frozen", 2), (3, "Gift", 3), (4, "Main", 4), (5, "Gift", 5)):
            points = 10 if days < 4 else 20
            at.world.give(lot_id, points, category=name, expires_at=NOW + timedelta(days=days))

        result = at.world.accept(redeem(25, category=category))

        assert taken == {one.lot_id: one.points for one in result.lots}

    def test_points_of_other_categories_do_not_count(self) -> None:
        """818 counts the points of the categories that could be drawn."""
        at = scene()
        at.world.take_all()
        at.world.give(1, 30, category="Frozen")
        at.world.give(2, 20, category="Gift")
        at.world.give(3, 10)

        short = {category: at.world.refuse(redeem(31, category=category)).metadata for category in ("", "Gift", "Main")}

        assert {
            "": {"points": "31", "current": "30", "short_by": "1"},
            "Gift": {"points": "31", "current": "20", "short_by": "11"},
            "Main": {"points": "31", "current": "10", "short_by": "21"},
        } == short

    def test_promised_and_held_are_skipped(self) -> None:
        """Promised lots and held shares are left alone."""
        world = metals()
        world.give(1, 50, available_from=TOMORROW, expires_at=NOW + timedelta(days=2))
        world.give(2, 50, held=20, expires_at=NOW + timedelta(days=3))
        world.give(3, 50)

        result = world.accept(redeem(70))

        assert {1: 50, 2: 20, 3: 10} == world.remaining(ANN)
        assert [(2, 30), (3, 40)] == [(one.lot_id, one.points) for one in result.lots]

    def test_barred_sources_can_be_redeemed(self) -> None:
        """What may not be transferred may be redeemed."""
        world = metals()
        world.give(1, 50)
        world.change_transfer_policy(barred_sources=(1, 2, 3, 4, 5))

        result = world.accept(redeem(20))

        [balance] = result.balances
        assert (30, 30, 0) == (balance.current, balance.redeemable, balance.transferable)

    def test_last_instant_of_validity(self) -> None:
        """Points can be redeemed through the instant of their expiry, and are gone right after it."""
        world = metals()
        world.give(1, 50, expires_at=NOW)
        last = world.ask(redeem(50))
        world.pass_time(microseconds=1)

        assert isinstance(last, Accepted)
        assert {"points": "50", "current": "0", "short_by": "50"} == world.refuse(redeem(50)).metadata

    def test_many_lots(self) -> None:
        """An answer shows the first hundred lots and counts the rest."""
        world = metals()
        for number in range(1, 151):
            world.give(number, 1)

        result = world.accept(redeem(140))

        assert [*range(1, 101)] == [one.lot_id for one in result.lots]
        assert 40 == result.lots_omitted
        assert (ProgramShare(GOLD, 140, 10),) == result.shares
        assert 140 == len(world.redemptions[result.redemption_id].lots)


class TestValue:
    """What points are worth."""

    @pytest.mark.parametrize(
        ("points", "numerator", "denominator", "decimal_places", "minor_units"),
        [
            (50, 25, 1, 0, 1_250),
            (1, 1, 2, 0, 1),  # 0.5, half up
            (1, 49, 100, 0, 0),
            (3, 1, 2, 0, 2),  # 1.5, half up and not to even
            (5, 1, 2, 0, 3),  # 2.5
            (1, 1, 3, 0, 0),
            (2, 1, 3, 0, 1),
            (150, 100, 1, 2, 150),  # 1.50 points
            (149, 1, 1, 2, 1),  # 1.49
            (150, 1, 1, 2, 2),  # 1.5
            (1, 500, 1, 3, 1),  # 0.001 points: 0.5
            (1, 499, 1, 3, 0),
            (10**12, 9 * 10**6, 1, 0, 9 * 10**18),
            (1, 2**63 - 1, 1, 0, 2**63 - 1),
        ],
    )
    def test_half_up(
        self, points: int, numerator: int, denominator: int, decimal_places: int, minor_units: int
    ) -> None:
        """The value is whole points times ratio in minor units, half up, however large."""
        world = metals()
        world.change_program(decimal_places=decimal_places)
        world.change_redemption_policy(point_value=PointValue(numerator, denominator, "EUR"))
        world.give(1, points)

        assert MoneyValue("EUR", minor_units) == world.accept(redeem(points)).value

    @pytest.mark.parametrize(("points", "numerator"), [(1, 2**63), (10**12, 10**9)])
    def test_beyond_64_bits(self, points: int, numerator: int) -> None:
        """A value that no answer can hold is a fault of the policy (899)."""
        world = metals()
        world.change_redemption_policy(point_value=PointValue(numerator, 1, "EUR"))
        world.give(1, points)

        refused = world.refuse(redeem(points))

        assert codes.PROGRAM_CONFIGURATION_INVALID is refused.code
        assert {"fields": "redemption.point_value"} == refused.metadata
        assert refused == world.refuse(CheckRedemption(redeem(points)))

    def test_no_ratio(self) -> None:
        """Without a ratio the value is unset, with a warning."""
        at = scene()
        at.world.change_redemption_policy(point_value=None)

        outcome = at.world.decide(at.command)

        assert isinstance(outcome, Accepted)
        assert outcome.result.value is None  # type: ignore[union-attr]
        assert [codes.CURRENCY_RATIO_UNAVAILABLE] == [one.code for one in outcome.warnings]


class TestKeys:
    """The caller's own numbers."""

    @pytest.mark.parametrize(
        ("number", "kept"),
        [
            ("B-1", "B-1"),
            ("Az09._/#-", "Az09._/#-"),
            ("x" * 64, "x" * 64),
            ("x" * 65, None),
            ("two words", None),
            ("1€", None),
            ("١٢", None),
            ("B-1\n", None),
        ],
    )
    @pytest.mark.parametrize("strict", [False, True])
    def test_transaction_number(self, number: str, kept: str | None, strict: bool) -> None:
        """A well-formed number is kept; a malformed one is refused or, by a lenient policy, ignored with a warning."""
        at = scene()
        at.world.change_redemption_policy(transaction_number_strict=strict)

        outcome = at.world.decide(replace(at.command, transaction_number=number))

        if kept is None and strict:
            assert ("INVALID_TRANSACTION_NUMBER", "MALFORMED", None) == told(outcome)
            return
        assert isinstance(outcome, Accepted)
        assert [kept] == [one.transaction_number for one in at.world.redemptions.values()]
        warned = [] if kept else [(codes.TRANSACTION_NUMBER_IGNORED, "transaction_number")]
        assert warned == [(one.code, one.field) for one in outcome.warnings]

    def test_external_reference_is_unique(self) -> None:
        """A second redemption with the same reference is refused, in one batch as in two."""
        at = scene()
        wanted = redeem(10, external_reference="R-1")

        first, second = at.world.decide_batch([wanted, wanted])

        assert isinstance(first, Accepted)
        assert ("EXTERNAL_REFERENCE_REUSED", None, None) == told(second)
        assert ("EXTERNAL_REFERENCE_REUSED", None, None) == told(at.world.decide(wanted))


class TestMissedCalls:
    """Proof by missed call."""

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            (None, codes.MISSED_CALL_DISABLED),
            ("false", codes.MISSED_CALL_DISABLED),
            ("true", codes.MISSED_CALL_NOT_FOUND),
        ],
    )
    def test_key(self, text: str | None, code: codes.Code) -> None:
        """Missed calls prove nothing unless the organisation switched them on."""
        at = scene()
        if text:
            at.world.config[MISSED_CALLS_ALLOWED] = text

        assert code is at.world.refuse(replace(at.command, missed_call=True)).code


class TestPooled:
    """Redemptions across the programs of a group."""

    def test_draws_over_all_programs(self) -> None:
        """Points are drawn in one spending order over the group; each program books its own."""
        world = self.pooled()

        result = world.accept(redeem(80, program_id=SILVER, pooled=True))

        assert [(2, 30), (3, 10), (1, 40)] == [(one.lot_id, one.points) for one in result.lots]
        assert (ProgramShare(SILVER, 40, 0), ProgramShare(GOLD, 40, 20)) == result.shares
        assert (world.balance(ANN, SILVER), world.balance(ANN)) == result.balances
        assert [
            (Account.WALLET, ANN, SILVER, -30),
            (Account.WALLET, ANN, SILVER, -10),
            (Account.WALLET, ANN, GOLD, -40),
            (Account.REDEEMED, 0, SILVER, 40),
            (Account.REDEEMED, 0, GOLD, 40),
        ] == world.postings(world.journal[0])

    def test_what_is_left_is_counted_everywhere(self) -> None:
        """What is left of points earned in a program counts in every wallet, whichever was drawn on."""
        world = self.pooled()
        world.give(4, 500, program_id=SILVER, earning_program_id=GOLD)

        pooled = world.accept(redeem(50, pooled=True))
        alone = world.accept(redeem(20))

        assert (ProgramShare(SILVER, 40, 0), ProgramShare(GOLD, 10, 550)) == pooled.shares
        assert (ProgramShare(GOLD, 20, 530),) == alone.shares

    def test_ended_programs_stay_in_the_pool(self) -> None:
        """Points of a program that was ended are drawn with the others; naming it is refused."""
        world = self.pooled()
        world.change_program(SILVER, active=False)
        result = world.accept(redeem(80, pooled=True))

        assert (ProgramShare(SILVER, 40, 0), ProgramShare(GOLD, 40, 20)) == result.shares
        assert codes.PROGRAM_NOT_CONFIGURED is world.refuse(redeem(8, program_id=SILVER, pooled=True)).code

    def test_thresholds_count_the_group(self) -> None:
        """Required balance and lifetime figures are those of the whole group."""
        world = self.pooled()
        world.change_redemption_policy(required_balance=100, required_lifetime_points=100)
        alone = world.ask(redeem(10))

        assert ("INSUFFICIENT_CURRENT_POINTS", None, None) == told(alone)
        assert isinstance(world.decide(redeem(10, pooled=True)), Accepted)

    def test_enrolled_in_one_program(self) -> None:
        """It is enough to be enrolled in one program of the group, even if another is named."""
        world = self.pooled()
        world.leave(ANN, SILVER)

        world.accept(redeem(60, program_id=SILVER, pooled=True))

        assert {} == world.remaining(ANN)
        assert {2: 30, 3: 10} == world.remaining(ANN, SILVER)

    def test_named_program_judges(self) -> None:
        """The policy of the program named judges."""
        world = self.pooled()
        world.change_redemption_policy(SILVER, minimum_points=81)

        assert ("BELOW_REDEMPTION_MINIMUM", None, None) == told(
            world.decide(redeem(80, program_id=SILVER, pooled=True))
        )
        assert isinstance(world.decide(redeem(80, pooled=True)), Accepted)

    @pytest.mark.parametrize("demands", [GOLD, SILVER])
    @pytest.mark.parametrize("named", [GOLD, SILVER])
    @pytest.mark.parametrize("pooled", [False, True])
    def test_proof(self, demands: int, named: int, *, pooled: bool) -> None:
        """A proof is due if the program named demands one, or any that may be drawn on; the check says so."""
        world = self.pooled()
        world.change_redemption_policy(demands, proof_required=True)
        wanted = redeem(10, program_id=named, pooled=pooled)

        due = pooled or named == demands

        assert due == world.accept(CheckRedemption(wanted)).proof_required
        told_of = [world.ask(one) for one in (wanted, AuthorizeRedemption(wanted, 900))]
        missing = ("MOBILE_VALIDATION_REQUIRED", "MISSING", None)
        assert [missing if due else None] * 2 == [told(one) if isinstance(one, Refused) else None for one in told_of]

    def test_proof_of_a_program_that_was_left(self) -> None:
        """A program of the group that cannot be drawn on demands nothing, unless it is named."""
        world = self.pooled()
        world.change_redemption_policy(SILVER, proof_required=True)
        world.leave(ANN, SILVER)

        assert isinstance(world.ask(redeem(10, pooled=True)), Accepted)
        assert codes.MOBILE_VALIDATION_REQUIRED is world.refuse(redeem(10, program_id=SILVER, pooled=True)).code

    def pooled(self) -> World:
        """Ann has 60 in gold and, spent before, 30 and 10 in silver."""
        world = metals()
        world.give(1, 60, expires_at=NOW + timedelta(days=2))
        world.give(2, 30, program_id=SILVER, expires_at=NOW + timedelta(days=1))
        world.give(3, 10, program_id=SILVER, expires_at=NOW + timedelta(days=2), awarded_at=NOW - timedelta(days=11))
        return world


class TestCheck:
    """A check is the deed's decision without the proof."""

    @pytest.mark.parametrize("pooled", [False, True])
    def test_same_plan(self, pooled: bool) -> None:
        """A check shows what the redemption then takes, its value, and the wallets as it then leaves them."""
        world = metals()
        world.change_redemption_policy(point_value=PointValue(25, 1, "INR"))
        world.give(1, 60, expires_at=NOW + timedelta(days=2), earning_program_id=BRONZE)
        world.give(2, 50)
        world.give(3, 50, program_id=SILVER)
        wanted = redeem(90, pooled=pooled)

        checked = world.ask(CheckRedemption(wanted))
        done = world.accept(wanted)

        plan = CheckRedemptionResult(90, done.value, done.shares, done.lots, 0, done.balances, None, False)
        assert Accepted(plan) == checked

    def test_same_warnings(self) -> None:
        """A check warns of what the redemption then warns of."""
        at = scene()
        at.world.change_redemption_policy(point_value=None)
        wanted = replace(at.command, transaction_number="no bill")

        checked, done = at.world.ask(CheckRedemption(wanted)), at.world.decide(wanted)

        warned = [one.code for one in done.warnings]
        assert [codes.CURRENCY_RATIO_UNAVAILABLE, codes.TRANSACTION_NUMBER_IGNORED] == warned
        assert done.warnings == checked.warnings

    def test_leaves_nothing(self) -> None:
        """A check without a code leaves no event."""
        at = scene()

        at.world.accept(CheckRedemption(at.command))

        assert [] == at.world.changes.events

    def test_needs_no_proof(self) -> None:
        """A check passes without the proof that the redemption will need, and says so."""
        at = scene()
        at.world.change_redemption_policy(proof_required=True)

        assert at.world.accept(CheckRedemption(at.command)).proof_required

    def test_issues_a_code(self) -> None:
        """With `issue_otp` a code is sent."""
        at = scene()

        result = at.world.accept(CheckRedemption(at.command, issue_otp=True))

        assert result.challenge is not None
        assert 1 == len(at.world.outbox)

    @pytest.mark.parametrize(
        ("name", "cause"),
        [("too-many-codes", "ISSUE_LIMIT"), ("no-channel", "NO_CHANNEL"), ("no-sender", "NO_SENDER")],
    )
    def test_code_that_cannot_be_sent(self, name: str, cause: str) -> None:
        """A code that cannot be issued is a warning of the check, which leaves nothing."""
        at = scene()
        next(one for one in DEFECTS if one.name == name).spoil(at)

        outcome = at.world.decide(CheckRedemption(at.command, issue_otp=True))

        assert isinstance(outcome, Accepted)
        assert [(codes.REDEEMABLE_BUT_OTP_NOT_ISSUED, {"cause": cause})] == [
            (one.code, one.metadata) for one in outcome.warnings
        ]
        assert [] == at.world.changes.events

    def test_other_customer(self) -> None:
        """A check of somebody without points is refused with the numbers."""
        at = scene()

        refused = at.world.refuse(CheckRedemption(replace(at.command, customer=by_id(BEN))))

        assert {"points": "50", "current": "0", "short_by": "50"} == refused.metadata
