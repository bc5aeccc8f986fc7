"""What several commands of the reference model share: guards that stand in more than one order of rules, and codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reference_state import (
    DAY,
    MOBILE,
    SECOND,
    Counted,
    Draw,
    Drawn,
    Person,
    Program,
    Refusal,
    Secret,
    State,
    Time,
    contradictions,
)

from points_grpc.v1.program_service_pb2 import Policy

Answer = dict[str, Any]
Wallets = list[tuple[int, int]]

POINTS_MAX = 10**12
EXCEEDS_CURRENT = "818 FAILED_PRECONDITION POINTS_EXCEED_CURRENT"
CHANNELS = {"MOBILE": MOBILE, "EMAIL": 4}


class Guards(State):
    """The state, with guards and one-time codes."""

    def _runs(self, code: str, *programs: Program | None) -> None:
        if self.paused:
            raise Refusal(code, cause="ORGANISATION_PAUSED")
        if any(program is not None and program.paused for program in programs):
            raise Refusal(code, cause="PROGRAM_PAUSED")

    def _pooled(self, program: Program | None, *, pooled: bool) -> list[Program | None]:
        if program is None:
            return []
        return [program, *(self.programs[one] for one in self.pool(program, pooled=pooled))]

    def _is_sound(self, program: Program) -> None:
        if fields := contradictions(program.policy):
            raise Refusal("899 FAILED_PRECONDITION PROGRAM_CONFIGURATION_INVALID", fields=",".join(fields))

    def _parses(self, code: str = "888 FAILED_PRECONDITION ORG_CONFIGURATION_INVALID") -> None:
        if key := self.invalid_key():
            raise Refusal(code, key=key)

    def _is_not_merged(self, *people: Person) -> None:
        for person in people:
            if person.merged_into is not None:
                raise Refusal(
                    "419 FAILED_PRECONDITION MERGED_CUSTOMER",
                    customer_id=person.customer_id,
                    survivor_id=person.merged_into,
                )

    def _member(self, program: Program, person: Person | None) -> Person:
        """816, 419, 881."""
        if person is None:
            raise Refusal("816 NOT_FOUND CUSTOMER_NOT_IN_ORGANIZATION", party="CUSTOMER")
        self._is_not_merged(person)
        if program.program_id not in person.enrolled:
            raise Refusal("881 FAILED_PRECONDITION CUSTOMER_NOT_ENROLLED", program_id=program.program_id)
        return person

    def _active(self, program_id: int) -> Program:
        program = self.program(program_id)
        if program is None:
            raise Refusal("895 FAILED_PRECONDITION PROGRAM_NOT_CONFIGURED")
        return program

    def _anyone(self, identifier: Any, party: str = "CUSTOMER") -> Person:
        person = self.person(identifier)
        if person is None:
            raise Refusal("8015 NOT_FOUND CUSTOMER_NOT_FOUND", party=party)
        return person

    def _conditions(self, policy: Policy, wallets: Wallets) -> list[tuple[str, str, int, int]]:
        redemption = policy.redemption
        people = [(self.people[customer_id], program_id) for customer_id, program_id in wallets]
        lifetime = sum(person.earned.get(one, 0) for person, one in people)
        if redemption.lifetime_includes_received:
            lifetime += sum(person.received.get(one, 0) for person, one in people)
        purchases = sum(person.purchases.get(one, 0) for person, one in people)
        return [
            ("REQUIRED_BALANCE", "current", self.sums(wallets)["current"], redemption.required_balance),
            ("REQUIRED_LIFETIME_POINTS", "lifetime", lifetime, redemption.required_lifetime_points),
            ("REQUIRED_LIFETIME_PURCHASES", "purchases", purchases, redemption.required_lifetime_purchases),
        ]

    # -- one-time codes

    def _window(self, customer_id: int, action: str) -> Counted:
        """What was counted in the window that is running, which is as long as any program's; a fresh one if none is."""
        counted = self.counted.get((customer_id, action))
        length = max(one.policy.otp.window_s or 900 for one in self.programs.values()) * SECOND
        if counted is None or self.now >= max(counted.end, counted.start + length):
            return Counted(self.now, self.now + length)
        return replace(counted, end=max(counted.end, counted.start + length))

    def _issue(
        self, binding: Sequence[Any], points_max: int, person: Person, program: Program, drawn: Drawn
    ) -> Mapping[str, Any]:
        action, otp = binding[0], program.policy.otp
        key = (person.customer_id, action)
        counted, limit = self._window(*key), otp.issues_per_window or 5
        if counted.issues >= limit:
            raise Refusal(
                "10008 RESOURCE_EXHAUSTED OTP_ISSUE_LIMIT",
                limit=limit,
                used=counted.issues,
                resets_at=Time(counted.end),
            )
        channels = [one for one in otp.channels or ("MOBILE", "EMAIL") if CHANNELS[one] in person.identifiers]
        if not channels:
            raise Refusal("860 FAILED_PRECONDITION OTP_NOT_ISSUED", cause="NO_CHANNEL")
        counted.issues += 1
        self.counted[key] = counted
        for old in self.secrets.setdefault(key, []):
            old.alive = False
        expires = self.now + (otp.validity_s or 300) * SECOND
        code = Secret(drawn.code, tuple(binding), points_max, expires, otp.attempts or 5, program.program_id)
        self.secrets[key].append(code)
        if action == "transfer":
            self.due[person.customer_id, program.program_id] = self.now + DAY
        return {"channels": channels[:1], "expires_at": Time(expires), "attempts_left": code.attempts_left}

    def _prove(self, binding: Sequence[Any], points: int, digits: str, *, is_due: bool) -> None:
        """808: the binding before the digits, a wrong one counted."""
        action, customer_id, program_id = binding[0], binding[1], binding[2]
        issued = self.secrets.get((customer_id, action), [])
        live = next((one for one in issued if one.alive), None)

        def invalid(state: str, left: int) -> Refusal:
            return Refusal("808 FAILED_PRECONDITION INVALID_VALIDATION_CODE", otp_state=state, attempts_left=left)

        if not digits:
            if is_due:
                raise invalid("MISSING", live.attempts_left if live else 0)
            return
        if not issued:
            raise invalid("NOT_ISSUED", 0)
        if live is None:
            raise invalid("INVALID", 0)
        if live.binding != tuple(binding) or points > live.points_max:
            raise invalid("MISMATCH", live.attempts_left)
        if live.expires < self.now or not live.attempts_left:
            raise invalid("INVALID", 0)
        if digits != live.digits:
            live.attempts_left -= 1
            counted = self._window(customer_id, action)
            counted.wrong += 1
            self.counted[customer_id, action] = counted
            raise invalid("INVALID", live.attempts_left)
        live.alive = False
        if action == "transfer":
            self.due.pop((customer_id, program_id), None)


def wallets_of(draws: Sequence[Draw]) -> list[tuple[int, int]]:
    """The wallets drawn on."""
    return list(dict.fromkeys((lot.customer_id, lot.program_id) for lot, _ in draws))


def shares(draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """What is taken from each lot."""
    return [
        {
            "lot_id": lot.name,
            "earning_program_id": lot.earning,
            "points": points,
            "expires_at": time_or_none(lot.expires),
        }
        for lot, points in draws
    ]


def insufficient(points: int, have: Mapping[str, int]) -> Refusal:
    """813."""
    return Refusal(
        "813 FAILED_PRECONDITION INSUFFICIENT_REDEEMABLE_POINTS",
        points=points,
        redeemable=have["redeemable"],
        promised=have["promised"],
        held=have["held"],
    )


def time_or_none(micros: int | None) -> Time | None:
    """A time that may be unset."""
    return None if micros is None else Time(micros)
