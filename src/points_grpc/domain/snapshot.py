"""The state that a batch of commands is decided on: loaded once, evolved by events, never queried from storage.

Rules of this file: "not loaded" is not "absent" (`NotLoaded` is a bug and shouts); lots of a wallet are loaded in
spending order and possibly in part (`NeedMore` asks for the rest); only `evolve` changes anything, and every change is
remembered for the storage in `changes`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from points_grpc.domain import events as ev
from points_grpc.domain.model import (
    POINTS_MAX,
    Account,
    Bucket,
    BucketKey,
    Customer,
    Hold,
    HoldState,
    Identifier,
    IdentifierType,
    Kind,
    Lot,
    MadeTransfer,
    MissedCall,
    OrgConfig,
    Otp,
    OtpAction,
    OtpCounter,
    ProgramBook,
    Purchase,
    Redemption,
    WaitingMessage,
    Wallet,
    WalletKey,
)
from points_grpc.domain.policy import Direction

NEVER = datetime.max.replace(tzinfo=UTC)
"""Stands for "never expires" where lots are compared."""

OFFSPRING = frozenset({Kind.REVERSAL, Kind.MERGE, Kind.TRANSFER_REVERSAL})
"""What opens lots with a parent, transfers apart: the last one gives points back to whoever sent them, by the others
they stay with the customer, or with whoever that one was merged into."""

SpendingKey = tuple[datetime, datetime, int]


class NotLoaded(Exception):
    """A decision asked for a key that nobody declared: a bug."""


class NeedMore(Exception):
    """A decision needs more lots of a wallet than were loaded: load more and decide again."""

    def __init__(self, wallet: WalletKey) -> None:
        """Names the wallet whose window ended too early."""
        super().__init__(f"window of program {wallet.program_id} too short")
        self.wallet = wallet


Velocity = Mapping[tuple[Direction, date], tuple[int, int]]
"""Points and transfers of a wallet by direction and day."""


class DuplicateKey(NamedTuple):
    """Names equal transfers: from, to, program, points."""

    source_id: int
    destination_id: int
    program_id: int
    points: int


ANY_POINTS = POINTS_MAX
"""Drawn points of which nobody can tell how many lots they lie in before these are looked at."""


class Lookups(Struct, frozen=True):
    """What a command names before anything is resolved. `bills`: purchases whose customers may have been merged;
    `families`: customers of whom it is asked who was merged into them.
    """

    identifiers: tuple[Identifier, ...] = ()
    redemption_ids: tuple[str, ...] = ()
    external_references: tuple[str, ...] = ()
    transaction_numbers: tuple[str, ...] = ()
    transfer_ids: tuple[int, ...] = ()
    hold_ids: tuple[str, ...] = ()
    bills: tuple[str, ...] = ()
    families: tuple[Identifier, ...] = ()


class Directory(Struct, frozen=True):
    """What the names resolved to; an absent key means that there is no such thing.

    `survivors` says into whom those were merged whom a redemption, a transfer or a bill names, and these in turn;
    `families`, who was merged into a customer, directly or on the way.
    """

    customers: Mapping[Identifier, int]
    redemptions: Mapping[str, int]
    by_external_reference: Mapping[str, str]
    by_transaction_number: Mapping[str, tuple[str, ...]]
    transfers: Mapping[int, MadeTransfer] = {}
    survivors: Mapping[int, int] = {}
    holds: Mapping[str, int] = {}
    bills: Mapping[str, int] = {}
    families: Mapping[int, tuple[int, ...]] = {}

    def with_survivors(self, customer_ids: Iterable[int]) -> frozenset[int]:
        """Customers whom a redemption, a transfer or a bill names, and whoever they were merged into."""
        found: set[int] = set()
        for customer_id in customer_ids:
            one: int | None = customer_id
            while one is not None:
                found.add(one)
                one = self.survivors.get(one)
        return frozenset(found)


class Keys(Struct, frozen=True):
    """What a command needs loaded. Wallets and buckets of `customers` come along whole.

    `draws`: wallets whose lots may be drawn, and how many points at most, or `ANY_POINTS`: the more, the more lots are
    loaded at once; `barred`: sources whose lots some command passes over. `velocity`: wallets whose last 30 days count;
    `duplicates`: equal transfers made since a time; `missed_calls`: customers whose unused calls may be used. Open
    holds of `customers` come along whole, `holds` names others. `returns`: bills that may have been returned;
    `messages`: customers whose undelivered messages change.
    """

    customers: frozenset[int] = frozenset()
    draws: Mapping[WalletKey, int] = {}
    barred: frozenset[int] = frozenset()
    otps: frozenset[tuple[int, OtpAction]] = frozenset()
    velocity: frozenset[WalletKey] = frozenset()
    redemptions: frozenset[str] = frozenset()
    external_references: frozenset[str] = frozenset()
    transaction_numbers: frozenset[str] = frozenset()
    duplicates: frozenset[tuple[DuplicateKey, int]] = frozenset()
    transfers: frozenset[int] = frozenset()
    holds: frozenset[str] = frozenset()
    missed_calls: frozenset[int] = frozenset()
    returns: frozenset[str] = frozenset()
    messages: frozenset[int] = frozenset()

    @staticmethod
    def union(parts: Iterable[Keys]) -> Keys:
        """All keys of a batch."""
        all_parts = list(parts)
        return Keys(
            customers=frozenset().union(*(part.customers for part in all_parts)),
            draws=_sums(part.draws for part in all_parts),
            barred=frozenset().union(*(part.barred for part in all_parts)),
            otps=frozenset().union(*(part.otps for part in all_parts)),
            velocity=frozenset().union(*(part.velocity for part in all_parts)),
            redemptions=frozenset().union(*(part.redemptions for part in all_parts)),
            external_references=frozenset().union(*(part.external_references for part in all_parts)),
            transaction_numbers=frozenset().union(*(part.transaction_numbers for part in all_parts)),
            duplicates=frozenset().union(*(part.duplicates for part in all_parts)),
            transfers=frozenset().union(*(part.transfers for part in all_parts)),
            holds=frozenset().union(*(part.holds for part in all_parts)),
            missed_calls=frozenset().union(*(part.missed_calls for part in all_parts)),
            returns=frozenset().union(*(part.returns for part in all_parts)),
            messages=frozenset().union(*(part.messages for part in all_parts)),
        )


def _sums(parts: Iterable[Mapping[WalletKey, int]]) -> Mapping[WalletKey, int]:
    found: dict[WalletKey, int] = {}
    for part in parts:
        for key, points in part.items():
            found[key] = found.get(key, 0) + points
    return found


class LotRows(Struct, frozen=True):
    """The first lots of a wallet in spending order with points remaining; `complete` if there are no others."""

    lots: tuple[Lot, ...]
    complete: bool


class Loaded(Struct, frozen=True):
    """What the storage read for the keys of a batch. Absent keys are absent rows, but only for declared keys.

    `lots` also has an entry for every wallet of a declared customer that is due (`due_at` <= now), so that a touch can
    book. `promised` holds, for those, every promised lot with points remaining. `redeemed_lots` holds the lots of the
    declared redemptions, of the declared holds, and of open holds that are past their deadline. `velocity` is of the
    last 30 days at least. `held_references` holds the references of open holds.
    `transfer_lots` holds the lots that the declared transfers drew and opened, and what `OFFSPRING` made of the latter;
    `offspring` says of a lot which of those were drawn from it, and by what. `messages` holds the undelivered messages
    of customers of whom one may have failed, oldest first; of no others.
    """

    now: datetime
    book: ProgramBook
    directory: Directory
    keys: Keys
    customers: Mapping[int, Customer]
    wallets: Mapping[WalletKey, Wallet]
    buckets: Mapping[WalletKey, Mapping[BucketKey, Bucket]]
    lots: Mapping[WalletKey, LotRows]
    promised: Mapping[WalletKey, tuple[Lot, ...]]
    redeemed_lots: Mapping[int, Lot]
    otps: Mapping[tuple[int, OtpAction], tuple[Otp, ...]]
    otp_counters: Mapping[tuple[int, OtpAction], OtpCounter]
    velocity: Mapping[WalletKey, Velocity]
    redemptions: Mapping[str, Redemption]
    external_references: Mapping[str, str]
    purchases: Mapping[str, Purchase]
    recent_transfers: Mapping[DuplicateKey, datetime]
    transfer_lots: Mapping[int, Lot] = {}
    offspring: Mapping[int, tuple[tuple[int, Kind], ...]] = {}
    holds: Mapping[str, Hold] = {}
    held_references: Mapping[str, str] = {}
    missed_calls: Mapping[int, tuple[MissedCall, ...]] = {}
    returns: frozenset[str] = frozenset()
    messages: Mapping[int, tuple[WaitingMessage, ...]] = {}


@dataclass(slots=True)
class Changes:
    """What a batch changed, as the storage writes it: final rows, and the events in order.

    `buckets` and `velocity` are those of every wallet that was loaded or opened, whole; written with the `wallets` that
    changed, as no bucket and no day changes without its wallet.
    """

    buckets: Mapping[WalletKey, Mapping[BucketKey, Bucket]]
    velocity: Mapping[WalletKey, Velocity]
    wallets: dict[WalletKey, Wallet] = field(default_factory=dict)
    wallets_before: dict[WalletKey, Wallet | None] = field(default_factory=dict)
    lots_opened: dict[int, Lot] = field(default_factory=dict)
    lots_changed: dict[int, Lot] = field(default_factory=dict)
    events: list[ev.Event] = field(default_factory=list)


class _Window:
    """The loaded lots of a wallet in spending order."""

    __slots__ = ("complete", "horizon", "order")

    def __init__(self, rows: LotRows) -> None:
        self.order: list[SpendingKey] = [spending_key(lot) for lot in rows.lots]
        self.complete = rows.complete
        self.horizon = self.order[-1] if self.order else None


class Snapshot:
    """The state that decisions see. One per batch and attempt; evolves from command to command."""

    def __init__(self, loaded: Loaded, config: OrgConfig) -> None:
        """Starts from what was loaded and the organisation's configuration, which is read apart."""
        self.now = loaded.now
        self.book = loaded.book
        self.config = config
        self._loaded = loaded
        self._identifiers = dict(loaded.directory.customers)
        self._customers = dict(loaded.customers)
        self._wallets = dict(loaded.wallets)
        self._wallets_of: dict[int, list[WalletKey]] = {}
        for key in loaded.wallets:
            self._wallets_of.setdefault(key.customer_id, []).append(key)
        self._buckets = {key: dict(buckets) for key, buckets in loaded.buckets.items()}
        self._velocity = {key: dict(days) for key, days in loaded.velocity.items()}
        self.changes = Changes(self._buckets, self._velocity)
        self._lots: dict[int, Lot] = {**loaded.redeemed_lots, **loaded.transfer_lots}
        self._offspring = {lot_id: list(found) for lot_id, found in loaded.offspring.items()}
        self._windows: dict[WalletKey, _Window] = {}
        for key, rows in loaded.lots.items():
            self._windows[key] = _Window(rows)
            for lot in rows.lots:
                self._lots[lot.lot_id] = lot
        self._promised: dict[WalletKey, dict[int, Lot]] = {}
        for key, lots in loaded.promised.items():
            self._promised[key] = {lot.lot_id: lot for lot in lots}
            for lot in lots:
                self._lots.setdefault(lot.lot_id, lot)
        self._otps = {key: {otp.program_id: otp for otp in otps} for key, otps in loaded.otps.items()}
        self._otp_counters = dict(loaded.otp_counters)
        self._redemptions = dict(loaded.redemptions)
        self._by_transaction_number = {
            number: list(ids) for number, ids in loaded.directory.by_transaction_number.items()
        }
        self._by_external_reference = dict(loaded.external_references)
        self._purchases = dict(loaded.purchases)
        self._recent_transfers = dict(loaded.recent_transfers)
        self._holds = dict(loaded.holds)
        self._holds_of: dict[int, list[str]] = {}
        for hold_id, hold in loaded.holds.items():
            self._holds_of.setdefault(hold.customer_id, []).append(hold_id)
        self._held_references = dict(loaded.held_references)
        self._missed_calls = {key: {call.call_id: call for call in calls} for key, calls in loaded.missed_calls.items()}
        self._returns = set(loaded.returns)
        self._messages = dict(loaded.messages)
        self._created: set[int] = set()
        self._days: dict[str, date] = {}
        self.due_customers = _due_customers(loaded)
        """Of whom something was due when it was loaded; nothing that the batch itself does is due in it."""

    # -- questions ---------------------------------------------------------------------------------------------------

    def today(self, time_zone: str) -> date:
        """The day that `now` falls on in a time zone."""
        day = self._days.get(time_zone)
        if day is None:
            day = self._days[time_zone] = self.now.astimezone(ZoneInfo(time_zone)).date()
        return day

    def find(self, identifier: Identifier) -> Customer | None:
        """The customer whom an identifier names, or None. Who was erased is unknown from then on."""
        found = self.on_record(identifier)
        return None if found is None or found.erased_at is not None else found

    def on_record(self, identifier: Identifier) -> Customer | None:
        """As `find`, erased customers too: their numbers stand in the journal, and are never given again."""
        customer_id = self._identifiers.get(identifier)
        return None if customer_id is None else self.customer(customer_id)

    def merged_into(self, customer_id: int) -> tuple[int, ...]:
        """Who was merged into a customer, directly or on the way; asked in `Lookups.families`."""
        return self._loaded.directory.families.get(customer_id, ())

    def customer(self, customer_id: int) -> Customer:
        """A customer by id; the id must be known to exist."""
        try:
            return self._customers[customer_id]
        except KeyError:
            raise NotLoaded("customer") from None

    def lineage(self, customer_id: int) -> Sequence[Customer]:
        """The customer, and whoever it was merged into: last the one who lives on."""
        found = [self.customer(customer_id)]
        while (survivor_id := found[-1].merged_into) is not None:
            found.append(self.customer(survivor_id))
        return found

    def speaks_for(self, customer_id: int, other_id: int) -> bool:
        """Whether a customer is the other one, or one into whom that one was merged.

        Who is not loaded was named after names were resolved, by another process, and so lives on.
        """
        one: int | None = other_id
        while one is not None and one != customer_id:
            known = self._customers.get(one)
            one = known.merged_into if known else None
        return one == customer_id

    def survivor(self, customer_id: int) -> Customer:
        """Who lives on for a customer: mostly that one."""
        return self.lineage(customer_id)[-1]

    def wallet(self, key: WalletKey) -> Wallet | None:
        """A wallet of a loaded customer; None if there is none."""
        found = self._wallets.get(key)
        if found is None and key.customer_id not in self._customers:
            raise NotLoaded("wallet")
        return found

    def wallets_of(self, customer_id: int) -> Sequence[WalletKey]:
        """The wallets of a loaded customer."""
        if customer_id not in self._customers:
            raise NotLoaded("wallets")
        return self._wallets_of.get(customer_id, ())

    def buckets(self, key: WalletKey) -> Mapping[BucketKey, Bucket]:
        """The totals of a wallet by earning program, source and category."""
        found = self._buckets.get(key)
        if found is not None:
            return found
        if key.customer_id not in self._customers:
            raise NotLoaded("buckets")
        return {}

    def lot(self, lot_id: int) -> Lot:
        """A lot that was loaded, in a window or for a reversal."""
        try:
            return self._lots[lot_id]
        except KeyError:
            raise NotLoaded("lot") from None

    def lots_in_spending_order(self, key: WalletKey) -> Iterable[Lot]:
        """The lots of a wallet with points remaining: earliest expiry, earlier award, lower id.

        Raises `NeedMore` when iteration reaches lots that were not loaded.
        """
        window = self._windows.get(key)
        if window is None:
            if key.customer_id in self._created or key not in self._loaded.wallets:
                return
            raise NotLoaded("lots")
        for order in window.order:
            if not window.complete and window.horizon is not None and order > window.horizon:
                raise NeedMore(key)
            lot = self._lots[order[2]]
            if lot.remaining:
                yield lot
        if not window.complete:
            raise NeedMore(key)

    def was_due(self, key: WalletKey) -> bool:
        """Whether the wallet was due when it was loaded: then its promised lots, too, came along."""
        return key in self._promised

    def promised_lots(self, key: WalletKey) -> Iterable[Lot]:
        """The promised lots of a due wallet with points remaining."""
        return [lot for lot_id in self._promised.get(key, {}) if (lot := self._lots[lot_id]).remaining]

    def otps(self, customer_id: int, action: OtpAction) -> Mapping[int, Otp]:
        """The last codes of a customer for an action, by program."""
        key = (customer_id, action)
        if key not in self._loaded.keys.otps and customer_id not in self._created:
            raise NotLoaded("otps")
        return self._otps.get(key, {})

    def otp_counter(self, customer_id: int, action: OtpAction) -> OtpCounter | None:
        """The counters of a customer for an action."""
        key = (customer_id, action)
        if key not in self._loaded.keys.otps and customer_id not in self._created:
            raise NotLoaded("otp counter")
        return self._otp_counters.get(key)

    def velocity(self, key: WalletKey) -> Velocity:
        """Points and transfers of a wallet by direction and day, of the last 30 days."""
        if key not in self._loaded.keys.velocity and key.customer_id not in self._created:
            raise NotLoaded("velocity")
        return self._velocity.get(key, {})

    def redemption(self, redemption_id: str) -> Redemption | None:
        """A redemption by id, or None."""
        return self._redemptions.get(redemption_id)

    def redemption_by_external_reference(self, reference: str) -> str | None:
        """The id of the redemption that carries an external reference."""
        if reference not in self._loaded.keys.external_references:
            raise NotLoaded("external reference")
        return self._by_external_reference.get(reference)

    def has_external_reference(self, reference: str) -> bool:
        """Whether a redemption carries the external reference, or a hold that is open."""
        return self.redemption_by_external_reference(reference) is not None or reference in self._held_references

    def hold(self, hold_id: str) -> Hold | None:
        """A hold that was declared, or None."""
        if hold_id not in self._loaded.keys.holds:
            raise NotLoaded("hold")
        return self._holds.get(hold_id)

    def open_holds(self, customer_id: int) -> Sequence[Hold]:
        """The open holds of a loaded customer, booked as such: a deadline may have passed."""
        if customer_id not in self._customers:
            raise NotLoaded("holds")
        holds = (self._holds[hold_id] for hold_id in self._holds_of.get(customer_id, ()))
        return [hold for hold in holds if hold.state is HoldState.OPEN]

    def unused_call(self, customer: Customer, *, since: datetime) -> MissedCall | None:
        """The earliest unused missed call from the customer's present number, not older than a time."""
        if customer.customer_id not in self._loaded.keys.missed_calls and customer.customer_id not in self._created:
            raise NotLoaded("missed calls")
        found = [
            call
            for call in self._missed_calls.get(customer.customer_id, {}).values()
            if call.used_by is None and call.mobile == customer.mobile and since <= call.called_at <= self.now
        ]
        return min(found, key=lambda call: (call.called_at, call.call_id), default=None)

    def redemptions_by_transaction_number(self, number: str) -> Sequence[str]:
        """The ids of the redemptions made on a bill, oldest first."""
        if number not in self._loaded.keys.transaction_numbers:
            raise NotLoaded("transaction number")
        return self._by_transaction_number.get(number, ())

    def transfer(self, transfer_id: int) -> MadeTransfer | None:
        """A transfer by id, or None."""
        if transfer_id not in self._loaded.keys.transfers:
            raise NotLoaded("transfer")
        return self._loaded.directory.transfers.get(transfer_id)

    def lots_of_transfer(self, transfer_id: int) -> Sequence[Lot]:
        """The lots that a transfer opened, as they are now."""
        opened = [lot.lot_id for lot in self._loaded.transfer_lots.values() if lot.transaction_id == transfer_id]
        return [self._lots[lot_id] for lot_id in sorted(opened)]

    def offspring(self, lot_id: int) -> Sequence[tuple[Lot, Kind]]:
        """The lots drawn from a lot of a transfer, other transfers apart, and what drew them."""
        return [(self._lots[child_id], kind) for child_id, kind in self._offspring.get(lot_id, ())]

    def purchase(self, number: str) -> Purchase | None:
        """What is known of a bill."""
        if number not in self._loaded.keys.transaction_numbers:
            raise NotLoaded("purchase")
        return self._purchases.get(number)

    def owners_of_bill(self, number: str) -> Sequence[int]:
        """Whose a bill is: whoever recorded it, else whoever redeemed on it; nobody's if it is on no record."""
        if (bill := self.purchase(number)) is not None:
            return (bill.customer_id,)
        return [self._redeemer(one) for one in self.redemptions_by_transaction_number(number)]

    def _redeemer(self, redemption_id: str) -> int:
        """Who made a redemption, whether it was loaded or only named by its bill."""
        made = self._redemptions.get(redemption_id)
        return self._loaded.directory.redemptions[redemption_id] if made is None else made.customer_id

    def is_returned(self, number: str) -> bool:
        """Whether a bill was returned."""
        if number not in self._loaded.keys.returns:
            raise NotLoaded("return")
        return number in self._returns

    @property
    def has_failed_messages(self) -> bool:
        """Whether there may be a customer with messages that failed: what is asked of every write."""
        return bool(self._messages)

    def waiting_messages(self, customer_id: int) -> Sequence[WaitingMessage]:
        """The undelivered messages of a customer of whom one may have failed, oldest first; else none."""
        return self._messages.get(customer_id, ())

    def last_equal_transfer(self, key: DuplicateKey) -> datetime | None:
        """When an equal transfer was last made inside the window that was declared."""
        return self._recent_transfers.get(key)

    # -- evolution ---------------------------------------------------------------------------------------------------

    def evolve(self, happened: Iterable[ev.Event]) -> None:
        """Applies events in order; the one place that changes the snapshot.

        Events without a handler are of no concern to later decisions: audit rows are never read here, and changes of
        configuration run in a batch of their own.
        """
        append = self.changes.events.append
        for event in happened:
            append(event)
            handler = _EVOLUTIONS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _evolve_booked(self, event: ev.Booked) -> None:
        entry = event.entry
        opened: set[int] = set()
        for lot in entry.opened:
            opened.add(lot.lot_id)
            self._open_lot(lot, entry.kind)
        for posting in entry.postings:
            if posting.account is not Account.WALLET:
                continue
            points, held = posting.points, posting.held
            lot = self._lots[posting.lot_id]
            if posting.lot_id not in opened:
                revived = lot.remaining == 0
                lot = _with_remaining(lot, lot.remaining + points, lot.held + held)
                self._put_lot(lot)
                if revived:
                    self._show_in_window(lot)
            promised = points if lot.promised else 0
            self._add_to_bucket(lot.wallet, lot.bucket, points, promised, held)
            wallet = self._wallets[lot.wallet]
            due_at = wallet.due_at
            if points > 0 and lot.remaining > 0:  # not if it had expired on arrival
                due_at = _earlier(due_at, due_at_of(lot))
            self._put_wallet(
                Wallet(
                    wallet.key,
                    posting.wallet_version,
                    posting.balance_after,
                    wallet.promised + promised,
                    wallet.held + held,
                    wallet.lifetime_earned,
                    wallet.lifetime_received,
                    wallet.lifetime_purchases,
                    wallet.enrolled_at,
                    due_at,
                )
            )
        if entry.kind is Kind.TRANSFER and entry.counterparty_id is not None:
            key_of_equal = DuplicateKey(entry.customer_id, entry.counterparty_id, entry.program_id, entry.points)
            self._recent_transfers[key_of_equal] = entry.created_at

    def _open_lot(self, lot: Lot, kind: Kind) -> None:
        self._lots[lot.lot_id] = self.changes.lots_opened[lot.lot_id] = lot
        self._show_in_window(lot)
        if lot.promised and lot.wallet in self._promised:
            self._promised[lot.wallet][lot.lot_id] = lot
        if kind in OFFSPRING and lot.parent_lot_id is not None:
            self._offspring.setdefault(lot.parent_lot_id, []).append((lot.lot_id, kind))

    def _evolve_matured(self, event: ev.LotsMatured) -> None:
        matured = 0
        for lot_id in event.lot_ids:
            lot = self._lots[lot_id]
            matured += lot.remaining
            self._add_to_bucket(event.wallet, lot.bucket, 0, -lot.remaining)
            self._put_lot(replace(lot, promised=False))
            self._promised.get(event.wallet, {}).pop(lot_id, None)
        wallet = self._wallets[event.wallet]
        self._put_wallet(replace(wallet, promised=wallet.promised - matured))

    def _evolve_lifetime(self, event: ev.LifetimeRaised) -> None:
        wallet = self._wallets[event.wallet]
        self._put_wallet(
            Wallet(
                wallet.key,
                wallet.version,
                wallet.current,
                wallet.promised,
                wallet.held,
                wallet.lifetime_earned + event.earned,
                wallet.lifetime_received + event.received,
                wallet.lifetime_purchases + event.purchases,
                wallet.enrolled_at,
                wallet.due_at,
            )
        )

    def _evolve_due(self, event: ev.DueMoved) -> None:
        self._put_wallet(replace(self._wallets[event.wallet], due_at=event.due_at))

    def _evolve_velocity(self, event: ev.VelocityCounted) -> None:
        days = self._velocity.setdefault(event.wallet, {})
        points, transfers = days.get((event.direction, event.day), (0, 0))
        days[event.direction, event.day] = (points + event.points, transfers + 1)
        if event.wallet not in self.changes.wallets:  # a pooled draw may leave the wallet itself as it was
            self._put_wallet(self._wallet_or_new(event.wallet))

    def _evolve_velocity_united(self, event: ev.VelocityUnited) -> None:
        self._velocity[event.wallet] = dict(event.days)
        if event.wallet not in self.changes.wallets:
            self._put_wallet(self._wallet_or_new(event.wallet))

    def _evolve_otp(self, event: ev.OtpSaved) -> None:
        otp = event.otp
        self._otps.setdefault((otp.customer_id, otp.action), {})[otp.program_id] = otp

    def _evolve_otp_counter(self, event: ev.OtpCounterSaved) -> None:
        self._otp_counters[event.counter.customer_id, event.counter.action] = event.counter

    def _evolve_reversal(self, event: ev.RedemptionReversed) -> None:
        self._redemptions[event.redemption.redemption_id] = event.redemption

    def _evolve_purchase(self, event: ev.PurchaseRecorded) -> None:
        self._purchases[event.purchase.transaction_number] = event.purchase

    def _evolve_return(self, event: ev.ReturnBooked) -> None:
        self._returns.add(event.returned.transaction_number)

    def _evolve_queued(self, event: ev.MessageQueued) -> None:
        message = event.message
        if (waiting := self._messages.get(message.customer_id)) is not None:
            new = WaitingMessage(message.message_id, message.action, 0, "")
            self._messages[message.customer_id] = (*waiting, new)

    def _evolve_cancelled(self, event: ev.MessagesCancelled) -> None:
        if (waiting := self._messages.get(event.customer_id)) is not None:
            self._put_messages(event.customer_id, tuple(one for one in waiting if one.action is not event.action))

    def _evolve_settled(self, event: ev.MessageSettled) -> None:
        waiting = self._messages.get(event.customer_id, ())
        left = [one for one in waiting if one.message_id != event.message_id]
        if event.retry_at is not None and not event.delivered:
            tried = (one for one in waiting if one.message_id == event.message_id)
            left += [replace(one, attempts=one.attempts + 1, error=event.error) for one in tried]
        self._put_messages(event.customer_id, tuple(sorted(left, key=lambda one: one.message_id)))

    def _put_messages(self, customer_id: int, waiting: tuple[WaitingMessage, ...]) -> None:
        self._messages[customer_id] = waiting
        customer = self._customers.get(customer_id)
        if customer is not None:
            failed = any(one.attempts for one in waiting)
            self._customers[customer_id] = replace(customer, messages_failed=failed)

    def _evolve_redemption(self, event: ev.RedemptionMade) -> None:
        redemption = event.redemption
        self._redemptions[redemption.redemption_id] = redemption
        if redemption.external_reference:
            self._by_external_reference[redemption.external_reference] = redemption.redemption_id
        if redemption.transaction_number:
            numbered = self._by_transaction_number.setdefault(redemption.transaction_number, [])
            numbered.append(redemption.redemption_id)

    def _evolve_hold_opened(self, event: ev.HoldOpened) -> None:
        hold = event.hold
        self._holds[hold.hold_id] = hold
        self._holds_of.setdefault(hold.customer_id, []).append(hold.hold_id)
        if hold.external_reference:
            self._held_references[hold.external_reference] = hold.hold_id
        for key in dict.fromkeys(lot.wallet for lot in hold.lots):
            wallet = self._wallets[key]
            self._put_wallet(replace(wallet, due_at=_earlier(wallet.due_at, hold.expires_at)))

    def _evolve_hold_closed(self, event: ev.HoldClosed) -> None:
        hold = event.hold
        self._holds[hold.hold_id] = hold
        if hold.external_reference and self._held_references.get(hold.external_reference) == hold.hold_id:
            del self._held_references[hold.external_reference]

    def _evolve_missed_call(self, event: ev.MissedCallRecorded | ev.MissedCallUsed) -> None:
        self._missed_calls.setdefault(event.call.customer_id, {})[event.call.call_id] = event.call

    def _evolve_customer(self, event: ev.CustomerSaved) -> None:
        customer = event.customer
        self._customers[customer.customer_id] = customer
        if event.created:
            self._created.add(customer.customer_id)
            for identifier in identifiers_of(customer):
                self._identifiers[identifier] = customer.customer_id

    def _evolve_enrolled(self, event: ev.Enrolled) -> None:
        self._put_wallet(replace(self._wallet_or_new(event.wallet), enrolled_at=event.at))

    def _wallet_or_new(self, key: WalletKey) -> Wallet:
        wallet = self._wallets.get(key)
        if wallet is None:
            self._wallets_of.setdefault(key.customer_id, []).append(key)
            wallet = Wallet(key)
        return wallet

    def _put_wallet(self, wallet: Wallet) -> None:
        key = wallet.key
        changes = self.changes
        if key not in changes.wallets_before:
            changes.wallets_before[key] = self._loaded.wallets.get(key)
        self._wallets[key] = changes.wallets[key] = wallet

    def _put_lot(self, lot: Lot) -> None:
        self._lots[lot.lot_id] = lot
        changes = self.changes
        (changes.lots_opened if lot.lot_id in changes.lots_opened else changes.lots_changed)[lot.lot_id] = lot

    def _show_in_window(self, lot: Lot) -> None:
        window = self._windows.get(lot.wallet)
        if window is None:
            if lot.wallet in self._loaded.wallets and lot.customer_id not in self._created:
                return
            self._windows[lot.wallet] = window = _Window(LotRows((), complete=True))
        order = spending_key(lot)
        at = bisect_left(window.order, order)
        if at == len(window.order) or window.order[at] != order:
            window.order.insert(at, order)

    def _add_to_bucket(self, key: WalletKey, bucket_key: BucketKey, points: int, promised: int, held: int = 0) -> None:
        buckets = self._buckets.get(key)
        if buckets is None:
            buckets = self._buckets[key] = {}
        before = buckets.get(bucket_key, _EMPTY_BUCKET)
        bucket = Bucket(before[0] + points, before[1] + promised, before[2] + held)
        buckets[bucket_key] = bucket


