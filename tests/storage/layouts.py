"""Databases whose journal lies in partitions, for the suite that the other layouts pass too."""

from __future__ import annotations

from contextlib import closing

from stores import next_id

from databases import PostgresDatabase
from points_grpc.storage.engine import Database
from points_grpc.storage.partitioning import TABLES, cut

IDS_BEFORE = 6
"""How many more ids a test makes before those of the second partition: an issue takes two."""


class PartitionedDatabase(PostgresDatabase):
    """A database of a cluster. Its copies, which tests use, have two partitions of each table, and rows in both."""

    def copy(self) -> PartitionedDatabase:
        """A database made after this one; what tests write comes to lie on both sides of a bound."""
        made = PartitionedDatabase(self.cluster, self.cluster.create(self.name))
        bound = next_id() + IDS_BEFORE
        with closing(Database(made.url)) as database:
            for table in TABLES:
                cut(database, table, bound)
        return made
