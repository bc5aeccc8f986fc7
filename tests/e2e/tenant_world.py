"""Two organisations on one server, what each of them has, and what a caller sees of an answer: for the tenant matrix.

An organisation's things are made when a row first names them, each set under a number of its own: sets of one number in
two organisations are twins, alike in all that callers choose.
"""

from __future__ import annotations

import importlib
import itertools
import json
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tenant_rows import ROLES, Row

from databases import NewDatabase
from points_grpc import v1
from points_grpc.storage.schema import metadata as schema
from running import RunningServer

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for module in pkgutil.iter_modules(v1.__path__)
    if module.name.endswith("_service_pb2")
    for service in importlib.import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR.services_by_name.values()
)
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method for service in SERVICES for method in service.methods
}

PLACEHOLDER = re.compile(r"\$(\w+)")
SAME = "request-same-one"
"""What request ids are put by, so that answers can be equal."""

TRACE = ("x-correlation-id", "same")
"""What a caller gives as correlation id comes back: with it, answers to two calls can be equal to the byte."""

FLOWING = {"api_keys"}
"""Tables that change with every call: when a key was last used."""

CHOSEN = {
    "customer": "70{:05}01",
    "receiver": "70{:05}02",
    "program": "70{:05}03",
    "second": "70{:05}04",
    "lone": "70{:05}05",
    "lone_too": "70{:05}06",
    "group": "70{:05}07",
    "mobile": "9198{:05}1",
    "email": "c{:05}@example.org",
    "external": "external-{:05}",
    "bill": "bill-{:05}",
    "purchase": "purchase-{:05}",
    "reference": "reference-{:05}",
    "key": "KEY_{:05}",
}
"""What callers choose, by the number of the set. All of a kind are equally long."""

_numbers = itertools.count(10_000)
_request_ids = itertools.count()


def new_request_id() -> str:
    """A request id that nobody had; all are equally long."""
    return f"request-{next(_request_ids):08}"


def like(text: str) -> str:
    """Something of the same form that is not there: digits and letters moved on by one, the first two left alone."""

    def moved(letter: str) -> str:
        return letter if not letter.isalnum() else {"9": "0", "z": "a", "Z": "A"}.get(letter, chr(ord(letter) + 1))

    return text[:2] + "".join(map(moved, text[2:]))


