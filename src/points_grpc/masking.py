"""What may be shown, in messages, logs and `config show`: URLs without what opens a door, ids that name nobody.

Rather too much is masked than too little: a password may hold any character, also those that end it elsewhere. Imports
nothing heavy.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

MASK = "********"

_IS_URL = re.compile(r"[a-z][\w+.-]*://", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)([^/:]*):.*(?=@)", re.DOTALL)
"""From the first colon to the last at sign: SQLAlchemy takes slashes and question marks before it for the password."""
_BEFORE_HOST = re.compile(r"^.*:.*(?=@)", re.DOTALL)
"""Of what begins as no URL, everything before the last at sign, if there is a colon: who mistyped it had a password."""
_PARAMETER = re.compile(r"(^|[?&\s])([^=&\s]*)=([^&]*)")
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)


_ADDRESS = re.compile(r"@|\+\d{6}")
"""What is in an e-mail address, or begins a phone number as they are written between countries."""


def masked_id(text: str) -> str:
    """An id of the caller's choice, unless it is somebody's address: request and correlation ids stand in the log."""
    return MASK if _ADDRESS.search(text) else text


def masked_url(url: str) -> str:
    """A URL without its password, and without the parameters that have or name one, however they are written.

    So is what was meant for one: mistyped, or in the words of libpq.
    """
    plain = _PASSWORD.sub(rf"\1:{MASK}", url) if _IS_URL.match(url) else _BEFORE_HOST.sub(MASK, url)
    return _PARAMETER.sub(_masked, plain)


def _masked(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    is_secret = _SECRET.search(unquote_plus(name)) or _SECRET.search(unquote_plus(value))
    return f"{mark}{name}={MASK if is_secret else value}"
