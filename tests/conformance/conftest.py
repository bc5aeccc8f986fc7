"""One server for the whole table, with an organisation for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from conformance_failures import ROWS as FAILURE_ROWS
from conformance_page import PAGE, page
from conformance_player import Play, make_orgs
from conformance_recording import RECORDINGS
from conformance_rows import ROWS
from conformance_table import Row

from databases import NewDatabase
from running import RunningServer


def pytest_configure(config: pytest.Config) -> None:
    """Tells the recordings."""
    RECORDINGS.recording = config.getoption("--record")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes what was recorded, and the page made of it."""
    if session.config.getoption("--record"):
        RECORDINGS.write((*ROWS, *FAILURE_ROWS))
        PAGE.write_text(page(RECORDINGS.committed), encoding="utf-8")


@pytest.fixture(scope="session")
def plays(new_database_in_ci: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Row], Play]]:
    """Hands out the play of a row."""
    folder = tmp_path_factory.mktemp("conformance")
    server = RunningServer(folder, "--otp-sender", "console", on=new_database_in_ci(folder))
    orgs = {row.name: org for row, org in zip(ROWS, make_orgs(server, ROWS), strict=True)}
    server.start()
    options = (("grpc.max_metadata_size", 65_536), ("grpc.absolute_max_metadata_size", 65_536))
    with grpc.insecure_channel(server.address, options) as channel:
        yield lambda row: Play(server, channel, orgs[row.name])
    server.close()
