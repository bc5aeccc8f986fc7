"""A real server in a process of its own, over a database file of its own; and what callers need to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from databases import ATestsDatabase, SqliteFile
from points_grpc.cli import keys_file
from points_grpc.cli.tokens import new_key
from points_grpc.settings import keys_path
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.migrate import upgrade
from points_grpc.v1 import (
    catalog_service_pb2_grpc,
    common_pb2,
    customer_service_pb2_grpc,
    issuance_service_pb2_grpc,
    points_service_pb2_grpc,
    program_service_pb2_grpc,
    wallet_service_pb2_grpc,
)

START_TIMEOUT_S = 180.0
"""Generous: a server that cannot start ends, and is noticed at once."""
LOGGED_WITHIN_S = 20.0
"""Generous too: the server's thread that writes the log waits for its turn like any other."""
_OWN_PORTS = range(20_000, 32_000)
_CLAIMS: deque[socket.socket] = deque(maxlen=100)
"""Of the ports given last: the UDP port of the same number, which nobody else gets as long as it is held."""


def free_port() -> int:
    """A port that is free on every address, and that no other test is given, in this run or in one beside it.

    It is not one of those that the system gives to outgoing calls.
    """
    for port in random.SystemRandom().sample(_OWN_PORTS, k=min(100, len(_OWN_PORTS))):
        claim = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                claim.bind(("", port))
                probe.bind(("", port))
            except OSError:
                claim.close()
                continue
        if len(_CLAIMS) == _CLAIMS.maxlen:
            _CLAIMS.popleft().close()
        _CLAIMS.append(claim)
        return port
    raise OSError("none of the ports that were tried is free")


def children(pid: int) -> list[int]:
    """The children of a process that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


class RunningServer:
    """`points-grpc serve` over a database in a folder; can be stopped, killed, and started again on the same port."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        on: ATestsDatabase | None = None,
    ) -> None:
        """`on`: the database, where it is not a file of the folder."""
        self.folder = folder
        self.path = folder / "points.db"
        self.on = on or SqliteFile(self.path)
        self.database = self.serves = self.on.url
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.prefix: Sequence[str] = ()
        self.keys = keys_path(None, self.path)
        self._arguments = ("--keys-file", str(self.keys), *arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._ready_file = folder / "ready.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.token = ""
        upgrade(self.database)

    def start(self) -> RunningServer:
        """Starts the process and waits until it serves; a start that fails leaves no process."""
        self._ready_file.unlink(missing_ok=True)
        command = [*self.prefix, sys.executable, "-m", "points_grpc", "serve", "--port", str(self.port)]
        command += ["--database", self.serves, "--ready-file", str(self._ready_file), *self._arguments]
        with (self.folder / "out.log").open("ab") as out, (self.folder / "err.log").open("ab") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=self._environment)
        try:
            self._wait_until_ready(self.process)
        except BaseException:
            self.close()
            raise
        return self

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while not self._ready_file.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the server did not start: {self.errors()[-2000:]}")
            time.sleep(0.01)
        self.token = json.loads(self._ready_file.read_text()).get("token", "")

    def stop(self) -> int:
        """Ends it as an operator would; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """Ends it as a power cut would, as far as a process can feel one."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=30)

    def writer_pid(self) -> int:
        """The process that writes for it now; 0 if there is none."""
        assert self.process is not None
        return next(iter(children(self.process.pid)), 0)

    def kill_writer(self) -> None:
        """Ends the process that writes, and leaves the server alone."""
        pid = self.writer_pid()
        assert pid > 0, "there is no writer: 0 would be our own process group"
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def output(self) -> str:
        """What it printed."""
        return (self.folder / "out.log").read_text()

    def errors(self) -> str:
        """What it logged."""
        return (self.folder / "err.log").read_text()

    def logged(self) -> list[dict[str, Any]]:
        """The lines of its log, but for one that is being written."""
        whole, _, _ = self.errors().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def events(self, name: str, *, least: int = 0) -> list[dict[str, Any]]:
        """The lines of its log with this name. A line is written a moment after what it tells: waits for `least`."""
        until = time.monotonic() + LOGGED_WITHIN_S
        while True:
            found = [one for one in self.logged() if one["event"] == name]
            if len(found) >= least or time.monotonic() > until:
                return found
            time.sleep(0.02)

    def organisation(self, name: str = "org", region: str = "IN") -> int:
        """Creates an organisation beside the server."""
        with self._accounts() as accounts:
            return accounts.create_org(name, region)

    def key(self, org_id: int, role: str = "admin", client: str = "test") -> str:
        """Creates a key beside the server; the server knows it within seconds."""
        key = new_key()
        with self._accounts() as accounts:
            accounts.create_key(key.key_id, org_id, client=client, role=role, secret_hash=key.secret_hash)
        return key.token

    def signed_key(self, org_id: int, role: str = "admin", client: str = "test") -> tuple[str, bytes]:
        """Creates a key that must sign, as `points-grpc keys create --signed` does; its token and signing secret."""
        key = new_key()
        keyring = keys_file.load_or_create(keys_path(None, self.path))
        with self._accounts() as accounts:
            accounts.create_key(
                key.key_id,
                org_id,
                client=client,
                role=role,
                secret_hash=key.secret_hash,
                signing_key_id=keyring.active,
            )
        secret = keyring.signing_secret(keyring.active, key.key_id)
        assert secret is not None
        return key.token, secret.encode()

    @contextlib.contextmanager
    def _accounts(self) -> Iterator[Accounts]:
        database = Database(self.database)
        try:
            yield Accounts(database)
        finally:
            database.close()


