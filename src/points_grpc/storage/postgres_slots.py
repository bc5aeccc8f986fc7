"""Writer slots on PostgreSQL: a row for each, leased for a time, whose epoch fences the holder who came too late.

Every transaction that writes reads its slot's row and keeps it from being taken until it ends (`fence`). Who finds
another epoch there was away for longer than the lease, and writes nothing. All instants are the database's: hosts may
disagree. The lowest slot that nobody holds is taken, so that there are few journal streams.
"""

from __future__ import annotations

import os
import socket

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, cast, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from points_grpc.service.ports import StorageFull, StorageUnavailable, WriterFenced
from points_grpc.storage.driver import Answer, Driver
from points_grpc.storage.engine import Database, require_schema
from points_grpc.storage.faults import DRIVER_ERRORS, translate
from points_grpc.storage.postgres_sql import on_postgres
from points_grpc.storage.schema import writer_slots
from points_grpc.storage.slots import Slot

LEASE_S = 60
"""How long a slot stays its holder's without a sign of life: longer than any pause of a process that still works."""

SLOTS_MAX = 1023
"""How many slots writers have; the last number is kept for tools."""

NOW_MICROS: ColumnElement[int] = cast(
    func.date_part(literal_column("'epoch'"), func.clock_timestamp()) * literal_column("1000000"), BigInteger
)
"""The database's clock, at the moment at which it is read."""

_MICROS = LEASE_S * 1_000_000
_held = and_(writer_slots.c.slot == bindparam("of_slot"), writer_slots.c.epoch == bindparam("of_epoch"))

_KEY = ("of_slot", "of_epoch")

_FENCE = on_postgres(
    select(writer_slots.c.expires_at < NOW_MICROS + literal_column(str(_MICROS // 2)))
    .where(_held)
    .with_for_update(read=True),
    *_KEY,
)
"""Whether the lease is to be renewed soon; no row if it was lost."""

_renewed = update(writer_slots).where(_held).values(expires_at=NOW_MICROS + literal_column(str(_MICROS)))
_RENEW = on_postgres(_renewed, *_KEY)


class SlotLease:
    """A writer slot, held until closed or lost."""

    def __init__(self, database: Database) -> None:
        """Takes the lowest slot that is free."""
        require_schema(database)
        self._database = database
        self.holder = f"pid {os.getpid()} on {socket.gethostname()}"
        try:
            self.slot = self._take()
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def ask(self, driver: Driver) -> Answer:
        """Asks whether the slot is still held, and keeps it until the transaction ends."""
        return driver.ask(_FENCE, (self.slot.number, self.slot.epoch))

    def fence(self, driver: Driver, asked: Answer) -> None:
        """Raises `WriterFenced` unless it is."""
        held = asked.rows()
        if not held:
            raise WriterFenced("the lease of the writer slot was lost")
        if held[0][0]:
            driver.change(_RENEW, (self.slot.number, self.slot.epoch))

    def keep(self) -> bool:
        """Renews the lease while nothing is written; False if it was lost. Safe from any thread."""
        try:
            with self._database.writer.begin() as connection:
                bound = {"of_slot": self.slot.number, "of_epoch": self.slot.epoch}
                return connection.execute(_renewed, bound).rowcount == 1
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def close(self) -> None:
        """Gives the slot back, unless the database cannot be reached or is full: then the lease ends by itself."""
        try:
            with self._database.writer.begin() as connection:
                bound = {"of_slot": self.slot.number, "of_epoch": self.slot.epoch}
                connection.execute(update(writer_slots).where(_held).values(expires_at=0), bound)
        except DRIVER_ERRORS as error:
            if not isinstance(translate(error), StorageUnavailable | StorageFull):
                raise

    def _take(self) -> Slot:
        with self._database.writer.begin() as connection:
            held = set(
                connection.execute(select(writer_slots.c.slot).where(writer_slots.c.expires_at > NOW_MICROS)).scalars()
            )
            for number in range(SLOTS_MAX):
                if number not in held and (epoch := connection.execute(_taking(number, self.holder)).scalar()):
                    return Slot(number, epoch)
        raise StorageUnavailable("no writer slot is free")


def _taking(number: int, holder: str) -> ReturningInsert[int]:
    """Takes a slot, unless somebody else came first; answers with the epoch."""
    taking = insert(writer_slots).values(
        slot=number,
        epoch=1,
        holder=holder,
        acquired_at=NOW_MICROS,
        expires_at=NOW_MICROS + literal_column(str(_MICROS)),
    )
    return taking.on_conflict_do_update(
        index_elements=[writer_slots.c.slot],
        set_={
            "epoch": writer_slots.c.epoch + 1,
            "holder": taking.excluded.holder,
            "acquired_at": taking.excluded.acquired_at,
            "expires_at": taking.excluded.expires_at,
        },
        where=writer_slots.c.expires_at <= taking.excluded.acquired_at,
    ).returning(writer_slots.c.epoch)
