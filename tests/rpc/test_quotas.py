"""Quotas: what is let in at which instant, by a clock that the test moves; and what callers see of it over a port."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import grpc
import pytest
from test_render import TRANSFER
from wire_requests import redeem_points, request, transfer_points
from wire_server import OPERATOR, Seen, World, on_server, path_of

from points_grpc import codes
from points_grpc.domain.outcome import Accepted, Refused
from points_grpc.rpc import rates
from points_grpc.rpc.call import Call, Caller, Role
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.quotas import ITEMS_COUNTED_MAX, Quotas
from points_grpc.rpc.rates import OwnRates, Rates
from points_grpc.rpc.server import SERVICES
from points_grpc.v1 import catalog_service_pb2, points_service_pb2

READ = "points.v1.WalletService/GetWallet"
WRITE = "points.v1.PointsService/TransferPoints"
BATCH = "points.v1.PointsService/BatchTransferPoints"
WATCH = "points.v1.WalletService/WatchWallet"


class Counting:
    """Quotas under a clock of their own."""

    def __init__(self, shared: Rates | None = None, **limits: int) -> None:
        self.now = 1_000.0
        self.quotas = Quotas(SERVICES, Limits(**limits), rates=shared, monotonic_ns=lambda: round(self.now * 1e9))

    def ask(self, method: str = WRITE, *, org: int = 1, client: str = "till", raw: bytes = b"") -> Call | Refused:
        """A call that was let in, or why not."""
        call = Call(method, method.rpartition("/")[2], caller=Caller(org, client, "k", Role.ADMIN, "IN"))
        return self.quotas.enter(call, raw) or call

    def let_in(self, times: int, **asked: Any) -> int:
        """How many of so many calls are let in; each ends at once."""
        found = [self.ask(**asked) for _ in range(times)]
        for one in found:
            if isinstance(one, Call):
                self.quotas.leave(one)
        return sum(isinstance(one, Call) for one in found)


def batch(items: int) -> bytes:
    """A batch as it travels."""
    one = transfer_points()
    return points_service_pb2.BatchTransferPointsRequest(requests=[one] * items).SerializeToString()


def test_rate_of_a_client() -> None:
    """A burst is let in at once, then as many as the rate allows; a pause brings back one burst and no more."""
    world = Counting(client_writes_per_s=10, quota_burst_ms=500)
    found = [world.let_in(20)]
    world.now += 0.3
    found.append(world.let_in(20))
    world.now += 3600
    found.append(world.let_in(20))

    assert [5, 3, 5] == found


def test_what_has_quotas_of_its_own() -> None:
    """Reads and writes, clients, and organisations do not use up each other's."""
    world = Counting(client_writes_per_s=5, client_reads_per_s=3)
    found = [
        world.let_in(9, method=WRITE),
        world.let_in(9, method=READ),
        world.let_in(9, client="web"),
        world.let_in(9, org=2),
    ]

    assert [5, 3, 5, 5] == found


