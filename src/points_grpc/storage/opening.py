"""Opens the store that a database needs: one process writes a file, several write a server.

The writer's process opens the whole store; whoever only reads, its reading side.
"""

from __future__ import annotations

from points_grpc.service.duty import Claim
from points_grpc.storage.driver import Probe
from points_grpc.storage.engine import Database
from points_grpc.storage.load import WINDOW
from points_grpc.storage.repository import Clock, SqlRepository, SqlSnapshots, system_now


def open_repository(
    database: Database,
    *,
    now: Clock | None = None,
    window: int = WINDOW,
    durable: bool = True,
    probe: Probe | None = None,
    lease_wait_s: float = 0.0,
) -> SqlRepository:
    """Opens the store for writing. `now` stands for the clock of the host, or of the database's server, in tests.

    `lease_wait_s`: how long to wait for the writer before, where there is one lease for all.
    """
    if database.backend.name == "postgresql":
        from points_grpc.storage.postgres_repository import PostgresRepository  # noqa: PLC0415 - its driver is an extra

        return PostgresRepository(database, now=now, window=window, durable=durable, probe=probe)
    return SqlRepository(
        database, now=now or system_now, window=window, durable=durable, probe=probe, lease_wait_s=lease_wait_s
    )


def open_snapshots(database: Database) -> SqlSnapshots:
    """Opens the reading side of the store: takes no lease and writes nothing."""
    if database.backend.name == "postgresql":
        from points_grpc.storage.postgres_repository import PostgresSnapshots  # noqa: PLC0415 - its driver is an extra

        return PostgresSnapshots(database)
    return SqlSnapshots(database)


def open_claim(database: Database) -> Claim | None:
    """What one of all servers of the database can hold; None where there is one server."""
    if database.backend.name == "postgresql":
        from points_grpc.storage.postgres_duty import AdvisoryClaim  # noqa: PLC0415 - its driver is an extra

        return AdvisoryClaim(database)
    return None
