"""An exported journal: how it is written, and how it is proved with nothing but the file and a checkpoint.

The file is the chain itself: each entry in the bytes that are hashed, with its notes and its hash behind it. So every
byte is covered by a hash, by a length or by a check, and whoever checks makes no bytes of his own. What is found is
told in sentences that name stream, position and transaction. docs/journal.md specifies the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error
from typing import BinaryIO, NamedTuple

from points_grpc.domain.chain import (
    EMPTY,
    HASH_BYTES,
    NO_NOTES,
    SALT_BYTES,
    START,
    ChainedEntry,
    NoEntry,
    StreamHead,
    decode,
    is_whole,
    next_hash,
    notes_hash,
)
from points_grpc.domain.model import Account

FORMAT = b"PGX1"
PROBLEMS_MAX = 100
"""So many are told; one is enough to know."""

ENTRY_BYTES_MAX = 64 * 1024 * 1024
"""A longer entry is none: its length was changed."""

NOTES_BYTES_MAX = 64 * 1024
"""No notes are that long: 500 characters are taken."""

_START = Struct(">4sq")
_LENGTH = Struct(">I")
_ORG_OF_RECORD = Struct(">8xq")
_NONE, _PRESENT, _ERASED = b"\0", b"\1", b"\2"

_Wallet = tuple[int, int]


def start_of_file(org_id: int) -> bytes:
    """What an export of an organisation's journal starts with."""
    return _START.pack(FORMAT, org_id)


def record(entry: bytes, *, hash_of_notes: bytes, notes: str, salt: bytes | None, hashed: bytes) -> bytes:
    """An entry with its notes, where they are there, and its hash."""
    if hash_of_notes == NO_NOTES:
        kept = _NONE
    elif salt is None:
        kept = _ERASED
    else:
        text = notes.encode()
        kept = b"".join((_PRESENT, salt, _LENGTH.pack(len(text)), text))
    return b"".join((_LENGTH.pack(len(entry)), entry, kept, hashed))


class Cut(Exception):
    """The file ends within a record."""


class FileEnd(NamedTuple):
    """Where a file ends: whose journal it is, the last position of each stream, and the length of what is whole."""

    org_id: int
    places: dict[int, int]
    length: int


def end_of(file: BinaryIO) -> FileEnd:
    """Where an export ends, one that was cut within an entry, too.

    Raises `Cut` if it is none, and `NoEntry` if it is damaged: what stands behind a changed byte is not cut off. That
    the journal is as the file has it, only a checkpoint proves.
    """
    try:
        form, org_id = _START.unpack(file.read(_START.size))
    except error:
        form, org_id = b"", 0
    if form != FORMAT:
        raise Cut("is no export of a journal")
    heads: dict[int, StreamHead] = {}
    length = file.tell()
    try:
        while taken := _record(file):
            _go_on(org_id, heads, *taken)
            length = file.tell()
    except Cut:
        file.seek(length)
        if not _was_cut(file.read()):
            raise NoEntry("is longer than the file, by a length that was changed") from None
    return FileEnd(org_id, {stream: head.position for stream, head in heads.items()}, length)


def _go_on(
    org_id: int, heads: dict[int, StreamHead], entry: bytes, kept: bytes, notes: bytes | None, hashed: bytes
) -> None:
    """Takes a record to the head of its stream; raises `NoEntry` if it does not fit there, or not together."""
    one = decode(entry)
    before = heads.get(one.stream, EMPTY)
    follows = (one.org_id, one.position, next_hash(before.hash, entry)) == (org_id, before.position + 1, hashed)
    if not follows or not _has_its_notes(one, kept, notes):
        raise NoEntry("is not what its hash and the entry before it say")
    heads[one.stream] = StreamHead(one.position, hashed)


