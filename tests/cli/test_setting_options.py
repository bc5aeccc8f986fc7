"""That commands which open a database take it, and the keys file, from where `serve` does: file, environment, flag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from points_grpc.cli.main import main
from points_grpc.cli.setting_options import DEFAULT_DATABASE
from points_grpc.settings import Settings
from points_grpc.storage.migrate import upgrade


def commands(group: click.Command = main, *path: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that are no groups."""
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, *path, name)
    else:
        yield " ".join(path), group


OPENING = [name for name, one in commands() if "database" in {parameter.name for parameter in one.params}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are run, with a file of settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.toml").write_text('database = "sqlite:///named.db"\nkeys_file = "named.keys"\n')
    return tmp_path


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def test_the_default_is_that_of_the_server() -> None:
    """It is written twice, so that most commands need no pydantic."""
    assert Settings.model_fields["database"].default == DEFAULT_DATABASE


@pytest.mark.parametrize("command", OPENING)
def test_whoever_opens_a_database_takes_the_file(command: str) -> None:
    """Every command with --database has --config."""
    assert "--config" in run(*command.split(), "--help").output


def test_the_file_names_the_database(folder: Path) -> None:
    """By flag, on either side of a group, and by variable; nothing is made at the default place."""
    config = ("--config", "points.toml")
    done = [
        run("migrate", *config),
        run("migrate", "status", *config),
        run("orgs", "create", "Acme", "--region", "IN", POINTS_GRPC_CONFIG="points.toml"),
        run("secrets", "create", *config),
        run("keys", "create", "--org", "1", "--client", "till", "--signed", *config),
        run("migrate", *config, "status", POINTS_GRPC_CONFIG="no.toml"),
        run("report", "daily", *config),
    ]

    assert [0] * len(done) == [one.exit_code for one in done], [one.output for one in done]
    assert {"named.db", "named.keys", "points.toml"} == {
        one.name for one in folder.iterdir() if not one.name.startswith("named.db-")
    }


def test_who_wins(folder: Path) -> None:
    """The flag over the environment, that over the file."""
    for name in ("flag", "env", "named"):
        upgrade(f"sqlite:///{name}.db")
        run("orgs", "create", name, "--region", "IN", "--database", f"sqlite:///{name}.db")
    config = ("--config", "points.toml")
    environment = {"POINTS_GRPC_DATABASE": "sqlite:///env.db"}
    listed = [
        run("orgs", "list", *config, "--database", "sqlite:///flag.db", **environment),
        run("orgs", "list", *config, **environment),
        run("orgs", "list", points_grpc_database="sqlite:///env.db"),
        run("orgs", "list", *config),
        run("orgs", "list", *config, POINTS_GRPC_DATABASE=""),
    ]

    assert ["flag", "env", "env", "named", "named"] == [
        next(name for name in ("flag", "env", "named") if name in one.output) for one in listed
    ]


READING = (
    "backup copy.db",
    "certificates list --org 1",
    "certificates revoke --org 1 till",
    "customers erased --org 1",
    "customers vacuum",
    "journal checkpoint journal.json",
    "journal export --org 1 journal.pgx",
    "keys list --org 1",
    "keys revoke --org 1 key",
    "migrate status",
    "orgs create Acme --region IN",
    "orgs list",
    "outbox list",
    "report daily",
    "serve --port 0",
    "tokens revoke --org 1 app",
    "verify",
)


@pytest.mark.parametrize("command", READING)
def test_a_mistyped_database_is_not_made(folder: Path, command: str) -> None:
    """Only `migrate` makes one, and `serve --dev`."""
    done = run(*command.split(), "--database", "sqlite:///typo.db")

    assert 1 == done.exit_code
    assert "Error: there is no database" in done.output or "found none" in done.output
    assert ["points.toml"] == [one.name for one in folder.iterdir()]


def test_a_wrong_file_is_a_misuse(folder: Path) -> None:
    """As of `serve`, with the setting and who set it."""
    (folder / "points.toml").write_text('databse = "sqlite:///named.db"\n')
    done = run("orgs", "list", "--config", "points.toml")

    assert (2, True) == (done.exit_code, "databse (file): Extra inputs" in " ".join(done.output.split()))


def test_a_mistyped_folder_is_not_made(folder: Path) -> None:
    """`migrate` makes the last folder of a path alone: an empty database in a new tree is not what was meant."""
    made = run("migrate", "--database", f"sqlite:///{folder}/new/points.db")
    done = run("migrate", "--database", f"sqlite:///{folder}/typo/new/points.db")
    told = f"Error: the folder of {folder}/typo/new/points.db cannot be made: no such file or directory\n"

    assert (0, 1, told) == (made.exit_code, done.exit_code, done.output)
    assert {"new", "points.toml"} == {one.name for one in folder.iterdir()}
