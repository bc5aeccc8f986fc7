"""Business events as operators see them: counts, those that were given up, and what is queued to be sent again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result
from stores import ANN, BEN, NO_KEYS, NOW, ORG, OTHER_ORG, Store

from points_grpc.cli.main import main
from points_grpc.domain import events as ev
from points_grpc.domain.configuration import PUBLISHED
from points_grpc.domain.model import Kind, Notice
from points_grpc.storage import business_events
from points_grpc.storage.business_events import EventCounts, GivenUp, Retried, Retries, event_counts, given_up

LATER = NOW + timedelta(days=3)


def event(
    event_id: int, customer_id: int = ANN, kind: Kind = Kind.ISSUE, *, after_s: int = 0, org: int = ORG
) -> Notice:
    """An event of some seconds after the beginning."""
    return Notice(
        org, event_id, customer_id, kind, NOW + timedelta(seconds=after_s), f'{{"event": {event_id}}}'.encode()
    )


def queue(store: Store, events: Sequence[Notice], *, dead: Sequence[int] = (), org_id: int = ORG) -> None:
    """Queues events, and gives some of them up."""
    store.apply([ev.NoticeQueued(one) for one in events], keys=NO_KEYS, org_id=org_id)
    store.apply([ev.NoticeSettled(one, False, "HTTP_503", None) for one in dead], keys=NO_KEYS, org_id=org_id)


def want(store: Store, text: str) -> None:
    """Says which events the organisation wants."""
    store.apply([ev.ConfigKeySet(PUBLISHED, text)], keys=NO_KEYS)


def states(store: Store) -> list[tuple[int, str, int, str]]:
    """Event, state, attempts and error, in the order in which they happened."""
    found = store.rows("SELECT event_id, state, attempts, last_error FROM notices ORDER BY created_at, event_id")
    return [tuple(row) for row in found]


@pytest.fixture
def street(store: Store) -> Store:
    """Ann: two given up, one that waits behind. Ben: one given up. One of another organisation."""
    want(store, "true")
    events = [event(21, after_s=1), event(22, after_s=2), event(23, after_s=3), event(11, BEN, Kind.REDEMPTION)]
    queue(store, events, dead=[22, 21, 11])
    queue(store, [event(31, org=OTHER_ORG)], dead=[31], org_id=OTHER_ORG)
    return store


def test_events_are_counted_by_organisation(street: Store) -> None:
    """Those that wait, those that failed before among them, and those that were given up, with their ages."""
    street.apply([ev.NoticeSettled(23, False, "TIMEOUT", LATER)], keys=NO_KEYS)
    expected = [
        EventCounts(ORG, 1, 1, 3, NOW + timedelta(seconds=3), NOW),
        EventCounts(OTHER_ORG, 0, 0, 1, None, NOW),
    ]

    assert expected == event_counts(street.database)
    assert expected[1:] == event_counts(street.database, org_id=OTHER_ORG)


def test_what_was_given_up_is_listed_oldest_first(street: Store) -> None:
    """Of one organisation alone, with what each failed of."""
    expected = [
        GivenUp(11, BEN, "points.redeemed", NOW, 1, "HTTP_503"),
        GivenUp(21, ANN, "points.issued", NOW + timedelta(seconds=1), 1, "HTTP_503"),
    ]

    assert expected == given_up(street.database, ORG, limit=2)
    assert [11, 21, 22] == [one.event_id for one in given_up(street.database, ORG)]


def test_named_events_are_queued_again(street: Store) -> None:
    """With no tries behind them; what was not given up, or is another organisation's, stays as it is."""
    done = Retries(street.database, now=lambda: LATER).retry(ORG, [22, 23, 31, 99])

    assert Retried((22,), 0) == done
    assert [
        (11, "DEAD", 1, "HTTP_503"),
        (31, "DEAD", 1, "HTTP_503"),
        (21, "DEAD", 1, "HTTP_503"),
        (22, "QUEUED", 0, ""),
        (23, "QUEUED", 0, ""),
    ] == states(street)


