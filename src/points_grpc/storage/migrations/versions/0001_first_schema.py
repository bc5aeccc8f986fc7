"""The first schema: organisations, customers, wallets, the journal, codes and access.

Revision 0001. Creates what `storage/schema.py` described when it was written; a test compares the two. Later revisions
change tables, never this file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates every table."""
    _create_programs()
    _create_customers()
    _create_points()
    _create_journal()
    _create_requests()
    _create_redemptions()
    _create_holds()
    _create_codes()
    _create_missed_calls()
    _create_notices()
    _create_access()


def _create_programs() -> None:
    op.create_table(
        "orgs",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("default_region", sa.Text(), nullable=False),
        sa.Column("default_program_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("paused", sa.SmallInteger(), nullable=False),
        sa.Column("book_version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("org_id > 0", name=op.f("ck_orgs_id")),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_orgs")),
    )
    op.create_table(
        "config_keys",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_config_keys_orgs")),
        sa.PrimaryKeyConstraint("org_id", "name", name=op.f("pk_config_keys")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "programs",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("active", sa.SmallInteger(), nullable=False),
        sa.Column("decimal_places", sa.SmallInteger(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("paused", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("decimal_places BETWEEN 0 AND 3", name=op.f("ck_programs_decimal_places")),
        sa.CheckConstraint("program_id > 0", name=op.f("ck_programs_id")),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_programs_orgs")),
        sa.PrimaryKeyConstraint("org_id", "program_id", name=op.f("pk_programs")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "program_groups",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("group_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("default_program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("group_id > 0", name=op.f("ck_program_groups_id")),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_program_groups_orgs")),
        sa.PrimaryKeyConstraint("org_id", "group_id", name=op.f("pk_program_groups")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "policies",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("revision > 0", name=op.f("ck_policies_revision")),
        sa.ForeignKeyConstraint(
            ["org_id", "program_id"], ["programs.org_id", "programs.program_id"], name=op.f("fk_policies_programs")
        ),
        sa.PrimaryKeyConstraint("org_id", "program_id", "revision", name=op.f("pk_policies")),
    )


def _create_customers() -> None:
    op.create_table(
        "customers",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_name", sa.Text(), nullable=False),
        sa.Column("last_name", sa.Text(), nullable=False),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("campaign_contact", sa.SmallInteger(), nullable=False),
        sa.Column("fraud_status", sa.SmallInteger(), nullable=False),
        sa.Column("status_label", sa.SmallInteger(), nullable=False),
        sa.Column("transfers_locked_until", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("merged_into", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("messages_failed", sa.SmallInteger(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("customer_id > 0", name=op.f("ck_customers_id")),
        sa.CheckConstraint("merged_into <> customer_id", name=op.f("ck_customers_merged_into")),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_customers_orgs")),
        sa.PrimaryKeyConstraint("org_id", "customer_id", name=op.f("pk_customers")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_customers_merged_into",
        "customers",
        ["org_id", "merged_into"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NOT NULL"),
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_index(
        "ux_customers_email",
        "customers",
        ["org_id", "email"],
        unique=True,
        sqlite_where=sa.text("email IS NOT NULL"),
        postgresql_where=sa.text("email IS NOT NULL"),
    )
    op.create_index(
        "ux_customers_external_id",
        "customers",
        ["org_id", "external_id"],
        unique=True,
        sqlite_where=sa.text("external_id IS NOT NULL"),
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "ux_customers_mobile",
        "customers",
        ["org_id", "mobile"],
        unique=True,
        sqlite_where=sa.text("mobile IS NOT NULL"),
        postgresql_where=sa.text("mobile IS NOT NULL"),
    )
    op.create_table(
        "wallets",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("current", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("promised", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("held", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lifetime_earned", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lifetime_received", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lifetime_purchases", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("due_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("buckets", sa.Text(), nullable=False),
        sa.Column("days", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "lifetime_earned >= 0 AND lifetime_received >= 0 AND lifetime_purchases >= 0",
            name=op.f("ck_wallets_lifetime"),
        ),
        sa.CheckConstraint("promised >= 0 AND held >= 0 AND current >= promised + held", name=op.f("ck_wallets_parts")),
        sa.CheckConstraint("version >= 0", name=op.f("ck_wallets_version")),
        sa.ForeignKeyConstraint(
            ["org_id", "customer_id"], ["customers.org_id", "customers.customer_id"], name=op.f("fk_wallets_customers")
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "program_id"], ["programs.org_id", "programs.program_id"], name=op.f("fk_wallets_programs")
        ),
        sa.PrimaryKeyConstraint("org_id", "customer_id", "program_id", name=op.f("pk_wallets")),
        sqlite_with_rowid=False,
    )


def _create_points() -> None:
    op.create_table(
        "lots",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lot_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("earning_program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("remaining", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("held", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("live", sa.SmallInteger(), nullable=False),
        sa.Column("awarded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("available_from", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("promised", sa.SmallInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parent_lot_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("root_lot_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("held >= 0 AND held <= remaining", name=op.f("ck_lots_held")),
        sa.CheckConstraint("live IN (0, 1) AND (live = 1) = (remaining > 0)", name=op.f("ck_lots_live")),
        sa.CheckConstraint("points > 0", name=op.f("ck_lots_points")),
        sa.CheckConstraint(
            "promised = 0 OR (promised = 1 AND available_from IS NOT NULL)", name=op.f("ck_lots_promised")
        ),
        sa.CheckConstraint("remaining >= 0 AND remaining <= points", name=op.f("ck_lots_remaining")),
        sa.PrimaryKeyConstraint("org_id", "lot_id", name=op.f("pk_lots")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_lots_parent",
        "lots",
        ["org_id", "parent_lot_id"],
        unique=False,
        sqlite_where=sa.text("parent_lot_id IS NOT NULL"),
        postgresql_where=sa.text("parent_lot_id IS NOT NULL"),
    )
    op.create_index(
        "ix_lots_promised",
        "lots",
        ["org_id", "customer_id", "program_id"],
        unique=False,
        sqlite_where=sa.text("promised = 1"),
        postgresql_where=sa.text("promised = 1"),
    )
    op.create_index(
        "ix_lots_spending",
        "lots",
        ["org_id", "customer_id", "program_id", "expires_at", "awarded_at", "lot_id", "live"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live = 1"),
    )


def _create_journal() -> None:
    op.create_table(
        "journal_streams",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stream", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_journal_streams_position")),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_journal_streams_orgs")),
        sa.PrimaryKeyConstraint("org_id", "stream", name=op.f("pk_journal_streams")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transactions",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stream", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("counterparty_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("policy_revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("transaction_number", sa.Text(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("notes_hash", sa.LargeBinary(), nullable=True),
        sa.Column("notes_salt", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "notes = '' OR (notes_hash IS NOT NULL AND notes_salt IS NOT NULL)", name=op.f("ck_transactions_notes")
        ),
        sa.CheckConstraint("position > 0", name=op.f("ck_transactions_position")),
        sa.PrimaryKeyConstraint("org_id", "transaction_id", name=op.f("pk_transactions")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_transactions_transfers",
        "transactions",
        ["org_id", "customer_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("counterparty_id IS NOT NULL"),
        postgresql_where=sa.text("counterparty_id IS NOT NULL"),
    )
    op.create_index(
        "ix_transactions_reversals",
        "transactions",
        ["org_id", "customer_id", "transaction_id"],
        unique=False,
        sqlite_where=sa.text("kind = 4"),
        postgresql_where=sa.text("kind = 4"),
    )
    op.create_index("ux_transactions_position", "transactions", ["org_id", "stream", "position"], unique=True)
    op.create_table(
        "postings",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.SmallInteger(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lot_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("wallet_version", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("balance_after", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("held", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint(
            "(account = 1) = (customer_id IS NOT NULL AND lot_id IS NOT NULL"
            " AND wallet_version IS NOT NULL AND balance_after IS NOT NULL)",
            name=op.f("ck_postings_account"),
        ),
        sa.CheckConstraint("balance_after >= 0", name=op.f("ck_postings_balance_after")),
        sa.CheckConstraint("account = 1 OR held = 0", name=op.f("ck_postings_held")),
        sa.CheckConstraint("points <> 0 OR held <> 0", name=op.f("ck_postings_points")),
        sa.PrimaryKeyConstraint("org_id", "transaction_id", "seq", name=op.f("pk_postings")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_postings_customer",
        "postings",
        ["org_id", "customer_id", "transaction_id"],
        unique=False,
        sqlite_where=sa.text("customer_id IS NOT NULL"),
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    )


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("accepted", sa.SmallInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint(
            "accepted = 1 OR (accepted = 0 AND transaction_id IS NULL)", name=op.f("ck_requests_transaction")
        ),
        sa.PrimaryKeyConstraint("org_id", "request_id", name=op.f("pk_requests")),
    )
    op.create_index(
        "ix_requests_customer",
        "requests",
        ["org_id", "customer_id"],
        unique=False,
        sqlite_where=sa.text("customer_id IS NOT NULL"),
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    )
    op.create_index(
        "ix_requests_refused",
        "requests",
        ["org_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("accepted = 0"),
        postgresql_where=sa.text("accepted = 0"),
    )


def _create_redemptions() -> None:
    op.create_table(
        "redemptions",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("redemption_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reversed", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("redeemed_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("redemption_time", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("transaction_number", sa.Text(), nullable=True),
        sa.Column("external_reference", sa.Text(), nullable=True),
        sa.Column("last_reversed_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("points > 0", name=op.f("ck_redemptions_points")),
        sa.CheckConstraint("reversed >= 0 AND reversed <= points", name=op.f("ck_redemptions_reversed")),
        sa.PrimaryKeyConstraint("org_id", "redemption_id", name=op.f("pk_redemptions")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_redemptions_transaction_number",
        "redemptions",
        ["org_id", "transaction_number"],
        unique=False,
        sqlite_where=sa.text("transaction_number IS NOT NULL"),
        postgresql_where=sa.text("transaction_number IS NOT NULL"),
    )
    op.create_index(
        "ux_redemptions_external_reference",
        "redemptions",
        ["org_id", "external_reference"],
        unique=True,
        sqlite_where=sa.text("external_reference IS NOT NULL"),
        postgresql_where=sa.text("external_reference IS NOT NULL"),
    )
    op.create_table(
        "redemption_lots",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("redemption_id", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reversed", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("points > 0", name=op.f("ck_redemption_lots_points")),
        sa.CheckConstraint("reversed >= 0 AND reversed <= points", name=op.f("ck_redemption_lots_reversed")),
        sa.ForeignKeyConstraint(
            ["org_id", "redemption_id"],
            ["redemptions.org_id", "redemptions.redemption_id"],
            name=op.f("fk_redemption_lots_redemptions"),
        ),
        sa.PrimaryKeyConstraint("org_id", "redemption_id", "lot_id", name=op.f("pk_redemption_lots")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "purchases",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_number", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("amount", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_purchases_amount")),
        sa.PrimaryKeyConstraint("org_id", "transaction_number", name=op.f("pk_purchases")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_purchases_customer", "purchases", ["org_id", "customer_id", "transaction_number"], unique=False)
    op.create_table(
        "returns",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_number", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("amount", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("returned_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_returns_amount")),
        sa.CheckConstraint("points >= 0", name=op.f("ck_returns_points")),
        sa.PrimaryKeyConstraint("org_id", "transaction_number", name=op.f("pk_returns")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_returns_customer", "returns", ["org_id", "customer_id", "transaction_number"], unique=False)
    op.create_index(
        "ix_returns_noted",
        "returns",
        ["org_id", "request_id"],
        unique=False,
        sqlite_where=sa.text("notes != ''"),
        postgresql_where=sa.text("notes != ''"),
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("held_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("redemption_time", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("transaction_number", sa.Text(), nullable=True),
        sa.Column("external_reference", sa.Text(), nullable=True),
        sa.Column("point_value", sa.Text(), nullable=True),
        sa.Column("policy_revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("captured", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("closing_transaction_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint(
            "captured >= 0 AND captured <= points AND (captured > 0) = (state = 'CAPTURED')",
            name=op.f("ck_holds_captured"),
        ),
        sa.CheckConstraint(
            "(state = 'OPEN') = (closed_at IS NULL) AND (state = 'OPEN') = (closing_transaction_id IS NULL)",
            name=op.f("ck_holds_closed"),
        ),
        sa.CheckConstraint("points > 0", name=op.f("ck_holds_points")),
        sa.CheckConstraint("state IN ('OPEN', 'CAPTURED', 'RELEASED', 'EXPIRED')", name=op.f("ck_holds_state")),
        sa.PrimaryKeyConstraint("org_id", "hold_id", name=op.f("pk_holds")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_holds_customer", "holds", ["org_id", "customer_id", "held_at"], unique=False)
    op.create_index(
        "ix_holds_external_reference",
        "holds",
        ["org_id", "external_reference"],
        unique=False,
        sqlite_where=sa.text("state = 'OPEN' AND external_reference IS NOT NULL"),
        postgresql_where=sa.text("state = 'OPEN' AND external_reference IS NOT NULL"),
    )
    op.create_index(
        "ix_holds_open",
        "holds",
        ["org_id", "customer_id"],
        unique=False,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_table(
        "hold_lots",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("points", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("points > 0", name=op.f("ck_hold_lots_points")),
        sa.ForeignKeyConstraint(
            ["org_id", "hold_id"], ["holds.org_id", "holds.hold_id"], name=op.f("fk_hold_lots_holds")
        ),
        sa.PrimaryKeyConstraint("org_id", "hold_id", "lot_id", name=op.f("pk_hold_lots")),
        sqlite_with_rowid=False,
    )


def _create_codes() -> None:
    op.create_table(
        "otps",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("program_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("otp_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("counterparty_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("points_max", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("pooled", sa.SmallInteger(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts_left", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("issued_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("due_until", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("state IN ('LIVE', 'USED', 'REPLACED')", name=op.f("ck_otps_state")),
        sa.CheckConstraint("attempts_left >= 0", name=op.f("ck_otps_attempts_left")),
        sa.ForeignKeyConstraint(
            ["org_id", "customer_id"], ["customers.org_id", "customers.customer_id"], name=op.f("fk_otps_customers")
        ),
        sa.PrimaryKeyConstraint("org_id", "customer_id", "action", "program_id", name=op.f("pk_otps")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "otp_counters",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("window_started_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_ends_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("issues", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wrong_attempts", sa.Integer(), autoincrement=False, nullable=False),
        sa.CheckConstraint("issues >= 0 AND wrong_attempts >= 0", name=op.f("ck_otp_counters_counts")),
        sa.ForeignKeyConstraint(
            ["org_id", "customer_id"],
            ["customers.org_id", "customers.customer_id"],
            name=op.f("fk_otp_counters_customers"),
        ),
        sa.PrimaryKeyConstraint("org_id", "customer_id", "action", name=op.f("pk_otp_counters")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("otp_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.CheckConstraint("(state = 'QUEUED') = (sealed IS NOT NULL)", name=op.f("ck_outbox_sealed")),
        sa.CheckConstraint("state IN ('QUEUED', 'DELIVERED', 'CANCELLED', 'DEAD')", name=op.f("ck_outbox_state")),
        sa.PrimaryKeyConstraint("org_id", "message_id", name=op.f("pk_outbox")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_outbox_settled",
        "outbox",
        ["org_id", "customer_id", "message_id"],
        unique=False,
        sqlite_where=sa.text("state != 'QUEUED'"),
        postgresql_where=sa.text("state != 'QUEUED'"),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["org_id", "next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "ix_outbox_queued",
        "outbox",
        ["org_id", "customer_id"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )


def _create_notices() -> None:
    op.create_table(
        "notices",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tried_since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("state IN ('QUEUED', 'DEAD')", name=op.f("ck_notices_state")),
        sa.PrimaryKeyConstraint("org_id", "event_id", name=op.f("pk_notices")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_notices_due",
        "notices",
        ["org_id", "next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "ix_notices_queued",
        "notices",
        ["org_id", "customer_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'QUEUED'"),
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index(
        "ix_notices_dead",
        "notices",
        ["org_id", "created_at", "event_id"],
        unique=False,
        sqlite_where=sa.text("state = 'DEAD'"),
        postgresql_where=sa.text("state = 'DEAD'"),
    )


def _create_missed_calls() -> None:
    op.create_table(
        "missed_calls",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("call_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mobile", sa.Text(), nullable=False),
        sa.Column("called_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("used_by", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.ForeignKeyConstraint(
            ["org_id", "customer_id"],
            ["customers.org_id", "customers.customer_id"],
            name=op.f("fk_missed_calls_customers"),
        ),
        sa.PrimaryKeyConstraint("org_id", "call_id", name=op.f("pk_missed_calls")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_missed_calls_customer", "missed_calls", ["org_id", "customer_id", "call_id"], unique=False)
    op.create_index(
        "ix_missed_calls_unused",
        "missed_calls",
        ["org_id", "customer_id", "called_at"],
        unique=False,
        sqlite_where=sa.text("used_by IS NULL"),
        postgresql_where=sa.text("used_by IS NULL"),
    )


def _create_access() -> None:
    op.create_table(
        "audit_events",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("audit_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "audit_id", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_subject", "audit_events", ["org_id", "subject", "audit_id"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("request_id_required", sa.SmallInteger(), nullable=False),
        sa.Column("signing_key_id", sa.Text(), nullable=True),
        sa.Column("store", sa.Text(), nullable=True),
        sa.Column("till", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_api_keys_orgs")),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
    )
    op.create_index("ix_api_keys_org", "api_keys", ["org_id"], unique=False)
    op.create_table(
        "client_certificates",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_id_required", sa.SmallInteger(), nullable=False),
        sa.Column("store", sa.Text(), nullable=True),
        sa.Column("till", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_client_certificates_orgs")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_client_certificates")),
    )
    op.create_index("ix_client_certificates_org", "client_certificates", ["org_id"], unique=False)
    op.create_table(
        "token_cutoffs",
        sa.Column("org_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("issued_until", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.org_id"], name=op.f("fk_token_cutoffs_orgs")),
        sa.PrimaryKeyConstraint("org_id", "client", name=op.f("pk_token_cutoffs")),
    )
    op.create_table(
        "writer_slots",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("acquired_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("slot BETWEEN 0 AND 1023", name=op.f("ck_writer_slots_slot")),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_writer_slots")),
    )
