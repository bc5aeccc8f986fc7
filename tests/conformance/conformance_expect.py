"""What every refusal of the table is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from conformance_player import Play
from conformance_table import Row

from catalogue.test_catalogue import DOCUMENTED_ROWS, expected_message
from points_grpc.codes import BY_REASON
from running import Details

MESSAGES = {(row["table"], int(row["number"])): expected_message(row) for row in DOCUMENTED_ROWS}


def message_of(row: Row, metadata: Mapping[str, str]) -> str:
    """The documented text of a row, filled in; that of our own codes is ours."""
    code = BY_REASON[row.reason]
    text = MESSAGES.get((code.table.value, code.number), code.message)
    for name, value in metadata.items():
        text = text.replace("{" + name + "}", value)
    return text


def expected_metadata(row: Row, play: Play) -> dict[str, str]:
    """The numbers behind an outcome, read on their own."""
    return {key: value if isinstance(value, str) else value(play) for key, value in row.metadata.items()}


def refusal(play: Play, row: Row, raw: bytes) -> Details:
    """The refusal that a row's request gets."""
    try:
        answer = play.ask_raw(row.rpc, raw, row.caller, row.headers)[0]
    except grpc.RpcError as error:
        return Details(error)
    raise AssertionError(f"accepted: {answer}")


def told(details: Details) -> dict[str, str]:
    """The metadata of a refusal without what any refusal may carry."""
    return {key: value for key, value in details.info.metadata.items() if key not in {"request_id", "replayed"}}


def compare(row: Row, play: Play, found: Details) -> dict[str, str]:
    """Compares a refusal with all that its row says, and hands out the metadata expected."""
    metadata = expected_metadata(row, play)
    message = message_of(row, metadata)
    item = found.payload.errors[0]

    assert (row.grpc, row.reason, row.number) == (found.code.name, found.info.reason, item.code)
    assert metadata == told(found) == dict(item.metadata)
    assert set(metadata) <= set(BY_REASON[row.reason].metadata_keys)
    assert (message, message) == (found.message, item.message)
    assert (row.field, row.reason, "points.v1") == (item.field, item.reason, found.info.domain)
    assert item.HasField("status")
    assert not item.status
    assert row.warnings == tuple(f"{one.code} {one.reason}" for one in found.payload.warnings)
    if row.grpc == "INVALID_ARGUMENT":
        assert row.field == found.bad_request.field_violations[0].field
    return metadata
