"""Merges: each cause of refusal, what the survivor gets, and how what the victim did is undone afterwards."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from msgspec.structs import replace

from domain.defects import (
    Defect,
    Scene,
    expected,
    in_command,
    in_config,
    in_world,
    names,
    pairs,
    spoiled,
    suffixes,
    told,
)
from points_grpc import codes
from points_grpc.domain import events as ev
from points_grpc.domain.commands import IssueRedemptionOtp, IssueTransferOtp, MergeCustomers
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX
from points_grpc.domain.model import FraudStatus, Kind, OtpAction, OtpCounter, OtpState, Source, StatusLabel, WalletKey
from points_grpc.domain.outcome import Accepted, MergeResult, Refused
from points_grpc.domain.policy import Direction, VelocityLimit, Window
from points_grpc.domain.redemption import redemption_id_of
from worlds import (
    ANN,
    BEN,
    BRONZE,
    CID,
    ENROLLED_AT,
    GOLD,
    NOW,
    SILVER,
    UNKNOWN,
    World,
    adjust,
    by_id,
    issue,
    merge,
    metals,
    redeem,
    reverse,
    transfer,
)

SOON, LATER = NOW + timedelta(days=10), NOW + timedelta(days=20)


def scene() -> Scene:
    """Ann has points in gold and silver, some promised, Ben has some in gold; she turns out to be him: accepted."""
    world = metals()
    world.give(1, 60, expires_at=SOON, source=Source.REGISTRATION)
    world.give(2, 40, earning_program_id=BRONZE)
    world.give(3, 30, program_id=SILVER, available_from=SOON, expires_at=LATER)
    world.give(4, 7, customer_id=BEN)
    return Scene(world, merge())


WHO = names("victim-unknown", "survivor-unknown", "victim-merged", "survivor-merged", "same-customer")
DEFECTS = (
    Defect(
        "org-paused",
        codes.PAUSED,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
    ),
    Defect(
        "config-unreadable", codes.STORAGE_UNAVAILABLE, in_world(lambda one: setattr(one, "config_available", False))
    ),
    Defect(
        "key-does-not-parse",
        codes.ORG_CONFIGURATION_INVALID,
        in_config(MISSED_CALLS_ALLOWED, "maybe"),
        {"key": MISSED_CALLS_ALLOWED},
    ),
    Defect(
        "victim-unknown",
        codes.CUSTOMER_NOT_FOUND,
        in_command(victim=UNKNOWN),
        {"party": "VICTIM"},
        "victim_customer_identifier.value",
    ),
    Defect(
        "survivor-unknown",
        codes.CUSTOMER_NOT_FOUND,
        in_command(survivor=UNKNOWN),
        {"party": "SURVIVOR"},
        "survivor_customer_identifier.value",
        excludes=names("same-customer"),
    ),
    Defect(
        "victim-merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(ANN, merged_into=CID)),
        {"customer_id": str(ANN), "survivor_id": str(CID)},
    ),
    Defect(
        "survivor-merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(BEN, merged_into=CID)),
        {"customer_id": str(BEN), "survivor_id": str(CID)},
        excludes=names("same-customer"),
    ),
    Defect(
        "same-customer",
        codes.SAME_CUSTOMER,
        in_command(survivor=by_id(ANN)),
        {},
        "survivor_customer_identifier",
    ),
    Defect(
        "program-paused",
        codes.PAUSED,
        in_world(lambda one: one.change_program(SILVER, paused=True)),
        {"cause": "PROGRAM_PAUSED"},
    ),
    Defect(
        "held",
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        in_world(lambda one: one.give(5, 10, held=4)),
        {"points": "140", "redeemable": "106", "promised": "30", "held": "4"},
    ),
)


class TestRefusals:
    """Each cause of refusal by itself, and all of them in order."""

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_row(self, defect: Defect) -> None:
        """A single defect is refused with its code, its numbers and the field to blame."""
        outcome = spoiled(scene(), [defect], lambda command: command)

        assert isinstance(outcome, Refused)
        assert defect.code is outcome.code
        assert defect.metadata == outcome.metadata
        assert defect.field == outcome.field

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_catalogue(self, defect: Defect) -> None:
        """The catalogue lists each code for the operation, with the metadata keys and every variable of the message."""
        assert {"MergeCustomers", "*"} & set(defect.code.operations)
        assert set() == defect.metadata.keys() - set(defect.code.metadata_keys)
        assert set() == set(re.findall(r"{(\w+)}", defect.code.message)) - defect.metadata.keys()

    def test_pairs(self) -> None:
        """Of any two defects, the earlier one is refused."""
        for earlier, later in pairs(DEFECTS, MergeCustomers):
            outcome = spoiled(scene(), [earlier, later], lambda command: command)

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    def test_suffixes(self) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, MergeCustomers):
            outcome = spoiled(scene(), together, lambda command: command)

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"

    def test_paused_elsewhere(self) -> None:
        """A pause of a program in which the victim has nothing is nobody's business."""
        at = scene()
        at.world.change_program(BRONZE, paused=True)

        assert isinstance(at.world.decide(at.command), Accepted)

    def test_too_many_lots(self) -> None:
        """A victim with more lots than a command may touch is not merged."""
        at = scene()
        for lot_id in range(10, 10 + LOTS_PER_COMMAND_MAX):
            at.world.lots[lot_id] = replace(at.world.lots[2], lot_id=lot_id, points=1, remaining=1)

        assert codes.TOO_MANY_LOTS is at.world.refuse(at.command).code

    @pytest.mark.parametrize("command", [redeem(1), transfer(1), transfer(1, CID, ANN), issue(1), adjust(1)])
    def test_victim_does_nothing_more(self, command: object) -> None:
        """Every write that names the victim is refused, with the survivor's id."""
        at = scene()
        at.world.accept(at.command)

        refused = at.world.refuse(command)  # type: ignore[arg-type]

        assert (codes.MERGED_CUSTOMER, {"customer_id": str(ANN), "survivor_id": str(BEN)}) == (
            refused.code,
            refused.metadata,
        )


