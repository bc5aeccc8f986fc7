"""The content that a request id stands for: each set field of a request as canonical bytes, by its canonical name.

On the hot path of every write. The request id itself is no content; a deprecated spelling counts as the proper one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

ALIASES: Mapping[str, str] = {"points_tobe_transferred": "points_to_be_transferred"}
"""Deprecated spellings, and what they stand for."""

LEFT_OUT = frozenset({"request_id"})
"""Fields that are no content."""


class Content(Protocol):
    """A protobuf message, as far as its content is concerned."""

    def ListFields(self) -> Sequence[tuple[FieldDescriptor, object]]:  # noqa: N802 - protobuf's name
        """The fields that are set, with their values."""
        ...


def fingerprint(request: Content) -> dict[str, bytes]:
    """Maps each set field to its canonical bytes."""
    found = {}
    for field, value in request.ListFields():
        name, encode = _KNOWN.get(field) or _learn(field, value)
        if name:
            found[name] = encode(value)
    return found


_Encode = Callable[[object], bytes]

_KNOWN: dict[FieldDescriptor, tuple[str, _Encode]] = {}
"""How each field met so far is named and encoded; an empty name leaves it out. As many as the protos have fields."""


def _learn(field: FieldDescriptor, value: object) -> tuple[str, _Encode]:
    """Finds out how a field is named and encoded, from the first value met: the kind of value never changes."""
    name = "" if field.name in LEFT_OUT else ALIASES.get(field.name, field.name)
    _KNOWN[field] = (name, _encoder(value))
    return _KNOWN[field]


def _encoder(value: object) -> _Encode:
    """Texts as UTF-8, numbers, enums and booleans in decimal digits, messages as their deterministic wire form."""
    match value:
        case str():
            return _TEXT
        case int():
            return _NUMBER
        case Message():
            return _MESSAGE
        case Iterable():
            return _encode_list
        case _:
            raise TypeError(type(value).__name__)


def _encode_list(values: object) -> bytes:
    """Each element with its length before it, so that no two lists look the same."""
    parts = [_encoder(one)(one) for one in cast("Iterable[object]", values)]
    return b"".join(b"%d:%s," % (len(part), part) for part in parts)


# Plain methods and operators, without a function of ours around them: they run for each field of each write.
_TEXT = cast("_Encode", str.encode)
_NUMBER = cast("_Encode", b"%d".__mod__)
_MESSAGE: _Encode = operator.methodcaller("SerializeToString", deterministic=True)
