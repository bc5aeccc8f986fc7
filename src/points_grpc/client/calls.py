"""One call of a client, from the request to its last attempt: request ids, deadline, signature, what ends it.

Both clients drive the same `Attempts`; only they send and wait. The request is serialised once, so that every attempt
carries the same bytes, its request id among them.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from points_grpc import codes
from points_grpc.client.decode import exception_of, grpc_code, refusal_in
from points_grpc.client.errors import NotAnswered, NotSent, PointsError, Refused, Silence
from points_grpc.client.retries import Retries, pause_s
from points_grpc.codes import GrpcCode

Answer = TypeVar("Answer", bound=Message)
Metadata = tuple[tuple[str, str], ...]
Token = str | Callable[[], str]
"""An API key, or what gives a token for the next attempt: those of an issuer expire."""

TIMEOUT_S = 10.0
"""How long a call may take, all attempts together, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Answer]):
    """One RPC. `writes` says that its request carries a request id, or its items do."""

    path: str
    answer: type[Answer]
    writes: bool

    @property
    def operation(self) -> str:
        """The name without service and package."""
        return self.path.rpartition("/")[2]


CLOSED = "the client is closed"


class NotSendable(ValueError):
    """A token or a secret that no call can carry; its text is not in the message."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Who calls: an API key, and the secret that signs where the key must sign. Without a token the connection says.

    White space around them is not theirs: files end with a newline.
    """

    token: Token | None
    signing_secret: str | None = None

    def __post_init__(self) -> None:
        """Raises `NotSendable`."""
        if isinstance(self.token, str):
            object.__setattr__(self, "token", _sendable("token", self.token))
        if self.signing_secret is not None:
            object.__setattr__(self, "signing_secret", _sendable("signing_secret", self.signing_secret))

    def __repr__(self) -> str:
        return "Credential(...)"

    @property
    def renews(self) -> bool:
        """Whether the token of the next attempt may be another one."""
        return callable(self.token)

    def metadata(self, path: str, raw: bytes) -> Metadata:
        """What a call shows. A signature is made anew for each attempt: it names the time. Raises `NotSendable`."""
        if self.token is None:
            return ()
        token = self.token if isinstance(self.token, str) else _sendable("token", _given_by(self.token))
        shown: Metadata = (("authorization", f"Bearer {token}"),)
        if self.signing_secret is None:
            return shown
        stamp = str(int(time.time()))
        digest = hashlib.sha256(raw).hexdigest()
        text = f"{path.removeprefix('/')}\n{stamp}\n{digest}".encode("ascii")
        signature = hmac.new(self.signing_secret.encode("ascii"), text, hashlib.sha256).hexdigest()
        return (
            *shown,
            ("x-points-key-id", token.removeprefix("pk_").partition("_")[0]),
            ("x-points-timestamp", stamp),
            ("x-points-signature", f"v1={signature}"),
        )


class Failed(Protocol):
    """A call that failed, as both of gRPC's clients raise it."""

    def code(self) -> grpc.StatusCode:
        """The status code."""
        ...

    def details(self) -> str | None:
        """The status message."""
        ...

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """The trailers."""
        ...


