"""Signed requests: what a right signature is, which calls need one, and how often it works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from test_refusal import details
from test_render import TRANSFER
from wire_fakes import NOW
from wire_requests import check_transfer, redeem_points, set_pause, transfer_points
from wire_server import Seen, World, on_server, path_of

from points_grpc import codes
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Accepted, Refused
from points_grpc.rpc import signature as signing
from points_grpc.rpc.call import Call, Caller, Role
from points_grpc.rpc.server import SERVICES
from points_grpc.rpc.signature import Signatures, moves_points, signature_of
from points_grpc.v1 import points_service_pb2

SECRET = b"5" * 64
SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
MANAGER = (("authorization", "Bearer manager"),)


def signed(message: Message, **changes: Any) -> tuple[tuple[str, str], ...]:
    """The metadata of a signed request; None leaves a part out."""
    values = {"method": path_of(message)[1:], "at": int(NOW.timestamp()), "raw": message.SerializeToString(), **changes}
    timestamp = str(values["at"])
    parts = {
        "x-points-key-id": changes.get("key_id", "k1"),
        "x-points-timestamp": changes.get("timestamp", timestamp),
        "x-points-signature": changes.get(
            "signature", signature_of(values.get("secret", SECRET), values["method"], timestamp, values["raw"])
        ),
    }
    return (*MANAGER, *((key, value) for key, value in parts.items() if value is not None))


def calls(*made: tuple[Message, tuple[tuple[str, str], ...]], outcomes: Sequence[Any] = ()) -> list[Seen]:
    """What a client that is set to sign sees of some calls; `outcomes`: what comes of each that gets through."""

    async def run(world: World) -> list[Seen]:
        world.identity.signing_secret = SECRET
        world.submitter.outcome = Accepted(TRANSFER)
        seen = []
        for index, (message, metadata) in enumerate(made):
            if outcomes:
                world.submitter.outcome = outcomes[index]
            seen.append(await world.call(message, metadata))
        return seen

    return on_server(run)


def test_the_documented_example() -> None:
    """The example of docs/security.md is what the server computes, and its request is the documented transfer."""
    example = SECURITY.read_text().partition("<!-- example: signature -->\n```\n")[2].partition("```")[0]
    values = dict(re.findall(r"^(\w+) +((?:\S+\n? +)*\S+)$", example, re.MULTILINE))
    request = bytes.fromhex(re.sub(r"\s", "", values["request"]))

    assert values["sha256"] == sha256(request).hexdigest()
    assert values["signature"] == signature_of(
        values["secret"].encode(), values["method"], values["timestamp"], request
    )
    assert 1000 == points_service_pb2.TransferPointsRequest.FromString(request).points_to_be_transferred


REFUSED: dict[str, tuple[tuple[str, str], ...]] = {
    "absent": MANAGER,
    "without key id": signed(transfer_points(), key_id=None),
    "key id of another": signed(transfer_points(), key_id="k2"),
    "without time": signed(transfer_points(), timestamp=None),
    "without signature": signed(transfer_points(), signature=None),
    "another secret": signed(transfer_points(), secret=b"6" * 64),
    "another method": signed(transfer_points(), method="points.v1.PointsService/RedeemPoints"),
    "a slash before the method": signed(transfer_points(), method="/points.v1.PointsService/TransferPoints"),
    "another request": signed(transfer_points(), raw=transfer_points().SerializeToString() + b"\x08\x01"),
    "another time": signed(transfer_points(), timestamp=str(int(NOW.timestamp()) + 1)),
    "too old": signed(transfer_points(), at=int(NOW.timestamp()) - 301),
    "too new": signed(transfer_points(), at=int(NOW.timestamp()) + 301),
    "no number": signed(transfer_points(), timestamp="now"),
    "a fraction of a second": signed(transfer_points(), timestamp="1773576000.0"),
    "another version": signed(transfer_points(), signature="v2=" + "0" * 64),
    "no digits": signed(transfer_points(), signature="v1=" + "z" * 64),
    "twice": (*signed(transfer_points()), signed(transfer_points())[-1]),
}


@pytest.mark.parametrize("metadata", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_rightly_signed(metadata: tuple[tuple[str, str], ...]) -> None:
    """A signature that is absent, wrong or outside the window is refused with 825, and nothing says why."""
    [seen] = calls((transfer_points(), metadata))

    assert (grpc.StatusCode.UNAUTHENTICATED, "CLIENT_SIGNATURE_REQUIRED", {}) == (seen.code, seen.reason, seen.metadata)


@pytest.mark.parametrize("late_s", [-300, 0, 300])
def test_within_the_window(late_s: int) -> None:
    """A right signature is accepted up to 300 seconds before and after its time."""
    [seen] = calls((transfer_points(), signed(transfer_points(), at=int(NOW.timestamp()) + late_s)))

    assert grpc.StatusCode.OK is seen.code


def test_what_moves_no_points_needs_none() -> None:
    """A check and a pause pass without a signature, a redemption does not."""
    seen = calls(
        (check_transfer(), MANAGER),
        (set_pause(), MANAGER),
        (redeem_points(), MANAGER),
        outcomes=[Refused(codes.TRANSFER_INSUFFICIENT_POINTS), Refused(codes.PROGRAM_NOT_CONFIGURED), None],
    )

    expected = ["TRANSFER_INSUFFICIENT_POINTS", "PROGRAM_NOT_CONFIGURED", "CLIENT_SIGNATURE_REQUIRED"]
    assert expected == [one.reason for one in seen]


def test_who_signs_names_the_request() -> None:
    """A signed request needs a request id; the signature is judged before."""
    message = transfer_points()
    message.ClearField("request_id")
    seen = calls((message, MANAGER), (message, signed(message)))

    assert ["CLIENT_SIGNATURE_REQUIRED", "REQUEST_ID_REQUIRED"] == [one.reason for one in seen]


def test_items_of_who_signs_name_their_requests() -> None:
    """Each item of a signed batch needs a request id of its own, whoever else leaves it out."""
    batch = points_service_pb2.BatchTransferPointsRequest(requests=[transfer_points(), transfer_points()])
    batch.requests[1].ClearField("request_id")

    async def run(world: World) -> tuple[Seen, list[str]]:
        world.identity.signing_secret = SECRET
        world.submitter.outcome = Accepted(TRANSFER)
        seen = await world.call(batch, signed(batch))
        return seen, [one.request_id for one, _ in world.submitter.submitted]

    seen, handed_over = on_server(run)
    answer = points_service_pb2.BatchTransferPointsResponse.FromString(seen.answer)

    assert [transfer_points().request_id] == handed_over
    assert ["response", "status"] == [one.WhichOneof("outcome") for one in answer.outcomes]
    assert "REQUEST_ID_REQUIRED" == details(answer.outcomes[1].status)["google.rpc.ErrorInfo"].reason


def test_the_signature_is_judged_before_the_shape() -> None:
    """Bytes that are no message are refused for their missing signature first, and for their form if signed."""

    async def run(world: World) -> list[str]:
        world.identity.signing_secret = SECRET
        path, raw = path_of(transfer_points()), b"\xff\xff\xff"
        return [
            (await world.call_raw(path, raw, MANAGER)).reason,
            (await world.call_raw(path, raw, signed(transfer_points(), raw=raw))).reason,
        ]

    assert ["CLIENT_SIGNATURE_REQUIRED", "TRANSFER_VALIDATION_FAILED"] == on_server(run)


AGAIN = (
    # what the first call comes to, and whether the same signature works again
    ("accepted", Accepted(TRANSFER), True),
    ("recorded refusal", Refused(codes.TRANSFER_INSUFFICIENT_POINTS), True),
    ("unavailable", refusal_of(Failure.OVERLOADED, "TransferPoints"), True),
    ("unknown", refusal_of(Failure.OUTCOME_UNKNOWN, "TransferPoints"), True),
    ("configuration", Refused(codes.FRAUD_CHECK_CONFIG_INVALID), False),
    ("unknown program", Refused(codes.TRANSFER_INVALID_PROGRAM_ID), False),
    ("reused id", Refused(codes.TRANSFER_DUPLICATE_REQUEST, {"cause": "REQUEST_ID_REUSED"}), False),
)


@pytest.mark.parametrize(("first", "works"), [row[1:] for row in AGAIN], ids=[row[0] for row in AGAIN])
def test_again(first: Any, *, works: bool) -> None:
    """The same signature works again unless its call was refused for good and without a record."""
    one = (transfer_points(), signed(transfer_points()))
    seen = calls(one, one, outcomes=[first, Accepted(TRANSFER)])

    assert ("OK" if works else "UNAUTHENTICATED") == seen[1].code.name


def test_signed_anew_it_works() -> None:
    """After a signature was used up, the same request works with the next second's signature."""
    later = signed(transfer_points(), at=int(NOW.timestamp()) + 1)
    seen = calls(
        (transfer_points(), signed(transfer_points())),
        (transfer_points(), later),
        outcomes=[Refused(codes.FRAUD_CHECK_CONFIG_INVALID), Accepted(TRANSFER)],
    )

    assert grpc.StatusCode.OK is seen[1].code


