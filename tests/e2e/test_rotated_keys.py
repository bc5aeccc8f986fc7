"""The server's secret keys, rotated beside a server that serves, and lost."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from points_grpc.cli import keys_file
from points_grpc.cli.main import main
from points_grpc.v1 import (
    issuance_service_pb2,
    points_service_pb2,
    wallet_service_pb2,
)
from running import Caller, RunningServer, refused

SENDER = {"type": "ID", "value": "565039505"}
RECEIVER = {"type": "ID", "value": "565039506"}
TRANSFER = {"pointsToBeTransferred": 100, "fromCustomerIdentifier": SENDER, "toCustomerIdentifier": RECEIVER}
ISSUE = {"customerIdentifier": SENDER, "programId": 973, "points": 5, "source": "GOODWILL"}
pytestmark = pytest.mark.ci
SENT_CODE = re.compile(r"one-time code for .*: (\d+)\n")


def until(reached: Callable[[], bool], within_s: float = 120.0) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Shop:
    """A development server, and what was made with its first key: a code, a page, a place, a record, a signature."""

    def __init__(self, folder: Path) -> None:
        self.server = RunningServer(folder, "--dev").start()
        self.caller = Caller(self.server.address, self.server.token)
        self.first_key = self.active()
        self.org_id = int(self.server.on.rows("SELECT org_id FROM orgs")[0][0])
        self.signer, self.signing_secret = self.server.signed_key(self.org_id)
        self.issue("recorded", 5)
        self.page_token = self.lots().next_page_token
        watch = self.caller.wallets.WatchTransactions(
            wallet_service_pb2.WatchTransactionsRequest(), metadata=self.caller.metadata, timeout=60
        )
        self.resume_token = next(watch).resume_token
        watch.cancel()
        self.code = self.new_code()

    def restart(self) -> None:
        """Ends the server and starts another one."""
        self.caller.close()
        self.server.stop()
        self.server.start()
        self.caller = Caller(self.server.address, self.server.token)

    def active(self) -> str:
        """The key that makes new things, as the file has it."""
        return keys_file.load_or_create(self.server.keys).active

    def issue(self, request_id: str, points: int) -> Any:
        """Issues points, under a request id."""
        request = issuance_service_pb2.IssuePointsRequest()
        fields = {**ISSUE, "points": points, "requestId": request_id}
        return self.caller.ask(self.caller.issuance.IssuePoints, request, fields, timeout_s=60)

    def lots(self, page_token: str = "") -> Any:
        """A page of lots."""
        fields = {"customerIdentifier": SENDER, "pageSize": 1, "pageToken": page_token}
        return self.caller.ask(self.caller.wallets.ListLots, wallet_service_pb2.ListLotsRequest(), fields, 60)

    def resumed(self) -> str:
        """Goes on watching from the first place; the token that comes first."""
        request = wallet_service_pb2.WatchTransactionsRequest(resume_token=self.resume_token)
        watch = self.caller.wallets.WatchTransactions(request, metadata=self.caller.metadata, timeout=60)
        found: str = next(watch).resume_token
        watch.cancel()
        return found

    def new_code(self) -> str:
        """Has a code for a transfer sent, and reads it."""
        count = len(SENT_CODE.findall(self.server.output()))
        request = points_service_pb2.IssueTransferOtpRequest()
        self.caller.ask(self.caller.points.IssueTransferOtp, request, TRANSFER, timeout_s=60)
        until(lambda: len(SENT_CODE.findall(self.server.output())) > count)
        return SENT_CODE.findall(self.server.output())[-1]

    def transfer(self, code: str) -> Any:
        """Transfers with a code."""
        request = points_service_pb2.TransferPointsRequest()
        return self.caller.ask(self.caller.points.TransferPoints, request, {**TRANSFER, "code": code}, 60)

    def issue_signed(self, request_id: str) -> Any:
        """Issues points with a key that must sign."""
        request = ParseDict({**ISSUE, "requestId": request_id}, issuance_service_pb2.IssuePointsRequest())
        metadata = signed("points.v1.IssuanceService/IssuePoints", request, self.signer, self.signing_secret)
        return self.caller.issuance.IssuePoints(request, metadata=metadata, timeout=60)

    def key_of(self, table: str, where: str = "1 = 1") -> set[str]:
        """Under which keys rows were made."""
        return {str(row[0]) for row in self.server.on.rows(f"SELECT DISTINCT key_id FROM {table} WHERE {where}")}

    def secrets(self, *arguments: str) -> str:
        """Runs `points-grpc secrets` beside the server."""
        done = CliRunner().invoke(main, ["secrets", *arguments, "--database", self.server.database])
        return str(done.output)

    def close(self) -> None:
        """Ends everything."""
        self.caller.close()
        self.server.close()


def signed(method: str, request: Message, token: str, secret: bytes) -> tuple[tuple[str, str], ...]:
    """The metadata of a signed call."""
    stamp = str(int(time.time()))
    digest = hashlib.sha256(request.SerializeToString()).hexdigest()
    signature = hmac.new(secret, f"{method}\n{stamp}\n{digest}".encode(), hashlib.sha256).hexdigest()
    return (
        ("authorization", f"Bearer {token}"),
        ("x-points-key-id", token.removeprefix("pk_").partition("_")[0]),
        ("x-points-timestamp", stamp),
        ("x-points-signature", f"v1={signature}"),
    )


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def test_rotation_while_it_serves(shop: Shop) -> None:
    """No call fails while the key changes; what the old key made holds until it is retired, which waits for that."""
    new = shop.secrets("rotate", "--in", "3").split()[0]
    calls = 0
    while shop.key_of("requests", f"request_id = 'during-{calls}'") != {new}:
        calls += 1
        assert calls < 10_000, "the new key is never used"
        assert not shop.issue(f"during-{calls}", 1).replayed
        time.sleep(0.01)
    depending = shop.secrets("retire", shop.first_key)

    assert {shop.first_key, new} == shop.key_of("requests")
    assert f"Error: on {shop.first_key} depend: messages waiting 0, codes in force 1, API keys that sign 1" in depending
    until(lambda: '"keys_renewed"' in shop.server.errors() and new == shop.active())
    assert shop.resumed()
    assert 1 == len(shop.lots(shop.page_token).lots)
    assert shop.issue("recorded", 5).replayed
    with refused() as found:
        shop.issue("recorded", 6)
    assert ("REQUEST_ID_REUSED", "points") == (found[0].info.reason, found[0].info.metadata["fields"])
    assert not shop.issue_signed("signed").replayed
    assert 1 == len(shop.transfer(shop.code).data)
    shop.code = shop.new_code()
    assert {new} == shop.key_of("otps", "state = 'LIVE'")
    assert 1 == len(shop.transfer(shop.code).data)


def test_a_lost_file(shop: Shop) -> None:
    """With a fresh keys file nothing of the books is lost; what the old key made is refused, and can be made anew."""
    shop.server.keys.unlink()
    shop.restart()

    assert shop.first_key != shop.active()
    until(lambda: f'"key": "{shop.first_key}"' in shop.server.errors().replace('":"', '": "'))
    assert "missing" in shop.secrets("list")
    with refused() as found:
        shop.transfer(shop.code)
    assert "INVALID_VALIDATION_CODE" == found[0].info.reason
    with refused() as found:
        shop.lots(shop.page_token)
    assert "PAGE_TOKEN_INVALID" == found[0].info.reason
    with refused() as found:
        shop.resumed()
    assert "WATCH_POSITION_LOST" == found[0].info.reason
    with refused() as found:
        shop.issue_signed("signed")
    assert "CLIENT_SIGNATURE_REQUIRED" == found[0].info.reason
    assert shop.issue("recorded", 5).replayed
    assert shop.issue("recorded", 6).replayed, "of what was recorded, only which fields were set can be compared"

    assert 1 == len(shop.transfer(shop.new_code()).data)
    assert shop.lots(shop.lots().next_page_token).lots
