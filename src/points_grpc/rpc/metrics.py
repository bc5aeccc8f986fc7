"""How calls and batches are counted for Prometheus. No label ever holds what a caller chose.

Counted in plain numbers, on the event loop alone, and put into Prometheus' form when they are asked for: the library's
own counters take a lock each, of which a call would take three. What each metric is stands in `measures`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from points_grpc.rpc import measures
from points_grpc.rpc.measures import Measure

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The bounds of the histograms of time: a lone transfer takes about a millisecond, the longest call 30 s."""

COMMANDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0)
"""The bounds of the histogram of batches; 1,000 is the largest that can be set."""

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Spread:
    """How many figures fell within each bound and above the last, and what they come to."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: each holds those before it."""
        so_far = 0
        found = []
        for bound, count in zip((*self.bounds, None), self.counts.copy(), strict=True):
            so_far += count
            found.append(("+Inf" if bound is None else str(bound), float(so_far)))
        return found


@dataclass(frozen=True, slots=True)
class State:
    """What is looked up when it is asked for.

    `outbox` is depth, age, and how many events wait; None if the database cannot tell.

    `not_ready` says why the server does not serve, and is empty if it does. `checkpoints` counts them by what became of
    them.
    """

    calls_in_flight: int
    queue_commands: int
    queue_age_s: float
    outbox: tuple[int, float, int] | None
    writer_starts: int
    not_ready: str
    checkpoints: Mapping[str, int]
    checkpoint_overdue_s: float
    version: str
    backend: str


class PrometheusMetrics(Collector):
    """Counts calls by method, gRPC code and reason, measures how long they took by method, and sums up batches."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers the metrics; without a registry in one of their own."""
        self._calls: dict[tuple[str, str, str], int] = {}
        self._times: dict[str, _Spread] = {}
        self._sizes = _Spread(COMMANDS)
        self._waits = _Spread(SECONDS)
        self._batches = _Spread(SECONDS)
        self._commits = _Spread(SECONDS)
        self._conflicts = self._deferred = 0
        self._refused: dict[str, int] = {}
        self._points = _zeros(measures.POINTS)
        self._otps = _zeros(measures.OTPS)
        self._messages = _zeros(measures.MESSAGES)
        self._notices = _zeros(measures.EVENTS)
        self._state: Callable[[], State] | None = None
        self.registry = registry or CollectorRegistry()
        self.registry.register(self)

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Counts one call."""
        key = (method, code, reason)
        self._calls[key] = self._calls.get(key, 0) + 1
        times = self._times.get(method)
        if times is None:
            times = self._times[method] = _Spread(SECONDS)
        times.counts[bisect_left(SECONDS, seconds)] += 1
        times.total += seconds

    def batch(
        self, *, size: int, seconds: float, wait_s: float, commit_s: float, conflicts: int, deferred: int
    ) -> None:
        """Counts one batch of the writer."""
        self._sizes.observe(size)
        self._batches.observe(seconds)
        self._waits.observe(wait_s)
        if commit_s:
            self._commits.observe(commit_s)
        self._conflicts += conflicts
        self._deferred += deferred

    def add(
        self,
        *,
        refused: Mapping[str, int],
        points: Mapping[str, int],
        otps: Mapping[str, int],
        messages: Mapping[str, int],
        notices: Mapping[str, int],
    ) -> None:
        """Adds what a batch came to, by names of ours."""
        _add(self._refused, refused)
        _add(self._points, points)
        _add(self._otps, otps)
        _add(self._messages, messages)
        _add(self._notices, notices)

    def look_at(self, state: Callable[[], State]) -> None:
        """Says where the present state is to be had; it is asked from a thread of its own."""
        self._state = state

    def collect(self) -> Iterator[Family]:
        """What was counted so far, for Prometheus; it asks from a thread of its own."""
        calls = CounterMetricFamily(measures.CALLS.name, measures.CALLS.help, labels=measures.CALLS.labels)
        for labels, count in self._calls.copy().items():
            calls.add_metric(labels, count)
        yield calls
        one = measures.CALL_SECONDS
        seconds = HistogramMetricFamily(one.name, one.help, labels=one.labels)
        for method, times in self._times.copy().items():
            seconds.add_metric((method,), times.buckets(), times.total)
        yield seconds
        yield _by_name(measures.REFUSED, self._refused, str)
        yield _histogram(measures.BATCH_COMMANDS, self._sizes)
        yield _histogram(measures.BATCH_WAIT_SECONDS, self._waits)
        yield _histogram(measures.BATCH_SECONDS, self._batches)
        yield _histogram(measures.COMMIT_SECONDS, self._commits)
        yield _counter(measures.CONFLICTS, self._conflicts)
        yield _counter(measures.DEFERRALS, self._deferred)
        yield _by_name(measures.POINTS, self._points, str.lower)
        yield _by_name(measures.OTPS, self._otps, str.lower)
        yield _by_name(measures.MESSAGES, self._messages, str.lower)
        yield _by_name(measures.EVENTS, self._notices, str.lower)
        if self._state is not None:
            yield from _told(self._state())


class NoMetrics:
    """Counts nothing."""

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Forgets the call."""


def _told(state: State) -> Iterator[Family]:
    """The present state, as metrics."""
    yield _gauge(measures.CALLS_IN_FLIGHT, state.calls_in_flight)
    yield _gauge(measures.QUEUE_COMMANDS, state.queue_commands)
    yield _gauge(measures.QUEUE_AGE_SECONDS, state.queue_age_s)
    if state.outbox is not None:
        depth, age_s, events = state.outbox
        yield _gauge(measures.OUTBOX_EVENTS, events)
        yield _gauge(measures.OUTBOX_MESSAGES, depth)
        yield _gauge(measures.OUTBOX_AGE_SECONDS, age_s)
    yield _counter(measures.WRITER_STARTS, state.writer_starts)
    ready = GaugeMetricFamily(measures.READY.name, measures.READY.help, labels=measures.READY.labels)
    ready.add_metric((state.not_ready,), 0 if state.not_ready else 1)
    yield ready
    yield _by_name(measures.CHECKPOINTS, state.checkpoints, str)
    yield _gauge(measures.CHECKPOINT_OVERDUE_SECONDS, state.checkpoint_overdue_s)
    info = GaugeMetricFamily(measures.INFO.name, measures.INFO.help, labels=measures.INFO.labels)
    info.add_metric((state.version, state.backend), 1)
    yield info


def _zeros(one: Measure) -> dict[str, int]:
    """Nothing was counted yet, of anything that can be; by the names that the writer uses."""
    return {value.upper(): 0 for value in one.values}


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def _gauge(one: Measure, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(one.name, one.help, value=value)


def _counter(one: Measure, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(one.name, one.help, value=value)


def _histogram(one: Measure, spread: _Spread) -> HistogramMetricFamily:
    return HistogramMetricFamily(one.name, one.help, buckets=spread.buckets(), sum_value=spread.total)


def _by_name(one: Measure, counts: Mapping[str, int], shown: Callable[[str], str]) -> CounterMetricFamily:
    found = CounterMetricFamily(one.name, one.help, labels=one.labels)
    for name, count in dict(counts).items():
        found.add_metric((shown(name),), count)
    return found
