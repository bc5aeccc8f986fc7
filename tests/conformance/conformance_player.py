"""Plays rows against a server over a loopback channel: every step and question is a call like any client's."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from conformance_table import Do, Elapse, Row, Step, Wait
from google.protobuf import message_factory
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc.cli import keys_file
from points_grpc.cli.tokens import NewKey, new_key
from points_grpc.rpc.server import SERVICES
from points_grpc.rpc.signature import signature_of
from points_grpc.settings import keys_path
from points_grpc.storage import schema
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from running import RunningServer, refused

METHODS = {
    method.name: (
        f"/{service.full_name}/{method.name}",
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )
    for service in SERVICES
    for method in service.methods
}
"""Path, request and answer of every RPC."""

STREAMS = {method.name for service in SERVICES for method in service.methods if method.server_streaming}
"""The RPCs that stream their answers."""

ROLES = ("reader", "operator", "manager", "admin")
CALL_S = 20.0
AT_ONCE = 64
PLACEHOLDERS = {
    "mobile": "the mobile number of customer {}",
    "code": "the code sent to customer {}",
    "wrong": "a wrong code",
    "in": "a time {} seconds from now",
    "ago": "a time {} seconds ago",
}
"""How what is known only when a row is played is called in recordings; the rest by the name it was saved under."""

_TIMES = re.compile(r".*_(at|until|from|time)|at|deadline")
_LIST = re.compile(r"(\w+)\[(\w+)(?:=(\w+))?\]")


@dataclass(frozen=True)
class Org:
    """An organisation made beside the server, and its keys by caller."""

    number: int
    org_id: int
    keys: Mapping[str, NewKey]
    secret: bytes

    def mobile(self, customer: str) -> str:
        """A mobile number that no other row uses."""
        return f"98{self.number:05d}{int(customer):03d}"


def make_orgs(server: RunningServer, rows: Iterable[Row]) -> list[Org]:
    """An organisation for each row, with the keys that it needs. Before the server starts, so that it knows them."""
    database = Database(server.database, synchronous="OFF")  # a server that starts later finds them all the same
    accounts = Accounts(database)
    kept = database.connect_writer()  # or each write would be the first and the last of its log
    keyring = keys_file.load_or_create(keys_path(None, server.path))
    orgs = []
    for number, row in enumerate(rows):
        org_id = accounts.create_org(f"row {number}", "IN")
        callers = {"admin", row.caller}
        keys = {caller: new_key() for caller in callers}
        if row.caller == "wrong":
            keys["wrong"] = NewKey(keys["wrong"].key_id, keys["wrong"].token + "0", keys["wrong"].secret_hash)
        for caller, key in keys.items():
            if caller in {"nobody", "unknown", "malformed"}:
                continue
            accounts.create_key(
                key.key_id,
                accounts.create_org(f"beside row {number}", "IN") if caller == "elsewhere" else org_id,
                client="admin" if caller == "elsewhere" else caller,
                role=caller if caller in ROLES else "admin",
                secret_hash=key.secret_hash,
                expires_at=datetime.now(UTC) - timedelta(seconds=1) if caller == "expired" else None,
                request_id_required=caller == "strict",
                signing_key_id=keyring.active if "signed" in caller else None,
            )
            if caller == "revoked":
                accounts.revoke_key(org_id, key.key_id)
        secret = keyring.signing_secret(keyring.active, keys[row.caller].key_id) or ""
        orgs.append(Org(number, org_id, keys, secret.encode()))
    kept.close()
    database.close()
    return orgs


class Play:
    """One row in its organisation."""

    def __init__(self, server: RunningServer, channel: grpc.Channel, org: Org) -> None:
        self._server = server
        self._channel = channel
        self._org = org
        self._saved: dict[str, str] = {}
        self.placeholders: dict[str, str] = {}
        """What was filled into requests, and what stands for it where it must not differ from run to run."""
        self.started = datetime.now(UTC)
        self.org_id = org.org_id
        self.timeout_s: float | None = CALL_S

    # -- what is done first

    def do(self, steps: Iterable[Step]) -> None:
        """Does the steps of a setup; faults are the server's business."""
        for step in steps:
            if isinstance(step, Elapse):
                self._elapse(step.seconds)
            elif isinstance(step, Wait):
                time.sleep(step.seconds)
            elif isinstance(step, Do):
                self._do(step)

    def _do(self, step: Do) -> None:
        if step.times > 1:
            self._do_many(step)
            return
        if step.refused:
            with refused() as found:
                self.ask(step.rpc, step.fields)
            assert step.refused == found[0].info.reason, step
            return
        answer = self.ask(step.rpc, step.fields)
        for name, path in step.save.items():
            self._saved[name] = pick(answer, path)
        if step.rpc in {"IssueTransferOtp", "IssueRedemptionOtp"}:
            # Codes live for 300 s and are counted for 900 s, from their issue.
            ends = answer.otp.expires_at.ToDatetime(tzinfo=UTC) + timedelta(seconds=600)
            self._saved["otp_window_ends"] = ends.isoformat()

    def _do_many(self, step: Do) -> None:
        path, make, answer = METHODS[step.rpc]
        call = self._channel.unary_unary(path, make.SerializeToString, answer.FromString)
        request, metadata = ParseDict(self._filled(step.fields), make()), self.headers("admin", step.rpc, b"")
        running: deque[Any] = deque()
        for _ in range(step.times):
            if len(running) >= AT_ONCE:
                running.popleft().result()
            running.append(call.future(request, metadata=metadata, timeout=CALL_S))
        for one in running:
            one.result()

    def _elapse(self, seconds: int) -> None:
        """Moves every time that is stored of the organisation into the past."""
        if "otp_window_ends" in self._saved:
            self._code("1")  # a code that expired is not sent any more
        changes: list[tuple[str, Sequence[object]]] = []
        for table in schema.metadata.tables.values():
            if "org_id" not in table.columns or table in (schema.api_keys, schema.client_certificates):
                continue
            for column in table.columns:
                if _TIMES.fullmatch(column.name):
                    change = f"UPDATE {table.name} SET {column.name} = {column.name} - ?"
                    change += f" WHERE org_id = ? AND {column.name} < 9223372036854775807"
                    changes.append((change, (seconds * 1_000_000, self._org.org_id)))
        self._server.on.change_all(changes)

    # -- what is asked then

    def ask(self, rpc: str, fields: Mapping[str, Any], caller: str = "admin") -> Any:
        """Calls an RPC with a request in its JSON form."""
        return self.ask_raw(rpc, self.request(rpc, fields).SerializeToString(), caller)[0]

    def ask_raw(
        self, rpc: str, raw: bytes, caller: str = "admin", headers: tuple[tuple[str, str], ...] = ()
    ) -> tuple[Any, grpc.Call]:
        """Calls an RPC with bytes; the answer, or the first of a stream, and the call with its trailers."""
        path, _, answer = METHODS[rpc]
        metadata = (*self.headers(caller, rpc, raw), *headers)
        if rpc in STREAMS:
            stream = self.watch(rpc, raw, metadata)
            first = next(stream)
            stream.cancel()
            return first, stream
        call = self._channel.unary_unary(path, response_deserializer=answer.FromString)
        found: tuple[Any, grpc.Call] = call.with_call(raw, metadata=metadata, timeout=self.timeout_s)
        return found

    def watch(self, rpc: str, raw: bytes, metadata: tuple[tuple[str, str], ...]) -> Any:
        """A stream of answers that has begun; asking it for its first one is the caller's."""
        path, _, answer = METHODS[rpc]
        call = self._channel.unary_stream(path, response_deserializer=answer.FromString)
        return call(raw, metadata=metadata, timeout=self.timeout_s)

    def request(self, rpc: str, fields: Mapping[str, Any]) -> Message:
        """A request from its JSON form."""
        made: Message = ParseDict(self._filled(fields), METHODS[rpc][1]())
        return made

    def headers(self, caller: str, rpc: str, raw: bytes) -> tuple[tuple[str, str], ...]:
        """How a caller names itself, and signs."""
        if caller == "nobody":
            return ()
        if caller == "malformed":
            return (("authorization", "Bearer nonsense"),)
        key = self._org.keys[caller]
        named = (("authorization", f"Bearer {key.token}"),)
        if not caller.startswith("signed"):
            return named
        timestamp = str(int(self.started.timestamp()) - (400 if caller == "signed late" else 0))
        signature = signature_of(self._org.secret, METHODS[rpc][0][1:], timestamp, raw)
        if caller == "signed wrong":
            signature = signature[:-1] + ("0" if signature[-1] != "0" else "1")
        return (
            *named,
            ("x-points-key-id", key.key_id),
            ("x-points-timestamp", timestamp),
            ("x-points-signature", signature),
        )

    def read(self, rpc: str, fields: Mapping[str, Any], path: str) -> str:
        """Part of the answer to a question; without an RPC, what was saved under a name."""
        return pick(self.ask(rpc, fields), path) if rpc else self._saved[path]

    def _filled(self, value: Any) -> Any:
        """A value with what was unknown before filled in."""
        if isinstance(value, Mapping):
            return {name: self._filled(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._filled(one) for one in value]
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        name, _, argument = value[1:].partition(":")
        found = self._found(name, argument)
        self.placeholders[found] = "<" + PLACEHOLDERS.get(name, name.replace("_", " ")).format(argument) + ">"
        return found

    def _found(self, name: str, argument: str) -> str:
        """What a name stands for in this row."""
        match name:
            case "mobile":
                return self._org.mobile(argument)
            case "code":
                return self._code(argument)
            case "wrong":
                code = self._code(argument)
                return "0" * len(code) if code != "0" * len(code) else "1" * len(code)
            case "in" | "ago":
                seconds = int(argument) * (1 if name == "in" else -1)
                return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
            case _:
                return self._saved[name]

    def _code(self, customer: str) -> str:
        """The last code that was sent to a customer."""
        sent = re.compile(rf"one-time code for MOBILE \+91{self._org.mobile(customer)}: (\w+)")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if found := sent.findall(self._server.output()):
                return str(found[-1])
            time.sleep(0.02)
        raise AssertionError("no code was sent")


def pick(message: Any, path: str) -> str:
    """Part of a message as text: `a.b`, `a[0].b`, or the sum of `b` over those of `a` that have a value of an enum."""
    name, _, rest = path.partition(".")
    if listed := _LIST.fullmatch(name):
        items = getattr(message, listed[1])
        if listed[3] is None:
            return pick(items[int(listed[2])], rest)
        wanted = items[0].DESCRIPTOR.fields_by_name[listed[2]].enum_type.values_by_name[listed[3]].number
        return str(sum(int(pick(one, rest)) for one in items if getattr(one, listed[2]) == wanted))
    value = getattr(message, name)
    if rest:
        return pick(value, rest)
    return value.ToDatetime(tzinfo=UTC).isoformat() if isinstance(value, Timestamp) else str(value)
