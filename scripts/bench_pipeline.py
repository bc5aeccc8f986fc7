"""A transfer's whole way but gRPC, in one process and one thread, over SQLite: for a stopwatch, not for a throughput.

Gate, servicer, committer and link stand on one end of a socket pair; the channel, the executor and the store of a
writer on the other. All are the parts that serve and decide in production, put together as the composition roots do it;
what is missing is gRPC's own work, the kernel's switching between two processes, and whatever two cores do at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import grpc
from bench_world import POINTS_OF_A_CUSTOMER, transfer

from points_grpc.domain.commands import Command, CreateCustomer, CreateProgram, Expiry, IssuePoints, Submission
from points_grpc.domain.model import Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, Settled
from points_grpc.domain.policy import Policy
from points_grpc.rpc.call import Role
from points_grpc.rpc.identity import Callers, Directory, KeyRow
from points_grpc.rpc.interceptor import Gate, required_roles
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.logs import JsonLog, LineSink
from points_grpc.rpc.metrics import PrometheusMetrics
from points_grpc.rpc.points_service import PointsServicer
from points_grpc.rpc.quotas import Quotas
from points_grpc.rpc.serve import Desk
from points_grpc.rpc.server import SERVICES
from points_grpc.rpc.signature import Signatures
from points_grpc.service.channel import Channel
from points_grpc.service.committer import Committer
from points_grpc.service.executor import Executor
from points_grpc.service.frames import Answered, BugReport, Sent, Work
from points_grpc.service.ids import IdSource
from points_grpc.service.keyring import KEY_BYTES, Keyring
from points_grpc.service.link import Link
from points_grpc.service.meter import Counted, Meter
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.migrate import upgrade
from points_grpc.storage.opening import open_repository
from points_grpc.storage.repository import SqlRepository
from points_grpc.v1 import points_service_pb2

ORG_ID, PROGRAM_ID = 1, 973
METHOD = "/points.v1.PointsService/TransferPoints"
KEY_ID, SECRET = "bench", "not-a-secret-but-as-long-as-one-of-theirs-0123456789"
TIMEOUT_S = 20.0
SEEDED_AT_ONCE = 500

Serve = Callable[[object, "CallContext"], Any]
"""What the gate makes of a method; the stubs of gRPC do not know its type."""


class Pipeline:
    """The parts, put together. `run` sends transfers through all of them at once, as one batch."""

    def __init__(self, folder: Path, customers: int) -> None:
        """Makes the database with its customers. To be made on the event loop that serves."""
        url = f"sqlite:///{folder / 'steps.db'}"
        upgrade(url)
        self._database = Database(url)
        Accounts(self._database).create_org("bench", "IN", org_id=ORG_ID)
        self._repository = open_repository(self._database)
        self._customers = range(1, customers + 1)
        self._random = random.Random(2026)  # noqa: S311 - the same pairs in every run, not secrets
        self._numbers = iter(range(10**9))
        meter = Meter()
        self._executor = _executor(self._repository, meter)
        self._seed()
        theirs, ours = socket.socketpair()
        marks, marking = os.pipe()
        self._writer = _WriterEnd(self._executor, meter, Channel(theirs, marking))
        self._theirs = theirs
        asyncio.get_running_loop().add_reader(theirs.fileno(), self._writer.receive)
        metrics = PrometheusMetrics()
        self._committer = Committer(monotonic=time.monotonic, observer=_Observer(metrics))
        self._link = Link(ours, marks)
        self._committer.attach(self._link)
        self._sink = open(os.devnull, "wb")  # noqa: SIM115 - closed in `close`
        self._lines = LineSink(self._sink)
        self._lines.attach(asyncio.get_running_loop())
        self._log = JsonLog(self._lines)
        self.callers = Callers(_directory, self._log)
        self._gate = Gate(
            identity=self.callers,
            roles=required_roles(SERVICES),
            limits=Limits(),
            metrics=metrics,
            log=self._log,
            signatures=Signatures(_now),
            quotas=Quotas(SERVICES, Limits()),
        )
        self._serve: Serve | None = None

    async def start(self) -> None:
        """Reads who may call."""
        await self.callers.refresh()

    async def wrap(self, decode: Callable[[bytes], object]) -> None:
        """Has the gate wrap the method; what is patched must be patched before."""
        servicer = PointsServicer(Desk(self._committer, _NoChecks(), _now))
        handler: Any = grpc.unary_unary_rpc_method_handler(
            cast("Any", servicer.TransferPoints), request_deserializer=cast("Any", decode)
        )

        async def found(_: grpc.HandlerCallDetails) -> Any:
            return handler

        self._gate._handlers.clear()  # noqa: SLF001 - another wrapping of the same method
        details = cast("grpc.HandlerCallDetails", _Details(METHOD))
        wrapped = await self._gate.intercept_service(found, details)
        assert wrapped is not None
        self._serve = cast("Serve", wrapped.stream_unary)

    def requests(self, number: int) -> list[bytes]:
        """So many transfers among different customers, as they travel."""
        chosen = self._random.sample(self._customers, 2 * number)
        return [
            transfer((chosen[place], chosen[number + place]), f"bench-{next(self._numbers):024x}").SerializeToString()
            for place in range(number)
        ]

    async def run(self, requests: Sequence[bytes], encode: Callable[[Any], bytes]) -> None:
        """Sends them through all parts; each must be accepted."""
        serve = self._serve
        assert serve is not None, "wrapped"
        self._writer.expect(len(requests))
        answers = await asyncio.gather(*(serve(None, CallContext(one)) for one in requests))
        for answer in answers:
            if not encode(answer):
                raise RuntimeError("a transfer was refused")

    async def close(self) -> None:
        """Ends everything."""
        asyncio.get_running_loop().remove_reader(self._theirs.fileno())
        self._writer.close()
        await self._link.ended.wait()
        self._repository.close()
        self._database.close()
        self._lines.attach(None)
        await asyncio.get_running_loop().shutdown_default_executor()
        self._lines.flush()
        self._sink.close()

    def _seed(self) -> None:
        """The program and its customers, with points, straight through the executor."""
        self._carry_out([CreateProgram(PROGRAM_ID, "Bench", True, 0, "UTC", Policy())])
        self._carry_out(
            [
                CreateCustomer(one, "Bench", str(one), None, None, f"crm-{one}", (PROGRAM_ID,), campaign_contact=False)
                for one in self._customers
            ]
        )
        self._carry_out(
            [
                IssuePoints(
                    customer=Identifier(IdentifierType.ID, str(one)),
                    points=POINTS_OF_A_CUSTOMER,
                    program_id=PROGRAM_ID,
                    source=Source.LOYALTY_PLUS,
                    expiry=Expiry(in_days=1_000),
                )
                for one in self._customers
            ]
        )

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for start in range(0, len(commands), SEEDED_AT_ONCE):
            batch = [
                Submission(ORG_ID, one, f"seed-{next(self._numbers)}", False, {}, "bench", b"")
                for one in commands[start : start + SEEDED_AT_ONCE]
            ]
            for answer in self._executor.run(ORG_ID, batch):
                if not isinstance(answer, Settled) or not isinstance(answer.outcome, Accepted):
                    raise RuntimeError(f"the world of the bench was refused: {answer}")  # noqa: TRY004 - no type


class CallContext:
    """What the gate asks of a call, without gRPC."""

    def __init__(self, request: bytes) -> None:
        self._request = request

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """As a client sends it."""
        return _METADATA

    def peer_identities(self) -> None:
        """No certificate."""

    def time_remaining(self) -> float:
        """The deadline of the caller."""
        return TIMEOUT_S

    async def read(self) -> bytes:
        """The request, which is there."""
        return self._request

    def set_code(self, code: grpc.StatusCode) -> None:
        """A refusal: no call of the bench has one."""
        raise RuntimeError(f"a call of the bench was refused: {code}")


class _WriterEnd:
    """The other end of the link: takes what has come, and carries it out once it is as much as is expected."""

    def __init__(self, executor: Executor, meter: Meter, channel: Channel) -> None:
        self._executor = executor
        self._meter = meter
        self._channel = channel
        self._items: list[Sent] = []
        self._expected = 0

    def expect(self, number: int) -> None:
        """How many submissions make the next batch."""
        self._expected = number

    def receive(self) -> None:
        """The reader of the loop."""
        for message in self._channel.receive(block=True):
            assert isinstance(message, Work), message
            self._items += message.items
        if len(self._items) < self._expected:
            return
        items, self._items = self._items, []
        self._channel.mark(one.number for one in items)
        found = self._executor.run(ORG_ID, [one.submission for one in items])
        answers = [
            (one.number, answer) for one, answer in zip(items, found, strict=True) if isinstance(answer, Settled)
        ]
        self._channel.send(
            Answered(
                answers,
                size=len(items),
                seconds=0.001,
                oldest_wait_s=0.001,
                queue_age_s=0.0,
                counted=self._meter.take(deferred=0),
            )
        )

    def close(self) -> None:
        """Closes this end."""
        self._channel.close()


class _Observer:
    """Counts what the writer did, as the server's does."""

    def __init__(self, metrics: PrometheusMetrics) -> None:
        self._metrics = metrics

    def batch(self, *, size: int, seconds: float, oldest_wait_s: float, counted: Counted) -> None:
        """Counts a batch."""
        self._metrics.batch(
            size=size, seconds=seconds, wait_s=oldest_wait_s, commit_s=counted.commit_s, conflicts=0, deferred=0
        )
        self._metrics.add(
            refused=counted.refused,
            points=counted.points,
            otps=counted.otps,
            messages=counted.messages,
            notices=counted.notices,
        )

    def bug(self, report: BugReport) -> None:
        """Ends the bench."""
        raise RuntimeError(f"{report.error} at {report.frames}")

    def unable(self, message: str) -> None:
        """Ends the bench."""
        raise RuntimeError(message)


