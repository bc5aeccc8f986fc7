"""Books what became of messages and events: for each organisation a command, of the server's own making."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from points_grpc.domain.commands import AcknowledgeMessages, AcknowledgeNotices, Submission


def book(
    acknowledgements: Mapping[int, AcknowledgeMessages | AcknowledgeNotices],
    submit: Callable[[Submission], None],
    booked: Callable[[int], None],
    *,
    actor: str,
) -> None:
    """Submits the command of each organisation, and tells of each that is committed.

    One whose booking fails keeps nobody else's from being booked; the failure is raised when all had their turn.
    """
    failed: Exception | None = None
    for org_id, command in acknowledgements.items():
        submission = Submission(
            org_id=org_id,
            command=command,
            request_id=uuid.uuid4().hex,
            request_id_given=False,
            fingerprint={},
            actor=actor,
            otp_seed=b"",
        )
        try:
            submit(submission)
        except Exception as error:  # noqa: BLE001 - raised below, after the others' turn
            failed = error
        else:
            booked(org_id)
    if failed is not None:
        raise failed
