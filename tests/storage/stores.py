"""A store to test, and facts to put into it: events are made by hand, so that no rule of the domain takes part.

`Store` hides which backend it is. Its clock stands still until it is moved.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from databases import ATestsDatabase, SqliteFile
from points_grpc.domain import events as ev
from points_grpc.domain.model import (
    Account,
    BucketKey,
    Channel,
    Customer,
    FraudStatus,
    Identifier,
    IdentifierType,
    JournalEntry,
    Kind,
    Lot,
    Message,
    OrgConfig,
    OtpAction,
    Posting,
    Program,
    Source,
    StatusLabel,
    WalletKey,
)
from points_grpc.domain.outcome import Accepted, DoneResult, Outcome
from points_grpc.domain.policy import Policy
from points_grpc.domain.snapshot import Directory, Keys, Loaded, Lookups, Snapshot
from points_grpc.service.ports import RequestRecord, SealedMessage
from points_grpc.storage import migrate
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.opening import open_repository
from points_grpc.storage.queries import SqlQueries
from points_grpc.storage.repository import SqlRepository

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ORG, OTHER_ORG = 1, 2
GOLD, SILVER = 1, 2
ANN, BEN, CID = 11, 12, 13
NOTHING = Directory({}, {}, {}, {})
NO_KEYS = Keys()

_ids = count(1_000_000)


def next_id() -> int:
    """An id that no test used before."""
    return next(_ids)


def fill(database: ATestsDatabase) -> ATestsDatabase:
    """Makes the schema and two organisations in an empty database."""
    migrate.upgrade(database.url)
    opened = Database(database.url)
    accounts = Accounts(opened, now=lambda: NOW)
    accounts.create_org("one", "US", org_id=ORG)
    accounts.create_org("two", "GB", org_id=OTHER_ORG)
    opened.close()
    return database


class Store:
    """A database with a repository on it."""

    def __init__(self, on: ATestsDatabase, *, window: int = 4, synchronous: str = "OFF") -> None:
        self.on = on
        self.now = NOW
        self.statements: list[str] = []
        self.database = Database(on.url, synchronous=synchronous, readers=3)
        self.queries = SqlQueries(self.database)
        self._window = window
        self._durable = synchronous == "FULL"
        self.repository = self.open()

    @property
    def path(self) -> Path:
        """The file, where it is one."""
        assert isinstance(self.on, SqliteFile)
        return self.on.path

    @classmethod
    def copied(cls, source: Path, path: Path, **given: Any) -> Store:
        """A store on a copy of a database file that nobody has open."""
        shutil.copy(source, path)
        return cls(SqliteFile(path), **given)

    def open(self) -> SqlRepository:
        """Opens the repository as a new process would."""
        self.repository = open_repository(
            self.database,
            now=lambda: self.now,
            window=self._window,
            durable=self._durable,
            probe=lambda text: self.on_statement(text),  # noqa: PLW0108 - tests put another in its place
        )
        return self.repository

    def on_statement(self, text: str) -> None:
        """Sees every statement; tests put their own in its place."""
        self.statements.append(text)

    def reopen(self) -> None:
        """Ends the repository and opens another."""
        self.repository.close()
        self.open()

    def close(self) -> None:
        """Closes everything."""
        self.repository.close()
        self.database.close()

    # -- writing and reading -------------------------------------------------------------------------------------------

    def apply(
        self,
        events: Iterable[ev.Event] = (),
        *,
        keys: Keys | None = None,
        records: Sequence[RequestRecord] = (),
        sealed: Sequence[SealedMessage] = (),
        org_id: int = ORG,
    ) -> Snapshot:
        """Commits what events change, loaded for the customers they concern; the snapshot that they left."""
        with self.repository.write(org_id) as session:
            wanted = keys or Keys(customers=frozenset({ANN, BEN, CID}))
            snapshot = Snapshot(session.load(wanted, session.book(), NOTHING, {}), OrgConfig({}))
            snapshot.evolve(events)
            session.apply(snapshot.changes, records, sealed)
            session.commit()
        return snapshot

    def load(self, keys: Keys, *, windows: Mapping[WalletKey, int] | None = None, org_id: int = ORG) -> Loaded:
        """Reads what keys declare."""
        with self.repository.read(org_id) as session:
            return session.load(keys, session.book(), NOTHING, windows or {})

    def resolve(self, lookups: Lookups, *, org_id: int = ORG) -> Directory:
        """Resolves names."""
        with self.repository.read(org_id) as session:
            return session.resolve(lookups)

    def recorded(self, request_ids: Collection[str], *, org_id: int = ORG) -> Mapping[str, RequestRecord]:
        """The outcomes recorded under request ids."""
        with self.repository.write(org_id) as session:
            return session.recorded(request_ids)

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """Rows as another program sees them."""
        return self.on.rows(statement, *parameters)

    def tamper(self, *statements: str) -> None:
        """Changes rows behind the repository's back, whatever the constraints say."""
        self.on.tamper(*statements)

    def run(self, statement: str) -> None:
        """Runs a statement on the writer's own connection, in its transaction."""
        self.repository.connection().cursor().execute(statement)

    def connection(self) -> AbstractContextManager[Any]:
        """A connection of the driver, each statement committed by itself."""
        return self.on.connection()

    def rows_written(self) -> int:
        """How many rows the writer's connection wrote: in its transaction, or since it was opened."""
        cursor = self.repository.connection().cursor()
        cursor.execute(self.on.rows_written)
        [(number,)] = cursor.fetchall()
        return int(number)

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return self.on.counts()

    # -- a small world -------------------------------------------------------------------------------------------------

    def furnish(self) -> None:
        """Two programs, and three customers enrolled in both."""
        self.apply([*new_program(GOLD, default=True), *new_program(SILVER)], keys=NO_KEYS)
        events: list[ev.Event] = []
        for customer_id, name in ((ANN, "Ann"), (BEN, "Ben"), (CID, "Cid")):
            events.append(ev.CustomerSaved(customer(customer_id, name), created=True))
            events += [ev.Enrolled(WalletKey(customer_id, program_id), NOW) for program_id in (GOLD, SILVER)]
        self.apply(events, keys=NO_KEYS)

    def issue(self, customer_id: int, points: int, *, program_id: int = GOLD, **given: Any) -> Lot:
        """Issues one lot to a customer, with the record of its request."""
        wallet = self.load(Keys(customers=frozenset({customer_id}))).wallets[WalletKey(customer_id, program_id)]
        issued = lot(customer_id, points, program_id=program_id, **given)
        request_id = f"issue-{issued.lot_id}"
        booked = entry(
            Kind.ISSUE,
            (
                wallet_posting(issued, points, version=wallet.version + 1, balance=wallet.current + points),
                system_posting(Account.ISSUED, program_id, -points),
            ),
            customer_id=customer_id,
            program_id=program_id,
            transaction_id=issued.transaction_id,
            opened=(issued,),
            request_id=request_id,
        )
        self.apply(
            [ev.Booked(booked), ev.LifetimeRaised(issued.wallet, earned=points)],
            records=[record(request_id, Accepted(DoneResult(), (), booked.transaction_id), operation="SetPause")],
        )
        return issued


