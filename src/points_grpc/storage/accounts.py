"""Organisations and who calls for them: what the command line administers, and what callers are known by.

Its writes do not pass through the committer, nor do those of `business_events`: they touch no customer and no journal,
and run in tools beside a serving process. Secrets arrive as hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, func, insert, select, update

from points_grpc.storage.audit_log import AuditLog, transaction
from points_grpc.storage.engine import Database
from points_grpc.storage.schema import api_keys, client_certificates, config_keys, orgs, token_cutoffs
from points_grpc.storage.times import from_micros, from_micros_or_none, to_micros, to_micros_or_none

NEW_ORG_KEYS: Mapping[str, str] = {
    "CONF_FRAUD_STATUS_CHECK_POINTS_TRANSFER": "true",
    "ALLOW_POINTS_TRANSFER": "true",
    "ALLOW_POINTS_REDEMPTION": "true",
    "Allow_points_redemption_reversal": "true",
    "ENABLE_GROUP_PROGRAMS_REDEMPTION": "true",
}
"""The configuration that an organisation starts with, under the documented names, spelt as documented."""


@dataclass(frozen=True, slots=True)
class OrgRow:
    """An organisation."""

    org_id: int
    name: str
    default_region: str
    default_program_id: int | None
    paused: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key. The secret itself is known to its owner alone."""

    key_id: str
    org_id: int
    client: str
    role: str
    secret_hash: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    request_id_required: bool = False
    signing_key_id: str | None = None
    store: str = ""
    till: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """The name in certificates under which a client of an organisation calls."""

    name: str
    org_id: int
    client: str
    role: str
    created_at: datetime
    request_id_required: bool = False
    store: str = ""
    till: str = ""


