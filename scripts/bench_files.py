"""How fast an import and an export are, and how much memory they and the server take on the way.

    python scripts/bench_files.py --rows 50000

Starts `points-grpc serve --dev` over a temporary database, imports so many rows of points for 1,000 customers, and
exports the lots that they made. Memory is the resident set as /proc tells it, of the command, and of the server with
its writer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

CUSTOMERS = 1000
FIRST_CUSTOMER = 1_000_000
START_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.1


@dataclass
class Watched:
    """The memory of processes while a command runs, in MB."""

    command: list[int] = field(default_factory=list)
    server: list[int] = field(default_factory=list)

    def told(self) -> str:
        """Of a tenth of the way in, half way, and the end."""

        def three(found: list[int]) -> str:
            if not found:
                return "-"
            return ", ".join(str(found[min(len(found) - 1, len(found) * part // 10)]) for part in (1, 5, 10))

        return f"MB at a tenth, half way, at the end: command {three(self.command)}; server {three(self.server)}"


def resident_mb(pid: int) -> int:
    """The resident set of a process; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(one) for one in task.read_text().split()]
    return found


def run(server: subprocess.Popen[bytes], folder: Path, environment: dict[str, str], *arguments: str) -> dict[str, int]:
    """Runs a command to its end; prints its summary and what memory was taken."""
    watched = Watched()
    process = subprocess.Popen(
        [sys.executable, "-m", "points_grpc", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
    )
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_EVERY_S):
            if own := resident_mb(process.pid):
                watched.command.append(own)
                watched.server.append(sum(map(resident_mb, family(server.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{arguments} ended with {process.returncode}: {output.decode()}")
    done: dict[str, int] = json.loads(output)
    print(f"{' '.join(arguments)}: {done['rows']:,} rows in {done['seconds']} s, {done['rows_per_s']:,} rows/s")
    print(f"  {watched.told()}", flush=True)
    return done


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    rows = parser.parse_args().rows
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="points-files-") as name:
        folder = Path(name)
        with (folder / "customers.csv").open("w") as file:
            file.write("customer_id,programs\n")
            file.writelines(f"{FIRST_CUSTOMER + one},973\n" for one in range(CUSTOMERS))
        with (folder / "points.csv").open("w") as file:
            file.write("customer_id,points,source,expires\n")
            file.writelines(
                f"{FIRST_CUSTOMER + one % CUSTOMERS},{1 + one % 997},GOODWILL,12 months\n" for one in range(rows)
            )
        ready = folder / "ready.json"
        command = [sys.executable, "-m", "points_grpc", "serve", "--dev", "--port", "0", "--ready-file", str(ready)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*command, "--database", f"sqlite:///{folder / 'points.db'}"], stdout=log, stderr=log, cwd=folder
            )
        try:
            until = time.monotonic() + START_TIMEOUT_S
            while not ready.exists():
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(0.1)
            told = json.loads(ready.read_text())
            environment = {
                **os.environ,
                "POINTS_GRPC_ADDRESS": told["address"],
                "POINTS_GRPC_TOKEN": told["token"],
            }
            run(server, folder, environment, "import", "customers", "customers.csv")
            run(server, folder, environment, "import", "points", "points.csv")
            run(server, folder, environment, "export", "lots", "lots.csv")
        finally:
            server.terminate()
            server.wait(timeout=60)


if __name__ == "__main__":
    main()
