"""What the service asks of its storage: a Protocol for each side, and the rows that cross it.

The storage implements them (`storage/repository.py`); the storage contract in tests/storage runs on every backend.
Nothing here knows SQL. Times are aware UTC datetimes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from points_grpc.domain.model import (
    Channel,
    Customer,
    Identifier,
    Lot,
    Notice,
    OrgConfig,
    OtpAction,
    ProgramBook,
    WalletKey,
)
from points_grpc.domain.outcome import Outcome, Party
from points_grpc.domain.policy import Policy
from points_grpc.domain.snapshot import Changes, Directory, Keys, Loaded, Lookups
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


class StorageUnavailable(Exception):
    """The database could not be reached, or refused before anything was written: nothing was written."""


class StorageFull(Exception):
    """The disk of the store is full: nothing was written."""


class StorageConflict(Exception):
    """A conflict with another writer; everything was rolled back, and the batch may be run again."""


class KeyTaken(StorageConflict):
    """A row with this key exists already."""


class OutcomeUnknown(Exception):
    """The connection was lost while committing: whether the batch was written is not known. Never rerun."""


class SettingWrong(ValueError):
    """A setting can never be served as it is; says which, in a sentence for the operator. Nothing was done.

    What stands in a file or comes from a network may be mended without touching a setting: that is another error.
    """


class NotTaken(asyncio.CancelledError):
    """The caller gave up on a command that still waited: it is dropped, and certainly not written."""


class WriterFenced(Exception):
    """Another writer advanced this writer's journal stream: the lease was lost, nothing was written."""


STORAGE_CONDITIONS = (StorageUnavailable, StorageFull, StorageConflict, OutcomeUnknown, WriterFenced)
"""What may become of a batch without a bug."""


class NotWritable(Exception):
    """A batch was decided, and writing it failed for a cause that will not pass by itself; nothing was written."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        """Takes what had been decided."""
        super().__init__()
        self.outcomes = outcomes


class RequestRecord(Struct, frozen=True):
    """The recorded outcome of a request id. `fingerprint` maps field names to keyed hashes (hex), under `key_id`."""

    request_id: str
    operation: str
    key_id: str
    fingerprint: Mapping[str, str]
    outcome: Outcome
    created_at: datetime


class SealedMessage(Struct, frozen=True):
    """An outbox message as it is stored: the code is sealed, and gone once the message is settled."""

    org_id: int
    message_id: int
    customer_id: int
    action: OtpAction
    channel: Channel
    target: str
    sealed: bytes
    key_id: str
    attempts: int
    created_at: datetime
    expires_at: datetime
    locale: str = ""
    """The customer's, as a BCP 47 tag; empty if none is known."""

    def __repr__(self) -> str:
        """Shows neither target nor ciphertext."""
        return f"SealedMessage({self.message_id})"


class Taken(Struct, frozen=True):
    """What a batch is decided on: which customers are locked, which request ids have an outcome, and the state.

    What was loaded for customers that are not locked may change under way: nothing may be decided on it.
    """

    locked: frozenset[int]
    recorded: Mapping[str, RequestRecord]
    loaded: Loaded


