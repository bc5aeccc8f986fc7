"""Real tools that callers use, where they can be had: grpcurl from the PATH, or built once where Go is at hand; buf."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

GRPCURL_MODULE = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
CACHE = Path(__file__).parents[2] / ".cache" / "bin"


def grpcurl() -> Path | None:
    """The grpcurl program; None where there is neither one nor Go to build it."""
    found = shutil.which("grpcurl")
    if found:
        return Path(found)
    built = CACHE / "grpcurl"
    if not built.exists() and shutil.which("go"):
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["go", "install", GRPCURL_MODULE], env={**os.environ, "GOBIN": str(CACHE)}, check=True, capture_output=True
        )
    return built if built.exists() else None


def buf() -> Path | None:
    """The buf of the virtual environment, or of the PATH."""
    beside = Path(sys.executable).parent / "buf"
    if beside.exists():
        return beside
    found = shutil.which("buf")
    return Path(found) if found else None
