"""The servicer of IssuanceService: for each RPC its reader and its renderer, and nothing else."""

from __future__ import annotations

from points_grpc.rpc import parse, render
from points_grpc.rpc.refusal import Context
from points_grpc.rpc.serve import Desk
from points_grpc.v1 import issuance_service_pb2 as pb
from points_grpc.v1 import issuance_service_pb2_grpc


class IssuanceServicer(issuance_service_pb2_grpc.IssuanceServiceServicer):
    """Issues points."""

    def __init__(self, desk: Desk) -> None:
        """Takes where commands are handed over."""
        self._desk = desk

    async def IssuePoints(self, request: pb.IssuePointsRequest, context: Context) -> pb.IssuePointsResponse:
        """Issues points."""
        return await self._desk.command(
            request, context, parse.issue_points, render.issue_points, pb.IssuePointsResponse
        )

    async def AdjustPoints(self, request: pb.AdjustPointsRequest, context: Context) -> pb.AdjustPointsResponse:
        """Takes points away."""
        return await self._desk.command(
            request, context, parse.adjust_points, render.adjust_points, pb.AdjustPointsResponse
        )

    async def BatchIssuePoints(
        self, request: pb.BatchIssuePointsRequest, context: Context
    ) -> pb.BatchIssuePointsResponse:
        """Carries out several issues."""
        return await self._desk.batch(
            request, context, parse.issue_points, render.issue_points, pb.BatchIssuePointsResponse
        )
