"""Programs, groups, policies, configuration keys and pauses: how what judges operations is changed, with its trace."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.commands import (
    AcknowledgeMessages,
    CreateProgram,
    CreateProgramGroup,
    EraseCustomer,
    MessageResult,
    SetConfigKey,
    SetPause,
    SetPolicy,
    SetProgramActive,
)
from points_grpc.domain.decide import EXCLUSIVE, OPERATIONS
from points_grpc.domain.events import (
    Audited,
    ConfigKeySet,
    GroupSaved,
    MessageSettled,
    OrgPaused,
    PolicySaved,
    ProgramSaved,
)
from points_grpc.domain.model import ProgramGroup
from points_grpc.domain.outcome import Accepted, DoneResult, GroupResult, PolicyResult, ProgramResult, Refused
from points_grpc.domain.policy import Policy, RedemptionPolicy
from points_grpc.domain.programs import CONFIG_KEYS_MAX, PROGRAMS_MAX
from worlds import BRONZE, FIRST_ID, GOLD, METALS, NOW, SILVER, World, metals, policy, program

IRON, TIN = 4, 5


def creation(**given: Any) -> CreateProgram:
    """Creates iron."""
    fields: dict[str, Any] = {
        "program_id": IRON,
        "name": "Iron",
        "default": False,
        "decimal_places": 2,
        "time_zone": "Asia/Kolkata",
        "policy": replace(policy(), revision=9),
    }
    return CreateProgram(**fields | given)


def group(**given: Any) -> CreateProgramGroup:
    """Groups bronze and tin, with bronze the default."""
    fields: dict[str, Any] = {
        "group_id": 8,
        "name": "Others",
        "program_ids": (TIN, BRONZE),
        "default_program_id": BRONZE,
    }
    return CreateProgramGroup(**fields | given)


def ungrouped() -> World:
    """Gold and silver in a group; bronze and tin in none."""
    world = metals()
    world.programs[TIN] = program(TIN)
    return world


def described(refused: Refused) -> str:
    """What the one field that is wrong should be."""
    [error] = refused.errors
    assert (refused.code, refused.field, refused.metadata) == (error.code, error.field, error.metadata)
    return error.description


def without_trace(world: World) -> list[Any]:
    """The events of the last batch but for the audit log."""
    return [event for event in world.changes.events if not isinstance(event, Audited)]


class TestProgram:
    """How a program comes into being."""

    def test_created(self) -> None:
        """It is active, in no group, and its policy is the first revision, whatever the request says."""
        world = metals()

        outcome = world.decide(creation())

        iron = program(
            IRON, name="Iron", decimal_places=2, time_zone="Asia/Kolkata", policy=replace(policy(), revision=1)
        )
        assert Accepted(ProgramResult(iron, False)) == outcome
        assert [
            ProgramSaved(iron, default=False),
            PolicySaved(IRON, iron.policy, NOW, "till-1", ""),
        ] == without_trace(world)

    def test_audited(self) -> None:
        """The audit log has JSON, as of every change: there was nothing before."""
        world = metals()

        world.accept(creation())

        [audited] = world.events(Audited)
        assert (f"program/{IRON}", None, {"name": "Iron"}) == (
            audited.subject,
            json.loads(audited.before),
            json.loads(audited.after),
        )

    def test_id(self) -> None:
        """Without an id the server chooses one."""
        assert FIRST_ID + 1 == metals().accept(creation(program_id=0)).program.program_id

    @pytest.mark.parametrize(
        ("has_default", "asked", "wanted"), [(True, False, False), (True, True, True), (False, False, True)]
    )
    def test_default(self, has_default: bool, asked: bool, wanted: bool) -> None:
        """It is the default one if asked, or if there is none yet."""
        world = metals()
        world.default_program_id = GOLD if has_default else None

        assert wanted == world.accept(creation(default=asked)).default

    def test_taken(self) -> None:
        """An id that is taken is refused."""
        refused = metals().refuse(creation(program_id=GOLD))

        assert (codes.RESOURCE_EXISTS, {"resource": "program"}, "program_id") == (
            refused.code,
            refused.metadata,
            refused.field,
        )

    def test_too_many(self) -> None:
        """An organisation has so many programs and no more."""
        world = metals()
        world.programs |= {number: program(number) for number in range(100, 97 + PROGRAMS_MAX)}

        refused = world.refuse(creation())

        assert (codes.FIELD_INVALID, {"field": "program_id"}) == (refused.code, refused.metadata)
        assert "no other one: the organisation has 1000 programs, which is the most" == described(refused)
        del world.programs[100]
        assert isinstance(world.decide(creation()), Accepted)


class TestGroup:
    """How programs are grouped."""

    def test_created(self) -> None:
        """The programs join the group; their ids are kept in order."""
        world = ungrouped()

        outcome = world.decide(group())

        assert Accepted(GroupResult(8)) == outcome
        assert [
            GroupSaved(ProgramGroup(8, "Others", BRONZE, (BRONZE, TIN))),
            ProgramSaved(replace(world.programs[TIN], group_id=8), default=False),
            ProgramSaved(replace(world.programs[BRONZE], group_id=8), default=False),
        ] == without_trace(world)

    def test_default_program_stays_default(self) -> None:
        """The organisation's default program stays it."""
        world = ungrouped()
        world.default_program_id = TIN

        world.accept(group(group_id=0))

        assert {BRONZE: False, TIN: True} == {one.program.program_id: one.default for one in world.events(ProgramSaved)}

    @pytest.mark.parametrize(
        ("given", "code", "field"),
        [
            ({"group_id": METALS}, codes.RESOURCE_EXISTS, "program_group_id"),
            ({"program_ids": (BRONZE, 77)}, codes.PROGRAM_NOT_CONFIGURED, "program_ids"),
            ({"program_ids": (BRONZE, SILVER)}, codes.FIELD_INVALID, "program_ids"),
            ({"default_program_id": GOLD}, codes.FIELD_INVALID, "default_program_id"),
        ],
    )
    def test_refused(self, given: dict[str, Any], code: codes.Code, field: str) -> None:
        """Taken ids, unknown and grouped programs, and a default from outside are refused."""
        refused = ungrouped().refuse(group(**given))

        assert (code, field) == (refused.code, refused.field)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"program_ids": (BRONZE, SILVER)}, "programs that are in no group yet; in one already: 1 of 2"),
            ({"program_ids": (GOLD, BRONZE, SILVER)}, "programs that are in no group yet; in one already: 2 of 3"),
            ({"default_program_id": GOLD}, "one of program_ids"),
        ],
    )
    def test_says_what_is_wrong(self, given: dict[str, Any], expected: str) -> None:
        """What is wrong with a field is told, with its numbers."""
        assert expected == described(ungrouped().refuse(group(**given)))

    def test_decimal_places(self) -> None:
        """The programs of a group read their points alike."""
        world = ungrouped()
        world.change_program(TIN, decimal_places=2)

        refused = world.refuse(group())

        assert (codes.FIELD_INVALID, "program_ids") == (refused.code, refused.field)
        assert "programs with the same decimal places: these have 0 and 2" == described(refused)


