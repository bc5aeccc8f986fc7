"""The server's end of its connection to a writer: never blocks the event loop.

What is sent in one turn of the loop leaves in one system call. The writer's end is `service/channel.py`.

The marks come through a pipe of their own, which the loop does not watch: they are looked at when an answer comes
anyway, and when somebody asks. So a lone caller's mark wakes nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from array import array
from collections.abc import Callable

from points_grpc.service.channel import MARK
from points_grpc.service.frames import FromWriter, Garbled, ToWriter, Unframer, decode_from_writer, encode_to_writer

RECEIVE_BYTES = 1 << 17
MARKS_BYTES = 1 << 16


class LinkEnded(Exception):
    """The writer's end is closed: the writer ended, however it did."""


class Link:
    """A connection to one writer, for its life. To be made and used on the event loop."""

    def __init__(self, stream: socket.socket, marks: int) -> None:
        """Takes over a connected stream socket and the reading end of a pipe."""
        stream.setblocking(False)
        os.set_blocking(marks, False)
        self._stream = stream
        self._marks = marks
        self._partial_mark = b""
        self._loop = asyncio.get_running_loop()
        self._unframer = Unframer()
        self._outgoing: list[bytes] = []
        self._flushes = False
        self._waits_to_write = False
        self._first: asyncio.Future[FromWriter] = self._loop.create_future()
        self._received: Callable[[FromWriter], None] = self._receive_first
        self._lost: Callable[[], None] = self._lose_first
        self.ended = asyncio.Event()
        self.is_understood = True
        """False once something came that is no message: what the writer does since then is not known."""
        self._loop.add_reader(stream.fileno(), self._read)

    async def first(self) -> FromWriter:
        """The first message; raises `LinkEnded` if there is none."""
        return await self._first

    def attach(self, received: Callable[[FromWriter], None], lost: Callable[[], None]) -> None:
        """Says who gets the messages from now on, and is told once the link has ended."""
        self._received, self._lost = received, lost
        if self.ended.is_set():
            lost()

    def send(self, message: ToWriter) -> None:
        """Sends a message with all others of this turn of the loop. Raises at once if it cannot be encoded."""
        frame = encode_to_writer(message)
        if self.ended.is_set():
            return  # Who is attached was told.
        self._outgoing.append(frame)
        if not self._flushes:
            self._flushes = True
            self._loop.call_soon(self._flush)

    def taken(self) -> array[int]:
        """The numbers of the submissions that were marked as taken since this was last asked."""
        found = self._partial_mark
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._marks, MARKS_BYTES):
                found += data
                if len(data) < MARKS_BYTES:
                    break
        numbers = array(MARK)
        whole = len(found) - len(found) % numbers.itemsize
        numbers.frombytes(found[:whole])
        self._partial_mark = found[whole:]
        return numbers

    def close(self) -> None:
        """Ends the link from this side: the writer ends after the batch in hand."""
        self._end()
        if self._marks >= 0:
            os.close(self._marks)
            self._marks = -1

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Writes what is to be sent, as far as the socket takes it; the rest when it takes more."""
        if self.ended.is_set():
            return
        data = b"".join(self._outgoing)
        try:
            sent = self._stream.send(data)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return  # The reader sees the end, too, after what the writer said last.
        if sent == len(data):
            self._outgoing.clear()
            if self._waits_to_write:
                self._loop.remove_writer(self._stream.fileno())
            self._flushes = self._waits_to_write = False
            return
        self._outgoing = [data[sent:]]
        if not self._waits_to_write:
            self._waits_to_write = True
            self._loop.add_writer(self._stream.fileno(), self._flush)

    def _read(self) -> None:
        try:
            while True:
                data = self._stream.recv(RECEIVE_BYTES)
                if not data:
                    self._end()
                    return
                for body in self._unframer.feed(data):
                    self._received(decode_from_writer(body))
                if len(data) < RECEIVE_BYTES:
                    return
        except BlockingIOError:
            return
        except ConnectionError:
            self._end()
        except Garbled:
            self.is_understood = False
            self._end()

    def _end(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        self._loop.remove_reader(self._stream.fileno())
        if self._waits_to_write:
            self._loop.remove_writer(self._stream.fileno())
        self._stream.close()
        self._outgoing.clear()
        self._lost()

    def _receive_first(self, message: FromWriter) -> None:
        if not self._first.done():
            self._first.set_result(message)

    def _lose_first(self) -> None:
        if not self._first.done():
            self._first.set_exception(LinkEnded())
            self._first.exception()  # whether somebody waits for it or not
