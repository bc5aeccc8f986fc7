"""The dispatch: which functions say what a command names, what it needs loaded, and what comes of it.

A new operation is one row in `OPERATIONS`. Commands are decided one after the other, each on the snapshot that its
predecessors left; before each, what is due on the wallets of its customers is booked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from points_grpc import codes
from points_grpc.domain import (
    adjustment,
    customers,
    erasure,
    holds,
    issuance,
    merging,
    programs,
    redemption,
    returns,
    reversal,
    transfer,
    transfer_reversal,
)
from points_grpc.domain import commands as cmd
from points_grpc.domain.context import Context
from points_grpc.domain.expiry import book_due, decide_sweep, overdue_holds, sweep_keys
from points_grpc.domain.lots import LOTS_PER_COMMAND_MAX, TooManyLots
from points_grpc.domain.model import ProgramBook
from points_grpc.domain.outcome import Decision, Outcome, Refused
from points_grpc.domain.pending import with_pending_events
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot


class Operation(Struct, frozen=True):
    """How one kind of command is handled. The functions take the command of that kind."""

    lookups: Callable[[Any], Lookups]
    keys: Callable[[Any, Directory, ProgramBook], Keys]
    decide: Callable[[Any, Context, Snapshot], Decision]


def _nothing(command: object) -> Lookups:  # noqa: ARG001 - one signature
    return Lookups()


def _no_keys(command: object, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    return Keys()


OPERATIONS: Mapping[type[Any], Operation] = {
    cmd.TransferPoints: Operation(transfer.lookups, transfer.keys, transfer.decide_transfer),
    cmd.CheckTransfer: Operation(
        lambda command: transfer.lookups(command.transfer),
        lambda command, directory, book: transfer.keys(command.transfer, directory, book),
        transfer.decide_check,
    ),
    cmd.IssueTransferOtp: Operation(
        lambda command: transfer.lookups(command.transfer),
        lambda command, directory, book: transfer.keys(command.transfer, directory, book),
        transfer.decide_issue_otp,
    ),
    cmd.RedeemPoints: Operation(redemption.lookups, redemption.keys, redemption.decide_redemption),
    cmd.CheckRedemption: Operation(
        lambda command: redemption.lookups(command.redemption),
        lambda command, directory, book: redemption.keys(command.redemption, directory, book),
        redemption.decide_check,
    ),
    cmd.IssueRedemptionOtp: Operation(
        lambda command: redemption.lookups(command.redemption),
        lambda command, directory, book: redemption.keys(command.redemption, directory, book),
        redemption.decide_issue_otp,
    ),
    cmd.AuthorizeRedemption: Operation(
        lambda command: redemption.lookups(command.redemption),
        lambda command, directory, book: redemption.keys(command.redemption, directory, book),
        holds.decide_authorization,
    ),
    cmd.CaptureRedemption: Operation(holds.lookups, holds.keys, holds.decide_capture),
    cmd.ReleaseRedemption: Operation(holds.lookups, holds.keys, holds.decide_release),
    cmd.ReverseRedemption: Operation(reversal.lookups, reversal.keys, reversal.decide),
    cmd.ReverseTransfer: Operation(transfer_reversal.lookups, transfer_reversal.keys, transfer_reversal.decide),
    cmd.ReturnTransaction: Operation(returns.lookups, returns.keys, returns.decide),
    cmd.IssuePoints: Operation(issuance.lookups, issuance.keys, issuance.decide),
    cmd.AdjustPoints: Operation(adjustment.lookups, adjustment.keys, adjustment.decide),
    cmd.CreateCustomer: Operation(customers.creation_lookups, customers.creation_keys, customers.decide_creation),
    cmd.EnrolCustomer: Operation(customers.change_lookups, customers.change_keys, customers.decide_enrolment),
    cmd.SetCustomerStatus: Operation(customers.change_lookups, customers.change_keys, customers.decide_status),
    cmd.SetTransferLock: Operation(customers.change_lookups, customers.change_keys, customers.decide_lock),
    cmd.RecordPurchase: Operation(customers.change_lookups, customers.change_keys, customers.decide_purchase),
    cmd.MergeCustomers: Operation(merging.lookups, merging.keys, merging.decide),
    cmd.RecordMissedCall: Operation(customers.change_lookups, customers.change_keys, customers.decide_missed_call),
    cmd.EraseCustomer: Operation(erasure.lookups, erasure.keys, erasure.decide),
    cmd.CreateProgram: Operation(_nothing, _no_keys, programs.decide_program),
    cmd.CreateProgramGroup: Operation(_nothing, _no_keys, programs.decide_group),
    cmd.SetPolicy: Operation(_nothing, _no_keys, programs.decide_policy),
    cmd.SetConfigKey: Operation(_nothing, _no_keys, programs.decide_config_key),
    cmd.SetPause: Operation(_nothing, _no_keys, programs.decide_pause),
    cmd.SetProgramActive: Operation(_nothing, _no_keys, programs.decide_active),
    cmd.AcknowledgeMessages: Operation(_nothing, programs.acknowledgement_keys, programs.decide_acknowledgement),
    cmd.AcknowledgeNotices: Operation(_nothing, _no_keys, programs.decide_notice_acknowledgement),
    cmd.BookDue: Operation(_nothing, sweep_keys, decide_sweep),
}

EXCLUSIVE = (
    cmd.CreateProgram,
    cmd.CreateProgramGroup,
    cmd.SetPolicy,
    cmd.SetConfigKey,
    cmd.SetPause,
    cmd.SetProgramActive,
    cmd.EraseCustomer,
)
"""Commands that change what others are judged by, and erasures, which change what others left: each runs in a batch of
its own."""

ACKNOWLEDGEMENTS = (cmd.AcknowledgeMessages, cmd.AcknowledgeNotices)
"""What became of what was sent. Messages of all organisations wait until it is booked, so that these commands go before
others of their organisation, and are not shed with them: they are few and small."""

UNRECORDED = (*ACKNOWLEDGEMENTS, cmd.BookDue)
"""Commands of the server itself, which nobody repeats under a request id."""


def lookups_of(command: cmd.Command) -> Lookups:
    """What the command names."""
    return OPERATIONS[type(command)].lookups(command)


def keys_of(command: cmd.Command, directory: Directory, book: ProgramBook) -> Keys:
    """What the command needs loaded, once its names are resolved."""
    return OPERATIONS[type(command)].keys(command, directory, book)


def decide_one(snapshot: Snapshot, context: Context, keys: Keys) -> Outcome:
    """Books what is due on the wallets of the command's customers, then decides it; evolves the snapshot."""
    for customer_id in sorted(snapshot.due_customers.intersection(keys.customers)):
        for hold in overdue_holds(snapshot, customer_id):
            snapshot.evolve(holds.end_overdue(snapshot, hold, context.next_id))
        for wallet_key in snapshot.wallets_of(customer_id):
            wallet = snapshot.wallet(wallet_key)
            if wallet is not None:
                snapshot.evolve(book_due(snapshot, wallet, context.next_id))
    command = context.submission.command
    try:
        decision = OPERATIONS[type(command)].decide(command, context, snapshot)
    except TooManyLots:
        maximum = str(LOTS_PER_COMMAND_MAX)
        return Refused(codes.TOO_MANY_LOTS, {"lots": f"more than {maximum}", "maximum": maximum})
    snapshot.evolve(decision.events)
    if snapshot.has_failed_messages:
        return with_pending_events(decision, command, keys, snapshot)
    return decision.outcome
