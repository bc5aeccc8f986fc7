"""Customers: creation, enrolment, statuses, locks and purchases."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from domain.defects import told
from points_grpc import codes
from points_grpc.domain.commands import (
    Command,
    CreateCustomer,
    EnrolCustomer,
    RecordPurchase,
    SetCustomerStatus,
    SetTransferLock,
)
from points_grpc.domain.events import Audited, CustomerSaved, Enrolled, LifetimeRaised, PurchaseRecorded
from points_grpc.domain.model import Customer, FraudStatus, Purchase, StatusLabel, WalletKey
from points_grpc.domain.outcome import Accepted, CustomerResult, PurchaseResult
from worlds import (
    ANN,
    BEN,
    BRONZE,
    CID,
    FIRST_ID,
    GOLD,
    NOW,
    SILVER,
    UNKNOWN,
    World,
    by_id,
    issue,
    merge,
    metals,
    transfer,
)

LATER = NOW + timedelta(days=1)


def creation(**given: Any) -> CreateCustomer:
    """Creates Dan, known by everything and a member of gold."""
    fields: dict[str, Any] = {
        "customer_id": 14,
        "first_name": "Dan",
        "last_name": "Dee",
        "mobile": "+919876540014",
        "email": "dan@example.com",
        "external_id": "X-14",
        "program_ids": (GOLD,),
        "campaign_contact": False,
        "locale": "pt-BR",
    }
    return CreateCustomer(**fields | given)


KNOWN_BILL = (codes.RESOURCE_EXISTS, {"resource": "transaction number"}, "transaction_number")
"""What a purchase is refused with whose bill is recorded, or somebody else's."""


class TestCreation:
    """How a customer comes into being."""

    def test_created(self) -> None:
        """A new customer is in good standing, and enrolled from now on in the programs named."""
        world = metals()

        outcome = world.decide(creation(program_ids=(SILVER, GOLD, SILVER)))

        dan = Customer(
            customer_id=14,
            first_name="Dan",
            last_name="Dee",
            mobile="+919876540014",
            email="dan@example.com",
            external_id="X-14",
            campaign_contact=False,
            fraud_status=FraudStatus.NOT_FRAUD,
            status_label=StatusLabel.ACTIVE,
            transfers_locked_until=None,
            merged_into=None,
            created_at=NOW,
            locale="pt-BR",
        )
        assert Accepted(CustomerResult(dan, (GOLD, SILVER))) == outcome
        assert [
            CustomerSaved(dan, created=True),
            Enrolled(WalletKey(14, GOLD), NOW),
            Enrolled(WalletKey(14, SILVER), NOW),
        ] == world.changes.events
        assert (NOW, 0, 0) == (world.wallet(14).enrolled_at, world.wallet(14).version, world.wallet(14).current)

    def test_id(self) -> None:
        """Without an id the server chooses one."""
        assert FIRST_ID + 1 == metals().accept(creation(customer_id=0)).customer.customer_id

    def test_bare(self) -> None:
        """A customer can be known by the id alone, as a contact of a campaign."""
        world = metals()

        world.accept(creation(mobile=None, email=None, external_id=None, program_ids=(), campaign_contact=True))

        assert (None, None, None, True) == (
            world.customers[14].mobile,
            world.customers[14].email,
            world.customers[14].external_id,
            world.customers[14].campaign_contact,
        )

    @pytest.mark.parametrize(
        ("taken", "field"),
        [
            ({"customer_id": ANN}, "customer_id"),
            ({"mobile": "+919876540011"}, "identifiers"),
            ({"email": "c11@example.com"}, "identifiers"),
            ({"external_id": "X-11"}, "identifiers"),
        ],
    )
    def test_taken(self, taken: dict[str, Any], field: str) -> None:
        """An identifier that somebody has is refused, without saying whose it is."""
        refused = metals().refuse(creation(**taken))

        assert codes.RESOURCE_EXISTS is refused.code
        assert ({"resource": "customer"}, field) == (refused.metadata, refused.field)

    def test_verbatim(self) -> None:
        """External ids are compared to the letter."""
        assert isinstance(metals().decide(creation(external_id="x-11")), Accepted)

    def test_unknown_program(self) -> None:
        """Nobody is enrolled in a program that is not there."""
        refused = metals().refuse(creation(program_ids=(GOLD, 77)))

        assert (codes.PROGRAM_NOT_CONFIGURED, "enrolled_program_ids") == (refused.code, refused.field)

    def test_ended_program(self) -> None:
        """Nor in one that has ended."""
        world = metals()
        world.programs[SILVER] = replace(world.programs[SILVER], active=False)

        refused = world.refuse(creation(program_ids=(GOLD, SILVER)))

        assert (codes.PROGRAM_NOT_CONFIGURED, "enrolled_program_ids") == (refused.code, refused.field)


