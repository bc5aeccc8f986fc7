"""How many rows become one step of the engine: texts of statements, rewritten once and remembered.

Texts only, all of them written by `statements`; values are always bound.
"""

from __future__ import annotations

import re
from functools import lru_cache

_VALUES = re.compile(r"VALUES (\([?, ]+\))")


@lru_cache(maxsize=1024)
def for_rows(text: str, rows: int) -> str:
    """An INSERT of one row as an INSERT of so many; values bound row by row in the same order."""
    found = _VALUES.search(text)
    if found is None:
        raise AssertionError(f"no INSERT of values: {text}")
    return f"{text[: found.start(1)]}{', '.join([found[1]] * rows)}{text[found.end(1) :]}"


def inserts_values(text: str) -> bool:
    """Whether a statement is an INSERT that `for_rows` can extend."""
    return _VALUES.search(text) is not None


def as_one_value(text: str, columns: int) -> str:
    """A query whose rows come as one JSON array of arrays."""
    names = ", ".join(f"c{number}" for number in range(columns))
    return f"WITH found({names}) AS ({text}) SELECT json_group_array(json_array({names})) FROM found"  # noqa: S608
