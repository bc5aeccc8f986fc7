"""Merges: one customer, the victim, becomes part of another, the survivor.

Rules of this file: the guards of `judge` stand one a line, parties first as in transfers. Points move and are never
changed: a lot of the victim opens one lot of the survivor, in the same program, with its origin, expiry and promise.
The victim stays on record, and every write that names it is refused from here on (419).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain import otp
from points_grpc.domain.balances import barred_sources, transferable
from points_grpc.domain.commands import MergeCustomers
from points_grpc.domain.context import Context
from points_grpc.domain.events import (
    Audited,
    Booked,
    CustomerSaved,
    DueMoved,
    Enrolled,
    Event,
    LifetimeRaised,
    MessagesCancelled,
    OtpCounterSaved,
    OtpSaved,
    VelocityUnited,
)
from points_grpc.domain.first_guards import configuration_parses
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX, TooManyLots, child_of
from points_grpc.domain.model import (
    Customer,
    FraudStatus,
    Kind,
    Lot,
    OtpAction,
    OtpCounter,
    OtpState,
    ProgramBook,
    StatusLabel,
    Wallet,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, Balance, Decision, MergeResult, Refused
from points_grpc.domain.policy import VELOCITY_DAYS_KEPT
from points_grpc.domain.snapshot import ANY_POINTS, Directory, Keys, Lookups, Snapshot

_BY_GRAVITY = (
    FraudStatus.NOT_FRAUD,
    FraudStatus.MARKED,
    FraudStatus.CONFIRMED,
    FraudStatus.INTERNAL,
    FraudStatus.RECONFIRMED,
)
"""The documented order. Where it leaves INTERNAL against RECONFIRMED open, the one that blocks wins."""

_INHERITED_LABELS = (StatusLabel.SUSPENDED, StatusLabel.FRAUD_SUSPECTED, StatusLabel.FRAUD_CONFIRMED)
"""The labels that a survivor takes over, by gravity: those that bar the person, not those about the account."""


def lookups(command: MergeCustomers) -> Lookups:
    """What a merge names."""
    return Lookups(identifiers=(command.victim, command.survivor))


def keys(command: MergeCustomers, directory: Directory, book: ProgramBook) -> Keys:
    """What a merge needs loaded: all lots of the victim, and the codes and velocity counts of both."""
    victim_id, survivor_id = directory.customers.get(command.victim), directory.customers.get(command.survivor)
    victims = () if victim_id is None else (victim_id,)
    both = [one for one in (victim_id, survivor_id) if one is not None]
    return Keys(
        customers=frozenset(both),
        draws={WalletKey(one, program_id): ANY_POINTS for one in victims for program_id in book.programs},
        velocity=frozenset(WalletKey(one, program_id) for one in both for program_id in book.programs),
        otps=frozenset((one, action) for one in both for action in OtpAction),
    )


def decide(command: MergeCustomers, context: Context, snapshot: Snapshot) -> Decision:
    """Merges the customers, or says why not."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    lots = case.lots
    transaction_id = context.next_id() if lots else None
    entry = EntryBuilder(snapshot)
    moved: list[Lot] = []
    for lot in lots:
        entry.post(lot.wallet, lot.lot_id, -lot.remaining)
    for lot in lots:
        assert transaction_id is not None
        key = WalletKey(case.survivor.customer_id, lot.program_id)
        moved.append(child_of(lot, key, lot.remaining, lot_id=context.next_id(), transaction_id=transaction_id))
        entry.open(moved[-1])
    points = sum(lot.points for lot in moved)
    booked: tuple[Event, ...] = ()
    if transaction_id is not None:
        made = entry.build(
            transaction_id=transaction_id,
            kind=Kind.MERGE,
            customer_id=case.victim.customer_id,
            counterparty_id=case.survivor.customer_id,
            program_id=0,
            points=points,
            context=context,
            notes=command.reason,
        )
        booked = (Booked(made), *(DueMoved(key, None) for key in dict.fromkeys(lot.wallet for lot in lots)))
    survivor = _united(case.victim, case.survivor)
    wallets = [wallet for wallet in case.victim_wallets if wallet.enrolled_at or wallet.version]
    result = MergeResult(
        survivor=survivor,
        program_ids=_program_ids(case, wallets),
        victim_id=case.victim.customer_id,
        transaction_id=transaction_id,
        points=points,
        lots=len(moved),
        balances=tuple(_balance(case, wallet.program_id, moved) for wallet in wallets),
    )
    left = (
        *_lifetimes(case),
        *_silenced(case),
        *_velocities(case),
        *_still_due(case),
        *_counted(case),
        *_saved(case, survivor, context),
    )
    return Decision(Accepted(result, (), transaction_id), (*_enrolments(case, wallets), *booked, *left))


