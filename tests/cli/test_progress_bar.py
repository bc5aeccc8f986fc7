"""The progress bar, on terminals of several widths: a line that wraps is never overwritten, so none does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from points_grpc.cli.progress import told

END = "(end)"


@contextmanager
def terminal(columns: int) -> Iterator[tuple[TextIO, int]]:
    """A terminal of a width: to write to, and the end where what it shows is read."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "w") as file:
        yield file, ours
    os.close(ours)


def shown(columns: int, monkeypatch: pytest.MonkeyPatch, *, label: str, more: str) -> list[str]:
    """What a bar draws, a text for each time that it goes back to the beginning of its line."""
    with terminal(columns) as (file, ours):
        monkeypatch.setattr(sys, "stderr", file)
        began = time.time()
        with told(label) as tell:
            for hours, done in enumerate((0, 1000, 500_000, 999_000, 1_000_000)):
                monkeypatch.setattr("click._termui_impl.time.time", lambda hours=hours: began + 3600 * hours)
                tell(done, 1_000_000, more=more)
        monkeypatch.undo()
        print(END, end="", file=file, flush=True)
        raw = b""
        while END.encode() not in raw:
            raw += os.read(ours, 4096)
    text = raw.decode().removesuffix(END)
    return [line.rstrip() for line in re.split(r"[\r\n]|\x1b\[\?25[lh]", text) if line.strip()]


@pytest.mark.parametrize("columns", [20, 50, 79, 80, 86, 200])
@pytest.mark.parametrize("more", ["", "12345 refused"])
def test_no_line_is_wider_than_the_terminal(columns: int, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time left, in hours or days, and with a long text beside it."""
    lines = shown(columns, monkeypatch, label="import", more=more)

    assert [] == [line for line in lines if len(line) >= max(columns, 40)]
    assert any(re.search(r"\dd \d\d:", line) for line in lines)
    assert "100%" in lines[-1]


def test_a_bar_that_fits_is_as_wide_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """36 characters, on a terminal that has the room; one that does not say its width is taken for 80 columns."""
    wide = shown(200, monkeypatch, label="import", more="12 refused")
    unknown = shown(0, monkeypatch, label="import", more="")

    assert f"import  [{'#' * 36}]  100%  " in wide[-1]
    assert wide[-1].endswith("rows/s, 12 refused")
    assert f"import  [{'#' * 36}]  100%  " in unknown[-1]
