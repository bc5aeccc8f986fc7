"""Recomputes every balance of a database from its journal and its lots, and says what does not agree.

Independent on purpose: plain SQL and a little arithmetic, nothing of the code that writes, and of the domain only the
encoding of the chain, which docs/journal.md specifies for anybody and a test spells out once more.
It runs on a live database, in one read snapshot, and reads rows as they come. Every invariant has a name that stays; to
add one, add a row to `INVARIANTS` and a corruption that it finds to tests/storage/test_verify.py.

A statement yields one row per subject: the columns that name it, what is expected, and what is there; the database
counts the rows and those that differ. Both sides are brought together by UNION ALL and GROUP BY, so that what one side
lacks counts as zero there. Invariants of the same subjects share a statement, so that millions of postings are sorted
once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from string import Formatter
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, TextClause, bindparam, case, column, func, select, text, true

from points_grpc.domain.chain import ABSENT_TIME, NO_NOTES, START, LotNumbers, encode, next_hash, notes_hash
from points_grpc.domain.policy import VELOCITY_DAYS_KEPT
from points_grpc.storage.engine import Database
from points_grpc.storage.faults import DRIVER_ERRORS, translate

_ROWS_AT_ONCE = 2_000
_MICROS_OF_A_MINUTE = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

WalletKey = tuple[int, int]
"""Customer and program."""

Totals = Mapping[tuple[Any, ...], tuple[Any, ...]]
"""The entries of a wallet's list: what each is about, and its numbers."""

Compared = tuple[WalletKey, Totals, Totals]
"""A wallet, what is expected of its list, and what is there."""

_UNREADABLE: Totals = {("?", "?", "?"): ("not a list of pairs",)}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first subject of an invariant in an organisation that is not as it must be."""

    invariant: str
    org_id: int
    subject: str
    expected: str
    actual: str


@dataclass(slots=True)
class Report:
    """How many subjects of each invariant were checked, and what was found."""

    checked: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether everything agrees."""
        return not self.differences


Found = tuple[str, int, Difference | None]
"""The name of an invariant, how many subjects an organisation has, and the first that differs."""


class Together:
    """What must hold of the same subjects, and the one statement that goes through all of them.

    Each invariant has a name that stays and says how a subject is called, by columns of the statement. What is expected
    and what is there are columns, too, in pairs: `expected` and `actual`, with the name in front where there are
    several. The statement yields the columns that name subjects first, then the pairs, each in the order given here.
    """

    def __init__(self, subjects: Mapping[str, str], statement: str) -> None:
        self.names = tuple(subjects)
        self._subjects = subjects
        prefixes = {name: f"{name}_" if len(subjects) > 1 else "" for name in subjects}
        named = dict.fromkeys(
            one for subject in subjects.values() for _, one, _, _ in Formatter().parse(subject) if one
        )
        pairs = [f"{prefix}{side}" for prefix in prefixes.values() for side in ("expected", "actual")]
        checked = (
            text(statement)
            .bindparams(bindparam("org_id"))
            .columns(*(column(one) for one in (*named, *pairs)))
            .subquery("checked")
        )
        columns = checked.c
        sides = {name: (columns[f"{prefix}expected"], columns[f"{prefix}actual"]) for name, prefix in prefixes.items()}
        differs = {name: (expected == actual).is_not(true()) for name, (expected, actual) in sides.items()}
        self._counts = select(
            func.count(), *(func.count(case((one, 1))).label(name) for name, one in differs.items())
        ).select_from(checked)
        self._firsts = {
            name: select(
                *(columns[one] for one in named),
                *(side.label(f"side_{place}") for place, side in enumerate(sides[name])),
            )
            .where(one)
            .limit(1)
            for name, one in differs.items()
        }

    def check(self, connection: Connection, org_id: int) -> Sequence[Found]:
        """Looks at all subjects of an organisation."""
        bound = {"org_id": org_id}
        count, *differing = connection.execute(self._counts, bound).one()
        return [
            (name, count, self._first(connection, name, org_id) if differs else None)
            for name, differs in zip(self.names, differing, strict=True)
        ]

    def _first(self, connection: Connection, name: str, org_id: int) -> Difference:
        first = connection.execute(self._firsts[name], {"org_id": org_id}).mappings().one()
        named = self._subjects[name].format(**first)
        return Difference(name, org_id, named, str(first["side_0"]), str(first["side_1"]))


class Invariant(Together):
    """What must hold, alone in its statement."""

    def __init__(self, name: str, subject: str, statement: str) -> None:
        super().__init__({name: subject}, statement)


class InWallets:
    """What the lists in the rows of wallets must agree with: as `Invariant`, wallet by wallet.

    `subject` names what is compared; the wallet is named before it, and the key of the entry behind it.
    """

    def __init__(self, name: str, subject: str, compared: Callable[[Connection, int], Iterator[Compared]]) -> None:
        self.names = (name,)
        self.subject = subject
        self._compared = compared

    def check(self, connection: Connection, org_id: int) -> Sequence[Found]:
        """As `Together.check`."""
        count = 0
        found: Difference | None = None
        for (customer_id, program_id), expected, actual in self._compared(connection, org_id):
            keys = expected.keys() | actual.keys()
            count += len(keys)
            if found is not None or expected == actual:
                continue
            key = min((one for one in keys if expected.get(one) != actual.get(one)), key=str)
            named = f"wallet {customer_id}/{program_id}, {self.subject} {', '.join(str(part) for part in key)}"
            found = Difference(self.names[0], org_id, named, _told(expected.get(key)), _told(actual.get(key)))
        return [(self.names[0], count, found)]


