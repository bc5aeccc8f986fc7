"""The neighbours of the wire as the tests need them: they answer what they are told to and remember what they got."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from points_grpc.domain.checkpoint import CheckpointHead
from points_grpc.domain.commands import Submission
from points_grpc.domain.model import Customer, Identifier, Lot, ProgramBook, WalletKey
from points_grpc.domain.outcome import Accepted, DoneResult, Outcome, Party, Refused, Settled
from points_grpc.domain.policy import Policy
from points_grpc.domain.views import (
    AuditRow,
    JournalRow,
    Listed,
    ListedWallet,
    LotTrace,
    PersonalPlace,
    PersonalRecord,
    Position,
    TransferView,
    WalletView,
)
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.ports import DurabilityFact, LimitFact, Metadata, ServerFacts
from points_grpc.service.exporting import ExportedRecord
from points_grpc.service.ports import RequestRecord

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)

Item = TypeVar("Item")


class NullLog:
    """Keeps lines in memory."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.errors: list[tuple[str, dict[str, object]]] = []

    def call(self, **fields: Any) -> None:
        self.calls.append(fields)

    def info(self, event: str, **fields: object) -> None:
        pass

    def error(self, event: str, **fields: object) -> None:
        self.errors.append((event, fields))


class FakeSubmitter:
    """Takes writes and checks; `outcome` is the answer, `wait_s` how long it takes, `error` what it raises."""

    def __init__(self) -> None:
        self.outcome: Outcome = Accepted(DoneResult())
        self.replayed = False
        self.wait_s = 0.0
        self.error: Exception | None = None
        self.shed: Refused | None = None
        self.parties: tuple[Party, ...] = ()
        self.program_name = ""
        self.submitted: list[tuple[Submission, float]] = []
        self.checked: list[tuple[Submission, float]] = []
        self.cancelled = self.dropped = 0

    async def submit(self, submission: Submission, deadline: float) -> Settled:
        self.submitted.append((submission, deadline))
        return await self._settle(submission)

    def refuses(self, org_id: int, items: int, operation: str) -> Refused | None:
        return self.shed

    def submit_some(self, submissions: Sequence[Submission], deadline: float) -> Awaitable[Sequence[Settled]]:
        self.submitted.extend((one, deadline) for one in submissions)
        return self._settle_some(submissions)

    async def _settle_some(self, submissions: Sequence[Submission]) -> Sequence[Settled]:
        return [await self._settle(one) for one in submissions]

    def drop_waiting(self) -> None:
        self.dropped += 1

    async def check(self, submission: Submission, deadline: float) -> Settled:
        self.checked.append((submission, deadline))
        return await self._settle(submission)

    async def _settle(self, submission: Submission) -> Settled:
        try:
            if self.wait_s:
                await asyncio.sleep(self.wait_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return Settled(
            outcome=self.outcome,
            request_id=submission.request_id,
            replayed=self.replayed,
            parties=self.parties,
            program_name=self.program_name,
        )


class FakeReads:
    """Holds a small world in memory."""

    def __init__(self, book: ProgramBook | None = None) -> None:
        self.book = book
        self.customers: dict[Identifier, tuple[Customer, tuple[int, ...]]] = {}
        self.wallet_view: WalletView | None = None
        self.lot_list: list[Lot] = []
        self.personal: list[PersonalRecord] = []
        self.audit: list[AuditRow] = []
        self.journal: list[JournalRow] = []
        self.transfer_list: list[TransferView] = []
        self.traces: dict[int, LotTrace] = {}
        self.names: dict[int, Party] = {}
        self.records: dict[str, RequestRecord] = {}
        self.policies: dict[tuple[int, int], tuple[Policy, datetime]] = {}
        self.config: dict[str, str] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.error: Exception | None = None

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error:
            raise self.error

    async def program_book(self, org_id: int) -> ProgramBook:
        self._note("program_book", org_id)
        assert self.book is not None
        return self.book

    async def customer(self, org_id: int, identifier: Identifier) -> tuple[Customer, tuple[int, ...]] | None:
        self._note("customer", org_id, identifier)
        return self.customers.get(identifier)

    async def wallet(self, org_id: int, key: WalletKey, barred_sources: Collection[int], now: datetime) -> WalletView:
        self._note("wallet", org_id, key, barred_sources, now)
        assert self.wallet_view is not None
        return self.wallet_view

    async def wallet_as_of(
        self, org_id: int, key: WalletKey, barred_sources: Collection[int], at: datetime
    ) -> WalletView:
        self._note("wallet_as_of", org_id, key, barred_sources, at)
        assert self.wallet_view is not None
        return self.wallet_view

    async def audit_events(self, org_id: int, *, subject: str, before: int, limit: int) -> Sequence[AuditRow]:
        self._note("audit_events", org_id, subject, before, limit)
        found = [row for row in self.audit if before == 0 or row.audit_id < before]
        return found[:limit]

    async def lots(
        self, org_id: int, key: WalletKey, *, include_spent: bool, after: Lot | None, limit: int, now: datetime
    ) -> Sequence[Lot]:
        self._note("lots", org_id, key, include_spent, limit, now)
        start = 0
        if after is not None:
            places = [(one.expires_at, one.awarded_at, one.lot_id) for one in self.lot_list]
            start = places.index((after.expires_at, after.awarded_at, after.lot_id)) + 1
        return self.lot_list[start : start + limit]

    async def transactions(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> tuple[Sequence[JournalRow], bool]:
        self._note("transactions", org_id, customer_id, program_id, before, limit)
        found = [row for row in self.journal if before == 0 or row.entry.transaction_id < before]
        return found[:limit], len(found) > limit

    async def transfers(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> Sequence[TransferView]:
        self._note("transfers", org_id, customer_id, program_id, before, limit)
        found = [one for one in self.transfer_list if before == 0 or one.transfer_id < before]
        return found[:limit]

    async def trace(self, org_id: int, lot_id: int, *, limit: int, now: datetime) -> LotTrace | None:
        self._note("trace", org_id, lot_id, limit, now)
        return self.traces.get(lot_id)

    async def transaction(self, org_id: int, transaction_id: int) -> JournalRow | None:
        self._note("transaction", org_id, transaction_id)
        return next((row for row in self.journal if row.entry.transaction_id == transaction_id), None)

    async def request(self, org_id: int, request_id: str) -> RequestRecord | None:
        self._note("request", org_id, request_id)
        return self.records.get(request_id)

    async def policy(self, org_id: int, program_id: int, revision: int) -> tuple[Policy, datetime] | None:
        self._note("policy", org_id, program_id, revision)
        return self.policies.get((program_id, revision))

    async def config_values(self, org_id: int) -> Mapping[str, str]:
        self._note("config_values", org_id)
        return self.config

    async def parties(self, org_id: int, customer_ids: Collection[int]) -> Mapping[int, Party]:
        self._note("parties", org_id, customer_ids)
        return {one: self.names[one] for one in customer_ids if one in self.names}

    async def personal_records(
        self, org_id: int, customer_id: int, place: PersonalPlace, limit: int
    ) -> tuple[Sequence[PersonalRecord], PersonalPlace | None]:
        self._note("personal_records", org_id, customer_id, place, limit)
        start = int(place.after or 0)
        page = self.personal[start : start + limit]
        following = start + len(page)
        return page, PersonalPlace(8, str(following)) if following < len(self.personal) else None


class FakeLists:
    """Lists in memory, each of items with their places; notes what was asked beside place and size."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.customer_list: list[tuple[Customer, tuple[int, ...]]] = []
        self.wallet_list: list[ListedWallet] = []
        self.lot_list: list[Lot] = []
        self.journal_list: list[JournalRow] = []

    async def customers(
        self, org_id: int, *, after: Position, limit: int, count: bool
    ) -> Listed[tuple[Customer, tuple[int, ...]]]:
        self.asked.append(("customers", org_id))
        places = [(customer.customer_id,) for customer, _ in self.customer_list]
        return page_of(self.customer_list, places, after, limit, count=count)

    async def wallets(
        self, org_id: int, *, program_id: int, after: Position, limit: int, count: bool, now: datetime
    ) -> Listed[ListedWallet]:
        self.asked.append(("wallets", org_id, program_id, now))
        places = [(one.balance.customer_id, one.balance.program_id) for one in self.wallet_list]
        return page_of(self.wallet_list, places, after, limit, count=count)

    async def live_lots(
        self, org_id: int, *, program_id: int, after: Position, limit: int, count: bool, now: datetime
    ) -> Listed[Lot]:
        self.asked.append(("live_lots", org_id, program_id, now))
        places = [(*lot.wallet, number, -(2**62), lot.lot_id) for number, lot in enumerate(self.lot_list)]
        return page_of(self.lot_list, places, after, limit, count=count)

    async def journal(
        self, org_id: int, *, since: datetime | None, until: datetime | None, after: Position, limit: int, count: bool
    ) -> Listed[JournalRow]:
        self.asked.append(("journal", org_id, since, until))
        places = [(row.entry.transaction_id,) for row in self.journal_list]
        return page_of(self.journal_list, places, after, limit, count=count)


def page_of(
    items: Sequence[Item], places: Sequence[Position], after: Position, limit: int, *, count: bool
) -> Listed[Item]:
    """What follows a place in a list."""
    start = places.index(after) + 1 if after else 0
    goes_on = start + limit < len(items)
    return Listed(
        items[start : start + limit], places[start + limit - 1] if goes_on else None, len(items) if count else 0
    )


class FakeJournal:
    """A journal in memory: rows by organisation; `error` is what reading raises."""

    def __init__(self) -> None:
        self.rows: dict[int, list[JournalRow]] = {}
        self.lost: set[tuple[int, int]] = set()
        self.error: Exception | None = None
        self.reads = 0

    def _rows(self, org_id: int) -> list[JournalRow]:
        self.reads += 1
        if self.error:
            raise self.error
        return list(self.rows.get(org_id, ()))

    def heads(self, org_ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        return {one: {row.stream: row.position for row in self._rows(one)} for one in org_ids}

    def versions(self, wanted: Collection[tuple[int, WalletKey]]) -> Mapping[tuple[int, WalletKey], int]:
        return {
            (org_id, key): max((version_of(row, key) for row in self._rows(org_id)), default=0)
            for org_id, key in wanted
        }

    def after(
        self, org_id: int, places: Mapping[int, int], limit: int
    ) -> tuple[Mapping[int, int], Sequence[JournalRow]]:
        rows = self._rows(org_id)
        found = [
            row
            for row in rows
            if row.position > places.get(row.stream, 0) and (row.stream, row.position) not in self.lost
        ]
        return self.heads((org_id,))[org_id], sorted(found, key=lambda row: row.stream)[:limit]

    def wallet_after(
        self, org_id: int, key: WalletKey, version: int, from_id: int, limit: int
    ) -> tuple[int, Sequence[JournalRow]]:
        rows = [row for row in self._rows(org_id) if (row.stream, row.position) not in self.lost]
        found = sorted((version_of(row, key), row.position, row) for row in rows if version_of(row, key) > version)
        run = [row for at, (made, _, row) in enumerate(found) if made == version + 1 + at]
        return self.versions([(org_id, key)])[org_id, key], run[:limit]


def version_of(row: JournalRow, key: WalletKey) -> int:
    """The version that a transaction makes of a wallet; 0 if it does not touch it."""
    return max(
        (one.wallet_version for one in row.entry.postings if (one.customer_id, one.program_id) == tuple(key)),
        default=0,
    )


class FakeExported:
    """An exported journal in memory: the records of each stream; `holes` are positions whose records are gone."""

    def __init__(self) -> None:
        self.streams: dict[int, list[bytes]] = {}
        self.holes: set[tuple[int, int]] = set()
        self.page_max = 3
        self.error: Exception | None = None
        self.asked: list[tuple[int, int, int, int]] = []

    def heads(self, org_id: int) -> Sequence[CheckpointHead]:
        if self.error:
            raise self.error
        return [CheckpointHead(org_id, stream, len(found), b"") for stream, found in self.streams.items()]

    def page(self, org_id: int, stream: int, *, after: int, until: int) -> Sequence[ExportedRecord]:
        self.asked.append((org_id, stream, after, until))
        found = [
            ExportedRecord(position, data)
            for position, data in enumerate(self.streams[stream], start=1)
            if after < position <= until and (stream, position) not in self.holes
        ]
        return found[: self.page_max]


class FakeIdentity:
    """Knows one caller by the token `Bearer <role>`."""

    def __init__(self) -> None:
        self.asked = 0
        self.request_id_required = False
        self.signs = False
        self.signing_secret: bytes | None = None
        self.revoked = False
        self.org_id = 1

    def authenticate(self, metadata: Metadata, connection: object) -> Caller | None:
        self.asked += 1
        token = dict(metadata).get("authorization", "")
        if self.revoked or not isinstance(token, str) or not token.startswith("Bearer "):
            return None
        role = Role[token.removeprefix("Bearer ").upper()]
        return Caller(
            org_id=self.org_id,
            client="till",
            key_id="k1",
            role=role,
            default_region="IN",
            request_id_required=self.request_id_required,
            signs=self.signs or self.signing_secret is not None,
            signing_secret=self.signing_secret,
        )


class FakeMetrics:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((method, code, reason))


class FakeFacts:
    """A server that knows itself."""

    async def server_facts(self) -> ServerFacts:
        return ServerFacts(
            version="1.2.3",
            schema_revision="0001",
            durability=DurabilityFact("sqlite", {"synchronous": "FULL"}, durable=True),
            limits=(LimitFact("batch_max", 256, "commands"),),
        )
