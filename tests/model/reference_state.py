"""What the reference model remembers, customers, lots, holds, codes, bills, in plain lists and dicts; and sums of it.

Written from the contract, and naive on purpose: nothing is stored that can be counted, nothing is booked when it falls
due, and every question is answered by looking through everything. Of the project it imports the generated stubs alone.
Times are integers: microseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from points_grpc.v1.common_pb2 import CustomerIdentifier, Lot
from points_grpc.v1.customer_service_pb2 import Customer
from points_grpc.v1.program_service_pb2 import OtpPolicy, Policy

SECOND = 1_000_000
DAY = 86_400 * SECOND
NEVER = 2**63
ID, MOBILE = CustomerIdentifier.ID, CustomerIdentifier.MOBILE

FRAUD_CHECK = "CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER"
SWITCHES = {
    "ALLOW_POINTS_TRANSFER": True,
    "ALLOW_POINTS_REDEMPTION": True,
    "Allow_points_redemption_reversal": True,
    "ENABLE_GROUP_PROGRAMS_REDEMPTION": True,
    "ENABLE_CUSTOMER_STATUS_MODULE": False,
    "ENABLE_MISSED_CALL_REDEMPTION": False,
}
"""The organisation's switches, and what each reads as when it is unset."""

FRAUD_STATUSES = {Customer.MARKED, Customer.CONFIRMED, Customer.RECONFIRMED}
FRAUD_LABELS = {Customer.FRAUD_SUSPECTED, Customer.FRAUD_CONFIRMED}
OTHER_LABELS = {Customer.SUSPENDED, Customer.DELETED}
BILL = re.compile(r"[A-Za-z0-9._/#-]{1,64}")


class LotName(int):
    """A lot as the model counts lots; whoever compares finds out what the server calls it."""


class Time(int):
    """An instant in microseconds."""


class Refusal(Exception):
    """A refusal: `NUMBER GRPC REASON`, the numbers behind it, and the warnings that travel with it."""

    def __init__(self, outcome: str, *warnings: str, **metadata: Any) -> None:
        super().__init__(outcome)
        number, self.grpc, self.reason = outcome.split()
        self.number = int(number)
        self.warnings = warnings
        self.metadata = {key: iso(one) if isinstance(one, Time) else str(one) for key, one in metadata.items()}

    def __str__(self) -> str:
        return f"{self.number} {self.grpc} {self.reason} {self.metadata}"


class Drawn(NamedTuple):
    """What the server made up in an accepted call and the model cannot know: ids, and the digits of a code."""

    id: str = ""
    code: str = ""


@dataclass(eq=False)
class Program:
    """A program; `policy` is the message that was sent."""

    program_id: int
    name: str
    decimal_places: int
    zone: str
    policy: Policy
    group: ProgramGroup | None = None
    paused: bool = False


class ProgramGroup(NamedTuple):
    """Programs across which points are pooled."""

    program_ids: Sequence[int]
    default_id: int


@dataclass(eq=False)
class Person:
    """A customer. `enrolled`: since when, by program."""

    customer_id: int
    identifiers: dict[int, str]
    enrolled: dict[int, int]
    contact: bool = False
    fraud_status: int = Customer.NOT_FRAUD
    label: int = Customer.ACTIVE
    locked_until: int = 0
    merged_into: int | None = None
    earned: dict[int, int] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)
    purchases: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Points:
    """A lot."""

    name: LotName
    customer_id: int
    program_id: int
    earning: int
    source: int
    category: str
    points: int
    remaining: int
    awarded: int
    available_from: int | None
    expires: int | None
    parent: Points | None
    opened_by: str
    transfer_id: int = 0

    @property
    def root(self) -> Points:
        """The lot that was issued."""
        return self if self.parent is None else self.parent.root

    @property
    def order(self) -> tuple[int, int, int]:
        """Where it stands in spending order."""
        return (NEVER if self.expires is None else self.expires, self.awarded, self.name)


class Draw(NamedTuple):
    """Points of one lot."""

    lot: Points
    points: int


@dataclass(eq=False)
class Spent:
    """A redemption. `back`: what was given back so far, by the position of the draw."""

    redemption_id: str
    number: int
    customer_id: int
    program_id: int
    draws: list[Draw]
    back: list[int]
    at: int
    bill: str
    reference: str
    reversed_at: int | None = None

    @property
    def left(self) -> int:
        """What can still be given back."""
        return sum(one.points for one in self.draws) - sum(self.back)


@dataclass(eq=False)
class Held:
    """A hold. It is open as long as nobody closed it and the deadline has not passed."""

    hold_id: str
    customer_id: int
    program_id: int
    draws: list[Draw]
    deadline: int
    bill: str
    reference: str
    ratio: Any
    closed: str = ""


@dataclass(eq=False)
class Sent:
    """A transfer."""

    transfer_id: int
    source_id: int
    destination_id: int
    program_id: int
    points: int
    at: int


