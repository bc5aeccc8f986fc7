"""Returns of purchases, with the redemptions attached to them.

Rules of this file: the guards of `judge` stand in order, one a line, and refuse the return as a whole; what is wrong
with an item is a warning that names its index. Each item is a reversal like any other (`reversal.decide`) and sees its
predecessors, so that this is the one decision that evolves the snapshot on its way: nothing refuses the return any more
once its first item was reversed.
"""

from __future__ import annotations

from collections.abc import Mapping

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain import reversal
from points_grpc.domain.commands import ReturnedItem, ReturnTransaction, ReverseRedemption
from points_grpc.domain.configuration import REVERSALS_ALLOWED, is_on
from points_grpc.domain.context import Context
from points_grpc.domain.events import ReturnBooked
from points_grpc.domain.first_guards import configuration_parses
from points_grpc.domain.model import POINTS_MAX, Customer, ProgramBook, Return, WalletKey
from points_grpc.domain.outcome import (
    Accepted,
    Balance,
    Decision,
    Refused,
    ReturnedShare,
    ReturnResult,
    ReversalResult,
    Warning,
)
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot

REDEMPTION_ID_LENGTH_MAX = 32


def lookups(command: ReturnTransaction) -> Lookups:
    """What a return names."""
    named = [item.customer for item in command.items if item.customer is not None]
    return Lookups(
        identifiers=(command.customer, *named),
        redemption_ids=tuple(item.redemption_id for item in command.items if _is_redemption_id(item.redemption_id)),
        bills=(command.transaction_number,),
        transaction_numbers=(command.transaction_number,),
    )


