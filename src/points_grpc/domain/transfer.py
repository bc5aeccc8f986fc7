"""Transfers: may these points go from one customer to another, and what does it do?

Rules of this file: the guards of `judge` stand in the documented order, one a line, and each refuses with one code
(tests/domain/test_transfer.py proves the order). The check, the issue of a code and the transfer itself share `judge`:
a check is the deed's decision without the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from points_grpc import codes
from points_grpc.domain import otp, status
from points_grpc.domain.balances import (
    balance_after,
    holdings,
    program_shares,
    transferable,
)
from points_grpc.domain.commands import CheckTransfer, IssueTransferOtp, TransferPoints
from points_grpc.domain.conditions import unmet_condition
from points_grpc.domain.configuration import (
    FRAUD_CHECK,
    POOLING_ALLOWED,
    TRANSFERS_ALLOWED,
    first_invalid,
    is_on,
    parse_switch,
)
from points_grpc.domain.context import Context
from points_grpc.domain.events import Booked, Event, LifetimeRaised, VelocityCounted
from points_grpc.domain.journal import EntryBuilder
from points_grpc.domain.lots import Draw, child_of, draw
from points_grpc.domain.model import (
    Account,
    BucketKey,
    Customer,
    JournalEntry,
    Kind,
    OtpAction,
    ProgramBook,
    WalletKey,
)
from points_grpc.domain.outcome import (
    Accepted,
    Balance,
    CheckTransferResult,
    Decision,
    IssueOtpResult,
    ProgramShare,
    Refused,
    TransferResult,
    Warning,
)
from points_grpc.domain.policy import Direction, OtpRequirement, VelocityLimit
from points_grpc.domain.snapshot import Directory, DuplicateKey, Keys, Lookups, Snapshot

REASONED_LOCK = "OPERATOR"
WRONG_CODES_LOCK = "WRONG_CODES"


def lookups(command: TransferPoints) -> Lookups:
    """What a transfer names."""
    return Lookups(identifiers=(command.source, command.destination))


def keys(command: TransferPoints, directory: Directory, book: ProgramBook) -> Keys:
    """What a transfer needs loaded."""
    source_id = directory.customers.get(command.source)
    destination_id = directory.customers.get(command.destination)
    known = frozenset(one for one in (source_id, destination_id) if one is not None)
    program = book.program(command.program_id)
    if program is None:
        return Keys(customers=known)
    policy = program.policy.transfer
    # A party whom nobody knows may be created earlier in the batch: what the other needs is declared all the same.
    sources = () if source_id is None else (source_id,)
    velocity = [WalletKey(one, program.program_id) for one in known] if policy.velocity_limits else ()
    duplicates: frozenset[tuple[DuplicateKey, int]] = frozenset()
    if policy.duplicate_window_s and source_id is not None and destination_id is not None:
        duplicate = DuplicateKey(source_id, destination_id, program.program_id, command.points)
        duplicates = frozenset({(duplicate, policy.duplicate_window_s)})
    return Keys(
        customers=known,
        draws={
            WalletKey(one, member): command.points
            for one in sources
            for member in book.pool(program, pooled=command.pooled)
        },
        barred=frozenset(policy.barred_sources),
        # A lock by wrong codes (904) is judged for every transfer, so the counters are always needed.
        otps=frozenset((one, OtpAction.TRANSFER) for one in sources),
        velocity=frozenset(velocity),
        duplicates=duplicates,
    )


# -- decisions -------------------------------------------------------------------------------------------------------


def decide_transfer(command: TransferPoints, context: Context, snapshot: Snapshot) -> Decision:
    """Moves the points, or says why not."""
    case = Case(command, snapshot)
    if refused := judge(case):
        return Decision(refused)
    due, proof = _code_is_due(case), otp.Proof()
    if due or command.code:
        proof = otp.try_code(snapshot, context, _binding(case), command.code, due=due)
    if proof.refused:
        return Decision(proof.refused, proof.events)
    plan = _plan(case)
    transfer_id = context.next_id()
    entry, balances = _book(case, plan, context, transfer_id)
    result = TransferResult(
        transfer_id=transfer_id,
        source_id=case.sender.customer_id,
        destination_id=case.receiver.customer_id,
        program_id=case.ruling.program_id,
        points=command.points,
        made_at=snapshot.now,
        notes=command.notes,
        shares=plan.shares,
        balances=balances,
    )
    events = (*proof.events, Booked(entry), *_counted(case))
    return Decision(Accepted(result, transaction_id=transfer_id), events)


def decide_check(command: CheckTransfer, context: Context, snapshot: Snapshot) -> Decision:
    """Says whether the transfer would be accepted now, and with `issue_otp` sends a code."""
    case = Case(command.transfer, snapshot)
    if refused := judge(case):
        return Decision(refused)
    plan = _plan(case)
    _, balances = _book(case, plan, context, transfer_id=0)
    issued = otp.issue(snapshot, context, _binding(case), case.ruling.policy.otp) if command.issue_otp else otp.Issue()
    warnings: tuple[Warning, ...] = ()
    if issued.refused:
        cause = issued.refused.metadata.get("cause", "ISSUE_LIMIT")
        warnings = (Warning(codes.REDEEMABLE_BUT_OTP_NOT_ISSUED, {"cause": cause}),)
    requirement = case.ruling.policy.otp.transfer
    result = CheckTransferResult(
        points=case.command.points,
        shares=plan.shares,
        balances_after=balances,
        challenge=issued.challenge,
        code_required=_code_is_due(case) or (issued.challenge is not None and requirement is not OtpRequirement.OFF),
    )
    return Decision(Accepted(result, warnings), issued.events)


def decide_issue_otp(command: IssueTransferOtp, context: Context, snapshot: Snapshot) -> Decision:
    """Sends a code for the transfer to its source."""
    case = Case(command.transfer, snapshot)
    if refused := judge(case):
        return Decision(refused)
    _plan(case)  # a code for a deed that would touch too many lots (10015) is not sent
    issued = otp.issue(snapshot, context, _binding(case), case.ruling.policy.otp)
    if issued.refused or issued.challenge is None:
        return Decision(issued.refused or Refused(codes.OTP_NOT_ISSUED))
    return Decision(Accepted(IssueOtpResult(issued.challenge)), issued.events)


# -- the case and its guards -----------------------------------------------------------------------------------------


class Case:
    """A transfer on its way through the guards: what the command's names stand for. None: there is no such thing.

    There once the guards have passed that find the program and the parties: `ruling`, the program named, whose policy
    judges; `sender` and `receiver`; `drawn_from`, the sender's wallets that the transfer may draw, enrolled ones of the
    program or of its group; `credited`, the receiver's wallet, in the program named, or pooled in the group's default.
    """

    __slots__ = (
        "command",
        "config",
        "credited",
        "destination",
        "drawn_from",
        "program",
        "receiver",
        "ruling",
        "sender",
        "snapshot",
        "source",
    )

    def __init__(self, command: TransferPoints, snapshot: Snapshot) -> None:
        """Finds what the command names."""
        self.command = command
        self.snapshot = snapshot
        self.config = snapshot.config
        self.program = program = snapshot.book.program(command.program_id)
        self.source = source = snapshot.find(command.source)
        self.destination = destination = snapshot.find(command.destination)
        if program is None:
            return
        self.ruling = program
        if source is None or destination is None:
            return
        self.sender = source
        self.receiver = destination
        self.drawn_from = _enrolled(snapshot, source, snapshot.book.pool(program, pooled=command.pooled))
        credited_in = program.program_id
        if command.pooled and program.group_id is not None:
            credited_in = snapshot.book.groups[program.group_id].default_program_id
        self.credited = WalletKey(destination.customer_id, credited_in)


def judge(case: Case) -> Refused | None:
    """The first rule that refuses the transfer, in the documented order; the code comes after all of them."""
    return (
        operations_run(case)
        or program_is_known(case)
        or policy_is_sound(case)
        or configuration_parses(case)
        or transfers_are_allowed(case)
        or pooling_is_possible(case)
        or customers_are_known(case)
        or nobody_is_merged_away(case)
        or customers_differ(case)
        or customers_are_eligible(case)
        or fraud_check_is_configured(case)
        or fraud_check_passes(case)
        or source_is_not_locked(case)
        or points_are_divisible(case)
        or redemption_conditions_hold(case)
        or transfer_is_no_duplicate(case)
        or velocity_allows(case)
        or current_points_suffice(case)
        or transferable_points_suffice(case)
    )


def operations_run(case: Case) -> Refused | None:
    """898: an operator paused the organisation or the program; pooled: any program of the group."""
    book = case.snapshot.book
    if book.paused:
        return Refused(codes.TRANSFER_UNAVAILABLE, {"cause": "ORGANISATION_PAUSED"})
    if case.program is not None and book.is_paused(book.pool(case.program, pooled=case.command.pooled)):
        return Refused(codes.TRANSFER_UNAVAILABLE, {"cause": "PROGRAM_PAUSED"})
    return None


def program_is_known(case: Case) -> Refused | None:
    """885: negative, unknown, inactive; or missing and there is no default program."""
    if case.program is None or not case.program.active:
        return Refused(
            codes.TRANSFER_INVALID_PROGRAM_ID, {"program_id": str(case.command.program_id)}, field="program_id"
        )
    return None


def policy_is_sound(case: Case) -> Refused | None:
    """899: the policy contradicts itself."""
    if fields := case.ruling.policy.contradictions:
        return Refused(codes.TRANSFER_PROGRAM_MISCONFIGURED, {"fields": ",".join(fields)})
    return None


def configuration_parses(case: Case) -> Refused | None:
    """888: a configuration key other than the fraud key does not parse."""
    if key := first_invalid(case.config):
        return Refused(codes.TRANSFER_CONFIGURATION_INVALID, {"key": key})
    return None


def transfers_are_allowed(case: Case) -> Refused | None:
    """818: transfers are off for the organisation or the program."""
    if not is_on(case.config, TRANSFERS_ALLOWED):
        return Refused(codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM, {"cause": "ORGANISATION"})
    if not case.ruling.policy.transfer.enabled:
        return Refused(codes.TRANSFER_NOT_ALLOWED_FOR_PROGRAM, {"cause": "PROGRAM"})
    return None


def pooling_is_possible(case: Case) -> Refused | None:
    """3316: pooled, and the program is in no group, or the organisation pools nothing."""
    if not case.command.pooled:
        return None
    if case.ruling.group_id is None:
        return Refused(codes.GROUP_TRANSFER_FOR_NON_GROUP, {"cause": "NO_GROUP"}, field="group_program_transfer")
    if not is_on(case.config, POOLING_ALLOWED):
        return Refused(codes.GROUP_TRANSFER_FOR_NON_GROUP, {"cause": "POOLING_OFF"}, field="group_program_transfer")
    return None


def customers_are_known(case: Case) -> Refused | None:
    """8015: no such customer in the organisation."""
    if case.source is None:
        return Refused(codes.TRANSFER_CUSTOMER_NOT_FOUND, {"party": "SOURCE"}, field="from_customer_identifier.value")
    if case.destination is None:
        return Refused(
            codes.TRANSFER_CUSTOMER_NOT_FOUND, {"party": "DESTINATION"}, field="to_customer_identifier.value"
        )
    return None


def nobody_is_merged_away(case: Case) -> Refused | None:
    """419: an identifier names an account that was merged away."""
    for customer in (case.sender, case.receiver):
        if customer.merged_into is not None:
            return Refused(
                codes.MERGED_CUSTOMER,
                {"customer_id": str(customer.customer_id), "survivor_id": str(customer.merged_into)},
            )
    return None


def customers_differ(case: Case) -> Refused | None:
    """418: both identifiers name the same customer."""
    if case.sender.customer_id == case.receiver.customer_id:
        return Refused(codes.SAME_CUSTOMER, field="to_customer_identifier")
    return None


def customers_are_eligible(case: Case) -> Refused | None:
    """901: a party is not enrolled, or a label other than fraud bars it."""
    if not case.drawn_from:
        return Refused(codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE, {"party": "SOURCE", "cause": "NOT_ENROLLED"})
    if not _is_enrolled(case.snapshot, case.credited):
        return Refused(codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE, {"party": "DESTINATION", "cause": "NOT_ENROLLED"})
    if status.label_bars(case.sender, case.config):
        return Refused(codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE, {"party": "SOURCE", "cause": "STATUS_LABEL"})
    if status.label_bars(case.receiver, case.config):
        return Refused(codes.TRANSFER_CUSTOMER_NOT_ELIGIBLE, {"party": "DESTINATION", "cause": "STATUS_LABEL"})
    return None


def fraud_check_is_configured(case: Case) -> Refused | None:
    """413: the configuration could not be read. 412: the fraud key is unset, or neither true nor false."""
    if not case.config.available:
        return Refused(codes.FRAUD_CHECK_CONFIG_UNAVAILABLE, {"key": FRAUD_CHECK})
    text = case.config.values.get(FRAUD_CHECK)
    if parse_switch(text) is None:
        return Refused(
            codes.FRAUD_CHECK_CONFIG_INVALID, {"key": FRAUD_CHECK, "value": "UNSET" if text is None else "INVALID"}
        )
    return None


def fraud_check_passes(case: Case) -> Refused | None:
    """417, 414, 415: both parties, the destination, the source are marked as frauds, and transfers check it."""
    if not parse_switch(case.config.values.get(FRAUD_CHECK)):
        return None
    source, destination = status.is_fraud(case.sender, case.config), status.is_fraud(case.receiver, case.config)
    if source and destination:
        return Refused(codes.FRAUD_CUSTOMER_EXISTS)
    if destination:
        return Refused(codes.DESTINATION_CUSTOMER_FRAUD)
    if source:
        return Refused(codes.SOURCE_CUSTOMER_FRAUD)
    return None


def source_is_not_locked(case: Case) -> Refused | None:
    """904: an operator locked the sender's transfers, or too many wrong codes did."""
    now, locked_until = case.snapshot.now, case.sender.transfers_locked_until
    if locked_until is not None and locked_until > now:
        return _locked(locked_until, REASONED_LOCK)
    exhausted = otp.attempts_exhausted(
        case.snapshot, case.sender.customer_id, OtpAction.TRANSFER, case.ruling.policy.otp
    )
    if exhausted is not None:
        return _locked(exhausted.window_ends_at, WRONG_CODES_LOCK)
    return None