@dataclass(frozen=True)
class Answer:
    """What a caller saw. `refusals`: the statuses of refused items of a batch, as bytes."""

    code: grpc.StatusCode
    message: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    bodies: tuple[str, ...] = ()
    refusals: tuple[bytes, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether everything was."""
        return self.code is grpc.StatusCode.OK and not self.refusals

    @property
    def answered(self) -> dict[str, Any]:
        """The one message of an answer; of a batch, the answer to its one item."""
        [body] = self.bodies
        found: dict[str, Any] = json.loads(body)
        return dict(found["outcomes"][0]["response"]) if "outcomes" in found else found

    def told(self) -> str:
        """All of it, in one text."""
        return "\n".join([self.message, *self.bodies, repr(self.trailers), repr(self.refusals)])

    def without(self, words: Mapping[str, str]) -> Answer:
        """The same with some words put by others as long; of an answer that was given, without what is made anew."""

        def bare(text: str) -> str:
            for word, instead in words.items():
                text = text.replace(word, instead)
            return text

        def bare_bytes(value: bytes) -> bytes:
            for word, instead in words.items():
                value = value.replace(word.encode(), instead.encode())
            return value

        trailers = tuple(
            (key, bare_bytes(value) if isinstance(value, bytes) else bare(value)) for key, value in self.trailers
        )
        bodies = tuple(_MADE.sub("<made>", bare(body)) for body in self.bodies)
        return replace(self, trailers=trailers, bodies=bodies, refusals=tuple(map(bare_bytes, self.refusals)))


_MADE = re.compile(r'"(?:\d{4}-\d\d-\d\dT[\d:.]+Z|\d{15,}|[rhv][0-9a-z]{9,}|\+91\*+\d{4})"')
"""Times, ids that the server makes, and the masked number of whoever is sent a code, in JSON."""


_CONTENT = {
    table.name: f"SELECT * FROM {table.name} WHERE org_id ="
    for table in schema.sorted_tables
    if "org_id" in table.columns and table.name not in FLOWING
}


class Organisation:
    """Somebody's organisation, with a key of each role."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self.name = name
        self.org_id = server.organisation(name)
        self.keys = {role: server.key(self.org_id, role) for role in ROLES}


class Server:
    """The server of the matrix."""

    def __init__(self, folder: Path, new_database: NewDatabase) -> None:
        self.running = RunningServer(folder, "--otp-sender", "console", on=new_database(folder))
        self.ours, self.theirs = (Organisation(self.running, name) for name in ("Ours", "Theirs"))
        self.running.start()
        self.channel = grpc.insecure_channel(self.running.address)

    def call(
        self, row: Row, fields: Mapping[str, Any], key: str | None, request_id: str = "", messages: int = 1
    ) -> Answer:
        """Asks as a row does; every request id that is not given is a new one. Of a stream so many messages."""
        method = METHODS[row.method]
        request = ParseDict(dict(fields), GetMessageClass(method.input_type)())
        if is_command(method):
            _identify(request, request_id or new_request_id())
        credentials = (("authorization", f"Bearer {key}"),) if key else ()
        path = f"/{method.containing_service.full_name}/{method.name}"
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        read = GetMessageClass(method.output_type).FromString
        call: Any = make(path, request_serializer=type(request).SerializeToString, response_deserializer=read)
        try:
            if method.server_streaming:
                stream = call(request, metadata=(*credentials, TRACE), timeout=30)
                found = list(itertools.islice(stream, messages))
                stream.cancel()
                trailers: Any = ()
            else:
                answer, ended = call.with_call(request, metadata=(*credentials, TRACE), timeout=30)
                found, trailers = [answer], ended.trailing_metadata()
        except grpc.RpcError as error:
            trailers = tuple((key, value) for key, value in error.trailing_metadata() or ())
            return Answer(error.code(), error.details() or "", trailers)
        bodies = tuple(json.dumps(MessageToDict(one), sort_keys=True) for one in found)
        refusals = tuple(
            item.status.SerializeToString()
            for one in found
            for item in getattr(one, "outcomes", ())
            if item.HasField("status")
        )
        trailers = tuple((key, value) for key, value in trailers or ())
        return Answer(grpc.StatusCode.OK, "", trailers, bodies, refusals)

    def content(self, organisation: Organisation) -> dict[str, list[str]]:
        """Every row that an organisation has, once nothing is on its way."""
        end = time.monotonic() + 60
        with self.running.on.connection() as connection:
            while connection.execute("SELECT COUNT(*) FROM outbox WHERE state = 'QUEUED'").fetchone() != (0,):
                assert time.monotonic() < end, "codes are not sent"
                time.sleep(0.01)
            return {
                name: sorted(map(repr, connection.execute(f"{query} {organisation.org_id}").fetchall()))
                for name, query in _CONTENT.items()
            }

    def transactions(self, organisation: Organisation) -> int:
        """How many transactions its journal has."""
        [(number,)] = self.running.on.rows("SELECT COUNT(*) FROM transactions WHERE org_id = ?", organisation.org_id)
        return int(number)

    def is_recorded(self, organisation: Organisation, request_id: str) -> bool:
        """Whether a request id has an outcome."""
        query = "SELECT request_id FROM requests WHERE org_id = ? AND request_id = ?"
        return bool(self.running.on.rows(query, organisation.org_id, request_id))

    def close(self) -> None:
        """Ends it."""
        self.channel.close()
        self.running.close()


def _identify(request: Message, request_id: str) -> None:
    """Gives a command, or each of a batch, its request id."""
    names = request.DESCRIPTOR.fields_by_name
    if "request_id" in names:
        request.request_id = request_id  # type: ignore[attr-defined]
    elif "requests" in names:
        for one in request.requests:  # type: ignore[attr-defined]
            _identify(one, request_id)


def is_command(method: MethodDescriptor) -> bool:
    """Whether an RPC has one outcome for each request id: what it answers, or each item of a batch, says so."""

    def replays(message: Descriptor) -> bool:
        names = message.fields_by_name
        if "outcomes" in names:
            return replays(names["outcomes"].message_type.fields_by_name["response"].message_type)
        return "replayed" in names

    return replays(method.output_type)


class Names:
    """What one set of an organisation is called, made when it is first named."""

    def __init__(self, server: Server, owner: Organisation, number: int | None = None) -> None:
        self._server, self.owner = server, owner
        self.number = next(_numbers) if number is None else number
        self.made: dict[str, str] = {}

    def value(self, name: str) -> str:
        """What something is called."""
        if name.startswith("new_"):
            self.made.setdefault(name, guess(name))
        elif name not in self.made:
            [(together, make)] = [one for one in _MAKERS.items() if name in one[0]]
            self.made |= {one: CHOSEN[one].format(self.number) for one in together if one in CHOSEN}
            make(self)
        return self.made[name]

    def fields(self, row: Row, others: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The request of a row, with some of the names put by others."""
        given = others or {}
        return dict(filled(row.fields, lambda name: given[name] if name in given else self.value(name)))

    def everything(self) -> Names:
        """The same set, with everything made that a row may name."""
        for name in itertools.chain(*_MAKERS):
            self.value(name)
        return self

    # -- how things are made

    def _do(self, method: str, fields: Mapping[str, Any], request_id: str = "") -> dict[str, Any]:
        """A call that makes something."""
        row = Row(method, "admin", fields)
        answer = self._server.call(row, self.fields(row), self.owner.keys["admin"], request_id)
        assert answer.accepted, (method, answer)
        return answer.answered

    def _program(self, name: str) -> None:
        self._do("ProgramService/CreateProgram", {"programId": f"${name}", "name": self.owner.name})
        self._do("ProgramService/SetPolicy", {"programId": f"${name}", "policy": {}, "reason": "a second revision"})
        self._do("ProgramService/SetPause", {"programId": f"${name}", "paused": False, "reason": "a second event"})

    def programs(self) -> None:
        """Two programs of a group."""
        for name in ("program", "second"):
            self._program(name)
        group = {"programGroupId": "$group", "name": self.owner.name, "defaultProgramId": "$program"}
        self._do("ProgramService/CreateProgramGroup", {**group, "programIds": ["$program", "$second"]})

    def lone_programs(self) -> None:
        """Two programs of no group."""
        for name in ("lone", "lone_too"):
            self._program(name)

    def _member(self, name: str, **identifiers: str) -> None:
        fields = {"customerId": f"${name}", "enrolledProgramIds": ["$program", "$second"], "firstName": self.owner.name}
        named = [{"type": kind, "value": f"${name}"} for kind, name in identifiers.items()]
        self._do("CustomerService/CreateCustomer", {**fields, "identifiers": named})

    def customer(self) -> None:
        """A customer with two lots."""
        self._member("customer", MOBILE="mobile", EMAIL="email", EXTERNAL_ID="external")
        issue = {"customerIdentifier": {"type": "ID", "value": "$customer"}, "programId": "$program"}
        for points in ("1000", "500"):
            self.made["request"] = new_request_id()
            fields = {**issue, "points": points, "source": "GOODWILL"}
            issued = self._do("IssuanceService/IssuePoints", fields, self.made["request"])
        self.made |= {"transaction": issued["transactionId"], "lot": issued["lot"]["lotId"]}

    def receiver(self) -> None:
        """Another customer."""
        self._member("receiver")

    def _with_points(self, method: str, **fields: str) -> dict[str, Any]:
        wallet = {"customerIdentifier": {"type": "ID", "value": "$customer"}, "programId": "$program"}
        return self._do(method, {**wallet, "points": "20", **fields})

    def redemption(self) -> None:
        """A redemption on a bill, with a reference."""
        fields = {"transactionNumber": "$bill", "externalReferenceNumber": "$reference"}
        self.made["redemption"] = self._with_points("PointsService/RedeemPoints", **fields)["redemptionId"]

    def purchase(self) -> None:
        """A purchase."""
        fields = {"customerIdentifier": {"type": "ID", "value": "$customer"}, "programId": "$program"}
        self._do("CustomerService/RecordPurchase", {**fields, "transactionNumber": "$purchase"})

    def hold(self) -> None:
        """Held points."""
        self.made["hold"] = self._with_points("PointsService/AuthorizeRedemption")["holdId"]

    def transfer(self) -> None:
        """Two transfers."""
        parties = {"from": "$customer", "to": "$receiver"}
        fields = {f"{end}CustomerIdentifier": {"type": "ID", "value": name} for end, name in parties.items()}
        for points in ("20", "30"):
            transfer = {**fields, "programId": "$program", "pointsToBeTransferred": points}
            made = self._do("PointsService/TransferPoints", transfer)
        self.made["transfer"] = made["data"][0]["transferId"]

    def key(self) -> None:
        """A configuration key."""
        self._do("ProgramService/SetConfigKey", {"key": "TENANTS_$key", "value": self.owner.name})


_MAKERS: dict[tuple[str, ...], Callable[[Names], None]] = {
    ("program", "second", "group"): Names.programs,
    ("lone", "lone_too"): Names.lone_programs,
    ("customer", "mobile", "email", "external", "transaction", "lot", "request"): Names.customer,
    ("receiver",): Names.receiver,
    ("redemption", "bill", "reference"): Names.redemption,
    ("purchase",): Names.purchase,
    ("hold",): Names.hold,
    ("transfer",): Names.transfer,
    ("key",): Names.key,
}
"""What makes what: all that stands together is made at once."""


def guess(name: str, existing: str = "") -> str:
    """A name that nothing has: of what callers choose another one of its kind, else one like an existing one."""
    kind = name.removeprefix("new_")
    return CHOSEN[kind].format(next(_numbers)) if kind in CHOSEN else like(existing)


def names_in(fields: object) -> list[str]:
    """What a request names, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(json.dumps(fields))))


