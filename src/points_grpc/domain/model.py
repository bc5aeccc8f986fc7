"""The nouns of the service: customers, wallets, lots, programs, redemptions, and the closed sets they use.

Plain frozen data, no rules. Points are integers in the program's smallest unit; times are aware UTC datetimes; the
numbers of the enums are those of the protobuf enums of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple

from msgspec import Struct

from points_grpc.domain.policy import PointValue, Policy

POINTS_MAX = 10**12
"""The most points that one request can name, in the smallest unit."""


class Source(IntEnum):
    """Where points come from."""

    LOYALTY_PLUS = 1
    ENGAGE_PLUS = 2
    GOODWILL = 3
    DATA_IMPORT = 4
    REGISTRATION = 5


class IdentifierType(IntEnum):
    """The kinds of customer identifier."""

    ID = 1
    MOBILE = 2
    EXTERNAL_ID = 3
    EMAIL = 4


class FraudStatus(IntEnum):
    """The older fraud marking of a customer."""

    NOT_FRAUD = 1
    MARKED = 2
    CONFIRMED = 3
    RECONFIRMED = 4
    INTERNAL = 5


class StatusLabel(IntEnum):
    """The label of the customer-status module."""

    ACTIVE = 1
    SUSPENDED = 2
    FRAUD_SUSPECTED = 3
    FRAUD_CONFIRMED = 4
    INTERNAL_USER = 5
    DELETED = 6
    PENDING_DELETION = 7


class OtpAction(IntEnum):
    """What a one-time code allows."""

    TRANSFER = 1
    REDEMPTION = 2


class Kind(IntEnum):
    """What a journal transaction books."""

    ISSUE = 1
    TRANSFER = 2
    REDEMPTION = 3
    REVERSAL = 4
    EXPIRY = 5
    MERGE = 6
    ADJUSTMENT = 7
    TRANSFER_REVERSAL = 8
    HOLD = 10
    RELEASE = 11


class Account(IntEnum):
    """Where a posting takes points from or puts them. System accounts have postings and no stored balance."""

    WALLET = 1
    ISSUED = 2
    REDEEMED = 3
    EXPIRED = 4
    ADJUSTED = 5
    CLEARING = 6


class Channel(StrEnum):
    """How a message reaches a customer."""

    MOBILE = "MOBILE"
    EMAIL = "EMAIL"


class WalletKey(NamedTuple):
    """A wallet: a customer in a program."""

    customer_id: int
    program_id: int


class BucketKey(NamedTuple):
    """A share of a wallet whose points have the same earning program, source and category."""

    earning_program_id: int
    source: Source
    category: str


class Identifier(NamedTuple):
    """A normalised customer identifier. An ID is its decimal digits."""

    type: IdentifierType
    value: str


class Customer(Struct, frozen=True):
    """A customer, without enrolments: those stand on the wallets. At most one identifier of each kind."""

    customer_id: int
    first_name: str
    last_name: str
    mobile: str | None
    email: str | None
    external_id: str | None
    campaign_contact: bool
    fraud_status: FraudStatus
    status_label: StatusLabel
    transfers_locked_until: datetime | None
    merged_into: int | None
    created_at: datetime
    messages_failed: bool = False
    """Whether messages to the customer wait of which one failed."""
    locale: str = ""
    """The language of messages, as a BCP 47 tag; empty for the organisation's own texts."""
    erased_at: datetime | None = None
    """When it was erased who this is; nothing names the customer any more but its number, on record."""


class Wallet(Struct, frozen=True):
    """A wallet's stored totals. `promised` and `held` are parts of `current`.

    `due_at` is never later than the first instant at which something of the wallet is due to be booked (a lot expires,
    a promised lot matures); None if nothing ever is. A wallet without `enrolled_at` belongs to nobody enrolled.
    """

    key: WalletKey
    version: int = 0
    current: int = 0
    promised: int = 0
    held: int = 0
    lifetime_earned: int = 0
    lifetime_received: int = 0
    lifetime_purchases: int = 0
    enrolled_at: datetime | None = None
    due_at: datetime | None = None

    @property
    def customer_id(self) -> int:
        """Whose wallet it is."""
        return self.key.customer_id

    @property
    def program_id(self) -> int:
        """The program of the wallet."""
        return self.key.program_id


