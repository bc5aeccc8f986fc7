"""Where codes go in tests: a real SMTP relay and a real gateway on loopback, with certificates of their own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from cryptography_for_tests import certificate
from running import free_port

HOST = "localhost"


def authority(folder: Path, host: str = HOST) -> Path:
    """Makes a certificate for a host, with its key beside it."""
    key, found = certificate(host)
    path = folder / f"{host}.pem"
    path.write_bytes(found)
    path.with_suffix(".key").write_bytes(key)
    return path


def serving(path: Path) -> ssl.SSLContext:
    """What a server needs to be the host of a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, path.with_suffix(".key"))
    return context


@dataclass(frozen=True)
class Mail:
    """A mail that a relay took."""

    to: str
    message: EmailMessage
    protected: bool
    user: str

    @property
    def text(self) -> str:
        """What it says."""
        return str(self.message.get_content()).replace("\r\n", "\n")


class Relay:
    """Takes mails, and answers as it is told: `rcpt` and `data` are what it says; `pause_s` is how long that takes."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, implicit: bool = False, user: str = "", password: str = ""
    ) -> None:
        self.mails: list[Mail] = []
        self.rcpt = self.data = "250 OK"
        self.pause_s = 0.0
        self.port = free_port()
        self._login = (user, password)
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=tls if implicit else None,
            tls_context=None if implicit else tls,
            authenticator=self._authenticated,
            auth_required=bool(user),
            auth_require_tls=not implicit,
        )

    def __enter__(self) -> Relay:
        self._controller.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._controller.stop()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Sequence[str]) -> str:
        """Takes or refuses a receiver."""
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt.replace("ADDRESS", address)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Takes or refuses a mail; what it took it has, whatever becomes of the answer."""
        if self.data.startswith("250"):
            message = message_from_bytes(envelope.content, policy=policy.default)
            user = session.auth_data.login.decode() if session.auth_data else ""
            self.mails.append(Mail(envelope.rcpt_tos[0], message, session.ssl is not None, user))
        if self.pause_s:
            import asyncio

            await asyncio.sleep(self.pause_s)
        return self.data.replace("CONTENT", envelope.content.decode().replace("\r\n", " "))

    def _authenticated(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        known = (data.login.decode(), data.password.decode()) == self._login
        return AuthResult(success=known, handled=False, auth_data=data)


@dataclass(frozen=True)
class Post:
    """What was posted to a gateway."""

    path: str
    headers: dict[str, str]
    body: bytes


class Gateway:
    """Takes posts, and answers with `status` and `headers`, echoing what it got; `pause_s` is how long that takes."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause_s = 0.0
        self._lock = Lock()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                gateway.answer(self)

            def log_message(self, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/otp"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://{HOST}:{self.port}/otp"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers a post."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.posts.append(Post(handler.path, headers, body))
        time.sleep(self.pause_s)
        handler.send_response(self.status, "as it was told")
        for name, value in (self.headers | {"Content-Length": str(len(body))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@contextmanager
def dripping(drops: bytes, *, answers: Sequence[bytes] = (), every_s: float = 0.01) -> Iterator[int]:
    """A port that says what it is told, an answer for each line that it gets, and then a byte now and then for ever."""
    ended = Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            said = connection.makefile("rb")
            for answer in answers:
                connection.sendall(answer)
                said.readline()
            while not ended.wait(every_s):
                connection.sendall(drops)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            thread.join()
