"""Redemptions: may these points be spent, what are they worth, and what does it do?

Rules of this file: the guards of `judge` stand in the documented order, one a line, and each refuses with one code
(tests/domain/test_redemption.py proves the order). The check, the issue of a code and the redemption itself share
`judge`; the proof comes after all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain import otp, status
from points_grpc.domain.balances import balance_after, holdings, program_shares
from points_grpc.domain.commands import CheckRedemption, IssueRedemptionOtp, RedeemPoints
from points_grpc.domain.conditions import unmet_condition
from points_grpc.domain.configuration import (
    MISSED_CALLS_ALLOWED,
    POOLING_ALLOWED,
    REDEMPTIONS_ALLOWED,
    is_on,
)
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked, Event, MissedCallUsed, RedemptionMade
from points_grpc.domain.first_guards import (
    configuration_parses,
    customer_is_known,
    customer_is_not_merged_away,
    policy_is_sound,
    program_is_known,
)
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import Draw, draw, shown
from points_grpc.domain.model import (
    Account,
    BucketKey,
    Customer,
    JournalEntry,
    Kind,
    MissedCall,
    OtpAction,
    Program,
    ProgramBook,
    RedeemedLot,
    Redemption,
    WalletKey,
)
from points_grpc.domain.outcome import (
    Accepted,
    Balance,
    CheckRedemptionResult,
    Decision,
    IssueOtpResult,
    LotShare,
    MoneyValue,
    ProgramShare,
    RedemptionResult,
    Refused,
    Warning,
)
from points_grpc.domain.policy import PointValue
from points_grpc.domain.references import is_transaction_number
from points_grpc.domain.snapshot import ANY_POINTS, Directory, Keys, Lookups, Snapshot

MINOR_UNITS_MAX = 2**63 - 1
"""The most that an answer can say of money."""


def lookups(command: RedeemPoints) -> Lookups:
    """What a redemption names."""
    return Lookups(
        identifiers=(command.customer,),
        external_references=(command.external_reference,) if command.external_reference else (),
    )


def keys(command: RedeemPoints, directory: Directory, book: ProgramBook) -> Keys:
    """What a redemption needs loaded."""
    references = frozenset({command.external_reference}) if command.external_reference else frozenset()
    customer_id = directory.customers.get(command.customer)
    program = book.program(command.program_id)
    if customer_id is None or program is None:
        known = frozenset() if customer_id is None else frozenset({customer_id})
        return Keys(customers=known, external_references=references)
    wallets = (WalletKey(customer_id, one) for one in book.pool(program, pooled=command.pooled))
    draws_every_category = not command.category and program.policy.redemption.every_category_is_redeemable
    return Keys(
        customers=frozenset({customer_id}),
        draws=dict.fromkeys(wallets, command.points if draws_every_category else ANY_POINTS),
        otps=frozenset({(customer_id, OtpAction.REDEMPTION)}),
        external_references=references,
        missed_calls=frozenset({customer_id}) if command.missed_call else frozenset(),
    )


# -- decisions -------------------------------------------------------------------------------------------------------


def decide_redemption(command: RedeemPoints, context: Context, snapshot: Snapshot) -> Decision:
    """Redeems the points, or says why not."""
    case = Case(command, snapshot, fraud=codes.CUSTOMER_FRAUD)
    if refused := judge(case):
        return Decision(refused)
    proof = prove(case, context)
    if proof.refused:
        return Decision(proof.refused, proof.events)
    plan = plan_of(case)
    transaction_id = context.next_id()
    entry, balances = _book(case, plan, context, transaction_id)
    redemption = Redemption(
        redemption_id=redemption_id_of(transaction_id),
        transaction_id=transaction_id,
        customer_id=case.owner.customer_id,
        program_id=case.ruling.program_id,
        points=command.points,
        reversed=0,
        redeemed_at=snapshot.now,
        redemption_time=command.redemption_time,
        transaction_number=case.transaction_number,
        external_reference=command.external_reference or None,
        last_reversed_at=None,
        lots=tuple(
            RedeemedLot(one.lot.lot_id, one.lot.customer_id, one.lot.program_id, one.points, 0) for one in plan.draws
        ),
    )
    lots, omitted = shown(lot_shares(plan.draws))
    result = RedemptionResult(
        redemption_id=redemption.redemption_id,
        transaction_id=transaction_id,
        customer_id=case.owner.customer_id,
        points=command.points,
        value=case.value,
        redeemed_at=snapshot.now,
        shares=plan.shares,
        lots=lots,
        lots_omitted=omitted,
        balances=balances,
    )
    accepted = Accepted(result, warnings_of(case), transaction_id)
    events = (*proof.events, *used_call(case, transaction_id), Booked(entry), RedemptionMade(redemption))
    return Decision(accepted, events)


def decide_check(command: CheckRedemption, context: Context, snapshot: Snapshot) -> Decision:
    """Says whether the redemption would be accepted now, and with `issue_otp` sends a code."""
    case = Case(command.redemption, snapshot, fraud=codes.CUSTOMER_FRAUD)
    if refused := judge(case):
        return Decision(refused)
    plan = plan_of(case)
    _, balances = _book(case, plan, context, transaction_id=0)
    issued = otp.issue(snapshot, context, _binding(case), case.ruling.policy.otp) if command.issue_otp else otp.Issue()
    warnings = warnings_of(case)
    if issued.refused:
        cause = issued.refused.metadata.get("cause", "ISSUE_LIMIT")
        warnings = (*warnings, Warning(codes.REDEEMABLE_BUT_OTP_NOT_ISSUED, {"cause": cause}))
    lots, omitted = shown(lot_shares(plan.draws))
    result = CheckRedemptionResult(
        points=case.command.points,
        value=case.value,
        shares=plan.shares,
        lots=lots,
        lots_omitted=omitted,
        balances_after=balances,
        challenge=issued.challenge,
        proof_required=case.proof_is_due,
    )
    return Decision(Accepted(result, warnings), issued.events)


def decide_issue_otp(command: IssueRedemptionOtp, context: Context, snapshot: Snapshot) -> Decision:
    """Sends a code for the redemption to the customer."""
    case = Case(command.redemption, snapshot, fraud=codes.CUSTOMER_FRAUD_OPERATION_BLOCKED)
    if refused := judge(case):
        return Decision(refused)
    plan_of(case)  # a code for a deed that would touch too many lots (10015) is not sent
    issued = otp.issue(snapshot, context, _binding(case), case.ruling.policy.otp)
    if issued.refused or issued.challenge is None:
        return Decision(issued.refused or Refused(codes.OTP_NOT_ISSUED))
    return Decision(Accepted(IssueOtpResult(issued.challenge)), issued.events)


# -- the case and its guards -----------------------------------------------------------------------------------------


class Case:
    """A redemption on its way through the guards: what the command's names stand for. None: there is no such thing.

    `fraud` is the code that a legacy fraud status gets: 809 for redeem and check, 820 for the issue of a code.
    """

    __slots__ = ("_wallets", "command", "config", "customer", "fraud", "program", "snapshot")

    def __init__(self, command: RedeemPoints, snapshot: Snapshot, *, fraud: Code) -> None:
        """Finds what the command names."""
        self.command = command
        self.snapshot = snapshot
        self.config = snapshot.config
        self.fraud = fraud
        self.program = snapshot.book.program(command.program_id)
        self.customer = snapshot.find(command.customer)
        self._wallets: tuple[WalletKey, ...] | None = None

    @property
    def ruling(self) -> Program:
        """The program named, whose policy judges; known once `program_is_known` has passed."""
        assert self.program is not None
        return self.program

    @property
    def owner(self) -> Customer:
        """The customer; known once `customer_is_known` has passed."""
        assert self.customer is not None
        return self.customer

    @property
    def wallets(self) -> tuple[WalletKey, ...]:
        """The wallets that the redemption may draw: enrolled ones of the program, or pooled of its group."""
        if self._wallets is None:
            pool = self.snapshot.book.pool(self.ruling, pooled=self.command.pooled)
            found = [WalletKey(self.owner.customer_id, one) for one in pool]
            self._wallets = tuple([key for key in found if _enrolled_wallet(self.snapshot, key)])
        return self._wallets

    @property
    def categories(self) -> frozenset[str]:
        """The categories whose points it may draw."""
        if self.command.category:
            return frozenset({self.command.category})
        return self.ruling.policy.redemption.redeemable_categories()

    @property
    def value(self) -> MoneyValue | None:
        """What the points are worth by the policy that judges."""
        return value_of(self.command.points, self.ruling.policy.redemption.point_value, self.ruling.decimal_places)

    @property
    def proof_is_due(self) -> bool:
        """Whether a proof is demanded by the program named, or by one that a pooled redemption may draw on."""
        drawn = [self.snapshot.book.programs[key.program_id] for key in self.wallets]
        return any(one.policy.redemption.proof_required for one in (self.ruling, *drawn))

    @property
    def missed_call(self) -> MissedCall | None:
        """The unused call that proves it, if a missed call is to; known once `missed_calls_are_allowed` has passed."""
        if not self.command.missed_call:
            return None
        window = timedelta(seconds=self.ruling.policy.redemption.missed_call_window_s)
        return self.snapshot.unused_call(self.owner, since=self.snapshot.now - window)

    @property
    def transaction_number(self) -> str | None:
        """The bill, unless it is malformed and ignored (873)."""
        number = self.command.transaction_number
        return number if number and is_transaction_number(number) else None


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the redemption, in the documented order; the proof comes after all of them."""
    return (
        operations_run(case)
        or program_is_known(case)
        or policy_is_sound(case)
        or worth_is_representable(case)
        or configuration_parses(case)
        or redemptions_are_allowed(case)
        or category_is_redeemable(case)
        or transaction_number_is_valid(case)
        or external_reference_is_new(case)
        or customer_is_known(case)
        or customer_is_not_merged_away(case)
        or customer_is_no_campaign_contact(case)
        or customer_is_enrolled(case)
        or redemption_time_is_plausible(case)
        or customer_is_no_fraud(case)
        or points_reach_minimum(case)
        or points_keep_maximum(case)
        or points_are_multiple(case)
        or conditions_hold(case)
        or current_points_suffice(case)
        or redeemable_points_suffice(case)
    )


