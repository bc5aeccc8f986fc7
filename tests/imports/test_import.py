"""`points-grpc import` over a real port: every row once, refused rows in the report, nothing trusted that is a file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from points_grpc.cli.import_progress import load, save
from points_grpc.cli.import_sending import Patience, Stopped
from points_grpc.client import NotAnswered, PointsClient
from points_grpc.client.errors import Silence
from points_grpc.codes import GrpcCode
from points_grpc.v1 import common_pb2, customer_service_pb2, program_service_pb2, wallet_service_pb2
from running import RunningServer

Command = Callable[..., Result]


def current(server: RunningServer, customer_id: int) -> int:
    """What a customer has in the demonstration program."""
    who = common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))
    with PointsClient(server.address, server.token) as points:
        return points.get_wallet(wallet_service_pb2.GetWalletRequest(customer_identifier=who)).wallet.current


def summary(text: str) -> dict[str, Any]:
    """What matters of a summary in JSON."""
    found = json.loads(text.splitlines()[-1])
    return {name: found[name] for name in ("rows", "accepted", "replayed", "refused", "empty", "skipped")}


def make_customers(command: Command, folder: Path, *ids: int) -> None:
    """Creates customers by an import."""
    (folder / "c.csv").write_text("customer_id,programs\n" + "".join(f"{one},973\n" for one in ids))
    done = command("import", "customers", "c.csv")

    assert 0 == done.exit_code, done.output


def test_rows_once_and_the_rest_in_the_report(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """Good rows are carried out, bad ones reported with row, code, reason and message; again, nothing happens twice."""
    make_customers(command, tmp_path, 101, 102)
    (tmp_path / "p.csv").write_text(
        "customer_id,points,source,expires,notes\n"
        '101,50,GOODWILL,12 months,"with, a comma"\n'
        "\n"
        "102,70,goodwill,2035-12-31,\n"
        "999,1,GOODWILL,never,=cmd()\n"
        "101,ten,GOODWILL,never,\n"
        "101,0,GOODWILL,never,\n"
        "101,1\n"
    )
    first = command("import", "points", "p.csv", "--json")
    again = command("import", "points", "p.csv", "--json")
    (tmp_path / "p.csv.progress.json").unlink()
    anew = command("import", "points", "p.csv", "--json")
    report = (tmp_path / "p.csv.refused.csv").read_text().splitlines()
    counts = {"rows": 6, "accepted": 2, "refused": 4, "empty": 0}

    assert (3, 3, 3) == (first.exit_code, again.exit_code, anew.exit_code), first.output
    assert counts | {"replayed": 0, "skipped": 0} == summary(first.output)
    assert counts | {"replayed": 2, "skipped": 6} == summary(again.output)
    assert counts | {"replayed": 2, "skipped": 0} == summary(anew.output)
    assert (50, 70) == (current(server, 101), current(server, 102))
    assert "row,code,reason,message,customer_id,points,source,expires,notes" == report[0]
    assert ["5,816,", "6,801,", "7,801,", "8,10004,"] == [line[: line.index(",", 2) + 1] for line in report[1:]]
    assert report[1].endswith(",999,1,GOODWILL,never,'=cmd()")


def test_a_corrected_report_is_a_file_to_import(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """The rows that were refused are imported from the report, once what was wrong is mended."""
    make_customers(command, tmp_path, 111)
    (tmp_path / "p.csv").write_text("points,customer_id,source\n5,111,GOODWILL\nfive,111,GOODWILL\n")
    command("import", "points", "p.csv")
    report = tmp_path / "p.csv.refused.csv"
    report.write_text(report.read_text().replace("five", "6"))
    done = command("import", "points", report.name, "--json")

    assert {"rows": 1, "accepted": 1, "replayed": 0, "refused": 0, "empty": 0, "skipped": 0} == summary(done.output)
    assert 11 == current(server, 111)


@pytest.mark.ci
def test_a_file_that_changed(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """Without a name it is refused; under the name of before, new rows are done and changed ones are refused."""
    make_customers(command, tmp_path, 121)
    file = tmp_path / "p.csv"
    file.write_text("customer_id,points,source\n121,5,GOODWILL\n121,6,GOODWILL\n")
    command("import", "points", "p.csv", "--name", "march")
    file.write_text("customer_id,points,source\n121,5,GOODWILL\n121,7,GOODWILL\n121,8,GOODWILL\n")
    unnamed = command("import", "points", "p.csv")
    named = command("import", "points", "p.csv", "--name", "march", "--json")

    assert 2 == unnamed.exit_code
    assert "has changed since it was imported" in " ".join(unnamed.output.split())
    assert {"rows": 3, "accepted": 2, "replayed": 1, "refused": 1, "empty": 0, "skipped": 0} == summary(named.output)
    assert "\n3,10006,REQUEST_ID_REUSED," in (tmp_path / "p.csv.refused.csv").read_text()
    assert 19 == current(server, 121)


def test_a_progress_that_lies(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """Rows that a progress of another server claims are done all the same: its witnesses are unknown here."""
    make_customers(command, tmp_path, 131)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n131,5,GOODWILL\n")
    command("import", "points", "p.csv", "--name", "elsewhere")
    progress = load(tmp_path / "p.csv.progress.json")
    assert progress is not None
    (tmp_path / "p.csv").write_text("customer_id,points,source\n131,5,GOODWILL\n131,9,GOODWILL\n")
    done = command("import", "points", "p.csv", "--name", "here", "--dry-run")
    from points_grpc.cli.import_file import CsvFile
    from points_grpc.cli.import_rows import Kind
    from points_grpc.cli.import_run import import_id

    file = CsvFile(tmp_path / "p.csv", ",")
    survey = file.survey(Kind.POINTS)
    file.close()
    lie = type(progress)(
        import_id(Kind.POINTS, "here"), survey.digest, progress.place, progress.counts, 0, (2,), finished=True
    )
    save(tmp_path / "p.csv.progress.json", lie)
    real = command("import", "points", "p.csv", "--name", "here", "--json")

    assert 0 == done.exit_code, done.output
    assert {"rows": 2, "accepted": 2, "replayed": 0, "refused": 0, "empty": 0, "skipped": 0} == summary(real.output)
    assert 19 == current(server, 131)


def test_opening_balances(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """They are lots from an earlier system with their expiry; 0 writes nothing; an expiry is asked for."""
    make_customers(command, tmp_path, 141)
    (tmp_path / "b.csv").write_text(
        "customer_id;balance;expires\n141;100;2035-12-31\n141;20;never\n141;0;never\n141;5;\n"
        "141;-5;never\n141;50;2020-01-01\n"
    )
    done = command("import", "balances", "b.csv", "--delimiter", ";", "--json")
    who = common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value="141")
    with PointsClient(server.address, server.token) as points:
        lots = points.list_lots(wallet_service_pb2.ListLotsRequest(customer_identifier=who)).lots

    assert {"rows": 6, "accepted": 3, "replayed": 0, "refused": 2, "empty": 1, "skipped": 0} == summary(done.output)
    assert 1 == json.loads(done.output.splitlines()[-1])["expired"]
    assert "balance: from 0 to 1000000000000" in (tmp_path / "b.csv.refused.csv").read_text()
    assert [(100, "DATA_IMPORT", True), (20, "DATA_IMPORT", False)] == [
        (lot.points, common_pb2.Lot.Source.Name(lot.source), lot.HasField("expires_at")) for lot in lots
    ]


def test_a_dry_run_writes_nothing(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """It judges form, programs and parties, and leaves no progress."""
    make_customers(command, tmp_path, 151)
    (tmp_path / "p.csv").write_text(
        "customer_id,mobile,points,source,program_id\n"
        "151,,5,GOODWILL,973\n151,,5,GOODWILL,974\n,09148574269,5,GOODWILL,\n,12,5,GOODWILL,\n15100,,5,GOODWILL,\n"
        "151,,0,GOODWILL,\n"
    )
    (tmp_path / "n.csv").write_text("customer_id,mobile,programs\n151,,973\n152,9148574269,973\n153,,974\n154,,973\n")
    points = command("import", "points", "p.csv", "--dry-run")
    names = command("import", "customers", "n.csv", "--dry-run")
    again = command("import", "customers", "c.csv", "--dry-run", "--json")
    judged = [
        [line.split(",")[:2] for line in (tmp_path / f"{name}.csv.check.csv").read_text().splitlines()[1:]]
        for name in "pn"
    ]

    assert [["3", "895"], ["5", "802"], ["6", "816"], ["7", "801"]] == judged[0], points.output
    assert [["2", "10013"], ["3", "10013"], ["4", "895"]] == judged[1], names.output
    assert {"rows": 1, "accepted": 1, "replayed": 1, "refused": 0, "empty": 0, "skipped": 0} == summary(again.output)
    assert 0 == current(server, 151)
    assert not (tmp_path / "p.csv.progress.json").exists()


def test_a_dry_run_agrees_with_the_deed(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """A promise beyond the expiry, one who was erased, an ended program: judged alike by both."""
    make_customers(command, tmp_path, 155, 156)
    with PointsClient(server.address, server.token) as points:
        points.create_program(
            program_service_pb2.CreateProgramRequest(program_id=981, name="Ended", time_zone="Asia/Kolkata")
        )
        points.set_program_active(
            program_service_pb2.SetProgramActiveRequest(program_id=981, active=False, reason="it is over")
        )
        who = common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value="156")
        points.erase_customer(customer_service_pb2.EraseCustomerRequest(customer_identifier=who, reason="asked for it"))
    (tmp_path / "p.csv").write_text(
        "customer_id,points,source,program_id,earning_program_id,available_from,expires\n"
        "155,1,GOODWILL,,,,\n155,1,GOODWILL,981,,,\n155,1,GOODWILL,,981,,\n156,1,GOODWILL,,,,\n"
        "155,1,GOODWILL,,,2031-01-01T00:00:00Z,2030-12-31T00:00:00Z\n155,1,GOODWILL,,,2030-12-31T20:00:00Z,2030-12-31\n"
        "155,1,GOODWILL,,,2030-12-31T18:00:00Z,2030-12-31\n"
    )
    dry = command("import", "points", "p.csv", "--dry-run", "--json")
    deed = command("import", "points", "p.csv", "--json")
    checked, refused = (
        [line.split(",")[:2] for line in (tmp_path / f"p.csv.{name}.csv").read_text().splitlines()[1:]]
        for name in ("check", "refused")
    )

    assert [["3", "895"], ["5", "816"], ["6", "10004"], ["7", "10004"]] == refused, deed.output
    assert refused == checked
    assert summary(deed.output) == summary(dry.output)


def test_waiting_is_told() -> None:
    """A server that does not answer is waited for with a word, once for each silence, and then the import stops."""
    words: list[str] = []
    patience = Patience(60, words.append)
    silence = NotAnswered(Silence(GrpcCode.UNAVAILABLE, "away", "", wrote=True))
    for since_s in (0, 6, 7):
        patience.answered_at = time.monotonic() - since_s
        asyncio.run(patience.wait(silence))
    patience.answered()
    patience.answered_at -= 8
    asyncio.run(patience.wait(silence))
    patience.answered_at -= 60
    with pytest.raises(Stopped):
        asyncio.run(patience.wait(silence))

    assert ["waiting for the server, 60 seconds at most: UNAVAILABLE away"] * 2 == words


def test_what_stops_an_import(command: Command, tmp_path: Path) -> None:
    """A key that is none, a server that is away, too many refusals: exit code 1 and a sentence, to be run again."""
    (tmp_path / "p.csv").write_text("customer_id,points,source\n" + "9998,1,GOODWILL\n" * 3)
    key = command("import", "points", "p.csv", "--token", "pk_a_b")
    away = command("import", "points", "p.csv", "--address", "127.0.0.1:1", "--wait", "0")
    many = command("import", "points", "p.csv", "--refused-max", "2")

    assert (1, 1, 1) == (key.exit_code, away.exit_code, many.exit_code)
    assert "UNAUTHENTICATED" in key.output
    assert "nothing got an answer for 0 seconds" in away.output
    assert "more than 2 rows were refused" in many.output


def test_misuse(command: Command, tmp_path: Path) -> None:
    """A file without form is told before anything is sent, with exit code 2."""
    files = {
        "a": ("customer_id,point\n", "did you mean points?"),
        "b": ("", "is empty"),
        "c": ("customer_id\n", "points need a column points"),
        "d": ('customer_id,points\n1,"2"3\n', "row 2"),
        "e": ("points,points\n", "named twice"),
    }
    for name, (text, says) in files.items():
        (tmp_path / name).write_text(text)
        done = command("import", "points", name)

        assert 2 == done.exit_code, name
        assert says in " ".join(done.output.split()), name
