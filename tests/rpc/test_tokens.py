"""Tokens of an issuer: which are trusted, whom they stand for, how long they are remembered."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from wire_fakes import NullLog

from issuer import AUDIENCE, ISSUER, Issuer, claims
from points_grpc.rpc import token_keys, tokens
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.identity import Directory, Org
from points_grpc.rpc.token_keys import keys_of
from points_grpc.rpc.tokens import BearerTokens, TokenRules

ORGS = {1: Org("IN"), 2: Org("US")}
RULES = TokenRules(issuer=ISSUER, audience=AUDIENCE, leeway_s=10, lifetime_max_s=3600)
APP = Caller(1, "app", "", Role.OPERATOR, "IN")


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


class Log(NullLog):
    """A log that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.why: list[object] = []

    def info(self, event: str, **fields: object) -> None:
        self.why.append(fields.get("why"))


class Known(BearerTokens):
    """What knows tokens, with a set of keys that may be replaced, and a clock that may be moved."""

    def __init__(self, content: bytes, rules: TokenRules = RULES) -> None:
        self.content = content
        self.fetches = 0
        self.now = time.time
        self.lines = Log()
        super().__init__(rules, self._fetched, self.lines, keys_refresh_s=0.01, clock=self._time)
        self.heed(Directory(orgs=ORGS))

    def _time(self) -> float:
        return self.now()

    async def _fetched(self) -> bytes:
        self.fetches += 1
        if not self.content:
            raise ConnectionError
        return self.content

    def settled(self) -> Known:
        """With the keys read once."""

        async def run() -> None:
            await self.start()
            await self.stop()

        asyncio.run(run())
        return self


@pytest.fixture
def known(issuer: Issuer) -> Known:
    return Known(issuer.key_set()).settled()


@pytest.mark.parametrize("name", ["rsa", "ec", "ed"])
def test_algorithms(issuer: Issuer, known: Known, name: str) -> None:
    """RS256, ES256 and EdDSA are taken."""
    assert APP == known.caller(issuer.token(name))


IN_FULL = Caller(2, "app", "", Role.ADMIN, "US", store="berlin-3", till="7")


@pytest.mark.parametrize(
    ("changes", "caller"),
    [
        ({}, APP),
        ({"org_id": "1"}, APP),
        ({"aud": ["other", AUDIENCE]}, APP),
        ({"role": ["reader", "operator", "offline_access"]}, APP),
        ({"role": "Operator"}, APP),
        ({"org_id": 2, "role": "admin", "store": "berlin-3", "till": "7"}, IN_FULL),
        ({"exp": lambda now: now - 5}, APP),
        ({"nbf": lambda now: now + 5, "iat": lambda now: now + 5}, APP),
        ({"exp": lambda now: now + 3600}, APP),
        ({"exp": lambda now: now + 3601}, None),
        ({"exp": lambda now: now - 11, "iat": lambda now: now - 60}, None),
        ({"nbf": lambda now: now + 60}, None),
        ({"iat": lambda now: now + 60}, None),
        ({"exp": None}, None),
        ({"iat": None}, None),
        ({"exp": "never"}, None),
        ({"exp": True, "iat": True}, None),
        ({"exp": float("inf")}, None),
        ({"iss": "https://other.example/"}, None),
        ({"iss": None}, None),
        ({"iss": [ISSUER]}, None),
        ({"aud": "other"}, None),
        ({"aud": None}, None),
        ({"aud": []}, None),
        ({"sub": None}, None),
        ({"sub": ""}, None),
        ({"sub": "x" * 129}, None),
        ({"sub": "two\nlines"}, None),
        ({"org_id": None}, None),
        ({"org_id": 3}, None),
        ({"org_id": 0}, None),
        ({"org_id": True}, None),
        ({"org_id": 1.0}, None),
        ({"org_id": "one"}, None),
        ({"org_id": [1]}, None),
        ({"role": None}, None),
        ({"role": "owner"}, None),
        ({"role": []}, None),
        ({"role": 4}, None),
        ({"store": 7}, None),
        ({"till": {"id": 7}}, None),
    ],
)
def test_claims(issuer: Issuer, known: Known, changes: dict[str, Any], caller: Caller | None) -> None:
    """What has to be said, and what it means; a token that says anything else stands for nobody."""
    now = int(time.time())
    told = {name: value(now) if callable(value) else value for name, value in changes.items()}

    assert caller == known.caller(issuer.token(**told))


def test_claims_of_other_names(issuer: Issuer) -> None:
    """A deployment names the claims as its issuer does."""
    names = {"client_claim": "azp", "org_claim": "https://points/org", "role_claim": "roles"}
    known = Known(
        issuer.key_set(),
        TokenRules(issuer=ISSUER, audience=AUDIENCE, store_claim="shop", till_claim="pos", **names),  # type: ignore[arg-type]
    ).settled()
    told = {"azp": "app", "https://points/org": 1, "roles": ["manager"], "shop": "a", "pos": "b"}
    told |= {"sub": "someone", "org_id": 2, "role": "admin", "store": "c", "till": "d"}

    assert Caller(1, "app", "", Role.MANAGER, "IN", store="a", till="b") == known.caller(issuer.token(**told))


