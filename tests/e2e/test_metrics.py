"""The metrics of a real server: what a scene of calls adds to each, that they are those in the docs, and readiness."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from points_grpc.rpc.measures import MEASURES
from points_grpc.v1 import issuance_service_pb2, points_service_pb2
from running import Caller, RunningServer, free_port, refused

ROOT = Path(__file__).parents[2]
ANN = {"type": "ID", "value": "565039505"}
BEN = {"type": "ID", "value": "565039506"}
NO_ONE = {"type": "MOBILE", "value": "919999900001"}

Sample = tuple[str, frozenset[tuple[str, str]]]


class Metered:
    """A development server with an endpoint for metrics."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.running = RunningServer(folder, "--dev", "--metrics-port", str(self.port)).start()
        self.caller = Caller(self.running.address, self.running.token)

    def scrape(self) -> dict[Sample, float]:
        """Every sample of the endpoint."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def text(self) -> str:
        """What the endpoint says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 where it is not there yet."""
        return self.scrape().get((name, frozenset(labels.items())), 0.0)

    def transfer(self, **fields: object) -> Any:
        """Transfers from Ann to Ben."""
        asked = {
            "pointsToBeTransferred": 10,
            "programId": 973,
            "fromCustomerIdentifier": ANN,
            "toCustomerIdentifier": BEN,
            **fields,
        }
        points = self.caller.points
        return self.caller.ask(points.TransferPoints, points_service_pb2.TransferPointsRequest(), asked)


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metered]:
    made = Metered(tmp_path_factory.mktemp("metered"))
    yield made
    made.caller.close()
    made.running.close()


def test_a_transfer_adds_to_calls_batches_commits_and_points(metered: Metered) -> None:
    """One call, one batch of one command, one commit, and the points that moved."""
    before = metered.scrape()
    metered.transfer(pointsToBeTransferred=25)

    gained = difference(before, metered.scrape())
    method = "points.v1.PointsService/TransferPoints"
    assert 1 == gained["points_grpc_calls_total", frozenset({("method", method), ("code", "OK"), ("reason", "")})]
    assert 1 == gained["points_grpc_call_seconds_count", frozenset({("method", method)})]
    assert 25 == gained["points_grpc_points_total", frozenset({("movement", "transfer")})]
    for name in ("points_grpc_batch_commands", "points_grpc_batch_seconds", "points_grpc_commit_seconds"):
        assert 1 <= gained[f"{name}_count", frozenset()]


def test_a_refusal_is_counted_once_however_often_it_is_asked_for(metered: Metered) -> None:
    """The rules refused one command; its repetition is a call, and no decision."""
    reason = {"reason": "TRANSFER_INSUFFICIENT_POINTS"}
    before = metered.value("points_grpc_commands_refused_total", **reason)
    for _ in range(2):
        with refused():
            metered.transfer(pointsToBeTransferred=900_000, requestId="too-many")

    assert before + 1 == metered.value("points_grpc_commands_refused_total", **reason)


def test_items_of_a_batch_are_counted_each(metered: Metered) -> None:
    """A call of three items, one of them refused."""
    before = metered.scrape()
    issue = {"programId": 973, "points": 7, "source": "GOODWILL"}
    items = [
        {**issue, "customerIdentifier": who, "requestId": f"m-{place}"} for place, who in enumerate((ANN, NO_ONE, BEN))
    ]
    issuance = metered.caller.issuance
    metered.caller.ask(issuance.BatchIssuePoints, issuance_service_pb2.BatchIssuePointsRequest(), {"requests": items})

    gained = difference(before, metered.scrape())
    assert 14 == gained["points_grpc_points_total", frozenset({("movement", "issue")})]
    assert [1.0] == [value for (name, _), value in gained.items() if name == "points_grpc_commands_refused_total"]
    assert 3 <= gained["points_grpc_batch_commands_sum", frozenset()]


def test_what_became_of_a_one_time_code(metered: Metered) -> None:
    """Issued, delivered, then tried wrongly, for something else, and rightly."""
    before = metered.scrape()
    asked = {"pointsToBeTransferred": 5, "programId": 973, "fromCustomerIdentifier": ANN, "toCustomerIdentifier": BEN}
    points = metered.caller.points
    metered.caller.ask(points.IssueTransferOtp, points_service_pb2.IssueTransferOtpRequest(), asked)
    delivered = frozenset({("outcome", "delivered")})
    until = time.monotonic() + 10
    while not difference(before, metered.scrape()).get(("points_grpc_messages_total", delivered)):
        assert time.monotonic() < until
        time.sleep(0.05)
    code = re.findall(r"\b\d{6}\b", metered.running.output())[-1]
    with refused():
        metered.transfer(pointsToBeTransferred=5, code="0" * 6 if code != "0" * 6 else "1" * 6)
    with refused():
        metered.transfer(pointsToBeTransferred=6, code=code)
    metered.transfer(pointsToBeTransferred=5, code=code)

    gained = difference(before, metered.scrape())
    assert {"issued": 1, "invalid": 1, "mismatch": 1, "used": 1} == {
        dict(labels)["outcome"]: value for (name, labels), value in gained.items() if name == "points_grpc_otps_total"
    }


def test_the_metrics_are_those_that_are_described(metered: Metered) -> None:
    """Name, kind and labels; nothing is told that is not in the table, and nothing there is missing."""
    families = {family.name: family for family in text_string_to_metric_families(metered.text())}

    assert {one.name: one.kind for one in MEASURES} == {
        family.name: family.type for family in families.values() if family.name.startswith("points_grpc")
    }
    for one in MEASURES:
        found = {frozenset(sample.labels) - {"le"} for sample in families[one.name].samples}
        assert found <= {frozenset(one.labels)}, one.name


def test_queries_ask_for_what_there_is(metered: Metered) -> None:
    """Every query of the dashboard and of the alerts: its metrics are told by the server, and have its labels."""
    families = text_string_to_metric_families(metered.text())
    told = {name for family in families for name in samples_of(family.name, family.type)}
    labels = {name: {*one.labels, "le", "instance"} for one in MEASURES for name in samples_of(one.name, one.kind)}
    queries = dashboard_queries() + alert_queries()

    assert 30 < len(queries)
    for query in queries:
        names = set(re.findall(r"\bpoints_grpc_\w+", query))
        selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query)
        grouped = [label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r", *", group)]
        assert names, query
        assert names <= told, query
        assert {*selected, *grouped} <= set.union(*(labels[name] for name in names)), query


def test_every_metric_is_on_the_dashboard() -> None:
    """What is worth counting is worth looking at."""
    asked = " ".join(dashboard_queries())

    assert [] == [one.name for one in MEASURES if one.name not in asked]


def dashboard_queries() -> list[str]:
    """The queries of every panel, and those of its variables."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "points-grpc.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return found + [one["definition"] for one in dashboard["templating"]["list"] if "definition" in one]


