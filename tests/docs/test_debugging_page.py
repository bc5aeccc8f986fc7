"""The commands of docs/debugging.md are run as printed, in order, and answer what stands beneath them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.tools import grpcurl
from running import RunningServer

PAGE = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text()
COMMAND = re.compile(r"<!-- command -->\n```\n(.*?)\n```\n\n```\n(.*?)\n```", re.DOTALL)
COMMANDS = COMMAND.findall(PAGE)


def test_the_commands_as_printed(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Each command answers what the page shows of it. A tool that cannot be had is named in the summary."""
    programs = {
        "grpcurl": [str(found)] if (found := grpcurl()) else None,
        "buf": buf(),
        "points-grpc": [sys.executable, "-m", "points_grpc"],
    }
    server = RunningServer(tmp_path, "--dev").start()
    environment = {**os.environ, "POINTS_GRPC_TOKEN": server.token}
    try:
        for command, output in COMMANDS:
            line = command.replace("127.0.0.1:50051", server.address).replace("$TOKEN", server.token)
            name, *arguments = shlex.split(line.replace("\\\n", " "))
            program = programs[name]
            if program is None:
                record_property(
                    "summary", f"docs/debugging.md: {name} is not there, not run: {command.splitlines()[0]}"
                )
                continue
            if name == "points-grpc":
                arguments += ["--address", server.address]
            done = subprocess.run(
                [*program, *arguments], capture_output=True, text=True, check=False, timeout=60, env=environment
            )

            assert output in done.stdout + done.stderr, f"{command}\n{done.stdout}{done.stderr}"
    finally:
        server.close()


def test_the_page_has_its_commands() -> None:
    """The pattern of this file still finds the commands, of all three tools."""
    assert {"grpcurl", "buf", "points-grpc"} == {command.split()[0] for command, _ in COMMANDS}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["TransferPoint"], "there is no RPC TransferPoint; there are TransferPoints"),
        (["GetWallet", "{"], "GetWalletRequest: Failed to load JSON"),
        (["GetWallet", '{"wallet": 1}'], 'has no field named "wallet"'),
    ],
)
def test_misuse(arguments: list[str], says: str) -> None:
    """An RPC that is not there, or a request that is none, is told without a call, with exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "points_grpc", "call", *arguments, "--token", "pk_a_b"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert 2 == done.returncode
    assert says in " ".join(done.stderr.split())


def buf() -> list[str] | None:
    """The buf of the virtual environment, or of the PATH."""
    beside = Path(sys.executable).parent / "buf"
    found = str(beside) if beside.exists() else shutil.which("buf")
    return [found] if found else None