class TestPolicy:
    """How a policy comes into force."""

    @pytest.mark.parametrize("expected_revision", [0, 3])
    def test_set(self, expected_revision: int) -> None:
        """A new policy is the next revision, from now on, with who set it and why; before and after are kept."""
        world = metals()
        new = Policy(revision=77, redemption=RedemptionPolicy(minimum_points=10))

        outcome = world.decide(SetPolicy(0, new, expected_revision, "a campaign"))

        in_force = replace(new, revision=4)
        assert Accepted(PolicyResult(in_force, NOW)) == outcome
        assert [PolicySaved(GOLD, in_force, NOW, "till-1", "a campaign")] == without_trace(world)
        [audited] = world.events(Audited)
        assert ("SetPolicy", "program/1/policy", "a campaign") == (audited.action, audited.subject, audited.reason)
        assert [(3, 0), (4, 10)] == [
            (text["revision"], text["redemption"]["minimum_points"])
            for text in (json.loads(audited.before), json.loads(audited.after))
        ]

    def test_stale(self) -> None:
        """A policy made from another revision than the one in force is refused with that one's number."""
        refused = metals().refuse(SetPolicy(GOLD, policy(), 2, "late"))

        assert (codes.REVISION_CONFLICT, {"current_revision": "3"}, "expected_revision") == (
            refused.code,
            refused.metadata,
            refused.field,
        )

    def test_unknown_program(self) -> None:
        """There is no policy without a program."""
        assert codes.PROGRAM_NOT_CONFIGURED is metals().refuse(SetPolicy(77, policy(), 0, "why")).code

    def test_contradictions_are_judged_at_use(self) -> None:
        """A policy that contradicts itself comes into force."""
        new = policy(RedemptionPolicy(minimum_points=10, maximum_points=5))

        assert isinstance(metals().decide(SetPolicy(GOLD, new, 0, "why")), Accepted)


