"""`points-grpc codes`: the catalogue as a table and as JSON."""

from __future__ import annotations

import json

from click.testing import CliRunner

from points_grpc.cli.main import main
from points_grpc.codes import CATALOGUE


def test_all_codes() -> None:
    """One line each beneath the names of the columns; as JSON with all that is known of each."""
    lines = CliRunner().invoke(main, ["codes"]).output.splitlines()
    [document] = CliRunner().invoke(main, ["codes", "--json"]).output.splitlines()

    assert 1 + len(CATALOGUE) == len(lines)
    assert [one.reason for one in CATALOGUE] == [line.split()[2] for line in lines[1:]]
    assert [(one.number, one.message) for one in CATALOGUE] == [
        (one["number"], one["message"]) for one in json.loads(document)["codes"]
    ]


def test_some_codes() -> None:
    """By number, in whatever table it stands; by reason; by table."""
    by_number = CliRunner().invoke(main, ["codes", "817", "insufficient_points"]).output.splitlines()
    by_table = json.loads(CliRunner().invoke(main, ["codes", "--table", "warning", "--json"]).output)["codes"]

    assert {"817"} <= {line.split()[1] for line in by_number[1:]}
    assert {"warning"} == {one["table"] for one in by_table}


def test_no_such_code() -> None:
    """A sentence, and exit code 1."""
    result = CliRunner().invoke(main, ["codes", "7"])

    assert (1, "Error: there is no such code\n") == (result.exit_code, result.output)
