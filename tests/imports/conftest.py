"""One development server for all tests of imports and of what shows wallets; each test has a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.main import main
from running import RunningServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("imports"), "--dev").start()
    yield running
    running.close()


@pytest.fixture
def command(server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `points-grpc` in the folder of the test, against the server. A summary is the last line of its output."""
    monkeypatch.chdir(tmp_path)
    environment = {"POINTS_GRPC_ADDRESS": server.address, "POINTS_GRPC_TOKEN": server.token}
    return lambda *arguments: CliRunner().invoke(main, arguments, env=environment)
