"""One coded outcome as a StatusItem, for `errors[]`, `warnings[]` and `outcome`, and what bounds its size."""

from __future__ import annotations

from collections.abc import Mapping

from points_grpc.codes import Code, Table
from points_grpc.domain import outcome as o
from points_grpc.v1 import common_pb2

VALUE_BYTES_MAX = 256
"""The most bytes of one value of the metadata."""

METADATA_BYTES_MAX = 768
"""The most bytes of all values of one metadata together."""

MESSAGE_BYTES_MAX = 256
"""The most bytes of a message with its variables filled in."""

_NOTHING: Mapping[str, str] = {}


def status_item(code: Code, metadata: Mapping[str, str] = _NOTHING, field: str = "") -> common_pb2.StatusItem:
    """A coded outcome. `metadata` is bounded already (`bounded`). The item may be shared: never change it."""
    if not metadata and not field:
        return _PLAIN.get(code) or _plain(code)
    return common_pb2.StatusItem(
        status=code.table is Table.SUCCESS,
        code=code.number,
        reason=code.reason,
        message=message_of(code, metadata),
        field=field,
        metadata=metadata,
    )


def warning_items(warnings: tuple[o.Warning, ...]) -> list[common_pb2.StatusItem]:
    """Warnings, for `warnings[]`."""
    return [status_item(one.code, bounded(one.metadata), one.field) for one in warnings]


def message_of(code: Code, metadata: Mapping[str, str]) -> str:
    """The message of a code with its variables filled in, cut to a bounded size."""
    text = code.text(metadata)
    return text if len(text) * 4 <= MESSAGE_BYTES_MAX else _cut(text, MESSAGE_BYTES_MAX)


def bounded(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Metadata cut to a bounded size. Usually nothing is cut."""
    if sum(map(len, metadata.values())) * 4 <= VALUE_BYTES_MAX:
        return metadata
    room = METADATA_BYTES_MAX
    found = {}
    for key, value in metadata.items():
        found[key] = _cut(value, min(VALUE_BYTES_MAX, room))
        room -= len(found[key].encode())
    return found


_PLAIN: dict[Code, common_pb2.StatusItem] = {}


def _plain(code: Code) -> common_pb2.StatusItem:
    """The item of a code without metadata and field, made once."""
    _PLAIN[code] = common_pb2.StatusItem(
        status=code.table is Table.SUCCESS,
        code=code.number,
        reason=code.reason,
        message=message_of(code, _NOTHING),
    )
    return _PLAIN[code]


def _cut(text: str, bytes_max: int) -> str:
    """The longest beginning of a text that fits, whole characters only."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")
