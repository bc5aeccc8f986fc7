"""Customers: creation, enrolment, statuses, locks, purchases. Each change of a status or lock is audited."""

from __future__ import annotations

import json

from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.commands import (
    CreateCustomer,
    EnrolCustomer,
    RecordMissedCall,
    RecordPurchase,
    SetCustomerStatus,
    SetTransferLock,
)
from points_grpc.domain.context import Context
from points_grpc.domain.events import (
    Audited,
    CustomerSaved,
    Enrolled,
    Event,
    LifetimeRaised,
    MissedCallRecorded,
    PurchaseRecorded,
)
from points_grpc.domain.model import (
    Customer,
    FraudStatus,
    Identifier,
    IdentifierType,
    MissedCall,
    ProgramBook,
    Purchase,
    StatusLabel,
    WalletKey,
)
from points_grpc.domain.outcome import (
    Accepted,
    CustomerResult,
    Decision,
    MissedCallResult,
    PurchaseResult,
    Refused,
)
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot

CustomerChange = EnrolCustomer | SetCustomerStatus | SetTransferLock | RecordPurchase | RecordMissedCall


def creation_lookups(command: CreateCustomer) -> Lookups:
    """The identifiers that must be free."""
    named = [
        Identifier(kind, value)
        for kind, value in (
            (IdentifierType.ID, str(command.customer_id) if command.customer_id else None),
            (IdentifierType.MOBILE, command.mobile),
            (IdentifierType.EMAIL, command.email),
            (IdentifierType.EXTERNAL_ID, command.external_id),
        )
        if value is not None
    ]
    return Lookups(identifiers=tuple(named))


def creation_keys(command: CreateCustomer, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001
    """Whoever has one of the identifiers already."""
    named = creation_lookups(command).identifiers
    return Keys(customers=frozenset(directory.customers[one] for one in named if one in directory.customers))


def change_lookups(command: CustomerChange) -> Lookups:
    """The customer to change, and whose the bill of a purchase is already."""
    return Lookups(identifiers=(command.customer,), bills=_bills(command))


def change_keys(command: CustomerChange, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001
    """The customer to change, the bill of a purchase, and whose that is already, with whoever lives on for that one."""
    customer_id = directory.customers.get(command.customer)
    bills = _bills(command)
    owners = directory.with_survivors(directory.bills[one] for one in bills if one in directory.bills)
    return Keys(
        customers=owners if customer_id is None else owners | {customer_id},
        transaction_numbers=frozenset(bills),
    )


def decide_creation(command: CreateCustomer, context: Context, snapshot: Snapshot) -> Decision:
    """Creates the customer with enrolments; refuses a taken identifier (10013), an unknown or ended program (895)."""
    for identifier in creation_lookups(command).identifiers:
        if snapshot.on_record(identifier) is not None:
            return Decision(Refused(codes.RESOURCE_EXISTS, {"resource": "customer"}, field=_field_of(identifier)))
    programs = [snapshot.book.programs.get(one) for one in command.program_ids]
    if not all(program is not None and program.active for program in programs):
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="enrolled_program_ids"))
    customer = Customer(
        customer_id=command.customer_id or context.next_id(),
        first_name=command.first_name,
        last_name=command.last_name,
        mobile=command.mobile,
        email=command.email,
        external_id=command.external_id,
        campaign_contact=command.campaign_contact,
        fraud_status=FraudStatus.NOT_FRAUD,
        status_label=StatusLabel.ACTIVE,
        transfers_locked_until=None,
        merged_into=None,
        created_at=snapshot.now,
        locale=command.locale,
    )
    program_ids = tuple(sorted(set(command.program_ids)))
    enrolments = (Enrolled(WalletKey(customer.customer_id, one), snapshot.now) for one in program_ids)
    result = CustomerResult(customer, program_ids)
    return Decision(Accepted(result), (CustomerSaved(customer, created=True), *enrolments))


def decide_enrolment(command: EnrolCustomer, context: Context, snapshot: Snapshot) -> Decision:  # noqa: ARG001
    """Enrols the customer; a campaign contact becomes a member. Enrolling again changes nothing."""
    program = snapshot.book.program(command.program_id)
    if program is None or not program.active:
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id"))
    customer = snapshot.find(command.customer)
    if refused := _refusal(customer):
        return Decision(refused)
    assert customer is not None
    key = WalletKey(customer.customer_id, program.program_id)
    wallet = snapshot.wallet(key)
    events: list[Event] = []
    if customer.campaign_contact:
        customer = replace(customer, campaign_contact=False)
        events.append(CustomerSaved(customer, created=False))
    if wallet is None or wallet.enrolled_at is None:
        events.append(Enrolled(key, snapshot.now))
    program_ids = {*_program_ids(customer, snapshot), program.program_id}
    return Decision(Accepted(CustomerResult(customer, tuple(sorted(program_ids)))), tuple(events))


