"""What several reads ask of the journal: transactions with postings, and who is one person with a customer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, func, select

from points_grpc.domain.model import JournalEntry, Posting
from points_grpc.domain.views import JournalRow
from points_grpc.storage import rows
from points_grpc.storage.driver import Driver, Row
from points_grpc.storage.key_lists import among
from points_grpc.storage.schema import customers, postings, transactions
from points_grpc.storage.statements import columns, compiled

PAGE_POSTINGS = 20_000
"""How many postings a page of transactions has at most, but for a transaction that has more alone: under a megabyte."""


def with_victims(driver: Driver, org_id: int, customer_id: int) -> list[int]:
    """A customer, and all who were merged into that one, directly or not."""
    found = [customer_id]
    asked = found
    while asked:
        asked = [one for (one,) in driver.query(_VICTIMS, (org_id, driver.bind_values(asked)))]
        found += asked
    return found


def fitting(ids: Sequence[int], counts: Mapping[int, int]) -> Sequence[int]:
    """As many of the transactions, from the first, as do not have too many postings; one at least."""
    total = 0
    for taken, one in enumerate(ids):
        total += counts.get(one, 0)
        if taken and total > PAGE_POSTINGS:
            return ids[:taken]
    return ids


def journal_rows(entries: Sequence[Row], changed: Sequence[Row]) -> list[JournalRow]:
    """Transactions with those of the postings that were read."""
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

_VICTIMS = compiled(
    select(customers.c.customer_id)
    .where(
        customers.c.org_id == bindparam("org_id"),
        among(customers.c.merged_into, "ids"),
        customers.c.merged_into.is_not(None),
    )
    .order_by(customers.c.customer_id),
    "org_id",
    "ids",
)


TRANSACTIONS = compiled(
    select(*columns(transactions, rows.TRANSACTION_COLUMNS))
    .where(
        transactions.c.org_id == bindparam("org_id"),
        among(transactions.c.transaction_id, "ids"),
    )
    .order_by(transactions.c.transaction_id.desc()),
    "org_id",
    "ids",
)

POSTINGS_COUNTED = compiled(
    select(postings.c.transaction_id, func.count())
    .where(
        postings.c.org_id == bindparam("org_id"),
        among(postings.c.customer_id, "customer_ids"),
        among(postings.c.transaction_id, "ids"),
    )
    .group_by(postings.c.transaction_id),
    "org_id",
    "customer_ids",
    "ids",
)

POSTINGS_OF_CUSTOMERS = compiled(
    select(*columns(postings, rows.POSTING_COLUMNS))
    .where(
        postings.c.org_id == bindparam("org_id"),
        among(postings.c.customer_id, "customer_ids"),
        among(postings.c.transaction_id, "ids"),
    )
    .order_by(postings.c.transaction_id, postings.c.seq),
    "org_id",
    "customer_ids",
    "ids",
)
