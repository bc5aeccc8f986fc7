"""What the table cannot drive yet, each with what is missing. Empty once all slices are merged."""

from __future__ import annotations

from collections.abc import Mapping

PENDING: Mapping[str, str] = {
    "RATE_LIMITED": "quotas of calls",
    "WATCH_POSITION_LOST": "an RPC that watches",
}
"""By reason. `RPC <name>`: allowed as long as the descriptors do not have it."""

NO_RPC_OF_THEIR_OWN = frozenset({"RATE_LIMITED", "WATCH_POSITION_LOST"})
"""Those that wait for something other than an RPC with a known name."""
