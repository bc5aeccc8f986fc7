"""Transfers: the order of the rules, one row for each cause of refusal, and what an accepted transfer does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
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
from points_grpc.domain.commands import CheckTransfer, Command, IssueTransferOtp, TransferPoints
from points_grpc.domain.configuration import (
    DEFAULTS,
    FRAUD_CHECK,
    MISSED_CALLS_ALLOWED,
    POOLING_ALLOWED,
    PUBLISHED,
    TRANSFERS_ALLOWED,
)
from points_grpc.domain.model import (
    Account,
    FraudStatus,
    Identifier,
    IdentifierType,
    JournalEntry,
    Kind,
    OtpAction,
    Posting,
    Source,
    StatusLabel,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, CheckTransferResult, ProgramShare, Refused, TransferResult
from points_grpc.domain.policy import Category, Direction, OtpRequirement, PointValue, VelocityLimit, Window
from worlds import ANN, BEN, BRONZE, CID, FIRST_ID, GOLD, NOW, SILVER, UNKNOWN, World, by_id, metals, transfer

CONTRACT = (
    "program (885, 899, 888, 818, 3316) → parties (8015, 419, 418) → enrolment (901) → fraud (412, 413, 414/415/417) → "
    "lock (904) → amount (807, 827) → duplicate window (902) → velocity (903) → balance (817, 416) → code (808)"
)
"""The contract's "Order of rules" for transfers, to the letter, from the program on; the shape is judged before."""

OPERATIONS: dict[type[Any], Callable[[TransferPoints], Command]] = {
    TransferPoints: lambda command: command,
    CheckTransfer: CheckTransfer,
    IssueTransferOtp: IssueTransferOtp,
}
DEED = (TransferPoints,)
OTP_ISSUE = (IssueTransferOtp,)


# -- the table -------------------------------------------------------------------------------------------------------


def scene() -> Scene:
    """Ann has 60 points that expire in ten days and 40 that never do, and gives 50 to Ben: accepted."""
    world = metals()
    world.give(1, 60, expires_at=NOW + timedelta(days=10))
    world.give(2, 40)
    return Scene(world, transfer(50))


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


def unmet(**given: int) -> Spoil:
    """Ties transfers to a condition of redemption that nobody meets."""

    def spoil(at: Scene) -> None:
        at.world.change_transfer_policy(redemption_conditions=True)
        at.world.change_redemption_policy(**given)

    return spoil


def made_before(at: Scene) -> None:
    """The same transfer was made ten seconds ago, and the policy minds."""
    at.world.change_transfer_policy(duplicate_window_s=60)
    at.world.journal.append(an_equal_transfer(NOW - timedelta(seconds=10)))


def an_equal_transfer(made_at: datetime) -> JournalEntry:
    """The journal entry of a transfer of 50 from Ann to Ben in gold."""
    return JournalEntry(
        transaction_id=7,
        kind=Kind.TRANSFER,
        created_at=made_at,
        customer_id=ANN,
        counterparty_id=BEN,
        program_id=GOLD,
        points=50,
        request_id="request-0",
        actor="till-1",
        notes="",
        policy_revision=3,
        postings=(),
    )


def limited(limit: VelocityLimit) -> Spoil:
    """Adds a velocity limit."""

    def spoil(at: Scene) -> None:
        limits = at.world.programs[GOLD].policy.transfer.velocity_limits
        at.world.change_transfer_policy(velocity_limits=(*limits, limit))

    return spoil


TOMORROW = NOW + timedelta(days=1)
ANN_BY_EXTERNAL_ID = Identifier(IdentifierType.EXTERNAL_ID, f"X-{ANN}")
NO_PROGRAM = names("program-unknown", "program-negative", "program-missing")
OUT_TODAY = {"window": "TODAY", "direction": "OUT", "resets_at": "2026-03-16T00:00:00+00:00"}
IN_7_DAYS = {"window": "LAST_7_DAYS", "direction": "IN", "resets_at": "2026-03-22T00:00:00+00:00"}

