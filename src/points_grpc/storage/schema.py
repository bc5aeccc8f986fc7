"""The tables, and nothing that runs.

Every primary key starts with the organisation; only API keys, which are looked up before the organisation is known,
and writer slots, which belong to the installation, do not. No sequences and no triggers: ids come from the writer.

Times are microseconds since the epoch (`times`), days are proleptic Gregorian ordinals, closed sets are the numbers of
the enums in `domain.model`, flags are 0 or 1 (drivers bind plain integers fastest), documents are JSON texts that
`codec` writes.

Second lines of defence: CHECK constraints guard what may never be false of one row. Foreign keys stand where rows come
rarely (customers, programs, policies, keys, redemptions). They are left out on what every movement writes (lots,
postings, transactions, requests): the parents are written by the same function in the same
transaction, `verify` proves that they are there, and on PostgreSQL each such key costs a look-up and a row lock per
row written. On SQLite, tables whose key is all they are looked up by are stored in that key's order (WITHOUT ROWID).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    and_,
)

REVISION = "0001"
"""The migration that creates exactly these tables; what `migrate.head()` says, known without importing alembic."""

EARLIER_REVISIONS: frozenset[str] = frozenset()
"""Those from which migrations lead here. A database that has any other was written by a newer program."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _id(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, autoincrement=False)


_points = _micros = _id


def _number(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=nullable, autoincrement=False)