class TestDeed:
    """What an accepted merge does."""

    def test_lots(self) -> None:
        """Each lot opens one of the survivor in the same program: origin, award, promise and expiry are kept."""
        at = scene()
        old = [at.world.lots[lot_id] for lot_id in (1, 2, 3)]

        result = at.world.accept(at.command)

        new = sorted((one for one in at.world.lots.values() if one.parent_lot_id), key=lambda one: one.lot_id)
        assert [
            replace(
                one,
                lot_id=child.lot_id,
                wallet=WalletKey(BEN, one.program_id),
                parent_lot_id=one.lot_id,
                transaction_id=result.transaction_id,
            )
            for one, child in zip(old, new, strict=True)
        ] == new
        assert ({}, {}) == (at.world.remaining(ANN), at.world.remaining(ANN, SILVER))

    def test_answer(self) -> None:
        """The answer shows the survivor, what was moved, and the survivor's wallets."""
        at = scene()

        outcome = at.world.decide(at.command)

        assert isinstance(outcome, Accepted)
        assert outcome.transaction_id == at.world.journal[-1].transaction_id
        assert (
            MergeResult(
                survivor=at.world.customers[BEN],
                program_ids=(GOLD, SILVER),
                victim_id=ANN,
                transaction_id=outcome.transaction_id,
                points=130,
                lots=3,
                balances=(at.world.balance(BEN), at.world.balance(BEN, SILVER)),
            )
            == outcome.result
        )

    def test_journal(self) -> None:
        """One transaction moves everything, whatever the program; the reason is kept there and in the audit log."""
        at = scene()

        at.world.accept(at.command)

        [entry] = at.world.journal
        [audited] = at.world.events(ev.Audited)
        assert (Kind.MERGE, ANN, BEN, 0, 130, "one person") == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
            entry.notes,
        )
        assert ("MergeCustomers", f"customer/{ANN}", "one person", BEN) == (
            audited.action,
            audited.subject,
            audited.reason,
            json.loads(audited.after)["merged_into"],
        )
        assert BEN == at.world.customers[ANN].merged_into

    def test_nothing_to_move(self) -> None:
        """A victim without points is merged without a journal transaction."""
        world = metals()

        outcome = world.decide(merge())

        assert isinstance(outcome, Accepted)
        assert (None, []) == (outcome.transaction_id, world.journal)
        assert BEN == world.customers[ANN].merged_into

    def test_expired(self) -> None:
        """What expired does not move: it is booked as expired first."""
        at = scene()
        at.world.now = SOON + timedelta(seconds=1)

        result = at.world.accept(at.command)

        assert [Kind.EXPIRY, Kind.MERGE] == [one.kind for one in at.world.journal]
        assert (70, 0) == (result.points, at.world.wallet(BEN, SILVER).promised)

    def test_lifetimes(self) -> None:
        """Lifetime figures of the victim are added to the survivor's; nothing lowers the victim's."""
        at = scene()
        at.world.wallets[at.world.wallet(ANN).key] = replace(
            at.world.wallet(ANN), lifetime_received=11, lifetime_purchases=500
        )

        at.world.accept(at.command)

        ann, ben = at.world.wallet(ANN), at.world.wallet(BEN)
        assert (100, 11, 500) == (ann.lifetime_earned, ann.lifetime_received, ann.lifetime_purchases)
        assert (107, 11, 500) == (ben.lifetime_earned, ben.lifetime_received, ben.lifetime_purchases)
        assert 30 == at.world.wallet(BEN, SILVER).lifetime_earned

    def test_enrolments(self) -> None:
        """The survivor is enrolled wherever the victim was, from the earlier day on, and is a member from here on."""
        at = scene()
        at.world.change_customer(CID, campaign_contact=True)
        at.world.enrol(CID, GOLD, at=NOW)

        result = at.world.accept(merge(ANN, CID))

        assert [ENROLLED_AT] * 2 == [at.world.wallet(CID, one).enrolled_at for one in (GOLD, SILVER)]
        assert ((GOLD, SILVER), False) == (result.program_ids, result.survivor.campaign_contact)
        assert isinstance(at.world.decide(redeem(1, CID)), Accepted)

    @pytest.mark.parametrize(
        ("victim", "survivor", "expected"), [("de", "", "de"), ("de", "pt-BR", "pt-BR"), ("", "pt-BR", "pt-BR")]
    )
    def test_locale(self, victim: str, survivor: str, expected: str) -> None:
        """The survivor is written to in the language known of either, the survivor's own first."""
        at = scene()
        at.world.change_customer(ANN, locale=victim)
        at.world.change_customer(BEN, locale=survivor)

        assert expected == at.world.accept(merge(ANN, BEN)).survivor.locale

    def test_codes(self) -> None:
        """The victim's live codes die, and what is on its way to her is cancelled; the survivor's stay.

        A code that was due for her transfers is due for his, and dead like hers.
        """
        at = scene()
        at.world.accept(IssueTransferOtp(transfer(1)))
        at.world.accept(IssueRedemptionOtp(redeem(1)))
        at.world.accept(IssueRedemptionOtp(redeem(1, BEN)))

        at.world.accept(at.command)

        states = {(one.customer_id, one.action): one.state for one in at.world.otps.values()}
        assert {
            (ANN, OtpAction.TRANSFER): OtpState.REPLACED,
            (ANN, OtpAction.REDEMPTION): OtpState.REPLACED,
            (BEN, OtpAction.TRANSFER): OtpState.REPLACED,
            (BEN, OtpAction.REDEMPTION): OtpState.LIVE,
        } == states
        assert [BEN] == [one.customer_id for one in at.world.outbox]


