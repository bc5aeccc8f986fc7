"""Reads for exports and checkpoints: heads of streams, and the chained entries that follow a place in one.

The bytes of an entry are made of its rows, as the writer made them; nothing here compares hashes. Each page is a
snapshot of its own: a journal is only ever appended to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import bindparam, func, literal_column, select

from points_grpc.domain.chain import ABSENT_TIME, NO_NOTES, LotNumbers, encode
from points_grpc.domain.checkpoint import CheckpointHead
from points_grpc.domain.exported import record
from points_grpc.service.exporting import ExportedRecord
from points_grpc.storage.driver import Driver, Row
from points_grpc.storage.engine import Database
from points_grpc.storage.key_lists import among
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import journal_streams, lots, orgs, postings, transactions
from points_grpc.storage.statements import columns, compiled

PAGE_ENTRIES = 250
"""How many entries are read at once, at most: some 10 ms of work."""

PAGE_POSTINGS = 10_000
"""How many postings they have at most, but for an entry that has more alone: what an export needs memory for."""


class SqlExports:
    """The reads. Safe from any thread."""

    def __init__(self, database: Database) -> None:
        """Reads from a database."""
        self._database = database

    def heads(self, org_id: int = 0) -> tuple[CheckpointHead, ...]:
        """The heads of all streams, or of an organisation's, in one snapshot, by organisation and stream."""
        with reading(self._database) as driver:
            org_ids = [org_id] if org_id else [one for (one,) in driver.query(_ORGS, ())]
            return tuple(
                CheckpointHead(one, stream, position, bytes(hashed))
                for one in org_ids
                for stream, position, hashed in driver.query(_HEADS, (one,))
            )

    def lacking(self, heads: Sequence[CheckpointHead]) -> Sequence[CheckpointHead]:
        """Those of the heads that the journal does not hold any more: no such position, or another hash there."""
        with reading(self._database) as driver:
            return [
                one
                for one in heads
                if one.position
                and [one.hash]
                != [bytes(found) for (found,) in driver.query(_HASH_AT, (one.org_id, one.stream, one.position))]
            ]

    def pages(self, org_id: int, stream: int, *, after: int, until: int) -> Iterator[Sequence[ExportedRecord]]:
        """The entries of a stream after a position and up to another."""
        while page := self.page(org_id, stream, after=after, until=until):
            yield page
            after = page[-1].position

    def page(self, org_id: int, stream: int, *, after: int, until: int) -> Sequence[ExportedRecord]:
        """The next entries of a stream after a position and up to another; none where there are none."""
        with reading(self._database) as driver:
            found = driver.query(_AFTER, (org_id, stream, after, until, PAGE_ENTRIES))
            return _records(driver, org_id, _fitting(driver, org_id, found)) if found else ()


def _fitting(driver: Driver, org_id: int, found: Sequence[Row]) -> Sequence[Row]:
    """As many of the entries, from the first, as do not have too many postings; one at least."""
    counts: dict[int, int] = dict(driver.query(_COUNTS, (org_id, driver.bind_values([row[2] for row in found]))))
    taken = total = 0
    for row in found:
        total += counts.get(row[2], 0)
        if taken and total > PAGE_POSTINGS:
            break
        taken += 1
    return found[:taken]


def _records(driver: Driver, org_id: int, found: Sequence[Row]) -> Sequence[ExportedRecord]:
    posted: dict[int, list[Row]] = {}
    for row in driver.query(_POSTINGS, (org_id, driver.bind_values([row[2] for row in found]))):
        posted.setdefault(row[0], []).append(row[1:])
    lot_ids = {row[3] for group in posted.values() for row in group if row[3] is not None}
    opened: dict[int, list[LotNumbers]] = {}
    for transaction_id, lot in _lots(driver, org_id, sorted(lot_ids)):
        opened.setdefault(transaction_id, []).append(lot)
    return [
        ExportedRecord(row[1], _recorded(org_id, row, posted.get(row[2], []), opened.get(row[2], []))) for row in found
    ]


