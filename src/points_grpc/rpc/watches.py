"""Watches: from a request to a stream of messages that ends only with a refusal, or with its caller.

Rules of this file: a position is passed on together with what it stands behind, never before; what follows is there
without a gap, or the watch says so and ends. What a caller has not taken yet waits in the transport, whose window is
bounded, and in one page of rows here: the next one is read when the last row has been taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from points_grpc import codes
from points_grpc.domain.model import WalletKey
from points_grpc.domain.outcome import Refused
from points_grpc.domain.views import JournalRow
from points_grpc.rpc.answers import Answers
from points_grpc.rpc.call import Call
from points_grpc.rpc.ports import Watching
from points_grpc.rpc.positions import Positions
from points_grpc.rpc.render import journal_transaction
from points_grpc.rpc.shape import SERVICE, Shape
from points_grpc.service.watching import Gap
from points_grpc.v1 import wallet_service_pb2

Response_co = TypeVar("Response_co", bound=Message, covariant=True)

_GAP = Refused(codes.WATCH_POSITION_LOST)
"""What follows is not there. Where to resume instead, nobody can say."""


class _Cursor(Protocol[Response_co]):
    """Where a watch is."""

    async def page(self) -> tuple[Sequence[JournalRow], bool]:
        """What follows, and whether there is more behind that."""
        ...

    def pass_on(self, row: JournalRow) -> Response_co:
        """The message of the next row; the watch stands behind it then."""
        ...

    def bookmark(self) -> Response_co:
        """The message that says where the watch is, and nothing else."""
        ...


class Watches:
    """Answers the RPCs that watch."""

    def __init__(
        self,
        watching: Watching,
        answers: Answers,
        positions: Positions,
        clock: Callable[[], datetime],
        *,
        bookmark_s: float,
    ) -> None:
        """Sends a bookmark where nothing else was sent for so long."""
        self._watching = watching
        self._answers = answers
        self._positions = positions
        self._clock = clock
        self._bookmark_s = bookmark_s

    async def wallet(
        self, request: wallet_service_pb2.WatchWalletRequest, call: Call
    ) -> AsyncGenerator[wallet_service_pb2.WatchWalletResponse | Refused]:
        """WatchWallet."""
        caller = call.known_caller
        key = await self._answers.watched_wallet(request, caller)
        if isinstance(key, Refused):
            yield key
            return
        with self._watching.following(caller.org_id, key, call.wake):
            head = await self._watching.version(caller.org_id, key)
            version = request.after_version if request.HasField("after_version") else head
            if version > head:
                yield Refused(codes.WATCH_POSITION_LOST, {"oldest": "0"}, field="after_version")
                return
            cursor = _OfWallet(self._watching, caller.org_id, key, version)
            async with aclosing(self._follow(call, cursor)) as messages:
                async for one in messages:
                    yield one

    async def transactions(
        self, request: wallet_service_pb2.WatchTransactionsRequest, call: Call
    ) -> AsyncGenerator[wallet_service_pb2.WatchTransactionsResponse | Refused]:
        """WatchTransactions."""
        caller = call.known_caller
        shape = Shape(SERVICE, caller.default_region, self._clock())
        if request.resume_token and request.from_beginning:
            shape.wrong("from_beginning", "false, with a resume_token")
        if refused := shape.refusal():
            yield refused
            return
        with self._watching.following(caller.org_id, None, call.wake):
            heads = await self._watching.heads(caller.org_id)
            places: dict[int, int] | None = {} if request.from_beginning else dict(heads)
            if request.resume_token:
                places = self._positions.places(caller.org_id, request.resume_token)
            if places is None or any(place > heads.get(stream, 0) for stream, place in places.items()):
                oldest = self._positions.token(caller.org_id, {})
                yield Refused(codes.WATCH_POSITION_LOST, {"oldest": oldest}, field="resume_token")
                return
            cursor = _OfJournal(self._watching, self._positions, caller.org_id, places)
            async with aclosing(self._follow(call, cursor)) as messages:
                async for one in messages:
                    yield one

    async def _follow(self, call: Call, cursor: _Cursor[Response_co]) -> AsyncGenerator[Response_co | Refused]:
        """Messages as there is more, bookmarks while there is not; at the end a last bookmark and why."""
        assert call.woken is not None, "a call that streams can be woken"
        yield cursor.bookmark()
        told_at = time.monotonic()
        while call.ending is None:
            call.woken.clear()  # before the read: what comes during it wakes again
            if call.ending is not None:
                break
            try:
                rows, has_more = await cursor.page()
            except Gap:
                yield _GAP
                return
            for row in rows:
                yield cursor.pass_on(row)
                told_at = time.monotonic()
                if call.ending is not None:
                    break
            if has_more or call.ending is not None:
                continue
            await _wait(call.woken, told_at + self._bookmark_s - time.monotonic())
            if time.monotonic() >= told_at + self._bookmark_s and call.ending is None:
                yield cursor.bookmark()
                told_at = time.monotonic()
        yield cursor.bookmark()
        yield call.ending


class _OfJournal:
    """A place in each stream of an organisation's journal."""

    def __init__(self, watching: Watching, positions: Positions, org_id: int, places: dict[int, int]) -> None:
        self._watching = watching
        self._positions = positions
        self._org_id = org_id
        self._places = places

    async def page(self) -> tuple[Sequence[JournalRow], bool]:
        """What follows in the streams."""
        return await self._watching.after(self._org_id, self._places)

    def pass_on(self, row: JournalRow) -> wallet_service_pb2.WatchTransactionsResponse:
        """A transaction."""
        self._places[row.stream] = row.position
        return wallet_service_pb2.WatchTransactionsResponse(
            resume_token=self._positions.token(self._org_id, self._places), transaction=journal_transaction(row)
        )

    def bookmark(self) -> wallet_service_pb2.WatchTransactionsResponse:
        """The token alone."""
        return wallet_service_pb2.WatchTransactionsResponse(
            resume_token=self._positions.token(self._org_id, self._places)
        )


class _OfWallet:
    """A version of a wallet."""

    def __init__(self, watching: Watching, org_id: int, key: WalletKey, version: int) -> None:
        self._watching = watching
        self._org_id = org_id
        self._key = key
        self._version = version
        self._transaction_id = 0

    async def page(self) -> tuple[Sequence[JournalRow], bool]:
        """What made the versions that follow."""
        return await self._watching.wallet_after(self._org_id, self._key, self._version, self._transaction_id)

    def pass_on(self, row: JournalRow) -> wallet_service_pb2.WatchWalletResponse:
        """The next version."""
        self._version += 1
        self._transaction_id = row.entry.transaction_id
        return wallet_service_pb2.WatchWalletResponse(
            wallet_version=self._version, transaction=journal_transaction(row)
        )

    def bookmark(self) -> wallet_service_pb2.WatchWalletResponse:
        """The version alone."""
        return wallet_service_pb2.WatchWalletResponse(wallet_version=self._version)


async def _wait(woken: asyncio.Event, timeout_s: float) -> None:
    """Waits until there may be more, or for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await woken.wait()
