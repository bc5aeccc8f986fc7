"""Outcomes to answers: one function per RPC that carries a command, in the order of the proto files.

Nothing is decided here and nothing is looked up: what an answer shows stands in the outcome, or came along with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc import codes
from points_grpc.domain import model
from points_grpc.domain import outcome as o
from points_grpc.domain.views import AuditRow, JournalRow, TracedLot, TransferView
from points_grpc.rpc.render_policy import policy as render_policy
from points_grpc.rpc.status_items import status_item, warning_items
from points_grpc.v1 import (
    common_pb2,
    customer_service_pb2,
    issuance_service_pb2,
    points_service_pb2,
    program_service_pb2,
    wallet_service_pb2,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CUSTOMER = points_service_pb2.PointsTransfer.CUSTOMER
_DEDUCTION = points_service_pb2.PointsTransfer.DEDUCTION

Result = TypeVar("Result", bound=o.Result)


# -- PointsService


def check_transfer(settled: o.Settled) -> points_service_pb2.CheckTransferResponse:
    """CheckTransfer."""
    accepted, result = _result(settled, o.CheckTransferResult)
    return points_service_pb2.CheckTransferResponse(
        transferable=True,
        points_to_be_transferred=result.points,
        points_transfer_breakup_by_earning_programs=_shares(result.shares),
        wallets_after=balances(result.balances_after),
        otp=_challenge(result.challenge),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        code_required=result.code_required,
    )


def issue_transfer_otp(settled: o.Settled) -> points_service_pb2.IssueTransferOtpResponse:
    """IssueTransferOtp."""
    accepted, result = _result(settled, o.IssueOtpResult)
    return points_service_pb2.IssueTransferOtpResponse(
        otp=_challenge(result.challenge),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def transfer_points(settled: o.Settled) -> points_service_pb2.TransferPointsResponse:
    """TransferPoints: exactly one element of data, as the sender sees the transfer; errors stays empty."""
    accepted, result = _result(settled, o.TransferResult)
    answer = points_service_pb2.TransferPointsResponse(
        warnings=warning_items(accepted.warnings), request_id=settled.request_id, replayed=settled.replayed
    )
    # Written in place: a message that is handed to the constructor of another is copied, and this is the hot path.
    transfer = answer.data.add(
        to_entity_id=result.destination_id,
        to_entity_type=_CUSTOMER,
        from_entity_id=result.source_id,
        from_entity_type=_CUSTOMER,
        transfer_id=result.transfer_id,
        transfer_type=_DEDUCTION,
        notes=result.notes,
        program_name=settled.program_name,
    )
    _write_instant(transfer.points_transfer_date, result.made_at)
    _write_party(transfer.transferred_from, settled.parties, result.source_id)
    _write_party(transfer.transferred_to, settled.parties, result.destination_id)
    transferred = 0
    for share in result.shares:
        transferred += share.deducted
        transfer.points_transfer_breakup_by_earning_programs.add(
            program_id=share.program_id, deducted_points=share.deducted, program_current_points=share.left
        )
    transfer.points_transferred = transferred
    for one in result.balances:
        answer.wallets.add(
            customer_id=one.customer_id,
            program_id=one.program_id,
            wallet_version=one.version,
            current=one.current,
            redeemable=one.redeemable,
            transferable=one.transferable,
            promised=one.promised,
            held=one.held,
        )
    return answer


def check_redemption(settled: o.Settled) -> points_service_pb2.CheckRedemptionResponse:
    """CheckRedemption."""
    accepted, result = _result(settled, o.CheckRedemptionResult)
    return points_service_pb2.CheckRedemptionResponse(
        outcome=_REDEEMABLE,
        points=result.points,
        value=_money(result.value),
        breakup_by_earning_programs=_shares(result.shares),
        lots=_lot_shares(result.lots),
        lots_omitted=result.lots_omitted,
        wallets_after=balances(result.balances_after),
        otp=_challenge(result.challenge),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        proof_required=result.proof_required,
    )


def issue_redemption_otp(settled: o.Settled) -> points_service_pb2.IssueRedemptionOtpResponse:
    """IssueRedemptionOtp."""
    accepted, result = _result(settled, o.IssueOtpResult)
    return points_service_pb2.IssueRedemptionOtpResponse(
        otp=_challenge(result.challenge),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def redeem_points(settled: o.Settled) -> points_service_pb2.RedeemPointsResponse:
    """RedeemPoints."""
    accepted, result = _result(settled, o.RedemptionResult)
    return points_service_pb2.RedeemPointsResponse(
        outcome=_REDEEMABLE,
        redemption_id=result.redemption_id,
        points=result.points,
        value=_money(result.value),
        redeemed_at=timestamp(result.redeemed_at),
        breakup_by_earning_programs=_shares(result.shares),
        lots=_lot_shares(result.lots),
        lots_omitted=result.lots_omitted,
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        transaction_id=result.transaction_id,
    )


def authorize_redemption(settled: o.Settled) -> points_service_pb2.AuthorizeRedemptionResponse:
    """AuthorizeRedemption."""
    accepted, result = _result(settled, o.HoldResult)
    return points_service_pb2.AuthorizeRedemptionResponse(
        hold_id=result.hold_id,
        expires_at=timestamp(result.expires_at),
        points=result.points,
        value=_money(result.value),
        lots=_lot_shares(result.lots),
        lots_omitted=result.lots_omitted,
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        transaction_id=result.transaction_id,
    )


def capture_redemption(settled: o.Settled) -> points_service_pb2.CaptureRedemptionResponse:
    """CaptureRedemption."""
    accepted, result = _result(settled, o.CaptureResult)
    made = result.redemption
    return points_service_pb2.CaptureRedemptionResponse(
        outcome=_REDEEMABLE,
        redemption_id=made.redemption_id,
        points=made.points,
        value=_money(made.value),
        redeemed_at=timestamp(made.redeemed_at),
        breakup_by_earning_programs=_shares(made.shares),
        lots=_lot_shares(made.lots),
        lots_omitted=made.lots_omitted,
        wallets=balances(made.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        transaction_id=made.transaction_id,
        points_released=result.released,
    )


def release_redemption(settled: o.Settled) -> points_service_pb2.ReleaseRedemptionResponse:
    """ReleaseRedemption."""
    accepted, result = _result(settled, o.ReleaseResult)
    return points_service_pb2.ReleaseRedemptionResponse(
        points_released=result.released,
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        transaction_id=result.transaction_id,
    )


def reverse_redemption(settled: o.Settled) -> points_service_pb2.ReverseRedemptionResponse:
    """ReverseRedemption."""
    accepted, result = _result(settled, o.ReversalResult)
    credited = sum(one.credited for one in result.redemptions)
    expired = sum(one.expired for one in result.redemptions)
    return points_service_pb2.ReverseRedemptionResponse(
        reversal_id=result.reversal_id,
        points_to_be_reversed=result.asked,
        points_reversed=credited + expired,
        credited=credited,
        expired=expired,
        redemptions=[
            points_service_pb2.ReverseRedemptionResponse.ReversedRedemption(
                redemption_id=one.redemption_id,
                points_reversed=one.credited + one.expired,
                credited=one.credited,
                expired=one.expired,
                points_left=one.left,
            )
            for one in result.redemptions
        ],
        lots=_lot_shares(result.lots),
        lots_omitted=result.lots_omitted,
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        transaction_id=result.transaction_id,
        reversed_at=timestamp(result.reversed_at),
    )


def reverse_transfer(settled: o.Settled) -> points_service_pb2.ReverseTransferResponse:
    """ReverseTransfer."""
    accepted, result = _result(settled, o.TransferReversalResult)
    return points_service_pb2.ReverseTransferResponse(
        transfer_id=result.transfer_id,
        transaction_id=result.transaction_id,
        reversed_at=timestamp(result.reversed_at),
        points_to_be_reversed=result.asked,
        points_reversed=result.moved,
        points_short=result.asked - result.moved,
        lots=_lot_shares(result.lots),
        lots_omitted=result.lots_omitted,
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def return_transaction(settled: o.Settled) -> points_service_pb2.ReturnTransactionResponse:
    """ReturnTransaction."""
    accepted, result = _result(settled, o.ReturnResult)
    return points_service_pb2.ReturnTransactionResponse(
        results=[
            points_service_pb2.ReturnTransactionResponse.Result(
                redemption_id=one.redemption_id,
                points_reversed=one.credited + one.expired,
                credited=one.credited,
                expired=one.expired,
                points_left=one.left,
                reversal_id=one.reversal_id,
                transaction_id=one.transaction_id,
            )
            for one in result.shares
        ],
        points_reversed=sum(one.credited + one.expired for one in result.shares),
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
        returned_at=timestamp(result.returned_at),
    )


# -- IssuanceService


def issue_points(settled: o.Settled) -> issuance_service_pb2.IssuePointsResponse:
    """IssuePoints."""
    accepted, result = _result(settled, o.IssueResult)
    return issuance_service_pb2.IssuePointsResponse(
        transaction_id=result.transaction_id,
        lot=lot(result.lot),
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def adjust_points(settled: o.Settled) -> issuance_service_pb2.AdjustPointsResponse:
    """AdjustPoints."""
    accepted, result = _result(settled, o.AdjustmentResult)
    return issuance_service_pb2.AdjustPointsResponse(
        transaction_id=result.transaction_id,
        points=result.points,
        breakup_by_earning_programs=_shares(result.shares),
        lots=_lot_shares(result.lots),
        lots_omitted=result.lots_omitted,
        wallets=balances(result.balances),
        warnings=warning_items(accepted.warnings),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


# -- CustomerService


def create_customer(settled: o.Settled) -> customer_service_pb2.CreateCustomerResponse:
    """CreateCustomer."""
    _, result = _result(settled, o.CustomerResult)
    return customer_service_pb2.CreateCustomerResponse(
        customer=customer(result.customer, result.program_ids),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def enrol_customer(settled: o.Settled) -> customer_service_pb2.EnrolCustomerResponse:
    """EnrolCustomer."""
    _, result = _result(settled, o.CustomerResult)
    return customer_service_pb2.EnrolCustomerResponse(
        customer=customer(result.customer, result.program_ids),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def set_customer_status(settled: o.Settled) -> customer_service_pb2.SetCustomerStatusResponse:
    """SetCustomerStatus."""
    _, result = _result(settled, o.CustomerResult)
    return customer_service_pb2.SetCustomerStatusResponse(
        customer=customer(result.customer, result.program_ids),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def set_transfer_lock(settled: o.Settled) -> customer_service_pb2.SetTransferLockResponse:
    """SetTransferLock."""
    _, result = _result(settled, o.CustomerResult)
    return customer_service_pb2.SetTransferLockResponse(
        customer=customer(result.customer, result.program_ids),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def record_purchase(settled: o.Settled) -> customer_service_pb2.RecordPurchaseResponse:
    """RecordPurchase."""
    _, result = _result(settled, o.PurchaseResult)
    return customer_service_pb2.RecordPurchaseResponse(
        lifetime_purchases=result.lifetime_purchases,
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def merge_customers(settled: o.Settled) -> customer_service_pb2.MergeCustomersResponse:
    """MergeCustomers."""
    _, result = _result(settled, o.MergeResult)
    return customer_service_pb2.MergeCustomersResponse(
        survivor=customer(result.survivor, result.program_ids),
        victim_customer_id=result.victim_id,
        transaction_id=result.transaction_id or 0,
        points_moved=result.points,
        lots_moved=result.lots,
        wallets=balances(result.balances),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def record_missed_call(settled: o.Settled) -> customer_service_pb2.RecordMissedCallResponse:
    """RecordMissedCall."""
    _, result = _result(settled, o.MissedCallResult)
    return customer_service_pb2.RecordMissedCallResponse(
        customer_id=result.customer_id,
        called_at=timestamp(result.called_at),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def erase_customer(settled: o.Settled) -> customer_service_pb2.EraseCustomerResponse:
    """EraseCustomer."""
    _, result = _result(settled, o.ErasureResult)
    return customer_service_pb2.EraseCustomerResponse(
        customer_id=result.customer_id,
        merged_customer_ids=result.merged_ids,
        erased_at=timestamp(result.erased_at),
        transaction_ids=result.transaction_ids,
        points_forfeited=result.points_forfeited,
        already_erased=result.repeated,
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


# -- ProgramService


def create_program(settled: o.Settled) -> program_service_pb2.CreateProgramResponse:
    """CreateProgram."""
    _, result = _result(settled, o.ProgramResult)
    return program_service_pb2.CreateProgramResponse(
        program=program(result.program, default=result.default),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def create_program_group(settled: o.Settled) -> program_service_pb2.CreateProgramGroupResponse:
    """CreateProgramGroup."""
    _, result = _result(settled, o.GroupResult)
    return program_service_pb2.CreateProgramGroupResponse(
        program_group_id=result.group_id,
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def set_policy(settled: o.Settled) -> program_service_pb2.SetPolicyResponse:
    """SetPolicy."""
    _, result = _result(settled, o.PolicyResult)
    return program_service_pb2.SetPolicyResponse(
        policy=render_policy(result.policy, timestamp(result.created_at)),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


def set_config_key(settled: o.Settled) -> program_service_pb2.SetConfigKeyResponse:
    """SetConfigKey."""
    _result(settled, o.DoneResult)
    return program_service_pb2.SetConfigKeyResponse(request_id=settled.request_id, replayed=settled.replayed)


def set_pause(settled: o.Settled) -> program_service_pb2.SetPauseResponse:
    """SetPause."""
    _result(settled, o.DoneResult)
    return program_service_pb2.SetPauseResponse(request_id=settled.request_id, replayed=settled.replayed)


def set_program_active(settled: o.Settled) -> program_service_pb2.SetProgramActiveResponse:
    """SetProgramActive."""
    _, result = _result(settled, o.ProgramResult)
    return program_service_pb2.SetProgramActiveResponse(
        program=program(result.program, default=result.default),
        request_id=settled.request_id,
        replayed=settled.replayed,
    )


# -- parts of answers


def timestamp(at: datetime) -> Timestamp:
    """A time on the wire."""
    found = Timestamp()
    _write_instant(found, at)
    return found


def balances(given: Iterable[o.Balance]) -> list[common_pb2.WalletBalance]:
    """Wallets as an operation leaves them."""
    return [balance(one) for one in given]


def balance(given: o.Balance) -> common_pb2.WalletBalance:
    """A wallet as it stands."""
    return common_pb2.WalletBalance(
        customer_id=given.customer_id,
        program_id=given.program_id,
        wallet_version=given.version,
        current=given.current,
        redeemable=given.redeemable,
        transferable=given.transferable,
        promised=given.promised,
        held=given.held,
    )


def lot(given: model.Lot) -> common_pb2.Lot:
    """A lot. What is available shows no time from which it is."""
    return common_pb2.Lot(
        lot_id=given.lot_id,
        customer_id=given.customer_id,
        program_id=given.program_id,
        earning_program_id=given.earning_program_id,
        source=common_pb2.Lot.Source.ValueType(given.source),
        category=given.category,
        points=given.points,
        remaining=given.remaining,
        held=given.held,
        awarded_at=timestamp(given.awarded_at),
        available_from=moment(given.available_from if given.promised else None),
        expires_at=moment(given.expires_at),
        parent_lot_id=given.parent_lot_id or 0,
        root_lot_id=given.root_lot_id,
        transaction_id=given.transaction_id,
    )


def customer(given: model.Customer, program_ids: Iterable[int]) -> customer_service_pb2.Customer:
    """A customer."""
    identifiers = (
        (common_pb2.CustomerIdentifier.MOBILE, given.mobile),
        (common_pb2.CustomerIdentifier.EMAIL, given.email),
        (common_pb2.CustomerIdentifier.EXTERNAL_ID, given.external_id),
    )
    return customer_service_pb2.Customer(
        customer_id=given.customer_id,
        first_name=given.first_name,
        last_name=given.last_name,
        identifiers=[common_pb2.CustomerIdentifier(type=kind, value=value) for kind, value in identifiers if value],
        enrolled_program_ids=program_ids,
        campaign_contact=given.campaign_contact,
        fraud_status=customer_service_pb2.Customer.FraudStatus.ValueType(given.fraud_status),
        status_label=customer_service_pb2.Customer.StatusLabel.ValueType(given.status_label),
        transfers_locked_until=moment(given.transfers_locked_until),
        created_at=timestamp(given.created_at),
        merged_into_customer_id=given.merged_into or 0,
        locale=given.locale,
        erased_at=moment(given.erased_at),
    )


def transfer(
    given: TransferView, parties: Mapping[int, o.Party], program_name: str
) -> points_service_pb2.PointsTransfer:
    """A transfer as one of its parties sees it; names are those of today."""
    kind = points_service_pb2.PointsTransfer
    return kind(
        to_entity_id=given.destination_id,
        to_entity_type=kind.CUSTOMER,
        from_entity_id=given.source_id,
        from_entity_type=kind.CUSTOMER,
        points_transfer_date=timestamp(given.made_at),
        points_transferred=given.points,
        transfer_id=given.transfer_id,
        transfer_type=kind.DEDUCTION if given.given else kind.ADDITION,
        transferred_from=_party(parties.values(), given.source_id),
        transferred_to=_party(parties.values(), given.destination_id),
        notes=given.notes,
        program_name=program_name,
        points_transfer_breakup_by_earning_programs=_shares(given.shares),
    )


def traced_lot(given: TracedLot) -> wallet_service_pb2.TraceLotResponse.Node:
    """A lot of a trace."""
    return wallet_service_pb2.TraceLotResponse.Node(
        lot=lot(given.lot),
        kind=wallet_service_pb2.JournalTransaction.Kind.ValueType(given.kind),
        opened_at=timestamp(given.opened_at),
    )


def audit_event(row: AuditRow) -> program_service_pb2.AuditEvent:
    """A line of the audit log."""
    return program_service_pb2.AuditEvent(
        audit_id=row.audit_id,
        changed_at=timestamp(row.at),
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        before=row.before,
        after=row.after,
        reason=row.reason,
    )


def journal_transaction(row: JournalRow) -> wallet_service_pb2.JournalTransaction:
    """A journal transaction with its postings."""
    entry = row.entry
    return wallet_service_pb2.JournalTransaction(
        transaction_id=entry.transaction_id,
        kind=wallet_service_pb2.JournalTransaction.Kind.ValueType(entry.kind),
        created_at=timestamp(entry.created_at),
        customer_id=entry.customer_id,
        counterparty_id=entry.counterparty_id or 0,
        program_id=entry.program_id,
        points=entry.points,
        request_id=entry.request_id,
        actor=entry.actor,
        notes=entry.notes,
        policy_revision=entry.policy_revision,
        stream=row.stream,
        position=row.position,
        postings=[
            wallet_service_pb2.Posting(
                account=wallet_service_pb2.Posting.Account.ValueType(one.account),
                customer_id=one.customer_id,
                program_id=one.program_id,
                lot_id=one.lot_id,
                points=one.points,
                wallet_version=one.wallet_version,
                balance_after=one.balance_after,
                held=one.held,
            )
            for one in entry.postings
        ],
    )


def program(given: model.Program, *, default: bool) -> program_service_pb2.Program:
    """A program."""
    return program_service_pb2.Program(
        program_id=given.program_id,
        name=given.name,
        active=given.active,
        default_program=default,
        decimal_places=given.decimal_places,
        time_zone=given.time_zone,
        program_group_id=given.group_id or 0,
        paused=given.paused,
        policy_revision=given.policy.revision,
    )


_REDEEMABLE = status_item(codes.POINTS_REDEEMED_OR_REDEEMABLE)


def _result(settled: o.Settled, kind: type[Result]) -> tuple[o.Accepted, Result]:
    """The acceptance and its result, which the operation fixes."""
    outcome = settled.outcome
    if isinstance(outcome, o.Refused) or not isinstance(outcome.result, kind):
        raise TypeError(f"expected a {kind.__name__}")
    return outcome, outcome.result


def moment(at: datetime | None) -> Timestamp | None:
    """A time on the wire that may be unset."""
    return None if at is None else timestamp(at)


def _shares(given: Iterable[o.ProgramShare]) -> list[common_pb2.EarningProgramBreakup]:
    """What was taken, by the program in which the points were earned."""
    return [
        common_pb2.EarningProgramBreakup(
            program_id=one.program_id, deducted_points=one.deducted, program_current_points=one.left
        )
        for one in given
    ]


def _lot_shares(given: Iterable[o.LotShare]) -> list[common_pb2.LotBreakup]:
    """What was taken from, or given to, each lot."""
    return [
        common_pb2.LotBreakup(
            lot_id=one.lot_id,
            earning_program_id=one.earning_program_id,
            points=one.points,
            expires_at=moment(one.expires_at),
        )
        for one in given
    ]


def _party(parties: Iterable[o.Party], customer_id: int) -> points_service_pb2.PointsTransfer.Party:
    """A customer who took part, with the names as they are now."""
    found = points_service_pb2.PointsTransfer.Party()
    _write_party(found, parties, customer_id)
    return found


def _write_party(party: points_service_pb2.PointsTransfer.Party, parties: Iterable[o.Party], customer_id: int) -> None:
    """Writes a customer who took part, with the names as they are now."""
    party.user_id = customer_id
    for one in parties:
        if one.customer_id == customer_id:
            party.first_name = one.first_name
            party.last_name = one.last_name
            party.external_id = one.external_id
            return


def _write_instant(instant: Timestamp, at: datetime) -> None:
    """Writes a time, without going through floating point."""
    since = at - _EPOCH
    instant.seconds = since.days * 86_400 + since.seconds
    instant.nanos = since.microseconds * 1000


def _challenge(given: o.Challenge | None) -> common_pb2.OtpChallenge | None:
    """A code on its way."""
    if given is None:
        return None
    return common_pb2.OtpChallenge(
        masked_target=given.masked_target,
        channels=given.channels,
        expires_at=timestamp(given.expires_at),
        attempts_left=given.attempts_left,
    )


def _money(given: o.MoneyValue | None) -> common_pb2.Money | None:
    """An amount of money."""
    if given is None:
        return None
    return common_pb2.Money(currency_code=given.currency_code, minor_units=given.minor_units)
