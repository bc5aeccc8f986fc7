"""The clock of a test build: a file of eight bytes, microseconds since 1970, that a test steps."""

from __future__ import annotations

import importlib
import os
from datetime import UTC, datetime, timedelta, tzinfo

READERS = ("points_grpc.storage.repository", "points_grpc.rpc.server", "points_grpc.cli.composition")
"""The modules that read the clock for rules, storage and delivery: each calls `datetime.now`."""

OUTBOX_POLL_S = 0.005
"""How often a test build looks for codes to send: a test waits for them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def install(path: str) -> None:
    """Gives the readers of the clock the one in the file."""
    file = os.open(path, os.O_RDONLY)

    class Stepped(datetime):
        """`datetime`, but for what it takes for now."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            """The time in the file."""
            return (_EPOCH + timedelta(microseconds=int.from_bytes(os.pread(file, 8, 0), "big"))).astimezone(tz)

    for name in READERS:
        importlib.import_module(name).datetime = Stepped  # type: ignore[attr-defined]
    importlib.import_module("points_grpc.service.outbox").POLL_S = OUTBOX_POLL_S  # type: ignore[attr-defined]
