"""The channel of a client: where it leads, whether it is encrypted, how quickly it is made again."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

import grpc

Options = Sequence[tuple[str, str | int]]

_OPTIONS: Options = (
    # A server that restarts is found again within a second; gRPC would wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection that is dead and does not say so is noticed while a call waits; servers allow a ping every 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.primary_user_agent", "points-grpc-python"),
)

_DIRECT: Options = (("grpc.enable_http_proxy", 0),)

PORT_MAX = 65_535
_PORT_NAMES = {"http", "https"}  # which gRPC knows
_WEB = re.compile("https?://", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(?:[^:\[\]]*|\[[^\]]*\]):(?P<port>[^:]*)")  # a bare IPv6 address has more colons
_SCHEME = re.compile(r"^(?:dns|ipv4|ipv6):(?://[^/]*/)?")
_PORT = re.compile(r"(?<=[^:]):\d+$|(?<=\]):\d+$")  # and not the last group of a bare IPv6 address


def credentials_for(
    address: str, *, credentials: grpc.ChannelCredentials | None, plaintext: bool | None
) -> grpc.ChannelCredentials | None:
    """What encrypts the channel; None for plaintext, which only a loopback address gets without asking for it.

    Raises ValueError where the address can be none.
    """
    require_address(address)
    if credentials is not None:
        if plaintext:
            raise ValueError("plaintext and credentials exclude each other")
        return credentials
    if plaintext is None:
        plaintext = is_loopback(address)
    return None if plaintext else grpc.ssl_channel_credentials()


def options_for(address: str) -> Options:
    """How a channel to an address behaves. What may be plaintext because it stays on the machine goes by no proxy."""
    return (*_OPTIONS, *_DIRECT) if is_loopback(address) else _OPTIONS


def tls(
    ca_file: Path | str | None = None,
    *,
    certificate_file: Path | str | None = None,
    key_file: Path | str | None = None,
) -> grpc.ChannelCredentials:
    """TLS from PEM files: the CA of the server (unset: the system's roots), and what the client shows of itself."""
    if (certificate_file is None) != (key_file is None):
        raise ValueError("a certificate of the client comes with its key, and a key with its certificate")
    ca, key, certificate = (
        None if path is None else Path(path).read_bytes() for path in (ca_file, key_file, certificate_file)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)


def require_address(address: str) -> None:
    """Raises ValueError where an address is certainly none: gRPC takes a port modulo 65536, and calls the wrong server.

    What a resolver makes of a name is its own affair; so are the forms that have no port.
    """
    if not address.strip():
        raise ValueError("the address is empty: name host and port, as in 127.0.0.1:50051")
    if _WEB.match(address):
        raise ValueError(f"{address!r} is no address of gRPC: name host and port alone, without http")
    hosts = _SCHEME.sub("", address, count=1)
    if "/" in hosts or address.startswith(("unix:", "unix-abstract:")):
        return
    for authority in hosts.split(","):
        found = _HOST_AND_PORT.fullmatch(authority)
        if found and found["port"] not in _PORT_NAMES and not _is_port(found["port"]):
            raise ValueError(f"{found['port']!r} in {address!r} is no port: a number up to {PORT_MAX}")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= PORT_MAX


def is_loopback(address: str) -> bool:
    """Whether an address, in any form that gRPC takes, never leaves this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    hosts = _SCHEME.sub("", address, count=1).split(",")
    return all(map(_is_this_machine, hosts))


def _is_this_machine(authority: str) -> bool:
    """Whether a host, with or without a port, is this machine."""
    host = _PORT.sub("", authority).strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
