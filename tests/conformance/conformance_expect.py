"""What every refusal of the table is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from conformance_player import METHODS, Play
from conformance_recording import RECORDINGS, recorded_acceptance, recorded_refusal
from conformance_table import Row
from google.rpc import error_details_pb2

from catalogue.test_catalogue import DOCUMENTED_ROWS, expected_message
from points_grpc.codes import BY_REASON, Table
from points_grpc.v1 import common_pb2
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


def asked(row: Row) -> dict[str, Any]:
    """The request of a row, with a request id if it writes and has none."""
    fields = dict(row.request)
    takes_one = "request_id" in METHODS[row.rpc][1].DESCRIPTOR.fields_by_name
    is_read = row.rpc.startswith("Check") and not fields.get("issue_otp")
    if takes_one and not is_read and row.reason != "REQUEST_ID_REQUIRED" and row.rpc != "GetTransaction":
        fields.setdefault("request_id", "conformance")
    return fields


def raw_of(row: Row, play: Play) -> bytes:
    """The bytes that a row sends."""
    return row.raw if row.raw is not None else play.request(row.rpc, asked(row)).SerializeToString()


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


def compare(row: Row, play: Play, raw: bytes, found: Details) -> dict[str, str]:
    """Compares a refusal with all that its row says and with what is recorded; hands out the metadata expected."""
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
    RECORDINGS.keep(row, recorded_refusal(row, play, raw, found))
    return metadata


def compare_acceptance(row: Row, play: Play) -> None:
    """Asks, and compares the outcome or the warning with all that the row says and with what is recorded."""
    code = BY_REASON[row.reason]
    raw = raw_of(row, play)
    if code.reason == "REVERSAL_DISABLED" and row.rpc == "ReverseRedemption":
        [item] = refusal(play, row, raw).payload.warnings
    else:
        answer, call = play.ask_raw(row.rpc, raw)
        item = answer.outcome if code.table is Table.SUCCESS else next(iter(answer.warnings))
        if code.table is Table.WARNING:
            assert [row.reason] == [one.reason for one in answer.warnings]
            assert list(answer.warnings) == list(trailing(call).warnings)
    metadata = expected_metadata(row, play)

    assert (row.number, row.reason, row.field) == (item.code, item.reason, item.field)
    assert (metadata, message_of(row, metadata)) == (dict(item.metadata), item.message)
    assert (code.table is Table.SUCCESS) == item.status
    RECORDINGS.keep(row, recorded_acceptance(row, play, raw, item))


def trailing(call: grpc.Call) -> common_pb2.StatusPayload:
    """The payload in the trailers of an answer."""
    details = Details(call)  # type: ignore[arg-type]
    assert error_details_pb2.ErrorInfo() == details.info
    assert 0 == details.status.code
    return details.payload
