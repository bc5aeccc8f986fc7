"""Ports that tests give to servers: tests beside each other, in this process or another, are never given the same."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import running

TAKES_ONE = "import running; running._OWN_PORTS = range({0}, {0} + 1); running.free_port()"


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although nobody listens yet on the one that was given first, which a server needs some time for."""
    given = running.free_port()

    monkeypatch.setattr(running, "_OWN_PORTS", range(given, given + 1))
    with pytest.raises(OSError, match="none of the ports"):
        running.free_port()

    command = [sys.executable, "-c", TAKES_ONE.format(given)]
    tests = Path(running.__file__).parent
    other = subprocess.run(command, cwd=tests, capture_output=True, text=True, check=False)
    assert "none of the ports" in other.stderr


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(running, "_OWN_PORTS", range(port, port + 1))
        with pytest.raises(OSError, match="none of the ports"):
            running.free_port()
