"""How both processes of a server set up Python's garbage collector."""

from __future__ import annotations

import gc

NEW_OBJECTS = 200_000
"""How many new objects may gather before the collector looks for cycles among them: more than a batch of 500 makes.

Refused calls leave cycles (an exception knows its frames); so many of them take some 25 MiB.
"""


def calm_collector() -> None:
    """What was loaded at the start lives as long as the process: it is never looked at again.

    Most calls leave no cycles behind: looking for some after every 700 new objects finds nothing and costs much.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 20, 20)
