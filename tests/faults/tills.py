"""Callers who write down what they saw, for the judge of histories: what they sent when, and what the answer said.

A few callers work on a few wallets, so that they meet. What the death of a process leaves open is sent again under its
request id until it is settled; some writes are sent twice at once, and both answers must be one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from callers import RECONNECT
from google.protobuf.json_format import ParseDict
from history import Operation, Refused, Seen, Wallet
from shop import PROGRAM, transfer_fields

from points_grpc.v1 import (
    issuance_service_pb2,
    issuance_service_pb2_grpc,
    points_service_pb2,
    points_service_pb2_grpc,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)
from running import Details

OPEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What the death of a process may leave a caller with: the request id settles it."""

TOO_FEW = {817, 818}
"""The refusals that name the balance by which they were decided."""

DEEDS = {"transfer": 45, "check": 20, "read": 15, "redeem": 12, "issue": 8}
POINTS_MAX, ISSUED_MAX = 60, 90
TWICE = 0.05
"""How many writes are sent twice at once."""

PAUSE_S = 0.05
TIMEOUT_S = 20.0
PATIENCE_S = 120.0
"""How long a caller tries to settle what is open before the test fails."""


class Surprise(AssertionError):
    """An answer that nobody should get."""


class Tills:
    """Callers on the same few wallets, and the history of what they saw."""

    def __init__(self, address: str, token: str, wallets: Sequence[Wallet], *, callers: int, seed: int) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._address = address
        self._wallets = wallets
        self._chance = random.Random(seed)
        self._prefix = f"till-{seed}"
        self._callers = callers
        self._left = 0
        self.operations: list[Operation] = []
        self.written: list[tuple[int, int]] = []
        """When writes that were acknowledged were sent and answered, on the monotonic clock."""
        self.counts: Counter[str] = Counter()

    async def run(self, count: int) -> None:
        """Makes so many calls, from all callers at once."""
        self._left = count
        await asyncio.gather(*(self._call_all() for _ in range(self._callers)))

    async def look(self) -> dict[Wallet, tuple[int, int]]:
        """Reads every wallet: version and balance."""
        before = len(self.operations)
        async with grpc.aio.insecure_channel(self._address, RECONNECT) as channel:
            for wallet in self._wallets:
                await self._read(channel, f"look-{len(self.operations)}", wallet)
        seen = (operation.seen[0] for operation in self.operations[before:])
        return {one.wallet: (one.version, one.current) for one in seen}

    async def _call_all(self) -> None:
        async with grpc.aio.insecure_channel(self._address, RECONNECT) as channel:
            while self._left > 0:
                self._left -= 1
                [deed] = self._chance.choices([*DEEDS], [*DEEDS.values()])
                await self._call(channel, deed, f"{self._prefix}-{self._left}")

    async def _call(self, channel: grpc.aio.Channel, deed: str, name: str) -> None:
        one, other = self._chance.sample(self._wallets, 2)
        points = self._chance.randint(1, POINTS_MAX)
        stub = points_service_pb2_grpc.PointsServiceStub(channel)
        match deed:
            case "read":
                await self._read(channel, name, one)
            case "check":
                check = ParseDict(transfer_fields(one, other, points, ""), points_service_pb2.CheckTransferRequest())
                await self._note(stub.CheckTransfer, check, name, planned={one: -points, other: points})
            case "transfer":
                request = ParseDict(
                    transfer_fields(one, other, points, name), points_service_pb2.TransferPointsRequest()
                )
                await self._note(stub.TransferPoints, request, name, changes={one: -points, other: points})
            case "redeem":
                redemption = ParseDict(_fields(one, points, name), points_service_pb2.RedeemPointsRequest())
                await self._note(stub.RedeemPoints, redemption, name, changes={one: -points})
            case _:
                points = self._chance.randint(1, ISSUED_MAX)
                fields = {**_fields(one, points, name), "source": "GOODWILL"}
                issue = ParseDict(fields, issuance_service_pb2.IssuePointsRequest())
                issuance = issuance_service_pb2_grpc.IssuanceServiceStub(channel)
                await self._note(issuance.IssuePoints, issue, name, changes={one: points})

    async def _read(self, channel: grpc.aio.Channel, name: str, wallet: Wallet) -> None:
        stub = wallet_service_pb2_grpc.WalletServiceStub(channel)
        fields = {"customerIdentifier": {"type": "ID", "value": str(wallet)}, "programId": str(PROGRAM)}
        await self._note(stub.GetWallet, ParseDict(fields, wallet_service_pb2.GetWalletRequest()), name)

    async def _note(
        self,
        method: Any,
        request: Any,
        name: str,
        *,
        changes: Mapping[Wallet, int] | None = None,
        planned: Mapping[Wallet, int] | None = None,
    ) -> None:
        """Calls until the outcome is known, and writes down what was seen of what it `changes`, or `planned` to."""
        times = 2 if changes and self._chance.random() < TWICE else 1
        sent = time.monotonic_ns()
        answers = await asyncio.gather(*(self._settled(method, request) for _ in range(times)))
        answered = min(at for at, _ in answers)
        first, *again = [_content(answer) for _, answer in answers]
        if any(one != first for one in again):
            raise Surprise(f"{name} was answered with {first} and with {again}")
        answer = answers[0][1]
        self.counts[f"{request.DESCRIPTOR.name} {'refused' if isinstance(answer, Details) else 'accepted'}"] += 1
        self.counts["sent twice at once"] += len(again)
        if isinstance(answer, Details):
            if answer.number not in TOO_FEW:
                raise Surprise(f"{name}: {answer.code.name} {answer.message}")
            source = next(iter(changes or planned or {}))
            refused = Refused(source, int(answer.info.metadata["current"]))
            self.operations.append(Operation(name, sent, answered, refused=refused))
            return
        if changes:
            self.written.append((sent, answered))
        self.operations.append(Operation(name, sent, answered, tuple(_seen(answer, changes, planned))))

    async def _settled(self, method: Any, request: Any) -> tuple[int, Any]:
        """The answer, and when it came; what is open is asked again."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = await method(request, metadata=self._metadata, timeout=TIMEOUT_S)
                return time.monotonic_ns(), answer
            except grpc.aio.AioRpcError as error:
                if error.code() not in OPEN:
                    return time.monotonic_ns(), Details(error)
                if time.monotonic() > give_up:
                    raise Surprise(f"still open: {error.code().name} {error.details()}") from error
                self.counts["open, sent again"] += 1
            await asyncio.sleep(PAUSE_S)


def _seen(answer: Any, changes: Mapping[Wallet, int] | None, planned: Mapping[Wallet, int] | None) -> Sequence[Seen]:
    """The wallets of an answer. A plan shows them as they would be: one version on, and its points moved."""
    if planned is not None:
        return [
            Seen(one.customer_id, one.wallet_version - 1, one.current - planned[one.customer_id])
            for one in answer.wallets_after
        ]
    if changes is None:
        return [Seen(answer.wallet.customer_id, answer.wallet.wallet_version, answer.wallet.current)]
    return [Seen(one.customer_id, one.wallet_version, one.current, changes[one.customer_id]) for one in answer.wallets]


def _content(answer: Any) -> Any:
    """What an answer says, but for whether it was said before."""
    if isinstance(answer, Details):
        metadata = {key: value for key, value in answer.info.metadata.items() if key != "replayed"}
        return answer.number, answer.message, metadata
    copied = type(answer)()
    copied.CopyFrom(answer)
    if "replayed" in copied.DESCRIPTOR.fields_by_name:
        copied.ClearField("replayed")
    return copied


def _fields(customer: Wallet, points: int, request_id: str) -> dict[str, Any]:
    return {
        "customerIdentifier": {"type": "ID", "value": str(customer)},
        "programId": str(PROGRAM),
        "points": str(points),
        "requestId": request_id,
    }