def _enum(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _octets(name: str, *, nullable: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=nullable)


def _flag(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False)


def _key(*columns: str) -> PrimaryKeyConstraint:
    return PrimaryKeyConstraint(*columns)


def _check(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


def _refers(columns: tuple[str, ...], table: str, target: tuple[str, ...] | None = None) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(columns, [f"{table}.{column}" for column in target or columns])


# -- organisation and programs ---------------------------------------------------------------------------------------

orgs = Table(
    "orgs",
    metadata,
    _id("org_id"),
    _text("name"),
    _text("default_region"),
    _id("default_program_id", nullable=True),
    _flag("paused"),
    _id("book_version"),
    _micros("created_at"),
    _key("org_id"),
    _check("id", "org_id > 0"),
)
"""`book_version` rises with every change of programs, groups, policies and pauses: what caches of the book compare."""

config_keys = Table(
    "config_keys",
    metadata,
    _id("org_id"),
    _text("name"),
    _text("value"),
    _key("org_id", "name"),
    _refers(("org_id",), "orgs"),
    sqlite_with_rowid=False,
)
"""Configuration as raw text under its documented names, judged at use."""

programs = Table(
    "programs",
    metadata,
    _id("org_id"),
    _id("program_id"),
    _text("name"),
    _flag("active"),
    _enum("decimal_places"),
    _text("time_zone"),
    _id("group_id", nullable=True),
    _flag("paused"),
    _key("org_id", "program_id"),
    _refers(("org_id",), "orgs"),
    _check("id", "program_id > 0"),
    _check("decimal_places", "decimal_places BETWEEN 0 AND 3"),
    sqlite_with_rowid=False,
)

program_groups = Table(
    "program_groups",
    metadata,
    _id("org_id"),
    _id("group_id"),
    _text("name"),
    _id("default_program_id"),
    _key("org_id", "group_id"),
    _refers(("org_id",), "orgs"),
    _check("id", "group_id > 0"),
    sqlite_with_rowid=False,
)
"""A program is a member of at most one group, and says so itself (`programs.group_id`)."""

policies = Table(
    "policies",
    metadata,
    _id("org_id"),
    _id("program_id"),
    _number("revision"),
    _text("body"),
    _micros("created_at"),
    _text("actor"),
    _text("reason"),
    _key("org_id", "program_id", "revision"),
    _refers(("org_id", "program_id"), "programs"),
    _check("revision", "revision > 0"),
)
"""Every revision that ever was in force; the highest is."""

# -- customers and wallets -------------------------------------------------------------------------------------------

customers = Table(
    "customers",
    metadata,
    _id("org_id"),
    _id("customer_id"),
    _text("first_name"),
    _text("last_name"),
    _text("mobile", nullable=True),
    _text("email", nullable=True),
    _text("external_id", nullable=True),
    _flag("campaign_contact"),
    _enum("fraud_status"),
    _enum("status_label"),
    _micros("transfers_locked_until", nullable=True),
    _id("merged_into", nullable=True),
    _micros("created_at"),
    _flag("messages_failed"),
    _text("locale"),
    _micros("erased_at", nullable=True),
    _key("org_id", "customer_id"),
    _refers(("org_id",), "orgs"),
    _check("id", "customer_id > 0"),
    _check("merged_into", "merged_into <> customer_id"),
    sqlite_with_rowid=False,
)
for _identifier in ("mobile", "email", "external_id"):
    _present = customers.c[_identifier].is_not(None)
    Index(
        f"ux_customers_{_identifier}",
        customers.c.org_id,
        customers.c[_identifier],
        unique=True,
        sqlite_where=_present,
        postgresql_where=_present,
    )
_merged = customers.c.merged_into.is_not(None)
Index(
    "ix_customers_merged_into",
    customers.c.org_id,
    customers.c.merged_into,
    sqlite_where=_merged,
    postgresql_where=_merged,
)

wallets = Table(
    "wallets",
    metadata,
    _id("org_id"),
    _id("customer_id"),
    _id("program_id"),
    _id("version"),
    _points("current"),
    _points("promised"),
    _points("held"),
    _points("lifetime_earned"),
    _points("lifetime_received"),
    _points("lifetime_purchases"),
    _micros("enrolled_at", nullable=True),
    _micros("due_at", nullable=True),
    _text("buckets"),
    _text("days"),
    _key("org_id", "customer_id", "program_id"),
    _refers(("org_id", "customer_id"), "customers"),
    _refers(("org_id", "program_id"), "programs"),
    _check("version", "version >= 0"),
    _check("parts", "promised >= 0 AND held >= 0 AND current >= promised + held"),
    _check("lifetime", "lifetime_earned >= 0 AND lifetime_received >= 0 AND lifetime_purchases >= 0"),
    sqlite_with_rowid=False,
)

"""`buckets`: totals by origin, so that no balance rule has to count lots; `days`: transfers of the last 30 days by day
of the program's time zone and by direction. Both are lists in JSON (`wallet_texts`), in the row that every movement
writes anyway: as tables of their own they cost four rows and four pages more a transfer."""

lots = Table(
    "lots",
    metadata,
    _id("org_id"),
    _id("lot_id"),
    _id("customer_id"),
    _id("program_id"),
    _id("earning_program_id"),
    _enum("source"),
    _text("category"),
    _points("points"),
    _points("remaining"),
    _points("held"),
    _flag("live"),
    _micros("awarded_at"),
    _micros("available_from", nullable=True),
    _flag("promised"),
    _micros("expires_at"),
    _id("parent_lot_id", nullable=True),
    _id("root_lot_id"),
    _id("transaction_id"),
    _key("org_id", "lot_id"),
    _check("points", "points > 0"),
    _check("remaining", "remaining >= 0 AND remaining <= points"),
    _check("held", "held >= 0 AND held <= remaining"),
    _check("live", "live IN (0, 1) AND (live = 1) = (remaining > 0)"),
    _check("promised", "promised = 0 OR (promised = 1 AND available_from IS NOT NULL)"),
    sqlite_with_rowid=False,
)
"""`live` says that points remain. The spending index goes by it and not by `remaining`, which every draw changes: only
the draw that empties a lot touches the index. It stands in the index so that the first lots are found there alone."""
Index(
    "ix_lots_spending",
    lots.c.org_id,
    lots.c.customer_id,
    lots.c.program_id,
    lots.c.expires_at,
    lots.c.awarded_at,
    lots.c.lot_id,
    lots.c.live,
    sqlite_where=lots.c.live == 1,
    postgresql_where=lots.c.live == 1,
)
Index(
    "ix_lots_promised",
    lots.c.org_id,
    lots.c.customer_id,
    lots.c.program_id,
    sqlite_where=lots.c.promised == 1,
    postgresql_where=lots.c.promised == 1,
)
_drawn = lots.c.parent_lot_id.is_not(None)
Index("ix_lots_parent", lots.c.org_id, lots.c.parent_lot_id, sqlite_where=_drawn, postgresql_where=_drawn)

# -- the journal -----------------------------------------------------------------------------------------------------

journal_streams = Table(
    "journal_streams",
    metadata,
    _id("org_id"),
    _number("stream"),
    _id("position"),
    _octets("hash"),
    _key("org_id", "stream"),
    _refers(("org_id",), "orgs"),
    _check("position", "position >= 0"),
    sqlite_with_rowid=False,
)
"""How many transactions each writer slot wrote, and the hash of the last. A writer advances its stream only from where
it left it."""

transactions = Table(
    "transactions",
    metadata,
    _id("org_id"),
    _id("transaction_id"),
    _number("stream"),
    _id("position"),
    _enum("kind"),
    _micros("created_at"),
    _id("customer_id"),
    _id("counterparty_id", nullable=True),
    _id("program_id"),
    _points("points"),
    _text("request_id"),
    _text("actor"),
    _text("notes"),
    _number("policy_revision"),
    _text("transaction_number", nullable=True),
    _octets("hash"),
    _octets("notes_hash", nullable=True),
    _octets("notes_salt", nullable=True),
    _key("org_id", "transaction_id"),
    _check("position", "position > 0"),
    _check("notes", "notes = '' OR (notes_hash IS NOT NULL AND notes_salt IS NOT NULL)"),
    sqlite_with_rowid=False,
)
"""One row per movement; appended, never changed. `hash` chains it to the one before in its stream (`domain.chain`).

The notes are in that chain as a salted hash. To erase them is to make the text empty and the salt null.
"""
Index("ux_transactions_position", transactions.c.org_id, transactions.c.stream, transactions.c.position, unique=True)
Index(
    "ix_transactions_transfers",
    transactions.c.org_id,
    transactions.c.customer_id,
    transactions.c.created_at,
    sqlite_where=transactions.c.counterparty_id.is_not(None),
    postgresql_where=transactions.c.counterparty_id.is_not(None),
)
_reversal = transactions.c.kind == 4
Index(
    "ix_transactions_reversals",
    transactions.c.org_id,
    transactions.c.customer_id,
    transactions.c.transaction_id,
    sqlite_where=_reversal,
    postgresql_where=_reversal,
)
"""By which the reversals of customers are found that gave nothing back, because all had expired: no posting names them.
No transfer is in it."""

postings = Table(
    "postings",
    metadata,
    _id("org_id"),
    _id("transaction_id"),
    _number("seq"),
    _enum("account"),
    _id("customer_id", nullable=True),
    _id("program_id"),
    _id("lot_id", nullable=True),
    _points("points"),
    _id("wallet_version", nullable=True),
    _points("balance_after", nullable=True),
    _points("held"),
    _key("org_id", "transaction_id", "seq"),
    _check("points", "points <> 0 OR held <> 0"),
    _check("held", "account = 1 OR held = 0"),
    _check("balance_after", "balance_after >= 0"),
    _check(
        "account",
        "(account = 1) = (customer_id IS NOT NULL AND lot_id IS NOT NULL"
        " AND wallet_version IS NOT NULL AND balance_after IS NOT NULL)",
    ),
    sqlite_with_rowid=False,
)
"""Changes of wallets (account 1) and of system accounts, which have no customer, lot, version or balance.

`held` is the change of what is held of the lot: holding and releasing move no points, and the journal has them all the
same.
"""
Index(
    "ix_postings_customer",
    postings.c.org_id,
    postings.c.customer_id,
    postings.c.transaction_id,
    sqlite_where=postings.c.customer_id.is_not(None),
    postgresql_where=postings.c.customer_id.is_not(None),
)

requests = Table(
    "requests",
    metadata,
    _id("org_id"),
    _text("request_id"),
    _text("operation"),
    _text("key_id"),
    _text("fingerprint"),
    _flag("accepted"),
    _text("outcome"),
    _id("transaction_id", nullable=True),
    _micros("created_at"),
    _id("customer_id", nullable=True),
    _key("org_id", "request_id"),
    _check("transaction", "accepted = 1 OR (accepted = 0 AND transaction_id IS NULL)"),
)
"""The one outcome of each request id. Rows are long and ids random, so SQLite keeps them in the order of arrival.

`customer_id`: whose names, identifiers or masked address the outcome holds; null for most, which hold nobody's.
"""
_personal = requests.c.customer_id.is_not(None)
Index(
    "ix_requests_customer",
    requests.c.org_id,
    requests.c.customer_id,
    sqlite_where=_personal,
    postgresql_where=_personal,
)
_refused = requests.c.accepted == 0
Index(
    "ix_requests_refused",
    requests.c.org_id,
    requests.c.created_at,
    sqlite_where=_refused,
    postgresql_where=_refused,
)
"""By which `retention` finds old refusals. Acceptances, which are nearly all, are not in it."""

redemptions = Table(
    "redemptions",
    metadata,
    _id("org_id"),
    _text("redemption_id"),
    _id("transaction_id"),
    _id("customer_id"),
    _id("program_id"),
    _points("points"),
    _points("reversed"),
    _micros("redeemed_at"),
    _micros("redemption_time", nullable=True),
    _text("transaction_number", nullable=True),
    _text("external_reference", nullable=True),
    _micros("last_reversed_at", nullable=True),
    _key("org_id", "redemption_id"),
    _check("points", "points > 0"),
    _check("reversed", "reversed >= 0 AND reversed <= points"),
    sqlite_with_rowid=False,
)
Index(
    "ux_redemptions_external_reference",
    redemptions.c.org_id,
    redemptions.c.external_reference,
    unique=True,
    sqlite_where=redemptions.c.external_reference.is_not(None),
    postgresql_where=redemptions.c.external_reference.is_not(None),
)
Index(
    "ix_redemptions_transaction_number",
    redemptions.c.org_id,
    redemptions.c.transaction_number,
    sqlite_where=redemptions.c.transaction_number.is_not(None),
    postgresql_where=redemptions.c.transaction_number.is_not(None),
)

redemption_lots = Table(
    "redemption_lots",
    metadata,
    _id("org_id"),
    _text("redemption_id"),
    _id("lot_id"),
    _number("seq"),
    _id("customer_id"),
    _id("program_id"),
    _points("points"),
    _points("reversed"),
    _key("org_id", "redemption_id", "lot_id"),
    _refers(("org_id", "redemption_id"), "redemptions"),
    _check("points", "points > 0"),
    _check("reversed", "reversed >= 0 AND reversed <= points"),
    sqlite_with_rowid=False,
)
"""What a redemption took from each lot; `seq` keeps the order in which the lots were drawn."""

holds = Table(
    "holds",
    metadata,
    _id("org_id"),
    _text("hold_id"),
    _id("transaction_id"),
    _id("customer_id"),
    _id("program_id"),
    _points("points"),
    _text("state"),
    _micros("held_at"),
    _micros("expires_at"),
    _micros("redemption_time", nullable=True),
    _text("transaction_number", nullable=True),
    _text("external_reference", nullable=True),
    _text("point_value", nullable=True),
    _number("policy_revision"),
    _points("captured"),
    _micros("closed_at", nullable=True),
    _id("closing_transaction_id", nullable=True),
    _key("org_id", "hold_id"),
    _check("points", "points > 0"),
    _check("captured", "captured >= 0 AND captured <= points AND (captured > 0) = (state = 'CAPTURED')"),
    _check("state", "state IN ('OPEN', 'CAPTURED', 'RELEASED', 'EXPIRED')"),
    _check("closed", "(state = 'OPEN') = (closed_at IS NULL) AND (state = 'OPEN') = (closing_transaction_id IS NULL)"),
    sqlite_with_rowid=False,
)
"""Points kept for a redemption. What the capture needs of the authorisation stands here."""
_open_hold = holds.c.state == "OPEN"
Index("ix_holds_open", holds.c.org_id, holds.c.customer_id, sqlite_where=_open_hold, postgresql_where=_open_hold)
Index("ix_holds_customer", holds.c.org_id, holds.c.customer_id, holds.c.held_at)
_held_reference = and_(holds.c.state == "OPEN", holds.c.external_reference.is_not(None))
Index(
    "ix_holds_external_reference",
    holds.c.org_id,
    holds.c.external_reference,
    sqlite_where=_held_reference,
    postgresql_where=_held_reference,
)

hold_lots = Table(
    "hold_lots",
    metadata,
    _id("org_id"),
    _text("hold_id"),
    _id("lot_id"),
    _number("seq"),
    _id("customer_id"),
    _id("program_id"),
    _points("points"),
    _key("org_id", "hold_id", "lot_id"),
    _refers(("org_id", "hold_id"), "holds"),
    _check("points", "points > 0"),
    sqlite_with_rowid=False,
)
"""What a hold keeps of each lot; `seq` keeps the order in which the lots would be spent. Never changed."""

purchases = Table(
    "purchases",
    metadata,
    _id("org_id"),
    _text("transaction_number"),
    _id("customer_id"),
    _id("program_id"),
    _points("amount", nullable=True),
    _key("org_id", "transaction_number"),
    _check("amount", "amount >= 0"),
    sqlite_with_rowid=False,
)
Index("ix_purchases_customer", purchases.c.org_id, purchases.c.customer_id, purchases.c.transaction_number)

missed_calls = Table(
    "missed_calls",
    metadata,
    _id("org_id"),
    _id("call_id"),
    _id("customer_id"),
    _text("mobile"),
    _micros("called_at"),
    _micros("recorded_at"),
    _id("used_by", nullable=True),
    _key("org_id", "call_id"),
    _refers(("org_id", "customer_id"), "customers"),
    sqlite_with_rowid=False,
)
"""Calls that customers made to prove a redemption. `used_by`: the transaction that one proved."""
_unused = missed_calls.c.used_by.is_(None)
Index("ix_missed_calls_customer", missed_calls.c.org_id, missed_calls.c.customer_id, missed_calls.c.call_id)
Index(
    "ix_missed_calls_unused",
    missed_calls.c.org_id,
    missed_calls.c.customer_id,
    missed_calls.c.called_at,
    sqlite_where=_unused,
    postgresql_where=_unused,
)

returns = Table(
    "returns",
    metadata,
    _id("org_id"),
    _text("transaction_number"),
    _id("customer_id"),
    _points("amount", nullable=True),
    _points("points"),
    _micros("returned_at"),
    _text("request_id"),
    _text("actor"),
    _text("notes"),
    _key("org_id", "transaction_number"),
    _check("amount", "amount >= 0"),
    _check("points", "points >= 0"),
    sqlite_with_rowid=False,
)
"""Purchases that were returned, each once; what was given back with them is in the journal, under their request id."""
Index("ix_returns_customer", returns.c.org_id, returns.c.customer_id, returns.c.transaction_number)
_noted = returns.c.notes != ""
Index("ix_returns_noted", returns.c.org_id, returns.c.request_id, sqlite_where=_noted, postgresql_where=_noted)

# -- one-time codes and their messages -------------------------------------------------------------------------------

otps = Table(
    "otps",
    metadata,
    _id("org_id"),
    _id("customer_id"),
    _enum("action"),
    _id("program_id"),
    _id("otp_id"),
    _id("counterparty_id", nullable=True),
    _points("points_max"),
    _text("category"),
    _flag("pooled"),
    _text("code_hash"),
    _text("key_id"),
    _text("state"),
    _number("attempts_left"),
    _micros("issued_at"),
    _micros("expires_at"),
    _micros("due_until", nullable=True),
    _key("org_id", "customer_id", "action", "program_id"),
    _refers(("org_id", "customer_id"), "customers"),
    _check("attempts_left", "attempts_left >= 0"),
    _check("state", "state IN ('LIVE', 'USED', 'REPLACED')"),
    sqlite_with_rowid=False,
)

otp_counters = Table(
    "otp_counters",
    metadata,
    _id("org_id"),
    _id("customer_id"),
    _enum("action"),
    _micros("window_started_at"),
    _micros("window_ends_at"),
    _number("issues"),
    _number("wrong_attempts"),
    _key("org_id", "customer_id", "action"),
    _refers(("org_id", "customer_id"), "customers"),
    _check("counts", "issues >= 0 AND wrong_attempts >= 0"),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    _id("org_id"),
    _id("message_id"),
    _id("customer_id"),
    _enum("action"),
    _id("otp_id"),
    _text("channel"),
    _text("target"),
    _octets("sealed", nullable=True),
    _text("key_id"),
    _text("state"),
    _number("attempts"),
    _micros("created_at"),
    _micros("expires_at"),
    _micros("next_attempt_at"),
    _text("last_error"),
    _key("org_id", "message_id"),
    _check("state", "state IN ('QUEUED', 'DELIVERED', 'CANCELLED', 'DEAD')"),
    _check("sealed", "(state = 'QUEUED') = (sealed IS NOT NULL)"),
    sqlite_with_rowid=False,
)
"""Messages on their way. The sealed code is erased when the message is settled or cancelled."""
_queued = outbox.c.state == "QUEUED"
Index("ix_outbox_due", outbox.c.org_id, outbox.c.next_attempt_at, sqlite_where=_queued, postgresql_where=_queued)
_settled = outbox.c.state != "QUEUED"
Index(
    "ix_outbox_settled",
    outbox.c.org_id,
    outbox.c.customer_id,
    outbox.c.message_id,
    sqlite_where=_settled,
    postgresql_where=_settled,
)
Index("ix_outbox_queued", outbox.c.org_id, outbox.c.customer_id, sqlite_where=_queued, postgresql_where=_queued)

notices = Table(
    "notices",
    metadata,
    _id("org_id"),
    _id("event_id"),
    _id("customer_id"),
    _enum("kind"),
    _text("state"),
    _number("attempts"),
    _micros("created_at"),
    _micros("tried_since"),
    _micros("next_attempt_at"),
    _text("last_error"),
    _octets("body"),
    _key("org_id", "event_id"),
    _check("state", "state IN ('QUEUED', 'DEAD')"),
    sqlite_with_rowid=False,
)
"""Business events on their way to a webhook; those that were given up stay. The journal has what was delivered.

`tried_since`: when the event was queued, or last queued again by an operator; it is tried for so long from then on.
"""
_waiting = notices.c.state == "QUEUED"
_given_up = notices.c.state == "DEAD"
Index("ix_notices_due", notices.c.org_id, notices.c.next_attempt_at, sqlite_where=_waiting, postgresql_where=_waiting)
Index(
    "ix_notices_queued",
    notices.c.org_id,
    notices.c.customer_id,
    notices.c.created_at,
    sqlite_where=_waiting,
    postgresql_where=_waiting,
)
Index(
    "ix_notices_dead",
    notices.c.org_id,
    notices.c.created_at,
    notices.c.event_id,
    sqlite_where=_given_up,
    postgresql_where=_given_up,
)

# -- access and the installation -------------------------------------------------------------------------------------

audit_events = Table(
    "audit_events",
    metadata,
    _id("org_id"),
    _id("audit_id"),
    _micros("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("before"),
    _text("after"),
    _text("reason"),
    _key("org_id", "audit_id"),
)
"""Who changed what; appended, never changed."""
Index("ix_audit_events_subject", audit_events.c.org_id, audit_events.c.subject, audit_events.c.audit_id)

api_keys = Table(
    "api_keys",
    metadata,
    _text("key_id"),
    _id("org_id"),
    _text("client"),
    _text("role"),
    _text("secret_hash"),
    _micros("created_at"),
    _micros("expires_at", nullable=True),
    _micros("revoked_at", nullable=True),
    _micros("last_used_at", nullable=True),
    _flag("request_id_required"),
    _text("signing_key_id", nullable=True),
    _text("store", nullable=True),
    _text("till", nullable=True),
    _key("key_id"),
    _refers(("org_id",), "orgs"),
)
"""Credentials. They are looked up before anything says which organisation asks, so the key stands alone.

`signing_key_id`: the secret key, outside the database, from which the signing secret derives; null for who need not
sign. `store` and `till`: whom the audit log names beside the client.
"""
Index("ix_api_keys_org", api_keys.c.org_id)

client_certificates = Table(
    "client_certificates",
    metadata,
    _text("name"),
    _id("org_id"),
    _text("client"),
    _text("role"),
    _micros("created_at"),
    _flag("request_id_required"),
    _text("store", nullable=True),
    _text("till", nullable=True),
    _key("name"),
    _refers(("org_id",), "orgs"),
)
"""Names in certificates that the CA of the deployment signs, and who calls under them; the name stands alone, as the
key of an API key does. Revoked is what is not here; the audit log remembers."""
Index("ix_client_certificates_org", client_certificates.c.org_id)

token_cutoffs = Table(
    "token_cutoffs",
    metadata,
    _id("org_id"),
    _text("client"),
    _micros("issued_until"),
    _key("org_id", "client"),
    _refers(("org_id",), "orgs"),
)
"""Tokens of an issuer that were issued to a client until then are worth nothing any more."""

writer_slots = Table(
    "writer_slots",
    metadata,
    _number("slot"),
    _id("epoch"),
    _text("holder"),
    _micros("acquired_at"),
    _micros("expires_at"),
    _key("slot"),
    _check("slot", "slot BETWEEN 0 AND 1023"),
)
"""Who writes under which slot and until when; `epoch` counts the leases. The slot is part of our ids and names a
journal stream."""
