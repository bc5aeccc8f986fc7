"""Issues: the order of the rules, one row for each cause of refusal, what is opened, and until when it lives."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from domain.defects import (
    Defect,
    Scene,
    expected,
    in_command,
    in_config,
    in_order,
    in_world,
    listed,
    names,
    pairs,
    spoiled,
    suffixes,
    told,
)
from points_grpc import codes
from points_grpc.domain.commands import Expiry, IssuePoints
from points_grpc.domain.configuration import DEFAULTS, MISSED_CALLS_ALLOWED, PUBLISHED
from points_grpc.domain.issuance import expiry_instant
from points_grpc.domain.model import Account, BucketKey, Kind, Lot, Posting, Purchase, Source, WalletKey
from points_grpc.domain.outcome import Accepted, IssueResult, Refused, Warning
from points_grpc.domain.policy import Category
from worlds import ANN, BRONZE, CID, FIRST_ID, GOLD, NOW, SILVER, UNKNOWN, issue, metals, redeem, transfer

CONTRACT = "895, 899, 888, 826 → 816, 419, 881"
"""The contract's "Order of rules" for issues, to the letter, from 895 on; the shape is judged before."""

TOMORROW = NOW + timedelta(days=1)
INSTANT = timedelta(microseconds=1)


# -- the table -------------------------------------------------------------------------------------------------------


def scene() -> Scene:
    """Ann gets 50 points: accepted."""
    return Scene(metals(), issue(50))


def program_missing(at: Scene) -> None:
    """Names no program, and there is no default one."""
    at.command = replace(at.command, program_id=0)
    at.world.default_program_id = None


NO_PROGRAM = names("program-unknown", "program-negative", "program-missing")

DEFECTS = (
    Defect(
        "org-paused",
        codes.PAUSED,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
        ours=True,
    ),
    Defect(
        "program-paused",
        codes.PAUSED,
        in_world(lambda one: one.change_program(paused=True)),
        {"cause": "PROGRAM_PAUSED"},
        excludes=NO_PROGRAM,  # what is not there is not paused
        ours=True,
    ),
    Defect("program-unknown", codes.PROGRAM_NOT_CONFIGURED, in_command(program_id=77), {}, "program_id"),
    Defect("program-negative", codes.PROGRAM_NOT_CONFIGURED, in_command(program_id=-1), {}, "program_id"),
    Defect("program-missing", codes.PROGRAM_NOT_CONFIGURED, program_missing, {}, "program_id"),
    Defect(
        "program-inactive",
        codes.PROGRAM_NOT_CONFIGURED,
        in_world(lambda one: one.change_program(active=False)),
        {},
        "program_id",
    ),
    Defect(
        "earning-program-unknown",
        codes.PROGRAM_NOT_CONFIGURED,
        in_command(earning_program_id=77),
        {},
        "earning_program_id",
    ),
    Defect(
        "promised-beyond-expiry",
        codes.FIELD_INVALID,
        in_command(available_from=TOMORROW + INSTANT, expiry=Expiry(at=TOMORROW)),
        {"field": "available_from"},
        "available_from",
        ours=True,
    ),
    Defect(
        "policy-contradicts-itself",
        codes.PROGRAM_CONFIGURATION_INVALID,
        in_world(lambda one: one.change_redemption_policy(categories=())),
        {"fields": "redemption.categories"},
    ),
    Defect(
        "config-unreadable",
        codes.STORAGE_UNAVAILABLE,
        in_world(lambda one: setattr(one, "config_available", False)),
        ours=True,
    ),
    Defect(
        "key-does-not-parse",
        codes.ORG_CONFIGURATION_INVALID,
        in_config(MISSED_CALLS_ALLOWED, "maybe"),
        {"key": MISSED_CALLS_ALLOWED},
    ),
    Defect(
        "category-unknown",
        codes.INVALID_POINTS_CATEGORY,
        in_command(category="Nope"),
        {"cause": "UNKNOWN_CATEGORY"},
        "category",
    ),
    Defect(
        "customer-unknown",
        codes.CUSTOMER_NOT_IN_ORGANIZATION,
        in_command(customer=UNKNOWN),
        {"party": "CUSTOMER"},
        "customer_identifier.value",
    ),
    Defect(
        "customer-merged",
        codes.MERGED_CUSTOMER,
        in_world(lambda one: one.change_customer(ANN, merged_into=CID)),
        {"customer_id": "11", "survivor_id": "13"},
    ),
    Defect(
        "not-enrolled",
        codes.CUSTOMER_NOT_ENROLLED,
        in_world(lambda one: one.leave(ANN)),
        {"program_id": "1"},
    ),
)


