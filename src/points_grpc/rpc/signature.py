"""Signed requests (825): who is set to sign shows with each request that moves points that it made it itself.

The order of the checks is nobody's business: a refusal never says which of them failed. A signature stands for one
request: sent again it gets the recorded outcome of its request id, and where none was recorded although the refusal was
meant to last, it is used up (docs/decisions/0040). A batch has many outcomes and one signature: that works once at a
time, and is used up by the answer. Nothing here knows a rule about points.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from points_grpc import codes
from points_grpc.codes import GrpcCode
from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.ports import Metadata

KEY_ID_KEY = "x-points-key-id"
TIMESTAMP_KEY = "x-points-timestamp"
SIGNATURE_KEY = "x-points-signature"

WINDOW_S = 300
"""How far the time of a signature may lie from the server's, either way."""

SPENT_MAX = 4096
"""How many used-up signatures of a key are remembered; beyond, the window of that key is cut short instead."""

BATCH = "Batch"
"""What the name of a batch RPC starts with; the rest is the RPC whose requests it takes."""

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"v1=[0-9a-f]{64}")
_REFUSED = Refused(codes.CLIENT_SIGNATURE_REQUIRED)


def moves_points(operation: str) -> bool:
    """Whether an RPC must be signed by those who are set to sign: the catalogue says which, batches included."""
    return operation.removeprefix(BATCH) in codes.CLIENT_SIGNATURE_REQUIRED.operations


def signature_of(secret: bytes, method: str, timestamp: str, request: bytes) -> str:
    """The signature of a request: `method` as in points.v1.PointsService/TransferPoints, the request as it travels."""
    text = "\n".join((method, timestamp, sha256(request).hexdigest()))
    return "v1=" + hmac.digest(secret, text.encode(), "sha256").hex()


@dataclass(slots=True)
class _Spent:
    """The signatures of one key that must not work again, by their time; `floor`: what is no later is refused."""

    by_time: dict[int, set[str]] = field(default_factory=dict)
    count: int = 0
    floor: int = 0

    def has(self, at: int, signature: str) -> bool:
        """Whether a signature is used up, or so old that nobody remembers."""
        return at <= self.floor or signature in self.by_time.get(at, ())

    def add(self, at: int, signature: str, now: int) -> None:
        """Remembers a signature. Forgets what is outside the window; if that is not enough, the oldest second."""
        for old in [one for one in self.by_time if one < now - WINDOW_S]:
            self._forget(old)
        if self.count >= SPENT_MAX:
            oldest = min(self.by_time)
            self.floor = max(self.floor, oldest)
            self._forget(oldest)
        known = self.by_time.setdefault(at, set())
        self.count += signature not in known
        known.add(signature)

    def _forget(self, at: int) -> None:
        self.count -= len(self.by_time.pop(at))


class Signatures:
    """Judges the signatures of calls. One for a server; it is used by the event loop alone."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        """`clock` tells the time in UTC."""
        self._clock = clock
        self._spent: dict[str, _Spent] = {}
        self._running: set[tuple[str, int, str]] = set()

    def judge(self, call: Call, metadata: Metadata, request: bytes) -> Refused | None:
        """825 for a call that had to be signed and is not, or not rightly. Notes the signature on the call."""
        caller = call.known_caller
        if not caller.signs or not moves_points(call.operation):
            return None
        given = {
            key: [value for name, value in metadata if name == key]
            for key in (KEY_ID_KEY, TIMESTAMP_KEY, SIGNATURE_KEY)
        }
        timestamp, signature = _one(given[TIMESTAMP_KEY], _TIMESTAMP), _one(given[SIGNATURE_KEY], _SIGNATURE)
        if caller.signing_secret is None or timestamp is None or signature is None:
            return _REFUSED
        expected = signature_of(caller.signing_secret, call.method, timestamp, request)
        if given[KEY_ID_KEY] != [caller.key_id] or not hmac.compare_digest(expected, signature):
            return _REFUSED
        signed_at = int(timestamp)
        if abs(self._clock().timestamp() - signed_at) > WINDOW_S:
            return _REFUSED
        spent = self._spent.get(caller.key_id)
        if spent is not None and spent.has(signed_at, signature):
            return _REFUSED
        if call.operation.startswith(BATCH):
            running = (caller.key_id, signed_at, signature)
            if running in self._running:
                return _REFUSED
            self._running.add(running)
        call.signature, call.signed_at = signature, signed_at
        return None

    def settle(self, call: Call) -> None:
        """At the end of a signed call: uses its signature up, unless sending it again is harmless or what is asked."""
        if not call.signature:
            return
        key_id = call.known_caller.key_id
        self._running.discard((key_id, call.signed_at, call.signature))
        batch_answered = call.grpc is GrpcCode.OK and call.operation.startswith(BATCH)
        if call.refused_for_good or batch_answered:
            spent = self._spent.setdefault(key_id, _Spent())
            spent.add(call.signed_at, call.signature, int(self._clock().timestamp()))


def _one(values: list[str | bytes], allowed: re.Pattern[str]) -> str | None:
    """The only value, if there is exactly one and it has the form."""
    if len(values) != 1 or not isinstance(values[0], str) or not allowed.fullmatch(values[0]):
        return None
    return values[0]