def decide_status(command: SetCustomerStatus, context: Context, snapshot: Snapshot) -> Decision:
    """Sets fraud status and label."""
    customer = snapshot.find(command.customer)
    if refused := _refusal(customer):
        return Decision(refused)
    assert customer is not None
    after = replace(
        customer,
        fraud_status=command.fraud_status or customer.fraud_status,
        status_label=command.status_label or customer.status_label,
    )
    return _changed(
        customer,
        after,
        context,
        snapshot,
        action="SetCustomerStatus",
        before={"fraud_status": customer.fraud_status.name, "status_label": customer.status_label.name},
        now={"fraud_status": after.fraud_status.name, "status_label": after.status_label.name},
        reason=command.reason,
    )


def decide_lock(command: SetTransferLock, context: Context, snapshot: Snapshot) -> Decision:
    """Locks outgoing transfers until a time, or lifts the lock."""
    customer = snapshot.find(command.customer)
    if refused := _refusal(customer):
        return Decision(refused)
    assert customer is not None
    after = replace(customer, transfers_locked_until=command.locked_until)
    before = customer.transfers_locked_until
    return _changed(
        customer,
        after,
        context,
        snapshot,
        action="SetTransferLock",
        before={"locked_until": before.isoformat() if before else None},
        now={"locked_until": command.locked_until.isoformat() if command.locked_until else None},
        reason=command.reason,
    )


def decide_purchase(command: RecordPurchase, context: Context, snapshot: Snapshot) -> Decision:  # noqa: ARG001
    """Records the bill once, and raises the customer's lifetime purchases.

    A bill that only an issue named has no amount yet: it is recorded for whom it was named, or for the survivor.
    """
    program = snapshot.book.program(command.program_id)
    if program is None or not program.active:
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id"))
    customer = snapshot.find(command.customer)
    if refused := _refusal(customer):
        return Decision(refused)
    assert customer is not None
    key = WalletKey(customer.customer_id, program.program_id)
    wallet = snapshot.wallet(key)
    if wallet is None or wallet.enrolled_at is None:
        return Decision(Refused(codes.CUSTOMER_NOT_ENROLLED, {"program_id": str(program.program_id)}))
    known = snapshot.purchase(command.transaction_number)
    if known is not None and (
        known.amount is not None or not snapshot.speaks_for(customer.customer_id, known.customer_id)
    ):
        refused = Refused(codes.RESOURCE_EXISTS, {"resource": "transaction number"}, field="transaction_number")
        return Decision(refused)
    purchase = Purchase(command.transaction_number, customer.customer_id, program.program_id, command.amount)
    total = wallet.lifetime_purchases + command.amount
    events = (PurchaseRecorded(purchase), LifetimeRaised(key, purchases=command.amount))
    return Decision(Accepted(PurchaseResult(total)), events)


def decide_missed_call(command: RecordMissedCall, context: Context, snapshot: Snapshot) -> Decision:
    """Records the call of the customer whose registered mobile it came from."""
    customer = snapshot.find(command.customer)
    if refused := _refusal(customer, field="mobile_number"):
        return Decision(refused)
    assert customer is not None
    called_at = command.called_at or snapshot.now
    call = MissedCall(
        call_id=context.next_id(),
        customer_id=customer.customer_id,
        mobile=command.customer.value,
        called_at=called_at,
        recorded_at=snapshot.now,
    )
    return Decision(Accepted(MissedCallResult(customer.customer_id, called_at)), (MissedCallRecorded(call),))


def _bills(command: CustomerChange) -> tuple[str, ...]:
    return (command.transaction_number,) if isinstance(command, RecordPurchase) else ()


def _field_of(identifier: Identifier) -> str:
    return "customer_id" if identifier.type is IdentifierType.ID else "identifiers"


def _refusal(customer: Customer | None, *, field: str = "customer_identifier.value") -> Refused | None:
    if customer is None:
        return Refused(codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}, field=field)
    if customer.merged_into is not None:
        return Refused(
            codes.MERGED_CUSTOMER,
            {"customer_id": str(customer.customer_id), "survivor_id": str(customer.merged_into)},
        )
    return None


def _program_ids(customer: Customer, snapshot: Snapshot) -> tuple[int, ...]:
    wallets = (snapshot.wallet(key) for key in snapshot.wallets_of(customer.customer_id))
    return tuple(sorted(wallet.program_id for wallet in wallets if wallet and wallet.enrolled_at))


def _changed(
    customer: Customer,
    after: Customer,
    context: Context,
    snapshot: Snapshot,
    *,
    action: str,
    before: dict[str, str | None],
    now: dict[str, str | None],
    reason: str,
) -> Decision:
    audited = Audited(
        audit_id=context.next_id(),
        at=snapshot.now,
        actor=context.actor,
        action=action,
        subject=f"customer/{customer.customer_id}",
        before=json.dumps(before),
        after=json.dumps(now),
        reason=reason,
    )
    result = CustomerResult(after, _program_ids(after, snapshot))
    return Decision(Accepted(result), (CustomerSaved(after, created=False), audited))
