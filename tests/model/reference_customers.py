"""Everything around the documented operations in the reference model: issues, customers, merges, programs, keys."""

from __future__ import annotations

from calendar import monthrange
from datetime import timedelta
from typing import Any

from reference_guards import EXCEEDS_CURRENT, Answer, Guards, insufficient, shares, time_or_none
from reference_state import (
    MOBILE,
    Counted,
    Drawn,
    LotName,
    Person,
    Points,
    Program,
    ProgramGroup,
    Refusal,
    Time,
    categories_of,
    start_of,
)

from points_grpc.v1.customer_service_pb2 import Customer

FRAUD_GRAVITY = [Customer.NOT_FRAUD, Customer.MARKED, Customer.CONFIRMED, Customer.INTERNAL, Customer.RECONFIRMED]
LABEL_GRAVITY = [Customer.SUSPENDED, Customer.FRAUD_SUSPECTED, Customer.FRAUD_CONFIRMED]


class Customers(Guards):
    """Points that are issued or taken away, who has them, and what judges."""

    def IssuePoints(self, request: Any, drawn: Drawn) -> Answer:
        """Opens a lot."""
        program = self.program(request.program_id)
        self._runs("898 UNAVAILABLE PAUSED", program)
        program = self._active(request.program_id)
        if request.earning_program_id and request.earning_program_id not in self.programs:
            raise Refusal("895 FAILED_PRECONDITION PROGRAM_NOT_CONFIGURED")
        expires = self._expiry(request, program)
        promise = request.available_from.ToMicroseconds() if request.HasField("available_from") else None
        if promise is not None and expires is not None and promise > expires:
            raise Refusal("10004 INVALID_ARGUMENT FIELD_INVALID", field="available_from")
        self._is_sound(program)
        self._parses()
        category = request.category or next(iter(categories_of(program.policy)))
        if category not in categories_of(program.policy):
            raise Refusal("826 FAILED_PRECONDITION INVALID_POINTS_CATEGORY", cause="UNKNOWN_CATEGORY")
        person = self._member(program, self.person(request.customer_identifier))
        lot = Points(
            LotName(len(self.lots) + 1),
            person.customer_id,
            program.program_id,
            request.earning_program_id or program.program_id,
            request.source,
            category,
            request.points,
            request.points,
            self.now,
            promise,
            expires,
            None,
            "issue",
        )
        self.lots.append(lot)
        if request.transaction_number:
            self.bills.setdefault(request.transaction_number, (person.customer_id, False))
        warnings = []
        if self.expired(lot):
            warnings = [("877 POINTS_NOT_ALLOCATED", {"points": str(request.points)})]
        else:
            person.earned[program.program_id] = person.earned.get(program.program_id, 0) + request.points
        shown = {"lot_id": lot.name, "points": lot.points, "remaining": 0 if self.expired(lot) else lot.points}
        return {
            "lot": {**shown, "expires_at": time_or_none(expires), "awarded_at": Time(self.now)},
            "wallets": [self.wallet(person.customer_id, program.program_id)],
            "warnings": warnings,
        }

    def _expiry(self, request: Any, program: Program) -> int | None:
        today = self.today(program)
        match request.WhichOneof("expiry"):
            case "expires_at":
                return int(request.expires_at.ToMicroseconds())
            case "expires_in_days":
                return start_of(today + timedelta(days=request.expires_in_days + 1), program.zone) - 1
            case "expires_in_months":
                years, month = divmod(today.month - 1 + request.expires_in_months, 12)
                last = today.replace(year=today.year + years, month=month + 1, day=1)
                last += timedelta(days=monthrange(last.year, last.month)[1])
                return start_of(last, program.zone) - 1
            case _:
                return None

    def AdjustPoints(self, request: Any, drawn: Drawn) -> Answer:
        """Takes points away."""
        program = self.program(request.program_id)
        self._runs("898 UNAVAILABLE PAUSED", program)
        program = self._active(request.program_id)
        self._is_sound(program)
        self._parses()
        if request.category and request.category not in categories_of(program.policy):
            raise Refusal("826 FAILED_PRECONDITION INVALID_POINTS_CATEGORY", cause="UNKNOWN_CATEGORY")
        person = self._member(program, self.person(request.customer_identifier))
        wallets, categories = (
            [(person.customer_id, program.program_id)],
            [request.category] if request.category else None,
        )
        have, points = self.sums(wallets, categories), request.points
        if have["current"] < points:
            raise Refusal(EXCEEDS_CURRENT, points=points, current=have["current"], short_by=points - have["current"])
        if have["redeemable"] < points:
            raise insufficient(points, have)
        draws = self.draw(wallets, points, lambda lot: categories is None or lot.category in categories)
        breakup = self.breakup(draws)
        for lot, taken in draws:
            lot.remaining -= taken
        return {
            "points": points,
            "breakup_by_earning_programs": breakup,
            "lots": shares(draws),
            "wallets": [self.wallet(*wallets[0])],
            "warnings": [],
        }

    # -- customers

    def CreateCustomer(self, request: Any, drawn: Drawn) -> Answer:
        """Somebody new; the tests give ids that are free."""
        identifiers = {one.type: one.value for one in request.identifiers}
        enrolled = dict.fromkeys(request.enrolled_program_ids, self.now)
        person = Person(request.customer_id, identifiers, enrolled, request.campaign_contact)
        self.people[person.customer_id] = person
        return {}

    def EnrolCustomer(self, request: Any, drawn: Drawn) -> Answer:
        """A member from now on."""
        program = self._active(request.program_id)
        person = self._known(request)
        person.contact = False
        person.enrolled.setdefault(program.program_id, self.now)
        return {}

    def _known(self, request: Any) -> Person:
        person = self._anyone(request.customer_identifier)
        self._is_not_merged(person)
        return person

    def SetCustomerStatus(self, request: Any, drawn: Drawn) -> Answer:
        """Fraud status and label."""
        person = self._known(request)
        person.fraud_status = request.fraud_status or person.fraud_status
        person.label = request.status_label or person.label
        return {"customer": {"fraud_status": person.fraud_status, "status_label": person.label}}

    def SetTransferLock(self, request: Any, drawn: Drawn) -> Answer:
        """Locks or unlocks."""
        person = self._known(request)
        person.locked_until = request.locked_until.ToMicroseconds() if request.HasField("locked_until") else 0
        return {"customer": {"transfers_locked_until": time_or_none(person.locked_until or None)}}

    def RecordPurchase(self, request: Any, drawn: Drawn) -> Answer:
        """A bill, once."""
        program = self._active(request.program_id)
        person = self._known(request)
        if program.program_id not in person.enrolled:
            raise Refusal("881 FAILED_PRECONDITION CUSTOMER_NOT_ENROLLED", program_id=program.program_id)
        owner, recorded = self.bills.get(request.transaction_number, (person.customer_id, False))
        if recorded or person.customer_id not in self.line(owner):
            raise Refusal("10013 ALREADY_EXISTS RESOURCE_EXISTS")
        self.bills[request.transaction_number] = (person.customer_id, True)
        total = person.purchases.get(program.program_id, 0) + request.amount_minor_units
        person.purchases[program.program_id] = total
        return {"lifetime_purchases": total}

    def RecordMissedCall(self, request: Any, drawn: Drawn) -> Answer:
        """A call from a registered mobile."""
        owners = [one for one in self.people.values() if one.identifiers.get(MOBILE) == request.mobile_number]
        if not owners:
            raise Refusal("8015 NOT_FOUND CUSTOMER_NOT_FOUND", party="CUSTOMER")
        self._is_not_merged(owners[0])
        self.calls.append([owners[0].customer_id, self.now, False])
        return {"customer_id": owners[0].customer_id, "called_at": Time(self.now)}

    def MergeCustomers(self, request: Any, drawn: Drawn) -> Answer:
        """One becomes part of another."""
        self._runs("898 UNAVAILABLE PAUSED")
        victim = self._anyone(request.victim_customer_identifier, "VICTIM")
        survivor = self._anyone(request.survivor_customer_identifier, "SURVIVOR")
        self._is_not_merged(victim, survivor)
        if victim is survivor:
            raise Refusal("418 INVALID_ARGUMENT SAME_CUSTOMER")
        wallets = [(victim.customer_id, program_id) for program_id in sorted(self.programs)]
        if any(self.programs[one[1]].paused and self.sums([one])["current"] for one in wallets):
            raise Refusal("898 UNAVAILABLE PAUSED", cause="PROGRAM_PAUSED")
        have = self.sums(wallets)
        if have["held"]:
            raise insufficient(have["current"], have)
        moved = [lot for wallet in wallets for lot in self.live(*wallet)]
        for lot in moved:
            self.open_child(lot, (survivor.customer_id, lot.program_id), lot.remaining, "merge")
            lot.remaining = 0
        self._unite(victim, survivor)
        return {
            "victim_customer_id": victim.customer_id,
            "points_moved": have["current"],
            "lots_moved": len(moved),
            "wallets": [self.wallet(survivor.customer_id, program_id) for program_id in sorted(victim.enrolled)],
        }

    def _unite(self, victim: Person, survivor: Person) -> None:
        for program_id, since in victim.enrolled.items():
            survivor.enrolled[program_id] = min(since, survivor.enrolled.get(program_id, since))
        for mine, its in (
            (survivor.earned, victim.earned),
            (survivor.received, victim.received),
            (survivor.purchases, victim.purchases),
        ):
            for program_id, points in its.items():
                mine[program_id] = mine.get(program_id, 0) + points
        survivor.contact = survivor.contact and victim.contact
        survivor.fraud_status = max(survivor.fraud_status, victim.fraud_status, key=FRAUD_GRAVITY.index)
        survivor.locked_until = max(survivor.locked_until, victim.locked_until)
        own = LABEL_GRAVITY.index(survivor.label) if survivor.label in LABEL_GRAVITY else -1
        if victim.label in LABEL_GRAVITY[own + 1 :] and survivor.label != Customer.DELETED:
            survivor.label = victim.label
        self.moved = [
            (survivor.customer_id if one[0] == victim.customer_id else one[0], *one[1:]) for one in self.moved
        ]
        self._unite_codes(victim.customer_id, survivor.customer_id)
        victim.merged_into = survivor.customer_id

    def _unite_codes(self, victim_id: int, survivor_id: int) -> None:
        """Her codes die; those that are due stay due, and what counts against her counts against the survivor."""
        for (customer_id, _), kept in self.secrets.items():
            for secret in kept if customer_id == victim_id else ():
                secret.alive = False
        for (customer_id, program_id), until in list(self.due.items()):
            if customer_id == victim_id and until > self.now:
                self.due[survivor_id, program_id] = max(until, self.due.get((survivor_id, program_id), 0))
                dead = [one for one in self.secrets[victim_id, "transfer"] if one.program_id == program_id][-1:]
                self.secrets.setdefault((survivor_id, "transfer"), [])[:0] = dead
        for customer_id, action in list(self.counted):
            if customer_id != victim_id:
                continue
            both = [self._window(one, action) for one in (victim_id, survivor_id)]
            parts = [one for one in both if one.start < self.now or one.issues or one.wrong]
            if not (both[0].issues or both[0].wrong):
                continue
            self.counted[survivor_id, action] = Counted(
                min(one.start for one in parts),
                max(one.end for one in parts),
                sum(one.issues for one in parts),
                sum(one.wrong for one in parts),
            )

    # -- programs and configuration

    def CreateProgram(self, request: Any, drawn: Drawn) -> Answer:
        """A program; the first one is the default."""
        made = Program(
            request.program_id, request.name, request.decimal_places, request.time_zone or "UTC", request.policy
        )
        self.programs[made.program_id] = made
        self.default_program = self.default_program or made.program_id
        return {}

    def CreateProgramGroup(self, request: Any, drawn: Drawn) -> Answer:
        """Programs across which points are pooled."""
        made = ProgramGroup(tuple(request.program_ids), request.default_program_id)
        for program_id in made.program_ids:
            self.programs[program_id].group = made
        return {}

    def SetPolicy(self, request: Any, drawn: Drawn) -> Answer:
        """A new policy from now on."""
        self._active(request.program_id).policy = request.policy
        return {}

    def SetConfigKey(self, request: Any, drawn: Drawn) -> Answer:
        """Raw text, judged at use."""
        self.config.pop(request.key, None)
        if request.HasField("value"):
            self.config[request.key] = request.value
        return {}

    def SetPause(self, request: Any, drawn: Drawn) -> Answer:
        """Pauses or resumes."""
        if request.program_id:
            self._active(request.program_id).paused = request.paused
        else:
            self.paused = request.paused
        return {}
