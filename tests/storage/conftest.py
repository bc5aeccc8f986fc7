"""The stores that the storage suite runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import BACKENDS, Store, template


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the schema and two organisations, to be copied."""
    return template(tmp_path_factory.mktemp("template"))


@pytest.fixture(params=sorted(BACKENDS))
def bare(request: pytest.FixtureRequest, empty_database: Path, tmp_path: Path) -> Iterator[Store]:
    """A store without programs and customers."""
    store = BACKENDS[request.param](empty_database, tmp_path)
    yield store
    store.close()


@pytest.fixture
def store(bare: Store) -> Store:
    """A store with two programs and three customers."""
    bare.furnish()
    return bare
