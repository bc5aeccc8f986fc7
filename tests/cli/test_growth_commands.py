"""`points-grpc retention` and `points-grpc partitions`: what they say, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_migrate_command import run

from databases import ATestsDatabase, NewDatabase, SqliteFile
from points_grpc.storage.migrate import upgrade

REFUSED = "INSERT INTO requests VALUES (1, ?, 'SetPause', 'k1', '{}', 0, '{}', NULL, ?, NULL)"


@pytest.fixture
def database(new_database: NewDatabase, tmp_path: Path) -> Iterator[ATestsDatabase]:
    """A database with an organisation, and a refusal of 1970."""
    made = new_database(tmp_path)
    upgrade(made.url)
    made.change("INSERT INTO orgs VALUES (1, 'one', 'US', NULL, 0, 1, 0)")
    made.change(REFUSED, "old", 1)
    yield made
    made.drop()


@pytest.mark.ci
def test_retention_counts_before_it_removes(database: ATestsDatabase) -> None:
    """Nothing goes without --apply; a refusal of less than 30 days cannot be asked for."""
    counted = run("retention", "--database", database.url)
    left = database.counts()["requests"]
    applied = run("retention", "--apply", "--json", "--database", database.url)
    misused = run("retention", "--refusals-days", "29", "--database", database.url)

    assert (0, ["org  what      may go", "  1  refusals       1"]) == (counted[0], counted[1].splitlines())
    assert (1, 0) == (left, database.counts()["requests"])
    assert (0, {"removed": [{"org_id": 1, "what": "refusals", "rows": 1}]}) == (applied[0], json.loads(applied[1]))
    assert 2 == misused[0]


@pytest.mark.ci
def test_partitions_are_made_and_listed(database: ATestsDatabase) -> None:
    """On PostgreSQL; on SQLite they are refused in a sentence."""
    made = run("partitions", "make", "--ahead", "1", "--database", database.url)
    code, listed = run("partitions", "list", "--json", "--database", database.url)
    refusal = (1, "Error: partitions are for PostgreSQL: a SQLite database is one file")
    if isinstance(database, SqliteFile):
        assert [refusal, refusal] == [made, (code, listed)]
        return
    found = json.loads(listed)["partitions"]

    assert (0, "partitions: OK") == (made[0], made[1].splitlines()[-1])
    assert ["transactions_first", "postings_first"] == [one["name"] for one in found if one["from_id"] is None]
    assert 0 == run("partitions", "list", "--database", database.url)[0]
