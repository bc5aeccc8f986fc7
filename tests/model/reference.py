"""The reference model: what the service must answer, one method per command, from the contract alone.

`play` takes the request that the server got, and what only the server can know (`Drawn`). It answers the fields of the
acceptance that follow from the contract, by their names in the proto, or a `Refusal`. Guards stand in the contract's
order of rules. Imports the standard library and the generated stubs alone, which test_reference.py asserts.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message
from reference_state import (
    BILL,
    DAY,
    FRAUD_CHECK,
    MOBILE,
    SECOND,
    Counted,
    Draw,
    Drawn,
    Held,
    LotName,
    Person,
    Points,
    Program,
    ProgramGroup,
    Refusal,
    Secret,
    Sent,
    Spent,
    State,
    Time,
    barred_sources,
    categories_of,
    contradictions,
    is_enabled,
    multiple_of,
    requirement_of,
    start_of,
)

from points_grpc.v1.customer_service_pb2 import Customer
from points_grpc.v1.points_service_pb2 import RedeemPointsRequest, ReverseTransferRequest
from points_grpc.v1.program_service_pb2 import OtpPolicy, Policy, VelocityLimit

Answer = dict[str, Any]
Wallets = list[tuple[int, int]]

POINTS_MAX = 10**12
NOTHING_DRAWN = Drawn()
FINAL_GRPC = {"FAILED_PRECONDITION", "NOT_FOUND"}
NEVER_FINAL = {412, 888, 899}
TRANSFERS = {"CheckTransfer", "IssueTransferOtp", "TransferPoints", "ReverseTransfer"}
TRANSFER_FIELDS = ("points_to_be_transferred", "program_id", "from_customer_identifier", "to_customer_identifier")
WINDOW_DAYS = {VelocityLimit.TODAY: 1, VelocityLimit.LAST_7_DAYS: 7, VelocityLimit.LAST_30_DAYS: 30}
FRAUD_GRAVITY = [Customer.NOT_FRAUD, Customer.MARKED, Customer.CONFIRMED, Customer.INTERNAL, Customer.RECONFIRMED]
LABEL_GRAVITY = [Customer.SUSPENDED, Customer.FRAUD_SUSPECTED, Customer.FRAUD_CONFIRMED]


class Model(State):
    """The service, as the contract describes it, for one organisation."""

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.records: dict[str, tuple[str, Mapping[str, bytes], Answer | Refusal]] = {}

    # -- every command

    def play(self, rpc: str, request: Any, drawn: Drawn = NOTHING_DRAWN) -> Answer | Refusal:
        """What the service must answer; what it changes is remembered."""
        if malformed := self._malformed(rpc, request):
            return malformed
        is_read = rpc.startswith("Check") and not request.issue_otp
        request_id = "" if is_read else getattr(request, "request_id", "")
        if request_id in self.records:
            return self._again(rpc, request)
        method: Callable[[Any, Drawn], Answer] = getattr(self, rpc)
        outcome: Answer | Refusal
        try:
            outcome = {**method(request, drawn), "replayed": False}
        except Refusal as refusal:
            outcome = refusal
        if request_id and is_final(outcome):
            self.records[request_id] = (rpc, content_of(request), outcome)
        return outcome

    def _malformed(self, rpc: str, request: Any) -> Refusal | None:
        if rpc in TRANSFERS and rpc != "ReverseTransfer" and not 1 <= request.points_to_be_transferred <= POINTS_MAX:
            return Refusal("422 INVALID_ARGUMENT TRANSFER_POINTS_INVALID")
        if rpc == "ReverseRedemption":
            points = request.points_to_be_reversed
            if request.HasField("points_to_be_reversed") and not 1 <= points <= POINTS_MAX:
                return Refusal("901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID")
            return None
        named = "customer_identifier" in request.DESCRIPTOR.fields_by_name
        if named and "points" in request.DESCRIPTOR.fields_by_name and not 1 <= request.points <= POINTS_MAX:
            return Refusal("801 INVALID_ARGUMENT INVALID_POINTS")
        is_dated = "redemption_time" in request.DESCRIPTOR.fields_by_name
        if is_dated and request.redemption_time.ToMicroseconds() > self.now:
            return Refusal("859 INVALID_ARGUMENT INVALID_REDEMPTION_TIME")
        return None

    def _again(self, rpc: str, request: Any) -> Answer | Refusal:
        operation, content, outcome = self.records[request.request_id]
        given = content_of(request)
        fields = sorted(name for name in {*given, *content} if given.get(name) != content.get(name))
        fields = ["operation"] if operation != rpc else fields
        if fields and rpc in TRANSFERS:
            return Refusal(
                "902 ALREADY_EXISTS TRANSFER_DUPLICATE_REQUEST", cause="REQUEST_ID_REUSED", fields=",".join(fields)
            )
        if fields:
            return Refusal("10006 ALREADY_EXISTS REQUEST_ID_REUSED", fields=",".join(fields))
        if isinstance(outcome, Refusal):
            again = Refusal(f"{outcome.number} {outcome.grpc} {outcome.reason}", *outcome.warnings)
            again.metadata = {**outcome.metadata, "replayed": "true"}
            return again
        return {**outcome, "replayed": True}

    # -- guards that several commands share

    def _runs(self, code: str, *programs: Program | None) -> None:
        if self.paused:
            raise Refusal(code, cause="ORGANISATION_PAUSED")
        if any(program is not None and program.paused for program in programs):
            raise Refusal(code, cause="PROGRAM_PAUSED")

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

    # -- transfers

    def _judge_transfer(self, request: Any) -> TransferCase:
        program = self.program(request.program_id)
        self._runs("898 UNAVAILABLE TRANSFER_UNAVAILABLE", program)
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
        counted = self._window(source.customer_id, "transfer", otp)
        if counted.wrong >= (otp.attempts_per_window or 15):
            until = counted.start + (otp.window_s or 900) * SECOND
            raise Refusal(locked, locked_until=Time(until), cause="WRONG_CODES")

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

    def _check_past(self, case: TransferCase) -> None:
        """902, 903."""
        ids = (case.source.customer_id, case.destination.customer_id, case.program.program_id, case.points)
        window = case.program.policy.transfer.duplicate_window_s * SECOND
        for sent in self.transfers:
            equal = (sent.source_id, sent.destination_id, sent.program_id, sent.points) == ids
            if equal and self.now < sent.at + window:
                raise Refusal("902 ALREADY_EXISTS TRANSFER_DUPLICATE_REQUEST", cause="DUPLICATE_WINDOW")
        for limit in case.program.policy.transfer.velocity_limits:
            for maximum, is_count in ((limit.points_max, False), (limit.transfers_max, True)):
                if maximum:
                    self._check_velocity(case, limit, maximum, is_count=is_count)

    def _check_velocity(self, case: TransferCase, limit: VelocityLimit, maximum: int, *, is_count: bool) -> None:
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
            return
        resets = today + timedelta(days=1)
        for ahead in range(1, days + 1):
            resets = today + timedelta(days=ahead)
            if sum(one for day, one in inside if day > resets - timedelta(days=days)) + more <= maximum:
                break
        raise Refusal(
            "903 RESOURCE_EXHAUSTED TRANSFER_LIMIT_EXCEEDED",
            limit=maximum,
            used=used,
            window=VelocityLimit.Window.Name(limit.window),
            direction=direction,
            resets_at=Time(start_of(resets, case.program.zone)),
        )

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
        self._runs("898 UNAVAILABLE TRANSFER_UNAVAILABLE", made and self.programs[made.program_id])
        self._parses("888 FAILED_PRECONDITION TRANSFER_CONFIGURATION_INVALID")
        if made is None:
            raise Refusal("10012 NOT_FOUND RESOURCE_NOT_FOUND")
        sender, receiver = self.survivor(made.source_id), self.survivor(made.destination_id)
        if sender is receiver:
            raise Refusal("418 INVALID_ARGUMENT SAME_CUSTOMER")
        came = [lot for lot in self.lots if came_with(lot, made.transfer_id)]
        back = [lot for lot in self.lots if lot.opened_by == "taken back" and lot.parent in came]
        asked = made.points - sum(lot.points for lot in back)
        alive = sorted((one for one in came if one.remaining and not self.expired(one)), key=lambda lot: lot.order)
        there = [Draw(lot, lot.remaining - self.held(lot)) for lot in alive if lot.remaining > self.held(lot)]
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

    # -- one-time codes

    def _window(self, customer_id: int, action: str, otp: OtpPolicy) -> Counted:
        """What was counted in the window that is running; a fresh one where none is."""
        counted = self.counted.get((customer_id, action))
        if counted is None or self.now >= counted.start + (otp.window_s or 900) * SECOND:
            return Counted(self.now)
        return counted

    def _is_due(self, case: TransferCase) -> bool:
        """For the program named, and for each that is drawn on: pooling does not get round a code."""
        return any(self._is_due_from(case, one) for one in {case.program.program_id, *(one for _, one in case.wallets)})

    def _is_due_from(self, case: TransferCase, program_id: int) -> bool:
        requirement = requirement_of(self.programs[program_id].policy.otp)
        if requirement != OtpPolicy.IF_ISSUED:
            return requirement == OtpPolicy.REQUIRED
        return self.due.get((case.source.customer_id, program_id), 0) > self.now

    def _issue(
        self, binding: Sequence[Any], points_max: int, person: Person, program: Program, drawn: Drawn
    ) -> Mapping[str, Any]:
        action, otp = binding[0], program.policy.otp
        key = (person.customer_id, action)
        counted, limit = self._window(*key, otp), otp.issues_per_window or 5
        if counted.issues >= limit:
            raise Refusal(
                "10008 RESOURCE_EXHAUSTED OTP_ISSUE_LIMIT",
                limit=limit,
                used=counted.issues,
                resets_at=Time(counted.start + (otp.window_s or 900) * SECOND),
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
            counted = self._window(customer_id, action, self.programs[program_id].policy.otp)
            counted.wrong += 1
            self.counted[customer_id, action] = counted
            raise invalid("INVALID", live.attempts_left)
        live.alive = False
        if action == "transfer":
            self.due.pop((customer_id, program_id), None)

    # -- redemptions

    def _judge_redemption(self, request: Any, fraud: str) -> RedemptionCase:
        program = self.program(request.program_id)
        self._runs("898 UNAVAILABLE PAUSED", program)
        program = self._active(request.program_id)
        self._is_sound(program)
        self._parses()
        self._check_redeemable(request, program)
        bill, reference = getattr(request, "transaction_number", ""), getattr(request, "external_reference_number", "")
        if bill and not BILL.fullmatch(bill) and program.policy.redemption.transaction_number_strict:
            raise Refusal("811 INVALID_ARGUMENT INVALID_TRANSACTION_NUMBER", cause="MALFORMED")
        used = [one.reference for one in self.redemptions] + [one.reference for one in self.holds if self.is_open(one)]
        if reference and reference in used:
            raise Refusal("10010 ALREADY_EXISTS EXTERNAL_REFERENCE_REUSED")
        person = self.person(request.customer_identifier)
        if person is None:
            raise Refusal("816 NOT_FOUND CUSTOMER_NOT_IN_ORGANIZATION", party="CUSTOMER")
        self._is_not_merged(person)
        if person.contact:
            raise Refusal("686 FAILED_PRECONDITION CAMPAIGN_USER_NOT_ENROLLED")
        case = RedemptionCase(self, request, program, person)
        if not case.wallets:
            raise Refusal("881 FAILED_PRECONDITION CUSTOMER_NOT_ENROLLED", program_id=program.program_id)
        self._check_time(case)
        if self.is_on("ENABLE_CUSTOMER_STATUS_MODULE"):
            if self.is_fraud(person) or self.is_barred(person):
                raise Refusal(
                    "3045 FAILED_PRECONDITION CUSTOMER_STATUS_BLOCKS_REDEMPTION", customer_id=person.customer_id
                )
        elif self.is_fraud(person):
            raise Refusal(fraud)
        self._check_limits(case)
        return case

    def _check_redeemable(self, request: Any, program: Program) -> None:
        """827, 826."""
        if not self.is_on("ALLOW_POINTS_REDEMPTION"):
            raise Refusal("827 FAILED_PRECONDITION REDEMPTION_DISABLED", cause="ORGANISATION")
        if not is_enabled(program.policy.redemption):
            raise Refusal("827 FAILED_PRECONDITION REDEMPTION_DISABLED", cause="PROGRAM")
        invalid, categories = "826 FAILED_PRECONDITION INVALID_POINTS_CATEGORY", categories_of(program.policy)
        if request.category and request.category not in categories:
            raise Refusal(invalid, cause="UNKNOWN_CATEGORY")
        if request.category and not categories[request.category]:
            raise Refusal(invalid, cause="CATEGORY_NOT_REDEEMABLE", category=request.category)
        if request.group_redemption and program.group is None:
            raise Refusal(invalid, cause="NO_GROUP")
        if request.group_redemption and not self.is_on("ENABLE_GROUP_PROGRAMS_REDEMPTION"):
            raise Refusal(invalid, cause="POOLING_OFF")

    def _check_time(self, case: RedemptionCase) -> None:
        request = case.request
        if "redemption_time" not in request.DESCRIPTOR.fields_by_name or not request.HasField("redemption_time"):
            return
        at, early = request.redemption_time.ToMicroseconds(), "859 INVALID_ARGUMENT INVALID_REDEMPTION_TIME"
        if at < min(case.person.enrolled[program_id] for _, program_id in case.wallets):
            raise Refusal(early, cause="BEFORE_ENROLMENT")
        if at < self.now - (case.program.policy.redemption.redemption_time_days or 30) * DAY:
            raise Refusal(early, cause="TOO_EARLY")

    def _check_limits(self, case: RedemptionCase) -> None:
        """821, 819, 807, 804, 805, 806, 818 or 803, 813."""
        policy, points = case.program.policy.redemption, case.request.points
        if points < policy.minimum_points:
            raise Refusal(
                "821 FAILED_PRECONDITION BELOW_REDEMPTION_MINIMUM", points=points, minimum=policy.minimum_points
            )
        if policy.maximum_points and points > policy.maximum_points:
            raise Refusal(
                "819 FAILED_PRECONDITION ABOVE_REDEMPTION_LIMIT", points=points, maximum=policy.maximum_points
            )
        if policy.multiple and points % policy.multiple:
            raise Refusal("807 FAILED_PRECONDITION POINTS_NOT_MULTIPLE", points=points, multiple=policy.multiple)
        unmet = zip(CONDITION_CODES, self._conditions(case.program.policy, case.wallets), strict=True)
        for code, (_, measure, actual, required) in unmet:
            if actual < required:
                raise Refusal(code, required=required, **{measure: actual})
        have = self.sums(case.wallets, case.categories)
        short_by = points - have["current"]
        if short_by > 0 and case.request.group_redemption:
            raise Refusal(
                "803 FAILED_PRECONDITION POINTS_EXCEED_AVAILABLE",
                points=points,
                pool=have["current"],
                short_by=short_by,
            )
        if short_by > 0:
            raise Refusal(EXCEEDS_CURRENT, points=points, current=have["current"], short_by=short_by)
        if have["redeemable"] < points:
            raise insufficient(points, have)

    def _prove_redemption(self, case: RedemptionCase) -> list[Any] | None:
        """823, 822, 824, 10009, 808; the missed call that proves it."""
        request, otp = case.request, case.program.policy.otp
        by_call = request.validation_type == RedeemPointsRequest.MISSED_CALL
        call = None
        if by_call:
            if not self.is_on("ENABLE_MISSED_CALL_REDEMPTION"):
                raise Refusal("823 FAILED_PRECONDITION MISSED_CALL_DISABLED")
            window_s = case.program.policy.redemption.missed_call_window_s or 300
            since = self.now - window_s * SECOND
            calls = [one for one in self.calls if one[0] == case.person.customer_id and since <= one[1] and not one[2]]
            call = min(calls, key=lambda one: one[1], default=None)
            if call is None:
                raise Refusal("822 FAILED_PRECONDITION MISSED_CALL_NOT_FOUND", window_s=window_s)
            if request.validation_code:
                raise Refusal("824 FAILED_PRECONDITION MOBILE_VALIDATION_REQUIRED", cause="BOTH")
        if case.program.policy.redemption.proof_required and not by_call and not request.validation_code:
            raise Refusal("824 FAILED_PRECONDITION MOBILE_VALIDATION_REQUIRED", cause="MISSING")
        counted, limit = self._window(case.person.customer_id, "redeem", otp), otp.attempts_per_window or 15
        if request.validation_code and counted.wrong >= limit:
            raise Refusal(
                "10009 RESOURCE_EXHAUSTED OTP_ATTEMPT_LIMIT",
                limit=limit,
                used=limit,
                resets_at=Time(counted.start + (otp.window_s or 900) * SECOND),
            )
        self._prove(case.binding, request.points, request.validation_code, is_due=False)
        if call is not None:
            call[2] = True
        return call

    def _planned(self, case: RedemptionCase) -> Answer:
        """What checks, redemptions and holds answer alike."""
        warnings: list[Any] = []
        if not case.program.policy.redemption.HasField("point_value"):
            warnings.append(("872 CURRENCY_RATIO_UNAVAILABLE", {}))
        if getattr(case.request, "transaction_number", "") and not case.bill:
            warnings.append(("873 TRANSACTION_NUMBER_IGNORED", {}))
        return {
            "points": case.request.points,
            "value": worth(case.request.points, case.ratio, case.program.decimal_places),
            "lots": shares(case.draws),
            "warnings": warnings,
        }

    def CheckRedemption(self, request: Any, drawn: Drawn) -> Answer:
        """The deed's decision without the proof; may issue a code."""
        case = self._judge_redemption(request, "809 FAILED_PRECONDITION CUSTOMER_FRAUD")
        answer = self._planned(case)
        answer["breakup_by_earning_programs"] = self.breakup(case.draws)
        answer["outcome"] = {"status": True, "code": 800, "reason": "POINTS_REDEEMED_OR_REDEEMABLE"}
        answer["proof_required"] = case.program.policy.redemption.proof_required
        answer["otp"] = None
        if request.issue_otp:
            try:
                answer["otp"] = self._issue(case.binding, request.points, case.person, case.program, drawn)
            except Refusal as refusal:
                cause = refusal.metadata.get("cause", "ISSUE_LIMIT")
                answer["warnings"].append(("876 REDEEMABLE_BUT_OTP_NOT_ISSUED", {"cause": cause}))
        return answer

    def IssueRedemptionOtp(self, request: Any, drawn: Drawn) -> Answer:
        """Sends a code to the customer."""
        case = self._judge_redemption(request, "820 FAILED_PRECONDITION CUSTOMER_FRAUD_OPERATION_BLOCKED")
        challenge = self._issue(case.binding, request.points, case.person, case.program, drawn)
        return {"otp": challenge, "warnings": []}

    def RedeemPoints(self, request: Any, drawn: Drawn) -> Answer:
        """Redeems points."""
        case = self._judge_redemption(request, "809 FAILED_PRECONDITION CUSTOMER_FRAUD")
        self._prove_redemption(case)
        answer = self._planned(case)
        reference = request.external_reference_number
        return answer | self._redeem(case.person, case.program.program_id, case.draws, case.bill, reference, drawn)

    def _redeem(
        self, person: Person, program_id: int, draws: list[Draw], bill: str, reference: str, drawn: Drawn
    ) -> Answer:
        breakup = self.breakup(draws)
        for lot, points in draws:
            lot.remaining -= points
        number = len(self.redemptions)
        back = [0] * len(draws)
        self.redemptions.append(
            Spent(drawn.id, number, person.customer_id, program_id, draws, back, self.now, bill, reference)
        )
        return {
            "outcome": {"status": True, "code": 800, "reason": "POINTS_REDEEMED_OR_REDEEMABLE"},
            "redemption_id": drawn.id,
            "redeemed_at": Time(self.now),
            "breakup_by_earning_programs": breakup,
            "lots": shares(draws),
            "wallets": [self.wallet(*one) for one in wallets_of(draws)],
        }

    def AuthorizeRedemption(self, request: Any, drawn: Drawn) -> Answer:
        """Holds points as a redemption would take them."""
        case = self._judge_redemption(request, "809 FAILED_PRECONDITION CUSTOMER_FRAUD")
        self._prove_redemption(case)
        answer = self._planned(case)
        ends = [lot.expires for lot, _ in case.draws if lot.expires is not None]
        deadline = min([self.now + (request.hold_s or 900) * SECOND, *ends])
        hold = Held(
            drawn.id,
            case.person.customer_id,
            case.program.program_id,
            case.draws,
            deadline,
            case.bill,
            request.external_reference_number,
            case.ratio,
        )
        self.holds.append(hold)
        answer["hold_id"] = drawn.id
        answer["expires_at"] = Time(deadline)
        answer["wallets"] = [self.wallet(*one) for one in wallets_of(case.draws)]
        return answer

    def _hold(self, hold_id: str) -> Held:
        """898, 10012, 419, 10017."""
        hold = next((one for one in self.holds if one.hold_id == hold_id), None)
        self._runs("898 UNAVAILABLE PAUSED", hold and self.programs[hold.program_id])
        if hold is None:
            raise Refusal("10012 NOT_FOUND RESOURCE_NOT_FOUND")
        self._is_not_merged(self.people[hold.customer_id])
        if not self.is_open(hold):
            raise Refusal("10017 FAILED_PRECONDITION HOLD_NOT_OPEN", state=hold.closed or "EXPIRED")
        return hold

    def CaptureRedemption(self, request: Any, drawn: Drawn) -> Answer:
        """Redeems what is held, or part of it."""
        hold = self._hold(request.hold_id)
        total = sum(one.points for one in hold.draws)
        points = request.points if request.HasField("points") else total
        if points > total:
            raise Refusal("10004 INVALID_ARGUMENT FIELD_INVALID", field="points")
        hold.closed = "CAPTURED"
        left, draws = points, []
        for lot, held in hold.draws:
            if taken := min(held, left):
                draws.append(Draw(lot, taken))
            left -= taken
        person, program = self.people[hold.customer_id], self.programs[hold.program_id]
        answer = self._redeem(person, hold.program_id, draws, hold.bill, hold.reference, drawn)
        answer["wallets"] = [self.wallet(*one) for one in wallets_of(hold.draws)]
        return answer | {
            "points": points,
            "points_released": total - points,
            "value": worth(points, hold.ratio, program.decimal_places),
            "warnings": [],
        }

    def ReleaseRedemption(self, request: Any, drawn: Drawn) -> Answer:
        """Gives back what is held."""
        hold = self._hold(request.hold_id)
        hold.closed = "RELEASED"
        return {
            "points_released": sum(one.points for one in hold.draws),
            "wallets": [self.wallet(*one) for one in wallets_of(hold.draws)],
            "warnings": [],
        }

    # -- reversals

    def ReverseRedemption(self, request: Any, drawn: Drawn) -> Answer:
        """Gives redeemed points back."""
        return self._reverse(request, request.points_to_be_reversed if has_points(request) else None)

    def _named(self, request: Any) -> list[Spent]:
        """The redemptions that a reversal names, newest first; of a bill those of the customer, if there are any."""
        if request.redemption_id:
            found = [one for one in self.redemptions if one.redemption_id == request.redemption_id]
        elif request.external_reference_number:
            found = [one for one in self.redemptions if one.reference == request.external_reference_number]
        else:
            found = [one for one in self.redemptions if one.bill == request.transaction_number]
            person = self.person(request.customer_identifier)
            own = [one for one in found if person and person.customer_id in self.line(one.customer_id)]
            found = own or found
        return sorted(found, key=lambda one: (one.at, one.number), reverse=True)

    def _reverse(self, request: Any, points: int | None) -> Answer:
        found = self._named(request)
        self._runs("898 UNAVAILABLE PAUSED", *(self.programs[one.program_id] for one in found))
        self._parses()
        if not self.is_on("Allow_points_redemption_reversal"):
            raise Refusal(
                "903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE", "905 REVERSAL_DISABLED", cause="REVERSAL_DISABLED"
            )
        if not found:
            raise self._no_redemption(request.transaction_number)
        person = self._anyone(request.customer_identifier)
        if any(person.customer_id not in self.line(one.customer_id) for one in found):
            raise Refusal("904 INVALID_ARGUMENT INVALID_CUSTOMER_DETAILS")
        survivor = self.survivor(person.customer_id)
        if self.is_fraud(survivor) or self.is_barred(survivor):
            raise Refusal("820 FAILED_PRECONDITION CUSTOMER_FRAUD_OPERATION_BLOCKED")
        for one in found:
            days = self.programs[one.program_id].policy.redemption.reversal_days
            if days and self.now > one.at + days * DAY:
                raise Refusal("903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE", cause="WINDOW_PASSED")
        reversible = sum(one.left for one in found)
        if not reversible:
            code = "812 FAILED_PRECONDITION TRANSACTION_ALREADY_REVERSED"
            if not request.transaction_number:
                code = "3802 FAILED_PRECONDITION REDEMPTION_ALREADY_REVERSED"
            raise Refusal(code, reversed_at=Time(max(one.reversed_at or 0 for one in found)))
        if points is not None and points > reversible:
            raise Refusal("810 FAILED_PRECONDITION REVERSAL_POINTS_MISMATCH", points=points, reversible=reversible)
        return self._give_back(found, reversible if points is None else points)

    def _no_redemption(self, bill: str) -> Refusal:
        if not bill:
            return Refusal("902 NOT_FOUND REDEMPTION_NOT_FOUND")
        if bill not in {*self.bills, *self.returned}:
            return Refusal("811 INVALID_ARGUMENT INVALID_TRANSACTION_NUMBER", cause="UNKNOWN")
        return Refusal("814 NOT_FOUND NO_REDEMPTION_ON_TRANSACTION")

    def _give_back(self, found: list[Spent], asked: int) -> Answer:
        """Newest redemption first, latest-expiring lot first; what expired since is not credited."""
        left, lots, redemptions = asked, [], []
        for spent in found:
            credited = expired = 0
            places = sorted(range(len(spent.draws)), key=lambda place: spent.draws[place].lot.order, reverse=True)
            for place in places:
                lot, drawn = spent.draws[place]
                points = min(left, drawn - spent.back[place])
                left -= points
                spent.back[place] += points
                if self.expired(lot):
                    expired += points
                elif points:
                    credited += points
                    lots.append({"lot_id": self._credit(lot, points).name, "points": points})
            if credited or expired:
                spent.reversed_at = self.now
                redemptions.append(
                    {
                        "redemption_id": spent.redemption_id,
                        "points_reversed": credited + expired,
                        "credited": credited,
                        "expired": expired,
                        "points_left": spent.left,
                    }
                )
        expired = sum(one["expired"] for one in redemptions)
        touched = dict.fromkeys(
            (self.survivor(lot.customer_id).customer_id, lot.program_id) for spent in found for lot, _ in spent.draws
        )
        return {
            "points_to_be_reversed": asked,
            "points_reversed": asked,
            "credited": asked - expired,
            "expired": expired,
            "redemptions": redemptions,
            "lots": lots,
            "wallets": [self.wallet(*one) for one in touched],
            "warnings": [("877 POINTS_NOT_ALLOCATED", {"points": str(expired)})] if expired else [],
        }

    def _credit(self, lot: Points, points: int) -> Points:
        """The lot itself, or a new one of whoever lives on."""
        survivor = self.survivor(lot.customer_id)
        if survivor.customer_id != lot.customer_id:
            return self.open_child(lot, (survivor.customer_id, lot.program_id), points, "reversal")
        lot.remaining += points
        return lot

    def ReturnTransaction(self, request: Any, drawn: Drawn) -> Answer:
        """Books the return of a purchase, with the reversals attached."""
        self._runs("898 UNAVAILABLE PAUSED")
        self._parses()
        person = self._anyone(request.customer_identifier)
        bill = request.transaction_number
        if bill in self.bills and self.bills[bill][0] != person.customer_id:
            raise Refusal("10012 NOT_FOUND RESOURCE_NOT_FOUND")
        if bill in self.returned:
            raise Refusal("10013 ALREADY_EXISTS RESOURCE_EXISTS")
        results, warnings = [], []
        for index, item in enumerate(request.items):
            try:
                answer = self._return_item(request, item)
            except Refusal as refusal:
                disabled = refusal.metadata.get("cause") == "REVERSAL_DISABLED"
                code = "905 REVERSAL_DISABLED" if disabled else RETURN_WARNINGS.get(refusal.number, RETURN_FAILED)
                warnings.append((code, {"index": str(index)}))
                results.append({"redemption_id": item.redemption_id, "points_reversed": 0, "credited": 0})
                continue
            results += [{**one, "redemption_id": item.redemption_id} for one in answer["redemptions"]]
            warnings += answer["warnings"]
        self.returned.add(bill)
        return {
            "results": results,
            "points_reversed": sum(one["points_reversed"] for one in results),
            "returned_at": Time(self.now),
            "warnings": warnings,
        }

    def _return_item(self, request: Any, item: Any) -> Answer:
        if not self.is_on("Allow_points_redemption_reversal"):
            raise Refusal("903 FAILED_PRECONDITION REVERSAL_NOT_POSSIBLE", cause="REVERSAL_DISABLED")
        points = item.points_to_be_reversed if has_points(item) else None
        if points is not None and not 1 <= points <= POINTS_MAX:
            raise Refusal("901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID")
        if not item.redemption_id.isalnum():
            raise Refusal("901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID")
        customer = item if item.HasField("customer_identifier") else request
        return self._reverse(ItemReversal(item.redemption_id, customer.customer_identifier), points)

    # -- issues and adjustments

    def IssuePoints(self, request: Any, drawn: Drawn) -> Answer:
        """Opens a lot."""
        program = self.program(request.program_id)
        self._runs("898 UNAVAILABLE PAUSED", program)
        program = self._active(request.program_id)
        if request.earning_program_id and request.earning_program_id not in self.programs:
            raise Refusal("895 FAILED_PRECONDITION PROGRAM_NOT_CONFIGURED")
        self._is_sound(program)
        self._parses()
        category = request.category or next(iter(categories_of(program.policy)))
        if category not in categories_of(program.policy):
            raise Refusal("826 FAILED_PRECONDITION INVALID_POINTS_CATEGORY", cause="UNKNOWN_CATEGORY")
        person = self._member(program, self.person(request.customer_identifier))
        expires = self._expiry(request, program)
        promise = request.available_from.ToMicroseconds() if request.HasField("available_from") else None
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
        if self.bills.get(request.transaction_number, (0, False))[1]:
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
        for (customer_id, _), kept in self.secrets.items():
            for secret in kept if customer_id == victim.customer_id else ():
                secret.alive = False
        victim.merged_into = survivor.customer_id

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


