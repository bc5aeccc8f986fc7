"""Watches through both clients: they go on by themselves, without gap or repetition, until somebody ends them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from client_world import SENDER, ClientShop, customer, issue, open_shop, transfer
from cutting_proxy import CuttingProxy, Frame
from points_grpc import codes
from points_grpc.client import AsyncPointsClient, NotAnswered, PointsClient, Retries
from points_grpc.client.refusals import Unauthenticated, WatchPositionLost
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.refusal import refuse
from points_grpc.v1 import wallet_service_pb2 as pb
from running import RunningServer

QUICK = Retries(attempts_max=3, pause_min_s=0.01, pause_max_s=0.02)
WAIT_S = 60
LAST = 1
OK, AWAY, LATE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
RESET = grpc.StatusCode.INTERNAL
QUIET = None
"""A call that goes on without another message."""

End = grpc.StatusCode | Refused | None
Script = Sequence[tuple[Sequence[str], End]]
"""What each call is told, and how it ends: "b3" is a bookmark at 3, "c4" the change that leads to 4."""


@dataclass
class Seen:
    """What a scripted server was asked."""

    address: str = ""
    wallet: list[pb.WatchWalletRequest] = field(default_factory=list)
    journal: list[pb.WatchTransactionsRequest] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


def change_of(word: str, message: Any) -> Any:
    """A message with its transaction, if it has one."""
    if word[0] == "c":
        message.transaction.transaction_id = int(word[1:])
    return message


@contextmanager
def scripted(script: Script) -> Iterator[Seen]:
    """A server that follows a script and repeats its last line."""
    seen = Seen()

    def follow(context: Any, made: Callable[[str], Any], count: int) -> Iterator[bytes]:
        context.add_callback(seen.ended.set)
        seen.tokens.append(dict(context.invocation_metadata())["authorization"])
        words, end = script[min(count, len(script)) - 1]
        yield from (change_of(word, made(word)).SerializeToString() for word in words)
        if end is QUIET:
            seen.ended.wait(WAIT_S)
        elif isinstance(end, Refused):
            refuse(context, Call("", ""), end)
        else:
            context.set_code(end)

    def wallet(raw: bytes, context: Any) -> Iterator[bytes]:
        seen.wallet.append(pb.WatchWalletRequest.FromString(raw))
        return follow(context, lambda word: pb.WatchWalletResponse(wallet_version=int(word[1:])), len(seen.wallet))

    def journal(raw: bytes, context: Any) -> Iterator[bytes]:
        seen.journal.append(pb.WatchTransactionsRequest.FromString(raw))
        return follow(context, lambda word: pb.WatchTransactionsResponse(resume_token=word[1:]), len(seen.journal))

    server = grpc.server(futures.ThreadPoolExecutor(4))
    handlers = {
        name: grpc.unary_stream_rpc_method_handler(serve)
        for name, serve in {"WatchWallet": wallet, "WatchTransactions": journal}.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("points.v1.WalletService", handlers),))
    seen.address = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    try:
        yield seen
    finally:
        seen.ended.set()
        server.stop(0).wait()


Collect = Callable[..., list[Any]]
Until = Callable[[Any], bool]


def never(message: Any) -> bool:
    """Goes on to the end."""
    return False


def at(transaction_id: int) -> Until:
    """Goes on to a transaction."""
    return lambda message: bool(message.transaction.transaction_id == transaction_id)


def blocking(
    address: str, watch: str, request: Any = None, *, until: Until = never, token: Any = "pk_a_b", **more: Any
) -> Any:
    """Messages of a watch until its end, or until a change, as the blocking client gets them."""
    found = []
    retries = more.pop("retries", QUICK)
    with PointsClient(address, token, retries=retries) as points, getattr(points, watch)(request, **more) as messages:
        for one in messages:
            found.append(one)
            if until(one):
                break
    return found


def awaited(
    address: str, watch: str, request: Any = None, *, until: Until = never, token: Any = "pk_a_b", **more: Any
) -> Any:
    """As the other client gets them."""

    async def run() -> list[Any]:
        found = []
        retries = more.pop("retries", QUICK)
        async with (
            AsyncPointsClient(address, token, retries=retries) as points,
            getattr(points, watch)(request, **more) as messages,
        ):
            async for one in messages:
                found.append(one)
                if until(one):
                    break
        return found

    return asyncio.run(run())


CLIENTS = pytest.mark.parametrize("collect", [blocking, awaited])
SHUTTING_DOWN = refusal_of(Failure.SHUTTING_DOWN, "WatchWallet")
CUTS: Script = (
    ([], AWAY),
    (["b5"], AWAY),
    (["b5", "c6", "c7"], RESET),
    (["b7", "c8"], LATE),
    (["b8", "b8"], OK),
    (["b8", "c9", "b9"], SHUTTING_DOWN),
    (["b9", "c10"], AWAY),
)
TOLD = ["b5", "b5", "c6", "c7", "b7", "c8", "b8", "b8", "b8", "c9", "b9", "b9", "c10"]


def words(messages: Sequence[Any]) -> list[str]:
    """Messages as a script has them."""
    return [
        f"{'c' if one.HasField('transaction') else 'b'}{getattr(one, 'wallet_version', 0) or one.resume_token}"
        for one in messages
    ]


@CLIENTS
def test_a_wallet_cut_in_any_way(collect: Collect) -> None:
    """The next call asks for what follows the last message, the first bookmark included; nothing comes twice."""
    request = pb.WatchWalletRequest(program_id=7)
    with scripted(CUTS) as seen:
        found = collect(seen.address, "watch_wallet", request, until=at(10))

    assert TOLD == words(found)
    after = [one.after_version if one.HasField("after_version") else None for one in seen.wallet]
    assert [None, None, 5, 7, 8, 8, 9] == after
    assert {7} == {one.program_id for one in seen.wallet}
    assert pb.WatchWalletRequest(program_id=7) == request


@CLIENTS
def test_the_journal_cut_in_any_way(collect: Collect) -> None:
    """The same by the token; `from_beginning` is only asked for until there is one."""
    request = pb.WatchTransactionsRequest(from_beginning=True)
    with scripted(CUTS) as seen:
        found = collect(seen.address, "watch_transactions", request, until=at(10))

    assert TOLD == words(found)
    assert ["", "", "5", "7", "8", "8", "9"] == [one.resume_token for one in seen.journal]
    assert [True, True, *[False] * 5] == [one.from_beginning for one in seen.journal]
    assert pb.WatchTransactionsRequest(from_beginning=True) == request


@CLIENTS
def test_a_gap_is_raised(collect: Collect) -> None:
    """10018 in the midst of a watch is the service's word: it is not asked again."""
    with scripted([(["b5", "c6"], Refused(codes.WATCH_POSITION_LOST))]) as seen, pytest.raises(WatchPositionLost):
        collect(seen.address, "watch_wallet", pb.WatchWalletRequest())

    assert 1 == len(seen.wallet)


