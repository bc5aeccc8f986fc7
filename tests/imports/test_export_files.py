"""`points-grpc export`: all of an organisation as CSV files, which an import takes back; whole, or not there."""

from __future__ import annotations

import csv
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from points_grpc.cli import export_run
from points_grpc.cli.export_rows import COLUMNS, Kind, customer_row, is_gone
from points_grpc.cli.main import main
from points_grpc.cli.spreadsheets import as_written, neutral
from points_grpc.client import PointsClient
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
)
from points_grpc.v1.customer_service_pb2 import Customer
from running import RunningServer

NASTY = ("=1+2", "+1", "-1", "@SUM(A1)", "'=1", "''@", "'quoted'", 'a "b", c', "नाम", "Asha")
"""Names as customers give them: formulas, apostrophes, quotes."""


@dataclass(frozen=True)
class World:
    """A server with two organisations: one that has something, and an empty one with the same programs."""

    server: RunningServer
    full: str
    empty: str

    def run(self, token: str, *arguments: str) -> Result:
        environment = {"POINTS_GRPC_ADDRESS": self.server.address, "POINTS_GRPC_TOKEN": token}
        return CliRunner().invoke(main, arguments, env=environment)


def customer(customer_id: int) -> common_pb2.CustomerIdentifier:
    """Names a customer by id."""
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = RunningServer(tmp_path_factory.mktemp("exports"))
    full, empty = (server.key(server.organisation(name)) for name in ("full", "empty"))
    server.start()
    for token in (full, empty):
        with PointsClient(server.address, token) as points:
            for program_id in (973, 974):
                points.create_program(program_service_pb2.CreateProgramRequest(program_id=program_id, name="Shop"))
    fill(server, full)
    yield World(server, full, empty)
    server.close()


def fill(server: RunningServer, token: str) -> None:
    """Customers of all kinds, with lots of all kinds."""
    lot, kinds = common_pb2.Lot, common_pb2.CustomerIdentifier
    with PointsClient(server.address, token) as points:
        for number, name in enumerate(NASTY):
            identifiers = [
                common_pb2.CustomerIdentifier(type=kinds.MOBILE, value=f"+9198000000{number:02}"),
                common_pb2.CustomerIdentifier(type=kinds.EXTERNAL_ID, value=f"-{number}"),
            ]
            points.create_customer(
                customer_service_pb2.CreateCustomerRequest(
                    customer_id=100 + number,
                    first_name=name,
                    last_name="Rao",
                    identifiers=identifiers,
                    enrolled_program_ids=[973, 974],
                    locale="en",
                )
            )
            issued = issuance_service_pb2.IssuePointsRequest(
                customer_identifier=customer(100 + number), program_id=973, points=50 + number, source=lot.GOODWILL
            )
            if number % 3 == 0:
                issued.expires_in_months = 12
            elif number % 3 == 1:
                issued.source = lot.REGISTRATION
            else:
                issued.available_from.FromDatetime(datetime.now(UTC) + timedelta(days=30))
            points.issue_points(issued)
        points.issue_points(
            issuance_service_pb2.IssuePointsRequest(
                customer_identifier=customer(101),
                program_id=974,
                points=9,
                source=lot.LOYALTY_PLUS,
                earning_program_id=973,
                expires_on="2036-02-29",
            )
        )
        points.transfer_points(
            points_service_pb2.TransferPointsRequest(
                points_to_be_transferred=20,
                program_id=973,
                from_customer_identifier=customer(100),
                to_customer_identifier=customer(101),
                notes="=thanks",
            )
        )
        points.set_customer_status(
            customer_service_pb2.SetCustomerStatusRequest(
                customer_identifier=customer(102), fraud_status=customer_service_pb2.Customer.MARKED, reason="x"
            )
        )
        points.merge_customers(
            customer_service_pb2.MergeCustomersRequest(
                victim_customer_identifier=customer(109), survivor_customer_identifier=customer(108), reason="x"
            )
        )


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file, by the names of their columns."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def exported(world: World, token: str, path: Path, kind: str, *options: str) -> list[dict[str, str]]:
    """Exports, and reads what was written."""
    done = world.run(token, "export", kind, str(path), *options)

    assert 0 == done.exit_code, done.output
    return rows(path)


def test_out_and_in_again(world: World, tmp_path: Path) -> None:
    """Customers and balances, imported into an empty organisation, are the same customers with the same balances."""
    people = exported(world, world.full, tmp_path / "c.csv", "customers", "--for-import")
    lots = exported(world, world.full, tmp_path / "b.csv", "balances")
    for kind, file in (("customers", "c.csv"), ("balances", "b.csv")):
        done = world.run(world.empty, "import", kind, str(tmp_path / file))

        assert 0 == done.exit_code, done.output
    balances = ("customer_id", "program_id", "current", "redeemable", "transferable", "promised")
    before, after = (
        {
            tuple(one[name] for name in balances)
            for one in exported(world, token, tmp_path / f"w{number}.csv", "wallets")
            if one["customer_id"] != "109"
        }
        for number, token in enumerate((world.full, world.empty))
    )

    assert before == after
    assert 18 == len(after)
    assert people == exported(world, world.empty, tmp_path / "c2.csv", "customers", "--for-import")
    assert sorted(map(str, lots)) == sorted(map(str, exported(world, world.empty, tmp_path / "b2.csv", "balances")))
    assert list(NASTY[:-1]) == [as_written(one["first_name"]) for one in people]


