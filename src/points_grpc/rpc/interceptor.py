"""What every call passes on its way in and out: one interceptor, one order, on the hot path.

The order is API: identity (10001), role (10002), quotas (10003), size of the metadata, draining (896, 898 on
transfers), signature (825), deadline (10011), then the servicer; an exception that nobody foresaw becomes 889 or 804
and never a stack trace on the wire. At the end each call is counted and leaves one line in the log. Requests are taken
as bytes, so that nothing of them is looked at before the caller is known; and they are waited for only then, within the
deadline: who is nobody holds no place by a request that never comes.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from points_grpc import codes
from points_grpc.codes import GrpcCode
from points_grpc.domain.failures import Failure, refusal_of
from points_grpc.domain.outcome import Refused
from points_grpc.masking import masked_id
from points_grpc.rpc import failures
from points_grpc.rpc.call import CURRENT, Call, Caller, Role
from points_grpc.rpc.deadlines import Deadlines
from points_grpc.rpc.guests import Guests
from points_grpc.rpc.limits import Limits
from points_grpc.rpc.ports import CallLog, Connection, Identity, Metadata, Metrics, Tracer
from points_grpc.rpc.quotas import ITEMS_FIELD, ITEMS_MAX, Quotas
from points_grpc.rpc.refusal import CORRELATION_KEY, Context, refuse
from points_grpc.rpc.signature import Signatures
from points_grpc.rpc.streams import Streams
from points_grpc.service.ports import NotTaken
from points_grpc.v1 import options_pb2

HEALTH, REFLECTION = "/grpc.health.v1.Health/", "/grpc.reflection."
EXEMPT = (HEALTH, REFLECTION)
"""Methods that probes and tools call without a credential, unless the deployment wants one."""

ANSWER_MARGIN_S = 0.05
"""How long before its deadline a command is given up, at most: so that the answer still arrives."""

_CORRELATION_ID = re.compile(r"[\x21-\x7e]{1,128}")
_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(secrets.randbits(32))
_METADATA_OVERHEAD = 32
"""What HTTP/2 adds to each header in its own count (RFC 9113, 6.5.2)."""

_FAILURE_OF_ENDED = {
    (False, False): Failure.EXPIRED_IN_QUEUE,
    (False, True): Failure.EXPIRED_UNKNOWN,
    (True, False): Failure.SHUTTING_DOWN,
    (True, True): Failure.OUTCOME_UNKNOWN,
}
"""What became of a call that was ended: by whether the server stopped, and whether its command may be carried out."""

if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]  # what passes through is bytes, or a message of any service


Inner = Callable[[Message, Context], Awaitable[Message] | AsyncGenerator[Message]]
"""A method of a servicer: its answer, or its answers one by one."""


class CallContext(Context, Connection, Protocol):
    """What the gate needs of a servicer context."""

    def invocation_metadata(self) -> Metadata | None:
        """The metadata of the call."""
        ...

    def time_remaining(self) -> float | None:
        """The seconds until the caller's deadline; None if there is none."""
        ...

    def code(self) -> grpc.StatusCode:
        """The status code that was set."""
        ...

    def details(self) -> str:
        """The status message that was set."""
        ...

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The trailers that were set."""
        ...

    async def read(self) -> bytes | object:
        """The request as it travels; EOF if there is none."""
        ...

    async def write(self, message: Message, /) -> None:
        """Sends one answer of a stream, once there is room for it."""
        ...

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...], /
    ) -> None:
        """Ends the call with a status and without a message; always raises."""
        ...


def required_roles(services: Iterable[ServiceDescriptor]) -> Mapping[str, Role]:
    """The role that each method asks for, by its full name. A method that asks for none is a mistake in the protos."""
    found = {}
    for service in services:
        for method in service.methods:
            number = method.GetOptions().Extensions[options_pb2.required_role]
            name = f"/{service.full_name}/{method.name}"
            if number == options_pb2.ROLE_UNSPECIFIED:
                raise ValueError(f"{name} does not declare points.v1.required_role")
            found[name] = Role(number)
    return found


class Gate(grpc.aio.ServerInterceptor):
    """The interceptor. `drain` has it refuse whatever still comes; `arrived` counts all that came."""

    def __init__(
        self,
        *,
        identity: Identity,
        roles: Mapping[str, Role],
        limits: Limits,
        metrics: Metrics,
        log: CallLog,
        signatures: Signatures,
        quotas: Quotas,
        exempt: tuple[str, ...] = EXEMPT,
        tracer: Tracer | None = None,
    ) -> None:
        """Takes its neighbours; `exempt` are the beginnings of method names that need no credential."""
        self.draining = False
        self.arrived = 0
        self._identity = identity
        self._roles = roles
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._signatures = signatures
        self._quotas = quotas
        self._exempt = exempt
        self._tracer = tracer
        self._deadlines = Deadlines()
        self._arriving = Deadlines()
        self._guests = Guests(limits.guest_calls_max, identity)
        self._streams = Streams()
        self._handlers: dict[str, Handler] = {}

    @property
    def serving(self) -> int:
        """How many calls are being served, those that are refused at the gate and those that stream left out."""
        return len(self._deadlines)

    def drain(self) -> None:
        """Refuses calls from now on, and ends those that stream."""
        self.draining = True
        self._streams.drain()

    def cut_off(self) -> None:
        """Ends the calls that are still going on, each with a status that says what is known of it."""
        self._deadlines.cut_off()
        self._arriving.cut_off()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of a method, wrapped once. Unknown methods are gRPC's to refuse, and are not remembered."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            found = await continuation(handler_call_details)
            if found is None:
                return None
            handler = self._handlers[method] = self._wrapped(method, found)
        return handler

    # -- the steps of a call

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        """A handler behind the gate."""
        if method.startswith(EXEMPT):
            return self._guests.wrapped(handler, is_open=method.startswith(self._exempt))
        if handler.request_streaming or handler.request_deserializer is None:
            raise TypeError(f"{method} takes a stream of requests: the gate would not guard it")
        required = self._roles[method]
        streams = handler.response_streaming
        inner = cast("Inner", handler.unary_stream if streams else handler.unary_unary)
        decode = handler.request_deserializer
        name = method.removeprefix("/")
        operation = name.rpartition("/")[2]
        serve_admitted = self._streamed if streams else self._served

        async def serve(_: object, context: CallContext) -> Message | bytes:
            started = time.perf_counter()
            call = Call(name, operation)
            if self._tracer is not None:
                call.span = self._tracer.begin(name, context.invocation_metadata() or ())
            CURRENT.set(call)
            self.arrived += 1
            answer: Message | bytes = b""
            try:
                metadata = context.invocation_metadata() or ()
                raw = self._known(call, context, metadata, required) or await self._request(call, context)
                refused = raw if isinstance(raw, Refused) else self._admit(call, metadata, raw)
                if refused is None:
                    answer = await serve_admitted(call, cast("bytes", raw), context, decode, inner)
                else:
                    refuse(context, call, refused)
                if call.grpc is not GrpcCode.OK:
                    # A status behind a message, even an empty one, is never retried by client libraries.
                    await context.abort(context.code(), context.details(), context.trailing_metadata())
            except (asyncio.CancelledError, grpc.aio.InternalError):
                # The caller went away: before we had an answer, or so that the transport did not take it any more.
                call.grpc, call.code = GrpcCode.CANCELLED, None
                raise asyncio.CancelledError from None
            finally:
                self._quotas.leave(call)
                self._signatures.settle(call)
                self._record(call, time.perf_counter() - started)
            return answer

        # Both take a stream of requests, of which one is read: of a unary one nothing is told before it is there.
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
        return make(
            cast("Any", serve),  # the stubs know handlers of the synchronous server only
            request_deserializer=None,
            response_serializer=cast("Any", handler.response_serializer),
        )

    def _known(self, call: Call, connection: Connection, metadata: Metadata, required: Role) -> Refused | None:
        """Who calls; or why they may not, whatever it is that they ask."""
        call.correlation_id = _correlation_id(metadata)
        call.caller = self._identity.authenticate(metadata, connection)
        return _lacks(call.caller, required)

    async def _request(self, call: Call, context: CallContext) -> bytes | Refused:
        """The request as it travels, which counts among the calls of its organisation while it is waited for."""
        if refused := self._quotas.await_request(call):
            return refused
        remaining = self._remaining_s(context)
        call.expires_at = time.monotonic() + remaining
        call.deadline = call.expires_at - min(ANSWER_MARGIN_S, remaining / 10)
        self._arriving.enter(call)
        try:
            raw = await context.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not (call.expired or call.cut_off) or task is None or task.uncancel():
                raise  # the caller went away
            return refusal_of(_FAILURE_OF_ENDED[call.cut_off, False], call.operation)
        finally:
            self._arriving.leave(call)
            self._quotas.got_request(call)
        if isinstance(raw, bytes):
            return raw
        return failures.malformed("request", "a protobuf message", operation=call.operation)

    def _admit(self, call: Call, metadata: Metadata, raw: bytes) -> Refused | None:
        """What stops a call of a known caller before its request is looked at."""
        if refused := self._quotas.enter(call, raw):
            return refused
        size = len(metadata) * _METADATA_OVERHEAD
        for key, value in metadata:
            size += len(key) + len(value)
        if size > self._limits.metadata_bytes_max:
            return failures.malformed(
                "metadata", f"at most {self._limits.metadata_bytes_max} bytes", operation=call.operation
            )
        if self.draining:
            return refusal_of(Failure.SHUTTING_DOWN, call.operation)
        refused = self._signatures.judge(call, metadata, raw)
        if refused is None and call.is_too_long:
            return failures.malformed(ITEMS_FIELD, f"1 to {ITEMS_MAX} items", operation=call.operation)
        return refused

    async def _served(
        self,
        call: Call,
        raw: bytes,
        context: CallContext,
        decode: Callable[[bytes], Message],
        inner: Inner,
    ) -> Message | bytes:
        """The answer of the servicer, within the deadline."""
        try:
            request = decode(raw)
        except DecodeError:
            refuse(context, call, failures.malformed("request", "a protobuf message", operation=call.operation))
            return b""
        self._deadlines.enter(call)
        try:
            return await cast("Awaitable[Message]", inner(request, context))
        except asyncio.CancelledError as ended:
            task = asyncio.current_task()
            if not (call.expired or call.cut_off) or task is None or task.uncancel():
                raise  # the caller went away
            is_open = call.submitted and not isinstance(ended, NotTaken)
            refuse(context, call, refusal_of(_FAILURE_OF_ENDED[call.cut_off, is_open], call.operation))
        except Exception as error:  # noqa: BLE001 - the last resort
            self._fail(call, context, error)
        finally:
            self._deadlines.leave(call)
        return b""

    async def _streamed(
        self,
        call: Call,
        raw: bytes,
        context: CallContext,
        decode: Callable[[bytes], Message],
        inner: Inner,
    ) -> bytes:
        """Passes on what the servicer streams, each message when the transport has room for it."""
        try:
            request = decode(raw)
        except DecodeError:
            refuse(context, call, failures.malformed("request", "a protobuf message", operation=call.operation))
            return b""
        metadata, required = context.invocation_metadata() or (), self._roles[f"/{call.method}"]
        self._streams.enter(call, lambda: _lacks(self._identity.authenticate(metadata, context), required))
        try:
            async with aclosing(cast("AsyncGenerator[Message]", inner(request, context))) as messages:
                async for message in messages:
                    await context.write(message)
        except grpc.aio.InternalError:
            raise  # of the transport alone, since no servicer makes calls: there is nobody left to write to
        except Exception as error:  # noqa: BLE001 - the last resort
            self._fail(call, context, error)
        finally:
            self._streams.leave(call)
        return b""

    def _remaining_s(self, context: CallContext) -> float:
        """How long the call may take: what its caller allows, or the default, and never more than the maximum."""
        remaining = context.time_remaining()
        if remaining is None:
            return self._limits.deadline_default_s
        return min(remaining, self._limits.deadline_max_s)

    def _fail(self, call: Call, context: Context, error: Exception) -> None:
        """Answers for an exception. What was handed over may have been carried out all the same."""
        failure = failures.failure_of(error)
        is_bug = failure is Failure.INTERNAL
        if is_bug and call.submitted:  # 889 and 804 say that all was rolled back, and here it may have been committed
            failure = Failure.OUTCOME_UNKNOWN
        refuse(context, call, refusal_of(failure, call.operation), left_open=call.submitted)
        if is_bug:
            # Not the text of the exception: drivers put values of customers there.
            self._log.error(
                "call_failed",
                method=call.method,
                error=type(error).__name__,
                frames="".join(traceback.format_tb(error.__traceback__)),
                request_id=call.request_id,
                correlation_id=call.correlation_id,
            )

    def _record(self, call: Call, seconds: float) -> None:
        """Counts the call and writes its line."""
        code = call.grpc.name
        reason = call.code.reason if call.code else ""
        caller = call.caller
        self._metrics.observe(call.method, code, reason, seconds)
        self._log.call(
            method=call.method,
            code=code,
            reason=reason,
            ms=round(seconds * 1000, 3),
            org=caller.org_id if caller else 0,
            client=caller.client if caller else "",
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            trace_id="" if call.span is None else call.span.trace_id,
        )
        if call.span is not None:
            call.span.end(code, reason, masked_id(call.request_id))


def _lacks(caller: Caller | None, required: Role) -> Refused | None:
    """Why a caller may not ask."""
    if caller is None:
        return Refused(codes.UNAUTHENTICATED)
    if caller.role < required:
        return Refused(codes.PERMISSION_DENIED, {"required_role": required.name})
    return None


def _correlation_id(metadata: Metadata) -> str:
    """The caller's own correlation id, or one made here: its halves name the process and the call."""
    for key, value in metadata:
        if key == CORRELATION_KEY and isinstance(value, str) and _CORRELATION_ID.fullmatch(value):
            return value
    return f"{_PROCESS}{next(_numbers) & 0xFFFFFFFF:08x}"
