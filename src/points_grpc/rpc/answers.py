"""Answers to questions: requests that only read, from their form to the answer, in the order of the proto files.

Nothing here writes, books or expires. A question is asked of `Reads`; what is not there is a refusal like any other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from points_grpc import codes
from points_grpc.domain.model import BucketKey, Customer, Lot, Program, ProgramBook, Source, WalletKey
from points_grpc.domain.outcome import Refused
from points_grpc.domain.views import PERSONAL_START, PersonalPlace
from points_grpc.rpc import render
from points_grpc.rpc.call import Caller
from points_grpc.rpc.pages import PageRequest, Pages
from points_grpc.rpc.personal_records import personal_record
from points_grpc.rpc.ports import Reads
from points_grpc.rpc.render_policy import policy as render_policy
from points_grpc.rpc.shape import INT64_MAX, SERVICE, Shape
from points_grpc.rpc.status_items import bounded, status_item
from points_grpc.v1 import customer_service_pb2, program_service_pb2, wallet_service_pb2

LOTS_PAGE = 100
LOTS_PAGE_MAX = 1000
RECORDS_PAGE = 100
RECORDS_PAGE_MAX = 200
TRANSACTIONS_PAGE = 50
TRANSACTIONS_PAGE_MAX = 200
TRACED_LOTS_MAX = 1000
AUDIT_PAGE = 50
AUDIT_PAGE_MAX = 200
SUBJECT_LENGTH_MAX = 200
WHOLE_LIST_PAGE_MAX = 1000
"""For lists that come in one page."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = INT64_MAX
_LOT_POSITION = struct.Struct(">qqq")
_TRANSACTION_POSITION = struct.Struct(">q")
_AUDIT_POSITION = struct.Struct(">q")
_PAGE_TOKEN_INVALID = Refused(codes.PAGE_TOKEN_INVALID, field="page_token")

Item = TypeVar("Item")


