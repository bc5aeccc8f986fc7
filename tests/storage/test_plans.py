"""How SQLite runs each hot statement, told on an empty database: planted statistics keep plans the same at any size."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from points_grpc.storage import erasing, journal_pages, listings, personal, queries, watching
from points_grpc.storage import statements as sql
from points_grpc.storage.driver import Statement

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": found
    for module in (sql, queries, listings, watching, erasing, personal, journal_pages)
    for name, found in vars(module).items()
    if isinstance(found, Statement) and not found.text.startswith("INSERT")
}
STATEMENTS |= {
    f"{name} as one value": replace(found, text=found.whole) for name, found in STATEMENTS.items() if found.whole
}
FULL_KEYS = {
    "FIRST_LOTS": "COVERING INDEX ix_lots_spending (org_id=? AND customer_id=? AND program_id=?)",
    "PROMISED_LOTS": "ix_lots_promised (org_id=? AND customer_id=? AND program_id=?)",
    "WALLETS": "PRIMARY KEY (org_id=? AND customer_id=?)",
    "RECENT_TRANSFERS": "ix_transactions_transfers (org_id=? AND customer_id=? AND created_at>?)",
    "CUSTOMERS_BY_MOBILE": "ux_customers_mobile (org_id=? AND mobile=?)",
    "CUSTOMERS_BY_EMAIL": "ux_customers_email (org_id=? AND email=?)",
    "CUSTOMERS_BY_EXTERNAL_ID": "ux_customers_external_id (org_id=? AND external_id=?)",
    "REDEMPTIONS_BY_TRANSACTION_NUMBER": "ix_redemptions_transaction_number (org_id=? AND transaction_number=?)",
    "CANCEL_MESSAGES": "ix_outbox_queued (org_id=? AND customer_id=?)",
    "DUE_MESSAGES": "ix_outbox_due (org_id=? AND next_attempt_at<?)",
    "OFFSPRING": "ix_lots_parent (org_id=? AND parent_lot_id=?)",
    "LOTS_OF_TRANSACTIONS": "PRIMARY KEY (org_id=? AND transaction_id=?)",
    "UPDATE_LOT": "PRIMARY KEY (org_id=? AND lot_id=?)",
}
WHOLE_ORGANISATION = {
    *("ORG", "PROGRAMS", "GROUPS", "CONFIG", "BUMP_BOOK", "SET_PAUSED", "SET_DEFAULT_PROGRAM", "_HEADS"),
    "_ERASED",
}
"""What is read or written for an organisation as such."""
COUNTED = {"_COUNT_CUSTOMERS", "_COUNT_WALLETS", "_COUNT_WALLETS_IN", "_COUNT_LOTS", "_COUNT_LOTS_IN"}
"""What is counted on demand: an index is walked."""


def plan(path: Path, statement: Statement) -> list[str]:
    """The lines of the plan."""
    connection = sqlite3.connect(path)
    bound = ["[]" if name in {"ids", "keys", "subjects", "customer_ids"} else 1 for name in statement.names]
    lines = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement.text}", bound)]
    connection.close()
    return lines


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_scans_a_table(empty_database: Path, name: str) -> None:
    """Lists of keys are scanned; tables are searched."""
    lines = plan(empty_database, STATEMENTS[name])

    assert [line for line in lines if line.startswith("SCAN") and "VIRTUAL TABLE" not in line] == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_searches_a_whole_organisation(empty_database: Path, name: str) -> None:
    """The organisation alone narrows nothing down."""
    if name.partition(".")[2].partition(" ")[0] in WHOLE_ORGANISATION | COUNTED:
        return
    lines = plan(empty_database, STATEMENTS[name])

    assert [line for line in lines if line.endswith("(org_id=?)")] == []


@pytest.mark.parametrize("name", FULL_KEYS)
def test_a_statement_uses_its_index(empty_database: Path, name: str) -> None:
    """The index that was made for it, with all the columns it has values for, row by row and as one value."""
    forms = [found for form, found in STATEMENTS.items() if form.split(" ")[0] == f"statements.{name}"]
    plans = [plan(empty_database, one) for one in forms]

    assert plans
    assert all(any(FULL_KEYS[name] in line for line in lines) for lines in plans), plans


@pytest.mark.parametrize(
    "name",
    [
        "statements.FIRST_LOTS",
        "queries._LIVE_LOTS",
        "queries._EXPIRIES",
        "queries._TOUCHED",
        "queries._TRANSFERRED",
        "listings._CUSTOMERS",
        "listings._WALLETS",
        "listings._LOTS",
        "listings._JOURNAL",
        "watching._AFTER_POSITION",
        "watching._VERSIONS_FROM",
        "watching._MADE_VERSION",
    ],
)
def test_the_first_rows_are_found_without_sorting(empty_database: Path, name: str) -> None:
    """The index has the order, so that reading stops at the limit."""
    lines = plan(empty_database, STATEMENTS[name])

    assert [line for line in lines if "TEMP B-TREE" in line] == []