def test_texts_are_no_formulas(world: World, tmp_path: Path) -> None:
    """No field of any export begins as a formula does, and every text comes back as it was."""
    kinds = ("customers", "balances", "lots", "wallets", "transactions")
    found = [one for kind in kinds for one in exported(world, world.full, tmp_path / f"{kind}.csv", kind)]

    assert [] == [value for one in found for value in one.values() if value.startswith(("=", "+", "-", "@", "\t"))]
    assert list(NASTY) == [as_written(neutral(one)) for one in NASTY]
    assert "'=thanks" in {one.get("notes") for one in found}


def test_what_stands_there(world: World, tmp_path: Path) -> None:
    """Customers with their status, lots with their chain, the journal of a time, one program alone."""
    people = exported(world, world.full, tmp_path / "c.csv", "customers")
    lots = exported(world, world.full, tmp_path / "l.csv", "lots", "--program", "974")
    moved = exported(world, world.full, tmp_path / "t.csv", "transactions", "--since", "2026-01-01")
    never = exported(world, world.full, tmp_path / "n.csv", "transactions", "--until", "2026-01-01T00:00:00Z")

    assert [str(100 + one) for one in range(10)] == [one["customer_id"] for one in people]
    assert ("MARKED", "108") == (people[2]["fraud_status"], people[9]["merged_into_customer_id"])
    assert [("101", "9", "973")] == [(one["customer_id"], one["remaining"], one["earning_program_id"]) for one in lots]
    assert ["MERGE", "TRANSFER", *["ISSUE"] * 11] == [one["kind"] for one in moved]
    assert [] == never


def test_pages(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many pages has what one of a single page has."""
    whole = [exported(world, world.full, tmp_path / f"1{kind}", kind) for kind in ("customers", "lots")]
    monkeypatch.setattr(export_run, "CUSTOMERS_PER_PAGE", 3)
    monkeypatch.setattr(export_run, "ROWS_PER_PAGE", 1)
    pages = [exported(world, world.full, tmp_path / f"2{kind}", kind) for kind in ("customers", "lots")]

    assert whole == pages


def test_a_summary_for_programs(world: World, tmp_path: Path) -> None:
    """One JSON document; and who is left out of what is to be imported, or loses something by it, is counted."""
    path = tmp_path / "c.csv"
    done = world.run(world.full, "export", "customers", str(path), "--for-import", "--json")
    told = world.run(world.full, "export", "customers", str(path), "--for-import", "--force")
    found = json.loads(done.output.splitlines()[-1])

    assert {"seconds", "rows_per_s"} <= found.keys()
    assert {
        "kind": "customers",
        "file": str(path),
        "bytes": path.stat().st_size,
        "rows": 9,
        "left_out": 1,
        "marked": 1,
    } == {name: value for name, value in found.items() if name not in {"seconds", "rows_per_s"}}
    assert "1 who were merged away, erased or deleted are left out" in told.output
    assert "1 have a fraud status, a label or a lock" in told.output


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ({}, False),
        ({"merged_into_customer_id": 7}, True),
        ({"status_label": Customer.DELETED}, True),
        ({"erased_at": {"seconds": 1_800_000_000}}, True),
    ],
)
def test_who_is_not_brought_back(gone: dict[str, Any], expected: bool) -> None:
    """Who was merged away, deleted or erased is not among those that an import takes."""
    assert expected is is_gone(Customer(customer_id=1, **gone))


def test_who_was_erased_is_told() -> None:
    """By the time; of others the field is empty."""
    at = COLUMNS[Kind.CUSTOMERS].index("erased_at")
    rows = [
        customer_row(one, for_import=False)
        for one in (Customer(customer_id=1), Customer(customer_id=1, erased_at={"seconds": 1_800_000_000}))
    ]

    assert ["", "2027-01-15T08:00:00Z"] == [row[at] for row in rows]


def test_whole_or_not_there(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stops on its way leaves no file, and what a kill left is begun anew; a file that is there stays."""
    path, part = tmp_path / "l.csv", tmp_path / "l.csv.part"
    part.write_text("left by a kill" * 1000)
    with monkeypatch.context() as broken:
        broken.setattr(export_run, "ROWS_PER_PAGE", 1001)
        stopped = world.run(world.full, "export", "lots", str(path))
    left = sorted(one.name for one in tmp_path.iterdir())
    part.write_text("left by a kill" * 1000)
    done = exported(world, world.full, path, "lots")
    again = world.run(world.full, "export", "lots", str(path))
    with part.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        beside = world.run(world.full, "export", "lots", str(path), "--force")

    assert (1, []) == (stopped.exit_code, left)
    assert "page_size" in stopped.output
    assert (2, 1) == (again.exit_code, beside.exit_code)
    assert "--force replaces it" in " ".join(again.output.split())
    assert "another command writes" in beside.output
    assert done == rows(path)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("lots", "x/y.csv"), 1, "No such file or directory"),
        (("transactions", "t.csv", "--since", "2026-02-01", "--until", "2026-01-01"), 2, "--until: after --since"),
        (("wallets", "w.csv", "--program", "99"), 1, "895"),
        (("wallets", "w.csv", "--address", "127.0.0.1:1", "--wait", "0"), 1, "nothing got an answer"),
        (("wallets", "w.csv", "--token", "pk_a_b"), 1, "UNAUTHENTICATED"),
    ],
)
def test_what_stops_an_export(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """A sentence, an exit code, and no file."""
    monkeypatch.chdir(tmp_path)
    done = world.run(world.full, "export", *arguments)

    assert code == done.exit_code, done.output
    assert says in " ".join(done.output.split())
    assert [] == list(tmp_path.iterdir())
