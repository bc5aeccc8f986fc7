"""What a batch is decided on: names resolved, and everything it declared read, in a fixed number of statements.

Rules of this file: a statement whose keys are none is left out; no statement runs in a loop over keys; what was read
while names were resolved is not read again (`Reader` lives as long as one transaction). What can be asked without
knowing another answer is asked first, all of it (`ask_…`), so that it travels together; what follows from the answers,
mostly nothing, is asked then. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from points_grpc.domain.model import (
    Bucket,
    BucketKey,
    Customer,
    HeldLot,
    Hold,
    HoldState,
    Identifier,
    IdentifierType,
    Kind,
    Lot,
    MissedCall,
    Otp,
    OtpAction,
    OtpCounter,
    Program,
    ProgramBook,
    ProgramGroup,
    RedeemedLot,
    Redemption,
    WaitingMessage,
    Wallet,
    WalletKey,
)
from points_grpc.domain.outcome import Party
from points_grpc.domain.policy import MISSED_CALL_WINDOW_S_MAX
from points_grpc.domain.snapshot import (
    ANY_POINTS,
    Directory,
    DuplicateKey,
    Keys,
    Loaded,
    Lookups,
    LotRows,
    Velocity,
)
from points_grpc.service.ports import RequestRecord
from points_grpc.storage import rows, wallet_texts
from points_grpc.storage import statements as sql
from points_grpc.storage.codec import decode_policy
from points_grpc.storage.driver import NOTHING, Answer, Driver, Row, Statement
from points_grpc.storage.times import from_micros, to_micros

WINDOW = 8
"""How many lots of a wallet are loaded unless more are asked for; one more is read to see whether there are others."""

FIRST_WINDOW = 3
"""How many are loaded of a wallet to begin with where few points are drawn: they mostly lie in the first lot."""

_ID_MAX = 2**63 - 1

_BY_ID = rows.CUSTOMER_COLUMNS.index("customer_id")

_BY_IDENTIFIER: Mapping[IdentifierType, tuple[Statement, int]] = {
    IdentifierType.MOBILE: (sql.CUSTOMERS_BY_MOBILE, rows.CUSTOMER_COLUMNS.index("mobile")),
    IdentifierType.EMAIL: (sql.CUSTOMERS_BY_EMAIL, rows.CUSTOMER_COLUMNS.index("email")),
    IdentifierType.EXTERNAL_ID: (sql.CUSTOMERS_BY_EXTERNAL_ID, rows.CUSTOMER_COLUMNS.index("external_id")),
}


@dataclass(frozen=True, slots=True)
class AskedNames:
    """What was asked of the names of a batch; each answer may still be on its way."""

    redemption_owners: Answer
    references: Answer
    numbers: Answer
    transfers: Answer
    identified: Sequence[tuple[Mapping[str, Identifier], int, Answer]]
    """The identifiers of a kind by their values, and in which column of the answer these stand."""
    bills: Answer
    hold_owners: Answer
    families: Collection[Identifier]
    """Customers of whom it is asked who was merged into them, once it is known who they are."""


@dataclass(frozen=True, slots=True)
class AskedKeys:
    """What was asked for the keys of a batch; each answer may still be on its way."""

    keys: Keys
    directory: Directory
    windows: Mapping[WalletKey, int]
    customers: Answer
    wallets: Answer
    lots: Sequence[tuple[int, Sequence[WalletKey], Answer]]
    """The first lots of the wallets that may be drawn from, by how many of each."""
    otps: Answer
    otp_counters: Answer
    redeemed_lots: Answer
    redemptions: Answer
    references: Answer
    purchases: Answer
    transfer_lots: Answer
    holds: Answer
    returns: Answer


class Books:
    """The program books that a process knows, each good for one version. Safe from any thread."""

    __slots__ = ("_books",)

    def __init__(self) -> None:
        self._books: dict[int, ProgramBook] = {}

    def read(self, driver: Driver, org_id: int, *, keep: bool = True) -> ProgramBook:
        """The organisation's book as of the transaction."""
        return self.book(driver, org_id, self.ask(driver, org_id), keep=keep)

    def ask(self, driver: Driver, org_id: int) -> Answer:
        """Asks which version of the book is in force."""
        return driver.ask(sql.ORG, (org_id,))

    def book(self, driver: Driver, org_id: int, asked: Answer, *, keep: bool = True) -> ProgramBook:
        """The book that was asked for; read whole only if its version is new. `keep` the one read."""
        found = asked.rows()
        if not found:
            raise LookupError("there is no such organisation")
        [(version, default_region, default_program_id, paused)] = found
        book = self._books.get(org_id)
        if book is not None and book.version == version:
            return book
        book = _read_book(driver, org_id, version, default_region, default_program_id, paused=bool(paused))
        if keep:
            self._books[org_id] = book
        return book