def filled(fields: Any, value: Callable[[str], str]) -> Any:
    """A request with its names put in."""
    if isinstance(fields, Mapping):
        return {key: filled(one, value) for key, one in fields.items()}
    if isinstance(fields, list):
        return [filled(one, value) for one in fields]
    return PLACEHOLDER.sub(lambda found: value(found[1]), fields) if isinstance(fields, str) else fields


def fields_set(message: Message, before: str = "") -> Iterator[str]:
    """The paths of the fields that are set in a message."""
    for field, value in message.ListFields():
        path = f"{before}{field.name}"
        yield path
        if field.message_type is not None and field.message_type.full_name.startswith("points."):
            for one in value if field.is_repeated else (value,):
                yield from fields_set(one, f"{path}.")


def naming_fields(message: Descriptor, before: str = "") -> Iterator[str]:
    """The paths of the fields that name something, of requests, and of what they hold."""
    for field in message.fields:
        path, inner = f"{before}{field.name}", field.message_type
        if inner is not None and inner.name == "CustomerIdentifier":
            yield path
        elif inner is not None and inner.full_name.startswith("points.") and inner.name != "Policy":
            yield from naming_fields(inner, f"{path}.")
        elif re.search(r"(_id|_ids|_number|^subject)$", field.name) and field.name != "request_id":
            yield path
