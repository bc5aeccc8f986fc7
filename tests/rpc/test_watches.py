"""Watches over a port, of a journal in memory: what is told, where it goes on, what ends it, and what is bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from msgspec.structs import replace
from test_answers import BOOK, IDENTIFIER, entry
from test_refusal import details
from test_render import CUSTOMER
from wire_requests import MOBILE
from wire_server import World, on_server, path_of

from points_grpc.domain.model import Account, Posting, WalletKey
from points_grpc.domain.views import JournalRow
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.positions import Positions
from points_grpc.service.ports import StorageUnavailable
from points_grpc.service.watching import PAGE
from points_grpc.v1 import wallet_service_pb2 as pb

READER = (("authorization", "Bearer reader"),)
KEY = WalletKey(CUSTOMER.customer_id, 973)
POSITIONS = Positions(lambda: (b"k" * 16,))
QUICK = Limits(watch_poll_ms=5, watch_bookmark_ms=60_000)
BEGINNING = pb.WatchTransactionsRequest(from_beginning=True)
NOW_ON = pb.WatchTransactionsRequest()


def row(position: int, stream: int = 0, key: WalletKey = KEY, version: int | None = None) -> JournalRow:
    """A transaction that makes a version of a wallet: the one with its position's number."""
    one = entry(1000 * stream + position).entry
    posting = Posting(Account.WALLET, *key, 7, 5, position if version is None else version, 5 * position)
    return JournalRow(replace(one, postings=(posting,)), stream, position)


def rows(last: int, stream: int = 0) -> list[JournalRow]:
    """The transactions of a stream up to a position."""
    return [row(one + 1, stream) for one in range(last)]


def of_wallet(after: int | None = None) -> pb.WatchWalletRequest:
    """Asks for the wallet of the one customer there is."""
    return pb.WatchWalletRequest(customer_identifier=MOBILE, program_id=973, after_version=after)


class Watch:
    """A watch that was begun."""

    def __init__(self, world: World, message: Any, metadata: Any = READER, timeout: float | None = 10) -> None:
        method = world.channel.unary_stream(path_of(message))
        self._answer = pb.WatchWalletResponse if isinstance(message, pb.WatchWalletRequest) else None
        self.call = method(message.SerializeToString(), metadata=metadata, timeout=timeout)

    async def take(self, count: int) -> list[Any]:
        """The next messages."""
        found = []
        for _ in range(count):
            raw = await asyncio.wait_for(self.call.read(), 10)
            assert raw is not grpc.aio.EOF, await self.call.details()
            found.append((self._answer or pb.WatchTransactionsResponse).FromString(raw))
        return found

    async def end(self) -> tuple[grpc.StatusCode, str, dict[str, str], str]:
        """How it ended: code, reason, metadata and field."""
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(self.call.read(), 10)
        trailers = dict(await self.call.trailing_metadata())
        found = details(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))
        info, [item] = found["google.rpc.ErrorInfo"], found["points.v1.StatusPayload"].errors
        return await self.call.code(), info.reason, dict(info.metadata), item.field


def told(messages: list[Any]) -> list[tuple[int, int]]:
    """Stream and position of each message; a bookmark has neither."""
    return [(one.transaction.stream, one.transaction.position) for one in messages]


def furnish(world: World, last: int = 0) -> None:
    """One customer, and a journal."""
    world.reads.book = BOOK
    world.reads.customers[IDENTIFIER] = (CUSTOMER, (973,))
    world.journal.rows[1] = rows(last)


