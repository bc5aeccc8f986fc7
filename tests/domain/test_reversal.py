"""Reversals: the order of the rules, one row for each cause of refusal, and where points go back to."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from domain.defects import (
    Defect,
    Scene,
    expected,
    frauds,
    in_command,
    in_config,
    in_order,
    in_world,
    labelled,
    listed,
    names,
    pairs,
    spoiled,
    suffixes,
    told,
)
from points_grpc import codes
from points_grpc.domain.commands import ReturnTransaction, ReverseRedemption
from points_grpc.domain.configuration import DEFAULTS, MISSED_CALLS_ALLOWED, PUBLISHED, REVERSALS_ALLOWED
from points_grpc.domain.model import Account, Kind, Posting, Purchase, Return, StatusLabel
from points_grpc.domain.outcome import Accepted, LotShare, Refused, ReversalResult, ReversedShare, Warning
from points_grpc.domain.redemption import redemption_id_of
from worlds import (
    ANN,
    BEN,
    CID,
    FIRST_ID,
    GOLD,
    NOW,
    SILVER,
    UNKNOWN,
    World,
    by_id,
    issue,
    metals,
    redeem,
    reverse,
    transfer,
)

CONTRACT = (
    "888 → switched off (903 with warning 905) → key (902; 811, 814) → customer (8015, 904) → 820 → window (903) → "
    "nothing left (3802; 812 by transaction number) → amount (810)"
)
"""The contract's "Order of rules" for reversals, to the letter, from 888 on; the shape is judged before."""

WARNINGS = {905}
"""Numbers in the contract's line that refuse nothing."""

REDEMPTION = redemption_id_of(FIRST_ID + 1)
"""The id that the first redemption of a world gets."""

SOON, LATER = NOW + timedelta(days=10), NOW + timedelta(days=20)


# -- the table -------------------------------------------------------------------------------------------------------


def scene() -> Scene:
    """Two days ago Ann redeemed 50 points on the bill B-1, of two lots, and wants them back: accepted."""
    world = metals()
    world.give(1, 30, expires_at=SOON)
    world.give(2, 40, expires_at=LATER)
    world.accept(redeem(50, transaction_number="B-1", external_reference="R-1"))
    world.pass_time(days=2)
    return Scene(world, reverse(REDEMPTION))


def by_key(**given: Any) -> ReverseRedemption:
    """A reversal by another key than the redemption's id."""
    return reverse(**given)


def pool_paused(at: Scene) -> None:
    """Ann redeemed once more on the bill, pooled, and wants that back: a program whose points it took is paused."""
    at.world.give(3, 30, program_id=SILVER, expires_at=SOON)
    made = at.world.accept(redeem(30, pooled=True, transaction_number="B-1"))
    at.command = replace(at.command, redemption_id=made.redemption_id)
    at.world.change_program(SILVER, paused=True)


def unknown_bill(at: Scene) -> None:
    """Names a bill that nobody knows."""
    at.command = by_key(transaction_number="B-9")


def bill_without_redemption(at: Scene) -> None:
    """Names a bill on which nothing was redeemed."""
    at.world.purchases["B-2"] = Purchase("B-2", ANN, GOLD, 700)
    at.command = by_key(transaction_number="B-2")


def returned_bill(at: Scene) -> None:
    """Names a bill that was returned and is known from nothing else."""
    at.world.returns["B-3"] = Return("B-3", ANN, None, 0, NOW, "r-1", "till-1", "")
    at.command = by_key(transaction_number="B-3")


def given_back(at: Scene) -> None:
    """All of it was given back an hour ago."""
    made = at.world.redemptions[REDEMPTION]
    at.world.redemptions[REDEMPTION] = replace(
        made,
        reversed=made.points,
        last_reversed_at=at.world.now - timedelta(hours=1),
        lots=tuple(replace(one, reversed=one.points) for one in made.lots),
    )


def given_back_by_bill(at: Scene) -> None:
    """All that was redeemed on the bill was given back an hour ago."""
    given_back(at)
    at.command = replace(at.command, redemption_id="", transaction_number="B-1")


