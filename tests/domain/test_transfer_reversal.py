"""Transfers taken back: each cause of refusal, what goes back to whom, and what is short."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from domain.defects import (
    Defect,
    Scene,
    expected,
    in_command,
    in_config,
    in_world,
    names,
    pairs,
    spoiled,
    suffixes,
    told,
)
from points_grpc import codes
from points_grpc.domain.commands import ReverseTransfer
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED
from points_grpc.domain.model import Account, Kind
from points_grpc.domain.outcome import Accepted, Refused, Warning
from points_grpc.domain.redemption import redemption_id_of
from worlds import (
    ANN,
    BEN,
    CID,
    GOLD,
    NOW,
    SILVER,
    World,
    merge,
    metals,
    redeem,
    reverse,
    take_back,
    transfer,
)

SOON, LATER = NOW + timedelta(days=10), NOW + timedelta(days=20)


def world_with(*lots: tuple[int, datetime | None], points: int = 100) -> tuple[World, int]:
    """Ann had some lots and sent Ben points of them; the world and the transfer."""
    world = metals()
    for lot_id, (size, expires_at) in enumerate(lots, start=1):
        world.give(lot_id, size, expires_at=expires_at)
    return world, world.accept(transfer(points)).transfer_id


def scene() -> Scene:
    """Ben has what Ann sent him, and she is to have it back: accepted."""
    world, transfer_id = world_with((60, SOON), (60, LATER))
    return Scene(world, take_back(transfer_id))


def pool_paused(at: Scene) -> None:
    """Ann sent silver points, too, pooled with gold, and wants those back while silver is paused."""
    at.world.give(3, 30, program_id=SILVER, expires_at=SOON)
    at.command = take_back(at.world.accept(transfer(30, pooled=True)).transfer_id)
    at.world.change_program(SILVER, paused=True)


def merged_together(at: Scene) -> None:
    """Ben turns out to be Ann."""
    at.world.accept(merge(BEN, ANN))


def all_spent(at: Scene) -> None:
    """Ben has nothing left, and Ann takes what there is."""
    at.world.accept(redeem(100, BEN))
    at.command = take_back(at.command.transfer_id, partial=True)


DEFECTS = (
    Defect(
        "org-paused",
        codes.TRANSFER_UNAVAILABLE,
        in_world(lambda one: setattr(one, "paused", True)),
        {"cause": "ORGANISATION_PAUSED"},
    ),
    Defect(
        "program-paused",
        codes.TRANSFER_UNAVAILABLE,
        in_world(lambda one: one.change_program(paused=True)),
        {"cause": "PROGRAM_PAUSED"},
        excludes=names("unknown", "spent", "merged-together", "all-spent"),  # nothing can happen in a pause
    ),
    Defect(
        "pool-paused",
        codes.TRANSFER_UNAVAILABLE,
        pool_paused,
        {"cause": "PROGRAM_PAUSED"},
        excludes=names("org-paused", "program-paused", "unknown", "spent", "merged-together", "all-spent"),
    ),
    Defect(
        "config-unreadable",
        codes.TRANSFER_STORAGE_UNAVAILABLE,
        in_world(lambda one: setattr(one, "config_available", False)),
        excludes=names("merged-together", "spent", "all-spent"),  # nobody is merged by it either
    ),
    Defect(
        "key-does-not-parse",
        codes.TRANSFER_CONFIGURATION_INVALID,
        in_config(MISSED_CALLS_ALLOWED, "maybe"),
        {"key": MISSED_CALLS_ALLOWED},
        excludes=names("merged-together", "spent", "all-spent"),  # nobody is merged by it either
    ),
    Defect("unknown", codes.RESOURCE_NOT_FOUND, in_command(transfer_id=99), {"resource": "Transfer"}, "transfer_id"),
    Defect(
        "merged-together",
        codes.SAME_CUSTOMER,
        merged_together,
        {},
        "transfer_id",
        excludes=names("org-paused", "spent", "all-spent"),
    ),
    Defect(
        "spent",
        codes.TRANSFER_INSUFFICIENT_POINTS,
        in_world(lambda one: one.accept(redeem(70, BEN))),
        {"points": "100", "current": "30", "short_by": "70"},
        excludes=names("org-paused", "all-spent"),
    ),
    Defect(
        "all-spent",
        codes.TRANSFER_INSUFFICIENT_POINTS,
        all_spent,
        {"points": "100", "current": "0", "short_by": "100"},
        excludes=names("org-paused", "unknown"),
    ),
)


class TestRefusals:
    """Each cause of refusal by itself, and all of them in order."""

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_row(self, defect: Defect) -> None:
        """A single defect is refused with its code, its numbers and the field to blame."""
        outcome = spoiled(scene(), [defect], lambda command: command)

        assert isinstance(outcome, Refused)
        assert defect.code is outcome.code
        assert defect.metadata == outcome.metadata
        assert defect.field == outcome.field

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
    def test_catalogue(self, defect: Defect) -> None:
        """The catalogue lists each code for the operation, with the metadata keys and every variable of the message."""
        assert {"ReverseTransfer", "*"} & set(defect.code.operations)
        assert set() == defect.metadata.keys() - set(defect.code.metadata_keys)
        assert set() == set(re.findall(r"{(\w+)}", defect.code.message)) - defect.metadata.keys()

    def test_pairs(self) -> None:
        """Of any two defects, the earlier one is refused."""
        for earlier, later in pairs(DEFECTS, ReverseTransfer):
            outcome = spoiled(scene(), [earlier, later], lambda command: command)

            assert expected(earlier) == told(outcome), f"{earlier.name} before {later.name}"

    def test_suffixes(self) -> None:
        """Of a defect and everything after it, the first is refused."""
        for together in suffixes(DEFECTS, ReverseTransfer):
            outcome = spoiled(scene(), together, lambda command: command)

            assert expected(together[0]) == told(outcome), f"first of {[one.name for one in together]}"

    def test_paused_where_the_points_are(self) -> None:
        """A pause also stops points that would leave a program of the group; one that is not touched is no matter."""
        world = metals()
        world.give(1, 60, program_id=SILVER)
        pooled = take_back(world.accept(transfer(60, program_id=SILVER, pooled=True)).transfer_id)
        world.give(2, 10, program_id=SILVER)
        alone = take_back(world.accept(transfer(10, program_id=SILVER)).transfer_id)
        world.change_program(GOLD, paused=True)

        assert {"cause": "PROGRAM_PAUSED"} == world.refuse(pooled).metadata
        world.accept(alone)

    def test_only_transfers(self) -> None:
        """Another journal transaction is no transfer, nor is a transfer that was taken back."""
        at = scene()
        redeemed = at.world.accept(redeem(1)).transaction_id
        returned = at.world.accept(at.command).transaction_id

        assert [codes.RESOURCE_NOT_FOUND] * 2 == [at.world.refuse(take_back(one)).code for one in (redeemed, returned)]


class TestDeed:
    """What an accepted reversal does."""

    def test_whole(self) -> None:
        """All of it goes back into new lots of the sender, with origin, award and expiry of those that she sent."""
        at = scene()
        before = {one.lot_id: one for one in at.world.lots.values()}

        result = at.world.accept(at.command)

        new = [one for one in at.world.lots.values() if one.lot_id not in before]
        entry = at.world.journal[-1]
        assert {} == at.world.remaining(BEN)
        assert [(ANN, GOLD, 60, SOON, 1), (ANN, GOLD, 40, LATER, 2)] == [
            (one.customer_id, one.program_id, one.remaining, one.expires_at, one.root_lot_id) for one in new
        ]
        assert [BEN, BEN] == [before[one.parent_lot_id or 0].customer_id for one in new]
        assert (100, 100) == (result.asked, result.moved)
        assert (at.world.balance(BEN), at.world.balance(ANN)) == result.balances
        assert (Kind.TRANSFER_REVERSAL, BEN, ANN, GOLD, 100, "a mistake") == (
            entry.kind,
            entry.customer_id,
            entry.counterparty_id,
            entry.program_id,
            entry.points,
            entry.notes,
        )

    def test_shortfall(self) -> None:
        """What the receiver spent is short: refused, or taken back as far as it goes with a warning."""
        at = scene()
        at.world.accept(redeem(70, BEN))

        outcome = at.world.decide(take_back(at.command.transfer_id, partial=True))

        assert isinstance(outcome, Accepted)
        assert (100, 30) == (outcome.result.asked, outcome.result.moved)  # type: ignore[union-attr]
        assert (Warning(codes.POINTS_NOT_ALLOCATED, {"points": "70"}),) == outcome.warnings
        assert {} == at.world.remaining(BEN)

    def test_own_points_are_left(self) -> None:
        """The receiver's other points never make up for what is short."""
        at = scene()
        at.world.give(50, 500, customer_id=BEN, expires_at=LATER + timedelta(days=1))
        at.world.accept(redeem(70, BEN))

        at.world.accept(take_back(at.command.transfer_id, partial=True))

        assert {50: 500} == at.world.remaining(BEN)

    def test_moved_on(self) -> None:
        """What the receiver passed on is short, and stays with whom it was passed on to."""
        at = scene()
        at.world.enrol(CID, GOLD)
        at.world.accept(transfer(100, BEN, CID))

        refused = at.world.refuse(take_back(at.command.transfer_id, partial=True))

        assert {"points": "100", "current": "0", "short_by": "100"} == refused.metadata
        assert 100 == at.world.balance(CID).current

    def test_expired(self) -> None:
        """What expired meanwhile is short, booked or not."""
        at = scene()
        at.world.now = SOON + timedelta(seconds=1)

        refused = at.world.refuse(at.command)

        assert {"points": "100", "current": "40", "short_by": "60"} == refused.metadata

    def test_held(self) -> None:
        """What is held of the receiver's lots is short."""
        at = scene()
        [lot, _] = at.world.lots_of(BEN)
        at.world.lots[lot.lot_id] = replace(lot, held=25)

        refused = at.world.refuse(at.command)

        assert {"points": "100", "current": "75", "short_by": "25"} == refused.metadata

    def test_again(self) -> None:
        """Repeated, it asks for what is left of the transfer: what a reversed redemption brought back, and no more."""
        at = scene()
        at.world.accept(redeem(70, BEN))
        redemption_id = redemption_id_of(at.world.journal[-1].transaction_id)
        at.world.accept(take_back(at.command.transfer_id, partial=True))
        nothing = at.world.refuse(take_back(at.command.transfer_id, partial=True))
        at.world.accept(reverse(redemption_id, BEN))

        result = at.world.accept(at.command)
        last = at.world.refuse(take_back(at.command.transfer_id, partial=True))

        assert {"points": "70", "current": "0", "short_by": "70"} == nothing.metadata
        assert (70, 70) == (result.asked, result.moved)
        assert {"points": "0", "current": "0", "short_by": "0"} == last.metadata
        assert 120 == at.world.balance(ANN).current

    def test_receiver_merged(self) -> None:
        """What came with the transfer is found with whoever the receiver was merged into, redemptions reversed too."""
        at = scene()
        at.world.enrol(CID, GOLD)
        at.world.accept(redeem(70, BEN))
        redemption_id = redemption_id_of(at.world.journal[-1].transaction_id)
        at.world.accept(merge(BEN, CID))
        at.world.accept(reverse(redemption_id, CID))

        result = at.world.accept(at.command)

        assert (100, 100) == (result.asked, result.moved)
        assert (120, 0) == (at.world.balance(ANN).current, at.world.balance(CID).current)

    def test_sender_merged(self) -> None:
        """Whoever the sender was merged into is credited."""
        at = scene()
        at.world.enrol(CID, GOLD)
        at.world.accept(merge(ANN, CID))

        at.world.accept(at.command)

        assert (0, 120) == (at.world.balance(ANN).current, at.world.balance(CID).current)

    def test_pooled(self) -> None:
        """Points of a pooled transfer go back to the wallets they were drawn from, by way of clearing."""
        world = metals()
        world.give(1, 60, expires_at=SOON)
        world.give(2, 60, program_id=SILVER, expires_at=LATER)
        transfer_id = world.accept(transfer(100, pooled=True)).transfer_id

        result = world.accept(take_back(transfer_id))

        assert (60, 60) == (world.balance(ANN).current, world.balance(ANN, SILVER).current)
        assert {(Account.CLEARING, 0, GOLD, 40), (Account.CLEARING, 0, SILVER, -40)} <= set(
            world.postings(world.journal[-1])
        )
        assert (world.balance(BEN), world.balance(ANN), world.balance(ANN, SILVER)) == result.balances

    def test_figures_stay(self) -> None:
        """Lifetime figures and velocity counts are neither lowered nor raised."""
        at = scene()
        before = {key: (one.lifetime_earned, one.lifetime_received) for key, one in at.world.wallets.items()}
        velocity = {key: dict(days) for key, days in at.world.velocity.items()}

        at.world.accept(at.command)

        assert before == {key: (one.lifetime_earned, one.lifetime_received) for key, one in at.world.wallets.items()}
        assert velocity == at.world.velocity

    def test_is_no_transfer(self) -> None:
        """A reversal is no equal transfer, which the duplicate window would refuse."""
        at = scene()
        at.world.change_transfer_policy(duplicate_window_s=3600)
        at.world.accept(at.command)

        outcome = at.world.decide(transfer(100, BEN, ANN))

        assert codes.TRANSFER_INSUFFICIENT_POINTS is outcome.code  # type: ignore[union-attr]
