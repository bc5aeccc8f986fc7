"""The secret keys of a server: what one-time codes and request contents are hashed with, and messages sealed with.

Keys live outside the database, each under an id that is stored beside whatever it made, so that they can be rotated:
the active key makes new things, the others still check old ones. Every purpose has a subkey of its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from points_grpc.domain.checkpoint import Checkpoint, CheckpointHead, signed_bytes

KEY_BYTES = 32
_FIELD_HASH_BYTES = 12


class UnknownKey(Exception):
    """Something was made with a key that is not at hand, or was tampered with."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of one moment, by purpose and id."""

    active: str
    codes: Mapping[str, bytes]
    contents: Mapping[str, bytes]
    seals: Mapping[str, Fernet]
    signatures: Mapping[str, bytes]
    pages: tuple[bytes, ...]
    checkpoints: Mapping[str, bytes]


class Keyring:
    """Named secret keys and what they are for. Threads share it; what it holds is replaced as a whole by `take`."""

    def __init__(self, keys: Mapping[str, bytes], active: str) -> None:
        """Takes 32-byte keys by id, and the id of the one that makes new things."""
        if active not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError("the keyring needs 32-byte keys and an active one among them")
        ordered = (active, *(key_id for key_id in keys if key_id != active))
        self._keys = _Keys(
            active=active,
            codes={key_id: _subkey(key, b"one-time code") for key_id, key in keys.items()},
            contents={key_id: _subkey(key, b"request content") for key_id, key in keys.items()},
            seals={key_id: Fernet(base64.urlsafe_b64encode(_subkey(key, b"outbox"))) for key_id, key in keys.items()},
            signatures={key_id: _subkey(key, b"request signing") for key_id, key in keys.items()},
            pages=tuple(_subkey(keys[key_id], b"page token") for key_id in ordered),
            checkpoints={key_id: _subkey(key, b"journal checkpoint") for key_id, key in keys.items()},
        )

    def take(self, other: Keyring) -> None:
        """Holds from now on what another one holds: keys were added, activated or retired."""
        self._keys = other._keys

    @property
    def active(self) -> str:
        """The id of the key that makes new things."""
        return self._keys.active

    @property
    def key_ids(self) -> frozenset[str]:
        """The keys at hand."""
        return frozenset(self._keys.codes)

    def page_keys(self) -> Sequence[bytes]:
        """What page and resume tokens are signed with: the active key's first, then those that others may be of."""
        return self._keys.pages

    def code_hash(self, key_id: str, content: bytes) -> str | None:
        """The keyed hash of a one-time code, in hex; None if the key is not at hand."""
        key = self._keys.codes.get(key_id)
        return None if key is None else hmac.digest(key, content, "sha256").hex()

    def fingerprint(self, content: Mapping[str, bytes], key_id: str | None = None) -> dict[str, str] | None:
        """Keyed hashes of a request's fields, in hex; None if the key is not at hand."""
        keys = self._keys
        key = keys.contents.get(key_id or keys.active)
        if key is None:
            return None
        hashed = {}
        for name, value in content.items():
            field_hash = _field_hash(key, name).copy()
            field_hash.update(value)
            hashed[name] = field_hash.hexdigest()
        return hashed

    def signing_secret(self, key_id: str, client_key_id: str) -> str | None:
        """What the owner of an API key signs requests with, in hex; None if the key is not at hand."""
        key = self._keys.signatures.get(key_id)
        return None if key is None else hmac.digest(key, client_key_id.encode(), "sha256").hex()

    def checkpoint(self, made_at: int, heads: Sequence[CheckpointHead]) -> tuple[Checkpoint, bytes]:
        """A checkpoint, and its Ed25519 signature with the active key, whose public half stands in it."""
        keys = self._keys
        key = Ed25519PrivateKey.from_private_bytes(keys.checkpoints[keys.active])
        made = Checkpoint(made_at, keys.active, key.public_key().public_bytes_raw(), tuple(heads))
        return made, key.sign(signed_bytes(made))

    def checkpoint_key(self) -> tuple[str, bytes]:
        """The id of the active key, and the public half of what checkpoints are signed with now."""
        keys = self._keys
        return keys.active, _public_half(keys.checkpoints[keys.active])

    def checkpoint_keys(self) -> Mapping[str, bytes]:
        """The public half of what each key at hand signs checkpoints with, by its id."""
        return {key_id: _public_half(private) for key_id, private in self._keys.checkpoints.items()}

    def seal(self, secret: str, key_id: str | None = None) -> bytes:
        """Encrypts a text with a key, the active one unless it is named; raises `UnknownKey` if it is not at hand."""
        keys = self._keys
        seal = keys.seals.get(key_id or keys.active)
        if seal is None:
            raise UnknownKey(key_id)
        return seal.encrypt(secret.encode())

    def open(self, key_id: str, sealed: bytes) -> str:
        """Decrypts what was sealed with a key; raises `UnknownKey` if that cannot be done."""
        seal = self._keys.seals.get(key_id)
        if seal is None:
            raise UnknownKey(key_id)
        try:
            return seal.decrypt(sealed).decode()
        except InvalidToken:
            raise UnknownKey(key_id) from None


def is_signed(checkpoint: Checkpoint, signature: bytes) -> bool:
    """Whether a checkpoint was signed with the key that it names. Whose key that is, its reader must know."""
    try:
        Ed25519PublicKey.from_public_bytes(checkpoint.public_key).verify(signature, signed_bytes(checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=1024)
def _field_hash(key: bytes, name: str) -> hashlib.blake2b:
    """The keyed hash of a field, before it has seen any value. Cached: to start from a copy takes half as long."""
    return hashlib.blake2b(digest_size=_FIELD_HASH_BYTES, key=key, salt=name.encode()[:16])


def _public_half(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _subkey(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, b"points-grpc " + purpose, "sha256")
