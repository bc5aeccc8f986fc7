"""What PostgreSQL alone promises: leased slots, the server's clock, the meaning of its errors, durability, plans."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError
from stores import ANN, BEN, CID, NO_KEYS, ORG, Store, customer, fill, next_id, record

from databases import PostgresDatabase, on_postgres
from points_grpc.domain import events as ev
from points_grpc.domain.model import Identifier, IdentifierType, OrgConfig
from points_grpc.domain.outcome import Accepted, DoneResult
from points_grpc.domain.snapshot import Directory, Keys, Lookups, Snapshot
from points_grpc.service.duty import PROOF_S
from points_grpc.service.ports import (
    KeyTaken,
    OutcomeUnknown,
    StorageConflict,
    StorageFull,
    StorageUnavailable,
    WriterFenced,
)
from points_grpc.storage import (
    erasing,
    listings,
    migrate,
    personal,
    postgres,
    postgres_duty,
    postgres_faults,
    queries,
    schema,
)
from points_grpc.storage import statements as sql
from points_grpc.storage.driver import Statement
from points_grpc.storage.engine import Database, NotDurable
from points_grpc.storage.opening import open_repository
from points_grpc.storage.postgres_duty import AdvisoryClaim
from points_grpc.storage.postgres_repository import PostgresRepository
from points_grpc.storage.postgres_sql import bigints, in_postgres, numbers, octets, texts
from points_grpc.storage.repository import SqlRepository
from postgres_cluster import Cluster, OwnCluster

SECRET = "+1555CANARY"


@pytest.fixture(scope="session")
def empty_postgres(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> PostgresDatabase:
    """A database with the schema and two organisations."""
    found = on_postgres(postgres)(tmp_path_factory.mktemp("unused"))
    fill(found)
    assert isinstance(found, PostgresDatabase)
    return found


@pytest.fixture
def on(empty_postgres: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """A copy of it."""
    found = empty_postgres.copy()
    yield found
    found.drop()


@pytest.fixture
def store(on: PostgresDatabase) -> Iterator[Store]:
    """A furnished store."""
    made = Store(on)
    made.furnish()
    yield made
    made.close()


def add_customer(repository: SqlRepository, new_id: int) -> None:
    """A batch that writes a customer and a record."""
    with repository.write(ORG) as session:
        nothing = Directory({}, {}, {}, {})
        snapshot = Snapshot(session.load(NO_KEYS, session.book(), nothing, {}), OrgConfig({}))
        snapshot.evolve([ev.CustomerSaved(customer(new_id, f"N{new_id}"), created=True)])
        session.apply(snapshot.changes, [record(f"new-{new_id}", Accepted(DoneResult()))], [])
        session.commit()


# -- slots -------------------------------------------------------------------------------------------------------------


@contextmanager
def opened(on: PostgresDatabase) -> Iterator[PostgresRepository]:
    """A store as another process would open it."""
    database = Database(on.url, readers=2)
    repository = open_repository(database)
    assert isinstance(repository, PostgresRepository)
    yield repository
    repository.close()
    database.close()


def test_writers_have_slots_of_their_own(on: PostgresDatabase) -> None:
    """The lowest that is free; one that was given back is taken again, under the next epoch."""
    with opened(on) as first:
        with opened(on) as second:
            assert (0, 1) == (first.slot.number, second.slot.number)
        with opened(on) as third:
            assert (1, 2) == (third.slot.number, third.slot.epoch)


def test_writer_whose_lease_was_taken_writes_nothing_more(on: PostgresDatabase) -> None:
    """A process that stood still for longer than its lease finds another epoch, whatever it is about to do."""
    before = on.counts()
    with opened(on) as late:
        on.change("UPDATE writer_slots SET expires_at = 0")
        with opened(on) as other:
            assert (late.slot.number, late.slot.epoch + 1) == (other.slot.number, other.slot.epoch)
            for _ in range(2):
                with pytest.raises(WriterFenced):
                    add_customer(late, next_id())
            assert not late.keep_lease()
            assert before["customers"] == on.counts()["customers"]
            add_customer(other, next_id())
            assert other.keep_lease()


def test_slot_cannot_be_taken_under_a_running_transaction(on: PostgresDatabase) -> None:
    """Who reads the slot keeps it: the lease may have ended, the taker waits for the end of the transaction."""
    with opened(on) as first, first.write(ORG) as session:
        session.names(Lookups())
        with on.connection() as other:
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("UPDATE writer_slots SET epoch = epoch + 1")
        session.commit()


def test_lease_is_renewed_by_writing(on: PostgresDatabase) -> None:
    """Once half of it is gone."""
    with opened(on) as first:
        [(before,)] = on.rows("SELECT expires_at FROM writer_slots")
        on.change(f"UPDATE writer_slots SET expires_at = {before} - 40000000")
        add_customer(first, next_id())
        [(after,)] = on.rows("SELECT expires_at FROM writer_slots")

    assert after >= before


# -- the clock and the locks -------------------------------------------------------------------------------------------


def test_clock_is_that_of_the_server(on: PostgresDatabase) -> None:
    """Hosts may disagree: the instant of a decision is read from the database."""
    with opened(on) as repository, repository.write(ORG) as session:
        nothing = session.resolve(Lookups())
        [(before,)] = on.rows("SELECT clock_timestamp()")
        loaded = session.load(NO_KEYS, session.book(), nothing, {})
        [(after,)] = on.rows("SELECT clock_timestamp()")

    assert before - timedelta(microseconds=1) <= loaded.now <= after
    assert abs(loaded.now - datetime.now(UTC)) < timedelta(seconds=5)


def test_locked_customers_are_passed_over_or_waited_for(store: Store) -> None:
    """Without waiting, those that are free; with waiting, all, once the other is done."""
    with opened(store.on) as other:
        with other.write(ORG) as theirs, store.repository.write(ORG) as ours:
            assert theirs.lock([BEN], wait=False) == {BEN}
            assert ours.lock([ANN, BEN, CID], wait=False) == {ANN, CID}
        got: list[frozenset[int]] = []

        def wait() -> None:
            with store.repository.write(ORG) as ours:
                got.append(ours.lock([ANN, BEN], wait=True))

        with other.write(ORG) as theirs:
            theirs.lock([BEN], wait=True)
            waiting = threading.Thread(target=wait)
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
        waiting.join(10)

    assert got == [{ANN, BEN}]


def test_name_that_changed_before_the_lock_is_a_conflict(store: Store) -> None:
    """What was resolved does not hold any more: the batch is run again."""
    with store.repository.write(ORG) as session:
        session.resolve(Lookups(identifiers=(by_mobile(ANN),)))
        store.on.change("UPDATE customers SET mobile = '+15550000000' WHERE customer_id = ?", ANN)
        with pytest.raises(StorageConflict):
            session.lock([ANN], wait=True)


def by_mobile(customer_id: int) -> Identifier:
    """The identifier that is the customer's number."""
    return Identifier(IdentifierType.MOBILE, f"+1555{customer_id:07d}")


