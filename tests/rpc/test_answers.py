"""Answers to questions: what is asked of whom, what comes back, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from test_render import (
    AT,
    AT_JSON,
    BALANCES,
    BALANCES_JSON,
    CUSTOMER,
    CUSTOMER_JSON,
    LATER,
    LATER_JSON,
    LOT,
    PARTIES,
    PROGRAM,
    SHARES,
    SHARES_JSON,
)
from wire_fakes import NOW, FakeFacts, FakeReads
from wire_requests import MOBILE, may_answer

from points_grpc import codes
from points_grpc.codes import CATALOGUE, Code
from points_grpc.domain import model as m
from points_grpc.domain.outcome import Accepted, DoneResult, Refused
from points_grpc.domain.policy import Policy
from points_grpc.domain.views import (
    AuditRow,
    EnrolledCustomer,
    JournalRow,
    LotTrace,
    PersonalRecord,
    ReferredEntry,
    SentMessage,
    TracedLot,
    TransferView,
    WalletView,
)
from points_grpc.rpc.answers import Answers
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.pages import Pages
from points_grpc.rpc.self_description import SelfDescription
from points_grpc.service.ports import RequestRecord
from points_grpc.v1 import (
    catalog_service_pb2,
    customer_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)

CALLER = Caller(org_id=1, client="till", key_id="k1", role=Role.READER, default_region="IN")
IDENTIFIER = m.Identifier(m.IdentifierType.MOBILE, "+919148574269")
BOOK = m.ProgramBook(
    org_id=1,
    version=1,
    default_region="IN",
    default_program_id=973,
    paused=False,
    programs={973: PROGRAM, 12: msgspec.structs.replace(PROGRAM, program_id=12, active=False)},
    groups={},
)


def entry(transaction_id: int) -> JournalRow:
    return JournalRow(
        m.JournalEntry(
            transaction_id=transaction_id,
            kind=m.Kind.TRANSFER,
            created_at=AT,
            customer_id=11,
            counterparty_id=12,
            program_id=973,
            points=100,
            request_id="r-1",
            actor="till",
            notes="a note",
            policy_revision=9,
            postings=(
                m.Posting(m.Account.WALLET, 11, 973, 7, -100, 4, 0),
                m.Posting(m.Account.CLEARING, 0, 973, 0, 100, 0, 0),
            ),
        ),
        stream=1,
        position=55,
    )


ENTRY_JSON = {
    "transaction_id": "99",
    "kind": "TRANSFER",
    "created_at": AT_JSON,
    "customer_id": "11",
    "counterparty_id": "12",
    "program_id": "973",
    "points": "100",
    "request_id": "r-1",
    "actor": "till",
    "notes": "a note",
    "policy_revision": "9",
    "stream": 1,
    "position": "55",
    "postings": [
        {
            "account": "WALLET",
            "customer_id": "11",
            "program_id": "973",
            "lot_id": "7",
            "points": "-100",
            "wallet_version": "4",
        },
        {"account": "CLEARING", "program_id": "973", "points": "100"},
    ],
}


def record(outcome: Accepted | Refused) -> RequestRecord:
    return RequestRecord("r-1", "TransferPoints", "k", {}, outcome, AT)


TRACED = ((3, m.Kind.ISSUE), (9, m.Kind.MERGE))
ListTransfers = wallet_service_pb2.ListTransfersRequest
TraceLot = wallet_service_pb2.TraceLotRequest


class World:
    """A small world, and who answers questions about it."""

    def __init__(self) -> None:
        self.reads = FakeReads(BOOK)
        self.reads.customers[IDENTIFIER] = (CUSTOMER, (973, 974))
        self.answers = Answers(self.reads, Pages(lambda: (b"k" * 16,)), lambda: NOW)
        self.description = SelfDescription(FakeFacts(), Limits(), lambda: NOW)

    def ask(self, name: str, message: Message, caller: Caller = CALLER) -> Any:
        owner = self.answers if hasattr(self.answers, name) else self.description
        return asyncio.run(getattr(owner, name)(message, caller))


def shown(answer: Message) -> dict[str, Any]:
    return MessageToDict(answer, preserving_proto_field_name=True)


# -- wallets


def test_wallet() -> None:
    """A wallet shows balances, lifetimes and what expires when, in the default program where none is named."""
    world = World()
    world.reads.wallet_view = WalletView(BALANCES[0], 500, 60, 7, ((LATER, 30),), AT)

    answer = world.ask("get_wallet", wallet_service_pb2.GetWalletRequest(customer_identifier=MOBILE))

    assert shown(answer) == {
        "wallet": BALANCES_JSON[0],
        "lifetime_earned": "500",
        "lifetime_received": "60",
        "lifetime_purchases": "7",
        "expiries": [{"expires_at": LATER_JSON, "points": "30"}],
        "read_time": AT_JSON,
    }
    assert world.reads.asked == [
        ("customer", 1, IDENTIFIER),
        ("program_book", 1),
        ("wallet", 1, m.WalletKey(11, 973), PROGRAM.policy.transfer.barred_sources, NOW),
    ]


def lots(count: int) -> list[m.Lot]:
    """Lots in spending order: some expire at the same instant, some never."""
    return [
        msgspec.structs.replace(
            LOT,
            lot_id=number,
            expires_at=LATER + timedelta(days=number // 2) if number < count - 2 else None,
            awarded_at=AT + timedelta(microseconds=number),
        )
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
def test_pages_of_lots(size: int) -> None:
    """The pages of a list hold every lot once, in order, and the last one has no token."""
    world = World()
    world.reads.lot_list = lots(7)
    request = wallet_service_pb2.ListLotsRequest(customer_identifier=MOBILE, page_size=size)
    found: list[int] = []
    pages = 0
    while True:
        answer = world.ask("list_lots", request)
        found += [one.lot_id for one in answer.lots]
        pages += 1
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token

    assert found == [1, 2, 3, 4, 5, 6, 7]
    assert pages == -(-7 // size)


def test_pages_of_transactions() -> None:
    """The pages of the journal hold every transaction once, newest first."""
    world = World()
    world.reads.journal = [entry(number) for number in (99, 55, 54, 3, 1)]
    request = wallet_service_pb2.ListTransactionsRequest(customer_identifier=MOBILE, page_size=2)
    found: list[int] = []
    while True:
        answer = world.ask("list_transactions", request)
        found += [one.transaction_id for one in answer.transactions]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token

    assert found == [99, 55, 54, 3, 1]
    assert world.reads.asked[1] == ("transactions", 1, 11, 0, 0, 2)
    assert world.reads.asked[3] == ("transactions", 1, 11, 0, 55, 2)


def transfer(number: int, *, given: bool) -> TransferView:
    return TransferView(number, 11, 12, 973, 1000, AT, "a note", SHARES, given)


def test_transfers() -> None:
    """Transfers are shown as the customer sees them, with the names and the program's name of today."""
    world = World()
    world.reads.transfer_list = [transfer(7, given=True), transfer(5, given=False)]
    world.reads.names = {one.customer_id: one for one in PARTIES}

    answer = world.ask("list_transfers", ListTransfers(customer_identifier=MOBILE, program_id=973))

    expected = {
        "to_entity_id": "12",
        "to_entity_type": "CUSTOMER",
        "from_entity_id": "11",
        "from_entity_type": "CUSTOMER",
        "points_transfer_date": AT_JSON,
        "points_transferred": "1000",
        "transfer_id": "7",
        "transfer_type": "DEDUCTION",
        "transferred_from": {"user_id": "11", "first_name": "Ada", "last_name": "L", "external_id": "crm-11"},
        "transferred_to": {"user_id": "12", "first_name": "Bob"},
        "notes": "a note",
        "program_name": PROGRAM.name,
        "points_transfer_breakup_by_earning_programs": SHARES_JSON,
    }
    assert shown(answer) == {"transfers": [expected, expected | {"transfer_id": "5", "transfer_type": "ADDITION"}]}
    assert world.reads.asked[1] == ("transfers", 1, 11, 973, 0, 51)


