"""The chain of a journal stream: what of a transaction is hashed, byte for byte, and how each hash leads to the next.

Rules of this file: it is the encoding that docs/journal.md specifies, so that others can check a journal with programs
of their own; what it makes of a transaction never changes, because hashes that were written stay. It knows numbers and
texts, no types of the domain: the writer, the verifier and the reader of exports share it. Bytes are big-endian.

What can be asked to be forgotten (notes) is in the chain as a salted hash alone. Salt and text stand beside the chain:
without both, the hash says nothing of the text, and the chain holds all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from struct import Struct, error
from typing import Any, NamedTuple

FORMAT = b"PGJ1"
"""What every entry starts with: the encoding that it is in."""

HASH_BYTES = 32
SALT_BYTES = 16

START = bytes(HASH_BYTES)
"""What stands in the place of a hash before the first entry of a stream."""

NO_NOTES = bytes(HASH_BYTES)
"""What stands in the place of the hash of notes where there are none."""

ABSENT_TIME = -(2**63)
"""A time that there is none of. Absent ids, versions and balances are 0, which none of them ever is."""

ABSENT_TEXT = 2**32 - 1
"""The length of a text that there is none of."""

_HEADER = Struct(">4s11q32s5I")
_POSTING_NUMBERS = 8
_POSTING = Struct(f">{_POSTING_NUMBERS}q")
_LOT = Struct(">11qI")

LotNumbers = tuple[int, int, int, int, int, int, int, int, int, int, int, str]
"""The fields of `ChainedLot`, in order; made in a fifth of the time."""


class StreamHead(NamedTuple):
    """How far a journal stream is: its last position, and the hash there."""

    position: int
    hash: bytes


EMPTY = StreamHead(0, START)
"""The head of a stream that has no entry yet."""


class ChainedLot(NamedTuple):
    """A lot as its transaction opened it: what of it never changes."""

    lot_id: int
    customer_id: int
    program_id: int
    earning_program_id: int
    source: int
    points: int
    awarded_at: int
    available_from: int
    expires_at: int
    parent_lot_id: int
    root_lot_id: int
    category: str


class ChainedPosting(NamedTuple):
    """A posting, as it is written. Of a system account: without customer, lot, version, balance and held."""

    account: int
    customer_id: int
    program_id: int
    lot_id: int
    points: int
    wallet_version: int
    balance_after: int
    held: int


class ChainedEntry(NamedTuple):
    """A journal transaction, read back from its bytes."""

    org_id: int
    stream: int
    position: int
    transaction_id: int
    kind: int
    created_at: int
    customer_id: int
    counterparty_id: int
    program_id: int
    points: int
    policy_revision: int
    notes_hash: bytes
    request_id: str
    actor: str
    transaction_number: str | None
    postings: tuple[ChainedPosting, ...]
    lots: tuple[ChainedLot, ...]


class NoEntry(Exception):
    """Bytes that are no entry of a journal; the text says why."""


def next_hash(previous: bytes, entry: bytes) -> bytes:
    """The hash of an entry: over the hash before it and its bytes."""
    return sha256(previous + entry).digest()


def notes_hash(salt: bytes, notes: str) -> bytes:
    """What the chain has of notes. Of none, it has `NO_NOTES`, and there is no salt."""
    return sha256(salt + notes.encode()).digest()


def encode(
    numbers: Sequence[int],
    hash_of_notes: bytes,
    texts: tuple[str, str, str | None],
    postings: Sequence[int],
    lots: Sequence[LotNumbers],
) -> bytes:
    """The bytes of a transaction. On the path of every write: it takes what the writer has anyway.

    `numbers`: the first fields of `ChainedEntry`, in order. `texts`: request id, actor, transaction number.
    `postings`: the numbers of all, one posting after the other. `lots`: those opened, in any order.
    """
    request_id, actor, number = texts
    request, by, bill = request_id.encode(), actor.encode(), b"" if number is None else number.encode()
    parts = [
        _HEADER.pack(
            FORMAT,
            *numbers,
            hash_of_notes,
            len(request),
            len(by),
            ABSENT_TEXT if number is None else len(bill),
            len(postings) // _POSTING_NUMBERS,
            len(lots),
        ),
        request,
        by,
        bill,
        _numbers(len(postings)).pack(*postings),
    ]
    for lot in lots if len(lots) == 1 else sorted(lots):
        category = lot[-1].encode()
        parts += (_LOT.pack(*lot[:-1], len(category)), category)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _numbers(count: int) -> Struct:
    return Struct(f">{count}q")


# -- read back ---------------------------------------------------------------------------------------------------------


def decode(entry: bytes) -> ChainedEntry:
    """A transaction from its bytes; raises `NoEntry` for what `encode` never makes."""
    taking = _Taking(entry)
    try:
        form, *numbers, hash_of_notes, request, actor, number, postings, lots = taking.struct(_HEADER)
        if form != FORMAT:
            raise NoEntry(f"starts with {form!r}, and not with {FORMAT!r}")
        texts = (taking.text(request), taking.text(actor), None if number == ABSENT_TEXT else taking.text(number))
        posted = tuple(ChainedPosting(*taking.struct(_POSTING)) for _ in range(postings))
        opened = tuple(taking.lot() for _ in range(lots))
    except (error, UnicodeDecodeError) as cause:
        raise NoEntry("ends too early, or has a text that is not UTF-8") from cause
    if taking.left:
        raise NoEntry(f"has {taking.left} bytes too many")
    if any(first.lot_id >= second.lot_id for first, second in pairwise(opened)):
        raise NoEntry("has lots that are not in the order of their ids")
    return ChainedEntry._make((*numbers, hash_of_notes, *texts, posted, opened))


def is_whole(data: bytes) -> bool:
    """Whether an entry that some bytes begin with ends within them, by its own lengths; so does one that is damaged."""
    taking = _Taking(data)
    try:
        *_, request, actor, number, postings, lots = taking.struct(_HEADER)
        texts = (request, actor, 0 if number == ABSENT_TEXT else number)
        taking.skip(sum(texts) + postings * _POSTING.size)
        for _ in range(lots):
            taking.skip(taking.struct(_LOT)[-1])
    except error:
        return not FORMAT.startswith(data[: len(FORMAT)])
    return True


class _Taking:
    """Takes an entry apart from its front. Raises `struct.error` where too little is left."""

    def __init__(self, entry: bytes) -> None:
        self._entry = entry
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes were not taken."""
        return len(self._entry) - self._at

    def struct(self, form: Struct) -> tuple[Any, ...]:
        """The fields of a struct."""
        found = form.unpack_from(self._entry, self._at)
        self._at += form.size
        return found

    def text(self, length: int) -> str:
        """A text."""
        if length > self.left:
            raise error
        found = self._entry[self._at : self._at + length]
        self._at += length
        return found.decode()

    def skip(self, length: int) -> None:
        """Leaves bytes out."""
        if length > self.left:
            raise error
        self._at += length

    def lot(self) -> ChainedLot:
        """A lot."""
        *numbers, category = self.struct(_LOT)
        return ChainedLot._make((*numbers, self.text(category)))
