"""The judge of histories, judged: hand-made histories, good ones and one of each kind that no serial order explains."""

from __future__ import annotations

import pytest
from history import Kind, Operation, Refused, Seen, check

A, B = 1, 2
START = {A: (1, 100), B: (1, 100)}


def transfer(name: str, sent: int, answered: int, version: tuple[int, int], current: tuple[int, int]) -> Operation:
    """A transfer of ten points from A to B, with what its answer says of both."""
    seen = (Seen(A, version[0], current[0], -10), Seen(B, version[1], current[1], 10))
    return Operation(name, sent, answered, seen)


def spend(name: str, sent: int, answered: int, wallet: int, version: int, current: int) -> Operation:
    """A redemption of ten points."""
    return Operation(name, sent, answered, (Seen(wallet, version, current, -10),))


def read(name: str, sent: int, answered: int, *seen: tuple[int, int, int]) -> Operation:
    """A read of some wallets at once: wallet, version, balance."""
    return Operation(name, sent, answered, tuple(Seen(*one) for one in seen))


def refused(name: str, sent: int, answered: int, current: int) -> Operation:
    """A refusal by the balance of A."""
    return Operation(name, sent, answered, refused=Refused(A, current))


GOOD = {
    "nothing": [],
    "one after the other": [
        transfer("t1", 0, 1, (2, 2), (90, 110)),
        read("r1", 2, 3, (A, 2, 90)),
        transfer("t2", 4, 5, (3, 3), (80, 120)),
        refused("f1", 6, 7, 80),
    ],
    "answers overtake each other": [
        transfer("t2", 0, 5, (3, 3), (80, 120)),
        transfer("t1", 0, 9, (2, 2), (90, 110)),
        read("r1", 1, 8, (A, 1, 100), (B, 1, 100)),
        refused("f1", 1, 8, 90),
    ],
    "a read beside a write sees either": [
        transfer("t1", 0, 10, (2, 2), (90, 110)),
        read("new", 1, 4, (A, 2, 90)),
        read("old", 2, 3, (A, 1, 100)),
    ],
}

BAD: dict[str, tuple[Kind, str, list[Operation]]] = {
    "two changes with one version": (
        Kind.FORKED,
        "wallet 1 version 2 is of s1 and of s2",
        [spend("s1", 0, 1, A, 2, 90), spend("s2", 0, 1, A, 2, 90)],
    ),
    "a change under a version that was there before": (
        Kind.FORKED,
        "wallet 1 version 1 is of the beginning and of s1",
        [spend("s1", 0, 1, A, 1, 90)],
    ),
    "applied twice": (
        Kind.MISSING,
        "wallet 1 version 3 was written by nobody asked",
        [spend("s1", 0, 1, A, 2, 90), spend("s2", 2, 3, A, 4, 70)],
    ),
    "the last change is nobody's": (
        Kind.MISSING,
        "wallet 1 version 3 was written by nobody asked",
        [spend("s1", 0, 1, A, 2, 90), read("r1", 2, 3, (A, 3, 80))],
    ),
    "acknowledged and lost": (
        Kind.REAL_TIME,
        "r1 -> s1 -> r1",
        [spend("s1", 0, 1, A, 2, 90), read("r1", 2, 3, (A, 1, 100))],
    ),
    "lost update": (
        Kind.BALANCE,
        "wallet 1 version 3 of s2 is 90, should be 80",
        [spend("s1", 0, 1, A, 2, 90), spend("s2", 0, 1, A, 3, 90)],
    ),
    "a read of a balance that was never written": (
        Kind.BALANCE,
        "r1 read 95 at version 2 of wallet 1, written was 90",
        [spend("s1", 0, 1, A, 2, 90), read("r1", 2, 3, (A, 2, 95))],
    ),
    "a read of what was before the beginning": (
        Kind.UNWRITTEN,
        "r1 read version 0 of wallet 1",
        [read("r1", 0, 1, (A, 0, 100))],
    ),
    "refused by a balance that never was": (
        Kind.NEVER,
        "f1 by 42 points in wallet 1",
        [spend("s1", 0, 1, A, 2, 90), refused("f1", 0, 1, 42)],
    ),
    "refused by a balance of yesterday": (
        Kind.STALE,
        "f1 by 100 points in wallet 1",
        [spend("s1", 0, 1, A, 2, 90), refused("f1", 2, 3, 100)],
    ),
    "refused by a balance of tomorrow": (
        Kind.STALE,
        "f1 by 90 points in wallet 1",
        [refused("f1", 0, 1, 90), spend("s1", 2, 3, A, 2, 90)],
    ),
    "two transfers, each before the other": (
        Kind.CYCLE,
        "t1 -> t2 -> t1",
        [transfer("t1", 0, 9, (2, 3), (90, 120)), transfer("t2", 0, 9, (3, 2), (80, 110))],
    ),
    "a read of half a transfer": (
        Kind.CYCLE,
        "r1 -> t1 -> r1",
        [transfer("t1", 0, 9, (2, 2), (90, 110)), read("r1", 0, 9, (A, 2, 90), (B, 1, 100))],
    ),
    "two readers who see two changes in different orders": (
        Kind.CYCLE,
        "r1 -> s2 -> r2 -> s1 -> r1",
        [
            spend("s1", 0, 9, A, 2, 90),
            spend("s2", 0, 9, B, 2, 90),
            read("r1", 0, 9, (A, 2, 90), (B, 1, 100)),
            read("r2", 0, 9, (A, 1, 100), (B, 2, 90)),
        ],
    ),
    "a later change with an earlier version": (
        Kind.REAL_TIME,
        "s1 -> s2 -> s1",
        [spend("s2", 0, 1, A, 3, 80), spend("s1", 2, 3, A, 2, 90)],
    ),
    "a reader goes back in time": (
        Kind.REAL_TIME,
        "new -> old -> s1 -> new",
        [spend("s1", 0, 9, A, 2, 90), read("new", 1, 2, (A, 2, 90)), read("old", 3, 4, (A, 1, 100))],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_left_alone(name: str) -> None:
    """Where a serial order explains everything, nothing is found."""
    assert [] == check(GOOD[name], START)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_found_and_named(name: str) -> None:
    """One violation, of its kind, which names wallets, versions and operations."""
    kind, text, operations = BAD[name]

    assert [f"{kind}: {text}"] == [str(one) for one in check(operations, START)]


def test_every_kind_has_a_bad_history() -> None:
    """No kind of violation goes without an example."""
    assert set(Kind) == {kind for kind, _, _ in BAD.values()}


def test_a_long_history_is_judged() -> None:
    """One wrong read among 40,000 operations is found; deep chains break no stack."""
    count = 20_000
    operations = [spend(f"s{n}", 2 * n, 2 * n + 1, A, n + 2, 100 - 10 * (n + 1)) for n in range(count)]
    operations += [read(f"r{n}", 2 * n + 1, 2 * n + 2, (A, n + 2, 100 - 10 * (n + 1))) for n in range(count)]
    operations.append(read("late", 2 * count, 2 * count + 1, (A, count, 100 - 10 * (count - 1))))
    found = check(operations, START)

    assert [Kind.REAL_TIME] == [one.kind for one in found]
    assert "late" in found[0].text
