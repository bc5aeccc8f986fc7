"""Who calls: API keys, tokens of an issuer, names in client certificates, all of which become a `Caller`.

What the database knows of them is here in memory, and a background task keeps it fresh: looking a key up costs
microseconds and asks no database. A revocation is in force once the copy is read anew, at most `REFRESH_S` and the time
of the read later. Secrets are 256 random bits, so that a plain SHA-256 of them is enough. What a token says is judged
in `tokens.py`. A call that shows a credential is judged by it alone: a certificate never makes up for a bad one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.ports import CallLog, Connection, Metadata

REFRESH_S = 2.0
"""How often the directory is read. A revocation is promised to be in force within 5 s."""

USE_NOTED_S = 60.0
"""How often is noted which API keys were used: `keys list` tells it to the minute."""

_KEY_LENGTH_MAX = 512
_CREDENTIAL_LENGTH_MAX = 8192
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
    store: str = ""
    till: str = ""


@dataclass(frozen=True, slots=True)
class Org:
    """What a credential that does not come from here has to be completed with: facts about its organisation."""

    default_region: str
    request_id_required: bool = False


@dataclass(frozen=True, slots=True)
class Directory:
    """All that the database says about who may call.

    Keys are by key id, callers by the name in their certificates. `cutoffs`: until when (seconds since 1970) tokens
    must have been issued to be refused, by organisation and client.
    """

    keys: Mapping[str, KeyRow] = field(default_factory=dict)
    certificates: Mapping[str, Caller] = field(default_factory=dict)
    orgs: Mapping[int, Org] = field(default_factory=dict)
    cutoffs: Mapping[tuple[int, str], float] = field(default_factory=dict)


DirectoryLoader = Callable[[], Awaitable[Directory]]
"""Reads the directory."""

UseNoter = Callable[[Collection[str]], Awaitable[None]]
"""Notes that keys, named by their ids, were used a moment ago."""


class Tokens(Protocol):
    """Knows callers by the tokens of an issuer."""

    async def start(self) -> None:
        """Gets the keys of the issuer, and goes on doing so in the background."""
        ...

    async def stop(self) -> None:
        """Ends that."""
        ...

    def heed(self, directory: Directory) -> None:
        """Judges by this directory from now on."""
        ...

    def caller(self, token: str) -> Caller | None:
        """The caller of a token; None if it is not to be trusted."""
        ...


class Callers:
    """Knows callers: `Bearer pk_<key id>_<secret>`, `Basic base64(<key id>:<secret>)`, `Bearer <token>`, certificates.

    A call without `authorization` is judged by the certificate of its connection. Where both say something, they have
    to belong to the same organisation: a key that was stolen is of no use to whoever has a certificate of another.
    """

    def __init__(
        self,
        load: DirectoryLoader,
        log: CallLog,
        *,
        tokens: Tokens | None = None,
        note_use: UseNoter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Starts without a directory; `start` reads it. Without `tokens`, those of issuers are worth nothing."""
        self._load = load
        self._log = log
        self._tokens = tokens
        self._note_use = note_use
        self._clock = clock
        self._keys: Mapping[str, _Key] = {}
        self._certificates: Mapping[str, Caller] = {}
        self._used: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads the directory, and goes on doing so in the background. Fails if the first read does."""
        await self.refresh()
        if self._tokens is not None:
            await self._tokens.start()
        self._tasks = [
            asyncio.create_task(self._keep_fresh(), name="directory"),
            asyncio.create_task(self._keep_noting(), name="use of keys"),
        ]

    async def stop(self) -> None:
        """Ends the background tasks, and notes the last uses."""
        if self._tokens is not None:
            await self._tokens.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._note()

    async def refresh(self) -> None:
        """Reads the directory once."""
        directory = await self._load()
        self._keys = {key_id: _key(row) for key_id, row in directory.keys.items()}
        self._certificates = directory.certificates
        if self._tokens is not None:
            self._tokens.heed(directory)

    def authenticate(self, metadata: Metadata, connection: Connection) -> Caller | None:
        """The caller; None if there is no credential, or one that is unknown, expired or revoked."""
        given = [value for key, value in metadata if key == "authorization"]
        if not given:
            named = self._named(connection)
            return named[0] if named and all(one == named[0] for one in named) else None
        if len(given) != 1 or not isinstance(given[0], str) or len(given[0]) > _CREDENTIAL_LENGTH_MAX:
            return None
        caller = self._credited(given[0])
        if caller is None or not self._certificates:
            return caller
        named = self._named(connection)
        return caller if not named or any(one.org_id == caller.org_id for one in named) else None

    def _named(self, connection: Connection) -> list[Caller]:
        """The callers that the names of a certificate stand for."""
        if not self._certificates:
            return []
        names = connection.peer_identities() or ()
        return [caller for name in names if (caller := self._certificates.get(name.decode(errors="replace")))]

    def _credited(self, authorization: str) -> Caller | None:
        """The caller that an authorization stands for."""
        scheme, _, rest = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                if rest.startswith(_TOKEN_PREFIX):
                    return self._keyed(_of_key(rest))
                return None if self._tokens is None else self._tokens.caller(rest)
            case "basic":
                return self._keyed(_of_basic(rest))
            case _:
                return None

    def _keyed(self, credential: tuple[str, bytes] | None) -> Caller | None:
        """The caller of an API key."""
        if credential is None:
            return None
        key_id, secret = credential
        key = self._keys.get(key_id, _NO_KEY)
        # Compared for unknown keys too, so that the time taken does not tell which key ids exist.
        is_right = hmac.compare_digest(sha256(secret).digest(), key.secret_sha256)
        if not is_right or key.revoked or (key.expires_at is not None and key.expires_at <= self._clock()):
            return None
        self._used.add(key_id)
        return key.caller

    async def _keep_fresh(self) -> None:
        """Reads the directory again and again. While that fails, what was read last stays in force."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - whatever it is: the directory is read again in a moment
                self._log.error("directory_not_refreshed", error=type(error).__name__)

    async def _keep_noting(self) -> None:
        """Notes again and again which keys were used."""
        while True:
            await asyncio.sleep(USE_NOTED_S)
            await self._note()

    async def _note(self) -> None:
        """Notes once which keys were used. What cannot be noted now is noted the next time."""
        used, self._used = self._used, set()
        if not used or self._note_use is None:
            return
        try:
            await self._note_use(used)
        except Exception as error:  # noqa: BLE001 - whatever it is: nobody is refused for it
            self._used |= used
            self._log.error("use_not_noted", error=type(error).__name__)


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
            store=row.store,
            till=row.till,
        ),
        secret_sha256=bytes.fromhex(row.secret_sha256),
        expires_at=row.expires_at,
        revoked=row.revoked,
    )


def _of_key(key: str) -> tuple[str, bytes] | None:
    """Takes an API key apart, prefix included."""
    key_id, _, secret = key.removeprefix(_TOKEN_PREFIX).partition("_")
    return (key_id, secret.encode()) if key_id and secret and len(key) <= _KEY_LENGTH_MAX else None


def _of_basic(encoded: str) -> tuple[str, bytes] | None:
    """Takes the credential of HTTP basic authentication apart."""
    if len(encoded) > _KEY_LENGTH_MAX:
        return None
    try:
        key_id, _, secret = base64.b64decode(encoded, validate=True).partition(b":")
        return (key_id.decode(), secret) if key_id and secret else None
    except (binascii.Error, ValueError):
        return None
