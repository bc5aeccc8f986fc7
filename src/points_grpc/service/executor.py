"""The pipeline of one batch: resolve, lock, recall, load, decide, apply, commit. One organisation, one transaction.

Each step is passed once, in that order, for the whole batch. Outcomes are recalled after the lock: who waited for a
customer finds what was recorded of the same request id meanwhile. The executor knows the order and the request ids; the
rules are `domain.decide`, the statements are the storage's. A check takes the same steps without the writes, on the
server's side: `service/checks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from points_grpc import codes
from points_grpc.domain.commands import Submission, operation_of
from points_grpc.domain.context import Context
from points_grpc.domain.decide import UNRECORDED, decide_one, keys_of, lookups_of
from points_grpc.domain.events import ConfigKeySet, MessageQueued
from points_grpc.domain.failures import TRANSFER_OPERATIONS
from points_grpc.domain.model import Channel, Customer, Identifier, OrgConfig, WalletKey
from points_grpc.domain.notices import notices
from points_grpc.domain.otp import code_is_spent
from points_grpc.domain.outcome import Accepted, Outcome, Party, Refused, Settled, TransferResult
from points_grpc.domain.snapshot import Changes, Keys, Loaded, Lookups, NeedMore, Snapshot
from points_grpc.service.keyring import Keyring
from points_grpc.service.meter import Meter
from points_grpc.service.ports import (
    STORAGE_CONDITIONS,
    NotWritable,
    Repository,
    RequestRecord,
    SealedMessage,
    WriteSession,
)

WINDOW_FIRST = 8
"""How many lots of a wallet are loaded at first."""

WINDOW_SHARED_MAX = 256
"""A command that needs a larger window runs in a batch of its own."""

PASSED_OVER_MAX = 3
"""How many batches in a row pass over customers whom another process has locked, before one waits for them."""

CONFIG_CACHE_S = 1.0
"""How old the organisation's configuration may be when a command is judged."""


CODE_FIELDS = frozenset({"code", "validation_code"})
"""The fields of requests that hold a one-time code."""


class Step(StrEnum):
    """What a trace shows of a batch beside its statements. `DONE` is the end of it."""

    PREPARE = "prepare"
    DECIDE = "decide"
    APPLY = "apply"
    DONE = "done"


class Deferred(Struct, frozen=True):
    """The command was not decided: it goes back to the head of its queue. `alone`: it needs a batch of its own; else
    another process has its customers locked.
    """

    alone: bool


Answer = Settled | Deferred


@dataclass(slots=True)
class _Work:
    """A batch on its way: its submissions, and what was decided of them."""

    org_id: int
    batch: Sequence[Submission]
    config: OrgConfig
    known: Mapping[str, RequestRecord]
    held_up: frozenset[int]
    windows: dict[WalletKey, int] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)


