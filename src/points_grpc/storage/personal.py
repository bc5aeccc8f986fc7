"""Reads of all that is kept about a person, kind after kind, each kind a section that goes on after a key.

A person is a customer and all who were merged into that one. What a new table keeps about customers belongs here, and
into `erasing`; docs/security.md has the table of both. One-time codes and the keyed hashes of requests are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, bindparam, literal_column, select

from points_grpc.domain.model import Kind, MissedCall, Purchase, Return
from points_grpc.domain.redemption import redemption_id_of
from points_grpc.domain.views import (
    PERSONAL_START,
    EnrolledCustomer,
    PersonalPlace,
    PersonalRecord,
    ReferredEntry,
    SentMessage,
)
from points_grpc.storage import rows
from points_grpc.storage import statements as sql
from points_grpc.storage.driver import Driver, Row, Statement
from points_grpc.storage.engine import Database
from points_grpc.storage.journal_pages import POSTINGS_OF_CUSTOMERS, TRANSACTIONS, journal_rows, with_victims
from points_grpc.storage.key_lists import among
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import (
    audit_events,
    customers,
    holds,
    lots,
    missed_calls,
    outbox,
    postings,
    purchases,
    returns,
    transactions,
)
from points_grpc.storage.statements import columns, compiled
from points_grpc.storage.times import from_micros

_HIGHEST = 2**63 - 1


class Person(NamedTuple):
    """Whose records are read: the customer asked for comes first."""

    driver: Driver
    org_id: int
    customer_ids: Sequence[int]

    def query(self, statement: Statement, *parameters: int | str) -> Sequence[Row]:
        """Rows of the person."""
        return self.driver.query(
            statement, (self.org_id, self.driver.bind_values(list(self.customer_ids)), *parameters)
        )


Found = Sequence[tuple[str, PersonalRecord]]
"""Records in order, each behind its key."""

Section = Callable[[Person, str, int], Found]
"""Reads records of one kind after a key; fewer than asked for only at the end."""


def personal_page(
    driver: Driver, org_id: int, customer_id: int, place: PersonalPlace, limit: int
) -> tuple[Sequence[PersonalRecord], PersonalPlace | None]:
    """The records that follow a place, so many at most, and where the next page starts; None if there is none."""
    person = Person(driver, org_id, with_victims(driver, org_id, customer_id))
    page: list[PersonalRecord] = []
    section, after = place
    while section < len(_SECTIONS):
        found = _SECTIONS[section](person, after, limit - len(page) + 1)
        room = limit - len(page)
        page += [record for _, record in found[:room]]
        if len(found) > room:
            return page, PersonalPlace(section, found[room - 1][0] if room else after)
        section, after = section + 1, PERSONAL_START.after
    return page, None


def erased_customers(database: Database, org_id: int) -> Sequence[tuple[int, datetime]]:
    """Who was erased and when; those into whom others were merged before these."""
    with reading(database) as driver:
        return [(number, from_micros(at)) for number, at in driver.query(_ERASED, (org_id,))]


def _customers(person: Person, after: str, limit: int) -> Found:
    ids = list(person.customer_ids)
    ids = ids[ids.index(int(after)) + 1 :] if after else ids
    shown = person._replace(customer_ids=ids[:limit])
    enrolled: dict[int, list[int]] = {}
    for row in shown.query(sql.WALLETS):
        wallet = rows.wallet(row)
        if wallet.enrolled_at is not None:
            enrolled.setdefault(wallet.customer_id, []).append(wallet.program_id)
    found = {row[0]: rows.customer(row) for row in shown.query(sql.CUSTOMERS_BY_ID)}
    return [
        (str(one), EnrolledCustomer(found[one], tuple(sorted(enrolled.get(one, ()))))) for one in shown.customer_ids
    ]


def _wallets(person: Person, after: str, limit: int) -> Found:
    found = sorted((rows.wallet(row) for row in person.query(sql.WALLETS)), key=lambda one: one.key)
    last = tuple(int(part) for part in after.split("/")) if after else ()
    return [(f"{one.customer_id}/{one.program_id}", one) for one in found if one.key > last][:limit]


def _lots(person: Person, after: str, limit: int) -> Found:
    found = person.driver.query(
        _LOTS, (person.org_id, _before(after), person.org_id, person.driver.bind_values(person.customer_ids), limit)
    )
    return [(str(lot.lot_id), lot) for lot in map(rows.lot, found)]


def _transactions(person: Person, after: str, limit: int) -> Found:
    driver, org_id = person.driver, person.org_id
    booked = {one for statement in _BOOKED for (one,) in person.query(statement, _before(after), limit)}
    ids = sorted(booked, reverse=True)[:limit]
    if not ids:
        return []
    bound = driver.bind_values(ids)
    entries = driver.query(TRANSACTIONS, (org_id, bound))
    posted = driver.query(POSTINGS_OF_CUSTOMERS, (org_id, driver.bind_values(person.customer_ids), bound))
    found = journal_rows(entries, posted)
    redeemed = [redemption_id_of(one.entry.transaction_id) for one in found if one.entry.kind is Kind.REDEMPTION]
    references: dict[int, str] = {}
    if redeemed:
        made = driver.query(sql.REDEMPTIONS, (org_id, driver.bind_values(redeemed)))
        references = {
            one.transaction_id: one.external_reference or "" for one in (rows.redemption(row, ()) for row in made)
        }
    references |= dict(person.query(_REFERENCES_OF_HOLDS))
    return [
        (str(one.entry.transaction_id), ReferredEntry(one, references.get(one.entry.transaction_id, "")))
        for one in found
    ]


def _purchases(person: Person, after: str, limit: int) -> Found:
    return [(row[0], Purchase(*row)) for row in person.query(_PURCHASES, after, limit)]


def _returns(person: Person, after: str, limit: int) -> Found:
    found: list[tuple[str, PersonalRecord]] = []
    for row in person.driver.query(
        _RETURNS, (person.org_id, person.driver.bind_values(person.customer_ids), after, limit)
    ):
        number, customer_id, amount, points, at, request_id, actor, notes = row
        found.append((number, Return(number, customer_id, amount, points, from_micros(at), request_id, actor, notes)))
    return found


def _missed_calls(person: Person, after: str, limit: int) -> Found:
    found: list[MissedCall] = [rows.missed_call(row) for row in person.query(_MISSED_CALLS, int(after or 0), limit)]
    return [(str(one.call_id), one) for one in found]


def _messages(person: Person, after: str, limit: int) -> Found:
    found = [row for statement in _MESSAGES for row in person.query(statement, int(after or 0), limit)]
    return [_message(row) for row in sorted(found)[:limit]]


def _message(row: Row) -> tuple[str, PersonalRecord]:
    message_id, customer_id, channel, target, state, created_at = row
    return str(message_id), SentMessage(customer_id, channel, target, state, from_micros(created_at))


def _audit_events(person: Person, after: str, limit: int) -> Found:
    subjects = person.driver.bind_values([f"customer/{one}" for one in person.customer_ids])
    found = person.driver.query(_AUDIT_EVENTS, (person.org_id, subjects, int(after or 0), limit))
    return [(str(row[0]), rows.audit(row)) for row in found]


def _before(after: str) -> int:
    """Newest first: what comes after an id are lower ones."""
    return int(after) if after else _HIGHEST


_SECTIONS: Sequence[Section] = (
    _customers,
    _wallets,
    _lots,
    _transactions,
    _purchases,
    _returns,
    _missed_calls,
    _messages,
    _audit_events,
)
"""In the order of the fields of CustomerRecord."""

# -- the statements ----------------------------------------------------------------------------------------------------


def _page(what: Sequence[str], key: Column[Any], *where: ColumnElement[bool], ids: str = "customer_id") -> Statement:
    """The rows of a list of customers (or subjects) after a key."""
    table = key.table
    found: Select[Any] = (
        select(*columns(table, what))
        .where(
            table.c.org_id == bindparam("org_id"),
            among(table.c[ids], "ids"),
            key > bindparam("after"),
            *where,
        )
        .order_by(key)
        .limit(bindparam("limit"))
        .offset(literal_column("0"))
    )
    return compiled(found, "org_id", "ids", "after", "limit")


_LOTS = compiled(
    select(*columns(lots, rows.LOT_COLUMNS))
    .where(
        lots.c.org_id == bindparam("org_id"),
        lots.c.lot_id < bindparam("before"),
        lots.c.lot_id.in_(
            select(postings.c.lot_id).where(
                postings.c.org_id == bindparam("org_again"),
                among(postings.c.customer_id, "ids"),
                postings.c.customer_id.is_not(None),
            )
        ),
    )
    .order_by(lots.c.lot_id.desc())
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    "before",
    "org_again",
    "ids",
    "limit",
)

_TOUCHED = compiled(
    select(postings.c.transaction_id)
    .where(
        postings.c.org_id == bindparam("org_id"),
        among(postings.c.customer_id, "ids"),
        postings.c.customer_id.is_not(None),
        postings.c.transaction_id < bindparam("before"),
    )
    .distinct()
    .order_by(postings.c.transaction_id.desc())
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    "ids",
    "before",
    "limit",
)

_REVERSED = compiled(
    select(transactions.c.transaction_id)
    .where(
        transactions.c.org_id == bindparam("org_id"),
        among(transactions.c.customer_id, "ids"),
        transactions.c.kind == literal_column("4"),
        transactions.c.transaction_id < bindparam("before"),
    )
    .order_by(transactions.c.transaction_id.desc())
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    "ids",
    "before",
    "limit",
)

_BOOKED = (_TOUCHED, _REVERSED)
"""A reversal whose points had all expired touches no wallet; any other is found by both."""

_REFERENCES_OF_HOLDS = compiled(
    select(holds.c.transaction_id, holds.c.external_reference).where(
        holds.c.org_id == bindparam("org_id"),
        among(holds.c.customer_id, "ids"),
        holds.c.external_reference.is_not(None),
    ),
    "org_id",
    "ids",
)

_PURCHASES = _page(rows.PURCHASE_COLUMNS, purchases.c.transaction_number)
_RETURNS = _page(
    ("transaction_number", "customer_id", "amount", "points", "returned_at", "request_id", "actor", "notes"),
    returns.c.transaction_number,
)
_MISSED_CALLS = _page(rows.MISSED_CALL_COLUMNS, missed_calls.c.call_id)

_MESSAGE = ("message_id", "customer_id", "channel", "target", "state", "created_at")
_QUEUED = _page(_MESSAGE, outbox.c.message_id, outbox.c.state == literal_column("'QUEUED'"))
_SETTLED = _page(_MESSAGE, outbox.c.message_id, outbox.c.state != literal_column("'QUEUED'"))
_MESSAGES = (_QUEUED, _SETTLED)
"""Each kind has an index of its own."""

_AUDIT_EVENTS = _page(rows.AUDIT_COLUMNS, audit_events.c.audit_id, ids="subject")

_ERASED = compiled(
    select(customers.c.customer_id, customers.c.erased_at)
    .where(customers.c.org_id == bindparam("org_id"), customers.c.erased_at.is_not(None))
    .order_by(customers.c.merged_into.is_not(None), customers.c.erased_at, customers.c.customer_id),
    "org_id",
)
"""Goes through all customers of an organisation: for the command line alone."""
