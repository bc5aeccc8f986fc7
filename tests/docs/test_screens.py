"""The pictures of docs/screens say what the commands print today, and what the file of the dashboard says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from running import RunningServer

ROOT = Path(__file__).parents[2]
SCREENS = ROOT / "docs" / "screens"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROWS = 1_000
"""Of the import: fewer than in the picture, for numbers are not compared."""

VARIABLE = (
    (re.compile(r"\[[#-]+\]  +\d+%(?:  \d\d:\d\d:\d\d)?"), "[BAR]"),
    (re.compile(r"\d+ rows"), "N rows"),
    (re.compile(r"\d+ accepted"), "N accepted"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d{15,19}\b"), "ID"),
)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the modules beside scripts/screens.py importable."""
    monkeypatch.syspath_prepend(ROOT / "scripts")


def script(name: str) -> ModuleType:
    """A module of scripts/."""
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def text_of(picture: str) -> list[str]:
    """The texts of a picture, from top to bottom."""
    root = ElementTree.parse(SCREENS / f"{picture}.svg").getroot()
    return [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]


def settled(lines: Sequence[str]) -> list[str]:
    """Lines with what differs from run to run replaced, and without padding that follows from it."""
    found = []
    for line in lines:
        text = line
        for pattern, replacement in VARIABLE:
            text = pattern.sub(replacement, text)
        if text:
            found.append(re.sub(r"(?<=\S) +", " ", text).strip())
    return found


@pytest.mark.ci
def test_screens_as_printed(tmp_path: Path, scripts: None) -> None:
    """Each picture has the lines that its command prints, ids, times and rates aside."""
    server = RunningServer(tmp_path, "--dev").start()
    try:
        shown = script("screens").capture(tmp_path, address=server.address, token=server.token, rows=ROWS)
    finally:
        server.close()

    assert {name: settled(lines) for name, lines in shown.items()} == {name: settled(text_of(name)) for name in shown}


def test_the_dashboard_as_it_is(scripts: None) -> None:
    """Picture and table are those that are made from the file of the dashboard."""
    page = ROOT / "docs" / "dashboard.md"
    pages = script("generate_pages")

    assert (SCREENS / "dashboard.svg").read_text() == script("screens").draw_dashboard()
    assert page.read_text() == pages.render_page(page, {"panels": pages.panels_table(ROOT)})


def test_every_panel_says_what_it_tells(scripts: None) -> None:
    """No panel is without a sentence, a curve without a name, or a query without its metric in the picture."""
    rows = [line.strip("| ").split(" | ") for line in script("generate_pages").panels_table(ROOT).splitlines()[2:]]
    drawn = text_of("dashboard")

    assert [4] * len(rows) == [len([cell for cell in row if cell.strip(": `")]) for row in rows]
    assert [] == [row[1] for row in rows if row[1] not in drawn]


def test_every_picture_is_shown() -> None:
    """Each is in the README or in a page, with a text for those who do not see it; every one that is shown is there."""
    shown = {
        (page.parent / path).resolve(): text
        for page in PAGES
        for text, path in re.findall(r"!\[(.*?)\]\(((?:docs/)?screens/[\w-]+\.svg)\)", page.read_text())
    }

    assert set(SCREENS.glob("*.svg")) == set(shown)
    assert all(shown.values())
