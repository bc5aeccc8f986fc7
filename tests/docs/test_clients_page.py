"""The examples of docs/clients.md are run as printed, in order, and print what stands beneath them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cutting_proxy import CuttingProxy
from points_grpc.client import PointsClient
from points_grpc.v1 import points_service_pb2_grpc
from running import RunningServer

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
EXAMPLE = re.compile(r"<!-- example: ([\w ]+) -->\n```(\w+)\n(.*?)\n```(?:\n\n```\n(.*?)\n```)?", re.DOTALL)
EXAMPLES = {name: (language, text, output) for name, language, text, output in EXAMPLE.findall(PAGE)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A development server of its own: the examples come in the order of the page."""
    running = RunningServer(tmp_path_factory.mktemp("clients"), "--dev").start()
    yield running
    running.close()


@pytest.mark.ci
def test_the_examples_as_printed(server: RunningServer) -> None:
    """Each Python example, run after those before it, prints what the page says."""
    names: dict[str, Any] = {"address": server.address, "token": server.token}
    shown = {}
    for name, (language, text, _) in EXAMPLES.items():
        if language != "python":
            continue
        if name == "refusals":  # the examples after the first go on with its request, on a client that is open
            names["points"] = PointsClient(server.address, server.token)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(text, f"docs/clients.md: {name}", "exec"), names)
        shown[name] = printed.getvalue().strip()
    names["points"].close()

    assert {name: output for name, (language, _, output) in EXAMPLES.items() if language == "python"} == shown
    assert ["transfer", "refusals", "warnings", "asyncio", "watches", "options"] == list(shown)


def test_the_service_config_repeats_what_was_cut(server: RunningServer) -> None:
    """The printed retry policy makes gRPC itself repeat a request whose answer was cut: its id makes it a replay."""
    language, config, _ = EXAMPLES["service config"]
    options = [("grpc.service_config", json.dumps(json.loads(config))), ("grpc.enable_retries", 1)]
    request: dict[str, Any] = {}
    exec(EXAMPLES["transfer"][1].partition("with PointsClient")[0], request)
    transfer = request["request"]
    transfer.points_to_be_transferred, transfer.request_id = 1, "by-service-config"
    with CuttingProxy(server.port) as proxy, grpc.insecure_channel(proxy.address, options) as channel:
        stub = points_service_pb2_grpc.PointsServiceStub(channel)
        answer = stub.TransferPoints(transfer, timeout=10, metadata=[("authorization", f"Bearer {server.token}")])

    assert ("json", 1, True) == (language, proxy.cuts_made, answer.replayed)
