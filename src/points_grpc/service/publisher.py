"""The publisher: takes business events that are due, has them posted, and books what became of them.

As the dispatcher does with codes, and apart from it, so that no code waits behind an event: on the server that is on
duty, at least once, of each customer one at a time and in order. An event is worth more patience than a code: it is
tried for a day, then given up and kept, so that what comes after it is not kept for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Protocol

from points_grpc.domain.commands import AcknowledgeNotices, NoticeResult, Submission
from points_grpc.domain.letters import Undelivered
from points_grpc.domain.model import Notice, OrgConfig
from points_grpc.domain.notices import wanted
from points_grpc.service.booking import book
from points_grpc.service.ports import Notices

PARALLEL = 8
POLL_S = 0.2
AFTER_FAILURE_S = 1.0
BACKOFF_MAX_S = 300.0
GIVEN_UP_AFTER = timedelta(days=1)
DOUBLINGS_MAX = 10
"""From so many failures on the pause is the longest one."""

UNREADABLE = "CONFIGURATION_INVALID"
"""Why an event waits whose organisation's key does not say which ones it wants."""

LAST_BOOKINGS_MAX = 4
"""How often a publisher that stops tries to book what it knows to be delivered."""


class Post(Protocol):
    """Posts one event, or raises `Undelivered`. Called from several threads."""

    def send(self, notice: Notice) -> None:
        """Returns once the other side took it."""
        ...


class PublishingLog(Protocol):
    """Whom the publisher tells that something failed; never with what an event says."""

    def unpublished(self, event_id: int, error: str, *, given_up: bool) -> None:
        """An event could not be posted."""
        ...

    def events_unreachable(self, error: str) -> None:
        """Events could not be read or booked."""
        ...


class Publisher:
    """Posts what is due until it is stopped."""

    def __init__(
        self,
        notices: Notices,
        *,
        post: Post,
        submit: Callable[[Submission], None],
        now: Callable[[], datetime],
        log: PublishingLog,
        jitter: Callable[[], float],
        parallel: int = PARALLEL,
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        """As the dispatcher: `submit` returns once a command is committed, and raises if it is not."""
        self._notices = notices
        self._post = post
        self._submit = submit
        self._now = now
        self._log = log
        self._jitter = jitter
        self._parallel = parallel
        self._on_duty = on_duty
        self._unbooked: dict[int, int] = {}
        self._stop = Event()
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="events-post")
        self._thread = Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self) -> None:
        """Has it begin with nothing more; `stop` waits for what is in hand."""
        self._stop.set()

    def stop(self, timeout_s: float) -> None:
        """Asks the threads to end after the events in hand, and waits until these are booked."""
        self._stop.set()
        self._thread.join(timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def publish_due(self) -> int:
        """Posts what is due now, while on duty; returns how many events were tried."""
        if not self._on_duty():
            return 0
        due = self._notices.due_notices(self._now(), self._parallel)
        configs = {org_id: self._notices.config(org_id) for org_id in {one.org_id for one in due}}
        tried = list(self._pool.map(lambda one: self._deliver(one, configs[one.org_id]), due))
        results: dict[int, list[NoticeResult]] = {}
        for one, result in zip(due, tried, strict=True):
            if result is None:
                continue
            results.setdefault(one.org_id, []).append(result)
            if result.delivered:
                self._unbooked[one.event_id] = one.org_id
        count = sum(map(len, results.values()))
        self._book(results, but={one.event_id for one in due})
        return count

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                tried = self.publish_due()
            except Exception as error:  # noqa: BLE001 - without this thread no event leaves any more
                self._log.events_unreachable(type(error).__name__)
                self._stop.wait(AFTER_FAILURE_S)
                continue
            if not tried:
                self._stop.wait(POLL_S)
        for attempt in range(LAST_BOOKINGS_MAX):
            try:
                self._book({})
            except Exception as error:  # noqa: BLE001 - as above; the next server posts these again
                self._log.events_unreachable(type(error).__name__)
                time.sleep(POLL_S * 2**attempt)
            else:
                return

    def _book(self, results: dict[int, list[NoticeResult]], but: Collection[int] = ()) -> None:
        """Books each organisation's results, and what was posted before and could not be booked then, `but` some."""
        for event_id, org_id in self._unbooked.items():
            if event_id not in but:
                results.setdefault(org_id, []).append(_delivered(event_id))
        acknowledged = {org_id: AcknowledgeNotices(tuple(found)) for org_id, found in results.items()}

        def booked(org_id: int) -> None:
            for one in results[org_id]:
                self._unbooked.pop(one.event_id, None)

        book(acknowledged, self._submit, booked, actor="events")

    def _deliver(self, notice: Notice, config: OrgConfig) -> NoticeResult | None:
        """What became of an event; None if it was not tried: after a stop, off duty, or nobody knows who wants it."""
        if self._stop.is_set() or not self._on_duty() or not config.available:
            return None
        if notice.event_id in self._unbooked:  # posted before, and only the booking failed
            return _delivered(notice.event_id)
        kinds = wanted(config)
        if kinds is None:
            return self._failed(notice, UNREADABLE, final=False)
        if notice.kind not in kinds:  # the organisation changed its mind: it is taken off the list
            return _delivered(notice.event_id)
        try:
            self._post.send(notice)
        except Undelivered as error:
            return self._failed(notice, error.cause, final=error.final)
        except Exception as error:  # noqa: BLE001 - a post may fail in any way; the event stays
            return self._failed(notice, type(error).__name__, final=False)
        return _delivered(notice.event_id)

    def _failed(self, notice: Notice, cause: str, *, final: bool) -> NoticeResult:
        wait_s = min(BACKOFF_MAX_S, 2.0 ** min(notice.attempts, DOUBLINGS_MAX)) * self._jitter()
        retry_at = self._now() + timedelta(seconds=wait_s)
        given_up = final or retry_at >= (notice.tried_since or notice.created_at) + GIVEN_UP_AFTER
        self._log.unpublished(notice.event_id, cause, given_up=given_up)
        return NoticeResult(notice.event_id, False, cause, None if given_up else retry_at)


def _delivered(event_id: int) -> NoticeResult:
    return NoticeResult(event_id, True, "", None)
