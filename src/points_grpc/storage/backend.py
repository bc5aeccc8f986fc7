"""What an engine of databases must bring: everything in which SQLite and PostgreSQL differ, behind one small Protocol.

`engine.Database` chooses by the scheme of the URL: `sqlite` and `postgres` implement it, each in files of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

from points_grpc.storage.driver import Driver, Probe


class Durability(Protocol):
    """What the writer's own connection says of its commits."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that decide it, by the names that the engine has for them."""
        ...

    @property
    def survives_power_loss(self) -> bool:
        """Whether what was committed is still there after `kill -9` and after a power loss."""
        ...


class Backend(Protocol):
    """An engine of databases, for one URL."""

    name: str
    """As GetServerInfo calls it."""

    place: str
    """What the database is called in messages to people: never with a password."""

    errors: tuple[type[Exception], ...]
    """What its driver raises."""

    def writer(self) -> Engine:
        """Opens connections that write; keeps none."""
        ...

    def reader(self, connections: int) -> Engine:
        """A pool of connections that read, each transaction one snapshot."""
        ...

    def driver(self, connection: PoolProxiedConnection, probe: Probe | None, *, writes: bool) -> Driver:
        """Runs statements on a connection of one of the two."""
        ...

    def durability(self, connection: PoolProxiedConnection) -> Durability:
        """What holds for the commits of a connection, read back from that connection."""
        ...

    def overwrite(self, connection: PoolProxiedConnection) -> bool:
        """Makes what was deleted or replaced leave the database's files, where the connection that writes can do that
        and it is its business; False if somebody who reads is in the way, so that it has to be tried again.
        """
        ...

    def vacuum(self, connection: PoolProxiedConnection, tables: Sequence[str]) -> None:
        """Rewrites the tables, or the whole database, without what was deleted or replaced; takes long."""
        ...

    def long_reads(self, connection: Connection) -> AbstractContextManager[None]:
        """Lets the reads of a transaction take long and sort much."""
        ...

    def migrator(self) -> Engine:
        """Opens connections for migrations, whose statements may take long; makes room for a new database."""
        ...

    def finish(self, connection: Connection) -> None:
        """Does after all migrations what they cannot say, in a transaction that writes."""
        ...