class WriteSession(Protocol):
    """One write transaction for one organisation. Left without `commit`, it is rolled back."""

    def names(self, lookups: Lookups) -> tuple[ProgramBook, Directory]:
        """The organisation's programs as of this transaction, and what the commands name."""
        ...

    def take(
        self,
        customer_ids: Sequence[int],
        request_ids: Collection[str],
        keys: Keys,
        book: ProgramBook,
        directory: Directory,
        *,
        wait: bool,
    ) -> Taken:
        """Locks customers' rows in the order given, with `wait` all; then recalls request ids; then loads as `load`.

        Recalled after the lock: a duplicate that another process decided is there. An id that two processes decide at
        the same time for different customers is written by one; the other conflicts.
        Raises `StorageConflict` if what was resolved before the lock does not hold any more.
        """
        ...

    def load(self, keys: Keys, book: ProgramBook, directory: Directory, windows: Mapping[WalletKey, int]) -> Loaded:
        """Reads the clock, then everything declared. `windows` overrides how many lots of a wallet are loaded."""
        ...

    def parties(self, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers, for answers that are given again."""
        ...

    def apply(self, changes: Changes, records: Sequence[RequestRecord], sealed: Sequence[SealedMessage]) -> None:
        """Writes what the batch changed, and the outcomes of its request ids."""
        ...

    def commit(self) -> None:
        """Commits. Raises `OutcomeUnknown` if it cannot be known whether it did."""
        ...


class ReadSession(Protocol):
    """One read-only snapshot for checks; the same questions as a write, and no way to change anything."""

    def names(self, lookups: Lookups) -> tuple[ProgramBook, Directory]:
        """As in a write session."""
        ...

    def load(self, keys: Keys, book: ProgramBook, directory: Directory, windows: Mapping[WalletKey, int]) -> Loaded:
        """As in a write session."""
        ...


class Snapshots(Protocol):
    """The reading side of the store. Safe from any thread."""

    def read(self, org_id: int) -> AbstractContextManager[ReadSession]:
        """Opens a read-only transaction on a connection of the readers' pool."""
        ...

    def config(self, org_id: int) -> OrgConfig:
        """Reads the organisation's configuration keys, apart from any write; unavailable if that fails."""
        ...


class Repository(Protocol):
    """The store of the decision core, for the writer."""

    def write(self, org_id: int) -> AbstractContextManager[WriteSession]:
        """Opens a write transaction. Called by the writer alone."""
        ...

    def config(self, org_id: int) -> OrgConfig:
        """As in `Snapshots`."""
        ...


class Outbox(Protocol):
    """What the dispatcher takes messages from."""

    def due_messages(self, now: datetime, limit: int) -> Sequence[SealedMessage]:
        """Outbox messages of all organisations that are due for delivery, oldest first per customer and target."""
        ...

    def config(self, org_id: int) -> OrgConfig:
        """The organisation's configuration keys, among them the words of its messages."""
        ...


class Notices(Protocol):
    """What the publisher takes business events from."""

    def due_notices(self, now: datetime, limit: int) -> Sequence[Notice]:
        """Events of all organisations that are due, of each customer the oldest alone."""
        ...

    def config(self, org_id: int) -> OrgConfig:
        """The organisation's configuration keys, which say what it wants to be told."""
        ...


class DueWallet(Struct, frozen=True):
    """A wallet of some organisation on the sweep's way, and whether something of it is due."""

    org_id: int
    customer_id: int
    program_id: int
    due: bool


class DueWallets(Protocol):
    """What the sweep walks through."""

    def wallets_after(self, last: DueWallet | None, now: datetime, limit: int) -> Sequence[DueWallet]:
        """The next wallets of all organisations after the last one seen; none at the end."""
        ...


class Queries(Protocol):
    """Reads for answers: each opens its own read-only snapshot. Safe from any thread."""

    def program_book(self, org_id: int) -> ProgramBook:
        """The organisation's programs."""
        ...

    def customer(self, org_id: int, identifier: Identifier) -> tuple[Customer, tuple[int, ...]] | None:
        """A customer with the programs of enrolment; None if the organisation has no such customer."""
        ...

    def wallet(self, org_id: int, key: WalletKey, barred_sources: Collection[int], now: datetime) -> WalletView:
        """A wallet as it stands; all zero, version 0, if the customer has none."""
        ...

    def wallet_as_of(self, org_id: int, key: WalletKey, barred_sources: Collection[int], at: datetime) -> WalletView:
        """A wallet as it stood at an instant in the past, by the journal."""
        ...

    def audit_events(self, org_id: int, *, subject: str, before: int, limit: int) -> Sequence[AuditRow]:
        """The audit log, newest first. `subject` empty: of all; `before` 0: from the newest on."""
        ...

    def lots(
        self, org_id: int, key: WalletKey, *, include_spent: bool, after: Lot | None, limit: int, now: datetime
    ) -> Sequence[Lot]:
        """Lots in spending order, those after `after` (only its expiry, award and id are read)."""
        ...

    def transactions(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> tuple[Sequence[JournalRow], bool]:
        """Journal transactions that touched a customer, newest first, with its postings; whether there are more.

        Fewer than `limit` where they have very many postings: an answer has to stay one that a client takes.

        Customers who were merged into that one are read along.
        `program_id` 0: of all programs; `before` 0: from the newest on, else those with a lower id.
        """
        ...

    def transfers(
        self, org_id: int, customer_id: int, *, program_id: int, before: int, limit: int
    ) -> Sequence[TransferView]:
        """The transfers of a customer and of those merged into that one, newest first; bounds as of `transactions`."""
        ...

    def trace(self, org_id: int, lot_id: int, *, limit: int, now: datetime) -> LotTrace | None:
        """Where a lot came from and what was drawn from it, so many lots at most; None if there is no such lot."""
        ...

    def transaction(self, org_id: int, transaction_id: int) -> JournalRow | None:
        """A journal transaction with all postings."""
        ...

    def request(self, org_id: int, request_id: str) -> RequestRecord | None:
        """The recorded outcome of a request id."""
        ...

    def policy(self, org_id: int, program_id: int, revision: int) -> tuple[Policy, datetime] | None:
        """A revision of a program's policy and when it came into force; revision 0: the present one."""
        ...

    def config_values(self, org_id: int) -> Mapping[str, str]:
        """The configuration keys of the organisation."""
        ...

    def parties(self, org_id: int, customer_ids: Collection[int]) -> Mapping[int, Party]:
        """The names of customers."""
        ...

    def personal_records(
        self, org_id: int, customer_id: int, place: PersonalPlace, limit: int
    ) -> tuple[Sequence[PersonalRecord], PersonalPlace | None]:
        """What is kept about a customer and those merged into that one, after a place; and where the next page starts.

        None: nowhere, it was the last one.
        """
        ...


class Listings(Protocol):
    """Lists of a whole organisation, page by page: each page its own read-only snapshot. Safe from any thread.

    A page looks at `limit` rows and may show fewer; the next one goes on where `after` of the page says. `count` asks
    for the number of all, too.
    """

    def customers(
        self, org_id: int, *, after: Position, limit: int, count: bool
    ) -> Listed[tuple[Customer, tuple[int, ...]]]:
        """Customers by id, with the programs of enrolment."""
        ...

    def wallets(
        self,
        org_id: int,
        *,
        program_id: int,
        after: Position,
        limit: int,
        count: bool,
        now: datetime,
    ) -> Listed[ListedWallet]:
        """Wallets by customer and program, as they stand; `program_id` 0: of all programs."""
        ...

    def live_lots(
        self, org_id: int, *, program_id: int, after: Position, limit: int, count: bool, now: datetime
    ) -> Listed[Lot]:
        """Lots with points left that have not expired, by customer, program and spending order; as `wallets`."""
        ...

    def journal(
        self, org_id: int, *, since: datetime | None, until: datetime | None, after: Position, limit: int, count: bool
    ) -> Listed[JournalRow]:
        """Journal transactions made from `since` on and before `until`, highest id first, without postings."""
        ...
