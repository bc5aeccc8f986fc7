"""What the wire asks of the rest of the service: a Protocol for each neighbour, and the facts that cross over.

The composition root hands in what implements them. Nothing here knows gRPC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from points_grpc.domain.commands import Submission
from points_grpc.domain.model import Customer, Identifier, Lot, ProgramBook, WalletKey
from points_grpc.domain.outcome import Party, Refused, Settled
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
from points_grpc.rpc.call import Caller, CallSpan
from points_grpc.service.exporting import ExportedRecord
from points_grpc.service.ports import RequestRecord

Metadata = Sequence[tuple[str, str | bytes]]
"""The metadata of a call, keys in lower case."""


class Submitter(Protocol):
    """Takes writes: every command, and the checks that issue a code."""

    async def submit(self, submission: Submission, deadline: float) -> Settled:
        """
        The answer, once it is durable. `deadline` is in seconds of `time.monotonic()`.

        May be cancelled while it waits (the client went away, or the deadline passed): the command may still be
        carried out, and a future that was cancelled must not upset the others of its batch.
        """
        ...

    def refuses(self, org_id: int, items: int, operation: str) -> Refused | None:
        """Why a call with so many items is not taken at all; None if it may hand them over."""
        ...

    def submit_some(self, submissions: Sequence[Submission], deadline: float) -> Awaitable[Sequence[Settled]]:
        """
        Hands some items of one call over at once; what is awaited are their answers, in order, once all are durable.

        Items are decided in the order in which they are handed over, each for itself. May be cancelled like `submit`.
        """
        ...

    def drop_waiting(self) -> None:
        """Has what still waits answered as not taken, since the server stops."""
        ...


class Checker(Protocol):
    """Takes checks that write nothing."""

    async def check(self, submission: Submission, deadline: float) -> Settled:
        """The answer: what the deed would be told now, its proof apart."""
        ...


class Reads(Protocol):
    """The service's queries (`service.ports.Queries`, where each is explained), awaited."""

    async def program_book(self, org_id: int) -> ProgramBook:
        """The organisation's programs."""
        ...

    async def customer(self, org_id: int, identifier: Identifier) -> tuple[Customer, tuple[int, ...]] | None:
        """A customer with the programs of enrolment."""
        ...

    async def wallet(self, org_id: int, key: WalletKey, barred_sources: Collection[int], now: datetime) -> WalletView:
        """A wallet as it stands."""
        ...

    async def wallet_as_of(
        self, org_id: int, key: WalletKey, barred_sources: Collection[int], at: datetime
    ) -> WalletView:
        """A wallet as it stood at an instant in the past."""
        ...

    async def audit_events(self, org_id: int, *, subject: str, before: int, limit: int) -> Sequence[AuditRow]:
        """The audit log, newest first."""
        ...

    async def lots(
        self, org_id: int, key: WalletKey, *, include_spent: bool, after: Lot | None, limit: int, now: datetime
    ) -> Sequence[Lot]:
        """Lots in spending order."""
        ...

    async def transactions(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> tuple[Sequence[JournalRow], bool]:
        """Journal transactions that touched a customer, newest first, and whether there are more."""
        ...

    async def transfers(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> Sequence[TransferView]:
        """The transfers of a customer and of those merged into that one, newest first; bounds as of `transactions`."""
        ...

    async def trace(self, org_id: int, lot_id: int, *, limit: int, now: datetime) -> LotTrace | None:
        """Where a lot came from and what was drawn from it, so many lots at most; None if there is no such lot."""
        ...

    async def transaction(self, org_id: int, transaction_id: int) -> JournalRow | None:
        """A journal transaction with all postings."""
        ...

    async def request(self, org_id: int, request_id: str) -> RequestRecord | None:
        """The recorded outcome of a request id."""
        ...

    async def policy(self, org_id: int, program_id: int, revision: int) -> tuple[Policy, datetime] | None:
        """A revision of a program's policy and when it came into force."""
        ...

    async def config_values(self, org_id: int) -> Mapping[str, str]:
        """The configuration keys of the organisation."""
        ...

    async def parties(self, org_id: int, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers."""
        ...

    async def personal_records(
        self, org_id: int, customer_id: int, place: PersonalPlace, limit: int
    ) -> tuple[Sequence[PersonalRecord], PersonalPlace | None]:
        """What is kept about a person after a place, and where the next page starts."""
        ...


class Lists(Protocol):
    """Lists of whole organisations (`service.ports.Listings`, where each is explained), awaited."""

    async def customers(
        self, org_id: int, *, after: Position, limit: int, count: bool
    ) -> Listed[tuple[Customer, tuple[int, ...]]]:
        """Customers by id, with the programs of enrolment."""
        ...

    async def wallets(
        self,
        org_id: int,
        *,
        program_id: int,
        after: Position,
        limit: int,
        count: bool,
        now: datetime,
    ) -> Listed[ListedWallet]:
        """Wallets by customer and program."""
        ...

    async def live_lots(
        self, org_id: int, *, program_id: int, after: Position, limit: int, count: bool, now: datetime
    ) -> Listed[Lot]:
        """Lots with points left that have not expired."""
        ...

    async def journal(
        self, org_id: int, *, since: datetime | None, until: datetime | None, after: Position, limit: int, count: bool
    ) -> Listed[JournalRow]:
        """Journal transactions, highest id first."""
        ...


class Watching(Protocol):
    """Follows the journal (`service.watching`, where it is explained)."""

    def following(self, org_id: int, key: WalletKey | None, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Wakes somebody whenever the journal moves, or the wallet, if one is named."""
        ...

    async def heads(self, org_id: int) -> Mapping[int, int]:
        """The last position of each journal stream of an organisation."""
        ...

    async def version(self, org_id: int, key: WalletKey) -> int:
        """The version of a wallet; 0 if it is not there."""
        ...

    async def after(self, org_id: int, places: Mapping[int, int]) -> tuple[Sequence[JournalRow], bool]:
        """What follows a place in each stream, and whether there is more; or raises `Gap`."""
        ...

    async def wallet_after(
        self, org_id: int, key: WalletKey, version: int, from_id: int
    ) -> tuple[Sequence[JournalRow], bool]:
        """What made the versions of a wallet after a given one, and whether there is more; or raises `Gap`."""
        ...


class Exporting(Protocol):
    """Reads the journal for exports (`service.exporting`, where it is explained)."""

    async def heads(self, org_id: int) -> Mapping[int, int]:
        """The last position of each stream of an organisation."""
        ...

    async def page(self, org_id: int, stream: int, *, after: int, until: int) -> Sequence[ExportedRecord]:
        """The next entries of a stream after a position and up to another; none where there are none."""
        ...


class Connection(Protocol):
    """The connection that a call came over."""

    def peer_identities(self) -> Iterable[bytes] | None:
        """The names in the certificate that the client showed: its alternative names, or its common name."""
        ...


class Identity(Protocol):
    """Knows callers by what comes with their calls. Must answer from memory: it runs before everything else."""

    def authenticate(self, metadata: Metadata, connection: Connection) -> Caller | None:
        """The caller; None if there is no credential, or one that is unknown, expired or revoked."""
        ...


class Metrics(Protocol):
    """Counts calls."""

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Counts one call: gRPC code by name, reason of the refusal or empty."""
        ...


class Tracer(Protocol):
    """Traces calls, where that is wanted."""

    def begin(self, method: str, metadata: Metadata) -> CallSpan:
        """A call came."""
        ...


class CallLog(Protocol):
    """Where log lines go. Must not block."""

    def call(
        self,
        *,
        method: str,
        code: str,
        reason: str,
        ms: float,
        org: int,
        client: str,
        request_id: str,
        correlation_id: str,
        trace_id: str,
    ) -> None:
        """Writes the line of a call: what is known of it, and nothing of its content."""
        ...

    def info(self, event: str, **fields: object) -> None:
        """Writes a line about something usual."""
        ...

    def error(self, event: str, **fields: object) -> None:
        """Writes a line about something broken."""
        ...


@dataclass(frozen=True, slots=True)
class LimitFact:
    """A limit in force."""

    name: str
    value: int
    unit: str


@dataclass(frozen=True, slots=True)
class DurabilityFact:
    """How acknowledged writes are kept; `settings` as read from the writer's own connection."""

    backend: str
    settings: Mapping[str, str]
    durable: bool


@dataclass(frozen=True, slots=True)
class CheckpointFact:
    """How the server makes checkpoints; `last_made_at` in microseconds since 1970, `public_key` signs the next one."""

    interval_s: float
    last_made_at: int | None
    key_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What GetServerInfo tells beside the limits of the wire itself."""

    version: str
    schema_revision: str
    durability: DurabilityFact
    limits: tuple[LimitFact, ...] = ()
    checkpoints: CheckpointFact | None = None


class Facts(Protocol):
    """Knows the server that it runs in."""

    async def server_facts(self) -> ServerFacts:
        """The facts as they are now."""
        ...
