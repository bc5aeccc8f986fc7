"""The hot statements: built with SQLAlchemy Core, compiled once to the driver's SQL, never put together at run time.

Rules of this file: a list of keys is one parameter, so that one prepared text serves every batch; every statement names
its parameters in the order in which callers bind them, and the import fails where the compiled text wants another;
numbers that an index is restricted by stand in the text, never in a parameter, or the planner cannot use the index;
queries select the columns that `rows` takes apart. tests/storage/test_plans.py explains each and refuses those that
scan a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Delete,
    Insert,
    Integer,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from points_grpc.domain.model import Account, Kind
from points_grpc.domain.snapshot import OFFSPRING as OFFSPRING_KINDS
from points_grpc.storage import rows, sqlite
from points_grpc.storage.bundling import as_one_value, inserts_values
from points_grpc.storage.driver import Statement
from points_grpc.storage.key_lists import EachKey, among
from points_grpc.storage.schema import (
    audit_events,
    config_keys,
    customers,
    hold_lots,
    holds,
    journal_streams,
    lots,
    missed_calls,
    notices,
    orgs,
    otp_counters,
    otps,
    outbox,
    policies,
    postings,
    program_groups,
    programs,
    purchases,
    redemption_lots,
    redemptions,
    requests,
    returns,
    transactions,
    wallets,
)

_Excluded = ReadOnlyColumnCollection[str, Any]
"""The values of a row that was there already."""

_Upsert = TypeVar("_Upsert", SqliteInsert, postgresql.Insert)

_dialect = sqlite.new_dialect()
_ZERO: ColumnElement[int] = literal_column("0")
_ONE: ColumnElement[int] = literal_column("1")


def compiled(
    statement: Select[Any] | Insert | Update | Delete,
    *names: str,
    whole: bool = False,
    elsewhere: Select[Any] | Insert | None = None,
) -> Statement:
    """A statement as the driver takes it. `names`: its parameters in the order in which they are bound.

    `whole`: for queries that answer with many rows on the hot path; they come as one value.
    `elsewhere`: the same for other engines than SQLite, where one form is not good for all.
    """
    found = statement.compile(dialect=_dialect)
    order = tuple(found.positiontup or ())
    if order != names:
        raise AssertionError(f"parameters are named {names}, the statement binds {order}: {found}")
    bundled = ""
    if whole and isinstance(statement, Select):
        bundled = as_one_value(str(found), len(statement.selected_columns))
    return Statement(
        str(found), names, bundled, inserts_values(str(found)), statement if elsewhere is None else elsewhere
    )


def columns(table: Any, names: Sequence[str]) -> list[Column[Any]]:
    """Columns of a table or alias by name, in that order."""
    return [table.c[name] for name in names]


def _same_org(table: Table) -> ColumnElement[bool]:
    return table.c.org_id == bindparam("org_id")


def _insert(table: Table) -> Statement:
    """Inserts rows whose values stand in the order of the table's columns."""
    names = [column.name for column in table.c]
    return compiled(sqlite.new_insert(table).values({name: bindparam(name) for name in names}), *names)


def _insert_unless_there(table: Table) -> Statement:
    """As `_insert`; leaves a row that is there already as it is."""
    names = [column.name for column in table.c]
    values: dict[str, BindParameter[Any]] = {name: bindparam(name) for name in names}
    return compiled(
        sqlite.new_insert(table).values(values).on_conflict_do_nothing(),
        *names,
        elsewhere=postgresql.insert(table).values(values).on_conflict_do_nothing(),
    )


def _upsert(
    table: Table,
    *,
    when: Callable[[_Excluded], ColumnElement[bool]] | None = None,
) -> Statement:
    """As `_insert`; a row that is there already is replaced, and only `when` it may be.

    Both engines say it in the same words, and SQLAlchemy in two classes.
    """
    names = [column.name for column in table.c]
    key = [column.name for column in table.primary_key]

    def on_conflict(insert: _Upsert) -> _Upsert:
        insert = insert.values({name: bindparam(name) for name in names})
        replaced = {name: insert.excluded[name] for name in names if name not in key}
        where = None if when is None else when(insert.excluded)
        return insert.on_conflict_do_update(index_elements=key, set_=replaced, where=where)

    return compiled(on_conflict(sqlite.new_insert(table)), *names, elsewhere=on_conflict(postgresql.insert(table)))


