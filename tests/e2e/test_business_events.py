"""Business events from a serving process to a real webhook, whose server is killed while it posts."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from points_grpc.cli.main import main
from points_grpc.v1 import customer_service_pb2, issuance_service_pb2, program_service_pb2
from relays import Gateway
from running import Caller, RunningServer

SECRET = "s" * 32
CUSTOMERS = (1, 2, 3)
ISSUES = 12
WAIT_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def issue(caller: Caller, customer: int, points: int) -> None:
    """Issues points."""
    fields = {"customerIdentifier": {"type": "ID", "value": str(customer)}, "programId": "1", "points": str(points)}
    request = issuance_service_pb2.IssuePointsRequest()
    caller.ask(caller.issuance.IssuePoints, request, fields | {"source": "LOYALTY_PLUS"}, timeout_s=30)


def furnished(server: RunningServer, token: str) -> Caller:
    """A program, customers, and an organisation that wants to be told of issues."""
    caller = Caller(server.address, token)
    programs = caller.programs
    caller.ask(programs.CreateProgram, program_service_pb2.CreateProgramRequest(), {"programId": "1", "name": "Shop"})
    for customer in CUSTOMERS:
        fields = {"customerId": str(customer), "enrolledProgramIds": ["1"]}
        caller.ask(caller.customers.CreateCustomer, customer_service_pb2.CreateCustomerRequest(), fields)
    wanted = {"key": "PUBLISH_EVENTS", "value": "points.issued"}
    caller.ask(programs.SetConfigKey, program_service_pb2.SetConfigKeyRequest(), wanted)
    return caller


@pytest.mark.ci
@pytest.mark.timeout(180)
def test_events_survive_the_death_of_the_server(tmp_path: Path) -> None:
    """Each is posted at least once, signed, in order of its customer, and none is left waiting."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with Gateway() as gateway:
        gateway.pause_s = 0.05
        environment = {"EVENTS_WEBHOOK_URL": gateway.url, "EVENTS_WEBHOOK_SECRET_FILE": str(secret)}
        server = RunningServer(tmp_path, environment={f"POINTS_GRPC_{key}": one for key, one in environment.items()})
        token = server.key(server.organisation())
        try:
            caller = furnished(server.start(), token)
            for number in range(ISSUES):
                for customer in CUSTOMERS:
                    issue(caller, customer, number + 1)
            until(lambda: len(gateway.posts) >= len(CUSTOMERS))
            server.kill()
            server.start()
            until(lambda: len(told(gateway)) == len(CUSTOMERS) * ISSUES and not server.on.rows("SELECT 1 FROM notices"))
            assert 0 == server.stop()
        finally:
            server.close()
    order: dict[str, list[int]] = defaultdict(list)
    for body in told(gateway):
        order[body["customer_id"]].append(int(body["wallets"][0]["points"]))

    assert {str(one): list(range(1, ISSUES + 1)) for one in CUSTOMERS} == order
    assert len(gateway.posts) <= len(CUSTOMERS) * ISSUES + 8  # as many as are posted at once may come again
    for post in gateway.posts:
        signed = post.headers["x-points-timestamp"].encode() + b"." + post.body
        expected = f"v1={hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()}"
        assert expected == post.headers["x-points-signature"]


@pytest.mark.ci
@pytest.mark.timeout(180)
def test_events_that_were_given_up_are_sent_again(tmp_path: Path) -> None:
    """Beside the serving process, by an operator: under the ids that they had, in the order that they had."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with Gateway() as gateway:
        gateway.status = 422
        environment = {"EVENTS_WEBHOOK_URL": gateway.url, "EVENTS_WEBHOOK_SECRET_FILE": str(secret)}
        server = RunningServer(tmp_path, environment={f"POINTS_GRPC_{key}": one for key, one in environment.items()})
        org_id = server.organisation()
        token = server.key(org_id)
        try:
            caller = furnished(server.start(), token)
            for number in range(ISSUES):
                issue(caller, CUSTOMERS[0], number + 1)
            until(lambda: server.on.rows("SELECT COUNT(*) FROM notices WHERE state = 'DEAD'")[0][0] == ISSUES)
            refused = [post.headers["idempotency-key"] for post in gateway.posts]
            gateway.status = 200
            gateway.posts.clear()
            command = ["events", "retry", "--org", str(org_id), "--all", "--database", server.database]
            done = CliRunner().invoke(main, command)
            until(lambda: not server.on.rows("SELECT 1 FROM notices"))
            assert 0 == server.stop()
        finally:
            server.close()

    assert (0, f"{ISSUES} are sent again\n") == (done.exit_code, done.output)
    assert refused == [post.headers["idempotency-key"] for post in gateway.posts]
    assert list(range(1, ISSUES + 1)) == [int(body["wallets"][0]["points"]) for body in told(gateway)]


def told(gateway: Gateway) -> list[dict[str, Any]]:
    """What was posted, each event once, in the order of its first coming."""
    first: dict[str, dict[str, Any]] = {}
    for post in list(gateway.posts):
        first.setdefault(post.headers["idempotency-key"], json.loads(post.body))
    return list(first.values())
