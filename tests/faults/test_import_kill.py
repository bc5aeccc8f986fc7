"""`kill -9` of an import, again and again, and of its server once: every row is carried out, and carried out once.

Judged by the database alone: each row issues an amount of its own kind, so that a row that is missing or there twice
shows in the sums, and the number of issues in the journal is the number of rows.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import test_kill

from points_grpc.cli.import_progress import load
from points_grpc.client import PointsClient
from points_grpc.v1 import program_service_pb2
from running import RunningServer

CUSTOMERS = 500


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_three_kills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """20,000 rows, the import killed three times and the server once."""
    record_property("summary", kill_and_judge(tmp_path, rows=20_000, kills=3))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_ten_kills(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """1,000,000 rows, the import killed ten times and the server once.

    POINTS_IMPORT_ROWS and POINTS_IMPORT_KILLS ask for other numbers.
    """
    rows = int(os.environ.get("POINTS_IMPORT_ROWS", "1000000"))
    record_property(
        "summary", kill_and_judge(tmp_path, rows=rows, kills=int(os.environ.get("POINTS_IMPORT_KILLS", "10")))
    )


def kill_and_judge(folder: Path, *, rows: int, kills: int) -> str:
    """Imports under kills; how fast the runs were, and how large."""
    seed = int(os.environ.get("POINTS_SEED", random.randrange(10**9)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    server = RunningServer(folder)
    server.port = test_kill.steady_port(chance)
    server.address = f"127.0.0.1:{server.port}"
    token = server.key(server.organisation())
    server.start()
    try:
        with PointsClient(server.address, token) as points:
            points.create_program(program_service_pb2.CreateProgramRequest(program_id=973, name="Shop"))
        write_files(folder, rows)
        customers = start(server, token, "customers", "c.csv")
        customers.communicate(timeout=300)

        assert 0 == customers.returncode
        kill_at = sorted(chance.sample(range(rows // 20, rows * 9 // 10), kills))
        for number, row in enumerate(kill_at):
            process = start(server, token, "points", "p.csv")
            wait_until_beyond(folder, process, row)
            if number == kills // 2:
                server.kill()
                server.start()
                wait_until_beyond(folder, process, row + 1)
            process.kill()
            process.communicate(timeout=60)
        last = start(server, token, "points", "p.csv")
        output, _ = last.communicate(timeout=3600)
        done = json.loads(output)

        assert 0 == last.returncode
        assert (rows, rows, 0) == (done["rows"], done["accepted"], done["refused"])
        assert (rows, sum(map(amount, range(rows)))) == issued(server.path)
        assert (rows, rows) == again_from_the_start(server, token, folder)
        assert (rows, sum(map(amount, range(rows)))) == issued(server.path)
    finally:
        server.close()
    return f"import of {rows:,} rows, {len(kill_at)} kills: {done['rows_per_s']:,} rows/s in the last run"


def write_files(folder: Path, rows: int) -> None:
    """Customers, and points for them."""
    with (folder / "c.csv").open("w") as file:
        file.write("customer_id,programs\n")
        file.writelines(f"{1000 + one},973\n" for one in range(CUSTOMERS))
    with (folder / "p.csv").open("w") as file:
        file.write("customer_id,points,source,expires\n")
        file.writelines(f"{1000 + row % CUSTOMERS},{amount(row)},GOODWILL,12 months\n" for row in range(rows))


def amount(row: int) -> int:
    """What a row issues: neighbours differ."""
    return 1 + row * 7919 % 997


def start(server: RunningServer, token: str, kind: str, file: str) -> subprocess.Popen[bytes]:
    """Starts an import."""
    command = [sys.executable, "-m", "points_grpc", "import", kind, file, "--json"]
    environment = {**os.environ, "POINTS_GRPC_ADDRESS": server.address, "POINTS_GRPC_TOKEN": token}
    with (server.folder / "import.log").open("ab") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=server.folder, env=environment)


def wait_until_beyond(folder: Path, process: subprocess.Popen[bytes], row: int) -> None:
    """Waits until the saved progress is beyond a row, or the import is over."""
    until = time.monotonic() + 600
    while process.poll() is None:
        progress = load(folder / "p.csv.progress.json")
        if progress is not None and progress.place.row > row:
            return
        assert time.monotonic() < until
        time.sleep(0.01)


def again_from_the_start(server: RunningServer, token: str, folder: Path) -> tuple[int, int]:
    """Runs the import without its progress: all rows are replays. How many were accepted and replayed."""
    (folder / "p.csv.progress.json").unlink()
    process = start(server, token, "points", "p.csv")
    output, _ = process.communicate(timeout=3600)
    done = json.loads(output)
    return done["accepted"], done["replayed"]


def issued(path: Path) -> tuple[int, int]:
    """How many lots were issued to the imported customers, and their points."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = database.execute(
            "SELECT count(*), sum(points) FROM lots WHERE customer_id BETWEEN 1000 AND ?", (1000 + CUSTOMERS - 1,)
        ).fetchone()
    finally:
        database.close()
    return int(found[0]), int(found[1])
