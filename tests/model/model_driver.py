"""Plays the same calls against a running service and the reference model, and compares every answer and every wallet.

The service is a process of its own, a test build (stepped/sitecustomize.py) whose clock is stepped from here. Each run
of calls has an organisation of its own and starts at the same instants, so that it can be played again.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import message_factory
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from reference import Model
from reference_guards import Answer, time_or_none
from reference_state import Drawn, LotName, Person, Points, Refusal, Time, iso

from points_grpc.cli.tokens import new_key
from points_grpc.rpc.server import SERVICES
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.storage.verify import verify
from points_grpc.v1 import common_pb2
from running import RunningServer

BUILD = Path(__file__).parent / "stepped"
CALL_S = 20.0
CODE_S = 10.0
MORE_ORGS = 100
ATTEMPTS_MAX = 5
"""How often a call is sent that the server ends unseen, which one does that came to stand still for a second."""

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

STRICTLY_NEWER = {"IssuePoints", "TransferPoints", "RedeemPoints", "AdjustPoints", "AuthorizeRedemption"}
"""What raises the version of every wallet in its answer."""

WARNED = ("points", "cause", "index")
"""What the model knows of a warning's metadata."""

_CODE = re.compile(r"one-time code for \w+ (\S+): (\w+)\n")


class Divergence(AssertionError):
    """Service and model disagree."""


class Told:
    """A refusal as it was told: the status, alone or of an item of a batch."""

    def __init__(self, status: status_pb2.Status) -> None:
        self.info, payload = error_details_pb2.ErrorInfo(), common_pb2.StatusPayload()
        for detail in status.details:
            for wanted in (self.info, payload):
                if detail.Is(wanted.DESCRIPTOR):
                    detail.Unpack(wanted)
        self.grpc = _GRPC[status.code]
        self.number = payload.errors[0].code if payload.errors else 0
        self.warnings = [f"{one.code} {one.reason}" for one in payload.warnings]


def told_by(error: grpc.RpcError) -> Told:
    """The refusal of a call."""
    trailers = dict(error.trailing_metadata() or ())
    if "grpc-status-details-bin" not in trailers:
        raise Divergence(f"a refusal without details: {error}")
    return Told(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))


_GRPC = {code.value[0]: code.name for code in grpc.StatusCode}


class Asked:
    """A call under way. What the server ended before it took it is sent again, as every caller has to."""

    def __init__(self, send: Callable[[], Any], unseen: Counter[str]) -> None:
        self._send = send
        self._unseen = unseen
        self._call = send()

    def result(self) -> Any:
        """The answer, or the error of the call."""
        for _ in range(1, ATTEMPTS_MAX):
            if not _is_unseen(self._call):
                break
            self._unseen["calls"] += 1
            self._call = self._send()
        return self._call.result()


def _is_unseen(call: Any) -> bool:
    """Whether the core of the server ended a call: bare. Waits for the end."""
    return call.code() is grpc.StatusCode.CANCELLED and not call.trailing_metadata()


class Org(NamedTuple):
    """An organisation that nobody used yet."""

    number: int
    token: str


