"""What server and writer tell each other: one message a frame, a frame being its length and its MessagePack.

Commands and results are encoded as they are, and read back by the type that is named beside them; codes travel by their
reasons. Both ends run the same version of this program, so nothing here is kept or grows compatibly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import msgspec
from msgspec import Raw, Struct

from points_grpc.codes import BY_REASON
from points_grpc.domain.commands import Command, Submission, operation_of
from points_grpc.domain.outcome import Accepted, FieldError, Outcome, Party, Refused, Result, Settled, Warning
from points_grpc.service.meter import NOTHING, Counted

LENGTH_BYTES = 4


class Garbled(Exception):
    """What came is no message, or none that makes sense here."""


# -- to the writer -----------------------------------------------------------------------------------------------------


class Setup(Struct, frozen=True, tag=True):
    """The first frame: what the writer needs to know of the settings. Secrets it reads itself from the keys file."""

    database: str
    keys_file: str
    channels: tuple[str, ...]
    batch_max: int
    lease_wait_s: float
    publishes: bool = False
    traced: bool = False


class Sent(Struct, frozen=True):
    """A submission on its way to the writer. Instants are those of the monotonic clock, the same for all processes."""

    number: int
    deadline: float
    enqueued_at: float
    submission: Submission


class Work(Struct, frozen=True):
    """The submissions of one call."""

    items: Sequence[Sent]


class Drain(Struct, frozen=True, tag=True):
    """Nothing comes any more: answer what waits, then end."""


class DropWaiting(Struct, frozen=True, tag=True):
    """Answer all that waits as not taken, since the server stops; what comes later is served."""


ToWriter = Setup | Work | Drain | DropWaiting


# -- from the writer ---------------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, tag=True):
    """The writer's first frame: it has the lease, and this is what holds for its commits."""

    version: str
    pid: int
    slot: int
    epoch: int
    schema_revision: str
    backend: str
    durability: Mapping[str, str]
    durable: bool


class Unable(Struct, frozen=True, tag=True):
    """The writer's first frame where it cannot start, or its last where it cannot go on: a sentence for people."""

    message: str


class BugReport(Struct, frozen=True, tag=True):
    """Something failed for a cause that nobody foresaw: the kind of the error and where it was raised.

    Never its text: that may hold values of customers. `operation` and `request_id` are empty outside a batch.
    """

    error: str
    frames: tuple[str, ...]
    operation: str = ""
    request_id: str = ""


class Answered(Struct, frozen=True):
    """The answers of one batch, by the numbers of the submissions; and how it went.

    `size` counts what was run; `queue_age_s` is how long the oldest of it waited, or 0 if now nothing waits; `counted`
    is what only the writer knows of it.
    """

    answers: Sequence[tuple[int, Settled]]
    size: int
    seconds: float
    oldest_wait_s: float
    queue_age_s: float
    counted: Counted = NOTHING


FromWriter = Hello | Unable | BugReport | Answered


# -- as they travel ----------------------------------------------------------------------------------------------------


class _Item(Struct, frozen=True, array_like=True):
    number: int
    deadline: float
    enqueued_at: float
    org_id: int
    operation: str
    command: Raw
    request_id: str
    request_id_given: bool
    fingerprint: dict[str, bytes]
    actor: str
    otp_seed: bytes


class _Work(Struct, frozen=True, tag="Work"):
    items: list[_Item]


class _Warning(Struct, frozen=True, array_like=True):
    code: str
    metadata: dict[str, str]
    field: str


class _Error(Struct, frozen=True, array_like=True):
    code: str
    field: str
    description: str
    metadata: dict[str, str]


class _Refused(Struct, frozen=True, array_like=True):
    code: str
    metadata: dict[str, str]
    field: str
    errors: list[_Error]
    warnings: list[_Warning]
    retry_after_s: float | None
    quota: str


class _Answer(Struct, frozen=True, array_like=True):
    """`kind` names the type of an accepted result; empty: the outcome is a refusal."""

    number: int
    request_id: str
    replayed: bool
    parties: tuple[Party, ...]
    program_name: str
    kind: str
    outcome: Raw
    warnings: list[_Warning]
    transaction_id: int | None


class _Answered(Struct, frozen=True, tag="Answered"):
    answers: list[_Answer]
    size: int
    seconds: float
    oldest_wait_s: float
    queue_age_s: float
    counted: Counted


_encoder = msgspec.msgpack.Encoder()
_to_writer: msgspec.msgpack.Decoder[Setup | _Work | Drain | DropWaiting] = msgspec.msgpack.Decoder(
    Setup | _Work | Drain | DropWaiting
)
_from_writer: msgspec.msgpack.Decoder[Hello | Unable | BugReport | _Answered] = msgspec.msgpack.Decoder(
    Hello | Unable | BugReport | _Answered
)
_refused = msgspec.msgpack.Decoder(_Refused)
_commands: Mapping[str, msgspec.msgpack.Decoder[Command]] = {
    one.__name__: msgspec.msgpack.Decoder(one) for one in get_args(Command)
}
_results: Mapping[str, msgspec.msgpack.Decoder[Result]] = {
    one.__name__: msgspec.msgpack.Decoder(one) for one in get_args(Result)
}


