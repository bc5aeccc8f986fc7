"""Checks: a deed's decision on a read-only snapshot. The steps of `service/executor.py` without the writes.

They run in the server's process, on its read pool, and see what is committed. The configuration is read for every check
and not remembered: one that the writer changed a moment ago counts at once.
"""

from __future__ import annotations

from itertools import count

from points_grpc.domain.commands import Submission
from points_grpc.domain.context import Context
from points_grpc.domain.decide import decide_one, keys_of, lookups_of
from points_grpc.domain.model import Channel, WalletKey
from points_grpc.domain.outcome import Settled
from points_grpc.domain.snapshot import NeedMore, Snapshot
from points_grpc.service.executor import WINDOW_FIRST, settled
from points_grpc.service.keyring import Keyring
from points_grpc.service.ports import Snapshots


class Checks:
    """Decides read-only commands. Safe from any thread."""

    def __init__(self, snapshots: Snapshots, *, keyring: Keyring, channels: frozenset[Channel]) -> None:
        """Takes the reading side of the store and what is not pure: keys, and the channels with a sender."""
        self._snapshots = snapshots
        self._keyring = keyring
        self._channels = channels

    def check(self, submission: Submission) -> Settled:
        """Decides on a snapshot of its own; nothing is written, and the ids that it makes are thrown away."""
        config = self._snapshots.config(submission.org_id)
        with self._snapshots.read(submission.org_id) as session:
            book, directory = session.names(lookups_of(submission.command))
            keys = keys_of(submission.command, directory, book)
            windows: dict[WalletKey, int] = {}
            while True:
                snapshot = Snapshot(session.load(keys, book, directory, windows), config)
                try:
                    outcome = decide_one(snapshot, self._context(submission), keys)
                except NeedMore as more:
                    windows[more.wallet] = windows.get(more.wallet, WINDOW_FIRST) * 4
                    continue
                return settled(submission, outcome, snapshot)

    def _context(self, submission: Submission) -> Context:
        return Context(
            submission=submission,
            next_id=count(1).__next__,
            code_hash=self._keyring.code_hash,
            code_key_id=self._keyring.active,
            channels=self._channels,
        )
