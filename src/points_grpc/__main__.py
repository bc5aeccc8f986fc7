"""`python -m points_grpc` and the `points-grpc` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line, or says how to install it: a client's installation has none."""
    try:
        from points_grpc.cli.main import main as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"points-grpc: {error.name} is missing; install the server: pip install 'points-grpc[server]'")
    run(prog_name="points-grpc")


if __name__ == "__main__":
    main()
