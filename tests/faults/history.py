"""Judges the history of a concurrent run: was there one order in which all of it can have happened?

Every answer names the wallets that it saw with their versions, so that the order of the changes of each wallet is known
and need not be guessed. From it follow edges between operations: who changed a wallet next, who read what somebody
wrote, who wrote what somebody had not read yet; and from the callers' own clock, that what was answered before another
thing was sent came first. A cycle among these edges is a history that no serial order explains. All in linear time.

Knows nothing of the service: operations go in, sentences come out. An operation whose outcome is open has to be settled
(sent again under its request id) before its history is judged; it lasted from the first time it was sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Wallet = int
Node = int | str
"""An operation, by its name, or an instant, by its place in the order of the instants."""

Edges = dict[Node, list[Node]]


class Kind(StrEnum):
    """What can be wrong with a history."""

    FORKED = "forked version"
    MISSING = "missing version"
    UNWRITTEN = "read of a version before the first"
    BALANCE = "balance that does not follow"
    NEVER = "refused by a balance that never was"
    STALE = "refused by a balance of another time"
    CYCLE = "cycle"
    REAL_TIME = "real-time violation"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer says of a wallet. `change`: by how much the operation changed it; None if it only read."""

    wallet: Wallet
    version: int
    current: int
    change: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal that names the balance by which it was decided."""

    wallet: Wallet
    current: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One call by the clock of its caller, with its repetitions: first sent, last answered, and what was seen."""

    name: str
    sent: int
    answered: int
    seen: tuple[Seen, ...] = ()
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that no serial order explains."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a wallet: who wrote it, what it left, and by how much that changed."""

    writer: str
    current: int
    change: int


def check(operations: Sequence[Operation], start: Mapping[Wallet, tuple[int, int]]) -> list[Violation]:
    """What is wrong with a history. `start`: version and balance of every wallet before the first operation."""
    found: list[Violation] = []
    versions = {wallet: _versions(wallet, begin, operations, found) for wallet, begin in start.items()}
    found += _wrong_reads(operations, start, versions)
    found += _wrong_refusals(operations, start, versions)
    edges = _data_edges(operations, versions)
    names = {one.name for one in operations}
    cycles = [*_cycles(names, edges)]
    found += [Violation(Kind.CYCLE, _told(cycle)) for cycle in cycles]
    if not cycles:
        timed, instants = _with_time(operations, edges)
        found += [
            Violation(Kind.REAL_TIME, _told([one for one in cycle if isinstance(one, str)]))
            for cycle in _cycles([*names, *range(instants)], timed)
        ]
    return found


# -- wallet by wallet --------------------------------------------------------------------------------------------------


def _versions(
    wallet: Wallet, start: tuple[int, int], operations: Iterable[Operation], found: list[Violation]
) -> dict[int, Version]:
    """Who wrote which version of a wallet; what is wrong with that goes to `found`."""
    versions: dict[int, Version] = {}
    last, balance = start
    read_up_to = last
    for operation in operations:
        for seen in operation.seen:
            if seen.wallet != wallet:
                continue
            if seen.change is None:
                read_up_to = max(read_up_to, seen.version)
            elif seen.version in versions or seen.version <= last:
                other = versions[seen.version].writer if seen.version in versions else "the beginning"
                text = f"wallet {wallet} version {seen.version} is of {other} and of {operation.name}"
                found.append(Violation(Kind.FORKED, text))
            else:
                versions[seen.version] = Version(operation.name, seen.current, seen.change)
    for version in range(last + 1, max([*versions, read_up_to]) + 1):
        one = versions.get(version)
        if one is None:
            found.append(Violation(Kind.MISSING, f"wallet {wallet} version {version} was written by nobody asked"))
            continue
        before = versions.get(version - 1)
        expected = (before.current if before else balance) + one.change
        if (version == last + 1 or before is not None) and one.current != expected:
            text = f"wallet {wallet} version {version} of {one.writer} is {one.current}, should be {expected}"
            found.append(Violation(Kind.BALANCE, text))
    return versions


def _wrong_reads(
    operations: Iterable[Operation],
    start: Mapping[Wallet, tuple[int, int]],
    versions: Mapping[Wallet, Mapping[int, Version]],
) -> Iterable[Violation]:
    """Reads that say of a version what its writer did not."""
    for operation in operations:
        for seen in operation.seen:
            if seen.change is not None:
                continue
            first, balance = start[seen.wallet]
            written = versions[seen.wallet].get(seen.version)
            if written is None and seen.version > first:
                continue  # told as a version that is missing
            if seen.version < first:
                text = f"{operation.name} read version {seen.version} of wallet {seen.wallet}"
                yield Violation(Kind.UNWRITTEN, text)
            elif seen.current != (expected := written.current if written else balance):
                text = (
                    f"{operation.name} read {seen.current} at version {seen.version} of wallet {seen.wallet},"
                    f" written was {expected}"
                )
                yield Violation(Kind.BALANCE, text)