def points_are_divisible(case: Case) -> Refused | None:
    """807: not a whole number of points, or not a multiple of the program's transfer multiple."""
    multiple = 10**case.ruling.decimal_places
    if case.command.points % multiple:
        return _not_divisible(case, multiple)
    multiple = case.ruling.policy.transfer.multiple
    if multiple and case.command.points % multiple:
        return _not_divisible(case, multiple)
    return None


def redemption_conditions_hold(case: Case) -> Refused | None:
    """827: the program ties transfers to its redemption conditions, and the sender does not meet them."""
    if not case.ruling.policy.transfer.redemption_conditions:
        return None
    unmet = unmet_condition(case.snapshot, case.drawn_from, case.ruling.policy.redemption)
    if unmet is None:
        return None
    return Refused(
        codes.TRANSFER_CONDITIONS_NOT_MET,
        {"cause": unmet.name, "actual": str(unmet.actual), "required": str(unmet.required)},
    )


def transfer_is_no_duplicate(case: Case) -> Refused | None:
    """902: an equal transfer was made inside the duplicate window of the policy."""
    window_s = case.ruling.policy.transfer.duplicate_window_s
    if not window_s:
        return None
    key = DuplicateKey(case.sender.customer_id, case.receiver.customer_id, case.ruling.program_id, case.command.points)
    made_at = case.snapshot.last_equal_transfer(key)
    if made_at is None or made_at + timedelta(seconds=window_s) <= case.snapshot.now:
        return None
    return Refused(codes.TRANSFER_DUPLICATE_REQUEST, {"cause": "DUPLICATE_WINDOW"})


