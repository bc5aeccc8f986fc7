"""The composition root of the server: settings become objects that serve. The only place that knows all rooms.

Order of the start: settings, schema, keys, writer (which takes the lease), identity, outbox, port; of the end: port,
outbox, writer. A start that is refused has made nothing: the keys file comes after the look at the schema.
What decides and writes is put together in `writer_composition.py`, in the writer's process.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from points_grpc import __version__
from points_grpc.cli import dev_world
from points_grpc.cli.announcing import announce, served_by_this_process
from points_grpc.cli.checkpoints import Checkpoints
from points_grpc.cli.collector import calm_collector
from points_grpc.cli.directory import AccountsDirectory
from points_grpc.cli.issuer import tokens_of
from points_grpc.cli.listening import address_of, exempt_of, tls_of
from points_grpc.cli.scheduling import run_in_batches
from points_grpc.cli.senders import post_of, senders_of
from points_grpc.cli.tokens import new_key
from points_grpc.cli.tracing import is_traced, traces_of
from points_grpc.cli.watched_keys import WatchedKeys
from points_grpc.cli.worker_link import Served, WorkerLink
from points_grpc.cli.writer_process import ChildWriter
from points_grpc.domain.commands import Submission
from points_grpc.domain.model import Channel
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.rpc.identity import Callers, Tokens
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.logs import LineSink, make_logger
from points_grpc.rpc.metrics import PrometheusMetrics, State
from points_grpc.rpc.ports import CallLog, DurabilityFact, LimitFact, ServerFacts
from points_grpc.rpc.rates import SharedRates
from points_grpc.rpc.server import PointsServer, Wiring
from points_grpc.service.checker import Checker
from points_grpc.service.checks import Checks
from points_grpc.service.committer import Committer, QueueLimits
from points_grpc.service.duty import AlwaysOnDuty, Duty
from points_grpc.service.exporting import Exporting
from points_grpc.service.frames import BugReport, Hello, Setup
from points_grpc.service.keeper import Keeper
from points_grpc.service.keyring import Keyring
from points_grpc.service.meter import Counted
from points_grpc.service.outbox import Dispatcher, Sender
from points_grpc.service.ports import StorageConflict, StorageUnavailable
from points_grpc.service.publisher import Post, Publisher
from points_grpc.service.reads import PooledListings, PooledQueries, ReadPool
from points_grpc.service.sweep import Sweep
from points_grpc.service.watching import Watching
from points_grpc.settings import Settings
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.backlog import read_backlog
from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.exports import SqlExports
from points_grpc.storage.key_uses import key_uses
from points_grpc.storage.listings import SqlListings
from points_grpc.storage.opening import open_claim, open_snapshots
from points_grpc.storage.queries import SqlQueries
from points_grpc.storage.repository import SqlSnapshots
from points_grpc.storage.watching import SqlJournal

if TYPE_CHECKING:
    from points_grpc.rpc.traces import Traces

LEASE_WAIT_S = 5.0
"""How long a new writer waits for the one before, whose server may have died a moment ago."""

WRITER_STOP_S = 15.0
"""How long a writer may take to answer what waits at the end. A transaction of another process can hold it up for 5."""

DEV_SETUP_S = 10.0
OUTBOX_BOOKING_S = 5.0
"""How long a booking of the outbox may take; at the end, the last message may take its time before it."""

DUTY_STOP_S = 5.0
SWEEP_COMMAND_S = 30.0


async def serve(settings: Settings, *, dev: bool, worker: WorkerLink | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `worker`: as one of several on a port."""
    run_in_batches()
    loop = asyncio.get_running_loop()
    sink = LineSink(sys.stderr.buffer, shared=worker is not None)
    sink.attach(loop)
    log: CallLog = make_logger(sink, calls=settings.log_calls, worker=worker.order.number if worker else 0)
    tls, tokens = tls_of(settings, log), tokens_of(settings, log)
    senders, post, metrics = senders_of(settings), post_of(settings), PrometheusMetrics()
    database = _database(settings)
    snapshots = open_snapshots(database)
    pool = ReadPool(threads=settings.readers)
    keys = WatchedKeys(settings.keys_path(database.path), log)
    traces = traces_of(os.environ, version=__version__, database_url=settings.database)
    committer = Committer(
        monotonic=time.monotonic,
        observer=_Observer(log, metrics),
        limits=QueueLimits(settings.waiting_max, settings.queue_age_max_s),
        tracer=traces,
    )
    availability = _Availability(settings, log)
    keeper = Keeper(ChildWriter, _setup(settings, database, senders), committer, availability, version=__version__)
    await keeper.start()
    accounts = Accounts(database)
    identity = _callers(AccountsDirectory(accounts, keys.keyring), tokens, log)
    await asyncio.to_thread(_tell_missing_keys, database, keys.keyring, log)
    token = await _make_dev_world(accounts, committer) if dev else None
    await identity.start()
    checks = Checks(snapshots, keyring=keys.keyring, channels=frozenset(senders))
    server = PointsServer(
        Wiring(
            submitter=committer,
            checker=Checker(pool, checks, time.monotonic),
            reads=PooledQueries(pool, SqlQueries(database)),
            lists=PooledListings(pool, SqlListings(database)),
            watching=Watching(pool, SqlJournal(database), poll_s=settings.watch_poll_ms / 1000),
            exporting=Exporting(pool, SqlExports(database)),
            identity=identity,
            facts=availability,
            log=log,
            token_keys=keys.keyring.page_keys,
            metrics=metrics,
            tracer=traces,
            limits=_limits(settings),
            rates=SharedRates(worker.order.rates) if worker else None,
            exempt=exempt_of(settings),
            shares_port=worker is not None,
        )
    )
    duty = _duty(database, log)
    checkpoints = Checkpoints(settings, database, keys.keyring, log, on_duty=duty.held)
    availability.tell(server, checkpoints)
    metrics.look_at(_State(server, committer, availability, database, checkpoints))
    port = server.bind(address_of(settings), tls.credentials() if tls else None)
    chores = _Chores(
        duty,
        checkpoints,
        _dispatcher(snapshots, keys.keyring, senders, settings, committer, loop, log, duty),
        _publisher(snapshots, post, settings, committer, loop, log, duty) if post else None,
        _sweep(snapshots, settings, committer, loop, log, duty) if settings.sweep_interval_s else None,
        outbox_stop_s=settings.otp_timeout_s + OUTBOX_BOOKING_S,
    )
    chores.start()
    keys.start()
    metrics_server = (
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
        if settings.metrics_port
        else None
    )
    calm_collector()
    await server.start()
    served = served_by_this_process(address_of(settings, port), token, writer_pid=availability.hello.pid)
    log.info("serving", address=address_of(settings, port), tls=tls is not None, version=__version__)
    await _until_stopped(settings, served, worker)
    log.info("draining")
    await server.drain(settings.drain_s)
    await loop.run_in_executor(None, chores.stop)
    keys.stop()
    await keeper.stop(WRITER_STOP_S)
    await identity.stop()
    pool.close()
    database.close()
    await _close_outlets(loop, metrics_server, traces)
    log.info("stopped")
    sink.attach(None)
    sink.flush()