class Executor:
    """Runs batches against a repository. For the writer alone."""

    def __init__(
        self,
        repository: Repository,
        *,
        next_id: Callable[[], int],
        keyring: Keyring,
        channels: frozenset[Channel],
        monotonic: Callable[[], float],
        meter: Meter | None = None,
        traced: bool = False,
        publishes: bool = False,
    ) -> None:
        """Takes the store and everything that is not pure: ids, keys, the channels with a sender, a steady clock.

        `meter` counts what is committed; with `traced`, it is told the steps that are no statements, too. With
        `publishes`, business events are queued for the organisations that want them.
        """
        self._repository = repository
        self._next_id = next_id
        self._keyring = keyring
        self._channels = channels
        self._monotonic = monotonic
        self._meter = meter or Meter()
        self._traced = traced
        self._publishes = publishes
        self._configs: dict[int, tuple[float, OrgConfig]] = {}
        self._passed_over: dict[int, int] = {}

    def run(self, org_id: int, batch: Sequence[Submission]) -> list[Answer]:
        """Decides a batch and commits it: one answer per submission, in order. Raises the storage's exceptions."""
        decided: list[Answer] = []
        try:
            return self._run(org_id, batch, decided)
        except STORAGE_CONDITIONS:
            raise
        except Exception as error:
            outcomes = [one.outcome for one in decided if isinstance(one, Settled)]
            if not outcomes:
                raise
            raise NotWritable(outcomes) from error

    def _run(self, org_id: int, batch: Sequence[Submission], decided: list[Answer]) -> list[Answer]:
        """As `run`; `decided` gets what was decided before it is written."""
        self._step(Step.PREPARE)
        config = self._config(org_id)
        with self._repository.write(org_id) as session:
            book, directory = session.names(lookups_of_all(batch))
            keys = {id(one): keys_of(one.command, directory, book) for one in batch}
            customers = frozenset().union(*(_locked_for(one) for one in keys.values()))
            given = {one.request_id for one in batch if one.request_id_given}
            all_keys = Keys.union(keys.values())
            wait = self._passed_over.get(org_id, 0) >= PASSED_OVER_MAX
            taken = session.take(sorted(customers), given, all_keys, book, directory, wait=wait)
            held_up = self._held_up(org_id, batch, keys, customers - taken.locked)
            work = _Work(org_id, batch, config, taken.recorded, held_up)
            loaded = taken.loaded
            while True:
                self._step(Step.DECIDE)
                try:
                    snapshot, answers, records = self._decide(work, loaded, keys)
                    decided.extend(answers)
                    break
                except _Retry:
                    loaded = session.load(all_keys, book, directory, work.windows)
            changes = snapshot.changes
            if self._publishes:
                changes.events.extend(list(notices(org_id, config, changes.events, self._next_id)))
            self._step(Step.APPLY)
            if changes.events or records:
                session.apply(changes, records, self._sealed(org_id, changes))
            answers = self._with_replayed_names(session, answers)
            self._meter.count(changes.events, answers)
            started = self._monotonic()
            session.commit()
            self._meter.committed(self._monotonic() - started)
            self._step(Step.DONE)
        if any(isinstance(event, ConfigKeySet) for event in changes.events):
            self._configs.pop(org_id, None)
        return answers

    def _step(self, step: Step) -> None:
        """Tells a trace what begins."""
        if self._traced:
            self._meter.step(self._monotonic(), step.value)

    def _held_up(
        self, org_id: int, batch: Sequence[Submission], keys: Mapping[int, Keys], not_locked: frozenset[int]
    ) -> frozenset[int]:
        """Which commands have to come again because others have their customers; counts the batches with such."""
        passed_over = self._passed_over.pop(org_id, 0)
        if not not_locked:
            return frozenset()
        self._passed_over[org_id] = passed_over + 1
        return _held_up(batch, keys, not_locked)

    def _decide(
        self, work: _Work, loaded: Loaded, keys: Mapping[int, Keys]
    ) -> tuple[Snapshot, list[Answer], list[RequestRecord]]:
        snapshot = Snapshot(loaded, work.config)
        known = dict(work.known)
        answers: list[Answer] = []
        records: list[RequestRecord] = []
        sizes = dict(work.windows)
        too_short = False
        deferred = False
        for index, submission in enumerate(work.batch):
            record = known.get(submission.request_id)
            if record is not None:
                answers.append(self._replay(submission, record, snapshot))
                continue
            if index in work.held_up:
                answers.append(Deferred(alone=False))
                continue
            if index in work.alone or deferred:
                deferred = True  # What came later is decided later: commands keep their order.
                answers.append(Deferred(alone=index in work.alone))
                continue
            try:
                context = new_context(submission, self._next_id, self._keyring, self._channels)
                outcome = decide_one(snapshot, context, keys[id(submission)])
            except NeedMore as more:
                size = longer_window(sizes.get(more.wallet, WINDOW_FIRST), in_company=len(work.batch) > 1)
                if size is None:
                    work.alone.add(index)
                else:
                    work.windows[more.wallet] = size
                too_short = True  # Go on: every other window that is too short is learnt in the same pass.
                continue
            if _is_recorded(submission, outcome):
                record = self._record(submission, outcome, snapshot)
                known[submission.request_id] = record
                records.append(record)
            answers.append(settled(submission, outcome, snapshot))
        if too_short:
            raise _Retry
        return snapshot, answers, records

    def _record(self, submission: Submission, outcome: Outcome, snapshot: Snapshot) -> RequestRecord:
        key_id = self._keyring.active
        fingerprint = self._keyring.fingerprint(submission.fingerprint, key_id)
        assert fingerprint is not None, "a key that was active a moment ago is at hand"
        return RequestRecord(
            request_id=submission.request_id,
            operation=operation_of(submission.command),
            key_id=key_id,
            fingerprint=fingerprint,
            outcome=outcome,
            created_at=snapshot.now,
        )

    def _replay(self, submission: Submission, record: RequestRecord, snapshot: Snapshot) -> Settled:
        """The recorded outcome for the same content; a refusal that names the fields for another."""
        differing = self._differing(submission, record)
        if not differing:
            return settled(submission, record.outcome, snapshot, replayed=True)
        operation = operation_of(submission.command)
        fields = ",".join(differing)
        if operation in TRANSFER_OPERATIONS:
            metadata = {"cause": "REQUEST_ID_REUSED", "fields": fields}
            return Settled(Refused(codes.TRANSFER_DUPLICATE_REQUEST, metadata, field="request_id"), record.request_id)
        return Settled(Refused(codes.REQUEST_ID_REUSED, {"fields": fields}, field="request_id"), record.request_id)

    def _differing(self, submission: Submission, record: RequestRecord) -> list[str]:
        """What is other content. A code that may still be good is not compared: who guesses it would learn it here."""
        if record.operation != operation_of(submission.command):
            return ["operation"]
        given = self._keyring.fingerprint(submission.fingerprint, record.key_id)
        if given is None:  # The key is lost: which fields are set is all that can be compared.
            return sorted(submission.fingerprint.keys() ^ record.fingerprint.keys())
        known = record.fingerprint
        unseen = frozenset[str]() if code_is_spent(record.outcome) else CODE_FIELDS & given.keys() & known.keys()
        names = (given.keys() | known.keys()) - unseen
        return sorted(name for name in names if given.get(name) != known.get(name))

    def _with_replayed_names(self, session: WriteSession, answers: list[Answer]) -> list[Answer]:
        """Adds the names of today, those written by this batch included, to transfers that are answered again."""
        wanting = [one for one in answers if isinstance(one, Settled) and one.replayed and not one.parties]
        results = [
            one.outcome.result
            for one in wanting
            if isinstance(one.outcome, Accepted) and isinstance(one.outcome.result, TransferResult)
        ]
        if not results:
            return answers
        names = session.parties({party for result in results for party in (result.source_id, result.destination_id)})
        return [_with_names(one, names) for one in answers]

    def _sealed(self, org_id: int, changes: Changes) -> list[SealedMessage]:
        key_id = self._keyring.active
        return [
            SealedMessage(
                org_id=org_id,
                message_id=event.message.message_id,
                customer_id=event.message.customer_id,
                action=event.message.action,
                channel=event.message.channel,
                target=event.message.target,
                sealed=self._keyring.seal(event.message.secret, key_id),
                key_id=key_id,
                attempts=0,
                created_at=event.message.created_at,
                expires_at=event.message.expires_at,
            )
            for event in changes.events
            if isinstance(event, MessageQueued)
        ]

    def _config(self, org_id: int) -> OrgConfig:
        cached = self._configs.get(org_id)
        now = self._monotonic()
        if cached is not None and now - cached[0] < CONFIG_CACHE_S:
            return cached[1]
        config = self._repository.config(org_id)
        if config.available:
            self._configs[org_id] = (now, config)
        return config