def velocity_allows(case: Case) -> Refused | None:
    """903: points or number of transfers, out or in, over today, 7 or 30 days, would pass a limit.

    The first limit in the policy's order is told, and when the same transfer would pass all of them; no time where it
    asks for more than one of them itself.
    """
    passed = [one for limit in case.ruling.policy.transfer.velocity_limits for one in _passed(case, limit)]
    if not passed:
        return None
    first = passed[0]
    resets = [one.resets_at for one in passed if one.resets_at is not None]
    if len(resets) < len(passed):
        return Refused(codes.TRANSFER_LIMIT_EXCEEDED, first.metadata, quota=first.quota)
    metadata = {**first.metadata, "resets_at": max(resets).isoformat()}
    wait_s = (max(resets) - case.snapshot.now).total_seconds()
    return Refused(codes.TRANSFER_LIMIT_EXCEEDED, metadata, retry_after_s=wait_s, quota=first.quota)


def current_points_suffice(case: Case) -> Refused | None:
    """817: fewer current points than asked for; pooled: in the whole group."""
    current = 0
    for key in case.drawn_from:
        wallet = case.snapshot.wallet(key)
        current += 0 if wallet is None else wallet.current
    if current >= case.command.points:
        return None
    return Refused(
        codes.TRANSFER_INSUFFICIENT_POINTS,
        {"points": str(case.command.points), "current": str(current), "short_by": str(case.command.points - current)},
    )


