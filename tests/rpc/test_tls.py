"""The files of TLS: what is taken at the start, what is taken while serving, and what never is."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from wire_fakes import NullLog

from authority import Authority, Pair, localhost, serial_of
from points_grpc.client import tls
from points_grpc.rpc.tls import BadTlsFile, Tls, TlsFiles


class Events(NullLog):
    """A log that remembers what happened."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("server", localhost())


def serving(files: TlsFiles, log: Events, use: Callable[[int], Awaitable[None]]) -> None:
    """Runs a server that echoes, with the credentials of some files."""

    async def run() -> None:
        server = grpc.aio.server()
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echoes", handlers),))
        port = server.add_secure_port("127.0.0.1:0", Tls(files, log).credentials())
        await server.start()
        try:
            await use(port)
        finally:
            await server.stop(0)

    asyncio.run(run())


async def _echo(request: bytes, context: object) -> bytes:
    return request


async def echoed(port: int, ca: Path, client: Pair | None = None) -> grpc.StatusCode:
    """What a call over a connection of its own ends with."""
    shown = {"certificate_file": client.certificate, "key_file": client.key} if client else {}
    async with grpc.aio.secure_channel(f"localhost:{port}", tls(ca, **shown)) as channel:
        call = channel.unary_unary("/test.Echoes/Echo")(b"x", timeout=10)
        try:
            await call
        except (grpc.aio.AioRpcError, OSError):
            return await call.code()
        return grpc.StatusCode.OK


def handshake(port: int, least: ssl.TLSVersion, most: ssl.TLSVersion) -> tuple[str, int]:
    """The version agreed on with a client of certain versions, and the serial number of the server's certificate."""
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # or the client would refuse old versions by itself
    context.set_alpn_protocols(["h2"])
    context.minimum_version, context.maximum_version = least, most
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
        assert shown is not None
        return str(wrapped.version()), serial_of(ssl.DER_cert_to_PEM_cert(shown).encode())


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions(pair: Pair) -> None:
    """TLS 1.2 and 1.3 are spoken, nothing older."""

    async def use(port: int) -> None:
        seen = [(await asyncio.to_thread(handshake, port, one, one))[0] for one in (V12, V13)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)

        assert ["TLSv1.2", "TLSv1.3"] == seen

    serving(TlsFiles(pair.certificate, pair.key), Events(), use)


def test_renewal(authority: Authority, pair: Pair) -> None:
    """New connections get the new certificate once certificate and key are replaced; half a renewal changes nothing."""
    log = Events()

    async def use(port: int) -> None:
        def shown() -> int:
            return handshake(port, V12, V13)[1]

        first, first_key = serial_of(pair.certificate), pair.key.read_bytes()
        before = await asyncio.to_thread(shown)
        authority.issue("server", localhost())
        renewed, renewed_key = serial_of(pair.certificate), pair.key.read_bytes()
        pair.key.write_bytes(first_key)
        half = [await asyncio.to_thread(shown) for _ in range(2)]
        pair.key.unlink()
        half.append(await asyncio.to_thread(shown))
        pair.key.write_bytes(renewed_key)
        pair.key.chmod(0o600)
        after = await asyncio.to_thread(shown)

        assert (first, [first] * 3, renewed) == (before, half, after)
        assert grpc.StatusCode.OK == await echoed(port, authority.file)

    serving(TlsFiles(pair.certificate, pair.key), log, use)

    assert ["tls_not_renewed", "tls_not_renewed", "tls_renewed"] == [event for event, _ in log.events]
    assert [
        f"{pair.key} is not the key of {pair.certificate}",
        f"{pair.key} cannot be read: No such file or directory",
    ] == [fields["error"] for event, fields in log.events if fields]


