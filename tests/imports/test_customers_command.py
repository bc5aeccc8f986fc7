"""`points-grpc customers`: a person's data is handed out and erased, and erased again after a restore."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from running import RunningServer

Command = Callable[..., Result]

EDGAR = "customer_id,first_name,mobile,email,programs\n301,Edgar,+919800000301,edgar@example.org,973\n302,Eli,,,973\n"


@pytest.fixture
def people(command: Command, tmp_path: Path) -> Command:
    """Edgar, who has points, and Eli."""
    (tmp_path / "c.csv").write_text(EDGAR)
    (tmp_path / "p.csv").write_text("transaction_number,customer_id,points,source\nT-301,301,70,GOODWILL\n")
    command("import", "customers", "c.csv")
    command("import", "points", "p.csv")
    return command


def test_a_life(people: Command, server: RunningServer, tmp_path: Path) -> None:
    """Exported, a record a line; points in the way unless they are forfeited; erased once, and told so again."""
    exported = people("customers", "export", "+919800000301", "edgar.jsonl", "--type", "MOBILE")
    records = [json.loads(line) for line in (tmp_path / "edgar.jsonl").read_text().splitlines()]
    again = people("customers", "export", "301", "edgar.jsonl")
    unknown = people("customers", "export", "399", "nobody.jsonl")
    refused = people("customers", "erase", "301", "--reason", "case 12")
    erased = people("customers", "erase", "301", "--reason", "case 12", "--forfeit-points")
    repeated = people("customers", "erase", "301", "--reason", "case 12")

    assert f"edgar.jsonl: {len(records)} records\n" == exported.output
    assert "Edgar" == records[0]["customer"]["first_name"]
    assert {"customer", "wallet", "lot", "transaction", "purchase"} == {kind for one in records for kind in one}
    assert (1, "Error: edgar.jsonl exists already\n") == (again.exit_code, again.output)
    assert (1, ["edgar.jsonl"]) == (unknown.exit_code, [one.name for one in tmp_path.glob("*.jsonl*")])
    assert (1, True) == (refused.exit_code, "The customer has points" in refused.output)
    assert (0, "erased customer 301; 70 points forfeited\n") == (erased.exit_code, erased.output)
    assert "customer 301 was erased before" in repeated.output


def test_again_after_a_restore(people: Command, server: RunningServer, tmp_path: Path) -> None:
    """The list of who was erased is applied again: who is gone already, and who is not there, is counted."""
    people("customers", "erase", "302", "--reason", "case 13", "--forfeit-points")
    listed = people("customers", "erased", "--database", server.database, "--org", "1")
    (tmp_path / "erased.txt").write_text(listed.output + "9302\t2026-01-01T00:00:00Z\n")
    applied = people("customers", "erase", "--from", "erased.txt")

    assert ["302"] == [line.split()[0] for line in listed.output.splitlines() if line.startswith("302")]
    assert (0, True) == (applied.exit_code, applied.output.startswith("0 erased, "))
    assert applied.output.endswith(" were already, 1 are not there\n")


@pytest.mark.parametrize(
    "arguments", [("erase",), ("erase", "301"), ("erase", "301", "--from", "c.csv"), ("erase", "--from", "c.csv")]
)
def test_misused(people: Command, arguments: tuple[str, ...]) -> None:
    """One customer with a reason, or a list of numbers: anything else is misuse, and nothing is done."""
    assert 2 == people("customers", *arguments).exit_code