async def _close_outlets(
    loop: asyncio.AbstractEventLoop, metrics_server: tuple[WSGIServer, Thread] | None, traces: Traces | None
) -> None:
    """Ends the endpoint of the metrics, and sends the last traces."""
    if metrics_server is not None:
        metrics_server[0].shutdown()
    if traces is not None:
        await loop.run_in_executor(None, traces.close)


async def _until_stopped(settings: Settings, served: Served, worker: WorkerLink | None) -> None:
    """Says that this process serves, and waits until it is told to stop. A worker also stops without a supervisor."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    if worker is None:
        announce(settings.ready_file, served, tls=settings.tls_certificate is not None)
    else:
        worker.when_alone(loop, stopped.set)
        worker.tell(served)
    await stopped.wait()


class _Chores:
    """What goes on beside the calls: sending messages, sweeping and checkpoints, while this server is on duty."""

    def __init__(
        self,
        duty: Duty | AlwaysOnDuty,
        checkpoints: Checkpoints,
        dispatcher: Dispatcher,
        publisher: Publisher | None,
        sweep: Sweep | None,
        *,
        outbox_stop_s: float,
    ) -> None:
        self._outbox_stop_s = outbox_stop_s
        self._duty = duty
        self._checkpoints = checkpoints
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._sweep = sweep

    def start(self) -> None:
        """Starts the threads."""
        self._duty.start()
        self._checkpoints.start()
        self._dispatcher.start()
        if self._publisher is not None:
            self._publisher.start()
        if self._sweep is not None:
            self._sweep.start()

    def stop(self) -> None:
        """Waits for what is in hand, and gives duty back last."""
        until = time.monotonic() + self._outbox_stop_s
        chores = [one for one in (self._dispatcher, self._publisher, self._sweep) if one is not None]
        for one in chores:
            one.end()
        for one in chores:
            one.stop(max(0.0, until - time.monotonic()))
        self._checkpoints.stop()
        self._duty.stop(DUTY_STOP_S)


class _Observer:
    """Counts and logs what the committer reports; nothing is logged per batch."""

    def __init__(self, log: CallLog, metrics: PrometheusMetrics) -> None:
        self._log = log
        self._metrics = metrics

    def batch(self, *, size: int, seconds: float, oldest_wait_s: float, counted: Counted) -> None:
        """Counts a batch."""
        self._metrics.batch(
            size=size,
            seconds=seconds,
            wait_s=oldest_wait_s,
            commit_s=counted.commit_s,
            conflicts=counted.conflicts,
            deferred=counted.deferred,
        )
        self._metrics.add(
            refused=counted.refused,
            points=counted.points,
            otps=counted.otps,
            messages=counted.messages,
            notices=counted.notices,
        )

    def bug(self, report: BugReport) -> None:
        """Logs the kind of the error and where it was raised."""
        self._log.error(
            "bug",
            error=report.error,
            operation=report.operation,
            request_id=report.request_id,
            frames=report.frames,
        )

    def unable(self, message: str) -> None:
        """Logs why the writer ends; another one is started."""
        self._log.error("writer_unable", error=message)


class _State:
    """Looks up what the metrics tell of the present; asked from a thread of Prometheus' endpoint."""

    def __init__(
        self,
        server: PointsServer,
        committer: Committer,
        availability: _Availability,
        database: Database,
        checkpoints: Checkpoints,
    ) -> None:
        self._checkpoints = checkpoints
        self._server = server
        self._committer = committer
        self._availability = availability
        self._database = database

    def __call__(self) -> State:
        hello = self._availability.hello
        return State(
            calls_in_flight=self._server.calls_in_flight,
            queue_commands=self._committer.waiting,
            queue_age_s=self._committer.queue_age_s,
            outbox=self._outbox(),
            writer_starts=self._availability.starts,
            not_ready=self._server.not_ready,
            checkpoints=self._checkpoints.outcomes(),
            checkpoint_overdue_s=self._checkpoints.overdue_s(),
            version=hello.version,
            backend=hello.backend,
        )

    def _outbox(self) -> tuple[int, float, int] | None:
        try:
            found = read_backlog(self._database)
        except (StorageConflict, StorageUnavailable):
            return None
        age_s = 0.0 if found.since is None else (datetime.now(UTC) - found.since).total_seconds()
        return found.messages, max(0.0, age_s), found.events