def _was_cut(rest: bytes) -> bool:
    """Whether a file may have been cut within the record that its rest begins: what is there must not be all of it."""
    if len(rest) < _LENGTH.size:
        return True
    (size,), rest = _LENGTH.unpack_from(rest), rest[_LENGTH.size :]
    if len(rest) < size:
        return not is_whole(rest)
    one, kept, rest = decode(rest[:size]), rest[size : size + 1], rest[size + 1 :]
    if kept != _PRESENT:
        return True
    if len(rest) < SALT_BYTES + _LENGTH.size:
        return True
    salt, (size,), text = rest[:SALT_BYTES], _LENGTH.unpack_from(rest, SALT_BYTES), rest[SALT_BYTES + _LENGTH.size :]
    if len(text) >= size:
        return _hash_of(salt + text[:size]) == one.notes_hash
    if size > NOTES_BYTES_MAX:
        return False
    return all(_hash_of(salt + text[:end]) != one.notes_hash for end in range(len(text) + 1))


def org_of_record(data: bytes) -> int:
    """The organisation of the entry that some bytes of an export start with, behind the start of the file."""
    org_id: int = _ORG_OF_RECORD.unpack_from(data)[0]
    return org_id


class Audit:
    """What an export comes to, and what is wrong with it."""

    def __init__(self, heads: Mapping[tuple[int, int], StreamHead]) -> None:
        """`heads`: what a checkpoint has, by organisation and stream."""
        self.org_id = 0
        self.entries = 0
        self.vouched = 0
        self.problems: list[str] = []
        self.balances: dict[_Wallet, int] = {}
        self._heads = heads
        self._ends: dict[int, StreamHead] = {}
        self._seen: set[int] = set()
        self._versions: dict[_Wallet, int] = {}
        self._ahead: dict[_Wallet, dict[int, tuple[int, int, str]]] = {}
        self._lots: dict[int, int] = {}

    def read(self, file: BinaryIO) -> None:
        """Reads an export to its end. Memory grows with wallets and live lots, and not with entries."""
        try:
            form, self.org_id = _START.unpack(file.read(_START.size))
        except error:
            form = b""
        if form != FORMAT:
            self._problem("the file is no export of a journal")
            return
        try:
            while taken := _record(file):
                self._take(*taken)
        except (Cut, NoEntry) as cause:
            self._problem(f"{self._last()}: what follows is no entry: it {cause}")
        self._finish()

    def _take(self, entry: bytes, kept: bytes, notes: bytes | None, hashed: bytes) -> None:
        one = decode(entry)
        where = f"stream {one.stream}, position {one.position}, transaction {one.transaction_id}"
        self.entries += 1
        before = self._ends.get(one.stream, StreamHead(0, START))
        if one.org_id != self.org_id:
            self._problem(f"{where}: is of organisation {one.org_id}, and not of {self.org_id}")
        if one.position != before.position + 1:
            self._problem(f"{where}: position {before.position + 1} of the stream was expected")
        if next_hash(before.hash, entry) != hashed:
            self._problem(f"{where}: its hash is not that of the entry and the hash before it")
        self._compare(where, one, hashed)
        self._look_at_notes(where, one, kept, notes)
        self._ends[one.stream] = StreamHead(one.position, hashed)
        self._post(where, one)

    def _compare(self, where: str, one: ChainedEntry, hashed: bytes) -> None:
        wanted = self._heads.get((self.org_id, one.stream))
        if wanted is None or one.position > wanted.position:
            return
        self.vouched += 1
        if one.position == wanted.position:
            self._seen.add(one.stream)
            if hashed != wanted.hash:
                self._problem(f"{where}: its hash is not that of the checkpoint")

    def _look_at_notes(self, where: str, one: ChainedEntry, kept: bytes, notes: bytes | None) -> None:
        if (kept == _NONE) != (one.notes_hash == NO_NOTES):
            self._problem(f"{where}: has notes, or lacks them, against its hash")
        if notes is not None and _hash_of(notes) != one.notes_hash:
            self._problem(f"{where}: its notes are not those that were hashed")

    def _post(self, where: str, one: ChainedEntry) -> None:
        sums: dict[int, int] = {}
        steps: dict[_Wallet, tuple[int, int, int]] = {}
        for posting in one.postings:
            sums[posting.program_id] = sums.get(posting.program_id, 0) + posting.points
            if posting.account != Account.WALLET:
                continue
            key = (posting.customer_id, posting.program_id)
            first = (posting.wallet_version, posting.balance_after - posting.points)
            version, start, balance = steps.get(key, (*first, first[1]))
            if (posting.wallet_version, posting.balance_after) != (version, balance + posting.points):
                self._problem(f"{where}: a balance after, or a version, of wallet {key[0]}/{key[1]}")
            steps[key] = (version, start, posting.balance_after)
            self._lot(posting.lot_id, posting.points)
        if any(sums.values()):
            self._problem(f"{where}: its postings do not sum to zero")
        for key, (version, start, balance) in steps.items():
            ahead = self._ahead.setdefault(key, {})
            if version in ahead or version <= self._versions.get(key, 0):
                self._problem(f"{where}: version {version} of wallet {key[0]}/{key[1]} was made before")
            ahead[version] = (start, balance, where)
            self._go_on(key, ahead)

    def _lot(self, lot_id: int, points: int) -> None:
        left = self._lots.get(lot_id, 0) + points
        if left:
            self._lots[lot_id] = left
        else:
            self._lots.pop(lot_id, None)

    def _go_on(self, key: _Wallet, ahead: dict[int, tuple[int, int, str]]) -> None:
        """Takes what follows the last version; streams need not come in the order of versions."""
        while found := ahead.pop(self._versions.get(key, 0) + 1, None):
            start, balance, where = found
            if start != self.balances.get(key, 0):
                self._problem(f"{where}: starts from another balance of wallet {key[0]}/{key[1]} than was left")
            self._versions[key] = self._versions.get(key, 0) + 1
            self.balances[key] = balance
        if not ahead:
            del self._ahead[key]

    def _finish(self) -> None:
        wanted = {stream: head for (org_id, stream), head in self._heads.items() if org_id == self.org_id}
        if not wanted:
            self._problem(f"the checkpoint has no stream of organisation {self.org_id}")
        for stream, head in sorted(wanted.items()):
            end = self._ends.get(stream, StreamHead(0, START))
            if head.position and stream not in self._seen:
                self._problem(f"stream {stream}: ends at {end.position}, and the checkpoint has {head.position}")
        for (customer_id, program_id), ahead in self._ahead.items():
            version = self._versions.get((customer_id, program_id), 0) + 1
            self._problem(f"wallet {customer_id}/{program_id}: version {version} is missing before {min(ahead)}")
        for lot_id in [lot_id for lot_id, left in self._lots.items() if left < 0]:
            self._problem(f"lot {lot_id}: more was taken from it than it had")

    def _last(self) -> str:
        if not self._ends:
            return "at the start"
        stream = next(reversed(self._ends))
        return f"after entry {self.entries}, stream {stream}, position {self._ends[stream].position}"

    def _problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


