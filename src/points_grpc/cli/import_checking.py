"""Judges the rows of an import without writing: what `--dry-run` says.

Their form is judged by the server's own reader of requests, and what reads can tell by the server itself: programs,
customers, names that are taken. What only the deed can tell (the categories of a policy, two rows that take the same
name, a pause) is not judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from points_grpc import codes
from points_grpc.cli.import_rows import CreateCustomer, IssuePoints
from points_grpc.cli.import_sending import (
    ACCEPTED,
    Outcome,
    Patience,
    Row,
    forbidden,
    found_here,
    known_outcome,
    malformed,
    outcome_of,
    settled,
)
from points_grpc.client import AsyncPointsClient, Refused
from points_grpc.codes import GrpcCode
from points_grpc.domain import commands, outcome
from points_grpc.domain.issuance import expiry_instant, promise_ends_first
from points_grpc.rpc import parse
from points_grpc.v1 import common_pb2, customer_service_pb2, program_service_pb2, wallet_service_pb2

_SOME_MOBILE = "+14155552671"
"""Stands for a mobile without country code where only the form of the other fields is judged: the server knows the
region."""


class Checks:
    """Gives rows the outcome that they would have."""

    def __init__(self, client: AsyncPointsClient, patience: Patience) -> None:
        """Uses a client that is open."""
        self._client = client
        self._patience = patience
        self._programs: Mapping[int, program_service_pb2.Program] | None = None
        self._default = 0
        self._asking = parse.Asking("US", request_id_required=False, now=datetime.now(UTC))

    async def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """Each row is judged for itself."""
        if self._programs is None:
            await self._read_programs()
        return list(await asyncio.gather(*map(self._one, rows)))

    async def _one(self, row: Row) -> Outcome:
        known = known_outcome(row)
        if known is not None:
            return known
        if isinstance(row.request, CreateCustomer):
            return await self._customer(row.request)
        assert row.request is not None
        return await self._issue(row.request)

    async def _customer(self, request: CreateCustomer) -> Outcome:
        asked = CreateCustomer()
        asked.CopyFrom(request)
        for one in asked.identifiers:
            _complete(one)
        wants = parse.create_customer(asked, self._asking).wants
        if isinstance(wants, outcome.Refused):
            return found_here(wants)
        for program_id in request.enrolled_program_ids:
            program = self._program(program_id)
            if program is None or not program.active:
                return found_here(outcome.Refused(codes.PROGRAM_NOT_CONFIGURED))
        named = list(request.identifiers)
        if request.customer_id:
            types = common_pb2.CustomerIdentifier
            named.append(types(type=types.ID, value=str(request.customer_id)))
        for identifier in named:
            found = await self._find(identifier)
            if isinstance(found, customer_service_pb2.Customer):
                return await self._taken(request)
            if found.grpc_code is not GrpcCode.NOT_FOUND:
                return outcome_of(found)
        return ACCEPTED

    async def _taken(self, request: CreateCustomer) -> Outcome:
        """A name is taken: by this very row, if it was imported before."""
        asked = wallet_service_pb2.GetTransactionRequest(request_id=request.request_id)
        became = await settled(lambda: self._client.get_transaction(asked), self._patience)
        if not isinstance(became, Refused) and became.state == wallet_service_pb2.GetTransactionResponse.ACCEPTED:
            return Outcome(accepted=True, replayed=True)
        return found_here(outcome.Refused(codes.RESOURCE_EXISTS, {"resource": "customer"}))

    async def _issue(self, request: IssuePoints) -> Outcome:
        asked = IssuePoints()
        asked.CopyFrom(request)
        _complete(asked.customer_identifier)
        wants = parse.issue_points(asked, self._asking).wants
        if isinstance(wants, outcome.Refused):
            return found_here(wants)
        program_id = request.program_id or self._default
        program = self._program(program_id)
        if program is None or not program.active or self._program(request.earning_program_id or program_id) is None:
            return found_here(outcome.Refused(codes.PROGRAM_NOT_CONFIGURED))
        if isinstance(wants, commands.IssuePoints):
            until = expiry_instant(wants.expiry, datetime.now(UTC), program.time_zone)
            if refused := promise_ends_first(wants.available_from, until):
                return found_here(refused)
        found = await self._find(request.customer_identifier)
        if isinstance(found, Refused) or found.HasField("erased_at"):
            if not isinstance(found, Refused) or found.grpc_code is GrpcCode.NOT_FOUND:
                return found_here(outcome.Refused(codes.CUSTOMER_NOT_IN_ORGANIZATION, {"party": "CUSTOMER"}))
            return malformed(codes.INVALID_CUSTOMER_IDENTIFIER, "customer_identifier", "well formed for its type")
        if found.merged_into_customer_id:
            return found_here(
                outcome.Refused(
                    codes.MERGED_CUSTOMER,
                    {"customer_id": str(found.customer_id), "survivor_id": str(found.merged_into_customer_id)},
                )
            )
        if program_id not in found.enrolled_program_ids:
            return found_here(outcome.Refused(codes.CUSTOMER_NOT_ENROLLED, {"program_id": str(program_id)}))
        return ACCEPTED

    async def _find(self, identifier: common_pb2.CustomerIdentifier) -> customer_service_pb2.Customer | Refused:
        asked = customer_service_pb2.GetCustomerRequest(customer_identifier=identifier)
        answer = await settled(lambda: self._client.get_customer(asked), self._patience)
        return answer if isinstance(answer, Refused) else answer.customer

    async def _read_programs(self) -> None:
        asked = program_service_pb2.ListProgramsRequest()
        found = await settled(lambda: self._client.list_programs(asked), self._patience)
        if isinstance(found, Refused):
            raise forbidden(found)
        self._default = next((one.program_id for one in found.programs if one.default_program), 0)
        self._programs = {one.program_id: one for one in found.programs}

    def _program(self, program_id: int) -> program_service_pb2.Program | None:
        assert self._programs is not None, "read"
        return self._programs.get(program_id)


def _complete(identifier: common_pb2.CustomerIdentifier) -> None:
    """Puts some number in the place of a mobile that only the server can complete."""
    is_mobile = identifier.type == common_pb2.CustomerIdentifier.MOBILE
    if is_mobile and identifier.value and not identifier.value.startswith("+"):
        identifier.value = _SOME_MOBILE
