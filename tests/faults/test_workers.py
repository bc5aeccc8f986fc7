"""`serve --workers 2` on a real PostgreSQL: one port, one effect for each request id, and no worker that is missed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from shop import Shop, differences, transfer_fields

from databases import ATestsDatabase, on_postgres
from points_grpc.v1 import points_service_pb2, points_service_pb2_grpc
from postgres_cluster import Cluster
from running import Details, RunningServer, children, free_port

CHANNELS = 16
"""Connections are spread over the workers, not calls: with so many each worker has some."""

AT_ONCE = 64
BACK_S = 120.0
"""How long a worker may take to be back: a busy machine takes long to start one."""
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
"""To start five processes takes seconds: all tests share them, and each leaves them serving."""

_request_ids = itertools.count(1)


def until(is_true: Callable[[], bool], timeout_s: float = BACK_S) -> bool:
    """Waits until something is true; says whether it became so."""
    end = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Workers:
    """A server with two workers, customers with points, and ways to reach either worker."""

    def __init__(self, folder: Path, on: ATestsDatabase) -> None:
        self.on = on
        self.metrics_port = free_port()
        self.server = RunningServer(folder, "--workers", "2", "--metrics-port", str(self.metrics_port), on=on)
        token = self.server.key(self.server.organisation())
        self.shop = Shop(self.server.start(), token)
        self.customers = self.shop.add_customers(200, lots=(1_000,))

    def pids(self) -> dict[int, int]:
        """The process of each worker, by its number."""
        return {one["worker"]: one["pid"] for one in self.server.events("worker_started", least=2)}

    def slots_of(self, number: int) -> list[int]:
        """The slots that the writers of a worker took, one after the other."""
        return [one["slot"] for one in self.server.events("writer_started") if one["worker"] == number]

    def transfer(self, channel: grpc.Channel, timeout_s: float = 10.0) -> tuple[int, Any]:
        """Transfers a point over a connection, and says which worker did it."""
        request_id = f"worker-{next(_request_ids)}"
        answer = self.future(channel, request_id, timeout_s).result()
        assert until(lambda: self._workers_of(request_id))
        [worker] = self._workers_of(request_id)
        return worker, answer

    def _workers_of(self, request_id: str) -> list[int]:
        """Which worker logged a call: one, or none so far."""
        return [one["worker"] for one in self.server.events("call") if one["request_id"] == request_id]

    def future(self, channel: grpc.Channel, request_id: str, timeout_s: float = 10.0) -> Any:
        """A transfer of a point that is on its way."""
        fields = transfer_fields(self.customers[0], self.customers[1], 1, request_id)
        request = ParseDict(fields, points_service_pb2.TransferPointsRequest())
        stub = points_service_pb2_grpc.PointsServiceStub(channel)
        metadata = (("authorization", f"Bearer {self.shop.token}"),)
        return stub.TransferPoints.future(request, metadata=metadata, timeout=timeout_s)

    def channel_to(self, number: int) -> grpc.Channel:
        """A connection that the system gave to this worker."""
        for _ in range(50):
            channel = grpc.insecure_channel(self.server.address, OWN_CONNECTION)
            if self.transfer(channel)[0] == number:
                return channel
            channel.close()
        raise AssertionError(f"no connection of fifty went to worker {number}")

    def close(self) -> None:
        self.server.close()
        self.on.drop()


@pytest.fixture(scope="module")
def workers(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("workers")
    made = Workers(folder, on_postgres(postgres)(folder))
    yield made
    made.close()


# -- each is one of several -------------------------------------------------------------------------------------------


@pytest.mark.long
def test_each_worker_has_metrics_of_its_own(workers: Workers) -> None:
    """On ports that follow one another; each counts what its worker was called."""
    channels = [workers.channel_to(number) for number in (1, 2)]
    methods = ("/CreateCustomer", "/TransferPoints")
    logged = Counter(one["worker"] for one in workers.server.events("call") if one["method"].endswith(methods))
    counted = Counter[int]()
    for number in (1, 2):
        with urllib.request.urlopen(f"http://127.0.0.1:{workers.metrics_port + number - 1}/metrics") as answer:
            text = answer.read().decode()
        for line in text.splitlines():
            if line.startswith("points_grpc_calls_total") and any(f'{one}"' in line for one in methods):
                counted[number] += int(float(line.rpartition(" ")[2]))
    for channel in channels:
        channel.close()

    assert {1, 2} == set(counted)
    assert logged == counted


# -- one effect each ---------------------------------------------------------------------------------------------------


async def _send(workers: Workers, requests: Sequence[Any]) -> dict[str, list[Any]]:
    """Sends requests over all connections in turn, some at once; what each request id was answered."""
    channels = [grpc.aio.insecure_channel(workers.server.address, OWN_CONNECTION) for _ in range(CHANNELS)]
    stubs = [points_service_pb2_grpc.PointsServiceStub(one) for one in channels]
    metadata = (("authorization", f"Bearer {workers.shop.token}"),)
    found: dict[str, list[Any]] = defaultdict(list)
    waiting = iter(enumerate(requests))

    async def call() -> None:
        for number, request in waiting:
            while True:
                try:
                    answer: Any = await stubs[number % CHANNELS].TransferPoints(request, metadata=metadata, timeout=60)
                except grpc.aio.AioRpcError as error:
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        continue  # nothing was written: too busy
                    answer = Details(error)
                break
            found[request.request_id].append(answer)

    await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    for one in channels:
        await one.close()
    return found


def sent_again(workers: Workers, commands: int) -> None:
    """Sends commands one to five times through both workers, and judges answers and journal.

    Their request ids are no other form's, which may have come before on the same database.
    """
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}: POINTS_SEED={seed} repeats the requests, though not their order at the server")
    chance = random.Random(seed)
    made = [
        transfer_fields(*chance.sample(workers.customers, 2), chance.randint(1, 400), f"again-{commands}-{number}")
        for number in range(commands)
    ]
    requests = [ParseDict(one, points_service_pb2.TransferPointsRequest()) for one in made]
    sent = [one for one in requests for _ in range(chance.randint(1, 5))]
    chance.shuffle(sent)
    answers = asyncio.run(_send(workers, sent))
    query = "SELECT request_id FROM transactions WHERE kind = 2 AND request_id LIKE ?"
    booked = Counter(request_id for (request_id,) in workers.on.rows(query, f"again-{commands}-%"))

    assert Counter(one.request_id for one in sent) == {name: len(found) for name, found in answers.items()}
    for name, found in answers.items():
        accepted = [one for one in found if not isinstance(one, Details)]
        assert len(accepted) in (0, len(found)), "some were accepted and some refused"
        assert booked[name] == min(1, len(accepted))
        if accepted:
            assert 1 == len({one.data[0].transfer_id for one in accepted})
            assert 1 == sum(not one.replayed for one in accepted)
        else:
            assert 1 == len({(one.number, one.info.reason) for one in found})
    by_worker = Counter(one["worker"] for one in workers.server.events("call"))
    assert {1, 2} == set(by_worker), by_worker
    assert [] == differences(workers.server)
    [(points,)] = workers.on.rows("SELECT SUM(current) FROM wallets")
    assert workers.shop.issued == points


def test_a_thousand_commands_sent_again_have_one_effect_each(workers: Workers) -> None:
    """Each one to five times, through both workers at once: one effect, one outcome, and clean books."""
    sent_again(workers, 1_000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_thousand_commands_sent_again_have_one_effect_each(workers: Workers) -> None:
    """The long form."""
    sent_again(workers, 10_000)


# -- the life of workers -----------------------------------------------------------------------------------------------


def test_a_dead_worker_is_replaced(workers: Workers) -> None:
    """The other one serves meanwhile; nobody else ends; another one of the same number follows."""
    before = workers.pids()
    survivor = workers.channel_to(2)
    os.kill(before[1], signal.SIGKILL)
    meanwhile = [workers.transfer(survivor)[0] for _ in range(5)]
    is_back = until(lambda: workers.pids()[1] != before[1])
    new = workers.channel_to(1)
    new.close()
    survivor.close()
    last = workers.server.events("worker_ended")[-1]

    assert [2] * 5 == meanwhile
    assert is_back
    assert (1, before[1], -9) == (last["worker"], last["pid"], last["exit_code"])
    assert before[2] == workers.pids()[2]


def test_a_worker_that_is_told_to_stop_is_drained_and_replaced(workers: Workers) -> None:
    """An operator can restart the workers one by one."""
    before = workers.pids()
    os.kill(before[2], signal.SIGTERM)

    assert until(lambda: workers.pids()[2] != before[2])
    assert (2, 0) == itemgetter("worker", "exit_code")(workers.server.events("worker_ended")[-1])


def test_workers_end_with_their_supervisor(workers: Workers) -> None:
    """After its `kill -9` they drain by themselves, and the next supervisor has the port again."""
    pids = workers.pids()
    workers.server.kill()
    ended = until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()))
    workers.server.start()
    channel = grpc.insecure_channel(workers.server.address, OWN_CONNECTION)
    worker, _ = workers.transfer(channel)
    channel.close()

    assert ended
    assert worker in (1, 2)


def test_a_worker_that_stood_still_past_its_lease_writes_nothing(workers: Workers) -> None:
    """Server and writer are stopped, another takes the slot: a call that waited for them is not done, and told so."""
    channel = workers.channel_to(2)
    pid = workers.pids()[2]
    stopped = [pid, *children(pid)]
    slots = workers.slots_of(2)
    slot = slots[-1]
    [(epoch,)] = workers.on.rows("SELECT epoch FROM writer_slots WHERE slot = ?", slot)
    for one in stopped:
        os.kill(one, signal.SIGSTOP)
    late = workers.future(channel, "late", 30)
    time.sleep(0.3)
    workers.on.change("UPDATE writer_slots SET epoch = epoch + 1 WHERE slot = ?", slot)
    for one in stopped:
        os.kill(one, signal.SIGCONT)
    error = late.exception()
    written = workers.on.rows("SELECT request_id FROM transactions WHERE request_id = 'late'")
    epochs = dict(workers.on.rows("SELECT slot, epoch FROM writer_slots"))
    assert until(lambda: len(workers.slots_of(2)) > len(slots))
    back, _ = workers.transfer(channel)
    channel.close()
    workers.on.change("UPDATE writer_slots SET expires_at = 0 WHERE slot = ?", slot)  # whoever took it gives it back

    assert (grpc.StatusCode.UNAVAILABLE, []) == (error.code(), written)
    assert epoch + 1 == epochs[slot]
    assert 2 == back
    assert [] == differences(workers.server)


def test_the_end_drains_all(workers: Workers) -> None:
    """SIGTERM ends supervisor, workers and writers, each with code 0, and gives all slots back."""
    process = workers.server.process
    assert process is not None
    everybody = [*workers.pids().values(), *(pid for one in workers.pids().values() for pid in children(one))]
    before = len(workers.server.events("stopped"))
    code = workers.server.stop()
    slots = workers.on.rows("SELECT slot FROM writer_slots WHERE expires_at > 0")
    stopped = [one.get("worker", 0) for one in workers.server.events("stopped")[before:]]
    workers.server.start()

    assert (0, 4) == (code, len(everybody))
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everybody))
    assert ([0, 1, 2], []) == (sorted(stopped), slots)


# -- what cannot be ----------------------------------------------------------------------------------------------------


def serve(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Tries to serve; the exit code and the last line of what it says."""
    command = [sys.executable, "-m", "points_grpc", "serve", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(environment or {})}
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_sqlite_has_one_worker(tmp_path: Path) -> None:
    """Several are refused, in a sentence, before anything is made."""
    said = serve("--workers", "2", "--dev", "--database", f"sqlite:///{tmp_path / 'points.db'}")

    assert (2, "Error: a SQLite database has one writer: several workers need PostgreSQL") == said
    assert [] == list(tmp_path.iterdir())


@pytest.mark.long
def test_a_schema_that_is_missing_is_named(tmp_path: Path, postgres: Cluster) -> None:
    """What a worker cannot do is said by the supervisor, and leaves nobody behind."""
    database = on_postgres(postgres)(tmp_path)
    keys = str(tmp_path / "keys.json")
    code, said = serve("--workers", "2", "--port", "0", "--database", database.url, "--keys-file", keys)
    database.drop()

    assert 1 == code
    assert said.endswith("has schema revision none, this program needs 0001: migrate it")


@pytest.mark.long
def test_a_port_that_is_taken_is_refused(workers: Workers, tmp_path: Path) -> None:
    """By whomever: another supervisor's workers share theirs among themselves alone."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = [workers.server.port, other.getsockname()[1]]
        shared = ("--workers", "2", "--database", workers.on.url, "--keys-file", str(tmp_path / "keys.json"))
        with ThreadPoolExecutor() as threads:
            said = list(threads.map(lambda port: serve(*shared, "--port", str(port)), taken))

    assert [(1, f"Error: cannot bind 127.0.0.1:{port}: Address already in use") for port in taken] == said
