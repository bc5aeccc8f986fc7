"""The servicer of CustomerService: for each RPC its reader and its renderer, and nothing else."""

from __future__ import annotations

from points_grpc.rpc import parse, render
from points_grpc.rpc.answers import Answers
from points_grpc.rpc.listings import Listings
from points_grpc.rpc.refusal import Context
from points_grpc.rpc.serve import Desk
from points_grpc.v1 import customer_service_pb2 as pb
from points_grpc.v1 import customer_service_pb2_grpc


class CustomerServicer(customer_service_pb2_grpc.CustomerServiceServicer):
    """Manages customers."""

    def __init__(self, desk: Desk, answers: Answers, listings: Listings) -> None:
        """Takes where commands are handed over, and who answers questions."""
        self._desk = desk
        self._answers = answers
        self._listings = listings

    async def CreateCustomer(self, request: pb.CreateCustomerRequest, context: Context) -> pb.CreateCustomerResponse:
        """Creates a customer."""
        return await self._desk.command(
            request, context, parse.create_customer, render.create_customer, pb.CreateCustomerResponse
        )

    async def GetCustomer(self, request: pb.GetCustomerRequest, context: Context) -> pb.GetCustomerResponse:
        """Reads a customer."""
        return await self._desk.question(request, context, self._answers.get_customer, pb.GetCustomerResponse)

    async def ListCustomers(self, request: pb.ListCustomersRequest, context: Context) -> pb.ListCustomersResponse:
        """Lists all customers."""
        return await self._desk.question(request, context, self._listings.list_customers, pb.ListCustomersResponse)

    async def EnrolCustomer(self, request: pb.EnrolCustomerRequest, context: Context) -> pb.EnrolCustomerResponse:
        """Enrols a customer."""
        return await self._desk.command(
            request, context, parse.enrol_customer, render.enrol_customer, pb.EnrolCustomerResponse
        )

    async def SetCustomerStatus(
        self, request: pb.SetCustomerStatusRequest, context: Context
    ) -> pb.SetCustomerStatusResponse:
        """Sets a customer's statuses."""
        return await self._desk.command(
            request, context, parse.set_customer_status, render.set_customer_status, pb.SetCustomerStatusResponse
        )

    async def SetTransferLock(self, request: pb.SetTransferLockRequest, context: Context) -> pb.SetTransferLockResponse:
        """Locks or unlocks a customer's outgoing transfers."""
        return await self._desk.command(
            request, context, parse.set_transfer_lock, render.set_transfer_lock, pb.SetTransferLockResponse
        )

    async def RecordPurchase(self, request: pb.RecordPurchaseRequest, context: Context) -> pb.RecordPurchaseResponse:
        """Records a purchase."""
        return await self._desk.command(
            request, context, parse.record_purchase, render.record_purchase, pb.RecordPurchaseResponse
        )

    async def MergeCustomers(self, request: pb.MergeCustomersRequest, context: Context) -> pb.MergeCustomersResponse:
        """Merges two customers."""
        return await self._desk.command(
            request, context, parse.merge_customers, render.merge_customers, pb.MergeCustomersResponse
        )

    async def RecordMissedCall(
        self, request: pb.RecordMissedCallRequest, context: Context
    ) -> pb.RecordMissedCallResponse:
        """Records a missed call."""
        return await self._desk.command(
            request, context, parse.record_missed_call, render.record_missed_call, pb.RecordMissedCallResponse
        )

    async def ExportCustomerData(
        self, request: pb.ExportCustomerDataRequest, context: Context
    ) -> pb.ExportCustomerDataResponse:
        """Hands out what is kept about a customer."""
        return await self._desk.question(
            request, context, self._answers.export_customer_data, pb.ExportCustomerDataResponse
        )

    async def EraseCustomer(self, request: pb.EraseCustomerRequest, context: Context) -> pb.EraseCustomerResponse:
        """Erases who a customer is."""
        return await self._desk.command(
            request, context, parse.erase_customer, render.erase_customer, pb.EraseCustomerResponse
        )
