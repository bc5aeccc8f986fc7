"""Starts the writer's process: a fresh interpreter, never a fork of one that gRPC has threads in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

MODULE = "points_grpc.cli.writer"
STANDARD_ERROR = 2


class ChildWriter:
    """A writer that was started (`keeper.WriterProcess`)."""

    def __init__(self) -> None:
        """Starts it. It inherits its two descriptors, the environment and standard error, and nothing else."""
        self.stream, theirs = socket.socketpair()
        self.marks, their_marks = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), str(their_marks)],
                stdin=subprocess.DEVNULL,
                stdout=STANDARD_ERROR,
                pass_fds=(theirs.fileno(), their_marks),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        except BaseException:
            self.stream.close()
            os.close(self.marks)
            raise
        finally:  # The link ends when the writer does: nobody else may hold its end.
            theirs.close()
            os.close(their_marks)
        self.pid = self._process.pid

    def wait(self, timeout_s: float) -> int:
        """Waits for its end, kills it if that does not come in time, and returns its exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
