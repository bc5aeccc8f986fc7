"""Names, seconds and addresses on the command line: what cannot be meant is a misuse, and nothing is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.main import main
from points_grpc.storage.migrate import upgrade

NO_NAMES = {"empty": "", "blank": "  ", "lines": "a\nb", "escape": "a\x1b[31mb", "long": "x" * 300}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are run: a database with an organisation."""
    monkeypatch.chdir(tmp_path)
    upgrade("sqlite:///points.db")
    run("orgs", "create", "Acme", "--region", "IN")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", NO_NAMES.values(), ids=NO_NAMES.keys())
def test_a_name_that_is_none(text: str) -> None:
    """Is refused wherever it would stand in the audit log, and not repeated."""
    done = [
        run("orgs", "create", text, "--region", "IN"),
        run("keys", "create", "--org", "1", "--client", text),
        run("certificates", "create", "--org", "1", "--client", text, "till.ours"),
        run("certificates", "create", "--org", "1", "--client", "till", text),
        run("tokens", "revoke", "--org", "1", text),
    ]
    if text:
        done.append(run("keys", "create", "--org", "1", "--client", "till", "--store", text))
        done.append(run("certificates", "create", "--org", "1", "--client", "till", "--till", text, "till.ours"))

    assert [2] * len(done) == [one.exit_code for one in done]
    assert not [one.output for one in done if "\x1b" in one.output]
    assert 1 == len(json.loads(run("orgs", "list", "--json").output)["orgs"])
    assert [] == json.loads(run("keys", "list", "--org", "1", "--json").output)["keys"]


@pytest.mark.usefixtures("folder")
def test_names_that_are_some() -> None:
    """Letters of any language, spaces within, 128 of them; no store and no till."""
    for name in ("Ünal & Söhne", "x" * 128, "कार्यालय"):
        assert 0 == run("keys", "create", "--org", "1", "--client", name, "--store", "", "--till", "").exit_code
    host = ".".join(["x" * 60] * 4)

    assert 0 == run("certificates", "create", "--org", "1", "--client", "till", host).exit_code


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "99999999999", "soon"])
@pytest.mark.parametrize(
    "command", [["healthcheck"], ["call", "GetServerInfo", "--token", "t"], ["journal", "fetch", "j", "--token", "t"]]
)
def test_seconds_that_are_none(folder: Path, command: list[str], seconds: str) -> None:
    """A number above 0, and a day at most."""
    done = run(*command, "--timeout", seconds)

    assert (2, True) == (done.exit_code, "--timeout" in done.output), done.output
    assert not (folder / "j").exists()


@pytest.mark.parametrize("address", ["", "127.0.0.1:99999", "127.0.0.1:port", "http://127.0.0.1:50051", "host:-1"])
@pytest.mark.parametrize("command", [["healthcheck"], ["call", "GetServerInfo", "--token", "t"]])
def test_an_address_that_is_none(command: list[str], address: str) -> None:
    """Is a misuse of whatever calls a server."""
    done = run(*command, "--address", address)

    assert (2, True) == (done.exit_code, "--address" in done.output), done.output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "command",
    [
        ["outbox", "show", "--org", "1"],
        ["events", "show", "--org", "1"],
        ["events", "retry", "--org", "1"],
        ["trace", "--token", "t"],
        ["journal", "export", "j", "--org"],
        ["journal", "checkpoint", "c", "--org"],
        ["export", "lots", "l.csv", "--program"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_an_id_that_is_none(command: list[str]) -> None:
    """Ids have 64 bits."""
    done = run(*command, str(2**63))

    assert 2 == done.exit_code, done.output
    assert "is not in the range" in " ".join(done.output.split())
