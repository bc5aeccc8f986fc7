"""The server's secret keys are rotated and retired beside two workers on PostgreSQL, while both are called.

Whatever one worker makes under the old key is shown to the other one under the new: codes, tokens of pages and places,
requests that are repeated, signatures. Codes are read from the database with the keys file, as nobody else can.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.protobuf.json_format import ParseDict
from shop import PROGRAM, Shop, differences, transfer_fields

from databases import ATestsDatabase, on_postgres
from points_grpc.cli import keys_file
from points_grpc.cli.main import main
from points_grpc.v1 import issuance_service_pb2, points_service_pb2, wallet_service_pb2
from postgres_cluster import Cluster
from relays import Gateway
from running import Caller, RunningServer

WORKERS = (1, 2)
CODES_OF_A_CUSTOMER = 4
"""How many codes the load asks for each: the default policy allows five in a window."""

CUSTOMERS = 120
PAUSE_S = 0.2
"""Between the rounds of the load: enough calls to meet every moment of a rotation, few enough for a busy machine."""

KNOWN_BEFORE_S = 5
WAIT_S = 120.0
IN_TIME_S = 60.0


def until(reached: Callable[[], bool]) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


class Rotated:
    """A server with two workers, a way to each, and a gateway that takes no message until it is told to."""

    def __init__(self, folder: Path, on: ATestsDatabase, gateway: Gateway) -> None:
        secret = folder / "secret"
        secret.write_text("s" * 32)
        secret.chmod(0o600)
        environment = {"OTP_WEBHOOK_URL": gateway.url, "OTP_WEBHOOK_SECRET_FILE": str(secret)}
        self.on = on
        self.gateway = gateway
        self.server = RunningServer(
            folder, "--workers", "2", environment={f"POINTS_GRPC_{key}": one for key, one in environment.items()}, on=on
        )
        self.org_id = self.server.organisation()
        token = self.server.key(self.org_id)
        self.signer, self.signing_secret = self.server.signed_key(self.org_id)
        self.shop = Shop(self.server.start(), token)
        [self.receiver] = self.shop.add_customers(1, lots=(1, 1, 1))
        self.customers = iter(self.shop.add_customers(CUSTOMERS, lots=(1_000,), mobile="987"))
        self.by_worker = {number: self._caller_of(number) for number in WORKERS}
        self.first_key = self.keys().active

    def _caller_of(self, number: int) -> Caller:
        """A connection that the system gave to this worker."""
        for attempt in itertools.count(1):
            caller = Caller(self.server.address, self.shop.token, shares_connection=False)
            request_id = f"who-{number}-{attempt}"
            issue(caller, self.receiver, request_id)
            until(lambda: self._worker_of(request_id) > 0)  # noqa: B023 - waited for
            if self._worker_of(request_id) == number:
                return caller
            caller.close()
        raise AssertionError("connections without end")

    def _worker_of(self, request_id: str) -> int:
        """Which worker answered a call; 0 if none logged it yet."""
        found = [json.loads(line) for line in self.server.errors().splitlines() if request_id in line]
        return int(found[0]["worker"]) if found else 0

    def keys(self) -> keys_file.Keys:
        """The keys file."""
        return keys_file.load(self.server.keys)

    def secrets(self, *arguments: str) -> Result:
        """Runs `points-grpc secrets` beside the server."""
        return CliRunner().invoke(
            main, ["secrets", *arguments, "--database", self.server.database, "--keys-file", str(self.server.keys)]
        )

    def key_of(self, table: str, where: str) -> set[str]:
        """Under which keys rows were made."""
        return {str(row[0]) for row in self.on.rows(f"SELECT DISTINCT key_id FROM {table} WHERE {where}")}

    def new_code(self, caller: Caller, customer: int) -> str:
        """Has a code issued, and reads it from the outbox, or from what the gateway was handed meanwhile."""
        fields = transfer_fields(customer, self.receiver, 10, f"issue-{time.time_ns()}-{customer}")
        caller.ask(caller.points.IssueTransferOtp, points_service_pb2.IssueTransferOtpRequest(), fields, IN_TIME_S)
        [(message_id, key_id, sealed)] = self.on.rows(
            "SELECT message_id, key_id, sealed FROM outbox WHERE customer_id = ? ORDER BY message_id DESC LIMIT 1",
            customer,
        )
        if sealed is not None:
            return self.keys().keyring_at(datetime.now(UTC)).open(key_id, bytes(sealed))
        return next(code for posted_id, code in self.posted() if posted_id == message_id)

    def posted(self) -> list[tuple[int, str]]:
        """The messages that the gateway was handed, and their codes."""
        bodies = [json.loads(post.body) for post in list(self.gateway.posts)]
        return [(int(body["message_id"]), body["code"]) for body in bodies]

    def transfer(self, caller: Caller, customer: int, code: str) -> Any:
        """Uses a code."""
        fields = transfer_fields(customer, self.receiver, 10, f"use-{time.time_ns()}-{customer}", code=code)
        return caller.ask(caller.points.TransferPoints, points_service_pb2.TransferPointsRequest(), fields, IN_TIME_S)

    def page(self, caller: Caller, token: str = "") -> Any:
        """A page of the receiver's lots."""
        fields = {"customerIdentifier": _by_id(self.receiver), "pageSize": 1, "pageToken": token}
        return caller.ask(caller.wallets.ListLots, wallet_service_pb2.ListLotsRequest(), fields, IN_TIME_S)

    def resumed(self, caller: Caller, token: str = "") -> str:
        """The first token of a watch."""
        request = wallet_service_pb2.WatchTransactionsRequest(resume_token=token)
        watch = caller.wallets.WatchTransactions(request, metadata=caller.metadata, timeout=IN_TIME_S)
        found: str = next(watch).resume_token
        watch.cancel()
        return found

    def issue_signed(self, caller: Caller, request_id: str) -> Any:
        """Issues a point with the key that must sign."""
        request = ParseDict(_issue_fields(self.receiver, request_id), issuance_service_pb2.IssuePointsRequest())
        stamp, digest = str(int(time.time())), hashlib.sha256(request.SerializeToString()).hexdigest()
        text = f"points.v1.IssuanceService/IssuePoints\n{stamp}\n{digest}"
        metadata = (
            ("authorization", f"Bearer {self.signer}"),
            ("x-points-key-id", self.signer_id),
            ("x-points-timestamp", stamp),
            ("x-points-signature", f"v1={hmac.new(self.signing_secret, text.encode(), hashlib.sha256).hexdigest()}"),
        )
        return caller.issuance.IssuePoints(request, metadata=metadata, timeout=IN_TIME_S)

    @property
    def signer_id(self) -> str:
        """The id of the key that must sign."""
        return self.signer.removeprefix("pk_").partition("_")[0]

    def close(self) -> None:
        for caller in self.by_worker.values():
            caller.close()
        self.server.close()
        self.on.drop()


