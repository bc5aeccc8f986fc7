"""An import that is run again: what it was told before, what it says of rows that had their outcome, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from points_grpc.client import PointsClient
from points_grpc.v1 import common_pb2, program_service_pb2, wallet_service_pb2
from running import RunningServer

Command = Callable[..., Result]


def current(server: RunningServer, customer_id: int, program_id: int = 973) -> int:
    """What a customer has in a program."""
    who = common_pb2.CustomerIdentifier(type=common_pb2.CustomerIdentifier.ID, value=str(customer_id))
    asked = wallet_service_pb2.GetWalletRequest(customer_identifier=who, program_id=program_id)
    with PointsClient(server.address, server.token) as points:
        return points.get_wallet(asked).wallet.current


def make_customers(command: Command, folder: Path, *ids: int) -> None:
    """Creates customers by an import."""
    (folder / "c.csv").write_text("customer_id,programs\n" + "".join(f"{one},973\n" for one in ids))
    done = command("import", "customers", "c.csv")

    assert 0 == done.exit_code, done.output


def test_other_defaults_are_told(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """--program and --source are part of the rows: said differently, the import is refused and not passed over."""
    make_customers(command, tmp_path, 401)
    (tmp_path / "p.csv").write_text("customer_id,points\n401,5\n")
    first = command("import", "points", "p.csv", "--program", "973", "--source", "GOODWILL")
    program = command("import", "points", "p.csv", "--program", "974", "--source", "GOODWILL")
    source = command("import", "points", "p.csv", "--program", "973", "--source", "ENGAGE_PLUS")
    again = command("import", "points", "p.csv", "--program", "973", "--source", "GOODWILL")
    text = " ".join(program.output.split())

    assert (0, 2, 2, 0) == (first.exit_code, program.exit_code, source.exit_code, again.exit_code)
    assert "imported with --program 973 and --source GOODWILL, and with --program 974 and --source GOODWILL" in text
    assert 5 == current(server, 401)


def test_defaults_without_the_progress(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """Where nobody knows what was said before, the server does: the row is refused, since its content is another."""
    make_customers(command, tmp_path, 411)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n411,5,GOODWILL\n")
    command("import", "points", "p.csv")
    (tmp_path / "p.csv.progress.json").unlink()
    other = command("import", "points", "p.csv", "--program", "973")

    assert 3 == other.exit_code, other.output
    assert "\n2,10006,REQUEST_ID_REUSED," in (tmp_path / "p.csv.refused.csv").read_text()
    assert 5 == current(server, 411)


def test_a_name_that_is_forgotten(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """What was imported under a name is not done again by the digest of the file."""
    make_customers(command, tmp_path, 421)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n421,5,GOODWILL\n")
    command("import", "points", "p.csv", "--name", "april")
    unnamed = command("import", "points", "p.csv")

    assert 2 == unnamed.exit_code, unnamed.output
    assert "was imported with --name april" in " ".join(unnamed.output.split())
    assert 5 == current(server, 421)


def test_recorded_refusals_are_told(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """A row that the rules refused stays refused when its cause is gone; that is told, and the report is imported."""
    make_customers(command, tmp_path, 431)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n431,5,GOODWILL\n432,6,GOODWILL\n")
    first = command("import", "points", "p.csv")
    (tmp_path / "n.csv").write_text("customer_id,programs\n432,973\n")
    command("import", "customers", "n.csv")
    again = command("import", "points", "p.csv")
    (tmp_path / "p.csv.progress.json").unlink()
    replayed = command("import", "points", "p.csv")
    report = command("import", "points", "p.csv.refused.csv")
    stays = "what was refused earlier stays so, whatever changed since: import p.csv.refused.csv to try it again"

    assert "2 rows: 1 accepted, 1 refused\nthe refused rows are in p.csv.refused.csv\n" in first.output
    assert "stays so" not in first.output
    for one in (again, replayed):
        assert "2 rows: 1 accepted, 1 of them earlier, 1 refused, 1 of them earlier\n" in one.output
        assert one.output.endswith(f"{stays}\n")
    assert (0, 6) == (report.exit_code, current(server, 432))


def test_counts_agree(command: Command, tmp_path: Path) -> None:
    """What had its outcome before a run is counted once, whether the progress knows it or the server."""
    make_customers(command, tmp_path, 441)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n" + "441,5,GOODWILL\n" * 3 + "9441,1,GOODWILL\n")
    command("import", "points", "p.csv")
    (tmp_path / "p.csv.progress.json").unlink()
    command("import", "points", "p.csv")
    last = json.loads(command("import", "points", "p.csv", "--json").output.splitlines()[-1])

    assert (4, 3, 3, 1, 1, 4) == tuple(
        last[name] for name in ("rows", "accepted", "replayed", "refused", "repeated", "skipped")
    )


def test_the_report_imported_unchanged_is_refused_again(command: Command, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 and surplus fields are there as they stood, so that nobody is made of what is left."""
    (tmp_path / "c.csv").write_bytes(b"customer_id,first_name\n451,Jos\xe9\n452,Asha,more\n")
    first = command("import", "customers", "c.csv")
    again = command("import", "customers", "c.csv.refused.csv")

    assert (3, 3) == (first.exit_code, again.exit_code), again.output
    assert "2 rows: 0 accepted, 2 refused\n" in again.output
    assert [b"451,Jos\xe9", b"452,Asha,more"] == [
        line.split(b'as the first line has",')[-1].split(b"text in UTF-8,")[-1]
        for line in (tmp_path / "c.csv.refused.csv").read_bytes().splitlines()[1:]
    ]


