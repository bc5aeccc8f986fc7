"""No command makes a keys file beside what it does: what is signed by a key that no server knows is worth nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli import keys_file
from points_grpc.cli.main import main
from points_grpc.storage.migrate import upgrade

SIGNING = ("keys create --org 1 --client till --signed", "journal checkpoint checkpoint.json")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are run: a database with an organisation, and no keys file."""
    monkeypatch.chdir(tmp_path)
    upgrade("sqlite:///points.db")
    run("orgs create Acme --region IN")
    return tmp_path


def run(command: str, *more: str) -> Result:
    return CliRunner().invoke(main, [*command.split(), *more, "--database", "sqlite:///points.db"])


def keys_made() -> int:
    """How many keys the organisation has."""
    return len(run("keys list --org 1").output.splitlines()) - 1


@pytest.mark.parametrize("keys", [[], ["--keys-file", "typo.json"]], ids=["beside the database", "mistyped"])
@pytest.mark.parametrize("command", SIGNING)
def test_a_keys_file_that_is_not_there_is_told(folder: Path, command: str, keys: list[str]) -> None:
    """With what makes one; neither file nor key nor checkpoint is there afterwards."""
    before = {one.name for one in folder.iterdir()}
    done = run(command, *keys)
    path = "typo.json" if keys else str(folder / "points.db.keys.json")

    assert 1 == done.exit_code
    assert f"Error: the keys file {path} cannot be read: no such file or directory" in done.output
    assert "points-grpc secrets create" in done.output
    assert before == {one.name for one in folder.iterdir()}
    assert 0 == keys_made()


@pytest.mark.parametrize("command", SIGNING)
def test_with_the_keys_of_the_server_it_is_done(folder: Path, command: str) -> None:
    """As soon as the file is there, whoever made it."""
    run("secrets create")

    assert 0 == run(command).exit_code
    assert 1 == len(keys_file.load(folder / "points.db.keys.json").keys)
