"""docs/codes.md says what the catalogue says and what the service answered, and every code has an example there."""

from __future__ import annotations

import difflib
import re

from conformance_failures import ROWS as FAILURE_ROWS
from conformance_page import PAGE, page
from conformance_recording import RECORDINGS
from conformance_rows import ROWS

from points_grpc.codes import CATALOGUE


def test_every_row_is_recorded() -> None:
    """What is committed is the answer to each row of the table, in the order of the table, and to nothing else."""
    assert [row.name for row in (*ROWS, *FAILURE_ROWS)] == list(RECORDINGS.committed)


def test_page_is_up_to_date() -> None:
    """The page is what the recordings and the catalogue make; `pytest tests/conformance --record` writes it."""
    wanted, committed = page(RECORDINGS.committed), PAGE.read_text(encoding="utf-8")

    assert [] == list(difflib.unified_diff(committed.splitlines(), wanted.splitlines(), lineterm="", n=0))


def test_page_has_every_code() -> None:
    """Each code has a line in a summary, and a section with its message, what to do, and a recorded answer."""
    text = PAGE.read_text(encoding="utf-8")
    sections = {found[1]: found[0] for found in re.finditer(r"### \d+ (\w+)\n.*?(?=\n##|\Z)", text, re.DOTALL)}

    assert {code.reason for code in CATALOGUE} == sections.keys()
    for code in CATALOGUE:
        section = sections[code.reason]
        assert f"[{code.reason}](#{code.number}-{code.reason.lower()})" in text
        assert f"> {code.message}\n" in section
        assert "**What to do:**" in section
        assert f'"reason": "{code.reason}"' in section, code.reason


def test_page_depends_on_nothing_that_varies() -> None:
    """No telephone number, id or time of a run is in it."""
    found = re.findall(r"\b98\d{8}\b|\b\d{15,}\b|2\d\d\d-\d\d-\d\dT", PAGE.read_text(encoding="utf-8"))

    assert [] == [one for one in found if one != "2099-01-02T"]
