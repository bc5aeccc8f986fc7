"""`points-grpc healthcheck`: whom it asks, with an address and without one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from grpc_health.v1 import health, health_pb2_grpc

from authority import Authority, Pair, localhost
from points_grpc.cli.main import main


@contextmanager
def serving(pair: Pair | None = None) -> Iterator[int]:
    """A server that says that it serves, on loopback; its port."""
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            files = (pair.key.read_bytes(), pair.certificate.read_bytes())
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([files]))
        server.start()
        yield port
        server.stop(0).wait()


def check(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["healthcheck", "--timeout", "30", *arguments], env=environment)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_server_of_the_environment(host: str) -> None:
    """Its port, by loopback where it binds to all addresses; as in a container whose variables set both."""
    with serving() as port:
        done = check(POINTS_GRPC_PORT=str(port), POINTS_GRPC_HOST=host)

    assert (0, "SERVING\n") == (done.exit_code, done.output)


def test_the_server_of_the_file(tmp_path: Path) -> None:
    """--config, as `serve` takes it."""
    file = tmp_path / "points.toml"
    with serving() as port:
        file.write_text(f"port = {port}\n")
        done = check("--config", str(file))

    assert (0, "SERVING\n") == (done.exit_code, done.output)


def test_the_address_wins() -> None:
    """Given by flag or variable, it is asked, whatever the settings say."""
    with serving() as port:
        address = f"127.0.0.1:{port}"
        done = [
            check("--address", address, POINTS_GRPC_PORT="1"),
            check(POINTS_GRPC_ADDRESS=address, POINTS_GRPC_PORT="1"),
        ]

    assert [(0, "SERVING\n")] * 2 == [(one.exit_code, one.output) for one in done]


@pytest.mark.parametrize("named", [True, False])
def test_the_server_of_the_environment_with_tls(tmp_path: Path, named: bool) -> None:
    """It is known by its own certificate, under the name in it; another server at its port is not."""
    authority = Authority(tmp_path)
    pair = authority.issue("server", localhost()) if named else authority.issue("localhost")
    other = authority.issue("other", localhost())
    settings = {
        "POINTS_GRPC_TLS_CERTIFICATE": str(pair.certificate),
        "POINTS_GRPC_TLS_KEY": str(pair.key),
        "POINTS_GRPC_HOST": "0.0.0.0",
    }
    with serving(pair) as port:
        done = check(POINTS_GRPC_PORT=str(port), **settings)
    with serving(other) as port:
        fooled = check(POINTS_GRPC_PORT=str(port), **settings)

    assert (0 if named else 1, 1) == (done.exit_code, fooled.exit_code), done.output


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    """A sentence."""
    done = check(POINTS_GRPC_TLS_CERTIFICATE=str(tmp_path / "no.crt"), POINTS_GRPC_TLS_KEY=str(tmp_path / "no.key"))

    assert (2, True) == (done.exit_code, "No such file" in done.output)
