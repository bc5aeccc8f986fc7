"""`python -m points_grpc.cli.writer`: the writer's process, started by the server and by nobody else.

It ends when it was drained or the server is gone, and for no signal that a terminal sends to all its processes: those
are ignored before anything is imported that takes time.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Runs the writer on the two descriptors named on the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    from points_grpc.cli.writer_composition import run  # noqa: PLC0415 - see above

    stream, marks = (int(argument) for argument in sys.argv[1:])
    sys.exit(run(stream, marks))


if __name__ == "__main__":
    main()
