"""The public keys of an issuer of tokens (RFC 7517), in memory, kept fresh by a background task.

Taken are keys for signatures by RS256, ES256 and EdDSA alone, each bound to its one algorithm by its type: whatever a
token says of its algorithm, it cannot have a public key used as a secret. Nothing here looks at tokens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from points_grpc.rpc.ports import CallLog

REFETCH_MIN_S = 10.0
"""The pause after a read, before the next one that a token under an unknown key, or a failure, has made early."""

KEYS_MAX = 64
RSA_BITS_MIN = 2048

ALGORITHMS: Mapping[tuple[object, object], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""What keys of a type and curve sign with."""

Fetch = Callable[[], Awaitable[bytes]]
"""Gets the set of keys. Raises OSError if it cannot be had now."""


class TokenKeys:
    """The keys by their ids."""

    def __init__(self, fetch: Fetch, log: CallLog, *, refresh_s: float, on_change: Callable[[], None]) -> None:
        """Starts without keys; `on_change` is called after they have changed."""
        self._fetch = fetch
        self._log = log
        self._refresh_s = refresh_s
        self._on_change = on_change
        self._content = b""
        self._keys: Mapping[str, PyJWK] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the keys, and goes on doing so. Fails if the set is none; one that cannot be had now may come later."""
        try:
            await self._refresh()
        except OSError as error:
            self._tell(error)
        self._task = asyncio.create_task(self._keep_fresh(), name="token keys")

    async def stop(self) -> None:
        """Ends the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def find(self, key_id: str) -> PyJWK | None:
        """A key; one that is not known is looked for soon, since it may be new."""
        found = self._keys.get(key_id)
        if found is None:
            self._wanted.set()
        return found

    async def _refresh(self) -> None:
        """Reads the keys once."""
        content = await self._fetch()
        if content != self._content:
            self._keys = keys_of(content)
            self._content = content
            self._on_change()

    async def _keep_fresh(self) -> None:
        """Reads the keys again and again. While that fails, those read last stay in force."""
        while True:
            pause = min(REFETCH_MIN_S, self._refresh_s)
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(self._refresh_s - pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                await self._refresh()
            except Exception as error:  # noqa: BLE001 - whatever it is: the keys are read again in a moment
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Says that a read failed; the next one comes early."""
        self._wanted.set()
        self._log.error("token_keys_not_refreshed", error=type(error).__name__)


def keys_of(content: bytes) -> Mapping[str, PyJWK]:
    """The usable keys of a JWK set, by their ids. Raises ValueError if there are none."""
    try:
        document = json.loads(content)
        listed = document["keys"] if isinstance(document, dict) else None
    except (ValueError, KeyError, RecursionError):
        listed = None
    if not isinstance(listed, list):  # a content is wrong here, and no argument's type
        raise ValueError("the keys of the tokens' issuer are no JWK set")  # noqa: TRY004
    found = {}
    for one in listed[:KEYS_MAX]:
        if isinstance(one, dict) and (key := _key_of(cast("dict[str, object]", one))) is not None:
            found[str(one["kid"])] = key
    if not found:
        raise ValueError("the issuer of tokens has no key with an id for RS256, ES256 or EdDSA")
    return found


def _key_of(jwk: Mapping[str, object]) -> PyJWK | None:
    """A key that signs; None for any other, for one without id, and for a private one, which is everybody's by now."""
    algorithm = ALGORITHMS.get((_text(jwk.get("kty")), _text(jwk.get("crv"))))
    is_ours = algorithm is not None and jwk.get("alg", algorithm) == algorithm and jwk.get("use", "sig") == "sig"
    if not is_ours or "d" in jwk or not isinstance(jwk.get("kid"), str):
        return None
    try:
        key = PyJWK(dict(jwk), algorithm)
    except (PyJWTError, ValueError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < RSA_BITS_MIN:
        return None
    return key


def _text(value: object) -> str | None:
    """A text, which alone can be looked up."""
    return value if isinstance(value, str) else None