def test_all_are_queued_again_and_keep_their_order(street: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In however many transactions; of each customer the oldest is due first, and what waited waits behind it."""
    monkeypatch.setattr(business_events, "RETRIED_AT_ONCE", 2)
    done = Retries(street.database, now=lambda: LATER).retry_all(ORG)
    due: list[list[int]] = []
    while found := [one.event_id for one in street.repository.due_notices(LATER, 10)]:
        due.append(found)
        street.apply([ev.NoticeSettled(one, True, "", None) for one in found], keys=NO_KEYS)

    assert Retried((11, 21, 22), 0) == done
    assert [{11, 21}, {22}, {23}] == [set(one) for one in due]
    assert [(31, "DEAD", 1, "HTTP_503")] == states(street)


def test_what_nobody_wants_any_more_is_left(street: Store) -> None:
    """The publisher would take it off the list unsent."""
    want(street, "points.redeemed")
    retries = Retries(street.database, now=lambda: LATER)

    assert [Retried((11,), 2), Retried((), 2), Retried((), 1)] == [
        retries.retry_all(ORG),
        retries.retry_all(ORG),
        retries.retry(ORG, [21]),
    ]


def test_what_nobody_can_read_is_queued(street: Store) -> None:
    """Where the key does not parse nobody knows what is wanted: the publisher judges once it does."""
    want(street, "points.redemed")

    assert Retried((11, 21, 22), 0) == Retries(street.database, now=lambda: LATER).retry_all(ORG)


def test_retries_are_audited(street: Store) -> None:
    """Who, when, how many and which; what changed nothing leaves no line."""
    retries = Retries(street.database, now=lambda: LATER)
    retries.retry(ORG, [99])
    retries.retry_all(ORG)
    found = street.queries.audit_events(ORG, subject="events", before=2**63 - 1, limit=10)

    assert [("cli", "RetryEvents", LATER, {"events": 3, "first": "11", "last": "22"})] == [
        (one.actor, one.action, one.at, json.loads(one.after)) for one in found
    ]


def invoked(store: Store, *arguments: str) -> Result:
    """Runs `points-grpc events`, beside the store's own writer."""
    return CliRunner().invoke(main, ["events", *arguments, "--database", store.on.url])


def test_commands_beside_a_writer(street: Store) -> None:
    """Tables for people, JSON for programs; who asks for what is not there is told."""
    org = ("--org", str(ORG))
    counts, dead = invoked(street, "list"), invoked(street, "dead", *org)
    as_json = json.loads(invoked(street, "dead", *org, "--json").output)
    shown, unknown = invoked(street, "show", *org, "21"), invoked(street, "show", *org, "31")
    one, missing = invoked(street, "retry", *org, "21", "--json"), invoked(street, "retry", *org, "21", "22")
    rest, counted = invoked(street, "retry", *org, "--all"), json.loads(invoked(street, "list", "--json").output)

    assert ["1", "1", "0", "3"] == counts.output.splitlines()[1].split()[:4]
    assert ["11", "2026-03-01T12:00:00Z", "points.redeemed"] == dead.output.splitlines()[1].split()[:3]
    assert ["HTTP_503"] * 3 == [found["last_error"] for found in as_json["events"]]
    assert (0, '{"event": 21}\n') == (shown.exit_code, shown.output)
    assert (1, "has no event 31") == (unknown.exit_code, unknown.output[22:37])
    assert (0, {"retried": [21], "unwanted": 0}) == (one.exit_code, json.loads(one.output))
    assert (1, "1 are sent again\nError: not given up, or not there: 21\n") == (missing.exit_code, missing.output)
    assert (0, "1 are sent again\n") == (rest.exit_code, rest.output)
    assert [(4, 0), (0, 1)] == [(found["queued"], found["dead"]) for found in counted["organizations"]]


@pytest.mark.parametrize(
    "arguments", [("--org", str(ORG)), ("--org", str(ORG), "--all", "21"), ("--org", "99", "--all"), ("--all",)]
)
def test_misused(store: Store, arguments: tuple[str, ...]) -> None:
    """Events or all of them, of an organisation that is there."""
    assert 2 == invoked(store, "retry", *arguments).exit_code
