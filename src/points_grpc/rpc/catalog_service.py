"""The servicer of CatalogService: for each RPC who answers it, and nothing else."""

from __future__ import annotations

from points_grpc.rpc.refusal import Context
from points_grpc.rpc.self_description import SelfDescription
from points_grpc.rpc.serve import Desk
from points_grpc.v1 import catalog_service_pb2 as pb
from points_grpc.v1 import catalog_service_pb2_grpc


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Describes the server."""

    def __init__(self, desk: Desk, description: SelfDescription) -> None:
        """Takes who passes questions on, and who answers them."""
        self._desk = desk
        self._description = description

    async def ListCodes(self, request: pb.ListCodesRequest, context: Context) -> pb.ListCodesResponse:
        """Lists the coded outcomes."""
        return await self._desk.question(request, context, self._description.list_codes, pb.ListCodesResponse)

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Tells version, limits and durability."""
        return await self._desk.question(request, context, self._description.get_server_info, pb.GetServerInfoResponse)