class TestEnrolment:
    """How a customer joins a program."""

    def test_enrolled(self) -> None:
        """The wallet exists from then on, and the answer names all programs of the customer."""
        world = metals()

        result = world.accept(EnrolCustomer(by_id(ANN), BRONZE))

        assert (GOLD, SILVER, BRONZE) == result.program_ids
        assert [Enrolled(WalletKey(ANN, BRONZE), NOW)] == world.changes.events
        assert isinstance(world.decide(issue(5, program_id=BRONZE)), Accepted)

    def test_again(self) -> None:
        """Enrolling again changes nothing."""
        world = metals()

        result = world.accept(EnrolCustomer(by_id(ANN), 0))

        assert (GOLD, SILVER) == result.program_ids
        assert [] == world.changes.events

    def test_campaign_contact(self) -> None:
        """A contact of a campaign becomes a member."""
        world = metals()
        world.change_customer(CID, campaign_contact=True)

        result = world.accept(EnrolCustomer(by_id(CID), GOLD))

        assert not world.customers[CID].campaign_contact
        assert CustomerResult(world.customers[CID], (GOLD,)) == result
        assert [CustomerSaved(world.customers[CID], created=False), Enrolled(WalletKey(CID, GOLD), NOW)] == (
            world.changes.events
        )


class TestStatus:
    """Statuses and locks, with their trace."""

    @pytest.mark.parametrize(
        ("fraud", "label", "wanted"),
        [
            (FraudStatus.CONFIRMED, StatusLabel.SUSPENDED, ("CONFIRMED", "SUSPENDED")),
            (FraudStatus.CONFIRMED, None, ("CONFIRMED", "ACTIVE")),
            (None, StatusLabel.DELETED, ("NOT_FRAUD", "DELETED")),
            (None, None, ("NOT_FRAUD", "ACTIVE")),
        ],
    )
    def test_status(self, fraud: FraudStatus | None, label: StatusLabel | None, wanted: tuple[str, str]) -> None:
        """What is given is set, the rest stays; who did it, and why, is kept."""
        world = metals()

        result = world.accept(SetCustomerStatus(by_id(ANN), fraud, label, "called in"))

        customer = world.customers[ANN]
        assert wanted == (customer.fraud_status.name, customer.status_label.name)
        assert CustomerResult(customer, (GOLD, SILVER)) == result
        [audited] = world.events(Audited)
        assert ("till-1", "SetCustomerStatus", "customer/11", "called in", NOW) == (
            audited.actor,
            audited.action,
            audited.subject,
            audited.reason,
            audited.at,
        )
        assert {"fraud_status": "NOT_FRAUD", "status_label": "ACTIVE"} == json.loads(audited.before)
        assert dict(zip(("fraud_status", "status_label"), wanted, strict=True)) == json.loads(audited.after)

    def test_lock(self) -> None:
        """A lock holds until its time or until it is lifted; both are kept."""
        world = metals()
        world.give(1, 100)
        world.accept(SetTransferLock(by_id(ANN), LATER, "lost phone"))
        [locked] = world.events(Audited)
        refused = world.decide(transfer(5))
        world.accept(SetTransferLock(by_id(ANN), None, "found it"))
        [lifted] = world.events(Audited)

        assert ("TRANSFER_LOCKED", "OPERATOR", None) == told(refused)
        assert isinstance(world.decide(transfer(5)), Accepted)
        texts = [
            json.loads(text)["locked_until"] for text in (locked.before, locked.after, lifted.before, lifted.after)
        ]
        assert [None, LATER.isoformat(), LATER.isoformat(), None] == texts


