"""What a batch is decided on: names resolved, and everything it declared read, in a fixed number of statements.

Rules of this file: a statement whose keys are none is left out; no statement runs in a loop over keys; what was read
while names were resolved is not read again (`Reader` lives as long as one transaction). Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    MadeTransfer,
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
from points_grpc.domain.snapshot import Directory, DuplicateKey, Keys, Loaded, Lookups, LotRows, Velocity
from points_grpc.service.ports import RequestRecord
from points_grpc.storage import rows, wallet_texts
from points_grpc.storage import statements as sql
from points_grpc.storage.codec import decode_policy
from points_grpc.storage.driver import Driver, Row, Statement
from points_grpc.storage.times import from_micros, to_micros

WINDOW = 8
"""How many lots of a wallet are loaded unless more are asked for; one more is read to see whether there are others."""

_ID_MAX = 2**63 - 1

_BY_IDENTIFIER: Mapping[IdentifierType, tuple[Statement, int]] = {
    IdentifierType.MOBILE: (sql.CUSTOMERS_BY_MOBILE, rows.CUSTOMER_COLUMNS.index("mobile")),
    IdentifierType.EMAIL: (sql.CUSTOMERS_BY_EMAIL, rows.CUSTOMER_COLUMNS.index("email")),
    IdentifierType.EXTERNAL_ID: (sql.CUSTOMERS_BY_EXTERNAL_ID, rows.CUSTOMER_COLUMNS.index("external_id")),
}


class Books:
    """The program books that a process knows, each good for one version. Safe from any thread."""

    __slots__ = ("_books",)

    def __init__(self) -> None:
        self._books: dict[int, ProgramBook] = {}

    def read(self, driver: Driver, org_id: int, *, keep: bool = True) -> ProgramBook:
        """The organisation's book as of the transaction; read whole only if its version is new. `keep` the one read."""
        found = driver.query(sql.ORG, (org_id,))
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
        found = self._by_values(sql.REQUESTS_BY_ID, request_ids)
        return {row[0]: rows.request(row) for row in found}

    def resolve(self, lookups: Lookups) -> Directory:
        """What the names stand for."""
        redemptions = {
            redemption_id: customer_id
            for redemption_id, _, customer_id in self._by_values(sql.REDEMPTION_OWNERS, lookups.redemption_ids)
        }
        by_reference: dict[str, str] = {}
        self._references_read = frozenset(lookups.external_references)
        for reference, redemption_id, customer_id in self._by_values(
            sql.REDEMPTIONS_BY_EXTERNAL_REFERENCE, lookups.external_references
        ):
            by_reference[reference] = redemption_id
            redemptions[redemption_id] = customer_id
        by_number: dict[str, tuple[str, ...]] = {}
        for number, redemption_id, customer_id in self._by_values(
            sql.REDEMPTIONS_BY_TRANSACTION_NUMBER, lookups.transaction_numbers
        ):
            by_number[number] = (*by_number.get(number, ()), redemption_id)
            redemptions[redemption_id] = customer_id
        transfers = {
            row[0]: rows.made_transfer(row) for row in self._by_values(sql.TRANSFERS_BY_ID, lookups.transfer_ids)
        }
        customers = self._identified(lookups.identifiers)
        parties = {one for made in transfers.values() for one in (made.source_id, made.destination_id)}
        billed = [rows.purchase(row) for row in self._by_values(sql.PURCHASES, lookups.bills)]
        bills = {one.transaction_number: one.customer_id for one in billed}
        survivors = self._survivors(parties.union(redemptions.values(), bills.values()))
        holds: dict[str, int] = dict(self._by_values(sql.HOLD_OWNERS, lookups.hold_ids))
        families = self._families(customers[one] for one in lookups.families if one in customers)
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

    def _identified(self, identifiers: Iterable[Identifier]) -> dict[Identifier, int]:
        named: dict[IdentifierType, dict[str, Identifier]] = {}
        for identifier in identifiers:
            named.setdefault(identifier.type, {})[identifier.value] = identifier
        found: dict[Identifier, int] = {}
        for kind, by_value in named.items():
            if kind is IdentifierType.ID:
                ids = {value: number for value in by_value if (number := _id_of(value))}
                self._read_customers(ids.values())
                found.update({by_value[value]: one for value, one in ids.items() if one in self._customers})
                continue
            statement, at = _BY_IDENTIFIER[kind]
            for row in self._by_values(statement, by_value):
                self._customers[row[0]] = rows.customer(row)
                found[by_value[row[at]]] = row[0]
        return found

    def _read_customers(self, customer_ids: Collection[int]) -> None:
        missing = [one for one in customer_ids if one not in self._customers]
        for row in self._by_values(sql.CUSTOMERS_BY_ID, missing):
            self._customers[row[0]] = rows.customer(row)

    # -- state ---------------------------------------------------------------------------------------------------------

    def load(
        self, keys: Keys, book: ProgramBook, directory: Directory, windows: Mapping[WalletKey, int], now: datetime
    ) -> Loaded:
        """Everything declared, as of now."""
        self._read_customers(keys.customers)
        customers = {one: self._customers[one] for one in keys.customers if one in self._customers}
        wallets, buckets, velocity = self._wallets(customers)
        due = [key for key, wallet in wallets.items() if wallet.due_at is not None and wallet.due_at <= now]
        drawn = {key for key in keys.draws if key in wallets}
        redemptions = self._redemptions(keys.redemptions)
        transfer_lots, offspring = self._transfer_lots(
            [made for one in keys.transfers if (made := directory.transfers.get(one))]
        )
        holds = self._holds({key[0] for key, wallet in wallets.items() if wallet.held}, keys.holds)
        overdue = [one for one in holds.values() if one.state is HoldState.OPEN and one.expires_at < now]
        released = [*overdue, *(holds[one] for one in keys.holds if one in holds)]
        otp_customers = {customer_id for customer_id, _ in keys.otps}
        return Loaded(
            now=now,
            book=book,
            directory=directory,
            keys=keys,
            customers=customers,
            wallets=wallets,
            buckets=buckets,
            lots=self._windows(drawn.union(due), windows),
            promised=self._promised(due),
            redeemed_lots=self._lots_of((*redemptions.values(), *released)),
            otps=self._otps(otp_customers),
            otp_counters=self._otp_counters(otp_customers),
            velocity=velocity,
            redemptions=redemptions,
            external_references=self._external_references(keys.external_references, directory),
            purchases={row[0]: rows.purchase(row) for row in self._by_values(sql.PURCHASES, keys.transaction_numbers)},
            recent_transfers=self._recent_transfers(keys.duplicates, now),
            transfer_lots=transfer_lots,
            offspring=offspring,
            holds=holds,
            held_references=self._held_references(keys.external_references, now),
            missed_calls=self._missed_calls(keys.missed_calls, now),
            messages=self._messages(customers, keys.messages),
            returns=frozenset(number for (number,) in self._by_values(sql.RETURNS, keys.returns)),
        )

    def _wallets(
        self, customers: Mapping[int, Customer]
    ) -> tuple[dict[WalletKey, Wallet], dict[WalletKey, dict[BucketKey, Bucket]], dict[WalletKey, Velocity]]:
        """The wallets of customers, their totals by origin and their transfers by day."""
        wallets: dict[WalletKey, Wallet] = {}
        buckets: dict[WalletKey, dict[BucketKey, Bucket]] = {}
        velocity: dict[WalletKey, Velocity] = {}
        for row in self._by_values(sql.WALLETS, customers):
            wallet = rows.wallet(row)
            wallets[wallet.key] = wallet
            buckets[wallet.key] = wallet_texts.buckets(row[rows.BUCKETS])
            if row[rows.DAYS] != wallet_texts.EMPTY:
                velocity[wallet.key] = wallet_texts.velocity(row[rows.DAYS])
        return wallets, buckets, velocity

    def _windows(self, wanted: Collection[WalletKey], windows: Mapping[WalletKey, int]) -> dict[WalletKey, LotRows]:
        """The first lots of the wallets; one statement for each size of window, and there is mostly one."""
        by_size: dict[int, list[WalletKey]] = {}
        for key in wanted:
            by_size.setdefault(windows.get(key, self._window), []).append(key)
        found: dict[WalletKey, LotRows] = {}
        for size, keys in by_size.items():
            read: dict[WalletKey, list[Lot]] = {key: [] for key in keys}
            first = self._driver.query(
                sql.FIRST_LOTS, (self._driver.bind_keys(keys), self._org_id, self._org_id, size + 1)
            )
            for row in sorted(row for row in first if row[0] is not None):
                lot = rows.lot(row)
                read[lot.wallet].append(lot)
            for key, lots in read.items():
                found[key] = LotRows(tuple(lots[:size]), complete=len(lots) <= size)
        return found

    def _promised(self, due: Collection[WalletKey]) -> dict[WalletKey, tuple[Lot, ...]]:
        if not due:
            return {}
        found: dict[WalletKey, list[Lot]] = {key: [] for key in due}
        for row in self._driver.query(sql.PROMISED_LOTS, (self._driver.bind_keys(list(due)), self._org_id)):
            lot = rows.lot(row)
            found[lot.wallet].append(lot)
        return {key: tuple(lots) for key, lots in found.items()}

    def _redemptions(self, redemption_ids: Collection[str]) -> dict[str, Redemption]:
        if not redemption_ids:
            return {}
        lots: dict[str, list[RedeemedLot]] = {}
        for row in self._by_values(sql.REDEEMED_LOTS, redemption_ids):
            redemption_id, lot = rows.redeemed_lot(row)
            lots.setdefault(redemption_id, []).append(lot)
        return {
            row[0]: rows.redemption(row, tuple(lots.get(row[0], ())))
            for row in self._by_values(sql.REDEMPTIONS, redemption_ids)
        }

    def _holds(self, holding: Collection[int], hold_ids: Collection[str]) -> dict[str, Hold]:
        """The open holds of customers of whom something is held, and the holds named."""
        found = {row[0]: row for row in self._by_values(sql.OPEN_HOLDS, holding)}
        found.update((row[0], row) for row in self._by_values(sql.HOLDS, [one for one in hold_ids if one not in found]))
        lots: dict[str, list[HeldLot]] = {}
        for row in self._by_values(sql.HELD_LOTS, found):
            hold_id, lot = rows.held_lot(row)
            lots.setdefault(hold_id, []).append(lot)
        return {hold_id: rows.hold(row, tuple(lots.get(hold_id, ()))) for hold_id, row in found.items()}

    def _held_references(self, references: Collection[str], now: datetime) -> dict[str, str]:
        if not references:
            return {}
        return dict(
            self._driver.query(
                sql.HELD_REFERENCES, (self._org_id, self._driver.bind_values(list(references)), to_micros(now))
            )
        )

    def _missed_calls(self, customer_ids: Collection[int], now: datetime) -> dict[int, tuple[MissedCall, ...]]:
        if not customer_ids:
            return {}
        since = to_micros(now) - MISSED_CALL_WINDOW_S_MAX * 1_000_000
        found: dict[int, tuple[MissedCall, ...]] = {}
        for row in self._driver.query(
            sql.UNUSED_CALLS, (self._org_id, self._driver.bind_values(list(customer_ids)), since)
        ):
            call = rows.missed_call(row)
            found[call.customer_id] = (*found.get(call.customer_id, ()), call)
        return found

    def _lots_of(self, drawn: Iterable[Redemption | Hold]) -> dict[int, Lot]:
        lot_ids = {lot.lot_id for one in drawn for lot in one.lots}
        found = (rows.lot(row) for row in self._by_values(sql.LOTS_BY_ID, lot_ids))
        return {lot.lot_id: lot for lot in found}

    def _transfer_lots(
        self, transfers: Collection[MadeTransfer]
    ) -> tuple[dict[int, Lot], dict[int, tuple[tuple[int, Kind], ...]]]:
        """What transfers drew and opened; and what became of the latter without another transfer."""
        if not transfers:
            return {}, {}
        bound = self._driver.bind_values([made.transfer_id for made in transfers])
        drawn = self._driver.query(sql.LOTS_OF_TRANSACTIONS, (self._org_id, self._org_id, bound))
        found = {lot.lot_id: lot for lot in map(rows.lot, drawn)}
        transfer_ids = {made.transfer_id for made in transfers}
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

    def _otps(self, customer_ids: Collection[int]) -> dict[tuple[int, OtpAction], tuple[Otp, ...]]:
        found: dict[tuple[int, OtpAction], tuple[Otp, ...]] = {}
        for row in self._by_values(sql.OTPS, customer_ids):
            otp = rows.otp(row)
            key = (otp.customer_id, otp.action)
            found[key] = (*found.get(key, ()), otp)
        return found

    def _otp_counters(self, customer_ids: Collection[int]) -> dict[tuple[int, OtpAction], OtpCounter]:
        found = (rows.otp_counter(row) for row in self._by_values(sql.OTP_COUNTERS, customer_ids))
        return {(counter.customer_id, counter.action): counter for counter in found}

    def _messages(
        self, customers: Mapping[int, Customer], settled: Collection[int]
    ) -> dict[int, tuple[WaitingMessage, ...]]:
        """The undelivered messages of those of whom one may have failed: mostly of nobody, and nothing is read."""
        wanted = {one for one, customer in customers.items() if customer.messages_failed}.union(settled)
        found: dict[int, tuple[WaitingMessage, ...]] = dict.fromkeys(wanted, ())
        for row in self._by_values(sql.WAITING_MESSAGES, wanted):
            customer_id, message = rows.waiting_message(row)
            found[customer_id] = (*found[customer_id], message)
        return found

    def _external_references(self, references: Collection[str], directory: Directory) -> dict[str, str]:
        """Whose the references are: resolved already, where they were named in the lookups; read otherwise."""
        known = directory.by_external_reference
        found = {reference: known[reference] for reference in references if reference in known}
        missing = [reference for reference in references if reference not in self._references_read]
        for reference, redemption_id, _ in self._by_values(sql.REDEMPTIONS_BY_EXTERNAL_REFERENCE, missing):
            found[reference] = redemption_id
        return found

    def _recent_transfers(
        self, wanted: Collection[tuple[DuplicateKey, int]], now: datetime
    ) -> dict[DuplicateKey, datetime]:
        if not wanted:
            return {}
        now_micros = to_micros(now)
        keys = [key for key, _ in wanted]
        bound = [(*key, now_micros - window_s * 1_000_000) for key, window_s in wanted]
        found = self._driver.query(sql.RECENT_TRANSFERS, (self._org_id, self._driver.bind_keys(bound)))
        return {keys[number]: from_micros(last) for number, last in found if last is not None}

    def _by_values(self, statement: Statement, values: Iterable[int] | Iterable[str]) -> Sequence[Row]:
        bound = list(values)
        if not bound:
            return []
        return self._driver.query(statement, (self._org_id, self._driver.bind_values(bound)))  # type: ignore[arg-type]


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
