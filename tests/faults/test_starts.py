"""Starts that fail: an exit code, one sentence that says what to mend, and nothing left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from points_grpc.storage.lease import FileLease
from points_grpc.storage.migrate import upgrade

Prepare = Callable[[Path], list[str]]
"""Breaks something in a folder, and says how the server is started then."""


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A loopback port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a database that could be served."""
    path = tmp_path_factory.mktemp("migrated") / "points.db"
    upgrade(f"sqlite:///{path}")
    return path.read_bytes()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program, which is to fail."""
    command = [sys.executable, "-m", "points_grpc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence that it ended with: no stack trace, and nothing on standard output."""
    assert 1 == done.returncode
    assert "Traceback" not in done.stderr
    assert "" == done.stdout
    [told] = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert told.startswith("Error: ")
    return told.removeprefix("Error: ")


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """A file."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def a_file_in_the_way(folder: Path) -> str:
    """A path below something that is no folder."""
    return f"sqlite:///{written(folder / 'file', b'') / 'points.db'}"


BROKEN: dict[str, tuple[Prepare, str]] = {
    "no folder": (
        lambda folder: ["--database", f"sqlite:///{folder}/none/points.db"],
        "there is no database {folder}/none/points.db, this program needs schema revision 0001: migrate it",
    ),
    "folder is a file": (
        lambda folder: ["--database", a_file_in_the_way(folder), "--keys-file", f"{folder}/keys"],
        "there is no database {folder}/file/points.db, this program needs schema revision 0001: migrate it",
    ),
    "folder is a file, to be migrated": (
        lambda folder: ["--dev", "--database", a_file_in_the_way(folder)],
        "the folder of {folder}/file/points.db cannot be made: file exists",
    ),
    "no database": (
        lambda folder: ["--database", f"sqlite:///{written(folder / 'points.db', b'no database' * 1000)}"],
        "{folder}/points.db: the database cannot be read or written: the file is no database",
    ),
    "database away": (
        lambda folder: ["--database", "postgresql+psycopg://127.0.0.1:1/points", "--keys-file", f"{folder}/keys"],
        "postgresql+psycopg://127.0.0.1:1/points: the database cannot be reached",
    ),
    "keys are no JSON": (
        lambda folder: ["--keys-file", str(written(folder / "keys", b'{"active'))],
        "{folder}/keys is no keys file: it was not made by points-grpc, or is damaged",
    ),
    "keys are no text": (
        lambda folder: ["--keys-file", str(written(folder / "keys", b"\xff\xfe"))],
        "{folder}/keys is no keys file: it was not made by points-grpc, or is damaged",
    ),
    "keys can be read by others": (
        lambda folder: ["--keys-file", str(written(folder / "keys", b"{}", 0o644))],
        "{folder}/keys can be read by others: chmod 600 it, or rotate its keys if they leaked",
    ),
    "keys are a folder": (
        lambda folder: ["--keys-file", str(folder)],
        "the keys file {folder} cannot be read or made: is a directory",
    ),
    "no folder for the ready file": (
        lambda folder: ["--ready-file", f"{folder}/none/ready"],
        "the ready file {folder}/none/ready cannot be written: {folder}/none is no folder to write to",
    ),
    "not our address": (
        lambda _: ["--host", "192.0.2.1", "--plaintext"],
        "cannot serve on 192.0.2.1:0: cannot assign requested address",
    ),
}


@pytest.mark.ci
@pytest.mark.parametrize(
    "broken", [pytest.param(one, marks=[pytest.mark.long] if place > 3 else []) for place, one in enumerate(BROKEN)]
)
def test_a_start_that_fails_says_why(tmp_path: Path, migrated: bytes, broken: str) -> None:
    """One sentence; no writer is left that holds the database, no ready file, and no keys that nobody asked for."""
    prepare, expected = BROKEN[broken]
    database = written(tmp_path / "served.db", migrated)
    ready = tmp_path / "ready"
    defaults = ["serve", "--port", "0", "--database", f"sqlite:///{database}", "--ready-file", str(ready)]
    found = sentence(run(*defaults, *prepare(tmp_path)))

    assert expected.replace("{folder}", str(tmp_path)) == found
    assert not list(tmp_path.glob("ready*"))
    assert not list(tmp_path.glob("*.keys.json"))
    FileLease(database, wait_s=5.0).close()


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_in_use(tmp_path: Path, migrated: bytes, taken: int, option: str) -> None:
    """Is named, before any lease is taken."""
    database = written(tmp_path / "served.db", migrated)
    found = sentence(run("serve", "--port", "0", "--database", f"sqlite:///{database}", option, str(taken)))

    what = "serve" if option == "--port" else "serve metrics"
    assert f"cannot {what} on 127.0.0.1:{taken}: address already in use" == found
    assert not database.with_name("served.db.lock").exists()


@pytest.mark.long
def test_tools_say_it_in_a_sentence_too(tmp_path: Path) -> None:
    """What looks at a database that is none, or has no schema, is told so."""
    garbage = f"sqlite:///{written(tmp_path / 'garbage.db', b'no database' * 1000)}"
    empty = f"sqlite:///{tmp_path / 'empty.db'}"

    for tool in (("verify",), ("migrate",), ("migrate", "status"), ("orgs", "list"), ("report", "daily")):
        told = sentence(run(*tool, "--database", garbage))
        assert f"{tmp_path / 'garbage.db'}: the database cannot be read or written: the file is no database" == told
    for tool in (("verify",), ("orgs", "list"), ("report", "daily")):
        assert f"there is no database {tmp_path / 'empty.db'}" in sentence(run(*tool, "--database", empty))
