"""Marked numbers, addresses, codes, keys and passwords, pushed through every path of a running server, failures and
crashes too: none is found in a log line, a metric or the details of an error, and no secret in the database.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from points_grpc.v1 import (
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)
from relays import HOST, Gateway, Relay, authority, serving
from running import Caller, RunningServer, free_port

pytestmark = pytest.mark.ci  # it takes long

MOBILE, EMAIL, NAME = "9148513370", "ptarmigan@canary.example.org", "Ptarmigana"
UNKNOWN_MOBILE, UNKNOWN_EMAIL, EXTERNAL = "9148513371", "nobody.ptarmigan@canary.example.org", "ptarmigan-external"
NOTES = "ptarmigan notes"
WRONG_CODE, WRONG_SECRET = "QUAGGA7777", "quagga" * 8
PASSWORD, SIGNING_SECRET = "dodo-password-7719", "dodo-signing-secret-" + "5" * 20

BY_EMAIL, BY_MOBILE, RECEIVER, BROKEN = ({"type": "ID", "value": str(customer_id)} for customer_id in (10, 11, 12, 13))


class World:
    """A server with relay and gateway, and everything that callers were told when they were refused."""

    def __init__(self, folder: Path) -> None:
        trusted = authority(folder)
        for name, content in {"password": PASSWORD, "signing": SIGNING_SECRET}.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o600)
        self.relay = Relay(tls=serving(trusted), user="points", password=PASSWORD)
        self.gateway = Gateway()
        self.metrics_port = free_port()
        environment = {
            "POINTS_GRPC_SMTP_HOST": HOST,
            "POINTS_GRPC_SMTP_PORT": str(self.relay.port),
            "POINTS_GRPC_SMTP_FROM": "no-reply@example.com",
            "POINTS_GRPC_SMTP_USER": "points",
            "POINTS_GRPC_SMTP_PASSWORD_FILE": str(folder / "password"),
            "POINTS_GRPC_SMTP_CA_FILE": str(trusted),
            "POINTS_GRPC_OTP_WEBHOOK_URL": self.gateway.url,
            "POINTS_GRPC_OTP_WEBHOOK_SECRET_FILE": str(folder / "signing"),
        }
        self.server = RunningServer(folder, "--metrics-port", str(self.metrics_port), environment=environment)
        self.token = self.server.key(self.server.organisation())
        self.refusals: list[str] = []

    def start(self) -> None:
        """Starts the server and makes a program and customers."""
        self.server.start()
        self.caller = Caller(self.server.address, self.token)
        program = {"programId": 1, "name": "P", "defaultProgram": True}
        program |= {"policy": {"otp": {"length": 10, "alphabet": "ALPHANUMERIC", "issuesPerWindow": 100}}}
        self.ask("programs", "CreateProgram", program_service_pb2.CreateProgramRequest(), program)
        identifiers = {10: [("EMAIL", EMAIL)], 11: [("MOBILE", MOBILE), ("EXTERNAL_ID", EXTERNAL)], 12: [], 13: []}
        for customer_id, names in identifiers.items():
            fields = {"customerId": customer_id, "firstName": NAME, "enrolledProgramIds": [1]}
            fields |= {"identifiers": [{"type": kind, "value": value} for kind, value in names]}
            self.ask("customers", "CreateCustomer", customer_service_pb2.CreateCustomerRequest(), fields)
            issue = {"customerIdentifier": {"type": "ID", "value": str(customer_id)}, "points": 100}
            self.ask(
                "issuance", "IssuePoints", issuance_service_pb2.IssuePointsRequest(), issue | {"source": "GOODWILL"}
            )

    def ask(self, service: str, method: str, request: Any, fields: Mapping[str, Any]) -> None:
        """Calls, and keeps all that a refusal says."""
        try:
            self.caller.ask(getattr(getattr(self.caller, service), method), request, fields)
        except grpc.RpcError as error:
            self.refusals.append(repr((error.code(), error.details(), error.trailing_metadata())))

    def transfer(self, method: str, request: Any, **fields: Any) -> None:
        """A transfer, or the issue of its code."""
        parties = {"fromCustomerIdentifier": BY_EMAIL, "toCustomerIdentifier": RECEIVER}
        self.ask("points", method, request, parties | {"pointsToBeTransferred": 10} | fields)

    def issue(self, who: Mapping[str, str]) -> None:
        """Has a customer sent a code."""
        self.transfer("IssueTransferOtp", points_service_pb2.IssueTransferOtpRequest(), fromCustomerIdentifier=who)

    def use(self, code: str, **fields: Any) -> None:
        """Uses a code."""
        request = points_service_pb2.TransferPointsRequest()
        self.transfer("TransferPoints", request, **({"code": code, "notes": NOTES} | fields))

    def codes(self) -> list[str]:
        """Every code that was sent."""
        by_mail = [mail.text.split()[0] for mail in self.relay.mails]
        return by_mail + [str(json.loads(post.body)["code"]) for post in self.gateway.posts]

    def undelivered(self) -> int:
        """How often the server said that it could not deliver."""
        return self.server.errors().count("message_undelivered")

    def told(self) -> str:
        """All that was logged, printed, counted and refused."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            metrics = answer.read().decode()
        assert "points_grpc_calls_total{" in metrics
        return "\n".join([self.server.errors(), self.server.output(), metrics, *self.refusals])

    def close(self) -> None:
        """Ends the server."""
        self.caller.close()
        self.server.stop()


