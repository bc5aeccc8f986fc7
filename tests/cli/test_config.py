"""`config show`: every setting with its value and who set it, secrets masked; and that `serve` gets the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from points_grpc.cli.config import show as show_command
from points_grpc.cli.configuring import Source, configure, shown
from points_grpc.cli.main import main, serve
from points_grpc.masking import MASK
from points_grpc.settings import Settings
from points_grpc.storage.engine import Database


def show(*arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["config", "show", *arguments], env=dict(environment or {}))


def rows(result: Result) -> dict[str, tuple[object, str, str]]:
    """Value, source and where from, by setting."""
    assert 0 == result.exit_code, result.output
    return {one["setting"]: (one["value"], one["source"], one["from"]) for one in json.loads(result.output)["settings"]}


def test_who_set_what(tmp_path: Path) -> None:
    """A flag wins over the environment, that over the file, that over the default; each is named."""
    file = tmp_path / "points.toml"
    file.write_text('port = 1\nhost = "::1"\nbatch_max = 7\nlog_calls = false\nkeys_file = "/k.json"\n')
    environment = {"POINTS_GRPC_PORT": "2", "points_grpc_host": "127.0.0.2", "POINTS_GRPC_READERS": "3"}
    found = rows(show("--config", str(file), "--port", "4", "--json", environment=environment))

    assert list(Settings.model_fields) == list(found)
    assert (4, "flag", "--port") == found["port"]
    assert ("127.0.0.2", "env", "POINTS_GRPC_HOST") == found["host"]
    assert (3, "env", "POINTS_GRPC_READERS") == found["readers"]
    assert (7, "file", str(file)) == found["batch_max"]
    assert (False, "file", str(file)) == found["log_calls"]
    assert ("/k.json", "file", str(file)) == found["keys_file"]
    assert (10.0, "default", "") == found["drain_s"]


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """POINTS_GRPC_CONFIG is --config."""
    file = tmp_path / "points.toml"
    file.write_text("drain_s = 3.5\n")

    assert (3.5, "file", str(file)) == rows(show("--json", environment={"POINTS_GRPC_CONFIG": str(file)}))["drain_s"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1\n", "prot (file): Extra inputs are not permitted"),
        ("port = 70000\n", "port (file): Input should be less than or equal to 65535"),
        ("port =\n", "points.toml: no TOML: "),
    ],
)
def test_a_wrong_file_is_a_misuse(tmp_path: Path, text: str, says: str) -> None:
    """What is wrong is named, with who set it, for `serve` and `config show` alike."""
    file = tmp_path / "points.toml"
    file.write_text(text)
    for command in (["config", "show"], ["serve"]):
        result = CliRunner().invoke(main, [*command, "--config", str(file)])

        assert 2 == result.exit_code
        assert says in " ".join(result.output.split())


def test_a_file_that_is_not_there_is_a_misuse(tmp_path: Path) -> None:
    """It was named, so it is wanted."""
    result = show("--config", str(tmp_path / "points.toml"))

    assert (2, True) == (result.exit_code, "No such file" in result.output)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////var/lib/p.db", "sqlite:////var/lib/p.db"),
        ("postgresql+psycopg://me@db/points", "postgresql+psycopg://me@db/points"),
        ("postgresql+psycopg://me:s3cret@db/points", f"postgresql+psycopg://me:{MASK}@db/points"),
        ("postgresql+psycopg://me:s:3c@db/points", f"postgresql+psycopg://me:{MASK}@db/points"),
        (
            "postgresql+psycopg://db/points?user=me&password=s3cret",
            f"postgresql+psycopg://db/points?user=me&password={MASK}",
        ),
        ("postgresql+psycopg://me:s/3+c?r=e@t/a@db/points", f"postgresql+psycopg://me:{MASK}@db/points"),
        ("postgresql+psycopg://me@org:s3cret@db/points", f"postgresql+psycopg://me@org:{MASK}@db/points"),
        (
            "postgresql+psycopg://db/points?options=-c%20password=s3cret&connect_timeout=5",
            f"postgresql+psycopg://db/points?options={MASK}&connect_timeout=5",
        ),
        ("postgresql+psycopg://db/points?pass%77ord=s3cret", f"postgresql+psycopg://db/points?pass%77ord={MASK}"),
        ("postgresql+psycopg:/me:s3cret@db/points", f"{MASK}@db/points"),
        ("//me:s3cret@db", f"{MASK}@db"),
        ("me:s3cret@db", f"{MASK}@db"),
        ("me:s3://cret@db", f"{MASK}@db"),
        ("host=db password=s3cret user=me", f"host={MASK}"),
        ("password=s3cret host=db", f"password={MASK}"),
        ("sqlite:////var/a@b/p.db", "sqlite:////var/a@b/p.db"),
    ],
)
def test_passwords_of_urls_are_masked(url: str, told: str) -> None:
    """Everything else of a URL is shown, for people and programs."""
    assert told == rows(show("--json", "--database", url))["database"][0]
    assert told in show("--database", url).output


def test_messages_name_a_database_without_its_password() -> None:
    """The same masks: what commands and logs call a database has no password in it, wherever that stood."""
    places = [
        Database(f"postgresql+psycopg://{url}").backend.place
        for url in ("me:s/3c@db/points", "me@db/points?password=s3c&connect_timeout=5")
    ]

    assert [
        f"postgresql+psycopg://me:{MASK}@db/points",
        f"postgresql+psycopg://me@db/points?connect_timeout=5&password={MASK}",
    ] == places


def test_secrets_are_masked_by_type_and_name() -> None:
    """Settings to come are masked, too; paths of files with secrets are no secrets."""
    assert [MASK, MASK, MASK] == [shown("a", SecretStr("s")), shown("smtp_password", "s"), shown("webhook_secret", "s")]
    assert ["/run/secret", None, 5] == [
        shown("keys_file", Path("/run/secret")),
        shown("smtp_password", None),
        shown("a", 5),
    ]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://sms.example", "https://sms.example"),
        ("https://sms.example:8443/", "https://sms.example:8443/"),
        ("https://sms.example/hooks/T0/s3cret", f"https://sms.example/{MASK}"),
        ("https://sms.example?key=s3cret", f"https://sms.example/{MASK}"),
        ("https://me:s3cret@sms.example/s3cret", f"https://me:{MASK}@sms.example/{MASK}"),
    ],
)
def test_of_a_gateway_only_the_host_is_shown(url: str, told: str) -> None:
    """The path of a webhook is often the key to it."""
    assert told == shown("otp_webhook_url", url)


def test_config_show_takes_the_flags_of_serve() -> None:
    """All but those that set no setting."""
    flags = {one.name for one in serve.params} - {"dev"}

    assert flags | {"as_json"} == {one.name for one in show_command.params}
    assert flags - {"config_file"} <= set(Settings.model_fields)


def test_what_is_shown_is_what_serve_gets(tmp_path: Path) -> None:
    """Both put settings together in one place."""
    file = tmp_path / "points.toml"
    file.write_text("readers = 9\n")
    found = configure({"port": 0, "host": None}, file)

    assert (0, "127.0.0.1", 9) == (found.settings.port, found.settings.host, found.settings.readers)
    assert Source.FILE is found.sources["readers"]


def test_the_page_has_the_defaults_in_force() -> None:
    """The generated table says what `config show` says with nothing set."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    table = page.partition("generated: settings -->")[2].partition("<!-- end -->")[0]
    told = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (?:`([^`]*)`)? ?\|", table, re.MULTILINE))
    fields = Settings.model_fields.items()

    assert {name: "" if one.default is None else str(one.default).lower() for name, one in fields} == {
        name: default.lower() for name, default in told.items()
    }


def test_an_empty_variable_sets_nothing(tmp_path: Path) -> None:
    """The file has its say, and who set it is told right."""
    file = tmp_path / "points.toml"
    file.write_text("port = 7\n")
    found = rows(show("--config", str(file), "--json", environment={"POINTS_GRPC_PORT": "", "POINTS_GRPC_READERS": ""}))

    assert (7, "file", str(file)) == found["port"]
    assert (4, "default", "") == found["readers"]


def test_a_variable_that_is_no_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, with the name that was meant; variables of commands are none of them."""
    for name in ("POINTS_GRPC_PORTT", "POINTS_GRPC_TOKEN", "POINTS_GRPC_CONFIG", "POINTS_GRPC_ZZZZZZZZZZ"):
        monkeypatch.setenv(name, "")
    result = show("--json")

    assert 0 == result.exit_code
    assert [
        "points-grpc: POINTS_GRPC_PORTT is no setting: POINTS_GRPC_PORT?",
        "points-grpc: POINTS_GRPC_ZZZZZZZZZZ is no setting",
    ] == [line for line in result.output.splitlines() if line.startswith("points-grpc: ")]