def test_pages_of_transfers() -> None:
    """The pages hold every transfer once, newest first."""
    world = World()
    world.reads.transfer_list = [transfer(number, given=True) for number in (99, 55, 54, 3, 1)]
    request = ListTransfers(customer_identifier=MOBILE, page_size=2)
    found: list[int] = []
    while True:
        answer = world.ask("list_transfers", request)
        found += [one.transfer_id for one in answer.transfers]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token

    assert found == [99, 55, 54, 3, 1]


def test_trace() -> None:
    """A trace shows the lot, what it came from and what was drawn from it, and counts the rest."""
    world = World()
    up, down = (TracedLot(msgspec.structs.replace(LOT, lot_id=one), kind, AT) for one, kind in TRACED)
    world.reads.traces[7] = LotTrace(TracedLot(LOT, m.Kind.TRANSFER, LATER), (up,), (down,), 3)

    answer = world.ask("trace_lot", TraceLot(lot_id=7))

    assert ("trace", 1, 7, 1000, NOW) == world.reads.asked[-1]
    assert [("7", "TRANSFER", LATER_JSON), ("3", "ISSUE", AT_JSON), ("9", "MERGE", AT_JSON)] == [
        (one["lot"]["lot_id"], one["kind"], one["opened_at"])
        for one in (shown(answer.lot), *shown(answer)["ancestors"], *shown(answer)["descendants"])
    ]
    assert 3 == answer.omitted


