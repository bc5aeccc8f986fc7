"""docs/operations.md: its examples are run, its tables of commands and alerts are complete, its files exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from points_grpc.cli.main import main
from points_grpc.storage.migrate import upgrade
from running import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()


def commands(group: click.Command = main, *path: str) -> Iterator[str]:
    """The names of all commands that are no groups."""
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, *path, name)
    else:
        yield " ".join(path)


COMMANDS = sorted(commands())


def run(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the program."""
    return subprocess.run(
        [sys.executable, "-m", "points_grpc", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
        env={**os.environ, **environment},
    )


def test_every_command_has_its_exit_codes_told() -> None:
    """Each command has a row, and each row is a command."""
    section = PAGE.partition("| command | 1 means |")[2].partition("\n\n")[0]

    assert COMMANDS == sorted(re.findall(r"^\| `([a-z ]+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_misuse_is_2_and_help_is_0(command: str) -> None:
    """Of every command, in this process: nothing is opened before."""
    from click.testing import CliRunner

    misused = CliRunner().invoke(main, [*command.split(), "--no-such-option"])
    helped = CliRunner().invoke(main, [*command.split(), "--help"])

    assert (2, 0) == (misused.exit_code, helped.exit_code)


NOWHERE = ("--database", "sqlite:///no-folder/points.db")
FAILING = {
    "serve": ("--port", "0", *NOWHERE),
    "migrate": NOWHERE,
    "migrate up": NOWHERE,
    "migrate status": NOWHERE,
    "backup": (*NOWHERE, "copy.db"),
    "orgs create": (*NOWHERE, "Acme", "--region", "IN"),
    "orgs list": NOWHERE,
    "keys create": (*NOWHERE, "--org", "1", "--client", "till"),
    "keys list": (*NOWHERE, "--org", "1"),
    "keys revoke": ("--org", "1", "pk"),
    "certificates create": (*NOWHERE, "--org", "1", "--client", "till", "till.example"),
    "certificates list": (*NOWHERE, "--org", "1"),
    "certificates revoke": ("--org", "1", "till.example"),
    "tokens revoke": (*NOWHERE, "--org", "1", "till"),
    "outbox list": NOWHERE,
    "outbox show": (*NOWHERE, "--org", "1", "1"),
    "events list": NOWHERE,
    "events dead": (*NOWHERE, "--org", "1"),
    "events show": (*NOWHERE, "--org", "1", "1"),
    "events retry": (*NOWHERE, "--org", "1", "--all"),
    "partitions make": NOWHERE,
    "partitions list": NOWHERE,
    "retention": NOWHERE,
    "verify": NOWHERE,
    "journal checkpoint": (*NOWHERE, "checkpoint.json"),
    "journal export": (*NOWHERE, "--org", "1", "journal.pgx"),
    "journal keys": ("--keys-file", "no-keys.json"),
    "journal fetch": ("journal.pgx", "--token", "pk_a_b", "--timeout", "0.2"),
    "report liability": NOWHERE,
    "report daily": NOWHERE,
    "healthcheck": ("--timeout", "0.2"),
    "call": ("GetServerInfo", "--token", "pk_a_b", "--timeout", "0.2"),
    "codes": ("1",),
    "import customers": ("customers.csv", "--token", "pk_a_b", "--wait", "0"),
    "import points": ("points.csv", "--token", "pk_a_b", "--wait", "0"),
    "import balances": ("balances.csv", "--token", "pk_a_b", "--wait", "0"),
    "wallet show": ("1", "--token", "pk_a_b"),
    "trace": ("1", "--token", "pk_a_b"),
}
TOLD_IN_THE_OUTPUT = {"migrate status"}
"""Commands that have not failed where they exit 1: what they found is another thing than what is needed."""
CALLING = {"healthcheck", "call", "wallet show", "trace", "journal fetch"} | {
    name for name in FAILING if name.startswith("import ")
}
FILES = {
    "customers.csv": "customer_id\n1\n",
    "points.csv": "customer_id,points,source\n1,1,GOODWILL\n",
    "balances.csv": "customer_id,balance,expires\n1,1,never\n",
}


IN_CI = {"serve", "migrate up", "verify", "import points"}
"""The others are alike, and left to the long form."""


@pytest.mark.ci
@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=[] if one in IN_CI else [pytest.mark.long]) for one in FAILING]
)
def test_failure_is_1_with_a_sentence(command: str, tmp_path: Path) -> None:
    """What can be mended is told without a stack trace."""
    (tmp_path / "no-folder").write_text("a file stands where the folder should be")
    upgrade(f"sqlite:///{tmp_path}/points.db")
    address = ("--address", f"127.0.0.1:{free_port()}") if command in CALLING else ()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    done = run(*command.split(), *FAILING[command], *address, folder=tmp_path)

    assert 1 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "" != (done.stdout if command in TOLD_IN_THE_OUTPUT else done.stderr).strip()


@pytest.mark.ci
def test_the_example_of_the_settings(tmp_path: Path) -> None:
    """The file and the command as printed show what stands beneath; the columns are as wide as they need."""
    [(name, text)] = re.findall(r"<!-- file: ([\w.]+) -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / name).write_text(text)
    [(command, output)] = re.findall(r"<!-- example: config -->\n```\n(.*?)\n```\n\n```\n(.*?)\n```", PAGE, re.DOTALL)
    variable, _, line = command.replace("\\\n", " ").partition(" ")
    name, _, value = variable.partition("=")
    done = run(*line.split()[1:], folder=tmp_path, **{name: value})
    shown = [line.split() for line in done.stdout.splitlines()]

    assert [line.split() for line in output.splitlines()] == shown[: len(output.splitlines())]
    assert "hunter2" not in done.stdout
    assert ["metrics_port", "9464", "file", "points.toml"] in shown


def test_the_completion_as_printed() -> None:
    """The shell gets a script; and what it would ask for is answered."""
    [printed] = re.findall(r"<!-- example: completion -->\n```\n(.*?)\n```", PAGE)
    _, variable, shell = re.split(r"\$\(|=| points-grpc", printed)[:3]
    script = run(**{variable: shell}).stdout
    answered = run(**{variable: "bash_complete", "COMP_WORDS": "points-grpc config s", "COMP_CWORD": "2"}).stdout

    assert "complete -o nosort -F _points_grpc_completion points-grpc" in script
    assert "plain,show" == answered.strip()


def test_the_completion_of_imports() -> None:
    """Commands and options of `import` are completed, too."""
    asked = {"_POINTS_GRPC_COMPLETE": "bash_complete"}
    kinds = run(**asked, COMP_WORDS="points-grpc import ", COMP_CWORD="2").stdout
    options = run(**asked, COMP_WORDS="points-grpc import points --dry", COMP_CWORD="3").stdout

    assert ["plain,balances", "plain,customers", "plain,points"] == sorted(kinds.split())
    assert ["plain,--dry-run"] == options.split()


def test_what_the_page_names_is_there() -> None:
    """Every file of the repository that is linked or named."""
    named = set(re.findall(r"\]\(\.\./([\w./-]+)\)", PAGE)) | set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))

    assert [] == [one for one in sorted(named) if not (ROOT / one).exists()]


def test_every_alert_has_its_advice() -> None:
    """The alerts of the file are those of the page."""
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())

    assert alerts == re.findall(r"^\| `(Points\w+)` \|", PAGE, re.MULTILINE)
