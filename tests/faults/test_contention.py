"""Many callers at once on the same wallets, request ids and codes of a real server: the outcome is that of some order.

The order shows in the wallet versions of the answers, so that every answer and every refusal can be checked against it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from shop import PROGRAM, Judge, Shop, differences, transfer_fields

from points_grpc.v1 import points_service_pb2 as pb
from points_grpc.v1 import points_service_pb2_grpc
from running import Caller, Details, RunningServer

AT_ONCE = 96
CHANNELS = 4
TIMEOUT_S = 30.0

Call = tuple[str, Any]
"""The name of a method of PointsService, and its request."""

Answer = Any
"""A response, or the details of a refusal."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("contention"), "--otp-sender", "console")
    yield running
    running.close()


@pytest.fixture(scope="module")
def shop(server: RunningServer) -> Shop:
    token = server.key(server.organisation())
    server.start()
    return Shop(server, token)


@pytest.fixture
def chance() -> random.Random:
    """Random numbers whose seed is printed."""
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}: POINTS_SEED={seed} repeats the requests, though not their order at the server")
    return random.Random(seed)


def all_at_once(shop: Shop, calls: Sequence[Call]) -> list[Answer]:
    """Makes calls from many callers at once; one answer per call, in order."""

    async def main() -> list[Answer]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(shop.server.address, options) for _ in range(CHANNELS)]
        stubs = [points_service_pb2_grpc.PointsServiceStub(one) for one in channels]
        gate = asyncio.Semaphore(AT_ONCE)
        try:
            return await asyncio.gather(
                *(
                    _call(getattr(stubs[number % CHANNELS], name), request, shop.token, gate)
                    for number, (name, request) in enumerate(calls)
                )
            )
        finally:
            for one in channels:
                await one.close()

    return asyncio.run(main())


async def _call(method: Callable[..., Awaitable[Any]], request: Any, token: str, gate: asyncio.Semaphore) -> Answer:
    async with gate:
        try:
            return await method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return Details(error)


def transfer(source: int, destination: int, points: int, request_id: str, **given: Any) -> Call:
    """A call of TransferPoints."""
    fields = transfer_fields(source, destination, points, request_id, **given)
    return "TransferPoints", ParseDict(fields, pb.TransferPointsRequest())


def redeem(customer: int, points: int, request_id: str) -> Call:
    """A call of RedeemPoints."""
    fields = {
        "customerIdentifier": {"type": "ID", "value": str(customer)},
        "programId": str(PROGRAM),
        "points": str(points),
        "requestId": request_id,
    }
    return "RedeemPoints", ParseDict(fields, pb.RedeemPointsRequest())


def balance_in(answer: Any, customer: int) -> Any:
    """The wallet of a customer in an answer."""
    [found] = [one for one in answer.wallets if one.customer_id == customer]
    return found


def wallet(shop: Shop, customer: int) -> tuple[int, int]:
    """Version and current points of a wallet, as stored."""
    [found] = Judge(shop.server.path).rows("SELECT version, current FROM wallets WHERE customer_id = ?", customer)
    return int(found[0]), int(found[1])