def _record(file: BinaryIO) -> tuple[bytes, bytes, bytes | None, bytes] | None:
    """The next entry, how its notes are kept, salt and text of these, and its hash; None at the end of the file."""
    length = file.read(_LENGTH.size)
    if not length:
        return None
    if len(length) < _LENGTH.size:
        raise Cut("ends within a length")
    entry = _exactly(file, _LENGTH.unpack(length)[0])
    kept, notes = _exactly(file, 1), None
    if kept == _PRESENT:
        salt = _exactly(file, SALT_BYTES)
        notes = salt + _exactly(file, _LENGTH.unpack(_exactly(file, _LENGTH.size))[0])
    elif kept not in {_NONE, _ERASED}:
        raise NoEntry(f"keeps notes in a way that is unknown ({kept.hex()})")
    return entry, kept, notes, _exactly(file, HASH_BYTES)


def _exactly(file: BinaryIO, size: int) -> bytes:
    if size > ENTRY_BYTES_MAX:
        raise NoEntry(f"would be {size} bytes long")
    found = file.read(size)
    if len(found) < size:
        raise Cut("ends too early")
    return found


def _has_its_notes(one: ChainedEntry, kept: bytes, notes: bytes | None) -> bool:
    """Whether the notes beside an entry are those that its hash says, or are said to be erased or none."""
    if (kept == _NONE) != (one.notes_hash == NO_NOTES):
        return False
    return notes is None or _hash_of(notes) == one.notes_hash


def _hash_of(notes: bytes) -> bytes | None:
    """The hash of salt and text; None for what is no text."""
    try:
        return notes_hash(notes[:SALT_BYTES], notes[SALT_BYTES:].decode())
    except UnicodeDecodeError:
        return None
