"""The guards with which redemptions, issues and adjustments begin: pause, program, policy, configuration, customer.

Each is one condition and one refusal. Their order is that of the `judge` which lists them; nothing here knows it.
Transfers answer from a table of their own, and have guards of their own.
"""

from __future__ import annotations

from typing import Protocol

from points_grpc import codes
from points_grpc.domain.configuration import first_invalid
from points_grpc.domain.model import Customer, OrgConfig, Program
from points_grpc.domain.outcome import Refused
from points_grpc.domain.snapshot import Snapshot


class Configured(Protocol):
    """What is judged under an organisation's configuration: a case, or all that a batch sees."""

    config: OrgConfig


class Case(Configured, Protocol):
    """What these guards ask of a case. None: there is no such thing."""

    snapshot: Snapshot
    program: Program | None
    customer: Customer | None

    @property
    def ruling(self) -> Program:
        """The program; known once `program_is_known` has passed."""
        ...

    @property
    def owner(self) -> Customer:
        """The customer; known once `customer_is_known` has passed."""
        ...


def operations_run(case: Case) -> Refused | None:
    """898: an operator paused the organisation or the program."""
    if case.snapshot.book.paused:
        return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"})
    if case.program is not None and case.program.paused:
        return Refused(codes.PAUSED, {"cause": "PROGRAM_PAUSED"})
    return None


def program_is_known(case: Case) -> Refused | None:
    """895: no active program, or the program named is unknown."""
    if case.program is None or not case.program.active:
        return Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id")
    return None


def policy_is_sound(case: Case) -> Refused | None:
    """899: the policy contradicts itself."""
    if fields := case.ruling.policy.contradictions:
        return Refused(codes.PROGRAM_CONFIGURATION_INVALID, {"fields": ",".join(fields)})
    return None


def configuration_parses(case: Configured) -> Refused | None:
    """815: the configuration could not be read. 888: a configuration key does not parse."""
    if not case.config.available:
        return Refused(codes.STORAGE_UNAVAILABLE)
    if key := first_invalid(case.config):
        return Refused(codes.ORG_CONFIGURATION_INVALID, {"key": key})
    return None


def customer_is_known(case: Case) -> Refused | None:
    """816: no such customer in the organisation."""
    if case.customer is None:
        return Refused(codes.CUSTOMER_NOT_IN_ORGANIZATION, {"party": "CUSTOMER"}, field="customer_identifier.value")
    return None


def customer_is_not_merged_away(case: Case) -> Refused | None:
    """419: the identifier names an account that was merged away."""
    if case.owner.merged_into is None:
        return None
    return Refused(
        codes.MERGED_CUSTOMER,
        {"customer_id": str(case.owner.customer_id), "survivor_id": str(case.owner.merged_into)},
    )