class Bucket(NamedTuple):
    """The stored totals of one bucket of a wallet: sums over its lots that were not booked as expired."""

    points: int = 0
    promised: int = 0
    held: int = 0


class Lot(Struct, frozen=True):
    """Points of one origin in one wallet. `bucket` counts them with others of their kind. `expires_at` None: never.

    `promised` says that `available_from` lies ahead, as far as was booked.
    """

    lot_id: int
    wallet: WalletKey
    bucket: BucketKey
    points: int
    remaining: int
    held: int
    awarded_at: datetime
    available_from: datetime | None
    promised: bool
    expires_at: datetime | None
    parent_lot_id: int | None
    root_lot_id: int
    transaction_id: int

    @property
    def customer_id(self) -> int:
        """Whose points they are."""
        return self.wallet.customer_id

    @property
    def program_id(self) -> int:
        """The program of the wallet that holds the lot."""
        return self.wallet.program_id

    @property
    def earning_program_id(self) -> int:
        """The program that the points were earned in."""
        return self.bucket.earning_program_id

    @property
    def source(self) -> Source:
        """Where the points came from."""
        return self.bucket.source

    @property
    def category(self) -> str:
        """The category of the points."""
        return self.bucket.category


class Program(Struct, frozen=True):
    """A loyalty program with the policy in force."""

    program_id: int
    name: str
    active: bool
    decimal_places: int
    time_zone: str
    group_id: int | None
    paused: bool
    policy: Policy


class ProgramGroup(Struct, frozen=True):
    """Programs across which points can be pooled."""

    group_id: int
    name: str
    default_program_id: int
    program_ids: tuple[int, ...]


class ProgramBook(Struct, frozen=True):
    """An organisation with its programs and groups, as of one version."""

    org_id: int
    version: int
    default_region: str
    default_program_id: int | None
    paused: bool
    programs: Mapping[int, Program]
    groups: Mapping[int, ProgramGroup]

    def program(self, program_id: int) -> Program | None:
        """The program named, or the default one for 0; None if there is no such program."""
        wanted = program_id or self.default_program_id
        return None if wanted is None else self.programs.get(wanted)

    def pool(self, program: Program, *, pooled: bool) -> tuple[int, ...]:
        """The programs whose points an operation may draw that names this one: pooled, those of its group."""
        if pooled and program.group_id is not None:
            return self.groups[program.group_id].program_ids
        return (program.program_id,)

    def is_paused(self, program_ids: Iterable[int]) -> bool:
        """Whether an operator paused one of the programs."""
        programs = self.programs
        return any(programs[one].paused for one in program_ids)


class OrgConfig(Struct, frozen=True):
    """The organisation's configuration keys as raw text, judged at use. `available` is False if reading them failed."""

    values: Mapping[str, str]
    available: bool = True


class Posting(Struct, frozen=True):
    """One change of one wallet or system account. System accounts have no customer, lot, version or balance (0).

    `held` is the change of what is held of the lot; `points`, the change of what is left of it, may be 0 then.
    """

    account: Account
    customer_id: int
    program_id: int
    lot_id: int
    points: int
    wallet_version: int
    balance_after: int
    held: int = 0


class JournalEntry(Struct, frozen=True):
    """A journal transaction: its postings sum to zero per program; `opened` are the lots that it brings into being.

    `request_id` and `actor` are empty for bookings that no command asked for.
    """

    transaction_id: int
    kind: Kind
    created_at: datetime
    customer_id: int
    counterparty_id: int | None
    program_id: int
    points: int
    request_id: str
    actor: str
    notes: str
    policy_revision: int
    postings: tuple[Posting, ...]
    opened: tuple[Lot, ...] = ()
    transaction_number: str | None = None


class RedeemedLot(Struct, frozen=True):
    """What a redemption took from one lot, and what of it was given back (expired shares included)."""

    lot_id: int
    customer_id: int
    program_id: int
    points: int
    reversed: int


class Redemption(Struct, frozen=True):
    """A redemption that was made. `reversed` counts credited and expired shares of its reversals."""

    redemption_id: str
    transaction_id: int
    customer_id: int
    program_id: int
    points: int
    reversed: int
    redeemed_at: datetime
    redemption_time: datetime | None
    transaction_number: str | None
    external_reference: str | None
    last_reversed_at: datetime | None
    lots: tuple[RedeemedLot, ...]


