"""The calendar clock of the host jumps, by hours, both ways: ids, order, books, codes and leases do not mind.

Server, writer and PostgreSQL see a clock that the test steers (`bent.py`). Deadlines and silence are counted on steady
clocks, which do not jump.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from bent import Bent
from history import check
from loads import PATIENCE_S, Record, until
from shop import PROGRAM, Shop, differences, transfer_fields, verify
from tills import Tills

from databases import ATestsDatabase, PostgresDatabase, SqliteFile
from points_grpc.v1 import issuance_service_pb2, wallet_service_pb2
from points_grpc.v1 import points_service_pb2 as pb
from postgres_cluster import OwnCluster
from running import Caller, RunningServer, refused

CALLERS, WALLETS = 8, 5
LOTS = (60, 60, 60)
"""So few points that some are always asked for in vain."""

OPERATIONS, LONG = 400, 10_000

HOUR_S, DAY_S = 3_600, 86_400
JUMPS_S = (3 * HOUR_S, -2 * HOUR_S, HOUR_S)
"""How far ahead of the true time the clock stands after each jump, in turn."""

CODE_LIVES_S = 300
CODE = re.compile(r"code for MOBILE \S+: (\d+)")

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]


class Host:
    """A database and servers that share a clock."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.bent = Bent()
        self._folder = folder
        self._cluster = OwnCluster(environment=self.bent.environment) if backend == "postgresql" else None
        self.on: ATestsDatabase
        if self._cluster is None:
            self.on = SqliteFile(folder / "points.db")
        else:
            self.on = PostgresDatabase(self._cluster, self._cluster.create())
        self.servers: list[RunningServer] = []
        self.token = ""

    def serve(self, *arguments: str) -> RunningServer:
        """Starts a server, with the keys of the first."""
        folder = self._folder / f"server-{len(self.servers)}"
        folder.mkdir()
        shared = ("--keys-file", str(self._folder / "keys.json"))
        environment = {**os.environ, **self.bent.environment}
        self.servers.append(RunningServer(folder, *shared, *arguments, environment=environment, on=self.on))
        if not self.token:
            self.token = self.servers[-1].key(self.servers[-1].organisation())
        return self.servers[-1].start()

    def close(self) -> None:
        """Ends everything."""
        for one in self.servers:
            one.close()
        if self._cluster is not None:
            self._cluster.close()
        self.bent.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """On both engines in the long form."""
    made = Host(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def either_host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def postgres_host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, "postgresql")
    yield made
    made.close()


def falling(on: ATestsDatabase) -> list[tuple[int, int]]:
    """Neighbours in a journal stream of which the later one has the lower id."""
    streams = [stream for (stream,) in on.rows("SELECT DISTINCT stream FROM transactions")]
    query = "SELECT transaction_id FROM transactions WHERE stream = ? ORDER BY position"
    ids = [[one for (one,) in on.rows(query, stream)] for stream in streams]
    return [pair for found in ids for pair in pairwise(found) if pair[0] >= pair[1]]


def transfer(server: RunningServer, shop: Shop, request_id: str, points: int = 1, **given: Any) -> Any:
    """A transfer between the first two customers; asks again while nothing can be written."""
    caller = Caller(server.address, shop.token)
    fields = transfer_fields(*shop.customers[:2], points, request_id, **given)
    end = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                return caller.ask(caller.points.TransferPoints, pb.TransferPointsRequest(), fields)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                    raise
                time.sleep(0.05)
    finally:
        caller.close()


# -- ids and order -----------------------------------------------------------------------------------------------------


def test_answers_fit_one_order_whatever_the_clock_says(host: Host, record_property: Record) -> None:
    """The clock jumps ahead and back under load, and a writer starts while it is behind: one order, rising ids."""
    jump_and_judge(host, OPERATIONS, record_property)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_answers_fit_one_order_whatever_the_clock_says_for_long(host: Host, record_property: Record) -> None:
    """The long form."""
    jump_and_judge(host, LONG, record_property)


def jump_and_judge(host: Host, count: int, record: Record) -> None:
    """Calls while the clock jumps; when it has gone back the writer is killed, so that one starts that is behind."""
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}: POINTS_SEED={seed} repeats the requests, though not their order at the server")
    server = host.serve()
    shop = Shop(server, host.token)
    tills = Tills(server.address, shop.token, shop.add_customers(WALLETS, LOTS), callers=CALLERS, seed=seed)
    start = asyncio.run(calls_and_jumps(host, tills, count))
    found = check(tills.operations, start)
    record("figure.operations", len(tills.operations))
    record("figure.jumps of the clock", len(JUMPS_S))
    record("figure.cycles and other violations", len(found))

    assert [] == [str(one) for one in found[:5]]
    assert [] == falling(host.on)
    assert [] == server.events("bug")
    assert "verify: OK" == verify(server)
    assert 0 == server.stop()


async def calls_and_jumps(host: Host, tills: Tills, count: int) -> dict[int, tuple[int, int]]:
    """Runs the callers, and jumps at even distances; what was there at the beginning."""
    [server] = host.servers
    start = await tills.look()
    calling = asyncio.create_task(tills.run(count))
    for number, ahead_s in enumerate(JUMPS_S, start=1):
        while len(tills.operations) < count * number // (len(JUMPS_S) + 1) and not calling.done():
            await asyncio.sleep(0.005)
        assert not calling.done()
        host.bent.jump(ahead_s)
        if ahead_s < 0:
            await asyncio.to_thread(server.kill_writer)
    await calling
    await tills.look()
    return start