class TestRefusals:
    """Each cause of refusal by itself, and all of them in order."""

    def test_accepted(self) -> None:
        """Without a defect the issue is accepted."""
        assert isinstance(spoiled(scene(), (), lambda command: command), Accepted)

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_row(self, defect: Defect) -> None:
        """A single defect is refused with its code, its numbers and the field to blame."""
        outcome = spoiled(scene(), [defect], lambda command: command)

        assert isinstance(outcome, Refused)
        assert defect.code is outcome.code
        assert defect.metadata == outcome.metadata
        assert defect.field == outcome.field

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_metadata(self, defect: Defect) -> None:
        """Metadata has the keys that the catalogue lists and no others, and every variable of the message."""
        assert set() == defect.metadata.keys() - set(defect.code.metadata_keys)
        assert set() == set(re.findall(r"{(\w+)}", defect.code.message)) - defect.metadata.keys()

    def test_table_is_the_contract(self) -> None:
        """The table has the codes of the contract in its order, after the pause."""
        assert listed(CONTRACT) == in_order(DEFECTS)
        assert ["PAUSED"] * 2 == [one.code.reason for one in DEFECTS[:2]]

    def test_pairs(self) -> None:
        """Of any two defects, the one that the contract lists earlier is refused."""
        for earlier, later in pairs(DEFECTS, IssuePoints):
            outcome = spoiled(scene(), [earlier, later], lambda command: command)

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    def test_suffixes(self) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, IssuePoints):
            outcome = spoiled(scene(), together, lambda command: command)

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"

    def test_consecutive_codes_meet(self) -> None:
        """Any two consecutive codes of the contract are proved on a world that has both."""
        met = {(one.code.number, other.code.number) for one, other in pairs(DEFECTS, IssuePoints)}

        assert met >= set(pairwise(in_order(DEFECTS)))

    @pytest.mark.parametrize("key", [*DEFAULTS, PUBLISHED])
    def test_every_key_must_parse(self, key: str) -> None:
        """888 names whichever key of the organisation does not parse."""
        at = scene()
        at.world.config[key] = "1"

        refused = at.world.refuse(at.command)

        assert codes.ORG_CONFIGURATION_INVALID is refused.code
        assert {"key": key} == refused.metadata

    def test_switches_do_not_matter(self) -> None:
        """Points are issued where neither transfers nor redemptions are on."""
        at = scene()
        at.world.change_redemption_policy(enabled=False)
        at.world.change_transfer_policy(enabled=False)

        assert isinstance(at.world.decide(at.command), Accepted)


