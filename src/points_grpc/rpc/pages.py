"""Page tokens: where a list goes on, sealed so that nobody can make one up or use it for another query.

A token is bound to the organisation, the client and the query (the RPC and every field but the page's own). It is
signed with a key given at construction, so that it works on every process of a deployment. It holds no secret.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256
from typing import Protocol

from google.protobuf.message import Message

from points_grpc.rpc.call import Caller

TOKEN_LENGTH_MAX = 256
"""The most characters of a page token."""

_MAC_BYTES = 16


class PageRequest(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


class Pages:
    """Makes page tokens and reads them."""

    def __init__(self, key: bytes) -> None:
        """Takes the secret key, at least 16 bytes, the same on every process."""
        if len(key) < 16:
            raise ValueError("a page token key has at least 16 bytes")
        self._key = key

    def token(self, caller: Caller, request: Message, position: bytes) -> str:
        """The token of the page that starts after a position."""
        sealed = self._mac(caller, request, position) + position
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
        return position if hmac.compare_digest(mac, self._mac(caller, request, position)) else None

    def _mac(self, caller: Caller, request: Message, position: bytes) -> bytes:
        """Binds a position to caller and query."""
        query = type(request)()
        query.CopyFrom(request)
        query.ClearField("page_size")
        query.ClearField("page_token")
        parts = (
            str(caller.org_id).encode(),
            caller.client.encode(),
            request.DESCRIPTOR.full_name.encode(),
            query.SerializeToString(deterministic=True),
            position,
        )
        mac = hmac.new(self._key, digestmod=sha256)
        for part in parts:
            mac.update(b"%d:" % len(part))
            mac.update(part)
        return mac.digest()[:_MAC_BYTES]
