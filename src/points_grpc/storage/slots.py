"""Writer slots: the number under which a process writes, and which lease of it this is.

The slot is part of every id that the process makes and names its journal stream. A database file has one slot, kept by
the file's lease; its epoch says how often it was taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.lease import FileLease
from points_grpc.storage.schema import writer_slots
from points_grpc.storage.times import NEVER, to_micros

ONLY_SLOT = 0
"""The slot of a database that one process writes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A writer slot, taken."""

    number: int
    epoch: int


class WriterLease(Protocol):
    """The right to write under a slot, until closed."""

    slot: Slot

    def close(self) -> None:
        """Gives it back."""
        ...


class FileSlot:
    """The only slot of a database file, kept by the file's lease."""

    def __init__(self, database: Database, now: datetime, *, wait_s: float = 0.0) -> None:
        """Takes the lease, then the slot; raises `LeaseHeld` where another server has them, after so long a wait."""
        assert database.path is not None, "a database file"
        self._lease = FileLease(database.path, wait_s=wait_s)
        try:
            require_schema(database)
            self.slot = take_slot(database, holder=self._lease.holder, now=now)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the lease back."""
        self._lease.close()


def take_slot(database: Database, *, holder: str, now: datetime) -> Slot:
    """Takes the slot in the name of a holder who has the lease already; its epoch goes up."""
    values = {"slot": ONLY_SLOT, "epoch": 1, "holder": holder, "acquired_at": to_micros(now), "expires_at": NEVER}
    taking = insert(writer_slots).values(values)
    taken = taking.on_conflict_do_update(
        index_elements=[writer_slots.c.slot],
        set_={
            "epoch": writer_slots.c.epoch + 1,
            "holder": taking.excluded.holder,
            "acquired_at": taking.excluded.acquired_at,
        },
    )
    try:
        with database.writer.begin() as connection:
            connection.execute(taken)
            epoch = connection.execute(
                select(writer_slots.c.epoch).where(writer_slots.c.slot == ONLY_SLOT)
            ).scalar_one()
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    return Slot(ONLY_SLOT, epoch)
