"""Tokens of an issuer (JWT, RFC 7519): which are to be trusted, and which caller they stand for.

PyJWT verifies; here is decided what has to be said and what it means. A token that was verified once is known until it
expires, until the keys of the issuer change, or until what the database says about its client does: a call costs no
signature check. Why a token is refused stands in the log, in words that are ours, and never on the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jwt

from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.identity import Directory, Org
from points_grpc.rpc.ports import CallLog
from points_grpc.rpc.token_keys import Fetch, TokenKeys

KNOWN_MAX = 4096
"""How many verified tokens are remembered; beyond, the one that came first is verified again."""

TOLD_EVERY_S = 1.0
"""The log hears of a refused token so often at most: whoever knocks must not fill it."""

_NAME_LENGTH_MAX = 128
_REQUIRED = ("iss", "aud", "exp", "iat")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What tokens have to say, and in which claims it stands. `lifetime_max_s` is from `iat` to `exp`."""

    issuer: str
    audience: str
    leeway_s: int = 30
    lifetime_max_s: int = 3600
    client_claim: str = "sub"
    org_claim: str = "org_id"
    role_claim: str = "role"
    store_claim: str = "store"
    till_claim: str = "till"


class NotTrusted(Exception):
    """A token that says too little, or what nobody may believe. Its text quotes nothing of the token."""


_REASONS = (NotTrusted, jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)
"""What judging a token may raise: strangers write it, and not all that they can write is caught by the library."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified."""

    caller: Caller
    expires_at: float


class BearerTokens:
    """Knows callers by the tokens of one issuer. Used by the event loop alone."""

    def __init__(
        self,
        rules: TokenRules,
        fetch: Fetch,
        log: CallLog,
        *,
        keys_refresh_s: float = 300,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`fetch` gets the issuer's keys."""
        self._rules = rules
        self._log = log
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._keys = TokenKeys(fetch, log, refresh_s=keys_refresh_s, on_change=self._known.clear)
        self._orgs: Mapping[int, Org] = {}
        self._cutoffs: Mapping[tuple[int, str], float] = {}
        self._told_at = 0.0

    async def start(self) -> None:
        """Gets the keys of the issuer, and goes on doing so in the background."""
        await self._keys.start()

    async def stop(self) -> None:
        """Ends that."""
        await self._keys.stop()

    def heed(self, directory: Directory) -> None:
        """Judges by this directory from now on; what was known by another one is judged again."""
        if (directory.orgs, directory.cutoffs) != (self._orgs, self._cutoffs):
            self._orgs, self._cutoffs = directory.orgs, directory.cutoffs
            self._known.clear()

    def caller(self, token: str) -> Caller | None:
        """The caller of a token; None if it is not to be trusted."""
        known = self._known.get(token)
        if known is None:
            try:
                known = self._judged(self._verified(token))
            except _REASONS as error:
                self._tell(error)
                return None
            self._remember(token, known)
        return known.caller if known.expires_at > self._clock() else None

    def _verified(self, token: str) -> Mapping[str, object]:
        """The claims of a token that the issuer signed for us and that is in force."""
        header = jwt.get_unverified_header(token)
        key_id = header.get("kid")
        key = self._keys.find(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise NotTrusted("signed by a key that the issuer does not publish")
        claims: Mapping[str, object] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=self._rules.issuer,
            audience=self._rules.audience,
            leeway=self._rules.leeway_s,
            options={"require": list(_REQUIRED)},
        )
        return claims

    def _judged(self, claims: Mapping[str, object]) -> _Known:
        """What claims mean here."""
        rules = self._rules
        issued_at, expires_at = _seconds(claims, "iat"), _seconds(claims, "exp")
        if expires_at - issued_at > rules.lifetime_max_s:
            raise NotTrusted("lives too long")
        client, org_id = _name(claims, rules.client_claim), _org_id(claims, rules.org_claim)
        org = self._orgs.get(org_id)
        if client is None or org is None:
            raise NotTrusted("names no organisation that is here" if org is None else "names no client")
        cutoff = self._cutoffs.get((org_id, client))
        if cutoff is not None and issued_at <= cutoff + rules.leeway_s:  # the issuer's clock may be ahead of ours
            raise NotTrusted("was revoked")
        caller = Caller(
            org_id=org_id,
            client=client,
            key_id="",
            role=_role(claims, rules.role_claim),
            default_region=org.default_region,
            request_id_required=org.request_id_required,
            store=_name(claims, rules.store_claim) or "",
            till=_name(claims, rules.till_claim) or "",
        )
        return _Known(caller, float(expires_at + rules.leeway_s))

    def _remember(self, token: str, known: _Known) -> None:
        """Keeps a verified token in mind; a bad one never takes a place."""
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[token] = known

    def _tell(self, error: Exception) -> None:
        """Says why a token was refused. Texts of the library may quote the token: of those, the kind has to do."""
        now = self._clock()
        if abs(now - self._told_at) >= TOLD_EVERY_S:
            self._told_at = now
            self._log.info("token_refused", why=str(error) if isinstance(error, NotTrusted) else type(error).__name__)


def _seconds(claims: Mapping[str, object], claim: str) -> int:
    """A time in seconds since 1970; the library checked that there is one."""
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotTrusted(f"has no number as {claim}")
    return int(value)


def _name(claims: Mapping[str, object], claim: str) -> str | None:
    """A name; None if there is none. It ends up in the log and the journal, so that it has to be readable."""
    value = claims.get(claim)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _NAME_LENGTH_MAX or not value.isprintable():
        raise NotTrusted(f"has no name as {claim}")
    return value


def _org_id(claims: Mapping[str, object], claim: str) -> int:
    """The organisation, as a number or its digits; 0 if there is none."""
    value = claims.get(claim)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and len(value) <= 19 and value.isdecimal() else 0


def _role(claims: Mapping[str, object], claim: str) -> Role:
    """The role, or the highest of a list; names that are not of ours count for nothing."""
    value = claims.get(claim)
    given = value if isinstance(value, list) else [value]
    found = [Role[one.upper()] for one in given if isinstance(one, str) and one.upper() in Role.__members__]
    if not found:
        raise NotTrusted("has no role")
    return max(found)
