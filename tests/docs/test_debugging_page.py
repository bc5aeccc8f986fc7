"""The commands of docs/debugging.md, run as printed and in order, answer what stands beneath them; every RPC has one
for grpcurl and one for buf.

`pytest tests/docs/test_debugging_page.py --record` (without `-n`) writes down what they answer now.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from docs.shell import Shell
from docs.tools import buf
from docs.transcript import Example, Translation, examples_of, rewritten, settled, spelt_by_grpcurl
from points_grpc.v1 import (
    catalog_service_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)

PATH = Path(__file__).parents[2] / "docs" / "debugging.md"
EXAMPLES = examples_of(PATH.read_text(encoding="utf-8"))
FILES = (
    catalog_service_pb2,
    program_service_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    wallet_service_pb2,
    health_pb2,
)


@pytest.mark.ci
def test_the_commands_as_printed(
    tmp_path: Path, record_property: Callable[[str, object], None], pytestconfig: pytest.Config
) -> None:
    """Each command answers what the page shows of it. A tool that cannot be had is named in the summary."""
    recording = bool(pytestconfig.getoption("--record"))
    shell = Shell(tmp_path)
    translation = Translation()
    ran: list[Example] = []
    try:
        for example in EXAMPLES:
            command = translation.of_command(example.command, shell.code_for(example.command))
            output = example.shown_of(shell.run(command))
            if not recording and example.tool not in shell.missing:
                assert settled(output) == settled(example.output), example.command
            translation.learn(example.output, output)
            ran.append(Example(command, output, example.lines_shown))
    finally:
        shell.close()
    for tool in sorted(shell.missing):
        record_property("summary", f"docs/debugging.md: {tool} is not there, its commands were sent in another way")
    if recording:
        assert not shell.missing
        PATH.write_text(rewritten(PATH.read_text(encoding="utf-8"), ran), encoding="utf-8")


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_the_commands_for_buf(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Each call for buf answers the same, but for the spelling, on a server of its own: no deed is done twice."""
    if buf() is None:
        record_property("summary", "docs/debugging.md: buf is not there, its commands were not run")
        return
    shell = Shell(tmp_path)
    translation = Translation()
    try:
        for example in EXAMPLES:
            if example.for_buf is None:
                continue
            command = translation.of_command(example.for_buf, shell.code_for(example.command))
            output = example.shown_of(spelt_by_grpcurl(shell.run(command)))
            assert settled(output) == settled(example.output), example.for_buf
            translation.learn(example.output, output)
    finally:
        shell.close()


def test_every_call_stands_there_for_buf() -> None:
    """Each call by grpcurl that is answered is followed by the same for buf: the same request, headers and method."""
    assert [example.by_buf() for example in EXAMPLES] == [example.for_buf for example in EXAMPLES]


def test_every_rpc_has_an_example() -> None:
    """Each RPC of each service has a section of its own, in the section of its service, with a call by each tool."""
    page = PATH.read_text(encoding="utf-8")
    sections = {section.split("\n", 1)[0]: section for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]}
    wanted = [(service, method.name) for service in services() for method in service.methods]
    found = [
        (service, name)
        for service, name in wanted
        if f"\n### {name}\n" in sections[service.name]
        and any(
            example.tool == "grpcurl"
            and example.command.split()[-1] == f"{service.full_name}/{name}"
            and (example.for_buf or "").endswith(f"/{service.full_name}/{name}")
            for example in examples_of(sections[service.name])
        )
    ]

    assert [] == [f"{service.full_name}/{name}" for service, name in wanted if (service, name) not in found]
    assert len(wanted) > 40


def test_every_section_stands_in_the_contents() -> None:
    """The contents link to every section, and to nothing else."""
    page = PATH.read_text(encoding="utf-8")
    contents, _, rest = page.partition("\n## ")
    linked = re.findall(r"\(#([\w-]+)\)", contents)
    headings = re.findall(r"^#{2,3} (.+)$", "## " + rest, flags=re.MULTILINE)

    assert linked == [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]


def test_the_page_shows_all_three_tools() -> None:
    """The pattern of this file still finds the commands, of all three tools."""
    assert {"grpcurl", "buf", "points-grpc"} == {example.tool for example in EXAMPLES}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["TransferPoint"], "there is no RPC TransferPoint; there are TransferPoints"),
        (["GetWallet", "{"], "GetWalletRequest: Failed to load JSON"),
        (["GetWallet", '{"wallet": 1}'], 'has no field named "wallet"'),
    ],
)
def test_misuse(arguments: list[str], says: str) -> None:
    """An RPC that is not there, or a request that is none, is told without a call, with exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "points_grpc", "call", *arguments, "--token", "pk_a_b"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert 2 == done.returncode
    assert says in " ".join(done.stderr.split())


def services() -> list[ServiceDescriptor]:
    """Every service that the server has, but for reflection, by which grpcurl finds the others."""
    return [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
