"""Reports over a real database: figures of a day that tie to the journal, however late things were booked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from executing import ANN, BEN, GOLD, NOW, ORG_ID, Bench, by_id, template

from databases import NewDatabase
from points_grpc.cli.main import main
from points_grpc.domain.commands import (
    AuthorizeRedemption,
    CaptureRedemption,
    Expiry,
    RedeemPoints,
    ReverseRedemption,
    TransferPoints,
)
from points_grpc.domain.model import Source
from points_grpc.storage.reports import REVERSALS, Day, Liability, daily, liability

DAY = timedelta(days=1)
TODAY = date(2026, 3, 15)


@pytest.fixture
def bench(new_database: NewDatabase, tmp_path: Path) -> Iterator[Bench]:
    """
    In a program of Kolkata (UTC+5:30). Day 0, 17:30: 100 until the end of day 2, 40 goodwill promised until day 4, 5
    redeemed. Day 1: 30 of the 100 go to Ben. Day 4: what was redeemed is given back, too late.
    """
    made = Bench(template(new_database(tmp_path)))
    made.make_program(time_zone="Asia/Kolkata")
    made.make_customer(ANN)
    made.make_customer(BEN)
    made.issue(ANN, 100, Expiry(on=TODAY + 2 * DAY))
    made.issue(ANN, 40, source=Source.GOODWILL, available_from=NOW + 4 * DAY)
    redeemed = made.accept(RedeemPoints(customer=by_id(ANN), program_id=GOLD, points=5))
    made.pass_time(days=1)
    made.accept(TransferPoints(points=30, program_id=GOLD, source=by_id(ANN), destination=by_id(BEN)))
    made.pass_time(days=3)
    made.accept(ReverseRedemption(customer=by_id(ANN), redemption_id=redeemed.redemption_id))
    yield made
    made.close()
    made.on.drop()


def owed(source: str, **figures: object) -> Liability:
    """A row of the report."""
    return Liability(ORG_ID, GOLD, source, **figures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (-1, [owed("")]),
        (
            0,
            [
                owed("GOODWILL", outstanding=40, promised=40, expiring={"never": 40}),
                owed("LOYALTY_PLUS", outstanding=95, expiring={"2026-03": 95}),
            ],
        ),
        (
            3,
            [
                owed("GOODWILL", outstanding=40, promised=40, expiring={"never": 40}),
                owed("LOYALTY_PLUS", breakage=95),
            ],
        ),
        (
            4,
            [
                owed("GOODWILL", outstanding=40, expiring={"never": 40}),
                owed("LOYALTY_PLUS", breakage=95),
                owed(REVERSALS, breakage=5),
            ],
        ),
    ],
)
def test_liability(bench: Bench, day: int, expected: list[Liability]) -> None:
    """Figures are those at the end of the day in the program's time zone; Ben's share expired and is not booked."""
    assert expected == liability(bench.database, TODAY + day * DAY)


def test_held_is_true_as_of_the_day(bench: Bench) -> None:
    """A hold counts from the day it was made to its deadline or its end, whether or not the release was booked."""
    hold = bench.accept(AuthorizeRedemption(RedeemPoints(by_id(ANN), GOLD, 7), 3 * 86_400))
    captured = bench.accept(AuthorizeRedemption(RedeemPoints(by_id(ANN), GOLD, 2), 3 * 86_400))
    assert hold.expires_at == captured.expires_at == bench.now + 3 * DAY
    bench.pass_time(days=1)
    bench.accept(CaptureRedemption(captured.hold_id))
    bench.pass_time(days=5)
    days = [TODAY + day * DAY for day in range(3, 9)]
    unbooked = [held_on(bench, day) for day in days]
    bench.issue(ANN, 1)  # which books the release
    booked = [held_on(bench, day) for day in days]

    assert [0, 9, 7, 7, 0, 0] == unbooked
    assert unbooked == booked


def held_on(bench: Bench, day: date) -> int:
    """What is held as of a day."""
    return sum(one.held for one in liability(bench.database, day))


def test_daily(bench: Bench) -> None:
    """Each day's movements add up to what the wallets held; a transfer inside the program moves nothing."""
    found = daily(bench.database, TODAY, TODAY + 10 * DAY, org_id=ORG_ID)

    assert [
        Day(ORG_ID, GOLD, TODAY, issued=140, redeemed=-5, expired=0, adjusted=0, clearing=0, closing=135),
        Day(ORG_ID, GOLD, TODAY + DAY, issued=0, redeemed=0, expired=0, adjusted=0, clearing=0, closing=135),
        Day(ORG_ID, GOLD, TODAY + 4 * DAY, issued=0, redeemed=5, expired=-70, adjusted=0, clearing=0, closing=70),
    ] == found
    assert [(70,)] == bench.rows("SELECT SUM(current) FROM wallets")


def test_day_ends_in_the_time_zone_of_the_program(bench: Bench) -> None:
    """18:30 UTC is the next day in Kolkata."""
    bench.now = datetime(2026, 3, 20, 18, 29, tzinfo=UTC)
    bench.issue(ANN, 1)
    bench.pass_time(minutes=1)
    bench.issue(ANN, 2)
    found = daily(bench.database, date(2026, 3, 20), date(2026, 3, 21))

    assert [(20, 1), (21, 2)] == [(one.day.day, one.issued) for one in found]


def test_the_end_of_time(bench: Bench) -> None:
    """East of UTC the last instant falls beyond the last day that there is; it is of that day all the same."""
    bench.issue(BEN, 7, Expiry(at=datetime.max.replace(tzinfo=UTC)))
    days = [liability(bench.database, day) for day in (TODAY + 4 * DAY, date.max)]
    commands = [("liability", "--as-of"), ("daily", "--to")]
    done = [
        CliRunner().invoke(main, ["report", name, "--database", bench.on.url, option, "9999-12-31"])
        for name, option in commands
    ]

    assert [7, 7] == [sum(one.expiring.get("9999-12", 0) for one in day) for day in days]
    assert [0, 0] == [one.exit_code for one in done], done


def test_command_line(bench: Bench) -> None:
    """People get a table, programs get JSON; both say the same."""
    url = bench.on.url
    arguments = ["report", "liability", "--database", url, "--as-of", "2026-03-15"]
    table = CliRunner().invoke(main, arguments, catch_exceptions=False)
    document = json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).stdout)
    days = CliRunner().invoke(
        main, ["report", "daily", "--database", url, "--from", "2026-03-15", "--to", "2026-03-16", "--json"]
    )

    assert "LOYALTY_PLUS           95         0     0         0  2026-03: 95" in table.stdout
    assert ("2026-03-15", 95) == (document["as_of"], document["programs"][1]["outstanding"])
    assert [140, 0] == [one["issued"] for one in json.loads(days.stdout)["days"]]
    assert 2 == CliRunner().invoke(main, ["report", "liability", "--as-of", "soon"]).exit_code
