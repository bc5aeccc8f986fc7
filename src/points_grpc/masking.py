"""URLs as they may be shown, in messages, logs and `config show`: without what opens a door. Imports nothing heavy.

Rather too much is masked than too little: a password may hold any character, also those that end it elsewhere.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

MASK = "********"

_PASSWORD = re.compile(r"(?<=://)([^/:]*):.*(?=@)", re.DOTALL)
"""From the first colon to the last at sign: SQLAlchemy takes slashes and question marks before it for the password."""
_PARAMETER = re.compile(r"([?&])([^=&]*)=([^&]*)")
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)


def masked_url(url: str) -> str:
    """A URL without its password, and without the parameters that have or name one, however they are written."""
    return _PARAMETER.sub(_masked, _PASSWORD.sub(rf"\1:{MASK}", url))


def _masked(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    is_secret = _SECRET.search(unquote_plus(name)) or _SECRET.search(unquote_plus(value))
    return f"{mark}{name}={MASK if is_secret else value}"
