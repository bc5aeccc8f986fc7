"""The load: requests written into files, and the generator that sends them.

The generator is ghz where it is at hand or can be built, and otherwise `bench_callers.py`. Both take the same flags and
report in the same words. Requests are counted and distinct, so that a run can be settled with the journal afterwards:
ghz's own time limit is not used, since it cuts calls off that are then neither acknowledged nor refused.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_servers import ROOT, environment
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from points_grpc.v1 import customer_service_pb2, issuance_service_pb2, points_service_pb2

GHZ_MODULE = "github.com/bojand/ghz/cmd/ghz"
GHZ_VERSION = "v0.93.0"
CACHE = ROOT / ".cache"
BUILD_TIMEOUT_S = 600
RUN_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Generator:
    """What sends the load."""

    command: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Level:
    """How hard a server is pressed: so many callers on so many connections make so many calls."""

    callers: int
    connections: int
    calls: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the generator says of one run."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    accepted: int
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    cpu_us_per_call: float

    @property
    def refused(self) -> int:
        """Calls that did not end with OK."""
        return sum(self.statuses.values()) - self.accepted


class LoadFailedError(Exception):
    """The generator itself failed."""


# The generator


def find_generator(given: Path | None, *, python: bool) -> Generator:
    """Takes ghz as named, on the PATH, from the cache, or built now; otherwise the generator in Python."""
    found = None
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise LoadFailedError(f"{given} is no program")
    elif not python:
        found = shutil.which("ghz") or shutil.which(CACHE / "ghz") or build_ghz()
    if found is None:
        callers = str(ROOT / "scripts" / "bench_callers.py")
        return Generator((sys.executable, callers), "scripts/bench_callers.py (in Python, not ghz)")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    version = (said.stdout + said.stderr).strip().splitlines()
    return Generator((found,), f"ghz {version[0] if version else ''}".strip())


def build_ghz() -> str | None:
    """Builds ghz into the cache, where Go is at hand; None where it is not, or where that fails."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        return None
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n", encoding="utf-8")
    print(f"bench: building ghz {GHZ_VERSION} into {CACHE.name} (once)", file=sys.stderr)
    try:
        built = subprocess.run(
            [go, "install", f"{GHZ_MODULE}@{GHZ_VERSION}"],
            env={**environment(), "GOBIN": str(CACHE)},
            check=False,
            timeout=BUILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return None
    return shutil.which(CACHE / "ghz") if built.returncode == 0 else None


class Driver:
    """Sends files of requests to a server, and reads what the generator reports."""

    def __init__(self, generator: Generator, folder: Path) -> None:
        """Files lie in `folder`."""
        self.generator = generator
        self._folder = folder
        self._protoset = folder / "points.binpb"
        self._protoset.write_bytes(descriptors().SerializeToString())

    def send(self, call: str, requests: Path, level: Level, *, address: str, token: str) -> Report:
        """One run: every request of the file once."""
        metadata = self._folder / "metadata.json"
        metadata.touch(mode=0o600)
        metadata.write_text(json.dumps({"authorization": f"Bearer {token}"}), encoding="utf-8")
        output = self._folder / "report.json"
        output.unlink(missing_ok=True)
        flags = [f"--call=points.v1.{call}", f"--binary-file={requests}", f"--metadata-file={metadata}"]
        flags += [f"--concurrency={level.callers}", f"--connections={level.connections}", f"--total={level.calls}"]
        flags += [f"--output={output}"]
        if Path(self.generator.command[0]).name == "ghz":
            flags += ["--insecure", f"--protoset={self._protoset}", "--format=json"]
        before = _cpu_of_children_s()
        try:
            ended = subprocess.run(
                [*self.generator.command, *flags, address],
                capture_output=True,
                text=True,
                check=False,
                env=environment(),
                timeout=RUN_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadFailedError(f"{call}: {level} took more than {RUN_TIMEOUT_S} s") from error
        cpu_s = _cpu_of_children_s() - before
        if ended.returncode != 0 or not output.exists():
            raise LoadFailedError(f"{self.generator.name} failed: {(ended.stderr or ended.stdout).strip()}")
        return read_report(json.loads(output.read_text(encoding="utf-8")), cpu_s=cpu_s)


def read_report(said: Mapping[str, Any], *, cpu_s: float) -> Report:
    """What a generator wrote, in our words. Latencies are those of accepted calls."""
    latencies = {row["percentage"]: row["latency"] / 1e6 for row in said.get("latencyDistribution") or ()}
    statuses: dict[str, int] = said["statusCodeDistribution"] or {}
    return Report(
        calls_per_s=said["rps"],
        p50_ms=latencies.get(50, 0.0),
        p99_ms=latencies.get(99, 0.0),
        accepted=statuses.get("OK", 0),
        statuses=statuses,
        errors=said.get("errorDistribution") or {},
        cpu_us_per_call=1e6 * cpu_s / max(said["count"], 1),
    )


def _cpu_of_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# The requests


def write_requests(path: Path, requests: Iterable[Message]) -> Path:
    """Writes messages, each after its length, as generators read them."""
    with path.open("wb") as file:
        for request in requests:
            data = request.SerializeToString()
            file.write(varint(len(data)))
            file.write(data)
    return path


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def descriptors() -> FileDescriptorSet:
    """The services and all that they import, for generators that write messages by description."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in found:
            return
        for other in file.dependencies:
            add(other)
        file.CopyToProto(described := FileDescriptorProto())
        found[file.name] = described

    for module in (points_service_pb2, customer_service_pb2, issuance_service_pb2):
        add(module.DESCRIPTOR)
    return FileDescriptorSet(file=found.values())
