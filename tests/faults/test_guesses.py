"""Guessing one-time codes, through two workers on PostgreSQL of which one is killed: what is counted, what opens.

The guesses are wrong by construction: the test knows the codes. A lucky guess would be no fault.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from callers import OPEN
from google.protobuf.json_format import ParseDict
from shop import Shop, differences, transfer_fields

from databases import ATestsDatabase, on_postgres
from points_grpc.v1 import points_service_pb2 as pb
from points_grpc.v1 import points_service_pb2_grpc
from postgres_cluster import Cluster
from running import Caller, Details, RunningServer, refused

ATTEMPTS = 5
"""How many attempts the default policy allows for a code."""

CALLERS = 50
CHANNELS = 16
"""Connections are spread over the workers, not calls: with so many each worker has some."""

PRIZE = 100
"""How many points the codes allow to transfer."""

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
"""To start five processes takes seconds: all tests share them."""

_numbers = itertools.count(1)
Answer = Any
"""A response, or the details of a refusal."""


def until(is_true: Callable[[], bool], timeout_s: float = 120.0) -> bool:
    """Waits until something is true; says whether it became so."""
    end = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Guessed:
    """A server with two workers, and customers whose codes are known to the test."""

    def __init__(self, folder: Path, on: ATestsDatabase) -> None:
        self.on = on
        self.server = RunningServer(folder, "--workers", "2", "--otp-sender", "console", on=on)
        token = self.server.key(self.server.organisation())
        self.shop = Shop(self.server.start(), token)
        self.caller = Caller(self.server.address, token)
        [self.thief] = self.shop.add_customers(1)

    def with_codes(self, count: int) -> dict[int, str]:
        """New customers, each with a code for a transfer to the thief; the code, by customer."""
        customers = self.shop.add_customers(count, lots=(1_000,), mobile="987")
        for one in customers:
            fields = transfer_fields(one, self.thief, PRIZE, f"issue-{one}")
            self.caller.ask(self.caller.points.IssueTransferOtp, pb.IssueTransferOtpRequest(), fields, timeout_s=60)
        targets = {f"+91987{one % 10**7:07}": one for one in customers}
        assert until(lambda: targets.keys() <= self._sent().keys()), "codes were not sent"
        return {targets[target]: code for target, code in self._sent().items() if target in targets}

    def _sent(self) -> dict[str, str]:
        return dict(re.findall(r"code for MOBILE (\S+): (\d+)", self.server.output()))

    def request(self, source: int, **given: Any) -> pb.TransferPointsRequest:
        """A transfer of all that a code allows, under a new request id."""
        fields = transfer_fields(source, self.thief, PRIZE, f"guess-{next(_numbers)}", **given)
        return ParseDict(fields, pb.TransferPointsRequest())

    def refusal(self, source: int, **given: Any) -> tuple[int, str]:
        """The number and the state of the code with which a transfer is refused."""
        with refused() as found:
            self.caller.points.TransferPoints(self.request(source, **given), metadata=self.caller.metadata, timeout=60)
        return found[0].number, found[0].info.metadata["otp_state"]

    def counted(self, customers: Sequence[int]) -> set[tuple[int, int]]:
        """What is left of the codes' attempts, and how many wrong ones were counted for their customers."""
        query = (
            "SELECT attempts_left, wrong_attempts FROM otps JOIN otp_counters USING (org_id, customer_id, action)"
            f" WHERE customer_id BETWEEN {min(customers)} AND {max(customers)}"
        )
        found = self.on.rows(query)
        assert len(customers) == len(found)
        return set(found)

    def points_of(self, customers: Sequence[int]) -> set[int]:
        """What customers have."""
        query = f"SELECT current FROM wallets WHERE customer_id BETWEEN {min(customers)} AND {max(customers)}"
        return {points for (points,) in self.on.rows(query)}

    def workers(self) -> dict[int, int]:
        """The process of each worker, by its number."""
        return {one["worker"]: one["pid"] for one in self.server.events("worker_started", least=2)}

    def close(self) -> None:
        self.caller.close()
        self.server.close()
        self.on.drop()


@pytest.fixture(scope="module")
def guessed(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guessed]:
    folder = tmp_path_factory.mktemp("guesses")
    made = Guessed(folder, on_postgres(postgres)(folder))
    yield made
    made.close()


