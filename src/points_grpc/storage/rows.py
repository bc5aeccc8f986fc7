"""Rows to typed data: the shape of every row that is read, and what it becomes.

Each `…_COLUMNS` names the columns of a query in order, and the function beside it takes rows of that shape apart. The
hot ones write every argument by position and look enums up in tuples, which halves their price.
"""

from __future__ import annotations

from functools import lru_cache

from points_grpc.domain.model import (
    Account,
    BucketKey,
    Channel,
    Customer,
    FraudStatus,
    HeldLot,
    Hold,
    HoldState,
    JournalEntry,
    Kind,
    Lot,
    MadeTransfer,
    MissedCall,
    Notice,
    Otp,
    OtpAction,
    OtpCounter,
    OtpState,
    Posting,
    Purchase,
    RedeemedLot,
    Redemption,
    Source,
    StatusLabel,
    WaitingMessage,
    Wallet,
    WalletKey,
)
from points_grpc.domain.outcome import Party
from points_grpc.domain.views import AuditRow
from points_grpc.service.ports import RequestRecord, SealedMessage
from points_grpc.storage.codec import decode_fingerprint, decode_outcome, decode_point_value
from points_grpc.storage.driver import Row
from points_grpc.storage.times import (
    NEVER,
    from_micros,
    from_micros_or_none,
)

_FRAUD_STATUSES = {int(status): status for status in FraudStatus}
_STATUS_LABELS = {int(label): label for label in StatusLabel}
_SOURCES = {int(source): source for source in Source}
_ACCOUNTS = {int(account): account for account in Account}

CUSTOMER_COLUMNS = (
    "customer_id",
    "first_name",
    "last_name",
    "mobile",
    "email",
    "external_id",
    "campaign_contact",
    "fraud_status",
    "status_label",
    "transfers_locked_until",
    "merged_into",
    "created_at",
    "messages_failed",
    "locale",
    "erased_at",
)


def customer(row: Row) -> Customer:
    """A customer."""
    number, first, last, mobile, email, external, contact, fraud, label, locked, merged, created, *rest = row
    failed, locale, erased = rest
    return Customer(
        number,
        first,
        last,
        mobile,
        email,
        external,
        bool(contact),
        _FRAUD_STATUSES[fraud],
        _STATUS_LABELS[label],
        None if locked is None else from_micros(locked),
        merged,
        from_micros(created),
        bool(failed),
        locale,
        None if erased is None else from_micros(erased),
    )


PARTY_COLUMNS = ("customer_id", "first_name", "last_name", "external_id")


def party(row: Row) -> Party:
    """A customer's names."""
    customer_id, first_name, last_name, external_id = row
    return Party(customer_id, first_name, last_name, external_id or "")


WALLET_COLUMNS = (
    "customer_id",
    "program_id",
    "version",
    "current",
    "promised",
    "held",
    "lifetime_earned",
    "lifetime_received",
    "lifetime_purchases",
    "enrolled_at",
    "due_at",
    "buckets",
    "days",
)
BUCKETS, DAYS = WALLET_COLUMNS.index("buckets"), WALLET_COLUMNS.index("days")
"""Where a wallet's row has its lists, which `wallet_texts` reads."""


def wallet(row: Row) -> Wallet:
    """A wallet, without its lists."""
    (
        customer_id,
        program_id,
        version,
        current,
        promised,
        held,
        earned,
        received,
        purchases,
        enrolled_at,
        due_at,
        _,
        _,
    ) = row
    return Wallet(
        WalletKey(customer_id, program_id),
        version,
        current,
        promised,
        held,
        earned,
        received,
        purchases,
        None if enrolled_at is None else from_micros(enrolled_at),
        None if due_at is None else from_micros(due_at),
    )


@lru_cache(maxsize=4096)
def bucket(earning_program_id: int, source: int, category: str) -> BucketKey:
    """The key of a bucket. Cached: an organisation has few, and a named tuple takes long to make."""
    return BucketKey(earning_program_id, _SOURCES[source], category)


LOT_COLUMNS = (
    "customer_id",
    "program_id",
    "expires_at",
    "awarded_at",
    "lot_id",
    "earning_program_id",
    "source",
    "category",
    "points",
    "remaining",
    "held",
    "available_from",
    "promised",
    "parent_lot_id",
    "root_lot_id",
    "transaction_id",
)
"""Starts with wallet and spending order, so that sorted rows stand in the order in which they are spent."""


def lot(row: Row) -> Lot:
    """A lot."""
    (
        customer_id,
        program_id,
        expires_at,
        awarded_at,
        lot_id,
        earning_program_id,
        source,
        category,
        points,
        remaining,
        held,
        available_from,
        promised,
        parent_lot_id,
        root_lot_id,
        transaction_id,
    ) = row
    return Lot(
        lot_id,
        WalletKey(customer_id, program_id),
        bucket(earning_program_id, source, category),
        points,
        remaining,
        held,
        from_micros(awarded_at),
        None if available_from is None else from_micros(available_from),
        bool(promised),
        None if expires_at == NEVER else from_micros(expires_at),
        parent_lot_id,
        root_lot_id,
        transaction_id,
    )