def alert_queries() -> list[str]:
    """The queries of every alert."""
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    return [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]


def samples_of(name: str, kind: str) -> list[str]:
    """The names of the samples of a metric."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
    return [name + suffix for suffix in suffixes]


def test_no_label_holds_what_a_caller_chose(metered: Metered) -> None:
    """Values of requests, ids and correlation ids are pushed through success and failure, and found nowhere."""
    marks = ("mark-one", "mark-two", "mark-three", "918888877777")
    points = metered.caller.points
    method = points.TransferPoints
    request = points_service_pb2.TransferPointsRequest(request_id=marks[0], notes=marks[1], points_to_be_transferred=1)
    for value in (marks[3], ""):
        request.from_customer_identifier.value = value
        with refused():
            method(request, metadata=(*metered.caller.metadata, ("x-correlation-id", marks[2])), timeout=10)
    unknown = metered.caller.channel.unary_unary(f"/points.v1.PointsService/{marks[0]}")
    with refused():
        unknown(b"", metadata=metered.caller.metadata, timeout=10)
    metered.transfer(requestId=marks[0] + "-ok", notes=marks[1])

    text = metered.text()
    assert not [mark for mark in marks if mark in text]


@pytest.mark.ci
def test_health_says_why_not(tmp_path: Path) -> None:
    """With the writer stopped for good, probe and metric name the cause; afterwards both say that it serves."""
    metered = Metered(tmp_path)
    assert metered.running.process is not None
    address = metered.running.address
    try:
        assert (0, "SERVING") == healthcheck(address)
        assert 1.0 == metered.value("points_grpc_ready", reason="")
        metered.running.on.change("UPDATE alembic_version SET version_num = 'other'")
        metered.running.kill_writer()
        until = time.monotonic() + 10
        while ("points_grpc_ready", frozenset({("reason", "no_writer")})) not in metered.scrape():
            assert time.monotonic() < until
            time.sleep(0.02)
        code, told = healthcheck(address)

        assert (1, True) == (code, "the process that writes is gone" in told)
    finally:
        metered.caller.close()
        metered.running.close()
    assert (1, f"Error: {address} does not serve: no answer (UNAVAILABLE)") == healthcheck(address)


def healthcheck(address: str) -> tuple[int, str]:
    """Exit code and output of the probe."""
    command = [sys.executable, "-m", "points_grpc", "healthcheck", "--address", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip()


def difference(before: Mapping[Sample, float], after: Mapping[Sample, float]) -> dict[Sample, float]:
    """What was gained."""
    return {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}