def operations_run(case: Case) -> Refused | None:
    """898: an operator paused the organisation or the program; pooled: any program of the group."""
    book = case.snapshot.book
    if book.paused:
        return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"})
    if case.program is not None and book.is_paused(book.pool(case.program, pooled=case.command.pooled)):
        return Refused(codes.PAUSED, {"cause": "PROGRAM_PAUSED"})
    return None


def worth_is_representable(case: Case) -> Refused | None:
    """899: what the points would be worth does not fit into an amount of money (64 bits)."""
    worth = case.value
    if worth is None or worth.minor_units <= MINOR_UNITS_MAX:
        return None
    return Refused(codes.PROGRAM_CONFIGURATION_INVALID, {"fields": "redemption.point_value"})


def redemptions_are_allowed(case: Case) -> Refused | None:
    """827: redemption is off for the organisation or the program."""
    if not is_on(case.config, REDEMPTIONS_ALLOWED):
        return Refused(codes.REDEMPTION_DISABLED, {"cause": "ORGANISATION"})
    if not case.ruling.policy.redemption.enabled:
        return Refused(codes.REDEMPTION_DISABLED, {"cause": "PROGRAM"})
    return None


def category_is_redeemable(case: Case) -> Refused | None:
    """826: the category is unknown or not redeemable; or pooled, and there is nothing to pool."""
    policy, name = case.ruling.policy.redemption, case.command.category
    if name and not policy.has_category(name):
        return Refused(codes.INVALID_POINTS_CATEGORY, {"cause": "UNKNOWN_CATEGORY"}, field="category")
    if name and name not in policy.redeemable_categories():
        return Refused(
            codes.INVALID_POINTS_CATEGORY, {"cause": "CATEGORY_NOT_REDEEMABLE", "category": name}, field="category"
        )
    if case.command.pooled and case.ruling.group_id is None:
        return Refused(codes.INVALID_POINTS_CATEGORY, {"cause": "NO_GROUP"}, field="group_redemption")
    if case.command.pooled and not is_on(case.config, POOLING_ALLOWED):
        return Refused(codes.INVALID_POINTS_CATEGORY, {"cause": "POOLING_OFF"}, field="group_redemption")
    return None


