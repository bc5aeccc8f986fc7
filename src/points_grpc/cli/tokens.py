"""API keys as their owners see them: `pk_<key id>_<secret>`. The database holds the SHA-256 of the secret alone.

The secret has 256 random bits, so that no slow hash is needed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256

KEY_ID_BYTES = 6
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: the only moment at which its token is known."""

    key_id: str
    token: str = field(repr=False)
    secret_hash: str


def new_key() -> NewKey:
    """A new random key."""
    key_id, secret = secrets.token_hex(KEY_ID_BYTES), secrets.token_hex(SECRET_BYTES)
    return NewKey(key_id, f"pk_{key_id}_{secret}", sha256(secret.encode()).hexdigest())