class TestSwitches:
    """Configuration keys and pauses."""

    @pytest.mark.parametrize(("before", "value"), [(None, "nonsense"), ("true", "false"), ("true", None)])
    def test_key(self, before: str | None, value: str | None) -> None:
        """A key is set to a raw text, or removed; the text is judged at use."""
        world = metals()
        if before:
            world.config["KEY"] = before

        outcome = world.decide(SetConfigKey("KEY", value, "why"))

        assert Accepted(DoneResult()) == outcome
        assert [ConfigKeySet("KEY", value)] == without_trace(world)
        [audited] = world.events(Audited)
        assert ("config/KEY", before, value) == (
            audited.subject,
            json.loads(audited.before),
            json.loads(audited.after),
        )

    def test_too_many_keys(self) -> None:
        """An organisation has so many keys and no more; what is there can be changed, and removed to make room."""
        world = metals()
        world.config = {f"KEY_{number}": "1" for number in range(CONFIG_KEYS_MAX)}

        refused = world.refuse(SetConfigKey("ANOTHER", "1", "why"))

        assert (codes.FIELD_INVALID, {"field": "key"}) == (refused.code, refused.metadata)
        assert "no other one: the organisation has 1000 configuration keys, which is the most" == described(refused)
        assert isinstance(world.decide(SetConfigKey("KEY_0", "2", "why")), Accepted)
        assert isinstance(world.decide(SetConfigKey("KEY_0", None, "why")), Accepted)
        del world.config["KEY_0"]
        assert isinstance(world.decide(SetConfigKey("ANOTHER", "1", "why")), Accepted)

    def test_pause_of_the_organisation(self) -> None:
        """Without a program the organisation is paused."""
        world = metals()

        world.accept(SetPause(0, True, "audit"))

        assert [OrgPaused(True)] == without_trace(world)
        [audited] = world.events(Audited)
        assert ("org", "false", "true", "audit") == (audited.subject, audited.before, audited.after, audited.reason)

    @pytest.mark.parametrize(("program_id", "default"), [(GOLD, True), (SILVER, False)])
    def test_pause_of_a_program(self, program_id: int, default: bool) -> None:
        """A program is paused and resumed; whether it is the default one stays."""
        world = metals()

        world.accept(SetPause(program_id, True, "audit"))

        assert [ProgramSaved(replace(world.programs[program_id], paused=True), default=default)] == without_trace(world)

    def test_pause_of_an_unknown_program(self) -> None:
        """What is not there cannot be paused."""
        refused = metals().refuse(SetPause(77, True, "why"))

        assert (codes.PROGRAM_NOT_CONFIGURED, "program_id") == (refused.code, refused.field)

    @pytest.mark.parametrize(("named", "program_id", "default"), [(0, GOLD, True), (SILVER, SILVER, False)])
    def test_end_of_a_program(self, named: int, program_id: int, default: bool) -> None:
        """A program is ended, and whether it is the default one stays; the audit log says who and why."""
        world = metals()

        result = world.accept(SetProgramActive(named, False, "audit"))

        ended = replace(world.programs[program_id], active=False)
        assert [ProgramSaved(ended, default=default)] == without_trace(world)
        assert ProgramResult(ended, default) == result
        [audited] = world.events(Audited)
        assert (f"program/{program_id}", "true", "false", "audit") == (
            audited.subject,
            audited.before,
            audited.after,
            audited.reason,
        )

    def test_end_of_an_unknown_program(self) -> None:
        """What is not there cannot be ended."""
        refused = metals().refuse(SetProgramActive(77, False, "why"))

        assert (codes.PROGRAM_NOT_CONFIGURED, "program_id") == (refused.code, refused.field)


class TestDispatch:
    """The table of operations."""

    def test_exclusive(self) -> None:
        """Whatever changes what others are judged by runs alone."""
        of_the_book = {CreateProgram, CreateProgramGroup, SetPolicy, SetConfigKey, SetPause, SetProgramActive}

        assert {*of_the_book, EraseCustomer} == set(EXCLUSIVE)
        assert set(EXCLUSIVE) <= OPERATIONS.keys()

    def test_acknowledgement(self) -> None:
        """What the dispatcher did with messages is booked as told."""
        world = metals()
        retry_at = NOW + timedelta(minutes=1)

        world.accept(
            AcknowledgeMessages((MessageResult(1, 11, True, "", None), MessageResult(2, 12, False, "busy", retry_at)))
        )

        assert [MessageSettled(1, 11, True, "", None), MessageSettled(2, 12, False, "busy", retry_at)] == (
            world.changes.events
        )