AUDIT = [AuditRow(number, AT, "till", "SetPause", "org", "false", "true", "night") for number in (9, 7, 4)]


def test_audit_events_in_pages() -> None:
    """The audit log comes newest first, in pages that go on after the last line shown."""
    world = World()
    world.reads.audit = AUDIT
    request = program_service_pb2.ListAuditEventsRequest(subject="org", page_size=2)

    first = world.ask("list_audit_events", request)
    request.page_token = first.next_page_token
    second = world.ask("list_audit_events", request)

    assert [9, 7, 4] == [one.audit_id for one in (*first.audit_events, *second.audit_events)]
    assert "" == second.next_page_token
    assert [("audit_events", 1, "org", 0, 3), ("audit_events", 1, "org", 7, 3)] == world.reads.asked
    assert {
        "audit_id": "9",
        "changed_at": AT_JSON,
        "actor": "till",
        "action": "SetPause",
        "subject": "org",
        "before": "false",
        "after": "true",
        "reason": "night",
    } == MessageToDict(first.audit_events[0], preserving_proto_field_name=True)


@pytest.mark.parametrize(("at", "asked"), [(NOW - timedelta(seconds=1), "wallet_as_of"), (NOW, "wallet")])
def test_wallet_at_a_read_time(at: datetime, asked: str) -> None:
    """The past is asked of the journal, the present and the future of what stands."""
    world = World()
    world.reads.wallet_view = WalletView(BALANCES[0], 0, 0, 0, (), at)
    request = wallet_service_pb2.GetWalletRequest(customer_identifier=MOBILE)
    request.read_time.FromDatetime(at)

    world.ask("get_wallet", request)

    assert (asked, at) == (world.reads.asked[-1][0], world.reads.asked[-1][-1])


@pytest.mark.parametrize(("size", "limit"), [(0, 101), (1000, 1001)])
def test_page_sizes(size: int, limit: int) -> None:
    """A page has 100 lots where no size is given, and at most 1000."""
    world = World()

    world.ask("list_lots", wallet_service_pb2.ListLotsRequest(customer_identifier=MOBILE, page_size=size))

    assert world.reads.asked[-1][4] == limit


