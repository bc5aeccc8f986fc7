"""What a client makes of a token that no call can carry, and of calls after it was closed: one kind of error each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent import futures
from typing import cast

import grpc
import pytest
from click.testing import CliRunner
from scripted_server import scripted

from client_world import transfer
from points_grpc.cli.main import main
from points_grpc.client import AsyncPointsClient, NotSent, PointsClient, PointsError, Retries
from points_grpc.client.calls import Credential
from points_grpc.codes import GrpcCode
from points_grpc.v1 import points_service_pb2
from points_grpc.v1.wallet_service_pb2 import ExportJournalRequest, WatchTransactionsRequest, WatchWalletRequest

NOWHERE = "127.0.0.1:1"
OK = points_service_pb2.TransferPointsResponse(request_id="done")


def blocking(address: str, token: str | Callable[[], str], *, close: bool = False) -> None:
    with PointsClient(address, token) as points:
        if close:
            points.close()
        points.transfer_points(transfer(1, "mine"))


def asynchronous(address: str, token: str | Callable[[], str], *, close: bool = False) -> None:
    async def run() -> None:
        async with AsyncPointsClient(address, token) as points:
            if close:
                await points.close()
            await points.transfer_points(transfer(1, "mine"))

    asyncio.run(run())


BOTH = pytest.mark.parametrize("call", [blocking, asynchronous])


def test_white_space_around_a_token_is_not_of_it() -> None:
    """Of a token that was read from a file with its newline, the token alone is sent."""
    read = Credential("pk_a_b\n", " s3cret\r\n")

    assert Credential("pk_a_b", "s3cret") == read
    assert ("authorization", "Bearer pk_a_b") == read.metadata("/a/b", b"")[0]


@BOTH
@pytest.mark.parametrize("token", ["pk_a\nb", "pk_ü", "pk a", "pk_\x7f", " \n"])
def test_a_token_that_cannot_be_sent_is_refused_at_once(call: Callable[..., None], token: str) -> None:
    """Where the client is made; without repeating it."""
    with pytest.raises(ValueError, match="token: it ") as caught:
        call(NOWHERE, token)

    assert token not in str(caught.value)


@BOTH
def test_a_function_that_gives_no_token(call: Callable[..., None]) -> None:
    """The call is not sent, and says why; what the function gave is stripped as a token is."""
    with pytest.raises(NotSent) as caught:
        call(NOWHERE, lambda: "pk_ü")
    with scripted([OK]) as seen:
        call(seen.address, lambda: "pk_a_b\n")

    assert "not sent: token: it has spaces, control characters or others that are not ASCII, so it is none" == str(
        caught.value
    )
    assert (0, False, GrpcCode.UNAUTHENTICATED) == (
        caught.value.attempts,
        caught.value.outcome_open,
        caught.value.grpc_code,
    )
    assert 1 == len(seen.requests)


@BOTH
@pytest.mark.parametrize("second", [OSError("secret"), None], ids=["raises", "gives none"])
def test_a_function_that_fails_later(call: Callable[..., None], second: OSError | None) -> None:
    """After an attempt without an answer the outcome is open; what the function raised is the cause, and not told."""
    first = ["pk_a_b"]

    def token() -> str:
        if first:
            return first.pop()
        if second:
            raise second
        return cast("str", None)

    with scripted([grpc.StatusCode.UNAVAILABLE]) as seen, pytest.raises(NotSent) as caught:
        call(seen.address, token)

    assert ("mine", 1, True) == (caught.value.request_id, caught.value.attempts, caught.value.outcome_open)
    assert second is caught.value.__cause__
    assert f"not sent: token: its function {'raised OSError' if second else 'gave NoneType in place of a text'}" == str(
        caught.value
    )


@BOTH
def test_a_closed_client(call: Callable[..., None]) -> None:
    """Both clients say the same, with the request id that nobody has seen."""
    with pytest.raises(NotSent, match="not sent: the client is closed") as caught:
        call(NOWHERE, "pk_a_b", close=True)

    assert ("mine", 0, False) == (caught.value.request_id, caught.value.attempts, caught.value.outcome_open)


def test_an_export_of_a_closed_client() -> None:
    """As any other call."""

    async def run() -> None:
        points = AsyncPointsClient(NOWHERE, "pk_a_b")
        await points.close()
        async for _ in points.export_journal(ExportJournalRequest()):
            pass

    points = PointsClient(NOWHERE, "pk_a_b")
    points.close()
    with pytest.raises(NotSent):
        next(points.export_journal(ExportJournalRequest()))
    with pytest.raises(NotSent):
        asyncio.run(run())


@pytest.mark.parametrize("watch", ["watch_wallet", "watch_transactions"])
def test_a_watch_of_a_closed_client(watch: str) -> None:
    """As any other call, where it is asked for."""
    request = WatchWalletRequest() if watch == "watch_wallet" else WatchTransactionsRequest()

    async def run() -> None:
        points = AsyncPointsClient(NOWHERE, "pk_a_b")
        await points.close()
        await anext(getattr(points, watch)(request))

    points = PointsClient(NOWHERE, "pk_a_b")
    points.close()
    with pytest.raises(NotSent, match="the client is closed"):
        next(getattr(points, watch)(request))
    with pytest.raises(NotSent, match="the client is closed"):
        asyncio.run(run())


@pytest.mark.parametrize("attempts_max", [1, 4])
def test_a_client_that_is_closed_under_a_call(attempts_max: int) -> None:
    """Who waits for its answer is told that the outcome is open, and by which id, by both clients.

    Whether there would have been another attempt makes no difference.
    """
    retries = Retries(attempts_max=attempts_max)

    def blocked(address: str) -> PointsError:
        with PointsClient(address, "pk_a_b", retries=retries) as points, futures.ThreadPoolExecutor(1) as threads:
            call = threads.submit(points.transfer_points, transfer(1, "mine"))
            assert not futures.wait([call], 0.3).done
            points.close()
            return cast("PointsError", call.exception(5))

    async def awaited(address: str) -> PointsError:
        async with AsyncPointsClient(address, "pk_a_b", retries=retries) as points:
            call = asyncio.create_task(points.transfer_points(transfer(1, "mine")))
            assert not (await asyncio.wait([call], timeout=0.3))[0]
            await points.close()
            [told] = await asyncio.gather(call, return_exceptions=True)
            return cast("PointsError", told)

    with scripted([3.0]) as seen:
        found = [blocked(seen.address), asyncio.run(awaited(seen.address))]

    assert [NotSent, NotSent] == [type(one) for one in found]
    assert [("mine", 1, True)] * 2 == [(one.request_id, one.attempts, one.outcome_open) for one in found]


def test_a_task_that_is_cancelled() -> None:
    """It ends as tasks do, though its client is closed meanwhile."""

    async def run(address: str) -> object:
        async with AsyncPointsClient(address, "pk_a_b") as points:
            call = asyncio.create_task(points.transfer_points(transfer(1, "mine")))
            assert not (await asyncio.wait([call], timeout=0.3))[0]
            call.cancel()
            await points.close()
            [told] = await asyncio.gather(call, return_exceptions=True)
            return told

    with scripted([3.0]) as seen:
        told = asyncio.run(run(seen.address))

    assert isinstance(told, asyncio.CancelledError)


def test_an_export_that_is_closed_under_way() -> None:
    """A read leaves nothing open."""

    async def run(address: str) -> None:
        async with AsyncPointsClient(address, "pk_a_b") as points:
            call = asyncio.create_task(anext(points.export_journal()))
            assert not (await asyncio.wait([call], timeout=0.3))[0]
            await points.close()
            await call

    with scripted([3.0]) as seen, pytest.raises(NotSent, match="the client is closed") as caught:
        asyncio.run(run(seen.address))

    assert not caught.value.outcome_open


@pytest.mark.parametrize("option", ["--token", "--signing-secret"])
def test_options_that_cannot_be_sent_are_misuse(option: str) -> None:
    """A sentence that names the option, and exit code 2."""
    done = CliRunner().invoke(main, ["call", "GetServerInfo", "--token", "pk_a_b", option, "ü"])

    assert (2, True) == (done.exit_code, f"Error: {option}: it has spaces" in done.output)
