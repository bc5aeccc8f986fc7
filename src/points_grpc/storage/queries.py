"""Reads for answers: wallets, lots, the journal, customers, and what became of a request. Nothing here changes a row.

Each read opens a snapshot of its own on the readers' pool, so that the statements of one answer agree with each other.
Pages go on after the last row shown (keyset), never by counting rows. What is due on a wallet and not booked yet is
left out as if it were: expired lots count for nothing, and matured ones are not promised any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from points_grpc.domain.model import (
    Customer,
    Identifier,
    JournalEntry,
    Kind,
    Lot,
    ProgramBook,
    Wallet,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, Balance, Party, ProgramShare, TransferResult
from points_grpc.domain.policy import Policy
from points_grpc.domain.snapshot import Lookups
from points_grpc.domain.views import (
    AuditRow,
    JournalRow,
    LotTrace,
    PersonalPlace,
    PersonalRecord,
    TracedLot,
    TransferView,
    WalletView,
)
from points_grpc.service.ports import RequestRecord
from points_grpc.storage import rows, wallet_texts
from points_grpc.storage import statements as sql
from points_grpc.storage.codec import decode_policy
from points_grpc.storage.driver import Driver, Row, Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.journal_pages import (
    POSTINGS_COUNTED,
    POSTINGS_OF_CUSTOMERS,
    TRANSACTIONS,
    fitting,
    journal_rows,
    with_victims,
)
from points_grpc.storage.key_lists import among
from points_grpc.storage.load import Books, Reader
from points_grpc.storage.personal import personal_page
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import (
    audit_events,
    customers,
    hold_lots,
    holds,
    lots,
    policies,
    postings,
    transactions,
    wallets,
)
from points_grpc.storage.statements import columns, compiled
from points_grpc.storage.times import NEVER, expiry_to_micros, from_micros, to_micros

EXPIRIES_MAX = 100
"""How many instants of expiry a wallet shows."""

TRACED_MAX = 10_000
"""How many lots a trace counts; it shows fewer."""

_LOWEST = -(2**63)
_HIGHEST = 2**63 - 1
_HIGHEST_REVISION = 2**31 - 1

_Position = tuple[int, int, int]
"""A place in the spending order: expiry, award, lot id."""


class SqlQueries:
    """The reads. Safe from any thread."""

    def __init__(self, database: Database, books: Books | None = None) -> None:
        """Reads from a database; `books` are shared with whoever else reads program books in this process."""
        self._database = database
        self._books = books or Books()

    def program_book(self, org_id: int) -> ProgramBook:
        """The organisation's programs."""
        with reading(self._database) as driver:
            return self._books.read(driver, org_id)

    def customer(self, org_id: int, identifier: Identifier) -> tuple[Customer, tuple[int, ...]] | None:
        """A customer with the programs of enrolment; None if the organisation has no such customer."""
        with reading(self._database) as driver:
            reader = Reader(driver, org_id)
            found = reader.resolve(Lookups(identifiers=(identifier,))).customers.get(identifier)
            if found is None:
                return None
            enrolled = driver.query(_ENROLMENTS, (org_id, found))
            return reader.customer(found), tuple(program_id for (program_id,) in enrolled)

    def wallet(self, org_id: int, key: WalletKey, barred_sources: Collection[int], now: datetime) -> WalletView:
        """A wallet as it stands; all zero, version 0, if the customer has none."""
        with reading(self._database) as driver:
            return _wallet_view(driver, org_id, key, frozenset(barred_sources), now)

    def wallet_as_of(self, org_id: int, key: WalletKey, barred_sources: Collection[int], at: datetime) -> WalletView:
        """A wallet as it stood at an instant in the past, by the journal."""
        with reading(self._database) as driver:
            return _wallet_as_of(driver, org_id, key, frozenset(barred_sources), at)

    def audit_events(self, org_id: int, *, subject: str, before: int, limit: int) -> Sequence[AuditRow]:
        """The audit log, newest first."""
        upper = before or _HIGHEST
        with reading(self._database) as driver:
            if subject:
                found = driver.query(_AUDIT_OF_SUBJECT, (org_id, upper, subject, limit))
            else:
                found = driver.query(_AUDIT, (org_id, upper, limit))
        return [rows.audit(row) for row in found]

    def lots(
        self, org_id: int, key: WalletKey, *, include_spent: bool, after: Lot | None, limit: int, now: datetime
    ) -> Sequence[Lot]:
        """Lots in spending order after `after`. Spent and expired ones only if asked for, with none remaining."""
        now_micros = to_micros(now)
        start: _Position = (_LOWEST, _LOWEST, _LOWEST)
        if after is not None:
            start = (expiry_to_micros(after.expires_at), to_micros(after.awarded_at), after.lot_id)
        with reading(self._database) as driver:
            if include_spent:
                found = driver.query(_ALL_LOTS, (org_id, org_id, *key, *start, limit))
            else:
                start = max(start, (now_micros, _LOWEST, _LOWEST))
                found = driver.query(_LIVE_LOTS, (org_id, *key, *start, limit))
            return lots_as_of(driver, org_id, [rows.lot(row) for row in found], now)

    def transactions(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> tuple[Sequence[JournalRow], bool]:
        """Journal transactions that touched a customer, newest first, with its postings; whether there are more."""
        statement = _TOUCHED_IN_PROGRAM if program_id else _TOUCHED
        program = (program_id,) if program_id else ()
        with reading(self._database) as driver:
            merged = with_victims(driver, org_id, customer_id)
            ids = _newest(driver, statement, org_id, merged, before or _HIGHEST, program, limit + 1)
            whose = driver.bind_values(merged)
            counts: dict[int, int] = dict(driver.query(POSTINGS_COUNTED, (org_id, whose, driver.bind_values(ids))))
            shown = fitting(ids[:limit], counts)
            bound = driver.bind_values(shown)
            entries = driver.query(TRANSACTIONS, (org_id, bound))
            changed = driver.query(POSTINGS_OF_CUSTOMERS, (org_id, whose, bound))
        return journal_rows(entries, changed), len(shown) < len(ids)

    def transfers(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> Sequence[TransferView]:
        """The transfers of a customer, newest first; what they took is told by the answers that were recorded."""
        statement = _TRANSFERRED_IN_PROGRAM if program_id else _TRANSFERRED
        program = (program_id,) if program_id else ()
        with reading(self._database) as driver:
            merged = with_victims(driver, org_id, customer_id)
            ids = _newest(driver, statement, org_id, merged, before or _HIGHEST, program, limit)
            found = driver.query(TRANSACTIONS, (org_id, driver.bind_values(ids)))
            entries = [rows.entry(row, ())[0] for row in found]
            records = Reader(driver, org_id).recorded([one.request_id for one in entries])
        return [_transfer_view(one, records, merged) for one in entries]

    def trace(self, org_id: int, lot_id: int, *, limit: int, now: datetime) -> LotTrace | None:
        """A lot with its origin and its offspring: the nearest are shown, the others counted."""
        with reading(self._database) as driver:
            found = driver.query(_TRACED, (org_id, driver.bind_values([lot_id])))
            if not found:
                return None
            start = _traced(driver, org_id, found[0], now)
            ancestors = _ancestors(driver, org_id, start, now)
            shown_above = ancestors[: limit - 1]
            room = limit - 1 - len(shown_above)
            descendants, count = _descendants(driver, org_id, lot_id, TRACED_MAX - 1 - len(ancestors), room, now)
        omitted = len(ancestors) - len(shown_above) + count - len(descendants)
        return LotTrace(start, tuple(shown_above), tuple(descendants), omitted)

    def transaction(self, org_id: int, transaction_id: int) -> JournalRow | None:
        """A journal transaction with all postings."""
        with reading(self._database) as driver:
            bound = driver.bind_values([transaction_id])
            entries = driver.query(TRANSACTIONS, (org_id, bound))
            changed = driver.query(_POSTINGS, (org_id, bound))
        found = journal_rows(entries, changed)
        return found[0] if found else None

    def request(self, org_id: int, request_id: str) -> RequestRecord | None:
        """The recorded outcome of a request id."""
        with reading(self._database) as driver:
            return Reader(driver, org_id).recorded((request_id,)).get(request_id)

    def policy(self, org_id: int, program_id: int, revision: int) -> tuple[Policy, datetime] | None:
        """A revision of a program's policy and when it came into force; revision 0: the present one."""
        with reading(self._database) as driver:
            found = driver.query(_POLICY, (org_id, program_id, revision or 1, revision or _HIGHEST_REVISION))
        return (decode_policy(found[0][0]), from_micros(found[0][1])) if found else None

    def config_values(self, org_id: int) -> Mapping[str, str]:
        """The configuration keys of the organisation."""
        with reading(self._database) as driver:
            return dict(driver.query(sql.CONFIG, (org_id,)))

    def personal_records(
        self, org_id: int, customer_id: int, place: PersonalPlace, limit: int
    ) -> tuple[Sequence[PersonalRecord], PersonalPlace | None]:
        """What is kept about a customer and those merged into that one, kind after kind."""
        with reading(self._database) as driver:
            return personal_page(driver, org_id, customer_id, place, limit)

    def parties(self, org_id: int, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers."""
        with reading(self._database) as driver:
            return Reader(driver, org_id).parties(customer_ids)


def _newest(
    driver: Driver,
    statement: Statement,
    org_id: int,
    customer_ids: Sequence[int],
    before: int,
    program: tuple[int, ...],
    limit: int,
) -> list[int]:
    """The newest transactions of several customers: those of each, brought together."""
    found: set[int] = set()
    for customer_id in customer_ids:
        found.update(one for (one,) in driver.query(statement, (org_id, customer_id, before, *program, limit)))
    return sorted(found, reverse=True)[:limit]


def _transfer_view(
    entry: JournalEntry, records: Mapping[str, RequestRecord], customer_ids: Collection[int]
) -> TransferView:
    shares: tuple[ProgramShare, ...] = ()
    record = records.get(entry.request_id)
    if record and isinstance(record.outcome, Accepted) and isinstance(record.outcome.result, TransferResult):
        shares = record.outcome.result.shares
    assert entry.counterparty_id is not None, "a transfer has a receiver"
    return TransferView(
        transfer_id=entry.transaction_id,
        source_id=entry.customer_id,
        destination_id=entry.counterparty_id,
        program_id=entry.program_id,
        points=entry.points,
        made_at=entry.created_at,
        notes=entry.notes,
        shares=shares,
        given=entry.customer_id in customer_ids,
    )


def _traced(driver: Driver, org_id: int, row: Row, now: datetime) -> TracedLot:
    kind, opened_at, *columns_of_lot = row
    [lot] = lots_as_of(driver, org_id, [rows.lot(tuple(columns_of_lot))], now)
    return TracedLot(lot, Kind(kind), from_micros(opened_at))


def _ancestors(driver: Driver, org_id: int, start: TracedLot, now: datetime) -> list[TracedLot]:
    """The chain of parents up to the lot that was issued, nearest first."""
    found: list[TracedLot] = []
    parent_id = start.lot.parent_lot_id
    while parent_id is not None and len(found) < TRACED_MAX - 1:
        [row] = driver.query(_TRACED, (org_id, driver.bind_values([parent_id])))
        found.append(_traced(driver, org_id, row, now))
        parent_id = found[-1].lot.parent_lot_id
    return found


def _descendants(
    driver: Driver, org_id: int, lot_id: int, count_max: int, shown_max: int, now: datetime
) -> tuple[list[TracedLot], int]:
    """The first lots drawn from a lot, generation by generation; and how many there are, counted up to a maximum."""
    found: list[TracedLot] = []
    count = 0
    asked = [lot_id]
    while asked and count < count_max:
        generation = driver.query(_TRACED_CHILDREN, (org_id, driver.bind_values(asked), count_max - count))
        count += len(generation)
        children = [_traced(driver, org_id, row, now) for row in generation]
        found += children[: shown_max - len(found)]
        asked = [one.lot.lot_id for one in children]
    return found, count


def _wallet_view(driver: Driver, org_id: int, key: WalletKey, barred: frozenset[int], now: datetime) -> WalletView:
    found = driver.query(_WALLET, (org_id, *key))
    if not found:
        nothing = Balance(key.customer_id, key.program_id, 0, 0, 0, 0, 0, 0)
        return WalletView(nothing, 0, 0, 0, (), now)
    wallet = rows.wallet(found[0])
    balance = stored_balance(driver, org_id, wallet, found[0][rows.BUCKETS], barred, now)
    expiries = driver.query(_EXPIRIES, (org_id, *key, to_micros(now), EXPIRIES_MAX))
    return WalletView(
        balance=balance,
        lifetime_earned=wallet.lifetime_earned,
        lifetime_received=wallet.lifetime_received,
        lifetime_purchases=wallet.lifetime_purchases,
        expiries=tuple((from_micros(at), points) for at, points in expiries),
        read_at=now,
    )


def stored_balance(
    driver: Driver, org_id: int, wallet: Wallet, buckets: str, barred: Collection[int], now: datetime
) -> Balance:
    """The balances of a wallet that was read, with its totals by origin; counted from lots where something is due."""
    key, now_micros = wallet.key, to_micros(now)
    due = wallet.due_at is not None and wallet.due_at <= now
    if due:
        shares = driver.query(_SHARES_OF_DUE, (now_micros, org_id, *key, now_micros))
    else:
        shares = [(origin.source, *bucket) for origin, bucket in wallet_texts.buckets(buckets).items()]
    current = sum(points for _, points, _, _ in shares)
    promised = sum(ahead for _, _, ahead, _ in shares)
    if wallet.held and due:
        overdue: dict[int, int] = dict(driver.query(_OVERDUE_SHARES, (org_id, *key, now_micros, now_micros)))
        shares = [(source, points, ahead, kept - overdue.get(source, 0)) for source, points, ahead, kept in shares]
    held = sum(kept for _, _, _, kept in shares)
    redeemable = current - promised - held
    immovable = sum(points - ahead - kept for source, points, ahead, kept in shares if source in barred)
    return Balance(
        customer_id=key.customer_id,
        program_id=key.program_id,
        version=wallet.version,
        current=current,
        redeemable=redeemable,
        transferable=redeemable - immovable,
        promised=promised,
        held=held,
    )


def _wallet_as_of(driver: Driver, org_id: int, key: WalletKey, barred: frozenset[int], at: datetime) -> WalletView:
    """From postings up to then. Whether a lot had expired or was promised is read off its times, which never change."""
    at_micros = to_micros(at)
    [(version,)] = driver.query(_VERSION_AS_OF, (org_id, *key, at_micros))
    family = driver.bind_values(_family_as_of(driver, org_id, key.customer_id, at_micros))
    [(earned, received)] = driver.query(_LIFETIME_AS_OF, (org_id, family, key.program_id, at_micros))
    found = driver.query(_LOTS_AS_OF, (org_id, *key, at_micros, at_micros))
    overdue: dict[int, int] = {}
    if any(kept for *_, kept in found):
        overdue = dict(driver.query(_OVERDUE_AS_OF, (org_id, *key, at_micros, at_micros, at_micros)))
    current = promised = held = immovable = 0
    expiring: dict[int, int] = {}
    for lot_id, source, expires_at, available_from, points, kept in found:
        ahead = points if available_from is not None and available_from > at_micros else 0
        kept_then = kept - overdue.get(lot_id, 0)
        current += points
        promised += ahead
        held += kept_then
        immovable += points - ahead - kept_then if source in barred else 0
        if expires_at < NEVER:
            expiring[expires_at] = expiring.get(expires_at, 0) + points
    return WalletView(
        balance=Balance(
            customer_id=key.customer_id,
            program_id=key.program_id,
            version=version or 0,
            current=current,
            redeemable=current - promised - held,
            transferable=current - promised - held - immovable,
            promised=promised,
            held=held,
        ),
        lifetime_earned=earned or 0,
        lifetime_received=received or 0,
        lifetime_purchases=0,
        expiries=tuple((from_micros(one), expiring[one]) for one in sorted(expiring)[:EXPIRIES_MAX]),
        read_at=at,
    )


def _family_as_of(driver: Driver, org_id: int, customer_id: int, at_micros: int) -> list[int]:
    """A customer and all who had been merged into them by then, directly or on the way."""
    found = asked = [customer_id]
    while asked:
        asked = [one for (one,) in driver.query(_VICTIMS_AS_OF, (org_id, driver.bind_values(asked), at_micros))]
        found = found + asked
    return found


def lots_as_of(driver: Driver, org_id: int, found: Sequence[Lot], now: datetime) -> list[Lot]:
    """Lots that were read, as if everything due on them were booked."""
    overdue: dict[int, int] = {}
    for key in {lot.wallet for lot in found if lot.held}:
        overdue |= dict(driver.query(_OVERDUE_LOTS, (org_id, *key, to_micros(now))))
    return [_as_of(lot, now, overdue.get(lot.lot_id, 0)) for lot in found]


def _as_of(lot: Lot, now: datetime, overdue: int) -> Lot:
    """The lot as if everything due on it were booked; `overdue` of what is held of it are past their deadline."""
    expired = lot.expires_at is not None and lot.expires_at < now
    promised = lot.promised and lot.available_from is not None and lot.available_from > now
    if not expired and promised == lot.promised and not overdue:
        return lot
    if expired:
        return replace(lot, remaining=0, held=0, promised=False)
    return replace(lot, promised=promised, held=lot.held - overdue)


# -- the statements --------------------------------------------------------------------------------------------------


def _of_wallet(table: Table) -> ColumnElement[bool]:
    return and_(
        table.c.org_id == bindparam("org_id"),
        table.c.customer_id == bindparam("of_customer"),
        table.c.program_id == bindparam("of_program"),
    )


_WALLET_KEY = ("org_id", "of_customer", "of_program")
_NEVER: ColumnElement[int] = literal_column(str(NEVER))
_LIVE = lots.c.live == literal_column("1")

_WALLET = compiled(select(*columns(wallets, rows.WALLET_COLUMNS)).where(_of_wallet(wallets)), *_WALLET_KEY)

_ENROLMENTS = compiled(
    select(wallets.c.program_id)
    .where(
        wallets.c.org_id == bindparam("org_id"),
        wallets.c.customer_id == bindparam("of_customer"),
        wallets.c.enrolled_at.is_not(None),
    )
    .order_by(wallets.c.program_id),
    "org_id",
    "of_customer",
)


def _shares_of_due() -> Statement:
    ahead = case(
        (and_(lots.c.promised == literal_column("1"), lots.c.available_from > bindparam("now")), lots.c.remaining),
        else_=literal_column("0"),
    )
    return compiled(
        select(lots.c.source, func.sum(lots.c.remaining), func.sum(ahead), func.sum(lots.c.held))
        .where(_of_wallet(lots), _LIVE, lots.c.expires_at >= bindparam("now_again"))
        .group_by(lots.c.source),
        "now",
        *_WALLET_KEY,
        "now_again",
    )


_SHARES_OF_DUE = _shares_of_due()
"""What a wallet holds by source, counted from the lots: for wallets on which something is due that was not booked."""


def _overdue(*, by_lot: bool) -> Statement:
    """What holds past their deadline keep of a wallet's lots, by lot; or by source, without what has expired itself."""
    kept = (
        select(lots.c.lot_id if by_lot else lots.c.source, func.sum(hold_lots.c.points))
        .select_from(holds)
        .join(hold_lots, and_(hold_lots.c.org_id == holds.c.org_id, hold_lots.c.hold_id == holds.c.hold_id))
        .join(lots, and_(lots.c.org_id == hold_lots.c.org_id, lots.c.lot_id == hold_lots.c.lot_id))
        .where(
            holds.c.org_id == bindparam("org_id"),
            holds.c.customer_id == bindparam("of_customer"),
            hold_lots.c.program_id == bindparam("of_program"),
            holds.c.state == literal_column("'OPEN'"),
            holds.c.expires_at < bindparam("now"),
        )
    )
    if by_lot:
        return compiled(kept.group_by(lots.c.lot_id), *_WALLET_KEY, "now")
    live = kept.where(lots.c.expires_at >= bindparam("now_again")).group_by(lots.c.source)
    return compiled(live, *_WALLET_KEY, "now", "now_again")


_OVERDUE_SHARES = _overdue(by_lot=False)
_OVERDUE_LOTS = _overdue(by_lot=True)

_EXPIRIES = compiled(
    select(lots.c.expires_at, func.sum(lots.c.remaining))
    .where(_of_wallet(lots), _LIVE, lots.c.expires_at >= bindparam("now"), lots.c.expires_at < _NEVER)
    .group_by(lots.c.expires_at)
    .order_by(lots.c.expires_at)
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    *_WALLET_KEY,
    "now",
    "limit",
)

_POSTED_BY_THEN = and_(
    _of_wallet(postings),
    transactions.c.org_id == postings.c.org_id,
    transactions.c.transaction_id == postings.c.transaction_id,
    transactions.c.created_at <= bindparam("at"),
)


_VERSION_AS_OF = compiled(select(func.max(postings.c.wallet_version)).where(_POSTED_BY_THEN), *_WALLET_KEY, "at")


def _lifetime_as_of() -> Statement:
    issued = case((transactions.c.kind == literal_column(str(int(Kind.ISSUE))), postings.c.points))
    given = and_(
        transactions.c.kind == literal_column(str(int(Kind.TRANSFER))), postings.c.points > literal_column("0")
    )
    return compiled(
        select(func.sum(issued), func.sum(case((given, postings.c.points)))).where(
            postings.c.org_id == bindparam("org_id"),
            among(postings.c.customer_id, "family"),
            postings.c.program_id == bindparam("of_program"),
            transactions.c.org_id == postings.c.org_id,
            transactions.c.transaction_id == postings.c.transaction_id,
            transactions.c.created_at <= bindparam("at"),
        ),
        "org_id",
        "family",
        "of_program",
        "at",
    )


_LIFETIME_AS_OF = _lifetime_as_of()
"""Lifetime points earned and received: points that had expired on arrival come and go in one issue."""

_VICTIMS_AS_OF = compiled(
    select(customers.c.customer_id).where(
        customers.c.org_id == bindparam("org_id"),
        among(customers.c.merged_into, "ids"),
        customers.c.merged_into.is_not(None),
        exists(
            select(audit_events.c.audit_id).where(
                audit_events.c.org_id == customers.c.org_id,
                audit_events.c.subject == literal_column("'customer/'") + cast(customers.c.customer_id, String),
                audit_events.c.action == literal_column("'MergeCustomers'"),
                audit_events.c.at <= bindparam("at"),
            )
        ),
    ),
    "org_id",
    "ids",
    "at",
)
"""Who had been merged by then into some customers. When is in the audit log: a merge without points has no entry."""


def _lots_as_of() -> Statement:
    left = func.sum(postings.c.points)
    return compiled(
        select(
            postings.c.lot_id,
            lots.c.source,
            lots.c.expires_at,
            lots.c.available_from,
            left,
            func.sum(postings.c.held),
        )
        .where(
            _POSTED_BY_THEN,
            lots.c.org_id == postings.c.org_id,
            lots.c.lot_id == postings.c.lot_id,
            lots.c.expires_at >= bindparam("alive_at"),
        )
        .group_by(postings.c.lot_id, lots.c.source, lots.c.expires_at, lots.c.available_from)
        .having(left > literal_column("0")),
        *_WALLET_KEY,
        "at",
        "alive_at",
    )


_LOTS_AS_OF = _lots_as_of()
"""What remained in each lot of a wallet, and what was held of it, of those that had not expired."""


_OVERDUE_AS_OF = compiled(
    select(hold_lots.c.lot_id, func.sum(hold_lots.c.points))
    .select_from(holds)
    .join(hold_lots, and_(hold_lots.c.org_id == holds.c.org_id, hold_lots.c.hold_id == holds.c.hold_id))
    .where(
        holds.c.org_id == bindparam("org_id"),
        holds.c.customer_id == bindparam("of_customer"),
        hold_lots.c.program_id == bindparam("of_program"),
        holds.c.held_at <= bindparam("at"),
        holds.c.expires_at < bindparam("at_again"),
        or_(holds.c.closed_at.is_(None), holds.c.closed_at > bindparam("at_last")),
    )
    .group_by(hold_lots.c.lot_id),
    *_WALLET_KEY,
    "at",
    "at_again",
    "at_last",
)
"""What holds kept of lots whose deadline had passed by then, and whose release was not booked yet."""


def _audit(*, of_subject: bool) -> Statement:
    condition = [audit_events.c.org_id == bindparam("org_id"), audit_events.c.audit_id < bindparam("before")]
    if of_subject:
        condition.append(audit_events.c.subject == bindparam("of_subject"))
    return compiled(
        select(*columns(audit_events, rows.AUDIT_COLUMNS))
        .where(*condition)
        .order_by(audit_events.c.audit_id.desc())
        .limit(bindparam("limit"))
        .offset(literal_column("0")),
        "org_id",
        "before",
        *(("of_subject",) if of_subject else ()),
        "limit",
    )


_AUDIT = _audit(of_subject=False)
_AUDIT_OF_SUBJECT = _audit(of_subject=True)

_SPENDING_ORDER = (lots.c.expires_at, lots.c.awarded_at, lots.c.lot_id)
_START = ("after_expiry", "after_award", "after_lot")
_AFTER = tuple_(*_SPENDING_ORDER) > tuple_(*(bindparam(name) for name in _START))

_LIVE_LOTS = compiled(
    select(*columns(lots, rows.LOT_COLUMNS))
    .where(_of_wallet(lots), _LIVE, _AFTER)
    .order_by(*_SPENDING_ORDER)
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    *_WALLET_KEY,
    *_START,
    "limit",
)

_ALL_LOTS = compiled(
    select(*columns(lots, rows.LOT_COLUMNS))
    .where(
        lots.c.org_id == bindparam("org_id"),
        lots.c.lot_id.in_(select(postings.c.lot_id).where(_of_wallet(postings))),
        _AFTER,
    )
    .order_by(*_SPENDING_ORDER)
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    *_WALLET_KEY,
    *_START,
    "limit",
)
"""Spent lots are in no index by wallet; the wallet's postings name them."""


def _touched(*, in_program: bool) -> Statement:
    condition = [
        postings.c.org_id == bindparam("org_id"),
        postings.c.customer_id == bindparam("of_customer"),
        postings.c.transaction_id < bindparam("before"),
    ]
    if in_program:
        condition.append(postings.c.program_id == bindparam("of_program"))
    return compiled(
        select(postings.c.transaction_id)
        .where(*condition)
        .distinct()
        .order_by(postings.c.transaction_id.desc())
        .limit(bindparam("limit"))
        .offset(literal_column("0")),
        "org_id",
        "of_customer",
        "before",
        *(("of_program",) if in_program else ()),
        "limit",
    )


_TOUCHED = _touched(in_program=False)
_TOUCHED_IN_PROGRAM = _touched(in_program=True)


def _transferred(*, in_program: bool) -> Statement:
    condition = [
        postings.c.org_id == bindparam("org_id"),
        postings.c.customer_id == bindparam("of_customer"),
        postings.c.transaction_id < bindparam("before"),
        transactions.c.kind == literal_column(str(int(Kind.TRANSFER))),
    ]
    if in_program:
        condition.append(transactions.c.program_id == bindparam("of_program"))
    return compiled(
        select(postings.c.transaction_id)
        .join(
            transactions,
            and_(
                transactions.c.org_id == postings.c.org_id, transactions.c.transaction_id == postings.c.transaction_id
            ),
        )
        .where(*condition)
        .distinct()
        .order_by(postings.c.transaction_id.desc())
        .limit(bindparam("limit"))
        .offset(literal_column("0")),
        "org_id",
        "of_customer",
        "before",
        *(("of_program",) if in_program else ()),
        "limit",
    )


_TRANSFERRED = _transferred(in_program=False)
_TRANSFERRED_IN_PROGRAM = _transferred(in_program=True)


def _traced_lots(column: str, *names: str) -> Statement:
    found = (
        select(transactions.c.kind, transactions.c.created_at, *columns(lots, rows.LOT_COLUMNS))
        .join(
            transactions,
            and_(transactions.c.org_id == lots.c.org_id, transactions.c.transaction_id == lots.c.transaction_id),
        )
        .where(
            lots.c.org_id == bindparam("org_id"),
            among(lots.c[column], "ids"),
            lots.c[column].is_not(None),
        )
        .order_by(lots.c.lot_id)
    )
    if "limit" in names:
        found = found.limit(bindparam("limit")).offset(literal_column("0"))
    return compiled(found, "org_id", "ids", *names)


_TRACED = _traced_lots("lot_id")
_TRACED_CHILDREN = _traced_lots("parent_lot_id", "limit")

_POSTINGS = compiled(
    select(*columns(postings, rows.POSTING_COLUMNS))
    .where(postings.c.org_id == bindparam("org_id"), among(postings.c.transaction_id, "ids"))
    .order_by(postings.c.transaction_id, postings.c.seq),
    "org_id",
    "ids",
)

_POLICY = compiled(
    select(policies.c.body, policies.c.created_at)
    .where(
        policies.c.org_id == bindparam("org_id"),
        policies.c.program_id == bindparam("of_program"),
        policies.c.revision >= bindparam("lowest"),
        policies.c.revision <= bindparam("highest"),
    )
    .order_by(policies.c.revision.desc())
    .limit(literal_column("1"))
    .offset(literal_column("0")),
    "org_id",
    "of_program",
    "lowest",
    "highest",
)
