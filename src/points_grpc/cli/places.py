"""The places that a server needs, looked at before anything is started: its addresses, and where its files go.

What is wrong there is a sentence for the operator, while no lease is taken and no process runs. Between this look and
the use of a place it may still be taken; that is a stack trace, and as rare.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from points_grpc.cli.listening import require_encryption
from points_grpc.cli.metrics_ports import require_apart
from points_grpc.service.keeper import CannotStart
from points_grpc.settings import Settings


def require_places(settings: Settings) -> None:
    """Raises `CannotStart` unless the server can listen where it is told to and say that it is ready.

    Raises `SettingWrong` where the settings alone tell that it cannot.
    """
    require_encryption(settings)
    require_apart(settings)
    _require_address("serve", settings.host, settings.port)
    if settings.metrics_port:
        _require_address("serve metrics", settings.metrics_host, settings.metrics_port)
    if settings.checkpoint_folder is not None:
        _require_folder(settings.checkpoint_folder)
    ready = settings.ready_file
    if ready is not None and not (ready.parent.is_dir() and os.access(ready.parent, os.W_OK)):
        raise CannotStart(f"the ready file {ready} cannot be written: {ready.parent} is no folder to write to")


def _require_folder(folder: Path) -> None:
    """Makes the folder of the checkpoints, where the one that it is in is there."""
    with suppress(OSError):  # what is wrong shows below
        folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise CannotStart(f"checkpoints cannot be put into {folder}: it is no folder to write to")


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
