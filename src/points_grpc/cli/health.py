"""The health probe of the command line."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from points_grpc.rpc.health import NOT_READY_KEY, NotReady

_SENTENCES = {
    NotReady.STARTING: "it is starting",
    NotReady.NO_WRITER: "the process that writes is gone, and another one is being started; its log says why",
    NotReady.STOPPING: "it is stopping",
}


def why_not(address: str, timeout_s: float, credentials: grpc.ChannelCredentials | None = None) -> str:
    """Why the server at an address does not serve, in a few words; empty if it does."""
    made = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with made as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer, call = stub.Check.with_call(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name})"
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        told = dict(call.trailing_metadata()).get(NOT_READY_KEY, "")
    return next((sentence for reason, sentence in _SENTENCES.items() if reason == told), "it does not say why")
