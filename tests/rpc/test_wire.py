"""The server as a whole: health, reflection, limits on the wire, start and drain."""

from __future__ import annotations

import asyncio
import gzip
import struct
import time
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from test_render import TRANSFER
from wire_requests import redeem_points, transfer_points
from wire_server import OPERATOR, Seen, World, on_server, path_of

from points_grpc.domain.commands import Submission
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.model import ProgramBook
from points_grpc.domain.outcome import Accepted, Settled
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.server import SERVICES, channel_options
from points_grpc.v1 import program_service_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_health() -> None:
    """The server and each service are healthy, without a credential; `List` names them all."""

    async def run(world: World) -> tuple[list[int], dict[str, int]]:
        stub = health_pb2_grpc.HealthStub(world.channel)
        names = ["", *(service.full_name for service in SERVICES)]
        checks = [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names]
        listed = await stub.List(health_pb2.HealthListRequest())
        return checks, {name: one.status for name, one in listed.statuses.items()}

    checks, listed = on_server(run)

    assert set(checks) == {SERVING}
    assert listed == dict.fromkeys(["", *(service.full_name for service in SERVICES)], SERVING)


def test_health_of_what_is_not_there() -> None:
    """A service that nobody has is NOT_FOUND."""

    async def run(world: World) -> grpc.StatusCode:
        stub = health_pb2_grpc.HealthStub(world.channel)
        call = stub.Check(health_pb2.HealthCheckRequest(service="x"))
        return await call.code()

    assert on_server(run) is grpc.StatusCode.NOT_FOUND


def test_health_behind_a_credential() -> None:
    """Where the deployment exempts nothing, health and reflection ask for a credential of any role."""

    async def run(world: World) -> list[Any]:
        health = health_pb2_grpc.HealthStub(world.channel)
        mirror = reflection_pb2_grpc.ServerReflectionStub(world.channel)
        codes: list[Any] = []
        for metadata in ((), (("authorization", "Bearer reader"),)):
            codes.append(await health.Check(health_pb2.HealthCheckRequest(), metadata=metadata).code())
            watch = health.Watch(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=5)
            codes.append((await watch.read()) is not grpc.aio.EOF if metadata else await watch.code())
            watch.cancel()
            call = mirror.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=metadata
            )
            codes.append((await call.read()) is not grpc.aio.EOF if metadata else await call.code())
        return codes

    none, ok = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK
    assert on_server(run, exempt=()) == [none, none, none, ok, True, True]


def test_reflection() -> None:
    """Every service, the details of refusals and the options of the codes resolve through reflection."""

    async def ask(stub: Any, **request: str) -> Any:
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**request)]))
        return await call.read()

    async def run(world: World) -> tuple[set[str], descriptor_pool.DescriptorPool]:
        stub = reflection_pb2_grpc.ServerReflectionStub(world.channel)
        listed = await ask(stub, list_services="")
        pool = descriptor_pool.DescriptorPool()
        added: set[str] = set()

        async def add(**request: str) -> None:
            answer = await ask(stub, **request)
            for raw in answer.file_descriptor_response.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                if file.name in added:
                    continue
                added.add(file.name)
                for needed in file.dependency:
                    await add(file_by_filename=needed)
                pool.AddSerializedFile(raw)

        for service in SERVICES:
            await add(file_containing_symbol=service.full_name)
        await add(file_containing_symbol="google.rpc.ErrorInfo")
        await add(file_containing_symbol="points.v1.TransferErrorCode")
        await add(file_containing_symbol="points.v1.StatusPayload")
        return {one.name for one in listed.list_services_response.service}, pool

    names, pool = on_server(run)

    assert names >= {service.full_name for service in SERVICES} | {"grpc.health.v1.Health"}
    assert pool.FindMessageTypeByName("google.rpc.ErrorInfo")
    assert pool.FindExtensionByName("points.v1.code_spec")
    value = pool.FindEnumTypeByName("points.v1.TransferErrorCode").values_by_number[817]
    assert b"insufficient points" in value.GetOptions().SerializeToString()


def test_too_large_a_request() -> None:
    """A message above the limit is refused by the core, packed or not, and reaches nobody."""

    async def run(world: World) -> list[grpc.StatusCode]:
        large = transfer_points()
        large.notes = "x" * 70_000
        plain = await world.call_raw(path_of(large), large.SerializeToString())
        method = world.channel.unary_unary(path_of(large))
        packed = method(large.SerializeToString(), metadata=OPERATOR, compression=grpc.Compression.Gzip)
        return [plain.code, await packed.code(), *[grpc.StatusCode.OK for _ in world.submitter.submitted]]

    assert len(gzip.compress(b"x" * 70_000)) < 1000
    assert on_server(run, Limits(request_message_bytes_max=65_536)) == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2


