"""ExportJournal over a port, of a journal in memory: what is sent, where it goes on, what ends it, what is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from test_refusal import details
from wire_server import World, on_server, path_of

from points_grpc.domain.exported import start_of_file
from points_grpc.rpc.exports import MESSAGE_BYTES_MAX
from points_grpc.rpc.limits import Limits
from points_grpc.service.ports import StorageUnavailable
from points_grpc.v1 import wallet_service_pb2 as pb

READER = (("authorization", "Bearer reader"),)
ALL = pb.ExportJournalRequest()
HEADER = start_of_file(1)
SMALL = {0: [b"a", b"b", b"c", b"d"], 3: [b"x", b"y"]}


def place(positions: dict[int, int]) -> pb.JournalPlace:
    """A place in the journal."""
    one = pb.JournalPlace.Position
    return pb.JournalPlace(positions=[one(stream=stream, position=at) for stream, at in positions.items()])


def after(positions: dict[int, int]) -> pb.ExportJournalRequest:
    """Asks for what follows a place."""
    return pb.ExportJournalRequest(after=place(positions))


class Export:
    """An export that was begun."""

    def __init__(self, world: World, message: pb.ExportJournalRequest = ALL, metadata: Any = READER) -> None:
        self.call = world.channel.unary_stream(path_of(message))(message.SerializeToString(), metadata=metadata)

    async def take(self) -> pb.ExportJournalResponse | None:
        """The next message; None at the end."""
        raw = await asyncio.wait_for(self.call.read(), 20)
        return None if raw is grpc.aio.EOF else pb.ExportJournalResponse.FromString(raw)

    async def rest(self) -> list[pb.ExportJournalResponse]:
        """All messages until it ends with OK."""
        found = []
        while one := await self.take():
            found.append(one)
        assert await self.call.code() is grpc.StatusCode.OK
        return found

    async def refusal(self) -> tuple[grpc.StatusCode, str, dict[str, str], list[str]]:
        """How it was refused: code, reason, metadata and fields."""
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(self.call.read(), 20)
        trailers = dict(await self.call.trailing_metadata())
        found = details(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))
        info, items = found["google.rpc.ErrorInfo"], found["points.v1.StatusPayload"].errors
        return await self.call.code(), info.reason, dict(info.metadata), [one.field for one in items]


def exported(streams: dict[int, list[bytes]], message: pb.ExportJournalRequest = ALL) -> list[Any]:
    """All messages of an export of these streams."""

    async def run(world: World) -> list[Any]:
        world.exported.streams = streams
        return await Export(world, message).rest()

    return on_server(run)


def test_the_whole_file() -> None:
    """The first bytes, then stream by stream the entries; each message says where the journal is behind it."""
    found = exported(SMALL)

    assert HEADER + b"abcdxy" == b"".join(one.data for one in found)
    assert [{}, {0: 3}, {0: 4}, {0: 4, 3: 2}] == [
        {one.stream: one.position for one in message.reached.positions} for message in found
    ]
    assert all(one.HasField("reached") for one in found)


def test_an_empty_journal() -> None:
    """The first bytes of the file, and the end."""
    [found] = exported({})

    assert (HEADER, place({})) == (found.data, found.reached)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ({}, b"abcdxy"),
        ({0: 1}, b"bcdxy"),
        ({0: 4}, b"xy"),
        ({3: 1}, b"abcdy"),
        ({0: 4, 3: 2}, b""),
        ({7: 0}, b"abcdxy"),
    ],
)
def test_going_on(positions: dict[int, int], expected: bytes) -> None:
    """From any place comes what follows it, and not the first bytes of the file once more."""
    assert expected == b"".join(one.data for one in exported(SMALL, after(positions)))


def test_messages_are_bounded() -> None:
    """Small entries share a message; one that is larger than a message is cut, and only its last part says a place."""
    streams = {0: [b"s" * 100_000] * 4 + [b"L" * (2 * MESSAGE_BYTES_MAX + 5)] + [b"t"]}
    found = exported(streams)

    assert HEADER + b"".join(streams[0]) == b"".join(one.data for one in found)
    assert MESSAGE_BYTES_MAX == max(len(one.data) for one in found)
    assert [[], [2], [3], [4], None, None, [6]] == [
        [at.position for at in one.reached.positions] if one.HasField("reached") else None for one in found
    ]


def test_what_is_gone_is_left_out() -> None:
    """A journal with holes, or whose end is gone, is exported as it is: it is for the proof to say what is missing."""

    async def run(world: World) -> list[Any]:
        world.exported.streams = SMALL
        world.exported.holes = {(0, 2), (3, 1), (3, 2)}
        return await Export(world).rest()

    assert HEADER + b"acd" == b"".join(one.data for one in on_server(run))


REFUSALS = (
    (after({0: 5}), "WATCH_POSITION_LOST", {"stream": "0", "position": "5", "head": "4"}, [0]),
    (after({0: 4, 9: 1}), "WATCH_POSITION_LOST", {"stream": "9", "position": "1", "head": "0"}, [1]),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=["behind the head", "of no stream"])
def test_a_place_that_was_never_reached(refusal: tuple[Any, ...]) -> None:
    """It is refused with the field, and the numbers that do not fit."""
    message, reason, numbers, [index] = refusal

    async def run(world: World) -> Any:
        world.exported.streams = SMALL
        return await Export(world, message).refusal()

    expected = (grpc.StatusCode.OUT_OF_RANGE, reason, numbers, [f"after.positions[{index}].position"])
    assert expected == on_server(run)


def test_malformed_places_are_told_together() -> None:
    """Streams and positions that there cannot be, and a stream that is named twice, each with its field."""
    one = pb.JournalPlace.Position
    given = [one(stream=0), one(stream=-1), one(stream=1024, position=1), one(stream=0, position=-1)]

    async def run(world: World) -> Any:
        return await Export(world, pb.ExportJournalRequest(after=pb.JournalPlace(positions=given))).refusal()

    code, reason, _, fields = on_server(run)

    assert (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID") == (code, reason)
    wrong = ["[1].stream", "[2].stream", "[3].position", "[3].stream"]
    assert wrong == [one.removeprefix("after.positions") for one in fields]


def test_too_many_places() -> None:
    """More positions than there can be streams."""

    async def run(world: World) -> Any:
        return await Export(world, after(dict.fromkeys(range(1_025), 0))).refusal()

    code, _, metadata, fields = on_server(run)

    assert (grpc.StatusCode.INVALID_ARGUMENT, {"field": "after.positions"}) == (code, metadata)
    assert ["after.positions"] == fields


def test_so_many_at_once() -> None:
    """An organisation has so many exports going on, and the next one when one of them has ended."""

    async def run(world: World) -> Any:
        world.exported.streams = {0: [b"x" * MESSAGE_BYTES_MAX] * 64}  # more than the transport takes unread
        going = [Export(world) for _ in range(2)]
        for one in going:
            await one.take()
        refused = await Export(world).refusal()
        going[0].call.cancel()
        while True:
            try:
                assert await Export(world, after({0: 64})).rest() == []
            except (grpc.aio.AioRpcError, AssertionError):
                await asyncio.sleep(0.01)
            else:
                break
        return refused

    code, reason, metadata, _ = on_server(run, Limits(org_exports_max=2))

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED") == (code, reason)
    assert {"quota": "org_exports_max", "limit": "2", "scope": "organization"} == metadata


def test_a_caller_goes_away_while_the_transport_is_full() -> None:
    """The server waits for room for the next message when its caller leaves: a cancelled call, and no bug of ours."""

    async def run(world: World) -> World:
        world.exported.streams = {0: [b"x" * MESSAGE_BYTES_MAX] * 64}  # more than the transport takes unread
        export = Export(world)
        await export.take()
        await asyncio.sleep(0.2)
        export.call.cancel()
        while not world.log.calls:
            await asyncio.sleep(0.01)
        return world

    world = on_server(run)

    assert ["CANCELLED"] == [line["code"] for line in world.log.calls]
    assert ["CANCELLED"] == [code for _, code, *_ in world.metrics.seen]
    assert [] == world.log.errors


def test_drain() -> None:
    """A server that is told to stop ends an export with UNAVAILABLE; what came is good up to the last place told."""

    async def run(world: World) -> Any:
        world.exported.streams = {0: [bytes([one % 256]) * 100_000 for one in range(400)]}
        export = Export(world)
        found = [await export.take() for _ in range(3)]
        draining = asyncio.create_task(world.server.drain(8))
        try:
            while one := await export.take():
                found.append(one)
        except grpc.aio.AioRpcError as error:
            code = error.code()
        await draining
        return code, found

    code, found = on_server(run)
    [last] = found[-1].reached.positions

    assert code is grpc.StatusCode.UNAVAILABLE
    assert last.position < 400
    assert HEADER + b"".join(bytes([one % 256]) * 100_000 for one in range(last.position)) == b"".join(
        one.data for one in found
    )


def test_storage_is_unreachable() -> None:
    """A journal that cannot be read ends the export with UNAVAILABLE."""

    async def run(world: World) -> Any:
        world.exported.error = StorageUnavailable()
        return (await Export(world).refusal())[:2]

    assert (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE") == on_server(run)