async def until(holds: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


BOOKMARK = (0, 0)


def test_from_now_on() -> None:
    """A bookmark comes at once, then each transaction as it happens, and nothing of what was before."""

    async def run(world: World) -> list[Any]:
        furnish(world, 3)
        watch = Watch(world, NOW_ON)
        found = await watch.take(1)
        world.journal.rows[1] += [row(4), row(5)]
        return found + await watch.take(2)

    found = on_server(run, QUICK)

    assert [BOOKMARK, (0, 4), (0, 5)] == told(found)
    assert [{0: 3}, {0: 4}, {0: 5}] == [POSITIONS.places(1, one.resume_token) for one in found]


def test_from_the_beginning() -> None:
    """Everything that ever happened, page by page, stream by stream, then what happens."""

    async def run(world: World) -> list[Any]:
        furnish(world, PAGE + 20)
        world.journal.rows[1] += rows(3, stream=4)
        watch = Watch(world, BEGINNING)
        found = await watch.take(1 + PAGE + 23)
        world.journal.rows[1] = [*world.journal.rows[1], row(PAGE + 21)]
        return found + await watch.take(1)

    found = on_server(run, QUICK)

    expected = [BOOKMARK, *((0, one + 1) for one in range(PAGE + 20)), (4, 1), (4, 2), (4, 3), (0, PAGE + 21)]
    assert expected == told(found)
    assert {0: PAGE + 21, 4: 3} == POSITIONS.places(1, found[-1].resume_token)


def test_resumed() -> None:
    """A watch goes on behind any of its tokens, in streams that began meanwhile, too."""

    async def run(world: World) -> list[list[Any]]:
        furnish(world, 6)
        first = await Watch(world, BEGINNING).take(7)
        world.journal.rows[1] += rows(1, stream=9)
        tokens = [one.resume_token for one in first]
        return [
            await Watch(world, pb.WatchTransactionsRequest(resume_token=token)).take(8 - at)
            for at, token in enumerate(tokens)
        ]

    found = on_server(run, QUICK)

    everything = [*((0, one + 1) for one in range(6)), (9, 1)]
    assert [[BOOKMARK, *everything[at:]] for at in range(7)] == [told(one) for one in found]


@pytest.mark.parametrize(
    "token",
    [
        "x",
        POSITIONS.token(2, {0: 1}),
        Positions(lambda: (b"l" * 16,)).token(1, {0: 1}),
        POSITIONS.token(1, {0: 4}),
        POSITIONS.token(1, {0: 3, 7: 1}),
        "A" * 100_000,
    ],
    ids=["nonsense", "another organisation's", "another key's", "ahead", "unknown stream", "huge"],
)
def test_position_lost(token: str) -> None:
    """A token that is none, another's, or ahead of the journal: the same refusal, with where to begin instead."""

    async def run(world: World) -> Any:
        furnish(world, 3)
        return await Watch(world, pb.WatchTransactionsRequest(resume_token=token)).end()

    oldest = POSITIONS.token(1, {})
    expected = (grpc.StatusCode.OUT_OF_RANGE, "WATCH_POSITION_LOST", {"oldest": oldest}, "resume_token")
    assert expected == on_server(run, QUICK)
    assert {} == POSITIONS.places(1, oldest)


def test_gap() -> None:
    """What is missing ends the watch: nothing behind it is told."""

    async def run(world: World) -> tuple[Any, ...]:
        furnish(world, 5)
        world.journal.lost = {(0, 4)}
        watches = Watch(world, BEGINNING), Watch(world, of_wallet(0))
        found = [told(await watches[0].take(1)), told(await watches[1].take(4))]
        return found, [await one.end() for one in watches]

    found, ends = on_server(run, QUICK)

    assert [[BOOKMARK], [BOOKMARK, (0, 1), (0, 2), (0, 3)]] == found
    assert [(grpc.StatusCode.OUT_OF_RANGE, "WATCH_POSITION_LOST", {}, "")] * 2 == ends


def test_wallet() -> None:
    """A wallet is watched from its version on, or from one that is named; others are not told."""

    async def run(world: World) -> list[list[tuple[int, int]]]:
        furnish(world, 2)
        watches = [Watch(world, of_wallet(one)) for one in (None, 0, 1, 2)]
        found = [await one.take(count) for one, count in zip(watches, (1, 3, 2, 1), strict=True)]
        world.journal.rows[1] += [row(3, key=WalletKey(1, 1)), row(4, version=3)]
        found = [[*before, *await one.take(1)] for before, one in zip(found, watches, strict=True)]
        return [[(one.wallet_version, one.transaction.position) for one in messages] for messages in found]

    now, whole, second, last = on_server(run, QUICK)

    assert [(2, 0), (3, 4)] == now == last
    assert [(0, 0), (1, 1), (2, 2), (3, 4)] == whole
    assert [(1, 0), (2, 2), (3, 4)] == second


REFUSALS = (
    (of_wallet(3), "WATCH_POSITION_LOST", {"oldest": "0"}, "after_version"),
    (of_wallet(-1), "FIELD_INVALID", {"field": "after_version"}, "after_version"),
    (pb.WatchWalletRequest(), "CUSTOMER_NOT_FOUND", {"party": "CUSTOMER"}, "customer_identifier"),
    (
        pb.WatchWalletRequest(customer_identifier=MOBILE, program_id=99),
        "PROGRAM_NOT_CONFIGURED",
        {},
        "program_id",
    ),
    (
        pb.WatchTransactionsRequest(resume_token=POSITIONS.token(1, {}), from_beginning=True),
        "FIELD_INVALID",
        {"field": "from_beginning"},
        "from_beginning",
    ),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda one: one[1] + " " + one[3])
def test_refused(refusal: tuple[Any, ...]) -> None:
    """What cannot be watched is refused before any message."""
    message, *expected = refusal

    async def run(world: World) -> Any:
        furnish(world, 2)
        return await Watch(world, message).end()

    code, *found = on_server(run, QUICK)

    if expected[0] == "CUSTOMER_NOT_FOUND":
        assert found[2].startswith("customer_identifier")
    else:
        assert expected == found
    assert code is not grpc.StatusCode.INTERNAL


def test_bookmarks() -> None:
    """While nothing happens, bookmarks say where the watch is, again and again."""

    async def run(world: World) -> list[Any]:
        furnish(world, 3)
        return await Watch(world, NOW_ON).take(4)

    found = on_server(run, Limits(watch_poll_ms=5, watch_bookmark_ms=20))

    assert [BOOKMARK] * 4 == told(found)
    assert 1 == len({one.resume_token for one in found})


# -- what ends it


def test_drain() -> None:
    """A server that is told to stop ends its watches with a last bookmark and UNAVAILABLE, and waits for none."""

    async def run(world: World) -> Any:
        furnish(world, 3)
        watches = [Watch(world, NOW_ON, timeout=None), Watch(world, of_wallet(), timeout=None)]
        found = [await one.take(1) for one in watches]
        draining = asyncio.create_task(world.server.drain(8))
        found += [await one.take(1) for one in watches]
        ends = [await one.end() for one in watches]
        started = time.monotonic()
        await draining
        return [told(one) for one in found], [one[:2] for one in ends], time.monotonic() - started

    found, ends, seconds = on_server(run, QUICK)

    assert [[BOOKMARK]] * 4 == found
    assert [(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")] * 2 == ends
    assert seconds < 8


def test_revoked() -> None:
    """A credential that is revoked ends the watches that it began, within seconds."""

    async def run(world: World) -> Any:
        furnish(world)
        watch = Watch(world, NOW_ON)
        await watch.take(1)
        world.identity.revoked = True
        await watch.take(1)
        return (await watch.end())[:2]

    assert (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED") == on_server(run, QUICK)


@pytest.mark.parametrize("begun", [True, False])
def test_storage_is_unreachable(begun: bool) -> None:
    """A journal that cannot be read ends a watch with UNAVAILABLE, before its first message and behind it."""

    async def run(world: World) -> Any:
        furnish(world)
        world.journal.error = None if begun else StorageUnavailable()
        watch = Watch(world, NOW_ON)
        await watch.take(int(begun))
        world.journal.error = StorageUnavailable()
        return (await watch.end())[:2]

    assert (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE") == on_server(run, QUICK)


def test_caller_goes_away() -> None:
    """A watch whose caller went away, or whose deadline passed, is over: its line is written, and the poll rests."""

    async def run(world: World) -> tuple[list[str], bool]:
        furnish(world)
        watch, late = Watch(world, NOW_ON), Watch(world, of_wallet(), timeout=0.3)
        await watch.take(1)
        await late.take(1)
        watch.call.cancel()
        await until(lambda: len(world.log.calls) == 2)
        await asyncio.sleep(0.05)
        asked = world.journal.reads
        await asyncio.sleep(0.1)
        return [line["code"] for line in world.log.calls] + [str(world.log.errors)], asked == world.journal.reads

    assert (["CANCELLED", "CANCELLED", "[]"], True) == on_server(run, QUICK)


# -- what is bounded


def test_slow_caller() -> None:
    """What a caller does not take stays in the journal: the server reads on only as fast as it is taken."""

    async def run(world: World) -> tuple[int, int, list[tuple[int, int]]]:
        notes = "n" * 4_000
        furnish(world)
        world.journal.rows[1] = [
            JournalRow(replace(one.entry, notes=notes), one.stream, one.position) for one in rows(5_000)
        ]
        slow = Watch(world, BEGINNING)
        read_ahead = -1
        while read_ahead != world.journal.reads:
            read_ahead = world.journal.reads
            await asyncio.sleep(0.3)
        found = told(await slow.take(5_001))
        return read_ahead, world.journal.reads, found

    read_ahead, in_the_end, found = on_server(run, Limits(watch_poll_ms=60_000))

    assert [BOOKMARK, *((0, one + 1) for one in range(5_000))] == found
    assert read_ahead < in_the_end / 2


def test_watches_of_an_organisation() -> None:
    """An organisation has so many watches at once; one that ends makes room; all together have a limit, too."""

    async def run(world: World) -> list[Any]:
        furnish(world)
        first, second = Watch(world, NOW_ON), Watch(world, of_wallet())
        await first.take(1)
        await second.take(1)
        refused = [(await Watch(world, NOW_ON).end())[1:3]]
        world.identity.org_id = 2
        other = Watch(world, NOW_ON)
        await other.take(1)
        refused.append((await Watch(world, NOW_ON).end())[1:3])
        world.identity.org_id = 1
        first.call.cancel()
        await until(lambda: len(world.log.calls) == 3)
        return [*refused, told(await Watch(world, NOW_ON).take(1))]

    of_org, of_all, again = on_server(run, Limits(org_watches_max=2, watches_max=3))

    assert ("RATE_LIMITED", {"quota": "org_watches_max", "limit": "2", "scope": "organization"}) == of_org
    assert "OVERLOADED" == of_all[0]
    assert [BOOKMARK] == again


def test_many_watches_share_the_poll() -> None:
    """Fifty watches ask the journal as often as one does, while nothing happens: not fifty times as often."""

    async def run(world: World) -> float:
        furnish(world, 1)
        watches = [Watch(world, NOW_ON, timeout=None) for _ in range(50)]
        for one in watches:
            await one.take(1)
        await asyncio.sleep(0.3)
        before, started = world.journal.reads, time.monotonic()
        await asyncio.sleep(0.5)
        return (world.journal.reads - before) * 0.02 / (time.monotonic() - started)

    asked = on_server(run, Limits(watch_poll_ms=20, watch_bookmark_ms=60_000))

    assert 0 < asked < 2


def test_log_line() -> None:
    """A watch leaves one line and one count, when it ends."""

    async def run(world: World) -> World:
        furnish(world, 1)
        watch = Watch(world, BEGINNING)
        await watch.take(2)
        assert [] == world.log.calls
        await world.server.drain(2)
        return world

    world = on_server(run, QUICK)

    assert [("points.v1.WalletService/WatchTransactions", "UNAVAILABLE", "SHUTTING_DOWN")] == world.metrics.seen
    assert [("till", 1)] == [(line["client"], line["org"]) for line in world.log.calls]