class RedemptionCase:
    """A redemption of somebody who is known, in a program that is."""

    def __init__(self, state: State, request: Any, program: Program, person: Person) -> None:
        self.request, self.program, self.person = request, program, person
        pool = state.pool(program, pooled=request.group_redemption)
        self.wallets = [(person.customer_id, one) for one in pool if one in person.enrolled]
        known = categories_of(program.policy)
        self.categories = [request.category] if request.category else [one for one in known if known[one]]
        self.binding = ("redeem", person.customer_id, program.program_id, request.category, request.group_redemption)
        ratio = program.policy.redemption
        self.ratio = ratio.point_value if ratio.HasField("point_value") else None
        bill = getattr(request, "transaction_number", "")
        self.bill = bill if BILL.fullmatch(bill) else ""
        self._state = state
        self._draws: list[Draw] | None = None

    @property
    def draws(self) -> list[Draw]:
        """What it takes, as long as nothing was taken."""
        if self._draws is None:
            usable = self.categories
            self._draws = self._state.draw(self.wallets, self.request.points, lambda lot: lot.category in usable)
        return self._draws


class ItemReversal:
    """An item of a return, as the reversal that it stands for."""

    external_reference_number = transaction_number = ""

    def __init__(self, redemption_id: str, customer_identifier: Any) -> None:
        self.redemption_id, self.customer_identifier = redemption_id, customer_identifier


