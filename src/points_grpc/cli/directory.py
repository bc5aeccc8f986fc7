"""Who may call, as the database has it: keys, names in certificates, organisations, cutoffs of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from points_grpc.domain.configuration import REQUEST_IDS_REQUIRED, parse_switch
from points_grpc.rpc.call import Caller, Role
from points_grpc.rpc.identity import Directory, KeyRow, Org
from points_grpc.service.keyring import Keyring
from points_grpc.storage.accounts import Accounts, CertificateRow
from points_grpc.storage.accounts import KeyRow as StoredKey


class AccountsDirectory:
    """Reads the directory from the accounts, and notes there which keys were used.

    On a thread of its own: however long reads of callers take, a revocation counts within seconds.
    """

    def __init__(self, accounts: Accounts, keyring: Keyring) -> None:
        self._accounts = accounts
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="directory")
        self._keyring = keyring

    async def __call__(self) -> Directory:
        """The directory as it is now."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def note_use(self, key_ids: Collection[str]) -> None:
        """Notes that keys were used. Not on that thread: a write may have to wait for others."""
        now = datetime.now(UTC)
        used_at = dict.fromkeys(key_ids, now)
        await asyncio.get_running_loop().run_in_executor(None, self._accounts.record_use, used_at)

    def _load(self) -> Directory:
        keys, certificates = self._accounts.load_keys(), self._accounts.list_certificates()
        cutoffs = self._accounts.token_cutoffs()
        # Last, so that none is missing that was made with its first key a moment ago.
        demands = self._accounts.config_texts(REQUEST_IDS_REQUIRED)
        orgs = {
            org.org_id: Org(org.default_region, request_id_required=bool(parse_switch(demands.get(org.org_id))))
            for org in self._accounts.list_orgs()
        }
        return Directory(
            keys={row.key_id: self._key(row, orgs[row.org_id]) for row in keys},
            certificates={row.name: _certified(row, orgs[row.org_id]) for row in certificates},
            orgs=orgs,
            cutoffs={whose: until.timestamp() for whose, until in cutoffs.items()},
        )

    def _key(self, row: StoredKey, org: Org) -> KeyRow:
        return KeyRow(
            key_id=row.key_id,
            org_id=row.org_id,
            client=row.client,
            role=Role[row.role.upper()],
            secret_sha256=row.secret_hash,
            default_region=org.default_region,
            expires_at=row.expires_at.timestamp() if row.expires_at else None,
            revoked=row.revoked_at is not None,
            request_id_required=row.request_id_required or org.request_id_required,
            signs=row.signing_key_id is not None,
            signing_secret=self._signing_secret(row),
            store=row.store,
            till=row.till,
        )

    def _signing_secret(self, row: StoredKey) -> bytes | None:
        if row.signing_key_id is None:
            return None
        secret = self._keyring.signing_secret(row.signing_key_id, row.key_id)
        return None if secret is None else secret.encode()


def _certified(row: CertificateRow, org: Org) -> Caller:
    return Caller(
        org_id=row.org_id,
        client=row.client,
        key_id="",
        role=Role[row.role.upper()],
        default_region=org.default_region,
        request_id_required=row.request_id_required or org.request_id_required,
        store=row.store,
        till=row.till,
    )
