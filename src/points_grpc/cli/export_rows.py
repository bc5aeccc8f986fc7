"""What an export writes: the columns of each kind, and the rows of what a page of the server lists.

Texts that customers or callers wrote pass through `spreadsheets.neutral`; numbers, times and names of ours need not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from points_grpc.cli.spreadsheets import neutral
from points_grpc.v1 import common_pb2, customer_service_pb2, wallet_service_pb2

Identifier = common_pb2.CustomerIdentifier
Customer = customer_service_pb2.Customer
Transaction = wallet_service_pb2.JournalTransaction

Row = tuple[str | int, ...]


class Kind(StrEnum):
    """What is exported."""

    CUSTOMERS = "customers"
    BALANCES = "balances"
    LOTS = "lots"
    WALLETS = "wallets"
    TRANSACTIONS = "transactions"


_NEW_CUSTOMER = (
    "customer_id",
    "external_id",
    "mobile",
    "email",
    "first_name",
    "last_name",
    "programs",
    "campaign_contact",
    "locale",
)
"""The columns of an import."""

COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    Kind.CUSTOMERS: (
        *_NEW_CUSTOMER,
        "fraud_status",
        "status_label",
        "transfers_locked_until",
        "merged_into_customer_id",
        "erased_at",
        "created_at",
    ),
    Kind.BALANCES: (
        "customer_id",
        "balance",
        "expires",
        "available_from",
        "source",
        "program_id",
        "earning_program_id",
        "category",
    ),
    Kind.LOTS: (
        "lot_id",
        "customer_id",
        "program_id",
        "earning_program_id",
        "source",
        "category",
        "points",
        "remaining",
        "held",
        "awarded_at",
        "available_from",
        "expires_at",
        "parent_lot_id",
        "root_lot_id",
        "transaction_id",
    ),
    Kind.WALLETS: (
        "customer_id",
        "program_id",
        "wallet_version",
        "current",
        "redeemable",
        "transferable",
        "promised",
        "held",
        "lifetime_earned",
        "lifetime_received",
        "lifetime_purchases",
        "enrolled_at",
    ),
    Kind.TRANSACTIONS: (
        "transaction_id",
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
        "stream",
        "position",
    ),
}


def columns(kind: Kind, *, for_import: bool) -> tuple[str, ...]:
    """The names of the columns."""
    return _NEW_CUSTOMER if for_import else COLUMNS[kind]


def is_gone(customer: Customer) -> bool:
    """Whether somebody was merged away, erased or deleted: an import would bring back who is not there any more."""
    is_deleted = customer.status_label == Customer.DELETED
    return bool(customer.merged_into_customer_id) or customer.HasField("erased_at") or is_deleted


def is_marked(customer: Customer) -> bool:
    """Whether somebody has a status or a lock, which an import does not take over."""
    usual = (Customer.NOT_FRAUD, Customer.ACTIVE)
    return (customer.fraud_status, customer.status_label) != usual or customer.HasField("transfers_locked_until")


def customer_row(one: Customer, *, for_import: bool) -> Row:
    """A customer."""
    named = {given.type: given.value for given in one.identifiers}
    row: Row = (
        one.customer_id,
        neutral(named.get(Identifier.EXTERNAL_ID, "")),
        neutral(named.get(Identifier.MOBILE, "")),
        neutral(named.get(Identifier.EMAIL, "")),
        neutral(one.first_name),
        neutral(one.last_name),
        " ".join(map(str, one.enrolled_program_ids)),
        "yes" if one.campaign_contact else "no",
        neutral(one.locale),
    )
    if for_import:
        return row
    return (
        *row,
        Customer.FraudStatus.Name(one.fraud_status),
        Customer.StatusLabel.Name(one.status_label),
        _time(one.transfers_locked_until, there=one.HasField("transfers_locked_until")),
        one.merged_into_customer_id or "",
        _time(one.erased_at, there=one.HasField("erased_at")),
        _time(one.created_at),
    )


def balance_rows(lots: Iterable[common_pb2.Lot]) -> Iterable[Row]:
    """What `import balances` takes: a row for each lot."""
    for one in lots:
        yield (
            one.customer_id,
            one.remaining,
            _time(one.expires_at) if one.HasField("expires_at") else "never",
            _time(one.available_from, there=one.HasField("available_from")),
            common_pb2.Lot.Source.Name(one.source),
            one.program_id,
            one.earning_program_id,
            neutral(one.category),
        )


def lot_rows(lots: Iterable[common_pb2.Lot]) -> Iterable[Row]:
    """Lots as the server has them."""
    for one in lots:
        yield (
            one.lot_id,
            one.customer_id,
            one.program_id,
            one.earning_program_id,
            common_pb2.Lot.Source.Name(one.source),
            neutral(one.category),
            one.points,
            one.remaining,
            one.held,
            _time(one.awarded_at),
            _time(one.available_from, there=one.HasField("available_from")),
            _time(one.expires_at, there=one.HasField("expires_at")),
            one.parent_lot_id or "",
            one.root_lot_id,
            one.transaction_id,
        )


def wallet_rows(wallets: Iterable[wallet_service_pb2.ListedWallet]) -> Iterable[Row]:
    """Balances as of the time when their page was read."""
    for one in wallets:
        wallet = one.wallet
        yield (
            wallet.customer_id,
            wallet.program_id,
            wallet.wallet_version,
            wallet.current,
            wallet.redeemable,
            wallet.transferable,
            wallet.promised,
            wallet.held,
            one.lifetime_earned,
            one.lifetime_received,
            one.lifetime_purchases,
            _time(one.enrolled_at, there=one.HasField("enrolled_at")),
        )


def transaction_rows(transactions: Iterable[Transaction]) -> Iterable[Row]:
    """Entries of the journal."""
    for one in transactions:
        yield (
            one.transaction_id,
            Transaction.Kind.Name(one.kind),
            _time(one.created_at),
            one.customer_id,
            one.counterparty_id or "",
            one.program_id or "",
            one.points,
            neutral(one.request_id),
            neutral(one.actor),
            neutral(one.notes),
            one.policy_revision or "",
            one.stream,
            one.position,
        )


def _time(at: Timestamp, *, there: bool = True) -> str:
    """A time as RFC 3339 has it; nothing if there is none."""
    return at.ToJsonString() if there else ""