# -- what became of a command


def test_transaction_by_id() -> None:
    """A journal transaction is shown whole."""
    world = World()
    world.reads.journal = [entry(99)]

    answer = world.ask("get_transaction", wallet_service_pb2.GetTransactionRequest(transaction_id=99))

    assert shown(answer) == {"state": "ACCEPTED", "transaction": ENTRY_JSON}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, {"state": "NOT_RECORDED"}),
        (
            Accepted(DoneResult(), transaction_id=99),
            {"state": "ACCEPTED", "transaction": ENTRY_JSON, "operation": "TransferPoints"},
        ),
        (Accepted(DoneResult()), {"state": "ACCEPTED", "operation": "TransferPoints"}),
        (
            Refused(codes.TRANSFER_INSUFFICIENT_POINTS, {"points": "5", "current": "3", "short_by": "2"}),
            {
                "state": "REFUSED",
                "refusal": {
                    "status": False,
                    "code": 817,
                    "reason": "TRANSFER_INSUFFICIENT_POINTS",
                    "message": "Redemption failed due to insufficient points or configuration",
                    "metadata": {"points": "5", "current": "3", "short_by": "2"},
                },
                "operation": "TransferPoints",
            },
        ),
    ],
)
def test_what_became_of_a_command(outcome: Accepted | Refused | None, expected: dict[str, Any]) -> None:
    """A request id settles what became of its command: accepted, refused for good, or nothing recorded."""
    world = World()
    world.reads.journal = [entry(99)]
    if outcome is not None:
        world.reads.records["r-1"] = record(outcome)

    answer = world.ask("get_transaction", wallet_service_pb2.GetTransactionRequest(request_id="r-1"))

    assert shown(answer) == expected


# -- customers and programs


def test_customer() -> None:
    """A customer is shown with identifiers, statuses and enrolments."""
    answer = World().ask("get_customer", customer_service_pb2.GetCustomerRequest(customer_identifier=MOBILE))

    assert shown(answer) == {"customer": CUSTOMER_JSON}


PERSONAL: tuple[tuple[PersonalRecord, dict[str, Any]], ...] = (
    (EnrolledCustomer(CUSTOMER, (973, 974)), {"customer": CUSTOMER_JSON}),
    (
        m.Wallet(m.WalletKey(11, 973), 4, 90, 10, 5, 100, 20, 12_345, AT, LATER),
        {
            "wallet": {
                "customer_id": "11",
                "program_id": "973",
                "current": "90",
                "lifetime_earned": "100",
                "lifetime_received": "20",
                "lifetime_purchases": "12345",
                "enrolled_at": AT_JSON,
            }
        },
    ),
    (
        ReferredEntry(entry(99), "REF-1"),
        {"transaction": {"transaction": ENTRY_JSON, "external_reference_number": "REF-1"}},
    ),
    (
        m.Purchase("BILL-1", 11, 973, 0),
        {
            "purchase": {
                "transaction_number": "BILL-1",
                "customer_id": "11",
                "program_id": "973",
                "amount_minor_units": "0",
            }
        },
    ),
    (
        m.Purchase("BILL-2", 11, 973, None),
        {
            "purchase": {
                "transaction_number": "BILL-2",
                "customer_id": "11",
                "program_id": "973",
            }
        },
    ),
    (
        m.Return("BILL-1", 11, 500, 5, AT, "r-1", "till", "torn"),
        {
            "purchase_return": {
                "transaction_number": "BILL-1",
                "customer_id": "11",
                "amount_minor_units": "500",
                "points": "5",
                "returned_at": AT_JSON,
                "notes": "torn",
            }
        },
    ),
    (
        m.MissedCall(7, 11, "+919148574269", AT, AT, 99),
        {
            "missed_call": {
                "customer_id": "11",
                "mobile_number": "+919148574269",
                "called_at": AT_JSON,
                "used_by_transaction_id": "99",
            }
        },
    ),
    (
        SentMessage(11, "MOBILE", "+919148574269", "DELIVERED", AT),
        {
            "message": {
                "customer_id": "11",
                "channel": "MOBILE",
                "target": "+919148574269",
                "state": "DELIVERED",
                "created_at": AT_JSON,
            }
        },
    ),
)


