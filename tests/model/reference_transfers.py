"""Transfers in the reference model: check, code, deed, and taking back."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from reference_guards import Answer, Guards
from reference_state import (
    FRAUD_CHECK,
    SECOND,
    Draw,
    Drawn,
    Person,
    Points,
    Program,
    Refusal,
    Sent,
    State,
    Time,
    barred_sources,
    contradictions,
    is_enabled,
    multiple_of,
    requirement_of,
    start_of,
)

from points_grpc.v1.points_service_pb2 import ReverseTransferRequest
from points_grpc.v1.program_service_pb2 import OtpPolicy, VelocityLimit

WINDOW_DAYS = {VelocityLimit.TODAY: 1, VelocityLimit.LAST_7_DAYS: 7, VelocityLimit.LAST_30_DAYS: 30}
NOT_ELIGIBLE = "901 FAILED_PRECONDITION TRANSFER_CUSTOMER_NOT_ELIGIBLE"


class Transfers(Guards):
    """Points from one customer to another."""

    def _judge_transfer(self, request: Any) -> TransferCase:
        program = self.program(request.program_id)
        self._runs(
            "898 UNAVAILABLE TRANSFER_UNAVAILABLE", *self._pooled(program, pooled=request.group_program_transfer)
        )
        if program is None:
            raise Refusal("885 INVALID_ARGUMENT TRANSFER_INVALID_PROGRAM_ID", program_id=request.program_id)
        policy = program.policy
        if fields := contradictions(policy):
            raise Refusal("899 FAILED_PRECONDITION TRANSFER_PROGRAM_MISCONFIGURED", fields=",".join(fields))
        self._parses("888 FAILED_PRECONDITION TRANSFER_CONFIGURATION_INVALID")
        if not self.is_on("ALLOW_POINTS_TRANSFER"):
            raise Refusal("818 FAILED_PRECONDITION TRANSFER_NOT_ALLOWED_FOR_PROGRAM", cause="ORGANISATION")
        if not is_enabled(policy.transfer):
            raise Refusal("818 FAILED_PRECONDITION TRANSFER_NOT_ALLOWED_FOR_PROGRAM", cause="PROGRAM")
        if request.group_program_transfer:
            self._check_pooling(program)
        source, destination = self._parties(request)
        case = TransferCase(self, request, program, source, destination)
        self._check_eligible(case)
        self._check_fraud(source, destination)
        self._check_lock(source, policy.otp)
        self._check_amount(case)
        self._check_past(case)
        self._check_transferable(case)
        return case

    def _check_pooling(self, program: Program) -> None:
        if program.group is None:
            raise Refusal("3316 FAILED_PRECONDITION GROUP_TRANSFER_FOR_NON_GROUP", cause="NO_GROUP")
        if not self.is_on("ENABLE_GROUP_PROGRAMS_REDEMPTION"):
            raise Refusal("3316 FAILED_PRECONDITION GROUP_TRANSFER_FOR_NON_GROUP", cause="POOLING_OFF")

    def _check_eligible(self, case: TransferCase) -> None:
        if not case.wallets:
            raise Refusal(NOT_ELIGIBLE, party="SOURCE", cause="NOT_ENROLLED")
        if case.credited[1] not in case.destination.enrolled:
            raise Refusal(NOT_ELIGIBLE, party="DESTINATION", cause="NOT_ENROLLED")
        for party, person in (("SOURCE", case.source), ("DESTINATION", case.destination)):
            if self.is_barred(person):
                raise Refusal(NOT_ELIGIBLE, party=party, cause="STATUS_LABEL")

    def _parties(self, request: Any) -> tuple[Person, Person]:
        source, destination = (
            self.person(request.from_customer_identifier),
            self.person(request.to_customer_identifier),
        )
        if source is None:
            raise Refusal("8015 NOT_FOUND TRANSFER_CUSTOMER_NOT_FOUND", party="SOURCE")
        if destination is None:
            raise Refusal("8015 NOT_FOUND TRANSFER_CUSTOMER_NOT_FOUND", party="DESTINATION")
        self._is_not_merged(source, destination)
        if source is destination:
            raise Refusal("418 INVALID_ARGUMENT SAME_CUSTOMER")
        return source, destination

    def _check_fraud(self, source: Person, destination: Person) -> None:
        check = self.text(FRAUD_CHECK)
        if check not in {"true", "false"}:
            value = "UNSET" if check is None else "INVALID"
            raise Refusal("412 FAILED_PRECONDITION FRAUD_CHECK_CONFIG_INVALID", key=FRAUD_CHECK, value=value)
        frauds = (self.is_fraud(source), self.is_fraud(destination)) if check == "true" else (False, False)
        if all(frauds):
            raise Refusal("417 FAILED_PRECONDITION FRAUD_CUSTOMER_EXISTS")
        if frauds[1]:
            raise Refusal("414 FAILED_PRECONDITION DESTINATION_CUSTOMER_FRAUD")
        if frauds[0]:
            raise Refusal("415 FAILED_PRECONDITION SOURCE_CUSTOMER_FRAUD")

    def _check_lock(self, source: Person, otp: OtpPolicy) -> None:
        locked = "904 FAILED_PRECONDITION TRANSFER_LOCKED"
        if source.locked_until > self.now:
            raise Refusal(locked, locked_until=Time(source.locked_until), cause="OPERATOR")
        counted = self._window(source.customer_id, "transfer")
        if counted.wrong >= (otp.attempts_per_window or 15):
            raise Refusal(locked, locked_until=Time(counted.end), cause="WRONG_CODES")

    def _check_amount(self, case: TransferCase) -> None:
        points, policy = case.points, case.program.policy
        for multiple in (10**case.program.decimal_places, multiple_of(policy)):
            if points % multiple:
                raise Refusal("807 FAILED_PRECONDITION TRANSFER_POINTS_NOT_DIVISIBLE", points=points, multiple=multiple)
        if not policy.transfer.redemption_conditions:
            return
        for name, _, actual, required in self._conditions(policy, case.wallets):
            if actual < required:
                raise Refusal(
                    "827 FAILED_PRECONDITION TRANSFER_CONDITIONS_NOT_MET", cause=name, actual=actual, required=required
                )

    def _check_past(self, case: TransferCase) -> None:
        """902, 903."""
        ids = (case.source.customer_id, case.destination.customer_id, case.program.program_id, case.points)
        window = case.program.policy.transfer.duplicate_window_s * SECOND
        for sent in self.transfers:
            equal = (sent.source_id, sent.destination_id, sent.program_id, sent.points) == ids
            if equal and self.now < sent.at + window:
                raise Refusal("902 ALREADY_EXISTS TRANSFER_DUPLICATE_REQUEST", cause="DUPLICATE_WINDOW")
        passed = [
            found
            for limit in case.program.policy.transfer.velocity_limits
            for maximum, is_count in ((limit.points_max, False), (limit.transfers_max, True))
            if maximum and (found := self._passed(case, limit, maximum, is_count=is_count))
        ]
        if passed:
            told, days = passed[0][0], [day for _, day in passed]
            if None not in days:
                last = max(day for day in days if day is not None)
                told = {**told, "resets_at": Time(start_of(last, case.program.zone))}
            raise Refusal("903 RESOURCE_EXHAUSTED TRANSFER_LIMIT_EXCEEDED", **told)

    def _passed(
        self, case: TransferCase, limit: VelocityLimit, maximum: int, *, is_count: bool
    ) -> tuple[dict[str, Any], date | None] | None:
        """A limit that would be passed: what is told of it, and the day on which it would not, None for never."""
        direction = VelocityLimit.Direction.Name(limit.direction)
        person = case.source if direction == "OUT" else case.destination
        today, days = self.today(case.program), WINDOW_DAYS[limit.window]
        key = (person.customer_id, case.program.program_id, direction)
        inside = [
            (day, 1 if is_count else points)
            for *moved, day, points in self.moved
            if tuple(moved) == key and day > today - timedelta(days=days)
        ]
        used, more = sum(one for _, one in inside), 1 if is_count else case.points
        if used + more <= maximum:
            return None
        window = VelocityLimit.Window.Name(limit.window)
        told = {"limit": maximum, "used": used, "window": window, "direction": direction}
        if more > maximum:
            return told, None
        resets = today + timedelta(days=1)
        for ahead in range(1, days + 1):
            resets = today + timedelta(days=ahead)
            if sum(one for day, one in inside if day > resets - timedelta(days=days)) + more <= maximum:
                break
        return told, resets

    def _check_transferable(self, case: TransferCase) -> None:
        """817, 416."""
        have, points = self.sums(case.wallets), case.points
        if have["current"] < points:
            raise Refusal(
                "817 FAILED_PRECONDITION TRANSFER_INSUFFICIENT_POINTS",
                points=points,
                current=have["current"],
                short_by=points - have["current"],
            )
        free = sum(one.points for one in self.draw(case.wallets, have["redeemable"], case.is_usable))
        if free < points:
            raise Refusal(
                "416 FAILED_PRECONDITION POINTS_NOT_TRANSFERABLE",
                points=points,
                transferable=free,
                barred=have["redeemable"] - free,
                promised=have["promised"],
                held=have["held"],
            )

    def TransferPoints(self, request: Any, drawn: Drawn) -> Answer:
        """Moves points."""
        case = self._judge_transfer(request)
        self._prove(case.binding, case.points, request.code, is_due=self._is_due(case))
        return self._move(case, drawn)

    def _move(self, case: TransferCase, drawn: Drawn) -> Answer:
        program, source, destination = case.program, case.source, case.destination
        draws = self.draw(case.wallets, case.points, case.is_usable)
        breakup = self.breakup(draws)
        transfer_id = int(drawn.id or 0)
        for lot, points in draws:
            lot.remaining -= points
        for lot, points in draws:
            self.open_child(lot, case.credited, points, "transfer").transfer_id = transfer_id
        received = destination.received
        received[case.credited[1]] = received.get(case.credited[1], 0) + case.points
        today, program_id = self.today(program), program.program_id
        self.moved.append((source.customer_id, program_id, "OUT", today, case.points))
        self.moved.append((destination.customer_id, program_id, "IN", today, case.points))
        made = Sent(transfer_id, source.customer_id, destination.customer_id, program_id, case.points, self.now)
        self.transfers.append(made)
        drawn_on = list(dict.fromkeys((lot.customer_id, lot.program_id) for lot, _ in draws))
        data = {
            "to_entity_id": destination.customer_id,
            "from_entity_id": source.customer_id,
            "points_transfer_date": Time(self.now),
            "points_transferred": case.points,
            "transfer_id": transfer_id,
            "transfer_type": 1,
            "notes": case.request.notes,
            "program_name": program.name,
            "points_transfer_breakup_by_earning_programs": breakup,
        }
        wallets = [self.wallet(*one) for one in (*drawn_on, case.credited)]
        return {"data": [data], "wallets": wallets, "warnings": [], "errors": []}

    def CheckTransfer(self, request: Any, drawn: Drawn) -> Answer:
        """The deed's decision without the code; may issue one."""
        case = self._judge_transfer(request)
        breakup = self.breakup(self.draw(case.wallets, case.points, case.is_usable))
        warnings, challenge = [], None
        if request.issue_otp:
            try:
                challenge = self._issue(case.binding, case.points, case.source, case.program, drawn)
            except Refusal as refusal:
                cause = refusal.metadata.get("cause", "ISSUE_LIMIT")
                warnings = [("876 REDEEMABLE_BUT_OTP_NOT_ISSUED", {"cause": cause})]
        off = requirement_of(case.program.policy.otp) == OtpPolicy.OFF
        return {
            "transferable": True,
            "points_to_be_transferred": case.points,
            "points_transfer_breakup_by_earning_programs": breakup,
            "otp": challenge,
            "code_required": self._is_due(case) or (challenge is not None and not off),
            "warnings": warnings,
        }

    def IssueTransferOtp(self, request: Any, drawn: Drawn) -> Answer:
        """Sends a code to the source."""
        case = self._judge_transfer(request)
        return {"otp": self._issue(case.binding, case.points, case.source, case.program, drawn), "warnings": []}

    def ReverseTransfer(self, request: Any, drawn: Drawn) -> Answer:
        """Takes back what the receiver still has of a transfer."""
        made = next((one for one in self.transfers if one.transfer_id == request.transfer_id), None)
        came = [lot for lot in self.lots if made and came_with(lot, made.transfer_id)]
        alive = sorted((one for one in came if one.remaining and not self.expired(one)), key=lambda lot: lot.order)
        there = [Draw(lot, lot.remaining - self.held(lot)) for lot in alive if lot.remaining > self.held(lot)]
        moved = [one for lot, _ in there for one in (lot.program_id, drawn_in(lot, request.transfer_id))]
        named = [made.program_id] if made else []
        self._runs("898 UNAVAILABLE TRANSFER_UNAVAILABLE", *(self.programs[one] for one in (*named, *moved)))
        self._parses("888 FAILED_PRECONDITION TRANSFER_CONFIGURATION_INVALID")
        if made is None:
            raise Refusal("10012 NOT_FOUND RESOURCE_NOT_FOUND")
        sender, receiver = self.survivor(made.source_id), self.survivor(made.destination_id)
        if sender is receiver:
            raise Refusal("418 INVALID_ARGUMENT SAME_CUSTOMER")
        back = [lot for lot in self.lots if lot.opened_by == "taken back" and lot.parent in came]
        asked = made.points - sum(lot.points for lot in back)
        total = sum(one.points for one in there)
        if not total or (total < asked and request.shortfall == ReverseTransferRequest.FAIL):
            raise Refusal(
                "817 FAILED_PRECONDITION TRANSFER_INSUFFICIENT_POINTS",
                points=asked,
                current=total,
                short_by=asked - total,
            )
        wallets = list(dict.fromkeys((lot.customer_id, lot.program_id) for lot, _ in there))
        for lot, points in there:
            lot.remaining -= points
        new = []
        for lot, points in there:
            wallet = (sender.customer_id, drawn_in(lot, made.transfer_id))
            new.append(self.open_child(lot, wallet, points, "taken back"))
        wallets += dict.fromkeys((lot.customer_id, lot.program_id) for lot in new)
        return {
            "transfer_id": made.transfer_id,
            "reversed_at": Time(self.now),
            "points_to_be_reversed": asked,
            "points_reversed": total,
            "points_short": asked - total,
            "lots": [{"lot_id": lot.name, "points": lot.points} for lot in new],
            "wallets": [self.wallet(*one) for one in wallets],
            "warnings": [("877 POINTS_NOT_ALLOCATED", {"points": str(asked - total)})] if total < asked else [],
        }

    def _is_due(self, case: TransferCase) -> bool:
        """For the program named, and for each that is drawn on: pooling does not get round a code."""
        return any(self._is_due_from(case, one) for one in {case.program.program_id, *(one for _, one in case.wallets)})

    def _is_due_from(self, case: TransferCase, program_id: int) -> bool:
        requirement = requirement_of(self.programs[program_id].policy.otp)
        if requirement != OtpPolicy.IF_ISSUED:
            return requirement == OtpPolicy.REQUIRED
        return self.due.get((case.source.customer_id, program_id), 0) > self.now