class _Retry(Exception):
    """More must be loaded, or one command left out: decide again."""


def _locked_for(keys: Keys) -> frozenset[int]:
    """Whose rows a command needs to itself: their wallets change, or their messages."""
    return keys.customers | keys.messages


def _held_up(batch: Sequence[Submission], keys: Mapping[int, Keys], not_locked: frozenset[int]) -> frozenset[int]:
    """The commands some of whose customers are not locked, and those that must not overtake them."""
    found: set[int] = set()
    waiting: set[int] = set()
    request_ids: set[str] = set()
    for index, submission in enumerate(batch):
        customers = _locked_for(keys[id(submission)])
        if (
            not_locked.isdisjoint(customers)
            and waiting.isdisjoint(customers)
            and submission.request_id not in request_ids
        ):
            continue
        found.add(index)
        waiting |= customers
        request_ids.add(submission.request_id)
    return frozenset(found)


def new_context(
    submission: Submission, next_id: Callable[[], int], keyring: Keyring, channels: frozenset[Channel]
) -> Context:
    """What is not pure and one command is decided with."""
    return Context(
        submission=submission,
        next_id=next_id,
        code_hash=keyring.code_hash,
        code_key_id=keyring.active,
        channels=channels,
    )


def longer_window(loaded: int, *, in_company: bool) -> int | None:
    """How many lots to look at where `loaded` were too few; None if that is too many for a batch of several."""
    size = loaded * 4
    return None if in_company and size > WINDOW_SHARED_MAX else size