def test_without_the_secret_nobody_signs_rightly() -> None:
    """Where the key that the secret derives from is lost, every signature is refused, also one with an empty key."""

    async def run(world: World) -> list[Seen]:
        world.identity.signs = True
        found = [signed(transfer_points()), signed(transfer_points(), secret=b"")]
        return [await world.call(transfer_points(), metadata) for metadata in found]

    assert ["CLIENT_SIGNATURE_REQUIRED"] * 2 == [one.reason for one in on_server(run)]


# -- the memory of used-up signatures


class Signer:
    """Signs calls and has them refused for good, as the gate would."""

    def __init__(self) -> None:
        self.now = NOW
        self.signatures = Signatures(lambda: self.now)

    def attempt(self, number: int, at_s: int = 0, operation: str = "TransferPoints", **outcome: Any) -> bool:
        """Whether the signature of a request was right; the call then ends as said, refused for good by default."""
        call = self.begin(number, at_s, operation)
        if call is None:
            return False
        self.end(call, **{"refused_for_good": True, **outcome})
        return True

    def begin(self, number: int, at_s: int = 0, operation: str = "TransferPoints") -> Call | None:
        """A call that was let in, and goes on; None if its signature was refused."""
        call = Call(f"points.v1.PointsService/{operation}", operation)
        call.caller = Caller(1, "till", "k1", Role.OPERATOR, "IN", signs=True, signing_secret=SECRET)
        raw, timestamp = b"%d" % number, str(int(NOW.timestamp()) + at_s)
        metadata = (
            ("x-points-key-id", "k1"),
            ("x-points-timestamp", timestamp),
            ("x-points-signature", signature_of(SECRET, call.method, timestamp, raw)),
        )
        return None if self.signatures.judge(call, metadata, raw) else call

    def end(self, call: Call, **outcome: Any) -> None:
        """Ends a call as said."""
        for name, value in outcome.items():
            setattr(call, name, value)
        self.signatures.settle(call)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound the memory forgets the oldest second and refuses all of it: nothing forgotten works again."""
    monkeypatch.setattr(signing, "SPENT_MAX", 8)
    signer = Signer()
    for number in range(8):
        assert signer.attempt(number, at_s=number // 4)
    assert signer.attempt(8, at_s=2)

    assert [False] * 9 == [signer.attempt(number, at_s=min(number // 4, 2)) for number in range(9)]
    assert not signer.attempt(99, at_s=0)
    assert signer.attempt(99, at_s=1)
    assert 8 >= signer.signatures._spent["k1"].count


def test_what_left_the_window_is_forgotten() -> None:
    """Signatures outside the window take no room: they are refused for their time."""
    signer = Signer()
    signer.attempt(1)
    signer.now += timedelta(seconds=301)
    signer.attempt(2, at_s=301)

    assert {int(NOW.timestamp()) + 301} == set(signer.signatures._spent["k1"].by_time)
    assert not signer.attempt(1)


def test_an_answered_batch_uses_its_signature_up() -> None:
    """A batch has one signature for many outcomes: its answer uses it up, an open outcome does not."""
    signer = Signer()
    batch = {"operation": "BatchTransferPoints", "refused_for_good": False}

    assert [True, True] == [signer.attempt(1, **batch, grpc=codes.GrpcCode.UNAVAILABLE) for _ in range(2)]
    assert [True, False] == [signer.attempt(1, **batch, grpc=codes.GrpcCode.OK) for _ in range(2)]


def test_a_batch_is_not_sent_again_while_it_runs() -> None:
    """The signature of a batch works once at a time: not beside itself, and again only if nothing was answered."""
    signer = Signer()
    first = signer.begin(1, operation="BatchTransferPoints")
    beside = signer.begin(1, operation="BatchTransferPoints")
    assert first is not None
    signer.end(first, grpc=codes.GrpcCode.UNAVAILABLE)
    again = signer.begin(1, operation="BatchTransferPoints")
    assert again is not None
    signer.end(again, grpc=codes.GrpcCode.OK)

    assert beside is None
    assert signer.begin(1, operation="BatchTransferPoints") is None


def test_a_single_call_may_be_sent_again_while_it_runs() -> None:
    """A retry beside a call that lost its connection is let in: its request id waits for the outcome."""
    signer = Signer()

    assert None not in [signer.begin(1), signer.begin(1)]


def test_the_operations_that_move_points() -> None:
    """What must be signed are the writes of points and their batches, and nothing else."""
    found = {method.name for service in SERVICES for method in service.methods if moves_points(method.name)}

    assert {"TransferPoints", "RedeemPoints", "ReverseRedemption", "IssuePoints"} <= found
    assert not found & {"CheckTransfer", "IssueTransferOtp", "GetWallet", "SetPause"}
    assert moves_points("BatchIssuePoints")
    assert not moves_points("BatchNothing")
