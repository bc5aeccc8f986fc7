"""The stores that the storage suite runs on: `store` and `bare` on every backend, the others on the one they name.

On PostgreSQL twice: as migrations leave it, and with the journal in partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from layouts import PartitionedDatabase
from stores import Store, fill

from databases import ATestsDatabase, NewDatabase, SqliteFile, on_postgres, on_sqlite
from postgres_cluster import Cluster

OF_THE_JOURNAL = {
    "test_apply_load",
    "test_exports",
    "test_journal",
    "test_organisation_lists",
    "test_queries",
    "test_stored_holds",
    "test_verify",
    "test_watching",
    "test_windows",
}
"""What reads or writes the tables that can be in partitions; to the others the layout is nothing."""

IN_CI = {"test_journal", "test_queries"}
"""Of those, what CI runs on partitions; the rest runs there in the long form."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what would run twice on the same tables."""
    items[:] = [one for one in items if "[partitioned" not in one.name or one.path.stem in OF_THE_JOURNAL]
    for one in items:
        if "[partitioned" in one.name and one.path.stem not in IN_CI:
            one.add_marker(pytest.mark.long)


@pytest.fixture(scope="session", params=["sqlite", "postgresql", pytest.param("partitioned", marks=pytest.mark.ci)])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Makes empty databases; what uses it runs once on each layout."""
    if request.param == "sqlite":
        return on_sqlite
    cluster: Cluster = request.getfixturevalue("postgres")
    if request.param == "partitioned":
        return lambda _: PartitionedDatabase(cluster, cluster.create())
    return on_postgres(cluster)


@pytest.fixture(scope="session")
def empty(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> ATestsDatabase:
    """A database with the schema and two organisations, to be copied."""
    return fill(new_database(tmp_path_factory.mktemp("template")))


@pytest.fixture
def bare(empty: ATestsDatabase) -> Iterator[Store]:
    """A store without programs and customers."""
    database = empty.copy()
    store = Store(database)
    yield store
    store.close()
    database.drop()


@pytest.fixture
def store(bare: Store) -> Store:
    """A store with two programs and three customers."""
    bare.furnish()
    return bare


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> SqliteFile:
    """A database file with the schema and two organisations, to be copied."""
    found = on_sqlite(tmp_path_factory.mktemp("template"))
    fill(found)
    return found


@pytest.fixture(scope="session")
def empty_database(empty_file: SqliteFile) -> Path:
    """Its path."""
    return empty_file.path


@pytest.fixture
def sqlite_bare(empty_file: SqliteFile) -> Iterator[Store]:
    """As `bare`, for what is special to SQLite."""
    store = Store(empty_file.copy())
    yield store
    store.close()


@pytest.fixture
def sqlite_store(sqlite_bare: Store) -> Store:
    """As `store`, for what is special to SQLite."""
    sqlite_bare.furnish()
    return sqlite_bare
