"""The log's lines, and that writing them holds nobody up; the metrics."""

from __future__ import annotations

import asyncio
import io
import json
import threading

from prometheus_client import generate_latest

from points_grpc.rpc.logs import LineSink, make_logger
from points_grpc.rpc.metrics import PrometheusMetrics

CALL = {
    "method": "points.v1.PointsService/TransferPoints",
    "code": "OK",
    "reason": "",
    "ms": 1.25,
    "org": 1,
    "client": "till",
    "request_id": "r-1",
    "correlation_id": "c-1",
}


def lines(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_lines() -> None:
    """Lines are JSON, events and calls alike; without an event loop they are written at once."""
    stream = io.BytesIO()
    log = make_logger(LineSink(stream))
    log.call(**CALL)  # type: ignore[arg-type]
    log.error("call_failed", error="ValueError")
    log.info("started", port=50_051)

    call, failed, started = lines(stream)
    assert {key: value for key, value in call.items() if key != "time"} == {"event": "call", **CALL}
    assert (failed["event"], failed["level"], failed["error"]) == ("call_failed", "error", "ValueError")
    assert (started["event"], started["level"], started["port"]) == ("started", "info", 50_051)


def test_ids_that_are_addresses_are_masked() -> None:
    """Callers choose request and correlation ids; who takes a customer's address for one finds it in no log."""
    stream = io.BytesIO()
    log = make_logger(LineSink(stream))
    log.call(**CALL | {"request_id": "to-ann@example.com", "correlation_id": "+919148574269"})  # type: ignore[arg-type]
    log.error("call_failed", request_id="+919148574269:1", correlation_id="550e8400-e29b-41d4-a716-446655440000")

    call, failed = lines(stream)
    assert (call["request_id"], call["correlation_id"]) == ("********", "********")
    assert (failed["request_id"], failed["correlation_id"]) == ("********", "550e8400-e29b-41d4-a716-446655440000")


def test_calls_can_be_left_out() -> None:
    """Lines of calls can be switched off; events go on."""
    stream = io.BytesIO()
    log = make_logger(LineSink(stream), calls=False)
    log.call(**CALL)  # type: ignore[arg-type]
    log.info("started")

    assert [line["event"] for line in lines(stream)] == ["started"]


def test_lines_of_a_worker_bear_its_number() -> None:
    """Calls and events alike, so that one log serves several processes."""
    stream = io.BytesIO()
    log = make_logger(LineSink(stream, shared=True), worker=2)
    log.call(**CALL)  # type: ignore[arg-type]
    log.info("started")

    assert [2, 2] == [line["worker"] for line in lines(stream)]


def test_a_line_that_waits_while_the_loop_ends_is_written() -> None:
    """The end of a server leaves no stack trace where its last lines should be."""
    stream = io.BytesIO()
    sink = LineSink(stream, flush_s=0.01)
    failed: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context))
        sink.attach(loop)
        sink.msg(b"{}")
        await asyncio.sleep(0)
        sink.attach(None)
        await loop.shutdown_default_executor()
        await asyncio.sleep(0.05)

    asyncio.run(main())

    assert ([], b"{}\n") == (failed, stream.getvalue())


class Pieces(io.BytesIO):
    """Remembers what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self.pieces.append(piece)
        return len(piece)


def test_who_shares_a_log_writes_whole_lines_in_small_pieces() -> None:
    """What a pipe takes as a whole, so that no other process gets into a line; a longer line goes by itself."""
    short, long = [b"x" * 1_000] * 9, b"y" * 5_000
    alone, shared = Pieces(), Pieces()
    for stream, sink in ((alone, LineSink(alone)), (shared, LineSink(shared, shared=True))):
        for line in (*short, long, short[0]):
            sink._lines.append(line)
        sink.flush()
        assert b"".join(stream.pieces) == b"\n".join([*short, long, short[0]]) + b"\n"

    assert 1 == len(alone.pieces)
    assert [4_004, 4_004, 1_001, 5_001, 1_001] == [len(piece) for piece in shared.pieces]


class Stuck(io.BytesIO):
    """A reader of the log that stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, data: object) -> int:  # type: ignore[override]
        self.go_on.wait(10)
        return super().write(data)  # type: ignore[arg-type]


def test_stuck_reader() -> None:
    """A log that nobody reads holds up no call: lines beyond the queue are dropped and counted."""
    stream = Stuck()
    sink = LineSink(stream, lines_max=10, flush_s=0.001)
    log = make_logger(sink)

    async def run() -> None:
        sink.attach(asyncio.get_running_loop())
        log.call(**CALL)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        for _ in range(15):
            log.call(**CALL)  # type: ignore[arg-type]
        stream.go_on.set()  # not come to, were a call held up
        await asyncio.sleep(0.1)

    asyncio.run(run())

    written = lines(stream)
    assert [line["event"] for line in written].count("call") == 11
    assert written[-1] == {"event": "log_lines_dropped", "count": 5}


def test_lines_of_other_threads() -> None:
    """Lines may come from any thread, and none gets lost."""
    stream = io.BytesIO()
    sink = LineSink(stream, flush_s=0.001)
    log = make_logger(sink)

    async def run() -> None:
        sink.attach(asyncio.get_running_loop())
        threads = [threading.Thread(target=lambda: [log.info("line") for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)

    asyncio.run(run())
    sink.attach(None)
    sink.flush()

    assert len(lines(stream)) == 800


def test_metrics() -> None:
    """Calls are counted by method, code and reason, and measured by method."""
    metrics = PrometheusMetrics()
    for _ in range(3):
        metrics.observe("S/M", "OK", "", 0.004)
    metrics.observe("S/M", "NOT_FOUND", "CUSTOMER_NOT_FOUND", 0.5)

    text = generate_latest(metrics.registry).decode()
    assert 'points_grpc_calls_total{code="OK",method="S/M",reason=""} 3.0' in text
    assert 'points_grpc_calls_total{code="NOT_FOUND",method="S/M",reason="CUSTOMER_NOT_FOUND"} 1.0' in text
    assert 'points_grpc_call_seconds_bucket{le="0.005",method="S/M"} 3.0' in text
