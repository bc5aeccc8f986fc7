"""Checks: deeds' decisions on a read-only snapshot. The steps of `service/executor.py` without the writes.

They run in the server's process, on its read pool, and see what is committed. Checks of one organisation that wait
together are decided on one snapshot, each as though alone: a check changes nothing, and what is due is booked for all
of them. The configuration is read for every batch and not remembered: one that the writer changed a moment ago counts
at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count

from points_grpc.domain.commands import Submission
from points_grpc.domain.decide import decide_one, keys_of
from points_grpc.domain.model import Channel, WalletKey
from points_grpc.domain.snapshot import Keys, NeedMore, Snapshot
from points_grpc.service.executor import (
    WINDOW_FIRST,
    Answer,
    Deferred,
    longer_window,
    lookups_of_all,
    new_context,
    settled,
)
from points_grpc.service.keyring import Keyring
from points_grpc.service.ports import Snapshots


class Checks:
    """Decides read-only commands. Safe from any thread."""

    def __init__(self, snapshots: Snapshots, *, keyring: Keyring, channels: frozenset[Channel]) -> None:
        """Takes the reading side of the store and what is not pure: keys, and the channels with a sender."""
        self._snapshots = snapshots
        self._keyring = keyring
        self._channels = channels

    def check(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """Decides checks on one snapshot, an answer for each, in order; nothing is written.

        One that has to look at many lots is deferred: it wants a batch of its own, and gets its answer there.
        """
        config = self._snapshots.config(org_id)
        with self._snapshots.read(org_id) as session:
            book, directory = session.names(lookups_of_all(batch))
            keys = [keys_of(one.command, directory, book) for one in batch]
            windows: dict[WalletKey, int] = {}
            alone: set[int] = set()
            while True:
                snapshot = Snapshot(session.load(Keys.union(keys), book, directory, windows), config)
                answers, longer = self._decide(batch, keys, snapshot, alone)
                if not longer:
                    return answers
                loaded = dict(windows)
                for place, wallet in longer.items():
                    size = longer_window(loaded.get(wallet, WINDOW_FIRST), in_company=len(batch) > 1)
                    if size is None:
                        alone.add(place)
                    else:
                        windows[wallet] = size

    def _decide(
        self, batch: Sequence[Submission], keys: Sequence[Keys], snapshot: Snapshot, alone: Collection[int]
    ) -> tuple[list[Answer], Mapping[int, WalletKey]]:
        """An answer for each; or, by their places in the batch, wallets of which more lots are needed."""
        next_id = count(1).__next__  # of bookings that are thrown away
        answers: list[Answer] = []
        longer: dict[int, WalletKey] = {}
        for place, submission in enumerate(batch):
            if place in alone:
                answers.append(Deferred(alone=True))
                continue
            try:
                context = new_context(submission, next_id, self._keyring, self._channels)
                outcome = decide_one(snapshot, context, keys[place])
            except NeedMore as more:
                longer[place] = more.wallet
                continue
            answers.append(settled(submission, outcome, snapshot))
        return answers, longer