class Accounts:
    """Administers organisations and keys. Safe from any thread and beside a serving process."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._now = now
        self._audit = AuditLog(now=now)

    def create_org(self, name: str, default_region: str, *, org_id: int = 0) -> int:
        """Creates an organisation with its first configuration, and returns its id: the next, or the one named."""
        with transaction(self._database.writer) as connection:
            number = org_id or connection.execute(select(func.coalesce(func.max(orgs.c.org_id), 0) + 1)).scalar_one()
            connection.execute(
                insert(orgs).values(
                    org_id=number,
                    name=name,
                    default_region=default_region,
                    default_program_id=None,
                    paused=0,
                    book_version=1,
                    created_at=to_micros(self._now()),
                )
            )
            connection.execute(
                insert(config_keys),
                [{"org_id": number, "name": key, "value": value} for key, value in NEW_ORG_KEYS.items()],
            )
            self._audit.note(
                connection, number, "CreateOrganisation", "org", after={"name": name, "region": default_region}
            )
        return number

    def list_orgs(self) -> Sequence[OrgRow]:
        """Every organisation, by id."""
        query = select(
            orgs.c.org_id,
            orgs.c.name,
            orgs.c.default_region,
            orgs.c.default_program_id,
            orgs.c.paused,
            orgs.c.created_at,
        ).order_by(orgs.c.org_id)
        with transaction(self._database.reader) as connection:
            return [
                OrgRow(org_id, name, region, program_id, bool(paused), from_micros(created_at))
                for org_id, name, region, program_id, paused, created_at in connection.execute(query)
            ]

    def config_texts(self, name: str) -> Mapping[int, str]:
        """The raw text of a configuration key, by organisation; those that have not set it are left out."""
        query = select(config_keys.c.org_id, config_keys.c.value).where(config_keys.c.name == name)
        with transaction(self._database.reader) as connection:
            return {row.org_id: row.value for row in connection.execute(query)}

    def create_key(
        self,
        key_id: str,
        org_id: int,
        *,
        client: str,
        role: str,
        secret_hash: str,
        expires_at: datetime | None = None,
        request_id_required: bool = False,
        signing_key_id: str | None = None,
        store: str = "",
        till: str = "",
    ) -> KeyRow:
        """Records a new key of an organisation. `signing_key_id`: which secret key its signing secret derives from."""
        row = KeyRow(
            key_id,
            org_id,
            client,
            role,
            secret_hash,
            created_at=self._now(),
            expires_at=expires_at,
            revoked_at=None,
            last_used_at=None,
            request_id_required=request_id_required,
            signing_key_id=signing_key_id,
            store=store,
            till=till,
        )
        with transaction(self._database.writer) as connection:
            connection.execute(
                insert(api_keys).values(
                    key_id=key_id,
                    org_id=org_id,
                    client=client,
                    role=role,
                    secret_hash=secret_hash,
                    created_at=to_micros(row.created_at),
                    expires_at=to_micros_or_none(expires_at),
                    request_id_required=int(request_id_required),
                    signing_key_id=signing_key_id,
                    store=store or None,
                    till=till or None,
                )
            )
            after = {"client": client, "role": role, "expires_at": expires_at.isoformat() if expires_at else None}
            self._audit.note(connection, org_id, "CreateKey", f"key/{key_id}", after=after)
        return row

    def list_keys(self, org_id: int) -> Sequence[KeyRow]:
        """The keys of an organisation, oldest first, revoked ones too."""
        return self._keys(org_id)

    def load_keys(self) -> Sequence[KeyRow]:
        """The keys of all organisations, for the cache that knows callers."""
        return self._keys(None)

    def revoke_key(self, org_id: int, key_id: str) -> bool:
        """Revokes a key for good; False if the organisation has no such key in force."""
        with transaction(self._database.writer) as connection:
            done = connection.execute(
                update(api_keys)
                .where(api_keys.c.key_id == key_id, api_keys.c.org_id == org_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=to_micros(self._now()))
            )
            if done.rowcount == 1:
                self._audit.note(connection, org_id, "RevokeKey", f"key/{key_id}", after={"revoked": True})
            return done.rowcount == 1

    def record_use(self, used_at: Mapping[str, datetime]) -> None:
        """Notes when keys were last used."""
        with transaction(self._database.writer) as connection:
            for key_id, at in sorted(used_at.items()):  # so that two servers never wait for each other
                connection.execute(
                    update(api_keys).where(api_keys.c.key_id == key_id).values(last_used_at=to_micros(at))
                )

    def create_certificate(
        self,
        name: str,
        org_id: int,
        *,
        client: str,
        role: str,
        request_id_required: bool = False,
        store: str = "",
        till: str = "",
    ) -> CertificateRow:
        """Records who calls with certificates of a name. A name stands for one client of all organisations."""
        row = CertificateRow(name, org_id, client, role, self._now(), request_id_required, store, till)
        with transaction(self._database.writer) as connection:
            connection.execute(
                insert(client_certificates).values(
                    name=name,
                    org_id=org_id,
                    client=client,
                    role=role,
                    created_at=to_micros(row.created_at),
                    request_id_required=int(request_id_required),
                    store=store or None,
                    till=till or None,
                )
            )
            after = {"client": client, "role": role}
            self._audit.note(connection, org_id, "CreateCertificate", f"certificate/{name}", after=after)
        return row

    def list_certificates(self, org_id: int | None = None) -> Sequence[CertificateRow]:
        """The names of an organisation, or of all, by name."""
        table = client_certificates.c
        query = select(client_certificates).order_by(table.name)
        if org_id is not None:
            query = query.where(table.org_id == org_id)
        with transaction(self._database.reader) as connection:
            return [
                CertificateRow(
                    row.name,
                    row.org_id,
                    row.client,
                    row.role,
                    from_micros(row.created_at),
                    bool(row.request_id_required),
                    row.store or "",
                    row.till or "",
                )
                for row in connection.execute(query)
            ]

    def revoke_certificate(self, org_id: int, name: str) -> bool:
        """Takes a name back; False if the organisation does not have it."""
        table = client_certificates.c
        with transaction(self._database.writer) as connection:
            done = connection.execute(delete(client_certificates).where(table.name == name, table.org_id == org_id))
            if done.rowcount == 1:
                self._audit.note(
                    connection, org_id, "RevokeCertificate", f"certificate/{name}", after={"revoked": True}
                )
            return done.rowcount == 1

    def revoke_tokens(self, org_id: int, client: str) -> None:
        """Has every token that an issuer made for a client until now refused."""
        table = token_cutoffs.c
        now = to_micros(self._now())
        with transaction(self._database.writer) as connection:
            done = connection.execute(
                update(token_cutoffs).where(table.org_id == org_id, table.client == client).values(issued_until=now)
            )
            if done.rowcount == 0:
                connection.execute(insert(token_cutoffs).values(org_id=org_id, client=client, issued_until=now))
            self._audit.note(connection, org_id, "RevokeTokens", f"client/{client}", after={"issued_until": now})

    def token_cutoffs(self) -> Mapping[tuple[int, str], datetime]:
        """Until when tokens must have been issued to be refused, by organisation and client."""
        table = token_cutoffs.c
        query = select(table.org_id, table.client, table.issued_until)
        with transaction(self._database.reader) as connection:
            return {(org_id, client): from_micros(until) for org_id, client, until in connection.execute(query)}

    def _keys(self, org_id: int | None) -> Sequence[KeyRow]:
        query = select(
            api_keys.c.key_id,
            api_keys.c.org_id,
            api_keys.c.client,
            api_keys.c.role,
            api_keys.c.secret_hash,
            api_keys.c.created_at,
            api_keys.c.expires_at,
            api_keys.c.revoked_at,
            api_keys.c.last_used_at,
            api_keys.c.request_id_required,
            api_keys.c.signing_key_id,
            api_keys.c.store,
            api_keys.c.till,
        ).order_by(api_keys.c.created_at, api_keys.c.key_id)
        if org_id is not None:
            query = query.where(api_keys.c.org_id == org_id)
        with transaction(self._database.reader) as connection:
            return [
                KeyRow(
                    row.key_id,
                    row.org_id,
                    row.client,
                    row.role,
                    row.secret_hash,
                    created_at=from_micros(row.created_at),
                    expires_at=from_micros_or_none(row.expires_at),
                    revoked_at=from_micros_or_none(row.revoked_at),
                    last_used_at=from_micros_or_none(row.last_used_at),
                    request_id_required=bool(row.request_id_required),
                    signing_key_id=row.signing_key_id,
                    store=row.store or "",
                    till=row.till or "",
                )
                for row in connection.execute(query)
            ]