class _NoChecks:
    """Nothing is checked here."""

    async def check(self, submission: Submission, deadline: float) -> Settled:
        """Never called."""
        raise NotImplementedError


class _Details:
    """Which method is called."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = _METADATA


_METADATA = (("user-agent", "grpc-go/1.66"), ("authorization", f"Bearer pk_{KEY_ID}_{SECRET}"))


def _executor(repository: SqlRepository, meter: Meter) -> Executor:
    return Executor(
        repository,
        next_id=IdSource(repository.slot.number, lambda: time.time_ns() // 1_000_000),
        keyring=Keyring({"k1": bytes(range(KEY_BYTES))}, "k1"),
        channels=frozenset(),
        monotonic=time.monotonic,
        meter=meter,
    )


async def _directory() -> Directory:
    key = KeyRow(KEY_ID, ORG_ID, "bench", Role.OPERATOR, sha256(SECRET.encode()).hexdigest(), "IN")
    return Directory(keys={KEY_ID: key})


def _now() -> datetime:
    return datetime.now(UTC)


DECODE: Callable[[bytes], object] = points_service_pb2.TransferPointsRequest.FromString
ENCODE: Callable[[Any], bytes] = points_service_pb2.TransferPointsResponse.SerializeToString


@contextmanager
def replaced(*changes: tuple[object, str, object]) -> Iterator[None]:
    """Puts other things in the place of attributes of modules and classes; there must be such attributes."""
    before = [(owner, name, owner.__dict__[name]) for owner, name, _ in changes]
    try:
        for owner, name, other in changes:
            setattr(owner, name, other)
        yield
    finally:
        for owner, name, original in reversed(before):
            setattr(owner, name, original)
