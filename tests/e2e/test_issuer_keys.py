"""Where the keys of an issuer come from, and the commands about who may call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from issuer import AUDIENCE, ISSUER, Issuer
from points_grpc.cli import issuer as issuer_settings
from points_grpc.cli.issuer import source_of, tokens_of
from points_grpc.cli.main import main
from points_grpc.client import PointsClient
from points_grpc.client.refusals import Unauthenticated
from points_grpc.rpc.logs import LineSink, make_logger
from points_grpc.settings import Settings
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.migrate import upgrade
from points_grpc.v1.catalog_service_pb2 import GetServerInfoRequest
from running import RunningServer


class Published:
    """A web server on loopback that publishes a set of keys, and what else a path asks for."""

    def __init__(self) -> None:
        self.content = b""
        self.asked: list[str] = []
        published = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                published.asked.append(self.path)
                self.send_response({"/moved": 302, "/broken": 503}.get(self.path, 200))
                if self.path == "/moved":
                    self.send_header("Location", "/keys")
                self.end_headers()
                self.wfile.write(published.content)

            def log_message(self, *arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def published() -> Iterator[Published]:
    made = Published()
    yield made
    made.close()


def test_read_from_a_url(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published is read; a redirect, an error and an endless answer are not."""
    monkeypatch.setattr(issuer_settings, "KEY_SET_BYTES_MAX", 100)
    published.content = b"x" * 100

    assert b"x" * 100 == source_of(published.url + "/keys")()
    for path in ("/moved", "/broken"):
        with pytest.raises(OSError, match="HTTP Error"):
            source_of(published.url + path)()
    published.content += b"x"
    with pytest.raises(ValueError, match="more than 100 bytes"):
        source_of(published.url + "/keys")()
    assert ["/keys", "/moved", "/broken", "/keys"] == published.asked


@pytest.mark.parametrize(
    "place",
    [
        "http://issuer.example/keys",
        "http://127.0.0.1.example/keys",
        "http://a@issuer.example:80",
        "ftp://127.0.0.1/k",
        "file:///etc/keys",
    ],
)
def test_places_that_are_not_trusted(place: str) -> None:
    """Keys that may be changed on their way are not read at all."""
    with pytest.raises(ValueError, match="a file or an https URL"):
        source_of(place)


def test_read_from_a_file(tmp_path: Path) -> None:
    """A file is read each time; one that is not there is named."""
    path = tmp_path / "keys.json"
    read = source_of(str(path))
    with pytest.raises(ValueError, match=f"{path} cannot be read"):
        read()
    path.write_bytes(b"1")

    assert b"1" == read()


