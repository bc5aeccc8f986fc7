"""The archive of a release: whole, the same whenever it is made, and enough to call a server that tells nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from docs.shell import Shell
from points_grpc import __version__
from points_grpc.rpc.server import SERVICES

ROOT = Path(__file__).parents[2]
NAME = f"points-grpc-protos-{__version__}"
COMMAND = re.compile(r"^```\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
OF_A_METHOD = 4
"""The length of a method's path in a file's source info: service, its number, method, its number."""

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300), pytest.mark.xdist_group("release archive")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive."""
    return built(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def unpacked(archive: Path) -> Path:
    """The one folder that is in the archive."""
    with tarfile.open(archive) as file:
        file.extractall(archive.parent, filter="data")
    return archive.parent / NAME


def test_made_again_it_is_the_same(archive: Path, tmp_path: Path) -> None:
    """Two archives of one version are equal to the byte: nothing of the time or the place is in them."""
    assert archive.read_bytes() == built(tmp_path / "made" / "here").read_bytes()


def test_what_is_in_it(unpacked: Path) -> None:
    """Every proto of the repository, the licence, how to use it, and descriptors; whatever is imported is in it."""
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    protos = {f"protos/{path.relative_to(ROOT / 'protos').as_posix()}" for path in (ROOT / "protos").rglob("*.proto")}
    imported = {
        name
        for proto in protos
        for name in re.findall(r'^import "(.+)";', (unpacked / proto).read_text(), re.MULTILINE)
    }

    assert {"LICENSE", "README.md", "points.binpb"} | protos == files
    assert set() == {one for one in imported if not one.startswith("google/protobuf/") and f"protos/{one}" not in files}


def test_the_descriptors(unpacked: Path) -> None:
    """They are whole: every RPC that the server has, with the same messages, what refusals carry, and the comments."""
    files = FileDescriptorSet.FromString((unpacked / "points.binpb").read_bytes()).file
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    commented = [
        location
        for file in files
        for location in file.source_code_info.location
        if len(location.path) == OF_A_METHOD and location.path[0] == file.DESCRIPTOR.fields_by_name["service"].number
        if location.leading_comments
    ]
    wanted = [(one.full_name, one.input_type, one.output_type) for service in SERVICES for one in service.methods]
    found = [pool.FindMethodByName(name) for name, _, _ in wanted]

    assert [(name, given.full_name, answered.full_name) for name, given, answered in wanted] == [
        (one.full_name, one.input_type.full_name, one.output_type.full_name) for one in found
    ]
    assert len(wanted) == len(commented)
    assert pool.FindMessageTypeByName("google.rpc.ErrorInfo").fields_by_name["reason"]


def test_the_calls_of_its_readme(
    unpacked: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A server whose reflection is closed is called, and its refusal read, with what is in the archive alone."""
    commands = COMMAND.findall((unpacked / "README.md").read_text())
    shell = Shell(tmp_path, environment={"POINTS_GRPC_REFLECTION_IS_OPEN": "false"})
    refused = commands[0].replace("GetWallet", "ListLots").replace("9148574269", "9000000000")
    try:
        for command in commands:
            assert '"current": "8500"' in shell.run(command, unpacked), command
        assert re.search(r'"reason": "CUSTOMER_NOT_FOUND\w*"', shell.run(refused, unpacked))
    finally:
        shell.close()
    assert ["grpcurl", "buf"] == [command.split()[0] for command in commands]
    for tool in sorted(shell.missing):
        record_property("summary", f"release archive: {tool} is not there, its call was made in another way")


def built(folder: Path) -> Path:
    """The archive, made by the script into a folder that need not be there."""
    script = ROOT / "scripts" / "generate"
    done = subprocess.run([sys.executable, script, "--archive", folder], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    assert f"{folder / NAME}.tar.gz\n" == done.stdout
    return folder / f"{NAME}.tar.gz"
