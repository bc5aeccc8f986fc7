"""How every call is served: request in, answer or refusal out, in one place for all servicers.

A servicer names its reader and its renderer; the steps between them are here and the same for all. Exceptions pass
through: the interceptor is the last resort.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message

from points_grpc.domain.commands import Submission
from points_grpc.domain.outcome import Refused, Settled
from points_grpc.rpc.call import CURRENT, Caller
from points_grpc.rpc.fingerprint import fingerprint
from points_grpc.rpc.parse import Asking, CommandRequest, Reader
from points_grpc.rpc.ports import Checker, Submitter
from points_grpc.rpc.refusal import Context, refuse, warn

Request = TypeVar("Request", bound=CommandRequest)
Question = TypeVar("Question", bound=Message)
Response = TypeVar("Response", bound=Message)

OTP_SEED_BYTES = 32


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
        submission = Submission(
            org_id=caller.org_id,
            command=asked.wants,
            request_id=asked.request_id,
            request_id_given=asked.request_id_given,
            fingerprint=fingerprint(request),
            actor=caller.client,
            otp_seed=secrets.token_bytes(OTP_SEED_BYTES),
        )
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
