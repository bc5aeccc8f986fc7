"""Missed calls: whose they are, how long they prove a redemption, and that each proves one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from points_grpc import codes
from points_grpc.domain.commands import CheckRedemption, RecordMissedCall
from points_grpc.domain.configuration import MISSED_CALLS_ALLOWED
from points_grpc.domain.events import MissedCallUsed
from points_grpc.domain.model import Identifier, IdentifierType, MissedCall
from points_grpc.domain.outcome import Accepted, MissedCallResult, Refused
from worlds import ANN, BEN, FIRST_ID, NOW, World, authorize, metals, redeem

MOBILE = "+919876540011"
INSTANT = timedelta(microseconds=1)


def called(*ago_s: float, **given: Any) -> World:
    """Ann has 100 points, and called so many seconds ago."""
    world = metals()
    world.config[MISSED_CALLS_ALLOWED] = "true"
    world.give(1, 100)
    for number, seconds in enumerate(ago_s, start=1):
        at = NOW - timedelta(seconds=seconds)
        world.missed_calls[number] = MissedCall(number, ANN, given.get("mobile", MOBILE), at, NOW)
    return world


def used(world: World) -> dict[int, int | None]:
    """Which calls were used, and by which transaction."""
    return {number: one.used_by for number, one in world.missed_calls.items()}


def from_number(number: str) -> Identifier:
    """The mobile number as an identifier."""
    return Identifier(IdentifierType.MOBILE, number)


class TestRecording:
    """A call is recorded for the customer whose registered mobile it came from."""

    @pytest.mark.parametrize("called_at", [None, NOW - timedelta(hours=1)])
    def test_recorded(self, called_at: datetime | None) -> None:
        """The call is Ann's; without a time it came just now."""
        world = metals()

        result = world.accept(RecordMissedCall(from_number(MOBILE), called_at))

        assert MissedCallResult(ANN, called_at or NOW) == result
        assert [MissedCall(FIRST_ID + 1, ANN, MOBILE, called_at or NOW, NOW)] == list(world.missed_calls.values())

    def test_nobody(self) -> None:
        """A number that is nobody's is refused, and nothing is recorded."""
        world = metals()

        refused = world.refuse(RecordMissedCall(from_number("+919000000000")))

        assert (codes.CUSTOMER_NOT_FOUND, "mobile_number") == (refused.code, refused.field)
        assert {} == world.missed_calls

    def test_merged(self) -> None:
        """The number of an account that was merged away proves nothing."""
        world = metals()
        world.change_customer(ANN, merged_into=BEN)

        assert codes.MERGED_CUSTOMER is world.refuse(RecordMissedCall(from_number(MOBILE))).code


class TestProof:
    """A call proves one redemption inside the window."""

    @pytest.mark.parametrize("proof_required", [False, True])
    def test_proves(self, *, proof_required: bool) -> None:
        """A redemption is proved by a call, which is used up by its transaction, in the same commit."""
        world = called(10)
        world.change_redemption_policy(proof_required=proof_required)

        result = world.accept(redeem(10, missed_call=True))

        assert {1: result.transaction_id} == used(world)
        assert 1 == len(world.events(MissedCallUsed))

    def test_proves_an_authorisation(self) -> None:
        """An authorisation is proved by a call as well; its capture needs none."""
        world = called(10)
        world.change_redemption_policy(proof_required=True)

        result = world.accept(authorize(10, missed_call=True))

        assert {1: result.transaction_id} == used(world)

    def test_once(self) -> None:
        """A call proves one redemption, in one batch as in several."""
        world = called(10)

        outcomes = world.decide_batch([redeem(10, missed_call=True), authorize(10, missed_call=True)])
        later = world.decide(redeem(10, missed_call=True))

        assert [True, False, False] == [isinstance(one, Accepted) for one in (*outcomes, later)]
        assert isinstance(later, Refused)
        assert (codes.MISSED_CALL_NOT_FOUND, {"window_s": "300"}) == (later.code, later.metadata)

    def test_oldest_first(self) -> None:
        """Of several calls the oldest is used: it is the first to be of no use any more."""
        world = called(10, 200, 301)

        world.accept(redeem(10, missed_call=True))

        assert [2] == [number for number, by in used(world).items() if by is not None]

    @pytest.mark.parametrize(
        ("window_s", "ago_s", "found"),
        [(300, 300, True), (300, 300.000001, False), (30, 31, False), (86_400, 86_400, True)],
    )
    def test_window(self, window_s: int, ago_s: float, *, found: bool) -> None:
        """A call proves through the last instant of the policy's window."""
        world = called(ago_s)
        world.change_redemption_policy(missed_call_window_s=window_s)

        assert found == isinstance(world.decide(redeem(10, missed_call=True)), Accepted)

    def test_of_another_number(self) -> None:
        """A call from a number that is not the customer's any more proves nothing."""
        world = called(10, mobile="+919000000000")

        assert codes.MISSED_CALL_NOT_FOUND is world.refuse(redeem(10, missed_call=True)).code

    def test_of_another_customer(self) -> None:
        """A call proves nothing for somebody else."""
        world = called(10)
        world.give(2, 100, customer_id=BEN)

        assert codes.MISSED_CALL_NOT_FOUND is world.refuse(redeem(10, BEN, missed_call=True)).code

    def test_refused_redemption_uses_none(self) -> None:
        """A redemption that is refused leaves the call."""
        world = called(10)

        world.refuse(redeem(1_000, missed_call=True))

        assert {1: None} == used(world)

    def test_redemption_without_proof_uses_none(self) -> None:
        """A redemption that does not ask for it leaves the call."""
        world = called(10)

        world.accept(redeem(10))

        assert {1: None} == used(world)

    def test_check_asks_for_no_call(self) -> None:
        """A check is the decision without the proof."""
        world = called()

        assert isinstance(world.decide(CheckRedemption(redeem(10, missed_call=True))), Accepted)

    def test_recorded_in_the_same_batch(self) -> None:
        """A call that is recorded in a batch proves what comes after it in the same batch."""
        world = called()

        outcomes = world.decide_batch([RecordMissedCall(from_number(MOBILE)), redeem(10, missed_call=True)])

        assert [True, True] == [isinstance(one, Accepted) for one in outcomes]
