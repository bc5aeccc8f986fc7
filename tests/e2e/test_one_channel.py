"""One channel, more calls at once than a connection carries: the client library queues them, and none fails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import grpc
import pytest

from points_grpc.rpc.limits import Limits
from points_grpc.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from running import RunningServer

CALLS = 1_000


@pytest.mark.ci
def test_calls_wait_in_the_client(tmp_path: Path) -> None:
    """Calls beyond those that a connection carries wait for it; each gets its answer.

    What the core ended unseen, because the machine was slow to take it, is sent again, as every caller has to.
    """
    server = RunningServer(tmp_path)
    metadata = (("authorization", f"Bearer {server.key(server.organisation())}"),)
    server.start()
    try:
        with grpc.insecure_channel(server.address) as channel:
            stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
            ask = catalog_service_pb2.GetServerInfoRequest()
            answered, left = Counter[grpc.StatusCode](), CALLS
            while left:
                calls = [stub.GetServerInfo.future(ask, metadata=metadata, timeout=60) for _ in range(left)]
                unseen = [call.code() is grpc.StatusCode.CANCELLED and not call.trailing_metadata() for call in calls]
                answered.update(call.code() for call, again in zip(calls, unseen, strict=True) if not again)
                assert sum(unseen) < left, "some get through each time"
                left = sum(unseen)
    finally:
        server.close()

    assert Limits().concurrent_streams_max < CALLS
    assert {grpc.StatusCode.OK: CALLS} == answered