def encoded(part: object) -> str:
    """A part of a token."""
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(algorithm: str) -> Callable[[Issuer], str]:
    """A token that claims to need no signature."""
    return lambda issuer: f"{encoded({'alg': algorithm, 'kid': 'rsa', 'typ': 'JWT'})}.{encoded(claims())}."


def confused(secret: Callable[[Issuer], bytes], algorithm: str = "HS256") -> Callable[[Issuer], str]:
    """A token signed with a public key as if it were a secret."""

    def made(issuer: Issuer) -> str:
        text = f"{encoded({'alg': algorithm, 'kid': 'rsa', 'typ': 'JWT'})}.{encoded(claims())}"
        return f"{text}.{encoded(hmac.digest(secret(issuer), text.encode(), sha256))}"

    return made


def tampered(issuer: Issuer) -> str:
    """A good signature under other claims."""
    head, _, signature = issuer.token().split(".")
    return f"{head}.{encoded(claims(role='admin'))}.{signature}"


def with_header(**header: object) -> Callable[[Issuer], str]:
    """A token with a header of its own, signed by the RSA key."""
    return lambda issuer: jwt.encode(claims(), issuer.keys["rsa"], "RS256", {"kid": "rsa", **header})


@pytest.mark.parametrize(
    "make",
    [
        unsigned("none"),
        unsigned("None"),
        unsigned("NONE"),
        unsigned("RS256"),
        confused(lambda issuer: issuer.public_pem("rsa")),
        confused(lambda issuer: json.dumps(issuer.jwks("rsa")[0]).encode()),
        confused(lambda issuer: b""),
        confused(lambda issuer: issuer.public_pem("rsa"), "RS256"),
        tampered,
        lambda issuer: issuer.token(kid="unknown"),
        lambda issuer: issuer.token(kid=None),
        lambda issuer: issuer.token("rsa", kid="ec"),
        lambda issuer: issuer.token("ec", kid="ed"),
        lambda issuer: jwt.encode(claims(), issuer.keys["rsa"], "RS512", {"kid": "rsa"}),
        lambda issuer: jwt.encode(claims(), issuer.keys["rsa"], "PS256", {"kid": "rsa"}),
        lambda issuer: Issuer().token(),
        with_header(crit=["exp"], exp=1),
        lambda issuer: f"{encoded({'alg': 'RS256', 'kid': ['rsa']})}.{encoded(claims())}.{encoded(b'x' * 256)}",
        with_header(jku="http://127.0.0.1:1/keys", kid="other"),
        lambda issuer: issuer.token()[:-8],
        lambda issuer: issuer.token() + "x",
        lambda issuer: issuer.token() + ".x",
        lambda issuer: "",
        lambda issuer: ".",
        lambda issuer: "..",
        lambda issuer: "a.b.c",
        lambda issuer: "\udc80.b.c",
        lambda issuer: "é.é.é",
        lambda issuer: f"{encoded(b'[' * 5000)}.e30.",
        lambda issuer: encoded(b'{"a":' * 1500) + ".e30.",
        lambda issuer: f"{encoded([1])}.{encoded(claims())}.",
        lambda issuer: f"{encoded(b'1' * 5000)}.e30.",
    ],
)
def test_not_to_be_trusted(issuer: Issuer, known: Known, make: Callable[[Issuer], str]) -> None:
    """No signature, a wrong one, one by another key or algorithm, or no token at all: nobody, and nothing breaks."""
    assert known.caller(make(issuer)) is None
    assert 1 == len(known.lines.why)
    assert not [why for why in known.lines.why if "e30" in str(why)]


