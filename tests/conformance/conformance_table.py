"""What a row of the conformance table is made of: data alone, so that rows can be compared with each other.

Each row has an organisation of its own, so that the same small ids (customers 1 and 2, program 10) serve all of them.
A row says what is done first, what is asked then, and what the answer must be. Texts that start with `$` stand for what
is known only when the row is played: `$mobile:1`, `$code:1` (the last code sent to that number), `$wrong:1`, `$in:60`
and `$ago:60` (times), and whatever an earlier step saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

Fields = Mapping[str, Any]

PROGRAM = 10
"""The program of most rows; the organisation's default one."""


@dataclass(frozen=True)
class Do:
    """A call. `save`: names for parts of the answer. `refused`: the reason that it is refused with, if it is to be."""

    rpc: str
    fields: Fields
    save: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    times: int = 1


@dataclass(frozen=True)
class Elapse:
    """Time passes for the organisation: all that it did moves into the past."""

    seconds: int


@dataclass(frozen=True)
class Wait:
    """Time passes for the server: what it remembers of the organisation is read anew."""

    seconds: int


@dataclass(frozen=True)
class Fault:
    """What is broken when the call is made; the server of test_failures.py knows how."""

    name: str


Step = Do | Elapse | Wait | Fault


class Playing(Protocol):
    """A row that is being played, for expectations that must be worked out."""

    started: datetime

    def read(self, rpc: str, fields: Fields, path: str) -> str:
        """Part of the answer to a question, as text."""
        ...


Expected = str | Callable[[Playing], str]


@dataclass(frozen=True)
class Row:
    """One way to get one code. `caller`: who asks; `raw`: bytes in place of a request; `headers`: more metadata."""

    case: str
    outcome: str
    rpc: str
    request: Fields
    setup: tuple[Step, ...] = ()
    metadata: Mapping[str, Expected] = field(default_factory=dict)
    field: str = ""
    caller: str = "admin"
    raw: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """The documented number."""
        return int(self.outcome.split()[0])

    @property
    def grpc(self) -> str:
        """The gRPC code."""
        return self.outcome.split()[1]

    @property
    def reason(self) -> str:
        """The reason."""
        return self.outcome.split()[2]

    @property
    def name(self) -> str:
        """The row's name among all rows."""
        return f"{self.reason}: {self.case}"

    @property
    def played(self) -> str:
        """What is done and asked, to tell rows apart."""
        return repr((self.setup, self.rpc, self.request, self.caller, self.raw, self.headers))


# -- what rows do


def customer(customer_id: int) -> Fields:
    """A customer by id."""
    return {"type": "ID", "value": str(customer_id)}


def program(program_id: int = PROGRAM, policy: Fields | None = None, **changes: Any) -> Do:
    """Creates a program; the first one is the default."""
    fields = {"program_id": program_id, "name": f"Program {program_id}", **changes}
    return Do("CreateProgram", fields | ({"policy": policy} if policy else {}))


def group(*program_ids: int) -> Do:
    """Groups programs; the first one is the group's default."""
    return Do(
        "CreateProgramGroup",
        {
            "program_group_id": 1,
            "name": "Group",
            "program_ids": list(program_ids),
            "default_program_id": program_ids[0],
        },
    )


def member(customer_id: int, *program_ids: int, mobile: bool = False, **changes: Any) -> Do:
    """Creates a customer who is enrolled: in the usual program unless others are named."""
    fields: dict[str, Any] = {"customer_id": customer_id, "enrolled_program_ids": list(program_ids or (PROGRAM,))}
    if mobile:
        fields["identifiers"] = [{"type": "MOBILE", "value": f"$mobile:{customer_id}"}]
    return Do("CreateCustomer", fields | changes)


def issue(customer_id: int, points: int, source: str = "LOYALTY_PLUS", times: int = 1, **changes: Any) -> Do:
    """Issues points."""
    fields = {"customer_identifier": customer(customer_id), "points": points, "source": source, **changes}
    return Do("IssuePoints", fields, times=times)


def key(name: str, value: str | None) -> Do:
    """Sets a configuration key, or removes it."""
    return Do("SetConfigKey", {"key": name} | ({} if value is None else {"value": value}))


def status(customer_id: int, **changes: str) -> Do:
    """Sets fraud status or status label."""
    return Do("SetCustomerStatus", {"customer_identifier": customer(customer_id), "reason": "test", **changes})


def pause(program_id: int = 0) -> Do:
    """Pauses the organisation or a program."""
    return Do("SetPause", {"program_id": program_id, "paused": True, "reason": "test"})


def end_program(program_id: int = PROGRAM) -> Do:
    """Makes a program inactive."""
    return Do("SetProgramActive", {"program_id": program_id, "active": False, "reason": "test"})


def purchase(customer_id: int, number: str, amount: int = 5000) -> Do:
    """Records a purchase."""
    fields = {"customer_identifier": customer(customer_id), "transaction_number": number, "amount_minor_units": amount}
    return Do("RecordPurchase", fields)


def transfer(points: int = 100, source: int = 1, destination: int = 2, **changes: Any) -> Fields:
    """The fields of a transfer; None leaves one out."""
    fields = {
        "points_to_be_transferred": points,
        "from_customer_identifier": customer(source),
        "to_customer_identifier": customer(destination),
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def redeem(points: int = 100, customer_id: int = 1, **changes: Any) -> Fields:
    """The fields of a redemption; None leaves one out."""
    fields = {"customer_identifier": customer(customer_id), "points": points, **changes}
    return {name: value for name, value in fields.items() if value is not None}


def reverse(customer_id: int = 1, **changes: Any) -> Fields:
    """The fields of a reversal."""
    return {"customer_identifier": customer(customer_id), **changes}


BASE: tuple[Step, ...] = (program(), member(1), member(2), issue(1, 1000))
"""A program, a customer with 1000 points and one without."""


def base(policy: Fields | None = None, **changes: Any) -> tuple[Step, ...]:
    """As `BASE`, with a policy."""
    return (program(policy=policy, **changes), *BASE[1:])


# -- what answers hold


def wallet(part: str, customer_id: int = 1, program_id: int = 0) -> Expected:
    """A figure of a wallet, read on its own."""
    fields = {"customer_identifier": customer(customer_id), "program_id": program_id}
    return lambda playing: playing.read("GetWallet", fields, part)


def less(points: int, expected: Expected) -> Expected:
    """By how much a figure falls short of some points."""
    return lambda playing: str(points - int(expected if isinstance(expected, str) else expected(playing)))


def lot_points(source: str, customer_id: int = 1) -> Expected:
    """The remaining points of a source, added up from the lots."""
    fields = {"customer_identifier": customer(customer_id)}
    return lambda playing: playing.read("ListLots", fields, f"lots[source={source}].remaining")