@pytest.mark.ci
def test_server_that_starts_with_its_clock_behind_makes_higher_ids(either_host: Host) -> None:
    """The one before it wrote under the same slot while the clock was hours ahead."""
    host = either_host
    server = host.serve()
    host.bent.jump(3 * HOUR_S)
    shop = Shop(server, host.token)
    shop.add_customers(2, LOTS)
    transfer(server, shop, "ahead")
    ended = server.stop()
    host.bent.jump(0)
    server.start()
    transfer(server, shop, "behind")

    assert 0 == ended
    assert [(0,)] == host.on.rows("SELECT DISTINCT stream FROM transactions")
    assert [] == falling(host.on)
    assert "verify: OK" == verify(server)


# -- leases ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_slot_that_only_seems_to_be_free(postgres_host: Host) -> None:
    """After a jump another server takes a slot whose lease looks old: who had it writes no more, and takes another."""
    host = postgres_host
    first = host.serve()
    shop = Shop(first, host.token)
    shop.add_customers(2, LOTS)
    holder = first.writer_pid()
    os.kill(holder, signal.SIGSTOP)  # so that it does not renew its lease by the new time
    host.bent.jump(2 * HOUR_S)
    try:
        second = host.serve()
    finally:
        os.kill(holder, signal.SIGCONT)
    for number in range(4):
        transfer(host.servers[number % 2], shop, f"after-{number}")
    of_first = first.events("writer_started", least=2)
    of_second = second.events("writer_started", least=1)

    assert [0] == [one["slot"] for one in of_second]
    assert ["the lease of the writer slot was lost"] == [one["error"] for one in first.events("writer_unable")]
    assert [0, 1] == [one["slot"] for one in of_first]
    assert [] == differences(first)


# -- what ends at an instant -------------------------------------------------------------------------------------------


def code_of(server: RunningServer, shop: Shop, points: int) -> str:
    """A new code for a transfer between the first two customers, as the customer gets it."""
    before = len(CODE.findall(server.output()))
    caller = Caller(server.address, shop.token)
    fields = transfer_fields(*shop.customers[:2], points, f"issue-{before}")
    caller.ask(caller.points.IssueTransferOtp, pb.IssueTransferOtpRequest(), fields)
    caller.close()
    assert until(lambda: len(CODE.findall(server.output())) > before), "no code arrived"
    return str(CODE.findall(server.output())[-1])


def test_code_lives_no_longer_when_the_clock_goes_back(tmp_path: Path) -> None:
    """It is over after its life, and is not taken up again for hours: only around the time for which it was issued."""
    host = Host(tmp_path, "sqlite")
    try:
        server = host.serve("--otp-sender", "console")
        shop = Shop(server, host.token)
        shop.add_customers(2, LOTS, mobile="987")
        code = code_of(server, shop, 5)
        states = []
        for number, ahead_s in enumerate((CODE_LIVES_S + 60, -HOUR_S, -CODE_LIVES_S - 60)):
            host.bent.jump(ahead_s)
            with refused() as found:
                transfer(server, shop, f"jump-{number}", 5, code=code)
            states.append(found[0].info.metadata["otp_state"])
        host.bent.jump(60)
        accepted = transfer(server, shop, "in-time", 5, code=code)
    finally:
        host.close()

    assert ["INVALID"] * 3 == states
    assert 5 == accepted.data[0].points_transferred


def test_what_expired_too_early_stays_expired_and_the_rest_is_back(host: Host) -> None:
    """After a jump of forty days and back: a wallet that was written has lost its points, one that was not has not."""
    server = host.serve()
    shop = Shop(server, host.token)
    written, _, untouched = shop.add_customers(3, LOTS)
    host.bent.jump(40 * DAY_S)
    with refused() as found:
        transfer(server, shop, "too-late")
    while_ahead = [current(server, shop, one) for one in (written, untouched)]
    caller = Caller(server.address, shop.token)
    issue = {"customerIdentifier": {"type": "ID", "value": str(written)}, "programId": str(PROGRAM), "points": "7"}
    fields = {**issue, "source": "GOODWILL", "requestId": "new-points"}
    caller.ask(caller.issuance.IssuePoints, issuance_service_pb2.IssuePointsRequest(), fields)
    caller.close()
    host.bent.jump(0)

    assert 817 == found[0].number
    assert [0, 0] == while_ahead
    assert [7, sum(LOTS)] == [current(server, shop, one) for one in (written, untouched)]
    assert "verify: OK" == verify(server)


def current(server: RunningServer, shop: Shop, customer: int) -> int:
    """What a customer has."""
    caller = Caller(server.address, shop.token)
    fields = {"customerIdentifier": {"type": "ID", "value": str(customer)}, "programId": str(PROGRAM)}
    answer = caller.ask(caller.wallets.GetWallet, wallet_service_pb2.GetWalletRequest(), fields)
    caller.close()
    return int(answer.wallet.current)
