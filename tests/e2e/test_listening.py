"""Where a server listens, and with what: plain text leaves the machine only if somebody asked for it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from authority import Authority, Pair, localhost
from points_grpc.cli.listening import address_of, exempt_of, tls_of
from points_grpc.client import NotAnswered, PointsClient, Retries, tls
from points_grpc.rpc.logs import LineSink, make_logger
from points_grpc.settings import Settings
from points_grpc.v1.catalog_service_pb2 import GetServerInfoRequest
from running import RunningServer, free_port

PLAIN, ENCRYPTED = "plain", "encrypted"
NOT_LOOPBACK = "{host} is not a loopback address: give --tls-certificate and --tls-key, or ask for --plaintext"
BOTH = "TLS takes both --tls-certificate and --tls-key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server", localhost())


@pytest.mark.parametrize(
    ("given", "files", "becomes"),
    [
        ({}, "", PLAIN),
        ({"host": "localhost"}, "", PLAIN),
        ({"host": "127.0.0.9"}, "", PLAIN),
        ({"host": "::1"}, "", PLAIN),
        ({"host": "0.0.0.0"}, "", NOT_LOOPBACK),
        ({"host": "::"}, "", NOT_LOOPBACK),
        ({"host": "192.0.2.1"}, "", NOT_LOOPBACK),
        ({"host": "points.example"}, "", NOT_LOOPBACK),
        ({"host": "0.0.0.0", "plaintext": True}, "", PLAIN),
        ({"host": "0.0.0.0"}, "certificate key", ENCRYPTED),
        ({"host": "0.0.0.0"}, "certificate key ca", ENCRYPTED),
        ({}, "certificate key", ENCRYPTED),
        ({}, "certificate", BOTH),
        ({}, "key", BOTH),
        ({}, "ca", BOTH),
        ({"host": "0.0.0.0", "plaintext": True}, "ca", BOTH),
        ({"plaintext": True}, "certificate key", "--plaintext and --tls-certificate exclude each other"),
    ],
)
def test_what_is_bound(authority: Authority, pair: Pair, given: dict[str, Any], files: str, becomes: str) -> None:
    """Loopback, TLS, or an explicit wish: anything else is refused with a sentence."""
    paths = {"certificate": pair.certificate, "key": pair.key, "ca": authority.file}
    names = {"certificate": "tls_certificate", "key": "tls_key", "ca": "tls_client_ca"}
    settings = Settings(**given, **{names[one]: paths[one] for one in files.split()})
    log = make_logger(LineSink(sys.stderr.buffer))
    try:
        found = ENCRYPTED if tls_of(settings, log) else PLAIN
    except ValueError as error:
        found = str(error)

    assert found.startswith(becomes.format(host=settings.host))


def test_addresses() -> None:
    """IPv6 is written as gRPC reads it; a port that the system chose takes the place of 0."""
    assert "127.0.0.1:50051" == address_of(Settings())
    assert "[::1]:7" == address_of(Settings(host="::1", port=0), 7)


def test_open_to_all() -> None:
    """Health and reflection need no credential unless a deployment wants one."""
    health, reflection = "/grpc.health.v1.Health/", "/grpc.reflection."

    assert (health, reflection) == exempt_of(Settings())
    assert (health,) == exempt_of(Settings(reflection_is_open=False))
    assert () == exempt_of(Settings(health_is_open=False, reflection_is_open=False))


def points_grpc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, run as an operator would."""
    command = [sys.executable, "-m", "points_grpc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.ci
def test_refusal_of_the_command(tmp_path: Path) -> None:
    """`serve` ends with a sentence and exit code 2 before anything is opened."""
    database = tmp_path / "points.db"
    done = points_grpc("serve", "--host", "0.0.0.0", "--port", "0", "--database", f"sqlite:///{database}")

    assert (2, "Error: " + NOT_LOOPBACK.format(host="0.0.0.0")) == (
        done.returncode,
        done.stderr.splitlines()[-1].partition(" where")[0],
    )
    assert [] == list(tmp_path.iterdir())


@pytest.mark.long
def test_commands_over_mutual_tls(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    """`call` and `healthcheck` speak TLS with the CA and the certificate that they are given, and not without."""
    till = authority.issue("till")
    files = {"--tls-certificate": pair.certificate, "--tls-key": pair.key, "--tls-client-ca": authority.file}
    server = RunningServer(tmp_path, "--dev", *[str(part) for pair in files.items() for part in pair]).start()
    try:
        address = f"localhost:{server.port}"
        known = ["--ca-file", str(authority.file)]
        shown = [*known, "--client-certificate", str(till.certificate), "--client-key", str(till.key)]
        call = ["call", "GetServerInfo", "--address", address, "--token", server.token, "--timeout", "5"]
        health = ["healthcheck", "--address", address]
        codes = [points_grpc(*arguments).returncode for arguments in ([*call, *shown], [*health, *shown])]
        refused = [points_grpc(*one).returncode for one in ([*call, *known], [*health, *known], call, health)]
        misused = [
            points_grpc("call", "GetServerInfo", "--address", address, *rest)
            for rest in ([], shown[:4], [*shown, "--plaintext"])
        ]
    finally:
        server.close()

    assert ([0, 0], [1, 1, 1, 1]) == (codes, refused)
    assert [2, 2, 2] == [one.returncode for one in misused]
    assert " -plaintext" not in server.output()


@pytest.mark.ci
def test_renewal_of_a_serving_process(tmp_path: Path) -> None:
    """A server goes over to a certificate of another CA when its files are replaced, without a restart."""
    old, new = Authority(tmp_path, "old CA"), Authority(tmp_path, "new CA")
    pair = old.issue("server", localhost())
    flags = ("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key))
    server = RunningServer(tmp_path, "--dev", *flags).start()

    def answered(authority: Authority) -> bool:
        credentials = tls(authority.file)
        address, token = f"localhost:{server.port}", server.token
        with PointsClient(address, token, credentials=credentials, retries=Retries(attempts_max=1)) as points:
            try:
                points.get_server_info(GetServerInfoRequest())
            except NotAnswered:
                return False
            return True

    try:
        before = [answered(old), answered(new)]
        new.issue("server", localhost())
        after = [answered(old), answered(new)]
        server.stop()  # what was logged is written then
    finally:
        server.close()

    assert ([True, False], [False, True]) == (before, after)
    assert '"event":"tls_renewed"' in server.errors()


def test_metrics_stay_at_home(tmp_path: Path, pair: Pair) -> None:
    """The metrics are on loopback, wherever the service is."""
    port = free_port()
    flags = ("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key), "--metrics-port", str(port))
    server = RunningServer(tmp_path, "--host", "0.0.0.0", *flags).start()
    try:
        with socket.create_connection(("127.0.0.2", server.port), timeout=10):
            pass
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=10)
    finally:
        server.close()