def test_programs_changed_by_another_writer_are_a_conflict(store: Store) -> None:
    """Programs are kept apart by their version: no change is lost."""
    with opened(store.on) as other:
        store.on_statement = lambda text: add_config(other) if "FOR NO KEY UPDATE" in text else None  # type: ignore[method-assign]
        with pytest.raises(StorageConflict):
            store.apply([ev.OrgPaused(True)], keys=NO_KEYS)

    assert store.rows("SELECT paused FROM orgs WHERE org_id = ?", ORG) == [(0,)]


def add_config(repository: SqlRepository) -> None:
    """Another process changes a program."""
    with repository.write(ORG) as session:
        session._driver.put(sql.BUMP_BOOK, [(ORG,)])
        session.commit()


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("40001", StorageConflict),
        ("40P01", StorageConflict),
        ("23505", KeyTaken),
        ("55P03", StorageConflict),
        ("53100", StorageFull),
        ("53300", StorageUnavailable),
        ("57014", StorageUnavailable),
        ("57P01", StorageUnavailable),
        ("08006", StorageUnavailable),
        ("25006", StorageUnavailable),
        ("23514", type(None)),
        ("42601", type(None)),
    ],
)
def test_errors_of_a_statement(sqlstate: str, expected: type) -> None:
    """Told apart by SQLSTATE; bugs of ours stay what they are."""
    found = postgres_faults.translate(psycopg.OperationalError(SECRET), sqlstate)

    assert type(found) is expected
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("40001", StorageConflict),
        ("53100", StorageFull),
        ("57P01", OutcomeUnknown),
        ("57014", OutcomeUnknown),
        ("08006", OutcomeUnknown),
        (None, OutcomeUnknown),
    ],
)
def test_errors_of_a_commit(sqlstate: str | None, expected: type) -> None:
    """Unknown unless the server says that it rolled back."""
    error = psycopg.OperationalError(SECRET)
    error.sqlstate = sqlstate

    assert type(postgres_faults.translate_commit(error)) is expected