def _update(table: Table, values: Sequence[str], *where: str) -> Statement:
    """Sets columns of the row with a key; `where` may end with further columns that must be as read."""
    condition = [table.c[name] == bindparam(f"old_{name}") for name in where]
    statement = update(table).where(*condition).values({name: bindparam(f"new_{name}") for name in values})
    return compiled(statement, *(f"new_{name}" for name in values), *(f"old_{name}" for name in where))


# -- what a batch names ----------------------------------------------------------------------------------------------

REQUESTS_BY_ID = compiled(
    select(*columns(requests, rows.REQUEST_COLUMNS)).where(_same_org(requests), among(requests.c.request_id, "ids")),
    "org_id",
    "ids",
)

ORG = compiled(
    select(orgs.c.book_version, orgs.c.default_region, orgs.c.default_program_id, orgs.c.paused).where(_same_org(orgs)),
    "org_id",
)

_newer = policies.alias("newer")

PROGRAMS = compiled(
    select(
        programs.c.program_id,
        programs.c.name,
        programs.c.active,
        programs.c.decimal_places,
        programs.c.time_zone,
        programs.c.group_id,
        programs.c.paused,
        policies.c.body,
    )
    .join(policies, and_(policies.c.org_id == programs.c.org_id, policies.c.program_id == programs.c.program_id))
    .where(
        _same_org(programs),
        policies.c.revision
        == select(func.max(_newer.c.revision))
        .where(_newer.c.org_id == programs.c.org_id, _newer.c.program_id == programs.c.program_id)
        .correlate(programs)
        .scalar_subquery(),
    )
    .order_by(programs.c.program_id),
    "org_id",
)
"""Programs with the policy in force. A program never is without one: both are written together."""

GROUPS = compiled(
    select(program_groups.c.group_id, program_groups.c.name, program_groups.c.default_program_id).where(
        _same_org(program_groups)
    ),
    "org_id",
)

CONFIG = compiled(select(config_keys.c.name, config_keys.c.value).where(_same_org(config_keys)), "org_id")


def _customers_by(column: str) -> Statement:
    return compiled(
        select(*columns(customers, rows.CUSTOMER_COLUMNS)).where(
            _same_org(customers), among(customers.c[column], "ids")
        ),
        "org_id",
        "ids",
        whole=True,
    )


CUSTOMERS_BY_ID = _customers_by("customer_id")
CUSTOMERS_BY_MOBILE = _customers_by("mobile")
CUSTOMERS_BY_EMAIL = _customers_by("email")
CUSTOMERS_BY_EXTERNAL_ID = _customers_by("external_id")

CUSTOMERS_MERGED_INTO = compiled(
    select(*columns(customers, rows.CUSTOMER_COLUMNS)).where(
        _same_org(customers), among(customers.c.merged_into, "ids"), customers.c.merged_into.is_not(None)
    ),
    "org_id",
    "ids",
)

PARTIES = compiled(
    select(*columns(customers, rows.PARTY_COLUMNS)).where(_same_org(customers), among(customers.c.customer_id, "ids")),
    "org_id",
    "ids",
)


def _redemptions_by(column: str) -> Statement:
    return compiled(
        select(redemptions.c[column], redemptions.c.redemption_id, redemptions.c.customer_id)
        .where(_same_org(redemptions), among(redemptions.c[column], "ids"))
        .order_by(redemptions.c.transaction_id),
        "org_id",
        "ids",
    )


REDEMPTION_OWNERS = _redemptions_by("redemption_id")
REDEMPTIONS_BY_EXTERNAL_REFERENCE = _redemptions_by("external_reference")
REDEMPTIONS_BY_TRANSACTION_NUMBER = _redemptions_by("transaction_number")

TRANSFERS_BY_ID = compiled(
    select(*columns(transactions, rows.MADE_TRANSFER_COLUMNS)).where(
        _same_org(transactions),
        among(transactions.c.transaction_id, "ids"),
        transactions.c.kind == literal_column(str(int(Kind.TRANSFER))),
    ),
    "org_id",
    "ids",
)

