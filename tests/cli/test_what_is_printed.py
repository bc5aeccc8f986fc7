"""What commands print: tables, on any terminal, on a disk that is full; lots and traces with decimal places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from scripted_answers import answering

from points_grpc.cli.main import main
from points_grpc.cli.printing import print_table
from points_grpc.v1 import common_pb2, program_service_pb2, wallet_service_pb2

Node = wallet_service_pb2.TraceLotResponse.Node
PROGRAM = program_service_pb2.GetProgramResponse(
    program=program_service_pb2.Program(program_id=7, name="Zürich", decimal_places=2)
)
TRACE = wallet_service_pb2.TraceLotResponse(
    lot=Node(lot=common_pb2.Lot(lot_id=1, program_id=7, points=123456, remaining=-5), kind="ISSUE"),
    descendants=[Node(lot=common_pb2.Lot(lot_id=2, parent_lot_id=1, points=100, remaining=100), kind="TRANSFER")],
)


def printed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "points_grpc", *arguments],
        capture_output=True,
        text=True,
        encoding="latin-1",
        check=False,
        timeout=100,
        env={**os.environ, "POINTS_GRPC_TOKEN": "pk_a_b", **environment},
    )


def test_amounts_stand_on_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    """With decimal places and without, and what stands for none."""
    print_table(("a", "b", "c"), [("1.50", "-", "x"), ("-12.00", "3", "-")])

    assert ["     a  b  c", "  1.50  -  x", "-12.00  3  -"] == capsys.readouterr().out.splitlines()


def test_a_trace_has_decimal_places() -> None:
    """Those of the program, as `wallet show` has them."""
    with answering({"TraceLot": TRACE, "GetProgram": PROGRAM}) as address:
        done = CliRunner().invoke(main, ["trace", "1", "--token", "pk_a_b", "--address", address])

    assert 0 == done.exit_code, done.output
    assert ["1234.56 to customer", "1.00 to customer"] == [
        line.partition(" of ")[2].rpartition(" 0, ")[0] for line in done.output.splitlines()
    ]


def test_lots_that_cannot_be_spent_yet() -> None:
    """Beside each stands why: promised until when, or how much of it is held; the column is there only if one is so."""
    lots = [common_pb2.Lot(lot_id=1, remaining=700), common_pb2.Lot(lot_id=2, remaining=900, held=250)]
    lots[0].available_from.FromJsonString("2030-01-02T03:04:00Z")
    answers = {"GetWallet": wallet_service_pb2.GetWalletResponse(), "GetProgram": PROGRAM}
    shown = []
    for some in (lots, [common_pb2.Lot(lot_id=3, remaining=100)]):
        page = wallet_service_pb2.ListLotsResponse(lots=some)
        more = {"ListLots": page, "ListTransactions": wallet_service_pb2.ListTransactionsResponse()}
        with answering({**answers, **more}) as address:
            done = CliRunner().invoke(main, ["wallet", "show", "1", "--token", "pk_a_b", "--address", address])
        assert 0 == done.exit_code, done.output
        shown.append([line.split("never")[-1].strip() for line in done.output.splitlines() if "never" in line])

    assert [["promised until 2030-01-02 03:04", "2.50 held"], [""]] == shown


def test_a_terminal_without_lines() -> None:
    """The tree is drawn with what there is; other letters are escaped, and nothing breaks."""
    with answering({"TraceLot": TRACE, "GetProgram": PROGRAM}) as address:
        done = printed("trace", "1", "--address", address, PYTHONIOENCODING="latin-1")

    assert (0, "`- lot 2") == (done.returncode, done.stdout.splitlines()[1].partition(":")[0]), done.stderr


def test_a_full_disk() -> None:
    """A sentence and exit code 1, for a table and for JSON."""
    for arguments in (["codes"], ["codes", "--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "points_grpc", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=100,
            )

        assert (1, "Error: what it prints cannot be written: no space left on device\n") == (
            done.returncode,
            done.stderr,
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trace", "9" * 23), "is not in the range"),
        (("wallet", "show", "1", "--program", "9" * 23), "is not in the range"),
        (("orgs", "list", "--database", "sqlite:///points.db", "--nonsense"), "No such option"),
        (("keys", "list", "--org", "9" * 23), "is not in the range"),
        (("call", "foo.Bar/GetWallet"), "foo.Bar has no RPC GetWallet; it is points.v1.WalletService/GetWallet"),
        (("call", "PointsService/GetWallet"), "PointsService has no RPC GetWallet"),
        (("call", "GetWallet", "null"), "a JSON object is wanted"),
        (("call", "GetWallet", "[1]"), "a JSON object is wanted"),
        (("call", "GetWallet", "{"), "Failed to load JSON: "),
    ],
)
def test_misuse_is_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    """And exit code 2."""
    done = CliRunner().invoke(main, arguments, env={"POINTS_GRPC_TOKEN": "pk_a_b"})

    assert (2, True) == (done.exit_code, says in " ".join(done.output.split())), done.output


def test_a_batch_that_nobody_answers() -> None:
    """What `call` prints names the request ids of the items, so that a person can send the same ones again."""
    batch = '{"requests": [{"request_id": "mine"}, {}]}'
    asked = ["call", "BatchTransferPoints", batch, "--token", "pk_a_b", "--address", "127.0.0.1:1", "--timeout", "0.2"]
    done = CliRunner().invoke(main, asked)

    told = json.loads(done.stderr)
    assert (1, True, "mine", 36) == (
        done.exit_code,
        told["outcome_open"],
        told["request_ids"][0],
        len(told["request_ids"][1]),
    )
