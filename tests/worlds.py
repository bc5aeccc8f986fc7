"""Small worlds to decide on: builders with fixed ids and times, and a store in memory that keeps to the load contract.

A `World` holds everything an organisation has. `load` gives a snapshot what the keys declare and nothing else, with the
first lots of each wallet only, as the storage does; `decide` applies what the decision changed. No rule lives here.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from points_grpc.domain import events as ev
from points_grpc.domain.commands import (
    AdjustPoints,
    AuthorizeRedemption,
    Command,
    EraseCustomer,
    IssuePoints,
    MergeCustomers,
    RedeemPoints,
    ReverseRedemption,
    ReverseTransfer,
    Submission,
    TransferPoints,
)
from points_grpc.domain.configuration import FRAUD_CHECK
from points_grpc.domain.context import Context
from points_grpc.domain.decide import decide_one, keys_of, lookups_of
from points_grpc.domain.model import (
    Account,
    Bucket,
    BucketKey,
    Channel,
    Customer,
    FraudStatus,
    Hold,
    HoldState,
    Identifier,
    IdentifierType,
    JournalEntry,
    Kind,
    Lot,
    MadeTransfer,
    Message,
    MissedCall,
    OrgConfig,
    Otp,
    OtpAction,
    OtpCounter,
    Program,
    ProgramBook,
    ProgramGroup,
    Purchase,
    Redemption,
    Return,
    Source,
    StatusLabel,
    WaitingMessage,
    Wallet,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, Balance, Outcome, Refused
from points_grpc.domain.policy import (
    MISSED_CALL_WINDOW_S_MAX,
    Direction,
    OtpPolicy,
    Policy,
    RedemptionPolicy,
    TransferPolicy,
)
from points_grpc.domain.snapshot import (
    Changes,
    Directory,
    DuplicateKey,
    Keys,
    Loaded,
    Lookups,
    LotRows,
    NeedMore,
    Snapshot,
    due_at_of,
    identifiers_of,
    spending_key,
)

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
"""A Sunday noon, away from every day's end on earth but for Kiritimati and Baker Island."""

ENROLLED_AT = NOW - timedelta(days=100)
ORG_ID = 1
GOLD, SILVER, BRONZE = 1, 2, 3
"""The programs: gold (the default one) and silver are a group, bronze stands alone."""

METALS = 9
"""The group of gold and silver, with gold its default program."""

ANN, BEN, CID = 11, 12, 13
"""Ann and Ben are enrolled in gold and silver, Cid in nothing."""

FIRST_ID = 1_000
"""Ids that a decision makes start here; those of lots that a test puts there lie below."""

SEED = bytes(range(32))


def by_id(customer_id: int) -> Identifier:
    """The identifier that is the customer's id."""
    return Identifier(IdentifierType.ID, str(customer_id))


UNKNOWN = by_id(99)
"""Names nobody."""


# -- builders --------------------------------------------------------------------------------------------------------


def customer(customer_id: int = ANN, **given: Any) -> Customer:
    """A customer in good standing, with a mobile number, an e-mail address and an external id."""
    fields: dict[str, Any] = {
        "customer_id": customer_id,
        "first_name": f"First{customer_id}",
        "last_name": f"Last{customer_id}",
        "mobile": f"+9198765400{customer_id}",
        "email": f"c{customer_id}@example.com",
        "external_id": f"X-{customer_id}",
        "campaign_contact": False,
        "fraud_status": FraudStatus.NOT_FRAUD,
        "status_label": StatusLabel.ACTIVE,
        "transfers_locked_until": None,
        "merged_into": None,
        "created_at": ENROLLED_AT,
    }
    return Customer(**fields | given)


def lot(lot_id: int, points: int = 100, **given: Any) -> Lot:
    """An issued lot of Ann's in gold that never expires."""
    program_id = given.pop("program_id", GOLD)
    fields: dict[str, Any] = {
        "lot_id": lot_id,
        "wallet": WalletKey(given.pop("customer_id", ANN), program_id),
        "bucket": BucketKey(
            given.pop("earning_program_id", program_id),
            given.pop("source", Source.LOYALTY_PLUS),
            given.pop("category", "Main"),
        ),
        "points": points,
        "remaining": points,
        "held": 0,
        "awarded_at": NOW - timedelta(days=10),
        "available_from": None,
        "promised": given.get("available_from") is not None,
        "expires_at": None,
        "parent_lot_id": None,
        "root_lot_id": lot_id,
        "transaction_id": lot_id,
    }
    return Lot(**fields | given)


