"""How calls are counted: Prometheus counters and a histogram. No label ever holds what a caller chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The bounds of the histogram: a lone transfer takes about a millisecond, the longest call 30 s."""


class PrometheusMetrics:
    """Counts calls by method, gRPC code and reason, and measures how long they took by method."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers the metrics; without a registry in one of their own."""
        self.registry = registry or CollectorRegistry()
        self._calls = Counter(
            "points_grpc_calls", "Calls answered.", ("method", "code", "reason"), registry=self.registry
        )
        self._seconds = Histogram(
            "points_grpc_call_seconds",
            "How long calls took in the server.",
            ("method",),
            buckets=SECONDS,
            registry=self.registry,
        )
        # Finding a labelled child costs more than counting in it. As many as methods times reasons.
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Counts one call."""
        counter = self._counters.get((method, code, reason))
        if counter is None:
            counter = self._counters[method, code, reason] = self._calls.labels(method, code, reason)
        counter.inc()
        histogram = self._histograms.get(method)
        if histogram is None:
            histogram = self._histograms[method] = self._seconds.labels(method)
        histogram.observe(seconds)


class NoMetrics:
    """Counts nothing."""

    def observe(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Forgets the call."""