_EMPTY_BUCKET = Bucket()

_EVOLUTIONS: Mapping[type[Any], Callable[[Snapshot, Any], None]] = {
    ev.Booked: Snapshot._evolve_booked,
    ev.LotsMatured: Snapshot._evolve_matured,
    ev.DueMoved: Snapshot._evolve_due,
    ev.LifetimeRaised: Snapshot._evolve_lifetime,
    ev.VelocityCounted: Snapshot._evolve_velocity,
    ev.VelocityUnited: Snapshot._evolve_velocity_united,
    ev.OtpSaved: Snapshot._evolve_otp,
    ev.OtpCounterSaved: Snapshot._evolve_otp_counter,
    ev.RedemptionMade: Snapshot._evolve_redemption,
    ev.RedemptionReversed: Snapshot._evolve_reversal,
    ev.HoldOpened: Snapshot._evolve_hold_opened,
    ev.HoldClosed: Snapshot._evolve_hold_closed,
    ev.MissedCallRecorded: Snapshot._evolve_missed_call,
    ev.MissedCallUsed: Snapshot._evolve_missed_call,
    ev.CustomerSaved: Snapshot._evolve_customer,
    ev.Enrolled: Snapshot._evolve_enrolled,
    ev.PurchaseRecorded: Snapshot._evolve_purchase,
    ev.ReturnBooked: Snapshot._evolve_return,
    ev.MessageQueued: Snapshot._evolve_queued,
    ev.MessagesCancelled: Snapshot._evolve_cancelled,
    ev.MessageSettled: Snapshot._evolve_settled,
}
"""What each event changes; a table, because it is looked up for every event."""