class ModelServer:
    """A test build of the service with organisations to use up."""

    def __init__(self, folder: Path, *, orgs: int, plant: str = "") -> None:
        self._clock_path = folder / "clock"
        self._clock_path.write_bytes(bytes(8))
        self._clock = os.open(self._clock_path, os.O_WRONLY)
        path = os.pathsep.join([str(BUILD), os.environ.get("PYTHONPATH", "")])
        environment = {
            "PYTHONPATH": path.rstrip(os.pathsep),
            "POINTS_MODEL_CLOCK": str(self._clock_path),
            "POINTS_MODEL_PLANT": plant,
            "POINTS_GRPC_SWEEP_INTERVAL_S": "0",
            "POINTS_GRPC_LOG_CALLS": "false",
        }
        self._server = RunningServer(folder, "--otp-sender", "console", environment=environment)
        self._made = 0
        self._orgs = self._make_orgs(orgs)
        self._printed = 0
        self._codes: dict[str, str] = {}
        self.unseen: Counter[str] = Counter()
        self.set_clock(1_700_000_000_000_000)
        self._server.start()
        self.channel = grpc.insecure_channel(self._server.address)

    def _make_orgs(self, count: int) -> list[Org]:
        """Beside the server, which knows the keys that are there when it starts, and others within seconds."""
        database = Database(self._server.database, synchronous="OFF")
        accounts = Accounts(database)
        kept = database.connect_writer()  # or each write would be the first and the last of its log
        made = []
        for number in range(self._made, self._made + count):
            org_id, key = accounts.create_org(f"org {number}", "IN"), new_key()
            accounts.create_key(key.key_id, org_id, client="model", role="admin", secret_hash=key.secret_hash)
            made.append(Org(number, key.token))
        self._made += count
        kept.close()
        database.close()
        return made

    def org(self) -> Org:
        """An organisation that nobody used; shrinking a divergence needs more of them than were made at the start."""
        if not self._orgs:
            self._orgs = self._make_orgs(MORE_ORGS)
            self._await_key(self._orgs[-1])
        return self._orgs.pop(0)

    def _await_key(self, org: Org) -> None:
        until = time.monotonic() + CALL_S
        while time.monotonic() < until:
            try:
                self.call("ListPrograms", METHODS["ListPrograms"][1](), org).result()
            except grpc.RpcError:
                time.sleep(0.1)
                continue
            return
        raise AssertionError("the server does not learn of a new key")

    def call(self, rpc: str, request: Message, org: Org) -> Asked:
        """Asks the service; the answer is there when `result` is."""
        path, _, answer = METHODS[rpc]
        call = self.channel.unary_unary(
            path, request_serializer=lambda one: one.SerializeToString(), response_deserializer=answer.FromString
        )
        metadata = (("authorization", f"Bearer {org.token}"),)
        return Asked(lambda: call.future(request, metadata=metadata, timeout=CALL_S), self.unseen)

    def set_clock(self, micros: int) -> None:
        """Steps the clock of the service."""
        os.pwrite(self._clock, micros.to_bytes(8, "big"), 0)

    def next_code(self, address: str) -> str:
        """The code that is sent to an address next."""
        until = time.monotonic() + CODE_S
        while time.monotonic() < until:
            self._read_codes()
            if code := self._codes.pop(address, ""):
                return code
            time.sleep(0.001)
        raise AssertionError(f"no code was sent to {address}: {self._server.errors()[-2000:]}")

    def _read_codes(self) -> None:
        with (self._server.folder / "out.log").open() as out:
            out.seek(self._printed)
            text = out.read()
        whole = text[: text.rfind("\n") + 1]
        self._printed += len(whole.encode())
        self._codes.update(_CODE.findall(whole))

    def verify(self) -> None:
        """Recomputes every balance from the journal, as `points-grpc verify` does."""
        database = Database(self._server.database)
        try:
            report = verify(database)
        finally:
            database.close()
        if not report.sound:
            raise Divergence(f"verify: {report.differences}")

    def close(self) -> None:
        """Ends the process."""
        self.channel.close()
        self._server.close()
        os.close(self._clock)


