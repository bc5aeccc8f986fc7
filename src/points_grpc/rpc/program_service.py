"""The servicer of ProgramService: for each RPC its reader and its renderer, and nothing else."""

from __future__ import annotations

from points_grpc.rpc import parse, render
from points_grpc.rpc.answers import Answers
from points_grpc.rpc.refusal import Context
from points_grpc.rpc.serve import Desk
from points_grpc.v1 import program_service_pb2 as pb
from points_grpc.v1 import program_service_pb2_grpc


class ProgramServicer(program_service_pb2_grpc.ProgramServiceServicer):
    """Manages programs, groups, policies and configuration keys."""

    def __init__(self, desk: Desk, answers: Answers) -> None:
        """Takes where commands are handed over, and who answers questions."""
        self._desk = desk
        self._answers = answers

    async def CreateProgram(self, request: pb.CreateProgramRequest, context: Context) -> pb.CreateProgramResponse:
        """Creates a program."""
        return await self._desk.command(
            request, context, parse.create_program, render.create_program, pb.CreateProgramResponse
        )

    async def GetProgram(self, request: pb.GetProgramRequest, context: Context) -> pb.GetProgramResponse:
        """Reads a program."""
        return await self._desk.question(request, context, self._answers.get_program, pb.GetProgramResponse)

    async def ListPrograms(self, request: pb.ListProgramsRequest, context: Context) -> pb.ListProgramsResponse:
        """Lists the programs."""
        return await self._desk.question(request, context, self._answers.list_programs, pb.ListProgramsResponse)

    async def CreateProgramGroup(
        self, request: pb.CreateProgramGroupRequest, context: Context
    ) -> pb.CreateProgramGroupResponse:
        """Creates a group of programs."""
        return await self._desk.command(
            request, context, parse.create_program_group, render.create_program_group, pb.CreateProgramGroupResponse
        )

    async def SetPolicy(self, request: pb.SetPolicyRequest, context: Context) -> pb.SetPolicyResponse:
        """Replaces a policy."""
        return await self._desk.command(request, context, parse.set_policy, render.set_policy, pb.SetPolicyResponse)

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:
        """Reads a policy."""
        return await self._desk.question(request, context, self._answers.get_policy, pb.GetPolicyResponse)

    async def SetConfigKey(self, request: pb.SetConfigKeyRequest, context: Context) -> pb.SetConfigKeyResponse:
        """Sets or removes a configuration key."""
        return await self._desk.command(
            request, context, parse.set_config_key, render.set_config_key, pb.SetConfigKeyResponse
        )

    async def ListConfigKeys(self, request: pb.ListConfigKeysRequest, context: Context) -> pb.ListConfigKeysResponse:
        """Lists the configuration keys."""
        return await self._desk.question(request, context, self._answers.list_config_keys, pb.ListConfigKeysResponse)

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        """Lists who changed what."""
        return await self._desk.question(request, context, self._answers.list_audit_events, pb.ListAuditEventsResponse)

    async def SetPause(self, request: pb.SetPauseRequest, context: Context) -> pb.SetPauseResponse:
        """Pauses or resumes."""
        return await self._desk.command(request, context, parse.set_pause, render.set_pause, pb.SetPauseResponse)

    async def SetProgramActive(
        self, request: pb.SetProgramActiveRequest, context: Context
    ) -> pb.SetProgramActiveResponse:
        """Ends a program, or takes it up again."""
        return await self._desk.command(
            request, context, parse.set_program_active, render.set_program_active, pb.SetProgramActiveResponse
        )