def transferable_points_suffice(case: Case) -> Refused | None:
    """416: current points cover it, transferable points do not: barred sources, promised or held points."""
    free = transferable(case.snapshot, case.drawn_from, case.ruling.policy.transfer.barred_sources)
    if free >= case.command.points:
        return None
    have = holdings(case.snapshot, case.drawn_from)
    return Refused(
        codes.POINTS_NOT_TRANSFERABLE,
        {
            "points": str(case.command.points),
            "transferable": str(free),
            "barred": str(have.redeemable - free),
            "promised": str(have.promised),
            "held": str(have.held),
        },
    )


# -- what the guards and the deed need -------------------------------------------------------------------------------


def _enrolled(snapshot: Snapshot, customer: Customer, program_ids: Iterable[int]) -> tuple[WalletKey, ...]:
    """The customer's wallets in programs, those of enrolment alone."""
    found = [WalletKey(customer.customer_id, one) for one in program_ids]
    return tuple([key for key in found if _is_enrolled(snapshot, key)])


def _is_enrolled(snapshot: Snapshot, key: WalletKey) -> bool:
    wallet = snapshot.wallet(key)
    return wallet is not None and wallet.enrolled_at is not None


def _locked(until: datetime, cause: str) -> Refused:
    return Refused(codes.TRANSFER_LOCKED, {"locked_until": until.isoformat(), "cause": cause})