DEFECTS = (
    Defect(
        "org-paused",
        codes.TRANSFER_UNAVAILABLE,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
        ours=True,
    ),
    Defect(
        "program-paused",
        codes.TRANSFER_UNAVAILABLE,
        in_world(lambda one: one.change_program(paused=True)),
        {"cause": "PROGRAM_PAUSED"},
        excludes=NO_PROGRAM,  # what is not there is not paused
        ours=True,
    ),
    Defect(
        "pool-paused",
        codes.TRANSFER_UNAVAILABLE,
        pool_paused,
        {"cause": "PROGRAM_PAUSED"},
        excludes=NO_PROGRAM | names("no-group"),
        ours=True,
    ),
    Defect(
        "program-unknown",
        codes.TRANSFER_INVALID_PROGRAM_ID,
        in_command(program_id=77),
        {"program_id": "77"},
        "program_id",
    ),
    Defect(
        "program-negative",
        codes.TRANSFER_INVALID_PROGRAM_ID,
        in_command(program_id=-1),
        {"program_id": "-1"},
        "program_id",
    ),
    Defect(
        "program-missing",
        codes.TRANSFER_INVALID_PROGRAM_ID,
        program_missing,
        {"program_id": "0"},
        "program_id",
    ),
    Defect(
        "program-inactive",
        codes.TRANSFER_INVALID_PROGRAM_ID,
        in_world(lambda one: one.change_program(active=False)),
        {"program_id": "1"},
        "program_id",
    ),
    Defect(
        "policy-contradicts-itself",
        codes.TRANSFER_PROGRAM_MISCONFIGURED,
        in_world(lambda one: one.change_redemption_policy(minimum_points=10, maximum_points=5)),
        {"fields": "redemption.minimum_points,redemption.maximum_points"},
    ),
    Defect(
        "key-does-not-parse",
        codes.TRANSFER_CONFIGURATION_INVALID,
        in_config(MISSED_CALLS_ALLOWED, "maybe"),
        {"key": MISSED_CALLS_ALLOWED},
    ),
    Defect(
        "off-for-org",
        codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM,
        in_config(TRANSFERS_ALLOWED, "false"),
        {"cause": "ORGANISATION"},
    ),
    Defect(
        "off-for-program",
        codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM,
        in_world(lambda one: one.change_transfer_policy(enabled=False)),
        {"cause": "PROGRAM"},
    ),
    Defect(
        "no-group",
        codes.GROUP_TRANSFER_FOR_NON_GROUP,
        pooled_without_group,
        {"cause": "NO_GROUP"},
        "group_program_transfer",
    ),
    Defect(
        "pooling-off",
        codes.GROUP_TRANSFER_FOR_NON_GROUP,
        pooling_off,
        {"cause": "POOLING_OFF"},
        "group_program_transfer",
    ),
    Defect(
        "source-unknown",
        codes.TRANSFER_CUSTOMER_NOT_FOUND,
        in_command(source=UNKNOWN),
        {"party": "SOURCE"},
        "from_customer_identifier.value",
    ),
    Defect(
        "destination-unknown",
        codes.TRANSFER_CUSTOMER_NOT_FOUND,
        in_command(destination=UNKNOWN),
        {"party": "DESTINATION"},
        "to_customer_identifier.value",
        excludes=names("same-customer"),  # Ann is known
    ),
    Defect(
        "source-merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(ANN, merged_into=CID)),
        {"customer_id": "11", "survivor_id": "13"},
    ),
    Defect(
        "destination-merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(BEN, merged_into=CID)),
        {"customer_id": "12", "survivor_id": "13"},
        excludes=names("same-customer"),  # then it is the source that was merged
    ),
    Defect(
        "same-customer",
        codes.SAME_CUSTOMER,
        in_command(destination=ANN_BY_EXTERNAL_ID),
        {},
        "to_customer_identifier",
    ),
    Defect(
        "source-not-enrolled",
        codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE,
        in_world(lambda one: one.leave(ANN)),
        {"party": "SOURCE", "cause": "NOT_ENROLLED"},
    ),
    Defect(
        "destination-not-enrolled",
        codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE,
        in_world(lambda one: one.leave(BEN)),
        {"party": "DESTINATION", "cause": "NOT_ENROLLED"},
    ),
    Defect(
        "source-suspended",
        codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE,
        labelled(ANN, StatusLabel.SUSPENDED),
        {"party": "SOURCE", "cause": "STATUS_LABEL"},
    ),
    Defect(
        "destination-deleted",
        codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE,
        labelled(BEN, StatusLabel.DELETED),
        {"party": "DESTINATION", "cause": "STATUS_LABEL"},
    ),
    Defect(
        "fraud-key-unset",
        codes.FRAUD_CHECK_CONFIG_INVALID,
        in_world(lambda one: one.config.pop(FRAUD_CHECK)),
        {"key": FRAUD_CHECK, "value": "UNSET"},
        excludes=names("fraud-key-invalid"),
    ),
    Defect(
        "fraud-key-invalid",
        codes.FRAUD_CHECK_CONFIG_INVALID,
        in_config(FRAUD_CHECK, "on"),
        {"key": FRAUD_CHECK, "value": "INVALID"},
    ),
    Defect(
        "config-unreadable",
        codes.FRAUD_CHECK_CONFIG_UNAVAILABLE,
        in_world(lambda one: setattr(one, "config_available", False)),
        {"key": FRAUD_CHECK},
        # What cannot be read cannot be judged.
        excludes=names(
            "key-does-not-parse",
            "off-for-org",
            "pooling-off",
            "source-suspended",
            "destination-deleted",
            "fraud-key-unset",
            "fraud-key-invalid",
        ),
    ),
    Defect("destination-fraud", codes.DESTINATION_CUSTOMER_FRAUD, frauds(BEN)),
    Defect("source-fraud", codes.SOURCE_CUSTOMER_FRAUD, frauds(ANN), excludes=names("destination-fraud")),
    Defect(
        "both-frauds",
        codes.FRAUD_CUSTOMER_EXISTS,
        frauds(ANN, BEN),
        excludes=names("destination-fraud", "source-fraud"),  # one, the other or both
    ),
    Defect(
        "locked-by-operator",
        codes.TRANSFER_LOCKED,
        in_world(lambda one: one.change_customer(ANN, transfers_locked_until=TOMORROW)),
        {"locked_until": "2026-03-16T12:00:00+00:00", "cause": "OPERATOR"},
    ),
    Defect(
        "locked-by-wrong-codes",
        codes.TRANSFER_LOCKED,
        counted(OtpAction.TRANSFER, wrong_attempts=15),
        {"locked_until": "2026-03-15T12:14:00+00:00", "cause": "WRONG_CODES"},
    ),
    Defect(
        "fraction-of-a-point",
        codes.TRANSFER_POINTS_NOT_DIVISIBLE,
        in_world(lambda one: one.change_program(decimal_places=3)),
        {"points": "50", "multiple": "1000"},
    ),
    Defect(
        "not-a-multiple",
        codes.TRANSFER_POINTS_NOT_DIVISIBLE,
        in_world(lambda one: one.change_transfer_policy(multiple=7)),
        {"points": "50", "multiple": "7"},
    ),
    Defect(
        "balance-too-low",
        codes.TRANSFER_CONDITIONS_NOT_MET,
        unmet(required_balance=1_000),
        {"cause": "REQUIRED_BALANCE", "actual": "100", "required": "1000"},
    ),
    Defect(
        "lifetime-points-too-low",
        codes.TRANSFER_CONDITIONS_NOT_MET,
        unmet(required_lifetime_points=1_000),
        {"cause": "REQUIRED_LIFETIME_POINTS", "actual": "100", "required": "1000"},
    ),
    Defect(
        "lifetime-purchases-too-low",
        codes.TRANSFER_CONDITIONS_NOT_MET,
        unmet(required_lifetime_purchases=1),
        {"cause": "REQUIRED_LIFETIME_PURCHASES", "actual": "0", "required": "1"},
    ),
    Defect("made-before", codes.TRANSFER_DUPLICATE_REQUEST, made_before, {"cause": "DUPLICATE_WINDOW"}),
    Defect(
        "too-many-points-out",
        codes.TRANSFER_LIMIT_EXCEEDED,
        limited(VelocityLimit(Direction.OUT, Window.TODAY, points_max=49)),
        {"limit": "49", "used": "0", "window": "TODAY", "direction": "OUT"},
    ),
    Defect(
        "too-many-points-in",
        codes.TRANSFER_LIMIT_EXCEEDED,
        limited(VelocityLimit(Direction.IN, Window.LAST_7_DAYS, points_max=49)),
        {"limit": "49", "used": "0", "window": "LAST_7_DAYS", "direction": "IN"},
    ),
    Defect(
        "too-few-points",
        codes.TRANSFER_INSUFFICIENT_POINTS,
        has_only(40),
        {"points": "50", "current": "40", "short_by": "10"},
    ),
    Defect(
        "barred",
        codes.POINTS_NOT_TRANSFERABLE,
        in_world(lambda one: one.change_transfer_policy(barred_sources=tuple(Source))),
        {"points": "50", "transferable": "0", "barred": "100", "promised": "0", "held": "0"},
    ),
    Defect(
        "promised",
        codes.POINTS_NOT_TRANSFERABLE,
        has_only(70, available_from=TOMORROW),
        {"points": "50", "transferable": "0", "barred": "0", "promised": "70", "held": "0"},
        excludes=names("too-few-points", "held"),  # each says what Ann has
    ),
    Defect(
        "held",
        codes.POINTS_NOT_TRANSFERABLE,
        has_only(70, held=21),
        {"points": "50", "transferable": "49", "barred": "0", "promised": "0", "held": "21"},
        excludes=names("too-few-points"),
    ),
    Defect(
        "code-never-issued",
        codes.INVALID_VALIDATION_CODE,
        in_command(code="123456"),
        {"otp_state": "NOT_ISSUED", "attempts_left": "0"},
        only=DEED,
        excludes=names("code-missing"),
    ),
    Defect(
        "code-missing",
        codes.INVALID_VALIDATION_CODE,
        in_world(lambda one: one.change_otp_policy(transfer=OtpRequirement.REQUIRED)),
        {"otp_state": "MISSING", "attempts_left": "0"},
        only=DEED,
    ),
    Defect(
        "too-many-codes",
        codes.OTP_ISSUE_LIMIT,
        counted(OtpAction.TRANSFER, issues=5),
        {"limit": "5", "used": "5", "resets_at": "2026-03-15T12:14:00+00:00"},
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
        assert listed(CONTRACT) == in_order(DEFECTS)
        assert ["TRANSFER_UNAVAILABLE"] * 3 == [one.code.reason for one in DEFECTS[:3]]

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
        alternatives = {(412, 413), (413, 414), (414, 415), (415, 417)}
        met = {(one.code.number, other.code.number) for one, other in pairs(DEFECTS, TransferPoints)}
        order = listed(CONTRACT)
        apart = {pair for pair in pairwise(order) if pair not in met}

        assert apart <= alternatives

    @pytest.mark.parametrize("defect", [one for one in DEFECTS if not one.only], ids=lambda one: one.name)
    def test_check_refuses_alike(self, defect: Defect) -> None:
        """A check refuses what the deed refuses, with the same status."""
        at = scene()
        defect.spoil(at)

        assert at.world.ask(at.command) == at.world.ask(CheckTransfer(at.command))

    @pytest.mark.parametrize("key", [*DEFAULTS, PUBLISHED])
    def test_every_key_must_parse(self, key: str) -> None:
        """888 names whichever key of the organisation, the fraud key apart, does not parse."""
        at = scene()
        at.world.config[key] = "1"

        refused = at.world.refuse(at.command)

        assert codes.TRANSFER_CONFIGURATION_INVALID is refused.code
        assert {"key": key} == refused.metadata

    @pytest.mark.parametrize("text", ["true", "TRUE", " True ", "false", "False"])
    def test_keys_that_parse(self, text: str) -> None:
        """Keys are judged without regard to case and surrounding blanks."""
        at = scene()
        at.world.config[FRAUD_CHECK] = text

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_defaults_of_keys(self) -> None:
        """An unset key other than the fraud key refuses nobody."""
        at = scene()

        assert {FRAUD_CHECK} == at.world.config.keys()
        assert isinstance(at.world.decide(at.command), Accepted)

    @pytest.mark.parametrize(
        ("change", "fields"),
        [
            ({"minimum_points": 10, "maximum_points": 9}, "redemption.minimum_points,redemption.maximum_points"),
            ({"multiple": 10, "maximum_points": 9}, "redemption.multiple,redemption.maximum_points"),
            (
                {"minimum_points": 10, "multiple": 10, "maximum_points": 9},
                "redemption.minimum_points,redemption.maximum_points,redemption.multiple",
            ),
            ({"categories": ()}, "redemption.categories"),
            ({"categories": (Category("Main", redeemable=False),)}, "redemption.categories"),
            ({"categories": (Category("Main"), Category("Main"))}, "redemption.categories"),
            ({"categories": (Category("Main", redeemable=False),) * 2}, "redemption.categories"),
        ],
    )
    def test_contradictions(self, change: dict[str, Any], fields: str) -> None:
        """899 names the fields of the policy that cannot hold together, each once."""
        at = scene()
        at.world.change_redemption_policy(**change)

        refused = at.world.refuse(at.command)

        assert codes.TRANSFER_PROGRAM_MISCONFIGURED is refused.code
        assert {"fields": fields} == refused.metadata

    @pytest.mark.parametrize(
        "change",
        [
            {"minimum_points": 9, "maximum_points": 9},
            {"minimum_points": 9},
            {"multiple": 9, "maximum_points": 9},
            {"point_value": PointValue(1, 1, "INR")},
        ],
    )
    def test_sound_policies(self, change: dict[str, Any]) -> None:
        """A policy at the edge of a contradiction is sound; no maximum contradicts nothing."""
        at = scene()
        at.world.change_redemption_policy(**change)

        assert isinstance(at.world.decide(at.command), Accepted)

    @pytest.mark.parametrize(("decimal_places", "multiple"), [(0, 25), (0, 50), (1, 0), (1, 50), (0, 1)])
    def test_divisible(self, decimal_places: int, multiple: int) -> None:
        """A whole number of points, and a multiple of what the policy asks for, is accepted."""
        at = scene()
        at.world.change_program(decimal_places=decimal_places)
        at.world.change_transfer_policy(multiple=multiple)

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_no_group_is_needed(self) -> None:
        """Without pooling, a program needs no group, and it does not matter that pooling is off."""
        world = metals()
        world.config[POOLING_ALLOWED] = "false"
        world.enrol(ANN, BRONZE)
        world.enrol(BEN, BRONZE)
        world.give(1, 50, program_id=BRONZE)

        assert isinstance(world.decide(transfer(50, program_id=BRONZE)), Accepted)

    def test_conditions_of_redemption_are_not_those_of_transfers(self) -> None:
        """What the policy demands of redemptions, and of points to redeem, means nothing to transfers by itself."""
        at = scene()
        at.world.change_redemption_policy(
            enabled=False,
            minimum_points=60,
            multiple=7,
            required_balance=1_000,
            required_lifetime_points=1_000,
            required_lifetime_purchases=1_000,
        )

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_exclusions_are_few(self) -> None:
        """Nearly every two defects were put into one world."""
        count = len(DEFECTS)
        apart = [one for i, first in enumerate(DEFECTS) for one in DEFECTS[i + 1 :] if excluded(first, one)]

        assert 25 > len(apart)
        assert 1_000 < count * (count - 1) // 2 - len(apart)


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
        ("label", "code"),
        [
            (StatusLabel.ACTIVE, None),
            (StatusLabel.SUSPENDED, codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE),
            (StatusLabel.FRAUD_SUSPECTED, codes.SOURCE_CUSTOMER_FRAUD),
            (StatusLabel.FRAUD_CONFIRMED, codes.SOURCE_CUSTOMER_FRAUD),
            (StatusLabel.INTERNAL_USER, None),
            (StatusLabel.DELETED, codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE),
            (StatusLabel.PENDING_DELETION, None),
        ],
    )
    def test_labels(self, label: StatusLabel, code: codes.Code | None) -> None:
        """With the module on, labels replace the fraud status: fraud labels and others that bar have their codes."""
        at = scene()
        labelled(ANN, label)(at)
        at.world.change_customer(ANN, fraud_status=FraudStatus.MARKED)

        outcome = at.world.decide(at.command)

        assert code == (outcome.code if isinstance(outcome, Refused) else None)

    @pytest.mark.parametrize("label", StatusLabel)
    def test_labels_with_the_module_off(self, label: StatusLabel) -> None:
        """With the module off, no label bars anybody."""
        at = scene()
        at.world.change_customer(ANN, status_label=label)
        at.world.change_customer(BEN, status_label=label)

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_check_switched_off(self) -> None:
        """With the fraud key at false, frauds may give and receive."""
        at = scene()
        frauds(ANN, BEN)(at)
        at.world.config[FRAUD_CHECK] = "false"

        assert isinstance(at.world.decide(at.command), Accepted)


class TestLock:
    """The lock on a customer's transfers."""

    def test_receiver_is_never_locked(self) -> None:
        """A lock keeps nobody from receiving."""
        at = scene()
        at.world.change_customer(BEN, transfers_locked_until=TOMORROW)

        assert isinstance(at.world.decide(at.command), Accepted)

    @pytest.mark.parametrize(("ahead_s", "refused"), [(-1, False), (0, False), (1, True)])
    def test_end(self, ahead_s: int, refused: bool) -> None:
        """A lock ends at its time."""
        at = scene()
        at.world.change_customer(ANN, transfers_locked_until=NOW + timedelta(seconds=ahead_s))

        assert refused == isinstance(at.world.decide(at.command), Refused)


class TestDuplicates:
    """The duplicate window."""

    @pytest.mark.parametrize(("ago_s", "refused"), [(59, True), (60, False), (61, False)])
    def test_window(self, ago_s: int, refused: bool) -> None:
        """An equal transfer is refused until the window has passed."""
        at = scene()
        at.world.change_transfer_policy(duplicate_window_s=60)
        at.world.journal.append(an_equal_transfer(NOW - timedelta(seconds=ago_s)))

        assert refused == isinstance(at.world.decide(at.command), Refused)

    @pytest.mark.parametrize(
        ("change", "refused"),
        [
            ({}, True),
            ({"notes": "another note"}, True),
            ({"points": 49}, False),
            ({"program_id": SILVER}, False),
            ({"source": by_id(BEN), "destination": by_id(ANN)}, False),
        ],
    )
    def test_what_is_equal(self, change: dict[str, Any], refused: bool) -> None:
        """Equal are transfers with the same parties, program and points, whatever their notes."""
        at = scene()
        for member in (GOLD, SILVER):
            at.world.change_transfer_policy(member, duplicate_window_s=60)
            at.world.give(10 + member, 100, customer_id=BEN, program_id=member)
        at.world.give(13, 100, program_id=SILVER)
        at.world.accept(at.command)

        assert refused == isinstance(at.world.decide(replace(at.command, **change)), Refused)

    def test_within_a_batch(self) -> None:
        """The second of two equal transfers of one batch is refused."""
        at = scene()
        at.world.change_transfer_policy(duplicate_window_s=60)

        first, second = at.world.decide_batch([at.command, at.command])

        assert isinstance(first, Accepted)
        assert ("TRANSFER_DUPLICATE_REQUEST", "DUPLICATE_WINDOW", None) == told(second)

    def test_off_by_default(self) -> None:
        """Without a window equal transfers are accepted."""
        at = scene()
        at.world.accept(at.command)

        assert isinstance(at.world.decide(at.command), Accepted)


class TestVelocity:
    """Limits on points and transfers, out and in, over today, 7 and 30 days."""

    @pytest.mark.parametrize(
        ("limit", "wanted"),
        [
            (VelocityLimit(Direction.OUT, Window.TODAY, points_max=90), ("90", "50", "2026-03-16")),
            (VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=190), ("190", "150", "2026-03-18")),
            (VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=100), ("100", "150", "2026-03-18")),
            (VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=99), ("99", "150", "2026-03-22")),
            (VelocityLimit(Direction.OUT, Window.LAST_30_DAYS, points_max=1_149), ("1149", "1150", "2026-03-16")),
            (VelocityLimit(Direction.OUT, Window.LAST_30_DAYS, points_max=150), ("150", "1150", "2026-04-10")),
            (VelocityLimit(Direction.OUT, Window.TODAY, transfers_max=1), ("1", "1", "2026-03-16")),
            (VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, transfers_max=3), ("3", "3", "2026-03-18")),
            (VelocityLimit(Direction.IN, Window.TODAY, points_max=56), ("56", "7", "2026-03-16")),
            (VelocityLimit(Direction.IN, Window.LAST_30_DAYS, transfers_max=1), ("1", "1", "2026-04-14")),
        ],
    )
    def test_reached(self, limit: VelocityLimit, wanted: tuple[str, str, str]) -> None:
        """A limit is told with what was used and the first instant at which the same transfer would pass it."""
        at = self.busy(limit)

        refused = at.world.refuse(at.command)

        maximum, used, day = wanted
        resets_at = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        assert {
            "limit": maximum,
            "used": used,
            "window": limit.window.name,
            "direction": limit.direction.name,
            "resets_at": resets_at.isoformat(),
        } == refused.metadata
        assert (resets_at - NOW).total_seconds() == refused.retry_after_s
        measure = "points" if limit.points_max else "transfers"
        assert f"transfer_{measure}_{limit.direction.name}_{limit.window.name}".lower() == refused.quota

    @pytest.mark.parametrize(
        "limit",
        [
            VelocityLimit(Direction.OUT, Window.TODAY, points_max=100, transfers_max=2),
            VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=200, transfers_max=4),
            VelocityLimit(Direction.OUT, Window.LAST_30_DAYS, points_max=1_200, transfers_max=6),
            VelocityLimit(Direction.IN, Window.LAST_30_DAYS, points_max=57, transfers_max=2),
            VelocityLimit(Direction.OUT, Window.TODAY),
        ],
    )
    def test_kept(self, limit: VelocityLimit) -> None:
        """A transfer that just reaches a limit is accepted; 0 is no limit."""
        at = self.busy(limit)

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_resets_at_is_true(self) -> None:
        """At the time told the same transfer is accepted, and not an instant earlier."""
        at = self.busy(VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=190))
        at.world.take_all()
        at.world.give(5, 100)
        resets_at = datetime.fromisoformat(at.world.refuse(at.command).metadata["resets_at"])
        at.world.now = resets_at - timedelta(microseconds=1)
        before = at.world.ask(at.command)
        at.world.now = resets_at

        assert isinstance(before, Refused)
        assert isinstance(at.world.ask(at.command), Accepted)

    @pytest.mark.parametrize(("points", "in_time"), [(190, True), (191, False)])
    def test_more_than_the_limit(self, points: int, in_time: bool) -> None:
        """No time is told to who asks for more than the limit itself: no window is long enough for that."""
        at = self.busy(VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=190))

        refused = at.world.refuse(transfer(points))

        assert codes.TRANSFER_LIMIT_EXCEEDED is refused.code
        assert (in_time, in_time) == ("resets_at" in refused.metadata, refused.retry_after_s is not None)

    def test_time_zone(self) -> None:
        """Days are those of the program's time zone."""
        at = scene()
        at.world.change_program(time_zone="Asia/Kolkata")
        at.world.change_transfer_policy(velocity_limits=(VelocityLimit(Direction.OUT, Window.TODAY, transfers_max=1),))
        at.world.now = datetime(2026, 3, 15, 18, 29, 59, tzinfo=UTC)  # 23:59:59 in Kolkata
        at.world.accept(transfer(10))
        refused = at.world.refuse(transfer(10))
        at.world.pass_time(seconds=1)

        assert "2026-03-15T18:30:00+00:00" == refused.metadata["resets_at"]
        assert isinstance(at.world.decide(transfer(10)), Accepted)
        assert {date(2026, 3, 15): (10, 1), date(2026, 3, 16): (10, 1)} == {
            day: used for (_, day), used in at.world.velocity[WalletKey(ANN, GOLD)].items()
        }

    def test_resets_at_across_a_change_of_clocks(self) -> None:
        """A day that ends under summer time ends when the clocks there say so."""
        at = scene()
        at.world.change_program(time_zone="Europe/Berlin")
        at.world.change_transfer_policy(velocity_limits=(VelocityLimit(Direction.OUT, Window.TODAY, transfers_max=1),))
        at.world.now = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # clocks go forward at 01:00 UTC
        at.world.accept(transfer(10))

        assert "2026-03-29T22:00:00+00:00" == at.world.refuse(at.command).metadata["resets_at"]

    def test_first_limit_in_order(self) -> None:
        """Of several limits that are reached, the policy's first is told."""
        at = scene()
        at.world.change_transfer_policy(
            velocity_limits=(
                VelocityLimit(Direction.IN, Window.TODAY, transfers_max=5),
                VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=9),
                VelocityLimit(Direction.OUT, Window.TODAY, points_max=8),
            )
        )

        assert "9" == at.world.refuse(at.command).metadata["limit"]

    def test_within_a_batch(self) -> None:
        """Transfers of one batch count against each other, in their order."""
        at = scene()
        at.world.change_transfer_policy(velocity_limits=(VelocityLimit(Direction.OUT, Window.TODAY, points_max=50),))

        outcomes = at.world.decide_batch([transfer(30), transfer(30), transfer(20)])

        assert [True, False, True] == [isinstance(one, Accepted) for one in outcomes]

    def test_a_program_of_its_own(self) -> None:
        """What was transferred in another program does not count."""
        at = scene()
        at.world.give(5, 50, program_id=SILVER)
        at.world.change_transfer_policy(velocity_limits=(VelocityLimit(Direction.OUT, Window.TODAY, transfers_max=1),))
        at.world.accept(transfer(50, program_id=SILVER))

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_all_limits_that_are_passed_tell_when(self) -> None:
        """The first is named, with the time at which the same transfer passes all of them."""
        limits = (
            VelocityLimit(Direction.OUT, Window.TODAY, points_max=120),
            VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=200),
            VelocityLimit(Direction.OUT, Window.LAST_30_DAYS, transfers_max=6),
        )
        at = self.busy(limits[0])
        at.world.change_transfer_policy(velocity_limits=limits)
        refused = at.world.refuse(transfer(100))
        at.world.now = datetime.fromisoformat(refused.metadata["resets_at"]) - timedelta(microseconds=1)
        before = at.world.ask(transfer(100))
        at.world.now += timedelta(microseconds=1)

        assert {"limit": "120", "used": "50", "window": "TODAY"}.items() <= refused.metadata.items()
        assert (NOW.date() + timedelta(days=3)).isoformat() == refused.metadata["resets_at"][:10]
        assert refused.retry_after_s == (at.world.now - NOW).total_seconds()
        assert isinstance(before, Refused)
        assert isinstance(at.world.decide(transfer(100)), Accepted)

    def test_no_time_lets_all_limits_pass(self) -> None:
        """Where one of them is smaller than the transfer, there is no time, though the first would have one."""
        limit = VelocityLimit(Direction.OUT, Window.TODAY, transfers_max=1)
        at = self.busy(limit)
        month = VelocityLimit(Direction.OUT, Window.LAST_30_DAYS, points_max=90)
        at.world.change_transfer_policy(velocity_limits=(limit, month))
        refused = at.world.refuse(transfer(100))

        assert {"limit": "1", "used": "1", "window": "TODAY", "direction": "OUT"} == refused.metadata
        assert refused.retry_after_s is None

    def busy(self, limit: VelocityLimit) -> Scene:
        """Ann gave 50 today, 100 in two transfers four days ago, 1,000 in one 29 days ago; Ben got 7 today."""
        at = scene()
        at.world.give(5, 100)
        at.world.velocity[WalletKey(ANN, GOLD)] = {
            (Direction.OUT, date(2026, 3, 15)): (50, 1),
            (Direction.OUT, date(2026, 3, 11)): (100, 2),
            (Direction.OUT, date(2026, 2, 14)): (1_000, 2),
            (Direction.OUT, date(2026, 2, 13)): (5_000, 9),
            (Direction.IN, date(2026, 3, 15)): (9_999, 99),
        }
        at.world.velocity[WalletKey(BEN, GOLD)] = {
            (Direction.IN, date(2026, 3, 15)): (7, 1),
            (Direction.OUT, date(2026, 3, 15)): (9_999, 99),
        }
        at.world.change_transfer_policy(velocity_limits=(limit,))
        return at