def _wrong_refusals(
    operations: Sequence[Operation],
    start: Mapping[Wallet, tuple[int, int]],
    versions: Mapping[Wallet, Mapping[int, Version]],
) -> Iterable[Violation]:
    """Refusals whose balance the wallet never had, or had only before they were sent or after they were answered."""
    spans = {wallet: _spans(operations, wallet, start[wallet], versions[wallet]) for wallet in versions}
    for operation in operations:
        if operation.refused is None:
            continue
        refused = operation.refused
        held = [span for span in spans[refused.wallet] if span[0] == refused.current]
        if not held:
            text = f"{operation.name} by {refused.current} points in wallet {refused.wallet}"
            yield Violation(Kind.NEVER, text)
        elif not any(begin <= operation.answered and operation.sent <= end for _, begin, end in held):
            text = f"{operation.name} by {refused.current} points in wallet {refused.wallet}"
            yield Violation(Kind.STALE, text)


def _spans(
    operations: Iterable[Operation], wallet: Wallet, start: tuple[int, int], versions: Mapping[int, Version]
) -> list[tuple[int, float, float]]:
    """Each balance of a wallet, with the first and last instant at which it can have been the balance."""
    times = {one.name: one for one in operations}
    found: list[tuple[int, float, float]] = []
    balance, begin = start[1], float("-inf")
    for version in sorted(versions):
        writer = times[versions[version].writer]
        found.append((balance, begin, writer.answered))
        balance, begin = versions[version].current, writer.sent
    return [*found, (balance, begin, float("inf"))]


# -- the order of all --------------------------------------------------------------------------------------------------


def _data_edges(operations: Iterable[Operation], versions: Mapping[Wallet, Mapping[int, Version]]) -> Edges:
    """Who must have come before whom, by what was written and read."""
    edges: Edges = {}
    for of_wallet in versions.values():
        for version, one in of_wallet.items():
            if version + 1 in of_wallet:
                edges.setdefault(one.writer, []).append(of_wallet[version + 1].writer)
    for operation in operations:
        for seen in operation.seen:
            if seen.change is not None:
                continue
            of_wallet = versions[seen.wallet]
            if seen.version in of_wallet:
                edges.setdefault(of_wallet[seen.version].writer, []).append(operation.name)
            if seen.version + 1 in of_wallet:
                edges.setdefault(operation.name, []).append(of_wallet[seen.version + 1].writer)
    return edges


def _with_time(operations: Sequence[Operation], edges: Edges) -> tuple[Edges, int]:
    """The same with real time: a chain of instants, one for each answer; how many there are."""
    answers = sorted(operations, key=lambda one: one.answered)
    times = [one.answered for one in answers]
    timed: Edges = {node: list(after) for node, after in edges.items()}
    for place, one in enumerate(answers):
        timed.setdefault(one.name, []).append(place)
        timed[place] = [place + 1] if place + 1 < len(answers) else []
    for one in operations:
        before = bisect_left(times, one.sent) - 1  # the last answer that came before this was sent
        if before >= 0:
            timed[before].append(one.name)
    return timed, len(answers)


def _cycles(nodes: Iterable[Node], edges: Edges) -> Iterable[list[Node]]:
    """One short cycle of each knot of nodes that are before each other."""
    for knot in _knots(nodes, edges):
        if len(knot) > 1 or knot[0] in edges.get(knot[0], ()):
            yield _shortest(knot, edges)


def _knots(nodes: Iterable[Node], edges: Edges) -> list[list[Node]]:
    """The strongly connected components, by Tarjan's algorithm, without recursion."""
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    waiting: list[Node] = []
    inside: set[Node] = set()
    found: list[list[Node]] = []
    for root in nodes:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        waiting.append(root)
        inside.add(root)
        path = [(root, iter(edges.get(root, ())))]
        while path:
            node, after = path[-1]
            for follower in after:
                if follower not in index:
                    index[follower] = low[follower] = len(index)
                    waiting.append(follower)
                    inside.add(follower)
                    path.append((follower, iter(edges.get(follower, ()))))
                    break
                if follower in inside:
                    low[node] = min(low[node], index[follower])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == index[node]:
                    at = len(waiting) - 1
                    while waiting[at] != node:
                        at -= 1
                    found.append(waiting[at:])
                    inside.difference_update(waiting[at:])
                    del waiting[at:]
    return found


def _shortest(knot: Sequence[Node], edges: Edges) -> list[Node]:
    """A shortest way from the first operation of a knot back to itself."""
    inside = set(knot)
    start = min((one for one in knot if isinstance(one, str)), default=knot[0])
    came: dict[Node, Node] = {}
    coming: deque[Node] = deque([start])
    while coming:
        node = coming.popleft()
        for after in edges.get(node, ()):
            if after == start:
                way = [node]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if after in inside and after not in came:
                came[after] = node
                coming.append(after)
    raise AssertionError("every node of a knot lies on a cycle")


def _told(cycle: Sequence[Node]) -> str:
    names = [str(one) for one in cycle]
    shown = names if len(names) <= 8 else [*names[:4], f"... {len(names) - 8} more ...", *names[-4:]]
    return " -> ".join([*shown, names[0]])
