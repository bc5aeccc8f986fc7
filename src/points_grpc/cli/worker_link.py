"""What a supervisor and a worker say to each other: one line each way, and the end of the line.

The supervisor orders, the worker tells that it serves or why it cannot. Whichever end is closed, its process is gone.
What the environment says a worker reads there itself: an order holds no secrets that came from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import msgspec

LINE_MAX = 65_536
"""The longest line, in bytes."""


class Order(msgspec.Struct, frozen=True):
    """What a worker is to be: its number, from 1 on, and the settings that were not left to the environment.

    `rates` is its descriptor of the table in which all workers count (`rpc.rates`).
    """

    number: int
    settings: dict[str, str | int | float | bool]
    dev: bool
    rates: int


class Served(msgspec.Struct, frozen=True, tag="served"):
    """It serves. `token` is that of the demonstration world, if it made one."""

    address: str
    pid: int
    writer_pid: int
    token: str


class Unable(msgspec.Struct, frozen=True, tag="unable"):
    """It cannot serve; says why, in a sentence. `is_misuse`: a setting is wrong."""

    message: str
    is_misuse: bool = False


_FROM_WORKER = msgspec.json.Decoder(Served | Unable)
_encode = msgspec.json.Encoder().encode


def line_of(message: Order | Served | Unable) -> bytes:
    """A message as it is sent."""
    return _encode(message) + b"\n"


def from_worker(line: bytes) -> Served | Unable | None:
    """What a worker said; None if it ended before it said anything."""
    return _FROM_WORKER.decode(line) if line.endswith(b"\n") else None


class WorkerLink:
    """The worker's end."""

    def __init__(self, control: socket.socket) -> None:
        """Waits for the order; raises `EOFError` if there is none any more."""
        self._control = control
        line = b""
        while not line.endswith(b"\n"):
            received = control.recv(LINE_MAX)
            if not received:
                raise EOFError("the supervisor is gone")
            line += received
        self.order = msgspec.json.decode(line, type=Order)

    def tell(self, message: Served | Unable) -> None:
        """Tells the supervisor, unless it is gone."""
        with contextlib.suppress(ConnectionError):
            self._control.sendall(line_of(message))

    def when_alone(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        """Calls `act` once the supervisor is gone."""

        def look() -> None:
            with contextlib.suppress(ConnectionError):
                if self._control.recv(LINE_MAX):
                    return
            loop.remove_reader(self._control)
            act()

        self._control.setblocking(False)
        loop.add_reader(self._control, look)
