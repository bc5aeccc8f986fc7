"""What a server tells before anything happened: every series whose label can be known, at 0, for alerts to compare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from points_grpc.domain.model import Kind
from points_grpc.rpc import measures
from points_grpc.rpc.metrics import PrometheusMetrics

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
KNOWN = [one for one in measures.MEASURES if one.values]


def told() -> dict[str, dict[str, float]]:
    """The figures of a server that has done nothing yet, by metric and label."""
    text = generate_latest(PrometheusMetrics().registry).decode()
    return {
        family.name: {next(iter(one.labels.values()), ""): one.value for one in family.samples}
        for family in text_string_to_metric_families(text)
    }


@pytest.mark.parametrize("one", KNOWN, ids=lambda one: one.name)
def test_known_series_start_at_0(one: measures.Measure) -> None:
    """Each value of the label, as it will be counted."""
    assert dict.fromkeys(one.values, 0.0) == told()[one.name]


def test_what_is_counted_is_among_them() -> None:
    """A kind of transaction, and what the table of metrics names, is no series of its own beside those that are 0."""
    metrics = PrometheusMetrics()
    kinds = {kind.name: 1 for kind in Kind}
    metrics.add(refused={}, points=kinds, otps={"USED": 1}, messages={"RETRIED": 1}, notices={"GIVEN_UP": 1})
    found = {
        family.name: {one.labels["movement"] for one in family.samples}
        for family in metrics.collect()
        if family.name == "points_grpc_points"
    }

    assert {"points_grpc_points": set(measures.POINTS.values)} == found
    for one in KNOWN:
        assert [] == [value for value in one.values if value not in one.help]


def test_what_alerts_compare_is_there_from_the_start() -> None:
    """Each series of ours that an alert selects by a label whose values are known."""
    alerts = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    values = {f"{one.name}_total": one.values for one in KNOWN}
    selected = [
        (name, value)
        for rule in alerts
        for name, wanted in re.findall(r'(points_grpc_\w+)\{\w+=~?"([^"]*)"', rule["expr"])
        for value in wanted.split("|")
        if name in values
    ]

    assert {"used", "invalid", "mismatch"} <= {value for _, value in selected}
    assert [] == [(name, value) for name, value in selected if value not in values[name]]


def test_a_server_that_is_gone_has_an_alert() -> None:
    """All of them, and one of several."""
    asked = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}

    assert "absent(points_grpc_ready)" == asked["PointsGone"]
    assert asked["PointsServerGone"].startswith("up == 0 and on (job, instance)")