ORDER = (
    FraudStatus.NOT_FRAUD,
    FraudStatus.MARKED,
    FraudStatus.CONFIRMED,
    FraudStatus.INTERNAL,
    FraudStatus.RECONFIRMED,
)


class TestInherited:
    """What bars the victim bars the survivor."""

    @pytest.mark.parametrize("own", FraudStatus)
    @pytest.mark.parametrize("other", FraudStatus)
    def test_fraud(self, own: FraudStatus, other: FraudStatus) -> None:
        """The worse fraud status is kept."""
        world = metals()
        world.change_customer(ANN, fraud_status=other)
        world.change_customer(BEN, fraud_status=own)

        result = world.accept(merge())

        assert ORDER[max(ORDER.index(own), ORDER.index(other))] is result.survivor.fraud_status

    @pytest.mark.parametrize(
        ("victim", "survivor", "kept"),
        [
            (StatusLabel.SUSPENDED, StatusLabel.ACTIVE, StatusLabel.SUSPENDED),
            (StatusLabel.FRAUD_CONFIRMED, StatusLabel.SUSPENDED, StatusLabel.FRAUD_CONFIRMED),
            (StatusLabel.FRAUD_SUSPECTED, StatusLabel.FRAUD_CONFIRMED, StatusLabel.FRAUD_CONFIRMED),
            (StatusLabel.FRAUD_SUSPECTED, StatusLabel.PENDING_DELETION, StatusLabel.FRAUD_SUSPECTED),
            (StatusLabel.FRAUD_SUSPECTED, StatusLabel.DELETED, StatusLabel.DELETED),
            (StatusLabel.DELETED, StatusLabel.ACTIVE, StatusLabel.ACTIVE),
            (StatusLabel.INTERNAL_USER, StatusLabel.ACTIVE, StatusLabel.ACTIVE),
            (StatusLabel.ACTIVE, StatusLabel.SUSPENDED, StatusLabel.SUSPENDED),
        ],
    )
    def test_label(self, victim: StatusLabel, survivor: StatusLabel, kept: StatusLabel) -> None:
        """Labels that bar the person are taken over, those about the account are not."""
        world = metals()
        world.change_customer(ANN, status_label=victim)
        world.change_customer(BEN, status_label=survivor)

        assert kept is world.accept(merge()).survivor.status_label

    def test_lock(self) -> None:
        """The longer lock of transfers is kept."""
        world = metals()
        world.change_customer(ANN, transfers_locked_until=LATER)
        world.change_customer(BEN, transfers_locked_until=SOON)

        assert LATER == world.accept(merge()).survivor.transfers_locked_until


