"""The chain's encoding is what docs/journal.md says, byte for byte: spelled out here once more, from that page alone.

The worked example of the page is checked, so that a verifier in another language can be.
"""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import pytest

from points_grpc.domain.chain import (
    ABSENT_TIME,
    EMPTY,
    NO_NOTES,
    START,
    ChainedEntry,
    ChainedLot,
    ChainedPosting,
    NoEntry,
    decode,
    encode,
    next_hash,
    notes_hash,
)

PAGE = Path(__file__).parents[2] / "docs" / "journal.md"

NOTES = "for tea \N{TEACUP WITHOUT HANDLE}"
SALT = bytes(range(16))
NEVER = 2**63 - 1
YEAR_END = 1_798_761_599_999_999

EXAMPLE = ChainedEntry(
    org_id=1,
    stream=0,
    position=3,
    transaction_id=7003,
    kind=2,
    created_at=1_767_225_600_000_000,
    customer_id=11,
    counterparty_id=12,
    program_id=973,
    points=10,
    policy_revision=1,
    notes_hash=notes_hash(SALT, NOTES),
    request_id="r-3",
    actor="till 4",
    transaction_number=None,
    postings=(
        ChainedPosting(1, 11, 973, 5001, -10, 2, 90, 0),
        ChainedPosting(1, 12, 973, 5002, 10, 1, 10, 0),
    ),
    lots=(
        ChainedLot(
            5002, 12, 973, 973, 1, 10, 1_767_139_200_000_000, ABSENT_TIME, 1_798_761_599_999_999, 5001, 5001, "é"
        ),
    ),
)
"""The example of the page."""

PREVIOUS = bytes([0xAB]) * 32


def encoded(entry: ChainedEntry) -> bytes:
    """The bytes as the writer makes them."""
    postings = [number for posting in entry.postings for number in posting]
    texts = (entry.request_id, entry.actor, entry.transaction_number)
    return encode(entry[:11], entry.notes_hash, texts, postings, entry.lots)


def spelled_out(entry: ChainedEntry) -> bytes:
    """The bytes as the page describes them, written without looking at how the writer does it."""

    def i64(number: int) -> bytes:
        return number.to_bytes(8, "big", signed=True)

    def u32(number: int) -> bytes:
        return number.to_bytes(4, "big")

    number = b"" if entry.transaction_number is None else entry.transaction_number.encode("utf-8")
    request, actor = entry.request_id.encode("utf-8"), entry.actor.encode("utf-8")
    found = b"PGJ1" + b"".join(i64(one) for one in entry[:11]) + entry.notes_hash
    found += u32(len(request)) + u32(len(actor))
    found += b"\xff\xff\xff\xff" if entry.transaction_number is None else u32(len(number))
    found += u32(len(entry.postings)) + u32(len(entry.lots))
    found += request + actor + number
    for posting in entry.postings:
        found += b"".join(i64(one) for one in posting)
    for lot in sorted(entry.lots, key=lambda one: one.lot_id):
        category = lot.category.encode("utf-8")
        found += b"".join(i64(one) for one in lot[:11]) + u32(len(category)) + category
    return found


def random_entry(draw: random.Random) -> ChainedEntry:
    """An entry with anything in it that the columns take."""

    def number() -> int:
        return draw.choice((0, 1, 10**12, NEVER, ABSENT_TIME, draw.randrange(-(2**63), 2**63)))

    def text() -> str:
        return "".join(draw.choice("aß\u0905\U0001f375 \n\x01") for _ in range(draw.randrange(6)))

    ids = draw.sample(range(1, 1_000), draw.randrange(4))
    return ChainedEntry(
        *(number() for _ in range(11)),
        draw.choice((NO_NOTES, draw.randbytes(32))),
        text(),
        text(),
        draw.choice((None, "", text())),
        tuple(ChainedPosting(*(number() for _ in range(8))) for _ in range(draw.randrange(5))),
        tuple(ChainedLot(one, *(number() for _ in range(10)), text()) for one in sorted(ids)),
    )


def test_the_writer_encodes_what_the_page_says() -> None:
    """The example, and 300 entries at random."""
    draw = random.Random(20261122)
    entries = [EXAMPLE, *(random_entry(draw) for _ in range(300))]

    assert [encoded(one) for one in entries] == [spelled_out(one) for one in entries]


def test_what_was_encoded_is_read_back() -> None:
    """Every field of it."""
    draw = random.Random(20261123)
    entries = [EXAMPLE, *(random_entry(draw) for _ in range(300))]

    assert [decode(encoded(one)) for one in entries] == entries


def test_lots_are_encoded_in_the_order_of_their_ids() -> None:
    """Whatever the order in which they are given."""
    lots = tuple(EXAMPLE.lots[0]._replace(lot_id=one) for one in (5004, 5002, 5003))

    assert encoded(EXAMPLE._replace(lots=lots)) == encoded(EXAMPLE._replace(lots=tuple(sorted(lots))))


def test_the_worked_example_of_the_page_is_right() -> None:
    """Its bytes, the hash of its notes, and its hash in the chain."""
    entry, of_notes, chained = (bytes.fromhex(one) for one in re.findall(r"```hex\n(.*?)```", PAGE.read_text(), re.S))

    assert entry == spelled_out(EXAMPLE)
    assert of_notes == hashlib.sha256(SALT + NOTES.encode()).digest()
    assert chained == hashlib.sha256(PREVIOUS + entry).digest()
    assert chained == next_hash(PREVIOUS, encoded(EXAMPLE))


def test_a_stream_starts_with_zeros() -> None:
    """Where there is no entry yet."""
    assert EMPTY == (0, bytes(32))
    assert EMPTY.hash == START


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (b"", "ends too early"),
        (encoded(EXAMPLE)[:-1], "ends too early"),
        (encoded(EXAMPLE)[:-100], "ends too early"),
        (encoded(EXAMPLE) + b"\0", "1 bytes too many"),
        (b"PGJ2" + encoded(EXAMPLE)[4:], "starts with"),
        (encoded(EXAMPLE)[:-1] + b"\xff", "not UTF-8"),
        (encoded(EXAMPLE)[:136] + b"\xff\xff\xff\xff" + encoded(EXAMPLE)[140:], "ends too early"),
        (spelled_out(EXAMPLE._replace(lots=EXAMPLE.lots * 2)), "order of their ids"),
    ],
)
def test_what_is_no_entry_is_told(entry: bytes, cause: str) -> None:
    """And never read as something else."""
    with pytest.raises(NoEntry, match=cause):
        decode(entry)
