"""The ports of the metrics, which must not be the one that is served. Imports no gRPC: the supervisor asks, too."""

from __future__ import annotations

import socket

from points_grpc.service.ports import SettingWrong
from points_grpc.settings import Settings

PORT_MAX = 65_535
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def require_apart(settings: Settings) -> None:
    """Raises `SettingWrong` unless the metrics of all workers have ports, and none of them that of the server."""
    if not settings.metrics_port:
        return
    last = settings.metrics_port + settings.workers - 1
    if last > PORT_MAX:
        raise SettingWrong("the metrics ports of the workers follow one another: there is no room for the last one")
    if settings.metrics_port <= settings.port <= last and _meet(settings.host, settings.metrics_host):
        raise SettingWrong(f"the metrics would have the port that is served, {settings.port}: give them another one")


def _meet(one: str, other: str) -> bool:
    """Whether two hosts to bind have an address in common; names that are not found have none."""
    found = [_addresses(host) for host in (one, other)]
    return bool(found[0] & found[1]) or any(addresses & EVERYWHERE for addresses in found)


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return set()
    return {str(address[0]) for *_, address in found}
