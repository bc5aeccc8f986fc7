"""The writer's process on its own: it dies, stalls, is signalled, outlives its server; and what it is made of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from shop import PROGRAM, Judge, Shop, transfer_fields

from points_grpc.cli.writer_process import ChildWriter
from points_grpc.service.frames import BugReport, Unable, Unframer, decode_from_writer, encode_to_writer
from points_grpc.service.frames import Setup as WriterSetup
from points_grpc.v1 import points_service_pb2 as pb
from points_grpc.v1 import program_service_pb2, wallet_service_pb2
from running import Caller, Details, RunningServer, children, refused

BACK_S = 20.0


class World:
    """A running server with two customers."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.token = server.key(server.organisation())
        server.start()
        self.shop = Shop(server, self.token)
        self.customers = self.shop.add_customers(2, lots=[1000])
        self.caller = Caller(server.address, self.token)
        self.health = health_pb2_grpc.HealthStub(self.caller.channel)

    def transfer(self, request_id: str, timeout_s: float | None = 10.0) -> Any:
        """Transfers one point."""
        fields = transfer_fields(*self.customers, 1, request_id)
        request = ParseDict(fields, pb.TransferPointsRequest())
        return self.caller.points.TransferPoints(request, metadata=self.caller.metadata, timeout=timeout_s)

    def is_serving(self) -> bool:
        """What the health service says."""
        answer = self.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def worlds(folder: Path) -> Iterator[World]:
    """A world whose calls without a deadline end after a second."""
    server = RunningServer(folder, environment={"POINTS_GRPC_DEADLINE_DEFAULT_S": "1"})
    try:
        found = World(server)
        yield found
        found.caller.close()
    finally:
        server.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of its own, for a test that kills."""
    with worlds(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world that tests share which leave it as it was."""
    with worlds(tmp_path_factory.mktemp("shared")) as found:
        yield found


def until(holds: Callable[[], object]) -> None:
    """Waits until something holds."""
    end = time.monotonic() + BACK_S
    while not holds():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)


def test_a_dead_writer_is_replaced_and_its_server_says_so_meanwhile(world: World) -> None:
    """NOT_SERVING, writes refused as not written, reads answered; then SERVING, and the same request id is accepted."""
    seen: list[bool] = []
    first = world.server.writer_pid()
    world.server.kill_writer()
    until(lambda: seen.append(world.is_serving()) or not seen[-1])
    with refused() as found:
        world.transfer("while-away")
    wallet = world.caller.ask(
        world.caller.wallets.GetWallet,
        wallet_service_pb2.GetWalletRequest(),
        {"customerIdentifier": {"type": "ID", "value": str(world.customers[0])}, "programId": str(PROGRAM)},
    )
    until(world.is_serving)
    answer = world.transfer("while-away")

    assert (grpc.StatusCode.UNAVAILABLE, 886) == (found[0].code, found[0].number)
    assert "1000" == str(wallet.wallet.current)
    assert not answer.replayed
    assert world.server.writer_pid() not in {0, first}
    [ended] = world.server.events("writer_ended", least=1)
    assert (first, -signal.SIGKILL) == (ended["pid"], ended["exit_code"])
    assert 0 == world.server.stop()