# -- one wallet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points_max", [1, 5])
def test_exactly_what_fits_is_accepted(shop: Shop, chance: random.Random, points_max: int) -> None:
    """2,000 transfers and redemptions at once on a wallet of 1,000 points: what fits in their order, and no more."""
    [rich] = shop.add_customers(1, lots=[100] * 10)
    others = shop.add_customers(20)
    first_version, _ = wallet(shop, rich)
    points = [chance.randint(1, points_max) for _ in range(2000)]
    calls = [
        transfer(rich, chance.choice(others), one, f"fit-{rich}-{number}")
        if number % 2
        else redeem(rich, one, f"fit-{rich}-{number}")
        for number, one in enumerate(points)
    ]
    started = time.monotonic()
    answers = all_at_once(shop, calls)
    took = time.monotonic() - started
    accepted = {
        balance_in(answer, rich).wallet_version: (one, balance_in(answer, rich).current)
        for one, answer in zip(points, answers, strict=True)
        if not isinstance(answer, Details)
    }
    refused = [
        (number, one, answer)
        for number, (one, answer) in enumerate(zip(points, answers, strict=True))
        if isinstance(answer, Details)
    ]
    print(f"{len(calls)} calls in {took:.1f} s: {len(accepted)} accepted, {len(refused)} refused")

    assert len(calls) == len(accepted) + len(refused), "two answers with one version"
    assert list(range(first_version + 1, first_version + 1 + len(accepted))) == sorted(accepted), "no gap"
    left = 1000
    balances = {left}
    for version in sorted(accepted):
        taken, current = accepted[version]
        left -= taken
        balances.add(left)
        assert left == current, f"version {version}"
    for number, one, answer in refused:
        current = int(answer.info.metadata["current"])
        assert (817 if number % 2 else 818) == answer.number
        assert current < one, "it would have fit"
        assert current in balances, "a balance that never was"
    assert points_max > 1 or 1000 == len(accepted)
    assert (first_version + len(accepted), left) == wallet(shop, rich)
    judge_all(shop)


# -- two wallets -------------------------------------------------------------------------------------------------------


@pytest.mark.ci
def test_opposed_transfers(shop: Shop, chance: random.Random) -> None:
    """Transfers from A to B and from B to A at once: no deadlock, no loss, gapless versions on both sides."""
    one, other = shop.add_customers(2, lots=[100, 100])
    versions = {customer: wallet(shop, customer)[0] for customer in (one, other)}
    calls, amounts = [], []
    for number in range(800):
        source, destination = (one, other) if number % 2 else (other, one)
        amounts.append((source, chance.randint(1, 60)))
        calls.append(transfer(source, destination, amounts[-1][1], f"opposed-{one}-{number}"))
    answers = all_at_once(shop, calls)
    accepted = [answer for answer in answers if not isinstance(answer, Details)]
    net = {one: 0, other: 0}
    for (source, points), answer in zip(amounts, answers, strict=True):
        if isinstance(answer, Details):
            assert 817 == answer.number
        else:
            net[source] -= points
            net[other if source == one else one] += points

    for customer in (one, other):
        seen = sorted(balance_in(answer, customer).wallet_version for answer in accepted)
        assert list(range(versions[customer] + 1, versions[customer] + 1 + len(accepted))) == seen
        assert 200 + net[customer] == wallet(shop, customer)[1]
    assert len(accepted) > 100
    judge_all(shop)


# -- one request id ----------------------------------------------------------------------------------------------------


def test_one_request_id_sent_twenty_times_at_once(shop: Shop, chance: random.Random) -> None:
    """Of 20 equal requests at once one has an effect; the answers are equal but for `replayed`. Refusals too."""
    source, destination = shop.add_customers(2, lots=[300])
    before = wallet(shop, source)
    requests = [transfer(source, destination, 10, f"twenty-{source}-{number}") for number in range(20)]
    poor = [transfer(source, destination, 100_000, f"poor-{source}-{number}") for number in range(5)]
    calls = [call for call in (*requests, *poor) for _ in range(20)]
    chance.shuffle(calls)
    answers: dict[str, list[Any]] = {}
    for (_, request), answer in zip(calls, all_at_once(shop, calls), strict=True):
        answers.setdefault(request.request_id, []).append(answer)

    for _, request in requests:
        found = answers[request.request_id]
        assert 19 == sum(one.replayed for one in found)
        for one in found:
            one.replayed = False
        assert found == [found[0]] * 20
    for _, request in poor:
        refusals = answers[request.request_id]
        replayed = [one.info.metadata.pop("replayed", "") for one in refusals]
        assert [""] + ["true"] * 19 == sorted(replayed)
        assert 1 == len({(one.number, one.message, str(sorted(one.info.metadata.items()))) for one in refusals})
    journal = Judge(shop.server.path).transfers()
    assert [1] * 20 == [len(journal[request.request_id]) for _, request in requests]
    assert (before[0] + 20, before[1] - 200) == wallet(shop, source)
    judge_all(shop)


# -- one code ----------------------------------------------------------------------------------------------------------