# -- facts -----------------------------------------------------------------------------------------------------------


def new_program(program_id: int, *, default: bool = False, **given: Any) -> list[ev.Event]:
    """A program with its first policy."""
    program = Program(
        program_id=program_id,
        name=given.pop("name", f"Program {program_id}"),
        active=True,
        decimal_places=0,
        time_zone=given.pop("time_zone", "UTC"),
        group_id=None,
        paused=False,
        policy=given.pop("policy", Policy()),
    )
    return [
        ev.ProgramSaved(program, default),
        ev.PolicySaved(program_id, program.policy, NOW, "root", "first"),
    ]


def customer(customer_id: int, name: str = "Ann", **given: Any) -> Customer:
    """A customer with every kind of identifier."""
    values: dict[str, Any] = {
        "customer_id": customer_id,
        "first_name": name,
        "last_name": "Doe",
        "mobile": f"+1555{customer_id:07d}",
        "email": f"{name.lower()}@example.org",
        "external_id": f"X-{customer_id}",
        "campaign_contact": False,
        "fraud_status": FraudStatus.NOT_FRAUD,
        "status_label": StatusLabel.ACTIVE,
        "transfers_locked_until": None,
        "merged_into": None,
        "created_at": NOW,
    }
    return Customer(**(values | given))