class Case:
    """A merge on its way through the guards. None: there is no such customer."""

    __slots__ = ("_lots", "command", "named_survivor", "named_victim", "snapshot")

    def __init__(self, command: MergeCustomers, snapshot: Snapshot) -> None:
        """Finds whom the command names."""
        self.command = command
        self.snapshot = snapshot
        self.named_victim = snapshot.find(command.victim)
        self.named_survivor = snapshot.find(command.survivor)
        self._lots: tuple[Lot, ...] | None = None

    @property
    def victim(self) -> Customer:
        """Who is merged away; known once `customers_are_known` has passed."""
        assert self.named_victim is not None
        return self.named_victim

    @property
    def survivor(self) -> Customer:
        """Who lives on; known once `customers_are_known` has passed."""
        assert self.named_survivor is not None
        return self.named_survivor

    @property
    def victim_wallets(self) -> Sequence[Wallet]:
        """The victim's wallets by program."""
        found = (self.snapshot.wallet(key) for key in sorted(self.snapshot.wallets_of(self.victim.customer_id)))
        return [wallet for wallet in found if wallet is not None]

    @property
    def lots(self) -> tuple[Lot, ...]:
        """The victim's lots with points, program by program in spending order. What expired was booked before."""
        if self._lots is None:
            found: list[Lot] = []
            for wallet in self.victim_wallets:
                for lot in self.snapshot.lots_in_spending_order(wallet.key) if wallet.current else ():
                    if len(found) == LOTS_PER_COMMAND_MAX:
                        raise TooManyLots
                    found.append(lot)
            self._lots = tuple(found)
        return self._lots


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the merge."""
    return (
        organisation_runs(case)
        or configuration_parses(case.snapshot)
        or customers_are_known(case)
        or nobody_is_merged_away(case)
        or customers_differ(case)
        or programs_run(case)
        or nothing_is_held(case)
    )


def organisation_runs(case: Case) -> Refused | None:
    """898: an operator paused the organisation."""
    return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"}) if case.snapshot.book.paused else None


def customers_are_known(case: Case) -> Refused | None:
    """8015: no such customer in the organisation."""
    if case.named_victim is None:
        return Refused(codes.CUSTOMER_NOT_FOUND, {"party": "VICTIM"}, field="victim_customer_identifier.value")
    if case.named_survivor is None:
        return Refused(codes.CUSTOMER_NOT_FOUND, {"party": "SURVIVOR"}, field="survivor_customer_identifier.value")
    return None


def nobody_is_merged_away(case: Case) -> Refused | None:
    """419: one of them was merged away before."""
    for customer in (case.victim, case.survivor):
        if customer.merged_into is not None:
            return Refused(
                codes.MERGED_CUSTOMER,
                {"customer_id": str(customer.customer_id), "survivor_id": str(customer.merged_into)},
            )
    return None


def customers_differ(case: Case) -> Refused | None:
    """418: both identifiers name the same customer."""
    if case.victim.customer_id == case.survivor.customer_id:
        return Refused(codes.SAME_CUSTOMER, field="survivor_customer_identifier")
    return None


def programs_run(case: Case) -> Refused | None:
    """898: an operator paused a program in which the victim has points."""
    programs = case.snapshot.book.programs
    if any(wallet.current and programs[wallet.program_id].paused for wallet in case.victim_wallets):
        return Refused(codes.PAUSED, {"cause": "PROGRAM_PAUSED"})
    return None


def nothing_is_held(case: Case) -> Refused | None:
    """813: points of the victim are held by open authorisations, which name her and her lots."""
    current = sum(wallet.current for wallet in case.victim_wallets)
    promised = sum(wallet.promised for wallet in case.victim_wallets)
    held = sum(wallet.held for wallet in case.victim_wallets)
    if not held:
        return None
    return Refused(
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        {
            "points": str(current),
            "redeemable": str(current - promised - held),
            "promised": str(promised),
            "held": str(held),
        },
    )


# -- what the deed needs ---------------------------------------------------------------------------------------------


def _united(victim: Customer, survivor: Customer) -> Customer:
    """The survivor, who inherits what bars the victim: nobody gets rid of it by being merged."""
    locks = [at for at in (victim.transfers_locked_until, survivor.transfers_locked_until) if at is not None]
    label = survivor.status_label
    own = _INHERITED_LABELS.index(label) if label in _INHERITED_LABELS else -1
    if victim.status_label in _INHERITED_LABELS[own + 1 :] and label is not StatusLabel.DELETED:
        label = victim.status_label
    return replace(
        survivor,
        fraud_status=max(victim.fraud_status, survivor.fraud_status, key=_BY_GRAVITY.index),
        status_label=label,
        transfers_locked_until=max(locks, default=None),
        campaign_contact=victim.campaign_contact and survivor.campaign_contact,
        locale=survivor.locale or victim.locale,
    )


def _enrolments(case: Case, wallets: Iterable[Wallet]) -> Iterable[Event]:
    """The survivor is enrolled wherever the victim was, from the earlier of the two days on."""
    for wallet in wallets:
        key = WalletKey(case.survivor.customer_id, wallet.program_id)
        own = case.snapshot.wallet(key)
        days = [at for at in (wallet.enrolled_at, own.enrolled_at if own else None) if at is not None]
        at = min(days, default=case.snapshot.now)
        if own is None or own.enrolled_at != at:
            yield Enrolled(key, at)


def _lifetimes(case: Case) -> Iterable[Event]:
    for wallet in case.victim_wallets:
        raised = LifetimeRaised(
            WalletKey(case.survivor.customer_id, wallet.program_id),
            earned=wallet.lifetime_earned,
            received=wallet.lifetime_received,
            purchases=wallet.lifetime_purchases,
        )
        if raised.earned or raised.received or raised.purchases:
            yield raised


def _velocities(case: Case) -> Iterable[Event]:
    """What the victim transferred counts against the survivor's limits, with what does already."""
    for wallet in case.victim_wallets:
        theirs = case.snapshot.velocity(wallet.key)
        if not theirs:
            continue
        key = WalletKey(case.survivor.customer_id, wallet.program_id)
        days = dict(case.snapshot.velocity(key))
        for at, (points, transfers) in theirs.items():
            so_far = days.get(at, (0, 0))
            days[at] = (so_far[0] + points, so_far[1] + transfers)
        # Older ones may have been left out on one of the two sides already: half a count is none.
        kept_from = max(day for _, day in days) - VELOCITY_DAYS_KEPT
        yield VelocityUnited(key, {at: used for at, used in days.items() if at[1] >= kept_from})


