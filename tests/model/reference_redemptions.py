"""Redemptions in the reference model: check, code, deed and hold."""

from __future__ import annotations

from typing import Any

from reference_guards import EXCEEDS_CURRENT, Answer, Guards, insufficient, shares, wallets_of
from reference_state import (
    BILL,
    DAY,
    SECOND,
    Draw,
    Drawn,
    Held,
    Person,
    Program,
    Refusal,
    Spent,
    State,
    Time,
    categories_of,
    is_enabled,
)

from points_grpc.v1.points_service_pb2 import RedeemPointsRequest

CONDITION_CODES = (
    "804 FAILED_PRECONDITION INSUFFICIENT_CURRENT_POINTS",
    "805 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_POINTS",
    "806 FAILED_PRECONDITION INSUFFICIENT_LIFETIME_PURCHASES",
)


class Redemptions(Guards):
    """Points for goods."""

    def _judge_redemption(self, request: Any, fraud: str) -> RedemptionCase:
        program = self.program(request.program_id)
        self._runs("898 UNAVAILABLE PAUSED", *self._pooled(program, pooled=request.group_redemption))
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
        if case.proof_required and not by_call and not request.validation_code:
            raise Refusal("824 FAILED_PRECONDITION MOBILE_VALIDATION_REQUIRED", cause="MISSING")
        counted, limit = self._window(case.person.customer_id, "redeem"), otp.attempts_per_window or 15
        if request.validation_code and counted.wrong >= limit:
            raise Refusal(
                "10009 RESOURCE_EXHAUSTED OTP_ATTEMPT_LIMIT",
                limit=limit,
                used=counted.wrong,
                resets_at=Time(counted.end),
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
        answer["proof_required"] = case.proof_required
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
        held = hold and [hold.program_id, *(lot.program_id for lot, _ in hold.draws)]
        self._runs("898 UNAVAILABLE PAUSED", *(self.programs[one] for one in held or ()))
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


class RedemptionCase:
    """A redemption of somebody who is known, in a program that is."""

    def __init__(self, state: State, request: Any, program: Program, person: Person) -> None:
        self.request, self.program, self.person = request, program, person
        pool = state.pool(program, pooled=request.group_redemption)
        self.wallets = [(person.customer_id, one) for one in pool if one in person.enrolled]
        known = categories_of(program.policy)
        self.categories = [request.category] if request.category else [one for one in known if known[one]]
        asked = [program, *(state.programs[one] for _, one in self.wallets)]
        self.proof_required = any(one.policy.redemption.proof_required for one in asked)
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


def worth(points: int, ratio: Any, decimal_places: int) -> dict[str, Any] | None:
    """Points times ratio, half up."""
    if ratio is None:
        return None
    above, below = points * ratio.numerator, ratio.denominator * 10**decimal_places
    return {"currency_code": ratio.currency_code, "minor_units": (2 * above + below) // (2 * below)}