def issue_code(shop: Shop, source: int, destination: int, points: int) -> str:
    """Issues a code for a transfer and reads it where the customer would."""
    mobile = f"987{source % 10**7:07}"
    caller = Caller(shop.server.address, shop.token)
    fields = transfer_fields(source, destination, points, f"issue-{source}")
    caller.ask(caller.points.IssueTransferOtp, pb.IssueTransferOtpRequest(), fields)
    caller.close()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = [line for line in shop.server.output().splitlines() if mobile in line and "one-time code" in line]
        if found:
            return found[-1].rpartition(" ")[2]
        time.sleep(0.02)
    raise AssertionError("no code arrived")


def attempts(shop: Shop, customer: int) -> tuple[str, int, int]:
    """State and attempts left of a customer's code, and the wrong attempts that were counted."""
    [found] = Judge(shop.server.path).rows(
        "SELECT state, attempts_left, wrong_attempts FROM otps JOIN otp_counters USING (org_id, customer_id, action)"
        " WHERE customer_id = ?",
        customer,
    )
    return found


def outcomes(answers: Sequence[Answer]) -> dict[str, int]:
    """How many were accepted, and how many refused by which number and state of the code."""
    found: dict[str, int] = {}
    for answer in answers:
        refused = isinstance(answer, Details)
        name = f"{answer.number} {answer.info.metadata.get('otp_state', '')}" if refused else "accepted"
        found[name] = found.get(name, 0) + 1
    return found


def test_one_code_used_fifty_times_at_once(shop: Shop) -> None:
    """A code opens one of 50 transfers with request ids of their own; the others read INVALID and count no attempt."""
    source, destination = shop.add_customers(2, lots=[1000], mobile="987")
    code = issue_code(shop, source, destination, 10)
    answers = all_at_once(
        shop, [transfer(source, destination, 10, f"code-{source}-{number}", code=code) for number in range(50)]
    )

    assert {"accepted": 1, "808 INVALID": 49} == outcomes(answers)
    assert ("USED", 5, 0) == attempts(shop, source)
    assert 990 == wallet(shop, source)[1]


def test_fifty_wrong_codes_at_once(shop: Shop) -> None:
    """Of 50 wrong codes at once five are counted, never more; then the right one is worth nothing either."""
    source, destination = shop.add_customers(2, lots=[1000], mobile="987")
    code = issue_code(shop, source, destination, 10)
    guesses = [f"{(int(code) + 1 + number) % 10**6:06}" for number in range(50)]
    answers = all_at_once(
        shop,
        [transfer(source, destination, 10, f"guess-{source}-{one}", code=one) for one in guesses],
    )
    [late] = all_at_once(shop, [transfer(source, destination, 10, f"late-{source}", code=code)])

    assert {"808 INVALID": 50} == outcomes(answers)
    assert {"808 INVALID": 1} == outcomes([late])
    assert ("LIVE", 0, 5) == attempts(shop, source)
    assert 1000 == wallet(shop, source)[1]


def test_right_and_wrong_codes_at_once(shop: Shop, chance: random.Random) -> None:
    """Among wrong codes the right one opens at most one transfer, and no more than five guesses are counted."""
    for _ in range(4):
        source, destination = shop.add_customers(2, lots=[1000], mobile="987")
        code = issue_code(shop, source, destination, 10)
        wrong = f"{(int(code) + 1) % 10**6:06}"
        given = [code] * 5 + [wrong] * 45
        chance.shuffle(given)
        answers = all_at_once(
            shop,
            [transfer(source, destination, 10, f"mix-{source}-{n}", code=one) for n, one in enumerate(given)],
        )
        opened = outcomes(answers).get("accepted", 0)
        state, left, counted = attempts(shop, source)

        assert opened <= 1
        assert ("USED" if opened else "LIVE") == state
        assert 5 == left + counted
        assert 0 <= left
        assert 1000 - 10 * opened == wallet(shop, source)[1]
    judge_all(shop)


def judge_all(shop: Shop) -> None:
    """Nothing is below zero anywhere, and every balance is what the journal says."""
    assert 0 == Judge(shop.server.path).below_zero()
    assert [] == differences(shop.server)