def test_client_ca_is_renewed(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    """Clients show a certificate of the CA; when its file is replaced, those of the new one are let in, others not."""
    other = Authority(tmp_path, "other CA")
    clients_of = tmp_path / "clients.pem"
    clients_of.write_bytes(authority.file.read_bytes())
    old, new = authority.issue("till"), other.issue("till", file="new-till")

    async def use(port: int) -> None:
        async def seen() -> list[grpc.StatusCode]:
            return [await echoed(port, authority.file, one) for one in (old, new, None)]

        before = await seen()
        clients_of.write_bytes(other.file.read_bytes())
        after = await seen()

        ok, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
        assert ([ok, refused, refused], [refused, ok, refused]) == (before, after)

    serving(TlsFiles(pair.certificate, pair.key, clients_of), Events(), use)


def test_bad_files(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    """A server does not start with files that do not fit together, and says which and why."""
    absent, other = tmp_path / "absent", authority.issue("other")
    expired = authority.issue("expired", lasts=-timedelta(days=1))
    early = authority.issue("early", begins=timedelta(hours=1))
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.file.read_bytes() + expired.certificate.read_bytes())
    rows = (
        (TlsFiles(absent, pair.key), f"{absent} cannot be read: No such file or directory"),
        (TlsFiles(pair.certificate, absent), f"{absent} cannot be read: No such file or directory"),
        (TlsFiles(pair.certificate, pair.key, absent), f"{absent} cannot be read: No such file or directory"),
        (TlsFiles(pair.key, pair.key), f"{pair.key} holds no certificate in PEM"),
        (
            TlsFiles(pair.certificate, pair.certificate),
            f"{pair.certificate} holds no private key in PEM without a password",
        ),
        (TlsFiles(pair.certificate, pair.key, pair.key), f"{pair.key} holds no certificate in PEM"),
        (TlsFiles(pair.certificate, other.key), f"{other.key} is not the key of {pair.certificate}"),
        (TlsFiles(expired.certificate, expired.key), f"the certificate in {expired.certificate} expired on"),
        (TlsFiles(early.certificate, early.key), f"the certificate in {early.certificate} is not valid before"),
        (TlsFiles(pair.certificate, pair.key, bundle), f"certificate 2 in {bundle} expired on"),
    )
    for files, says in rows:
        with pytest.raises(BadTlsFile) as caught:
            Tls(files, Events())

        assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("mode", "taken"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_who_may_read_the_key(pair: Pair, mode: int, *, taken: bool) -> None:
    """A key that all may read, or a group write, is not taken; one that a group may read is, as secrets are mounted."""
    pair.key.chmod(mode)
    says = f"{pair.key} can be read or changed by others: give it mode 0600, or 0640 where a group has to read it"
    with nullcontext() if taken else pytest.raises(BadTlsFile, match=re.escape(says)):
        Tls(TlsFiles(pair.certificate, pair.key), Events())


def test_mended_mode_is_noticed(authority: Authority, pair: Pair) -> None:
    """A renewed key that all may read is not taken, and is as soon as its mode is mended."""
    log = Events()
    tls_of_server = Tls(TlsFiles(pair.certificate, pair.key), log)
    authority.issue("server", localhost())
    pair.key.chmod(0o644)
    first = tls_of_server.renewed()
    pair.key.chmod(0o600)

    assert first is None
    assert tls_of_server.renewed() is not None
    assert ["tls_not_renewed", "tls_renewed"] == [event for event, _ in log.events]


def test_certificate_of_tomorrow(authority: Authority, pair: Pair) -> None:
    """A renewed certificate that is not valid yet is told once, and taken by the first handshake once it is."""
    log, now = Events(), [datetime.now(UTC)]
    tls_of_server = Tls(TlsFiles(pair.certificate, pair.key), log, now=lambda: now[0])
    authority.issue("server", localhost(), begins=timedelta(hours=1))
    early = [tls_of_server.renewed() for _ in range(3)]
    now[0] += timedelta(hours=1, seconds=1)
    in_time, after = tls_of_server.renewed(), tls_of_server.renewed()

    assert [None] * 3 == early
    assert in_time is not None
    assert after is None
    assert ["tls_not_renewed", "tls_renewed"] == [event for event, _ in log.events]
