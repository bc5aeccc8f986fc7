"""Who is known by which credential."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from hashlib import sha256

import pytest
from wire_fakes import NullLog

from points_grpc.rpc import identity
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.identity import KeyIdentity, KeyRow
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
        self.broken = False
        self.reads = 0

    async def __call__(self) -> Mapping[str, KeyRow]:
        self.reads += 1
        if self.broken:
            raise ConnectionError
        return dict(self.rows)


def known(loader: Loader) -> KeyIdentity:
    found = KeyIdentity(loader, NullLog(), clock=lambda: NOW)
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
    assert known(Loader()).authenticate(metadata) == caller


def test_revocation_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys are read again and again; a key that is revoked stops to work, without anybody asking."""
    monkeypatch.setattr(identity, "REFRESH_S", 0.01)

    async def run() -> list[bool]:
        loader = Loader()
        found = KeyIdentity(loader, NullLog(), clock=lambda: NOW)
        await found.start()
        before = found.authenticate(bearer(f"pk_good_{SECRET}"))
        loader.rows["good"] = row("good", revoked=True)
        await asyncio.sleep(0.1)
        after = found.authenticate(bearer(f"pk_good_{SECRET}"))
        await found.stop()
        return [before is not None, after is not None]

    assert asyncio.run(run()) == [True, False]


def test_database_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the keys cannot be read, those read last stay in force, and the log says so."""
    monkeypatch.setattr(identity, "REFRESH_S", 0.01)
    log = NullLog()

    async def run() -> Caller | None:
        loader = Loader()
        found = KeyIdentity(loader, log, clock=lambda: NOW)
        await found.start()
        loader.broken = True
        await asyncio.sleep(0.1)
        still = found.authenticate(bearer(f"pk_good_{SECRET}"))
        loader.broken = False
        reads = loader.reads
        await asyncio.sleep(0.1)
        await found.stop()
        assert loader.reads > reads
        return still

    assert asyncio.run(run()) == GOOD
    assert ("keys_not_refreshed", {"error": "ConnectionError"}) in log.errors


def test_first_read_must_succeed() -> None:
    """A server that cannot read its keys does not start."""
    loader = Loader()
    loader.broken = True

    with pytest.raises(ConnectionError):
        asyncio.run(KeyIdentity(loader, NullLog()).start())
