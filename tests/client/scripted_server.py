"""A gRPC server that answers every call with the next line of a script: what no healthy server would say on demand.

Refusals go through the service's own `rpc.refusal`, so that what is on the wire is what a real server puts there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from points_grpc.domain.outcome import Refused
from points_grpc.rpc.call import Call
from points_grpc.rpc.refusal import refuse

Line = Message | Refused | grpc.StatusCode | float
"""An answer, a refusal, a status without details, or a silence of so many seconds."""


@dataclass
class Seen:
    """What came, and when."""

    address: str = ""
    requests: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    @property
    def pauses_s(self) -> list[float]:
        """The time between attempts."""
        return [later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False)]


@contextmanager
def scripted(
    script: Sequence[Line], credentials: grpc.ServerCredentials | None = None, *, id_given: bool = True
) -> Iterator[Seen]:
    """A server that follows the script and repeats its last line. `id_given`: whether it saw the caller's own id."""
    seen = Seen()

    def serve(raw: bytes, context: Any) -> bytes:
        seen.at.append(time.monotonic())
        seen.requests.append(raw)
        seen.metadata.append(dict(context.invocation_metadata()))
        line = script[min(len(seen.at), len(script)) - 1]
        if isinstance(line, Refused):
            refuse(context, Call("", "", request_id_given=id_given), line)
        elif isinstance(line, grpc.StatusCode):
            context.set_code(line)
            context.set_details("no details")
        elif isinstance(line, float):
            time.sleep(line)
        else:
            return line.SerializeToString()
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Handlers(serve),))
    port = (
        server.add_secure_port("localhost:0", credentials) if credentials else server.add_insecure_port("localhost:0")
    )
    seen.address = f"localhost:{port}"
    server.start()
    try:
        yield seen
    finally:
        server.stop(0).wait()


class _Handlers(grpc.GenericRpcHandler):
    """One function for every method."""

    def __init__(self, serve: Callable[[bytes, Any], bytes]) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(serve)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler
