"""The table of identity: every kind of credential, good and bad, over a loopback port with TLS on both sides.

The server runs with a certificate, a CA for its clients and an issuer of tokens. Each row shows one thing; what has to
be refused as nobody is refused with the very bytes with which an unknown key is.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from authority import Authority, Pair, localhost
from issuer import AUDIENCE, ISSUER, Issuer, claims
from points_grpc.cli.tokens import new_key
from points_grpc.client import tls
from points_grpc.rpc.signature import signature_of
from points_grpc.storage.accounts import Accounts
from points_grpc.storage.engine import Database
from points_grpc.v1 import customer_service_pb2, points_service_pb2, program_service_pb2
from points_grpc.v1.common_pb2 import CustomerIdentifier
from running import Details, RunningServer

Metadata = tuple[tuple[str, str], ...]

OURS, OTHERS = 1, 2
SIGNED = "points.v1.PointsService/TransferPoints"
REVOKED_WITHIN_S = 5.0
OK, NOBODY, UNREACHABLE = "OK", "nobody", "unreachable"
TRACE = ("x-correlation-id", "same")


@dataclass(frozen=True)
class Answer:
    """What a caller saw of a refusal, to the byte; empty for an answer that was given."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    number: int = 0


class World:
    """The server, two organisations, and all that may be shown to it."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.foreign = Authority(folder), Authority(folder, "foreign CA")
        self.issuer = Issuer()
        keys = folder / "jwks.json"
        keys.write_bytes(self.issuer.key_set())
        served = self.authority.issue("server", localhost())
        self.server = RunningServer(
            folder,
            *("--tls-certificate", str(served.certificate), "--tls-key", str(served.key)),
            *("--tls-client-ca", str(self.authority.file)),
            *("--jwt-keys", str(keys), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE),
        )
        for name in ("ours", "others"):
            self.server.organisation(name)
        self.nameless = self.authority.issue("nobody in particular")
        self.registered = self.authority.issue("till", x509.DNSName("till.ours"))
        self.of_others = self.authority.issue("till of others")
        self.signed, self.signing_secret = self.server.signed_key(OURS)
        self.key, self.doomed, self.others = self.server.key(OURS), self.server.key(OURS), self.server.key(OTHERS)
        self.reader = self.server.key(OURS, role="reader")
        self.ended = self._key_that_ended()
        with closing(Database(self.server.database)) as database:
            accounts = Accounts(database)
            accounts.create_certificate("till.ours", OURS, client="till", role="operator", store="berlin-3", till="7")
            accounts.create_certificate("till of others", OTHERS, client="till", role="operator")
            accounts.create_certificate("doomed", OURS, client="till", role="operator")
            accounts.create_certificate("third", OTHERS, client="third", role="reader")
        self.server.start()
        self.address = f"localhost:{self.server.port}"
        self.channels: dict[Path, grpc.Channel] = {}

    def channel(self, shown: Pair) -> grpc.Channel:
        """A channel that shows a certificate; one for each."""
        made = self.channels.get(shown.certificate)
        if made is None:
            credentials = tls(self.authority.file, certificate_file=shown.certificate, key_file=shown.key)
            made = self.channels[shown.certificate] = grpc.secure_channel(self.address, credentials)
        return made

    def call(
        self,
        *metadata: tuple[str, str],
        shown: Pair | None = None,
        path: str = "points.v1.CatalogService/GetServerInfo",
        request: bytes = b"",
    ) -> Answer:
        """Calls with what is shown."""
        return self.over(self.channel(shown or self.nameless), *metadata, path=path, request=request)

    @staticmethod
    def over(
        channel: grpc.Channel,
        *metadata: tuple[str, str],
        path: str = "points.v1.CatalogService/GetServerInfo",
        request: bytes = b"",
    ) -> Answer:
        """Calls over a channel."""
        try:
            channel.unary_unary(f"/{path}")(request, metadata=(*metadata, TRACE), timeout=10)
        except grpc.RpcError as error:
            trailers = tuple(error.trailing_metadata() or ())
            number = Details(error).number if trailers else 0
            return Answer(error.code(), error.details() or "", trailers, number)
        return Answer()

    def accounts(self, change: Callable[[Accounts], object]) -> None:
        """Administers beside the server."""
        with closing(Database(self.server.database)) as database:
            change(Accounts(database))

    def close(self) -> None:
        """Ends the server."""
        for channel in self.channels.values():
            channel.close()
        self.server.close()

    def _key_that_ended(self) -> str:
        key, yesterday = new_key(), datetime.now(UTC) - timedelta(days=1)
        self.accounts(
            lambda accounts: accounts.create_key(
                key.key_id, OURS, client="old", role="admin", secret_hash=key.secret_hash, expires_at=yesterday
            )
        )
        return key.token


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("identity"))
    yield made
    made.close()


# -- what is shown


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def basic(token: str) -> tuple[str, str]:
    key_id, secret = token.removeprefix("pk_").split("_")
    return "authorization", "Basic " + base64.b64encode(f"{key_id}:{secret}".encode()).decode()


def unknown(world: World) -> Answer:
    """The refusal that all others have to be equal to."""
    return world.call(bearer(new_key().token))


def wrong_secret(world: World) -> Answer:
    key_id = world.key.removeprefix("pk_").partition("_")[0]
    return world.call(bearer(f"pk_{key_id}_{'0' * 64}"))


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def alg_none(world: World) -> Answer:
    return world.call(bearer(f"{part({'alg': 'none', 'kid': 'rsa'})}.{part(claims())}."))


def key_confusion(world: World) -> Answer:
    """The public key, which everybody has, as the secret of HS256."""
    text = f"{part({'alg': 'HS256', 'kid': 'rsa', 'typ': 'JWT'})}.{part(claims())}"
    forged = hmac.digest(world.issuer.public_pem("rsa"), text.encode(), sha256)
    return world.call(bearer(f"{text}.{base64.urlsafe_b64encode(forged).rstrip(b'=').decode()}"))


def altered(world: World) -> Answer:
    head, _, signature = world.issuer.token().split(".")
    return world.call(bearer(f"{head}.{part(claims(role='admin'))}.{signature}"))


def token(name: str = "rsa", *, kid: str = "", shown: str = "nameless", **changes: object) -> Callable[[World], Answer]:
    """A row whose token differs in some claims; times are seconds from now."""

    def row(world: World) -> Answer:
        now = int(time.time())
        told = {key: now + int(str(value)) if key in ("exp", "nbf", "iat") else value for key, value in changes.items()}
        return world.call(bearer(world.issuer.token(name, kid=kid, **told)), shown=getattr(world, shown))

    return row


def certified(shown: str, *metadata: Callable[[World], tuple[str, str]]) -> Callable[[World], Answer]:
    """A row that shows a certificate, and perhaps something else."""
    return lambda world: world.call(*(one(world) for one in metadata), shown=getattr(world, shown))


def foreign_ca(world: World) -> Answer:
    """The same name, signed by somebody else."""
    return world.call(shown=world.foreign.issue("till", x509.DNSName("till.ours"), file="forged"))


def expired_certificate(world: World) -> Answer:
    ended = world.authority.issue("till", x509.DNSName("till.ours"), file="ended", lasts=-timedelta(hours=1))
    return world.call(shown=ended)


def no_certificate(world: World) -> Answer:
    with grpc.secure_channel(world.address, tls(world.authority.file)) as channel:
        return world.over(channel, bearer(world.key))


def plain_text(world: World) -> Answer:
    with grpc.insecure_channel(world.address) as channel:
        return world.over(channel, bearer(world.key))


def downgraded(world: World) -> Answer:
    """The server's certificate is checked too: whoever trusts another CA does not send a key here."""
    with grpc.secure_channel(world.address, tls(world.foreign.file)) as channel:
        return world.over(channel, bearer(world.key))


