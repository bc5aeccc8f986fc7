"""Resume tokens: places in the journal streams of an organisation, sealed so that nobody can make one up.

A token is bound to the organisation alone: any client of it may go on where another one stopped. It holds no secret,
only positions that the transactions themselves show; another organisation's is no token at all.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping

from points_grpc.rpc.pages import TokenKeys

TOKEN_LENGTH_MAX = 16_384
"""The most characters of a resume token: every writer slot with the longest position."""

_MAC_BYTES = 16
_PURPOSE = b"points.v1 resume token"


class Positions:
    """Makes resume tokens and reads them."""

    def __init__(self, keys: TokenKeys) -> None:
        """Takes what gives the secret keys of the moment, of at least 16 bytes, the same on every process."""
        if any(len(key) < 16 for key in keys()):
            raise ValueError("a resume token key has at least 16 bytes")
        self._keys = keys

    def token(self, org_id: int, places: Mapping[int, int]) -> str:
        """The token of a place in each stream; a stream without one is at its beginning."""
        packed = b"".join(_varint(stream) + _varint(position) for stream, position in sorted(places.items()))
        return base64.urlsafe_b64encode(_mac(self._keys()[0], org_id, packed) + packed).decode().rstrip("=")

    def places(self, org_id: int, token: str) -> dict[int, int] | None:
        """The places that a token holds; None if it is not a token of this organisation."""
        if len(token) > TOKEN_LENGTH_MAX:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, packed = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        is_ours = any(hmac.compare_digest(mac, _mac(key, org_id, packed)) for key in self._keys())
        return _unpacked(packed) if is_ours else None


def _mac(key: bytes, org_id: int, packed: bytes) -> bytes:
    """Binds places to the organisation, and to this use of the key."""
    return hmac.digest(key, b"%b:%d:%b" % (_PURPOSE, org_id, packed), "sha256")[:_MAC_BYTES]


def _varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _unpacked(packed: bytes) -> dict[int, int]:
    """The places, from what was sealed here."""
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return dict(zip(numbers[::2], numbers[1::2], strict=True))
