"""What commands declare that they may draw: storage loads as many lots at once as these points need."""

from __future__ import annotations

import pytest

from points_grpc.domain.commands import Command
from points_grpc.domain.decide import keys_of, lookups_of
from points_grpc.domain.model import Source, WalletKey
from points_grpc.domain.policy import Category
from points_grpc.domain.snapshot import ANY_POINTS, Keys
from worlds import ANN, BEN, BRONZE, GOLD, SILVER, World, adjust, authorize, issue, merge, metals, redeem, transfer

POOL = (GOLD, SILVER)
"""The group of `metals`."""

EVERYWHERE = (*POOL, BRONZE)
NOBODY = 99


def declared(world: World, command: Command) -> Keys:
    """What a command declares in a world."""
    return keys_of(command, world.resolve([lookups_of(command)]), world.book())


@pytest.mark.parametrize(
    ("command", "draws"),
    [
        (transfer(50), {(ANN, GOLD): 50}),
        (transfer(50, pooled=True), {(ANN, one): 50 for one in POOL}),
        (transfer(50, destination=NOBODY), {(ANN, GOLD): 50}),
        (transfer(50, source=NOBODY), {}),
        (redeem(50), {(ANN, GOLD): 50}),
        (redeem(50, pooled=True), {(ANN, one): 50 for one in POOL}),
        (redeem(50, category="Main"), {(ANN, GOLD): ANY_POINTS}),
        (authorize(50), {(ANN, GOLD): 50}),
        (adjust(50), {(ANN, GOLD): ANY_POINTS}),
        (issue(50), {}),
        (merge(ANN, BEN), {(ANN, one): ANY_POINTS for one in EVERYWHERE}),
    ],
    ids=str,
)
def test_points_that_may_be_drawn(command: Command, draws: dict[tuple[int, int], int]) -> None:
    """As many as the command names, or any number where lots are passed over or all of them are wanted."""
    found = declared(metals(), command).draws

    assert {WalletKey(*key): points for key, points in draws.items()} == found


def test_any_points_where_a_category_is_not_redeemable() -> None:
    """Lots of it stand between those that are drawn."""
    world = metals()
    world.change_redemption_policy(categories=(Category("Main"), Category("Frozen", redeemable=False)))

    assert {WalletKey(ANN, GOLD): ANY_POINTS} == declared(world, redeem(50)).draws


def test_sources_that_are_passed_over() -> None:
    """Lots of a barred source are loaded besides."""
    world = metals()
    world.change_transfer_policy(barred_sources=(Source.GOODWILL,))

    assert frozenset({Source.GOODWILL}) == declared(world, transfer(50)).barred
    assert frozenset() == declared(world, redeem(50)).barred


def test_draws_of_a_batch_add_up() -> None:
    """Commands that draw on one wallet need as many lots as all their points together."""
    world = metals()
    commands = (transfer(50), redeem(30), transfer(7, source=BEN, destination=ANN))
    keys = Keys.union([declared(world, one) for one in commands])

    assert {WalletKey(ANN, GOLD): 80, WalletKey(BEN, GOLD): 7} == keys.draws
