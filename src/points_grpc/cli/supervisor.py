"""The supervisor: keeps several servers running on one port, each a process with a writer of its own.

It has no gRPC, no database and no threads, only children: it starts them, starts another when one ends, and drains all
when it is told to stop. Each worker binds the port by itself and the system spreads connections over them; the
supervisor holds the port all the time without listening, so that it stays ours while no worker is there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from points_grpc import __version__
from points_grpc.cli.announcing import announce
from points_grpc.cli.metrics_ports import require_apart
from points_grpc.cli.worker_link import LINE_MAX, Order, Served, Unable, from_worker, line_of
from points_grpc.rpc.logs import JsonLog, LineSink, make_logger
from points_grpc.rpc.rates import new_table
from points_grpc.service.keeper import CannotStart
from points_grpc.service.ports import SettingWrong
from points_grpc.settings import Settings

MODULE = "points_grpc.cli.worker"

START_MAX_S = 60.0
"""How long a worker may take until it serves, the start of its writer included."""

STOP_MAX_S = 35.0
"""How long a worker may take to end once its calls have: its dispatcher, its sweep, its duty, its writer."""

PORT_WAIT_S = 5.0
"""How long to wait for a port that workers of a supervisor who died a moment ago still have."""

PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 10.0
"""The pause before a worker is replaced; it doubles while workers end soon after their start."""

STEADY_S = 30.0
"""A worker that served so long did not end for what its start was about: the pause is short again."""


async def supervise(settings: Settings, given: Mapping[str, object], *, dev: bool) -> None:
    """Serves with several workers until SIGTERM or SIGINT, then drains all.

    `given` are the settings that did not come from the environment. Raises `CannotStart` where the workers cannot
    serve, and where they did not end as they should; `SettingWrong` as they do.
    """
    require_apart(settings)
    sink = LineSink(sys.stderr.buffer, shared=True)
    port, rates = await _reserve(settings.host, settings.port), new_table()
    try:
        await _Supervisor(settings, given, port.getsockname()[1], rates, make_logger(sink)).run(dev=dev)
    finally:
        port.close()
        os.close(rates)
        sink.flush()


class _Worker:
    """A worker that was started; `served` is what it said of itself."""

    def __init__(self, process: asyncio.subprocess.Process, control: asyncio.StreamWriter, served: Served) -> None:
        self.process = process
        self.served = served
        self._control = control

    async def wait(self) -> int:
        """Waits for its end."""
        code = await self.process.wait()
        self._control.close()
        return code


class _Supervisor:
    """The life of the workers. The task of each number starts one worker after the other."""

    def __init__(self, settings: Settings, given: Mapping[str, object], port: int, rates: int, log: JsonLog) -> None:
        self._settings = settings
        self._given = given
        self._port = port
        self._rates = rates
        self._log = log
        self._stopping = asyncio.Event()
        self._running: dict[int, _Worker] = {}
        self._codes: dict[int, int] = {}

    async def run(self, *, dev: bool) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stopping.set)
        tasks: list[asyncio.Task[None]] = []
        try:
            first = await self._start(1, dev=dev)
            workers = [first, *await self._start_rest()]
            tasks = [
                asyncio.create_task(self._keep(number, worker))
                for number, worker in zip(self._numbers(), workers, strict=True)
            ]
            served = Served(first.served.address, os.getpid(), 0, first.served.token)
            tls = self._settings.tls_certificate is not None
            announce(self._settings.ready_file, served, tls=tls, workers=[one.served for one in workers])
            self._log.info("serving", address=served.address, version=__version__, workers=len(workers))
            await self._stopping.wait()
            self._log.info("draining")
        except _StoppedError:
            pass  # told to stop before all served
        finally:
            self._stopping.set()
            await self._drain(tasks)
        self._log.info("stopped")
        amiss = [f"worker {number} ended with code {code}" for number, code in sorted(self._codes.items()) if code]
        if amiss:
            raise CannotStart(f"not all workers were drained: {', '.join(amiss)}")

    async def _start_rest(self) -> list[_Worker]:
        """Starts all but the first, at once; waits for all of them, whatever becomes of some."""
        starts = [asyncio.create_task(self._start(number)) for number in self._numbers()[1:]]
        await asyncio.wait(starts)
        return [one.result() for one in starts]

    def _numbers(self) -> range:
        return range(1, self._settings.workers + 1)

    async def _keep(self, number: int, worker: _Worker) -> None:
        """Waits for the end of a worker, starts another, and so on until told to stop."""
        loop = asyncio.get_running_loop()
        pause_s, started_at = PAUSE_FIRST_S, loop.time()
        while True:
            code = await worker.wait()
            if self._stopping.is_set():
                self._codes[number] = code
                return
            del self._running[number]
            self._log.error("worker_ended", worker=number, pid=worker.process.pid, exit_code=code)
            if loop.time() - started_at > STEADY_S:
                pause_s = PAUSE_FIRST_S
            while True:
                if await self._is_stopped_within(pause_s):
                    return
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
                try:
                    worker = await self._start(number)
                except _StoppedError:
                    return
                except (CannotStart, OSError, SettingWrong) as error:
                    self._log.error("worker_not_started", worker=number, error=str(error))
                else:
                    break
            started_at = loop.time()

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _start(self, number: int, *, dev: bool = False) -> _Worker:
        """Starts a worker and waits until it serves.

        Raises `CannotStart` or `SettingWrong`, as the worker says; `_StoppedError` if told to stop.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE, str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._rates),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        reader, control = await asyncio.open_connection(sock=ours, limit=LINE_MAX)
        control.write(line_of(Order(number=number, settings=self._settings_of(number), dev=dev, rates=self._rates)))
        told = asyncio.create_task(reader.readline())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({told, stopping}, timeout=START_MAX_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        said = _said(told) if told.done() else None
        if isinstance(said, Served) and not self._stopping.is_set():
            worker = self._running[number] = _Worker(process, control, said)
            self._log.info("worker_started", worker=number, pid=process.pid)
            return worker
        was_silent = not told.done()
        told.cancel()
        control.close()
        if was_silent:
            process.kill()
        code = await process.wait()  # One that serves already drains, because its supervisor seems gone.
        if self._stopping.is_set():
            raise _StoppedError
        if isinstance(said, Unable):
            raise SettingWrong(said.message) if said.is_misuse else CannotStart(said.message)
        reason = f"did not serve within {START_MAX_S:.0f} s" if was_silent else f"ended with code {code} at its start"
        raise CannotStart(f"worker {number} {reason}")

    def _settings_of(self, number: int) -> dict[str, str | int | float | bool]:
        """What is ordered of a worker. It announces nothing by itself; its metrics have a port of their own."""
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in self._given.items()
            if isinstance(value, str | int | float | bool | Path) and name != "ready_file"
        }
        settings |= {"port": self._port}
        if self._settings.metrics_port:
            settings |= {"metrics_port": self._settings.metrics_port + number - 1}
        return settings

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        """Has all workers drain at once; those that do not end in time are killed."""
        for worker in self._running.values():
            if worker.process.returncode is None:
                worker.process.terminate()
        if not tasks:
            tasks = [asyncio.create_task(self._note_end(*one)) for one in self._running.items()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.drain_s + STOP_MAX_S)
            for number, worker in self._running.items():
                if late and worker.process.returncode is None:
                    self._log.error("worker_killed", worker=number, pid=worker.process.pid)
                    worker.process.kill()
            await asyncio.gather(*tasks)

    async def _note_end(self, number: int, worker: _Worker) -> None:
        self._codes[number] = await worker.wait()


def _said(told: asyncio.Task[bytes]) -> Served | Unable | None:
    try:
        return from_worker(told.result())
    except ConnectionError:
        return None  # It died; its exit code says more.


class _StoppedError(Exception):
    """Told to stop while a worker was being started."""


async def _reserve(host: str, port: int) -> socket.socket:
    """Takes a port that nobody has, for workers to share; raises `CannotStart` where somebody has it.

    It is taken for ourselves first: to share it with another deployment's workers would mix their callers.
    """
    until = asyncio.get_running_loop().time() + PORT_WAIT_S
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror:
        raise CannotStart(f"{host} is no address of this machine") from None
    while True:
        try:
            with socket.socket(family, kind, protocol) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
                address = alone.getsockname()
            shared = socket.socket(family, kind, protocol)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                shared.setsockopt(socket.SOL_SOCKET, option, 1)
            shared.bind(address)
            return shared
        except OSError as error:
            if asyncio.get_running_loop().time() >= until:
                raise CannotStart(f"cannot bind {host}:{port}: {error.strerror}") from None
        await asyncio.sleep(0.05)
