"""The journal's tables in partitions, by range of the transaction id, which tells the time: on PostgreSQL alone.

A table that is there becomes the first partition as it is; no row is copied. What follows is made ahead of need. The
last partition has no end, and the first no beginning, so that a row always finds its place: no write depends on this
having been run in time. There is no default partition, because with one the server cannot read a customer's newest
entries without looking into the oldest.

Servers go on meanwhile. Each step is a transaction that waits for its lock for a moment only, and is tried again; what
takes long (reading the last partition once, to prove where it ends) locks nobody out. Run again, it goes on.

Request ids are no part of this: `requests` stays one table, or its key could not hold for ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from points_grpc.service.ids import lowest_id, made_at_ms
from points_grpc.service.ports import StorageConflict
from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.schema import metadata

TABLES = ("transactions", "postings")
"""What is only ever added to, and grows with every movement."""

COLUMN = "transaction_id"

LOCK = (0x706F696E, 2)
"""The number of the advisory lock that keeps two of these runs apart; `postgres_duty` has the first."""

LOCK_WAIT_MS = 1_000
"""How long a step waits for its lock, and may hold up who comes behind it."""

ATTEMPTS = 60
PAUSE_S = 0.5

_BROKEN_CHECK = "23514"


class Partition(Struct, frozen=True):
    """A partition, or a table that has none. None: it has no beginning, or no end."""

    table: str
    name: str
    from_id: int | None
    until_id: int | None
    rows: int
    """As the server estimates them; -1 before it first looked."""
    size_bytes: int
    tablespace: str

    @property
    def begins_at(self) -> datetime | None:
        """What was written before that is not in it, by the clock of who wrote it."""
        return _time_of(self.from_id)

    @property
    def ends_at(self) -> datetime | None:
        """What was written from then on is not in it."""
        return _time_of(self.until_id)


def partitions(database: Database) -> list[Partition]:
    """The partitions of each table, from the first to the last."""
    require_schema(database)
    with sessions(database) as engine, engine.connect() as connection:
        return [one for table in TABLES for one in partitions_of(connection, table)]


def make_partitions(
    database: Database, *, now: datetime, days: int, ahead: int, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Has the tables partitioned, until there are bounds `ahead` times `days` days from now.

    `tell` is told each bound that was made. Raises `StorageConflict` where somebody stands in the way for too long.
    """
    require_schema(database)
    width = timedelta(days=days)
    with sessions(database) as engine, alone(engine):
        for table in TABLES:
            with engine.connect() as connection:
                last = partitions_of(connection, table)[-1]
            known = begins_at = last.begins_at
            while begins_at is None or begins_at < now + ahead * width:
                begins_at = _next_bound(begins_at, now, width)
                name = _cut(engine, table, lowest_id(_ms(begins_at)))
                tell(f"{table}: {name} begins on {begins_at:%Y-%m-%d}")
            if begins_at != known:
                _analyze(engine, table)


def cut(database: Database, table: str, at_id: int) -> str:
    """Ends the last partition of a table before an id, and begins another there; its name. No row may be beyond it."""
    require_schema(database)
    with sessions(database) as engine, alone(engine):
        return _cut(engine, table, at_id)


