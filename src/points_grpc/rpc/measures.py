"""The metrics by name: what each is, its labels, and how the figures of several servers make one.

The tables of docs/operations.md are generated from here, without anything installed: nothing but the standard library
is imported. A label holds a method, a code or a reason of ours, and never what a caller chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric. `over_servers` says how to take those of several servers together.

    `values`: what its one label can be, where that is known; each is told from the start, at 0. What is not there
    compares with nothing: an alert on more of one than of another would wait until there was one of each.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    over_servers: Literal["sum", "max", "min", "each"] = "sum"
    values: tuple[str, ...] = ()


CALLS = Measure(
    "points_grpc_calls",
    "counter",
    "Calls answered. The reason is that of the refusal, empty without one.",
    ("method", "code", "reason"),
)
CALL_SECONDS = Measure("points_grpc_call_seconds", "histogram", "How long calls took in the server.", ("method",))
REFUSED = Measure(
    "points_grpc_commands_refused",
    "counter",
    "Commands that the rules refused, the items of batches each; what was answered again is left out.",
    ("reason",),
)
BATCH_COMMANDS = Measure("points_grpc_batch_commands", "histogram", "Commands that shared a commit.")
BATCH_SECONDS = Measure(
    "points_grpc_batch_seconds", "histogram", "How long the writer took for a batch, from its first look to the commit."
)
BATCH_WAIT_SECONDS = Measure(
    "points_grpc_batch_wait_seconds", "histogram", "How long the oldest command of a batch had waited for the writer."
)
COMMIT_SECONDS = Measure(
    "points_grpc_commit_seconds", "histogram", "How long the commits of a batch took: the disk, and standbys."
)
CONFLICTS = Measure(
    "points_grpc_conflicts", "counter", "Batches that were run again because another process was in the way."
)
DEFERRALS = Measure(
    "points_grpc_deferrals",
    "counter",
    "Commands put back to the head of the queue: others had their customers, or they need a batch of their own.",
)
POINTS = Measure(
    "points_grpc_points",
    "counter",
    "Points that were moved, in the smallest unit of their programs. What moves them: issue, transfer, redemption, "
    "reversal, expiry, merge, adjustment, transfer_reversal, hold, release.",
    ("movement",),
    values=(
        *("issue", "transfer", "redemption", "reversal", "expiry", "merge"),
        *("adjustment", "transfer_reversal", "hold", "release"),
    ),
)
OTPS = Measure(
    "points_grpc_otps",
    "counter",
    "What became of one-time codes: issued, used; and of commands without a right one: missing, not_issued, mismatch, "
    "invalid (wrong, expired or used up).",
    ("outcome",),
    values=("issued", "used", "missing", "not_issued", "mismatch", "invalid"),
)
MESSAGES = Measure(
    "points_grpc_messages",
    "counter",
    "Attempts to deliver a message of the outbox: delivered, retried, given_up.",
    ("outcome",),
    values=("delivered", "retried", "given_up"),
)
EVENTS = Measure(
    "points_grpc_events",
    "counter",
    "Attempts to publish a business event: delivered, retried, given_up.",
    ("outcome",),
    values=("delivered", "retried", "given_up"),
)
OUTBOX_MESSAGES = Measure(
    "points_grpc_outbox_messages", "gauge", "Messages that wait in the outbox of the database.", (), "max"
)
OUTBOX_AGE_SECONDS = Measure(
    "points_grpc_outbox_age_seconds", "gauge", "Age of the oldest of them; 0 if there is none.", (), "max"
)
OUTBOX_EVENTS = Measure("points_grpc_outbox_events", "gauge", "Business events that wait in the database.", (), "max")
QUEUE_COMMANDS = Measure("points_grpc_queue_commands", "gauge", "Commands that are not answered yet.")
QUEUE_AGE_SECONDS = Measure(
    "points_grpc_queue_age_seconds",
    "gauge",
    "How long the oldest of the last batch had waited; 0 if nothing waited behind it. Callers are shed by it.",
    (),
    "max",
)
CALLS_IN_FLIGHT = Measure("points_grpc_calls_in_flight", "gauge", "Calls being served, watches left out.")
WRITER_STARTS = Measure(
    "points_grpc_writer_starts", "counter", "Processes that write which were started; more than one: some died."
)
READY = Measure(
    "points_grpc_ready",
    "gauge",
    "1 if the server serves, else 0 and why not: starting, no_writer, stopping.",
    ("reason",),
    "min",
)
CHECKPOINTS = Measure(
    "points_grpc_checkpoints",
    "counter",
    "Signed checkpoints of the journal: made; failed, which is tried again; contradicted: the journal does not hold "
    "what the last one says, and none is made.",
    ("outcome",),
)
CHECKPOINT_OVERDUE_SECONDS = Measure(
    "points_grpc_checkpoint_overdue_seconds",
    "gauge",
    "For how long a checkpoint has been due; 0 if none is, where none are made, and on servers that are not on duty.",
    (),
    "max",
)
INFO = Measure(
    "points_grpc_info", "gauge", "Always 1; which version and engine this is.", ("version", "backend"), "each"
)

MEASURES = (
    CALLS,
    CALL_SECONDS,
    CALLS_IN_FLIGHT,
    REFUSED,
    QUEUE_COMMANDS,
    QUEUE_AGE_SECONDS,
    BATCH_COMMANDS,
    BATCH_WAIT_SECONDS,
    BATCH_SECONDS,
    COMMIT_SECONDS,
    CONFLICTS,
    DEFERRALS,
    POINTS,
    OTPS,
    MESSAGES,
    EVENTS,
    OUTBOX_MESSAGES,
    OUTBOX_AGE_SECONDS,
    OUTBOX_EVENTS,
    WRITER_STARTS,
    READY,
    CHECKPOINTS,
    CHECKPOINT_OVERDUE_SECONDS,
    INFO,
)
"""All of them, in the order in which they are told."""
