"""Lists of whole organisations: what is asked of whom, pages with their tokens, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from test_answers import BOOK, ENTRY_JSON, entry
from test_render import AT, AT_JSON, BALANCES, BALANCES_JSON, CUSTOMER, CUSTOMER_JSON, LATER, LOT
from wire_fakes import NOW, FakeLists, FakeReads
from wire_requests import may_answer

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain import model as m
from points_grpc.domain.outcome import Refused
from points_grpc.domain.views import ListedWallet
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.listings import Listings
from points_grpc.rpc.pages import Pages
from points_grpc.v1 import customer_service_pb2, wallet_service_pb2

CALLER = Caller(org_id=1, client="back office", key_id="k1", role=Role.MANAGER, default_region="IN")
ListCustomers = customer_service_pb2.ListCustomersRequest
ListWallets = wallet_service_pb2.ListWalletsRequest
ListLiveLots = wallet_service_pb2.ListLiveLotsRequest
ListJournalTransactions = wallet_service_pb2.ListJournalTransactionsRequest
REQUESTS = {
    "list_customers": ListCustomers,
    "list_wallets": ListWallets,
    "list_live_lots": ListLiveLots,
    "list_journal_transactions": ListJournalTransactions,
}


class World:
    """An organisation with five of everything."""

    def __init__(self) -> None:
        self.lists = FakeLists()
        numbers = range(1, 6)
        self.lists.customer_list = [(msgspec.structs.replace(CUSTOMER, customer_id=one), (973,)) for one in numbers]
        self.lists.wallet_list = [
            ListedWallet(msgspec.structs.replace(BALANCES[0], customer_id=one), 500, 60, 7, AT) for one in numbers
        ]
        self.lists.lot_list = [
            msgspec.structs.replace(LOT, lot_id=one, wallet=m.WalletKey(one, 973)) for one in numbers
        ]
        self.lists.journal_list = [entry(one) for one in reversed(numbers)]
        self.listings = Listings(FakeReads(BOOK), self.lists, Pages(lambda: (b"k" * 16,)), lambda: NOW)

    def ask(self, name: str, message: Message, caller: Caller = CALLER) -> Any:
        return asyncio.run(getattr(self.listings, name)(message, caller))


def shown(answer: Message) -> dict[str, Any]:
    return MessageToDict(answer, preserving_proto_field_name=True)


def numbers(answer: Any) -> Sequence[int]:
    """Who or what a page lists, by the one number that differs."""
    for field, number in (
        ("customers", lambda one: one.customer_id),
        ("wallets", lambda one: one.wallet.customer_id),
        ("lots", lambda one: one.lot_id),
        ("transactions", lambda one: one.transaction_id),
    ):
        if field in answer.DESCRIPTOR.fields_by_name:
            return [number(one) for one in getattr(answer, field)]
    raise AssertionError(answer)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("name", REQUESTS)
def test_pages(name: str, size: int) -> None:
    """The pages hold everything once, in order; the last one has no token; the total comes if it is asked for."""
    world = World()
    request: Any = REQUESTS[name](page_size=size, count_total=True)
    found: list[int] = []
    pages = 0
    while True:
        answer = world.ask(name, request)
        found += numbers(answer)
        pages += 1
        assert 5 == answer.total_size
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token

    assert sorted(found, reverse=name == "list_journal_transactions") == found
    assert {1, 2, 3, 4, 5} == set(found)
    assert -(-5 // size) == pages
    assert 0 == world.ask(name, REQUESTS[name]()).total_size


def test_what_is_listed() -> None:
    """Customers, wallets, lots and transactions as the reads of one show them; balances say when they were judged."""
    world = World()
    [customer] = shown(world.ask("list_customers", ListCustomers(page_size=1)))["customers"]
    wallets = shown(world.ask("list_wallets", ListWallets(page_size=1)))
    [transaction] = shown(world.ask("list_journal_transactions", ListJournalTransactions(page_size=1)))["transactions"]

    assert CUSTOMER_JSON | {"customer_id": "1", "enrolled_program_ids": ["973"]} == customer
    assert [
        {
            "wallet": BALANCES_JSON[0] | {"customer_id": "1"},
            "lifetime_earned": "500",
            "lifetime_received": "60",
            "lifetime_purchases": "7",
            "enrolled_at": AT_JSON,
        }
    ] == wallets["wallets"]
    assert NOW.isoformat().replace("+00:00", "Z") == wallets["read_time"]
    assert ENTRY_JSON | {"transaction_id": "5"} == transaction


def test_what_is_asked() -> None:
    """A program, a time, or all; of the caller's organisation, at the time of now."""
    world = World()
    world.ask("list_customers", ListCustomers())
    world.ask("list_wallets", ListWallets(program_id=973))
    world.ask("list_live_lots", ListLiveLots())
    world.ask("list_journal_transactions", ListJournalTransactions(until=LATER))

    assert [
        ("customers", 1),
        ("wallets", 1, 973, NOW),
        ("live_lots", 1, 0, NOW),
        ("journal", 1, None, LATER),
    ] == world.lists.asked


