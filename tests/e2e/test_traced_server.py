"""A real server with traces on the console: one trace from the caller's span to the statements of the writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from databases import NewDatabase
from points_grpc.v1 import points_service_pb2
from running import Caller, RunningServer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


@pytest.mark.ci
def test_from_the_caller_to_the_commit(new_database_in_ci: NewDatabase, tmp_path: Path) -> None:
    """The call, its wait, its batch, the batch's steps and statements stand in the caller's trace, without values."""
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "till"}
    server = RunningServer(tmp_path, "--dev", environment=environment, on=new_database_in_ci(tmp_path)).start()
    caller = Caller(server.address, server.token)
    caller.metadata += (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),)
    asked = {
        "pointsToBeTransferred": 10,
        "programId": 973,
        "fromCustomerIdentifier": {"type": "MOBILE", "value": "9148574269"},
        "toCustomerIdentifier": {"type": "ID", "value": "565039506"},
        "notes": "a note that no trace may hold",
    }
    try:
        caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), asked)
    finally:
        caller.close()
        exit_code = server.stop()
    spans = [one for one in printed_spans(server.output()) if one["context"]["trace_id"] == f"0x{TRACE_ID}"]
    by_name = {one["name"]: one for one in spans}
    call, batch = by_name["points.v1.PointsService/TransferPoints"], by_name["batch"]
    within = [one["name"] for one in spans if one["parent_id"] == batch["context"]["span_id"]]
    lines = [json.loads(line) for line in server.errors().splitlines()]

    assert 0 == exit_code
    assert f"0x{PARENT_ID}" == call["parent_id"]
    assert {call["context"]["span_id"]} == {batch["parent_id"], by_name["queue"]["parent_id"]}
    assert "till" == call["resource"]["attributes"]["service.name"]
    begun = [one for one in within if one in {"prepare", "BEGIN"}]
    reads_configuration = ["BEGIN"] * (begun.count("BEGIN") == 2)  # if what is remembered is a second old
    assert ["prepare", *reads_configuration, "BEGIN"] == begun
    assert within.index("decide") < within.index("apply") < within.index("COMMIT") == len(within) - 1
    assert {"INSERT transactions", "INSERT postings"} <= set(within)
    assert "a note that no trace may hold" not in server.output()
    assert "9148574269" not in "".join(json.dumps(one) for one in spans)
    assert [TRACE_ID] == [one["trace_id"] for one in lines if one.get("method", "").endswith("/TransferPoints")]


@pytest.mark.ci
def test_what_is_asked_for_and_not_there_stops_the_start(tmp_path: Path) -> None:
    """A server that silently traces nothing would be found out when the trace is needed."""
    server = RunningServer(tmp_path, environment={"OTEL_TRACES_EXPORTER": "zipkin"})
    with pytest.raises(AssertionError, match="zipkin over grpc is not offered"):
        server.start()
    assert server.process is not None

    assert 1 == server.process.wait(10)


def printed_spans(output: str) -> list[dict[str, Any]]:
    """The spans among the lines of an output, where other JSON stands, too."""
    found = []
    decoder = json.JSONDecoder()
    at = output.find("{\n")
    while at >= 0:
        document, end = decoder.raw_decode(output, at)
        if "context" in document:
            found.append(document)
        at = output.find("{\n", end)
    return found
