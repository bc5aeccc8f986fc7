"""Calls whose request is not there yet, over a real port: who may have one wait, for how long, and how many."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from test_render import TRANSFER
from wire_requests import transfer_points
from wire_server import OPERATOR, Seen, World, on_server, path_of

from points_grpc.domain.outcome import Accepted
from points_grpc.rpc.limits import Limits

WATCHED = health_pb2.HealthCheckRequest()


def without_request(world: World, metadata: Any) -> Any:
    """A call that has begun and whose request does not come."""
    return world.channel.stream_unary(path_of(transfer_points()))(metadata=metadata, timeout=30)


async def seen_of(call: Any) -> Seen:
    """What became of it."""
    return Seen(await call.code(), await call.details(), dict(await call.trailing_metadata() or ()), b"")


def test_who_is_nobody_is_not_waited_for() -> None:
    """Without a credential, or with too small a role, a call is refused before its request has come."""

    async def run(world: World) -> list[str]:
        calls = [without_request(world, metadata) for metadata in ((), (("authorization", "Bearer reader"),))]
        return [(await seen_of(one)).reason for one in calls]

    assert ["UNAUTHENTICATED", "PERMISSION_DENIED"] == on_server(run)


def test_a_request_is_waited_for_until_the_deadline() -> None:
    """One that does not come is given up, nothing was written; until then it counts among the calls at once."""

    async def run(world: World) -> tuple[Seen, Seen, Seen]:
        world.submitter.outcome = Accepted(TRANSFER)
        waiting = without_request(world, OPERATOR)
        while not world.server._gate._arriving:
            await asyncio.sleep(0.01)
        beside = await world.call(transfer_points())
        ended = await seen_of(waiting)
        return beside, ended, await world.call(transfer_points())

    beside, ended, after = on_server(run, Limits(org_calls_in_flight_max=1, deadline_default_s=1, deadline_max_s=1))

    assert ("RATE_LIMITED", "org_calls_in_flight_max") == (beside.reason, beside.metadata["quota"])
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_WRITTEN") == (ended.code, ended.metadata["outcome"])
    assert grpc.StatusCode.OK is after.code


def test_who_is_beyond_a_rate_is_not_waited_for() -> None:
    """Nothing is spent on the request of who has used up a rate."""

    async def run(world: World) -> tuple[grpc.StatusCode, Seen]:
        world.submitter.outcome = Accepted(TRANSFER)
        first = await world.call(transfer_points())
        return first.code, await seen_of(without_request(world, OPERATOR))

    first, refused = on_server(run, Limits(client_writes_per_s=1, quota_burst_ms=1000))

    assert grpc.StatusCode.OK is first
    assert ("RATE_LIMITED", "client_writes_per_s") == (refused.reason, refused.metadata["quota"])


def test_a_call_without_a_request_is_malformed() -> None:
    """Who ends a call without having said anything is told so."""

    async def run(world: World) -> Seen:
        call = without_request(world, OPERATOR)
        await call.done_writing()
        return await seen_of(call)

    assert "TRANSFER_VALIDATION_FAILED" == on_server(run).reason


def test_a_call_is_cancelled_before_its_request_has_come() -> None:
    """Its caller went away: it said nothing that was malformed."""

    async def run(world: World) -> World:
        for _ in range(20):
            call = without_request(world, OPERATOR)
            while not world.server._gate._arriving:
                await asyncio.sleep(0.01)
            call.cancel()
            while world.server._gate._arriving:
                await asyncio.sleep(0.01)
        while len(world.log.calls) < 20:
            await asyncio.sleep(0.01)
        return world

    world = on_server(run)

    assert {"CANCELLED"} == {line["code"] for line in world.log.calls}
    assert {("CANCELLED", "")} == {(code, reason) for _, code, reason in world.metrics.seen}


def test_newest_guest_gets_the_place_of_the_oldest() -> None:
    """Calls that show no credential have so many places: a probe finds one, whoever lets calls stand."""

    async def run(world: World) -> tuple[list[bool], grpc.StatusCode, grpc.StatusCode]:
        health = health_pb2_grpc.HealthStub(world.channel)
        watches = []
        for _ in range(3):
            watches.append(health.Watch(WATCHED))
            await watches[-1].read()
        first = await watches[0].code()
        probe = await health.Check(WATCHED, timeout=5).code()
        return [one.done() for one in watches], first, probe

    done, first, probe = on_server(run, Limits(guest_calls_max=2))

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK) == (first, probe)
    assert [True, True, False] == done