class Crowd:
    """Callers who send requests over many connections, each until its outcome is known."""

    def __init__(self, guessed: Guessed) -> None:
        self._guessed = guessed
        self._channels = [grpc.aio.insecure_channel(guessed.server.address, OWN_CONNECTION) for _ in range(CHANNELS)]
        self._stubs = itertools.cycle(map(points_service_pb2_grpc.PointsServiceStub, self._channels))
        self.answers: list[tuple[pb.TransferPointsRequest, Answer]] = []

    async def send(self, request: pb.TransferPointsRequest) -> Answer:
        """What a request was answered in the end; what a dead worker leaves open is settled by its request id."""
        while True:
            try:
                return await next(self._stubs).TransferPoints(
                    request, metadata=self._guessed.caller.metadata, timeout=60
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in OPEN:
                    return Details(error)
            await asyncio.sleep(0.05)

    async def send_all(self, requests: Sequence[pb.TransferPointsRequest], kill_after: int) -> None:
        """Sends all, so many callers at once; after so many answers a worker is killed."""
        waiting = iter(requests)

        async def call() -> None:
            for request in waiting:
                self.answers.append((request, await self.send(request)))
                if len(self.answers) == kill_after:
                    os.kill(self._guessed.workers()[1], signal.SIGKILL)

        await asyncio.gather(*(call() for _ in range(CALLERS)))

    async def meanwhile(self, customers: Sequence[int], guessing: asyncio.Event) -> list[Answer]:
        """Transfers between others, which need no code, until the guessing is over."""
        found = []
        while not guessing.is_set():
            fields = transfer_fields(customers[0], customers[1], 1, f"other-{next(_numbers)}")
            found.append(await self.send(ParseDict(fields, pb.TransferPointsRequest())))
        return found

    async def close(self) -> None:
        """Closes the connections."""
        for one in self._channels:
            await one.close()


def guess_all(guessed: Guessed, *, codes: int, rounds: int) -> None:
    """Guesses each code by all callers at once, one code after the other, again and again; judges what came of it."""
    known = guessed.with_codes(codes)
    bystander, its_code = guessed.with_codes(1).popitem()
    others = guessed.shop.add_customers(2, lots=(100_000,))
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}: POINTS_SEED={seed} repeats the guesses, though not their order at the server")
    chance = random.Random(seed)

    def wrong(code: str) -> str:
        number = chance.randrange(10 ** len(code) - 1)
        return f"{number + (number >= int(code)):0{len(code)}}"

    requests = [
        guessed.request(one, code=wrong(code)) for _ in range(rounds) for one, code in known.items() for _ in range(50)
    ]

    async def main() -> tuple[list[tuple[Any, Answer]], list[Answer]]:
        crowd, over = Crowd(guessed), asyncio.Event()
        meanwhile = asyncio.create_task(crowd.meanwhile(others, over))
        await crowd.send_all(requests, kill_after=len(requests) // 8)
        over.set()
        told = await meanwhile
        await crowd.close()
        return crowd.answers, told

    before = guessed.workers()
    answers, told = asyncio.run(main())
    left: dict[str, Counter[int]] = defaultdict(Counter)
    for request, answer in answers:
        assert isinstance(answer, Details), "a wrong code was accepted"
        assert (808, "INVALID") == (answer.number, answer.info.metadata["otp_state"])
        left[request.from_customer_identifier.value][int(answer.info.metadata["attempts_left"])] += 1
    each = Counter({4: 1, 3: 1, 2: 1, 1: 1, 0: rounds * 50 - 4})
    customers = list(known)

    assert codes * rounds * 50 == len(answers)
    assert {str(one): each for one in customers} == left
    assert {(0, ATTEMPTS)} == guessed.counted(customers)
    assert {1_000} == guessed.points_of(customers)
    assert until(lambda: before[1] != guessed.workers()[1]), "no worker was killed and replaced"
    # exhausted: neither with the right code, nor without one
    assert {(808, "INVALID")} == {guessed.refusal(one, code=code) for one, code in known.items()}
    assert {(808, "MISSING")} == {guessed.refusal(one) for one in customers}
    assert {(0, ATTEMPTS)} == guessed.counted(customers)
    # nobody else noticed
    assert told
    assert [] == [one for one in told if isinstance(one, Details)]
    assert {(ATTEMPTS, 0)} == guessed.counted([bystander])
    assert not isinstance(asyncio.run(send_one(guessed, guessed.request(bystander, code=its_code))), Details)
    assert [] == differences(guessed.server)


async def send_one(guessed: Guessed, request: pb.TransferPointsRequest) -> Answer:
    """One request, until its outcome is known."""
    crowd = Crowd(guessed)
    answer = await crowd.send(request)
    await crowd.close()
    return answer


def test_six_hundred_guesses(guessed: Guessed) -> None:
    """By fifty callers through two workers, one of which is killed: no success, five attempts counted for each code,
    and what is exhausted opens nothing."""
    guess_all(guessed, codes=12, rounds=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_guesses(guessed: Guessed) -> None:
    """The long form."""
    guess_all(guessed, codes=50, rounds=4)


def test_waiting_out_a_code(guessed: Guessed) -> None:
    """Once its time is up (here: was set back in the database) the right code is refused, and so is none: it stays
    due. No attempt is counted."""
    [(customer, code)] = guessed.with_codes(1).items()
    guessed.on.change("UPDATE otps SET expires_at = issued_at - 1 WHERE customer_id = ?", customer)
    found = [guessed.refusal(customer, code=code), guessed.refusal(customer), guessed.refusal(customer, code="0")]

    assert [(808, "INVALID"), (808, "MISSING"), (808, "INVALID")] == found
    assert {(ATTEMPTS, 0)} == guessed.counted([customer])
    assert {1_000} == guessed.points_of([customer])


def test_a_code_used_fifty_times_at_once(guessed: Guessed) -> None:
    """Under fifty request ids, through both workers: one of them transfers, the others are refused."""
    [(customer, code)] = guessed.with_codes(1).items()
    requests = [guessed.request(customer, code=code) for _ in range(50)]

    async def main() -> list[Answer]:
        crowd = Crowd(guessed)
        found = await asyncio.gather(*map(crowd.send, requests))
        await crowd.close()
        return list(found)

    answers = asyncio.run(main())
    refusals = [(one.number, one.info.metadata["otp_state"]) for one in answers if isinstance(one, Details)]

    assert [(808, "INVALID")] * 49 == refusals
    assert {1_000 - PRIZE} == guessed.points_of([customer])
    assert {(ATTEMPTS, 0)} == guessed.counted([customer])
    assert [] == differences(guessed.server)