@pytest.mark.parametrize(
    ("arguments", "says", "again"),
    [
        (("--token", "pk_a_b"), "UNAUTHENTICATED", False),
        (("--address", "127.0.0.1:1", "--wait", "0"), "nothing got an answer for 0 seconds", True),
        (("--refused-max", "0"), "more than 0 rows were refused (--refused-max)", True),
    ],
)
def test_whether_another_run_helps(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], says: str, again: bool
) -> None:
    """Another run is advised where it can get further, and every sentence has one full stop."""
    (tmp_path / "p.csv").write_text("customer_id,points,source\n9461,1,GOODWILL\n")
    done = command("import", "points", "p.csv", *arguments)
    told = " ".join(done.output.split())

    assert 1 == done.exit_code, told
    assert says in told
    assert (again, False) == (
        told.endswith("Every row up to here has its outcome; run it again to go on"),
        ".." in told,
    )


def test_programs_that_come_later(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """All rows refused for a program that is not there: the same command says so again, with what to do."""
    make_customers(command, tmp_path, 471)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n471,5,GOODWILL\n")
    command("import", "points", "p.csv", "--program", "9471")
    with PointsClient(server.address, server.token) as points:
        points.create_program(program_service_pb2.CreateProgramRequest(program_id=9471, name="Late"))
    again = command("import", "points", "p.csv", "--program", "9471")

    assert "1 rows: 0 accepted, 1 refused, 1 of them earlier\n" in again.output
    assert "import p.csv.refused.csv to try it again\n" in again.output


def test_corrections_are_not_written_over(command: Command, server: RunningServer, tmp_path: Path) -> None:
    """A report that somebody corrected stays as it is when its import is run again; moved away, that goes on."""
    make_customers(command, tmp_path, 481)
    (tmp_path / "p.csv").write_text("customer_id,points,source\n481,5,GOODWILL\nfour eighty-one,6,GOODWILL\n")
    command("import", "points", "p.csv")
    report = tmp_path / "p.csv.refused.csv"
    corrected = report.read_text().replace("four eighty-one", "481")
    report.write_text(corrected)
    again = command("import", "points", "p.csv")
    kept = report.read_text()
    imported = command("import", "points", report.name)
    report.rename(tmp_path / "done.csv")
    anew = command("import", "points", "p.csv")

    assert (2, corrected) == (again.exit_code, kept)
    assert "has changed since it was written" in " ".join(again.output.split())
    assert (0, 11) == (imported.exit_code, current(server, 481))
    assert "2 rows: 1 accepted, 1 of them earlier, 1 refused\n" in anew.output
