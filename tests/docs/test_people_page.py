"""docs/people.md says of every text that is kept about customers what becomes of it; a new column fails here."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import LargeBinary, Text

from points_grpc.storage import schema
from points_grpc.storage.vacuuming import TABLES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "people.md").read_text()

OF_NOBODY = {
    *("orgs", "config_keys", "programs", "program_groups", "policies", "journal_streams"),
    *("api_keys", "client_certificates", "token_cutoffs", "writer_slots"),
}
"""Tables that keep nothing about customers."""


def test_every_text_is_told() -> None:
    """Each column that can hold a text has its place in the table, and each place is a column."""
    kept = {
        f"{table.name}.{column.name}"
        for table in schema.metadata.tables.values()
        for column in table.c
        if table.name not in OF_NOBODY and isinstance(column.type, (Text, LargeBinary))
    }
    told = re.findall(r"`([a-z_]+\.[a-z_]+)`", "\n".join(line for line in PAGE.splitlines() if line.startswith("| `")))

    assert sorted(kept) == sorted(told)


def test_what_is_vacuumed() -> None:
    """The page names the tables that the command vacuums."""
    assert f"VACUUM {', '.join(TABLES)};" in PAGE


def test_the_tests_that_are_named() -> None:
    """Each proof is a test that is there."""
    files = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)

    assert [] == [one for one in files if not (ROOT / one).exists()]
    assert [] == [
        name
        for name in re.findall(r"`(test_\w+)`", PAGE)
        if not any(f"def {name}(" in (ROOT / one).read_text() for one in files)
    ]
