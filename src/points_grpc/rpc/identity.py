"""Who calls: API keys, known by an in-memory copy of their rows that a background task keeps fresh.

Looking a key up costs microseconds and asks no database. A revocation is in force once the copy is read anew, at most
`REFRESH_S` and the time of the read later. Secrets are 256 random bits, so that a plain SHA-256 of them is enough.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.ports import CallLog, Metadata

REFRESH_S = 2.0
"""How often the keys are read. A revocation is promised to be in force within 5 s."""

_TOKEN_LENGTH_MAX = 512
_TOKEN_PREFIX = "pk_"  # noqa: S105 - what every token starts with, no secret


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One API key as it is stored: never its secret, only the SHA-256 of it in hex. Times in seconds since 1970.

    A key id has no underscore, so that a token `pk_<key id>_<secret>` can be taken apart. `signing_secret` is not
    stored: it is derived from a key outside the database, and None for a key that `signs` if that one is lost.
    """

    key_id: str
    org_id: int
    client: str
    role: Role
    secret_sha256: str
    default_region: str
    expires_at: float | None = None
    revoked: bool = False
    request_id_required: bool = False
    signs: bool = False
    signing_secret: bytes | None = field(default=None, repr=False)


KeyLoader = Callable[[], Awaitable[Mapping[str, KeyRow]]]
"""Reads all keys, by key id."""


class KeyIdentity:
    """Knows callers by API key: `authorization: Bearer pk_<key id>_<secret>` or `Basic base64(<key id>:<secret>)`."""

    def __init__(self, load: KeyLoader, log: CallLog, *, clock: Callable[[], float] = time.time) -> None:
        """Starts without keys; `start` reads them."""
        self._load = load
        self._log = log
        self._clock = clock
        self._keys: Mapping[str, _Key] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the keys, and goes on doing so in the background. Fails if the first read does."""
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="keys")

    async def stop(self) -> None:
        """Ends the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def refresh(self) -> None:
        """Reads the keys once."""
        self._keys = {key_id: _key(row) for key_id, row in (await self._load()).items()}

    def authenticate(self, metadata: Metadata) -> Caller | None:
        """The caller; None if there is no credential, or one that is unknown, expired or revoked."""
        credential = _credential(metadata)
        if credential is None:
            return None
        key_id, secret = credential
        key = self._keys.get(key_id, _NO_KEY)
        # Compared for unknown keys too, so that the time taken does not tell which key ids exist.
        is_right = hmac.compare_digest(sha256(secret).digest(), key.secret_sha256)
        if not is_right or key.revoked or (key.expires_at is not None and key.expires_at <= self._clock()):
            return None
        return key.caller

    async def _keep_fresh(self) -> None:
        """Reads the keys again and again. While that fails, those read last stay in force."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - whatever it is: keys are read again in a moment
                self._log.error("keys_not_refreshed", error=type(error).__name__)


@dataclass(frozen=True, slots=True)
class _Key:
    """A key, ready to be compared with."""

    caller: Caller | None
    secret_sha256: bytes
    expires_at: float | None
    revoked: bool


_NO_KEY = _Key(caller=None, secret_sha256=bytes(32), expires_at=None, revoked=True)


def _key(row: KeyRow) -> _Key:
    """Gets a key ready."""
    return _Key(
        caller=Caller(
            org_id=row.org_id,
            client=row.client,
            key_id=row.key_id,
            role=row.role,
            default_region=row.default_region,
            request_id_required=row.request_id_required,
            signs=row.signs,
            signing_secret=row.signing_secret,
        ),
        secret_sha256=bytes.fromhex(row.secret_sha256),
        expires_at=row.expires_at,
        revoked=row.revoked,
    )


def _credential(metadata: Metadata) -> tuple[str, bytes] | None:
    """Key id and secret of the authorization metadata; None if there is none, more than one, or a malformed one."""
    given = [value for key, value in metadata if key == "authorization"]
    if len(given) != 1 or not isinstance(given[0], str) or len(given[0]) > _TOKEN_LENGTH_MAX:
        return None
    scheme, _, rest = given[0].partition(" ")
    match scheme.lower():
        case "bearer":
            return _of_token(rest)
        case "basic":
            return _of_basic(rest)
        case _:
            return None


def _of_token(token: str) -> tuple[str, bytes] | None:
    """Takes a token apart."""
    key_id, _, secret = token.removeprefix(_TOKEN_PREFIX).partition("_")
    if not token.startswith(_TOKEN_PREFIX) or not key_id or not secret:
        return None
    return key_id, secret.encode()


def _of_basic(encoded: str) -> tuple[str, bytes] | None:
    """Takes the credential of HTTP basic authentication apart."""
    try:
        key_id, _, secret = base64.b64decode(encoded, validate=True).partition(b":")
        return (key_id.decode(), secret) if key_id and secret else None
    except (binascii.Error, ValueError):
        return None
