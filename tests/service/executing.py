"""A real executor over a real database file, whose clock, ids, keys and random bytes the test holds.

Ids count up from `FIRST_ID` and begin again where a batch is loaded again, so that they do not depend on how often it
was decided. A `Bench` can be copied while it is closed: the same state twice, to run the same commands in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from databases import ATestsDatabase
from points_grpc.domain.chain import SALT_BYTES
from points_grpc.domain.commands import Command, CreateCustomer, CreateProgram, Expiry, IssuePoints, Submission
from points_grpc.domain.model import Channel, Identifier, IdentifierType, Source
from points_grpc.domain.outcome import Accepted, Refused, Settled
from points_grpc.domain.policy import Policy
from points_grpc.service.checks import Checks
from points_grpc.service.executor import Answer, Deferred, Executor
from points_grpc.service.keyring import KEY_BYTES, Keyring
from points_grpc.service.meter import Meter
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.load import WINDOW
from points_grpc.storage.migrate import upgrade
from points_grpc.storage.opening import open_repository

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
ORG_ID = 1
FIRST_ID = 1_000_000
GOLD = 1
ANN, BEN, CID = 11, 12, 13
SEED = bytes(range(32))


def keys(*key_ids: str) -> Keyring:
    """A keyring whose last key is active."""
    return Keyring({one: one.encode().ljust(KEY_BYTES, b".") for one in key_ids}, key_ids[-1])


def by_id(customer_id: int) -> Identifier:
    """The identifier that is the customer's id."""
    return Identifier(IdentifierType.ID, str(customer_id))


def content(command: Command) -> dict[str, bytes]:
    """Every field of a command, as the request's content that is compared."""
    return {name: msgspec.json.encode(value) for name, value in msgspec.to_builtins(command).items()}


def submission(command: Command, request_id: str, *, given: bool = True, otp_seed: bytes = SEED) -> Submission:
    """A command on its way from a client."""
    return Submission(ORG_ID, command, request_id, given, content(command), "till-1", otp_seed)


def template(on: ATestsDatabase) -> ATestsDatabase:
    """The database, with the schema and one organisation."""
    upgrade(on.url)
    database = Database(on.url)
    Accounts(database, now=lambda: NOW).create_org("org", "IN", org_id=ORG_ID)
    database.close()
    return on