class TestPurchase:
    """Bills and what was paid on them."""

    def test_recorded(self) -> None:
        """The bill becomes known, and lifetime purchases rise."""
        world = metals()
        world.accept(RecordPurchase(by_id(ANN), 0, "B-1", 700))

        result = world.accept(RecordPurchase(by_id(ANN), GOLD, "B-2", 50))

        assert PurchaseResult(750) == result
        assert 750 == world.wallet(ANN).lifetime_purchases
        assert [
            PurchaseRecorded(Purchase("B-2", ANN, GOLD, 50)),
            LifetimeRaised(WalletKey(ANN, GOLD), purchases=50),
        ] == world.changes.events

    def test_twice(self) -> None:
        """A bill is recorded once, in one batch as in two."""
        world = metals()
        bill = RecordPurchase(by_id(ANN), GOLD, "B-1", 700)

        first, second = world.decide_batch([bill, bill])

        assert isinstance(first, Accepted)
        refused = world.refuse(bill)
        assert second == refused
        assert KNOWN_BILL == (refused.code, refused.metadata, refused.field)
        assert 700 == world.wallet(ANN).lifetime_purchases

    def test_after_an_issue(self) -> None:
        """A bill that only an issue named gets its amount."""
        world = metals()

        world.decide_batch([issue(5, transaction_number="B-1"), RecordPurchase(by_id(ANN), GOLD, "B-1", 700)])

        assert {"B-1": Purchase("B-1", ANN, GOLD, 700)} == world.purchases
        assert 700 == world.wallet(ANN).lifetime_purchases

    def test_bill_of_another(self) -> None:
        """A bill that is known as another customer's is recorded for nobody else, in one batch as in two."""
        world = metals()
        bill = RecordPurchase(by_id(BEN), GOLD, "B-1", 700)

        _, at_once = world.decide_batch([issue(5, transaction_number="B-1"), bill])

        refused = world.refuse(bill)
        assert at_once == refused
        assert KNOWN_BILL == (refused.code, refused.metadata, refused.field)
        assert {"B-1": Purchase("B-1", ANN, GOLD, None)} == world.purchases
        assert 0 == world.wallet(BEN).lifetime_purchases

    def test_bill_of_one_who_was_merged(self) -> None:
        """The bill that an issue named for somebody who was merged away gets its amount in the survivor's name."""
        world = metals()
        world.accept(issue(5, transaction_number="B-1"))
        world.accept(merge())

        world.accept(RecordPurchase(by_id(BEN), GOLD, "B-1", 700))

        assert {"B-1": Purchase("B-1", BEN, GOLD, 700)} == world.purchases

    def test_not_enrolled(self) -> None:
        """A purchase needs an enrolment."""
        refused = metals().refuse(RecordPurchase(by_id(CID), GOLD, "B-1", 700))

        assert (codes.CUSTOMER_NOT_ENROLLED, {"program_id": "1"}) == (refused.code, refused.metadata)


CHANGES: tuple[Command, ...] = (
    EnrolCustomer(by_id(ANN), GOLD),
    SetCustomerStatus(by_id(ANN), FraudStatus.MARKED, None, "why"),
    SetTransferLock(by_id(ANN), LATER, "why"),
    RecordPurchase(by_id(ANN), GOLD, "B-1", 700),
)


@pytest.mark.parametrize("command", CHANGES, ids=lambda one: type(one).__name__)
class TestRefusals:
    """What every change of a customer refuses."""

    def test_unknown(self, command: Any) -> None:
        """A customer whom nobody knows is 8015."""
        refused = metals().refuse(replace(command, customer=UNKNOWN))

        assert (codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}, "customer_identifier.value") == (
            refused.code,
            refused.metadata,
            refused.field,
        )

    def test_merged(self, command: Any) -> None:
        """An account that was merged away is 419."""
        world = metals()
        world.change_customer(ANN, merged_into=CID)
        refused = world.refuse(command)

        assert (codes.MERGED_CUSTOMER, {"customer_id": "11", "survivor_id": "13"}) == (refused.code, refused.metadata)

    @pytest.mark.parametrize("gone", [False, True])
    def test_program(self, command: Any, gone: bool) -> None:
        """A program that is unknown or inactive is 895, where one is named."""
        world: World = metals()
        if not hasattr(command, "program_id"):
            return
        if gone:
            world.change_program(active=False)

        refused = world.refuse(command if gone else replace(command, program_id=77))

        assert (codes.PROGRAM_NOT_CONFIGURED, "program_id") == (refused.code, refused.field)
