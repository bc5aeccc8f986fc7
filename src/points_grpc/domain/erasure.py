"""Erasure: what says who a customer was is taken away, and the journal stays whole.

Rules of this file: the guards of `judge` stand one a line. Whoever was merged into the customer is erased along, since
both were one person. Points that remain are refused, or forfeited by an adjustment of each wallet; points that are held
are refused in any case, because somebody waits for them. What is erased in storage beside the customers' rows is what
`CustomersErased` says there; what recorded answers keep of a person is blanked by `without_person` and `blanked`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.commands import EraseCustomer
from points_grpc.domain.context import Context
from points_grpc.domain.events import Audited, Booked, CustomerSaved, CustomersErased, DueMoved, Event
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX, TooManyLots
from points_grpc.domain.model import (
    Account,
    Customer,
    FraudStatus,
    JournalEntry,
    Kind,
    Lot,
    ProgramBook,
    StatusLabel,
    Wallet,
    WalletKey,
)
from points_grpc.domain.outcome import (
    Accepted,
    CheckRedemptionResult,
    CheckTransferResult,
    CustomerResult,
    Decision,
    ErasureResult,
    IssueOtpResult,
    MergeResult,
    Refused,
    Result,
    TransferResult,
)
from points_grpc.domain.snapshot import ANY_POINTS, Directory, Keys, Lookups, Snapshot


def lookups(command: EraseCustomer) -> Lookups:
    """Whom an erasure names, and all who were merged into that one."""
    return Lookups(identifiers=(command.customer,), families=(command.customer,))


def keys(command: EraseCustomer, directory: Directory, book: ProgramBook) -> Keys:
    """What an erasure needs loaded: the whole family, and all lots."""
    customer_id = directory.customers.get(command.customer)
    if customer_id is None:
        return Keys()
    family = frozenset({customer_id, *directory.families.get(customer_id, ())})
    return Keys(
        customers=family,
        draws={WalletKey(one, program_id): ANY_POINTS for one in family for program_id in book.programs},
    )


def decide(command: EraseCustomer, context: Context, snapshot: Snapshot) -> Decision:
    """Erases the customer, or says why not. Who was erased before is left as it is."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    erased_at = case.customer.erased_at
    if erased_at is not None:
        return Decision(Accepted(ErasureResult(case.customer.customer_id, case.merged_ids, erased_at, (), 0, True)))
    booked = [_forfeit(case, wallet, lots, context) for wallet, lots in case.full_wallets]
    points = sum(entry.points for entry in booked)
    result = ErasureResult(
        customer_id=case.customer.customer_id,
        merged_ids=case.merged_ids,
        erased_at=snapshot.now,
        transaction_ids=tuple(entry.transaction_id for entry in booked),
        points_forfeited=points,
        repeated=False,
    )
    transaction_id = booked[0].transaction_id if booked else None
    return Decision(Accepted(result, (), transaction_id), (*_moved(booked), *_erased(case, context, points)))


