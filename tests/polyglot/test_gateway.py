"""The documented HTTP requests through grpc-gateway, as deploy/grpc-gateway configures it, to a real server.

Without Go the one test that needs it says in the summary that it did not run; on CI that fails.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from toolchains import GATEWAY, ROOT, toolchains_are_required

from authority import Authority, localhost
from points_grpc.rpc.server import SERVICES
from running import RunningServer

WAIT_S = 60
TRANSFER = "/v2/points/transfer"
SENDER = {"type": "MOBILE", "value": "9148574269"}
RECEIVER = {"type": "ID", "value": "565039506"}
DOCUMENTED = {
    "pointsTobeTransferred": 1000,
    "groupProgramTransfer": False,
    "programId": 973,
    "fromCustomerIdentifier": SENDER,
    "toCustomerIdentifier": RECEIVER,
}
"""The example of the documented page."""

ANSWERED = {
    "toEntityId": "565039506",
    "toEntityType": "CUSTOMER",
    "fromEntityId": "565039505",
    "fromEntityType": "CUSTOMER",
    "pointsTransferred": "1000",
    "transferType": "DEDUCTION",
    "transferredFrom": {"userId": "565039505", "firstName": "", "lastName": "", "externalId": ""},
    "transferredTo": {"userId": "565039506", "firstName": "Madhurima", "lastName": "Basak", "externalId": ""},
    "notes": "",
    "programName": "DocDemoDefaultProgram",
    "pointsTransferBreakupByEarningPrograms": [
        {"programId": "973", "deductedPoints": "1000", "programCurrentPoints": "7500"}
    ],
}
"""The documented answer, all its names among it, without time and id; int64 is text."""

WRONG = {
    "no points": ({"pointsTobeTransferred": None}, 400, 422, "TRANSFER_POINTS_INVALID"),
    "no value": ({"fromCustomerIdentifier": {"type": "MOBILE"}}, 400, 434, "TRANSFER_IDENTIFIER_INVALID"),
    "no type": ({"toCustomerIdentifier": {"value": "1"}}, 400, 8013, "TRANSFER_IDENTIFIER_TYPE_INVALID"),
    "nobody": ({"toCustomerIdentifier": {"type": "ID", "value": "9"}}, 404, 8015, "TRANSFER_CUSTOMER_NOT_FOUND"),
    "no program": ({"programId": 9}, 400, 885, "TRANSFER_INVALID_PROGRAM_ID"),
    "no group": ({"groupProgramTransfer": True}, 400, 3316, "GROUP_TRANSFER_FOR_NON_GROUP"),
    "the same": ({"toCustomerIdentifier": SENDER}, 400, 418, "SAME_CUSTOMER"),
    "too much": ({"pointsTobeTransferred": 9000}, 400, 817, "TRANSFER_INSUFFICIENT_POINTS"),
}
"""Changes of the request; the HTTP status, and number and reason in the details."""

ILL_FORMED = {
    "quoted boolean": '{"groupProgramTransfer": "false"}',
    "unknown field": '{"pointsToTransfer": 1000}',
    "no JSON": "points=1000",
    "too long": json.dumps({"notes": "x" * (4 << 20)}),
}
"""What has not the form of the request never reaches the server."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def refusal(self) -> tuple[int, int, str]:
        """The HTTP status, and number and reason of the first error in the details."""
        details = {one["@type"].rpartition("/")[2]: one for one in self.body["details"]}
        error = details["points.v1.StatusPayload"]["errors"][0]
        assert details["google.rpc.ErrorInfo"]["reason"] == error["reason"]
        assert error["status"] is False
        return self.status, error["code"], error["reason"]


@dataclass(frozen=True)
class Gateway:
    """One that runs, and a key of the server behind it."""

    base: str
    token: str
    trusts: ssl.SSLContext | None = None

    def ask(self, verb: str, path: str, body: str | None = None, **headers: str) -> Answer:
        """Sends a request with the key."""
        shown = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        shown |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else body.encode()
        request = urllib.request.Request(self.base + path, data, shown, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S, context=self.trusts) as answer:
                return Answer(answer.status, answer.headers, json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, json.load(error))

    def transfer(self, **changes: Any) -> Answer:
        """The documented request with changes; None leaves a field out."""
        fields = {name: value for name, value in {**DOCUMENTED, **changes}.items() if value is not None}
        return self.ask("POST", TRANSFER, json.dumps(fields))


