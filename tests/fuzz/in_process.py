"""The whole service in this process but for the transport: gate, servicers, rules, storage and renderers on a database
file, called with bytes and answering with bytes. Two processes, queue and sockets are left out; streams are, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import grpc
from wire_fakes import FakeFacts, FakeIdentity, FakeMetrics, NullLog

from points_grpc.domain.commands import Submission, operation_of
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.model import Channel
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.rpc.interceptor import Gate, required_roles
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.quotas import Quotas
from points_grpc.rpc.server import SERVICES, Wiring, add_services
from points_grpc.rpc.signature import Signatures
from points_grpc.service.checker import Checker
from points_grpc.service.checks import Checks
from points_grpc.service.executor import Deferred, Executor
from points_grpc.service.exporting import Exporting
from points_grpc.service.keyring import KEY_BYTES, Keyring
from points_grpc.service.ports import StorageConflict
from points_grpc.service.reads import PooledListings, PooledQueries, ReadPool
from points_grpc.service.watching import Watching
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.exports import SqlExports
from points_grpc.storage.listings import SqlListings
from points_grpc.storage.migrate import upgrade
from points_grpc.storage.opening import open_repository
from points_grpc.storage.queries import SqlQueries
from points_grpc.storage.watching import SqlJournal

CONFLICT_RETRIES = 3
CALL_S = 20.0


class Aborted(Exception):
    """How a context ends a call with a status."""


class Context:
    """What the servicers see of a call."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._trailing: tuple[tuple[str, Any], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", "Bearer admin"),)

    def time_remaining(self) -> float:
        return CALL_S

    async def read(self) -> bytes:
        return self._raw

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, trailing: tuple[tuple[str, Any], ...]) -> None:
        self._trailing = trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._trailing

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, Any]:
        return {}

    async def abort(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, Any], ...]) -> None:
        self._code, self._details, self._trailing = code, details, trailing
        raise Aborted


class Writes:
    """Runs each command at once, in the thread that calls; a batch as one."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def submit(self, submission: Submission, deadline: float) -> Settled:
        return self._run([submission])[0]

    def refuses(self, org_id: int, items: int, operation: str) -> Refused | None:
        return None

    async def submit_some(self, submissions: Sequence[Submission], deadline: float) -> Sequence[Settled]:
        return self._run(list(submissions)) if submissions else ()

    def drop_waiting(self) -> None:
        pass

    def _run(self, batch: list[Submission]) -> list[Settled]:
        for _ in range(CONFLICT_RETRIES):
            try:
                answers = self._executor.run(batch[0].org_id, batch)
            except StorageConflict:
                continue
            settled: list[Settled] = []
            for one, answer in zip(batch, answers, strict=True):
                settled.append(self._run([one])[0] if isinstance(answer, Deferred) else answer)
            return settled
        if len(batch) > 1:
            return [self._run([one])[0] for one in batch]
        return [Settled(refusal_of(Failure.CONFLICT, operation_of(batch[0].command)), batch[0].request_id)]


class InProcess:
    """The service over a database file."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'points.db'}"
        upgrade(url)
        self.database = Database(url, synchronous="OFF")
        self._accounts = Accounts(self.database)
        self._repository = open_repository(self.database, durable=False)
        self._pool = ReadPool(threads=2)
        self.log = NullLog()
        self.identity = FakeIdentity()
        keyring = Keyring({"k1": b"k".ljust(KEY_BYTES, b".")}, "k1")
        channels = frozenset(Channel)
        executor = Executor(
            self._repository,
            next_id=count(1_000).__next__,
            keyring=keyring,
            channels=channels,
            monotonic=time.monotonic,
        )
        limits = Limits()
        wiring = Wiring(
            submitter=Writes(executor),
            checker=Checker(self._pool, Checks(self._repository, keyring=keyring, channels=channels), time.monotonic),
            reads=PooledQueries(self._pool, SqlQueries(self.database)),
            lists=PooledListings(self._pool, SqlListings(self.database)),
            watching=Watching(self._pool, SqlJournal(self.database), poll_s=1.0),
            exporting=Exporting(self._pool, SqlExports(self.database)),
            identity=self.identity,
            facts=FakeFacts(),
            log=self.log,
            token_keys=lambda: (b"k" * 16,),
            metrics=FakeMetrics(),
            limits=limits,
        )
        self._handlers: dict[str, Any] = {}
        add_services(self, wiring)
        self._gate = Gate(
            identity=self.identity,
            roles=required_roles(SERVICES),
            limits=limits,
            metrics=wiring.metrics,
            log=self.log,
            signatures=Signatures(wiring.clock),
            quotas=Quotas(SERVICES, limits),
        )

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """What the generated code hands over."""
        self._handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same handlers in another form."""

    def new_organisation(self) -> None:
        """From here on calls are of an organisation that nobody used."""
        self.identity.org_id = self._accounts.create_org("fuzz", "IN")

    async def call(self, path: str, raw: bytes) -> tuple[str, str, bytes, bytes]:
        """Code, text, status details and answer of a call."""
        handler = await self._gate.intercept_service(self._handler, _Details(path))
        assert handler is not None, path
        context = Context(raw)
        answer = b""
        try:
            message = await handler.stream_unary(None, context)
            answer = message if isinstance(message, bytes) else message.SerializeToString()
        except Aborted:
            assert context.code() is not grpc.StatusCode.OK
        details = dict(context.trailing_metadata()).get("grpc-status-details-bin", b"")
        return context.code().name, context.details(), details, answer

    async def _handler(self, details: Any) -> Any:
        return self._handlers[details.method]

    def close(self) -> None:
        """Closes the store."""
        self._pool.close()
        self._repository.close()
        self.database.close()


class _Details:
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()
