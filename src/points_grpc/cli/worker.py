"""`python -m points_grpc.cli.worker`: one of several servers on a port, started by the supervisor and by nobody else.

A terminal sends its interrupt to all its processes: until the server drains by it, it is ignored.
"""

from __future__ import annotations

import signal
import socket
import sys


def main() -> int:
    """Serves as ordered, on the descriptor named on the command line; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import click  # noqa: PLC0415 - see above
    import uvloop  # noqa: PLC0415

    from points_grpc.cli.composition import serve  # noqa: PLC0415
    from points_grpc.cli.databases import plain_errors  # noqa: PLC0415
    from points_grpc.cli.worker_link import Unable, WorkerLink  # noqa: PLC0415
    from points_grpc.settings import Settings  # noqa: PLC0415

    try:
        link = WorkerLink(socket.socket(fileno=int(sys.argv[1])))
    except (EOFError, ConnectionError):
        return 0
    settings = Settings.model_validate(link.order.settings)
    try:
        with plain_errors():
            uvloop.run(serve(settings, dev=link.order.dev, worker=link))
    except click.ClickException as error:
        link.tell(Unable(error.message, isinstance(error, click.UsageError)))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
