"""One call on its way through the server: who calls, until when, and what became of it.

The interceptor makes a `Call` and leaves it in `CURRENT`, where the servicer finds it and notes what the log line will
say. Nothing of a request's content belongs here.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from points_grpc.codes import Code, GrpcCode
from points_grpc.domain.outcome import Refused


class Role(IntEnum):
    """What a credential may do; each role may do all that those before it may do. Numbers as in options.proto."""

    READER = 1
    OPERATOR = 2
    MANAGER = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: an API client of an organisation, known by its credential; the one model behind all of them.

    `default_region` (ISO 3166) is the organisation's, for mobile numbers without country code. Who `signs` signs what
    moves points; without `signing_secret` (its key was lost) no signature is right. `key_id` is that of an API key, and
    empty for who has none.
    """

    org_id: int
    client: str
    key_id: str
    role: Role
    default_region: str
    request_id_required: bool = False
    signs: bool = False
    signing_secret: bytes | None = field(default=None, repr=False)
    store: str = ""
    till: str = ""

    @property
    def actor(self) -> str:
        """Who did it, for the audit log and the journal: the client, and where it stands if its credential says so."""
        places = [f"{kind} {name}" for kind, name in (("store", self.store), ("till", self.till)) if name]
        return f"{self.client} ({', '.join(places)})" if places else self.client


class CallSpan(Protocol):
    """The span of a call that is traced."""

    trace_id: str

    def end(self, code: str, reason: str, request_id: str) -> None:
        """Ends it, with what the caller was told."""
        ...


@dataclass(slots=True)
class Call:
    """One call. Mutable, since it is filled in on the way; it never leaves its task.

    `expires_at`, in seconds of the monotonic clock, is when the call ends whatever it is doing (`expired`); a command
    is given up a little earlier, at `deadline`, so that its answer still arrives. A server that stops ends it before
    that (`cut_off`). `submitted` says that a write was
    handed over: from then on an answer that does not come leaves the outcome open. `grpc` and `code` are what the
    caller was told; `refused_for_good` that it was a refusal which is not recorded and which no mere repetition
    changes. `signature` is the right signature that came with it, made at `signed_at` (Unix seconds). `items` says that
    it holds a place in the quotas, as so many calls or as a watch; `is_too_long` that it is a batch of more items than
    there may be. A watch waits on `woken`, and ends once there is
    an `ending`.
    """

    method: str
    operation: str
    correlation_id: str = ""
    expires_at: float = 0.0
    deadline: float = 0.0
    expired: bool = False
    cut_off: bool = False
    caller: Caller | None = None
    request_id: str = ""
    request_id_given: bool = False
    submitted: bool = False
    grpc: GrpcCode = GrpcCode.OK
    code: Code | None = None
    refused_for_good: bool = False
    signature: str = field(default="", repr=False)
    signed_at: int = 0
    items: int = 0
    is_too_long: bool = False
    is_watch: bool = False
    woken: asyncio.Event | None = None
    ending: Refused | None = None
    span: CallSpan | None = None

    @property
    def known_caller(self) -> Caller:
        """The caller, once the interceptor has identified it: no servicer runs before."""
        if self.caller is None:
            raise RuntimeError(f"{self.method} was reached by a caller without identity")
        return self.caller

    def end(self, refused: Refused) -> None:
        """Has a watch end with a refusal; the first one counts."""
        self.ending = self.ending or refused
        self.wake()

    def wake(self) -> None:
        """Has a watch look whether there is more."""
        if self.woken is not None:
            self.woken.set()


CURRENT: ContextVar[Call] = ContextVar("points_grpc_call")
"""The call that the present task serves."""
