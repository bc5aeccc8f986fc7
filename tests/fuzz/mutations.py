"""Structure-aware mutation: a valid request of any RPC, changed in a few places into one that may be valid no more.

Starts from the well-formed requests of tests/conformance, fills in ids that answers told, and then puts malformed,
extreme, copied and merely different values into fields, duplicates and drops elements, merges requests, and at times
breaks the bytes themselves. Everything comes from one seed.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance_player import METHODS, STREAMS
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from test_malformed import WELL_FORMED, values_for

RARELY = frozenset(
    {
        "SetPause",
        "SetProgramActive",
        "SetPolicy",
        "SetConfigKey",
        "SetCustomerStatus",
        "MergeCustomers",
        "EraseCustomer",
    }
)
"""What changes the world so that most of what follows is refused by one rule: a tenth as often as the others."""

KEPT = 30
"""How many ids of a kind are remembered."""

CHANGES_MAX = 4
UNTOUCHED = 0.15
BROKEN = 0.08
MERGED = 0.05

TEXTS = (
    "", " ", "x", "Main", "BILL-1", "0", "-1", "1e9", "NaN", "null", "true", "'", '"; DROP TABLE lots; --', "%s%n{0}",
    "$(id)", "../../etc/passwd", "a\x00b", "\x7f", "\u202eabc", "\ufeff", "\U0001f4b0" * 9, "\uff21", "İi", "e\u0301",
    "9148574269", "+919148574269", "someone@example.com", "a@b", "@", "x" * 65, "x" * 129, "ß" * 257, "x" * 501,
)  # fmt: skip
NUMBERS = (0, 1, 2, 10, 11, 12, 100, 1000, 10**12, 10**12 + 1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, -1, -(2**63))

IDS = {
    "hold_id": "hold",
    "redemption_id": "redemption",
    "transfer_id": "transfer",
    "lot_id": "lot",
    "transaction_id": "transaction",
    "page_token": "token",
    "next_page_token": "token",
    "program_id": "fresh",
}
"""What is learnt from answers and put into requests, by the name of the field."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request on the wire."""

    rpc: str
    raw: bytes
    changed: str


