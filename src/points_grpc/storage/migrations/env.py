"""Where alembic starts: runs migrations on the connection that `storage.migrate` hands over, or writes their SQL."""

from __future__ import annotations

from alembic import context

from points_grpc.storage.schema import metadata

_attributes = context.config.attributes

if context.is_offline_mode():
    context.configure(url=_attributes["url"], target_metadata=metadata, literal_binds=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(
        connection=_attributes["connection"],
        target_metadata=metadata,
        transaction_per_migration=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
