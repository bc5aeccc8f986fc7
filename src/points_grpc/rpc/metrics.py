"""How calls are counted: a counter and a histogram for Prometheus. No label ever holds what a caller chose.

Counted in plain numbers, on the event loop alone, and put into Prometheus' form when they are asked for: the library's
own counters take a lock each, of which a call would take three.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The bounds of the histogram: a lone transfer takes about a millisecond, the longest call 30 s."""

_BOUNDS = (*(str(one) for one in SECONDS), "+Inf")


class _Times:
    """How long the calls of a method took: how many fell within each bound and above the last, and all together."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.total = 0.0


class PrometheusMetrics(Collector):
    """Counts calls by method, gRPC code and reason, and measures how long they took by method."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers the metrics; without a registry in one of their own."""
        self._calls: dict[tuple[str, str, str], int] = {}
        self._times: dict[str, _Times] = {}
        self.registry = registry or CollectorRegistry()
        self.registry.register(self)

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Counts one call."""
        key = (method, code, reason)
        self._calls[key] = self._calls.get(key, 0) + 1
        times = self._times.get(method)
        if times is None:
            times = self._times[method] = _Times()
        times.counts[bisect_left(SECONDS, seconds)] += 1
        times.total += seconds

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """What was counted so far, for Prometheus; it asks from a thread of its own."""
        calls = CounterMetricFamily("points_grpc_calls", "Calls answered.", labels=("method", "code", "reason"))
        for labels, count in self._calls.copy().items():
            calls.add_metric(labels, count)
        yield calls
        seconds = HistogramMetricFamily(
            "points_grpc_call_seconds", "How long calls took in the server.", labels=("method",)
        )
        for method, times in self._times.copy().items():
            so_far = 0
            buckets = []
            for bound, count in zip(_BOUNDS, times.counts.copy(), strict=True):
                so_far += count
                buckets.append((bound, float(so_far)))
            seconds.add_metric((method,), buckets, times.total)
        yield seconds


class NoMetrics:
    """Counts nothing."""

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Forgets the call."""