def test_idle_clients_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients an issuer names, those that are idle take no memory; nobody gets a burst twice for it."""
    monkeypatch.setattr(rates, "RATES_MAX", 10)
    own = OwnRates()
    world = Counting(own, client_writes_per_s=10, quota_burst_ms=500, org_calls_per_s=1_000_000)
    busy = [world.let_in(20, client="busy")]
    for number in range(100):
        world.now += 0.004
        world.let_in(1, client=f"user-{number}")
    busy.append(world.let_in(20, client="busy"))

    assert [5, 4] == busy  # 0.4 s later at 10 a second
    assert len(own) < 60


def test_rate_of_an_organisation() -> None:
    """All clients of an organisation share its quota, and what it refuses is not counted against the client."""
    world = Counting(client_writes_per_s=10, client_reads_per_s=10, org_calls_per_s=12)
    found = [world.let_in(20), world.let_in(20, client="web"), world.let_in(20, client="web", method=READ)]
    world.now += 1
    found.append(world.let_in(20, client="web"))

    assert [10, 2, 0, 10] == found


def test_refusal() -> None:
    """A refusal names the quota, its size and whose it is, and says to the instant when the same call is let in."""
    world = Counting(client_writes_per_s=4, org_calls_per_s=8)
    world.let_in(4)
    refused = world.ask()
    world.let_in(4, client="web")
    of_the_org = world.ask(READ)

    assert isinstance(refused, Refused)
    assert isinstance(of_the_org, Refused)
    assert (codes.RATE_LIMITED, 0.25) == (refused.code, refused.retry_after_s)
    assert {"quota": "client_writes_per_s", "limit": "4", "scope": "client"} == refused.metadata
    assert {"quota": "org_calls_per_s", "limit": "8", "scope": "organization"} == of_the_org.metadata
    world.now += 0.25
    assert isinstance(world.ask(), Call)


def test_items_of_a_batch() -> None:
    """A batch counts by its items; one beyond a whole burst is let in on a full one, and paid for afterwards."""
    world = Counting(client_writes_per_s=100)
    found = [world.let_in(1, method=BATCH, raw=batch(60)), world.let_in(1, method=BATCH, raw=batch(60))]
    world.now += 1
    found += [world.let_in(1, method=BATCH, raw=batch(500)), world.let_in(1)]
    world.now += 4.01
    found += [world.let_in(1), world.let_in(1)]

    assert [1, 0, 1, 0, 1, 0] == found


@pytest.mark.parametrize(
    ("raw", "items", "is_too_long"),
    [
        (b"", 1, False),
        (batch(1), 1, False),
        (batch(1000), 1000, False),
        (batch(1001), ITEMS_COUNTED_MAX, True),
        (b"\x0a\x00" * 500_000, ITEMS_COUNTED_MAX, True),
        (b"\x10\x01" + batch(3), ITEMS_COUNTED_MAX, False),
        (b"\x10\x01" + batch(1001), ITEMS_COUNTED_MAX, True),
        (b"\x12\x02\x0a\x00\x19" + bytes(8) + b"\x1d" + bytes(4) + batch(1000), ITEMS_COUNTED_MAX, False),
        (b"\x10\x01" * 17, ITEMS_COUNTED_MAX, True),
        (b"\x13\x14" + batch(1001), ITEMS_COUNTED_MAX, True),
        (b"\x8a\x00\x00" + batch(3), 4, False),
        (b"\x8a\x00\x00" * 1001, ITEMS_COUNTED_MAX, True),
        (b"\x0a" + b"\xff" * 100_000, 1, False),
        (b"\x0a", 1, False),
    ],
    ids=[
        *("none", "one", "most", "too many", "empty ones", "stray field", "stray field and too many", "stray fields"),
        *("too many stray fields", "group", "long tag", "long tags", "long length", "cut"),
    ],
)
def test_counting_items(raw: bytes, items: int, *, is_too_long: bool) -> None:
    """Items are counted in the bytes; what is no plain list of them counts as a full one, and more are found in it."""
    call = Counting().ask(BATCH, raw=raw)

    assert isinstance(call, Call)
    assert (items, is_too_long) == (call.items, call.is_too_long)


def test_calls_at_once() -> None:
    """So many calls of an organisation go on at once; each that ends makes room for another, whoever it is."""
    world = Counting(org_calls_in_flight_max=2)
    first, second, third = world.ask(), world.ask(client="web"), world.ask(READ)
    other = world.ask(org=2)
    assert isinstance(first, Call)
    world.quotas.leave(first)
    world.quotas.leave(first)
    again, one_more = world.ask(), world.ask()

    assert [True, True, False, True, True, False] == [
        isinstance(one, Call) for one in (first, second, third, other, again, one_more)
    ]
    assert isinstance(third, Refused)
    assert {"quota": "org_calls_in_flight_max", "limit": "2", "scope": "organization"} == third.metadata


def test_items_at_once() -> None:
    """Items of batches count among what an organisation has going on; a larger batch is taken where it is alone."""
    world = Counting(org_items_in_flight_max=100)
    large = world.ask(BATCH, raw=batch(300))
    beside = world.ask()
    assert isinstance(large, Call)
    world.quotas.leave(large)
    small = world.ask(BATCH, raw=batch(60))
    found = [world.ask(BATCH, raw=batch(41)), world.ask(BATCH, raw=batch(40)), world.ask()]

    assert isinstance(beside, Refused)
    assert isinstance(small, Call)
    assert [False, True, False] == [isinstance(one, Call) for one in found]


def test_what_is_going_on_is_told_before_rates() -> None:
    """Whether it is noticed before the request has come or after: the same quota is named."""
    world = Counting(org_watches_max=1, client_reads_per_s=1)
    watching = world.ask(WATCH)
    second = Call(WATCH, "WatchWallet", caller=Caller(1, "till", "k", Role.ADMIN, "IN"))
    found = [world.quotas.await_request(second), world.quotas.enter(second, b"")]

    assert isinstance(watching, Call)
    assert ["org_watches_max"] * 2 == [one.metadata["quota"] for one in found if one is not None]


def test_five_times_the_quota() -> None:
    """An organisation that asks five times its quota gets its quota, and another misses nothing."""
    world = Counting(org_calls_per_s=100, client_writes_per_s=100, quota_burst_ms=100)
    let_in: Counter[int] = Counter()
    for _ in range(1000):  # ten seconds, a hundredth at a time: five calls of the one, a call of the other
        world.now += 0.01
        let_in[1] += world.let_in(5, org=1)
        let_in[2] += world.let_in(1, org=2)

    assert 1000 == let_in[2]
    assert 1000 <= let_in[1] <= 1010


# -- over a port


def test_on_the_wire() -> None:
    """A call too many is refused with its quota, when to come again, and the pushback; it reaches nobody."""

    async def run(world: World) -> tuple[list[Seen], World]:
        world.submitter.outcome = Accepted(TRANSFER)
        return [await world.call(transfer_points()) for _ in range(3)], world

    seen, world = on_server(run, Limits(client_writes_per_s=1, quota_burst_ms=2_000))

    refused = seen[2]
    retry = refused.details["google.rpc.RetryInfo"].retry_delay
    [violation] = refused.details["google.rpc.QuotaFailure"].violations
    assert [grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED] == [one.code for one in seen]
    assert {"quota": "client_writes_per_s", "limit": "1", "scope": "client"} == refused.metadata
    assert ("client_writes_per_s", "limit 1") == (violation.subject, violation.description)
    assert 0 < int(refused.trailers["grpc-retry-pushback-ms"]) <= 1000
    assert retry.seconds * 1000 + retry.nanos // 1_000_000 == int(refused.trailers["grpc-retry-pushback-ms"])
    assert 2 == len(world.submitter.submitted)
    assert "RATE_LIMITED" == world.log.calls[2]["reason"]


RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "30s",
                    "maxBackoff": "30s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
                },
            }
        ]
    }
)
"""A client whose own backoff would outlast the test: only the pushback brings it back in time."""


def test_retries_of_a_client() -> None:
    """A client library that retries comes back when the pushback says, and is let in: one deed, two attempts."""

    async def run(world: World) -> tuple[list[grpc.StatusCode], World]:
        world.submitter.outcome = Accepted(TRANSFER)
        options = (("grpc.service_config", RETRIES), ("grpc.enable_retries", 1))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}", options) as channel:
            method = channel.unary_unary(path_of(transfer_points()))
            found = []
            for number in range(2):
                message: Any = request("transfer_points")
                message.request_id = f"retried-{number}"
                call = method(message.SerializeToString(), metadata=OPERATOR, timeout=20)
                await call
                found.append(await call.code())
        return found, world

    found, world = on_server(run, Limits(client_writes_per_s=2, quota_burst_ms=500))

    assert [grpc.StatusCode.OK] * 2 == found
    assert ["", "RATE_LIMITED", ""] == [line["reason"] for line in world.log.calls]
    assert ["retried-0", "retried-1"] == [one.request_id for one, _ in world.submitter.submitted]


def test_places_are_given_back() -> None:
    """Calls that are answered, refused, fail or are given up leave nothing behind."""

    async def run(world: World) -> list[int]:
        await world.call_raw(path_of(redeem_points()), b"")
        world.submitter.error = ValueError()
        await world.call(redeem_points())
        world.submitter.error = None
        world.submitter.wait_s = 60
        waiting = [asyncio.create_task(world.call(redeem_points(), timeout=0.2)) for _ in range(3)]
        await asyncio.gather(*waiting, return_exceptions=True)
        while len(world.log.calls) < 5:
            await asyncio.sleep(0.01)
        [organisation] = world.server._gate._quotas._organisations.values()
        return [organisation.calls, organisation.items, organisation.watches]

    assert [0, 0, 0] == on_server(run)


def test_quotas_are_in_the_server_info() -> None:
    """GetServerInfo tells the quotas in force."""

    async def run(world: World) -> Seen:
        return await world.call(catalog_service_pb2.GetServerInfoRequest())

    answer = catalog_service_pb2.GetServerInfoResponse.FromString(on_server(run, Limits(org_calls_per_s=7)).answer)
    limits = {one.name: (one.value, one.unit) for one in answer.limits}

    assert (7, "calls per second, items of a batch each") == limits["org_calls_per_s"]
    assert {
        "client_reads_per_s",
        "client_writes_per_s",
        "quota_burst_ms",
        "org_calls_in_flight_max",
        "org_items_in_flight_max",
        "org_watches_max",
    } <= limits.keys()