class Load(threading.Thread):
    """Makes things through one worker and uses them through the other, round after round; keeps what went wrong."""

    def __init__(self, world: Rotated, number: int, customers: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.rounds = 0
        self.wrong: list[str] = []
        self._world = world
        self._number = number
        self._maker, self._user = world.by_worker[number], world.by_worker[3 - number]
        self._customers = iter([one for one in customers for _ in range(CODES_OF_A_CUSTOMER)])
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                self.wrong.append(f"round {self.rounds}: {error}")
                return
            self.rounds += 1

    def _round(self) -> None:
        world, request_id = self._world, f"load-{self._number}-{self.rounds}"
        issue(self._maker, world.receiver, request_id)
        if not issue(self._user, world.receiver, request_id).replayed:
            self.wrong.append(f"{request_id} was carried out twice")
        if (customer := next(self._customers, None)) is not None:
            world.transfer(self._user, customer, world.new_code(self._maker, customer))
        world.page(self._user, world.page(self._maker).next_page_token)
        world.resumed(self._user, world.resumed(self._maker))

    def stop(self) -> list[str]:
        """Ends it; returns what went wrong."""
        self._stopped.set()
        self.join(WAIT_S)
        return self.wrong


def issue(caller: Caller, customer: int, request_id: str) -> Any:
    """Issues a point."""
    fields = _issue_fields(customer, request_id)
    return caller.ask(caller.issuance.IssuePoints, issuance_service_pb2.IssuePointsRequest(), fields, IN_TIME_S)


def _issue_fields(customer: int, request_id: str) -> dict[str, Any]:
    fields = {"customerIdentifier": _by_id(customer), "programId": str(PROGRAM), "points": "1", "source": "GOODWILL"}
    return {**fields, "requestId": request_id}


def _by_id(customer: int) -> dict[str, str]:
    return {"type": "ID", "value": str(customer)}


@pytest.fixture
def world(postgres: Cluster, tmp_path: Path) -> Iterator[Rotated]:
    with Gateway() as gateway:
        gateway.status = 503
        made = Rotated(tmp_path, on_postgres(postgres)(tmp_path), gateway)
        yield made
        made.close()


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_rotation_beside_two_workers(world: Rotated) -> None:
    """No call fails while keys change and the old one goes, and each worker takes what the other one made."""
    one, two = world.by_worker.values()
    ahead = [(world.new_code(one, a), two, a) for a in itertools.islice(world.customers, 2)]
    ahead += [(world.new_code(two, a), one, a) for a in itertools.islice(world.customers, 2)]
    page, place = world.page(one).next_page_token, world.resumed(one)
    rest = list(world.customers)
    load = [Load(world, number, rest[number::2]) for number in WORKERS]
    for thread in load:
        thread.start()
    until(lambda: all(thread.rounds or thread.wrong for thread in load))
    new = world.secrets("rotate", "--in", str(KNOWN_BEFORE_S)).output.split()[0]
    for number in WORKERS:
        used = f"request_id LIKE 'load-{number}-%'"
        until(lambda: new in world.key_of("requests", used) or any(thread.wrong for thread in load))  # noqa: B023
    depending = world.secrets("retire", world.first_key)

    assert [] == [wrong for thread in load for wrong in thread.wrong]
    assert f"on {world.first_key} depend: messages waiting" in depending.output
    world.gateway.status = 200
    until(lambda: not world.key_of("outbox", f"state = 'QUEUED' AND key_id = '{world.first_key}'"))
    assert [] == world.on.rows("SELECT last_error FROM outbox WHERE state = 'DEAD'")
    assert {code for code, _, _ in ahead} <= {code for _, code in world.posted()}
    for code, caller, customer in ahead:
        assert 1 == len(world.transfer(caller, customer, code).data)
    for number, caller in world.by_worker.items():
        assert world.page(caller, page).lots
        assert world.resumed(caller, place)
        assert not world.issue_signed(caller, f"signed-{number}").replayed
    revoke = ["keys", "revoke", "--org", str(world.org_id), world.signer_id, "--database", world.server.database]
    assert 0 == CliRunner().invoke(main, revoke).exit_code
    until(lambda: world.secrets("retire", world.first_key).exit_code == 0)
    rounds = [thread.rounds for thread in load]
    until(lambda: all(now.rounds > before + 5 or now.wrong for now, before in zip(load, rounds, strict=True)))

    assert [] == [wrong for thread in load for wrong in thread.stop()]
    assert {new} == world.keys().keys.keys()
    assert [] == differences(world.server)
