"""Who is on duty on PostgreSQL: an advisory lock of a session of its own, which the server frees with the session.

The session ends with its process, and also when it says nothing for a while: a process that stands still, or a host
that vanished, loses the lock by the server's own clock (`idle_session_timeout`), some time after it stopped to believe
in it (`service.duty.PROOF_S`).
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select, text

from points_grpc.storage.engine import Database
from points_grpc.storage.faults import DRIVER_ERRORS, translate

LOCK = (0x706F696E, 1)
"""The number of the lock: "poin", and which of ours it is. Advisory locks belong to the database, not to a table."""

SILENCE_MS = 10_000
"""How long the session may say nothing: more than three times as long as a proof is believed."""

_TAKE = select(func.pg_try_advisory_lock(*LOCK))
_WHICH = select(func.pg_backend_pid())


class AdvisoryClaim:
    """The claim (`service.duty.Claim`); good for one thread."""

    def __init__(self, database: Database) -> None:
        """Connects to nothing yet."""
        self._database = database
        self._connection: Connection | None = None
        self._session = 0
        """The server's process that has the lock for us; 0 while we have not."""

    def hold(self) -> bool:
        """Takes the lock where it is free, or asks the session that has it for a sign of life."""
        try:
            connection = self._connected()
            if self._session == 0 and connection.scalar(_TAKE):
                self._session = connection.scalar(_WHICH) or 0
            return self._session != 0 and connection.scalar(_WHICH) == self._session
        except DRIVER_ERRORS as error:
            self._forget()
            raise translate(error) from error

    def release(self) -> None:
        """Ends the session, and with it the lock."""
        self._forget()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.writer.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.execute(text(f"SET idle_session_timeout = {SILENCE_MS}"))
        return self._connection

    def _forget(self) -> None:
        connection, self._connection, self._session = self._connection, None, 0
        if connection is not None:
            connection.invalidate()
            connection.close()
