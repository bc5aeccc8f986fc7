"""One-time codes: how they are derived, issued, bound, tried and used up.

The binding is judged before the digits: a code for another operation is a MISMATCH, no digits are compared and no
attempt is counted. Wrong, expired, used and exhausted codes read alike (INVALID). A wrong attempt is an event of the
refusal, so that it is committed although the command is refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.context import Context
from points_grpc.domain.events import Event, MessageQueued, MessagesCancelled, OtpCounterSaved, OtpSaved
from points_grpc.domain.model import Channel, Customer, Message, Otp, OtpAction, OtpCounter, OtpState
from points_grpc.domain.outcome import Accepted, Challenge, Outcome, Refused
from points_grpc.domain.policy import Alphabet, OtpPolicy, OtpRequirement
from points_grpc.domain.snapshot import Snapshot

DUE_FOR = timedelta(hours=24)
"""How long after an issue transfers need a code (IF_ISSUED), unless one is consumed before."""

_ALPHABETS = {
    Alphabet.NUMERIC: "0123456789",
    Alphabet.ALPHANUMERIC: "23456789ABCDEFGHJKLMNPQRSTUVWXYZ",
}


MASKED_MIN = 4
"""How many characters of a number an answer never shows."""


class Binding(Struct, frozen=True):
    """The operation that a code is for. `points`: the most it allows, or what is asked."""

    action: OtpAction
    customer: Customer
    program_id: int
    counterparty_id: int | None
    points: int
    category: str
    pooled: bool


SEED_BYTES = 32
"""How many random bytes a code is made from."""


def derive_code(seed: bytes, policy: OtpPolicy) -> str:
    """A code from 32 random bytes: uniform over the alphabet to within 2^-200."""
    if len(seed) != SEED_BYTES:
        raise ValueError("a code can be guessed unless it comes from as many random bytes")
    letters = _ALPHABETS[policy.alphabet]
    number = int.from_bytes(seed, "big")
    code = ""
    for _ in range(policy.length):
        number, index = divmod(number, len(letters))
        code += letters[index]
    return code


def is_due(snapshot: Snapshot, customer_id: int, program_id: int, requirement: OtpRequirement) -> bool:
    """Whether a transfer of the customer from the program needs a code now."""
    if requirement is not OtpRequirement.IF_ISSUED:
        return requirement is OtpRequirement.REQUIRED
    issued = snapshot.otps(customer_id, OtpAction.TRANSFER).get(program_id)
    return issued is not None and issued.due_until is not None and issued.due_until > snapshot.now


def attempts_exhausted(snapshot: Snapshot, customer_id: int, action: OtpAction, policy: OtpPolicy) -> OtpCounter | None:
    """The customer's wrong attempts over all codes of the window, where they bar another one until its end."""
    counter = counting(snapshot, customer_id, action)
    return counter if counter is not None and counter.wrong_attempts >= policy.attempts_per_window else None


def counting(snapshot: Snapshot, customer_id: int, action: OtpAction) -> OtpCounter | None:
    """What was counted in the window that goes on; None where none does.

    All programs count together, and each has its own idea of how long: the longest of them holds for all, or whoever is
    locked out by one program would be let in again by way of another (docs/decisions/0156).
    """
    counter = snapshot.otp_counter(customer_id, action)
    if counter is None:
        return None
    ends_at = max(counter.window_ends_at, counter.window_started_at + _window(snapshot))
    return None if snapshot.now >= ends_at else replace(counter, window_ends_at=ends_at)


class Proof(Struct, frozen=True):
    """What trying a code came to: a refusal or none, and the events that either leaves."""

    refused: Refused | None = None
    events: tuple[Event, ...] = ()


def try_code(snapshot: Snapshot, context: Context, binding: Binding, code: str, *, due: bool) -> Proof:
    """Judges the code that came with a command, or that none came."""
    issued = snapshot.otps(binding.customer.customer_id, binding.action)
    live = next((otp for otp in issued.values() if otp.state is OtpState.LIVE), None)
    if not code:
        return Proof(_invalid("MISSING", live)) if due else Proof()
    if not issued:
        return Proof(_invalid("NOT_ISSUED", None))
    if live is None:
        return Proof(_invalid("INVALID", None))
    if not _binds(live, binding):
        return Proof(_invalid("MISMATCH", live))
    if _is_over(live, snapshot.now) or live.attempts_left <= 0:
        return Proof(_invalid("INVALID", None))
    expected = context.code_hash(live.key_id, code_content(live.otp_id, context.submission.org_id, code))
    if expected is None or not hmac.compare_digest(expected, live.code_hash):
        return _wrong(snapshot, live)
    return Proof(events=(OtpSaved(replace(live, state=OtpState.USED, due_until=None)),))


def code_is_spent(outcome: Outcome) -> bool:
    """Whether a code that came with a command is no good since: used up by it, or judged and found no good code.

    Any other refusal came before the digits, which may be those of a code that still waits to be used.
    """
    if isinstance(outcome, Accepted):
        return True
    return outcome.code is codes.INVALID_VALIDATION_CODE and outcome.metadata.get("otp_state") == "INVALID"


def _is_over(otp: Otp, now: datetime) -> bool:
    """Whether its life is over. A clock that goes back prolongs none: as long before its issue a code is over, too."""
    return not otp.issued_at - (otp.expires_at - otp.issued_at) <= now <= otp.expires_at


def code_content(otp_id: int, org_id: int, code: str) -> bytes:
    """What the keyed hash of a code covers."""
    return f"{org_id}\x1f{otp_id}\x1f{code.strip().upper()}".encode()


class Issue(Struct, frozen=True):
    """A code that was issued, or why not."""

    refused: Refused | None = None
    challenge: Challenge | None = None
    events: tuple[Event, ...] = ()


