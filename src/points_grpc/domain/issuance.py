"""Issues: how points come into being, and until when they live.

Rules of this file: the guards of `judge` stand in the documented order, one a line.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from points_grpc import codes
from points_grpc.domain.balances import balance_after
from points_grpc.domain.commands import Expiry, IssuePoints
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked, Event, LifetimeRaised, PurchaseRecorded
from points_grpc.domain.expiry import is_expired
from points_grpc.domain.first_guards import (
    configuration_parses,
    customer_is_known,
    customer_is_not_merged_away,
    operations_run,
    policy_is_sound,
    program_is_known,
)
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.model import (
    Account,
    BucketKey,
    Customer,
    Kind,
    Lot,
    Program,
    ProgramBook,
    Purchase,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, Decision, IssueResult, Refused, Warning, wrong_field
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot


def lookups(command: IssuePoints) -> Lookups:
    """What an issue names."""
    return Lookups(identifiers=(command.customer,))


def keys(command: IssuePoints, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    """What an issue needs loaded."""
    customer_id = directory.customers.get(command.customer)
    return Keys(
        customers=frozenset() if customer_id is None else frozenset({customer_id}),
        transaction_numbers=frozenset({command.transaction_number} if command.transaction_number else ()),
    )


def decide(command: IssuePoints, context: Context, snapshot: Snapshot) -> Decision:
    """Opens the lot, or says why not. Points that are expired on arrival are issued and expire at once (877)."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    transaction_id = context.next_id()
    lot = _lot(case, context.next_id(), transaction_id)
    entry = EntryBuilder(snapshot)
    entry.open(lot)
    entry.system(Account.ISSUED, case.ruling.program_id, -lot.points)
    expired = is_expired(lot, snapshot.now)
    if expired:
        entry.post(lot.wallet, lot.lot_id, -lot.points)
        entry.system(Account.EXPIRED, case.ruling.program_id, lot.points)
    booked = entry.build(
        transaction_id=transaction_id,
        kind=Kind.ISSUE,
        customer_id=lot.customer_id,
        program_id=case.ruling.program_id,
        points=lot.points,
        context=context,
        notes=command.notes,
        policy_revision=case.ruling.policy.revision,
        transaction_number=command.transaction_number or None,
    )
    bucket = lot.bucket
    promised = lot.points if lot.promised else 0
    events: list[Event] = [Booked(booked)]
    number = command.transaction_number
    if number and snapshot.purchase(number) is None:
        events.append(PurchaseRecorded(Purchase(number, lot.customer_id, case.ruling.program_id, None)))
    if expired:
        balance = balance_after(snapshot, lot.wallet, version=entry.version_after(lot.wallet))
        warning = Warning(codes.POINTS_NOT_ALLOCATED, {"points": str(lot.points)})
        return Decision(
            Accepted(IssueResult(transaction_id, lot, (balance,)), (warning,), transaction_id), tuple(events)
        )
    events.append(LifetimeRaised(lot.wallet, earned=lot.points))
    balance = balance_after(
        snapshot,
        lot.wallet,
        version=entry.version_after(lot.wallet),
        changes=((bucket, lot.points),),
        promised=promised,
    )
    return Decision(Accepted(IssueResult(transaction_id, lot, (balance,)), (), transaction_id), tuple(events))


