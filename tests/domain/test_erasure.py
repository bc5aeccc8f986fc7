"""Erasures: each cause of refusal, what is left of a customer, and what can be done with what is left."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from msgspec.structs import replace

from domain.defects import Defect, Scene, expected, in_command, in_world, pairs, spoiled, suffixes, told
from points_grpc import codes
from points_grpc.domain import events as ev
from points_grpc.domain.commands import (
    Command,
    CreateCustomer,
    EnrolCustomer,
    EraseCustomer,
    IssueTransferOtp,
    RecordPurchase,
    SetCustomerStatus,
    SetTransferLock,
)
from points_grpc.domain.decide import EXCLUSIVE
from points_grpc.domain.erasure import blanked, person_in, without_person
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX
from points_grpc.domain.model import Account, Customer, FraudStatus, Kind, StatusLabel, WalletKey
from points_grpc.domain.outcome import (
    Accepted,
    Challenge,
    CustomerResult,
    ErasureResult,
    IssueOtpResult,
    MergeResult,
    Refused,
    TransferResult,
)
from worlds import (
    ANN,
    BEN,
    BRONZE,
    CID,
    GOLD,
    NOW,
    SILVER,
    UNKNOWN,
    World,
    adjust,
    authorize,
    by_id,
    erase,
    issue,
    merge,
    metals,
    redeem,
    take_back,
    transfer,
)

SOON, LATER = NOW + timedelta(days=10), NOW + timedelta(days=20)
PERSON = {"first_name": "Ann", "last_name": "Ames", "mobile": "+919148500011", "email": "ann@example.org"}


def scene() -> Scene:
    """Ann, who was Cid too, has points in gold and silver, some promised, and asks to be forgotten: accepted."""
    world = metals()
    world.change_customer(ANN, **PERSON, external_id="A-1", locale="hi")
    world.change_customer(CID, first_name="Cid", mobile="+919148500013", merged_into=ANN)
    world.give(1, 60, expires_at=SOON)
    world.give(2, 40)
    world.give(3, 30, program_id=SILVER, available_from=SOON, expires_at=LATER)
    world.give(4, 7, customer_id=BEN)
    return Scene(world, erase())


def hold_some(world: World) -> None:
    """Something of Ann's is held."""
    world.give(5, 10, held=4)