class Attempts:
    """The attempts of one call."""

    def __init__(
        self,
        method: Method[Answer],
        request: Message,
        *,
        credential: Credential,
        retries: Retries,
        timeout_s: float,
        metadata: Sequence[tuple[str, str]] = (),
        made: int = 0,
    ) -> None:
        """Gives the request its id, in a copy: the caller's message is never changed. `made`: attempts before these."""
        if timeout_s <= 0:
            raise ValueError("timeout_s: more than 0")
        named, self.request_id, self.request_ids = with_request_ids(request) if method.writes else (request, "", ())
        self.raw = named.SerializeToString()
        self._method = method
        self._writes = method.writes and _makes_a_write(request)
        self._credential = credential
        self._metadata = tuple(metadata)
        self._retries = retries
        self._ends_at = time.monotonic() + timeout_s
        self.made = made
        self._is_open = False

    def metadata(self) -> Metadata:
        """The metadata of the next attempt."""
        try:
            shown = self._credential.metadata(self._method.path, self.raw)
        except NotSendable as error:
            raise self.not_sent(GrpcCode.UNAUTHENTICATED, str(error)) from error.__cause__
        self.made += 1
        return (*shown, *self._metadata)

    def not_sent(self, code: GrpcCode, detail: str) -> NotSent:
        """Why there is no next attempt."""
        return NotSent(Silence(code, detail, self.request_id, self._is_open, self.made, self.request_ids))

    def closed(self) -> NotSent:
        """There is no next attempt, since the client is closed."""
        return self.not_sent(GrpcCode.CANCELLED, CLOSED)

    def closed_under_way(self) -> NotSent:
        """The client was closed while an attempt waited for its answer."""
        self._is_open = self._writes
        return self.closed()

    def remaining_s(self) -> float:
        """How long the next attempt may take."""
        return max(self._ends_at - time.monotonic(), 0.001)

    def pause_s(self, error: grpc.RpcError, *, was_cut: bool = False, is_closed: bool = False) -> float:
        """How long to wait before the next attempt. Raises if there is none.

        `was_cut`: the call was a read, and had begun to be answered. `is_closed`: the client was closed meanwhile, and
        so there is no answer, and no next attempt.
        """
        failure = self._failure(cast("Failed", error))
        if is_closed and isinstance(failure, NotAnswered):
            raise self.closed_under_way() from error
        can_go_on = was_cut and (isinstance(failure, NotAnswered) or self._has_expired(failure))
        pause = pause_s(self._retries, failure, random.uniform, was_cut=can_go_on)
        if pause is None or pause >= self._ends_at - time.monotonic():
            raise failure from error
        return pause

    def _has_expired(self, failure: PointsError) -> bool:
        """Whether a token was good when the call began, and there may be a newer one."""
        return self._credential.renews and isinstance(failure, Refused) and failure.code is codes.UNAUTHENTICATED

    def _failure(self, failed: Failed) -> PointsError:
        """What an attempt ended with, as the caller will see it."""
        trailers = dict(failed.trailing_metadata() or ())
        refusal = refusal_in(trailers)
        if refusal is not None:
            known = replace(
                refusal,
                attempts=self.made,
                request_id=refusal.request_id or self.request_id,
                request_ids=self.request_ids,
                after_silence=self._is_open,
            )
            self._is_open = known.leaves_open
            return exception_of(known, self._method.operation)
        self._is_open = self._writes
        code = grpc_code(failed.code().value[0])
        detail = failed.details() or ""
        return NotAnswered(Silence(code, detail, self.request_id, self._writes, self.made, self.request_ids))


def _given_by(function: Callable[[], object]) -> str:
    """The token of the moment. Raises `NotSendable`: the text of what the function raised may hold a secret."""
    try:
        given = function()
    except Exception as error:
        raise NotSendable(f"token: its function raised {type(error).__name__}") from error
    if isinstance(given, str):
        return given
    raise NotSendable(f"token: its function gave {type(given).__name__} in place of a text")


def _sendable(name: str, text: str) -> str:
    """What a header can carry, without the white space around it."""
    stripped = text.strip()
    if not stripped:
        raise NotSendable(f"{name}: it is empty")
    if not (stripped.isascii() and stripped.isprintable()) or " " in stripped:
        raise NotSendable(f"{name}: it has spaces, control characters or others that are not ASCII, so it is none")
    return stripped


def with_request_ids(request: Message) -> tuple[Message, str, tuple[str, ...]]:
    """A copy of a write whose request, or each of whose items, has a request id; its id; and those of its items."""
    named = type(request)()
    named.CopyFrom(request)
    fields = named.DESCRIPTOR.fields_by_name
    if "request_id" not in fields:  # a batch: its items have one each
        items = cast("Sequence[Message]", getattr(named, "requests"))  # noqa: B009 - of some batch
        return named, "", tuple(map(_name, items))
    if not _makes_a_write(request):
        return named, "", ()
    return named, _name(named), ()


def _makes_a_write(request: Message) -> bool:
    """Whether a request writes: a check does so only if it is to send a code."""
    return "issue_otp" not in request.DESCRIPTOR.fields_by_name or bool(getattr(request, "issue_otp"))  # noqa: B009


def _name(request: Message) -> str:
    """Gives a request an id if it has none; its id."""
    given: str = getattr(request, "request_id")  # noqa: B009 - of some write
    if given:
        return given
    made = str(uuid.uuid4())
    setattr(request, "request_id", made)  # noqa: B010
    return made