def transaction_number_is_valid(case: Case) -> Refused | None:
    """811: malformed, and the policy demands a valid one; else it is ignored with warning 873."""
    if _ignores_transaction_number(case) and case.ruling.policy.redemption.transaction_number_strict:
        return Refused(codes.INVALID_TRANSACTION_NUMBER, {"cause": "MALFORMED"}, field="transaction_number")
    return None


def external_reference_is_new(case: Case) -> Refused | None:
    """10010: the external reference belongs to another redemption, or to one that is authorised."""
    reference = case.command.external_reference
    if reference and case.snapshot.has_external_reference(reference):
        return Refused(codes.EXTERNAL_REFERENCE_REUSED, field="external_reference_number")
    return None


def customer_is_no_campaign_contact(case: Case) -> Refused | None:
    """686: known only as a contact of a campaign."""
    return Refused(codes.CAMPAIGN_USER_NOT_ENROLLED) if case.owner.campaign_contact else None


def customer_is_enrolled(case: Case) -> Refused | None:
    """881: not enrolled in the program; pooled: in none of the group."""
    if not case.wallets:
        return Refused(codes.CUSTOMER_NOT_ENROLLED, {"program_id": str(case.ruling.program_id)})
    return None


def redemption_time_is_plausible(case: Case) -> Refused | None:
    """859: before enrolment, or further back than the policy allows; a future one was refused for its shape."""
    at = case.command.redemption_time
    if at is None:
        return None
    days = case.ruling.policy.redemption.redemption_time_days
    enrolled = [
        wallet.enrolled_at
        for key in case.wallets
        if (wallet := case.snapshot.wallet(key)) is not None and wallet.enrolled_at is not None
    ]
    if at < min(enrolled):
        return Refused(codes.INVALID_REDEMPTION_TIME, {"cause": "BEFORE_ENROLMENT"}, field="redemption_time")
    if at < case.snapshot.now - timedelta(days=days):
        return Refused(codes.INVALID_REDEMPTION_TIME, {"cause": "TOO_EARLY"}, field="redemption_time")
    return None


