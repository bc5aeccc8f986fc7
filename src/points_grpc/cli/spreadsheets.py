"""Texts in files that people open with a spreadsheet, which takes what begins like a formula for one.

Such a text gets an apostrophe in front, and loses it when it is read: what was exported or reported can be imported.
"""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def neutral(text: str) -> str:
    """A text that no spreadsheet computes. Numbers that we write ourselves need not pass here."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def as_written(text: str) -> str:
    """The text before it was made neutral."""
    return text[1:] if text[:1] == "'" and text.lstrip("'").startswith(_FORMULA) else text