HOLD_OWNERS = compiled(
    select(holds.c.hold_id, holds.c.customer_id).where(_same_org(holds), among(holds.c.hold_id, "ids")),
    "org_id",
    "ids",
)

# -- what a batch is decided on --------------------------------------------------------------------------------------

WALLETS = compiled(
    select(*columns(wallets, rows.WALLET_COLUMNS)).where(_same_org(wallets), among(wallets.c.customer_id, "ids")),
    "org_id",
    "ids",
    whole=True,
)


def _first_lots() -> Statement:
    """The first lots of many wallets at once: for each key, as many as the limit says, off the spending index.

    The join is an outer one because SQLite keeps the order of an outer join: as an inner one it may be planned from the
    lots, which reads every lot of the organisation. A wallet without lots comes as a row of nulls. Elsewhere a lateral
    join says what is meant.
    """
    keys = EachKey("keys")
    first = lots.alias("first")
    of_wallet = and_(
        first.c.org_id == bindparam("org_id"),
        first.c.customer_id == keys.part(0),
        first.c.program_id == keys.part(1),
        first.c.live == _ONE,
    )

    def firsts(*names: str) -> Select[Any]:
        in_order = select(*columns(first, names)).where(of_wallet)
        in_order = in_order.order_by(first.c.expires_at, first.c.awarded_at, first.c.lot_id)
        return in_order.limit(bindparam("limit")).offset(_ZERO).correlate(keys.table)

    found = firsts(*rows.LOT_COLUMNS).lateral("found")
    return compiled(
        select(*columns(lots, rows.LOT_COLUMNS)).select_from(
            keys.table.join(lots, and_(_same_org(lots), lots.c.lot_id.in_(firsts("lot_id"))), isouter=True)
        ),
        "keys",
        "org_id",
        "org_id",
        "limit",
        whole=True,
        elsewhere=select(*columns(found, rows.LOT_COLUMNS)).select_from(keys.table.join(found, true())),
    )


FIRST_LOTS = _first_lots()
"""Rows come wallet by wallet, but in no order that could be relied on: sort them."""


def _promised_lots() -> Statement:
    """The promised lots of many wallets at once, as long as they have points: what expired first is promised no more.

    Points left are not asked for by `live`, which another index has: the one of promised lots is far smaller.
    """
    keys = EachKey("keys")
    return compiled(
        select(*columns(lots, rows.LOT_COLUMNS)).select_from(
            keys.table.join(
                lots,
                and_(
                    _same_org(lots),
                    lots.c.customer_id == keys.part(0),
                    lots.c.program_id == keys.part(1),
                    lots.c.promised == _ONE,
                    lots.c.remaining > _ZERO,
                ),
            )
        ),
        "keys",
        "org_id",
    )


PROMISED_LOTS = _promised_lots()

LOTS_BY_ID = compiled(
    select(*columns(lots, rows.LOT_COLUMNS)).where(_same_org(lots), among(lots.c.lot_id, "ids")),
    "org_id",
    "ids",
)

LOTS_OF_TRANSACTIONS = compiled(
    select(*columns(lots, rows.LOT_COLUMNS)).where(
        _same_org(lots),
        lots.c.lot_id.in_(
            select(postings.c.lot_id).where(
                postings.c.org_id == bindparam("org_id_again"),
                among(postings.c.transaction_id, "ids"),
                postings.c.account == literal_column(str(int(Account.WALLET))),
            )
        ),
    ),
    "org_id",
    "org_id_again",
    "ids",
)
"""The lots that transactions drew or opened."""

OFFSPRING = compiled(
    select(transactions.c.kind, *columns(lots, rows.LOT_COLUMNS))
    .join(
        transactions,
        and_(transactions.c.org_id == lots.c.org_id, transactions.c.transaction_id == lots.c.transaction_id),
    )
    .where(
        _same_org(lots),
        among(lots.c.parent_lot_id, "ids"),
        lots.c.parent_lot_id.is_not(None),
        transactions.c.kind.in_([literal_column(str(int(kind))) for kind in sorted(OFFSPRING_KINDS)]),
    )
    .order_by(lots.c.lot_id),
    "org_id",
    "ids",
)
"""The lots drawn from lots by anything but a transfer."""

