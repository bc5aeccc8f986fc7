"""What a batch changed, written: about one bulk statement per kind of row, whatever the size of the batch.

Rules of this file: rows are tuples in the order of the columns of `schema`; a statement without rows is left out; what
must not have changed meanwhile is counted (`_all`). Nothing is decided here, and nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from points_grpc.domain.chain import EMPTY, StreamHead
from points_grpc.domain.erasure import person_in
from points_grpc.domain.model import Bucket, BucketKey, Hold, HoldState, Message, MissedCall, Redemption
from points_grpc.domain.outcome import Accepted
from points_grpc.domain.policy import MISSED_CALL_WINDOW_S_MAX
from points_grpc.domain.snapshot import Changes, Velocity
from points_grpc.service.ports import RequestRecord, SealedMessage, StorageConflict, WriterFenced
from points_grpc.storage import statements as sql
from points_grpc.storage import wallet_texts
from points_grpc.storage.codec import encode_fingerprint, encode_outcome, encode_point_value
from points_grpc.storage.collect import Collected, Rows
from points_grpc.storage.driver import Driver, Statement, Value
from points_grpc.storage.times import NEVER, to_micros, to_micros_or_none

CALLS_KEPT_DAYS = 400
"""How long a missed call that proved something is kept as evidence: a year, and time to ask."""

CALLS_PURGED_PER_CALL = 4
"""How many of the oldest calls are looked at for each new one."""


class Writer:
    """Writes the changes of one batch. Good for one use."""

    def __init__(
        self, driver: Driver, org_id: int, *, stream: int, head: StreamHead | None, salt: Callable[[], bytes]
    ) -> None:
        """Takes the journal stream and where this process left it; None if the stream has no row yet."""
        self._driver = driver
        self._org_id = org_id
        self._head_before = head
        self._collected = Collected(org_id, stream=stream, head=head or EMPTY, salt=salt)

    @property
    def head(self) -> StreamHead:
        """Where the batch left the journal stream."""
        return self._collected.head

    def write(self, changes: Changes, records: Sequence[RequestRecord], sealed: Sequence[SealedMessage]) -> None:
        """Writes everything. Parents come before children, for the foreign keys."""
        collected = self._collected
        collected.collect(changes.events)
        self._write_configuration()
        self._write_customers()
        self._write_wallets(changes)
        self._write_lots(changes)
        self._write_journal()
        self._write_redemptions()
        self._write_holds()
        self._write_missed_calls()
        self._write_codes(sealed)
        self._many(sql.INSERT_NOTICE, collected.notices)
        self._many(sql.DELETE_NOTICE, collected.notices_gone)
        self._many(sql.FAIL_NOTICE, collected.notices_failed)
        self._all(sql.UPSERT_PURCHASE, list(collected.purchases.values()))
        self._many(sql.INSERT_RETURN, collected.returns)
        self._many(sql.INSERT_AUDIT, collected.audits)
        self._write_requests(records)

    def _write_configuration(self) -> None:
        org_id, collected = self._org_id, self._collected
        self._many(sql.UPSERT_PROGRAM, list(collected.programs.values()))
        self._many(sql.INSERT_GROUP, collected.groups)
        self._many(sql.INSERT_POLICY, collected.policies)
        if collected.default_program is not None:
            self._driver.put(sql.SET_DEFAULT_PROGRAM, [(collected.default_program, org_id)])
        if collected.paused is not None:
            self._driver.put(sql.SET_PAUSED, [(int(collected.paused), org_id)])
        keys = collected.config_keys.items()
        self._many(sql.UPSERT_CONFIG_KEY, [(org_id, name, value) for name, value in keys if value is not None])
        self._many(sql.DELETE_CONFIG_KEY, [(org_id, name) for name, value in keys if value is None])
        if collected.book_changed:
            self._driver.put(sql.BUMP_BOOK, [(org_id,)])

    def _write_customers(self) -> None:
        created: Rows = []
        changed: Rows = []
        for customer, is_new in self._collected.customers.values():
            values: tuple[Value, ...] = (
                customer.first_name,
                customer.last_name,
                customer.mobile,
                customer.email,
                customer.external_id,
                int(customer.campaign_contact),
                customer.fraud_status.value,
                customer.status_label.value,
                to_micros_or_none(customer.transfers_locked_until),
                customer.merged_into,
                to_micros(customer.created_at),
                customer.messages_failed,
                customer.locale,
                to_micros_or_none(customer.erased_at),
            )
            if is_new:
                created.append((self._org_id, customer.customer_id, *values))
            else:
                changed.append((*values, self._org_id, customer.customer_id))
        self._all(sql.UPDATE_CUSTOMER, changed)
        self._many(sql.INSERT_CUSTOMER, created)

    def _write_wallets(self, changes: Changes) -> None:
        org_id = self._org_id
        opened: Rows = []
        changed: Rows = []
        no_buckets: Mapping[BucketKey, Bucket] = {}
        no_days: Velocity = {}
        for key, wallet in changes.wallets.items():
            values: tuple[Value, ...] = (
                wallet.version,
                wallet.current,
                wallet.promised,
                wallet.held,
                wallet.lifetime_earned,
                wallet.lifetime_received,
                wallet.lifetime_purchases,
                to_micros_or_none(wallet.enrolled_at),
                to_micros_or_none(wallet.due_at),
                wallet_texts.encode_buckets(changes.buckets.get(key, no_buckets)),
                wallet_texts.encode_velocity(changes.velocity.get(key, no_days)),
            )
            before = changes.wallets_before[key]
            if before is None:
                opened.append((org_id, *key, *values))
            else:
                changed.append((*values, org_id, *key, before.version))
        self._many(sql.INSERT_WALLET, opened)
        self._all(sql.UPDATE_WALLET, changed)

    def _write_lots(self, changes: Changes) -> None:
        org_id = self._org_id
        opened: Rows = []
        for lot in changes.lots_opened.values():
            opened.append(
                (
                    org_id,
                    lot.lot_id,
                    lot.customer_id,
                    lot.program_id,
                    lot.earning_program_id,
                    lot.source.value,
                    lot.category,
                    lot.points,
                    lot.remaining,
                    lot.held,
                    1 if lot.remaining else 0,
                    to_micros(lot.awarded_at),
                    to_micros_or_none(lot.available_from),
                    1 if lot.promised else 0,
                    NEVER if lot.expires_at is None else to_micros(lot.expires_at),
                    lot.parent_lot_id,
                    lot.root_lot_id,
                    lot.transaction_id,
                )
            )
        self._many(sql.INSERT_LOT, opened)
        drawn: Rows = []
        restated: Rows = []
        for lot_id, lot in changes.lots_changed.items():
            if lot.remaining and lot_id not in self._collected.restated_lots:
                drawn.append((lot.remaining, lot.held, org_id, lot_id))
            else:
                live, promised = 1 if lot.remaining else 0, 1 if lot.promised else 0
                restated.append((lot.remaining, lot.held, live, promised, org_id, lot_id))
        self._all(sql.UPDATE_LOT, drawn)
        self._all(sql.RESTATE_LOT, restated)

    def _write_journal(self) -> None:
        collected, before = self._collected, self._head_before
        if not collected.transactions:
            return
        if before is None:
            started = (self._org_id, collected.stream, *collected.head)
            fenced = WriterFenced("another writer started this writer's journal stream")
            self._driver.put(sql.INSERT_STREAM, [started], fenced)
        else:
            advanced = (*collected.head, self._org_id, collected.stream, before.position)
            fenced = WriterFenced("another writer advanced this writer's journal stream")
            self._driver.put(sql.ADVANCE_STREAM, [advanced], fenced)
        self._many(sql.INSERT_TRANSACTION, collected.transactions)
        self._many(sql.INSERT_POSTING, collected.postings)

    def _write_redemptions(self) -> None:
        org_id, collected = self._org_id, self._collected
        made: Rows = []
        made_lots: Rows = []
        changed: Rows = []
        changed_lots: Rows = []
        for redemption_id, (one, is_new) in collected.redemptions.items():
            if is_new:
                made.append(_redemption_row(org_id, one))
                made_lots += [
                    (org_id, redemption_id, lot.lot_id, seq, lot.customer_id, lot.program_id, lot.points, lot.reversed)
                    for seq, lot in enumerate(one.lots, start=1)
                ]
                continue
            changed.append((one.reversed, to_micros_or_none(one.last_reversed_at), org_id, redemption_id))
            touched = collected.reversed_lots[redemption_id]
            changed_lots += [
                (lot.reversed, org_id, redemption_id, lot.lot_id) for lot in one.lots if lot.lot_id in touched
            ]
        self._many(sql.INSERT_REDEMPTION, made)
        self._many(sql.INSERT_REDEEMED_LOT, made_lots)
        self._all(sql.UPDATE_REDEMPTION, changed)
        self._all(sql.UPDATE_REDEEMED_LOT, changed_lots)

    def _write_holds(self) -> None:
        opened: Rows = []
        lots: Rows = []
        closed: Rows = []
        for hold_id, (one, is_new) in self._collected.holds.items():
            if not is_new:
                closed.append((*_hold_end(one), self._org_id, hold_id, HoldState.OPEN.value))
                continue
            opened.append(_hold_row(self._org_id, one))
            lots += [
                (self._org_id, hold_id, lot.lot_id, seq, lot.customer_id, lot.program_id, lot.points)
                for seq, lot in enumerate(one.lots, start=1)
            ]
        self._many(sql.INSERT_HOLD, opened)
        self._many(sql.INSERT_HELD_LOT, lots)
        self._all(sql.CLOSE_HOLD, closed)

    def _write_missed_calls(self) -> None:
        recorded: Rows = []
        used: Rows = []
        for call_id, (one, is_new) in self._collected.missed_calls.items():
            if is_new:
                called_at, recorded_at = to_micros(one.called_at), to_micros(one.recorded_at)
                recorded.append(
                    (self._org_id, call_id, one.customer_id, one.mobile, called_at, recorded_at, one.used_by)
                )
            else:
                used.append((one.used_by, self._org_id, call_id))
        self._purge_missed_calls([one for one, is_new in self._collected.missed_calls.values() if is_new])
        self._many(sql.INSERT_MISSED_CALL, recorded)
        self._all(sql.USE_MISSED_CALL, used)

    def _purge_missed_calls(self, recorded: Sequence[MissedCall]) -> None:
        """Whoever records calls takes old ones away, a few at a time: so many more than come that none stays."""
        if not recorded:
            return
        now = max(to_micros(one.recorded_at) for one in recorded)
        useless = now - MISSED_CALL_WINDOW_S_MAX * 1_000_000
        callers = sorted({one.customer_id for one in recorded})
        self._many(sql.PURGE_MISSED_CALLS, [(self._org_id, customer_id, useless) for customer_id in callers])
        newest = max(one.call_id for one in recorded)
        limit = CALLS_PURGED_PER_CALL * len(recorded)
        kept_from = now - CALLS_KEPT_DAYS * 86_400_000_000
        self._driver.change(sql.PURGE_OLD_CALLS, (self._org_id, self._org_id, newest, limit, kept_from))

    def _write_codes(self, sealed: Sequence[SealedMessage]) -> None:
        org_id, collected = self._org_id, self._collected
        self._many(sql.UPSERT_OTP, list(collected.otps.values()))
        self._many(sql.UPSERT_OTP_COUNTER, list(collected.otp_counters.values()))
        by_id = {one.message_id: one for one in sealed}
        for step in collected.outbox_steps:
            self._many(sql.SETTLE_MESSAGE, step.settled)
            self._many(sql.RETRY_MESSAGE, step.retried)
            self._many(sql.CANCEL_MESSAGES, step.cancelled)
            self._many(sql.INSERT_MESSAGE, [_message_row(org_id, one, by_id[one.message_id]) for one in step.queued])
        self._many(sql.FLAG_FAILED_MESSAGES, [(org_id, one) for one in collected.tried])

    def _write_requests(self, records: Sequence[RequestRecord]) -> None:
        written: Rows = []
        for record in records:
            outcome = record.outcome
            accepted = isinstance(outcome, Accepted)
            written.append(
                (
                    self._org_id,
                    record.request_id,
                    record.operation,
                    record.key_id,
                    encode_fingerprint(record.fingerprint),
                    1 if accepted else 0,
                    encode_outcome(outcome),
                    outcome.transaction_id if isinstance(outcome, Accepted) else None,
                    to_micros(record.created_at),
                    person_in(outcome.result) if isinstance(outcome, Accepted) else None,
                )
            )
        self._many(sql.INSERT_REQUEST, written)

    def _many(self, statement: Statement, written: Sequence[tuple[Value, ...]]) -> None:
        if written:
            self._driver.put(statement, written)

    def _all(self, statement: Statement, written: Sequence[tuple[Value, ...]]) -> None:
        """As `_many`; every row must have been there as it was read."""
        if written:
            self._driver.put(statement, written, StorageConflict("a row was changed by another writer"))


def _redemption_row(org_id: int, redemption: Redemption) -> tuple[Value, ...]:
    return (
        org_id,
        redemption.redemption_id,
        redemption.transaction_id,
        redemption.customer_id,
        redemption.program_id,
        redemption.points,
        redemption.reversed,
        to_micros(redemption.redeemed_at),
        to_micros_or_none(redemption.redemption_time),
        redemption.transaction_number,
        redemption.external_reference,
        to_micros_or_none(redemption.last_reversed_at),
    )


def _message_row(org_id: int, message: Message, sealed: SealedMessage) -> tuple[Value, ...]:
    created_at = to_micros(sealed.created_at)
    return (
        org_id,
        sealed.message_id,
        sealed.customer_id,
        message.action.value,
        message.otp_id,
        sealed.channel.value,
        sealed.target,
        sealed.sealed,
        sealed.key_id,
        "QUEUED",
        sealed.attempts,
        created_at,
        to_micros(sealed.expires_at),
        created_at,
        "",
    )


def _hold_row(org_id: int, hold: Hold) -> tuple[Value, ...]:
    state, captured, closed_at, closed_by = _hold_end(hold)
    return (
        org_id,
        hold.hold_id,
        hold.transaction_id,
        hold.customer_id,
        hold.program_id,
        hold.points,
        state,
        to_micros(hold.held_at),
        to_micros(hold.expires_at),
        to_micros_or_none(hold.redemption_time),
        hold.transaction_number,
        hold.external_reference,
        None if hold.point_value is None else encode_point_value(hold.point_value),
        hold.policy_revision,
        captured,
        closed_at,
        closed_by,
    )


def _hold_end(hold: Hold) -> tuple[Value, ...]:
    return (hold.state.value, hold.captured, to_micros_or_none(hold.closed_at), hold.closing_transaction_id)
