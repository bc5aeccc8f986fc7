"""Programs, groups, policies, configuration keys and pauses: what judges operations, and how it changes.

These commands run in a batch of their own (`decide.EXCLUSIVE`), because they change what other commands are judged by.
Policies are checked field by field before they come here; contradictions are judged at use. Every change is audited.
"""

from __future__ import annotations

import json

import msgspec
from msgspec.structs import replace

from points_grpc import codes
from points_grpc.domain.commands import (
    AcknowledgeMessages,
    AcknowledgeNotices,
    CreateProgram,
    CreateProgramGroup,
    SetConfigKey,
    SetPause,
    SetPolicy,
    SetProgramActive,
)
from points_grpc.domain.context import Context
from points_grpc.domain.events import (
    Audited,
    ConfigKeySet,
    GroupSaved,
    MessageSettled,
    NoticeSettled,
    OrgPaused,
    PolicySaved,
    ProgramSaved,
)
from points_grpc.domain.model import Program, ProgramBook, ProgramGroup
from points_grpc.domain.outcome import (
    Accepted,
    Decision,
    DoneResult,
    GroupResult,
    PolicyResult,
    ProgramResult,
    Refused,
    wrong_field,
)
from points_grpc.domain.policy import Policy
from points_grpc.domain.snapshot import Directory, Keys, Snapshot

PROGRAMS_MAX = 1_000
"""The most programs of an organisation: they are read whole."""

CONFIG_KEYS_MAX = 1_000
"""The most configuration keys of an organisation: they, too, are read whole."""

_NOTHING = json.dumps(None)
"""What the audit log has for the time before something was made."""


def decide_program(command: CreateProgram, context: Context, snapshot: Snapshot) -> Decision:
    """Creates a program with its first policy. The first program of an organisation is its default one."""
    book = snapshot.book
    if command.program_id in book.programs:
        return Decision(Refused(codes.RESOURCE_EXISTS, {"resource": "program"}, field="program_id"))
    if len(book.programs) >= PROGRAMS_MAX:
        expected = f"no other one: the organisation has {PROGRAMS_MAX} programs, which is the most"
        return Decision(wrong_field(codes.FIELD_INVALID, "program_id", expected))
    program = Program(
        program_id=command.program_id or context.next_id(),
        name=command.name,
        active=True,
        decimal_places=command.decimal_places,
        time_zone=command.time_zone,
        group_id=None,
        paused=False,
        policy=replace(command.policy, revision=1),
    )
    default = command.default or book.default_program_id is None
    after = json.dumps({"name": program.name})
    return Decision(
        Accepted(ProgramResult(program, default)),
        (
            ProgramSaved(program, default),
            PolicySaved(program.program_id, program.policy, snapshot.now, context.actor, ""),
            _audited(context, snapshot, "CreateProgram", f"program/{program.program_id}", _NOTHING, after, ""),
        ),
    )


def decide_group(command: CreateProgramGroup, context: Context, snapshot: Snapshot) -> Decision:
    """Groups programs that are in no group yet and have the same decimal places."""
    book = snapshot.book
    if command.group_id in book.groups:
        return Decision(Refused(codes.RESOURCE_EXISTS, {"resource": "program group"}, field="program_group_id"))
    members = [book.programs[one] for one in command.program_ids if one in book.programs]
    if len(members) < len(command.program_ids):
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_ids"))
    if grouped := sum(member.group_id is not None for member in members):
        expected = f"programs that are in no group yet; in one already: {grouped} of {len(members)}"
        return Decision(wrong_field(codes.FIELD_INVALID, "program_ids", expected))
    if len(places := sorted({one.decimal_places for one in members})) > 1:
        told = " and ".join(map(str, places))
        expected = f"programs with the same decimal places: these have {told}"
        return Decision(wrong_field(codes.FIELD_INVALID, "program_ids", expected))
    if command.default_program_id not in command.program_ids:
        return Decision(wrong_field(codes.FIELD_INVALID, "default_program_id", "one of program_ids"))
    group = ProgramGroup(
        group_id=command.group_id or context.next_id(),
        name=command.name,
        default_program_id=command.default_program_id,
        program_ids=tuple(sorted(command.program_ids)),
    )
    joined = (
        ProgramSaved(replace(member, group_id=group.group_id), default=member.program_id == book.default_program_id)
        for member in members
    )
    after = json.dumps({"name": group.name, "program_ids": group.program_ids})
    audited = _audited(context, snapshot, "CreateProgramGroup", f"program_group/{group.group_id}", _NOTHING, after, "")
    return Decision(Accepted(GroupResult(group.group_id)), (GroupSaved(group), *joined, audited))