class Play:
    """One organisation, in the service and in the model."""

    def __init__(self, server: ModelServer, start: int, hits: Counter[str]) -> None:
        self._server = server
        self.org = server.org()
        self.model = Model(start)
        self.hits = hits
        self.asked: list[tuple[str, Any]] = []
        self.diverged = False
        self._story: list[str] = []
        self._lots: dict[int, int] = {}
        self._ours: dict[int, int] = {}
        self._versions: dict[tuple[int, int], int] = {}
        server.set_clock(start)

    def step_clock(self, micros: int) -> None:
        """Time passes for both."""
        self._story.append(f"it is {iso(micros)}")
        self.model.now = micros
        self._server.set_clock(micros)

    def ask(self, rpc: str, fields: Mapping[str, Any], *, names: bool = True) -> Answer | Refusal:
        """Asks both, with a request id of its own, and compares."""
        request = ParseDict(dict(fields), METHODS[rpc][1]())
        is_write = names and "request_id" in request.DESCRIPTOR.fields_by_name
        if is_write:
            request.request_id = f"r{len(self.asked)}"
        return self.repeat(rpc, request)

    def repeat(self, rpc: str, request: Any) -> Answer | Refusal:
        """Asks both, and compares the answers."""
        self.asked.append((rpc, request))
        self._story.append(f"{rpc} {MessageToDict(request)}")
        try:
            answer = self._call(rpc, request)
        except grpc.RpcError as error:
            told: Any = told_by(error)
            expected = self.model.play(rpc, request)
        else:
            told = answer
            expected = self.model.play(rpc, request, self._drawn(rpc, request, answer))
        self._count(rpc, expected)
        self._story.append(f"    {shortly(expected)}")
        found = self._compared(expected, told)
        if found:
            self._diverges(f"{rpc} {MessageToDict(request)}", found, expected, told)
        if not isinstance(told, Told):
            self._check_versions(rpc, told)
        elif getattr(request, "request_id", ""):
            self._check_recorded(request.request_id)
        return expected

    def batch(self, rpc: str, requests: Sequence[Mapping[str, Any]]) -> None:
        """Asks for several at once; the model plays them one by one."""
        item_rpc = rpc.removeprefix("Batch")
        batch = METHODS[rpc][1]()
        for number, fields in enumerate(requests):
            item = ParseDict(dict(fields), batch.requests.add())
            item.request_id = f"b{len(self.asked)}-{number}"
        self.asked.append((rpc, batch))
        self._story.append(f"{rpc} {MessageToDict(batch)}")
        answer = self._call(rpc, batch)
        for request, outcome in zip(batch.requests, answer.outcomes, strict=True):
            refused = outcome.WhichOneof("outcome") == "status"
            told: Any = Told(outcome.status) if refused else outcome.response
            drawn = Drawn() if refused else self._drawn(item_rpc, request, told)
            expected = self.model.play(item_rpc, request, drawn)
            self._count(item_rpc, expected)
            if found := self._compared(expected, told):
                self._diverges(f"{rpc}: {MessageToDict(request)}", found, expected, told)

    def compare_wallets(self, customers: Iterable[int] | None = None) -> None:
        """Compares the wallets and lots of customers, or of all."""
        wanted = sorted(self.model.people) if customers is None else sorted(customers)
        asked = []
        for person in (self.model.people[one] for one in wanted if one in self.model.people):
            for program_id in sorted(person.enrolled):
                fields = {"customer_identifier": {"type": "ID", "value": str(person.customer_id)}}
                fields["program_id"] = program_id
                calls = [
                    self._server.call(rpc, ParseDict(fields, METHODS[rpc][1]()), self.org)
                    for rpc in ("GetWallet", "ListLots")
                ]
                asked.append((person, program_id, calls))
        for person, program_id, calls in asked:
            self._compare_wallet(person, program_id, *(one.result() for one in calls))

    def _compare_wallet(self, person: Person, program_id: int, wallet: Any, listed: Any) -> None:
        model, customer_id = self.model, person.customer_id
        lots = model.live(customer_id, program_id)
        ends = sorted({lot.expires for lot in lots if lot.expires is not None})
        expected = {
            "wallet": model.wallet(customer_id, program_id),
            "lifetime_earned": person.earned.get(program_id, 0),
            "lifetime_received": person.received.get(program_id, 0),
            "lifetime_purchases": person.purchases.get(program_id, 0),
            "expiries": [
                {"expires_at": Time(end), "points": sum(lot.remaining for lot in lots if lot.expires == end)}
                for end in ends
            ],
            "read_time": Time(model.now),
        }
        if found := self._compared(expected, wallet):
            self._diverges(f"GetWallet {customer_id} in {program_id}", found, expected, wallet)
        self._check_version(wallet.wallet, newer=False)
        shown = {"lots": [self._shown(lot) for lot in lots]}
        if found := self._compared(shown, listed):
            self._diverges(f"ListLots {customer_id} in {program_id}", found, shown, listed)

    def _shown(self, lot: Points) -> Answer:
        return {
            "lot_id": lot.name,
            "earning_program_id": lot.earning,
            "source": lot.source,
            "category": lot.category,
            "points": lot.points,
            "remaining": lot.remaining,
            "held": self.model.held(lot),
            "awarded_at": Time(lot.awarded),
            "available_from": time_or_none(lot.available_from if self.model.promised(lot) else None),
            "expires_at": time_or_none(lot.expires),
            "parent_lot_id": lot.parent.name if lot.parent else 0,
            "root_lot_id": lot.root.name,
        }

    # -- the service

    def _call(self, rpc: str, request: Message) -> Any:
        return self._server.call(rpc, request, self.org).result()

    def _drawn(self, rpc: str, request: Any, answer: Any) -> Drawn:
        """What the server made up in an answer."""
        if answer.replayed if "replayed" in answer.DESCRIPTOR.fields_by_name else False:
            return Drawn()
        if rpc == "TransferPoints":
            return Drawn(str(answer.data[0].transfer_id))
        for name in ("hold_id", "redemption_id"):
            if name in answer.DESCRIPTOR.fields_by_name:
                return Drawn(getattr(answer, name))
        if "otp" in answer.DESCRIPTOR.fields_by_name and answer.HasField("otp"):
            named = "from_customer_identifier" if "Transfer" in rpc else "customer_identifier"
            person = self.model.person(getattr(request, named))
            kind = {"MOBILE": 2, "EMAIL": 4}[answer.otp.channels[0]]
            if person is not None:
                return Drawn(code=self._server.next_code(person.identifiers[kind]))
        return Drawn()

    def _check_recorded(self, request_id: str) -> None:
        request = ParseDict({"request_id": request_id}, METHODS["GetTransaction"][1]())
        told = self._call("GetTransaction", request)
        state = told.State.Name(told.state)
        recorded = self.model.records.get(request_id)
        expected = "NOT_RECORDED" if recorded is None else "REFUSED" if is_refusal(recorded[2]) else "ACCEPTED"
        if state != expected:
            rpc = self.asked[-1][0]
            self._diverges(f"GetTransaction of {rpc}", ["state"], f"{expected} {recorded}", state)

    # -- comparing

    def _compared(self, expected: Answer | Refusal, told: Any) -> list[str]:
        """Where they differ; empty if they agree."""
        if isinstance(expected, Refusal) or isinstance(told, Told):
            if not (isinstance(expected, Refusal) and isinstance(told, Told)):
                return ["one accepts and one refuses"]
            return _refusal_differences(expected, told)
        return list(self._differences("", expected, told))

    def _differences(self, path: str, expected: Any, told: Any) -> Iterable[str]:
        """Where what the model says differs from a message; what the model does not say is not compared."""
        if isinstance(expected, Mapping):
            yield from self._field_differences(path, expected, told)
        elif path.endswith("warnings."):
            yield from _warning_differences(path, expected, told)
        elif isinstance(expected, list):
            yield from self._list_differences(path, expected, told)
        elif isinstance(expected, LotName):
            yield from self._lot_differences(path, expected, told)
        elif isinstance(told, Timestamp):
            if int(expected) != told.ToMicroseconds():
                yield f"{path} expected {iso(expected)}, told {told.ToJsonString()}"
        elif expected != told:
            yield f"{path} expected {expected!r}, told {told!r}"

    def _field_differences(self, path: str, expected: Mapping[str, Any], told: Any) -> Iterable[str]:
        """None stands for a field that is not set."""
        for name, value in expected.items():
            if value is None:
                if told.HasField(name):
                    yield f"{path}{name}: is set"
            elif isinstance(value, Mapping) and not told.HasField(name):
                yield f"{path}{name}: is not set"
            else:
                yield from self._differences(f"{path}{name}.", value, getattr(told, name))

    def _lot_differences(self, path: str, expected: LotName, told: int) -> Iterable[str]:
        """The first time that a lot is seen tells what the server calls it."""
        known = self._lots.setdefault(expected, told)
        if known != told or self._ours.setdefault(told, expected) != expected:
            yield f"{path} expected lot {known} (ours {int(expected)}), told {told}"

    def _list_differences(self, path: str, expected: list[Any], told: Any) -> Iterable[str]:
        found = list(told)
        if len(expected) != len(found):
            yield f"{path} expected {len(expected)} of them, told {len(found)}"
            return
        if path.endswith(("wallets.", "programs.")):  # a set, in whatever order
            expected = sorted(expected, key=lambda one: (one.get("customer_id", 0), one["program_id"]))
            found.sort(key=lambda one: (getattr(one, "customer_id", 0), one.program_id))
        for index, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
            yield from self._differences(f"{path}{index}.", ours, theirs)

    def _check_versions(self, rpc: str, answer: Any) -> None:
        if "wallets" not in answer.DESCRIPTOR.fields_by_name or answer.replayed:
            return
        for wallet in answer.wallets:
            self._check_version(wallet, newer=rpc in STRICTLY_NEWER)

    def _check_version(self, wallet: Any, *, newer: bool) -> None:
        key = (wallet.customer_id, wallet.program_id)
        known = self._versions.get(key, 0)
        if wallet.wallet_version < known + newer:
            self._diverges(f"wallet {key}", ["wallet_version"], f"at least {known + newer}", wallet.wallet_version)
        self._versions[key] = wallet.wallet_version

    def _count(self, rpc: str, outcome: Answer | Refusal) -> None:
        if isinstance(outcome, Refusal):
            self.hits[outcome.reason] += 1
            self.hits.update(one.split()[1] for one in outcome.warnings)
            return
        self.hits[f"accepted {rpc}"] += 1
        self.hits.update(code.split()[1] for code, _ in outcome.get("warnings", ()))
        if "outcome" in outcome:
            self.hits[outcome["outcome"]["reason"]] += 1

    def _diverges(self, what: str, found: Sequence[str], expected: Any, told: Any) -> None:
        shown = f"{told.grpc} {told.number} {told.info}" if isinstance(told, Told) else told
        differences, story = "\n  ".join(found), "\n  ".join(self._story)
        self.diverged = True
        raise Divergence(
            f"{what}\n  {differences}\n-- the model: {expected}\n-- the service: {shown}\n-- the calls:\n  {story}"
        )


