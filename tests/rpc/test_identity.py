"""Who is known by which credential."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256

import pytest
from wire_fakes import NullLog

from points_grpc.rpc import identity
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.identity import Callers, Directory, KeyRow
from points_grpc.rpc.ports import Metadata

NOW = 1_773_576_000.0
SECRET = "s3cr_et-" + "x" * 35


def row(key_id: str, **changes: object) -> KeyRow:
    values: dict[str, object] = {
        "key_id": key_id,
        "org_id": 1,
        "client": "till",
        "role": Role.OPERATOR,
        "secret_sha256": sha256(SECRET.encode()).hexdigest(),
        "default_region": "IN",
    }
    return KeyRow(**(values | changes))  # type: ignore[arg-type]


ROWS = {
    one.key_id: one
    for one in (
        row("good"),
        row("later", expires_at=NOW + 1),
        row("expired", expires_at=NOW),
        row("revoked", revoked=True),
        row("strict", org_id=2, client="pos", role=Role.ADMIN, default_region="US", request_id_required=True),
    )
}


class Loader:
    """The table of keys."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRow] = dict(ROWS)
        self.certificates: Mapping[str, Caller] = {}
        self.broken = False
        self.reads = 0

    async def __call__(self) -> Directory:
        self.reads += 1
        if self.broken:
            raise ConnectionError
        return Directory(keys=dict(self.rows), certificates=self.certificates)


class Peer:
    """A connection, with the names in the certificate that the client showed."""

    def __init__(self, *names: str) -> None:
        self._names = [name.encode() for name in names]

    def peer_identities(self) -> Iterable[bytes] | None:
        return self._names or None


PLAIN = Peer()


def known(loader: Loader) -> Callers:
    found = Callers(loader, NullLog(), clock=lambda: NOW)
    asyncio.run(found.refresh())
    return found


def bearer(token: str, scheme: str = "Bearer") -> Metadata:
    return (("user-agent", "x"), ("authorization", f"{scheme} {token}"))


def basic(text: str) -> Metadata:
    return bearer(base64.b64encode(text.encode()).decode(), "Basic")


GOOD = Caller(org_id=1, client="till", key_id="good", role=Role.OPERATOR, default_region="IN")
STRICT = Caller(org_id=2, client="pos", key_id="strict", role=Role.ADMIN, default_region="US", request_id_required=True)

TABLE: tuple[tuple[str, Metadata, Caller | None], ...] = (
    ("bearer", bearer(f"pk_good_{SECRET}"), GOOD),
    ("bearer in capitals", bearer(f"pk_good_{SECRET}", "BEARER"), GOOD),
    ("basic", basic(f"good:{SECRET}"), GOOD),
    ("all that a key says", bearer(f"pk_strict_{SECRET}"), STRICT),
    ("missing", (), None),
    ("other metadata only", (("x", "y"),), None),
    ("twice", bearer(f"pk_good_{SECRET}") + bearer(f"pk_good_{SECRET}"), None),
    ("bytes", (("authorization", b"Bearer x"),), None),
    ("empty", (("authorization", ""),), None),
    ("no scheme", (("authorization", f"pk_good_{SECRET}"),), None),
    ("wrong scheme", bearer(f"pk_good_{SECRET}", "Digest"), None),
    ("scheme only", (("authorization", "Bearer"),), None),
    ("not of ours", bearer("eyJhbGciOiJIUzI1NiJ9.e30.x"), None),
    ("without secret", bearer("pk_good_"), None),
    ("without key id", bearer(f"pk__{SECRET}"), None),
    ("without both", bearer("pk_"), None),
    ("too long", bearer(f"pk_good_{SECRET}" + "x" * 1000), None),
    ("unknown key", bearer(f"pk_bad_{SECRET}"), None),
    ("wrong secret", bearer("pk_good_" + "y" * 43), None),
    ("secret of other case", bearer(f"pk_good_{SECRET.upper()}"), None),
    ("the stored hash", bearer("pk_good_" + sha256(SECRET.encode()).hexdigest()), None),
    ("basic, not base64", bearer("***", "Basic"), None),
    ("basic, not text", bearer(base64.b64encode(b"\xff:x").decode(), "Basic"), None),
    ("basic, no colon", basic("good"), None),
    ("basic, wrong secret", basic("good:nope"), None),
    ("expires later", bearer(f"pk_later_{SECRET}"), Caller(1, "till", "later", Role.OPERATOR, "IN")),
    ("expired", bearer(f"pk_expired_{SECRET}"), None),
    ("revoked", bearer(f"pk_revoked_{SECRET}"), None),
)