class Reader:
    """Reads of one transaction. Remembers the customers it saw: nobody else changes them while it lasts."""

    __slots__ = ("_customers", "_driver", "_org_id", "_references_read", "_window")

    def __init__(self, driver: Driver, org_id: int, window: int = WINDOW) -> None:
        self._driver = driver
        self._org_id = org_id
        self._window = window
        self._customers: dict[int, Customer] = {}
        self._references_read: frozenset[str] = frozenset()

    # -- names ---------------------------------------------------------------------------------------------------------

    def recorded(self, request_ids: Collection[str]) -> dict[str, RequestRecord]:
        """The outcomes recorded under the request ids."""
        return self.records(self.ask_recorded(request_ids))

    def ask_recorded(self, request_ids: Collection[str]) -> Answer:
        """Asks for the outcomes recorded under the request ids."""
        return self._ask(sql.REQUESTS_BY_ID, request_ids)

    def records(self, asked: Answer) -> dict[str, RequestRecord]:
        """The outcomes that were asked for."""
        return {row[0]: rows.request(row) for row in asked.rows()}

    def resolve(self, lookups: Lookups) -> Directory:
        """What the names stand for."""
        with self._driver.together():
            asked = self.ask_names(lookups)
        return self.directory(asked)

    def ask_names(self, lookups: Lookups) -> AskedNames:
        """Asks what names stand for."""
        self._references_read = frozenset(lookups.external_references)
        return AskedNames(
            redemption_owners=self._ask(sql.REDEMPTION_OWNERS, lookups.redemption_ids),
            references=self._ask(sql.REDEMPTIONS_BY_EXTERNAL_REFERENCE, lookups.external_references),
            numbers=self._ask(sql.REDEMPTIONS_BY_TRANSACTION_NUMBER, lookups.transaction_numbers),
            transfers=self._ask(sql.TRANSFERS_BY_ID, lookups.transfer_ids),
            identified=self._ask_identified(lookups.identifiers),
            bills=self._ask(sql.PURCHASES, lookups.bills),
            hold_owners=self._ask(sql.HOLD_OWNERS, lookups.hold_ids),
            families=lookups.families,
        )

    def directory(self, asked: AskedNames) -> Directory:
        """What the names stand for that were asked for."""
        redemptions = {redemption_id: customer_id for redemption_id, _, customer_id in asked.redemption_owners.rows()}
        by_reference: dict[str, str] = {}
        for reference, redemption_id, customer_id in asked.references.rows():
            by_reference[reference] = redemption_id
            redemptions[redemption_id] = customer_id
        by_number: dict[str, tuple[str, ...]] = {}
        for number, redemption_id, customer_id in asked.numbers.rows():
            by_number[number] = (*by_number.get(number, ()), redemption_id)
            redemptions[redemption_id] = customer_id
        transfers = {row[0]: rows.made_transfer(row) for row in asked.transfers.rows()}
        customers = self._identified(asked.identified)
        parties = {one for made in transfers.values() for one in (made.source_id, made.destination_id)}
        billed = [rows.purchase(row) for row in asked.bills.rows()]
        bills = {one.transaction_number: one.customer_id for one in billed}
        survivors = self._survivors(parties.union(redemptions.values(), bills.values()))
        holds: dict[str, int] = dict(asked.hold_owners.rows())
        families = self._families(customers[one] for one in asked.families if one in customers)
        return Directory(customers, redemptions, by_reference, by_number, transfers, survivors, holds, bills, families)

    def _survivors(self, customer_ids: Collection[int]) -> dict[int, int]:
        """Into whom customers were merged, and these in turn."""
        found: dict[int, int] = {}
        asked = customer_ids
        while asked:
            self._read_customers(asked)
            known = (self._customers[one] for one in asked if one in self._customers)
            merged = {one.customer_id: one.merged_into for one in known if one.merged_into is not None}
            found |= merged
            asked = set(merged.values())
        return found

    def _families(self, customer_ids: Iterable[int]) -> dict[int, tuple[int, ...]]:
        """Who was merged into customers, directly or on the way."""
        found: dict[int, tuple[int, ...]] = {}
        for customer_id in customer_ids:
            asked, family = {customer_id}, set[int]()
            while asked:
                merged = [rows.customer(row) for row in self._by_values(sql.CUSTOMERS_MERGED_INTO, asked)]
                self._customers.update((one.customer_id, one) for one in merged)
                asked = {one.customer_id for one in merged}
                family |= asked
            found[customer_id] = tuple(sorted(family))
        return found

    def replace_customers(self, customers: Iterable[Customer]) -> bool:
        """Takes customers as they are by now; whether one goes by another name than when names were resolved."""
        renamed = False
        for one in customers:
            before = self._customers.get(one.customer_id, one)
            renamed = renamed or _names_of(before) != _names_of(one)
            self._customers[one.customer_id] = one
        return renamed

    def customer(self, customer_id: int) -> Customer:
        """A customer that was resolved."""
        return self._customers[customer_id]

    def parties(self, customer_ids: Collection[int]) -> dict[int, Party]:
        """The names of customers."""
        return {row[0]: rows.party(row) for row in self._by_values(sql.PARTIES, customer_ids)}

    def _ask_identified(
        self, identifiers: Iterable[Identifier]
    ) -> Sequence[tuple[Mapping[str, Identifier], int, Answer]]:
        named: dict[IdentifierType, dict[str, Identifier]] = {}
        for identifier in identifiers:
            named.setdefault(identifier.type, {})[identifier.value] = identifier
        asked: list[tuple[Mapping[str, Identifier], int, Answer]] = []
        for kind, by_value in named.items():
            if kind is IdentifierType.ID:
                ids = [number for value in by_value if (number := _id_of(value))]
                asked.append((by_value, _BY_ID, self._ask(sql.CUSTOMERS_BY_ID, ids)))
                continue
            statement, at = _BY_IDENTIFIER[kind]
            asked.append((by_value, at, self._ask(statement, by_value)))
        return asked

    def _identified(self, asked: Iterable[tuple[Mapping[str, Identifier], int, Answer]]) -> dict[Identifier, int]:
        found: dict[Identifier, int] = {}
        for by_value, at, answer in asked:
            answered = {row[at]: row[0] for row in map(self._remember, answer.rows())}
            if at == _BY_ID:  # An id can be written in several ways.
                ids = ((one, _id_of(value)) for value, one in by_value.items())
                found.update({one: number for one, number in ids if number is not None and number in answered})
                continue
            found.update({by_value[value]: customer_id for value, customer_id in answered.items()})
        return found

    def _remember(self, row: Row) -> Row:
        self._customers[row[0]] = rows.customer(row)
        return row

    def _read_customers(self, customer_ids: Collection[int]) -> None:
        for row in self._ask_customers(customer_ids).rows():
            self._remember(row)

    def _ask_customers(self, customer_ids: Iterable[int]) -> Answer:
        return self._ask(sql.CUSTOMERS_BY_ID, [one for one in customer_ids if one not in self._customers])

    # -- state ---------------------------------------------------------------------------------------------------------

    def ask_keys(self, keys: Keys, directory: Directory, windows: Mapping[WalletKey, int]) -> AskedKeys:
        """Asks for what is declared."""
        otp_customers = {customer_id for customer_id, _ in keys.otps}
        references = [one for one in keys.external_references if one not in self._references_read]
        transfers = [one for one in keys.transfers if one in directory.transfers]
        return AskedKeys(
            keys=keys,
            directory=directory,
            windows=windows,
            customers=self._ask_customers(keys.customers),
            wallets=self._ask(sql.WALLETS, keys.customers),
            lots=self._ask_windows({key: self._first_window(keys, key, windows) for key in keys.draws}),
            otps=self._ask(sql.OTPS, otp_customers),
            otp_counters=self._ask(sql.OTP_COUNTERS, otp_customers),
            redeemed_lots=self._ask(sql.REDEEMED_LOTS, keys.redemptions),
            redemptions=self._ask(sql.REDEMPTIONS, keys.redemptions),
            references=self._ask(sql.REDEMPTIONS_BY_EXTERNAL_REFERENCE, references),
            purchases=self._ask(sql.PURCHASES, keys.transaction_numbers),
            transfer_lots=self._ask_lots_of_transfers(transfers),
            holds=self._ask(sql.HOLDS, keys.holds),
            returns=self._ask(sql.RETURNS, keys.returns),
        )

    def loaded(self, asked: AskedKeys, book: ProgramBook, now: datetime) -> Loaded:
        """Everything declared, as of now: what was asked, and what follows from it."""
        keys, directory = asked.keys, asked.directory
        for row in asked.customers.rows():
            self._remember(row)
        customers = {one: self._customers[one] for one in keys.customers if one in self._customers}
        wallets, buckets, velocity = _wallets(asked.wallets)
        due = [key for key, wallet in wallets.items() if wallet.due_at is not None and wallet.due_at <= now]
        lots = _windows(asked.lots, wallets)
        more = [key for key in due if key not in keys.draws]
        more += [key for key, found in lots.items() if self._is_short(keys, key, found, asked.windows, now)]
        with self._driver.together():
            more_lots = self._ask_windows({key: asked.windows.get(key, self._window) for key in more})
            promised = self._ask_promised(due)
            open_holds = self._ask(sql.OPEN_HOLDS, {key.customer_id for key, wallet in wallets.items() if wallet.held})
            held_references = self._ask_held_references(keys.external_references, now)
            missed_calls = self._ask_missed_calls(keys.missed_calls, now)
            duplicates = self._ask_recent_transfers(keys.duplicates, now)
            messages = self._ask_messages(customers, keys.messages)
        redemptions = _redemptions(asked.redemptions, asked.redeemed_lots)
        transfer_lots, offspring = self._transfer_lots(keys.transfers, asked.transfer_lots)
        holds = self._holds(open_holds, asked.holds)
        overdue = [one for one in holds.values() if one.state is HoldState.OPEN and one.expires_at < now]
        released = [*overdue, *(holds[one] for one in keys.holds if one in holds)]
        return Loaded(
            now=now,
            book=book,
            directory=directory,
            keys=keys,
            customers=customers,
            wallets=wallets,
            buckets=buckets,
            lots=lots | _windows(more_lots, wallets) if more else lots,
            promised=_promised(due, promised),
            redeemed_lots=self._lots_of((*redemptions.values(), *released)),
            otps=_otps(asked.otps),
            otp_counters=_otp_counters(asked.otp_counters),
            velocity=velocity,
            redemptions=redemptions,
            external_references=_external_references(keys.external_references, directory, asked.references),
            purchases={row[0]: rows.purchase(row) for row in asked.purchases.rows()},
            recent_transfers=_recent_transfers(keys.duplicates, duplicates),
            transfer_lots=transfer_lots,
            offspring=offspring,
            holds=holds,
            held_references=dict(held_references.rows()),
            missed_calls=_missed_calls(missed_calls),
            messages=_messages(customers, keys.messages, messages),
            returns=frozenset(number for (number,) in asked.returns.rows()),
        )

    def _first_window(self, keys: Keys, key: WalletKey, windows: Mapping[WalletKey, int]) -> int:
        """How many lots of a wallet are asked for before any was seen."""
        size = windows.get(key)
        if size is not None:
            return size
        return self._window if keys.draws[key] >= ANY_POINTS else min(self._window, FIRST_WINDOW)

    def _is_short(
        self, keys: Keys, key: WalletKey, found: LotRows, windows: Mapping[WalletKey, int], now: datetime
    ) -> bool:
        """Whether a first window holds fewer points than are drawn, and a longer one may hold them."""
        if found.complete or key in windows or len(found.lots) >= self._window:
            return False
        return _drawable(found.lots, keys.barred, now) < keys.draws[key]

    def _ask_windows(self, sizes: Mapping[WalletKey, int]) -> Sequence[tuple[int, Sequence[WalletKey], Answer]]:
        """The first lots of the wallets; one statement for each size of window, and there is mostly one."""
        by_size: dict[int, list[WalletKey]] = {}
        for key, size in sizes.items():
            by_size.setdefault(size, []).append(key)
        return [(size, keys, self._ask_first_lots(keys, size + 1)) for size, keys in by_size.items()]

    def _ask_first_lots(self, keys: Sequence[WalletKey], limit: int) -> Answer:
        return self._driver.ask(sql.FIRST_LOTS, (self._driver.bind_keys(keys), self._org_id, self._org_id, limit))

    def _ask_promised(self, due: Sequence[WalletKey]) -> Answer:
        return self._driver.ask(sql.PROMISED_LOTS, (self._driver.bind_keys(due), self._org_id)) if due else NOTHING

    def _holds(self, open_holds: Answer, named: Answer) -> dict[str, Hold]:
        """The open holds of customers of whom something is held, and the holds named."""
        found = {row[0]: row for row in (*open_holds.rows(), *named.rows())}
        lots: dict[str, list[HeldLot]] = {}
        for row in self._by_values(sql.HELD_LOTS, found):
            hold_id, lot = rows.held_lot(row)
            lots.setdefault(hold_id, []).append(lot)
        return {hold_id: rows.hold(row, tuple(lots.get(hold_id, ()))) for hold_id, row in found.items()}

    def _ask_held_references(self, references: Collection[str], now: datetime) -> Answer:
        if not references:
            return NOTHING
        bound = self._driver.bind_values(list(references))
        return self._driver.ask(sql.HELD_REFERENCES, (self._org_id, bound, to_micros(now)))

    def _ask_missed_calls(self, customer_ids: Collection[int], now: datetime) -> Answer:
        if not customer_ids:
            return NOTHING
        since = to_micros(now) - MISSED_CALL_WINDOW_S_MAX * 1_000_000
        return self._driver.ask(sql.UNUSED_CALLS, (self._org_id, self._driver.bind_values(list(customer_ids)), since))

    def _lots_of(self, drawn: Iterable[Redemption | Hold]) -> dict[int, Lot]:
        lot_ids = {lot.lot_id for one in drawn for lot in one.lots}
        found = (rows.lot(row) for row in self._by_values(sql.LOTS_BY_ID, lot_ids))
        return {lot.lot_id: lot for lot in found}

    def _ask_lots_of_transfers(self, transfer_ids: Sequence[int]) -> Answer:
        if not transfer_ids:
            return NOTHING
        bound = self._driver.bind_values(transfer_ids)
        return self._driver.ask(sql.LOTS_OF_TRANSACTIONS, (self._org_id, self._org_id, bound))

    def _transfer_lots(
        self, transfer_ids: Collection[int], drawn: Answer
    ) -> tuple[dict[int, Lot], dict[int, tuple[tuple[int, Kind], ...]]]:
        """What transfers drew and opened; and what became of the latter without another transfer."""
        found = {lot.lot_id: lot for lot in map(rows.lot, drawn.rows())}
        asked = {lot.lot_id for lot in found.values() if lot.transaction_id in transfer_ids}
        offspring: dict[int, tuple[tuple[int, Kind], ...]] = {}
        while asked:
            children = [(Kind(row[0]), rows.lot(row[1:])) for row in self._by_values(sql.OFFSPRING, asked)]
            for kind, lot in children:
                assert lot.parent_lot_id is not None
                found[lot.lot_id] = lot
                known = offspring.get(lot.parent_lot_id, ())
                offspring[lot.parent_lot_id] = (*known, (lot.lot_id, kind))
            asked = {lot.lot_id for kind, lot in children if kind is not Kind.TRANSFER_REVERSAL}
        return found, offspring

    def _ask_messages(self, customers: Mapping[int, Customer], settled: Collection[int]) -> Answer:
        return self._ask(sql.WAITING_MESSAGES, _with_failed_messages(customers, settled))

    def _ask_recent_transfers(self, wanted: Collection[tuple[DuplicateKey, int]], now: datetime) -> Answer:
        if not wanted:
            return NOTHING
        now_micros = to_micros(now)
        bound = [(*key, now_micros - window_s * 1_000_000) for key, window_s in wanted]
        return self._driver.ask(sql.RECENT_TRANSFERS, (self._org_id, self._driver.bind_keys(bound)))

    def _ask(self, statement: Statement, values: Iterable[int] | Iterable[str]) -> Answer:
        bound = list(values)
        if not bound:
            return NOTHING
        return self._driver.ask(statement, (self._org_id, self._driver.bind_values(bound)))  # type: ignore[arg-type]

    def _by_values(self, statement: Statement, values: Iterable[int] | Iterable[str]) -> Sequence[Row]:
        return self._ask(statement, values).rows()


