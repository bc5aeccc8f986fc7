"""`points-grpc wallet show` and `points-grpc trace`: what people see of a wallet and of a chain of transfers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from points_grpc.cli.showing import tree
from points_grpc.client import PointsClient
from points_grpc.v1 import common_pb2, issuance_service_pb2, points_service_pb2, wallet_service_pb2
from running import RunningServer

Command = Callable[..., Result]


def customer(customer_id: int) -> common_pb2.CustomerIdentifier:
    """Names a customer by id."""
    return common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))


def chain(command: Command, folder: Path, server: RunningServer, *ids: int) -> int:
    """Creates customers; the first gets 100 points, gives 60 to the second, who gives 20 on to the third and 10 to the
    fourth. The lot of the first.
    """
    (folder / "c.csv").write_text("customer_id,programs\n" + "".join(f"{one},973\n" for one in ids))

    assert 0 == command("import", "customers", "c.csv").exit_code
    with PointsClient(server.address, server.token) as points:
        issued = points.issue_points(
            issuance_service_pb2.IssuePointsRequest(
                customer_identifier=customer(ids[0]), points=100, source=common_pb2.Lot.GOODWILL
            )
        )
        for giver, receiver, amount in ((0, 1, 60), (1, 2, 20), (1, 3, 10)):
            points.transfer_points(
                points_service_pb2.TransferPointsRequest(
                    points_to_be_transferred=amount,
                    program_id=973,
                    from_customer_identifier=customer(ids[giver]),
                    to_customer_identifier=customer(ids[receiver]),
                )
            )
    return issued.lot.lot_id


def test_a_wallet(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """Balances, lots and transactions as tables; the same as JSON, in the standard mapping."""
    chain(command, tmp_path, server, 201, 202, 203, 204)
    shown = command("wallet", "show", "202")
    document = json.loads(command("wallet", "show", "202", "--json").output)
    lines = [line.split() for line in shown.output.splitlines()]

    assert 0 == shown.exit_code
    assert "customer 202 in DocDemoDefaultProgram (973), version 3" == shown.output.splitlines()[0]
    assert ["current", "30"] in lines
    assert ["received", "in", "all", "60"] in lines
    assert ["30", "60", "GOODWILL", "Main"] in [line[1:5] for line in lines]
    assert [["-10", "30"], ["-20", "40"], ["60", "60"]] == [line[-3:-1] for line in lines if "TRANSFER" in line]
    assert ("30", ["60"]) == (document["wallet"]["wallet"]["current"], [lot["points"] for lot in document["lots"]])
    assert 3 == len(document["transactions"])


def test_a_trace(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """From any lot of a chain the same tree, from the issue down, with the lot marked."""
    root = chain(command, tmp_path, server, 211, 212, 213, 214)
    document = json.loads(command("trace", str(root), "--json").output)["trace"]
    middle, *leaves = [node["lot"]["lot_id"] for node in document["descendants"]]
    up = command("trace", leaves[0]).output.splitlines()
    lines = command("trace", middle).output.splitlines()

    assert [f"lot {root}", f"└─ lot {middle}", f"   ├─ lot {leaves[0]}", f"   └─ lot {leaves[1]}"] == [
        line.partition(":")[0] for line in lines
    ]
    assert [[False, True, False, False]] == [["<-- this lot" in line for line in lines]]
    assert ": issue of 100 to customer 211, " in lines[0]
    assert lines[0].endswith(", GOODWILL; 40 left")
    assert ": transfer of 20 to customer 213, " in lines[2]
    assert [f"lot {root}", f"└─ lot {middle}", f"   └─ lot {leaves[0]}"] == [line.partition(":")[0] for line in up]


def test_a_trace_without_its_root() -> None:
    """Where ancestors were left out, the tree says so and starts at the farthest one that is known."""
    node = wallet_service_pb2.TraceLotResponse.Node
    found = wallet_service_pb2.TraceLotResponse(
        lot=node(lot=common_pb2.Lot(lot_id=9, parent_lot_id=8)),
        ancestors=[node(lot=common_pb2.Lot(lot_id=8, parent_lot_id=7))],
    )

    assert ["… (farther ancestors are left out)", "lot 8", "└─ lot 9"] == [
        line.partition(":")[0] for line in tree(found)
    ]


def test_nobody_and_nothing(command: Command) -> None:
    """A sentence with the code, and exit code 1."""
    who, what = command("wallet", "show", "299"), command("trace", "7")

    assert (1, 1) == (who.exit_code, what.exit_code)
    assert "8015 CUSTOMER_NOT_FOUND" in who.output
    assert "10012 RESOURCE_NOT_FOUND" in what.output