class _OutboxLog:
    """Logs what dispatcher and publisher report."""

    def __init__(self, log: CallLog) -> None:
        self._log = log

    def undelivered(self, message_id: int, error: str, *, given_up: bool) -> None:
        """A message could not be sent."""
        self._log.error("message_undelivered", message_id=message_id, error=error, given_up=given_up)

    def passed_over(self, org_id: int, key: str, flaw: str) -> None:
        """A text that an organisation configured cannot be used."""
        self._log.error("message_text_passed_over", org=org_id, key=key, flaw=flaw)

    def unreachable(self, error: str) -> None:
        """The outbox could not be read or booked."""
        self._log.error("outbox_unreachable", error=error)

    def unpublished(self, event_id: int, error: str, *, given_up: bool) -> None:
        """An event could not be posted."""
        self._log.error("event_unpublished", event_id=event_id, error=error, given_up=given_up)

    def events_unreachable(self, error: str) -> None:
        """Events could not be read or booked."""
        self._log.error("events_unreachable", error=error)


class _SweepLog:
    """Logs what the sweep reports."""

    def __init__(self, log: CallLog) -> None:
        self._log = log

    def swept(self, wallets: int, due: int) -> None:
        """A run that found nothing leaves no line."""
        if due:
            self._log.info("swept", wallets=wallets, due=due)

    def failed(self, error: str) -> None:
        """A run could not be finished."""
        self._log.error("sweep_failed", error=error)


