"""Transfers points, is refused with its numbers, meets a warning, and prints the wallets: see ../README.md.

python transfer.py --address 127.0.0.1:50051 --token pk_...

Request ids, retries and deadlines are the client's work.
"""

from __future__ import annotations

import argparse
import json

from points_grpc.client import PointsClient, warnings_of
from points_grpc.client.refusals import TransferInsufficientPoints
from points_grpc.v1.common_pb2 import CustomerIdentifier
from points_grpc.v1.points_service_pb2 import CheckTransferRequest, TransferPointsRequest
from points_grpc.v1.wallet_service_pb2 import GetWalletRequest

PROGRAM = 973
SENDER = "565039505"
RECEIVER = "565039506"


def main() -> None:
    """Runs the four steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:50051", help="where the server listens")
    parser.add_argument("--token", default="", help="the API key")
    arguments = parser.parse_args()

    with PointsClient(arguments.address, arguments.token) as points:
        answer = points.transfer_points(transfer(1000))
        say(step="transfer", points=str(answer.data[0].points_transferred), replayed=answer.replayed)

        try:
            points.transfer_points(transfer(9000))
            raise SystemExit("expected a refusal for want of points")
        except TransferInsufficientPoints as refused:
            numbers = {"points": refused.points, "current": refused.current, "short_by": refused.short_by}
            shown = {key: str(number) for key, number in numbers.items()}
            say(step="refusal", code=refused.number, reason=refused.reason, **shown)

        check = CheckTransferRequest(
            points_to_be_transferred=10,
            program_id=PROGRAM,
            from_customer_identifier=customer(RECEIVER),  # who has no address that a code could be sent to
            to_customer_identifier=customer(SENDER),
            issue_otp=True,
        )
        for warning in warnings_of(points.check_transfer(check)):
            say(step="warning", code=warning.number, reason=warning.reason, message=warning.message)

        for customer_id in (SENDER, RECEIVER):
            request = GetWalletRequest(customer_identifier=customer(customer_id), program_id=PROGRAM)
            wallet = points.get_wallet(request).wallet
            say(
                step="wallet",
                customer_id=str(wallet.customer_id),
                current=str(wallet.current),
                redeemable=str(wallet.redeemable),
                transferable=str(wallet.transferable),
            )


def transfer(amount: int) -> TransferPointsRequest:
    """A transfer from the sender to the receiver."""
    return TransferPointsRequest(
        points_to_be_transferred=amount,
        program_id=PROGRAM,
        from_customer_identifier=customer(SENDER),
        to_customer_identifier=customer(RECEIVER),
    )


def customer(customer_id: str) -> CustomerIdentifier:
    """Names a customer by id."""
    return CustomerIdentifier(type=CustomerIdentifier.ID, value=customer_id)


def say(**line: str | int | bool) -> None:
    """Prints a line of JSON."""
    print(json.dumps(line, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