def _not_divisible(case: Case, multiple: int) -> Refused:
    return Refused(codes.TRANSFER_POINTS_NOT_DIVISIBLE, {"points": str(case.command.points), "multiple": str(multiple)})


class _Passed(Struct, frozen=True):
    """A limit that a transfer would pass; `resets_at` is when it would not, None if never."""

    metadata: Mapping[str, str]
    quota: str
    resets_at: datetime | None


def _passed(case: Case, limit: VelocityLimit) -> Iterator[_Passed]:
    """What of a limit a transfer would pass: its points, its number of transfers, or both."""
    party = case.sender if limit.direction is Direction.OUT else case.receiver
    today = case.snapshot.today(case.ruling.time_zone)
    by_day = case.snapshot.velocity(WalletKey(party.customer_id, case.ruling.program_id))
    days = [today - timedelta(days=ago) for ago in range(limit.window.days)]
    for name, maximum, index, more in (
        ("points", limit.points_max, 0, case.command.points),
        ("transfers", limit.transfers_max, 1, 1),
    ):
        counted = {day: by_day.get((limit.direction, day), (0, 0))[index] for day in days}
        used = sum(counted.values())
        if not maximum or used + more <= maximum:
            continue
        yield _Passed(
            metadata={
                "limit": str(maximum),
                "used": str(used),
                "window": limit.window.name,
                "direction": limit.direction.name,
            },
            quota=f"transfer_{name}_{limit.direction.name}_{limit.window.name}".lower(),
            resets_at=_resets_at(case, limit, counted, spare=maximum - more),
        )


