"""Business events: what an organisation's other systems are told of its journal, as they travel to a webhook.

Every journal transaction is told once for each customer whose wallets it touches, so that what is told of one customer
has an order. Which events an organisation wants is a configuration key, judged at use. A notice says what the journal
says, by ids: no names, no numbers or addresses of people, no codes, no notes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC

from points_grpc.domain.configuration import PUBLISHED, parse_events
from points_grpc.domain.event_names import EVENT_NAMES
from points_grpc.domain.events import Booked, Event, NoticeQueued
from points_grpc.domain.model import Account, JournalEntry, Kind, Notice, OrgConfig, Posting

VERSION = 1
"""The form of the body. It may grow by fields; whatever else changes gets another number."""


def wanted(config: OrgConfig) -> frozenset[Kind] | None:
    """What an organisation wants to be told; None where nobody knows, because its configuration cannot be read."""
    if not config.available:
        return None
    text = config.values.get(PUBLISHED)
    return frozenset() if text is None else parse_events(text)


def notices(
    org_id: int, config: OrgConfig, events: Iterable[Event], next_id: Callable[[], int]
) -> Iterator[NoticeQueued]:
    """What is to be told of what happened, in its order. Where nobody knows, all of it: it is judged when posted."""
    kinds = wanted(config)
    if kinds is not None and not kinds:
        return
    for event in events:
        if isinstance(event, Booked) and (kinds is None or event.entry.kind in kinds):
            yield from _of(org_id, event.entry, next_id)


def _of(org_id: int, entry: JournalEntry, next_id: Callable[[], int]) -> Iterator[NoticeQueued]:
    wallets: dict[int, dict[int, list[Posting]]] = {}
    for posting in entry.postings:
        if posting.account is Account.WALLET:
            wallets.setdefault(posting.customer_id, {}).setdefault(posting.program_id, []).append(posting)
    for customer_id, programs in wallets.items():
        event_id = next_id()
        body = {
            "version": VERSION,
            "organization_id": str(org_id),
            "event_id": str(event_id),
            "type": EVENT_NAMES[entry.kind],
            "occurred_at": entry.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "customer_id": str(customer_id),
            "counterparty_id": _counterparty(entry, customer_id),
            "transaction_id": str(entry.transaction_id),
            "request_id": entry.request_id,
            "wallets": [
                {
                    "program_id": str(program_id),
                    "points": str(sum(one.points for one in postings)),
                    "held": str(sum(one.held for one in postings)),
                    "balance": str(postings[-1].balance_after),
                    "wallet_version": str(postings[-1].wallet_version),
                }
                for program_id, postings in programs.items()
            ],
        }
        yield NoticeQueued(
            Notice(org_id, event_id, customer_id, entry.kind, entry.created_at, json.dumps(body).encode())
        )


def _counterparty(entry: JournalEntry, customer_id: int) -> str | None:
    """Who was on the other side; None where nobody was."""
    other = entry.counterparty_id if customer_id == entry.customer_id else entry.customer_id
    return None if other is None else str(other)