NO_KEY = names(
    "id-unknown", "reference-unknown", "bill-unknown", "bill-without-redemption", "returned-bill-without-redemption"
)
BACK = {"reversed_at": "2026-03-17T11:00:00+00:00"}

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
        excludes=NO_KEY,  # the program is that of the redemption
        ours=True,
    ),
    Defect(
        "pool-paused",
        codes.PAUSED,
        pool_paused,
        {"cause": "PROGRAM_PAUSED"},
        excludes=NO_KEY | {"org-paused", "program-paused"},  # nothing can happen in a pause
        ours=True,
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
        "switched-off",
        codes.REVERSAL_NOT_POSSIBLE,
        in_config(REVERSALS_ALLOWED, "false"),
        {"cause": "REVERSAL_DISABLED"},
    ),
    Defect(
        "id-unknown",
        codes.REDEMPTION_NOT_FOUND,
        in_command(redemption_id="r0"),
        {},
        "redemption_id",
        excludes=NO_KEY | {"given-back-by-bill"},  # there is one key
    ),
    Defect(
        "reference-unknown",
        codes.REDEMPTION_NOT_FOUND,
        in_command(redemption_id="", external_reference="R-9"),
        {},
        "external_reference_number",
        excludes=NO_KEY | {"given-back-by-bill"},
    ),
    Defect(
        "bill-unknown",
        codes.INVALID_TRANSACTION_NUMBER,
        unknown_bill,
        {"cause": "UNKNOWN"},
        "transaction_number",
        excludes=NO_KEY | {"given-back-by-bill"},
    ),
    Defect(
        "bill-without-redemption",
        codes.NO_REDEMPTION_ON_TRANSACTION,
        bill_without_redemption,
        {},
        "transaction_number",
        excludes=NO_KEY | {"given-back-by-bill"},
    ),
    Defect(
        "returned-bill-without-redemption",
        codes.NO_REDEMPTION_ON_TRANSACTION,
        returned_bill,
        {},
        "transaction_number",
        excludes=NO_KEY | {"given-back-by-bill"},
    ),
    Defect(
        "customer-unknown",
        codes.CUSTOMER_NOT_FOUND,
        in_command(customer=UNKNOWN),
        {"party": "CUSTOMER"},
        "customer_identifier.value",
        excludes=names("another-customer"),
    ),
    Defect(
        "another-customer",
        codes.INVALID_CUSTOMER_DETAILS,
        in_command(customer=by_id(BEN)),
        {},
        "customer_identifier",
    ),
    Defect("fraud", codes.CUSTOMER_FRAUD_OPERATION_BLOCKED, frauds(ANN, BEN)),
    Defect("label-suspended", codes.CUSTOMER_FRAUD_OPERATION_BLOCKED, labelled(ANN, StatusLabel.SUSPENDED)),
    Defect(
        "window-passed",
        codes.REVERSAL_NOT_POSSIBLE,
        in_world(lambda one: one.change_redemption_policy(reversal_days=1)),
        {"cause": "WINDOW_PASSED"},
    ),
    Defect(
        "given-back",
        codes.REDEMPTION_ALREADY_REVERSED,
        given_back,
        BACK,
        excludes=names("given-back-by-bill"),
    ),
    Defect("given-back-by-bill", codes.TRANSACTION_ALREADY_REVERSED, given_back_by_bill, BACK),
    Defect(
        "too-many-points",
        codes.REVERSAL_POINTS_MISMATCH,
        in_command(points=51),
        {"points": "51", "reversible": "50"},
        "points_to_be_reversed",
    ),
)

ALONE = (ReverseRedemption,)


