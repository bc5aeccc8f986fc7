"""What goes wrong on the way to a relay or gateway, in words of ours: what the system says may hold names of hosts."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from points_grpc.domain.letters import Undelivered


@contextmanager
def told_in_words() -> Iterator[None]:
    """Turns what a connection raises into `Undelivered`."""
    try:
        yield
    except ssl.SSLCertVerificationError:
        raise Undelivered("TLS_CERTIFICATE") from None
    except ssl.SSLError:
        raise Undelivered("TLS") from None
    except TimeoutError:
        raise Undelivered("TIMEOUT") from None
    except OSError:
        raise Undelivered("CONNECTION") from None
