"""Figures for finance: what is owed as of a day, and what moved on each day, both from the journal alone.

Reads only, in one snapshot, plain SQL: beside a serving process if need be. Days end in the time zone of the program.
Every figure is a sum of postings, or of lots by their times, so that totals tie to the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import Connection, text

from points_grpc.domain.issuance import end_of_day
from points_grpc.domain.model import Account, Source
from points_grpc.storage.engine import Database
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.times import NEVER, from_micros, to_micros

REVERSALS = "REVERSALS"
"""Stands for the source where breakage comes from reversals of lots that had expired."""


class Liability(Struct, frozen=True):
    """What a program owes for the points of one source. Promised and held are parts of outstanding."""

    org_id: int
    program_id: int
    source: str
    outstanding: int = 0
    promised: int = 0
    held: int = 0
    breakage: int = 0
    expiring: Mapping[str, int] = {}
    """Outstanding points by the month in which they expire, "2027-03"; "never" for those that do not."""


class Day(Struct, frozen=True):
    """What moved in a program on one day, as wallets felt it, and what was outstanding in its wallets at its end."""

    org_id: int
    program_id: int
    day: date
    issued: int
    redeemed: int
    expired: int
    adjusted: int
    clearing: int
    closing: int


def liability(database: Database, day: date, *, org_id: int = 0) -> list[Liability]:
    """What every program owes at the end of a day, by source. `org_id` 0: of all organisations."""
    found: list[Liability] = []
    with snapshot(database) as connection:
        for org, program_id, zone in _programs(connection, org_id):
            found += _liability_of(connection, org, program_id, zone, ends_at=end_of_day(day, zone.key))
    return found


def daily(database: Database, first: date, last: date, *, org_id: int = 0) -> list[Day]:
    """What moved on each day on which something did. `org_id` 0: in all organisations."""
    found: list[Day] = []
    with snapshot(database) as connection:
        for org, program_id, zone in _programs(connection, org_id):
            found += _days_of(connection, org, program_id, zone, first=first, last=last)
    return found


# -- one program -------------------------------------------------------------------------------------------------------

_PROGRAMS = text("""
    SELECT org_id, program_id, time_zone FROM programs
    WHERE :org_id = 0 OR org_id = :org_id ORDER BY org_id, program_id
""")

_LOTS = text("""
    SELECT postings.lot_id, lots.source, lots.expires_at, lots.available_from, SUM(postings.held) AS held,
        SUM(postings.points) AS points
    FROM postings
    JOIN transactions ON transactions.org_id = postings.org_id
        AND transactions.transaction_id = postings.transaction_id
    JOIN lots ON lots.org_id = postings.org_id AND lots.lot_id = postings.lot_id
    WHERE postings.org_id = :org_id AND postings.program_id = :program_id AND postings.account = 1
        AND transactions.created_at <= :ends_at
    GROUP BY postings.lot_id, lots.source, lots.expires_at, lots.available_from
    HAVING SUM(postings.points) > 0
""")
"""What remained in each lot of a program, and what was held of it."""

_OVERDUE = text("""
    SELECT hold_lots.lot_id, SUM(hold_lots.points) AS points
    FROM holds
    JOIN hold_lots ON hold_lots.org_id = holds.org_id AND hold_lots.hold_id = holds.hold_id
    WHERE holds.org_id = :org_id AND hold_lots.program_id = :program_id
        AND holds.held_at <= :ends_at AND holds.expires_at < :ends_at
        AND (holds.closed_at IS NULL OR holds.closed_at > :ends_at)
    GROUP BY hold_lots.lot_id
""")
"""What holds kept of lots whose deadline had passed by then, and whose release was not booked yet."""

_EXPIRED_BY_SOURCE = text("""
    SELECT lots.source, -SUM(postings.points) AS points
    FROM postings
    JOIN transactions ON transactions.org_id = postings.org_id
        AND transactions.transaction_id = postings.transaction_id
    JOIN lots ON lots.org_id = postings.org_id AND lots.lot_id = postings.lot_id
    WHERE postings.org_id = :org_id AND postings.program_id = :program_id AND postings.account = 1
        AND transactions.created_at <= :ends_at
        AND (transactions.kind = 5 OR (transactions.kind = 1 AND postings.points < 0))
    GROUP BY lots.source
""")
"""What expired of lots: in bookings of their own, or on arrival, in the issue itself."""

_EXPIRED = text("""
    SELECT COALESCE(SUM(postings.points), 0) AS points
    FROM postings
    JOIN transactions ON transactions.org_id = postings.org_id
        AND transactions.transaction_id = postings.transaction_id
    WHERE postings.org_id = :org_id AND postings.program_id = :program_id AND postings.account = 4
        AND transactions.created_at <= :ends_at