def test_calls_in_flight_at_the_death_of_the_writer_are_answered_at_once(world: World) -> None:
    """Whoever waits for a dead writer is told so, long before the deadline; the request id settles what is open."""
    answers: list[Details | None] = []

    def call(number: int) -> None:
        try:
            world.transfer(f"call-{number}", timeout_s=30.0)
            answers.append(None)
        except grpc.RpcError as error:
            answers.append(Details(error))

    with stopped(world.server.writer_pid()):
        threads = [threading.Thread(target=call, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        started = time.monotonic()
        world.server.kill_writer()
        for thread in threads:
            thread.join()
    took_s = time.monotonic() - started
    until(world.is_serving)
    before = Judge(world.server.path).transfers()
    replayed = [world.transfer(f"call-{number}").replayed for number in range(32)]
    after = Judge(world.server.path).transfers()

    assert took_s < 15  # long before their deadlines
    assert {(grpc.StatusCode.UNAVAILABLE, 886)} == {(one.code, one.number) for one in answers if one}
    assert 32 == len(answers) == len([one for one in answers if one])
    assert ({}, [False] * 32) == (before, replayed)
    assert {f"call-{number}": 1 for number in range(32)} == {one: len(ids) for one, ids in after.items()}


def test_a_stalled_writer_keeps_nobody_beyond_the_deadline(shared: World) -> None:
    """The caller is told NOT_WRITTEN, and that stays true when the writer goes on."""
    with stopped(shared.server.writer_pid()):
        started = time.monotonic()
        with refused() as found:
            shared.transfer("stalled", timeout_s=None)
        took_s = time.monotonic() - started
    shared.transfer("after-the-stall")

    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_WRITTEN") == (found[0].code, found[0].info.metadata["outcome"])
    assert took_s < 15
    assert {"stalled", "after-the-stall"} & set(Judge(shared.server.path).transfers()) == {"after-the-stall"}


def test_signals_of_the_terminal_are_not_for_the_writer(shared: World) -> None:
    """It ends when the server is done with it, and not before."""
    pid = shared.server.writer_pid()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    time.sleep(0.1)
    shared.transfer("still-there")

    assert pid == shared.server.writer_pid()
    assert [] == shared.server.events("writer_ended")


@pytest.mark.ci
def test_a_server_that_was_killed_comes_up_at_once(world: World) -> None:
    """The writer of the dead one ends by itself, and the new one waits for that."""
    pid = world.server.writer_pid()
    with stopped(pid):  # it cannot notice that its server dies before the new one is there
        world.server.kill()
        waking = threading.Timer(1.0, os.kill, (pid, signal.SIGCONT))
        waking.start()
        world.server.start()
    waking.join()
    world.transfer("again")
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.ci
def test_a_server_whose_writer_cannot_come_back_stops_all_the_same(world: World) -> None:
    """SIGTERM while no writer starts ends the server with 0."""
    keys = world.server.path.with_name(f"{world.server.path.name}.keys.json")
    keys.chmod(0o644)  # a keys file that others can read is refused
    world.server.kill_writer()
    until(lambda: world.server.events("writer_not_started"))

    assert "can be read by others" in world.server.events("writer_not_started")[0]["error"]
    assert not world.is_serving()
    assert 0 == world.server.stop()


@pytest.mark.ci
def test_a_second_server_is_told_who_serves(shared: World) -> None:
    """The operator reads the same sentence as ever."""
    command = [sys.executable, "-m", "points_grpc", "serve", "--port", "0", "--database", shared.server.database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert 1 == done.returncode
    assert f"another server (pid {shared.server.writer_pid()} on" in done.stderr
    assert "stop it first" in done.stderr


def test_a_check_sees_a_configuration_that_was_just_set(shared: World) -> None:
    """No second of grace: what was acknowledged counts for the very next check."""
    fields = transfer_fields(*shared.customers, 1, "x")
    check = {name: value for name, value in fields.items() if name != "requestId"}
    key = {"key": "ALLOW_POINTS_TRANSFER", "value": "false", "reason": "test"}
    caller = shared.caller
    caller.ask(caller.points.CheckTransfer, pb.CheckTransferRequest(), check)
    caller.ask(caller.programs.SetConfigKey, program_service_pb2.SetConfigKeyRequest(), key)
    with refused() as found:
        caller.ask(caller.points.CheckTransfer, pb.CheckTransferRequest(), check)
    caller.ask(caller.programs.SetConfigKey, program_service_pb2.SetConfigKeyRequest(), {**key, "value": "true"})

    assert grpc.StatusCode.FAILED_PRECONDITION == found[0].code


@pytest.mark.ci
def test_the_writer_knows_nothing_of_grpc() -> None:
    """Neither gRPC nor protobuf are imported by what its process runs."""
    program = "import sys, points_grpc.cli.writer_composition; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())

    assert "points_grpc.storage.repository" in loaded
    assert set() == {one for one in loaded if one.split(".")[0] in {"grpc", "google", "uvloop", "pydantic"}}


def test_nothing_secret_is_on_the_command_line_or_in_the_environment(shared: World) -> None:
    """The writer's process shows its module and two numbers, and the environment that its server was given."""
    folder = Path(f"/proc/{shared.server.writer_pid()}")
    arguments = (folder / "cmdline").read_text().split("\0")[1:-1]
    theirs = {one.split("=", 1)[0] for one in (folder / "environ").read_text().split("\0") if one}

    assert ["-P", "-m", "points_grpc.cli.writer"] == arguments[:3]
    assert all(one.isdecimal() for one in arguments[3:])
    assert theirs <= {*os.environ, "POINTS_GRPC_DEADLINE_DEFAULT_S", "PYTHONPATH"}


def said(child: ChildWriter) -> list[object]:
    """All that a writer says until it ends."""
    child.stream.settimeout(30)
    cut, found = Unframer(), []
    while data := child.stream.recv(1 << 16):
        found += [decode_from_writer(body) for body in cut.feed(data)]
    return found


def ended(child: ChildWriter) -> int:
    """The exit code of a writer that is about to end."""
    child.stream.close()
    os.close(child.marks)
    return child.wait(10.0)


@pytest.mark.ci
def test_a_writer_that_hears_nonsense_ends_with_an_error() -> None:
    """It says what went wrong and where, without values, and leaves no process behind."""
    child = ChildWriter()
    child.stream.sendall(b"\0\0\0\1\xc1")
    [report] = said(child)

    assert isinstance(report, BugReport)
    assert "Garbled" == report.error
    assert report.frames
    assert 1 == ended(child)


@pytest.mark.ci
def test_a_writer_without_a_schema_says_so(tmp_path: Path) -> None:
    """An operator can mend that, so that it is a sentence."""
    child = ChildWriter()
    setup = WriterSetup(f"sqlite:///{tmp_path / 'empty.db'}", str(tmp_path / "keys.json"), (), 256, 0.0)
    child.stream.sendall(encode_to_writer(setup))
    [reason] = said(child)

    assert isinstance(reason, Unable)
    assert f"there is no database {tmp_path / 'empty.db'}" in reason.message
    assert 1 == ended(child)


@pytest.mark.ci
def test_a_writer_whose_server_is_gone_ends() -> None:
    """Also before it was told anything."""
    child = ChildWriter()

    assert 0 == ended(child)
    assert child.pid not in children(os.getpid())
