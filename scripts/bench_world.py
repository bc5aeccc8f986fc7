"""The world of the bench: its customers and calls, in turn for every target, and the settlement with the journal.

Every call has another pair of customers and another request id, so that a run can be settled afterwards.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench_journal import Journal, Rows, Totals
from bench_load import Driver, Level, LoadFailedError, Report, write_requests
from bench_report import Sample, Settlement
from bench_servers import ROOT, Server, environment
from google.protobuf.message import Message

from points_grpc.v1 import common_pb2, customer_service_pb2, issuance_service_pb2, points_service_pb2

Pair = tuple[int, int]
"""Who gives, who gets."""

TRANSFER = "PointsService/TransferPoints"
NOOP = "no-op"
PROGRAM_ID = 973
"""The default program of `serve --dev`."""

SEED = 2026
FIRST_CUSTOMER_ID = 1_000_001
ONE_LOT_ID = 900_001
MANY_LOTS_ID = 900_002
POINTS_OF_A_CUSTOMER = 1_000_000
POINTS_OF_A_LOT = 1_000
OPEN_OUTCOMES = frozenset(
    {"unavailable", "deadlineexceeded", "unknown", "internal", "canceled", "cancelled", "aborted"}
)
"""Ends of a call after which the transfer may stand in the journal or not; as any generator spells them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    customers: int
    lots: int
    rounds: int
    levels: tuple[Level, ...]
    lot_levels: tuple[Level, ...]
    warm_up: Level
    seeding: tuple[int, int] = (128, 8)


def in_turn(rounds: int, levels: Sequence[Level], targets: Sequence[str]) -> Iterator[tuple[int, Level, str]]:
    """Every round has every level and every target; who goes first changes from round to round."""
    for number in range(rounds):
        for level in levels:
            for target in targets if number % 2 == 0 else tuple(reversed(targets)):
                progress(f"round {number + 1} of {rounds}: {level.callers} callers, {target}")
                yield number, level, target


class World:
    """The customers and the calls: makes requests, sends them, and remembers what was acknowledged."""

    PREFIX = "bench-"

    def __init__(self, plan: Plan, driver: Driver, folder: Path) -> None:
        """Nothing is sent yet."""
        self._plan = plan
        self._driver = driver
        self._requests = folder / "requests.binpb"
        self._folder = folder
        self._random = random.Random(SEED)  # noqa: S311 - the same pairs and ids in every run, not secrets
        self.sent = Sent()

    def seed(self, server: Server) -> None:
        """Makes the customers and gives them points, as anybody would: through the API."""
        everyone = [*range(FIRST_CUSTOMER_ID, FIRST_CUSTOMER_ID + self._plan.customers), ONE_LOT_ID, MANY_LOTS_ID]
        customers = [
            customer_service_pb2.CreateCustomerRequest(
                customer_id=customer_id,
                first_name="Bench",
                last_name=str(customer_id),
                identifiers=[
                    common_pb2.CustomerIdentifier(
                        type=common_pb2.CustomerIdentifier.EXTERNAL_ID, value=f"crm-{customer_id}"
                    )
                ],
                enrolled_program_ids=[PROGRAM_ID],
            )
            for customer_id in everyone
        ]
        issues = [issue(customer_id, POINTS_OF_A_CUSTOMER, days=1_000) for customer_id in everyone[:-1]]
        issues += [issue(MANY_LOTS_ID, POINTS_OF_A_LOT, days=30 + number) for number in range(self._lots)]
        self._send_all(server, "CustomerService/CreateCustomer", customers)
        self._send_all(server, "IssuanceService/IssuePoints", issues)

    @property
    def _lots(self) -> int:
        """As many as are wanted at the end, and what the bench will use up."""
        return self._plan.lots + self._plan.lots // 10

    def write_once(self, server: Server, journal: Journal) -> Mapping[str, Rows]:
        """What a lone transfer between two customers, who did nothing but get points, writes."""
        earlier = self._folder / "earlier.db"
        journal.copy(earlier)
        alone = Level(1, 1, 1)
        self._transfer(server, self.pairs(alone), alone)
        written = journal.since(earlier)
        earlier.unlink()
        return written

    def warm_up(self, server: Server) -> None:
        """Calls that count in the journal and in no figure."""
        level = self._plan.warm_up
        self._transfer(server, self.pairs(level), level, counted=server.name != NOOP)

    def measure(self, number: int, level: Level, target: str, server: Server, pairs: Sequence[Pair]) -> Sample:
        """One run of one target."""
        return self.measured(
            number, level, target, server, lambda: self._transfer(server, pairs, level, counted=server.name != NOOP)
        )

    def measured(self, number: int, level: Level, target: str, server: Server, load: Callable[[], Report]) -> Sample:
        """What a load took of the processes behind a server."""
        before = server.cpu_s(), server.writer_cpu_s(), server.database_cpu_s()
        report = load()
        after = server.cpu_s(), server.writer_cpu_s(), server.database_cpu_s()
        cpu_us = [
            None if start is None or end is None else 1e6 * (end - start) / level.calls
            for start, end in zip(before, after, strict=True)
        ]
        return Sample(number, level, target, report, *cpu_us)

    def request_id(self) -> str:
        """One that no other call has."""
        return f"{self.PREFIX}{self._random.getrandbits(96):024x}"

    def pairs(self, level: Level) -> list[Pair]:
        """
        As many distinct pairs as there are calls. Those who meet in one commit share no customer, unless there are
        more callers than half of the customers.
        """
        everyone = self._random.sample(range(self._plan.customers), self._plan.customers)
        half = len(everyone) // 2
        chosen = []
        for turn in range(level.calls):
            lap, place = divmod(turn, len(everyone))
            pair = everyone[place], everyone[(place + half + lap) % len(everyone)]
            chosen.append((FIRST_CUSTOMER_ID + pair[0], FIRST_CUSTOMER_ID + pair[1]))
        return chosen

    def out_of(self, customer_id: int, level: Level) -> list[Pair]:
        """From one customer to many."""
        return [(customer_id, to) for _, to in self.pairs(level)]

    def _transfer(self, server: Server, pairs: Sequence[Pair], level: Level, *, counted: bool = True) -> Report:
        requests = [transfer(pair, self.request_id()) for pair in pairs]
        report = self.send(server, TRANSFER, requests, level)
        if counted:
            self.sent.add(report)
        return report

    def _send_all(self, server: Server, call: str, requests: Sequence[Message]) -> None:
        """Sends what must succeed."""
        report = self.send(server, call, requests, Level(*self._plan.seeding, len(requests)))
        if report.accepted != len(requests):
            raise LoadFailedError(f"{call}: {report.refused} of {len(requests)} went wrong: {dict(report.errors)}")

    def send(self, server: Server, call: str, requests: Sequence[Message], level: Level) -> Report:
        """Sends every request once; the server must survive it."""
        write_requests(self._requests, requests)
        report = self._driver.send(
            call, self._requests, level, address=server.ready.address, token=server.ready.token or "none"
        )
        server.require_alive()
        return report


