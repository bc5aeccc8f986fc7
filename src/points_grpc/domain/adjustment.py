"""Adjustments: points that a manager takes away, for a reason, in spending order.

Rules of this file: the guards of `judge` stand in the documented order, one a line. Nothing lowers lifetime figures.
"""

from __future__ import annotations

from points_grpc import codes
from points_grpc.domain.balances import balance_after, holdings, program_shares
from points_grpc.domain.commands import AdjustPoints
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked
from points_grpc.domain.first_guards import (
    configuration_parses,
    customer_is_known,
    customer_is_not_merged_away,
    operations_run,
    policy_is_sound,
    program_is_known,
)
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import draw, shown
from points_grpc.domain.model import Account, Customer, Kind, Program, ProgramBook, WalletKey
from points_grpc.domain.outcome import Accepted, AdjustmentResult, Decision, LotShare, Refused
from points_grpc.domain.snapshot import ANY_POINTS, Directory, Keys, Lookups, Snapshot


def lookups(command: AdjustPoints) -> Lookups:
    """What an adjustment names."""
    return Lookups(identifiers=(command.customer,))


def keys(command: AdjustPoints, directory: Directory, book: ProgramBook) -> Keys:
    """What an adjustment needs loaded."""
    customer_id, program = directory.customers.get(command.customer), book.program(command.program_id)
    if customer_id is None:
        return Keys()
    drawn = () if program is None else (WalletKey(customer_id, program.program_id),)
    return Keys(customers=frozenset({customer_id}), draws=dict.fromkeys(drawn, ANY_POINTS))


def decide(command: AdjustPoints, context: Context, snapshot: Snapshot) -> Decision:
    """Takes the points away, or says why not."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    wallet, categories = case.wallet, case.categories
    draws = draw(
        snapshot, (wallet,), command.points, usable=lambda lot: categories is None or lot.category in categories
    )
    transaction_id = context.next_id()
    entry = EntryBuilder(snapshot)
    for one in draws:
        entry.post(wallet, one.lot.lot_id, -one.points)
    entry.system(Account.ADJUSTED, wallet.program_id, command.points)
    booked = entry.build(
        transaction_id=transaction_id,
        kind=Kind.ADJUSTMENT,
        customer_id=wallet.customer_id,
        program_id=wallet.program_id,
        points=command.points,
        context=context,
        notes=command.reason,
        policy_revision=case.ruling.policy.revision,
    )
    lots, omitted = shown(
        LotShare(one.lot.lot_id, one.lot.earning_program_id, one.points, one.lot.expires_at) for one in draws
    )
    taken = [(one.lot.bucket, -one.points) for one in draws]
    result = AdjustmentResult(
        transaction_id=transaction_id,
        points=command.points,
        shares=program_shares(snapshot, draws, wallet.customer_id),
        lots=lots,
        lots_omitted=omitted,
        balances=(balance_after(snapshot, wallet, version=entry.version_after(wallet), changes=taken),),
    )
    return Decision(Accepted(result, (), transaction_id), (Booked(booked),))


class Case:
    """An adjustment on its way through the guards. None: there is no such thing."""

    __slots__ = ("command", "config", "customer", "program", "snapshot")

    def __init__(self, command: AdjustPoints, snapshot: Snapshot) -> None:
        """Finds what the command names."""
        self.command = command
        self.snapshot = snapshot
        self.config = snapshot.config
        self.program = snapshot.book.program(command.program_id)
        self.customer = snapshot.find(command.customer)

    @property
    def ruling(self) -> Program:
        """The program debited; known once `program_is_known` has passed."""
        assert self.program is not None
        return self.program

    @property
    def owner(self) -> Customer:
        """The customer; known once `customer_is_known` has passed."""
        assert self.customer is not None
        return self.customer

    @property
    def wallet(self) -> WalletKey:
        """The wallet debited."""
        return WalletKey(self.owner.customer_id, self.ruling.program_id)

    @property
    def categories(self) -> frozenset[str] | None:
        """The categories to take from; None for all."""
        return frozenset({self.command.category}) if self.command.category else None


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the adjustment, in the documented order."""
    return (
        operations_run(case)
        or program_is_known(case)
        or policy_is_sound(case)
        or configuration_parses(case)
        or category_is_known(case)
        or customer_is_known(case)
        or customer_is_not_merged_away(case)
        or customer_is_enrolled(case)
        or current_points_suffice(case)
        or redeemable_points_suffice(case)
    )


def category_is_known(case: Case) -> Refused | None:
    """826: the program has no such category."""
    if not case.command.category or case.ruling.policy.redemption.has_category(case.command.category):
        return None
    return Refused(codes.INVALID_POINTS_CATEGORY, {"cause": "UNKNOWN_CATEGORY"}, field="category")


def customer_is_enrolled(case: Case) -> Refused | None:
    """881: not enrolled in the program."""
    wallet = case.snapshot.wallet(case.wallet)
    if wallet is None or wallet.enrolled_at is None:
        return Refused(codes.CUSTOMER_NOT_ENROLLED, {"program_id": str(case.ruling.program_id)})
    return None


def current_points_suffice(case: Case) -> Refused | None:
    """818: fewer current points (of the category) than are to be taken."""
    points, current = case.command.points, holdings(case.snapshot, (case.wallet,), case.categories).current
    if current >= points:
        return None
    return Refused(
        codes.POINTS_EXCEED_CURRENT,
        {"points": str(points), "current": str(current), "short_by": str(points - current)},
        field="points",
    )


def redeemable_points_suffice(case: Case) -> Refused | None:
    """813: current points cover it, redeemable points do not: promised or held."""
    points, have = case.command.points, holdings(case.snapshot, (case.wallet,), case.categories)
    if have.redeemable >= points:
        return None
    return Refused(
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        {
            "points": str(points),
            "redeemable": str(have.redeemable),
            "promised": str(have.promised),
            "held": str(have.held),
        },
    )