class _DutyLog:
    """Logs who delivers and sweeps."""

    def __init__(self, log: CallLog) -> None:
        self._log = log

    def taken(self) -> None:
        """It is this server from now on."""
        self._log.info("duty_taken")

    def lost(self, error: str) -> None:
        """Another one may from now on."""
        self._log.error("duty_lost", error=error)


class _Availability:
    """Knows the writer in force: what it said of its durability, and whether there is one at all."""

    def __init__(self, settings: Settings, log: CallLog) -> None:
        self._log = log
        self._server: PointsServer | None = None
        self._checkpoints: Checkpoints | None = None
        self._hello: Hello | None = None
        self.starts = 0
        self._limits = (
            LimitFact("batch_max", settings.batch_max, "commands per commit"),
            LimitFact("waiting_max", settings.waiting_max, "commands"),
            LimitFact("queue_age_max_ms", int(settings.queue_age_max_s * 1000), "ms"),
        )

    @property
    def hello(self) -> Hello:
        """What the writer in force, or the one before, said of itself."""
        assert self._hello is not None, "the first writer is ready before anybody can ask"
        return self._hello

    def tell(self, server: PointsServer, checkpoints: Checkpoints) -> None:
        """Says whose health follows from now on, and who knows of checkpoints."""
        self._server, self._checkpoints = server, checkpoints

    async def server_facts(self) -> ServerFacts:
        """What GetServerInfo tells; the durability was read from the writer's own connection."""
        hello = self.hello
        return ServerFacts(
            version=__version__,
            schema_revision=hello.schema_revision,
            durability=DurabilityFact(backend=hello.backend, settings=hello.durability, durable=hello.durable),
            limits=self._limits,
            checkpoints=None if self._checkpoints is None else self._checkpoints.fact(),
        )

    def started(self, hello: Hello) -> None:
        """A writer is ready."""
        self._hello = hello
        self.starts += 1
        self._log.info("writer_started", pid=hello.pid, slot=hello.slot, epoch=hello.epoch)
        if self._server is not None:
            self._server.resume()

    def ended(self, *, pid: int, exit_code: int, understood: bool) -> None:
        """A writer died."""
        self._log.error("writer_ended", pid=pid, exit_code=exit_code, understood=understood)

    def lost(self) -> None:
        """Nothing can be written until another writer is ready."""
        if self._server is not None:
            self._server.suspend()

    def failed(self, message: str) -> None:
        """Another one could not be started."""
        self._log.error("writer_not_started", error=message)


def _database(settings: Settings) -> Database:
    """The database, which has the schema of this program; and it is known where its keys are."""
    opened = Database(settings.database, readers=settings.readers + 2)
    settings.keys_path(opened.path)
    require_schema(opened)
    return opened


def _tell_missing_keys(database: Database, keyring: Keyring, log: CallLog) -> None:
    """Says at the start what was made with keys that are not at hand: perhaps the file is the wrong one."""
    for key_id, used in sorted(key_uses(database, datetime.now(UTC), with_codes=False).items()):
        if key_id not in keyring.key_ids:
            log.error("key_missing", key=key_id, messages=used.messages, signing_keys=used.signing_keys)


def _callers(directory: AccountsDirectory, tokens: Tokens | None, log: CallLog) -> Callers:
    return Callers(directory, log, tokens=tokens, note_use=directory.note_use)