OTPS = compiled(
    select(*columns(otps, rows.OTP_COLUMNS)).where(_same_org(otps), among(otps.c.customer_id, "ids")),
    "org_id",
    "ids",
)

OTP_COUNTERS = compiled(
    select(*columns(otp_counters, rows.OTP_COUNTER_COLUMNS)).where(
        _same_org(otp_counters), among(otp_counters.c.customer_id, "ids")
    ),
    "org_id",
    "ids",
)


WAITING_MESSAGES = compiled(
    select(*columns(outbox, rows.WAITING_MESSAGE_COLUMNS))
    .where(
        _same_org(outbox),
        among(outbox.c.customer_id, "ids"),
        outbox.c.state == literal_column("'QUEUED'"),
    )
    .order_by(outbox.c.customer_id, outbox.c.message_id),
    "org_id",
    "ids",
)


def _recent_transfers() -> Statement:
    """When each of some equal transfers (from, to, program, points, not before) was made last; by number of the key."""
    keys = EachKey("keys")
    last = (
        select(func.max(transactions.c.created_at))
        .where(
            _same_org(transactions),
            transactions.c.customer_id == keys.part(0),
            transactions.c.counterparty_id == keys.part(1),
            transactions.c.counterparty_id.is_not(None),
            transactions.c.program_id == keys.part(2),
            transactions.c.points == keys.part(3),
            transactions.c.created_at >= keys.part(4),
            transactions.c.kind == literal_column(str(int(Kind.TRANSFER))),
        )
        .correlate(keys.table)
        .scalar_subquery()
    )
    return compiled(select(keys.number, last).select_from(keys.table), "org_id", "keys")


RECENT_TRANSFERS = _recent_transfers()

REDEMPTIONS = compiled(
    select(*columns(redemptions, rows.REDEMPTION_COLUMNS)).where(
        _same_org(redemptions), among(redemptions.c.redemption_id, "ids")
    ),
    "org_id",
    "ids",
)

REDEEMED_LOTS = compiled(
    select(*columns(redemption_lots, rows.REDEEMED_LOT_COLUMNS))
    .where(_same_org(redemption_lots), among(redemption_lots.c.redemption_id, "ids"))
    .order_by(redemption_lots.c.redemption_id, redemption_lots.c.seq),
    "org_id",
    "ids",
)

_OPEN = holds.c.state == literal_column("'OPEN'")

OPEN_HOLDS = compiled(
    select(*columns(holds, rows.HOLD_COLUMNS)).where(_same_org(holds), among(holds.c.customer_id, "ids"), _OPEN),
    "org_id",
    "ids",
)

HOLDS = compiled(
    select(*columns(holds, rows.HOLD_COLUMNS)).where(_same_org(holds), among(holds.c.hold_id, "ids")),
    "org_id",
    "ids",
)

HELD_LOTS = compiled(
    select(*columns(hold_lots, rows.HELD_LOT_COLUMNS))
    .where(_same_org(hold_lots), among(hold_lots.c.hold_id, "ids"))
    .order_by(hold_lots.c.hold_id, hold_lots.c.seq),
    "org_id",
    "ids",
)

HELD_REFERENCES = compiled(
    select(holds.c.external_reference, holds.c.hold_id).where(
        _same_org(holds),
        among(holds.c.external_reference, "ids"),
        _OPEN,
        holds.c.expires_at >= bindparam("now"),
    ),
    "org_id",
    "ids",
    "now",
)
"""The references that open holds keep; what is past its deadline keeps none."""

UNUSED_CALLS = compiled(
    select(*columns(missed_calls, rows.MISSED_CALL_COLUMNS)).where(
        _same_org(missed_calls),
        among(missed_calls.c.customer_id, "ids"),
        missed_calls.c.used_by.is_(None),
        missed_calls.c.called_at >= bindparam("since"),
    ),
    "org_id",
    "ids",
    "since",
)

PURCHASES = compiled(
    select(*columns(purchases, rows.PURCHASE_COLUMNS)).where(
        _same_org(purchases), among(purchases.c.transaction_number, "ids")
    ),
    "org_id",
    "ids",
)

RETURNS = compiled(
    select(returns.c.transaction_number).where(_same_org(returns), among(returns.c.transaction_number, "ids")),
    "org_id",
    "ids",
)