# -- answers, taken apart ----------------------------------------------------------------------------------------------


def _wallets(
    asked: Answer,
) -> tuple[dict[WalletKey, Wallet], dict[WalletKey, dict[BucketKey, Bucket]], dict[WalletKey, Velocity]]:
    """The wallets of customers, their totals by origin and their transfers by day."""
    wallets: dict[WalletKey, Wallet] = {}
    buckets: dict[WalletKey, dict[BucketKey, Bucket]] = {}
    velocity: dict[WalletKey, Velocity] = {}
    for row in asked.rows():
        wallet = rows.wallet(row)
        wallets[wallet.key] = wallet
        buckets[wallet.key] = wallet_texts.buckets(row[rows.BUCKETS])
        if row[rows.DAYS] != wallet_texts.EMPTY:
            velocity[wallet.key] = wallet_texts.velocity(row[rows.DAYS])
    return wallets, buckets, velocity


def _windows(
    asked: Iterable[tuple[int, Sequence[WalletKey], Answer]], wallets: Collection[WalletKey]
) -> dict[WalletKey, LotRows]:
    """The first lots of the wallets that are there."""
    found: dict[WalletKey, LotRows] = {}
    for size, keys, answer in asked:
        read: dict[WalletKey, list[Lot]] = {key: [] for key in keys}
        for row in sorted(row for row in answer.rows() if row[0] is not None):
            lot = rows.lot(row)
            read[lot.wallet].append(lot)
        for key, lots in read.items():
            if key in wallets:
                found[key] = LotRows(tuple(lots[:size]), complete=len(lots) <= size)
    return found


