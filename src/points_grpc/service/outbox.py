"""The dispatcher: one thread that takes due messages from the outbox, sends them, and books what became of them.

Of all servers of a database the one on duty sends (`duty`). At least once: a message is marked after it was sent. A
message whose code expired, or that failed too often, is given up; its ciphertext is erased either way. Acknowledgements
are commands through the committer like any other write.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from threading import Event, Thread
from typing import Protocol

from points_grpc.domain.commands import AcknowledgeMessages, MessageResult, Submission
from points_grpc.domain.model import Channel
from points_grpc.service.keyring import Keyring, UnknownKey
from points_grpc.service.ports import Outbox, SealedMessage

BATCH_MAX = 100
POLL_S = 0.1
AFTER_FAILURE_S = 1.0
ATTEMPTS_MAX = 8
BACKOFF_MAX_S = 60.0


class Sender(Protocol):
    """Delivers one message, or raises."""

    def send(self, channel: Channel, target: str, code: str) -> None:
        """Returns once the message was handed over."""
        ...


class Failures(Protocol):
    """Whom the dispatcher tells that something failed; never with target or code."""

    def undelivered(self, message_id: int, error: str, *, given_up: bool) -> None:
        """A message could not be sent."""
        ...

    def unreachable(self, error: str) -> None:
        """The outbox could not be read or booked."""
        ...


class Dispatcher:
    """Sends what is due until it is stopped."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        keyring: Keyring,
        senders: Mapping[Channel, Sender],
        submit: Callable[[Submission], None],
        now: Callable[[], datetime],
        failures: Failures,
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        """`submit` hands a command to the committer, waits until it is committed, and raises if it is not.

        `on_duty` says whether nobody else may be sending; it is asked before each message.
        """
        self._outbox = outbox
        self._keyring = keyring
        self._senders = senders
        self._submit = submit
        self._now = now
        self._failures = failures
        self._on_duty = on_duty
        self._unbooked: set[int] = set()
        self._stop = Event()
        self._thread = Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Asks the thread to end after the message in hand, and waits for it."""
        self._stop.set()
        self._thread.join(timeout_s)

    def dispatch_due(self) -> int:
        """Sends what is due now, while on duty; returns how many messages were tried."""
        if not self._on_duty():
            return 0
        due = self._outbox.due_messages(self._now(), BATCH_MAX)
        for org_id, messages in groupby(sorted(due, key=lambda one: one.org_id), key=lambda one: one.org_id):
            results = tuple(self._deliver(list(messages)))
            if not results:
                continue
            self._submit(
                Submission(
                    org_id=org_id,
                    command=AcknowledgeMessages(results),
                    request_id=uuid.uuid4().hex,
                    request_id_given=False,
                    fingerprint={},
                    actor="outbox",
                    otp_seed=b"",
                )
            )
            self._unbooked.difference_update(one.message_id for one in results)
        return len(due)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                sent = self.dispatch_due()
            except Exception as error:  # noqa: BLE001 - without this thread no code leaves any more
                self._failures.unreachable(type(error).__name__)
                self._stop.wait(AFTER_FAILURE_S)
                continue
            if not sent:
                self._stop.wait(POLL_S)

    def _deliver(self, messages: Sequence[SealedMessage]) -> list[MessageResult]:
        """Tries each message; after a failure the later ones to the same target wait for it."""
        results: list[MessageResult] = []
        blocked: set[tuple[int, str]] = set()
        for message in messages:
            if not self._on_duty():
                break
            if (message.customer_id, message.target) in blocked:
                continue
            result = self._try(message)
            if not result.delivered:
                blocked.add((message.customer_id, message.target))
            results.append(result)
        return results

    def _try(self, message: SealedMessage) -> MessageResult:
        now = self._now()
        sender = self._senders.get(message.channel)
        if message.message_id in self._unbooked:  # sent before, and only the booking failed
            return MessageResult(message.message_id, message.customer_id, True, "", None)
        if message.expires_at < now:
            return self._given_up(message, "EXPIRED")
        if sender is None:
            return self._given_up(message, "NO_SENDER")
        try:
            sender.send(message.channel, message.target, self._keyring.open(message.key_id, message.sealed))
        except UnknownKey:
            return self._given_up(message, "KEY_LOST")
        except Exception as error:  # noqa: BLE001 - a sender may fail in any way; the message stays
            if message.attempts + 1 >= ATTEMPTS_MAX:
                return self._given_up(message, type(error).__name__)
            self._failures.undelivered(message.message_id, type(error).__name__, given_up=False)
            wait_s = min(BACKOFF_MAX_S, 2.0**message.attempts)
            retry_at = now + timedelta(seconds=wait_s)
            return MessageResult(message.message_id, message.customer_id, False, type(error).__name__, retry_at)
        self._unbooked.add(message.message_id)
        return MessageResult(message.message_id, message.customer_id, True, "", None)

    def _given_up(self, message: SealedMessage, error: str) -> MessageResult:
        self._failures.undelivered(message.message_id, error, given_up=True)
        return MessageResult(message.message_id, message.customer_id, False, error, None)