class TestRefusals:
    """Each cause of refusal by itself, and all of them in order."""

    def test_accepted(self) -> None:
        """Without a defect the reversal is accepted."""
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
        assert [number for number in listed(CONTRACT) if number not in WARNINGS] == in_order(DEFECTS)
        assert ["PAUSED"] * 3 == [one.code.reason for one in DEFECTS[:3]]

    def test_pairs(self) -> None:
        """Of any two defects, the one that the contract lists earlier is refused."""
        for earlier, later in pairs(DEFECTS, ReverseRedemption):
            outcome = spoiled(scene(), [earlier, later], lambda command: command)

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    def test_suffixes(self) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, ReverseRedemption):
            outcome = spoiled(scene(), together, lambda command: command)

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"

    def test_consecutive_codes_meet(self) -> None:
        """Any two consecutive codes of the contract are proved on a world that has both, but for alternatives."""
        alternatives = {(902, 811), (811, 814), (8015, 904), (3802, 812)}
        met = {(one.code.number, other.code.number) for one, other in pairs(DEFECTS, ReverseRedemption)}
        apart = {pair for pair in pairwise(in_order(DEFECTS)) if pair not in met}

        assert apart <= alternatives

    def test_switched_off_warns(self) -> None:
        """A reversal refused because it is switched off carries warning 905 in the same status; no other does."""
        warned = {}
        for defect in DEFECTS:
            outcome = spoiled(scene(), [defect], lambda command: command)
            assert isinstance(outcome, Refused)
            warned[defect.name] = outcome.warnings

        assert {"switched-off": (Warning(codes.REVERSAL_DISABLED),)} == {k: v for k, v in warned.items() if v}

    @pytest.mark.parametrize("key", [*DEFAULTS, PUBLISHED])
    def test_every_key_must_parse(self, key: str) -> None:
        """888 names whichever key of the organisation does not parse."""
        at = scene()
        at.world.config[key] = "1"

        refused = at.world.refuse(at.command)

        assert codes.ORG_CONFIGURATION_INVALID is refused.code
        assert {"key": key} == refused.metadata

    @pytest.mark.parametrize(("passed", "accepted"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
    def test_window(self, passed: timedelta, accepted: bool) -> None:
        """A redemption can be reversed through the last instant of the window."""
        at = scene()
        at.world.change_redemption_policy(reversal_days=3)
        at.world.now = NOW + timedelta(days=3) + passed

        assert accepted == isinstance(at.world.decide(at.command), Accepted)

    @pytest.mark.parametrize(
        ("reversed_points", "later", "wanted"),
        [
            (50, 20, None),
            (49, 20, ("REVERSAL_NOT_POSSIBLE", "WINDOW_PASSED", None)),
            (50, 0, ("REVERSAL_NOT_POSSIBLE", "WINDOW_PASSED", None)),
        ],
        ids=["used-up", "something-left", "nothing-left-at-all"],
    )
    def test_window_of_a_bill(self, reversed_points: int, later: int, wanted: tuple[str, ...] | None) -> None:
        """Of a bill, what is used up is not judged by the window any more; it is if nothing else is there."""
        at = scene()
        at.world.change_redemption_policy(reversal_days=3)
        at.world.accept(replace(at.command, points=reversed_points))
        at.world.pass_time(days=2)
        if later:
            at.world.accept(redeem(later, transaction_number="B-1"))

        outcome = at.world.decide(reverse(transaction_number="B-1"))

        assert wanted == (None if isinstance(outcome, Accepted) else told(outcome))

    def test_paused_elsewhere(self) -> None:
        """A pause of another program is nobody's business, nor that of one which has its points back already."""
        at = scene()
        pool_paused(at)
        at.world.change_program(SILVER, paused=False)
        at.world.accept(at.command)
        at.world.change_program(SILVER, paused=True)

        assert isinstance(at.world.decide(reverse(transaction_number="B-1")), Accepted)


class TestDeed:
    """What an accepted reversal does."""

    def test_whole(self) -> None:
        """Without points all that is left goes back to the lots it came from."""
        at = scene()

        outcome = at.world.decide(replace(at.command, notes="wrong size"))

        assert {1: 30, 2: 40} == at.world.remaining(ANN)
        assert (
            Accepted(
                ReversalResult(
                    reversal_id=outcome.result.reversal_id,  # type: ignore[union-attr]
                    transaction_id=FIRST_ID + 2,
                    reversed_at=NOW + timedelta(days=2),
                    asked=50,
                    redemptions=(ReversedShare(REDEMPTION, 50, 0, 0),),
                    lots=(LotShare(2, GOLD, 20, LATER), LotShare(1, GOLD, 30, SOON)),
                    lots_omitted=0,
                    balances=(at.world.balance(ANN),),
                ),
                (),
                FIRST_ID + 2,
            )
            == outcome
        )

    def test_journal(self) -> None:
        """Points go from "redeemed" to the lots; the booking names who asked, why, and the policy that judged."""
        at = scene()

        at.world.accept(replace(at.command, notes="wrong size"))

        entry = at.world.journal[-1]
        assert (Kind.REVERSAL, ANN, None, GOLD, 50, NOW + timedelta(days=2)) == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
            entry.created_at,
        )
        assert ("request-1", "till-1", "wrong size", 3, None) == (
            entry.request_id,
            entry.actor,
            entry.notes,
            entry.policy_revision,
            entry.transaction_number,
        )
        assert (
            Posting(Account.WALLET, ANN, GOLD, 2, 20, wallet_version=4, balance_after=40),
            Posting(Account.WALLET, ANN, GOLD, 1, 30, wallet_version=4, balance_after=70),
            Posting(Account.REDEEMED, 0, GOLD, 0, -50, 0, 0),
        ) == entry.postings

    def test_partial_latest_expiring_first(self) -> None:
        """A part goes to the latest-expiring lot first; the next part goes on from there, until all is used up."""
        world = metals()
        for lot_id, expires_at in ((1, SOON), (2, LATER), (3, None)):
            world.give(lot_id, 10, expires_at=expires_at)
        made = world.accept(redeem(30))
        steps = []
        for points in (4, 9, 16, 1):
            result = world.accept(reverse(made.redemption_id, points=points))
            steps.append((world.remaining(ANN), result.redemptions[0].left))

        assert [({3: 4}, 26), ({2: 3, 3: 10}, 17), ({1: 9, 2: 10, 3: 10}, 1), ({1: 10, 2: 10, 3: 10}, 0)] == steps
        assert ("REDEMPTION_ALREADY_REVERSED", None, None) == told(world.decide(reverse(made.redemption_id)))

    def test_more_than_is_left(self) -> None:
        """After a part, no more than the rest can be asked back, and asking for less than it still works."""
        at = scene()
        at.world.accept(replace(at.command, points=20))

        assert {"points": "31", "reversible": "30"} == at.world.refuse(replace(at.command, points=31)).metadata
        assert 30 == at.world.accept(at.command).asked

    def test_already_reversed_says_when(self) -> None:
        """The refusal of a second reversal names the time of the first."""
        at = scene()
        at.world.accept(at.command)
        at.world.pass_time(hours=5)

        assert {"reversed_at": "2026-03-17T12:00:00+00:00"} == at.world.refuse(at.command).metadata

    @pytest.mark.parametrize(("points", "credited", "expired"), [(None, 20, 30), (20, 20, 0), (25, 20, 5)])
    def test_expired_share(self, points: int | None, credited: int, expired: int) -> None:
        """What belongs to a lot expired since is reversed, reported and not credited: it goes to "expired"."""
        at = scene()
        at.world.now = SOON + timedelta(microseconds=1)

        outcome = at.world.decide(replace(at.command, points=points))

        assert isinstance(outcome, Accepted)
        result = outcome.result
        assert isinstance(result, ReversalResult)
        assert (ReversedShare(REDEMPTION, credited, expired, 50 - credited - expired),) == result.redemptions
        assert (LotShare(2, GOLD, 20, LATER),) == result.lots
        assert {2: 40} == at.world.remaining(ANN)
        warnings = (Warning(codes.POINTS_NOT_ALLOCATED, {"points": str(expired)}),) if expired else ()
        assert warnings == outcome.warnings
        postings = at.world.postings(at.world.journal[-1])
        assert {(Account.EXPIRED, 0, GOLD, expired), (Account.REDEEMED, 0, GOLD, -credited - expired)} >= {
            one for one in postings if one[0] is not Account.WALLET
        }

    def test_all_expired(self) -> None:
        """If all lots expired, nothing is credited, the wallet keeps its version, and the redemption is used up."""
        at = scene()
        at.world.now = LATER + timedelta(days=1)
        at.world.decide(issue(1))  # books the rest of the second lot as expired
        before = at.world.balance(ANN)

        result = at.world.accept(at.command)

        assert (ReversedShare(REDEMPTION, 0, 50, 0),) == result.redemptions
        assert () == result.lots
        assert (before,) == result.balances
        assert before == at.world.balance(ANN)
        assert [(Account.EXPIRED, 0, GOLD, 50), (Account.REDEEMED, 0, GOLD, -50)] == at.world.postings(
            at.world.journal[-1]
        )
        assert ("REDEMPTION_ALREADY_REVERSED", None, None) == told(at.world.decide(at.command))

    def test_last_instant_of_validity(self) -> None:
        """A lot in its last instant is credited."""
        at = scene()
        at.world.now = SOON

        result = at.world.accept(at.command)

        assert (ReversedShare(REDEMPTION, 50, 0, 0),) == result.redemptions

    def test_credited_lots_expire_again(self) -> None:
        """What was given back is due when its lot is, and expires with it."""
        at = scene()
        at.world.accept(redeem(20))
        assert {} == at.world.remaining(ANN)
        at.world.accept(at.command)
        due_at = at.world.wallet(ANN).due_at
        at.world.now = SOON + timedelta(seconds=1)
        at.world.accept(issue(5))

        assert SOON == due_at
        assert {2: 20, FIRST_ID + 6: 5} == at.world.remaining(ANN)

    def test_received_points(self) -> None:
        """Redeemed points that were received go back to the receiver's lots."""
        world = metals()
        world.give(1, 50)
        world.accept(transfer(50))
        made = world.accept(redeem(30, customer_id=BEN))

        world.accept(reverse(made.redemption_id, customer_id=BEN))

        assert {FIRST_ID + 2: 50} == world.remaining(BEN)
        assert (0, 50) == (world.wallet(BEN).lifetime_earned, world.wallet(BEN).lifetime_received)

    def test_pooled(self) -> None:
        """A pooled redemption goes back to the wallets it came from, each program with its own postings."""
        world = metals()
        world.give(1, 60, expires_at=LATER)
        world.give(2, 30, program_id=SILVER, expires_at=SOON)
        made = world.accept(redeem(80, pooled=True))

        result = world.accept(reverse(made.redemption_id, points=60))

        assert {1: 60} == world.remaining(ANN)
        assert {2: 10} == world.remaining(ANN, SILVER)
        assert (world.balance(ANN, SILVER), world.balance(ANN)) == result.balances
        assert [
            (Account.WALLET, ANN, GOLD, 50),
            (Account.WALLET, ANN, SILVER, 10),
            (Account.REDEEMED, 0, GOLD, -50),
            (Account.REDEEMED, 0, SILVER, -10),
        ] == world.postings(world.journal[-1])

    def test_many_lots(self) -> None:
        """An answer shows the first hundred lots and counts the rest."""
        world = metals()
        for number in range(1, 151):
            world.give(number, 1)
        made = world.accept(redeem(140))

        result = world.accept(reverse(made.redemption_id))

        assert [*range(140, 40, -1)] == [one.lot_id for one in result.lots]
        assert 40 == result.lots_omitted
        assert 150 == world.balance(ANN).current


class TestKeys:
    """The three ways to name what to reverse."""

    def test_by_external_reference(self) -> None:
        """A redemption is named by the caller's reference too."""
        at = scene()

        assert 50 == at.world.accept(by_key(external_reference="R-1")).asked

    def test_by_transaction_number(self) -> None:
        """By bill, all its redemptions are reversed, newest first; the booking names the bill."""
        world, ids = self.bill()

        result = world.accept(by_key(transaction_number="B-1"))

        assert 30 == result.asked
        assert tuple(ReversedShare(one, 10, 0, 0) for one in reversed(ids)) == result.redemptions
        assert "B-1" == world.journal[-1].transaction_number
        assert {1: 100} == world.remaining(ANN)

    def test_part_of_a_bill(self) -> None:
        """A part of a bill is taken from its newest redemptions; those not reached are not shown."""
        world, ids = self.bill()

        first = world.accept(reverse(transaction_number="B-1", points=14))
        second = world.accept(reverse(transaction_number="B-1", points=7))

        assert (ReversedShare(ids[2], 10, 0, 0), ReversedShare(ids[1], 4, 0, 6)) == first.redemptions
        assert (ReversedShare(ids[1], 6, 0, 0), ReversedShare(ids[0], 1, 0, 9)) == second.redemptions
        assert {"points": "10", "reversible": "9"} == world.refuse(
            reverse(transaction_number="B-1", points=10)
        ).metadata

    def test_bill_used_up(self) -> None:
        """With nothing left on the bill the refusal says so and since when."""
        world, _ = self.bill()
        world.accept(reverse(transaction_number="B-1", points=20))
        world.pass_time(hours=1)
        world.accept(reverse(transaction_number="B-1"))
        world.pass_time(hours=1)

        refused = world.refuse(reverse(transaction_number="B-1"))

        assert codes.TRANSACTION_ALREADY_REVERSED is refused.code
        assert {"reversed_at": "2026-03-15T13:00:02+00:00"} == refused.metadata

    def test_bill_of_an_issue(self) -> None:
        """A bill that only an issue named is known, and carries no redemption."""
        world = metals()
        world.accept(issue(10, transaction_number="B-5"))

        assert ("NO_REDEMPTION_ON_TRANSACTION", None, None) == told(world.decide(by_key(transaction_number="B-5")))
        assert {"B-5": Purchase("B-5", ANN, GOLD, None)} == world.purchases

    def test_bill_of_a_return(self) -> None:
        """A bill that only a return named is known, and carries no redemption."""
        world = metals()
        world.accept(ReturnTransaction(by_id(ANN), "B-5", None, ()))

        assert ("NO_REDEMPTION_ON_TRANSACTION", None, None) == told(world.decide(by_key(transaction_number="B-5")))

    def test_bill_of_two_customers(self) -> None:
        """Of a bill on which several customers redeemed, each gets back what is theirs; others are refused."""
        world, ids = self.bill()
        world.give(2, 10, customer_id=BEN)
        of_ben = world.accept(redeem(10, customer_id=BEN, transaction_number="B-1")).redemption_id
        stranger = world.decide(reverse(customer_id=CID, transaction_number="B-1"))

        by_ann = world.accept(reverse(transaction_number="B-1"))
        by_ben = world.accept(reverse(customer_id=BEN, transaction_number="B-1"))

        assert ("INVALID_CUSTOMER_DETAILS", None, None) == told(stranger)
        assert list(reversed(ids)) == [one.redemption_id for one in by_ann.redemptions]
        assert [of_ben] == [one.redemption_id for one in by_ben.redemptions]
        assert ({1: 100}, {2: 10}) == (world.remaining(ANN), world.remaining(BEN))

    @pytest.mark.parametrize(
        "key", [{"redemption_id": REDEMPTION}, {"external_reference": "R-1"}, {"transaction_number": "B-1"}]
    )
    def test_redeemer_is_loaded(self, key: dict[str, str]) -> None:
        """Whoever redeemed is loaded, and locked, beside whoever is named."""
        at = scene()

        _, [keys] = at.world.snapshot([reverse(customer_id=BEN, **key)])

        assert {ANN, BEN} == keys.customers
        assert {REDEMPTION} == keys.redemptions

    def test_ids_differ(self) -> None:
        """Redemptions and reversals have opaque ids, each its own."""
        at = scene()

        result = at.world.accept(at.command)

        assert re.fullmatch(r"r[0-9a-z]+", REDEMPTION)
        assert re.fullmatch(r"v[0-9a-z]+", result.reversal_id)
        assert len({redemption_id_of(number) for number in range(1, 2_000)}) == 1_999

    def bill(self) -> tuple[World, list[str]]:
        """Ann redeemed three times ten points on the bill B-1, a second apart."""
        world = metals()
        world.give(1, 100)
        ids = []
        for _ in range(3):
            ids.append(world.accept(redeem(10, transaction_number="B-1")).redemption_id)
            world.pass_time(seconds=1)
        world.now = NOW + timedelta(seconds=2)
        return world, ids


class TestBatch:
    """Reversals beside other commands."""

    def test_redemption_of_the_same_batch(self) -> None:
        """A redemption can be reversed by its keys in the batch that made it, and the points are there at once."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 20)

        outcomes = world.decide_batch(
            [
                redeem(50, transaction_number="B-1", external_reference="R-1"),
                reverse(external_reference="R-1", points=25),
                reverse(transaction_number="B-1"),
                redeem(50),
            ]
        )

        assert [True] * 4 == [isinstance(one, Accepted) for one in outcomes]
        assert {} == world.remaining(ANN)

    def test_the_same_reversal_twice(self) -> None:
        """The second of two equal reversals of one batch is refused."""
        at = scene()

        first, second = at.world.decide_batch([at.command, at.command])

        assert isinstance(first, Accepted)
        assert ("REDEMPTION_ALREADY_REVERSED", None, None) == told(second)

    def test_revived_lots_are_spent_in_order(self) -> None:
        """A lot that was empty and is credited takes its place in the spending order within the batch."""
        world = metals()
        world.give(1, 30, expires_at=SOON)
        world.give(2, 20, expires_at=LATER)
        made = world.accept(redeem(30))

        _, redeemed = world.decide_batch([reverse(made.redemption_id), redeem(35)])

        assert isinstance(redeemed, Accepted)
        assert [1, 2] == [one.lot_id for one in redeemed.result.lots]  # type: ignore[union-attr]