def _resets_at(case: Case, limit: VelocityLimit, counted: Mapping[date, int], *, spare: int) -> datetime | None:
    """When no more than `spare` of what counts now still does; None if no window is long enough for that."""
    if spare < 0:
        return None
    left = sum(counted.values())
    reset_day = case.snapshot.today(case.ruling.time_zone) + timedelta(days=1)
    for day in sorted(counted):
        left -= counted[day]
        reset_day = day + timedelta(days=limit.window.days)
        if left <= spare:
            break
    return datetime.combine(reset_day, time.min, ZoneInfo(case.ruling.time_zone)).astimezone(UTC)


class Plan(Struct, frozen=True):
    """What an accepted transfer moves."""

    draws: tuple[Draw, ...]
    shares: tuple[ProgramShare, ...]


def _plan(case: Case) -> Plan:
    barred = case.ruling.policy.transfer.barred_sources
    draws = draw(case.snapshot, case.drawn_from, case.command.points, usable=lambda lot: lot.bucket[1] not in barred)
    return Plan(draws, program_shares(case.snapshot, draws, case.sender.customer_id))


def _book(case: Case, plan: Plan, context: Context, transfer_id: int) -> tuple[JournalEntry, tuple[Balance, ...]]:
    """The journal transaction, and the wallets as it leaves them: those drawn on, then the receiver's."""
    entry = EntryBuilder(case.snapshot)
    credited = case.credited
    taken: dict[WalletKey, list[tuple[BucketKey, int]]] = {}
    for one in plan.draws:
        entry.post(one.lot.wallet, one.lot.lot_id, -one.points)
        taken.setdefault(one.lot.wallet, []).append((one.lot.bucket, -one.points))
    for one in plan.draws:
        entry.open(child_of(one.lot, credited, one.points, lot_id=context.next_id(), transaction_id=transfer_id))
        if one.lot.program_id != credited.program_id:
            entry.system(Account.CLEARING, one.lot.program_id, one.points)
            entry.system(Account.CLEARING, credited.program_id, -one.points)
    given = [(one.lot.bucket, one.points) for one in plan.draws]
    balances = [
        balance_after(case.snapshot, key, version=entry.version_after(key), changes=changes)
        for key, changes in (*taken.items(), (credited, given))
    ]
    booked = entry.build(
        transaction_id=transfer_id,
        kind=Kind.TRANSFER,
        customer_id=case.sender.customer_id,
        counterparty_id=case.receiver.customer_id,
        program_id=case.ruling.program_id,
        points=case.command.points,
        context=context,
        notes=case.command.notes,
        policy_revision=case.ruling.policy.revision,
    )
    return booked, tuple(balances)


def _counted(case: Case) -> Iterable[Event]:
    points, today = case.command.points, case.snapshot.today(case.ruling.time_zone)
    sender, receiver = case.drawn_from[0], case.credited
    if case.command.pooled:  # counted in the program named, wherever the points come from and go to
        sender = WalletKey(case.sender.customer_id, case.ruling.program_id)
        receiver = WalletKey(case.receiver.customer_id, case.ruling.program_id)
    return (
        LifetimeRaised(case.credited, received=points),
        VelocityCounted(sender, Direction.OUT, today, points),
        VelocityCounted(receiver, Direction.IN, today, points),
    )


def _code_is_due(case: Case) -> bool:
    """Whether a code is due for the program named, or for one that a pooled transfer would draw on."""
    snapshot, ruling = case.snapshot, case.ruling
    if otp.is_due(snapshot, case.sender.customer_id, ruling.program_id, ruling.policy.otp.transfer):
        return True
    if not case.command.pooled:
        return False
    drawn = [snapshot.book.programs[key.program_id] for key in case.drawn_from]
    return any(otp.is_due(snapshot, case.sender.customer_id, one.program_id, one.policy.otp.transfer) for one in drawn)


def _binding(case: Case) -> otp.Binding:
    return otp.Binding(
        action=OtpAction.TRANSFER,
        customer=case.sender,
        program_id=case.ruling.program_id,
        counterparty_id=case.receiver.customer_id,
        points=case.command.points,
        category="",
        pooled=case.command.pooled,
    )
