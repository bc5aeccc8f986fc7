"""Traces: the spans of calls, of the batches that they shared, and of their statements; and that they are off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import StatusCode
from test_render import TRANSFER
from wire_fakes import NullLog
from wire_requests import transfer_points
from wire_server import OPERATOR, World, on_server

from points_grpc import codes
from points_grpc.cli.tracing import is_traced, traces_of
from points_grpc.domain.outcome import Accepted, Refused
from points_grpc.rpc.call import CURRENT, Call
from points_grpc.rpc.traces import Traces
from points_grpc.service.executor import Step
from points_grpc.service.frames import Answered
from points_grpc.service.meter import Counted

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01")
METHOD = "points.v1.PointsService/TransferPoints"


class Traced:
    """Traces whose spans are kept in memory."""

    def __init__(self, **given: Any) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **given)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(provider, database="sqlite")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """What was ended, in that order."""
        return self.exporter.get_finished_spans()


def call_of(traced: Traced) -> Call:
    """A call that is being served."""
    call = Call(METHOD, "TransferPoints")
    call.span = traced.traces.begin(METHOD, ())
    CURRENT.set(call)
    return call


def test_a_call_continues_the_trace_of_its_caller() -> None:
    """Its span says what became of the call, and its log line names the trace."""
    traced = Traced()

    async def run(world: World) -> NullLog:
        world.submitter.outcome = Accepted(TRANSFER)
        await world.call(transfer_points(), metadata=(*OPERATOR, TRACEPARENT))
        world.submitter.outcome = Refused(codes.TRANSFER_INSUFFICIENT_POINTS, {"points": "1"})
        await world.call(transfer_points())
        return world.log

    log = on_server(run, tracer=traced.traces)
    first, second = traced.spans
    assert first.parent is not None
    assert (TRACE_ID, "00f067aa0ba902b7") == (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}")
    assert [METHOD, METHOD] == [first.name, second.name]
    assert (0, 9) == (attributes(first)["rpc.grpc.status_code"], attributes(second)["rpc.grpc.status_code"])
    assert "TRANSFER_INSUFFICIENT_POINTS" == attributes(second)["points.reason"]
    assert StatusCode.UNSET is second.status.status_code  # a refusal is no failure of the server
    assert [TRACE_ID, f"{second.context.trace_id:032x}"] == [line["trace_id"] for line in log.calls]


def test_a_failure_of_the_server_is_an_error() -> None:
    """What nobody foresaw is red in every viewer."""
    traced = Traced()

    async def run(world: World) -> grpc.StatusCode:
        world.submitter.error = RuntimeError()
        return (await world.call(transfer_points())).code

    on_server(run, tracer=traced.traces)

    assert [StatusCode.ERROR] == [one.status.status_code for one in traced.spans]


def test_without_a_tracer_no_line_names_a_trace() -> None:
    """Whatever the caller sent."""

    async def run(world: World) -> NullLog:
        await world.call(transfer_points(), metadata=(*OPERATOR, TRACEPARENT))
        return world.log

    assert [""] == [line["trace_id"] for line in on_server(run).calls]


def test_the_batch_stands_in_every_trace_and_its_statements_in_the_first() -> None:
    """Two calls share a batch: both waited in the queue; one has the statements, the other is linked to it."""
    traced = Traced()
    waited = []
    for enqueued_at in (1.0, 1.5):
        call_of(traced)
        span = traced.traces.current()
        assert span is not None
        waited.append((span, enqueued_at))
    steps = [(0.5, "UPDATE lease"), (2.0, Step.PREPARE), (2.25, "SELECT a FROM lots"), (2.5, Step.DECIDE)]
    steps += [(3.0, "INSERT INTO postings (x)"), (3.5, "COMMIT"), (4.0, Step.DONE)]
    counted = Counted(steps=[(at, str(name)) for at, name in steps])
    traced.traces.batch(waited, Answered([], 3, 2.0, 1.0, 0.0, counted), 4.5)
    by_name = {(one.name, trace_of(one)): one for one in traced.spans}
    first, second = (f"{span.span.get_span_context().trace_id:032x}" for span, _ in waited)  # type: ignore[attr-defined]
    batches = [by_name["batch", first], by_name["batch", second]]

    assert [("queue", 1.0), ("queue", 0.5)] == [
        (one.name, seconds(one)) for one in (by_name["queue", first], by_name["queue", second])
    ]
    assert [2.0, 2.0] == [seconds(one) for one in batches]
    assert [batches[0].context.span_id] == [link.context.span_id for link in batches[1].links]
    assert [("prepare", 0.25), ("SELECT lots", 0.25), ("decide", 0.5), ("INSERT postings", 0.5), ("COMMIT", 0.5)] == [
        (one.name, seconds(one))
        for one in traced.spans
        if one.parent and one.parent.span_id == batches[0].context.span_id
    ]
    assert "SELECT a FROM lots" == attributes(by_name["SELECT lots", first])["db.query.text"]
    assert 2 == len([key for key in by_name if key[1] == second])


def test_a_call_that_is_not_sampled_costs_no_spans_of_a_batch() -> None:
    """A caller's decision not to trace is followed."""
    traced = Traced(sampler=ParentBased(ALWAYS_OFF))
    call = call_of(traced)

    assert call.span is not None
    assert traced.traces.current() is None
    call.span.end("OK", "", "")
    assert () == traced.spans


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "points"}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
    ],
)
def test_when_calls_are_traced(environment: dict[str, str], *, expected: bool) -> None:
    """By the standard variables; where they say nothing, not at all."""
    assert expected == is_traced(environment)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_both_protocols_can_be_had(protocol: str) -> None:
    """Nothing is sent until there are spans."""
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    made = traces_of(asked, version="1", database_url="sqlite:///x")

    assert made is not None
    made.close()


def test_what_cannot_be_had_is_told() -> None:
    """In a sentence, at the start."""
    with pytest.raises(ValueError, match="zipkin over grpc is not offered"):
        traces_of({"OTEL_TRACES_EXPORTER": "zipkin"}, version="1", database_url="sqlite:///x")


def test_nothing_is_imported_where_nothing_is_traced() -> None:
    """The server without the extra is the server without the variables."""
    code = "import sys, points_grpc.cli.composition; print([one for one in sys.modules if 'opentelemetry' in one])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "[]" == done.stdout.strip()


def test_only_one_module_knows_opentelemetry() -> None:
    """import-linter sees to whole rooms, this to the rest of its own."""
    sources = (Path(__file__).parents[2] / "src" / "points_grpc").rglob("*.py")

    assert ["traces.py"] == [
        one.name for one in sources if re.search(r"^\s*(from|import) opentele", one.read_text(), re.M)
    ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(json.loads(span.to_json())["attributes"])


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9