def _drawable(lots: Iterable[Lot], barred: Collection[int], now: datetime) -> int:
    """The points of lots that no rule keeps from being drawn as they stand."""
    points = 0
    for lot in lots:
        if not lot.promised and lot.bucket[1] not in barred and (lot.expires_at is None or lot.expires_at >= now):
            points += lot.remaining - lot.held
    return points


def _promised(due: Iterable[WalletKey], asked: Answer) -> dict[WalletKey, tuple[Lot, ...]]:
    found: dict[WalletKey, list[Lot]] = {key: [] for key in due}
    for row in asked.rows():
        lot = rows.lot(row)
        found[lot.wallet].append(lot)
    return {key: tuple(lots) for key, lots in found.items()}


def _redemptions(asked: Answer, asked_lots: Answer) -> dict[str, Redemption]:
    lots: dict[str, list[RedeemedLot]] = {}
    for row in asked_lots.rows():
        redemption_id, lot = rows.redeemed_lot(row)
        lots.setdefault(redemption_id, []).append(lot)
    return {row[0]: rows.redemption(row, tuple(lots.get(row[0], ()))) for row in asked.rows()}


def _missed_calls(asked: Answer) -> dict[int, tuple[MissedCall, ...]]:
    found: dict[int, tuple[MissedCall, ...]] = {}
    for row in asked.rows():
        call = rows.missed_call(row)
        found[call.customer_id] = (*found.get(call.customer_id, ()), call)
    return found