MADE_TRANSFER_COLUMNS = ("transaction_id", "customer_id", "counterparty_id", "program_id", "points")


def made_transfer(row: Row) -> MadeTransfer:
    """A transfer that was made."""
    transfer_id, source_id, destination_id, program_id, points = row
    return MadeTransfer(transfer_id, source_id, destination_id, program_id, points)


OTP_COLUMNS = (
    "otp_id",
    "customer_id",
    "action",
    "program_id",
    "counterparty_id",
    "points_max",
    "category",
    "pooled",
    "code_hash",
    "key_id",
    "state",
    "attempts_left",
    "issued_at",
    "expires_at",
    "due_until",
)


def otp(row: Row) -> Otp:
    """The last one-time code of a customer for an action and a program."""
    (
        otp_id,
        customer_id,
        action,
        program_id,
        counterparty_id,
        points_max,
        category,
        pooled,
        code_hash,
        key_id,
        state,
        attempts_left,
        issued_at,
        expires_at,
        due_until,
    ) = row
    return Otp(
        otp_id,
        customer_id,
        OtpAction(action),
        program_id,
        counterparty_id,
        points_max,
        category,
        bool(pooled),
        code_hash,
        key_id,
        OtpState(state),
        attempts_left,
        from_micros(issued_at),
        from_micros(expires_at),
        from_micros_or_none(due_until),
    )


OTP_COUNTER_COLUMNS = (
    "customer_id",
    "action",
    "window_started_at",
    "window_ends_at",
    "issues",
    "wrong_attempts",
)


def otp_counter(row: Row) -> OtpCounter:
    """The counters of a customer for an action."""
    customer_id, action, window_started_at, window_ends_at, issues, wrong_attempts = row
    window = from_micros(window_started_at), from_micros(window_ends_at)
    return OtpCounter(customer_id, OtpAction(action), *window, issues, wrong_attempts)


REDEMPTION_COLUMNS = (
    "redemption_id",
    "transaction_id",
    "customer_id",
    "program_id",
    "points",
    "reversed",
    "redeemed_at",
    "redemption_time",
    "transaction_number",
    "external_reference",
    "last_reversed_at",
)


def redemption(row: Row, lots: tuple[RedeemedLot, ...]) -> Redemption:
    """A redemption with what it took from lots."""
    number, transaction_id, customer_id, program_id, points, reverted, made, time, bill, reference, last = row
    return Redemption(
        redemption_id=number,
        transaction_id=transaction_id,
        customer_id=customer_id,
        program_id=program_id,
        points=points,
        reversed=reverted,
        redeemed_at=from_micros(made),
        redemption_time=from_micros_or_none(time),
        transaction_number=bill,
        external_reference=reference,
        last_reversed_at=from_micros_or_none(last),
        lots=lots,
    )


REDEEMED_LOT_COLUMNS = ("redemption_id", "lot_id", "customer_id", "program_id", "points", "reversed")


def redeemed_lot(row: Row) -> tuple[str, RedeemedLot]:
    """What a redemption, named first, took from a lot."""
    redemption_id, lot_id, customer_id, program_id, points, reverted = row
    return redemption_id, RedeemedLot(lot_id, customer_id, program_id, points, reverted)


HOLD_COLUMNS = (
    "hold_id",
    "transaction_id",
    "customer_id",
    "program_id",
    "points",
    "state",
    "held_at",
    "expires_at",
    "redemption_time",
    "transaction_number",
    "external_reference",
    "point_value",
    "policy_revision",
    "captured",
    "closed_at",
    "closing_transaction_id",
)


def hold(row: Row, lots: tuple[HeldLot, ...]) -> Hold:
    """A hold with what it keeps of lots."""
    number, made_by, customer_id, program_id, points, state, held, expires, time, bill, reference, worth, *rest = row
    policy_revision, captured, closed_at, closed_by = rest
    return Hold(
        hold_id=number,
        transaction_id=made_by,
        customer_id=customer_id,
        program_id=program_id,
        points=points,
        state=HoldState(state),
        held_at=from_micros(held),
        expires_at=from_micros(expires),
        redemption_time=from_micros_or_none(time),
        transaction_number=bill,
        external_reference=reference,
        point_value=None if worth is None else decode_point_value(worth),
        policy_revision=policy_revision,
        captured=captured,
        closed_at=from_micros_or_none(closed_at),
        closing_transaction_id=closed_by,
        lots=lots,
    )


HELD_LOT_COLUMNS = ("hold_id", "lot_id", "customer_id", "program_id", "points")


def held_lot(row: Row) -> tuple[str, HeldLot]:
    """What a hold, named first, keeps of a lot."""
    hold_id, lot_id, customer_id, program_id, points = row
    return hold_id, HeldLot(lot_id, customer_id, program_id, points)