""")

_LAST_EVERYWHERE = datetime(9999, 12, 31, tzinfo=UTC)
"""A day before the end of time, which is an instant in all time zones."""

QUARTER_MICROS = 900_000_000
"""Days of all time zones begin at a quarter of an hour of UTC: so finely the database adds up."""

_MOVED = text("""
    SELECT transactions.created_at / :quarter AS quarter, postings.account, SUM(postings.points) AS points
    FROM postings
    JOIN transactions ON transactions.org_id = postings.org_id
        AND transactions.transaction_id = postings.transaction_id
    WHERE postings.org_id = :org_id AND postings.program_id = :program_id AND transactions.created_at <= :ends_at
    GROUP BY transactions.created_at / :quarter, postings.account
    ORDER BY quarter
""")


def _liability_of(
    connection: Connection, org_id: int, program_id: int, zone: ZoneInfo, *, ends_at: datetime
) -> Iterable[Liability]:
    """The sources of a program; a program without any has a row of zeros, so that it is seen."""
    at = to_micros(ends_at)
    bound = {"org_id": org_id, "program_id": program_id, "ends_at": at}
    rows: dict[str, dict[str, int]] = {}
    expiring: dict[str, dict[str, int]] = {}

    def add(source: str, figure: str, points: int) -> None:
        figures = rows.setdefault(source, {})
        figures[figure] = figures.get(figure, 0) + points

    unbooked = 0
    overdue: dict[int, int] = {row.lot_id: row.points for row in connection.execute(_OVERDUE, bound)}
    for lot_id, source, expires_at, available_from, held, points in connection.execute(_LOTS, bound):
        name = Source(source).name
        if expires_at < at:
            add(name, "breakage", points)
            unbooked += points
            continue
        add(name, "outstanding", points)
        if available_from is not None and available_from > at:
            add(name, "promised", points)
        if kept := held - overdue.get(lot_id, 0):
            add(name, "held", kept)
        month = "never" if expires_at == NEVER else f"{_day_of(expires_at, zone):%Y-%m}"
        months = expiring.setdefault(name, {})
        months[month] = months.get(month, 0) + points
    for source, points in connection.execute(_EXPIRED_BY_SOURCE, bound):
        add(Source(source).name, "breakage", points)
    expired = connection.execute(_EXPIRED, bound).scalar_one()
    by_reversal = expired + unbooked - sum(figures.get("breakage", 0) for figures in rows.values())
    if by_reversal:
        add(REVERSALS, "breakage", by_reversal)
    return [
        Liability(org_id, program_id, name, **rows[name], expiring=dict(sorted(expiring.get(name, {}).items())))
        for name in sorted(rows)
    ] or [Liability(org_id, program_id, "")]


def _days_of(
    connection: Connection, org_id: int, program_id: int, zone: ZoneInfo, *, first: date, last: date
) -> Iterable[Day]:
    bound = {
        "org_id": org_id,
        "program_id": program_id,
        "ends_at": to_micros(end_of_day(last, zone.key)),
        "quarter": QUARTER_MICROS,
    }
    by_day: dict[date, dict[int, int]] = {}
    for quarter, account, points in connection.execute(_MOVED, bound):
        day = _day_of(quarter * QUARTER_MICROS, zone)
        moved = by_day.setdefault(day, {})
        moved[account] = moved.get(account, 0) + points
    closing = 0
    found: list[Day] = []
    for day in sorted(by_day):
        moved = by_day[day]
        closing += moved.get(Account.WALLET, 0)
        if day >= first:
            found.append(
                Day(
                    org_id=org_id,
                    program_id=program_id,
                    day=day,
                    issued=-moved.get(Account.ISSUED, 0),
                    redeemed=-moved.get(Account.REDEEMED, 0),
                    expired=-moved.get(Account.EXPIRED, 0),
                    adjusted=-moved.get(Account.ADJUSTED, 0),
                    clearing=-moved.get(Account.CLEARING, 0),
                    closing=closing,
                )
            )
    return found


def _programs(connection: Connection, org_id: int) -> Sequence[tuple[int, int, ZoneInfo]]:
    found = connection.execute(_PROGRAMS, {"org_id": org_id}).all()
    return [(org, program_id, ZoneInfo(zone)) for org, program_id, zone in found]


def _day_of(micros: int, zone: ZoneInfo) -> date:
    """The day on which an instant falls; east of UTC the last instants that there are fall on the last day."""
    return min(from_micros(micros), _LAST_EVERYWHERE).astimezone(zone).date()


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """A transaction that reads, for as long as a report takes."""
    try:
        with database.reader.connect() as connection, connection.begin(), database.backend.long_reads(connection):
            yield connection
    except DRIVER_ERRORS as error:
        raise translate(error) from error
