"""The servicer of PointsService: for each RPC its reader and its renderer, and nothing else."""

from __future__ import annotations

from points_grpc.rpc import parse, render
from points_grpc.rpc.refusal import Context
from points_grpc.rpc.serve import Desk
from points_grpc.v1 import points_service_pb2 as pb
from points_grpc.v1 import points_service_pb2_grpc


class PointsServicer(points_service_pb2_grpc.PointsServiceServicer):
    """Transfers, redeems and gives back points."""

    def __init__(self, desk: Desk) -> None:
        """Takes where commands are handed over."""
        self._desk = desk

    async def CheckTransfer(self, request: pb.CheckTransferRequest, context: Context) -> pb.CheckTransferResponse:
        """Would the transfer be accepted?"""
        return await self._desk.command(
            request, context, parse.check_transfer, render.check_transfer, pb.CheckTransferResponse
        )

    async def IssueTransferOtp(
        self, request: pb.IssueTransferOtpRequest, context: Context
    ) -> pb.IssueTransferOtpResponse:
        """Sends a code for a transfer."""
        return await self._desk.command(
            request, context, parse.issue_transfer_otp, render.issue_transfer_otp, pb.IssueTransferOtpResponse
        )

    async def TransferPoints(self, request: pb.TransferPointsRequest, context: Context) -> pb.TransferPointsResponse:
        """Transfers points."""
        return await self._desk.command(
            request, context, parse.transfer_points, render.transfer_points, pb.TransferPointsResponse
        )

    async def CheckRedemption(self, request: pb.CheckRedemptionRequest, context: Context) -> pb.CheckRedemptionResponse:
        """Would the redemption be accepted?"""
        return await self._desk.command(
            request, context, parse.check_redemption, render.check_redemption, pb.CheckRedemptionResponse
        )

    async def IssueRedemptionOtp(
        self, request: pb.IssueRedemptionOtpRequest, context: Context
    ) -> pb.IssueRedemptionOtpResponse:
        """Sends a code for a redemption."""
        return await self._desk.command(
            request, context, parse.issue_redemption_otp, render.issue_redemption_otp, pb.IssueRedemptionOtpResponse
        )

    async def RedeemPoints(self, request: pb.RedeemPointsRequest, context: Context) -> pb.RedeemPointsResponse:
        """Redeems points."""
        return await self._desk.command(
            request, context, parse.redeem_points, render.redeem_points, pb.RedeemPointsResponse
        )

    async def ReverseRedemption(
        self, request: pb.ReverseRedemptionRequest, context: Context
    ) -> pb.ReverseRedemptionResponse:
        """Gives redeemed points back."""
        return await self._desk.command(
            request, context, parse.reverse_redemption, render.reverse_redemption, pb.ReverseRedemptionResponse
        )

    async def ReverseTransfer(self, request: pb.ReverseTransferRequest, context: Context) -> pb.ReverseTransferResponse:
        """Takes a transfer back."""
        return await self._desk.command(
            request, context, parse.reverse_transfer, render.reverse_transfer, pb.ReverseTransferResponse
        )

    async def AuthorizeRedemption(
        self, request: pb.AuthorizeRedemptionRequest, context: Context
    ) -> pb.AuthorizeRedemptionResponse:
        """Holds points for a redemption."""
        return await self._desk.command(
            request, context, parse.authorize_redemption, render.authorize_redemption, pb.AuthorizeRedemptionResponse
        )

    async def CaptureRedemption(
        self, request: pb.CaptureRedemptionRequest, context: Context
    ) -> pb.CaptureRedemptionResponse:
        """Redeems what is held."""
        return await self._desk.command(
            request, context, parse.capture_redemption, render.capture_redemption, pb.CaptureRedemptionResponse
        )

    async def ReleaseRedemption(
        self, request: pb.ReleaseRedemptionRequest, context: Context
    ) -> pb.ReleaseRedemptionResponse:
        """Gives back what is held."""
        return await self._desk.command(
            request, context, parse.release_redemption, render.release_redemption, pb.ReleaseRedemptionResponse
        )

    async def ReturnTransaction(
        self, request: pb.ReturnTransactionRequest, context: Context
    ) -> pb.ReturnTransactionResponse:
        """Books the return of a purchase."""
        return await self._desk.command(
            request, context, parse.return_transaction, render.return_transaction, pb.ReturnTransactionResponse
        )

    async def BatchTransferPoints(
        self, request: pb.BatchTransferPointsRequest, context: Context
    ) -> pb.BatchTransferPointsResponse:
        """Carries out several transfers."""
        return await self._desk.batch(
            request, context, parse.transfer_points, render.transfer_points, pb.BatchTransferPointsResponse
        )

    async def BatchRedeemPoints(
        self, request: pb.BatchRedeemPointsRequest, context: Context
    ) -> pb.BatchRedeemPointsResponse:
        """Carries out several redemptions."""
        return await self._desk.batch(
            request, context, parse.redeem_points, render.redeem_points, pb.BatchRedeemPointsResponse
        )
