"""A setting that is wrong is a misuse, whoever finds it: exit code 2, after which nobody starts it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from points_grpc.storage.migrate import upgrade

POSTGRES = ("--database", "postgresql+psycopg://nobody@127.0.0.1:1/points", "--keys-file", "keys.json")
RELAY = 'smtp_host = "mail.example.com"\n'
GATEWAY = 'otp_webhook_url = "{url}"\notp_webhook_secret_file = "secret"\n'

WRONG = {
    "not loopback": (("--host", "0.0.0.0"), "", "0.0.0.0 is not a loopback address"),
    "a certificate alone": (("--tls-certificate", "server.crt"), "", "TLS takes both"),
    "an issuer's keys alone": (("--jwt-keys", "keys.jwks"), "", "tokens of an issuer take all of"),
    "no URL": (("--database", "foo"), "", "that is no URL of a database"),
    "no port": (("--database", "postgresql+psycopg://db:port/points"), "", "that is no URL of a database"),
    "another database": (("--database", "mysql://db/points"), "", "unsupported database: mysql"),
    "unknown parameters": (
        ("--database", "postgresql+psycopg://db/points?bogus=1&connect_timeout=5"),
        "",
        "parameters that libpq does not know: bogus",
    ),
    "no keys file": (POSTGRES[:2], "", "name the file with the secret keys"),
    "no sender": ((), RELAY, "smtp_from: name the address"),
    "http": ((), GATEWAY.format(url="http://gateway.example.com/"), "http is for a gateway on this host"),
    "credentials": ((), GATEWAY.format(url="https://a:b@gateway.example.com/"), "no credentials in the address"),
    "a short secret": ((), GATEWAY.format(url="https://gateway.example.com/"), "of at least 32 characters"),
    "metrics at the same port": (("--port", "50099", "--metrics-port", "50099"), "", "the metrics would have the port"),
    "metrics at every address": (
        ("--port", "50099", "--metrics-port", "50099", "--metrics-host", "0.0.0.0"),
        "",
        "the metrics would have the port",
    ),
    "of a worker": ((*POSTGRES, "--workers", "2", "--jwt-keys", "keys.jwks"), "", "tokens of an issuer take all of"),
    "metrics of a worker": (
        (*POSTGRES, "--workers", "2", "--port", "50099", "--metrics-port", "50098"),
        "",
        "the metrics would have the port",
    ),
}
IN_CI = {"not loopback", "a short secret", "of a worker", "metrics of a worker"}


@pytest.mark.ci
@pytest.mark.parametrize(
    "wrong", [pytest.param(one, marks=[] if one in IN_CI else [pytest.mark.long]) for one in WRONG]
)
def test_a_wrong_setting_is_a_misuse(tmp_path: Path, wrong: str) -> None:
    """Told in a sentence, of one server and of several workers; nothing was done."""
    flags, settings, expected = WRONG[wrong]
    upgrade(f"sqlite:///{tmp_path}/points.db")
    (tmp_path / "points.toml").write_text(settings)
    (tmp_path / "secret").write_text("short\n")
    (tmp_path / "secret").chmod(0o600)
    before = {one.name for one in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "points_grpc", "serve", "--config", "points.toml", "--port", "0", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 2 == done.returncode, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert before == {one.name for one in tmp_path.iterdir()}


@pytest.mark.ci
def test_a_file_that_cannot_be_read_is_no_misuse(tmp_path: Path) -> None:
    """It may be there at the next start."""
    upgrade(f"sqlite:///{tmp_path}/points.db")
    files = ("--tls-certificate", "server.crt", "--tls-key", "server.key")
    done = subprocess.run(
        [sys.executable, "-m", "points_grpc", "serve", "--port", "0", *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (1, False) == (done.returncode, "Traceback" in done.stderr)