@CLIENTS
@pytest.mark.parametrize(
    ("script", "calls", "code"),
    [([([], AWAY)], 3, AWAY), ([(["b5"], AWAY)], 3, AWAY), ([([], grpc.StatusCode.UNIMPLEMENTED)], 1, None)],
)
def test_no_progress(collect: Collect, script: Script, calls: int, code: grpc.StatusCode | None) -> None:
    """Calls that bring nothing, or a bookmark and no more, end it as they end any other read."""
    with scripted(script) as seen, pytest.raises(NotAnswered) as raised:
        collect(seen.address, "watch_wallet", pb.WatchWalletRequest())

    assert ((code or grpc.StatusCode.UNIMPLEMENTED).value[0], calls, calls) == (
        raised.value.grpc_code,
        raised.value.attempts,
        len(seen.wallet),
    )


@CLIENTS
def test_progress_counts_anew(collect: Collect) -> None:
    """However often it is cut, a watch that gets on goes on."""
    script = [([f"b{one}", f"c{one + 1}"], AWAY) for one in range(12)]
    with scripted(script) as seen:
        found = collect(seen.address, "watch_wallet", pb.WatchWalletRequest(after_version=0), until=at(12))

    assert list(range(1, 13)) == [one.wallet_version for one in found if one.HasField("transaction")]
    assert 12 == len(seen.wallet)


@pytest.mark.ci
@CLIENTS
def test_for_so_long(collect: Collect) -> None:
    """After its time a watch that is answered just ends."""
    with scripted([(["b5", "c6"], QUIET)]) as seen:
        found = collect(seen.address, "watch_wallet", pb.WatchWalletRequest(), timeout_s=5)

    assert ["b5", "c6"] == words(found)
    assert 1 == len(seen.wallet)


@CLIENTS
def test_for_so_long_and_not_answered(collect: Collect) -> None:
    """One that nobody answers says so; no time at all is a mistake."""
    with scripted([([], QUIET)]) as seen, pytest.raises(NotAnswered) as raised:
        collect(seen.address, "watch_wallet", pb.WatchWalletRequest(), timeout_s=0.3)

    assert LATE.value[0] == raised.value.grpc_code
    with pytest.raises(ValueError, match="timeout_s"):
        collect("localhost:1", "watch_wallet", pb.WatchWalletRequest(), timeout_s=0)


@CLIENTS
def test_a_token_that_ends(collect: Collect) -> None:
    """A watch that outlives its token goes on with the next one, where there is one to ask for."""
    expired = Refused(codes.UNAUTHENTICATED)
    script: Script = ((["b5", "c6"], expired), (["b6", "c7"], AWAY))
    tokens = iter(("old", "new"))
    with scripted(script) as seen:
        found = collect(seen.address, "watch_wallet", pb.WatchWalletRequest(), until=at(7), token=lambda: next(tokens))
    with scripted(script) as fixed, pytest.raises(Unauthenticated):
        collect(fixed.address, "watch_wallet", pb.WatchWalletRequest(), until=at(7))

    assert ["b5", "c6", "b6", "c7"] == words(found)
    assert (["Bearer old", "Bearer new"], 1) == (seen.tokens, len(fixed.tokens))


