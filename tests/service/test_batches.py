"""Batched equals one by one: the same random commands, in batches and alone, give the same answers and the same rows.

Both ways start from copies of one database and get the same ids, clock and random bytes, so that every row and every
answer must be equal as it is. Nothing is left out; only the ciphertexts of the outbox are opened, for they are random.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from executing import Bench, by_id, submission, template

from databases import ATestsDatabase, NewDatabase
from points_grpc.domain.commands import (
    AcknowledgeMessages,
    AdjustPoints,
    CheckRedemption,
    CheckTransfer,
    Command,
    CreateCustomer,
    CreateProgramGroup,
    EnrolCustomer,
    Expiry,
    IssuePoints,
    IssueRedemptionOtp,
    IssueTransferOtp,
    MergeCustomers,
    MessageResult,
    RecordPurchase,
    RedeemPoints,
    ReverseRedemption,
    ReverseTransfer,
    SetConfigKey,
    SetCustomerStatus,
    SetPause,
    SetPolicy,
    SetTransferLock,
    Submission,
    TransferPoints,
    operation_of,
)
from points_grpc.domain.decide import EXCLUSIVE
from points_grpc.domain.model import FraudStatus, Identifier, IdentifierType, Kind, OtpAction, Source, StatusLabel
from points_grpc.domain.otp import derive_code
from points_grpc.domain.outcome import Accepted, RedemptionResult, Settled, TransferResult
from points_grpc.domain.policy import (
    Category,
    Direction,
    OtpPolicy,
    OtpRequirement,
    Policy,
    RedemptionPolicy,
    TransferPolicy,
    VelocityLimit,
    Window,
)
from points_grpc.service.executor import Deferred
from points_grpc.service.keyring import Keyring
from points_grpc.storage.verify import verify

GOLD, SILVER, BRONZE, METALS = 1, 2, 3, 9
FIRST_CUSTOMER = 11
SEEDS = [int(os.environ["POINTS_SEED"])] if "POINTS_SEED" in os.environ else list(range(8))
BATCHES = 30
BATCH_MAX = 36
PASSING = [0, 0, 1, 20, 400, 7200, 90_000]
"""Seconds between batches, and until points become available or have one microsecond left: so that some just did.

None expires at the very instant of a batch: a wallet that becomes due by its own batch is booked by the next (see
test_executor.py), which leaves another `due_at` in between.
"""

SHARING_MIN = 0.3
"""Which part of a batch's commands must share a customer with another command of it."""

POLICIES = {
    GOLD: Policy(
        redemption=RedemptionPolicy(categories=(Category("Main"), Category("Gift", redeemable=False))),
        otp=OtpPolicy(issues_per_window=4, attempts_per_window=7),
    ),
    SILVER: Policy(
        redemption=RedemptionPolicy(minimum_points=5, multiple=5, required_balance=20),
        transfer=TransferPolicy(
            multiple=2,
            duplicate_window_s=100_000,
            velocity_limits=(
                VelocityLimit(Direction.OUT, Window.TODAY, points_max=60, transfers_max=4),
                VelocityLimit(Direction.IN, Window.LAST_7_DAYS, points_max=300),
            ),
        ),
        otp=OtpPolicy(transfer=OtpRequirement.OFF),
    ),
    BRONZE: Policy(redemption=RedemptionPolicy(reversal_days=2), otp=OtpPolicy(transfer=OtpRequirement.REQUIRED)),
}


