"""An exported journal is proved with its checkpoint alone: whatever single change is made to it is found and named.

The journal is made here, of two streams that write the same wallets, with notes kept, erased and absent.
"""

from __future__ import annotations

import random
import re
from io import BytesIO

import pytest

from points_grpc.domain.chain import ABSENT_TIME, NO_NOTES, START, NoEntry, StreamHead, encode, next_hash, notes_hash
from points_grpc.domain.checkpoint import Checkpoint, CheckpointHead, NoCheckpoint, from_text, signed_bytes, to_text
from points_grpc.domain.exported import Audit, Cut, end_of, record, start_of_file

ORG, PROGRAM = 5, 9
NEVER = 2**63 - 1
WALLETS = (11, 12, 13)


class Journal:
    """Two streams of issues and transfers: records in the order of their streams, and the heads."""

    def __init__(self, entries: int) -> None:
        self.records: dict[int, list[bytes]] = {0: [], 3: []}
        self.heads = {(ORG, stream): StreamHead(0, START) for stream in self.records}
        self.balances = dict.fromkeys(WALLETS, 0)
        self._versions = dict.fromkeys(WALLETS, 0)
        chance = random.Random(20261122)
        for number in range(entries):
            to = WALLETS[number % 3]
            lot_id = 5_000 + number
            lots = [(lot_id, to, PROGRAM, PROGRAM, 1, 10, number, ABSENT_TIME, NEVER, 0, lot_id, "é" * (number % 2))]
            postings = [*self._post(to, lot_id, 10), 2, 0, PROGRAM, 0, -10, 0, 0, 0]
            self._add(chance.choice((0, 3)), number, to, postings, lots)

    def _post(self, to: int, lot_id: int, points: int) -> list[int]:
        self._versions[to] += 1
        self.balances[to] += points
        return [1, to, PROGRAM, lot_id, points, self._versions[to], self.balances[to], 0]

    def _add(self, stream: int, number: int, to: int, postings: list[int], lots: list[tuple]) -> None:
        head = self.heads[ORG, stream]
        notes, salt = ("", None) if number % 3 == 0 else (f"note {number}", number.to_bytes(16, "big"))
        hashed = NO_NOTES if salt is None else notes_hash(salt, notes)
        if number % 3 == 2:
            notes, salt = "", None  # erased since
        numbers = (ORG, stream, head.position + 1, 7_000 + number, 1, number, to, 0, PROGRAM, 10, 1)
        entry = encode(numbers, hashed, (f"r-{number}", "till", None), postings, lots)
        link = next_hash(head.hash, entry)
        self.heads[ORG, stream] = StreamHead(head.position + 1, link)
        self.records[stream].append(record(entry, hash_of_notes=hashed, notes=notes, salt=salt, hashed=link))

    @property
    def all_records(self) -> list[bytes]:
        """Stream by stream."""
        return [one for stream in sorted(self.records) for one in self.records[stream]]


@pytest.fixture(scope="module")
def journal() -> Journal:
    """A journal of 60 entries."""
    return Journal(60)


def audited(journal: Journal, content: bytes) -> Audit:
    """What an export comes to, against the checkpoint of the journal."""
    audit = Audit(journal.heads)
    audit.read(BytesIO(content))
    return audit


def exported(records: list[bytes]) -> bytes:
    """A file of records."""
    return start_of_file(ORG) + b"".join(records)


def test_a_sound_export_is_proved(journal: Journal) -> None:
    """Every entry is vouched for, and balances are those of the wallets, whatever stream wrote them."""
    audit = audited(journal, exported(journal.all_records))

    assert audit.problems == []
    assert (audit.entries, audit.vouched) == (60, 60)
    assert audit.balances == {(one, PROGRAM): balance for one, balance in journal.balances.items()}


def changed(chance: random.Random, records: list[bytes]) -> tuple[str, bytes]:
    """One change at random: a byte, an entry removed, two in each other's place, one twice, or the end cut off."""
    kind = chance.choice(("byte", "removed", "reordered", "doubled", "tail", "cut"))
    content = exported(records)
    at, other = sorted(chance.sample(range(len(records)), 2))
    if kind == "byte":
        place = chance.randrange(len(content))
        flipped = content[place] ^ (1 << chance.randrange(8))
        return f"byte {place}", content[:place] + bytes([flipped]) + content[place + 1 :]
    if kind == "removed":
        return f"without entry {at}", exported(records[:at] + records[at + 1 :])
    if kind == "reordered":
        moved = [*records[:at], records[other], *records[at + 1 : other], records[at], *records[other + 1 :]]
        return f"entries {at} and {other}", exported(moved)
    if kind == "doubled":
        return f"entry {at} twice", exported([*records[:other], records[at], *records[other:]])
    if kind == "tail":
        return f"first {at}", exported(records[:at])
    place = chance.randrange(len(content))
    return f"first {place} bytes", content[:place]


def test_a_thousand_single_changes_are_found(journal: Journal) -> None:
    """Each of them; bytes are flipped anywhere, lengths, salts, notes and hashes included."""
    chance = random.Random(1_000)
    records = journal.all_records
    sound = exported(records)
    changes = [changed(chance, records) for _ in range(1_000)]

    assert [name for name, content in changes if content == sound] == []
    assert [name for name, content in changes if not audited(journal, content).problems] == []