class MadeTransfer(Struct, frozen=True):
    """A transfer that was made. Its lots are those that its journal transaction opened."""

    transfer_id: int
    source_id: int
    destination_id: int
    program_id: int
    points: int


class HoldState(StrEnum):
    """What became of a hold. EXPIRED: its deadline passed, and the release was booked."""

    OPEN = "OPEN"
    CAPTURED = "CAPTURED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class HeldLot(Struct, frozen=True):
    """What a hold keeps of one lot."""

    lot_id: int
    customer_id: int
    program_id: int
    points: int

    @property
    def wallet(self) -> WalletKey:
        """The wallet that holds the lot."""
        return WalletKey(self.customer_id, self.program_id)


class Hold(Struct, frozen=True):
    """Points kept for a redemption that was authorised. `lots` stand in the order in which they would be spent.

    Open through its deadline `expires_at`, which is no later than any expiry of its lots. What the capture needs of the
    authorisation stands here, so that nothing is judged twice: the bill, the reference, the worth of a point.
    """

    hold_id: str
    transaction_id: int
    customer_id: int
    program_id: int
    points: int
    state: HoldState
    held_at: datetime
    expires_at: datetime
    redemption_time: datetime | None
    transaction_number: str | None
    external_reference: str | None
    point_value: PointValue | None
    policy_revision: int
    captured: int
    closed_at: datetime | None
    closing_transaction_id: int | None
    lots: tuple[HeldLot, ...]


class MissedCall(Struct, frozen=True):
    """A call that a customer made from the registered mobile number, to prove a redemption. Used at most once."""

    call_id: int
    customer_id: int
    mobile: str
    called_at: datetime
    recorded_at: datetime
    used_by: int | None = None


class OtpState(StrEnum):
    """What became of a one-time code."""

    LIVE = "LIVE"
    USED = "USED"
    REPLACED = "REPLACED"


class Otp(Struct, frozen=True):
    """The last one-time code issued to a customer for an action and a program.

    At most one code of a (customer, action) is LIVE. `due_until`: until when transfers need a code under IF_ISSUED;
    it outlives expiry, exhaustion and replacement, and ends when a code is consumed.
    """

    otp_id: int
    customer_id: int
    action: OtpAction
    program_id: int
    counterparty_id: int | None
    points_max: int
    category: str
    pooled: bool
    code_hash: str
    key_id: str
    state: OtpState
    attempts_left: int
    issued_at: datetime
    expires_at: datetime
    due_until: datetime | None


class OtpCounter(Struct, frozen=True):
    """How many codes a customer was issued, and how many wrong ones were tried, for an action in a window.

    The window ends with the longest of those of the programs that counted in it.
    """

    customer_id: int
    action: OtpAction
    window_started_at: datetime
    window_ends_at: datetime
    issues: int = 0
    wrong_attempts: int = 0


class Message(Struct, frozen=True):
    """A message on its way to a customer. `secret` is the one-time code in the clear: sealed before it is stored."""

    message_id: int
    customer_id: int
    action: OtpAction
    otp_id: int
    channel: Channel
    target: str
    secret: str
    created_at: datetime
    expires_at: datetime

    def __repr__(self) -> str:
        """Shows neither target nor code."""
        return f"Message({self.message_id})"


class WaitingMessage(Struct, frozen=True):
    """A message in the outbox that was not delivered yet; `error` is what the last attempt failed of."""

    message_id: int
    action: OtpAction
    attempts: int
    error: str


class Notice(Struct, frozen=True):
    """A business event on its way to a webhook: `body` is what it says, as JSON; `kind` that of its transaction.

    `tried_since` is when its time to be tried began, where that was after it was made: an operator had it sent again.
    """

    org_id: int
    event_id: int
    customer_id: int
    kind: Kind
    created_at: datetime
    body: bytes
    attempts: int = 0
    tried_since: datetime | None = None


class Purchase(Struct, frozen=True):
    """A bill that the organisation knows. `amount` is None if only an issue named it."""

    transaction_number: str
    customer_id: int
    program_id: int
    amount: int | None


class Return(Struct, frozen=True):
    """A purchase that was returned. `points` were reversed by it: credited and expired."""

    transaction_number: str
    customer_id: int
    amount: int | None
    points: int
    returned_at: datetime
    request_id: str
    actor: str
    notes: str