NOT_ELIGIBLE = "901 FAILED_PRECONDITION TRANSFER_CUSTOMER_NOT_ELIGIBLE"
EXCEEDS_CURRENT = "818 FAILED_PRECONDITION POINTS_EXCEED_CURRENT"
CHANNELS = {"MOBILE": MOBILE, "EMAIL": 4}
CONDITION_CODES = (
    "804 FAILED_PRECONDITION INSUFFICIENT_CURRENT_POINTS",
    "805 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_POINTS",
    "806 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_PURCHASES",
)
RETURN_FAILED = "903 RETURN_NOT_POSSIBLE"
RETURN_WARNINGS = {
    901: "901 RETURN_INVALID_POINTS_OR_REDEMPTION_ID",
    902: "902 RETURN_REDEMPTION_NOT_FOUND",
    904: "904 RETURN_INVALID_CUSTOMER_DETAILS",
    8015: "904 RETURN_INVALID_CUSTOMER_DETAILS",
}


def is_final(outcome: Answer | Refusal) -> bool:
    """Whether an outcome is recorded under its request id."""
    if not isinstance(outcome, Refusal):
        return True
    if outcome.number in {902, 903} and outcome.grpc in {"ALREADY_EXISTS", "RESOURCE_EXHAUSTED"}:
        return outcome.metadata.get("cause") != "REQUEST_ID_REUSED"
    return outcome.grpc in FINAL_GRPC and outcome.number not in NEVER_FINAL


def content_of(request: Message) -> Mapping[str, bytes]:
    """The fields that are set, the request id apart."""
    return {field.name: repr(value).encode() for field, value in request.ListFields() if field.name != "request_id"}


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


def worth(points: int, ratio: Any, decimal_places: int) -> dict[str, Any] | None:
    """Points times ratio, half up."""
    if ratio is None:
        return None
    above, below = points * ratio.numerator, ratio.denominator * 10**decimal_places
    return {"currency_code": ratio.currency_code, "minor_units": (2 * above + below) // (2 * below)}


def insufficient(points: int, have: Mapping[str, int]) -> Refusal:
    """813."""
    return Refusal(
        "813 FAILED_PRECONDITION INSUFFICIENT_REDEEMABLE_POINTS",
        points=points,
        redeemable=have["redeemable"],
        promised=have["promised"],
        held=have["held"],
    )


def has_points(request: Any) -> bool:
    """Whether a reversal says how much."""
    return bool(request.HasField("points_to_be_reversed"))


def time_or_none(micros: int | None) -> Time | None:
    """A time that may be unset."""
    return None if micros is None else Time(micros)
