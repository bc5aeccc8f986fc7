"""An issuer of tokens for tests: keys of every kind that is taken, a JWK set, tokens right and wrong."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.example/", "points"


class Issuer:
    """Three keys: `rsa`, `ec`, `ed`."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.algorithms = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}

    def jwks(self, *names: str) -> list[dict[str, Any]]:
        """The public keys, all or some, each as a JWK."""
        makers = {"rsa": RSAAlgorithm, "ec": ECAlgorithm, "ed": OKPAlgorithm}
        return [
            {**makers[name].to_jwk(self.keys[name].public_key(), as_dict=True), "kid": name, "use": "sig"}
            for name in names or tuple(self.keys)
        ]

    def key_set(self, *names: str) -> bytes:
        """The document that the issuer publishes."""
        return json.dumps({"keys": self.jwks(*names)}).encode()

    def public_pem(self, name: str) -> bytes:
        """A public key as it is published elsewhere."""
        pem: bytes = self.keys[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    def token(self, name: str = "rsa", *, kid: str | None = "", **changes: object) -> str:
        """A token by one of the keys; `changes` are claims that differ, None for one that is left out."""
        headers = {} if kid is None else {"kid": kid or name}
        content = json.dumps(claims(**changes)).encode()  # the library refuses to make some wrong ones
        return jwt.PyJWS().encode(content, self.keys[name], algorithm=self.algorithms[name], headers=headers)


def claims(**changes: object) -> dict[str, Any]:
    """The claims of a good token, but for the changes."""
    now = int(time.time())
    told: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "app",
        "org_id": 1,
        "role": "operator",
        "iat": now,
        "exp": now + 600,
    }
    return {name: value for name, value in (told | changes).items() if value is not None}
