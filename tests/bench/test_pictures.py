"""What the bench draws and writes: well formed whatever the names, true to scale, and in its place on a page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench_svg import Bar, Range, Section, picture
from bench_table import put_into

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*rows: Bar | Range, heading: str = "All") -> ElementTree.Element:
    """A picture of one section."""
    return ElementTree.fromstring(picture("A title", [Section(heading, rows)], series=("one", "two")))


def test_names_are_escaped_and_told() -> None:
    """A name may hold what XML does not allow, and the description says it with its figure."""
    root = drawn(Bar('<a & "b">', [(0, 1.0)], "1", 'of "<a>"'), heading="x < y")

    assert '<a & "b"> 1' in (root.findtext(f"{SVG}desc") or "")
    assert ['of "<a>"'] == [one.attrib["data-of"] for one in root.iter(f"{SVG}text") if "data-of" in one.attrib]


def test_bars_are_as_long_as_their_figures() -> None:
    """The parts of a bar stand in a row, each as long as its share of the largest bar."""
    root = drawn(Bar("a", [(0, 30.0), (1, 10.0)], "40", "a"), Bar("b", [(0, 20.0)], "20", "b"))
    bars = [one for one in root.iter(f"{SVG}rect") if one.attrib["height"] == "14"]
    widths = [float(one.attrib["width"]) for one in bars]
    starts = [float(one.attrib["x"]) for one in bars]

    assert [3, 1, 2] == [round(width / widths[1]) for width in widths]
    assert starts[0] + widths[0] == pytest.approx(starts[1], abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (5.0, 5.0), (0.4, 1_500.0)])
def test_ranges_have_a_place_whatever_they_are(low: float, high: float) -> None:
    """A range without width, or of nothing at all, is drawn within the picture."""
    root = drawn(Range("a", low, high, "some", "a"), Range("b", low, high, "some", "b"))
    places = [float(one.attrib["cx"]) for one in root.iter(f"{SVG}circle")]

    assert 4 == len(places)
    assert [] == [place for place in places if not 270 <= place <= 860 - 200]


def test_a_text_takes_its_place_on_a_page_again_and_again(tmp_path: Path) -> None:
    """What stands between the marks is replaced, what stands around them stays; a page without marks is refused."""
    page, bare = tmp_path / "page.md", tmp_path / "bare.md"
    page.write_text("Before.\n\n<!-- x -->\n<!-- end of x -->\n\nAfter.\n")
    bare.write_text("Nothing here.\n")
    for text in ("one", "two"):
        put_into(page, "x", f"{text}\n")

    assert "Before.\n\n<!-- x -->\n\ntwo\n\n<!-- end of x -->\n\nAfter.\n" == page.read_text()
    with pytest.raises(ValueError, match="has no marks"):
        put_into(bare, "x", "one\n")