class TestInheritedCodes:
    """What codes demand of the victim, and what counts against her, the survivor takes over."""

    def merged(self, world: World) -> None:
        """Ann becomes part of Ben."""
        world.accept(merge())

    def wrong(self, world: World, customer_id: int, times: int, at_once: int = 5) -> None:
        """Tries wrong codes of a customer on transfers to Cid, a new code for every few."""
        command = transfer(1, customer_id, CID)
        for number in range(times):
            if not number % at_once:
                world.accept(IssueTransferOtp(command))
            world.refuse(replace(command, code="no"))

    def enrolled(self) -> World:
        """Ann and Ben with points, Cid to give to."""
        world = scene().world
        world.enrol(CID, GOLD, SILVER)
        return world

    @pytest.mark.parametrize("own", [False, True], ids=["none of his own", "one of his own, used"])
    def test_due(self, own: bool) -> None:
        """A code that is due for the victim is due for the survivor, in that program, as long as it was."""
        world = self.enrolled()
        if own:
            world.accept(IssueTransferOtp(transfer(1, BEN, CID)))
            world.accept(replace(transfer(1, BEN, CID), code=world.last_code()))
        world.accept(IssueTransferOtp(transfer(1, ANN, CID)))
        self.merged(world)
        before = told(world.ask(transfer(1, BEN, CID)))
        world.pass_time(hours=24)

        assert "INVALID_VALIDATION_CODE" == before[0]
        assert isinstance(world.ask(transfer(1, BEN, CID)), Accepted)

    def test_longer_due(self) -> None:
        """Of two that are due the later end counts, and a code of the survivor's own goes on to be good."""
        world = self.enrolled()
        world.accept(IssueTransferOtp(transfer(1, ANN, CID)))
        world.pass_time(minutes=2)
        world.accept(IssueTransferOtp(transfer(2, BEN, CID)))
        code = world.last_code()
        world.pass_time(minutes=1)
        self.merged(world)

        assert NOW + timedelta(hours=24, minutes=2) == world.otps[BEN, OtpAction.TRANSFER, GOLD].due_until
        assert isinstance(world.decide(replace(transfer(2, BEN, CID), code=code)), Accepted)
        assert isinstance(world.decide(transfer(1, BEN, CID)), Accepted)

    def test_no_longer_due(self) -> None:
        """A code whose day is over, or that was used, makes none due for the survivor."""
        for is_used in (True, False):
            world = self.enrolled()
            world.accept(IssueTransferOtp(transfer(1, ANN, CID)))
            if is_used:
                world.accept(replace(transfer(1, ANN, CID), code=world.last_code()))
            else:
                world.pass_time(hours=24)
            self.merged(world)

            assert isinstance(world.decide(transfer(1, BEN, CID)), Accepted)
            assert (BEN, OtpAction.TRANSFER, GOLD) not in world.otps

    def test_locked(self) -> None:
        """A lock by wrong codes stays on the points: the survivor's transfers are locked as long as hers were."""
        world = self.enrolled()
        self.wrong(world, ANN, 15)
        self.merged(world)
        locked = world.ask(transfer(1, BEN, CID))

        assert isinstance(locked, Refused)
        assert {"locked_until": "2026-03-15T12:15:00+00:00", "cause": "WRONG_CODES"} == locked.metadata

    def test_counted_together(self) -> None:
        """Wrong codes and issues of both add up, in a window from the first to the later end; what is over does not."""
        world = self.enrolled()
        self.wrong(world, ANN, 7)
        world.pass_time(minutes=1)
        self.wrong(world, BEN, 6)
        self.merged(world)
        together = world.otp_counters[BEN, OtpAction.TRANSFER]
        over = self.enrolled()
        self.wrong(over, ANN, 7)
        over.pass_time(minutes=15)
        self.wrong(over, BEN, 6)
        self.merged(over)

        assert OtpCounter(BEN, OtpAction.TRANSFER, NOW, NOW + timedelta(minutes=16), 4, 13) == together
        assert (2, 6) == self.counts(over)

    @pytest.mark.parametrize(("whose", "ends"), [(ANN, "12:00"), (BEN, "12:02")])
    def test_a_lock_by_a_longer_window_stays(self, whose: int, ends: str) -> None:
        """The longest of all programs tells whether a window goes on; of two that do, the later end holds."""
        world = self.enrolled()
        world.change_otp_policy(window_s=60, attempts_per_window=5)
        world.change_otp_policy(SILVER, window_s=86_400, attempts_per_window=5)
        self.wrong(world, whose, 5)
        world.pass_time(minutes=2)
        if whose == BEN:
            world.accept(IssueTransferOtp(transfer(1, ANN, CID)))
        self.merged(world)
        locked = world.ask(transfer(1, BEN, CID, program_id=SILVER))

        assert isinstance(locked, Refused)
        assert {"locked_until": f"2026-03-16T{ends}:00+00:00", "cause": "WRONG_CODES"} == locked.metadata

    def counts(self, world: World) -> tuple[int, int]:
        """Issues and wrong attempts of the survivor."""
        counter = world.otp_counters[BEN, OtpAction.TRANSFER]
        return counter.issues, counter.wrong_attempts


