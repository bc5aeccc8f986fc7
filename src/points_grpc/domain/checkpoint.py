"""A checkpoint: where every journal stream stood at a time, in a form that can be signed and kept elsewhere.

What docs/journal.md says of checkpoints, and nothing that signs or stores them. Who has one can tell whether a journal
was rewritten, or its end cut off, before the time of the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

FORMAT = "points-journal-checkpoint/1"
_SIGNED = b"PGC1"
_TIME = Struct(">q")
_LENGTH = Struct(">I")
_HEAD = Struct(">3q32s")
_INT64 = range(-(2**63), 2**63)
_BYTES = 32
_NAMES = {"format", "made_at", "key_id", "public_key", "streams", "signature"}


class NoCheckpoint(Exception):
    """A text is no checkpoint; this says why."""


class CheckpointHead(NamedTuple):
    """The last position of a stream, and the hash there."""

    org_id: int
    stream: int
    position: int
    hash: bytes


class Checkpoint(NamedTuple):
    """The heads of streams at a time, by organisation and stream, and whose key signs it."""

    made_at: int
    key_id: str
    public_key: bytes
    heads: tuple[CheckpointHead, ...]


def furthest(checkpoints: Sequence[Checkpoint]) -> tuple[CheckpointHead, ...]:
    """Of each stream the head that is furthest, by organisation and stream; both where two contradict each other."""
    heads = {head for one in checkpoints for head in one.heads}
    last: dict[tuple[int, int], int] = {}
    for one in heads:
        key = (one.org_id, one.stream)
        last[key] = max(one.position, last.get(key, one.position))
    return tuple(sorted(one for one in heads if one.position == last[one.org_id, one.stream]))


def signed_bytes(checkpoint: Checkpoint) -> bytes:
    """What is signed."""
    key_id = checkpoint.key_id.encode()
    parts = [_SIGNED, _TIME.pack(checkpoint.made_at), _LENGTH.pack(len(key_id)), key_id, checkpoint.public_key]
    parts.append(_LENGTH.pack(len(checkpoint.heads)))
    parts += [_HEAD.pack(*head) for head in checkpoint.heads]
    return b"".join(parts)


def to_text(checkpoint: Checkpoint, signature: bytes) -> str:
    """A checkpoint as the text that is kept: JSON, with bytes in hex."""
    streams = [
        {"org_id": one.org_id, "stream": one.stream, "position": one.position, "hash": one.hash.hex()}
        for one in checkpoint.heads
    ]
    document = {
        "format": FORMAT,
        "made_at": checkpoint.made_at,
        "key_id": checkpoint.key_id,
        "public_key": checkpoint.public_key.hex(),
        "streams": streams,
        "signature": signature.hex(),
    }
    return json.dumps(document, indent=1) + "\n"


def from_text(text: str) -> tuple[Checkpoint, bytes]:
    """A checkpoint and its signature; raises `NoCheckpoint`. Whether the signature is right is not looked at."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document.keys() != _NAMES:
            raise NoCheckpoint(f"its format is not {FORMAT}")
        heads = tuple(
            CheckpointHead(_int64(one["org_id"]), _int64(one["stream"]), _int64(one["position"]), _bytes(one["hash"]))
            for one in document["streams"]
        )
        made = Checkpoint(_int64(document["made_at"]), str(document["key_id"]), _bytes(document["public_key"]), heads)
        return made, bytes.fromhex(document["signature"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as cause:
        raise NoCheckpoint("it is damaged, or was not made by points-grpc") from cause


def _int64(value: object) -> int:
    """A number that can be signed."""
    if not isinstance(value, int) or value not in _INT64:
        raise ValueError("no whole number of 64 bits")
    return value


def _bytes(text: str) -> bytes:
    """A hash or a public key."""
    found = bytes.fromhex(text)
    if len(found) != _BYTES:
        raise ValueError("not of 32 bytes")
    return found
