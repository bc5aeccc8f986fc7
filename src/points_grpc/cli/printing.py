"""What commands print: a table for people, one JSON document for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import click

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_NONE = "-"

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")


def print_json(document: object) -> None:
    """One document on one line, in UTF-8 whatever the terminal speaks: programs read it."""
    import msgspec  # noqa: PLC0415 - of the server's installation, and only where JSON is wanted

    click.echo(msgspec.json.encode(document))


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need; numbers to the right, with what stands where there is none."""
    cells = [tuple(names), *(tuple(str(one) for one in row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(names))]
    numeric = [_is_numeric([row[place] for row in cells[1:]]) for place in range(len(names))]
    for row in cells:
        padded = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _is_numeric(column: Sequence[str]) -> bool:
    """Whether there are numbers, whole or with decimal places, and nothing else."""
    numbers = [cell for cell in column if cell != _NONE]
    return bool(numbers) and all(_NUMBER.fullmatch(cell) for cell in numbers)
