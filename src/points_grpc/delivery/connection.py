"""The way to a relay or gateway: a connection that ends when its time is over, and what goes wrong in words of ours.

A time limit for each step is none for the whole: whoever sends a byte now and then holds the line for ever. So a
conversation has one, and when it has passed the connection is cut, whatever is being waited for. What the system says
of a failure may hold names of hosts, and is not repeated.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from points_grpc.domain.letters import Undelivered

Alarm = Callable[[float, Callable[[], None]], AbstractContextManager[None]]
"""Does something after so many seconds, from another thread, unless its block ended before."""

TIMEOUT = "TIMEOUT"


class Line:
    """The connection of one conversation."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._held: socket.socket | None = None
        self.is_cut = False

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to the host, which each step may hold up for the time limit, and all of them until it is cut."""
        connected = self._connected(host, port)
        self._held = connected.dup()  # TLS takes the connection over, and leaves nothing to cut of what it was given
        if self.is_cut:
            self.cut()
        return connected

    def cut(self) -> None:
        """Ends the connection in both directions, which wakes whoever waits for it."""
        self.is_cut = True
        if self._held is not None:
            with suppress(OSError):  # the other side was faster, or it has ended meanwhile
                self._held.shutdown(socket.SHUT_RDWR)

    def _connected(self, host: str, port: int) -> socket.socket:
        """The first of the host's addresses that answers; none is begun with after the time is over."""
        failure: OSError = ConnectionError()
        for _, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            if self.is_cut:
                raise TimeoutError
            try:
                return socket.create_connection((str(address[0]), port), self._timeout_s)
            except OSError as error:
                failure = error
        raise failure

    def close(self) -> None:
        """Forgets the connection."""
        if self._held is not None:
            self._held.close()


@contextmanager
def conversation(timeout_s: float, alarm: Alarm) -> Iterator[Line]:
    """A line that is cut when the time is over; turns what it raises into `Undelivered`."""
    line = Line(timeout_s)
    try:
        with alarm(timeout_s, line.cut), _told_in_words():
            yield line
    except Undelivered as error:
        if line.is_cut and not error.answered and not error.final:
            raise Undelivered(TIMEOUT) from None
        raise
    finally:
        line.close()


@contextmanager
def _told_in_words() -> Iterator[None]:
    """Turns what a connection raises into `Undelivered`."""
    try:
        yield
    except ssl.SSLCertVerificationError:
        raise Undelivered("TLS_CERTIFICATE") from None
    except ssl.SSLError:
        raise Undelivered("TLS") from None
    except TimeoutError:
        raise Undelivered(TIMEOUT) from None
    except OSError:
        raise Undelivered("CONNECTION") from None
