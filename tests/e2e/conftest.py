"""One development server for all tests of a worker; each test works on customers of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from databases import NewDatabase
from running import Caller, RunningServer


@pytest.fixture(scope="session")
def server(new_database_in_ci: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    running = RunningServer(folder, "--dev", on=new_database_in_ci(folder)).start()
    yield running
    running.close()


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    client = Caller(server.address, server.token)
    yield client
    client.close()
