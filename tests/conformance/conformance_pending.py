"""What the table cannot drive yet, each with what is missing. Empty once all slices are merged."""

from __future__ import annotations

from collections.abc import Mapping

PENDING: Mapping[str, str] = {
    "PENDING_EVENTS": "warnings about undelivered messages",
}
"""By reason. `RPC <name>`: allowed as long as the descriptors do not have it."""

NO_RPC_OF_THEIR_OWN = frozenset({"PENDING_EVENTS"})
"""Those that wait for something other than an RPC with a known name."""

PENDING_CASES: Mapping[str, str] = {
    "TRANSFER_INVALID_PROGRAM_ID: inactive": "no RPC deactivates a program",
    "PROGRAM_NOT_CONFIGURED: inactive": "no RPC deactivates a program",
}
"""Alternatives within a trigger, by the name that their row will have."""
