"""Duty: of all servers of a database one delivers messages and sweeps; the others stand by and follow within seconds.

Who is on duty is known to the store alone (`Claim`); one thread takes the claim, or proves again and again that it is
still held. A proof is believed for a few seconds, so that a process that stood still does nothing when it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Protocol

RENEW_S = 1.0
"""How often the claim is tried, or proved to be held."""

PROOF_S = 3.0
"""How long a proof is believed. The store lets nobody else have the claim for longer than that: see its `Claim`."""


class Claim(Protocol):
    """What one process of all can hold."""

    def hold(self) -> bool:
        """Takes the claim where it is free; says whether it is held. Raises where that cannot be known. Blocks."""
        ...

    def release(self) -> None:
        """Gives it back, at once for others to take."""
        ...


class Observer(Protocol):
    """Whom duty tells that it changed hands."""

    def taken(self) -> None:
        """It is this process from now on."""
        ...

    def lost(self, error: str) -> None:
        """It is not any more, without having given duty back; `error` is empty where another process has it."""
        ...


class Duty:
    """Whether this process is on duty. `held` may be asked from any thread, at any time."""

    def __init__(self, claim: Claim, *, observer: Observer, monotonic: Callable[[], float]) -> None:
        """Takes nothing yet. `monotonic` goes on while the process stands still."""
        self._claim = claim
        self._observer = observer
        self._monotonic = monotonic
        self._proved_at: float | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="duty", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Gives duty back; whoever was on duty must have stopped before."""
        self._stop.set()
        self._thread.join(timeout_s)

    def held(self) -> bool:
        """Whether this process is on duty now, as far as it can know."""
        proved_at = self._proved_at
        return proved_at is not None and self._monotonic() < proved_at + PROOF_S

    def renew(self) -> None:
        """Tries once."""
        was_held, asked_at, error = self._proved_at is not None, self._monotonic(), ""
        try:
            is_held = self._claim.hold()
        except Exception as raised:  # noqa: BLE001 - without this thread no code leaves any more
            is_held, error = False, type(raised).__name__
        self._proved_at = asked_at if is_held else None
        if is_held and not was_held:
            self._observer.taken()
        if was_held and not is_held:
            self._observer.lost(error)

    def _run(self) -> None:
        self.renew()
        while not self._stop.wait(RENEW_S):
            self.renew()
        self._proved_at = None
        self._claim.release()


class AlwaysOnDuty:
    """The duty of a server that has its database to itself."""

    def start(self) -> None:
        """Needs nothing."""

    def stop(self, timeout_s: float) -> None:
        """Leaves nothing behind."""

    def held(self) -> bool:
        """There is nobody else."""
        return True
