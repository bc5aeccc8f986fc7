"""The dispatcher: takes due messages from the outbox, has them sent, and books what became of them.

Of all servers of a database the one on duty sends (`duty`). At least once: a message is marked after it was sent. One
that failed waits, longer each time, with jitter. One whose code expires before its next try, that failed too often, or
that its receiver will never take, is given up; the ciphertext is erased either way. Acknowledgements are commands
through the committer like any other write.

A round sends what is due side by side: of one customer and destination the outbox hands out one message at a time, so
that these stay in order, and nobody waits for the destination of somebody else. It takes no more than can be sent at
once: what waits in the outbox can still be cancelled, and what was sent is booked soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Protocol

from points_grpc.domain.commands import AcknowledgeMessages, MessageResult, Submission
from points_grpc.domain.letters import Letter, Undelivered, filled, wording
from points_grpc.domain.model import Channel, OrgConfig
from points_grpc.service.booking import book
from points_grpc.service.keyring import Keyring, UnknownKey
from points_grpc.service.ports import Outbox, SealedMessage

PARALLEL = 8
"""Messages of a round, if nobody says otherwise. As many may be sent again after a crash: it is booked at its end."""

POLL_S = 0.1
AFTER_FAILURE_S = 1.0
LAST_BOOKINGS_MAX = 4
"""How often a dispatcher that stops tries to book what it knows to be delivered; after a tenth of a second, longer each
time."""

ATTEMPTS_MAX = 10
FORGOTTEN = timedelta(hours=1)
"""How long after it has expired a message is remembered that was sent and never booked: it was cancelled meanwhile."""

BACKOFF_MAX_S = 60.0


class Sender(Protocol):
    """Delivers one message, or raises; `Undelivered` says more than other exceptions. Called from several threads."""

    def send(self, letter: Letter) -> None:
        """Returns once the message was handed over."""
        ...


class Failures(Protocol):
    """Whom the dispatcher tells that something failed; never with target or code."""

    def undelivered(self, message_id: int, error: str, *, given_up: bool) -> None:
        """A message could not be sent."""
        ...

    def passed_over(self, org_id: int, key: str, flaw: str) -> None:
        """A text that an organisation configured cannot be used; said once."""
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
        jitter: Callable[[], float],
        parallel: int = PARALLEL,
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        """`submit` hands a command to the committer, waits until it is committed, and raises if it is not.

        `jitter` says which part of a pause is waited for, up to 1. `parallel`: how many messages are sent at once.
        `on_duty` says whether nobody else may be sending; it is asked before each message.
        """
        self._outbox = outbox
        self._keyring = keyring
        self._senders = senders
        self._submit = submit
        self._now = now
        self._failures = failures
        self._jitter = jitter
        self._on_duty = on_duty
        self._unbooked: dict[int, SealedMessage] = {}
        self._told: set[tuple[int, str, str]] = set()
        self._stop = Event()
        self._parallel = parallel
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="outbox-send")
        self._thread = Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self) -> None:
        """Has it begin with nothing more; `stop` waits for what is in hand."""
        self._stop.set()

    def stop(self, timeout_s: float) -> None:
        """Asks the threads to end after the messages in hand, and waits for them: for what was sent to be booked, too.

        While a server drains, its writer may drop a booking; by now it takes it.
        """
        self._stop.set()
        self._thread.join(timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def dispatch_due(self) -> int:
        """Sends what is due now, while on duty; returns how many messages were tried."""
        if not self._on_duty():
            return 0
        now = self._now()
        due = self._outbox.due_messages(now, self._parallel)
        self._unbooked = {key: one for key, one in self._unbooked.items() if one.expires_at > now - FORGOTTEN}
        configs = {org_id: self._outbox.config(org_id) for org_id in {one.org_id for one in due}}
        queues: dict[tuple[int, int, str], list[SealedMessage]] = {}
        for message in sorted(due, key=lambda one: one.message_id):
            queues.setdefault((message.org_id, message.customer_id, message.target), []).append(message)
        results: dict[int, list[MessageResult]] = {org_id: [] for org_id in configs}
        tried = self._pool.map(lambda queue: self._deliver(queue, configs[queue[0].org_id]), queues.values())
        for (org_id, _, _), of_queue in zip(queues, tried, strict=True):
            results[org_id] += of_queue
        sent = {one.message_id for found in results.values() for one in found if one.delivered}
        self._unbooked.update((one.message_id, one) for one in due if one.message_id in sent)
        self._book(results)
        return sum(map(len, results.values()))

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
        self._book_the_rest()

    def _book_the_rest(self) -> None:
        """Books what was sent and could not be booked: the next server would send it again. Tries a few times."""
        for attempt in range(LAST_BOOKINGS_MAX):
            known: dict[int, list[MessageResult]] = {}
            for one in self._unbooked.values():
                known.setdefault(one.org_id, []).append(_delivered(one))
            try:
                self._book(known)
            except Exception as error:  # noqa: BLE001 - as in every other round
                self._failures.unreachable(type(error).__name__)
                time.sleep(POLL_S * 2**attempt)
            else:
                return

    def _book(self, results: Mapping[int, Sequence[MessageResult]]) -> None:
        """Books each organisation's results."""
        acknowledged = {org_id: AcknowledgeMessages(tuple(found)) for org_id, found in results.items() if found}

        def booked(org_id: int) -> None:
            for one in results[org_id]:
                self._unbooked.pop(one.message_id, None)

        book(acknowledged, self._submit, booked, actor="outbox")

    def _deliver(self, queue: Iterable[SealedMessage], config: OrgConfig) -> list[MessageResult]:
        """Tries the messages to one destination until one has to wait; none after a stop, or off duty."""
        results: list[MessageResult] = []
        for message in queue:
            if self._stop.is_set() or not self._on_duty():
                break
            results.append(self._try(message, config))
            if results[-1].retry_at is not None:
                break
        return results

    def _try(self, message: SealedMessage, config: OrgConfig) -> MessageResult:
        now = self._now()
        sender = self._senders.get(message.channel)
        if message.message_id in self._unbooked:  # sent before, and only the booking failed
            return _delivered(message)
        if message.expires_at < now:
            return self._given_up(message, "EXPIRED")
        if sender is None:
            return self._given_up(message, "NO_SENDER")
        try:
            sender.send(self._letter(message, config, now))
        except UnknownKey:
            return self._given_up(message, "KEY_LOST")
        except Undelivered as error:
            return self._failed(message, error.cause, final=error.final)
        except Exception as error:  # noqa: BLE001 - a sender may fail in any way; the message stays
            return self._failed(message, type(error).__name__, final=False)
        return _delivered(message)

    def _letter(self, message: SealedMessage, config: OrgConfig, now: datetime) -> Letter:
        """The message with its code in the clear, which from here on is in the sender's hands alone."""
        code = self._keyring.open(message.key_id, message.sealed)
        words = wording(config, message.action, message.channel, message.locale)
        for key, flaw in words.flaws.items():
            if (message.org_id, key, flaw) not in self._told:
                self._told.add((message.org_id, key, flaw))
                self._failures.passed_over(message.org_id, key, flaw)
        return Letter(
            org_id=message.org_id,
            message_id=message.message_id,
            action=message.action,
            channel=message.channel,
            target=message.target,
            code=code,
            subject=filled(words.subject, code=code, expires_at=message.expires_at, now=now),
            text=filled(words.text, code=code, expires_at=message.expires_at, now=now),
            expires_at=message.expires_at,
        )

    def _failed(self, message: SealedMessage, cause: str, *, final: bool) -> MessageResult:
        """Another try after a pause that doubles; none if it would come too late."""
        wait_s = min(BACKOFF_MAX_S, 2.0**message.attempts) * self._jitter()
        retry_at = self._now() + timedelta(seconds=wait_s)
        if final or message.attempts + 1 >= ATTEMPTS_MAX or retry_at >= message.expires_at:
            return self._given_up(message, cause)
        self._failures.undelivered(message.message_id, cause, given_up=False)
        return MessageResult(message.message_id, message.customer_id, False, cause, retry_at)

    def _given_up(self, message: SealedMessage, error: str) -> MessageResult:
        self._failures.undelivered(message.message_id, error, given_up=True)
        return MessageResult(message.message_id, message.customer_id, False, error, None)


def _delivered(message: SealedMessage) -> MessageResult:
    return MessageResult(message.message_id, message.customer_id, True, "", None)