def _is_recorded(submission: Submission, outcome: Outcome) -> bool:
    if isinstance(submission.command, UNRECORDED):
        return False
    return isinstance(outcome, Accepted) or outcome.recorded


def settled(submission: Submission, outcome: Outcome, snapshot: Snapshot, *, replayed: bool = False) -> Settled:
    """The answer to a submission, with the names that a transfer's answer shows."""
    parties: tuple[Party, ...] = ()
    program_name = ""
    if isinstance(outcome, Accepted) and isinstance(outcome.result, TransferResult):
        result = outcome.result
        program_name = snapshot.book.programs[result.program_id].name
        if not replayed:
            parties = (_party(snapshot.customer(result.source_id)), _party(snapshot.customer(result.destination_id)))
    return Settled(outcome, submission.request_id, replayed, parties, program_name)


def _party(customer: Customer) -> Party:
    return Party(customer.customer_id, customer.first_name, customer.last_name, customer.external_id or "")


def _with_names(answer: Answer, names: Mapping[int, Party]) -> Answer:
    if not isinstance(answer, Settled) or not answer.replayed or not isinstance(answer.outcome, Accepted):
        return answer
    result = answer.outcome.result
    if not isinstance(result, TransferResult):
        return answer
    parties = tuple(names[one] for one in (result.source_id, result.destination_id) if one in names)
    return Settled(answer.outcome, answer.request_id, answer.replayed, parties, answer.program_name)


def lookups_of_all(batch: Iterable[Submission]) -> Lookups:
    """All that a batch names, each name once."""
    identifiers: dict[Identifier, None] = {}
    redemption_ids: dict[str, None] = {}
    external_references: dict[str, None] = {}
    transaction_numbers: dict[str, None] = {}
    transfer_ids: dict[int, None] = {}
    hold_ids: dict[str, None] = {}
    bills: dict[str, None] = {}
    families: dict[Identifier, None] = {}
    for one in batch:
        part = lookups_of(one.command)
        identifiers.update(dict.fromkeys(part.identifiers))
        redemption_ids.update(dict.fromkeys(part.redemption_ids))
        external_references.update(dict.fromkeys(part.external_references))
        transaction_numbers.update(dict.fromkeys(part.transaction_numbers))
        transfer_ids.update(dict.fromkeys(part.transfer_ids))
        hold_ids.update(dict.fromkeys(part.hold_ids))
        bills.update(dict.fromkeys(part.bills))
        families.update(dict.fromkeys(part.families))
    return Lookups(
        tuple(identifiers),
        tuple(redemption_ids),
        tuple(external_references),
        tuple(transaction_numbers),
        tuple(transfer_ids),
        tuple(hold_ids),
        tuple(bills),
        tuple(families),
    )