def issue(snapshot: Snapshot, context: Context, binding: Binding, policy: OtpPolicy) -> Issue:
    """Issues a code: kills the live one, counts against the window, queues the message."""
    customer = binding.customer
    counter = _counter(snapshot, customer.customer_id, binding.action)
    if counter.issues >= policy.issues_per_window:
        return Issue(_issue_limit(snapshot, counter, policy))
    target = _target(customer, policy, context.channels)
    if target is None:
        cause = "NO_CHANNEL" if not _addresses(customer, policy) else "NO_SENDER"
        return Issue(Refused(codes.OTP_NOT_ISSUED, {"cause": cause}))
    channel, address = target
    code = derive_code(context.submission.otp_seed, policy)
    otp = _new_otp(snapshot, context, binding, policy, code)
    message = Message(
        message_id=context.next_id(),
        customer_id=customer.customer_id,
        action=binding.action,
        otp_id=otp.otp_id,
        channel=channel,
        target=address,
        secret=code,
        created_at=snapshot.now,
        expires_at=otp.expires_at,
    )
    replaced = tuple(
        OtpSaved(replace(old, state=OtpState.REPLACED))
        for old in snapshot.otps(customer.customer_id, binding.action).values()
        if old.state is OtpState.LIVE and old.program_id != otp.program_id
    )
    return Issue(
        challenge=Challenge(
            mask(channel, address), (channel.value,), otp.expires_at, otp.attempts_left, otp.customer_id
        ),
        events=(
            *replaced,
            OtpSaved(otp),
            OtpCounterSaved(replace(counter, issues=counter.issues + 1)),
            MessagesCancelled(customer.customer_id, binding.action),
            MessageQueued(message),
        ),
    )


def mask(channel: Channel, address: str) -> str:
    """An address as an answer may show it: enough to recognise, too little to use. Of a short one less is shown."""
    if channel is Channel.EMAIL:
        local, _, domain = address.partition("@")
        return f"{local[:1] if len(local) > 1 else ''}***@{domain}"
    if len(address) >= MASKED_MIN + 7:
        return f"{address[:3]}{'*' * (len(address) - 7)}{address[-4:]}"
    shown = max(0, min(4, len(address) - MASKED_MIN))
    return "*" * max(MASKED_MIN, len(address) - shown) + address[len(address) - shown :]


def _new_otp(snapshot: Snapshot, context: Context, binding: Binding, policy: OtpPolicy, code: str) -> Otp:
    otp_id = context.next_id()
    code_hash = context.code_hash(context.code_key_id, code_content(otp_id, context.submission.org_id, code))
    assert code_hash is not None, "the key for new codes is at hand"
    return Otp(
        otp_id=otp_id,
        customer_id=binding.customer.customer_id,
        action=binding.action,
        program_id=binding.program_id,
        counterparty_id=binding.counterparty_id,
        points_max=binding.points,
        category=binding.category,
        pooled=binding.pooled,
        code_hash=code_hash,
        key_id=context.code_key_id,
        state=OtpState.LIVE,
        attempts_left=policy.attempts,
        issued_at=snapshot.now,
        expires_at=snapshot.now + timedelta(seconds=policy.validity_s),
        due_until=snapshot.now + DUE_FOR,
    )


def _binds(otp: Otp, binding: Binding) -> bool:
    return (
        otp.program_id == binding.program_id
        and otp.counterparty_id == binding.counterparty_id
        and binding.points <= otp.points_max
        and otp.category == binding.category
        and otp.pooled == binding.pooled
    )


def _wrong(snapshot: Snapshot, live: Otp) -> Proof:
    tried = replace(live, attempts_left=live.attempts_left - 1)
    counter = _counter(snapshot, live.customer_id, live.action)
    return Proof(
        _invalid("INVALID", tried),
        (OtpSaved(tried), OtpCounterSaved(replace(counter, wrong_attempts=counter.wrong_attempts + 1))),
    )


def _invalid(state: str, live: Otp | None) -> Refused:
    attempts_left = live.attempts_left if live else 0
    return Refused(codes.INVALID_VALIDATION_CODE, {"otp_state": state, "attempts_left": str(attempts_left)})


def _issue_limit(snapshot: Snapshot, counter: OtpCounter, policy: OtpPolicy) -> Refused:
    metadata: Mapping[str, str] = {
        "limit": str(policy.issues_per_window),
        "used": str(counter.issues),
        "resets_at": counter.window_ends_at.isoformat(),
    }
    wait_s = max(0.0, (counter.window_ends_at - snapshot.now).total_seconds())
    return Refused(codes.OTP_ISSUE_LIMIT, metadata, retry_after_s=wait_s, quota="otp_issues_per_window")


def _counter(snapshot: Snapshot, customer_id: int, action: OtpAction) -> OtpCounter:
    """What was counted in the window that goes on, or the beginning of one."""
    now = snapshot.now
    return counting(snapshot, customer_id, action) or OtpCounter(customer_id, action, now, now + _window(snapshot))


def _window(snapshot: Snapshot) -> timedelta:
    """How long a window is: as long as the longest of the organisation's programs."""
    return timedelta(seconds=max(program.policy.otp.window_s for program in snapshot.book.programs.values()))


def _addresses(customer: Customer, policy: OtpPolicy) -> list[tuple[Channel, str]]:
    known = {Channel.MOBILE: customer.mobile, Channel.EMAIL: customer.email}
    return [(channel, address) for name in policy.channels if (address := known[channel := Channel(name)])]


def _target(customer: Customer, policy: OtpPolicy, channels: frozenset[Channel]) -> tuple[Channel, str] | None:
    return next((one for one in _addresses(customer, policy) if one[0] in channels), None)
