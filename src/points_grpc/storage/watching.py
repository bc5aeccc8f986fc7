"""Reads for watches: how far the journal is, and what follows a place in it. Nothing here changes a row.

Each read opens a snapshot of its own on the readers' pool. What follows is told without a gap or not at all: positions
of a stream and versions of a wallet rise by one, so that whoever reads them on sees what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import and_, bindparam, func, literal_column, select

from points_grpc.domain.model import WalletKey
from points_grpc.domain.views import JournalRow
from points_grpc.storage import rows
from points_grpc.storage.driver import Driver, Row
from points_grpc.storage.engine import Database
from points_grpc.storage.journal_pages import journal_rows
from points_grpc.storage.key_lists import among
from points_grpc.storage.repository import reading
from points_grpc.storage.schema import journal_streams, postings, transactions, wallets
from points_grpc.storage.statements import columns, compiled

SKEW_ROWS = 4
"""How many times more ids than asked for are looked at: those of several writers need not be in the order of versions,
and a page that is short of a version in between ends there."""


class SqlJournal:
    """The reads. Safe from any thread."""

    def __init__(self, database: Database) -> None:
        """Reads from a database."""
        self._database = database

    def heads(self, org_ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        """The last position of each journal stream, by organisation."""
        with reading(self._database) as driver:
            return {org_id: dict(driver.query(_HEADS, (org_id,))) for org_id in org_ids}

    def versions(self, wanted: Collection[tuple[int, WalletKey]]) -> Mapping[tuple[int, WalletKey], int]:
        """The versions of wallets, by organisation and wallet; 0 for one that is not there."""
        with reading(self._database) as driver:
            return {(org_id, key): _version(driver, org_id, key) for org_id, key in wanted}

    def after(self, org_id: int, places: Mapping[int, int], limit: int) -> tuple[Mapping[int, int], list[JournalRow]]:
        """The heads of the streams, and what follows a place in each: stream by stream, so many in all at most."""
        found: list[Row] = []
        with reading(self._database) as driver:
            heads: dict[int, int] = dict(driver.query(_HEADS, (org_id,)))
            for stream, head in sorted(heads.items()):
                if head > places.get(stream, 0) and len(found) < limit:
                    found += driver.query(_AFTER_POSITION, (org_id, stream, places.get(stream, 0), limit - len(found)))
            changed = driver.query(_POSTINGS, (org_id, driver.bind_values([row[0] for row in found])))
        return heads, journal_rows(found, changed)

    def wallet_after(
        self, org_id: int, key: WalletKey, version: int, from_id: int, limit: int
    ) -> tuple[int, list[JournalRow]]:
        """The version of a wallet, and what made those after a given one, without a gap; so many at most.

        `from_id`: the transaction that made the given version, where that is known. Only postings of this wallet.
        """
        with reading(self._database) as driver:
            head = _version(driver, org_id, key)
            if head <= version:
                return head, []
            ids = _run(driver, org_id, key, version, from_id, limit)
            if not ids:
                start = driver.query(_MADE_VERSION, (org_id, *key, version + 1))
                ids = _run(driver, org_id, key, version, start[0][0], limit) if start else []
            bound = driver.bind_values(ids)
            by_id = {row[0]: row for row in driver.query(_TRANSACTIONS, (org_id, bound))}
            changed = driver.query(_POSTINGS_OF_WALLET, (org_id, *key, bound))
        return head, journal_rows([by_id[one] for one in ids], changed)


def _version(driver: Driver, org_id: int, key: WalletKey) -> int:
    found = driver.query(_VERSION, (org_id, *key))
    return int(found[0][0]) if found else 0


def _run(driver: Driver, org_id: int, key: WalletKey, version: int, from_id: int, limit: int) -> list[int]:
    """The transactions that made the versions after a given one, up to the first that is not among those found."""
    made = {
        one: transaction_id
        for transaction_id, one in driver.query(_VERSIONS_FROM, (org_id, *key, from_id, limit * SKEW_ROWS))
    }
    ids: list[int] = []
    while len(ids) < limit and version + 1 in made:
        version += 1
        ids.append(made[version])
    return ids


# -- the statements --------------------------------------------------------------------------------------------------

_WALLET_KEY = ("org_id", "of_customer", "of_program")
_OF_WALLET = and_(
    postings.c.org_id == bindparam("org_id"),
    postings.c.customer_id == bindparam("of_customer"),
    postings.c.program_id == bindparam("of_program"),
)

_HEADS = compiled(
    select(journal_streams.c.stream, journal_streams.c.position).where(journal_streams.c.org_id == bindparam("org_id")),
    "org_id",
)

_VERSION = compiled(
    select(wallets.c.version).where(
        wallets.c.org_id == bindparam("org_id"),
        wallets.c.customer_id == bindparam("of_customer"),
        wallets.c.program_id == bindparam("of_program"),
    ),
    *_WALLET_KEY,
)

_AFTER_POSITION = compiled(
    select(*columns(transactions, rows.TRANSACTION_COLUMNS))
    .where(
        transactions.c.org_id == bindparam("org_id"),
        transactions.c.stream == bindparam("in_stream"),
        transactions.c.position > bindparam("after"),
    )
    .order_by(transactions.c.position)
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    "org_id",
    "in_stream",
    "after",
    "limit",
)

_POSTINGS = compiled(
    select(*columns(postings, rows.POSTING_COLUMNS))
    .where(postings.c.org_id == bindparam("org_id"), among(postings.c.transaction_id, "ids"))
    .order_by(postings.c.transaction_id, postings.c.seq),
    "org_id",
    "ids",
)

_VERSIONS_FROM = compiled(
    select(postings.c.transaction_id, func.max(postings.c.wallet_version))
    .where(_OF_WALLET, postings.c.transaction_id >= bindparam("from_id"))
    .group_by(postings.c.transaction_id)
    .order_by(postings.c.transaction_id)
    .limit(bindparam("limit"))
    .offset(literal_column("0")),
    *_WALLET_KEY,
    "from_id",
    "limit",
)
"""A transaction makes one version of a wallet, however many of its lots it changes."""

_MADE_VERSION = compiled(
    select(postings.c.transaction_id)
    .where(_OF_WALLET, postings.c.wallet_version == bindparam("version"))
    .order_by(postings.c.transaction_id.desc())
    .limit(literal_column("1"))
    .offset(literal_column("0")),
    *_WALLET_KEY,
    "version",
)
"""Looks back through the customer's postings, once for a watch that resumes: an index by version would cost each write
more than this ever does."""

_TRANSACTIONS = compiled(
    select(*columns(transactions, rows.TRANSACTION_COLUMNS)).where(
        transactions.c.org_id == bindparam("org_id"), among(transactions.c.transaction_id, "ids")
    ),
    "org_id",
    "ids",
)

_POSTINGS_OF_WALLET = compiled(
    select(*columns(postings, rows.POSTING_COLUMNS))
    .where(_OF_WALLET, among(postings.c.transaction_id, "ids"))
    .order_by(postings.c.transaction_id, postings.c.seq),
    *_WALLET_KEY,
    "ids",
)