def _due_customers(loaded: Loaded) -> frozenset[int]:
    overdue = {
        hold.customer_id
        for hold in loaded.holds.values()
        if hold.state is HoldState.OPEN and hold.expires_at < loaded.now
    }
    return frozenset(overdue.union(key.customer_id for key in loaded.promised))


def identifiers_of(customer: Customer) -> list[Identifier]:
    """Every identifier that names the customer."""
    found = [Identifier(IdentifierType.ID, str(customer.customer_id))]
    if customer.mobile is not None:
        found.append(Identifier(IdentifierType.MOBILE, customer.mobile))
    if customer.email is not None:
        found.append(Identifier(IdentifierType.EMAIL, customer.email))
    if customer.external_id is not None:
        found.append(Identifier(IdentifierType.EXTERNAL_ID, customer.external_id))
    return found


def spending_key(lot: Lot) -> SpendingKey:
    """The order in which lots are spent: earliest expiry (never = last), earlier award, lower id."""
    return (lot.expires_at or NEVER, lot.awarded_at, lot.lot_id)


def due_at_of(lot: Lot) -> datetime | None:
    """The first instant at which something of the lot may be due; a lot is usable through its expiry."""
    return _earlier(lot.available_from if lot.promised else None, lot.expires_at)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def _with_remaining(lot: Lot, remaining: int, held: int) -> Lot:
    return Lot(
        lot.lot_id,
        lot.wallet,
        lot.bucket,
        lot.points,
        remaining,
        held,
        lot.awarded_at,
        lot.available_from,
        lot.promised,
        lot.expires_at,
        lot.parent_lot_id,
        lot.root_lot_id,
        lot.transaction_id,
    )
