"""Every field of every request malformed in turn, generated from the descriptors, over a loopback channel.

Whatever a field holds, the answer is coded, names that field if it is the field's fault, and never says that something
broke on our side; and what is refused leaves no row behind, except the record of a refusal that is final.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from conformance_player import METHODS, Play, make_orgs
from conformance_table import BASE, Do, Row, customer, group, program, purchase, redeem, transfer
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from running import Details, RunningServer, refused

ONE = {"customer_identifier": customer(1)}
POLICY = {
    "redemption": {
        "enabled": True,
        "point_value": {"numerator": 1, "denominator": 1, "currency_code": "INR"},
        "categories": [{"name": "Main", "redeemable": True}],
    },
    "transfer": {
        "enabled": True,
        "barred_sources": {"sources": ["REGISTRATION"]},
        "velocity_limits": [{"direction": "OUT", "window": "TODAY", "points_max": 100_000}],
    },
    "otp": {"channels": ["MOBILE"]},
}

WELL_FORMED: Mapping[str, Mapping[str, Any]] = {
    "CheckTransfer": transfer(1),
    "IssueTransferOtp": transfer(1),
    "TransferPoints": transfer(1),
    "CheckRedemption": redeem(1),
    "IssueRedemptionOtp": redeem(1),
    "RedeemPoints": redeem(1),
    "AuthorizeRedemption": redeem(1),
    "CaptureRedemption": {"hold_id": "$hold"},
    "ReleaseRedemption": {"hold_id": "$hold"},
    "ReverseTransfer": {"transfer_id": "$transfer", "shortfall": "UP_TO_AVAILABLE", "reason": "x"},
    "ReverseRedemption": {**ONE, "transaction_number": "BILL-1"},
    "IssuePoints": {**ONE, "points": 1, "source": "GOODWILL"},
    "ReturnTransaction": {
        **ONE,
        "transaction_number": "$redemption",
        "items": [{"redemption_id": "$redemption", "points_to_be_reversed": 1, "customer_identifier": customer(1)}],
    },
    "BatchTransferPoints": {"requests": [transfer(1)]},
    "BatchRedeemPoints": {"requests": [redeem(1)]},
    "BatchIssuePoints": {"requests": [{**ONE, "points": 1, "source": "GOODWILL"}]},
    "AdjustPoints": {**ONE, "points": 1, "reason": "x"},
    "GetWallet": ONE,
    "ListTransfers": ONE,
    "TraceLot": {"lot_id": "$lot"},
    "WatchWallet": ONE,
    "WatchTransactions": {},
    "ExportJournal": {"after": {"positions": [{"stream": 0, "position": 0}]}},
    "ListLots": ONE,
    "ListTransactions": ONE,
    "ListWallets": {},
    "ListLiveLots": {},
    "ListJournalTransactions": {"since": "2020-01-01T00:00:00Z", "until": "2040-01-01T00:00:00Z"},
    "GetTransaction": {"request_id": "nothing"},
    "CreateCustomer": {"first_name": "A", "identifiers": [{"type": "EXTERNAL_ID", "value": "E-1"}]},
    "GetCustomer": ONE,
    "ListCustomers": {},
    "EnrolCustomer": ONE,
    "SetCustomerStatus": {**ONE, "fraud_status": "NOT_FRAUD", "reason": "x"},
    "SetTransferLock": {**ONE, "reason": "x"},
    "RecordPurchase": {**ONE, "transaction_number": "BILL-2"},
    "MergeCustomers": {
        "victim_customer_identifier": customer(7),
        "survivor_customer_identifier": customer(8),
        "reason": "x",
    },
    "RecordMissedCall": {"mobile_number": "$mobile:3"},
    "ExportCustomerData": ONE,
    "EraseCustomer": {"customer_identifier": customer(9), "forfeit_points": True, "reason": "x"},
    "CreateProgram": {"name": "Another", "policy": POLICY},
    "GetProgram": {},
    "ListPrograms": {},
    "CreateProgramGroup": {"name": "Another", "program_ids": ["$fresh"], "default_program_id": "$fresh"},
    "SetPolicy": {"policy": POLICY},
    "GetPolicy": {},
    "SetConfigKey": {"key": "SOMETHING", "value": "x"},
    "ListConfigKeys": {},
    "ListAuditEvents": {},
    "SetPause": {"program_id": 11, "paused": True, "reason": "x"},
    "SetProgramActive": {"program_id": 12, "active": False, "reason": "x"},
    "ListCodes": {},
    "GetServerInfo": {},
}
"""A request of each RPC that is well formed; what is not set in it is left to the server. `$fresh`: a new program."""

TOGETHER = (
    {"redemption_id", "external_reference_number", "transaction_number"},
    {"transaction_id", "request_id"},
    {"since", "until"},
    {"program_ids", "default_program_id"},
)
"""Fields that are judged together (exactly one of them, one among the other): a refusal may name either."""

HOLD = Do("AuthorizeRedemption", redeem(1), {"hold": "hold_id"})
FRESH = {
    "CreateProgramGroup": (Do("CreateProgram", {"name": "Fresh"}, {"fresh": "program.program_id"}),),
    "CaptureRedemption": (HOLD,),
    "ReleaseRedemption": (HOLD,),
    "ReverseTransfer": (Do("TransferPoints", transfer(1), {"transfer": "data[0].transfer_id"}),),
    "ReturnTransaction": (Do("RedeemPoints", redeem(1), {"redemption": "redemption_id"}),),
    "TraceLot": (Do("ListLots", ONE, {"lot": "lots[0].lot_id"}),),
}
"""What a well-formed request uses up."""

LENIENT = {
    "the bill of a redemption is ignored where the policy is lenient (873)": {
        ("RedeemPoints", "transaction_number"),
        ("CheckRedemption", "transaction_number"),
        ("AuthorizeRedemption", "transaction_number"),
    },
    "the server gives these": {
        (rpc, f"policy.{name}") for rpc in ("CreateProgram", "SetPolicy") for name in ("revision", "created_at")
    },
}
IGNORED = frozenset().union(*LENIENT.values())
"""Fields that are not refused, whatever they hold."""

UNARY = {
    "BatchTransferPoints": "TransferPoints",
    "BatchRedeemPoints": "RedeemPoints",
    "BatchIssuePoints": "IssuePoints",
}
"""What is malformed in an item of a batch is the outcome of that item: the status that the unary call gives."""

IN_BATCH, IN_RETURN = "requests[0].", "items[0]."
"""Where items lie. What is malformed in one of a return is a warning that names it, and the return is booked."""

RETURN_IS_BOOKED = {"returns": 1, "requests": 1}

NEVER = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"}
TOO_MANY = "1,001 elements"
LONG = "x" * 100_000
CONTROLS = "a\x00b\x1fc"
NO_TIMES = ({"seconds": 2**62}, {"seconds": -(2**62)}, {"nanos": -1}, {"nanos": 2_000_000_000})


@dataclass(frozen=True)
class Malformed:
    """A field, and what is put into it. `must`: it can never be accepted."""

    path: str
    what: str
    value: Any
    must: bool


def fields_of(message: Descriptor, at: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field of a message with its path, those of the messages in it too; lists by their first element."""
    for field in message.fields:
        path = f"{at}{field.name}"
        yield path, field
        if field.message_type is not None and field.message_type.full_name != "google.protobuf.Timestamp":
            yield from fields_of(field.message_type, f"{path}[0]." if field.is_repeated else f"{path}.")