def _lots(driver: Driver, org_id: int, lot_ids: list[int]) -> Iterator[tuple[int, LotNumbers]]:
    """Lots by id, each behind the transaction that opened it."""
    for transaction_id, *numbers, available_from, expires_at, parent, root, category in driver.query(
        _LOTS, (org_id, driver.bind_values(lot_ids))
    ):
        since = ABSENT_TIME if available_from is None else available_from
        lot_id, customer_id, program_id, earned_in, source, points, awarded_at = numbers
        ids = (lot_id, customer_id, program_id, earned_in, source, points, awarded_at)
        yield transaction_id, (*ids, since, expires_at, parent or 0, root, category)


def _recorded(org_id: int, row: Row, posted: list[Row], opened: list[LotNumbers]) -> bytes:
    *numbers, request_id, actor, number, notes, hashed_notes, salt, hashed = row
    of_notes = NO_NOTES if hashed_notes is None else bytes(hashed_notes)
    postings_of = [one or 0 for posting in posted for one in posting]
    entry = encode((org_id, *(one or 0 for one in numbers)), of_notes, (request_id, actor, number), postings_of, opened)
    kept = None if salt is None else bytes(salt)
    return record(entry, hash_of_notes=of_notes, notes=notes, salt=kept, hashed=bytes(hashed))


# -- the statements ----------------------------------------------------------------------------------------------------

_ORGS = compiled(select(orgs.c.org_id).order_by(orgs.c.org_id))

_HEADS = compiled(
    select(journal_streams.c.stream, journal_streams.c.position, journal_streams.c.hash)
    .where(journal_streams.c.org_id == bindparam("org_id"))
    .order_by(journal_streams.c.stream),
    "org_id",
)

_AFTER = compiled(
    select(
        *columns(transactions, ("stream", "position", "transaction_id", "kind", "created_at", "customer_id")),
        *columns(transactions, ("counterparty_id", "program_id", "points", "policy_revision")),
        *columns(transactions, ("request_id", "actor", "transaction_number")),
        *columns(transactions, ("notes", "notes_hash", "notes_salt", "hash")),
    )
    .where(
        transactions.c.org_id == bindparam("org_id"),
        transactions.c.stream == bindparam("in_stream"),
        transactions.c.position > bindparam("after"),
        transactions.c.position <= bindparam("until"),
    )
    .order_by(transactions.c.position)
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    "in_stream",
    "after",
    "until",
    "limit",
)

_HASH_AT = compiled(
    select(transactions.c.hash).where(
        transactions.c.org_id == bindparam("org_id"),
        transactions.c.stream == bindparam("in_stream"),
        transactions.c.position == bindparam("at"),
    ),
    "org_id",
    "in_stream",
    "at",
)

_COUNTS = compiled(
    select(postings.c.transaction_id, func.count())
    .where(postings.c.org_id == bindparam("org_id"), among(postings.c.transaction_id, "ids"))
    .group_by(postings.c.transaction_id),
    "org_id",
    "ids",
)

_POSTINGS = compiled(
    select(
        *columns(postings, ("transaction_id", "account", "customer_id", "program_id", "lot_id", "points")),
        *columns(postings, ("wallet_version", "balance_after", "held")),
    )
    .where(postings.c.org_id == bindparam("org_id"), among(postings.c.transaction_id, "ids"))
    .order_by(postings.c.transaction_id, postings.c.seq),
    "org_id",
    "ids",
)

_LOTS = compiled(
    select(
        *columns(lots, ("transaction_id", "lot_id", "customer_id", "program_id", "earning_program_id", "source")),
        *columns(lots, ("points", "awarded_at", "available_from", "expires_at", "parent_lot_id", "root_lot_id")),
        lots.c.category,
    ).where(lots.c.org_id == bindparam("org_id"), among(lots.c.lot_id, "ids")),
    "org_id",
    "ids",
)
