"""How every call is served: request in, answer or refusal out, in one place for all servicers.

A servicer names its reader and its renderer; the steps between them are here and the same for all. Exceptions pass
through: the interceptor is the last resort.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from points_grpc.domain.commands import MAY_ISSUE_CODES, Command, Submission
from points_grpc.domain.otp import SEED_BYTES
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.rpc import failures
from points_grpc.rpc.call import CURRENT, Call, Caller
from points_grpc.rpc.fingerprint import fingerprint
from points_grpc.rpc.parse import Asked, Asking, CommandRequest, Reader
from points_grpc.rpc.ports import Checker, Submitter
from points_grpc.rpc.quotas import ITEMS_FIELD, ITEMS_MAX
from points_grpc.rpc.refusal import Context, refuse, status_of, warn

Request = TypeVar("Request", bound=CommandRequest)
Item_co = TypeVar("Item_co", bound=CommandRequest, covariant=True)
Question = TypeVar("Question", bound=Message)
Response = TypeVar("Response", bound=Message)

ITEMS_AT_ONCE = 100
"""So many items are read and handed over, or rendered, before other calls get their turn: the writer begins with the
first while the last are still read, and goes on with the last while the first are rendered."""


class BatchRequest(Protocol[Item_co]):
    """A request that carries several requests of the single form."""

    @property
    def requests(self) -> Sequence[Item_co]:
        """The items."""
        ...


class _Outcomes(Protocol):
    """What became of the items, as far as it is written here."""

    def add(self, *, response: Message = ..., status: Message = ...) -> object:
        """Adds what became of the next item: one of the two."""
        ...


class BatchResponse(Protocol):
    """An answer that carries several outcomes."""

    @property
    def outcomes(self) -> _Outcomes:
        """One for each item, in order."""
        ...


Outcomes = TypeVar("Outcomes", bound=BatchResponse)


class Desk:
    """Hands commands over and questions on, and answers for them."""

    def __init__(self, submitter: Submitter, checker: Checker, clock: Callable[[], datetime]) -> None:
        """Takes the neighbours. `clock` tells the time in UTC, for what may not lie in the future."""
        self._submitter = submitter
        self._checker = checker
        self._clock = clock

    async def command(
        self,
        request: Request,
        context: Context,
        read: Reader[Request],
        render: Callable[[Settled], Response],
        empty: type[Response],
    ) -> Response:
        """Serves an RPC that carries a command."""
        call = CURRENT.get()
        caller = call.known_caller
        asked = read(request, self._asking(call))
        call.request_id, call.request_id_given = asked.request_id, asked.request_id_given
        if isinstance(asked.wants, Refused):
            refuse(context, call, asked.wants)
            return empty()
        submission = _submission(caller, request, asked, asked.wants)
        if asked.writes:
            call.submitted = True
            settled = await self._submitter.submit(submission, call.deadline)
        else:
            settled = await self._checker.check(submission, call.deadline)
        if isinstance(settled.outcome, Refused):
            refuse(context, call, settled.outcome, replayed=settled.replayed)
            return empty()
        answer = render(settled)
        if settled.outcome.warnings:
            warn(context, settled.outcome.warnings)
        return answer

    async def batch(
        self,
        request: BatchRequest[Request],
        context: Context,
        read: Reader[Request],
        render: Callable[[Settled], Message],
        empty: Callable[[], Outcomes],
    ) -> Outcomes:
        """Serves an RPC that carries several commands: an outcome for each, in order.

        A malformed item is refused alone. Warnings of items stand in their own answers, not in the trailers.
        """
        call = CURRENT.get()
        answer = empty()
        if not 1 <= len(request.requests) <= ITEMS_MAX:
            expected = f"1 to {ITEMS_MAX} items"
            refuse(context, call, failures.malformed(ITEMS_FIELD, expected, operation=call.operation))
            return answer
        if refused := self._submitter.refuses(call.known_caller.org_id, len(request.requests), call.operation):
            refuse(context, call, refused)
            return answer
        call.request_id_given = True
        parts: list[tuple[Sequence[Asked], Awaitable[Sequence[Settled]]]] = []
        asking = self._asking(call)
        for start in range(0, len(request.requests), ITEMS_AT_ONCE):
            requests = request.requests[start : start + ITEMS_AT_ONCE]
            asked = [read(one, asking) for one in requests]
            parts.append((asked, self._hand_over(call, requests, asked)))
            await asyncio.sleep(0)
        for part, answers in parts:
            _fill(answer, part, iter(await answers), render)
            await asyncio.sleep(0)
        return answer

    def _asking(self, call: Call) -> Asking:
        """What a reader is told of the caller. A signature may be sent again: what it moves must have a request id."""
        caller = call.known_caller
        return Asking(caller.default_region, caller.request_id_required or bool(call.signature), self._clock())

    def _hand_over(
        self, call: Call, requests: Sequence[CommandRequest], asked: Sequence[Asked]
    ) -> Awaitable[Sequence[Settled]]:
        """Hands the well-formed items of a part of a batch over together."""
        submissions = [
            _submission(call.known_caller, request, one, one.wants)
            for request, one in zip(requests, asked, strict=True)
            if not isinstance(one.wants, Refused)
        ]
        call.request_id_given = call.request_id_given and all(one.request_id_given for one in asked)
        call.submitted = call.submitted or bool(submissions)
        return self._submitter.submit_some(submissions, call.deadline)

    async def question(
        self,
        request: Question,
        context: Context,
        answer: Callable[[Question, Caller], Awaitable[Response | Refused]],
        empty: type[Response],
    ) -> Response:
        """Serves an RPC that only reads."""
        call = CURRENT.get()
        found = await answer(request, call.known_caller)
        if isinstance(found, Refused):
            refuse(context, call, found)
            return empty()
        return found

    async def watch(
        self,
        request: Question,
        context: Context,
        messages: Callable[[Question, Call], AsyncGenerator[Response | Refused]],
    ) -> AsyncGenerator[Response]:
        """Serves an RPC that streams its answers; a refusal is the end of them."""
        call = CURRENT.get()
        async with aclosing(messages(request, call)) as found:
            async for one in found:
                if isinstance(one, Refused):
                    refuse(context, call, one)
                    return
                yield one


def _submission(caller: Caller, request: CommandRequest, asked: Asked, command: Command) -> Submission:
    """A command as it is handed over."""
    return Submission(
        org_id=caller.org_id,
        command=command,
        request_id=asked.request_id,
        request_id_given=asked.request_id_given,
        fingerprint=fingerprint(request),
        actor=caller.actor,
        otp_seed=secrets.token_bytes(SEED_BYTES) if isinstance(command, MAY_ISSUE_CODES) else b"",
    )


def _fill(
    answer: BatchResponse, asked: Sequence[Asked], settled: Iterator[Settled], render: Callable[[Settled], Message]
) -> None:
    """Writes what became of some items: `settled` answers those that are well formed, in order."""
    for item in asked:
        if isinstance(item.wants, Refused):
            answer.outcomes.add(status=status_of(item.wants, request_id=item.request_id))
            continue
        one = next(settled)
        if isinstance(one.outcome, Refused):
            status = status_of(one.outcome, request_id=item.request_id, replayed=one.replayed)
            answer.outcomes.add(status=status)
        else:
            answer.outcomes.add(response=render(one))
