"""An organisation with the program and the two customers of the documented page, set up with the client itself."""

from __future__ import annotations

import time
from dataclasses import dataclass

from points_grpc.client import PointsClient
from points_grpc.client.refusals import Unauthenticated
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)
from running import RunningServer

PROGRAM = 973
SENDER = 565039505
RECEIVER = 565039506
POINTS = 8500


@dataclass(frozen=True)
class ClientShop:
    """Where it is, and its key."""

    server: RunningServer
    org_id: int
    token: str

    def client(self, address: str = "") -> PointsClient:
        """A client of the organisation."""
        return PointsClient(address or self.server.address, self.token)

    def current(self, customer_id: int) -> int:
        """What a customer has."""
        with self.client() as points:
            return wallet(points, customer_id).current


def open_shop(server: RunningServer, org_id: int, token: str) -> ClientShop:
    """Gives an organisation its program, its customers and their points."""
    shop = ClientShop(server, org_id, token)
    with shop.client() as points:
        points.create_program(program_service_pb2.CreateProgramRequest(program_id=PROGRAM, name="Shop"))
        for one in (SENDER, RECEIVER):
            points.create_customer(
                customer_service_pb2.CreateCustomerRequest(customer_id=one, enrolled_program_ids=[PROGRAM])
            )
        points.issue_points(issue(POINTS))
    return shop


def wait_until_known(points: PointsClient) -> None:
    """Waits until the server has read the key, which it does every few seconds."""
    until = time.monotonic() + 20
    while True:
        try:
            points.list_programs(program_service_pb2.ListProgramsRequest())
            return
        except Unauthenticated:
            assert time.monotonic() < until
            time.sleep(0.1)


def customer(customer_id: int) -> common_pb2.CustomerIdentifier:
    """Names a customer by id."""
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))


def issue(points: int) -> issuance_service_pb2.IssuePointsRequest:
    """Gives points to the sender."""
    return issuance_service_pb2.IssuePointsRequest(
        customer_identifier=customer(SENDER),
        program_id=PROGRAM,
        points=points,
        source=common_pb2.Lot.LOYALTY_PLUS,
        expires_in_days=30,
    )


def transfer(points: int, request_id: str = "") -> points_service_pb2.TransferPointsRequest:
    """Moves points from the sender to the receiver."""
    return points_service_pb2.TransferPointsRequest(
        points_to_be_transferred=points,
        program_id=PROGRAM,
        from_customer_identifier=customer(SENDER),
        to_customer_identifier=customer(RECEIVER),
        request_id=request_id,
    )


def wallet(points: PointsClient, customer_id: int) -> common_pb2.WalletBalance:
    """The wallet of a customer."""
    request = wallet_service_pb2.GetWalletRequest(customer_identifier=customer(customer_id), program_id=PROGRAM)
    return points.get_wallet(request).wallet