def until(reached: Callable[[], bool]) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path)
        stack.enter_context(made.relay)
        stack.enter_context(made.gateway)
        made.start()
        stack.callback(made.close)
        yield made


def deliver_and_fail(world: World) -> None:
    """Codes that arrive, and codes that relay and gateway refuse in words that repeat all they were given."""
    for who in (BY_EMAIL, BY_MOBILE):
        world.issue(who)
    until(lambda: len(world.codes()) == 2)
    for answers in ({"rcpt": "550 no ADDRESS"}, {"rcpt": "250 OK", "data": "554 no CONTENT"}):
        before = world.undelivered()
        for name, said in answers.items():
            setattr(world.relay, name, said)
        world.issue(BY_EMAIL)
        until(lambda before=before: world.undelivered() > before)  # type: ignore[misc]
    world.relay.data = "250 OK"
    for status in (400, 302, 500):
        before = world.undelivered()
        world.gateway.status, world.gateway.headers = status, {"Location": f"/{MOBILE}"}
        world.issue(BY_MOBILE)
        until(lambda before=before: world.undelivered() > before)  # type: ignore[misc]
    world.relay._login = ("points", "another")
    before = world.undelivered()
    world.issue(BY_EMAIL)
    until(lambda: world.undelivered() > before)
    world.relay._login = ("points", PASSWORD)
    until(lambda: len(world.relay.mails) == 2)  # once the password was mended


def be_refused(world: World) -> None:
    """Refusals of every kind of which a caller's text is the cause."""
    world.use(WRONG_CODE)
    world.use(world.codes()[0], toCustomerIdentifier=BY_MOBILE)
    world.use(world.codes()[0], fromCustomerIdentifier=BY_MOBILE, request_id="x")
    for kind, value in (
        ("MOBILE", UNKNOWN_MOBILE),
        ("EMAIL", UNKNOWN_EMAIL),
        ("MOBILE", MOBILE + "x"),
        ("EMAIL", EMAIL + "@x"),
        ("EXTERNAL_ID", EXTERNAL + "\x00"),
        ("ID", MOBILE + "x"),
    ):
        world.use("", fromCustomerIdentifier={"type": kind, "value": value})
        identifier = {"customerIdentifier": {"type": kind, "value": value}}
        world.ask("wallets", "GetWallet", wallet_service_pb2.GetWalletRequest(), identifier)
        taken = {"identifiers": [{"type": kind, "value": value}], "firstName": NAME * 20}
        world.ask("customers", "CreateCustomer", customer_service_pb2.CreateCustomerRequest(), taken)
    taken = {"identifiers": [{"type": "MOBILE", "value": MOBILE}], "firstName": NAME}
    world.ask("customers", "CreateCustomer", customer_service_pb2.CreateCustomerRequest(), taken)
    call = {"mobileNumber": UNKNOWN_MOBILE}
    world.ask("customers", "RecordMissedCall", customer_service_pb2.RecordMissedCallRequest(), call)
    world.use(world.codes()[0] * 20, notes=NOTES * 100, request_id=f"{EMAIL} {MOBILE}")
    text = {"key": "OTP_TRANSFER_EMAIL_TEXT", "value": f"{UNKNOWN_MOBILE} without what it needs"}
    world.ask("programs", "SetConfigKey", program_service_pb2.SetConfigKeyRequest(), text)
    mails = len(world.relay.mails)
    world.issue(BY_EMAIL)
    until(lambda: len(world.relay.mails) > mails)
    key_id = world.token.split("_")[1]
    basic = base64.b64encode(f"{key_id}:{WRONG_SECRET}".encode()).decode()
    right = world.caller.metadata
    for header in (f"Bearer pk_{key_id}_{WRONG_SECRET}", f"Basic {basic}", f"Bearer {world.token}x", WRONG_SECRET):
        world.caller.metadata = (("authorization", header),)
        world.use("")
    world.caller.metadata = right