def malformed(rpc: str) -> Iterator[Malformed]:
    """Every field of the requests of an RPC, malformed in every way that its type knows."""
    for path, field in fields_of(METHODS[rpc][1].DESCRIPTOR):
        yield Malformed(path, "absent", None, must=False)
        for what, value, must in values_for(field):
            named = (UNARY.get(rpc, rpc), path.removeprefix(IN_BATCH))
            yield Malformed(path, what, value, must and named not in IGNORED)


def values_for(field: FieldDescriptor) -> Iterator[tuple[str, Any, bool]]:
    """What can be put into a field, and whether it must be refused."""
    if field.is_repeated and field.enum_type is None:
        yield TOO_MANY, 1001, True
    if field.enum_type is not None:
        yield "wrong number", 99, True
        yield "negative number", -1, True
    elif field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Timestamp":
            yield from (("out of range", one, True) for one in NO_TIMES)
        else:
            yield "empty", {}, False
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        yield "empty", "", False
        yield "100,000 characters", LONG, True
        yield "control characters", CONTROLS, True
    elif field.cpp_type in {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_INT32}:
        high = 2**63 - 1 if field.cpp_type == FieldDescriptor.CPPTYPE_INT64 else 2**31 - 1
        yield "zero", 0, False
        yield "negative", -1, True
        yield "lowest", -high - 1, True
        yield "highest", high, False


def put(message: Message, one: Malformed) -> None:
    """Puts the value into the field; lists on the way get an element if they have none."""
    *way, last = one.path.split(".")
    at: Any = message
    for step in way:
        name, is_list, _ = step.partition("[")
        at = getattr(at, name)
        if is_list:
            at = at[0] if at else at.add()
    field = at.DESCRIPTOR.fields_by_name[last]
    at.ClearField(last)
    if one.value is None:
        return
    if field.is_repeated:
        fill(getattr(at, last), field, one)
    elif field.message_type is not None:
        getattr(at, last).SetInParent()
        for name, value in one.value.items():
            setattr(getattr(at, last), name, value)
    else:
        setattr(at, last, one.value)


