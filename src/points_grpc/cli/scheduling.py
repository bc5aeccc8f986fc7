"""How the kernel shares its cores among the server, its writer, and whoever calls from the same machine."""

from __future__ import annotations

import os
from contextlib import suppress


def run_in_batches() -> None:
    """Lets what woke this process go on first: by the time it runs, more has arrived, and it takes all of it at once.

    For this thread and whatever it starts, the writer's process included. Where the operator chose another policy, the
    system has none, or a sandbox forbids the call, nothing changes.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    with suppress(OSError):  # only speed hangs on it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
