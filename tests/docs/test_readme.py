"""The examples of the README are run as printed, and answer as printed.

With a real grpcurl where one can be had; elsewhere the same request is sent with the stubs, and only the printer
differs.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from docs.tools import grpcurl
from points_grpc.v1 import points_service_pb2
from running import Caller, Details, RunningServer, refused

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```\n(.*?)\n```\n+```(?:json)?\n(.*?)\n```", re.DOTALL)
EXAMPLES = {name: (command, output) for name, command, output in EXAMPLE.findall(README)}
VARIABLE = (
    (re.compile(r'("transfer_id": )"\d+"'), r'\1"ID"'),
    (re.compile(r'("request_id": )"[0-9a-f-]+"'), r'\1"ID"'),
    (re.compile(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"'), '"TIME"'),
)


def settled(text: str) -> str:
    """A text with what differs from run to run replaced."""
    for pattern, replacement in VARIABLE:
        text = pattern.sub(replacement, text)
    return re.sub(r"\s+", " ", text).strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A development server of its own: the examples come in the order of the README."""
    running = RunningServer(tmp_path_factory.mktemp("readme"), "--dev").start()
    yield running
    running.close()


def test_readme_opens_with_the_two_commands() -> None:
    """The first commands that a reader sees are the demo and the tests."""
    first_block = README.split("```")[1]

    assert [line.split()[0] for line in first_block.strip().splitlines()] == ["./scripts/demo", "./scripts/test"]


def test_readme_has_its_examples() -> None:
    """The patterns of this file still find the examples."""
    assert list(EXAMPLES) == ["transfer", "refusal"]


def test_the_examples_in_their_order(server: RunningServer) -> None:
    """The command of each example, run after those before it, gives the output that is printed beneath it."""
    program = grpcurl()
    for command, output in EXAMPLES.values():
        if program is None:
            assert_same_by_stubs(server, command, output)
            continue
        line = command.replace("127.0.0.1:50051", server.address).replace("$TOKEN", server.token)
        arguments = shlex.split(line)
        done = subprocess.run([str(program), *arguments[1:]], capture_output=True, text=True, check=False, timeout=30)

        assert settled(done.stdout + done.stderr) == settled(output)


def assert_same_by_stubs(server: RunningServer, command: str, output: str) -> None:
    """Sends the request of a grpcurl command with the stubs and compares what matters of the answer."""
    arguments = shlex.split(command)
    fields = json.loads(arguments[arguments.index("-d") + 1])
    caller = Caller(server.address, server.token)
    if output.startswith("{"):
        answer = caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields)
        shown = json.dumps(MessageToDict(answer, preserving_proto_field_name=True))

        assert json.loads(settled(shown)) == json.loads(settled(output))
        return
    with refused() as found:
        caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields)
    details: Details = found[0]

    assert f"Message: {details.message}" in output
    for key, value in details.info.metadata.items():
        assert key == "request_id" or f'"{key}": "{value}"' in output
