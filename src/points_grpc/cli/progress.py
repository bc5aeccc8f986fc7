"""How commands that take long tell how far they are: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import click

LINE_EVERY_S = 5.0
"""How often progress is told where there is no terminal."""

BAR_WIDTH_MAX = 36
_COLUMNS = 80


class Tell(Protocol):
    """Is told how many rows are done and how many there are in all; `before`: how many were done before this run."""

    def __call__(self, done: int, total: int, *, before: int = 0, more: str = "") -> None:
        """Something was done. `more` stands beside the rate."""
        ...


@contextmanager
def told(label: str) -> Iterator[Tell]:
    """Tells the progress on standard error, with rate and time left."""
    started = time.monotonic()
    with ExitStack() as stack:
        yield (_bar if sys.stderr.isatty() else _lines)(label, started, stack)


def _bar(label: str, started: float, stack: ExitStack) -> Tell:
    """A bar, which is there once it is known how many rows there are; a line that wraps would never be overwritten."""
    bars: list[click._termui_impl.ProgressBar[str]] = []  # click names the type nowhere else

    def fit(text: str | None) -> str | None:
        """Makes the bar as wide as the line has room for; as much of the text as there is room for."""
        if not bars:
            return text
        bar = bars[0]
        left = f"{bar.format_eta()}  " if bar.eta_known and not bar.finished else ""
        room = max(0, _columns() - 1 - len(f"{label}  []  100%  {left}"))
        shown = (text or "")[:room]
        bar.width = min(BAR_WIDTH_MAX, room - len(shown))
        return shown

    def tell(done: int, total: int, *, before: int = 0, more: str = "") -> None:
        if not bars:
            bar: click._termui_impl.ProgressBar[str] = click.progressbar(
                length=total,
                file=sys.stderr,
                label=label,
                show_eta=True,
                item_show_func=fit,  # which is called for every line, before its bar is drawn
                width=BAR_WIDTH_MAX,
            )
            bars.append(bar)
            stack.enter_context(bar)
        bars[0].length = total
        bars[0].update(done - bars[0].pos, _rate(done - before, started, more))

    return tell


def _columns() -> int:
    """How wide the terminal of standard error is; 80 if it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def _lines(label: str, started: float, _: ExitStack) -> Tell:
    told_at = started

    def tell(done: int, total: int, *, before: int = 0, more: str = "") -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at < LINE_EVERY_S and done < total:
            return
        told_at = now
        now_done = done - before
        left_s = round((total - done) * (now - started) / now_done) if now_done else 0
        left = f"{left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left"
        share = 100 * done // max(total, 1)
        click.echo(f"{label}: {done} of {total} rows, {share} %, {_rate(now_done, started, more)}, {left}", err=True)

    return tell


def _rate(done: int, started: float, more: str) -> str:
    """How fast, and what else there is to say."""
    rate = f"{done / max(time.monotonic() - started, 0.001):.0f} rows/s"
    return f"{rate}, {more}" if more else rate