class TestInheritedVelocity:
    """What the victim transferred counts against the survivor's limits."""

    def test_limit(self) -> None:
        """A limit that both together have used up is used up for the survivor, and only in that program."""
        world = scene().world
        world.enrol(CID, GOLD, SILVER)
        world.accept(transfer(5, ANN, CID))
        world.pass_time(days=1)
        world.accept(transfer(3, BEN, CID))
        world.accept(transfer(4, ANN, CID))
        limit = VelocityLimit(Direction.OUT, Window.LAST_7_DAYS, points_max=12)
        world.change_transfer_policy(velocity_limits=(limit,))
        world.accept(merge())
        refused = world.refuse(transfer(1, BEN, CID))

        assert codes.TRANSFER_LIMIT_EXCEEDED is refused.code
        assert ("12", "12") == (refused.metadata["used"], refused.metadata["limit"])
        assert {
            (Direction.OUT, NOW.date()): (5, 1),
            (Direction.OUT, NOW.date() + timedelta(days=1)): (7, 2),
        } == world.velocity[world.wallet(BEN).key]

    def test_old_days(self) -> None:
        """Days of which either side may have left out its part are left out: half a count is none."""
        world = scene().world
        world.enrol(CID, GOLD)
        world.accept(transfer(5, BEN, CID))
        world.pass_time(days=9)
        world.accept(transfer(4, ANN, CID))
        key = world.wallet(ANN).key
        world.velocity[key] = {**world.velocity[key], (Direction.OUT, NOW.date() - timedelta(days=23)): (9, 9)}
        world.accept(merge())

        assert [NOW.date(), NOW.date() + timedelta(days=9)] == sorted(
            day for _, day in world.velocity[world.wallet(BEN).key]
        )