MISSED_CALL_COLUMNS = ("call_id", "customer_id", "mobile", "called_at", "recorded_at", "used_by")


def missed_call(row: Row) -> MissedCall:
    """A missed call."""
    call_id, customer_id, mobile, called_at, recorded_at, used_by = row
    return MissedCall(call_id, customer_id, mobile, from_micros(called_at), from_micros(recorded_at), used_by)


PURCHASE_COLUMNS = ("transaction_number", "customer_id", "program_id", "amount")


def purchase(row: Row) -> Purchase:
    """A bill."""
    transaction_number, customer_id, program_id, amount = row
    return Purchase(transaction_number, customer_id, program_id, amount)


REQUEST_COLUMNS = ("request_id", "operation", "key_id", "fingerprint", "accepted", "outcome", "created_at")


def request(row: Row) -> RequestRecord:
    """The recorded outcome of a request id."""
    request_id, operation, key_id, fingerprint, accepted, outcome, created_at = row
    return RequestRecord(
        request_id=request_id,
        operation=operation,
        key_id=key_id,
        fingerprint=decode_fingerprint(fingerprint),
        outcome=decode_outcome(outcome, operation=operation, accepted=bool(accepted)),
        created_at=from_micros(created_at),
    )


MESSAGE_COLUMNS = (
    "org_id",
    "message_id",
    "customer_id",
    "action",
    "channel",
    "target",
    "sealed",
    "key_id",
    "attempts",
    "created_at",
    "expires_at",
)


def message(row: Row) -> SealedMessage:
    """A message of the outbox, with the customer's locale after its columns."""
    org_id, message_id, customer_id, action, channel, target, sealed, key_id, attempts, created, expires, locale = row
    return SealedMessage(
        org_id=org_id,
        message_id=message_id,
        customer_id=customer_id,
        action=OtpAction(action),
        channel=Channel(channel),
        target=target,
        sealed=bytes(sealed),
        key_id=key_id,
        attempts=attempts,
        created_at=from_micros(created),
        expires_at=from_micros(expires),
        locale=locale,
    )


NOTICE_COLUMNS = ("org_id", "event_id", "customer_id", "kind", "created_at", "tried_since", "body", "attempts")


def notice(row: Row) -> Notice:
    """A business event that waits."""
    org_id, event_id, customer_id, kind, created_at, tried_since, body, attempts = row
    since = from_micros(tried_since)
    return Notice(org_id, event_id, customer_id, Kind(kind), from_micros(created_at), bytes(body), attempts, since)


TRANSACTION_COLUMNS = (
    "transaction_id",
    "stream",
    "position",
    "kind",
    "created_at",
    "customer_id",
    "counterparty_id",
    "program_id",
    "points",
    "request_id",
    "actor",
    "notes",
    "policy_revision",
    "transaction_number",
)


def entry(row: Row, postings: tuple[Posting, ...]) -> tuple[JournalEntry, int, int]:
    """A journal transaction with postings, its stream and its position."""
    (
        transaction_id,
        stream,
        position,
        kind,
        created_at,
        customer_id,
        counterparty_id,
        program_id,
        points,
        request_id,
        actor,
        notes,
        policy_revision,
        transaction_number,
    ) = row
    found = JournalEntry(
        transaction_id=transaction_id,
        kind=Kind(kind),
        created_at=from_micros(created_at),
        customer_id=customer_id,
        counterparty_id=counterparty_id,
        program_id=program_id,
        points=points,
        request_id=request_id,
        actor=actor,
        notes=notes,
        policy_revision=policy_revision,
        postings=postings,
        transaction_number=transaction_number,
    )
    return found, stream, position


POSTING_COLUMNS = (
    "transaction_id",
    "account",
    "customer_id",
    "program_id",
    "lot_id",
    "points",
    "wallet_version",
    "balance_after",
    "held",
)


def posting(row: Row) -> tuple[int, Posting]:
    """A posting, behind the id of its transaction."""
    transaction_id, account, customer_id, program_id, lot_id, points, wallet_version, balance_after, held = row
    return transaction_id, Posting(
        _ACCOUNTS[account],
        customer_id or 0,
        program_id,
        lot_id or 0,
        points,
        wallet_version or 0,
        balance_after or 0,
        held,
    )


WAITING_MESSAGE_COLUMNS = ("customer_id", "message_id", "action", "attempts", "last_error")


def waiting_message(row: Row) -> tuple[int, WaitingMessage]:
    """A message that was not delivered yet, and whose it is."""
    customer_id, message_id, action, attempts, error = row
    return customer_id, WaitingMessage(message_id, OtpAction(action), attempts, error)


AUDIT_COLUMNS = ("audit_id", "at", "actor", "action", "subject", "before", "after", "reason")


def audit(row: Row) -> AuditRow:
    """A line of the audit log."""
    audit_id, at, actor, action, subject, before, after, reason = row
    return AuditRow(audit_id, from_micros(at), actor, action, subject, before, after, reason)
