"""The Python client: `PointsClient` and `AsyncPointsClient`, and what they raise.

What people import stands here; the exceptions of single codes are in `points_grpc.client.refusals`. The package needs
gRPC, protobuf, the stubs and the catalogue, and nothing of the server: `pip install points-grpc` is enough.

    from points_grpc.client import PointsClient
    from points_grpc.client.refusals import TransferLimitExceeded

    with PointsClient("127.0.0.1:50051", token) as points:
        try:
            answer = points.transfer_points(request)
        except TransferLimitExceeded as refused:
            print(refused.used, "of", refused.limit, "until", refused.resets_at)
"""

from __future__ import annotations

from points_grpc.client.asynchronous import AsyncPointsClient
from points_grpc.client.blocking import PointsClient
from points_grpc.client.channel import tls
from points_grpc.client.decode import refused_by, warnings_of
from points_grpc.client.errors import (
    NotAnswered,
    NotSent,
    PointsError,
    PointsRefused,
    Refused,
    ServiceRefused,
    StatusItem,
    TransferRefused,
    Violation,
)
from points_grpc.client.retries import Retries
from points_grpc.client.watching import AsyncWatch, Watch

__all__ = [
    "AsyncPointsClient",
    "AsyncWatch",
    "NotAnswered",
    "NotSent",
    "PointsClient",
    "PointsError",
    "PointsRefused",
    "Refused",
    "Retries",
    "ServiceRefused",
    "StatusItem",
    "TransferRefused",
    "Violation",
    "Watch",
    "refused_by",
    "tls",
    "warnings_of",
]
