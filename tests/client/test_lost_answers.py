"""Answers that never arrive: the connection is cut after the commit, and the client settles it with its request id."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from client_world import POINTS, RECEIVER, SENDER, ClientShop, issue, open_shop, transfer
from cutting_proxy import CuttingProxy, Frame
from points_grpc.client import AsyncPointsClient, NotAnswered, PointsClient, Retries
from points_grpc.v1 import points_service_pb2, wallet_service_pb2
from running import RunningServer


@pytest.mark.parametrize("at", Frame)
def test_the_answer_is_cut_after_the_commit(shop: ClientShop, at: Frame) -> None:
    """The client sends the same request id again and gets the recorded answer: one effect."""
    with CuttingProxy(shop.server.port, cuts=2, at=at) as proxy, shop.client(proxy.address) as points:
        answer = points.transfer_points(transfer(1000))

    assert 2 == proxy.cuts_made
    assert answer.replayed
    assert (POINTS - 1000, 1000) == (shop.current(SENDER), shop.current(RECEIVER))


@pytest.mark.parametrize("at", Frame)
def test_the_same_awaited(shop: ClientShop, at: Frame) -> None:
    """So does the asynchronous client."""

    async def run(address: str) -> bool:
        async with AsyncPointsClient(address, shop.token) as points:
            return (await points.transfer_points(transfer(1000))).replayed

    with CuttingProxy(shop.server.port, at=at) as proxy:
        assert asyncio.run(run(proxy.address))

    assert (POINTS - 1000, 1000) == (shop.current(SENDER), shop.current(RECEIVER))


def test_the_caller_may_settle_it_later(shop: ClientShop) -> None:
    """Who allows one attempt only is told that the outcome is open, and by which id to ask what became of it."""
    once = Retries(attempts_max=1)
    with (
        CuttingProxy(shop.server.port) as proxy,
        PointsClient(proxy.address, shop.token, retries=once) as points,
        pytest.raises(NotAnswered) as caught,
    ):
        points.transfer_points(transfer(1000))
    question = wallet_service_pb2.GetTransactionRequest(request_id=caught.value.request_id)
    with PointsClient(shop.server.address, shop.token) as later:
        found = later.get_transaction(question)

    assert caught.value.outcome_open
    assert (wallet_service_pb2.GetTransactionResponse.ACCEPTED, 1000) == (found.state, found.transaction.points)


def test_a_batch_may_be_settled_later(shop: ClientShop) -> None:
    """The ids that its items were given are in the error, in their order: a repetition with them does nothing twice."""
    batch = points_service_pb2.BatchTransferPointsRequest(
        requests=[transfer(100), transfer(200, "mine"), transfer(300)]
    )
    with (
        CuttingProxy(shop.server.port) as proxy,
        PointsClient(proxy.address, shop.token, retries=Retries(attempts_max=1)) as points,
        pytest.raises(NotAnswered) as caught,
    ):
        points.batch_transfer_points(batch)
    given = caught.value.request_ids
    for item, request_id in zip(batch.requests, given, strict=True):
        item.request_id = request_id
    with shop.client() as later:
        outcomes = later.batch_transfer_points(batch).outcomes

    assert (True, "", "mine", 3) == (caught.value.outcome_open, caught.value.request_id, given[1], len(set(given)))
    assert [True, True, True] == [one.response.replayed for one in outcomes]
    assert (POINTS - 600, 600) == (shop.current(SENDER), shop.current(RECEIVER))


@pytest.mark.ci
def test_the_server_is_killed_and_comes_back(tmp_path: Path) -> None:
    """The server dies between its commit and its answer, and another one takes its place: still one effect."""
    server = RunningServer(tmp_path)
    org_id = server.organisation()
    token = server.key(org_id)
    server.start()
    try:
        shop = open_shop(server, org_id, token)

        def die_and_return() -> None:
            server.kill()
            server.start()

        with (
            CuttingProxy(server.port, on_cut=die_and_return) as proxy,
            PointsClient(proxy.address, shop.token, timeout_s=60) as points,
        ):
            answer = points.transfer_points(transfer(1000))
            issued = points.issue_points(issue(5))

        assert 1 == proxy.cuts_made
        assert (True, False) == (answer.replayed, issued.replayed)
        assert (POINTS - 1000 + 5, 1000) == (shop.current(SENDER), shop.current(RECEIVER))
    finally:
        server.close()
