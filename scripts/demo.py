"""The story of the documented transfer, told by a real server over a real channel.

Starts `points-grpc serve --dev` over a temporary database, does what the documented pages show, and compares every
balance with what the story expects. Prints only what was read from answers. Run by scripts/demo.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToJson, ParseDict
from grpc_status import rpc_status

from points_grpc.v1 import (
    common_pb2,
    points_service_pb2,
    points_service_pb2_grpc,
    wallet_service_pb2,
    wallet_service_pb2_grpc,
)

SENDER = {"type": "MOBILE", "value": "9148574269"}
RECEIVER = {"type": "ID", "value": "565039506"}
DOCUMENTED_REQUEST = {
    "pointsTobeTransferred": 1000,
    "groupProgramTransfer": False,
    "programId": 973,
    "fromCustomerIdentifier": SENDER,
    "toCustomerIdentifier": RECEIVER,
}
START_TIMEOUT_S = 120.0
"""Generous: a server that cannot start ends, and is noticed at once."""

CODE_LINE = re.compile(r"one-time code for MOBILE \S+: (\S+)")


class Server:
    """`points-grpc serve --dev` as a child process; what it prints is kept, because one-time codes appear there."""

    def __init__(self, folder: Path) -> None:
        self.database = f"sqlite:///{folder / 'demo.db'}"
        self.ready_file = folder / "ready.json"
        command = [sys.executable, "-m", "points_grpc", "serve", "--dev", "--port", "0"]
        command += ["--database", self.database, "--ready-file", str(self.ready_file)]
        self.log = (folder / "server.log").open("w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def ready(self) -> dict[str, str]:
        """Waits until the server serves."""
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if self.ready_file.exists():
                return json.loads(self.ready_file.read_text())
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.log.seek(0)
        raise Wrong(f"the server did not start:\n{self.log.read()}")

    def code(self) -> str:
        """The last one-time code on the console."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found = [match.group(1) for line in self.lines if (match := CODE_LINE.search(line))]
            if found:
                return found[-1]
            time.sleep(0.02)
        raise Wrong("no one-time code arrived on the console")

    def stop(self) -> None:
        """Ends the server as an operator would."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))


class Wrong(Exception):
    """The story did not go as expected."""


def tell(text: str = "") -> None:
    """Prints a line of the story."""
    print(text, flush=True)


def expect(what: str, expected: object, actual: object) -> None:
    """Stops the story at the first difference."""
    if expected != actual:
        raise Wrong(f"{what}: expected {expected}, the server says {actual}")


def show(message: object) -> None:
    """Prints an answer as the JSON that a caller sees."""
    for line in MessageToJson(message, preserving_proto_field_name=True).splitlines():
        tell(f"    {line}")


class Story:
    """The callers' side: stubs with a key."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self.points = points_service_pb2_grpc.PointsServiceStub(channel)
        self.wallets = wallet_service_pb2_grpc.WalletServiceStub(channel)
        self.metadata = (("authorization", f"Bearer {token}"),)

    def current(self, identifier: dict[str, str]) -> int:
        """A customer's current points in program 973."""
        request = wallet_service_pb2.GetWalletRequest(program_id=973)
        ParseDict(identifier, request.customer_identifier)
        return self.wallets.GetWallet(request, metadata=self.metadata, timeout=10).wallet.current

    def say_wallets(self, expected_sender: int, expected_receiver: int) -> None:
        """Prints both wallets and compares them with the story."""
        sender, receiver = self.current(SENDER), self.current(RECEIVER)
        tell(f"  wallet of 565039505: {sender:>6} points")
        tell(f"  wallet of 565039506: {receiver:>6} points")
        expect("the sender's points", expected_sender, sender)
        expect("the receiver's points", expected_receiver, receiver)

    def refused(self, request: points_service_pb2.TransferPointsRequest) -> tuple[int, str]:
        """The documented error of a transfer that must be refused."""
        try:
            self.points.TransferPoints(request, metadata=self.metadata, timeout=10)
        except grpc.RpcError as error:
            status = rpc_status.from_call(error)
            payload = common_pb2.StatusPayload()
            for detail in status.details:
                if detail.Unpack(payload):
                    first = payload.errors[0]
                    return first.code, first.message
        raise Wrong("a transfer that must be refused was accepted, or its refusal has no payload")


def transfer_request(**changes: object) -> points_service_pb2.TransferPointsRequest:
    """The documented request with some fields changed; None leaves a field out."""
    fields = {name: value for name, value in {**DOCUMENTED_REQUEST, **changes}.items() if value is not None}
    return ParseDict(fields, points_service_pb2.TransferPointsRequest())


