"""The channel of a client: where it leads, whether it is encrypted, how quickly it is made again."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

import grpc

Options = Sequence[tuple[str, str | int]]

OPTIONS: tuple[tuple[str, str | int], ...] = (
    # A server that restarts is found again within a second; gRPC would wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection that is dead and does not say so is noticed while a call waits; servers allow a ping every 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.primary_user_agent", "points-grpc-python"),
)

_SCHEME = re.compile(r"^(?:dns|ipv4|ipv6):(?://[^/]*/)?")
_PORT = re.compile(r"(?<=[^:]):\d+$|(?<=\]):\d+$")  # and not the last group of a bare IPv6 address


def credentials_for(
    address: str, *, credentials: grpc.ChannelCredentials | None, plaintext: bool | None
) -> grpc.ChannelCredentials | None:
    """What encrypts the channel; None for plaintext, which only a loopback address gets without asking for it."""
    if credentials is not None:
        if plaintext:
            raise ValueError("plaintext and credentials exclude each other")
        return credentials
    if plaintext is None:
        plaintext = is_loopback(address)
    return None if plaintext else grpc.ssl_channel_credentials()


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
