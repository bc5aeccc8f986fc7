"""Computes for some seconds and calls nobody: what a load generator takes of a machine, without its load.

Usage: python decoy.py <seconds>
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Computes once it is told to, and says how long it was."""
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    while time.monotonic() < started + float(sys.argv[1]):
        sum(range(1000))
    print(json.dumps({"ms": int((time.monotonic() - started) * 1000)}), flush=True)


if __name__ == "__main__":
    main()