def decide_policy(command: SetPolicy, context: Context, snapshot: Snapshot) -> Decision:
    """Brings a new revision of a policy into force; refuses a stale one (10014)."""
    program = snapshot.book.program(command.program_id)
    if program is None:
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id"))
    current = program.policy.revision
    if command.expected_revision not in (0, current):
        return Decision(Refused(codes.REVISION_CONFLICT, {"current_revision": str(current)}, field="expected_revision"))
    policy = replace(command.policy, revision=current + 1)
    audited = _audited(
        context,
        snapshot,
        "SetPolicy",
        f"program/{program.program_id}/policy",
        _policy_text(program.policy),
        _policy_text(policy),
        command.reason,
    )
    saved = PolicySaved(program.program_id, policy, snapshot.now, context.actor, command.reason)
    return Decision(Accepted(PolicyResult(policy, snapshot.now)), (saved, audited))


def decide_config_key(command: SetConfigKey, context: Context, snapshot: Snapshot) -> Decision:
    """Sets or removes a configuration key; its text is judged at use."""
    there = snapshot.config.values
    before = there.get(command.key)
    if before is None and command.value is not None and len(there) >= CONFIG_KEYS_MAX:
        expected = f"no other one: the organisation has {CONFIG_KEYS_MAX} configuration keys, which is the most"
        return Decision(wrong_field(codes.FIELD_INVALID, "key", expected))
    audited = _audited(
        context,
        snapshot,
        "SetConfigKey",
        f"config/{command.key}",
        json.dumps(before),
        json.dumps(command.value),
        command.reason,
    )
    return Decision(Accepted(DoneResult()), (ConfigKeySet(command.key, command.value), audited))


def decide_pause(command: SetPause, context: Context, snapshot: Snapshot) -> Decision:
    """Pauses or resumes a program or the whole organisation."""
    book = snapshot.book
    if not command.program_id:
        audited = _audited(
            context, snapshot, "SetPause", "org", json.dumps(book.paused), json.dumps(command.paused), command.reason
        )
        return Decision(Accepted(DoneResult()), (OrgPaused(command.paused), audited))
    program = book.programs.get(command.program_id)
    if program is None:
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id"))
    audited = _audited(
        context,
        snapshot,
        "SetPause",
        f"program/{program.program_id}",
        json.dumps(program.paused),
        json.dumps(command.paused),
        command.reason,
    )
    saved = ProgramSaved(replace(program, paused=command.paused), default=program.program_id == book.default_program_id)
    return Decision(Accepted(DoneResult()), (saved, audited))


def decide_active(command: SetProgramActive, context: Context, snapshot: Snapshot) -> Decision:
    """Ends a program or takes it up again; the default program stays the default one."""
    program = snapshot.book.program(command.program_id)
    if program is None:
        return Decision(Refused(codes.PROGRAM_NOT_CONFIGURED, field="program_id"))
    changed = replace(program, active=command.active)
    default = program.program_id == snapshot.book.default_program_id
    audited = _audited(
        context,
        snapshot,
        "SetProgramActive",
        f"program/{program.program_id}",
        json.dumps(program.active),
        json.dumps(command.active),
        command.reason,
    )
    return Decision(Accepted(ProgramResult(changed, default)), (ProgramSaved(changed, default), audited))


def acknowledgement_keys(command: AcknowledgeMessages, directory: Directory, book: ProgramBook) -> Keys:  # noqa: ARG001
    """What an acknowledgement needs loaded: the other messages of the customers, for who comes after it."""
    return Keys(messages=frozenset(one.customer_id for one in command.results))


def decide_acknowledgement(command: AcknowledgeMessages, context: Context, snapshot: Snapshot) -> Decision:  # noqa: ARG001
    """Books what the dispatcher did with outbox messages."""
    events = tuple(
        MessageSettled(one.message_id, one.customer_id, one.delivered, one.error, one.retry_at)
        for one in command.results
    )
    return Decision(Accepted(DoneResult()), events)


def decide_notice_acknowledgement(command: AcknowledgeNotices, context: Context, snapshot: Snapshot) -> Decision:  # noqa: ARG001
    """Books what the publisher did with business events."""
    events = tuple(NoticeSettled(one.event_id, one.delivered, one.error, one.retry_at) for one in command.results)
    return Decision(Accepted(DoneResult()), events)


def _policy_text(policy: Policy) -> str:
    return msgspec.json.encode(policy).decode()


def _audited(
    context: Context, snapshot: Snapshot, action: str, subject: str, before: str, after: str, reason: str
) -> Audited:
    return Audited(context.next_id(), snapshot.now, context.actor, action, subject, before, after, reason)
