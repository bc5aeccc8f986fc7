"""What server and writer tell each other arrives exactly as it was sent, types included."""

from __future__ import annotations

import random
import types
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from points_grpc import codes
from points_grpc.domain.commands import Command, Submission
from points_grpc.domain.outcome import Accepted, FieldError, Outcome, Party, Refused, Result, Settled, Warning
from points_grpc.service.frames import (
    Answered,
    BugReport,
    Drain,
    DropWaiting,
    FromWriter,
    Garbled,
    Hello,
    Sent,
    Setup,
    ToWriter,
    Unable,
    Unframer,
    Work,
    decode_from_writer,
    decode_to_writer,
    encode_from_writer,
    encode_to_writer,
)

TEXTS = ["", "a", "नमस्ते \x00 \N{PILE OF POO}", "x" * 300]
INTEGERS = [0, 1, -1, 255, 2**31, 10**12, 2**63 - 1, -(2**63)]
INSTANTS = [
    datetime.min.replace(tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 3, 15, 12, 0, 0, 123_456, tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
]
"""What one process takes and the other does not would end the writer again and again: the extremes must pass, too."""

TRIES = 40


class Maker:
    """Makes values of any type that a command or a result is made of, at random."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def value(self, kind: Any) -> Any:
        """A value of a type."""
        plain = {
            int: lambda: self._chance.choice(INTEGERS),
            str: lambda: self._chance.choice(TEXTS),
            bool: lambda: self._chance.random() < 0.5,
            float: lambda: self._chance.choice([0.0, 0.1, 1e300]),
            bytes: lambda: self._chance.randbytes(self._chance.choice([0, 32])),
            datetime: lambda: self._chance.choice(INSTANTS),
            date: lambda: self._chance.choice([date.min, date(2026, 2, 28), date.max]),
            types.NoneType: lambda: None,
            codes.Code: lambda: self._chance.choice(list(codes.BY_REASON.values())),
        }
        if kind in plain:
            return plain[kind]()
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in {Union, types.UnionType}:
            return self.value(self._chance.choice(arguments))
        if origin is tuple:
            return tuple(self.value(arguments[0]) for _ in range(self._chance.randrange(3)))
        if origin is Mapping:
            return {self.value(arguments[0]): self.value(arguments[1]) for _ in range(self._chance.randrange(3))}
        if issubclass(kind, Enum):
            return self._chance.choice(list(kind))
        hints = get_type_hints(kind)
        return kind(**{name: self.value(hints[name]) for name in getattr(kind, "__struct_fields__", hints)})


def exact(value: Any) -> Any:
    """A value with the types of all its parts: equal numbers of different types differ here."""
    if isinstance(value, msgspec.Struct):
        return type(value), [exact(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return dict, {key: exact(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value), [exact(one) for one in value]
    return type(value), value


def bodies(data: bytes) -> Iterator[bytes]:
    """The bodies of frames that arrive at once."""
    return (bytes(one) for one in Unframer().feed(data))


def there(message: ToWriter) -> ToWriter:
    """A message as it arrives at the writer."""
    [body] = bodies(encode_to_writer(message))
    return decode_to_writer(body)


def back(message: FromWriter) -> FromWriter:
    """A message as it arrives at the server."""
    [body] = bodies(encode_from_writer(message))
    return decode_from_writer(body)


@pytest.mark.parametrize("kind", get_args(Command), ids=lambda kind: kind.__name__)
def test_every_command_arrives_as_it_was_sent(kind: Any) -> None:
    """Each kind of command, with all that surrounds it."""
    for seed in range(TRIES):
        make = Maker(seed)
        one = Submission(
            make.value(int),
            make.value(kind),
            make.value(str),
            make.value(bool),
            make.value(Mapping[str, bytes]),
            make.value(str),
            make.value(bytes),
        )
        sent = Work([Sent(seed, 12.3456789 + seed, 0.1, one)])
        found = there(sent)

        assert isinstance(found, Work)
        assert [exact(item) for item in sent.items] == [exact(item) for item in found.items]


def answered(*settled: Settled) -> Answered:
    """A batch with these answers."""
    return Answered(list(enumerate(settled, 7)), len(settled), 0.25, 0.5, 0.125)


def assert_arrives(*settled: Settled) -> None:
    """Answers arrive as they were sent."""
    sent = answered(*settled)
    found = back(sent)

    assert isinstance(found, Answered)
    assert exact(tuple(sent.answers)) == exact(tuple(found.answers))
    assert [sent.size, sent.seconds, sent.oldest_wait_s, sent.queue_age_s] == [
        found.size,
        found.seconds,
        found.oldest_wait_s,
        found.queue_age_s,
    ]


@pytest.mark.parametrize("kind", get_args(Result), ids=lambda kind: kind.__name__)
def test_every_result_arrives_as_it_was_sent(kind: Any) -> None:
    """Each kind of result, with warnings, names and all."""
    for seed in range(TRIES):
        make = Maker(seed)
        outcome: Outcome = Accepted(
            make.value(kind), make.value(tuple[Warning, ...]), make.value(int) if seed % 2 else None
        )
        parties = make.value(tuple[Party, ...])
        assert_arrives(Settled(outcome, make.value(str), make.value(bool), parties, make.value(str)))


@pytest.mark.parametrize("code", codes.BY_REASON.values(), ids=lambda code: str(code.reason))
def test_every_refusal_arrives_as_it_was_sent(code: codes.Code) -> None:
    """Each code, as the very same object, with fields, warnings and all that a refusal can carry."""
    make = Maker(1)
    refused = Refused(
        code,
        make.value(Mapping[str, str]),
        "field",
        tuple(make.value(FieldError) for _ in range(3)),
        tuple(make.value(Warning) for _ in range(3)),
        1.5,
        "quota",
    )
    assert_arrives(Settled(refused, "id"), Settled(Refused(code), "other", replayed=True))
    found = back(answered(Settled(refused, "id")))

    assert isinstance(found, Answered)
    assert code is found.answers[0][1].outcome.code  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "message",
    [
        Hello("1", 2, 3, 4, "5", "sqlite", {"synchronous": "FULL"}, durable=True),
        Unable("no"),
        BugReport("Error", ("a:1 b", "c:2 d"), "TransferPoints", "id"),
        BugReport("Error", ()),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_else_a_writer_says(message: FromWriter) -> None:
    """Hello, why not, and bugs."""
    assert exact(message) == exact(back(message))


@pytest.mark.parametrize(
    "message",
    [Setup("sqlite:///a", "/keys", ("MOBILE",), 256, 5.0), Drain(), DropWaiting()],
    ids=lambda one: type(one).__name__,
)
def test_what_else_a_writer_is_told(message: ToWriter) -> None:
    """The settings, and the end."""
    assert exact(message) == exact(there(message))


def test_frames_are_cut_wherever_the_stream_is() -> None:
    """A stream that arrives in pieces of any length gives the same frames."""
    messages: list[FromWriter] = [Unable("x" * length) for length in (0, 1, 250, 70_000)]
    stream = b"".join(encode_from_writer(one) for one in messages)
    for piece in (1, 3, 4, 5, 4096, len(stream)):
        cut = Unframer()
        found = []
        for start in range(0, len(stream), piece):
            found += [decode_from_writer(body) for body in cut.feed(stream[start : start + piece])]

        assert messages == found


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81\xa4type\xa5Never", b"\x80"])
def test_what_is_no_message_is_garbled(body: bytes) -> None:
    """Neither end takes anything for a message that is none."""
    for decode in (decode_to_writer, decode_from_writer):
        with pytest.raises(Garbled):
            decode(body)
