"""What the client makes of a server's advice, over a real channel to a server that follows a script."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from pathlib import Path

import grpc
import pytest
from scripted_server import scripted

from authority import Authority, localhost
from client_world import transfer
from cryptography_for_tests import certificate
from points_grpc import codes
from points_grpc.cli.health import Probed, why_not
from points_grpc.client import AsyncPointsClient, NotAnswered, PointsClient, Retries, tls
from points_grpc.client.channel import is_loopback
from points_grpc.client.refusals import OtpIssueLimit, Overloaded, RateLimited, TransferNotProcessed
from points_grpc.codes import GrpcCode
from points_grpc.domain.outcome import Refused
from points_grpc.v1 import points_service_pb2
from running import free_port

OK = points_service_pb2.TransferPointsResponse(request_id="done")
SHED = Refused(codes.OVERLOADED, retry_after_s=0.2)
QUICK = Retries(attempts_max=8, pause_min_s=0.01, pause_max_s=0.05)


def client(address: str, *, timeout_s: float = 5.0, retries: Retries = QUICK) -> PointsClient:
    """A client of a scripted server."""
    return PointsClient(address, "token", timeout_s=timeout_s, retries=retries)


def test_shed_calls_come_back_as_late_as_told() -> None:
    """A shed call is sent again, the same bytes with the same request id, not before the server said."""
    with scripted([SHED, SHED, OK]) as seen, client(seen.address) as points:
        answer = points.transfer_points(transfer(1))

    assert "done" == answer.request_id
    assert 3 == len(seen.requests)
    assert 1 == len(set(seen.requests))
    assert 36 == len(points_service_pb2.TransferPointsRequest.FromString(seen.requests[0]).request_id)
    assert all(pause >= 0.2 for pause in seen.pauses_s)


def test_statuses_without_details() -> None:
    """UNAVAILABLE is repeated whoever says it; another status without the service's word is not."""
    with scripted([grpc.StatusCode.UNAVAILABLE, OK]) as seen, client(seen.address) as points:
        points.transfer_points(transfer(1))
    with (
        scripted([grpc.StatusCode.UNIMPLEMENTED]) as other,
        client(other.address) as points,
        pytest.raises(NotAnswered) as caught,
    ):
        points.transfer_points(transfer(1))

    assert (2, 1) == (len(seen.requests), len(other.requests))
    assert GrpcCode.UNIMPLEMENTED is caught.value.grpc_code


def test_attempts_are_bounded() -> None:
    """The attempts end, and the exception says how many there were."""
    with (
        scripted([Refused(codes.OVERLOADED, retry_after_s=0.01)]) as seen,
        client(seen.address) as points,
        pytest.raises(Overloaded) as caught,
    ):
        points.transfer_points(transfer(1))

    assert (8, 8, False) == (len(seen.requests), caught.value.attempts, caught.value.outcome_open)


def test_never_is_never() -> None:
    """A pushback below zero forbids another attempt, whatever the code."""
    unknown = Refused(codes.TRANSFER_NOT_PROCESSED, {"outcome": "UNKNOWN"})
    with (
        scripted([unknown], id_given=False) as seen,
        client(seen.address) as points,
        pytest.raises(TransferNotProcessed) as caught,
    ):
        points.transfer_points(transfer(1))

    assert 1 == len(seen.requests)
    assert caught.value.outcome_open


def test_an_open_outcome_is_settled_by_its_id() -> None:
    """Where the request id was the caller's own, an open outcome is asked again with it."""
    unknown = Refused(codes.TRANSFER_NOT_PROCESSED, {"outcome": "UNKNOWN"}, retry_after_s=0.01)
    with scripted([unknown, OK]) as seen, client(seen.address) as points:
        points.transfer_points(transfer(1, "mine"))

    assert ["mine", "mine"] == [
        points_service_pb2.TransferPointsRequest.FromString(raw).request_id for raw in seen.requests
    ]


def test_quotas() -> None:
    """A rate that is used up for moments is waited for; a limit that lasts longer than the call is told at once."""
    soon = Refused(codes.RATE_LIMITED, {"quota": "calls"}, retry_after_s=0.05)
    with scripted([soon, OK]) as seen, client(seen.address) as points:
        points.transfer_points(transfer(1))
    late = Refused(codes.OTP_ISSUE_LIMIT, {"limit": "3"}, retry_after_s=3600.0)
    with scripted([late]) as other, client(other.address) as points, pytest.raises(OtpIssueLimit) as caught:
        points.transfer_points(transfer(1))

    assert (2, 1) == (len(seen.requests), len(other.requests))
    assert (3, 3600.0) == (caught.value.limit, caught.value.retry_after_s)


def test_a_call_has_a_deadline_with_all_its_attempts() -> None:
    """A server that says nothing is given up at the deadline; the outcome of a write is open, its id is told."""
    started = time.monotonic()
    with scripted([3.0]) as seen, client(seen.address, timeout_s=0.3) as points:
        with pytest.raises(NotAnswered) as caught:
            points.transfer_points(transfer(1, "mine"))
        took = time.monotonic() - started

    assert 0.3 <= took < 3
    assert GrpcCode.DEADLINE_EXCEEDED is caught.value.grpc_code
    assert (True, "mine", 1) == (caught.value.outcome_open, caught.value.request_id, caught.value.attempts)
    assert 1 == len(seen.requests)


def test_pauses_end_at_the_deadline() -> None:
    """A pause that would outlast the call is not begun."""
    started = time.monotonic()
    with (
        scripted([Refused(codes.RATE_LIMITED, retry_after_s=60.0)]) as seen,
        client(seen.address) as points,
        pytest.raises(RateLimited),
    ):
        points.transfer_points(transfer(1), timeout_s=30.0)

    assert 1 == len(seen.requests)
    assert time.monotonic() - started < 20