class TestDeed:
    """What an accepted transfer does."""

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

        world.accept(transfer(55))

        assert [4, 3, 2, 5, 6, 1] == [one.parent_lot_id for one in world.lots_of(BEN)]
        assert {1: 5} == world.remaining(ANN)

    def test_received_lots(self) -> None:
        """The receiver gets one lot per lot drawn, with its origin, award, expiry and root; its life is not longer."""
        world = metals()
        first = world.give(
            1,
            60,
            earning_program_id=BRONZE,
            source=Source.GOODWILL,
            category="Gift",
            expires_at=NOW + timedelta(days=10),
            root_lot_id=501,
        )
        second = world.give(2, 40)

        result = world.accept(transfer(70))

        received = world.lots_of(BEN)
        assert [
            replace(
                drawn,
                lot_id=lot_id,
                wallet=WalletKey(BEN, GOLD),
                points=points,
                remaining=points,
                parent_lot_id=drawn.lot_id,
                transaction_id=result.transfer_id,
            )
            for drawn, lot_id, points in ((first, FIRST_ID + 2, 60), (second, FIRST_ID + 3, 10))
        ] == received

    def test_chain(self) -> None:
        """Through a chain of transfers the root stays, and each lot names the one it was drawn from."""
        world = metals()
        world.enrol(CID, GOLD)
        world.give(1, 60, expires_at=NOW + timedelta(days=10))
        world.accept(transfer(60))
        world.accept(transfer(60, source=BEN, destination=CID))

        [ben, cid] = [one for one in world.lots.values() if one.lot_id > FIRST_ID]
        assert (1, 1) == (ben.parent_lot_id, ben.root_lot_id)
        assert (ben.lot_id, 1) == (cid.parent_lot_id, cid.root_lot_id)
        assert NOW + timedelta(days=10) == cid.expires_at

    def test_answer(self) -> None:
        """The answer says who gave what to whom, where it was earned, what is left, and how the wallets stand."""
        world = metals()
        world.give(1, 60, earning_program_id=BRONZE, expires_at=NOW + timedelta(days=10))
        world.give(2, 40, earning_program_id=BRONZE, source=Source.REGISTRATION)
        world.give(3, 30)
        world.give(4, 20, source=Source.GOODWILL)

        result = world.accept(transfer(75, program_id=0, notes="for you"))

        assert (
            TransferResult(
                transfer_id=FIRST_ID + 1,
                source_id=ANN,
                destination_id=BEN,
                program_id=GOLD,
                points=75,
                made_at=NOW,
                notes="for you",
                shares=(ProgramShare(BRONZE, 60, 40), ProgramShare(GOLD, 15, 35)),
                balances=(world.balance(ANN), world.balance(BEN)),
            )
            == result
        )
        assert (75, 75, 35) == (
            world.balance(ANN).current,
            world.balance(ANN).redeemable,
            world.balance(ANN).transferable,
        )

    def test_journal(self) -> None:
        """The booking names who asked, why, under which policy; its postings name lots, versions and balances."""
        world = metals()
        world.give(1, 60, expires_at=NOW + timedelta(days=10))
        world.give(2, 40)

        world.accept(transfer(70, notes="for you"))

        [entry] = world.journal
        assert (Kind.TRANSFER, ANN, BEN, GOLD, 70, NOW) == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
            entry.created_at,
        )
        assert ("request-1", "till-1", "for you", 3) == (
            entry.request_id,
            entry.actor,
            entry.notes,
            entry.policy_revision,
        )
        assert (
            Posting(Account.WALLET, ANN, GOLD, 1, -60, wallet_version=3, balance_after=40),
            Posting(Account.WALLET, ANN, GOLD, 2, -10, wallet_version=3, balance_after=30),
            Posting(Account.WALLET, BEN, GOLD, FIRST_ID + 2, 60, wallet_version=1, balance_after=60),
            Posting(Account.WALLET, BEN, GOLD, FIRST_ID + 3, 10, wallet_version=1, balance_after=70),
        ) == entry.postings

    def test_lifetime(self) -> None:
        """The receiver's received-lifetime rises; earned-lifetime and the sender's figures stay."""
        world = metals()
        world.give(1, 100)

        world.accept(transfer(70))

        ann, ben = world.wallet(ANN), world.wallet(BEN)
        assert (100, 0) == (ann.lifetime_earned, ann.lifetime_received)
        assert (0, 70) == (ben.lifetime_earned, ben.lifetime_received)

    def test_conditions_include_received(self) -> None:
        """Received points count as lifetime points only if the policy includes them."""
        world = metals()
        world.give(1, 100)
        world.change_transfer_policy(redemption_conditions=True)
        world.accept(transfer(70))
        world.change_redemption_policy(required_lifetime_points=70)
        back = transfer(10, source=BEN, destination=ANN)
        without = world.ask(back)
        world.change_redemption_policy(lifetime_includes_received=True)

        assert ("TRANSFER_CONDITIONS_NOT_MET", "REQUIRED_LIFETIME_POINTS", None) == told(without)
        assert isinstance(world.decide(back), Accepted)

    def test_barred_sources_are_skipped(self) -> None:
        """Points of barred sources stay, even where they would be spent first; REGISTRATION is barred by default."""
        world = metals()
        world.give(1, 50, source=Source.REGISTRATION, expires_at=NOW + timedelta(days=1))
        world.give(2, 50)

        world.accept(transfer(50))

        assert {1: 50} == world.remaining(ANN)
        assert ("POINTS_NOT_TRANSFERABLE", None, None) == told(world.decide(transfer(1)))

    def test_no_barred_sources(self) -> None:
        """A policy can bar nothing."""
        world = metals()
        world.give(1, 50, source=Source.REGISTRATION)
        world.change_transfer_policy(barred_sources=())

        world.accept(transfer(50))

        assert {} == world.remaining(ANN)

    def test_promised_and_held_are_skipped(self) -> None:
        """Promised lots and held shares are left alone."""
        world = metals()
        world.give(1, 50, available_from=TOMORROW, expires_at=NOW + timedelta(days=2))
        world.give(2, 50, held=20, expires_at=NOW + timedelta(days=3))
        world.give(3, 50)

        result = world.accept(transfer(70))

        assert {1: 50, 2: 20, 3: 10} == world.remaining(ANN)
        assert (world.balance(ANN), world.balance(BEN)) == result.balances
        assert [(2, 30), (3, 40)] == [
            (one.parent_lot_id, one.points) for one in world.lots.values() if one.parent_lot_id
        ]
        assert (80, 10, 50, 20) == (
            world.balance(ANN).current,
            world.balance(ANN).redeemable,
            world.balance(ANN).promised,
            world.balance(ANN).held,
        )

    def test_last_instant_of_validity(self) -> None:
        """Points can be transferred through the instant of their expiry, and are gone right after it."""
        world = metals()
        world.give(1, 50, expires_at=NOW)
        last = world.ask(transfer(50))
        world.pass_time(microseconds=1)

        assert isinstance(last, Accepted)
        assert {"points": "50", "current": "0", "short_by": "50"} == world.refuse(transfer(50)).metadata
        assert 0 == world.wallet(ANN).current

    def test_by_other_identifiers(self) -> None:
        """Customers are named by any of their identifiers."""
        world = metals()
        world.give(1, 50)
        named = transfer(
            50,
            source=0,
            destination=0,
        )
        named = replace(
            named,
            source=Identifier(IdentifierType.MOBILE, "+919876540011"),
            destination=Identifier(IdentifierType.EMAIL, "c12@example.com"),
        )

        result = world.accept(named)

        assert (ANN, BEN) == (result.source_id, result.destination_id)

    def test_many_lots(self) -> None:
        """A wallet with more lots than were loaded at first is drawn all the same."""
        world = metals()
        for number in range(1, 101):
            world.give(number, 1, awarded_at=NOW - timedelta(days=number))

        world.accept(transfer(99))

        assert [1] == list(world.remaining(ANN))
        assert 99 == len(world.lots_of(BEN))

    def test_too_many_lots(self) -> None:
        """A transfer that would draw more than 10,000 lots is refused; one that draws exactly so many is not."""
        world = metals()
        for number in range(1, 10_002):
            world.lots[number] = replace(world.give(1, 1), lot_id=number)
        world.window = 20_000

        refused = world.refuse(transfer(10_001))

        assert codes.TOO_MANY_LOTS is refused.code
        assert {"lots": "more than 10000", "maximum": "10000"} == refused.metadata
        assert isinstance(world.decide(CheckTransfer(transfer(10_000))), Accepted)


