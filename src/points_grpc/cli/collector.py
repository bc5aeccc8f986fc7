"""How both processes of a server set up Python's garbage collector."""

from __future__ import annotations

import gc

NEW_OBJECTS = 50_000
"""How many new objects may gather before the collector looks for cycles among them."""


def calm_collector() -> None:
    """What was loaded at the start lives as long as the process: it is never looked at again.

    A call leaves no cycles behind, so that looking for some after every 700 new objects finds nothing and costs much.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 20, 20)
