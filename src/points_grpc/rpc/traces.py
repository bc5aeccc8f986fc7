"""Spans of OpenTelemetry: the call, its way through the queue, the batch that it shared, and the batch's statements.

The only module that knows OpenTelemetry, and imported only where traces are wanted. The writer's process exports
nothing: it tells with each batch what began when, by the monotonic clock, which is one for both processes.

A batch serves many calls. Its steps and statements are children of the batch in the trace of its first traced call; the
batch in every other trace is linked to that one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from points_grpc.codes import GrpcCode
from points_grpc.rpc.call import CURRENT, CallSpan
from points_grpc.rpc.ports import Metadata
from points_grpc.service.committer import Waited
from points_grpc.service.executor import Step
from points_grpc.service.frames import Answered

FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Codes by which the machinery fails; a refusal by a rule is no error of the server."""

_STEPS = frozenset(one.value for one in Step)
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)")


class _CallSpan:
    """The span of one call."""

    __slots__ = ("is_recording", "span", "trace_id")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.is_recording = span.is_recording()
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def end(self, code: str, reason: str, request_id: str) -> None:
        """Says what the caller was told."""
        if self.is_recording:
            self.span.set_attribute("rpc.grpc.status_code", GrpcCode[code].value)
            self.span.set_attribute("points.request_id", request_id)
            if reason:
                self.span.set_attribute("points.reason", reason)
            if code in FAULTS:
                self.span.set_status(Status(StatusCode.ERROR, reason))
        self.span.end()


class Traces:
    """Makes the spans. For the event loop."""

    def __init__(self, provider: TracerProvider, *, database: str) -> None:
        """Takes where spans go, and the name of the database's engine."""
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("points_grpc")
        self._database = database
        self._wall_ns = time.time_ns() - time.monotonic_ns()

    def begin(self, method: str, metadata: Metadata) -> CallSpan:
        """A call came; its caller may have begun the trace."""
        service, _, name = method.rpartition("/")
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        span = self._tracer.start_span(
            method, context=propagate.extract(carrier), kind=SpanKind.SERVER, attributes=attributes
        )
        return _CallSpan(span)

    def current(self) -> object | None:
        """The span of the call that the present task serves; None if there is none, or it is not recorded."""
        call = CURRENT.get(None)
        span = None if call is None else call.span
        return span if isinstance(span, _CallSpan) and span.is_recording else None

    def batch(self, waited: Sequence[Waited], answered: Answered, received_at: float) -> None:
        """A batch was answered for calls that are traced."""
        steps = _of_batch(answered.counted.steps)
        started_at = steps[0][0] if steps else received_at - answered.seconds
        ended_at = steps[-1][0] if steps and steps[-1][1] == Step.DONE else received_at
        first: Span | None = None
        for span, enqueued_at in _calls(waited):
            parent = set_span_in_context(span.span)
            self._tracer.start_span("queue", parent, start_time=self._ns(enqueued_at)).end(self._ns(started_at))
            links = () if first is None else (Link(first.get_span_context()),)
            batch = self._tracer.start_span(
                "batch",
                parent,
                links=links,
                start_time=self._ns(started_at),
                attributes={"points.batch.commands": answered.size, "points.batch.traced": len(waited)},
            )
            if first is None:
                first = batch
                self._steps(batch, steps, ended_at)
            batch.end(self._ns(ended_at))

    def close(self) -> None:
        """Sends what is left; blocks."""
        self._provider.shutdown()

    def _steps(self, batch: Span, steps: Sequence[tuple[float, str]], ended_at: float) -> None:
        parent = set_span_in_context(batch)
        ends = [at for at, _ in steps[1:]] + [ended_at]
        for (at, name), until in zip(steps, ends, strict=True):
            if name == Step.DONE:
                continue
            if name in _STEPS:
                span = self._tracer.start_span(name, parent, start_time=self._ns(at))
            else:
                span = self._tracer.start_span(
                    _name(name),
                    parent,
                    kind=SpanKind.CLIENT,
                    start_time=self._ns(at),
                    attributes={"db.system.name": self._database, "db.query.text": name},
                )
            span.end(self._ns(until))

    def _ns(self, at: float) -> int:
        """An instant of the monotonic clock as one of the calendar."""
        return int(at * 1e9) + self._wall_ns


def make_traces(environment: Mapping[str, str], *, version: str, database: str) -> Traces:
    """What exports as the standard variables say; raises `ValueError` for what they ask and is not there."""
    named = Resource({SERVICE_NAME: "points-grpc", SERVICE_VERSION: version})
    provider = TracerProvider(resource=named.merge(Resource.create()) if _has_name(environment) else named)
    provider.add_span_processor(BatchSpanProcessor(_exporter(environment)))
    return Traces(provider, database=database)


def _has_name(environment: Mapping[str, str]) -> bool:
    """Whether the variables name the service, or say more about it."""
    return bool(environment.get("OTEL_SERVICE_NAME") or environment.get("OTEL_RESOURCE_ATTRIBUTES"))


def _exporter(environment: Mapping[str, str]) -> SpanExporter:
    kind = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if kind == "console":
        return ConsoleSpanExporter()
    protocol = (
        environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "grpc"
    )
    if kind == "otlp" and protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - one of two is wanted
            OTLPSpanExporter,
        )

        return OTLPSpanExporter()
    if kind == "otlp" and protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - one of two is wanted
            OTLPSpanExporter as HttpExporter,
        )

        return HttpExporter()
    raise ValueError(f"traces: {kind} over {protocol} is not offered; otlp over grpc or http/protobuf, and console are")


def _calls(waited: Sequence[Waited]) -> Iterable[tuple[_CallSpan, float]]:
    """The calls behind commands, each once, with when its first command was handed over."""
    calls: dict[int, tuple[_CallSpan, float]] = {}
    for span, enqueued_at in waited:
        if isinstance(span, _CallSpan):
            calls.setdefault(id(span), (span, enqueued_at))
    return calls.values()


def _of_batch(steps: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
    """The steps from the first one of the batch: the lease may have been renewed before."""
    for place, (_, name) in enumerate(steps):
        if name == Step.PREPARE:
            return steps[place:]
    return ()


def _name(text: str) -> str:
    """What a statement does, and to which table: names are few."""
    found = _TABLE.search(text)
    word = text.split(maxsplit=1)[0] if text.strip() else "SQL"
    return f"{word} {found[1]}" if found else word
