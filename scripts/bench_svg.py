"""Bars and ranges as SVG, with nothing but text: readable in light and dark, and aloud.

Every picture has a title and a description that says its figures; colours are told apart by people who see few of them
(Okabe and Ito); every bar has its figure beside it. Elements that show a figure say of what in `data-of`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH, LABELS, FIGURES = 860, 270, 200
"""Of the whole, of the names on the left and of the figures on the right, in pixels."""

ROW, BAR, HEAD, TOP, MARGIN = 22, 14, 34, 64, 16

LOGARITHM_FROM = 0.01
"""Where a logarithmic scale begins that has nothing to show: no call was answered."""

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8b949e")

STYLE = (
    "text{font-family:system-ui,Helvetica,Arial,'DejaVu Sans',sans-serif;font-size:13px;fill:#1f2328}"
    ".title{font-size:16px;font-weight:600}.head{font-weight:600}"
    ".muted{fill:#59636e}.line{stroke:#59636e;stroke-width:2}.grid{stroke:#d1d9e0}"
    + "".join(f".c{number}{{fill:{colour}}}" for number, colour in enumerate(COLOURS))
    + "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.muted{fill:#9198a1}.line{stroke:#9198a1}"
    ".grid{stroke:#3d444d}.c0{fill:#4aa8e0}}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: a name, its parts (the number of a series, and how much), and the figure that is written beside them."""

    name: str
    parts: Sequence[tuple[int, float]]
    figure: str
    of: str


@dataclass(frozen=True, slots=True)
class Range:
    """One row on a logarithmic scale: from the median to the slowest hundredth."""

    name: str
    low: float
    high: float
    figure: str
    of: str


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a heading, on a scale of their own."""

    heading: str
    rows: Sequence[Bar | Range]


def picture(title: str, sections: Sequence[Section], *, series: Sequence[str] = (), note: str = "") -> str:
    """A whole picture. `series` are the names of the colours, in order."""
    top = TOP + (ROW if series else 0)
    height = top + sum(HEAD + ROW * len(section.rows) for section in sections) + MARGIN
    told = "; ".join(
        f"{section.heading}: {', '.join(f'{row.name} {row.figure}' for row in section.rows)}" for section in sections
    )
    frame = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
    lines = [
        f'<svg {frame} aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(f"{note} {told}".strip())}</desc>',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="28">{escape(title)}</text>',
        f'<text class="muted" x="{MARGIN}" y="48">{escape(note)}</text>',
        *_legend(series),
    ]
    for section in sections:
        lines += _section(section, top)
        top += HEAD + ROW * len(section.rows)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(series: Sequence[str]) -> Iterator[str]:
    at = MARGIN
    for number, name in enumerate(series):
        yield f'<rect class="c{number}" x="{at}" y="{TOP}" width="12" height="12"/>'
        yield f'<text x="{at + 18}" y="{TOP + 11}">{escape(name)}</text>'
        at += 38 + 7 * len(name)


def _section(section: Section, top: int) -> Iterator[str]:
    yield f'<text class="head" x="{MARGIN}" y="{top + 22}">{escape(section.heading)}</text>'
    scale = _scale(section)
    for number, row in enumerate(section.rows):
        y = top + HEAD + ROW * number
        yield f'<text x="{LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(row.name)}</text>'
        end = float(LABELS)
        if isinstance(row, Range):
            start, end = LABELS + scale(row.low), LABELS + scale(row.high)
            yield f'<line class="line" x1="{start:.1f}" x2="{end:.1f}" y1="{y + 7}" y2="{y + 7}"/>'
            yield f'<circle class="c0" cx="{start:.1f}" cy="{y + 7}" r="5"/>'
            yield f'<circle class="c1" cx="{end:.1f}" cy="{y + 7}" r="5"/>'
        else:
            for series, amount in row.parts:
                width = scale(amount)
                yield f'<rect class="c{series}" x="{end:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
                end += width
        figure = f'<text class="value" data-of={quoteattr(row.of)} x="{end + 10:.1f}" y="{y + 12}">'
        yield f"{figure}{escape(row.figure)}</text>"


class _Scale:
    """Figures as pixels."""

    def __init__(self, low: float, high: float) -> None:
        """From `low`, or from nothing on a plain scale; up to `high`."""
        self._low = low
        self._high = high

    def __call__(self, figure: float) -> float:
        room = WIDTH - LABELS - FIGURES - MARGIN
        if not self._low:
            return room * figure / (self._high or 1.0)
        return room * math.log(max(figure, self._low) / self._low) / (math.log(self._high / self._low) or 1.0)


def _scale(section: Section) -> _Scale:
    ranges = [row for row in section.rows if isinstance(row, Range)]
    if ranges:
        low = min(row.low for row in ranges) / 2 or LOGARITHM_FROM
        return _Scale(low, max(2 * low, *(row.high for row in ranges)))
    return _Scale(
        0.0, max((sum(amount for _, amount in row.parts) for row in section.rows if isinstance(row, Bar)), default=1.0)
    )
