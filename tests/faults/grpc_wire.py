"""A gRPC client's connection that costs far less than a library: unary calls, frames made by hand, answers not parsed.

For generators that share the machine with what they measure. It behaves as the libraries do where that matters: calls
beyond the streams that the server allows wait here, a call that outlives its deadline is taken back, flow control is
kept. Nothing is tried again, and a connection that ends takes its calls with it.

The fields of a call's head are sent once and referred to afterwards, as in libraries. The server is told to keep no
such table for its answers, so that each can be read without those before it.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from google.rpc import status_pb2
from grpc import StatusCode
from hpack import Encoder
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
WINDOW_MAX = 2**31 - 1
WINDOW_FIRST = 65_535
"""The window of a connection before anybody widens it (RFC 9113, 6.9.2)."""

LOST = "LOST"
"""What became of a call whose connection ended."""

STATUS, DETAILS = b"grpc-status", b"grpc-status-details-bin"
STATUSES = {str(one.value[0]).encode(): one.name for one in StatusCode}
OF_RESET = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED"}
"""What a library makes of a stream that is reset, by the error code of HTTP/2; INTERNAL of others."""

_head = struct.Struct(">HBBBL")
_number = struct.Struct(">L")
_setting = struct.Struct(">HL")


@dataclass(slots=True)
class Call:
    """A call; instants are those of the monotonic clock. `ended` is called in the end, with the status and what came in
    the trailers; `sent_at` is 0 while it waits for a stream.
    """

    number: int
    due_at: float
    deadline: float
    message: bytes
    ended: Callable[[Call, str, bytes], None]
    sent_at: float = 0.0


class Wire(asyncio.Protocol):
    """One connection, for calls of one method. `expire` has to be called now and then."""

    def __init__(self, path: str, authority: str, token: str) -> None:
        """Sends nothing before it is connected."""
        encoder = Encoder()
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "points-flood"),
            ("authorization", f"Bearer {token}"),
        ]
        self._first = encoder.encode(fields)
        self._again = encoder.encode(fields)
        self._block = self._first
        self._waiting: deque[Call] = deque()
        self._streams: dict[int, Call] = {}
        self._next = 1
        self._streams_max = 100
        self._window = WINDOW_FIRST
        self._read = b""
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says what every connection begins with."""
        self._transport = cast("asyncio.Transport", transport)
        settings = {
            SettingsFrame.HEADER_TABLE_SIZE: 0,
            SettingsFrame.ENABLE_PUSH: 0,
            SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW_MAX,
        }
        widened = WindowUpdateFrame(0, window_increment=WINDOW_MAX - WINDOW_FIRST)
        self._transport.write(PREFACE + SettingsFrame(0, settings).serialize() + widened.serialize())

    def connection_lost(self, _: Exception | None) -> None:
        """Ends every call."""
        calls = [*self._streams.values(), *self._waiting]
        self._streams.clear()
        self._waiting.clear()
        for call in calls:
            call.ended(call, LOST, b"")

    def close(self) -> None:
        """Ends the connection."""
        assert self._transport is not None, "connected"
        self._transport.close()

    def add(self, call: Call) -> None:
        """Takes a call; it leaves with the next `flush`, if there is a stream for it."""
        self._waiting.append(call)

    def flush(self) -> None:
        """Sends what may be sent."""
        now = time.monotonic()
        while self._waiting and len(self._streams) < self._streams_max:
            call = self._waiting[0]
            size = len(call.message) + 5
            if size > self._window:
                break
            self._waiting.popleft()
            self._window -= size
            call.sent_at = now
            stream, self._next = self._next, self._next + 2
            self._streams[stream] = call
            micros = b"%du" % max(1, min(99_999_999, int((call.deadline - now) * 1e6)))
            block = b"%b\x00\x0cgrpc-timeout%c%b" % (self._block, len(micros), micros)
            self._block = self._again
            self._out.append(_frame(HeadersFrame.type, 0x4, stream, block))
            self._out.append(_frame(DataFrame.type, 0x1, stream, b"\0" + _number.pack(size - 5) + call.message))
        if self._out:
            assert self._transport is not None, "connected"
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def expire(self) -> None:
        """Takes back what is past its deadline."""
        now = time.monotonic()
        while self._waiting and self._waiting[0].deadline <= now:
            call = self._waiting.popleft()
            call.ended(call, "DEADLINE_EXCEEDED", b"")
        for stream, call in [one for one in self._streams.items() if one[1].deadline <= now]:
            del self._streams[stream]
            self._out.append(RstStreamFrame(stream, error_code=8).serialize())
            call.ended(call, "DEADLINE_EXCEEDED", b"")
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Takes frames apart."""
        read, at = self._read + data, 0
        while len(read) - at >= HEAD_BYTES:
            high, low, kind, flags, stream = _head.unpack_from(read, at)
            end = at + HEAD_BYTES + (high << 8 | low)
            if len(read) < end:
                break
            if kind == HeadersFrame.type:
                if flags & 0x1:
                    self._trailers(stream, read[at + HEAD_BYTES : end], flags)
            elif kind != DataFrame.type:
                self._control(kind, flags, stream, read[at + HEAD_BYTES : end])
            at = end
        self._read = read[at:]
        self.flush()

    def _trailers(self, stream: int, block: bytes, flags: int) -> None:
        if flags & 0x28 or not flags & 0x4:
            raise ValueError("padding, priorities and continued heads are not expected of gRPC")
        self._end(stream, STATUSES[field_of(block, STATUS)], block)

    def _control(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == SettingsFrame.type and not flags & 0x1:
            for at in range(0, len(body), _setting.size):
                name, value = _setting.unpack_from(body, at)
                if name == SettingsFrame.MAX_CONCURRENT_STREAMS:
                    self._streams_max = value
            self._out.append(_frame(SettingsFrame.type, 0x1, 0, b""))
            if not self.ready.done():
                self.ready.set_result(None)
        elif kind == PingFrame.type and not flags & 0x1:
            self._out.append(_frame(PingFrame.type, 0x1, 0, body))
        elif kind == WindowUpdateFrame.type and stream == 0:
            self._window += int.from_bytes(body)
        elif kind == RstStreamFrame.type:
            self._end(stream, OF_RESET.get(int.from_bytes(body), "INTERNAL"))
        elif kind == GoAwayFrame.type:
            self.close()

    def _end(self, stream: int, status: str, trailers: bytes = b"") -> None:
        call = self._streams.pop(stream, None)  # a call that was taken back may be answered all the same
        if call is not None:
            call.ended(call, status, trailers)


def field_of(block: bytes, wanted: bytes) -> bytes:
    """The value of a field in a block that refers to HPACK's fixed table alone; empty if it is not there. Names are not
    in Huffman's code.
    """
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # a whole field of the table
            at += decode_integer(block[at : at + 5], 7)[1]
            continue
        if first & 0xE0 == 0x20:  # a new size of the table
            at += decode_integer(block[at : at + 5], 5)[1]
            continue
        index, used = decode_integer(block[at : at + 5], 6 if first & 0x40 else 4)
        at += used
        name = b""
        if not index:
            name, at = _text(block, at)
        size, used = decode_integer(block[at : at + 5], 7)
        if name == wanted:
            value = block[at + used : at + used + size]
            return decode_huffman(value) if block[at] & 0x80 else value
        at += used + size
    return b""


def details_of(trailers: bytes) -> status_pb2.Status:
    """The details of a refusal; none if it has none."""
    letters = field_of(trailers, DETAILS)
    return status_pb2.Status.FromString(base64.b64decode(letters + b"=" * (-len(letters) % 4)))


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """A text, and where it ends."""
    size, used = decode_integer(block[at : at + 5], 7)
    return block[at + used : at + used + size], at + used + size


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    size = len(body)
    return _head.pack(size >> 8, size & 0xFF, kind, flags, stream) + body