def _silenced(case: Case) -> Iterable[Event]:
    """The victim's live codes die, and messages that are still on their way are cancelled."""
    for action in OtpAction:
        for issued in case.snapshot.otps(case.victim.customer_id, action).values():
            if issued.state is OtpState.LIVE:
                yield OtpSaved(replace(issued, state=OtpState.REPLACED, due_until=None))
        yield MessagesCancelled(case.victim.customer_id, action)


def _still_due(case: Case) -> Iterable[Event]:
    """A code that is due for the victim's transfers from a program is due for the survivor's, and as long."""
    own = case.snapshot.otps(case.survivor.customer_id, OtpAction.TRANSFER)
    for theirs in case.snapshot.otps(case.victim.customer_id, OtpAction.TRANSFER).values():
        due_until = theirs.due_until
        if due_until is None or due_until <= case.snapshot.now:
            continue
        kept = own.get(theirs.program_id)
        if kept is None:
            yield OtpSaved(replace(theirs, customer_id=case.survivor.customer_id, state=OtpState.REPLACED))
        elif kept.due_until is None or kept.due_until < due_until:
            yield OtpSaved(replace(kept, due_until=due_until))


def _counted(case: Case) -> Iterable[Event]:
    """What counts against the victim in a window that goes on counts against the survivor, with what does already."""
    survivor_id = case.survivor.customer_id
    for action in OtpAction:
        theirs = otp.counting(case.snapshot, case.victim.customer_id, action)
        if theirs is None:
            continue
        own = otp.counting(case.snapshot, survivor_id, action)
        if own is None:
            yield OtpCounterSaved(replace(theirs, customer_id=survivor_id))
            continue
        both = OtpCounter(
            survivor_id,
            action,
            window_started_at=min(own.window_started_at, theirs.window_started_at),
            window_ends_at=max(own.window_ends_at, theirs.window_ends_at),
            issues=own.issues + theirs.issues,
            wrong_attempts=own.wrong_attempts + theirs.wrong_attempts,
        )
        yield OtpCounterSaved(both)


