"""How each program in another language is built and run, and what it takes. A build is kept for as long as its sources
stay the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
STAMPS = ROOT / ".cache" / "examples"
BUILD_TIMEOUT_S = 540
RUN_TIMEOUT_S = 60

BIN = Path(sys.executable).parent
"""Where the virtual environment keeps its tools; buf comes with the dependency group "check"."""

ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}


@dataclass(frozen=True)
class Example:
    """One program. `made` is what its build leaves behind; it lives in a folder of its name `below` another."""

    language: str
    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    made: str = ""
    below: str = "examples"

    @property
    def name(self) -> str:
        """Its folder, as the summary names it."""
        return f"{self.below}/{self.language}"

    @property
    def folder(self) -> Path:
        """Where it lives."""
        return ROOT / self.name

    def missing(self) -> list[str]:
        """The tools that this machine does not have."""
        return [tool for tool in self.tools if shutil.which(tool, path=ENVIRONMENT["PATH"]) is None]

    def make(self) -> float:
        """Builds it if its sources changed; the seconds that it took."""
        if not self.build:
            return 0.0
        stamp, wanted = STAMPS / f"{self.language}.stamp", self._sources()
        if stamp.is_file() and stamp.read_text() == wanted and (self.folder / self.made).exists():
            return 0.0
        started = time.monotonic()
        for command in self.build:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                check=False,
                timeout=BUILD_TIMEOUT_S,
            )
            assert 0 == done.returncode, f"{self.language}: {' '.join(command)}\n{done.stdout}{done.stderr}"[:8000]
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted)
        return time.monotonic() - started

    def lines(self, address: str, token: str) -> list[str]:
        """What it prints."""
        command = [*self.run, "--address", address, "--token", token]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
        )
        assert 0 == done.returncode, f"{self.language}: {done.stdout}{done.stderr}"[:8000]
        return done.stdout.splitlines()

    def _sources(self) -> str:
        """A digest of all that the build depends on: the protos, and what is committed of the program."""
        paths = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "protos", self.name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        digest = hashlib.sha256()
        for path in sorted(paths):
            digest.update(path.encode() + b"\0" + (ROOT / path).read_bytes() + b"\0")
        return digest.hexdigest()


ALL = (
    Example(
        "go",
        ("go", "buf"),
        (("go", "generate", "./..."), ("go", "build", "-o", "transfer", ".")),
        ("./transfer",),
        "transfer",
    ),
    Example(
        "java",
        ("java", "javac", "mvn"),
        (("mvn", "-B", "-q", "package"),),
        ("java", "-cp", os.pathsep.join(("target/*", "target/lib/*")), "points.example.Transfer"),
        "target/points-example-1.jar",
    ),
    Example(
        "node",
        ("node", "npm"),
        (("npm", "install", "--no-audit", "--no-fund", "--prefer-offline"), ("npm", "run", "build")),
        ("node", "dist/main.js"),
        "dist/main.js",
    ),
    Example("python", (), (), (sys.executable, "transfer.py")),
)

GATEWAY = Example(
    "grpc-gateway",
    ("go", "buf"),
    (("go", "generate", "./..."), ("go", "build", "-o", "gateway", ".")),
    ("./gateway",),
    "gateway",
    below="deploy",
)
"""The transcoder for HTTP and JSON."""


def toolchains_are_required() -> bool:
    """Whether this is CI, where all of them have to run."""
    return os.environ.get("CI") == "true" or bool(os.environ.get("POINTS_REQUIRE_TOOLCHAINS"))