class Mutator:
    """Makes cases from a seed, and learns from answers."""

    def __init__(self, seed: int, *, streams: bool) -> None:
        self._chance = random.Random(seed)
        self._known: dict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._count = 0
        rpcs = [name for name in WELL_FORMED if streams or name not in STREAMS]
        self._often = [name for name in rpcs if name not in RARELY]
        self._rarely = [name for name in rpcs if name in RARELY]

    def case(self) -> Case:
        """The next one."""
        chance, self._count = self._chance, self._count + 1
        rpc = chance.choice(self._rarely if chance.random() < 0.02 else self._often)
        message = self.well_formed(rpc)
        changed: list[str] = []
        if chance.random() > UNTOUCHED:
            for _ in range(min(chance.randint(1, CHANGES_MAX), chance.randint(1, CHANGES_MAX))):
                changed.append(self._change(message))
        raw = message.SerializeToString()
        if chance.random() < MERGED:
            raw += self.well_formed(chance.choice(self._often)).SerializeToString()
            changed.append("merged with another request")
        if chance.random() < BROKEN:
            raw = self._broken(raw)
            changed.append("bytes broken")
        return Case(rpc, raw, ", ".join(changed) or "nothing")

    def well_formed(self, rpc: str) -> Message:
        """A request that is well formed, under a request id of its own or of one sent before."""
        message = ParseDict(self.filled(WELL_FORMED[rpc]), METHODS[rpc][1]())
        if "request_id" in message.DESCRIPTOR.fields_by_name and rpc != "GetTransaction":
            number = self._chance.randint(1, self._count) if self._chance.random() < 0.1 else self._count
            message.request_id = f"fuzz-{number}"  # type: ignore[attr-defined]
        return message

    def learn(self, answer: Message, depth: int = 0) -> None:
        """Remembers the ids of an answer."""
        for field, value in answer.ListFields():
            if field.name in IDS and not field.is_repeated:
                self._known[IDS[field.name]].append(value)
            elif field.message_type is not None and depth < 3 and not field.message_type.GetOptions().map_entry:
                for one in list(value)[:2] if field.is_repeated else [value]:
                    self.learn(one, depth + 1)

    def filled(self, value: Any) -> Any:
        """The JSON form of a request with what was unknown before put in for the words that start with `$`."""
        if isinstance(value, Mapping):
            return {name: self.filled(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.filled(one) for one in value]
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        name, _, argument = value[1:].partition(":")
        if name == "mobile":
            return f"98000000{int(argument):02}"
        known = self._known[name]
        return str(self._chance.choice(known)) if known else "1"

    # -- one change --------------------------------------------------------------------------------------------------

    def _change(self, message: Message) -> str:
        """Changes one field somewhere in a message."""
        places = list(_places(message))
        if not places:
            return "no field to change"
        holder, field, path = self._chance.choice(places)
        if field.is_repeated:
            return f"{path}: {self._change_list(getattr(holder, field.name), field)}"
        if self._chance.random() < 0.15:
            holder.ClearField(field.name)
            return f"{path}: dropped"
        if field.message_type is not None:
            return f"{path}: {self._change_part(getattr(holder, field.name))}"
        return f"{path}: {_put(holder, field.name, self._value(field))}"

    def _value(self, field: FieldDescriptor) -> Any:
        chance = self._chance
        known = self._known.get(IDS.get(field.name, ""))
        if known and chance.random() < 0.4:
            return chance.choice(known)
        if chance.random() < 0.3 and (malformed := [one for _, one, _ in values_for(field)]):
            return chance.choice(malformed)
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                text = chance.choice(TEXTS)
                return text if chance.random() < 0.8 else text[: chance.randint(0, 5)] + chance.choice(TEXTS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return chance.choice([one.number for one in field.enum_type.values] + [99, -1, 2**31 - 1])
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case _:
                return chance.choice(NUMBERS) if chance.random() < 0.7 else chance.randint(-5, 2_000)

    def _change_part(self, part: Message) -> str:
        """A message in the message: set with nothing in it, or a time far away."""
        part.SetInParent()
        if part.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
            seconds = self._chance.choice((0, 1, -1, 1_800_000_000, 253402300799, -62135596800, 2**62, -(2**62)))
            nanos = self._chance.choice((0, 1, 999_999_999, -1, 2_000_000_000))
            part.seconds, part.nanos = seconds, nanos  # type: ignore[attr-defined]
            return f"{seconds} s {nanos} ns"
        part.Clear()
        part.SetInParent()
        return "empty"

    def _change_list(self, elements: Any, field: FieldDescriptor) -> str:
        """A list: an element more, one twice, one less, none, or turned round."""
        match self._chance.randrange(4):
            case 0 if elements:
                del elements[self._chance.randrange(len(elements))]
                return "one less"
            case 1 if elements:
                one = self._chance.choice(elements)
                times = self._chance.choice((1, 2, 17))
                elements.extend([one] * times)
                return f"one {times} times more"
            case 2:
                del elements[:]
                return "none"
            case _ if field.message_type is not None:
                elements.add()
                return "an empty one"
            case _:
                value = self._value(field)
                try:
                    elements.append(value)
                except (TypeError, ValueError) as error:
                    return f"left alone: {error}"
                return f"with {value!r:.40}"

    def _broken(self, raw: bytes) -> bytes:
        """The bytes with a bit turned, a part cut out or put in, or an unknown field behind them."""
        chance, at = self._chance, self._chance.randrange(len(raw) + 1)
        match chance.randrange(5):
            case 0 if raw:
                at = min(at, len(raw) - 1)
                return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
            case 1:
                return raw[:at]
            case 2:
                return raw[:at] + chance.randbytes(chance.randint(1, 8)) + raw[at:]
            case 3:
                return raw + raw[at:]
            case _:
                return raw + b"\xfa\x3f\x05extra"


def _places(message: Message, path: str = "") -> Iterator[tuple[Any, FieldDescriptor, str]]:
    """Every field that is there or could be, of a message and of those in it."""
    for field in message.DESCRIPTOR.fields:
        yield message, field, f"{path}{field.name}"
        if field.message_type is None or field.message_type.full_name == "google.protobuf.Timestamp":
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            for number, one in enumerate(list(value)[:3]):
                yield from _places(one, f"{path}{field.name}[{number}].")
        elif message.HasField(field.name):
            yield from _places(value, f"{path}{field.name}.")


def _put(holder: Any, name: str, value: Any) -> str:
    try:
        setattr(holder, name, value)
    except (TypeError, ValueError, UnicodeError) as error:
        return f"left alone: {error}"[:60]
    return f"{value!r:.40}"


def rpcs() -> Sequence[str]:
    """All that can be mutated."""
    return list(WELL_FORMED)