class TestPooled:
    """Transfers across the programs of a group."""

    def test_draws_over_all_programs(self) -> None:
        """Points are drawn in one spending order over the group, and credited in its default program."""
        world = self.pooled()

        result = world.accept(transfer(80, program_id=SILVER, pooled=True))

        assert {} == world.remaining(ANN, SILVER)
        assert {1: 20} == world.remaining(ANN)
        assert [(2, 30), (3, 10), (1, 40)] == [(one.parent_lot_id, one.points) for one in world.lots_of(BEN)]
        assert [] == world.lots_of(BEN, SILVER)
        assert SILVER == result.program_id
        assert (ProgramShare(SILVER, 40, 0), ProgramShare(GOLD, 40, 20)) == result.shares
        assert (world.balance(ANN, SILVER), world.balance(ANN), world.balance(BEN)) == result.balances

    def test_ended_programs_stay_in_the_pool(self) -> None:
        """Points of a program that was ended are drawn and credited with the others; naming it is refused."""
        world = self.pooled()
        world.change_program(SILVER, active=False)
        result = world.accept(transfer(80, pooled=True))

        assert (ProgramShare(SILVER, 40, 0), ProgramShare(GOLD, 40, 20)) == result.shares
        assert codes.TRANSFER_INVALID_PROGRAM_ID is world.refuse(transfer(8, program_id=SILVER, pooled=True)).code

        world.change_program(SILVER, active=True)
        world.change_program(GOLD, active=False)
        world.accept(transfer(20, program_id=SILVER, pooled=True))

        assert (0, 100) == (world.wallet(ANN).current, world.wallet(BEN).current)
        assert codes.TRANSFER_INVALID_PROGRAM_ID is world.refuse(transfer(8, pooled=True)).code

    def test_clearing(self) -> None:
        """Points that change programs pass the clearing account, so that every program sums to zero."""
        world = self.pooled()

        world.accept(transfer(80, program_id=SILVER, pooled=True))

        assert [
            (Account.WALLET, ANN, SILVER, -30),
            (Account.WALLET, ANN, SILVER, -10),
            (Account.WALLET, ANN, GOLD, -40),
            (Account.WALLET, BEN, GOLD, 30),
            (Account.WALLET, BEN, GOLD, 10),
            (Account.WALLET, BEN, GOLD, 40),
            (Account.CLEARING, 0, SILVER, 40),
            (Account.CLEARING, 0, GOLD, -40),
        ] == world.postings(world.journal[0])

    def test_named_program_judges(self) -> None:
        """The policy of the program named judges, whatever the others say."""
        world = self.pooled()
        world.change_transfer_policy(SILVER, barred_sources=(int(Source.LOYALTY_PLUS),))
        world.change_transfer_policy(GOLD, enabled=False)

        assert {"transferable": "0", "barred": "100", "points": "80", "promised": "0", "held": "0"} == world.refuse(
            transfer(80, program_id=SILVER, pooled=True)
        ).metadata
        assert ("TRANSFER_NOT_ALLOWED_FOR_PROGRAM", "PROGRAM", None) == told(world.decide(transfer(8, pooled=True)))

    def test_what_is_left_is_counted_everywhere(self) -> None:
        """What is left of points earned in a program counts in every wallet, whichever was drawn on."""
        world = metals()
        world.give(1, 100, expires_at=NOW + timedelta(days=1))
        world.give(2, 500, program_id=SILVER, earning_program_id=GOLD)
        left = []
        for wanted in (transfer(60, pooled=True), transfer(60, pooled=True), transfer(10, program_id=SILVER)):
            checked = world.ask(CheckTransfer(wanted))
            result = world.accept(wanted)
            assert isinstance(checked, Accepted)
            assert checked.result.shares == result.shares  # type: ignore[union-attr]
            left += [(one.program_id, one.left) for one in result.shares]

        assert [(GOLD, 540), (GOLD, 480), (GOLD, 470)] == left

    def test_source_in_one_program_of_the_group(self) -> None:
        """It is enough for the sender to be enrolled in one program of the group, even if another is named."""
        world = self.pooled()
        world.leave(ANN, SILVER)

        world.accept(transfer(60, program_id=SILVER, pooled=True))

        assert {} == world.remaining(ANN)
        assert {2: 30, 3: 10} == world.remaining(ANN, SILVER)

    def test_source_in_no_program_of_the_group(self) -> None:
        """A sender outside the group is refused."""
        world = self.pooled()
        world.leave(ANN, SILVER)
        world.leave(ANN, GOLD)

        assert ("TRANSFER_CUSTOMER_NOT_ELIGIBLE", "NOT_ENROLLED", "SOURCE") == told(
            world.decide(transfer(1, pooled=True))
        )

    @pytest.mark.parametrize(("left", "refused"), [(GOLD, True), (SILVER, False)])
    def test_receiver_in_the_default_program(self, left: int, refused: bool) -> None:
        """The receiver must be enrolled where the points go: in the group's default program."""
        world = self.pooled()
        world.leave(BEN, left)

        outcome = world.decide(transfer(80, program_id=SILVER, pooled=True))

        assert refused == isinstance(outcome, Refused)

    def test_too_few_points(self) -> None:
        """817 counts the points of the whole group."""
        world = self.pooled()

        assert {"points": "101", "current": "100", "short_by": "1"} == world.refuse(transfer(101, pooled=True)).metadata
        assert {"points": "61", "current": "60", "short_by": "1"} == world.refuse(transfer(61)).metadata

    def test_velocity_counts_in_the_named_program(self) -> None:
        """A pooled transfer counts with all its points for the program named."""
        world = self.pooled()

        world.accept(transfer(80, program_id=SILVER, pooled=True))

        today = date(2026, 3, 15)
        assert {
            (ANN, SILVER): {(Direction.OUT, today): (80, 1)},
            (BEN, SILVER): {(Direction.IN, today): (80, 1)},
        } == world.velocity

    def test_received_lots_keep_their_earning_program(self) -> None:
        """What was earned in silver stays silver, in the gold wallet."""
        world = self.pooled()
        world.accept(transfer(80, program_id=SILVER, pooled=True))

        result = world.accept(transfer(80, source=BEN, destination=ANN))

        assert (ProgramShare(SILVER, 40, 0), ProgramShare(GOLD, 40, 0)) == result.shares

    def pooled(self) -> World:
        """Ann has 60 in gold and, spent before and after, 30 and 10 in silver."""
        world = metals()
        world.give(1, 60, expires_at=NOW + timedelta(days=2))
        world.give(2, 30, program_id=SILVER, expires_at=NOW + timedelta(days=1))
        world.give(3, 10, program_id=SILVER, expires_at=NOW + timedelta(days=2), awarded_at=NOW - timedelta(days=11))
        return world