def _limits(settings: Settings) -> Limits:
    """The limits of the wire. No organisation may fill the queue of the writer, however small it is."""
    return Limits(
        deadline_default_s=int(settings.deadline_default_s),
        client_reads_per_s=settings.client_reads_per_s,
        client_writes_per_s=settings.client_writes_per_s,
        org_calls_per_s=settings.org_calls_per_s,
        quota_burst_ms=settings.quota_burst_ms,
        org_calls_in_flight_max=settings.org_calls_in_flight_max,
        org_watches_max=settings.org_watches_max,
        watches_max=settings.watches_max,
        org_exports_max=settings.org_exports_max,
        watch_poll_ms=settings.watch_poll_ms,
        watch_bookmark_ms=settings.watch_bookmark_ms,
        org_items_in_flight_max=max(1, min(settings.org_items_in_flight_max, settings.waiting_max // 2)),
    )


def _setup(settings: Settings, database: Database, senders: Mapping[Channel, Sender]) -> Setup:
    return Setup(
        database=settings.database,
        keys_file=str(settings.keys_path(database.path).absolute()),
        channels=tuple(channel.value for channel in senders),
        batch_max=settings.batch_max,
        lease_wait_s=LEASE_WAIT_S,
        publishes=bool(settings.events_webhook_url),
        traced=is_traced(os.environ),
    )


def _duty(database: Database, log: CallLog) -> Duty | AlwaysOnDuty:
    claim = open_claim(database)
    return AlwaysOnDuty() if claim is None else Duty(claim, observer=_DutyLog(log), monotonic=time.monotonic)


def _dispatcher(
    snapshots: SqlSnapshots,
    keyring: Keyring,
    senders: Mapping[Channel, Sender],
    settings: Settings,
    committer: Committer,
    loop: asyncio.AbstractEventLoop,
    log: CallLog,
    duty: Duty | AlwaysOnDuty,
) -> Dispatcher:
    return Dispatcher(
        snapshots,
        keyring=keyring,
        senders=senders,
        submit=_booking(committer, loop),
        now=lambda: datetime.now(UTC),
        failures=_OutboxLog(log),
        jitter=lambda: random.uniform(0.5, 1.0),  # noqa: S311 - no secret
        parallel=settings.otp_parallel,
        on_duty=duty.held,
    )


def _publisher(
    snapshots: SqlSnapshots,
    post: Post,
    settings: Settings,
    committer: Committer,
    loop: asyncio.AbstractEventLoop,
    log: CallLog,
    duty: Duty | AlwaysOnDuty,
) -> Publisher:
    return Publisher(
        snapshots,
        post=post,
        submit=_booking(committer, loop),
        now=lambda: datetime.now(UTC),
        log=_OutboxLog(log),
        jitter=lambda: random.uniform(0.5, 1.0),  # noqa: S311 - no secret
        parallel=settings.events_parallel,
        on_duty=duty.held,
    )


def _booking(committer: Committer, loop: asyncio.AbstractEventLoop) -> Callable[[Submission], None]:
    """Hands a command of the outbox to the committer, and waits until it is committed."""

    def submit(submission: Submission) -> None:
        waiting = committer.submit(submission, time.monotonic() + OUTBOX_BOOKING_S)
        outcome = asyncio.run_coroutine_threadsafe(waiting, loop).result().outcome
        if isinstance(outcome, Refused):
            raise StorageUnavailable(outcome.code.reason)

    return submit


def _sweep(
    snapshots: SqlSnapshots,
    settings: Settings,
    committer: Committer,
    loop: asyncio.AbstractEventLoop,
    log: CallLog,
    duty: Duty | AlwaysOnDuty,
) -> Sweep:
    def submit(submission: Submission) -> None:
        waiting = committer.submit(submission, time.monotonic() + SWEEP_COMMAND_S)
        asyncio.run_coroutine_threadsafe(waiting, loop).result()

    return Sweep(
        snapshots,
        submit=submit,
        now=lambda: datetime.now(UTC),
        observer=_SweepLog(log),
        interval_s=settings.sweep_interval_s,
        wallets_max=settings.sweep_wallets_max,
        on_duty=duty.held,
    )


async def _make_dev_world(accounts: Accounts, committer: Committer) -> str:
    """The demonstration organisation with its world, and a fresh key for it; earlier dev keys are revoked."""
    known = {org.name: org.org_id for org in accounts.list_orgs()}
    org_id = known.get(dev_world.ORGANISATION)
    if org_id is None:
        org_id = accounts.create_org(dev_world.ORGANISATION, dev_world.REGION)

    async def submit(submission: Submission) -> Settled:
        return await committer.submit(submission, time.monotonic() + DEV_SETUP_S)

    await dev_world.create(org_id, submit)
    for row in accounts.list_keys(org_id):
        if row.client == "dev" and row.revoked_at is None:
            accounts.revoke_key(org_id, row.key_id)
    key = new_key()
    accounts.create_key(key.key_id, org_id, client="dev", role="admin", secret_hash=key.secret_hash)
    return key.token