def policy(
    redemption: RedemptionPolicy | None = None, transfer: TransferPolicy | None = None, otp: OtpPolicy | None = None
) -> Policy:
    """A policy of revision 3, with the defaults for what is not given."""
    return Policy(3, redemption or RedemptionPolicy(), transfer or TransferPolicy(), otp or OtpPolicy())


def program(program_id: int = GOLD, **given: Any) -> Program:
    """An active program outside any group."""
    fields: dict[str, Any] = {
        "program_id": program_id,
        "name": f"Program {program_id}",
        "active": True,
        "decimal_places": 0,
        "time_zone": "UTC",
        "group_id": None,
        "paused": False,
        "policy": policy(),
    }
    return Program(**fields | given)


def transfer(points: int = 50, source: int = ANN, destination: int = BEN, **given: Any) -> TransferPoints:
    """A transfer from Ann to Ben in gold."""
    fields: dict[str, Any] = {"program_id": GOLD, "source": by_id(source), "destination": by_id(destination)}
    return TransferPoints(points=points, **fields | given)


def redeem(points: int = 50, customer_id: int = ANN, **given: Any) -> RedeemPoints:
    """A redemption of Ann's in gold."""
    fields: dict[str, Any] = {"customer": by_id(customer_id), "program_id": GOLD}
    return RedeemPoints(points=points, **fields | given)


def authorize(points: int = 50, customer_id: int = ANN, *, hold_s: int = 900, **given: Any) -> AuthorizeRedemption:
    """An authorisation of Ann's in gold."""
    return AuthorizeRedemption(redeem(points, customer_id, **given), hold_s)


def issue(points: int = 50, customer_id: int = ANN, **given: Any) -> IssuePoints:
    """An issue to Ann in gold that never expires."""
    fields: dict[str, Any] = {"customer": by_id(customer_id), "program_id": GOLD, "source": Source.LOYALTY_PLUS}
    return IssuePoints(points=points, **fields | given)


def reverse(redemption_id: str = "", customer_id: int = ANN, **given: Any) -> ReverseRedemption:
    """A reversal of what Ann redeemed."""
    return ReverseRedemption(by_id(customer_id), redemption_id, **given)


def merge(victim: int = ANN, survivor: int = BEN, **given: Any) -> MergeCustomers:
    """A merge of Ann into Ben."""
    fields: dict[str, Any] = {"victim": by_id(victim), "survivor": by_id(survivor), "reason": "one person"}
    return MergeCustomers(**fields | given)


def erase(customer_id: int = ANN, *, forfeit_points: bool = True) -> EraseCustomer:
    """An erasure."""
    return EraseCustomer(by_id(customer_id), forfeit_points, "asked for in case 12")


def adjust(points: int = 50, customer_id: int = ANN, **given: Any) -> AdjustPoints:
    """An adjustment of Ann's points in gold."""
    fields: dict[str, Any] = {"customer": by_id(customer_id), "program_id": GOLD, "reason": "a mistake"}
    return AdjustPoints(points=points, **fields | given)


def take_back(transfer_id: int, *, partial: bool = False) -> ReverseTransfer:
    """A reversal of a transfer."""
    return ReverseTransfer(transfer_id, partial, "a mistake")


def code_hash(key_id: str, content: bytes) -> str | None:
    """A keyed hash with the one key "k1"; no other key is at hand."""
    return hmac.new(b"pepper", content, hashlib.sha256).hexdigest() if key_id == "k1" else None


# -- the store -------------------------------------------------------------------------------------------------------


