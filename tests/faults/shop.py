"""What the fault tests set up over the wire, and how they look at what is left: an organisation, customers, a judge.

The judge asks the database file on a read-only connection of its own: no code of the service stands between.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict

from points_grpc.storage import verify as storage_verify
from points_grpc.storage.engine import Database
from points_grpc.v1 import customer_service_pb2, issuance_service_pb2, program_service_pb2
from running import Caller, RunningServer

PROGRAM = 973
FIRST_CUSTOMER = 800_000_001
AT_ONCE = 64
"""How many calls of the set-up are on their way at once."""


class Shop:
    """A program with customers who have points, in an organisation of a running server."""

    def __init__(self, server: RunningServer, token: str) -> None:
        self.server = server
        self.token = token
        self.customers: list[int] = []
        self.issued = 0
        caller = Caller(server.address, token)
        request = program_service_pb2.CreateProgramRequest()
        caller.ask(caller.programs.CreateProgram, request, {"programId": str(PROGRAM), "name": "Shop"})
        caller.close()

    def add_customers(self, count: int, lots: Sequence[int] = (), mobile: str = "") -> list[int]:
        """New members, each with lots of so many points that expire a day apart; with mobiles if a prefix is given."""
        first = FIRST_CUSTOMER + len(self.customers)
        added = list(range(first, first + count))
        caller = Caller(self.server.address, self.token)
        _all(caller, caller.customers.CreateCustomer, (_customer(one, mobile) for one in added))
        issues = [_issue(one, points, days) for one in added for days, points in enumerate(lots, start=1)]
        _all(caller, caller.issuance.IssuePoints, issues)
        caller.close()
        self.customers += added
        self.issued += count * sum(lots)
        return added


class Judge:
    """Reads the file of a database that a server has open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query, as of now."""
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def number(self, query: str, *values: object) -> int:
        """The one number of a query."""
        [(number,)] = self.rows(query, *values)
        return int(number)

    def transfers(self) -> dict[str, list[int]]:
        """The transfer ids that the journal holds for each request id."""
        found: dict[str, list[int]] = {}
        for request_id, transfer_id in self.rows("SELECT request_id, transaction_id FROM transactions WHERE kind = 2"):
            found.setdefault(request_id, []).append(transfer_id)
        return found

    def points(self) -> tuple[int, int, int]:
        """All points there are: by the wallets, by the lots, by the postings of wallets."""
        return (
            self.number("SELECT coalesce(sum(current), 0) FROM wallets"),
            self.number("SELECT coalesce(sum(remaining), 0) FROM lots"),
            self.number("SELECT coalesce(sum(points), 0) FROM postings WHERE account = 1"),
        )

    def below_zero(self) -> int:
        """How many wallets, lots and balances after a posting are below zero."""
        return self.number(
            "SELECT (SELECT count(*) FROM wallets WHERE current < 0) + (SELECT count(*) FROM lots WHERE remaining < 0)"
            " + (SELECT count(*) FROM postings WHERE balance_after < 0)"
        )


def verify(server: RunningServer) -> str:
    """What `points-grpc verify` says of the server's database, in a process of its own, while the server runs."""
    command = [sys.executable, "-m", "points_grpc", "verify", "--database", server.database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    told = [line for line in done.stderr.splitlines() if not line.endswith(" so far")]  # on a slow machine
    return "\n".join([*done.stdout.splitlines()[-1:], *told])


def differences(server: RunningServer) -> list[Any]:
    """What the same check finds in this process: quicker, for tests that ask often."""
    database = Database(server.database)
    try:
        return list(storage_verify.verify(database).differences)
    finally:
        database.close()


def transfer_fields(source: int, destination: int, points: int, request_id: str, **given: Any) -> dict[str, Any]:
    """The documented JSON of a transfer."""
    return {
        "pointsToBeTransferred": str(points),
        "programId": str(PROGRAM),
        "fromCustomerIdentifier": {"type": "ID", "value": str(source)},
        "toCustomerIdentifier": {"type": "ID", "value": str(destination)},
        "requestId": request_id,
        **given,
    }


def _customer(customer_id: int, mobile: str) -> Any:
    fields: dict[str, Any] = {"customerId": str(customer_id), "enrolledProgramIds": [str(PROGRAM)]}
    if mobile:
        fields["identifiers"] = [{"type": "MOBILE", "value": f"{mobile}{customer_id % 10**7:07}"}]
    return _parsed(customer_service_pb2.CreateCustomerRequest(), fields)


def _issue(customer_id: int, points: int, days: int) -> Any:
    fields = {
        "customerIdentifier": {"type": "ID", "value": str(customer_id)},
        "programId": str(PROGRAM),
        "points": str(points),
        "source": "LOYALTY_PLUS",
        "expiresInDays": 30 + days,
    }
    return _parsed(issuance_service_pb2.IssuePointsRequest(), fields)


def _parsed(request: Any, fields: Mapping[str, Any]) -> Any:
    return ParseDict(dict(fields), request)


def _all(caller: Caller, method: Any, requests: Iterable[Any]) -> None:
    """Calls a method for all requests, some at once, each of which must be accepted."""
    waiting: list[Any] = []
    for request in requests:
        waiting.append(method.future(request, metadata=caller.metadata, timeout=30))
        if len(waiting) == AT_ONCE:
            waiting.pop(0).result()
    for one in waiting:
        one.result()
