"""What a decision can be: accepted with a result, or refused with a code; and the events that it leaves.

Every refusal of the service, wherever it is born, is a `Refused`, and meets gRPC in one function of `rpc/refusal.py`.
Results are plain frozen data, because they are recorded and given again to a repeated request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from points_grpc import codes
from points_grpc.codes import Code
from points_grpc.domain.events import Event
from points_grpc.domain.model import Customer, Lot, Program
from points_grpc.domain.policy import Policy


class Warning(Struct, frozen=True):  # noqa: A001 - the documented word; the builtin is never used here
    """Something beside the main action went wrong."""

    code: Code
    metadata: Mapping[str, str] = {}
    field: str = ""


class FieldError(Struct, frozen=True):
    """One malformed field. `description` says what is expected, and never repeats the input."""

    code: Code
    field: str
    description: str
    metadata: Mapping[str, str] = {}


class Refused(Struct, frozen=True):
    """A refusal: the code and the numbers behind it.

    `errors` holds every malformed field of a request that was refused for its shape, the first being this refusal's
    own. `retry_after_s` says when another try can succeed; `quota` names the limit that is used up; `precondition` the
    state that must change first.
    """

    code: Code
    metadata: Mapping[str, str] = {}
    field: str = ""
    errors: tuple[FieldError, ...] = ()
    warnings: tuple[Warning, ...] = ()
    retry_after_s: float | None = None
    quota: str = ""

    @property
    def recorded(self) -> bool:
        """Whether the refusal is the outcome of its request id for good."""
        if self.code in _NEVER_RECORDED:
            return False
        if self.code is codes.TRANSFER_DUPLICATE_REQUEST:
            return self.metadata.get("cause") == "DUPLICATE_WINDOW"
        return self.code is codes.TRANSFER_LIMIT_EXCEEDED or self.code.grpc in _RECORDED_GRPC


def wrong_field(code: Code, field: str, expected: str) -> Refused:
    """Refuses for one field that is wrong, with what is expected of it."""
    metadata = {"field": field} if "field" in code.metadata_keys else {}
    return Refused(code, metadata, field=field, errors=(FieldError(code, field, expected, metadata),))


_NEVER_RECORDED = frozenset(
    {
        codes.FRAUD_CHECK_CONFIG_INVALID,
        codes.ORG_CONFIGURATION_INVALID,
        codes.TRANSFER_CONFIGURATION_INVALID,
        codes.PROGRAM_CONFIGURATION_INVALID,
        codes.TRANSFER_PROGRAM_MISCONFIGURED,
    }
)
_RECORDED_GRPC = frozenset({codes.GrpcCode.FAILED_PRECONDITION, codes.GrpcCode.NOT_FOUND})


class Balance(Struct, frozen=True):
    """A wallet as an operation leaves it; what the wire calls WalletBalance."""

    customer_id: int
    program_id: int
    version: int
    current: int
    redeemable: int
    transferable: int
    promised: int
    held: int


class ProgramShare(Struct, frozen=True):
    """What an operation took from the points earned in one program, and what the customer has left of those."""

    program_id: int
    deducted: int
    left: int


class LotShare(Struct, frozen=True):
    """What an operation took from, or gave to, one lot."""

    lot_id: int
    earning_program_id: int
    points: int
    expires_at: datetime | None


class Challenge(Struct, frozen=True):
    """A one-time code on its way; `masked_target` hides most of the address."""

    masked_target: str
    channels: tuple[str, ...]
    expires_at: datetime
    attempts_left: int
    customer_id: int = 0
    """To whom."""


class TransferResult(Struct, frozen=True):
    """A transfer that was made."""

    transfer_id: int
    source_id: int
    destination_id: int
    program_id: int
    points: int
    made_at: datetime
    notes: str
    shares: tuple[ProgramShare, ...]
    balances: tuple[Balance, ...]


class CheckTransferResult(Struct, frozen=True):
    """A transfer that would be made."""

    points: int
    shares: tuple[ProgramShare, ...]
    balances_after: tuple[Balance, ...]
    challenge: Challenge | None
    code_required: bool


class IssueOtpResult(Struct, frozen=True):
    """A code that was issued, for a transfer or a redemption."""

    challenge: Challenge


class MoneyValue(Struct, frozen=True):
    """An amount of money in minor units."""

    currency_code: str
    minor_units: int


class RedemptionResult(Struct, frozen=True):
    """A redemption that was made. `lots` holds the first 100."""

    redemption_id: str
    transaction_id: int
    customer_id: int
    points: int
    value: MoneyValue | None
    redeemed_at: datetime
    shares: tuple[ProgramShare, ...]
    lots: tuple[LotShare, ...]
    lots_omitted: int
    balances: tuple[Balance, ...]


class CheckRedemptionResult(Struct, frozen=True):
    """A redemption that would be made. `lots` holds the first 100."""

    points: int
    value: MoneyValue | None
    shares: tuple[ProgramShare, ...]
    lots: tuple[LotShare, ...]
    lots_omitted: int
    balances_after: tuple[Balance, ...]
    challenge: Challenge | None
    proof_required: bool


class HoldResult(Struct, frozen=True):
    """Points that are held until `expires_at`. `lots` holds the first 100."""

    hold_id: str
    transaction_id: int
    customer_id: int
    points: int
    value: MoneyValue | None
    expires_at: datetime
    lots: tuple[LotShare, ...]
    lots_omitted: int
    balances: tuple[Balance, ...]


class CaptureResult(Struct, frozen=True):
    """A redemption that was made of a hold, and what of the hold was released with it."""

    redemption: RedemptionResult
    released: int


class ReleaseResult(Struct, frozen=True):
    """A hold that was released."""

    transaction_id: int
    released: int
    balances: tuple[Balance, ...]


class ReversedShare(Struct, frozen=True):
    """What a reversal gave back of one redemption."""

    redemption_id: str
    credited: int
    expired: int
    left: int


class ReversalResult(Struct, frozen=True):
    """A reversal that was made. `lots` holds the first 100 credited."""

    reversal_id: str
    transaction_id: int
    reversed_at: datetime
    asked: int
    redemptions: tuple[ReversedShare, ...]
    lots: tuple[LotShare, ...]
    lots_omitted: int
    balances: tuple[Balance, ...]


class TransferReversalResult(Struct, frozen=True):
    """A transfer that was taken back. `asked` divides into what was moved and what is short; `lots`: the first 100."""

    transfer_id: int
    transaction_id: int
    reversed_at: datetime
    asked: int
    moved: int
    lots: tuple[LotShare, ...]
    lots_omitted: int
    balances: tuple[Balance, ...]


class ReturnedShare(Struct, frozen=True):
    """What a return gave back of one redemption attached to it; nothing, if its ids are empty."""

    redemption_id: str
    credited: int = 0
    expired: int = 0
    left: int = 0
    reversal_id: str = ""
    transaction_id: int = 0


class ReturnResult(Struct, frozen=True):
    """A return that was booked: one share for each item, in order."""

    returned_at: datetime
    shares: tuple[ReturnedShare, ...]
    balances: tuple[Balance, ...]


class IssueResult(Struct, frozen=True):
    """Points that were issued."""

    transaction_id: int
    lot: Lot
    balances: tuple[Balance, ...]


class AdjustmentResult(Struct, frozen=True):
    """Points that were taken away. `lots` holds the first 100."""

    transaction_id: int
    points: int
    shares: tuple[ProgramShare, ...]
    lots: tuple[LotShare, ...]
    lots_omitted: int
    balances: tuple[Balance, ...]


class MergeResult(Struct, frozen=True):
    """Two customers that were merged. `transaction_id` is None if there were no points to move."""

    survivor: Customer
    program_ids: tuple[int, ...]
    victim_id: int
    transaction_id: int | None
    points: int
    lots: int
    balances: tuple[Balance, ...]


class CustomerResult(Struct, frozen=True):
    """A customer as the operation left it."""

    customer: Customer
    program_ids: tuple[int, ...]


class PurchaseResult(Struct, frozen=True):
    """A purchase that was recorded."""

    lifetime_purchases: int


class MissedCallResult(Struct, frozen=True):
    """A missed call that was recorded."""

    customer_id: int
    called_at: datetime


class ErasureResult(Struct, frozen=True):
    """A customer who was erased, with those merged into that one. `repeated`: it was done before, nothing changed."""

    customer_id: int
    merged_ids: tuple[int, ...]
    erased_at: datetime
    transaction_ids: tuple[int, ...]
    points_forfeited: int
    repeated: bool


class ProgramResult(Struct, frozen=True):
    """A program that was created."""

    program: Program
    default: bool


class GroupResult(Struct, frozen=True):
    """A group that was created."""

    group_id: int


class PolicyResult(Struct, frozen=True):
    """A policy that came into force."""

    policy: Policy
    created_at: datetime


class DoneResult(Struct, frozen=True):
    """An operation whose answer carries nothing."""


Result = (
    TransferResult
    | CheckTransferResult
    | IssueOtpResult
    | RedemptionResult
    | CheckRedemptionResult
    | HoldResult
    | CaptureResult
    | ReleaseResult
    | ReversalResult
    | TransferReversalResult
    | ReturnResult
    | IssueResult
    | AdjustmentResult
    | CustomerResult
    | MergeResult
    | PurchaseResult
    | MissedCallResult
    | ErasureResult
    | ProgramResult
    | GroupResult
    | PolicyResult
    | DoneResult
)

RESULT_TYPES: Mapping[str, type[Result]] = {
    "TransferPoints": TransferResult,
    "CheckTransfer": CheckTransferResult,
    "IssueTransferOtp": IssueOtpResult,
    "RedeemPoints": RedemptionResult,
    "CheckRedemption": CheckRedemptionResult,
    "IssueRedemptionOtp": IssueOtpResult,
    "AuthorizeRedemption": HoldResult,
    "CaptureRedemption": CaptureResult,
    "ReleaseRedemption": ReleaseResult,
    "ReverseRedemption": ReversalResult,
    "ReverseTransfer": TransferReversalResult,
    "ReturnTransaction": ReturnResult,
    "IssuePoints": IssueResult,
    "AdjustPoints": AdjustmentResult,
    "CreateCustomer": CustomerResult,
    "EnrolCustomer": CustomerResult,
    "SetCustomerStatus": CustomerResult,
    "SetTransferLock": CustomerResult,
    "RecordPurchase": PurchaseResult,
    "MergeCustomers": MergeResult,
    "RecordMissedCall": MissedCallResult,
    "EraseCustomer": ErasureResult,
    "CreateProgram": ProgramResult,
    "CreateProgramGroup": GroupResult,
    "SetPolicy": PolicyResult,
    "SetConfigKey": DoneResult,
    "SetPause": DoneResult,
    "SetProgramActive": ProgramResult,
    "AcknowledgeMessages": DoneResult,
    "AcknowledgeNotices": DoneResult,
    "BookDue": DoneResult,
}
"""The result of each operation, by its name: how a recorded answer is read back."""


class Accepted(Struct, frozen=True):
    """An acceptance. `transaction_id` names the journal transaction, if points moved."""

    result: Result
    warnings: tuple[Warning, ...] = ()
    transaction_id: int | None = None

    @property
    def transaction_ids(self) -> tuple[int, ...]:
        """All journal transactions of the command, in order: a return and an erasure may book several."""
        match self.result:
            case ReturnResult():
                return tuple(one.transaction_id for one in self.result.shares if one.transaction_id)
            case ErasureResult():
                return self.result.transaction_ids
        return () if self.transaction_id is None else (self.transaction_id,)


Outcome = Accepted | Refused


class Decision(Struct, frozen=True):
    """An outcome and what it leaves behind. A refusal can leave a trace: a wrong code is counted."""

    outcome: Outcome
    events: tuple[Event, ...] = ()


class Party(Struct, frozen=True):
    """A customer's names as they are when an answer is made; they are never part of a recorded outcome."""

    customer_id: int
    first_name: str
    last_name: str
    external_id: str


class Settled(Struct, frozen=True):
    """The answer to a submission: what the caller is told.

    `parties` are the customers whom a transfer's answer shows; `program_name` the program it names.
    """

    outcome: Outcome
    request_id: str
    replayed: bool = False
    parties: tuple[Party, ...] = ()
    program_name: str = ""
