"""Whole organisations, page by page: customers, wallets, lots, the journal. Nothing here changes a row.

Each page is a snapshot of its own and goes on after the last row that was looked at (keyset). A page looks at so many
rows at most, whatever it is narrowed down to, so that no page takes longer than another: what does not belong to the
answer is left out after it was read. Counting is the one thing here that takes longer the more there is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Table, bindparam, func, literal_column, select, tuple_

from points_grpc.domain.model import Customer, Lot
from points_grpc.domain.views import JournalRow, Listed, ListedWallet, Position
from points_grpc.service.ids import lowest_id
from points_grpc.storage import rows
from points_grpc.storage.driver import Driver, Row, Statement, Value
from points_grpc.storage.engine import Database
from points_grpc.storage.journal_pages import journal_rows
from points_grpc.storage.key_lists import among
from points_grpc.storage.load import Books
from points_grpc.storage.queries import lots_as_of, stored_balance
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import customers, lots, transactions, wallets
from points_grpc.storage.statements import columns, compiled
from points_grpc.storage.times import to_micros

CLOCKS_APART_MAX_MS = 3_600_000
"""How far the clocks of servers, which make ids, and of the database, which tells the time, may be apart: so much more
of the journal is looked at where it is narrowed down by time."""

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_START: Position = (_LOWEST,)

Item = TypeVar("Item")


class SqlListings:
    """The lists. Safe from any thread."""

    def __init__(self, database: Database) -> None:
        """Reads from a database."""
        self._database = database
        self._books = Books()

    def customers(
        self, org_id: int, *, after: Position, limit: int, count: bool
    ) -> Listed[tuple[Customer, tuple[int, ...]]]:
        """Customers by id, with the programs of enrolment."""
        with reading(self._database) as driver:
            found = driver.query(_CUSTOMERS, (org_id, *(after or _START), limit + 1))
            page = found[:limit]
            ids = driver.bind_values([row[0] for row in page])
            enrolled: dict[int, list[int]] = {}
            for customer_id, program_id in driver.query(_ENROLMENTS_OF, (org_id, ids)):
                enrolled.setdefault(customer_id, []).append(program_id)
            total = _total(driver, _COUNT_CUSTOMERS, (org_id,), wanted=count)
        items = [(rows.customer(row), tuple(enrolled.get(row[0], ()))) for row in page]
        return Listed(items, _last(found, limit, _customer_place), total)

    def wallets(
        self,
        org_id: int,
        *,
        program_id: int,
        after: Position,
        limit: int,
        count: bool,
        now: datetime,
    ) -> Listed[ListedWallet]:
        """Wallets by customer and program, as they stand."""
        with reading(self._database) as driver:
            found = driver.query(_WALLETS, (org_id, *(after or _START * 2), limit + 1))
            programs = self._books.read(driver, org_id).programs
            items = [
                _listed(driver, org_id, row, programs[row[1]].policy.transfer.barred_sources, now)
                for row in found[:limit]
                if program_id in {0, row[1]}
            ]
            counted, narrowed = (_COUNT_WALLETS_IN, (org_id, program_id)) if program_id else (_COUNT_WALLETS, (org_id,))
            total = _total(driver, counted, narrowed, wanted=count)
        return Listed(items, _last(found, limit, _wallet_place), total)

    def live_lots(
        self, org_id: int, *, program_id: int, after: Position, limit: int, count: bool, now: datetime
    ) -> Listed[Lot]:
        """Lots with points left by customer, program and spending order, without those that have expired."""
        with reading(self._database) as driver:
            found = driver.query(_LOTS, (org_id, *(after or _START * 5), limit + 1))
            page = [rows.lot(row) for row in found[:limit] if program_id in {0, row[1]}]
            items = [lot for lot in lots_as_of(driver, org_id, page, now) if lot.remaining]
            counted, narrowed = (_COUNT_LOTS_IN, (org_id, program_id)) if program_id else (_COUNT_LOTS, (org_id,))
            total = _total(driver, counted, narrowed, wanted=count)
        return Listed(items, _last(found, limit, _lot_place), total)

    def journal(
        self, org_id: int, *, since: datetime | None, until: datetime | None, after: Position, limit: int, count: bool
    ) -> Listed[JournalRow]:
        """Journal transactions made in a time, highest id first, without postings."""
        start = _LOWEST if since is None else to_micros(since)
        end = _HIGHEST if until is None else to_micros(until)
        lowest = 0 if since is None else lowest_id(start // 1000 - CLOCKS_APART_MAX_MS)
        highest = _HIGHEST if until is None else lowest_id(end // 1000 + CLOCKS_APART_MAX_MS)
        before = min(highest, *after) if after else highest
        with reading(self._database) as driver:
            found = driver.query(_JOURNAL, (org_id, before, lowest, limit + 1))
            total = _total(driver, _COUNT_JOURNAL, (org_id, highest, lowest, start, end), wanted=count)
        made_in_time = [row for row in found[:limit] if start <= row[_MADE_AT] < end]
        return Listed(journal_rows(made_in_time, ()), _last(found, limit, _transaction_place), total)


def _listed(driver: Driver, org_id: int, row: Row, barred: Collection[int], now: datetime) -> ListedWallet:
    wallet = rows.wallet(row)
    return ListedWallet(
        balance=stored_balance(driver, org_id, wallet, row[rows.BUCKETS], barred, now),
        lifetime_earned=wallet.lifetime_earned,
        lifetime_received=wallet.lifetime_received,
        lifetime_purchases=wallet.lifetime_purchases,
        enrolled_at=wallet.enrolled_at,
    )


def _total(driver: Driver, statement: Statement, parameters: Sequence[Value], *, wanted: bool) -> int:
    """How many there are, if that is asked."""
    return int(driver.query(statement, parameters)[0][0]) if wanted else 0


def _last(found: Sequence[Row], limit: int, place: Callable[[Row], Position]) -> Position | None:
    """Where the next page goes on; None if there is none: one row more than the page has was asked for."""
    return place(found[limit - 1]) if len(found) > limit else None


def _customer_place(row: Row) -> Position:
    return (row[0],)


_transaction_place = _customer_place


def _wallet_place(row: Row) -> Position:
    customer_id, program_id = row[:2]
    return customer_id, program_id


def _lot_place(row: Row) -> Position:
    customer_id, program_id, expires_at, awarded_at, lot_id = row[:5]
    return customer_id, program_id, expires_at, awarded_at, lot_id


# -- the statements --------------------------------------------------------------------------------------------------


def _page_of(table: Table, names: Sequence[str], order: Sequence[str], *conditions: ColumnElement[bool]) -> Statement:
    """The rows of an organisation in an order, after a place in it."""
    places = tuple(f"after_{name}" for name in order)
    key = [table.c[name] for name in order]
    is_after = tuple_(*key) > tuple_(*(bindparam(name) for name in places))
    return compiled(
        select(*columns(table, names))
        .where(table.c.org_id == bindparam("org_id"), *conditions, is_after)
        .order_by(*key)
        .limit(bindparam("limit"))
        .offset(literal_column("0")),
        "org_id",
        *places,
        "limit",
    )


def _count_of(table: Table, *conditions: ColumnElement[bool], in_program: bool = False) -> Statement:
    """How many rows an organisation has."""
    narrowed = [*conditions, *((table.c.program_id == bindparam("of_program"),) if in_program else ())]
    return compiled(
        select(func.count()).select_from(table).where(table.c.org_id == bindparam("org_id"), *narrowed),
        "org_id",
        *(("of_program",) if in_program else ()),
    )


_LIVE = lots.c.live == literal_column("1")
_MADE_AT = rows.TRANSACTION_COLUMNS.index("created_at")

_CUSTOMERS = _page_of(customers, rows.CUSTOMER_COLUMNS, ("customer_id",))
_WALLETS = _page_of(wallets, rows.WALLET_COLUMNS, ("customer_id", "program_id"))
_LOTS = _page_of(lots, rows.LOT_COLUMNS, ("customer_id", "program_id", "expires_at", "awarded_at", "lot_id"), _LIVE)

_ENROLMENTS_OF = compiled(
    select(wallets.c.customer_id, wallets.c.program_id)
    .where(
        wallets.c.org_id == bindparam("org_id"),
        among(wallets.c.customer_id, "ids"),
        wallets.c.enrolled_at.is_not(None),
    )
    .order_by(wallets.c.customer_id, wallets.c.program_id),
    "org_id",
    "ids",
)

_IN_REACH = (
    transactions.c.org_id == bindparam("org_id"),
    transactions.c.transaction_id < bindparam("before"),
    transactions.c.transaction_id >= bindparam("lowest"),
)
_JOURNAL = compiled(
    select(*columns(transactions, rows.TRANSACTION_COLUMNS))
    .where(*_IN_REACH)
    .order_by(transactions.c.transaction_id.desc())
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    "before",
    "lowest",
    "limit",
)

_COUNT_CUSTOMERS = _count_of(customers)
_COUNT_WALLETS = _count_of(wallets)
_COUNT_WALLETS_IN = _count_of(wallets, in_program=True)
_COUNT_LOTS = _count_of(lots, _LIVE)
_COUNT_LOTS_IN = _count_of(lots, _LIVE, in_program=True)
_COUNT_JOURNAL = compiled(
    select(func.count())
    .select_from(transactions)
    .where(*_IN_REACH, transactions.c.created_at >= bindparam("since"), transactions.c.created_at < bindparam("until")),
    "org_id",
    "before",
    "lowest",
    "since",
    "until",
)