class TestCheck:
    """A check is the deed's decision without the code."""

    @pytest.mark.parametrize("pooled", [False, True])
    def test_same_plan(self, pooled: bool) -> None:
        """A check shows what the transfer then takes, and the wallets as it then leaves them."""
        world = metals()
        world.give(1, 60, expires_at=NOW + timedelta(days=2), earning_program_id=BRONZE)
        world.give(2, 50)
        world.give(3, 50, program_id=SILVER)
        wanted = transfer(90, pooled=pooled)

        checked = world.ask(CheckTransfer(wanted))
        done = world.accept(wanted)

        assert Accepted(CheckTransferResult(90, done.shares, done.balances, None, False)) == checked

    def test_leaves_nothing(self) -> None:
        """A check without a code leaves no event."""
        at = scene()

        at.world.accept(CheckTransfer(at.command))

        assert [] == at.world.changes.events

    def test_needs_no_code(self) -> None:
        """A check passes without the code that the transfer will need, and says so."""
        at = scene()
        at.world.change_otp_policy(transfer=OtpRequirement.REQUIRED)

        assert at.world.accept(CheckTransfer(at.command)).code_required

    @pytest.mark.parametrize(
        ("requirement", "wanted"),
        [(OtpRequirement.REQUIRED, True), (OtpRequirement.IF_ISSUED, True), (OtpRequirement.OFF, False)],
    )
    def test_issues_a_code(self, requirement: OtpRequirement, wanted: bool) -> None:
        """With `issue_otp` a code is sent, and the answer says whether the transfer will need it."""
        at = scene()
        at.world.change_otp_policy(transfer=requirement)

        result = at.world.accept(CheckTransfer(at.command, issue_otp=True))

        assert result.challenge is not None
        assert 1 == len(at.world.outbox)
        assert wanted == result.code_required

    @pytest.mark.parametrize(
        ("name", "cause"),
        [("too-many-codes", "ISSUE_LIMIT"), ("no-channel", "NO_CHANNEL"), ("no-sender", "NO_SENDER")],
    )
    def test_code_that_cannot_be_sent(self, name: str, cause: str) -> None:
        """A code that cannot be issued is a warning of the check, which leaves nothing."""
        at = scene()
        next(one for one in DEFECTS if one.name == name).spoil(at)

        outcome = at.world.decide(CheckTransfer(at.command, issue_otp=True))

        assert isinstance(outcome, Accepted)
        assert [(codes.REDEEMABLE_BUT_OTP_NOT_ISSUED, {"cause": cause})] == [
            (one.code, one.metadata) for one in outcome.warnings
        ]
        assert outcome.result.challenge is None  # type: ignore[union-attr]
        assert [] == at.world.changes.events
