"""Reading the keys of an issuer: bounded in time, one read at a time, and in nobody's way at the end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from points_grpc.cli.issuer import Fetching, source_of


@contextmanager
def dripping() -> Iterator[str]:
    """A loopback endpoint that sends a byte now and then, and never ends."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not over.wait(0.02):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def serve(listening: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/keys"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)


def test_an_endpoint_that_drips_is_given_up() -> None:
    """Bytes now and then do not hold a read open, and the next read says that the last one goes on."""

    async def scene(place: str) -> None:
        fetching = Fetching(source_of(place), total_s=0.2)
        with pytest.raises(TimeoutError):
            await fetching()
        with pytest.raises(TimeoutError, match="goes on"):
            await fetching()

    with dripping() as place:
        asyncio.run(scene(place))


def test_what_went_wrong_reaches_who_asked() -> None:
    """As it was raised; the next read is a new one."""
    answers: list[bytes | Exception] = [ValueError("no file"), b"keys"]

    def read() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scene() -> bytes:
        fetching = Fetching(read, total_s=10.0)
        with pytest.raises(ValueError, match="no file"):
            await fetching()
        return await fetching()

    assert b"keys" == asyncio.run(scene())


def test_a_loopback_endpoint_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is allowed without TLS because nothing leaves the machine: a proxy of the environment is passed by."""
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nkeys")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()

        assert b"keys" == source_of(f"http://127.0.0.1:{listening.getsockname()[1]}/keys")()