DEFECTS = (
    Defect(
        "unknown",
        codes.CUSTOMER_NOT_FOUND,
        in_command(customer=UNKNOWN),
        {"party": "CUSTOMER"},
        "customer_identifier.value",
    ),
    Defect(
        "merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(ANN, merged_into=BEN)),
        {"customer_id": str(ANN), "survivor_id": str(BEN)},
    ),
    Defect(
        "org-paused",
        codes.PAUSED,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
    ),
    Defect(
        "program-paused",
        codes.PAUSED,
        in_world(lambda one: one.change_program(SILVER, paused=True)),
        {"cause": "PROGRAM_PAUSED"},
    ),
    Defect(
        "points-remain",
        codes.POINTS_REMAIN,
        in_command(forfeit_points=False),
        {"points": "130", "held": "0"},
    ),
    Defect(
        "held",
        codes.POINTS_REMAIN,
        in_world(hold_some),
        {"points": "140", "held": "4"},
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
        assert {"EraseCustomer", "*"} & set(defect.code.operations)
        assert set() == defect.metadata.keys() - set(defect.code.metadata_keys)
        assert set() == set(re.findall(r"{(\w+)}", defect.code.message)) - defect.metadata.keys()

    def test_pairs(self) -> None:
        """Of any two defects, the earlier one is refused."""
        for earlier, later in pairs(DEFECTS, EraseCustomer):
            outcome = spoiled(scene(), [earlier, later], lambda command: command)

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    def test_suffixes(self) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, EraseCustomer):
            outcome = spoiled(scene(), together, lambda command: command)

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"

    def test_paused_elsewhere(self) -> None:
        """A pause is nobody's business where no points move: a person is erased all the same."""
        at = scene()
        for program_id in (GOLD, SILVER):
            at.world.take_all(ANN, program_id)
        at.world.paused = True
        at.world.change_program(BRONZE, paused=True)

        assert isinstance(at.world.decide(erase(forfeit_points=False)), Accepted)

    def test_too_many_lots(self) -> None:
        """A customer with more lots than a command may touch, in all programs together, is not erased."""
        at = scene()
        for lot_id in range(10, 8 + LOTS_PER_COMMAND_MAX):
            at.world.lots[lot_id] = replace(at.world.lots[2], lot_id=lot_id, points=1, remaining=1)

        assert codes.TOO_MANY_LOTS is at.world.refuse(at.command).code


class TestDeed:
    """What an accepted erasure does."""

    def test_answer(self) -> None:
        """The answer names the numbers that stay, and the transactions that took the points."""
        at = scene()

        outcome = at.world.decide(at.command)

        ids = tuple(one.transaction_id for one in at.world.journal)
        assert Accepted(ErasureResult(ANN, (CID,), NOW, ids, 130, False), (), ids[0]) == outcome

    def test_what_stays(self) -> None:
        """Of the customer and whoever was merged into that one there are numbers left, and that they are gone."""
        at = scene()
        at.world.change_customer(ANN, fraud_status=FraudStatus.MARKED, transfers_locked_until=LATER)
        created_at = at.world.customers[ANN].created_at

        at.world.accept(at.command)

        blank = Customer(
            customer_id=ANN,
            first_name="",
            last_name="",
            mobile=None,
            email=None,
            external_id=None,
            campaign_contact=False,
            fraud_status=FraudStatus.NOT_FRAUD,
            status_label=StatusLabel.DELETED,
            transfers_locked_until=None,
            merged_into=None,
            created_at=created_at,
            erased_at=NOW,
        )
        assert [blank, replace(blank, customer_id=CID, merged_into=ANN)] == [
            at.world.customers[ANN],
            at.world.customers[CID],
        ]
        assert [ev.CustomersErased((ANN, CID))] == at.world.events(ev.CustomersErased)

    def test_points(self) -> None:
        """What each wallet had, promised points too, goes by an adjustment of that wallet; others have theirs."""
        at = scene()

        at.world.accept(at.command)

        assert [
            (Kind.ADJUSTMENT, ANN, GOLD, 100, "asked for in case 12"),
            (Kind.ADJUSTMENT, ANN, SILVER, 30, "asked for in case 12"),
        ] == [(one.kind, one.customer_id, one.program_id, one.points, one.notes) for one in at.world.journal]
        assert [(Account.WALLET, -60), (Account.WALLET, -40), (Account.ADJUSTED, 100)] == [
            (one.account, one.points) for one in at.world.journal[0].postings
        ]
        assert [(0, 0, None), (0, 0, None), (7, 0, None)] == [
            (one.current, one.promised, one.due_at)
            for one in (at.world.wallet(ANN), at.world.wallet(ANN, SILVER), at.world.wallet(BEN))
        ]

    def test_audit(self) -> None:
        """The audit log has who was erased by number alone, so that it can be done again after a restore."""
        at = scene()

        at.world.accept(at.command)

        [line] = at.world.events(ev.Audited)
        assert ("EraseCustomer", f"customer/{ANN}", "till-1", "asked for in case 12") == (
            line.action,
            line.subject,
            line.actor,
            line.reason,
        )
        assert [{"merged": [CID]}, {"erased": True, "points_forfeited": 130}] == [
            json.loads(line.before),
            json.loads(line.after),
        ]

    def test_live_code(self) -> None:
        """A code on its way is in nobody's way: it dies, with its message."""
        at = scene()
        at.world.accept(IssueTransferOtp(transfer(10)))

        at.world.accept(at.command)

        assert ({}, []) == (at.world.otps, at.world.outbox)

    def test_what_expired(self) -> None:
        """Points that expired are booked as such, and not forfeited."""
        at = scene()
        at.world.now = LATER + timedelta(days=1)

        result = at.world.accept(at.command)

        assert 40 == result.points_forfeited

    def test_again(self) -> None:
        """Erasing again is accepted and changes nothing, whatever it says of points."""
        at = scene()
        at.world.accept(at.command)
        at.world.pass_time(days=1)

        result = at.world.accept(erase(forfeit_points=False))

        assert ErasureResult(ANN, (CID,), NOW, (), 0, True) == result
        assert [] == at.world.changes.events

    def test_runs_alone(self) -> None:
        """An erasure has a batch to itself: what its batch would record could not be erased by it."""
        assert EraseCustomer in EXCLUSIVE


NAMING_ANN: tuple[tuple[Command, codes.Code], ...] = (
    (transfer(1, ANN, BEN), codes.TRANSFER_CUSTOMER_NOT_FOUND),
    (transfer(1, BEN, ANN), codes.TRANSFER_CUSTOMER_NOT_FOUND),
    (redeem(1), codes.CUSTOMER_NOT_IN_ORGANIZATION),
    (authorize(1), codes.CUSTOMER_NOT_IN_ORGANIZATION),
    (issue(1), codes.CUSTOMER_NOT_IN_ORGANIZATION),
    (adjust(1), codes.CUSTOMER_NOT_IN_ORGANIZATION),
    (merge(ANN, BEN), codes.CUSTOMER_NOT_FOUND),
    (merge(BEN, ANN), codes.CUSTOMER_NOT_FOUND),
    (EnrolCustomer(by_id(ANN), GOLD), codes.CUSTOMER_NOT_FOUND),
    (SetCustomerStatus(by_id(ANN), None, StatusLabel.ACTIVE, "back"), codes.CUSTOMER_NOT_FOUND),
    (SetTransferLock(by_id(ANN), None, "back"), codes.CUSTOMER_NOT_FOUND),
    (RecordPurchase(by_id(ANN), GOLD, "B-1", 100), codes.CUSTOMER_NOT_FOUND),
)


class TestAfterwards:
    """What becomes of commands that name who was erased."""

    @pytest.mark.parametrize(("command", "code"), NAMING_ANN, ids=lambda one: type(one).__name__)
    def test_unknown(self, command: Command, code: codes.Code) -> None:
        """Whoever was erased is refused as one who never was, wherever the number is named."""
        at = scene()
        at.world.accept(at.command)

        assert code is at.world.refuse(command).code

    def test_identifiers_are_free(self) -> None:
        """The identifiers are free for somebody else, who has nothing of what was there."""
        at = scene()
        at.world.accept(at.command)

        result = at.world.accept(_create(99))

        assert ("+919148500011", "ann@example.org", "A-1") == (
            result.customer.mobile,
            result.customer.email,
            result.customer.external_id,
        )

    def test_number_is_never_given_again(self) -> None:
        """The number is taken for good: the journal has it."""
        at = scene()
        at.world.accept(at.command)

        refused = at.world.refuse(_create(ANN))

        assert (codes.RESOURCE_EXISTS, "customer_id") == (refused.code, refused.field)

    @pytest.mark.parametrize("partial", [False, True])
    def test_transfer_is_not_taken_back(self, *, partial: bool) -> None:
        """A transfer from who was erased is not given back to nobody."""
        at = scene()
        made = at.world.accept(transfer(10))
        at.world.accept(at.command)

        refused = at.world.refuse(take_back(made.transfer_id, partial=partial))

        assert (codes.TRANSFER_CUSTOMER_NOT_FOUND, {"party": "SOURCE"}) == (refused.code, refused.metadata)

    def test_merged_account(self) -> None:
        """An account that was merged into the customer is unknown, too."""
        at = scene()
        at.world.accept(at.command)

        assert codes.CUSTOMER_NOT_IN_ORGANIZATION is at.world.refuse(redeem(1, CID)).code
        assert ErasureResult(CID, (), NOW, (), 0, True) == at.world.accept(erase(CID))


def _create(customer_id: int) -> CreateCustomer:
    """Somebody new with the identifiers of Ann."""
    named = {name: PERSON[name] for name in ("mobile", "email")}
    return CreateCustomer(customer_id, "New", "One", **named, external_id="A-1", program_ids=(), campaign_contact=False)


class TestRecordedAnswers:
    """What is kept of answers that name somebody."""

    def _challenge(self) -> IssueOtpResult:
        return IssueOtpResult(Challenge("+91******0011", ("MOBILE",), NOW, 5, ANN))

    def test_whose(self) -> None:
        """An answer that names somebody says whom; one with numbers alone, nobody."""
        at = scene()
        somebody = at.world.customers[ANN]
        transferred = at.world.accept(transfer(10))

        assert [ANN, ANN, ANN, None] == [
            person_in(CustomerResult(somebody, (GOLD,))),
            person_in(MergeResult(somebody, (GOLD,), CID, None, 0, 0, ())),
            person_in(self._challenge()),
            person_in(transferred),
        ]

    def test_blanked(self) -> None:
        """A blanked answer has all that it had, but for names, identifiers, language, masked address and notes."""
        at = scene()
        somebody = at.world.customers[ANN]
        transferred = at.world.accept(transfer(10, notes="for Ann"))

        assert isinstance(transferred, TransferResult)
        assert [
            CustomerResult(without_person(somebody), (GOLD,)),
            IssueOtpResult(Challenge("", ("MOBILE",), NOW, 5, ANN)),
            replace(transferred, notes=""),
        ] == [blanked(one) for one in (CustomerResult(somebody, (GOLD,)), self._challenge(), transferred)]
        assert {"Ann", "Ames", "+919148500011", "ann@example.org", "A-1", "hi"}.isdisjoint(
            str(getattr(without_person(somebody), name)) for name in Customer.__struct_fields__
        )

    def test_wallet_of_nobody(self) -> None:
        """The wallets stay where they are, empty, for the journal to refer to."""
        at = scene()
        at.world.accept(at.command)

        assert {WalletKey(ANN, GOLD), WalletKey(ANN, SILVER)} <= at.world.wallets.keys()