def test_panic_at_a_commit() -> None:
    """The record of the commit may be in the log whose next segment found no room on the disk."""
    said = {psycopg.pq.DiagnosticField.SEVERITY_NONLOCALIZED: b"PANIC"}
    error = psycopg.errors.DiskFull(SECRET, info=said)  # type: ignore[arg-type]  # as the driver gives it

    assert type(postgres_faults.translate_commit(error)) is OutcomeUnknown


def end_connection(store: Store) -> None:
    """The server ends the writer's connection."""
    pid = store.repository.connection().driver_connection.info.backend_pid
    store.on.rows("SELECT pg_terminate_backend(?)", pid)


@pytest.mark.parametrize("at", ["BEGIN", "SELECT orgs", "INSERT INTO customers"])
def test_connection_lost_before_the_commit_is_run_again(store: Store, at: str) -> None:
    """Nothing was written: it is a conflict, and the next try has another connection."""
    before = store.counts()
    lost = False

    def probe(text: str) -> None:
        nonlocal lost
        if text.startswith(at) and not lost:
            lost = True
            end_connection(store)

    store.on_statement = probe  # type: ignore[method-assign]
    with pytest.raises(StorageConflict):
        add_customer(store.repository, next_id())
    assert before == store.counts()
    add_customer(store.repository, next_id())

    assert before["customers"] + 1 == store.counts()["customers"]


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_connection_that_the_server_is_about_to_close_is_lost(store: Store, severity: str) -> None:
    """Its last words may be read while the socket is still open: the same conflict, and it is not used again."""
    connection = store.repository.connection()
    lost = False

    def probe(text: str) -> None:
        nonlocal lost
        if text.startswith("SELECT orgs") and not lost:
            lost = True
            raise psycopg.errors.AdminShutdown(
                SECRET, info={psycopg.pq.DiagnosticField.SEVERITY_NONLOCALIZED: severity.encode()}
            )

    store.on_statement = probe  # type: ignore[method-assign]
    with pytest.raises(StorageConflict):
        add_customer(store.repository, next_id())
    add_customer(store.repository, next_id())

    assert store.repository.connection() is not connection


def test_connection_lost_in_the_commit_is_unknown(store: Store) -> None:
    """Nothing is run again; the next batch has another connection."""
    lost = False

    def probe(text: str) -> None:
        nonlocal lost
        if text == "COMMIT" and not lost:
            lost = True
            end_connection(store)

    store.on_statement = probe  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown):
        add_customer(store.repository, next_id())
    add_customer(store.repository, next_id())


def test_readers_survive_lost_connections(store: Store) -> None:
    """A connection that was lost while it was idle is replaced before it is used."""
    keys = Keys(customers=frozenset({ANN}))
    store.load(keys)
    store.on.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )

    assert set(store.load(keys).customers) == {ANN}


def stand_still(database: Database) -> None:
    """A transaction that does nothing for a while."""
    with database.reader.connect() as connection, connection.begin():
        connection.exec_driver_sql("SELECT 1")
        time.sleep(1)
        connection.exec_driver_sql("SELECT 1")


