"""What no answer may be, whatever was asked: a failure of ours, a stack trace, a refusal without its details."""

from __future__ import annotations

import re

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from points_grpc.v1 import common_pb2

NEVER = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"})
"""The codes of failures of ours; UNAVAILABLE also tells of an organisation that was paused."""

TOO_LARGE = "RESOURCE_EXHAUSTED"
"""Told by the core alone, without details, where a message is above the limit of the wire."""

TRACES = re.compile(
    r"Traceback|File \"|\.py\b|line \d+|object at 0x|sqlite|psycopg|SQLSTATE|UNIQUE constraint|points_grpc",
    re.IGNORECASE,
)
"""What a stack trace, a driver or an exception would leave in a text."""


def problem_of(code: str, text: str, details: bytes) -> str:
    """What is wrong with a refusal; empty if nothing is."""
    status = status_pb2.Status.FromString(details)
    texts = [text, status.message]
    info, payload = error_details_pb2.ErrorInfo(), common_pb2.StatusPayload()
    for detail in status.details:
        for wanted in (info, payload):
            if detail.Is(wanted.DESCRIPTOR):
                detail.Unpack(wanted)
    if code in NEVER and not (code == "UNAVAILABLE" and "PAUSED" in info.metadata.get("cause", "")):
        return f"{code} {text}"
    texts += [*info.metadata.values(), *(one.message for one in payload.errors)]
    if found := next((one for one in texts if TRACES.search(one)), ""):
        return f"{code} tells what is inside: {found}"
    if not (info.reason and payload.errors) and code != TOO_LARGE:
        return f"{code} {text} without details"
    return ""


def problem_of_items(answer: Message) -> str:
    """What is wrong with the items of a batch that were refused."""
    for outcome in getattr(answer, "outcomes", ()):
        if outcome.WhichOneof("outcome") == "status":
            code = next(one.name for one in grpc.StatusCode if one.value[0] == outcome.status.code)
            if problem := problem_of(code, outcome.status.message, outcome.status.SerializeToString()):
                return problem
    return ""