def _analyze(engine: Engine, table: str) -> None:
    """Gathers what the planner wants to know: of partitions the server does by itself, of the whole it never does."""
    change(engine, lambda connection: connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {table}"))


# -- where bounds are --------------------------------------------------------------------------------------------------


def _next_bound(last: datetime | None, now: datetime, width: timedelta) -> datetime:
    """The next multiple of the width behind the last bound; where rows are written already, at least a width away.

    A run that is killed may leave the last partition with an end and nothing behind it: it has that long to be run
    again.
    """
    after = now + width if last is None or last <= now else last + timedelta(microseconds=1)
    return _EPOCH + -(-(after - _EPOCH) // width) * width


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _time_of(number: int | None) -> datetime | None:
    return None if number is None else _EPOCH + timedelta(milliseconds=made_at_ms(number))


def _suffix(at_id: int) -> str:
    """What names a partition that begins at an id: the day, where it is the first of one."""
    at = _time_of(at_id)
    assert at is not None
    return f"{at:%Y%m%d}" if lowest_id(_ms(at)) == at_id and at.time() == datetime.min.time() else str(at_id)


# -- a cut -------------------------------------------------------------------------------------------------------------


def _cut(engine: Engine, table: str, at_id: int) -> str:
    with engine.connect() as connection:
        last = partitions_of(connection, table)[-1]
    if last.from_id is not None and at_id <= last.from_id:
        raise ValueError(f"{table} has a partition from {last.from_id} on already")
    bound = f"until_{at_id}"
    try:
        _prove_end(engine, last, bound, at_id)
        made = f"{table}_{_suffix(at_id)}"
        begin = _begin_first if last.name == table else _end_last
        change(engine, lambda connection: begin(connection, last, bound, at_id))
    except BaseException:
        change(engine, lambda connection: _drop_ends(connection, last.name))
        raise
    return made


def _prove_end(engine: Engine, last: Partition, bound: str, at_id: int) -> None:
    """Has the server know that the last partition has nothing beyond its end, so that nobody waits while it looks."""
    beginning = "" if last.from_id is None else f"{COLUMN} >= {last.from_id} AND "

    def add(connection: Connection) -> None:
        if not _drop_ends(connection, last.name, but=bound):
            connection.exec_driver_sql(
                f"ALTER TABLE {last.name} ADD CONSTRAINT {bound} CHECK ({beginning}{COLUMN} < {at_id}) NOT VALID"
            )

    def prove(connection: Connection) -> None:
        connection.exec_driver_sql(f"ALTER TABLE {last.name} VALIDATE CONSTRAINT {bound}")

    change(engine, add)
    change(engine, prove, where=last.name)


def _drop_ends(connection: Connection, name: str, *, but: str = "") -> bool:
    """Removes what runs that were killed left, and says whether the one that is wanted is there."""
    found = connection.execute(_BOUNDS, {"name": name}).scalars().all()
    for one in found:
        if one != but:
            connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {one}")
    return but in found


def _begin_first(connection: Connection, plain: Partition, bound: str, at_id: int) -> None:
    """Puts a partitioned table in the place of a plain one, which becomes its first partition."""
    table, first = plain.table, f"{plain.table}_first"
    connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    [(owner,)] = connection.execute(OWNER, {"name": table})
    indexes = connection.execute(INDEXES, {"name": table}).scalars().all()
    connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {first}")
    for index in indexes:
        connection.exec_driver_sql(f"ALTER INDEX {index} RENAME TO {index}_first")
    connection.exec_driver_sql(
        f"CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
        f" PARTITION BY RANGE ({COLUMN})"
    )
    connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {bound}")
    key = metadata.tables[table].primary_key
    columns = ", ".join(column.name for column in key)
    connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({columns})")
    for one in metadata.tables[table].indexes:
        if not one.unique:
            connection.exec_driver_sql(str(CreateIndex(one).compile(dialect=postgresql.dialect())))  # type: ignore[no-untyped-call]
    connection.exec_driver_sql(f"ALTER TABLE {table} OWNER TO {owner}")
    for grant in connection.execute(_GRANTS, {"name": first, "table": table}).scalars().all():
        connection.exec_driver_sql(grant)
    attach(connection, table, first, f"FROM (MINVALUE) TO ({at_id})", bound)
    _begin(connection, table, at_id, owner)


def _end_last(connection: Connection, last: Partition, bound: str, at_id: int) -> None:
    """Gives the last partition an end, and begins another there."""
    [(owner,)] = connection.execute(OWNER, {"name": last.table})
    beginning = "MINVALUE" if last.from_id is None else str(last.from_id)
    connection.exec_driver_sql(f"ALTER TABLE {last.table} DETACH PARTITION {last.name}")
    attach(connection, last.table, last.name, f"FROM ({beginning}) TO ({at_id})", bound)
    _begin(connection, last.table, at_id, owner)


def attach(connection: Connection, table: str, name: str, bounds: str, bound: str) -> None:
    """Makes a table a partition, without reading it: `bound` is a constraint of it that says as much as the bounds."""
    connection.exec_driver_sql(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds}")
    connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {bound}")


def _begin(connection: Connection, table: str, at_id: int, owner: str) -> None:
    """A new last partition. Unique keys without the partitions' column hold within each; `verify` looks at the rest."""
    suffix = _suffix(at_id)
    name = f"{table}_{suffix}"
    connection.exec_driver_sql(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ({at_id}) TO (MAXVALUE)")
    for index in metadata.tables[table].indexes:
        if index.unique:
            columns = ", ".join(column.name for column in index.columns)
            connection.exec_driver_sql(f"CREATE UNIQUE INDEX {index.name}_{suffix} ON {name} ({columns})")
    connection.exec_driver_sql(f"ALTER TABLE {name} OWNER TO {owner}")


# -- sessions ----------------------------------------------------------------------------------------------------------


@contextmanager
def sessions(database: Database) -> Iterator[Engine]:
    """Connections whose statements may take long."""
    if database.backend.name != "postgresql":
        raise ValueError("partitions are for PostgreSQL: a SQLite database is one file")
    engine = database.backend.migrator()
    try:
        yield engine
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    finally:
        engine.dispose()


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Holds the lock that keeps two runs apart."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(select(func.pg_try_advisory_lock(*LOCK))):
            raise ValueError("somebody else makes partitions of this database")
        try:
            yield
        finally:  # The server would notice the end of the session, a moment later.
            connection.execute(select(func.pg_advisory_unlock(*LOCK)))


def change(engine: Engine, step: Callable[[Connection], object], *, where: str = "") -> None:
    """Runs a change in a transaction, again and again until its locks were free."""
    for left in reversed(range(ATTEMPTS)):
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
                step(connection)
            return
        except DRIVER_ERRORS as error:
            if getattr(getattr(error, "orig", None), "sqlstate", None) == _BROKEN_CHECK:
                raise ValueError(f"{where} has rows beyond that end") from error
            translated = translate(error)
            if not isinstance(translated, StorageConflict) or not left:
                raise translated from error
        time.sleep(PAUSE_S)


# -- the statements ----------------------------------------------------------------------------------------------------


def partitions_of(connection: Connection, table: str) -> Sequence[Partition]:
    """Those of a table, or the table itself where it has none, from the first to the last."""
    found = [_partition(table, *row) for row in connection.execute(_LEAVES, {"name": table})]
    return sorted(found, key=lambda one: -1 if one.from_id is None else one.from_id)


def _partition(table: str, name: str, bounds: str | None, rows: int, size_bytes: int, tablespace: str) -> Partition:
    ends = re.fullmatch(r"FOR VALUES FROM \((.+)\) TO \((.+)\)", bounds or "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")
    assert ends is not None, bounds
    from_id, until_id = (None if end.endswith("VALUE") else int(end.strip("'")) for end in ends.groups())
    return Partition(table, name, from_id, until_id, rows, size_bytes, tablespace)


_LEAVES = text("""
    WITH own AS (
        SELECT spcname FROM pg_database JOIN pg_tablespace ON pg_tablespace.oid = dattablespace
        WHERE datname = current_database()
    )
    SELECT pg_class.relname, pg_get_expr(pg_class.relpartbound, pg_class.oid), pg_class.reltuples::bigint,
        pg_total_relation_size(pg_class.oid), COALESCE(pg_tablespace.spcname, own.spcname)
    FROM pg_partition_tree(CAST(:name AS regclass)) AS tree
    JOIN pg_class ON pg_class.oid = tree.relid LEFT JOIN pg_tablespace ON pg_tablespace.oid = pg_class.reltablespace
    CROSS JOIN own
    WHERE tree.isleaf
    UNION ALL
    SELECT pg_class.relname, NULL, pg_class.reltuples::bigint,
        pg_total_relation_size(pg_class.oid), COALESCE(pg_tablespace.spcname, own.spcname)
    FROM pg_class LEFT JOIN pg_tablespace ON pg_tablespace.oid = pg_class.reltablespace CROSS JOIN own
    WHERE pg_class.oid = CAST(:name AS regclass) AND pg_class.relkind = 'r'
""")
"""The partitions of a table, or the table itself where it has none. One without a tablespace lies in the database's."""

_BOUNDS = text(
    "SELECT conname FROM pg_constraint WHERE conrelid = CAST(:name AS regclass) AND conname LIKE 'until\\_%'"
)
OWNER = text("SELECT relowner::regrole::text FROM pg_class WHERE oid = CAST(:name AS regclass)")
INDEXES = text("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = CAST(:name AS regclass) ORDER BY 1")
_GRANTS = text("""
    SELECT format('GRANT %s ON %I TO %s', privilege_type, CAST(:table AS text),
        CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
    FROM pg_class, aclexplode(relacl) WHERE oid = CAST(:name AS regclass) AND grantee <> relowner
""")
