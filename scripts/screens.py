"""Makes the pictures of docs/screens: what commands print, on a terminal, and the panels of the dashboard.

    python scripts/screens.py

Starts a development server over a temporary database, runs the commands on a terminal of its own, and draws what they
printed, letter for letter. A test runs them again and compares.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from demo import Server
from screens_drawing import PROMPT, Panel, dashboard, terminal

ROOT = Path(__file__).resolve().parent.parent
SCREENS = ROOT / "docs" / "screens"
DASHBOARD = ROOT / "deploy" / "grafana" / "points-grpc.json"

ROWS = 20_000
"""Of the import whose progress is shown: enough to know how much time is left."""

CUSTOMERS = "external_id,first_name,programs\nA-1,Asha,973\nA-2,Ravi,973\nA-3,Mira,973\n"
BALANCES = "external_id,balance,expires\nA-1,1200,2035-12-31\nA-1,300,never\n"
TRANSFERS = (("A-1", "A-2", 400), ("A-2", "A-3", 150), ("A-1", "A-3", 100))

TITLES = {
    "import-running": "points-grpc import points, half way: a bar with rate and time left",
    "import-done": "points-grpc import points, at its end: how many rows were accepted and refused, and the report",
    "wallet": "points-grpc wallet show: balances, lots in spending order, latest transactions",
    "trace": "points-grpc trace: a lot that was issued, and all lots that were drawn from it by transfers",
    "dashboard": "The panels of the Grafana dashboard with their metrics",
}
_ESCAPE = re.compile(r"\x1b\[[0-9?]*[A-Za-z]")
_LOT = re.compile(r"^ *(\d{15,19})  +\d", re.MULTILINE)
_SHARE = re.compile(r"(\d+)%")
_METRIC = re.compile(r"points_grpc_[a-z_]+?(?=_bucket\b|_sum\b|_count\b|\b)")


def main() -> int:
    """Writes all pictures."""
    with tempfile.TemporaryDirectory(prefix="points-screens-") as name:
        folder = Path(name)
        server = Server(folder)
        try:
            ready = server.ready()
            shown = capture(folder, address=ready["address"], token=ready["token"])
        finally:
            server.stop()
    SCREENS.mkdir(exist_ok=True)
    pictures = {name: terminal(TITLES[name], lines) for name, lines in shown.items()}
    for picture, text in {**pictures, "dashboard": draw_dashboard()}.items():
        (SCREENS / f"{picture}.svg").write_text(text, encoding="utf-8")
    return 0


def capture(folder: Path, *, address: str, token: str, rows: int = ROWS) -> dict[str, list[str]]:
    """What each screen shows, line by line, against a development server that nobody has used."""
    for name, text in {"customers": CUSTOMERS, "balances": BALANCES, "points": points_file(rows)}.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    environment = {**os.environ, "POINTS_GRPC_ADDRESS": address, "POINTS_GRPC_TOKEN": token}

    def run(command: str, *, expected: int = 0) -> list[str]:
        return on_a_terminal(command, folder, environment, expected=expected)

    run("points-grpc import customers customers.csv")
    run("points-grpc import balances balances.csv")
    for place, (giver, taker, points) in enumerate(TRANSFERS):
        run(f"points-grpc call TransferPoints {shlex.quote(transfer(giver, taker, points, f'screens-{place}'))}")
    show = "points-grpc wallet show A-1 --type EXTERNAL_ID"
    wallet = run(show)
    found = _LOT.search("\n".join(wallet))
    if found is None:
        raise SystemExit("screens: the wallet shows no lot")
    trace = f"points-grpc trace {found[1]}"
    load = "points-grpc import points points.csv"
    printed = run(load, expected=3)  # 3: finished, and rows were refused
    bars = [line for line in printed if line.startswith("import  [")]
    half_way = min(bars, key=lambda line: abs(share(line) - 50))
    summary = [line for line in printed if not line.startswith("import  [") and line]
    return {
        "import-running": [PROMPT + load, half_way],
        "import-done": [PROMPT + load, bars[-1], *summary],
        "wallet": [PROMPT + show, *wallet],
        "trace": [PROMPT + trace, *run(trace)],
    }


def points_file(rows: int) -> str:
    """An import of so many rows; the last one is refused."""
    return "customer_id,points,source\n" + "565039506,1,GOODWILL\n" * (rows - 1) + "99,1,GOODWILL\n"


def share(bar: str) -> int:
    """How far a bar is, in percent."""
    found = _SHARE.search(bar)
    return int(found[1]) if found else 0


def transfer(giver: str, taker: str, points: int, request_id: str) -> str:
    """A request in JSON."""
    parties = {"from": giver, "to": taker}
    named = {f"{side}_customer_identifier": {"type": "EXTERNAL_ID", "value": who} for side, who in parties.items()}
    return json.dumps({**named, "points_to_be_transferred": points, "program_id": 973, "request_id": request_id})


def read_to_end(terminal: int) -> bytes:
    """All that is written to the other end of a pseudo-terminal until that is closed; closes this end."""
    shown = b""
    while True:
        try:
            got = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            got = b""
        if not got:
            break
        shown += got
    os.close(terminal)
    return shown


def on_a_terminal(command: str, folder: Path, environment: Mapping[str, str], *, expected: int) -> list[str]:
    """What a command shows where its output is a terminal: its lines, each state of a line that is drawn anew."""
    arguments = shlex.split(command.replace("points-grpc", "points_grpc", 1))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=theirs, stderr=theirs, cwd=folder, env=dict(environment)
    )
    os.close(theirs)
    text = read_to_end(ours).decode()
    if process.wait(timeout=60) != expected:
        raise SystemExit(f"screens: {command}: {text}")
    lines = _ESCAPE.sub("", text).replace("\r\n", "\n").rstrip("\n").split("\n")
    return [state.rstrip() for line in lines for state in re.split(r"\r+", line) if state or not line]


def draw_dashboard() -> str:
    """The panels of the dashboard file."""
    panels = []
    for one in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        queries = " ".join(target["expr"] for target in one.get("targets", ()))
        place = one["gridPos"]
        metrics = tuple(dict.fromkeys(_METRIC.findall(queries)))
        is_row = one["type"] == "row"
        panels.append(Panel(place["x"], place["y"], place["w"], place["h"], one["title"], metrics, is_row))
    return dashboard(TITLES["dashboard"], panels)


if __name__ == "__main__":
    sys.exit(main())