class TestReversals:
    """What the victim redeemed is given back to whoever lives on."""

    def redeemed(self) -> tuple[World, str]:
        """Ann redeemed 80 of two lots, one of which expires first, and was merged into Ben."""
        at = scene()
        at.world.accept(redeem(80))
        redemption_id = redemption_id_of(at.world.journal[-1].transaction_id)
        at.world.accept(at.command)
        return at.world, redemption_id

    @pytest.mark.parametrize("named", [ANN, BEN])
    def test_credited(self, named: int) -> None:
        """New lots of the survivor, drawn from those of the redemption; either may be named."""
        world, redemption_id = self.redeemed()
        before = world.balance(BEN).current

        result = world.accept(reverse(redemption_id, named))

        new = [world.lots[one.lot_id] for one in result.lots]
        assert [(BEN, 2, 2, 20), (BEN, 1, 1, 60)] == [
            (one.customer_id, one.parent_lot_id, one.root_lot_id, one.remaining) for one in new
        ]
        assert (world.balance(BEN),) == result.balances
        assert (before + 80, 0) == (world.balance(BEN).current, world.balance(ANN).current)
        assert BEN == world.journal[-1].customer_id

    def test_expired(self) -> None:
        """What belongs to a lot that expired is not credited."""
        world, redemption_id = self.redeemed()
        world.now = SOON + timedelta(seconds=1)

        result = world.accept(reverse(redemption_id, BEN))

        assert [(20, 60)] == [(one.credited, one.expired) for one in result.redemptions]

    def test_in_parts(self) -> None:
        """Part after part, until it is used up."""
        world, redemption_id = self.redeemed()
        for points in (10, 30, 40):
            world.accept(reverse(redemption_id, BEN, points=points))

        assert codes.REDEMPTION_ALREADY_REVERSED is world.refuse(reverse(redemption_id, BEN)).code
        assert 107 == world.balance(BEN).current

    def test_survivor_merged_again(self) -> None:
        """Down the whole line: the last survivor is credited, and may be named like all before."""
        world, redemption_id = self.redeemed()
        world.accept(merge(BEN, CID))

        for named in (ANN, BEN, CID):
            world.accept(reverse(redemption_id, named, points=10))

        assert (57, 0) == (world.balance(CID).current, world.balance(BEN).current)

    def test_bill_of_both(self) -> None:
        """Of a bill on which both redeemed, the survivor gets back all, and the victim is given what was its own."""
        world = metals()
        world.give(1, 30)
        world.give(2, 20, customer_id=BEN)
        world.accept(redeem(30, transaction_number="B-1"))
        world.accept(redeem(20, BEN, transaction_number="B-1"))
        world.accept(merge())

        of_the_victim = world.ask(reverse(transaction_number="B-1"))
        result = world.accept(reverse(customer_id=BEN, transaction_number="B-1"))

        assert isinstance(of_the_victim, Accepted)
        assert (30, 50) == (of_the_victim.result.asked, result.asked)  # type: ignore[union-attr]
        assert (50, 0) == (world.balance(BEN).current, world.balance(ANN).current)
        refused = world.refuse(reverse(customer_id=BEN, transaction_number="B-1"))
        assert codes.TRANSACTION_ALREADY_REVERSED is refused.code

    def test_bill_with_a_stranger(self) -> None:
        """Of a bill on which the victim and somebody else redeemed, the survivor gets back what was the victim's."""
        world = metals()
        world.enrol(CID, GOLD)
        world.give(1, 30)
        world.give(2, 10, customer_id=CID)
        world.accept(redeem(30, transaction_number="B-1"))
        world.accept(redeem(10, CID, transaction_number="B-1"))
        world.accept(merge())

        world.accept(reverse(customer_id=BEN, transaction_number="B-1"))

        assert (30, 0) == (world.balance(BEN).current, world.balance(CID).current)

    def test_stranger(self) -> None:
        """Anybody else is still refused, and so is the victim for what the survivor redeemed."""
        world, redemption_id = self.redeemed()
        world.accept(redeem(5, BEN))
        own = redemption_id_of(world.journal[-1].transaction_id)

        assert [codes.INVALID_CUSTOMER_DETAILS] * 2 == [
            world.refuse(reverse(redemption_id, CID)).code,
            world.refuse(reverse(own, ANN)).code,
        ]

    def test_fraud(self) -> None:
        """The status that judges is that of the survivor."""
        world, redemption_id = self.redeemed()
        world.change_customer(BEN, fraud_status=FraudStatus.MARKED)

        assert codes.CUSTOMER_FRAUD_OPERATION_BLOCKED is world.refuse(reverse(redemption_id, ANN)).code
