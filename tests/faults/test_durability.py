"""An answer is given after its commit was synced to the disk; proven by counting, and the count is proven to bite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import count_syncs
import pytest

from points_grpc.storage.engine import Database, NotDurable
from points_grpc.storage.migrate import upgrade
from points_grpc.storage.repository import SqlRepository

TRANSFERS = 50
COMPILER = shutil.which("cc")
METHODS = [
    *(["vfs"] if count_syncs.loaded_library() else []),
    *(["preload"] if COMPILER else []),
]
"""How syncs can be counted here: under SQLite's own file access, if it is a shared library; under the C library."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database with the schema and nothing else."""
    path = tmp_path_factory.mktemp("empty") / "points.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts fsync and fdatasync."""
    folder = tmp_path_factory.mktemp("shim")
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(count_syncs.SHIM)
    if COMPILER:
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def counted(path: Path, shim: Path, method: str, synchronous: str) -> dict[str, Any]:
    """What lone transfers on a file come to."""
    command = [sys.executable, count_syncs.__file__, str(path), synchronous, str(TRANSFERS), method]
    tests = str(Path(__file__).parents[1])
    path_of_modules = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = (
        os.environ | {"PYTHONPATH": path_of_modules} | ({"LD_PRELOAD": str(shim)} if method == "preload" else {})
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    assert 0 == done.returncode, done.stderr
    print(method, synchronous, done.stdout.strip())
    return json.loads(done.stdout)


def assert_durable(found: dict[str, Any]) -> None:
    """What must hold of a database that keeps what it acknowledged."""
    assert ("wal", 2) == (found["journal_mode"], found["synchronous"])
    assert TRANSFERS == found["commits"]
    assert found["syncs"] >= found["commits"]
    assert found["fewest_before_an_answer"] >= 1


def test_syncs_can_be_counted_here() -> None:
    """One way of counting at least works on this machine."""
    assert METHODS


@pytest.mark.parametrize("method", METHODS)
def test_every_commit_is_synced_before_its_answer(empty: Path, tmp_path: Path, shim: Path, method: str) -> None:
    """The writer's own connection says WAL and FULL, and every lone transfer is synced before it is answered."""
    path = Path(shutil.copy(empty, tmp_path))

    assert_durable(counted(path, shim, method, "FULL"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_the_count_bites(empty: Path, tmp_path: Path, shim: Path, method: str, synchronous: str) -> None:
    """Without `synchronous=FULL` there are fewer syncs than commits, and the test above would fail."""
    found = counted(Path(shutil.copy(empty, tmp_path)), shim, method, synchronous)

    assert TRANSFERS == found["commits"]
    assert found["syncs"] < found["commits"]
    assert 0 == found["fewest_before_an_answer"]
    with pytest.raises(AssertionError):
        assert_durable(found)


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_store_that_is_not_durable_is_refused(empty: Path, tmp_path: Path, synchronous: str) -> None:
    """Nobody serves a database that may lose what it acknowledged, unless they say so."""
    database = Database(f"sqlite:///{shutil.copy(empty, tmp_path)}", synchronous=synchronous)
    with pytest.raises(NotDurable, match=f"synchronous={synchronous}"):
        SqlRepository(database)
    repository = SqlRepository(database, durable=False)

    assert synchronous == repository.durability.synchronous
    assert not repository.durability.survives_power_loss
    repository.close()
    database.close()