class TestDeed:
    """What an accepted issue does."""

    def test_answer(self) -> None:
        """The answer holds the lot that was opened, and the wallet as the issue leaves it."""
        world = metals()
        world.change_redemption_policy(categories=(Category("Main"), Category("Gift", redeemable=False)))
        world.give(1, 30)

        outcome = world.decide(
            issue(
                50,
                program_id=0,
                source=Source.GOODWILL,
                earning_program_id=BRONZE,
                category="Gift",
                expiry=Expiry(at=TOMORROW),
            )
        )

        opened = Lot(
            lot_id=FIRST_ID + 2,
            wallet=WalletKey(ANN, GOLD),
            bucket=BucketKey(BRONZE, Source.GOODWILL, "Gift"),
            points=50,
            remaining=50,
            held=0,
            awarded_at=NOW,
            available_from=None,
            promised=False,
            expires_at=TOMORROW,
            parent_lot_id=None,
            root_lot_id=FIRST_ID + 2,
            transaction_id=FIRST_ID + 1,
        )
        assert Accepted(IssueResult(FIRST_ID + 1, opened, (world.balance(ANN),)), (), FIRST_ID + 1) == outcome
        assert opened == world.lots[FIRST_ID + 2]
        assert 80 == world.balance(ANN).current
        assert TOMORROW == world.wallet(ANN).due_at

    def test_journal(self) -> None:
        """Points come from "issued"; the booking names who asked, why, under which policy, for which bill."""
        world = metals()
        world.give(1, 30)

        world.accept(issue(50, notes="sorry", transaction_number="B-1"))

        [entry] = world.journal
        assert (Kind.ISSUE, ANN, None, GOLD, 50) == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
        )
        assert ("request-1", "till-1", "sorry", 3, "B-1") == (
            entry.request_id,
            entry.actor,
            entry.notes,
            entry.policy_revision,
            entry.transaction_number,
        )
        assert (
            Posting(Account.WALLET, ANN, GOLD, FIRST_ID + 2, 50, wallet_version=2, balance_after=80),
            Posting(Account.ISSUED, 0, GOLD, 0, -50, 0, 0),
        ) == entry.postings
        assert (world.lots[FIRST_ID + 2],) == entry.opened

    @pytest.mark.parametrize("source", Source)
    def test_lifetime(self, source: Source) -> None:
        """Earned-lifetime rises by what was issued, whatever the source."""
        world = metals()

        world.accept(issue(50, source=source))

        assert (50, 0) == (world.wallet(ANN).lifetime_earned, world.wallet(ANN).lifetime_received)

    @pytest.mark.parametrize(("source", "transferable"), [(Source.LOYALTY_PLUS, 50), (Source.REGISTRATION, 0)])
    def test_transferable(self, source: Source, transferable: int) -> None:
        """What the policy bars is redeemable and not transferable."""
        world = metals()

        [balance] = world.accept(issue(50, source=source)).balances

        assert (50, 50, transferable) == (balance.current, balance.redeemable, balance.transferable)

    def test_promised(self) -> None:
        """Promised points are current, and neither redeemable nor transferable until their time."""
        world = metals()

        result = world.accept(issue(50, available_from=TOMORROW))

        assert (TOMORROW, True) == (result.lot.available_from, result.lot.promised)
        [balance] = result.balances
        assert world.balance(ANN) == balance
        assert (50, 0, 0, 50) == (balance.current, balance.redeemable, balance.transferable, balance.promised)
        assert TOMORROW == world.wallet(ANN).due_at
        assert ("INSUFFICIENT_REDEEMABLE_POINTS", None, None) == told(world.decide(redeem(1)))
        assert ("POINTS_NOT_TRANSFERABLE", None, None) == told(world.decide(transfer(1)))

    @pytest.mark.parametrize("available_from", [NOW, NOW - timedelta(days=1)])
    def test_promised_until_the_past(self, available_from: datetime) -> None:
        """Points promised until now or earlier are available at once."""
        world = metals()

        result = world.accept(issue(50, available_from=available_from))

        assert (None, False) == (result.lot.available_from, result.lot.promised)
        assert isinstance(world.decide(redeem(50)), Accepted)

    @pytest.mark.parametrize(
        ("available_from", "expiry", "accepted"),
        [
            (TOMORROW, Expiry(at=TOMORROW), True),
            (TOMORROW + INSTANT, Expiry(at=TOMORROW), False),
            (datetime(2026, 3, 17, tzinfo=UTC) - INSTANT, Expiry(in_days=1), True),
            (datetime(2026, 3, 17, tzinfo=UTC), Expiry(in_days=1), False),
            (datetime(2026, 4, 1, tzinfo=UTC) - INSTANT, Expiry(in_months=0), True),
            (datetime(2026, 4, 1, tzinfo=UTC), Expiry(in_months=0), False),
            (datetime(9999, 12, 31, tzinfo=UTC), Expiry(), True),
            (NOW - timedelta(days=1), Expiry(at=NOW - timedelta(days=2)), False),
        ],
    )
    def test_promised_until_it_expires(self, available_from: datetime, expiry: Expiry, accepted: bool) -> None:
        """Points must be there for an instant at least before they expire, however the expiry is named."""
        world = metals()

        outcome = world.decide(issue(50, available_from=available_from, expiry=expiry))

        assert accepted == isinstance(outcome, Accepted)
        assert accepted or ("FIELD_INVALID", None, None) == told(outcome)
        assert (50 if accepted else 0) == world.wallet(ANN).lifetime_earned

    @pytest.mark.parametrize(
        ("categories", "wanted"),
        [((Category("Main"),), "Main"), ((Category("Promo", redeemable=False), Category("Main")), "Promo")],
    )
    def test_default_category(self, categories: tuple[Category, ...], wanted: str) -> None:
        """Without a category the points get the policy's first."""
        world = metals()
        world.change_redemption_policy(categories=categories)

        assert wanted == world.accept(issue(50)).lot.category

    def test_earning_program(self) -> None:
        """Points are earned in the program credited, unless another is named."""
        world = metals()

        earned = [world.accept(issue(5, program_id=SILVER, earning_program_id=one)).lot for one in (0, BRONZE)]

        assert [(SILVER, SILVER), (SILVER, BRONZE)] == [(one.program_id, one.earning_program_id) for one in earned]

    def test_bill_becomes_known_once(self) -> None:
        """The bill of an issue becomes known, without an amount; a bill that is known stays as it is."""
        world = metals()
        world.purchases["B-1"] = Purchase("B-1", ANN, GOLD, 700)

        world.decide_batch([issue(5, transaction_number=number) for number in ("B-1", "B-2", "B-2")])

        assert {"B-1": Purchase("B-1", ANN, GOLD, 700), "B-2": Purchase("B-2", ANN, GOLD, None)} == world.purchases