# -- signatures


def signature(world: World, raw: bytes, *, at: int = 0, secret: bytes | None = None) -> Metadata:
    """What signs a request."""
    stamp = str(int(time.time()) + at)
    return (
        bearer(world.signed),
        ("x-points-key-id", world.signed.split("_")[1]),
        ("x-points-timestamp", stamp),
        ("x-points-signature", signature_of(secret or world.signing_secret, SIGNED, stamp, raw)),
    )


def malformed(name: str) -> bytes:
    """A transfer that is refused for good, and not recorded."""
    return points_service_pb2.TransferPointsRequest(request_id=name).SerializeToString()


def signed(world: World, name: str, *, times: int = 1, **how: Any) -> Answer:
    raw = malformed(name)
    shown = signature(world, raw, **how)
    return [world.call(*shown, path=SIGNED, request=raw) for _ in range(times)][-1]


def replayed_for_another(world: World) -> Answer:
    """The signature of one request above another."""
    return world.call(*signature(world, malformed("one")), path=SIGNED, request=malformed("two"))


def unsigned(world: World) -> Answer:
    return world.call(bearer(world.signed), path=SIGNED, request=malformed("unsigned"))


TABLE: tuple[tuple[str, Callable[[World], Answer], str | int], ...] = (
    # what is let in, so that the rest is refused for its one difference
    ("key", lambda world: world.call(bearer(world.key)), OK),
    ("key id and secret", lambda world: world.call(basic(world.key)), OK),
    ("token by RS256", token("rsa"), OK),
    ("token by ES256", token("ec"), OK),
    ("token by EdDSA", token("ed"), OK),
    ("certificate", certified("registered"), OK),
    ("certificate without alternative names", certified("of_others"), OK),
    ("certificate and key of an organisation", certified("registered", lambda world: bearer(world.key)), OK),
    ("signature", lambda world: signed(world, "control"), 8013),
    # keys
    ("no key", lambda world: world.call(), NOBODY),
    ("unknown key", unknown, NOBODY),
    ("wrong secret", wrong_secret, NOBODY),
    ("wrong secret as password", lambda world: world.call(basic(world.key[:-1] + "g")), NOBODY),
    ("two keys", lambda world: world.call(bearer(world.key), bearer(world.key)), NOBODY),
    ("expired key", lambda world: world.call(bearer(world.ended)), NOBODY),
    ("lesser role", lambda world: world.call(bearer(world.reader), path=SIGNED), 10002),
    # tokens
    ("alg none", alg_none, NOBODY),
    ("key confusion", key_confusion, NOBODY),
    ("altered claims", altered, NOBODY),
    ("key of another kid", token("rsa", kid="ec"), NOBODY),
    ("unknown kid", token("rsa", kid="unknown"), NOBODY),
    ("wrong audience", token(aud="another service"), NOBODY),
    ("wrong issuer", token(iss="https://other.example/"), NOBODY),
    ("expired token", token(iat=-600, exp=-60), NOBODY),
    ("token that is not valid yet", token(nbf=300), NOBODY),
    ("token of tomorrow", token(iat=86_400, exp=87_000), NOBODY),
    ("token for ever", token(exp=86_400), NOBODY),
    ("token of an organisation that is not here", token(org_id=99), NOBODY),
    ("token without role", token(role="owner"), NOBODY),
    # certificates
    ("certificate of nobody", certified("nameless"), NOBODY),
    ("certificate and bad key", certified("registered", lambda world: bearer(new_key().token)), NOBODY),
    ("certificate and bad token", token(shown="registered", aud="another service"), NOBODY),
    ("certificate of others and key", certified("of_others", lambda world: bearer(world.key)), NOBODY),
    ("certificate of others and token", token(shown="of_others"), NOBODY),
    ("foreign CA", foreign_ca, UNREACHABLE),
    ("expired certificate", expired_certificate, UNREACHABLE),
    ("no certificate", no_certificate, UNREACHABLE),
    ("plain text on the TLS port", plain_text, UNREACHABLE),
    ("server of another CA", downgraded, UNREACHABLE),
    # signatures
    ("no signature", unsigned, 825),
    ("signature by another secret", lambda world: signed(world, "forged", secret=b"0" * 64), 825),
    ("signature of long ago", lambda world: signed(world, "old", at=-301), 825),
    ("signature of another request", replayed_for_another, 825),
    ("replayed signature", lambda world: signed(world, "replayed", times=2), 825),
)


