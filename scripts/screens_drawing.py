"""SVG by hand: a terminal with lines of text, and the panels of a dashboard where they stand.

Every text is an element of its own, so that a test can read what a picture says. Nothing is drawn that was not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SANS = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
PROMPT = "$ "

CHARACTER = 8.4
"""How wide one is; lines are stretched to it, so that columns stand beneath each other in any font."""

LINE = 20
MARGIN = 18
BAR = 34


def terminal(title: str, lines: Sequence[str]) -> str:
    """A terminal that shows some lines; those that begin with a prompt were typed."""
    width = round(2 * MARGIN + CHARACTER * max(map(len, lines)))
    height = BAR + LINE * len(lines) + MARGIN
    parts = [
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e2127"/>',
        *(
            f'<circle cx="{20 + 20 * place}" cy="17" r="6" fill="{colour}"/>'
            for place, colour in enumerate(("#e06c75", "#e5c07b", "#98c379"))
        ),
        f'<g font-family="{MONO}" font-size="14" xml:space="preserve">',
        *(_line(number, line) for number, line in enumerate(lines) if line),
        "</g>",
    ]
    return _svg(title, width, height, parts)


def _line(number: int, line: str) -> str:
    """One line."""
    colour = "#98c379" if line.startswith(PROMPT) else "#d7dae0"
    place = f'x="{MARGIN}" y="{BAR + LINE * (number + 1) - 6}" textLength="{len(line) * CHARACTER:.1f}"'
    return f'<text {place} lengthAdjust="spacingAndGlyphs" fill="{colour}">{escape(line)}</text>'


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard: its place in the grid, what it is called, and the metrics that it shows."""

    left: int
    top: int
    width: int
    height: int
    title: str
    metrics: tuple[str, ...]
    is_row: bool


COLUMN = 40
ROW = 11
GAP = 4


def dashboard(title: str, panels: Sequence[Panel]) -> str:
    """The panels where they stand, with their titles and metrics. No curves: those are of whoever looks."""
    width = COLUMN * max(one.left + one.width for one in panels) + GAP
    places, height = _places(panels)
    parts = [f'<rect width="{width}" height="{height}" rx="8" fill="#111217"/>']
    for one, top in zip(panels, places, strict=True):
        parts += _row(one, top) if one.is_row else _panel(one, top)
    return _svg(title, width, height, parts)


def _places(panels: Sequence[Panel]) -> tuple[list[int], int]:
    """Where each begins, and where all end: a row of the grid is small, and the head of a group is a line of text."""
    heads = sorted(one.top for one in panels if one.is_row)

    def place(top: int) -> int:
        return GAP + top * ROW + sum(LINE for head in heads if head < top)

    return [place(one.top) for one in panels], max(place(one.top + one.height) for one in panels)


def _row(one: Panel, top: int) -> list[str]:
    """The head of a group."""
    return [f'<text x="{MARGIN}" y="{top + LINE}" fill="#ccccdc" {_font(SANS, 14)}>{escape(one.title)}</text>']


def _panel(one: Panel, top: int) -> list[str]:
    """A box with a title, and its metrics beneath."""
    left = GAP + one.left * COLUMN
    box = f'x="{left}" y="{top}" width="{one.width * COLUMN - GAP}" height="{one.height * ROW - GAP}"'
    inner = f'x="{left + 10}"'
    return [
        f'<rect {box} rx="3" fill="#181b1f" stroke="#2f3138"/>',
        f'<text {inner} y="{top + 20}" fill="#ffffff" {_font(SANS, 13)}>{escape(one.title)}</text>',
        *(
            f'<text {inner} y="{top + 40 + 15 * place}" fill="#8ab8ff" {_font(MONO, 11)}>{escape(metric)}</text>'
            for place, metric in enumerate(one.metrics)
        ),
    ]


def _font(family: str, size: int) -> str:
    return f'font-family="{family}" font-size="{size}"'


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    """The file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join([f'{head} role="img">', f"<title>{escape(title)}</title>", *parts, "</svg>", ""])
