"""Checkpoints of the journal as the server makes them: what they are put together from, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from points_grpc.cli.checkpoint_folder import CheckpointFolder
from points_grpc.domain.checkpoint import CheckpointHead
from points_grpc.rpc.ports import CallLog, CheckpointFact
from points_grpc.service.checkpointing import Checkpointing
from points_grpc.service.keyring import Keyring
from points_grpc.settings import Settings
from points_grpc.storage.engine import Database
from points_grpc.storage.exports import SqlExports

STOP_S = 2.0
"""How long a checkpoint that is being written is waited for at the end; one that is cut is made after a start."""


class Checkpoints:
    """The checkpoints of a server, which may make none."""

    def __init__(
        self, settings: Settings, database: Database, keyring: Keyring, log: CallLog, *, on_duty: Callable[[], bool]
    ) -> None:
        """Starts nothing yet."""
        self._keyring = keyring
        self._interval_s = settings.checkpoint_interval_s
        self._making = None
        if settings.checkpoint_folder is not None:
            told = _Log(log)
            self._making = Checkpointing(
                SqlExports(database),
                CheckpointFolder(settings.checkpoint_folder, told.unreadable),
                sign=keyring.checkpoint,
                now_us=lambda: time.time_ns() // 1_000,
                observer=told,
                interval_s=settings.checkpoint_interval_s,
                on_duty=on_duty,
            )

    def start(self) -> None:
        """Starts to make them."""
        if self._making is not None:
            self._making.start()

    def stop(self) -> None:
        """Ends it."""
        if self._making is not None:
            self._making.stop(STOP_S)

    def outcomes(self) -> Mapping[str, int]:
        """How many there were, by what became of them."""
        return {} if self._making is None else dict(self._making.outcomes)

    def overdue_s(self) -> float:
        """For how long one has been due."""
        return 0.0 if self._making is None else self._making.standing().overdue_us / 1_000_000

    def fact(self) -> CheckpointFact | None:
        """What GetServerInfo tells of them; None where none are made."""
        if self._making is None:
            return None
        last = self._making.standing().last
        key_id, public_key = self._keyring.checkpoint_key()
        return CheckpointFact(self._interval_s, None if last is None else last.made_at, key_id, public_key)


class _Log:
    """Logs what becomes of them."""

    def __init__(self, log: CallLog) -> None:
        self._log = log

    def made(self, name: str, streams: int, key_id: str) -> None:
        """One was made."""
        self._log.info("checkpoint_made", file=name, streams=streams, key=key_id)

    def failed(self, error: str) -> None:
        """One could not be made, or it could not be seen whether one is due."""
        self._log.error("checkpoint_failed", error=error)

    def contradicted(self, head: CheckpointHead) -> None:
        """The journal was rewritten, cut or restored."""
        self._log.error("journal_contradicts_checkpoint", org=head.org_id, stream=head.stream, position=head.position)

    def unreadable(self, name: str) -> None:
        """A file in the folder was changed, or is none."""
        self._log.error("checkpoint_unreadable", file=name)