class Answers:
    """Answers questions about customers, wallets, the journal and programs."""

    def __init__(self, reads: Reads, pages: Pages, clock: Callable[[], datetime]) -> None:
        """Takes whom to ask, who makes page tokens, and what tells the time in UTC."""
        self._reads = reads
        self._pages = pages
        self._clock = clock

    # -- WalletService

    async def get_wallet(
        self, request: wallet_service_pb2.GetWalletRequest, caller: Caller
    ) -> wallet_service_pb2.GetWalletResponse | Refused:
        """GetWallet: now, in the past by the journal, in the future by what is known now."""
        shape = self._shape(caller)
        at = shape.instant("read_time", request.read_time)
        named = await self._customer_in_program(request, shape, caller)
        if isinstance(named, Refused):
            return named
        customer, program, _ = named
        key = WalletKey(customer.customer_id, program.program_id)
        now, barred = self._clock(), program.policy.transfer.barred_sources
        if request.HasField("read_time") and at < now:
            view = await self._reads.wallet_as_of(caller.org_id, key, barred, at)
        else:
            view = await self._reads.wallet(caller.org_id, key, barred, at if request.HasField("read_time") else now)
        return wallet_service_pb2.GetWalletResponse(
            wallet=render.balance(view.balance),
            lifetime_earned=view.lifetime_earned,
            lifetime_received=view.lifetime_received,
            lifetime_purchases=view.lifetime_purchases,
            expiries=[
                wallet_service_pb2.GetWalletResponse.Expiry(expires_at=render.timestamp(at), points=points)
                for at, points in view.expiries
            ],
            read_time=render.timestamp(view.read_at),
        )

    async def list_lots(
        self, request: wallet_service_pb2.ListLotsRequest, caller: Caller
    ) -> wallet_service_pb2.ListLotsResponse | Refused:
        """ListLots."""
        shape = self._shape(caller)
        size = _page_size(request, shape, default=LOTS_PAGE, size_max=LOTS_PAGE_MAX)
        named = await self._customer_in_program(request, shape, caller)
        if isinstance(named, Refused):
            return named
        customer, program, _ = named
        after = None
        if request.page_token:
            position = self._pages.position(caller, request, request.page_token)
            if position is None or len(position) != _LOT_POSITION.size:
                return _PAGE_TOKEN_INVALID
            after = _lot_at(position)
        found = await self._reads.lots(
            caller.org_id,
            WalletKey(customer.customer_id, program.program_id),
            include_spent=request.include_spent,
            after=after,
            limit=size + 1,
            now=self._clock(),
        )
        page, last = _page(found, size)
        return wallet_service_pb2.ListLotsResponse(
            lots=[render.lot(one) for one in page],
            next_page_token=self._pages.token(caller, request, _lot_position(last)) if last else "",
        )

    async def list_transactions(
        self, request: wallet_service_pb2.ListTransactionsRequest, caller: Caller
    ) -> wallet_service_pb2.ListTransactionsResponse | Refused:
        """ListTransactions: all programs where none is named, and one that is unknown has none."""
        shape = self._shape(caller)
        size = _page_size(request, shape, default=TRANSACTIONS_PAGE, size_max=TRANSACTIONS_PAGE_MAX)
        shape.whole("program_id", request.program_id, 0, INT64_MAX)
        customer = await self._customer(request, shape, caller)
        if isinstance(customer, Refused):
            return customer
        before = 0
        if request.page_token:
            position = self._pages.position(caller, request, request.page_token)
            if position is None or len(position) != _TRANSACTION_POSITION.size:
                return _PAGE_TOKEN_INVALID
            (before,) = _TRANSACTION_POSITION.unpack(position)
        page, has_more = await self._reads.transactions(
            caller.org_id, customer[0].customer_id, program_id=request.program_id, before=before, limit=size
        )
        token = ""
        if has_more:
            position = _TRANSACTION_POSITION.pack(page[-1].entry.transaction_id)
            token = self._pages.token(caller, request, position)
        return wallet_service_pb2.ListTransactionsResponse(
            transactions=[render.journal_transaction(one) for one in page], next_page_token=token
        )

    async def get_transaction(
        self, request: wallet_service_pb2.GetTransactionRequest, caller: Caller
    ) -> wallet_service_pb2.GetTransactionResponse | Refused:
        """GetTransaction: by id, or what became of the command with a request id."""
        shape = self._shape(caller)
        if bool(request.transaction_id) == bool(request.request_id):
            shape.wrong("transaction_id", "exactly one of transaction_id and request_id")
        shape.whole("transaction_id", request.transaction_id, 0, INT64_MAX)
        shape.request_id(request.request_id, required=False)
        if refused := shape.refusal():
            return refused
        if request.request_id:
            return await self._command(request.request_id, caller)
        row = await self._reads.transaction(caller.org_id, request.transaction_id)
        if row is None:
            return _not_found("Transaction", "transaction_id")
        return wallet_service_pb2.GetTransactionResponse(
            state=wallet_service_pb2.GetTransactionResponse.ACCEPTED, transaction=render.journal_transaction(row)
        )

    async def _command(self, request_id: str, caller: Caller) -> wallet_service_pb2.GetTransactionResponse:
        """What became of a command."""
        response = wallet_service_pb2.GetTransactionResponse
        record = await self._reads.request(caller.org_id, request_id)
        if record is None:
            return response(state=response.NOT_RECORDED)
        outcome = record.outcome
        if isinstance(outcome, Refused):
            refusal = status_item(outcome.code, bounded(outcome.metadata), outcome.field)
            return response(state=response.REFUSED, refusal=refusal, operation=record.operation)
        row = None
        booked = outcome.transaction_ids
        if booked:
            row = await self._reads.transaction(caller.org_id, booked[0])
        return response(
            state=response.ACCEPTED,
            transaction=None if row is None else render.journal_transaction(row),
            operation=record.operation,
            further_transaction_ids=booked[1:],
        )

    async def list_transfers(
        self, request: wallet_service_pb2.ListTransfersRequest, caller: Caller
    ) -> wallet_service_pb2.ListTransfersResponse | Refused:
        """ListTransfers: of all programs where none is named, and one that is unknown has none."""
        shape = self._shape(caller)
        size = _page_size(request, shape, default=TRANSACTIONS_PAGE, size_max=TRANSACTIONS_PAGE_MAX)
        shape.whole("program_id", request.program_id, 0, INT64_MAX)
        customer = await self._customer(request, shape, caller)
        if isinstance(customer, Refused):
            return customer
        before = 0
        if request.page_token:
            position = self._pages.position(caller, request, request.page_token)
            if position is None or len(position) != _TRANSACTION_POSITION.size:
                return _PAGE_TOKEN_INVALID
            (before,) = _TRANSACTION_POSITION.unpack(position)
        found = await self._reads.transfers(
            caller.org_id, customer[0].customer_id, program_id=request.program_id, before=before, limit=size + 1
        )
        page, last = _page(found, size)
        book = await self._reads.program_book(caller.org_id)
        customer_ids = {customer_id for one in page for customer_id in (one.source_id, one.destination_id)}
        parties = await self._reads.parties(caller.org_id, customer_ids)
        position = _TRANSACTION_POSITION.pack(last.transfer_id) if last else b""
        return wallet_service_pb2.ListTransfersResponse(
            transfers=[render.transfer(one, parties, book.programs[one.program_id].name) for one in page],
            next_page_token=self._pages.token(caller, request, position) if last else "",
        )

    async def trace_lot(
        self, request: wallet_service_pb2.TraceLotRequest, caller: Caller
    ) -> wallet_service_pb2.TraceLotResponse | Refused:
        """TraceLot."""
        shape = self._shape(caller)
        shape.whole("lot_id", request.lot_id, 1, INT64_MAX)
        shape.whole("lots_max", request.lots_max, 0, TRACED_LOTS_MAX)
        if refused := shape.refusal():
            return refused
        limit = request.lots_max or TRACED_LOTS_MAX
        found = await self._reads.trace(caller.org_id, request.lot_id, limit=limit, now=self._clock())
        if found is None:
            return _not_found("Lot", "lot_id")
        return wallet_service_pb2.TraceLotResponse(
            lot=render.traced_lot(found.lot),
            ancestors=[render.traced_lot(one) for one in found.ancestors],
            descendants=[render.traced_lot(one) for one in found.descendants],
            omitted=found.omitted,
        )

    async def watched_wallet(
        self, request: wallet_service_pb2.WatchWalletRequest, caller: Caller
    ) -> WalletKey | Refused:
        """The wallet that a watch names."""
        shape = self._shape(caller)
        shape.whole("after_version", request.after_version, 0, INT64_MAX)
        named = await self._customer_in_program(request, shape, caller)
        if isinstance(named, Refused):
            return named
        customer, program, _ = named
        return WalletKey(customer.customer_id, program.program_id)

    # -- CustomerService

    async def get_customer(
        self, request: customer_service_pb2.GetCustomerRequest, caller: Caller
    ) -> customer_service_pb2.GetCustomerResponse | Refused:
        """GetCustomer."""
        found = await self._customer(request, self._shape(caller), caller)
        if isinstance(found, Refused):
            return found
        return customer_service_pb2.GetCustomerResponse(customer=render.customer(*found))

    async def export_customer_data(
        self, request: customer_service_pb2.ExportCustomerDataRequest, caller: Caller
    ) -> customer_service_pb2.ExportCustomerDataResponse | Refused:
        """ExportCustomerData."""
        shape = self._shape(caller)
        size = _page_size(request, shape, default=RECORDS_PAGE, size_max=RECORDS_PAGE_MAX)
        customer = await self._customer(request, shape, caller)
        if isinstance(customer, Refused):
            return customer
        place = PERSONAL_START
        if request.page_token:
            position = self._pages.position(caller, request, request.page_token)
            if not position:
                return _PAGE_TOKEN_INVALID
            place = PersonalPlace(position[0], position[1:].decode())
        page, following = await self._reads.personal_records(caller.org_id, customer[0].customer_id, place, size)
        token = ""
        if following is not None:
            token = self._pages.token(caller, request, bytes((following.section,)) + following.after.encode())
        return customer_service_pb2.ExportCustomerDataResponse(
            records=[personal_record(one) for one in page], next_page_token=token
        )

    # -- ProgramService

    async def get_program(
        self, request: program_service_pb2.GetProgramRequest, caller: Caller
    ) -> program_service_pb2.GetProgramResponse | Refused:
        """GetProgram."""
        book = await self._reads.program_book(caller.org_id)
        program = book.program(request.program_id)
        if program is None:
            return _not_found("Program", "program_id")
        return program_service_pb2.GetProgramResponse(program=_program(program, book))

    async def list_programs(
        self, request: program_service_pb2.ListProgramsRequest, caller: Caller
    ) -> program_service_pb2.ListProgramsResponse | Refused:
        """ListPrograms."""
        if refused := one_page_only(request, self._shape(caller)):
            return refused
        book = await self._reads.program_book(caller.org_id)
        programs = [_program(book.programs[program_id], book) for program_id in sorted(book.programs)]
        return program_service_pb2.ListProgramsResponse(programs=programs)

    async def get_policy(
        self, request: program_service_pb2.GetPolicyRequest, caller: Caller
    ) -> program_service_pb2.GetPolicyResponse | Refused:
        """GetPolicy."""
        shape = self._shape(caller)
        shape.whole("revision", request.revision, 0, INT64_MAX)
        if refused := shape.refusal():
            return refused
        book = await self._reads.program_book(caller.org_id)
        program = book.program(request.program_id)
        if program is None:
            return _not_found("Program", "program_id")
        found = await self._reads.policy(caller.org_id, program.program_id, request.revision)
        if found is None:
            return _not_found("Policy revision", "revision")
        policy, created_at = found
        return program_service_pb2.GetPolicyResponse(policy=render_policy(policy, render.timestamp(created_at)))

    async def list_config_keys(
        self, request: program_service_pb2.ListConfigKeysRequest, caller: Caller
    ) -> program_service_pb2.ListConfigKeysResponse | Refused:
        """ListConfigKeys."""
        if refused := one_page_only(request, self._shape(caller)):
            return refused
        values = await self._reads.config_values(caller.org_id)
        return program_service_pb2.ListConfigKeysResponse(config_keys=values)

    async def list_audit_events(
        self, request: program_service_pb2.ListAuditEventsRequest, caller: Caller
    ) -> program_service_pb2.ListAuditEventsResponse | Refused:
        """ListAuditEvents."""
        shape = self._shape(caller)
        size = _page_size(request, shape, default=AUDIT_PAGE, size_max=AUDIT_PAGE_MAX)
        shape.text("subject", request.subject, SUBJECT_LENGTH_MAX)
        if refused := shape.refusal():
            return refused
        before = 0
        if request.page_token:
            position = self._pages.position(caller, request, request.page_token)
            if position is None or len(position) != _AUDIT_POSITION.size:
                return _PAGE_TOKEN_INVALID
            (before,) = _AUDIT_POSITION.unpack(position)
        found = await self._reads.audit_events(caller.org_id, subject=request.subject, before=before, limit=size + 1)
        page, last = _page(found, size)
        position = _AUDIT_POSITION.pack(last.audit_id) if last else b""
        return program_service_pb2.ListAuditEventsResponse(
            audit_events=[render.audit_event(one) for one in page],
            next_page_token=self._pages.token(caller, request, position) if last else "",
        )

    # -- what several of them ask

    def _shape(self, caller: Caller) -> Shape:
        """What reads the fields of a question."""
        return Shape(SERVICE, caller.default_region, self._clock())

    async def _customer(
        self,
        request: (
            customer_service_pb2.GetCustomerRequest
            | customer_service_pb2.ExportCustomerDataRequest
            | wallet_service_pb2.GetWalletRequest
            | wallet_service_pb2.ListLotsRequest
            | wallet_service_pb2.ListTransactionsRequest
            | wallet_service_pb2.ListTransfersRequest
            | wallet_service_pb2.WatchWalletRequest
        ),
        shape: Shape,
        caller: Caller,
    ) -> tuple[Customer, tuple[int, ...]] | Refused:
        """The customer whom a question names, with the programs of enrolment."""
        identifier = shape.identifier(request, "customer_identifier", request.customer_identifier)
        if refused := shape.refusal():
            return refused
        found = await self._reads.customer(caller.org_id, identifier)
        return found or Refused(codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}, field="customer_identifier.value")

    async def _customer_in_program(
        self,
        request: (
            wallet_service_pb2.GetWalletRequest
            | wallet_service_pb2.ListLotsRequest
            | wallet_service_pb2.WatchWalletRequest
        ),
        shape: Shape,
        caller: Caller,
    ) -> tuple[Customer, Program, ProgramBook] | Refused:
        """The customer and the program that a question names. An inactive program can still be looked at."""
        customer = await self._customer(request, shape, caller)
        if isinstance(customer, Refused):
            return customer
        book = await self._reads.program_book(caller.org_id)
        program = book.program(request.program_id)
        if program is None:
            return Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id")
        return customer[0], program, book