def customer_is_no_fraud(case: Case) -> Refused | None:
    """3045 with the status module on; 809 or 820 with it off."""
    if status.module_is_on(case.config):
        barred = status.is_fraud(case.owner, case.config) or status.label_bars(case.owner, case.config)
        customer_id = str(case.owner.customer_id)
        return Refused(codes.CUSTOMER_STATUS_BLOCKS_REDEMPTION, {"customer_id": customer_id}) if barred else None
    return Refused(case.fraud) if status.is_fraud(case.owner, case.config) else None


def points_reach_minimum(case: Case) -> Refused | None:
    """821: below the minimum of one redemption."""
    minimum = case.ruling.policy.redemption.minimum_points
    if case.command.points >= minimum:
        return None
    return Refused(
        codes.BELOW_REDEMPTION_MINIMUM, {"points": str(case.command.points), "minimum": str(minimum)}, field="points"
    )


def points_keep_maximum(case: Case) -> Refused | None:
    """819: above the maximum of one redemption."""
    maximum = case.ruling.policy.redemption.maximum_points
    if not maximum or case.command.points <= maximum:
        return None
    return Refused(
        codes.ABOVE_REDEMPTION_LIMIT, {"points": str(case.command.points), "maximum": str(maximum)}, field="points"
    )


def points_are_multiple(case: Case) -> Refused | None:
    """807: not a multiple of what the policy asks for."""
    multiple = case.ruling.policy.redemption.multiple
    if not multiple or case.command.points % multiple == 0:
        return None
    return Refused(
        codes.POINTS_NOT_MULTIPLE, {"points": str(case.command.points), "multiple": str(multiple)}, field="points"
    )


