"""The bench runs, on either engine and in its smallest form, and what it shows are the figures that it found."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SVG = "{http://www.w3.org/2000/svg}"
RUN_S = 540


def run(script: str, folder: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """Runs a script of the bench; its figures, and the page that it wrote."""
    found, written = folder / "found.json", folder / "docs"
    command = [sys.executable, str(ROOT / "scripts" / script), "--extent", "tiny", "--callers", "python"]
    command += ["--json", str(found), "--write", str(written), *flags]
    with tempfile.TemporaryDirectory(prefix="points-bench-test-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL does not run as root, and has to find its files.
        command += ["--directory", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)

    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(found.read_text()), (written / "performance.md").read_text()


def shown(folder: Path, name: str) -> dict[str, str]:
    """The figures of a picture, by what they are of; it has to be well formed, and to say in words what it shows."""
    root = ElementTree.fromstring((folder / "docs" / "performance" / f"{name}.svg").read_text())
    figures = {one.attrib["data-of"]: one.text or "" for one in root.iter(f"{SVG}text") if "data-of" in one.attrib}
    title, told = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc") or ""

    assert root.attrib["role"] == "img"
    assert title
    assert [] == [text for text in figures.values() if text not in told]
    return figures


def rounded(figure: float) -> str:
    """A figure as people are shown it."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


@pytest.mark.timeout(RUN_S + 60)
@pytest.mark.parametrize(
    "engine",
    [pytest.param("sqlite", marks=pytest.mark.ci), pytest.param("postgresql", marks=pytest.mark.long)],
)
def test_a_run_shows_what_it_found_and_settles_the_journal(engine: str, tmp_path: Path) -> None:
    """One run measures every operation, settles the journal, and its table and plots show the figures of its JSON."""
    found, page = run("bench.py", tmp_path, "--database", engine)
    parts = ("engine", "server", "operation", "items", "callers")
    rows = {"/".join(str(one[part]) for part in parts): one for one in found["rows"]}
    table = {name: one for name, one in rows.items() if one["operation"] not in {"one lot", "many lots"}}
    cpu = {name: one for name, one in table.items() if one["operation"] in {"no-op", "transfer", "batch"}}

    assert found["holds"]
    assert {"no-op", "check", "transfer", "redeem", "batch", "one lot", "many lots"} == {
        one["operation"] for one in rows.values()
    }
    assert {name: rounded(one["per_s"]) for name, one in table.items()} == shown(tmp_path, "throughput")
    assert {name: f"{rounded(one['p50_ms'])} to {rounded(one['p99_ms'])}" for name, one in table.items()} == shown(
        tmp_path, "latency"
    )
    assert cpu.keys() == shown(tmp_path, "cpu").keys()
    assert [100, 200] == sorted(int(name.split("/")[1]) for name in shown(tmp_path, "growth"))
    assert [] == [name for name, one in rows.items() if f"| {rounded(one['per_s'])} |" not in page]


@pytest.mark.ci
@pytest.mark.timeout(RUN_S + 60)
def test_the_steps_of_a_transfer_are_timed_and_drawn(tmp_path: Path) -> None:
    """Each step of a transfer takes some time, alone and in a batch, and the picture shows the figures of the JSON."""
    found, page = run("bench_steps.py", tmp_path)
    largest = max(found["steps"], key=int)
    drawn = shown(tmp_path, "steps")

    assert ["1", "32", "256"] == list(found["steps"])
    assert [] == [step for by_step in found["steps"].values() for step, one in by_step.items() if one["median"] <= 0]
    assert {f"{step}/{largest}": rounded(one["lowest"]) for step, one in found["steps"][largest].items()} == {
        name: text for name, text in drawn.items() if not name.startswith(("all/", "saved/"))
    }
    assert {"identity", "log", "metrics", "chain of the journal"} == found["saved_us"].keys()
    assert [] == [step for step in found["steps"][largest] if f"| {step} |" not in page]
