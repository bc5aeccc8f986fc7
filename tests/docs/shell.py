"""A development server and a shell with the tools that call it, for pages whose commands are run as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from docs.tools import buf, grpcurl
from running import RunningServer

SENT_CODE = re.compile(r"one-time code for .*: (\d+)\n")
SHOULD_BE_SENT_WITHIN_S = 30.0


class Shell:
    """A development server, and the tools that call it."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: of the server, beside our own."""
        found = {"grpcurl": grpcurl(), "buf": buf()}
        self.missing = frozenset(tool for tool, program in found.items() if program is None)
        self._server = RunningServer(folder, "--dev", environment=environment).start()
        tools = folder / "tools"
        tools.mkdir()
        for tool, program in found.items():
            if program is not None:
                (tools / tool).symlink_to(program)
        ours = tools / "points-grpc"
        ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m points_grpc "$@"\n')
        ours.chmod(0o755)
        self._environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "TOKEN": self._server.token,
            "POINTS_GRPC_TOKEN": self._server.token,
        }
        self._codes_asked = 0

    def run(self, command: str, folder: Path | None = None) -> str:
        """What a command prints, run in a folder; a tool that is missing is stood in for by `points-grpc call`."""
        if command.split(maxsplit=1)[0] in self.missing:
            command = by_ourselves(command)
        command = command.replace("127.0.0.1:50051", self._server.address)
        if command.startswith("points-grpc call"):
            command += f" --address {self._server.address}"
        done = subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self._environment,
            cwd=folder,
        )
        return done.stdout + done.stderr

    def code_for(self, command: str) -> str:
        """The one-time code that the server sent last; one that a command before has asked for is waited for."""
        sent = SENT_CODE.findall(self._server.output())
        until = time.monotonic() + SHOULD_BE_SENT_WITHIN_S
        while len(sent) < self._codes_asked and time.monotonic() < until:
            time.sleep(0.05)
            sent = SENT_CODE.findall(self._server.output())
        self._codes_asked += command.endswith("Otp")
        return sent[-1] if sent else ""

    def close(self) -> None:
        """Ends the server."""
        self._server.close()


def by_ourselves(command: str) -> str:
    """A call of grpcurl or buf as one of `points-grpc call`; nothing where it is no call."""
    words = shlex.split(command.replace("\\\n", " "))
    if "list" in words or "describe" in words or "Health/" in words[-1]:
        return "true"
    request = words[words.index("-d") + 1] if "-d" in words else "{}"
    return shlex.join(["points-grpc", "call", words[-1].rpartition("/")[2], request, "--timeout", "3"])
