"""Lists of whole organisations: requests for a page, from their form to the answer, in the order of the proto files.

Nothing here writes, books or expires. Other than in `answers`, a page may hold fewer items than there is room for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from points_grpc import codes
from points_grpc.domain.outcome import Refused
from points_grpc.domain.views import ListedWallet, Position
from points_grpc.rpc import render
from points_grpc.rpc.call import Caller
from points_grpc.rpc.pages import Pages
from points_grpc.rpc.ports import Lists, Reads
from points_grpc.rpc.shape import SERVICE, Shape
from points_grpc.v1 import customer_service_pb2, wallet_service_pb2

PAGE = 100
PAGE_MAX = 1000
CUSTOMERS_PAGE_MAX = 500
"""The largest customers, with names, identifiers and a hundred programs each, still make a page of less than 2 MB."""

_PAGE_TOKEN_INVALID = Refused(codes.PAGE_TOKEN_INVALID, field="page_token")


class _Request(Protocol):
    """A request for a page of a whole organisation."""

    page_size: int
    page_token: str
    count_total: bool


class Listings:
    """Answers requests for pages."""

    def __init__(self, reads: Reads, lists: Lists, pages: Pages, clock: Callable[[], datetime]) -> None:
        """Takes whom to ask for programs and for pages, who makes page tokens, and what tells the time in UTC."""
        self._reads = reads
        self._lists = lists
        self._pages = pages
        self._clock = clock

    async def list_customers(
        self, request: customer_service_pb2.ListCustomersRequest, caller: Caller
    ) -> customer_service_pb2.ListCustomersResponse | Refused:
        """ListCustomers."""
        shape = self._shape(caller)
        size = _size(request, shape, CUSTOMERS_PAGE_MAX)
        after = self._after(request, shape, caller, parts=1)
        if isinstance(after, Refused):
            return after
        found = await self._lists.customers(caller.org_id, after=after, limit=size, count=request.count_total)
        return customer_service_pb2.ListCustomersResponse(
            customers=[render.customer(*one) for one in found.items],
            next_page_token=self._token(request, caller, found.after),
            total_size=found.total,
        )

    async def list_wallets(
        self, request: wallet_service_pb2.ListWalletsRequest, caller: Caller
    ) -> wallet_service_pb2.ListWalletsResponse | Refused:
        """ListWallets: of all programs where none is named."""
        shape = self._shape(caller)
        size = _size(request, shape, PAGE_MAX)
        after = self._after(request, shape, caller, parts=2)
        if isinstance(after, Refused):
            return after
        if request.program_id and await self._is_no_program(request.program_id, caller):
            return Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id")
        now = self._clock()
        found = await self._lists.wallets(
            caller.org_id, program_id=request.program_id, after=after, limit=size, count=request.count_total, now=now
        )
        return wallet_service_pb2.ListWalletsResponse(
            wallets=[_wallet(one) for one in found.items],
            next_page_token=self._token(request, caller, found.after),
            total_size=found.total,
            read_time=render.timestamp(now),
        )

    async def list_live_lots(
        self, request: wallet_service_pb2.ListLiveLotsRequest, caller: Caller
    ) -> wallet_service_pb2.ListLiveLotsResponse | Refused:
        """ListLiveLots: of all programs where none is named."""
        shape = self._shape(caller)
        size = _size(request, shape, PAGE_MAX)
        after = self._after(request, shape, caller, parts=5)
        if isinstance(after, Refused):
            return after
        if request.program_id and await self._is_no_program(request.program_id, caller):
            return Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id")
        now = self._clock()
        found = await self._lists.live_lots(
            caller.org_id, program_id=request.program_id, after=after, limit=size, count=request.count_total, now=now
        )
        return wallet_service_pb2.ListLiveLotsResponse(
            lots=[render.lot(one) for one in found.items],
            next_page_token=self._token(request, caller, found.after),
            total_size=found.total,
            read_time=render.timestamp(now),
        )

    async def list_journal_transactions(
        self, request: wallet_service_pb2.ListJournalTransactionsRequest, caller: Caller
    ) -> wallet_service_pb2.ListJournalTransactionsResponse | Refused:
        """ListJournalTransactions: of all time where none is named."""
        shape = self._shape(caller)
        since = shape.instant("since", request.since) if request.HasField("since") else None
        until = shape.instant("until", request.until) if request.HasField("until") else None
        if since is not None and until is not None and since >= until:
            shape.wrong("until", "after since")
        size = _size(request, shape, PAGE_MAX)
        after = self._after(request, shape, caller, parts=1)
        if isinstance(after, Refused):
            return after
        found = await self._lists.journal(
            caller.org_id, since=since, until=until, after=after, limit=size, count=request.count_total
        )
        return wallet_service_pb2.ListJournalTransactionsResponse(
            transactions=[render.journal_transaction(one) for one in found.items],
            next_page_token=self._token(request, caller, found.after),
            total_size=found.total,
        )

    # -- what several of them ask

    def _shape(self, caller: Caller) -> Shape:
        """What reads the fields of a request."""
        return Shape(SERVICE, caller.default_region, self._clock())

    def _after(self, request: Message, shape: Shape, caller: Caller, *, parts: int) -> Position | Refused:
        """The place that a page token holds, once the other fields are well formed; empty without one."""
        token: str = request.page_token  # type: ignore[attr-defined]  # every request for a page has it
        if refused := shape.refusal():
            return refused
        if not token:
            return ()
        place = self._pages.position(caller, request, token)
        if place is None or len(place) != 8 * parts:
            return _PAGE_TOKEN_INVALID
        return struct.unpack(f">{parts}q", place)

    def _token(self, request: Message, caller: Caller, after: Position | None) -> str:
        """The token of the next page; empty if there is none."""
        return "" if after is None else self._pages.token(caller, request, struct.pack(f">{len(after)}q", *after))

    async def _is_no_program(self, program_id: int, caller: Caller) -> bool:
        """Whether the organisation has no such program."""
        book = await self._reads.program_book(caller.org_id)
        return program_id not in book.programs


def _size(request: _Request, shape: Shape, size_max: int) -> int:
    """How many rows a page looks at."""
    return shape.whole("page_size", request.page_size, 0, size_max) or PAGE


def _wallet(one: ListedWallet) -> wallet_service_pb2.ListedWallet:
    return wallet_service_pb2.ListedWallet(
        wallet=render.balance(one.balance),
        lifetime_earned=one.lifetime_earned,
        lifetime_received=one.lifetime_received,
        lifetime_purchases=one.lifetime_purchases,
        enrolled_at=None if one.enrolled_at is None else render.timestamp(one.enrolled_at),
    )
