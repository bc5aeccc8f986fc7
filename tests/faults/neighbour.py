"""Somebody else on the same server: every call is to succeed, with the right answer, whatever others are doing."""

from __future__ import annotations

import threading
import time
import uuid

import grpc
from google.protobuf.json_format import ParseDict
from shop import PROGRAM

from points_grpc.v1 import issuance_service_pb2
from running import Caller, RunningServer

CALL_S = 20.0
"""A call is answered by then, however few cores the machine has."""

PAUSE_S = 0.1
"""Before a call is sent again, as callers are told to."""


class Neighbour(threading.Thread):
    """Issues one point after another over a channel of its own, and compares each answer.

    What the server ended unseen it sends again, as every caller has to (`repeated`); that is part of what it waits.
    """

    def __init__(self, server: RunningServer, token: str, customer: int, *, pause_s: float = 0.002) -> None:
        super().__init__(daemon=True)
        self._caller = Caller(server.address, token)
        self._customer = customer
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self.count = 0
        self.repeated = 0
        self.wrong: list[str] = []
        self.times_s: list[float] = []

    def run(self) -> None:
        while not self._stopped.wait(self._pause_s):
            self.issue()

    def issue(self) -> None:
        """Issues a point."""
        fields = {"customerIdentifier": {"type": "ID", "value": str(self._customer)}, "programId": str(PROGRAM)}
        fields |= {"points": "1", "source": "LOYALTY_PLUS"}
        request = ParseDict(fields, issuance_service_pb2.IssuePointsRequest(request_id=uuid.uuid4().hex))
        started = time.monotonic()
        try:
            answer = self._answer(request)
        except grpc.RpcError as error:
            self.wrong.append(f"{error.code().name} {error.details()}")
        else:
            self.times_s.append(time.monotonic() - started)
            self.count += 1
            if answer.wallets[0].current != self.count:
                self.wrong.append(f"{answer.wallets[0].current} points after {self.count} issues")

    def _answer(self, request: issuance_service_pb2.IssuePointsRequest) -> issuance_service_pb2.IssuePointsResponse:
        until = time.monotonic() + CALL_S
        while True:
            try:
                return self._caller.issuance.IssuePoints(request, metadata=self._caller.metadata, timeout=CALL_S)
            except grpc.RpcError as error:
                if (
                    error.code() is not grpc.StatusCode.CANCELLED
                    or error.trailing_metadata()
                    or time.monotonic() > until
                ):
                    raise
                self.repeated += 1
                time.sleep(PAUSE_S)

    def taken(self) -> list[float]:
        """How long each call took that ended since this was asked before."""
        found, self.times_s = self.times_s, []
        return found

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()
        self.join()
        self._caller.close()
