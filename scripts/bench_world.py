"""The world of the bench: its customers and calls, in turn for every server, and the settlement with the journal.

Every call has another pair of customers and another request id, so that a run can be settled afterwards.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench_figures import CHECK, MANY_LOTS, NOOP, ONE_LOT, REDEEM, TRANSFER, Counted, Sample, Settlement
from bench_journal import REDEMPTION_KIND, TRANSFER_KIND, Journal, Rows, Totals
from bench_load import Driver, Level, LoadFailedError, Report, write_requests
from bench_servers import ROOT, Server, environment
from google.protobuf.message import Message

from points_grpc.v1 import common_pb2, customer_service_pb2, issuance_service_pb2, points_service_pb2

Pair = tuple[int, int]
"""Who gives, who gets."""

PROGRAM_ID = 973
"""The default program of `serve --dev`."""

SEED = 2026
FIRST_CUSTOMER_ID = 1_000_001
ONE_LOT_ID = 900_001
MANY_LOTS_ID = 900_002
POINTS_OF_A_CUSTOMER = 1_000_000
POINTS_OF_A_LOT = 1_000
BATCH_MAX = 1_000
"""The most items of a call."""

BATCHES_AT_ONCE = 2
"""So many of that size are well within what an organisation may have going on at once."""

OPEN_OUTCOMES = frozenset(
    {"unavailable", "deadlineexceeded", "unknown", "internal", "canceled", "cancelled", "aborted"}
)
"""Ends of a call after which the transfer may stand in the journal or not; as any generator spells them."""


@dataclass(frozen=True, slots=True)
class Population:
    """Customers with consecutive ids."""

    first_id: int
    size: int


@dataclass(slots=True)
class Sent:
    """What the callers know of one kind of write."""

    items: int = 0
    acknowledged: int = 0
    unknown: int = 0

    def add(self, report: Report, items: int) -> None:
        """Adds a run, of whose calls each had so many items."""
        self.items += items * sum(report.statuses.values())
        self.acknowledged += items * report.accepted
        self.unknown += items * sum(
            number for name, number in report.statuses.items() if name.replace("_", "").lower() in OPEN_OUTCOMES
        )


@dataclass(slots=True)
class SentInAll:
    """What the callers of the service know."""

    transfers: Sent = field(default_factory=Sent)
    redemptions: Sent = field(default_factory=Sent)


class World:
    """The customers and the calls: makes requests, sends them, and remembers what was acknowledged."""

    PREFIX = "bench-"

    def __init__(self, population: Population, driver: Driver, folder: Path) -> None:
        """Nothing is sent yet."""
        self.population = population
        self._driver = driver
        self._folder = folder
        self._requests = folder / "requests.binpb"
        self._random = random.Random(SEED)  # noqa: S311 - the same pairs and ids in every run, not secrets
        self.sent = SentInAll()

    def seed(self, server: Server, level: Level) -> None:
        """Makes the customers and gives each a lot of points, as anybody would: through the API."""
        population = self.population
        everyone = [*range(population.first_id, population.first_id + population.size), ONE_LOT_ID]
        self.send_all(server, "CustomerService/CreateCustomer", list(map(customer, everyone)), level)
        self.issue(server, [issue(one, POINTS_OF_A_CUSTOMER, days=1_000) for one in everyone], level)

    def seed_lots(self, server: Server, level: Level, *, lots: int) -> None:
        """Makes the customer who has so many lots."""
        self.send_all(server, "CustomerService/CreateCustomer", [customer(MANY_LOTS_ID)], level)
        issues = [issue(MANY_LOTS_ID, POINTS_OF_A_LOT, days=30 + number) for number in range(lots)]
        self.issue(server, issues, level)

    def issue(self, server: Server, issues: Sequence[issuance_service_pb2.IssuePointsRequest], level: Level) -> None:
        """Issues points in large batches, few at once; each must succeed."""
        batches = [
            issuance_service_pb2.BatchIssuePointsRequest(requests=issues[start : start + BATCH_MAX])
            for start in range(0, len(issues), BATCH_MAX)
        ]
        few = min(level.callers, BATCHES_AT_ONCE)
        self.send_all(server, "IssuanceService/BatchIssuePoints", batches, Level(few, few, 0))

    def write_once(self, server: Server, journal: Journal) -> Mapping[str, Rows]:
        """What a lone transfer between two customers, who did nothing but get points, writes."""
        earlier = self._folder / "earlier.db"
        journal.copy(earlier)
        self._run(TRANSFER, server, Level(1, 1, 1), 1)
        written = journal.since(earlier)
        earlier.unlink()
        return written

    def warm_up(self, server: Server, level: Level) -> None:
        """Calls that count in the journal and in no figure."""
        self._run(NOOP if server.name == NOOP else TRANSFER, server, level, 1)

    def measure(
        self, number: int, level: Level, operation: str, name: str, server: Server, *, items: int = 1
    ) -> Sample:
        """One run of one operation, and what it took of the processes behind the server. A batch has so many items."""
        before = server.cpu_s(), server.writer_cpu_s(), server.database_cpu_s()
        report = self._run(operation, server, level, items)
        after = server.cpu_s(), server.writer_cpu_s(), server.database_cpu_s()
        cpu_us = [
            None if start is None or end is None else 1e6 * (end - start) / (level.calls * items)
            for start, end in zip(before, after, strict=True)
        ]
        return Sample(number, level, operation, name, items, report, *cpu_us)

    def _run(self, operation: str, server: Server, level: Level, items: int) -> Report:
        """Sends as many calls as the level has, and counts what was answered."""
        call, requests = self._calls(operation, level, items)
        report = self.send(server, call, requests, level)
        if operation == REDEEM:
            self.sent.redemptions.add(report, 1)
        elif operation not in {NOOP, CHECK}:
            self.sent.transfers.add(report, items)
        return report

    def _calls(self, operation: str, level: Level, items: int) -> tuple[str, Sequence[Message]]:
        """The method of an operation, and its requests."""
        match operation:
            case "check":
                return "PointsService/CheckTransfer", [check(pair) for pair in self.pairs(level.calls)]
            case "redeem":
                requests = [redeem(giver, self._request_id()) for giver, _ in self.pairs(level.calls)]
                return "PointsService/RedeemPoints", requests
            case "batch":
                transfers = self._transfers(self.pairs(level.calls * items))
                return "PointsService/BatchTransferPoints", [
                    points_service_pb2.BatchTransferPointsRequest(requests=transfers[start : start + items])
                    for start in range(0, len(transfers), items)
                ]
        pairs = self.pairs(level.calls)
        wallet = {ONE_LOT: ONE_LOT_ID, MANY_LOTS: MANY_LOTS_ID}.get(operation)
        if wallet is not None:
            pairs = [(wallet, to) for _, to in pairs]
        return "PointsService/TransferPoints", self._transfers(pairs)

    def _transfers(self, pairs: Sequence[Pair]) -> list[points_service_pb2.TransferPointsRequest]:
        return [transfer(pair, self._request_id()) for pair in pairs]

    def _request_id(self) -> str:
        """One that no other call has."""
        return f"{self.PREFIX}{self._random.getrandbits(96):024x}"

    def pairs(self, number: int) -> list[Pair]:
        """So many distinct pairs. Those who meet in one commit share no customer, unless many call at once.

        One half of the customers gives, the other one gets, so that every transfer of a run draws on one lot. Points
        that were received are lots of their own: where all give and get, a transfer draws on two of them after a
        hundred thousand others, and every round measures something else.
        """
        first_id, half = self.population.first_id, self.population.size // 2
        several = min(half, number)
        givers = self._random.sample(range(first_id, first_id + half), several)
        takers = self._random.sample(range(first_id + half, first_id + 2 * half), several)
        laps = (divmod(turn, several) for turn in range(number))
        return [(givers[place], takers[(place + lap) % several]) for lap, place in laps]

    def send_all(self, server: Server, call: str, requests: Sequence[Message], level: Level) -> None:
        """Sends what must succeed, with as many callers as the level has."""
        callers = min(level.callers, len(requests))
        report = self.send(server, call, requests, Level(callers, min(level.connections, callers), len(requests)))
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


# The requests


def customer(customer_id: int) -> Message:
    """A new customer."""
    return customer_service_pb2.CreateCustomerRequest(
        customer_id=customer_id,
        first_name="Bench",
        last_name=str(customer_id),
        identifiers=[
            common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.EXTERNAL_ID, value=f"crm-{customer_id}")
        ],
        enrolled_program_ids=[PROGRAM_ID],
    )


def issue(customer_id: int, points: int, *, days: int) -> issuance_service_pb2.IssuePointsRequest:
    """A lot of points for a customer."""
    return issuance_service_pb2.IssuePointsRequest(
        customer_identifier=by_id(customer_id),
        points=points,
        source=common_pb2.Lot.LOYALTY_PLUS,
        expires_in_days=days,
        request_id=f"seed-{customer_id}-{days}",
    )


def transfer(pair: Pair, request_id: str) -> points_service_pb2.TransferPointsRequest:
    """A few points from one to the other."""
    return points_service_pb2.TransferPointsRequest(
        points_to_be_transferred=1 + sum(pair) % 5,
        from_customer_identifier=by_id(pair[0]),
        to_customer_identifier=by_id(pair[1]),
        request_id=request_id,
    )


def check(pair: Pair) -> Message:
    """Whether they could be transferred."""
    return points_service_pb2.CheckTransferRequest(
        points_to_be_transferred=1 + sum(pair) % 5,
        from_customer_identifier=by_id(pair[0]),
        to_customer_identifier=by_id(pair[1]),
    )


def redeem(customer_id: int, request_id: str) -> Message:
    """One point, for which the program wants no proof."""
    return points_service_pb2.RedeemPointsRequest(
        customer_identifier=by_id(customer_id), program_id=PROGRAM_ID, points=1, request_id=request_id
    )


def by_id(customer_id: int) -> common_pb2.CustomerIdentifier:
    """A customer, named by id."""
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))


# The settlement


class Books(Protocol):
    """What is asked of a database, whichever it is."""

    def count(self, kind: int, prefix: str) -> int:
        """The transactions of a kind whose request ids start with `prefix`."""
        ...

    def lopsided(self) -> int:
        """Transactions whose postings do not sum to zero."""
        ...

    def totals(self) -> Totals:
        """The points of all wallets."""
        ...

    def size_bytes(self) -> int:
        """The size of the database."""
        ...


def settle(sent: SentInAll, books: Books, before: Totals, url: str) -> Settlement:
    """Compares what the callers know with what stands in the database."""
    command = [sys.executable, "-m", "points_grpc", "verify", "--database", url]
    started = time.monotonic()
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), cwd=ROOT)
    said = (verified.stdout.strip() or verified.stderr.strip()).splitlines()  # how far it is goes to stderr
    return Settlement(
        transfers=counted(sent.transfers, books, TRANSFER_KIND),
        redemptions=counted(sent.redemptions, books, REDEMPTION_KIND),
        lopsided=books.lopsided(),
        before=before,
        after=books.totals(),
        verify=f"{said[-1] if said else 'said nothing'} ({time.monotonic() - started:.1f} s)",
        verified=verified.returncode == 0,
    )


def counted(sent: Sent, books: Books, kind: int) -> Counted:
    """One kind of write."""
    return Counted(sent.items, sent.acknowledged, sent.unknown, books.count(kind, World.PREFIX))


def progress(text: str) -> None:
    """Tells a waiting person what is going on."""
    print(f"bench: {text} ...", file=sys.stderr, flush=True)
