"""The writer's end of its connection to the server: a stream of frames both ways, and the marks of what was taken.

Blocking, for the writer's one thread. The server's end is `service/link.py`.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from collections.abc import Iterable

from points_grpc.service.frames import (
    FromWriter,
    ToWriter,
    Unframer,
    decode_to_writer,
    encode_from_writer,
)

RECEIVE_BYTES = 1 << 16

MARK = "Q"
"""The type code of a mark: the number of a submission, in 8 bytes."""


class ServerGone(Exception):
    """The server closed its end, or died."""


class Channel:
    """Receives and sends whole messages."""

    def __init__(self, stream: socket.socket, marks: int) -> None:
        """Takes over a connected stream socket and the writing end of a pipe."""
        stream.setblocking(True)
        self._stream = stream
        self._marks = marks
        self._unframer = Unframer()

    def wake_after(self, seconds: float) -> None:
        """Lets `receive` return with nothing after so long a silence. The kernel counts: a message costs no more."""
        whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", whole, micros))

    def receive(self, *, block: bool) -> list[ToWriter]:
        """All that has arrived; with `block`, at least some, unless the silence is longer than `wake_after`.

        Raises `ServerGone` at the end of the stream.
        """
        found: list[ToWriter] = []
        while True:
            try:
                data = self._stream.recv(RECEIVE_BYTES, 0 if block and not found else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            except ConnectionError:
                raise ServerGone from None
            if not data:
                raise ServerGone
            found += [decode_to_writer(body) for body in self._unframer.feed(data)]
            if len(data) < RECEIVE_BYTES and (found or not block):
                return found

    def send(self, message: FromWriter) -> None:
        """Sends a message. The server always reads, so this does not wait for long."""
        try:
            self._stream.sendall(encode_from_writer(message))
        except ConnectionError:
            raise ServerGone from None

    def mark(self, numbers: Iterable[int]) -> None:
        """Says that submissions were taken; once this returns, the server can read it, whatever becomes of us."""
        data = array(MARK, numbers).tobytes()
        try:
            while data:
                data = data[os.write(self._marks, data) :]
        except BrokenPipeError:
            raise ServerGone from None

    def close(self) -> None:
        """Closes this end."""
        self._stream.close()
        os.close(self._marks)