STREAM_HEAD = compiled(
    select(journal_streams.c.position, journal_streams.c.hash).where(
        _same_org(journal_streams), journal_streams.c.stream == bindparam("stream")
    ),
    "org_id",
    "stream",
)

LAST_OF_STREAM = compiled(
    select(func.max(transactions.c.transaction_id)).where(
        journal_streams.c.stream == bindparam("stream"),
        transactions.c.org_id == journal_streams.c.org_id,
        transactions.c.stream == journal_streams.c.stream,
        transactions.c.position == journal_streams.c.position,
    ),
    "stream",
)
"""The highest id of a slot's newest transactions, of all organisations: asked once, when a writer starts."""

# -- what a batch leaves behind --------------------------------------------------------------------------------------

INSERT_WALLET = _insert(wallets)
UPDATE_WALLET = _update(
    wallets,
    (
        "version",
        "current",
        "promised",
        "held",
        "lifetime_earned",
        "lifetime_received",
        "lifetime_purchases",
        "enrolled_at",
        "due_at",
        "buckets",
        "days",
    ),
    "org_id",
    "customer_id",
    "program_id",
    "version",
)
INSERT_LOT = _insert(lots)
UPDATE_LOT = _update(lots, ("remaining", "held"), "org_id", "lot_id")
"""Points drawn from a lot, or given back: the lot stays in the indexes that it is in."""
RESTATE_LOT = _update(lots, ("remaining", "held", "live", "promised"), "org_id", "lot_id")
"""As `UPDATE_LOT`, for lots that were emptied, came back to life or matured."""

INSERT_STREAM = _insert_unless_there(journal_streams)
ADVANCE_STREAM = _update(journal_streams, ("position", "hash"), "org_id", "stream", "position")
INSERT_TRANSACTION = _insert(transactions)
INSERT_POSTING = _insert(postings)
INSERT_REQUEST = _insert(requests)

INSERT_REDEMPTION = _insert(redemptions)
INSERT_REDEEMED_LOT = _insert(redemption_lots)
UPDATE_REDEMPTION = _update(redemptions, ("reversed", "last_reversed_at"), "org_id", "redemption_id")
UPDATE_REDEEMED_LOT = _update(redemption_lots, ("reversed",), "org_id", "redemption_id", "lot_id")
INSERT_HOLD = _insert(holds)
INSERT_HELD_LOT = _insert(hold_lots)
CLOSE_HOLD = _update(holds, ("state", "captured", "closed_at", "closing_transaction_id"), "org_id", "hold_id", "state")
"""Written only if the hold is as it was read."""
INSERT_MISSED_CALL = _insert(missed_calls)
PURGE_MISSED_CALLS = compiled(
    delete(missed_calls).where(
        _same_org(missed_calls),
        missed_calls.c.customer_id == bindparam("of_customer"),
        missed_calls.c.used_by.is_(None),
        missed_calls.c.called_at < bindparam("before"),
    ),
    "org_id",
    "of_customer",
    "before",
)
"""Calls of a customer that can prove nothing any more, and proved nothing."""


def _purge_old_calls() -> Statement:
    first = missed_calls.alias("first")
    oldest = (
        select(first.c.call_id)
        .where(first.c.org_id == bindparam("org_id"), first.c.call_id < bindparam("call_id"))
        .order_by(first.c.call_id)
        .limit(bindparam("limit", type_=Integer))
        .offset(literal_column("0"))
        .subquery("oldest")
    )
    last_of_oldest = select(func.max(oldest.c.call_id)).scalar_subquery()  # with IN, PostgreSQL 16 reads all calls
    return compiled(
        delete(missed_calls).where(
            missed_calls.c.org_id == bindparam("org_again"),
            missed_calls.c.call_id <= last_of_oldest,
            missed_calls.c.recorded_at < bindparam("before"),
        ),
        "org_again",
        "org_id",
        "call_id",
        "limit",
        "before",
    )


PURGE_OLD_CALLS = _purge_old_calls()
"""Of the first calls of an organisation before another one, those that were kept long enough; used ones too."""

