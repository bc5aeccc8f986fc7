"""What the numbers that callers bring along look like: bills and references of their own systems."""

from __future__ import annotations

import re

TRANSACTION_NUMBER_MAX = 64
"""The most characters of a transaction number."""

_TRANSACTION_NUMBER = re.compile(rf"[A-Za-z0-9._/#-]{{1,{TRANSACTION_NUMBER_MAX}}}")


def is_transaction_number(text: str) -> bool:
    """Whether a text is a well-formed transaction number: letters, digits and `-_./#`."""
    return _TRANSACTION_NUMBER.fullmatch(text) is not None
