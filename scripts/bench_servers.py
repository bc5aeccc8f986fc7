"""The servers under load: child processes of the bench, started, watched and ended here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
LOG_LINES_SHOWN = 20


class ServerFailedError(Exception):
    """A server did not start, or did not stay."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server says of itself when it serves. `writer_pid` is 0 where no process of its own writes."""

    address: str
    pid: int
    token: str
    writer_pid: int = 0
    workers: tuple[tuple[int, int], ...] = ()
    """The process and the writer of each worker, where there are several."""

    @property
    def servers(self) -> tuple[int, ...]:
        """The processes that serve."""
        return tuple(server for server, _ in self.workers) or (self.pid,)

    @property
    def writers(self) -> tuple[int, ...]:
        """The processes that write."""
        return tuple(writer for _, writer in self.workers) or ((self.writer_pid,) if self.writer_pid else ())


class Server:
    """A child that serves gRPC and writes a ready file; to be used with `with`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        token: str = "",
        database_cpu_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Starts nothing yet. The ready file and the log lie in `folder`.

        `token`: what callers show, where the server does not say it; `database_cpu_s`: the CPU time of a database that
        is a process of its own.
        """
        self.name = name
        self.database_cpu_s = database_cpu_s
        self._token = token
        self._command = [*command, "--ready-file", str(folder / f"{name}.ready.json")]
        self._ready_file = folder / f"{name}.ready.json"
        self._log_file = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.ready = Ready("", 0, "")

    def __enter__(self) -> Server:
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
            )
        try:
            self.ready = self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def cpu_s(self) -> float | None:
        """CPU time that it used so far, without its writer; None where the system does not say (no /proc)."""
        return _sum(self.ready.servers)

    def writer_cpu_s(self) -> float | None:
        """CPU time that its writer used so far."""
        return _sum(self.ready.writers) if self.ready.writers else None

    def memory_mib(self) -> float | None:
        """Memory in use (resident), its writer's included; None where the system does not say."""
        pids = (*self.ready.servers, *self.ready.writers)
        try:
            pages = sum(int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in pids)
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log_tail(self) -> str:
        """The last lines of the log, for people."""
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_LINES_SHOWN:])

    def require_alive(self) -> None:
        """Raises if the server has ended."""
        if self._process is None or self._process.poll() is not None:
            raise ServerFailedError(f"{self.name} ended early:\n{self.log_tail()}")

    def stop(self) -> None:
        """Asks the server to stop as an operator would, and waits; kills it if it does not."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait(self) -> Ready:
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            self.require_alive()
            if self._ready_file.exists():
                said = json.loads(self._ready_file.read_text(encoding="utf-8"))
                workers = tuple((one["pid"], one["writer_pid"]) for one in said.get("workers", ()))
                token = said.get("token", self._token)
                return Ready(said["address"], said["pid"], token, said.get("writer_pid", 0), workers)
            time.sleep(0.02)
        raise ServerFailedError(f"{self.name} did not serve within {START_TIMEOUT_S:.0f} s:\n{self.log_tail()}")


def noop(folder: Path) -> Server:
    """The server that does nothing."""
    return Server("no-op", [sys.executable, str(ROOT / "scripts" / "bench_noop.py")], folder=folder)


def service(folder: Path, *, database: Path, flags: Sequence[str] = ()) -> Server:
    """The real service over SQLite, with everything on that is on by default."""
    command = [sys.executable, "-m", "points_grpc", "serve", "--dev", "--port", "0"]
    return Server("service", [*command, "--database", f"sqlite:///{database}", *flags], folder=folder)


def served(
    folder: Path,
    name: str,
    url: str,
    flags: Sequence[str],
    *,
    database_cpu_s: Callable[[], float | None],
    token: str = "",
) -> Server:
    """The real service over a database server."""
    command = [sys.executable, "-m", "points_grpc", "serve", "--port", "0", "--database", url, *flags]
    return Server(name, command, folder=folder, token=token, database_cpu_s=database_cpu_s)


def environment() -> Mapping[str, str]:
    """The environment of children: ours, and the source tree first, installed or not."""
    path = os.pathsep.join(part for part in (str(ROOT / "src"), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}


def _sum(pids: Sequence[int]) -> float | None:
    found = [cpu_seconds(pid) for pid in pids]
    return None if None in found else sum(one for one in found if one is not None)


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