REFUSALS: tuple[tuple[str, Message, Code, str], ...] = (
    *((name, build(page_size=-1), codes.FIELD_INVALID, "page_size") for name, build in REQUESTS.items()),
    *(
        (name, build(page_size=501 if name == "list_customers" else 1001), codes.FIELD_INVALID, "page_size")
        for name, build in REQUESTS.items()
    ),
    *((name, build(page_token="x"), codes.PAGE_TOKEN_INVALID, "page_token") for name, build in REQUESTS.items()),
    ("list_wallets", ListWallets(program_id=5), codes.PROGRAM_NOT_CONFIGURED, "program_id"),
    ("list_wallets", ListWallets(program_id=-5), codes.PROGRAM_NOT_CONFIGURED, "program_id"),
    ("list_live_lots", ListLiveLots(program_id=5), codes.PROGRAM_NOT_CONFIGURED, "program_id"),
    ("list_journal_transactions", ListJournalTransactions(since={"seconds": 2**62}), codes.FIELD_INVALID, "since"),
    ("list_journal_transactions", ListJournalTransactions(until={"nanos": -1}), codes.FIELD_INVALID, "until"),
    ("list_journal_transactions", ListJournalTransactions(since=AT, until=AT), codes.FIELD_INVALID, "until"),
    (
        "list_journal_transactions",
        ListJournalTransactions(since=AT, until=AT - timedelta(seconds=1)),
        codes.FIELD_INVALID,
        "until",
    ),
)


@pytest.mark.parametrize(("name", "message", "code", "field"), REFUSALS)
def test_refusals(name: str, message: Message, code: Code, field: str) -> None:
    """What is malformed or unknown is refused with its code and field, and nothing is read."""
    world = World()
    found = world.ask(name, message)

    assert isinstance(found, Refused)
    assert (found.code, found.field) == (code, field)
    assert may_answer(code, "".join(part.capitalize() for part in name.split("_")))
    assert [] == world.lists.asked


@pytest.mark.parametrize("name", REQUESTS)
def test_token_of_another_query(name: str) -> None:
    """A token is good for its own list alone, asked in the same way by the same client; size and count may change."""
    world = World()
    token = world.ask(name, REQUESTS[name](page_size=2, count_total=True)).next_page_token
    stranger = replace(CALLER, client="till")
    others = [world.ask(other, REQUESTS[other](page_token=token)) for other in REQUESTS if other != name]
    others.append(world.ask(name, REQUESTS[name](page_token=token), stranger))

    assert [codes.PAGE_TOKEN_INVALID] * 4 == [one.code for one in others]
    assert 3 == len(numbers(world.ask(name, REQUESTS[name](page_size=3, page_token=token))))