USE_MISSED_CALL = _update(missed_calls, ("used_by",), "org_id", "call_id")
UPSERT_PURCHASE = _upsert(purchases, when=lambda new: and_(purchases.c.amount.is_(None), new["amount"].is_not(None)))
"""A bill is recorded once; one that an issue named has no amount until then."""

INSERT_RETURN = _insert(returns)

UPSERT_OTP = _upsert(otps)
UPSERT_OTP_COUNTER = _upsert(otp_counters)
INSERT_MESSAGE = _insert(outbox)

_QUEUED = outbox.c.state == literal_column("'QUEUED'")

CANCEL_MESSAGES = compiled(
    update(outbox)
    .where(
        _same_org(outbox),
        outbox.c.customer_id == bindparam("of_customer"),
        outbox.c.action == bindparam("of_action"),
        _QUEUED,
    )
    .values(sealed=None, state=literal_column("'CANCELLED'")),
    "sealed",
    "org_id",
    "of_customer",
    "of_action",
)
"""`sealed` is bound as None: what is cancelled is erased."""

SETTLE_MESSAGE = compiled(
    update(outbox)
    .where(_same_org(outbox), outbox.c.message_id == bindparam("of_message"), _QUEUED)
    .values(
        sealed=bindparam("sealed"),
        state=bindparam("state"),
        attempts=outbox.c.attempts + _ONE,
        last_error=bindparam("last_error"),
    ),
    "sealed",
    "state",
    "last_error",
    "org_id",
    "of_message",
)

RETRY_MESSAGE = compiled(
    update(outbox)
    .where(_same_org(outbox), outbox.c.message_id == bindparam("of_message"), _QUEUED)
    .values(
        attempts=outbox.c.attempts + _ONE,
        next_attempt_at=bindparam("retry_at"),
        last_error=bindparam("error"),
    ),
    "retry_at",
    "error",
    "org_id",
    "of_message",
)

FLAG_FAILED_MESSAGES = compiled(
    update(customers)
    .where(_same_org(customers), customers.c.customer_id == bindparam("of_customer"))
    .values(
        messages_failed=case(
            (
                select(outbox.c.message_id)
                .where(
                    outbox.c.org_id == customers.c.org_id,
                    outbox.c.customer_id == customers.c.customer_id,
                    _QUEUED,
                    outbox.c.attempts > _ZERO,
                )
                .correlate(customers)
                .exists(),
                _ONE,
            ),
            else_=_ZERO,
        )
    ),
    "org_id",
    "of_customer",
)
"""Says of a customer whether a message that failed still waits."""

INSERT_NOTICE = _insert(notices)
DELETE_NOTICE = compiled(
    delete(notices).where(_same_org(notices), notices.c.event_id == bindparam("of_event")), "org_id", "of_event"
)
FAIL_NOTICE = compiled(
    update(notices)
    .where(_same_org(notices), notices.c.event_id == bindparam("of_event"))
    .values(
        state=bindparam("state"),
        attempts=notices.c.attempts + _ONE,
        next_attempt_at=bindparam("retry_at"),
        last_error=bindparam("error"),
    ),
    "state",
    "retry_at",
    "error",
    "org_id",
    "of_event",
)

INSERT_CUSTOMER = _insert(customers)
UPDATE_CUSTOMER = _update(customers, rows.CUSTOMER_COLUMNS[1:], "org_id", "customer_id")
UPSERT_PROGRAM = _upsert(programs)
INSERT_GROUP = _insert(program_groups)
INSERT_POLICY = _insert(policies)
SET_DEFAULT_PROGRAM = _update(orgs, ("default_program_id",), "org_id")
SET_PAUSED = _update(orgs, ("paused",), "org_id")
BUMP_BOOK = compiled(update(orgs).where(_same_org(orgs)).values(book_version=orgs.c.book_version + _ONE), "org_id")
UPSERT_CONFIG_KEY = _upsert(config_keys)
DELETE_CONFIG_KEY = compiled(
    delete(config_keys).where(_same_org(config_keys), config_keys.c.name == bindparam("name")), "org_id", "name"
)
INSERT_AUDIT = _insert(audit_events)

# -- the outbox ------------------------------------------------------------------------------------------------------


