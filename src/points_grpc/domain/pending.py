"""The warning that earlier messages to a customer wait because the oldest of them failed (900).

Asked of a decision that was made: whatever the command did, it is done. The command's own messages do not count.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.commands import Command, operation_of
from points_grpc.domain.events import MessageQueued
from points_grpc.domain.outcome import Accepted, Decision, Outcome, Warning
from points_grpc.domain.snapshot import Keys, Snapshot

NO_STATUS = "0"
"""The status code of a failure that has none: senders raise, and what they raise has a name."""


def with_pending_events(decision: Decision, command: Command, keys: Keys, snapshot: Snapshot) -> Outcome:
    """The outcome of a decision, with a warning for each party whose messages wait."""
    outcome = decision.outcome
    if not isinstance(outcome, Accepted) or operation_of(command) not in codes.PENDING_EVENTS.operations:
        return outcome
    own = {event.message.message_id for event in decision.events if isinstance(event, MessageQueued)}
    warnings = tuple(_warnings(sorted(keys.customers), own, snapshot))
    return replace(outcome, warnings=(*outcome.warnings, *warnings)) if warnings else outcome


def _warnings(customer_ids: Iterable[int], own: set[int], snapshot: Snapshot) -> Iterable[Warning]:
    for customer_id in customer_ids:
        waiting = [one for one in snapshot.waiting_messages(customer_id) if one.message_id not in own]
        if waiting and waiting[0].attempts:
            yield Warning(
                codes.PENDING_EVENTS,
                {
                    "queue_size": str(len(waiting)),
                    "failed_event": f"{waiting[0].action.name}_OTP",
                    "failure_reason": waiting[0].error,
                    "status_code": NO_STATUS,
                },
            )