@dataclass(eq=False)
class Secret:
    """A one-time code, alive until it is used or replaced."""

    digits: str
    binding: tuple[Any, ...]
    points_max: int
    expires: int
    attempts_left: int
    program_id: int
    alive: bool = True


@dataclass(eq=False)
class Counted:
    """Codes issued and wrong codes tried, from a first one on."""

    start: int
    end: int = 0
    issues: int = 0
    wrong: int = 0


class State:
    """All that is known of one organisation, and what can be worked out from it."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.config = dict.fromkeys([FRAUD_CHECK, *(key for key, on in SWITCHES.items() if on)], "true")
        self.paused = False
        self.default_program = 0
        self.programs: dict[int, Program] = {}
        self.people: dict[int, Person] = {}
        self.lots: list[Points] = []
        self.redemptions: list[Spent] = []
        self.holds: list[Held] = []
        self.transfers: list[Sent] = []
        self.bills: dict[str, tuple[int, bool]] = {}
        self.returned: set[str] = set()
        self.secrets: dict[tuple[int, str], list[Secret]] = {}
        self.due: dict[tuple[int, int], int] = {}
        self.counted: dict[tuple[int, str], Counted] = {}
        self.moved: list[tuple[int, int, str, date, int]] = []
        self.calls: list[list[Any]] = []

    # -- programs and people

    def program(self, program_id: int) -> Program | None:
        """The program named, or the default one."""
        return self.programs.get(program_id or self.default_program)

    def pool(self, program: Program, *, pooled: bool) -> Sequence[int]:
        """The programs that an operation draws on."""
        return sorted(program.group.program_ids) if pooled and program.group else (program.program_id,)

    def person(self, identifier: CustomerIdentifier) -> Person | None:
        """Whom an identifier names."""
        if identifier.type == ID:
            return self.people.get(int(identifier.value))
        named = (one for one in self.people.values() if one.identifiers.get(identifier.type) == identifier.value)
        return next(named, None)

    def survivor(self, customer_id: int) -> Person:
        """Who lives on after all merges."""
        person = self.people[customer_id]
        return person if person.merged_into is None else self.survivor(person.merged_into)

    def line(self, customer_id: int) -> list[int]:
        """A customer, and everyone into whom that one was merged."""
        person = self.people[customer_id]
        return [customer_id] if person.merged_into is None else [customer_id, *self.line(person.merged_into)]

    def is_on(self, key: str) -> bool:
        """Whether a switch is on."""
        return {"true": True, "false": False, None: SWITCHES[key]}[self.text(key)]

    def text(self, key: str) -> str | None:
        """The text of a key as it is read."""
        found = self.config.get(key)
        return None if found is None else found.strip().lower()

    def invalid_key(self) -> str | None:
        """The first switch whose text says neither true nor false."""
        return next((key for key in SWITCHES if self.text(key) not in {"true", "false", None}), None)

    def is_fraud(self, person: Person) -> bool:
        """Whether a person is marked as a fraud, by whichever marking is in force."""
        if self.is_on("ENABLE_CUSTOMER_STATUS_MODULE"):
            return person.label in FRAUD_LABELS
        return person.fraud_status in FRAUD_STATUSES

    def is_barred(self, person: Person) -> bool:
        """Whether a label other than fraud bars a person."""
        return self.is_on("ENABLE_CUSTOMER_STATUS_MODULE") and person.label in OTHER_LABELS

    def today(self, program: Program) -> date:
        """The day in the program's time zone."""
        return instant(self.now).astimezone(ZoneInfo(program.zone)).date()

    # -- points

    def live(self, customer_id: int, program_id: int) -> list[Points]:
        """A wallet's lots that have points which did not expire, in spending order."""
        found = [one for one in self.lots if (one.customer_id, one.program_id) == (customer_id, program_id)]
        return sorted((one for one in found if one.remaining and not self.expired(one)), key=lambda lot: lot.order)

    def expired(self, lot: Points) -> bool:
        """Whether a lot's last instant has passed."""
        return lot.expires is not None and lot.expires < self.now

    def promised(self, lot: Points) -> bool:
        """Whether a lot becomes available later."""
        return lot.available_from is not None and lot.available_from > self.now

    def is_open(self, hold: Held) -> bool:
        """Whether a hold can be captured."""
        return not hold.closed and self.now <= hold.deadline

    def held(self, lot: Points) -> int:
        """What open holds keep of a lot."""
        return sum(one.points for hold in self.holds if self.is_open(hold) for one in hold.draws if one.lot is lot)

    def sums(self, wallets: Iterable[tuple[int, int]], categories: Iterable[str] | None = None) -> dict[str, int]:
        """Current, promised, held, redeemable and transferable points of wallets."""
        found = dict.fromkeys(("current", "promised", "held", "redeemable", "transferable"), 0)
        for customer_id, program_id in wallets:
            barred = barred_sources(self.programs[program_id].policy)
            for lot in self.live(customer_id, program_id):
                if categories is not None and lot.category not in categories:
                    continue
                promised, held = lot.remaining if self.promised(lot) else 0, self.held(lot)
                free = lot.remaining - promised - held
                found["current"] += lot.remaining
                found["promised"] += promised
                found["held"] += held
                found["redeemable"] += free
                found["transferable"] += free if lot.source not in barred else 0
        return found

    def wallet(self, customer_id: int, program_id: int) -> dict[str, int]:
        """A wallet as answers show it."""
        return {"customer_id": customer_id, "program_id": program_id, **self.sums([(customer_id, program_id)])}

    def draw(self, wallets: Iterable[tuple[int, int]], points: int, usable: Callable[[Points], bool]) -> list[Draw]:
        """Takes points in spending order over all wallets; there are enough."""
        drawn: list[Draw] = []
        lots = [lot for wallet in wallets for lot in self.live(*wallet) if not self.promised(lot) and usable(lot)]
        for lot in sorted(lots, key=lambda one: one.order):
            taken = min(lot.remaining - self.held(lot), points - sum(one.points for one in drawn))
            if taken:
                drawn.append(Draw(lot, taken))
        return drawn

    def breakup(self, draws: Sequence[Draw]) -> list[dict[str, int]]:
        """What is taken by earning program, and what its owner has left of it, wherever it lies."""
        [owner] = {one.lot.customer_id for one in draws}
        owned = [lot for lot in self.lots if lot.customer_id == owner and not self.expired(lot)]
        found = []
        for earning in sorted({one.lot.earning for one in draws}):
            taken = sum(one.points for one in draws if one.lot.earning == earning)
            there = sum(lot.remaining for lot in owned if lot.earning == earning)
            found.append({"program_id": earning, "deducted_points": taken, "program_current_points": there - taken})
        return found

    def open_child(self, parent: Points, wallet: tuple[int, int], points: int, opened_by: str) -> Points:
        """A lot for points of another lot."""
        child = Points(
            LotName(len(self.lots) + 1),
            *wallet,
            parent.earning,
            parent.source,
            parent.category,
            points,
            points,
            parent.awarded,
            parent.available_from if self.promised(parent) else None,
            parent.expires,
            parent,
            opened_by,
        )
        self.lots.append(child)
        return child

    def instants(self) -> list[int]:
        """The instants ahead at which something changes, none before now."""
        found = [lot.expires for lot in self.lots if lot.remaining and lot.expires is not None]
        found += [lot.available_from for lot in self.lots if lot.available_from is not None]
        found += [hold.deadline for hold in self.holds if not hold.closed]
        found += [secret.expires for kept in self.secrets.values() for secret in kept if secret.alive]
        found += [*self.due.values(), *(one.locked_until for one in self.people.values())]
        for (_, _), one in self.counted.items():
            found += [one.start + 60 * SECOND, one.start + 900 * SECOND, one.end]
        for sent in self.transfers[-3:]:
            window = self.programs[sent.program_id].policy.transfer.duplicate_window_s
            found += [sent.at + window * SECOND] if window else []
        for spent in self.redemptions[-3:]:
            days = self.programs[spent.program_id].policy.redemption.reversal_days
            found += [spent.at + days * DAY] if days else []
        for program in self.programs.values():
            found.append(start_of(self.today(program) + timedelta(days=1), program.zone))
        return sorted({one for one in found if one >= self.now})