def crash(world: World) -> None:
    """A row that no code understands, and a writer that dies with calls in its queue."""
    world.server.on.tamper("UPDATE customers SET fraud_status = 99 WHERE customer_id = 13")
    world.use(WRONG_CODE, fromCustomerIdentifier=BROKEN)
    world.ask("customers", "GetCustomer", customer_service_pb2.GetCustomerRequest(), {"customerIdentifier": BROKEN})
    until(lambda: '"bug"' in world.server.errors())
    request = ParseDict(
        {
            "pointsToBeTransferred": 1,
            "fromCustomerIdentifier": {"type": "EMAIL", "value": EMAIL},
            "toCustomerIdentifier": {"type": "MOBILE", "value": MOBILE},
            "code": WRONG_CODE,
            "notes": NOTES,
        },
        points_service_pb2.TransferPointsRequest(),
    )
    transfer = world.caller.points.TransferPoints
    waiting = [transfer.future(request, metadata=world.caller.metadata, timeout=10) for _ in range(50)]
    world.server.kill_writer()
    for call in waiting:
        world.refusals.append(repr((call.code(), call.details(), call.trailing_metadata())))
    until(lambda: world.server.errors().count("writer_started") >= 2)


def erase_all(world: World) -> None:
    """Everybody is handed out and erased, after all that: those whom messages failed, and the broken one, too."""
    world.server.on.tamper("UPDATE customers SET fraud_status = 1 WHERE customer_id = 13")
    for who in (BY_EMAIL, BY_MOBILE, RECEIVER, BROKEN):
        asked = {"customerIdentifier": who}
        world.ask("customers", "ExportCustomerData", customer_service_pb2.ExportCustomerDataRequest(), asked)
        asked |= {"forfeitPoints": True, "reason": "asked for in case 12"}
        world.ask("customers", "EraseCustomer", customer_service_pb2.EraseCustomerRequest(), asked)
        world.ask("customers", "EraseCustomer", customer_service_pb2.EraseCustomerRequest(), asked)


def test_nothing_marked_is_told_to_anybody(world: World) -> None:
    """Success, failure and crash: logs, metrics and refusals name nobody and repeat nothing. After their erasure, the
    database and its log hold nothing of the persons either.
    """
    deliver_and_fail(world)
    be_refused(world)
    crash(world)
    kept = world.server.on.content()
    refusals = len(world.refusals)
    erase_all(world)
    told = world.told()
    secrets = {PASSWORD, SIGNING_SECRET, WRONG_CODE, WRONG_SECRET, world.token.split("_")[2], *world.codes()}
    persons = {MOBILE, EMAIL, NAME, UNKNOWN_MOBILE, UNKNOWN_EMAIL, EXTERNAL, NOTES, "ptarmigan"}

    assert 7 < len(secrets)
    assert 40 < len(world.refusals)
    assert [] == [one for one in secrets | persons if one.lower() in told.lower()]
    assert refusals == len(world.refusals)  # all were erased
    until(lambda: EMAIL.encode() not in world.server.on.content())  # the log, once nobody reads an older state
    content = world.server.on.content()
    assert [] == [one for one in secrets if one.encode() in kept or one.encode() in content]
    customers = {EMAIL, MOBILE, NAME, EXTERNAL}
    assert customers == {one for one in customers if one.encode() in kept}
    assert [] == [one for one in (*customers, NOTES, "ptarmigan") if one.encode() in content]


def test_secrets_are_no_arguments_of_the_process(world: World) -> None:
    """Nor of the writer: whoever lists processes sees none."""
    pids = [world.server.process.pid, world.server.writer_pid()]  # type: ignore[union-attr]
    arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)

    assert b"points_grpc" in arguments
    assert [] == [one for one in (PASSWORD, SIGNING_SECRET) if one.encode() in arguments]
