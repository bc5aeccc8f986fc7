"""The keyring: keyed hashes by purpose, sealed messages, rotation."""

from __future__ import annotations

import pytest

from points_grpc.service.keyring import Keyring, UnknownKey

OLD = Keyring({"k1": b"1" * 32}, "k1")
ROTATED = Keyring({"k1": b"1" * 32, "k2": b"2" * 32}, "k2")


def test_sealed_text_opens_with_its_key_after_rotation() -> None:
    """What the old key sealed opens while the old key is at hand."""
    assert "482913" == ROTATED.open("k1", OLD.seal("482913"))


def test_sealed_text_does_not_show_its_content() -> None:
    """The ciphertext contains nothing of the code."""
    assert b"482913" not in OLD.seal("482913")


@pytest.mark.parametrize(
    ("key_id", "sealed"),
    [("gone", OLD.seal("1")), ("k2", OLD.seal("1")), ("k1", b"broken")],
    ids=["lost", "wrong", "broken"],
)
def test_what_cannot_be_opened_says_so(key_id: str, sealed: bytes) -> None:
    """A lost key, a wrong key and a broken text are one error."""
    with pytest.raises(UnknownKey):
        ROTATED.open(key_id, sealed)


def test_code_hashes_depend_on_key_and_content() -> None:
    """The same code under another key or for another content hashes differently; a lost key hashes nothing."""
    hashes = {ROTATED.code_hash("k1", b"a"), ROTATED.code_hash("k2", b"a"), ROTATED.code_hash("k1", b"b")}

    assert 3 == len(hashes)
    assert ROTATED.code_hash("gone", b"a") is None


def test_fingerprints_are_repeatable_under_the_recorded_key() -> None:
    """A request is compared under the key that recorded it, even after rotation."""
    content = {"points": b"1", "code": b"123456"}

    assert OLD.fingerprint(content) == ROTATED.fingerprint(content, "k1")
    assert OLD.fingerprint(content) != ROTATED.fingerprint(content)


@pytest.mark.parametrize(("keys", "active"), [({"k1": b"short"}, "k1"), ({"k1": b"1" * 32}, "k2")])
def test_a_weak_or_incomplete_keyring_is_refused(keys: dict[str, bytes], active: str) -> None:
    """Keys have 32 bytes, and the active one is among them."""
    with pytest.raises(ValueError, match="32-byte"):
        Keyring(keys, active)


def test_signing_secrets_belong_to_one_key() -> None:
    """A signing secret survives rotation, differs from key to key, and is gone with the key it came from."""
    assert OLD.signing_secret("k1", "a1b2") == ROTATED.signing_secret("k1", "a1b2")
    assert 3 == len({ROTATED.signing_secret(*one) for one in (("k1", "a1b2"), ("k1", "c3d4"), ("k2", "a1b2"))})
    assert ROTATED.signing_secret("gone", "a1b2") is None


def test_a_keyring_is_rotated_in_use() -> None:
    """Whoever holds a keyring makes new things with the new key at once, and still knows the old one."""
    keyring = Keyring({"k1": b"1" * 32}, "k1")
    sealed, [page_key] = keyring.seal("482913"), keyring.page_keys()

    keyring.take(ROTATED)

    assert "k2" == keyring.active
    assert {"k1", "k2"} == keyring.key_ids
    assert "482913" == keyring.open("k1", sealed)
    assert page_key == keyring.page_keys()[1]
    assert keyring.open("k2", keyring.seal("1")) == keyring.open("k1", keyring.seal("1", "k1"))


def test_nothing_is_sealed_with_a_key_that_is_not_at_hand() -> None:
    """To seal with a key that was retired is an error, and no text in the clear."""
    with pytest.raises(UnknownKey):
        OLD.seal("482913", "k2")
