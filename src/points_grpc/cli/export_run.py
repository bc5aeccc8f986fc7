"""One run of an export: page after page, the next one under way while one is written.

Memory is flat: two pages are known at a time. A server that is away is waited for, as by an import.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc.cli import export_rows
from points_grpc.cli.export_file import PartTable
from points_grpc.cli.export_rows import Kind, Row
from points_grpc.cli.import_sending import Patience, forbidden, settled
from points_grpc.cli.progress import Tell
from points_grpc.client import AsyncPointsClient, Refused
from points_grpc.v1 import customer_service_pb2, wallet_service_pb2

CUSTOMERS_PER_PAGE = 500
ROWS_PER_PAGE = 1000
"""What a page may have at most."""

Answer = TypeVar("Answer", bound="Page")


class Page(Protocol):
    """What all answers have."""

    next_page_token: str
    total_size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be exported."""

    kind: Kind
    program_id: int = 0
    since: Timestamp | None = None
    until: Timestamp | None = None
    for_import: bool = False
    patience_s: float = 300.0


@dataclass(slots=True)
class Done:
    """How a run ended. Mutable: it counts while it runs.

    `left_out` are customers who are gone, `marked` those who have a status or lock that an import does not take over.
    """

    rows: int = 0
    left_out: int = 0
    marked: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _List:
    """A list of the server: asks for the page of a token, and turns it into rows."""

    ask: Callable[[str], Awaitable[Any]]
    rows: Callable[[Any], Iterable[Row]] = field(repr=False)


class Run:
    """Exports one kind into one file."""

    def __init__(self, plan: Plan, file: PartTable, client: AsyncPointsClient, warn: Callable[[str], None]) -> None:
        """Nothing is asked yet. `warn` is told when the server does not answer."""
        self._plan = plan
        self._file = file
        self._client = client
        self._patience = Patience(plan.patience_s, warn)
        self._done = Done()

    async def __call__(self, tell: Tell) -> Done:
        """Runs to the end, or raises `Stopped`."""
        started = time.monotonic()
        found = self._list()
        page = await self._page(found, "")
        total, seen = page.total_size, 0
        while True:
            token = page.next_page_token
            following = asyncio.create_task(self._page(found, token)) if token else None
            try:
                rows = list(found.rows(page))
                self._file.add(rows)
            except BaseException:
                if following is not None:
                    following.cancel()
                raise
            self._done.rows += len(rows)
            seen = self._done.rows + self._done.left_out
            tell(seen, max(total, seen + 1) if following else seen)
            if following is None:
                break
            page = await following
        self._file.finish()
        self._done.seconds = time.monotonic() - started
        return self._done

    async def _page(self, found: _List, token: str) -> Any:
        answer = await settled(lambda: found.ask(token), self._patience)
        if isinstance(answer, Refused):
            raise forbidden(answer)
        return answer

    def _list(self) -> _List:
        """What to ask the server for."""
        plan, client = self._plan, self._client
        wallets = wallet_service_pb2
        if plan.kind is Kind.CUSTOMERS:
            return _List(
                lambda token: client.list_customers(
                    customer_service_pb2.ListCustomersRequest(
                        page_size=CUSTOMERS_PER_PAGE, page_token=token, count_total=not token
                    )
                ),
                self._customers,
            )
        if plan.kind is Kind.WALLETS:
            return _List(
                lambda token: client.list_wallets(
                    wallets.ListWalletsRequest(
                        program_id=plan.program_id, page_size=ROWS_PER_PAGE, page_token=token, count_total=not token
                    )
                ),
                lambda page: export_rows.wallet_rows(page.wallets),
            )
        if plan.kind is Kind.TRANSACTIONS:
            return _List(
                lambda token: client.list_journal_transactions(
                    wallets.ListJournalTransactionsRequest(
                        since=plan.since,
                        until=plan.until,
                        page_size=ROWS_PER_PAGE,
                        page_token=token,
                        count_total=not token,
                    )
                ),
                lambda page: export_rows.transaction_rows(page.transactions),
            )
        rows_of = export_rows.balance_rows if plan.kind is Kind.BALANCES else export_rows.lot_rows
        return _List(
            lambda token: client.list_live_lots(
                wallets.ListLiveLotsRequest(
                    program_id=plan.program_id, page_size=ROWS_PER_PAGE, page_token=token, count_total=not token
                )
            ),
            lambda page: rows_of(page.lots),
        )

    def _customers(self, page: customer_service_pb2.ListCustomersResponse) -> Iterable[Row]:
        """Customers; those who are gone are left out of what is to be imported."""
        for one in page.customers:
            if self._plan.for_import and export_rows.is_gone(one):
                self._done.left_out += 1
                continue
            self._done.marked += export_rows.is_marked(one)
            yield export_rows.customer_row(one, for_import=self._plan.for_import)
