"""What depends on each secret key of the server: asked before one is retired, and where one may have been lost.

Reads only, in one snapshot: beside a serving process if need be.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, exists, func, literal_column, select

from points_grpc.storage.engine import Database
from points_grpc.storage.reports import snapshot
from points_grpc.storage.schema import api_keys, otps, outbox, requests
from points_grpc.storage.times import to_micros


class KeyUses(Struct, frozen=True):
    """What would be lost with a key: codes not yet sent, codes not yet used, API keys that sign with its secret."""

    messages: int = 0
    codes: int = 0
    signing_keys: int = 0

    def __bool__(self) -> bool:
        return bool(self.messages or self.codes or self.signing_keys)


def key_uses(database: Database, now: datetime, *, with_codes: bool = True) -> dict[str, KeyUses]:
    """By the key's id; a key that nothing depends on is left out. `with_codes`: looks at each customer's codes, too."""
    at = to_micros(now)
    messages = _counted(outbox.c.key_id, outbox.c.state == literal_column("'QUEUED'"))  # as its index has it
    codes = _counted(otps.c.key_id, (otps.c.state == "LIVE") & (otps.c.expires_at > at))
    in_force = api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > at))
    signing_keys = _counted(api_keys.c.signing_key_id, api_keys.c.signing_key_id.is_not(None) & in_force)
    queries = {"messages": messages, "signing_keys": signing_keys} | ({"codes": codes} if with_codes else {})
    found: dict[str, dict[str, int]] = defaultdict(dict)
    with snapshot(database) as connection:
        for name, query in queries.items():
            for key_id, count in connection.execute(query):
                found[key_id][name] = count
    return {key_id: KeyUses(**counts) for key_id, counts in found.items()}


def records_requests(database: Database, key_id: str) -> bool:
    """Whether repeats of recorded requests are compared with a key."""
    with snapshot(database) as connection:
        return bool(connection.execute(select(exists().where(requests.c.key_id == key_id))).scalar())


def _counted(key_id: ColumnElement[Any], condition: ColumnElement[bool]) -> Select[Any]:
    return select(key_id, func.count()).where(condition).group_by(key_id)