def _otps(asked: Answer) -> dict[tuple[int, OtpAction], tuple[Otp, ...]]:
    found: dict[tuple[int, OtpAction], tuple[Otp, ...]] = {}
    for row in asked.rows():
        otp = rows.otp(row)
        key = (otp.customer_id, otp.action)
        found[key] = (*found.get(key, ()), otp)
    return found


def _otp_counters(asked: Answer) -> dict[tuple[int, OtpAction], OtpCounter]:
    found = (rows.otp_counter(row) for row in asked.rows())
    return {(counter.customer_id, counter.action): counter for counter in found}


def _with_failed_messages(customers: Mapping[int, Customer], settled: Collection[int]) -> set[int]:
    """Of whom a message may have failed: mostly of nobody."""
    return {one for one, customer in customers.items() if customer.messages_failed}.union(settled)


def _messages(
    customers: Mapping[int, Customer], settled: Collection[int], asked: Answer
) -> dict[int, tuple[WaitingMessage, ...]]:
    """The undelivered messages of those of whom one may have failed."""
    found: dict[int, tuple[WaitingMessage, ...]] = dict.fromkeys(_with_failed_messages(customers, settled), ())
    for row in asked.rows():
        customer_id, message = rows.waiting_message(row)
        found[customer_id] = (*found[customer_id], message)
    return found