class Chained:
    """The chains of an organisation's journal streams: each transaction recomputed on the hash before it, as stored.

    So what is changed in one transaction is found there, and not in all that follow.
    """

    names = ("journal_chain", "journal_heads", "notes_hashes")

    def check(self, connection: Connection, org_id: int) -> Sequence[Found]:
        """As `Together.check`."""
        counts = dict.fromkeys(self.names, 0)
        firsts: dict[str, Difference] = {}

        def compare(name: str, subject: str, expected: bytes | None, actual: object) -> None:
            counts[name] += 1
            if expected != actual and name not in firsts:
                firsts[name] = Difference(name, org_id, subject, _hex(expected), _hex(actual))

        ends: dict[int, bytes] = {}
        for group in _transactions(connection, org_id):
            one = group[0]
            named = f"stream {one.stream}, position {one.position}, transaction {one.transaction_id}"
            expected = next_hash(ends.get(one.stream, START), _encoded(org_id, group))
            compare("journal_chain", f"{named}: hash", expected, one.hash)
            ends[one.stream] = one.hash if isinstance(one.hash, bytes) else b""
            if one.notes_salt is not None or one.notes:
                compare("notes_hashes", f"{named}: hash of its notes", _hash_of_notes(one), one.notes_hash)
        heads = dict(map(tuple, _rows(connection, _HEADS, org_id)))
        for stream in sorted(heads.keys() | ends.keys()):
            compare("journal_heads", f"stream {stream}: head", ends.get(stream, START), heads.get(stream))
        return [(name, counts[name], firsts.get(name)) for name in self.names]


def _transactions(connection: Connection, org_id: int) -> Iterator[list[Any]]:
    """The transactions in the order of their streams, each as its rows: one per posting, with the lot it opened."""
    for _, group in groupby(_rows(connection, _CHAINED, org_id), lambda row: row.transaction_id):
        yield list(group)


def _encoded(org_id: int, group: Sequence[Any]) -> bytes:
    """The bytes of a transaction, from its rows."""
    one = group[0]
    numbers = (org_id, *(number or 0 for number in one[:10]))
    postings = [number or 0 for row in group if row.account is not None for number in row[_POSTED]]
    lots = {row.opened_lot: _opened(row) for row in group if row.opened_lot is not None}
    texts = (one.request_id, one.actor, one.transaction_number)
    hashed = NO_NOTES if one.notes_hash is None else bytes(one.notes_hash)
    return encode(numbers, hashed, texts, postings, list(lots.values()))


def _opened(row: Any) -> LotNumbers:
    """What the chain has of the lot that a posting opened."""
    ids, (available_from, expires_at, parent, root, category) = row[_OPENED][:7], row[_OPENED][7:]
    return (*ids, ABSENT_TIME if available_from is None else available_from, expires_at, parent or 0, root, category)


def _hash_of_notes(one: Any) -> bytes | None:
    """What the notes come to; None if they cannot be hashed, for want of a salt."""
    return None if one.notes_salt is None else notes_hash(bytes(one.notes_salt), one.notes)


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else "none" if value is None else repr(value)


def _told(totals: Sequence[int] | None) -> str:
    return "none" if totals is None else ", ".join(str(one) for one in totals)


def verify(
    database: Database,
    org_ids: Iterable[int] | None = None,
    *,
    tell: Callable[[str, int, int], None] = lambda _what, _number, _total: None,
) -> Report:
    """Checks every invariant of the organisations named, or of all.

    `tell` is told before each look what is looked at, and of how many looks it is which.
    """
    report = Report({name: 0 for one in INVARIANTS for name in one.names})
    with _snapshot(database) as connection:
        chosen = connection.execute(_ORGS).scalars().all() if org_ids is None else list(org_ids)
        looks = [(org_id, one) for org_id in chosen for one in INVARIANTS]
        for number, (org_id, one) in enumerate(looks, start=1):
            tell(f"organisation {org_id}, {one.names[0]}", number, len(looks))
            for name, count, difference in one.check(connection, org_id):
                report.checked[name] += count
                if difference is not None:
                    report.differences.append(difference)
    return report


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    try:
        with database.reader.connect() as connection, connection.begin(), database.backend.long_reads(connection):
            yield connection
    except DRIVER_ERRORS as error:
        raise translate(error) from error


def _rows(connection: Connection, statement: TextClause, org_id: int) -> Iterator[Any]:
    yield from connection.execute(statement, {"org_id": org_id}).yield_per(_ROWS_AT_ONCE)


# -- what needs more than a statement ----------------------------------------------------------------------------------


def _buckets(connection: Connection, org_id: int) -> Iterator[Compared]:
    """What remains of lots, by origin, against the totals of their wallets."""
    lots = groupby(_rows(connection, _LOTS_BY_ORIGIN, org_id), _wallet_of)
    remaining = ((wallet, {tuple(row[2:5]): tuple(row[5:8]) for row in group}) for wallet, group in lots)
    yield from _joined(remaining, _lists(connection, _BUCKETS, org_id))


def _days(connection: Connection, org_id: int) -> Iterator[Compared]:
    """Transfers by direction and day of the program's time zone, against the counts of velocity limits.

    What somebody transferred who was merged away counts for whoever lives on, too.
    Days that no limit looks at any more may be missing; those that are there must be right.
    """
    zones = {program_id: ZoneInfo(zone) for program_id, zone in _rows(connection, _TIME_ZONES, org_id)}
    made = groupby(_rows(connection, _TRANSFERS, org_id), _wallet_of)
    counted = ((wallet, _counted(transfers, zones.get(wallet[1]))) for wallet, transfers in made)
    for wallet, expected, actual in _joined(counted, _lists(connection, _WALLET_DAYS, org_id)):
        kept_from = max((_of(day) for _, day in expected), default=date.min + VELOCITY_DAYS_KEPT) - VELOCITY_DAYS_KEPT
        wanted = {key: totals for key, totals in expected.items() if key in actual or _of(key[1]) >= kept_from}
        yield wallet, wanted, actual