@pytest.fixture(scope="session")
def world(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> ATestsDatabase:
    """A closed database: gold and silver in a group, bronze alone, twelve customers, most of them members of all."""
    bench = Bench(template(new_database(tmp_path_factory.mktemp("world"))))
    bench.make_program(GOLD, POLICIES[GOLD])
    bench.make_program(SILVER, POLICIES[SILVER], time_zone="Asia/Kolkata")
    bench.make_program(BRONZE, POLICIES[BRONZE], time_zone="America/New_York")
    bench.accept(CreateProgramGroup(METALS, "Metals", (GOLD, SILVER), GOLD))
    for number in range(12):
        programs = [(GOLD, SILVER, BRONZE), (GOLD, SILVER), (GOLD,)][number % 3]
        bench.make_customer(FIRST_CUSTOMER + number, *programs, points=200)
    bench.close()
    return bench.on


def test_batched_equals_one_by_one(world: ATestsDatabase) -> None:
    """Answers and all tables are the same, however the commands shared their commits; and the commands reach a lot."""
    total: Counter[str] = Counter()
    seeds = SEEDS if world.backend == "sqlite" else SEEDS[:2]  # a server is asked over and over, one by one
    for seed in seeds:
        print(f"seed {seed}: POINTS_SEED={seed} repeats it")
        total += compare(seed, world)
    print(dict(sorted(total.items())))
    wanted = [f"accepted {operation_of(command)}" for command in EXAMPLES]
    wanted += ["replayed accepted", "replayed refused", "replayed in its batch", "reused", "decided again", "expired"]
    wanted += ["INVALID_VALIDATION_CODE", "TRANSFER_INSUFFICIENT_POINTS", "TRANSFER_LIMIT_EXCEEDED", "DUPLICATE_WINDOW"]

    assert len(seeds) < 8 or [] == [name for name in wanted if not total[name]]


def compare(seed: int, world: ATestsDatabase) -> Counter[str]:
    """Runs the commands of a seed both ways; what they came to."""
    chance = random.Random(seed)
    window = chance.choice([2, 5, 32])
    first_id = 2_000_000
    batched = Bench.copied(world, window=window, first_id=first_id)
    alone = Bench.copied(world, window=window, first_id=first_id)
    author = Author(chance, batched)
    tally: Counter[str] = Counter()
    for number in range(BATCHES):
        batch = author.batch()
        done = list(run_batched(batched, batch, tally))
        for one, expected in done:
            actual = alone.settle(one)[0]

            assert expected == actual, f"seed {seed}, batch {number}: {operation_of(one.command)} {one.request_id}"
        author.saw([answer for _, answer in done])
        count(tally, batch, done)
        passed = timedelta(seconds=chance.choice(PASSING))
        batched.now += passed
        alone.now += passed
    expected_tables = opened(batched.tables(), batched.keyring)
    actual_tables = opened(alone.tables(), alone.keyring)
    for name, rows in expected_tables.items():
        assert rows == actual_tables[name], f"seed {seed}: table {name} differs"
    for bench in (batched, alone):
        assert [] == verify(bench.database).differences
        bench.close()
        bench.on.drop()
    tally["expired"] += sum(row[4] == Kind.EXPIRY for row in expected_tables["transactions"])
    return tally


# -- running and counting ----------------------------------------------------------------------------------------------


def run_batched(bench: Bench, batch: Sequence[Submission], tally: Counter[str]) -> Iterator[tuple[Submission, Settled]]:
    """Runs a batch; what is deferred runs by itself after it, as the committer would. In the order of the decisions."""
    loads = bench.loads
    answers = bench.run(batch)
    tally["decided again"] += bench.loads > loads + 1
    deferred: list[Submission] = []
    for one, answer in zip(batch, answers, strict=True):
        if isinstance(answer, Deferred):
            deferred.append(one)
        else:
            yield one, answer
    for one in deferred:
        tally["deferred"] += 1
        yield one, bench.settle(one)[0]


def count(tally: Counter[str], batch: Sequence[Submission], done: Sequence[tuple[Submission, Settled]]) -> None:
    """Counts what a batch came to; enough of its commands must share a customer with another of them."""
    assert len(batch) == 1 or sharing(batch) >= SHARING_MIN * len(batch)
    seen: set[str] = set()
    for one, answer in done:
        tally["commands"] += 1
        accepted = isinstance(answer.outcome, Accepted)
        if isinstance(answer.outcome, Accepted):
            tally[f"accepted {operation_of(one.command)}"] += 1
        else:
            tally[answer.outcome.metadata.get("cause", answer.outcome.code.reason)] += 1
            tally[answer.outcome.code.reason] += 1
            tally["reused"] += "fields" in answer.outcome.metadata
        if answer.replayed:
            tally["replayed accepted" if accepted else "replayed refused"] += 1
            tally["replayed in its batch"] += one.request_id in seen
        seen.add(one.request_id)


def sharing(batch: Sequence[Submission]) -> int:
    """How many commands of a batch share a customer with another of it."""
    touching = [customers_of(one.command) for one in batch]
    users = Counter(one for named in touching for one in named)
    return sum(any(users[one] > 1 for one in named) for named in touching)


def customers_of(command: Command) -> set[Identifier]:
    """Whom a command names; by id, where an identifier of another kind holds the id."""
    match command:
        case TransferPoints():
            named = [command.source, command.destination]
        case CheckTransfer() | IssueTransferOtp():
            named = [command.transfer.source, command.transfer.destination]
        case CheckRedemption() | IssueRedemptionOtp():
            named = [command.redemption.customer]
        case CreateCustomer():
            named = [by_id(command.customer_id)]
        case _:
            named = [command.customer] if hasattr(command, "customer") else []
    return {by_id(int(one.value.removeprefix("X-").removeprefix("+9198765400"))) for one in named}


def opened(tables: Mapping[str, list[tuple[Any, ...]]], keyring: Keyring) -> dict[str, list[tuple[Any, ...]]]:
    """The tables with the outbox's ciphertexts opened: sealing is random, what was sealed is compared."""
    outbox = [
        tuple(keyring.open("k1", value) if isinstance(value, bytes) else value for value in row)
        for row in tables["outbox"]
    ]
    return {**tables, "outbox": sorted(outbox, key=repr)}


# -- commands ----------------------------------------------------------------------------------------------------------


class Author:
    """Writes random commands that have a fair chance: they use codes, references and customers that exist."""

    def __init__(self, chance: random.Random, bench: Bench) -> None:
        self._chance = chance
        self._bench = bench
        self._customers = list(range(FIRST_CUSTOMER, FIRST_CUSTOMER + 12))
        self._hot = self._customers[:3]
        self._next_customer = 60
        self._requests = 0
        self._acknowledged = False
        self._mending: Command | None = None
        self._sent: list[Submission] = []
        self._codes: dict[tuple[int, OtpAction], tuple[bytes, Command]] = {}
        self._references: list[tuple[str, int]] = [("ref-none", self._hot[0])]
        self._numbers: list[tuple[str, int]] = [("bill-none", self._hot[0])]
        self._redemptions: list[tuple[str, int]] = [("rnone", self._hot[0])]
        self._transfers = [1]
        self._writers = [
            (26, self._transfer),
            (14, self._redeem),
            (9, self._reverse),
            (18, self._issue),
            (5, self._issue_transfer_code),
            (4, self._issue_redemption_code),
            (3, self._check_with_code),
            (5, self._create),
            (4, self._enrol),
            (2, self._status),
            (2, self._lock),
            (4, self._purchase),
            (1, self._acknowledge),
            (3, self._adjust),
            (4, self._take_back),
            (1, self._merge),
        ]

    def batch(self) -> list[Submission]:
        """Commands that share a batch; one that changes the rules comes by itself."""
        if self._mending is not None and self._chance.random() < 0.7:
            mending, self._mending = self._mending, None
            return [self._submission(mending)]
        if self._chance.random() < 0.15:
            return [self._submission(self._configuration())]
        self._acknowledged = False
        batch = [self._next() for _ in range(self._chance.randint(2, BATCH_MAX))]
        while sharing(batch) < SHARING_MIN * len(batch):
            batch.append(self._submission(self._plain_transfer(self._hot[0], by_id(self._hot[0]))))
        return batch

    def saw(self, answers: Sequence[Settled]) -> None:
        """Learns the redemption ids from the answers."""
        for answer in answers:
            if isinstance(answer.outcome, Accepted) and isinstance(answer.outcome.result, RedemptionResult):
                result = answer.outcome.result
                self._redemptions.append((result.redemption_id, result.customer_id))
            if isinstance(answer.outcome, Accepted) and isinstance(answer.outcome.result, TransferResult):
                self._transfers.append(answer.outcome.result.transfer_id)

    def _next(self) -> Submission:
        repeat = self._chance.random()
        if self._sent and repeat < 0.10:
            return self._chance.choice(self._sent[-60:])
        if self._sent and repeat < 0.15:
            old = self._chance.choice(self._sent[-60:])
            command = self._write() if repeat < 0.12 else _altered(old.command)
            return submission(command, old.request_id, otp_seed=self._chance.randbytes(32))
        if self._sent and repeat < 0.22:
            return self._submission(self._chance.choice(self._sent[-20:]).command)
        return self._submission(self._write())

    def _write(self) -> Command:
        weights = [weight for weight, _ in self._writers]
        return self._chance.choices([writer for _, writer in self._writers], weights)[0]()

    def _submission(self, command: Command) -> Submission:
        self._requests += 1
        seed = self._chance.randbytes(32)
        given = not isinstance(command, AcknowledgeMessages) and self._chance.random() < 0.9
        one = submission(command, f"request-{self._requests}", given=given, otp_seed=seed)
        if given and not isinstance(command, EXCLUSIVE):
            self._sent.append(one)
        match command:
            case IssueTransferOtp(transfer) | CheckTransfer(transfer):
                self._codes[int(transfer.source.value), OtpAction.TRANSFER] = (seed, transfer)
            case IssueRedemptionOtp(redemption) | CheckRedemption(redemption):
                self._codes[int(redemption.customer.value), OtpAction.REDEMPTION] = (seed, redemption)
            case _:
                pass
        return one

    def _customer(self) -> int:
        """Mostly one of three, often one of those from the start, sometimes one who was created since, or should be."""
        pool = self._chance.choices([self._hot, self._customers[:12], self._customers[-6:]], [55, 33, 12])[0]
        return self._chance.choice(pool)

    def _named(self, customer_id: int) -> Identifier:
        """An identifier of a customer; those made at the start have all kinds."""
        kind = self._chance.random()
        if kind < 0.8 or customer_id >= FIRST_CUSTOMER + 12:
            return by_id(customer_id)
        if kind < 0.9:
            return Identifier(IdentifierType.MOBILE, f"+9198765400{customer_id}")
        return Identifier(IdentifierType.EXTERNAL_ID, f"X-{customer_id}")

    def _program(self) -> int:
        return self._chance.choices([0, GOLD, SILVER, BRONZE, 77], [15, 35, 36, 12, 2])[0]

    def _points(self) -> int:
        return self._chance.choice([1, 2, 5, 10, 10, 20, 40, 100, 250])

    def _transfer(self) -> TransferPoints:
        source = self._customer()
        issued = self._codes.get((source, OtpAction.TRANSFER))
        if issued is not None and self._chance.random() < 0.6:
            seed, asked = issued
            assert isinstance(asked, TransferPoints)
            code = derive_code(seed, OtpPolicy()) if self._chance.random() < 0.7 else "000000"
            points = asked.points if self._chance.random() < 0.9 else asked.points + 1
            return TransferPoints(points, asked.program_id, asked.source, asked.destination, asked.pooled, code)
        return self._plain_transfer(source, self._named(source))

    def _plain_transfer(self, source: int, named: Identifier) -> TransferPoints:
        others = [one for one in (self._customer(), self._customer()) if one != source] or [source]
        return TransferPoints(
            points=self._points(),
            program_id=self._program(),
            source=named,
            destination=self._named(others[0]),
            pooled=self._chance.random() < 0.2,
            notes=self._chance.choice(["", "gift"]),
        )

    def _redeem(self) -> RedeemPoints:
        customer_id = self._customer()
        issued = self._codes.get((customer_id, OtpAction.REDEMPTION))
        if issued is not None and self._chance.random() < 0.5:
            seed, asked = issued
            assert isinstance(asked, RedeemPoints)
            code = derive_code(seed, OtpPolicy()) if self._chance.random() < 0.7 else "000000"
            return RedeemPoints(asked.customer, asked.program_id, asked.points, asked.category, code=code)
        reference = number = ""
        if self._chance.random() < 0.5:
            reference = f"ref-{self._requests}" if self._chance.random() < 0.9 else self._references[-1][0]
            self._references.append((reference, customer_id))
        if self._chance.random() < 0.4:
            number = self._number(customer_id)
        return RedeemPoints(
            customer=self._named(customer_id),
            program_id=self._program(),
            points=self._points(),
            category=self._chance.choice(["", "", "", "Main", "Gift", "Nothing"]),
            transaction_number=number,
            external_reference=reference,
            pooled=self._chance.random() < 0.2,
        )

    def _number(self, customer_id: int) -> str:
        """A bill: a new one, or one that was named before."""
        if self._chance.random() < 0.5:
            self._numbers.append((f"bill-{self._requests}", customer_id))
        return self._chance.choice(self._numbers[-5:])[0]

    def _reverse(self) -> ReverseRedemption:
        points = self._chance.choice([None, None, 1, 3, 10, 500])
        kind = self._chance.choice(["id", "reference", "number"])
        known = {"id": self._redemptions, "reference": self._references, "number": self._numbers}[kind]
        key, customer_id = self._chance.choice(known[-8:])
        customer = by_id(customer_id if self._chance.random() < 0.9 else self._customer())
        if kind == "id":
            return ReverseRedemption(customer, redemption_id=key, points=points)
        if kind == "reference":
            return ReverseRedemption(customer, external_reference=key, points=points)
        return ReverseRedemption(customer, transaction_number=key, points=points)

    def _issue(self) -> IssuePoints:
        now, chance = self._bench.now, self._chance
        expiry = chance.choice(
            [
                Expiry(),
                Expiry(in_days=chance.randint(0, 2)),
                Expiry(in_months=1),
                Expiry(at=now + timedelta(seconds=chance.randint(1, 100_000))),
                Expiry(at=now + timedelta(seconds=chance.choice(PASSING), microseconds=1)),
                Expiry(at=now - timedelta(seconds=1)),
            ]
        )
        customer_id = self._customer()
        promised = chance.random() < 0.2
        return IssuePoints(
            customer=self._named(customer_id),
            program_id=self._program(),
            points=10 * self._points(),
            source=chance.choice([Source.LOYALTY_PLUS, Source.LOYALTY_PLUS, Source.GOODWILL, Source.REGISTRATION]),
            earning_program_id=chance.choice([0, 0, GOLD, SILVER]),
            category=chance.choice(["", "", "", "Gift", "Nothing"]),
            available_from=now + timedelta(seconds=chance.choice(PASSING)) if promised else None,
            expiry=expiry,
            transaction_number=self._number(customer_id) if chance.random() < 0.3 else "",
        )

    def _issue_transfer_code(self) -> IssueTransferOtp:
        source = self._customer()
        return IssueTransferOtp(self._plain_transfer(source, by_id(source)))

    def _issue_redemption_code(self) -> IssueRedemptionOtp:
        return IssueRedemptionOtp(RedeemPoints(by_id(self._customer()), self._program(), self._points()))

    def _check_with_code(self) -> Command:
        source = self._customer()
        if self._chance.random() < 0.5:
            return CheckTransfer(self._plain_transfer(source, by_id(source)), issue_otp=True)
        return CheckRedemption(RedeemPoints(by_id(source), self._program(), self._points()), issue_otp=True)

    def _create(self) -> CreateCustomer:
        chance = self._chance
        taken = chance.random() < 0.2
        customer_id = self._customer() if taken else self._next_customer
        if not taken:
            self._next_customer += 1
            self._customers.append(customer_id)
        return CreateCustomer(
            customer_id=customer_id if chance.random() < 0.9 else 0,
            first_name=f"First{customer_id}",
            last_name="",
            mobile=f"+9198765400{self._customer() if chance.random() < 0.2 else customer_id}",
            email=None,
            external_id=None,
            program_ids=chance.choice([(), (GOLD,), (GOLD, SILVER), (GOLD, SILVER, BRONZE), (77,)]),
            campaign_contact=chance.random() < 0.2,
        )

    def _enrol(self) -> EnrolCustomer:
        return EnrolCustomer(self._named(self._customer()), self._program())

    def _status(self) -> SetCustomerStatus:
        fraud = self._chance.choice([FraudStatus.NOT_FRAUD] * 4 + [FraudStatus.MARKED, None])
        label = self._chance.choice([None, StatusLabel.ACTIVE, StatusLabel.SUSPENDED])
        return SetCustomerStatus(by_id(self._customer()), fraud, label, "test")

    def _lock(self) -> SetTransferLock:
        until = self._bench.now + timedelta(seconds=self._chance.choice([10, 600]))
        return SetTransferLock(by_id(self._customer()), until if self._chance.random() < 0.5 else None, "test")

    def _purchase(self) -> RecordPurchase:
        customer_id = self._customer()
        return RecordPurchase(by_id(customer_id), self._program(), self._number(customer_id), self._points())

    def _adjust(self) -> AdjustPoints:
        category = self._chance.choice(["", "", "Main", "Gift", "Nothing"])
        return AdjustPoints(self._named(self._customer()), self._program(), self._points(), "test", category)

    def _take_back(self) -> ReverseTransfer:
        return ReverseTransfer(self._chance.choice(self._transfers[-20:]), self._chance.random() < 0.7, "test")

    def _merge(self) -> MergeCustomers:
        """Mostly of somebody who has little to do."""
        others = [one for one in self._customers[-12:] if one not in self._hot] or self._hot
        return MergeCustomers(by_id(self._chance.choice(others)), by_id(self._customer()), "test")

    def _acknowledge(self) -> AcknowledgeMessages:
        """What the dispatcher did; it waits for the answer, so that a batch holds one of these at most."""
        due = () if self._acknowledged else self._bench.repository.due_messages(self._bench.now, 10)
        self._acknowledged = True
        retry_at = self._chance.choice([None, self._bench.now + timedelta(seconds=30)])
        return AcknowledgeMessages(
            tuple(
                MessageResult(
                    one.message_id, one.customer_id, retry_at is None, "" if retry_at is None else "x", retry_at
                )
                for one in due
            )
        )

    def _configuration(self) -> Command:
        """A change of what commands are judged by; one that refuses nearly everything is soon taken back."""
        chance = self._chance
        program_id = chance.choice([GOLD, SILVER, BRONZE])
        kind = chance.random()
        if kind < 0.3:
            paused = chance.choice([0, program_id])
            self._mending = SetPause(paused, False, "test")
            return SetPause(paused, True, "test")
        if kind < 0.5:
            key = chance.choice(["ALLOW_POINTS_TRANSFER", "ENABLE_CUSTOMER_STATUS_MODULE"])
            self._mending = SetConfigKey(key, None, "test")
            return SetConfigKey(key, chance.choice(["true", "false", "maybe"]), "test")
        if kind < 0.75:
            self._mending = SetPolicy(program_id, POLICIES[program_id], 0, "test")
            return SetPolicy(program_id, POLICIES[chance.choice([GOLD, SILVER, BRONZE])], 0, "test")
        return SetPolicy(program_id, POLICIES[program_id], chance.choice([0, 1, 7]), "test")


def _altered(command: Command) -> Command:
    """The same operation with other content."""
    match command:
        case TransferPoints():
            return TransferPoints(command.points + 1, command.program_id, command.source, command.destination)
        case RedeemPoints():
            return RedeemPoints(command.customer, command.program_id, command.points + 1)
        case IssuePoints():
            return IssuePoints(command.customer, command.program_id, command.points + 1, command.source)
        case _:
            return command


_ANY = TransferPoints(1, GOLD, by_id(1), by_id(2))
_SOME = RedeemPoints(by_id(1), GOLD, 1)
EXAMPLES: list[Command] = [
    _ANY,
    _SOME,
    IssueTransferOtp(_ANY),
    CheckTransfer(_ANY, issue_otp=True),
    IssueRedemptionOtp(_SOME),
    CheckRedemption(_SOME, issue_otp=True),
    ReverseRedemption(by_id(1)),
    ReverseTransfer(1, False, ""),
    IssuePoints(by_id(1), GOLD, 1, Source.GOODWILL),
    AdjustPoints(by_id(1), GOLD, 1, ""),
    MergeCustomers(by_id(1), by_id(2), ""),
    CreateCustomer(0, "", "", None, None, None, (), campaign_contact=False),
    EnrolCustomer(by_id(1), GOLD),
    SetCustomerStatus(by_id(1), None, None, ""),
    SetTransferLock(by_id(1), None, ""),
    RecordPurchase(by_id(1), GOLD, "", 1),
    SetPolicy(GOLD, Policy(), 0, ""),
    SetConfigKey("", None, ""),
    SetPause(0, False, ""),
    AcknowledgeMessages(()),
]
"""One of each operation that the author writes."""