def _external_references(references: Collection[str], directory: Directory, asked: Answer) -> dict[str, str]:
    """Whose the references are: resolved already, where they were named in the lookups; read otherwise."""
    known = directory.by_external_reference
    found = {reference: known[reference] for reference in references if reference in known}
    found.update({reference: redemption_id for reference, redemption_id, _ in asked.rows()})
    return found


def _recent_transfers(wanted: Iterable[tuple[DuplicateKey, int]], asked: Answer) -> dict[DuplicateKey, datetime]:
    keys = [key for key, _ in wanted]
    return {keys[number]: from_micros(last) for number, last in asked.rows() if last is not None}


def _read_book(
    driver: Driver, org_id: int, version: int, default_region: str, default_program_id: int | None, *, paused: bool
) -> ProgramBook:
    programs: dict[int, Program] = {}
    members: dict[int, list[int]] = {}
    for row in driver.query(sql.PROGRAMS, (org_id,)):
        program_id, name, active, decimal_places, time_zone, group_id, program_paused, body = row
        if group_id is not None:
            members.setdefault(group_id, []).append(program_id)
        programs[program_id] = Program(
            program_id,
            name,
            bool(active),
            decimal_places,
            time_zone,
            group_id,
            bool(program_paused),
            decode_policy(body),
        )
    groups = {
        group_id: ProgramGroup(group_id, name, group_default, tuple(members.get(group_id, ())))
        for group_id, name, group_default in driver.query(sql.GROUPS, (org_id,))
    }
    return ProgramBook(org_id, version, default_region, default_program_id, paused, programs, groups)


def _names_of(customer: Customer) -> tuple[str | int | None, ...]:
    return (customer.mobile, customer.email, customer.external_id, customer.merged_into)


def _id_of(value: str) -> int | None:
    """The id that decimal digits stand for; None for what no id can be."""
    if not (value.isascii() and value.isdigit()) or len(value) > len(str(_ID_MAX)):
        return None
    number = int(value)
    return number if 0 < number <= _ID_MAX else None
