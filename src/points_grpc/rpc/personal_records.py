"""What is kept about a person, as ExportCustomerData hands it out: one message for each record."""

from __future__ import annotations

from points_grpc.domain.model import Lot, MissedCall, Purchase, Return, Wallet
from points_grpc.domain.views import AuditRow, EnrolledCustomer, PersonalRecord, ReferredEntry, SentMessage
from points_grpc.rpc import render
from points_grpc.v1 import customer_service_pb2


def personal_record(given: PersonalRecord) -> customer_service_pb2.CustomerRecord:
    """A record."""
    record = customer_service_pb2.CustomerRecord
    match given:
        case EnrolledCustomer():
            return record(customer=render.customer(given.customer, given.program_ids))
        case Wallet():
            return record(wallet=_wallet(given))
        case Lot():
            return record(lot=render.lot(given))
        case ReferredEntry():
            return record(transaction=_transaction(given))
        case Purchase():
            return record(purchase=_purchase(given))
        case Return():
            return record(purchase_return=_return(given))
        case MissedCall():
            return record(missed_call=_missed_call(given))
        case SentMessage():
            return record(message=_message(given))
        case AuditRow():
            return record(audit_event=render.audit_event(given))


def _wallet(given: Wallet) -> customer_service_pb2.CustomerRecord.Wallet:
    return customer_service_pb2.CustomerRecord.Wallet(
        customer_id=given.customer_id,
        program_id=given.program_id,
        current=given.current,
        lifetime_earned=given.lifetime_earned,
        lifetime_received=given.lifetime_received,
        lifetime_purchases=given.lifetime_purchases,
        enrolled_at=render.moment(given.enrolled_at),
    )


def _transaction(given: ReferredEntry) -> customer_service_pb2.CustomerRecord.Transaction:
    return customer_service_pb2.CustomerRecord.Transaction(
        transaction=render.journal_transaction(given.row),
        transaction_number=given.row.entry.transaction_number or "",
        external_reference_number=given.external_reference,
    )


def _purchase(given: Purchase) -> customer_service_pb2.CustomerRecord.Purchase:
    return customer_service_pb2.CustomerRecord.Purchase(
        transaction_number=given.transaction_number,
        customer_id=given.customer_id,
        program_id=given.program_id,
        amount_minor_units=given.amount,
    )


def _return(given: Return) -> customer_service_pb2.CustomerRecord.Return:
    return customer_service_pb2.CustomerRecord.Return(
        transaction_number=given.transaction_number,
        customer_id=given.customer_id,
        amount_minor_units=given.amount,
        points=given.points,
        returned_at=render.timestamp(given.returned_at),
        notes=given.notes,
    )


def _missed_call(given: MissedCall) -> customer_service_pb2.CustomerRecord.MissedCall:
    return customer_service_pb2.CustomerRecord.MissedCall(
        customer_id=given.customer_id,
        mobile_number=given.mobile,
        called_at=render.timestamp(given.called_at),
        used_by_transaction_id=given.used_by or 0,
    )


def _message(given: SentMessage) -> customer_service_pb2.CustomerRecord.Message:
    return customer_service_pb2.CustomerRecord.Message(
        customer_id=given.customer_id,
        channel=given.channel,
        target=given.target,
        state=given.state,
        created_at=render.timestamp(given.created_at),
    )