def _saved(case: Case, survivor: Customer, context: Context) -> Iterable[Event]:
    """The two customers as they are now, and the line of the audit log."""
    yield CustomerSaved(replace(case.victim, merged_into=survivor.customer_id), created=False)
    if survivor != case.survivor:
        yield CustomerSaved(survivor, created=False)
    yield Audited(
        audit_id=context.next_id(),
        at=case.snapshot.now,
        actor=context.actor,
        action="MergeCustomers",
        subject=f"customer/{case.victim.customer_id}",
        before=json.dumps({"merged_into": None, "survivor": _statuses(case.survivor)}),
        after=json.dumps({"merged_into": survivor.customer_id, "survivor": _statuses(survivor)}),
        reason=case.command.reason,
    )


def _statuses(customer: Customer) -> dict[str, str | None]:
    locked_until = customer.transfers_locked_until
    return {
        "fraud_status": customer.fraud_status.name,
        "status_label": customer.status_label.name,
        "locked_until": locked_until.isoformat() if locked_until else None,
    }


def _program_ids(case: Case, wallets: Iterable[Wallet]) -> tuple[int, ...]:
    """Where the survivor is enrolled now."""
    own = (case.snapshot.wallet(key) for key in case.snapshot.wallets_of(case.survivor.customer_id))
    enrolled = {wallet.program_id for wallet in own if wallet and wallet.enrolled_at}
    return tuple(sorted(enrolled | {wallet.program_id for wallet in wallets}))


def _balance(case: Case, program_id: int, moved: Sequence[Lot]) -> Balance:
    """A wallet of the survivor with what was moved into it."""
    key = WalletKey(case.survivor.customer_id, program_id)
    wallet = case.snapshot.wallet(key) or Wallet(key)
    barred = barred_sources(case.snapshot, key)
    gained = [lot for lot in moved if lot.program_id == program_id]
    free = transferable(case.snapshot, (key,), barred)
    current = wallet.current + sum(lot.points for lot in gained)
    promised = wallet.promised + sum(lot.points for lot in gained if lot.promised)
    return Balance(
        customer_id=key.customer_id,
        program_id=program_id,
        version=wallet.version + bool(gained),
        current=current,
        redeemable=current - promised - wallet.held,
        transferable=free + sum(lot.points for lot in gained if not lot.promised and lot.source not in barred),
        promised=promised,
        held=wallet.held,
    )
