"""A watch as a client follows it: where it stands, what the next call asks for, whether there is one.

Both clients drive the same `Following`; only they send and wait. Rules of this file: the place is that of the last
message taken, so that a watch that is cut goes on behind it, without a gap and without a repetition; what the service
refuses ends the watch, what merely cuts it does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, cast

import grpc
from google.protobuf.message import Message

from points_grpc.client.calls import Answer, Attempts, Credential, Failed, Metadata, Method
from points_grpc.client.errors import NotSent
from points_grpc.client.retries import Retries
from points_grpc.v1 import wallet_service_pb2 as pb

SILENCE_S = 60.0
"""How long attempts may bring nothing before a watch gives up."""

CALL_S = 300.0
"""How long one call of a watch lasts; another one follows, so that a server that hangs is noticed."""

_LATE = grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass(frozen=True, slots=True)
class Watched(Generic[Answer]):
    """What is watched. `note` moves the request behind a message, and says whether that was more than a bookmark."""

    method: Method[Answer]
    request: Message
    note: Callable[[Answer], bool]


def a_wallet(request: pb.WatchWalletRequest) -> Watched[pb.WatchWalletResponse]:
    """A wallet, by its version."""
    asked = pb.WatchWalletRequest()
    asked.CopyFrom(request)

    def note(message: pb.WatchWalletResponse) -> bool:
        asked.after_version = message.wallet_version
        return message.HasField("transaction")

    return Watched(Method("/points.v1.WalletService/WatchWallet", pb.WatchWalletResponse, writes=False), asked, note)


def all_transactions(request: pb.WatchTransactionsRequest | None) -> Watched[pb.WatchTransactionsResponse]:
    """The journal of the organisation, by the token of a place in it."""
    asked = pb.WatchTransactionsRequest()
    if request is not None:
        asked.CopyFrom(request)

    def note(message: pb.WatchTransactionsResponse) -> bool:
        asked.resume_token, asked.from_beginning = message.resume_token, False
        return message.HasField("transaction")

    return Watched(
        Method("/points.v1.WalletService/WatchTransactions", pb.WatchTransactionsResponse, writes=False), asked, note
    )


class Following(Generic[Answer]):
    """One watch, through as many calls as it takes."""

    def __init__(
        self,
        watched: Watched[Answer],
        *,
        credential: Credential,
        retries: Retries,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        """`timeout_s`: for how long to watch; None for as long as the caller likes."""
        if timeout_s is not None and timeout_s <= 0:
            raise ValueError("timeout_s: more than 0")
        self.path = watched.method.path
        self._watched = watched
        self._credential = credential
        self._retries = retries
        self._metadata = tuple(metadata)
        self._silent_since = time.monotonic()
        self._ends_at = None if timeout_s is None else self._silent_since + timeout_s
        self._is_begun = False
        self._heard = 0
        self._got_on = False
        self._taken_at: float | None = None
        self._attempts = self._attempts_after(0)

    def ask(self) -> None:
        """The caller wants the next message: as long as it was busy with the last one, nobody was silent."""
        if self._taken_at is not None:
            self._silent_since += time.monotonic() - self._taken_at
            self._taken_at = None

    def start(self) -> tuple[bytes, float, Metadata]:
        """The next call: what it sends, how long it may take, and its metadata."""
        if not self._is_begun:  # before, nobody was asked, and so nobody was silent
            self._is_begun, self._silent_since = True, time.monotonic()
        self._heard, self._got_on = 0, False
        return self._attempts.raw, max(min(CALL_S, self._left_s()), 0.001), self._attempts.metadata()

    def take(self, raw: bytes) -> Answer:
        """A message; the watch stands behind it now. The first one of a call brings nothing: it is a bookmark."""
        message = self._watched.method.answer.FromString(raw)
        self._heard += 1
        self._taken_at = time.monotonic()
        self._got_on = self._watched.note(message) or self._heard > 1 or self._got_on
        return message

    def pause_s(self, error: grpc.RpcError | None) -> float | None:
        """How long to wait before the next call, after one that ended; None if the watch is over. Raises if it failed.

        `error` is None where a call ended in good order, which is not for the service to do: something between did it.
        """
        if self._got_on:
            self._silent_since = time.monotonic()
        self._attempts = self._attempts_after(1 if self._got_on else self._attempts.made)
        if error is not None and not (self._heard and cast("Failed", error).code() is _LATE):
            return self._attempts.pause_s(error, was_cut=self._heard > 0)
        if self._left_s() <= 0:
            return None
        return self._retries.pause_min_s if self._got_on else self._retries.pause_max_s

    def closed(self) -> NotSent:
        """There is no next call, since the client is closed."""
        return self._attempts.closed()

    def _attempts_after(self, made: int) -> Attempts:
        """The attempts that follow as many that brought nothing."""
        silence_s = self._silent_since + SILENCE_S - time.monotonic()
        return Attempts(
            self._watched.method,
            self._watched.request,
            credential=self._credential,
            retries=self._retries,
            timeout_s=max(min(silence_s, self._left_s()), 0.001),
            metadata=self._metadata,
            made=made,
        )

    def _left_s(self) -> float:
        """How long the caller wants to watch yet."""
        return float("inf") if self._ends_at is None else self._ends_at - time.monotonic()
