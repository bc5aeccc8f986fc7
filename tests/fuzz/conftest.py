"""What the fuzz borrows: the well-formed requests of tests/conformance, the fake neighbours of tests/rpc."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / name) for name in ("conformance", "rpc")]
