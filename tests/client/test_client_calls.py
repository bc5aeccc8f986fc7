"""The client against a real server on loopback: what it sends, what it gives back, what it raises."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from client_world import POINTS, RECEIVER, SENDER, ClientShop, customer, issue, transfer, wait_until_known, wallet
from points_grpc.cli.tokens import new_key
from points_grpc.client import AsyncPointsClient, PointsClient, PointsError, Refused, refused_by, warnings_of
from points_grpc.client.refusals import (
    ClientSignatureRequired,
    CustomerNotFound,
    RequestIdReused,
    TransferDuplicateRequest,
    TransferInsufficientPoints,
    TransferLimitExceeded,
    TransferValidationFailed,
    Unauthenticated,
)
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
)

CLEAN = """
import sys
import points_grpc.client, points_grpc.client.refusals
tops = {name.partition(".")[0] for name in sys.modules}
ours = {name for name in sys.modules if name.startswith("points_grpc.")}
print(*sorted(tops & {"sqlalchemy", "alembic", "click", "pydantic", "structlog", "uvloop", "msgspec", "phonenumbers"}))
print(*sorted({".".join(name.split(".")[:2]) for name in ours}))
"""


def test_nothing_of_the_server_is_imported() -> None:
    """Importing the client takes the stubs and the catalogue along, and nothing that only the server needs."""
    done = subprocess.run([sys.executable, "-c", CLEAN], capture_output=True, text=True, check=True)

    assert ["", "points_grpc.client points_grpc.codes points_grpc.v1"] == done.stdout.splitlines()


def test_every_rpc_has_its_method() -> None:
    """Both clients have one method for each RPC, under the same names."""
    services = ("points", "issuance", "wallet", "customer", "program", "catalog")
    modules = [__import__(f"points_grpc.v1.{name}_service_pb2", fromlist=["DESCRIPTOR"]) for name in services]
    rpcs = {
        method.name.lower()
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    for client in (PointsClient, AsyncPointsClient):
        methods = {name.replace("_", "") for name in dir(client) if not name.startswith("_")}
        assert rpcs == methods - {"close"}


def test_a_transfer(shop: ClientShop) -> None:
    """A transfer gets a request id of its own, in a copy of the request, and the same id is replayed."""
    with shop.client() as points:
        request = transfer(1000)
        answer = points.transfer_points(request)
        again = points.transfer_points(transfer(1000, answer.request_id))

    assert "" == request.request_id
    assert 36 == len(answer.request_id)
    assert (False, True) == (answer.replayed, again.replayed)
    assert answer.data == again.data
    assert POINTS - 1000 == shop.current(SENDER)


def test_a_refusal_with_its_numbers(shop: ClientShop) -> None:
    """817 carries what was asked, what there is and what is missing, as numbers."""
    with shop.client() as points, pytest.raises(TransferInsufficientPoints) as caught:
        points.transfer_points(transfer(9000))

    refused = caught.value
    assert (817, 9000, 8500, 500) == (refused.number, refused.points, refused.current, refused.short_by)
    assert (1, False, False) == (refused.attempts, refused.replayed, refused.outcome_open)
    assert 36 == len(refused.request_id)
    assert isinstance(refused, Refused)
    assert isinstance(refused, PointsError)


def test_a_recorded_refusal_is_replayed(shop: ClientShop) -> None:
    """A refusal that is final comes again under its request id, and says so."""
    with shop.client() as points:
        found = []
        for _ in range(2):
            with pytest.raises(TransferInsufficientPoints) as caught:
                points.transfer_points(transfer(9000, "the-same"))
            found.append((caught.value.replayed, caught.value.short_by))

    assert [(False, 500), (True, 500)] == found


def test_a_limit_says_when_it_resets(shop: ClientShop) -> None:
    """903 is caught as its class, with the limit, what is used, and an aware time at which it ends."""
    limit = program_service_pb2.VelocityLimit(
        direction=program_service_pb2.VelocityLimit.OUT,
        window=program_service_pb2.VelocityLimit.TODAY,
        points_max=1500,
    )
    with shop.client() as points:
        policy = points.get_policy(program_service_pb2.GetPolicyRequest()).policy
        policy.transfer.velocity_limits.append(limit)
        points.set_policy(program_service_pb2.SetPolicyRequest(policy=policy, reason="test"))
        points.transfer_points(transfer(1000))
        with pytest.raises(TransferLimitExceeded) as caught:
            points.transfer_points(transfer(1000))

    refused = caught.value
    assert (1500, 1000, "TODAY", "OUT") == (refused.limit, refused.used, refused.window, refused.direction)
    assert refused.resets_at is not None
    assert refused.resets_at > datetime.now(UTC)
    assert (1, None) == (refused.attempts, refused.refusal.pushback_ms)


def test_malformed_fields(shop: ClientShop) -> None:
    """Every malformed field is named at once."""
    request = transfer(1, "with space")
    request.notes = "n" * 501
    with shop.client() as points, pytest.raises(TransferValidationFailed) as caught:
        points.transfer_points(request)

    assert {"notes", "request_id"} == {one.field for one in caught.value.violations}


def test_warnings_of_an_acceptance(shop: ClientShop) -> None:
    """An issue that had expired already is accepted with warning 877 and its number."""
    request = issue(70)
    request.ClearField("expires_in_days")
    request.expires_at.FromDatetime(datetime(2020, 1, 1, tzinfo=UTC))
    with shop.client() as points:
        warnings = warnings_of(points.issue_points(request))

    assert [(877, "POINTS_NOT_ALLOCATED", 70)] == [(one.number, one.reason, one.whole("points")) for one in warnings]


def test_a_batch(shop: ClientShop) -> None:
    """Each item of a batch gets a request id; an item that is refused is turned into the exception of its code."""
    request = points_service_pb2.BatchTransferPointsRequest(requests=[transfer(100), transfer(9000, "mine")])
    with shop.client() as points:
        first, second = points.batch_transfer_points(request).outcomes

    refused = refused_by(second.status, "TransferPoints")
    assert 36 == len(first.response.request_id)
    assert isinstance(refused, TransferInsufficientPoints)
    assert ("mine", 600) == (refused.request_id, refused.short_by)


def test_a_check_needs_no_request_id(shop: ClientShop) -> None:
    """A check that sends no code is a question: it gets no request id."""
    question = points_service_pb2.CheckTransferRequest(
        points_to_be_transferred=10,
        from_customer_identifier=customer(SENDER),
        to_customer_identifier=customer(RECEIVER),
    )
    with shop.client() as points:
        asked = points.check_transfer(question)
        question.issue_otp = True
        warned = points.check_transfer(question)

    assert "" == asked.request_id
    assert [876] == [one.number for one in warnings_of(warned)]


def test_other_content_under_the_same_id(shop: ClientShop) -> None:
    """An id that was used with other content is refused; the fields that differ are named."""
    with shop.client() as points:
        points.transfer_points(transfer(10, "used"))
        with pytest.raises(TransferDuplicateRequest) as transferred:
            points.transfer_points(transfer(11, "used"))
        points.issue_points(with_id(issue(10), "used-too"))
        with pytest.raises(RequestIdReused) as issued:
            points.issue_points(with_id(issue(11), "used-too"))

    assert "points_to_be_transferred" == transferred.value.fields
    assert "points" == issued.value.fields


def with_id(
    request: issuance_service_pb2.IssuePointsRequest, request_id: str
) -> issuance_service_pb2.IssuePointsRequest:
    """A request under an id."""
    request.request_id = request_id
    return request


def test_who_calls_is_asked_first(shop: ClientShop) -> None:
    """A wrong token is its own exception, and is not tried again."""
    with PointsClient(shop.server.address, new_key().token) as points, pytest.raises(Unauthenticated) as caught:
        points.transfer_points(transfer(1))

    assert 1 == caught.value.attempts


def test_reads(shop: ClientShop) -> None:
    """Reads have no request id to keep; what is not there is a refusal."""
    with shop.client() as points, pytest.raises(CustomerNotFound) as caught:
        points.get_customer(
            customer_service_pb2.GetCustomerRequest(
                customer_identifier=common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value="1")
            )
        )

    assert "" == caught.value.request_id


def test_a_signing_key(shop: ClientShop) -> None:
    """A client with a signing secret signs every call; without it, what moves points is refused with 825."""
    token, secret = shop.server.signed_key(shop.org_id, client="signer")
    with PointsClient(shop.server.address, token, signing_secret=secret.decode()) as signs:
        wait_until_known(signs)
        answer = signs.transfer_points(transfer(1))
    with PointsClient(shop.server.address, token) as does_not, pytest.raises(ClientSignatureRequired):
        does_not.transfer_points(transfer(2))

    assert 1 == answer.data[0].points_transferred


def test_the_asynchronous_client(shop: ClientShop) -> None:
    """The same, awaited, many at once: transfers with ids of their own, and refusals as the same classes."""

    async def run() -> set[str]:
        async with AsyncPointsClient(shop.server.address, shop.token) as points:
            answers = await asyncio.gather(*(points.transfer_points(transfer(10)) for _ in range(20)))
            with pytest.raises(TransferInsufficientPoints) as caught:
                await points.transfer_points(transfer(9000))
            assert 700 == caught.value.short_by
            return {answer.request_id for answer in answers}

    assert 20 == len(asyncio.run(run()))
    assert (8300, 200) == (shop.current(SENDER), shop.current(RECEIVER))


def test_threads_share_a_client(shop: ClientShop) -> None:
    """One client serves several threads."""
    from concurrent.futures import ThreadPoolExecutor

    with shop.client() as points, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(points.transfer_points, [transfer(10)] * 24))
        left = wallet(points, SENDER).current

    assert (24, 8260) == (len({answer.request_id for answer in answers}), left)
