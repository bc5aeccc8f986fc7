"""Adjustments: the order of the rules, one row for each cause of refusal, and what is taken from where."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from msgspec.structs import replace

from domain.defects import (
    Defect,
    Scene,
    expected,
    has_only,
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
from points_grpc.domain.commands import AdjustPoints
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED
from points_grpc.domain.model import Account, Kind
from points_grpc.domain.outcome import Accepted, AdjustmentResult, LotShare, ProgramShare, Refused
from points_grpc.domain.policy import Category
from worlds import ANN, BEN, CID, FIRST_ID, GOLD, NOW, SILVER, UNKNOWN, adjust, by_id, metals

CONTRACT = "895, 899, 888, 826 → 816, 419, 881 → adjust: 818, 813"
"""The contract's "Order of rules" for issue and adjust, to the letter, from 895 on; the shape is judged before."""

SOON, LATER = NOW + timedelta(days=10), NOW + timedelta(days=20)


def scene() -> Scene:
    """Ann has 100 points in two lots, 50 of which are to go: accepted."""
    world = metals()
    world.give(1, 60, expires_at=LATER)
    world.give(2, 40, expires_at=SOON)
    return Scene(world, adjust(50))


def merged_away(at: Scene) -> None:
    """Names an account that was merged away."""
    at.world.change_customer(ANN, merged_into=BEN)


WHO = names("customer-unknown", "merged-away", "not-enrolled")
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
        excludes=names("program-unknown"),
        ours=True,
    ),
    Defect("program-unknown", codes.PROGRAM_NOT_CONFIGURED, in_command(program_id=77), {}, "program_id"),
    Defect(
        "program-inactive",
        codes.PROGRAM_NOT_CONFIGURED,
        in_world(lambda one: one.change_program(active=False)),
        {},
        "program_id",
        excludes=names("program-unknown"),
    ),
    Defect(
        "policy-contradicts-itself",
        codes.PROGRAM_CONFIGURATION_INVALID,
        in_world(lambda one: one.change_redemption_policy(minimum_points=9, maximum_points=8)),
        {"fields": "redemption.minimum_points,redemption.maximum_points"},
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
        in_command(category="Gift"),
        {"cause": "UNKNOWN_CATEGORY"},
        "category",
    ),
    Defect(
        "customer-unknown",
        codes.CUSTOMER_NOT_IN_ORGANIZATION,
        in_command(customer=UNKNOWN),
        {"party": "CUSTOMER"},
        "customer_identifier.value",
        excludes=WHO,
    ),
    Defect(
        "merged-away",
        codes.MERGED_CUSTOMER,
        merged_away,
        {"customer_id": str(ANN), "survivor_id": str(BEN)},
        excludes=names("customer-unknown", "not-enrolled"),
    ),
    Defect(
        "not-enrolled",
        codes.CUSTOMER_NOT_ENROLLED,
        in_command(customer=by_id(CID)),
        {"program_id": str(GOLD)},
        excludes=WHO,
    ),
    Defect(
        "too-few-points",
        codes.POINTS_EXCEED_CURRENT,
        in_command(points=101),
        {"points": "101", "current": "100", "short_by": "1"},
        "points",
        excludes=names("promised"),
    ),
    Defect(
        "promised",
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        has_only(60, available_from=SOON),
        {"points": "50", "redeemable": "0", "promised": "60", "held": "0"},
    ),
    Defect(
        "held",
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        has_only(60, held=20),
        {"points": "50", "redeemable": "40", "promised": "0", "held": "20"},
        excludes=names("promised", "too-few-points"),
    ),
)


class TestRefusals:
    """Each cause of refusal by itself, and all of them in order."""

    def test_accepted(self) -> None:
        """Without a defect the adjustment is accepted."""
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
        for earlier, later in pairs(DEFECTS, AdjustPoints):
            outcome = spoiled(scene(), [earlier, later], lambda command: command)

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    def test_suffixes(self) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, AdjustPoints):
            outcome = spoiled(scene(), together, lambda command: command)

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"


class TestDeed:
    """What an accepted adjustment does."""

    def test_spending_order(self) -> None:
        """Points go from the earliest-expiring lots to the adjusted account, and the reason is kept."""
        at = scene()

        result = at.world.accept(at.command)

        entry = at.world.journal[-1]
        assert {1: 50} == at.world.remaining(ANN)
        assert (
            AdjustmentResult(
                transaction_id=FIRST_ID + 1,
                points=50,
                shares=(ProgramShare(GOLD, 50, 50),),
                lots=(LotShare(2, GOLD, 40, SOON), LotShare(1, GOLD, 10, LATER)),
                lots_omitted=0,
                balances=(at.world.balance(ANN),),
            )
            == result
        )
        assert (Kind.ADJUSTMENT, ANN, None, GOLD, 50, "a mistake", 3) == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
            entry.notes,
            entry.policy_revision,
        )
        assert (Account.ADJUSTED, 0, GOLD, 50) == at.world.postings(entry)[-1]

    def test_category(self) -> None:
        """A category named is taken from alone, redeemable or not, and its own points are judged."""
        at = scene()
        at.world.change_redemption_policy(categories=(Category("Main"), Category("Frozen", redeemable=False)))
        at.world.give(3, 30, category="Frozen")

        refused = at.world.refuse(adjust(31, category="Frozen"))
        at.world.accept(adjust(30, category="Frozen"))

        assert {"points": "31", "current": "30", "short_by": "1"} == refused.metadata
        assert {2: 40, 1: 60} == at.world.remaining(ANN)

    def test_every_category(self) -> None:
        """Without a category every one is taken from."""
        at = scene()
        at.world.change_redemption_policy(categories=(Category("Main"), Category("Frozen", redeemable=False)))
        at.world.give(3, 30, category="Frozen", expires_at=NOW)

        at.world.accept(at.command)

        assert {2: 20, 1: 60} == at.world.remaining(ANN)

    def test_lifetime(self) -> None:
        """Nothing lowers lifetime figures."""
        at = scene()
        before = at.world.wallet(ANN)

        at.world.accept(at.command)

        assert before.lifetime_earned == at.world.wallet(ANN).lifetime_earned

    def test_default_program(self) -> None:
        """Without a program the organisation's default one is meant; other wallets are left alone."""
        at = scene()
        at.world.give(4, 10, program_id=SILVER)

        at.world.accept(replace(at.command, program_id=0))

        assert ({1: 50}, {4: 10}) == (at.world.remaining(ANN), at.world.remaining(ANN, SILVER))