class TransferCase:
    """A transfer between people who are known, in a program that is."""

    def __init__(self, state: State, request: Any, program: Program, source: Person, destination: Person) -> None:
        self.request, self.program, self.source, self.destination = request, program, source, destination
        self.points: int = request.points_to_be_transferred
        pooled = request.group_program_transfer
        pool = state.pool(program, pooled=pooled)
        self.wallets = [(source.customer_id, one) for one in pool if one in source.enrolled]
        default = program.group.default_id if pooled and program.group else program.program_id
        self.credited = (destination.customer_id, default)
        self.binding = ("transfer", source.customer_id, program.program_id, destination.customer_id, pooled)
        self._barred = barred_sources(program.policy)

    def is_usable(self, lot: Points) -> bool:
        """Whether the policy that judges lets the lot go."""
        return lot.source not in self._barred


def came_with(lot: Points, transfer_id: int) -> bool:
    """Whether a lot was opened by a transfer, or is what a merge or a reversal made of one that was."""
    if lot.opened_by == "transfer":
        return lot.transfer_id == transfer_id
    return lot.opened_by in {"merge", "reversal"} and lot.parent is not None and came_with(lot.parent, transfer_id)


def drawn_in(lot: Points, transfer_id: int) -> int:
    """The program of the wallet from which a transfer drew what became this lot."""
    assert lot.parent is not None
    if lot.opened_by == "transfer" and lot.transfer_id == transfer_id:
        return lot.parent.program_id
    return drawn_in(lot.parent, transfer_id)
