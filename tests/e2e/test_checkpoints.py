"""Checkpoints that a real server makes: with the journal's export they are a proof, and their disk stops nobody."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from databases import NewDatabase
from points_grpc.cli.main import main
from points_grpc.domain.checkpoint import from_text
from points_grpc.service.keyring import is_signed
from points_grpc.v1 import catalog_service_pb2, customer_service_pb2, issuance_service_pb2, program_service_pb2
from running import Caller, RunningServer, free_port

COMES_WITHIN_S = 60.0


def until(holds: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + COMES_WITHIN_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


class Shop:
    """A server that makes a checkpoint each second, and an organisation with a customer."""

    def __init__(self, folder: Path, on: NewDatabase, *arguments: str) -> None:
        self.checkpoints = folder / "checkpoints"
        self.port = free_port()
        environment = {
            "POINTS_GRPC_CHECKPOINT_FOLDER": str(self.checkpoints),
            "POINTS_GRPC_CHECKPOINT_INTERVAL_S": "1",
        }
        arguments = ("--metrics-port", str(self.port), *arguments)
        self.running = RunningServer(folder, *arguments, environment=environment, on=on(folder))
        self.org_id = self.running.organisation()
        token = self.running.key(self.org_id)
        self.running.start()
        self.caller = Caller(self.running.address, token)
        ask, caller = self.caller.ask, self.caller
        ask(caller.programs.CreateProgram, program_service_pb2.CreateProgramRequest(), {"programId": 10, "name": "P"})
        member = {"customerId": 1, "enrolledProgramIds": [10]}
        ask(caller.customers.CreateCustomer, customer_service_pb2.CreateCustomerRequest(), member)

    def issue(self) -> None:
        """One more entry."""
        fields = {"customerIdentifier": {"type": "ID", "value": "1"}, "points": 3, "source": "LOYALTY_PLUS"}
        self.caller.ask(self.caller.issuance.IssuePoints, issuance_service_pb2.IssuePointsRequest(), fields)

    def told(self) -> catalog_service_pb2.GetServerInfoResponse.JournalCheckpoints:
        """What GetServerInfo tells of checkpoints."""
        request = catalog_service_pb2.GetServerInfoRequest()
        info: catalog_service_pb2.GetServerInfoResponse = self.caller.ask(
            self.caller.catalog.GetServerInfo, request, {}
        )
        return info.journal_checkpoints

    def count(self, outcome: str) -> float:
        """How many checkpoints came to that."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        [found] = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "points_grpc_checkpoints_total" and sample.labels["outcome"] == outcome
        ]
        return found

    def files(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("journal-*.json"))

    def next(self) -> Path:
        """A checkpoint that was begun after now."""
        before = len(self.files())
        until(lambda: len(self.files()) >= before + 2)
        return self.files()[-1]

    def close(self) -> None:
        """Ends it."""
        self.caller.close()
        self.running.close()


@pytest.fixture
def shop(new_database_in_ci: NewDatabase, tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path, new_database_in_ci)
    yield found
    found.close()


def run(*arguments: str | Path) -> Result:
    """Runs a command."""
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.mark.ci
def test_made_and_proved_with(shop: Shop, tmp_path: Path) -> None:
    """An export is proved with a file of the folder and the key that the server tells; a kill changes nothing."""
    shop.issue()
    made = shop.next()
    told = shop.told()
    shop.running.kill()
    shop.running.start()
    shop.issue()
    later = shop.next()
    exported = tmp_path / "journal.pgx"
    run("journal", "export", "--database", shop.running.database, "--org", str(shop.org_id), exported)
    key = ("--public-key", told.public_key.hex())
    proofs = [run("verify", "--export", exported, "--checkpoint", one, *key) for one in (made, later)]
    keys = run("journal", "keys", "--database", shop.running.database, "--keys-file", shop.running.keys)

    assert [0, 0] == [one.exit_code for one in proofs], [one.output for one in proofs]
    assert "2 entries, of which the checkpoint vouches for 1" in proofs[0].output
    assert "2 entries, of which the checkpoint vouches for 2" in proofs[1].output
    assert (1, f"{told.key_id}\t{told.public_key.hex()}\tsigns now\n") == (told.interval_s, keys.output)
    assert told.HasField("last_made_at")
    assert "journal_contradicts_checkpoint" not in shop.running.errors()


@pytest.mark.ci
def test_a_disk_that_fails_stops_nobody(shop: Shop) -> None:
    """Writes are acknowledged while no checkpoint can be made; they go on when the disk is back."""
    shop.next()
    kept = shop.checkpoints.rename(shop.checkpoints.with_name("kept"))
    shop.checkpoints.write_text("this is no folder")
    until(lambda: shop.count("failed") >= 2)
    shop.issue()
    shop.checkpoints.unlink()
    kept.rename(shop.checkpoints)
    made = shop.next()
    checkpoint, signature = from_text(made.read_text())

    assert [1] == [one.position for one in checkpoint.heads if one.org_id == shop.org_id]
    assert is_signed(checkpoint, signature)
    assert '"event": "checkpoint_failed"' in shop.running.errors() or "checkpoint_failed" in shop.running.errors()


@pytest.mark.ci
def test_a_journal_that_was_cut(shop: Shop) -> None:
    """A tail that is cut behind the server's back is told within an interval, and is not signed."""
    shop.issue()
    shop.issue()
    shop.next()
    shop.running.on.tamper("DELETE FROM transactions WHERE position = 2")
    until(lambda: shop.count("contradicted") >= 2)
    files = shop.files()
    until(lambda: shop.count("contradicted") >= 4)

    assert files == shop.files()
    assert "journal_contradicts_checkpoint" in shop.running.errors()