def test_nobody_there() -> None:
    """Where nothing listens the client tries until its attempts are used up."""
    with (
        client(f"127.0.0.1:{free_port()}", retries=Retries(attempts_max=3, pause_min_s=0.01)) as points,
        pytest.raises(NotAnswered) as caught,
    ):
        points.transfer_points(transfer(1))

    assert (GrpcCode.UNAVAILABLE, 3) == (caught.value.grpc_code, caught.value.attempts)


def test_what_goes_along() -> None:
    """The token goes with every attempt, and so does the caller's metadata."""
    with scripted([SHED, OK]) as seen, client(seen.address) as points:
        points.transfer_points(transfer(1), metadata=[("x-correlation-id", "abc")])

    assert [("Bearer token", "abc")] * 2 == [(one["authorization"], one["x-correlation-id"]) for one in seen.metadata]


def test_the_asynchronous_client_follows_it_too() -> None:
    """Awaited: the same advice, the same bounds; cancelling the task ends the call and is not repeated."""

    async def run(address: str) -> str:
        async with AsyncPointsClient(address, "token", timeout_s=5, retries=QUICK) as points:
            return (await points.transfer_points(transfer(1))).request_id

    async def give_up(address: str) -> None:
        async with AsyncPointsClient(address, "token", timeout_s=5, retries=QUICK) as points:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(points.transfer_points(transfer(1)), 0.2)

    with scripted([SHED, grpc.StatusCode.UNAVAILABLE, OK]) as seen:
        assert "done" == asyncio.run(run(seen.address))
    assert (3, 1) == (len(seen.requests), len(set(seen.requests)))
    with scripted([1.0]) as silent:
        asyncio.run(give_up(silent.address))
    assert 1 == len(silent.requests)


def test_tls() -> None:
    """With credentials the channel is encrypted; a server that the roots do not vouch for is not spoken to."""
    key, chain = certificate("localhost")
    server = grpc.ssl_server_credentials([(key, chain)])
    with scripted([OK], server) as seen:
        with PointsClient(seen.address, "token", credentials=grpc.ssl_channel_credentials(chain)) as points:
            assert "done" == points.transfer_points(transfer(1)).request_id
        strangers = PointsClient(seen.address, "token", plaintext=False, retries=Retries(attempts_max=1))
        with strangers, pytest.raises(NotAnswered):
            strangers.transfer_points(transfer(1))

    assert 1 == len(seen.requests)


def test_tls_from_files(tmp_path: Path) -> None:
    """Files of the CA, and of the client's own certificate, make credentials; half of a pair does not."""
    authority = Authority(tmp_path)
    server, till = authority.issue("server", localhost()), authority.issue("till")
    pairs = [(server.key.read_bytes(), server.certificate.read_bytes())]
    mutual = grpc.ssl_server_credentials(pairs, authority.file.read_bytes(), require_client_auth=True)
    with scripted([OK], mutual) as seen:
        shown = tls(authority.file, certificate_file=till.certificate, key_file=str(till.key))
        with PointsClient(seen.address, None, credentials=shown) as points:
            assert "done" == points.transfer_points(transfer(1)).request_id
        nameless = PointsClient(seen.address, None, credentials=tls(authority.file), retries=Retries(attempts_max=1))
        with nameless, pytest.raises(NotAnswered):
            nameless.transfer_points(transfer(1))
    with pytest.raises(ValueError, match="comes with its key"):
        tls(authority.file, certificate_file=till.certificate)

    assert [False] == ["authorization" in one for one in seen.metadata]


def test_tokens_of_the_moment() -> None:
    """A function is asked for the token of each attempt, so that one that expired is not sent again."""
    tokens = iter(["first", "second"])
    with scripted([SHED, OK]) as seen, PointsClient(seen.address, lambda: next(tokens), retries=QUICK) as points:
        points.transfer_points(transfer(1))

    assert ["Bearer first", "Bearer second"] == [one["authorization"] for one in seen.metadata]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("localhost", True),
        ("[::1]:50051", True),
        ("::1", True),
        ("dns:///localhost:50051", True),
        ("dns:localhost:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("ipv6:[::1]:1", True),
        ("unix:/run/points.sock", True),
        ("points.example:443", False),
        ("dns:///points.example:443", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("[2001:db8::1]:50051", False),
        ("localhost.example:50051", False),
        ("127.0.0.1.example", False),
    ],
)
def test_plaintext_only_at_home(address: str, expected: bool) -> None:
    """Only an address that never leaves the machine gets plaintext without asking for it."""
    assert expected == is_loopback(address)


def test_no_proxy_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is plaintext because it stays on the machine is not handed to a proxy, which would read the token."""
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def asynchronously(address: str) -> str:
        async with AsyncPointsClient(address, "token", retries=QUICK) as points:
            return (await points.transfer_points(transfer(2))).request_id

    with scripted([OK]) as seen, socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with client(seen.address) as points:
            answers = {points.transfer_points(transfer(1)).request_id, asyncio.run(asynchronously(seen.address))}
        unhealthy = why_not(Probed(seen.address), timeout_s=5)  # the scripted server answers each call alike
        called, _, _ = select.select([proxy], [], [], 0)

    assert ({"done"}, []) == (answers, called)
    assert "no answer" not in unhealthy


def test_contradictions() -> None:
    """Plaintext with credentials, and a call without time, are mistakes of the program."""
    with pytest.raises(ValueError, match="plaintext"):
        PointsClient("localhost:1", "token", credentials=grpc.ssl_channel_credentials(), plaintext=True)
    with client("localhost:1") as points, pytest.raises(ValueError, match="timeout_s"):
        points.transfer_points(transfer(1), timeout_s=0)