@pytest.mark.parametrize(
    ("given", "are_known"),
    [
        ({}, False),
        ({"jwt_keys": "keys.json", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}, True),
        ({"jwt_keys": "keys.json", "jwt_issuer": ISSUER}, None),
        ({"jwt_keys": "keys.json", "jwt_audience": AUDIENCE}, None),
        ({"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}, None),
    ],
)
def test_settings(given: dict[str, Any], are_known: bool | None, tmp_path: Path) -> None:
    """Keys, issuer and audience go together: without one of them every token would do."""

    async def made() -> bool:
        return tokens_of(Settings(**given), log) is not None

    with (tmp_path / "log").open("wb") as file:
        log = make_logger(LineSink(file))
        if are_known is None:
            with pytest.raises(ValueError, match="take all of"):
                asyncio.run(made())
        else:
            assert are_known == asyncio.run(made())


def test_a_server_with_published_keys(tmp_path: Path, published: Published) -> None:
    """A server reads the keys from their URL and lets in whom the issuer vouches for, health and reflection apart."""
    issuer = Issuer()
    published.content = issuer.key_set("ec")
    closed = {"POINTS_GRPC_HEALTH_IS_OPEN": "false", "POINTS_GRPC_REFLECTION_IS_OPEN": "false"}
    flags = ("--jwt-keys", published.url + "/keys", "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    server = RunningServer(tmp_path, *flags, environment=closed)
    server.organisation()
    server.start()
    try:
        with PointsClient(server.address, lambda: issuer.token("ec", role=["x", "reader"])) as points:
            answered = points.get_server_info(GetServerInfoRequest())
        with PointsClient(server.address, issuer.token("rsa")) as points, pytest.raises(Unauthenticated):
            points.get_server_info(GetServerInfoRequest())
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
    finally:
        server.close()

    assert answered.version
    assert grpc.StatusCode.UNAUTHENTICATED == caught.value.code()
    assert ["/keys"] == published.asked


@pytest.mark.ci
def test_a_server_without_usable_keys(tmp_path: Path, published: Published) -> None:
    """A server that is told of an issuer whose keys are none ends with a sentence."""
    published.content = b"<html>"
    flags = ("--jwt-keys", published.url + "/keys", "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    server = RunningServer(tmp_path, *flags)
    with pytest.raises(AssertionError, match="Error: the keys of the tokens' issuer are no JWK set"):
        server.start()
    server.close()


# -- commands


def run(database: str, *arguments: str) -> Result:
    """A command beside a server."""
    return CliRunner().invoke(main, [*arguments[:2], "--database", database, *arguments[2:]])


def test_commands(tmp_path: Path) -> None:
    """Names are given, listed and taken back; tokens are revoked; a mistake is a sentence."""
    url = f"sqlite:///{tmp_path / 'points.db'}"
    upgrade(url)
    database = Database(url)
    accounts = Accounts(database)
    accounts.create_org("one", "IN")
    accounts.create_org("two", "IN")
    create = ("certificates", "create", "--client", "till", "till.ours")
    rows = (
        ((*create, "--org", "1", "--role", "reader", "--require-request-id", "--till", "7"), 0, "created till.ours"),
        ((*create, "--org", "2"), 1, "Error: till.ours stands for a client already"),
        ((*create, "--org", "3"), 2, "there is no organisation 3"),
        (("certificates", "list", "--org", "1"), 0, "till.ours  till    -         7  reader  request id"),
        (("certificates", "list", "--org", "2"), 0, ""),
        (("certificates", "revoke", "--org", "2", "till.ours"), 1, "organisation 2 has no certificate till.ours"),
        (("certificates", "revoke", "--org", "1", "till.ours"), 0, "revoked till.ours"),
        (("certificates", "list", "--org", "1"), 0, ""),
        (("tokens", "revoke", "--org", "1", "app"), 0, "revoked the tokens of app"),
        (("tokens", "revoke", "--org", "3", "app"), 2, "there is no organisation 3"),
        (("keys", "create", "--org", "1", "--client", "pos", "--store", "berlin-3", "--till", "7"), 0, "pk_"),
    )
    seen = [run(url, *arguments) for arguments, _, _ in rows]
    [key] = accounts.list_keys(1)
    cutoffs = list(accounts.token_cutoffs())
    database.close()

    assert [code for _, code, _ in rows] == [one.exit_code for one in seen]
    for (_, _, says), one in zip(rows, seen, strict=True):
        assert says in one.output
    assert ("berlin-3", "7") == (key.store, key.till)
    assert [(1, "app")] == cutoffs


@pytest.mark.ci
def test_the_last_use_is_listed(tmp_path: Path) -> None:
    """`keys list` says which keys were used, once the server has noted it: each minute, and when it ends."""
    server = RunningServer(tmp_path)
    org_id = server.organisation()
    used, unused = server.key(org_id), server.key(org_id)
    server.start()
    try:
        with PointsClient(server.address, used) as points:
            points.get_server_info(GetServerInfoRequest())
        server.stop()
    finally:
        server.close()
    listed = run(server.database, "keys", "list", "--org", str(org_id)).output.splitlines()
    used_at = {line.split()[0]: line.split()[7] for line in listed}

    assert used_at[used.split("_")[1]].startswith("20")
    assert "never" == used_at[unused.split("_")[1]]