def fill(elements: Any, field: FieldDescriptor, one: Malformed) -> None:
    """Puts a malformed element into a list, or too many well-formed ones."""
    too_many = one.what == TOO_MANY
    for number in range(one.value if too_many else 1):
        if field.message_type is not None:
            elements.add()
        elif not too_many:
            elements.append(one.value)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            elements.append(str(number))
        else:
            elements.append(number + 1)


def rows_in(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Play]]:
    """A server, and an organisation in which the well-formed requests find what they name."""
    server = RunningServer(tmp_path_factory.mktemp("malformed"), "--otp-sender", "console")
    [org] = make_orgs(server, [Row("malformed", "0 OK -", "", {})])
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        play = Play(server, channel, org)
        play.do((*BASE, program(11), program(12), group(12), purchase(1, "BILL-1")))
        yield server, play
    server.close()


def test_every_rpc_has_a_well_formed_request() -> None:
    """What this file mutates is every request of the service."""
    assert METHODS.keys() == WELL_FORMED.keys()


@pytest.mark.parametrize("rpc", UNARY)
def test_malformed_item_among_others(rpc: str, world: tuple[RunningServer, Play]) -> None:
    """The outcome at its place names the field as the unary call does; the items around it are done."""
    _, play = world
    [item] = WELL_FORMED[rpc]["requests"]
    items = [{**item, "notes": f"item {number}"} for number in range(5)]
    items[3] = {**item, "notes": "n" * 501}
    answer = play.ask(rpc, {"requests": items})
    found = Details.of_item(answer.outcomes[3].status)
    with refused() as unary:
        play.ask(UNARY[rpc], items[3])

    kinds = [one.WhichOneof("outcome") for one in answer.outcomes]
    assert ["response", "response", "response", "status", "response"] == kinds
    assert (unary[0].code, unary[0].message, unary[0].payload) == (found.code, found.message, found.payload)
    assert ["notes"] == [one.field for one in found.bad_request.field_violations]


@pytest.mark.parametrize("rpc", METHODS)
def test_malformed(rpc: str, world: tuple[RunningServer, Play]) -> None:
    """Any field of the request malformed in any way: a coded answer that names it, and nothing written."""
    server, play = world
    wrong = []
    for one in malformed(rpc):
        play.do(FRESH.get(rpc, ()))
        message = play.request(rpc, WELL_FORMED[rpc])
        put(message, one)
        before = rows_in(server.path)
        try:
            answer, _ = play.ask_raw(rpc, message.SerializeToString())
        except grpc.RpcError as error:
            problem = problem_of(one, Details(error), before, rows_in(server.path))
        else:
            problem = problem_of_answer(rpc, one, answer, before, rows_in(server.path))
        if problem:
            wrong.append(f"{one.path} {one.what}: {problem}")

    assert [] == wrong


def problem_of_answer(
    rpc: str, one: Malformed, answer: Any, before: Mapping[str, int], after: Mapping[str, int]
) -> str:
    """What is wrong with an answer that was given; of an item that was refused, what is wrong with its outcome."""
    if one.path.startswith(IN_BATCH):
        [outcome] = answer.outcomes
        if outcome.WhichOneof("outcome") == "status":
            inside = replace(one, path=one.path.removeprefix(IN_BATCH))
            return problem_of(inside, Details.of_item(outcome.status), before, after)
    if one.path.startswith(IN_RETURN) and answer.warnings:
        named = [warning.field for warning in answer.warnings]
        written = written_between(before, after)
        return "" if (named, written) == (["items[0]"], RETURN_IS_BOOKED) else f"warned of {named}, wrote {written}"
    return "accepted" if one.must else ""


def written_between(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """How many rows each table gained, of those that changed."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def problem_of(one: Malformed, found: Details, before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """What is wrong with a refusal; empty if nothing is."""
    if found.code.name in NEVER or not found.payload.errors:
        return f"{found.code.name} {found.message}"
    item = found.payload.errors[0]
    if found.code.name == "INVALID_ARGUMENT":
        named = [violation.field for violation in found.bad_request.field_violations]
        if not any(belongs(one.path, name) for name in named):
            return f"{item.code} {item.reason} names {named}"
    elif one.must and not belongs(one.path, item.field):
        return f"{item.code} {item.reason} names {item.field}"
    written = written_between(before, after)
    final = found.code.name in {"FAILED_PRECONDITION", "NOT_FOUND"}
    if written and not (final and written == {"requests": 1}):
        return f"{item.code} {item.reason} wrote {written}"
    return ""


def belongs(path: str, named: str) -> bool:
    """Whether a violation is about a field: itself, what it is part of, or a part of it; `a[0]` is `a`."""
    one, other = path.replace("[0]", ""), named.replace("[0]", "")
    if any({one, other} <= fields for fields in TOGETHER):
        return True
    return one == other or one.startswith(f"{other}.") or other.startswith((f"{one}.", f"{one}["))