def test_what_is_kept_about_a_person() -> None:
    """Each kind of record has its message, and the pages go on where the one before ended."""
    world = World()
    world.reads.personal = [one for one, _ in PERSONAL]
    request = customer_service_pb2.ExportCustomerDataRequest(customer_identifier=MOBILE, page_size=3)
    found: list[dict[str, Any]] = []
    for _ in range(3):
        page = world.ask("export_customer_data", request)
        found += shown(page)["records"]
        request.page_token = page.next_page_token

    assert [one for _, one in PERSONAL] == found
    assert "" == request.page_token


def test_programs() -> None:
    """Programs are listed by id, and the default one is marked."""
    world = World()

    listed = world.ask("list_programs", program_service_pb2.ListProgramsRequest())
    read = world.ask("get_program", program_service_pb2.GetProgramRequest())

    assert [(one.program_id, one.active, one.default_program) for one in listed.programs] == [
        (12, False, False),
        (973, True, True),
    ]
    assert read.program == listed.programs[1]


def test_policy() -> None:
    """A policy is shown in the revision asked for."""
    world = World()
    world.reads.policies[(973, 2)] = (Policy(revision=2), AT)

    answer = world.ask("get_policy", program_service_pb2.GetPolicyRequest(revision=2))

    assert (answer.policy.revision, answer.policy.otp.length) == (2, 6)


def test_config_keys() -> None:
    """Configuration keys are listed as raw text."""
    world = World()
    world.reads.config = {"ALLOW_POINTS_TRANSFER": "TRUE "}

    answer = world.ask("list_config_keys", program_service_pb2.ListConfigKeysRequest())

    assert dict(answer.config_keys) == {"ALLOW_POINTS_TRANSFER": "TRUE "}


# -- refusals

GetWallet = wallet_service_pb2.GetWalletRequest
ListLots = wallet_service_pb2.ListLotsRequest
ListAuditEvents = program_service_pb2.ListAuditEventsRequest
ListTransactions = wallet_service_pb2.ListTransactionsRequest
GetTransaction = wallet_service_pb2.GetTransactionRequest
GetCustomer = customer_service_pb2.GetCustomerRequest
ExportCustomerData = customer_service_pb2.ExportCustomerDataRequest
OTHER = type(MOBILE)(type=MOBILE.type, value="9148574260")
BAD = type(MOBILE)(type=MOBILE.type, value="x")

