"""Organisations and keys, as the command line and the knower of callers see them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stores import NOW, ORG, OTHER_ORG, Store

from points_grpc.service.ports import StorageConflict
from points_grpc.storage.accounts import NEW_ORG_KEYS, Accounts, CertificateRow, KeyRow


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


def test_a_configuration_key_is_read_for_all_organisations(bare: Store, accounts: Accounts) -> None:
    """As raw text, by organisation; who has not set it is left out."""
    first, second = accounts.create_org("three", "DE"), accounts.create_org("four", "FR")

    assert accounts.config_texts("ALLOW_POINTS_TRANSFER").items() >= {first: "true", second: "true"}.items()
    assert accounts.config_texts("REQUIRE_REQUEST_ID") == {}


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


def test_certificates_are_made_listed_and_revoked(bare: Store, accounts: Accounts) -> None:
    """What is loaded is what was made; a name stands for one client of all organisations, until it is taken back."""
    till = accounts.create_certificate("till.internal", ORG, client="pos", role="reader", store="berlin", till="7")
    desk = accounts.create_certificate("desk", OTHER_ORG, client="desk", role="admin", request_id_required=True)
    with pytest.raises(StorageConflict):
        accounts.create_certificate("till.internal", OTHER_ORG, client="pos", role="reader")

    assert CertificateRow("till.internal", ORG, "pos", "reader", NOW, False, "berlin", "7") == till
    assert [desk, till] == list(accounts.list_certificates())
    assert [till] == list(accounts.list_certificates(ORG))

    assert not accounts.revoke_certificate(OTHER_ORG, "till.internal")
    assert accounts.revoke_certificate(ORG, "till.internal")
    assert not accounts.revoke_certificate(ORG, "till.internal")
    assert [desk] == list(accounts.list_certificates())
    accounts.create_certificate("till.internal", OTHER_ORG, client="pos", role="reader")
    done = [(one.action, one.subject) for one in bare.queries.audit_events(ORG, subject="", before=0, limit=2)]
    assert [
        ("RevokeCertificate", "certificate/till.internal"),
        ("CreateCertificate", "certificate/till.internal"),
    ] == done


def test_tokens_are_revoked(bare: Store, accounts: Accounts) -> None:
    """By client, those issued until now; again, until then."""
    accounts.revoke_tokens(ORG, "app")
    accounts.revoke_tokens(OTHER_ORG, "app")
    bare.now += timedelta(seconds=5)
    accounts.revoke_tokens(ORG, "app")

    assert {(ORG, "app"): bare.now, (OTHER_ORG, "app"): NOW} == accounts.token_cutoffs()


def test_keys_say_where_they_stand(accounts: Accounts) -> None:
    """Store and till of a key are kept."""
    made = accounts.create_key("k-1", ORG, client="till", role="operator", secret_hash="ab", store="berlin", till="7")

    assert [made] == list(accounts.load_keys())
    assert ("berlin", "7") == (made.store, made.till)
