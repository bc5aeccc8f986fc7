"""An organisation that asks five times as much as its quota beside one that does not: whom does it cost what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from generators import Generator, waits
from neighbour import Neighbour
from shop import FIRST_CUSTOMER, PROGRAM, Shop

from databases import ATestsDatabase, on_postgres
from postgres_cluster import Cluster
from running import RunningServer

LOUD = Path(__file__).with_name("loud_caller.py")
QUOTA_PER_S = 100
BURST_MS = 200
TIMES = 5
LONG_S = 5.0
ROUNDS = 6
PAUSE_S = 0.02
"""Of the other one: well within its quota."""

SLACK = 1.01
"""What two workers may let in together, by a quota: they count without a lock."""

REFUSED = "RESOURCE_EXHAUSTED RATE_LIMITED QuotaFailure RetryInfo"
ENDED_UNSEEN = "CANCELLED "
"""What waited for a second before it was taken: the loud one sends at his rate, however busy the machine is."""


class Street:
    """A server with two organisations and the same quota for each."""

    def __init__(self, folder: Path, *arguments: str, on: ATestsDatabase | None = None) -> None:
        quotas = {"ORG_CALLS_PER_S": QUOTA_PER_S, "QUOTA_BURST_MS": BURST_MS, "LOG_CALLS": str(on is not None)}
        environment = {f"POINTS_GRPC_{name}": str(value) for name, value in quotas.items()}
        self.server = RunningServer(folder, *arguments, environment=environment, on=on)
        self.tokens = [self.server.key(self.server.organisation(name)) for name in ("quiet", "loud")]
        self.server.start()
        for token in self.tokens:
            Shop(self.server, token).add_customers(1)
        self.neighbour = Neighbour(self.server, self.tokens[0], FIRST_CUSTOMER, pause_s=PAUSE_S)

    def loud(self, seconds: float, *, yields: bool = False) -> Generator:
        """The loud one, who will ask for some seconds and tell how its calls ended."""
        asked = (self.server.address, self.tokens[1], PROGRAM, FIRST_CUSTOMER, QUOTA_PER_S * TIMES, seconds)
        return Generator(LOUD, *asked, yields=yields)

    def answered_by(self) -> dict[int, int]:
        """How many issues each worker carried out."""
        issues = [one for one in self.server.events("call") if one["method"].endswith("/IssuePoints")]
        return Counter(one["worker"] for one in issues if one["code"] == "OK")

    def let_in_at_most(self, milliseconds: int) -> float:
        """What a quota allows in a time: its rate, and one burst."""
        return QUOTA_PER_S * (milliseconds + BURST_MS) / 1000 + 1


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    """A street whose quiet organisation is at work."""
    made = Street(tmp_path)
    try:
        made.neighbour.start()
        yield made
    finally:
        made.server.close()


@pytest.mark.ci
def test_only_the_loud_one_is_refused(street: Street) -> None:
    """It is told which quota and when to come again, and gets what its quota allows; the other gets all it asks."""
    ended = street.loud(2.0).run()
    street.neighbour.stop()
    milliseconds = ended.pop("ms")

    assert [] == street.neighbour.wrong
    assert street.neighbour.count > 0
    assert {"OK", REFUSED} == ended.keys() - {ENDED_UNSEEN}
    assert 0 < ended["OK"] <= street.let_in_at_most(milliseconds)
    assert QUOTA_PER_S * TIMES * 2 == sum(ended.values())


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_workers_share_the_quota(postgres: Cluster, tmp_path: Path, record_property: Callable[..., None]) -> None:
    """An organisation that asks two workers gets from both together what its quota allows, and a hundredth at most."""
    on = on_postgres(postgres)(tmp_path)
    street = Street(tmp_path, "--workers", "2", on=on)
    try:
        before = street.answered_by()
        ended = street.loud(4.0).run()
        assert 0 == street.server.stop()
        answered = {worker: count - before.get(worker, 0) for worker, count in street.answered_by().items()}
    finally:
        street.server.close()
        on.drop()
    milliseconds = ended.pop("ms")
    allowed = street.let_in_at_most(milliseconds)
    record_property("summary", f"let in {ended['OK']}, by worker {answered}, of {allowed:.0f} in {milliseconds} ms")

    assert {"OK", REFUSED} == ended.keys() - {ENDED_UNSEEN}
    assert 0 < ended["OK"] <= allowed * SLACK
    assert {1, 2} == {worker for worker, count in answered.items() if count}
    assert ended["OK"] == sum(answered.values())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_how_long_the_other_one_waits(street: Street, record_property: Callable[..., None]) -> None:
    """The 99th percentile of the quiet one's calls, alone and beside the loud one, is told; all of them succeed.

    And beside that under a decoy; how many times its quota the loud one really asked for is told, too.
    """
    found = waits(street.neighbour, lambda: street.loud(LONG_S, yields=True), rounds=ROUNDS, seconds=LONG_S)
    street.neighbour.stop()
    ended: Counter[str] = sum(map(Counter, found.told), Counter())
    milliseconds = ended.pop("ms")
    asked = ended.total() / (QUOTA_PER_S * milliseconds / 1000)
    record_property("summary", f"{found}; the loud one asked for {asked:.1f} times its quota: {dict(ended)}")
    record_property("figure.p99 beside a loud organisation, times", round(found.times, 2))
    record_property("figure.p99 beside a decoy of it, times", round(found.times_of_decoy, 2))
    record_property("figure.quotas that the loud organisation asked for", round(asked, 1))

    assert [] == street.neighbour.wrong
    assert ended["OK"] > 0
