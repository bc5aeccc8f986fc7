"""The reference model: what the service must answer, one method per command, from the contract alone.

`play` takes the request that the server got, and what only the server can know (`Drawn`). It answers the fields of the
acceptance that follow from the contract, by their names in the proto, or a `Refusal`. Guards stand in the contract's
order of rules. Imports the standard library and the generated stubs alone, which test_reference.py asserts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message
from reference_customers import Customers
from reference_guards import POINTS_MAX, Answer
from reference_redemptions import Redemptions
from reference_reversals import Reversals
from reference_state import (
    Drawn,
    Refusal,
)
from reference_transfers import Transfers

NOTHING_DRAWN = Drawn()
FINAL_GRPC = {"FAILED_PRECONDITION", "NOT_FOUND"}
NEVER_FINAL = {412, 888, 899}
CODES = {"code", "validation_code"}
TRANSFERS = {"CheckTransfer", "IssueTransferOtp", "TransferPoints", "ReverseTransfer"}


class Model(Transfers, Redemptions, Reversals, Customers):
    """The service, as the contract describes it, for one organisation."""

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.records: dict[str, tuple[str, Mapping[str, bytes], Answer | Refusal]] = {}

    # -- every command

    def play(self, rpc: str, request: Any, drawn: Drawn = NOTHING_DRAWN) -> Answer | Refusal:
        """What the service must answer; what it changes is remembered."""
        if malformed := self._malformed(rpc, request):
            return malformed
        is_read = rpc.startswith("Check") and not request.issue_otp
        request_id = "" if is_read else getattr(request, "request_id", "")
        if request_id in self.records:
            return self._again(rpc, request)
        method: Callable[[Any, Drawn], Answer] = getattr(self, rpc)
        outcome: Answer | Refusal
        try:
            outcome = {**method(request, drawn), "replayed": False}
        except Refusal as refusal:
            outcome = refusal
        if request_id and is_final(outcome):
            self.records[request_id] = (rpc, content_of(request), outcome)
        return outcome

    def _malformed(self, rpc: str, request: Any) -> Refusal | None:
        if rpc in TRANSFERS and rpc != "ReverseTransfer" and not 1 <= request.points_to_be_transferred <= POINTS_MAX:
            return Refusal("422 INVALID_ARGUMENT TRANSFER_POINTS_INVALID")
        if rpc == "ReverseRedemption":
            points = request.points_to_be_reversed
            if request.HasField("points_to_be_reversed") and not 1 <= points <= POINTS_MAX:
                return Refusal("901 INVALID_ARGUMENT INVALID_POINTS_OR_REDEMPTION_ID")
            return None
        named = "customer_identifier" in request.DESCRIPTOR.fields_by_name
        if named and "points" in request.DESCRIPTOR.fields_by_name and not 1 <= request.points <= POINTS_MAX:
            return Refusal("801 INVALID_ARGUMENT INVALID_POINTS")
        is_dated = "redemption_time" in request.DESCRIPTOR.fields_by_name
        if is_dated and request.redemption_time.ToMicroseconds() > self.now:
            return Refusal("859 INVALID_ARGUMENT INVALID_REDEMPTION_TIME")
        return None

    def _again(self, rpc: str, request: Any) -> Answer | Refusal:
        operation, content, outcome = self.records[request.request_id]
        given = content_of(request)
        fields = sorted(name for name in {*given, *content} if given.get(name) != content.get(name))
        if isinstance(outcome, Refusal) and outcome.metadata.get("otp_state") != "INVALID":
            # Its code may still be good, so that another one is not told from it.
            fields = [name for name in fields if name not in CODES or not (name in given and name in content)]
        fields = ["operation"] if operation != rpc else fields
        if fields and rpc in TRANSFERS:
            return Refusal(
                "902 ALREADY_EXISTS TRANSFER_DUPLICATE_REQUEST", cause="REQUEST_ID_REUSED", fields=",".join(fields)
            )
        if fields:
            return Refusal("10006 ALREADY_EXISTS REQUEST_ID_REUSED", fields=",".join(fields))
        if isinstance(outcome, Refusal):
            again = Refusal(f"{outcome.number} {outcome.grpc} {outcome.reason}", *outcome.warnings)
            again.metadata = {**outcome.metadata, "replayed": "true"}
            return again
        return {**outcome, "replayed": True}


def is_final(outcome: Answer | Refusal) -> bool:
    """Whether an outcome is recorded under its request id."""
    if not isinstance(outcome, Refusal):
        return True
    if outcome.number in {902, 903} and outcome.grpc in {"ALREADY_EXISTS", "RESOURCE_EXHAUSTED"}:
        return outcome.metadata.get("cause") != "REQUEST_ID_REUSED"
    return outcome.grpc in FINAL_GRPC and outcome.number not in NEVER_FINAL


def content_of(request: Message) -> Mapping[str, bytes]:
    """The fields that are set, the request id apart."""
    return {field.name: repr(value).encode() for field, value in request.ListFields() if field.name != "request_id"}
