"""What the service answered to each row, as it is committed: `recorded.json`, from which docs/codes.md is made.

A row that is played compares its answer with the committed one; with `--record` it replaces it. What differs from run
to run (numbers of telephones, codes, ids, times) is recorded as a placeholder, so that the file does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from conformance_player import METHODS, Play
from conformance_table import Row
from google.protobuf.json_format import MessageToDict

from points_grpc.v1 import common_pb2
from running import Details

FILE = Path(__file__).with_name("recorded.json")
SHOWN_CHARACTERS = 30

Recorded = dict[str, Any]
"""The request, and what came of it, of one row."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*")


class Recordings:
    """The committed answers, and in a recording run the new ones."""

    def __init__(self) -> None:
        self.committed: dict[str, Recorded] = json.loads(FILE.read_text()) if FILE.is_file() else {}
        self.recording = False
        self._new: dict[str, Recorded] = {}

    def keep(self, row: Row, recorded: Recorded) -> None:
        """Compares what a row came to with what is committed, or takes it down."""
        if self.recording:
            self._new[row.name] = recorded
        else:
            assert self.committed.get(row.name) == recorded, "not as recorded: see docs/codes.md, and --record"

    def write(self, rows: Iterable[Row]) -> None:
        """Writes the file: what was taken down, and what is committed of rows that still exist and were not played."""
        all_of_them = self.committed | self._new
        self.committed = {row.name: all_of_them[row.name] for row in rows if row.name in all_of_them}
        FILE.write_text(json.dumps(self.committed, indent=1, ensure_ascii=False) + "\n")


RECORDINGS = Recordings()


def recorded_refusal(row: Row, play: Play, raw: bytes, found: Details) -> Recorded:
    """A refusal as it is recorded."""
    item = found.payload.errors[0]
    violations = [{"field": one.field, "description": one.description} for one in found.bad_request.field_violations]
    return {
        "rpc": row.rpc,
        "request": _request(row, play, raw),
        "grpc": found.code.name,
        **_item(row, play, item),
        **({"violations": violations} if violations else {}),
        **({"warnings": [f"{one.code} {one.reason}" for one in found.payload.warnings]} if row.warnings else {}),
    }


def recorded_acceptance(row: Row, play: Play, raw: bytes, item: common_pb2.StatusItem) -> Recorded:
    """A success or a warning as it is recorded."""
    return {"rpc": row.rpc, "request": _request(row, play, raw), "grpc": "OK", **_item(row, play, item)}


def _item(row: Row, play: Play, item: common_pb2.StatusItem) -> Recorded:
    metadata = {name: _metadatum(row, name, item.metadata[name], play) for name in sorted(item.metadata)}
    return {
        "number": item.code,
        "reason": item.reason,
        "message": _stable(item.message, play.placeholders),
        **({"field": item.field} if item.field else {}),
        **({"metadata": metadata} if metadata else {}),
    }


def _metadatum(row: Row, name: str, value: str, play: Play) -> str:
    varies = not isinstance(row.metadata.get(name, ""), str)
    if varies and _TIME.fullmatch(value):
        return "<time>"
    if varies and _TOKEN.fullmatch(value):
        return "<token>"
    return str(_stable(value, play.placeholders))


def _request(row: Row, play: Play, raw: bytes) -> Any:
    if row.raw is not None:
        return f"<the bytes {raw.hex(' ')}, which are no protobuf message>"
    made = METHODS[row.rpc][1].FromString(raw)
    return _stable(MessageToDict(made, preserving_proto_field_name=True), play.placeholders)


def _stable(value: Any, placeholders: Mapping[str, str]) -> Any:
    """A value without what differs from run to run, and without what is too long to show."""
    if isinstance(value, dict):
        return {name: _stable(one, placeholders) for name, one in value.items()}
    if isinstance(value, list):
        return [_stable(one, placeholders) for one in value]
    if not isinstance(value, str):
        return value
    if value in placeholders:
        return placeholders[value]
    if len(value) > SHOWN_CHARACTERS and len(set(value)) == 1:
        return f"<{len(value)} characters>"
    return value
