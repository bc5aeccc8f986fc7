"""Page tokens: where a list goes on, sealed so that nobody can make one up or use it for another query.

A token is bound to the organisation, the client and the query (the RPC and every field but the page's own). It is
signed with a key that every process of a deployment has, and good for as long as that key is. It holds no secret.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from typing import Protocol

from google.protobuf.message import Message

from points_grpc.rpc.call import Caller

TOKEN_LENGTH_MAX = 256
"""The most characters of a page token."""

OF_THE_PAGE = frozenset({"page_size", "page_token", "count_total"})
"""Fields that may differ from page to page."""

_MAC_BYTES = 16

TokenKeys = Callable[[], Sequence[bytes]]
"""Gives the keys of tokens: the first signs, any may have signed what comes."""


class PageRequest(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


class Pages:
    """Makes page tokens and reads them."""

    def __init__(self, keys: TokenKeys) -> None:
        """Takes what gives the secret keys of the moment, of at least 16 bytes, the same on every process."""
        if any(len(key) < 16 for key in keys()):
            raise ValueError("a page token key has at least 16 bytes")
        self._keys = keys

    def token(self, caller: Caller, request: Message, position: bytes) -> str:
        """The token of the page that starts after a position."""
        sealed = _mac(self._keys()[0], _content(caller, request, position)) + position
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def position(self, caller: Caller, request: Message, token: str) -> bytes | None:
        """The position that a token holds; None if it is not a token of this query."""
        if len(token) > TOKEN_LENGTH_MAX:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, position = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        content = _content(caller, request, position)
        return position if any(hmac.compare_digest(mac, _mac(key, content)) for key in self._keys()) else None


def _content(caller: Caller, request: Message, position: bytes) -> bytes:
    """Binds a position to caller and query."""
    query = type(request)()
    query.CopyFrom(request)
    for name in OF_THE_PAGE.intersection(query.DESCRIPTOR.fields_by_name):
        query.ClearField(name)
    parts = (
        str(caller.org_id).encode(),
        caller.client.encode(),
        request.DESCRIPTOR.full_name.encode(),
        query.SerializeToString(deterministic=True),
        position,
    )
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:_MAC_BYTES]