def _counted(transfers: Iterable[Sequence[int]], zone: ZoneInfo | None) -> Totals:
    """Points and transfers by direction and day."""
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for _, _, direction, created_at, points in transfers:
        key = (direction, _day(created_at // _MICROS_OF_A_MINUTE, zone))
        so_far = found.get(key, (0, 0))
        found[key] = (so_far[0] + points, so_far[1] + 1)
    return found


def _lists(connection: Connection, statement: TextClause, org_id: int) -> Iterator[tuple[WalletKey, Totals]]:
    """The lists of wallets, each a list of pairs of lists. What is no such list agrees with nothing."""
    for customer_id, program_id, listed in _rows(connection, statement, org_id):
        entries: Totals = {}
        try:
            found = json.loads(listed)
            entries = {tuple(key): tuple(totals) for key, totals in found}
            readable = isinstance(found, list) and len(entries) == len(found)
        except (ValueError, TypeError):
            readable = False
        yield (customer_id, program_id), entries if readable else _UNREADABLE


def _wallet_of(row: Sequence[int]) -> WalletKey:
    return row[0], row[1]


def _joined(
    expected: Iterator[tuple[WalletKey, Totals]], actual: Iterator[tuple[WalletKey, Totals]]
) -> Iterator[Compared]:
    """Both sides wallet by wallet; both come in the order of their wallets."""
    wanted, there = next(expected, None), next(actual, None)
    while wanted is not None or there is not None:
        if there is None or (wanted is not None and wanted[0] < there[0]):
            assert wanted is not None, "one of the two"
            yield wanted[0], wanted[1], {}
            wanted = next(expected, None)
        elif wanted is None or there[0] < wanted[0]:
            yield there[0], {}, there[1]
            there = next(actual, None)
        else:
            yield wanted[0], wanted[1], there[1]
            wanted, there = next(expected, None), next(actual, None)


def _of(day: str) -> date:
    return date.fromisoformat(day)


@lru_cache(maxsize=1 << 16)
def _day(minute: int, zone: ZoneInfo | None) -> str:
    """The day of a minute since 1970. No zone is off by parts of a minute any more: no day begins within one."""
    return (_EPOCH + timedelta(minutes=minute)).astimezone(zone or UTC).date().isoformat()


# -- the statements --------------------------------------------------------------------------------------------------


_ORGS = text("SELECT org_id FROM orgs ORDER BY org_id")
_TIME_ZONES = text("SELECT program_id, time_zone FROM programs WHERE org_id = :org_id")
_TRANSFERS = text("""
    WITH RECURSIVE counts_for (customer_id, survivor_id) AS (
        SELECT customer_id, merged_into FROM customers WHERE org_id = :org_id AND merged_into IS NOT NULL
        UNION
        SELECT counts_for.customer_id, customers.merged_into FROM counts_for
        JOIN customers ON customers.org_id = :org_id AND customers.customer_id = counts_for.survivor_id
        WHERE customers.merged_into IS NOT NULL
    ),
    transfers (customer_id, program_id, direction, created_at, points) AS (
        SELECT customer_id, program_id, 1, created_at, points FROM transactions
        WHERE org_id = :org_id AND kind = 2
        UNION ALL
        SELECT counterparty_id, program_id, 2, created_at, points FROM transactions
        WHERE org_id = :org_id AND kind = 2
    )
    SELECT customer_id, program_id, direction, created_at, points FROM transfers
    UNION ALL
    SELECT counts_for.survivor_id, transfers.program_id, transfers.direction, transfers.created_at, transfers.points
    FROM counts_for JOIN transfers ON transfers.customer_id = counts_for.customer_id
    ORDER BY 1, 2
""")
_WALLET_DAYS = text("""
    SELECT customer_id, program_id, days FROM wallets WHERE org_id = :org_id ORDER BY customer_id, program_id
""")
_BUCKETS = text("""
    SELECT customer_id, program_id, buckets FROM wallets WHERE org_id = :org_id ORDER BY customer_id, program_id
""")
_LOTS_BY_ORIGIN = text("""
    SELECT customer_id, program_id, earning_program_id, source, category,
        CAST(SUM(remaining) AS BIGINT), CAST(SUM(CASE WHEN promised = 1 THEN remaining ELSE 0 END) AS BIGINT),
        CAST(SUM(held) AS BIGINT)
    FROM lots WHERE org_id = :org_id AND remaining > 0
    GROUP BY customer_id, program_id, earning_program_id, source, category
    ORDER BY customer_id, program_id
""")

_HEADS = text("SELECT stream, hash FROM journal_streams WHERE org_id = :org_id")
_CHAINED = text("""
    SELECT transactions.stream, transactions.position, transactions.transaction_id, transactions.kind,
        transactions.created_at, transactions.customer_id, transactions.counterparty_id, transactions.program_id,
        transactions.points, transactions.policy_revision,
        transactions.request_id, transactions.actor, transactions.transaction_number,
        transactions.notes, transactions.notes_hash, transactions.notes_salt, transactions.hash,
        postings.account, postings.customer_id AS posted_to, postings.program_id AS posted_in, postings.lot_id,
        postings.points AS posted, postings.wallet_version, postings.balance_after, postings.held,
        lots.lot_id AS opened_lot, lots.customer_id AS owner, lots.program_id AS owned_in, lots.earning_program_id,
        lots.source, lots.points AS opened_with, lots.awarded_at, lots.available_from, lots.expires_at,
        lots.parent_lot_id, lots.root_lot_id, lots.category
    FROM transactions
    LEFT JOIN postings ON postings.org_id = transactions.org_id
        AND postings.transaction_id = transactions.transaction_id
    LEFT JOIN lots ON lots.org_id = postings.org_id AND lots.lot_id = postings.lot_id
        AND lots.transaction_id = postings.transaction_id
    WHERE transactions.org_id = :org_id
    ORDER BY transactions.stream, transactions.position, transactions.transaction_id, postings.seq
""")
"""A lot is opened by a posting of its transaction (`lot_opening`); another may book that it had expired by then."""
_POSTED, _OPENED = slice(17, 25), slice(25, 37)

INVARIANTS: Sequence[Together | InWallets | Chained] = (
    Invariant(
        "transaction_sums",
        "transaction {transaction_id}, program {program_id}: sum of its postings",
        """
            SELECT transaction_id, program_id, 0 AS expected, SUM(points) AS actual FROM postings
            WHERE org_id = :org_id GROUP BY transaction_id, program_id
        """,
    ),
    Invariant(
        "transaction_postings",
        "transaction {transaction_id}: recorded, has postings",
        """
            SELECT transaction_id, MAX(recorded) AS expected, MAX(posted) AS actual FROM (
                SELECT transaction_id, 1 AS recorded, 0 AS posted FROM transactions WHERE org_id = :org_id
                UNION ALL
                SELECT transaction_id, 0, 1 FROM postings WHERE org_id = :org_id GROUP BY transaction_id
            ) AS sides GROUP BY transaction_id
        """,
    ),
    Together(
        {
            "wallet_postings": "wallet {customer_id}/{program_id}: current against its postings",
            "wallet_last_version": "wallet {customer_id}/{program_id}: version against its last posting",
        },
        """
            SELECT customer_id, program_id, SUM(posted) AS wallet_postings_expected,
                SUM(current) AS wallet_postings_actual, MAX(posted_version) AS wallet_last_version_expected,
                SUM(version) AS wallet_last_version_actual
            FROM (
                SELECT customer_id, program_id, 0 AS posted, 0 AS posted_version, current, version
                FROM wallets WHERE org_id = :org_id
                UNION ALL
                SELECT customer_id, program_id, points, wallet_version, 0, 0
                FROM postings WHERE org_id = :org_id AND account = 1
            ) AS sides GROUP BY customer_id, program_id
        """,
    ),
    Invariant(
        "wallet_lots",
        "wallet {customer_id}/{program_id}: current, promised and held against its lots",
        """
            SELECT customer_id, program_id,
                SUM(remaining) || ', ' || SUM(lots_promised) || ', ' || SUM(lots_held) AS expected,
                SUM(current) || ', ' || SUM(promised) || ', ' || SUM(held) AS actual
            FROM (
                SELECT customer_id, program_id, current, promised, held,
                    0 AS remaining, 0 AS lots_promised, 0 AS lots_held
                FROM wallets WHERE org_id = :org_id
                UNION ALL
                SELECT customer_id, program_id, 0, 0, 0,
                    remaining, CASE WHEN promised = 1 THEN remaining ELSE 0 END, held
                FROM lots WHERE org_id = :org_id
            ) AS sides GROUP BY customer_id, program_id
        """,
    ),
    Together(
        {
            "wallet_versions": "wallet {customer_id}/{program_id}, transaction {transaction_id}: version",
            "wallet_chain": "wallet {customer_id}/{program_id}, transaction {transaction_id}: balance after",
        },
        """
            SELECT customer_id, program_id, transaction_id,
                CASE WHEN transaction_id = last_transaction THEN last_version ELSE last_version + 1 END
                    AS wallet_versions_expected,
                wallet_version AS wallet_versions_actual,
                last_balance + points AS wallet_chain_expected, balance_after AS wallet_chain_actual
            FROM (
                SELECT customer_id, program_id, transaction_id, wallet_version, points, balance_after,
                    LAG(wallet_version, 1, 0) OVER versions AS last_version,
                    LAG(transaction_id, 1, 0) OVER versions AS last_transaction,
                    LAG(balance_after, 1, 0) OVER versions AS last_balance
                FROM postings WHERE org_id = :org_id AND account = 1
                WINDOW versions AS (
                    PARTITION BY customer_id, program_id ORDER BY wallet_version, transaction_id, seq
                )
            ) AS chain
        """,
    ),
    Invariant(
        "wallet_owners",
        "wallet {customer_id}/{program_id}, which lots or postings name: present",
        """
            SELECT customer_id, program_id, 1 AS expected, MAX(present) AS actual FROM (
                SELECT customer_id, program_id, 1 AS present FROM wallets WHERE org_id = :org_id
                UNION SELECT customer_id, program_id, 0 FROM lots WHERE org_id = :org_id
                UNION SELECT customer_id, program_id, 0 FROM postings WHERE org_id = :org_id AND account = 1
            ) AS sides GROUP BY customer_id, program_id
        """,
    ),
    Invariant(
        "wallet_due",
        "wallet {customer_id}/{program_id}: due no later than its first lot",
        """
            SELECT customer_id, program_id, first_due AS expected,
                CASE WHEN due_at IS NOT NULL AND due_at <= first_due THEN first_due
                ELSE COALESCE(due_at, -1) END AS actual
            FROM (
                SELECT customer_id, program_id, due_at, (
                    SELECT MIN(CASE WHEN promised = 1 AND available_from < expires_at THEN available_from
                               ELSE expires_at END)
                    FROM lots
                    WHERE lots.org_id = :org_id AND lots.customer_id = wallets.customer_id
                        AND lots.program_id = wallets.program_id AND lots.live = 1
                ) AS first_due
                FROM wallets WHERE org_id = :org_id
            ) AS dues WHERE first_due < 9223372036854775807
        """,
    ),
    InWallets(
        "bucket_lots", "points, promised and held against its lots, of earning program, source and category", _buckets
    ),
    Together(
        {
            "lot_postings": "lot {lot_id}: remaining against its postings",
            "lot_held": "lot {lot_id}: held against its postings",
            "lot_holds": "lot {lot_id}: held against its open holds",
        },
        """
            SELECT lot_id, SUM(posted) AS lot_postings_expected, SUM(remaining) AS lot_postings_actual,
                SUM(posted_held) AS lot_held_expected, SUM(held) AS lot_held_actual,
                SUM(kept) AS lot_holds_expected, SUM(held) AS lot_holds_actual
            FROM (
                SELECT lot_id, 0 AS posted, 0 AS posted_held, 0 AS kept, remaining, held
                FROM lots WHERE org_id = :org_id
                UNION ALL
                SELECT lot_id, points, held, 0, 0, 0 FROM postings WHERE org_id = :org_id AND account = 1
                UNION ALL
                SELECT hold_lots.lot_id, 0, 0, hold_lots.points, 0, 0
                FROM hold_lots JOIN holds ON holds.org_id = hold_lots.org_id AND holds.hold_id = hold_lots.hold_id
                WHERE hold_lots.org_id = :org_id AND holds.state = 'OPEN'
            ) AS sides GROUP BY lot_id
        """,
    ),
    Invariant(
        "lot_opening",
        "lot {lot_id}: points against the transaction that opened it",
        """
            SELECT lot_id, MAX(opened) AS expected, SUM(posted) AS actual FROM (
                SELECT lot_id, transaction_id, customer_id, program_id, points AS opened, 0 AS posted
                FROM lots WHERE org_id = :org_id
                UNION ALL
                SELECT lot_id, transaction_id, customer_id, program_id, NULL, points FROM postings
                WHERE org_id = :org_id AND account = 1 AND points > 0
            ) AS sides GROUP BY lot_id, transaction_id, customer_id, program_id HAVING MAX(opened) IS NOT NULL
        """,
    ),
    Invariant(
        "lot_bounds",
        "lot {lot_id}: remaining {remaining} of {points}, held {held}, live {live}",
        """
            SELECT lot_id, remaining, points, held, live, 'within bounds' AS expected,
                CASE WHEN remaining < 0 OR remaining > points OR held < 0 OR held > remaining
                    OR live <> CASE WHEN remaining > 0 THEN 1 ELSE 0 END
                THEN 'out of bounds' ELSE 'within bounds' END AS actual
            FROM lots WHERE org_id = :org_id
        """,
    ),
    Invariant(
        "lot_roots",
        "lot {lot_id}, which has no parent: its root",
        """
            SELECT lot_id, lot_id AS expected, root_lot_id AS actual FROM lots
            WHERE org_id = :org_id AND parent_lot_id IS NULL
        """,
    ),
    Invariant(
        "lot_inheritance",
        "lot {lot_id}: root, earning program, source, category, award and expiry against its parent {parent_lot_id}",
        # Adding nothing keeps SQLite from going through the lots by an index on parents: they are read as they lie.
        """
            SELECT lot_id, parent_lot_id,
                CASE WHEN inherits = 1 THEN 'inherited' ELSE COALESCE(parent_root || ', ' || parent_earned || ', '
                    || parent_source || ', ' || parent_category || ', ' || parent_awarded || ', ' || parent_expires,
                    'no such lot') END AS expected,
                CASE WHEN inherits = 1 THEN 'inherited' ELSE root_lot_id || ', ' || earning_program_id || ', '
                    || source || ', ' || category || ', ' || awarded_at || ', ' || expires_at END AS actual
            FROM (
                SELECT child.lot_id, child.parent_lot_id, child.root_lot_id, child.earning_program_id, child.source,
                    child.category, child.awarded_at, child.expires_at, parent.root_lot_id AS parent_root,
                    parent.earning_program_id AS parent_earned, parent.source AS parent_source,
                    parent.category AS parent_category, parent.awarded_at AS parent_awarded,
                    parent.expires_at AS parent_expires,
                    CASE WHEN parent.root_lot_id = child.root_lot_id
                        AND parent.earning_program_id = child.earning_program_id AND parent.source = child.source
                        AND parent.category = child.category AND parent.awarded_at = child.awarded_at
                        AND parent.expires_at = child.expires_at THEN 1 ELSE 0 END AS inherits
                FROM lots AS child
                LEFT JOIN lots AS parent ON parent.org_id = child.org_id AND parent.lot_id = child.parent_lot_id
                WHERE child.org_id = :org_id AND child.parent_lot_id + 0 IS NOT NULL
            ) AS pairs
        """,
    ),
    Invariant(
        "lot_parents",
        "transaction {transaction_id}, lot {lot_id}: what was drawn from it against the lots opened with it",
        """
            SELECT transaction_id, lot_id, SUM(posted) AS expected, SUM(opened) AS actual FROM (
                SELECT transactions.transaction_id, postings.lot_id, -postings.points AS posted, 0 AS opened
                FROM transactions JOIN postings ON postings.org_id = transactions.org_id
                    AND postings.transaction_id = transactions.transaction_id
                WHERE transactions.org_id = :org_id AND transactions.kind IN (2, 6, 8)
                    AND postings.account = 1 AND postings.points < 0
                UNION ALL
                SELECT lots.transaction_id, lots.parent_lot_id, 0, lots.points
                FROM lots JOIN transactions ON transactions.org_id = lots.org_id
                    AND transactions.transaction_id = lots.transaction_id
                WHERE lots.org_id = :org_id AND transactions.kind IN (2, 6, 8)
            ) AS sides GROUP BY transaction_id, lot_id
        """,
    ),
    Invariant(
        "lot_promises",
        "lot {lot_id}, moved by a merge: its promise against its parent {parent_lot_id}",
        """
            WITH child AS MATERIALIZED (
                SELECT lot_id, parent_lot_id, transaction_id, available_from FROM lots
                WHERE org_id = :org_id AND parent_lot_id + 0 IS NOT NULL
                    AND transaction_id IN (SELECT transaction_id FROM transactions WHERE org_id = :org_id AND kind = 6)
            )
            SELECT child.lot_id, child.parent_lot_id,
                COALESCE(parent.available_from, 0) AS expected, COALESCE(child.available_from, 0) AS actual
            FROM child
            JOIN transactions ON transactions.org_id = :org_id
                AND transactions.transaction_id = child.transaction_id
            JOIN lots AS parent ON parent.org_id = :org_id AND parent.lot_id = child.parent_lot_id
            WHERE child.available_from IS NOT NULL OR parent.available_from > transactions.created_at
        """,
    ),
    Invariant(
        "merged_away",
        "customer {customer_id}, merged into {merged_into}: points left",
        """
            SELECT customers.customer_id, customers.merged_into,
                0 AS expected, COALESCE(SUM(wallets.current), 0) AS actual
            FROM customers LEFT JOIN wallets ON wallets.org_id = customers.org_id
                AND wallets.customer_id = customers.customer_id
            WHERE customers.org_id = :org_id AND customers.merged_into IS NOT NULL
            GROUP BY customers.customer_id, customers.merged_into
        """,
    ),
    Invariant(
        "merge_survivors",
        "customer {customer_id}, merged into {merged_into}: the survivor, and the end of the line",
        """
            WITH RECURSIVE line (customer_id, merged_into, reached, steps) AS (
                SELECT customer_id, merged_into, merged_into, 1 FROM customers
                WHERE org_id = :org_id AND merged_into IS NOT NULL
                UNION ALL
                SELECT line.customer_id, line.merged_into, customers.merged_into, line.steps + 1
                FROM line JOIN customers ON customers.org_id = :org_id AND customers.customer_id = line.reached
                WHERE customers.merged_into IS NOT NULL AND line.steps < 1000
            )
            SELECT line.customer_id, line.merged_into, 'lives on' AS expected,
                COALESCE(MAX(CASE WHEN customers.merged_into IS NULL AND customers.customer_id IS NOT NULL
                             THEN 'lives on' END), 'nobody') AS actual
            FROM line LEFT JOIN customers ON customers.org_id = :org_id AND customers.customer_id = line.reached
            GROUP BY line.customer_id, line.merged_into
        """,
    ),
    Invariant(
        "adjustments",
        "transaction {transaction_id}: adjusted points against its kind",
        """
            SELECT transaction_id, SUM(adjusted) AS expected, SUM(posted) AS actual FROM (
                SELECT transaction_id, points AS adjusted, 0 AS posted FROM transactions
                WHERE org_id = :org_id AND kind = 7
                UNION ALL
                SELECT transaction_id, 0, points FROM postings WHERE org_id = :org_id AND account = 5
            ) AS sides GROUP BY transaction_id
        """,
    ),
    Invariant(
        "stream_positions",
        "stream {stream}, transaction {transaction_id}: position",
        """
            SELECT stream, transaction_id,
                ROW_NUMBER() OVER (PARTITION BY stream ORDER BY position) AS expected, position AS actual
            FROM transactions WHERE org_id = :org_id
        """,
    ),
    Invariant(
        "stream_ends",
        "stream {stream}: position against its transactions",
        """
            SELECT stream, SUM(written) AS expected, SUM(stored) AS actual FROM (
                SELECT stream, 0 AS written, position AS stored FROM journal_streams WHERE org_id = :org_id
                UNION ALL
                SELECT stream, COUNT(*), 0 FROM transactions WHERE org_id = :org_id GROUP BY stream
            ) AS sides GROUP BY stream
        """,
    ),
    Chained(),
    Invariant(
        "redemption_lots",
        "redemption {redemption_id}: points and reversed against its lots",
        """
            SELECT redemption_id, SUM(lot_points) || ', ' || SUM(lot_reversed) AS expected,
                SUM(points) || ', ' || SUM(reversed) AS actual
            FROM (
                SELECT redemption_id, points, reversed, 0 AS lot_points, 0 AS lot_reversed
                FROM redemptions WHERE org_id = :org_id
                UNION ALL
                SELECT redemption_id, 0, 0, points, reversed FROM redemption_lots WHERE org_id = :org_id
            ) AS sides GROUP BY redemption_id
        """,
    ),
    Invariant(
        "redemption_bounds",
        "redemption {redemption_id}, {part}: reversed {reversed} of {points}",
        """
            SELECT redemption_id, part, reversed, points, 'within bounds' AS expected,
                CASE WHEN reversed < 0 OR reversed > points THEN 'out of bounds' ELSE 'within bounds' END AS actual
            FROM (
                SELECT redemption_id, 'whole' AS part, reversed, points FROM redemptions WHERE org_id = :org_id
                UNION ALL
                SELECT redemption_id, 'lot ' || lot_id, reversed, points FROM redemption_lots WHERE org_id = :org_id
            ) AS parts
        """,
    ),
    Invariant(
        "redemption_postings",
        "redemption by transaction {transaction_id}, lot {lot_id}: points against the journal",
        """
            SELECT transaction_id, lot_id, SUM(posted) AS expected, SUM(stored) AS actual FROM (
                SELECT redemptions.transaction_id, redemption_lots.lot_id, 0 AS posted, redemption_lots.points AS stored
                FROM redemption_lots JOIN redemptions ON redemptions.org_id = redemption_lots.org_id
                    AND redemptions.redemption_id = redemption_lots.redemption_id
                WHERE redemption_lots.org_id = :org_id
                UNION ALL
                SELECT transaction_id, lot_id, -points, 0 FROM postings
                WHERE org_id = :org_id AND account = 1
                    AND transaction_id IN (SELECT transaction_id FROM transactions WHERE org_id = :org_id AND kind = 3)
            ) AS sides GROUP BY transaction_id, lot_id
        """,
    ),
    Invariant(
        "redemption_owners",
        "redemption {redemption_id}, {part}: customer, program and bill against the journal",
        """
            SELECT redemption_id, part, expected, actual FROM (
                SELECT redemptions.redemption_id, 'whole' AS part,
                    COALESCE(transactions.customer_id || ', ' || transactions.program_id || ', '
                        || COALESCE(transactions.transaction_number, ''), 'no such transaction') AS expected,
                    redemptions.customer_id || ', ' || redemptions.program_id || ', '
                        || COALESCE(redemptions.transaction_number, '') AS actual
                FROM redemptions LEFT JOIN transactions ON transactions.org_id = redemptions.org_id
                    AND transactions.transaction_id = redemptions.transaction_id AND transactions.kind = 3
                WHERE redemptions.org_id = :org_id
                UNION ALL
                SELECT redemption_lots.redemption_id, 'lot ' || redemption_lots.lot_id,
                    COALESCE(lots.customer_id || ', ' || lots.program_id, 'no such lot'),
                    redemption_lots.customer_id || ', ' || redemption_lots.program_id
                FROM redemption_lots LEFT JOIN lots ON lots.org_id = redemption_lots.org_id
                    AND lots.lot_id = redemption_lots.lot_id
                WHERE redemption_lots.org_id = :org_id
            ) AS parts
        """,
    ),
    Invariant(
        "hold_lots",
        "hold {hold_id}: points against its lots",
        """
            SELECT hold_id, SUM(lot_points) AS expected, SUM(points) AS actual FROM (
                SELECT hold_id, points, 0 AS lot_points FROM holds WHERE org_id = :org_id
                UNION ALL
                SELECT hold_id, 0, points FROM hold_lots WHERE org_id = :org_id
            ) AS sides GROUP BY hold_id
        """,
    ),
    Invariant(
        "hold_postings",
        "transaction {transaction_id}, lot {lot_id}: what it held and released against the holds it opened and closed",
        """
            SELECT transaction_id, lot_id, SUM(posted) AS expected, SUM(stored) AS actual FROM (
                SELECT transaction_id, lot_id, held AS posted, 0 AS stored FROM postings
                WHERE org_id = :org_id AND held <> 0
                UNION ALL
                SELECT holds.transaction_id, hold_lots.lot_id, 0, hold_lots.points
                FROM hold_lots JOIN holds ON holds.org_id = hold_lots.org_id AND holds.hold_id = hold_lots.hold_id
                WHERE hold_lots.org_id = :org_id
                UNION ALL
                SELECT holds.closing_transaction_id, hold_lots.lot_id, 0, -hold_lots.points
                FROM hold_lots JOIN holds ON holds.org_id = hold_lots.org_id AND holds.hold_id = hold_lots.hold_id
                WHERE hold_lots.org_id = :org_id AND holds.state <> 'OPEN'
            ) AS sides GROUP BY transaction_id, lot_id
        """,
    ),
    Invariant(
        "hold_owners",
        "hold {hold_id}, {part}: customer, program and bill against the journal",
        """
            SELECT hold_id, part, expected, actual FROM (
                SELECT holds.hold_id, 'whole' AS part,
                    COALESCE(transactions.customer_id || ', ' || transactions.program_id || ', '
                        || COALESCE(transactions.transaction_number, ''), 'no such transaction') AS expected,
                    holds.customer_id || ', ' || holds.program_id || ', '
                        || COALESCE(holds.transaction_number, '') AS actual
                FROM holds LEFT JOIN transactions ON transactions.org_id = holds.org_id
                    AND transactions.transaction_id = holds.transaction_id AND transactions.kind = 10
                WHERE holds.org_id = :org_id
                UNION ALL
                SELECT hold_lots.hold_id, 'lot ' || hold_lots.lot_id,
                    COALESCE(lots.customer_id || ', ' || lots.program_id, 'no such lot'),
                    hold_lots.customer_id || ', ' || hold_lots.program_id
                FROM hold_lots LEFT JOIN lots ON lots.org_id = hold_lots.org_id
                    AND lots.lot_id = hold_lots.lot_id
                WHERE hold_lots.org_id = :org_id
            ) AS parts
        """,
    ),
    Invariant(
        "hold_captures",
        "hold {hold_id}, {state}: captured against the redemption of its closing transaction",
        """
            SELECT holds.hold_id, holds.state, COALESCE(redemptions.points, 0) AS expected, holds.captured AS actual
            FROM holds LEFT JOIN redemptions ON redemptions.org_id = holds.org_id
                AND redemptions.transaction_id = holds.closing_transaction_id
                AND redemptions.customer_id = holds.customer_id
            WHERE holds.org_id = :org_id
        """,
    ),
    Invariant(
        "hold_deadlines",
        "hold {hold_id}, open: its deadline no later than the first expiry of its lots, and its wallets due by then",
        """
            SELECT holds.hold_id, 'in time' AS expected,
                CASE WHEN holds.expires_at > MIN(lots.expires_at) THEN 'outlives a lot'
                WHEN COUNT(wallets.due_at) < COUNT(*) OR holds.expires_at < MAX(wallets.due_at) THEN 'not due in time'
                ELSE 'in time' END AS actual
            FROM holds JOIN hold_lots ON hold_lots.org_id = holds.org_id AND hold_lots.hold_id = holds.hold_id
            JOIN lots ON lots.org_id = hold_lots.org_id AND lots.lot_id = hold_lots.lot_id
            LEFT JOIN wallets ON wallets.org_id = hold_lots.org_id AND wallets.customer_id = hold_lots.customer_id
                AND wallets.program_id = hold_lots.program_id
            WHERE holds.org_id = :org_id AND holds.state = 'OPEN'
            GROUP BY holds.hold_id, holds.expires_at
        """,
    ),
    Invariant(
        "used_calls",
        "missed call {call_id}: the customer of the redemption or hold that it proved",
        """
            SELECT missed_calls.call_id, missed_calls.customer_id AS expected, transactions.customer_id AS actual
            FROM missed_calls LEFT JOIN transactions ON transactions.org_id = missed_calls.org_id
                AND transactions.transaction_id = missed_calls.used_by AND transactions.kind IN (3, 10)
            WHERE missed_calls.org_id = :org_id AND missed_calls.used_by IS NOT NULL
        """,
    ),
    Invariant(
        "calls_used_once",
        "transaction {transaction_id}: missed calls that it used",
        """
            SELECT used_by AS transaction_id, 1 AS expected, COUNT(*) AS actual FROM missed_calls
            WHERE org_id = :org_id AND used_by IS NOT NULL GROUP BY used_by
        """,
    ),
    Invariant(
        "reversal_postings",
        "program {program_id}: points given back against the journal",
        """
            SELECT program_id, SUM(posted) AS expected, SUM(stored) AS actual FROM (
                SELECT program_id, 0 AS posted, reversed AS stored FROM redemption_lots WHERE org_id = :org_id
                UNION ALL
                SELECT postings.program_id, -postings.points, 0
                FROM transactions JOIN postings ON postings.org_id = transactions.org_id
                    AND postings.transaction_id = transactions.transaction_id
                WHERE transactions.org_id = :org_id AND transactions.kind = 4 AND postings.account = 3
            ) AS sides GROUP BY program_id
        """,
    ),
    Together(
        {
            "lifetime_earned": "wallet {customer_id}/{program_id}: lifetime earned against what was issued, to those"
            " merged into it too",
            "lifetime_received": "wallet {customer_id}/{program_id}: lifetime received against transfers to it, and to"
            " those merged into it",
        },
        # The counterparty is compared inside an OR, or SQLite would go through all postings by an index on customers.
        """
            SELECT customer_id, program_id, SUM(issued) AS lifetime_earned_expected,
                SUM(lifetime_earned) AS lifetime_earned_actual, SUM(received) AS lifetime_received_expected,
                SUM(lifetime_received) AS lifetime_received_actual
            FROM (
                SELECT customer_id, program_id, 0 AS issued, 0 AS received, lifetime_earned, lifetime_received
                FROM wallets WHERE org_id = :org_id
                UNION ALL
                SELECT postings.customer_id, postings.program_id,
                    CASE WHEN transactions.kind = 1 THEN postings.points ELSE 0 END,
                    CASE WHEN transactions.kind = 2 THEN postings.points ELSE 0 END,
                    0, 0
                FROM transactions JOIN postings ON postings.org_id = transactions.org_id
                    AND postings.transaction_id = transactions.transaction_id
                WHERE transactions.org_id = :org_id AND postings.account = 1 AND (transactions.kind = 1
                    OR transactions.kind = 2 AND postings.customer_id = transactions.counterparty_id)
                UNION ALL
                SELECT customers.merged_into, wallets.program_id, wallets.lifetime_earned, wallets.lifetime_received,
                    0, 0
                FROM customers JOIN wallets ON wallets.org_id = customers.org_id
                    AND wallets.customer_id = customers.customer_id
                WHERE customers.org_id = :org_id AND customers.merged_into IS NOT NULL
            ) AS sides GROUP BY customer_id, program_id
        """,
    ),
    Invariant(
        "lifetime_purchases",
        "wallet {customer_id}/{program_id}: lifetime purchases against the bills, of those merged into it too",
        """
            SELECT customer_id, program_id, SUM(billed) AS expected, SUM(stored) AS actual FROM (
                SELECT customer_id, program_id, 0 AS billed, lifetime_purchases AS stored
                FROM wallets WHERE org_id = :org_id
                UNION ALL
                SELECT customer_id, program_id, amount, 0 FROM purchases
                WHERE org_id = :org_id AND amount IS NOT NULL
                UNION ALL
                SELECT customers.merged_into, wallets.program_id, wallets.lifetime_purchases, 0
                FROM customers JOIN wallets ON wallets.org_id = customers.org_id
                    AND wallets.customer_id = customers.customer_id
                WHERE customers.org_id = :org_id AND customers.merged_into IS NOT NULL
            ) AS sides GROUP BY customer_id, program_id
        """,
    ),
    InWallets("velocity_days", "points and transfers of direction and day", _days),
    Invariant(
        "request_transactions",
        "request {request_id}: the request of its transaction",
        """
            SELECT requests.request_id, requests.request_id AS expected,
                COALESCE(transactions.request_id, 'no such transaction') AS actual
            FROM requests LEFT JOIN transactions ON transactions.org_id = requests.org_id
                AND transactions.transaction_id = requests.transaction_id
            WHERE requests.org_id = :org_id AND requests.transaction_id IS NOT NULL
        """,
    ),
    Invariant(
        "transaction_requests",
        "transaction {transaction_id}: its request",
        """
            SELECT transactions.transaction_id, 'accepted' AS expected,
                CASE WHEN requests.accepted = 1 THEN 'accepted' WHEN requests.accepted IS NULL THEN 'not recorded'
                ELSE 'refused' END AS actual
            FROM transactions LEFT JOIN requests ON requests.org_id = transactions.org_id
                AND requests.request_id = transactions.request_id
            WHERE transactions.org_id = :org_id AND transactions.request_id <> ''
        """,
    ),
    Invariant(
        "returned_points",
        "return of {transaction_number}: points against its reversals",
        """
            SELECT transaction_number, SUM(reversed) AS expected, SUM(points) AS actual FROM (
                SELECT transaction_number, 0 AS reversed, points FROM returns WHERE org_id = :org_id
                UNION ALL
                SELECT returns.transaction_number, transactions.points, 0 FROM returns
                JOIN transactions ON transactions.org_id = returns.org_id AND transactions.kind = 4
                    AND transactions.request_id = returns.request_id
                WHERE returns.org_id = :org_id
            ) AS sides GROUP BY transaction_number
        """,
    ),
    Invariant(
        "live_codes",
        "customer {customer_id}, action {action}: live codes",
        """
            SELECT customer_id, action, 1 AS expected, COUNT(*) AS actual FROM otps
            WHERE org_id = :org_id AND state = 'LIVE' GROUP BY customer_id, action
        """,
    ),
    Invariant(
        "settled_messages",
        "message {message_id}, {state}: its sealed code",
        """
            SELECT message_id, state,
                CASE WHEN state = 'QUEUED' THEN 'kept' ELSE 'erased' END AS expected,
                CASE WHEN sealed IS NULL THEN 'erased' ELSE 'kept' END AS actual
            FROM outbox WHERE org_id = :org_id
        """,
    ),
    Invariant(
        "failed_messages",
        "customer {customer_id}: flag of messages that failed",
        """
            SELECT customer_id, MAX(failed) AS expected, MAX(flagged) AS actual FROM (
                SELECT customer_id, 0 AS failed, 1 AS flagged FROM customers
                WHERE org_id = :org_id AND messages_failed = 1
                UNION ALL
                SELECT customer_id, 1, 0 FROM outbox
                WHERE org_id = :org_id AND state = 'QUEUED' AND attempts > 0
            ) AS sides GROUP BY customer_id
        """,
    ),
    Invariant(
        "never_negative",
        "{kind} {customer_id}/{number}: columns",
        """
            SELECT kind, customer_id, number, 'sound' AS expected,
                CASE WHEN lowest < 0 THEN 'below zero' WHEN whole < parts THEN 'less than its parts'
                ELSE 'sound' END AS actual
            FROM (
                SELECT 'wallet' AS kind, customer_id, program_id AS number, current AS whole, promised + held AS parts,
                    CASE WHEN current < 0 OR promised < 0 OR held < 0 OR lifetime_earned < 0 OR lifetime_received < 0
                        OR lifetime_purchases < 0 OR version < 0 THEN -1 ELSE 0 END AS lowest
                FROM wallets WHERE org_id = :org_id
                UNION ALL
                SELECT 'counter', customer_id, action, 0, 0,
                    CASE WHEN issues < 0 OR wrong_attempts < 0 THEN -1 ELSE 0 END
                FROM otp_counters WHERE org_id = :org_id
                UNION ALL
                SELECT 'code', customer_id, program_id, 0, 0, CASE WHEN attempts_left < 0 THEN -1 ELSE 0 END
                FROM otps WHERE org_id = :org_id
            ) AS columns_of
        """,
    ),
)
