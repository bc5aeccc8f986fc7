"""The addresses that a client takes: whatever gRPC may make something of, and nothing that is certainly none."""

from __future__ import annotations

import pytest

from points_grpc.client import AsyncPointsClient, PointsClient
from points_grpc.client.channel import require_address


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "points.example",
        "points.example:443",
        "points.example:https",
        "::1",
        "[::1]",
        "[::1]:50051",
        "dns:points.example:50051",
        "dns:///points.example:50051",
        "dns://8.8.8.8/points.example",
        "ipv4:10.0.0.1:50051,10.0.0.2:50051",
        "ipv6:[::1]:50051,[::1]:50052",
        "unix:/run/points.sock",
        "unix:///run/points:99999.sock",
        "unix-abstract:points",
        "xds:///points",
    ],
)
def test_an_address_that_may_be_one(address: str) -> None:
    """In every form that gRPC takes."""
    require_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "127.0.0.1:99999",
        "127.0.0.1:port",
        "127.0.0.1:",
        "[::1]:65536",
        "dns:///points.example:65536",
        "ipv4:10.0.0.1:50051,10.0.0.2:500510",
        "http://127.0.0.1:50051",
        "https://points.example",
    ],
)
def test_an_address_that_is_none(address: str) -> None:
    """Is refused when the client is made, not called at another port."""
    with pytest.raises(ValueError, match=r"address|port"):
        PointsClient(address, "t")
    with pytest.raises(ValueError, match=r"address|port"):
        AsyncPointsClient(address, "t")
