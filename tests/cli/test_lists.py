"""What commands list, as tables with names of columns and as JSON; and what `verify` tells while and after it looks."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.main import main
from points_grpc.cli.verifying import telling
from points_grpc.storage import schema
from points_grpc.storage.engine import Database
from points_grpc.storage.migrate import upgrade
from points_grpc.storage.verify import INVARIANTS, verify


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--database", "sqlite:///points.db"])


def document(*arguments: str) -> dict[str, Any]:
    """The one document that a command prints."""
    done = run(*arguments, "--json")
    assert 0 == done.exit_code, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database: an organisation, a key, a certificate."""
    folder = tmp_path_factory.mktemp("lists")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        upgrade("sqlite:///points.db")
        run("orgs", "create", "Acme", "--region", "IN")
        run("secrets", "create")
        run("keys", "create", "--org", "1", "--client", "pos", "--till", "7", "--signed")
        run("certificates", "create", "--org", "1", "--client", "till", "till.ours")
    return folder


@pytest.fixture(autouse=True)
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are run in that folder."""
    monkeypatch.chdir(made)


def test_tables() -> None:
    """The names of the columns, then a row for each."""
    listed = {
        name: [line.split() for line in run(*name.split(), *more).output.splitlines()]
        for name, more in (
            ("orgs list", ()),
            ("keys list", ("--org", "1")),
            ("certificates list", ("--org", "1")),
        )
    }

    assert [["org", "name", "region", "state"], ["1", "Acme", "IN", "in", "force"]] == listed["orgs list"]
    assert ["key", "client", "store", "till", "role", "state", "used", "demands"] == listed["keys list"][0]
    assert ["pos", "-", "7", "operator", "in", "force", "never", "signed"] == listed["keys list"][1][1:]
    assert ["till.ours", "till", "-", "-", "operator", "-"] == listed["certificates list"][1]


def test_json() -> None:
    """Each list as one document; of a key neither secret nor hash."""
    [org] = document("orgs", "list")["orgs"]
    [key] = document("keys", "list", "--org", "1")["keys"]
    [certificate] = document("certificates", "list", "--org", "1")["certificates"]

    assert (1, "Acme", False) == (org["org_id"], org["name"], org["paused"])
    assert ("pos", "7", True, None) == (key["client"], key["till"], key["signs"], key["revoked_at"])
    assert [] == [name for name in key if "secret" in name or "hash" in name]
    assert ("till.ours", "till") == (certificate["name"], certificate["client"])
    assert {"erased": []} == document("customers", "erased", "--org", "1")
    assert {"found": schema.REVISION, "needed": schema.REVISION} == document("migrate", "status")


def test_verify_as_json() -> None:
    """Every invariant with how many subjects it has; what differs would stand beside it."""
    found = document("verify")

    assert {name for one in INVARIANTS for name in one.names} == set(found["checked"])
    assert (True, []) == (found["sound"], found["differences"])


def test_verify_tells_each_look() -> None:
    """What is looked at, and of how many looks it is which."""
    told: list[tuple[str, int, int]] = []
    database = Database("sqlite:///points.db")
    verify(database, tell=lambda *look: told.append(look))
    database.close()
    looks = len(INVARIANTS)

    assert [(number, looks) for number in range(1, looks + 1)] == [one[1:] for one in told]
    assert all(what.startswith("organisation 1, ") for what, _, _ in told)


def test_progress_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Not more often than every 5 seconds, on standard error."""
    ticks = count(step=3)
    tell = telling(lambda: float(next(ticks)))
    for number in range(1, 5):
        tell("organisation 1, lots", number, 4)

    assert [
        "verify: 2 of 4, organisation 1, lots, 0:06 so far",
        "verify: 4 of 4, organisation 1, lots, 0:12 so far",
    ] == (capsys.readouterr().err.splitlines())


NAMING = (
    "keys list",
    "certificates list",
    "customers erased",
    "outbox list",
    "outbox show 1",
    "events list",
    "events dead",
    "events show 1",
    "events retry --all",
    "report liability",
    "report daily",
)


@pytest.mark.parametrize("command", NAMING)
def test_an_organisation_that_is_not_there_is_a_misuse(command: str) -> None:
    """An empty table would say that it has nothing."""
    done = run(*command.split(), "--org", "9")

    assert (2, True) == (done.exit_code, "there is no organisation 9" in done.output), done.output