REFUSALS: tuple[tuple[str, Message, Code, str], ...] = (
    *(
        (name, build(customer_identifier=given), code, field)
        for name, build in (
            ("get_wallet", GetWallet),
            ("list_lots", ListLots),
            ("list_transactions", ListTransactions),
            ("list_transfers", ListTransfers),
            ("get_customer", GetCustomer),
            ("export_customer_data", ExportCustomerData),
        )
        for given, code, field in (
            (OTHER, codes.CUSTOMER_NOT_FOUND, "customer_identifier.value"),
            (BAD, codes.FIELD_INVALID, "customer_identifier.value"),
            (None, codes.FIELD_INVALID, "customer_identifier"),
        )
    ),
    ("get_wallet", GetWallet(customer_identifier=MOBILE, program_id=5), codes.PROGRAM_NOT_CONFIGURED, "program_id"),
    ("get_wallet", GetWallet(customer_identifier=MOBILE, program_id=-5), codes.PROGRAM_NOT_CONFIGURED, "program_id"),
    (
        "get_wallet",
        GetWallet(customer_identifier=MOBILE, read_time={"seconds": 10**15}),
        codes.FIELD_INVALID,
        "read_time",
    ),
    ("list_audit_events", ListAuditEvents(page_size=201), codes.FIELD_INVALID, "page_size"),
    ("list_audit_events", ListAuditEvents(subject="x" * 201), codes.FIELD_INVALID, "subject"),
    ("list_audit_events", ListAuditEvents(page_token="x"), codes.PAGE_TOKEN_INVALID, "page_token"),
    ("list_lots", ListLots(customer_identifier=MOBILE, program_id=5), codes.PROGRAM_NOT_CONFIGURED, "program_id"),
    ("list_lots", ListLots(customer_identifier=MOBILE, page_size=-1), codes.FIELD_INVALID, "page_size"),
    ("list_lots", ListLots(customer_identifier=MOBILE, page_size=1001), codes.FIELD_INVALID, "page_size"),
    ("list_lots", ListLots(customer_identifier=MOBILE, page_token="x"), codes.PAGE_TOKEN_INVALID, "page_token"),
    (
        "list_transactions",
        ListTransactions(customer_identifier=MOBILE, page_size=201),
        codes.FIELD_INVALID,
        "page_size",
    ),
    (
        "list_transactions",
        ListTransactions(customer_identifier=MOBILE, program_id=-1),
        codes.FIELD_INVALID,
        "program_id",
    ),
    (
        "list_transactions",
        ListTransactions(customer_identifier=MOBILE, page_token="x"),
        codes.PAGE_TOKEN_INVALID,
        "page_token",
    ),
    ("list_transfers", ListTransfers(customer_identifier=MOBILE, page_size=201), codes.FIELD_INVALID, "page_size"),
    ("list_transfers", ListTransfers(customer_identifier=MOBILE, program_id=-1), codes.FIELD_INVALID, "program_id"),
    (
        "list_transfers",
        ListTransfers(customer_identifier=MOBILE, page_token="x"),
        codes.PAGE_TOKEN_INVALID,
        "page_token",
    ),
    ("trace_lot", TraceLot(), codes.FIELD_INVALID, "lot_id"),
    ("trace_lot", TraceLot(lot_id=-1), codes.FIELD_INVALID, "lot_id"),
    ("trace_lot", TraceLot(lot_id=7, lots_max=-1), codes.FIELD_INVALID, "lots_max"),
    ("trace_lot", TraceLot(lot_id=7, lots_max=1001), codes.FIELD_INVALID, "lots_max"),
    ("trace_lot", TraceLot(lot_id=7), codes.RESOURCE_NOT_FOUND, "lot_id"),
    ("get_transaction", GetTransaction(), codes.FIELD_INVALID, "transaction_id"),
    ("get_transaction", GetTransaction(transaction_id=1, request_id="r"), codes.FIELD_INVALID, "transaction_id"),
    ("get_transaction", GetTransaction(transaction_id=-1), codes.FIELD_INVALID, "transaction_id"),
    ("get_transaction", GetTransaction(request_id="with space"), codes.FIELD_INVALID, "request_id"),
    ("get_transaction", GetTransaction(transaction_id=1), codes.RESOURCE_NOT_FOUND, "transaction_id"),
    (
        "get_program",
        program_service_pb2.GetProgramRequest(program_id=5),
        codes.RESOURCE_NOT_FOUND,
        "program_id",
    ),
    ("get_policy", program_service_pb2.GetPolicyRequest(program_id=5), codes.RESOURCE_NOT_FOUND, "program_id"),
    ("get_policy", program_service_pb2.GetPolicyRequest(revision=5), codes.RESOURCE_NOT_FOUND, "revision"),
    ("get_policy", program_service_pb2.GetPolicyRequest(revision=-1), codes.FIELD_INVALID, "revision"),
    *(
        (name, build(**fields), code, field)
        for name, build in (
            ("list_programs", program_service_pb2.ListProgramsRequest),
            ("list_config_keys", program_service_pb2.ListConfigKeysRequest),
            ("list_codes", catalog_service_pb2.ListCodesRequest),
        )
        for fields, code, field in (
            ({"page_size": 1001}, codes.FIELD_INVALID, "page_size"),
            ({"page_size": -1}, codes.FIELD_INVALID, "page_size"),
            ({"page_token": "x"}, codes.PAGE_TOKEN_INVALID, "page_token"),
        )
    ),
)