def play(story: Story, server: Server) -> None:
    """The story itself."""
    tell("\n1. Two customers of program 973 before anything happens")
    story.say_wallets(8500, 0)

    tell("\n2. The app asks whether 1000 points can go from one to the other, and has a one-time code sent")
    check = points_service_pb2.CheckTransferRequest()
    ParseDict({**DOCUMENTED_REQUEST, "issueOtp": True}, check)
    plan = story.points.CheckTransfer(check, metadata=story.metadata, timeout=10)
    tell(f"  transferable: {plan.transferable}; a code is on its way to {plan.otp.masked_target}")
    expect("transferable", True, plan.transferable)
    code = server.code()
    tell(f"  the customer reads out: {code}")

    tell("\n3. The documented transfer, with that code")
    request = transfer_request(code=code, request_id="demo-transfer-1")
    answer = story.points.TransferPoints(request, metadata=story.metadata, timeout=10)
    show(answer)
    expect("data", 1, len(answer.data))
    expect("points_transferred", 1000, answer.data[0].points_transferred)
    to = answer.data[0].transferred_to
    expect("transferred_to", "Madhurima Basak", f"{to.first_name} {to.last_name}")
    expect("what is left", 7500, answer.data[0].points_transfer_breakup_by_earning_programs[0].program_current_points)

    tell("\n4. The answer got lost, so the app sends the same request id again: the same transfer, not a second one")
    again = story.points.TransferPoints(request, metadata=story.metadata, timeout=10)
    tell(f"  transfer {again.data[0].transfer_id}, replayed: {again.replayed}")
    expect("the transfer", answer.data[0].transfer_id, again.data[0].transfer_id)
    expect("replayed", True, again.replayed)
    story.say_wallets(7500, 1000)

    tell("\n5. The three documented mistakes")
    mistakes = (
        (422, transfer_request(pointsTobeTransferred=None)),
        (434, transfer_request(fromCustomerIdentifier={"type": "MOBILE"})),
        (434, transfer_request(fromCustomerIdentifier={"type": "MOBILE", "value": "someone@example.com"})),
    )
    for expected, mistake in mistakes:
        number, message = story.refused(mistake)
        tell(f"  {number}: {message}")
        expect("the code", expected, number)

    tell("\n6. The receiver redeems 600 points at a checkout")
    redemption = story.points.RedeemPoints(
        ParseDict(
            {"customer_identifier": RECEIVER, "program_id": 973, "points": 600, "transaction_number": "BILL-1"},
            points_service_pb2.RedeemPointsRequest(),
        ),
        metadata=story.metadata,
        timeout=10,
    )
    tell(f"  {redemption.outcome.code}: {redemption.outcome.message} (redemption {redemption.redemption_id})")
    expect("the outcome", 800, redemption.outcome.code)
    story.say_wallets(7500, 400)

    tell("\n7. One article comes back: 250 of the 600 points are given back to the lot they came from")
    reversal = story.points.ReverseRedemption(
        ParseDict(
            {
                "redemption_id": redemption.redemption_id,
                "customer_identifier": RECEIVER,
                "points_to_be_reversed": 250,
            },
            points_service_pb2.ReverseRedemptionRequest(),
        ),
        metadata=story.metadata,
        timeout=10,
    )
    tell(f"  credited {reversal.credited}, expired meanwhile {reversal.expired}")
    expect("credited", 250, reversal.credited)
    story.say_wallets(7500, 650)


def verify(server: Server) -> None:
    """Recomputes every balance from the journal, with the server stopped."""
    tell("\n8. Every balance recomputed from the journal (points-grpc verify)")
    command = [sys.executable, "-m", "points_grpc", "verify", "--database", server.database]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.strip().splitlines():
        tell(f"  {line}")
    expect("verify", 0, done.returncode)


def main() -> int:
    """Plays the story; 0 if all went as expected."""
    with tempfile.TemporaryDirectory(prefix="points-grpc-demo-") as folder:
        server = Server(Path(folder))
        try:
            ready = server.ready()
            tell(f"points-grpc serves on {ready['address']} over a temporary SQLite file")
            with grpc.insecure_channel(ready["address"]) as channel:
                play(Story(channel, ready["token"]), server)
            server.stop()
            verify(server)
        except Wrong as wrong:
            tell(f"\ndemo: FAILED: {wrong}")
            return 1
        finally:
            if server.process.poll() is None:
                server.stop()
    tell("\ndemo: OK")
    return 0


if __name__ == "__main__":
    sys.exit(main())
