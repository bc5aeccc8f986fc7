"""What depends on each secret key of the server."""

from __future__ import annotations

from datetime import timedelta

from stores import NOW, ORG, Store

from points_grpc.storage.accounts import Accounts
from points_grpc.storage.key_uses import KeyUses, key_uses, records_requests


def test_signing_keys_in_force_depend_on_their_secret_key(bare: Store) -> None:
    """Counted by the key that their secret derives from, unless they were revoked, expired, or need not sign."""
    accounts = Accounts(bare.database, now=lambda: NOW)
    for key_id, secret_key, expires_at in (
        ("a", "k1", None),
        ("b", "k1", NOW + timedelta(days=1)),
        ("c", "k1", NOW),
        ("d", "k2", None),
        ("e", "k3", None),
        ("f", None, None),
    ):
        accounts.create_key(
            key_id,
            ORG,
            client="till",
            role="operator",
            secret_hash="0" * 64,
            expires_at=expires_at,
            signing_key_id=secret_key,
        )
    accounts.revoke_key(ORG, "e")

    assert {"k1": KeyUses(signing_keys=2), "k2": KeyUses(signing_keys=1)} == key_uses(bare.database, NOW)
    assert key_uses(bare.database, NOW) == key_uses(bare.database, NOW, with_codes=False)
    assert not records_requests(bare.database, "k1")