def keys(command: ReturnTransaction, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001 - one signature
    """What a return needs loaded. The customers of bill and redemptions come along, with whoever lives on for them."""
    found = lookups(command)
    named = frozenset(found.redemption_ids)
    customers = {directory.customers[one] for one in found.identifiers if one in directory.customers}
    number = command.transaction_number
    bought = [directory.bills[number]] if number in directory.bills else []
    numbered = directory.by_transaction_number.get(number, ())
    redeemed = [directory.redemptions[one] for one in (*named, *numbered) if one in directory.redemptions]
    return Keys(
        customers=directory.with_survivors((*bought, *redeemed)) | customers,
        redemptions=named,
        transaction_numbers=frozenset({number}),
        returns=frozenset({number}),
    )


def decide(command: ReturnTransaction, context: Context, snapshot: Snapshot) -> Decision:
    """Books the return and gives back what can be given back, or says why there is no return."""
    customer = snapshot.find(command.customer)
    if refused := judge(command, customer, snapshot):
        return Decision(refused)
    assert customer is not None, "judged"
    shares: list[ReturnedShare] = []
    warnings: list[Warning] = []
    balances: dict[WalletKey, Balance] = {}
    for index, item in enumerate(command.items):
        outcome = _reverse(item, command, context, snapshot)
        if isinstance(outcome, Refused):
            shares.append(ReturnedShare(item.redemption_id if _is_redemption_id(item.redemption_id) else ""))
            warnings.append(_warning(outcome, index))
            continue
        result = outcome.result
        assert isinstance(result, ReversalResult), "a reversal"
        [given_back] = result.redemptions
        shares.append(
            ReturnedShare(
                redemption_id=item.redemption_id,
                credited=given_back.credited,
                expired=given_back.expired,
                left=given_back.left,
                reversal_id=result.reversal_id,
                transaction_id=result.transaction_id,
            )
        )
        warnings += [Warning(one.code, one.metadata, field=f"items[{index}]") for one in outcome.warnings]
        balances.update({WalletKey(one.customer_id, one.program_id): one for one in result.balances})
    returned = Return(
        transaction_number=command.transaction_number,
        customer_id=customer.customer_id,
        amount=command.amount,
        points=sum(share.credited + share.expired for share in shares),
        returned_at=snapshot.now,
        request_id=context.request_id,
        actor=context.actor,
        notes=command.notes,
    )
    result = ReturnResult(snapshot.now, tuple(shares), tuple(balances.values()))
    return Decision(Accepted(result, tuple(warnings)), (ReturnBooked(returned),))


def judge(command: ReturnTransaction, customer: Customer | None, snapshot: Snapshot) -> Refused | None:
    """The first rule that refuses the return as a whole."""
    return (
        operations_run(snapshot)
        or configuration_parses(snapshot)
        or customer_is_known(customer)
        or bill_is_the_customers(command, customer, snapshot)
        or bill_was_not_returned(command, snapshot)
    )


def operations_run(snapshot: Snapshot) -> Refused | None:
    """898: an operator paused the organisation."""
    return Refused(codes.PAUSED, {"cause": "ORGANISATION_PAUSED"}) if snapshot.book.paused else None


def customer_is_known(customer: Customer | None) -> Refused | None:
    """8015: no such customer in the organisation."""
    if customer is None:
        return Refused(codes.CUSTOMER_NOT_FOUND, {"party": "CUSTOMER"}, field="customer_identifier.value")
    return None


def bill_is_the_customers(command: ReturnTransaction, customer: Customer | None, snapshot: Snapshot) -> Refused | None:
    """10012: the bill is on record, and neither the customer's nor that of one who was merged into the customer."""
    owners = snapshot.owners_of_bill(command.transaction_number)
    if not owners or customer is None or any(snapshot.speaks_for(customer.customer_id, one) for one in owners):
        return None
    return Refused(codes.RESOURCE_NOT_FOUND, {"resource": "Transaction"}, field="transaction_number")


def bill_was_not_returned(command: ReturnTransaction, snapshot: Snapshot) -> Refused | None:
    """10013: a purchase is returned once."""
    if snapshot.is_returned(command.transaction_number):
        return Refused(codes.RESOURCE_EXISTS, {"resource": "Return"}, field="transaction_number")
    return None


# -- the items -------------------------------------------------------------------------------------------------------


def _reverse(
    item: ReturnedItem, command: ReturnTransaction, context: Context, snapshot: Snapshot
) -> Accepted | Refused:
    """The reversal of one item, done if nothing refuses it."""
    if not is_on(snapshot.config, REVERSALS_ALLOWED):
        return Refused(codes.REVERSAL_NOT_POSSIBLE, {"cause": "REVERSAL_DISABLED"})
    if item.points is not None and not 1 <= item.points <= POINTS_MAX:
        return Refused(codes.INVALID_POINTS_OR_REDEMPTION_ID, {"cause": "POINTS"})
    if not _is_redemption_id(item.redemption_id):
        return Refused(codes.INVALID_POINTS_OR_REDEMPTION_ID, {"cause": "REDEMPTION_ID"})
    if snapshot.redemption(item.redemption_id) is None:
        return Refused(codes.REDEMPTION_NOT_FOUND)
    if item.customer is None:
        return Refused(codes.INVALID_CUSTOMER_DETAILS)
    reversed_item = ReverseRedemption(
        customer=item.customer, redemption_id=item.redemption_id, points=item.points, notes=command.notes
    )
    decision = reversal.decide(reversed_item, context, snapshot)
    snapshot.evolve(decision.events)
    return decision.outcome


_WARNINGS: Mapping[Code, Code] = {
    codes.INVALID_POINTS_OR_REDEMPTION_ID: codes.RETURN_INVALID_POINTS_OR_REDEMPTION_ID,
    codes.REDEMPTION_NOT_FOUND: codes.RETURN_REDEMPTION_NOT_FOUND,
    codes.INVALID_CUSTOMER_DETAILS: codes.RETURN_INVALID_CUSTOMER_DETAILS,
    codes.CUSTOMER_NOT_FOUND: codes.RETURN_INVALID_CUSTOMER_DETAILS,
}
"""The warning of each refusal of a reversal; every other one is 903, the points could not be restored."""


def _warning(refused: Refused, index: int) -> Warning:
    """What the refusal of an item comes to."""
    field = f"items[{index}]"
    cause = refused.metadata.get("cause", "")
    if cause == "REVERSAL_DISABLED":
        return Warning(codes.REVERSAL_DISABLED, {"index": str(index)}, field)
    code = _WARNINGS.get(refused.code, codes.RETURN_NOT_POSSIBLE)
    if "cause" in code.metadata_keys:
        return Warning(code, {"index": str(index), "cause": cause or refused.code.reason}, field)
    return Warning(code, {"index": str(index)}, field)


def _is_redemption_id(text: str) -> bool:
    return 0 < len(text) <= REDEMPTION_ID_LENGTH_MAX and text.isascii() and text.isalnum()
