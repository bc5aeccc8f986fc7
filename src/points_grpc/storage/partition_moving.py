"""Moves a partition whose time is over to another tablespace, while servers go on: copies it, and swaps the two.

To move a table in place has it alone for as long as that takes. So it is copied into a new one; a trigger, there for
that time only, notes which rows change meanwhile (notes that are erased), and these are copied again in the short
transaction in which the copy takes the place of the original. What a run that was killed left is removed by the next.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, text
from sqlalchemy.engine import Engine

from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.partitioning import (
    COLUMN,
    INDEXES,
    OWNER,
    TABLES,
    Partition,
    alone,
    attach,
    change,
    partitions_of,
    sessions,
)

OVER_FOR = timedelta(days=1)
"""How long a partition must have been over: clocks of hosts differ."""


def move_partitions(
    database: Database,
    *,
    ended_before: datetime,
    now: datetime,
    tablespace: str,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Moves all that ended before a time and are elsewhere; how many. `tell` is told of each when it was copied."""
    require_schema(database)
    limit = min(ended_before, now - OVER_FOR)
    with sessions(database) as engine, alone(engine):
        with engine.connect() as connection:
            if not connection.scalar(_TABLESPACE, {"name": tablespace}):
                raise ValueError(f"there is no tablespace {tablespace}")
            found = [one for table in TABLES for one in partitions_of(connection, table)]
        chosen = [one for one in found if one.ends_at and one.ends_at <= limit and one.tablespace != tablespace]
        for one in chosen:
            _move(engine, one, tablespace, tell)
    return len(chosen)


def _move(engine: Engine, old: Partition, tablespace: str, tell: Callable[[str], None]) -> None:
    change(engine, lambda connection: _forget(connection, old))
    try:
        change(engine, lambda connection: _begin(connection, old, tablespace))
        change(engine, lambda connection: _copy(connection, old, tablespace))
        tell(f"{old.table}: {old.name} is copied to {tablespace}")
        change(engine, lambda connection: _swap(connection, old))
    except BaseException:
        change(engine, lambda connection: _forget(connection, old))
        raise


def _forget(connection: Connection, old: Partition) -> None:
    """Removes what a run left that did not get to its end."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_copy_of(old)}, {_changes_of(old)}")
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_changes_of(old)}() CASCADE")


def _begin(connection: Connection, old: Partition, tablespace: str) -> None:
    """An empty copy; and from here on it is noted what changes."""
    copy, changes = _copy_of(old), _changes_of(old)
    connection.exec_driver_sql(
        f"CREATE TABLE {copy} (LIKE {old.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
        f" TABLESPACE {_quoted(tablespace)}"
    )
    [(owner,)] = connection.execute(OWNER, {"name": old.name})
    connection.exec_driver_sql(f"ALTER TABLE {copy} OWNER TO {owner}")
    connection.exec_driver_sql(f"CREATE TABLE {changes} (org_id BIGINT, {COLUMN} BIGINT)")
    noted = f"INSERT INTO {changes} VALUES (OLD.org_id, OLD.{COLUMN})"  # noqa: S608 - names of ours
    connection.exec_driver_sql(
        f"CREATE FUNCTION {changes}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT"
        f" AS $$ BEGIN {noted}; RETURN NULL; END $$"
    )
    connection.exec_driver_sql(
        f"CREATE TRIGGER {changes} AFTER UPDATE OR DELETE ON {old.name} FOR EACH ROW EXECUTE FUNCTION {changes}()"
    )


def _copy(connection: Connection, old: Partition, tablespace: str) -> None:
    """All rows, indexes as the original has them, and the proof of where it begins and ends."""
    copy = _copy_of(old)
    connection.exec_driver_sql(f"SET LOCAL default_tablespace = {_quoted(tablespace)}")
    connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
    connection.exec_driver_sql(f"INSERT INTO {copy} SELECT * FROM {old.name}")  # noqa: S608 - names of ours
    for number, index in enumerate(connection.execute(INDEXES, {"name": old.name}).scalars().all()):
        definition, is_key = connection.execute(_DEFINITION, {"name": index}).one()
        head, _, columns = definition.partition(" USING ")
        unique, name = "UNIQUE " if " UNIQUE " in head else "", f"{copy}_{number}"
        connection.exec_driver_sql(f"CREATE {unique}INDEX {name} ON {copy} USING {columns}")
        if is_key:
            connection.exec_driver_sql(f"ALTER TABLE {copy} ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {name}")
    beginning = "" if old.from_id is None else f"{COLUMN} >= {old.from_id} AND "
    connection.exec_driver_sql(
        f"ALTER TABLE {copy} ADD CONSTRAINT until_copy CHECK ({beginning}{COLUMN} < {old.until_id})"
    )


def _swap(connection: Connection, old: Partition) -> None:
    """Copies again what changed, and puts the copy in the place of the original, which goes."""
    copy, changes = _copy_of(old), _changes_of(old)
    connection.exec_driver_sql(f"LOCK TABLE {old.table} IN ACCESS EXCLUSIVE MODE")
    for org_id, number in connection.exec_driver_sql(f"SELECT DISTINCT org_id, {COLUMN} FROM {changes}").all():  # noqa: S608 - names of ours
        of_change = f"WHERE org_id = {org_id} AND {COLUMN} = {number}"
        connection.exec_driver_sql(f"DELETE FROM {copy} {of_change}")  # noqa: S608 - as above, and numbers
        connection.exec_driver_sql(f"INSERT INTO {copy} SELECT * FROM {old.name} {of_change}")  # noqa: S608 - as above
    indexes = connection.execute(INDEXES, {"name": old.name}).scalars().all()
    connection.exec_driver_sql(f"ALTER TABLE {old.table} DETACH PARTITION {old.name}")
    connection.exec_driver_sql(f"DROP TABLE {old.name}, {changes}")
    connection.exec_driver_sql(f"DROP FUNCTION {changes}()")
    connection.exec_driver_sql(f"ALTER TABLE {copy} RENAME TO {old.name}")
    for number, index in enumerate(indexes):
        connection.exec_driver_sql(f"ALTER INDEX {copy}_{number} RENAME TO {index}")
    beginning = "MINVALUE" if old.from_id is None else str(old.from_id)
    attach(connection, old.table, old.name, f"FROM ({beginning}) TO ({old.until_id})", "until_copy")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _copy_of(old: Partition) -> str:
    return f"{old.name}_copy"


def _changes_of(old: Partition) -> str:
    return f"{old.name}_changes"


_TABLESPACE = text("SELECT 1 FROM pg_tablespace WHERE spcname = :name")
_DEFINITION = text(
    "SELECT pg_get_indexdef(indexrelid), indisprimary FROM pg_index WHERE indexrelid = CAST(:name AS regclass)"
)