class TestExpiredOnArrival:
    """Points whose validity ended before they were issued."""

    def test_answer(self) -> None:
        """They are issued and expire at once, with warning 877; the wallet's points stay what they were."""
        world = metals()
        world.give(1, 30)
        gone = NOW - timedelta(microseconds=1)

        outcome = world.decide(issue(50, expiry=Expiry(at=gone)))

        assert isinstance(outcome, Accepted)
        assert (Warning(codes.POINTS_NOT_ALLOCATED, {"points": "50"}),) == outcome.warnings
        result = outcome.result
        assert isinstance(result, IssueResult)
        assert (50, 0, gone) == (result.lot.points, result.lot.remaining, result.lot.expires_at)
        assert (world.balance(ANN),) == result.balances
        assert (30, 2) == (world.balance(ANN).current, world.balance(ANN).version)
        assert {1: 30} == world.remaining(ANN)
        assert 30 == world.wallet(ANN).lifetime_earned

    def test_journal(self) -> None:
        """One booking issues and expires them."""
        world = metals()

        world.accept(issue(50, expiry=Expiry(on=date(2026, 3, 14))))

        [entry] = world.journal
        assert Kind.ISSUE is entry.kind
        assert (
            Posting(Account.WALLET, ANN, GOLD, FIRST_ID + 2, 50, wallet_version=1, balance_after=50),
            Posting(Account.WALLET, ANN, GOLD, FIRST_ID + 2, -50, wallet_version=1, balance_after=0),
            Posting(Account.ISSUED, 0, GOLD, 0, -50, 0, 0),
            Posting(Account.EXPIRED, 0, GOLD, 0, 50, 0, 0),
        ) == entry.postings

    @pytest.mark.parametrize("available_from", [None, NOW - timedelta(days=2)])
    def test_nothing_is_due(self, available_from: datetime | None) -> None:
        """They leave nothing to be booked later, and other commands of their batch are decided as ever."""
        world = metals()
        gone = issue(50, expiry=Expiry(at=NOW - timedelta(days=1)), available_from=available_from)

        outcomes = world.decide_batch([gone, gone, issue(5)])

        assert [True] * 3 == [isinstance(one, Accepted) for one in outcomes]
        assert None is world.wallet(ANN).due_at
        assert (5, 0) == (world.wallet(ANN).current, world.wallet(ANN).promised)

    def test_last_instant(self) -> None:
        """Points that expire right now have not expired."""
        world = metals()

        outcomes = world.decide_batch([issue(50, expiry=Expiry(at=NOW)), issue(5)])

        assert [()] * 2 == [one.warnings for one in outcomes]
        assert isinstance(world.decide(redeem(55)), Accepted)


