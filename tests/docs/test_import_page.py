"""docs/import.md: its files are written, its commands run in order, and what they print and write stands beneath."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from screens import read_to_end

from running import RunningServer

PAGE = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
BLOCK = re.compile(
    r"<!-- (file: [\w.-]+|command|quietly|terminal) -->\n```\w*\n(.*?)\n```(?:\n\n```\w*\n(.*?)\n```)?", re.DOTALL
)
VARIABLE = (
    (re.compile(r"\d+ rows/s"), "N rows/s"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "2026-01-01 00:00"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "2026-01-01T00:00:00Z"),
    (re.compile(r"\b\d{15,19}\b"), "ID"),
)


def settled(text: str) -> str:
    """A text with what differs from run to run replaced, and the padding of columns that follows from it."""
    for pattern, replacement in VARIABLE:
        text = pattern.sub(replacement, text)
    return "\n".join(re.sub(r"(?<=\S) +", " ", line).rstrip() for line in text.strip().splitlines())


@pytest.mark.ci
def test_the_page_as_printed(tmp_path: Path) -> None:
    """Each command, run after those before it, prints what stands beneath; a report that is shown was written."""
    server = RunningServer(tmp_path, "--dev").start()
    environment = {**os.environ, "POINTS_GRPC_ADDRESS": server.address, "POINTS_GRPC_TOKEN": server.token}
    last = ""
    found = {}
    try:
        for kind, text, output in BLOCK.findall(PAGE):
            if kind in {"command", "quietly"}:
                last = text.replace("$LOT", found.get("lot", ""))
                done = subprocess.run(
                    [sys.executable, "-m", *shlex.split(last.replace("points-grpc", "points_grpc"))],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                    timeout=100,
                    cwd=tmp_path,
                    env=environment,
                )
                if lots := re.findall(r"^ *(\d{15,19})  ", done.stdout, re.MULTILINE):
                    found["lot"] = lots[0]

                if kind == "quietly":
                    assert 0 == done.returncode, done.stdout
                else:
                    assert settled(output) == settled(done.stdout), last
            elif kind == "terminal":
                screen = on_a_terminal(shlex.split(last.replace("points-grpc", "points_grpc")), tmp_path, environment)

                assert settled(text) in settled(re.sub(r"\x1b\[[0-9?]*\w|\r", "\n", screen)), screen
            else:
                path = tmp_path / kind.removeprefix("file: ")
                if path.exists():
                    # Customers get their ids at once, so that their order is not always the same.
                    assert sorted(settled(text).splitlines()) == sorted(settled(path.read_text()).splitlines())
                else:
                    path.write_text(f"{text}\n")
    finally:
        server.close()


def on_a_terminal(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What a command shows where standard error is a terminal; it is run as if for the first time."""
    for path in folder.glob("*.progress.json"):
        path.unlink()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=theirs, cwd=folder, env=environment
    )
    os.close(theirs)
    shown = read_to_end(ours)

    assert 0 == process.wait(timeout=60)
    return shown.decode()