def test_verified_once(issuer: Issuer, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is verified once, and not once more until it expires; then it stands for nobody."""
    verified = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *a, **k: verified.append(1) or decode(*a, **k))
    token = issuer.token()
    seen = [known.caller(token) for _ in range(3)]
    expires_at = jwt.decode(token, options={"verify_signature": False})["exp"]
    known.now = lambda: expires_at + 9.9
    seen.append(known.caller(token))
    known.now = lambda: expires_at + 10.0

    assert [APP] * 4 == seen
    assert known.caller(token) is None
    assert 2 == len(verified)


def test_memory_is_bounded(issuer: Issuer, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many tokens is forgotten, and verified again when it comes; a bad one takes no place."""
    monkeypatch.setattr(tokens, "KNOWN_MAX", 2)
    made = [issuer.token("ed", sub=f"app-{number}") for number in range(3)]
    seen = [known.caller(one) for one in [*made, "bad", made[0]]]

    assert ["app-0", "app-1", "app-2", None, "app-0"] == [one and one.client for one in seen]
    assert 2 == len(known._known)


def test_revoked(issuer: Issuer, known: Known) -> None:
    """What was issued to a client until a cutoff is refused at once, known or not; what comes later is taken."""
    now = int(time.time())
    old, other, foreign = issuer.token(iat=now - 60), issuer.token(sub="other", iat=now - 60), issuer.token(org_id=2)
    new = issuer.token(iat=now - 49)
    before = [known.caller(one) is not None for one in (old, other, foreign)]
    known.heed(Directory(orgs=ORGS, cutoffs={(1, "app"): now - 60.0}))
    after = [known.caller(one) is not None for one in (old, other, foreign, new)]
    known.heed(Directory(orgs={2: Org("US")}))

    assert [True, True, True] == before
    assert [False, True, True, True] == after  # within the leeway of 10 s after a cutoff all are refused
    assert known.caller(issuer.token()) is None


def test_keys_are_renewed(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is taken once it is published; what was signed by one that is withdrawn is refused, known or not."""
    monkeypatch.setattr(token_keys, "REFETCH_MIN_S", 0.01)
    by_rsa, by_ec = issuer.token("rsa"), issuer.token("ec")

    async def run() -> list[list[bool]]:
        known = Known(issuer.key_set("rsa"))
        await known.start()
        seen = [[known.caller(one) is not None for one in (by_rsa, by_ec)]]
        for content in (issuer.key_set("rsa", "ec"), b"", b"[]", issuer.key_set("ec")):
            known.content = content
            fetches = known.fetches
            while known.fetches < fetches + 3:
                await asyncio.sleep(0.01)
            seen.append([known.caller(one) is not None for one in (by_rsa, by_ec)])
        await known.stop()
        assert {"ConnectionError", "ValueError"} == {fields["error"] for _, fields in known.lines.errors}
        return seen

    assert [[True, False], [True, True], [True, True], [True, True], [False, True]] == asyncio.run(run())


def test_an_unknown_key_is_looked_for(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token under a key that is not known has the keys read again early, and never more often than that."""
    monkeypatch.setattr(token_keys, "REFETCH_MIN_S", 0.2)

    async def run() -> tuple[list[bool], int]:
        known = Known(issuer.key_set("rsa"))
        known._keys._refresh_s = 600.0
        await known.start()
        known.content = issuer.key_set()
        token, found = issuer.token("ec"), []
        until = time.monotonic() + 5
        while not found or (not found[-1] and time.monotonic() < until):
            found.append(known.caller(token) is not None)
            await asyncio.sleep(0.01)
        await known.stop()
        return [found[0], found[-1]], known.fetches

    assert ([False, True], 2) == asyncio.run(run())


def test_the_issuer_may_be_away_at_the_start(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server starts without the keys, and gets them later; one whose keys are none does not start."""
    monkeypatch.setattr(token_keys, "REFETCH_MIN_S", 0.01)

    async def run() -> list[bool]:
        known = Known(b"")
        await known.start()
        seen = [known.caller(issuer.token()) is not None]
        known.content = issuer.key_set()
        until = time.monotonic() + 5
        while not seen[-1] and time.monotonic() < until:
            await asyncio.sleep(0.01)
            seen.append(known.caller(issuer.token()) is not None)
        await known.stop()
        return [seen[0], seen[-1]]

    assert [False, True] == asyncio.run(run())
    with pytest.raises(ValueError, match="no JWK set"):
        Known(b"<html>").settled()


def test_keys_that_are_taken(issuer: Issuer) -> None:
    """Keys of other kinds, for other uses, without id, too short or private are left out; none at all is an error."""
    good = issuer.jwks("rsa")[0]
    short = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), as_dict=True
    )
    curve = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    private = RSAAlgorithm.to_jwk(issuer.keys["rsa"], as_dict=True)
    bad: list[object] = [
        {**short, "kid": "short"},
        {**curve, "kid": "curve"},
        {**private, "kid": "private"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {**good, "kid": "encrypts", "use": "enc"},
        {**good, "kid": "other", "alg": "RS512"},
        {**good, "kid": "confused", "alg": "HS256"},
        {**good, "kid": 7},
        {**good, "kid": "broken", "n": "!"},
        {**good, "kid": "odd", "kty": ["RSA"]},
        {name: value for name, value in good.items() if name != "kid"},
        "text",
    ]
    content = json.dumps({"keys": [*bad, good]}).encode()

    assert ["rsa"] == list(keys_of(content))
    for wrong in (json.dumps({"keys": bad}), '{"keys": []}', '{"keys": {}}', "{}", "[]", "", "[" * 100_000):
        with pytest.raises(ValueError, match="issuer"):
            keys_of(wrong.encode())