def test_too_much_metadata() -> None:
    """Metadata above the limit is refused by the core."""

    async def run(world: World) -> grpc.StatusCode:
        return (await world.call(transfer_points(), (*OPERATOR, ("x-large", "v" * 17_000)))).code

    assert on_server(run) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_that_the_server_is_slow_to_take() -> None:
    """What the core held for longer than it may is ended, and seen by nobody: they are late, and others behind them are
    not. The server had asked for the first one already.
    """
    limits = Limits()

    async def run(world: World) -> tuple[list[grpc.StatusCode], int]:
        world.submitter.outcome = Accepted(TRANSFER)
        with grpc.insecure_channel(f"127.0.0.1:{world.port}") as channel:
            await asyncio.to_thread(grpc.channel_ready_future(channel).result, 10)
            method = channel.unary_unary(path_of(transfer_points()))
            request = transfer_points().SerializeToString()
            calls = [method.future(request, metadata=OPERATOR, timeout=20) for _ in range(3)]
            time.sleep(limits.pending_age_max_s + 0.5)  # the server is busy with something else
            early = await asyncio.to_thread(lambda: [one.code() for one in calls])
            late = await asyncio.to_thread(method.future(request, metadata=OPERATOR, timeout=20).code)
        return [*early, late], len(world.submitter.submitted)

    ok, cancelled = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED
    assert on_server(run, limits) == ([ok, cancelled, cancelled, ok], 2)


def test_options() -> None:
    """Every limit of the core is set, none to a value that switches it off, and decompression is left alone."""
    options = dict(channel_options(Limits()))

    assert options.pop("grpc.so_reuseport") == 0
    assert options.pop("grpc.http.overload_protection") == 0  # tests/e2e/test_one_channel.py says why
    assert all(value > 0 for value in options.values())
    assert "grpc.per_message_decompression" not in options
    assert options["grpc.max_metadata_size"] < options["grpc.absolute_max_metadata_size"]
    assert options["grpc.max_connection_age_grace_ms"] >= Limits().deadline_max_s * 1000


def test_drain() -> None:
    """Draining says NOT_SERVING first and ends the streams that watch, lets calls end, and takes no new ones."""

    async def run(world: World) -> tuple[Any, Any, list[int]]:
        world.submitter.outcome = Accepted(TRANSFER)
        world.submitter.wait_s = 0.5
        states: list[int] = []

        async def watch() -> None:
            stub = health_pb2_grpc.HealthStub(world.channel)
            async for state in stub.Watch(health_pb2.HealthCheckRequest()):
                states.append(state.status)

        watching = asyncio.create_task(watch())
        running = asyncio.create_task(world.call(transfer_points()))
        while not world.submitter.submitted or not states:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        await asyncio.gather(world.server.drain(20), watching)
        assert time.monotonic() - started < 20
        late = await world.call(redeem_points(), timeout=1)
        return (await running).code, late.code, states

    before, after, states = on_server(run)

    assert before is grpc.StatusCode.OK
    assert after in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert states == [SERVING, NOT_SERVING]


def test_grace_is_bounded() -> None:
    """What does not end within the grace is told: a write is open, and a read is refused like a newcomer."""

    async def run(world: World) -> tuple[list[Seen], int]:
        world.submitter.wait_s = 60

        async def slow(org_id: int) -> ProgramBook:
            await asyncio.sleep(60)
            return ProgramBook()

        world.reads.program_book = slow  # type: ignore[method-assign]
        asked = (transfer_points(), redeem_points(), program_service_pb2.GetProgramRequest())
        running = [asyncio.create_task(world.call(one)) for one in asked]
        while world.server._gate.serving < len(asked):
            await asyncio.sleep(0.01)
        await world.server.drain(0.2)
        return await asyncio.gather(*running), world.submitter.dropped

    seen, dropped = on_server(run)

    assert [(one.reason, one.metadata.get("outcome")) for one in seen] == [
        ("TRANSFER_NOT_PROCESSED", "UNKNOWN"),
        ("OUTCOME_UNKNOWN", None),
        ("SHUTTING_DOWN", "NOT_WRITTEN"),
    ]
    assert dropped == 1


def test_what_is_dropped_at_the_end_of_the_grace_is_told_as_it_was_answered() -> None:
    """A command that still waited then is answered as not taken, not as open."""

    async def run(world: World) -> Seen:
        dropped = asyncio.Event()

        async def until_dropped(submission: Submission, deadline: float) -> Settled:
            await dropped.wait()
            return Settled(refusal_of(Failure.SHUTTING_DOWN, "TransferPoints"), submission.request_id)

        world.submitter.submit = until_dropped  # type: ignore[method-assign]
        world.submitter.drop_waiting = dropped.set  # type: ignore[method-assign]
        running = asyncio.create_task(world.call(transfer_points()))
        while not world.server._gate.serving:
            await asyncio.sleep(0.01)
        await world.server.drain(0.1)
        return await running

    seen = on_server(run)

    assert (seen.reason, seen.metadata["cause"]) == ("TRANSFER_UNAVAILABLE", "SHUTTING_DOWN")


def test_two_servers_on_one_port() -> None:
    """A port that is taken is not shared by mistake."""

    async def run(world: World) -> None:
        with pytest.raises(RuntimeError):
            world.server.bind(f"127.0.0.1:{world.port}")

    on_server(run)


def test_frames_that_are_no_messages() -> None:
    """A message that says it is longer than it is does not reach the servicer."""

    async def run(world: World) -> Seen:
        return await world.call_raw(path_of(transfer_points()), struct.pack(">BI", 0x0A, 2**31))

    assert on_server(run).reason == "TRANSFER_VALIDATION_FAILED"