def test_every_cut_tail_is_found(journal: Journal) -> None:
    """Between entries, where nothing in the file itself is wrong; the checkpoint knows."""
    records = journal.all_records
    found = [audited(journal, exported(records[:kept])).problems for kept in range(len(records))]

    assert [kept for kept, problems in enumerate(found) if "the checkpoint has" not in str(problems)] == []


@pytest.mark.parametrize("place", [0, 7, 19])
def test_what_is_wrong_is_named_where_it_is(journal: Journal, place: int) -> None:
    """By stream, position and transaction."""
    records = list(journal.records[0])
    one = bytearray(records[place])
    one[4 + 4 + 8 * 9 + 7] ^= 1  # the points of the transaction
    records[place] = bytes(one)
    audit = audited(journal, exported(records + journal.records[3]))

    assert audit.problems[0].startswith(f"stream 0, position {place + 1}, transaction 7")
    assert "its hash is not that of the entry" in audit.problems[0]
    assert len(audit.problems) == 1


def test_a_forger_who_hashes_anew_meets_the_checkpoint(journal: Journal) -> None:
    """A chain that is sound in itself is not the one that was signed."""
    forged = Journal(60)
    forged.heads = dict(journal.heads)
    forged.heads[ORG, 0] = StreamHead(forged.heads[ORG, 0].position, bytes(32))
    audit = audited(forged, exported(forged.all_records))

    assert ["its hash is not that of the checkpoint" in one for one in audit.problems] == [True]


def test_entries_after_the_checkpoint_are_counted_apart(journal: Journal) -> None:
    """They are chained, and nobody has vouched for them yet."""
    earlier = {(ORG, 0): StreamHead(0, START), (ORG, 3): journal.heads[ORG, 3]}
    audit = Audit(earlier)
    audit.read(BytesIO(exported(journal.all_records)))

    assert audit.problems == []
    assert audit.entries - audit.vouched == len(journal.records[0])


def test_a_checkpoint_of_others_proves_nothing(journal: Journal) -> None:
    """It has to have the organisation's streams."""
    audit = Audit({(ORG + 1, 0): StreamHead(1, START)})
    audit.read(BytesIO(exported(journal.all_records)))

    assert audit.problems == [f"the checkpoint has no stream of organisation {ORG}"]


def test_a_checkpoint_is_read_back(journal: Journal) -> None:
    """With what was signed of it."""
    heads = tuple(CheckpointHead(*key, *head) for key, head in sorted(journal.heads.items()))
    made = Checkpoint(1_767_225_600_000_000, "k1", bytes(32), heads)
    read, signature = from_text(to_text(made, b"signed"))

    assert (read, signature) == (made, b"signed")
    assert len(signed_bytes(made)) == 4 + 8 + 4 + 2 + 32 + 4 + 2 * (24 + 32)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": "points-journal-checkpoint/1"}', '{"format": 7}'])
def test_what_is_no_checkpoint_is_told(text: str) -> None:
    """And not taken for an empty one."""
    with pytest.raises(NoCheckpoint):
        from_text(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("made_at", "1e999"),
        ("made_at", str(2**63)),
        ("position", str(-(2**63) - 1)),
        ("org_id", "[" * 100_000 + "]" * 100_000),
        ("hash", '"abcd"'),
        ("public_key", '"abcd"'),
    ],
)
def test_what_no_checkpoint_can_say_is_told(journal: Journal, field: str, value: str) -> None:
    """Numbers beyond 64 bits, hashes of another length: they could not be signed."""
    heads = tuple(CheckpointHead(*key, *head) for key, head in sorted(journal.heads.items()))
    text = to_text(Checkpoint(1_767_225_600_000_000, "k1", bytes(32), heads), b"signed")
    changed = re.sub(rf'"{field}": [^,\n}}]+', lambda _: f'"{field}": {value}', text, count=1)

    assert text != changed
    with pytest.raises(NoCheckpoint):
        from_text(changed)


class TestEnd:
    """Where a file ends that is gone on with."""

    JOURNAL = Journal(6)
    WHOLE = exported(JOURNAL.all_records)

    def test_of_a_file_cut_anywhere(self) -> None:
        """What is left of a record does not count."""
        length, ends = len(start_of_file(ORG)), []
        for one in self.JOURNAL.all_records:
            ends += [length] * len(one)
            length += len(one)
        found = [end_of(BytesIO(self.WHOLE[:cut])) for cut in range(len(start_of_file(ORG)), len(self.WHOLE) + 1)]

        assert [*ends, length] == [one.length for one in found]
        assert {stream: head.position for (_, stream), head in self.JOURNAL.heads.items()} == found[-1].places

    def test_no_changed_bit_is_taken_for_a_cut(self) -> None:
        """Whatever one it is, at the end of the file, too: what stands behind it would be thrown away."""
        taken = []
        for place in range(len(self.WHOLE)):
            for bit in range(8):
                changed = bytearray(self.WHOLE)
                changed[place] ^= 1 << bit
                try:
                    end_of(BytesIO(changed))
                except (Cut, NoEntry):
                    continue
                taken.append((place, bit))

        assert [] == taken