class Bench:
    """An executor with its store. Commits are not synced: nothing here is about a power loss."""

    def __init__(
        self,
        on: ATestsDatabase,
        *,
        window: int = WINDOW,
        keyring: Keyring | None = None,
        probe: Callable[[str], None] | None = None,
        now: datetime = NOW,
        first_id: int = FIRST_ID,
        meter: Meter | None = None,
    ) -> None:
        self.on = on
        self.rows = on.rows
        self.change = on.change
        self.now = now
        self.loads = 0
        self.keyring = keyring or keys("k1")
        self._probe = probe
        self._meter = meter
        self._base = self._last = self._requests = first_id
        self.database = Database(on.url, synchronous="OFF")
        self.repository = open_repository(
            self.database, now=self._read_clock, window=window, durable=False, probe=self._probed
        )
        self.repository.salt = lambda: bytes(SALT_BYTES)  # the same whenever: tables are compared
        self.executor = self._new_executor()

    @classmethod
    def copied(cls, source: ATestsDatabase, **given: Any) -> Bench:
        """A bench over a copy of a database that nobody has open."""
        return cls(source.copy(), **given)

    def close(self) -> None:
        """Closes the store."""
        self.repository.close()
        self.database.close()

    def rekey(self, *key_ids: str) -> None:
        """Goes on with other keys, as a process would after a restart."""
        self.keyring = keys(*key_ids)
        self.executor = self._new_executor()

    def pass_time(self, **given: float) -> None:
        """Lets time pass, as in `timedelta`."""
        self.now += timedelta(**given)

    def probe(self, probe: Callable[[str], None] | None) -> None:
        """Lets a probe see each statement from here on."""
        self._probe = probe

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, batch: Sequence[Submission]) -> list[Answer]:
        """Runs a batch as the writer would."""
        self._base = self._last
        return self.executor.run(ORG_ID, batch)

    def check(self, one: Submission) -> Settled:
        """Decides a check as the server would, beside the writer."""
        [answer] = self.checks(one)
        assert isinstance(answer, Settled)
        return answer

    def checks(self, *batch: Submission) -> list[Answer]:
        """Decides checks together, as the server would."""
        return Checks(self.repository, keyring=self.keyring, channels=frozenset(Channel)).check(ORG_ID, batch)

    def settle(self, *batch: Submission) -> list[Settled]:
        """Runs a batch of which nothing may be deferred."""
        answers = self.run(batch)
        assert not any(isinstance(one, Deferred) for one in answers)
        return [one for one in answers if isinstance(one, Settled)]

    def do(self, command: Command, request_id: str = "", **given: Any) -> Settled:
        """Runs one command alone, under a request id of its own if none is named."""
        self._requests += 1
        return self.settle(submission(command, request_id or f"bench-{self._requests}", **given))[0]

    def accept(self, command: Command, request_id: str = "", **given: Any) -> Any:
        """Runs one command that must be accepted; its result."""
        outcome = self.do(command, request_id, **given).outcome
        assert isinstance(outcome, Accepted), outcome
        return outcome.result

    def refuse(self, command: Command, request_id: str = "", **given: Any) -> Refused:
        """Runs one command that must be refused; the refusal."""
        outcome = self.do(command, request_id, **given).outcome
        assert isinstance(outcome, Refused), outcome
        return outcome

    # -- a small world -----------------------------------------------------------------------------------------------

    def make_program(self, program_id: int = GOLD, policy: Policy | None = None, **given: Any) -> None:
        """A program; the first one made is the default one."""
        fields: dict[str, Any] = {"name": f"Program {program_id}", "default": False, "decimal_places": 0}
        self.accept(
            CreateProgram(
                **{"program_id": program_id, "time_zone": "UTC", "policy": policy or Policy()} | fields | given
            )
        )

    def make_customer(self, customer_id: int, *program_ids: int, points: int = 0) -> None:
        """A customer with all kinds of identifiers, enrolled in gold unless told otherwise, with one lot of points."""
        self.accept(
            CreateCustomer(
                customer_id=customer_id,
                first_name=f"First{customer_id}",
                last_name=f"Last{customer_id}",
                mobile=f"+9198765400{customer_id}",
                email=f"c{customer_id}@example.com",
                external_id=f"X-{customer_id}",
                program_ids=program_ids or (GOLD,),
                campaign_contact=False,
            )
        )
        if points:
            self.issue(customer_id, points)

    def issue(self, customer_id: int, points: int, expiry: Expiry | None = None, **given: Any) -> None:
        """One lot of points in gold."""
        fields: dict[str, Any] = {"program_id": GOLD, "source": Source.LOYALTY_PLUS, "expiry": expiry or Expiry()}
        self.accept(IssuePoints(**{"customer": by_id(customer_id), "points": points} | fields | given))

    # -- questions ---------------------------------------------------------------------------------------------------

    def tables(self) -> Mapping[str, list[tuple[Any, ...]]]:
        """Every row of every table, sorted; who writes is no part of it."""
        return {name: sorted(rows, key=repr) for name, rows in self.on.tables().items() if name != "writer_slots"}

    def current(self, customer_id: int, program_id: int = GOLD) -> int:
        """A wallet's current points as stored."""
        query = "SELECT current FROM wallets WHERE org_id = ? AND customer_id = ? AND program_id = ?"
        [(points,)] = self.rows(query, ORG_ID, customer_id, program_id)
        return int(points)

    # -- what the executor is given ----------------------------------------------------------------------------------

    def _new_executor(self) -> Executor:
        return Executor(
            self.repository,
            next_id=self._next_id,
            keyring=self.keyring,
            channels=frozenset(Channel),
            monotonic=self._monotonic,
            meter=self._meter,
        )

    def _read_clock(self) -> datetime:
        """The clock is read once whenever a batch is loaded: there its ids begin again."""
        self.loads += 1
        self._last = self._base
        return self.now

    def _monotonic(self) -> float:
        return self.now.timestamp()

    def _next_id(self) -> int:
        self._last += 1
        return self._last

    def _probed(self, text: str) -> None:
        if self._probe is not None:
            self._probe(text)
