"""An alarm: something that is done after a time, unless what it watches over ended before. A thread for as long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer


@contextmanager
def alarm(after_s: float, ring: Callable[[], None]) -> Iterator[None]:
    """Rings once, from another thread, if the block takes longer. It may still be ringing when the block has ended."""
    timer = Timer(after_s, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