class Caller:
    """A client with a key: `caller.points.TransferPoints(...)`; requests are built from JSON by `ask`."""

    def __init__(self, address: str, token: str, *, shares_connection: bool = True) -> None:
        """Callers of an address have one connection together, unless they are told otherwise."""
        options = [] if shares_connection else [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(address, options)
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.points = points_service_pb2_grpc.PointsServiceStub(self.channel)
        self.issuance = issuance_service_pb2_grpc.IssuanceServiceStub(self.channel)
        self.wallets = wallet_service_pb2_grpc.WalletServiceStub(self.channel)
        self.customers = customer_service_pb2_grpc.CustomerServiceStub(self.channel)
        self.programs = program_service_pb2_grpc.ProgramServiceStub(self.channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(self.channel)

    def ask(self, method: Any, request: Message, fields: Mapping[str, Any], timeout_s: float = 10.0) -> Any:
        """Calls a method with a request built from its JSON form."""
        return method(ParseDict(dict(fields), request), metadata=self.metadata, timeout=timeout_s)

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()


class Details:
    """The details of a refusal, by type."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        self.trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
        self._read(status_pb2.Status.FromString(self.trailers.get("grpc-status-details-bin", b"")))

    @classmethod
    def of_item(cls, status: status_pb2.Status) -> Details:
        """The details of an item of a batch."""
        found = cls.__new__(cls)
        found.code = next(one for one in grpc.StatusCode if one.value[0] == status.code)
        found.message, found.trailers = status.message, {}
        found._read(status)
        return found

    def _read(self, status: status_pb2.Status) -> None:
        self.status = status
        self.info = self._unpack(error_details_pb2.ErrorInfo())
        self.payload = self._unpack(common_pb2.StatusPayload())
        self.bad_request = self._unpack(error_details_pb2.BadRequest())
        self.retry = self._unpack(error_details_pb2.RetryInfo())

    def _unpack(self, message: Any) -> Any:
        for detail in self.status.details:
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
        return message

    @property
    def number(self) -> int:
        """The documented number."""
        return int(self.payload.errors[0].code)


@contextlib.contextmanager
def refused() -> Iterator[list[Details]]:
    """Expects a refusal and hands out its details."""
    found: list[Details] = []
    try:
        yield found
    except grpc.RpcError as error:
        found.append(Details(error))
        return
    raise AssertionError("the call was accepted")
