"""Transfers in databases that grow: customers are copied by SQL behind the service's back, ten lots each.

One customer gets ten lots through the API; every row that this made is copied, under ids of its own, in the table's
order and with the indexes at work. The copies are whole but for the chain of the journal, so that nobody may `verify`
such a database: what is counted is whether each acknowledged transfer stands in the journal, and whether all sum to
zero. Ids of copies are low, as those of old rows are. Before transfers are measured, the database is tidied up as it
would be by the time it is of that size, so that no figure is that of the copying.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_figures import NOOP, TRANSFER, Grown, Sample
from bench_journal import TRANSFER_KIND
from bench_load import Driver, Level, LoadFailedError
from bench_servers import Server
from bench_stand import Stand
from bench_world import Population, World, counted, customer, issue, progress

from points_grpc.storage import schema

TEMPLATE_ID = 900_003
FIRST_ID = 10_000_001
LOTS_EACH = 10
POINTS = 100_000
COPIED_AT_ONCE = 50_000
"""Customers of a statement. Their request ids are scattered: each statement touches most pages of that index."""

STREAM = 1_000_000
"""A journal stream that no writer has."""


def grow(
    stand: Stand,
    yardstick: Server,
    sizes: Sequence[int],
    levels: Sequence[Level],
    driver: Driver,
    folder: Path,
    *,
    rounds: int,
) -> Iterator[Grown]:
    """Transfers at each number of lots, from the smallest; the no-op is measured beside each, in turn."""
    server = next(iter(stand.servers.values()))
    world = World(Population(TEMPLATE_ID, 1), driver, folder)
    world.send_all(server, "CustomerService/CreateCustomer", [customer(TEMPLATE_ID)], levels[0])
    world.issue(server, [issue(TEMPLATE_ID, POINTS, days=100 + number) for number in range(LOTS_EACH)], levels[0])
    there = 0
    for lots in sorted(sizes):
        progress(f"{stand.engine}: {lots:,} lots are made")
        started = time.monotonic()
        wanted = lots // LOTS_EACH
        for first in range(there, wanted, COPIED_AT_ONCE):
            last = min(first + COPIED_AT_ONCE, wanted) - 1
            stand.change(copies(stand, FIRST_ID + first, FIRST_ID + last))
        stand.tidy_up()
        there, seeding_s = wanted, time.monotonic() - started
        world.population = Population(FIRST_ID, wanted)
        samples: list[Sample] = []
        progress(f"{stand.engine}: {lots:,} lots, warming up")
        for level in levels:
            world.warm_up(server, level)
        for number in range(rounds):
            progress(f"{stand.engine}: {lots:,} lots, round {number + 1} of {rounds}")
            for level in levels:
                samples.append(world.measure(number, level, NOOP, NOOP, yardstick))
                samples.append(world.measure(number, level, TRANSFER, "1 worker", server))
        yield Grown(stand.engine, lots, stand.books.size_bytes(), seeding_s, samples)
    found = counted(world.sent.transfers, stand.books, TRANSFER_KIND)
    if not found.agrees or stand.books.lopsided():
        raise LoadFailedError(f"{stand.engine}: transfers of the growing database do not agree: {found}")


def copies(stand: Stand, first: int, last: int) -> list[str]:
    """The statements that copy the template for customers with these ids."""
    numbers = stand.numbers(first, last)
    lot = f"(n.n * {LOTS_EACH} + t.place)"
    issues = _placed("transactions", "transaction_id", f"customer_id = {TEMPLATE_ID}")
    tables = {
        "customers": (
            _placed("customers", "customer_id", f"customer_id = {TEMPLATE_ID}"),
            {"customer_id": "n.n", "external_id": "'grown-' || n.n"},
        ),
        "wallets": (_placed("wallets", "program_id", f"customer_id = {TEMPLATE_ID}"), {"customer_id": "n.n"}),
        "lots": (
            _placed("lots", "lot_id", f"customer_id = {TEMPLATE_ID}"),
            {"lot_id": lot, "root_lot_id": lot, "transaction_id": lot, "customer_id": "n.n"},
        ),
        "transactions": (
            issues,
            {"transaction_id": lot, "position": lot, "stream": str(STREAM), "customer_id": "n.n"},
        ),
        "postings": (
            _of_issues("postings", issues),
            {
                "transaction_id": lot,
                "customer_id": "CASE WHEN t.customer_id IS NULL THEN NULL ELSE n.n END",
                "lot_id": f"CASE WHEN t.lot_id IS NULL THEN NULL ELSE {lot} END",
            },
        ),
        "requests": (_of_issues("requests", issues), {"request_id": stand.scattered(lot), "transaction_id": lot}),
    }
    return [_copy(table, source, changed, numbers) for table, (source, changed) in tables.items()]


def _placed(table: str, order: str, condition: str) -> str:
    """Rows of a table, numbered from 0."""
    return f"(SELECT {table}.*, row_number() OVER (ORDER BY {order}) - 1 AS place FROM {table} WHERE {condition})"  # noqa: S608 - names from here


def _of_issues(table: str, issues: str) -> str:
    """Rows of a table that belong to transactions, numbered as those are."""
    places = f"(SELECT transaction_id AS issue_id, place FROM {issues} AS i) AS placed"  # noqa: S608 - names from here
    return f"(SELECT {table}.*, placed.place FROM {table} JOIN {places} ON issue_id = {table}.transaction_id)"  # noqa: S608 - as above


def _copy(table: str, source: str, changed: dict[str, str], numbers: str) -> str:
    columns = [column.name for column in schema.metadata.tables[table].columns]
    values = ", ".join(changed.get(column, f"t.{column}") for column in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values}"  # noqa: S608 - names from the schema
        f" FROM {source} AS t CROSS JOIN {numbers} AS n ORDER BY n.n, t.place"
    )