class TestExpiry:
    """Until when points live."""

    @pytest.mark.parametrize(
        ("expiry", "now", "time_zone", "wanted"),
        [
            (Expiry(), "2026-03-15 12:00", "UTC", None),
            (Expiry(at=TOMORROW), "2026-03-15 12:00", "Asia/Kolkata", "2026-03-16 12:00:00.000000"),
            # Through the last instant of a day, where the program is.
            (Expiry(on=date(2026, 3, 31)), "2026-03-15 12:00", "UTC", "2026-03-31 23:59:59.999999"),
            (Expiry(on=date(2026, 3, 31)), "2026-03-15 12:00", "Asia/Kolkata", "2026-03-31 18:29:59.999999"),
            (Expiry(on=date(2026, 3, 31)), "2026-03-15 12:00", "America/New_York", "2026-04-01 03:59:59.999999"),
            # Days ahead count from today, where the program is.
            (Expiry(in_days=0), "2026-03-15 12:00", "UTC", "2026-03-15 23:59:59.999999"),
            (Expiry(in_days=1), "2026-03-15 12:00", "UTC", "2026-03-16 23:59:59.999999"),
            (Expiry(in_days=0), "2026-03-15 18:29", "Asia/Kolkata", "2026-03-15 18:29:59.999999"),
            (Expiry(in_days=0), "2026-03-15 18:30", "Asia/Kolkata", "2026-03-16 18:29:59.999999"),
            (Expiry(in_days=365), "2027-03-15 12:00", "UTC", "2028-03-14 23:59:59.999999"),
            # A day of 23 hours, one of 25, and days that end after the clocks changed.
            (Expiry(in_days=0), "2026-03-29 00:30", "Europe/Berlin", "2026-03-29 21:59:59.999999"),
            (Expiry(in_days=0), "2026-10-25 00:30", "Europe/Berlin", "2026-10-25 22:59:59.999999"),
            (Expiry(in_days=14), "2026-03-20 12:00", "Europe/Berlin", "2026-04-03 21:59:59.999999"),
            (Expiry(in_days=7), "2026-10-20 12:00", "Europe/Berlin", "2026-10-27 22:59:59.999999"),
            # A midnight that does not exist (clocks go from 00:00 to 01:00), and one after an hour that comes twice.
            (Expiry(on=date(2026, 4, 23)), "2026-03-15 12:00", "Africa/Cairo", "2026-04-23 21:59:59.999999"),
            (Expiry(on=date(2026, 10, 29)), "2026-03-15 12:00", "Africa/Cairo", "2026-10-29 21:59:59.999999"),
            # Months ahead end with their last day.
            (Expiry(in_months=0), "2026-03-15 12:00", "UTC", "2026-03-31 23:59:59.999999"),
            (Expiry(in_months=1), "2026-01-31 12:00", "UTC", "2026-02-28 23:59:59.999999"),
            (Expiry(in_months=1), "2028-01-31 12:00", "UTC", "2028-02-29 23:59:59.999999"),
            (Expiry(in_months=10), "2026-03-15 12:00", "UTC", "2027-01-31 23:59:59.999999"),
            (Expiry(in_months=9), "2026-03-15 12:00", "UTC", "2026-12-31 23:59:59.999999"),
            (Expiry(in_months=12), "2026-12-01 12:00", "UTC", "2027-12-31 23:59:59.999999"),
            (Expiry(in_months=0), "2026-03-31 23:00", "Asia/Kolkata", "2026-04-30 18:29:59.999999"),
            (Expiry(in_months=1), "2026-09-30 12:00", "Europe/Berlin", "2026-10-31 22:59:59.999999"),
            (Expiry(in_months=1200), "2026-03-15 12:00", "UTC", "2126-03-31 23:59:59.999999"),
            # The end of time.
            (Expiry(on=date.max), "2026-03-15 12:00", "UTC", "9999-12-31 23:59:59.999999"),
            (Expiry(on=date(9999, 12, 30)), "2026-03-15 12:00", "UTC", "9999-12-30 23:59:59.999999"),
            (Expiry(on=date.max), "2026-03-15 12:00", "America/New_York", "9999-12-31 23:59:59.999999"),
        ],
    )
    def test_instant(self, expiry: Expiry, now: str, time_zone: str, wanted: str | None) -> None:
        """The last instant of validity, in the program's time zone."""
        at = datetime.fromisoformat(now).replace(tzinfo=UTC)
        instant = None if wanted is None else datetime.fromisoformat(wanted).replace(tzinfo=UTC)

        assert instant == expiry_instant(expiry, at, time_zone)

    @pytest.mark.parametrize("expiry", [Expiry(in_days=3), Expiry(on=date(2026, 3, 18))])
    def test_of_a_lot(self, expiry: Expiry) -> None:
        """A lot's expiry follows the time zone of the program credited."""
        world = metals()
        world.change_program(SILVER, time_zone="Asia/Kolkata")

        result: Any = world.accept(issue(5, program_id=SILVER, expiry=expiry))

        assert datetime(2026, 3, 18, 18, 29, 59, 999999, tzinfo=UTC) == result.lot.expires_at
