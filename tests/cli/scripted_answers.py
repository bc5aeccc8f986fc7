"""A server that gives each RPC one answer, for what commands make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message


@contextmanager
def answering(answers: Mapping[str, Message]) -> Iterator[str]:
    """Serves on loopback; its address. An RPC without an answer is not implemented."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_Answers(answers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


class _Answers(grpc.GenericRpcHandler):
    def __init__(self, answers: Mapping[str, Message]) -> None:
        self._answers = answers

    def service(self, handler_call_details: Any) -> Any:
        answer = self._answers.get(handler_call_details.method.rpartition("/")[2])
        if answer is None:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer.SerializeToString())