def _waits_for_older() -> ColumnElement[bool]:
    """Whether an older message to the same customer and target has to be settled first, or to expire."""
    older = outbox.alias("older")
    return (
        select(older.c.message_id)
        .where(
            older.c.org_id == outbox.c.org_id,
            older.c.customer_id == outbox.c.customer_id,
            older.c.target == outbox.c.target,
            older.c.state == literal_column("'QUEUED'"),
            older.c.message_id < outbox.c.message_id,
            older.c.expires_at > bindparam("now_again"),
        )
        .correlate(outbox)
        .exists()
    )


DUE_ORGANISATIONS = compiled(
    select(outbox.c.org_id)
    .where(_QUEUED, outbox.c.next_attempt_at <= bindparam("now"), ~_waits_for_older())
    .group_by(outbox.c.org_id)
    .order_by(func.min(outbox.c.next_attempt_at))
    .limit(bindparam("limit"))
    .offset(_ZERO),
    "now",
    "now_again",
    "limit",
)
"""Who has messages that `DUE_MESSAGES` hands out: whose oldest waits longest comes first."""


def _due_messages() -> Statement:
    """Of each customer and target only the oldest that is queued: what follows waits until it is settled or expired."""
    return compiled(
        select(*columns(outbox, rows.MESSAGE_COLUMNS), func.coalesce(customers.c.locale, literal_column("''")))
        .join_from(
            outbox,
            customers,
            and_(customers.c.org_id == outbox.c.org_id, customers.c.customer_id == outbox.c.customer_id),
            isouter=True,
        )
        .where(
            _same_org(outbox),
            _QUEUED,
            outbox.c.next_attempt_at <= bindparam("now"),
            ~_waits_for_older(),
        )
        .order_by(outbox.c.next_attempt_at, outbox.c.message_id)
        .limit(bindparam("limit"))
        .offset(_ZERO),
        "org_id",
        "now",
        "now_again",
        "limit",
    )


DUE_MESSAGES = _due_messages()


def _follows_another() -> ColumnElement[bool]:
    """Whether an older event of the same customer has to be published or given up first.

    By the time of the commit, which follows the customer's lock, then by the id: ids of several hosts have no order.
    """
    older = notices.alias("older")
    return (
        select(older.c.event_id)
        .where(
            older.c.org_id == notices.c.org_id,
            older.c.customer_id == notices.c.customer_id,
            older.c.state == literal_column("'QUEUED'"),
            or_(
                older.c.created_at < notices.c.created_at,
                and_(older.c.created_at == notices.c.created_at, older.c.event_id < notices.c.event_id),
            ),
        )
        .correlate(notices)
        .exists()
    )


_WAITS = notices.c.state == literal_column("'QUEUED'")

NOTICE_ORGANISATIONS = compiled(
    select(notices.c.org_id)
    .where(_WAITS, notices.c.next_attempt_at <= bindparam("now"), ~_follows_another())
    .group_by(notices.c.org_id)
    .order_by(func.min(notices.c.next_attempt_at))
    .limit(bindparam("limit"))
    .offset(_ZERO),
    "now",
    "limit",
)
"""Who has events that `DUE_NOTICES` hands out: whose oldest waits longest comes first."""

DUE_NOTICES = compiled(
    select(*columns(notices, rows.NOTICE_COLUMNS))
    .where(_same_org(notices), _WAITS, notices.c.next_attempt_at <= bindparam("now"), ~_follows_another())
    .order_by(notices.c.next_attempt_at, notices.c.event_id)
    .limit(bindparam("limit"))
    .offset(_ZERO),
    "org_id",
    "now",
    "limit",
)
"""Of each customer the oldest event alone: what follows waits for it."""

# -- the sweep -------------------------------------------------------------------------------------------------------

_wallet_key = (wallets.c.org_id, wallets.c.customer_id, wallets.c.program_id)
_WALLET_KEY_NAMES = ("after_org", "after_customer", "after_program")

WALLETS_AFTER = compiled(
    select(*_wallet_key, wallets.c.due_at)
    .where(tuple_(*_wallet_key) > tuple_(*(bindparam(name) for name in _WALLET_KEY_NAMES)))
    .order_by(*_wallet_key)
    .limit(bindparam("limit"))
    .offset(_ZERO),
    *_WALLET_KEY_NAMES,
    "limit",
)