@dataclass(slots=True)
class Sent:
    """What the callers of the service know."""

    calls: int = 0
    acknowledged: int = 0
    unknown: int = 0

    def add(self, report: Report) -> None:
        """Counts one more run."""
        self.calls += sum(report.statuses.values())
        self.acknowledged += report.accepted
        self.unknown += sum(
            number for name, number in report.statuses.items() if name.replace("_", "").lower() in OPEN_OUTCOMES
        )


def issue(customer_id: int, points: int, *, days: int) -> Message:
    """A lot of points for a customer."""
    return issuance_service_pb2.IssuePointsRequest(
        customer_identifier=by_id(customer_id),
        points=points,
        source=common_pb2.Lot.LOYALTY_PLUS,
        expires_in_days=days,
        request_id=f"seed-{customer_id}-{days}",
    )


def transfer(pair: Pair, request_id: str) -> Message:
    """One of the calls that are measured."""
    return points_service_pb2.TransferPointsRequest(
        points_to_be_transferred=1 + sum(pair) % 5,
        from_customer_identifier=by_id(pair[0]),
        to_customer_identifier=by_id(pair[1]),
        request_id=request_id,
    )


def by_id(customer_id: int) -> common_pb2.CustomerIdentifier:
    """A customer, named by id."""
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))


class Counted(Protocol):
    """What is asked of a database, whichever it is."""

    def transfers(self, prefix: str) -> int:
        """The transfers whose request ids start with `prefix`."""
        ...

    def lopsided(self) -> int:
        """Transactions whose postings do not sum to zero."""
        ...

    def totals(self) -> Totals:
        """The points of all wallets."""
        ...


def settle(sent: Sent, journal: Counted, before: Totals, url: str) -> Settlement:
    """Compares what the callers know with what stands in the database."""
    command = [sys.executable, "-m", "points_grpc", "verify", "--database", url]
    started = time.monotonic()
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), cwd=ROOT)
    said = (verified.stdout + verified.stderr).strip().splitlines()
    return Settlement(
        sent=sent.calls,
        acknowledged=sent.acknowledged,
        refused=sent.calls - sent.acknowledged - sent.unknown,
        unknown=sent.unknown,
        journal=journal.transfers(World.PREFIX),
        lopsided=journal.lopsided(),
        before=before,
        after=journal.totals(),
        verify=f"{said[-1] if said else 'said nothing'} ({time.monotonic() - started:.1f} s)",
        verified=verified.returncode == 0,
    )


def progress(text: str) -> None:
    """Tells a waiting person what is going on."""
    print(f"bench: {text} ...", file=sys.stderr, flush=True)