def conditions_hold(case: Case) -> Refused | None:
    """804, 805, 806: the balance, lifetime points or lifetime purchases that the policy requires."""
    unmet = unmet_condition(case.snapshot, case.wallets, case.ruling.policy.redemption)
    if unmet is None:
        return None
    return Refused(unmet.code, {unmet.measure: str(unmet.actual), "required": str(unmet.required)})


def current_points_suffice(case: Case) -> Refused | None:
    """818: fewer current points than asked for; 803 for the pool of a pooled redemption."""
    points, current = case.command.points, holdings(case.snapshot, case.wallets, case.categories).current
    if current >= points:
        return None
    short_by = str(points - current)
    if case.command.pooled:
        return Refused(
            codes.POINTS_EXCEED_AVAILABLE, {"points": str(points), "pool": str(current), "short_by": short_by}
        )
    return Refused(codes.POINTS_EXCEED_CURRENT, {"points": str(points), "current": str(current), "short_by": short_by})


def redeemable_points_suffice(case: Case) -> Refused | None:
    """813: current points cover it, redeemable points do not: promised or held."""
    have = holdings(case.snapshot, case.wallets, case.categories)
    if have.redeemable >= case.command.points:
        return None
    return Refused(
        codes.INSUFFICIENT_REDEEMABLE_POINTS,
        {
            "points": str(case.command.points),
            "redeemable": str(have.redeemable),
            "promised": str(have.promised),
            "held": str(have.held),
        },
    )


# -- the proof -------------------------------------------------------------------------------------------------------


def prove(case: Case, context: Context) -> otp.Proof:
    """Judges the proof that came with a redemption or an authorisation, after all other rules."""
    if refused := judge_proof(case):
        return otp.Proof(refused)
    return otp.try_code(case.snapshot, context, _binding(case), case.command.code, due=False)


def used_call(case: Case, transaction_id: int) -> tuple[Event, ...]:
    """The missed call that proves the redemption is used up by its transaction."""
    call = case.missed_call
    return () if call is None else (MissedCallUsed(replace(call, used_by=transaction_id)),)


def judge_proof(case: Case) -> Refused | None:
    """The first rule on proofs that refuses the redemption, in the documented order; the code itself is tried last."""
    return (
        missed_calls_are_allowed(case)
        or missed_call_is_there(case)
        or proof_is_one(case)
        or proof_is_there(case)
        or attempts_remain(case)
    )


def missed_calls_are_allowed(case: Case) -> Refused | None:
    """823: a missed call was to prove it, and the organisation has them off."""
    if case.command.missed_call and not is_on(case.config, MISSED_CALLS_ALLOWED):
        return Refused(codes.MISSED_CALL_DISABLED, field="validation_type")
    return None


def missed_call_is_there(case: Case) -> Refused | None:
    """822: a missed call was to prove it, and no unused one came from the registered mobile inside the window."""
    if case.command.missed_call and case.missed_call is None:
        window_s = str(case.ruling.policy.redemption.missed_call_window_s)
        return Refused(codes.MISSED_CALL_NOT_FOUND, {"window_s": window_s}, field="validation_type")
    return None


def proof_is_one(case: Case) -> Refused | None:
    """824: a missed call was to prove it, and a code came too."""
    if case.command.missed_call and case.command.code:
        return Refused(codes.MOBILE_VALIDATION_REQUIRED, {"cause": "BOTH"}, field="validation_type")
    return None


def proof_is_there(case: Case) -> Refused | None:
    """824: a proof is due, and neither a code nor a missed call came."""
    given = case.command.code or case.command.missed_call
    if not given and case.proof_is_due:
        return Refused(codes.MOBILE_VALIDATION_REQUIRED, {"cause": "MISSING"}, field="validation_code")
    return None