def test_long_reads_may_compute_between_statements(on: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a transaction that stands still, but not that of a verification which computes for a while."""
    monkeypatch.setattr(postgres, "IDLE_TIMEOUT_MS", 100)
    database = Database(on.url)
    try:
        with pytest.raises(DBAPIError):
            stand_still(database)
        with database.reader.connect() as connection, connection.begin(), database.backend.long_reads(connection):
            connection.exec_driver_sql("SELECT 1")
            time.sleep(1)

            assert 1 == connection.exec_driver_sql("SELECT 1").scalar()
    finally:
        database.close()


def test_readers_cannot_write(store: Store) -> None:
    """Their transactions are read-only."""
    connection = store.database.connect_reader()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.cursor().execute("DELETE FROM customers")
    connection.close()


def test_broken_constraint_stays_a_bug(store: Store) -> None:
    """It is no conflict, and must not be run again."""
    with pytest.raises(psycopg.errors.CheckViolation):
        store.apply([ev.CustomerSaved(customer(BEN, "Ben", merged_into=BEN), created=False)], keys=NO_KEYS)


# -- durability --------------------------------------------------------------------------------------------------------


def test_writer_says_how_durable_it_is(store: Store) -> None:
    """Read back from its own connection."""
    assert store.repository.durability == postgres.Durability("on", "on", "on")


def test_writer_that_may_lose_commits_is_refused(on: PostgresDatabase) -> None:
    """The error names the setting."""
    on.change(f"ALTER DATABASE {on.name} SET synchronous_commit = off")
    database = Database(on.url)

    with pytest.raises(NotDurable, match="synchronous_commit=off"):
        open_repository(database)
    database.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("on", "on", "on"), True),
        (("remote_apply", "on", "on"), True),
        (("local", "on", "on"), True),
        (("off", "on", "on"), False),
        (("on", "off", "on"), False),
        (("on", "on", "off"), False),
    ],
)
def test_what_survives_a_power_loss(settings: tuple[str, str, str], *, expected: bool) -> None:
    """A commit that waits for the disk of the server, and pages that are whole after a crash."""
    assert postgres.Durability(*settings).survives_power_loss is expected


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[OwnCluster]:
    """A cluster that a test may end and set up as it likes."""
    found = OwnCluster()
    yield found
    found.close()


def test_commit_that_a_standby_may_not_have_is_unknown(own_cluster: OwnCluster) -> None:
    """The server commits, gives up waiting for the standby, and warns."""
    on = PostgresDatabase(own_cluster, own_cluster.create())
    fill(on)
    store = Store(on)
    on.change("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    on.rows("SELECT pg_reload_conf()")
    connection = store.repository.connection().driver_connection
    cancelling = threading.Timer(0.5, connection.cancel)
    cancelling.start()
    with pytest.raises(OutcomeUnknown):
        add_customer(store.repository, 4711)
    with on.connection() as other:
        other.execute("SET synchronous_commit = local")
        assert other.execute("SELECT COUNT(*) FROM customers").fetchone() == (1,)
        other.execute("ALTER SYSTEM RESET synchronous_standby_names")
        other.execute("SELECT pg_reload_conf()")
    store.close()


@pytest.mark.parametrize("wanted", ["any", "read-write", "primary"])
def test_readers_connect_to_whatever_session_is_asked_for(on: PostgresDatabase, wanted: str) -> None:
    """A URL of several hosts says which of them is meant; those that read are let in too, and cannot write."""
    url = on.cluster.url.set(database=on.name).update_query_dict({"target_session_attrs": wanted})
    database = Database(url.render_as_string(hide_password=False))
    with database.reader.connect() as connection:
        customers = connection.exec_driver_sql("SELECT COUNT(*) FROM customers").scalar()
        with pytest.raises(DBAPIError, match="read-only transaction"):
            connection.exec_driver_sql("DELETE FROM customers")
    database.close()

    assert 0 == customers


def test_server_that_was_killed_comes_back(own_cluster: OwnCluster) -> None:
    """What was acknowledged is there; writing and reading go on without a new process."""
    on = PostgresDatabase(own_cluster, own_cluster.create())
    fill(on)
    store = Store(on, synchronous="FULL")
    add_customer(store.repository, 4711)
    own_cluster.kill()
    with pytest.raises(StorageConflict):
        add_customer(store.repository, 4712)
    with pytest.raises(StorageUnavailable):
        add_customer(store.repository, 4712)
    own_cluster.start()
    add_customer(store.repository, 4712)

    assert set(store.load(Keys(customers=frozenset({4711, 4712}))).customers) == {4711, 4712}
    store.close()


# -- the schema --------------------------------------------------------------------------------------------------------


def shape(on: PostgresDatabase) -> dict[str, object]:
    """Columns, constraints and indexes of every table, as the server describes them."""
    columns = on.rows(
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, ordinal_position"
    )
    constraints = on.rows(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'"
        " AND contype <> 'n' ORDER BY 1, 2"
    )
    indexes = on.rows("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
    return {"columns": columns, "constraints": constraints, "indexes": sorted(indexes)}


def test_migrated_schema_is_that_of_the_code(postgres: Cluster, on: PostgresDatabase) -> None:
    """Tables, columns, constraints and indexes are those of schema.py."""
    created = PostgresDatabase(postgres, postgres.create())
    database = Database(created.url)
    schema.metadata.create_all(database.writer)
    database.close()

    assert shape(created) == shape(on)
    created.drop()


@pytest.mark.ci
def test_upgrade_says_where_it_got(postgres: Cluster) -> None:
    """An empty database has no revision, then the newest; upgrading again changes nothing."""
    on = PostgresDatabase(postgres, postgres.create())

    assert migrate.current(on.url) is None
    assert migrate.upgrade(on.url) == schema.REVISION
    assert migrate.upgrade(on.url) == schema.REVISION
    assert all(f"CREATE TABLE {table} " in migrate.sql(on.url) for table in schema.metadata.tables)
    on.drop()


# -- plans -------------------------------------------------------------------------------------------------------------

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": found
    for module in (sql, queries, listings, erasing, personal)
    for name, found in vars(module).items()
    if isinstance(found, Statement) and name != "_ERASED"
}
SMALL = {"orgs", "programs", "program_groups", "policies", "config_keys"}
"""Tables of an organisation as such."""


@pytest.fixture(scope="module")
def large(empty_postgres: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """A database with many lots and customers, whose statistics are known."""
    found = empty_postgres.copy()
    found.change(
        "INSERT INTO customers SELECT 1, n, '', '', '+1' || n, 'c' || n, 'x' || n, 0, 1, 1, NULL, NULL, 0, 0, ''"
        " FROM generate_series(1, 20000) AS n"
    )
    found.change(
        "INSERT INTO lots SELECT 1, n, n % 20000 + 1, 1, 1, 1, 'Main', 9, 9, 0, 1, n, NULL, 0, n, NULL, n, n"
        " FROM generate_series(1, 100000) AS n"
    )
    found.change("ANALYZE")
    yield found
    found.drop()


def plan_of(connection: object, text: str, places: int) -> list[str]:
    """The lines of the plan that is prepared once for all parameters."""
    connection.execute(f"PREPARE one AS {text}")
    parameters = f"({', '.join(['NULL'] * places)})" if places else ""
    lines = [line for (line,) in connection.execute(f"EXPLAIN EXECUTE one{parameters}").fetchall()]
    connection.execute("DEALLOCATE one")
    return lines


@pytest.mark.parametrize("size", ["empty", "large"])
def test_no_statement_scans_a_table(empty_postgres: PostgresDatabase, large: PostgresDatabase, size: str) -> None:
    """Prepared on empty tables or on large ones, every hot statement looks its rows up by an index."""
    database = Database((empty_postgres if size == "empty" else large).url)
    scanned: dict[str, Sequence[str]] = {}
    connection = database.connect_writer()
    for name, statement in STATEMENTS.items():
        found = in_postgres(statement)
        lines = plan_of(connection.cursor(), found.many or found.text, len(found.order))
        wrong = [line for line in lines if "Seq Scan on" in line and not any(f"on {one}" in line for one in SMALL)]
        if wrong:
            scanned[name] = lines
    connection.close()
    database.close()

    assert scanned == {}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("_CUSTOMERS", "Index Scan using pk_customers on customers"),
        ("_WALLETS", "Index Scan using pk_wallets on wallets"),
        ("_LOTS", "Index Scan using ix_lots_spending on lots"),
        ("_JOURNAL", "Index Scan Backward using pk_transactions on transactions"),
        ("FIRST_LOTS", "Index Scan using ix_lots_spending on lots"),
        ("LOTS_BY_ID", "Index Scan using pk_lots on lots"),
        ("CUSTOMERS_BY_MOBILE", "Index Scan using ux_customers_mobile on customers"),
        ("UPDATE_LOT", "Index Scan using pk_lots on lots"),
        ("UPDATE_WALLET", "Index Scan using pk_wallets on wallets"),
    ],
)
@pytest.mark.parametrize("size", ["empty", "large"])
def test_a_statement_uses_its_index(
    empty_postgres: PostgresDatabase, large: PostgresDatabase, size: str, name: str, index: str
) -> None:
    """The index that was made for it, whatever the size of the table when it was prepared."""
    database = Database((empty_postgres if size == "empty" else large).url)
    connection = database.connect_writer()
    found = in_postgres(getattr(listings if name.startswith("_") else sql, name))
    lines = plan_of(connection.cursor(), found.many or found.text, len(found.order))
    connection.close()
    database.close()

    assert any(index in line for line in lines), lines


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_arrays_say_what_they_hold(on: PostgresDatabase) -> None:
    """Texts with every kind of sign, numbers, flags, bytes, and nulls."""
    hostile = ["a", None, "", "NULL", 'quote " and \\', "{,}", "\x01\x02", "é\n\t", "'; DROP TABLE customers; --"]
    with on.connection() as connection:
        cursor = psycopg.RawCursor(connection)
        [row] = cursor.execute(
            "SELECT CAST($1 AS TEXT[]), CAST($2 AS BIGINT[]), CAST($3 AS BYTEA[])",
            (texts(hostile), numbers([1, None, -(2**63), True, False]), octets([b"\x00\xff", None, b""])),
        ).fetchall()

    assert row == (hostile, [1, None, -(2**63), 1, 0], [b"\x00\xff", None, b""])


def test_arrays_of_large_numbers_say_what_they_hold(on: PostgresDatabase) -> None:
    """In the server's own form: nulls, flags, the largest and the lowest, none at all."""
    arrays = [[1, -(2**63), 2**63 - 1], [None, 0, True, False, None], [None], [7] * 1_000]
    database = Database(on.url)
    connection = database.connect_writer()
    cursor = psycopg.RawCursor(connection.driver_connection)
    [row] = cursor.execute(
        "SELECT " + ", ".join(f"CAST(${n} AS BIGINT[])" for n in range(1, 5)), list(map(bigints, arrays))
    )
    connection.close()
    database.close()

    assert row == tuple(arrays)


# -- who is on duty ----------------------------------------------------------------------------------------------------


@pytest.fixture
def claims(on: PostgresDatabase) -> Iterator[tuple[AdvisoryClaim, AdvisoryClaim]]:
    """Those of two processes."""
    databases = [Database(on.url) for _ in range(2)]
    made = (AdvisoryClaim(databases[0]), AdvisoryClaim(databases[1]))
    yield made
    for claim, database in zip(made, databases, strict=True):
        claim.release()
        database.close()


def test_one_of_two_has_duty(claims: tuple[AdvisoryClaim, AdvisoryClaim]) -> None:
    """Until it gives it back; then the other has it."""
    first, second = claims
    tries = [first.hold(), second.hold(), first.hold()]
    first.release()
    until = time.monotonic() + 30
    while not second.hold() and time.monotonic() < until:  # The server ends the session when it comes to it.
        time.sleep(0.01)
    tries += [second.hold(), first.hold()]

    assert [True, False, True, True, False] == tries


def test_duty_ends_with_its_session(on: PostgresDatabase, claims: tuple[AdvisoryClaim, AdvisoryClaim]) -> None:
    """Who lost the session is told, and may try again; meanwhile another can have taken it."""
    first, second = claims
    first.hold()
    on.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    taken = second.hold()
    with pytest.raises(StorageUnavailable):
        first.hold()

    assert (True, False) == (taken, first.hold())


def test_silence_ends_duty(claims: tuple[AdvisoryClaim, AdvisoryClaim], monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL takes it from a process that stands still, by its own clock."""
    monkeypatch.setattr(postgres_duty, "SILENCE_MS", 100)
    first, second = claims
    first.hold()
    until = time.monotonic() + 10
    while not second.hold() and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(StorageUnavailable):
        first.hold()

    assert second.hold()


def test_a_proof_is_believed_for_less_than_the_server_waits() -> None:
    """Or two could be on duty at once."""
    assert 3 * PROOF_S * 1000 < postgres_duty.SILENCE_MS
