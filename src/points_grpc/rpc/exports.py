"""ExportJournal: from a request to the bytes of a file, in messages of bounded size.

Rules of this file: a place is told only together with the bytes that lead there, so that whoever is cut goes on from
the last one that was told and gets the same file; bytes are passed on as they stand in the journal, whatever is wrong
with them: it is for the proof to say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime

from points_grpc import codes
from points_grpc.domain.exported import start_of_file
from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.ports import Exporting
from points_grpc.rpc.quotas import ORGANIZATION, WATCHES_RETRY_S, quota_refused
from points_grpc.rpc.shape import INT64_MAX, SERVICE, Shape
from points_grpc.service.exporting import ExportedRecord
from points_grpc.v1 import wallet_service_pb2 as pb

MESSAGE_BYTES_MAX = 262_144
"""The most bytes of the file in one message: clients take 4 MiB, and an entry of 10,000 lots may have more."""

STREAM_MAX = 1_023
"""The last stream there can be: one for each writer slot."""


class Exports:
    """Answers ExportJournal."""

    def __init__(self, exporting: Exporting, clock: Callable[[], datetime], *, org_exports_max: int) -> None:
        """Takes who reads, and how many exports an organisation may have going on in this process."""
        self._exporting = exporting
        self._clock = clock
        self._org_exports_max = org_exports_max
        self._going: Counter[int] = Counter()

    async def journal(
        self, request: pb.ExportJournalRequest, call: Call
    ) -> AsyncGenerator[pb.ExportJournalResponse | Refused]:
        """ExportJournal."""
        caller = call.known_caller
        shape = Shape(SERVICE, caller.default_region, self._clock())
        places = _read(request, shape)
        if refused := shape.refusal():
            yield refused
            return
        if self._going[caller.org_id] >= self._org_exports_max:
            yield quota_refused("org_exports_max", self._org_exports_max, ORGANIZATION, WATCHES_RETRY_S)
            return
        self._going[caller.org_id] += 1
        try:
            heads = await self._exporting.heads(caller.org_id)
            if ahead := _ahead(request, heads):
                yield ahead
                return
            if not request.HasField("after"):
                yield _message(start_of_file(caller.org_id), {})
            async with aclosing(self._after(call, places, heads)) as messages:
                async for one in messages:
                    yield one
        finally:
            self._going[caller.org_id] -= 1

    async def _after(
        self, call: Call, places: dict[int, int], heads: Mapping[int, int]
    ) -> AsyncGenerator[pb.ExportJournalResponse | Refused]:
        """What follows a place, stream by stream; `places` goes on with it."""
        org_id = call.known_caller.org_id
        for stream, head in sorted(heads.items()):
            while (after := places.get(stream, 0)) < head:
                page = await self._exporting.page(org_id, stream, after=after, until=head)
                for one in _messages(page, stream, places):
                    if call.ending is not None:
                        yield call.ending
                        return
                    yield one
                if not page:
                    break  # the end of the stream is gone: the file says so by lacking it


def _read(request: pb.ExportJournalRequest, shape: Shape) -> dict[int, int]:
    """The place in the request; what is malformed is noted."""
    given = request.after.positions
    places: dict[int, int] = {}
    if len(given) > STREAM_MAX + 1:
        shape.wrong("after.positions", f"at most {STREAM_MAX + 1} positions")
        return places
    for index, one in enumerate(given):
        field = f"after.positions[{index}]"
        shape.whole(f"{field}.stream", one.stream, 0, STREAM_MAX)
        shape.whole(f"{field}.position", one.position, 0, INT64_MAX)
        if one.stream in places:
            shape.wrong(f"{field}.stream", "a stream that is not named before")
        places[one.stream] = one.position
    return places


def _ahead(request: pb.ExportJournalRequest, heads: Mapping[int, int]) -> Refused | None:
    """The refusal of a place that the journal has not reached."""
    for index, one in enumerate(request.after.positions):
        head = heads.get(one.stream, 0)
        if one.position > head:
            numbers = {"stream": str(one.stream), "position": str(one.position), "head": str(head)}
            return Refused(codes.WATCH_POSITION_LOST, numbers, field=f"after.positions[{index}].position")
    return None


def _messages(
    page: Sequence[ExportedRecord], stream: int, places: dict[int, int]
) -> Iterator[pb.ExportJournalResponse]:
    """The records of a page in messages; `places` is where the journal is behind each."""
    waiting = b""
    for record in page:
        if waiting and len(waiting) + len(record.data) > MESSAGE_BYTES_MAX:
            yield _message(waiting, places)
            waiting = b""
        waiting += record.data
        while len(waiting) > MESSAGE_BYTES_MAX:
            yield pb.ExportJournalResponse(data=waiting[:MESSAGE_BYTES_MAX])
            waiting = waiting[MESSAGE_BYTES_MAX:]
        places[stream] = record.position
    if waiting:
        yield _message(waiting, places)


def _message(data: bytes, places: Mapping[int, int]) -> pb.ExportJournalResponse:
    """Bytes that end with a whole entry."""
    position = pb.JournalPlace.Position
    reached = [position(stream=stream, position=place) for stream, place in sorted(places.items()) if place]
    return pb.ExportJournalResponse(data=data, reached=pb.JournalPlace(positions=reached))