class World:
    """Everything of one organisation, in memory."""

    def __init__(self) -> None:
        self.now = NOW
        self.paused = False
        self.default_program_id: int | None = GOLD
        self.programs: dict[int, Program] = {}
        self.groups: dict[int, ProgramGroup] = {}
        self.config: dict[str, str] = {FRAUD_CHECK: "true"}
        self.config_available = True
        self.channels = frozenset(Channel)
        self.customers: dict[int, Customer] = {}
        self.wallets: dict[WalletKey, Wallet] = {}
        self.buckets: dict[WalletKey, dict[BucketKey, Bucket]] = {}
        self.lots: dict[int, Lot] = {}
        self.otps: dict[tuple[int, OtpAction, int], Otp] = {}
        self.otp_counters: dict[tuple[int, OtpAction], OtpCounter] = {}
        self.velocity: dict[WalletKey, dict[tuple[Direction, date], tuple[int, int]]] = {}
        self.redemptions: dict[str, Redemption] = {}
        self.purchases: dict[str, Purchase] = {}
        self.holds: dict[str, Hold] = {}
        self.missed_calls: dict[int, MissedCall] = {}
        self.returns: dict[str, Return] = {}
        self.journal: list[JournalEntry] = []
        self.outbox: list[Message] = []
        self.attempts: dict[int, tuple[int, str]] = {}
        self.changes = Changes({}, {})
        self.window = 32
        self.last_id = FIRST_ID
        self.seed = SEED

    # -- what tests put there ----------------------------------------------------------------------------------------

    def enrol(self, customer_id: int, *program_ids: int, at: datetime = ENROLLED_AT) -> None:
        """Enrols a customer, who is created if new."""
        self.customers.setdefault(customer_id, customer(customer_id))
        for program_id in program_ids:
            self.wallets[WalletKey(customer_id, program_id)] = Wallet(
                WalletKey(customer_id, program_id), enrolled_at=at
            )

    def give(self, lot_id: int, points: int = 100, **given: Any) -> Lot:
        """Puts a lot into a wallet, as if it had been issued to its owner when it was awarded."""
        new = lot(lot_id, points, **given)
        wallet = self.wallets[new.wallet]
        promised = new.remaining if new.promised else 0
        self.lots[lot_id] = new
        due = [one for one in (wallet.due_at, due_at_of(new)) if one is not None]
        self.wallets[new.wallet] = replace(
            wallet,
            version=wallet.version + 1,
            current=wallet.current + new.remaining,
            promised=wallet.promised + promised,
            held=wallet.held + new.held,
            lifetime_earned=wallet.lifetime_earned + new.points,
            due_at=min(due, default=None),
        )
        key = BucketKey(new.earning_program_id, new.source, new.category)
        held_before = self.buckets.setdefault(new.wallet, {}).get(key, Bucket())
        self.buckets[new.wallet][key] = Bucket(
            held_before.points + new.remaining, held_before.promised + promised, held_before.held + new.held
        )
        return new

    def take_all(self, customer_id: int = ANN, program_id: int = GOLD) -> None:
        """Empties a wallet without a trace; its enrolment and lifetime figures stay."""
        key = WalletKey(customer_id, program_id)
        self.lots = {lot_id: one for lot_id, one in self.lots.items() if one.wallet != key}
        self.buckets.pop(key, None)
        self.wallets[key] = replace(self.wallets[key], current=0, promised=0, held=0, due_at=None)

    def leave(self, customer_id: int, program_id: int = GOLD) -> None:
        """Ends an enrolment."""
        key = WalletKey(customer_id, program_id)
        self.wallets[key] = replace(self.wallets[key], enrolled_at=None)

    def change_customer(self, customer_id: int, **given: Any) -> None:
        """Changes fields of a customer."""
        self.customers[customer_id] = replace(self.customers[customer_id], **given)

    def change_program(self, program_id: int = GOLD, **given: Any) -> None:
        """Changes fields of a program."""
        self.programs[program_id] = replace(self.programs[program_id], **given)

    def change_redemption_policy(self, program_id: int = GOLD, **given: Any) -> None:
        """Changes fields of a program's redemption policy."""
        old = self.programs[program_id].policy
        self.change_program(program_id, policy=replace(old, redemption=replace(old.redemption, **given)))

    def change_transfer_policy(self, program_id: int = GOLD, **given: Any) -> None:
        """Changes fields of a program's transfer policy."""
        old = self.programs[program_id].policy
        self.change_program(program_id, policy=replace(old, transfer=replace(old.transfer, **given)))

    def change_otp_policy(self, program_id: int = GOLD, **given: Any) -> None:
        """Changes fields of a program's policy on one-time codes."""
        old = self.programs[program_id].policy
        self.change_program(program_id, policy=replace(old, otp=replace(old.otp, **given)))

    def pass_time(self, **given: float) -> None:
        """Lets time pass, as in `timedelta`."""
        self.now += timedelta(**given)

    def copy(self) -> World:
        """The same world, apart from this one."""
        other = copy.copy(self)
        for name, value in self.__dict__.items():
            if isinstance(value, list):
                setattr(other, name, list(value))
            if isinstance(value, dict):
                parts = {key: dict(part) if isinstance(part, dict) else part for key, part in value.items()}
                setattr(other, name, parts)
        return other

    # -- questions ---------------------------------------------------------------------------------------------------

    def lots_of(self, customer_id: int, program_id: int = GOLD) -> list[Lot]:
        """A wallet's lots with points remaining, in spending order."""
        key = WalletKey(customer_id, program_id)
        found = (one for one in self.lots.values() if one.wallet == key and one.remaining)
        return sorted(found, key=spending_key)

    def remaining(self, customer_id: int, program_id: int = GOLD) -> dict[int, int]:
        """What remains in a wallet's lots, in spending order."""
        return {one.lot_id: one.remaining for one in self.lots_of(customer_id, program_id)}

    def wallet(self, customer_id: int, program_id: int = GOLD) -> Wallet:
        """A wallet."""
        return self.wallets[WalletKey(customer_id, program_id)]

    def balance(self, customer_id: int, program_id: int = GOLD) -> Balance:
        """What an answer should show of a wallet, counted from its lots."""
        barred = self.programs[program_id].policy.transfer.barred_sources
        found = self.lots_of(customer_id, program_id)
        free = {one.lot_id: 0 if one.promised else one.remaining - one.held for one in found}
        return Balance(
            customer_id=customer_id,
            program_id=program_id,
            version=self.wallet(customer_id, program_id).version,
            current=sum(one.remaining for one in found),
            redeemable=sum(free.values()),
            transferable=sum(free[one.lot_id] for one in found if one.source not in barred),
            promised=sum(one.remaining for one in found if one.promised),
            held=sum(one.held for one in found),
        )

    def postings(self, entry: JournalEntry) -> list[tuple[Account, int, int, int]]:
        """The postings of an entry: account, customer, program, points."""
        return [(one.account, one.customer_id, one.program_id, one.points) for one in entry.postings]

    def events(self, kind: type[Any]) -> list[Any]:
        """The events of a kind that the last batch left."""
        return [event for event in self.changes.events if isinstance(event, kind)]

    def last_code(self) -> str:
        """The one-time code last sent."""
        return self.outbox[-1].secret

    # -- decisions ---------------------------------------------------------------------------------------------------

    def decide(self, command: Command) -> Outcome:
        """Decides one command, and does what was decided."""
        return self.decide_batch([command])[0]

    def accept(self, command: Command) -> Any:
        """Decides one command that must be accepted; its result."""
        outcome = self.decide(command)

        assert isinstance(outcome, Accepted), outcome
        return outcome.result

    def refuse(self, command: Command) -> Refused:
        """Decides one command that must be refused; the refusal."""
        outcome = self.decide(command)

        assert isinstance(outcome, Refused), outcome
        return outcome

    def decide_batch(self, batch: Sequence[Command]) -> list[Outcome]:
        """Decides commands together: loaded once, each seeing its predecessors, written once."""
        windows: dict[WalletKey, int] = {}
        first_id = self.last_id
        while True:
            self.last_id = first_id
            snapshot, keys = self.snapshot(batch, windows)
            try:
                outcomes = [
                    decide_one(snapshot, self.context(command), key) for command, key in zip(batch, keys, strict=True)
                ]
            except NeedMore as more:
                windows[more.wallet] = windows.get(more.wallet, self.window) * 4
                continue
            self._apply(snapshot.changes)
            return outcomes

    def ask(self, command: Command) -> Outcome:
        """Decides one command, and changes nothing."""
        return self.copy().decide(command)

    def context(self, command: Command, request_id: str = "request-1") -> Context:
        """The surroundings of a command: ids from `FIRST_ID` up, both channels, the key "k1"."""
        submission = Submission(ORG_ID, command, request_id, True, {}, "till-1", self.seed)
        return Context(submission, self.next_id, code_hash, "k1", self.channels)

    def next_id(self) -> int:
        """The next id."""
        self.last_id += 1
        return self.last_id

    def book(self) -> ProgramBook:
        """The organisation's programs as they are."""
        return ProgramBook(
            ORG_ID, 1, "IN", self.default_program_id, self.paused, dict(self.programs), dict(self.groups)
        )

    def org_config(self) -> OrgConfig:
        """The configuration keys; none if they cannot be read."""
        return OrgConfig(dict(self.config)) if self.config_available else OrgConfig({}, available=False)

    def snapshot(
        self, batch: Sequence[Command], windows: Mapping[WalletKey, int] | None = None
    ) -> tuple[Snapshot, list[Keys]]:
        """What a batch is decided on, and the keys of each of its commands."""
        book = self.book()
        directory = self.resolve([lookups_of(command) for command in batch])
        keys = [keys_of(command, directory, book) for command in batch]
        loaded = self.load(Keys.union(keys), directory, windows or {})
        return Snapshot(loaded, self.org_config()), keys

    # -- the load contract -------------------------------------------------------------------------------------------

    def resolve(self, lookups: Iterable[Lookups]) -> Directory:
        """What names stand for."""
        named = list(lookups)
        known = {name: one.customer_id for one in self.customers.values() for name in identifiers_of(one)}
        ids = {one for part in named for one in part.redemption_ids}
        references = {one for part in named for one in part.external_references}
        numbers = {one for part in named for one in part.transaction_numbers}
        by_reference = {
            one.external_reference: one.redemption_id
            for one in self.redemptions.values()
            if one.external_reference in references and one.external_reference
        }
        by_number: dict[str, tuple[str, ...]] = {}
        for one in sorted(self.redemptions.values(), key=lambda one: one.transaction_id):
            if one.transaction_number and one.transaction_number in numbers:
                by_number[one.transaction_number] = (
                    *by_number.get(one.transaction_number, ()),
                    one.redemption_id,
                )
        wanted = {one for part in named for one in part.transfer_ids}
        transfers = {
            one.transaction_id: MadeTransfer(
                one.transaction_id, one.customer_id, one.counterparty_id, one.program_id, one.points
            )
            for one in self.journal
            if one.kind is Kind.TRANSFER and one.counterparty_id and one.transaction_id in wanted
        }
        found = {*ids, *by_reference.values(), *(one for many in by_number.values() for one in many)}
        owners = {one: self.redemptions[one].customer_id for one in found if one in self.redemptions}
        parties = {party for made in transfers.values() for party in (made.source_id, made.destination_id)}
        bills = {one: self.purchases[one].customer_id for part in named for one in part.bills if one in self.purchases}
        return Directory(
            customers={name: known[name] for part in named for name in part.identifiers if name in known},
            redemptions=owners,
            by_external_reference=by_reference,
            by_transaction_number=by_number,
            transfers=transfers,
            survivors=dict(self._survivors({*owners.values(), *parties, *bills.values()})),
            bills=bills,
            holds={one: self.holds[one].customer_id for part in named for one in part.hold_ids if one in self.holds},
            families={known[one]: self._family(known[one]) for part in named for one in part.families if one in known},
        )

    def _family(self, customer_id: int) -> tuple[int, ...]:
        """Who was merged into a customer, directly or on the way."""
        found = [customer_id]
        for one in found:  # which grows on the way
            found += [other.customer_id for other in self.customers.values() if other.merged_into == one]
        return tuple(sorted(found[1:]))

    def _survivors(self, customer_ids: Iterable[int]) -> Iterator[tuple[int, int]]:
        for customer_id in customer_ids:
            one = self.customers[customer_id]
            while one.merged_into is not None:
                yield one.customer_id, one.merged_into
                one = self.customers[one.merged_into]

    def load(self, keys: Keys, directory: Directory, windows: Mapping[WalletKey, int]) -> Loaded:
        """What is declared, and nothing else."""
        customers = {one: self.customers[one] for one in keys.customers if one in self.customers}
        wallets = {key: one for key, one in self.wallets.items() if key.customer_id in customers}
        due = [key for key, one in wallets.items() if one.due_at is not None and one.due_at <= self.now]
        drawn = [key for key in keys.draws if key in wallets]
        redemptions = {one: self.redemptions[one] for one in keys.redemptions if one in self.redemptions}
        otp_customers = {customer_id for customer_id, _ in keys.otps}
        otps: dict[tuple[int, OtpAction], tuple[Otp, ...]] = {}
        for (customer_id, action, _), one in self.otps.items():
            if customer_id in otp_customers:
                otps[customer_id, action] = (*otps.get((customer_id, action), ()), one)
        first_day = self.now.date() - timedelta(days=30)
        transfer_lots, offspring = self._transfer_lots(keys.transfers)
        holding = {key.customer_id for key, one in wallets.items() if one.held}
        holds = {
            one.hold_id: one
            for one in self.holds.values()
            if one.hold_id in keys.holds or (one.state is HoldState.OPEN and one.customer_id in holding)
        }
        ended = [one for one in holds.values() if one.hold_id in keys.holds or one.expires_at < self.now]
        return Loaded(
            now=self.now,
            book=self.book(),
            directory=directory,
            keys=keys,
            customers=customers,
            wallets=wallets,
            buckets={key: dict(self.buckets[key]) for key in wallets if key in self.buckets},
            lots={key: self._rows(key, windows.get(key, self.window)) for key in {*due, *drawn}},
            promised={key: tuple(one for one in self.lots_of(*key) if one.promised) for key in due},
            redeemed_lots={
                one.lot_id: self.lots[one.lot_id] for made in (*redemptions.values(), *ended) for one in made.lots
            },
            otps=otps,
            otp_counters={key: one for key, one in self.otp_counters.items() if key[0] in otp_customers},
            velocity={
                key: {at: used for at, used in self.velocity[key].items() if at[1] >= first_day}
                for key in keys.velocity
                if key in self.velocity
            },
            redemptions=redemptions,
            external_references={
                one: directory.by_external_reference[one]
                for one in keys.external_references
                if one in directory.by_external_reference
            },
            purchases={one: self.purchases[one] for one in keys.transaction_numbers if one in self.purchases},
            recent_transfers=dict(self._recent_transfers(keys)),
            transfer_lots=transfer_lots,
            offspring=offspring,
            holds=holds,
            held_references={
                one.external_reference: one.hold_id
                for one in self.holds.values()
                if one.external_reference in keys.external_references
                and one.external_reference
                and one.state is HoldState.OPEN
                and one.expires_at >= self.now
            },
            missed_calls={
                customer_id: tuple(
                    one
                    for one in self.missed_calls.values()
                    if one.customer_id == customer_id
                    and one.used_by is None
                    and one.called_at >= self.now - timedelta(seconds=MISSED_CALL_WINDOW_S_MAX)
                )
                for customer_id in keys.missed_calls
            },
            returns=frozenset(one for one in keys.returns if one in self.returns),
            messages={one: self.waiting(one) for one in {*customers, *keys.messages} if self.has_failed(one)},
        )

    def _transfer_lots(
        self, transfer_ids: Iterable[int]
    ) -> tuple[dict[int, Lot], dict[int, tuple[tuple[int, Kind], ...]]]:
        made = {one.transaction_id: one for one in self.journal}
        found: dict[int, Lot] = {}
        offspring: dict[int, tuple[tuple[int, Kind], ...]] = {}
        for entry in (made[one] for one in transfer_ids if one in made):
            named = [one.lot_id for one in entry.postings if one.account is Account.WALLET]
            found |= {one: self.lots[one] for one in named}
            asked = [one.lot_id for one in entry.opened]
            for lot_id in asked:  # which grows on the way
                for child in (one for one in self.lots.values() if one.parent_lot_id == lot_id):
                    kind = made[child.transaction_id].kind
                    if kind is Kind.TRANSFER:
                        continue
                    found[child.lot_id] = child
                    offspring[lot_id] = (*offspring.get(lot_id, ()), (child.lot_id, kind))
                    if kind is not Kind.TRANSFER_REVERSAL:
                        asked.append(child.lot_id)
        return found, offspring

    def _rows(self, key: WalletKey, size: int) -> LotRows:
        found = self.lots_of(*key)
        return LotRows(tuple(found[:size]), complete=len(found) <= size)

    def waiting(self, customer_id: int) -> tuple[WaitingMessage, ...]:
        """The messages of a customer that were not delivered yet, oldest first."""
        return tuple(
            WaitingMessage(one.message_id, one.action, *self.attempts.get(one.message_id, (0, "")))
            for one in self.outbox
            if one.customer_id == customer_id
        )

    def has_failed(self, customer_id: int) -> bool:
        """Whether one of them failed."""
        return any(one.attempts for one in self.waiting(customer_id))

    def _recent_transfers(self, keys: Keys) -> Iterator[tuple[DuplicateKey, datetime]]:
        for key, window_s in keys.duplicates:
            since = self.now - timedelta(seconds=window_s)
            made = [
                one.created_at
                for one in self.journal
                if one.kind is Kind.TRANSFER
                and (one.customer_id, one.counterparty_id, one.program_id, one.points) == key
                and one.created_at >= since
            ]
            if made:
                yield key, max(made)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _apply(self, changes: Changes) -> None:
        for key, before in changes.wallets_before.items():
            assert self.wallets.get(key) == before, "a wallet's row before is the one that was loaded"
        self.changes = changes
        self.wallets |= changes.wallets
        for key in changes.wallets:
            if key in changes.buckets:
                self.buckets[key] = dict(changes.buckets[key])
        self.lots |= changes.lots_changed | changes.lots_opened
        for event in changes.events:
            self._write(event)

    def _write_velocity(self, event: ev.VelocityCounted | ev.VelocityUnited) -> None:
        if isinstance(event, ev.VelocityUnited):
            self.velocity[event.wallet] = dict(event.days)
            return
        days = self.velocity.setdefault(event.wallet, {})
        points, transfers = days.get((event.direction, event.day), (0, 0))
        days[event.direction, event.day] = (points + event.points, transfers + 1)

    def _write(self, event: ev.Event) -> None:
        match event:
            case ev.Booked():
                self.journal.append(event.entry)
            case ev.VelocityCounted() | ev.VelocityUnited():
                self._write_velocity(event)
            case ev.OtpSaved(otp):
                self.otps[otp.customer_id, otp.action, otp.program_id] = otp
            case ev.OtpCounterSaved(counter):
                self.otp_counters[counter.customer_id, counter.action] = counter
            case ev.RedemptionMade(redemption) | ev.RedemptionReversed(redemption, _):
                self.redemptions[redemption.redemption_id] = redemption
            case ev.CustomerSaved(saved, _):
                self.customers[saved.customer_id] = saved
            case ev.PurchaseRecorded(purchase):
                self.purchases[purchase.transaction_number] = purchase
            case ev.MessageQueued(message):
                self.outbox.append(message)
            case ev.MessagesCancelled():
                gone = (event.customer_id, event.action)
                self.outbox = [one for one in self.outbox if (one.customer_id, one.action) != gone]
            case _:
                self._write_later(event)

    def _write_later(self, event: ev.Event) -> None:
        match event:
            case ev.HoldOpened(hold) | ev.HoldClosed(hold):
                self.holds[hold.hold_id] = hold
            case ev.MissedCallRecorded(call) | ev.MissedCallUsed(call):
                self.missed_calls[call.call_id] = call
            case ev.CustomersErased(customer_ids):
                self.otps = {key: one for key, one in self.otps.items() if key[0] not in customer_ids}
                self.outbox = [one for one in self.outbox if one.customer_id not in customer_ids]
            case ev.ReturnBooked(returned):
                self.returns[returned.transaction_number] = returned
            case _:
                pass


def metals() -> World:
    """Ann and Ben, enrolled in gold and silver, with no points; Cid, a member of nothing; bronze, with nobody."""
    world = World()
    world.programs = {one: program(one) for one in (GOLD, SILVER, BRONZE)}
    world.groups = {METALS: ProgramGroup(METALS, "Metals", GOLD, (GOLD, SILVER))}
    for member in (GOLD, SILVER):
        world.change_program(member, group_id=METALS)
    world.enrol(ANN, GOLD, SILVER)
    world.enrol(BEN, GOLD, SILVER)
    world.enrol(CID)
    return world
