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

from points_grpc.domain.commands import Command, Submission
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.rpc import failures
from points_grpc.rpc.call import CURRENT, Call, Caller
from points_grpc.rpc.fingerprint import fingerprint
from points_grpc.rpc.parse import Asked, Asking, CommandRequest, Reader
from points_grpc.rpc.ports import Checker, Submitter
from points_grpc.rpc.refusal import Context, refuse, status_of, warn

Request = TypeVar("Request", bound=CommandRequest)
Item_co = TypeVar("Item_co", bound=CommandRequest, covariant=True)
Question = TypeVar("Question", bound=Message)
Response = TypeVar("Response", bound=Message)

OTP_SEED_BYTES = 32

ITEMS_MAX = 1_000
"""The most items of one call."""

ITEMS_AT_ONCE = 100
"""So many items are read or rendered before other calls get their turn."""


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
        required = caller.request_id_required or bool(call.signature)
        asked = read(request, Asking(caller.default_region, required, self._clock()))
        call.request_id, call.request_id_given = asked.request_id, asked.request_id_given
        if isinstance(asked.wants, Refused):
            refuse(context, call, asked.wants)
            return empty()
        submission = _submission(caller, request, asked, asked.wants, secrets.token_bytes(OTP_SEED_BYTES))
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
        caller = call.known_caller
        answer = empty()
        if not 1 <= len(request.requests) <= ITEMS_MAX:
            expected = f"1 to {ITEMS_MAX} items"
            refuse(context, call, failures.malformed("requests", expected, operation=call.operation))
            return answer
        asked: list[Asked] = []
        submissions: list[Submission] = []
        asking = Asking(caller.default_region, caller.request_id_required, self._clock())
        seeds = secrets.token_bytes(OTP_SEED_BYTES * len(request.requests))
        for place, one in enumerate(request.requests):
            if place % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1:
                await asyncio.sleep(0)
            item = read(one, asking)
            asked.append(item)
            if not isinstance(item.wants, Refused):
                seed = seeds[OTP_SEED_BYTES * place : OTP_SEED_BYTES * (place + 1)]
                submissions.append(_submission(caller, one, item, item.wants, seed))
        settled = await self._submitted(call, submissions, all_given=all(one.request_id_given for one in asked))
        if isinstance(settled, Refused):
            refuse(context, call, settled)
            return answer
        await _fill(answer, asked, iter(settled), render)
        return answer

    async def _submitted(
        self, call: Call, submissions: Sequence[Submission], *, all_given: bool
    ) -> Sequence[Settled] | Refused:
        """Hands the well-formed items over together."""
        call.request_id_given = all_given
        call.submitted = bool(submissions)
        return await self._submitter.submit_many(submissions, call.deadline) if submissions else ()

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


def _submission(caller: Caller, request: CommandRequest, asked: Asked, command: Command, otp_seed: bytes) -> Submission:
    """A command as it is handed over."""
    return Submission(
        org_id=caller.org_id,
        command=command,
        request_id=asked.request_id,
        request_id_given=asked.request_id_given,
        fingerprint=fingerprint(request),
        actor=caller.actor,
        otp_seed=otp_seed,
    )


async def _fill(
    answer: BatchResponse, asked: Sequence[Asked], settled: Iterator[Settled], render: Callable[[Settled], Message]
) -> None:
    """Writes what became of each item: `settled` answers those that are well formed, in order."""
    for place, item in enumerate(asked):
        if place % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1:
            await asyncio.sleep(0)
        if isinstance(item.wants, Refused):
            answer.outcomes.add(status=status_of(item.wants, request_id=item.request_id))
            continue
        one = next(settled)
        if isinstance(one.outcome, Refused):
            status = status_of(one.outcome, request_id=item.request_id, replayed=one.replayed)
            answer.outcomes.add(status=status)
        else:
            answer.outcomes.add(response=render(one))