@pytest.mark.parametrize(("metadata", "caller"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_credentials(metadata: Metadata, caller: Caller | None) -> None:
    """A credential identifies a caller, or nobody."""
    assert known(Loader()).authenticate(metadata, PLAIN) == caller


def test_revocation_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys are read again and again; a key that is revoked stops to work, without anybody asking."""
    monkeypatch.setattr(identity, "REFRESH_S", 0.01)

    async def run() -> list[bool]:
        loader = Loader()
        found = Callers(loader, NullLog(), clock=lambda: NOW)
        await found.start()
        before = found.authenticate(bearer(f"pk_good_{SECRET}"), PLAIN)
        loader.rows["good"] = row("good", revoked=True)
        await asyncio.sleep(0.1)
        after = found.authenticate(bearer(f"pk_good_{SECRET}"), PLAIN)
        await found.stop()
        return [before is not None, after is not None]

    assert asyncio.run(run()) == [True, False]


def test_database_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the keys cannot be read, those read last stay in force, and the log says so."""
    monkeypatch.setattr(identity, "REFRESH_S", 0.01)
    log = NullLog()

    async def run() -> Caller | None:
        loader = Loader()
        found = Callers(loader, log, clock=lambda: NOW)
        await found.start()
        loader.broken = True
        await asyncio.sleep(0.1)
        still = found.authenticate(bearer(f"pk_good_{SECRET}"), PLAIN)
        loader.broken = False
        reads = loader.reads
        await asyncio.sleep(0.1)
        await found.stop()
        assert loader.reads > reads
        return still

    assert asyncio.run(run()) == GOOD
    assert ("directory_not_refreshed", {"error": "ConnectionError"}) in log.errors


def test_first_read_must_succeed() -> None:
    """A server that cannot read its keys does not start."""
    loader = Loader()
    loader.broken = True

    with pytest.raises(ConnectionError):
        asyncio.run(Callers(loader, NullLog()).start())


CHECKOUT = Caller(1, "checkout", "", Role.MANAGER, "IN", store="berlin-3")
ELSEWHERE = Caller(2, "pos", "", Role.READER, "US")
FAR_AWAY = Caller(3, "pos", "", Role.READER, "US")
NAMES = {"checkout.internal": CHECKOUT, "checkout.local": CHECKOUT, "elsewhere": ELSEWHERE, "far away": FAR_AWAY}
GOOD_KEY, BAD_KEY = bearer(f"pk_good_{SECRET}"), bearer("pk_good_wrong")


@pytest.mark.parametrize(
    ("metadata", "peer", "caller"),
    [
        ((), Peer("checkout.internal"), CHECKOUT),
        ((), Peer("unknown", "checkout.internal"), CHECKOUT),
        ((), Peer("checkout.internal", "checkout.local"), CHECKOUT),
        ((), Peer("CHECKOUT.INTERNAL"), None),
        ((), Peer("unknown"), None),
        ((), Peer("checkout.internal", "elsewhere"), None),
        ((), PLAIN, None),
        (GOOD_KEY, Peer("unknown"), GOOD),
        (GOOD_KEY, Peer("checkout.internal"), GOOD),
        (GOOD_KEY, Peer("elsewhere"), None),
        (GOOD_KEY, Peer("elsewhere", "far away"), None),
        (GOOD_KEY, Peer("elsewhere", "checkout.internal"), GOOD),
        (GOOD_KEY, PLAIN, GOOD),
        (BAD_KEY, Peer("checkout.internal"), None),
        (basic("good"), Peer("checkout.internal"), None),
        (GOOD_KEY + GOOD_KEY, Peer("checkout.internal"), None),
        (bearer(""), Peer("checkout.internal"), None),
        (bearer("eyJhbGciOiJIUzI1NiJ9.e30.x"), Peer("checkout.internal"), None),
    ],
)
def test_certificates(metadata: Metadata, peer: Peer, caller: Caller | None) -> None:
    """A certificate identifies who shows nothing else; a credential decides alone, within the same organisation."""
    loader = Loader()
    loader.certificates = NAMES

    assert caller == known(loader).authenticate(metadata, peer)


def test_names_that_are_no_text() -> None:
    """Whatever a certificate holds, it is nobody's name."""

    class Odd:
        def peer_identities(self) -> Iterable[bytes]:
            return [b"\xff\xfe", b""]

    loader = Loader()
    loader.certificates = NAMES

    assert known(loader).authenticate((), Odd()) is None


@pytest.mark.parametrize(
    ("store", "till", "actor"),
    [
        ("", "", "pos"),
        ("berlin-3", "", "pos (store berlin-3)"),
        ("", "7", "pos (till 7)"),
        ("berlin-3", "7", "pos (store berlin-3, till 7)"),
    ],
)
def test_actor(store: str, till: str, actor: str) -> None:
    """The audit log names the client, and where it stands as far as its credential says."""
    assert actor == Caller(1, "pos", "k", Role.READER, "IN", store=store, till=till).actor


def test_uses_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which keys were used is noted again and again, and at the end; what could not be noted is noted later."""
    monkeypatch.setattr(identity, "USE_NOTED_S", 0.02)
    noted: list[set[str]] = []
    log = NullLog()

    async def note(key_ids: Collection[str]) -> None:
        noted.append(set(key_ids))
        if len(noted) == 1:
            raise ConnectionError

    async def run() -> None:
        found = Callers(Loader(), log, note_use=note, clock=lambda: NOW)
        await found.start()
        for metadata in (bearer(f"pk_good_{SECRET}"), BAD_KEY, bearer(f"pk_expired_{SECRET}"), ()):
            found.authenticate(metadata, PLAIN)
        while len(noted) < 2:
            await asyncio.sleep(0.01)
        found.authenticate(bearer(f"pk_strict_{SECRET}"), PLAIN)
        await found.stop()

    asyncio.run(run())

    assert [{"good"}, {"good"}, {"strict"}] == noted
    assert [("use_not_noted", {"error": "ConnectionError"})] == log.errors
