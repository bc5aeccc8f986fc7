"""Page tokens hold for one query of one client, and cannot be made up."""

from __future__ import annotations

import dataclasses

import pytest
from google.protobuf.message import Message
from wire_requests import BY_ID, MOBILE

from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.pages import Pages
from points_grpc.v1 import wallet_service_pb2

PAGES = Pages(lambda: (b"k" * 32,))
CALLER = Caller(org_id=1, client="till", key_id="k1", role=Role.READER, default_region="IN")
REQUEST = wallet_service_pb2.ListLotsRequest(customer_identifier=MOBILE, program_id=973, page_size=10)
POSITION = b"position"
TOKEN = PAGES.token(CALLER, REQUEST, POSITION)


def changed(**values: object) -> wallet_service_pb2.ListLotsRequest:
    message = wallet_service_pb2.ListLotsRequest()
    message.CopyFrom(REQUEST)
    message.MergeFrom(wallet_service_pb2.ListLotsRequest(**values))  # type: ignore[arg-type]
    return message


@pytest.mark.parametrize("request_", [REQUEST, changed(page_size=3), changed(page_token=TOKEN)])
def test_token_of_the_query(request_: Message) -> None:
    """A token holds its position for the same query, whatever the page's size; on every process with the key."""
    assert PAGES.position(CALLER, request_, TOKEN) == POSITION
    assert Pages(lambda: (b"k" * 32,)).position(CALLER, request_, TOKEN) == POSITION


@pytest.mark.parametrize(
    ("pages", "caller", "request_", "token"),
    [
        (Pages(lambda: (b"l" * 32,)), CALLER, REQUEST, TOKEN),
        (PAGES, dataclasses.replace(CALLER, org_id=2), REQUEST, TOKEN),
        (PAGES, dataclasses.replace(CALLER, client="other"), REQUEST, TOKEN),
        (PAGES, CALLER, changed(program_id=974), TOKEN),
        (PAGES, CALLER, changed(customer_identifier=BY_ID), TOKEN),
        (PAGES, CALLER, changed(include_spent=True), TOKEN),
        (
            PAGES,
            CALLER,
            wallet_service_pb2.ListTransactionsRequest.FromString(REQUEST.SerializeToString()),
            TOKEN,
        ),
        (PAGES, CALLER, REQUEST, ""),
        (PAGES, CALLER, REQUEST, "x"),
        (PAGES, CALLER, REQUEST, "not base64!"),
        (PAGES, CALLER, REQUEST, "ü"),
        (PAGES, CALLER, REQUEST, TOKEN[:-4]),
        (PAGES, CALLER, REQUEST, "A" + TOKEN[1:] if TOKEN[0] != "A" else "B" + TOKEN[1:]),
        (PAGES, CALLER, REQUEST, "A" * 10_000),
    ],
)
def test_token_of_another(pages: Pages, caller: Caller, request_: Message, token: str) -> None:
    """A token of another key, organisation, client or query is none, nor is anything made up."""
    assert pages.position(caller, request_, token) is None


def test_same_key_other_key_id() -> None:
    """A client that changes its key in the middle of a list goes on with its tokens."""
    rotated = dataclasses.replace(CALLER, key_id="k2")

    assert PAGES.position(rotated, REQUEST, TOKEN) == POSITION


def test_short_keys() -> None:
    """A key that is too short to be a secret is refused."""
    with pytest.raises(ValueError, match="16 bytes"):
        Pages(lambda: (b"short",))