PATIENT = Retries(pause_min_s=30, pause_max_s=30)
IDLE = pytest.mark.parametrize("script", [[(["b5"], QUIET)], [(["b5"], AWAY)]], ids=["waiting", "pausing"])


@IDLE
@pytest.mark.parametrize("end", ["cancel", "close"])
def test_ended_from_another_thread(script: Script, end: str) -> None:
    """Whoever waits for the next message, or for the next call, is told that there is none."""
    with scripted(script) as seen, PointsClient(seen.address, "pk_a_b", retries=PATIENT) as points:
        messages = points.watch_wallet(pb.WatchWalletRequest())
        first = next(messages)
        with futures.ThreadPoolExecutor(1) as threads:
            rest = threads.submit(list, messages)
            assert not futures.wait([rest], 0.2).done
            (messages.cancel if end == "cancel" else points.close)()
            assert [] == rest.result(WAIT_S)

        assert (5, None) == (first.wallet_version, next(messages, None))


@IDLE
@pytest.mark.parametrize("end", ["cancel", "close", "task"])
def test_ended_from_another_task(script: Script, end: str) -> None:
    """The same; a task that is cancelled ends itself, and who asks after it goes on where it was."""

    async def run(address: str) -> tuple[int, Any]:
        async with AsyncPointsClient(address, "pk_a_b", retries=PATIENT) as points:
            messages = points.watch_wallet(pb.WatchWalletRequest())
            first = await anext(messages)
            rest = asyncio.create_task(listed(messages))
            assert not (await asyncio.wait([rest], timeout=0.2))[0]
            if end == "close":
                await points.close()
            else:
                (messages if end == "cancel" else rest).cancel()
            [told] = await asyncio.wait_for(asyncio.gather(rest, return_exceptions=True), WAIT_S)
            following = await anext(messages, None)
            assert (end == "task") == (following is not None)
            return first.wallet_version, told

    with scripted(script) as seen:
        version, told = asyncio.run(run(seen.address))

    assert 5 == version
    assert isinstance(told, asyncio.CancelledError) if end == "task" else [] == told


async def listed(messages: AsyncIterator[Any]) -> list[Any]:
    """All messages."""
    return [one async for one in messages]


def is_change(message: Any) -> bool:
    """Whether it is no bookmark."""
    return bool(message.HasField("transaction"))


@CLIENTS
def test_leaving_ends_the_call(collect: Collect) -> None:
    """Who breaks off is not sent anything more: the server sees the call end."""
    with scripted([(["b5", "c6"], QUIET)]) as seen:
        collect(seen.address, "watch_wallet", pb.WatchWalletRequest(), until=at(6))

        assert seen.ended.wait(WAIT_S)


def written(shop: ClientShop) -> None:
    """Moves points a few times."""
    with shop.client() as points:
        for _ in range(6):
            points.transfer_points(transfer(10))


def check_watches(collects: Sequence[Collect], shop: ClientShop, address: str, meanwhile: Callable[[], object]) -> None:
    """A wallet and the journal, watched from the beginning while 14 changes are made, are told each change once."""
    wallet = pb.WatchWalletRequest(customer_identifier=customer(SENDER), after_version=0)
    journal = pb.WatchTransactionsRequest(from_beginning=True)
    with futures.ThreadPoolExecutor(4) as threads:
        watches = [
            threads.submit(
                collect,
                address,
                watch,
                request,
                until=lambda one: one.transaction.points == LAST,
                token=shop.token,
                retries=Retries(pause_min_s=0.01, pause_max_s=0.1, attempts_max=1000),
            )
            for collect in collects
            for watch, request in (("watch_wallet", wallet), ("watch_transactions", journal))
        ]
        written(shop)
        meanwhile()
        written(shop)
        with shop.client() as points:
            points.issue_points(issue(LAST))
        told = [[one for one in watch.result(WAIT_S) if is_change(one)] for watch in watches]

    ids = [[one.transaction.transaction_id for one in of_watch] for of_watch in told]
    assert ids == [ids[0]] * len(watches)
    assert (
        list(range(1, 15)) == [one.wallet_version for one in told[0]] == [one.transaction.position for one in told[1]]
    )


@CLIENTS
def test_a_real_server_through_cuts(shop: ClientShop, collect: Collect) -> None:
    """The connections are cut again and again in the midst of what is told."""
    with CuttingProxy(shop.server.port, cuts=8, at=Frame.DATA, passing=2) as proxy:
        check_watches([collect], shop, proxy.address, lambda: None)

    assert 8 == proxy.cuts_made


@pytest.mark.ci
def test_a_server_that_is_restarted(tmp_path: Path) -> None:
    """It drains, says so, and comes back; both clients go on."""
    server = RunningServer(tmp_path)
    org_id = server.organisation()
    token = server.key(org_id)
    server.start()

    def restart() -> None:
        assert 0 == server.stop()
        server.start()

    try:
        check_watches([blocking, awaited], open_shop(server, org_id, token), server.address, restart)
    finally:
        server.close()
