"""Organisations and keys, as the command line and the knower of callers see them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stores import NOW, ORG, OTHER_ORG, Store

from points_grpc.service.ports import StorageConflict
from points_grpc.storage.accounts import NEW_ORG_KEYS, Accounts, KeyRow


@pytest.fixture
def accounts(bare: Store) -> Accounts:
    """The accounts of a store, at the store's time."""
    return Accounts(bare.database, now=lambda: bare.now)


def test_a_new_organisation_starts_with_its_keys(bare: Store, accounts: Accounts) -> None:
    """Under the documented names, all on; the next id is its own."""
    org_id = accounts.create_org("three", "DE")

    assert org_id == 3
    assert bare.queries.config_values(org_id) == NEW_ORG_KEYS
    assert [(one.org_id, one.name, one.default_region, one.paused) for one in accounts.list_orgs()] == [
        (ORG, "one", "US", False),
        (OTHER_ORG, "two", "GB", False),
        (3, "three", "DE", False),
    ]
    assert accounts.list_orgs()[0].created_at == NOW
    assert bare.queries.program_book(org_id).default_region == "DE"


def test_an_id_is_taken_once(accounts: Accounts) -> None:
    """A second organisation under the same id is a conflict."""
    with pytest.raises(StorageConflict):
        accounts.create_org("again", "US", org_id=ORG)


def test_keys_are_made_listed_and_revoked(bare: Store, accounts: Accounts) -> None:
    """What is loaded is what was made; revoking is for good and only within the organisation."""
    first = accounts.create_key("k-1", ORG, client="till", role="operator", secret_hash="ab")
    bare.now += timedelta(seconds=1)
    until = NOW + timedelta(days=1)
    second = accounts.create_key("k-2", ORG, client="desk", role="admin", secret_hash="cd", expires_at=until)
    other = accounts.create_key("k-3", OTHER_ORG, client="till", role="reader", secret_hash="ef")

    assert first == KeyRow("k-1", ORG, "till", "operator", "ab", NOW, None, None, None)
    assert second.expires_at == until
    assert list(accounts.list_keys(ORG)) == [first, second]
    assert set(accounts.load_keys()) == {first, second, other}

    assert not accounts.revoke_key(OTHER_ORG, "k-1")
    assert accounts.revoke_key(ORG, "k-1")
    assert not accounts.revoke_key(ORG, "k-1")
    assert [one.revoked_at for one in accounts.list_keys(ORG)] == [bare.now, None]


def test_the_use_of_keys_is_noted(bare: Store, accounts: Accounts) -> None:
    """Times as they were told."""
    accounts.create_key("k-1", ORG, client="till", role="operator", secret_hash="ab")
    accounts.record_use({"k-1": NOW + timedelta(microseconds=7)})

    assert [one.last_used_at for one in accounts.load_keys()] == [NOW + timedelta(microseconds=7)]


def test_a_key_id_is_taken_once(accounts: Accounts) -> None:
    """In the whole installation."""
    accounts.create_key("k-1", ORG, client="till", role="operator", secret_hash="ab")

    with pytest.raises(StorageConflict):
        accounts.create_key("k-1", OTHER_ORG, client="till", role="operator", secret_hash="ab")
