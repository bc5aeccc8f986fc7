"""Duty: one process of all has it; who has it proves it again and again, and stops to believe in it in time."""

from __future__ import annotations

from points_grpc.service.duty import PROOF_S, AlwaysOnDuty, Duty
from points_grpc.service.ports import StorageUnavailable


class Store:
    """A claim whose answers a test says."""

    def __init__(self) -> None:
        self.answer: bool | Exception = True
        self.released = 0

    def hold(self) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def release(self) -> None:
        self.released += 1


class World:
    """Duty with a clock that the test moves, and what it reported."""

    def __init__(self) -> None:
        self.store = Store()
        self.now = 100.0
        self.told: list[str] = []
        self.duty = Duty(self.store, observer=self, monotonic=lambda: self.now)

    def taken(self) -> None:
        self.told.append("taken")

    def lost(self, error: str) -> None:
        self.told.append(f"lost {error}".strip())


def test_nobody_is_on_duty_before_the_claim_was_taken() -> None:
    """Nothing is sent or swept until the store said so."""
    world = World()
    before = world.duty.held()
    world.duty.renew()

    assert (False, True) == (before, world.duty.held())
    assert ["taken"] == world.told


def test_a_proof_is_believed_for_some_seconds_only() -> None:
    """A process that stood still does not go on where it was, until it has asked again."""
    world = World()
    world.duty.renew()
    world.now += PROOF_S
    late = world.duty.held()
    world.duty.renew()

    assert (False, True) == (late, world.duty.held())
    assert ["taken"] == world.told


def test_a_proof_counts_from_when_it_was_asked_for() -> None:
    """The answer may have been on its way for long."""
    world = World()
    hold = world.store.hold

    def slowly() -> bool:
        world.now += PROOF_S
        return hold()

    world.store.hold = slowly  # type: ignore[method-assign]
    world.duty.renew()

    assert not world.duty.held()


def test_duty_is_lost_to_another_or_with_the_store() -> None:
    """It is reported once, with the kind of error where there was one, and can be taken again."""
    world = World()
    for answer in (True, StorageUnavailable("gone"), StorageUnavailable("gone"), True, False, False, True):
        world.store.answer = answer
        world.duty.renew()

    assert ["taken", "lost StorageUnavailable", "taken", "lost", "taken"] == world.told


def test_the_end_gives_duty_back() -> None:
    """At once, so that another process need not wait."""
    world = World()
    world.duty.start()
    world.duty.stop(5)

    assert (False, 1) == (world.duty.held(), world.store.released)


def test_a_server_alone_is_always_on_duty() -> None:
    """SQLite has one server for each file."""
    duty = AlwaysOnDuty()
    duty.start()

    assert duty.held()

    duty.stop(5)
