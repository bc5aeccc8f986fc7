"""How a server says that it serves: a line for people, a file for programs, and how to begin in development."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from points_grpc import __version__
from points_grpc.cli.listening import address_of
from points_grpc.cli.worker_link import Served
from points_grpc.settings import Settings


def announce(ready_file: Path | None, served: Served, *, workers: Sequence[Served] = ()) -> None:
    """Tells it everybody; `workers` are the servers behind it, where it is a supervisor."""
    if ready_file is not None:
        ready: dict[str, object] = {"address": served.address, "pid": served.pid, "writer_pid": served.writer_pid}
        if served.token:
            ready["token"] = served.token
        if workers:
            ready["workers"] = [{"pid": one.pid, "writer_pid": one.writer_pid} for one in workers]
        partial = ready_file.with_suffix(".partial")
        partial.write_text(json.dumps(ready))
        partial.rename(ready_file)
    with_workers = f" with {len(workers)} workers" if workers else ""
    click.echo(f"points-grpc {__version__} serves on {served.address}{with_workers}")
    if served.token:
        plaintext = "" if served.tls else " -plaintext"
        click.echo(_GRPCURL.format(token=served.token, address=served.address, plaintext=plaintext))


def served_by_this_process(settings: Settings, port: int, token: str | None, *, writer_pid: int) -> Served:
    """What this process says of itself."""
    return Served(
        address=address_of(settings, port),
        pid=os.getpid(),
        writer_pid=writer_pid,
        token=token or "",
        tls=settings.tls_certificate is not None,
    )


_GRPCURL = """\
development mode: organisation "demo", program 973, customers 565039505 and 565039506
one-time codes appear here; try the documented transfer:

grpcurl{plaintext} -H 'authorization: Bearer {token}' -d '{{
  "pointsTobeTransferred": 1000,
  "groupProgramTransfer": false,
  "programId": 973,
  "fromCustomerIdentifier": {{"type": "MOBILE", "value": "9148574269"}},
  "toCustomerIdentifier": {{"type": "ID", "value": "565039506"}}
}}' {address} points.v1.PointsService/TransferPoints
"""
