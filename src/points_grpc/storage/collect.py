"""What the events of a batch come to: rows for the statements of `apply`, in the order of the columns of `schema`.

Rules of this file: what several events did to one row is one row, as it is at the end; totals that are raised are added
up; one method per kind of event, listed in `COLLECT`. No statement runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from points_grpc.domain import events as ev
from points_grpc.domain.chain import (
    ABSENT_TIME,
    NO_NOTES,
    LotNumbers,
    StreamHead,
    encode,
    next_hash,
    notes_hash,
)
from points_grpc.domain.model import (
    Account,
    Customer,
    Hold,
    JournalEntry,
    Lot,
    Message,
    MissedCall,
    OtpAction,
    Redemption,
)
from points_grpc.storage.codec import encode_policy
from points_grpc.storage.driver import Value
from points_grpc.storage.times import NEVER, to_micros, to_micros_or_none

Rows = list[tuple[Value, ...]]


@dataclass(slots=True)
class OutboxStep:
    """Changes of the outbox that can be written in any order among themselves."""

    settled: Rows = field(default_factory=list)
    retried: Rows = field(default_factory=list)
    cancelled: Rows = field(default_factory=list)
    queued: list[Message] = field(default_factory=list)


class Collected:
    """What a batch of events comes to, after what the journal stream has."""

    def __init__(self, org_id: int, *, stream: int, head: StreamHead, salt: Callable[[], bytes]) -> None:
        self._org_id = org_id
        self._salt = salt
        self.stream = stream
        self._position, self._hash = head
        self.book_changed = False
        self.transactions: Rows = []
        self.postings: Rows = []
        self.restated_lots: set[int] = set()
        self.redemptions: dict[str, tuple[Redemption, bool]] = {}
        self.reversed_lots: dict[str, set[int]] = {}
        self.holds: dict[str, tuple[Hold, bool]] = {}
        self.missed_calls: dict[int, tuple[MissedCall, bool]] = {}
        self.customers: dict[int, tuple[Customer, bool]] = {}
        self.otps: dict[tuple[int, OtpAction, int], tuple[Value, ...]] = {}
        self.otp_counters: dict[tuple[int, OtpAction], tuple[Value, ...]] = {}
        self.outbox_steps: list[OutboxStep] = []
        self._last_step: dict[int, tuple[int, str]] = {}
        self.tried: dict[int, None] = {}
        self.notices: Rows = []
        self.notices_gone: Rows = []
        self.notices_failed: Rows = []
        self.purchases: dict[str, tuple[Value, ...]] = {}
        self.returns: Rows = []
        self.programs: dict[int, tuple[Value, ...]] = {}
        self.default_program: int | None = None
        self.groups: Rows = []
        self.policies: Rows = []
        self.config_keys: dict[str, str | None] = {}
        self.paused: bool | None = None
        self.audits: Rows = []
        self.erased: tuple[int, ...] = ()

    @property
    def head(self) -> StreamHead:
        """Where the journal stream is, with what was collected."""
        return StreamHead(self._position, self._hash)

    def collect(self, events: Iterable[ev.Event]) -> None:
        """Takes events in order."""
        for event in events:
            method = COLLECT.get(type(event))
            if method is not None:
                method(self, event)

    def booked(self, event: ev.Booked) -> None:
        """A transaction: the next link of the stream, and its postings."""
        entry = event.entry
        org_id, transaction_id = self._org_id, entry.transaction_id
        self._position = position = self._position + 1
        created_at, kind = to_micros(entry.created_at), entry.kind.value
        hashed, salt = NO_NOTES, None
        if entry.notes:
            salt = self._salt()
            hashed = notes_hash(salt, entry.notes)
        numbers = (
            org_id,
            self.stream,
            position,
            transaction_id,
            kind,
            created_at,
            entry.customer_id,
            entry.counterparty_id or 0,
            entry.program_id,
            entry.points,
            entry.policy_revision,
        )
        texts = (entry.request_id, entry.actor, entry.transaction_number)
        chained = encode(numbers, hashed, texts, self._post(entry), [_chained(one) for one in entry.opened])
        self._hash = next_hash(self._hash, chained)
        self.transactions.append(
            (
                org_id,
                transaction_id,
                self.stream,
                position,
                kind,
                created_at,
                entry.customer_id,
                entry.counterparty_id,
                entry.program_id,
                entry.points,
                entry.request_id,
                entry.actor,
                entry.notes,
                entry.policy_revision,
                entry.transaction_number,
                self._hash,
                None if salt is None else hashed,
                salt,
            )
        )

    def _post(self, entry: JournalEntry) -> list[int]:
        """The postings of a transaction; their numbers, one after the other, are what the chain has of them."""
        org_id, transaction_id = self._org_id, entry.transaction_id
        postings = self.postings
        chained: list[int] = []
        for seq, posting in enumerate(entry.postings, start=1):
            account = posting.account
            if account is Account.WALLET:
                if posting.points > 0:
                    self.restated_lots.add(posting.lot_id)  # it may come back to life
                numbers = (
                    1,
                    posting.customer_id,
                    posting.program_id,
                    posting.lot_id,
                    posting.points,
                    posting.wallet_version,
                    posting.balance_after,
                    posting.held,
                )
                postings.append((org_id, transaction_id, seq, *numbers))
                chained += numbers
            else:
                row = (org_id, transaction_id, seq, account.value, None, posting.program_id, None, posting.points)
                postings.append((*row, None, None, 0))
                chained += (account.value, 0, posting.program_id, 0, posting.points, 0, 0, 0)
        return chained

    def lots_matured(self, event: ev.LotsMatured) -> None:
        """Lots that are not promised any more."""
        self.restated_lots.update(event.lot_ids)

    def redemption_made(self, event: ev.RedemptionMade) -> None:
        """A new redemption."""
        self.redemptions[event.redemption.redemption_id] = (event.redemption, True)

    def redemption_reversed(self, event: ev.RedemptionReversed) -> None:
        """A redemption as it is now, and which of its lots got something back."""
        redemption_id = event.redemption.redemption_id
        _, made = self.redemptions.get(redemption_id, (None, False))
        self.redemptions[redemption_id] = (event.redemption, made)
        self.reversed_lots.setdefault(redemption_id, set()).update(lot_id for lot_id, _ in event.lots)

    def hold_opened(self, event: ev.HoldOpened) -> None:
        """A new hold."""
        self.holds[event.hold.hold_id] = (event.hold, True)

    def hold_closed(self, event: ev.HoldClosed) -> None:
        """A hold as it ended."""
        _, opened = self.holds.get(event.hold.hold_id, (None, False))
        self.holds[event.hold.hold_id] = (event.hold, opened)

    def missed_call_recorded(self, event: ev.MissedCallRecorded) -> None:
        """A new call."""
        self.missed_calls[event.call.call_id] = (event.call, True)

    def missed_call_used(self, event: ev.MissedCallUsed) -> None:
        """A call that was used."""
        _, recorded = self.missed_calls.get(event.call.call_id, (None, False))
        self.missed_calls[event.call.call_id] = (event.call, recorded)

    def otp_saved(self, event: ev.OtpSaved) -> None:
        """The last code of a customer for an action and a program."""
        otp = event.otp
        self.otps[otp.customer_id, otp.action, otp.program_id] = (
            self._org_id,
            otp.customer_id,
            otp.action.value,
            otp.program_id,
            otp.otp_id,
            otp.counterparty_id,
            otp.points_max,
            otp.category,
            int(otp.pooled),
            otp.code_hash,
            otp.key_id,
            otp.state.value,
            otp.attempts_left,
            to_micros(otp.issued_at),
            to_micros(otp.expires_at),
            to_micros_or_none(otp.due_until),
        )

    def otp_counter_saved(self, event: ev.OtpCounterSaved) -> None:
        """The counters of a customer for an action."""
        counter = event.counter
        self.otp_counters[counter.customer_id, counter.action] = (
            self._org_id,
            counter.customer_id,
            counter.action.value,
            to_micros(counter.window_started_at),
            to_micros(counter.window_ends_at),
            counter.issues,
            counter.wrong_attempts,
        )

    def message_queued(self, event: ev.MessageQueued) -> None:
        """A message; its sealed code comes apart."""
        self._step(event.message.customer_id, "queue").queued.append(event.message)

    def messages_cancelled(self, event: ev.MessagesCancelled) -> None:
        """Cancels what waits at this point of the batch."""
        self.tried[event.customer_id] = None
        row = (None, self._org_id, event.customer_id, event.action.value)
        self._step(event.customer_id, "cancel").cancelled.append(row)

    def message_settled(self, event: ev.MessageSettled) -> None:
        """What became of a message."""
        self.tried[event.customer_id] = None
        step = self._step(event.customer_id, "settle")
        if event.retry_at is not None and not event.delivered:
            step.retried.append((to_micros(event.retry_at), event.error, self._org_id, event.message_id))
            return
        state = "DELIVERED" if event.delivered else "DEAD"
        step.settled.append((None, state, event.error, self._org_id, event.message_id))

    def notice_queued(self, event: ev.NoticeQueued) -> None:
        """A business event, due at once."""
        one = event.notice
        at = to_micros(one.created_at)
        row = (one.org_id, one.event_id, one.customer_id, one.kind.value, "QUEUED", 0, at, at, at, "", one.body)
        self.notices.append(row)

    def notice_settled(self, event: ev.NoticeSettled) -> None:
        """What became of one: what was published is removed."""
        key = (self._org_id, event.event_id)
        if event.delivered:
            self.notices_gone.append(key)
        elif event.retry_at is not None:
            self.notices_failed.append(("QUEUED", to_micros(event.retry_at), event.error, *key))
        else:
            self.notices_failed.append(("DEAD", 0, event.error, *key))

    def _step(self, customer_id: int, kind: str) -> OutboxStep:
        """The step that a change of a customer's messages belongs to: after those of another kind that came before.

        What happens to the messages of different customers commutes, so that a whole batch takes a step or two.
        """
        number, last = self._last_step.get(customer_id, (-1, ""))
        if kind != last:
            number += 1
            self._last_step[customer_id] = (number, kind)
        if number == len(self.outbox_steps):
            self.outbox_steps.append(OutboxStep())
        return self.outbox_steps[number]

    def customer_saved(self, event: ev.CustomerSaved) -> None:
        """A customer as it is at the end of the batch."""
        customer_id = event.customer.customer_id
        _, created = self.customers.get(customer_id, (None, False))
        self.customers[customer_id] = (event.customer, created or event.created)

    def customers_erased(self, event: ev.CustomersErased) -> None:
        """Customers who were erased; an erasure has a batch to itself."""
        self.erased = event.customer_ids

    def purchase_recorded(self, event: ev.PurchaseRecorded) -> None:
        """A bill."""
        purchase = event.purchase
        number = purchase.transaction_number
        self.purchases[number] = (self._org_id, number, purchase.customer_id, purchase.program_id, purchase.amount)

    def return_booked(self, event: ev.ReturnBooked) -> None:
        """A return."""
        one = event.returned
        at = to_micros(one.returned_at)
        self.returns.append(
            (
                self._org_id,
                one.transaction_number,
                one.customer_id,
                one.amount,
                one.points,
                at,
                one.request_id,
                one.actor,
                one.notes,
            )
        )

    def program_saved(self, event: ev.ProgramSaved) -> None:
        """A program; `default` makes it the organisation's default one, and never unmakes one."""
        program = event.program
        self.book_changed = True
        if event.default:
            self.default_program = program.program_id
        self.programs[program.program_id] = (
            self._org_id,
            program.program_id,
            program.name,
            int(program.active),
            program.decimal_places,
            program.time_zone,
            program.group_id,
            int(program.paused),
        )

    def group_saved(self, event: ev.GroupSaved) -> None:
        """A group. Its members say so themselves."""
        self.book_changed = True
        self.groups.append((self._org_id, event.group.group_id, event.group.name, event.group.default_program_id))

    def policy_saved(self, event: ev.PolicySaved) -> None:
        """A revision of a policy."""
        self.book_changed = True
        body = encode_policy(event.policy)
        at = to_micros(event.created_at)
        self.policies.append(
            (self._org_id, event.program_id, event.policy.revision, body, at, event.actor, event.reason)
        )

    def config_key_set(self, event: ev.ConfigKeySet) -> None:
        """A configuration key, or None for its removal."""
        self.config_keys[event.key] = event.value

    def org_paused(self, event: ev.OrgPaused) -> None:
        """The organisation's pause."""
        self.book_changed = True
        self.paused = event.paused

    def audited(self, event: ev.Audited) -> None:
        """A line of the audit log."""
        at = to_micros(event.at)
        self.audits.append(
            (
                self._org_id,
                event.audit_id,
                at,
                event.actor,
                event.action,
                event.subject,
                event.before,
                event.after,
                event.reason,
            )
        )