def by_id(customer_id: int) -> Identifier:
    """The identifier that is the customer's id."""
    return Identifier(IdentifierType.ID, str(customer_id))


def lot(customer_id: int, points: int, *, program_id: int = GOLD, **given: Any) -> Lot:
    """A lot that its own transaction opened."""
    lot_id = given.pop("lot_id", None) or next_id()
    values: dict[str, Any] = {
        "lot_id": lot_id,
        "wallet": WalletKey(customer_id, program_id),
        "bucket": BucketKey(
            given.pop("earning_program_id", program_id),
            given.pop("source", Source.LOYALTY_PLUS),
            given.pop("category", "Main"),
        ),
        "points": points,
        "remaining": points,
        "held": 0,
        "awarded_at": NOW,
        "available_from": None,
        "promised": False,
        "expires_at": NOW + timedelta(days=30),
        "parent_lot_id": None,
        "root_lot_id": lot_id,
        "transaction_id": next_id(),
    }
    return Lot(**(values | given))


def wallet_posting(of: Lot, points: int, *, version: int, balance: int) -> Posting:
    """A change of a lot of a wallet."""
    return Posting(Account.WALLET, of.customer_id, of.program_id, of.lot_id, points, version, balance)


def system_posting(account: Account, program_id: int, points: int) -> Posting:
    """A change of a system account."""
    return Posting(account, 0, program_id, 0, points, 0, 0)


def entry(
    kind: Kind, postings: Sequence[Posting], *, customer_id: int, program_id: int = GOLD, **given: Any
) -> JournalEntry:
    """A journal transaction."""
    values: dict[str, Any] = {
        "transaction_id": next_id(),
        "kind": kind,
        "created_at": NOW,
        "customer_id": customer_id,
        "counterparty_id": None,
        "program_id": program_id,
        "points": sum(one.points for one in postings if one.points > 0),
        "request_id": "",
        "actor": "till-1",
        "notes": "",
        "policy_revision": 1,
        "postings": tuple(postings),
        "opened": (),
        "transaction_number": None,
    }
    return JournalEntry(**(values | given))


def record(request_id: str, outcome: Outcome, *, operation: str = "SetPause") -> RequestRecord:
    """The record of a request id."""
    return RequestRecord(request_id, operation, "k1", {"points": "ab12", "to": "cd34"}, outcome, NOW)


def message(
    message_id: int, *, customer_id: int = ANN, action: OtpAction = OtpAction.TRANSFER, **given: Any
) -> Message:
    """A message with a code."""
    values: dict[str, Any] = {
        "message_id": message_id,
        "customer_id": customer_id,
        "action": action,
        "otp_id": message_id + 500,
        "channel": Channel.MOBILE,
        "target": "+15550000011",
        "secret": "123456",
        "created_at": NOW,
        "expires_at": NOW + timedelta(minutes=5),
    }
    return Message(**(values | given))


def sealed(of: Message) -> SealedMessage:
    """The message as it is stored."""
    return SealedMessage(
        org_id=ORG,
        message_id=of.message_id,
        customer_id=of.customer_id,
        action=of.action,
        channel=of.channel,
        target=of.target,
        sealed=b"sealed " + of.secret.encode(),
        key_id="k1",
        attempts=0,
        created_at=of.created_at,
        expires_at=of.expires_at,
    )
