"""A TCP proxy that cuts the connection when an answer comes back: the deed is committed, and its caller never hears.

It reads the HTTP/2 frames on their way from the server. Settings and pings pass; the first HEADERS or DATA frame is the
beginning, or the middle, of an answer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import Self

FRAME_HEAD_BYTES = 9  # RFC 9113, 4.1: 24 bits of length, 8 of type, 8 of flags, 32 of stream


class Frame(IntEnum):
    """At which frame of an answer to cut."""

    DATA = 0
    HEADERS = 1


class CuttingProxy:
    """Forwards to a loopback port and cuts the first `cuts` answers, each after as many frames as may pass.

    `on_cut` runs once the connection is gone.
    """

    def __init__(
        self,
        target_port: int,
        *,
        cuts: int = 1,
        at: Frame = Frame.HEADERS,
        passing: int = 0,
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self.cuts_made = 0
        self._target_port = target_port
        self._cuts = cuts
        self._at = at
        self._passing = passing
        self._passed = 0
        self._on_cut = on_cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            ends = [self._listener, *self._open]
        for end in ends:
            _close(end)
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
                except OSError:
                    _close(near)
                    continue
                far.settimeout(None)
                with self._lock:
                    self._open |= {near, far}
                self._run(self._to_server, near, far)
                self._run(self._to_client, near, far)

    def _to_server(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        self._end(near, far)

    def _to_client(self, near: socket.socket, far: socket.socket) -> None:
        waiting = b""
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                waiting += data
                while len(waiting) >= FRAME_HEAD_BYTES:
                    size = FRAME_HEAD_BYTES + int.from_bytes(waiting[:3], "big")
                    if len(waiting) < size:
                        break
                    if waiting[3] == self._at and self._takes_a_cut():
                        self._end(near, far)
                        self._on_cut()
                        return
                    near.sendall(waiting[:size])
                    waiting = waiting[size:]
        self._end(near, far)

    def _takes_a_cut(self) -> bool:
        with self._lock:
            if self.cuts_made == self._cuts:
                return False
            if self._passed < self._passing:
                self._passed += 1
                return False
            self._passed = 0
            self.cuts_made += 1
            return True

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            _close(end)
            with self._lock:
                self._open.discard(end)


def _close(end: socket.socket) -> None:
    """Closes a socket, also under a thread that reads from it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