def _chained(lot: Lot) -> LotNumbers:
    """What the chain has of a lot that is opened."""
    key, origin = lot.wallet, lot.bucket
    return (
        lot.lot_id,
        key.customer_id,
        key.program_id,
        origin.earning_program_id,
        origin.source,
        lot.points,
        to_micros(lot.awarded_at),
        ABSENT_TIME if lot.available_from is None else to_micros(lot.available_from),
        NEVER if lot.expires_at is None else to_micros(lot.expires_at),
        lot.parent_lot_id or 0,
        lot.root_lot_id,
        origin.category,
    )


COLLECT: Mapping[type[Any], Callable[[Collected, Any], None]] = {
    ev.Booked: Collected.booked,
    ev.LotsMatured: Collected.lots_matured,
    ev.RedemptionMade: Collected.redemption_made,
    ev.RedemptionReversed: Collected.redemption_reversed,
    ev.HoldOpened: Collected.hold_opened,
    ev.HoldClosed: Collected.hold_closed,
    ev.MissedCallRecorded: Collected.missed_call_recorded,
    ev.MissedCallUsed: Collected.missed_call_used,
    ev.OtpSaved: Collected.otp_saved,
    ev.OtpCounterSaved: Collected.otp_counter_saved,
    ev.MessageQueued: Collected.message_queued,
    ev.MessagesCancelled: Collected.messages_cancelled,
    ev.MessageSettled: Collected.message_settled,
    ev.NoticeQueued: Collected.notice_queued,
    ev.NoticeSettled: Collected.notice_settled,
    ev.CustomerSaved: Collected.customer_saved,
    ev.CustomersErased: Collected.customers_erased,
    ev.PurchaseRecorded: Collected.purchase_recorded,
    ev.ReturnBooked: Collected.return_booked,
    ev.ProgramSaved: Collected.program_saved,
    ev.GroupSaved: Collected.group_saved,
    ev.PolicySaved: Collected.policy_saved,
    ev.ConfigKeySet: Collected.config_key_set,
    ev.OrgPaused: Collected.org_paused,
    ev.Audited: Collected.audited,
}
"""What is done with each kind of event. The others (`WALLET_EVENTS`) are in the final rows of wallets and lots."""

WALLET_EVENTS = frozenset({ev.VelocityCounted, ev.VelocityUnited, ev.DueMoved, ev.LifetimeRaised, ev.Enrolled})