class Case:
    """An issue on its way through the guards. None: there is no such thing."""

    __slots__ = ("command", "config", "customer", "program", "snapshot")

    def __init__(self, command: IssuePoints, snapshot: Snapshot) -> None:
        """Finds what the command names."""
        self.command = command
        self.snapshot = snapshot
        self.config = snapshot.config
        self.program = snapshot.book.program(command.program_id)
        self.customer = snapshot.find(command.customer)

    @property
    def ruling(self) -> Program:
        """The program credited; known once `program_is_known` has passed."""
        assert self.program is not None
        return self.program

    @property
    def owner(self) -> Customer:
        """The customer; known once `customer_is_known` has passed."""
        assert self.customer is not None
        return self.customer

    @property
    def expires_at(self) -> datetime | None:
        """Until when the points live, in the time zone of the program credited."""
        return expiry_instant(self.command.expiry, self.snapshot.now, self.ruling.time_zone)

    @property
    def category(self) -> str:
        """The category of the points: the one named, or the policy's first."""
        return self.command.category or self.ruling.policy.redemption.categories[0].name


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the issue, in the documented order."""
    return (
        operations_run(case)
        or program_is_known(case)
        or earning_program_is_known(case)
        or promise_ends_before_the_points(case)
        or policy_is_sound(case)
        or configuration_parses(case)
        or category_is_known(case)
        or customer_is_known(case)
        or customer_is_not_merged_away(case)
        or customer_is_enrolled(case)
    )


def earning_program_is_known(case: Case) -> Refused | None:
    """895: the earning program named is unknown."""
    earning = case.command.earning_program_id
    if earning and earning not in case.snapshot.book.programs:
        return Refused(codes.PROGRAM_NOT_CONFIGURED, field="earning_program_id")
    return None


def promise_ends_before_the_points(case: Case) -> Refused | None:
    """10004: promised beyond their expiry, the points could never be spent."""
    return promise_ends_first(case.command.available_from, case.expires_at)


def category_is_known(case: Case) -> Refused | None:
    """826: the program has no such category."""
    if case.ruling.policy.redemption.has_category(case.category):
        return None
    return Refused(codes.INVALID_POINTS_CATEGORY, {"cause": "UNKNOWN_CATEGORY"}, field="category")


def customer_is_enrolled(case: Case) -> Refused | None:
    """881: not enrolled in the program."""
    wallet = case.snapshot.wallet(WalletKey(case.owner.customer_id, case.ruling.program_id))
    if wallet is None or wallet.enrolled_at is None:
        return Refused(codes.CUSTOMER_NOT_ENROLLED, {"program_id": str(case.ruling.program_id)})
    return None


def promise_ends_first(available_from: datetime | None, expires_at: datetime | None) -> Refused | None:
    """10004 for a promise that ends after the points."""
    if available_from is None or expires_at is None or available_from <= expires_at:
        return None
    return wrong_field(codes.FIELD_INVALID, "available_from", "not after the points expire")


def expiry_instant(expiry: Expiry, now: datetime, time_zone: str) -> datetime | None:
    """The last instant of validity: days end with their last microsecond in the program's time zone."""
    if expiry.at is not None:
        return expiry.at
    today = now.astimezone(ZoneInfo(time_zone)).date()
    if expiry.on is not None:
        return end_of_day(expiry.on, time_zone)
    if expiry.in_days is not None:
        return end_of_day(today + timedelta(days=expiry.in_days), time_zone)
    if expiry.in_months is not None:
        years, month = divmod(today.month - 1 + expiry.in_months, 12)
        last = monthrange(today.year + years, month + 1)[1]
        return end_of_day(date(today.year + years, month + 1, last), time_zone)
    return None


def end_of_day(day: date, time_zone: str) -> datetime:
    """The last instant of a day; of the last day that there is, the last that there is."""
    if day == date.max:
        return datetime.max.replace(tzinfo=UTC)
    next_day = datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(time_zone))
    return next_day.astimezone(UTC) - timedelta(microseconds=1)


def _lot(case: Case, lot_id: int, transaction_id: int) -> Lot:
    command, now = case.command, case.snapshot.now
    expires_at = case.expires_at
    expired = expires_at is not None and expires_at < now
    promised = command.available_from is not None and command.available_from > now and not expired
    return Lot(
        lot_id=lot_id,
        wallet=WalletKey(case.owner.customer_id, case.ruling.program_id),
        bucket=BucketKey(
            command.earning_program_id or case.ruling.program_id,
            command.source,
            case.category,
        ),
        points=command.points,
        remaining=0 if expired else command.points,
        held=0,
        awarded_at=now,
        available_from=command.available_from if promised else None,
        promised=promised,
        expires_at=expires_at,
        parent_lot_id=None,
        root_lot_id=lot_id,
        transaction_id=transaction_id,
    )