def attempts_remain(case: Case) -> Refused | None:
    """10009: a code came, and too many wrong ones were tried over all codes of the window."""
    if not case.command.code:
        return None
    policy = case.ruling.policy.otp
    counter = otp.attempts_exhausted(case.snapshot, case.owner.customer_id, OtpAction.REDEMPTION, policy)
    if counter is None:
        return None
    metadata: Mapping[str, str] = {
        "limit": str(policy.attempts_per_window),
        "used": str(counter.wrong_attempts),
        "resets_at": counter.window_ends_at.isoformat(),
    }
    wait_s = (counter.window_ends_at - case.snapshot.now).total_seconds()
    return Refused(codes.OTP_ATTEMPT_LIMIT, metadata, retry_after_s=wait_s, quota="otp_attempts_per_window")


# -- what the guards and the deed need -------------------------------------------------------------------------------


def redemption_id_of(transaction_id: int) -> str:
    """The opaque id of a redemption: its transaction id in base 36."""
    return f"r{in_base_36(transaction_id)}"


def in_base_36(number: int) -> str:
    """A number as opaque ids spell it."""
    digits, left = "", number
    while left:
        left, digit = divmod(left, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def _enrolled_wallet(snapshot: Snapshot, key: WalletKey) -> bool:
    wallet = snapshot.wallet(key)
    return wallet is not None and wallet.enrolled_at is not None


def _ignores_transaction_number(case: Case) -> bool:
    return bool(case.command.transaction_number) and case.transaction_number is None


class Plan(Struct, frozen=True):
    """What an accepted redemption takes."""

    draws: tuple[Draw, ...]
    shares: tuple[ProgramShare, ...]


def plan_of(case: Case) -> Plan:
    """What an accepted redemption takes, in spending order."""
    categories = case.categories
    draws = draw(case.snapshot, case.wallets, case.command.points, usable=lambda lot: lot.category in categories)
    return Plan(draws, program_shares(case.snapshot, draws, case.owner.customer_id))


def _book(case: Case, plan: Plan, context: Context, transaction_id: int) -> tuple[JournalEntry, tuple[Balance, ...]]:
    entry = EntryBuilder(case.snapshot)
    taken: dict[WalletKey, list[tuple[BucketKey, int]]] = {}
    for one in plan.draws:
        entry.post(one.lot.wallet, one.lot.lot_id, -one.points)
        entry.system(Account.REDEEMED, one.lot.program_id, one.points)
        taken.setdefault(one.lot.wallet, []).append((one.lot.bucket, -one.points))
    balances = tuple(
        balance_after(case.snapshot, key, version=entry.version_after(key), changes=changes)
        for key, changes in taken.items()
    )
    booked = entry.build(
        transaction_id=transaction_id,
        kind=Kind.REDEMPTION,
        customer_id=case.owner.customer_id,
        program_id=case.ruling.program_id,
        points=case.command.points,
        context=context,
        notes=case.command.notes,
        policy_revision=case.ruling.policy.revision,
        transaction_number=case.transaction_number,
    )
    return booked, balances


def lot_shares(draws: Iterable[Draw]) -> Iterable[LotShare]:
    """What is taken from each lot, as answers show it."""
    return (LotShare(one.lot.lot_id, one.lot.earning_program_id, one.points, one.lot.expires_at) for one in draws)


def value_of(points: int, ratio: PointValue | None, decimal_places: int) -> MoneyValue | None:
    """Points times ratio in minor units, half up; None without a ratio."""
    if ratio is None:
        return None
    numerator = points * ratio.numerator
    denominator = ratio.denominator * 10**decimal_places
    return MoneyValue(ratio.currency_code, (2 * numerator + denominator) // (2 * denominator))


def warnings_of(case: Case) -> tuple[Warning, ...]:
    """What an accepted redemption warns of."""
    found: list[Warning] = []
    if case.ruling.policy.redemption.point_value is None:
        found.append(Warning(codes.CURRENCY_RATIO_UNAVAILABLE))
    if _ignores_transaction_number(case):
        found.append(Warning(codes.TRANSACTION_NUMBER_IGNORED, field="transaction_number"))
    return tuple(found)


def _binding(case: Case) -> otp.Binding:
    return otp.Binding(
        action=OtpAction.REDEMPTION,
        customer=case.owner,
        program_id=case.ruling.program_id,
        counterparty_id=None,
        points=case.command.points,
        category=case.command.category,
        pooled=case.command.pooled,
    )
