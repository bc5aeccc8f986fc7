"""A read that nobody waits for any more: said by the pool of reads, asked by the storage while it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Whether the read of a thread is wanted still. `set` may be called from any thread."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        """Wanted."""
        self._is_set = False

    def set(self) -> None:
        """Not wanted any more."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._is_set

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What the present thread does within is what this speaks of."""
        _present.stop = self
        try:
            yield
        finally:
            _present.stop = None


class _Present(threading.local):
    stop: Stop | None = None


_present = _Present()


def is_unwanted() -> bool:
    """Whether what the present thread reads is not wanted any more."""
    stop = _present.stop
    return stop is not None and stop.is_set()
