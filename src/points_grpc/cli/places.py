"""The places that a server needs, looked at before anything is started: its addresses, and where its ready file goes.

What is wrong there is a sentence for the operator, while no lease is taken and no process runs. Between this look and
the use of a place it may still be taken; that is a stack trace, and as rare.
"""

from __future__ import annotations

import os
import socket

from points_grpc.service.keeper import CannotStart
from points_grpc.settings import Settings

METRICS_HOST = "127.0.0.1"


def require_places(settings: Settings, *, shares_port: bool = False) -> None:
    """Raises `CannotStart` unless the server can listen where it is told to and say that it is ready.

    `shares_port`: other workers have the port already, as they should.
    """
    if not shares_port:
        _require_address("serve", settings.host, settings.port)
    if settings.metrics_port:
        _require_address("serve metrics", METRICS_HOST, settings.metrics_port)
    ready = settings.ready_file
    if ready is not None and not (ready.parent.is_dir() and os.access(ready.parent, os.W_OK)):
        raise CannotStart(f"the ready file {ready} cannot be written: {ready.parent} is no folder to write to")


def _require_address(what: str, host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotStart(f"cannot {what} on {host}:{port}: {reason}") from None
