"""A worker that serves nobody: its behaviour is named in the environment, for all or by number ("1=stays,2=dies")."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from points_grpc.cli.worker_link import Served, Unable, WorkerLink

BEHAVIOUR = "FAKE_WORKER"
DIES_WITH = 3


def main() -> int:
    link = WorkerLink(socket.socket(fileno=int(sys.argv[1])))
    told = os.environ[BEHAVIOUR]
    behaviour = dict(one.split("=") for one in told.split(",")).get(str(link.order.number)) if "=" in told else told
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else lambda *_: stopped.set())
    if behaviour == "unable":
        link.tell(Unable("there is no moon tonight"))
        return 1
    if behaviour != "silent":
        link.tell(Served("127.0.0.1:1", os.getpid(), 0, "token" if link.order.dev else ""))
    if behaviour == "dies":
        return DIES_WITH
    while not stopped.wait(0.02):
        if behaviour == "silent" and os.getppid() == 1:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