@pytest.mark.parametrize(("show", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_identity(world: World, show: Callable[[World], Answer], expected: str | int) -> None:
    """Who shows something good is let in; the rest gets the refusal of its kind, and nobody learns why."""
    answer = show(world)
    reference = unknown(world)

    assert (grpc.StatusCode.UNAUTHENTICATED, 10001) == (reference.code, reference.number)
    if expected == OK:
        assert Answer() == answer
    elif expected == NOBODY:
        assert reference == answer
    elif expected == UNREACHABLE:
        assert (grpc.StatusCode.UNAVAILABLE, ()) == (answer.code, answer.trailers)
    else:
        assert expected == answer.number


# -- what was good a moment ago


def revoke_key(world: World) -> Callable[[], Answer]:
    assert Answer() == world.call(bearer(world.doomed))
    world.accounts(lambda accounts: accounts.revoke_key(OURS, world.doomed.split("_")[1]))
    return lambda: world.call(bearer(world.doomed))


def revoke_tokens(world: World) -> Callable[[], Answer]:
    made = world.issuer.token("ed", sub="gone")
    assert Answer() == world.call(bearer(made))
    world.accounts(lambda accounts: accounts.revoke_tokens(OURS, "gone"))
    return lambda: world.call(bearer(made))


def revoke_certificate(world: World) -> Callable[[], Answer]:
    doomed = world.authority.issue("doomed")
    assert Answer() == world.call(shown=doomed)
    world.accounts(lambda accounts: accounts.revoke_certificate(OURS, "doomed"))
    return lambda: world.call(shown=doomed)


@pytest.mark.parametrize("revoke", [revoke_tokens, revoke_certificate, revoke_key])
def test_revoked(world: World, revoke: Callable[[World], Callable[[], Answer]]) -> None:
    """A key, a name or the tokens of a client stop to work within 5 seconds, as if they had never been there."""
    call, since = revoke(world), time.monotonic()
    while (answer := call()) == Answer() and time.monotonic() < since + REVOKED_WITHIN_S:
        time.sleep(0.05)

    assert unknown(world) == answer
    assert time.monotonic() < since + REVOKED_WITHIN_S


# -- whose is whose


@pytest.fixture(scope="module")
def customer_of_ours(world: World) -> str:
    """A customer of the first organisation."""
    request = customer_service_pb2.CreateCustomerRequest(customer_id=565039505)
    who = bearer(world.issuer.token(role="admin"))
    path = "points.v1.CustomerService/CreateCustomer"
    assert Answer() == world.call(who, path=path, request=request.SerializeToString())
    return "565039505"


@pytest.mark.parametrize("kind", ["key", "token", "certificate"])
def test_wrong_tenant(world: World, customer_of_ours: str, kind: str) -> None:
    """Whatever names its organisation, a customer of another one is not there, to the byte."""
    shown = world.authority.issue("third") if kind == "certificate" else world.nameless
    credentials = {"key": world.others, "token": world.issuer.token(org_id=OTHERS)}
    who = [bearer(credentials[kind])] if kind in credentials else []
    answers = []
    for customer_id in (customer_of_ours, "565039599"):
        identifier = CustomerIdentifier(type=CustomerIdentifier.ID, value=customer_id)
        request = customer_service_pb2.GetCustomerRequest(customer_identifier=identifier)
        path = "points.v1.CustomerService/GetCustomer"
        answers.append(world.call(*who, shown=shown, path=path, request=request.SerializeToString()))
    theirs, nobodys = answers

    assert grpc.StatusCode.NOT_FOUND == theirs.code
    assert theirs == nobodys


def test_attribution(world: World) -> None:
    """The audit log says which client it was, and at which till of which store."""
    service, admin = "points.v1.ProgramService", bearer(world.issuer.token(role="admin"))
    who = bearer(world.issuer.token(role="admin", sub="back office", store="berlin-3", till="7"))
    request = program_service_pb2.CreateProgramRequest(name="Ours")
    made = world.call(who, path=f"{service}/CreateProgram", request=request.SerializeToString())
    listed = world.channel(world.nameless).unary_unary(
        f"/{service}/ListAuditEvents", response_deserializer=program_service_pb2.ListAuditEventsResponse.FromString
    )(b"", metadata=(admin,), timeout=10)

    assert Answer() == made
    assert "back office (store berlin-3, till 7)" in [one.actor for one in listed.audit_events]


def test_nothing_of_a_credential_is_logged(world: World) -> None:
    """Whatever was shown, the log holds none of it; it says why tokens were refused, in words of its own."""
    made = world.issuer.token(aud="another service")
    time.sleep(1.1)
    before = len(world.server.events("token_refused"))
    world.call(bearer(made))
    told = world.server.events("token_refused", least=before + 1)[before:]

    assert "InvalidAudienceError" in json.dumps(told)
    for secret in (made, made.split(".")[1], world.key.split("_")[2], world.signing_secret.decode()):
        assert secret not in world.server.errors()
