"""Whether calls are traced: OpenTelemetry's own variables say so, and nothing of it is imported where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from points_grpc.rpc.traces import Traces

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_traced(environment: Mapping[str, str]) -> bool:
    """Whether an exporter is named, or where to export to.

    The standard would export to loopback where nothing is said; a server that nobody watches should not try to.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    return exporter != "none" and bool(exporter or any(environment.get(one) for one in _ENDPOINTS))


def traces_of(environment: Mapping[str, str], *, version: str, database_url: str) -> Traces | None:
    """What traces calls; None if nobody asked for it. Raises `ValueError` where it cannot be had."""
    if not is_traced(environment):
        return None
    try:
        from points_grpc.rpc.traces import make_traces  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError as error:
        raise ValueError(
            f"traces are asked for, and {error.name} is not there: pip install 'points-grpc[otel]'"
        ) from None
    return make_traces(environment, version=version, database=database_url.partition(":")[0].partition("+")[0])
