"""What is old and settled goes in small steps; nothing that a promise rests on ever does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, text
from sqlalchemy import event as event_of
from stores import ANN, NOW, ORG, OTHER_ORG, Store

from points_grpc.service.ids import lowest_id
from points_grpc.storage import retention
from points_grpc.storage.retention import Aged, Ages, aged, remove
from points_grpc.storage.times import to_micros
from points_grpc.storage.verify import verify

AGES = Ages(refusals=30, messages=20, events=10)

Change = tuple[str, Sequence[object]]


def days_ago(days: float) -> datetime:
    """A time before now."""
    return NOW - timedelta(days=days)


def request(request_id: str, days: float, *, accepted: int = 0, org_id: int = ORG) -> Change:
    """A recorded outcome."""
    values = (org_id, request_id, "SetPause", "k1", "{}", accepted, "{}", None, to_micros(days_ago(days)), None)
    return f"INSERT INTO requests VALUES ({', '.join('?' * len(values))})", values


def id_of(days: float, number: int) -> int:
    """An id that was made then."""
    return lowest_id(int(days_ago(days).timestamp() * 1000)) + number


def message(number: int, days: float, state: str) -> Change:
    """A message with a code."""
    at, sealed = to_micros(days_ago(days)), b"code" if state == "QUEUED" else None
    values = (ORG, id_of(days, number), ANN, 1, 7, "MOBILE", "+15550000011", sealed, "k1", state, 0, at, at, at, "")
    return f"INSERT INTO outbox VALUES ({', '.join('?' * len(values))})", values


def event(number: int, days: float, state: str) -> Change:
    """A business event."""
    at = to_micros(days_ago(days))
    values = (ORG, id_of(days, number), ANN, 1, state, 0, at, at, at, "", b"body")
    return f"INSERT INTO notices VALUES ({', '.join('?' * len(values))})", values


def fill(store: Store) -> None:
    """Rows of every kind on both sides of every age, and a movement long ago."""
    store.now = days_ago(400)
    store.issue(ANN, 5)
    store.now = NOW
    store.on.change_all(
        [
            request("old", 30.1),
            request("young", 29.9),
            request("done", 400, accepted=1),
            request("theirs", 31, org_id=OTHER_ORG),
            message(1, 20.1, "DELIVERED"),
            message(2, 20.1, "CANCELLED"),
            message(3, 300, "DEAD"),
            message(4, 300, "QUEUED"),
            message(5, 19.9, "DELIVERED"),
            event(1, 10.1, "DEAD"),
            event(2, 300, "QUEUED"),
            event(3, 9.9, "DEAD"),
        ]
    )


GOES = [
    Aged(ORG, "refusals", 1),
    Aged(ORG, "messages", 3),
    Aged(ORG, "events", 1),
    Aged(OTHER_ORG, "refusals", 1),
]


def test_what_is_old_and_settled_goes(store: Store) -> None:
    """Counted first, then removed, once; what is young, waits or was accepted stays, and the books are right."""
    fill(store)
    counted, before = aged(store.database, AGES, NOW), store.counts()
    went = list(remove(store.database, AGES, NOW))
    after = store.counts()

    assert GOES == counted == went
    assert [] == aged(store.database, AGES, NOW) == list(remove(store.database, AGES, NOW))
    assert {"requests": 2, "outbox": 3, "notices": 1} == {
        name: before[name] - after[name] for name in before if before[name] != after[name]
    }
    assert {("young",), ("done",)} <= set(store.rows("SELECT request_id FROM requests WHERE org_id = ?", ORG))
    assert [("DELIVERED",), ("QUEUED",)] == store.rows("SELECT state FROM outbox ORDER BY state")
    assert [("DEAD",), ("QUEUED",)] == store.rows("SELECT state FROM notices ORDER BY state")
    assert set(verify(store.database).differences) == set()


def test_in_steps_with_a_rest_between(store: Store) -> None:
    """Each step is committed by itself: cut short, what went is gone, and the next run goes on."""
    rows = 2 * retention.STEP + 3
    store.on.change_all([request(f"old-{number}", 40 + number / 1000) for number in range(rows)])
    rests: list[float] = []

    def cut_short(seconds: float) -> None:
        rests.append(seconds)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list(remove(store.database, AGES, NOW, rest=cut_short))
    [(left, last)] = store.rows("SELECT COUNT(*), MAX(created_at) FROM requests WHERE request_id LIKE ?", "old-%")
    went = list(remove(store.database, AGES, NOW, rest=rests.append))

    assert (rows - retention.STEP, to_micros(days_ago(40))) == (left, last)
    assert [Aged(ORG, "refusals", rows - retention.STEP)] == went
    assert 2 == len(rests)


def test_what_was_recorded_anew_meanwhile_stays(store: Store) -> None:
    """Another run may have removed a refusal after it was found old, and its command have been refused again."""
    store.on.change_all([request("old", 40), request("older", 41)])
    anew = "UPDATE requests SET created_at = :now WHERE request_id = 'old'"

    def record_anew(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE"):
            connection.execute(text(anew), {"now": to_micros(NOW)})

    event_of.listen(store.database.writer, "before_cursor_execute", record_anew)
    went = list(remove(store.database, AGES, NOW))

    assert [Aged(ORG, "refusals", 1)] == went
    assert [("old",)] == store.rows("SELECT request_id FROM requests WHERE request_id LIKE ?", "old%")


@pytest.mark.parametrize("ages", [{"refusals": 29}, {"messages": 0}, {"events": 0}])
def test_what_is_promised_cannot_be_asked_for(ages: dict[str, int]) -> None:
    """Outcomes are known for 30 days at least."""
    with pytest.raises(ValueError, match="at least"):
        Ages(**ages)


@pytest.mark.parametrize(
    ("what", "index"),
    [
        ("refusals", "ix_requests_refused"),
        ("messages", "pk_outbox|outbox USING PRIMARY KEY"),
        ("events", "pk_notices|notices USING PRIMARY KEY"),
    ],
)
def test_the_oldest_are_found_by_an_index(store: Store, what: str, index: str) -> None:
    """Not by a walk through what stays."""
    explain = "EXPLAIN QUERY PLAN" if store.on.backend == "sqlite" else "EXPLAIN"
    kind = retention._KINDS[what]
    bound = {"org": ORG, **retention._before(kind, NOW)}
    with store.database.writer.connect() as connection:
        plan = [str(row[-1]) for row in connection.execute(text(f"{explain} {kind.first}"), bound)]

    assert any(re.search(index, line) for line in plan), plan
    assert not [line for line in plan if "Seq Scan" in line or line.startswith("SCAN") or "Sort" in line], plan
