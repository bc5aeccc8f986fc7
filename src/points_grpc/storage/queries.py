"""Reads for answers: wallets, lots, the journal, customers, and what became of a request. Nothing here changes a row.

Each read opens a snapshot of its own on the readers' pool, so that the statements of one answer agree with each other.
Pages go on after the last row shown (keyset), never by counting rows. What is due on a wallet and not booked yet is
left out as if it were: expired lots count for nothing, and matured ones are not promised any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Table, and_, bindparam, case, func, literal_column, select, true, tuple_

from points_grpc.domain.model import (
    Customer,
    Identifier,
    JournalEntry,
    Kind,
    Lot,
    Posting,
    ProgramBook,
    WalletKey,
)
from points_grpc.domain.outcome import Balance, Party
from points_grpc.domain.policy import Policy
from points_grpc.domain.snapshot import Lookups
from points_grpc.domain.views import AuditRow, JournalRow, WalletView
from points_grpc.service.ports import RequestRecord
from points_grpc.storage import rows, sqlite
from points_grpc.storage import statements as sql
from points_grpc.storage.codec import decode_policy
from points_grpc.storage.driver import Driver, Row, Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.load import Books, Reader
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import audit_events, balances, lots, policies, postings, transactions, wallets
from points_grpc.storage.statements import columns, compiled
from points_grpc.storage.times import NEVER, expiry_to_micros, from_micros, to_micros

EXPIRIES_MAX = 100
"""How many instants of expiry a wallet shows."""

_LOWEST = -(2**63)
_HIGHEST = 2**63 - 1

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
        return [_as_of(rows.lot(row), now) for row in found]

    def transactions(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> Sequence[JournalRow]:
        """Journal transactions that touched a customer, newest first, with the postings of that customer."""
        upper = before or _HIGHEST
        with reading(self._database) as driver:
            if program_id:
                ids = driver.query(_TOUCHED_IN_PROGRAM, (org_id, customer_id, upper, program_id, limit))
            else:
                ids = driver.query(_TOUCHED, (org_id, customer_id, upper, limit))
            bound = sqlite.bind_values([one for (one,) in ids])
            entries = driver.query(_TRANSACTIONS, (org_id, bound))
            changed = driver.query(_POSTINGS_OF_CUSTOMER, (org_id, customer_id, bound))
        return _journal_rows(entries, changed)

    def transaction(self, org_id: int, transaction_id: int) -> JournalRow | None:
        """A journal transaction with all postings."""
        bound = sqlite.bind_values([transaction_id])
        with reading(self._database) as driver:
            entries = driver.query(_TRANSACTIONS, (org_id, bound))
            changed = driver.query(_POSTINGS, (org_id, bound))
        found = _journal_rows(entries, changed)
        return found[0] if found else None

    def request(self, org_id: int, request_id: str) -> RequestRecord | None:
        """The recorded outcome of a request id."""
        with reading(self._database) as driver:
            return Reader(driver, org_id).recorded((request_id,)).get(request_id)

    def policy(self, org_id: int, program_id: int, revision: int) -> tuple[Policy, datetime] | None:
        """A revision of a program's policy and when it came into force; revision 0: the present one."""
        with reading(self._database) as driver:
            found = driver.query(_POLICY, (org_id, program_id, revision or 1, revision or _HIGHEST))
        return (decode_policy(found[0][0]), from_micros(found[0][1])) if found else None

    def config_values(self, org_id: int) -> Mapping[str, str]:
        """The configuration keys of the organisation."""
        with reading(self._database) as driver:
            return dict(driver.query(sql.CONFIG, (org_id,)))

    def parties(self, org_id: int, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers."""
        with reading(self._database) as driver:
            return Reader(driver, org_id).parties(customer_ids)


def _wallet_view(driver: Driver, org_id: int, key: WalletKey, barred: frozenset[int], now: datetime) -> WalletView:
    now_micros = to_micros(now)
    found = driver.query(_WALLET, (org_id, *key))
    wallet = rows.wallet(found[0]) if found else None
    if wallet is None:
        nothing = Balance(key.customer_id, key.program_id, 0, 0, 0, 0, 0, 0)
        return WalletView(nothing, 0, 0, 0, (), now)
    if wallet.due_at is not None and wallet.due_at <= now:
        shares = driver.query(_SHARES_OF_DUE, (now_micros, org_id, *key, now_micros))
    else:
        shares = driver.query(_SHARES, (org_id, *key))
    current = sum(points for _, points, _, _ in shares)
    promised = sum(ahead for _, _, ahead, _ in shares)
    held = sum(kept for _, _, _, kept in shares)
    redeemable = current - promised - held
    immovable = sum(points - ahead - kept for source, points, ahead, kept in shares if source in barred)
    expiries = driver.query(_EXPIRIES, (org_id, *key, now_micros, EXPIRIES_MAX))
    return WalletView(
        balance=Balance(
            customer_id=key.customer_id,
            program_id=key.program_id,
            version=wallet.version,
            current=current,
            redeemable=redeemable,
            transferable=redeemable - immovable,
            promised=promised,
            held=held,
        ),
        lifetime_earned=wallet.lifetime_earned,
        lifetime_received=wallet.lifetime_received,
        lifetime_purchases=wallet.lifetime_purchases,
        expiries=tuple((from_micros(at), points) for at, points in expiries),
        read_at=now,
    )


def _wallet_as_of(driver: Driver, org_id: int, key: WalletKey, barred: frozenset[int], at: datetime) -> WalletView:
    """From postings up to then. Whether a lot had expired or was promised is read off its times, which never change."""
    at_micros = to_micros(at)
    [(version, earned, received)] = driver.query(_FIGURES_AS_OF, (org_id, *key, at_micros))
    current = promised = immovable = 0
    expiring: dict[int, int] = {}
    for source, expires_at, available_from, points in driver.query(_LOTS_AS_OF, (org_id, *key, at_micros, at_micros)):
        ahead = points if available_from is not None and available_from > at_micros else 0
        current += points
        promised += ahead
        immovable += points - ahead if source in barred else 0
        if expires_at < NEVER:
            expiring[expires_at] = expiring.get(expires_at, 0) + points
    return WalletView(
        balance=Balance(
            customer_id=key.customer_id,
            program_id=key.program_id,
            version=version or 0,
            current=current,
            redeemable=current - promised,
            transferable=current - promised - immovable,
            promised=promised,
            held=0,
        ),
        lifetime_earned=earned or 0,
        lifetime_received=received or 0,
        lifetime_purchases=0,
        expiries=tuple((from_micros(one), expiring[one]) for one in sorted(expiring)[:EXPIRIES_MAX]),
        read_at=at,
    )


def _as_of(lot: Lot, now: datetime) -> Lot:
    """The lot as if everything due on it were booked."""
    expired = lot.expires_at is not None and lot.expires_at < now
    promised = lot.promised and lot.available_from is not None and lot.available_from > now
    if not expired and promised == lot.promised:
        return lot
    if expired:
        return replace(lot, remaining=0, held=0, promised=False)
    return replace(lot, promised=promised)


def _journal_rows(entries: Sequence[Row], changed: Sequence[Row]) -> list[JournalRow]:
    by_transaction: dict[int, list[Posting]] = {}
    for row in changed:
        transaction_id, posting = rows.posting(row)
        by_transaction.setdefault(transaction_id, []).append(posting)
    found: list[JournalRow] = []
    for row in entries:
        entry: JournalEntry
        entry, stream, position = rows.entry(row, tuple(by_transaction.get(row[0], ())))
        found.append(JournalRow(entry, stream, position))
    return found


# -- the statements --------------------------------------------------------------------------------------------------


def _of_wallet(table: Table) -> ColumnElement[bool]:
    return and_(
        table.c.org_id == bindparam("org_id"),
        table.c.customer_id == bindparam("of_customer"),
        table.c.program_id == bindparam("of_program"),
    )


_WALLET_KEY = ("org_id", "of_customer", "of_program")
_NEVER: ColumnElement[int] = literal_column(str(NEVER))
_LIVE = lots.c.remaining > literal_column("0")

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

_SHARES = compiled(
    select(balances.c.source, func.sum(balances.c.points), func.sum(balances.c.promised), func.sum(balances.c.held))
    .where(_of_wallet(balances))
    .group_by(balances.c.source),
    *_WALLET_KEY,
)
"""What a wallet holds by source: points, promised, held."""


def _shares_of_due() -> Statement:
    ahead = case(
        (and_(lots.c.promised == true(), lots.c.available_from > bindparam("now")), lots.c.remaining),
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
"""As `_SHARES`, counted from the lots: for wallets on which something is due that was not booked yet."""

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


def _figures_as_of() -> Statement:
    issued = case((transactions.c.kind == literal_column(str(int(Kind.ISSUE))), postings.c.points))
    given = and_(
        transactions.c.kind == literal_column(str(int(Kind.TRANSFER))), postings.c.points > literal_column("0")
    )
    return compiled(
        select(func.max(postings.c.wallet_version), func.sum(issued), func.sum(case((given, postings.c.points)))).where(
            _POSTED_BY_THEN
        ),
        *_WALLET_KEY,
        "at",
    )


_FIGURES_AS_OF = _figures_as_of()
"""Version, and lifetime points earned and received: points that had expired on arrival come and go in one issue."""


def _lots_as_of() -> Statement:
    left = func.sum(postings.c.points)
    return compiled(
        select(lots.c.source, lots.c.expires_at, lots.c.available_from, left)
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
"""What remained in each lot of a wallet, of those that had not expired."""


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

_TRANSACTIONS = compiled(
    select(*columns(transactions, rows.TRANSACTION_COLUMNS))
    .where(
        transactions.c.org_id == bindparam("org_id"),
        transactions.c.transaction_id.in_(sqlite.each_value("ids")),
    )
    .order_by(transactions.c.transaction_id.desc()),
    "org_id",
    "ids",
)

_POSTINGS = compiled(
    select(*columns(postings, rows.POSTING_COLUMNS))
    .where(postings.c.org_id == bindparam("org_id"), postings.c.transaction_id.in_(sqlite.each_value("ids")))
    .order_by(postings.c.transaction_id, postings.c.seq),
    "org_id",
    "ids",
)

_POSTINGS_OF_CUSTOMER = compiled(
    select(*columns(postings, rows.POSTING_COLUMNS))
    .where(
        postings.c.org_id == bindparam("org_id"),
        postings.c.customer_id == bindparam("of_customer"),
        postings.c.transaction_id.in_(sqlite.each_value("ids")),
    )
    .order_by(postings.c.transaction_id, postings.c.seq),
    "org_id",
    "of_customer",
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
