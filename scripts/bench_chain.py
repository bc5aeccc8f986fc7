"""
What the chain costs whoever checks it: CPU seconds of `verify` with and without it, of an export and of its proof.

    python scripts/bench_chain.py [--transfers 100000]

Fills a new SQLite database through a server of its own (`serve --dev`; batches of 1,000 transfers among 1,000
customers), stops that, and measures in this process. Nothing is kept.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from points_grpc.client import PointsClient
from points_grpc.domain.chain import StreamHead
from points_grpc.domain.exported import Audit, start_of_file
from points_grpc.storage import verify
from points_grpc.storage.engine import Database
from points_grpc.storage.exports import SqlExports
from points_grpc.v1 import common_pb2, customer_service_pb2, issuance_service_pb2, points_service_pb2

PROGRAM, FIRST, CUSTOMERS, BATCH = 973, 2_000_001, 1_000, 1_000
SEED = 2026
Found = TypeVar("Found")


def main() -> None:
    """Fills, stops, measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--transfers", type=int, default=100_000)
    transfers = parser.parse_args().transfers
    with tempfile.TemporaryDirectory(prefix="points-bench-chain-") as name:
        folder = Path(name)
        with serving(folder) as points:
            fill(points, transfers)
        database = Database(f"sqlite:///{folder / 'points.db'}")
        try:
            measure(database, folder)
        finally:
            database.close()


@contextmanager
def serving(folder: Path) -> Iterator[PointsClient]:
    """A server of its own."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "points_grpc", "serve", "--dev", "--port", "0", "--ready-file", str(ready)]
    command += ["--database", f"sqlite:///{folder / 'points.db'}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise SystemExit("bench_chain: the server did not start")
                time.sleep(0.1)
            said = json.loads(ready.read_text())
            with PointsClient(said["address"], said["token"], timeout_s=120) as points:
                yield points
        finally:
            process.terminate()


def by_id(customer_id: int) -> common_pb2.CustomerIdentifier:
    """A customer by id."""
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))


def fill(points: PointsClient, transfers: int) -> None:
    """Customers with points, and transfers among them."""
    create, issue = customer_service_pb2.CreateCustomerRequest, issuance_service_pb2.IssuePointsRequest
    ids = range(FIRST, FIRST + CUSTOMERS)
    for one in ids:
        points.create_customer(create(customer_id=one, enrolled_program_ids=[PROGRAM]))
    issues = [
        issue(customer_identifier=by_id(one), program_id=PROGRAM, points=1_000_000, source="GOODWILL") for one in ids
    ]
    points.batch_issue_points(issuance_service_pb2.BatchIssuePointsRequest(requests=issues))
    chance = random.Random(SEED)  # noqa: S311 - the same transfers in every run, not secrets
    for _ in range(transfers // BATCH):
        pairs = [chance.sample(ids, 2) for _ in range(BATCH)]
        requests = [
            points_service_pb2.TransferPointsRequest(
                from_customer_identifier=by_id(giver),
                to_customer_identifier=by_id(taker),
                program_id=PROGRAM,
                points_to_be_transferred=chance.randint(1, 50),
                notes="a note of some words" if chance.random() < 0.2 else "",
            )
            for giver, taker in pairs
        ]
        answer = points.batch_transfer_points(points_service_pb2.BatchTransferPointsRequest(requests=requests))
        refused = sum(one.HasField("status") for one in answer.outcomes)
        if refused:
            raise SystemExit(f"bench_chain: {refused} transfers were refused: {answer.outcomes[0]}")


def measure(database: Database, folder: Path) -> None:
    """Prints the figures."""
    invariants = verify.INVARIANTS
    others = [one for one in invariants if not isinstance(one, verify.Chained)]
    chain = [one for one in invariants if isinstance(one, verify.Chained)]
    for name, chosen in (
        ("all of verify", invariants),
        ("verify without the chain", others),
        ("the chain alone", chain),
    ):
        verify.INVARIANTS = chosen
        seconds, report = timed(lambda: verify.verify(database))
        print(f"{name}: {seconds:.2f} CPU s, {'sound' if report.sound else report.differences}")
    verify.INVARIANTS = invariants
    exports = SqlExports(database)
    [head] = [one for one in exports.heads() if one.position]
    seconds, data = timed(
        lambda: (
            start_of_file(head.org_id)
            + b"".join(
                one.data
                for page in exports.pages(head.org_id, head.stream, after=0, until=head.position)
                for one in page
            )
        )
    )
    print(f"export of {head.position} entries, {len(data) / 1e6:.1f} MB: {seconds:.2f} CPU s")
    audit = Audit({(head.org_id, head.stream): StreamHead(head.position, head.hash)})
    seconds, _ = timed(lambda: audit.read(io.BytesIO(data)))
    print(f"proof of it: {seconds:.2f} CPU s, {audit.vouched} vouched for, problems: {audit.problems}")
    print(f"database {sum(one.stat().st_size for one in folder.glob('points.db*')) / 1e6:.0f} MB")


def timed(run: Callable[[], Found]) -> tuple[float, Found]:
    """The CPU seconds of this process, threads included, and the result."""
    started = time.process_time()
    found = run()
    return time.process_time() - started, found


if __name__ == "__main__":
    main()