def one_page_only(request: PageRequest, shape: Shape) -> Refused | None:
    """Checks the page fields of a list that comes in one page: no token was ever given out for it."""
    shape.whole("page_size", request.page_size, 0, WHOLE_LIST_PAGE_MAX)
    return shape.refusal() or (_PAGE_TOKEN_INVALID if request.page_token else None)


def _page_size(request: PageRequest, shape: Shape, *, default: int, size_max: int) -> int:
    """How many items a page may have."""
    return shape.whole("page_size", request.page_size, 0, size_max) or default


def _page(found: Sequence[Item], size: int) -> tuple[Sequence[Item], Item | None]:
    """The page, and its last item if another page follows: one item more than the page has was asked for."""
    if len(found) <= size:
        return found, None
    return found[:size], found[size - 1]


def _not_found(resource: str, field: str) -> Refused:
    """What was named by its id is not there."""
    return Refused(codes.RESOURCE_NOT_FOUND, {"resource": resource}, field=field)


def _program(program: Program, book: ProgramBook) -> program_service_pb2.Program:
    """A program, and whether it is the default one."""
    return render.program(program, default=program.program_id == book.default_program_id)


def _lot_position(lot: Lot) -> bytes:
    """Where a list of lots goes on: after this one, in spending order."""
    expires_at = _NEVER if lot.expires_at is None else _microseconds(lot.expires_at)
    return _LOT_POSITION.pack(expires_at, _microseconds(lot.awarded_at), lot.lot_id)


def _lot_at(position: bytes) -> Lot:
    """A lot at a position: of its fields only the three of the spending order mean anything."""
    expires_at, awarded_at, lot_id = _LOT_POSITION.unpack(position)
    return Lot(
        lot_id=lot_id,
        wallet=WalletKey(0, 0),
        bucket=BucketKey(0, Source.LOYALTY_PLUS, ""),
        points=0,
        remaining=0,
        held=0,
        awarded_at=_EPOCH + timedelta(microseconds=awarded_at),
        available_from=None,
        promised=False,
        expires_at=None if expires_at == _NEVER else _EPOCH + timedelta(microseconds=expires_at),
        parent_lot_id=None,
        root_lot_id=0,
        transaction_id=0,
    )


def _microseconds(at: datetime) -> int:
    """A time as whole microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)