@pytest.mark.parametrize(("name", "message", "code", "field"), REFUSALS)
def test_refusals(name: str, message: Message, code: Code, field: str) -> None:
    """What is malformed, unknown or another's is refused with its code and field."""
    found = World().ask(name, message)

    assert isinstance(found, Refused)
    assert (found.code, found.field) == (code, field)
    assert may_answer(code, "".join(part.capitalize() for part in name.split("_")))
    assert "{" not in code.text(found.metadata)


def test_token_of_another_query() -> None:
    """A token that is good for one list is not for another, nor for another client."""
    world = World()
    world.reads.lot_list = lots(3)
    first = ListLots(customer_identifier=MOBILE, page_size=1)
    token = world.ask("list_lots", first).next_page_token
    other = ListLots(customer_identifier=MOBILE, page_size=1, page_token=token, include_spent=True)
    same = ListLots(customer_identifier=MOBILE, page_size=2, page_token=token)
    stranger = Caller(org_id=2, client="till", key_id="k1", role=Role.READER, default_region="IN")

    assert world.ask("list_lots", other).code is codes.PAGE_TOKEN_INVALID
    assert world.ask("list_lots", same, stranger).code is codes.PAGE_TOKEN_INVALID
    assert [one.lot_id for one in world.ask("list_lots", same).lots] == [2, 3]


# -- the server about itself


def test_codes() -> None:
    """Every code of the catalogue is listed once, by table and number."""
    answer = World().ask("list_codes", catalog_service_pb2.ListCodesRequest())

    assert {one.reason for one in answer.codes} == {code.reason for code in CATALOGUE}
    assert len(answer.codes) == len(CATALOGUE)
    tables = [one.table for one in answer.codes]
    assert list(dict.fromkeys(tables)) == ["success", "points", "transfer", "warning", "service"]
    numbers = [one.code for one in answer.codes if one.table == "points"]
    assert numbers == sorted(numbers)


def test_server_info() -> None:
    """The server tells its version, every limit once, and its durability."""
    answer = World().ask("get_server_info", catalog_service_pb2.GetServerInfoRequest())

    assert (answer.version, answer.schema_revision) == ("1.2.3", "0001")
    assert (answer.durability.backend, answer.durability.durable) == ("sqlite", True)
    limits = {one.name: (one.value, one.unit) for one in answer.limits}
    assert len(limits) == len(answer.limits)
    assert limits["points_max"] == (10**12, "points in the smallest unit")
    assert limits["deadline_default_s"] == (10, "s")
    assert limits["batch_max"] == (256, "commands")
    assert limits["lots_per_command_max"] == (10_000, "lots")
    assert (limits["otp_length_min"], limits["otp_length_max"]) == (
        (4, "characters of a code"),
        (10, "characters of a code"),
    )
    assert (limits["otp_window_min_s"], limits["otp_window_max_s"]) == ((60, "s"), (86_400, "s"))
    assert all(unit for _, unit in limits.values())


def test_times_before_the_epoch() -> None:
    """Lots that were awarded before 1970 can be paged too."""
    world = World()
    early = datetime(1960, 5, 1, tzinfo=UTC)
    world.reads.lot_list = [msgspec.structs.replace(one, awarded_at=early) for one in lots(3)]
    request = ListLots(customer_identifier=MOBILE, page_size=1)
    request.page_token = world.ask("list_lots", request).next_page_token

    assert [one.lot_id for one in world.ask("list_lots", request).lots] == [2]