# -- policies: what an unset field means


def multiple_of(policy: Policy) -> int:
    """What transfers must be a multiple of."""
    return policy.transfer.multiple or 1


def barred_sources(policy: Policy) -> set[int]:
    """The sources whose points cannot be transferred."""
    if policy.transfer.HasField("barred_sources"):
        return set(policy.transfer.barred_sources.sources)
    return {Lot.REGISTRATION}


def categories_of(policy: Policy) -> dict[str, bool]:
    """The categories by name, and whether each can be redeemed."""
    return {one.name: one.redeemable for one in policy.redemption.categories} or {"Main": True}


def contradictions(policy: Policy) -> list[str]:
    """The fields that cannot hold together."""
    redemption, found = policy.redemption, []
    if redemption.maximum_points and redemption.minimum_points > redemption.maximum_points:
        found += ["redemption.minimum_points", "redemption.maximum_points"]
    if not any(categories_of(policy).values()):
        found.append("redemption.categories")
    return found


def is_enabled(part: Any) -> bool:
    """Whether a part of a policy is switched on."""
    return part.enabled if part.HasField("enabled") else True


def requirement_of(otp: OtpPolicy) -> int:
    """When a transfer needs a code."""
    return otp.transfer or OtpPolicy.IF_ISSUED


# -- times


def instant(micros: int) -> datetime:
    """Microseconds as a time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def micros_of(at: datetime) -> int:
    """A time in microseconds."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def iso(micros: int) -> str:
    """A time as metadata show it."""
    return instant(micros).isoformat()


def start_of(day: date, zone: str) -> int:
    """The first instant of a day."""
    return micros_of(datetime.combine(day, clock_time.min, ZoneInfo(zone)).astimezone(UTC))
