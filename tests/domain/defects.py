"""How the order of rules is proved: tables of defects, each of which spoils an accepted world in one way.

A table lists its defects in the order in which the contract lists their codes. Two defects of one table must be
applicable together, or say that they exclude each other; then the earlier one is what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import timedelta
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from points_grpc.codes import Code
from points_grpc.domain.commands import Command
from points_grpc.domain.configuration import STATUS_MODULE
from points_grpc.domain.model import FraudStatus, OtpAction, OtpCounter, StatusLabel
from points_grpc.domain.outcome import Outcome, Refused
from worlds import ANN, NOW, World


@dataclass
class Scene:
    """A world and a command; the command is what the documented operation moves, not yet a check or a deed."""

    world: World
    command: Any


Spoil = Callable[[Scene], None]


@dataclass(frozen=True)
class Defect:
    """One thing wrong with a scene, and the refusal that it must bring.

    `only`: the operations that can meet it, if not all of the table's. `excludes`: defects that cannot stand beside it,
    by name. `ours`: the contract's list of the operation does not name the code.
    """

    name: str
    code: Code
    spoil: Spoil
    metadata: Mapping[str, str] = attribute(default_factory=dict)
    field: str = ""
    only: tuple[type[Any], ...] = ()
    excludes: frozenset[str] = frozenset()
    ours: bool = False

    def meets(self, operation: type[Any]) -> bool:
        """Whether the operation can meet the defect."""
        return not self.only or operation in self.only


def names(*given: str) -> frozenset[str]:
    """The names of defects."""
    return frozenset(given)


def cases(defects: Sequence[Defect], operations: Iterable[type[Any]]) -> list[tuple[type[Any], Defect]]:
    """Every defect with every operation that can meet it."""
    return [(operation, one) for operation in operations for one in defects if one.meets(operation)]


def pairs(defects: Sequence[Defect], operation: type[Any]) -> Iterator[tuple[Defect, Defect]]:
    """Every two defects that an operation can meet at once, the earlier one first."""
    met = [one for one in defects if one.meets(operation)]
    for index, earlier in enumerate(met):
        for later in met[index + 1 :]:
            if not excluded(earlier, later):
                yield earlier, later


def suffixes(defects: Sequence[Defect], operation: type[Any]) -> Iterator[list[Defect]]:
    """Every defect with all later ones that can stand beside it and each other."""
    met = [one for one in defects if one.meets(operation)]
    for index, first in enumerate(met):
        together = [first]
        for later in met[index + 1 :]:
            if not any(excluded(one, later) for one in together):
                together.append(later)
        yield together


def excluded(one: Defect, other: Defect) -> bool:
    """Whether two defects cannot stand in one world."""
    return other.name in one.excludes or one.name in other.excludes


def spoiled(scene: Scene, defects: Iterable[Defect], as_operation: Callable[[Any], Command]) -> Outcome:
    """What comes of the operation in a scene with defects."""
    for one in defects:
        one.spoil(scene)
    return scene.world.decide(as_operation(scene.command))


def told(outcome: Outcome) -> tuple[str, str | None, str | None]:
    """What tells refusals apart: the code, and the cause and party in its metadata."""
    assert isinstance(outcome, Refused), outcome
    return outcome.code.reason, outcome.metadata.get("cause"), outcome.metadata.get("party")


def expected(defect: Defect) -> tuple[str, str | None, str | None]:
    """What a defect must be told as."""
    return defect.code.reason, defect.metadata.get("cause"), defect.metadata.get("party")


def listed(contract: str) -> list[int]:
    """The numbers in a line of the contract's "Order of rules"."""
    return [int(number) for number in re.findall(r"\d+", contract)]


def in_order(defects: Iterable[Defect]) -> list[int]:
    """The numbers of a table's codes in its order, without repetition and without our own."""
    return [number for number, _ in groupby(one.code.number for one in defects if not one.ours)]


# -- ways to spoil a scene -------------------------------------------------------------------------------------------


def in_command(**given: Any) -> Spoil:
    """Spoils the command."""

    def spoil(at: Scene) -> None:
        at.command = replace(at.command, **given)

    return spoil


def in_world(change: Callable[[World], object]) -> Spoil:
    """Spoils the world."""
    return lambda at: (change(at.world), None)[1]


def in_config(key: str, text: str) -> Spoil:
    """Sets a configuration key."""
    return in_world(lambda one: one.config.update({key: text}))


def labelled(customer_id: int, label: StatusLabel) -> Spoil:
    """Gives a customer a status label, with the status module on."""

    def spoil(at: Scene) -> None:
        at.world.config[STATUS_MODULE] = "true"
        at.world.change_customer(customer_id, status_label=label)

    return spoil


def frauds(*customer_ids: int) -> Spoil:
    """Marks customers as frauds."""

    def spoil(at: Scene) -> None:
        for customer_id in customer_ids:
            at.world.change_customer(customer_id, fraud_status=FraudStatus.MARKED)

    return spoil


def counted(action: OtpAction, **given: int) -> Spoil:
    """Counts issues or wrong attempts of Ann's, from a minute ago on."""

    def spoil(at: Scene) -> None:
        key = (ANN, action)
        counter = at.world.otp_counters.get(
            key, OtpCounter(*key, NOW - timedelta(minutes=1), NOW + timedelta(minutes=14))
        )
        at.world.otp_counters[key] = replace(counter, **given)

    return spoil


def has_only(points: int, **given: Any) -> Spoil:
    """Leaves Ann one lot."""

    def spoil(at: Scene) -> None:
        at.world.take_all()
        at.world.give(3, points, **given)

    return spoil
