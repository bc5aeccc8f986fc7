"""An export of the journal as a client gets it: pieces that end with a whole entry, through as many calls as it takes.

Both clients drive the same `Export`; only they send and wait. Whatever cuts a call (a network, a server that stops, a
deadline), the next one goes on behind the last piece, so that the pieces joined are one file.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from points_grpc.client.calls import Attempts, Credential, Method
from points_grpc.client.retries import Retries
from points_grpc.v1 import wallet_service_pb2 as pb

METHOD = Method("/points.v1.WalletService/ExportJournal", pb.ExportJournalResponse, writes=False)

TIMEOUT_S = 60.0
"""How long one call of an export may take. One that got on is followed by another."""


class Export:
    """What came so far, and the attempts at the rest."""

    def __init__(
        self,
        request: pb.ExportJournalRequest | None,
        *,
        credential: Credential,
        retries: Retries,
        timeout_s: float | None,
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        """`timeout_s` bounds the attempts that bring nothing, and each that does."""
        self._request = pb.ExportJournalRequest()
        if request is not None:
            self._request.CopyFrom(request)
        self._credential = credential
        self._retries = retries
        self._timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
        self._metadata = metadata
        self._part = b""
        self._got_on = False
        self.attempts = self._new_attempts()

    def take(self, raw: bytes) -> pb.ExportJournalResponse | None:
        """The piece that a message completes; None if it ends in the midst of an entry."""
        message = pb.ExportJournalResponse.FromString(raw)
        data, self._part = self._part + message.data, b""
        if not message.HasField("reached"):
            self._part = data
            return None
        self._request.after.CopyFrom(message.reached)
        self._got_on = True
        return pb.ExportJournalResponse(data=data, reached=message.reached)

    def pause_s(self, error: grpc.RpcError) -> float:
        """How long to wait before the next attempt. Raises if there is none: the last one brought nothing."""
        self._part = b""
        if not self._got_on:
            return self.attempts.pause_s(error)
        self._got_on, self.attempts = False, self._new_attempts()
        return self._retries.pause_min_s

    def _new_attempts(self) -> Attempts:
        return Attempts(
            METHOD,
            self._request,
            credential=self._credential,
            retries=self._retries,
            timeout_s=self._timeout_s,
            metadata=self._metadata,
        )
