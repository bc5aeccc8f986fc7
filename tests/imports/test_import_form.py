"""What a file for an import looks like: blank rows, delimiters, encodings, and what is told of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from points_grpc.cli.import_file import CsvFile, FileWrong, is_blank
from points_grpc.cli.import_rows import COLUMNS, Kind
from points_grpc.cli.main import main


def rows(path: Path, text: bytes, delimiter: str = ",") -> list[tuple[int, tuple[str, ...]]]:
    """The rows of a file of customers, with their numbers; as many as were counted."""
    path.write_bytes(text)
    file = CsvFile(path, delimiter)
    try:
        survey = file.survey(Kind.CUSTOMERS)
        found = [(one.end.row, one.fields) for one in file.records(survey.first, survey.columns)]
    finally:
        file.close()

    assert survey.rows == len(found)
    return found


@pytest.mark.parametrize("blank", [b"\n", b",,\n", b" , ,\n", b',"",\n', b",,,,\n", b",\n"])
def test_blank_rows_are_nobody(tmp_path: Path, blank: bytes) -> None:
    """A row of delimiters alone is no customer without a name: it is counted as a row and left out."""
    found = rows(tmp_path / "c", b"external_id,first_name,programs\nX1,a,973\n" + blank * 3 + b"X2,b,973\n")

    assert [(2, ("X1", "a", "973")), (6, ("X2", "b", "973"))] == found


@pytest.mark.parametrize("before", [b"\n", b",,\n\n", b"\xef\xbb\xbf\n", b"\r\n"])
def test_blank_rows_above_the_columns(tmp_path: Path, before: bytes) -> None:
    """The names of the columns stand in the first row that has something."""
    found = rows(tmp_path / "c", before + b"external_id,first_name\nX1,a\n")

    assert [("X1", "a")] == [fields for _, fields in found]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), True),
        (("4", "801", "A", "b", ""), True),
        (("", "", "", "", "x"), False),
        (("", "", "", "", "", "x"), False),
    ],
)
def test_what_a_report_says_is_not_the_row(fields: tuple[str, ...], expected: bool) -> None:
    """A row of a report is blank if everything of its own was deleted; what is beyond the columns is its own."""
    assert expected is is_blank(fields, ("row", "code", "reason", "message", "mobile"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("external_id,mobile\n".encode("utf-16"), "looks like UTF-16"),
        ("external_id,mobile\n".encode("utf-16-le"), "looks like UTF-16"),
        ("external_id,mobile\n".encode("utf-16-be"), "looks like UTF-16"),
        (b"external_id,pr\xe9nom\n", "the names of the columns are not in UTF-8"),
        (b"external_id;mobile\n1;2\n", "did you mean --delimiter ';'?"),
        (b"external_id\tmobile\n1\t2\n", "did you mean --delimiter tab?"),
        (b"external_id|mobile\n1|2\n", "did you mean --delimiter '|'?"),
        (b'"external_id";"mobile"\n', "--delimiter"),
        (b"external_id,mobil\n", "did you mean mobile?"),
        (b"\n\n,,\n", "is empty"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: bytes, says: str) -> None:
    """Another encoding and another delimiter are told by name."""
    with pytest.raises(FileWrong) as told:
        rows(tmp_path / "c", text)

    assert says in str(told.value)


def test_commas_in_a_file_of_semicolons(tmp_path: Path) -> None:
    """The hint goes the other way too."""
    with pytest.raises(FileWrong) as told:
        rows(tmp_path / "c", b"external_id,mobile\n", ";")

    assert "did you mean --delimiter ,?" in str(told.value)


@pytest.mark.parametrize(
    ("delimiter", "text", "says"),
    [
        ("tab", "customer_id\tpoints\n1\t5\n", "points need a source: a column source, or --source"),
        ("TAB", "customer_id\tpoints\n1\t5\n", "points need a source"),
        ("\\t", "customer_id\tpoints\n1\t5\n", "points need a source"),
        ("\t", "customer_id\tpoints\n1\t5\n", "points need a source"),
        (";;", "", "--delimiter: one character, or tab"),
        ('"', "", "--delimiter: one character, or tab"),
        ("", "", "--delimiter: one character, or tab"),
    ],
)
def test_what_is_wrong_with_every_row_is_told_once(tmp_path: Path, delimiter: str, text: str, says: str) -> None:
    """Before anything is sent; a tab has a name."""
    file = tmp_path / "p.csv"
    file.write_text(text)
    done = CliRunner().invoke(main, ("import", "points", "--token", "pk_a_b", "--delimiter", delimiter, str(file)))

    assert 2 == done.exit_code, done.output
    assert says in " ".join(done.output.split())


@pytest.mark.parametrize("kind", Kind)
def test_help_names_all_columns(kind: Kind) -> None:
    """Whoever asks for help sees every column that there is."""
    told = CliRunner().invoke(main, ("import", kind.value, "--help")).output

    assert [] == [column for column in COLUMNS[kind] if column not in told]