@contextlib.contextmanager
def started(token: str, *flags: str, trusts: ssl.SSLContext | None = None) -> Iterator[Gateway]:
    """Runs the gateway on a port of its choice, and ends it as an operator would."""
    command = [*GATEWAY.run, "--listen", "127.0.0.1:0", *flags]
    with subprocess.Popen(command, cwd=GATEWAY.folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("gateway: 127.0.0.1:"), said
            address = said.split()[1].rstrip(",")
            base = f"https://localhost:{address.rpartition(':')[2]}" if trusts else f"http://{address}"
            yield Gateway(base, token, trusts)
        finally:
            process.terminate()
        assert 0 == process.wait(WAIT_S)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path, "--dev").start()
    yield running
    running.close()


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_over_http(server: RunningServer, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Every annotated path leads to its RPC; documented requests are answered as documented, with keys in TLS."""
    if missing := GATEWAY.missing():
        record_property("summary", f"{GATEWAY.name}: NOT RUN, missing: {', '.join(missing)}")
        assert not toolchains_are_required(), missing
        return
    record_property("summary", f"{GATEWAY.name}: built in {GATEWAY.make():.0f} s")
    with started(server.token, "--server", server.address) as gateway:
        documented_requests(gateway)
        wrong_requests(gateway)
        redemptions(gateway)
        every_annotated_path(gateway, server)
        signatures(gateway, server)
        assert (200, {"status": "SERVING"}) == health(gateway)
        server.stop()
        assert 503 == gateway.transfer().status == health(gateway)[0]
    encrypted(tmp_path)
    not_in_the_open(tmp_path)


def test_the_page_shows_what_is_built_and_sent() -> None:
    """The commands of docs/operations.md are those that build it, and its request is the documented one."""
    page = (ROOT / "docs" / "operations.md").read_text()
    [body] = re.findall(r"<!-- example: over http -->\n```\ncurl .*?(\{.*?\})'\n```", page, re.DOTALL)

    assert f"cd {GATEWAY.name} && {' && '.join(' '.join(one) for one in GATEWAY.build)}\n" in page
    assert DOCUMENTED == json.loads(body)


def documented_requests(gateway: Gateway) -> None:
    """The transfer, and the list that it is in then; the same request id again is a replay."""
    first, again = (gateway.transfer(requestId="over-http") for _ in range(2))
    [data] = first.body["data"]
    query = "customerIdentifier.type=MOBILE&customer_identifier.value=9148574269"
    [listed] = gateway.ask("GET", f"{TRANSFER}?{query}&page_size=1").body["transfers"]

    assert (200, 200) == (first.status, again.status)
    assert ANSWERED == {name: value for name, value in data.items() if name not in {"pointsTransferDate", "transferId"}}
    assert ([], []) == (first.body["warnings"], first.body["errors"])
    assert {**first.body, "replayed": True} == again.body
    assert data == listed


def wrong_requests(gateway: Gateway) -> None:
    """Refusals have the documented numbers, and the status that gRPC's stands for."""
    found = {name: gateway.transfer(**changes).refusal for name, (changes, *_) in WRONG.items()}
    formless = {name: gateway.ask("POST", TRANSFER, body) for name, body in ILL_FORMED.items()}
    formless["unknown parameter"] = gateway.ask("GET", f"{TRANSFER}?customer_identifier.kind=ID")
    stranger = Gateway(gateway.base, "pk_x_y").transfer()

    assert {name: tuple(expected) for name, (_, *expected) in WRONG.items()} == found
    assert {(400, 3)} == {(one.status, one.body["code"]) for one in formless.values()}
    assert [[]] * len(formless) == [one.body["details"] for one in formless.values()]
    assert (401, 10001, "UNAUTHENTICATED") == stranger.refusal
    assert 404 == gateway.ask("POST", "/v2/points/redeem", "{}").status
    assert 405 == gateway.ask("GET", "/v1.1/points/redeem").status


def redemptions(gateway: Gateway) -> None:
    """Checked by parameters and by a body, then done: 800 each."""
    query = "points=100&program_id=973&customer_identifier.type=MOBILE&customer_identifier.value=9148574269"
    body = json.dumps({"points": 100, "programId": 973, "customerIdentifier": SENDER})
    answers = [
        gateway.ask("GET", f"/v1.1/points/isredeemable?{query}"),
        gateway.ask("POST", "/v1.1/points/isredeemable", body),
        gateway.ask("POST", "/v1.1/points/redeem", body),
    ]

    assert [(200, 800, "100")] * 3 == [(one.status, one.body["outcome"]["code"], one.body["points"]) for one in answers]


def every_annotated_path(gateway: Gateway, server: RunningServer) -> None:
    """On each an empty request: the log names the RPC that it came to, and the refusal of the service comes back."""
    expected, found = {}, {}
    for verb, path, method in annotated():
        place = f"{verb}{path.replace('/', '-')}"
        answer = gateway.ask(verb, path, None if verb == "GET" else "{}", X_Correlation_Id=place)
        assert answer.headers["X-Correlation-Id"] == place
        assert answer.refusal[0] not in {405, 501}
        expected[place], found[place] = method, logged(server, place)

    assert len(expected) > 10
    assert expected == found


def annotated() -> Iterator[tuple[str, str, str]]:
    """Verb, path and RPC of every annotation of the protos."""
    for service in SERVICES:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for one in (rule, *rule.additional_bindings):
                if verb := one.WhichOneof("pattern"):
                    yield verb.upper(), getattr(one, verb), method.name


def logged(server: RunningServer, correlation_id: str) -> str:
    """The RPC of a call, as the server logs it."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        for line in server.errors().splitlines():
            if f'"{correlation_id}"' in line:
                return str(json.loads(line)["method"]).rpartition("/")[2]
        time.sleep(0.05)
    raise AssertionError(f"{correlation_id} is in no line of the log")


def signatures(gateway: Gateway, server: RunningServer) -> None:
    """A key that must sign is refused: what it would sign is made behind it, and its headers do not pass."""
    token, _ = server.signed_key(server.organisation("signs"))
    signer = Gateway(gateway.base, token)
    until = time.monotonic() + WAIT_S
    while (found := signer.transfer().refusal)[1] == 10001:  # the server reads new keys every few seconds
        assert time.monotonic() < until
        time.sleep(0.2)

    assert (401, 825, "CLIENT_SIGNATURE_REQUIRED") == found


def health(gateway: Gateway) -> tuple[int, Any]:
    """What /healthz says."""
    answer = gateway.ask("GET", "/healthz")
    return answer.status, answer.body


def encrypted(folder: Path) -> None:
    """TLS on both sides; and a caller beyond its quota is told when to come back."""
    authority = Authority(folder)
    pair = authority.issue("localhost", localhost())
    (folder / "tls").mkdir()
    server = RunningServer(
        folder / "tls",
        *("--dev", "--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)),
        environment={"POINTS_GRPC_ORG_CALLS_PER_S": "1"},
    ).start()
    trusts = ssl.create_default_context(cafile=str(authority.file))
    flags = ("--server", f"localhost:{server.port}", "--ca-file", str(authority.file))
    flags += ("--certificate", str(pair.certificate), "--key", str(pair.key))
    try:
        with started(server.token, *flags, trusts=trusts) as gateway:
            accepted = gateway.transfer()
            answers = [gateway.transfer(pointsTobeTransferred=None)]
            while answers[-1].status == 400:
                answers.append(gateway.transfer(pointsTobeTransferred=None))
    finally:
        server.close()

    assert (200, "1000") == (accepted.status, accepted.body["data"][0]["pointsTransferred"])
    assert (429, 10003) == answers[-1].refusal[:2]
    assert int(answers[-1].headers["Retry-After"]) >= 1


def not_in_the_open(folder: Path) -> None:
    """Keys do not travel in plain text beyond the machine unless that is asked for."""
    command = [*GATEWAY.run, "--listen", "0.0.0.0:0"]
    done = subprocess.run(command, cwd=GATEWAY.folder, capture_output=True, text=True, check=False, timeout=WAIT_S)

    assert (1, True) == (done.returncode, "--plaintext-http" in done.stderr)
