"""The sweep: one thread that books what is already true of wallets that nobody touches.

Balances are right without it, since reads leave out what is due; it makes the books say so too. It walks through all
wallets in small steps, at most so many in a run, and goes on in the next run where it stopped. What is due it hands to
the committer in small commands like any other write. An index of what is due would cost every transfer; the walk costs
a read now and then. Of all servers of a database the one on duty sweeps (`duty`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from threading import Event, Thread
from typing import Protocol

from points_grpc.domain.commands import BookDue, Submission
from points_grpc.service.ports import DueWallet, DueWallets, StorageConflict, StorageUnavailable

STEP_WALLETS = 2_000
"""How many wallets are looked at in one read."""

COMMAND_CUSTOMERS_MAX = 20
"""How many customers share a command: each may have many lots to book, and other commands wait meanwhile."""


class Observer(Protocol):
    """Whom the sweep tells what it did."""

    def swept(self, wallets: int, due: int) -> None:
        """A run looked at so many wallets, of which so many were due."""
        ...

    def failed(self, error: str) -> None:
        """A run could not be finished; the next one goes on."""
        ...


class Sweep:
    """Runs every so often until it is stopped."""

    def __init__(
        self,
        wallets: DueWallets,
        *,
        submit: Callable[[Submission], None],
        now: Callable[[], datetime],
        observer: Observer,
        interval_s: float,
        wallets_max: int,
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        """`submit` hands a command to the committer and waits for its answer; `wallets_max` bounds a run.

        `on_duty` says whether nobody else may be sweeping; it is asked before each step.
        """
        self._wallets = wallets
        self._submit = submit
        self._now = now
        self._observer = observer
        self._interval_s = interval_s
        self._wallets_max = wallets_max
        self._on_duty = on_duty
        self._last: DueWallet | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self) -> None:
        """Has it begin with nothing more; `stop` waits for what is in hand."""
        self._stop.set()

    def stop(self, timeout_s: float) -> None:
        """Asks the thread to end after the command in hand, and waits for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def run_once(self) -> int:
        """Walks on, to the end of all wallets or of the run; returns how many wallets were due."""
        seen = due = 0
        while seen < self._wallets_max and self._goes_on():
            found = self._wallets.wallets_after(self._last, self._now(), min(STEP_WALLETS, self._wallets_max - seen))
            self._last = found[-1] if found else None
            if not found:
                break
            seen += len(found)
            due += self._book([one for one in found if one.due])
        self._observer.swept(seen, due)
        return due

    def _book(self, found: list[DueWallet]) -> int:
        for org_id, wallets in groupby(found, key=lambda one: one.org_id):
            customers = list(dict.fromkeys(one.customer_id for one in wallets))
            for start in range(0, len(customers), COMMAND_CUSTOMERS_MAX):
                if not self._goes_on():
                    return len(found)
                self._submit(_submission(org_id, tuple(customers[start : start + COMMAND_CUSTOMERS_MAX])))
        return len(found)

    def _goes_on(self) -> bool:
        return not self._stop.is_set() and self._on_duty()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            if not self._on_duty():
                continue
            try:
                self.run_once()
            except (StorageUnavailable, StorageConflict) as error:
                self._observer.failed(type(error).__name__)


def _submission(org_id: int, customer_ids: tuple[int, ...]) -> Submission:
    return Submission(
        org_id=org_id,
        command=BookDue(customer_ids),
        request_id=uuid.uuid4().hex,
        request_id_given=False,
        fingerprint={},
        actor="sweep",
        otp_seed=b"",
    )