class Case:
    """An erasure on its way through the guards. None: there is no such customer."""

    __slots__ = ("command", "named", "snapshot")

    def __init__(self, command: EraseCustomer, snapshot: Snapshot) -> None:
        """Finds whom the command names."""
        self.command = command
        self.snapshot = snapshot
        self.named = snapshot.on_record(command.customer)

    @property
    def customer(self) -> Customer:
        """Who is erased; known once `customer_is_known` has passed."""
        assert self.named is not None
        return self.named

    @property
    def merged_ids(self) -> tuple[int, ...]:
        """Who was merged into the customer, directly or on the way."""
        return self.snapshot.merged_into(self.customer.customer_id)

    @property
    def family(self) -> Sequence[Customer]:
        """The customer and those merged into that one: one person."""
        return [self.customer, *(self.snapshot.customer(one) for one in self.merged_ids)]

    @property
    def wallets(self) -> Sequence[Wallet]:
        """All wallets of the person; those of who was merged away are empty. What expired was booked before."""
        found = (
            self.snapshot.wallet(key)
            for one in self.family
            for key in sorted(self.snapshot.wallets_of(one.customer_id))
        )
        return [wallet for wallet in found if wallet is not None]

    @property
    def full_wallets(self) -> Sequence[tuple[Wallet, Sequence[Lot]]]:
        """The wallets with points, and their lots, promised ones too."""
        found: list[tuple[Wallet, Sequence[Lot]]] = []
        left = LOTS_PER_COMMAND_MAX
        for wallet in self.wallets:
            if not wallet.current:
                continue
            lots = tuple(islice(self.snapshot.lots_in_spending_order(wallet.key), left + 1))
            if len(lots) > left:
                raise TooManyLots
            left -= len(lots)
            found.append((wallet, lots))
        return found


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the erasure."""
    return (
        customer_is_known(case) or customer_is_not_merged_away(case) or operations_run(case) or points_are_settled(case)
    )


def customer_is_known(case: Case) -> Refused | None:
    """8015: no such customer in the organisation."""
    if case.named is None:
        return Refused(codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}, field="customer_identifier.value")
    return None


def customer_is_not_merged_away(case: Case) -> Refused | None:
    """419: the account was merged away: the survivor is to be erased, and this one goes along."""
    if case.customer.merged_into is None or case.customer.erased_at is not None:
        return None
    return Refused(
        codes.MERGED_CUSTOMER,
        {"customer_id": str(case.customer.customer_id), "survivor_id": str(case.customer.merged_into)},
    )


def operations_run(case: Case) -> Refused | None:
    """898: points would have to move, and an operator paused the organisation or a program in which they lie."""
    book = case.snapshot.book
    with_points = [wallet.program_id for wallet in case.wallets if wallet.current]
    if with_points and book.paused:
        return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"})
    if book.is_paused(with_points):
        return Refused(codes.PAUSED, {"cause": "PROGRAM_PAUSED"})
    return None


def points_are_settled(case: Case) -> Refused | None:
    """10019: points are held, or remain and may not be forfeited."""
    held = sum(wallet.held for wallet in case.wallets)
    points = sum(wallet.current for wallet in case.wallets)
    if not held and (case.command.forfeit_points or not points):
        return None
    return Refused(codes.POINTS_REMAIN, {"points": str(points), "held": str(held)})


# -- what the deed needs ---------------------------------------------------------------------------------------------


def _forfeit(case: Case, wallet: Wallet, lots: Iterable[Lot], context: Context) -> JournalEntry:
    """Takes away all that a wallet has."""
    entry = EntryBuilder(case.snapshot)
    for lot in lots:
        entry.post(wallet.key, lot.lot_id, -lot.remaining)
    entry.system(Account.ADJUSTED, wallet.program_id, wallet.current)
    return entry.build(
        transaction_id=context.next_id(),
        kind=Kind.ADJUSTMENT,
        customer_id=wallet.customer_id,
        program_id=wallet.program_id,
        points=wallet.current,
        context=context,
        notes=case.command.reason,
        policy_revision=case.snapshot.book.programs[wallet.program_id].policy.revision,
    )


def _moved(booked: Iterable[JournalEntry]) -> Iterator[Event]:
    """The forfeits; nothing is due in an empty wallet."""
    for entry in booked:
        yield Booked(entry)
        yield DueMoved(WalletKey(entry.customer_id, entry.program_id), None)


def _erased(case: Case, context: Context, points: int) -> Iterator[Event]:
    """Everybody as they are now, and the line of the audit log: by ids alone, so that it can be applied again."""
    for one in case.family:
        yield CustomerSaved(_gone(one, case.snapshot.now), created=False)
    yield CustomersErased(tuple(one.customer_id for one in case.family))
    yield Audited(
        audit_id=context.next_id(),
        at=case.snapshot.now,
        actor=context.actor,
        action="EraseCustomer",
        subject=f"customer/{case.customer.customer_id}",
        before=json.dumps({"merged": list(case.merged_ids)}),
        after=json.dumps({"erased": True, "points_forfeited": points}),
        reason=case.command.reason,
    )


def _gone(customer: Customer, at: datetime) -> Customer:
    """What stays of a customer: the number, when it was made, and into whom it was merged."""
    return replace(
        without_person(customer),
        campaign_contact=False,
        fraud_status=FraudStatus.NOT_FRAUD,
        status_label=StatusLabel.DELETED,
        transfers_locked_until=None,
        messages_failed=False,
        erased_at=at,
    )


# -- what is kept beside the journal ---------------------------------------------------------------------------------


def without_person(customer: Customer) -> Customer:
    """A customer without what says who it is."""
    return replace(customer, first_name="", last_name="", mobile=None, email=None, external_id=None, locale="")


def person_in(result: Result) -> int | None:
    """Whose name, identifiers or masked address a recorded answer holds; None if nobody's."""
    match result:
        case CustomerResult():
            return result.customer.customer_id
        case MergeResult():
            return result.survivor.customer_id
        case IssueOtpResult() | CheckTransferResult() | CheckRedemptionResult():
            return result.challenge.customer_id if result.challenge else None
        case _:
            return None


def blanked(result: Result) -> Result:
    """A recorded answer without the person and without notes: what a repeated request is told from then on."""
    match result:
        case CustomerResult():
            return replace(result, customer=without_person(result.customer))
        case MergeResult():
            return replace(result, survivor=without_person(result.survivor))
        case IssueOtpResult() | CheckTransferResult() | CheckRedemptionResult():
            challenge = result.challenge and replace(result.challenge, masked_target="")
            return replace(result, challenge=challenge)
        case TransferResult():
            return replace(result, notes="")
        case _:
            return result