def encode_to_writer(message: ToWriter) -> bytes:
    """A frame for the writer."""
    if isinstance(message, Work):
        return _frame({"type": "Work", "items": [_item_fields(one) for one in message.items]})
    return _frame(message)


def encode_from_writer(message: FromWriter) -> bytes:
    """A frame from the writer."""
    if isinstance(message, Answered):
        return _frame(
            {
                "type": "Answered",
                "answers": [_answer_fields(number, settled) for number, settled in message.answers],
                "size": message.size,
                "seconds": message.seconds,
                "oldest_wait_s": message.oldest_wait_s,
                "queue_age_s": message.queue_age_s,
                "counted": message.counted,
            }
        )
    return _frame(message)


def decode_to_writer(body: bytes | memoryview) -> ToWriter:
    """What a frame for the writer says; raises `Garbled` if it is none."""
    try:
        found = _to_writer.decode(body)
        return Work([_item(one) for one in found.items]) if isinstance(found, _Work) else found
    except (msgspec.MsgspecError, LookupError) as error:
        raise Garbled from error


def decode_from_writer(body: bytes | memoryview) -> FromWriter:
    """What a frame from the writer says; raises `Garbled` if it is none."""
    try:
        found = _from_writer.decode(body)
        if not isinstance(found, _Answered):
            return found
        answers = [(one.number, _settled(one)) for one in found.answers]
    except (msgspec.MsgspecError, LookupError) as error:
        raise Garbled from error
    return Answered(answers, found.size, found.seconds, found.oldest_wait_s, found.queue_age_s, found.counted)


class Unframer:
    """Cuts a stream of bytes into the bodies of its frames."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """The bodies of the frames that are whole now; the rest is kept."""
        data = self._kept + data if self._kept else data
        view, at, end = memoryview(data), 0, len(data)
        while end - at >= LENGTH_BYTES:
            start = at + LENGTH_BYTES
            until = start + int.from_bytes(view[at:start])
            if until > end:
                break
            yield view[start:until]
            at = until
        self._kept = data[at:]


def _frame(message: object) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


def _item_fields(sent: Sent) -> tuple[object, ...]:
    """The fields of an `_Item`, in order."""
    one = sent.submission
    return (
        sent.number,
        sent.deadline,
        sent.enqueued_at,
        one.org_id,
        operation_of(one.command),
        one.command,
        one.request_id,
        one.request_id_given,
        one.fingerprint,
        one.actor,
        one.otp_seed,
    )


def _item(one: _Item) -> Sent:
    command = _commands[one.operation].decode(one.command)
    submission = Submission(
        one.org_id, command, one.request_id, one.request_id_given, one.fingerprint, one.actor, one.otp_seed
    )
    return Sent(one.number, one.deadline, one.enqueued_at, submission)


def _answer_fields(number: int, settled: Settled) -> tuple[object, ...]:
    """The fields of an `_Answer`, in order."""
    outcome = settled.outcome
    body: object
    if isinstance(outcome, Accepted):
        kind, body = type(outcome.result).__name__, outcome.result
        warnings, transaction_id = _warning_fields(outcome.warnings), outcome.transaction_id
    else:
        kind, body, warnings, transaction_id = "", _refused_fields(outcome), [], None
    named = settled.parties, settled.program_name
    return number, settled.request_id, settled.replayed, *named, kind, body, warnings, transaction_id


def _settled(one: _Answer) -> Settled:
    outcome: Outcome
    if one.kind:
        outcome = Accepted(_results[one.kind].decode(one.outcome), _warnings(one.warnings), one.transaction_id)
    else:
        outcome = _refusal(_refused.decode(one.outcome))
    return Settled(outcome, one.request_id, one.replayed, one.parties, one.program_name)


def _refused_fields(refused: Refused) -> tuple[object, ...]:
    errors = [(error.code.reason, error.field, error.description, error.metadata) for error in refused.errors]
    return (
        refused.code.reason,
        refused.metadata,
        refused.field,
        errors,
        _warning_fields(refused.warnings),
        refused.retry_after_s,
        refused.quota,
    )


def _refusal(one: _Refused) -> Refused:
    errors = tuple(
        FieldError(BY_REASON[error.code], error.field, error.description, error.metadata) for error in one.errors
    )
    warnings = _warnings(one.warnings)
    return Refused(BY_REASON[one.code], one.metadata, one.field, errors, warnings, one.retry_after_s, one.quota)


def _warning_fields(warnings: tuple[Warning, ...]) -> list[tuple[object, ...]]:
    return [(one.code.reason, one.metadata, one.field) for one in warnings]


def _warnings(found: list[_Warning]) -> tuple[Warning, ...]:
    return tuple(Warning(BY_REASON[one.code], one.metadata, one.field) for one in found)