def shortly(outcome: Answer | Refusal) -> str:
    """An outcome in a line."""
    return str(outcome) if isinstance(outcome, Refusal) else "accepted"


def is_refusal(outcome: Any) -> bool:
    """Whether an outcome is a refusal."""
    return isinstance(outcome, Refusal)


def _warning_differences(path: str, expected: Any, told: Any) -> Iterable[str]:
    """Warnings by code, those of one code in order, with the numbers that the model knows."""
    ours = sorted(((code, set(metadata.items())) for code, metadata in expected), key=lambda one: one[0])
    theirs = sorted(
        (
            (f"{one.code} {one.reason}", {(key, one.metadata[key]) for key in WARNED if key in one.metadata})
            for one in told
        ),
        key=lambda one: one[0],
    )
    if [code for code, _ in ours] != [code for code, _ in theirs] or not all(
        mine <= other for (_, mine), (_, other) in zip(ours, theirs, strict=True)
    ):
        yield f"{path} expected {ours}, told {theirs}"


def _refusal_differences(expected: Refusal, told: Told) -> list[str]:
    found = []
    ours = (expected.grpc, expected.number, expected.reason)
    theirs = (told.grpc, told.number, told.info.reason)
    if ours != theirs:
        found.append(f"expected {ours}, told {theirs}")
    metadata = {key: told.info.metadata.get(key) for key in expected.metadata}
    if metadata != expected.metadata:
        found.append(f"metadata: expected {expected.metadata}, told {metadata}")
    if ("replayed" in expected.metadata) != ("replayed" in told.info.metadata):
        found.append("replayed or not")
    if list(expected.warnings) != told.warnings:
        found.append(f"warnings: expected {expected.warnings}, told {told.warnings}")
    return found
